// SPDX-License-Identifier: GPL-2.0-or-later
/* load.c - the BPF programs: loading them, and filling in their maps */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ipsec.h"
#include "kernel.h"
#include "load.h"
#include "object.h"

#define ENOTSUPP 524 /* the kernel's own, which no header has */

/* What the programs need that a kernel may lack, with the oldest kernel that has it */
static const struct helper {
	enum bpf_func_id id;
	const char *name;
	const char *since;
} HELPERS[] = {
	{ BPF_FUNC_skb_change_proto, "bpf_skb_change_proto", "4.8" },
	{ BPF_FUNC_spin_lock, "bpf_spin_lock", "5.1" },
	{ BPF_FUNC_ktime_get_boot_ns, "bpf_ktime_get_boot_ns", "5.8" },
	{ BPF_FUNC_ringbuf_output, "bpf_ringbuf_output", "5.8" },
	{ BPF_FUNC_redirect_neigh, "bpf_redirect_neigh", "5.10" },
};

static int print_libbpf(enum libbpf_print_level level, const char *fmt, va_list args)
{
	return level == LIBBPF_DEBUG || !msg_verbose ? 0 : vfprintf(stderr, fmt, args);
}

static bool same_map(const struct bpf_map *map, int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	return fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len) && info.type == bpf_map__type(map) &&
	       info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map) && info.map_flags == bpf_map__map_flags(map);
}

/* What of the state of old is in a layout that these programs know. */
static enum inherit inheritance(const struct nat64_bpf *skel, const struct nat64_config *cfg, const struct loaded *old)
{
	struct nat64_pool pool;

	if (!loaded_pool(old, &pool))
		return INHERIT_NOTHING;
	if (pool.v4_prefix != cfg->v4_prefix || pool.v4_len != cfg->v4_len ||
	    !same_map(skel->maps.mappings, old->mappings) || !same_map(skel->maps.by_v6, old->by_v6))
		return INHERIT_COPY;
	return same_map(skel->maps.pool, old->pool) && same_map(skel->maps.order, old->order) ? INHERIT_ALL
											      : INHERIT_MAPS;
}

/* Those who listen to the old programs go on with the new ones. */
static int reuse_listeners(struct nat64_bpf *skel, const struct loaded *old)
{
	int err;

	if (!same_map(skel->maps.listen, old->listen) || !same_map(skel->maps.events, old->events) ||
	    !same_map(skel->maps.packets, old->packets))
		return 0;
	err = bpf_map__reuse_fd(skel->maps.listen, old->listen);
	err = err ? err : bpf_map__reuse_fd(skel->maps.events, old->events);
	return err ? err : bpf_map__reuse_fd(skel->maps.packets, old->packets);
}

/* Counts of prefixes of the same length go on. Others are made of the mappings later. */
static int reuse_counts(struct nat64_bpf *skel, const struct nat64_config *cfg, const struct loaded *old)
{
	struct reason why = { "" };
	struct nat64_config was;
	int err;

	if (!cfg->prefix_limit || loaded_config(old, &was, &why) || !was.prefix_limit ||
	    was.prefix_len != cfg->prefix_len || !same_map(skel->maps.by_prefix, old->by_prefix) ||
	    !same_map(skel->maps.prefixes, old->prefixes) || !same_map(skel->maps.members, old->members) ||
	    !same_map(skel->maps.counting, old->counting))
		return 0;
	err = bpf_map__reuse_fd(skel->maps.by_prefix, old->by_prefix);
	err = err ? err : bpf_map__reuse_fd(skel->maps.prefixes, old->prefixes);
	err = err ? err : bpf_map__reuse_fd(skel->maps.members, old->members);
	return err ? err : bpf_map__reuse_fd(skel->maps.counting, old->counting);
}

static int reuse(struct nat64_bpf *skel, const struct nat64_config *cfg, const struct loaded *old, enum inherit inherit)
{
	int err = reuse_listeners(skel, old);

	if (!err && same_map(skel->maps.stats, old->stats))
		err = bpf_map__reuse_fd(skel->maps.stats, old->stats);
	if (err || (inherit != INHERIT_ALL && inherit != INHERIT_MAPS))
		return err;
	err = bpf_map__reuse_fd(skel->maps.mappings, old->mappings);
	err = err ? err : bpf_map__reuse_fd(skel->maps.by_v6, old->by_v6);
	if (err || inherit != INHERIT_ALL)
		return err;
	err = bpf_map__reuse_fd(skel->maps.pool, old->pool);
	err = err ? err : bpf_map__reuse_fd(skel->maps.order, old->order);
	return err ? err : reuse_counts(skel, cfg, old);
}

