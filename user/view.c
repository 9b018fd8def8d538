// SPDX-License-Identifier: GPL-2.0-or-later
/* view.c - parses the beginning of a packet that --trace has copied */
#include <arpa/inet.h>
#include <string.h>

#include "protocol.h"
#include "view.h"

#define TCP_FLAGS 13 /* where they are */

static __u16 get16(const __u8 *b)
{
	return b[0] << 8 | b[1];
}

static void view_flags(struct view *v, __u8 flags)
{
	char *to = v->tcp_flags;

	for (int i = 0; i < 8; i++)
		if (flags >> i & 1)
			*to++ = "FSRP.UEW"[i];
	if (!flags)
		strcpy(v->tcp_flags, "none");
}

static void view_transport(struct view *v, const __u8 *packet, size_t at, size_t n)
{
	const __u8 *b = packet + at;

	n -= at;
	if (v->frag_off)
		return;
	if (protocol_by_number(v->proto)->has_ports && n >= 4) {
		v->has_ports = true;
		v->sport = get16(b);
		v->dport = get16(b + 2);
		if (v->proto == IPPROTO_TCP && n > TCP_FLAGS)
			view_flags(v, b[TCP_FLAGS]);
	} else if ((v->proto == IPPROTO_ICMP || v->proto == IPPROTO_ICMPV6) && n >= 2) {
		v->has_icmp = true;
		v->icmp_type = b[0];
		v->icmp_code = b[1];
		v->icmp_id = n >= 8 ? get16(b + 4) : 0;
		v->quote_at = at + 8;
	}
}

static bool view4(struct view *v, const __u8 *b, size_t n)
{
	size_t header;

	if (n < 20)
		return false;
	header = (b[0] & 0xf) * 4U;
	inet_ntop(AF_INET, b + 12, v->src, sizeof(v->src));
	inet_ntop(AF_INET, b + 16, v->dst, sizeof(v->dst));
	v->dst_bytes = b + 16;
	v->proto = b[9];
	v->length = get16(b + 2);
	v->payload = v->length > header ? v->length - header : 0;
	v->frag_id = get16(b + 4);
	v->frag_off = (get16(b + 6) & 0x1fff) * 8;
	v->more = b[6] & 0x20;
	v->frag = v->frag_off || v->more;
	if (header >= 20 && header < n)
		view_transport(v, b, header, n);
	return true;
}

/* A fragment header, and where what follows it is */
static size_t view_fragment(struct view *v, const __u8 *b)
{
	v->frag_off = get16(b + 2) & 0xfff8;
	v->more = b[3] & 1;
	v->frag = v->frag_off || v->more;
	v->frag_id = (__u32)get16(b + 4) << 16 | get16(b + 6);
	return 8;
}

static bool is_extension(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS ||
	       proto == IPPROTO_FRAGMENT;
}

static bool view6(struct view *v, const __u8 *b, size_t n)
{
	size_t at = 40;

	if (n < 40)
		return false;
	inet_ntop(AF_INET6, b + 8, v->src, sizeof(v->src));
	inet_ntop(AF_INET6, b + 24, v->dst, sizeof(v->dst));
	v->dst_bytes = b + 24;
	v->proto = b[6];
	v->length = 40 + get16(b + 4);
	while (at + 8 <= n && is_extension(v->proto) && !v->frag_off) {
		size_t len = v->proto == IPPROTO_FRAGMENT ? view_fragment(v, b + at) : (b[at + 1] + 1U) * 8;

		v->proto = b[at];
		at += len;
	}
	v->payload = v->length > at ? v->length - at : 0;
	if (at < n)
		view_transport(v, b, at, n);
	return true;
}

bool view(struct view *v, const __u8 *b, size_t n)
{
	*v = (struct view){ 0 };
	return n && (b[0] >> 4 == 4 ? view4(v, b, n) : view6(v, b, n));
}
