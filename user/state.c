// SPDX-License-Identifier: GPL-2.0-or-later
/* state.c - the mappings of a translator that is loaded */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

#define BATCH		  4096 /* entries that are read by one system call */
#define FREEZE_SECONDS	  10   /* and what it takes to write all entries of a large pool */
#define FREEZE_ATTEMPTS	  1000
#define EDITS_MAX	  (1 << 20) /* that are made at a time */
#define WRITES_PER_SECOND 50000

__u64 boottime(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

int mappings_walk(int mappings, mapping_cb cb, void *data)
{
	const struct bpf_map_batch_opts opts = { .sz = sizeof(opts), .elem_flags = BPF_F_LOCK };
	struct nat64_mapping *m = malloc(BATCH * sizeof(*m));
	__u32 *index = malloc(BATCH * sizeof(*index));
	__u32 at = 0, next = 0, n;
	int err = m && index ? 0 : -ENOMEM;
	bool first = true;
	bool last = false;

	while (!err && !last) {
		n = BATCH;
		if (bpf_map_lookup_batch(mappings, first ? NULL : &at, &next, index, m, &n, &opts)) {
			last = errno == ENOENT;
			err = last ? 0 : -errno;
		}
		for (__u32 i = 0; !err && i < n; i++)
			err = cb(index[i], &m[i], data);
		at = next;
		first = false;
	}
	free(m);
	free(index);
	return err;
}

__u64 config_timeout(const struct nat64_config *cfg)
{
	return cfg->timeout / cfg->hz * NS_PER_SEC;
}

enum mapping_kind mapping_kind(const struct nat64_mapping *m, const struct nat64_config *cfg, __u64 now)
{
	static const union nat64_v6 none;

	if (!m->tick)
		return MAPPING_FREE;
	if (m->tick == NAT64_STATIC)
		return memcmp(&m->v6, &none, sizeof(none)) ? MAPPING_STATIC : MAPPING_HELD;
	return mapping_idle(m, now) > config_timeout(cfg) ? MAPPING_EXPIRED : MAPPING_LIVE;
}

__u64 mapping_idle(const struct nat64_mapping *m, __u64 now)
{
	__s64 idle = now - m->last_seen;

	return idle > 0 ? idle : 0;
}

/* The kernel's jiffies, which only a BPF program can read: 32 bits a run. */
static int jiffies_half(bool high, __u32 *half)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_jiffies64 },
		{ .code = BPF_ALU64 | BPF_RSH | BPF_K, .dst_reg = BPF_REG_0, .imm = high ? 32 : 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	char packet[64] = { 0 };
	struct bpf_test_run_opts run = { .sz = sizeof(run), .data_in = packet, .data_size_in = sizeof(packet) };
	int err, fd = bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, NULL, "GPL", insns, 3, NULL);

	if (fd < 0)
		return -errno;
	err = bpf_prog_test_run_opts(fd, &run) ? -errno : 0;
	*half = run.retval;
	close(fd);
	return err;
}

static int jiffies(__u64 *now)
{
	__u32 low = 0, high = 0, again = 0;
	int err = jiffies_half(true, &high);

	err = err ? err : jiffies_half(false, &low);
	err = err ? err : jiffies_half(true, &again);
	if (!err && again != high) /* it turned over: low may be of either */
		err = jiffies_half(false, &low);
	*now = (__u64)again << 32 | low;
	return err;
}

