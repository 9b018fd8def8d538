/* SPDX-License-Identifier: GPL-2.0-or-later */
/* survey.h - whether this machine can run nat64, and which features it lacks: --check */
#ifndef NAT64_SURVEY_H
#define NAT64_SURVEY_H

#include "link.h"
#include "netlink.h"
#include "options.h"

/* Looks at the machine, and, if link is not NULL, at what would become of the options on that link, and ports if it is a device.
 * Changes nothing, loads no module of the kernel, and takes no privileges: what it could not look at for want of them, it says.
 * 0, or a negative errno after having said why: also if something fails. */
int survey_show(struct nl *nl, const struct link *link, const struct link *ports, size_t n_ports,
		const struct options *o);

#endif
