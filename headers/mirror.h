/* SPDX-License-Identifier: GPL-2.0-only */
/* mirror.h - applies what another gateway reports of its mappings (--mirror)
 *
 * Two mappings are in conflict if they have the host or the address in common. The one with the lower IPv4 address stays, or, if
 * the IPv4 address is the same, the one with the lower IPv6 address. This needs no clock and no negotiation: every gateway that
 * sees both comes to the same result, in whatever order they arrive.
 *
 * This rule is for mappings that are certain. A mapping is hearsay (NAT64_HEARSAY) if another gateway has reported it and the
 * host has not been seen here since. A mapping is over if its host has been silent for so long that it may lose it. A certain
 * mapping replaces hearsay and mappings that are over, and neither of these ever replaces a certain one: a gateway knows more of
 * its own hosts, and more recently, than gateways that have only heard of them. So hearsay only fills free places, as after a
 * restart.
 *
 * A chain of conflicts is a < b < c, where b is in conflict with both others. A gateway that has b, and hears of c before a,
 * rejects c; then a removes b, and c was rejected for nothing. But the removal of b is reported. The gateway that has c hears that a
 * mapping in conflict with c is gone, and reports c once more (NAT64_EVENT_KEPT). This ends, since it happens only after a mapping
 * was removed in favour of a lower one.
 *
 * The host that loses a live mapping may be in the midst of a packet, which would write its time into the entry. So that is
 * done in two runs, between which userspace waits until all programs that had begun have ended: the first run deletes the host
 * from by_v6, so that no later packet finds it and writes; the second one makes the entry free.
 */
#ifndef NAT64_MIRROR_H
#define NAT64_MIRROR_H

#include "state.h"

/* May a host lose what it has had since `tick`, its last packet? Without the second that is_free() adds for packets that are
 * on their way: whether to wait for these is for the caller to say. */
static __always_inline bool is_over(__u64 tick, __u64 now)
{
	return is_idle(tick, now, hold());
}

/* The rule: does the mapping of `a` to the index i stay, and that of `b` to j go? */
static __always_inline bool stays(__u32 i, const union nat64_v6 *a, __u32 j, const union nat64_v6 *b)
{
	__u64 x, y;

	if (i != j)
		return i < j;
	x = bpf_be64_to_cpu(a->d[0]);
	y = bpf_be64_to_cpu(b->d[0]);
	if (x != y)
		return x < y;
	return bpf_be64_to_cpu(a->d[1]) < bpf_be64_to_cpu(b->d[1]);
}

/* Does what the edit says give way to the mapping of `v6` to `index`, the entry `m`? *local: that is certain. */
static __always_inline bool gives_way(const struct nat64_edit *e, const struct nat64_mapping *m, __u32 index,
				      const union nat64_v6 *v6, __u64 now, __u32 *local)
{
	*local = !(READ_ONCE(m->last_seen) & NAT64_HEARSAY);
	if (is_over(READ_ONCE(m->tick), now))
		return false;
	return e->weak || (*local && !stays(e->index, &e->v6, index, v6));
}

/* Is `index` the entry by which `v6` is found? */
static __always_inline bool finds(const union nat64_v6 *v6, __u32 index)
{
	__u32 *i = bpf_map_lookup_elem(&by_v6, v6);

	return i && *i == index;
}

/* Takes the entry `index` away from `v6`, which could not be found by it any more when all programs began that run now. If it
 * can again, it is another mapping, and stays. */
static __always_inline void free_lost(__u32 index, const union nat64_v6 *v6)
{
	struct nat64_mapping *m = bpf_map_lookup_elem(&mappings, &index);

	if (m && (v6->d[0] | v6->d[1]) && READ_ONCE(m->tick) != NAT64_STATIC && !finds(v6, index))
		release(m, index, v6);
}

/* The host has the address already: what the edit says of its last packet may be later. */
static __always_inline int hear_again(struct nat64_mapping *m, const struct nat64_edit *e)
{
	bool later;

	bpf_spin_lock(&m->lock);
	later = m->tick != NAT64_TAKEN && m->tick != NAT64_STATIC && v6_same(&m->v6, &e->v6) &&
		is_before(m->tick, e->tick) && !e->weak;
	if (later) {
		m->last_seen = e->last_seen;
		WRITE_ONCE(m->tick, e->tick);
	}
	bpf_spin_unlock(&m->lock);
	if (later && READ_ONCE(m->epoch) != epoch(e->tick))
		place_again(m, e->index, e->tick);
	return NAT64_DONE_SAME;
}

/* What the edit says in spans of time becomes times. */
static __always_inline void begin(struct nat64_edit *e, __u64 now)
{
	__u64 clock = bpf_ktime_get_boot_ns();

	e->begun = 1;
	e->weak |= is_over(now - e->tick, now);
	e->tick = now - e->tick;
	if (!e->tick) /* 0 is for free ones */
		e->tick--;
	e->last_seen = (clock - e->last_seen) | NAT64_HEARSAY;
	e->created = clock - e->created;
}

