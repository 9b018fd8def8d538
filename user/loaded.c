// SPDX-License-Identifier: GPL-2.0-or-later
/* loaded.c - a translator that is loaded: its programs and maps, of this or another version of nat64 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loaded.h"
#include "object.h"

#define MAPS_MAX   64		     /* of a program, which has far fewer */
#define CONFIG_MAP "nat64_bp.rodata" /* as libbpf calls it, cut to the length that names of maps have */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

const struct loaded LOADED_NONE = { { -1, -1 }, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
				    -1,		-1, -1, -1, -1, -1, -1, -1, -1, 0 };

/* Where the descriptors of maps belong, by their names */
static const struct slot {
	const char *name;
	size_t offset;
} SLOTS[] = {
	{ "mappings", offsetof(struct loaded, mappings) }, { "by_v6", offsetof(struct loaded, by_v6) },
	{ "pool", offsetof(struct loaded, pool) },	   { "stats", offsetof(struct loaded, stats) },
	{ "allowed", offsetof(struct loaded, allowed) },   { "static6", offsetof(struct loaded, static6) },
	{ "static4", offsetof(struct loaded, static4) },   { CONFIG_MAP, offsetof(struct loaded, config) },
	{ "listen", offsetof(struct loaded, listen) },	   { "events", offsetof(struct loaded, events) },
	{ "packets", offsetof(struct loaded, packets) },   { "order", offsetof(struct loaded, order) },
	{ "ports", offsetof(struct loaded, ports) },	   { "by_prefix", offsetof(struct loaded, by_prefix) },
	{ "prefixes", offsetof(struct loaded, prefixes) }, { "members", offsetof(struct loaded, members) },
	{ "counting", offsetof(struct loaded, counting) },
};

void loaded_close(struct loaded *old)
{
	for (int way = 0; way < NAT64_WAYS; way++)
		close_fd(&old->program[way]);
	for (size_t i = 0; i < sizeof(SLOTS) / sizeof(*SLOTS); i++)
		close_fd((int *)((char *)old + SLOTS[i].offset));
}

/* NULL for maps of another name */
static int *loaded_slot(struct loaded *old, const char *name)
{
	for (size_t i = 0; i < sizeof(SLOTS) / sizeof(*SLOTS); i++)
		if (!strcmp(name, SLOTS[i].name))
			return (int *)((char *)old + SLOTS[i].offset);
	return NULL;
}

static int loaded_maps(struct loaded *old, int program)
{
	__u32 id[MAPS_MAX];
	struct bpf_prog_info info = { .nr_map_ids = MAPS_MAX, .map_ids = (__u64)(unsigned long)id };
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(program, &info, &len))
		return -errno;
	if (info.load_time > old->since)
		old->since = info.load_time;
	for (__u32 i = 0; i < info.nr_map_ids && i < MAPS_MAX; i++) {
		struct bpf_map_info map = { 0 };
		int fd = bpf_map_get_fd_by_id(id[i]);
		int *slot = NULL;

		len = sizeof(map);
		if (fd < 0)
			return -errno;
		if (!bpf_obj_get_info_by_fd(fd, &map, &len))
			slot = loaded_slot(old, map.name);
		if (!slot || *slot >= 0)
			slot = &fd;
		else
			*slot = fd;
		if (slot == &fd)
			close_fd(&fd);
	}
	return 0;
}

int loaded_open(const __u32 id[NAT64_WAYS], struct loaded *old, struct reason *why)
{
	int err;

	*old = LOADED_NONE;
	for (int way = 0; way < NAT64_WAYS; way++) {
		if (!id[way])
			continue;
		old->program[way] = bpf_prog_get_fd_by_id(id[way]);
		err = old->program[way] < 0 ? -errno : loaded_maps(old, old->program[way]);
		if (err)
			return reason(why, err, "cannot look into the translator that is loaded: %s", strerror(-err));
	}
	return 0;
}

static __u32 map_id(int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	return fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.id;
}

bool loaded_same(const struct loaded *a, const struct loaded *b)
{
	__u32 id = map_id(a->mappings);

	return id && id == map_id(b->mappings);
}

static bool is_of_size(int fd, size_t size)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	return fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len) && info.value_size == size;
}

