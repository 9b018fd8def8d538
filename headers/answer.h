/* SPDX-License-Identifier: GPL-2.0-only */
/* answer.h - the ICMP errors that the translator itself sends about what it drops (RFC 7915 sections 4.1, 4.4, 5.1 and
 * 5.4). Those about TTL and most of those about the MTU come from the IPv4 stack.
 *
 *	6→4, dropped as IPv6: an ICMPv6 error, sent back out of the interface that the packet came from. It goes by the
 *	     IPv6 stack at a device of our own, and if there are IPsec policies, since it quotes a packet that may have
 *	     come encrypted
 *	4→6, dropped as IPv4: an ICMP error, which arrives through the interface, and the IPv4 stack forwards it to the sender
 *	4→6, dropped after it has become IPv6, because it has no route or is too big: an ICMPv6 error to the sender's address
 *	     in the NAT64 prefix, which arrives likewise, and is translated like an error of any router
 *
 * The dropped packet itself becomes the error: as much of it as fits stays, behind new headers. The source is the address
 * that the packet was for, since the translator stands for that address. The packet still counts as dropped.
 */
#ifndef NAT64_ANSWER_H
#define NAT64_ANSWER_H

#include "l4.h"

#define ICMP4_ERROR_MAX	 576  /* whole IPv4 packet, RFC 1812 section 4.3.2.3 */
#define ICMP6_ERROR_MAX	 1280 /* whole IPv6 packet, RFC 4443 section 2.4 (c) */
#define ICMP4_QUOTE_MAX	 (ICMP4_ERROR_MAX - IP4_HEADER - sizeof(struct icmp))
#define ICMP6_QUOTE_MAX	 (ICMP6_ERROR_MAX - IP6_HEADER - sizeof(struct icmp))
#define ANSWER_TTL	 64
#define ANSWER_MARK	 0x6e363461 /* skb->mark of an error of our own that comes back to be translated */
#define BACK_AND_FORTH	 504
#define SHARE		 10  /* one source gets a tenth of the answers at most */
#define SOURCES		 256 /* sources told apart by a hash of so many values */
#define ICMP_ERROR(t, c) ((t) << 8 | (c))
#define SILENT		 0 /* what ICMP_ERROR() is not */

/* Token buckets of cfg.icmp_rate a second, and a second's worth at a time (RFC 4443 section 2.4 (f), RFC 1812 section
 * 4.3.2.8). Each is one number: the time when it is full again, in jiffies times cfg.icmp_rate, so that a token is
 * worth cfg.hz. */
struct answers {
	__u64 all;
	__u64 of_source[SOURCES]; /* of these a token is worth SHARE times as much */
};

/* One of each CPU for IPv6, [0], and IPv4, [1]: a flood on one side leaves the other its answers. */
PER_CPU(answers, struct answers, 2);

/* Is there a token for `source`, a hash? Taken from the buckets only if `take`, when an answer is certain. */
static __always_inline bool may_answer(__u32 family, __u32 source, bool take)
{
	__u64 now = bpf_jiffies64() * cfg.icmp_rate, room = (__u64)cfg.icmp_rate * cfg.hz, all, one;
	struct answers *a = bpf_map_lookup_elem(&answers, &family);

	if (!cfg.icmp_rate || !a)
		return false;
	source &= SOURCES - 1;
	all = (a->all > now ? a->all : now) + cfg.hz;
	one = (a->of_source[source] > now ? a->of_source[source] : now) + cfg.hz * SHARE;
	if (all > now + room || one > now + (cfg.icmp_rate > SHARE ? room : cfg.hz * SHARE))
		return false;
	if (take) {
		a->all = all;
		a->of_source[source] = one;
	}
	return true;
}

static __always_inline __u32 hash_of(__u32 w)
{
	return w * 0x9e3779b1 >> 24;
}

static __always_inline __u32 hash_of_v6(const union nat64_v6 *a)
{
	return hash_of((__force __u32)(a->w[0] ^ a->w[1] ^ a->w[2] ^ a->w[3]));
}

