/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tcx.h - programs attached to an interface by tcx, which needs no qdisc (Linux 6.6)
 *
 * Each hook has a list of programs. They run in order, before the filters of a clsact qdisc, until one returns anything but
 * TC_ACT_UNSPEC. Ours are attached without a BPF link: they stay when this process ends. */
#ifndef NAT64_TCX_H
#define NAT64_TCX_H

#include <linux/types.h>

/* enum bpf_attach_type, of which older headers do not have these */
enum tcx_hook {
	TCX_INGRESS = 46,
	TCX_EGRESS = 47,
};

#define TCX_MAX 64 /* programs on a hook: BPF_MPROG_MAX of the kernel */

struct tcx_row {
	__u32 n;
	__u32 id[TCX_MAX];
	__u64 revision; /* another one after each change */
};

/* All of these: 0 or a negative errno; interfaces are those of this thread's network namespace. */

/* -EOPNOTSUPP: the kernel has no tcx. Wants CAP_NET_ADMIN or CAP_SYS_ADMIN. */
int tcx_query(unsigned int ifindex, enum tcx_hook hook, struct tcx_row *row);

/* Attaches a program behind those that are there. -ESTALE: the row is not as it was at that revision. */
int tcx_attach(unsigned int ifindex, enum tcx_hook hook, int prog_fd, __u64 revision);

/* Puts a program into the place of another, in one step: every packet meets one of them. -ENOENT: it is not there. */
int tcx_replace(unsigned int ifindex, enum tcx_hook hook, int prog_fd, int old_fd);
int tcx_detach(unsigned int ifindex, enum tcx_hook hook, int prog_fd);

#endif
