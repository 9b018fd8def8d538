/* SPDX-License-Identifier: GPL-2.0-or-later */
/* translator.h - a translator that is loaded, as those see it who look at it or change its mappings */
#ifndef NAT64_TRANSLATOR_H
#define NAT64_TRANSLATOR_H

#include "link.h"
#include "loaded.h"
#include "netlink.h"
#include "tc.h"

struct translator {
	const struct link *link; /* that the routes lead to */
	struct link home;	 /* that one, if it has been asked for by a port */
	struct tc_hook hook[NAT64_WAYS];
	struct loaded maps;
	struct nat64_config cfg;
};

/* Finds the translator of an interface, which may be a port of its device. 0, or a negative errno after having said why.
 * translator_close() in any case. *t stays where it is. */
int translator_open(struct nl *nl, const struct link *link, struct translator *t);

/* The same, but says nothing if there is none: -ENOENT. Of ports there is none, but of their device. */
int translator_try(struct nl *nl, const struct link *link, struct translator *t);

/* Either of the two, but a translator that is there and of no use is not told of: -ESTALE (a program is missing) or -EPROTO
 * (another version), with *why. */
int translator_look(struct nl *nl, const struct link *link, bool named, struct translator *t, struct reason *why);
void translator_close(struct translator *t);

/* The device that an interface is a port of. 0 with *home, or a negative errno, nothing said; -ENOENT: of none. */
int translator_home(struct nl *nl, const struct link *link, struct link *home);

/* The dynamic prefix, what is given out of it, and an address of it. */
struct prefix4 translator_pool(const struct translator *t);
struct prefix4 config_give_out(const struct nat64_config *cfg);
struct prefix4 translator_address(const struct translator *t, __u32 index);

#endif
