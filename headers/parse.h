/* SPDX-License-Identifier: GPL-2.0-only */
/* parse.h - the facts about a packet, collected once */
#ifndef NAT64_PARSE_H
#define NAT64_PARSE_H

#include "state.h"

#define L4_MAX		(65535 - IP4_HEADER) /* what an IPv4 packet can carry */
#define EXT_HEADERS_MAX 8		     /* extension headers walked before we give up */
#define EXT_BYTES_MAX	2032		     /* and their length together: one bpf_skb_adjust_room removes twice that */

/* The first 8 bytes of ICMP and ICMPv6 (RFC 792, RFC 4443). */
struct icmp {
	__u8 type;
	__u8 code;
	__sum16 check;
	union {
		__be32 rest;
		__u8 b[4];   /* pointer: [0] in ICMP; RFC 4884 length: [1] in ICMP, [0] in ICMPv6 */
		__be16 h[2]; /* MTU: [1] in ICMP */
	};
};

/* Fragmentation in one word, alike for both families:
 *
 *	IPv4 header, bytes 6-7          | 0 |DF |MF |  offset / 8 (13 bits)            |
 *	Fragment header, bytes 2-3      |  offset / 8 (13 bits)            | 0 | 0 | M |
 *	struct pkt                      .frag_off (bytes), .more, .frag (a fragment), .df
 */
struct pkt {
	__u32 l4_off;	 /* transport header, from skb->data */
	__u32 l4_len;	 /* its length with all that follows, bytes */
	__u32 ip_len;	 /* the whole IP packet */
	__u32 id;	 /* identification, host byte order */
	__u32 rest;	 /* if it is dropped: pointer or MTU that the ICMP error about it has */
	__u16 wire;	 /* 6→4: the length of the IPv4 packet; of a super-packet (GSO): of each that it is sent as */
	__u16 ext_len;	 /* extension headers (with the fragment header) or IPv4 options, bytes */
	__u16 frag_off;	 /* bytes */
	__u16 cut;	 /* 4→6: to be cut into pieces with so many bytes of payload; 0: not */
	__u16 icmp_type; /* if it is ICMP */
	__s8 act;	 /* what the program returns for it unless it is dropped */
	__u8 offloads;	 /* enum offload */
	__u8 frag_header; /* 1: IPv6 fragment header present (perhaps of an atomic fragment) */
	__u8 frag;	  /* 1: part of a packet */
	__u8 more;	  /* 1: not the last part */
	__u8 df;	  /* 1: IPv4 DF */
	__u8 tos;	  /* TOS or traffic class */
	__u8 ttl;	  /* TTL or hop limit */
	__u8 proto;	  /* transport protocol, as the packet has it */
	__u8 icmp_error;  /* 1: an ICMP error message */
	__be32 saddr4, daddr4;
	union nat64_v6 saddr6, daddr6;
};

/* What the kernel has put off, see offload.h. */
enum offload {
	KERNEL_CSUM = 1, /* see has_kernel_csum */
	INNER_CSUM = 2,	 /* what is to be finished is not the checksum of the packet's own transport header */
	TUNNEL = 4,	 /* a super-packet of a tunnel, */
	APART = 8,	 /* that is to be taken apart first, and not changed until then */
};

/* The fragment header, RFC 8200 section 4.5. */
struct frag_header {
	__u8 next, reserved;
	__be16 off; /* offset, M */
	__be32 id;
};

/* An IPv6 header and perhaps a fragment header behind it. */
struct header6 {
	struct ipv6hdr ip;
	struct frag_header frag;
};

/* What may be read, or copied for a stage, of a packet that has not been parsed to its end. All of it: kernels before 6.3 do
 * not allow reads of stack that was not written. */
static __always_inline void pkt_begin(struct pkt *p)
{
	p->ip_len = p->id = p->rest = 0;
	p->wire = p->cut = p->icmp_type = 0;
	p->act = TC_ACT_OK;
	p->offloads = p->df = 0;
	p->saddr4 = p->daddr4 = 0;
}

/* The facts of the packet that a stage works on, if that is a global function: these take the context and numbers only, see
 * live_mapping. */
