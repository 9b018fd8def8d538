/* SPDX-License-Identifier: GPL-2.0-only */
/* apart.h - splits a super-packet of a tunnel that cannot be translated as a whole into its segments (see_super_packet)
 *
 * For every segment but the last the kernel sends a clone of the packet through our interface: nat64_4to6 runs nested for
 * the clone, sees SEGMENT_MARK, finds in the per-CPU `super` which segment to keep, and has it arrive again where the
 * super-packet arrived, as an ordinary packet. The super-packet itself becomes the last segment, and goes the same way. So each
 * segment is translated, fragmented and counted by itself. What is segmented is the innermost TCP or UDP. The headers in front of
 * it that have a length are the outer IP, perhaps UDP, and the inner IP header: the kernel puts no more than one tunnel into a
 * super-packet.
 *
 * An unfinished checksum stays one: it is that of the segment then. What is behind the segment stays, too, since
 * bpf_skb_change_tail refuses packets of tunnels: the IP stack trims the packet to the length in its header when it gets
 * it next. Hence IPv6 segments go by the stack (send_with_care).
 */
#ifndef NAT64_APART_H
#define NAT64_APART_H

#include "frag.h"

#define SEGMENT_MARK 0x6e363473
#define SEGMENTS_MAX 512

#ifdef KERNEL_BTF

struct super {
	__u32 waiting; /* 1: a nested run is to take a segment */
	__u32 mark;    /* the packet's own mark */
	__u32 udp;     /* offset of the outer UDP header, or 0; this and others are from skb->data on */
	__u32 inner;   /* of the IP header of what is segmented */
	__u32 l4;      /* of its transport header */
	__u32 payload; /* of its payload */
	__u32 end;     /* of the packet */
	__u32 check;   /* of its checksum: of TCP, or of UDP */
	__u32 size;    /* of a segment, bytes of payload */
	__u32 number;  /* the segment that is to be taken, */
	__u32 off;     /* its place in the payload, */
	__u32 len;     /* and length */
};

PER_CPU(super, struct super, 1);

/* Writes a word of the IPv4 header at `l3`, and what that makes of its checksum. */
static __always_inline int put_word4(struct __sk_buff *skb, __u32 l3, __u32 at, __be16 old, __be16 new)
{
	if (bpf_l3_csum_replace(skb, l3 + offsetof(struct iphdr, check), (__force __u16)old, (__force __u16) new, 2))
		return NAT64_DROP_NO_MEMORY;
	return pkt_store(skb, l3 + at, &new, sizeof(new));
}

/* The IP header at `l3` is that of segment `number`, which ends at `end`. */
static __always_inline int put_ip(struct __sk_buff *skb, __u32 l3, __u32 end, __u32 number)
{
	struct iphdr h;
	__be16 len;

	TRY(pkt_load(skb, l3, &h, sizeof(h)));
	if (h.version == 4) {
		TRY(put_word4(skb, l3, offsetof(struct iphdr, tot_len), h.tot_len, bpf_htons(end - l3)));
		return put_word4(skb, l3, offsetof(struct iphdr, id), h.id, bpf_htons(bpf_ntohs(h.id) + number));
	}
	len = bpf_htons(end - l3 - IP6_HEADER);
	return pkt_store(skb, l3 + offsetof(struct ipv6hdr, payload_len), &len, sizeof(len));
}

/* The same for the transport header, whose checksum field has the sum of the pseudo-header. */
static __always_inline int put_transport(struct __sk_buff *skb, const struct super *s, bool last)
{
	__u32 len = s->payload - s->l4 + s->len;
	__be16 be_len = bpf_htons(len);
	__sum16 check;
	__be32 seq;
	__u8 flags;

	TRY(pkt_load(skb, s->check, &check, sizeof(check)));
	check = (__force __sum16)csum_fold16(
		csum_sub(csum_field(check) + csum_16(be_len), csum_16(bpf_htons(s->end - s->l4))));
	TRY(pkt_store(skb, s->check, &check, sizeof(check)));
	if (s->check - s->l4 == 6)
		return pkt_store(skb, s->l4 + 4, &be_len, sizeof(be_len));
	TRY(pkt_load(skb, s->l4 + 4, &seq, sizeof(seq)));
	TRY(pkt_load(skb, s->l4 + 13, &flags, sizeof(flags)));
	seq = bpf_htonl(bpf_ntohl(seq) + s->off);
	if (!last)
		flags &= ~0x09; /* FIN, PSH */
	if (s->off)
		flags &= ~0x80; /* CWR, RFC 3168 section 6.1.2 */
	TRY(pkt_store(skb, s->l4 + 4, &seq, sizeof(seq)));
	return pkt_store(skb, s->l4 + 13, &flags, sizeof(flags));
}

/* Moves `len` bytes forward. A global function, see range_sum. */
__noinline int move_bytes(struct __sk_buff *skb, __u32 to, __u32 from, __u32 len)
{
	__u32 i;
	__u8 *b = only_value(&scratch);

	if (!b)
		return NAT64_DROP_NO_MEMORY;
	for (i = 0; i < 65536 / PIECE && len >= PIECE; i++) {
		TRY(pkt_load(skb, from, b, PIECE));
		TRY(pkt_store(skb, to, b, PIECE));
		from += PIECE;
		to += PIECE;
		len -= PIECE;
	}
	if (!len)
		return NAT64_PASS;
	len = pkt_bounded(len, PIECE);
	TRY(pkt_load(skb, from, b, len));
	return pkt_store(skb, to, b, len);
}