/* The kernel wants maps to have room for something. */
static __u32 at_least_one(size_t n)
{
	return n ? n : 1;
}

static int set_sizes(struct nat64_bpf *skel, const struct options *o, int cpus)
{
	__u32 statics = at_least_one(statics_outside(&o->statics, &o->v4_prefix));
	__u32 addresses = 1U << (32 - o->v4_prefix.len);
	int err = bpf_map__set_max_entries(skel->maps.mappings, addresses);

	err = err ? err : bpf_map__set_max_entries(skel->maps.by_v6, addresses);
	err = err ? err : bpf_map__set_max_entries(skel->maps.order, addresses + NAT64_NODES);
	err = err ? err : bpf_map__set_max_entries(skel->maps.guesses, addresses);
	if (skel->rodata->cfg.prefix_limit) {
		err = err ? err : bpf_map__set_max_entries(skel->maps.by_prefix, NAT64_PREFIXES(addresses));
		err = err ? err : bpf_map__set_max_entries(skel->maps.prefixes, NAT64_PREFIXES(addresses));
		err = err ? err : bpf_map__set_max_entries(skel->maps.members, addresses);
	}
	if (skel->rodata->cfg.fast || skel->rodata->cfg.xdp)
		err = err ? err : bpf_map__set_max_entries(skel->maps.hops4, NAT64_HOPS4 * cpus);
	err = err ? err : bpf_map__set_max_entries(skel->maps.static6, statics);
	err = err ? err : bpf_map__set_max_entries(skel->maps.static4, statics);
	return err ? err : bpf_map__set_max_entries(skel->maps.allowed, at_least_one(o->n_allowed));
}

static int fill_pool(const struct nat64_bpf *skel, const struct nat64_config *cfg)
{
	struct nat64_pool pool = {
		.version = NAT64_STATE_VERSION,
		.v4_prefix = cfg->v4_prefix,
		.v4_len = cfg->v4_len,
	};
	__u32 zero = 0;

	return bpf_map_update_elem(bpf_map__fd(skel->maps.pool), &zero, &pool, BPF_ANY);
}

/* Might a second try succeed, on the same kernel? */
static bool is_passing(int err)
{
	return err == -ENOMEM || err == -EAGAIN || err == -EINTR || err == -EMFILE || err == -ENFILE || err == -EPERM;
}

/* Copies the counters of programs whose map has another layout, as far as both have them. If they cannot be read, they start
 * at 0. What the old programs count from here on is lost. */
static int fill_stats(const struct nat64_bpf *skel, const struct loaded *old)
{
	int cpus = libbpf_num_possible_cpus();
	struct nat64_stats *stats;
	__u32 zero = 0;
	int err;

	if (old->stats < 0 || same_map(skel->maps.stats, old->stats) || cpus < 0)
		return 0;
	stats = calloc(cpus, sizeof(*stats));
	err = !stats ? -ENOMEM : loaded_stats(old, cpus, stats);
	if (!err && bpf_map_update_elem(bpf_map__fd(skel->maps.stats), &zero, stats, BPF_ANY))
		err = -errno;
	free(stats);
	return is_passing(err) ? err : 0;
}

static int fill_allowed(const struct nat64_bpf *skel, const struct options *o)
{
	int fd = bpf_map__fd(skel->maps.allowed);
	__u32 one = 1;
	int err = 0;

	for (size_t i = 0; !err && i < o->n_allowed; i++) {
		struct nat64_lpm6 key = { .len = o->allowed[i].len, .v6 = o->allowed[i].addr };

		err = bpf_map_update_elem(fd, &key, &one, BPF_ANY);
	}
	return err;
}

