/* SPDX-License-Identifier: GPL-2.0-only */
/* vlan.h - a second VLAN tag
 *
 * The kernel keeps one tag out of band, where it is not in the way. A second one stands in the packet before the IP
 * header. The outer tag is taken off while we translate, which puts the inner one out of band. This is about packets
 * that arrive: what leaves for the pool was routed to the interface itself and has no tag.
 */
#ifndef NAT64_VLAN_H
#define NAT64_VLAN_H

#include "pkt.h"

#define ETH_P_8021Q  0x8100
#define ETH_P_8021AD 0x88a8

struct tag {
	__be16 proto;
	__u16 tci;
};

static __always_inline bool is_tagged(const struct __sk_buff *skb)
{
	return eth_proto(skb) == bpf_htons(ETH_P_8021Q) || eth_proto(skb) == bpf_htons(ETH_P_8021AD);
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
