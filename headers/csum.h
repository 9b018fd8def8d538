/* SPDX-License-Identifier: GPL-2.0-only */
/* csum.h - one's complement sums (RFC 1071, RFC 1624) */
#ifndef NAT64_CSUM_H
#define NAT64_CSUM_H

#include "kernel.h"

/* A sum of 16-bit words in the order they lie in the packet, which the arithmetic does not mind: not folded, carries
 * piled up in the upper half. */
typedef __u64 csum_t;

static __always_inline __u32 csum_fold32(csum_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

static __always_inline __u16 csum_fold16(csum_t sum)
{
	__u32 s = csum_fold32(sum);

	s = (s & 0xffff) + (s >> 16);
	return (s & 0xffff) + (s >> 16);
}

/* `sum` minus `minus`. */
static __always_inline csum_t csum_sub(csum_t sum, csum_t minus)
{
	return sum + (__u32)~csum_fold32(minus);
}

/* Words of the packet as a sum takes them, and the way back into a checksum field. */
static __always_inline csum_t csum_32(__be32 w)
{
	return (__force __u32)w;
}

static __always_inline csum_t csum_16(__be16 w)
{
	return (__force __u16)w;
}

static __always_inline csum_t csum_field(__sum16 field)
{
	return (__force __u16)field;
}

/* The checksum field for the words of `sum`, which go into it inverted. */
static __always_inline __sum16 csum_finish(csum_t sum)
{
	return (__force __sum16)~csum_fold16(sum);
}

/* The field `old` after a change of the words by `diff`. */
static __always_inline __sum16 csum_changed(__sum16 old, csum_t diff)
{
	return csum_finish((__u16)~csum_field(old) + diff);
}

static __always_inline csum_t csum_v6(const union nat64_v6 *a)
{
	return csum_32(a->w[0]) + csum_32(a->w[1]) + csum_32(a->w[2]) + csum_32(a->w[3]);
}

/* The length and next header part of an IPv6 pseudo-header (RFC 8200 section 8.1). */
static __always_inline csum_t csum_pseudo(__u32 len, __u8 proto)
{
	return csum_32(bpf_htonl(len)) + csum_32(bpf_htonl(proto));
}

/* The header checksum of an IPv4 header whose checksum field is 0; of one that has a right one, 0. */
static __always_inline __sum16 csum_iphdr(const struct iphdr *h)
{
	const __u32 *w = (const __u32 *)h;

	return csum_finish((csum_t)w[0] + w[1] + w[2] + w[3] + w[4]);
}

/* Changes the transport checksum at `off` by the difference `diff`; `flags` as for bpf_l4_csum_replace. The packet's
 * own sum (CHECKSUM_COMPLETE) follows, and CHECKSUM_PARTIAL is minded. */
static __always_inline int csum_update(struct __sk_buff *skb, __u32 off, csum_t diff, __u64 flags)
{
	return bpf_l4_csum_replace(skb, off, 0, csum_fold32(diff), BPF_F_PSEUDO_HDR | flags) ? NAT64_DROP_NO_MEMORY
											     : NAT64_PASS;
}

#endif
