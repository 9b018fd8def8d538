// SPDX-License-Identifier: GPL-2.0-or-later
/* options.c - the command line and the configuration file: parsing by the table of nat64.c, and the checks that need no
 * system */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "clock.h"
#include "options.h"
#include "table.h"

#define LONG_ONLY   256 /* getopt's value of a long option is this + its index in the table */
#define MAX_OPTIONS 64
#define MAX_LINE    1024       /* bytes of a line of a configuration file, */
#define MAX_FILE    (16 << 20) /* and of the whole file */
#define PATH_TEXT   512	       /* room for its name in messages, cut if need be */
#define MAX_WORDS   1024       /* bytes of the words that an option takes together */

static const struct prefix4 NO_POOL = { (FORCE __be32)0xffffffff, NAT64_V4_LEN_NONE };

/* "-4", or "--tos" for what has no letter */
static const char *option_title(const struct option_spec *spec, char buf[64])
{
	if (spec->letter)
		snprintf(buf, 64, "-%c", spec->letter);
	else
		snprintf(buf, 64, "--%s", spec->name);
	return buf;
}

/* Has it a value that need not be there? */
static bool has_default(const struct option_spec *spec)
{
	return spec->arg && *spec->arg == '=';
}

/* Whether an option was given already: the command line wins over the file, and may repeat itself but not contradict itself. */
enum given {
	GIVEN_NOT,
	GIVEN_HERE,
	GIVEN_BEFORE, /* on the command line, when it comes in the file */
};

static bool is_same(const struct option_spec *spec, const void *a, const void *b)
{
	return spec->is_text ? !strcmp(*(const char *const *)a, *(const char *const *)b) : !memcmp(a, b, spec->size);
}

/* title: what the user called it */
static int option_take(const struct option_spec *spec, const char *title, const char *arg, enum given given,
		       struct options *o)
{
	union {
		struct options any;
		bool flag;
	} value;
	void *field = (char *)o + spec->offset;
	struct reason why = { "" };
	int err;

	memset(&value, 0, sizeof(value));
	value.flag = !spec->parse;
	if (!arg && has_default(spec))
		arg = "";
	if (spec->parse && arg && spec->parse(arg, &value, &why))
		return msg_fail(-EINVAL, "%s %s: %s", title, arg, why.text);
	if (spec->append) {
		err = spec->append(o, &value);
		return err ? msg_fail(err, "%s %s: %s", title, arg, strerror(-err)) : 0;
	}
	if (given == GIVEN_BEFORE)
		return 0;
	if (given == GIVEN_HERE && !is_same(spec, field, &value))
		return msg_fail(-EINVAL, "%s %s: given twice, with different values", title, arg);
	memcpy(field, &value, spec->size);
	return 0;
}

/* An option of the table that says what to do */
static int option_action(const struct option_spec *table, const struct option_spec *spec, const char *title,
			 struct options *o)
{
	char before[64];

