// SPDX-License-Identifier: GPL-2.0-or-later
/* setup.c - loading, reconfiguring and unloading a translator as a whole */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attach.h"
#include "check.h"
#include "device.h"
#include "fast.h"
#include "hints.h"
#include "kernel.h"
#include "load.h"
#include "order.h"
#include "reconcile.h"
#include "route.h"
#include "setup.h"
#include "sysctl.h"
#include "xdp.h"

/* An interface besides the one that the routes lead to: a port that is wanted, or something that the translator has so far and is
 * to lose: a port, or the interface that its routes led to. */
struct part {
	struct link link;
	bool wanted;
	struct attachment attachment;
	struct routes routes; /* of ours that lead there */
	struct nat64_config cfg;
	struct nat64_bpf *programs;
};

/* What is there, what is wanted, and what this run has done: all that a step back needs. */
struct setup {
	struct nl *nl;
	const struct link *link; /* that the routes lead to */
	const struct options *o;

	/* found */
	struct attachment attachment;
	struct routes routes;
	struct loaded loaded;
	struct ports before;
	struct fast fast;	   /* and wanted */
	struct xdp xdp;		   /* the same */
	struct reason xdp_refused; /* the first of them where IPv4 comes in and that does without */

	/* wanted */
	struct part *parts; /* room for all that may be */
	size_t n_parts;
	struct ports ports;
	unsigned int *kin; /* the interfaces of the parts */
	struct wanted wanted;
	struct nat64_config cfg;
	struct nat64_bpf *programs;
	struct loaded maps; /* of the programs */
	enum inherit inherit;
	struct reconcile reconcile;
	struct tells tells; /* of which listeners are told once it is done */

	/* done */
	bool neigh_made;
	bool device_route_made;
	bool *route_set; /* for each that is wanted */
	bool broadcasts_off;
	bool broadcast_made;
};

/* Where the translator is seen that is there, or NULL */
static const struct attachment *loaded_at(const struct setup *s)
{
	if (attachment_is_loaded(&s->attachment))
		return &s->attachment;
	for (size_t i = 0; i < s->n_parts; i++)
		if (attachment_is_loaded(&s->parts[i].attachment))
			return &s->parts[i].attachment;
	return NULL;
}

static bool is_loaded(const struct setup *s)
{
	return loaded_at(s);
}

static int open_loaded(const struct attachment *a, struct loaded *loaded)
{
	__u32 id[NAT64_WAYS] = { a->hook[NAT64_6TO4].prog_id, a->hook[NAT64_4TO6].prog_id };
	struct reason why = { "" };
	int err = loaded_open(id, loaded, &why);

	return err ? msg_fail(err, "%s: %s", a->link->name, why.text) : 0;
}

/* *same: the programs there are of the translator that has been found. */
static int is_same(const struct setup *s, const struct attachment *a, bool *same)
{
	struct loaded loaded = LOADED_NONE;
	int err = open_loaded(a, &loaded);

	*same = !err && loaded_same(&s->loaded, &loaded);
	loaded_close(&loaded);
	return err;
}

/* Adds an interface that the translator has, if it still has it. */
static int add_member(struct setup *s, unsigned int index)
{
	struct part *part = &s->parts[s->n_parts];
	bool same;
	int err;

	err = link_by_index(s->nl, index, &part->link);
	if (err)
		return err == -ENODEV ? 0
				      : msg_fail(err, "cannot look at interface %u: %s", index, nl_error(s->nl, err));
	err = attachment_find(s->nl, &part->link, &part->attachment);
	err = err ? err : is_same(s, &part->attachment, &same);
	if (!err && same)
		s->n_parts++;
	else
		attachment_close(&part->attachment);
	return err;
}

static bool is_part(const struct setup *s, unsigned int index)
{
	for (size_t i = 0; i < s->n_parts; i++)
		if (s->parts[i].link.index == index)
			return true;
	return index == s->link->index;
}

/* All interfaces of the translator that is there. One of another translator is not taken from it. */
static int find_members(struct setup *s)
{
	const struct attachment *at = loaded_at(s);
	bool same;
	int err;

	if (!at)
		return 0;
	err = open_loaded(at, &s->loaded);
	if (err)
		return err;
	err = ports_read(s->loaded.ports, &s->before);
	if (err)
		return msg_fail(err, "%s: cannot read its maps: %s", at->link->name, strerror(-err));
	for (size_t i = 0; !err && i < s->n_parts; i++) {
		const struct attachment *a = &s->parts[i].attachment;

		if (a == at || !attachment_is_loaded(a))
			continue;
		err = is_same(s, a, &same);
		if (!err && !same)
			err = msg_fail(-EBUSY, "%s: has a translator of its own (nat64 -i %s -u)", a->link->name,
				       a->link->name);
	}
	for (__u32 i = 1; !err && i <= NAT64_PORTS; i++)
		if (s->before.of[i].ifindex && !is_part(s, s->before.of[i].ifindex))
			err = add_member(s, s->before.of[i].ifindex);
	return err;
}

static bool is_port(const struct setup *s, unsigned int index)
{
	for (size_t i = 0; i < s->n_parts; i++)
		if (s->parts[i].wanted && s->parts[i].link.index == index)
			return true;
	return false;
}

/* What came of a look for programs: `err`, and in *why what is missing if not even that may be asked. */
static int name_missing(int err, struct reason *why)
{
	struct reason missing = { "" };

	if (err == -EPERM && check_capabilities(TASK_TELL, &missing))
		*why = missing;
	return err;
}

/* The interfaces of the translator: all that it has or is to have */
static struct xdp_members members(const struct setup *s)
{
	struct xdp_members m = { { s->link->index }, 1 };

	for (size_t i = 0; i < s->n_parts; i++)
		xdp_add_member(&m, s->parts[i].link.index);
	return m;
}

/* Those of all members: one look is at all interfaces. */
static int look_for_fast(struct setup *s, bool wanted, struct reason *why)
{
	struct xdp_members all = members(s);

	return name_missing(fast_find(s->nl, all.index, all.n, wanted, &s->fast, why), why);
}

static int look_for_xdp(struct setup *s, const struct xdp_members *all, struct reason *why)
{
	return name_missing(xdp_find(s->nl, all, &s->xdp, why), why);
}

