/* SPDX-License-Identifier: GPL-2.0-or-later */
/* attach.h - the two programs of one interface: what is there, and changing it */
#ifndef NAT64_ATTACH_H
#define NAT64_ATTACH_H

#include "tc.h"

struct attachment {
	const struct link *link;
	struct tc_place place[NAT64_WAYS];

	/* found */
	enum tc_qdisc qdisc;
	struct tc_hook hook[NAT64_WAYS];
	int old[NAT64_WAYS]; /* the programs that are there, or -1 */
	enum tc_kind kind;   /* how to attach: as what is there, or as the kernel can */

	/* done */
	bool clsact_made;
	bool attached[NAT64_WAYS];
};

extern const struct attachment ATTACHMENT_NONE;

/* All of these: 0, or a negative errno after having said why. */

/* Looks at the interface. attachment_close() in any case. */
int attachment_find(struct nl *nl, const struct link *link, struct attachment *a);
void attachment_close(struct attachment *a);

/* Opens the programs that are there, to replace them and to put them back. */
int attachment_open(struct attachment *a);

/* Is something of others where our programs are to be? */
int attachment_check(const struct attachment *a);

/* The clsact qdisc, if it takes one. */
int attachment_prepare(struct nl *nl, struct attachment *a);

/* Attaches the program of a way (enum nat64_way), in place of the one that is there. */
int attachment_set(struct nl *nl, struct attachment *a, int way, int fd);

/* Takes back what the two before have done, for all programs in reverse; fd: those that were attached. */
void attachment_undo(struct nl *nl, const struct attachment *a, const int fd[NAT64_WAYS]);

/* Takes the programs away that are there. */
int attachment_remove(struct nl *nl, struct attachment *a);

/* Takes filters away that are behind what is attached by tcx: a version of nat64 that knew no tcx had loaded once more. */
int attachment_remove_old_filters(struct nl *nl, struct attachment *a);

/* Is one of our programs there? */
bool attachment_is_loaded(const struct attachment *a);

#endif
