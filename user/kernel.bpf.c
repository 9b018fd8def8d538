// SPDX-License-Identifier: GPL-2.0-only
/* kernel.bpf.c - a program that nat64 itself runs, once, to learn what the kernel tells nobody else (user/kernel.c) */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define XFRM_OUT 1 /* XFRM_POLICY_OUT */

struct netns_xfrm {
	unsigned int policy_count[6];
	__u8 policy_default[3]; /* Linux 5.16 */
} __attribute__((preserve_access_index));

struct net {
	struct netns_xfrm xfrm;
} __attribute__((preserve_access_index));

struct nsproxy {
	struct net *net_ns;
} __attribute__((preserve_access_index));

struct task_struct {
	struct nsproxy *nsproxy;
} __attribute__((preserve_access_index));

/* The address of the number of IPsec policies for what leaves the network namespace of the process that runs this; 0: the
 * kernel has no IPsec. */
__u64 policy_count = 0;

/* The address of what becomes of packets that no policy is for; 0: they pass on this kernel. */
__u64 policy_default = 0;

SEC("raw_tp")
int find_policies(void *ctx)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const struct net *net = BPF_CORE_READ(task, nsproxy, net_ns);

	(void)ctx;
	if (!net || !bpf_core_field_exists(net->xfrm))
		return 0;
	policy_count = (__u64)&net->xfrm.policy_count[XFRM_OUT];
	/* At first it was one byte of bits, in Linux 5.15; most kernels of that series have the array by now. */
	if (bpf_core_field_exists(net->xfrm.policy_default) && bpf_core_field_size(net->xfrm.policy_default) == 3)
		policy_default = (__u64)&net->xfrm.policy_default;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
