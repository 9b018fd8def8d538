// SPDX-License-Identifier: GPL-2.0-or-later
/* route.c - the routes that lead to the translator */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "route.h"

/* The metric of IPv6 routes that are made without one */
#define IP6_RT_PRIO_USER 1024

/* An IPv6 header is so much longer than an IPv4 header: the kernel must call packets of DF=1 too big in time. */
#define IPV6_HEADER_GROWTH 20

/* struct rtvia of linux/rtnetlink.h with its address */
struct via6 {
	__kernel_sa_family_t family;
	union nat64_v6 addr;
} __attribute__((packed));

/* What a dump is looked through for. The first is what a dump that starts again must find as it was. */
struct search {
	struct {
		size_t n_routes;
		int err;
	} found;
	struct route *route;
	struct hops *hops;
	const struct link *link;
	const struct wanted *w; /* or NULL */
	struct reason *why;
};

/* The attributes of one route */
struct seen_route {
	struct route route;
	__u32 table;
	__u32 oif;	 /* 0: it leads to several, */
	__u32 first_oif; /* the first of which is this */
	__u8 type;
	__u8 tos;
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
	case RTA_MULTIPATH:
		if (len >= sizeof(struct rtnexthop))
			seen->first_oif = ((const struct rtnexthop *)payload)->rtnh_ifindex;
		break;
	case RTA_TABLE:
		if (len == sizeof(seen->table))
			seen->table = mnl_attr_get_u32(attr);
		break;
	case RTA_PRIORITY:
		if (len == sizeof(seen->route.metric))
			seen->route.metric = mnl_attr_get_u32(attr);
		break;
	case RTA_GATEWAY:
		if (len == sizeof(seen->route.via.v4)) {
			seen->route.via.family = AF_INET;
			memcpy(&seen->route.via.v4, payload, len);
		}
		break;
	case RTA_VIA:
		if (len == sizeof(*via) && via->family == AF_INET6) {
			seen->route.via.family = AF_INET6;
			seen->route.via.v6 = via->addr;
		}
		break;
	case RTA_METRICS:
		mnl_attr_parse_nested(attr, metrics_attr, &seen->route.mtu);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

/* The first static prefix that ends at an address or behind it. */
static const struct route *first_behind(const struct wanted *w, __be32 addr)
{
	size_t low = ROUTE_STATIC, high = w->n;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct prefix4 *dst = &w->route[middle].dst;

		if ((be32_to(dst->addr) | ~be32_to(prefix4_mask(dst->len))) < be32_to(addr))
			low = middle + 1;
		else
			high = middle;
	}
	return low < w->n ? &w->route[low] : NULL;
}

/* The wanted route that another one takes addresses from, or NULL. The longest match wins: what lies within our prefix,
 * or is the very same, does. What covers it does not matter, unless it is of another translator. */
static const struct route *taken_from(const struct wanted *w, const struct prefix4 *dst, bool translator)
{
	bool (*takes)(const struct prefix4 *a, const struct prefix4 *b) = translator ? prefix4_overlap : prefix4_covers;
	const struct route *behind = first_behind(w, dst->addr);

	if (takes(&w->route[ROUTE_POOL].dst, dst))
		return &w->route[ROUTE_POOL];
	if (behind && !behind->dst.len) /* all there are, but for what has a route of its own */
		return dst->len ? NULL : behind;
	return behind && takes(&behind->dst, dst) ? behind : NULL;
}

/* To the same destination the lower metric wins: so a route of a routing daemon that keeps the prefix as its own to
 * announce, say, a blackhole, may stay. */
static bool loses(const struct seen_route *seen, const struct route *ours, bool translator)
{
	return !translator && seen->route.dst.len == ours->dst.len && !seen->tos && seen->route.metric > ours->metric;
}

