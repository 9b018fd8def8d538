// SPDX-License-Identifier: GPL-2.0-or-later
/* tc.c - the clsact qdisc and our filters on its two hooks */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "tc.h"

#define CLSACT_HANDLE TC_H_MAKE(TC_H_CLSACT, 0)
#define MADE_CLSACT   "+clsact"

static const struct hook {
	const char *name;
	const char *program;
	__u32 parent;
} HOOKS[NAT64_WAYS] = {
	[NAT64_6TO4] = { "ingress", NAT64_PROG_6TO4, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) },
	[NAT64_4TO6] = { "egress", NAT64_PROG_4TO6, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS) },
};

struct qdisc_search {
	unsigned int ifindex;
	enum tc_qdisc kind;
};

/* One filter of a dump. Names point into the message. */
struct seen_filter {
	const char *kind;
	const char *name;
	__u32 chain;
	__u32 prog_id;
};

struct filter_search {
	const struct hook *hook;
	struct tc_filter found;
};

static int kind_attr(const struct nlattr *attr, void *data)
{
	if (mnl_attr_get_type(attr) == TCA_KIND && !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING))
		*(const char **)data = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

static void qdisc_answer(const struct nlmsghdr *msg, void *data)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(msg);
	struct qdisc_search *s = data;
	const char *kind = "";

	/* clsact and ingress share parent and handle; there is one of them at most. */
	if (tcm->tcm_ifindex != (int)s->ifindex || tcm->tcm_parent != TC_H_CLSACT)
		return;
	mnl_attr_parse(msg, sizeof(*tcm), kind_attr, &kind);
	s->kind = strcmp(kind, "clsact") ? TC_QDISC_INGRESS : TC_QDISC_CLSACT;
}

int tc_qdisc_find(struct nl *nl, const struct link *link, enum tc_qdisc *kind)
{
	struct qdisc_search s = { .ifindex = link->index };
	struct tcmsg *tcm;
	int err;

	nl_request(nl, RTM_GETQDISC, NLM_F_DUMP, sizeof(*tcm), &tcm);
	tcm->tcm_ifindex = link->index;
	err = nl_talk(nl, qdisc_answer, &s, sizeof(s));
	*kind = s.kind;
	return err;
}

static int clsact_request(struct nl *nl, const struct link *link, __u16 type, __u16 flags)
{
	struct nlmsghdr *msg;
	struct tcmsg *tcm;

	msg = nl_request(nl, type, flags, sizeof(*tcm), &tcm);
	tcm->tcm_ifindex = link->index;
	tcm->tcm_parent = TC_H_CLSACT;
	tcm->tcm_handle = CLSACT_HANDLE;
	mnl_attr_put_strz(msg, TCA_KIND, "clsact");
	return nl_talk(nl, NULL, NULL, 0);
}

int tc_clsact_add(struct nl *nl, const struct link *link)
{
	return clsact_request(nl, link, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
}

int tc_clsact_del(struct nl *nl, const struct link *link)
{
	return clsact_request(nl, link, RTM_DELQDISC, 0);
}

static int bpf_attr(const struct nlattr *attr, void *data)
{
	struct seen_filter *seen = data;

	if (mnl_attr_get_type(attr) == TCA_BPF_NAME && !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING))
		seen->name = mnl_attr_get_str(attr);
	if (mnl_attr_get_type(attr) == TCA_BPF_ID && !mnl_attr_validate(attr, MNL_TYPE_U32))
		seen->prog_id = mnl_attr_get_u32(attr);
	return MNL_CB_OK;
}

static int filter_attr(const struct nlattr *attr, void *data)
{
	struct seen_filter *seen = data;

	if (mnl_attr_get_type(attr) == TCA_KIND && !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING))
		seen->kind = mnl_attr_get_str(attr);
	if (mnl_attr_get_type(attr) == TCA_CHAIN && !mnl_attr_validate(attr, MNL_TYPE_U32))
		seen->chain = mnl_attr_get_u32(attr);
	/* seen->kind has come by now: the kernel puts it first. Other kinds number their attributes otherwise. */
	if (mnl_attr_get_type(attr) == TCA_OPTIONS && !strcmp(seen->kind, "bpf"))
		mnl_attr_parse_nested(attr, bpf_attr, seen);
	return MNL_CB_OK;
}

