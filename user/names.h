/* SPDX-License-Identifier: GPL-2.0-or-later */
/* names.h - what enumerators of nat64.h are called in all that is printed */
#ifndef NAT64_NAMES_H
#define NAT64_NAMES_H

#include "../nat64.h"

extern const char *const WAY_NAMES[NAT64_WAYS];
extern const char *const DROP_NAMES[NAT64_DROP_MAX];
extern const char *const XDP_NAMES[NAT64_XDP_MODES]; /* what --xdp= takes */
extern const char *const EVENT_NAMES[NAT64_EVENT_MAX];

#endif
