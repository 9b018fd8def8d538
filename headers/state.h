/* SPDX-License-Identifier: GPL-2.0-only */
/* state.h - the mappings: IPv6 host <-> address of the pool
 *
 *	by_v6:    IPv6 address -> index            (hash)
 *	mappings: index -> {owner, last seen, ...} (array over the IPv4 prefix)
 *	order:    the addresses that are free, and those in use by the time of the last packet (lists in an array)
 *	guesses:  a few bits of an IPv6 address -> index (array)
 *	prefix.h: how many each prefix of IPv6 addresses has
 *	static6, static4: explicit mappings of prefixes, and of addresses outside the pool (longest prefix match)
 *	static_hops: IPv4 address -> next hop of the host that has it by static4 (array, a few bits of the address)
 *
 * Addresses that this gateway does not give out (--give-out) are in neither list: only another gateway gives them to a host, or
 * takes them from one (mirror.h).
 *
 * A new host gets the first free address; if there is none, the first of those in use, which is that of the host that has been
 * silent for the longest, if its time is up. If it is not, no other host's is, and the pool is full.
 *
 * An entry of `mappings` is free (tick 0), or its owner's. It is safe until it has been idle for hold(), which is the
 * time-out, or what --reuse-idle says; after that it still is its owner's, until another host needs the address. Whoever
 * takes an entry from an old owner, and nobody else, deletes the old owner's entry of by_v6, before adding the new one.
 *
 * The owner writes .tick of an entry that is safe without the lock, and never after another host has taken it: packets
 * take no entry before it has been idle for a second longer than hold(), by which time such a write is over; and an owner
 * whose entry was idle for hold() writes under the lock, and only if it still is the owner (revive()). It does not matter
 * whether hold() is the time-out (the mapping has expired then, as users see it) or less, as long as both sides use the same
 * hold(). There is one exception: while a reconfiguration makes hold() shorter, until the last port has the new programs, and the
 * last packet has left the old ones. If a host that has been silent for long returns through the old programs just while
 * another one is given its address by the new ones, a packet on its way at that moment may be taken for one of the wrong host;
 * in the end the entry is the new host's.
 *
 * Readers of the owner take no lock. Processors may reorder writes and reads (arm64), and BPF has no barriers. But all
 * processors keep two orders: that of writes of one CPU before it releases a lock and after it takes it again, and that of two
 * reads if the address of the second depends on the result of the first (see after()). So a change of the owner is four
 * writes in this order:
 *
 *	.tick = NAT64_TAKEN	.created	.v6	.tick, of the new owner
 *
 * A reader that reads .created, .tick, .v6, and .created again, has the owner if both .created are equal and .tick is not
 * NAT64_TAKEN. Proof: if any word of .v6 is from a change, the second .created is from that change or a later one. Then so is the
 * first, as both are equal; so .tick, which is read after it, is NAT64_TAKEN or the new owner's, and in the latter case all of
 * .v6 is the new owner's. No two changes of an entry have the same .created: it is the time in nanoseconds, also if there is no
 * new owner, or it comes from userspace, which waits for all readers between two changes (state_wait()).
 *
 * A packet whose mapping needs no write finds it by a guess, which takes less time than a look-up in by_v6; the entry itself says
 * whose it is. Whoever writes to an entry has found it by by_v6: so entries that userspace deletes there are not written any
 * more.
 */
#ifndef NAT64_STATE_H
#define NAT64_STATE_H

#include "event.h"
#include "prefix.h"

#define SECOND 1000000000ULL
#define ASTRAY 8 /* mappings that a packet may find where they no longer belong, before one that belongs there */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* set when loaded, as for by_v6 and guesses */
	__type(key, __u32);
	__type(value, struct nat64_mapping);
} mappings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, union nat64_v6);
	__type(value, __u32);
} by_v6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} guesses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat64_pool);
} pool SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set when loaded: NAT64_NODES more than mappings has */
	__type(key, __u32);
	__type(value, struct nat64_node);
} order SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, NAT64_EDITS);
	__type(key, __u32);
	__type(value, struct nat64_edit);
} edits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* set when loaded */
	__type(key, struct nat64_lpm6);
	__type(value, __u32);
} allowed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* set when loaded, as for static4 */
	__type(key, struct nat64_lpm6);
	__type(value, struct nat64_static4);
} static6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct nat64_lpm4);
	__type(value, struct nat64_static6);
} static4 SEC(".maps");

