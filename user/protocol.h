/* SPDX-License-Identifier: GPL-2.0-or-later */
/* protocol.h - transport protocols by number and name */
#ifndef NAT64_PROTOCOL_H
#define NAT64_PROTOCOL_H

#include <linux/types.h>
#include <stdbool.h>

struct protocol {
	const char *name; /* NULL: not one that has a name here */
	__u8 number;
	bool has_ports;
};

/* Never NULL. */
const struct protocol *protocol_by_number(__u8 number);
const struct protocol *protocol_by_name(const char *name);

/* The protocol, with ICMP for ICMPv6 */
__u8 common_protocol(__u8 proto);

#endif