/* Finds the programs for --fast: ours, those of translators that are gone, and where new ones are to be. If this run wants
 * none and has none, it may do without looking for those that others have left behind. */
static int find_fast(struct setup *s)
{
	struct reason why = { "" };
	int err = look_for_fast(s, s->o->fast, &why);

	if (err == -EPERM && !s->o->fast && !is_loaded(s)) {
		fast_free(&s->fast);
		return 0;
	}
	for (size_t i = 0; i < s->fast.n; i++)
		if (is_port(s, s->fast.list[i].place.link->index))
			s->fast.list[i].wanted = false;
	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
}

/* Those of the members where IPv6 hosts are to have the program for --xdp. */
static struct xdp_members xdp_ports(const struct setup *s)
{
	struct xdp_members m = { { s->link->index }, !s->link->own };

	for (size_t i = 0; i < s->n_parts; i++)
		if (s->parts[i].wanted && !s->parts[i].link.l3)
			xdp_add_member(&m, s->parts[i].link.index);
	return m;
}

/* An interface that IPv4 comes in by cannot have the program for --xdp: it does without, unless it is that of the default
 * route. 0, or -EINVAL with *why. */
static int do_without_xdp(struct setup *s, struct xdp_program *p, const char *refusal, struct reason *why)
{
	__u32 way_out = 0;

	route_default4(s->nl, &way_out);
	if (p->link->index == way_out)
		return reason(why, -EINVAL, "--xdp: %s, where IPv4 comes in, %s", p->link->name, refusal);
	p->wanted = false;
	if (!s->xdp_refused.text[0])
		reason(&s->xdp_refused, 0, "%s %s", p->link->name, refusal);
	msg_info("--xdp: not on %s, which %s", p->link->name, refusal);
	return 0;
}

/* One of those that IPv4 comes in by must be left, if there is any. 0, or -EINVAL with *why. */
static int check_xdp_left(const struct setup *s, struct reason *why)
{
	for (size_t i = 0; i < s->xdp.n; i++)
		if (s->xdp.list[i].wanted && !s->xdp.list[i].port)
			return 0;
	return s->xdp_refused.text[0]
		       ? reason(why, -EINVAL, "--xdp: on no interface that IPv4 comes in by: %s", s->xdp_refused.text)
		       : 0;
}

/* Where the programs for --xdp are to be: on all ports that are Ethernet, and where IPv4 comes in. */
static int want_xdp(struct setup *s, const struct xdp_members *all, struct reason *why)
{
	struct xdp_members ports = xdp_ports(s);
	struct reason refusal = { "" };
	int err = xdp_want(s->nl, &ports, all, &s->xdp, why);

	for (size_t i = 0; !err && i < s->xdp.n; i++) {
		struct xdp_program *p = &s->xdp.list[i];

		if (!p->wanted || !xdp_check(p, s->o->xdp, &refusal))
			continue;
		err = p->port ? reason(why, -EINVAL, "--xdp: %s %s", p->link->name, refusal.text)
			      : do_without_xdp(s, p, refusal.text, why);
	}
	return err ? err : check_xdp_left(s, why);
}

/* Finds the programs for --xdp, as find_fast(). */
static int find_xdp(struct setup *s)
{
	struct xdp_members all = members(s);
	struct reason why = { "" };
	int err = look_for_xdp(s, &all, &why);

	if (err == -EPERM && !s->o->xdp && !is_loaded(s)) {
		xdp_free(&s->xdp);
		err = 0;
	}
	if (!err && s->o->xdp)
		err = want_xdp(s, &all, &why);
	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
}

/* What is attached to the interfaces that are wanted, and what else the translator has */
static int find_attachments(struct setup *s)
{
	struct reason why = { "" };
	int err = 0;

	if (s->link->index) /* 0: a device that would be made */
		err = attachment_find(s->nl, s->link, &s->attachment);
	err = err ? err : attachment_check(&s->attachment);
	for (size_t i = 0; !err && i < s->n_parts; i++) {
		struct part *part = &s->parts[i];

		err = attachment_find(s->nl, &part->link, &part->attachment);
		err = err ? err : attachment_check(&part->attachment);
	}
	if (err)
		return err;
	if (is_loaded(s) && check_capabilities(TASK_RELOAD, &why))
		return msg_fail(-EPERM, "%s: %s", s->link->name, why.text);
	return find_members(s);
}

/* Routes of ours that lead to parts: to be replaced by those that are wanted, or to go. */
static int find_part_routes(struct setup *s, struct reason *why)
{
	int err = 0;

	s->kin = calloc(s->n_parts + 1, sizeof(*s->kin));
	if (!s->kin)
		return reason(why, -ENOMEM, "%s", strerror(ENOMEM));
	for (size_t i = 0; !err && i < s->n_parts; i++) {
		s->kin[i] = s->parts[i].link.index;
		err = routes_find(s->nl, &s->parts[i].link, NULL, &s->parts[i].routes, why);
	}
	return err;
}

/* Can the interfaces carry it? */
static int check_links(const struct setup *s, struct reason *why)
{
	struct reason said = { "" };

	if (link_check(s->link, &said))
		return reason(why, -EINVAL, "%s: %s", s->link->name, said.text);
	for (size_t i = 0; i < s->n_parts; i++)
		if (link_check_port(&s->parts[i].link, &said))
			return reason(why, -EINVAL, "%s: %s", s->parts[i].link.name, said.text);
	return 0;
}

/* Do addresses and routes stand in its way? */
static int check_network(struct setup *s, struct reason *why)
{
	int err = check_addresses(s->nl, s->link, s->o, why);

	err = err ? err : find_part_routes(s, why);
	err = err ? err : routes_wanted(s->nl, s->link, s->o, &s->wanted, why);
	s->wanted.kin = s->kin;
	s->wanted.n_kin = s->n_parts;
	err = err ? err : routes_find(s->nl, s->link, &s->wanted, &s->routes, why);
	return err ? err : routes_choose_hop(s->link, &s->routes, &s->wanted, why);
}

