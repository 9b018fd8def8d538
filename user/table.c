// SPDX-License-Identifier: GPL-2.0-or-later
/* table.c - reading the mappings of a translator that is loaded */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "addr.h"
#include "clock.h"
#include "table.h"

#define BATCH 4096 /* entries that are read by one system call */

int mapping_read(int mappings, __u32 index, struct nat64_mapping *m)
{
	do {
		if (bpf_map_lookup_elem_flags(mappings, &index, m, BPF_F_LOCK))
			return -errno;
	} while (m->tick == NAT64_TAKEN);
	return 0;
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
		for (__u32 i = 0; !err && i < n; i++) {
			err = m[i].tick == NAT64_TAKEN ? mapping_read(mappings, index[i], &m[i]) : 0;
			err = err ? err : cb(index[i], &m[i], data);
		}
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
