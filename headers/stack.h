/* SPDX-License-Identifier: GPL-2.0-only */
/* stack.h - which packets are ours to translate, and how packets go back into the stack of this machine
 *
 * A packet that arrives again at our interface loses its conntrack entry, bridge, IPsec state and route. On a layer-3 interface
 * it also loses the link-layer header that it came with. */
#ifndef NAT64_STACK_H
#define NAT64_STACK_H

#include <linux/if_packet.h>

#include "addr.h"

/* Does the packet belong to a VLAN? Then it is its VLAN interface's, whether there is one here or not. VLAN 0 is none:
 * such a tag is there for its priority (IEEE 802.1Q). Of two tags the inner one is what eth_proto() tells. */
static __always_inline bool is_of_vlan(const struct __sk_buff *skb)
{
	return skb->vlan_present && skb->vlan_tci & 0xfff;
}

/* Has it come for this interface itself? What is for another MAC address is for an upper interface (a macvlan, VRRP's), or
 * for nobody here. The stack does not forward what was sent to a link-layer group, and no more do we. */
static __always_inline bool is_for_us(const struct __sk_buff *skb)
{
	return skb->pkt_type == PACKET_HOST && !is_of_vlan(skb);
}

/* Was it routed here by our next hop (user/hop.h), whose MAC address is made up? */
static __always_inline bool is_by_hop(const struct __sk_buff *skb)
{
	const __u8 hop[] = NAT64_HOP_MAC, *mac = cfg.l3 || cfg.device ? NULL : pkt_at(skb, 0, sizeof(hop));

	return mac && mac[0] == hop[0] && mac[1] == hop[1] && mac[2] == hop[2] && mac[3] == hop[3] &&
	       mac[4] == hop[4] && mac[5] == hop[5];
}

/* Written into skb->tc_index when a hop was given back. That stays with a packet as long as this machine has it, unless a
 * filter of somebody else says TC_ACT_OK to it. */
#define HOP_GIVEN_BACK 0x6e36

/* The same for a packet that is to arrive again, until it does. */
#define ARRIVES_AGAIN 0x6e37

/* Lets a packet that was for us arrive again at our interface. The frame may be for another MAC address than that of the
 * interface: a bridge also takes what is for one of its ports. */
static __always_inline int arrive_again(struct __sk_buff *skb)
{
	if (!cfg.l3 && !cfg.device && skb->tc_index != HOP_GIVEN_BACK)
		skb->tc_index = ARRIVES_AGAIN;
	return bpf_redirect(cfg.ifindex, BPF_F_INGRESS);
}

/* What arrives again is for us, whatever the kernel makes of its MAC address. To a device of our own comes nothing else but what
 * its ports and itself send there; its MAC address may have become another one (udev). */
static __always_inline void see_arrival(struct __sk_buff *skb)
{
	if (!cfg.device && skb->tc_index != ARRIVES_AGAIN)
		return;
	if (!cfg.device)
		skb->tc_index = 0;
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
}

/* Lets a packet that has become IPv4 at a port arrive at the device that the routes lead to, whatever MAC address it is for
 * (see see_arrival). `*act`: what the program returns. */
static __always_inline int arrive_at_home(struct __sk_buff *skb, __s8 *act)
{
	__be16 proto = bpf_htons(ETH_P_IP);

	if (cfg.l3 && (bpf_skb_change_head(skb, ETH_HEADER, 0) ||
		       bpf_skb_store_bytes(skb, ETH_HEADER - sizeof(proto), &proto, sizeof(proto), 0)))
		return NAT64_DROP_NO_MEMORY;
	*act = bpf_redirect(cfg.home, BPF_F_INGRESS);
	return NAT64_PASS;
}

/* Has it come with a link-layer header to a layer-3 interface, and is it for the NAT64 prefix? XFRM and VTI interfaces
 * hand over what they decrypt with the header of the frame that it came in. It must have been seen that no header of such
 * a packet is where it should be: or it would arrive for ever. */
static __always_inline bool is_ours_framed(const struct __sk_buff *skb)
{
	struct ipv6hdr h;

	return cfg.l3 && !bpf_skb_load_bytes_relative(skb, 0, &h, sizeof(h), BPF_HDR_START_NET) && h.version == 6 &&
	       in_nat64_prefix((const union nat64_v6 *)&h.daddr);
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
	turned[6] &= 0xfe; /* the next hop may have the broadcast MAC address (see user/hop.h), which sends nothing */
	return bpf_skb_store_bytes(skb, 0, turned, sizeof(turned), 0) ? NAT64_DROP_NO_MEMORY : NAT64_PASS;
}

/* Lets an IPv6 packet on its way out arrive again, for the stack to send on as any that arrives: by IPsec policies, with the
 * encapsulation of its route; or, if it goes to the NAT64 prefix, to be translated first. This machine is one hop to a packet,
 * though both stacks decrement: one is given back, but once only, or packets that go round would do so for ever.
 * `*act`: what the program returns. */
static __always_inline int send_by_stack(struct __sk_buff *skb, __s8 *act)
{
	struct ipv6hdr *h;

	if (skb->tc_index != HOP_GIVEN_BACK) {
		h = pkt_at(skb, l3_off(), sizeof(*h));
		if (!h)
			return NAT64_DROP_NO_MEMORY;
		if (h->hop_limit < 255) {
			h->hop_limit++;
			if (has_kernel_csum(skb)) /* the lower byte of its word */
				bpf_csum_update(skb, (__force __wsum)csum_16(bpf_htons(1)));
		}
		skb->tc_index = HOP_GIVEN_BACK;
	}
	if (!cfg.device) /* which sends to itself */
		TRY(turn_frame(skb));
	*act = arrive_again(skb);
	return NAT64_PASS;
}

#endif
