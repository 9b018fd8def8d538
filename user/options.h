/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options.h - the command line: a table of options, and what they come to */
#ifndef NAT64_OPTIONS_H
#define NAT64_OPTIONS_H

#include <net/if.h>
#include <stddef.h>

#include "addr.h"
#include "filter.h"
#include "save.h"
#include "static.h"

/* A TOS or traffic class to be written instead of the one that came */
struct octet {
	__u8 set;
	__u8 value;
};

/* How many mappings each IPv6 prefix of a length may have; .limit 0: not given */
struct per_prefix {
	__u32 len;
	__u32 limit;
};

/* An address of either family */
struct address {
	bool is_v6;
	union nat64_v6 v6;
	__be32 v4;
};

/* What to do */
enum action {
	ACTION_LOAD,
	ACTION_UNLOAD,
	ACTION_STATUS,
	ACTION_MAPPINGS,
	ACTION_DELETE,
	ACTION_FLUSH,
	ACTION_SAVE,
	ACTION_RESTORE,
	ACTION_MONITOR,
	ACTION_TRACE,
	ACTION_MIRROR,
	ACTION_CHECK,
};

/* The name of an interface: alternative names are longer than IFNAMSIZ (ALTIFNAMSIZ). */
struct ifname {
	char s[128];
};

struct options {
	enum action action;
	struct ifname interface; /* what it is about; empty: all translators, or .ports */
	struct ifname *ports;	 /* all -i, if they are of a device of nat64's own */
	size_t n_ports;
	char device[IF_NAMESIZE]; /* of nat64's own; then .interface is it */
	struct prefix4 v4_prefix;
	struct prefix4 give_out; /* of .v4_prefix; .len 0: not given */
	struct prefix6 v6_prefix;
	struct prefix6 *allowed;
	size_t n_allowed;
	__u32 timeout;	  /* seconds */
	__u32 reuse_idle; /* seconds; 0: not given */
	struct per_prefix per_prefix;
	__be32 icmp_src;
	__u32 lowest_ipv6_mtu;
	__u32 icmp_rate; /* a second and CPU */
	struct octet tos;
	struct octet tclass;
	bool wkp_strict;
	bool fast;
	__u8 xdp;		/* enum nat64_xdp */
	struct statics statics; /* sorted by IPv4 address */
	struct address delete;
	struct filter filter; /* of what to trace */
	const char *config;
	const char *save;
	const char *restore;
	const char *mirror;
	struct saved saved; /* what is in that file */
	__u32 line;	    /* of the configuration file, while that is read */
	bool dry_run;
	bool json;
	bool snapshot;
	__u32 refresh; /* seconds */
	bool metrics;
	bool verbose;
	bool help;
	bool version;
};

enum need {
	OPTIONAL,
	NEEDED_WITHOUT_STATIC, /* to load, unless there are static mappings */
	NEEDED,		       /* unless all translators are meant */
};

/* One option: parsing, the check for what is missing, --help and the completion all come from this. */
struct option_spec {
	char letter; /* 0: has none */
	const char *name;
	const char *arg; /* what --help calls its argument; NULL: takes none; in brackets: words that need not be there;
		       * with a =: a value that need not be there, which comes to "" then */
	const char *help;
	/* Reads arg into *value, which is zero and as large as the field. NULL for a flag (bool). */
	int (*parse)(const char *arg, void *value, struct reason *why);
	size_t offset; /* of the field in struct options */
	size_t size;
	bool is_text;	    /* the field points to what was given */
	enum action action; /* what giving it asks for; ACTION_LOAD: nothing of its own */
	bool in_file;	    /* a configuration file may have it */
	/* For an option that can be given many times: takes a value over. Otherwise the field is simply set. */
	int (*append)(struct options *o, const void *value);
	enum need need;
	const char *missing; /* what to say if it is needed and not there */
};

/* Values as the options want them, for .parse and .append */
int parse_interface(const char *arg, void *value, struct reason *why);
int append_interface(struct options *o, const void *value);
int parse_device(const char *arg, void *value, struct reason *why);
int parse_pool(const char *arg, void *value, struct reason *why);
int parse_give_out(const char *arg, void *value, struct reason *why);
int parse_nat64_prefix(const char *arg, void *value, struct reason *why);
int parse_allowed(const char *arg, void *value, struct reason *why);
int append_allowed(struct options *o, const void *value);
int parse_timeout(const char *arg, void *value, struct reason *why);
int parse_per_prefix(const char *arg, void *value, struct reason *why);
int parse_icmp_src(const char *arg, void *value, struct reason *why);
int parse_mtu(const char *arg, void *value, struct reason *why);
int parse_rate(const char *arg, void *value, struct reason *why);
int parse_xdp(const char *arg, void *value, struct reason *why);
int parse_octet(const char *arg, void *value, struct reason *why);
int parse_static(const char *arg, void *value, struct reason *why);
int append_static(struct options *o, const void *value);
int parse_address(const char *arg, void *value, struct reason *why);
int parse_path(const char *arg, void *value, struct reason *why);

/* Reads the command line, and the configuration file that it may name, into *o, which holds the defaults. The table ends
 * with an entry without name. Stops at -h and -V. Returns 0, or a negative errno after having said what is wrong.
 * options_free() in either case. */
int options_parse(const struct option_spec *table, int argc, char **argv, struct options *o);
void options_free(struct options *o);

/* Is it about all translators if no interface is named? These look, and change nothing. */
bool options_for_all(enum action action);

/* The list of options on stdout, a line each. */
void options_help(const struct option_spec *table);

/* The configuration that the options ask for, but for what depends on the interface. */
void options_config(const struct options *o, struct nat64_config *cfg);

/* Does this gateway give out a part of the pool only? */
bool options_gives_out(const struct options *o);

/* Is there a pool? Without -4 all mappings are static. */
bool options_has_pool(const struct options *o);

/* Addresses of the pool that are given out: not its network and broadcast address, unless it is a /31. */
__u32 options_pool_size(const struct options *o);

#endif
