// SPDX-License-Identifier: GPL-2.0-or-later
/* route.c - the routes that lead to the translator, and the neighbour that they go via */
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
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

/* What a dump is looked through for. The first is what a dump that starts again must find as it was. */
struct search {
	struct {
		size_t n_routes;
		size_t n_neighs;
		bool neigh_stale;
		int err;
	} found;
	struct route *route; /* room for powers of two */
	union nat64_v6 *neigh;
	const struct link *link;
	const struct wanted *w; /* or NULL */
	struct reason *why;
};

/* Makes room for one more of `n` things of `size`, at powers of two. NULL: no memory. */
static void *room(void *list, size_t n, size_t size)
{
	return n & (n - 1) ? list : realloc(list, (n ? 2 * n : 1) * size);
}

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
	return behind && takes(&behind->dst, dst) ? behind : NULL;
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
	if (!ours)
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

static void route_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct seen_route seen = { .table = rtm->rtm_table };
	struct search *s = data;
	bool translator = rtm->rtm_protocol == NAT64_RT_PROTOCOL;
	struct route *more;

	seen.route.dst.len = rtm->rtm_dst_len;
	mnl_attr_parse(msg, sizeof(*rtm), route_attr, &seen);
	if (s->found.err || rtm->rtm_family != AF_INET || rtm->rtm_flags & RTM_F_CLONED || seen.table != RT_TABLE_MAIN)
		return;
	if (!translator || seen.oif != s->link->index) {
		if (s->w)
			route_conflict(s, &seen, translator);
		return;
	}
	more = room(s->route, s->found.n_routes, sizeof(*more));
	if (!more) {
		s->found.err = reason(s->why, -ENOMEM, "%s", strerror(ENOMEM));
		return;
	}
	s->route = more;
	more[s->found.n_routes++] = seen.route;
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
	union nat64_v6 *more;

	mnl_attr_parse(msg, sizeof(*ndm), neigh_attr, &seen);
	if (s->found.err || ndm->ndm_family != AF_INET6 || ndm->ndm_ifindex != (int)s->link->index)
		return;
	if (seen.protocol == NAT64_RT_PROTOCOL) {
		more = room(s->neigh, s->found.n_neighs, sizeof(*more));
		if (!more) {
			s->found.err = reason(s->why, -ENOMEM, "%s", strerror(ENOMEM));
			return;
		}
		s->neigh = more;
		more[s->found.n_neighs++] = seen.addr;
		return;
	}
	if (!s->w || !s->w->route->has_via || memcmp(&seen.addr, &s->w->route->via, sizeof(seen.addr)))
		return;
	if (ndm->ndm_state & (NUD_NONE | NUD_INCOMPLETE | NUD_FAILED) || !ndm->ndm_state)
		s->found.neigh_stale = true;
	else
		s->found.err = reason(s->why, -EADDRINUSE,
				      "%s: %s already has a neighbour entry there, not made by nat64", s->link->name,
				      text6((struct prefix6){ seen.addr, 128 }).s);
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

int routes_wanted(struct nl *nl, const struct link *link, const struct options *o, struct wanted *w, struct reason *why)
{
	struct route common = { .has_via = !link->l3, .mtu = link->mtu - IPV6_HEADER_GROWTH };
	int err = link->l3 ? 0 : find_via(nl, link, o->v6_prefix, &common.via, why);

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

bool route_is_wanted(const struct wanted *w, const struct route *route)
{
	if (!w)
		return false;
	for (int i = 0; i < ROUTE_STATIC; i++)
		if (!by_dst(&w->route[i], route))
			return true;
	return bsearch(route, w->route + ROUTE_STATIC, w->n - ROUTE_STATIC, sizeof(*route), by_dst);
}

static int find_routes(struct nl *nl, struct search *s)
{
	struct rtmsg *rtm;
	int err;

	nl_request(nl, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET;
	rtm->rtm_table = RT_TABLE_MAIN;
	err = nl_talk(nl, route_answer, s, sizeof(s->found));
	return err == -ENOENT ? 0 : err; /* a namespace without any route has no table either */
}

static int find_neighs(struct nl *nl, struct search *s)
{
	struct nlmsghdr *msg;
	struct ndmsg *ndm;

	msg = nl_request(nl, RTM_GETNEIGH, NLM_F_DUMP, sizeof(*ndm), &ndm);
	ndm->ndm_family = AF_INET6;
	mnl_attr_put_u32(msg, NDA_IFINDEX, s->link->index);
	return nl_talk(nl, neigh_answer, s, sizeof(s->found));
}

int routes_find(struct nl *nl, const struct link *link, const struct wanted *w, struct routes *r, struct reason *why)
{
	struct search s = { .link = link, .w = w, .why = why };
	int err;

	err = find_routes(nl, &s);
	if (err)
		reason(why, err, "cannot list the routes: %s", nl_error(nl, err));
	err = err ? err : s.found.err;
	if (!err) {
		err = find_neighs(nl, &s);
		if (err)
			reason(why, err, "cannot list the neighbours: %s", nl_error(nl, err));
	}
	if (s.found.n_routes)
		qsort(s.route, s.found.n_routes, sizeof(*s.route), by_dst);
	*r = (struct routes){ s.route, s.found.n_routes, s.neigh, s.found.n_neighs, s.found.neigh_stale };
	return err ? err : s.found.err;
}

void routes_free(struct routes *r)
{
	free(r->route);
	free(r->neigh);
	*r = (struct routes){ 0 };
}

const struct route *routes_same_dst(const struct routes *r, const struct route *wanted)
{
	return r->n_routes ? bsearch(wanted, r->route, r->n_routes, sizeof(*wanted), by_dst) : NULL;
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
