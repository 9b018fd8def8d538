/* SPDX-License-Identifier: GPL-2.0-only */
/* event.h - who listens (struct nat64_listen), and the rings by which they are told
 *
 * While nobody does, a packet pays for one test when it comes and one when it leaves, and an event for one.
 */
#ifndef NAT64_EVENT_H
#define NAT64_EVENT_H

#include "addr.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat64_listen);
} listen SEC(".maps");

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, NAT64_RING_BYTES);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, NAT64_LISTENERS);
	__type(key, __u32);
	__array(values, struct ring);
} events SEC(".maps"), packets SEC(".maps");

static __always_inline struct nat64_listen *listeners(void)
{
	return only_value(&listen);
}

/* May there be a listener? The one test that packets and events pay for while there is none. */
static __always_inline bool may_listen(const struct nat64_listen *l, enum nat64_ring ring)
{
	return READ_ONCE(l->ear[ring].until) != READ_ONCE(l->ear[ring].over);
}

/* Is there one, and alive? */
static __always_inline bool is_listening(struct nat64_listen *l, enum nat64_ring ring, __u64 now)
{
	__u64 until = READ_ONCE(l->ear[ring].until);

	if (until >= now)
		return true;
	WRITE_ONCE(l->ear[ring].over, until);
	return false;
}

static __always_inline bool is_held(const struct nat64_lease *lease, __u64 now)
{
	return READ_ONCE(lease->until) >= now;
}

/* An addition without a result, which is all that Linux 5.10 has of atomic instructions. Newer versions of clang make
 * another of __sync_fetch_and_add(). */
static __always_inline void count_one(__u64 *n)
{
	asm volatile("lock *(u64 *)(%0 + 0) += %1" : : "r"(n), "r"(1ULL) : "memory");
}

/* Puts a record into the ring at a place of `rings`, "events" or "packets"; while one listener takes another's place, there
 * is none. */
static __always_inline void put(void *rings, __u32 place, struct nat64_lease *lease, void *record, __u32 size)
{
	void *ring = bpf_map_lookup_elem(rings, &place);

	if (ring && bpf_ringbuf_output(ring, record, size, 0))
		count_one(&lease->lost);
}

/* Tells all who listen of an event whose .time is now. */
static __always_inline void tell_event(struct nat64_listen *l, struct nat64_event *e)
{
	struct nat64_lease *lease = l->lease[NAT64_EVENTS];

#pragma unroll
	for (__u32 i = 0; i < NAT64_LISTENERS; i++)
		if (is_held(&lease[i], e->time))
			put(&events, i, &lease[i], e, sizeof(*e));
}

/* Once a second is enough for those who want to know, also where addresses are scarce all the time. */
static __always_inline bool may_tell_exhausted(void)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct nat64_listen *l = listeners();

	if (!l || !may_listen(l, NAT64_EVENTS) || now - l->exhausted < 1000000000ULL)
		return false;
	l->exhausted = now;
	return true;
}

#endif