static void route_conflict(struct search *s, const struct seen_route *seen, bool translator)
{
	const struct route *pool = &s->w->route[ROUTE_POOL], *icmp_src = &s->w->route[ROUTE_ICMP_SRC], *ours;
	char dev[IF_NAMESIZE] = "";
	char text[PREFIX_STRLEN];
	const char *option;

	/* Two may share an --icmp-src. */
	if (translator && prefix4_covers(&seen->route.dst, &icmp_src->dst) && seen->route.dst.len < 32) {
		s->found.err = reason(s->why, -EADDRINUSE, "--icmp-src %s: belongs to the prefix of another translator",
				      text4(icmp_src->dst).s);
		return;
	}
	ours = taken_from(s->w, &seen->route.dst, translator);
	if (!ours || loses(seen, ours, translator))
		return;
	if (seen->oif)
		if_indextoname(seen->oif, dev);
	option = ours == pool ? "-4" : "static mapping of";
	snprintf(text, sizeof(text), "%s", text4(ours->dst).s);
	if (translator)
		s->found.err = reason(s->why, -EADDRINUSE, "%s %s: %s is in use by the translator on %s", option, text,
				      text4(seen->route.dst).s, dev);
	else
		s->found.err = reason(s->why, -EADDRINUSE, "%s %s: there is already a route to %s%s%s", option, text,
				      text4(seen->route.dst).s, *dev ? " on " : "", dev);
}

/* Addresses of 192.0.0.0/24 that a route in the main table speaks of. (A route that leads nowhere, as for "bogons", may
 * cover them.) */
static void note_hops(struct search *s, const struct seen_route *seen, bool ours)
{
	struct hop_address *via = seen->route.via.family == AF_INET ? hops_at(s->hops, seen->route.via.v4) : NULL;
	const struct prefix4 *dst = &seen->route.dst;
	struct prefix4 addr = { .len = 32 };

	if (via && ours)
		via->route = true;
	else if (via)
		via->taken = true;
	for (__u32 i = 0; dst->len >= 24 && seen->type == RTN_UNICAST && i < 256; i++) {
		addr.addr = hop_address(i);
		if (prefix4_covers(dst, &addr))
			s->hops->of[i].taken = true;
	}
}

static bool is_kin(const struct wanted *w, __u32 ifindex)
{
	for (size_t i = 0; i < w->n_kin; i++)
		if (w->kin[i] == ifindex)
			return true;
	return false;
}

static void route_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct seen_route seen = { .table = rtm->rtm_table, .type = rtm->rtm_type, .tos = rtm->rtm_tos };
	struct search *s = data;
	bool translator = rtm->rtm_protocol == NAT64_RT_PROTOCOL, ours;
	struct route *more;

	seen.route.dst.len = rtm->rtm_dst_len;
	mnl_attr_parse(msg, sizeof(*rtm), route_attr, &seen);
	if (s->found.err || rtm->rtm_family != AF_INET || rtm->rtm_flags & RTM_F_CLONED || seen.table != RT_TABLE_MAIN)
		return;
	/* Of a run that was killed half way (route_set_both): the first is where it was to lead. */
	if (translator && !seen.oif)
		seen.oif = seen.first_oif;
	ours = translator && seen.oif == s->link->index;
	note_hops(s, &seen, ours);
	if (!ours) {
		if (s->w && !(translator && is_kin(s->w, seen.oif)))
			route_conflict(s, &seen, translator);
		return;
	}
	more = array_room(s->route, s->found.n_routes, sizeof(*more));
	if (!more) {
		s->found.err = reason(s->why, -ENOMEM, "%s", strerror(ENOMEM));
		return;
	}
	s->route = more;
	more[s->found.n_routes++] = seen.route;
}

/* The IPv6 route that an address would take */
struct lookup {
	struct prefix6 dst;
	__u32 oif;
	__u32 metric;
	__u8 type;
	__u8 protocol;
};