	if (spec->action == ACTION_LOAD || spec->action == o->action)
		return 0;
	if (o->action == ACTION_LOAD) {
		o->action = spec->action;
		return 0;
	}
	while (table->action != o->action)
		table++;
	return msg_fail(-EINVAL, "%s: not together with %s", title, option_title(table, before));
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

/* Where a static mapping was asked for: "-s", or with the line of the file */
static const char *static_origin(const struct options *o, const struct static_mapping *m, char *buf, size_t size)
{
	if (m->line)
		snprintf(buf, size, "%s:%u: static", o->config, m->line);
	else
		snprintf(buf, size, "-s");
	return buf;
}

static int statics_check(struct options *o)
{
	struct static_mapping first, second;
	struct prefix4 icmp_src = { o->icmp_src, 32 };
	char one[PATH_TEXT], two[PATH_TEXT];

	if (statics_sort(&o->statics, &first, &second))
		return msg_fail(-EINVAL, "%s %s: maps the same addresses as %s %s",
				static_origin(o, &second, one, sizeof(one)), static_text(&second).s,
				static_origin(o, &first, two, sizeof(two)), static_text(&first).s);
	for (size_t i = 0; i < o->statics.n; i++) {
		const struct static_mapping *m = &o->statics.list[i];
		const char *what = NULL;

		if (prefix6_overlap(&o->v6_prefix, &m->v6))
			what = "the NAT64 prefix (-6)";
		else if (m->v4.len && prefix4_covers(&m->v4, &icmp_src))
			what = "the source of ICMP errors (--icmp-src)";
		if (what)
			return msg_fail(-EINVAL, "%s %s: overlaps %s", static_origin(o, m, one, sizeof(one)),
					static_text(m).s, what);
	}
	return 0;
}

bool options_for_all(enum action action)
{
	return action == ACTION_STATUS || action == ACTION_MAPPINGS || action == ACTION_MONITOR ||
	       action == ACTION_TRACE || action == ACTION_CHECK;
}

/* Is it about a set-up: to load it, or to see what would become of it? */
static bool is_for_setup(const struct options *o)
{
	return o->action == ACTION_LOAD || o->action == ACTION_CHECK;
}

/* Is an option needed for what is to be done? */
static bool is_needed(const struct option_spec *spec, const struct options *o)
{
	switch (spec->need) {
	case NEEDED:
		return !options_for_all(o->action) && !*o->device;
	case NEEDED_WITHOUT_STATIC:
		return o->action == ACTION_LOAD && !o->statics.n;
	default:
		return false;
	}
}

static int combination_check(const struct options *o)
{
	if (o->json && !options_for_all(o->action))
		return msg_fail(-EINVAL, "--json: only with --status, --mappings, --monitor, --trace or --check");
	if (o->metrics && o->action != ACTION_STATUS)
		return msg_fail(-EINVAL, "--metrics: only with --status");
	if (o->metrics && o->json)
		return msg_fail(-EINVAL, "--metrics: not together with --json");
	if (o->snapshot && (o->action != ACTION_MONITOR || !o->json))
		return msg_fail(-EINVAL, "--snapshot: only with --monitor --json");
	if (o->snapshot && !o->n_ports && !*o->device)
		return msg_fail(-EINVAL, "--snapshot: of which interface? (-i)");
	if (o->dry_run && o->action != ACTION_LOAD)
		return msg_fail(-EINVAL, "--dry-run: only to load");
	/* A file names all that one translator has. */
	if (!is_for_setup(o) && !o->config && *o->device && o->n_ports)
		return msg_fail(-EINVAL, "--device %s: not together with -i, except to load", o->device);
	if (!is_for_setup(o) && !o->config && o->n_ports > 1)
		return msg_fail(-EINVAL, "-i %s: given twice, with different values, and this is not to load",
				o->ports[1].s);
	if (*o->device && !o->n_ports && (o->fast || o->xdp))
		return msg_fail(-EINVAL, "--%s: not with --device alone, whose packets go by the stack",
				o->fast ? "fast" : "xdp");
	if (o->restore && o->action != ACTION_LOAD && o->action != ACTION_RESTORE)
		return msg_fail(-EINVAL, "--restore: not together with what else is to be done");
	return 0;
}

static int restore_check(struct options *o)
{
	struct reason why = { "" };
	int err = o->restore ? saved_read(o->restore, &o->saved, &why) : 0;

	/* Nothing has been saved yet: there is nothing to restore, but something to load. */
	if (err == -ENOENT && o->action == ACTION_LOAD)
		msg_note("--restore %s: %s, so nothing is restored", o->restore, why.text);
	else if (err)
		return msg_fail(-EINVAL, "--restore %s: %s", o->restore, why.text);
	return 0;
}

static bool is_given(const struct option_spec *table, const enum given *given, const char *name)
{
	size_t i = 0;

	while (strcmp(table[i].name, name))
		i++;
	return given[i];
}

/* The network's own address, or the broadcast address, alone */
static bool gives_nothing(const struct options *o)
{
	return o->give_out.len == 32 &&
	       !is_given_out(be32_to(o->give_out.addr & ~prefix4_mask(o->v4_prefix.len)), o->v4_prefix.len);
}

/* What can only be said once all options are known. */
static int options_check(const struct option_spec *table, const enum given *given, struct options *o)
{
	struct prefix4 icmp_src = { o->icmp_src, 32 };
	struct reason why = { "" };
	int err;

	/* Without a prefix, --restore is for the translator that is loaded. */
	if (o->action == ACTION_LOAD && o->restore && !o->v4_prefix.len && !o->statics.n)
		o->action = ACTION_RESTORE;
	err = combination_check(o);
	if (!err && is_given(table, given, "refresh") && !o->snapshot)
		err = msg_fail(-EINVAL, "--refresh: only with --snapshot");
	if (err)
		return err;
	if (*o->device) {
		memcpy(o->interface.s, o->device, sizeof(o->device));
	} else if (o->n_ports == 1) {
		o->interface = o->ports[0];
		o->n_ports = 0;
	}
	for (size_t i = 0; table[i].name; i++)
		if (is_needed(&table[i], o) && !given[i])
			return msg_fail(-EINVAL, "-%c/--%s is missing: %s (see nat64 --help)", table[i].letter,
					table[i].name, table[i].missing);
	err = restore_check(o);
	if (err)
		return err;
	if (!is_for_setup(o))
		return 0;
	o->dry_run |= o->action == ACTION_CHECK;
	if (o->reuse_idle > o->timeout)
		return msg_fail(-EINVAL, "--reuse-idle %u: must not be more than the time-out (-t %u)", o->reuse_idle,
				o->timeout);
	if (options_gives_out(o) && !o->v4_prefix.len)
		return msg_fail(-EINVAL, "--give-out %s: there are no IPv4 addresses to give out (-4)",
				text4(o->give_out).s);
	if (options_gives_out(o) && !prefix4_covers(&o->v4_prefix, &o->give_out))
		return msg_fail(-EINVAL, "--give-out %s: does not lie within the IPv4 prefix %s", text4(o->give_out).s,
				text4(o->v4_prefix).s);
	if (options_gives_out(o) && gives_nothing(o))
		return msg_fail(-EINVAL, "--give-out %s: is not the address of a host", text4(o->give_out).s);
	if (!o->v4_prefix.len) {
		if (o->n_allowed)
			return msg_fail(-EINVAL, "-a %s: there are no IPv4 addresses to give to these hosts (-4)",
					text6(o->allowed[0]).s);
		o->v4_prefix = NO_POOL;
	}
	for (size_t i = 0; i < o->n_allowed; i++)
		if (prefix6_covers(&o->v6_prefix, &o->allowed[i]))
			return msg_fail(-EINVAL, "-a %s: lies within the NAT64 prefix %s", text6(o->allowed[i]).s,
					text6(o->v6_prefix).s);
	if (prefix4_covers(&o->v4_prefix, &icmp_src))
		return msg_fail(-EINVAL, "--icmp-src %s: lies within the IPv4 prefix %s", text4(icmp_src).s,
				text4(o->v4_prefix).s);
	if (saved_check(&o->saved, &o->v4_prefix, &why))
		return msg_fail(-EINVAL, "--restore %s: %s", o->restore, why.text);
	return statics_check(o);
}

/* Reads a line, without its end; 1, 0 at the end of the file, or a negative errno with *why. */
static int file_line(FILE *file, char *line, size_t *total, struct reason *why)
{
	size_t n = 0;
	int c;

	while ((c = getc(file)) != EOF && ++*total <= MAX_FILE && c != '\n') {
		if (c < ' ' && c != '\t' && c != '\r')
			return reason(why, -EINVAL, "not a text file");
		if (n == MAX_LINE - 1)
			return reason(why, -EINVAL, "line is too long");
		line[n++] = c;
	}
	line[n] = 0;
	if (ferror(file))
		return reason(why, -EIO, "%s", strerror(errno));
	if (*total > MAX_FILE)
		return reason(why, -EFBIG, "too large for a configuration file");
	return c != EOF || n;
}

/* One line of a configuration file: NAME [VALUE], or nothing; '#' starts a comment. */
static int file_option(const struct option_spec *table, char *line, enum given *given, struct options *o)
{
	static const char BLANK[] = " \t\r";
	char *name, *value, *end;
	char title[PATH_TEXT];
	size_t i;
	int err;

	line[strcspn(line, "#")] = 0;
	name = line + strspn(line, BLANK);
	if (!*name)
		return 0;
	value = name + strcspn(name, BLANK);
	if (*value)
		*value++ = 0;
	value += strspn(value, BLANK);
	for (end = value + strlen(value); end > value && strchr(BLANK, end[-1]); end--)
		end[-1] = 0;
	for (i = 0; table[i].name && (!table[i].in_file || strcmp(table[i].name, name)); i++)
		;
	snprintf(title, sizeof(title), "%s:%u: %.64s", o->config, o->line, name);
	if (!table[i].name)
		return msg_fail(-EINVAL, "%s: not an option of a configuration file", title);
	if (!*value && table[i].arg && !has_default(&table[i]))
		return msg_fail(-EINVAL, "%s: needs a value", title);
	if (*value && !table[i].arg)
		return msg_fail(-EINVAL, "%s: takes no value", title);
	err = option_take(&table[i], title, value, given[i], o);
	if (given[i] == GIVEN_NOT)
		given[i] = GIVEN_HERE;
	return err;
}

static int options_file(const struct option_spec *table, enum given *given, struct options *o)
{
	FILE *file = fopen(o->config, "re");
	struct reason why = { "" };
	char line[MAX_LINE];
	size_t total = 0;
	int ret;

	if (!file)
		return msg_fail(-errno, "-c %s: %s", o->config, strerror(errno));
	for (o->line = 1; (ret = file_line(file, line, &total, &why)) > 0; o->line++) {
		ret = file_option(table, line, given, o);
		if (ret)
			break;
	}
	if (ret < 0 && why.text[0])
		msg_fail(ret, "%s:%u: %s", o->config, o->line, why.text);
	o->line = 0;
	fclose(file);
	return ret;
}

/* Does it take the words that are no options? */
static bool takes_words(const struct option_spec *spec)
{
	return spec->arg && *spec->arg == '[';
}

/* The table in the form that getopt_long() wants */
static void options_getopt(const struct option_spec *table, char *letters, struct option *longs)
{
	*letters++ = ':'; /* tells a missing argument from an unknown option */
	for (size_t i = 0; table[i].name; i++, longs++) {
		*longs = (struct option){
			.name = table[i].name,
			.has_arg = !table[i].arg				      ? no_argument
				   : takes_words(&table[i]) || has_default(&table[i]) ? optional_argument
										      : required_argument,
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

/* The words that are no options, which belong to the option that takes such, behind those that it had; wherever they
 * stand. */
static int words_take(const struct option_spec *table, int argc, char **argv, const char *first, struct options *o)
{
	const struct option_spec *spec = table;
	char words[MAX_WORDS], title[64];
	int n;

	while (spec->name && !(takes_words(spec) && spec->action == o->action))
		spec++;
	if (!spec->name && optind < argc)
		return msg_fail(-EINVAL, "%s: unexpected argument", argv[optind]);
	if (!spec->name || (optind == argc && !first))
		return 0;
	n = snprintf(words, sizeof(words), "%s", first ? first : "");
	for (; optind < argc && n < MAX_WORDS; optind++)
		n += snprintf(words + n, sizeof(words) - n, "%s%s", n ? " " : "", argv[optind]);
	return option_take(spec, option_title(spec, title), words, GIVEN_NOT, o);
}

int options_parse(const struct option_spec *table, int argc, char **argv, struct options *o)
{
	struct option longs[MAX_OPTIONS + 1];
	char letters[2 * MAX_OPTIONS + 2];
	enum given given[MAX_OPTIONS] = { GIVEN_NOT };
	const char *first = NULL;
	char title[64];
	int ret, err;
	size_t i;

	options_getopt(table, letters, longs);
	opterr = 0;
	while ((ret = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (ret == '?' || ret == ':')
			return option_bad(table, ret, argv);
		for (i = 0; ret != LONG_ONLY + (int)i && ret != table[i].letter; i++)
			;
		option_title(&table[i], title);
		err = option_action(table, &table[i], title, o);
		if (takes_words(&table[i])) {
			if (optarg && first && strcmp(first, optarg))
				return msg_fail(-EINVAL, "%s %s: given twice, with different values", title, optarg);
			first = optarg ? optarg : first;
		} else if (!err) {
			err = option_take(&table[i], title, optarg, given[i], o);
		}
		if (err)
			return err;
		given[i] = GIVEN_HERE;
		if (o->help || o->version)
			return 0;
	}
	err = words_take(table, argc, argv, first, o);
	if (err)
		return err;
	for (i = 0; table[i].name; i++)
		if (given[i])
			given[i] = GIVEN_BEFORE;
	err = o->config ? options_file(table, given, o) : 0;
	return err ? err : options_check(table, given, o);
}

void options_free(struct options *o)
{
	free(o->ports);
	o->ports = NULL;
	o->n_ports = 0;
	free(o->allowed);
	o->allowed = NULL;
	o->n_allowed = 0;
	statics_free(&o->statics);
	saved_free(&o->saved);
}

void options_help(const struct option_spec *table)
{
	for (; table->name; table++) {
		char left[64];

		snprintf(left, sizeof(left), has_default(table) ? "--%s%s[%s]" : "--%s%s%s", table->name,
			 table->arg && !has_default(table) ? " " : "", table->arg ? table->arg : "");
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
	__u32 hz = ticks_per_second(), shift = 0, hold = o->reuse_idle ? o->reuse_idle : o->timeout;

	/* A host's place in the list of those in use is right to a hundredth of the time after which it may lose its
	 * address, and changes as seldom. */
	while (shift < 32 && ((__u64)hold * hz) >> (shift + 7))
		shift++;
	*cfg = (struct nat64_config){
		.v6_prefix = o->v6_prefix.addr,
		.v6_len = o->v6_prefix.len,
		.v4_prefix = o->v4_prefix.addr,
		.v4_mask = prefix4_mask(o->v4_prefix.len),
		.v4_len = o->v4_prefix.len,
		.give_out = o->give_out.addr,
		.give_mask = options_gives_out(o) ? prefix4_mask(o->give_out.len) : 0,
		.timeout = (__u64)o->timeout * hz,
		.hz = hz,
		.epoch_shift = shift,
		.fresh = hold >= 8 ? hz : hz * hold / 8,
		.reuse_idle = (__u64)o->reuse_idle * hz,
		.prefix_mask = prefix6_mask(o->per_prefix.len),
		.prefix_len = o->per_prefix.len,
		.prefix_limit = o->per_prefix.limit,
		.lowest_ipv6_mtu = o->lowest_ipv6_mtu,
		.icmp_src = o->icmp_src,
		.icmp_rate = o->icmp_rate,
		.wkp_strict = o->wkp_strict,
		.set_tos = o->tos.set,
		.tos = o->tos.value,
		.set_tclass = o->tclass.set,
		.tclass = o->tclass.value,
		.fast = o->fast,
		.xdp = o->xdp,
		.has_static = statics_outside(&o->statics, &o->v4_prefix) > 0,
	};
	if (getrandom(&cfg->seed, sizeof(cfg->seed), GRND_NONBLOCK) < 0)
		cfg->seed = 0; /* it only makes identifications hard to guess */
}

bool options_gives_out(const struct options *o)
{
	return o->give_out.len;
}

bool options_has_pool(const struct options *o)
{
	return o->v4_prefix.len != NO_POOL.len;
}

__u32 options_pool_size(const struct options *o)
{
	__u32 n = 1U << (32 - o->v4_prefix.len);

	return !options_has_pool(o) ? 0 : n > 2 ? n - 2 : n;
}