static void filter_answer(const struct nlmsghdr *msg, void *data)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(msg);
	struct seen_filter seen = { .kind = "", .name = "" };
	struct filter_search *s = data;
	struct tc_filter *found = &s->found;
	size_t n = strlen(s->hook->program);

	mnl_attr_parse(msg, sizeof(*tcm), filter_attr, &seen);
	if (seen.chain || tcm->tcm_info >> 16 != NAT64_TC_PRIORITY) {
		found->others++;
	} else if (strcmp(seen.kind, "bpf") || (tcm->tcm_info & 0xffff) != htons(ETH_P_ALL)) {
		/* The kernel wants filters of one priority to be of one kind and protocol. */
		found->others++;
		reason(&found->foreign, 0, "a filter of kind %s has priority %d on the %s hook, where nat64 must be",
		       seen.kind, NAT64_TC_PRIORITY, s->hook->name);
	} else if (!tcm->tcm_handle) {
		/* Not a filter, but the list of those with this priority: ours, perhaps. */
	} else if (tcm->tcm_handle != NAT64_TC_HANDLE) {
		found->others++;
	} else if (!strncmp(seen.name, s->hook->program, n) && (!seen.name[n] || !strcmp(seen.name + n, MADE_CLSACT))) {
		found->ours = true;
		found->made_clsact = seen.name[n];
		found->prog_id = seen.prog_id;
	} else {
		found->others++;
		reason(&found->foreign, 0,
		       "the filter %s, not of nat64, has priority %d and handle 0x%x on the %s hook, where nat64 must be",
		       seen.name, NAT64_TC_PRIORITY, NAT64_TC_HANDLE, s->hook->name);
	}
}

static struct nlmsghdr *filter_request(struct nl *nl, const struct link *link, enum nat64_way way, __u16 type,
				       __u16 flags)
{
	struct nlmsghdr *msg;
	struct tcmsg *tcm;

	msg = nl_request(nl, type, flags, sizeof(*tcm), &tcm);
	tcm->tcm_ifindex = link->index;
	tcm->tcm_parent = HOOKS[way].parent;
	if (type == RTM_GETTFILTER)
		return msg;
	tcm->tcm_handle = NAT64_TC_HANDLE;
	tcm->tcm_info = TC_H_MAKE(NAT64_TC_PRIORITY << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(msg, TCA_KIND, "bpf");
	return msg;
}

int tc_filter_find(struct nl *nl, const struct link *link, enum nat64_way way, struct tc_filter *filter)
{
	struct filter_search s = { .hook = &HOOKS[way] };
	int err;

	filter_request(nl, link, way, RTM_GETTFILTER, NLM_F_DUMP);
	err = nl_talk(nl, filter_answer, &s, sizeof(s));
	*filter = s.found;
	return err;
}

int tc_filter_set(struct nl *nl, const struct link *link, enum nat64_way way, int prog_fd, bool made_clsact,
		  bool replace)
{
	struct nlmsghdr *msg =
		filter_request(nl, link, way, RTM_NEWTFILTER, NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL));
	struct nlattr *options = mnl_attr_nest_start(msg, TCA_OPTIONS);
	char name[64];

	snprintf(name, sizeof(name), "%s%s", HOOKS[way].program, made_clsact ? MADE_CLSACT : "");
	mnl_attr_put_u32(msg, TCA_BPF_FD, prog_fd);
	mnl_attr_put_strz(msg, TCA_BPF_NAME, name);
	mnl_attr_put_u32(msg, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	mnl_attr_nest_end(msg, options);
	return nl_talk(nl, NULL, NULL, 0);
}

int tc_filter_del(struct nl *nl, const struct link *link, enum nat64_way way)
{
	filter_request(nl, link, way, RTM_DELTFILTER, 0);
	return nl_talk(nl, NULL, NULL, 0);
}

const char *tc_hook(enum nat64_way way)
{
	return HOOKS[way].name;
}
