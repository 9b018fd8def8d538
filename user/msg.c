// SPDX-License-Identifier: GPL-2.0-or-later
/* msg.c - messages to the user */
#include <stdarg.h>
#include <stdio.h>

#include "msg.h"

bool msg_verbose;

static void (*catcher)(bool failed, const char *text, void *data);
static void *catcher_data;

void msg_catch(void (*to)(bool failed, const char *text, void *data), void *data)
{
	catcher = to;
	catcher_data = data;
}

/* One line on stderr, or to who catches it. */
static void line(bool failed, const char *prefix, const char *fmt, va_list args)
{
	char text[512];

	if (catcher) {
		vsnprintf(text, sizeof(text), fmt, args);
		catcher(failed, text, catcher_data);
		return;
	}
	fputs(prefix, stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
}

int reason(struct reason *why, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, args);
	va_end(args);
	return err;
}

int msg_fail(int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line(true, "nat64: ", fmt, args);
	va_end(args);
	return err;
}

void msg_warn(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line(false, "nat64: warning: ", fmt, args);
	va_end(args);
}

void msg_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line(false, "nat64: ", fmt, args);
	va_end(args);
}

void msg_info(const char *fmt, ...)
{
	va_list args;

	if (!msg_verbose || catcher)
		return;
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}
