/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flows.h - which translated packets are not answered: the only sign, seen from the translator, that a firewall after it drops
 * packets, or that answers are routed elsewhere */
#ifndef NAT64_FLOWS_H
#define NAT64_FLOWS_H

#include <stdbool.h>
#include <stddef.h>

#include "../nat64.h"

struct flows;

/* NULL: no memory. free() ends it. */
struct flows *flows_new(void);

/* Looks at a packet: it may answer an earlier one, and if it is `wanted`, it may be one that must be answered itself. */
void flows_note(struct flows *f, const struct nat64_trace *t, bool wanted);

/* Records were lost, and answers may have been among them: none is expected any more. */
void flows_forget(struct flows *f);

/* The next packet that came before a time and has had no answer; each is returned once. *i is 0 at first. NULL: no more. */
const struct nat64_trace *flows_unanswered(struct flows *f, __u64 before, size_t *i);

#endif
