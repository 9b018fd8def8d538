// SPDX-License-Identifier: GPL-2.0-or-later
/* table.c - reading the mappings of a translator that is loaded */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "addr.h"
#include "clock.h"
#include "table.h"

int mapping_read(int mappings, __u32 index, struct nat64_mapping *m)
{
	do {
		if (bpf_map_lookup_elem_flags(mappings, &index, m, BPF_F_LOCK))
			return -errno;
	} while (m->tick == NAT64_TAKEN);
	return 0;
}

int walk_step(struct walk *walk, int mappings, mapping_cb cb, void *data)
{
	const struct bpf_map_batch_opts opts = { .sz = sizeof(opts), .elem_flags = BPF_F_LOCK };
	struct nat64_mapping *m = malloc(WALK_PIECE * sizeof(*m));
	__u32 *index = malloc(WALK_PIECE * sizeof(*index));
	__u32 next = 0, n = WALK_PIECE;
	int err = m && index ? 0 : -ENOMEM;

	if (!err && bpf_map_lookup_batch(mappings, walk->next ? &walk->at : NULL, &next, index, m, &n, &opts)) {
		walk->done = errno == ENOENT;
		err = walk->done ? 0 : -errno;
	}
	for (__u32 i = 0; !err && i < n; i++) {
		walk->next = index[i] + 1;
		err = m[i].tick == NAT64_TAKEN ? mapping_read(mappings, index[i], &m[i]) : 0;
		err = err ? err : cb(index[i], &m[i], data);
	}
	walk->at = next;
	free(m);
	free(index);
	return err;
}

int mappings_walk(int mappings, mapping_cb cb, void *data)
{
	struct walk walk = { 0 };
	int err = 0;

	while (!err && !walk.done)
		err = walk_step(&walk, mappings, cb, data);
	return err;
}

__u64 config_timeout(const struct nat64_config *cfg)
{
	return cfg->timeout / cfg->hz * NS_PER_SEC;
}

enum mapping_kind mapping_kind(const struct nat64_mapping *m, const struct nat64_config *cfg, __u64 now)
{
	if (!m->tick)
		return MAPPING_FREE;
	if (m->tick == NAT64_STATIC)
		return v6_is_none(&m->v6) ? MAPPING_HELD : MAPPING_STATIC;
	return mapping_idle(m, now) > config_timeout(cfg) ? MAPPING_EXPIRED : MAPPING_LIVE;
}

__u64 mapping_idle(const struct nat64_mapping *m, __u64 now)
{
	__s64 idle = now - m->last_seen;

	return idle > 0 ? idle : 0;
}

bool is_given_out(__u32 index, __u32 v4_len)
{
	return v4_len == 31 || (v4_len < 31 && index && index != (1U << (32 - v4_len)) - 1);
}

bool is_given_out_here(__u32 index, const struct nat64_config *cfg)
{
	__be32 v4 = cfg->v4_prefix | be32_from(index);

	return is_given_out(index, cfg->v4_len) && !((v4 ^ cfg->give_out) & cfg->give_mask);
}
