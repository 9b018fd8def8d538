// SPDX-License-Identifier: GPL-2.0-or-later
/* stream.c - the mappings of a translator as a stream of lines */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#include "addr.h"
#include "clock.h"
#include "names.h"
#include "stream.h"

static const char *const LINE_NAMES[STREAM_LINES_MAX] = {
#define X(id, name) [STREAM_##id] = name,
	STREAM_LINES(X)
#undef X
};

const char *stream_line_name(int line)
{
	if (line < NAT64_EVENT_MAX)
		return EVENT_NAMES[line];
	return line < STREAM_LINES_MAX ? LINE_NAMES[line] : NULL;
}

/* Lines are written without the printer of out.h, which takes five times as long: there may be a million. */
static void begin_line(struct stream *s, int line)
{
	fprintf(s->to, "{\"seq\":%llu,\"event\":\"%s\"", ++s->seq, stream_line_name(line));
}

static void end_line(struct stream *s)
{
	fputs("}\n", s->to);
}

static void put_v4(struct stream *s, const char *key, __be32 v4)
{
	char text[INET_ADDRSTRLEN];

	fprintf(s->to, ",\"%s\":\"%s\"", key, inet_ntop(AF_INET, &v4, text, sizeof(text)));
}

static void put_v6(struct stream *s, const char *key, const union nat64_v6 *v6)
{
	char text[INET6_ADDRSTRLEN];

	fprintf(s->to, ",\"%s\":\"%s\"", key, inet_ntop(AF_INET6, v6, text, sizeof(text)));
}

/* Without what JSON would have to be told of by a backslash: no reason has any of that. */
static void put_text(struct stream *s, const char *key, const char *text)
{
	fprintf(s->to, ",\"%s\":\"", key);
	for (; *text; text++)
		putc(*text >= ' ' && *text < 0x7f && *text != '"' && *text != '\\' ? *text : '?', s->to);
	putc('"', s->to);
}

static void print_begin(struct stream *s)
{
	const struct nat64_config *cfg = &s->t->cfg;

	begin_line(s, STREAM_BEGIN);
	fprintf(s->to, ",\"" STREAM_FORMAT "\":%d,\"time\":\"%s\"", STREAM_VERSION, time_text(boottime()).s);
	put_text(s, "interface", s->t->link->name);
	put_text(s, "v6_prefix", text6((struct prefix6){ cfg->v6_prefix, cfg->v6_len }).s);
	if (cfg->v4_len == NAT64_V4_LEN_NONE)
		fputs(",\"v4_prefix\":null", s->to);
	else
		put_text(s, "v4_prefix", text4(translator_pool(s->t)).s);
	if (cfg->give_mask)
		put_text(s, "give_out", text4(config_give_out(cfg)).s);
	else
		fputs(",\"give_out\":null", s->to);
	fprintf(s->to, ",\"timeout\":%llu,\"refresh\":%u", cfg->timeout / cfg->hz, s->period);
	end_line(s);
}

/* Of a mapping that there is */
static void print_mapping(struct stream *s, int line, __be32 v4, const struct nat64_mapping *m)
{
	__u64 now = boottime(), idle = mapping_idle(m, now);
	__s64 age = now - m->created;

	begin_line(s, line);
	put_v4(s, "v4", v4);
	put_v6(s, "v6", &m->v6);
	fprintf(s->to, ",\"idle\":%llu,\"age\":%llu", idle / NS_PER_SEC, (age > 0 ? age : 0) / NS_PER_SEC);
	if (m->last_seen & NAT64_HEARSAY)
		fputs(",\"hearsay\":true", s->to);
	end_line(s);
}

static bool is_dynamic(const struct nat64_mapping *m)
{
	return m->tick && m->tick != NAT64_STATIC;
}

static void start_snapshot(struct stream *s)
{
	begin_line(s, STREAM_SNAPSHOT);
	end_line(s);
	s->walk = (struct walk){ 0 };
	s->walking = true;
	s->again = false;
	s->n = 0;
}

/* Prints an entry of the table. One that by_v6 does not know is not the host's: two CPUs may each have claimed an address for
 * a new host, of which one is given back; or it is about to be taken away. */
static int print_entry(struct stream *s, int line, __u32 index, const struct nat64_mapping *m)
{
	__u32 by_v6;

	if (bpf_map_lookup_elem(s->t->maps.by_v6, &m->v6, &by_v6) || by_v6 != index)
		return 0;
	print_mapping(s, line, translator_address(s->t, index).addr, m);
	return ferror(s->to) ? -ENOMEM : 0; /* it is in memory */
}

