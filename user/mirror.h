/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mirror.h - keeps the mappings of a translator the same as those of another gateway, of which a stream of lines tells */
#ifndef NAT64_USER_MIRROR_H
#define NAT64_USER_MIRROR_H

#include "link.h"
#include "netlink.h"
#include "options.h"

/* Reads what --monitor --json --snapshot prints elsewhere from o->mirror, "-" for stdin, until that ends or a signal comes. 0,
 * or a negative errno after having said why: a stream that is none, is of another translator, or ends too early. */
int mirror(struct nl *nl, const struct link *link, const struct options *o);

#endif
