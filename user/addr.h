/* SPDX-License-Identifier: GPL-2.0-or-later */
/* addr.h - addresses, prefixes and numbers as the user writes them */
#ifndef NAT64_USER_ADDR_H
#define NAT64_USER_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>

#include "../nat64.h"
#include "msg.h"

#ifdef __CHECKER__
#define FORCE __attribute__((force))
#else
#define FORCE
#endif

/* htonl() and ntohl() with the byte order in the type, for sparse. */
static inline __be32 be32_from(__u32 host)
{
	return (FORCE __be32)htonl(host);
}

static inline __u32 be32_to(__be32 net)
{
	return ntohl((FORCE __u32)net);
}

/* Are they the same address? Is it all zero, which is nobody's? */
bool v6_same(const union nat64_v6 *a, const union nat64_v6 *b);
bool v6_is_none(const union nat64_v6 *a);

struct prefix4 {
	__be32 addr;
	__u32 len;
};

struct prefix6 {
	union nat64_v6 addr;
	__u32 len;
};

/* Room for any of the two as text, with "/128" */
#define PREFIX_STRLEN (INET6_ADDRSTRLEN + 4)

struct prefix_text {
	char s[PREFIX_STRLEN];
};

/* Parsers read the whole of text, and return 0, or -EINVAL with the reason in *why. */

/* A decimal number of min to max; *value in host byte order. */
int parse_number(const char *text, __u32 min, __u32 max, __u32 *value, struct reason *why);

/* ADDRESS/LENGTH, length 0 to 32 or 128. */
int parse_prefix4(const char *text, struct prefix4 *p, struct reason *why);
int parse_prefix6(const char *text, struct prefix6 *p, struct reason *why);

/* Are the host bits zero? */
int check_network4(const struct prefix4 *p, struct reason *why);
int check_network6(const struct prefix6 *p, struct reason *why);

/* An IPv4 address. */
int parse_addr4(const char *text, __be32 *addr, struct reason *why);

__be32 prefix4_mask(__u32 len);
union nat64_v6 prefix6_mask(__u32 len);

/* Is inner the same as outer, or a part of it? */
bool prefix4_covers(const struct prefix4 *outer, const struct prefix4 *inner);
bool prefix6_covers(const struct prefix6 *outer, const struct prefix6 *inner);

/* Which comes first, by address and then by length: less than, equal to, or more than 0, for qsort() and bsearch(). */
int v4_order(__be32 a, __be32 b);
int v6_order(const union nat64_v6 *a, const union nat64_v6 *b);
int prefix4_order(const struct prefix4 *a, const struct prefix4 *b);
int prefix6_order(const struct prefix6 *a, const struct prefix6 *b);

/* Have they an address in common? */
bool prefix4_overlap(const struct prefix4 *a, const struct prefix4 *b);
bool prefix6_overlap(const struct prefix6 *a, const struct prefix6 *b);

/* What special addresses, which no host has, it overlaps or lies within; NULL: none. */
const char *prefix4_special(const struct prefix4 *p);
const char *prefix6_special(const struct prefix6 *p);
const char *prefix6_within_special(const struct prefix6 *p);

/* As text, by value: good for use as an argument of printf. Full addresses (/32, /128) go without length. */
struct prefix_text text4(struct prefix4 p);
struct prefix_text text6(struct prefix6 p);

#endif
