// SPDX-License-Identifier: GPL-2.0-or-later
/* options.c - the command line: parsing by the table of nat64.c, and the checks that need no system */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "options.h"

#define LONG_ONLY    256 /* getopt's value of a long option is this + its index in the table */
#define MAX_OPTIONS  64
#define MIN_IPV6_MTU 1280

#define NS_PER_SEC 1000000000ULL

/* The prefixes that no host has, and so no pool and no source address either */
static const struct special4 {
	struct {
		__u8 addr[4];
		__u32 len;
	} prefix;
	const char *what;
} SPECIAL4[] = {
	{ { { 0 }, 8 }, "\"this network\" (0.0.0.0/8)" },
	{ { { 127 }, 8 }, "loopback (127.0.0.0/8)" },
	{ { { 169, 254 }, 16 }, "link-local (169.254.0.0/16)" },
	{ { { 224 }, 4 }, "multicast (224.0.0.0/4)" },
	{ { { 240 }, 4 }, "reserved (240.0.0.0/4)" },
};

static const struct special6 {
	struct prefix6 prefix;
	const char *what;
} SPECIAL6[] = {
	{ { { .b = { 0 } }, 96 }, "unspecified, loopback and IPv4-compatible addresses (::/96)" },
	{ { { .b = { [10] = 0xff, [11] = 0xff } }, 96 }, "IPv4-mapped addresses (::ffff:0:0/96)" },
	{ { { .b = { 0xfe, 0x80 } }, 10 }, "link-local addresses (fe80::/10)" },
	{ { { .b = { 0xff } }, 8 }, "multicast addresses (ff00::/8)" },
};

static const char *special4(const struct prefix4 *p)
{
	for (size_t i = 0; i < sizeof(SPECIAL4) / sizeof(*SPECIAL4); i++) {
		struct prefix4 s = { .len = SPECIAL4[i].prefix.len };

		memcpy(&s.addr, SPECIAL4[i].prefix.addr, sizeof(s.addr));
		if (prefix4_overlap(p, &s))
			return SPECIAL4[i].what;
	}
	return NULL;
}

int parse_interface(const char *arg, void *value, struct reason *why)
{
	if (strlen(arg) >= sizeof(((struct options *)0)->interface))
		return reason(why, -EINVAL, "no such interface");
	memcpy(value, arg, strlen(arg));
	return 0;
}

int parse_pool(const char *arg, void *value, struct reason *why)
{
	struct prefix4 *p = value;
	const char *what;

	if (parse_prefix4(arg, p, why))
		return -EINVAL;
	if (p->len < NAT64_V4_LEN_MIN || p->len > NAT64_V4_LEN_MAX)
		return reason(why, -EINVAL, "prefix length must be %d to %d", NAT64_V4_LEN_MIN, NAT64_V4_LEN_MAX);
	if (check_network4(p, why))
		return -EINVAL;
	what = special4(p);
	if (what)
		return reason(why, -EINVAL, "no addresses for hosts: %s", what);
	return 0;
}

/* RFC 6052 section 2.2 */
int parse_nat64_prefix(const char *arg, void *value, struct reason *why)
{
	struct prefix6 *p = value;

	if (parse_prefix6(arg, p, why))
		return -EINVAL;
	if (p->len != 32 && p->len != 40 && p->len != 48 && p->len != 56 && p->len != 64 && p->len != 96)
		return reason(why, -EINVAL, "prefix length must be 32, 40, 48, 56, 64 or 96");
	if (check_network6(p, why))
		return -EINVAL;
	if (p->addr.b[8])
		return reason(why, -EINVAL, "bits 64 to 71 of a NAT64 prefix must be zero (RFC 6052)");
	for (size_t i = 0; i < sizeof(SPECIAL6) / sizeof(*SPECIAL6); i++)
		if (prefix6_overlap(p, &SPECIAL6[i].prefix))
			return reason(why, -EINVAL, "overlaps the %s", SPECIAL6[i].what);
	return 0;
}

int parse_allowed(const char *arg, void *value, struct reason *why)
{
	struct prefix6 *p = value;

	if (parse_prefix6(arg, p, why) || check_network6(p, why))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(SPECIAL6) / sizeof(*SPECIAL6); i++)
		if (prefix6_covers(&SPECIAL6[i].prefix, p))
			return reason(why, -EINVAL, "never translated: lies within the %s", SPECIAL6[i].what);
	return 0;
}