#define STATIC_HOPS 1024

/* A next hop of a host that has no entry of `mappings`. */
struct static_hop {
	__be32 v4; /* the host's */
	__u32 pad;
	struct nat64_hop hop;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STATIC_HOPS);
	__type(key, __u32);
	__type(value, struct static_hop);
} static_hops SEC(".maps");

/* What live_mapping is asked, and answers. */
struct request {
	union nat64_v6 v6;
	__u32 index;
	__u32 pad;
	union nat64_v6 old;	  /* the owner before, all zero if none, */
	__u64 seen;		  /* and when it, or the owner that is revived, was last seen */
	struct nat64_event event; /* of which tell() tells */
	union nat64_v6 prefix;	  /* of .v6: what --per-prefix counts, */
	__u32 number;		  /* its record, */
	__u32 within;		  /* and whether only an address of this prefix will do */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct request);
} request SEC(".maps");

static __always_inline __be32 v4_at(__u32 index)
{
	return cfg.v4_prefix | bpf_htonl(index);
}

/* Is it for this gateway to give the address to a new host? */
static __always_inline bool gives_out(__u32 index)
{
	return !((v4_at(index) ^ cfg.give_out) & cfg.give_mask);
}

/* For how long its owner may be silent and be sure of its entry, in jiffies. */
static __always_inline __u64 hold(void)
{
	return cfg.reuse_idle ? cfg.reuse_idle : cfg.timeout;
}

/* Has an entry last seen at `tick` been idle for longer than `time`? All in jiffies. `tick` may be a little later than
 * `now`: another CPU read the time after us. */
static __always_inline bool is_idle(__u64 tick, __u64 now, __u64 time)
{
	return (__s64)(now - tick) > (__s64)time;
}

/* May an entry get a new owner? */
static __always_inline bool is_free(__u64 tick, __u64 now)
{
	return !tick || is_idle(tick, now, hold() + cfg.hz);
}

/* Times are compared by their difference: that of a host which was silent for longer than this machine has been up, and
 * whose mapping was restored, is below zero. */
static __always_inline bool is_before(__u64 tick, __u64 now)
{
	return (__s64)(now - tick) > 0;
}

/* Is what was done at `tick` good for a while yet? */
static __always_inline bool is_fresh(__u64 tick, __u64 now)
{
	return now - tick < cfg.fresh;
}

#define ADDRESSES (1U << (32 - cfg.v4_len))

static __always_inline __u32 epoch(__u64 tick)
{
	return tick >> (cfg.epoch_shift & 63);
}

static __always_inline struct nat64_node *node_at(__u32 i)
{
	return bpf_map_lookup_elem(&order, &i);
}

enum {
	MOVED,
	MOVE_AGAIN, /* another CPU has changed a neighbour */
	MOVE_NOT,   /* the node is in no list, or it does not belong there */
};

/* The epoch of the place that `m` has in the list. It is that of its last packet, or the one before that if it could not get
 * another place; others are from a configuration whose epochs have another length. */
static __always_inline __u32 epoch_of_place(const struct nat64_mapping *m)
{
	__u32 placed = READ_ONCE(m->epoch), last = epoch(READ_ONCE(m->tick));

	return last - placed > 1 ? last : placed;
}

/* Puts the node `i` before the node `to`. One that is in no list stays where it is, unless `alone`. If `e` says so, `to`
 * is a mapping's node which has the epoch e->epoch, and that of `i` is not a later one. No look-up is possible under a
 * lock: so the neighbours are looked up before, and under the lock they must still be such. */
