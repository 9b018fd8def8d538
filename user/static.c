// SPDX-License-Identifier: GPL-2.0-or-later
/* static.c - static mappings */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "loaded.h"
#include "static.h"

/* Copies one side of V6=V4, completed with the length of an address. */
static int side(const char *text, size_t n, const char *full, char *buf, size_t size)
{
	if (n >= size - strlen(full))
		return -EINVAL;
	memcpy(buf, text, n);
	buf[n] = 0;
	if (!strchr(buf, '/'))
		strcat(buf, full);
	return 0;
}

int static_parse(const char *text, struct static_mapping *m, struct reason *why)
{
	const char *equals = strchr(text, '=');
	char v6[PREFIX_STRLEN + 8], v4[PREFIX_STRLEN + 8];
	const char *what;

	if (!equals)
		return reason(why, -EINVAL, "not V6=V4");
	if (side(text, equals - text, "/128", v6, sizeof(v6)) ||
	    side(equals + 1, strlen(equals + 1), "/32", v4, sizeof(v4)))
		return reason(why, -EINVAL, "not an IPv6 address or prefix, =, and an IPv4 one");
	if (parse_prefix6(v6, &m->v6, why) || check_network6(&m->v6, why) || parse_prefix4(v4, &m->v4, why) ||
	    check_network4(&m->v4, why))
		return -EINVAL;
	what = prefix6_special(&m->v6);
	if (what)
		return reason(why, -EINVAL, "overlaps the %s", what);
	what = m->v4.len ? prefix4_special(&m->v4) : NULL; /* all there are: CLAT (RFC 6877) */
	if (what)
		return reason(why, -EINVAL, "no addresses for hosts: %s", what);
	if (128 - m->v6.len < 32 - m->v4.len)
		return reason(why, -EINVAL, "the IPv6 prefix has fewer addresses than the IPv4 prefix");
	return 0;
}

int statics_append(struct statics *s, const struct static_mapping *m)
{
	struct static_mapping *more = array_room(s->list, s->n, sizeof(*more));

	if (!more)
		return -ENOMEM;
	s->list = more;
	more[s->n++] = *m;
	return 0;
}

void statics_free(struct statics *s)
{
	free(s->list);
	*s = (struct statics){ 0 };
}

static int by_v4(const void *a, const void *b)
{
	const struct static_mapping *x = a, *y = b;

	return prefix4_order(&x->v4, &y->v4);
}

static int by_v6(const void *a, const void *b)
{
	const struct static_mapping *x = a, *y = b;

	return prefix6_order(&x->v6, &y->v6);
}

/* Sorts, and finds neighbours that are the same to the comparison. */
static int sort(struct statics *s, int (*compare)(const void *a, const void *b), struct static_mapping *first,
		struct static_mapping *second)
{
	qsort(s->list, s->n, sizeof(*s->list), compare);
	for (size_t i = 1; i < s->n; i++) {
		if (compare(&s->list[i - 1], &s->list[i]))
			continue;
		*first = s->list[i - 1];
		*second = s->list[i];
		return -EINVAL;
	}
	return 0;
}

int statics_sort(struct statics *s, struct static_mapping *first, struct static_mapping *second)
{
	struct static_mapping swap;

	if (!s->n || !(sort(s, by_v6, first, second) || sort(s, by_v4, first, second)))
		return 0;
	if (first->line > second->line) {
		swap = *first;
		*first = *second;
		*second = swap;
	}
	return -EINVAL;
}

bool static_is_in_table(const struct static_mapping *m, const struct prefix4 *pool)
{
	return m->v6.len == 128 && m->v4.len == 32 && prefix4_covers(pool, &m->v4);
}

size_t statics_outside(const struct statics *s, const struct prefix4 *pool)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += !static_is_in_table(&s->list[i], pool);
	return n;
}

int statics_read(const struct loaded *maps, struct statics *s)
{
	struct nat64_static6 value;
	struct nat64_lpm4 key;
	int err;

	*s = (struct statics){ 0 };
	if (maps->static4 < 0)
		return 0;
	err = bpf_map_get_next_key(maps->static4, NULL, &key);
	while (!err) {
		struct static_mapping m = { .v4 = { key.v4, key.len } };

		if (bpf_map_lookup_elem(maps->static4, &key, &value))
			return -errno;
		m.v6 = (struct prefix6){ value.v6, 128 - (32 - key.len) - value.left };
		if (statics_append(s, &m))
			return -ENOMEM;
		err = bpf_map_get_next_key(maps->static4, &key, &key);
	}
	if (errno != ENOENT)
		return -errno;
	if (s->n)
		qsort(s->list, s->n, sizeof(*s->list), by_v4);
	return 0;
}

struct static_text static_text(const struct static_mapping *m)
{
	struct static_text t;

	snprintf(t.s, sizeof(t.s), "%s=%s", text6(m->v6).s, text4(m->v4).s);
	return t;
}