/* Everything that can be known to fail before anything is changed. */
static int check(struct setup *s)
{
	struct reason why = { "" };
	int err;

	if (check_links(s, &why))
		return msg_fail(-EINVAL, "%s", why.text);
	if (check_capabilities(TASK_LOAD, &why))
		return msg_fail(-EPERM, "%s: %s", s->link->name, why.text);
	err = find_attachments(s);
	err = err ? err : find_fast(s);
	err = err ? err : find_xdp(s);
	if (err)
		return err;
	err = check_network(s, &why);
	if (!err) {
		s->route_set = calloc(s->wanted.n, sizeof(*s->route_set));
		err = s->route_set ? 0 : reason(&why, -ENOMEM, "%s", strerror(ENOMEM));
	}
	return err ? msg_fail(err, "%s", why.text) : 0;
}

/* What the configuration says of an interface. 0, or a negative errno after having said why. */
static int config_link(struct setup *s, const struct link *link, struct nat64_config *cfg)
{
	bool bridge_nf;
	int err;

	cfg->ifindex = link->index;
	cfg->mtu = link->mtu;
	cfg->cut_mtu = cfg->mtu < cfg->lowest_ipv6_mtu ? cfg->mtu : cfg->lowest_ipv6_mtu;
	cfg->l3 = link->l3;
	cfg->device = link->own;
	cfg->mac = link->mac;
	err = kernel_bridge_nf(s->nl, link, &bridge_nf);
	if (err)
		return msg_fail(err, "%s: cannot list the interfaces: %s", link->name, nl_error(s->nl, err));
	cfg->bridge_nf = bridge_nf;
	cfg->port = ports_add(&s->ports, &s->before, link);
	return cfg->port ? 0 : msg_fail(-E2BIG, "-i %s: too many interfaces", link->name);
}

/* A port of a device */
static int config_port(struct setup *s, struct part *part)
{
	part->cfg = s->cfg;
	part->cfg.has_ports = 0;
	part->cfg.unrouted = 0;
	part->cfg.fast = s->cfg.fast && !part->link.l3;
	part->cfg.home = s->link->index;
	part->cfg.by_home = link_is_rp_filtered(s->nl, &part->link);
	return config_link(s, &part->link, &part->cfg);
}

/* Until nothing is left there, another run must find it. */
static void leave(struct setup *s, struct part *part)
{
	part->cfg.port = ports_add(&s->ports, &s->before, &part->link);
	if (part->cfg.port)
		s->ports.of[part->cfg.port].leaving = 1;
}

static int load_ports(struct setup *s)
{
	struct reason why = { "" };
	int err = 0;

	for (size_t i = 0; !err && i < s->n_parts; i++) {
		struct part *part = &s->parts[i];

		if (!part->wanted) {
			leave(s, part);
			continue;
		}
		err = config_port(s, part);
		if (err)
			return err;
		err = programs_load_port(s->programs, &part->cfg, &part->programs, &why);
		if (err)
			return msg_fail(err, "%s: %s", part->link.name, why.text);
	}
	err = programs_set_ports(s->programs, &s->ports);
	return err ? msg_fail(err, "%s: cannot fill in the maps: %s", s->link->name, strerror(-err)) : 0;
}

/* The programs for --xdp of all interfaces that are to have one */
static int load_xdp(struct setup *s)
{
	struct reason why = { "" };
	int err = 0;

	for (size_t i = 0; !err && i < s->xdp.n; i++) {
		struct xdp_program *p = &s->xdp.list[i];
		struct nat64_config cfg = s->cfg;

		cfg.mac = p->link->mac;
		if (p->wanted && !p->port)
			err = programs_load_xdp(s->programs, &cfg, &p->programs, &p->fd, &why);
		else if (p->wanted && p->link->index == s->link->index)
			p->fd = programs_xdp_fd(s->programs);
		for (size_t k = 0; k < s->n_parts; k++)
			if (p->wanted && p->link->index == s->parts[k].link.index)
				p->fd = programs_xdp_fd(s->parts[k].programs);
		if (err)
			msg_fail(err, "%s: %s", p->link->name, why.text);
	}
	return err;
}

static int load(struct setup *s)
{
	struct reason why = { "" };
	int err;

	options_config(s->o, &s->cfg);
	for (size_t i = 0; i < s->n_parts; i++)
		s->cfg.has_ports |= s->parts[i].wanted;
	s->cfg.unrouted = s->cfg.has_ports && !*s->o->device;
	err = config_link(s, s->link, &s->cfg);
	/* A packet is cut before it is known which port it goes to. */
	for (size_t i = 0; i < s->n_parts; i++)
		if (s->parts[i].wanted && s->parts[i].link.mtu < s->cfg.cut_mtu)
			s->cfg.cut_mtu = s->parts[i].link.mtu;
	err = err ? err : attachment_open(&s->attachment);
	for (size_t i = 0; !err && i < s->n_parts; i++)
		err = attachment_open(&s->parts[i].attachment);
	if (err)
		return err;
	err = programs_load(s->o, &s->cfg, &s->loaded, &s->programs, &s->inherit, &why);
	err = err ? msg_fail(err, "%s: %s", s->link->name, why.text) : load_ports(s);
	return err ? err : load_xdp(s);
}

/* Are the mappings those that the programs before had? */
static bool has_old_maps(const struct setup *s)
{
	return s->inherit == INHERIT_ALL || s->inherit == INHERIT_MAPS;
}

/* The mappings that maps of their own start with: static ones, those of the translator before, restored ones. */
static int fill_state(struct setup *s)
{
	struct reason why = { "" };
	int err;

	s->maps = programs_maps(s->programs);
	err = reconcile_init(&s->reconcile, s->o, &s->cfg, &s->maps);
	s->reconcile.saved = s->o->restore ? &s->o->saved : NULL;
	if (err || has_old_maps(s))
		goto out;
	err = reconcile_fill(&s->reconcile);
	if (!err && s->inherit == INHERIT_COPY) {
		s->reconcile.old = &s->loaded;
		err = loaded_config(&s->loaded, &s->reconcile.old_cfg, &why);
		err = err ? err : reconcile_copy(&s->reconcile);
	}
out:
	return err ? msg_fail(err, "%s: cannot fill in the mappings: %s", s->link->name, strerror(-err)) : 0;
}

/* The index from which on addresses are given out. If there is another pool, whose addresses go on being given out until
 * the new programs are in place, they start far from those. */
