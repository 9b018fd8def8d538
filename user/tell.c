// SPDX-License-Identifier: GPL-2.0-or-later
/* tell.c - tells who listens of mappings that a command has changed */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "listen.h"
#include "state.h"
#include "tell.h"

#define RECORD	 (sizeof(struct nat64_event) + NAT64_WHY_BYTES)
#define PATIENCE 1000 /* milliseconds for the reader of a full ring, in all */

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
	/* grows at powers of two */
	if (!(t->n & (t->n - 1))) {
		void *p = realloc(t->list, (t->n ? 2 * t->n : 1) * sizeof(*t->list));

		if (!p)
			return;
		t->list = p;
	}
	t->list[t->n++] = (struct told){ kind, v4, *v6, is_static, why };
}

/* A program that puts the packet that it is run with into the ring; it returns what bpf_ringbuf_output does. */
static int load_program(int ring)
{
	const struct bpf_insn insns[] = {
		/* skb_load_bytes(skb, 0, stack, RECORD) */
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_3, .src_reg = BPF_REG_10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_3, .imm = -(int)RECORD },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_4, .imm = RECORD },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_skb_load_bytes },
		{ .code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = BPF_REG_0, .off = 7, .imm = 0 },
		/* ringbuf_output(ring, stack, RECORD, 0) */
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = ring },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = BPF_REG_2, .imm = -(int)RECORD },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = RECORD },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_4, .imm = 0 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_ringbuf_output },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, NULL, "GPL", insns, sizeof(insns) / sizeof(*insns), NULL);
}

/* False: there is no room in the ring. */
static bool send_one(int program, const struct told *told)
{
	struct {
		struct ethhdr header;
		struct nat64_event event;
		char why[NAT64_WHY_BYTES];
	} __attribute__((packed)) packet = {
		.event = { .time = boottime(),
			   .kind = told->kind,
			   .v4 = told->v4,
			   .v6 = told->v6,
			   .is_static = told->is_static },
	};
	struct bpf_test_run_opts run = { .sz = sizeof(run), .data_in = &packet, .data_size_in = sizeof(packet) };

	strncpy(packet.why, told->why, sizeof(packet.why) - 1);
	return !bpf_prog_test_run_opts(program, &run) && !run.retval;
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
	int program = load_program(ring);

	for (size_t i = 0; i < t->n; i++) {
		bool sent = program >= 0 && send_one(program, &t->list[i]);

		for (; !sent && program >= 0 && *patience > 0; --*patience) {
			nanosleep(&millisecond, NULL);
			sent = send_one(program, &t->list[i]);
		}
		if (!sent)
			__atomic_fetch_add(&lease->lost, 1, __ATOMIC_RELAXED);
	}
	if (program >= 0)
		close(program);
}

void tells_send(struct tells *t, const struct loaded *maps)
{
	struct nat64_listen *page = t->n ? listen_map(maps) : NULL;
	int patience = PATIENCE;

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
