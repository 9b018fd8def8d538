/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clock.h - the clock of the mappings, and its conversion to wall-clock time */
#ifndef NAT64_CLOCK_H
#define NAT64_CLOCK_H

#include <linux/types.h>

#define NS_PER_SEC 1000000000ULL

/* CLOCK_BOOTTIME in nanoseconds, the clock of all times that the programs write. */
__u64 boottime(void);

/* A time of that clock by the wall clock: nanoseconds since 1970 */
__s64 wall_clock(__u64 boot);

/* The same as text: ISO 8601, with microseconds */
struct time_text {
	char s[48];
};

struct time_text time_text(__u64 boot);

#endif
