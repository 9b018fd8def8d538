// SPDX-License-Identifier: GPL-2.0-or-later
/* verifier - loads the programs in every kind of configuration, and prints how many instructions the kernel's verifier
 * looked at for each program: the most of all configurations, since a configuration leaves out what it does not use */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <bpf/libbpf.h>

#include "nat64.h"
#include "nat64.skel.h"

#define LOG_STATS 4 /* BPF_LOG_STATS, kernel/bpf/verifier.c: only the summary */
#define LOG_SIZE (64 * 1024)

static int print(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

/* The manual's configuration with a NAT64 prefix of another length, and all that can be switched on or off. */
static struct nat64_config config(__u32 v6_len, bool l3, bool all)
{
	struct nat64_config cfg = {
		.v6_prefix.b = { 0x00, 0x64, 0xff, 0x9b },
		.v6_len = v6_len,
		.v4_prefix = htonl(0x0a000100),
		.v4_mask = htonl(0xffffff00),
		.v4_len = 24,
		.ifindex = 1,
		.mtu = 1500,
		.timeout_ns = 7200 * 1000000000ULL,
		.lowest_ipv6_mtu = 1280,
		.icmp_src = htonl(0xc0000008),
		.l3 = l3,
		.wkp_strict = all,
		.set_tos = all,
		.tos = 0x20,
		.set_tclass = all,
		.tclass = 0x20,
	};

	return cfg;
}

/* Loads the programs; raises max[] to the verifier's numbers. */
static int verify(struct nat64_config cfg, unsigned int max[NAT64_WAYS])
{
	struct nat64_bpf *skel = nat64_bpf__open();
	struct bpf_program *prog;
	char *logs, *log;
	int err;

	if (!skel)
		return -errno;
	logs = log = calloc(NAT64_WAYS, LOG_SIZE);
	skel->rodata->cfg = cfg;
	bpf_object__for_each_program(prog, skel->obj) {
		bpf_program__set_log_level(prog, LOG_STATS);
		bpf_program__set_log_buf(prog, log, LOG_SIZE);
		log += LOG_SIZE;
	}
	err = nat64_bpf__load(skel);
	log = logs;
	bpf_object__for_each_program(prog, skel->obj) {
		enum nat64_way way = strcmp(bpf_program__name(prog), NAT64_PROG_6TO4) ? NAT64_4TO6 : NAT64_6TO4;
		const char *line = strstr(log, "processed ");
		unsigned int n = line ? strtoul(line + strlen("processed "), NULL, 10) : 0;

		if (err || !n)
			fprintf(stderr, "%s, NAT64 prefix /%u%s:\n%s\n", bpf_program__name(prog), cfg.v6_len,
				cfg.l3 ? ", layer 3" : "", log);
		if (!n)
			err = err ? err : -EIO;
		if (n > max[way])
			max[way] = n;
		log += LOG_SIZE;
	}
	free(logs);
	nat64_bpf__destroy(skel);
	return err;
}

int main(void)
{
	static const __u32 lengths[] = { 32, 40, 48, 56, 64, 96 };
	unsigned int max[NAT64_WAYS] = { 0 };

	libbpf_set_print(print);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		for (int l3 = 0; l3 <= 1; l3++)
			for (int all = 0; all <= 1; all++)
				if (verify(config(lengths[i], l3, all), max))
					return 1;
	printf("%s %u\n%s %u\n", NAT64_PROG_6TO4, max[NAT64_6TO4], NAT64_PROG_4TO6, max[NAT64_4TO6]);
	return 0;
}
