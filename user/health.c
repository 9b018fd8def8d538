// SPDX-License-Identifier: GPL-2.0-or-later
/* health.c - what keeps a translator from working: faults in its surroundings, which its programs cannot see */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attach.h"
#include "device.h"
#include "fast.h"
#include "health.h"
#include "ports.h"
#include "route.h"
#include "sysctl.h"
#include "xdp.h"

void problem(struct problems *p, const char *fmt, ...)
{
	va_list args;

	if (p->n == PROBLEMS_MAX)
		return;
	va_start(args, fmt);
	vsnprintf(p->list[p->n].text, sizeof(p->list->text), fmt, args);
	va_end(args);
	p->n++;
}

/* What the kernel looks at: the sysctl of the interface that a packet comes in by. Those of "all" (ip_forward) only set the
 * others when they are written. (For IPv6 it is ours that counts, as packets of the IPv4 side are looked up as if they had
 * come in by it; but the IPv6 stack itself, which has them next of a device of our own, looks at "all".) */
static bool is_forwarding_off(const char *family, const char *name)
{
	char dir[32];

	snprintf(dir, sizeof(dir), "net/%s/conf", family);
	return sysctl_read(dir, name, "forwarding") == 0;
}

/* The interfaces that IPv4 may come in by: that of the default route, or else all others with an address. If forwarding is
 * off on all of them, one of them, or NULL. *n: how many there are. Some that are closed on purpose do not matter. */
static const struct link *closed_uplink(struct link *links, size_t n_links, __u32 ours, __u32 way_out, size_t *n)
{
	const struct link *closed = NULL;

	*n = 0;
	for (size_t i = 0; i < n_links; i++) {
		const struct link *link = &links[i];

		if (way_out ? link->index != way_out
			    : !link->has_v4 || link->index == ours || link->flags & IFF_LOOPBACK)
			continue;
		if (!is_forwarding_off("ipv4", link->name))
			return NULL;
		closed = link;
		++*n;
	}
	return closed;
}

static void forwarding_of_others(struct nl *nl, const struct link *link, struct problems *p)
{
	const struct link *closed;
	struct link *links;
	__u32 way_out = 0;
	size_t n_links, n;

	if (link_list(nl, &links, &n_links))
		return;
	if (links_find_v4(nl, links, n_links))
		goto out;
	route_default4(nl, &way_out);
	closed = closed_uplink(links, n_links, link->index, way_out, &n);
	if (closed)
		problem(p, "IPv4 forwarding is off on %s%s (sysctl net.ipv4.conf.%s.forwarding=1)", closed->name,
			n > 1 ? ", too" : "", sysctl_name(closed->name).s);
out:
	free(links);
}

void health_forwarding(struct nl *nl, const struct link *link, struct problems *p)
{
	const char *conf4 = link->index ? link->name : "default"; /* of a device that is yet to be made */
	const char *conf6 = link->own ? "all" : link->name;
	struct sysctl_name dotted = sysctl_name(conf4);

	if (!is_forwarding_off("ipv4", conf4))
		forwarding_of_others(nl, link, p);
	else if (!sysctl_read("net/ipv4", NULL, "ip_forward"))
		problem(p, "IPv4 forwarding is off (sysctl net.ipv4.ip_forward=1)");
	else
		problem(p, "IPv4 forwarding is off there (sysctl net.ipv4.conf.%s.forwarding=1)", dotted.s);
	if (!is_forwarding_off("ipv6", conf6) || sysctl_read("net/ipv6/conf/all", NULL, "force_forwarding") > 0)
		return;
	if (!sysctl_read("net/ipv6/conf/all", NULL, "forwarding"))
		problem(p, "IPv6 forwarding is off (sysctl net.ipv6.conf.all.forwarding=1)");
	else
		problem(p, "IPv6 forwarding is off there (sysctl net.ipv6.conf.%s.forwarding=1)", dotted.s);
}

/* The next hop of a route that there is: is all there without which it would be resolved? */
static void hop_problems(const struct hop *hop, const struct hops *hops, struct problems *p)
{
	const struct hop_address *a;

	if (hop->family != AF_INET)
		return;
	a = hops_at((struct hops *)hops, hop->v4);
	if (!a || !a->broadcast)
		problem(p, "the next hop %s is no broadcast address there any more (load it again)", hop_text(hop).s);
	if (a && a->unresolved)
		problem(p, "the next hop %s has no MAC address (load it again)", hop_text(hop).s);
}

