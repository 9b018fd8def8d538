// SPDX-License-Identifier: GPL-2.0-or-later
/* nat64.c - NAT64 in the kernel: load the translator of an interface, set it up, and exit */
#include <bpf/libbpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "user/device.h"
#include "user/follow.h"
#include "user/link.h"
#include "user/mappings.h"
#include "user/mirror.h"
#include "user/msg.h"
#include "user/netlink.h"
#include "user/options.h"
#include "user/out.h"
#include "user/setup.h"
#include "user/status.h"
#include "user/survey.h"
#include "user/translator.h"

#define EXIT_USAGE 2

#define FIELD(name) .offset = offsetof(struct options, name), .size = sizeof(((struct options *)0)->name)
#define TEXT(name)  FIELD(name), .is_text = true /* a const char * */

static const struct option_spec OPTIONS[] = {
	{ 'i', "interface", "IF", "interface facing IPv6 hosts; any number of times", parse_interface,
	  .append = append_interface, .in_file = true, .need = NEEDED,
	  .missing = "which interface faces the IPv6 hosts?" },
	{ 0, "device", "NAME", "a device that translates what is routed to it", parse_device, FIELD(device),
	  .in_file = true },
	{ '4', "v4-prefix", "PREFIX", "IPv4 addresses to give to IPv6 hosts, /8 to /31", parse_pool, FIELD(v4_prefix),
	  .in_file = true, .need = NEEDED_WITHOUT_STATIC,
	  .missing = "there would be no IPv4 addresses to translate to" },
	{ 0, "give-out", "PREFIX", "the part of -4 that this gateway gives out", parse_give_out, FIELD(give_out),
	  .in_file = true },
	{ '6', "v6-prefix", "PREFIX", "NAT64 prefix (default 64:ff9b::/96)", parse_nat64_prefix, FIELD(v6_prefix),
	  .in_file = true },
	{ 'a', "allowed-src", "PREFIX", "IPv6 hosts to translate; any number of times", parse_allowed,
	  .append = append_allowed, .in_file = true, .need = NEEDED_WITHOUT_STATIC,
	  .missing = "nothing would be translated" },
	{ 's', "static", "V6=V4", "static mapping; any number of times", parse_static, .append = append_static,
	  .in_file = true },
	{ 't', "timeout", "SECONDS", "an idle mapping expires after this (default 7440)", parse_timeout, FIELD(timeout),
	  .in_file = true },
	{ 0, "reuse-idle", "SECONDS", "the same while all addresses are in use", parse_timeout, FIELD(reuse_idle),
	  .in_file = true },
	{ 0, "per-prefix", "LENGTH=N", "at most N mappings per IPv6 prefix of LENGTH", parse_per_prefix,
	  FIELD(per_prefix), .in_file = true },
	{ 0, "icmp-src", "ADDRESS", "source of errors of unmapped routers (192.0.0.8)", parse_icmp_src, FIELD(icmp_src),
	  .in_file = true },
	{ 0, "icmp-rate", "N", "its own ICMP errors per second (default 100)", parse_rate, FIELD(icmp_rate),
	  .in_file = true },
	{ 0, "lowest-ipv6-mtu", "BYTES", "fragment DF=0 packets to this (default 1280)", parse_mtu,
	  FIELD(lowest_ipv6_mtu), .in_file = true },
	{ 0, "wkp-strict", NULL, "only global IPv4 addresses behind 64:ff9b::/96", NULL, FIELD(wkp_strict),
	  .in_file = true },
	{ 0, "tos", "N", "set the TOS instead of copying the traffic class", parse_octet, FIELD(tos), .in_file = true },
	{ 0, "tclass", "N", "set the traffic class instead of copying the TOS", parse_octet, FIELD(tclass),
	  .in_file = true },
	{ 0, "fast", NULL, "bypass netfilter and the IPv4 stack if possible", NULL, FIELD(fast), .in_file = true },
	{ 0, "xdp", "=MODE", "in the network driver, for many small packets", parse_xdp, FIELD(xdp), .in_file = true },
	{ 0, "dry-run", NULL, "check whether it would load; change nothing", NULL, FIELD(dry_run) },
	{ 'c', "config", "FILE", "read options from a file, one a line", parse_path, TEXT(config) },
	{ 0, "restore", "FILE", "bring back the mappings that --save wrote", parse_path, TEXT(restore) },
	{ 'u', "unload", NULL, "unload the translator of the interface", .action = ACTION_UNLOAD },
	{ 0, "status", NULL, "what is loaded, whether it works, counters", .action = ACTION_STATUS },
	{ 0, "mappings", NULL, "list the mappings", .action = ACTION_MAPPINGS },
	{ 0, "monitor", NULL, "print changes of mappings as they happen", .action = ACTION_MONITOR },
	{ 0, "snapshot", NULL, "with --monitor --json: all mappings, then changes", NULL, FIELD(snapshot) },
	{ 0, "refresh", "SECONDS", "with --snapshot: report active hosts (default 60)", parse_timeout, FIELD(refresh) },
	{ 0, "trace", "[FILTER]", "print packets as they come and leave, or why not", parse_filter, FIELD(filter),
	  .action = ACTION_TRACE },
	{ 0, "check", NULL, "can this machine run it, with these options?", .action = ACTION_CHECK },
	{ 0, "json", NULL, "print JSON instead of text", NULL, FIELD(json) },
	{ 0, "metrics", NULL, "print --status for Prometheus", NULL, FIELD(metrics) },
	{ 0, "save", "FILE", "write the mappings to a file", parse_path, TEXT(save), .action = ACTION_SAVE },
	{ 0, "mirror", "FILE", "copy the mappings of another gateway; - is stdin", parse_path, TEXT(mirror),
	  .action = ACTION_MIRROR },
	{ 0, "delete", "ADDRESS", "remove the dynamic mapping of an address", parse_address, FIELD(delete),
	  .action = ACTION_DELETE },
	{ 0, "flush", NULL, "remove all dynamic mappings", .action = ACTION_FLUSH },
	{ 'v', "verbose", NULL, "say what is done", NULL, FIELD(verbose) },
	{ 'h', "help", NULL, "print this", NULL, FIELD(help) },
	{ 'V', "version", NULL, "print the version", NULL, FIELD(version) },
	{ 0 }
};

