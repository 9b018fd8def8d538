// SPDX-License-Identifier: GPL-2.0-or-later
/* attach.c - the two programs of one interface */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "check.h"

const struct attachment ATTACHMENT_NONE = { .old = { -1, -1 } };

bool attachment_is_loaded(const struct attachment *a)
{
	return a->hook[NAT64_6TO4].ours || a->hook[NAT64_4TO6].ours;
}

/* Is the clsact qdisc of nat64's making? */
static bool is_clsact_ours(const struct attachment *a)
{
	return a->clsact_made || a->hook[NAT64_6TO4].made_clsact || a->hook[NAT64_4TO6].made_clsact;
}

/* How to attach: as what is there, or beside the filters of a clsact qdisc, so that their order is kept, or by tcx. */
static enum tc_kind kind_wanted(const struct attachment *a)
{
	for (int way = 0; way < NAT64_WAYS; way++)
		if (a->hook[way].ours)
			return a->hook[way].kind;
	return a->hook[NAT64_6TO4].has_tcx && a->qdisc != TC_QDISC_CLSACT ? TC_TCX : TC_CLSACT;
}

int attachment_find(struct nl *nl, const struct link *link, struct attachment *a)
{
	struct reason why = { "" };
	int err;

	*a = ATTACHMENT_NONE;
	a->link = link;
	err = tc_qdisc_find(nl, link, &a->qdisc);
	for (int way = 0; !err && way < NAT64_WAYS; way++) {
		a->place[way] = (struct tc_place){ link, (enum tc_program)way, link->index };
		err = tc_hook_find(nl, &a->place[way], &a->hook[way]);
	}
	a->kind = kind_wanted(a);
	if (err == -EPERM && check_capabilities(TASK_TELL, &why))
		return msg_fail(err, "%s: %s", link->name, why.text);
	if (err)
		return msg_fail(err, "%s: cannot list its filters: %s", link->name, nl_error(nl, err));
	return 0;
}

static int open_old(struct attachment *a, int way)
{
	if (a->old[way] >= 0 || !a->hook[way].ours)
		return 0;
	a->old[way] = bpf_prog_get_fd_by_id(a->hook[way].prog_id);
	return a->old[way] < 0 ? msg_fail(-errno, "%s: cannot look into the translator that is loaded: %s",
					  a->link->name, strerror(errno))
			       : 0;
}

int attachment_open(struct attachment *a)
{
	int err = 0;

	for (int way = 0; !err && way < NAT64_WAYS; way++)
		err = open_old(a, way);
	return err;
}

void attachment_close(struct attachment *a)
{
	for (int way = 0; way < NAT64_WAYS; way++)
		if (a->old[way] >= 0)
			close(a->old[way]);
	*a = ATTACHMENT_NONE;
}

int attachment_check(const struct attachment *a)
{
	const char *name = a->link->name;

	if (a->kind == TC_TCX)
		return 0;
	if (a->qdisc == TC_QDISC_INGRESS)
		return msg_fail(-EEXIST,
				"%s: it has an ingress qdisc, and can have no clsact qdisc beside it "
				"(tc qdisc del dev %s ingress)",
				name, name);
	for (int way = 0; way < NAT64_WAYS; way++)
		if (a->hook[way].foreign.text[0])
			return msg_fail(-EEXIST, "%s: %s", name, a->hook[way].foreign.text);
	return 0;
}

int attachment_prepare(struct nl *nl, struct attachment *a)
{
	int err;

	if (a->qdisc == TC_QDISC_CLSACT || a->kind == TC_TCX)
		return 0;
	err = tc_clsact_add(nl, a->link);
	if (err == -ENOENT)
		return msg_fail(err, "%s: the kernel has no clsact qdisc (CONFIG_NET_SCH_INGRESS)", a->link->name);
	if (err)
		return msg_fail(err, "%s: cannot add a clsact qdisc: %s", a->link->name, nl_error(nl, err));
	a->clsact_made = true;
	return 0;
}