static __u32 first_index(const struct setup *s)
{
	const struct nat64_config *old = &s->reconcile.old_cfg;

	if (s->inherit != INHERIT_COPY)
		return 0;
	return be32_to((old->v4_prefix | be32_from(order_next(&s->loaded, old))) & ~s->cfg.v4_mask) +
	       (1U << (31 - s->cfg.v4_len));
}

/* A new pool has no dynamic mappings yet, and may be large. */
static bool is_empty(const struct setup *s)
{
	return s->inherit == INHERIT_NOTHING && !s->reconcile.saved;
}

/* The lists of addresses. Mappings without lists are those of an older version, and in use. */
static int make_order(const struct setup *s)
{
	struct places places = { 0 };
	int err = 0;

	if (s->inherit == INHERIT_ALL)
		return 0;
	if (!is_empty(s) || s->o->statics.n)
		err = places_read(&s->maps, &s->cfg, &places);
	err = err ? err : order_build(&s->maps, &s->cfg, &places, first_index(s));
	places_free(&places);
	return err;
}

/* What was saved, and the lists of addresses. */
static int finish_state(struct setup *s)
{
	int err = 0;

	if (!has_old_maps(s))
		err = reconcile_restore(&s->reconcile, false);
	if (!err && s->inherit == INHERIT_COPY && tell_wanted(&s->maps))
		err = reconcile_created(&s->reconcile, &s->tells);
	err = err ? err : make_order(s);
	if (!err && !is_empty(s))
		err = state_count(&s->maps, &s->cfg);
	return err ? msg_fail(err, "%s: cannot copy the mappings: %s", s->link->name, strerror(-err)) : 0;
}

/* Are there addresses that were not given out before, or are no longer? */
static bool gives_out_others(const struct setup *s)
{
	struct reason why = { "" };
	struct nat64_config was;

	return loaded_config(&s->loaded, &was, &why) || was.give_out != s->cfg.give_out ||
	       was.give_mask != s->cfg.give_mask;
}

/* Once the new programs are in place: what was new to the old ones until then; and the mappings of maps that were and are in
 * use. */
static int change_state(struct setup *s)
{
	int err = 0;

	if (s->inherit == INHERIT_COPY) {
		err = reconcile_copy_rest(&s->reconcile);
		if (!err && tell_wanted(&s->maps))
			err = reconcile_removed(&s->reconcile, &s->tells);
	}
	tells_send(&s->tells, &s->maps, TELL_PATIENCE);
	if (!err && (s->inherit == INHERIT_MAPS || (s->inherit == INHERIT_ALL && gives_out_others(s)))) {
		state_wait(); /* until then addresses are given out as before */
		err = state_place(&s->maps, &s->cfg, false);
	}
	if (!err && has_old_maps(s)) {
		err = reconcile_in_use(&s->reconcile);
		err = err ? err : reconcile_restore(&s->reconcile, true);
	}
	return err ? msg_fail(err, "%s: cannot change the mappings: %s", s->link->name, strerror(-err)) : 0;
}

/* What is known of the next hop that is wanted and has to be made one; NULL: none is. */
static const struct hop_address *wanted_hop(struct setup *s)
{
	return link_has_neighbours(s->link) ? hops_at(&s->routes.hops, s->wanted.hop.v4) : NULL;
}

static int set_neigh(struct setup *s)
{
	int err = hop_neigh_set(s->nl, s->link, s->wanted.hop.v4);

	return err ? msg_fail(err, "%s: cannot add the neighbour %s: %s", s->link->name, hop_text(&s->wanted.hop).s,
			      nl_error(s->nl, err))
		   : 0;
}

static int add_neigh(struct setup *s)
{
	const struct hop_address *hop = wanted_hop(s);
	int err = hop && !hop->permanent ? set_neigh(s) : 0;

	s->neigh_made = hop && !hop->permanent && !err;
	return err;
}

/* The route of ours to the same destination that there is, there or at a part; *link: where. Or NULL. */
static const struct route *old_route(const struct setup *s, const struct route *route, const struct link **link)
{
	const struct route *old = routes_same_dst(&s->routes, route);

	*link = s->link;
	for (size_t i = 0; !old && i < s->n_parts; i++) {
		old = routes_same_dst(&s->parts[i].routes, route);
		if (old && old->metric != route->metric)
			old = NULL; /* which goes later */
		*link = &s->parts[i].link;
	}
	return old;
}

static bool is_route_there(const struct setup *s, const struct route *route)
{
	const struct route *old = routes_same_dst(&s->routes, route);

	if (route_leads_to_none(route))
		return true;
	return old && route_equal(old, route);
}

static bool are_routes_there(const struct setup *s)
{
	for (size_t i = 0; i < s->wanted.n; i++)
		if (!is_route_there(s, &s->wanted.route[i]))
			return false;
	return true;
}

static int set_broadcasts_of(struct nl *nl, const struct link *link, const struct routes *routes, bool on)
{
	int err = 0;

	for (__u32 i = 0; !err && i < 256; i++)
		if (routes->hops.of[i].broadcast)
			err = hop_broadcast(nl, link, hop_address(i), on);
	return on && err == -EEXIST ? 0 : err; /* it could not be removed */
}

/* Makes the next hops that there were broadcast addresses again, or no more: the kernel takes no routes via them then. */
static int set_broadcasts(struct setup *s, bool on)
{
	int err = set_broadcasts_of(s->nl, s->link, &s->routes, on);

	for (size_t i = 0; !err && i < s->n_parts; i++)
		err = set_broadcasts_of(s->nl, &s->parts[i].link, &s->parts[i].routes, on);
	return err;
}

static int make_broadcast(struct setup *s)
{
	int err = hop_broadcast(s->nl, s->link, s->wanted.hop.v4, true);

	if (err)
		return msg_fail(err, "%s: cannot add the broadcast address %s: %s", s->link->name,
				hop_text(&s->wanted.hop).s, nl_error(s->nl, err));
	s->broadcast_made = true;
	return 0;
}

static int cannot_add_route(struct setup *s, const struct route *route, int err)
{
	return msg_fail(err, "%s: cannot add the route to %s: %s", s->link->name, text4(route->dst).s,
			nl_error(s->nl, err));
}

