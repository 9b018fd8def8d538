/* SPDX-License-Identifier: GPL-2.0-or-later */
/* load.h - the BPF programs: loading, and taking over the maps of those that are there */
#ifndef NAT64_LOAD_H
#define NAT64_LOAD_H

#include "loaded.h"
#include "options.h"
#include "ports.h"

struct nat64_bpf;

/* What becomes of the mappings of the translator that is replaced */
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

/* What the kernel makes of programs with these options */
struct trial {
	bool btf;   /* it takes the form that is faster (object.h) */
	bool jited; /* it compiles them; else it interprets them */
};

/* Loads them and forgets them. 0, or a negative errno with *why. */
int programs_try(const struct options *o, struct trial *t, struct reason *why);

/* Loads the programs of another port over the same maps. 0, or a negative errno with *why. programs_close() in either
 * case. */
int programs_load_port(const struct nat64_bpf *first, const struct nat64_config *cfg, struct nat64_bpf **programs,
		       struct reason *why);

/* Tells the programs of all ports which there are. 0 or a negative errno. */
int programs_set_ports(const struct nat64_bpf *programs, const struct ports *ports);

/* The maps of the programs; not to be closed. */
struct loaded programs_maps(const struct nat64_bpf *programs);

/* Loads nothing but nat64_edit, for the maps of a translator that is loaded; if that has no "order", with an empty one of
 * its own. 0, with the program and its map, or a negative errno. programs_close() in either case. */
int programs_load_edit(const struct nat64_config *cfg, const struct loaded *maps, struct nat64_bpf **programs,
		       int *program, int *map);

int programs_fd(const struct nat64_bpf *programs, enum nat64_way way);
int programs_fast_fd(const struct nat64_bpf *programs);

/* The program for --xdp of an interface of IPv6 hosts. */
int programs_xdp_fd(const struct nat64_bpf *programs);

/* Loads nothing but the program for --xdp of an interface that IPv4 comes in by, over the same maps; *fd. 0, or a negative
 * errno with *why. programs_close() in either case. */
int programs_load_xdp(const struct nat64_bpf *first, const struct nat64_config *cfg, struct nat64_bpf **programs,
		      int *fd, struct reason *why);

/* Lets the programs for --xdp send frames to an interface. 0 or a negative errno. */
int programs_add_target(const struct nat64_bpf *programs, __u32 ifindex);

/* The memory that all maps of the programs take, in bytes; 0 if the kernel does not tell. */
unsigned long long programs_memory(const struct nat64_bpf *programs);

#endif
