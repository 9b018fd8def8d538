// SPDX-License-Identifier: GPL-2.0-or-later
/* hop.c - the next hop that the routes to the translator go via, on Ethernet */
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "hop.h"

#define HOPS_NET 0xc0000000 /* 192.0.0.0/24, IETF protocol assignments */

/* Nobody's: of the others, 0 to 10, 170 and 171 mean something. */
#define HOP_FIRST 11
#define HOP_LAST  169

/* States in which the kernel knows the MAC address, and not because it made one up */
#define NUD_KNOWN (NUD_PERMANENT | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE)

static const __u8 MAC[6] = NAT64_HOP_MAC;

__be32 hop_address(__u32 i)
{
	return be32_from(HOPS_NET | i);
}

struct hop_address *hops_at(struct hops *h, __be32 addr)
{
	return (be32_to(addr) & ~0xffU) == HOPS_NET ? &h->of[be32_to(addr) & 0xff] : NULL;
}

/* What a dump is looked through for. What only says that something is there may be said twice, if a dump starts again;
 * .found is as it was then. */
struct search {
	struct {
		size_t n_neigh6;
		bool no_memory;
	} found;
	const struct link *link;
	struct hops *h;
};

/* The attributes of one neighbour */
struct seen_neigh {
	__be32 v4;
	union nat64_v6 v6;
	__u8 protocol;
};

static int neigh_attr(const struct nlattr *attr, void *data)
{
	const void *payload = mnl_attr_get_payload(attr);
	__u16 len = mnl_attr_get_payload_len(attr);
	struct seen_neigh *seen = data;

	if (mnl_attr_get_type(attr) == NDA_DST && len == sizeof(seen->v4))
		memcpy(&seen->v4, payload, len);
	if (mnl_attr_get_type(attr) == NDA_DST && len == sizeof(seen->v6))
		memcpy(&seen->v6, payload, len);
	if (mnl_attr_get_type(attr) == NDA_PROTOCOL && len == sizeof(seen->protocol))
		seen->protocol = mnl_attr_get_u8(attr);
	return MNL_CB_OK;
}

static void neigh4(struct search *s, const struct ndmsg *ndm, const struct seen_neigh *seen)
{
	struct hop_address *a = hops_at(s->h, seen->v4);

	if (!a)
		return;
	a->neigh = true;
	a->unresolved = ndm->ndm_state & (NUD_INCOMPLETE | NUD_FAILED);
	a->permanent = seen->protocol == NAT64_RT_PROTOCOL && ndm->ndm_state & NUD_PERMANENT;
	/* Somebody has this address, or says so. */
	if (seen->protocol != NAT64_RT_PROTOCOL && ndm->ndm_state & NUD_KNOWN)
		a->taken = true;
}

static void neigh6(struct search *s, const struct seen_neigh *seen)
{
	union nat64_v6 *more;

	if (seen->protocol != NAT64_RT_PROTOCOL)
		return;
	more = array_room(s->h->neigh6, s->found.n_neigh6, sizeof(*more));
	if (!more) {
		s->found.no_memory = true;
		return;
	}
	s->h->neigh6 = more;
	more[s->found.n_neigh6++] = seen->v6;
}

static void neigh_answer(const struct nlmsghdr *msg, void *data)
{
	const struct ndmsg *ndm = mnl_nlmsg_get_payload(msg);
	struct seen_neigh seen = { 0 };
	struct search *s = data;

	mnl_attr_parse(msg, sizeof(*ndm), neigh_attr, &seen);
	if (ndm->ndm_ifindex != (int)s->link->index)
		return;
	if (ndm->ndm_family == AF_INET)
		neigh4(s, ndm, &seen);
	else if (ndm->ndm_family == AF_INET6)
		neigh6(s, &seen);
}

/* The attributes of one local route */
struct seen_local {
	__be32 dst;
	__u32 table;
	__u32 oif;
};

static int local_attr(const struct nlattr *attr, void *data)
{
	__u16 len = mnl_attr_get_payload_len(attr);
	struct seen_local *seen = data;

	if (mnl_attr_get_type(attr) == RTA_DST && len == sizeof(seen->dst))
		memcpy(&seen->dst, mnl_attr_get_payload(attr), len);
	if (mnl_attr_get_type(attr) == RTA_TABLE && len == sizeof(seen->table))
		seen->table = mnl_attr_get_u32(attr);
	if (mnl_attr_get_type(attr) == RTA_OIF && len == sizeof(seen->oif))
		seen->oif = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static void local_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct seen_local seen = { .table = rtm->rtm_table };
	struct search *s = data;
	struct hop_address *a;

	mnl_attr_parse(msg, sizeof(*rtm), local_attr, &seen);
	if (rtm->rtm_family != AF_INET || rtm->rtm_flags & RTM_F_CLONED || seen.table != RT_TABLE_LOCAL)
		return;
	a = rtm->rtm_dst_len == 32 ? hops_at(s->h, seen.dst) : NULL;
	if (!a)
		return;
	if (rtm->rtm_type == RTN_BROADCAST && rtm->rtm_protocol == NAT64_RT_PROTOCOL && seen.oif == s->link->index)
		a->broadcast = true;
	else
		a->taken = true;
}

