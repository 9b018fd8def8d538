// SPDX-License-Identifier: GPL-2.0-or-later
/* out.c - one printer for text and JSON */
#include <errno.h>
#include <stdarg.h>

#include "clock.h"
#include "out.h"

void out_begin(struct out *o, FILE *to, bool json)
{
	*o = (struct out){ .to = to, .json = json };
	if (json)
		out_object(o, NULL);
}

static json_t *innermost(const struct out *o)
{
	return o->depth ? o->open[o->depth - 1] : NULL;
}

/* Puts a value where it belongs, and takes over the reference. */
static void put(struct out *o, const char *key, json_t *value)
{
	json_t *in = innermost(o);

	if (!value || (json_is_array(in) ? json_array_append_new(in, value) : json_object_set_new(in, key, value)))
		o->failed = true;
}

static void push(struct out *o, const char *key, json_t *value)
{
	if (!o->json)
		return;
	/* Out of memory, NULL is pushed, and fails what is put into it. */
	if (!value)
		o->failed = true;
	else if (o->depth && o->depth != o->stream)
		put(o, key, json_incref(value));
	if (o->depth < OUT_DEPTH)
		o->open[o->depth++] = value;
}

void out_object(struct out *o, const char *key)
{
	push(o, key, o->json ? json_object() : NULL);
}

void out_array(struct out *o, const char *key)
{
	push(o, key, o->json ? json_array() : NULL);
}

/* Writes an object or array; embedded, without its brackets. */
static void dump(struct out *o, const json_t *value, size_t embed)
{
	if (!o->failed && json_dumpf(value, o->to, JSON_COMPACT | embed))
		o->failed = !ferror(o->to);
}

void out_close(struct out *o)
{
	json_t *closed;

	if (!o->json)
		return;
	closed = o->open[--o->depth];
	if (o->stream && o->depth == o->stream) {
		fputs(o->streamed ? ",\n" : "\n", o->to);
		dump(o, closed, 0);
		o->streamed = true;
	}
	json_decref(closed);
}

void out_stream(struct out *o, const char *key)
{
	if (!o->json)
		return;
	fputc('{', o->to);
	dump(o, o->open[0], JSON_EMBED);
	fprintf(o->to, "%s\"%s\":[", json_object_size(o->open[0]) ? "," : "", key);
	o->stream = o->depth;
}

int out_end(struct out *o)
{
	if (o->json && o->stream)
		fputs("\n]}\n", o->to);
	else if (o->json && !o->failed) {
		dump(o, o->open[0], 0);
		fputc('\n', o->to);
	}
	while (o->depth)
		json_decref(o->open[--o->depth]);
	if (o->failed)
		return -ENOMEM;
	return out_error(o->to);
}

int out_error(FILE *to)
{
	if (!fflush(to) && !ferror(to))
		return 0;
	/* errno may be of something later by now. What could not be written once cannot be written again. */
	clearerr(to);
	errno = EIO;
	fputc('\n', to);
	fflush(to);
	return -errno;
}

void out_text(struct out *o, const char *fmt, ...)
{
	va_list args;

	if (o->json)
		return;
	va_start(args, fmt);
	vfprintf(o->to, fmt, args);
	va_end(args);
}

/* A string of which jansson would not like the bytes: names of interfaces may be anything. */
static json_t *repaired(const char *value)
{
	char text[256];
	size_t n;

	for (n = 0; n < sizeof(text) - 1 && value[n]; n++)
		text[n] = (unsigned char)value[n] < 0x80 ? value[n] : '?';
	text[n] = 0;
	return json_string(text);
}

/* Does a value go into the JSON? */
static bool is_wanted(const struct out *o, const char *key)
{
	return o->json && (key || json_is_array(innermost(o)));
}

void out_string(struct out *o, const char *key, const char *fmt, const char *value)
{
	if (is_wanted(o, key)) {
		json_t *string = json_string(value);

		put(o, key, string ? string : repaired(value));
	} else if (!o->json && fmt) {
		fprintf(o->to, fmt, value);
	}
}

void out_uint(struct out *o, const char *key, const char *fmt, unsigned long long value)
{
	if (is_wanted(o, key))
		put(o, key, json_integer((json_int_t)value));
	else if (!o->json && fmt)
		fprintf(o->to, fmt, value);
}

void out_bool(struct out *o, const char *key, bool value)
{
	if (o->json)
		put(o, key, json_boolean(value));
}

void out_null(struct out *o, const char *key)
{
	if (o->json)
		put(o, key, json_null());
}

void out_head(struct out *o, __u64 time, const char *interface)
{
	out_string(o, "time", "%s ", time_text(time).s);
	out_string(o, "interface", "%s ", interface);
}