static void route_problems(const struct link *link, const struct wanted *w, const struct routes *r, struct problems *p)
{
	const struct route *missing = NULL, *changed = NULL, *last = NULL;
	size_t n_missing = 0;

	for (size_t i = 0; i < w->n; i++) {
		const struct route *there = routes_same_dst(r, &w->route[i]);

		if (route_leads_to_none(&w->route[i]))
			continue;
		if (!there) {
			missing = missing ? missing : &w->route[i];
			n_missing++;
		} else if (there->mtu != w->route[i].mtu || (last && !hop_equal(&there->via, &last->via))) {
			changed = changed ? changed : there;
		} else {
			last = there;
		}
	}
	if (n_missing > 1)
		problem(p, "the route to %s and %zu more are missing (load it again)", text4(missing->dst).s,
			n_missing - 1);
	else if (missing)
		problem(p, "the route to %s is missing (load it again)", text4(missing->dst).s);
	if (changed)
		problem(p, "the route to %s is not as it was made (load it again)", text4(changed->dst).s);
	if (last && link_has_neighbours(link))
		hop_problems(&last->via, &r->hops, p);
}

static int check_routes(struct nl *nl, const struct translator *t, const struct statics *statics, struct problems *p)
{
	struct options o = { .v4_prefix = translator_pool(t),
			     .v6_prefix = { t->cfg.v6_prefix, t->cfg.v6_len },
			     .icmp_src = t->cfg.icmp_src,
			     .statics = *statics };
	struct link then = *t->link; /* as it was when it was loaded */
	struct reason why = { "" };
	struct wanted w = { 0 };
	struct routes r = { 0 };
	int err;

	then.mtu = t->cfg.mtu;
	err = routes_wanted(nl, &then, &o, &w, &why);
	err = err ? err : routes_find(nl, t->link, &w, &r, &why);
	if (!err)
		route_problems(t->link, &w, &r, p);
	else if (err == -EADDRINUSE)
		problem(p, "%s", why.text);
	routes_free(&r);
	wanted_free(&w);
	return err && err != -EADDRINUSE ? msg_fail(err, "%s: %s", t->link->name, why.text) : 0;
}

/* What keeps a port from working: its programs, and what they were told of it. */
static int check_port(struct nl *nl, const struct translator *t, const struct nat64_port *port, struct problems *p)
{
	struct attachment a = ATTACHMENT_NONE;
	struct loaded loaded = LOADED_NONE;
	struct nat64_config cfg;
	struct reason why = { "" };
	struct link link;
	int err;

	err = link_by_index(nl, port->ifindex, &link);
	if (err == -ENODEV) {
		problem(p, "its port %s is gone (load it again, with or without)", port->name);
		return 0;
	}
	err = err ? msg_fail(err, "%s: %s", port->name, nl_error(nl, err)) : attachment_find(nl, &link, &a);
	if (err)
		goto out;
	if (!a.hook[NAT64_6TO4].ours || !a.hook[NAT64_4TO6].ours) {
		problem(p, "its programs are missing on %s (load it again)", link.name);
		goto out;
	}
	err = loaded_open((__u32[NAT64_WAYS]){ a.hook[NAT64_6TO4].prog_id, a.hook[NAT64_4TO6].prog_id }, &loaded, &why);
	err = err ? err : loaded_config(&loaded, &cfg, &why);
	if (err)
		err = msg_fail(err, "%s: %s", link.name, why.text);
	else if (!loaded_same(&loaded, &t->maps))
		problem(p, "%s has another translator's programs (load it again)", link.name);
	else if (link.mtu != port->mtu)
		problem(p, "the MTU of %s is %u and was %u when it was loaded (load it again)", link.name, link.mtu,
			port->mtu);
	else if (!cfg.by_home && link_is_rp_filtered(nl, &link))
		problem(p, "%s drops packets by rp_filter, and did not when it was loaded (load it again)", link.name);
	if (is_forwarding_off("ipv4", link.name))
		problem(p, "IPv4 forwarding is off on %s (sysctl net.ipv4.conf.%s.forwarding=1)", link.name,
			sysctl_name(link.name).s);
out:
	loaded_close(&loaded);
	attachment_close(&a);
	return err;
}

static int check_ports(struct nl *nl, const struct translator *t, struct problems *p)
{
	struct ports ports;
	int err = ports_read(t->maps.ports, &ports);

	if (err)
		return msg_fail(err, "%s: cannot read its maps: %s", t->link->name, strerror(-err));
	for (__u32 i = 1; !err && i <= NAT64_PORTS; i++)
		if (ports.of[i].ifindex && i != t->cfg.port)
			err = check_port(nl, t, &ports.of[i], p);
	return err;
}

