/* SPDX-License-Identifier: GPL-2.0-only */
/* out.h - sends a packet that has become IPv6 on to its next hop */
#ifndef NAT64_OUT_H
#define NAT64_OUT_H

#include "xlat46.h"

/* Where a packet goes. */
struct hop {
	__u32 ifindex;
	struct bpf_redir_neigh neigh;
};

/* The packet came here by the fake neighbour: it needs the route to the IPv6 host. On a layer-3 interface there is
 * nothing to find out. The kernel looks at the packet's length too; one that is yet to be cut passes. */
static __always_inline int find_hop(struct __sk_buff *skb, const struct pkt *p, struct hop *hop)
{
	struct bpf_fib_lookup fib = { .family = 10 /* AF_INET6 */, .ifindex = cfg.ifindex };
	int ret;

	if (cfg.l3)
		return NAT64_PASS;
	fib.l4_protocol = p->proto;
	fib.flowinfo = bpf_htonl(p->tos << 20);
	__builtin_memcpy(fib.ipv6_src, &p->saddr6, sizeof(fib.ipv6_src));
	__builtin_memcpy(fib.ipv6_dst, &p->daddr6, sizeof(fib.ipv6_dst));
	ret = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (ret == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		if (!p->cut)
			return NAT64_DROP_TOO_BIG;
	} else if (ret != BPF_FIB_LKUP_RET_SUCCESS && ret != BPF_FIB_LKUP_RET_NO_NEIGH) {
		return NAT64_DROP_NO_ROUTE;
	}
	hop->ifindex = fib.ifindex;
	hop->neigh.nh_family = 10;
	__builtin_memcpy(hop->neigh.ipv6_nh, fib.ipv6_dst, sizeof(hop->neigh.ipv6_nh));
	return NAT64_PASS;
}

/* What the program returns for a packet that goes to `hop`. */
static __always_inline int send_to(struct hop *hop)
{
	if (cfg.l3)
		return TC_ACT_OK;
	return bpf_redirect_neigh(hop->ifindex, &hop->neigh, sizeof(hop->neigh), 0);
}

#endif
