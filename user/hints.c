// SPDX-License-Identifier: GPL-2.0-or-later
/* hints.c - what works, and is probably not what was meant */
#include <linux/rtnetlink.h>
#include <string.h>

#include "hints.h"
#include "nft.h"
#include "sysctl.h"

static void hint_forwarding(const struct link *link)
{
	struct sysctl_name dotted = sysctl_name(link->name);

	if (!sysctl_read("net/ipv4", NULL, "ip_forward"))
		msg_warn("%s: IPv4 forwarding is off (sysctl net.ipv4.ip_forward=1)", link->name);
	else if (!sysctl_read("net/ipv4/conf", link->name, "forwarding"))
		msg_warn("%s: IPv4 forwarding is off there (sysctl net.ipv4.conf.%s.forwarding=1)", link->name,
			 dotted.s);
	if (!sysctl_read("net/ipv6/conf/all", NULL, "forwarding"))
		msg_warn("%s: IPv6 forwarding is off (sysctl net.ipv6.conf.all.forwarding=1)", link->name);
	else if (!sysctl_read("net/ipv6/conf", link->name, "forwarding"))
		msg_warn("%s: IPv6 forwarding is off there (sysctl net.ipv6.conf.%s.forwarding=1)", link->name,
			 dotted.s);
}

/* Hosts and DNS64 servers embed addresses behind 64:ff9b::/96, and at another place in longer rests of addresses. */
static void hint_prefix(const struct options *o)
{
	static const union nat64_v6 well_known = { .b = { 0x00, 0x64, 0xff, 0x9b } };

	if (o->v6_prefix.len != 96 && !memcmp(&o->v6_prefix.addr, &well_known, sizeof(well_known)))
		msg_warn("-6 %s: the well-known prefix, which others expect there, is 64:ff9b::/96",
			 text6(o->v6_prefix).s);
}

/* A route of a dump */
struct seen {
	struct prefix6 dst;
	__u32 oif, metric, table;
};

static int route_attr(const struct nlattr *attr, void *data)
{
	__u16 type = mnl_attr_get_type(attr), len = mnl_attr_get_payload_len(attr);
	struct seen *seen = data;

	if (type == RTA_DST && len == sizeof(seen->dst.addr))
		memcpy(&seen->dst.addr, mnl_attr_get_payload(attr), len);
	if (type == RTA_OIF && len == sizeof(seen->oif))
		seen->oif = mnl_attr_get_u32(attr);
	if (type == RTA_PRIORITY && len == sizeof(seen->metric))
		seen->metric = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int dump_routes(struct nl *nl, __u8 family, nl_cb cb, void *data, size_t size)
{
	struct rtmsg *rtm;

	nl_request(nl, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm), &rtm);
	rtm->rtm_family = family;
	rtm->rtm_table = RT_TABLE_MAIN;
	return nl_talk(nl, cb, data, size);
}

/* The IPv4 default route that counts */
struct way_out {
	bool found;
	__u32 oif, metric;
};

static void default_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct way_out *best = data;
	struct seen seen = { 0 };

	mnl_attr_parse(msg, sizeof(*rtm), route_attr, &seen);
	if (rtm->rtm_dst_len || rtm->rtm_type != RTN_UNICAST || (best->found && best->metric <= seen.metric))
		return;
	*best = (struct way_out){ true, seen.oif, seen.metric };
}

static void hint_side(struct nl *nl, const struct link *link)
{
	struct way_out best = { 0 };

	if (!dump_routes(nl, AF_INET, default_answer, &best, sizeof(best)) && best.found && best.oif == link->index)
		msg_warn(
			"-i %s: the IPv4 default route leads out there; is it the interface that faces the IPv6 hosts?",
			link->name);
}

/* Routes to IPv6 hosts behind the interface */
struct behind {
	const struct link *link;
	const struct options *o;
	bool allowed;	      /* some of them are */
	struct prefix6 other; /* one of those that are not, with length 0 if there is none */
};

static bool is_allowed(const struct options *o, const struct prefix6 *p)
{
	for (size_t i = 0; i < o->n_allowed; i++)
		if (prefix6_overlap(&o->allowed[i], p))
			return true;
	for (size_t i = 0; i < o->statics.n; i++)
		if (prefix6_overlap(&o->statics.list[i].v6, p))
			return true;
	return false;
}

static void behind_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct seen seen = { .dst.len = rtm->rtm_dst_len };
	struct behind *b = data;

	mnl_attr_parse(msg, sizeof(*rtm), route_attr, &seen);
	if (rtm->rtm_family != AF_INET6 || rtm->rtm_type != RTN_UNICAST || rtm->rtm_flags & RTM_F_CLONED ||
	    seen.oif != b->link->index || prefix6_within_special(&seen.dst))
		return;
	if (is_allowed(b->o, &seen.dst))
		b->allowed = true;
	else if (!b->other.len)
		b->other = seen.dst;
}

/* Hosts may come later, and where nothing is known to be there is nothing to say. */
static void hint_allowed(struct nl *nl, const struct link *link, const struct options *o)
{
	struct behind b = { .link = link, .o = o };
	char text[PREFIX_STRLEN];

	if (!o->n_allowed || dump_routes(nl, AF_INET6, behind_answer, &b, sizeof(b)) || b.allowed || !b.other.len)
		return;
	snprintf(text, sizeof(text), "%s", text6(b.other).s);
	msg_warn("-a %s%s: holds none of the hosts behind %s, which has %s: they will be refused",
		 text6(o->allowed[0]).s, o->n_allowed > 1 ? ", ..." : "", link->name, text);
}

static void hint_fast(const struct options *o)
{
	struct nft_rule rule;

	if (o->fast && nft_changes_source(&o->v4_prefix, &rule))
		msg_warn(
			"--fast: goes past NAT44, so that the rule in nftables' table %s, chain %s hides no addresses of %s",
			rule.table, rule.chain, text4(o->v4_prefix).s);
}

void hints(struct nl *nl, const struct link *link, const struct options *o)
{
	hint_forwarding(link);
	hint_prefix(o);
	hint_side(nl, link);
	hint_allowed(nl, link, o);
	hint_fast(o);
}