static int add_routes(struct setup *s)
{
	const struct route *old;
	const struct link *at;
	int err;

	if (!are_routes_there(s)) {
		s->broadcasts_off = true;
		err = set_broadcasts(s, false);
		err = err || !s->wanted.hop.family ? err
						   : hops_make_table(s->nl, s->link, &s->routes.hops, s->wanted.hop.v4);
		if (err)
			return msg_fail(err, "%s: cannot remove a broadcast address: %s", s->link->name,
					nl_error(s->nl, err));
	}
	for (size_t i = 0; i < s->wanted.n; i++) {
		const struct route *route = &s->wanted.route[i];

		if (is_route_there(s, route))
			continue;
		old = old_route(s, route, &at);
		/* Where rp_filter is on, the programs of both need it until the new ones are in place. */
		if (old && at != s->link)
			err = route_set_both(s->nl, s->link, route, at, &old->via);
		else
			err = route_set(s->nl, s->link, route, old);
		if (err)
			return cannot_add_route(s, route, err);
		s->route_set[i] = true;
	}
	return 0;
}

/* Routes that lead to two interfaces lead to one of them again. Then the next hop may become a broadcast address. */
static int settle_routes(struct setup *s)
{
	const struct hop_address *hop = wanted_hop(s);
	const struct link *at;
	int err = 0;

	for (size_t i = 0; !err && i < s->wanted.n; i++) {
		const struct route *route = &s->wanted.route[i];

		if (!s->route_set[i] || !old_route(s, route, &at) || at == s->link)
			continue;
		err = route_set(s->nl, s->link, route, true);
		if (err)
			return cannot_add_route(s, route, err);
	}
	if (!hop || (hop->broadcast && !s->broadcasts_off))
		return 0;
	err = make_broadcast(s);
	/* The MAC address of the interface may have changed before that. */
	return err ? err : s->broadcasts_off ? set_neigh(s) : 0;
}

static int add_device_route(struct setup *s)
{
	struct reason why = { "" };

	if (!s->link->own || s->cfg.unrouted ||
	    !device_route_set(s->nl, s->link, s->o->v6_prefix, &s->device_route_made, &why))
		return 0;
	return msg_fail(-EIO, "%s: %s", s->link->name, why.text);
}

/* The programs of ports take the place of those that are there, or begin. */
static int attach_ports(struct setup *s)
{
	int err = 0;

	for (size_t i = 0; !err && i < s->n_parts; i++) {
		struct part *part = &s->parts[i];

		if (!part->wanted)
			continue;
		err = attachment_prepare(s->nl, &part->attachment);
		for (int way = NAT64_WAYS - 1; !err && way >= 0; way--)
			err = attachment_set(s->nl, &part->attachment, way, programs_fd(part->programs, way));
	}
	return err;
}

static int attach_fast(struct setup *s)
{
	struct reason why = { "" };
	int err = s->o->fast ? fast_attach(s->nl, &s->fast, programs_fast_fd(s->programs), &why) : 0;

	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
}

/* On one interface. Only now the kernel says whether its driver can. */
static int attach_xdp_program(struct setup *s, struct xdp_program *p, struct reason *why)
{
	struct reason refusal = { "" };
	int err = xdp_attach(s->nl, p, s->o->xdp);

	if (!err || (err == -ENODEV && !p->port)) /* it has gone */
		return 0;
	reason(&refusal, err, "cannot have it: %s", nl_error(s->nl, err));
	return p->port ? reason(why, err, "--xdp: %s %s", p->link->name, refusal.text)
		       : do_without_xdp(s, p, refusal.text, why);
}

/* On all interfaces first, and then they may send to each other. */
static int attach_xdp(struct setup *s)
{
	struct reason why = { "" };
	int err = 0;

	for (size_t i = 0; !err && i < s->xdp.n; i++)
		err = s->xdp.list[i].wanted ? attach_xdp_program(s, &s->xdp.list[i], &why) : 0;
	err = err ? err : check_xdp_left(s, &why);
	for (size_t i = 0; !err && i < s->xdp.n; i++) {
		err = s->xdp.list[i].attached ? programs_add_target(s->programs, s->xdp.list[i].link->index) : 0;
		if (err)
			reason(&why, err, "cannot fill in the maps: %s", strerror(-err));
	}
	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
}

static int remove_xdp(struct setup *s)
{
	struct reason why = { "" };
	int err = xdp_remove(s->nl, &s->xdp, &why);

	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
}

static int remove_fast(struct setup *s)
{
	struct reason why = { "" };
	int err = fast_remove(s->nl, &s->fast, &why);

	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
}

static void undone(const struct setup *s, const char *what, int err)
{
	if (err)
		msg_warn("%s: cannot undo: %s: %s", s->link->name, what, nl_error(s->nl, err));
}

static void undo_routes(struct setup *s)
{
	if (s->broadcast_made)
		undone(s, "broadcast address", hop_broadcast(s->nl, s->link, s->wanted.hop.v4, false));
	for (size_t i = s->wanted.n; i-- > 0;) {
		const struct route *route = &s->wanted.route[i];
		const struct link *at;
		const struct route *old = old_route(s, route, &at);

		if (s->route_set[i] && old)
			undone(s, "route", route_set(s->nl, at, old, true));
		else if (s->route_set[i])
			undone(s, "route", route_del(s->nl, s->link, route));
	}
	if (s->broadcasts_off)
		undone(s, "broadcast address", set_broadcasts(s, true));
}

struct fds {
	int fd[NAT64_WAYS];
};

static struct fds fds_of(const struct nat64_bpf *programs)
{
	return (struct fds){ { programs_fd(programs, NAT64_6TO4), programs_fd(programs, NAT64_4TO6) } };
}

/* Mappings that the new programs have made in maps which were and are in use: what counts those of prefixes may be another map. */
static void undo_counts(struct setup *s)
{
	struct reason why = { "" };
	struct nat64_config was;
	int err;

	if (!has_old_maps(s) || !s->attachment.attached[NAT64_6TO4])
		return;
	err = loaded_config(&s->loaded, &was, &why);
	if (!err && was.prefix_limit) {
		state_wait();
		err = state_count(&s->loaded, &was);
	}
	if (err)
		msg_warn("%s: cannot undo: how many mappings prefixes have: %s", s->link->name, strerror(-err));
}

