// SPDX-License-Identifier: GPL-2.0-or-later
/* names.c - what enumerators of nat64.h are called in all that is printed */
#include "names.h"

const char *const WAY_NAMES[NAT64_WAYS] = { [NAT64_6TO4] = "6to4", [NAT64_4TO6] = "4to6" };

const char *const XDP_NAMES[NAT64_XDP_MODES] = {
	[NAT64_XDP_NONE] = "none",
	[NAT64_XDP_NATIVE] = "native",
	[NAT64_XDP_VETH] = "veth",
	[NAT64_XDP_GENERIC] = "generic",
};

const char *const DROP_NAMES[NAT64_DROP_MAX] = {
#define X(id, name, text) name,
	NAT64_DROPS(X)
#undef X
};

const char *const EVENT_NAMES[NAT64_EVENT_MAX] = {
#define X(id, name) name,
	NAT64_EVENT_KINDS(X)
#undef X
};
