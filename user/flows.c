// SPDX-License-Identifier: GPL-2.0-or-later
/* flows.c - which translated packets are not answered */
#include <stdlib.h>
#include <string.h>

#include "flows.h"
#include "protocol.h"
#include "view.h"

#define FLOWS 1024 /* remembered: a new one takes the place of any that has the same hash */

struct key {
	__be32 host, peer; /* their IPv4 addresses, which packets of both directions have */
	__u16 host_port, peer_port;
	__u32 proto;
};

struct flow {
	struct key key;
	bool waiting;
	struct nat64_trace first; /* the packet that waits */
};

struct flows {
	struct flow flow[FLOWS];
};

struct flows *flows_new(void)
{
	return calloc(1, sizeof(struct flows));
}

static bool is_echo(const struct view *v)
{
	return v->has_icmp && (v->icmp_type == 0 || v->icmp_type == 8 || v->icmp_type == 128 || v->icmp_type == 129);
}

static bool is_error(const struct view *v)
{
	return v->has_icmp &&
	       (v->proto == IPPROTO_ICMPV6 ? v->icmp_type < 128
					   : v->icmp_type == 3 || v->icmp_type == 11 || v->icmp_type == 12);
}

/* Is it of a kind that is always answered if nothing is wrong? */
static bool asks(const struct view *v)
{
	if (v->proto == IPPROTO_TCP)
		return strchr(v->tcp_flags, 'S') && !strchr(v->tcp_flags, '.');
	return v->proto == IPPROTO_UDP || (v->has_icmp && (v->icmp_type == 8 || v->icmp_type == 128));
}

/* The flow of a packet; from_host: of the IPv6 host. */
static bool key_of(const struct nat64_trace *t, const struct view *v, bool from_host, struct key *key)
{
	*key = (struct key){ .host = t->host4, .peer = t->peer4, .proto = common_protocol(v->proto) };
	if (v->has_ports) {
		key->host_port = from_host ? v->sport : v->dport;
		key->peer_port = from_host ? v->dport : v->sport;
	} else if (is_echo(v)) {
		key->host_port = key->peer_port = v->icmp_id;
	}
	return v->has_ports || is_echo(v);
}

/* The flow that an ICMP error is about, which it answers. */
static bool key_of_quote(const struct nat64_trace *t, const struct view *v, struct key *key)
{
	struct view quoted;

	if (v->quote_at >= t->in_len || !view(&quoted, t->in + v->quote_at, t->in_len - v->quote_at) ||
	    !key_of(t, &quoted, t->way == NAT64_4TO6, key))
		return false;
	/* An error from the IPv4 side may come from any router: the peer is whom the quoted packet was for. */
	if (t->way == NAT64_4TO6)
		memcpy(&key->peer, quoted.dst_bytes, sizeof(key->peer));
	return true;
}

static struct flow *flow_at(struct flows *f, const struct key *key)
{
	__u32 word[sizeof(*key) / sizeof(__u32)], hash = 0;

	memcpy(word, key, sizeof(word));
	for (size_t i = 0; i < sizeof(word) / sizeof(*word); i++)
		hash = (hash ^ word[i]) * 0x9e3779b1;
	return &f->flow[(hash >> 16) % FLOWS];
}

void flows_note(struct flows *f, const struct nat64_trace *t, bool wanted)
{
	struct flow *flow;
	struct key key;
	struct view v;
	bool same;

	if (!view(&v, t->in, t->in_len) ||
	    !(is_error(&v) ? key_of_quote(t, &v, &key) : key_of(t, &v, t->way == NAT64_6TO4, &key)))
		return;
	flow = flow_at(f, &key);
	same = !memcmp(&flow->key, &key, sizeof(key));
	if (same && (is_error(&v) || flow->first.way != t->way)) {
		flow->waiting = false;
	} else if (!same && wanted && t->verdict == NAT64_PASS && asks(&v)) {
		flow->key = key;
		flow->waiting = true;
		flow->first = *t;
	}
}

void flows_forget(struct flows *f)
{
	memset(f, 0, sizeof(*f));
}

const struct nat64_trace *flows_unanswered(struct flows *f, __u64 before, size_t *i)
{
	while (*i < FLOWS) {
		struct flow *flow = &f->flow[(*i)++];

		if (flow->waiting && flow->first.time < before) {
			flow->waiting = false;
			return &flow->first;
		}
	}
	return NULL;
}
