/* SPDX-License-Identifier: GPL-2.0-or-later */
/* link.h - the interface */
#ifndef NAT64_LINK_H
#define NAT64_LINK_H

#include <linux/types.h>
#include <net/if.h>
#include <stdbool.h>

#include "netlink.h"

struct link {
	unsigned int index;
	char name[IF_NAMESIZE]; /* the kernel's: what the user gave may be an alternative name */
	unsigned short type;	/* ARPHRD_* */
	unsigned int flags;	/* IFF_* */
	__u32 mtu;		/* bytes */
	unsigned int master;	/* index of the interface that it is a port of, or 0 */
	unsigned int lower;	/* index of the interface that it lies upon (VLAN, macvlan), or 0 */
	char kind[16];		/* "bridge", "vlan", "wireguard", …; empty for hardware */
	bool has_v4;		/* an IPv4 address: see links_find_v4 */
	bool v4_only;		/* a tunnel that is for IPv4 */
	char port[16];		/* what kind of port: "bridge", "bond", "vrf", … */
	bool l3;		/* frames have no link-layer header: no neighbours, no MAC addresses */
	bool own;		/* made by nat64 (device.h) */
	__u32 gro_max;		/* bytes of the super-packets that it makes of what comes in; 0: not known */
	__u64 mac;		/* of Ethernet, in the first 6 bytes */
	__u8 xdp_mode;		/* XDP_ATTACHED_* of linux/if_link.h */
	__u32 xdp_id;		/* of the program, if there is one */
};

/* A device of our own is known by its alias. What it translates may be as long as IP packets get: other interfaces and their
 * routes tell senders of less. */
#define DEVICE_ALIAS "NAT64 translator, see nat64(8)"
#define DEVICE_MTU   65535

/* Finds an interface by name or alternative name. 0, or a negative errno (-ENODEV: there is none). */
int link_find(struct nl *nl, const char *name, struct link *link);

/* The same by index. */
int link_by_index(struct nl *nl, unsigned int index, struct link *link);

/* All interfaces of this network namespace, *links to be freed. 0 or a negative errno. */
int link_list(struct nl *nl, struct link **links, size_t *n);

/* Sets .has_v4 of those that have an address. 0 or a negative errno. */
int links_find_v4(struct nl *nl, struct link *links, size_t n);

/* Does IPv4 come in there, in frames that programs for --fast and --xdp know? Takes .has_v4. */
bool link_is_uplink(const struct link *link);

/* Does the kernel drop packets that come in there, if the way back to their source leads elsewhere (rp_filter)? */
bool link_is_rp_filtered(struct nl *nl, const struct link *link);

/* Does it ask for the MAC addresses of next hops? A device of our own takes its own for all. */
bool link_has_neighbours(const struct link *link);

/* Can it carry a translator? 0, or a negative errno and why not. */
int link_check(const struct link *link, struct reason *why);

/* The same for a port of a device, which no routes lead to: it may be down as well. */
int link_check_port(const struct link *link, struct reason *why);

#endif