static const struct options DEFAULTS = {
	.v6_prefix = { { .b = { 0x00, 0x64, 0xff, 0x9b } }, 96 },
	.timeout = 7440,
	.lowest_ipv6_mtu = 1280,
	.icmp_rate = 100,
	.refresh = 60,
};

static void help(void)
{
	puts("Usage: nat64 -i IF... -4 PREFIX -a PREFIX [OPTION]... load or reconfigure\n"
	     "       nat64 --device NAME -4 PREFIX -a PREFIX ...  for what is routed to it\n"
	     "       nat64 -i IF -u                               unload\n"
	     "       nat64 [-i IF] --status [--json|--metrics]    does it work?\n"
	     "       nat64 [-i IF] --mappings [--json]            who has which address?\n"
	     "       nat64 [-i IF] --monitor [--json]             follow mappings\n"
	     "       nat64 [-i IF] --trace [FILTER] [--json]      follow packets\n"
	     "       nat64 --check [-i IF...] [OPTION]... [--json] can it run here?\n"
	     "       nat64 -i IF --delete ADDRESS|--flush         remove mappings\n"
	     "       nat64 -i IF --save FILE|--restore FILE       mappings in a file\n"
	     "       nat64 -i IF --mirror FILE                    more than one gateway\n"
	     "\n"
	     "IPv6 hosts behind interface IF reach IPv4 hosts through the NAT64 prefix.\n");
	options_help(OPTIONS);
}

/* Exit status of what has only to write something */
static int written(void)
{
	int err = out_error(stdout);

	return err ? msg_fail(err, "cannot write: %s", strerror(-err)), EXIT_FAILURE : EXIT_SUCCESS;
}

/* Between the first change and the last, nothing but SIGKILL stops us half way. */
static void hold_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
}

/* What --fast and --xdp left on other interfaces when their own was removed. Is there nothing more to be said? */
static bool clean(struct nl *nl, const struct options *o, int *ret)
{
	bool found;

	*ret = setup_clean(nl, &found) ? EXIT_FAILURE : EXIT_SUCCESS;
	if (found && *ret == EXIT_SUCCESS)
		msg_note("-i %s: no such interface; removed what was left elsewhere for one that is gone",
			 o->interface.s);
	return found;
}

