/* SPDX-License-Identifier: GPL-2.0-only */
/* vlan.h - a second VLAN tag
 *
 * The kernel keeps one tag out of band, where it is not in the way. A second one stands in the packet before the IP
 * header. The outer tag is taken off while we translate, which puts the inner one out of band. This is about packets
 * that arrive: what leaves for the pool was routed to the interface itself and has no tag.
 */
#ifndef NAT64_VLAN_H
#define NAT64_VLAN_H

#include "addr.h"

#define ETH_P_8021Q  0x8100
#define ETH_P_8021AD 0x88a8

struct tag {
	__be16 proto;
	__u16 tci;
};

static __always_inline bool is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

static __always_inline bool is_tagged(const struct __sk_buff *skb)
{
	return is_vlan(eth_proto(skb));
}

/* Is there an IPv6 packet to the NAT64 prefix behind the tag in the packet, or behind two if the kernel has none out of
 * band? Others are not touched. */
static __always_inline bool is_ours_tagged(const struct __sk_buff *skb)
{
	struct {
		__be16 tci, proto;
	} inner;
	__u32 at = ETH_HEADER;
	union nat64_v6 daddr;
	__u8 version;

	if (pkt_load(skb, at, &inner, sizeof(inner)) != NAT64_PASS)
		return false;
	at += sizeof(inner);
	if (!skb->vlan_present && is_vlan(inner.proto)) {
		if (pkt_load(skb, at, &inner, sizeof(inner)) != NAT64_PASS)
			return false;
		at += sizeof(inner);
	}
	if (pkt_load(skb, at, &version, 1) != NAT64_PASS)
		return false;
	if (pkt_load(skb, at + offsetof(struct ipv6hdr, daddr), &daddr, sizeof(daddr)) != NAT64_PASS)
		return false;
	return inner.proto == bpf_htons(ETH_P_IPV6) && version >> 4 == 6 && in_nat64_prefix(&daddr);
}

/* Lets a packet with two tags arrive anew. Kernels up to 6.1, at least, lose count of the length of the link-layer header
 * when a tag is pushed on arrival, and look for what follows in the wrong place. */
static __always_inline int arrive_again(void)
{
	return bpf_redirect(cfg.ifindex, BPF_F_INGRESS);
}

/* Takes the outer tag off; false: left as it was. */
static __always_inline bool take_tag(struct __sk_buff *skb, struct tag *tag)
{
	__be16 tci;

	if (skb->vlan_present) {
		tag->proto = (__force __be16)skb->vlan_proto;
		tag->tci = skb->vlan_tci;
	} else {
		tag->proto = eth_proto(skb);
		if (pkt_load(skb, ETH_HEADER, &tci, sizeof(tci)) != NAT64_PASS)
			return false;
		tag->tci = bpf_ntohs(tci);
	}
	return !bpf_skb_vlan_pop(skb);
}

static __always_inline bool put_tag(struct __sk_buff *skb, const struct tag *tag)
{
	return !bpf_skb_vlan_push(skb, tag->proto, tag->tci);
}

#endif