static __always_inline int move_node(__u32 i, __u32 to, bool alone, const struct nat64_edit *e)
{
	struct nat64_node *node = node_at(i), *behind = node_at(to), *prev, *next, *before;
	const struct nat64_mapping *mine, *m;
	struct nat64_pool *lists;
	__u32 zero = 0;
	bool same;

	if (!node || !behind || i == to)
		return MOVE_NOT;
	prev = node_at(READ_ONCE(node->prev));
	next = node_at(READ_ONCE(node->next));
	before = node_at(READ_ONCE(behind->prev));
	if (!prev || !next || !before || (next == node && !alone) || (before == behind && to < ADDRESSES))
		return MOVE_NOT;
	if (e) {
		mine = bpf_map_lookup_elem(&mappings, &i);
		m = bpf_map_lookup_elem(&mappings, &to);
		if (mine && m &&
		    (READ_ONCE(m->epoch) != e->epoch || (__s32)(READ_ONCE(mine->epoch) - epoch_of_place(m)) > 0))
			return MOVE_NOT;
	}
	lists = bpf_map_lookup_elem(&pool, &zero);
	if (!lists)
		return MOVE_NOT;
	bpf_spin_lock(&lists->lock);
	same = prev->next == i && next->prev == i && before->next == to;
	if (same && before != node) {
		prev->next = node->next;
		next->prev = node->prev;
		before->next = i;
		node->prev = behind->prev;
		node->next = to;
		behind->prev = i;
	}
	bpf_spin_unlock(&lists->lock);
	return same ? MOVED : MOVE_AGAIN;
}

/* Puts the node `i`, if it is in a list, to the end of the list `list`. A global function, see live_mapping. */
__noinline int move_last(__u32 i, __u32 list)
{
	return move_node(i, list, false, NULL);
}

/* The owner of mapping `m` has sent something, now, and for the first time since `m` got its place in the list. */
static __always_inline void place_again(struct nat64_mapping *m, __u32 i, __u64 now)
{
	WRITE_ONCE(m->epoch, epoch(now));
	if (move_last(i, NAT64_USED(ADDRESSES)) == MOVE_AGAIN)
		WRITE_ONCE(m->epoch, epoch(now) - 1); /* its next packet tries again */
}

/* `n` bits, 0 to 32, of an IPv6 address from bit `at` on, at + n <= 128. */
static __always_inline __u32 v6_bits(const union nat64_v6 *v6, __u32 at, __u32 n)
{
	__u64 hi = bpf_be64_to_cpu(v6->d[0]), lo = bpf_be64_to_cpu(v6->d[1]);
	__u32 right = 128 - at - n;

	if (right >= 64)
		lo = hi >> (right & 63);
	else if (right)
		lo = lo >> right | hi << (64 - right);
	return n < 32 ? lo & ((1ULL << n) - 1) : lo;
}

/* RFC 7757 section 3.3.2: IPv6 bits behind those that the IPv4 address has room for are discarded. */
static __noinline int static_v4(const union nat64_v6 *v6, __be32 *v4)
{
	struct nat64_lpm6 key = { .len = 128, .v6 = *v6 };
	struct nat64_static4 *s = bpf_map_lookup_elem(&static6, &key);

	if (!s)
		return NAT64_DROP_NOT_ALLOWED;
	*v4 = s->v4 | bpf_htonl(v6_bits(v6, s->from & 127, (32 - s->len) & 63));
	return NAT64_PASS;
}

/* RFC 7757 section 3.3.1. */
static __noinline int static_v6(__be32 v4, union nat64_v6 *v6)
{
	struct nat64_lpm4 key = { .len = 32, .v4 = v4 };
	struct nat64_static6 *s = bpf_map_lookup_elem(&static4, &key);
	__u64 hi = 0, lo;
	__u32 left;

	if (!s)
		return NAT64_DROP_NO_MAPPING;
	/* The host bits, 32 at most, at the end of 128, and then as far to the left as they belong. */
	lo = bpf_ntohl(v4) & s->v4_host;
	left = s->left & 127;
	if (left >= 64)
		hi = lo << (left & 63), lo = 0;
	else if (left)
		hi = lo >> (64 - left), lo <<= left;
	v6->d[0] = s->v6.d[0] | bpf_cpu_to_be64(hi);
	v6->d[1] = s->v6.d[1] | bpf_cpu_to_be64(lo);
	return NAT64_PASS;
}

static __always_inline bool is_static(__be32 v4)
{
	struct nat64_lpm4 key = { .len = 32, .v4 = v4 };

	return cfg.has_static && bpf_map_lookup_elem(&static4, &key);
}

/* Addresses that our routes lead here. */
static __always_inline bool is_ours4(__be32 v4)
{
	return in_pool(v4) || v4 == cfg.icmp_src || is_static(v4);
}