/* Makes the packet the segment that `super` tells of, and something behind it. */
__noinline int take_segment(struct __sk_buff *skb)
{
	__u32 end;
	struct super *s = only_value(&super);
	__be16 len;

	if (!s)
		return NAT64_DROP_NO_MEMORY;
	if (s->off)
		TRY(move_bytes(skb, s->payload, s->payload + s->off, s->len));
	end = s->payload + s->len;
	TRY(put_ip(skb, l3_off(), end, s->number));
	TRY(put_ip(skb, s->inner, end, s->number));
	TRY(put_transport(skb, s, s->payload + s->off + s->len == s->end));
	if (!s->udp)
		return NAT64_PASS;
	len = bpf_htons(end - s->udp);
	return pkt_store(skb, s->udp + 4, &len, sizeof(len));
}

/* Where everything is in the super-packet. */
static __always_inline int measure(struct __sk_buff *skb, const struct pkt *p, struct super *s)
{
	const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
	struct unfinished u;
	struct iphdr h;

	s->inner = l3_off() + k->inner_network_header - k->network_header;
	if (!find_unfinished(skb, &u))
		return NAT64_DROP_OFFLOAD;
	s->udp = p->proto == IPPROTO_UDP ? p->l4_off : 0;
	s->l4 = u.start;
	s->check = u.at;
	s->payload = payload_off(skb, p, p->l4_off);
	s->end = l3_off() + p->ip_len;
	s->size = skb->gso_size;
	if (s->inner < p->l4_off || s->l4 < s->inner + IP4_HEADER || s->l4 > INNER_MAX || s->payload >= s->end ||
	    (s->check - s->l4 != 16 && s->check - s->l4 != 6) || s->end - s->payload > s->size * SEGMENTS_MAX ||
	    (!s->udp && s->inner != p->l4_off))
		return NAT64_DROP_OFFLOAD;
	TRY(pkt_load(skb, s->inner, &h, sizeof(h)));
	return h.version == 4 || (h.version == 6 && s->l4 >= s->inner + IP6_HEADER) ? NAT64_PASS : NAT64_DROP_OFFLOAD;
}

static __always_inline bool is_ipv6(const struct __sk_buff *skb)
{
	return eth_proto(skb) == bpf_htons(ETH_P_IPV6);
}

/* Lets a segment come to the program that the whole came to. */
static __always_inline int send_segment(const struct __sk_buff *skb)
{
	return bpf_redirect(cfg.ifindex, is_ipv6(skb) ? BPF_F_INGRESS : 0);
}

/* Makes it a packet without segments for the kernel, which takes from their size what a packet grows by. */
static __always_inline int forget_segments(struct __sk_buff *skb)
{
	__u32 i, n;

	for (i = 0; i < 65536 / ADJUST_MAX + 1 && skb->gso_size; i++) {
		n = skb->gso_size < ADJUST_MAX ? skb->gso_size : ADJUST_MAX;
		if (bpf_skb_adjust_room(skb, n, BPF_ADJ_ROOM_NET, 0))
			return NAT64_DROP_OFFLOAD;
		TRY(pkt_adjust(skb, -(__s32)n));
	}
	return NAT64_PASS;
}

__noinline int take_apart(struct __sk_buff *skb)
{
	__u32 mark = skb->mark, i;
	struct super *s = only_value(&super);
	struct pkt *p = stage_pkt();

	if (!s || !p)
		return NAT64_DROP_NO_MEMORY;
	TRY(measure(skb, p, s));
	TRY(forget_segments(skb));
	s->mark = mark;
	s->number = s->off = 0;
	s->len = s->size;
	skb->mark = SEGMENT_MARK;
	for (i = 0; i < SEGMENTS_MAX && s->payload + s->off + s->size < s->end; i++) {
		s->waiting = 1;
		if (bpf_clone_redirect(skb, cfg.ifindex, 0) < 0 || s->waiting) {
			s->waiting = 0;
			return NAT64_DROP_NO_MEMORY;
		}
		s->number++;
		s->off += s->size;
	}
	skb->mark = mark;
	s->len = s->end - s->payload - s->off;
	TRY(take_segment(skb));
	p->act = send_segment(skb);
	return NAT64_PASS;
}

/* Is this the nested run for a clone? The mark alone may be somebody else's. */
static __always_inline bool is_clone(const struct __sk_buff *skb)
{
	struct super *s;

	if (skb->mark != SEGMENT_MARK)
		return false;
	s = only_value(&super);
	return s && s->waiting;
}

static __always_inline int take_clone(struct __sk_buff *skb)
{
	struct super *s = only_value(&super);
	int verdict;

	if (!s)
		return TC_ACT_SHOT;
	s->waiting = 0;
	skb->mark = s->mark;
	verdict = take_segment(skb);
	if (verdict == NAT64_PASS)
		return send_segment(skb);
	count(is_ipv6(skb) ? NAT64_6TO4 : NAT64_4TO6, verdict, 0);
	return TC_ACT_SHOT;
}

#else

static __always_inline int take_apart(struct __sk_buff *skb)
{
	(void)skb;
	return NAT64_DROP_OFFLOAD;
}

static __always_inline bool is_clone(const struct __sk_buff *skb)
{
	(void)skb;
	return false;
}

static __always_inline int take_clone(struct __sk_buff *skb)
{
	(void)skb;
	return TC_ACT_SHOT;
}

#endif

#endif
