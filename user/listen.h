/* SPDX-License-Identifier: GPL-2.0-or-later */
/* listen.h - listening to a translator that is loaded: the lease and the ring buffer of struct nat64_listen */
#ifndef NAT64_USER_LISTEN_H
#define NAT64_USER_LISTEN_H

#include <bpf/libbpf.h>

#include "load.h"

/* The map "listen" in our memory, or NULL with errno. */
struct nat64_listen *listen_map(const struct loaded *maps);
void listen_unmap(struct nat64_listen *page);

/* Is there a listener, and alive? */
bool listen_is_taken(const struct nat64_listen *page, enum nat64_ring ring);

struct listener {
	struct nat64_listen *page;
	struct ring_buffer *ring;
	struct nat64_lease *lease;
	__u64 until; /* as we wrote it into the lease */
	__u64 since; /* what happened before is none of our business */
	__u64 lost;  /* of lease->lost, what we know of */
};

/* Takes the lease, with the filter (for packets), and opens the ring, of which cb gets the records. 0, -EBUSY: somebody else
 * listens, or another negative errno. listener_close() in any case. */
int listener_open(struct listener *l, const struct loaded *maps, enum nat64_ring ring,
		  const struct nat64_filter *filter, ring_buffer_sample_fn cb, void *data);
void listener_close(struct listener *l);

/* Renews the lease: to be called several times a second. *gap is for how long there was none, in nanoseconds: nobody has
 * listened then. 0, or -EBUSY: it is somebody else's now. */
int listener_renew(struct listener *l, __u64 *gap);

/* How many records have been lost since it was asked last. */
__u64 listener_lost(struct listener *l);

#endif