/* What is remembered of the next hop of the host that has `v4` by static4. Of addresses that share a slot, the last has it. */
static __always_inline struct nat64_hop *static_hop(__be32 v4)
{
	__u32 slot = bpf_ntohl(v4) % STATIC_HOPS;
	struct static_hop *s = bpf_map_lookup_elem(&static_hops, &slot);

	if (!s)
		return NULL;
	if (s->v4 != v4) {
		s->v4 = v4;
		s->hop.tick = 0;
	}
	return &s->hop;
}

/* `p`, but what is read by it is read after `word` was. */
static __always_inline void *after(const void *p, __u64 word)
{
	asm volatile("%1 &= 0\n"
		     "%0 += %1"
		     : "+r"(p), "+r"(word));
	return (void *)p;
}

/* Whose entry `m` is, all zero if a static prefix holds it. False: nobody's, at least at this moment. */
static __always_inline bool read_owner(const struct nat64_mapping *m, union nat64_v6 *v6, __u64 *tick)
{
	__u64 created = READ_ONCE(m->created);

	m = after(m, created);
	*tick = READ_ONCE(m->tick);
	m = after(m, *tick);
	v6->d[0] = READ_ONCE(m->v6.d[0]);
	v6->d[1] = READ_ONCE(m->v6.d[1]);
	m = after(m, v6->d[0] | v6->d[1]);
	return *tick && *tick != NAT64_TAKEN && READ_ONCE(m->created) == created;
}

/* 4→6: the IPv6 host that has the address `v4`, and what is remembered of its next hop, or NULL. One whose mapping has
 * expired still has it, until another host gets the address; but what comes for it keeps nothing alive. */
static __always_inline int owner_of(__be32 v4, union nat64_v6 *v6, struct nat64_hop **hop)
{
	__u32 index = bpf_ntohl(v4 & ~cfg.v4_mask);
	struct nat64_mapping *m = bpf_map_lookup_elem(&mappings, &index);
	__u64 tick;

	*hop = NULL;
	if (m && in_pool(v4)) {
		if (!read_owner(m, v6, &tick))
			return NAT64_DROP_NO_MAPPING;
		if (!cfg.has_static || v6->d[0] | v6->d[1]) {
			m = after(m, tick); /* not the next hop of the owner before */
			*hop = &m->hop;
			return NAT64_PASS;
		}
	}
	if (!cfg.has_static)
		return NAT64_DROP_NO_MAPPING;
	TRY(static_v6(v4, v6));
	*hop = static_hop(v4);
	return NAT64_PASS;
}

/* Is `v6` the owner of entry `m`? *tick: its .tick. */
static __always_inline bool is_owner(const struct nat64_mapping *m, const union nat64_v6 *v6, __u64 *tick)
{
	union nat64_v6 owner;

	return read_owner(m, &owner, tick) && v6_same(&owner, v6);
}

/* The entry that `v6` owns, live or not, or NULL. */
static __always_inline struct nat64_mapping *owned_by(const union nat64_v6 *v6, __u32 *index, __u64 *tick)
{
	__u32 *i = bpf_map_lookup_elem(&by_v6, v6);
	struct nat64_mapping *m;

	if (!i)
		return NULL;
	*index = *i;
	m = bpf_map_lookup_elem(&mappings, index);
	return m && is_owner(m, v6, tick) ? m : NULL;
}

static __always_inline bool is_allowed(const union nat64_v6 *v6)
{
	struct nat64_lpm6 key = { .len = 128, .v6 = *v6 };

	return bpf_map_lookup_elem(&allowed, &key);
}

/* May a host have a mapping that it has not? */
static __always_inline int check_source(const union nat64_v6 *v6)
{
	if (v6_illegal(v6))
		return NAT64_DROP_SRC_ILLEGAL;
	return is_allowed(v6) ? NAT64_PASS : NAT64_DROP_NOT_ALLOWED;
}

