/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fast.h - the program for --fast, on the ingress hooks of the interfaces that IPv4 comes in by */
#ifndef NAT64_USER_FAST_H
#define NAT64_USER_FAST_H

#include "tc.h"

/* A program for --fast that is attached, or is to be */
struct fast_program {
	struct tc_place place;
	struct tc_hook hook; /* as found */
	bool wanted;
	enum tc_qdisc qdisc;
	enum tc_kind kind;
	int old_fd; /* of what is there, or -1 */
	/* done by fast_attach() */
	bool clsact_made;
	bool attached;
};

struct fast {
	struct link *links; /* of the places */
	size_t n_links;
	struct fast_program *list;
	size_t n;
};

/* Finds the programs for --fast that belong to n interfaces, those of translators that are gone, and, with wanted, the places where
 * those of the first are to be: other Ethernet interfaces that have an IPv4 address and are no ports. 0, or a negative errno with *why; -EPERM: only CAP_SYS_ADMIN can tell. fast_free() in either case. */
int fast_find(struct nl *nl, const unsigned int *owners, size_t n, bool wanted, struct fast *fast, struct reason *why);
void fast_free(struct fast *fast);

/* Attaches the program wherever it is wanted, in place of those that are there. On failure, a negative errno with *why:
 * fast_undo() puts back what was there. */
int fast_attach(struct nl *nl, struct fast *fast, int prog_fd, struct reason *why);
void fast_undo(struct nl *nl, const struct fast *fast, int prog_fd);

/* Removes what is there and not wanted. 0, or the first error with *why, after having tried all. */
int fast_remove(struct nl *nl, struct fast *fast, struct reason *why);

/* The next program of this owner that is there, from the *i-th on; *i is 0 at first. NULL: no more. */
const struct fast_program *fast_next(const struct fast *fast, unsigned int owner, size_t *i);

#endif
