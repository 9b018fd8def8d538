// SPDX-License-Identifier: GPL-2.0-or-later
/* flood - sends frames as fast as the kernel takes them, or at a rate, and counts them where they arrive */
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <bpf/libbpf.h>

#include "flood.h"
#include "flood.skel.h"

#define BATCH	 64   /* frames that the kernel hands on at a time, as a poll of a network card */
#define SLICE	 1024 /* frames: about a millisecond; a multiple of BATCH */
#define PRIME	 2654435761U
#define BURST	 100000	   /* ns */
#define TCX	 46	   /* BPF_TCX_INGRESS of enum bpf_attach_type; BPF_TCX_EGRESS is next. Linux 6.6 */
#define BEFORE	 (1U << 3) /* BPF_F_BEFORE: of the programs there it is the first */
#define PATIENCE 20000000  /* ns in which another frame must arrive, or no more are waited for */

static const char usage[] =
	"usage: flood sink IF                 count and drop what comes in; prints the id of the map that counts\n"
	"       flood xdp-sink IF             the same by XDP\n"
	"       flood forward IF TO MACS      send what comes in by IF on by TO, by XDP, with these MAC addresses in hex\n"
	"       flood translate IF TO FRAME   the same with FRAME's headers, of the other protocol\n"
	"       flood floor IF WAY FRAME      WAY: 6to4 (ingress) or 4to6 (egress): while it runs, the packets of the\n"
	"                                     benchmark leave the hook, before other programs there, with FRAME's headers;\n"
	"                                     device-6to4, device-4to6 (egress): and come in again\n"
	"       flood send IF ACTION FRAME    ACTION: pass (in by IF), tx (out by IF, as XDP does) or drop; FRAME in hex\n"
	"  -n FRAMES              how many\n"
	"  -l BYTES               length of the frame, if it has more than FRAME says: zeros\n"
	"  -g NS -t MS            a frame each NS nanoseconds, for MS milliseconds\n"
	"  -h HOSTS -a OFFSET -i OFFSET -u OFFSET\n"
	"                         count up the 32-bit word at -a through HOSTS values; IPv4 and UDP checksum are at -i, -u\n"
	"  -s ID                  map of the sink: wait until everything has arrived\n"
	"  -c CPU                 run there\n"
	"Prints frames sent and arrived, nanoseconds from the first to the last, and for each in the median slice.\n";

static void on_alarm(int sig)
{
	(void)sig; /* the kernel ends a test run at a signal */
}

static int print(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

/* A number from 0 to max, all of `text`. */
static __u64 number(const char *text, __u64 max)
{
	char *end;
	__u64 n;

	errno = 0;
	n = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-' || n > max) {
		fprintf(stderr, "flood: %s: not a number from 0 to %llu\n", text, max);
		exit(2);
	}
	return n;
}

static bool parse_frame(const char *hex, struct flood_config *cfg)
{
	size_t len = strlen(hex) / 2;

	if (strlen(hex) % 8 || len > FRAME_MAX || strspn(hex, "0123456789abcdef") != strlen(hex))
		return false;
	for (size_t i = 0; i < len; i++) {
		char byte[3] = { hex[2 * i], hex[2 * i + 1] };

		cfg->frame[i] = strtoul(byte, NULL, 16);
	}
	cfg->len = len;
	return true;
}

/* Loads one of the programs. */
static int load_only(struct flood_bpf *skel, const struct bpf_program *wanted)
{
	struct bpf_program *prog = NULL;

	while ((prog = bpf_object__next_program(skel->obj, prog)))
		bpf_program__set_autoload(prog, prog == wanted);
	return flood_bpf__load(skel);
}

static int attach_sink(int ifindex)
{
	struct bpf_tc_hook hook = { .sz = sizeof(hook), .ifindex = ifindex, .attach_point = BPF_TC_INGRESS };
	struct bpf_tc_opts opts = { .sz = sizeof(opts), .handle = 1, .priority = 1 };
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);
	struct flood_bpf *skel;
	int err;

	skel = flood_bpf__open();
	if (!skel)
		return -errno;
	err = load_only(skel, skel->progs.flood_sink);
	if (err)
		goto out;
	err = bpf_tc_hook_create(&hook);
	if (err && err != -EEXIST)
		goto out;
	opts.prog_fd = bpf_program__fd(skel->progs.flood_sink);
	err = bpf_tc_attach(&hook, &opts);
	if (err)
		goto out;
	err = bpf_obj_get_info_by_fd(bpf_map__fd(skel->maps.arrived), &info, &size);
	if (!err)
		printf("%u\n", info.id);
out:
	flood_bpf__destroy(skel);
	return err;
}