/* The rest of a change of entry `m`, which is NAT64_TAKEN by the caller, and so nobody else's to change. */
static __always_inline void set_owner(struct nat64_mapping *m, const union nat64_v6 *v6, __u64 tick, __u64 last_seen,
				      __u64 created)
{
	bpf_spin_lock(&m->lock);
	WRITE_ONCE(m->created, created);
	bpf_spin_unlock(&m->lock);

	bpf_spin_lock(&m->lock);
	WRITE_ONCE(m->v6.d[0], v6->d[0]);
	WRITE_ONCE(m->v6.d[1], v6->d[1]);
	WRITE_ONCE(m->hop.tick, 0);
	m->last_seen = last_seen;
	m->epoch = epoch(tick);
	bpf_spin_unlock(&m->lock);

	bpf_spin_lock(&m->lock);
	WRITE_ONCE(m->tick, tick);
	bpf_spin_unlock(&m->lock);
}

/* Remembers the next hop of `v6`, if that still has the address `v4` of the pool. Whoever sees the new .tick sees the new
 * .mac, or a later one. That may be the next owner's if a mapping is taken away from a live host while a packet is on its
 * way to it: one that would have been dropped a moment later, and gets to a host that drops it. */
static __always_inline void remember_hop(__be32 v4, const union nat64_v6 *v6, __u64 mac)
{
	__u32 index = bpf_ntohl(v4 & ~cfg.v4_mask);
	struct nat64_mapping *m = bpf_map_lookup_elem(&mappings, &index);
	__u64 now = bpf_jiffies64();
	struct nat64_hop *hop;
	bool mine = false;

	if (m && in_pool(v4)) {
		bpf_spin_lock(&m->lock);
		if (v6_same(&m->v6, v6))
			WRITE_ONCE(m->hop.mac, mac);
		bpf_spin_unlock(&m->lock);

		bpf_spin_lock(&m->lock);
		mine = v6_same(&m->v6, v6);
		if (mine)
			WRITE_ONCE(m->hop.tick, now);
		bpf_spin_unlock(&m->lock);
	}
	hop = cfg.has_static && !mine ? static_hop(v4) : NULL;
	if (hop) {
		hop->mac = mac;
		hop->tick = now;
	}
}

/* Takes back that entry `m` is NAT64_TAKEN, whose owner is still as it was. */
static __always_inline void give_back(struct nat64_mapping *m, __u64 tick)
{
	bpf_spin_lock(&m->lock);
	WRITE_ONCE(m->tick, tick);
	bpf_spin_unlock(&m->lock);
}

/* Makes the host in `r` the owner of entry `m`, if that is free for a new one. Leaves who had it before in `r`. With --per-prefix,
 * and .number 0 after it: the mapping is counted nowhere, and must go again. */
static __always_inline bool claim(struct nat64_mapping *m, __u32 index, __u64 now, struct request *r)
{
	__u64 clock = bpf_ktime_get_boot_ns() & ~NAT64_HEARSAY, tick;
	int set;
	bool ok;

	bpf_spin_lock(&m->lock);
	tick = m->tick;
	ok = is_free(tick, now);
	if (ok) {
		r->old.d[0] = m->v6.d[0];
		r->old.d[1] = m->v6.d[1];
		r->seen = m->last_seen;
		WRITE_ONCE(m->tick, NAT64_TAKEN);
	}
	bpf_spin_unlock(&m->lock);
	set = ok && cfg.prefix_limit ? set_prefix(index, r->number) : SET_PREFIX;
	if (set == SET_NOTHING) {
		give_back(m, tick);
		return false;
	}
	if (set == SET_LEFT) {
		uncount(r->number);
		r->number = 0;
	}
	if (ok)
		set_owner(m, &r->v6, now, clock, clock);
	return ok;
}

/* Gives entry `m` back that `v6` has claimed and cannot keep. If its prefix cannot be told, it stays the host's, which does not
 * find it any more, until its time is up. */
static __always_inline void release(struct nat64_mapping *m, __u32 index, const union nat64_v6 *v6)
{
	__u64 clock = bpf_ktime_get_boot_ns(), tick;
	const union nat64_v6 none = {};
	__u32 try;
	bool mine;

	bpf_spin_lock(&m->lock);
	tick = m->tick;
	mine = v6_same(&m->v6, v6) && tick != NAT64_TAKEN;
	if (mine)
		WRITE_ONCE(m->tick, NAT64_TAKEN);
	bpf_spin_unlock(&m->lock);
	if (mine && cfg.prefix_limit && set_prefix(index, 0) != SET_PREFIX) {
		give_back(m, tick);
		return;
	}
	if (mine)
		set_owner(m, &none, 0, 0, clock);
	for (try = 0; mine && try < TRIES; try++)
		if (move_last(index, NAT64_FREE(ADDRESSES)) != MOVE_AGAIN)
			break;
}

