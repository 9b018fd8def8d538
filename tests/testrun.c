// SPDX-License-Identifier: GPL-2.0-or-later
/* testrun - runs the programs that are loaded on packets, and says what they did: tests/elsewhere.py asks and compares
 *
 * Reads lines, and answers each but the first two kinds with a line:
 *   sh COMMAND                     run it; it must succeed. The programs and maps are looked for anew after it
 *   wire NAMESPACE INTERFACE       packets that arrive there, other than neighbour discovery, are what comes out
 *   run PROGRAM INTERFACE TRIES PIECES FRAME   BPF_PROG_TEST_RUN on the frame (hexadecimal), as if it were on that interface
 *                                  of this namespace; again while it is XDP_PASS, TRIES times at most; then waits for PIECES
 * The answer: the program's verdict, or "error" and errno; the frame afterwards; "index" and the index of the mapping of the
 * frame's IPv6 source, "-" if it has none; "count" and AT:MORE for each counter of struct nat64_stats that has become more;
 * "out" and the packets that came out, without their Ethernet headers. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "nat64.h"

#define ETH_LEN	 14
#define ETH_IPV4 0x0800
#define ETH_IPV6 0x86dd
#define ETH_ALL	 3
#define COUNTERS (sizeof(struct nat64_stats) / sizeof(__u64))
#define PATIENCE 30000 /* ms: a piece must come, and emulated machines are slow */
#define XDP	 "nat64_xdp"

static struct {
	char name[BPF_OBJ_NAME_LEN];
	int fd;
} programs[8];
static int stats_fd = -1, by_v6_fd = -1, wire = -1;

static void __attribute__((noreturn)) die(const char *what, const char *which)
{
	fprintf(stderr, "testrun: %s %s: %s\n", what, which, strerror(errno));
	exit(1);
}

/* The maps of a program that we need. */
static void find_maps(int prog)
{
	__u32 ids[64], len = sizeof(struct bpf_prog_info), map_len;
	struct bpf_prog_info info = { .nr_map_ids = 64, .map_ids = (__u64)(unsigned long)ids };

	if (bpf_obj_get_info_by_fd(prog, &info, &len))
		die("maps of", "a program");
	for (__u32 i = 0; i < info.nr_map_ids; i++) {
		struct bpf_map_info map = { 0 };
		int fd = bpf_map_get_fd_by_id(ids[i]);
		int *where = NULL;

		map_len = sizeof(map);
		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &map, &map_len))
			die("map of", "a program");
		if (!strcmp(map.name, "stats"))
			where = &stats_fd;
		else if (!strcmp(map.name, "by_v6"))
			where = &by_v6_fd;
		if (where && *where >= 0)
			close(*where);
		if (where)
			*where = fd;
		else
			close(fd);
	}
}

static void forget(void)
{
	for (unsigned int i = 0; i < sizeof(programs) / sizeof(*programs) && programs[i].name[0]; i++) {
		close(programs[i].fd);
		programs[i].name[0] = 0;
	}
}

/* The program of that name that was loaded last: this machine has no other translator. */
static int program(const char *name)
{
	unsigned int at = 0;
	int found = -1;
	__u32 id = 0;

	for (; at < sizeof(programs) / sizeof(*programs) && programs[at].name[0]; at++)
		if (!strcmp(programs[at].name, name))
			return programs[at].fd;
	while (!bpf_prog_get_next_id(id, &id)) {
		struct bpf_prog_info info = { 0 };
		__u32 len = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(id);

		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) || strcmp(info.name, name)) {
			if (fd >= 0)
				close(fd);
			continue;
		}
		if (found >= 0)
			close(found);
		found = fd;
	}
	if (found < 0 || at == sizeof(programs) / sizeof(*programs))
		die("no program", name);
	strcpy(programs[at].name, name);
	programs[at].fd = found;
	find_maps(found);
	return found;
}

static void count(__u64 sum[COUNTERS])
{
	static __u64 values[1024][COUNTERS]; /* of each CPU */
	__u32 key = 0;

	memset(sum, 0, COUNTERS * sizeof(*sum));
	if (libbpf_num_possible_cpus() > 1024 || bpf_map_lookup_elem(stats_fd, &key, values))
		die("map", "stats");
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		for (size_t i = 0; i < COUNTERS; i++)
			sum[i] += values[cpu][i];
}

