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
	int stats;
};

/* id 0: no such program. 0, or a negative errno with *why. loaded_close() in either case. */
int loaded_open(const __u32 id[NAT64_WAYS], struct loaded *old, struct reason *why);
void loaded_close(struct loaded *old);

/* Loads the programs, over the maps of old if those are of the same IPv4 prefix and layout, and fills in the maps.
 * Returns 0, with *kept, and *why if there is an old one whose maps could not be taken over; or a negative errno with
 * *why. programs_close() in either case. */
int programs_load(const struct options *o, const struct nat64_config *cfg, const struct loaded *old,
		  struct nat64_bpf **programs, bool *kept, struct reason *why);
void programs_close(struct nat64_bpf *programs);

int programs_fd(const struct nat64_bpf *programs, enum nat64_way way);

/* The memory that the state maps take, in bytes; 0 if the kernel does not tell. */
unsigned long long programs_memory(const struct nat64_bpf *programs);

#endif
