// SPDX-License-Identifier: GPL-2.0-or-later
/* protocol.c - transport protocols by number and name */
#include <netinet/in.h>
#include <string.h>

#include "protocol.h"

#define UDPLITE 136
#define DCCP	33
#define SCTP	132

static const struct protocol PROTOCOLS[] = {
	{ "tcp", IPPROTO_TCP, true },	    { "udp", IPPROTO_UDP, true },    { "icmp", IPPROTO_ICMP, false },
	{ "icmp6", IPPROTO_ICMPV6, false }, { "sctp", SCTP, true },	     { "dccp", DCCP, true },
	{ "udplite", UDPLITE, true },	    { "gre", IPPROTO_GRE, false },   { "esp", IPPROTO_ESP, false },
	{ "ah", IPPROTO_AH, false },	    { "ipip", IPPROTO_IPIP, false }, { NULL, 0, false },
};

const struct protocol *protocol_by_number(__u8 number)
{
	const struct protocol *p = PROTOCOLS;

	while (p->name && p->number != number)
		p++;
	return p;
}

const struct protocol *protocol_by_name(const char *name)
{
	const struct protocol *p = PROTOCOLS;

	while (p->name && strcmp(p->name, name))
		p++;
	return p;
}

__u8 common_protocol(__u8 proto)
{
	return proto == IPPROTO_ICMPV6 ? IPPROTO_ICMP : proto;
}
