// SPDX-License-Identifier: GPL-2.0-or-later
/* addr.c - addresses, prefixes and numbers as the user writes them */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"

/* The prefixes that no host has, and so no pool and no source address either */
static const struct special4 {
	struct {
		__u8 addr[4];
		__u32 len;
	} prefix;
	const char *what;
} SPECIAL4[] = {
	{ { { 0 }, 8 }, "\"this network\" (0.0.0.0/8)" },
	{ { { 127 }, 8 }, "loopback (127.0.0.0/8)" },
	{ { { 169, 254 }, 16 }, "link-local (169.254.0.0/16)" },
	{ { { 224 }, 4 }, "multicast (224.0.0.0/4)" },
	{ { { 255, 255, 255, 255 }, 32 }, "broadcast (255.255.255.255)" },
};

static const struct special6 {
	struct prefix6 prefix;
	const char *what;
} SPECIAL6[] = {
	{ { { .b = { 0 } }, 96 }, "unspecified, loopback and IPv4-compatible addresses (::/96)" },
	{ { { .b = { [10] = 0xff, [11] = 0xff } }, 96 }, "IPv4-mapped addresses (::ffff:0:0/96)" },
	{ { { .b = { 0xfe, 0x80 } }, 10 }, "link-local addresses (fe80::/10)" },
	{ { { .b = { 0xff } }, 8 }, "multicast addresses (ff00::/8)" },
};

int parse_number(const char *text, __u32 min, __u32 max, __u32 *value, struct reason *why)
{
	unsigned long long n;
	char *end;

	/* strtoull() would take blanks and signs. Digits that overflow give ULLONG_MAX, which is out of range. */
	if (!isdigit((unsigned char)*text) && !(*text == '-' && isdigit((unsigned char)text[1])))
		return reason(why, -EINVAL, "not a number");
	n = strtoull(*text == '-' ? text + 1 : text, &end, 10);
	if (*end)
		return reason(why, -EINVAL, "not a number");
	if (*text == '-' || n < min || n > max)
		return reason(why, -EINVAL, "must be %u to %u", min, max);
	*value = n;
	return 0;
}

/* Cuts ADDRESS/LENGTH into an address of the family and a length of 0 to max. */
static int parse_prefix(const char *text, int family, void *addr, __u32 max, __u32 *len, struct reason *why)
{
	const char *name = family == AF_INET ? "IPv4" : "IPv6";
	const char *slash = strchr(text, '/');
	char buf[INET6_ADDRSTRLEN + 1];
	size_t n = slash ? (size_t)(slash - text) : strlen(text);

	snprintf(buf, sizeof(buf), "%.*s", (int)(n < sizeof(buf) ? n : sizeof(buf) - 1), text);
	if (n >= sizeof(buf) || inet_pton(family, buf, addr) != 1)
		return reason(why, -EINVAL, "not an %s prefix", name);
	if (!slash)
		return reason(why, -EINVAL, "prefix length is missing");
	if (parse_number(slash + 1, 0, max, len, why))
		return reason(why, -EINVAL, "prefix length must be a number of 0 to %u", max);
	return 0;
}

__be32 prefix4_mask(__u32 len)
{
	return be32_from(len ? ~0U << (32 - len) : 0);
}

static union nat64_v6 mask6(const union nat64_v6 *addr, __u32 len)
{
	union nat64_v6 out = *addr;

	for (__u32 i = 0; i < 16; i++) {
		if (len >= 8 * i + 8)
			continue;
		out.b[i] &= len <= 8 * i ? 0 : 0xff << (8 * i + 8 - len);
	}
	return out;
}

union nat64_v6 prefix6_mask(__u32 len)
{
	static const union nat64_v6 ones = { .d = { ~0ULL, ~0ULL } };

	return mask6(&ones, len);
}

bool v6_same(const union nat64_v6 *a, const union nat64_v6 *b)
{
	return !memcmp(a, b, sizeof(*a));
}

bool v6_is_none(const union nat64_v6 *a)
{
	static const union nat64_v6 none;

	return v6_same(a, &none);
}

int v4_order(__be32 a, __be32 b)
{
	__u32 x = be32_to(a), y = be32_to(b);

	return x < y ? -1 : x > y;
}

