// SPDX-License-Identifier: GPL-2.0-or-later
/* filter.c - which packets --trace is about */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "filter.h"
#include "names.h"
#include "protocol.h"

#define MAX_TEXT   512
#define MAX_TOKENS 128
#define MAX_DEPTH  16 /* of parentheses */

/* ---- matching ---- */

static bool both_or_one(__u8 side, bool src, bool dst)
{
	if (side == FILTER_BOTH)
		return src && dst;
	return (side & FILTER_SRC && src) || (side & FILTER_DST && dst);
}

static bool is_in(const struct filter_node *n, __be32 v4, const union nat64_v6 *v6)
{
	struct prefix4 p4 = { v4, 32 };
	struct prefix6 p6 = { *v6, 128 };

	return n->is_v6 ? prefix6_covers(&n->v6, &p6) : v4 && prefix4_covers(&n->v4, &p4);
}

static bool address_matches(const struct filter_node *n, const struct nat64_trace *t)
{
	bool host = is_in(n, t->host4, &t->host6), peer = is_in(n, t->peer4, &t->peer6);

	return t->way == NAT64_6TO4 ? both_or_one(n->side, host, peer) : both_or_one(n->side, peer, host);
}

static bool in_range(const struct filter_node *n, __u16 port)
{
	return n->from <= port && port <= n->to;
}

static bool family_matches(const struct nat64_trace *t, __u8 family)
{
	return (t->in_len && t->in[0] >> 4 == family) || (t->out_len && t->out[0] >> 4 == family);
}

static bool node_matches(const struct filter *f, __u8 i, const struct filter_packet *p)
{
	const struct filter_node *n = &f->node[i];

	switch (n->op) {
	case FILTER_AND:
		return node_matches(f, n->a, p) && node_matches(f, n->b, p);
	case FILTER_OR:
		return node_matches(f, n->a, p) || node_matches(f, n->b, p);
	case FILTER_NOT:
		return !node_matches(f, n->a, p);
	case FILTER_ADDRESS:
		return address_matches(n, p->trace);
	case FILTER_PROTOCOL:
		return n->from == common_protocol(p->proto);
	case FILTER_PORT:
		return p->has_ports && both_or_one(n->side, in_range(n, p->sport), in_range(n, p->dport));
	case FILTER_FAMILY:
		return family_matches(p->trace, n->from);
	case FILTER_WAY:
		return p->trace->way == n->from;
	default:
		return true;
	}
}

bool filter_matches(const struct filter *f, const struct filter_packet *p)
{
	return !f->n || node_matches(f, f->root, p);
}

/* ---- parsing ---- */

struct parser {
	struct filter *f;
	struct reason *why;
	char text[2 * MAX_TEXT];
	char *token[MAX_TOKENS + 4]; /* "" at the end */
	size_t at;
	int depth;
	/* what a bare address or number is, after `src host a or`, `port 80 or` */
	__u8 side;
	bool port;
};

static const char *peek(const struct parser *p)
{
	return p->token[p->at];
}

/* Is that the next word? Then it is taken. */
static bool take(struct parser *p, const char *word)
{
	if (strcmp(peek(p), word))
		return false;
	p->at++;
	return true;
}

static bool take_either(struct parser *p, const char *word, const char *sign)
{
	return take(p, word) || take(p, sign);
}

/* The index of a new node, or a negative errno. */
static int add_node(struct parser *p, const struct filter_node *n)
{
	if (p->f->n == FILTER_NODES)
		return reason(p->why, -EINVAL, "too long");
	p->f->node[p->f->n] = *n;
	return p->f->n++;
}

static int add_both(struct parser *p, enum filter_op op, int a, int b)
{
	return a < 0 ? a : b < 0 ? b : add_node(p, &(struct filter_node){ .op = op, .a = a, .b = b });
}

static int parse_address_node(struct parser *p, __u8 side)
{
	struct filter_node n = { .op = FILTER_ADDRESS, .side = side };
	const char *word = p->token[p->at++];
	char text[PREFIX_STRLEN + 8];

	if (word[strspn(word, "0123456789abcdefABCDEF.:/")] || !*word)
		return reason(p->why, -EINVAL, "%s: not an address (see FILTER in nat64(8))",
			      *word ? word : "at the end");
	if (strlen(word) >= sizeof(text) - 4)
		return reason(p->why, -EINVAL, "not an address");
	n.is_v6 = strchr(word, ':');
	snprintf(text, sizeof(text), "%s%s", word, strchr(word, '/') ? "" : n.is_v6 ? "/128" : "/32");
	if (n.is_v6 ? parse_prefix6(text, &n.v6, p->why) || check_network6(&n.v6, p->why)
		    : parse_prefix4(text, &n.v4, p->why) || check_network4(&n.v4, p->why))
		return -EINVAL;
	p->side = side;
	p->port = false;
	return add_node(p, &n);
}

