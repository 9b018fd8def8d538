/* SPDX-License-Identifier: GPL-2.0-only */
/* edit.h - changes of mappings by a command, made while packets flow
 *
 * Userspace cannot change two maps in one step, nor hold a lock. So it runs a BPF program, which changes mappings the way the
 * packet programs do. It uses no per-CPU scratch memory: a packet may interrupt it on the same CPU.
 */
#ifndef NAT64_EDIT_H
#define NAT64_EDIT_H

#include "mirror.h"
#include "state.h"

/* With --per-prefix: does an entry count? */
static __always_inline bool counts(__u64 tick)
{
	return tick && tick != NAT64_STATIC;
}

/* Counts a mapping of the host .v6 of the edit `i`, however many its prefix has. The number of the record, or 0: try again. A
 * global function, see live_mapping. */
__noinline int count_edit(__u32 i)
{
	struct nat64_edit *e = bpf_map_lookup_elem(&edits, &i);
	union nat64_v6 prefix;
	__u32 number = 0;

	if (!e)
		return 0;
	prefix = prefix_of(&e->v6);
	return count_mapping(&prefix, ~0U, &number) == NAT64_PASS ? number : 0;
}

/* Sees to it that the entry of the edit `i`, which is or will be that of .v6 with this tick, is counted where it should be. False:
 * other CPUs were always faster. */
static __always_inline bool count_owner(const struct nat64_edit *e, __u32 i, __u64 tick)
{
	__u32 number = 0, try;

	for (try = 0; !number && counts(tick) && try < TRIES; try++)
		number = count_edit(i);
	if (counts(tick) && !number)
		return false;
	if (set_prefix(e->index, number) == SET_PREFIX)
		return true;
	uncount(number);
	return false;
}

/* The same for what is there at the entry of the edit `i`, whose .v6 becomes that of its owner. Packets may change the owner, and
 * then count it themselves; but perhaps before we do. A global function, see live_mapping. */
__noinline int count_again(__u32 i)
{
	struct nat64_edit *e = bpf_map_lookup_elem(&edits, &i);
	const struct nat64_mapping *m;
	__u64 tick, now_tick;
	union nat64_v6 now;
	__u32 index, try;

	if (!e)
		return NAT64_DONE_NOT;
	index = e->index;
	m = bpf_map_lookup_elem(&mappings, &index);
	if (!m)
		return NAT64_DONE_NOT;
	for (try = 0; try < TRIES; try++) {
		if (!read_owner(m, &now, &tick) && tick)
			continue;
		e->v6.d[0] = now.d[0];
		e->v6.d[1] = now.d[1];
		if (!count_owner(e, i, tick))
			continue;
		if ((read_owner(m, &now, &now_tick) || !now_tick) && v6_same(&e->v6, &now) &&
		    counts(tick) == counts(now_tick))
			return NAT64_DONE;
	}
	return NAT64_DONE_NOT;
}

/* Makes of entry `m` what is asked for, if it is what it is thought to be. *counted: and has it counted where it should be. */
static __always_inline bool set_mapping(struct nat64_mapping *m, const struct nat64_edit *e, __u32 i, bool *counted)
{
	bool ok, keeps = v6_same(&e->was, &e->v6);
	__u64 now = bpf_jiffies64();

	bpf_spin_lock(&m->lock);
	ok = m->tick != NAT64_TAKEN && v6_same(&m->v6, &e->was) && (e->how == NAT64_EDIT_SET || is_free(m->tick, now));
	if (ok && keeps) { /* its packets find it all the time */
		m->last_seen = e->last_seen;
		m->epoch = epoch(e->tick);
		WRITE_ONCE(m->tick, e->tick);
	} else if (ok) {
		WRITE_ONCE(m->tick, NAT64_TAKEN);
	}
	bpf_spin_unlock(&m->lock);
	*counted = true;
	if (ok && cfg.prefix_limit)
		*counted = keeps ? count_again(i) == NAT64_DONE : count_owner(e, i, e->tick);
	if (ok && !keeps)
		set_owner(m, &e->v6, e->tick, e->last_seen, e->created);
	return ok;
}

