/* SPDX-License-Identifier: GPL-2.0-only */
/* addr.h - IPv4 addresses inside IPv6 addresses (RFC 6052), and which addresses may be translated at all */
#ifndef NAT64_ADDR_H
#define NAT64_ADDR_H

#include "pkt.h"

static __always_inline bool v6_same(const union nat64_v6 *a, const union nat64_v6 *b)
{
	return a->d[0] == b->d[0] && a->d[1] == b->d[1];
}

/* Is `a` inside the NAT64 prefix? */
static __always_inline bool in_nat64_prefix(const union nat64_v6 *a)
{
	const volatile union nat64_v6 *p = &cfg.v6_prefix;

	if (a->w[0] != p->w[0])
		return false;
	switch (cfg.v6_len) {
	case 32:
		return true;
	case 40:
		return a->b[4] == p->b[4];
	case 48:
		return a->h[2] == p->h[2];
	case 56:
		return a->h[2] == p->h[2] && a->b[6] == p->b[6];
	case 64:
		return a->w[1] == p->w[1];
	default:
		return a->w[1] == p->w[1] && a->w[2] == p->w[2];
	}
}

static __always_inline bool in_pool(__be32 a)
{
	return (a & cfg.v4_mask) == cfg.v4_prefix;
}

/* The IPv4 address in an address inside the NAT64 prefix. RFC 6052 section 2.2; PL is the prefix length, u the octet
 * of bits 64 to 71, which like the suffix is not looked at (section 2.3):
 *
 *	PL   0-------------32--40--48--56--64--72--80--88--96--104---------
 *	32   |     prefix    |v4(32)         | u | suffix                    |
 *	40   |     prefix        |v4(24)     | u |(8)| suffix                |
 *	48   |     prefix            |v4(16) | u | (16)  | suffix            |
 *	56   |     prefix                |(8)| u |  v4(24)   | suffix        |
 *	64   |     prefix                    | u |   v4(32)      | suffix    |
 *	96   |     prefix                                    |    v4(32)     |
 */
static __always_inline __be32 v4_of(const union nat64_v6 *a)
{
	union {
		__u8 b[4];
		__be32 w;
	} v4;

	switch (cfg.v6_len) {
	case 32:
		return a->w[1];
	case 40:
		v4.b[0] = a->b[5], v4.b[1] = a->b[6], v4.b[2] = a->b[7], v4.b[3] = a->b[9];
		return v4.w;
	case 48:
		v4.b[0] = a->b[6], v4.b[1] = a->b[7], v4.b[2] = a->b[9], v4.b[3] = a->b[10];
		return v4.w;
	case 56:
		v4.b[0] = a->b[7], v4.b[1] = a->b[9], v4.b[2] = a->b[10], v4.b[3] = a->b[11];
		return v4.w;
	case 64:
		v4.b[0] = a->b[9], v4.b[1] = a->b[10], v4.b[2] = a->b[11], v4.b[3] = a->b[12];
		return v4.w;
	default:
		return a->w[3];
	}
}

/* The way back: `v4` embedded in the NAT64 prefix, u and suffix zero. */
static __always_inline void v6_of(__be32 v4, union nat64_v6 *a)
{
	const __u8 *b = (const __u8 *)&v4;

	a->d[0] = cfg.v6_prefix.d[0];
	a->d[1] = cfg.v6_prefix.d[1];
	switch (cfg.v6_len) {
	case 32:
		a->w[1] = v4;
		break;
	case 40:
		a->b[5] = b[0], a->b[6] = b[1], a->b[7] = b[2], a->b[9] = b[3];
		break;
	case 48:
		a->b[6] = b[0], a->b[7] = b[1], a->b[9] = b[2], a->b[10] = b[3];
		break;
	case 56:
		a->b[7] = b[0], a->b[9] = b[1], a->b[10] = b[2], a->b[11] = b[3];
		break;
	case 64:
		a->b[9] = b[0], a->b[10] = b[1], a->b[11] = b[2], a->b[12] = b[3];
		break;
	default:
		a->w[3] = v4;
	}
}

static __always_inline bool v4_in(__u32 a, __u32 prefix, __u32 len)
{
	return (a ^ prefix) >> (32 - len) == 0;
}

/* Multicast or the limited broadcast. */
static __always_inline bool v4_is_group(__be32 v4)
{
	__u32 a = bpf_ntohl(v4);

	return v4_in(a, 0xe0000000, 4) || a == 0xffffffff;
}

/* Not an address of one host that may be far away: this network, loopback, link-local, multicast and the limited
 * broadcast (RFC 1812 section 5.3.7, RFC 6890). 240.0.0.0/4 is for networks to use as they like, as Linux has it. */
static __always_inline bool v4_illegal(__be32 v4)
{
	__u32 a = bpf_ntohl(v4);

	return v4_is_group(v4) || v4_in(a, 0, 8) || v4_in(a, 0x7f000000, 8) || v4_in(a, 0xa9fe0000, 16);
}

/* Multicast, link-local, unspecified, loopback, IPv4-mapped, or itself a translated address. */
static __always_inline bool v6_illegal(const union nat64_v6 *a)
{
	if (a->b[0] == 0xff || (a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80))
		return true;
	if (!a->d[0] && (a->w[2] == bpf_htonl(0xffff) || (!a->w[2] && bpf_ntohl(a->w[3]) <= 1)))
		return true;
	return in_nat64_prefix(a);
}

/* RFC 6052 section 3.1: the well-known prefix does not stand for non-global IPv4 addresses. The list is that of the
 * IANA special-purpose registry (RFC 6890) where "global" is not true; v4_illegal has the rest. Our own addresses are
 * excepted: hairpinning would not work otherwise. */
static __always_inline bool v4_strict_illegal(__be32 v4)
{
	__u32 a = bpf_ntohl(v4);

	if (!cfg.wkp_strict || cfg.v6_len != 96 || cfg.v6_prefix.w[0] != bpf_htonl(0x64ff9b) || cfg.v6_prefix.w[1] ||
	    cfg.v6_prefix.w[2] || in_pool(v4) || v4 == cfg.icmp_src)
		return false;
	return v4_illegal(v4) || v4_in(a, 0xf0000000, 4) || v4_in(a, 0xc0586300, 24) || v4_in(a, 0x0a000000, 8) ||
	       v4_in(a, 0x64400000, 10) || v4_in(a, 0xac100000, 12) || v4_in(a, 0xc0000000, 24) ||
	       v4_in(a, 0xc0000200, 24) || v4_in(a, 0xc0a80000, 16) || v4_in(a, 0xc6120000, 15) ||
	       v4_in(a, 0xc6336400, 24) || v4_in(a, 0xcb007100, 24);
}

#endif
