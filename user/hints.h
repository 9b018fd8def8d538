/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hints.h - warns of options that work, but are probably not what was meant */
#ifndef NAT64_HINTS_H
#define NAT64_HINTS_H

#include "link.h"
#include "options.h"

/* Warns, a line each, of what looks like a mistake in the options for a translator that can be loaded. */
void hints(struct nl *nl, const struct link *link, const struct options *o);

/* Of those, what is about an interface that IPv6 hosts are behind, a port. */
void hints_port(struct nl *nl, const struct link *link, const struct options *o);

#endif
