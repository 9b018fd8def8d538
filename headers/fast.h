/* SPDX-License-Identifier: GPL-2.0-only */
/* fast.h - --fast: from interface to interface, past the IPv4 stack and what hangs on it (netfilter, rp_filter)
 *
 *	nat64_6to4, ingress of our interface        translate64, send_fast64 -> where the IPv4 route leads
 *	nat64_fast, ingress of the IPv4 interfaces  translate_fast46         -> our interface
 *
 * Only ordinary packets go this way: not too long, with TTL to spare, to a next hop that is resolved. All others go through
 * the stack, which answers, fragments, delivers or drops them. So does one packet to each next hop four times a second, see
 * is_neighbour_used() for the reason. Routes are looked up four times a second for each pair of hosts.
 */
#ifndef NAT64_FAST_H
#define NAT64_FAST_H

#include "frag.h"

/* Where packets from `saddr` to `daddr` go, as the routing table had it at `tick` (jiffies). */
struct hop4 {
	__be32 saddr, daddr;
	__u32 tos;
	__u32 ifindex;
	__u32 mtu; /* the length that is known to fit, bytes */
	__u8 macs[12];
	__u64 tick;
};

/* Each CPU has NAT64_HOPS4 entries of its own, and nobody else's to wait for. Not a per-CPU map: that would be one
 * allocation for each entry. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* set when loaded */
	__type(key, __u32);
	__type(value, struct hop4);
} hops4 SEC(".maps");

/* The stack has more to say about packets that are not for us, are routed by mark, have a tag, or may have to leave
 * encrypted. */
static __always_inline bool is_usual(struct __sk_buff *skb)
{
	return skb->pkt_type == PACKET_HOST && !skb->mark && !skb->vlan_present && !has_ipsec_policy(skb);
}

/* Looks up the route of `p` for `hop`. False: let the stack have the packet. */
static __always_inline bool find_hop4(void *ctx, const struct pkt *p, __u32 tos, struct hop4 *hop)
{
	struct sending *s = only_value(&sending);
	struct bpf_fib_lookup *fib;

	if (!s)
		return false;
	fib = &s->fib;
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = 2; /* AF_INET */
	fib->ifindex = cfg.ifindex;
	fib->l4_protocol = p->proto;
	fib->tot_len = p->wire;
	fib->tos = tos;
	fib->ipv4_src = p->saddr4;
	fib->ipv4_dst = p->daddr4;
	if (bpf_fib_lookup(ctx, fib, sizeof(*fib), 0) != BPF_FIB_LKUP_RET_SUCCESS || fib->ifindex == cfg.ifindex ||
	    fib->ifindex == cfg.home || !mac_of(fib) || !is_neighbour_used(fib))
		return false;
	hop->saddr = p->saddr4;
	hop->daddr = p->daddr4;
	hop->tos = tos;
	hop->ifindex = fib->ifindex;
	hop->mtu = fib->tot_len; /* since 5.12 the MTU of the route, before: what was asked */
	__builtin_memcpy(hop->macs, fib->dmac, sizeof(fib->dmac));
	__builtin_memcpy(hop->macs + sizeof(fib->dmac), fib->smac, sizeof(fib->smac));
	hop->tick = bpf_jiffies64();
	return true;
}

/* Where `p` goes, whose length as IPv4 is known, or NULL: let the stack have it. `ctx`: of whatever program asks. */
static __always_inline const struct hop4 *hop4_of(void *ctx, const struct pkt *p)
{
	__u32 tos = cfg.set_tos ? cfg.tos : p->tos, hash = bpf_ntohl(p->saddr4) ^ bpf_ntohl(p->daddr4), slot;
	struct hop4 *hop;

	slot = bpf_get_smp_processor_id() * NAT64_HOPS4 + (hash ^ hash >> 14) % NAT64_HOPS4;
	hop = bpf_map_lookup_elem(&hops4, &slot);
	if (!hop)
		return NULL;
	if (hop->saddr == p->saddr4 && hop->daddr == p->daddr4 && hop->tos == tos && hop->mtu >= p->wire &&
	    bpf_jiffies64() - hop->tick < cfg.hz / 4)
		return hop;
	return find_hop4(ctx, p, tos, hop) ? hop : NULL;
}

