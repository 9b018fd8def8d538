/* SPDX-License-Identifier: GPL-2.0-or-later */
/* reconcile.h - makes the mappings that are there agree with the options; what is still legal stays */
#ifndef NAT64_RECONCILE_H
#define NAT64_RECONCILE_H

#include "loaded.h"
#include "options.h"
#include "state.h"
#include "tell.h"

struct reconcile {
	const struct options *o;
	const struct nat64_config *cfg;
	const struct loaded *maps;	/* of the translator with these options */
	const struct loaded *old;	/* of the one before, if that had maps of its own */
	struct nat64_config old_cfg;	/* its configuration */
	struct static_mapping *sources; /* static mappings in the table by IPv6 address */
	size_t n_sources;
	const struct saved *saved; /* to be restored, or NULL */
	__u32 n_refused;	   /* of them */
	__u32 n_lost;		   /* mappings whose address is not in the IPv4 prefix any more */
	bool last;		   /* this time, tell of what cannot be */

	/* during a walk over the table */
	struct edits *edits;
	struct tells *tells;
	size_t next;	  /* of o->statics */
	__u64 held_until; /* addresses below, from the last static prefix on, are held by it */
	__u64 now;
};

/* 0 or -ENOMEM; reconcile_free() in either case. */
int reconcile_init(struct reconcile *r, const struct options *o, const struct nat64_config *cfg,
		   const struct loaded *maps);
void reconcile_free(struct reconcile *r);

/* All of these: 0 or a negative errno. */

/* Fills in the static mappings of maps that are new. */
int reconcile_fill(struct reconcile *r);

/* Changes those of maps that are in use. */
int reconcile_in_use(struct reconcile *r);

/* Takes over the mappings of r->old, into maps that nobody uses yet. */
int reconcile_copy(struct reconcile *r);

/* And those that were made meanwhile, once the programs with the maps have taken the place of the old ones. Counts and
 * tells of those that cannot be. */
int reconcile_copy_rest(struct reconcile *r);

/* How the maps differ from those of r->old: for those who listen. What is new, before they are in use; what has gone, after
 * all was taken over. */
int reconcile_created(struct reconcile *r, struct tells *tells);
int reconcile_removed(struct reconcile *r, struct tells *tells);

/* Brings back r->saved, but for what is not legal, or stands in the way of what there is. in_use: programs are using the
 * maps. Tells how many could not be. */
int reconcile_restore(struct reconcile *r, bool in_use);

#endif
