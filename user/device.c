// SPDX-License-Identifier: GPL-2.0-or-later
/* device.c - a translator's own device */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h> /* before linux/if_arp.h, which then leaves out what it has in common with it */
#include <stdlib.h>
#include <string.h>

#include <linux/if_arp.h>

#include "array.h"
#include "device.h"

#define LOCAL_MTU 1500
#define NEW_GROUP 0x6e363420 /* of the device that is being made */

/* The next hop of the route to the NAT64 prefix, which no host is. Without one the kernel would make a neighbour entry for
 * each address of the prefix. */
static const union nat64_v6 GATEWAY = { .b = { 0xfe, 0x80, [12] = 0x00, 0x64, 0xff, 0x9b } };

static const char *const KINDS[] = { "dummy", "ifb" };

/* No link-local address: there are no neighbours to use it with. */
static void put_no_address(struct nlmsghdr *msg)
{
	struct nlattr *spec = mnl_attr_nest_start(msg, IFLA_AF_SPEC);
	struct nlattr *v6 = mnl_attr_nest_start(msg, AF_INET6);

	mnl_attr_put_u8(msg, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(msg, v6);
	mnl_attr_nest_end(msg, spec);
}

/* With the same call it gets the alias, which cannot be given to it as it is made: were the run killed between the two, nobody would
 * know whose it is. The second request is for all devices of that group: this one alone, or none if it could not be made. */
static int make(struct nl *nl, const char *name, const char *kind)
{
	struct nlmsghdr *msg;
	struct ifinfomsg *info;
	struct nlattr *linkinfo;

	msg = nl_request(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(*info), &info);
	mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	mnl_attr_put_u32(msg, IFLA_MTU, DEVICE_MTU);
	mnl_attr_put_u32(msg, IFLA_GROUP, NEW_GROUP);
	linkinfo = mnl_attr_nest_start(msg, IFLA_LINKINFO);
	mnl_attr_put_strz(msg, IFLA_INFO_KIND, kind);
	mnl_attr_nest_end(msg, linkinfo);
	msg = nl_second(nl, RTM_NEWLINK, sizeof(*info), &info);
	mnl_attr_put_u32(msg, IFLA_GROUP, NEW_GROUP);
	mnl_attr_put_strz(msg, IFLA_IFALIAS, DEVICE_ALIAS);
	return nl_talk(nl, NULL, NULL, 0);
}

/* Sets what cannot be set when the device is made, or not on all kernels. Only then it is brought up, which is when the
 * kernel would give it addresses. */
static int set_up(struct nl *nl, const struct link *link)
{
	struct nlmsghdr *msg;
	struct ifinfomsg *info;
	int err;

	msg = nl_request(nl, RTM_NEWLINK, 0, sizeof(*info), &info);
	info->ifi_index = (int)link->index;
	mnl_attr_put_u32(msg, IFLA_GROUP, 0);
	mnl_attr_put_strz(msg, IFLA_IFALIAS, DEVICE_ALIAS);
	put_no_address(msg);
	err = nl_talk(nl, NULL, NULL, 0);
	if (err)
		return err;
	nl_request(nl, RTM_NEWLINK, 0, sizeof(*info), &info);
	info->ifi_index = (int)link->index;
	info->ifi_flags = IFF_UP;
	info->ifi_change = IFF_UP;
	return nl_talk(nl, NULL, NULL, 0);
}

/* index 0: known by its name alone */
static int del(struct nl *nl, unsigned int index, const char *name)
{
	struct nlmsghdr *msg;
	struct ifinfomsg *info;

	msg = nl_request(nl, RTM_DELLINK, 0, sizeof(*info), &info);
	info->ifi_index = (int)index;
	if (!index)
		mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	return nl_talk(nl, NULL, NULL, 0);
}

struct link device_planned(const char *name)
{
	struct link link = { .type = ARPHRD_ETHER, .flags = IFF_UP, .mtu = DEVICE_MTU, .own = true };

	strncpy(link.name, name, sizeof(link.name) - 1);
	return link;
}

int device_make(struct nl *nl, const char *name, struct link *link, struct reason *why)
{
	int err = -EOPNOTSUPP;

	for (size_t i = 0; err == -EOPNOTSUPP && i < sizeof(KINDS) / sizeof(*KINDS); i++)
		err = make(nl, name, KINDS[i]);
	if (err == -EOPNOTSUPP)
		return reason(why, err, "the kernel has no dummy or ifb devices (CONFIG_DUMMY, CONFIG_IFB)");
	if (err)
		return reason(why, err, "cannot make it: %s", nl_error(nl, err));
	err = link_find(nl, name, link);
	err = err ? err : set_up(nl, link);
	err = err ? err : link_find(nl, name, link);
	if (err) {
		reason(why, err, "cannot bring it up: %s", nl_error(nl, err));
		if (del(nl, 0, name))
			msg_warn("cannot undo: device %s", name);
	}
	return err;
}

int device_del(struct nl *nl, const struct link *link)
{
	return del(nl, link->index, link->name);
}

static struct nlmsghdr *route_request(struct nl *nl, const struct link *link, __u16 type, __u16 flags,
				      const struct prefix6 *dst)
{
	struct nlmsghdr *msg;
	struct rtmsg *rtm;

	msg = nl_request(nl, type, flags, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET6;
	rtm->rtm_table = RT_TABLE_MAIN;
	rtm->rtm_protocol = NAT64_RT_PROTOCOL;
	mnl_attr_put_u32(msg, RTA_OIF, link->index);
	if (!dst)
		return msg;
	rtm->rtm_dst_len = dst->len;
	mnl_attr_put(msg, RTA_DST, sizeof(dst->addr), &dst->addr);
	return msg;
}

/* Routes of ours that are there */
struct seen {
	size_t n; /* first: a dump that starts again resets it alone */
	struct prefix6 *list;
	bool failed;
};

static int route_attr(const struct nlattr *attr, void *data)
{
	struct prefix6 *dst = data;

	if (mnl_attr_get_type(attr) == RTA_DST && mnl_attr_get_payload_len(attr) == sizeof(dst->addr))
		memcpy(&dst->addr, mnl_attr_get_payload(attr), sizeof(dst->addr));
	return MNL_CB_OK;
}

static void route_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct seen *seen = data;
	struct prefix6 *more;

	if (rtm->rtm_protocol != NAT64_RT_PROTOCOL)
		return;
	more = array_room(seen->list, seen->n, sizeof(*more));
	if (!more) {
		seen->failed = true;
		return;
	}
	seen->list = more;
	more[seen->n] = (struct prefix6){ .len = rtm->rtm_dst_len };
	mnl_attr_parse(msg, sizeof(*rtm), route_attr, &more[seen->n++]);
}

static int find_routes(struct nl *nl, const struct link *link, struct seen *seen)
{
	int err;

	route_request(nl, link, RTM_GETROUTE, NLM_F_DUMP, NULL);
	err = nl_talk(nl, route_answer, seen, sizeof(seen->n));
	return seen->failed ? -ENOMEM : err == -ENOENT ? 0 : err;
}

static int route_add(struct nl *nl, const struct link *link, const struct prefix6 *dst)
{
	struct nlmsghdr *msg = route_request(nl, link, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, dst);
	struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct nlattr *metrics;

	rtm->rtm_type = RTN_UNICAST;
	rtm->rtm_flags = RTNH_F_ONLINK;
	mnl_attr_put(msg, RTA_GATEWAY, sizeof(GATEWAY), &GATEWAY);
	metrics = mnl_attr_nest_start(msg, RTA_METRICS);
	mnl_attr_put_u32(msg, RTAX_MTU, LOCAL_MTU);
	mnl_attr_nest_end(msg, metrics);
	return nl_talk(nl, NULL, NULL, 0);
}

int device_route_is_there(struct nl *nl, const struct link *link, struct prefix6 dst)
{
	struct seen seen = { 0 };
	int err = find_routes(nl, link, &seen);
	bool there = false;

	for (size_t i = 0; !err && i < seen.n; i++)
		there |= !prefix6_order(&seen.list[i], &dst);
	free(seen.list);
	return err ? err : there;
}

int device_route_set(struct nl *nl, const struct link *link, struct prefix6 dst, bool *made, struct reason *why)
{
	int err = device_route_is_there(nl, link, dst);

	*made = false;
	if (!err) {
		err = route_add(nl, link, &dst);
		*made = !err;
	}
	return err < 0 ? reason(why, err, "cannot add the route to %s: %s", text6(dst).s, nl_error(nl, err)) : 0;
}

int device_route_del(struct nl *nl, const struct link *link, struct prefix6 dst)
{
	route_request(nl, link, RTM_DELROUTE, 0, &dst);
	return nl_talk(nl, NULL, NULL, 0);
}

int device_routes_del(struct nl *nl, const struct link *link, const struct prefix6 *wanted)
{
	struct seen seen = { 0 };
	int err = find_routes(nl, link, &seen);

	for (size_t i = 0; !err && i < seen.n; i++)
		if (!wanted || prefix6_order(&seen.list[i], wanted))
			err = device_route_del(nl, link, seen.list[i]);
	free(seen.list);
	return err;
}