/* Back to what was there before, in reverse. */
static void undo(struct setup *s)
{
	xdp_undo(s->nl, &s->xdp, s->o->xdp);
	if (s->o->fast)
		fast_undo(s->nl, &s->fast, programs_fast_fd(s->programs));
	if (s->device_route_made)
		undone(s, "route", device_route_del(s->nl, s->link, s->o->v6_prefix));
	for (size_t i = s->n_parts; i-- > 0;)
		if (s->parts[i].wanted)
			attachment_undo(s->nl, &s->parts[i].attachment, fds_of(s->parts[i].programs).fd);
	undo_routes(s);
	attachment_undo(s->nl, &s->attachment, fds_of(s->programs).fd);
	if (s->neigh_made)
		undone(s, "neighbour", hop_neigh_del(s->nl, s->link, &s->wanted.hop));
	undo_counts(s);
}

static int remove_neigh(struct nl *nl, const struct link *link, const struct hop *hop)
{
	int err = hop_neigh_del(nl, link, hop);

	return err ? msg_fail(err, "%s: cannot remove the neighbour %s: %s", link->name, hop_text(hop).s,
			      nl_error(nl, err))
		   : 0;
}

/* A next hop of ours: that it is a broadcast address, unless it is not any more, and its neighbour entry, which may be the
 * kernel's. */
static int remove_hop(struct nl *nl, const struct link *link, const struct routes *routes, __u32 i, bool off)
{
	const struct hop_address *a = &routes->hops.of[i];
	struct hop hop = { .family = AF_INET, .v4 = hop_address(i) };
	int err = a->broadcast && !off ? hop_broadcast(nl, link, hop.v4, false) : 0;

	if (err)
		return msg_fail(err, "%s: cannot remove the broadcast address %s: %s", link->name, hop_text(&hop).s,
				nl_error(nl, err));
	return a->permanent || (a->neigh && !a->taken && (a->broadcast || a->route)) ? remove_neigh(nl, link, &hop) : 0;
}

/* Next hops of ours but one, 0: all. Returns the first error. */
static int remove_hops(struct nl *nl, const struct link *link, const struct routes *routes, __be32 but, bool off)
{
	int err, first = 0;

	for (__u32 i = 0; i < 256; i++) {
		err = but && hop_address(i) == but ? 0 : remove_hop(nl, link, routes, i, off);
		first = first ? first : err;
	}
	for (size_t i = 0; i < routes->hops.n_neigh6; i++) {
		err = remove_neigh(nl, link, &(struct hop){ .family = AF_INET6, .v6 = routes->hops.neigh6[i] });
		first = first ? first : err;
	}
	return first;
}

static int remove_route(struct nl *nl, const struct link *link, const struct route *route)
{
	int err = route_del(nl, link, route);

	return err ? msg_fail(err, "%s: cannot remove the route to %s: %s", link->name, text4(route->dst).s,
			      nl_error(nl, err))
		   : 0;
}

/* Routes, next hops and neighbours of ours that are not wanted any more. Returns the first error. */
static int remove_old_routes(struct setup *s)
{
	int err, first = 0;

	for (size_t i = 0; i < s->routes.n_routes; i++) {
		const struct route *route = &s->routes.route[i];

		err = route_is_wanted(&s->wanted, route) ? 0 : remove_route(s->nl, s->link, route);
		first = first ? first : err;
	}
	err = remove_hops(s->nl, s->link, &s->routes, s->wanted.hop.v4, s->broadcasts_off);
	return first ? first : err;
}

/* Those to a NAT64 prefix that was another one, or all if none is wanted. */
static int remove_device_routes(struct setup *s)
{
	const struct prefix6 *wanted = s->cfg.unrouted ? NULL : &s->o->v6_prefix;
	int err = s->link->own ? device_routes_del(s->nl, s->link, wanted) : 0;

	return err ? msg_fail(err, "%s: cannot remove its routes: %s", s->link->name, nl_error(s->nl, err)) : 0;
}

static int remove_device(struct nl *nl, const struct link *link)
{
	int err = device_del(nl, link);

	return err ? msg_fail(err, "%s: cannot remove the device: %s", link->name, nl_error(nl, err)) : 0;
}

/* Routes that led to a part, unless they have been replaced. Returns the first error. */
static int remove_part_routes(struct setup *s, const struct part *part)
{
	int err, first = 0;

	for (size_t i = 0; i < part->routes.n_routes; i++) {
		const struct route *route = &part->routes.route[i], *wanted = routes_wanted_same(&s->wanted, route);

		err = wanted && wanted->metric == route->metric ? 0 : remove_route(s->nl, &part->link, route);
		first = first ? first : err;
	}
	err = remove_hops(s->nl, &part->link, &part->routes, 0, s->broadcasts_off);
	return first ? first : err;
}

/* Those for --fast may have come to the interface by now, or gone. */
static int remove_programs(struct nl *nl, const struct link *link)
{
	struct attachment a = ATTACHMENT_NONE;
	int err = attachment_find(nl, link, &a);

	err = err ? err : attachment_remove(nl, &a);
	attachment_close(&a);
	return err;
}

/* What the translator had on an interface, and has no more: all, if that is no port. Returns the first error. */
static int remove_part(struct setup *s, struct part *part)
{
	int err, first = remove_part_routes(s, part);

	if (part->wanted)
		return first;
	/* A device takes its programs along: as long as it is there, another run knows it by them. */
	err = part->link.own ? remove_device(s->nl, &part->link) : remove_programs(s->nl, &part->link);
	first = first ? first : err;
	if (first || !part->cfg.port)
		return first;
	err = ports_forget(s->maps.ports, part->cfg.port);
	return err ? msg_fail(err, "%s: cannot write its maps: %s", s->link->name, strerror(-err)) : 0;
}

/* Where the program for --fast is now */
static void tell_fast(const struct setup *s)
{
	bool some = false;

	for (size_t i = 0; i < s->fast.n; i++) {
		if (!(s->o->dry_run ? s->fast.list[i].wanted : s->fast.list[i].attached))
			continue;
		msg_info("  %-13s %s", some ? "" : "fast", s->fast.list[i].place.link->name);
		some = true;
	}
	if (s->o->fast && !some)
		msg_note("--fast: no other Ethernet interface has an IPv4 address; run nat64 again when one has");
}

