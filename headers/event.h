/* SPDX-License-Identifier: GPL-2.0-only */
/* event.h - the listeners (struct nat64_listen), and the rings by which they get events
 *
 * While nobody listens, this costs one test when a packet arrives and one when it leaves, and one for each event.
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

/* Is there a listener whose lease has not run out? */
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

/* Writes a record to the ring of the listener at `place`; `rings`: "events" or "packets". While one listener takes the place
 * of another, there is none for a moment. */
static __always_inline void put(void *rings, __u32 place, struct nat64_lease *lease, void *record, __u32 size)
{
	void *ring = bpf_map_lookup_elem(rings, &place);

	if (ring && bpf_ringbuf_output(ring, record, size, 0))
		count_one(&lease->lost);
}

/* Gives an event, whose .time is now, to all who listen to events. */
static __always_inline void tell_event(struct nat64_listen *l, struct nat64_event *e)
{
	struct nat64_lease *lease = l->lease[NAT64_EVENTS];

#pragma unroll
	for (__u32 i = 0; i < NAT64_LISTENERS; i++)
		if (is_held(&lease[i], e->time))
			put(&events, i, &lease[i], e, sizeof(*e));
}

/* May NAT64_EVENT_EXHAUSTED be told? Once a second at most: while the pool is full, each new host would be a reason.
 * `take`: it is. */
static __always_inline bool may_tell_exhausted(bool take)
{
	struct nat64_listen *l = listeners();
	__u64 now;

	if (!l || !may_listen(l, NAT64_EVENTS)) /* to read the time takes longer */
		return false;
	now = bpf_ktime_get_boot_ns();
	if (now - l->exhausted < 1000000000ULL)
		return false;
	if (take)
		l->exhausted = now;
	return true;
}

#endif
