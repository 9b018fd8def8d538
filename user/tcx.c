// SPDX-License-Identifier: GPL-2.0-or-later
/* tcx.c - programs attached to an interface by tcx: bpf(2) itself, since libbpf has all of this from 1.3 on only, and
 * linux/bpf.h from Linux 6.6 on */
#include <errno.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "kernel.h"
#include "tcx.h"

/* The parts of union bpf_attr that are used here, by the same names. The kernel takes any size whose unknown end is
 * zero. */
struct tcx_attach_attr {
	__u32 target_ifindex;
	__u32 attach_bpf_fd;
	__u32 attach_type;
	__u32 attach_flags;
	__u32 replace_bpf_fd; /* with BPF_F_REPLACE */
	__u32 relative_fd;
	__u64 expected_revision; /* 0: any */
};

struct tcx_query_attr {
	__u32 target_ifindex;
	__u32 attach_type;
	__u32 query_flags;
	__u32 attach_flags;
	__u64 prog_ids; /* where to write them */
	__u32 count;	/* room there; afterwards how many there are */
	__u32 pad;
	__u64 prog_attach_flags;
	__u64 link_ids;
	__u64 link_attach_flags;
	__u64 revision;
};

static int bpf(enum bpf_cmd cmd, void *attr, size_t size)
{
	return syscall(SYS_bpf, cmd, attr, size) < 0 ? -errno : 0;
}

/* May this process look into programs, and is this a kernel before tcx? Such a kernel refuses a process without
 * CAP_NET_ADMIN before it looks at which hook was meant. */
static bool is_before_tcx(void)
{
	struct reason why = { 0 };

	return !check_capabilities(TASK_LOOK, &why) && kernel_is_before(6, 6);
}

int tcx_query(unsigned int ifindex, enum tcx_hook hook, struct tcx_row *row)
{
	struct tcx_query_attr attr = {
		.target_ifindex = ifindex,
		.attach_type = hook,
		.prog_ids = (unsigned long)row->id,
		.count = TCX_MAX,
	};
	int err = bpf(BPF_PROG_QUERY, &attr, sizeof(attr));

	row->n = err ? 0 : attr.count;
	row->revision = attr.revision;
	if (err == -EINVAL || (err == -EPERM && is_before_tcx()))
		return -EOPNOTSUPP; /* it does not know the hook */
	return err;
}

int tcx_attach(unsigned int ifindex, enum tcx_hook hook, int prog_fd, __u64 revision)
{
	struct tcx_attach_attr attr = {
		.target_ifindex = ifindex,
		.attach_bpf_fd = prog_fd,
		.attach_type = hook,
		.expected_revision = revision,
	};

	return bpf(BPF_PROG_ATTACH, &attr, sizeof(attr));
}

int tcx_replace(unsigned int ifindex, enum tcx_hook hook, int prog_fd, int old_fd)
{
	struct tcx_attach_attr attr = {
		.target_ifindex = ifindex,
		.attach_bpf_fd = prog_fd,
		.attach_type = hook,
		.attach_flags = BPF_F_REPLACE,
		.replace_bpf_fd = old_fd,
	};

	return bpf(BPF_PROG_ATTACH, &attr, sizeof(attr));
}

int tcx_detach(unsigned int ifindex, enum tcx_hook hook, int prog_fd)
{
	struct tcx_attach_attr attr = {
		.target_ifindex = ifindex,
		.attach_bpf_fd = prog_fd,
		.attach_type = hook,
	};

	return bpf(BPF_PROG_DETACH, &attr, sizeof(attr));
}
