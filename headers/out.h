/* SPDX-License-Identifier: GPL-2.0-only */
/* out.h - sends a packet that has become IPv6 on to its next hop */
#ifndef NAT64_OUT_H
#define NAT64_OUT_H

#include "xlat46.h"

/* Where a packet goes. */
struct hop {
	__u32 stack; /* 1: where the IPv6 stack sends it, and nothing else is known */
	__u32 ifindex;
	struct bpf_redir_neigh neigh;
};

/* Work on one packet; not on the stack, which is 512 bytes for all functions together. */
struct sending {
	struct bpf_fib_lookup fib;
	struct hop hop;
	__u64 mac;   /* of the next hop, if .direct */
	bool direct; /* the next hop is on our own interface, and known: its MAC address is all that the packet needs */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sending);
} sending SEC(".maps");

#define NEIGHBOURS 64 /* remembered on each CPU; of others that share a slot, the last */

/* A next hop that the kernel has sent something to, of either family. */
struct neighbour {
	__u32 address[4]; /* as in struct bpf_fib_lookup */
	__u32 ifindex;
	__u32 pad;
	__u64 tick;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NEIGHBOURS);
	__type(key, __u32);
	__type(value, struct neighbour);
} neighbours SEC(".maps");

/* The MAC address of our own interface, 6 bytes: not older than what is remembered of any next hop. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} own_mac SEC(".maps");

/* Is the next hop of `fib` one that the kernel itself has sent something to in the last quarter of a second? If not,
 * it must now: its neighbour entries are kept, and their addresses verified, only while it sends by them. */
static __always_inline bool is_neighbour_used(const struct bpf_fib_lookup *fib)
{
	__u32 slot = bpf_ntohl((__force __be32)(fib->ipv6_dst[0] ^ fib->ipv6_dst[3])) % NEIGHBOURS;
	struct neighbour *n = bpf_map_lookup_elem(&neighbours, &slot);
	__u64 now = bpf_jiffies64();

	if (!n)
		return false;
	if (now - n->tick < cfg.hz / 4 && n->ifindex == fib->ifindex && n->address[0] == fib->ipv6_dst[0] &&
	    n->address[1] == fib->ipv6_dst[1] && n->address[2] == fib->ipv6_dst[2] && n->address[3] == fib->ipv6_dst[3])
		return true;
	__builtin_memcpy(n->address, fib->ipv6_dst, sizeof(n->address));
	n->ifindex = fib->ifindex;
	n->tick = now;
	return false;
}

/* A MAC address as a number whose first 6 bytes it is, for it can be read and written at once. */
union mac {
	__u64 all;
	__u16 h[4];
};

/* Writes `mac` into the frame: at 0 the receiver, at 6 the sender. */
static __always_inline bool write_mac(struct __sk_buff *skb, __u32 at, __u64 mac)
{
	union mac m = { .all = mac };
	__u16 *to = pkt_at(skb, at, 6);

	if (!to)
		return false;
	to[0] = m.h[0];
	to[1] = m.h[1];
	to[2] = m.h[2];
	return true;
}

/* The MAC address of the next hop of `fib`, once looked up. Older kernels (5.10) take a neighbour who is yet to answer
 * for known: then it is 0. */
static __always_inline __u64 mac_of(const struct bpf_fib_lookup *fib)
{
	union mac mac = {};

	__builtin_memcpy(&mac, fib->dmac, sizeof(fib->dmac));
	return mac.all;
}

/* The length of the IPv6 packets that a translated one will be on the wire: that of a piece, or of a segment, if it is many
 * in one. */
static __always_inline __u32 wire_length46(struct __sk_buff *skb, const struct pkt *p)
{
	const __u32 l4 = l3_off() + IP6_HEADER;

	if (p->cut)
		return IP6_HEADER + FRAG_HEADER + p->cut;
	if (!skb->gso_size)
		return IP6_HEADER + (p->frag ? FRAG_HEADER : 0) + p->l4_len;
	if (p->proto == IPPROTO_SCTP_)
		return IP6_HEADER; /* they have any size, and the kernel looks at each */
	return IP6_HEADER + payload_off(skb, p, l4) - l4 + skb->gso_size;
}

/* Asks the kernel for the way of `p`, and whether `len` bytes fit it. */
static __noinline int look_up6(struct __sk_buff *skb, const struct pkt *p, struct bpf_fib_lookup *fib, __u16 len)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = 10; /* AF_INET6 */
	fib->ifindex = cfg.ifindex;
	fib->l4_protocol = p->proto;
	fib->tot_len = len;
	fib->flowinfo = bpf_htonl(p->tos << 20);
	__builtin_memcpy(fib->ipv6_src, &p->saddr6, sizeof(fib->ipv6_src));
	__builtin_memcpy(fib->ipv6_dst, &p->daddr6, sizeof(fib->ipv6_dst));
	return bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
}

/* The packet came here by a next hop that is none (user/hop.h): it needs the route to the IPv6 host. If that has an MTU of
 * its own, a packet that is longer is answered, and one that is to be cut is cut smaller. If the neighbour is known, and on
 * our own interface, its MAC address is remembered, unless the way has less room than the interface. */
