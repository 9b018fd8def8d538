// SPDX-License-Identifier: GPL-2.0-or-later
/* monitor.c - what happens to mappings, a line each */
#include "addr.h"
#include "clock.h"
#include "monitor.h"
#include "names.h"

void monitor_print(struct out *o, const char *interface, const struct nat64_event *e, const char *why)
{
	enum nat64_event_kind kind = e->kind;

	if (kind >= NAT64_EVENT_MAX)
		return;
	out_head(o, e->time, interface);
	out_string(o, "event", "%s", EVENT_NAMES[kind]);
	if (kind != NAT64_EVENT_EXHAUSTED)
		out_string(o, "v4", " %s", text4((struct prefix4){ e->v4, 32 }).s);
	out_string(o, "v6", " %s", text6((struct prefix6){ e->v6, 128 }).s);
	if (kind == NAT64_EVENT_CREATED) {
		out_string(o, "type", NULL, e->is_static ? "static" : "dynamic");
		out_text(o, "%s", e->is_static ? ", static" : "");
	}
	if (kind == NAT64_EVENT_REVIVED || kind == NAT64_EVENT_EXPIRED)
		out_string(o, "last_seen", ", last seen %s", time_text(e->seen).s);
	if (kind == NAT64_EVENT_EXPIRED)
		out_string(o, "next", ", now %s", text6((struct prefix6){ e->next, 128 }).s);
	if (kind == NAT64_EVENT_REMOVED)
		out_string(o, "reason", ": %s", why);
	out_text(o, "\n");
}