/* Where the programs for --xdp are now */
static void tell_xdp(const struct setup *s)
{
	bool uplink = false;

	for (size_t i = 0; i < s->xdp.n; i++) {
		const struct xdp_program *p = &s->xdp.list[i];

		if (!(s->o->dry_run ? p->wanted : p->attached))
			continue;
		msg_info("  xdp           %s, %s", p->link->name, p->port ? "IPv6 to IPv4" : "IPv4 to IPv6");
		uplink |= !p->port;
	}
	if (s->o->xdp && !uplink)
		msg_note("--xdp: no other Ethernet interface has an IPv4 address; run nat64 again when one has");
}

/* What is loaded now, for -v */
static void tell(const struct setup *s)
{
	const char *dev = s->link->name;

	msg_info("%s: %s%s", dev, s->o->dry_run ? "would be " : "", is_loaded(s) ? "reconfigured" : "loaded");
	msg_info("  NAT64 prefix  %s", text6(s->o->v6_prefix).s);
	if (options_has_pool(s->o))
		msg_info("  IPv4 prefix   %s: %u addresses", text4(s->o->v4_prefix).s, options_pool_size(s->o));
	if (options_gives_out(s->o))
		msg_info("  gives out     %s", text4(s->o->give_out).s);
	for (size_t i = 0; i < s->o->n_allowed; i++)
		msg_info("  allowed       %s", text6(s->o->allowed[i]).s);
	if (s->o->statics.n)
		msg_info("  static        %zu mappings", s->o->statics.n);
	msg_info("  time-out      %u s", s->o->timeout);
	if (s->o->reuse_idle)
		msg_info("  reuse         if idle for %u s", s->o->reuse_idle);
	if (s->o->per_prefix.limit)
		msg_info("  per prefix    %u mappings of a /%u", s->o->per_prefix.limit, s->o->per_prefix.len);
	for (size_t i = 0; i < s->n_parts; i++)
		if (s->parts[i].wanted)
			msg_info("  port          %s%s", s->parts[i].link.name,
				 s->parts[i].cfg.by_home ? " (by the device, because of rp_filter)" : "");
	msg_info("  MTU           %u, on the IPv4 side %u", s->link->mtu, s->wanted.route[ROUTE_POOL].mtu);
	msg_info("  mappings      %s", s->inherit == INHERIT_NOTHING ? "none yet" : "kept");
	msg_info("  memory        %llu kB", (programs_memory(s->programs) + 1023) / 1024);
	tell_fast(s);
	tell_xdp(s);
	msg_info("IPv6 hosts need a route to %s via an address of this machine%s%s.", text6(s->o->v6_prefix).s,
		 s->link->own ? "" : " on ", s->link->own ? "" : dev);
}

/* Nobody would forgive us for not saying it. */
static void tell_lost(const struct setup *s)
{
	const char *would = s->o->dry_run ? "that would be " : "";

	if (is_loaded(s) && s->inherit == INHERIT_NOTHING)
		msg_note("%s: mappings %sgone: all, because they are of another version of nat64", s->link->name,
			 would);
	else if (s->reconcile.n_lost)
		msg_note("%s: mappings %sgone: %u, because the IPv4 prefix was %s", s->link->name, would,
			 s->reconcile.n_lost,
			 text4((struct prefix4){ s->reconcile.old_cfg.v4_prefix, s->reconcile.old_cfg.v4_len }).s);
}

/* Once no program from before is attached any more: what those have changed since it was counted */
static int count_state(struct setup *s)
{
	int err;

	if (!s->cfg.prefix_limit || s->inherit == INHERIT_NOTHING)
		return 0;
	state_wait();
	err = state_count(&s->maps, &s->cfg);
	return err ? msg_fail(err, "%s: cannot count the mappings: %s", s->link->name, strerror(-err)) : 0;
}

/* What is to be done once packets go through the new programs. A failure keeps nothing else from being done. Returns the
 * first error. */
static int finish(struct setup *s)
{
	int err, first = change_state(s);

	err = remove_xdp(s);
	first = first ? first : err;
	err = remove_fast(s);
	first = first ? first : err;
	err = attachment_remove_old_filters(s->nl, &s->attachment);
	first = first ? first : err;
	err = remove_old_routes(s);
	first = first ? first : err;
	for (size_t i = 0; i < s->n_parts; i++) {
		err = remove_part(s, &s->parts[i]);
		first = first ? first : err;
	}
	err = remove_device_routes(s);
	first = first ? first : err;
	err = count_state(s);
	return first ? first : err;
}

static int init(struct setup *s, const struct link *ports, size_t n)
{
	s->parts = calloc(n + NAT64_PORTS + 1, sizeof(*s->parts));
	if (!s->parts)
		return msg_fail(-ENOMEM, "%s", strerror(ENOMEM));
	for (size_t i = 0; i < n + NAT64_PORTS + 1; i++)
		s->parts[i].attachment = ATTACHMENT_NONE;
	for (; s->n_parts < n; s->n_parts++) {
		s->parts[s->n_parts].link = ports[s->n_parts];
		s->parts[s->n_parts].wanted = true;
	}
	return 0;
}

static void release(struct setup *s)
{
	tells_free(&s->tells);
	fast_free(&s->fast);
	xdp_free(&s->xdp);
	reconcile_free(&s->reconcile);
	for (size_t i = 0; i < s->n_parts; i++) {
		attachment_close(&s->parts[i].attachment);
		routes_free(&s->parts[i].routes);
		programs_close(s->parts[i].programs);
	}
	free(s->parts);
	free(s->kin);
	programs_close(s->programs);
	attachment_close(&s->attachment);
	loaded_close(&s->loaded);
	routes_free(&s->routes);
	wanted_free(&s->wanted);
	free(s->route_set);
}

/* All that changes the machine, until the new programs have the packets. 0, or a negative errno after having said why. */
static int bring_in(struct setup *s)
{
	struct attachment *a = &s->attachment;
	struct fds fds = fds_of(s->programs);
	int err;

	err = attachment_prepare(s->nl, a);
	/* Before a route leads there: what comes then has no mapping yet, and does not leave as it is. */
	if (!err && !a->hook[NAT64_4TO6].ours)
		err = attachment_set(s->nl, a, NAT64_4TO6, fds.fd[NAT64_4TO6]);
	err = err ? err : add_neigh(s);
	err = err ? err : add_routes(s);
	err = err ? err : finish_state(s);
	err = err ? err : attachment_set(s->nl, a, NAT64_6TO4, fds.fd[NAT64_6TO4]);
	if (!err && !a->attached[NAT64_4TO6])
		err = attachment_set(s->nl, a, NAT64_4TO6, fds.fd[NAT64_4TO6]);
	err = err ? err : attach_ports(s);
	err = err ? err : settle_routes(s);
	err = err ? err : add_device_route(s);
	err = err ? err : attach_fast(s);
	return err ? err : attach_xdp(s);
}

