// SPDX-License-Identifier: GPL-2.0-or-later
/* tc.c - our programs on the two tc hooks of an interface, by tcx or as filters of a clsact qdisc */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "loaded.h"
#include "tc.h"
#include "tcx.h"

#define CLSACT_HANDLE TC_H_MAKE(TC_H_CLSACT, 0)
#define MADE_CLSACT   "+clsact"

#define TCX_ATTEMPTS 10 /* to attach, while others do, too */

static const struct hook {
	const char *name;
	const char *program;
	enum tcx_hook tcx;
	__u32 parent; /* of clsact */
} HOOKS[] = {
	[TC_6TO4] = { "ingress", NAT64_PROG_6TO4, TCX_INGRESS, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) },
	[TC_4TO6] = { "egress", NAT64_PROG_4TO6, TCX_EGRESS, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS) },
	[TC_FAST] = { "ingress", NAT64_PROG_FAST, TCX_INGRESS, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) },
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
	const struct tc_place *place;
	struct tc_hook found;
};

/* Owners of programs for --fast, and translators */
struct owners {
	size_t n; /* first two: a dump that starts again resets them alone */
	bool translator;
	unsigned int *list;
	bool failed;
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

static __u32 handle_of(const struct tc_place *place)
{
	return place->program == TC_FAST ? NAT64_TC_FAST | place->owner : NAT64_TC_HANDLE;
}

/* Is it the name of a filter with this program? */
static bool is_named(const char *name, enum tc_program program, bool *made_clsact)
{
	size_t n = strlen(HOOKS[program].program);

	if (strncmp(name, HOOKS[program].program, n) || (name[n] && strcmp(name + n, MADE_CLSACT)))
		return false;
	*made_clsact |= name[n];
	return true;
}

/* The kernel wants filters of one priority to be of one kind and protocol. */
static bool is_bpf(const struct tcmsg *tcm, const struct seen_filter *seen)
{
	return !strcmp(seen->kind, "bpf") && (tcm->tcm_info & 0xffff) == htons(ETH_P_ALL);
}

static void filter_answer(const struct nlmsghdr *msg, void *data)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(msg);
	struct seen_filter seen = { .kind = "", .name = "" };
	struct filter_search *s = data;
	const struct hook *hook = &HOOKS[s->place->program];
	struct tc_hook *found = &s->found;

	mnl_attr_parse(msg, sizeof(*tcm), filter_attr, &seen);
	if (seen.chain || tcm->tcm_info >> 16 != NAT64_TC_PRIORITY) {
		found->others++;
	} else if (!is_bpf(tcm, &seen)) {
		found->others++;
		reason(&found->foreign, 0, "a filter of kind %s has priority %d on the %s hook, where nat64 must be",
		       seen.kind, NAT64_TC_PRIORITY, hook->name);
	} else if (!tcm->tcm_handle) {
		/* Not a filter, but the list of those with this priority: ours, perhaps. */
	} else if (tcm->tcm_handle != handle_of(s->place)) {
		found->others++;
		for (size_t i = 0; i < sizeof(HOOKS) / sizeof(*HOOKS); i++)
			is_named(seen.name, i, &found->made_clsact);
	} else if (is_named(seen.name, s->place->program, &found->made_clsact)) {
		found->ours = found->filter = true;
		found->kind = TC_CLSACT;
		found->prog_id = seen.prog_id;
	} else {
		found->others++;
		reason(&found->foreign, 0,
		       "the filter %s, not of nat64, has priority %d and handle 0x%x on the %s hook, where nat64 must be",
		       seen.name, NAT64_TC_PRIORITY, tcm->tcm_handle, hook->name);
	}
}

static struct nlmsghdr *filter_request(struct nl *nl, const struct tc_place *place, __u16 type, __u16 flags)
{
	struct nlmsghdr *msg;
	struct tcmsg *tcm;