static int act(struct nl *nl, const struct link *link, const struct options *o)
{
	switch (o->action) {
	case ACTION_LOAD:
		return setup_load(nl, link, NULL, 0, o);
	case ACTION_UNLOAD:
		return setup_unload(nl, link);
	case ACTION_STATUS:
		return status_show(nl, link, o);
	case ACTION_MAPPINGS:
		return mappings_show(nl, link, o);
	case ACTION_DELETE:
		return mappings_delete(nl, link, o);
	case ACTION_FLUSH:
		return mappings_flush(nl, link);
	case ACTION_SAVE:
		return mappings_save(nl, link, o);
	case ACTION_RESTORE:
		return mappings_restore(nl, link, o);
	case ACTION_MONITOR:
	case ACTION_TRACE:
		return follow(nl, link, o);
	case ACTION_MIRROR:
		return mirror(nl, link, o);
	case ACTION_CHECK:
		return survey_show(nl, link, NULL, 0, o);
	}
	return -EINVAL;
}

#define DEVICE_NAME "nat64" /* where nobody has given one */
#define DEVICES	    100

/* The links of what it is to be loaded on. */
struct places {
	struct link device;
	bool make; /* it is not there yet */
	struct link *ports;
	size_t n_ports;
	const char **missing; /* names of ports */
	size_t n_missing;
};

/* Is the interface one for -i? 0, or -EINVAL after having said why not. */
static int check_port(const struct link *link, const char *name)
{
	if (link->flags & IFF_LOOPBACK)
		return msg_fail(-EINVAL, "-i %s: is loopback, where no IPv6 hosts are", name);
	return 0;
}

static bool is_port(const struct places *p, unsigned int index)
{
	for (size_t i = 0; i < p->n_ports; i++)
		if (p->ports[i].index == index)
			return true;
	return false;
}

/* All -i that are there: interfaces come and go, and the others have to work on. Returns the exit status. */
static int find_ports(struct nl *nl, const struct options *o, struct places *p)
{
	bool ethernet = false;

	p->ports = calloc(o->n_ports, sizeof(*p->ports));
	p->missing = calloc(o->n_ports, sizeof(*p->missing));
	if (!p->ports || !p->missing)
		return msg_fail(-ENOMEM, "%s", strerror(ENOMEM)), EXIT_FAILURE;
	for (size_t i = 0; i < o->n_ports; i++) {
		const char *name = o->ports[i].s;
		struct link *link = &p->ports[p->n_ports];
		int err = link_find(nl, name, link);

		if (err == -ENODEV) {
			p->missing[p->n_missing++] = name;
			continue;
		}
		if (err)
			return msg_fail(err, "-i %s: %s", name, nl_error(nl, err)), EXIT_FAILURE;
		if (check_port(link, name))
			return EXIT_USAGE;
		if (link->own)
			return msg_fail(-EINVAL, "-i %s: is nat64's own device", name), EXIT_USAGE;
		p->n_ports += !is_port(p, link->index);
		ethernet |= !link->l3;
	}
	if (!p->n_ports && !*o->device)
		return msg_fail(-ENODEV, "-i %s: no such interface, and none of the others", o->ports[0].s), EXIT_USAGE;
	if ((o->fast || o->xdp) && !ethernet)
		return msg_fail(-EINVAL, "--%s: none of -i is an Ethernet interface", o->fast ? "fast" : "xdp"),
		       EXIT_USAGE;
	return EXIT_SUCCESS;
}

/* The device that several -i share: that of the translator that one of them is a port of, or a name for a new one. 0 with the
 * device, -ENODEV with the name, or another negative errno; nothing is said. -EEXIST: there are too many. */
static int find_shared(struct nl *nl, struct places *p, char name[IF_NAMESIZE])
{
	int err = -ENOENT;

	for (size_t i = 0; err == -ENOENT && i < p->n_ports; i++)
		err = translator_home(nl, &p->ports[i], &p->device);
	if (err != -ENOENT)
		return err;
	for (unsigned int i = 1; i < DEVICES; i++) {
		snprintf(name, IF_NAMESIZE, i == 1 ? DEVICE_NAME : DEVICE_NAME "-%u", i);
		err = link_find(nl, name, &p->device);
		if (err)
			return err;
	}
	return -EEXIST;
}

