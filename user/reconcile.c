// SPDX-License-Identifier: GPL-2.0-or-later
/* reconcile.c - makes the mappings that are there agree with the options */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "reconcile.h"
#include "save.h"
#include "table.h"

static int by_v6(const void *a, const void *b)
{
	const struct static_mapping *x = a, *y = b;

	return v6_order(&x->v6.addr, &y->v6.addr);
}

int reconcile_init(struct reconcile *r, const struct options *o, const struct nat64_config *cfg,
		   const struct loaded *maps)
{
	*r = (struct reconcile){ .o = o, .cfg = cfg, .maps = maps, .now = boottime() };
	if (!o->statics.n)
		return 0;
	r->sources = malloc(o->statics.n * sizeof(*r->sources));
	if (!r->sources)
		return -ENOMEM;
	for (size_t i = 0; i < o->statics.n; i++)
		if (static_is_in_table(&o->statics.list[i], &o->v4_prefix))
			r->sources[r->n_sources++] = o->statics.list[i];
	qsort(r->sources, r->n_sources, sizeof(*r->sources), by_v6);
	return 0;
}

void reconcile_free(struct reconcile *r)
{
	free(r->sources);
}

static bool has_static(const struct reconcile *r, const union nat64_v6 *v6)
{
	struct static_mapping source = { .v6.addr = *v6 };
	struct nat64_lpm6 key = { 128, *v6 };
	struct nat64_static4 value;

	if (r->n_sources && bsearch(&source, r->sources, r->n_sources, sizeof(source), by_v6))
		return true;
	return r->cfg->has_static && !bpf_map_lookup_elem(r->maps->static6, &key, &value);
}

static const char *illegal_source(const struct reconcile *r, const union nat64_v6 *v6)
{
	struct nat64_lpm6 key = { 128, *v6 };
	__u32 value;

	if (has_static(r, v6))
		return "the host has a static mapping";
	return bpf_map_lookup_elem(r->maps->allowed, &key, &value) ? "the host is not allowed" : NULL;
}

static struct prefix4 address_of(const struct nat64_config *cfg, __u32 index)
{
	return (struct prefix4){ cfg->v4_prefix | be32_from(index), 32 };
}

/* What the options want at an address of the table, which must be asked for in order: static, held, or nothing. */
static bool static_at(struct reconcile *r, __u32 index, struct nat64_mapping *to)
{
	__u32 address = be32_to(address_of(r->cfg, index).addr);
	static const union nat64_v6 none;
	const struct static_mapping *host = NULL;

	for (; r->next < r->o->statics.n; r->next++) {
		const struct static_mapping *m = &r->o->statics.list[r->next];
		__u64 start = be32_to(m->v4.addr), end = start + (1ULL << (32 - m->v4.len));

		if (start > address)
			break;
		if (static_is_in_table(m, &r->o->v4_prefix))
			host = start == address ? m : NULL;
		else if (end > r->held_until)
			r->held_until = end;
	}
	if (!host && address >= r->held_until)
		return false;
	*to = mapping_static(host ? &host->v6.addr : &none);
	return true;
}

static void start_walk(struct reconcile *r)
{
	r->next = 0;
	r->held_until = 0;
	r->now = boottime();
}

static int fill_entry(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct reconcile *r = data;
	struct nat64_mapping to;

	(void)m;
	return static_at(r, index, &to) ? state_set(r->maps, index, &to) : 0;
}

int reconcile_fill(struct reconcile *r)
{
	start_walk(r);
	return r->o->statics.n ? mappings_walk(r->maps->mappings, fill_entry, r) : 0;
}

static bool same_owner(const struct nat64_mapping *a, const struct nat64_mapping *b)
{
	return v6_same(&a->v6, &b->v6);
}

static int judge(__u32 index, const struct nat64_mapping *m, void *data)
{
	enum mapping_kind kind;
	struct reconcile *r = data;
	struct nat64_mapping to = { 0 };
	const char *why = "its address has a static mapping";
	int err;

	kind = mapping_kind(m, r->cfg, r->now);
	if (static_at(r, index, &to)) {
		if (m->tick == NAT64_STATIC && same_owner(m, &to))
			return 0;
		if (kind == MAPPING_FREE || kind == MAPPING_HELD || same_owner(m, &to))
			why = NULL;
		return edits_add(r->edits, index, m, &to, why);
	}
	if (kind == MAPPING_FREE)
		return 0;
	if (kind == MAPPING_HELD)
		return edits_add(r->edits, index, m, &to, NULL);
	why = illegal_source(r, &m->v6);
	if (kind != MAPPING_STATIC)
		return why ? edits_add(r->edits, index, m, &to, why) : 0;
	/* Static no longer: the host keeps it as any other does, if it may. */
	if (!why && is_given_out(index, r->cfg->v4_len)) {
		err = mapping_dynamic(&m->v6, 0, r->now - m->created, r->cfg, &to);
		if (err)
			return err;
	} else if (!why) {
		why = "its address is not given out";
	}
	return edits_add(r->edits, index, m, &to, why);
}

