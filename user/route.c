// SPDX-License-Identifier: GPL-2.0-or-later
/* route.c - the routes that lead to the translator, and the neighbour that they go via */
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "route.h"

/* An IPv6 header is so much longer than an IPv4 header: the kernel must call packets of DF=1 too big in time. */
#define IPV6_HEADER_GROWTH 20

/* Locally administered, unicast; the rest spells "nat64". */
static const __u8 MAC[6] = { 0x02, 'n', 'a', 't', '6', '4' };

/* Next hop in place of the network address of the NAT64 prefix where the kernel does not take that one */
static const union nat64_v6 LINK_LOCAL_VIA = { .b = { 0xfe, 0x80, [12] = 0x00, 0x64, 0xff, 0x9b } };

/* struct rtvia of linux/rtnetlink.h with its address */
struct via6 {
	__kernel_sa_family_t family;
	union nat64_v6 addr;
} __attribute__((packed));

/* What a dump is looked through for */
struct search {
	const struct link *link;
	const struct route *wanted; /* ROUTES_WANTED, or NULL */
	struct reason *why;
	struct routes found;
	int err;
};

/* The attributes of one route */
struct seen_route {
	struct route route;
	__u32 table;
	__u32 oif;
};

static int metrics_attr(const struct nlattr *attr, void *data)
{
	if (mnl_attr_get_type(attr) == RTAX_MTU && !mnl_attr_validate(attr, MNL_TYPE_U32))
		*(__u32 *)data = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int route_attr(const struct nlattr *attr, void *data)
{
	const void *payload = mnl_attr_get_payload(attr);
	__u16 len = mnl_attr_get_payload_len(attr);
	struct seen_route *seen = data;
	const struct via6 *via = payload;

	switch (mnl_attr_get_type(attr)) {
	case RTA_DST:
		if (len == sizeof(seen->route.dst.addr))
			memcpy(&seen->route.dst.addr, payload, len);
		break;
	case RTA_OIF:
		if (len == sizeof(seen->oif))
			seen->oif = mnl_attr_get_u32(attr);
		break;
	case RTA_TABLE:
		if (len == sizeof(seen->table))
			seen->table = mnl_attr_get_u32(attr);
		break;
	case RTA_PRIORITY:
		if (len == sizeof(seen->route.metric))
			seen->route.metric = mnl_attr_get_u32(attr);
		break;
	case RTA_VIA:
		seen->route.has_via = len == sizeof(*via) && via->family == AF_INET6;
		if (seen->route.has_via)
			seen->route.via = via->addr;
		break;
	case RTA_METRICS:
		mnl_attr_parse_nested(attr, metrics_attr, &seen->route.mtu);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

/* The longest match wins: what lies within our prefix, or is the very same, takes addresses away from us. What covers
 * it does not matter, unless it is the prefix of another translator. Two may share an --icmp-src. */
static void route_conflict(struct search *s, const struct seen_route *seen, bool translator)
{
	const struct prefix4 *pool = &s->wanted[ROUTE_POOL].dst;
	char dev[IF_NAMESIZE] = "";
	char text[PREFIX_STRLEN];

	if (!s->err && translator && prefix4_covers(&seen->route.dst, &s->wanted[ROUTE_ICMP_SRC].dst) &&
	    seen->route.dst.len < 32)
		s->err = reason(s->why, -EADDRINUSE, "--icmp-src %s: belongs to the prefix of another translator",
				text4(s->wanted[ROUTE_ICMP_SRC].dst).s);
	if (s->err || !(translator ? prefix4_overlap : prefix4_covers)(pool, &seen->route.dst))
		return;
	if (seen->oif)
		if_indextoname(seen->oif, dev);
	snprintf(text, sizeof(text), "%s", text4(*pool).s);
	if (translator)
		s->err = reason(s->why, -EADDRINUSE, "-4 %s: %s is in use by the translator on %s", text,
				text4(seen->route.dst).s, dev);
	else
		s->err = reason(s->why, -EADDRINUSE, "-4 %s: there is already a route to %s%s%s", text,
				text4(seen->route.dst).s, *dev ? " on " : "", dev);
}

static void route_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct seen_route seen = { .table = rtm->rtm_table };
	struct search *s = data;
	struct routes *found = &s->found;
	bool translator = rtm->rtm_protocol == NAT64_RT_PROTOCOL;

	seen.route.dst.len = rtm->rtm_dst_len;
	mnl_attr_parse(msg, sizeof(*rtm), route_attr, &seen);
	if (rtm->rtm_family != AF_INET || rtm->rtm_flags & RTM_F_CLONED || seen.table != RT_TABLE_MAIN)
		return;
	if (!translator || seen.oif != s->link->index) {
		if (s->wanted)
			route_conflict(s, &seen, translator);
	} else if (found->n_routes < ROUTES_MAX) {
		found->route[found->n_routes++] = seen.route;
	}
}

/* The attributes of one neighbour */
struct seen_neigh {
	union nat64_v6 addr;
	__u8 protocol;
};

static int neigh_attr(const struct nlattr *attr, void *data)
{
	__u16 len = mnl_attr_get_payload_len(attr);
	struct seen_neigh *seen = data;

	if (mnl_attr_get_type(attr) == NDA_DST && len == sizeof(seen->addr))
		memcpy(&seen->addr, mnl_attr_get_payload(attr), len);
	if (mnl_attr_get_type(attr) == NDA_PROTOCOL && len == sizeof(seen->protocol))
		seen->protocol = mnl_attr_get_u8(attr);
	return MNL_CB_OK;
}

static void neigh_answer(const struct nlmsghdr *msg, void *data)
{
	const struct ndmsg *ndm = mnl_nlmsg_get_payload(msg);
	struct seen_neigh seen = { 0 };
	struct search *s = data;
	struct routes *found = &s->found;

	mnl_attr_parse(msg, sizeof(*ndm), neigh_attr, &seen);
	if (ndm->ndm_family != AF_INET6 || ndm->ndm_ifindex != (int)s->link->index)
		return;
	if (seen.protocol == NAT64_RT_PROTOCOL) {
		if (found->n_neighs < ROUTES_MAX)
			found->neigh[found->n_neighs++] = seen.addr;
		return;
	}
	if (!s->wanted || !s->wanted->has_via || memcmp(&seen.addr, &s->wanted->via, sizeof(seen.addr)))
		return;
	if (ndm->ndm_state & (NUD_NONE | NUD_INCOMPLETE | NUD_FAILED) || !ndm->ndm_state)
		found->neigh_stale = true;
	else if (!s->err)
		s->err = reason(s->why, -EADDRINUSE, "%s: %s already has a neighbour entry there, not made by nat64",
				s->link->name, text6((struct prefix6){ seen.addr, 128 }).s);
}

/* The IPv6 route that an address would take */
struct lookup {
	struct prefix6 dst;
	__u32 oif;
	__u8 type;
};

static int lookup_attr(const struct nlattr *attr, void *data)
{
	__u16 len = mnl_attr_get_payload_len(attr);
	struct lookup *found = data;

	if (mnl_attr_get_type(attr) == RTA_DST && len == sizeof(found->dst.addr))
		memcpy(&found->dst.addr, mnl_attr_get_payload(attr), len);
	if (mnl_attr_get_type(attr) == RTA_OIF && len == sizeof(found->oif))
		found->oif = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static void lookup_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct lookup *found = data;

	found->dst.len = rtm->rtm_dst_len;
	found->type = rtm->rtm_type;
	mnl_attr_parse(msg, sizeof(*rtm), lookup_attr, found);
}

/* The address that the routes go via on Ethernet. */
static int find_via(struct nl *nl, const struct link *link, struct prefix6 v6_prefix, union nat64_v6 *via,
		    struct reason *why)
{
	char text[PREFIX_STRLEN], dev[IF_NAMESIZE] = "?";
	struct lookup found = { .type = RTN_UNSPEC };
	struct nlmsghdr *msg;
	struct rtmsg *rtm;

	*via = v6_prefix.addr;
	msg = nl_request(nl, RTM_GETROUTE, 0, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET6;
	rtm->rtm_dst_len = 128;
	rtm->rtm_flags = RTM_F_FIB_MATCH;
	mnl_attr_put(msg, RTA_DST, sizeof(*via), via);
	/* No route, or one that says no, is fine. */
	if (nl_talk(nl, lookup_answer, &found, sizeof(found)) || found.type != RTN_UNICAST || !found.dst.len ||
	    found.oif == link->index)
		return 0;
	if (prefix6_covers(&v6_prefix, &found.dst)) {
		if_indextoname(found.oif, dev);
		snprintf(text, sizeof(text), "%s", text6(v6_prefix).s);
		return reason(why, -EADDRINUSE, "-6 %s: there is already a route to %s on %s", text, text6(found.dst).s,
			      dev);
	}
	/* Say, 2000::/3 leads to the provider: the kernel wants a next hop that a route leads elsewhere to be there. */
	*via = LINK_LOCAL_VIA;
	return 0;
}

int routes_wanted(struct nl *nl, const struct link *link, const struct options *o, struct route *route,
		  struct reason *why)
{
	struct route common = { .has_via = !link->l3, .mtu = link->mtu - IPV6_HEADER_GROWTH };
	int err = link->l3 ? 0 : find_via(nl, link, o->v6_prefix, &common.via, why);

	route[ROUTE_POOL] = common;
	route[ROUTE_POOL].dst = o->v4_prefix;
	route[ROUTE_ICMP_SRC] = common;
	route[ROUTE_ICMP_SRC].dst = (struct prefix4){ o->icmp_src, 32 };
	route[ROUTE_ICMP_SRC].metric = link->index; /* so that several translators can have one */
	return err;
}

static int find_routes(struct nl *nl, struct search *s)
{
	struct rtmsg *rtm;
	int err;

	nl_request(nl, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET;
	rtm->rtm_table = RT_TABLE_MAIN;
	err = nl_talk(nl, route_answer, s, sizeof(*s));
	return err == -ENOENT ? 0 : err; /* a namespace without any route has no table either */
}

static int find_neighs(struct nl *nl, struct search *s)
{
	struct nlmsghdr *msg;
	struct ndmsg *ndm;

	msg = nl_request(nl, RTM_GETNEIGH, NLM_F_DUMP, sizeof(*ndm), &ndm);
	ndm->ndm_family = AF_INET6;
	mnl_attr_put_u32(msg, NDA_IFINDEX, s->link->index);
	return nl_talk(nl, neigh_answer, s, sizeof(*s));
}

int routes_find(struct nl *nl, const struct link *link, const struct route *wanted, struct routes *r,
		struct reason *why)
{
	struct search s = { .link = link, .wanted = wanted, .why = why };
	int err;

	err = find_routes(nl, &s);
	if (err)
		return reason(why, err, "cannot list the routes: %s", nl_error(nl, err));
	err = find_neighs(nl, &s);
	if (err)
		return reason(why, err, "cannot list the neighbours: %s", nl_error(nl, err));
	*r = s.found;
	return s.err;
}

const struct route *routes_same_dst(const struct routes *r, const struct route *wanted)
{
	for (size_t i = 0; i < r->n_routes; i++)
		if (r->route[i].dst.addr == wanted->dst.addr && r->route[i].dst.len == wanted->dst.len)
			return &r->route[i];
	return NULL;
}

bool routes_have_neigh(const struct routes *r, const union nat64_v6 *addr)
{
	for (size_t i = 0; i < r->n_neighs; i++)
		if (!memcmp(&r->neigh[i], addr, sizeof(*addr)))
			return true;
	return false;
}

bool route_equal(const struct route *a, const struct route *b)
{
	return a->dst.addr == b->dst.addr && a->dst.len == b->dst.len && a->mtu == b->mtu && a->metric == b->metric &&
	       a->has_via == b->has_via && (!a->has_via || !memcmp(&a->via, &b->via, sizeof(a->via)));
}

int route_set(struct nl *nl, const struct link *link, const struct route *route, bool replace)
{
	struct nlmsghdr *msg;
	struct nlattr *metrics;
	struct rtmsg *rtm;

	msg = nl_request(nl, RTM_NEWROUTE, NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL), sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET;
	rtm->rtm_dst_len = route->dst.len;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_protocol = NAT64_RT_PROTOCOL;
	rtm->rtm_type = RTN_UNICAST;
	rtm->rtm_scope = route->has_via ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	mnl_attr_put(msg, RTA_DST, sizeof(route->dst.addr), &route->dst.addr);
	mnl_attr_put_u32(msg, RTA_OIF, link->index);
	if (route->metric)
		mnl_attr_put_u32(msg, RTA_PRIORITY, route->metric);
	if (route->has_via) {
		struct via6 via = { .family = AF_INET6, .addr = route->via };

		rtm->rtm_flags = RTNH_F_ONLINK;
		mnl_attr_put(msg, RTA_VIA, sizeof(via), &via);
	}
	metrics = mnl_attr_nest_start(msg, RTA_METRICS);
	mnl_attr_put_u32(msg, RTAX_MTU, route->mtu);
	mnl_attr_nest_end(msg, metrics);
	return nl_talk(nl, NULL, NULL, 0);
}

int route_del(struct nl *nl, const struct link *link, const struct route *route)
{
	struct nlmsghdr *msg;
	struct rtmsg *rtm;

	msg = nl_request(nl, RTM_DELROUTE, 0, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET;
	rtm->rtm_dst_len = route->dst.len;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_protocol = NAT64_RT_PROTOCOL;
	rtm->rtm_scope = RT_SCOPE_NOWHERE; /* any */
	mnl_attr_put(msg, RTA_DST, sizeof(route->dst.addr), &route->dst.addr);
	mnl_attr_put_u32(msg, RTA_OIF, link->index);
	return nl_talk(nl, NULL, NULL, 0);
}

int neigh_set(struct nl *nl, const struct link *link, const union nat64_v6 *addr, bool replace)
{
	struct nlmsghdr *msg;
	struct ndmsg *ndm;

	msg = nl_request(nl, RTM_NEWNEIGH, NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL), sizeof(*ndm), &ndm);
	ndm->ndm_family = AF_INET6;
	ndm->ndm_ifindex = link->index;
	ndm->ndm_state = NUD_PERMANENT;
	mnl_attr_put(msg, NDA_DST, sizeof(*addr), addr);
	mnl_attr_put(msg, NDA_LLADDR, sizeof(MAC), MAC);
	mnl_attr_put_u8(msg, NDA_PROTOCOL, NAT64_RT_PROTOCOL);
	return nl_talk(nl, NULL, NULL, 0);
}

int neigh_del(struct nl *nl, const struct link *link, const union nat64_v6 *addr)
{
	struct nlmsghdr *msg;
	struct ndmsg *ndm;

	msg = nl_request(nl, RTM_DELNEIGH, 0, sizeof(*ndm), &ndm);
	ndm->ndm_family = AF_INET6;
	ndm->ndm_ifindex = link->index;
	mnl_attr_put(msg, NDA_DST, sizeof(*addr), addr);
	return nl_talk(nl, NULL, NULL, 0);
}
