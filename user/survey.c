// SPDX-License-Identifier: GPL-2.0-or-later
/* survey.c - whether this machine can run nat64, and which features it lacks: --check
 *
 * The checks themselves are those of loading and of --status; here their results are put into a list. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "array.h"
#include "check.h"
#include "device.h"
#include "health.h"
#include "ipsec.h"
#include "kernel.h"
#include "load.h"
#include "nft.h"
#include "object.h"
#include "offload.h"
#include "out.h"
#include "setup.h"
#include "survey.h"
#include "sysctl.h"
#include "tcx.h"
#include "xdp.h"

#define LOCKDOWN "/sys/kernel/security/lockdown"
#define GRO_MAX	 65536 /* bytes, BIG TCP has more */

enum state {
	STATE_OK,
	STATE_NOTE,    /* it works, but */
	STATE_UNKNOWN, /* nobody could look */
	STATE_FAILS,   /* it would not load, or translate nothing */
};

static const char *const STATE_NAMES[] = {
	[STATE_OK] = "ok",
	[STATE_NOTE] = "note",
	[STATE_UNKNOWN] = "unknown",
	[STATE_FAILS] = "fails",
};

struct finding {
	enum state state;
	const char *what;
	char text[512]; /* and in brackets what helps */
};

struct survey {
	struct nl *nl;
	const struct options *o;
	const struct link *link, *ports; /* or NULL */
	size_t n_ports;
	struct trial trial;
	bool can_load; /* and .trial tells how */
	struct finding *list;
	size_t n;
	int err; /* no memory for all of them */
};

__attribute__((format(printf, 4, 5))) static void found(struct survey *s, enum state state, const char *what,
							const char *fmt, ...)
{
	struct finding *more = array_room(s->list, s->n, sizeof(*more)), *f;
	va_list args;

	if (!more) {
		s->err = -ENOMEM;
		return;
	}
	s->list = more;
	f = &s->list[s->n];
	f->state = state;
	f->what = what;
	va_start(args, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, args);
	va_end(args);
	s->n++;
}

/* The interfaces that the options name: the one that the routes lead to, then ports. NULL: no more. */
static const struct link *link_at(const struct survey *s, size_t i)
{
	return !i ? s->link : s->link && i <= s->n_ports ? &s->ports[i - 1] : NULL;
}

static void look_at_kernel(struct survey *s)
{
	struct utsname uts = { 0 };

	uname(&uts);
	found(s, STATE_OK, "nat64", "%s", NAT64_VERSION);
	if (kernel_is_before(5, 10))
		found(s, STATE_FAILS, "kernel", "Linux %s %s: too old (Linux 5.10)", uts.release, uts.machine);
	else
		found(s, STATE_OK, "kernel", "Linux %s %s%s", uts.release, uts.machine,
		      strstr(uts.version, "PREEMPT_RT") ? ", PREEMPT_RT" : "");
	if (kernel_interleaves())
		found(s, STATE_NOTE, "PREEMPT_RT", "%s", KERNEL_INTERLEAVES);
}

static void look_at_capabilities(struct survey *s)
{
	struct reason why = { "" };

	if (check_capabilities(TASK_LOAD, &why))
		found(s, check_may_ever(TASK_LOAD) ? STATE_NOTE : STATE_FAILS, "capabilities", "%s%s", why.text,
		      check_may_ever(TASK_LOAD) ? " (run it as root)" : ", which nobody here can have (a container?)");
	else if (check_capabilities(TASK_RELOAD, &why))
		found(s, STATE_NOTE, "capabilities", "%s", why.text);
	else
		found(s, STATE_OK, "capabilities", "all that it needs");
}

/* "none [integrity] confidentiality" */
static bool is_locked_down(const char *level)
{
	FILE *file = fopen(LOCKDOWN, "re");
	char line[128] = "", word[32];
	bool found;

	snprintf(word, sizeof(word), "[%s]", level);
	found = file && fgets(line, sizeof(line), file) && strstr(line, word);
	if (file)
		fclose(file);
	return found;
}