/* Makes the packet, whose IP header has `header` bytes, its answer: the first `quote` bytes of it, behind room for as long
 * an IP header and one of ICMP. A checksum that was left to the network card is forgotten, or the card would write it into
 * the middle of the answer. BACK_AND_FORTH is more than any headers of a local sender, and less than what any MTU lets be. */
static __always_inline int make_room(struct __sk_buff *skb, __u32 quote, __u32 header)
{
	__u32 l3 = l3_off(), more = header + sizeof(struct icmp), len = pkt_bounded(quote, SCRATCH);
	__u8 *b = only_value(&scratch);

	if (!b || bpf_skb_load_bytes(skb, l3, b, len))
		return NAT64_DROP_TRUNCATED;
	if (bpf_skb_change_tail(skb, l3 + header + BACK_AND_FORTH, 0))
		return NAT64_DROP_NO_MEMORY;
	TRY(forget_csum(skb, BACK_AND_FORTH));
	if (bpf_skb_change_tail(skb, l3 + more + len, 0))
		return NAT64_DROP_NO_MEMORY;
	return pkt_store(skb, l3 + more, b, len);
}

/* Writes the headers of the answer: `ip`, which has `header` bytes, and `icmp`, with its checksum over `len` bytes from there on
 * and the sum `pseudo`. */
static __always_inline int put_headers(struct __sk_buff *skb, const void *ip, __u32 header, struct icmp *icmp,
				       __u32 len, csum_t pseudo)
{
	__u32 at = l3_off() + header;
	int sum;

	TRY(pkt_store(skb, l3_off(), ip, header));
	TRY(pkt_store(skb, at, icmp, sizeof(*icmp)));
	sum = short_sum(skb, at, len); /* before Linux 6.9 the stack has no room for one function more */
	if (sum < 0)
		return NAT64_DROP_TRUNCATED;
	icmp->check = csum_finish(sum + pseudo);
	return pkt_store(skb, at, icmp, sizeof(*icmp));
}

/* Is it an ICMPv6 error or a redirect, which are not answered (RFC 4443 section 2.4 (e)), or a later fragment, of which the
 * first has been answered? If the headers cannot be walked to their end, it is taken for none of these. */
static __always_inline bool no_answer6(struct __sk_buff *skb, struct pkt *p)
{
	int verdict = walk_ext_headers(skb, p, l3_off(), true);
	__u8 type;

	if (p->frag_off)
		return true;
	if (verdict != NAT64_PASS || p->proto != IPPROTO_ICMPV6 || p->ip_len <= IP6_HEADER + p->ext_len ||
	    pkt_load(skb, l3_off() + IP6_HEADER + p->ext_len, &type, 1) != NAT64_PASS)
		return false;
	return type < 128 || type == 137;
}

/* The same for IPv4, RFC 1812 section 4.3.2.7. */
static __always_inline bool no_answer4(struct __sk_buff *skb, const struct iphdr *h)
{
	__u8 type;

	if (v4_illegal(h->saddr) || h->frag_off & bpf_htons(0x1fff))
		return true;
	return h->protocol == IPPROTO_ICMP && bpf_ntohs(h->tot_len) > h->ihl * 4 &&
	       pkt_load(skb, l3_off() + h->ihl * 4, &type, 1) == NAT64_PASS && is_icmp4_error(type);
}

/* Answers an IPv6 packet: one that came, or one that was an IPv4 packet, which has its source inside the NAT64 prefix.
 * `error`: ICMP_ERROR(). What the program returns then. */