/* Attaches the program of this name by XDP, for as long as nobody takes it away. */
static int attach_xdp(int ifindex, const struct flood_config *cfg, const char *name)
{
	struct flood_bpf *skel = flood_bpf__open();
	struct bpf_map_info info = {};
	struct bpf_program *mine;
	__u32 size = sizeof(info);
	int err;

	if (!skel)
		return -errno;
	mine = bpf_object__find_program_by_name(skel->obj, name);
	skel->rodata->cfg = *cfg;
	err = load_only(skel, mine);
	err = err ? err : bpf_xdp_attach(ifindex, bpf_program__fd(mine), XDP_FLAGS_DRV_MODE, NULL);
	err = err ? err : bpf_obj_get_info_by_fd(bpf_map__fd(skel->maps.arrived), &info, &size);
	if (!err && mine == skel->progs.flood_xdp_sink)
		printf("%u\n", info.id);
	flood_bpf__destroy(skel);
	return err;
}

static int hold_floor(int ifindex, const struct flood_config *cfg, bool to6)
{
	struct bpf_link_create_opts opts = { .sz = sizeof(opts), .flags = BEFORE };
	struct flood_bpf *skel = flood_bpf__open();
	struct bpf_program *mine;
	int err, link;

	if (!skel)
		return -errno;
	mine = to6 ? skel->progs.floor_4to6 : skel->progs.floor_6to4;
	skel->rodata->cfg = *cfg;
	err = load_only(skel, mine);
	if (err)
		goto out;
	link = bpf_link_create(bpf_program__fd(mine), ifindex, TCX + (to6 || cfg->again), &opts);
	if (link < 0) {
		err = -errno;
		goto out;
	}
	puts("ready");
	fflush(stdout);
	pause();
	close(link);
out:
	flood_bpf__destroy(skel);
	return err;
}

/* What has arrived at the sink, ever, on all CPUs. */
static struct flood_arrived arrived(int map)
{
	static struct flood_arrived values[CPU_SETSIZE];
	struct flood_arrived sum = {};
	int cpus = libbpf_num_possible_cpus();
	__u32 zero = 0;

	if (map < 0 || cpus <= 0 || cpus > CPU_SETSIZE || bpf_map_lookup_elem(map, &zero, values))
		return sum;
	for (int i = 0; i < cpus; i++) {
		sum.count += values[i].count;
		sum.last = values[i].last > sum.last ? values[i].last : sum.last;
	}
	return sum;
}

static int compare(const void *a, const void *b)
{
	__u64 x = *(const __u64 *)a, y = *(const __u64 *)b;

	return (x > y) - (x < y);
}

/* Nanoseconds for a frame in the median slice: a slice in which the machine did something else does not count. */
static double median_slice(const struct flood_bpf__bss *bss, __u64 slice)
{
	__u64 took[STAMPS], n = 0;

	for (__u64 i = 1; i < bss->n_stamps && i < STAMPS; i++)
		took[n++] = bss->stamps[i] - bss->stamps[i - 1];
	if (!n)
		return 0;
	qsort(took, n, sizeof(*took), compare);
	return (took[(n - 1) / 2] + took[n / 2]) / 2.0 / slice;
}

/* The run as a whole takes some 20 ms more than the frames, which is why the time is taken where they are. */
static int send_frames(int ifindex, const struct flood_config *cfg, __u32 frames, __u32 ms, int sink)
{
	struct xdp_md ctx = { .data_end = cfg->len, .ingress_ifindex = ifindex };
	__u8 frame[LENGTH_MAX] = {};
	struct bpf_test_run_opts opts = { .sz = sizeof(opts),
					  .data_in = frame,
					  .data_size_in = cfg->len,
					  .ctx_in = &ctx,
					  .ctx_size_in = sizeof(ctx),
					  .repeat = frames,
					  .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
					  .batch_size = BATCH };
	struct itimerval timer = { .it_value = { ms / 1000, ms % 1000 * 1000 } };
	struct sigaction alarm = { .sa_handler = on_alarm };
	struct flood_arrived before, now, then;
	struct timespec pause = { .tv_nsec = PATIENCE };
	const struct flood_bpf__bss *bss;
	struct flood_bpf *skel;
	__u64 last;
	int err;

	memcpy(frame, cfg->frame, FRAME_MAX);
	skel = flood_bpf__open();
	if (!skel)
		return -errno;
	skel->rodata->cfg = *cfg;
	err = load_only(skel, skel->progs.flood);
	if (err)
		goto out;
	bss = skel->bss;
	before = now = arrived(sink);
	sigaction(SIGALRM, &alarm, NULL);
	if (ms)
		setitimer(ITIMER_REAL, &timer, NULL);
	err = bpf_prog_test_run_opts(bpf_program__fd(skel->progs.flood), &opts);
	if (ms && err == -EINTR)
		err = 0;
	if (err == -EINVAL)
		fprintf(stderr, "flood: this takes Linux 5.18 or later\n");
	if (err)
		goto out;
	do {
		then = now;
		now = arrived(sink);
	} while (sink >= 0 && now.count - before.count < bss->sent && now.count != then.count &&
		 !nanosleep(&pause, NULL));
	last = bss->n_stamps ? bss->stamps[(bss->n_stamps - 1) % STAMPS] : 0;
	last = now.last > last ? now.last : last;
	printf("%llu %llu %llu %.2f\n", bss->sent, now.count - before.count, last - bss->first,
	       median_slice(bss, cfg->slice));
out:
	flood_bpf__destroy(skel);
	return err;
}

