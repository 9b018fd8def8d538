/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kernel.h - what programs that cannot look into the kernel's structures must be told of it when they are loaded
 *
 * That is the form without KERNEL_BTF, for kernels before Linux 6.2 (headers/kernel.h). */
#ifndef NAT64_USER_KERNEL_H
#define NAT64_USER_KERNEL_H

#include "link.h"

/* The address, in the kernel, of the number of IPsec policies of this network namespace for what leaves; 0: the kernel
 * has no IPsec, or tells too little of itself (no BTF). */
__u64 kernel_policy_count(void);

/* Do packets come to the interface by a bridge, itself or below it, while br_netfilter is there? */
bool kernel_bridge_nf(struct nl *nl, const struct link *link);

#endif
