/* SPDX-License-Identifier: GPL-2.0-only */
/* offload.h - work that the kernel has put off: segmentation (GSO), and checksums (CHECKSUM_PARTIAL)
 *
 * In a plain TCP or UDP packet both are about its own transport header, and the kernel's helpers take care of them. In a tunnel
 * they are about an inner packet:
 *
 *	| IP | UDP | VXLAN | Ethernet | IP | TCP | payload of many segments
 *	       |                             +- csum_start: the checksum that is yet to be finished
 *	       +- complete, or none; of a super-packet: like an unfinished one, if there is one
 *
 * Only programs with BTF of the kernel can tell one from the other. What those without it cannot translate for that
 * reason they drop.
 */
#ifndef NAT64_OFFLOAD_H
#define NAT64_OFFLOAD_H

#include "parse.h"

#define IPPROTO_SCTP_ 132
#define INNER_MAX     1024 /* where the payload of an inner packet starts at the latest */

/* A checksum that is yet to be finished (CHECKSUM_PARTIAL): of which bytes, and where it is. */
struct unfinished {
	__u32 start, at; /* from skb->data on */
};

#ifdef KERNEL_BTF
/* False: there is none. */
static __always_inline bool find_unfinished(struct __sk_buff *skb, struct unfinished *u)
{
	const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);

	if (BPF_CORE_READ_BITFIELD(k, ip_summed) != 3)
		return false;
	u->start = l3_off() + k->csum_start - k->network_header;
	u->at = u->start + k->csum_offset;
	return true;
}
#endif

/* The same for programs that cannot look, by a trial: in a packet with such a checksum bpf_l4_csum_replace() changes
 * nothing, unless told that the pseudo-header has changed. Tried on two bytes at `off`, which are put back. */
static __always_inline int is_csum_partial(struct __sk_buff *skb, __u32 off, bool *partial)
{
	__sum16 before, after;

	TRY(pkt_load(skb, off, &before, 2));
	if (bpf_l4_csum_replace(skb, off, 0, 0x1234, 0))
		return NAT64_DROP_NO_MEMORY;
	TRY(pkt_load(skb, off, &after, 2));
	*partial = before == after;
	/* The helper took it that the sum of the packet (CHECKSUM_COMPLETE) stays the same: so must we. */
	return !*partial && bpf_skb_store_bytes(skb, off, &before, 2, 0) ? NAT64_DROP_NO_MEMORY : NAT64_PASS;
}

/* A super-packet has GSO types. One in a tunnel has that of the inner TCP, which bpf_skb_change_proto() would change as if
 * it were that of the outer header: hence TUNNEL. IP in IP has a type for its outer header, too, UDP one for its checksum,
 * if it has any, and IP in UDP (FOU, GUE) both. No helper changes those; left as they are, the kernel would drop the packet
 * or leave the checksum out: hence APART. */
static __always_inline int see_super_packet(struct __sk_buff *skb, __u32 l4_off, __u32 proto)
{
	__u32 apart = 0;
	__sum16 check = 0;

	if (proto == IPPROTO_TCP || proto == IPPROTO_SCTP_)
		return KERNEL_CSUM;
	if (proto == IPPROTO_UDP && bpf_skb_load_bytes(skb, l4_off + 6, &check, sizeof(check)))
		return ~NAT64_DROP_TRUNCATED;
#ifdef KERNEL_BTF
	const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);

	switch (proto) {
	case IPPROTO_UDP:
		if (!BPF_CORE_READ_BITFIELD(k, encapsulation))
			return KERNEL_CSUM;
		if (BPF_CORE_READ_BITFIELD(k, inner_protocol_type) || (!check && eth_proto(skb) == bpf_htons(ETH_P_IP)))
			apart = APART;
		break;
	case IPPROTO_GRE:
		break;
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
		apart = APART;
		break;
	default:
		return ~NAT64_DROP_OFFLOAD;
	}
	return apart && check ? ~NAT64_DROP_OFFLOAD : (int)(KERNEL_CSUM | TUNNEL | apart);
#else
	(void)apart;
	/* The kernel takes from the size of TCP segments what a packet grows by, and refuses it for UDP. */
	if (proto != IPPROTO_UDP || !bpf_skb_adjust_room(skb, 8, BPF_ADJ_ROOM_NET, 0))
		return ~NAT64_DROP_OFFLOAD;
	return check || eth_proto(skb) == bpf_htons(ETH_P_IPV6) ? KERNEL_CSUM : ~NAT64_DROP_OFFLOAD;
#endif
}

/* What the kernel has put off in a packet whose transport header is at `l4_off`: bits of enum offload, or ~ the reason to
 * drop it. `pseudo`: the sum of the pseudo-header. A global function, or the verifier would walk all that follows once for
 * each outcome. */