static int decide(struct edits *e, void *data)
{
	struct reconcile *r = data;

	start_walk(r);
	r->edits = e;
	return mappings_walk(r->maps->mappings, judge, r);
}

static void tell(const union nat64_v6 *v6, struct prefix4 v4, const char *why)
{
	msg_info("mapping %s %s removed: %s", text4(v4).s, text6((struct prefix6){ *v6, 128 }).s, why);
}

static void done(const struct edit *e, void *data)
{
	struct reconcile *r = data;

	if (e->why)
		tell(&e->was, address_of(r->cfg, e->index), e->why);
}

int reconcile_in_use(struct reconcile *r)
{
	struct change change = { decide, done, r, false, false };

	return state_change(r->maps, r->cfg, &change);
}

/* May a host have a dynamic mapping with this index, where `there` is the entry? NULL, or why not. */
static const char *illegal(const struct reconcile *r, __u32 index, const struct nat64_mapping *there,
			   const union nat64_v6 *v6)
{
	__u32 other;

	if (!is_given_out(index, r->cfg->v4_len))
		return "its address is not given out";
	if (there->tick == NAT64_STATIC)
		return "its address has a static mapping";
	if (mapping_kind(there, r->cfg, r->now) == MAPPING_LIVE)
		return "another host has its address";
	if (!bpf_map_lookup_elem(r->maps->by_v6, v6, &other) && other != index)
		return "the host has another address";
	return illegal_source(r, v6);
}

/* Gives an entry that is not in use a dynamic owner; what is there has expired. */
static int adopt(const struct reconcile *r, __u32 index, const struct nat64_mapping *there,
		 const struct nat64_mapping *to)
{
	if (there->tick && bpf_map_delete_elem(r->maps->by_v6, &there->v6) && errno != ENOENT)
		return -errno;
	return state_set(r->maps, index, to);
}

static int copy(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct reconcile *r = data;
	struct prefix4 v4 = address_of(&r->old_cfg, index);
	enum mapping_kind kind = mapping_kind(m, &r->old_cfg, r->now);
	struct nat64_mapping to = *m, there;
	const char *why = "its address is not in the IPv4 prefix";
	int err = 0;

	if (kind == MAPPING_FREE || kind == MAPPING_HELD)
		return 0;
	if (!prefix4_covers(&r->o->v4_prefix, &v4)) {
		r->n_lost++;
		goto out;
	}
	index = be32_to(v4.addr & ~r->cfg->v4_mask);
	if (mapping_read(r->maps->mappings, index, &there))
		return -errno;
	if (there.tick && same_owner(&there, m))
		return 0;
	why = illegal(r, index, &there, &m->v6);
	if (why)
		goto out;
	to.hop.tick = 0;
	to.epoch = to.tick >> r->cfg->epoch_shift;
	if (kind == MAPPING_STATIC)
		err = mapping_dynamic(&m->v6, 0, r->now - m->created, r->cfg, &to);
	if (err)
		return err;
	return r->edits ? edits_add(r->edits, index, &there, &to, NULL) : adopt(r, index, &there, &to);
out:
	if (r->last)
		tell(&m->v6, v4, why);
	return 0;
}

static int decide_copy(struct edits *e, void *data)
{
	struct reconcile *r = data;

	start_walk(r);
	r->n_lost = 0;
	r->edits = e;
	return mappings_walk(r->old->mappings, copy, r);
}

int reconcile_copy(struct reconcile *r)
{
	r->last = false;
	return decide_copy(NULL, r);
}

int reconcile_copy_rest(struct reconcile *r)
{
	/* Listeners were told of them by the old programs. */
	struct change change = { decide_copy, NULL, r, false, true };
	int err;

	state_wait();
	r->last = false;
	err = state_change(r->maps, r->cfg, &change);
	r->last = true;
	return err ? err : decide_copy(NULL, r);
}

/* Does a host have an address in the table of maps? */
static bool is_mapped(const struct loaded *maps, const struct nat64_config *cfg, __be32 v4, const union nat64_v6 *v6)
{
	const struct prefix4 pool = { cfg->v4_prefix, cfg->v4_len }, address = { v4, 32 };
	__u32 index = be32_to(v4 & ~cfg->v4_mask);
	struct nat64_mapping m;

	return prefix4_covers(&pool, &address) && !mapping_read(maps->mappings, index, &m) && m.tick &&
	       v6_same(&m.v6, v6);
}

