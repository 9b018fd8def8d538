/* SPDX-License-Identifier: GPL-2.0-or-later */
/* out.h - one printer for text and JSON: the same calls make either
 *
 * A value has a key, for JSON, and a format, for text; NULL leaves it out of the one or the other. JSON is one document
 * on one line, built in memory, but for a stream: its objects are written as they are closed. */
#ifndef NAT64_USER_OUT_H
#define NAT64_USER_OUT_H

#include <jansson.h>
#include <stdbool.h>
#include <linux/types.h>
#include <stdio.h>

#define OUT_DEPTH 8

struct out {
	FILE *to;
	bool json;
	json_t *open[OUT_DEPTH]; /* objects and arrays that are not closed yet; the first is the document */
	int depth;
	int stream;    /* depth of the stream, or 0 */
	bool streamed; /* something is in it */
	bool failed;   /* out of memory */
};

/* Starts a document. out_end() in any case: it writes what is not written yet, and returns 0 or a negative errno. */
void out_begin(struct out *o, FILE *to, bool json);
int out_end(struct out *o);

/* Whether all of what was ever written there is written: 0 or a negative errno. */
int out_error(FILE *to);

/* How a line of --monitor and --trace begins: the time, of CLOCK_BOOTTIME, and the interface. */
void out_head(struct out *o, __u64 time, const char *interface);

/* Of JSON alone. Inside an array, key is NULL. */
void out_object(struct out *o, const char *key);
void out_array(struct out *o, const char *key);
void out_close(struct out *o);

/* The rest of the document is this array: what there is so far is written, and so is each object of it once closed. */
void out_stream(struct out *o, const char *key);

/* Of text alone. */
void out_text(struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Of both. fmt has one conversion: %s, %llu. For JSON, bytes that are not UTF-8 become '?'. */
void out_string(struct out *o, const char *key, const char *fmt, const char *value);
void out_uint(struct out *o, const char *key, const char *fmt, unsigned long long value);

/* Of JSON alone. */
void out_bool(struct out *o, const char *key, bool value);
void out_null(struct out *o, const char *key);

#endif
