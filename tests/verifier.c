// SPDX-License-Identifier: GPL-2.0-or-later
/* verifier - loads the programs in configurations of every kind, and prints how many instructions the kernel's verifier
 * looked at for each program: the most of all configurations, since a configuration leaves out what it does not use */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "nat64.h"
#include "user/addr.h"
#include "user/object.h"

#define LOG_STATES 2 /* BPF_LOG_LEVEL2, kernel/bpf/verifier.c: what it knows before each instruction */
#define LOG_STATS  4 /* BPF_LOG_STATS: only the summary */
#define LOG_SIZE   (128 * 1024 * 1024)
#ifdef __riscv
#define STRICT true /* the kernel lets no program read across words */
#else
#define STRICT false
#endif
#define PROGRAMS 6

static const char *const NAMES[PROGRAMS] = { NAT64_PROG_6TO4, NAT64_PROG_4TO6,	NAT64_PROG_FAST,
					     NAT64_PROG_EDIT, NAT64_PROG_XDP64, NAT64_PROG_XDP46 };

static int print(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

/* The manual's configuration with a NAT64 prefix of another length, and all that can be switched on or off. */
static struct nat64_config config(__u32 v6_len, bool l3, bool all, bool device)
{
	struct nat64_config cfg = {
		.v6_prefix.b = { 0x00, 0x64, 0xff, 0x9b },
		.v6_len = v6_len,
		.v4_prefix = be32_from(0x0a000100),
		.v4_mask = be32_from(0xffffff00),
		.v4_len = 24,
		.ifindex = 1,
		.mtu = 1500,
		.timeout = 7440 * 250,
		.hz = 250,
		.fresh = 250,
		.epoch_shift = 13,
		.lowest_ipv6_mtu = 1280,
		.cut_mtu = 1280,
		.reuse_idle = all ? 300 * 250 : 0,
		.prefix_mask.d = { ~0ULL },
		.prefix_len = 64,
		.prefix_limit = all ? 16 : 0,
		.icmp_src = be32_from(0xc0000008),
		.icmp_rate = 100,
		.l3 = l3,
		.wkp_strict = all,
		.set_tos = all,
		.tos = 0x20,
		.set_tclass = all,
		.tclass = 0x20,
		.has_static = all,
		.fast = all && !l3,
		.device = device,
		.has_ports = device && all,
		.by_home = all && !device,
		.home = all && !device,
		.port = 1,
		.policy_count = 8,
		.policy_default = 8,
	};

	return cfg;
}

static int number_of(const struct bpf_program *prog)
{
	int i = 0;

	while (strcmp(bpf_program__name(prog), NAMES[i]))
		i++;
	return i;
}

/* Does an instruction read bytes of the stack that were not written, "?" in the log? Kernels without "bpf: Allow reads
 * from uninit stack" (6.3, and later releases of older series) refuse that. Prints the first. */
static bool reads_unwritten(const char *log)
{
	unsigned int bits, off, i, len;
	char line[2048], name[16];
	const char *slot;

	for (; *log; log += len + (log[len] == '\n')) {
		len = strcspn(log, "\n");
		snprintf(line, sizeof(line), "%.*s", (int)(len < sizeof(line) ? len : sizeof(line) - 1), log);
		if (sscanf(line, "%*u: (%*x) %*[rw0-9] = *(%*[us]%u *)(r10 -%u)", &bits, &off) != 2)
			continue;
		snprintf(name, sizeof(name), " fp-%u=", (off + 7) / 8 * 8);
		slot = strstr(line, name);
		if (!slot || strspn(slot + strlen(name), "0m?") != 8)
			continue;
		for (i = 0; i < bits / 8; i++)
			if (slot[strlen(name) + (off - i - 1) % 8] == '?') {
				fprintf(stderr, "reads what was not written: %s\n", line);
				return true;
			}
	}
	return false;
}

/* The forms of the programs. The last is the first one as kernels take it that have no BTF themselves, and others, too. */
enum form {
	FORM_PLAIN,
	FORM_BTF,
	FORM_STATIC
};

/* Loads one form of the programs; raises max[] to the verifier's numbers. `level`: of its log, which is printed if that is
 * short and something goes wrong. */
static int verify(enum form form, struct nat64_config cfg, unsigned int level, unsigned int max[PROGRAMS])
{
	static char logs[PROGRAMS][LOG_SIZE];
	struct nat64_bpf *skel = object_open(form == FORM_BTF);
	struct bpf_program *prog;
	int err;

	if (!skel)
		return -errno;
	skel->rodata->cfg = cfg;
	if (form == FORM_STATIC)
		object_make_static(skel);
	bpf_object__for_each_program(prog, skel->obj) {
		bpf_program__set_log_level(prog, level);
		/* As machines have it that cannot read across words, where an IP header behind no other is refused. */
		bpf_program__set_flags(prog, cfg.l3 ? 0 : BPF_F_STRICT_ALIGNMENT);
		bpf_program__set_log_buf(prog, logs[number_of(prog)], level == LOG_STATS ? 64 * 1024 : LOG_SIZE);
		logs[number_of(prog)][0] = 0;
	}
	err = nat64_bpf__load(skel);
	bpf_object__for_each_program(prog, skel->obj) {
		const char *log = logs[number_of(prog)], *line = strstr(log, "processed ");
		unsigned int n = line ? strtoul(line + strlen("processed "), NULL, 10) : 0;

		if (!n)
			err = err ? err : -EIO;
		if (level == LOG_STATES)
			err = err || reads_unwritten(log) ? -EINVAL : 0;
		else if (err)
			fprintf(stderr, "%s, NAT64 prefix /%u%s:\n%s\n", bpf_program__name(prog), cfg.v6_len,
				cfg.l3 ? ", layer 3" : "", log);
		if (n > max[number_of(prog)])
			max[number_of(prog)] = n;
	}
	nat64_bpf__destroy(skel);
	return err;
}

/* Is this a kernel for the form that reads the kernel's structures? */
static bool has_kernel_btf(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool found = btf && btf__find_by_name_kind(btf, "bpf_cast_to_kern_ctx", BTF_KIND_FUNC) > 0;

	btf__free(btf);
	return found;
}

int main(void)
{
	static const __u32 lengths[] = { 32, 40, 48, 56, 64, 96 };
	static const unsigned int kinds[] = { 0, 1, 2, 3, 4, 6 }; /* bits: layer 3, all, device */
	unsigned int max[PROGRAMS] = { 0 }, max_static[PROGRAMS] = { 0 };
	bool has_btf;

	libbpf_set_print(print);
	has_btf = has_kernel_btf();
	/* What can be switched takes all its values with one prefix length only: there are slow machines. */
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
			struct nat64_config cfg = config(lengths[i], kinds[k] & 1, kinds[k] & 2, kinds[k] & 4);

			if (cfg.l3 && STRICT)
				continue;
			if ((lengths[i] == 96 || k == i) && (verify(FORM_PLAIN, cfg, LOG_STATS, max) ||
							     (has_btf && verify(FORM_BTF, cfg, LOG_STATS, max))))
				return 1;
			if (lengths[i] == 48 && verify(FORM_STATIC, cfg, LOG_STATS, max_static))
				return 1;
		}
	/* Of kernels that have both forms, the log tells what is known of the stack. */
	if (has_btf && verify(FORM_PLAIN, config(96, false, true, false), LOG_STATES, max))
		return 1;
	printf("%s\n", has_btf ? "with and without BTF" : "without BTF");
	for (int i = 0; i < PROGRAMS; i++)
		printf("%s %u\n", NAMES[i], max[i]);
	printf("functions all static:");
	for (int i = 0; i < PROGRAMS; i++)
		printf(" %s %u", NAMES[i], max_static[i]);
	printf("\n");
	return 0;
}
