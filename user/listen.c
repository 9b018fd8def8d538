// SPDX-License-Identifier: GPL-2.0-or-later
/* listen.c - listening to a translator that is loaded */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "listen.h"
#include "state.h"

#define LEASE (2 * NS_PER_SEC)

struct nat64_listen *listen_map(const struct loaded *maps)
{
	void *page;

	page = mmap(NULL, sizeof(struct nat64_listen), PROT_READ | PROT_WRITE, MAP_SHARED, maps->listen, 0);
	return page == MAP_FAILED ? NULL : page;
}

void listen_unmap(struct nat64_listen *page)
{
	if (page)
		munmap(page, sizeof(*page));
}

bool listen_is_taken(const struct nat64_listen *page, enum nat64_ring ring)
{
	return __atomic_load_n(&page->lease[ring].until, __ATOMIC_ACQUIRE) > boottime();
}

int listener_open(struct listener *l, const struct loaded *maps, enum nat64_ring ring,
		  const struct nat64_filter *filter, ring_buffer_sample_fn cb, void *data)
{
	int map = ring == NAT64_EVENTS ? maps->events : maps->packets;
	__u64 there;

	*l = (struct listener){ .since = boottime() };
	l->page = listen_map(maps);
	if (!l->page)
		return -errno;
	l->lease = &l->page->lease[ring];
	l->lost = __atomic_load_n(&l->lease->lost, __ATOMIC_RELAXED);
	there = __atomic_load_n(&l->lease->until, __ATOMIC_ACQUIRE);
	if (there > l->since || !__atomic_compare_exchange_n(&l->lease->until, &there, l->since + LEASE, false,
							     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return -EBUSY;
	l->until = l->since + LEASE;
	if (ring == NAT64_PACKETS) {
		l->page->filter = *filter;
		l->since = boottime(); /* what came before may have passed the filter of another listener */
	}
	l->ring = ring_buffer__new(map, cb, data, NULL);
	return l->ring ? 0 : -errno;
}

void listener_close(struct listener *l)
{
	__u64 until = l->until;

	if (until)
		__atomic_compare_exchange_n(&l->lease->until, &until, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	ring_buffer__free(l->ring);
	listen_unmap(l->page);
	*l = (struct listener){ 0 };
}

int listener_renew(struct listener *l, __u64 *gap)
{
	__u64 now = boottime(), there = l->until;

	*gap = now > l->until ? now - l->until : 0;
	/* It is 0 if a packet has found it run out. */
	while (!__atomic_compare_exchange_n(&l->lease->until, &there, now + LEASE, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_ACQUIRE))
		if (there && there != l->until)
			return -EBUSY;
	l->until = now + LEASE;
	return 0;
}

__u64 listener_lost(struct listener *l)
{
	__u64 all = __atomic_load_n(&l->lease->lost, __ATOMIC_RELAXED), more = all - l->lost;

	l->lost = all;
	return more;
}