/* The address that is the next to get a new owner: one that is free, or else that of the host that has been silent for the
 * longest, if its time is up. NAT64_DROP_POOL_FULL: there is none. */
static __always_inline int next_address(__u64 now, __u32 *index)
{
	const struct nat64_node *node = node_at(NAT64_FREE(ADDRESSES));
	const struct nat64_mapping *m;
	__u32 i, n;
	__u64 tick;

	if (!node)
		return NAT64_DROP_NO_MEMORY;
	*index = READ_ONCE(node->next);
	if (*index < ADDRESSES)
		return NAT64_PASS;
	node = node_at(NAT64_USED(ADDRESSES));
	for (n = 0; n < ASTRAY; n++) {
		if (!node)
			return NAT64_DROP_NO_MEMORY;
		i = READ_ONCE(node->next);
		if (i >= ADDRESSES) /* the end of the list */
			break;
		node = node_at(i);
		m = bpf_map_lookup_elem(&mappings, &i);
		if (!m)
			return NAT64_DROP_NO_MEMORY;
		tick = READ_ONCE(m->tick);
		*index = i;
		if (is_free(tick, now))
			return NAT64_PASS;
		if (epoch(tick) == READ_ONCE(m->epoch)) /* so all behind it are as young */
			break;
	}
	return NAT64_DROP_POOL_FULL;
}

/* Of the mappings of the record `number`, one that another host may have: its index, and 1. 0: none of those that were looked
 * at; the next time it is those behind. A global function, see live_mapping. */
__noinline int idle_member(__u32 number)
{
	struct nat64_counting *c = only_value(&counting);
	struct nat64_prefix *p = record_at(number);
	const struct nat64_mapping *m;
	struct nat64_member *me;
	bool found = false, still;
	__u32 hand, i, n;
	__u64 tick;

	if (!c || !p)
		return 0;
	hand = READ_ONCE(p->hand);
	for (n = 0; n < ASTRAY; n++) {
		i = hand - 1;
		me = member_at(i);
		m = bpf_map_lookup_elem(&mappings, &i);
		if (!me || !m)
			return 0;
		tick = READ_ONCE(m->tick);
		found = tick && is_free(tick, bpf_jiffies64()) && gives_out(i);
		if (found)
			break;
		hand = READ_ONCE(me->next) + 1;
	}
	i = hand - 1;
	me = member_at(i);
	if (!me)
		return 0;
	bpf_spin_lock(&c->lock);
	still = me->prefix == number; /* and we are not among those of another, by one that has become its member */
	if (still)
		p->hand = hand;
	bpf_spin_unlock(&c->lock);
	return found && still ? hand : 0;
}

/* With --per-prefix: counts the mapping that the host in `request` is to have, in the record .number. If its prefix has as many
 * as it may, the host can have that of another one of the prefix which is not safe: .within. A global function, see
 * live_mapping. */
__noinline int count_new(void)
{
	struct request *r = only_value(&request);
	__u32 number = 0, index;
	int verdict;

	if (!r)
		return NAT64_DROP_NO_MEMORY;
	TRY(next_address(bpf_jiffies64(), &index)); /* for a host that gets none nothing need be counted */
	r->prefix = prefix_of(&r->v6);
	verdict = count_mapping(&r->prefix, cfg.prefix_limit, &number);
	r->within = verdict == NAT64_DROP_PREFIX_FULL && idle_member(number);
	if (r->within)
		verdict = count_mapping(&r->prefix, ~0U, &number);
	r->number = number;
	return verdict;
}

/* The address that is the next one for the host in `r`. */
static __always_inline int next_for(const struct request *r, __u64 now, __u32 *index)
{
	if (!cfg.prefix_limit || !r->within)
		return next_address(now, index);
	*index = idle_member(r->number) - 1;
	return *index < ADDRESSES ? NAT64_PASS : NAT64_DROP_PREFIX_FULL;
}

