// SPDX-License-Identifier: GPL-2.0-or-later
/* clock.c - the clock of the mappings, and its conversion to wall-clock time */
#include <stdio.h>
#include <time.h>

#include "clock.h"

__u64 boottime(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

__s64 wall_clock(__u64 boot)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * (__s64)NS_PER_SEC + now.tv_nsec - (__s64)(boottime() - boot);
}

struct time_text time_text(__u64 boot)
{
	struct time_text text;
	char zone[8] = "", day[32];
	struct tm tm;
	__s64 wall = wall_clock(boot);
	time_t s = wall / (__s64)NS_PER_SEC;

	strftime(day, sizeof(day), "%FT%T", localtime_r(&s, &tm));
	strftime(zone, sizeof(zone), "%z", &tm);
	snprintf(text.s, sizeof(text.s), "%s.%06lld%.3s:%s", day, wall % (__s64)NS_PER_SEC / 1000, zone, zone + 3);
	return text;
}
