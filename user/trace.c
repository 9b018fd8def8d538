// SPDX-License-Identifier: GPL-2.0-or-later
/* trace.c - what becomes of packets, a line each */
#include "clock.h"
#include "names.h"
#include "protocol.h"
#include "trace.h"
#include "view.h"

static struct prefix_text host_text(const struct nat64_trace *t, bool v6)
{
	return v6 ? text6((struct prefix6){ t->host6, 128 }) : text4((struct prefix4){ t->host4, 32 });
}

static void print_port(struct out *o, const char *key, const struct view *v, __u16 port)
{
	if (v->has_ports)
		out_uint(o, key, ".%llu", port);
}

static void print_protocol(struct out *o, const struct view *v)
{
	const char *name = protocol_by_number(v->proto)->name;
	char number[16];

	snprintf(number, sizeof(number), "%u", v->proto);
	out_text(o, ": %s", name ? "" : "protocol ");
	out_string(o, "protocol", "%s", name ? name : number);
	if (v->tcp_flags[0])
		out_string(o, "tcp_flags", " [%s]", v->tcp_flags);
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

/* pieces: how many it was cut into, which is printed instead of a length; 0: it was not. segments: how many there are in a
 * super-packet. */
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

/* Into how many pieces a packet was cut. The last one, `out`, has neither ports nor ICMP type: they are those that came. */
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
	bool known6 = !v6_is_none(&t->host6), dropped = t->verdict != NAT64_PASS;

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
	out_head(o, t->time, interface);
	out_string(o, "direction", "%s ", WAY_NAMES[t->way]);
	print_packet(o, "in", &in, 0, t->segments);
	out_string(o, "verdict", NULL, !dropped ? "translated" : t->answered ? "answered" : "dropped");
	if (dropped)
		out_string(o, "reason", ": dropped, %s", DROP_NAMES[t->verdict]);
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

bool trace_is_wanted(const struct nat64_trace *t, const struct filter *f)
{
	struct view v;

	return view(&v, t->in, t->in_len) &&
	       filter_matches(f, &(struct filter_packet){ t, v.proto, v.has_ports, v.sport, v.dport });
}

void trace_print_unanswered(struct out *o, const char *interface, const struct nat64_trace *t, unsigned int seconds)
{
	struct view in;

	if (t->way >= NAT64_WAYS || !view(&in, t->in, t->in_len))
		return;
	out_head(o, boottime(), interface);
	out_string(o, "event", "%s ", "no-answer");
	out_string(o, "direction", "%s ", WAY_NAMES[t->way]);
	print_packet(o, "in", &in, 0, 0);
	out_uint(o, "seconds", ": translated %llu s ago, and nothing has come back here\n", seconds);
}
