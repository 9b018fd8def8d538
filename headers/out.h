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
	__u64 to;    /* if .direct: the next hop, as struct nat64_hop has it */
	bool direct; /* the next hop is at a port of ours, and known */
};

PER_CPU(sending, struct sending, 1);

#define NEIGHBOURS 64 /* remembered on each CPU; of others that share a slot, the last */

/* A next hop that the kernel has sent something to, of either family. */
struct neighbour {
	__u32 address[4]; /* as in struct bpf_fib_lookup */
	__u32 ifindex;
	__u32 pad;
	__u64 tick;
};

PER_CPU(neighbours, struct neighbour, NEIGHBOURS);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NAT64_PORTS + 1);
	__type(key, __u32);
	__type(value, struct nat64_port);
} ports SEC(".maps");

/* The number of a port by the index of its interface. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, NAT64_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} port_numbers SEC(".maps");

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

/* A MAC address as a number whose first 6 bytes it is, for it can be read and written at once; with the number of a port in
 * the others, as in struct nat64_hop. */
union mac {
	__u64 all;
	struct {
		__u16 h[3];
		__u16 port;
	};
};

/* The port of a next hop, or NULL. */
static __always_inline struct nat64_port *port_of(__u64 to)
{
	__u32 number = ((union mac){ .all = to }).port;
	struct nat64_port *port = bpf_map_lookup_elem(&ports, &number);

	return port && port->ifindex ? port : NULL;
}

/* The number of the port with that index, if the translator sends to it straight, or 0. */
static __always_inline __u32 port_number(__u32 ifindex)
{
	__u32 *number;

	if (!cfg.device)
		return ifindex == cfg.ifindex ? cfg.port : 0;
	number = bpf_map_lookup_elem(&port_numbers, &ifindex);
	return number && *number != cfg.port ? *number : 0;
}

/* The next hop of all that the stack sends on. */
static __always_inline __u64 by_stack(void)
{
	return ((union mac){ .port = cfg.port }).all;
}

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

static __always_inline bool is_way(int ret)
{
	return ret == BPF_FIB_LKUP_RET_SUCCESS || ret == BPF_FIB_LKUP_RET_NO_NEIGH;
}

/* On a device of our own: is the way of `p` one that we take? Only to ports; all else is the stack's, whose firewall sees
 * both directions of a connection then. *mtu: that of the port. */
static __always_inline bool is_to_port(struct __sk_buff *skb, const struct pkt *p, struct sending *s, __u32 *mtu)
{
	bool way = is_way(look_up6(skb, p, &s->fib, 1));
	__u32 number = way ? port_number(s->fib.ifindex) : 0;
	const struct nat64_port *port = number ? bpf_map_lookup_elem(&ports, &number) : NULL;

	if (!port)
		return false;
	*mtu = port->mtu;
	return true;
}

/* Remembers a next hop on a port of ours, unless the way there has less room than the port. */
static __always_inline void found_hop(const struct pkt *p, struct sending *s, bool known, bool full)
{
	const struct bpf_fib_lookup *fib = &s->fib;
	union mac own = {}, to = { .port = port_number(fib->ifindex) };
	struct nat64_port *port = port_of(to.all);

	if (!port || !(port->l3 || (known && mac_of(fib))))
		return;
	if (!port->l3) {
		__builtin_memcpy(&to, fib->dmac, sizeof(fib->dmac));
		__builtin_memcpy(&own, fib->smac, sizeof(fib->smac));
		WRITE_ONCE(port->mac, own.all);
	}
	if (full)
		remember_hop(p->daddr4, &p->daddr6, to.all);
	s->to = to.all;
	s->direct = port->l3 || is_neighbour_used(fib);
}

/* The packet came here by a next hop that is none (user/hop.h): it needs the route to the IPv6 host. If that has an MTU of
 * its own, a packet that is longer is answered, and one that is to be cut is cut smaller. If it leads to a port of ours, and
 * the neighbour is known, that is remembered. */
static __always_inline int find_hop(struct __sk_buff *skb, struct pkt *p, struct sending *s)
{
	struct bpf_fib_lookup *fib = &s->fib;
	__u32 wire = wire_length46(skb, p), mtu = cfg.mtu;
	bool full;
	int ret;

	if (cfg.device && !is_to_port(skb, p, s, &mtu)) {
		s->hop.stack = 1;
		remember_hop(p->daddr4, &p->daddr6, by_stack());
		return NAT64_PASS;
	}
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
	if (s->hop.stack)
		return NAT64_PASS;
	if (!is_way(ret))
		return NAT64_DROP_NO_ROUTE;
	s->hop.ifindex = fib->ifindex;
	s->hop.neigh.nh_family = 10;
	__builtin_memcpy(s->hop.neigh.ipv6_nh, fib->ipv6_dst, sizeof(s->hop.neigh.ipv6_nh));
	found_hop(p, s, ret == BPF_FIB_LKUP_RET_SUCCESS, full);
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
	struct sending *s = only_value(&sending);

	if (!p || !s)
		return NAT64_DROP_NO_MEMORY;
	s->direct = false;
	s->hop.stack = cfg.device;
	if (cfg.device ? cfg.has_ports : !cfg.l3)
		TRY(find_hop(skb, p, s));
	s->hop.stack |= has_ipsec_policy(skb) || !cut_tail6(skb, p);
	s->direct &= !s->hop.stack;
	return NAT64_PASS;
}

/* What `hop` remembers, or 0. Not for longer than a quarter of a second: then a packet goes by find_hop again. `hop` may be
 * NULL. */
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

/* Sends a packet that has its IPv6 header to a next hop that is known: the program is at the port's own egress, or at that
 * of the device. False: it must be looked up. `*act`: what the program returns. */
static __always_inline bool send_straight(struct __sk_buff *skb, const struct pkt *p, __u64 to, __s8 *act)
{
	const struct nat64_port *port;
	__u64 own;

	if (!cfg.device) {
		*act = TC_ACT_OK;
		return ((union mac){ .all = to }).port == cfg.port && write_mac(skb, 0, to);
	}
	port = port_of(to);
	if (!port || wire_length46(skb, p) > port->mtu)
		return false;
	port = after(port, to); /* its address as it was written: before that next hop, see found_hop */
	own = READ_ONCE(port->mac);
	if (!port->l3 && !(own && write_mac(skb, 0, to) && write_mac(skb, 6, own)))
		return false;
	*act = bpf_redirect(port->ifindex, 0); /* which takes the Ethernet header away where none belongs */
	return true;
}

#endif