/* "pool" of version 2, the oldest that is known. It had no "order", and .epoch of a mapping was 0. */
struct pool_2 {
	struct bpf_spin_lock lock;
	__u32 hand; /* looks for an address that is free, */
	__u32 left; /* so many before it has seen all: */
	__u32 version;
	__u64 oldest;	   /* the smallest tick since it began; */
	__u64 full_oldest; /* it looks no more until that one has expired; 0: it looks */
	__be32 v4_prefix;
	__u32 v4_len;
};

bool loaded_pool(const struct loaded *old, struct nat64_pool *pool)
{
	struct pool_2 pool_2;
	__u32 zero = 0;

	if (!is_of_size(old->mappings, sizeof(struct nat64_mapping)))
		return false;
	if (is_of_size(old->pool, sizeof(*pool)))
		return !bpf_map_lookup_elem(old->pool, &zero, pool) && pool->version == NAT64_STATE_VERSION;
	if (!is_of_size(old->pool, sizeof(pool_2)) || bpf_map_lookup_elem(old->pool, &zero, &pool_2) ||
	    pool_2.version != 2)
		return false;
	*pool = (struct nat64_pool){ .version = pool_2.version,
				     .v4_prefix = pool_2.v4_prefix,
				     .v4_len = pool_2.v4_len };
	return true;
}

int loaded_freed(const struct loaded *old)
{
	struct pool_2 pool;
	__u32 zero = 0;

	if (!is_of_size(old->pool, sizeof(pool)))
		return 0;
	if (bpf_map_lookup_elem_flags(old->pool, &zero, &pool, BPF_F_LOCK))
		return -errno;
	pool.left = 1U << (32 - pool.v4_len);
	pool.oldest = ~0ULL;
	pool.full_oldest = 0;
	return bpf_map_update_elem(old->pool, &zero, &pool, BPF_F_LOCK) ? -errno : 0;
}

/* A value and its type */
struct typed {
	const struct btf *btf;
	__u32 id;
	char *at;
};

static const struct btf_type *type_of(const struct typed *v)
{
	return btf__type_by_id(v->btf, btf__resolve_type(v->btf, v->id));
}

static void copy_value(const struct typed *to, const struct typed *from);

/* The members that both sides know, by their names, whatever else has come or gone between them */
static void copy_members(const struct typed *to, const struct btf_type *to_type, const struct typed *from,
			 const struct btf_type *from_type)
{
	const struct btf_member *t = btf_members(to_type);

	for (int i = 0; i < btf_vlen(to_type); i++, t++) {
		const struct btf_member *f = btf_members(from_type);
		const char *name = btf__name_by_offset(to->btf, t->name_off);

		for (int j = 0; j < btf_vlen(from_type); j++, f++)
			if (!strcmp(name, btf__name_by_offset(from->btf, f->name_off)))
				copy_value(&(struct typed){ to->btf, t->type, to->at + t->offset / 8 },
					   &(struct typed){ from->btf, f->type, from->at + f->offset / 8 });
	}
}

/* The elements that both sides have: what is new comes at the end. */
static void copy_elements(const struct typed *to, const struct btf_array *t, const struct typed *from,
			  const struct btf_array *f)
{
	__s64 to_size = btf__resolve_size(to->btf, t->type), from_size = btf__resolve_size(from->btf, f->type);

	for (__u32 i = 0; i < t->nelems && i < f->nelems; i++)
		copy_value(&(struct typed){ to->btf, t->type, to->at + i * to_size },
			   &(struct typed){ from->btf, f->type, from->at + i * from_size });
}

/* Copies what two versions of a type have in common. */
static void copy_value(const struct typed *to, const struct typed *from)
{
	const struct btf_type *t = type_of(to), *f = type_of(from);

	if (t && f && btf_is_struct(t) && btf_is_struct(f))
		copy_members(to, t, from, f);
	else if (t && f && btf_is_array(t) && btf_is_array(f))
		copy_elements(to, btf_array(t), from, btf_array(f));
	else if (btf__resolve_size(to->btf, to->id) == btf__resolve_size(from->btf, from->id))
		memcpy(to->at, from->at, btf__resolve_size(to->btf, to->id));
}

static struct btf *btf_of_map(int fd)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	return fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) || !info.btf_id
		       ? NULL
		       : btf__load_from_kernel_by_id(info.btf_id);
}

