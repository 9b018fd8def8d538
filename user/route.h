/* SPDX-License-Identifier: GPL-2.0-or-later */
/* route.h - the routes that lead to the translator
 *
 * One leads the IPv4 prefix there, and one each static prefix outside it. Another leads --icmp-src there, which nobody
 * should send to: but a machine with rp_filter=1 takes a packet only if it has a route for its source that leads back.
 *
 * On Ethernet they go via a next hop, see hop.h. They are found again by interface and protocol number
 * (NAT64_RT_PROTOCOL). */
#ifndef NAT64_ROUTE_H
#define NAT64_ROUTE_H

#include "addr.h"
#include "hop.h"
#include "link.h"
#include "netlink.h"
#include "options.h"

struct route {
	struct prefix4 dst;
	struct hop via;
	__u32 mtu;
	__u32 metric;
};

enum {
	ROUTE_POOL,
	ROUTE_ICMP_SRC,
	ROUTE_STATIC /* the first one, sorted by address; no two overlap */
};

/* The routes that a translator wants: the pool's, --icmp-src's, and the static prefixes'. By routes_choose_hop() they get
 * their next hop. */
struct wanted {
	struct route *route;
	size_t n;
	const struct options *o;
	const unsigned int *kin; /* other interfaces of the translator: routes to them do no harm */
	size_t n_kin;
	struct hop hop;
};

/* What is of ours on an interface. */
struct routes {
	struct route *route; /* sorted by destination */
	size_t n_routes;
	struct hops hops;
};

/* 0, or a negative errno with *why if the NAT64 prefix is routed to another interface. wanted_free() in either case. */
int routes_wanted(struct nl *nl, const struct link *link, const struct options *o, struct wanted *w,
		  struct reason *why);
void wanted_free(struct wanted *w);

/* Is it that of a pool which there is not (nat64.h)? Such a route is not made. */
bool route_leads_to_none(const struct route *route);

/* The one of them with the same destination, or NULL */
const struct route *routes_wanted_same(const struct wanted *w, const struct route *route);

/* Is it one of them, by its destination? */
bool route_is_wanted(const struct wanted *w, const struct route *route);

/* Finds what is ours on the interface. With wanted routes, also checks that nothing of others is in their way: 0, or a
 * negative errno with *why naming it. routes_free() in either case. */
int routes_find(struct nl *nl, const struct link *link, const struct wanted *w, struct routes *r, struct reason *why);
void routes_free(struct routes *r);

/* Is nothing there? */
bool routes_are_none(const struct routes *r);

/* The next hop of the wanted routes, which the present ones have if possible. 0, or a negative errno with *why. */
int routes_choose_hop(const struct link *link, const struct routes *r, struct wanted *w, struct reason *why);

/* The interface that the IPv4 default route leads to, 0 if it names several. 0, or a negative errno; -ENOENT: there is
 * none. */
int route_default4(struct nl *nl, __u32 *oif);

/* The one of ours with the same destination, or NULL. */
const struct route *routes_same_dst(const struct routes *r, const struct route *wanted);
bool route_equal(const struct route *a, const struct route *b);

/* 0 or a negative errno. Without replace, an existing one is an error. */
int route_set(struct nl *nl, const struct link *link, const struct route *route, bool replace);

/* Puts one that leads to both links, to each by its own next hop, in the place of either. */
int route_set_both(struct nl *nl, const struct link *link, const struct route *route, const struct link *other,
		   const struct hop *via);
int route_del(struct nl *nl, const struct link *link, const struct route *route);

#endif
