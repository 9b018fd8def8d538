// SPDX-License-Identifier: GPL-2.0-or-later
/* notcx - preloaded (LD_PRELOAD), makes bpf(2) answer as kernels before 6.6 do, which know no tcx; uname(2) as NOTCX_RELEASE and
 * NOTCX_VERSION say; with NOTCX_NOJIT, as if programs were interpreted; with NOTCX_ERRNO, no program is loaded for this reason */
#include <dlfcn.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TCX_INGRESS 46
#define TCX_EGRESS  47

static int is_tcx(long cmd, const __u32 *attr)
{
	/* their attributes have the attach type at different places */
	__u32 type = cmd == BPF_PROG_QUERY ? attr[1] : cmd == BPF_PROG_ATTACH || cmd == BPF_PROG_DETACH ? attr[2] : 0;

	return type == TCX_INGRESS || type == TCX_EGRESS;
}

int uname(struct utsname *uts)
{
	int (*real)(struct utsname *) = (int (*)(struct utsname *))dlsym(RTLD_NEXT, "uname");
	int err = real(uts);

	if (!err)
		strcpy(uts->release, getenv("NOTCX_RELEASE") ? getenv("NOTCX_RELEASE") : "6.5.0");
	if (!err && getenv("NOTCX_VERSION"))
		strcpy(uts->version, getenv("NOTCX_VERSION"));
	return err;
}

long syscall(long nr, ...)
{
	long (*real)(long nr, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = { 0 };
	long arg[6], ret;
	va_list args;

	va_start(args, nr);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(args, long);
	va_end(args);
	if (nr == SYS_bpf && is_tcx(arg[0], (const __u32 *)arg[1])) {
		real(SYS_capget, &header, caps);
		errno = arg[0] == BPF_PROG_QUERY && !(caps[0].effective >> CAP_NET_ADMIN & 1) ? EPERM : EINVAL;
		return -1;
	}
	if (nr == SYS_bpf && arg[0] == BPF_PROG_LOAD && getenv("NOTCX_ERRNO")) {
		errno = atoi(getenv("NOTCX_ERRNO"));
		return -1;
	}
	ret = real(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	if (nr == SYS_bpf && arg[0] == BPF_OBJ_GET_INFO_BY_FD && !ret && getenv("NOTCX_NOJIT")) {
		union bpf_attr *attr = (union bpf_attr *)arg[1];

		if (attr->info.info_len > sizeof(struct bpf_map_info)) /* of a program */
			((struct bpf_prog_info *)(unsigned long)attr->info.info)->jited_prog_len = 0;
	}
	return ret;
}
