/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check.h - checks before loading: capabilities, conflicts with addresses and routes */
#ifndef NAT64_CHECK_H
#define NAT64_CHECK_H

#include <stdbool.h>

#include "link.h"
#include "netlink.h"
#include "options.h"

enum task {
	TASK_LOAD,   /* load programs and attach them */
	TASK_RELOAD, /* and look into those that are there */
	TASK_UNLOAD,
	TASK_TELL, /* tell ours from those of others, where programs are attached by tcx */
	TASK_LOOK, /* look into those that are there, and change their mappings */
};

/* Has this process the capabilities for the task? 0, or -EPERM with the missing ones named. */
int check_capabilities(enum task task, struct reason *why);

/* Could a process here ever have them? Not inside a container that is to do without. */
bool check_may_ever(enum task task);

/* Do addresses of this machine, or IPv6 routes of the interface, stand in the way of what the options want? IPv4 routes
 * are routes_find()'s. 0, or a negative errno with the conflict named. */
int check_addresses(struct nl *nl, const struct link *link, const struct options *o, struct reason *why);

#endif
