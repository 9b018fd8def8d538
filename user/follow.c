// SPDX-License-Identifier: GPL-2.0-or-later
/* follow.c - follows what happens in translators that are loaded
 *
 * One loop: it waits for records, for the reader of stdout, for a signal, and for a tick, when leases are renewed and the
 * translators looked at. It never blocks in a write: a reader that is slow makes it lose records, which the kernel counts,
 * but not its lease. */
#include <bpf/bpf.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "array.h"
#include "clock.h"
#include "flows.h"
#include "follow.h"
#include "listen.h"
#include "monitor.h"
#include "out.h"
#include "stream.h"
#include "table.h"
#include "trace.h"
#include "translator.h"

#define TICK	    250	       /* milliseconds */
#define ENOUGH	    (64 << 10) /* bytes that wait to be written: no more records are taken */
#define WRITE_MAX   4096       /* bytes that a pipe with room for something has room for (PIPE_BUF) */
#define FIXED_POLLS 2
#define LOOK	    NS_PER_SEC		    /* for translators that have come */
#define ANSWER	    2			    /* seconds, after which it is said that none has come */
#define STREAM_RING (16 * NAT64_RING_BYTES) /* a second of 50,000 events */

/* The bytes that a record takes in a ring, with its header; and the least that is in use when a record finds no room. */
#define RECORD_BYTES(size) (((size) + 8 + 7) & ~7UL)
#define RING_FULL	   (NAT64_RING_BYTES - RECORD_BYTES(sizeof(struct nat64_trace)))

struct follow;

/* One translator */
struct followed {
	struct follow *follow;
	struct link link;
	struct translator t; /* of t.link, which is &link */
	__u32 listen_id;     /* of its map "listen", which stays the same over reconfigurations */
	struct listener listener;
	__u64 told;	      /* mappings created before have been printed from the table */
	struct flows *flows;  /* of a trace; NULL: no memory for them */
	bool open;	      /* false: it has gone, or cannot be followed */
	size_t taken;	      /* bytes of the ring, ever */
	__u64 lost;	      /* records that were lost, which has not been printed yet */
	size_t lost_after;    /* to be printed when .taken is this: behind what was in the ring then */
	struct stream stream; /* with --snapshot */
};

struct follow {
	struct nl *nl;
	const struct options *o;
	enum nat64_ring ring;
	bool all;     /* also those that come later */
	__u64 looked; /* when they were looked for */
	struct followed **list;
	size_t n;
	struct pollfd *poll; /* signals, stdout, and the rings */
	FILE *mem;	     /* lines to be written */
	char *text;
	size_t size;
	size_t written; /* of them */
};

/* Prints an event of our own making among the records, at the place where it happened. */
static void print_own(struct followed *d, const char *event, const char *key, const char *fmt, unsigned long long value)
{
	struct follow *f = d->follow;
	struct out out;

	out_begin(&out, f->mem, f->o->json);
	out_head(&out, boottime(), d->link.name);
	out_string(&out, "event", "%s", event);
	if (key)
		out_uint(&out, key, fmt, value);
	out_text(&out, "\n");
	out_end(&out);
}

static void tell_lost(struct followed *d)
{
	print_own(d, "lost", "count", " %llu", d->lost);
	d->lost = 0;
}

/* What the callback of a ring returns: if not 0, that ends ring_buffer__consume(), after this record. */
static int enough(const struct follow *f)
{
	return f->size >= ENOUGH ? -ENOBUFS : 0;
}

static int take_record(void *data, void *record, size_t size)
{
	struct followed *d = data;
	struct follow *f = d->follow;
	const struct nat64_trace *t = record;
	const struct nat64_event *e = record;
	struct out out;

	if (d->lost && d->taken >= d->lost_after)
		tell_lost(d);
	d->taken += RECORD_BYTES(size);
	/* Both begin with the time. */
	if (*(const __u64 *)record < d->listener.since)
		return 0;
	if (f->o->snapshot) {
		stream_event(&d->stream, e, size > sizeof(*e) ? (const char *)(e + 1) : "");
		fflush(f->mem);
		return enough(f);
	}
	if (f->ring == NAT64_EVENTS && e->kind == NAT64_EVENT_CREATED && e->time < d->told)
		return 0;
	if (f->ring == NAT64_PACKETS) {
		bool wanted = trace_is_wanted(t, &f->o->filter);

		if (d->flows)
			flows_note(d->flows, t, wanted);
		if (!wanted)
			return 0;
	}
	out_begin(&out, f->mem, f->o->json);
	if (f->ring == NAT64_PACKETS)
		trace_print(&out, d->link.name, t);
	else
		monitor_print(&out, d->link.name, e, size > sizeof(*e) ? (const char *)(e + 1) : "");
	out_end(&out);
	return enough(f);
}

