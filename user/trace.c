// SPDX-License-Identifier: GPL-2.0-or-later
/* trace.c - what becomes of packets, a line each; and the filter that chooses them */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "follow.h"

#define UDPLITE 136
#define DCCP	33
#define SCTP	132

static const struct protocol {
	const char *name;
	__u8 number;
	bool ports;
} PROTOCOLS[] = {
	{ "tcp", IPPROTO_TCP, true },	    { "udp", IPPROTO_UDP, true },    { "icmp", IPPROTO_ICMP, false },
	{ "icmp6", IPPROTO_ICMPV6, false }, { "sctp", SCTP, true },	     { "dccp", DCCP, true },
	{ "udplite", UDPLITE, true },	    { "gre", IPPROTO_GRE, false },   { "esp", IPPROTO_ESP, false },
	{ "ah", IPPROTO_AH, false },	    { "ipip", IPPROTO_IPIP, false }, { NULL, 0, false },
};

static const char *const DROPS[] = {
#define X(id, name, text) name,
	NAT64_DROPS(X)
#undef X
};

static const char *const WAYS[NAT64_WAYS] = { [NAT64_6TO4] = "6to4", [NAT64_4TO6] = "4to6" };

/* What there is to say of a packet, or of the beginning of one */
struct view {
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN];
	__u8 proto;
	__u32 length;  /* of the IP packet, */
	__u32 payload; /* and without IP and extension headers */
	bool has_ports;
	__u16 sport, dport;
	bool has_icmp;
	__u8 icmp_type, icmp_code;
	bool frag, more;
	__u32 frag_id, frag_off;
};

static __u16 get16(const __u8 *b)
{
	return b[0] << 8 | b[1];
}

static const struct protocol *protocol_of(__u8 number)
{
	const struct protocol *p = PROTOCOLS;

	while (p->name && p->number != number)
		p++;
	return p;
}

