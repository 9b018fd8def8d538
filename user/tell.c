// SPDX-License-Identifier: GPL-2.0-or-later
/* tell.c - reports mappings that a command has changed to listeners */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "array.h"
#include "clock.h"
#include "listen.h"
#include "run.skel.h"
#include "tell.h"

struct told {
	enum nat64_event_kind kind;
	__be32 v4;
	union nat64_v6 v6;
	bool is_static;
	const char *why;
};

static bool is_any(const struct nat64_listen *page)
{
	for (__u32 place = 0; place < NAT64_LISTENERS; place++)
		if (listen_is_taken(page, NAT64_EVENTS, place))
			return true;
	return false;
}

bool tell_wanted(const struct loaded *maps)
{
	struct nat64_listen *page = listen_map(maps);
	bool wanted = page && is_any(page);

	listen_unmap(page);
	return wanted;
}

void tells_add(struct tells *t, enum nat64_event_kind kind, __be32 v4, const union nat64_v6 *v6, bool is_static,
	       const char *why)
{
	struct told *more = array_room(t->list, t->n, sizeof(*more));

	if (!more)
		return;
	t->list = more;
	more[t->n++] = (struct told){ kind, v4, *v6, is_static, why };
}

/* The program that puts the packet that it is run with into a ring; NULL: it cannot be loaded. */
static struct run_bpf *load_program(int ring)
{
	struct run_bpf *skel = run_bpf__open();
	int err = skel ? bpf_program__set_autoload(skel->progs.read_jiffies, false) : -ENOMEM;

	err = err ? err : bpf_map__reuse_fd(skel->maps.ring, ring);
	err = err ? err : run_bpf__load(skel);
	if (!err)
		return skel;
	run_bpf__destroy(skel);
	return NULL;
}

/* False: there is no room in the ring. */
static bool send_one(const struct run_bpf *skel, const struct told *told)
{
	struct {
		struct ethhdr header;
		struct nat64_record record;
	} __attribute__((packed)) packet = {
		.record.event = { .time = boottime(),
				  .kind = told->kind,
				  .v4 = told->v4,
				  .v6 = told->v6,
				  .is_static = told->is_static },
	};
	struct bpf_test_run_opts run = { .sz = sizeof(run), .data_in = &packet, .data_size_in = sizeof(packet) };

	strncpy(packet.record.why, told->why, sizeof(packet.record.why) - 1);
	return !bpf_prog_test_run_opts(bpf_program__fd(skel->progs.put_record), &run) && !run.retval;
}

void tells_free(struct tells *t)
{
	free(t->list);
	*t = (struct tells){ 0 };
}

/* Tells one listener of them all. */
static void send_all(const struct tells *t, int ring, struct nat64_lease *lease, int *patience)
{
	const struct timespec millisecond = { .tv_nsec = 1000000 };
	struct run_bpf *program = load_program(ring);

	for (size_t i = 0; i < t->n; i++) {
		bool sent = program && send_one(program, &t->list[i]);

		for (; !sent && program && *patience > 0; --*patience) {
			nanosleep(&millisecond, NULL);
			sent = send_one(program, &t->list[i]);
		}
		if (!sent)
			__atomic_fetch_add(&lease->lost, 1, __ATOMIC_RELAXED);
	}
	run_bpf__destroy(program);
}

void tells_send(struct tells *t, const struct loaded *maps, int patience)
{
	struct nat64_listen *page = t->n ? listen_map(maps) : NULL;

	for (__u32 place = 0; page && place < NAT64_LISTENERS; place++) {
		int ring = listen_is_taken(page, NAT64_EVENTS, place) ? listen_ring(maps, NAT64_EVENTS, place) : -1;

		if (ring < 0)
			continue;
		send_all(t, ring, &page->lease[NAT64_EVENTS][place], &patience);
		close(ring);
	}
	listen_unmap(page);
	tells_free(t);
}