PER_CPU(staged, struct pkt, 1);

static __always_inline struct pkt *stage_pkt(void)
{
	return only_value(&staged);
}

/* What a stage may have changed */
static __always_inline void take_back(struct pkt *p, const struct pkt *from_stage)
{
	p->rest = from_stage->rest;
	p->cut = from_stage->cut;
	p->l4_len = from_stage->l4_len;
	p->act = from_stage->act;
}

/* Runs the global function `stage` for packet `p`. */
static __always_inline int run_stage(struct __sk_buff *skb, struct pkt *p, int (*stage)(struct __sk_buff *skb))
{
	struct pkt *s = stage_pkt();
	int verdict;

	if (!s)
		return NAT64_DROP_NO_MEMORY;
	*s = *p;
	verdict = stage(skb);
	take_back(p, s);
	return verdict;
}

static __always_inline bool is_ext_header(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS ||
	       proto == IPPROTO_FRAGMENT;
}

/* What may not follow a fragment header, though it is copied as a protocol elsewhere (IANA ipv6-parameters). */
static __always_inline bool is_ext_behind_fragment(__u8 proto)
{
	return is_ext_header(proto) || proto == IPPROTO_AH || proto == IPPROTO_MH || proto == 139 /* HIP */ ||
	       proto == 140 /* shim6 */;
}

/* A fragment must have a payload that ends where that of an IPv4 packet can (RFC 791, RFC 8200 section 4.5). One that is not
 * the last must have a multiple of 8 bytes, but that is for the receiver to check: it can be translated as it is. */
static __always_inline int check_fragment(const struct pkt *p)
{
	if (!p->frag)
		return NAT64_PASS;
	if (!p->l4_len || p->frag_off + p->l4_len > L4_MAX)
		return NAT64_DROP_FRAG_BAD;
	return NAT64_PASS;
}

/* Walks the extension headers of the IPv6 header at `l3`, of which p->proto is the Next Header. RFC 7915 section 5.1:
 * hop-by-hop options, destination options and a routing header with no segments left are skipped; what follows a
 * fragment header must not be another extension header, ESP excepted (section 5.1.1).
 * `any_routing`: segments left do not matter. */
static __noinline int walk_ext_headers(struct __sk_buff *skb, struct pkt *p, __u32 l3, bool any_routing)
{
	__u32 off = IP6_HEADER, i;
	__u8 next = p->proto;
	struct {
		__u8 next;
		__u8 len; /* 8-byte units after the first; fragment header: reserved */
		union {
			__be16 frag; /* offset, M */
			struct {
				__u8 type;
				__u8 left;
			} routing;
		};
		__be32 id;
	} h;

	for (i = 0; i < EXT_HEADERS_MAX && is_ext_header(next); i++) {
		if (off + sizeof(h) > p->ip_len)
			return NAT64_DROP_TRUNCATED;
		TRY(pkt_load(skb, l3 + off, &h, sizeof(h)));
		if (next == IPPROTO_FRAGMENT) {
			p->frag_header = 1;
			p->frag_off = bpf_ntohs(h.frag) & 0xfff8;
			p->more = bpf_ntohs(h.frag) & 1;
			p->frag = p->frag_off || p->more;
			p->id = bpf_ntohl(h.id);
			next = h.next;
			off += FRAG_HEADER;
			if (is_ext_behind_fragment(next))
				return NAT64_DROP_EXT_HEADER;
			break;
		}
		if (off + (h.len + 1) * 8 > p->ip_len)
			return NAT64_DROP_TRUNCATED;
		if (next == IPPROTO_ROUTING && h.routing.left && !any_routing) {
			p->rest = off + 3;
			return NAT64_DROP_ROUTING;
		}
		next = h.next;
		off += (h.len + 1) * 8;
	}
	if (is_ext_header(next) || off - IP6_HEADER > EXT_BYTES_MAX)
		return NAT64_DROP_EXT_HEADER;
	p->proto = next;
	p->ext_len = off - IP6_HEADER;
	return NAT64_PASS;
}

