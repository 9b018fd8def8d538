// SPDX-License-Identifier: GPL-2.0-or-later
/* state.c - changes of the mappings of a translator that is loaded */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "addr.h"
#include "array.h"
#include "clock.h"
#include "load.h"
#include "order.h"
#include "run.skel.h"
#include "state.h"
#include "table.h"
#include "tell.h"

#define EDITS_MAX (1 << 20) /* that are made at a time */
#define ATTEMPTS  100	    /* until the packets have left a table as it should be */

static int jiffies(__u64 *now)
{
	char packet[64] = { 0 };
	struct bpf_test_run_opts run = { .sz = sizeof(run), .data_in = packet, .data_size_in = sizeof(packet) };
	struct run_bpf *skel = run_bpf__open();
	int err = skel ? bpf_program__set_autoload(skel->progs.put_record, false) : -errno;

	err = err ? err : run_bpf__load(skel);
	if (!err)
		err = bpf_prog_test_run_opts(bpf_program__fd(skel->progs.read_jiffies), &run) ? -errno : 0;
	*now = err ? 0 : skel->bss->jiffies;
	run_bpf__destroy(skel);
	return err;
}

void state_wait(void)
{
	struct timespec enough = { .tv_nsec = 100000000 };

	/* The kernel refuses that where CONFIG_NO_HZ_FULL is in use. A program runs for microseconds: so this is long
	 * enough. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		nanosleep(&enough, NULL);
}

int edits_add(struct edits *e, __u32 index, const struct nat64_mapping *was, const struct nat64_mapping *to,
	      const char *why)
{
	struct edit *more;

	if (e->n == EDITS_MAX)
		return -ENOBUFS;
	more = array_room(e->list, e->n, sizeof(*more));
	if (!more)
		return -ENOMEM;
	e->list = more;
	more[e->n++] = (struct edit){ index, *to, was->v6, why, false };
	return 0;
}

struct nat64_mapping mapping_static(const union nat64_v6 *v6)
{
	__u64 now = boottime() & ~NAT64_HEARSAY;

	return (struct nat64_mapping){ .v6 = *v6, .tick = NAT64_STATIC, .last_seen = now, .created = now };
}

int mapping_dynamic(const union nat64_v6 *v6, __u64 idle, __u64 age, const struct nat64_config *cfg,
		    struct nat64_mapping *m)
{
	static __u64 ticks; /* once is enough: a run of nat64 is short */
	__u64 now = boottime();
	int err = ticks ? 0 : jiffies(&ticks);

	*m = (struct nat64_mapping){
		.v6 = *v6,
		.tick = ticks - idle / NS_PER_SEC * cfg->hz,
		.last_seen = (now - idle) & ~NAT64_HEARSAY,
		.created = (now - age) & ~NAT64_HEARSAY,
	};
	if (!m->tick) /* 0 is for free ones */
		m->tick--;
	m->epoch = m->tick >> cfg->epoch_shift;
	return err;
}

static int write_entry(const struct loaded *maps, __u32 index, const struct nat64_mapping *to)
{
	return bpf_map_update_elem(maps->mappings, &index, to, BPF_F_LOCK) ? -errno : 0;
}

int state_set(const struct loaded *maps, __u32 index, const struct nat64_mapping *to)
{
	int err = write_entry(maps, index, to);

	if (err || v6_is_none(&to->v6))
		return err;
	return bpf_map_update_elem(maps->by_v6, &to->v6, &index, BPF_ANY) ? -errno : 0;
}

#define PAGE_BYTES (NAT64_EDITS * sizeof(struct nat64_edit))

/* The lists of addresses for a translator of a version that has none */
static int make_lists(const struct editor *ed, const struct loaded *maps, const struct nat64_config *cfg)
{
	struct loaded own = programs_maps(ed->programs);
	struct places places;
	int err = places_read(maps, cfg, &places);

	err = err ? err : order_build(&own, cfg, &places, 0);
	places_free(&places);
	return err;
}

int editor_open(struct editor *ed, const struct loaded *maps, const struct nat64_config *cfg)
{
	int err = 0;

	*ed = (struct editor){ .program = maps->edit, .map = maps->edits };
	if (ed->program < 0)
		err = programs_load_edit(cfg, maps, &ed->programs, &ed->program, &ed->map);
	if (!err && maps->order < 0)
		err = make_lists(ed, maps, cfg);
	if (err)
		return err;
	ed->page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ed->map, 0);
	if (ed->page == MAP_FAILED)
		ed->page = NULL;
	return ed->page ? 0 : -errno;
}

void editor_close(struct editor *ed)
{
	if (ed->page)
		munmap(ed->page, PAGE_BYTES);
	programs_close(ed->programs);
	*ed = (struct editor){ 0 };
}