/* Copies `n` structs called `name`, which stand `step` bytes apart, from `value` of a map of another version of nat64,
 * perhaps. Their layout there is in the BTF that came with the map, which all kernels keep. */
static int copy_structs(int map, const char *name, const char *value, size_t step, size_t n, void *to, size_t size)
{
	struct btf *from = btf_of_map(map);
	struct nat64_bpf *skel = object_open(false);
	const struct btf *btf = skel ? bpf_object__btf(skel->obj) : NULL;
	int to_id = btf ? btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT) : -ENOMEM;
	int from_id = from ? btf__find_by_name_kind(from, name, BTF_KIND_STRUCT) : -EPROTO;
	int err = to_id < 0 ? to_id : from_id < 0 ? from_id : 0;

	if (!err && btf__resolve_size(from, from_id) > (__s64)step)
		err = -EPROTO;
	memset(to, 0, n * size);
	for (size_t i = 0; !err && i < n; i++)
		copy_value(&(struct typed){ btf, to_id, (char *)to + i * size },
			   &(struct typed){ from, from_id, (char *)value + i * step });
	nat64_bpf__destroy(skel);
	btf__free(from);
	return err;
}

/* Reads the value of a map that has one, on each of `n` CPUs if it is per-CPU: the struct called `name` that it begins with. */
static int read_structs(int map, const char *name, size_t n, void *to, size_t size)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info), zero = 0;
	int err = bpf_obj_get_info_by_fd(map, &info, &len) ? -errno : 0;
	char *value = err ? NULL : calloc(n, info.value_size);

	if (!err && !value)
		err = -ENOMEM;
	err = err ? err : bpf_map_lookup_elem(map, &zero, value) ? -errno : 0;
	err = err ? err : copy_structs(map, name, value, info.value_size, n, to, size);
	free(value);
	return err;
}

/* In the section .rodata it comes first. */
_Static_assert(!offsetof(struct nat64_bpf__rodata, cfg), "other versions of nat64 look for the configuration there");

int loaded_stats(const struct loaded *old, size_t cpus, struct nat64_stats *stats)
{
	return read_structs(old->stats, "nat64_stats", cpus, stats, sizeof(*stats));
}

int loaded_config(const struct loaded *old, struct nat64_config *cfg, struct reason *why)
{
	struct nat64_pool pool;
	int err;

	if (!loaded_pool(old, &pool) || old->by_v6 < 0 || old->allowed < 0 || old->stats < 0 || old->config < 0)
		return reason(why, -EPROTO, "the translator that is loaded is of another version of nat64");
	err = read_structs(old->config, "nat64_config", 1, cfg, sizeof(*cfg));
	return err ? reason(why, err, "cannot read its configuration: %s", strerror(-err)) : 0;
}

int program_config(int fd, struct nat64_config *cfg)
{
	struct loaded maps = LOADED_NONE;
	int err = loaded_maps(&maps, fd);

	err = err ? err : maps.config < 0 ? -ENOENT : read_structs(maps.config, "nat64_config", 1, cfg, sizeof(*cfg));
	loaded_close(&maps);
	return err;
}

int program_owner(int fd, unsigned int *ifindex)
{
	const size_t offset = offsetof(struct nat64_bpf__rodata, cfg) + offsetof(struct nat64_config, ifindex);
	struct loaded maps = LOADED_NONE;
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);
	int err = loaded_maps(&maps, fd);
	char *data = NULL;
	__u32 zero = 0;

	if (err)
		goto out;
	err = -ENOENT;
	if (maps.config < 0 || bpf_obj_get_info_by_fd(maps.config, &info, &len) ||
	    info.value_size < offset + sizeof(*ifindex))
		goto out;
	data = malloc(info.value_size);
	err = !data ? -ENOMEM : bpf_map_lookup_elem(maps.config, &zero, data) ? -errno : 0;
	if (!err)
		memcpy(ifindex, data + offset, sizeof(*ifindex));
out:
	free(data);
	loaded_close(&maps);
	return err;
}

int possible_cpus(struct reason *why)
{
	int cpus = libbpf_num_possible_cpus();

	if (cpus == -ENOENT)
		return reason(why, -ENODATA, "cannot tell how many CPUs there are: /sys is not mounted");
	return cpus < 0 ? reason(why, cpus, "cannot tell how many CPUs there are: %s", strerror(-cpus)) : cpus;
}
