/* SPDX-License-Identifier: GPL-2.0-or-later */
/* state.h - changes of the mappings of a translator that is loaded, while packets flow
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

#include "addr.h"
#include "loaded.h"

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
	bool half; /* NAT64_DONE_HALF is what became of one */
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

/* The program nat64_edit that makes edits, and what it is told by */
struct editor {
	struct nat64_bpf *programs; /* loaded for this alone, or NULL */
	int program;
	int map;
	struct nat64_edit *page;
};

/* 0 or a negative errno; editor_close() in either case. */
int editor_open(struct editor *ed, const struct loaded *maps, const struct nat64_config *cfg);
void editor_close(struct editor *ed);

/* Has the program make edits, and leaves in each what has become of it. 0 or a negative errno. */
int editor_run(const struct editor *ed, struct nat64_edit *list, size_t n);

/* Puts each address of maps that programs with the configuration cfg are using into the list where it belongs; sort: at its
 * place there, too. 0 or a negative errno. */
int state_place(const struct loaded *maps, const struct nat64_config *cfg, bool sort);

/* With --per-prefix: counts each mapping in its prefix, of maps that programs with the configuration cfg are using, or will.
 * 0 or a negative errno; -EBUSY: packets were always faster. */
int state_count(const struct loaded *maps, const struct nat64_config *cfg);

/* Sets an entry of maps that nobody uses yet; it must be free or expired. The lists are made later (order.h). */
int state_set(const struct loaded *maps, __u32 index, const struct nat64_mapping *to);

/* Waits until no BPF program runs that may not have seen what was changed before. */
void state_wait(void);

#endif
