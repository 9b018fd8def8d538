// SPDX-License-Identifier: GPL-2.0-only
/* nat64.bpf.c - the programs of the translator: two at tc, and those that go before them with --fast and --xdp
 *
 *	        IPv6 hosts
 *	            |
 *	+-----------+---------------- interface -----------------------------+
 *	|  ingress  v                                      egress  ^         |
 *	|  not to the NAT64 prefix -> pass    not to the pool -> pass        |
 *	|  - - - - - - - - ours from here: translate, or drop and count - - -|
 *	|  parse     headers up to the transport                 parse       |
 *	|  bind      source -> address of the pool               find owner  |
 *	|  translate checksum, ICMP, header                      translate   |
 *	|            |                                           fragment    |
 *	|            |                                           next hop    |
 *	+------------|---------------------------------------------^---------+
 *	             v           IPv4 stack of this machine        |
 *	          routing, firewall, NAT44, TTL, MTU -> other interfaces
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "nat64.h"

const volatile struct nat64_config cfg;

#include "headers/base.h"
#include "headers/verdict.h"
#include "headers/kernel.h"
#include "headers/csum.h"
#include "headers/pkt.h"
#include "headers/addr.h"
#include "headers/stack.h"
#include "headers/event.h"
#include "headers/state.h"
#include "headers/parse.h"
#include "headers/offload.h"
#include "headers/l4.h"
#include "headers/trace.h"
#include "headers/answer.h"
#include "headers/icmp.h"
#include "headers/xlat64.h"
#include "headers/xlat46.h"
#include "headers/out.h"
#include "headers/frag.h"
#include "headers/apart.h"
#include "headers/fast.h"
#include "headers/xdp.h"
#include "headers/edit.h"

/* The last thing done with a packet of ours. */
static __always_inline int finish(struct __sk_buff *skb, enum nat64_way way, int verdict, const struct pkt *p)
{
	int act;

	if (p->offloads & APART && verdict == NAT64_PASS)
		return p->act; /* its segments count */
	if (way != NAT64_6TO4 || !take_answer_mark(skb) || verdict != NAT64_PASS)
		count(way, verdict, p->ip_len);
	act = verdict == NAT64_PASS ? p->act : answer(skb, way, verdict, p);
	if (is_traced())
		trace_out(skb, way, verdict, way == NAT64_4TO6 ? p->cut : 0,
			  verdict != NAT64_PASS && act != TC_ACT_SHOT);
	return act;
}

/* Passes on a packet that is IPv4 now. */
static __always_inline int pass_on64(struct __sk_buff *skb, struct pkt *p)
{
	if (!carries_state(skb)) {
		if (cfg.device) /* what becomes of .tc_index when TC_ACT_OK is returned: see send_by_stack */
			skb->tc_classid = skb->tc_index;
		p->act = cfg.fast && !cfg.device ? send_fast64(skb, p) : TC_ACT_OK;
		if (!cfg.by_home || p->act != TC_ACT_OK)
			return NAT64_PASS;
	}
	if (cfg.by_home)
		return arrive_at_home(skb, &p->act);
	p->act = arrive_again(skb);
	return NAT64_PASS;
}

static __always_inline int translate_and_send64(struct __sk_buff *skb, struct pkt *p, const struct ipv6hdr *h)
{
	TRY(bind64(skb, p, h));
	if (p->offloads & APART)
		return run_stage(skb, p, take_apart);
	TRY(translate64(skb, p));
	return pass_on64(skb, p);
}

SEC("tc")
int nat64_6to4(struct __sk_buff *skb)
{
	const struct ipv6hdr *h;
	struct pkt p;

	see_arrival(skb);
	if (eth_proto(skb) != bpf_htons(ETH_P_IPV6) || !is_for_us(skb))
		return TC_ACT_UNSPEC;
	h = pkt_pull(skb, l3_off(), sizeof(*h));
	if (!h || h->version != 6 || !in_nat64_prefix((const union nat64_v6 *)&h->daddr))
		return is_ours_framed(skb) ? arrive_again(skb) : TC_ACT_UNSPEC;

	/* ---- ours from here: translate, or drop and count ---- */
	if (is_traced())
		trace_in(skb);
	pkt_begin(&p);
	return finish(skb, NAT64_6TO4, translate_and_send64(skb, &p, h), &p);
}

