/* SPDX-License-Identifier: GPL-2.0-or-later */
/* view.h - parses the beginning of a packet that --trace has copied */
#ifndef NAT64_VIEW_H
#define NAT64_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>
#include <netinet/in.h>

/* What there is to say of a packet, or of the beginning of one */
struct view {
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN];
	const __u8 *dst_bytes;
	__u8 proto;
	__u32 length;  /* of the IP packet, */
	__u32 payload; /* and without IP and extension headers */
	bool has_ports;
	__u16 sport, dport;
	char tcp_flags[9]; /* as tcpdump writes them */
	bool has_icmp;
	__u8 icmp_type, icmp_code;
	__u16 icmp_id;	 /* of an echo */
	size_t quote_at; /* of an error: where the packet is that it is about */
	bool frag, more;
	__u32 frag_id, frag_off;
};

/* Reads the n bytes at b, which *v goes on using. False: that is not even an IP header. */
bool view(struct view *v, const __u8 *b, size_t n);

#endif
