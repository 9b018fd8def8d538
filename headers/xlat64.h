/* SPDX-License-Identifier: GPL-2.0-only */
/* xlat64.h - IPv6 to IPv4 (RFC 7915 section 5) */
#ifndef NAT64_XLAT64_H
#define NAT64_XLAT64_H

#include "icmp.h"

/* The destination's IPv4 address. Whether the source is legal is seen later, when it gets a mapping; but if both are
 * illegal, it is the source that counts. */
static __always_inline int destination64(struct pkt *p)
{
	int verdict = NAT64_PASS;

	p->daddr4 = v4_of(&p->daddr6);
	if (v4_illegal(p->daddr4))
		verdict = NAT64_DROP_DST_ILLEGAL;
	else if (v4_strict_illegal(p->daddr4))
		verdict = NAT64_DROP_NON_GLOBAL;
	else if (p->proto == IPPROTO_ICMPV6 && !p->icmp_error && p->icmp_type != ICMP6_ECHO &&
		 p->icmp_type != ICMP6_REPLY)
		verdict = NAT64_DROP_ICMP_TYPE;
	if (verdict != NAT64_PASS && v6_illegal(&p->saddr6))
		return NAT64_DROP_SRC_ILLEGAL;
	return verdict;
}

/* The source's IPv4 address. An ICMPv6 error may come from a router that has no mapping and cannot get one: RFC 6791
 * gives it an address that stands for all of them. */
static __always_inline int source64(struct pkt *p)
{
	int verdict = address_for(&p->saddr6, &p->saddr4);

	if (p->icmp_error && (verdict == NAT64_DROP_NOT_ALLOWED || verdict == NAT64_DROP_POOL_FULL ||
			      verdict == NAT64_DROP_PREFIX_FULL)) {
		p->saddr4 = cfg.icmp_src;
		return NAT64_PASS;
	}
	return verdict;
}

/* The length of the IPv4 packet; of a super-packet (GSO), that of each packet that it will be sent as. */
static __always_inline __u32 wire_length64(struct __sk_buff *skb, const struct pkt *p)
{
	if (!skb->gso_size || p->proto == IPPROTO_SCTP_) /* whose segments may have any size */
		return IP4_HEADER + p->l4_len;
	return IP4_HEADER + payload_off(skb, p, p->l4_off) - p->l4_off + skb->gso_size;
}

PER_CPU(ident, __u32, 1);

/* An identification that this CPU has not given to the last 65535 packets, and that does not tell how many there were. */
static __always_inline __be16 new_ident(void)
{
	__u32 *i = only_value(&ident);

	if (!i)
		return 0;
	*i += 0x9e37; /* odd: comes round through all numbers */
	return (__force __be16)(*i ^ cfg.seed);
}

/* The fields of section 5.1, and 5.1.1 if there was a fragment header. TTL: the IPv4 stack, which has the packet next,
 * decrements it and answers it if it is spent. */
static __always_inline void header64(const struct pkt *p, __u32 wire, struct iphdr *h)
{
	h->version = 4;
	h->ihl = 5;
	h->tos = cfg.set_tos ? cfg.tos : p->tos;
	h->tot_len = bpf_htons(IP4_HEADER + p->l4_len);
	if (p->frag_header) {
		h->id = bpf_htons(p->id);
		h->frag_off = bpf_htons(p->frag_off / 8 | (p->more ? 0x2000 : 0));
	} else if (wire <= 1260) {
		h->id = new_ident();
		h->frag_off = 0;
	} else {
		h->id = 0;
		h->frag_off = bpf_htons(0x4000);
	}
	h->ttl = p->ttl;
	h->protocol = p->proto == IPPROTO_ICMPV6 ? IPPROTO_ICMP : p->proto;
	h->check = 0;
	h->saddr = p->saddr4;
	h->daddr = p->daddr4;
	h->check = csum_iphdr(h);
}

/* Makes the IPv6 packet an IPv4 packet with header `h`; `shrink` bytes after the IPv6 header go. */
static __always_inline int replace64(struct __sk_buff *skb, const struct iphdr *h, __u32 shrink, bool kernel_csum,
				     bool tunnel)
{
	__be16 proto = bpf_htons(ETH_P_IP);

	if (tunnel)
		TRY(tunnel_to4(skb));
	else if (bpf_skb_change_proto(skb, proto, 0))
		return NAT64_DROP_NO_MEMORY;
	TRY(pkt_adjust(skb, -(__s32)shrink));
	TRY(pkt_write_proto(skb, proto));
	return pkt_write(skb, l3_off(), h, sizeof(*h), kernel_csum);
}

