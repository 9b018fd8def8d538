// SPDX-License-Identifier: GPL-2.0-or-later
/* xdp.c - the programs for --xdp, on the interfaces of a translator and on those that IPv4 comes in by
 *
 * As with --fast, there is no record of where they are: nat64 looks at all interfaces. Programs of a translator that is gone are
 * removed by the next nat64 that sees them. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "offload.h"
#include "tc.h"
#include "xdp.h"

static bool is_named(const struct bpf_prog_info *info, bool *port)
{
	*port = !strcmp(info->name, NAT64_PROG_XDP64);
	return *port || !strcmp(info->name, NAT64_PROG_XDP46);
}

void xdp_add_member(struct xdp_members *m, unsigned int index)
{
	if (m->n < sizeof(m->index) / sizeof(*m->index))
		m->index[m->n++] = index;
}

struct xdp_members xdp_members_of(unsigned int home, const struct ports *ports)
{
	struct xdp_members m = { { home }, 1 };

	for (__u32 i = 1; i <= NAT64_PORTS; i++)
		if (ports->of[i].ifindex && ports->of[i].ifindex != home)
			xdp_add_member(&m, ports->of[i].ifindex);
	return m;
}

bool xdp_is_member(const struct xdp_members *m, unsigned int index)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->index[i] == index)
			return true;
	return false;
}

static struct link *find_link(const struct xdp *xdp, unsigned int index)
{
	for (size_t i = 0; i < xdp->n_links; i++)
		if (xdp->links[i].index == index)
			return &xdp->links[i];
	return NULL;
}

/* Is there a translator on the interface? */
static int has_translator(struct nl *nl, const struct link *link, bool *there)
{
	unsigned int *owners = NULL;
	size_t n;
	int err = tc_ingress_find(nl, link, there, &owners, &n);

	free(owners);
	return err == -ENODEV ? 0 : err;
}

/* Whose is the program on this interface? *p->ours: of the translator with these interfaces, or of one that is gone. */
static int identify(struct nl *nl, const struct xdp *xdp, const struct xdp_members *m, struct xdp_program *p)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);
	const struct link *owner;
	unsigned int index;
	bool there = false;
	int err;

	p->old_fd = bpf_prog_get_fd_by_id(p->link->xdp_id);
	if (p->old_fd < 0)
		return errno == ENOENT ? 0 : -errno; /* it has gone */
	if (bpf_obj_get_info_by_fd(p->old_fd, &info, &len))
		return -errno;
	if (!is_named(&info, &p->port))
		return 0;
	err = program_owner(p->old_fd, &index);
	if (err)
		return err == -ENOENT ? 0 : err;
	owner = find_link(xdp, index);
	p->of_members = xdp_is_member(m, index);
	p->ours = p->of_members || !owner;
	if (p->ours)
		return 0;
	err = has_translator(nl, owner, &there);
	p->ours = !there;
	return err;
}

int xdp_find(struct nl *nl, const struct xdp_members *m, struct xdp *xdp, struct reason *why)
{
	int err;

	*xdp = (struct xdp){ 0 };
	err = link_list(nl, &xdp->links, &xdp->n_links);
	if (err)
		return reason(why, err, "cannot list the interfaces: %s", nl_error(nl, err));
	xdp->list = calloc(xdp->n_links + 1, sizeof(*xdp->list));
	if (!xdp->list)
		return reason(why, -ENOMEM, "%s", strerror(ENOMEM));
	for (size_t i = 0; i < xdp->n_links; i++) {
		struct xdp_program *p = &xdp->list[xdp->n];

		*p = (struct xdp_program){ .link = &xdp->links[i], .old_fd = -1, .fd = -1 };
		if (!p->link->xdp_id)
			continue;
		err = identify(nl, xdp, m, p);
		if (err) {
			xdp->n++;
			return reason(why, err, "cannot look into the XDP program of %s: %s", p->link->name,
				      nl_error(nl, err));
		}
		if (p->ours)
			xdp->n++;
		else if (p->old_fd >= 0)
			close(p->old_fd);
	}
	return 0;
}

void xdp_free(struct xdp *xdp)
{
	for (size_t i = 0; i < xdp->n; i++) {
		if (xdp->list[i].old_fd >= 0)
			close(xdp->list[i].old_fd);
		programs_close(xdp->list[i].programs);
	}
	free(xdp->list);
	free(xdp->links);
	*xdp = (struct xdp){ 0 };
}

static void want(struct xdp *xdp, struct link *link, bool port)
{
	struct xdp_program *p = xdp->list;

	while (p < xdp->list + xdp->n && p->link != link)
		p++;
	if (p == xdp->list + xdp->n) {
		*p = (struct xdp_program){ .link = link, .old_fd = -1, .fd = -1 };
		xdp->n++;
	}
	p->wanted = true;
	p->port = port;
}

int xdp_want(struct nl *nl, const struct xdp_members *ports, const struct xdp_members *all, struct xdp *xdp,
	     struct reason *why)
{
	int err = links_find_v4(nl, xdp->links, xdp->n_links);

	if (err)
		return reason(why, err, "cannot list the addresses: %s", nl_error(nl, err));
	for (size_t i = 0; i < xdp->n_links; i++) {
		struct link *link = &xdp->links[i];

		if (xdp_is_member(ports, link->index))
			want(xdp, link, true);
		else if (!xdp_is_member(all, link->index) && link_is_uplink(link))
			want(xdp, link, false);
	}
	return 0;
}

