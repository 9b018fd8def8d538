/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tell.h - reports mappings that a command has changed to listeners (--monitor)
 *
 * Only a BPF program can write to the ring buffer: so this runs one that does nothing else. */
#ifndef NAT64_TELL_H
#define NAT64_TELL_H

#include <stddef.h>

#include "loaded.h"

struct tells {
	struct told *list;
	size_t n;
};

/* Is anybody listening? */
bool tell_wanted(const struct loaded *maps);

/* Adds an event. Why: the reason, a string that stays, or "". Out of memory it is forgotten. */
void tells_add(struct tells *t, enum nat64_event_kind kind, __be32 v4, const union nat64_v6 *v6, bool is_static,
	       const char *why);

void tells_free(struct tells *t);

#define TELL_PATIENCE 1000 /* milliseconds for the readers of rings that are full, in all */

/* Tells of them all, in order, and frees the list. What does not get through is counted as lost. */
void tells_send(struct tells *t, const struct loaded *maps, int patience);

#endif
