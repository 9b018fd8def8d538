/* SPDX-License-Identifier: GPL-2.0-only */
/* prefix.h - how many mappings a prefix of IPv6 addresses has (--per-prefix)
 *
 *	by_prefix: prefix -> number of its record               (hash)
 *	prefixes:  number -> {prefix, how many mappings, ...}   (array)
 *	members:   index of a mapping -> {record, neighbours}   (array; for each record a circular list)
 *	counting:  the lock of all that is in the arrays, and the records that are to be had
 *
 * Each dynamic mapping, live or expired, is a member of its prefix. Whoever changes the owner of an entry of `mappings`, and so
 * has it exclusively (NAT64_TAKEN), changes its membership before anybody sees the new owner. A packet counts the mapping
 * that it is about to make before it looks for an address: so two CPUs cannot both take the last place of a prefix.
 *
 * A record belongs to the prefix .v6 until another prefix takes it, which it can when the record counts no mappings. As with
 * `mappings` and by_v6: whoever takes a record from an old prefix, and nobody else, deletes the old prefix's entry of by_prefix,
 * before adding the new one. An entry of by_prefix is valid if, under the lock, the record still has that prefix. Exactly the
 * records that count no mappings are on a stack. A record cannot be taken out of the middle of the stack. So when a prefix has
 * a mapping again whose record is on the stack, it gives up its old record (which loses its name) and takes the one on top, as
 * any other prefix does.
 *
 * Numbers of records start at 1, 0 is none. Likewise .hand is an index plus 1.
 */
#ifndef NAT64_PREFIX_H
#define NAT64_PREFIX_H

#include "addr.h"

#define TRIES 16 /* to change what other CPUs change, too */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* all of these set when loaded, if they are used */
	__type(key, union nat64_v6);
	__type(value, __u32);
} by_prefix SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat64_prefix);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat64_member);
} members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat64_counting);
} counting SEC(".maps");

static __always_inline union nat64_v6 prefix_of(const union nat64_v6 *v6)
{
	union nat64_v6 prefix;

	prefix.d[0] = v6->d[0] & cfg.prefix_mask.d[0];
	prefix.d[1] = v6->d[1] & cfg.prefix_mask.d[1];
	return prefix;
}

/* NULL also for number 0. */
static __always_inline struct nat64_prefix *record_at(__u32 number)
{
	__u32 i = number - 1;

	return bpf_map_lookup_elem(&prefixes, &i);
}

static __always_inline struct nat64_member *member_at(__u32 i)
{
	return bpf_map_lookup_elem(&members, &i);
}

/* Under the lock: one mapping less. */
static __always_inline void count_down(struct nat64_counting *c, struct nat64_prefix *p, __u32 number)
{
	if (!p->count || --p->count)
		return;
	p->below = c->top;
	c->top = number;
}

static __always_inline void count_less(struct nat64_counting *c, struct nat64_prefix *p, __u32 number)
{
	bpf_spin_lock(&c->lock);
	count_down(c, p, number);
	bpf_spin_unlock(&c->lock);
}

/* One mapping less, which was counted and not made. A global function, see live_mapping. */
__noinline int uncount(__u32 number)
{
	struct nat64_counting *c = only_value(&counting);
	struct nat64_prefix *p = record_at(number);

	if (c && p)
		count_less(c, p, number);
	return 0;
}

/* Finds a record for the prefix `v6`, and counts one; .was is whose it was before. Its number, or 0: there is none, or other
 * CPUs were always faster. */
static __always_inline __u32 new_record(struct nat64_counting *c, const union nat64_v6 *v6)
{
	struct nat64_prefix *p;
	__u32 number, top, try;
	bool mine;

	for (try = 0; try < TRIES; try++) {
		top = READ_ONCE(c->top);
		number = top ? top : READ_ONCE(c->made) + 1;
		p = record_at(number);
		if (!p)
			return 0;
		bpf_spin_lock(&c->lock);
		mine = c->top == top && (top || c->made == number - 1);
		if (mine) {
			if (top)
				c->top = p->below;
			else
				c->made = number;
			p->was.d[0] = p->v6.d[0];
			p->was.d[1] = p->v6.d[1];
			p->v6.d[0] = v6->d[0];
			p->v6.d[1] = v6->d[1];
			p->count = 1;
		}
		bpf_spin_unlock(&c->lock);
		if (mine)
			return number;
	}
	return 0;
}

/* Counts one more in the record `number`, if that is the prefix's, and counts fewer than `limit`. *empty: it counts nothing, and
 * is the prefix's no more; its entry of by_prefix is the caller's to delete. */
static __always_inline int count_more(struct nat64_counting *c, __u32 number, const union nat64_v6 *v6, __u32 limit,
				      bool *empty)
{
	struct nat64_prefix *p = record_at(number);
	int verdict = NAT64_PASS;

	*empty = false;
	if (!p)
		return NAT64_DROP_MAPPING_BUSY;
	bpf_spin_lock(&c->lock);
	if (!v6_same(&p->v6, v6)) { /* another prefix is being given it */
		verdict = NAT64_DROP_MAPPING_BUSY;
	} else if (!p->count) {
		p->v6.d[0] = p->v6.d[1] = ~0ULL; /* multicast: no host's */
		*empty = true;
	} else if (p->count >= limit) {
		verdict = NAT64_DROP_PREFIX_FULL;
	} else {
		p->count++;
	}
	bpf_spin_unlock(&c->lock);
	return verdict;
}