int editor_run(const struct editor *ed, struct nat64_edit *list, size_t n)
{
	char packet[64] = { 0 };
	size_t some;

	for (; n; n -= some, list += some) {
		struct bpf_test_run_opts run = { .sz = sizeof(run), .data_in = packet, .data_size_in = sizeof(packet) };

		some = n < NAT64_EDITS ? n : NAT64_EDITS;
		memcpy(ed->page, list, some * sizeof(*list));
		run.repeat = some;
		if (bpf_prog_test_run_opts(ed->program, &run))
			return -errno;
		memcpy(list, ed->page, some * sizeof(*list));
	}
	return 0;
}

static bool is_dynamic(const struct nat64_mapping *m)
{
	return m->tick && m->tick != NAT64_STATIC;
}

static bool keeps_owner(const struct edit *e)
{
	return v6_same(&e->was, &e->to.v6);
}

/* What the program is told to make the edit itself, after prepare(). */
static struct nat64_edit order_of(const struct edit *e)
{
	return (struct nat64_edit){
		.index = e->index,
		.how = is_dynamic(&e->to) && !keeps_owner(e) ? NAT64_EDIT_CLAIM : NAT64_EDIT_SET,
		.was = e->was,
		.v6 = e->to.v6,
		.tick = e->to.tick,
		.last_seen = e->to.last_seen,
		.created = e->to.created,
	};
}

/* If an entry is to be static for another host, or free, its owner must not write to it any more: deletes it from by_v6, by
 * which the owner would find it. */
static int disown(const struct loaded *maps, const struct edit *e)
{
	__u32 index;

	if (v6_is_none(&e->was) || keeps_owner(e) || is_dynamic(&e->to))
		return 0;
	if (bpf_map_lookup_elem(maps->by_v6, &e->was, &index) || index != e->index)
		return errno == ENOENT || index != e->index ? 0 : -errno;
	return bpf_map_delete_elem(maps->by_v6, &e->was) && errno != ENOENT ? -errno : 0;
}

/* Runs edits; sets *half if one of them was made, but for its place or count. */
static int run_edits(const struct editor *ed, struct nat64_edit *list, size_t n, bool *half)
{
	int err = editor_run(ed, list, n);

	for (size_t i = 0; !err && i < n; i++)
		*half |= list[i].done == NAT64_DONE_HALF;
	return err;
}

/* The first of two steps. Takes addresses that are to be static out of the lists, so that no new host gets them. A host that
 * keeps its address has it static at once, or its packets might be dropped; and again in the second step, since a packet
 * that found the mapping dynamic may still have written its time. Others lose theirs. */
static int prepare(const struct editor *ed, const struct loaded *maps, struct edits *e)
{
	struct nat64_edit *first = malloc(2 * (e->n + 1) * sizeof(*first));
	size_t n = 0;
	int err;

	if (!first)
		return -ENOMEM;
	for (size_t i = 0; i < e->n; i++) {
		if (e->list[i].to.tick != NAT64_STATIC)
			continue;
		first[n++] = (struct nat64_edit){ .index = e->list[i].index, .how = NAT64_EDIT_TAKE_OUT };
		if (keeps_owner(&e->list[i]))
			first[n++] = order_of(&e->list[i]);
	}
	err = run_edits(ed, first, n, &e->half);
	free(first);
	for (size_t i = 0; !err && i < e->n; i++)
		err = disown(maps, &e->list[i]);
	state_wait();
	return err;
}

static int by_index(const void *a, const void *b)
{
	const struct nat64_edit *x = a, *y = b;

	return x->index < y->index ? -1 : x->index > y->index;
}

static int by_tick(const void *a, const void *b)
{
	const struct nat64_edit *x = a, *y = b;
	__s64 d = x->tick - y->tick;

	return d < 0 ? -1 : d > 0;
}

/* Finds the place of each mapping in the list of those in use: the one before which it comes. Those that come before the
 * same one are run, and so placed, in the order of their last packets. */
static int find_places(const struct loaded *maps, const struct nat64_config *cfg, struct nat64_edit *list, size_t n)
{
	struct places places;
	int err = places_read(maps, cfg, &places);

	qsort(list, n, sizeof(*list), by_tick);
	for (size_t i = 0; !err && i < n; i++)
		list[i].before = places_find(&places, list[i].tick, cfg, &list[i].epoch);
	places_free(&places);
	return err;
}

/* Has the edits made. Those from n_plain on need a place in the list of those in use; if packets have changed it meanwhile,
 * another one. *half as run_edits(). */
static int run_all(const struct editor *ed, const struct loaded *maps, const struct nat64_config *cfg,
		   struct nat64_edit *list, size_t n_plain, size_t n, bool *half)
{
	struct nat64_edit *late = NULL;
	size_t n_late = n - n_plain;
	int err = 0;

