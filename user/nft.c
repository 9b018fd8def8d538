// SPDX-License-Identifier: GPL-2.0-or-later
/* nft.c - looks for rules of nftables that change sources */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

#include "kernel.h"
#include "netlink.h"
#include "nft.h"

#define IP4_SADDR 12 /* its offset in the header */

/* What there is to know of one rule. Expressions come in order: a load of the source address into a register, perhaps a
 * mask, and a comparison. */
struct seen_rule {
	struct nft_rule name;
	bool changes_source;
	bool elsewhere; /* it is for other sources */

	const struct prefix4 *from;
	__u32 loaded; /* the source address has been loaded into the register: bytes of it, or 0 */
	__be32 mask;
};

struct search {
	const struct prefix4 *from;
	struct nft_rule *rule;
	bool found;
};

/* The attributes of one expression that some kind of expression needs, by number */
struct attributes {
	const struct nlattr *at[16];
};

static int note_attribute(const struct nlattr *attr, void *data)
{
	struct attributes *a = data;
	__u16 type = mnl_attr_get_type(attr);

	if (type < sizeof(a->at) / sizeof(*a->at))
		a->at[type] = attr;
	return MNL_CB_OK;
}

static struct attributes attributes_in(const struct nlattr *nest)
{
	struct attributes a = { { NULL } };

	if (nest)
		mnl_attr_parse_nested(nest, note_attribute, &a);
	return a;
}

static bool is_string(const struct nlattr *attr, const char *text)
{
	return attr && !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) && !strcmp(mnl_attr_get_str(attr), text);
}

/* A number, which is in network byte order; ~0: there is none. */
static __u32 number(const struct nlattr *attr)
{
	return attr && !mnl_attr_validate(attr, MNL_TYPE_U32) ? ntohl(mnl_attr_get_u32(attr)) : ~0U;
}

/* Up to four bytes of data; returns how many there are. */
static size_t value(const struct nlattr *attr, __be32 *to)
{
	struct attributes a = attributes_in(attr);
	const struct nlattr *data = a.at[NFTA_DATA_VALUE];
	size_t n = data ? mnl_attr_get_payload_len(data) : 0;

	*to = 0;
	if (n > sizeof(*to))
		return 0;
	if (n)
		memcpy(to, mnl_attr_get_payload(data), n);
	return n;
}

static void see_payload(struct seen_rule *r, const struct attributes *a)
{
	__u32 len = number(a->at[NFTA_PAYLOAD_LEN]);

	r->loaded = number(a->at[NFTA_PAYLOAD_BASE]) == NFT_PAYLOAD_NETWORK_HEADER &&
				    number(a->at[NFTA_PAYLOAD_OFFSET]) == IP4_SADDR && len <= 4
			    ? len
			    : 0;
	r->mask = prefix4_mask(8 * r->loaded);
}

static void see_bitwise(struct seen_rule *r, const struct attributes *a)
{
	__be32 mask, flip;

	if (r->loaded && value(a->at[NFTA_BITWISE_MASK], &mask) && value(a->at[NFTA_BITWISE_XOR], &flip) && !flip)
		r->mask &= mask;
	else
		r->loaded = 0;
}

static void see_cmp(struct seen_rule *r, const struct attributes *a)
{
	__be32 want, common = r->mask & prefix4_mask(r->from->len);

	if (r->loaded && number(a->at[NFTA_CMP_OP]) == NFT_CMP_EQ && value(a->at[NFTA_CMP_DATA], &want) == r->loaded &&
	    (want ^ r->from->addr) & common)
		r->elsewhere = true;
	r->loaded = 0;
}

static int see_expression(const struct nlattr *attr, void *data)
{
	struct attributes e = attributes_in(attr), a = attributes_in(e.at[NFTA_EXPR_DATA]);
	const struct nlattr *name = e.at[NFTA_EXPR_NAME];
	struct seen_rule *r = data;

	if (is_string(name, "payload"))
		see_payload(r, &a);
	else if (is_string(name, "bitwise"))
		see_bitwise(r, &a);
	else if (is_string(name, "cmp"))
		see_cmp(r, &a);
	else if (is_string(name, "masq"))
		r->changes_source = true;
	else if (is_string(name, "nat"))
		r->changes_source |= number(a.at[NFTA_NAT_TYPE]) == NFT_NAT_SNAT;
	else if (is_string(name, "target"))
		r->changes_source |= is_string(a.at[NFTA_TARGET_NAME], "MASQUERADE") ||
				     is_string(a.at[NFTA_TARGET_NAME], "SNAT");
	return MNL_CB_OK;
}