/* Takes an address from the pool for the host in `request`. A global function, see live_mapping. */
__noinline int take_address(void)
{
	__u32 zero = 0, index, try;
	struct request *r = bpf_map_lookup_elem(&request, &zero);
	__u64 now = bpf_jiffies64();
	struct nat64_mapping *m;

	if (!r)
		return NAT64_DROP_NO_MEMORY;
	for (try = 0; try < TRIES; try++) {
		TRY(next_for(r, now, &index));
		/* Whatever becomes of it, it is not the next one any more. */
		if (move_last(index, NAT64_USED(ADDRESSES)) != MOVED)
			continue;
		m = bpf_map_lookup_elem(&mappings, &index);
		if (!m)
			return NAT64_DROP_NO_MEMORY;
		if (claim(m, index, now, r)) {
			r->index = index;
			return NAT64_PASS;
		}
	}
	return NAT64_DROP_MAPPING_BUSY;
}

/* Tells a listener of what has happened to the host in `request`. */
__noinline int tell(enum nat64_event_kind kind)
{
	__u32 zero = 0;
	struct request *r = bpf_map_lookup_elem(&request, &zero);
	struct nat64_listen *l = listeners();
	struct nat64_event *e;

	if (!r || !l || !may_listen(l, NAT64_EVENTS))
		return 0;
	e = &r->event; /* the stack has no room for it */
	e->time = bpf_ktime_get_boot_ns();
	if (!is_listening(l, NAT64_EVENTS, e->time))
		return 0;
	e->kind = kind;
	e->v4 = kind == NAT64_EVENT_EXHAUSTED ? 0 : v4_at(r->index);
	e->v6 = kind == NAT64_EVENT_EXPIRED ? r->old : r->v6;
	e->next = r->v6;
	e->seen = r->seen;
	tell_event(l, e);
	return 0;
}

/* Gives the host in `r` its mapping back, the entry `m`, which was not safe any more. */
static __always_inline int revive(struct nat64_mapping *m, struct request *r)
{
	__u64 now = bpf_jiffies64(), clock = bpf_ktime_get_boot_ns();
	bool still, expired = false;

	bpf_spin_lock(&m->lock);
	still = v6_same(&m->v6, &r->v6) && m->tick != NAT64_TAKEN;
	if (still) {
		expired = is_idle(m->tick, now, cfg.timeout); /* no other CPU was faster */
		r->seen = m->last_seen;
		m->last_seen = clock & ~NAT64_HEARSAY;
		WRITE_ONCE(m->tick, now);
	}
	bpf_spin_unlock(&m->lock);
	if (still)
		place_again(m, r->index, now);
	if (expired)
		tell(NAT64_EVENT_REVIVED);
	return still ? NAT64_PASS : NAT64_DROP_MAPPING_BUSY;
}

/* The host in `request` has no mapping that is safe: revives the one it had, or makes a new one. A global function: the
 * verifier walks it once, and not for every state that a caller may be in. Before 5.12 such a function takes the context and
 * numbers only, hence `request`. */
__noinline int live_mapping(void)
{
	__u32 zero = 0, mine, *i;
	struct request *r = bpf_map_lookup_elem(&request, &zero);
	struct nat64_mapping *m;
	__u64 tick;
	int verdict;

	if (!r)
		return NAT64_DROP_NO_MEMORY;
	TRY(check_source(&r->v6));
	m = owned_by(&r->v6, &r->index, &tick);
	if (m)
		return revive(m, r);
	verdict = cfg.prefix_limit ? count_new() : NAT64_PASS;
	if (verdict == NAT64_PASS) {
		verdict = take_address();
		if (cfg.prefix_limit && verdict != NAT64_PASS)
			uncount(r->number);
	}
	if (verdict != NAT64_PASS) {
		if (verdict == NAT64_DROP_POOL_FULL && may_tell_exhausted(true))
			tell(NAT64_EVENT_EXHAUSTED);
		return verdict;
	}
	mine = r->index;
	if (r->old.d[0] | r->old.d[1]) {
		i = bpf_map_lookup_elem(&by_v6, &r->old);
		if (i && *i == mine)
			bpf_map_delete_elem(&by_v6, &r->old);
		tell(NAT64_EVENT_EXPIRED);
	}
	if ((!cfg.prefix_limit || r->number) && !bpf_map_update_elem(&by_v6, &r->v6, &mine, BPF_NOEXIST)) {
		tell(NAT64_EVENT_CREATED);
		return NAT64_PASS;
	}

	/* Another CPU was faster with a mapping for the same host; or the host's old address is being given away; or it could not be
	 * counted. */
	m = bpf_map_lookup_elem(&mappings, &mine);
	if (m)
		release(m, mine, &r->v6);
	return owned_by(&r->v6, &r->index, &tick) ? NAT64_PASS : NAT64_DROP_MAPPING_BUSY;
}

