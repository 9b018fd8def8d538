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

/* Work on one packet; not on the stack, which is 512 bytes for all functions together. */
struct sending {
	struct bpf_fib_lookup fib;
	struct hop hop;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sending);
} sending SEC(".maps");

/* The packet came here by the fake neighbour: it needs the route to the IPv6 host. The kernel looks at the packet's
 * length too; one that is yet to be cut passes. If the neighbour is known, and on our own interface, `m` remembers its
 * MAC address; `m` may be NULL. */
static __always_inline int find_hop(struct __sk_buff *skb, const struct pkt *p, struct nat64_mapping *m,
				    struct sending *s)
{
	struct bpf_fib_lookup *fib = &s->fib;
	__u64 mac = 0;
	int ret;

	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = 10; /* AF_INET6 */
	fib->ifindex = cfg.ifindex;
	fib->l4_protocol = p->proto;
	fib->flowinfo = bpf_htonl(p->tos << 20);
	__builtin_memcpy(fib->ipv6_src, &p->saddr6, sizeof(fib->ipv6_src));
	__builtin_memcpy(fib->ipv6_dst, &p->daddr6, sizeof(fib->ipv6_dst));
	ret = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	if (ret == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		if (!p->cut)
			return NAT64_DROP_TOO_BIG;
	} else if (ret != BPF_FIB_LKUP_RET_SUCCESS && ret != BPF_FIB_LKUP_RET_NO_NEIGH) {
		return NAT64_DROP_NO_ROUTE;
	}
	s->hop.ifindex = fib->ifindex;
	s->hop.neigh.nh_family = 10;
	__builtin_memcpy(s->hop.neigh.ipv6_nh, fib->ipv6_dst, sizeof(s->hop.neigh.ipv6_nh));
	if (m && ret == BPF_FIB_LKUP_RET_SUCCESS && fib->ifindex == cfg.ifindex) {
		__builtin_memcpy(&mac, fib->dmac, sizeof(fib->dmac));
		WRITE_ONCE(m->hop, mac);
		WRITE_ONCE(m->hop_tick, bpf_jiffies64());
	}
	return NAT64_PASS;
}

/* Writes the MAC address that `m` remembers, and lets the packet go on as it is. Not for longer than a quarter of
 * a second: then a packet goes by find_hop again, and through the kernel's neighbour entry, which must see some traffic
 * to be kept. */
static __always_inline bool send_known(struct __sk_buff *skb, struct nat64_mapping *m)
{
	union {
		__u64 all;
		__u16 h[4];
	} mac;
	__u16 *to;

	if (!m || bpf_jiffies64() - READ_ONCE(m->hop_tick) >= cfg.hz / 4)
		return false;
	mac.all = READ_ONCE(m->hop);
	to = pkt_at(skb, 0, 6);
	if (!to)
		return false;
	to[0] = mac.h[0];
	to[1] = mac.h[1];
	to[2] = mac.h[2];
	return true;
}

/* What the program returns for a packet that goes to `hop`. */
static __always_inline int send_to(struct hop *hop)
{
	if (cfg.l3)
		return TC_ACT_OK;
	return bpf_redirect_neigh(hop->ifindex, &hop->neigh, sizeof(hop->neigh), 0);
}

#endif
