/* SPDX-License-Identifier: GPL-2.0-or-later */
/* follow.h - follows what happens in translators that are loaded: --monitor and --trace */
#ifndef NAT64_FOLLOW_H
#define NAT64_FOLLOW_H

#include "link.h"
#include "netlink.h"
#include "options.h"

/* Prints what happens on an interface, or on all (NULL) that have a translator, until a signal or the reader of stdout ends
 * it: 0. Or a negative errno, after having said why: for instance, when nothing is loaded any more. */
int follow(struct nl *nl, const struct link *link, const struct options *o);

#endif
