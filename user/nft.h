/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nft.h - what the rules of nftables do with addresses, as far as it matters here; its flow tables */
#ifndef NAT64_NFT_H
#define NAT64_NFT_H

#include <stddef.h>

#include "addr.h"

/* A rule */
struct nft_rule {
	char table[64];
	char chain[64];
};

/* Is there a rule that gives packets from these addresses another source: masquerade or snat, also by iptables-nft? A rule
 * counts unless it plainly names other source addresses. False also if one cannot tell. */
bool nft_changes_source(const struct prefix4 *from, struct nft_rule *rule);

struct nft_flowtables {
	size_t n;
	char name[64]; /* of one of them, */
	char table[64];
	bool hardware; /* or of one that offloads to hardware, if there is such a one */
};

/* The flow tables of all families. 0, or a negative errno: -EPERM takes CAP_NET_ADMIN. */
int nft_flowtables(struct nft_flowtables *f);

#endif