int v6_order(const union nat64_v6 *a, const union nat64_v6 *b)
{
	return memcmp(a, b, sizeof(*a));
}

int prefix4_order(const struct prefix4 *a, const struct prefix4 *b)
{
	int order = v4_order(a->addr, b->addr);

	return order ? order : (int)a->len - (int)b->len;
}

int prefix6_order(const struct prefix6 *a, const struct prefix6 *b)
{
	int order = v6_order(&a->addr, &b->addr);

	return order ? order : (int)a->len - (int)b->len;
}

int parse_prefix4(const char *text, struct prefix4 *p, struct reason *why)
{
	return parse_prefix(text, AF_INET, &p->addr, 32, &p->len, why);
}

int parse_prefix6(const char *text, struct prefix6 *p, struct reason *why)
{
	return parse_prefix(text, AF_INET6, &p->addr, 128, &p->len, why);
}

int check_network4(const struct prefix4 *p, struct reason *why)
{
	struct prefix4 net = { p->addr & prefix4_mask(p->len), p->len };

	if (net.addr != p->addr)
		return reason(why, -EINVAL, "not a network address (did you mean %s?)", text4(net).s);
	return 0;
}

int check_network6(const struct prefix6 *p, struct reason *why)
{
	struct prefix6 net = { mask6(&p->addr, p->len), p->len };

	if (!v6_same(&net.addr, &p->addr))
		return reason(why, -EINVAL, "not a network address (did you mean %s?)", text6(net).s);
	return 0;
}

int parse_addr4(const char *text, __be32 *addr, struct reason *why)
{
	if (inet_pton(AF_INET, text, addr) != 1)
		return reason(why, -EINVAL, "not an IPv4 address");
	return 0;
}

bool prefix4_covers(const struct prefix4 *outer, const struct prefix4 *inner)
{
	return outer->len <= inner->len && !((inner->addr ^ outer->addr) & prefix4_mask(outer->len));
}

bool prefix6_covers(const struct prefix6 *outer, const struct prefix6 *inner)
{
	union nat64_v6 net = mask6(&inner->addr, outer->len);

	return outer->len <= inner->len && v6_same(&net, &outer->addr);
}

bool prefix4_overlap(const struct prefix4 *a, const struct prefix4 *b)
{
	return prefix4_covers(a, b) || prefix4_covers(b, a);
}

bool prefix6_overlap(const struct prefix6 *a, const struct prefix6 *b)
{
	return prefix6_covers(a, b) || prefix6_covers(b, a);
}

const char *prefix4_special(const struct prefix4 *p)
{
	for (size_t i = 0; i < sizeof(SPECIAL4) / sizeof(*SPECIAL4); i++) {
		struct prefix4 s = { .len = SPECIAL4[i].prefix.len };

		memcpy(&s.addr, SPECIAL4[i].prefix.addr, sizeof(s.addr));
		if (prefix4_overlap(p, &s))
			return SPECIAL4[i].what;
	}
	return NULL;
}

const char *prefix6_special(const struct prefix6 *p)
{
	for (size_t i = 0; i < sizeof(SPECIAL6) / sizeof(*SPECIAL6); i++)
		if (prefix6_overlap(p, &SPECIAL6[i].prefix))
			return SPECIAL6[i].what;
	return NULL;
}

const char *prefix6_within_special(const struct prefix6 *p)
{
	for (size_t i = 0; i < sizeof(SPECIAL6) / sizeof(*SPECIAL6); i++)
		if (prefix6_covers(&SPECIAL6[i].prefix, p))
			return SPECIAL6[i].what;
	return NULL;
}

static struct prefix_text to_text(int family, const void *addr, __u32 len, __u32 full)
{
	struct prefix_text t;
	size_t n;

	if (!inet_ntop(family, addr, t.s, sizeof(t.s)))
		t.s[0] = 0;
	n = strlen(t.s);
	if (len != full)
		snprintf(t.s + n, sizeof(t.s) - n, "/%u", len);
	return t;
}

struct prefix_text text4(struct prefix4 p)
{
	return to_text(AF_INET, &p.addr, p.len, 32);
}

struct prefix_text text6(struct prefix6 p)
{
	return to_text(AF_INET6, &p.addr, p.len, 128);
}
