/* SPDX-License-Identifier: GPL-2.0-only */
/* frag.h - cuts a translated packet that is too long for its way (RFC 7915 section 4.1)
 *
 * The packet has its IPv6 and fragment header already. For every piece but the last the kernel sends a clone of it
 * through the same interface: the program runs nested for the clone, sees PIECE_MARK, and finds in the per-CPU `piece`
 * what to keep. The packet itself becomes the last piece, so the pieces leave in order.
 */
#ifndef NAT64_FRAG_H
#define NAT64_FRAG_H

#include "out.h"

#define PIECE_MARK 0x6e363466
#define PIECES_MAX 64 /* of 65515 bytes at 1232 each: 54 */

struct piece {
	__u32 waiting; /* 1: a nested run is to take it */
	__u32 off;     /* of the payload, bytes, a multiple of 8 */
	__u32 len;
	__u32 mark; /* the packet's own mark */
	struct hop hop;
};

PER_CPU(piece, struct piece, 1);

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

/* Is a checksum yet to be finished in a packet that has its IPv6 and fragment headers already? If so, `*there`, and `*u` is
 * which. */
static __always_inline int see_unfinished(struct __sk_buff *skb, const struct pkt *p, struct unfinished *u, bool *there)
{
#ifdef KERNEL_BTF
	*there = find_unfinished(skb, u);
	/* The sums of SCTP are others. */
	return *there && (p->proto == IPPROTO_SCTP_ || u->at > INNER_MAX) ? NAT64_DROP_OFFLOAD : NAT64_PASS;
#else
	int at = csum_at(p->proto);

	u->start = l3_off() + sizeof(struct header6);
	u->at = u->start + at;
	TRY(is_csum_partial(skb, at < 0 ? u->start : u->at, there));
	return *there && (at < 0 || p->offloads & INNER_CSUM) ? NAT64_DROP_OFFLOAD : NAT64_PASS;
#endif
}

/* Completes a checksum that was left to the network card, which would compute it for each piece. */
static __noinline int finish_csum(struct __sk_buff *skb, const struct pkt *p)
{
	__u32 saved_at = l3_off() + IP6_HEADER, n;
	__u8 *saved = only_value(&scratch); /* the stack is full */
	struct unfinished u = {};
	bool there = false;
	__u16 sum;
	int s;

	if (!saved)
		return NAT64_DROP_NO_MEMORY;
	if (p->frag_off || p->more)
		return NAT64_PASS;
	TRY(see_unfinished(skb, p, &u, &there));
	if (!there)
		return NAT64_PASS;
	s = range_sum(skb, u.start, saved_at + FRAG_HEADER + p->l4_len - u.start);
	if (s < 0)
		return NAT64_DROP_TRUNCATED;
	sum = ~s;
	if (!sum && u.at - u.start == 6) /* of UDP: see zero_is_none */
		sum = 0xffff;
	TRY(pkt_store(skb, u.at, &sum, 2));
	n = pkt_bounded((u.start & ~7U) + 8, SCRATCH / 2) + 8;
	TRY(pkt_load(skb, saved_at, saved, n));
	TRY(forget_csum(skb, n));
	return pkt_store(skb, saved_at, saved, n);
}

/* Makes the packet a piece: `len` bytes of its payload stay, from `off` on. The end is cut off first, since how much the
 * kernel lets be cut off there depends on the headers at the beginning. */
static __noinline int take_piece(struct __sk_buff *skb, __u32 off, __u32 len, bool last, struct hop *hop)
{
	__u32 l3 = l3_off(), end = l3 + sizeof(struct header6) + off + len, i, left = off, n;
	__be16 payload_len = bpf_htons(FRAG_HEADER + len);
	struct frag_header f;

	TRY(pkt_load(skb, l3 + IP6_HEADER, &f, sizeof(f)));
	if (end < skb->len && bpf_skb_change_tail(skb, end, 0))
		hop->stack = 1; /* nor does the kernel for packets of tunnels: the IPv6 stack will */
	for (i = 0; i < 65536 / ADJUST_MAX + 1 && left; i++) {
		n = left < ADJUST_MAX ? left : ADJUST_MAX;
		TRY(pkt_adjust(skb, -(__s32)n));
		left -= n;
	}
	f.off = bpf_htons((bpf_ntohs(f.off) + off) | (last ? 0 : 1));
	TRY(pkt_store(skb, l3 + 4, &payload_len, 2));
	return pkt_store(skb, l3 + IP6_HEADER, &f, sizeof(f));
}

/* The nested run for a clone: makes it a piece and sends it. Nothing is counted but a drop, since the whole packet is. */
static __always_inline int send_piece(struct __sk_buff *skb)
{
	struct piece *c = only_value(&piece);
	int verdict;
	__s8 act;

	if (!c || !c->waiting)
		return TC_ACT_UNSPEC; /* somebody else's mark */
	c->waiting = 0;
	skb->mark = c->mark;
	verdict = take_piece(skb, c->off, c->len, false, &c->hop);
	if (verdict == NAT64_PASS)
		verdict = send_to(skb, &c->hop, &act);
	if (verdict == NAT64_PASS)
		return act;
	count(NAT64_4TO6, verdict, 0);
	return TC_ACT_SHOT;
}

/* Sends `skb` in pieces with p->cut bytes of payload, all but the last, which `skb` becomes. Its checksum is finished. */
static __noinline int cut(struct __sk_buff *skb, const struct pkt *p, struct hop *hop)
{
	__u32 mark = skb->mark, size = p->cut, off = 0, i;
	struct piece *c = only_value(&piece);

	if (!c)
		return NAT64_DROP_NO_MEMORY;
	for (i = 0; i < PIECES_MAX && p->l4_len - off > size; i++) {
		c->off = off;
		c->len = size;
		c->mark = mark;
		c->hop = *hop;
		c->waiting = 1;
		skb->mark = PIECE_MARK;
		if (bpf_clone_redirect(skb, cfg.ifindex, 0) < 0 || c->waiting) {
			c->waiting = 0;
			return NAT64_DROP_NO_MEMORY;
		}
		off += size;
	}
	skb->mark = mark;
	return take_piece(skb, off, p->l4_len - off, !p->more, hop);
}

/* Sends a packet on the way that find_way() found, in pieces if it is to be cut. */
__noinline int send_with_care(struct __sk_buff *skb)
{
	struct pkt *p = stage_pkt();
	struct sending *s = only_value(&sending);

	if (!p || !s)
		return NAT64_DROP_NO_MEMORY;
	if (p->cut) {
		TRY(finish_csum(skb, p));
		TRY(cut(skb, p, &s->hop));
	} else if (s->direct && send_straight(skb, p, s->to, &p->act)) {
		return NAT64_PASS;
	}
	return send_to(skb, &s->hop, &p->act);
}

#endif