/* Waits until no BPF program runs that may not have seen what was changed before. */
static void wait_for_programs(void)
{
	struct timespec enough = { .tv_nsec = 100000000 };

	/* Not there with CONFIG_NO_HZ_FULL in use: a program takes microseconds. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		nanosleep(&enough, NULL);
}

/* Sets when the pool may be looked into again, and starts the round of its hand anew. */
static int set_full(const struct loaded *maps, __u64 full_oldest)
{
	struct nat64_pool pool;
	__u32 zero = 0;

	if (bpf_map_lookup_elem_flags(maps->pool, &zero, &pool, BPF_F_LOCK))
		return -errno;
	pool.left = 1U << (32 - pool.v4_len);
	pool.oldest = ~0ULL;
	pool.full_oldest = full_oldest;
	return bpf_map_update_elem(maps->pool, &zero, &pool, BPF_F_LOCK) ? -errno : 0;
}

int state_freeze(const struct loaded *maps, const struct nat64_config *cfg)
{
	__u64 seconds = FREEZE_SECONDS + (1U << (32 - cfg->v4_len)) / WRITES_PER_SECOND;
	struct nat64_pool pool;
	__u64 now, full;
	__u32 zero = 0;
	int err;

	/* A program that was on its way may overwrite it, and others may then have passed. */
	for (int i = 0; i < FREEZE_ATTEMPTS; i++) {
		err = jiffies(&now);
		if (err)
			return err;
		/* Were we killed, the pool would thaw by itself: "expired" is this one, and a second more. */
		full = now - cfg->timeout - cfg->hz + seconds * cfg->hz;
		err = set_full(maps, full ? full : 1);
		if (err)
			return err;
		wait_for_programs();
		if (bpf_map_lookup_elem_flags(maps->pool, &zero, &pool, BPF_F_LOCK))
			return -errno;
		if (pool.full_oldest == (full ? full : 1))
			return 0;
	}
	return -EBUSY;
}

int state_thaw(const struct loaded *maps)
{
	return set_full(maps, 0);
}

int edits_add(struct edits *e, __u32 index, const struct nat64_mapping *was, const struct nat64_mapping *to,
	      const char *why)
{
	if (e->n == EDITS_MAX)
		return -ENOBUFS;
	/* grows at powers of two */
	if (!(e->n & (e->n - 1))) {
		void *p = realloc(e->list, (e->n ? 2 * e->n : 1) * sizeof(*e->list));

		if (!p)
			return -ENOMEM;
		e->list = p;
	}
	e->list[e->n++] = (struct edit){ index, *to, was->v6, why };
	return 0;
}

struct nat64_mapping mapping_static(const union nat64_v6 *v6)
{
	__u64 now = boottime();

	return (struct nat64_mapping){ .v6 = *v6, .tick = NAT64_STATIC, .last_seen = now, .created = now };
}

int mapping_dynamic(const union nat64_v6 *v6, __u64 idle, __u64 age, const struct nat64_config *cfg,
		    struct nat64_mapping *m)
{
	static __u64 ticks; /* once is enough: a run of nat64 is short */
	__u64 now = boottime();
	int err = ticks ? 0 : jiffies(&ticks);

	*m = (struct nat64_mapping){
		.v6 = *v6, .tick = ticks - idle / NS_PER_SEC * cfg->hz, .last_seen = now - idle, .created = now - age
	};
	return err;
}

static bool same_v6(const union nat64_v6 *a, const union nat64_v6 *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static bool is_none(const union nat64_v6 *v6)
{
	static const union nat64_v6 none;

	return same_v6(v6, &none);
}

static int write_entry(const struct loaded *maps, __u32 index, const struct nat64_mapping *to)
{
	return bpf_map_update_elem(maps->mappings, &index, to, BPF_F_LOCK) ? -errno : 0;
}

/* Cuts an entry off its owner, if it is to have another. One that keeps its owner must not be cut off: its packets would
 * be dropped meanwhile. */
static int disown(const struct loaded *maps, const struct edit *e)
{
	__u32 index;

	if (is_none(&e->was))
		return 0;
	if (same_v6(&e->was, &e->to.v6))
		return write_entry(maps, e->index, &e->to);
	if (bpf_map_lookup_elem(maps->by_v6, &e->was, &index) || index != e->index)
		return errno == ENOENT || index != e->index ? 0 : -errno;
	return bpf_map_delete_elem(maps->by_v6, &e->was) && errno != ENOENT ? -errno : 0;
}

int state_set(const struct loaded *maps, __u32 index, const struct nat64_mapping *to)
{
	int err = write_entry(maps, index, to);

	if (err || is_none(&to->v6))
		return err;
	return bpf_map_update_elem(maps->by_v6, &to->v6, &index, BPF_ANY) ? -errno : 0;
}

static int apply(const struct loaded *maps, const struct edits *e)
{
	int err = 0;

	for (size_t i = 0; !err && i < e->n; i++)
		err = disown(maps, &e->list[i]);
	/* From here on no program writes to an entry as its owner's that was cut off, nor has hold of an old .tick. */
	wait_for_programs();
	for (size_t i = 0; !err && i < e->n; i++)
		err = state_set(maps, e->list[i].index, &e->list[i].to);
	return err;
}

/* What listeners are to know of the changes. */
static void tell(const struct loaded *maps, const struct nat64_config *cfg, const struct edits *e)
{
	struct tells tells = { 0 };

	for (size_t i = 0; tell_wanted(maps) && i < e->n; i++) {
		const struct edit *edit = &e->list[i];
		__be32 v4 = cfg->v4_prefix | be32_from(edit->index);

		if (same_v6(&edit->was, &edit->to.v6))
			continue;
		if (!is_none(&edit->was))
			tells_add(&tells, NAT64_EVENT_REMOVED, v4, &edit->was, false,
				  edit->why ? edit->why : "another host has its address");
		if (!is_none(&edit->to.v6))
			tells_add(&tells, NAT64_EVENT_CREATED, v4, &edit->to.v6, edit->to.tick == NAT64_STATIC, "");
	}
	tells_send(&tells, maps);
}

int state_change(const struct loaded *maps, const struct nat64_config *cfg, const struct change *change)
{
	struct edits e = { 0 };
	int err, thawed, more;

	err = change->decide(&e, change->data);
	if (!e.n || (err && err != -ENOBUFS))
		goto out;
	err = state_freeze(maps, cfg);
	if (err)
		goto out;
	do {
		e.n = 0;
		more = change->decide(&e, change->data);
		err = more == -ENOBUFS ? 0 : more;
		err = err ? err : apply(maps, &e);
		if (!err)
			tell(maps, cfg, &e);
		for (size_t i = 0; !err && change->done && i < e.n; i++)
			change->done(&e.list[i], change->data);
	} while (!err && more);
	thawed = state_thaw(maps);
	err = err ? err : thawed;
out:
	free(e.list);
	return err;
}

bool is_given_out(__u32 index, __u32 v4_len)
{
	return v4_len > 30 || (index && index != (1U << (32 - v4_len)) - 1);
}
