// SPDX-License-Identifier: GPL-2.0-or-later
/* msg.c - messages to the user */
#include <stdarg.h>
#include <stdio.h>

#include "msg.h"

bool msg_verbose;

static void line(FILE *to, const char *prefix, const char *fmt, va_list args)
{
	fputs(prefix, to);
	vfprintf(to, fmt, args);
	fputc('\n', to);
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
	line(stderr, "nat64: ", fmt, args);
	va_end(args);
	return err;
}

void msg_warn(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line(stderr, "nat64: warning: ", fmt, args);
	va_end(args);
}

void msg_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line(stderr, "nat64: ", fmt, args);
	va_end(args);
}

void msg_info(const char *fmt, ...)
{
	va_list args;

	if (!msg_verbose)
		return;
	va_start(args, fmt);
	line(stdout, "", fmt, args);
	va_end(args);
}
