/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stream.h - the mappings of a translator as a stream of lines: --monitor --json --snapshot
 *
 * A line is a JSON object with .seq, which counts the lines from 1 on, and .event. The first one says of which translator it
 * is. Then come all dynamic mappings, and each change. The two overlap, and nothing is missed between them: a line about an
 * address is always read from the table when it is printed, whether an event or the walk of the table caused it; and any later
 * change is another event. So the last line about an address is right, in whatever order events arrive. When events are
 * lost, all mappings are printed again. */
#ifndef NAT64_STREAM_H
#define NAT64_STREAM_H

#include <stdbool.h>
#include <stdio.h>

#include "table.h"
#include "translator.h"

#define STREAM_FORMAT  "nat64_stream" /* member of the first line: the version of the rest */
#define STREAM_VERSION 1

/* Kinds of lines besides enum nat64_event_kind: X(enumerator, name) */
/* clang-format off */
#define STREAM_LINES(X) \
	X(BEGIN,	"stream")	/* of which translator it is, and its options; again when these have changed */ \
	X(SNAPSHOT,	"snapshot")	/* all mappings come now, among the changes, */ \
	X(MAPPING,	"mapping")	/* each of them, */ \
	X(COMPLETE,	"complete")	/* and these were all */ \
	X(REFRESH,	"refresh")	/* the host has sent something since the last line about it */ \
	X(LOST,		"lost")		/* changes have been missed, and a snapshot comes */ \
	X(UNLOADED,	"unloaded")
/* clang-format on */

enum stream_line {
	STREAM_EVENTS = NAT64_EVENT_MAX - 1, /* smaller ones are enum nat64_event_kind */
#define X(id, name) STREAM_##id,
	STREAM_LINES(X)
#undef X
	STREAM_LINES_MAX
};

const char *stream_line_name(int line);

struct stream {
	FILE *to;
	const struct translator *t;
	__u32 period; /* of refreshes, seconds */
	__u64 seq;
	bool walking;	   /* a snapshot is being printed, */
	bool again;	   /* and another one has to follow */
	struct walk walk;  /* of the snapshot */
	__u64 n;	   /* mappings in it so far */
	struct walk round; /* looks for hosts that have sent something, */
	__u64 *looked;	   /* and this is when it has been at each piece; CLOCK_BOOTTIME, nanoseconds */
	__u64 due;	   /* when it looks at the next one */
};

/* Begins to print the mappings of a translator, to which somebody listens already. 0 or -ENOMEM; stream_free() in any case. */
int stream_begin(struct stream *s, FILE *to, const struct translator *t, __u32 period);
void stream_free(struct stream *s);

/* Prints an event, unless it is not true any more. */
void stream_event(struct stream *s, const struct nat64_event *e, const char *why);

/* So many events were lost. */
void stream_lost(struct stream *s, __u64 n);
void stream_unloaded(struct stream *s);

/* Has it something to do, now? */
bool stream_is_due(const struct stream *s);

/* Does some of it. 0 or a negative errno. */
int stream_step(struct stream *s);

#endif
