/* SPDX-License-Identifier: GPL-2.0-only */
/* kernel.h - what programs need to know of a packet and its network namespace, and no field of their context has
 *
 * The form with KERNEL_BTF (user/object.c) reads the kernel's own structures. The other form asks helpers, reads words
 * whose addresses userspace found (cfg.policy_count), or relies on what was true when it was loaded. */
#ifndef NAT64_KERNEL_H
#define NAT64_KERNEL_H

#include "verdict.h"

/* XFRM_POLICY_OUT, XFRM_POLICY_FWD and XFRM_USERPOLICY_BLOCK of linux/xfrm.h, which does not go together with linux/in6.h */
#define XFRM_OUT   1
#define XFRM_FWD   2
#define XFRM_BLOCK 1

#define XDP_FLAGS_HAS_FRAGS 1 /* enum xdp_buff_flags of net/xdp.h */

#ifdef KERNEL_BTF
#include <bpf/bpf_core_read.h>

struct netns_xfrm {
	unsigned int policy_count[6];
	__u8 policy_default[3]; /* Linux 5.16 */
} __attribute__((preserve_access_index));

struct net {
	struct netns_xfrm xfrm;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;

struct net_device {
	possible_net_t nd_net;
} __attribute__((preserve_access_index));

struct sk_buff {
	struct net_device *dev;
	unsigned long _nfct;
	__u16 network_header, inner_network_header, csum_start; /* from one place before the packet on */
	__u16 csum_offset;					/* from .csum_start on */
	__u8 active_extensions;
	__u8 ip_summed : 2;
	__u8 encapsulation : 1;
	__u8 inner_protocol_type : 1;
} __attribute__((preserve_access_index));

struct xdp_rxq_info {
	struct net_device *dev;
} __attribute__((preserve_access_index));

struct xdp_buff {
	struct xdp_rxq_info *rxq;
	__u32 flags; /* enum xdp_buff_flags, Linux 5.18 */
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym; /* Linux 6.2 */
#endif

/* Has the kernel a checksum in the packet that is not complete (CHECKSUM_PARTIAL, 3), or a sum over the packet that
 * must follow what is changed (CHECKSUM_COMPLETE, 2)? Its helpers mind both; where there is neither, to do without them
 * takes less time. Programs that cannot look must take it for true. */
static __always_inline bool has_kernel_csum(struct __sk_buff *skb)
{
#ifdef KERNEL_BTF
	const struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);

	return BPF_CORE_READ_BITFIELD(kernel_skb, ip_summed) & 2;
#else
	(void)skb;
	return true;
#endif
}

/* Are there IPsec policies for what leaves this network namespace, or passes it? A route look-up does not know them, nor
 * does sending by a next hop: only the stack can tell whether a packet may leave, and in the clear. */
#ifdef KERNEL_BTF
static __always_inline bool has_policy(const struct net_device *dev)
{
	const struct netns_xfrm *xfrm;

	if (!bpf_core_field_exists(struct net, xfrm))
		return false;
	xfrm = &dev->nd_net.net->xfrm;
	return READ_ONCE(xfrm->policy_count[XFRM_OUT]) || READ_ONCE(xfrm->policy_count[XFRM_FWD]) ||
	       (bpf_core_field_exists(struct netns_xfrm, policy_default) &&
		(READ_ONCE(xfrm->policy_default[XFRM_OUT]) == XFRM_BLOCK ||
		 READ_ONCE(xfrm->policy_default[XFRM_FWD]) == XFRM_BLOCK));
}

static __always_inline bool has_ipsec_policy(struct __sk_buff *skb)
{
	return has_policy(((const struct sk_buff *)bpf_cast_to_kern_ctx(skb))->dev);
}

static __always_inline bool xdp_has_ipsec_policy(struct xdp_md *ctx)
{
	return has_policy(((const struct xdp_buff *)bpf_cast_to_kern_ctx(ctx))->rxq->dev);
}
#else
static __always_inline bool has_policy(void)
{
	__u64 both = 0; /* out, and forward behind it */
	__u8 dflt[3] = {};

	if (cfg.policy_count &&
	    (bpf_probe_read_kernel(&both, sizeof(both), (const void *)(unsigned long)cfg.policy_count) || both))
		return true;
	return cfg.policy_default &&
	       (bpf_probe_read_kernel(dflt, sizeof(dflt), (const void *)(unsigned long)cfg.policy_default) ||
		dflt[XFRM_OUT] == XFRM_BLOCK || dflt[XFRM_FWD] == XFRM_BLOCK);
}

static __always_inline bool has_ipsec_policy(struct __sk_buff *skb)
{
	(void)skb;
	return has_policy();
}

static __always_inline bool xdp_has_ipsec_policy(struct xdp_md *ctx)
{
	(void)ctx;
	return has_policy();
}
#endif

/* Has a frame more than the `len` bytes that XDP programs see? With a large MTU, drivers put what does not fit into one buffer into
 * others. */
static __always_inline bool xdp_has_frags(struct xdp_md *ctx, __u32 len)
{
	if (!cfg.xdp_frags)
		return false;
#ifdef KERNEL_BTF
	(void)len;
	return bpf_core_field_exists(struct xdp_buff, flags) &&
	       READ_ONCE(((const struct xdp_buff *)bpf_cast_to_kern_ctx(ctx))->flags) & XDP_FLAGS_HAS_FRAGS;
#else
	return bpf_xdp_get_buff_len(ctx) != len;
#endif
}

/* Does something hang on a packet from where it has been before: a conntrack entry, the bridge that it came by
 * (br_netfilter), the IPsec state that decrypted it? The IPv4 stack would take it for its own. */
static __always_inline bool carries_state(struct __sk_buff *skb)
{
#ifdef KERNEL_BTF
	const struct sk_buff *kernel_skb = bpf_cast_to_kern_ctx(skb);

	return (bpf_core_field_exists(struct sk_buff, active_extensions) && kernel_skb->active_extensions) ||
	       (bpf_core_field_exists(struct sk_buff, _nfct) && kernel_skb->_nfct);
#else
	struct bpf_xfrm_state state;

	return cfg.bridge_nf || (cfg.policy_count && !bpf_skb_get_xfrm_state(skb, 0, &state, sizeof(state), 0));
#endif
}

#endif