	if (n_late)
		err = find_places(maps, cfg, list + n_plain, n_late);
	err = err ? err : run_edits(ed, list, n, half);
	if (err || !n_late)
		return err;
	late = malloc(n_late * sizeof(*late));
	if (!late)
		return -ENOMEM;
	memcpy(late, list + n_plain, n_late * sizeof(*late));
	for (int attempt = 0; !err && attempt < ATTEMPTS; attempt++) {
		size_t still = 0;

		for (size_t i = 0; i < n_late; i++)
			if (late[i].done == NAT64_DONE_LAST)
				late[still++] = late[i];
		n_late = still;
		if (!n_late)
			break;
		for (size_t i = 0; i < n_late; i++)
			late[i].how = NAT64_EDIT_PLACE;
		err = find_places(maps, cfg, late, n_late);
		err = err ? err : run_edits(ed, late, n_late, half);
	}
	free(late);
	return err;
}

/* Makes the edits, and marks those that were made. */
static int apply(const struct editor *ed, const struct loaded *maps, const struct nat64_config *cfg, struct edits *e)
{
	struct nat64_edit *list = malloc((e->n + 1) * sizeof(*list));
	size_t n = 0, n_plain;
	int err = list ? prepare(ed, maps, e) : -ENOMEM;

	if (err)
		goto out;
	for (size_t i = 0; i < e->n; i++)
		if (!is_dynamic(&e->list[i].to))
			list[n++] = order_of(&e->list[i]);
	n_plain = n;
	for (size_t i = 0; i < e->n; i++)
		if (is_dynamic(&e->list[i].to))
			list[n++] = order_of(&e->list[i]);
	err = run_all(ed, maps, cfg, list, n_plain, n, &e->half);
	if (err)
		goto out;
	/* Each index is in it once. */
	qsort(list, n, sizeof(*list), by_index);
	for (size_t i = 0; i < e->n; i++) {
		const struct nat64_edit key = { .index = e->list[i].index };
		const struct nat64_edit *made = bsearch(&key, list, n, sizeof(key), by_index);

		e->list[i].made = made && made->done != NAT64_DONE_NOT;
	}
out:
	free(list);
	return err;
}

/* What listeners are to know of the changes. */
static void tell(const struct loaded *maps, const struct nat64_config *cfg, const struct edits *e)
{
	struct tells tells = { 0 };

	for (size_t i = 0; tell_wanted(maps) && i < e->n; i++) {
		const struct edit *edit = &e->list[i];
		__be32 v4 = cfg->v4_prefix | be32_from(edit->index);

		if (!edit->made || keeps_owner(edit))
			continue;
		if (!v6_is_none(&edit->was))
			tells_add(&tells, NAT64_EVENT_REMOVED, v4, &edit->was, false,
				  edit->why ? edit->why : "another host has its address");
		if (!v6_is_none(&edit->to.v6))
			tells_add(&tells, NAT64_EVENT_CREATED, v4, &edit->to.v6, edit->to.tick == NAT64_STATIC, "");
	}
	tells_send(&tells, maps, TELL_PATIENCE);
}

int state_change(const struct loaded *maps, const struct nat64_config *cfg, const struct change *change)
{
	struct editor ed = { 0 };
	struct edits e = { 0 };
	int err = 0, more;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		bool failed = false;

		e.n = 0;
		more = change->decide(&e, change->data);
		err = more == -ENOBUFS ? 0 : more;
		if (err || !e.n)
			break;
		err = ed.page ? 0 : editor_open(&ed, maps, cfg);
		err = err ? err : apply(&ed, maps, cfg, &e);
		err = err ? err : loaded_freed(maps);
		if (err)
			break;
		if (!change->quiet)
			tell(maps, cfg, &e);
		for (size_t i = 0; i < e.n; i++) {
			failed |= !e.list[i].made;
			if (e.list[i].made && change->done)
				change->done(&e.list[i], change->data);
		}
		err = failed ? -EBUSY : 0;
		if (!more && change->once)
			break;
	}
	editor_close(&ed);
	free(e.list);
	if (err == -EBUSY && change->once)
		err = 0;
	if (!err && e.half) {
		err = maps->order < 0 ? 0 : state_place(maps, cfg, false);
		err = err ? err : state_count(maps, cfg);
	}
	return err;
}

struct misplaced {
	const struct nat64_config *cfg;
	const unsigned char *in; /* enum order_list, for each index */
	struct nat64_edit *list; /* of all that are in use or in the wrong list */
	size_t n;
	bool wrong; /* one that is in use is */
};

