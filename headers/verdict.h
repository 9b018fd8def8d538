/* SPDX-License-Identifier: GPL-2.0-only */
/* verdict.h - what becomes of a packet, and the counters */
#ifndef NAT64_VERDICT_H
#define NAT64_VERDICT_H

#include <linux/pkt_cls.h>

#include "base.h"

/* Every stage returns NAT64_PASS or the reason to drop (enum nat64_drop); results are out-parameters. */
#define TRY(stage)                      \
	do {                            \
		int try_ = (stage);     \
		if (try_ != NAT64_PASS) \
			return try_;    \
	} while (0)

PER_CPU(stats, struct nat64_stats, 1);

/* Counts a packet of ours. `bytes`: the IP packet as it came. */
static __always_inline void count(enum nat64_way way, int verdict, __u32 bytes)
{
	struct nat64_stats *s = only_value(&stats);

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