static void look_at_lockdown(struct survey *s)
{
	if (is_locked_down("confidentiality") && !(s->can_load && s->trial.btf))
		found(s, STATE_NOTE, "lockdown",
		      "confidentiality: the slower form of the programs cannot see IPsec policies (lockdown=integrity)");
	else
		found(s, STATE_OK, "lockdown", "%s",
		      is_locked_down("confidentiality") ? "confidentiality, which does no harm here"
		      : is_locked_down("integrity")	? "integrity, which does no harm here"
		      : access(LOCKDOWN, R_OK)		? "none that can be seen (securityfs)"
							: "none");
}

/* Why the kernel has not taken the faster form */
static const char *why_slower(const struct survey *s)
{
	if (kernel_is_before(6, 2))
		return "Linux 6.2";
	if (access(KERNEL_BTF_FILE, R_OK))
		return "CONFIG_DEBUG_INFO_BTF";
	return s->trial.jited ? "see -v" : "sysctl net.core.bpf_jit_enable=1";
}

static void look_at_programs(struct survey *s)
{
	struct reason why = { "" };
	int err;

	if (access(KERNEL_BTF_FILE, R_OK))
		found(s, STATE_NOTE, "BTF",
		      "the kernel has none: IPsec policies cannot be seen (CONFIG_DEBUG_INFO_BTF)");
	else
		found(s, STATE_OK, "BTF", "%s", KERNEL_BTF_FILE);
	if (check_capabilities(TASK_LOAD, &why)) {
		found(s, STATE_UNKNOWN, "programs", "could not be tried: %s", why.text);
		return;
	}
	err = programs_try(s->o, &s->trial, &why);
	s->can_load = !err;
	if (err)
		found(s, STATE_FAILS, "programs", "%s", why.text);
	else if (s->trial.btf)
		found(s, STATE_OK, "programs", "the kernel takes them, in the faster form");
	else
		found(s, STATE_NOTE, "programs", "the kernel takes them, in the slower form (%s)", why_slower(s));
}

/* What programs use of the kernel that not every kernel has. To load them says more, but not of which it is the matter. */
static void look_at_features(struct survey *s)
{
	struct reason why = { "see programs" };
	bool lacks_btf = access(KERNEL_BTF_FILE, R_OK);

	check_capabilities(TASK_LOAD, &why);
	if (s->can_load)
		found(s, STATE_OK, "redirect_neigh",
		      "the kernel has bpf_redirect_neigh, and whatever else programs need");
	else if (!libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_redirect_neigh, NULL))
		found(s, STATE_FAILS, "redirect_neigh", "the kernel has no bpf_redirect_neigh (Linux 5.10)");
	else
		found(s, STATE_UNKNOWN, "redirect_neigh", "could not be tried: %s", why.text);

	if (lacks_btf)
		found(s, STATE_NOTE, "kfuncs",
		      "cannot be found without BTF, so that programs are in the slower form (CONFIG_DEBUG_INFO_BTF)");
	else if (kernel_has_function("bpf_cast_to_kern_ctx"))
		found(s, STATE_OK, "kfuncs", "bpf_cast_to_kern_ctx, for the faster form of the programs");
	else
		found(s, STATE_NOTE, "kfuncs",
		      "no bpf_cast_to_kern_ctx, so that programs are in the slower form (Linux 6.2)");

	if (!s->can_load)
		found(s, STATE_UNKNOWN, "XDP", "could not be tried: %s", why.text);
	else if (kernel_has_xdp_frags())
		found(s, STATE_OK, "XDP", "for --xdp, and for a large MTU if the driver can");
	else
		found(s, STATE_NOTE, "XDP", "for --xdp, with an MTU of some 3500 bytes at most (Linux 5.18)");
}

