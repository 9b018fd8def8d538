/* SPDX-License-Identifier: GPL-2.0-or-later */
/* setup.h - loading, reconfiguring and unloading a translator as a whole */
#ifndef NAT64_SETUP_H
#define NAT64_SETUP_H

#include "link.h"
#include "netlink.h"
#include "options.h"

/* Loads the translator that the options ask for, on a link and, if that is a device of our own, ports besides; or puts it in the place of the one that is there, in one step and
 * with those of its mappings that are still legal. 0, or a negative errno after having said why. The machine is then left
 * as it was, unless the new programs were in place of others already: these are not brought back, whose mappings may be
 * another host's meanwhile. That is said, too; another run does the rest. */
int setup_load(struct nl *nl, const struct link *link, const struct link *ports, size_t n_ports,
	       const struct options *o);

/* The part of its checks that takes no privileges: the interfaces, addresses and routes. 0, or a negative errno after having said
 * what is in the way. */
int setup_look(struct nl *nl, const struct link *link, const struct link *ports, size_t n_ports,
	       const struct options *o);

/* Takes away all that nat64 made for the translator of the interface, and nothing else. 0, or a negative errno after having said why;
 * -ENOENT: there was nothing. */
int setup_unload(struct nl *nl, const struct link *link);

/* Takes away what --fast attached to other interfaces for a translator whose own interface is gone, if this process may
 * see it. 0, or a negative errno after having said why; *found: there was something, or such an error. */
int setup_clean(struct nl *nl, bool *found);

#endif
