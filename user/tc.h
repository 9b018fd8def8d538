/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tc.h - our programs on the two tc hooks of an interface
 *
 * By tcx where the kernel has it: a program is known by its name. Otherwise, or if there is a clsact qdisc already, so
 * that its filters keep their order, as a filter of that qdisc. Such filters have a fixed handle and priority and are
 * known by their name, which also says whether it was nat64 that made the qdisc ("nat64_6to4+clsact"): so all that
 * unloading needs is in the kernel. */
#ifndef NAT64_TC_H
#define NAT64_TC_H

#include "../nat64.h"
#include "link.h"
#include "netlink.h"

enum tc_kind {
	TC_CLSACT,
	TC_TCX,
};

/* A hook for each way: enum nat64_way is the index. */
struct tc_hook {
	bool ours; /* our program is there */
	enum tc_kind kind;
	__u32 prog_id;
	bool has_tcx;	       /* the kernel knows it */
	bool filter;	       /* our clsact filter is there; if .kind is TC_TCX, behind the program that translates */
	bool made_clsact;      /* and its name says that the clsact qdisc is ours too */
	unsigned int others;   /* clsact filters of others */
	struct reason foreign; /* which of them stands at our place, or empty */
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

/* What is there. -EPERM: there are programs that only CAP_SYS_ADMIN may look at, or nothing may be asked at all. */
int tc_hook_find(struct nl *nl, const struct link *link, enum nat64_way way, struct tc_hook *hook);

/* Attaches a program. -EEXIST: one of ours has come to be there. */
int tc_attach(struct nl *nl, const struct link *link, enum nat64_way way, enum tc_kind kind, int prog_fd,
	      bool made_clsact);

/* The same in place of old_fd, of ours, in one step: no packet meets neither. */
int tc_replace(struct nl *nl, const struct link *link, enum nat64_way way, enum tc_kind kind, int prog_fd,
	       bool made_clsact, int old_fd);
/* prog_fd: what is attached; for tcx only. */
int tc_detach(struct nl *nl, const struct link *link, enum nat64_way way, enum tc_kind kind, int prog_fd);

/* "ingress" or "egress" */
const char *tc_hook_name(enum nat64_way way);

/* "tcx" or "clsact" */
const char *tc_kind_name(enum tc_kind kind);

#endif