static int lookup_attr(const struct nlattr *attr, void *data)
{
	__u16 len = mnl_attr_get_payload_len(attr);
	struct lookup *found = data;

	if (mnl_attr_get_type(attr) == RTA_DST && len == sizeof(found->dst.addr))
		memcpy(&found->dst.addr, mnl_attr_get_payload(attr), len);
	if (mnl_attr_get_type(attr) == RTA_OIF && len == sizeof(found->oif))
		found->oif = mnl_attr_get_u32(attr);
	if (mnl_attr_get_type(attr) == RTA_PRIORITY && len == sizeof(found->metric))
		found->metric = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static void lookup_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct lookup *found = data;

	found->dst.len = rtm->rtm_dst_len;
	found->type = rtm->rtm_type;
	found->protocol = rtm->rtm_protocol;
	mnl_attr_parse(msg, sizeof(*rtm), lookup_attr, found);
}

static int v6_conflict(struct prefix6 v6_prefix, const struct lookup *found, struct reason *why)
{
	char text[PREFIX_STRLEN], dev[IF_NAMESIZE] = "?";

	snprintf(text, sizeof(text), "%s", text6(v6_prefix).s);
	if_indextoname(found->oif, dev);
	return reason(why, -EADDRINUSE, "-6 %s: there is already a route to %s on %s", text, text6(found->dst).s, dev);
}

/* The routes of the main table of a family. 0 or a negative errno; a namespace without any route has no table either. */
static int dump_main(struct nl *nl, __u8 family, void (*answer)(const struct nlmsghdr *msg, void *data), void *data,
		     size_t size)
{
	struct rtmsg *rtm;
	int err;

	nl_request(nl, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm), &rtm);
	rtm->rtm_family = family;
	rtm->rtm_table = RT_TABLE_MAIN;
	err = nl_talk(nl, answer, data, size);
	return err == -ENOENT ? 0 : err;
}

/* A part of the NAT64 prefix that leads elsewhere, or all of it */
static int check_v6_prefix(struct nl *nl, const struct link *link, struct prefix6 v6_prefix, struct reason *why)
{
	struct lookup found = { .type = RTN_UNSPEC };
	struct nlmsghdr *msg;
	struct rtmsg *rtm;

	msg = nl_request(nl, RTM_GETROUTE, 0, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET6;
	rtm->rtm_dst_len = 128;
	rtm->rtm_flags = RTM_F_FIB_MATCH;
	mnl_attr_put(msg, RTA_DST, sizeof(v6_prefix.addr), &v6_prefix.addr);
	if (nl_talk(nl, lookup_answer, &found, sizeof(found)) || !found.dst.len || found.oif == link->index ||
	    !prefix6_covers(&v6_prefix, &found.dst))
		return 0;
	/* What comes to an interface is translated before it is routed: a route that says no, or to a device of ours, is fine. */
	if (found.type != RTN_UNICAST || found.protocol == NAT64_RT_PROTOCOL)
		return 0;
	return v6_conflict(v6_prefix, &found, why);
}

/* What a dump of IPv6 routes is looked through for: one that takes packets from a device of ours */
struct search6 {
	struct lookup found;
	const struct link *link;
	struct prefix6 v6_prefix;
};

static void route6_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct lookup seen = { .metric = 0 };
	struct search6 *s = data;

	lookup_answer(msg, &seen);
	if (rtm->rtm_family != AF_INET6 || rtm->rtm_flags & RTM_F_CLONED || s->found.dst.len ||
	    !prefix6_covers(&s->v6_prefix, &seen.dst) || (seen.oif == s->link->index && s->link->index) ||
	    (seen.dst.len == s->v6_prefix.len ? seen.metric > IP6_RT_PRIO_USER : seen.type != RTN_UNICAST))
		return;
	s->found = seen;
}

/* A route of somebody else's to the NAT64 prefix, or a part of it, that comes before the one to a device of ours. One that
 * says no to a part, to private addresses, say, may. */
static int check_v6_routes(struct nl *nl, const struct link *link, struct prefix6 v6_prefix, struct reason *why)
{
	struct search6 s = { .link = link, .v6_prefix = v6_prefix };
	int err = dump_main(nl, AF_INET6, route6_answer, &s, sizeof(s));

	if (err)
		return reason(why, err, "cannot list the IPv6 routes: %s", nl_error(nl, err));
	return s.found.dst.len ? v6_conflict(v6_prefix, &s.found, why) : 0;
}