/* An ICMPv6 error and the packet that it quotes, sections 5.2 and 5.3. */
__noinline int icmp_error64(struct __sk_buff *skb)
{
	struct pkt *p = stage_pkt();
	__u32 length;
	struct icmp_work *w = only_value(&icmp_work);
	struct icmp *old;
	struct pkt *q;
	struct quote *n;
	csum_t v6;
	__u8 type;

	if (!w || !p)
		return NAT64_DROP_NO_MEMORY;
	q = &w->q;
	n = &w->n;
	n->diff = 0;
	n->new_header = IP4_HEADER;
	if (v6_illegal(&p->saddr6))
		return NAT64_DROP_SRC_ILLEGAL;
	old = &w->old;
	TRY(pkt_load(skb, p->l4_off, old, sizeof(*old)));
	TRY(icmp_header64(old, &n->icmp));
	length = old->type == 1 || old->type == 3 ? old->b[0] * 8 : 0;
	find_quote(p, length, n);
	TRY(load_quote6(skb, q, n));
	if (old->type == 2)
		n->icmp.h[1] = bpf_htons(mtu64(bpf_ntohl(old->rest), q->frag_header));
	/* To the host, and from where the error goes, which is known to be legal. */
	if (!in_nat64_prefix(&q->saddr6) || v4_of(&q->saddr6) != p->daddr4)
		return NAT64_DROP_ICMP_FOREIGN;
	q->saddr4 = p->daddr4;
	TRY(known_address_for(&q->daddr6, &q->daddr4));
	TRY(quoted_type(skb, q, n, IPPROTO_ICMPV6, ICMP6_ECHO, ICMP6_REPLY, ICMP4_ECHO, ICMP4_REPLY, &type));

	v6 = csum_v6(&q->saddr6) + csum_v6(&q->daddr6);
	TRY(quoted_transport(skb, q, n,
			     type == 0xff ? csum_sub(csum_32(q->saddr4) + csum_32(q->daddr4), v6)
					  : csum_sub(0, v6 + csum_pseudo(q->l4_len, IPPROTO_ICMPV6)),
			     type));
	/* An error keeps no mapping alive (RFC 5508 REQ-6): whoever sends to a closed port could. */
	if (known_address_for(&p->saddr6, &p->saddr4) != NAT64_PASS)
		TRY(source64(p));
	n->icmp.b[1] = fit_quote(n, ICMP4_ERROR_MAX, IP4_HEADER, 4);

	/* The checksum also loses the pseudo-header. The sum of the quoted IPv4 header, with its own checksum, is 0. */
	TRY(change_headers(skb, w));
	n->diff = csum_sub(n->diff, csum_v6(&p->saddr6) + csum_v6(&p->daddr6) + csum_pseudo(p->l4_len, IPPROTO_ICMPV6));
	TRY(cut_tail(skb, w));

	header64(q, IP4_HEADER + q->l4_len, &w->inner);
	p->l4_len = sizeof(struct icmp) + quote_len(n);
	header64(p, IP4_HEADER + p->l4_len, &w->outer);
	TRY(replace64(skb, &w->outer, p->ext_len + n->old_header - IP4_HEADER, true, false));
	TRY(put_icmp(skb, n, l3_off() + IP4_HEADER));
	TRY(pkt_store(skb, l3_off() + IP4_HEADER + sizeof(struct icmp), &w->inner, sizeof(w->inner)));
	return n->keep_extensions ? put_extensions(skb, w) : NAT64_PASS;
}

/* All about an IPv6 packet whose destination is inside the NAT64 prefix, up to both addresses and what the kernel has put
 * off; not the source of an ICMP error. */
static __always_inline int bind64(struct __sk_buff *skb, struct pkt *p, const struct ipv6hdr *h)
{
	if (l3_off() + IP6_HEADER + bpf_ntohs(h->payload_len) > skb->len)
		return NAT64_DROP_TRUNCATED;
	TRY(parse6(skb, p, h, l3_off()));
	TRY(check_l4_6(skb, p));
	TRY(destination64(p));
	if (p->icmp_error)
		return NAT64_PASS;
	TRY(source64(p));
	return see_offloads(skb, p, csum_v6(&p->saddr6) + csum_v6(&p->daddr6));
}

/* Makes it an IPv4 packet. */
static __always_inline int translate64(struct __sk_buff *skb, struct pkt *p)
{
	struct iphdr new;

	if (p->icmp_error)
		return run_stage(skb, p, icmp_error64);
	p->wire = wire_length64(skb, p);
	TRY(transport64(skb, p));
	header64(p, p->wire, &new);
	return replace64(skb, &new, p->ext_len, p->offloads & KERNEL_CSUM, p->offloads & TUNNEL);
}

#endif
