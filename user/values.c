// SPDX-License-Identifier: GPL-2.0-or-later
/* values.c - the values of options, as the table of nat64.c names them */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "names.h"
#include "options.h"

#define MIN_IPV6_MTU 1280

int parse_interface(const char *arg, void *value, struct reason *why)
{
	struct ifname *name = value;

	if (!*arg || strlen(arg) >= sizeof(name->s))
		return reason(why, -EINVAL, "no such interface");
	memcpy(name->s, arg, strlen(arg));
	return 0;
}

/* One may be named on the command line and in the file. */
int append_interface(struct options *o, const void *value)
{
	const struct ifname *name = value;
	struct ifname *more;

	for (size_t i = 0; i < o->n_ports; i++)
		if (!strcmp(o->ports[i].s, name->s))
			return 0;
	more = array_room(o->ports, o->n_ports, sizeof(*more));
	if (!more)
		return -ENOMEM;
	o->ports = more;
	more[o->n_ports++] = *name;
	return 0;
}

/* What the kernel takes for the name of an interface, but none with %, which it would take for a pattern */
int parse_device(const char *arg, void *value, struct reason *why)
{
	size_t n = strlen(arg);

	if (!n || n >= IF_NAMESIZE || !strcmp(arg, ".") || !strcmp(arg, "..") || strpbrk(arg, "/:% \t\n"))
		return reason(why, -EINVAL, "cannot be the name of an interface");
	memcpy(value, arg, n);
	return 0;
}

int parse_pool(const char *arg, void *value, struct reason *why)
{
	struct prefix4 *p = value;
	const char *what;

	if (parse_prefix4(arg, p, why))
		return -EINVAL;
	if (p->len < NAT64_V4_LEN_MIN || p->len > NAT64_V4_LEN_MAX)
		return reason(why, -EINVAL, "prefix length must be %d to %d", NAT64_V4_LEN_MIN, NAT64_V4_LEN_MAX);
	if (check_network4(p, why))
		return -EINVAL;
	what = prefix4_special(p);
	if (what)
		return reason(why, -EINVAL, "no addresses for hosts: %s", what);
	return 0;
}

/* RFC 6052 section 2.2 */
int parse_give_out(const char *arg, void *value, struct reason *why)
{
	struct prefix4 *p = value;

	if (parse_prefix4(arg, p, why) || check_network4(p, why))
		return -EINVAL;
	return p->len < NAT64_V4_LEN_MIN ? reason(why, -EINVAL, "prefix length must be %d to 32", NAT64_V4_LEN_MIN) : 0;
}

int parse_nat64_prefix(const char *arg, void *value, struct reason *why)
{
	struct prefix6 *p = value;
	const char *what;

	if (parse_prefix6(arg, p, why))
		return -EINVAL;
	if (p->len != 32 && p->len != 40 && p->len != 48 && p->len != 56 && p->len != 64 && p->len != 96)
		return reason(why, -EINVAL, "prefix length must be 32, 40, 48, 56, 64 or 96");
	if (check_network6(p, why))
		return -EINVAL;
	if (p->addr.b[8])
		return reason(why, -EINVAL, "bits 64 to 71 of a NAT64 prefix must be zero (RFC 6052)");
	what = prefix6_special(p);
	return what ? reason(why, -EINVAL, "overlaps the %s", what) : 0;
}

int parse_allowed(const char *arg, void *value, struct reason *why)
{
	struct prefix6 *p = value;
	const char *what;

	if (parse_prefix6(arg, p, why) || check_network6(p, why))
		return -EINVAL;
	what = prefix6_within_special(p);
	return what ? reason(why, -EINVAL, "never translated: lies within the %s", what) : 0;
}

int append_allowed(struct options *o, const void *value)
{
	struct prefix6 *more = array_room(o->allowed, o->n_allowed, sizeof(*more));

	if (!more)
		return -ENOMEM;
	o->allowed = more;
	more[o->n_allowed++] = *(const struct prefix6 *)value;
	return 0;
}

int parse_timeout(const char *arg, void *value, struct reason *why)
{
	return parse_number(arg, 1, NAT64_TIMEOUT_MAX, value, why);
}

int parse_per_prefix(const char *arg, void *value, struct reason *why)
{
	struct per_prefix *p = value;
	const char *sep = strchr(arg, '=');
	char len[8];

	if (!sep)
		return reason(why, -EINVAL, "not a prefix length, =, and a number");
	snprintf(len, sizeof(len), "%.*s", (int)(sep - arg < (long)sizeof(len) ? sep - arg : (long)sizeof(len)), arg);
	if (parse_number(len, 1, 128, &p->len, why))
		return reason(why, -EINVAL, "prefix length must be a number of 1 to 128");
	if (parse_number(sep + 1, 1, 1U << (32 - NAT64_V4_LEN_MIN), &p->limit, why))
		return reason(why, -EINVAL, "mappings must be a number of 1 to %u", 1U << (32 - NAT64_V4_LEN_MIN));
	return 0;
}

int parse_icmp_src(const char *arg, void *value, struct reason *why)
{
	struct prefix4 host = { .len = 32 };
	const char *what;
	int err;

	err = parse_addr4(arg, &host.addr, why);
	if (err)
		return err;
	what = prefix4_special(&host);
	if (what)
		return reason(why, -EINVAL, "not the address of a host: %s", what);
	*(__be32 *)value = host.addr;
	return 0;
}

int parse_mtu(const char *arg, void *value, struct reason *why)
{
	return parse_number(arg, MIN_IPV6_MTU, 65535, value, why);
}

int parse_rate(const char *arg, void *value, struct reason *why)
{
	return parse_number(arg, 0, NAT64_RATE_MAX, value, why);
}

int parse_xdp(const char *arg, void *value, struct reason *why)
{
	__u8 *mode = value;

	*mode = NAT64_XDP_NATIVE;
	while (*arg && *mode < NAT64_XDP_MODES && strcmp(arg, XDP_NAMES[*mode]))
		++*mode;
	return *mode == NAT64_XDP_MODES ? reason(why, -EINVAL, "not native, veth or generic") : 0;
}

int parse_octet(const char *arg, void *value, struct reason *why)
{
	struct octet *octet = value;
	__u32 n;
	int err;

	if (arg[0] == '0' && (arg[1] == 'x' || arg[1] == 'X')) {
		size_t digits = strspn(arg + 2, "0123456789abcdefABCDEF");

		if (!digits || arg[2 + digits])
			return reason(why, -EINVAL, "not a number");
		if (strlen(arg) > 4)
			return reason(why, -EINVAL, "must be 0x0 to 0xff");
		n = strtoul(arg, NULL, 16);
	} else {
		err = parse_number(arg, 0, 255, &n, why);
		if (err)
			return err;
	}
	*octet = (struct octet){ .set = 1, .value = n };
	return 0;
}

int parse_static(const char *arg, void *value, struct reason *why)
{
	return static_parse(arg, value, why);
}

int append_static(struct options *o, const void *value)
{
	struct static_mapping m = *(const struct static_mapping *)value;

	m.line = o->line;
	return statics_append(&o->statics, &m);
}

int parse_address(const char *arg, void *value, struct reason *why)
{
	struct address *a = value;

	a->is_v6 = inet_pton(AF_INET6, arg, &a->v6) == 1;
	if (!a->is_v6 && inet_pton(AF_INET, arg, &a->v4) != 1)
		return reason(why, -EINVAL, "not an address");
	return 0;
}

int parse_path(const char *arg, void *value, struct reason *why)
{
	if (!*arg)
		return reason(why, -EINVAL, "no file name");
	*(const char **)value = arg;
	return 0;
}
