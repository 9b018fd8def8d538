/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kernel.h - what programs that cannot look into the kernel's structures must be told of it when they are loaded
 *
 * That is the form without KERNEL_BTF, for kernels before Linux 6.2 (headers/kernel.h). */
#ifndef NAT64_USER_KERNEL_H
#define NAT64_USER_KERNEL_H

#include "link.h"
#include "nat64.h"

/* Fills in where in the kernel is told of the IPsec policies of this network namespace: .policy_count, .policy_default. They
 * stay 0 if the kernel has no IPsec. 0, or a negative errno: it cannot be known, since the kernel tells too little of itself (no
 * BTF), or for another reason. */
int kernel_policies(struct nat64_config *cfg);

/* *bridge_nf: packets come to the interface by a bridge, itself or below it, while br_netfilter is there. 0 or a negative errno. */
int kernel_bridge_nf(struct nl *nl, const struct link *link, bool *bridge_nf);

/* Is it a version before that of Linux? False if it does not say. */
bool kernel_is_before(unsigned int major, unsigned int minor);

/* Has it a function of this name, for itself or for programs? It tells by its BTF alone. */
bool kernel_has_function(const char *name);

/* Does it let XDP programs say that they know of frames in several buffers (Linux 5.18)? Drivers give those a larger MTU. */
bool kernel_has_xdp_frags(void);

/* May a program of ours be interrupted by another one on the same CPU, with whose records (PER_CPU in headers/base.h) it then
 * goes on? Of PREEMPT_RT alone. */
bool kernel_interleaves(void);
#define KERNEL_INTERLEAVES                                                                                       \
	"the kernel is PREEMPT_RT and lets one packet interrupt the translation of another, which may spoil it " \
	"(CONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y)"

/* Is a part of the kernel there that may be a module, and not loaded? To ask such a one for something would load it. */
bool kernel_has(const char *module);

#endif
