/* SPDX-License-Identifier: GPL-2.0-only */
/* pkt.h - reaching the bytes of a packet: the only place where bounds are checked */
#ifndef NAT64_PKT_H
#define NAT64_PKT_H

#include "csum.h"

#define ETH_P_IP    0x0800
#define ETH_P_IPV6  0x86dd
#define ETH_HEADER  14
#define IP4_HEADER  20
#define IP6_HEADER  40
#define FRAG_HEADER 8
#define ADJUST_MAX  4088 /* what one bpf_skb_adjust_room may add or remove, in units of 8 bytes */

/* Where the IP header starts. A constant once the program is loaded. */
static __always_inline __u32 l3_off(void)
{
	return cfg.l3 ? 0 : ETH_HEADER;
}

/* The protocol of the packet as the kernel has it: htons(ETH_P_IP), for example. */
static __always_inline __be16 eth_proto(const struct __sk_buff *skb)
{
	return (__force __be16)skb->protocol;
}

/* skb->data and skb->data_end. clang may keep a plain read of these 32-bit fields as a 32-bit value and spill it,
 * which the verifier refuses for a pointer: hence the asm. */
static __always_inline void *pkt_data(const struct __sk_buff *skb)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, data)));
	return p;
}

static __always_inline void *pkt_data_end(const struct __sk_buff *skb)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(p)
		     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, data_end)));
	return p;
}

/* A pointer to `len` bytes from `off` on (both constants), or NULL if the linear part has less. Dead after every
 * helper that changes the packet. */
static __always_inline void *pkt_at(const struct __sk_buff *skb, __u32 off, __u32 len)
{
	void *data = pkt_data(skb);

	return data + off + len <= pkt_data_end(skb) ? data + off : NULL;
}

/* The same for headers that may lie outside the linear part. */
static __always_inline void *pkt_pull(struct __sk_buff *skb, __u32 off, __u32 len)
{
	void *p = pkt_at(skb, off, len);

	if (p || bpf_skb_pull_data(skb, off + len))
		return p;
	return pkt_at(skb, off, len);
}

/* Copy bytes out of and into the packet, from any offset on. The verifier must know bounds of `len`. */
static __always_inline int pkt_load(const struct __sk_buff *skb, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes(skb, off, to, len) ? NAT64_DROP_TRUNCATED : NAT64_PASS;
}

static __always_inline int pkt_store(struct __sk_buff *skb, __u32 off, const void *from, __u32 len)
{
	return bpf_skb_store_bytes(skb, off, from, len, BPF_F_RECOMPUTE_CSUM) ? NAT64_DROP_NO_MEMORY : NAT64_PASS;
}

/* Writes a header into the linear part, where the kernel has just made room for it. Cheaper than pkt_store: two sums
 * instead of a copy by the kernel, and none of its checks. `off` and `len` are constants, multiples of 4 in size.
 * `kernel_csum`: see has_kernel_csum. */
static __always_inline int pkt_write(struct __sk_buff *skb, __u32 off, const void *from, __u32 len, bool kernel_csum)
{
	__u32 *to = pkt_at(skb, off, len), i;
	const __u32 *w = from;
	csum_t sum = 0;

	if (!to)
		return NAT64_DROP_NO_MEMORY;
	for (i = 0; i < len / 4; i++) {
		sum += (csum_t)w[i] + (__u32)~to[i];
		to[i] = w[i];
	}
	if (kernel_csum)
		bpf_csum_update(skb, (__force __wsum)csum_fold32(sum));
	return NAT64_PASS;
}

/* Writes the new protocol into the Ethernet header, if there is one. */
static __always_inline int pkt_write_proto(struct __sk_buff *skb, __be16 proto)
{
	__be16 *at;

	if (cfg.l3)
		return NAT64_PASS;
	at = pkt_at(skb, ETH_HEADER - sizeof(*at), sizeof(*at));
	if (!at)
		return NAT64_DROP_NO_MEMORY;
	*at = proto;
	return NAT64_PASS;
}

/* `len`, which is 1 to `max`, a power of two, in a way that the verifier of every kernel understands: that of 5.10
 * learns nothing from `len != 0`. */