static void view_transport(struct view *v, const __u8 *b, size_t n)
{
	if (v->frag_off)
		return;
	if (protocol_of(v->proto)->ports && n >= 4) {
		v->has_ports = true;
		v->sport = get16(b);
		v->dport = get16(b + 2);
	} else if ((v->proto == IPPROTO_ICMP || v->proto == IPPROTO_ICMPV6) && n >= 2) {
		v->has_icmp = true;
		v->icmp_type = b[0];
		v->icmp_code = b[1];
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
	v->proto = b[9];
	v->length = get16(b + 2);
	v->payload = v->length > header ? v->length - header : 0;
	v->frag_id = get16(b + 4);
	v->frag_off = (get16(b + 6) & 0x1fff) * 8;
	v->more = b[6] & 0x20;
	v->frag = v->frag_off || v->more;
	if (header >= 20 && header < n)
		view_transport(v, b + header, n - header);
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
	v->proto = b[6];
	v->length = 40 + get16(b + 4);
	while (at + 8 <= n && is_extension(v->proto) && !v->frag_off) {
		size_t len = v->proto == IPPROTO_FRAGMENT ? view_fragment(v, b + at) : (b[at + 1] + 1U) * 8;

		v->proto = b[at];
		at += len;
	}
	v->payload = v->length > at ? v->length - at : 0;
	if (at < n)
		view_transport(v, b + at, n - at);
	return true;
}

static bool view(struct view *v, const __u8 *b, size_t n)
{
	*v = (struct view){ 0 };
	return n && (b[0] >> 4 == 4 ? view4(v, b, n) : view6(v, b, n));
}

static struct prefix_text host_text(const struct nat64_trace *t, bool v6)
{
	return v6 ? text6((struct prefix6){ t->host6, 128 }) : text4((struct prefix4){ t->host4, 32 });
}

static bool is_known6(const struct nat64_trace *t)
{
	static const union nat64_v6 none;

	return memcmp(&t->host6, &none, sizeof(none));
}

static void print_port(struct out *o, const char *key, const struct view *v, __u16 port)
{
	if (v->has_ports)
		out_uint(o, key, ".%llu", port);
}

static void print_protocol(struct out *o, const struct view *v)
{
	const struct protocol *p = protocol_of(v->proto);
	char number[16];

	snprintf(number, sizeof(number), "%u", v->proto);
	out_text(o, ": %s", p->name ? "" : "protocol ");
	out_string(o, "protocol", "%s", p->name ? p->name : number);
	if (v->has_icmp) {
		out_uint(o, "icmp_type", " type %llu", v->icmp_type);
		out_uint(o, "icmp_code", " code %llu", v->icmp_code);
	}
}

static void print_fragment(struct out *o, const struct view *v)
{
	if (!v->frag)
		return;
	out_object(o, "fragment");
	out_uint(o, "id", ", fragment %llu", v->frag_id);
	out_uint(o, "offset", " at %llu", v->frag_off);
	out_bool(o, "more", v->more);
	out_text(o, "%s", v->more ? "+" : "");
	out_close(o);
}

/* pieces: instead of a length; 0: it is one packet. segments: it is a super-packet of so many. */
static void print_packet(struct out *o, const char *key, const struct view *v, unsigned int pieces,
			 unsigned int segments)
{
	out_object(o, key);
	out_string(o, "src", "%s", v->src);
	print_port(o, "src_port", v, v->sport);
	out_string(o, "dst", " > %s", v->dst);
	print_port(o, "dst_port", v, v->dport);
	print_protocol(o, v);
	if (pieces) {
		out_uint(o, "pieces", ", in %llu pieces", pieces);
	} else {
		print_fragment(o, v);
		out_uint(o, "length", ", length %llu", v->length);
	}
	if (segments > 1)
		out_uint(o, "segments", ", %llu segments", segments);
	out_close(o);
}

/* Of a packet that was cut, what left last has neither ports nor ICMP type; they were not changed. */
static unsigned int count_pieces(const struct nat64_trace *t, const struct view *in, struct view *out)
{
	if (!t->cut)
		return 0;
	out->has_ports = in->has_ports;
	out->sport = in->sport;
	out->dport = in->dport;
	return (in->payload + t->cut - 1) / t->cut;
}

/* The mapping that the packet is about, as far as there is one or was one */
static void print_host(struct out *o, const struct nat64_trace *t)
{
	bool known6 = is_known6(t), dropped = t->verdict != NAT64_PASS;

	out_object(o, "host");
	if (known6)
		out_string(o, "v6", dropped && t->way == NAT64_4TO6 ? ", host %s" : NULL, host_text(t, true).s);
	else
		out_null(o, "v6");
	if (t->host4)
		out_string(o, "v4", dropped && t->way == NAT64_6TO4 ? ", host %s" : NULL, host_text(t, false).s);
	else
		out_null(o, "v4");
	out_close(o);
}

void trace_print(struct out *o, const char *interface, const struct nat64_trace *t)
{
	bool dropped = t->verdict >= 0 && t->verdict < NAT64_DROP_MAX;
	unsigned int pieces;
	struct view in, out;

	if (t->way >= NAT64_WAYS || !view(&in, t->in, t->in_len))
		return;
	follow_head(o, t->time, interface);
	out_string(o, "direction", "%s ", WAYS[t->way]);
	print_packet(o, "in", &in, 0, t->segments);
	out_string(o, "verdict", NULL, !dropped ? "translated" : t->answered ? "answered" : "dropped");
	if (dropped)
		out_string(o, "reason", ": dropped, %s", DROPS[t->verdict]);
	else
		out_null(o, "reason");
	print_host(o, t);
	if (view(&out, t->out, t->out_len)) {
		out_text(o, "%s", dropped ? "; answer " : " => ");
		pieces = count_pieces(t, &in, &out);
		print_packet(o, "out", &out, pieces, 0);
	} else {
		out_null(o, "out");
	}
	out_text(o, "\n");
}

bool trace_is_wanted(const struct nat64_trace *t, const struct nat64_filter *f)
{
	__u16 port = ntohs((FORCE __u16)f->port);
	struct view v;

	/* The addresses have been compared. */
	if (!view(&v, t->in, t->in_len))
		return false;
	if (f->proto && f->proto != (v.proto == IPPROTO_ICMPV6 ? IPPROTO_ICMP : v.proto))
		return false;
	return !port || (v.has_ports && (v.sport == port || v.dport == port));
}

static int filter_address(const char *word, struct nat64_filter *f, struct reason *why)
{
	char text[PREFIX_STRLEN + 8];
	struct prefix4 p4;
	struct prefix6 p6;

	if (f->family)
		return reason(why, -EINVAL, "%s: one address or prefix is enough", word);
	if (strlen(word) >= sizeof(text) - 4)
		return reason(why, -EINVAL, "not an address");
	if (strchr(word, ':')) {
		snprintf(text, sizeof(text), "%s%s", word, strchr(word, '/') ? "" : "/128");
		if (parse_prefix6(text, &p6, why) || check_network6(&p6, why))
			return -EINVAL;
		f->family = 6;
		f->v6 = p6.addr;
		for (__u32 i = 0; i < p6.len; i++)
			f->v6_mask.b[i / 8] |= 0x80 >> i % 8;
		return 0;
	}
	snprintf(text, sizeof(text), "%s%s", word, strchr(word, '/') ? "" : "/32");
	if (parse_prefix4(text, &p4, why) || check_network4(&p4, why))
		return -EINVAL;
	f->family = 4;
	f->v4 = p4.addr;
	f->v4_mask = prefix4_mask(p4.len);
	return 0;
}

static int filter_protocol(const struct protocol *p, struct nat64_filter *f, struct reason *why)
{
	if (f->proto)
		return reason(why, -EINVAL, "%s: one protocol is enough", p->name);
	f->proto = p->number == IPPROTO_ICMPV6 ? IPPROTO_ICMP : p->number;
	return 0;
}

static int filter_port(const char *word, struct nat64_filter *f, struct reason *why)
{
	__u32 port;

	if (!word)
		return reason(why, -EINVAL, "port: which?");
	if (f->port)
		return reason(why, -EINVAL, "port %s: one port is enough", word);
	if (parse_number(word, 1, 65535, &port, why))
		return -EINVAL;
	f->port = (FORCE __be16)htons(port);
	return 0;
}

static int filter_word(const char *word, char **rest, struct nat64_filter *f, struct reason *why)
{
	const struct protocol *p = PROTOCOLS;

	if (!strcmp(word, "host") || !strcmp(word, "net") || !strcmp(word, "and"))
		return 0;
	if (!strcmp(word, "port"))
		return filter_port(strtok_r(NULL, " \t", rest), f, why);
	while (p->name && strcmp(p->name, word))
		p++;
	if (p->name)
		return filter_protocol(p, f, why);
	if (word[strspn(word, "0123456789abcdefABCDEF.:/")])
		return reason(why, -EINVAL, "%s: neither an address nor a protocol nor \"port\"", word);
	return filter_address(word, f, why);
}

/* [host|net] ADDRESS[/LENGTH] [and] [PROTOCOL] [and] [port N], in any order, as tcpdump has it */
int parse_filter(const char *arg, void *value, struct reason *why)
{
	struct nat64_filter *f = value;
	char words[256], *rest, *word;
	int err = 0;

	if (strlen(arg) >= sizeof(words))
		return reason(why, -EINVAL, "too long");
	strcpy(words, arg);
	word = strtok_r(words, " \t", &rest);
	if (!word)
		return reason(why, -EINVAL, "no filter");
	for (; !err && word; word = err ? NULL : strtok_r(NULL, " \t", &rest))
		err = filter_word(word, &rest, f, why);
	if (!err && f->port && f->proto && !protocol_of(f->proto)->ports)
		return reason(why, -EINVAL, "%s has no ports", protocol_of(f->proto)->name);
	return err;
}