/* The facts of an IPv6 header `h` that stands at `l3`, if the transport header is right behind it. */
static __always_inline void parse_header6(struct pkt *p, const struct ipv6hdr *h, __u32 l3)
{
	__be32 first = *(const __be32 *)h;

	p->tos = bpf_ntohl(first) >> 20;
	p->ttl = h->hop_limit;
	__builtin_memcpy(&p->saddr6, &h->saddr, sizeof(p->saddr6));
	__builtin_memcpy(&p->daddr6, &h->daddr, sizeof(p->daddr6));
	p->proto = h->nexthdr;
	p->ip_len = IP6_HEADER + bpf_ntohs(h->payload_len);
	p->frag_header = p->frag = p->more = p->icmp_error = 0;
	p->frag_off = 0;
	p->ext_len = 0;
	p->l4_off = l3 + IP6_HEADER;
	p->l4_len = p->ip_len - IP6_HEADER;
}

/* The same, and of all up to the transport header. */
static __always_inline int parse6(struct __sk_buff *skb, struct pkt *p, const struct ipv6hdr *h, __u32 l3)
{
	parse_header6(p, h, l3);
	if (is_ext_header(p->proto))
		TRY(walk_ext_headers(skb, p, l3, false));
	p->l4_off = l3 + IP6_HEADER + p->ext_len;
	p->l4_len = p->ip_len - IP6_HEADER - p->ext_len;
	return NAT64_PASS;
}

/* RFC 7915 section 4.1: options are skipped, but an unexpired source route (RFC 791: pointer not past the end) is not. Other
 * nonsense in the options passes, unless the list cannot be walked to its end. */
static __noinline int walk_options(struct __sk_buff *skb, __u32 off, __u32 len)
{
	__u8 o[3] = {};
	__u32 i, at = 0;

	for (i = 0; i < 40 && at < len; i++) {
		TRY(pkt_load(skb, off + at, &o[0], 1));
		if (o[0] == 0) /* end of list */
			return NAT64_PASS;
		if (o[0] == 1) { /* no operation */
			at++;
			continue;
		}
		if (at + 2 > len)
			return NAT64_DROP_BAD_HEADER;
		TRY(pkt_load(skb, off + at, o, 2));
		if (o[1] < 2 || at + o[1] > len)
			return NAT64_DROP_BAD_HEADER;
		if (o[0] == 131 || o[0] == 137) { /* loose, strict source route */
			if (o[1] < 3)
				return NAT64_DROP_BAD_HEADER;
			TRY(pkt_load(skb, off + at, o, 3));
			if (o[2] <= o[1])
				return NAT64_DROP_SOURCE_ROUTE;
		}
		at += o[1];
	}
	return NAT64_PASS;
}

/* The same for an IPv4 header. `there`: how much of the packet there is from `l3` on. */
static __always_inline int parse4(struct pkt *p, const struct iphdr *h, __u32 l3, __u32 there)
{
	__u16 frag = bpf_ntohs(h->frag_off);

	if (h->ihl < 5)
		return NAT64_DROP_BAD_HEADER;
	p->tos = h->tos;
	p->ttl = h->ttl;
	p->proto = h->protocol;
	p->ip_len = bpf_ntohs(h->tot_len);
	if (there < p->ip_len || there < h->ihl * 4U)
		return NAT64_DROP_TRUNCATED;
	p->ext_len = h->ihl * 4 - IP4_HEADER;
	p->frag_header = p->icmp_error = p->cut = 0;
	p->frag_off = (frag & 0x1fff) * 8;
	p->more = !!(frag & 0x2000);
	p->df = !!(frag & 0x4000);
	p->frag = p->frag_off || p->more;
	p->id = bpf_ntohs(h->id);
	p->saddr4 = h->saddr;
	p->daddr4 = h->daddr;
	if (p->ip_len < h->ihl * 4U)
		return NAT64_DROP_BAD_HEADER;
	p->l4_off = l3 + IP4_HEADER + p->ext_len;
	p->l4_len = p->ip_len - IP4_HEADER - p->ext_len;
	return NAT64_PASS;
}

#endif
