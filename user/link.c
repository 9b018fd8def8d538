// SPDX-License-Identifier: GPL-2.0-or-later
/* link.c - the interface: what it is, and whether it can carry a translator */
#include <errno.h>
#include <netinet/in.h>
#include <net/if.h> /* before linux/if_arp.h, which then leaves out what it has in common with it */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_tunnel.h>
#include <linux/rtnetlink.h>

#include "array.h"
#include "kernel.h"
#include "link.h"
#include "sysctl.h"

#define MIN_IPV6_MTU	  1280
#define GRO_IPV4_MAX_SIZE 64 /* IFLA_GRO_IPV4_MAX_SIZE, Linux 6.3 */

/* Interfaces on whose frames the IP header comes first. Others that are not Ethernet (InfiniBand, IEEE 802.15.4, …)
 * have headers that the translator does not know. */
static bool is_l3(unsigned short type)
{
	switch (type) {
	case ARPHRD_NONE: /* tun, WireGuard, XFRM */
	case ARPHRD_RAWIP:
	case ARPHRD_PPP:
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
	case ARPHRD_IPGRE:
	case ARPHRD_IP6GRE:
		return true;
	default:
		return false;
	}
}

/* Of a sit or ip6tnl tunnel: the protocol that it is for, if it is for one. */
static int tunnel_attr(const struct nlattr *attr, void *data)
{
	struct link *link = data;

	if (mnl_attr_get_type(attr) == IFLA_IPTUN_PROTO && !mnl_attr_validate(attr, MNL_TYPE_U8))
		link->v4_only = mnl_attr_get_u8(attr) == IPPROTO_IPIP;
	return MNL_CB_OK;
}

static int linkinfo_attr(const struct nlattr *attr, void *data)
{
	struct link *link = data;
	char *kind = mnl_attr_get_type(attr) == IFLA_INFO_KIND	       ? link->kind
		     : mnl_attr_get_type(attr) == IFLA_INFO_SLAVE_KIND ? link->port
								       : NULL;

	if (kind && !mnl_attr_validate(attr, MNL_TYPE_STRING))
		snprintf(kind, sizeof(link->kind), "%.*s", mnl_attr_get_payload_len(attr), mnl_attr_get_str(attr));
	if (mnl_attr_get_type(attr) == IFLA_INFO_DATA && (!strcmp(link->kind, "sit") || !strcmp(link->kind, "ip6tnl")))
		mnl_attr_parse_nested(attr, tunnel_attr, link);
	return MNL_CB_OK;
}

static int xdp_attr(const struct nlattr *attr, void *data)
{
	struct link *link = data;

	if (mnl_attr_get_type(attr) == IFLA_XDP_ATTACHED && !mnl_attr_validate(attr, MNL_TYPE_U8))
		link->xdp_mode = mnl_attr_get_u8(attr);
	if (mnl_attr_get_type(attr) == IFLA_XDP_PROG_ID && !mnl_attr_validate(attr, MNL_TYPE_U32))
		link->xdp_id = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int link_attr(const struct nlattr *attr, void *data)
{
	struct link *link = data;

	if (mnl_attr_get_type(attr) == IFLA_XDP)
		mnl_attr_parse_nested(attr, xdp_attr, link);
	if ((mnl_attr_get_type(attr) == IFLA_GRO_MAX_SIZE || mnl_attr_get_type(attr) == GRO_IPV4_MAX_SIZE) &&
	    !mnl_attr_validate(attr, MNL_TYPE_U32) && mnl_attr_get_u32(attr) > link->gro_max)
		link->gro_max = mnl_attr_get_u32(attr);

	if (mnl_attr_get_type(attr) == IFLA_MTU && !mnl_attr_validate(attr, MNL_TYPE_U32))
		link->mtu = mnl_attr_get_u32(attr);
	if (mnl_attr_get_type(attr) == IFLA_MASTER && !mnl_attr_validate(attr, MNL_TYPE_U32))
		link->master = mnl_attr_get_u32(attr);
	if (mnl_attr_get_type(attr) == IFLA_LINK && !mnl_attr_validate(attr, MNL_TYPE_U32))
		link->lower = mnl_attr_get_u32(attr);
	if (mnl_attr_get_type(attr) == IFLA_IFALIAS && !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING))
		link->own = !strcmp(mnl_attr_get_str(attr), DEVICE_ALIAS);
	if (mnl_attr_get_type(attr) == IFLA_ADDRESS && mnl_attr_get_payload_len(attr) == ETH_ALEN)
		memcpy(&link->mac, mnl_attr_get_payload(attr), ETH_ALEN);
	if (mnl_attr_get_type(attr) == IFLA_LINKINFO)
		mnl_attr_parse_nested(attr, linkinfo_attr, link);
	if (mnl_attr_get_type(attr) == IFLA_IFNAME && !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING))
		strncpy(link->name, mnl_attr_get_str(attr), sizeof(link->name) - 1);
	return MNL_CB_OK;
}