static void open_wire(const char *netns, const char *ifname)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET };
	int home = open("/proc/self/ns/net", O_RDONLY), there, size = 8 << 20;
	char path[256];

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	there = open(path, O_RDONLY);
	if (home < 0 || there < 0 || setns(there, CLONE_NEWNET))
		die("namespace", netns);
	wire = socket(AF_PACKET, SOCK_RAW, htons(ETH_ALL));
	at.sll_ifindex = if_nametoindex(ifname);
	if (wire < 0 || setsockopt(wire, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    bind(wire, (struct sockaddr *)&at, sizeof(at)) || setns(home, CLONE_NEWNET))
		die("wire", ifname);
	close(home);
	close(there);
}

/* The next packet, if one comes in time; 0 if not. Hosts talk among themselves, too: neighbour and router discovery, redirects,
 * and who listens to which group, behind a hop-by-hop header. */
static size_t arrived(unsigned char *frame, size_t size, int timeout)
{
	struct pollfd poll_fd = { .fd = wire, .events = POLLIN };
	struct sockaddr_ll from;
	unsigned int proto;

	while (poll(&poll_fd, 1, timeout) > 0) {
		const unsigned char *ip = frame + ETH_LEN;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(wire, frame, size, MSG_DONTWAIT, (struct sockaddr *)&from, &len);

		if (n < ETH_LEN + 20 || from.sll_pkttype == PACKET_OUTGOING)
			continue;
		proto = frame[12] << 8 | frame[13];
		if (proto == ETH_IPV4 || (proto == ETH_IPV6 && !(ip[6] == 58 && ip[40] >= 130 && ip[40] <= 137) &&
					  !(ip[6] == 0 && ip[42] == 5)))
			return n;
	}
	return 0;
}

static void hex(const unsigned char *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		printf("%02x", data[i]);
}

static void run(const char *name, const char *ifname, int tries, int pieces, const unsigned char *frame, size_t len)
{
	static unsigned char out[1 << 16];
	struct __sk_buff skb = { .ifindex = if_nametoindex(ifname) };
	struct bpf_test_run_opts opts = {
		.sz = sizeof(opts), .data_in = frame, .data_size_in = len, .data_out = out, .repeat = 1
	};
	bool xdp = !strncmp(name, XDP, strlen(XDP));
	__u64 before[COUNTERS], after[COUNTERS];
	int fd = program(name), err;
	__u32 index;
	size_t n;

	if (!xdp) {
		opts.ctx_in = &skb;
		opts.ctx_size_in = sizeof(skb);
	}
	while (arrived(out, sizeof(out), 0))
		;
	count(before);
	do {
		opts.data_size_out = sizeof(out);
		err = bpf_prog_test_run_opts(fd, &opts);
	} while (!err && --tries > 0 && opts.retval == XDP_PASS);
	count(after);
	if (err) {
		printf("error %d\n", -err);
		return;
	}
	printf("%d ", (int)opts.retval);
	hex(out, opts.data_size_out);
	if (len >= ETH_LEN + 40 && !bpf_map_lookup_elem(by_v6_fd, frame + ETH_LEN + 8, &index))
		printf(" index %u count", index);
	else
		printf(" index - count");
	for (size_t i = 0; i < COUNTERS; i++)
		if (after[i] != before[i])
			printf(" %zu:%llu", i, (unsigned long long)(after[i] - before[i]));
	printf(" out");
	while ((n = arrived(out, sizeof(out), pieces-- > 0 ? PATIENCE : 0))) {
		printf(" ");
		hex(out + ETH_LEN, n - ETH_LEN);
	}
	printf("\n");
}

static size_t unhex(const char *text, unsigned char *data, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	const char *high, *low;
	size_t n = 0;

	for (; n < size && text[2 * n] && text[2 * n + 1]; n++) {
		high = strchr(digits, text[2 * n]);
		low = strchr(digits, text[2 * n + 1]);
		if (!high || !low)
			break;
		data[n] = (high - digits) << 4 | (low - digits);
	}
	return n;
}

int main(void)
{
	static unsigned char frame[1 << 16];
	char *line = NULL, name[64], where[64];
	int tries, pieces, at;
	size_t size = 0;
	cpu_set_t one;

	/* What a program sends arrives before the next is run: it goes through one CPU's queue. */
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		die("CPU", "0");
	while (getline(&line, &size, stdin) > 0) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "sh ", 3)) {
			forget();
			fflush(stdout);
			errno = 0;
			if (system(line + 3))
				die("command", line + 3);
		} else if (sscanf(line, "wire %63s %63s", name, where) == 2) {
			open_wire(name, where);
		} else if (sscanf(line, "run %63s %63s %d %d %n", name, where, &tries, &pieces, &at) == 4) {
			run(name, where, tries, pieces, frame, unhex(line + at, frame, sizeof(frame)));
		} else {
			fprintf(stderr, "testrun: what is this? %s\n", line);
			return 2;
		}
	}
	free(line);
	return fflush(stdout) ? 1 : 0;
}