/* Takes the node `i` out of its list. */
static __always_inline int take_out_node(__u32 i)
{
	struct nat64_node *node = node_at(i), *prev, *next;
	__u32 zero = 0, p, n, try;
	struct nat64_pool *lists = bpf_map_lookup_elem(&pool, &zero);
	bool same;

	if (!lists || !node)
		return NAT64_DONE_HALF;
	for (try = 0; try < TRIES; try++) {
		p = READ_ONCE(node->prev);
		n = READ_ONCE(node->next);
		prev = node_at(p);
		next = node_at(n);
		if (!prev || !next)
			return NAT64_DONE_HALF;
		bpf_spin_lock(&lists->lock);
		same = node->prev == p && node->next == n;
		if (same) {
			prev->next = n;
			next->prev = p;
			node->prev = node->next = i;
		}
		bpf_spin_unlock(&lists->lock);
		if (same)
			return NAT64_DONE;
	}
	return NAT64_DONE_HALF;
}

/* Puts the node of entry `m` where it belongs. */
static __always_inline int place(const struct nat64_mapping *m, const struct nat64_edit *e)
{
	__u32 last, try, index = e->index;
	__u64 tick = READ_ONCE(m->tick);
	int moved = MOVE_AGAIN;

	if (tick == NAT64_STATIC)
		return NAT64_DONE;
	if (!gives_out(index))
		return take_out_node(index);
	for (try = 0; tick && e->before < ADDRESSES && moved == MOVE_AGAIN && try < TRIES; try++)
		moved = move_node(index, e->before, true, e);
	if (moved == MOVED)
		return NAT64_DONE;
	last = tick ? NAT64_USED(ADDRESSES) : NAT64_FREE(ADDRESSES);
	for (try = 0; moved != MOVED && try < TRIES; try++)
		moved = move_node(index, last, true, NULL);
	if (moved != MOVED)
		return NAT64_DONE_HALF;
	return tick && e->before < ADDRESSES ? NAT64_DONE_LAST : NAT64_DONE;
}

/* Makes the change `e`, the entry `n` of "edits". */
static __always_inline int edit(struct nat64_edit *e, __u32 n)
{
	__u32 *i, index = e->index;
	struct nat64_mapping *m = bpf_map_lookup_elem(&mappings, &index);
	union nat64_v6 v6 = e->v6, was = e->was;
	bool counted;
	int verdict;

	if (!m)
		return NAT64_DONE_NOT;
	if (e->how == NAT64_EDIT_MIRROR || e->how == NAT64_EDIT_FORGET) {
		verdict = mirror(n);
		if (verdict != NAT64_DONE)
			return verdict;
		was = e->was;
		e->how = NAT64_EDIT_CLAIM; /* as if a host had sent something: nobody is in the way */
	}
	if (e->how == NAT64_EDIT_TAKE_OUT)
		return take_out_node(index);
	if (e->how == NAT64_EDIT_PLACE)
		return place(m, e);
	if (e->how == NAT64_EDIT_COUNT)
		return cfg.prefix_limit ? count_again(n) : NAT64_DONE;
	if (!set_mapping(m, e, n, &counted))
		return NAT64_DONE_NOT;
	if (e->how == NAT64_EDIT_CLAIM && (was.d[0] | was.d[1]) && !v6_same(&was, &v6)) {
		i = bpf_map_lookup_elem(&by_v6, &was);
		if (i && *i == index)
			bpf_map_delete_elem(&by_v6, &was);
	}
	if ((v6.d[0] | v6.d[1]) &&
	    bpf_map_update_elem(&by_v6, &v6, &index, e->how == NAT64_EDIT_CLAIM ? BPF_NOEXIST : BPF_ANY)) {
		release(m, index, &v6);
		return NAT64_DONE_NOT;
	}
	verdict = e->tick == NAT64_STATIC ? NAT64_DONE : place(m, e);
	return counted ? verdict : NAT64_DONE_HALF;
}

#endif
