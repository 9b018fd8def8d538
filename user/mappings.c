// SPDX-License-Identifier: GPL-2.0-or-later
/* mappings.c - list, save, delete and flush the mappings of a translator */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "mappings.h"
#include "out.h"
#include "reconcile.h"
#include "save.h"
#include "state.h"
#include "table.h"
#include "translator.h"

struct list {
	const struct translator *t;
	struct out out;
	__u64 now;
	struct statics statics; /* those that are not in the table */
	size_t next;		/* the one of them that comes next */
};

static void print_head(struct list *list)
{
	const struct nat64_config *cfg = &list->t->cfg;
	struct out *o = &list->out;

	out_text(o, "%-18s %-43s %-7s %9s %9s\n", "IPv4", "IPv6", "type", "idle", "expires");
	out_uint(o, SAVE_FORMAT, NULL, SAVE_VERSION);
	out_string(o, "interface", NULL, list->t->link->name);
	out_uint(o, SAVE_TIME, NULL, time(NULL));
	out_string(o, "v6_prefix", NULL, text6((struct prefix6){ cfg->v6_prefix, cfg->v6_len }).s);
	if (cfg->v4_len == NAT64_V4_LEN_NONE)
		out_null(o, "v4_prefix");
	else
		out_string(o, "v4_prefix", NULL, text4(translator_pool(list->t)).s);
	out_uint(o, "timeout", NULL, cfg->timeout / cfg->hz);
	out_stream(o, SAVE_LIST);
}

static void print_static(struct out *o, struct prefix4 v4, struct prefix6 v6)
{
	out_object(o, NULL);
	out_string(o, SAVE_V4, "%-18s ", text4(v4).s);
	out_string(o, SAVE_V6, "%-43s ", text6(v6).s);
	out_string(o, SAVE_TYPE, "%-7s ", SAVE_STATIC);
	out_text(o, "%9s %9s\n", "-", "-");
	out_null(o, SAVE_IDLE);
	out_null(o, SAVE_EXPIRES);
	out_null(o, SAVE_AGE);
	out_close(o);
}

static void print_dynamic(struct list *list, struct prefix4 v4, const struct nat64_mapping *m)
{
	__u64 idle = mapping_idle(m, list->now);
	__u64 timeout = config_timeout(&list->t->cfg);
	struct out *o = &list->out;

	out_object(o, NULL);
	out_string(o, SAVE_V4, "%-18s ", text4(v4).s);
	out_string(o, SAVE_V6, "%-43s ", text6((struct prefix6){ m->v6, 128 }).s);
	out_string(o, SAVE_TYPE, "%-7s ", SAVE_DYNAMIC);
	out_uint(o, SAVE_IDLE, "%9llu ", idle / NS_PER_SEC);
	/* rounded up: 0 is an expired one */
	out_uint(o, SAVE_EXPIRES, "%9llu\n", idle > timeout ? 0 : (timeout - idle) / NS_PER_SEC + 1);
	out_uint(o, SAVE_AGE, NULL, (list->now - m->created) / NS_PER_SEC);
	out_close(o);
}

/* The static mappings that are not in the table, up to an address */
static void print_statics(struct list *list, __u32 address)
{
	const struct static_mapping *m = &list->statics.list[list->next];

	for (; list->next < list->statics.n && be32_to(m->v4.addr) <= address; list->next++, m++)
		print_static(&list->out, m->v4, m->v6);
}

/* A host that gets another address during the walk must not be listed twice: mappings made since it began are left out. Of
 * those made in the second before it, only the ones that by_v6 has: two CPUs may each have claimed an address for the same
 * host, of which one is given back. */
static bool is_too_new(const struct list *list, __u32 index, const struct nat64_mapping *m)
{
	__s64 age = list->now - m->created;
	__u32 by_v6;

	if (age > (__s64)NS_PER_SEC)
		return false;
	return age < 0 || bpf_map_lookup_elem(list->t->maps.by_v6, &m->v6, &by_v6) || by_v6 != index;
}

