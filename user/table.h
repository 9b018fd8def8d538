/* SPDX-License-Identifier: GPL-2.0-or-later */
/* table.h - reading the mappings of a translator that is loaded: the map "mappings" */
#ifndef NAT64_TABLE_H
#define NAT64_TABLE_H

#include <stdbool.h>

#include "../nat64.h"

/* One entry of "mappings", as it was at one moment. Returns 0 to go on; anything else ends the walk. */
typedef int (*mapping_cb)(__u32 index, const struct nat64_mapping *m, void *data);

/* Reads one; 0 or a negative errno. */
int mapping_read(int mappings, __u32 index, struct nat64_mapping *m);

/* Calls cb for all entries in the order of their addresses, free ones included. Takes the same memory whatever the size.
 * 0, what cb returned, or a negative errno. */
int mappings_walk(int mappings, mapping_cb cb, void *data);

#define WALK_PIECE 4096 /* entries that are read by one system call */

/* The same in pieces, for who has other things to do meanwhile. All zero: at its begin. */
struct walk {
	__u32 next; /* index */
	__u32 at;   /* what the kernel wants to know of the piece before */
	bool done;
};

/* Calls cb for the next WALK_PIECE entries, or what is left. What mappings_walk() returns. */
int walk_step(struct walk *walk, int mappings, mapping_cb cb, void *data);

/* What an entry is at a time */
enum mapping_kind {
	MAPPING_FREE,
	MAPPING_LIVE,
	MAPPING_EXPIRED,
	MAPPING_STATIC, /* from host to host */
	MAPPING_HELD,	/* for a static prefix */
	MAPPING_KINDS
};

enum mapping_kind mapping_kind(const struct nat64_mapping *m, const struct nat64_config *cfg, __u64 now);

/* For how long the host has been silent, in nanoseconds. A restored mapping may be older than this machine's clock:
 * differences of its times are right, the times are not. */
__u64 mapping_idle(const struct nat64_mapping *m, __u64 now);

/* The time-out in nanoseconds. */
__u64 config_timeout(const struct nat64_config *cfg);

/* Is the address with this index ever given out by itself? The network's own and the broadcast address are not. */
bool is_given_out(__u32 index, __u32 v4_len);

/* And by this gateway? */
bool is_given_out_here(__u32 index, const struct nat64_config *cfg);

#endif