/* A port by number, or by its name in /etc/services */
static int parse_port(const char *word, __u16 *port, struct reason *why)
{
	const struct servent *service = NULL;
	__u32 number;
	int err;

	if (!*word)
		return reason(why, -EINVAL, "port: which?");
	if (word[strspn(word, "0123456789")])
		service = getservbyname(word, NULL);
	if (service) {
		*port = ntohs(service->s_port);
		return 0;
	}
	err = parse_number(word, 1, 65535, &number, why);
	*port = number;
	return err ? reason(why, err, "%s: neither a port, 1 to 65535, nor the name of one", word) : 0;
}

static int parse_port_node(struct parser *p, __u8 side, bool range)
{
	struct filter_node n = { .op = FILTER_PORT, .side = side };
	char *word = p->token[p->at++], *to = range ? strchr(word, '-') : NULL;

	if (range && !to)
		return reason(p->why, -EINVAL, "portrange: is two ports with a - between them");
	if (to)
		*to++ = 0;
	if (parse_port(word, &n.from, p->why) || parse_port(to ? to : word, &n.to, p->why))
		return -EINVAL;
	if (n.from > n.to)
		return reason(p->why, -EINVAL, "portrange: %s is more than %s", word, to);
	p->side = side;
	p->port = !range;
	return add_node(p, &n);
}

static int parse_protocol_node(struct parser *p)
{
	const char *word = p->token[p->at++];
	const struct protocol *proto = protocol_by_name(word);
	__u32 number = proto->number;

	if (!proto->name && parse_number(word, 0, 255, &number, p->why))
		return reason(p->why, -EINVAL, "proto: which? A number, or a name that is a word of its own");
	return add_node(p, &(struct filter_node){ .op = FILTER_PROTOCOL, .from = common_protocol(number) });
}

/* src, dst, src or dst, src and dst; 0: none of them */
static __u8 parse_side(struct parser *p)
{
	if (take(p, "dst"))
		return FILTER_DST;
	if (!take(p, "src"))
		return 0;
	if (strcmp(p->token[p->at + 1], "dst"))
		return FILTER_SRC;
	if (take_either(p, "or", "||"))
		return take(p, "dst"), FILTER_EITHER;
	if (take_either(p, "and", "&&"))
		return take(p, "dst"), FILTER_BOTH;
	return FILTER_SRC;
}

static bool is_qualifier(const char *word)
{
	static const char *const WORDS[] = { "src", "dst", "host", "net", "port", "portrange", "proto" };

	for (size_t i = 0; i < sizeof(WORDS) / sizeof(*WORDS); i++)
		if (!strcmp(word, WORDS[i]))
			return true;
	return false;
}

/* [src|dst] [host|net|port|portrange] ID, or proto ID */
static int parse_qualified(struct parser *p)
{
	__u8 side = parse_side(p), any = side ? side : FILTER_EITHER;

	if (!side && take(p, "proto"))
		return parse_protocol_node(p);
	if (take(p, "port"))
		return parse_port_node(p, any, false);
	if (take(p, "portrange"))
		return parse_port_node(p, any, true);
	if (take(p, "host") || take(p, "net") || side)
		return parse_address_node(p, any);
	if (p->port && *peek(p) && !strpbrk(peek(p), ".:"))
		return parse_port_node(p, p->side, false);
	return parse_address_node(p, p->side);
}

/* What may stand alone, or before a qualified primitive: the family, the protocol, the way */
static bool parse_word(struct parser *p, struct filter_node *n)
{
	const struct protocol *proto = protocol_by_name(peek(p));

	if (take(p, "ip"))
		*n = (struct filter_node){ .op = FILTER_FAMILY, .from = 4 };
	else if (take(p, "ip6"))
		*n = (struct filter_node){ .op = FILTER_FAMILY, .from = 6 };
	else if (take(p, WAY_NAMES[NAT64_6TO4]))
		*n = (struct filter_node){ .op = FILTER_WAY, .from = NAT64_6TO4 };
	else if (take(p, WAY_NAMES[NAT64_4TO6]))
		*n = (struct filter_node){ .op = FILTER_WAY, .from = NAT64_4TO6 };
	else if (proto->name && take(p, proto->name))
		*n = (struct filter_node){ .op = FILTER_PROTOCOL, .from = common_protocol(proto->number) };
	else
		return false;
	return true;
}

