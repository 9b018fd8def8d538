/* SPDX-License-Identifier: GPL-2.0-or-later */
/* state.h - the mappings of a translator that is loaded, read and changed while packets flow
 *
 * What the BPF programs do (headers/state.h, headers/edit.h) and this relies on:
 *  - Mappings are changed by a program, nat64_edit, in the same way as the programs of the packets do it: nobody has to
 *    wait for anybody.
 *  - A packet writes to an entry only if it has found it by by_v6 in the same run. It writes .tick without the lock, but
 *    not if it has seen that the entry is static.
 *  - A program runs in an RCU read-side critical section. After a grace period, for which membarrier(2) waits, each program
 *    that runs has seen what was changed before. */
#ifndef NAT64_USER_STATE_H
#define NAT64_USER_STATE_H

#include "loaded.h"

/* One entry of "mappings", as it was at one moment. Returns 0 to go on; anything else ends the walk. */
typedef int (*mapping_cb)(__u32 index, const struct nat64_mapping *m, void *data);

/* Reads one; 0 or a negative errno. */
int mapping_read(int mappings, __u32 index, struct nat64_mapping *m);

/* Calls cb for all entries in the order of their addresses, free ones included. Takes the same memory whatever the size.
 * 0, what cb returned, or a negative errno. */
int mappings_walk(int mappings, mapping_cb cb, void *data);

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

/* A change of one entry. */
struct edit {
	__u32 index;
	struct nat64_mapping to;
	union nat64_v6 was; /* the owner before, all zero if none */
	const char *why;    /* why its owner loses it, or NULL */
	bool made;
};

struct edits {
	struct edit *list;
	size_t n;
};

/* What an entry is changed to: static, for a host; held for a static prefix (v6 is all zero); dynamic, of a host that has
 * been silent for `idle` nanoseconds and has had the address for `age`; or all zero, free. */
struct nat64_mapping mapping_static(const union nat64_v6 *v6);
int mapping_dynamic(const union nat64_v6 *v6, __u64 idle, __u64 age, const struct nat64_config *cfg,
		    struct nat64_mapping *m);

/* Adds an edit; `was` is an entry as it is now. Returns 0 or a negative errno, for state_change() to know. */
int edits_add(struct edits *e, __u32 index, const struct nat64_mapping *was, const struct nat64_mapping *to,
	      const char *why);

struct change {
	/* Looks at the maps and adds the edits that are wanted. 0 or a negative errno. */
	int (*decide)(struct edits *e, void *data);
	/* An edit was made. */
	void (*done)(const struct edit *e, void *data);
	void *data;
	bool once;  /* one round is enough: what packets change meanwhile may stay */
	bool quiet; /* listeners are not told */
};

/* Changes entries of maps that programs with the configuration cfg are using, until decide wants nothing any more. 0 or a
 * negative errno; -EBUSY: packets were always faster. */
int state_change(const struct loaded *maps, const struct nat64_config *cfg, const struct change *change);

/* Puts each mapping of maps that programs with the configuration cfg are using into the list where it belongs. 0 or a
 * negative errno. */
int state_place(const struct loaded *maps, const struct nat64_config *cfg);

/* Sets an entry of maps that nobody uses yet; it must be free or expired. The lists are made later (order.h). */
int state_set(const struct loaded *maps, __u32 index, const struct nat64_mapping *to);

/* Waits until no BPF program runs that may not have seen what was changed before. */
void state_wait(void);

/* Is the address with this index ever given out by itself? The network's own and the broadcast address are not. */
bool is_given_out(__u32 index, __u32 v4_len);

#endif
