// SPDX-License-Identifier: GPL-2.0-or-later
/* mirror.c - keeps the mappings of a translator the same as those of another gateway
 *
 * Changes are collected as long as there is input, and made in one batch. No two changes of a batch are about the same host or
 * address: so their order does not matter, and the wait for running programs is needed only once per batch. The BPF program
 * decides about conflicts with other mappings: see headers/mirror.h. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "mirror.h"
#include "state.h"
#include "stream.h"
#include "table.h"
#include "tell.h"
#include "translator.h"

#define TEXT	 (1 << 18) /* bytes that are read at a time, and the longest line */
#define BATCH	 32768
#define KEYS	 (4 * BATCH) /* a power of two */
#define ATTEMPTS 100	     /* until packets have left an entry alone */
#define PATIENCE 5	     /* milliseconds for readers of --monitor that are slow, a batch: the stream goes on */
#define TICK	 250	     /* milliseconds, after which it is looked whether the translator is still the same */

/* A host or an address that a change of the batch is about */
struct key {
	__u64 key;
	__u32 batch; /* number of the batch */
};

struct mirror {
	struct nl *nl;
	const struct link *link;
	struct translator t; /* here */
	struct editor editor;
	__u64 looked; /* when it was looked at */

	int fd;
	char *text; /* what has been read, and is no whole line yet */
	size_t n_text;
	__u64 seq;	/* of the last line */
	bool begun;	/* the first line has come, */
	bool snapshot;	/* and a snapshot, */
	bool complete;	/* which was complete, */
	bool sweep;	/* and another one is being read */
	bool *told;	/* for each address: the stream has told of a mapping, */
	bool *told_now; /* also in this snapshot, or since it began */

	struct nat64_edit *batch;
	size_t n;
	struct key *keys;
	__u32 n_batches;

	__u64 n_changes;
	__u64 n_losing;	 /* to what was there */
	__u64 n_refused; /* since the options say otherwise */
	__u64 n_unknown; /* lines */
};

static __u32 addresses(const struct mirror *m)
{
	return 1U << (32 - m->t.cfg.v4_len);
}

static void tell_kept(struct mirror *m, struct tells *tells, __u32 index, const union nat64_v6 *v6)
{
	tells_add(tells, NAT64_EVENT_KEPT, translator_address(&m->t, index).addr, v6, false, "");
}

static void tell_removed(struct mirror *m, struct tells *tells, __u32 index, const union nat64_v6 *v6, const char *why)
{
	tells_add(tells, NAT64_EVENT_REMOVED, translator_address(&m->t, index).addr, v6, false, why);
}

/* Tells listeners of hosts that have lost what this gateway had given them; and of those that have it, while something has gone at
 * the other gateway which may have been in their way there. */
static void tell_rivals(struct mirror *m, const struct nat64_edit *list, size_t n)
{
	struct tells tells = { 0 };

	for (size_t i = 0; i < n; i++) {
		const struct nat64_edit *e = &list[i];

		if (e->how == NAT64_EDIT_FORGET && !e->weak) {
			if (!v6_is_none(&e->lost))
				tell_kept(m, &tells, e->index, &e->lost);
			if (e->had_local)
				tell_kept(m, &tells, e->had_local - 1, &e->v6);
		} else if (e->done == NAT64_DONE) {
			if (!v6_is_none(&e->lost))
				tell_removed(m, &tells, e->index, &e->lost,
					     "another host has its address, by another gateway");
			if (e->had_local)
				tell_removed(m, &tells, e->had_local - 1, &e->v6,
					     "the host has another address, by another gateway");
		}
	}
	tells_send(&tells, &m->t.maps, PATIENCE);
}