/* Where the index of the mapping of `v6` most likely is. */
static __always_inline __u32 *guess_for(const union nat64_v6 *v6)
{
	__u64 hi = bpf_be64_to_cpu(v6->d[0]), lo = bpf_be64_to_cpu(v6->d[1]);
	__u32 slot = (hi * 0x9e3779b97f4a7c15ULL + lo * 0xc2b2ae3d27d4eb4fULL) >> (32 + cfg.v4_len);

	return bpf_map_lookup_elem(&guesses, &slot);
}

/* What there is of a mapping. */
struct found {
	struct nat64_mapping *m; /* its entry, or NULL */
	__u32 index;
	__u64 tick;
};

/* 6→4: has the IPv6 source `v6` an address, *v4, and is nothing to be written of that now? If not, what there is is in *f. */
static __always_inline bool settled_address(const union nat64_v6 *v6, __u64 now, __be32 *v4, struct found *f)
{
	bool taken = false; /* the guess is that of a host that has just sent something */
	__u32 *guess;

	f->tick = 0;
	guess = guess_for(v6);
	if (guess) {
		f->index = READ_ONCE(*guess);
		f->m = bpf_map_lookup_elem(&mappings, &f->index);
		if (f->m && is_owner(f->m, v6, &f->tick) && (is_fresh(f->tick, now) || f->tick == NAT64_STATIC) &&
		    (v6->d[0] | v6->d[1])) { /* what a static prefix holds has :: for its owner */
			*v4 = v4_at(f->index);
			return true;
		}
		taken = is_fresh(f->tick, now);
	}
	f->m = owned_by(v6, &f->index, &f->tick);
	if (!f->m)
		return cfg.has_static && static_v4(v6, v4) == NAT64_PASS;
	if (guess && !taken)
		WRITE_ONCE(*guess, f->index);
	*v4 = v4_at(f->index);
	return is_fresh(f->tick, now) || f->tick == NAT64_STATIC;
}

/* 6→4: the pool's address for the IPv6 source `v6`; makes the mapping, or revives an expired one. */
static __always_inline int address_for(const union nat64_v6 *v6, __be32 *v4)
{
	__u64 now = bpf_jiffies64();
	struct found f;
	struct request *r;

	if (settled_address(v6, now, v4, &f))
		return NAT64_PASS;
	if (f.m && f.tick && !is_idle(f.tick, now, hold())) {
		if (is_before(f.tick, now)) { /* not written by another CPU meanwhile */
			WRITE_ONCE(f.m->last_seen, bpf_ktime_get_boot_ns() & ~NAT64_HEARSAY);
			WRITE_ONCE(f.m->tick, now);
			if (READ_ONCE(f.m->epoch) != epoch(now))
				place_again(f.m, f.index, now);
		}
		return NAT64_PASS;
	}
	r = only_value(&request);
	if (!r)
		return NAT64_DROP_NO_MEMORY;
	r->v6 = *v6;
	TRY(live_mapping());
	*v4 = v4_at(r->index);
	return NAT64_PASS;
}

/* The pool's address for a host that has one, live or not: for the packet that an ICMP error quotes. */
static __always_inline int known_address_for(const union nat64_v6 *v6, __be32 *v4)
{
	__u64 tick;
	__u32 index;

	if (owned_by(v6, &index, &tick)) {
		*v4 = v4_at(index);
		return NAT64_PASS;
	}
	if (cfg.has_static && static_v4(v6, v4) == NAT64_PASS)
		return NAT64_PASS;
	return NAT64_DROP_ICMP_FOREIGN;
}

#endif