static void look_at_jit(struct survey *s)
{
	int enabled = sysctl_read("net/core", NULL, "bpf_jit_enable");
	int harden = sysctl_read("net/core", NULL, "bpf_jit_harden");
	bool off = s->can_load ? !s->trial.jited : !enabled;

	if (!s->can_load && enabled < 0)
		found(s, STATE_UNKNOWN, "JIT", "net.core.bpf_jit_enable cannot be read, and no program was loaded");
	else if (off)
		found(s, STATE_NOTE, "JIT", "%s: the kernel interprets BPF programs, which is slow (%s)",
		      enabled > 0 ? "none"
		      : !enabled  ? "off"
				  : "none, or off",
		      enabled > 0 ? "CONFIG_BPF_JIT"
		      : !enabled  ? "sysctl net.core.bpf_jit_enable=1"
				  : "CONFIG_BPF_JIT, sysctl net.core.bpf_jit_enable=1");
	else if (harden == 2)
		found(s, STATE_NOTE, "JIT",
		      "hardened also for root, which makes programs slower (sysctl net.core.bpf_jit_harden=1)");
	else
		found(s, STATE_OK, "JIT", "on");
}

static void look_at_tcx(struct survey *s)
{
	struct reason why = { "" };
	struct tcx_row row = { .n = 0 };
	int err = tcx_query(if_nametoindex("lo"), TCX_INGRESS, &row);

	if (!err)
		found(s, STATE_OK, "tcx", "programs need no qdisc");
	else if (err == -EOPNOTSUPP || kernel_is_before(6, 6))
		found(s, STATE_NOTE, "tcx",
		      "none (Linux 6.6): programs are filters of a clsact qdisc (CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF)");
	else
		found(s, STATE_UNKNOWN, "tcx", "%s", check_capabilities(TASK_UNLOAD, &why) ? why.text : strerror(-err));
}

static void look_at_ipv6(struct survey *s)
{
	switch (sysctl_read("net/ipv6/conf/all", NULL, "disable_ipv6")) {
	case 0:
		found(s, STATE_OK, "IPv6", "enabled");
		break;
	case -ENOENT:
		found(s, STATE_FAILS, "IPv6", "the kernel has none (CONFIG_IPV6, and no ipv6.disable=1)");
		break;
	case -ENODATA:
		found(s, STATE_UNKNOWN, "IPv6", "/proc is not mounted");
		break;
	default:
		found(s, STATE_NOTE, "IPv6",
		      "is disabled on most interfaces (sysctl net.ipv6.conf.all.disable_ipv6=0)");
	}
}

/* Where packets come in: on the interfaces that are named, or as a device would have it that is yet to be made. */
static void look_at_forwarding(struct survey *s)
{
	const struct link any = device_planned(""), *link;
	struct problems p = { .n = 0 };
	size_t before = s->n;

	if (!s->link)
		health_forwarding(s->nl, &any, &p);
	for (size_t i = 0; i < p.n; i++)
		found(s, STATE_FAILS, "forwarding", "%s", p.list[i].text);
	for (size_t i = 0; (link = link_at(s, i)); i++) {
		p.n = 0;
		health_forwarding(s->nl, link, &p);
		for (size_t j = 0; j < p.n; j++)
			found(s, STATE_FAILS, "forwarding", "%s: %s", link->name, p.list[j].text);
	}
	if (s->n == before && sysctl_read("net/ipv4", NULL, "ip_forward") >= 0)
		found(s, STATE_OK, "forwarding", "IPv4 and IPv6");
	else if (s->n == before)
		found(s, STATE_UNKNOWN, "forwarding", "/proc is not mounted");
}