/* The first of two runs: nobody finds the owner of the entry by by_v6 any more, nor the other entry of the host. */
static __always_inline int disown(struct nat64_edit *e, bool owner)
{
	union nat64_v6 v6 = e->v6, was = e->was;

	if (e->had)
		bpf_map_delete_elem(&by_v6, &v6);
	if (owner && finds(&was, e->index))
		bpf_map_delete_elem(&by_v6, &was);
	return NAT64_DONE_BEGUN;
}

/* What this gateway has itself that excludes the mapping of `v6` to `index`, for which it may have been refused at the other: its
 * owner, and what the host has besides. */
static __always_inline void note_rivals(struct nat64_edit *e, const struct nat64_mapping *m,
					const union nat64_v6 *owner)
{
	union nat64_v6 v6 = e->v6;
	__u32 *i = bpf_map_lookup_elem(&by_v6, &v6), j;
	const struct nat64_mapping *other;

	if (!v6_same(owner, &v6) && !(READ_ONCE(m->last_seen) & NAT64_HEARSAY)) {
		e->lost.d[0] = owner->d[0];
		e->lost.d[1] = owner->d[1];
	}
	if (!i || *i == e->index)
		return;
	j = *i;
	other = bpf_map_lookup_elem(&mappings, &j);
	if (other && READ_ONCE(other->tick) != NAT64_STATIC && !(READ_ONCE(other->last_seen) & NAT64_HEARSAY))
		e->had_local = j + 1;
}

/* NAT64_EDIT_FORGET. Whoever takes an entry away from a host says so of that host: it is obeyed. */
static __always_inline int forget(struct nat64_edit *e)
{
	union nat64_v6 v6 = e->v6, owner = {};
	__u32 index = e->index;
	struct nat64_mapping *m = bpf_map_lookup_elem(&mappings, &index);
	__u64 tick = 0;
	bool there;

	if (!m)
		return NAT64_DONE_SAME;
	there = read_owner(m, &owner, &tick);
	if (there && tick == NAT64_STATIC)
		return NAT64_DONE_SAME;
	if (!there)
		owner.d[0] = owner.d[1] = 0;
	note_rivals(e, m, &owner);
	if (!there || !v6_same(&owner, &v6))
		return NAT64_DONE_SAME;
	if (e->weak && !(READ_ONCE(m->last_seen) & NAT64_HEARSAY))
		return NAT64_DONE_LOSES;
	if (!finds(&v6, index))
		return NAT64_DONE_SAME; /* it is being taken away */
	e->was.d[0] = owner.d[0];
	e->was.d[1] = owner.d[1];
	e->had = 0;
	return disown(e, true);
}

/* The edit `n`, NAT64_EDIT_MIRROR or NAT64_EDIT_FORGET. NAT64_DONE: nothing is in the way of making .v6 the owner of the
 * entry; .was is there, whose time is over, or nobody. A global function, see live_mapping. */
__noinline int mirror(__u32 n)
{
	struct nat64_edit *e = bpf_map_lookup_elem(&edits, &n);
	struct nat64_mapping *m, *other;
	__u32 index, *i, j = 0, local = 0;
	union nat64_v6 v6, owner;
	__u64 now = bpf_jiffies64(), tick = 0;
	bool there, live, loses;

	if (!e)
		return NAT64_DONE_NOT;
	v6 = e->v6;
	index = e->index;
	if (!e->begun) {
		begin(e, now);
	} else {
		owner = e->was;
		free_lost(index, &owner);
		if (e->had)
			free_lost(e->had - 1, &v6);
		e->had = 0;
	}
	if (e->how == NAT64_EDIT_FORGET)
		return forget(e);
	m = bpf_map_lookup_elem(&mappings, &index);
	if (!m)
		return NAT64_DONE_LOSES;
	there = read_owner(m, &owner, &tick);
	if (!there && tick)
		return NAT64_DONE_NOT; /* it is being changed */
	if (there && tick == NAT64_STATIC)
		return NAT64_DONE_STATIC;
	i = bpf_map_lookup_elem(&by_v6, &v6);
	if (i)
		j = *i + 1;
	if (there && v6_same(&owner, &v6)) {
		if (!j) /* a run of nat64 was killed between the two */
			bpf_map_update_elem(&by_v6, &v6, &index, BPF_NOEXIST);
		return !j || j == index + 1 ? hear_again(m, e) : NAT64_DONE_NOT;
	}
	loses = there && gives_way(e, m, index, &owner, now, &local);
	live = there && !is_free(tick, now);
	e->was.d[0] = there ? owner.d[0] : 0;
	e->was.d[1] = there ? owner.d[1] : 0;
	if (there && local) {
		e->lost.d[0] = owner.d[0];
		e->lost.d[1] = owner.d[1];
	}
	if (j) {
		e->had = j--;
		other = bpf_map_lookup_elem(&mappings, &j);
		if (!other || !is_owner(other, &v6, &tick))
			return NAT64_DONE_NOT;
		if (tick == NAT64_STATIC)
			return NAT64_DONE_STATIC;
		loses |= gives_way(e, other, j, &v6, now, &local);
		e->had_local = local ? j + 1 : 0;
	}
	if (loses)
		return NAT64_DONE_LOSES;
	if (!live && !e->had)
		return NAT64_DONE;
	return disown(e, live);
}

#endif