/* 6→4: sends a translated packet on. Returns what the program returns: TC_ACT_OK if the stack is to have it. */
static __always_inline int send_fast64(struct __sk_buff *skb, const struct pkt *p)
{
	const struct hop4 *hop;
	struct iphdr *h;
	__u32 check;
	void *frame;

	/* Link padding goes no further than the stack. IPv6 has it behind less than 6 bytes of payload only. */
	if (p->ttl <= 1 || p->icmp_error || !is_usual(skb) || (skb->gso_size && p->proto != IPPROTO_TCP) ||
	    skb->len != ETH_HEADER + IP4_HEADER + p->l4_len)
		return TC_ACT_OK;
	hop = hop4_of(skb, p);
	if (!hop)
		return TC_ACT_OK;
	frame = pkt_at(skb, 0, ETH_HEADER + sizeof(*h));
	if (!frame)
		return TC_ACT_OK;
	__builtin_memcpy(frame, hop->macs, sizeof(hop->macs));
	h = frame + ETH_HEADER;
	h->ttl--;
	check = (__force __u16)h->check + (__force __u16)bpf_htons(0x0100); /* RFC 1624 */
	h->check = (__force __sum16)(check + (check >= 0xffff));
	return bpf_redirect(hop->ifindex, 0);
}

/* 4→6: a whole packet with nothing but a header before its payload. ICMP can do without speed. A header whose checksum is
 * wrong is the stack's to drop (RFC 1812 section 5.2.2): IPv6 has none, so nobody could behind us. */
static __always_inline bool is_plain4(const struct iphdr *h)
{
	return h->version == 4 && h->ihl == 5 && h->ttl > 1 && !(h->frag_off & bpf_htons(0x3fff)) &&
	       h->protocol != IPPROTO_ICMP && !csum_iphdr(h);
}

/* Behind it there may be link padding, as in every Ethernet frame of less than 60 bytes; what is behind a super-packet's
 * length is its own (BIG TCP). */
static __always_inline bool is_usual46(struct __sk_buff *skb, const struct iphdr *h)
{
	__u32 len = ETH_HEADER + (__u32)bpf_ntohs(h->tot_len);

	return is_plain4(h) && (skb->len == len || (skb->len > len && !skb->gso_size)) && is_usual(skb);
}

/* Does a single packet fit the link of the port, whole? */
static __always_inline bool fits_port(const struct pkt *p, const struct nat64_port *port)
{
	return IP6_HEADER + p->l4_len <= (p->df || port->mtu < cfg.cut_mtu ? port->mtu : cfg.cut_mtu);
}

/* The same for one that may stand for many segments. */
static __always_inline bool fits46(struct __sk_buff *skb, const struct pkt *p, const struct nat64_port *port)
{
	__u8 doff;

	if (!skb->gso_size)
		return fits_port(p, port);
	return p->df && p->proto == IPPROTO_TCP && pkt_load(skb, p->l4_off + 12, &doff, 1) == NAT64_PASS &&
	       IP6_HEADER + (doff >> 4) * 4 + skb->gso_size <= port->mtu;
}

/* The port that a frame to the next hop that `hop` remembers leaves by, with the MAC addresses *to and *from; NULL: it is for
 * the stack to say. */
static __always_inline const struct nat64_port *frame_to(const struct nat64_hop *hop, __u64 *to, __u64 *from)
{
	const struct nat64_port *port;

	*to = known_hop(hop);
	port = *to ? port_of(*to) : NULL;
	if (!port || (cfg.device && port->ifindex == cfg.ifindex) || port->l3)
		return NULL;
	port = after(port, *to); /* as it was written: before that next hop, see found_hop */
	*from = READ_ONCE(port->mac);
	return *from ? port : NULL;
}

/* 4→6, of a packet that has just arrived by Ethernet. `*usual`: whether it is ours to send or to drop; if not, it is as
 * it was. */
static __always_inline int translate_fast46(struct __sk_buff *skb, struct pkt *p, bool *usual)
{
	const struct iphdr *h = pkt_at(skb, ETH_HEADER, sizeof(*h));
	const struct nat64_port *port;
	struct nat64_hop *hop = NULL;
	struct header6 new;
	__u64 own, to;

	*usual = false;
	if (!h || !is_ours4(h->daddr) || !is_usual46(skb, h))
		return NAT64_PASS;
	if (is_traced())
		trace_in(skb);
	TRY(parse4(p, h, ETH_HEADER, skb->len - ETH_HEADER));
	TRY(check_l4_4(skb, p));
	TRY(addresses46(p, &hop));
	port = frame_to(hop, &to, &own);
	if (!port || !fits46(skb, p, port))
		return NAT64_PASS;
	/* Link padding has been in whatever memory the sender had, and is nobody else's. */
	if (!cut_end(skb, ETH_HEADER + p->ip_len))
		return NAT64_PASS;

	*usual = true;
	p->act = bpf_redirect(port->ifindex, 0);
	TRY(see_offloads(skb, p, csum_32(p->saddr4) + csum_32(p->daddr4)));
	TRY(transport46(skb, p));
	p->ttl--;
	header46(p, &new);
	TRY(replace46(skb, 0, false));
	TRY(pkt_write(skb, ETH_HEADER, &new.ip, sizeof(new.ip), p->offloads & KERNEL_CSUM));
	return write_mac(skb, 0, to) && write_mac(skb, 6, own) ? NAT64_PASS : NAT64_DROP_NO_MEMORY;
}

#endif