/* Takes records until there are none, or ENOUGH waits to be written. Returns whether there are none. */
static bool take_records(struct followed *d)
{
	__u64 lost = listener_lost(&d->listener);
	bool all;

	if (lost && d->follow->o->snapshot) {
		stream_lost(&d->stream, lost);
		fflush(d->follow->mem);
		lost = 0;
	}
	if (lost && !d->lost)
		d->lost_after = d->taken + RING_FULL;
	if (lost && d->flows)
		flows_forget(d->flows);
	d->lost += lost;
	all = ring_buffer__consume(d->listener.buffer) >= 0;
	if (d->lost && all)
		tell_lost(d);
	return all;
}

/* Says of which packets of a trace none of the answers have come. */
static void tell_unanswered(struct followed *d)
{
	const struct nat64_trace *t;
	struct out out;
	size_t i = 0;

	/* While there are records that have not been taken, an answer may be among them. */
	if (!d->flows || !take_records(d))
		return;
	while ((t = flows_unanswered(d->flows, boottime() - ANSWER * NS_PER_SEC, &i))) {
		out_begin(&out, d->follow->mem, d->follow->o->json);
		trace_print_unanswered(&out, d->link.name, t, ANSWER);
		out_end(&out);
	}
}

static __u32 map_id(int map)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(map, &info, &len) ? 0 : info.id;
}

static void followed_close(struct followed *d)
{
	if (d->open)
		listener_close(&d->listener);
	d->open = false;
	free(d->flows);
	d->flows = NULL;
	stream_free(&d->stream);
	translator_close(&d->t);
}

/* For a translator that was loaded while we were running: prints a mapping that it had before we listened. */
static int tell_mapping(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct followed *d = data;
	enum mapping_kind kind = mapping_kind(m, &d->t.cfg, boottime());
	struct nat64_event e = { .kind = NAT64_EVENT_CREATED,
				 .time = m->created,
				 .v4 = translator_address(&d->t, index).addr,
				 .v6 = m->v6 };
	struct out out;

	if ((kind != MAPPING_LIVE && kind != MAPPING_EXPIRED) || m->created >= d->told)
		return 0;
	out_begin(&out, d->follow->mem, d->follow->o->json);
	monitor_print(&out, d->link.name, &e, "");
	return out_end(&out);
}

static int listener_start(struct followed *d)
{
	struct follow *f = d->follow;
	const char *what = f->ring == NAT64_EVENTS ? "--monitor" : "--trace";
	__u32 bytes = f->o->snapshot ? STREAM_RING : NAT64_RING_BYTES;
	int err = listener_open(&d->listener, &d->t.maps, f->ring, &f->o->filter.coarse, bytes, take_record, d);

	d->taken = d->lost = 0;
	if (err == -EPROTO)
		return msg_fail(err, "%s: the translator that is loaded is of another version of nat64 (load it again)",
				d->link.name);
	if (err == -EBUSY)
		return msg_fail(err, "%s: %d times nat64 %s is listening, and no more can", d->link.name,
				NAT64_LISTENERS, what);
	return err ? msg_fail(err, "%s: cannot listen: %s", d->link.name, strerror(-err)) : 0;
}

/* Starts to listen to d->t; late: it came while we were there. */
static int listen_to(struct followed *d, bool late)
{
	int err;

	d->listen_id = map_id(d->t.maps.listen);
	d->open = true;
	d->flows = d->follow->ring == NAT64_PACKETS ? flows_new() : NULL;
	err = listener_start(d);
	if (!err && d->follow->o->snapshot) {
		err = stream_begin(&d->stream, d->follow->mem, &d->t, d->follow->o->refresh);
		fflush(d->follow->mem);
		return err ? msg_fail(err, "%s", strerror(-err)) : 0;
	}
	d->told = late ? boottime() : 0;
	if (!err && late && d->follow->ring == NAT64_EVENTS) {
		err = mappings_walk(d->t.maps.mappings, tell_mapping, d);
		if (err)
			msg_fail(err, "%s: cannot read its mappings: %s", d->link.name, strerror(-err));
	}
	return err;
}

