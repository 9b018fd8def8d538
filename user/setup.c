// SPDX-License-Identifier: GPL-2.0-or-later
/* setup.c - loading, reconfiguring and unloading a translator as a whole */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
#include "tc.h"

/* What is there, what is wanted, and what this run has done: all that a step back needs. */
struct setup {
	struct nl *nl;
	const struct link *link;
	const struct options *o;

	struct tc_place place[NAT64_WAYS];

	/* found */
	enum tc_qdisc qdisc;
	struct tc_hook hook[NAT64_WAYS];
	struct routes routes;
	struct loaded loaded;
	struct fast fast; /* and wanted */

	/* wanted */
	enum tc_kind kind;
	struct wanted wanted;
	struct nat64_config cfg;
	struct nat64_bpf *programs;
	struct loaded maps; /* of the programs */
	enum inherit inherit;
	struct reconcile reconcile;
	struct tells tells; /* of which listeners are told once it is done */

	/* done */
	bool clsact_made;
	bool neigh_made;
	bool device_route_made;
	bool *route_set; /* for each that is wanted */
	bool broadcasts_off;
	bool broadcast_made;
	bool attached[NAT64_WAYS];
};

static bool is_loaded(const struct setup *s)
{
	return s->hook[NAT64_6TO4].ours || s->hook[NAT64_4TO6].ours;
}

/* Is the clsact qdisc of nat64's making? */
static bool is_clsact_ours(const struct setup *s)
{
	return s->clsact_made || s->hook[NAT64_6TO4].made_clsact || s->hook[NAT64_4TO6].made_clsact;
}

/* How to attach: as what is there, or beside the filters of a clsact qdisc, so that their order is kept, or by tcx. */
static enum tc_kind kind_wanted(const struct setup *s)
{
	for (int way = 0; way < NAT64_WAYS; way++)
		if (s->hook[way].ours)
			return s->hook[way].kind;
	return s->hook[NAT64_6TO4].has_tcx && s->qdisc != TC_QDISC_CLSACT ? TC_TCX : TC_CLSACT;
}

static int find_hooks(struct setup *s)
{
	int err = tc_qdisc_find(s->nl, s->link, &s->qdisc);
	struct reason why = { "" };

	for (int way = 0; !err && way < NAT64_WAYS; way++) {
		s->place[way] = (struct tc_place){ s->link, way, s->link->index };
		err = tc_hook_find(s->nl, &s->place[way], &s->hook[way]);
	}
	s->kind = kind_wanted(s);
	if (err == -EPERM && check_capabilities(TASK_TELL, &why))
		return msg_fail(err, "%s: %s", s->link->name, why.text);
	return err ? msg_fail(err, "%s: cannot list its filters: %s", s->link->name, nl_error(s->nl, err)) : 0;
}

/* Conflicts with filters of others, if ours are to be or have to be filters, too */
static int check_filters(const struct setup *s)
{
	const char *name = s->link->name;

	if (s->kind == TC_TCX)
		return 0;
	if (s->qdisc == TC_QDISC_INGRESS)
		return msg_fail(-EEXIST,
				"%s: it has an ingress qdisc, and can have no clsact qdisc beside it "
				"(tc qdisc del dev %s ingress)",
				name, name);
	for (int way = 0; way < NAT64_WAYS; way++)
		if (s->hook[way].foreign.text[0])
			return msg_fail(-EEXIST, "%s: %s", name, s->hook[way].foreign.text);
	return 0;
}

/* Finds the programs for --fast: ours, those of translators that are gone, and where new ones are to be. If this run wants
 * none and has none, it may do without looking for those that others have left behind. */
static int find_fast(struct setup *s)
{
	bool wanted = s->o && s->o->fast;
	struct reason why = { "" }, missing = { "" };
	int err = fast_find(s->nl, s->link, wanted, &s->fast, &why);

	if (err == -EPERM && s->o && !wanted && !is_loaded(s)) {
		fast_free(&s->fast);
		return 0;
	}
	if (err == -EPERM && check_capabilities(TASK_TELL, &missing))
		why = missing;
	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
}

