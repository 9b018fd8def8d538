// SPDX-License-Identifier: GPL-2.0-or-later
/* fast.c - the program for --fast, on the ingress hooks of the interfaces that IPv4 comes in by
 *
 * There is no record of where they are: nat64 looks at all interfaces. Programs of a translator whose interface is gone are
 * removed by the next nat64 that sees them. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h> /* before linux/if_arp.h, which then leaves out what it has in common with it */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_arp.h>

#include "array.h"
#include "fast.h"

/* What is known of an interface */
struct seen {
	const struct link *link;
	bool translator;
	unsigned int *owners;
	size_t n_owners;
};

struct all {
	struct seen *list;
	size_t n;
};

static struct seen *find_seen(const struct all *all, unsigned int index)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->list[i].link->index == index)
			return &all->list[i];
	return NULL;
}

static void free_all(struct all *all)
{
	for (size_t i = 0; i < all->n; i++)
		free(all->list[i].owners);
	free(all->list);
}

/* Looks at all interfaces; one that goes away meanwhile has nothing. */
static int look(struct nl *nl, const struct fast *fast, struct all *all, struct reason *why)
{
	int err;

	all->list = calloc(fast->n_links, sizeof(*all->list));
	if (!all->list)
		return reason(why, -ENOMEM, "%s", strerror(ENOMEM));
	all->n = fast->n_links;
	for (size_t i = 0; i < all->n; i++)
		all->list[i].link = &fast->links[i];
	err = links_find_v4(nl, fast->links, fast->n_links);
	if (err)
		return reason(why, err, "cannot list the addresses: %s", nl_error(nl, err));
	for (size_t i = 0; i < all->n; i++) {
		struct seen *seen = &all->list[i];

		err = tc_ingress_find(nl, seen->link, &seen->translator, &seen->owners, &seen->n_owners);
		if (err && err != -ENODEV)
			return reason(why, err, "cannot see what is attached to %s: %s", seen->link->name,
				      nl_error(nl, err));
	}
	return 0;
}

static int add(struct nl *nl, struct fast *fast, const struct link *link, unsigned int owner, bool wanted,
	       struct reason *why)
{
	struct fast_program *more = array_room(fast->list, fast->n, sizeof(*more));
	struct fast_program *p;
	int err;

	if (!more)
		return reason(why, -ENOMEM, "%s", strerror(ENOMEM));
	fast->list = more;
	p = &more[fast->n];
	*p = (struct fast_program){ .place = { link, TC_FAST, owner }, .wanted = wanted, .old_fd = -1 };
	err = tc_hook_find(nl, &p->place, &p->hook);
	err = err ? err : tc_qdisc_find(nl, link, &p->qdisc);
	if (!err && p->hook.ours) {
		p->old_fd = bpf_prog_get_fd_by_id(p->hook.prog_id);
		/* A filter can be taken away without it. */
		err = p->old_fd < 0 && p->hook.kind == TC_TCX ? -errno : 0;
	}
	if (err == -ENODEV)
		return 0;
	fast->n++;
	p->kind = p->hook.ours ? p->hook.kind : p->hook.has_tcx && p->qdisc != TC_QDISC_CLSACT ? TC_TCX : TC_CLSACT;
	return err ? reason(why, err, "cannot see what is attached to %s: %s", link->name, nl_error(nl, err)) : 0;
}

static bool is_among(const unsigned int *owners, size_t n, unsigned int owner)
{
	for (size_t i = 0; i < n; i++)
		if (owners[i] == owner)
			return true;
	return false;
}

int fast_find(struct nl *nl, const unsigned int *owners, size_t n, bool wanted, struct fast *fast, struct reason *why)
{
	unsigned int self = n ? owners[0] : 0;
	struct all all = { 0 };
	int err;

	*fast = (struct fast){ 0 };
	err = link_list(nl, &fast->links, &fast->n_links);
	if (err)
		return reason(why, err, "cannot list the interfaces: %s", nl_error(nl, err));
	err = look(nl, fast, &all, why);
	for (size_t i = 0; !err && i < all.n; i++) {
		const struct seen *seen = &all.list[i];
		bool here = wanted && seen->link->index != self && link_is_uplink(seen->link);

		if (here || is_among(seen->owners, seen->n_owners, self))
			err = add(nl, fast, seen->link, self, here, why);
		for (size_t k = 0; !err && k < seen->n_owners; k++) {
			const struct seen *owner = find_seen(&all, seen->owners[k]);
			bool gone = !owner || !owner->translator;

			if (seen->owners[k] != self && (gone || is_among(owners, n, seen->owners[k])))
				err = add(nl, fast, seen->link, seen->owners[k], false, why);
		}
	}
	free_all(&all);
	return err;
}

