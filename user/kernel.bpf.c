// SPDX-License-Identifier: GPL-2.0-only
/* kernel.bpf.c - a program that nat64 itself runs, once, to learn what the kernel tells nobody else (user/kernel.c) */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define XFRM_OUT 1 /* XFRM_POLICY_OUT */

struct netns_xfrm {
	unsigned int policy_count[6];
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

SEC("raw_tp")
int find_policy_count(void *ctx)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const struct net *net = BPF_CORE_READ(task, nsproxy, net_ns);

	(void)ctx;
	if (net && bpf_core_field_exists(net->xfrm))
		policy_count = (__u64)&net->xfrm.policy_count[XFRM_OUT];
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