/* The device: that of --device, or one for several -i. Returns the exit status. */
static int find_device(struct nl *nl, const struct options *o, struct places *p)
{
	char name[IF_NAMESIZE] = "";
	struct reason why = { "" };
	int err;

	memcpy(name, o->device, sizeof(name));
	err = *name ? link_find(nl, name, &p->device) : find_shared(nl, p, name);
	if (err && err != -ENODEV)
		return msg_fail(err, "cannot look for the device%s%s: %s", *name ? " " : "", name, nl_error(nl, err)),
		       EXIT_FAILURE;
	p->make = err;
	if (!p->make && !p->device.own)
		return msg_fail(-EEXIST, "--device %s: there is another interface of that name", name), EXIT_FAILURE;
	if (p->make && o->dry_run)
		p->device = device_planned(name);
	else if (p->make && device_make(nl, name, &p->device, &why))
		return msg_fail(-EIO, "--device %s: %s", name, why.text), EXIT_FAILURE;
	return EXIT_SUCCESS;
}

/* Loads a translator with a device of its own, and takes the device away again if that fails; or looks whether it could be.
 * Returns the exit status. */
static int load(struct nl *nl, const struct options *o)
{
	struct places p = { 0 };
	int ret = o->n_ports ? find_ports(nl, o, &p) : EXIT_SUCCESS;

	hold_signals();
	if (ret == EXIT_SUCCESS)
		ret = find_device(nl, o, &p);
	if (ret == EXIT_SUCCESS && o->action == ACTION_CHECK)
		ret = survey_show(nl, &p.device, p.ports, p.n_ports, o) ? EXIT_FAILURE : EXIT_SUCCESS;
	else if (ret == EXIT_SUCCESS && setup_load(nl, &p.device, p.ports, p.n_ports, o)) {
		ret = EXIT_FAILURE;
		if (p.make && !o->dry_run && device_del(nl, &p.device))
			msg_warn("cannot undo: device %s", p.device.name);
	}
	for (size_t i = 0; ret == EXIT_SUCCESS && i < p.n_missing; i++)
		msg_warn("-i %s: no such interface; run nat64 again when it is there", p.missing[i]);
	free(p.ports);
	free(p.missing);
	return ret;
}

static int run(struct nl *nl, const struct options *o)
{
	const char *name = *o->interface.s || !o->n_ports ? o->interface.s : o->ports[0].s;
	bool for_setup = o->action == ACTION_LOAD || o->action == ACTION_CHECK;
	struct link link;
	int err, ret;

	err = nl_open(nl, NETLINK_ROUTE);
	if (err)
		return msg_fail(err, "cannot talk to the kernel: %s", strerror(-err)), EXIT_FAILURE;
	if (options_for_all(o->action) && !*name)
		return act(nl, NULL, o) ? EXIT_FAILURE : EXIT_SUCCESS;
	if (for_setup && (*o->device || o->n_ports))
		return load(nl, o);
	err = link_find(nl, name, &link);
	for (size_t i = 1; err == -ENODEV && !*o->device && i < o->n_ports; i++)
		err = link_find(nl, o->ports[i].s, &link);
	if (err == -ENODEV && o->action == ACTION_UNLOAD && clean(nl, o, &ret))
		return ret;
	if (err == -ENODEV)
		return msg_fail(err, "-i %s: no such interface", name), EXIT_USAGE;
	if (err)
		return msg_fail(err, "-i %s: %s", name, nl_error(nl, err)), EXIT_FAILURE;
	if (for_setup && check_port(&link, name))
		return EXIT_USAGE;
	if (for_setup && (o->fast || o->xdp) && (link.l3 || link.own))
		return msg_fail(-EINVAL, "--%s: not on -i %s, which is %s", o->fast ? "fast" : "xdp", name,
				link.own ? "nat64's own device" : "no Ethernet interface"),
		       EXIT_USAGE;
	if (!options_for_all(o->action) && o->action != ACTION_MIRROR)
		hold_signals();
	return act(nl, &link, o) ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct options options = DEFAULTS;
	struct nl nl = { 0 };
	int ret;

	libbpf_set_print(NULL);			  /* what fails, we say */
	options.icmp_src = be32_from(0xc0000008); /* 192.0.0.8, RFC 7600 */
	if (options_parse(OPTIONS, argc, argv, &options)) {
		ret = EXIT_USAGE;
	} else if (options.help) {
		help();
		ret = written();
	} else if (options.version) {
		puts("nat64 " NAT64_VERSION);
		ret = written();
	} else {
		msg_verbose = options.verbose;
		ret = run(&nl, &options);
	}
	nl_close(&nl);
	options_free(&options);
	return ret;
}
