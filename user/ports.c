// SPDX-License-Identifier: GPL-2.0-or-later
/* ports.c - the interfaces of a translator, by number */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "ports.h"

/* Is it in the layout that this version knows? */
static bool is_known(int map)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);

	return map >= 0 && !bpf_obj_get_info_by_fd(map, &info, &len) && info.value_size == sizeof(struct nat64_port) &&
	       info.max_entries == NAT64_PORTS + 1;
}

int ports_read(int map, struct ports *p)
{
	*p = (struct ports){ 0 };
	if (!is_known(map))
		return 0;
	for (__u32 i = 1; i <= NAT64_PORTS; i++)
		if (bpf_map_lookup_elem(map, &i, &p->of[i]))
			return -errno;
	return 0;
}

__u32 ports_number(const struct ports *p, unsigned int ifindex)
{
	for (__u32 i = 1; i <= NAT64_PORTS; i++)
		if (p->of[i].ifindex == ifindex)
			return i;
	return 0;
}

/* Next hops may be remembered with numbers of before for a moment: so one that was somebody else's is the last choice. */
static __u32 choose(const struct ports *p, const struct ports *before)
{
	__u32 second = 0;

	for (__u32 i = 1; i <= NAT64_PORTS; i++) {
		if (p->of[i].ifindex)
			continue;
		if (!before->of[i].ifindex)
			return i;
		second = second ? second : i;
	}
	return second;
}

__u32 ports_add(struct ports *p, const struct ports *before, const struct link *link)
{
	__u32 number = ports_number(before, link->index);

	if (!number)
		number = choose(p, before);
	if (!number)
		return 0;
	p->of[number] = (struct nat64_port){ .ifindex = link->index, .mtu = link->mtu, .l3 = link->l3 };
	memcpy(p->of[number].name, link->name, sizeof(p->of[number].name));
	return number;
}

int ports_write(int map, int numbers, const struct ports *p)
{
	for (__u32 i = 1; i <= NAT64_PORTS; i++) {
		const struct nat64_port *port = &p->of[i];

		if (port->ifindex && bpf_map_update_elem(map, &i, port, BPF_ANY))
			return -errno;
		if (port->ifindex && !port->leaving && bpf_map_update_elem(numbers, &port->ifindex, &i, BPF_ANY))
			return -errno;
	}
	return 0;
}

int ports_forget(int map, __u32 number)
{
	const struct nat64_port none = { 0 };

	return bpf_map_update_elem(map, &number, &none, BPF_ANY) ? -errno : 0;
}
