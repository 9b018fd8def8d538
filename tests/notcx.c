// SPDX-License-Identifier: GPL-2.0-or-later
/* notcx - preloaded (LD_PRELOAD), makes bpf(2) answer as kernels before 6.6 do, which know no tcx */
#include <dlfcn.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TCX_INGRESS 46
#define TCX_EGRESS  47

static int is_tcx(long cmd, const __u32 *attr)
{
	/* their attributes have the attach type at different places */
	__u32 type = cmd == BPF_PROG_QUERY ? attr[1] : cmd == BPF_PROG_ATTACH || cmd == BPF_PROG_DETACH ? attr[2] : 0;

	return type == TCX_INGRESS || type == TCX_EGRESS;
}

long syscall(long nr, ...)
{
	long (*real)(long nr, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	long arg[6];
	va_list args;

	va_start(args, nr);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (nr == SYS_bpf && is_tcx(arg[0], (const __u32 *)arg[1])) {
		errno = EINVAL;
		return -1;
	}
	return real(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
