// SPDX-License-Identifier: GPL-2.0-or-later
/* check.c - checks before loading: capabilities, conflicts with addresses and routes */
#include <errno.h>
#include <linux/capability.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

/* Older headers do not know them. */
#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#endif
#ifndef CAP_BPF
#define CAP_BPF 39
#endif

static const struct capability {
	unsigned int bit;
	const char *name;
	unsigned int tasks; /* 1 << enum task */
	bool or_admin;	    /* CAP_SYS_ADMIN includes it */
} CAPABILITIES[] = {
	{ CAP_NET_ADMIN, "CAP_NET_ADMIN", 1 << TASK_LOAD | 1 << TASK_RELOAD | 1 << TASK_UNLOAD, false },
	{ CAP_BPF, "CAP_BPF", 1 << TASK_LOAD | 1 << TASK_RELOAD, true },
	{ CAP_PERFMON, "CAP_PERFMON", 1 << TASK_LOAD | 1 << TASK_RELOAD, true },
	/* to get at programs and maps by their ids */
	{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN", 1 << TASK_RELOAD | 1 << TASK_TELL | 1 << TASK_LOOK, false },
};

static bool has(const struct __user_cap_data_struct *data, unsigned int bit)
{
	return data[bit / 32].effective >> (bit % 32) & 1;
}

int check_capabilities(enum task task, struct reason *why)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	char missing[128] = "";
	size_t n = 0;

	if (syscall(SYS_capget, &header, data))
		return reason(why, -errno, "cannot read capabilities: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(CAPABILITIES) / sizeof(*CAPABILITIES); i++) {
		const struct capability *cap = &CAPABILITIES[i];

		if (!(cap->tasks & 1 << task) || has(data, cap->bit) || (cap->or_admin && has(data, CAP_SYS_ADMIN)))
			continue;
		n += snprintf(missing + n, sizeof(missing) - n, "%s%s", n ? ", " : "", cap->name);
	}
	return n ? reason(why, -EPERM, "not permitted: missing %s%s", missing,
			  task == TASK_RELOAD ? " (to take over the translator that is loaded)"
			  : task == TASK_TELL ? " (to see whose the programs are that are attached by tcx)"
			  : task == TASK_LOOK ? " (to look into what is loaded)"
					      : "")
		 : 0;
}

bool check_may_ever(enum task task)
{
	bool admin = prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) == 1;

	for (size_t i = 0; i < sizeof(CAPABILITIES) / sizeof(*CAPABILITIES); i++) {
		const struct capability *cap = &CAPABILITIES[i];

		if (cap->tasks & 1 << task && prctl(PR_CAPBSET_READ, cap->bit) != 1 && !(cap->or_admin && admin))
			return false;
	}
	return true;
}

/* What a dump is looked through for, and the first conflict found */
struct search {
	const struct link *link;
	const struct options *o;
	struct reason *why;
	int err;
};

/* An address of a dump; which of the two families is in ifaddrmsg or rtmsg */
struct seen {
	struct prefix4 v4;
	struct prefix6 v6;
	__u32 oif;
};

static int addr_attr(const struct nlattr *attr, void *data)
{
	__u16 type = mnl_attr_get_type(attr);
	__u16 len = mnl_attr_get_payload_len(attr);
	struct seen *seen = data;

	/* With a peer, IFA_ADDRESS is the peer's and IFA_LOCAL, which comes later, ours. */
	if ((type == IFA_ADDRESS || type == IFA_LOCAL) && len == sizeof(seen->v4.addr))
		memcpy(&seen->v4.addr, mnl_attr_get_payload(attr), len);
	if ((type == IFA_ADDRESS || type == IFA_LOCAL) && len == sizeof(seen->v6.addr))
		memcpy(&seen->v6.addr, mnl_attr_get_payload(attr), len);
	return MNL_CB_OK;
}

static int addr4_conflict(const struct search *s, struct prefix4 addr, const char *dev)
{
	char text[PREFIX_STRLEN];

	snprintf(text, sizeof(text), "%s", text4(addr).s);
	if (prefix4_covers(&s->o->v4_prefix, &addr))
		return reason(s->why, -EADDRINUSE, "-4 %s: contains the address %s of %s", text4(s->o->v4_prefix).s,
			      text, dev);
	for (size_t i = 0; i < s->o->statics.n; i++)
		if (s->o->statics.list[i].v4.len && prefix4_covers(&s->o->statics.list[i].v4, &addr))
			return reason(s->why, -EADDRINUSE, "-s %s: contains the address %s of %s",
				      static_text(&s->o->statics.list[i]).s, text, dev);
	if (addr.addr == s->o->icmp_src)
		return reason(s->why, -EADDRINUSE,
			      "--icmp-src %s: is an address of this machine (%s), which it takes from nobody else",
			      text, dev);
	return 0;
}

