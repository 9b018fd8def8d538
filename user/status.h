/* SPDX-License-Identifier: GPL-2.0-or-later */
/* status.h - what is loaded, and what it does: --status */
#ifndef NAT64_STATUS_H
#define NAT64_STATUS_H

#include "link.h"
#include "netlink.h"
#include "options.h"

/* The translator on link, or, if that is NULL, all of this network namespace. 0, or a negative errno after having said
 * why: also if it is shown and does not work. */
int status_show(struct nl *nl, const struct link *link, const struct options *o);

#endif
