/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ipsec.h - the IPsec policies of this network namespace */
#ifndef NAT64_USER_IPSEC_H
#define NAT64_USER_IPSEC_H

/* Are there policies, or a default, for what leaves this machine or passes it? 1, 0, or a negative errno: -EPERM takes
 * CAP_NET_ADMIN. */
int ipsec_has_policies(void);

#endif