static int check_device_route(struct nl *nl, const struct translator *t, struct problems *p)
{
	const struct prefix6 dst = { t->cfg.v6_prefix, t->cfg.v6_len };
	int there = device_route_is_there(nl, t->link, dst);

	if (!there)
		problem(p, "the route to %s is missing (load it again)", text6(dst).s);
	return there < 0 ? msg_fail(there, "%s: cannot list its routes: %s", t->link->name, nl_error(nl, there)) : 0;
}

/* An interface that has come since, or is not the way out, may do without. */
static int check_fast(struct nl *nl, const struct translator *t, struct problems *p)
{
	struct reason why = { "" };
	struct fast fast;
	__u32 way_out = 0;
	int err;

	err = fast_find(nl, &t->link->index, 1, true, &fast, &why);
	route_default4(nl, &way_out);
	for (size_t i = 0; !err && i < fast.n; i++) {
		const struct fast_program *f = &fast.list[i];

		if (f->wanted && !f->hook.ours && f->place.link->index == way_out)
			problem(p, "--fast: its program is missing on %s, where IPv4 comes in (load it again)",
				f->place.link->name);
	}
	fast_free(&fast);
	return err ? msg_fail(err, "%s: %s", t->link->name, why.text) : 0;
}

/* Is the program for --xdp as it was loaded, on an interface that must have one? */
static void check_xdp_program(const struct xdp_program *x, enum nat64_xdp mode, struct problems *p)
{
	const struct link *link = x->link;
	struct nat64_config cfg = { 0 };
	struct reason why = { "" };

	if (!x->of_members)
		problem(p, "--xdp: its program %s on %s (load it again)",
			link->xdp_mode ? "is replaced by another" : "is missing", link->name);
	else if (xdp_check(x, mode, &why))
		problem(p, "--xdp: %s %s", link->name, why.text);
	else if (!program_config(x->old_fd, &cfg) && cfg.mac != link->mac)
		problem(p, "--xdp: the MAC address of %s is another one than when it was loaded (load it again)",
			link->name);
}

/* As with --fast, but for the ports, which all have one. */
static int check_xdp(struct nl *nl, const struct translator *t, struct problems *p)
{
	struct xdp_members all, with = { .n = 0 };
	struct reason why = { "" };
	struct ports ports;
	__u32 way_out = 0;
	struct xdp xdp;
	int err = ports_read(t->maps.ports, &ports);

	if (err)
		return msg_fail(err, "%s: cannot read its maps: %s", t->link->name, strerror(-err));
	all = xdp_members_of(t->link->index, &ports);
	for (__u32 i = 1; i <= NAT64_PORTS; i++)
		if (ports.of[i].ifindex && !ports.of[i].l3 && !(t->cfg.device && i == t->cfg.port))
			xdp_add_member(&with, ports.of[i].ifindex);
	err = xdp_find(nl, &all, &xdp, &why);
	err = err ? err : xdp_want(nl, &with, &all, &xdp, &why);
	route_default4(nl, &way_out);
	for (size_t i = 0; !err && i < xdp.n; i++) {
		const struct xdp_program *x = &xdp.list[i];

		if (x->wanted && (x->port || x->of_members || x->link->index == way_out))
			check_xdp_program(x, t->cfg.xdp, p);
	}
	xdp_free(&xdp);
	return err ? msg_fail(err, "%s: %s", t->link->name, why.text) : 0;
}

int health(struct nl *nl, const struct translator *t, const struct statics *statics, struct problems *p)
{
	const struct link *link = t->link;
	struct reason why = { "" };
	int err = 0;

	if (link_check(link, &why))
		problem(p, "%s", why.text);
	if (link->mtu != t->cfg.mtu)
		problem(p, "its MTU is %u and was %u when it was loaded (load it again)", link->mtu, t->cfg.mtu);
	/* Of an interface that is down, they are gone anyway. */
	if (link->flags & IFF_UP)
		err = check_routes(nl, t, statics, p);
	if (!err && link->own && !t->cfg.unrouted)
		err = check_device_route(nl, t, p);
	if (!err && t->cfg.has_ports)
		err = check_ports(nl, t, p);
	health_forwarding(nl, link, p);
	if (!err && t->cfg.fast)
		err = check_fast(nl, t, p);
	if (!err && t->cfg.xdp)
		err = check_xdp(nl, t, p);
	return err;
}