int routes_wanted(struct nl *nl, const struct link *link, const struct options *o, struct wanted *w, struct reason *why)
{
	struct route common = { .mtu = link->mtu - IPV6_HEADER_GROWTH };
	int err = link->l3    ? 0
		  : link->own ? check_v6_routes(nl, link, o->v6_prefix, why)
			      : check_v6_prefix(nl, link, o->v6_prefix, why);

	*w = (struct wanted){ .n = ROUTE_STATIC, .o = o };
	if (err)
		return err;
	w->route = malloc((ROUTE_STATIC + o->statics.n) * sizeof(*w->route));
	if (!w->route)
		return reason(why, -ENOMEM, "%s", strerror(ENOMEM));
	w->route[ROUTE_POOL] = common;
	w->route[ROUTE_POOL].dst = o->v4_prefix;
	w->route[ROUTE_ICMP_SRC] = common;
	w->route[ROUTE_ICMP_SRC].dst = (struct prefix4){ o->icmp_src, 32 };
	w->route[ROUTE_ICMP_SRC].metric = link->index; /* so that several translators can have one */
	for (size_t i = 0; i < o->statics.n; i++) {
		const struct prefix4 *dst = &o->statics.list[i].v4;

		/* A prefix comes before what lies in it. */
		if (prefix4_covers(&o->v4_prefix, dst) ||
		    (w->n > ROUTE_STATIC && prefix4_covers(&w->route[w->n - 1].dst, dst)))
			continue;
		w->route[w->n] = common;
		w->route[w->n++].dst = *dst;
	}
	return 0;
}

void wanted_free(struct wanted *w)
{
	free(w->route);
	*w = (struct wanted){ 0 };
}

static int by_dst(const void *a, const void *b)
{
	const struct route *x = a, *y = b;
	__u32 m = be32_to(x->dst.addr), n = be32_to(y->dst.addr);

	if (m != n)
		return m < n ? -1 : 1;
	return (int)x->dst.len - (int)y->dst.len;
}

bool route_leads_to_none(const struct route *route)
{
	return route->dst.len == NAT64_V4_LEN_NONE && !~be32_to(route->dst.addr);
}

const struct route *routes_wanted_same(const struct wanted *w, const struct route *route)
{
	for (int i = 0; i < ROUTE_STATIC; i++)
		if (!by_dst(&w->route[i], route))
			return &w->route[i];
	return bsearch(route, w->route + ROUTE_STATIC, w->n - ROUTE_STATIC, sizeof(*route), by_dst);
}

bool route_is_wanted(const struct wanted *w, const struct route *route)
{
	return routes_wanted_same(w, route);
}

int routes_find(struct nl *nl, const struct link *link, const struct wanted *w, struct routes *r, struct reason *why)
{
	struct search s = { .link = link, .w = w, .why = why, .hops = &r->hops };
	int err;

	*r = (struct routes){ 0 };
	err = dump_main(nl, AF_INET, route_answer, &s, sizeof(s.found));
	if (err)
		reason(why, err, "cannot list the routes: %s", nl_error(nl, err));
	err = err ? err : s.found.err;
	if (s.found.n_routes)
		qsort(s.route, s.found.n_routes, sizeof(*s.route), by_dst);
	r->route = s.route;
	r->n_routes = s.found.n_routes;
	return err ? err : hops_find(nl, link, &r->hops, why);
}

void routes_free(struct routes *r)
{
	free(r->route);
	hops_free(&r->hops);
	*r = (struct routes){ 0 };
}

bool routes_are_none(const struct routes *r)
{
	bool some = r->n_routes || r->hops.n_neigh6;

	for (size_t i = 0; i < sizeof(r->hops.of) / sizeof(*r->hops.of); i++)
		some |= r->hops.of[i].broadcast || r->hops.of[i].permanent;
	return !some;
}

