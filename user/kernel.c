// SPDX-License-Identifier: GPL-2.0-or-later
/* kernel.c - what programs that cannot look into the kernel's structures must be told of it when they are loaded */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "kernel.h"
#include "kernel.skel.h"

int kernel_policies(struct nat64_config *cfg)
{
	struct bpf_test_run_opts run = { .sz = sizeof(run) };
	struct kernel_bpf *skel = kernel_bpf__open_and_load();
	int err = skel ? 0 : -errno;

	if (!err && bpf_prog_test_run_opts(bpf_program__fd(skel->progs.find_policies), &run))
		err = -errno;
	if (!err) {
		cfg->policy_count = skel->bss->policy_count;
		cfg->policy_default = skel->bss->policy_default;
	}
	kernel_bpf__destroy(skel);
	return err;
}

/* The link that another one lies upon, or NULL */
static const struct link *lower_of(const struct link *links, size_t n, const struct link *upper)
{
	for (size_t i = 0; i < n; i++)
		if (upper->lower && links[i].index == upper->lower)
			return &links[i];
	return NULL;
}

int kernel_bridge_nf(struct nl *nl, const struct link *link, bool *bridge_nf)
{
	struct link *links = NULL;
	bool bridge = false;
	size_t n = 0;
	int err;

	*bridge_nf = false;
	if (access("/proc/sys/net/bridge", F_OK))
		return 0;
	err = link_list(nl, &links, &n);
	if (err)
		return err;
	/* As many steps as there are interfaces: one in another namespace may have the index of one here. */
	for (size_t i = 0; link && i < n && !bridge; i++) {
		bridge = !strcmp(link->kind, "bridge");
		link = lower_of(links, n, link);
	}
	free(links);
	*bridge_nf = bridge;
	return 0;
}

bool kernel_is_before(unsigned int major, unsigned int minor)
{
	unsigned int this_major, this_minor;
	struct utsname uts;

	return !uname(&uts) && sscanf(uts.release, "%u.%u", &this_major, &this_minor) == 2 &&
	       (this_major < major || (this_major == major && this_minor < minor));
}

bool kernel_has_function(const char *name)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool found = btf && btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0;

	btf__free(btf);
	return found;
}

bool kernel_has_xdp_frags(void)
{
	const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	struct bpf_prog_load_opts opts = { .sz = sizeof(opts), .prog_flags = BPF_F_XDP_HAS_FRAGS };
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, NULL, "GPL", pass, sizeof(pass) / sizeof(*pass), &opts);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Before Linux 6.12.57 and 6.18 only one at a time is where bottom halves are off, as packets are; since then this is an
 * option of the kernel, of which its configuration tells where a distribution keeps it. */
bool kernel_interleaves(void)
{
	char path[PATH_MAX], line[128];
	struct utsname uts;
	bool locks = false;
	FILE *file;

	if (uname(&uts) || !strstr(uts.version, "PREEMPT_RT") || kernel_is_before(6, 12))
		return false;
	snprintf(path, sizeof(path), "/boot/config-%s", uts.release);
	file = fopen(path, "re");
	while (file && !locks && fgets(line, sizeof(line), file))
		locks = !strcmp(line, "CONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y\n");
	if (file)
		fclose(file);
	return !locks;
}

/* The list of what is no module is a line for each: kernel/net/netfilter/nf_tables.ko */
static bool is_built_in(const char *module)
{
	char path[PATH_MAX], line[PATH_MAX], end[64];
	struct utsname uts;
	bool found = false;
	FILE *file;

	if (uname(&uts))
		return false;
	snprintf(path, sizeof(path), "/lib/modules/%s/modules.builtin", uts.release);
	snprintf(end, sizeof(end), "/%s.ko\n", module);
	file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof(line), file))
		found = strlen(line) >= strlen(end) && !strcmp(line + strlen(line) - strlen(end), end);
	if (file)
		fclose(file);
	return found;
}

bool kernel_has(const char *module)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/module/%s", module);
	return access("/proc/modules", F_OK) || !access(path, F_OK) || is_built_in(module);
}
