/* SPDX-License-Identifier: GPL-2.0-only */
/* xdp.h - --xdp: from interface to interface in the driver, before the kernel allocates an skb
 *
 *	nat64_xdp_6to4, interfaces of IPv6 hosts       translate_xdp64 -> where the IPv4 route leads
 *	nat64_xdp_4to6, interfaces that IPv4 comes by  translate_xdp46 -> the IPv6 host's interface
 *
 * Only the plainest packets go this way: TCP and UDP, no fragments, in one buffer, with nothing between the IP header and theirs; of a
 * host whose mapping needs no write; to a next hop that is resolved; out of an interface that takes frames from XDP. All other
 * packets pass unchanged to the programs at tc, and so do these if somebody may be tracing them. The programs at tc make mappings,
 * find next hops, send ICMP errors, fragment, and drop; only drops that nobody is told of are made here.
 */
#ifndef NAT64_XDP_H
#define NAT64_XDP_H

#include "fast.h"

/* Interfaces that frames may be sent to, by index: those that have one of these programs themselves. Drivers take none from
 * XDP, without a word, before that. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, NAT64_XDP_TARGETS);
	__type(key, __u32);
	__type(value, __u32);
} xdp_targets SEC(".maps");

/* What becomes of a frame. */
enum xdp_verdict {
	XDP_LEAVE, /* it goes on as it came */
	XDP_SEND,
	XDP_REFUSE,
};

/* The Ethernet header, with the MAC addresses as union mac has them. */
struct eth {
	__u16 to[3];
	__u16 from[3];
	__be16 proto;
};

/* The start and the end of the frame. For the asm see pkt_data. */
static __always_inline void *xdp_data(const struct xdp_md *ctx)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(ctx), "i"(__builtin_offsetof(struct xdp_md, data)));
	return p;
}

static __always_inline void *xdp_data_end(const struct xdp_md *ctx)
{
	void *p;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(p) : "r"(ctx), "i"(__builtin_offsetof(struct xdp_md, data_end)));
	return p;
}

static __always_inline __u32 xdp_len(const struct xdp_md *ctx)
{
	return xdp_data_end(ctx) - xdp_data(ctx);
}

/* As pkt_at. */
static __always_inline void *xdp_at(const struct xdp_md *ctx, __u32 off, __u32 len)
{
	void *data = xdp_data(ctx);

	return data + off + len <= xdp_data_end(ctx) ? data + off : NULL;
}

/* The IP header, `len` bytes of it, of a frame that is for the interface's own MAC address; or NULL. A frame with a VLAN tag
 * has another protocol: network cards are told to leave tags where they are. */
static __always_inline void *xdp_header(const struct xdp_md *ctx, __u16 eth_proto, __u32 len)
{
	const union mac own = { .all = cfg.mac };
	struct eth *eth = xdp_at(ctx, 0, ETH_HEADER + len);

	if (!eth || eth->proto != bpf_htons(eth_proto) || eth->to[0] != own.h[0] || eth->to[1] != own.h[1] ||
	    eth->to[2] != own.h[2])
		return NULL;
	return eth + 1;
}

static __always_inline void xdp_put_mac(__u16 *at, __u64 mac)
{
	const union mac m = { .all = mac };

	at[0] = m.h[0];
	at[1] = m.h[1];
	at[2] = m.h[2];
}

/* Writes a header into a frame that has been made room for it. */
static __always_inline void xdp_put(void *to, const void *from, __u32 len)
{
	__u32 *at = to;
	const __u32 *w = from;

	for (__u32 i = 0; i < len / 4; i++)
		at[i] = w[i];
}

/* Where the checksum is in the header of what goes this way. (The verifier of machines that cannot read across words wants to see
 * that there is one, not csum_at()'s -1.) */
static __always_inline __u32 xdp_csum_at(const struct pkt *p)
{
	return p->proto == IPPROTO_TCP ? 16 : 6;
}

/* The checksum field of the TCP or UDP header behind an IP header of `header` bytes; NULL: it is not there, or the sum is yet
 * to be made: by the kernel that has the frame, if the sender is on this machine (veth). Then the field has the sum of the
 * pseudo-header: so it may by chance, which costs the packet nothing but time. */
static __always_inline __sum16 *xdp_check(const struct xdp_md *ctx, const struct pkt *p, __u32 header, csum_t addresses)
{
	__sum16 *check = xdp_at(ctx, ETH_HEADER + header + xdp_csum_at(p), sizeof(*check));

	return check && csum_field(*check) != csum_fold16(addresses + csum_pseudo(p->l4_len, p->proto)) ? check : NULL;
}

static __always_inline bool xdp_is_target(__u32 ifindex)
{
	return bpf_redirect_map(&xdp_targets, ifindex, XDP_PASS) == XDP_REDIRECT;
}

/* Why a packet of a source without a mapping is dropped, if that is sure and nobody is to be told; NAT64_PASS: it is not. */
static __always_inline int xdp_refusal(const union nat64_v6 *v6)
{
	int verdict = check_source(v6);
	__u32 index;

	if (verdict == NAT64_PASS) {
		verdict = next_address(bpf_jiffies64(), &index);
		if (verdict != NAT64_DROP_POOL_FULL || may_tell_exhausted(false))
			return NAT64_PASS;
	}
	if (error_about64(verdict) != SILENT && may_answer(0, hash_of_v6(v6), false))
		return NAT64_PASS;
	return verdict;
}

