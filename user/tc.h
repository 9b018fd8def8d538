/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tc.h - our programs on the two tc hooks of an interface
 *
 * By tcx where the kernel has it: a program is known by its name. Otherwise, or if there is a clsact qdisc already, so
 * that its filters keep their order, as a filter of that qdisc. Such filters have a fixed handle and priority and are
 * known by their name, which also says whether it was nat64 that made the qdisc ("nat64_6to4+clsact"): so all that
 * unloading needs is in the kernel.
 *
 * The program for --fast is on other interfaces than the translator's, whose index it has in its configuration, and as
 * a filter in its handle. */
#ifndef NAT64_TC_H
#define NAT64_TC_H

#include "../nat64.h"
#include "link.h"
#include "netlink.h"

enum tc_kind {
	TC_CLSACT,
	TC_TCX,
};

enum tc_program {
	TC_6TO4 = NAT64_6TO4,
	TC_4TO6 = NAT64_4TO6,
	TC_FAST,
};

/* Where a program belongs. */
struct tc_place {
	const struct link *link;
	enum tc_program program;
	unsigned int owner; /* index of the translator's interface, which for TC_FAST is another one */
};

/* What is there. */
struct tc_hook {
	bool ours; /* the program that belongs there */
	enum tc_kind kind;
	__u32 prog_id;
	bool has_tcx;	       /* the kernel knows it */
	bool filter;	       /* its clsact filter is there; if .kind is TC_TCX, behind the program that translates */
	bool made_clsact;      /* filters of nat64 say that the clsact qdisc is of its making, too */
	unsigned int others;   /* other clsact filters */
	struct reason foreign; /* which of them stands at its place, or empty */
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

/* -EPERM: there are programs that only CAP_SYS_ADMIN may look at, or nothing may be asked at all. */
int tc_hook_find(struct nl *nl, const struct tc_place *place, struct tc_hook *hook);

/* What nat64 has on the ingress hook of an interface: is it a translator's, and the owners of the programs for --fast
 * that are there (*owners to be freed). -EPERM as above. */
int tc_ingress_find(struct nl *nl, const struct link *link, bool *translator, unsigned int **owners, size_t *n);

/* Attaches a program. -EEXIST: it has come to be there. */
int tc_attach(struct nl *nl, const struct tc_place *place, enum tc_kind kind, int prog_fd, bool made_clsact);

/* The same in place of old_fd, which is there, in one step: no packet meets neither. */
int tc_replace(struct nl *nl, const struct tc_place *place, enum tc_kind kind, int prog_fd, bool made_clsact,
	       int old_fd);

/* prog_fd: what is attached; for tcx only. */
int tc_detach(struct nl *nl, const struct tc_place *place, enum tc_kind kind, int prog_fd);

/* "ingress" or "egress" */
const char *tc_hook_name(enum tc_program program);

/* "tcx" or "clsact" */
const char *tc_kind_name(enum tc_kind kind);

#endif
