/* SPDX-License-Identifier: GPL-2.0-or-later */
/* static.h - static mappings: explicit address mappings (RFC 7757), from host to host or prefix to prefix */
#ifndef NAT64_USER_STATIC_H
#define NAT64_USER_STATIC_H

#include <stddef.h>

#include "addr.h"

struct static_mapping {
	struct prefix6 v6;
	struct prefix4 v4;
	__u32 line; /* of the configuration file that says so; 0: the command line */
};

struct statics {
	struct static_mapping *list;
	size_t n;
};

struct loaded;

/* V6=V4, either with a prefix length if it is not an address. 0, or -EINVAL with the reason. */
int static_parse(const char *text, struct static_mapping *m, struct reason *why);

/* 0 or -ENOMEM */
int statics_append(struct statics *s, const struct static_mapping *m);
void statics_free(struct statics *s);

/* Sorts by IPv4 address, a prefix before what it contains. 0, or -EINVAL if two have the same prefix on either side:
 * *first and *second are those, the one that came first in front. */
int statics_sort(struct statics *s, struct static_mapping *first, struct static_mapping *second);

/* Is it an entry of the table of the pool, rather than of static4 and static6? */
bool static_is_in_table(const struct static_mapping *m, const struct prefix4 *pool);

/* How many are not. */
size_t statics_outside(const struct statics *s, const struct prefix4 *pool);

/* Those of a translator that is loaded that are in its static4, sorted. 0 or a negative errno. statics_free() in either
 * case. */
int statics_read(const struct loaded *maps, struct statics *s);

/* V6=V4 */
struct static_text {
	char s[2 * PREFIX_STRLEN];
};

struct static_text static_text(const struct static_mapping *m);

#endif