static __always_inline int translate_and_send46(struct __sk_buff *skb, struct pkt *p, const struct iphdr *h)
{
	struct nat64_hop *hop = NULL;
	bool fits, stack;
	__u64 to;

	TRY(bind46(skb, p, h, &hop));
	if (p->offloads & APART)
		return run_stage(skb, p, take_apart);
	TRY(translate46(skb, p));
	fits = skb->gso_size || skb->len <= l3_off() + cfg.mtu; /* if not, the kernel is asked what becomes of it */
	to = known_hop(hop);
	stack = (cfg.device && !cfg.has_ports) || has_ipsec_policy(skb) || !cut_tail6(skb, p);
	if (cfg.device && !p->cut && (stack || to == by_stack()))
		return send_by_stack(skb, &p->act);
	if (!p->cut && !stack && (cfg.l3 || (fits && to && send_straight(skb, p, to, &p->act))))
		return NAT64_PASS;
	TRY(run_stage(skb, p, find_way));
	return run_stage(skb, p, send_with_care);
}

/* IPv6 on its way out: a piece of a packet that has been cut, or, on a device of our own, what is routed to the NAT64
 * prefix. That comes in again there, to nat64_6to4. */
static __noinline int egress6(struct __sk_buff *skb)
{
	const struct ipv6hdr *h = cfg.device ? pkt_pull(skb, l3_off(), sizeof(*h)) : NULL;
	int verdict;
	__s8 act;

	if (!h || h->version != 6 || !in_nat64_prefix((const union nat64_v6 *)&h->daddr))
		return skb->mark == PIECE_MARK ? send_piece(skb) : TC_ACT_UNSPEC;
	verdict = send_by_stack(skb, &act);
	if (verdict == NAT64_PASS)
		return act;
	count(NAT64_6TO4, verdict, 0);
	return TC_ACT_SHOT;
}

/* Routes change before the programs do, and after them: a packet that was routed here by another IPv4 prefix does not
 * leave as it is. */
static __always_inline int drop_stray46(void)
{
	count(NAT64_4TO6, NAT64_DROP_NO_MAPPING, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int nat64_4to6(struct __sk_buff *skb)
{
	const struct iphdr *h;
	struct pkt p;

	if (is_clone(skb))
		return take_clone(skb);
	if (eth_proto(skb) == bpf_htons(ETH_P_IPV6))
		return egress6(skb);
	if (eth_proto(skb) != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	h = pkt_pull(skb, l3_off(), sizeof(*h));
	if (!h || h->version != 4 || is_of_vlan(skb))
		return TC_ACT_UNSPEC;
	if (!is_ours4(h->daddr))
		return is_by_hop(skb) ? drop_stray46() : TC_ACT_UNSPEC;

	/* ---- ours from here: translate, or drop and count ---- */
	if (is_traced())
		trace_in(skb);
	pkt_begin(&p);
	return finish(skb, NAT64_4TO6, translate_and_send46(skb, &p, h), &p);
}

/* With --fast, on the interfaces that IPv4 comes in by. What is not usual goes on to the stack as it is, and to nat64_4to6
 * if that is its way: also all that is dropped with an answer. */
SEC("tc")
int nat64_fast(struct __sk_buff *skb)
{
	bool usual = false;
	struct pkt p;
	int verdict;

	if (eth_proto(skb) != bpf_htons(ETH_P_IP))
		return TC_ACT_UNSPEC;
	pkt_begin(&p);
	verdict = translate_fast46(skb, &p, &usual);
	return usual ? finish(skb, NAT64_4TO6, verdict, &p) : TC_ACT_UNSPEC;
}

/* With --xdp. What they leave as it is meets nat64_6to4, or the stack, and nat64_4to6 if that is its way. */
SEC("xdp")
int nat64_xdp_6to4(struct xdp_md *ctx)
{
	int reason = NAT64_PASS;
	struct pkt p;

	pkt_begin(&p);
	return xdp_finish(NAT64_6TO4, translate_xdp64(ctx, &p, &reason), reason, &p);
}

SEC("xdp")
int nat64_xdp_4to6(struct xdp_md *ctx)
{
	int reason = NAT64_PASS;
	struct pkt p;

	pkt_begin(&p);
	return xdp_finish(NAT64_4TO6, translate_xdp46(ctx, &p, &reason), reason, &p);
}

/* Attached to nothing: userspace runs it, once for each entry of "edits". */
SEC("tc")
int nat64_edit(struct __sk_buff *skb)
{
	__u32 i = skb->cb[0];
	struct nat64_edit *e = bpf_map_lookup_elem(&edits, &i);

	skb->cb[0] = i + 1;
	if (e)
		e->done = edit(e, i);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
