/* SPDX-License-Identifier: GPL-2.0-or-later */
/* filter.h - which packets --trace is about: an expression as tcpdump has it, pcap-filter(7)
 *
 * A packet has addresses of both families: as it came, and as it left or would have left. A primitive matches if it matches
 * either of them. */
#ifndef NAT64_FILTER_H
#define NAT64_FILTER_H

#include "addr.h"

#define FILTER_NODES 64

enum filter_op {
	FILTER_ALL,
	FILTER_AND,
	FILTER_OR,
	FILTER_NOT,
	FILTER_ADDRESS,
	FILTER_PROTOCOL,
	FILTER_PORT,
	FILTER_FAMILY,
	FILTER_WAY,
};

enum filter_side {
	FILTER_SRC = 1,
	FILTER_DST = 2,
	FILTER_EITHER = FILTER_SRC | FILTER_DST,
	FILTER_BOTH = 4,
};

struct filter_node {
	__u8 op;
	__u8 side;  /* of an address or port */
	__u8 a, b;  /* operands */
	__u16 from; /* protocol, first port, family (4 or 6), way (enum nat64_way) */
	__u16 to;   /* last port */
	struct prefix4 v4;
	struct prefix6 v6; /* if .is_v6, else .v4 */
	bool is_v6;
};

struct filter {
	struct nat64_filter coarse; /* what BPF lets pass: all that is wanted, and little more */
	struct filter_node node[FILTER_NODES];
	__u8 n;
	__u8 root;
};

/* Reads an expression into a struct filter, as an option's .parse (options.h). 0, or -EINVAL with the reason. */
int parse_filter(const char *arg, void *value, struct reason *why);

/* What is known of a packet */
struct filter_packet {
	const struct nat64_trace *trace;
	__u8 proto;
	bool has_ports;
	__u16 sport, dport;
};

bool filter_matches(const struct filter *f, const struct filter_packet *p);

#endif