int append_allowed(struct options *o, const void *value)
{
	/* grows at powers of two */
	if (!(o->n_allowed & (o->n_allowed - 1))) {
		size_t room = o->n_allowed ? 2 * o->n_allowed : 1;
		void *p = realloc(o->allowed, room * sizeof(*o->allowed));

		if (!p)
			return -ENOMEM;
		o->allowed = p;
	}
	o->allowed[o->n_allowed++] = *(const struct prefix6 *)value;
	return 0;
}

int parse_timeout(const char *arg, void *value, struct reason *why)
{
	return parse_number(arg, 1, NAT64_TIMEOUT_MAX, value, why);
}

int parse_icmp_src(const char *arg, void *value, struct reason *why)
{
	struct prefix4 host = { .len = 32 };
	const char *what;
	int err;

	err = parse_addr4(arg, &host.addr, why);
	if (err)
		return err;
	what = special4(&host);
	if (what)
		return reason(why, -EINVAL, "not the address of a host: %s", what);
	*(__be32 *)value = host.addr;
	return 0;
}

int parse_mtu(const char *arg, void *value, struct reason *why)
{
	return parse_number(arg, MIN_IPV6_MTU, 65535, value, why);
}

int parse_octet(const char *arg, void *value, struct reason *why)
{
	struct octet *octet = value;
	__u32 n;
	int err;

	if (arg[0] == '0' && (arg[1] == 'x' || arg[1] == 'X')) {
		size_t digits = strspn(arg + 2, "0123456789abcdefABCDEF");

		if (!digits || arg[2 + digits])
			return reason(why, -EINVAL, "not a number");
		if (strlen(arg) > 4)
			return reason(why, -EINVAL, "must be 0x0 to 0xff");
		n = strtoul(arg, NULL, 16);
	} else {
		err = parse_number(arg, 0, 255, &n, why);
		if (err)
			return err;
	}
	*octet = (struct octet){ .set = 1, .value = n };
	return 0;
}

/* "-4", or "--tos" for what has no letter */
static const char *option_title(const struct option_spec *spec, char buf[64])
{
	if (spec->letter)
		snprintf(buf, 64, "-%c", spec->letter);
	else
		snprintf(buf, 64, "--%s", spec->name);
	return buf;
}

static int option_take(const struct option_spec *spec, const char *arg, bool again, struct options *o)
{
	union {
		struct options any;
		bool flag;
	} value;
	void *field = (char *)o + spec->offset;
	char title[64];
	struct reason why = { "" };
	int err;

	memset(&value, 0, sizeof(value));
	value.flag = !spec->parse;
	if (spec->parse && spec->parse(arg, &value, &why))
		return msg_fail(-EINVAL, "%s %s: %s", option_title(spec, title), arg, why.text);
	if (spec->append) {
		err = spec->append(o, &value);
		return err ? msg_fail(err, "%s %s: %s", option_title(spec, title), arg, strerror(-err)) : 0;
	}
	if (again && memcmp(field, &value, spec->size))
		return msg_fail(-EINVAL, "%s %s: given twice, with different values", option_title(spec, title), arg);
	memcpy(field, &value, spec->size);
	return 0;
}

/* What getopt did not like. */
static int option_bad(const struct option_spec *table, int ret, char **argv)
{
	const char *word = argv[optind - 1];
	char title[64];

	if (ret == ':' && optopt >= LONG_ONLY)
		return msg_fail(-EINVAL, "--%s: needs an argument", table[optopt - LONG_ONLY].name);
	if (ret == ':')
		return msg_fail(-EINVAL, "-%c: needs an argument", optopt);
	if (optopt >= LONG_ONLY)
		return msg_fail(-EINVAL, "--%s: takes no argument", table[optopt - LONG_ONLY].name);
	if (optopt)
		snprintf(title, sizeof(title), "-%c", optopt);
	return msg_fail(-EINVAL, "%s: unknown option (see nat64 --help)", optopt ? title : word);
}