static __always_inline enum xdp_verdict translate_xdp64(struct xdp_md *ctx, struct pkt *p, int *reason)
{
	const struct ipv6hdr *h = xdp_header(ctx, ETH_P_IPV6, sizeof(*h));
	const struct hop4 *hop;
	__u32 len = xdp_len(ctx);
	__sum16 *check, sum;
	struct iphdr new;
	struct found f;
	struct eth *eth;
	csum_t v6;

	if (!h || h->version != 6 || !in_nat64_prefix((const union nat64_v6 *)&h->daddr) || h->hop_limit <= 1 ||
	    (h->nexthdr != IPPROTO_TCP && h->nexthdr != IPPROTO_UDP) ||
	    len != ETH_HEADER + IP6_HEADER + (__u32)bpf_ntohs(h->payload_len) || xdp_has_frags(ctx, len) ||
	    xdp_has_ipsec_policy(ctx))
		return XDP_LEAVE;
	parse_header6(p, h, ETH_HEADER);
	if (check_l4_header(p) != NAT64_PASS || destination64(p) != NAT64_PASS)
		return XDP_LEAVE;
	if (!settled_address(&p->saddr6, bpf_jiffies64(), &p->saddr4, &f)) {
		*reason = f.m || is_traced() ? NAT64_PASS : xdp_refusal(&p->saddr6);
		return *reason == NAT64_PASS ? XDP_LEAVE : XDP_REFUSE;
	}
	if (is_traced() && is_traced_pair(p))
		return XDP_LEAVE;
	v6 = csum_v6(&p->saddr6) + csum_v6(&p->daddr6);
	check = xdp_check(ctx, p, IP6_HEADER, v6);
	if (!check)
		return XDP_LEAVE;
	sum = check_changed(*check, p->proto, csum_sub(csum_32(p->saddr4) + csum_32(p->daddr4), v6));
	p->wire = IP4_HEADER + p->l4_len;
	hop = hop4_of(ctx, p);
	if (!hop || !xdp_is_target(hop->ifindex) || bpf_xdp_adjust_head(ctx, IP6_HEADER - IP4_HEADER))
		return XDP_LEAVE;

	*reason = NAT64_DROP_NO_MEMORY;
	eth = xdp_at(ctx, 0, ETH_HEADER + sizeof(new));
	check = xdp_at(ctx, ETH_HEADER + sizeof(new) + xdp_csum_at(p), sizeof(*check));
	if (!eth || !check)
		return XDP_REFUSE;
	*check = sum;
	p->ttl--;
	header64(p, p->wire, &new);
	__builtin_memcpy(eth, hop->macs, sizeof(hop->macs));
	eth->proto = bpf_htons(ETH_P_IP);
	xdp_put(eth + 1, &new, sizeof(new));
	return XDP_SEND;
}

static __always_inline enum xdp_verdict translate_xdp46(struct xdp_md *ctx, struct pkt *p, int *reason)
{
	const struct iphdr *h = xdp_header(ctx, ETH_P_IP, sizeof(*h));
	const struct nat64_port *port;
	struct nat64_hop *hop = NULL;
	__u32 len = xdp_len(ctx);
	__sum16 *check, sum;
	struct header6 new;
	__u64 to, from;
	struct eth *eth;
	csum_t v4;

	if (!h || !is_ours4(h->daddr) || !is_plain4(h) || (h->protocol != IPPROTO_TCP && h->protocol != IPPROTO_UDP) ||
	    xdp_has_frags(ctx, len) || xdp_has_ipsec_policy(ctx))
		return XDP_LEAVE;
	if (parse4(p, h, ETH_HEADER, len - ETH_HEADER) != NAT64_PASS || check_l4_header(p) != NAT64_PASS ||
	    addresses46(p, &hop) != NAT64_PASS || (is_traced() && is_traced_pair(p)))
		return XDP_LEAVE;
	v4 = csum_32(p->saddr4) + csum_32(p->daddr4);
	check = xdp_check(ctx, p, IP4_HEADER, v4);
	if (!check || (!*check && p->proto == IPPROTO_UDP)) /* which is to get one */
		return XDP_LEAVE;
	sum = check_changed(*check, p->proto, csum_sub(csum_v6(&p->saddr6) + csum_v6(&p->daddr6), v4));
	port = frame_to(hop, &to, &from);
	if (!port || !fits_port(p, port) || !xdp_is_target(port->ifindex) ||
	    bpf_xdp_adjust_head(ctx, IP4_HEADER - IP6_HEADER))
		return XDP_LEAVE;

	*reason = NAT64_DROP_NO_MEMORY;
	/* Link padding has been in whatever memory the sender had, and is nobody else's. */
	if (len > ETH_HEADER + p->ip_len && bpf_xdp_adjust_tail(ctx, (int)(ETH_HEADER + p->ip_len - len)))
		return XDP_REFUSE;
	eth = xdp_at(ctx, 0, ETH_HEADER + IP6_HEADER);
	check = xdp_at(ctx, ETH_HEADER + IP6_HEADER + xdp_csum_at(p), sizeof(*check));
	if (!eth || !check)
		return XDP_REFUSE;
	*check = sum;
	p->ttl--;
	header46(p, &new);
	xdp_put_mac(eth->to, to);
	xdp_put_mac(eth->from, from);
	eth->proto = bpf_htons(ETH_P_IPV6);
	xdp_put(eth + 1, &new.ip, sizeof(new.ip));
	return XDP_SEND;
}

/* Counts what is not left to others. */
static __always_inline int xdp_finish(enum nat64_way way, enum xdp_verdict verdict, int reason, const struct pkt *p)
{
	if (verdict == XDP_LEAVE)
		return XDP_PASS;
	count(way, verdict == XDP_SEND ? NAT64_PASS : reason, p->ip_len);
	return verdict == XDP_SEND ? XDP_REDIRECT : XDP_DROP;
}

#endif