/* Makes the changes that have been gathered. */
static int flush(struct mirror *m)
{
	struct nat64_edit *list = m->batch;
	const size_t n_all = m->n;
	size_t n = n_all;
	bool half = false;
	int err = 0;

	m->n = 0;
	m->n_batches++;
	for (int attempt = 0; !err && n && attempt < ATTEMPTS; attempt++) {
		size_t left = 0;

		if (attempt)
			state_wait();
		err = editor_run(&m->editor, list, n);
		/* Those that are to be run again come first, the others behind them. */
		for (size_t i = 0; !err && i < n; i++) {
			struct nat64_edit e = list[i];

			if (e.done == NAT64_DONE_HALF) {
				list[i].done = NAT64_DONE;
				half = true;
			}
			if (e.done != NAT64_DONE_NOT && e.done != NAT64_DONE_BEGUN)
				continue;
			if (e.how == NAT64_EDIT_CLAIM)
				e.how = NAT64_EDIT_MIRROR;
			list[i] = list[left];
			list[left++] = e;
		}
		n = left;
	}
	if (!err && half) /* packets put it into its place, as they do with others */
		err = state_count(&m->t.maps, &m->t.cfg);
	if (err)
		return msg_fail(err, "%s: cannot change its mappings: %s", m->link->name, strerror(-err));
	m->n_losing += n; /* packets were always faster: what they have made there stays */
	for (size_t i = n; i < n_all; i++) {
		m->n_changes += list[i].done == NAT64_DONE;
		m->n_losing += list[i].done == NAT64_DONE_LOSES;
		m->n_refused += list[i].done == NAT64_DONE_STATIC;
	}
	tell_rivals(m, list + n, n_all - n);
	return 0;
}

/* Is a host or an address in the batch? If not, it is now. Two that have the same key are taken for one, which costs no more
 * than a batch. */
static bool is_gathered(struct mirror *m, __u64 key)
{
	__u32 i = (key * 0x9e3779b97f4a7c15ULL) >> 40 & (KEYS - 1);

	for (; m->keys[i].batch == m->n_batches; i = (i + 1) & (KEYS - 1))
		if (m->keys[i].key == key)
			return true;
	m->keys[i] = (struct key){ key, m->n_batches };
	return false;
}

static int add_edit(struct mirror *m, const struct nat64_edit *e)
{
	__u64 v6 = (e->v6.d[0] * 0xc2b2ae3d27d4eb4fULL) ^ e->v6.d[1]; /* far from the small numbers of addresses */
	bool again = is_gathered(m, v6);
	int err;

	if (is_gathered(m, e->index) || again || m->n == BATCH) {
		err = flush(m);
		if (err)
			return err;
		is_gathered(m, v6);
		is_gathered(m, e->index);
	}
	m->batch[m->n] = *e;
	m->batch[m->n++].before = NAT64_USED(addresses(m));
	return 0;
}

/* What is wrong with a line. */
static int bad(const struct mirror *m, const char *what)
{
	return msg_fail(-EINVAL, "--mirror: line %llu: %s", m->seq, what);
}

static const char *text_of(const json_t *line, const char *key)
{
	const char *text = json_string_value(json_object_get(line, key));

	return text ? text : "";
}

static bool seconds_of(const json_t *line, const char *key, __u64 *seconds)
{
	const json_t *value = json_object_get(line, key);
	json_int_t n = json_integer_value(value);

	*seconds = n;
	return json_is_integer(value) && n >= 0 && n <= NAT64_TIMEOUT_MAX;
}

/* The host and the address that a line is about */
static int pair_of(const struct mirror *m, const json_t *line, struct nat64_edit *e)
{
	const struct prefix4 pool = translator_pool(&m->t);
	struct prefix4 v4 = { .len = 32 };
	struct prefix6 v6 = { .len = 128 };

	if (inet_pton(AF_INET, text_of(line, "v4"), &v4.addr) != 1 || !prefix4_covers(&pool, &v4))
		return bad(m, "\"v4\" is not an address of the IPv4 prefix");
	e->index = be32_to(v4.addr & ~m->t.cfg.v4_mask);
	if (!is_given_out(e->index, m->t.cfg.v4_len))
		return bad(m, "\"v4\" is not the address of a host");
	if (inet_pton(AF_INET6, text_of(line, "v6"), &v6.addr) != 1 || prefix6_special(&v6))
		return bad(m, "\"v6\" is not the address of a host");
	e->v6 = v6.addr;
	return 0;
}

/* May the host have a dynamic mapping here? One that has a static mapping in the pool is found by the program. */
static bool is_legal(const struct mirror *m, const union nat64_v6 *v6)
{
	struct nat64_lpm6 key = { 128, *v6 };
	struct nat64_static4 to;
	__u32 value;

	return !bpf_map_lookup_elem(m->t.maps.allowed, &key, &value) &&
	       (!m->t.cfg.has_static || bpf_map_lookup_elem(m->t.maps.static6, &key, &to));
}

