/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flows.h - which translated packets are not answered: their side of the translator sees nothing of what a firewall drops
 * behind it, or sends another way */
#ifndef NAT64_FLOWS_H
#define NAT64_FLOWS_H

#include <stdbool.h>
#include <stddef.h>

#include "../nat64.h"

struct flows;

/* NULL: no memory. free() ends it. */
struct flows *flows_new(void);

/* Takes note of a packet that has come: it asks for an answer, if it is `wanted`, or may be one. */
void flows_note(struct flows *f, const struct nat64_trace *t, bool wanted);

/* Records were lost, and answers may have been among them: none is expected any more. */
void flows_forget(struct flows *f);

/* The next packet that came before a time and is not answered, which is said once; *i is 0 at first. NULL: no more. */
const struct nat64_trace *flows_unanswered(struct flows *f, __u64 before, size_t *i);

#endif