static void look_at_rp_filter(struct survey *s)
{
	const struct link *link;

	for (size_t i = 0; (link = link_at(s, i)); i++) {
		if (link->own)
			continue;
		if (i && link_is_rp_filtered(s->nl, link))
			found(s, STATE_NOTE, "rp_filter",
			      "%s: on: what has become IPv4 goes by the device, which costs speed (sysctl "
			      "net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.%s.rp_filter=0)",
			      link->name, sysctl_name(link->name).s);
		else
			found(s, STATE_OK, "rp_filter", "%s: does no harm", link->name);
	}
}

static void look_at_bridges(struct survey *s)
{
	const struct link *link;
	bool there;

	for (size_t i = 0; (link = link_at(s, i)); i++)
		if (kernel_bridge_nf(s->nl, link, &there))
			found(s, STATE_UNKNOWN, "br_netfilter", "%s: cannot list the interfaces", link->name);
		else if (there)
			found(s, STATE_NOTE, "br_netfilter",
			      "%s: packets meet netfilter twice (sysctl net.bridge.bridge-nf-call-ip6tables=0)",
			      link->name);
		else
			found(s, STATE_OK, "br_netfilter", "%s: does no harm", link->name);
}

static void look_at_flowtables(struct survey *s)
{
	struct nft_flowtables f;
	int err = nft_flowtables(&f);

	if (err)
		found(s, STATE_UNKNOWN, "flow tables", "%s",
		      err == -EPERM ? "to see those of nftables takes CAP_NET_ADMIN" : strerror(-err));
	else if (f.hardware)
		found(s, STATE_NOTE, "flow tables",
		      "%s of table %s offloads to hardware, which nobody has tried with nat64 (flags offload)", f.name,
		      f.table);
	else if (f.n)
		found(s, STATE_OK, "flow tables", "%s of table %s, for translated flows as for others", f.name,
		      f.table);
	else
		found(s, STATE_OK, "flow tables", "none");
}

static void look_at_ipsec(struct survey *s)
{
	int there = ipsec_has_policies();
	bool seen = !access(KERNEL_BTF_FILE, R_OK) && (s->trial.btf || !is_locked_down("confidentiality"));

	if (there < 0)
		found(s, STATE_UNKNOWN, "IPsec", "%s",
		      there == -EPERM ? "to see the policies takes CAP_NET_ADMIN" : strerror(-there));
	else if (!there)
		found(s, STATE_OK, "IPsec", "no policies");
	else if (!seen)
		found(s, STATE_FAILS, "IPsec",
		      "there are policies, which cannot be seen here: packets might leave in the clear (--device)");
	else
		found(s, STATE_NOTE, "IPsec",
		      "there are policies: packets go by the IPv6 stack, and --fast is out of use");
}

/* VLANs on an interface: their frames are those of the interfaces above. */
static void look_at_vlans(struct survey *s, const struct link *link)
{
	char names[256] = "";
	struct link *links;
	size_t n_links, n = 0;

	if (link_list(s->nl, &links, &n_links))
		return;
	for (size_t i = 0; i < n_links && n < sizeof(names); i++)
		if (links[i].lower == link->index && !strcmp(links[i].kind, "vlan"))
			n += snprintf(names + n, sizeof(names) - n, "%s-i %s", n ? " " : "", links[i].name);
	free(links);
	if (n)
		found(s, STATE_NOTE, "VLANs", "%s: tagged frames are not translated there (%s, or --device)",
		      link->name, names);
}

static void look_at_interface(struct survey *s, const struct link *link)
{
	size_t before = s->n;

	if (link->xdp_mode && !xdp_is_ours(link))
		found(s, STATE_NOTE, "XDP",
		      "%s: a program sees packets before nat64 does, and what it takes never comes", link->name);
	if (offload_is_on(link->name, "rx-udp-gro-forwarding") > 0)
		found(s, STATE_NOTE, "offloads",
		      "%s: merged UDP packets keep their size, also above --lowest-ipv6-mtu (ethtool -K %s rx-udp-gro-forwarding off)",
		      link->name, link->name);
	if (link->gro_max > GRO_MAX)
		found(s, STATE_NOTE, "offloads",
		      "%s: packets merged to more than 64 kB, BIG TCP, are dropped (ip link set %s gro_max_size %d gro_ipv4_max_size %d)",
		      link->name, link->name, GRO_MAX, GRO_MAX);
	if (s->n == before)
		found(s, STATE_OK, "offloads", "%s: none that harms", link->name);
}