/* A host has an address. */
static int take_mapping(struct mirror *m, const json_t *line)
{
	struct nat64_edit e = { .how = NAT64_EDIT_MIRROR };
	__u64 idle, age;
	int err = pair_of(m, line, &e);

	if (err)
		return err;
	if (!seconds_of(line, "idle", &idle) || !seconds_of(line, "age", &age))
		return bad(m, "\"idle\" and \"age\" are not seconds");
	e.tick = idle * m->t.cfg.hz;
	e.last_seen = idle * NS_PER_SEC;
	e.created = age * NS_PER_SEC;
	e.weak = json_is_true(json_object_get(line, "hearsay"));
	m->told[e.index] = m->told_now[e.index] = true;
	if (is_legal(m, &e.v6))
		return add_edit(m, &e);
	m->n_refused++;
	return 0;
}

/* It has it no more. */
static int take_removal(struct mirror *m, const json_t *line)
{
	struct nat64_edit e = { .how = NAT64_EDIT_FORGET };
	int err = pair_of(m, line, &e);

	if (err)
		return err;
	m->told[e.index] = m->told_now[e.index] = false;
	return add_edit(m, &e);
}

/* Of another prefix nothing can be taken over. The first line says it, before anything is changed. */
static int take_begin(struct mirror *m, const json_t *line)
{
	const struct nat64_config *cfg = &m->t.cfg;
	const json_t *version = json_object_get(line, STREAM_FORMAT);
	const char *v6 = text_of(line, "v6_prefix"), *v4 = text_of(line, "v4_prefix");
	struct prefix_text here6 = text6((struct prefix6){ cfg->v6_prefix, cfg->v6_len });
	struct prefix_text here4 = text4(translator_pool(&m->t));

	if (!json_is_integer(version) || json_integer_value(version) != STREAM_VERSION)
		return bad(m, "a stream of another version of nat64");
	if (strcmp(v6, here6.s))
		return msg_fail(-EINVAL, "--mirror: line %llu: of another NAT64 prefix than %s, which %s has", m->seq,
				here6.s, m->link->name);
	if (strcmp(v4, here4.s))
		return msg_fail(-EINVAL, "--mirror: line %llu: of another IPv4 prefix than %s, which %s has", m->seq,
				here4.s, m->link->name);
	m->begun = true;
	return 0;
}

static void start_snapshot(struct mirror *m)
{
	m->sweep = m->snapshot;
	m->snapshot = true;
	memset(m->told_now, 0, addresses(m) * sizeof(*m->told_now));
}

/* What the stream has told of before, and not in this snapshot, has gone there while nobody told. Not so what this gateway has
 * found out by itself, of which the other may not know; nor what was there before the stream: the other gateway may have lost it in
 * a restart. */
static int sweep(struct mirror *m)
{
	struct nat64_mapping there;
	struct tells tells = { 0 };
	int err = flush(m);

	for (__u32 i = 0; !err && i < addresses(m); i++) {
		struct nat64_edit e = { .index = i, .how = NAT64_EDIT_FORGET, .weak = 1 };

		if (m->told_now[i] || mapping_read(m->t.maps.mappings, i, &there) || !there.tick ||
		    there.tick == NAT64_STATIC)
			continue;
		e.v6 = there.v6;
		if (!(there.last_seen & NAT64_HEARSAY))
			tell_kept(m, &tells, i, &there.v6);
		else if (m->told[i])
			err = add_edit(m, &e);
		m->told[i] = false;
	}
	err = err ? err : flush(m);
	tells_send(&tells, &m->t.maps, PATIENCE);
	return err;
}

/* That it has started is to be known when all mappings are there (sd_notify(3)). */
static void tell_service_manager(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t n = path ? strlen(path) : 0;
	int fd;

	if (!n || n >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, n);
	if (*path == '@') /* of the abstract namespace */
		to.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + n) <
	    0)
		msg_warn("cannot tell the service manager that all mappings are there: %s", strerror(errno));
	close(fd);
}