static int print_mapping(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct list *list = data;
	struct prefix4 v4 = translator_address(list->t, index);

	print_statics(list, be32_to(v4.addr));
	switch (mapping_kind(m, &list->t->cfg, list->now)) {
	case MAPPING_STATIC:
		print_static(&list->out, v4, (struct prefix6){ m->v6, 128 });
		break;
	case MAPPING_LIVE:
	case MAPPING_EXPIRED:
		if (!is_too_new(list, index, m))
			print_dynamic(list, v4, m);
		break;
	default:
		break;
	}
	return list->out.failed ? -ENOMEM : ferror(list->out.to) ? out_error(list->out.to) : 0;
}

static int print_list(const struct translator *t, FILE *to, bool json)
{
	struct list list = { .t = t, .now = boottime() };
	int err, ended;

	out_begin(&list.out, to, json);
	err = statics_read(&t->maps, &list.statics);
	print_head(&list);
	err = err ? err : mappings_walk(t->maps.mappings, print_mapping, &list);
	print_statics(&list, ~0U);
	ended = out_end(&list.out);
	statics_free(&list.statics);
	return err ? err : ended;
}

static int show(const struct translator *t, bool json)
{
	int err = print_list(t, stdout, json);

	return err ? msg_fail(err, "%s: cannot list its mappings: %s", t->link->name, strerror(-err)) : 0;
}

static int show_one(struct nl *nl, const struct link *link, bool json)
{
	struct translator t;
	int err;

	err = translator_open(nl, link, &t);
	err = err ? err : show(&t, json);
	translator_close(&t);
	return err;
}

/* Several documents, each as of one translator, in a list as --status has it. */
static int print_all(const struct translator *t, size_t n, bool json)
{
	int err = 0;

	fputs(json ? "{\"translators\":[\n" : n ? "" : "no translator is loaded\n", stdout);
	for (size_t i = 0; !err && i < n; i++) {
		fputs(!i ? "" : json ? ",\n" : "\n", stdout);
		if (!json)
			printf("%s\n", t[i].link->name);
		err = show(&t[i], json);
	}
	if (err)
		return err;
	fputs(json ? "]}\n" : "", stdout);
	err = out_error(stdout);
	return err ? msg_fail(err, "cannot write: %s", strerror(-err)) : 0;
}

static int show_all(struct nl *nl, bool json)
{
	struct translator *t = NULL;
	struct link *links;
	size_t n, found = 0;
	int err = link_list(nl, &links, &n);

	if (err)
		return msg_fail(err, "cannot list the interfaces: %s", nl_error(nl, err));
	t = calloc(n ? n : 1, sizeof(*t));
	if (!t)
		err = msg_fail(-ENOMEM, "%s", strerror(ENOMEM));
	for (size_t i = 0; !err && i < n; i++) {
		err = translator_try(nl, &links[i], &t[found]);
		if (err)
			translator_close(&t[found]);
		else
			found++;
		err = err == -ENOENT ? 0 : err;
	}
	err = err ? err : print_all(t, found, json);
	while (found)
		translator_close(&t[--found]);
	free(t);
	free(links);
	return err;
}

int mappings_show(struct nl *nl, const struct link *link, const struct options *o)
{
	return link ? show_one(nl, link, o->json) : show_all(nl, o->json);
}

static int write_list(FILE *to, void *data)
{
	return print_list(data, to, true);
}

int mappings_save(struct nl *nl, const struct link *link, const struct options *o)
{
	struct reason why = { "" };
	struct translator t;
	int err;

	err = translator_open(nl, link, &t);
	if (!err) {
		err = file_replace(o->save, write_list, &t, &why);
		if (err)
			msg_fail(err, "--save %s: %s", o->save, why.text);
	}
	translator_close(&t);
	return err;
}

/* What is to be deleted */
struct removal {
	const struct translator *t;
	struct edits *edits;
	const struct address *address; /* NULL: all that is dynamic */
	size_t n;
};

static int remove_mapping(__u32 index, const struct nat64_mapping *m, void *data)
{
	const struct nat64_mapping none = { 0 };
	struct removal *removal = data;

	if (!m->tick || m->tick == NAT64_STATIC)
		return 0;
	return edits_add(removal->edits, index, m, &none, "deleted");
}