/* Everything that can be known to fail before anything is changed. */
static int check(struct setup *s)
{
	const char *name = s->link->name;
	struct reason why = { "" };
	int err;

	if (link_check(s->link, &why) || check_capabilities(TASK_LOAD, &why))
		return msg_fail(-EINVAL, "%s: %s", name, why.text);
	err = s->link->index ? find_hooks(s) : 0; /* 0: a device that would be made */
	err = err ? err : check_filters(s);
	if (err)
		return err;
	if (is_loaded(s) && check_capabilities(TASK_RELOAD, &why))
		return msg_fail(-EPERM, "%s: %s", name, why.text);
	err = find_fast(s);
	if (err)
		return err;
	err = check_addresses(s->nl, s->link, s->o, &why);
	err = err ? err : routes_wanted(s->nl, s->link, s->o, &s->wanted, &why);
	err = err ? err : routes_find(s->nl, s->link, &s->wanted, &s->routes, &why);
	err = err ? err : routes_choose_hop(s->link, &s->routes, &s->wanted, &why);
	if (!err) {
		s->route_set = calloc(s->wanted.n, sizeof(*s->route_set));
		err = s->route_set ? 0 : reason(&why, -ENOMEM, "%s", strerror(ENOMEM));
	}
	return err ? msg_fail(err, "%s", why.text) : 0;
}