/* Is that an error which other translators would meet, too? */
static bool is_fatal(int err)
{
	return err == -EPERM || err == -ENOMEM || err == -EMFILE;
}

static struct followed *find_followed(const struct follow *f, unsigned int index)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->list[i]->link.index == index)
			return f->list[i];
	return NULL;
}

/* Adds an interface that is not in the list. */
static struct followed *add_followed(struct follow *f, const struct link *link)
{
	struct followed **list, *d;
	struct pollfd *poll;

	list = array_room(f->list, f->n, sizeof(*list));
	if (!list)
		return NULL;
	f->list = list;
	poll = realloc(f->poll, (f->n + 1 + FIXED_POLLS) * sizeof(*poll));
	if (!poll)
		return NULL;
	f->poll = poll;
	d = malloc(sizeof(*d));
	if (!d)
		return NULL;
	*d = (struct followed){ .follow = f, .link = *link, .t.maps = LOADED_NONE };
	f->list[f->n++] = d;
	return d;
}

/* Adds the translator of a link; must: it is an error if it has none. */
static int follow_add(struct follow *f, const struct link *link, bool must)
{
	struct followed *d = add_followed(f, link);
	int err;

	if (!d)
		return msg_fail(-ENOMEM, "%s", strerror(ENOMEM));
	err = must ? translator_open(f->nl, &d->link, &d->t) : translator_try(f->nl, &d->link, &d->t);
	if (err == -ENOENT && !must) {
		translator_close(&d->t);
		free(d);
		f->n--;
		return 0;
	}
	return err ? err : listen_to(d, false);
}

static int follow_start(struct follow *f, const struct link *link)
{
	struct link *links = NULL, home;
	size_t n = 1;
	int err = 0;

	if (link && !translator_home(f->nl, link, &home))
		link = &home;
	if (!link) {
		err = link_list(f->nl, &links, &n);
		if (err)
			return msg_fail(err, "cannot list the interfaces: %s", nl_error(f->nl, err));
	}
	f->all = !link;
	f->looked = boottime();
	f->poll = calloc(FIXED_POLLS, sizeof(*f->poll));
	f->mem = open_memstream(&f->text, &f->size);
	if (!f->poll || !f->mem)
		err = msg_fail(-ENOMEM, "%s", strerror(ENOMEM));
	for (size_t i = 0; !err && i < n; i++)
		err = follow_add(f, link ? link : &links[i], link);
	if (!err && !f->n)
		msg_note("no translator is loaded; waiting for one");
	free(links);
	return err;
}

/* Follows the translator that has been loaded on an interface meanwhile, if one has: not again if it cannot be followed,
 * which was said then. One with only one of its programs is just being loaded or unloaded. */
static int look_at(struct follow *f, const struct link *link)
{
	struct followed *d = find_followed(f, link->index);
	struct tc_hook hook[NAT64_WAYS];
	int err = 0;

	if (d && d->open)
		return 0;
	for (int way = 0; !err && way < NAT64_WAYS; way++)
		err = tc_hook_find(f->nl, &(struct tc_place){ link, way, link->index }, &hook[way]);
	if (err || !hook[NAT64_6TO4].ours || !hook[NAT64_4TO6].ours)
		return 0;
	if (d && hook[NAT64_6TO4].prog_id == d->t.hook[NAT64_6TO4].prog_id)
		return 0;
	d = d ? d : add_followed(f, link);
	if (!d)
		return msg_fail(-ENOMEM, "%s", strerror(ENOMEM));
	d->link = *link;
	err = translator_try(f->nl, &d->link, &d->t);
	return err == -ENOENT ? 0 : err ? err : listen_to(d, true);
}

/* Removes from the list what is not followed any more, if the interface is gone. */
static void forget_gone(struct follow *f, const struct link *links, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->n; i++) {
		struct followed *d = f->list[i];
		bool there = d->open;

		for (size_t k = 0; !there && k < n; k++)
			there = links[k].index == d->link.index;
		if (there)
			f->list[kept++] = d;
		else
			free(d);
	}
	f->n = kept;
}