static int fill_statics(const struct nat64_bpf *skel, const struct options *o)
{
	int err = 0;

	for (size_t i = 0; !err && i < o->statics.n; i++) {
		const struct static_mapping *m = &o->statics.list[i];
		struct nat64_lpm6 key6 = { .len = m->v6.len, .v6 = m->v6.addr };
		struct nat64_lpm4 key4 = { .len = m->v4.len, .v4 = m->v4.addr };
		struct nat64_static4 to4 = { m->v4.addr, m->v4.len, m->v6.len };
		struct nat64_static6 to6 = { m->v6.addr, be32_to(~prefix4_mask(m->v4.len)),
					     128 - m->v6.len - (32 - m->v4.len) };

		if (static_is_in_table(m, &o->v4_prefix))
			continue;
		err = bpf_map_update_elem(bpf_map__fd(skel->maps.static6), &key6, &to4, BPF_ANY);
		err = err ? err : bpf_map_update_elem(bpf_map__fd(skel->maps.static4), &key4, &to6, BPF_ANY);
	}
	return err;
}

/* Why the kernel refused: what is missing, if we can tell. */
static int explain(int err, const struct options *o, struct reason *why)
{
	struct utsname uts = { 0 };

	uname(&uts);
	if (err == -ENOSYS)
		return reason(why, err, "this kernel (%s) has no BPF (CONFIG_BPF_SYSCALL)", uts.release);
	if (err == -ENOTSUPP)
		return reason(why, err,
			      "this kernel (%s) runs no BPF programs but those that it can compile, and not "
			      "these (CONFIG_BPF_JIT_ALWAYS_ON)",
			      uts.release);
	if (err == -ENOMEM || err == -E2BIG)
		return reason(why, err, "not enough memory for %u mappings", options_pool_size(o));
	if (!libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SCHED_CLS, NULL) && err != -EPERM)
		return reason(why, err, "this kernel (%s) has no BPF programs for tc (CONFIG_NET_CLS_BPF)",
			      uts.release);
	for (size_t i = 0; i < sizeof(HELPERS) / sizeof(*HELPERS); i++)
		if (!libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, HELPERS[i].id, NULL))
			return reason(why, err, "this kernel (%s) is too old: it has no %s, which needs Linux %s",
				      uts.release, HELPERS[i].name, HELPERS[i].since);
	/* Capabilities have been checked: of a user namespace they do not count here, and before 5.11 maps were paid for
	 * from the limit of locked memory, which libbpf raises if it may. */
	if (err == -EPERM)
		return reason(
			why, err,
			"loading BPF programs is not permitted: missing CAP_SYS_RESOURCE (or ulimit -l too low), or "
			"inside a user namespace");
	return reason(why, err, "the kernel refuses the BPF programs: %s (-v shows why)", strerror(-err));
}

/* libbpf tries whether the kernel takes names, and does without them if the trial fails for whatever reason, also want of
 * memory. But a translator is found by the names of its programs and maps. */
static int check_name(const struct bpf_program *prog)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len))
		return -errno;
	return strcmp(info.name, bpf_program__name(prog)) ? -EAGAIN : 0;
}

/* Of the two programs for --xdp, one is on interfaces of IPv6 hosts; the other is loaded for each that it is on. */
static void autoload_xdp(struct nat64_bpf *skel)
{
	const struct nat64_config *cfg = (const struct nat64_config *)&skel->rodata->cfg;

	bpf_program__set_autoload(skel->progs.nat64_xdp_6to4, cfg->xdp && !cfg->device && !cfg->l3);
	bpf_program__set_autoload(skel->progs.nat64_xdp_4to6, false);
}

/* Generic mode takes any MTU without. With frags, Linux 6.18 gives it a copy of the packet that forgets how long the Ethernet
 * header is, so that programs at tc ingress do not see it. */
static bool wants_frags(const struct nat64_config *cfg)
{
	return cfg->xdp && cfg->xdp != NAT64_XDP_GENERIC;
}

/* Lets drivers give the programs for --xdp frames in several buffers. */
static int set_frags(struct nat64_bpf *skel)
{
	struct bpf_program *const progs[] = { skel->progs.nat64_xdp_6to4, skel->progs.nat64_xdp_4to6 };
	int err = 0;

	for (size_t i = 0; !err && skel->rodata->cfg.xdp_frags && i < sizeof(progs) / sizeof(*progs); i++)
		err = bpf_program__set_flags(progs[i], bpf_program__flags(progs[i]) | BPF_F_XDP_HAS_FRAGS);
	return err;
}

