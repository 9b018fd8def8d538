/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sysctl.h - reading sysctls of this network namespace; nat64 never writes one */
#ifndef NAT64_SYSCTL_H
#define NAT64_SYSCTL_H

#include <net/if.h>

struct sysctl_name {
	char s[IF_NAMESIZE];
};

/* The value of dir/interface/leaf under /proc/sys, or of dir/leaf if interface is NULL; a negative errno on failure.
 * Good for sysctls that are not negative. */
int sysctl_read(const char *dir, const char *interface, const char *leaf);

/* An interface name as sysctl(8) writes it: eth0.5 becomes eth0/5. */
struct sysctl_name sysctl_name(const char *interface);

#endif
