/* SPDX-License-Identifier: GPL-2.0-or-later */
/* monitor.h - what happens to mappings, a line each */
#ifndef NAT64_MONITOR_H
#define NAT64_MONITOR_H

#include "../nat64.h"
#include "out.h"

/* why: of one that was removed. */
void monitor_print(struct out *o, const char *interface, const struct nat64_event *e, const char *why);

#endif
