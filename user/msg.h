/* SPDX-License-Identifier: GPL-2.0-or-later */
/* msg.h - what the user reads: one line a message, "nat64: OBJECT VALUE: REASON" */
#ifndef NAT64_MSG_H
#define NAT64_MSG_H

#include <stdbool.h>

/* Set by -v: msg_info() speaks. */
extern bool msg_verbose;

/* Why a value is not taken; filled in by parsers and checks, printed by those who know what the value belongs to. */
struct reason {
	char text[256];
};

/* Fills in *why. Returns err, so that `return reason(why, -EINVAL, …)` reads as what it is. */
int reason(struct reason *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* One line on stderr after "nat64: ". Returns err (a negative errno), as above. */
int msg_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One line on stderr after "nat64: warning: ". */
void msg_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One line on stderr after "nat64: ": not an error, but nobody would forgive us for not saying it. */
void msg_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* From now on, warnings, notes and failures go there instead of to stderr, and what -v would say nowhere; NULL: no more. */
void msg_catch(void (*to)(bool failed, const char *text, void *data), void *data);

/* One line on stdout, with -v only. */
void msg_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
