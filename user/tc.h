/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tc.h - the clsact qdisc and our filters on its two hooks
 *
 * Our filters have a fixed handle and priority and are known by their name, which also says whether it was nat64 that
 * made the clsact qdisc ("nat64_6to4+clsact"): so all that unloading needs is in the dump. */
#ifndef NAT64_TC_H
#define NAT64_TC_H

#include "../nat64.h"
#include "link.h"
#include "netlink.h"

/* A hook for each way: enum nat64_way is the index. */
struct tc_filter {
	bool ours;	  /* our filter is there */
	bool made_clsact; /* and its name says that the clsact qdisc is ours too */
	__u32 prog_id;
	unsigned int others;   /* filters of others on this hook */
	struct reason foreign; /* who stands at our place, or empty */
};

enum tc_qdisc {
	TC_QDISC_NONE,
	TC_QDISC_CLSACT,
	TC_QDISC_INGRESS, /* the older one, without egress hook; it excludes clsact */
};

/* All of these: 0 or a negative errno. */
int tc_qdisc_find(struct nl *nl, const struct link *link, enum tc_qdisc *kind);
int tc_clsact_add(struct nl *nl, const struct link *link);
int tc_clsact_del(struct nl *nl, const struct link *link);

int tc_filter_find(struct nl *nl, const struct link *link, enum nat64_way way, struct tc_filter *filter);

/* Attaches a program; with replace, in place of the one of ours that is there, in one step: no packet meets neither. */
int tc_filter_set(struct nl *nl, const struct link *link, enum nat64_way way, int prog_fd, bool made_clsact,
		  bool replace);
int tc_filter_del(struct nl *nl, const struct link *link, enum nat64_way way);

/* "ingress" or "egress" */
const char *tc_hook(enum nat64_way way);

#endif
