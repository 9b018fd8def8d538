/* SPDX-License-Identifier: GPL-2.0-only */
/* event.h - who listens (struct nat64_listen), and the rings by which they are told
 *
 * While nobody does, a packet pays for one test of a lease when it comes and one when it leaves, and an event for one.
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

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, NAT64_RING_BYTES);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, NAT64_RING_BYTES);
} packets SEC(".maps");

static __always_inline struct nat64_listen *listeners(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&listen, &zero);
}

/* Is there a listener, and alive? */
static __always_inline bool is_listening(struct nat64_lease *lease, __u64 now)
{
	__u64 until = *(volatile __u64 *)&lease->until;

	if (!until)
		return false;
	if (until < now)
		*(volatile __u64 *)&lease->until = 0;
	return until >= now;
}

static __always_inline void count_lost(struct nat64_lease *lease)
{
	__sync_fetch_and_add(&lease->lost, 1);
}

/* An event to be filled in and submitted, or NULL: nobody wants to know, or the ring is full. */
static __always_inline struct nat64_event *event_new(enum nat64_event_kind kind)
{
	struct nat64_listen *l = listeners();
	struct nat64_event *e;
	__u64 now;

	if (!l || !l->lease[NAT64_EVENTS].until)
		return NULL;
	now = bpf_ktime_get_boot_ns();
	if (!is_listening(&l->lease[NAT64_EVENTS], now))
		return NULL;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_lost(&l->lease[NAT64_EVENTS]);
		return NULL;
	}
	e->time = now;
	e->kind = kind;
	e->is_static = 0;
	e->pad = 0;
	return e;
}

/* Once a second is enough for those who want to know, also where addresses are scarce all the time. */
static __always_inline bool may_tell_exhausted(void)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct nat64_listen *l = listeners();

	if (!l || !l->lease[NAT64_EVENTS].until || now - l->exhausted < 1000000000ULL)
		return false;
	l->exhausted = now;
	return true;
}

#endif
