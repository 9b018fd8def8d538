/* SPDX-License-Identifier: GPL-2.0-or-later */
/* order.h - the lists of addresses, free and in use (struct nat64_node): made anew, and places in them */
#ifndef NAT64_ORDER_H
#define NAT64_ORDER_H

#include "loaded.h"

/* A mapping in use, as it was at one moment */
struct place {
	__u64 tick;
	__u32 index;
	__u32 epoch;
};

/* In the order of the list of those in use */
struct places {
	struct place *list;
	size_t n;
	const struct nat64_config *cfg; /* while they are read */
};

/* Reads which of the addresses that are given out here are in use. 0 or a negative errno; places_free() in either case. */
int places_read(const struct loaded *maps, const struct nat64_config *cfg, struct places *p);
void places_free(struct places *p);

/* The node before which a mapping last seen at `tick` belongs, and its epoch. */
__u32 places_find(const struct places *p, __u64 tick, const struct nat64_config *cfg, __u32 *epoch);

/* Makes the lists of maps that no program uses yet, or that programs of a version without lists use. Free addresses are
 * given out in their order, from index `first` on. 0 or a negative errno. */
int order_build(const struct loaded *maps, const struct nat64_config *cfg, const struct places *in_use, __u32 first);

enum order_list {
	ORDER_NONE,
	ORDER_FREE,
	ORDER_USED,
};

/* For each index, enum order_list: in which list it is; to be freed. NULL: see errno. */
unsigned char *order_lists(const struct loaded *maps, const struct nat64_config *cfg);

/* The index that is given out next. */
__u32 order_next(const struct loaded *maps, const struct nat64_config *cfg);

#endif
