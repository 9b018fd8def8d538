/* SPDX-License-Identifier: GPL-2.0-or-later */
/* netlink.h - requests to the kernel's rtnetlink, one answer or a dump of many */
#ifndef NAT64_NETLINK_H
#define NAT64_NETLINK_H

#include <libmnl/libmnl.h>

#include "msg.h"

struct nl {
	struct mnl_socket *socket;
	unsigned int seq;
	struct reason kernel; /* the kernel's own words about the last request that failed, or empty */
	char *answer;	      /* receive buffer */
	struct nlmsghdr *second;
	char request[2048];
};

/* One answer of a dump. */
typedef void (*nl_cb)(const struct nlmsghdr *msg, void *data);

/* protocol: NETLINK_ROUTE, NETLINK_NETFILTER. 0 or a negative errno. nl_close() in either case. */
int nl_open(struct nl *nl, int protocol);
void nl_close(struct nl *nl);

/* Starts a request in nl->request, with a zeroed header of size bytes at *header. */
struct nlmsghdr *nl_request(struct nl *nl, __u16 type, __u16 flags, size_t size, void *header);

/* Adds a second one behind it, which is complete. The kernel goes on to that in the same system call, whatever became of the first;
 * what becomes of it nl_talk() does not tell. */
struct nlmsghdr *nl_second(struct nl *nl, __u16 type, size_t size, void *header);

/* Sends the request, waits for the kernel's verdict and calls cb (or nothing, if NULL) with data for each answer. If a
 * dump was interrupted by a change it starts again, with the size bytes of data as they were at first. 0 or a
 * negative errno. */
int nl_talk(struct nl *nl, nl_cb cb, void *data, size_t size);

/* What went wrong: the kernel's own words, or those of errno. */
const char *nl_error(const struct nl *nl, int err);

#endif