static void link_answer(const struct nlmsghdr *msg, void *data)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
	struct link *link = data;

	link->index = info->ifi_index;
	link->type = info->ifi_type;
	link->flags = info->ifi_flags;
	mnl_attr_parse(msg, sizeof(*info), link_attr, link);
	link->l3 = is_l3(link->type);
}

int link_find(struct nl *nl, const char *name, struct link *link)
{
	struct ifinfomsg *info;
	struct nlmsghdr *msg;
	int err;

	memset(link, 0, sizeof(*link));
	if (!*name)
		return -ENODEV;
	msg = nl_request(nl, RTM_GETLINK, 0, sizeof(*info), &info);
	mnl_attr_put_strz(msg, strlen(name) < IF_NAMESIZE ? IFLA_IFNAME : IFLA_ALT_IFNAME, name);
	err = nl_talk(nl, link_answer, link, 0);
	if (err == -ENODEV && strlen(name) < IF_NAMESIZE) {
		msg = nl_request(nl, RTM_GETLINK, 0, sizeof(*info), &info);
		mnl_attr_put_strz(msg, IFLA_ALT_IFNAME, name);
		err = nl_talk(nl, link_answer, link, 0);
	}
	/* what cannot be a name is the name of no interface */
	if (err == -EINVAL || err == -ERANGE)
		return -ENODEV;
	return err;
}

int link_by_index(struct nl *nl, unsigned int index, struct link *link)
{
	struct ifinfomsg *info;

	memset(link, 0, sizeof(*link));
	nl_request(nl, RTM_GETLINK, 0, sizeof(*info), &info);
	info->ifi_index = (int)index;
	return nl_talk(nl, link_answer, link, 0);
}

struct link_list {
	size_t n; /* first: a dump that starts again resets it alone */
	struct link *link;
	bool failed;
};

static void list_answer(const struct nlmsghdr *msg, void *data)
{
	struct link_list *list = data;
	struct link *more = array_room(list->link, list->n, sizeof(*more));

	if (!more) {
		list->failed = true;
		return;
	}
	list->link = more;
	more[list->n] = (struct link){ 0 };
	link_answer(msg, &more[list->n++]);
}

int link_list(struct nl *nl, struct link **links, size_t *n)
{
	struct link_list list = { 0 };
	struct ifinfomsg *info;
	int err;

	nl_request(nl, RTM_GETLINK, NLM_F_DUMP, sizeof(*info), &info);
	err = nl_talk(nl, list_answer, &list, sizeof(list.n));
	err = err ? err : list.failed ? -ENOMEM : 0;
	if (err) {
		free(list.link);
		list = (struct link_list){ 0 };
	}
	*links = list.link;
	*n = list.n;
	return err;
}

struct v4_search {
	struct link *links;
	size_t n;
};

static void addr_answer(const struct nlmsghdr *msg, void *data)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	const struct v4_search *s = data;

	for (size_t i = 0; i < s->n; i++)
		if (s->links[i].index == ifa->ifa_index && ifa->ifa_family == AF_INET)
			s->links[i].has_v4 = true;
}

int links_find_v4(struct nl *nl, struct link *links, size_t n)
{
	struct v4_search s = { links, n };
	struct ifaddrmsg *ifa;

	nl_request(nl, RTM_GETADDR, NLM_F_DUMP, sizeof(*ifa), &ifa);
	ifa->ifa_family = AF_INET;
	return nl_talk(nl, addr_answer, &s, 0);
}

