// SPDX-License-Identifier: GPL-2.0-or-later
/* translator.c - a translator that is loaded */
#include <errno.h>

#include "check.h"
#include "translator.h"

/* named: the user has named the interface, so that messages are about it in any case. *why: what is wrong with the
 * translator that is there (-ESTALE, -EPROTO), and has not been said. */
static int look_at(struct nl *nl, const struct link *link, bool named, struct translator *t, struct reason *why)
{
	__u32 id[NAT64_WAYS];
	int err = 0;

	t->link = link;
	t->maps = LOADED_NONE;
	for (int way = 0; !err && way < NAT64_WAYS; way++) {
		err = tc_hook_find(nl, &(struct tc_place){ link, way, link->index }, &t->hook[way]);
		id[way] = t->hook[way].prog_id;
	}
	if (err == -ENODEV)
		return -ENOENT; /* the interface has gone since */
	if (err == -EPERM && check_capabilities(TASK_LOOK, why))
		return msg_fail(err, "%s%s%s", named ? link->name : "", named ? ": " : "", why->text);
	if (err)
		return msg_fail(err, "%s: cannot list its filters: %s", link->name, nl_error(nl, err));
	if (!t->hook[NAT64_6TO4].ours && !t->hook[NAT64_4TO6].ours)
		return -ENOENT;
	for (int way = 0; way < NAT64_WAYS; way++)
		if (!t->hook[way].ours)
			return reason(why, -ESTALE, "its %s program is missing (load it again, or unload)",
				      tc_hook_name(way));
	err = check_capabilities(TASK_LOOK, why);
	err = err ? err : loaded_open(id, &t->maps, why);
	err = err ? err : loaded_config(&t->maps, &t->cfg, why);
	/* -ENOENT is for none; here the programs went away after they had been listed. */
	if (err == -ENOENT)
		return -ESTALE;
	return err && err != -EPROTO ? msg_fail(err, "%s: %s", link->name, why->text) : err;
}

/* The same, but of a port its device. */
static int look(struct nl *nl, const struct link *link, bool named, struct translator *t, struct reason *why)
{
	int err;

	*t = (struct translator){ 0 };
	err = look_at(nl, link, named, t, why);
	if (err || !t->cfg.home)
		return err;
	if (link_by_index(nl, t->cfg.home, &t->home) || !t->home.own)
		return reason(why, -ESTALE, "its device is gone (load it again, or unload)");
	loaded_close(&t->maps);
	return named ? look_at(nl, &t->home, named, t, why) : -ENOENT;
}

static int find(struct nl *nl, const struct link *link, bool named, struct translator *t)
{
	struct reason why = { "" };
	int err = look(nl, link, named, t, &why);

	return err == -ESTALE || err == -EPROTO ? msg_fail(err, "%s: %s", link->name, why.text) : err;
}

int translator_look(struct nl *nl, const struct link *link, bool named, struct translator *t, struct reason *why)
{
	int err = look(nl, link, named, t, why);

	return err == -ENOENT && named ? msg_fail(err, "nothing loaded on %s", link->name) : err;
}

int translator_try(struct nl *nl, const struct link *link, struct translator *t)
{
	return find(nl, link, false, t);
}

int translator_open(struct nl *nl, const struct link *link, struct translator *t)
{
	int err = find(nl, link, true, t);

	return err == -ENOENT ? msg_fail(err, "nothing loaded on %s", link->name) : err;
}

void translator_close(struct translator *t)
{
	loaded_close(&t->maps);
}

int translator_home(struct nl *nl, const struct link *link, struct link *home)
{
	struct reason why = { "" };
	struct translator t = { 0 };
	struct tc_hook hook;
	int err;

	err = tc_hook_find(nl, &(struct tc_place){ link, TC_6TO4, link->index }, &hook);
	if (err || !hook.ours)
		return err ? err : -ENOENT;
	err = loaded_open((__u32[NAT64_WAYS]){ [NAT64_6TO4] = hook.prog_id }, &t.maps, &why);
	if (!err && (loaded_config(&t.maps, &t.cfg, &why) || !t.cfg.home))
		err = -ENOENT;
	loaded_close(&t.maps);
	err = err ? err : link_by_index(nl, t.cfg.home, home);
	return err == -ENODEV || (!err && !home->own) ? -ENOENT : err;
}

struct prefix4 translator_pool(const struct translator *t)
{
	return (struct prefix4){ t->cfg.v4_prefix, t->cfg.v4_len };
}

struct prefix4 translator_address(const struct translator *t, __u32 index)
{
	return (struct prefix4){ t->cfg.v4_prefix | be32_from(index), 32 };
}

struct prefix4 config_give_out(const struct nat64_config *cfg)
{
	return (struct prefix4){ cfg->give_out, __builtin_popcount((FORCE __u32)cfg->give_mask) };
}
