/* SPDX-License-Identifier: GPL-2.0-only */
/* xlat46.h - IPv4 to IPv6 (RFC 7915 section 4) */
#ifndef NAT64_XLAT46_H
#define NAT64_XLAT46_H

#include "icmp.h"

/* Both addresses in IPv6. An ICMP error may have an illegal source: it helps to see it (section 4.1). */
static __always_inline int addresses46(struct pkt *p, struct nat64_hop **hop)
{
	if (!p->icmp_error && v4_illegal(p->saddr4))
		return NAT64_DROP_SRC_ILLEGAL;
	if (v4_strict_illegal(p->saddr4))
		return NAT64_DROP_NON_GLOBAL;
	v6_of(p->saddr4, &p->saddr6);
	TRY(owner_of(p->daddr4, &p->daddr6, hop));
	if (p->proto == IPPROTO_ICMP && !p->icmp_error && p->icmp_type != ICMP4_ECHO && p->icmp_type != ICMP4_REPLY)
		return NAT64_DROP_ICMP_TYPE;
	return NAT64_PASS;
}

/* The fields of section 4.1; with a fragment header if the packet is a fragment. Hop limit: the IPv4 stack, which had
 * the packet before, has decremented it. Returns the length of the headers. */
static __always_inline __u32 header46(const struct pkt *p, struct header6 *h)
{
	__u8 proto = p->proto == IPPROTO_ICMP ? IPPROTO_ICMPV6 : p->proto;

	*(__be32 *)&h->ip = bpf_htonl(6 << 28 | (cfg.set_tclass ? cfg.tclass : p->tos) << 20);
	h->ip.payload_len = bpf_htons(p->l4_len + (p->frag ? FRAG_HEADER : 0));
	h->ip.nexthdr = p->frag ? IPPROTO_FRAGMENT : proto;
	h->ip.hop_limit = p->ttl;
	__builtin_memcpy(&h->ip.saddr, &p->saddr6, sizeof(p->saddr6));
	__builtin_memcpy(&h->ip.daddr, &p->daddr6, sizeof(p->daddr6));
	h->frag.next = proto;
	h->frag.reserved = 0;
	h->frag.off = bpf_htons(p->frag_off | p->more);
	h->frag.id = bpf_htonl(p->id);
	return p->frag ? sizeof(*h) : sizeof(h->ip);
}

/* Writes the IPv6 header, and the fragment header if there is to be one; `at` may be outside the linear part. */
static __always_inline int put_header46(struct __sk_buff *skb, __u32 at, const struct header6 *h, bool frag)
{
	return frag ? pkt_store(skb, at, h, sizeof(*h)) : pkt_store(skb, at, &h->ip, sizeof(h->ip));
}

/* Makes it an IPv6 packet with room for its headers. `grow`: how many bytes more than before there are between the fixed IP
 * header and the transport header. */
static __always_inline int replace46(struct __sk_buff *skb, __s32 grow, bool tunnel)
{
	__be16 proto = bpf_htons(ETH_P_IPV6);

	if (tunnel)
		TRY(tunnel_to6(skb));
	else if (bpf_skb_change_proto(skb, proto, 0))
		return NAT64_DROP_NO_MEMORY;
	TRY(pkt_adjust(skb, grow));
	return pkt_write_proto(skb, proto);
}

static __always_inline csum_t csum_header6(const struct header6 *h, bool frag)
{
	const __u32 *w = (const __u32 *)h;
	csum_t sum = 0;
	int i;

	for (i = 0; i < 10; i++)
		sum += w[i];
	return frag ? sum + w[10] + w[11] : sum;
}

/* An ICMP error and the packet that it quotes, sections 4.2 and 4.3. */
__noinline int icmp_error46(struct __sk_buff *skb)
{
	struct pkt *p = stage_pkt();
	struct icmp_work *w = only_value(&icmp_work);
	struct header6 *h;
	struct icmp *old;
	struct pkt *q;
	struct quote *n;
	csum_t v6;
	__u8 type;

	if (!w || !p)
		return NAT64_DROP_NO_MEMORY;
	q = &w->q;
	n = &w->n;
	h = &w->h;
	n->diff = 0;
	old = &w->old;
	TRY(pkt_load(skb, p->l4_off, old, sizeof(*old)));
	TRY(icmp_header46(old, &n->icmp));
	find_quote(p, old->b[1] * 4, n);
	TRY(load_quote4(skb, q, n));
	if (n->icmp.type == 2)
		n->icmp.rest = bpf_htonl(mtu46(bpf_ntohs(old->h[1]), q->ip_len));
	/* Of the host, and to an address that its packets may go to. */
	if (q->saddr4 != p->daddr4 || v4_illegal(q->daddr4))
		return NAT64_DROP_ICMP_FOREIGN;
	q->saddr6 = p->daddr6;
	if (v4_strict_illegal(q->daddr4))
		return NAT64_DROP_NON_GLOBAL;
	v6_of(q->daddr4, &q->daddr6);
	TRY(quoted_type(skb, q, n, IPPROTO_ICMP, ICMP4_ECHO, ICMP4_REPLY, ICMP6_ECHO, ICMP6_REPLY, &type));

	v6 = csum_v6(&q->saddr6) + csum_v6(&q->daddr6);
	TRY(quoted_transport(skb, q, n,
			     type == 0xff ? csum_sub(v6, csum_32(q->saddr4) + csum_32(q->daddr4))
					  : v6 + csum_pseudo(q->l4_len, IPPROTO_ICMPV6),
			     type));
	n->new_header = header46(q, h);
	if (n->icmp.type == 1 || n->icmp.type == 3)
		n->icmp.b[0] = fit_quote(n, ICMP6_ERROR_MAX, IP6_HEADER, 8);
	else
		fit_quote(n, ICMP6_ERROR_MAX, IP6_HEADER, 0); /* no length field, no extensions */

	TRY(change_headers(skb, w));
	p->l4_len = sizeof(struct icmp) + quote_len(n);
	n->diff += csum_header6(h, q->frag) + csum_v6(&p->saddr6) + csum_v6(&p->daddr6) +
		   csum_pseudo(p->l4_len, IPPROTO_ICMPV6);
	TRY(cut_tail(skb, w));

	TRY(replace46(skb, (__s32)(n->new_header - n->old_header) - p->ext_len, false));
	TRY(put_header46(skb, l3_off() + IP6_HEADER + sizeof(struct icmp), h, q->frag));
	TRY(put_icmp(skb, n, l3_off() + IP6_HEADER));
	header46(p, h);
	TRY(put_header46(skb, l3_off(), h, false));
	return n->keep_extensions ? put_extensions(skb, w) : NAT64_PASS;
}

