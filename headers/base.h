/* SPDX-License-Identifier: GPL-2.0-only */
/* base.h - what all headers may need: memory that other CPUs see too, and maps of one value */
#ifndef NAT64_BASE_H
#define NAT64_BASE_H

#include "../nat64.h"

#ifdef __CHECKER__
#define __force __attribute__((force))
#else
#define __force
#endif

/* What other CPUs may read or write at the same time: at once, and not twice. */
#define READ_ONCE(x)	 (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* A map with `n` values of a type for each CPU: no other CPU comes between a program and what it has written there, nor does another
 * program on the same CPU, as packets come to the hooks with bottom halves off.
 *
 * Not so on PREEMPT_RT since Linux 6.12.57 and 6.18 ("softirq: Allow to drop the softirq-BKL lock on PREEMPT_RT"), unless it has
 * CONFIG_PREEMPT_RT_NEEDS_BH_LOCK. Bottom halves that are off bind a task to its CPU there, but another task of the same CPU may
 * take over and bring a packet of its own. Who loads the programs is warned: kernel_interleaves() in user/kernel.c. */
#define PER_CPU(name, type_, n)                          \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, n);                  \
		__type(key, __u32);                      \
		__type(value, type_);                    \
	} name SEC(".maps")

/* The value of a map that has but one. The verifier wants to see that it is not NULL. */
static __always_inline void *only_value(void *map)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(map, &zero);
}

#endif