bool link_is_uplink(const struct link *link)
{
	return link->has_v4 && link->type == ARPHRD_ETHER && !(link->flags & IFF_LOOPBACK) && !link->master;
}

bool link_is_rp_filtered(struct nl *nl, const struct link *link)
{
	int all = sysctl_read("net/ipv4/conf/all", NULL, "rp_filter");
	int there = sysctl_read("net/ipv4/conf", link->name, "rp_filter");
	struct link with = *link;

	if (all < there)
		all = there;
	/* The loose form (2) wants a route that leads anywhere, and that the interface has an address. */
	return all == 1 || (all == 2 && (links_find_v4(nl, &with, 1) || !with.has_v4));
}

bool link_has_neighbours(const struct link *link)
{
	return !link->l3 && !link->own;
}

/* Packets of a port go on through its master and never meet the IP stack as packets of the port. */
static int port_check(const struct link *link, struct reason *why)
{
	char master[IF_NAMESIZE] = "?";

	if (!link->master)
		return 0;
	if_indextoname(link->master, master);
	if (!strcmp(link->port, "vrf"))
		return reason(why, -EOPNOTSUPP, "belongs to the VRF %s, and nat64 knows the main routing table only",
			      master);
	return reason(why, -EOPNOTSUPP, "is a port of %s: load there instead (-i %s)", master, master);
}

/* What comes by ip6gre has the outer headers before it there, and a redirect leaves them (see is_ours_framed). */
static bool is_framed_ip6gre(const struct link *link)
{
	return !strcmp(link->kind, "ip6gre") && kernel_is_before(5, 14);
}

/* Kinds of interfaces whose frames are like others', and behind which no IPv6 hosts can be */
static int kind_check(const struct link *link, struct reason *why)
{
	if (!strcmp(link->kind, "ipip") || link->v4_only)
		return reason(why, -EOPNOTSUPP, "is a tunnel for IPv4: no IPv6 hosts are behind it");
	if (!strcmp(link->kind, "vrf"))
		return reason(why, -EOPNOTSUPP, "is a VRF, whose packets are those of its ports");
	if (!strcmp(link->kind, "ipvlan"))
		return reason(why, -EOPNOTSUPP, "is an ipvlan, which gets no packets but those for its own addresses");
	if (!strcmp(link->kind, "macvtap") || !strcmp(link->kind, "ipvtap"))
		return reason(why, -EOPNOTSUPP, "is a %s, whose packets are for a program and no stack", link->kind);
	if (is_framed_ip6gre(link))
		return reason(why, -EOPNOTSUPP, "is an ip6gre tunnel, which takes Linux 5.14 (or --device)");
	if (!link->own && (!strcmp(link->kind, "dummy") || !strcmp(link->kind, "ifb")))
		return reason(why, -EOPNOTSUPP,
			      "has nothing behind it (for a device that packets are routed to: --device)");
	return 0;
}

static int check(const struct link *link, bool port, struct reason *why)
{
	if (port_check(link, why) || kind_check(link, why))
		return -EOPNOTSUPP;
	if (link->type != ARPHRD_ETHER && !link->l3)
		return reason(why, -EOPNOTSUPP, "neither Ethernet nor a layer-3 interface (link type %u)", link->type);
	if (!(link->flags & IFF_UP) && !port)
		return reason(why, -ENETDOWN, "interface is down (ip link set %s up)", link->name);
	if (link->mtu < MIN_IPV6_MTU)
		return reason(why, -EINVAL, "MTU %u is less than IPv6 needs (%d)", link->mtu, MIN_IPV6_MTU);
	switch (sysctl_read("net/ipv6/conf", link->index ? link->name : "default", "disable_ipv6")) {
	case 0:
		return 0;
	case -ENOENT:
		return reason(why, -EAFNOSUPPORT, "the kernel has no IPv6 there");
	case -ENODATA:
		return reason(why, -ENODATA, "cannot tell whether IPv6 is enabled there: /proc is not mounted");
	default:
		return reason(why, -EAFNOSUPPORT, "IPv6 is disabled (sysctl net.ipv6.conf.%s.disable_ipv6)",
			      sysctl_name(link->name).s);
	}
}

int link_check(const struct link *link, struct reason *why)
{
	return check(link, false, why);
}

int link_check_port(const struct link *link, struct reason *why)
{
	return check(link, true, why);
}