/* Tells the form without KERNEL_BTF of the IPsec policies. 0, with a negative errno in *unseen if they cannot be seen; or a
 * negative errno if a second try might succeed. */
static int find_policies(struct nat64_config *cfg, int *unseen)
{
	int err = kernel_policies(cfg);

	if (is_passing(err) && err != -EPERM) /* which is what lockdown=confidentiality says */
		return err;
	*unseen = err;
	return 0;
}

/* A kernel without BTF, whose programs see none, is no news unless there are some. --check says it otherwise. */
static void warn_of_policies(const struct options *o, int err)
{
	if (o->action != ACTION_CHECK && (!access(KERNEL_BTF_FILE, R_OK) || ipsec_has_policies() > 0))
		msg_warn("IPsec policies cannot be seen here: packets may leave in the clear, but for --device (%s)",
			 access(KERNEL_BTF_FILE, R_OK) ? "no " KERNEL_BTF_FILE : strerror(-err));
}

/* Loads one form of the programs, see object.h. */
static int load_form(bool btf, int cpus, const struct options *o, const struct nat64_config *cfg,
		     const struct loaded *old, struct nat64_bpf **programs, enum inherit *inherit)
{
	struct nat64_bpf *skel = *programs = object_open(btf);
	struct nat64_config *own;
	int err, unseen = 0;

	*inherit = INHERIT_NOTHING;
	if (!skel)
		return -errno;
	own = (struct nat64_config *)&skel->rodata->cfg;
	*own = *cfg;
	err = btf ? 0 : find_policies(own, &unseen);
	if (err)
		return err;
	own->xdp_frags = wants_frags(cfg) && kernel_has_xdp_frags();
	bpf_program__set_autoload(skel->progs.nat64_fast, cfg->fast);
	autoload_xdp(skel);
	bpf_map__set_autocreate(skel->maps.xdp_targets, cfg->xdp);
	err = set_frags(skel);
	err = err ? err : set_sizes(skel, o, cpus);
	if (!err) {
		*inherit = inheritance(skel, cfg, old);
		err = reuse(skel, cfg, old, *inherit);
	}
	err = err ? err : nat64_bpf__load(skel);
	if (!err && unseen)
		warn_of_policies(o, unseen);
	return err;
}

int programs_load(const struct options *o, const struct nat64_config *cfg, const struct loaded *old,
		  struct nat64_bpf **programs, enum inherit *inherit, struct reason *why)
{
	int cpus = cfg->fast || cfg->xdp ? possible_cpus(why) : 1;
	const struct nat64_bpf *skel;
	int err;

	if (cpus < 0)
		return cpus;
	err = load_form(true, cpus, o, cfg, old, programs, inherit);
	libbpf_set_print(print_libbpf);
	if (err && !is_passing(err)) {
		msg_info("without BTF of this kernel: checksums by its helpers (%s)",
			 access(KERNEL_BTF_FILE, R_OK) ? "no " KERNEL_BTF_FILE : strerror(-err));
		nat64_bpf__destroy(*programs);
		err = load_form(false, cpus, o, cfg, old, programs, inherit);
	}
	skel = *programs;
	if (!skel)
		return reason(why, err, "cannot open the BPF programs: %s", strerror(-err));
	if (err)
		return explain(err, o, why);
	err = check_name(skel->progs.nat64_6to4);
	if (err)
		return reason(why, err, "the kernel does not tell the names of the BPF programs: %s", strerror(-err));
	if (*inherit != INHERIT_ALL)
		err = fill_pool(skel, cfg);
	err = err ? err : fill_stats(skel, old);
	err = err ? err : fill_allowed(skel, o);
	err = err ? err : fill_statics(skel, o);
	return err ? reason(why, err, "cannot fill in the maps: %s", strerror(-err)) : 0;
}

static bool is_jited(const struct bpf_program *prog)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);

	return !bpf_obj_get_info_by_fd(bpf_program__fd(prog), &info, &len) && info.jited_prog_len;
}

int programs_try(const struct options *o, struct trial *t, struct reason *why)
{
	struct nat64_bpf *programs;
	struct nat64_config cfg;
	enum inherit inherit;
	int err;

	options_config(o, &cfg);
	cfg.cut_mtu = cfg.mtu = cfg.lowest_ipv6_mtu;
	*t = (struct trial){ 0 };
	err = programs_load(o, &cfg, &LOADED_NONE, &programs, &inherit, why);
	if (!err) {
		t->btf = object_is_btf(programs);
		t->jited = is_jited(programs->progs.nat64_6to4);
	}
	programs_close(programs);
	return err;
}