static int take_complete(struct mirror *m)
{
	int err = m->sweep ? sweep(m) : 0;

	err = err ? err : flush(m);
	/* They came in the order of their addresses, and not of their hosts' last packets. */
	if (!err) {
		err = state_place(&m->t.maps, &m->t.cfg, true);
		if (err)
			msg_fail(err, "%s: cannot sort its mappings: %s", m->link->name, strerror(-err));
	}
	if (!err && !m->complete) {
		msg_info(
			"%s: has all mappings of the other gateway: %llu taken over, %llu in the way of others, %llu refused",
			m->link->name, m->n_changes, m->n_losing, m->n_refused);
		fflush(stdout);
		tell_service_manager();
	}
	m->complete = true;
	return err;
}

static int kind_of(const char *event)
{
	int kind = 0;

	while (kind < STREAM_LINES_MAX && strcmp(event, stream_line_name(kind)))
		kind++;
	return kind;
}

/* An object of the stream */
static int take(struct mirror *m, const json_t *line)
{
	const char *event = text_of(line, "event");
	const json_t *seq = json_object_get(line, "seq");
	int kind = kind_of(event);

	if (!json_is_integer(seq) || !*event || (!m->begun && kind != STREAM_BEGIN))
		return bad(m, "not a stream of nat64 --monitor --json --snapshot");
	if (m->begun && (__u64)json_integer_value(seq) != m->seq + 1)
		return msg_fail(-EINVAL, "--mirror: line %lld comes after line %llu", json_integer_value(seq), m->seq);
	m->seq = json_integer_value(seq);
	switch (kind) {
	case STREAM_BEGIN:
		return take_begin(m, line);
	case STREAM_SNAPSHOT:
		start_snapshot(m);
		return 0;
	case STREAM_COMPLETE:
		return take_complete(m);
	case STREAM_MAPPING:
	case STREAM_REFRESH:
	case NAT64_EVENT_CREATED:
	case NAT64_EVENT_REVIVED:
	case NAT64_EVENT_KEPT:
		return take_mapping(m, line);
	case NAT64_EVENT_REMOVED:
		return take_removal(m, line);
	case NAT64_EVENT_EXPIRED: /* who has the address now comes next */
	case NAT64_EVENT_EXHAUSTED:
	case STREAM_LOST: /* a snapshot comes next */
	case STREAM_UNLOADED:
		return 0;
	}
	if (!m->n_unknown++)
		msg_note("--mirror: line %llu: \"%.32s\" is not known here, and left out, as all of that kind", m->seq,
			 event);
	return 0;
}

static int take_line(struct mirror *m, const char *text, size_t n)
{
	json_error_t error;
	json_t *line = json_loadb(text, n, 0, &error);
	int err;

	if (!m->begun)
		m->seq = 1;
	err = json_is_object(line) ? take(m, line) : bad(m, "not a stream of nat64 --monitor --json --snapshot");
	json_decref(line);
	return err;
}

/* The whole lines of what has been read */
static int take_lines(struct mirror *m)
{
	char *at = m->text, *end = m->text + m->n_text, *newline;
	int err = 0;

	while (!err && (newline = memchr(at, '\n', end - at))) {
		err = take_line(m, at, newline - at);
		at = newline + 1;
	}
	m->n_text = end - at;
	memmove(m->text, at, m->n_text);
	if (!err && m->n_text == TEXT)
		err = msg_fail(-EINVAL, "--mirror: line %llu: too long", m->seq + 1);
	return err;
}

static int open_here(struct mirror *m)
{
	int err = translator_open(m->nl, m->link, &m->t);

	if (err)
		return err;
	if (m->t.cfg.v4_len == NAT64_V4_LEN_NONE)
		return msg_fail(-EINVAL, "%s: all its mappings are static: there is nothing to mirror", m->link->name);
	err = editor_open(&m->editor, &m->t.maps, &m->t.cfg);
	return err ? msg_fail(err, "%s: cannot change its mappings: %s", m->link->name, strerror(-err)) : 0;
}

static void close_here(struct mirror *m)
{
	editor_close(&m->editor);
	translator_close(&m->t);
}

