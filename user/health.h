/* SPDX-License-Identifier: GPL-2.0-or-later */
/* health.h - what keeps a translator from working: faults in its surroundings, which its programs cannot see */
#ifndef NAT64_HEALTH_H
#define NAT64_HEALTH_H

#include <stddef.h>

#include "static.h"
#include "translator.h"

#define PROBLEMS_MAX 16 /* there are not so many kinds */

struct problems {
	struct reason list[PROBLEMS_MAX];
	size_t n;
};

/* Adds one: half a sentence about the interface, and in brackets what helps. */
void problem(struct problems *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Forwarding that is switched off where packets come in: on the interface, and on those that IPv4 comes in by. */
void health_forwarding(struct nl *nl, const struct link *link, struct problems *p);

/* All that can be wrong with a translator whose programs are attached; statics: those outside the pool. 0, or a negative
 * errno after having said why it cannot be known. */
int health(struct nl *nl, const struct translator *t, const struct statics *statics, struct problems *p);

#endif