/* All maps but .rodata, which has the configuration */
static int share_maps(const struct nat64_bpf *first, struct nat64_bpf *skel)
{
	struct bpf_map *map;
	int err = 0;

	bpf_object__for_each_map(map, skel->obj) {
		const struct bpf_map *same = bpf_object__find_map_by_name(first->obj, bpf_map__name(map));

		if (err || !same || map == skel->maps.rodata)
			continue;
		err = bpf_map__autocreate(same) ? bpf_map__reuse_fd(map, bpf_map__fd(same))
						: bpf_map__set_autocreate(map, false);
	}
	return err;
}

/* Opens the programs, with a configuration of their own, over the maps of `first`. */
static int open_over(const struct nat64_bpf *first, const struct nat64_config *cfg, struct nat64_bpf **programs,
		     struct reason *why)
{
	struct nat64_bpf *skel = *programs = object_open(object_is_btf(first));
	struct nat64_config *to;
	int err;

	if (!skel)
		return reason(why, -errno, "cannot open the BPF programs: %s", strerror(errno));
	to = (struct nat64_config *)&skel->rodata->cfg;
	*to = *cfg;
	to->policy_count = first->rodata->cfg.policy_count;
	to->policy_default = first->rodata->cfg.policy_default;
	to->xdp_frags = first->rodata->cfg.xdp_frags;
	err = set_frags(skel);
	err = err ? err : share_maps(first, skel);
	return err ? reason(why, err, "cannot use the maps: %s", strerror(-err)) : 0;
}

static int load_over(struct nat64_bpf *skel, struct reason *why)
{
	int err = nat64_bpf__load(skel);

	return err ? reason(why, err, "the kernel refuses the BPF programs: %s (-v shows why)", strerror(-err)) : 0;
}

int programs_load_port(const struct nat64_bpf *first, const struct nat64_config *cfg, struct nat64_bpf **programs,
		       struct reason *why)
{
	struct nat64_bpf *skel;
	int err = open_over(first, cfg, programs, why);

	if (err)
		return err;
	skel = *programs;
	bpf_program__set_autoload(skel->progs.nat64_fast, false);
	bpf_program__set_autoload(skel->progs.nat64_edit, false);
	autoload_xdp(skel);
	return load_over(skel, why);
}

int programs_load_xdp(const struct nat64_bpf *first, const struct nat64_config *cfg, struct nat64_bpf **programs,
		      int *fd, struct reason *why)
{
	int err = open_over(first, cfg, programs, why);
	struct bpf_program *prog = NULL, *wanted;

	if (err)
		return err;
	wanted = (*programs)->progs.nat64_xdp_4to6;
	while ((prog = bpf_object__next_program((*programs)->obj, prog)))
		bpf_program__set_autoload(prog, prog == wanted);
	err = load_over(*programs, why);
	*fd = err ? -1 : bpf_program__fd(wanted);
	return err;
}

int programs_add_target(const struct nat64_bpf *programs, __u32 ifindex)
{
	return bpf_map_update_elem(bpf_map__fd(programs->maps.xdp_targets), &ifindex, &ifindex, BPF_ANY) ? -errno : 0;
}

int programs_set_ports(const struct nat64_bpf *programs, const struct ports *ports)
{
	return ports_write(bpf_map__fd(programs->maps.ports), bpf_map__fd(programs->maps.port_numbers), ports);
}

void programs_close(struct nat64_bpf *programs)
{
	nat64_bpf__destroy(programs);
}

