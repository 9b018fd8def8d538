/* SPDX-License-Identifier: GPL-2.0-or-later */
/* load.h - the BPF programs and their maps: loading, and taking over the state of those that are there */
#ifndef NAT64_LOAD_H
#define NAT64_LOAD_H

#include "options.h"

struct nat64_bpf;

/* A translator that is attached, as found by the ids of its programs. Descriptors are -1 for what is not there. */
struct loaded {
	int program[NAT64_WAYS];
	int mappings;
	int by_v6;
	int pool;
	int order; /* -1 also if it is of a version that had none */
	int stats;
	int allowed;
	int static6;
	int static4;
	int config; /* the section .rodata */
	int listen; /* these three: -1 also if it is of a version that had none */
	int events;
	int packets;
	int edit; /* the program nat64_edit and its map: of this run, -1 unless it has loaded the programs */
	int edits;
	__u64 since; /* when the programs were loaded: CLOCK_BOOTTIME, nanoseconds */
};

extern const struct loaded LOADED_NONE;

/* id 0: no such program. 0, or a negative errno with *why. loaded_close() in either case. */
int loaded_open(const __u32 id[NAT64_WAYS], struct loaded *old, struct reason *why);
void loaded_close(struct loaded *old);

/* The configuration that it was loaded with. 0, or a negative errno with *why: it may be another version of nat64. */
int loaded_config(const struct loaded *old, struct nat64_config *cfg, struct reason *why);

/* Its counters, of each of as many CPUs as there may be; 0 for those that it has not. 0 or a negative errno. */
int loaded_stats(const struct loaded *old, size_t cpus, struct nat64_stats *stats);

/* For a version that does not see it by itself: an address may be free again. 0 or a negative errno. */
int loaded_freed(const struct loaded *old);

/* What becomes of the mappings of a translator that programs take the place of */
enum inherit {
	INHERIT_NOTHING, /* there is none, or of a version that is not known */
	INHERIT_ALL,	 /* the programs use its maps */
	INHERIT_MAPS,	 /* the same, but the lists of addresses are to be made: it is of a version without */
	INHERIT_COPY,	 /* the IPv4 prefix is another one: what fits is to be copied */
};

/* Loads the programs, over the maps of old where possible, and fills in the configuration's maps. 0, with *inherit; or a
 * negative errno with *why. programs_close() in either case. */
int programs_load(const struct options *o, const struct nat64_config *cfg, const struct loaded *old,
		  struct nat64_bpf **programs, enum inherit *inherit, struct reason *why);
void programs_close(struct nat64_bpf *programs);

/* The maps of the programs; not to be closed. */
struct loaded programs_maps(const struct nat64_bpf *programs);

/* Loads nothing but nat64_edit, for the maps of a translator that is loaded; with an "order" of its own, which is empty,
 * if that has none. 0, with the program and its map, or a negative
 * errno. programs_close() in either case. */
int programs_load_edit(const struct nat64_config *cfg, const struct loaded *maps, struct nat64_bpf **programs,
		       int *program, int *map);

int programs_fd(const struct nat64_bpf *programs, enum nat64_way way);
int programs_fast_fd(const struct nat64_bpf *programs);

/* The index of the interface of the translator that a program belongs to, of this or another version of nat64. 0, or a
 * negative errno; -ENOENT: it is none. */
int program_owner(int fd, unsigned int *ifindex);

/* How many CPUs there may ever be, as maps have values for. Or a negative errno with *why. */
int possible_cpus(struct reason *why);

/* The memory that all maps of the programs take, in bytes; 0 if the kernel does not tell. */
unsigned long long programs_memory(const struct nat64_bpf *programs);

#endif
