/* SPDX-License-Identifier: GPL-2.0-only */
/* trace.h - reports single packets to listeners: as they came, what became of them, as they left
 *
 * The beginning of a packet is copied when it arrives. When it leaves, it is reported to the listeners whose filters match. Filters
 * are compared with its addresses on both sides of the translation, also with those that a dropped packet would have got. */
#ifndef NAT64_TRACE_H
#define NAT64_TRACE_H

#include "l4.h"

PER_CPU(tracing, struct nat64_trace, 1);

/* May somebody be tracing? A lease that has run out counts until trace_in() has noticed that. */
static __always_inline bool is_traced(void)
{
	struct nat64_listen *l = listeners();

	return l && may_listen(l, NAT64_PACKETS);
}

static __always_inline struct nat64_trace *traced(void)
{
	return only_value(&tracing);
}

/* The beginning of the packet from the IP header on, `max` bytes at most; returns how many. */
static __always_inline __u32 trace_copy(struct __sk_buff *skb, __u8 *to, __u32 max)
{
	__u32 len = skb->len - l3_off();

	len = pkt_bounded(len < max ? len : max, max);
	return bpf_skb_load_bytes(skb, l3_off(), to, len) ? 0 : len;
}

/* Keeps the beginning of a packet of ours as it came, if somebody is tracing. */
__noinline int trace_in(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct nat64_listen *l = listeners();
	struct nat64_trace *t = traced();

	if (!l || !t)
		return 0;
	t->time = 0;
	if (!is_listening(l, NAT64_PACKETS, now))
		return 0;
	t->in_len = trace_copy(skb, t->in, sizeof(t->in));
	t->segments = skb->gso_segs;
	t->time = now;
	return 0;
}

/* The IPv6 host that the address `v4` is mapped to, even if that has expired; all zero: none. */
static __always_inline void host_of(__be32 v4, union nat64_v6 *v6)
{
	__u32 index = bpf_ntohl(v4 & ~cfg.v4_mask);
	struct nat64_mapping *m = bpf_map_lookup_elem(&mappings, &index);
	__u64 tick;

	if (!m || !in_pool(v4) || !read_owner(m, v6, &tick))
		v6->d[0] = v6->d[1] = 0;
	if (cfg.has_static && !(v6->d[0] | v6->d[1]))
		static_v6(v4, v6);
}

/* Fills in the addresses of the IPv6 host and of its peer, each in both families: from the packet as it came, as it leaves,
 * and from the mappings. */
static __always_inline void trace_addresses(struct nat64_trace *t)
{
	const struct ipv6hdr *in6 = (const void *)t->in, *out6 = (const void *)t->out;
	const struct iphdr *in4 = (const void *)t->in, *out4 = (const void *)t->out;

	if (t->way == NAT64_6TO4) {
		__builtin_memcpy(&t->host6, &in6->saddr, sizeof(t->host6));
		__builtin_memcpy(&t->peer6, &in6->daddr, sizeof(t->peer6));
		t->peer4 = v4_of(&t->peer6);
		if (t->verdict == NAT64_PASS)
			t->host4 = out4->saddr;
		else if (known_address_for(&t->host6, &t->host4) != NAT64_PASS)
			t->host4 = 0;
		return;
	}
	t->host4 = in4->daddr;
	t->peer4 = in4->saddr;
	v6_of(t->peer4, &t->peer6);
	if (t->verdict == NAT64_PASS)
		__builtin_memcpy(&t->host6, &out6->daddr, sizeof(t->host6));
	else
		host_of(t->host4, &t->host6);
}

static __always_inline bool v6_matches(const union nat64_v6 *a, const struct nat64_filter *f)
{
	return !(((a->d[0] ^ f->v6.d[0]) & f->v6_mask.d[0]) | ((a->d[1] ^ f->v6.d[1]) & f->v6_mask.d[1]));
}

static __always_inline bool v4_matches(__be32 a, const struct nat64_filter *f)
{
	return !((a ^ f->v4) & f->v4_mask);
}

/* May somebody be tracing `p`, as far as its addresses tell, all of which are known? For those that leave what is traced to
 * others. */
static __noinline bool is_traced_pair(const struct pkt *p)
{
	struct nat64_listen *l = listeners();
	__u64 now;

	if (!l || !may_listen(l, NAT64_PACKETS))
		return false;
	now = bpf_ktime_get_boot_ns();
	if (!is_listening(l, NAT64_PACKETS, now))
		return false;
#pragma unroll
	for (__u32 i = 0; i < NAT64_LISTENERS; i++) {
		const struct nat64_filter *f = &l->filter[i];

		if (!is_held(&l->lease[NAT64_PACKETS][i], now))
			continue;
		if (f->family == 6 ? v6_matches(&p->saddr6, f) || v6_matches(&p->daddr6, f)
				   : f->family != 4 || v4_matches(p->saddr4, f) || v4_matches(p->daddr4, f))
			return true;
	}
	return false;
}

static __always_inline bool has_ports(__u8 proto)
{
	return csum_at(proto) >= 0 || proto == 132 /* SCTP */;
}

/* Does it not match the protocol and port of the filter? False also if that cannot be told here. */
static __always_inline bool is_other_flow(const struct nat64_trace *t, const struct nat64_filter *f)
{
	const struct ipv6hdr *in6 = (const void *)t->in;
	const struct iphdr *in4 = (const void *)t->in;
	const __be16 *ports;
	__u32 at = IP6_HEADER;
	__u8 proto;

	if (!f->proto && !f->port)
		return false;
	proto = t->way == NAT64_6TO4 ? in6->nexthdr : in4->protocol;
	if (t->way == NAT64_6TO4 && is_ext_header(proto))
		return false;
	if (proto == IPPROTO_ICMPV6)
		proto = IPPROTO_ICMP;
	if (f->proto && proto != f->proto)
		return true;
	if (!f->port)
		return false;
	if (t->way == NAT64_4TO6)
		at = (t->in[0] & 0xf) * 4;
	if (!has_ports(proto) || (t->way == NAT64_4TO6 && in4->frag_off & bpf_htons(0x1fff)))
		return true;
	ports = (const void *)t->in + (at & 0x3c);
	return ports[0] != f->port && ports[1] != f->port;
}

static __always_inline bool is_wanted(const struct nat64_trace *t, const struct nat64_filter *f)
{
	if (f->family == 6 && !v6_matches(&t->host6, f) && !v6_matches(&t->peer6, f))
		return false;
	if (f->family == 4 && !v4_matches(t->host4, f) && !v4_matches(t->peer4, f))
		return false;
	return !is_other_flow(t, f);
}

/* Completes the record of a packet that trace_in() has kept, and gives it to the listeners whose filters it matches. */
__noinline int trace_out(struct __sk_buff *skb, int way, int verdict, int cut, int answer)
{
	struct nat64_listen *l = listeners();
	struct nat64_trace *t = traced();

	if (!l || !t || !t->time || !t->in_len)
		return 0;
	t->way = way;
	t->verdict = verdict;
	t->answered = answer;
	t->cut = verdict == NAT64_PASS ? cut : 0;
	t->out_len = verdict == NAT64_PASS || answer ? trace_copy(skb, t->out, sizeof(t->out)) : 0;
	trace_addresses(t);
#pragma unroll
	for (__u32 i = 0; i < NAT64_LISTENERS; i++) {
		struct nat64_lease *lease = &l->lease[NAT64_PACKETS][i];

		if (is_held(lease, t->time) && is_wanted(t, &l->filter[i]))
			put(&packets, i, lease, t, sizeof(*t));
	}
	t->time = 0;
	return 0;
}

#endif
