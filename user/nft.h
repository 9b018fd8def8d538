/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nft.h - what the rules of nftables do with addresses, as far as it matters here */
#ifndef NAT64_NFT_H
#define NAT64_NFT_H

#include "addr.h"

/* A rule */
struct nft_rule {
	char table[64];
	char chain[64];
};

/* Is there a rule that gives packets from these addresses another source: masquerade or snat, also by iptables-nft? A rule
 * counts unless it plainly names other source addresses. False also if one cannot tell. */
bool nft_changes_source(const struct prefix4 *from, struct nft_rule *rule);

#endif