static int load(struct setup *s)
{
	__u32 id[NAT64_WAYS] = { s->hook[NAT64_6TO4].prog_id, s->hook[NAT64_4TO6].prog_id };
	struct reason why = { "" };
	int err;

	options_config(s->o, &s->cfg);
	s->cfg.ifindex = s->link->index;
	s->cfg.mtu = s->link->mtu;
	s->cfg.cut_mtu = s->cfg.mtu < s->cfg.lowest_ipv6_mtu ? s->cfg.mtu : s->cfg.lowest_ipv6_mtu;
	s->cfg.l3 = s->link->l3;
	s->cfg.device = s->link->own;
	s->cfg.bridge_nf = kernel_bridge_nf(s->nl, s->link);
	err = loaded_open(id, &s->loaded, &why);
	err = err ? err : programs_load(s->o, &s->cfg, &s->loaded, &s->programs, &s->inherit, &why);
	return err ? msg_fail(err, "%s: %s", s->link->name, why.text) : 0;
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

/* The lists of addresses. Mappings without lists are those of an older version, and in use. */
static int make_order(const struct setup *s)
{
	struct places places = { 0 };
	int err = 0;

	if (s->inherit == INHERIT_ALL)
		return 0;
	/* A new pool has no mappings yet, and may be large. */
	if (s->inherit != INHERIT_NOTHING || s->o->statics.n || s->reconcile.saved)
		err = places_read(&s->maps, &places);
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
	return err ? msg_fail(err, "%s: cannot copy the mappings: %s", s->link->name, strerror(-err)) : 0;
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
	tells_send(&s->tells, &s->maps);
	if (!err && s->inherit == INHERIT_MAPS) {
		state_wait();
		err = state_place(&s->maps, &s->cfg);
	}
	if (!err && has_old_maps(s)) {
		err = reconcile_in_use(&s->reconcile);
		err = err ? err : reconcile_restore(&s->reconcile, true);
	}
	return err ? msg_fail(err, "%s: cannot change the mappings: %s", s->link->name, strerror(-err)) : 0;
}

static int add_clsact(struct setup *s)
{
	int err;

	if (s->qdisc == TC_QDISC_CLSACT || s->kind == TC_TCX)
		return 0;
	err = tc_clsact_add(s->nl, s->link);
	if (err == -ENOENT)
		return msg_fail(err, "%s: the kernel has no clsact qdisc (CONFIG_NET_SCH_INGRESS)", s->link->name);
	if (err)
		return msg_fail(err, "%s: cannot add a clsact qdisc: %s", s->link->name, nl_error(s->nl, err));
	s->clsact_made = true;
	return 0;
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

/* Makes the next hops that there were broadcast addresses again, or no more. */
static int set_broadcasts(struct setup *s, bool on)
{
	int err = 0;

	for (__u32 i = 0; !err && i < 256; i++)
		if (s->routes.hops.of[i].broadcast)
			err = hop_broadcast(s->nl, s->link, hop_address(i), on);
	return on && err == -EEXIST ? 0 : err; /* it could not be removed */
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

static int add_routes(struct setup *s)
{
	const struct hop_address *hop = wanted_hop(s);
	bool change = !are_routes_there(s);
	int err;

	if (change) {
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
		err = route_set(s->nl, s->link, route, routes_same_dst(&s->routes, route));
		if (err)
			return msg_fail(err, "%s: cannot add the route to %s: %s", s->link->name, text4(route->dst).s,
					nl_error(s->nl, err));
		s->route_set[i] = true;
	}
	if (!hop || (hop->broadcast && !change))
		return 0;
	err = make_broadcast(s);
	/* The MAC address of the interface may have changed before that. */
	return err ? err : change ? set_neigh(s) : 0;
}

static int add_device_route(struct setup *s)
{
	struct reason why = { "" };

	if (!s->link->own || !device_route_set(s->nl, s->link, s->o->v6_prefix, &s->device_route_made, &why))
		return 0;
	return msg_fail(-EIO, "%s: %s", s->link->name, why.text);
}

static int attach(struct setup *s, int way)
{
	const struct tc_hook *hook = &s->hook[way];
	int fd = programs_fd(s->programs, way);
	int err;

	err = hook->ours ? tc_replace(s->nl, &s->place[way], hook->kind, fd, is_clsact_ours(s), s->loaded.program[way])
			 : tc_attach(s->nl, &s->place[way], s->kind, fd, is_clsact_ours(s));
	if (err == -ENOENT && s->kind == TC_CLSACT)
		return msg_fail(err, "%s: the kernel has no BPF filters for tc (CONFIG_NET_CLS_BPF)", s->link->name);
	if (err)
		return msg_fail(err, "%s: cannot attach to the %s hook: %s", s->link->name, tc_hook_name(way),
				nl_error(s->nl, err));
	s->attached[way] = true;
	return 0;
}

static int attach_fast(struct setup *s)
{
	struct reason why = { "" };
	int err = s->o->fast ? fast_attach(s->nl, &s->fast, programs_fast_fd(s->programs), &why) : 0;

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
		const struct route *old = routes_same_dst(&s->routes, route);

		if (s->route_set[i] && old)
			undone(s, "route", route_set(s->nl, s->link, old, true));
		else if (s->route_set[i])
			undone(s, "route", route_del(s->nl, s->link, route));
	}
	if (s->broadcasts_off)
		undone(s, "broadcast address", set_broadcasts(s, true));
}

/* Back to what was there before, in reverse. */
static void undo(struct setup *s)
{
	if (s->o->fast)
		fast_undo(s->nl, &s->fast, programs_fast_fd(s->programs));
	if (s->device_route_made)
		undone(s, "route", device_route_del(s->nl, s->link, s->o->v6_prefix));
	undo_routes(s);
	for (int way = NAT64_WAYS - 1; way >= 0; way--) {
		const struct tc_hook *hook = &s->hook[way];
		int fd = programs_fd(s->programs, way);

		if (s->attached[way] && hook->ours)
			undone(s, tc_hook_name(way),
			       tc_replace(s->nl, &s->place[way], hook->kind, s->loaded.program[way], hook->made_clsact,
					  fd));
		else if (s->attached[way])
			undone(s, tc_hook_name(way), tc_detach(s->nl, &s->place[way], s->kind, fd));
	}
	if (s->neigh_made)
		undone(s, "neighbour", hop_neigh_del(s->nl, s->link, &s->wanted.hop));
	if (s->clsact_made)
		undone(s, "clsact", tc_clsact_del(s->nl, s->link));
}

static int remove_neigh(struct setup *s, const struct hop *hop)
{
	int err = hop_neigh_del(s->nl, s->link, hop);

	return err ? msg_fail(err, "%s: cannot remove the neighbour %s: %s", s->link->name, hop_text(hop).s,
			      nl_error(s->nl, err))
		   : 0;
}

/* A next hop of ours: that it is a broadcast address, and its neighbour entry, which may be the kernel's. */
static int remove_hop(struct setup *s, __u32 i)
{
	const struct hop_address *a = &s->routes.hops.of[i];
	struct hop hop = { .family = AF_INET, .v4 = hop_address(i) };
	int err = a->broadcast && !s->broadcasts_off ? hop_broadcast(s->nl, s->link, hop.v4, false) : 0;

	if (err)
		return msg_fail(err, "%s: cannot remove the broadcast address %s: %s", s->link->name, hop_text(&hop).s,
				nl_error(s->nl, err));
	return a->permanent || (a->neigh && !a->taken && (a->broadcast || a->route)) ? remove_neigh(s, &hop) : 0;
}

/* Routes, next hops and neighbours of ours that are not wanted (any more); NULL: none is. Returns the first error. */
static int remove_routes(struct setup *s, const struct wanted *wanted)
{
	int first = 0;
	int err;

	for (size_t i = 0; i < s->routes.n_routes; i++) {
		const struct route *route = &s->routes.route[i];

		if (route_is_wanted(wanted, route))
			continue;
		err = route_del(s->nl, s->link, route);
		if (err && !first)
			first = msg_fail(err, "%s: cannot remove the route to %s: %s", s->link->name,
					 text4(route->dst).s, nl_error(s->nl, err));
	}
	for (__u32 i = 0; i < 256; i++) {
		err = wanted && hop_address(i) == wanted->hop.v4 ? 0 : remove_hop(s, i);
		first = first ? first : err;
	}
	for (size_t i = 0; i < s->routes.hops.n_neigh6; i++) {
		err = remove_neigh(s, &(struct hop){ .family = AF_INET6, .v6 = s->routes.hops.neigh6[i] });
		first = first ? first : err;
	}
	return first;
}

/* Those to a NAT64 prefix that was another one */
static int remove_device_routes(struct setup *s)
{
	int err = s->link->own ? device_routes_del(s->nl, s->link, &s->o->v6_prefix) : 0;

	return err ? msg_fail(err, "%s: cannot remove its routes: %s", s->link->name, nl_error(s->nl, err)) : 0;
}

static int detach(struct setup *s, int way, enum tc_kind kind)
{
	int err = tc_detach(s->nl, &s->place[way], kind, s->loaded.program[way]);

	return err ? msg_fail(err, "%s: cannot detach from the %s hook: %s", s->link->name, tc_hook_name(way),
			      nl_error(s->nl, err))
		   : 0;
}

/* Our filters, and with them, in one step, the clsact qdisc if it is ours alone: were the filters to go first, nobody
 * would know any more whose it is if then something failed. */
static int remove_filters(struct setup *s)
{
	unsigned int others = s->hook[NAT64_6TO4].others + s->hook[NAT64_4TO6].others;
	int err = 0;

	if (is_clsact_ours(s) && !others) {
		err = tc_clsact_del(s->nl, s->link);
		return err ? msg_fail(err, "%s: cannot remove the clsact qdisc: %s", s->link->name,
				      nl_error(s->nl, err))
			   : 0;
	}
	for (int way = NAT64_WAYS - 1; !err && way >= 0; way--)
		err = s->hook[way].filter ? detach(s, way, TC_CLSACT) : 0;
	return err;
}

/* Filters of ours behind what is attached by tcx: a version of nat64 that knew no tcx had loaded once more. */
static int remove_old_filters(struct setup *s)
{
	bool left = false, used = false;

	for (int way = 0; way < NAT64_WAYS; way++) {
		left |= s->hook[way].filter && s->hook[way].kind == TC_TCX;
		used |= s->hook[way].filter && s->hook[way].kind == TC_CLSACT;
	}
	return left && !used ? remove_filters(s) : 0;
}

static int remove_programs(struct setup *s)
{
	int err = 0;

	for (int way = NAT64_WAYS - 1; !err && way >= 0; way--)
		err = s->hook[way].ours && s->hook[way].kind == TC_TCX ? detach(s, way, TC_TCX) : 0;
	return err ? err : remove_filters(s);
}

static int remove_device(struct setup *s)
{
	int err = device_del(s->nl, s->link);

	return err ? msg_fail(err, "%s: cannot remove the device: %s", s->link->name, nl_error(s->nl, err)) : 0;
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

/* What is loaded now, for -v */
static void tell(const struct setup *s)
{
	const char *dev = s->link->name;

	msg_info("%s: %s%s", dev, s->o->dry_run ? "would be " : "", is_loaded(s) ? "reconfigured" : "loaded");
	msg_info("  NAT64 prefix  %s", text6(s->o->v6_prefix).s);
	if (options_has_pool(s->o))
		msg_info("  IPv4 prefix   %s: %u addresses", text4(s->o->v4_prefix).s, options_pool_size(s->o));
	for (size_t i = 0; i < s->o->n_allowed; i++)
		msg_info("  allowed       %s", text6(s->o->allowed[i]).s);
	if (s->o->statics.n)
		msg_info("  static        %zu mappings", s->o->statics.n);
	msg_info("  time-out      %u s", s->o->timeout);
	if (s->o->reuse_idle)
		msg_info("  reuse         if idle for %u s", s->o->reuse_idle);
	msg_info("  MTU           %u, on the IPv4 side %u", s->link->mtu, s->wanted.route[ROUTE_POOL].mtu);
	msg_info("  mappings      %s", s->inherit == INHERIT_NOTHING ? "none yet" : "kept");
	msg_info("  memory        %llu kB", (programs_memory(s->programs) + 1023) / 1024);
	tell_fast(s);
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

/* What is to be done once packets go through the new programs. A failure keeps nothing else from being done. Returns the
 * first error. */
static int finish(struct setup *s)
{
	int err, first = change_state(s);

	err = remove_fast(s);
	first = first ? first : err;
	err = remove_old_filters(s);
	first = first ? first : err;
	err = remove_routes(s, &s->wanted);
	first = first ? first : err;
	err = remove_device_routes(s);
	return first ? first : err;
}

int setup_load(struct nl *nl, const struct link *link, const struct options *o)
{
	struct setup s = { .nl = nl, .link = link, .o = o, .loaded = LOADED_NONE };
	int err;

	err = check(&s);
	err = err ? err : load(&s);
	err = err ? err : fill_state(&s);
	if (err)
		goto out;
	if (o->dry_run)
		goto tell;
	err = add_clsact(&s);
	/* Before a route leads there: what comes then has no mapping yet, and does not leave as it is. */
	if (!err && !s.hook[NAT64_4TO6].ours)
		err = attach(&s, NAT64_4TO6);
	err = err ? err : add_neigh(&s);
	err = err ? err : add_routes(&s);
	err = err ? err : finish_state(&s);
	err = err ? err : attach(&s, NAT64_6TO4);
	if (!err && !s.attached[NAT64_4TO6])
		err = attach(&s, NAT64_4TO6);
	err = err ? err : add_device_route(&s);
	err = err ? err : attach_fast(&s);
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
	tell(&s);
out:
	tells_free(&s.tells);
	fast_free(&s.fast);
	reconcile_free(&s.reconcile);
	programs_close(s.programs);
	loaded_close(&s.loaded);
	routes_free(&s.routes);
	wanted_free(&s.wanted);
	free(s.route_set);
	return err;
}

/* To detach from tcx takes the programs themselves. */
static int open_tcx(struct setup *s, struct reason *why)
{
	__u32 id[NAT64_WAYS] = { 0 };

	for (int way = 0; way < NAT64_WAYS; way++)
		if (s->hook[way].kind == TC_TCX)
			id[way] = s->hook[way].prog_id;
	return loaded_open(id, &s->loaded, why);
}

int setup_unload(struct nl *nl, const struct link *link)
{
	struct setup s = { .nl = nl, .link = link, .loaded = LOADED_NONE };
	struct reason why = { "" };
	int err;

	if (check_capabilities(TASK_UNLOAD, &why))
		return msg_fail(-EPERM, "%s: %s", link->name, why.text);
	err = find_hooks(&s);
	if (err)
		return err;
	err = find_fast(&s);
	if (err)
		goto out;
	err = open_tcx(&s, &why);
	err = err ? err : routes_find(nl, link, NULL, &s.routes, &why);
	if (err) {
		msg_fail(err, "%s: %s", link->name, why.text);
		goto out;
	}
	if (!is_loaded(&s) && routes_are_none(&s.routes) && !s.fast.n && !link->own) {
		err = msg_fail(-ENOENT, "nothing loaded on %s", link->name);
		goto out;
	}
	err = remove_fast(&s);
	err = err ? err : find_hooks(&s); /* among them may have been filters on this very interface */
	err = err ? err : remove_routes(&s, NULL);
	err = err ? err : remove_programs(&s);
	err = err || !link->own ? err : remove_device(&s);
	if (!err)
		msg_info("%s: unloaded", link->name);
out:
	fast_free(&s.fast);
	loaded_close(&s.loaded);
	routes_free(&s.routes);
	return err;
}

int setup_clean(struct nl *nl, bool *found)
{
	struct reason why = { "" };
	struct fast fast;
	int err;

	*found = false;
	if (check_capabilities(TASK_UNLOAD, &why) || check_capabilities(TASK_TELL, &why))
		return 0; /* nothing is found by those who may not look */
	err = fast_find(nl, NULL, false, &fast, &why);
	*found = err || fast.n;
	err = err ? err : fast_remove(nl, &fast, &why);
	fast_free(&fast);
	return err ? msg_fail(err, "%s", why.text) : 0;
}
