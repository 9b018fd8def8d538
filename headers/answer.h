/* SPDX-License-Identifier: GPL-2.0-only */
/* answer.h - the ICMP errors that the translator itself must send: about a source route (RFC 7915 section 4.1) and
 * about a routing header (section 5.1). Those about TTL and MTU come from the IPv4 stack.
 *
 * The packet in error becomes the answer: as much of it as fits stays behind new headers. Its source is the address
 * that the packet was for, which is the translator's to answer for. The packet is a drop all the same.
 */
#ifndef NAT64_ANSWER_H
#define NAT64_ANSWER_H

#include "l4.h"

#define ICMP4_ERROR_MAX	 576  /* whole IPv4 packet, RFC 1812 section 4.3.2.3 */
#define ICMP6_ERROR_MAX	 1280 /* whole IPv6 packet, RFC 4443 section 2.4 (c) */
#define ANSWERS_A_SECOND 100  /* on each CPU; RFC 4443 section 2.4 (f), RFC 1812 section 4.3.2.8 */
#define ANSWER_TTL	 64

struct answers {
	__u64 second;
	__u32 sent;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answers);
} answers SEC(".maps");

static __always_inline bool may_answer(void)
{
	__u64 second = bpf_ktime_get_boot_ns() / SECOND;
	__u32 zero = 0;
	struct answers *a = bpf_map_lookup_elem(&answers, &zero);

	if (!a)
		return false;
	if (a->second != second) {
		a->second = second;
		a->sent = 0;
	}
	return a->sent++ < ANSWERS_A_SECOND;
}

/* Turns the frame round. The kernel sent it with our own address as its source, or received it from a neighbour. */
static __always_inline int turn_frame(struct __sk_buff *skb)
{
	__u8 mac[12], turned[12];

	if (cfg.l3)
		return NAT64_PASS;
	TRY(pkt_load(skb, 0, mac, sizeof(mac)));
	__builtin_memcpy(turned, mac + 6, 6);
	__builtin_memcpy(turned + 6, mac, 6);
	return bpf_skb_store_bytes(skb, 0, turned, sizeof(turned), 0) ? NAT64_DROP_NO_MEMORY : NAT64_PASS;
}

/* Cuts the packet to `max` bytes, and makes room for an ICMP header and a second IP header of `header` bytes behind the
 * first. Its length then. */
static __always_inline int make_room(struct __sk_buff *skb, __u32 len, __u32 max, __u32 header, __u32 *total)
{
	__u32 more = header + sizeof(struct icmp);

	len = len < max - more ? len : max - more;
	if (l3_off() + len < skb->len && bpf_skb_change_tail(skb, l3_off() + len, 0))
		return NAT64_DROP_NO_MEMORY;
	*total = len + more;
	return pkt_adjust(skb, more);
}

/* No error about an error, nor about a redirect (RFC 4443 section 2.4 (e)). */
static __always_inline bool is_icmp6_error(struct __sk_buff *skb, struct pkt *p, const struct ipv6hdr *h)
{
	__u8 type;

	p->proto = h->nexthdr;
	if (walk_ext_headers(skb, p, l3_off(), true) != NAT64_PASS || p->proto != IPPROTO_ICMPV6 || p->frag_off)
		return false;
	if (pkt_load(skb, l3_off() + IP6_HEADER + p->ext_len, &type, 1) != NAT64_PASS)
		return false;
	return type < 128 || type == 137;
}

/* The same for IPv4, where later fragments are not answered either (RFC 1812 section 4.3.2.7). */
static __always_inline bool no_answer4(struct __sk_buff *skb, const struct pkt *p)
{
	__u8 type;

	if (p->frag_off)
		return true;
	return p->proto == IPPROTO_ICMP && pkt_load(skb, p->l4_off, &type, 1) == NAT64_PASS && is_icmp4_error(type);
}

