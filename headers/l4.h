/* SPDX-License-Identifier: GPL-2.0-only */
/* l4.h - the transport header: its checksum (RFC 7915 sections 4.5 and 5.5), and ICMP queries (4.2 and 5.2) */
#ifndef NAT64_L4_H
#define NAT64_L4_H

#include "offload.h"

#define IPPROTO_IGMP_ 2
#define ICMP6_ECHO    128
#define ICMP6_REPLY   129
#define ICMP4_ECHO    8
#define ICMP4_REPLY   0

/* Where the checksum that covers the addresses is in a transport header, or -1 if `proto` has none. */
static __always_inline int csum_at(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return 16;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
		return 6;
	default:
		return -1;
	}
}

/* A sum that comes out as 0 is sent as 0xffff where 0 means that there is none. */
static __always_inline bool zero_is_none(__u8 proto)
{
	return proto == IPPROTO_UDP || proto == IPPROTO_UDPLITE;
}

/* RFC 1812 section 4.3.2.7. Those of ICMPv6 are below 128. */
static __always_inline bool is_icmp4_error(__u8 type)
{
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

static __always_inline csum_t icmp_type_sum(__u8 type, __u8 code)
{
	return csum_16(bpf_htons(type << 8 | code));
}

/* The fixed part of a transport header must be there if we know the protocol, since we change its checksum. */
static __always_inline int check_l4_header(const struct pkt *p)
{
	__u32 least = 0;

	switch (p->proto) {
	case IPPROTO_TCP:
		least = 20;
		break;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		least = 8;
		break;
	case IPPROTO_DCCP:
		least = 12;
	}
	if (p->frag_off || p->l4_len >= least)
		return NAT64_PASS;
	return p->frag ? NAT64_DROP_FRAG_BAD : NAT64_DROP_TRUNCATED;
}

/* Reads the type of an ICMP message. A fragment of one cannot be translated: the checksum of ICMPv6 covers the length of the
 * whole message, that of ICMP does not, and no fragment tells that length. */
static __always_inline int load_icmp_type(struct __sk_buff *skb, struct pkt *p)
{
	__u8 type;

	if (p->frag)
		return NAT64_DROP_FRAG_ICMP;
	if (p->l4_len < sizeof(struct icmp))
		return NAT64_DROP_TRUNCATED;
	TRY(pkt_load(skb, p->l4_off, &type, sizeof(type)));
	p->icmp_type = type;
	return NAT64_PASS;
}

/* Drops protocols that are not translated, impossible fragments, and transport headers that are cut short. */
static __always_inline int check_l4_6(struct __sk_buff *skb, struct pkt *p)
{
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_IGMP_)
		return NAT64_DROP_PROTOCOL;
	TRY(check_fragment(p));
	if (p->l4_len > L4_MAX) {
		p->rest = 65535; /* which fits, whatever headers there are */
		return NAT64_DROP_TOO_BIG;
	}
	if (p->proto != IPPROTO_ICMPV6)
		return check_l4_header(p);
	TRY(load_icmp_type(skb, p));
	p->icmp_error = p->icmp_type < 128;
	return NAT64_PASS;
}

/* The same for IPv4. What would be an extension header in IPv6 is no transport protocol. */
static __always_inline int check_l4_4(struct __sk_buff *skb, struct pkt *p)
{
	if (p->proto == IPPROTO_ICMPV6 || p->proto == IPPROTO_IGMP_ || is_ext_header(p->proto))
		return NAT64_DROP_PROTOCOL;
	TRY(check_fragment(p));
	if (p->proto != IPPROTO_ICMP)
		return check_l4_header(p);
	TRY(load_icmp_type(skb, p));
	p->icmp_error = is_icmp4_error(p->icmp_type);
	return NAT64_PASS;
}

/* Changes the type of an ICMP query to `type`, and its checksum by that and by `diff`. */
static __always_inline int icmp_query(struct __sk_buff *skb, const struct pkt *p, __u8 type, csum_t diff)
{
	diff += csum_sub(icmp_type_sum(type, 0), icmp_type_sum(p->icmp_type, 0));
	TRY(csum_update(skb, p->l4_off + 2, diff, 0));
	return pkt_store(skb, p->l4_off, &type, 1);
}

