/* SPDX-License-Identifier: GPL-2.0-or-later */
/* device.h - a translator's own device (--device)
 *
 * The IPv4 prefix and the NAT64 prefix are routed to it. A packet that is routed to it, from wherever, runs through the program at
 * its egress hook, which makes it arrive at the same device; the program at its ingress hook translates it, and it goes on through
 * the stack as the other family. The device is a `dummy`, or an `ifb` if the kernel has no dummy; both need neither neighbours nor
 * a lower device. nat64 recognizes its own device by the alias. */
#ifndef NAT64_DEVICE_H
#define NAT64_DEVICE_H

#include "addr.h"
#include "link.h"

/* The device as it will be, for the checks before it is made. */
struct link device_planned(const char *name);

/* Makes it and brings it up. 0 with *link, or a negative errno with *why. */
int device_make(struct nl *nl, const char *name, struct link *link, struct reason *why);

/* 0 or a negative errno. With it goes all that is attached to it or leads to it. */
int device_del(struct nl *nl, const struct link *link);

/* Makes the route to the NAT64 prefix if it is not there; *made: it was not. Its MTU, 1500, is for local programs. 0, or a
 * negative errno with *why. */
int device_route_set(struct nl *nl, const struct link *link, struct prefix6 dst, bool *made, struct reason *why);

/* 1, 0, or a negative errno */
int device_route_is_there(struct nl *nl, const struct link *link, struct prefix6 dst);

int device_route_del(struct nl *nl, const struct link *link, struct prefix6 dst);

/* Takes the routes of ours to other IPv6 prefixes than `wanted` (NULL: to any) away. 0 or a negative errno. */
int device_routes_del(struct nl *nl, const struct link *link, const struct prefix6 *wanted);

#endif