static void look_at_interfaces(struct survey *s)
{
	const struct link *link;

	for (size_t i = 0; (link = link_at(s, i)); i++) {
		if (link->own)
			continue;
		look_at_vlans(s, link);
		look_at_interface(s, link);
	}
}

static void caught(bool failed, const char *text, void *data)
{
	const struct survey *s = data;

	for (size_t i = 0; i < s->n; i++)
		if (!strcmp(s->list[i].text, text))
			return; /* found already */
	found(data, failed ? STATE_FAILS : STATE_NOTE, "set-up", "%s", text);
}

/* What those say who would load it, as far as this process may ask them. */
static void look_at_setup(struct survey *s)
{
	int err;

	if (!s->link)
		return;
	msg_catch(caught, s);
	err = s->can_load ? setup_load(s->nl, s->link, s->ports, s->n_ports, s->o)
			  : setup_look(s->nl, s->link, s->ports, s->n_ports, s->o);
	msg_catch(NULL, NULL);
	if (err)
		return;
	if (!s->can_load)
		found(s, STATE_UNKNOWN, "set-up",
		      "%s: addresses and routes are not in the way; its hooks could not be looked at", s->link->name);
	else if (s->o->v4_prefix.len == NAT64_V4_LEN_NONE && !s->o->statics.n)
		found(s, STATE_OK, "set-up", "%s: can be loaded (with -4 and -a it would be known for certain)",
		      s->link->name);
	else
		found(s, STATE_OK, "set-up", "%s: can be loaded", s->link->name);
}

static int print(const struct survey *s, size_t n_failed)
{
	struct out o;

	out_begin(&o, stdout, s->o->json);
	out_bool(&o, "can_run", !n_failed);
	out_array(&o, "findings");
	for (size_t i = 0; i < s->n; i++) {
		out_object(&o, NULL);
		out_string(&o, "state", "%-8s ", STATE_NAMES[s->list[i].state]);
		out_string(&o, "what", "%-14s ", s->list[i].what);
		out_string(&o, "text", "%s\n", s->list[i].text);
		out_close(&o);
	}
	out_close(&o);
	return out_end(&o);
}

int survey_show(struct nl *nl, const struct link *link, const struct link *ports, size_t n_ports,
		const struct options *o)
{
	struct survey s = { .nl = nl, .o = o, .link = link, .ports = ports, .n_ports = n_ports };
	const char *first = NULL;
	size_t n_failed = 0;
	int err;

	look_at_kernel(&s);
	look_at_capabilities(&s);
	look_at_programs(&s);
	look_at_features(&s);
	look_at_jit(&s);
	look_at_lockdown(&s);
	look_at_tcx(&s);
	look_at_ipv6(&s);
	look_at_forwarding(&s);
	look_at_rp_filter(&s);
	look_at_bridges(&s);
	look_at_flowtables(&s);
	look_at_ipsec(&s);
	look_at_interfaces(&s);
	look_at_setup(&s);
	for (size_t i = 0; i < s.n; i++) {
		if (s.list[i].state != STATE_FAILS)
			continue;
		first = first ? first : s.list[i].text;
		n_failed++;
	}
	err = s.err ? s.err : print(&s, n_failed);
	if (err)
		msg_fail(err, "cannot %s: %s", s.err ? "list what was found" : "write", strerror(-err));
	else if (n_failed > 1)
		err = msg_fail(-EIO, "cannot run here: %s; and %zu more", first, n_failed - 1);
	else if (n_failed)
		err = msg_fail(-EIO, "cannot run here: %s", first);
	free(s.list);
	return err;
}
