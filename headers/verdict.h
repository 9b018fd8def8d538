/* SPDX-License-Identifier: GPL-2.0-only */
/* verdict.h - what becomes of a packet, and the counters */
#ifndef NAT64_VERDICT_H
#define NAT64_VERDICT_H

#include <linux/pkt_cls.h>
#include "../nat64.h"

#ifdef __CHECKER__
#define __force __attribute__((force))
#else
#define __force
#endif

/* What other CPUs may read or write at the same time: at once, and not twice. */
#define READ_ONCE(x)	 (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* Every stage returns NAT64_PASS or the reason to drop (enum nat64_drop); results are out-parameters. */
#define TRY(stage)                      \
	do {                            \
		int try_ = (stage);     \
		if (try_ != NAT64_PASS) \
			return try_;    \
	} while (0)

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat64_stats);
} stats SEC(".maps");

/* Counts a packet of ours. `bytes`: the IP packet as it came. */
static __always_inline void count(enum nat64_way way, int verdict, __u32 bytes)
{
	__u32 zero = 0;
	struct nat64_stats *s = bpf_map_lookup_elem(&stats, &zero);

	if (!s)
		return;
	asm volatile("" : "+r"(verdict)); /* or clang checks one copy of it and uses another */
	if (verdict == NAT64_PASS) {
		s->packets[way]++;
		s->bytes[way] += bytes;
	} else if (verdict >= 0 && verdict < NAT64_DROP_MAX) {
		s->drops[way][verdict]++;
	}
}

#endif