/* Which packets are cut, and how small: those with DF=0, to the smallest MTU that may be on their way, which no router would
 * tell us; and fragments with DF=1 to the MTU of the link, if the fragment header is what makes them exceed it. Not
 * super-packets, which the kernel segments, nor the segments of a tunnel's (apart.h), behind which something stays. A
 * fragment that is not a multiple of 8 bytes passes whole, but cannot be cut: no sender could have made its pieces. */
static __always_inline int plan_cut(struct __sk_buff *skb, struct pkt *p)
{
	__u32 len = IP6_HEADER + p->l4_len + (p->frag ? FRAG_HEADER : 0);
	__u32 max = p->df ? cfg.mtu : cfg.cut_mtu;

	if (len <= max || skb->gso_size || (p->df && !p->frag) || !cut_end(skb, l3_off() + p->ip_len))
		return NAT64_PASS;
	if (p->more && p->l4_len & 7)
		return NAT64_DROP_FRAG_BAD;
	p->frag = 1;
	p->cut = (max - IP6_HEADER - FRAG_HEADER) & ~7;
	return NAT64_PASS;
}

/* The same for a TCP super-packet, which GRO may have made of segments with DF=0: they become smaller. When
 * bpf_skb_adjust_room() makes a packet longer, the kernel takes that from the size of its segments, unless told not to. */
static __always_inline int fit_segments(struct __sk_buff *skb, const struct pkt *p)
{
	__u32 size, more, i;
	__u8 doff;

	if (!skb->gso_size || p->df || p->proto != IPPROTO_TCP)
		return NAT64_PASS;
	TRY(pkt_load(skb, l3_off() + IP6_HEADER + 12, &doff, 1));
	size = cfg.cut_mtu - IP6_HEADER - (doff >> 4) * 4;
	for (i = 0; i < 65536 / ADJUST_MAX + 1 && skb->gso_size > size; i++) {
		more = skb->gso_size - size;
		more = more < ADJUST_MAX ? more : ADJUST_MAX;
		if (bpf_skb_adjust_room(skb, more, BPF_ADJ_ROOM_NET, 0))
			return NAT64_DROP_NO_MEMORY;
		TRY(pkt_adjust(skb, -(__s32)more));
	}
	return NAT64_PASS;
}

/* All about an IPv4 packet whose destination is in the pool, up to both addresses and what the kernel has put off. */
static __always_inline int bind46(struct __sk_buff *skb, struct pkt *p, const struct iphdr *h, struct nat64_hop **hop)
{
	TRY(parse4(p, h, l3_off(), skb->len - l3_off()));
	if (p->ext_len)
		TRY(walk_options(skb, l3_off() + IP4_HEADER, p->ext_len));
	TRY(check_l4_4(skb, p));
	TRY(addresses46(p, hop));
	return p->icmp_error ? NAT64_PASS : see_offloads(skb, p, csum_32(p->saddr4) + csum_32(p->daddr4));
}

/* Makes it an IPv6 packet. */
static __always_inline int translate46(struct __sk_buff *skb, struct pkt *p)
{
	struct header6 new;

	if (p->icmp_error)
		return run_stage(skb, p, icmp_error46);
	TRY(transport46(skb, p));
	TRY(plan_cut(skb, p));
	header46(p, &new);
	TRY(replace46(skb, (p->frag ? FRAG_HEADER : 0) - p->ext_len, p->offloads & TUNNEL));
	TRY(fit_segments(skb, p));
	return p->frag ? pkt_write(skb, l3_off(), &new, sizeof(new), p->offloads & KERNEL_CSUM)
		       : pkt_write(skb, l3_off(), &new.ip, sizeof(new.ip), p->offloads & KERNEL_CSUM);
}

#endif
