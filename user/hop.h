/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hop.h - the next hop that the routes to the translator go via, on Ethernet
 *
 * The routes go via an IPv4 address that nobody has, so that the kernel does not try to resolve the hosts of the IPv4 prefix,
 * for which nobody would answer. It is one of 192.0.0.0/24 that IANA has not assigned (RFC 6890), a different one for each
 * translator of a network namespace.
 *
 * A route in the local table makes it a broadcast address of the interface. So whenever the kernel needs a neighbour entry for
 * it, it makes one by itself that need not be resolved: also after the interface has got another MAC address, when the kernel
 * drops all its entries, even permanent ones. No frame to that MAC address ever leaves: the egress program gives each
 * packet its real next hop.
 *
 * But the kernel refuses a broadcast address as the next hop of a new route. So the broadcast route is added last, and is removed
 * while a route is replaced; and before the first route there is a permanent neighbour entry with a made-up MAC address. An IPv6
 * next hop would need none of this, but then netfilter's flow tables would send ARP requests for the destination, in vain.
 *
 * On a device of our own (device.h) the next hop needs only its address: the neighbour entry that the kernel makes need not be
 * resolved there. Without a next hop the kernel would make an entry for each destination address, and soon have too many.
 *
 * Routes and entries are found again by interface and protocol number (NAT64_RT_PROTOCOL). */
#ifndef NAT64_HOP_H
#define NAT64_HOP_H

#include "addr.h"
#include "link.h"
#include "netlink.h"
#include "options.h"

struct hop {
	__u16 family; /* AF_INET; AF_INET6: of an older nat64; 0: none */
	__be32 v4;
	union nat64_v6 v6;
};

/* What is known of an address of 192.0.0.0/24 */
struct hop_address {
	bool taken;	 /* by somebody else */
	bool route;	 /* a route of ours on the interface goes via it */
	bool broadcast;	 /* of the interface, by a route of ours */
	bool neigh;	 /* there is a neighbour entry, */
	bool permanent;	 /* that of ours */
	bool unresolved; /* or one that says that nobody answered */
};

struct hops {
	struct hop_address of[256]; /* by the last byte */
	union nat64_v6 *neigh6;	    /* neighbour entries of an older nat64 */
	size_t n_neigh6;
	bool no_table; /* the network namespace has no local table, since it has had no address yet */
};

/* What there is of an address; NULL: it is none of 192.0.0.0/24. */
struct hop_address *hops_at(struct hops *h, __be32 addr);

/* Adds neighbours and broadcast routes of the interface to what is there. 0, or a negative errno with *why. hops_free() in
 * either case. */
int hops_find(struct nl *nl, const struct link *link, struct hops *h, struct reason *why);
void hops_free(struct hops *h);

/* The next hop that there is, or one that is free. 0, or a negative errno with *why: the options take all. */
int hops_choose(const struct hops *h, const struct link *link, const struct options *o, struct hop *hop,
		struct reason *why);

/* Without a local table the kernel takes every next hop for a broadcast address: makes the table, by an address that is in
 * it and is not. 0 or a negative errno. */
int hops_make_table(struct nl *nl, const struct link *link, const struct hops *h, __be32 addr);

/* Makes it a broadcast address of the interface, or takes that away. All of these: 0 or a negative errno. */
int hop_broadcast(struct nl *nl, const struct link *link, __be32 addr, bool on);

/* Its permanent neighbour entry, in the place of any that is there */
int hop_neigh_set(struct nl *nl, const struct link *link, __be32 addr);
int hop_neigh_del(struct nl *nl, const struct link *link, const struct hop *hop);

bool hop_equal(const struct hop *a, const struct hop *b);

/* As text */
struct prefix_text hop_text(const struct hop *hop);

/* The i-th address of 192.0.0.0/24 */
__be32 hop_address(__u32 i);

#endif
