/* SPDX-License-Identifier: GPL-2.0-or-later */
/* offload.h - what an interface does for the kernel, as ethtool -k tells it */
#ifndef NAT64_USER_OFFLOAD_H
#define NAT64_USER_OFFLOAD_H

/* Is a feature on, by its name in the kernel ("rx-gro", "rx-udp-gro-forwarding")? 1, 0 (also if there is none of that name),
 * or a negative errno. Takes no privileges. */
int offload_is_on(const char *ifname, const char *feature);

#endif