/* Answers an IPv6 packet that has a routing header with a Parameter Problem. */
__noinline int answer6(struct __sk_buff *skb)
{
	struct pkt *p = handed_over();
	struct icmp icmp = { .type = 4 };
	struct ipv6hdr old, new = {};
	__u32 l3 = l3_off(), len;
	csum_t sum;
	int s;

	if (!p)
		return NAT64_DROP_NO_MEMORY;
	icmp.rest = bpf_htonl(p->segments_left);
	TRY(pkt_load(skb, l3, &old, sizeof(old)));
	if (v6_illegal(&p->saddr6) || is_icmp6_error(skb, p, &old) || !may_answer())
		return NAT64_DROP_ROUTING;
	TRY(make_room(skb, p->ip_len, ICMP6_ERROR_MAX, IP6_HEADER, &len));
	*(__be32 *)&new = bpf_htonl(6 << 28);
	new.payload_len = bpf_htons(len - IP6_HEADER);
	new.nexthdr = IPPROTO_ICMPV6;
	new.hop_limit = ANSWER_TTL;
	new.saddr = old.daddr;
	new.daddr = old.saddr;
	TRY(pkt_store(skb, l3, &new, sizeof(new)));
	TRY(pkt_store(skb, l3 + IP6_HEADER, &icmp, sizeof(icmp)));
	TRY(pkt_store(skb, l3 + IP6_HEADER + sizeof(icmp), &old, sizeof(old)));
	s = range_sum(skb, l3 + IP6_HEADER, len - IP6_HEADER);
	if (s < 0)
		return NAT64_DROP_TRUNCATED;
	sum = s + csum_v6(&p->saddr6) + csum_v6(&p->daddr6) + csum_pseudo(len - IP6_HEADER, IPPROTO_ICMPV6);
	icmp.check = csum_finish(sum);
	TRY(pkt_store(skb, l3 + IP6_HEADER, &icmp, sizeof(icmp)));
	TRY(turn_frame(skb));
	p->answer = 1;
	p->act = bpf_redirect(cfg.ifindex, 0);
	return NAT64_DROP_ROUTING;
}

/* Answers an IPv4 packet on its way out with Source Route Failed: it comes back in through the same interface, where
 * the route of its source is, and the IPv4 stack takes it to its destination. */
__noinline int answer4(struct __sk_buff *skb)
{
	struct pkt *p = handed_over();
	struct icmp icmp = { .type = 3, .code = 5 };
	struct iphdr old, new = {};
	__u32 l3 = l3_off(), len;
	int s;

	if (!p)
		return NAT64_DROP_NO_MEMORY;
	if (v4_illegal(p->saddr4) || no_answer4(skb, p) || !may_answer())
		return NAT64_DROP_SOURCE_ROUTE;
	TRY(pkt_load(skb, l3, &old, sizeof(old)));
	TRY(make_room(skb, p->ip_len, ICMP4_ERROR_MAX, IP4_HEADER, &len));
	new.version = 4;
	new.ihl = 5;
	new.tos = 0xc0; /* internetwork control, RFC 1812 section 4.3.2.5 */
	new.tot_len = bpf_htons(len);
	new.ttl = ANSWER_TTL;
	new.protocol = IPPROTO_ICMP;
	new.saddr = old.daddr;
	new.daddr = old.saddr;
	new.check = csum_iphdr(&new);
	TRY(pkt_store(skb, l3, &new, sizeof(new)));
	TRY(pkt_store(skb, l3 + IP4_HEADER, &icmp, sizeof(icmp)));
	TRY(pkt_store(skb, l3 + IP4_HEADER + sizeof(icmp), &old, sizeof(old)));
	s = range_sum(skb, l3 + IP4_HEADER, len - IP4_HEADER);
	if (s < 0)
		return NAT64_DROP_TRUNCATED;
	icmp.check = csum_finish(s);
	TRY(pkt_store(skb, l3 + IP4_HEADER, &icmp, sizeof(icmp)));
	TRY(turn_frame(skb));
	p->answer = 1;
	p->act = bpf_redirect(cfg.ifindex, BPF_F_INGRESS);
	return NAT64_DROP_SOURCE_ROUTE;
}

#endif