__noinline int look_at_offloads(struct __sk_buff *skb, __u32 l4_off, __u32 proto, __u32 pseudo)
{
#ifdef KERNEL_BTF
	struct unfinished u;
#endif
	__sum16 check;

	asm volatile("" : : "r"(pseudo)); /* or clang passes none where it is not needed */
	if (skb->gso_size)
		return see_super_packet(skb, l4_off, proto);
#ifdef KERNEL_BTF
	(void)check;
	return find_unfinished(skb, &u) && u.start != l4_off ? KERNEL_CSUM | INNER_CSUM : KERNEL_CSUM;
#else
	if (proto != IPPROTO_UDP)
		return KERNEL_CSUM;
	if (bpf_skb_load_bytes(skb, l4_off + 6, &check, sizeof(check)))
		return ~NAT64_DROP_TRUNCATED;
	/* A checksum that is to be finished is the sum of the pseudo-header. Others are complete. */
	return csum_field(check) == pseudo ? KERNEL_CSUM : KERNEL_CSUM | INNER_CSUM;
#endif
}

/* The same. `addresses`: the sum of those of the pseudo-header. */
static __always_inline int see_offloads(struct __sk_buff *skb, struct pkt *p, csum_t addresses)
{
	int seen = 0;

	if (skb->gso_size || has_kernel_csum(skb)) {
		seen = look_at_offloads(skb, p->l4_off, p->frag_off ? 0 : p->proto,
					csum_fold16(addresses + csum_pseudo(p->l4_len, p->proto)));
		if (seen < 0)
			return ~seen;
	}
	p->offloads = seen;
	return NAT64_PASS;
}

/* For a UDP packet that is to get a checksum: has it a packet inside whose own checksum is yet to be finished? Once that is
 * done, all bytes that it covers add up to the complement of what is in its checksum field now (the sum of the
 * pseudo-header). So the UDP checksum is that of the first `*finished` bytes, where those begin, and of `*inner` instead of
 * the rest. Both are 0 if there is none. */
static __always_inline int see_inner_csum(struct __sk_buff *skb, const struct pkt *p, __u32 *finished, csum_t *inner)
{
#ifdef KERNEL_BTF
	struct unfinished u;
	__sum16 pseudo;
#else
	bool partial;
#endif

	*finished = 0;
	*inner = 0;
	if (!(p->offloads & INNER_CSUM))
		return NAT64_PASS;
#ifdef KERNEL_BTF
	if (!find_unfinished(skb, &u) || u.start < p->l4_off || u.start - p->l4_off > INNER_MAX)
		return NAT64_DROP_OFFLOAD;
	TRY(pkt_load(skb, u.at, &pseudo, sizeof(pseudo)));
	*finished = u.start - p->l4_off;
	*inner = (__u16)~csum_field(pseudo);
	return NAT64_PASS;
#else
	TRY(is_csum_partial(skb, p->l4_off + 6, &partial));
	return partial ? NAT64_DROP_OFFLOAD : NAT64_PASS;
#endif
}

/* bpf_skb_change_proto() without a change of the GSO type. These flags are for taking an outer IP header off, and tell the
 * kernel which protocol is next; but they take any number of bytes, and we take off the difference of the two headers. Since
 * Linux 6.3. */
#define ROOM_DECAP_IP4 (1ULL << 7) /* BPF_F_ADJ_ROOM_DECAP_L3_IPV4, which the headers of this build may not have */
#define ROOM_DECAP_IP6 (1ULL << 8)

static __always_inline int tunnel_to4(struct __sk_buff *skb)
{
	return bpf_skb_adjust_room(skb, IP4_HEADER - IP6_HEADER, BPF_ADJ_ROOM_MAC,
				   BPF_F_ADJ_ROOM_FIXED_GSO | ROOM_DECAP_IP4)
		       ? NAT64_DROP_OFFLOAD
		       : NAT64_PASS;
}

static __always_inline int tunnel_to6(struct __sk_buff *skb)
{
	return bpf_skb_adjust_room(skb, IP6_HEADER - IP4_HEADER + 4, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) ||
			       bpf_skb_adjust_room(skb, -4, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | ROOM_DECAP_IP6)
		       ? NAT64_DROP_OFFLOAD
		       : NAT64_PASS;
}

/* Where the payload of what is segmented starts. `off`: the transport header. */
static __noinline __u32 payload_off(struct __sk_buff *skb, const struct pkt *p, __u32 off)
{
	bool tcp = p->proto == IPPROTO_TCP;
	__u8 doff;
#ifdef KERNEL_BTF
	struct unfinished u;

	if (p->offloads & TUNNEL && find_unfinished(skb, &u)) {
		off = u.start;
		tcp = u.at == u.start + 16;
	}
#endif
	if (!tcp)
		return off + 8;
	if (pkt_load(skb, off + 12, &doff, 1) != NAT64_PASS)
		doff = 0x50;
	return off + (doff >> 4) * 4;
}

#endif