	msg = nl_request(nl, type, flags, sizeof(*tcm), &tcm);
	tcm->tcm_ifindex = place->link->index;
	tcm->tcm_parent = HOOKS[place->program].parent;
	if (type == RTM_GETTFILTER)
		return msg;
	tcm->tcm_handle = handle_of(place);
	tcm->tcm_info = TC_H_MAKE(NAT64_TC_PRIORITY << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(msg, TCA_KIND, "bpf");
	return msg;
}

static int find_filter(struct nl *nl, const struct tc_place *place, struct tc_hook *hook)
{
	struct filter_search s = { .place = place };
	int err;

	filter_request(nl, place, RTM_GETTFILTER, NLM_F_DUMP);
	err = nl_talk(nl, filter_answer, &s, sizeof(s));
	*hook = s.found;
	return err;
}

/* Which program of ours this id is; with *owner for TC_FAST. -ENOENT: none. */
static int identify(__u32 id, enum tc_program *program, unsigned int *owner)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);
	int err;

	if (fd < 0)
		return -errno;
	err = bpf_obj_get_info_by_fd(fd, &info, &len) ? -errno : -ENOENT;
	for (size_t i = 0; err == -ENOENT && i < sizeof(HOOKS) / sizeof(*HOOKS); i++)
		if (!strcmp(info.name, HOOKS[i].program)) {
			*program = i;
			err = 0;
		}
	if (!err && *program == TC_FAST)
		err = program_owner(fd, owner);
	close(fd);
	return err;
}

static int find_tcx(const struct tc_place *place, struct tc_hook *hook, __u64 *revision)
{
	struct tcx_row row = { 0 };
	int err = tcx_query(place->link->index, HOOKS[place->program].tcx, &row);

	if (err == -EOPNOTSUPP)
		return 0;
	if (err)
		return err;
	hook->has_tcx = true;
	*revision = row.revision;
	for (__u32 i = 0; i < row.n && hook->kind != TC_TCX; i++) {
		unsigned int owner = place->owner;
		enum tc_program program;

		err = identify(row.id[i], &program, &owner);
		if (err && err != -ENOENT)
			return err;
		if (err || program != place->program || owner != place->owner)
			continue;
		hook->ours = true;
		hook->kind = TC_TCX;
		hook->prog_id = row.id[i];
	}
	return 0;
}

int tc_hook_find(struct nl *nl, const struct tc_place *place, struct tc_hook *hook)
{
	int err = find_filter(nl, place, hook);
	__u64 revision;

	return err ? err : find_tcx(place, hook, &revision);
}

static void add_owner(struct owners *o, unsigned int owner)
{
	unsigned int *more = array_room(o->list, o->n, sizeof(*more));

	if (!more) {
		o->failed = true;
		return;
	}
	o->list = more;
	more[o->n++] = owner;
}

static void owner_answer(const struct nlmsghdr *msg, void *data)
{
	const struct tcmsg *tcm = mnl_nlmsg_get_payload(msg);
	struct seen_filter seen = { .kind = "", .name = "" };
	struct owners *o = data;
	bool made = false; /* is_named() sets it, but nobody asks */

	mnl_attr_parse(msg, sizeof(*tcm), filter_attr, &seen);
	if (seen.chain || tcm->tcm_info >> 16 != NAT64_TC_PRIORITY || !is_bpf(tcm, &seen))
		return;
	if (tcm->tcm_handle & NAT64_TC_FAST && is_named(seen.name, TC_FAST, &made))
		add_owner(o, tcm->tcm_handle & ~NAT64_TC_FAST);
	else if (tcm->tcm_handle == NAT64_TC_HANDLE && is_named(seen.name, TC_6TO4, &made))
		o->translator = true;
}

