/* SPDX-License-Identifier: GPL-2.0-or-later */
/* loaded.h - a translator that is loaded: its programs and maps, of this or another version of nat64 */
#ifndef NAT64_LOADED_H
#define NAT64_LOADED_H

#include <stdbool.h>
#include <stddef.h>

#include "../nat64.h"
#include "msg.h"

/* A translator that is attached, as found by the ids of its programs. Descriptors are -1 for what is not there. */
struct loaded {
	int program[NAT64_WAYS];
	int mappings;
	int by_v6;
	int pool;
	int order;     /* -1 also if it is of a version that had none */
	int by_prefix; /* these four: -1 also if it is of a version that had none */
	int prefixes;
	int members;
	int counting;
	int stats;
	int allowed;
	int static6;
	int static4;
	int config; /* the section .rodata */
	int listen; /* these four: -1 also if it is of a version that had none */
	int events;
	int packets;
	int ports;
	int edit; /* the program nat64_edit and its map: of this run, -1 unless it has loaded the programs */
	int edits;
	__u64 since; /* when the programs were loaded: CLOCK_BOOTTIME, nanoseconds */
};

extern const struct loaded LOADED_NONE;

/* id 0: no such program. 0, or a negative errno with *why. loaded_close() in either case. */
int loaded_open(const __u32 id[NAT64_WAYS], struct loaded *old, struct reason *why);
void loaded_close(struct loaded *old);

/* Have both the same mappings? So have all ports of a translator. */
bool loaded_same(const struct loaded *a, const struct loaded *b);

/* What its map "pool" says, in the form of this version. False: its mappings are of a version that is not known. */
bool loaded_pool(const struct loaded *old, struct nat64_pool *pool);

/* The configuration that it was loaded with. 0, or a negative errno with *why: it may be another version of nat64. */
int loaded_config(const struct loaded *old, struct nat64_config *cfg, struct reason *why);

/* Its counters, of each of as many CPUs as there may be; 0 for those that it has not. 0 or a negative errno. */
int loaded_stats(const struct loaded *old, size_t cpus, struct nat64_stats *stats);

/* Tells the programs that an address may be free again, if they are of a version that does not see it. 0 or a negative
 * errno. */
int loaded_freed(const struct loaded *old);

/* The configuration that one program was loaded with. 0 or a negative errno. */
int program_config(int fd, struct nat64_config *cfg);

/* The index of the interface of the translator that a program belongs to, of this or another version of nat64. 0, or a
 * negative errno; -ENOENT: it is none. */
int program_owner(int fd, unsigned int *ifindex);

/* How many CPUs there may ever be, as maps have values for. Or a negative errno with *why. */
int possible_cpus(struct reason *why);

#endif
