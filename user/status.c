// SPDX-License-Identifier: GPL-2.0-or-later
/* status.c - what is loaded, and what it does: one gatherer, and printers for text and JSON, and for metrics */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "array.h"
#include "clock.h"
#include "fast.h"
#include "health.h"
#include "names.h"
#include "out.h"
#include "ports.h"
#include "static.h"
#include "status.h"
#include "table.h"
#include "translator.h"
#include "xdp.h"

static const char *const WAY_TITLES[NAT64_WAYS] = { [NAT64_6TO4] = "IPv6 to IPv4", [NAT64_4TO6] = "IPv4 to IPv6" };

/* Names, in the order of their indices */
struct interfaces {
	char (*name)[IF_NAMESIZE];
	size_t n;
};

/* One translator, when it was looked at */
struct status {
	char interface[IF_NAMESIZE];
	unsigned int index;
	bool broken; /* so that nothing is known but why: .problems */
	struct problems problems;
	struct nat64_config cfg;
	__u32 program[NAT64_WAYS]; /* ids */
	enum tc_kind attached;
	time_t since;
	struct ports ports;
	struct interfaces fast; /* those with the program for --fast */
	struct interfaces xdp;	/* the same of --xdp */
	struct prefix6 *allowed;
	size_t n_allowed;
	struct statics statics;
	unsigned long long mappings[MAPPING_KINDS]; /* addresses of the pool by enum mapping_kind */
	struct nat64_stats stats;
};

static void status_free(struct status *s)
{
	free(s->fast.name);
	free(s->xdp.name);
	free(s->allowed);
	statics_free(&s->statics);
}