/* Counts one more mapping of the prefix `v6`, if there are fewer than `limit`. *number: its record, also if there are as
 * many. */
static __noinline int count_mapping(const union nat64_v6 *v6, __u32 limit, __u32 *number)
{
	struct nat64_counting *c = only_value(&counting);
	struct nat64_prefix *p;
	__u32 *found, try;
	int verdict;
	bool empty;

	if (!c)
		return NAT64_DROP_NO_MEMORY;
	for (try = 0; try < 2; try++) {
		found = bpf_map_lookup_elem(&by_prefix, v6);
		if (found) {
			*number = *found;
			verdict = count_more(c, *number, v6, limit, &empty);
			if (!empty)
				return verdict;
			bpf_map_delete_elem(&by_prefix, v6);
		}
		*number = new_record(c, v6);
		p = record_at(*number);
		if (!p)
			break;
		found = bpf_map_lookup_elem(&by_prefix, &p->was);
		if (found && *found == *number)
			bpf_map_delete_elem(&by_prefix, &p->was);
		if (!bpf_map_update_elem(&by_prefix, v6, number, BPF_NOEXIST))
			return NAT64_PASS;
		count_less(c, p, *number); /* another CPU was faster */
	}
	return NAT64_DROP_MAPPING_BUSY;
}

/* Takes the mapping `i` out of the list of its prefix. No look-up is possible under a lock, see move_node. */
static __always_inline void leave_prefix(struct nat64_counting *c, struct nat64_member *me, __u32 i)
{
	__u32 number = READ_ONCE(me->prefix), n = READ_ONCE(me->next), p = READ_ONCE(me->prev);
	struct nat64_member *next = member_at(n), *prev = member_at(p);
	struct nat64_prefix *from = record_at(number);

	if (!next || !prev || !from)
		return;
	bpf_spin_lock(&c->lock);
	if (me->prefix == number && me->next == n && me->prev == p) {
		prev->next = n;
		next->prev = p;
		if (from->hand == i + 1)
			from->hand = n == i ? 0 : n + 1;
		me->prefix = 0;
		count_down(c, from, number);
	}
	bpf_spin_unlock(&c->lock);
}

/* Puts the mapping `i`, which is in no list, into that of the record `number`, as the one that is looked at last. */
static __always_inline bool join_prefix(struct nat64_counting *c, struct nat64_member *me, __u32 i, __u32 number)
{
	struct nat64_prefix *to = record_at(number);
	struct nat64_member *next, *prev;
	__u32 hand, p;
	bool ok;

	if (!to)
		return false;
	hand = READ_ONCE(to->hand);
	next = hand ? member_at(hand - 1) : me;
	if (!next)
		return false;
	p = hand ? READ_ONCE(next->prev) : i;
	prev = member_at(p);
	if (!prev)
		return false;
	bpf_spin_lock(&c->lock);
	ok = !me->prefix && to->hand == hand && (!hand || next->prev == p);
	if (ok) {
		me->prefix = number;
		me->next = hand ? hand - 1 : i;
		me->prev = p;
		prev->next = i;
		next->prev = i;
		if (!hand)
			to->hand = i + 1;
	}
	bpf_spin_unlock(&c->lock);
	return ok;
}

enum {
	IS_MEMBER,
	IS_NOT_YET,
};

/* A step on the way of set_prefix. A global function, see live_mapping. */
__noinline int step_to_prefix(__u32 i, __u32 number)
{
	struct nat64_counting *c = only_value(&counting);
	struct nat64_member *me = member_at(i);
	struct nat64_prefix *p;
	__u32 is;

	if (!c || !me)
		return IS_MEMBER;
	is = READ_ONCE(me->prefix);
	if (is == number) {
		p = record_at(number);
		if (p)
			count_less(c, p, number); /* it was counted there before */
		return IS_MEMBER;
	}
	if (is)
		leave_prefix(c, me, i);
	else if (join_prefix(c, me, i, number))
		return IS_MEMBER;
	return IS_NOT_YET;
}

enum {
	SET_PREFIX,
	SET_NOTHING, /* other CPUs were always faster: it is what it was, */
	SET_LEFT,    /* or a member of none */
};

/* Makes the mapping `i` a member of the prefix with the record `number`, where it has been counted and stays so whatever comes of
 * it; or, with 0, of none. */
static __always_inline int set_prefix(__u32 i, __u32 number)
{
	const struct nat64_member *me = member_at(i);
	__u32 try;

	for (try = 0; try < TRIES; try++)
		if (step_to_prefix(i, number) == IS_MEMBER)
			return SET_PREFIX;
	return me && READ_ONCE(me->prefix) ? SET_NOTHING : SET_LEFT;
}

#endif