static int tell_mapping(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct stream *s = data;
	__u64 before = s->seq;
	int err = is_dynamic(m) ? print_entry(s, STREAM_MAPPING, index, m) : 0;

	s->n += s->seq - before;
	return err;
}

/* Those that are new have been told of; and of those that this gateway has heard of from others, they tell themselves. */
static int tell_refresh(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct stream *s = data;
	__u64 since = s->looked[index / WALK_PIECE];

	if (!is_dynamic(m) || m->last_seen & NAT64_HEARSAY || (__s64)(m->last_seen - since) < 0 ||
	    (__s64)(m->created - since) >= 0)
		return 0;
	return print_entry(s, STREAM_REFRESH, index, m);
}

static size_t pieces(const struct stream *s)
{
	size_t n = s->t->cfg.v4_len >= NAT64_V4_LEN_NONE ? 0 : 1UL << (32 - s->t->cfg.v4_len);

	return (n + WALK_PIECE - 1) / WALK_PIECE;
}

int stream_begin(struct stream *s, FILE *to, const struct translator *t, __u32 period)
{
	__u64 now = boottime();

	*s = (struct stream){ .to = to, .t = t, .period = period, .due = now + period * NS_PER_SEC, .seq = s->seq };
	s->looked = calloc(pieces(s) + 1, sizeof(*s->looked));
	if (!s->looked)
		return -ENOMEM;
	for (size_t i = 0; i < pieces(s); i++)
		s->looked[i] = now;
	print_begin(s);
	start_snapshot(s);
	return 0;
}

void stream_free(struct stream *s)
{
	free(s->looked);
	s->looked = NULL;
}

/* Has the host of an event the address now? */
static bool is_still(const struct stream *s, const struct nat64_event *e, struct nat64_mapping *m)
{
	return !mapping_read(s->t->maps.mappings, be32_to(e->v4 & ~s->t->cfg.v4_mask), m) && is_dynamic(m) &&
	       v6_same(&m->v6, &e->v6);
}

void stream_event(struct stream *s, const struct nat64_event *e, const char *why)
{
	struct nat64_mapping m;

	switch (e->kind) {
	case NAT64_EVENT_CREATED:
	case NAT64_EVENT_REVIVED:
	case NAT64_EVENT_KEPT:
		if (is_still(s, e, &m))
			print_mapping(s, e->kind, e->v4, &m);
		return;
	case NAT64_EVENT_EXPIRED:
		begin_line(s, e->kind);
		put_v4(s, "v4", e->v4);
		put_v6(s, "v6", &e->v6);
		put_v6(s, "next", &e->next);
		break;
	case NAT64_EVENT_REMOVED: /* a command tells of what it has done when it has done all */
		if (is_still(s, e, &m))
			return;
		begin_line(s, e->kind);
		put_v4(s, "v4", e->v4);
		put_v6(s, "v6", &e->v6);
		put_text(s, "reason", why);
		break;
	case NAT64_EVENT_EXHAUSTED:
		begin_line(s, e->kind);
		put_v6(s, "v6", &e->v6);
		break;
	default:
		return;
	}
	end_line(s);
}

void stream_lost(struct stream *s, __u64 n)
{
	begin_line(s, STREAM_LOST);
	fprintf(s->to, ",\"count\":%llu", n);
	end_line(s);
	if (s->walking)
		s->again = true;
	else
		start_snapshot(s);
}

void stream_unloaded(struct stream *s)
{
	begin_line(s, STREAM_UNLOADED);
	end_line(s);
}

bool stream_is_due(const struct stream *s)
{
	return s->walking || (pieces(s) && boottime() >= s->due);
}

static int step_snapshot(struct stream *s)
{
	int err = pieces(s) ? walk_step(&s->walk, s->t->maps.mappings, tell_mapping, s) : 0;

	if (err || (pieces(s) && !s->walk.done))
		return err;
	begin_line(s, STREAM_COMPLETE);
	fprintf(s->to, ",\"mappings\":%llu", s->n);
	end_line(s);
	s->walking = false;
	if (s->again)
		start_snapshot(s);
	return 0;
}

int stream_step(struct stream *s)
{
	__u64 now = boottime();
	size_t piece = s->round.next / WALK_PIECE;
	int err;

	if (s->walking)
		return step_snapshot(s);
	err = walk_step(&s->round, s->t->maps.mappings, tell_refresh, s);
	s->looked[piece] = now;
	if (s->round.done || s->round.next / WALK_PIECE >= pieces(s))
		s->round = (struct walk){ 0 };
	/* The pieces one after the other, so that hosts of a large table are not told of all at once. */
	s->due += s->period * NS_PER_SEC / pieces(s);
	if ((__s64)(now - s->due) > (__s64)NS_PER_SEC) /* it was stopped */
		s->due = now;
	return err;
}