static int decide_flush(struct edits *e, void *data)
{
	struct removal *removal = data;

	removal->edits = e;
	return mappings_walk(removal->t->maps.mappings, remove_mapping, removal);
}

/* The index of an address in the table, and its entry; -ENOENT: it has none. */
static int find_mapping(const struct translator *t, const struct address *a, __u32 *index, struct nat64_mapping *m)
{
	const struct prefix4 pool = translator_pool(t), host = { a->v4, 32 };

	if (a->is_v6 && bpf_map_lookup_elem(t->maps.by_v6, &a->v6, index))
		return -errno;
	if (!a->is_v6 && !prefix4_covers(&pool, &host))
		return -ENOENT;
	if (!a->is_v6)
		*index = be32_to(a->v4 & ~t->cfg.v4_mask);
	if (mapping_read(t->maps.mappings, *index, m))
		return -errno;
	return m->tick && (!a->is_v6 || v6_same(&m->v6, &a->v6)) ? 0 : -ENOENT;
}

static int decide_delete(struct edits *e, void *data)
{
	struct removal *removal = data;
	struct nat64_mapping m;
	__u32 index;
	int err;

	removal->edits = e;
	if (removal->n)
		return 0;
	err = find_mapping(removal->t, removal->address, &index, &m);
	return err ? err : remove_mapping(index, &m, removal);
}

static void removed(const struct edit *e, void *data)
{
	struct removal *removal = data;

	removal->n++;
	msg_info("mapping %s %s removed", text4(translator_address(removal->t, e->index)).s,
		 text6((struct prefix6){ e->was, 128 }).s);
}

int mappings_flush(struct nl *nl, const struct link *link)
{
	struct translator t;
	struct removal removal = { .t = &t };
	struct change change = { decide_flush, removed, &removal, true, false };
	int err;

	err = translator_open(nl, link, &t);
	if (!err) {
		err = state_change(&t.maps, &t.cfg, &change);
		if (err)
			msg_fail(err, "%s: cannot remove the mappings: %s", link->name, strerror(-err));
	}
	translator_close(&t);
	return err;
}

int mappings_delete(struct nl *nl, const struct link *link, const struct options *o)
{
	const struct address *a = &o->delete;
	struct prefix_text text = a->is_v6 ? text6((struct prefix6){ a->v6, 128 })
					   : text4((struct prefix4){ a->v4, 32 });
	struct translator t;
	struct removal removal = { .t = &t, .address = a };
	struct change change = { decide_delete, removed, &removal, false, false };
	int err;

	err = translator_open(nl, link, &t);
	if (err)
		goto out;
	err = state_change(&t.maps, &t.cfg, &change);
	if (err == -ENOENT)
		msg_fail(err, "--delete %s: has no mapping", text.s);
	else if (err)
		msg_fail(err, "--delete %s: %s", text.s, strerror(-err));
	else if (!removal.n)
		err = msg_fail(-EPERM, "--delete %s: its mapping is static (load again without it)", text.s);
out:
	translator_close(&t);
	return err;
}

int mappings_restore(struct nl *nl, const struct link *link, const struct options *o)
{
	struct reason why = { "" };
	struct reconcile r = { 0 };
	struct options was = { 0 };
	struct translator t;
	int err;

	err = translator_open(nl, link, &t);
	if (err)
		goto out;
	was.v4_prefix = translator_pool(&t);
	err = saved_check(&o->saved, &was.v4_prefix, &why);
	if (err) {
		msg_fail(err, "--restore %s: %s", o->restore, why.text);
		goto out;
	}
	err = reconcile_init(&r, &was, &t.cfg, &t.maps);
	r.saved = &o->saved;
	err = err ? err : reconcile_restore(&r, true);
	if (err)
		msg_fail(err, "%s: cannot restore the mappings: %s", link->name, strerror(-err));
out:
	reconcile_free(&r);
	translator_close(&t);
	return err;
}