static __always_inline int find_hop(struct __sk_buff *skb, struct pkt *p, struct sending *s)
{
	struct bpf_fib_lookup *fib = &s->fib;
	__u32 zero = 0, wire = wire_length46(skb, p), mtu = cfg.mtu;
	union mac own = {};
	bool full;
	__u64 *o;
	int ret;

	ret = look_up6(skb, p, fib, mtu);
	full = ret != BPF_FIB_LKUP_RET_FRAG_NEEDED;
	if (!full)
		mtu = fib->mtu_result < mtu ? fib->mtu_result : 1280; /* before 5.12 the kernel does not say */
	if (wire > mtu || !full) {
		ret = look_up6(skb, p, fib, wire);
		if (ret == BPF_FIB_LKUP_RET_FRAG_NEEDED && p->cut) {
			p->cut = (mtu - IP6_HEADER - FRAG_HEADER) & ~7;
			ret = look_up6(skb, p, fib, mtu);
		}
		if (ret == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
			p->rest = mtu > 1280 ? mtu : 1280;
			return NAT64_DROP_TOO_BIG;
		}
	}
	s->hop.stack = ret == BPF_FIB_LKUP_RET_UNSUPP_LWT;
	s->direct = false;
	if (s->hop.stack)
		return NAT64_PASS;
	if (ret != BPF_FIB_LKUP_RET_SUCCESS && ret != BPF_FIB_LKUP_RET_NO_NEIGH)
		return NAT64_DROP_NO_ROUTE;
	s->hop.ifindex = fib->ifindex;
	s->hop.neigh.nh_family = 10;
	__builtin_memcpy(s->hop.neigh.ipv6_nh, fib->ipv6_dst, sizeof(s->hop.neigh.ipv6_nh));
	s->mac = mac_of(fib);
	s->direct = ret == BPF_FIB_LKUP_RET_SUCCESS && fib->ifindex == cfg.ifindex && s->mac;
	if (!s->direct)
		return NAT64_PASS;
	o = bpf_map_lookup_elem(&own_mac, &zero);
	__builtin_memcpy(&own, fib->smac, sizeof(fib->smac));
	if (o)
		WRITE_ONCE(*o, own.all);
	if (full)
		remember_hop(p->daddr4, &p->daddr6, s->mac);
	s->direct = is_neighbour_used(fib);
	return NAT64_PASS;
}

/* Cuts off what is behind the packet, which has its IPv6 headers. If it stays, the IPv6 stack will. */
static __always_inline bool cut_tail6(struct __sk_buff *skb, const struct pkt *p)
{
	return cut_end(skb, l3_off() + IP6_HEADER + (p->frag ? FRAG_HEADER : 0) + p->l4_len);
}

/* Looks up the way of a packet whose next hop is not known: what is found is in `sending`. */
__noinline int find_way(struct __sk_buff *skb)
{
	struct pkt *p = stage_pkt();
	__u32 zero = 0;
	struct sending *s = bpf_map_lookup_elem(&sending, &zero);

	if (!p || !s)
		return NAT64_DROP_NO_MEMORY;
	s->direct = false;
	s->hop.stack = cfg.device;
	if (!cfg.l3 && !cfg.device)
		TRY(find_hop(skb, p, s));
	s->hop.stack |= has_ipsec_policy(skb) || !cut_tail6(skb, p);
	s->direct &= !s->hop.stack;
	return NAT64_PASS;
}

/* The MAC address that `hop` remembers, or 0. Not for longer than a quarter of a second: then a packet goes by find_hop
 * again. `hop` may be NULL. */
static __always_inline __u64 known_hop(const struct nat64_hop *hop)
{
	__u64 tick;

	if (!hop)
		return 0;
	tick = READ_ONCE(hop->tick);
	if (bpf_jiffies64() - tick >= cfg.hz / 4)
		return 0;
	hop = after(hop, tick);
	return READ_ONCE(hop->mac);
}

/* Takes from the packet the route by which it came as IPv4. Kernels that do not when it becomes IPv6 (5.10.223) look at
 * that route again when the packet has waited for its next hop to answer, and send it there. There is no helper for it;
 * but a tunnel key, which only tunnels look at that are told to, takes the place of the route. */
static __always_inline void forget_route4(struct __sk_buff *skb)
{
	struct bpf_tunnel_key none = {};

	bpf_skb_set_tunnel_key(skb, &none, offsetof(struct bpf_tunnel_key, remote_ipv6[1]), 0);
}

/* `*act`: what the program returns for a packet that goes to `hop`. */
static __always_inline int send_to(struct __sk_buff *skb, struct hop *hop, __s8 *act)
{
	const union mac nobody = { .h = { 0x0202 } }; /* 02:02, in any byte order */

	if (hop->stack)
		return send_by_stack(skb, act);
	*act = TC_ACT_OK;
	if (cfg.l3)
		return NAT64_PASS;
	/* The IPv4 next hop may have the broadcast MAC address (see user/hop.h), and the kernel takes no frame to a group. */
	if (!write_mac(skb, 0, nobody.all))
		return NAT64_DROP_NO_MEMORY;
	forget_route4(skb);
	*act = bpf_redirect_neigh(hop->ifindex, &hop->neigh, sizeof(hop->neigh), 0);
	return NAT64_PASS;
}

#endif
