/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mappings.h - what an administrator does with the mappings of a translator: list, save, restore, delete, flush
 *
 * All of these: 0, or a negative errno after having said why. */
#ifndef NAT64_MAPPINGS_H
#define NAT64_MAPPINGS_H

#include "link.h"
#include "netlink.h"
#include "options.h"

int mappings_show(struct nl *nl, const struct link *link, const struct options *o);
int mappings_save(struct nl *nl, const struct link *link, const struct options *o);
int mappings_restore(struct nl *nl, const struct link *link, const struct options *o);
int mappings_delete(struct nl *nl, const struct link *link, const struct options *o);
int mappings_flush(struct nl *nl, const struct link *link);

#endif