/* The checksum `check` of a transport header after a change by `diff`. If there is none, there is none. */
static __always_inline __sum16 check_changed(__sum16 check, __u8 proto, csum_t diff)
{
	if (!zero_is_none(proto))
		return csum_changed(check, diff);
	if (!check)
		return check;
	check = csum_changed(check, diff);
	return check ? check : (__force __sum16)0xffff;
}

/* The checksum of a transport header whose addresses change by `diff`. `ip_header`: the length of the fixed IP header. */
static __always_inline int transport_csum(struct __sk_buff *skb, const struct pkt *p, __u32 ip_header, csum_t diff)
{
	int at = csum_at(p->proto);
	__sum16 copy, *check;

	if (at < 0 || p->frag_off)
		return NAT64_PASS;
	if (p->offloads & KERNEL_CSUM && !(p->offloads & INNER_CSUM))
		return csum_update(skb, p->l4_off + at, diff, zero_is_none(p->proto) ? BPF_F_MARK_MANGLED_0 : 0);
	check = p->offloads & KERNEL_CSUM || p->ext_len ? NULL : pkt_at(skb, l3_off() + ip_header + at, sizeof(*check));
	if (check) {
		*check = check_changed(*check, p->proto, diff);
		return NAT64_PASS;
	}
	TRY(pkt_load(skb, p->l4_off + at, &copy, sizeof(copy)));
	copy = check_changed(copy, p->proto, diff);
	return pkt_store(skb, p->l4_off + at, &copy, sizeof(copy));
}

/* 6→4. */
static __always_inline int transport64(struct __sk_buff *skb, const struct pkt *p)
{
	csum_t v6 = csum_v6(&p->saddr6) + csum_v6(&p->daddr6);

	if (p->proto == IPPROTO_ICMPV6)
		return icmp_query(skb, p, p->icmp_type == ICMP6_ECHO ? ICMP4_ECHO : ICMP4_REPLY,
				  csum_sub(0, v6 + csum_pseudo(p->l4_len, IPPROTO_ICMPV6)));
	return transport_csum(skb, p, IP6_HEADER, csum_sub(csum_32(p->saddr4) + csum_32(p->daddr4), v6));
}

/* A UDP packet without a checksum gets one: IPv6 does not go without (RFC 8200 section 8.1). That of a packet in
 * parts cannot be computed. `len`: the UDP length. */
static __noinline int udp_csum46(struct __sk_buff *skb, const struct pkt *p, __u32 len, csum_t v6)
{
	__u32 finished;
	csum_t inner;
	__u16 sum;
	int rest;

	if (p->frag)
		return NAT64_DROP_FRAG_UDP0;
	if (len < 8 || len > p->l4_len)
		return NAT64_DROP_UDP_LENGTH;
	TRY(see_inner_csum(skb, p, &finished, &inner));
	rest = range_sum(skb, p->l4_off, finished ? finished : len);
	if (rest < 0)
		return NAT64_DROP_TRUNCATED;
	sum = ~csum_fold16(v6 + csum_pseudo(len, IPPROTO_UDP) + rest + inner);
	if (!sum)
		sum = 0xffff;
	return pkt_store(skb, p->l4_off + 6, &sum, 2);
}

/* 4→6. */
static __always_inline int transport46(struct __sk_buff *skb, const struct pkt *p)
{
	csum_t v6 = csum_v6(&p->saddr6) + csum_v6(&p->daddr6);
	struct udp_header {
		__be16 sport, dport, len;
		__sum16 check;
	} copy, *udp;

	if (p->proto == IPPROTO_ICMP)
		return icmp_query(skb, p, p->icmp_type == ICMP4_ECHO ? ICMP6_ECHO : ICMP6_REPLY,
				  v6 + csum_pseudo(p->l4_len, IPPROTO_ICMPV6));
	if (p->proto == IPPROTO_UDP && !p->frag_off) {
		udp = p->ext_len ? NULL : pkt_at(skb, l3_off() + IP4_HEADER, sizeof(*udp));
		if (!udp) {
			udp = &copy;
			TRY(pkt_load(skb, p->l4_off, udp, sizeof(*udp)));
		}
		if (!udp->check)
			return udp_csum46(skb, p, bpf_ntohs(udp->len), v6);
	}
	return transport_csum(skb, p, IP4_HEADER, csum_sub(v6, csum_32(p->saddr4) + csum_32(p->daddr4)));
}

#endif
