// SPDX-License-Identifier: GPL-2.0-or-later
/* hints.c - warns of options that work, but are probably not what was meant */
#include <linux/rtnetlink.h>
#include <string.h>

#include "health.h"
#include "hints.h"
#include "kernel.h"
#include "nft.h"
#include "route.h"
#include "sysctl.h"

static void hint_forwarding(struct nl *nl, const struct link *link)
{
	struct problems p = { .n = 0 };

	health_forwarding(nl, link, &p);
	for (size_t i = 0; i < p.n; i++)
		msg_warn("%s: %s", link->name, p.list[i].text);
}

/* IPv4 hosts on the same link send us what is for the pool. It goes out again by the interface that it came in by: so the
 * kernel tells them of a shorter way, by a redirect to a next hop that is no host. */
static void hint_redirects(struct nl *nl, const struct link *link)
{
	bool all = sysctl_read("net/ipv4/conf/all", NULL, "send_redirects") > 0;
	bool there = sysctl_read("net/ipv4/conf", link->name, "send_redirects") > 0;
	struct sysctl_name dotted = sysctl_name(link->name);
	struct link with = *link;

	if (!(all || there) || links_find_v4(nl, &with, 1) || !with.has_v4)
		return;
	msg_warn("%s: IPv4 hosts there will be sent ICMP redirects about the IPv4 prefix (sysctl %s%s%s%s%s)",
		 link->name, all ? "net.ipv4.conf.all.send_redirects=0" : "", all && there ? " " : "",
		 there ? "net.ipv4.conf." : "", there ? dotted.s : "", there ? ".send_redirects=0" : "");
}

/* Hosts and DNS64 servers that use the well-known prefix expect the IPv4 address behind 96 bits. With another prefix length
 * it is elsewhere. */
static void hint_prefix(const struct options *o)
{
	static const union nat64_v6 well_known = { .b = { 0x00, 0x64, 0xff, 0x9b } };

	if (o->v6_prefix.len != 96 && v6_same(&o->v6_prefix.addr, &well_known))
		msg_warn("-6 %s: the well-known prefix, which others expect there, is 64:ff9b::/96",
			 text6(o->v6_prefix).s);
}

/* A route of a dump */
struct seen {
	struct prefix6 dst;
	__u32 oif;
};

static int route_attr(const struct nlattr *attr, void *data)
{
	__u16 type = mnl_attr_get_type(attr), len = mnl_attr_get_payload_len(attr);
	struct seen *seen = data;

	if (type == RTA_DST && len == sizeof(seen->dst.addr))
		memcpy(&seen->dst.addr, mnl_attr_get_payload(attr), len);
	if (type == RTA_OIF && len == sizeof(seen->oif))
		seen->oif = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static void hint_side(struct nl *nl, const struct link *link)
{
	__u32 way_out;

	if (!route_default4(nl, &way_out) && way_out == link->index)
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

/* Warns if IPv6 networks are known to be behind the interface and -a allows none of their hosts. If none is known, hosts may
 * still come. */
static void hint_allowed(struct nl *nl, const struct link *link, const struct options *o)
{
	struct behind b = { .link = link, .o = o };
	char text[PREFIX_STRLEN];
	struct rtmsg *rtm;

	nl_request(nl, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET6;
	rtm->rtm_table = RT_TABLE_MAIN;
	if (link->own || !o->n_allowed || nl_talk(nl, behind_answer, &b, sizeof(b)) || b.allowed || !b.other.len)
		return;
	snprintf(text, sizeof(text), "%s", text6(b.other).s);
	msg_warn("-a %s%s: holds none of the hosts behind %s, which has %s: they will be refused",
		 text6(o->allowed[0]).s, o->n_allowed > 1 ? ", ..." : "", link->name, text);
}

static void hint_fast(const struct options *o)
{
	struct nft_rule rule;

	if ((o->fast || o->xdp) && nft_changes_source(&o->v4_prefix, &rule))
		msg_warn(
			"--%s: goes past NAT44, so that the rule in nftables' table %s, chain %s hides no addresses of %s",
			o->fast ? "fast" : "xdp", rule.table, rule.chain, text4(o->v4_prefix).s);
}

void hints_port(struct nl *nl, const struct link *link, const struct options *o)
{
	hint_side(nl, link);
	hint_allowed(nl, link, o);
}

void hints(struct nl *nl, const struct link *link, const struct options *o)
{
	hint_forwarding(nl, link);
	if (kernel_interleaves())
		msg_warn("%s", KERNEL_INTERLEAVES);
	hint_redirects(nl, link);
	hint_prefix(o);
	if (!link->own) /* or nobody is behind it */
		hints_port(nl, link, o);
	hint_fast(o);
}
