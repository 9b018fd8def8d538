// SPDX-License-Identifier: GPL-2.0-only
/* flood.bpf.c - the benchmark's generator of frames (XDP under BPF_PROG_TEST_RUN, live frames), its sinks, what the kernel's
 * own part of a translation takes (tc), and what there is to gain (XDP) */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "flood.h"

const volatile struct flood_config cfg;

__u64 sent, due;		/* frames; when the next one is due */
__u64 stamps[STAMPS], n_stamps; /* when sent was a multiple of cfg.slice */
__u64 first, next;		/* the first stamp; the value of sent that asks for the next one */
__u32 host;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flood_arrived);
} arrived SEC(".maps");

/* RFC 1624: a one's complement checksum after 32 bits of what it covers have changed. */
static __always_inline __u16 updated(__u16 checksum, __u32 from, __u32 to)
{
	__u32 sum = (__u16)~checksum;

	sum += (__u16)~from + (__u16) ~(from >> 16) + (__u16)to + (to >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline bool is_due(void)
{
	__u64 now = bpf_ktime_get_ns();

	if (!due)
		due = now;
	if (now < due)
		return false;
	if (now - due > cfg.burst)
		due = now;
	due += cfg.gap;
	return true;
}

SEC("xdp")
int flood(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const volatile __u32 *from = (const volatile __u32 *)cfg.frame;
	__u32 *to = data, old, new, n = cfg.len, at = cfg.word_at &(FRAME_MAX - 4);
	__u16 *checksum;

	if (data + n > end || n > LENGTH_MAX || (cfg.gap && !is_due()))
		return XDP_DROP; /* what is dropped here is no frame that was sent */
				 /* All headers each time: pages are used again, and the stack has written to them. */
#pragma unroll
	for (__u32 i = 0; i < FRAME_MAX / 4; i++)
		if (i * 4 + 4 <= n && (void *)(to + i + 1) <= end)
			to[i] = from[i];
	if (cfg.hosts > 1) {
		to = data + at + 2; /* addresses are at 2 more than a multiple of 4: the Ethernet header is 14 bytes */
		if ((void *)(to + 1) > end)
			return XDP_DROP;
		old = *to;
		*to = new = bpf_htonl(bpf_ntohl(old) + host);
		host += cfg.step;
		if (host >= cfg.hosts)
			host -= cfg.hosts;
		if (cfg.ip_checksum_at) {
			checksum = data + (cfg.ip_checksum_at & (FRAME_MAX - 2));
			if ((void *)(checksum + 1) > end)
				return XDP_DROP;
			*checksum = updated(*checksum, old, new);
		}
		checksum = data + (cfg.udp_checksum_at & (FRAME_MAX - 2));
		if ((void *)(checksum + 1) > end)
			return XDP_DROP;
		*checksum = updated(*checksum, old, new);
		if (!*checksum)
			*checksum = 0xffff;
	}
	if (sent == next) {
		__u64 now = bpf_ktime_get_ns();

		if (!first)
			first = now;
		stamps[n_stamps++ & (STAMPS - 1)] = now;
		next += cfg.slice;
	}
	sent++;
	return cfg.action;
}

/* Is it one of the generator's packets, IPv4 or IPv6? Then it is counted. */
static __always_inline bool arrives(void *data, void *end)
{
	struct ethhdr *eth = data;
	struct udphdr *udp;
	__u32 zero = 0;
	struct flood_arrived *a;

	if ((void *)(eth + 1) > end)
		return false;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);

		udp = (void *)(ip + 1);
		if ((void *)(udp + 1) > end || ip->protocol != IPPROTO_UDP || ip->ihl != 5)
			return false;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);

		udp = (void *)(ip + 1);
		if ((void *)(udp + 1) > end || ip->nexthdr != IPPROTO_UDP)
			return false;
	} else {
		return false;
	}
	a = bpf_map_lookup_elem(&arrived, &zero);
	if (udp->dest != bpf_htons(FLOOD_PORT) || !a)
		return false;
	if (!(++a->count & 63))
		a->last = bpf_ktime_get_ns();
	return true;
}

SEC("tc")
int flood_sink(struct __sk_buff *skb)
{
	return arrives((void *)(long)skb->data, (void *)(long)skb->data_end) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("xdp")
int flood_xdp_sink(struct xdp_md *ctx)
{
	return arrives((void *)(long)ctx->data, (void *)(long)ctx->data_end) ? XDP_DROP : XDP_PASS;
}

/* Sends every frame on, with the MAC addresses of cfg.frame: no translator by XDP can be faster. */
SEC("xdp")
int flood_forward(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const volatile __u32 *from = (const volatile __u32 *)cfg.frame;
	__u32 *to = data;

	if (data + sizeof(struct ethhdr) > end)
		return XDP_PASS;
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	return bpf_redirect(cfg.to, 0);
}

/* Writes the headers of cfg.frame, of `len` bytes. False: the packet is shorter. */
static __always_inline bool put_headers(void *data, void *end, __u32 len)
{
	const volatile __u16 *header = (const volatile __u16 *)cfg.frame;
	__u16 *at = data;
	__u32 i;

	if (data + len > end)
		return false;
#pragma unroll
	for (i = 0; i < len / 2; i++)
		at[i] = header[i];
	return true;
}

/* How long headers are */
enum {
	FRAME4 = sizeof(struct ethhdr) + sizeof(struct iphdr),
	FRAME6 = sizeof(struct ethhdr) + sizeof(struct ipv6hdr),
};

/* What no translator by XDP does without: to make room, to write headers, and to send the frame on. cfg.frame is an IPv4 packet where
 * IPv6 comes, or IPv6 where IPv4 does; what is behind its headers does not matter. */
SEC("xdp")
int floor_xdp(struct xdp_md *ctx)
{
	const bool to4 = cfg.frame[sizeof(struct ethhdr)] >> 4 == 4;
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *data, *end;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end || eth->h_proto != bpf_htons(to4 ? ETH_P_IPV6 : ETH_P_IP))
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, to4 ? FRAME6 - FRAME4 : FRAME4 - FRAME6))
		return XDP_DROP;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (!(to4 ? put_headers(data, end, FRAME4) : put_headers(data, end, FRAME6)))
		return XDP_DROP;
	return bpf_redirect(cfg.to, 0);
}

/* What no translator by tc does without: to be called, to have the kernel change the protocol, and to write headers; on a device of
 * the translator's own also to give the packet back to the stack. The headers of cfg.frame take the place of what the
 * generator's packets have. */
static __always_inline int floor(struct __sk_buff *skb, __u16 from, __u16 to, __u32 old, __u32 new)
{
	if (skb->protocol != bpf_htons(from) || skb->len != old + FLOOD_UDP)
		return TC_ACT_UNSPEC;
	if (bpf_skb_change_proto(skb, bpf_htons(to), 0) ||
	    !put_headers((void *)(long)skb->data, (void *)(long)skb->data_end, new))
		return TC_ACT_SHOT;
	return cfg.again ? bpf_redirect(skb->ifindex, BPF_F_INGRESS) : TC_ACT_OK;
}

SEC("tc")
int floor_6to4(struct __sk_buff *skb)
{
	return floor(skb, ETH_P_IPV6, ETH_P_IP, FRAME6, FRAME4);
}

SEC("tc")
int floor_4to6(struct __sk_buff *skb)
{
	return floor(skb, ETH_P_IP, ETH_P_IPV6, FRAME4, FRAME6);
}

char LICENSE[] SEC("license") = "GPL";
