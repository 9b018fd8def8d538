/* SPDX-License-Identifier: GPL-2.0-or-later */
/* listen.h - listening to a translator that is loaded: the leases and ring buffers of struct nat64_listen */
#ifndef NAT64_USER_LISTEN_H
#define NAT64_USER_LISTEN_H

#include <bpf/libbpf.h>

#include "loaded.h"

/* The map "listen" in our memory, or NULL with errno; EPROTO: it is of another version. */
struct nat64_listen *listen_map(const struct loaded *maps);
void listen_unmap(struct nat64_listen *page);

/* Is there a listener in this place whose lease has not run out? */
bool listen_is_taken(const struct nat64_listen *page, enum nat64_ring ring, __u32 place);

/* Its ring: a descriptor, or a negative errno. */
int listen_ring(const struct loaded *maps, enum nat64_ring ring, __u32 place);

struct listener {
	struct nat64_listen *page;
	struct nat64_ear *ear;
	struct nat64_lease *lease;
	struct ring_buffer *buffer;
	int rings; /* the map; not ours to close */
	__u32 place;
	int ring;
	__u64 until; /* as we wrote it into the lease */
	__u64 since; /* when it began: records of earlier events are not for it */
	__u64 lost;  /* lease->lost when it was looked at last */
};

/* Takes a lease, with the filter (for packets), and opens a ring of so many bytes, of which cb gets the records. 0, -EBUSY: so many others
 * listen, or another negative errno. listener_close() in any case, while maps are open. */
int listener_open(struct listener *l, const struct loaded *maps, enum nat64_ring ring,
		  const struct nat64_filter *filter, __u32 bytes, ring_buffer_sample_fn cb, void *data);
void listener_close(struct listener *l);

/* Renews the lease: to be called several times a second. *gap is for how long there was none, in nanoseconds: nobody has
 * listened then. 0, or -EBUSY: it is somebody else's now. */
int listener_renew(struct listener *l, __u64 *gap);

/* How many records have been lost since it was asked last. */
__u64 listener_lost(struct listener *l);

#endif