int attachment_set(struct nl *nl, struct attachment *a, int way, int fd)
{
	const struct tc_place *place = &a->place[way];
	const struct tc_hook *hook = &a->hook[way];
	int err;

	err = hook->ours ? tc_replace(nl, place, hook->kind, fd, is_clsact_ours(a), a->old[way])
			 : tc_attach(nl, place, a->kind, fd, is_clsact_ours(a));
	if (err == -ENOENT && a->kind == TC_CLSACT)
		return msg_fail(err, "%s: the kernel has no BPF filters for tc (CONFIG_NET_CLS_BPF)", a->link->name);
	if (err)
		return msg_fail(err, "%s: cannot attach to the %s hook: %s", a->link->name, tc_hook_name(way),
				nl_error(nl, err));
	a->attached[way] = true;
	return 0;
}

static void undone(struct nl *nl, const struct attachment *a, const char *what, int err)
{
	if (err)
		msg_warn("%s: cannot undo: %s: %s", a->link->name, what, nl_error(nl, err));
}

void attachment_undo(struct nl *nl, const struct attachment *a, const int fd[NAT64_WAYS])
{
	for (int way = NAT64_WAYS - 1; way >= 0; way--) {
		const struct tc_hook *hook = &a->hook[way];

		if (a->attached[way] && hook->ours)
			undone(nl, a, tc_hook_name(way),
			       tc_replace(nl, &a->place[way], hook->kind, a->old[way], hook->made_clsact, fd[way]));
		else if (a->attached[way])
			undone(nl, a, tc_hook_name(way), tc_detach(nl, &a->place[way], a->kind, fd[way]));
	}
	if (a->clsact_made)
		undone(nl, a, "clsact", tc_clsact_del(nl, a->link));
}

static int detach(struct nl *nl, struct attachment *a, int way, enum tc_kind kind)
{
	int err = kind == TC_TCX ? open_old(a, way) : 0; /* to detach from tcx takes the program itself */

	if (err)
		return err;
	err = tc_detach(nl, &a->place[way], kind, a->old[way]);
	return err ? msg_fail(err, "%s: cannot detach from the %s hook: %s", a->link->name, tc_hook_name(way),
			      nl_error(nl, err))
		   : 0;
}

/* Our filters, and with them, in one step, the clsact qdisc if it is ours alone: were the filters to go first, nobody
 * would know any more whose it is if then something failed. */
static int remove_filters(struct nl *nl, struct attachment *a)
{
	unsigned int others = a->hook[NAT64_6TO4].others + a->hook[NAT64_4TO6].others;
	int err = 0;

	if (is_clsact_ours(a) && !others) {
		err = tc_clsact_del(nl, a->link);
		return err ? msg_fail(err, "%s: cannot remove the clsact qdisc: %s", a->link->name, nl_error(nl, err))
			   : 0;
	}
	for (int way = NAT64_WAYS - 1; !err && way >= 0; way--)
		err = a->hook[way].filter ? detach(nl, a, way, TC_CLSACT) : 0;
	return err;
}

int attachment_remove_old_filters(struct nl *nl, struct attachment *a)
{
	bool left = false, used = false;

	for (int way = 0; way < NAT64_WAYS; way++) {
		left |= a->hook[way].filter && a->hook[way].kind == TC_TCX;
		used |= a->hook[way].filter && a->hook[way].kind == TC_CLSACT;
	}
	return left && !used ? remove_filters(nl, a) : 0;
}

int attachment_remove(struct nl *nl, struct attachment *a)
{
	int err = 0;

	for (int way = NAT64_WAYS - 1; !err && way >= 0; way--)
		err = a->hook[way].ours && a->hook[way].kind == TC_TCX ? detach(nl, a, way, TC_TCX) : 0;
	return err ? err : remove_filters(nl, a);
}