static int check_place(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct misplaced *p = data;
	bool here = m->tick != NAT64_STATIC && is_given_out_here(index, p->cfg);
	enum order_list wanted = !here ? ORDER_NONE : m->tick ? ORDER_USED : ORDER_FREE;
	struct nat64_edit *more;

	if (wanted == p->in[index] && wanted != ORDER_USED)
		return 0;
	p->wrong |= wanted == ORDER_USED && p->in[index] != wanted;
	more = array_room(p->list, p->n, sizeof(*more));
	if (!more)
		return -ENOMEM;
	p->list = more;
	more[p->n++] = (struct nat64_edit){ .index = index,
					    .how = wanted == ORDER_NONE ? NAT64_EDIT_TAKE_OUT : NAT64_EDIT_PLACE,
					    .tick = m->tick,
					    .before = NAT64_USED(1U << (32 - p->cfg->v4_len)) };
	return 0;
}

/* Leaves those out that are in the right list. */
static void leave_used(struct misplaced *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		if (p->list[i].how == NAT64_EDIT_TAKE_OUT || p->in[p->list[i].index] != ORDER_USED)
			p->list[n++] = p->list[i];
	p->n = n;
}

int state_place(const struct loaded *maps, const struct nat64_config *cfg, bool sort)
{
	unsigned char *in = order_lists(maps, cfg);
	struct misplaced p = { .cfg = cfg, .in = in };
	struct editor ed = { 0 };
	size_t n;
	int err = in ? mappings_walk(maps->mappings, check_place, &p) : -errno;

	/* Each goes to the end, the one that was silent for the longest first. Those that send something meanwhile are there before
	 * their time: as long as they go on, they come to the end again soon. */
	if (!err && p.n && (p.wrong || sort))
		qsort(p.list, p.n, sizeof(*p.list), by_tick);
	else if (!err)
		leave_used(&p);
	n = err ? 0 : p.n;
	if (n)
		err = editor_open(&ed, maps, cfg);
	for (int attempt = 0; !err && n && attempt < ATTEMPTS; attempt++) {
		size_t left = 0;

		err = editor_run(&ed, p.list, n);
		for (size_t i = 0; i < n; i++)
			if (p.list[i].done == NAT64_DONE_HALF)
				p.list[left++] = p.list[i];
		n = left;
	}
	editor_close(&ed);
	free(p.list);
	free(in);
	return err ? err : n ? -EBUSY : 0;
}

/* What is counted for --per-prefix, as the programs' maps have it, and what is wrong in it */
struct counts {
	const struct nat64_config *cfg;
	const struct nat64_member *members;
	const struct nat64_prefix *prefixes;
	struct nat64_edit *list;
	size_t n;
};

/* Those that are not counted in their prefix */
static int check_count(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct counts *c = data;
	__u32 number = c->members[index].prefix;
	struct prefix6 is = { number ? c->prefixes[number - 1].v6 : m->v6, c->cfg->prefix_len };
	struct prefix6 host = { m->v6, 128 };
	struct nat64_edit *more;

	if (is_dynamic(m) ? number && prefix6_covers(&is, &host) : !number)
		return 0;
	more = array_room(c->list, c->n, sizeof(*more));
	if (!more)
		return -ENOMEM;
	c->list = more;
	more[c->n++] = (struct nat64_edit){ .index = index, .how = NAT64_EDIT_COUNT };
	return 0;
}

/* Has them counted until nothing is wrong any more. */
static int count_all(const struct loaded *maps, struct counts *c)
{
	struct editor ed = { 0 };
	int err = editor_open(&ed, maps, c->cfg);
	bool wrong = true;

	for (int attempt = 0; !err && wrong && attempt < ATTEMPTS; attempt++) {
		c->n = 0;
		err = mappings_walk(maps->mappings, check_count, c);
		err = err ? err : editor_run(&ed, c->list, c->n);
		wrong = false;
		for (size_t i = 0; !err && i < c->n; i++)
			wrong |= c->list[i].done != NAT64_DONE;
	}
	editor_close(&ed);
	free(c->list);
	return err ? err : wrong ? -EBUSY : 0;
}

int state_count(const struct loaded *maps, const struct nat64_config *cfg)
{
	__u32 addresses = 1U << (32 - cfg->v4_len);
	size_t n_members = addresses * sizeof(struct nat64_member);
	size_t n_prefixes = (size_t)NAT64_PREFIXES(addresses) * sizeof(struct nat64_prefix);
	void *members, *prefixes;
	int err = 0;

	if (!cfg->prefix_limit)
		return 0;
	members = mmap(NULL, n_members, PROT_READ, MAP_SHARED, maps->members, 0);
	prefixes = mmap(NULL, n_prefixes, PROT_READ, MAP_SHARED, maps->prefixes, 0);
	if (members == MAP_FAILED || prefixes == MAP_FAILED)
		err = -errno;
	else
		err = count_all(maps, &(struct counts){ cfg, members, prefixes, NULL, 0 });
	if (members != MAP_FAILED)
		munmap(members, n_members);
	if (prefixes != MAP_FAILED)
		munmap(prefixes, n_prefixes);
	return err;
}
