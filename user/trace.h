/* SPDX-License-Identifier: GPL-2.0-or-later */
/* trace.h - what becomes of packets, a line each */
#ifndef NAT64_USER_TRACE_H
#define NAT64_USER_TRACE_H

#include <stdbool.h>

#include "filter.h"
#include "out.h"

/* Does the filter want it? The programs ask a coarser one, by what they can tell at little cost. */
bool trace_is_wanted(const struct nat64_trace *t, const struct filter *f);
void trace_print(struct out *o, const char *interface, const struct nat64_trace *t);

/* That a packet was translated so many seconds ago, and is not answered */
void trace_print_unanswered(struct out *o, const char *interface, const struct nat64_trace *t, unsigned int seconds);

#endif