static int get_allowed(int map, struct status *s)
{
	struct nat64_lpm6 key;
	int err;

	err = bpf_map_get_next_key(map, NULL, &key);
	while (!err) {
		struct prefix6 *more = array_room(s->allowed, s->n_allowed, sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->allowed = more;
		more[s->n_allowed++] = (struct prefix6){ key.v6, key.len };
		err = bpf_map_get_next_key(map, &key, &key);
	}
	return errno == ENOENT ? 0 : -errno;
}

static int by_address(const void *a, const void *b)
{
	return prefix6_order(a, b);
}

static int get_stats(const struct loaded *maps, int cpus, struct nat64_stats *sum)
{
	struct nat64_stats *per_cpu;
	int err;

	per_cpu = calloc(cpus, sizeof(*per_cpu));
	if (!per_cpu)
		return -ENOMEM;
	err = loaded_stats(maps, cpus, per_cpu);
	for (int cpu = 0; !err && cpu < cpus; cpu++) {
		/* struct nat64_stats is all __u64 */
		const __u64 *from = (const __u64 *)&per_cpu[cpu];
		__u64 *to = (__u64 *)sum;

		for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
			to[i] += from[i];
	}
	free(per_cpu);
	return err;
}

struct count {
	struct status *status;
	__u64 now;
};

static int count_mapping(__u32 index, const struct nat64_mapping *m, void *data)
{
	struct count *count = data;
	struct nat64_config *cfg = &count->status->cfg;
	enum mapping_kind kind = mapping_kind(m, cfg, count->now);

	if (kind != MAPPING_FREE || is_given_out_here(index, cfg))
		count->status->mappings[kind]++;
	return 0;
}

static int add_interface(struct interfaces *in, const struct link *link)
{
	char(*more)[IF_NAMESIZE] = array_room(in->name, in->n, sizeof(*more));

	if (!more)
		return msg_fail(-ENOMEM, "%s", strerror(ENOMEM));
	in->name = more;
	memcpy(more[in->n++], link->name, sizeof(*more));
	return 0;
}

static int get_fast(struct nl *nl, const struct link *link, struct status *s)
{
	const struct fast_program *p;
	struct reason why = { "" };
	struct fast fast;
	size_t i = 0;
	int err = fast_find(nl, &link->index, 1, false, &fast, &why);

	if (err)
		msg_fail(err, "%s: %s", link->name, why.text);
	while (!err && (p = fast_next(&fast, link->index, &i)))
		err = add_interface(&s->fast, p->place.link);
	fast_free(&fast);
	return err;
}

static int get_xdp(struct nl *nl, const struct link *link, struct status *s)
{
	struct xdp_members members = xdp_members_of(link->index, &s->ports);
	struct reason why = { "" };
	struct xdp xdp;
	int err = xdp_find(nl, &members, &xdp, &why);

	if (err)
		msg_fail(err, "%s: %s", link->name, why.text);
	for (size_t i = 0; !err && i < xdp.n; i++)
		err = xdp.list[i].of_members ? add_interface(&s->xdp, xdp.list[i].link) : 0;
	xdp_free(&xdp);
	return err;
}

static struct status status_of(const struct link *link)
{
	struct status s = { .index = link->index };

	memcpy(s.interface, link->name, sizeof(s.interface));
	return s;
}

static int status_get(const struct translator *t, struct status *s)
{
	struct count count = { s, boottime() };
	struct reason why = { "" };
	int err, cpus;

	*s = status_of(t->link);
	s->cfg = t->cfg;
	s->since = wall_clock(t->maps.since) / (__s64)NS_PER_SEC;
	for (int way = 0; way < NAT64_WAYS; way++)
		s->program[way] = t->hook[way].prog_id;
	s->attached = t->hook[NAT64_6TO4].kind;
	cpus = possible_cpus(&why);
	if (cpus < 0)
		return msg_fail(cpus, "%s: %s", s->interface, why.text);
	err = ports_read(t->maps.ports, &s->ports);
	err = err ? err : get_stats(&t->maps, cpus, &s->stats);
	err = err ? err : get_allowed(t->maps.allowed, s);
	err = err ? err : statics_read(&t->maps, &s->statics);
	err = err ? err : mappings_walk(t->maps.mappings, count_mapping, &count);
	if (s->n_allowed)
		qsort(s->allowed, s->n_allowed, sizeof(*s->allowed), by_address);
	return err ? msg_fail(err, "%s: cannot read its maps: %s", s->interface, strerror(-err)) : 0;
}

static unsigned long long addresses(const struct status *s)
{
	unsigned long long sum = 0;

	for (int kind = 0; kind < MAPPING_KINDS; kind++)
		sum += s->mappings[kind];
	return sum;
}

/* How many -s: those in the table of the pool, and the others */
static unsigned long long statics(const struct status *s)
{
	return s->mappings[MAPPING_STATIC] + s->statics.n;
}

static unsigned long long dropped(const struct status *s, int way)
{
	unsigned long long sum = 0;

	for (int i = 0; i < NAT64_DROP_MAX; i++)
		sum += s->stats.drops[way][i];
	return sum;
}

static void print_octet(struct out *o, const char *key, const char *title, bool set, __u8 value)
{
	if (!set) {
		out_null(o, key);
		return;
	}
	out_text(o, "  %-18s", title);
	out_uint(o, key, "0x%02llx\n", value);
}

static void print_config(struct out *o, const struct status *s)
{
	const struct nat64_config *cfg = &s->cfg;

	out_string(o, "v6_prefix", "  NAT64 prefix      %s\n",
		   text6((struct prefix6){ cfg->v6_prefix, cfg->v6_len }).s);
	if (cfg->v4_len == NAT64_V4_LEN_NONE)
		out_null(o, "v4_prefix");
	else
		out_string(o, "v4_prefix", "  IPv4 prefix       %s\n",
			   text4((struct prefix4){ cfg->v4_prefix, cfg->v4_len }).s);
	if (cfg->give_mask)
		out_string(o, "give_out", "  gives out         %s\n", text4(config_give_out(cfg)).s);
	else
		out_null(o, "give_out");
	out_array(o, "allowed_src");
	for (size_t i = 0; i < s->n_allowed; i++) {
		out_text(o, "  %-18s", i ? "" : "allowed");
		out_string(o, NULL, "%s\n", text6(s->allowed[i]).s);
	}
	out_close(o);
	out_uint(o, "static_mappings", statics(s) ? "  static mappings   %llu\n" : NULL, statics(s));
	out_uint(o, "timeout", "  time-out          %llu s\n", cfg->timeout / cfg->hz);
	if (cfg->reuse_idle)
		out_uint(o, "reuse_idle", "  reuse, if idle    %llu s\n", cfg->reuse_idle / cfg->hz);
	else
		out_null(o, "reuse_idle");
	if (cfg->prefix_limit) {
		out_object(o, "per_prefix");
		out_uint(o, "mappings", "  per prefix        %llu mappings", cfg->prefix_limit);
		out_uint(o, "length", " of a /%llu\n", cfg->prefix_len);
		out_close(o);
	} else {
		out_null(o, "per_prefix");
	}
	out_string(o, "icmp_src", "  ICMP source       %s\n", text4((struct prefix4){ cfg->icmp_src, 32 }).s);
	out_uint(o, "icmp_rate", "  ICMP rate         %llu/s\n", cfg->icmp_rate);
	out_uint(o, "lowest_ipv6_mtu", "  lowest IPv6 MTU   %llu\n", cfg->lowest_ipv6_mtu);
	out_bool(o, "wkp_strict", cfg->wkp_strict);
	if (cfg->wkp_strict)
		out_text(o, "  wkp-strict        yes\n");
	print_octet(o, "tos", "TOS", cfg->set_tos, cfg->tos);
	print_octet(o, "tclass", "traffic class", cfg->set_tclass, cfg->tclass);
}

/* Those of a device besides itself, by the names that they had when it was loaded. */
static void print_ports(struct out *o, const struct status *s)
{
	bool some = false;

	if (!s->cfg.device) {
		out_null(o, "ports");
		return;
	}
	if (s->cfg.has_ports)
		out_text(o, "  ports             ");
	out_array(o, "ports");
	for (__u32 i = 1; i <= NAT64_PORTS; i++) {
		const struct nat64_port *port = &s->ports.of[i];

		if (!port->ifindex || i == s->cfg.port)
			continue;
		out_text(o, "%s", some ? ", " : "");
		out_string(o, NULL, "%s", port->name);
		some = true;
	}
	out_close(o);
	if (s->cfg.has_ports)
		out_text(o, "\n");
}

/* A list of interfaces; as text, behind the name of what is there. */
static void print_interfaces(struct out *o, const char *key, const struct interfaces *in)
{
	out_text(o, "%s", in->n ? "" : "on no interface");
	out_array(o, key);
	for (size_t i = 0; i < in->n; i++) {
		out_text(o, "%s", i ? ", " : "");
		out_string(o, NULL, "%s", in->name[i]);
	}
	out_close(o);
}

static void print_fast(struct out *o, const struct status *s)
{
	if (!s->cfg.fast) {
		out_null(o, "fast");
		return;
	}
	out_text(o, "  fast              ");
	print_interfaces(o, "fast", &s->fast);
	out_text(o, "\n");
}

static void print_xdp(struct out *o, const struct status *s)
{
	if (!s->cfg.xdp) {
		out_null(o, "xdp");
		return;
	}
	out_object(o, "xdp");
	out_text(o, "  xdp               ");
	print_interfaces(o, "interfaces", &s->xdp);
	out_string(o, "mode", " (%s)\n", s->cfg.xdp < NAT64_XDP_MODES ? XDP_NAMES[s->cfg.xdp] : "?");
	out_close(o);
}

static void print_programs(struct out *o, const struct status *s)
{
	struct utsname uts = { 0 };
	struct tm tm;
	char text[64];

	uname(&uts);
	out_text(o, "  programs          ");
	out_object(o, "programs");
	for (int way = 0; way < NAT64_WAYS; way++) {
		out_text(o, "%s%s ", way ? ", " : "", WAY_NAMES[way]);
		out_uint(o, WAY_NAMES[way], "%llu", s->program[way]);
	}
	out_close(o);
	out_string(o, "attached", ", by %s", tc_kind_name(s->attached));
	out_string(o, "kernel", ", kernel %s\n", uts.release);
	strftime(text, sizeof(text), "%F %T %z", localtime_r(&s->since, &tm));
	out_text(o, "  since             %s\n", text);
	out_uint(o, "since", NULL, s->since);
}

static void print_mappings(struct out *o, const struct status *s)
{
	out_text(o, "  mappings          ");
	out_object(o, "mappings");
	out_uint(o, "live", "%llu live, ", s->mappings[MAPPING_LIVE]);
	out_uint(o, "expired", "%llu expired, ", s->mappings[MAPPING_EXPIRED]);
	out_uint(o, "static", "%llu static, ", s->mappings[MAPPING_STATIC] + s->mappings[MAPPING_HELD]);
	out_uint(o, "free", "%llu free, ", s->mappings[MAPPING_FREE]);
	out_uint(o, "addresses", "of %llu addresses\n", addresses(s));
	out_close(o);
}

static void print_way(struct out *o, const struct status *s, int way)
{
	out_object(o, WAY_NAMES[way]);
	out_text(o, "  %-18s", WAY_TITLES[way]);
	out_uint(o, "packets", "%llu packets, ", s->stats.packets[way]);
	out_uint(o, "bytes", "%llu bytes, ", s->stats.bytes[way]);
	out_uint(o, "dropped", "%llu dropped\n", dropped(s, way));
	out_object(o, "drops");
	for (int i = 0; i < NAT64_DROP_MAX; i++) {
		__u64 n = s->stats.drops[way][i];

		if (n)
			out_text(o, "    %-16s", DROP_NAMES[i]);
		out_uint(o, DROP_NAMES[i], n ? "%llu\n" : NULL, n);
	}
	out_close(o);
	out_close(o);
}

static void print_working(struct out *o, const struct status *s)
{
	out_text(o, "  working           %s", s->problems.n ? "no: " : "yes\n");
	out_bool(o, "working", !s->problems.n);
	out_array(o, "problems");
	for (size_t i = 0; i < s->problems.n; i++) {
		out_text(o, "%s", i ? "                    " : "");
		out_string(o, NULL, "%s\n", s->problems.list[i].text);
	}
	out_close(o);
}

static void print_status(struct out *o, const struct status *s)
{
	out_object(o, NULL);
	out_string(o, "interface", "%s\n", s->interface);
	out_uint(o, "ifindex", NULL, s->index);
	print_working(o, s);
	if (!s->broken) {
		print_config(o, s);
		print_ports(o, s);
		print_fast(o, s);
		print_xdp(o, s);
		print_programs(o, s);
		print_mappings(o, s);
		for (int way = 0; way < NAT64_WAYS; way++)
			print_way(o, s, way);
	}
	out_close(o);
}

static int print_all(const struct status *s, size_t n, bool json)
{
	struct out o;

	out_begin(&o, stdout, json);
	out_array(&o, "translators");
	for (size_t i = 0; i < n; i++) {
		out_text(&o, "%s", i ? "\n" : "");
		print_status(&o, &s[i]);
	}
	out_close(&o);
	if (!n)
		out_text(&o, "no translator is loaded\n");
	return out_end(&o);
}

/* One sample; labels come after that of the interface, with a comma in front. */
__attribute__((format(printf, 4, 5))) static void sample(const struct status *s, const char *name,
							 unsigned long long value, const char *labels, ...)
{
	va_list args;

	printf("%s{interface=\"", name);
	for (const char *c = s->interface; *c; c++) {
		if (*c == '"' || *c == '\\')
			putchar('\\');
		putchar((unsigned char)*c < 0x80 ? *c : '?'); /* it must be UTF-8 */
	}
	putchar('"');
	va_start(args, labels);
	vprintf(labels, args);
	va_end(args);
	printf("} %llu\n", value);
}

static void samples_info(const struct status *s, const char *name)
{
	struct utsname uts = { 0 };

	uname(&uts);
	sample(s, name, 1, ",v6_prefix=\"%s\",v4_prefix=\"%s\",kernel=\"%s\"",
	       text6((struct prefix6){ s->cfg.v6_prefix, s->cfg.v6_len }).s,
	       text4((struct prefix4){ s->cfg.v4_prefix, s->cfg.v4_len }).s, uts.release);
}

static void samples_working(const struct status *s, const char *name)
{
	sample(s, name, !s->problems.n, "%s", "");
}

static void samples_since(const struct status *s, const char *name)
{
	sample(s, name, s->since, "%s", "");
}

static void samples_timeout(const struct status *s, const char *name)
{
	sample(s, name, s->cfg.timeout / s->cfg.hz, "%s", "");
}

static void samples_static(const struct status *s, const char *name)
{
	sample(s, name, statics(s), "%s", "");
}

static void samples_addresses(const struct status *s, const char *name)
{
	sample(s, name, s->mappings[MAPPING_LIVE], ",state=\"live\"");
	sample(s, name, s->mappings[MAPPING_EXPIRED], ",state=\"expired\"");
	sample(s, name, s->mappings[MAPPING_STATIC] + s->mappings[MAPPING_HELD], ",state=\"static\"");
	sample(s, name, s->mappings[MAPPING_FREE], ",state=\"free\"");
}

static void samples_packets(const struct status *s, const char *name)
{
	for (int way = 0; way < NAT64_WAYS; way++)
		sample(s, name, s->stats.packets[way], ",direction=\"%s\"", WAY_NAMES[way]);
}

static void samples_bytes(const struct status *s, const char *name)
{
	for (int way = 0; way < NAT64_WAYS; way++)
		sample(s, name, s->stats.bytes[way], ",direction=\"%s\"", WAY_NAMES[way]);
}

static void samples_drops(const struct status *s, const char *name)
{
	for (int way = 0; way < NAT64_WAYS; way++)
		for (int i = 0; i < NAT64_DROP_MAX; i++)
			sample(s, name, s->stats.drops[way][i], ",direction=\"%s\",reason=\"%s\"", WAY_NAMES[way],
			       DROP_NAMES[i]);
}

static const struct family {
	const char *name;
	const char *type;
	const char *help;
	void (*samples)(const struct status *s, const char *name);
} FAMILIES[] = {
	{ "nat64_info", "gauge", "A translator that is loaded; always 1.", samples_info },
	{ "nat64_working", "gauge", "Whether the routes, sysctls and programs that it needs are in place.",
	  samples_working },
	{ "nat64_load_time_seconds", "gauge", "When its programs were loaded, in Unix time.", samples_since },
	{ "nat64_mapping_timeout_seconds", "gauge", "How long an idle mapping lasts.", samples_timeout },
	{ "nat64_static_mappings", "gauge", "Static mappings that it was configured with.", samples_static },
	{ "nat64_pool_addresses", "gauge", "IPv4 addresses of the pool, by the state of their mapping.",
	  samples_addresses },
	{ "nat64_packets_total", "counter", "Packets translated.", samples_packets },
	{ "nat64_bytes_total", "counter", "Bytes of the IP packets translated, as they came.", samples_bytes },
	{ "nat64_drops_total", "counter", "Packets dropped, by reason.", samples_drops },
};

/* https://prometheus.io/docs/instrumenting/exposition_formats/ */
static int print_metrics(const struct status *s, size_t n)
{
	for (size_t f = 0; f < sizeof(FAMILIES) / sizeof(*FAMILIES); f++) {
		printf("# HELP %s %s\n# TYPE %s %s\n", FAMILIES[f].name, FAMILIES[f].help, FAMILIES[f].name,
		       FAMILIES[f].type);
		for (size_t i = 0; i < n; i++)
			if (!s[i].broken || FAMILIES[f].samples == samples_working)
				FAMILIES[f].samples(&s[i], FAMILIES[f].name);
	}
	return out_error(stdout);
}

/* Appends the status of the translator of a link, if it has one; must: it is an error if not. */
static int status_add(struct nl *nl, const struct link *link, bool must, struct status **all, size_t *n)
{
	struct reason why = { "" };
	struct translator t;
	struct status *more;
	bool broken;
	int err;

	err = translator_look(nl, link, must, &t, &why);
	broken = err == -ESTALE || err == -EPROTO;
	if (err && !broken) {
		err = err == -ENOENT && !must ? 0 : err;
		goto out;
	}
	more = array_room(*all, *n, sizeof(*more));
	if (!more) {
		err = msg_fail(-ENOMEM, "%s", strerror(ENOMEM));
		goto out;
	}
	*all = more;
	more += (*n)++;
	if (broken) {
		*more = status_of(link);
		more->broken = true;
		problem(&more->problems, "%s", why.text);
		err = 0;
		goto out;
	}
	err = status_get(&t, more);
	if (!err && t.cfg.fast)
		err = get_fast(nl, t.link, more);
	if (!err && t.cfg.xdp)
		err = get_xdp(nl, t.link, more);
	err = err ? err : health(nl, &t, &more->statics, &more->problems);
out:
	translator_close(&t);
	return err;
}

/* 0, or -EIO after having said what does not work. */
static int say_problems(const struct status *s)
{
	const struct problems *p = &s->problems;

	if (p->n > 1)
		return msg_fail(-EIO, "%s: does not work: %s; and %zu more", s->interface, p->list->text, p->n - 1);
	return p->n ? msg_fail(-EIO, "%s: does not work: %s", s->interface, p->list->text) : 0;
}

int status_show(struct nl *nl, const struct link *link, const struct options *o)
{
	struct status *all = NULL;
	struct link *links = NULL;
	size_t n = 0, n_links = 0;
	int err = 0, failed = 0;

	if (link) {
		err = status_add(nl, link, true, &all, &n);
	} else {
		err = link_list(nl, &links, &n_links);
		if (err)
			msg_fail(err, "cannot list the interfaces: %s", nl_error(nl, err));
		for (size_t i = 0; !err && i < n_links; i++)
			err = status_add(nl, &links[i], false, &all, &n);
	}
	if (!err) {
		err = o->metrics ? print_metrics(all, n) : print_all(all, n, o->json);
		if (err)
			msg_fail(err, "cannot write: %s", strerror(-err));
	}
	for (size_t i = 0; i < n; i++) {
		int bad = err ? 0 : say_problems(&all[i]);

		failed = failed ? failed : bad;
		status_free(&all[i]);
	}
	free(all);
	free(links);
	return err ? err : failed;
}
