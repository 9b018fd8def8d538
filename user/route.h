/* SPDX-License-Identifier: GPL-2.0-or-later */
/* route.h - the routes that lead to the translator, and the neighbour that they go via
 *
 * One leads the IPv4 prefix there, and one each static prefix outside it. Another leads --icmp-src there, which nobody should send to: but a machine with
 * rp_filter=1 takes a packet only if it has a route for its source that leads back.
 *
 * On Ethernet the route goes via the network address of the NAT64 prefix, for which there is a permanent neighbour of
 * a made-up MAC address: so the kernel need not resolve the hosts of the IPv4 prefix, which nobody would answer for.
 * No frame to that MAC address ever leaves: the egress program gives each packet its real next hop.
 * Both are found again by interface and protocol number (NAT64_RT_PROTOCOL). */
#ifndef NAT64_ROUTE_H
#define NAT64_ROUTE_H

#include "addr.h"
#include "link.h"
#include "netlink.h"
#include "options.h"

struct route {
	struct prefix4 dst;
	bool has_via;
	union nat64_v6 via;
	__u32 mtu;
	__u32 metric;
};

enum {
	ROUTE_POOL,
	ROUTE_ICMP_SRC,
	ROUTE_STATIC /* the first one, sorted by address; no two overlap */
};

/* The routes that a translator wants: the pool's, --icmp-src's, and the static prefixes' */
struct wanted {
	struct route *route;
	size_t n;
	const struct options *o;
};

/* The routes and neighbours of ours on an interface. */
struct routes {
	struct route *route; /* sorted by destination */
	size_t n_routes;
	union nat64_v6 *neigh;
	size_t n_neighs;
	bool neigh_stale; /* the kernel remembers that nobody answered for the address wanted */
};

/* 0, or a negative errno with *why if the NAT64 prefix is routed to another interface. wanted_free() in either case. */
int routes_wanted(struct nl *nl, const struct link *link, const struct options *o, struct wanted *w,
		  struct reason *why);
void wanted_free(struct wanted *w);

/* Is it one of them, by its destination? */
bool route_is_wanted(const struct wanted *w, const struct route *route);

/* Finds what is ours on the interface. With wanted routes, also checks that nothing of others is in their way: 0, or a
 * negative errno with *why naming it. routes_free() in either case. */
int routes_find(struct nl *nl, const struct link *link, const struct wanted *w, struct routes *r, struct reason *why);
void routes_free(struct routes *r);

/* The one of ours with the same destination, or NULL. */
const struct route *routes_same_dst(const struct routes *r, const struct route *wanted);
bool routes_have_neigh(const struct routes *r, const union nat64_v6 *addr);
bool route_equal(const struct route *a, const struct route *b);

/* 0 or a negative errno. Without replace, an existing one is an error. */
int route_set(struct nl *nl, const struct link *link, const struct route *route, bool replace);
int route_del(struct nl *nl, const struct link *link, const struct route *route);
int neigh_set(struct nl *nl, const struct link *link, const union nat64_v6 *addr, bool replace);
int neigh_del(struct nl *nl, const struct link *link, const union nat64_v6 *addr);

#endif