static int parse_primitive(struct parser *p)
{
	struct filter_node n;
	int word, other;

	if (!parse_word(p, &n))
		return parse_qualified(p);
	word = add_node(p, &n);
	if (word < 0 || !is_qualifier(peek(p)))
		return word;
	other = parse_qualified(p);
	if (other >= 0 && n.op == FILTER_PROTOCOL && p->f->node[other].op == FILTER_PORT &&
	    !protocol_by_number(n.from)->has_ports)
		return reason(p->why, -EINVAL, "%s has no ports", protocol_by_number(n.from)->name);
	return add_both(p, FILTER_AND, word, other);
}

static int parse_expression(struct parser *p);

static int parse_term(struct parser *p)
{
	bool negated = false;
	int node;

	while (take_either(p, "not", "!"))
		negated = !negated;
	if (take(p, "(")) {
		if (++p->depth > MAX_DEPTH)
			return reason(p->why, -EINVAL, "too many parentheses");
		node = parse_expression(p);
		p->depth--;
		if (node >= 0 && !take(p, ")"))
			return reason(p->why, -EINVAL, "a ) is missing");
	} else {
		node = parse_primitive(p);
	}
	return node < 0 || !negated ? node : add_node(p, &(struct filter_node){ .op = FILTER_NOT, .a = node });
}

/* As in pcap-filter(7), `and` and `or` bind equally, from left to right. `and` may be left out. */
static int parse_expression(struct parser *p)
{
	int node = parse_term(p);

	while (node >= 0 && *peek(p) && strcmp(peek(p), ")")) {
		bool either = take_either(p, "or", "||");

		if (!either)
			take_either(p, "and", "&&");
		node = add_both(p, either ? FILTER_OR : FILTER_AND, node, parse_term(p));
	}
	return node;
}

/* Words, and parentheses and exclamation marks, which need no blank between */
static int tokenize(struct parser *p, const char *arg)
{
	static const char SIGNS[] = "()!", BLANK[] = " \t\n";
	char *to = p->text;
	size_t n = 0;

	while (arg += strspn(arg, BLANK), *arg) {
		size_t len = strchr(SIGNS, *arg) ? 1 : strcspn(arg, " \t\n()!");

		if (n == MAX_TOKENS)
			return reason(p->why, -EINVAL, "too long");
		p->token[n++] = to;
		memcpy(to, arg, len);
		to[len] = 0;
		to += len + 1;
		arg += len;
	}
	for (size_t i = n; i < MAX_TOKENS + 4 && i < n + 4; i++)
		p->token[i] = "";
	return n ? 0 : reason(p->why, -EINVAL, "no filter");
}

/* BPF asks for the first address, protocol and port of those that must all match. */
static void make_coarse(struct filter *f, __u8 i)
{
	const struct filter_node *n = &f->node[i];
	struct nat64_filter *c = &f->coarse;

	if (n->op == FILTER_AND) {
		make_coarse(f, n->a);
		make_coarse(f, n->b);
	} else if (n->op == FILTER_PROTOCOL && !c->proto) {
		c->proto = n->from;
	} else if (n->op == FILTER_PORT && n->from == n->to && !c->port) {
		c->port = (FORCE __be16)htons(n->from);
	} else if (n->op == FILTER_ADDRESS && !c->family && n->is_v6) {
		c->family = 6;
		c->v6 = n->v6.addr;
		for (__u32 bit = 0; bit < n->v6.len; bit++)
			c->v6_mask.b[bit / 8] |= 0x80 >> bit % 8;
	} else if (n->op == FILTER_ADDRESS && !c->family) {
		c->family = 4;
		c->v4 = n->v4.addr;
		c->v4_mask = prefix4_mask(n->v4.len);
	}
}

int parse_filter(const char *arg, void *value, struct reason *why)
{
	struct parser p = { .f = value, .why = why, .side = FILTER_EITHER };
	int root;

	if (strlen(arg) >= MAX_TEXT)
		return reason(why, -EINVAL, "too long");
	if (tokenize(&p, arg))
		return -EINVAL;
	root = parse_expression(&p);
	if (root < 0)
		return root;
	if (*peek(&p))
		return reason(why, -EINVAL, "a ( is missing before %s", peek(&p));
	p.f->root = root;
	make_coarse(p.f, root);
	return 0;
}
