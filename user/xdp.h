/* SPDX-License-Identifier: GPL-2.0-or-later */
/* xdp.h - the programs for --xdp, on the interfaces of a translator and on those that IPv4 comes in by
 *
 * An interface has one XDP program at most. One of somebody else stays, and nat64 does without, or refuses. Ours are attached
 * without a link: they stay when this process ends, and are known by their names and the interface in their configuration. */
#ifndef NAT64_USER_XDP_H
#define NAT64_USER_XDP_H

#include "link.h"
#include "load.h"

/* An interface that has such a program, or is to have one */
struct xdp_program {
	struct link *link;
	bool port; /* of IPv6 hosts */

	/* found */
	bool ours;
	bool of_members; /* of this translator, and not of one that is gone */
	int old_fd;	 /* or -1 */

	/* wanted */
	bool wanted;
	struct nat64_bpf *programs; /* of this interface alone, or NULL */
	int fd;			    /* what is to be attached */

	/* done */
	bool detached; /* what was there, since it was attached in another way */
	bool attached;
};

struct xdp {
	struct link *links; /* of the list */
	size_t n_links;
	struct xdp_program *list;
	size_t n;
};

/* The interfaces of a translator: that which routes lead to, and its ports. */
struct xdp_members {
	unsigned int index[2 * NAT64_PORTS + 1]; /* those that it has, and those that it is to have */
	size_t n;
};

/* One that there is no room for is one too many for a translator, too. */
void xdp_add_member(struct xdp_members *m, unsigned int index);
bool xdp_is_member(const struct xdp_members *m, unsigned int index);

/* The interfaces of a translator that is loaded. */
struct xdp_members xdp_members_of(unsigned int home, const struct ports *ports);

/* Finds the programs of the translator with these interfaces, and those of translators that are gone. 0, or a negative errno
 * with *why; -EPERM: only CAP_SYS_ADMIN can tell. xdp_free() in either case. */
int xdp_find(struct nl *nl, const struct xdp_members *m, struct xdp *xdp, struct reason *why);
void xdp_free(struct xdp *xdp);

/* Adds where programs are to be: on the ports of these, and where IPv4 comes in. 0, or a negative errno with *why. */
int xdp_want(struct nl *nl, const struct xdp_members *ports, const struct xdp_members *all, struct xdp *xdp,
	     struct reason *why);

/* Is the program on an interface one of nat64, of whatever translator? No, if only CAP_SYS_ADMIN can tell. */
bool xdp_is_ours(const struct link *link);

/* Can there be a program of ours? 0, or a negative errno with *why, about the interface. */
int xdp_check(const struct xdp_program *p, enum nat64_xdp mode, struct reason *why);

/* Attaches one in place of what is there. 0, or a negative errno with nl_error(). */
int xdp_attach(struct nl *nl, struct xdp_program *p, enum nat64_xdp mode);

/* Puts back what was there before. */
void xdp_undo(struct nl *nl, const struct xdp *xdp, enum nat64_xdp mode);

/* Removes what is there and not wanted. 0, or the first error with *why, after having tried all. */
int xdp_remove(struct nl *nl, const struct xdp *xdp, struct reason *why);

#endif
