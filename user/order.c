// SPDX-License-Identifier: GPL-2.0-or-later
/* order.c - the lists of addresses, free and in use */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "array.h"
#include "order.h"
#include "table.h"

static int add_place(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct places *p = data;
	struct place *more;

	if (!m->tick || !is_given_out_here(index, p->cfg))
		return 0;
	more = array_room(p->list, p->n, sizeof(*more));
	if (!more)
		return -ENOMEM;
	p->list = more;
	more[p->n++] = (struct place){ m->tick, index, m->epoch };
	return 0;
}

/* As the packet path compares them: by their difference. Static ones come last. */
static int by_tick(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	__s64 d = x->tick - y->tick;

	return d < 0 ? -1 : d > 0;
}

int places_read(const struct loaded *maps, const struct nat64_config *cfg, struct places *p)
{
	int err;

	*p = (struct places){ .cfg = cfg };
	err = mappings_walk(maps->mappings, add_place, p);
	if (p->n)
		qsort(p->list, p->n, sizeof(*p->list), by_tick);
	return err;
}

void places_free(struct places *p)
{
	free(p->list);
	*p = (struct places){ 0 };
}

__u32 places_find(const struct places *p, __u64 tick, const struct nat64_config *cfg, __u32 *epoch)
{
	size_t low = 0, high = p->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if ((__s64)(p->list[middle].tick - tick) > 0)
			high = middle;
		else
			low = middle + 1;
	}
	*epoch = 0;
	if (low == p->n || p->list[low].tick == NAT64_STATIC)
		return NAT64_USED(1U << (32 - cfg->v4_len));
	*epoch = p->list[low].epoch;
	return p->list[low].index;
}

static size_t bytes_of(__u32 addresses)
{
	return ((size_t)addresses + NAT64_NODES) * sizeof(struct nat64_node);
}

static void append(struct nat64_node *node, __u32 list, __u32 i)
{
	__u32 last = node[list].prev;

	node[last].next = i;
	node[i] = (struct nat64_node){ list, last };
	node[list].prev = i;
}

int order_build(const struct loaded *maps, const struct nat64_config *cfg, const struct places *in_use, __u32 first)
{
	__u32 n = 1U << (32 - cfg->v4_len);
	struct nat64_node *node = mmap(NULL, bytes_of(n), PROT_READ | PROT_WRITE, MAP_SHARED, maps->order, 0);
	unsigned char *used = calloc(n, 1);
	int err = node == MAP_FAILED ? -errno : used ? 0 : -ENOMEM;

	if (err)
		goto out;
	for (__u32 i = 0; i < n + NAT64_NODES; i++)
		node[i] = (struct nat64_node){ i, i };
	for (size_t i = 0; i < in_use->n; i++) {
		const struct place *p = &in_use->list[i];

		used[p->index] = 1;
		if (p->tick != NAT64_STATIC)
			append(node, NAT64_USED(n), p->index);
	}
	for (__u32 i = 0; i < n; i++) {
		__u32 index = (first + i) & (n - 1);

		if (!used[index] && is_given_out_here(index, cfg))
			append(node, NAT64_FREE(n), index);
	}
out:
	free(used);
	if (node != MAP_FAILED)
		munmap(node, bytes_of(n));
	return err;
}

unsigned char *order_lists(const struct loaded *maps, const struct nat64_config *cfg)
{
	__u32 n = 1U << (32 - cfg->v4_len), i = NAT64_FREE(n);
	const struct nat64_node *node = mmap(NULL, bytes_of(n), PROT_READ, MAP_SHARED, maps->order, 0);
	unsigned char *in = calloc(n, 1);

	for (__u32 k = 0; node != MAP_FAILED && in && k < n; k++)
		in[k] = node[k].next == k ? ORDER_NONE : ORDER_USED;
	/* Packets take the first one meanwhile, and so on: no more steps than there are addresses. */
	for (__u32 steps = 0; node != MAP_FAILED && in && steps < n && node[i].next < n; steps++) {
		i = node[i].next;
		in[i] = ORDER_FREE;
	}
	if (node == MAP_FAILED) {
		free(in);
		return NULL;
	}
	munmap((void *)node, bytes_of(n));
	return in;
}

__u32 order_next(const struct loaded *maps, const struct nat64_config *cfg)
{
	__u32 n = 1U << (32 - cfg->v4_len), list = NAT64_FREE(n);
	struct nat64_node node;

	return maps->order >= 0 && !bpf_map_lookup_elem(maps->order, &list, &node) && node.next < n ? node.next : 0;
}