__noinline int answer6(struct __sk_buff *skb, __u32 error, __u32 rest)
{
	struct pkt *p = stage_pkt();
	const struct ipv6hdr *h = pkt_at(skb, l3_off(), sizeof(*h));
	struct icmp icmp = { .type = error >> 8, .code = error };
	__u32 source, quote, len;
	struct ipv6hdr *new = (void *)only_value(&scratch); /* the stack has no room */
	bool was_ipv4;
	csum_t pseudo;

	if (!p || !h || !new)
		return TC_ACT_SHOT;
	__builtin_memcpy(&p->saddr6, &h->saddr, sizeof(p->saddr6));
	source = hash_of_v6(&p->saddr6);
	if (!may_answer(0, source, false))
		return TC_ACT_SHOT;
	__builtin_memcpy(&p->daddr6, &h->daddr, sizeof(p->daddr6));
	was_ipv4 = !in_nat64_prefix(&p->daddr6);
	if (!was_ipv4 && (v6_illegal(&p->saddr6) || v4_is_group(v4_of(&p->daddr6))))
		return TC_ACT_SHOT;
	p->proto = h->nexthdr;
	p->ip_len = IP6_HEADER + bpf_ntohs(h->payload_len);
	p->frag_off = 0;
	if (no_answer6(skb, p) || !may_answer(0, source, true))
		return TC_ACT_SHOT;

	quote = p->ip_len < ICMP6_QUOTE_MAX ? p->ip_len : ICMP6_QUOTE_MAX;
	len = sizeof(icmp) + quote;
	if (make_room(skb, quote, IP6_HEADER) != NAT64_PASS)
		return TC_ACT_SHOT;
	*(__be32 *)new = bpf_htonl(6 << 28);
	new->payload_len = bpf_htons(len);
	new->nexthdr = IPPROTO_ICMPV6;
	new->hop_limit = ANSWER_TTL;
	__builtin_memcpy(&new->saddr, &p->daddr6, sizeof(new->saddr));
	__builtin_memcpy(&new->daddr, &p->saddr6, sizeof(new->daddr));
	icmp.rest = bpf_htonl(rest);
	pseudo = csum_v6(&p->saddr6) + csum_v6(&p->daddr6) + csum_pseudo(len, IPPROTO_ICMPV6);
	if (put_headers(skb, new, sizeof(*new), &icmp, len, pseudo) != NAT64_PASS)
		return TC_ACT_SHOT;
	if (!was_ipv4 && (cfg.device || has_ipsec_policy(skb)))
		return arrive_again(skb);
	if (turn_frame(skb) != NAT64_PASS)
		return TC_ACT_SHOT;
	if (!was_ipv4)
		return bpf_redirect(cfg.ifindex, 0);
	skb->mark = ANSWER_MARK;
	return arrive_again(skb);
}

/* Answers an IPv4 packet on its way out: the route of the answer's source leads to the interface through which it comes
 * back in. */
__noinline int answer4(struct __sk_buff *skb, __u32 error)
{
	const struct iphdr *h = pkt_at(skb, l3_off(), sizeof(*h));
	struct icmp icmp = { .type = error >> 8, .code = error };
	__u32 source, quote, len;
	struct iphdr new = {};

	if (!h)
		return TC_ACT_SHOT;
	source = hash_of((__force __u32)h->saddr);
	if (!may_answer(1, source, false))
		return TC_ACT_SHOT;
	quote = bpf_ntohs(h->tot_len);
	new.saddr = h->daddr;
	new.daddr = h->saddr;
	/* RFC 7915 section 4.2: IGMP is dropped silently. */
	if (h->protocol == IPPROTO_IGMP_ || no_answer4(skb, h) || !may_answer(1, source, true))
		return TC_ACT_SHOT;

	quote = quote < ICMP4_QUOTE_MAX ? quote : ICMP4_QUOTE_MAX;
	len = sizeof(icmp) + quote;
	if (make_room(skb, quote, IP4_HEADER) != NAT64_PASS)
		return TC_ACT_SHOT;
	new.version = 4;
	new.ihl = 5;
	new.tos = 0xc0; /* internetwork control, RFC 1812 section 4.3.2.5 */
	new.tot_len = bpf_htons(IP4_HEADER + len);
	new.ttl = ANSWER_TTL;
	new.protocol = IPPROTO_ICMP;
	new.check = csum_iphdr(&new);
	if (put_headers(skb, &new, sizeof(new), &icmp, len, 0) != NAT64_PASS || turn_frame(skb) != NAT64_PASS)
		return TC_ACT_SHOT;
	return arrive_again(skb);
}