static __always_inline __u32 pkt_bounded(__u32 len, __u32 max)
{
	len = (len - 1) & (max - 1);
	asm volatile("" : "+r"(len)); /* or clang simplifies it all away */
	return len + 1;
}

/* Removes (n < 0) or adds (n > 0) bytes between the fixed IP header and what follows. The kernel takes no more
 * than 4095 bytes a call; nobody here needs more. Segment sizes stay as they are. */
static __always_inline int pkt_adjust(struct __sk_buff *skb, __s32 n)
{
	if (!n)
		return NAT64_PASS;
	return bpf_skb_adjust_room(skb, n, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO) ? NAT64_DROP_NO_MEMORY
										       : NAT64_PASS;
}

/* Makes the kernel forget a checksum that it has left to the network card, and which starts within `n` bytes behind the fixed
 * IP header; what is in these bytes is lost. There is no helper for it, but the kernel does so when the place where the sum
 * starts is cut off: before 6.4 it looks before it cuts, so we cut twice. */
static __always_inline int forget_csum(struct __sk_buff *skb, __u32 n)
{
	TRY(pkt_adjust(skb, -(__s32)(n - 8)));
	TRY(pkt_adjust(skb, -8));
	return pkt_adjust(skb, n);
}

/* Cuts off what is behind the first `len` bytes. False: it stays, since bpf_skb_change_tail() refuses packets of tunnels. */
static __always_inline bool cut_end(struct __sk_buff *skb, __u32 len)
{
	return skb->len <= len || !bpf_skb_change_tail(skb, len, 0);
}

#define SCRATCH 2048
#define PIECE	8192 /* of what goes through it piece by piece */

/* Room for a piece of a packet, and 3 bytes to round it up. It is a function's own only until it returns or calls another
 * one that uses it: range_sum, move_bytes, make_room, finish_csum. */
PER_CPU(scratch, __u8[PIECE + 4], 1);

/* The folded sum of the first `len` bytes there, at most PIECE. The kernel takes 512 at a time. A global function, so that the
 * verifier walks the loop once and not for every caller, and it has no packet: see object_make_static. */
__noinline int piece_sum(__u32 len)
{
	__u32 i;
	__u8 *b = only_value(&scratch);
	csum_t sum = 0;

	if (!b)
		return 0;
	for (i = 0; i < PIECE / 512 && len >= 512; i++) {
		sum += (__u32)bpf_csum_diff(NULL, 0, (__be32 *)b, 512, 0);
		b += 512;
		len -= 512;
	}
	if (len && i < PIECE / 512) {
		len = pkt_bounded(len, 512);
		b[len] = b[len + 1] = b[len + 2] = 0;
		sum += (__u32)bpf_csum_diff(NULL, 0, (__be32 *)b, (len + 3) & ~3U, 0);
	}
	return csum_fold16(sum);
}

/* The folded sum of 1 to PIECE bytes from `off` on; negative if the packet has less. */
static __always_inline int short_sum(struct __sk_buff *skb, __u32 off, __u32 len)
{
	__u8 *b = only_value(&scratch);

	asm volatile("" : "+r"(len)); /* where clang knows that it is less, it would leave the bounds out */
	len = pkt_bounded(len, PIECE);
	if (!b || bpf_skb_load_bytes(skb, off, b, len))
		return -1;
	return (__u16)piece_sum(len);
}

/* The folded sum of `len` bytes (at most 65536) from `off` on, wherever they lie; negative if the packet has less. A
 * global function, too: such a function takes nothing but the context and numbers before 5.12. */
__noinline int range_sum(struct __sk_buff *skb, __u32 off, __u32 len)
{
	int rest;
	__u32 i;
	__u8 *b = only_value(&scratch);
	csum_t sum = 0;

	if (!b)
		return -1;
	for (i = 0; i < 65536 / PIECE && len >= PIECE; i++) {
		if (bpf_skb_load_bytes(skb, off, b, PIECE))
			return -1;
		sum += (__u16)piece_sum(PIECE);
		off += PIECE;
		len -= PIECE;
	}
	if (len) {
		rest = short_sum(skb, off, len);
		if (rest < 0)
			return -1;
		sum += rest;
	}
	return csum_fold16(sum);
}

#endif