/* What is known of the program on an interface */
static struct bpf_prog_info look_at(const struct link *link)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(link->xdp_id);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len))
		strcpy(info.name, "?");
	if (fd >= 0)
		close(fd);
	return info;
}

bool xdp_is_ours(const struct link *link)
{
	const struct bpf_prog_info info = look_at(link);
	bool port;

	return is_named(&info, &port);
}

/* By libxdp several programs can share an interface: this one calls them. Ours cannot be among them. Where libxdp is 1.5.4 or
 * older, as in Debian 13, the kernel (6.12 there) takes none that moves the start of a frame. And libxdp pins them in a bpffs,
 * where they and all mappings would outlast the interface, and needs one that the network namespaces of "ip netns exec" lack. */
#define DISPATCHER "xdp_dispatcher"

static int cannot(const struct link *link, struct reason *why)
{
	const struct bpf_prog_info other = look_at(link);
	bool port;

	if (is_named(&other, &port))
		return reason(why, -EEXIST, "has the XDP program of another translator");
	if (!strcmp(other.name, DISPATCHER))
		return reason(
			why, -EEXIST,
			"has XDP programs of others, by libxdp, id %u (xdp-loader status %s); --fast works with them",
			link->xdp_id, link->name);
	return reason(why, -EEXIST, "has another XDP program, %s, id %u; --fast works with it", other.name,
		      link->xdp_id);
}

int xdp_check(const struct xdp_program *p, enum nat64_xdp mode, struct reason *why)
{
	bool veth = !strcmp(p->link->kind, "veth");

	if (!p->ours && p->link->xdp_mode)
		return cannot(p->link, why);
	if (veth && mode == NAT64_XDP_NATIVE)
		return reason(why, -EOPNOTSUPP, "is a veth, where XDP is no gain (--xdp=veth has it nevertheless)");
	/* What comes through another interface has left its VLAN tag there, out of sight. */
	if (*p->link->kind && !veth && strcmp(p->link->kind, "tun"))
		return reason(why, -EOPNOTSUPP, "is a %s, where XDP programs do not see VLAN tags", p->link->kind);
	/* Of a veth it does not say where the tag is. */
	if (!veth && (offload_is_on(p->link->name, "rx-vlan-hw-parse") > 0 ||
		      offload_is_on(p->link->name, "rx-vlan-stag-hw-parse") > 0))
		return reason(why, -EOPNOTSUPP,
			      "takes VLAN tags off, which XDP programs would not see (ethtool -K %s rxvlan off)",
			      p->link->name);
	return 0;
}

/* Attaches `fd`, or detaches with -1, if `expected` is there; -1: if none is. */
static int set(struct nl *nl, const struct link *link, bool generic, int fd, int expected)
{
	__u32 flags = (generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE) |
		      (expected < 0 ? XDP_FLAGS_UPDATE_IF_NOEXIST : XDP_FLAGS_REPLACE);
	struct ifinfomsg *info;
	struct nlmsghdr *msg = nl_request(nl, RTM_SETLINK, 0, sizeof(*info), &info);
	struct nlattr *xdp;

	info->ifi_index = (int)link->index;
	xdp = mnl_attr_nest_start(msg, IFLA_XDP);
	mnl_attr_put_u32(msg, IFLA_XDP_FD, (__u32)fd);
	mnl_attr_put_u32(msg, IFLA_XDP_FLAGS, flags);
	if (expected >= 0)
		mnl_attr_put_u32(msg, IFLA_XDP_EXPECTED_FD, (__u32)expected);
	mnl_attr_nest_end(msg, xdp);
	return nl_talk(nl, NULL, NULL, 0);
}

static bool was_generic(const struct xdp_program *p)
{
	return p->link->xdp_mode == XDP_ATTACHED_SKB;
}

int xdp_attach(struct nl *nl, struct xdp_program *p, enum nat64_xdp mode)
{
	bool generic = mode == NAT64_XDP_GENERIC;
	int err = 0;

	if (p->ours && was_generic(p) != generic) {
		err = set(nl, p->link, was_generic(p), -1, p->old_fd);
		p->detached = !err;
	}
	err = err ? err : set(nl, p->link, generic, p->fd, p->ours && !p->detached ? p->old_fd : -1);
	p->attached = !err;
	return err;
}

void xdp_undo(struct nl *nl, const struct xdp *xdp, enum nat64_xdp mode)
{
	for (size_t i = xdp->n; i-- > 0;) {
		const struct xdp_program *p = &xdp->list[i];
		bool in_place = p->ours && !p->detached;
		int err = 0;

		if (p->attached)
			err = set(nl, p->link, mode == NAT64_XDP_GENERIC, in_place ? p->old_fd : -1, p->fd);
		if (!err && p->detached)
			err = set(nl, p->link, was_generic(p), p->old_fd, -1);
		if (err && err != -ENODEV)
			msg_warn("%s: cannot undo: XDP: %s", p->link->name, nl_error(nl, err));
	}
}

int xdp_remove(struct nl *nl, const struct xdp *xdp, struct reason *why)
{
	int first = 0;

	for (size_t i = 0; i < xdp->n; i++) {
		const struct xdp_program *p = &xdp->list[i];
		int err = p->ours && !p->wanted ? set(nl, p->link, was_generic(p), -1, p->old_fd) : 0;

		if (err && err != -ENODEV && !first) /* it has gone, and all that was there */
			first = reason(why, err, "cannot detach the XDP program of %s: %s", p->link->name,
				       nl_error(nl, err));
	}
	return first;
}