/* Is the translator what it was? After a reconfiguration changes are made by its new options. */
static int look_after(struct mirror *m)
{
	struct nat64_config was = m->t.cfg;
	struct tc_hook hook[NAT64_WAYS];
	const struct link *at = m->t.link;
	int err = 0;

	m->looked = boottime();
	for (int way = 0; !err && way < NAT64_WAYS; way++)
		err = tc_hook_find(m->nl, &(struct tc_place){ at, way, at->index }, &hook[way]);
	if (!err && hook[NAT64_6TO4].prog_id == m->t.hook[NAT64_6TO4].prog_id &&
	    hook[NAT64_4TO6].prog_id == m->t.hook[NAT64_4TO6].prog_id)
		return 0;
	err = flush(m);
	if (err)
		return err;
	close_here(m);
	err = open_here(m);
	if (!err && (was.v4_prefix != m->t.cfg.v4_prefix || was.v4_len != m->t.cfg.v4_len ||
		     !v6_same(&was.v6_prefix, &m->t.cfg.v6_prefix) || was.v6_len != m->t.cfg.v6_len))
		err = msg_fail(-EINVAL, "%s: has other prefixes now than the stream", m->link->name);
	return err;
}

/* The stream has ended. */
static int end(const struct mirror *m)
{
	if (m->n_text)
		return msg_fail(-EPIPE, "--mirror: the stream has ended in the midst of a line");
	if (!m->complete)
		return msg_fail(-EPIPE, "--mirror: the stream has ended before all mappings were there");
	msg_info("--mirror: the stream has ended");
	return 0;
}

/* Reads what there is. 1: the end has come. */
static int turn(struct mirror *m, int signals)
{
	struct pollfd poll_for[] = { { .fd = signals, .events = POLLIN }, { .fd = m->fd, .events = POLLIN } };
	int ready = poll(poll_for, 2, m->n ? 0 : TICK), err;
	ssize_t n;

	if (ready < 0)
		return errno == EINTR ? 0 : msg_fail(-errno, "cannot wait: %s", strerror(errno));
	if (poll_for[0].revents)
		return 1;
	if (boottime() >= m->looked + TICK * 1000000ULL) {
		err = look_after(m);
		if (err)
			return err;
	}
	if (!poll_for[1].revents)
		return flush(m);
	n = read(m->fd, m->text + m->n_text, TEXT - m->n_text);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR
			       ? 0
			       : msg_fail(-errno, "--mirror: cannot read: %s", strerror(errno));
	m->n_text += n;
	if (n)
		return take_lines(m);
	err = end(m);
	return err ? err : 1;
}

static int prepare(struct mirror *m, const char *path)
{
	int err = open_here(m);

	if (err)
		return err;
	m->fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (m->fd < 0)
		return msg_fail(-errno, "--mirror %s: %s", path, strerror(errno));
	m->text = malloc(TEXT);
	m->batch = malloc(BATCH * sizeof(*m->batch));
	m->keys = calloc(KEYS, sizeof(*m->keys));
	m->told = calloc(addresses(m), sizeof(*m->told));
	m->told_now = calloc(addresses(m), sizeof(*m->told_now));
	m->n_batches = 1;
	return m->text && m->batch && m->keys && m->told && m->told_now ? 0 : msg_fail(-ENOMEM, "%s", strerror(ENOMEM));
}

int mirror(struct nl *nl, const struct link *link, const struct options *o)
{
	struct mirror m = { .nl = nl, .link = link, .fd = -1, .t.maps = LOADED_NONE, .looked = boottime() };
	sigset_t ends;
	int err, signals, last;

	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	signals = signalfd(-1, &ends, SFD_CLOEXEC);
	err = signals < 0 ? msg_fail(-errno, "cannot wait for signals: %s", strerror(errno)) : prepare(&m, o->mirror);
	while (!err)
		err = turn(&m, signals);
	/* What came before the end, or before what is wrong, is right. */
	last = m.n ? flush(&m) : 0;
	err = err > 0 ? last : err;
	if (!err && (m.n_unknown || m.n_refused))
		msg_note("--mirror: %llu lines not known, %llu mappings refused, since the options here are others",
			 m.n_unknown, m.n_refused);
	if (m.fd > STDIN_FILENO)
		close(m.fd);
	if (signals >= 0)
		close(signals);
	close_here(&m);
	free(m.text);
	free(m.batch);
	free(m.keys);
	free(m.told);
	free(m.told_now);
	return err;
}