int setup_load(struct nl *nl, const struct link *link, const struct link *ports, size_t n_ports,
	       const struct options *o)
{
	struct setup s = { .nl = nl, .link = link, .o = o, .attachment = ATTACHMENT_NONE, .loaded = LOADED_NONE };
	int err;

	err = init(&s, ports, n_ports);
	err = err ? err : check(&s);
	err = err ? err : load(&s);
	err = err ? err : fill_state(&s);
	if (err)
		goto out;
	if (o->dry_run)
		goto tell;
	err = bring_in(&s);
	if (err) {
		undo(&s);
		goto out;
	}
	err = finish(&s);
	if (err && !is_loaded(&s)) {
		undo(&s);
		goto out;
	}
tell:
	tell_lost(&s);
	if (err) {
		msg_note("%s: but for this the new options are in force; run it again", link->name);
		goto out;
	}
	hints(nl, link, o);
	for (size_t i = 0; i < s.n_parts; i++)
		if (s.parts[i].wanted)
			hints_port(nl, &s.parts[i].link, o);
	tell(&s);
out:
	release(&s);
	return err;
}

int setup_look(struct nl *nl, const struct link *link, const struct link *ports, size_t n_ports,
	       const struct options *o)
{
	struct setup s = { .nl = nl, .link = link, .o = o, .attachment = ATTACHMENT_NONE, .loaded = LOADED_NONE };
	struct reason why = { "" };
	int err = init(&s, ports, n_ports);

	if (!err) {
		err = check_links(&s, &why);
		err = err ? err : check_network(&s, &why);
		if (err)
			msg_fail(err, "%s", why.text);
	}
	release(&s);
	return err;
}

/* Takes away all that there is on one interface; *found: something was. */
static int unload(struct nl *nl, const struct link *link, bool *found)
{
	struct attachment a = ATTACHMENT_NONE;
	struct routes routes = { 0 };
	struct reason why = { "" };
	int err;

	err = attachment_find(nl, link, &a);
	if (err)
		goto out;
	err = routes_find(nl, link, NULL, &routes, &why);
	if (err) {
		msg_fail(err, "%s: %s", link->name, why.text);
		goto out;
	}
	*found |= attachment_is_loaded(&a) || !routes_are_none(&routes) || link->own;
	for (size_t i = 0; !err && i < routes.n_routes; i++)
		err = remove_route(nl, link, &routes.route[i]);
	err = err ? err : remove_hops(nl, link, &routes, 0, false);
	err = err ? err : attachment_remove(nl, &a);
	err = err || !link->own ? err : remove_device(nl, link);
out:
	attachment_close(&a);
	routes_free(&routes);
	return err;
}

/* The other interfaces of the translator; none if they cannot be known, since one of an older version has no others. */
static int find_others(struct setup *s)
{
	struct reason why = { "" };
	int err = attachment_find(s->nl, s->link, &s->attachment);

	if (err || !attachment_is_loaded(&s->attachment) ||
	    (s->attachment.kind == TC_CLSACT && check_capabilities(TASK_TELL, &why)))
		return err;
	return find_members(s);
}

/* Removes what the translator has of --xdp, or one that is gone. *found: there was something. */
static int remove_xdp_of(struct setup *s, bool *found)
{
	struct xdp_members all = members(s);
	struct reason why = { "" };
	int err = look_for_xdp(s, &all, &why);

	*found |= s->xdp.n;
	err = err ? err : xdp_remove(s->nl, &s->xdp, &why);
	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
}

/* The same of --fast. */
static int remove_fast_of(struct setup *s, bool *found)
{
	struct reason why = { "" };
	int err = look_for_fast(s, false, &why);

	*found |= s->fast.n;
	err = err ? err : fast_remove(s->nl, &s->fast, &why);
	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
}

int setup_unload(struct nl *nl, const struct link *link)
{
	struct setup s = { .nl = nl, .link = link, .attachment = ATTACHMENT_NONE, .loaded = LOADED_NONE };
	struct reason why = { "" };
	bool found = false;
	int err;

	if (check_capabilities(TASK_UNLOAD, &why))
		return msg_fail(-EPERM, "%s: %s", link->name, why.text);
	err = init(&s, NULL, 0);
	err = err ? err : find_others(&s);
	err = err ? err : remove_xdp_of(&s, &found);
	err = err ? err : remove_fast_of(&s, &found);
	/* The device that routes lead to is the last to go. */
	for (size_t i = 0; !err && i < s.n_parts; i++)
		err = s.parts[i].link.own ? 0 : unload(nl, &s.parts[i].link, &found);
	err = err ? err : unload(nl, link, &found);
	for (size_t i = 0; !err && i < s.n_parts; i++)
		err = s.parts[i].link.own ? unload(nl, &s.parts[i].link, &found) : 0;
	if (!err && !found)
		err = msg_fail(-ENOENT, "nothing loaded on %s", link->name);
	if (!err)
		msg_info("%s: unloaded", link->name);
	release(&s);
	return err;
}

int setup_clean(struct nl *nl, bool *found)
{
	const struct xdp_members none = { 0 };
	struct reason why = { "" };
	struct fast fast;
	struct xdp xdp;
	int err;

	*found = false;
	if (check_capabilities(TASK_UNLOAD, &why) || check_capabilities(TASK_TELL, &why))
		return 0; /* nothing is found by those who may not look */
	err = xdp_find(nl, &none, &xdp, &why);
	*found = err || xdp.n;
	err = err ? err : xdp_remove(nl, &xdp, &why);
	xdp_free(&xdp);
	if (err)
		return msg_fail(err, "%s", why.text);
	err = fast_find(nl, NULL, 0, false, &fast, &why);
	*found |= err || fast.n;
	err = err ? err : fast_remove(nl, &fast, &why);
	fast_free(&fast);
	return err ? msg_fail(err, "%s", why.text) : 0;
}