/* Has it the address by "static4", from host to host? */
static bool is_static_outside(const struct loaded *maps, __be32 v4, const union nat64_v6 *v6)
{
	struct nat64_lpm4 key = { 32, v4 };
	struct nat64_static6 to;

	return !bpf_map_lookup_elem(maps->static4, &key, &to) && !to.v4_host && v6_same(&to.v6, v6);
}

static int tell_removed(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct reconcile *r = data;
	enum mapping_kind kind = mapping_kind(m, &r->old_cfg, r->now);
	const struct prefix4 v4 = address_of(&r->old_cfg, index);
	const char *why = "its address is not in the IPv4 prefix";
	struct nat64_mapping there;

	if (kind == MAPPING_FREE || kind == MAPPING_HELD || is_mapped(r->maps, r->cfg, v4.addr, &m->v6) ||
	    is_static_outside(r->maps, v4.addr, &m->v6))
		return 0;
	if (prefix4_covers(&r->o->v4_prefix, &v4)) {
		index = be32_to(v4.addr & ~r->cfg->v4_mask);
		if (mapping_read(r->maps->mappings, index, &there))
			return -errno;
		why = illegal(r, index, &there, &m->v6);
	}
	tells_add(r->tells, NAT64_EVENT_REMOVED, v4.addr, &m->v6, false, why ? why : "");
	return 0;
}

static int tell_created(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct reconcile *r = data;
	enum mapping_kind kind = mapping_kind(m, r->cfg, r->now);
	__be32 v4 = address_of(r->cfg, index).addr;

	if (kind != MAPPING_FREE && kind != MAPPING_HELD && !is_mapped(r->old, &r->old_cfg, v4, &m->v6) &&
	    !is_static_outside(r->old, v4, &m->v6))
		tells_add(r->tells, NAT64_EVENT_CREATED, v4, &m->v6, kind == MAPPING_STATIC, "");
	return 0;
}

int reconcile_created(struct reconcile *r, struct tells *tells)
{
	r->tells = tells;
	return mappings_walk(r->maps->mappings, tell_created, r);
}

int reconcile_removed(struct reconcile *r, struct tells *tells)
{
	r->tells = tells;
	return mappings_walk(r->old->mappings, tell_removed, r);
}

/* Restores one mapping: adds an edit, or if r->edits is NULL makes it at once. With r->last it only says which could not be
 * restored. */
static int restore(struct reconcile *r, const struct saved_mapping *m)
{
	const char *why = "its address is not in the IPv4 prefix";
	struct prefix4 v4 = { m->v4, 32 };
	struct nat64_mapping to, there;
	__u32 index = be32_to(m->v4 & ~r->cfg->v4_mask);
	int err;

	if (prefix4_covers(&r->o->v4_prefix, &v4)) {
		if (mapping_read(r->maps->mappings, index, &there))
			return -errno;
		if (there.tick && v6_same(&there.v6, &m->v6))
			return 0;
		why = illegal(r, index, &there, &m->v6);
	}
	if (r->last) {
		r->n_refused++;
		msg_info("mapping %s %s not restored: %s", text4(v4).s, text6((struct prefix6){ m->v6, 128 }).s,
			 why ? why : "it has gone again");
	}
	if (why || r->last)
		return 0;
	err = mapping_dynamic(&m->v6, m->idle * NS_PER_SEC, m->age * NS_PER_SEC, r->cfg, &to);
	if (err)
		return err;
	return r->edits ? edits_add(r->edits, index, &there, &to, NULL) : adopt(r, index, &there, &to);
}

static int decide_restore(struct edits *e, void *data)
{
	struct reconcile *r = data;
	int err = 0;

	r->edits = e;
	r->now = boottime();
	for (size_t i = 0; !err && i < r->saved->n; i++)
		err = restore(r, &r->saved->list[i]);
	return err;
}

int reconcile_restore(struct reconcile *r, bool in_use)
{
	struct change change = { decide_restore, NULL, r, false, false };
	int err;

	if (!r->saved)
		return 0;
	r->last = false;
	err = in_use ? state_change(r->maps, r->cfg, &change) : decide_restore(NULL, r);
	r->last = true;
	err = err ? err : decide_restore(NULL, r);
	if (!err && r->n_refused)
		msg_note("mappings not restored: %u of %zu", r->n_refused, r->saved->n);
	if (!err && r->saved->n && r->saved->since * NS_PER_SEC > config_timeout(r->cfg))
		msg_note("mappings restored were saved %u seconds ago, longer than the time-out: they have expired",
			 r->saved->since);
	return err;
}