static int addr6_conflict(const struct search *s, struct prefix6 addr, __u32 len, const char *dev)
{
	struct prefix6 subnet = { addr.addr, len };
	char text[PREFIX_STRLEN];

	snprintf(text, sizeof(text), "%s", text6(s->o->v6_prefix).s);
	if (!prefix6_covers(&s->o->v6_prefix, &addr))
		return 0;
	if (len >= s->o->v6_prefix.len && len < 128)
		return reason(s->why, -EADDRINUSE, "-6 %s: contains the subnet of %s (%s)", text, dev, text6(subnet).s);
	return reason(s->why, -EADDRINUSE, "-6 %s: contains the address %s of %s", text, text6(addr).s, dev);
}

static void addr_answer(const struct nlmsghdr *msg, void *data)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(msg);
	struct seen seen = { .v4.len = 32, .v6.len = 128 };
	struct search *s = data;
	char dev[IF_NAMESIZE] = "";

	if (s->err)
		return;
	mnl_attr_parse(msg, sizeof(*ifa), addr_attr, &seen);
	if_indextoname(ifa->ifa_index, dev);
	if (ifa->ifa_family == AF_INET)
		s->err = addr4_conflict(s, seen.v4, dev);
	else if (ifa->ifa_family == AF_INET6)
		s->err = addr6_conflict(s, seen.v6, ifa->ifa_prefixlen, dev);
}

static int route6_attr(const struct nlattr *attr, void *data)
{
	__u16 len = mnl_attr_get_payload_len(attr);
	struct seen *seen = data;

	if (mnl_attr_get_type(attr) == RTA_DST && len == sizeof(seen->v6.addr))
		memcpy(&seen->v6.addr, mnl_attr_get_payload(attr), len);
	if (mnl_attr_get_type(attr) == RTA_OIF && len == sizeof(seen->oif))
		seen->oif = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

/* A route of a part of the NAT64 prefix to the translator's own interface: packets to it come in there to be forwarded back
 * out, and would be translated instead. */
static void route6_answer(const struct nlmsghdr *msg, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(msg);
	struct seen seen = { .v6.len = rtm->rtm_dst_len };
	struct search *s = data;
	char text[PREFIX_STRLEN];

	mnl_attr_parse(msg, sizeof(*rtm), route6_attr, &seen);
	if (s->err || rtm->rtm_family != AF_INET6 || rtm->rtm_flags & RTM_F_CLONED || seen.oif != s->link->index ||
	    rtm->rtm_type != RTN_UNICAST || rtm->rtm_protocol == NAT64_RT_PROTOCOL ||
	    !prefix6_covers(&s->o->v6_prefix, &seen.v6))
		return;
	snprintf(text, sizeof(text), "%s", text6(s->o->v6_prefix).s);
	s->err = reason(s->why, -EADDRINUSE, "-6 %s: %s is routed to %s itself", text, text6(seen.v6).s, s->link->name);
}

int check_addresses(struct nl *nl, const struct link *link, const struct options *o, struct reason *why)
{
	struct search s = { .link = link, .o = o, .why = why };
	struct ifaddrmsg *ifa;
	struct nlmsghdr *msg;
	struct rtmsg *rtm;
	int err;

	nl_request(nl, RTM_GETADDR, NLM_F_DUMP, sizeof(*ifa), &ifa);
	err = nl_talk(nl, addr_answer, &s, sizeof(s));
	if (err)
		return reason(why, err, "cannot list the addresses: %s", nl_error(nl, err));
	if (s.err || !link->index) /* there are no routes to what is not there */
		return s.err;
	msg = nl_request(nl, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm), &rtm);
	rtm->rtm_family = AF_INET6;
	rtm->rtm_table = RT_TABLE_MAIN;
	mnl_attr_put_u32(msg, RTA_OIF, link->index);
	err = nl_talk(nl, route6_answer, &s, sizeof(s));
	if (err && err != -ENOENT)
		return reason(why, err, "cannot list the routes: %s", nl_error(nl, err));
	return s.err;
}
