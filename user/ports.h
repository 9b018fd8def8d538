/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ports.h - the interfaces of a translator, by number ("ports" in nat64.h) */
#ifndef NAT64_USER_PORTS_H
#define NAT64_USER_PORTS_H

#include "link.h"
#include "../nat64.h"

struct ports {
	struct nat64_port of[NAT64_PORTS + 1]; /* .ifindex 0: none; the first is nobody's */
};

/* Reads the map; of a version that had none, or another one, there are none. 0 or a negative errno. */
int ports_read(int map, struct ports *p);

/* The number of an interface, or 0. */
__u32 ports_number(const struct ports *p, unsigned int ifindex);

/* Adds an interface, with the number that it had before if it had one, else with one that nobody had. Its number, or 0:
 * there are too many. */
__u32 ports_add(struct ports *p, const struct ports *before, const struct link *link);

/* Takes one out of the map that has left. 0 or a negative errno. */
int ports_forget(int map, __u32 number);

/* Writes them into the maps. 0 or a negative errno. */
int ports_write(int map, int numbers, const struct ports *p);

#endif
