// SPDX-License-Identifier: GPL-2.0-or-later
/* listen.c - listening to a translator that is loaded */
#include <bpf/bpf.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "listen.h"

#define LEASE (2 * NS_PER_SEC)

static int rings_of(const struct loaded *maps, enum nat64_ring ring)
{
	return ring == NAT64_EVENTS ? maps->events : maps->packets;
}

static bool is_map(int fd, enum bpf_map_type type, size_t size)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	return fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len) && info.type == type && info.value_size == size;
}

struct nat64_listen *listen_map(const struct loaded *maps)
{
	void *page;

	if (!is_map(maps->listen, BPF_MAP_TYPE_ARRAY, sizeof(struct nat64_listen)) ||
	    !is_map(maps->events, BPF_MAP_TYPE_ARRAY_OF_MAPS, sizeof(__u32)) ||
	    !is_map(maps->packets, BPF_MAP_TYPE_ARRAY_OF_MAPS, sizeof(__u32))) {
		errno = EPROTO;
		return NULL;
	}
	page = mmap(NULL, sizeof(struct nat64_listen), PROT_READ | PROT_WRITE, MAP_SHARED, maps->listen, 0);
	return page == MAP_FAILED ? NULL : page;
}

void listen_unmap(struct nat64_listen *page)
{
	if (page)
		munmap(page, sizeof(*page));
}

bool listen_is_taken(const struct nat64_listen *page, enum nat64_ring ring, __u32 place)
{
	return __atomic_load_n(&page->lease[ring][place].until, __ATOMIC_ACQUIRE) > boottime();
}

int listen_ring(const struct loaded *maps, enum nat64_ring ring, __u32 place)
{
	__u32 id;
	int fd = bpf_map_lookup_elem(rings_of(maps, ring), &place, &id) ? -1 : bpf_map_get_fd_by_id(id);

	return fd < 0 ? -errno : fd;
}

/* Tells the programs that there is a listener, after the lease has been written. */
static void prick_ear(struct nat64_ear *ear, __u64 until)
{
	__u64 there = __atomic_load_n(&ear->until, __ATOMIC_ACQUIRE);

	while (there < until &&
	       !__atomic_compare_exchange_n(&ear->until, &there, until, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
}

/* Takes a lease that is nobody's. */
static int take_lease(struct listener *l, enum nat64_ring ring)
{
	__u64 now = boottime();

	for (l->place = 0; l->place < NAT64_LISTENERS; l->place++) {
		struct nat64_lease *lease = &l->page->lease[ring][l->place];
		__u64 there = __atomic_load_n(&lease->until, __ATOMIC_ACQUIRE);

		if (there > now || !__atomic_compare_exchange_n(&lease->until, &there, now + LEASE, false,
								__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			continue;
		l->lease = lease;
		l->until = now + LEASE;
		return 0;
	}
	return -EBUSY;
}

int listener_open(struct listener *l, const struct loaded *maps, enum nat64_ring ring,
		  const struct nat64_filter *filter, __u32 bytes, ring_buffer_sample_fn cb, void *data)
{
	int err;

	*l = (struct listener){ .rings = rings_of(maps, ring), .ring = -1 };
	l->page = listen_map(maps);
	if (!l->page)
		return -errno;
	l->ear = &l->page->ear[ring];
	err = take_lease(l, ring);
	if (err)
		return err;
	if (ring == NAT64_PACKETS)
		l->page->filter[l->place] = *filter;
	l->ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, NULL, 0, 0, bytes, NULL);
	l->since = boottime();
	if (l->ring < 0 || bpf_map_update_elem(l->rings, &l->place, &l->ring, BPF_ANY))
		return -errno;
	l->buffer = ring_buffer__new(l->ring, cb, data, NULL);
	if (!l->buffer)
		return -errno;
	l->lost = __atomic_load_n(&l->lease->lost, __ATOMIC_RELAXED);
	prick_ear(l->ear, l->until);
	return 0;
}

int listener_renew(struct listener *l, __u64 *gap)
{
	__u64 now = boottime(), there = l->until;

	*gap = now > l->until ? now - l->until : 0;
	if (!__atomic_compare_exchange_n(&l->lease->until, &there, now + LEASE, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE))
		return -EBUSY;
	l->until = now + LEASE;
	prick_ear(l->ear, l->until);
	return 0;
}

void listener_close(struct listener *l)
{
	__u64 gap;

	/* The lease is renewed first, so that nobody else takes it while its place is made free. If somebody has already,
	 * the place is theirs. */
	if (l->until && !listener_renew(l, &gap)) {
		bpf_map_delete_elem(l->rings, &l->place);
		__atomic_store_n(&l->lease->until, 0, __ATOMIC_RELEASE);
	}
	ring_buffer__free(l->buffer);
	if (l->page && l->ring >= 0)
		close(l->ring);
	listen_unmap(l->page);
	*l = (struct listener){ .ring = -1 };
}

__u64 listener_lost(struct listener *l)
{
	__u64 all = __atomic_load_n(&l->lease->lost, __ATOMIC_RELAXED), more = all - l->lost;

	l->lost = all;
	return more;
}