/* What can only be said once all options are known. */
static int options_check(const struct option_spec *table, const bool *given, const struct options *o)
{
	struct prefix4 icmp_src = { o->icmp_src, 32 };

	for (size_t i = 0; table[i].name; i++) {
		if (table[i].need >= (o->unload ? NEEDED : NEEDED_TO_LOAD) && !given[i])
			return msg_fail(-EINVAL, "-%c/--%s is missing: %s", table[i].letter, table[i].name,
					table[i].missing);
	}
	if (o->unload)
		return 0;
	for (size_t i = 0; i < o->n_allowed; i++)
		if (prefix6_covers(&o->v6_prefix, &o->allowed[i]))
			return msg_fail(-EINVAL, "-a %s: lies within the NAT64 prefix %s", text6(o->allowed[i]).s,
					text6(o->v6_prefix).s);
	if (prefix4_covers(&o->v4_prefix, &icmp_src))
		return msg_fail(-EINVAL, "--icmp-src %s: lies within the IPv4 prefix %s", text4(icmp_src).s,
				text4(o->v4_prefix).s);
	return 0;
}

/* The table in the form that getopt_long() wants */
static void options_getopt(const struct option_spec *table, char *letters, struct option *longs)
{
	*letters++ = ':'; /* tells a missing argument from an unknown option */
	for (size_t i = 0; table[i].name; i++, longs++) {
		*longs = (struct option){
			.name = table[i].name,
			.has_arg = table[i].arg ? required_argument : no_argument,
			.val = LONG_ONLY + (int)i,
		};
		if (table[i].letter)
			*letters++ = table[i].letter;
		if (table[i].letter && table[i].arg)
			*letters++ = ':';
	}
	*letters = 0;
	*longs = (struct option){ 0 };
}

int options_parse(const struct option_spec *table, int argc, char **argv, struct options *o)
{
	struct option longs[MAX_OPTIONS + 1];
	char letters[2 * MAX_OPTIONS + 2];
	bool given[MAX_OPTIONS] = { 0 };
	int ret, err;
	size_t i;

	options_getopt(table, letters, longs);
	opterr = 0;
	while ((ret = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (ret == '?' || ret == ':')
			return option_bad(table, ret, argv);
		for (i = 0; ret != LONG_ONLY + (int)i && ret != table[i].letter; i++)
			;
		err = option_take(&table[i], optarg, given[i], o);
		if (err)
			return err;
		given[i] = true;
		if (o->help || o->version)
			return 0;
	}
	if (optind < argc)
		return msg_fail(-EINVAL, "%s: unexpected argument", argv[optind]);
	return options_check(table, given, o);
}

void options_free(struct options *o)
{
	free(o->allowed);
	o->allowed = NULL;
	o->n_allowed = 0;
}

void options_help(const struct option_spec *table)
{
	for (; table->name; table++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s", table->name, table->arg ? " " : "",
			 table->arg ? table->arg : "");
		if (table->letter)
			printf("  -%c, %-24s %s\n", table->letter, left, table->help);
		else
			printf("      %-24s %s\n", left, table->help);
	}
}

/* The kernel's ticks in a second: what its coarse clocks count in. */
static __u32 ticks_per_second(void)
{
	struct timespec tick = { 0 };

	return clock_getres(CLOCK_MONOTONIC_COARSE, &tick) || !tick.tv_nsec
		       ? 100
		       : (NS_PER_SEC + tick.tv_nsec / 2) / tick.tv_nsec;
}

void options_config(const struct options *o, struct nat64_config *cfg)
{
	__u32 hz = ticks_per_second();

	*cfg = (struct nat64_config){
		.v6_prefix = o->v6_prefix.addr,
		.v6_len = o->v6_prefix.len,
		.v4_prefix = o->v4_prefix.addr,
		.v4_mask = prefix4_mask(o->v4_prefix.len),
		.v4_len = o->v4_prefix.len,
		.timeout = (__u64)o->timeout * hz,
		.hz = hz,
		.fresh = o->timeout >= 8 ? hz : hz * o->timeout / 8,
		.lowest_ipv6_mtu = o->lowest_ipv6_mtu,
		.icmp_src = o->icmp_src,
		.wkp_strict = o->wkp_strict,
		.set_tos = o->tos.set,
		.tos = o->tos.value,
		.set_tclass = o->tclass.set,
		.tclass = o->tclass.value,
	};
	if (getrandom(&cfg->seed, sizeof(cfg->seed), GRND_NONBLOCK) < 0)
		cfg->seed = 0; /* it only makes identifications hard to guess */
}

__u32 options_pool_size(const struct options *o)
{
	__u32 n = 1U << (32 - o->v4_prefix.len);

	return n > 2 ? n - 2 : n;
}