int programs_load_edit(const struct nat64_config *cfg, const struct loaded *maps, struct nat64_bpf **programs,
		       int *program, int *map)
{
	struct nat64_bpf *skel = *programs = object_open(false);
	const struct {
		struct bpf_map *map;
		int fd;
	} used[] = {
		{ skel ? skel->maps.mappings : NULL, maps->mappings },
		{ skel ? skel->maps.by_v6 : NULL, maps->by_v6 },
		/* for a version without lists: of this run alone */
		{ skel ? skel->maps.pool : NULL, maps->order < 0 ? -1 : maps->pool },
		{ skel ? skel->maps.order : NULL, maps->order },
		{ skel ? skel->maps.by_prefix : NULL, maps->by_prefix },
		{ skel ? skel->maps.prefixes : NULL, maps->prefixes },
		{ skel ? skel->maps.members : NULL, maps->members },
		{ skel ? skel->maps.counting : NULL, maps->counting },
	};
	struct bpf_program *prog = NULL;
	struct bpf_map *m = NULL;
	int err = 0;

	if (!skel)
		return -errno;
	memcpy((void *)&skel->rodata->cfg, cfg, sizeof(*cfg));
	while ((prog = bpf_object__next_program(skel->obj, prog)))
		bpf_program__set_autoload(prog, prog == skel->progs.nat64_edit);
	while ((m = bpf_object__next_map(skel->obj, m)))
		bpf_map__set_autocreate(m, m == skel->maps.edits || m == skel->maps.rodata);
	for (size_t i = 0; !err && i < sizeof(used) / sizeof(*used); i++) {
		err = bpf_map__set_autocreate(used[i].map, true);
		err = err || used[i].fd < 0 ? err : bpf_map__reuse_fd(used[i].map, used[i].fd);
	}
	if (!err && maps->order < 0)
		err = bpf_map__set_max_entries(skel->maps.order, (1U << (32 - cfg->v4_len)) + NAT64_NODES);
	libbpf_set_print(print_libbpf);
	err = err ? err : nat64_bpf__load(skel);
	*program = bpf_program__fd(skel->progs.nat64_edit);
	*map = bpf_map__fd(skel->maps.edits);
	return err;
}

struct loaded programs_maps(const struct nat64_bpf *programs)
{
	struct loaded maps = LOADED_NONE;

	maps.mappings = bpf_map__fd(programs->maps.mappings);
	maps.by_v6 = bpf_map__fd(programs->maps.by_v6);
	maps.pool = bpf_map__fd(programs->maps.pool);
	maps.order = bpf_map__fd(programs->maps.order);
	maps.by_prefix = bpf_map__fd(programs->maps.by_prefix);
	maps.prefixes = bpf_map__fd(programs->maps.prefixes);
	maps.members = bpf_map__fd(programs->maps.members);
	maps.counting = bpf_map__fd(programs->maps.counting);
	maps.edit = bpf_program__fd(programs->progs.nat64_edit);
	maps.edits = bpf_map__fd(programs->maps.edits);
	maps.stats = bpf_map__fd(programs->maps.stats);
	maps.allowed = bpf_map__fd(programs->maps.allowed);
	maps.static6 = bpf_map__fd(programs->maps.static6);
	maps.static4 = bpf_map__fd(programs->maps.static4);
	maps.listen = bpf_map__fd(programs->maps.listen);
	maps.events = bpf_map__fd(programs->maps.events);
	maps.packets = bpf_map__fd(programs->maps.packets);
	maps.ports = bpf_map__fd(programs->maps.ports);
	return maps;
}

int programs_fd(const struct nat64_bpf *programs, enum nat64_way way)
{
	return bpf_program__fd(way == NAT64_6TO4 ? programs->progs.nat64_6to4 : programs->progs.nat64_4to6);
}

int programs_fast_fd(const struct nat64_bpf *programs)
{
	return bpf_program__fd(programs->progs.nat64_fast);
}

int programs_xdp_fd(const struct nat64_bpf *programs)
{
	return bpf_program__fd(programs->progs.nat64_xdp_6to4);
}

static unsigned long long memlock(const struct bpf_map *map)
{
	unsigned long long bytes = 0;
	char line[128];
	FILE *file;

	snprintf(line, sizeof(line), "/proc/self/fdinfo/%d", bpf_map__fd(map));
	file = fopen(line, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "memlock: %llu", &bytes) == 1)
			break;
	fclose(file);
	return bytes;
}

unsigned long long programs_memory(const struct nat64_bpf *programs)
{
	unsigned long long bytes = 0;
	const struct bpf_map *map;

	/* Maps that no attached program uses are freed when this process ends. */
	bpf_object__for_each_map(map, programs->obj)
		bytes += map == programs->maps.edits ? 0 : memlock(map);
	return bytes;
}
