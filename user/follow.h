/* SPDX-License-Identifier: GPL-2.0-or-later */
/* follow.h - follows what happens in translators that are loaded: --monitor and --trace */
#ifndef NAT64_FOLLOW_H
#define NAT64_FOLLOW_H

#include "link.h"
#include "options.h"
#include "out.h"

/* Prints what happens on an interface, or on all (NULL) that have a translator, until a signal or the reader of stdout ends
 * it: 0. Or a negative errno, after having said why: for instance, when nothing is loaded any more. */
int follow(struct nl *nl, const struct link *link, const struct options *o);

/* A time of CLOCK_BOOTTIME by the wall clock: ISO 8601, with microseconds */
struct time_text {
	char s[48];
};

struct time_text time_text(__u64 boot);

/* The beginning of a line or object: time and interface. */
void follow_head(struct out *o, __u64 time, const char *interface);

/* One record as a line: monitor.c and trace.c. False: it is not to be printed. */
void monitor_print(struct out *o, const char *interface, const struct nat64_event *e, const char *why);
bool trace_is_wanted(const struct nat64_trace *t, const struct filter *f);
void trace_print_unanswered(struct out *o, const char *interface, const struct nat64_trace *t, unsigned int seconds);
void trace_print(struct out *o, const char *interface, const struct nat64_trace *t);

#endif