static int look_for_new(struct follow *f)
{
	struct link *links;
	size_t n;
	int err = link_list(f->nl, &links, &n);

	if (err)
		return msg_fail(err, "cannot list the interfaces: %s", nl_error(f->nl, err));
	forget_gone(f, links, n);
	for (size_t i = 0; !is_fatal(err) && i < n; i++) {
		struct followed *d;

		err = look_at(f, &links[i]);
		d = err ? find_followed(f, links[i].index) : NULL;
		if (d)
			followed_close(d);
	}
	free(links);
	return is_fatal(err) ? err : 0;
}

/* The translator has been unloaded, with its interface perhaps. */
static void unloaded(struct followed *d)
{
	take_records(d);
	if (d->follow->o->snapshot) {
		stream_unloaded(&d->stream);
		fflush(d->follow->mem);
	} else if (d->follow->ring == NAT64_EVENTS) {
		print_own(d, "unloaded", NULL, NULL, 0);
	}
	msg_note("%s: unloaded", d->link.name);
	followed_close(d);
}

/* Other programs are there: after a reconfiguration they use the same maps. */
static int replaced(struct followed *d)
{
	struct translator t;
	int err = translator_try(d->follow->nl, &d->link, &t);

	if (err == -ENOENT) {
		unloaded(d);
		err = 0;
	} else if (!err && map_id(t.maps.listen) == d->listen_id && !d->follow->o->snapshot) {
		memcpy(d->t.hook, t.hook, sizeof(t.hook));
	} else if (!err) {
		take_records(d);
		followed_close(d);
		d->t = t;
		return listen_to(d, true);
	}
	translator_close(&t);
	return err;
}

/* Is it still there, and do we still listen to it? */
static int look_after(struct followed *d)
{
	struct tc_hook hook[NAT64_WAYS];
	struct nl *nl = d->follow->nl;
	int err = 0;
	__u64 gap;

	for (int way = 0; !err && way < NAT64_WAYS; way++)
		err = tc_hook_find(nl, &(struct tc_place){ &d->link, way, d->link.index }, &hook[way]);
	if (err && err != -ENODEV)
		return msg_fail(err, "%s: cannot list its filters: %s", d->link.name, nl_error(nl, err));
	if (err || !hook[NAT64_6TO4].ours || !hook[NAT64_4TO6].ours) {
		unloaded(d);
		return 0;
	}
	if (hook[NAT64_6TO4].prog_id != d->t.hook[NAT64_6TO4].prog_id ||
	    hook[NAT64_4TO6].prog_id != d->t.hook[NAT64_4TO6].prog_id)
		err = replaced(d);
	if (err || !d->open)
		return err;
	err = listener_renew(&d->listener, &gap);
	/* Also what has been lost since the last record came, if none has come after it. */
	if (err || gap || d->follow->o->snapshot)
		take_records(d);
	if (err) { /* stopped for so long that somebody else has taken its place */
		listener_close(&d->listener);
		err = listener_start(d);
	}
	if (!err && gap && d->follow->o->snapshot) {
		stream_lost(&d->stream, 0);
		fflush(d->follow->mem);
	} else if (!err && gap) {
		print_own(d, "lost", "seconds", " all of %llu s", gap / NS_PER_SEC + 1);
		if (d->flows)
			flows_forget(d->flows);
	}
	if (!err)
		tell_unanswered(d);
	return err;
}

/* Looks after each translator, and for new ones now and then. */
static int look_after_all(struct follow *f)
{
	int err = 0;

	for (size_t i = 0; !err && i < f->n; i++) {
		err = f->list[i]->open ? look_after(f->list[i]) : 0;
		if (err && f->all && !is_fatal(err)) {
			followed_close(f->list[i]);
			err = 0;
		}
	}
	if (err || !f->all || boottime() < f->looked + LOOK)
		return err;
	f->looked = boottime();
	return look_for_new(f);
}

/* Streams go on, as far as there is room for more. *more: one has more to do at once. */
static int step_streams(struct follow *f, bool *more)
{
	int err = 0;

	*more = false;
	for (size_t i = 0; !err && f->o->snapshot && i < f->n; i++) {
		struct followed *d = f->list[i];

		if (!d->open || !stream_is_due(&d->stream))
			continue;
		if (f->size < ENOUGH) {
			err = stream_step(&d->stream);
			fflush(f->mem);
		}
		*more |= stream_is_due(&d->stream);
		if (err)
			msg_fail(err, "%s: cannot read its mappings: %s", d->link.name, strerror(-err));
	}
	return err;
}