int routes_choose_hop(const struct link *link, const struct routes *r, struct wanted *w, struct reason *why)
{
	int err = link->l3 ? 0 : hops_choose(&r->hops, link, w->o, &w->hop, why);

	for (size_t i = 0; !err && i < w->n; i++)
		w->route[i].via = w->hop;
	return err;
}

/* The IPv4 default route that counts */
struct way_out {
	bool found;
	__u32 oif, metric;
};

static void default_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct seen_route seen = { .table = rtm->rtm_table };
	struct way_out *best = data;

	if (rtm->rtm_dst_len || rtm->rtm_type != RTN_UNICAST)
		return;
	mnl_attr_parse(msg, sizeof(*rtm), route_attr, &seen);
	if (!best->found || best->metric > seen.route.metric)
		*best = (struct way_out){ true, seen.oif, seen.route.metric };
}

int route_default4(struct nl *nl, __u32 *oif)
{
	struct way_out best = { 0 };
	int err = dump_main(nl, AF_INET, default_answer, &best, sizeof(best));

	*oif = best.oif;
	return err ? err : best.found ? 0 : -ENOENT;
}

const struct route *routes_same_dst(const struct routes *r, const struct route *wanted)
{
	return r->n_routes ? bsearch(wanted, r->route, r->n_routes, sizeof(*wanted), by_dst) : NULL;
}

bool route_equal(const struct route *a, const struct route *b)
{
	return a->dst.addr == b->dst.addr && a->dst.len == b->dst.len && a->mtu == b->mtu && a->metric == b->metric &&
	       hop_equal(&a->via, &b->via);
}

static struct nlmsghdr *set_request(struct nl *nl, const struct route *route, bool replace)
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
	rtm->rtm_scope = route->via.family ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	mnl_attr_put(msg, RTA_DST, sizeof(route->dst.addr), &route->dst.addr);
	if (route->metric)
		mnl_attr_put_u32(msg, RTA_PRIORITY, route->metric);
	metrics = mnl_attr_nest_start(msg, RTA_METRICS);
	mnl_attr_put_u32(msg, RTAX_MTU, route->mtu);
	mnl_attr_nest_end(msg, metrics);
	return msg;
}

static void put_hop(struct nlmsghdr *msg, const struct hop *hop)
{
	struct via6 via = { .family = AF_INET6, .addr = hop->v6 };

	if (hop->family == AF_INET)
		mnl_attr_put(msg, RTA_GATEWAY, sizeof(hop->v4), &hop->v4);
	if (hop->family == AF_INET6)
		mnl_attr_put(msg, RTA_VIA, sizeof(via), &via);
}

int route_set(struct nl *nl, const struct link *link, const struct route *route, bool replace)
{
	struct nlmsghdr *msg = set_request(nl, route, replace);
	struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);

	if (route->via.family)
		rtm->rtm_flags = RTNH_F_ONLINK;
	mnl_attr_put_u32(msg, RTA_OIF, link->index);
	put_hop(msg, &route->via);
	return nl_talk(nl, NULL, NULL, 0);
}

static void put_path(struct nlmsghdr *msg, const struct link *link, const struct hop *via)
{
	struct rtnexthop *path = mnl_nlmsg_get_payload_tail(msg);

	*path = (struct rtnexthop){ .rtnh_ifindex = (int)link->index, .rtnh_flags = via->family ? RTNH_F_ONLINK : 0 };
	msg->nlmsg_len += NLMSG_ALIGN(sizeof(*path));
	put_hop(msg, via);
	path->rtnh_len = (char *)mnl_nlmsg_get_payload_tail(msg) - (char *)path;
}

int route_set_both(struct nl *nl, const struct link *link, const struct route *route, const struct link *other,
		   const struct hop *via)
{
	struct nlmsghdr *msg = set_request(nl, route, true);
	struct nlattr *paths = mnl_attr_nest_start(msg, RTA_MULTIPATH);

	put_path(msg, link, &route->via);
	put_path(msg, other, via);
	mnl_attr_nest_end(msg, paths);
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