void fast_free(struct fast *fast)
{
	for (size_t i = 0; i < fast->n; i++)
		if (fast->list[i].old_fd >= 0)
			close(fast->list[i].old_fd);
	free(fast->list);
	free(fast->links);
	*fast = (struct fast){ 0 };
}

static int attach(struct nl *nl, struct fast_program *p, int prog_fd)
{
	bool made;
	int err;

	if (p->kind == TC_CLSACT && p->qdisc == TC_QDISC_NONE) {
		err = tc_clsact_add(nl, p->place.link);
		if (err)
			return err;
		p->clsact_made = true;
	}
	made = p->clsact_made || p->hook.made_clsact;
	err = p->hook.ours ? tc_replace(nl, &p->place, p->kind, prog_fd, made, p->old_fd)
			   : tc_attach(nl, &p->place, p->kind, prog_fd, made);
	p->attached = !err;
	return err;
}

int fast_attach(struct nl *nl, struct fast *fast, int prog_fd, struct reason *why)
{
	for (size_t i = 0; i < fast->n; i++) {
		struct fast_program *p = &fast->list[i];
		int err = p->wanted ? attach(nl, p, prog_fd) : 0;

		if (err && err != -ENODEV) /* it has gone */
			return reason(why, err, "--fast: cannot attach to the ingress hook of %s: %s",
				      p->place.link->name, nl_error(nl, err));
	}
	return 0;
}

void fast_undo(struct nl *nl, const struct fast *fast, int prog_fd)
{
	for (size_t i = fast->n; i-- > 0;) {
		const struct fast_program *p = &fast->list[i];
		int err = 0;

		if (p->attached && p->hook.ours)
			err = tc_replace(nl, &p->place, p->kind, p->old_fd, p->hook.made_clsact, prog_fd);
		else if (p->attached)
			err = tc_detach(nl, &p->place, p->kind, prog_fd);
		if (!err && p->clsact_made)
			err = tc_clsact_del(nl, p->place.link);
		if (err && err != -ENODEV)
			msg_warn("%s: cannot undo: ingress: %s", p->place.link->name, nl_error(nl, err));
	}
}

/* Is the clsact qdisc of nat64's making, and has but this one filter? */
static int is_last(struct nl *nl, const struct fast_program *p, bool *last)
{
	struct tc_place egress = { p->place.link, TC_4TO6, p->place.link->index };
	struct tc_hook in, out;
	int err = tc_hook_find(nl, &p->place, &in);

	err = err ? err : tc_hook_find(nl, &egress, &out);
	if (!err)
		*last = in.made_clsact && !in.others && !out.filter && !out.others;
	return err;
}

/* Removes the program; a filter in one step with the clsact qdisc, if nat64 has made that and nothing else is in it. */
static int remove_program(struct nl *nl, const struct fast_program *p)
{
	bool last = false;
	int err = 0;

	if (p->hook.kind == TC_TCX)
		err = tc_detach(nl, &p->place, TC_TCX, p->old_fd);
	if (!err && p->hook.filter)
		err = is_last(nl, p, &last);
	if (!err && p->hook.filter)
		err = last ? tc_clsact_del(nl, p->place.link) : tc_detach(nl, &p->place, TC_CLSACT, -1);
	return err == -ENODEV ? 0 : err; /* it has gone, and all that was there */
}

int fast_remove(struct nl *nl, struct fast *fast, struct reason *why)
{
	int first = 0;

	for (size_t i = 0; i < fast->n; i++) {
		const struct fast_program *p = &fast->list[i];
		int err = p->hook.ours && !p->wanted ? remove_program(nl, p) : 0;

		if (err && !first)
			first = reason(why, err, "cannot detach from the ingress hook of %s: %s", p->place.link->name,
				       nl_error(nl, err));
	}
	return first;
}

const struct fast_program *fast_next(const struct fast *fast, unsigned int owner, size_t *i)
{
	while (*i < fast->n) {
		const struct fast_program *p = &fast->list[(*i)++];

		if (p->place.owner == owner && (p->hook.ours || p->attached))
			return p;
	}
	return NULL;
}