int main(int argc, char **argv)
{
	struct flood_config cfg = { .hosts = 1, .burst = BURST };
	__u32 frames = 0, ms = 0, length = 0;
	int opt, err, sink = -1;
	unsigned int ifindex;
	cpu_set_t cpus;

	while ((opt = getopt(argc, argv, "+n:l:g:t:h:a:i:u:s:c:")) != -1) {
		switch (opt) {
		case 'n':
			frames = number(optarg, 0x7fffffff);
			break;
		case 'l':
			length = number(optarg, LENGTH_MAX);
			break;
		case 'g':
			cfg.gap = number(optarg, 1000000000);
			break;
		case 't':
			ms = number(optarg, 3600000);
			break;
		case 'h':
			cfg.hosts = number(optarg, 0x7fffffff);
			break;
		case 'a':
			cfg.word_at = number(optarg, FRAME_MAX - 4);
			break;
		case 'i':
			cfg.ip_checksum_at = number(optarg, FRAME_MAX - 2);
			break;
		case 'u':
			cfg.udp_checksum_at = number(optarg, FRAME_MAX - 2);
			break;
		case 's':
			sink = bpf_map_get_fd_by_id(number(optarg, 0xffffffff));
			if (sink < 0) {
				fprintf(stderr, "flood: map %s: %s\n", optarg, strerror(errno));
				return 1;
			}
			break;
		case 'c':
			CPU_ZERO(&cpus);
			CPU_SET(number(optarg, CPU_SETSIZE - 1), &cpus);
			if (sched_setaffinity(0, sizeof(cpus), &cpus)) {
				fprintf(stderr, "flood: CPU %s: %s\n", optarg, strerror(errno));
				return 1;
			}
			break;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	argc -= optind;
	argv += optind;
	if (argc < 2) {
		fputs(usage, stderr);
		return 2;
	}
	ifindex = if_nametoindex(argv[1]);
	if (!ifindex) {
		fprintf(stderr, "flood: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	libbpf_set_print(print);
	if (argc == 2 && !strcmp(argv[0], "sink")) {
		err = attach_sink(ifindex);
	} else if (argc == 2 && !strcmp(argv[0], "xdp-sink")) {
		err = attach_xdp(ifindex, &cfg, "flood_xdp_sink");
	} else if (argc == 4 && (!strcmp(argv[0], "forward") || !strcmp(argv[0], "translate")) &&
		   parse_frame(argv[3], &cfg) && (cfg.to = if_nametoindex(argv[2]))) {
		err = attach_xdp(ifindex, &cfg, *argv[0] == 'f' ? "flood_forward" : "floor_xdp");
	} else if (argc == 4 && !strcmp(argv[0], "floor") && parse_frame(argv[3], &cfg)) {
		cfg.again = !strncmp(argv[2], "device", 6);
		err = hold_floor(ifindex, &cfg, !!strstr(argv[2], "4to6"));
	} else if (argc == 4 && !strcmp(argv[0], "send") && parse_frame(argv[3], &cfg)) {
		cfg.action = !strcmp(argv[2], "pass") ? XDP_PASS : !strcmp(argv[2], "tx") ? XDP_TX : XDP_DROP;
		cfg.len = length > cfg.len ? length : cfg.len;
		cfg.step = PRIME % cfg.hosts;
		/* A slice begins with a batch, when all frames before it have been forwarded. */
		cfg.slice = ms || frames < 2 * SLICE ? BATCH : SLICE;
		/* At a rate, what is not due yet counts as a run: the alarm ends it. */
		err = send_frames(ifindex, &cfg, ms ? 0x7fffffff : frames, ms, sink);
	} else {
		fputs(usage, stderr);
		return 2;
	}
	if (err)
		fprintf(stderr, "flood: %s: %s\n", argv[0], strerror(-err));
	return err ? 1 : 0;
}