/* Is it an ICMPv6 error of our own (answer6) that has come in to be translated? It is not counted, for the packet that it is
 * about was. Its mark is taken off, since errors of the kernel have none. */
static __always_inline bool take_answer_mark(struct __sk_buff *skb)
{
	bool ours = skb->mark == ANSWER_MARK;

	if (ours)
		skb->mark = 0;
	return ours;
}

/* What an IPv6 packet is answered with: RFC 7915 section 5.4, type 1 code 1 unless that, section 5.1 or RFC 6146 (sections
 * 3.4, 3.5) say otherwise. What is not listed is dropped silently: illegal sources, contradictory headers, ICMP messages for
 * which section 5.2 says so, and what fails for the moment only. */
static __always_inline __u32 error_about64(int reason)
{
	switch (reason) {
	case NAT64_DROP_DST_ILLEGAL:
	case NAT64_DROP_NON_GLOBAL:
	case NAT64_DROP_NOT_ALLOWED:
	case NAT64_DROP_EXT_HEADER:
	case NAT64_DROP_FRAG_ICMP:
		return ICMP_ERROR(1, 1); /* communication with destination administratively prohibited */
	case NAT64_DROP_POOL_FULL:
	case NAT64_DROP_PREFIX_FULL:
		return ICMP_ERROR(1, 3); /* address unreachable */
	case NAT64_DROP_PROTOCOL:
		return ICMP_ERROR(1, 4); /* port unreachable */
	case NAT64_DROP_TOO_BIG:
		return ICMP_ERROR(2, 0); /* packet too big */
	case NAT64_DROP_ROUTING:
		return ICMP_ERROR(4, 0); /* erroneous header field */
	default:
		return SILENT;
	}
}

/* The same for IPv4, section 4.4, type 3 code 13. */
static __always_inline __u32 error_about46(int reason)
{
	switch (reason) {
	case NAT64_DROP_NO_MAPPING:
		return ICMP_ERROR(3, 1); /* host unreachable */
	case NAT64_DROP_PROTOCOL:
		return ICMP_ERROR(3, 2); /* protocol unreachable */
	case NAT64_DROP_SOURCE_ROUTE:
		return ICMP_ERROR(3, 5); /* source route failed */
	case NAT64_DROP_NON_GLOBAL:
	case NAT64_DROP_FRAG_ICMP:
	case NAT64_DROP_FRAG_UDP0:
		return ICMP_ERROR(3, 13); /* communication administratively prohibited */
	default:
		return SILENT;
	}
}

/* What becomes of an IPv6 packet that is dropped for `reason`, unchanged. */
static __always_inline int answer64(struct __sk_buff *skb, int reason, __u32 rest)
{
	__u32 error = error_about64(reason);

	return error == SILENT ? TC_ACT_SHOT : answer6(skb, error, rest);
}

/* The same for an IPv4 packet: as it came, or in its IPv6 form if what was missing is a way for that. */
static __always_inline int answer46(struct __sk_buff *skb, int reason, __u32 rest)
{
	__u32 error = error_about46(reason);

	if (reason == NAT64_DROP_TOO_BIG)
		return answer6(skb, ICMP_ERROR(2, 0), rest);
	if (reason == NAT64_DROP_NO_ROUTE)
		return answer6(skb, ICMP_ERROR(1, 0), 0); /* no route to destination */
	return error == SILENT ? TC_ACT_SHOT : answer4(skb, error);
}

/* The answer to a packet of ours that is dropped, if there is one: what the program returns. Not to what was sent to a
 * link-layer group, or to another machine on the link (RFC 4443 section 2.4 (e), RFC 1812 section 4.3.2.7). */
static __always_inline int answer(struct __sk_buff *skb, enum nat64_way way, int reason, const struct pkt *p)
{
	if (skb->pkt_type != PACKET_HOST)
		return TC_ACT_SHOT;
	return way == NAT64_6TO4 ? answer64(skb, reason, p->rest) : answer46(skb, reason, p->rest);
}

#endif