int tc_ingress_find(struct nl *nl, const struct link *link, bool *translator, unsigned int **owners, size_t *n)
{
	struct tc_place place = { .link = link, .program = TC_FAST };
	struct owners o = { 0 };
	struct tcx_row row = { 0 };
	int err;

	filter_request(nl, &place, RTM_GETTFILTER, NLM_F_DUMP);
	err = nl_talk(nl, owner_answer, &o, offsetof(struct owners, list));
	err = err ? err : tcx_query(link->index, TCX_INGRESS, &row);
	err = err == -EOPNOTSUPP ? 0 : err;
	for (__u32 i = 0; !err && i < row.n; i++) {
		enum tc_program program = TC_6TO4;
		unsigned int owner = 0;

		err = identify(row.id[i], &program, &owner);
		if (!err && program == TC_FAST)
			add_owner(&o, owner);
		else if (!err && program == TC_6TO4)
			o.translator = true;
		err = err == -ENOENT ? 0 : err;
	}
	*translator = o.translator;
	*owners = o.list;
	*n = o.n;
	return err ? err : o.failed ? -ENOMEM : 0;
}

static int set_filter(struct nl *nl, const struct tc_place *place, __u16 flags, int prog_fd, bool made_clsact)
{
	struct nlmsghdr *msg = filter_request(nl, place, RTM_NEWTFILTER, NLM_F_CREATE | flags);
	struct nlattr *options = mnl_attr_nest_start(msg, TCA_OPTIONS);
	char name[64];

	snprintf(name, sizeof(name), "%s%s", HOOKS[place->program].program, made_clsact ? MADE_CLSACT : "");
	mnl_attr_put_u32(msg, TCA_BPF_FD, prog_fd);
	mnl_attr_put_strz(msg, TCA_BPF_NAME, name);
	mnl_attr_put_u32(msg, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	mnl_attr_nest_end(msg, options);
	return nl_talk(nl, NULL, NULL, 0);
}

/* Attaches the program if it is not there. The revision makes sure that it has not come meanwhile. */
static int attach_tcx(struct nl *nl, const struct tc_place *place, int prog_fd)
{
	int err = -ESTALE;
	__u64 revision;

	for (int i = 0; err == -ESTALE && i < TCX_ATTEMPTS; i++) {
		struct tc_hook hook = { 0 };

		err = find_tcx(place, &hook, &revision);
		if (!err && hook.ours)
			return reason(&nl->kernel, -EEXIST, "another nat64 is doing so");
		err = err ? err : tcx_attach(place->link->index, HOOKS[place->program].tcx, prog_fd, revision);
	}
	return err;
}

int tc_attach(struct nl *nl, const struct tc_place *place, enum tc_kind kind, int prog_fd, bool made_clsact)
{
	nl->kernel.text[0] = 0; /* tcx leaves no message there */
	if (kind == TC_CLSACT)
		return set_filter(nl, place, NLM_F_EXCL, prog_fd, made_clsact);
	return attach_tcx(nl, place, prog_fd);
}

int tc_replace(struct nl *nl, const struct tc_place *place, enum tc_kind kind, int prog_fd, bool made_clsact,
	       int old_fd)
{
	int err;

	nl->kernel.text[0] = 0;
	if (kind == TC_CLSACT)
		return set_filter(nl, place, NLM_F_REPLACE, prog_fd, made_clsact);
	err = tcx_replace(place->link->index, HOOKS[place->program].tcx, prog_fd, old_fd);
	return err == -ENOENT ? reason(&nl->kernel, -ESTALE, "it has changed meanwhile") : err;
}

int tc_detach(struct nl *nl, const struct tc_place *place, enum tc_kind kind, int prog_fd)
{
	nl->kernel.text[0] = 0;
	if (kind == TC_TCX)
		return tcx_detach(place->link->index, HOOKS[place->program].tcx, prog_fd);
	filter_request(nl, place, RTM_DELTFILTER, 0);
	return nl_talk(nl, NULL, NULL, 0);
}

const char *tc_hook_name(enum tc_program program)
{
	return HOOKS[program].name;
}

const char *tc_kind_name(enum tc_kind kind)
{
	return kind == TC_TCX ? "tcx" : "clsact";
}