/* Writes as much as certainly does not block. */
static int write_some(struct follow *f)
{
	size_t left = f->size - f->written;
	ssize_t n = write(STDOUT_FILENO, f->text + f->written, left < WRITE_MAX ? left : WRITE_MAX);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	f->written += n;
	if (f->written < f->size)
		return 0;
	rewind(f->mem);
	fflush(f->mem);
	f->size = f->written = 0;
	return 0;
}

/* One turn of the loop; 1: the end has come. */
static int follow_turn(struct follow *f, __u64 *tick)
{
	struct pollfd *out = &f->poll[1], *rings = &f->poll[FIXED_POLLS];
	__u64 now = boottime(), next = *tick + TICK * 1000000ULL;
	bool any = false, more;
	int err = step_streams(f, &more);

	if (err)
		return err;
	more &= f->size < ENOUGH;
	out->events = f->size ? POLLOUT : 0;
	for (size_t i = 0; i < f->n; i++) {
		rings[i].fd = f->list[i]->open && f->size < ENOUGH ? ring_buffer__epoll_fd(f->list[i]->listener.buffer)
								   : -1;
		rings[i].events = POLLIN;
	}
	if (poll(f->poll, f->n + FIXED_POLLS, now < next && !more ? (int)((next - now) / 1000000 + 1) : 0) < 0)
		return errno == EINTR ? 0 : msg_fail(-errno, "cannot wait: %s", strerror(errno));
	if (f->poll[0].revents)
		return 1;
	if (out->revents & (POLLERR | POLLHUP) && !(out->revents & POLLOUT))
		return 1;
	if (out->revents & POLLNVAL)
		return msg_fail(-EBADF, "cannot write: %s", strerror(EBADF));
	if (f->size && out->revents)
		err = write_some(f);
	if (err)
		return err == -EPIPE ? 1 : msg_fail(err, "cannot write: %s", strerror(-err));
	for (size_t i = 0; i < f->n && f->size < ENOUGH; i++)
		if (rings[i].revents)
			take_records(f->list[i]);
	if (boottime() >= next) {
		*tick = boottime();
		err = look_after_all(f);
	}
	for (size_t i = 0; i < f->n; i++)
		any |= f->list[i]->open;
	return err ? err : any || f->all ? 0 : -ENOENT;
}

/* Writes what there is, as long as the reader takes it at once. */
static void follow_end(struct follow *f)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	bool more = f->mem && f->poll && f->poll[1].fd == STDOUT_FILENO;

	while (more) {
		more = false;
		for (size_t i = 0; i < f->n; i++)
			if (f->list[i]->open)
				more |= f->size >= ENOUGH || !take_records(f->list[i]);
		while (f->size && poll(&out, 1, TICK) == 1 && !write_some(f))
			;
		more &= !f->size;
	}
	for (size_t i = 0; i < f->n; i++) {
		followed_close(f->list[i]);
		free(f->list[i]);
	}
	if (f->mem)
		fclose(f->mem);
	free(f->text);
	free(f->list);
	free(f->poll);
}

int follow(struct nl *nl, const struct link *link, const struct options *o)
{
	struct follow f = { .nl = nl, .o = o, .ring = o->action == ACTION_MONITOR ? NAT64_EVENTS : NAT64_PACKETS };
	__u64 tick = boottime();
	sigset_t end;
	int err, signals;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&end);
	sigaddset(&end, SIGINT);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGHUP);
	sigprocmask(SIG_BLOCK, &end, NULL);
	signals = signalfd(-1, &end, SFD_CLOEXEC);
	err = signals < 0 ? msg_fail(-errno, "cannot wait for signals: %s", strerror(errno)) : follow_start(&f, link);
	if (!err) {
		f.poll[0] = (struct pollfd){ .fd = signals, .events = POLLIN };
		f.poll[1] = (struct pollfd){ .fd = STDOUT_FILENO };
	}
	while (!err)
		err = follow_turn(&f, &tick);
	follow_end(&f);
	if (signals >= 0)
		close(signals);
	return err > 0 ? 0 : err;
}