static int rule_attr(const struct nlattr *attr, void *data)
{
	struct seen_rule *r = data;

	switch (mnl_attr_get_type(attr)) {
	case NFTA_RULE_TABLE:
		snprintf(r->name.table, sizeof(r->name.table), "%s", mnl_attr_get_str(attr));
		break;
	case NFTA_RULE_CHAIN:
		snprintf(r->name.chain, sizeof(r->name.chain), "%s", mnl_attr_get_str(attr));
		break;
	case NFTA_RULE_EXPRESSIONS:
		mnl_attr_parse_nested(attr, see_expression, r);
		break;
	}
	return MNL_CB_OK;
}

static void rule_answer(const struct nlmsghdr *msg, void *data)
{
	const struct nfgenmsg *head = mnl_nlmsg_get_payload(msg);
	struct search *s = data;
	struct seen_rule r = { .from = s->from };

	if (s->found || (head->nfgen_family != NFPROTO_IPV4 && head->nfgen_family != NFPROTO_INET))
		return;
	mnl_attr_parse(msg, sizeof(*head), rule_attr, &r);
	s->found = r.changes_source && !r.elsewhere;
	*s->rule = r.name;
}

bool nft_changes_source(const struct prefix4 *from, struct nft_rule *rule)
{
	struct search s = { .from = from, .rule = rule };
	struct nfgenmsg *head;
	struct nl nl;
	int err;

	if (!kernel_has("nf_tables"))
		return false;
	err = nl_open(&nl, NETLINK_NETFILTER);
	if (!err) {
		nl_request(&nl, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE, NLM_F_DUMP, sizeof(*head), &head);
		head->nfgen_family = NFPROTO_UNSPEC;
		head->version = NFNETLINK_V0;
		err = nl_talk(&nl, rule_answer, &s, sizeof(s));
	}
	nl_close(&nl);
	return !err && s.found;
}

static int flowtable_attr(const struct nlattr *attr, void *data)
{
	struct nft_flowtables *f = data;

	switch (mnl_attr_get_type(attr)) {
	case NFTA_FLOWTABLE_TABLE:
		snprintf(f->table, sizeof(f->table), "%s", mnl_attr_get_str(attr));
		break;
	case NFTA_FLOWTABLE_NAME:
		snprintf(f->name, sizeof(f->name), "%s", mnl_attr_get_str(attr));
		break;
	case NFTA_FLOWTABLE_FLAGS:
		f->hardware = number(attr) & NFT_FLOWTABLE_HW_OFFLOAD;
		break;
	}
	return MNL_CB_OK;
}

static void flowtable_answer(const struct nlmsghdr *msg, void *data)
{
	struct nft_flowtables seen = { .n = 0 }, *f = data;

	mnl_attr_parse(msg, sizeof(struct nfgenmsg), flowtable_attr, &seen);
	seen.n = f->n + 1;
	if (f->hardware)
		f->n = seen.n;
	else
		*f = seen;
}

int nft_flowtables(struct nft_flowtables *f)
{
	struct nfgenmsg *head;
	struct nl nl;
	int err;

	*f = (struct nft_flowtables){ .n = 0 };
	if (!kernel_has("nf_tables"))
		return 0;
	err = nl_open(&nl, NETLINK_NETFILTER);
	if (!err) {
		nl_request(&nl, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETFLOWTABLE, NLM_F_DUMP, sizeof(*head), &head);
		head->nfgen_family = NFPROTO_UNSPEC;
		head->version = NFNETLINK_V0;
		err = nl_talk(&nl, flowtable_answer, f, sizeof(*f));
	}
	nl_close(&nl);
	return err == -EINVAL || err == -EOPNOTSUPP ? 0 : err; /* the kernel has no nf_tables */
}