static int find_local(struct nl *nl, struct search *s)
{
	struct rtmsg *rtm;
	int err;

	nl_request(nl, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET;
	rtm->rtm_table = RT_TABLE_LOCAL;
	err = nl_talk(nl, local_answer, s, sizeof(s->found));
	s->h->no_table = err == -ENOENT;
	return s->h->no_table ? 0 : err;
}

static int find_neighs(struct nl *nl, struct search *s, __u8 family)
{
	struct nlmsghdr *msg;
	struct ndmsg *ndm;

	msg = nl_request(nl, RTM_GETNEIGH, NLM_F_DUMP, sizeof(*ndm), &ndm);
	ndm->ndm_family = family;
	mnl_attr_put_u32(msg, NDA_IFINDEX, s->link->index);
	return nl_talk(nl, neigh_answer, s, sizeof(s->found));
}

int hops_find(struct nl *nl, const struct link *link, struct hops *h, struct reason *why)
{
	struct search s = { .found.n_neigh6 = h->n_neigh6, .link = link, .h = h };
	int err;

	err = find_local(nl, &s);
	if (err)
		return reason(why, err, "cannot list the local routes: %s", nl_error(nl, err));
	err = find_neighs(nl, &s, AF_INET);
	err = err ? err : find_neighs(nl, &s, AF_INET6);
	h->n_neigh6 = s.found.n_neigh6;
	if (err)
		return reason(why, err, "cannot list the neighbours: %s", nl_error(nl, err));
	return s.found.no_memory ? reason(why, -ENOMEM, "%s", strerror(ENOMEM)) : 0;
}

void hops_free(struct hops *h)
{
	free(h->neigh6);
	*h = (struct hops){ 0 };
}

static bool is_free(const struct hops *h, const struct options *o, __u32 i)
{
	struct prefix4 addr = { hop_address(i), 32 };

	if (i < HOP_FIRST || i > HOP_LAST || h->of[i].taken || addr.addr == o->icmp_src ||
	    prefix4_covers(&o->v4_prefix, &addr))
		return false;
	for (size_t k = 0; k < o->statics.n; k++)
		if (o->statics.list[k].v4.len && prefix4_covers(&o->statics.list[k].v4, &addr))
			return false;
	return true;
}

int hops_choose(const struct hops *h, const struct link *link, const struct options *o, struct hop *hop,
		struct reason *why)
{
	const __u32 n = HOP_LAST - HOP_FIRST + 1;

	*hop = (struct hop){ .family = AF_INET };
	for (__u32 i = HOP_FIRST; i <= HOP_LAST; i++) {
		if ((h->of[i].broadcast || h->of[i].route) && is_free(h, o, i)) {
			hop->v4 = hop_address(i);
			return 0;
		}
	}
	/* Translators that are loaded at the same time for the first time start from different ones. */
	for (__u32 k = 0; k < n; k++) {
		__u32 i = HOP_FIRST + (link->index + k) % n;

		if (is_free(h, o, i)) {
			hop->v4 = hop_address(i);
			return 0;
		}
	}
	return reason(why, -EADDRINUSE, "no address of 192.0.0.0/24 is left for the next hop of the routes");
}

int hop_broadcast(struct nl *nl, const struct link *link, __be32 addr, bool on)
{
	struct nlmsghdr *msg;
	struct rtmsg *rtm;

	msg = nl_request(nl, on ? RTM_NEWROUTE : RTM_DELROUTE, on ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET;
	rtm->rtm_dst_len = 32;
	rtm->rtm_table = RT_TABLE_LOCAL;
	rtm->rtm_protocol = NAT64_RT_PROTOCOL;
	rtm->rtm_type = RTN_BROADCAST;
	rtm->rtm_scope = RT_SCOPE_LINK;
	mnl_attr_put(msg, RTA_DST, sizeof(addr), &addr);
	mnl_attr_put_u32(msg, RTA_OIF, link->index);
	return nl_talk(nl, NULL, NULL, 0);
}

int hop_neigh_set(struct nl *nl, const struct link *link, __be32 addr)
{
	struct nlmsghdr *msg;
	struct ndmsg *ndm;

	msg = nl_request(nl, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*ndm), &ndm);
	ndm->ndm_family = AF_INET;
	ndm->ndm_ifindex = link->index;
	ndm->ndm_state = NUD_PERMANENT;
	mnl_attr_put(msg, NDA_DST, sizeof(addr), &addr);
	mnl_attr_put(msg, NDA_LLADDR, sizeof(MAC), MAC);
	mnl_attr_put_u8(msg, NDA_PROTOCOL, NAT64_RT_PROTOCOL);
	return nl_talk(nl, NULL, NULL, 0);
}

int hop_neigh_del(struct nl *nl, const struct link *link, const struct hop *hop)
{
	struct nlmsghdr *msg;
	struct ndmsg *ndm;
	int err;

	msg = nl_request(nl, RTM_DELNEIGH, 0, sizeof(*ndm), &ndm);
	ndm->ndm_family = hop->family;
	ndm->ndm_ifindex = link->index;
	if (hop->family == AF_INET)
		mnl_attr_put(msg, NDA_DST, sizeof(hop->v4), &hop->v4);
	else
		mnl_attr_put(msg, NDA_DST, sizeof(hop->v6), &hop->v6);
	err = nl_talk(nl, NULL, NULL, 0);
	return err == -ENOENT ? 0 : err; /* those of the kernel come and go */
}

int hops_make_table(struct nl *nl, const struct link *link, const struct hops *h, __be32 addr)
{
	int err = h->no_table ? hop_broadcast(nl, link, addr, true) : 0;

	return err || !h->no_table ? err : hop_broadcast(nl, link, addr, false);
}

bool hop_equal(const struct hop *a, const struct hop *b)
{
	return a->family == b->family && (a->family != AF_INET || a->v4 == b->v4) &&
	       (a->family != AF_INET6 || v6_same(&a->v6, &b->v6));
}

struct prefix_text hop_text(const struct hop *hop)
{
	return hop->family == AF_INET ? text4((struct prefix4){ hop->v4, 32 })
				      : text6((struct prefix6){ hop->v6, 128 });
}
