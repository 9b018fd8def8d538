// SPDX-License-Identifier: GPL-2.0-or-later
/* ipsec.c - the IPsec policies of this network namespace */
#include <errno.h>
#include <linux/xfrm.h>
#include <string.h>

#include "ipsec.h"
#include "kernel.h"
#include "netlink.h"

static int count_attr(const struct nlattr *attr, void *data)
{
	struct xfrmu_spdinfo info;
	int *there = data;

	if (mnl_attr_get_type(attr) != XFRMA_SPD_INFO || mnl_attr_get_payload_len(attr) < sizeof(info))
		return MNL_CB_OK;
	memcpy(&info, mnl_attr_get_payload(attr), sizeof(info));
	*there |= info.outcnt || info.fwdcnt;
	return MNL_CB_OK;
}

static void count_answer(const struct nlmsghdr *msg, void *data)
{
	mnl_attr_parse(msg, sizeof(__u32), count_attr, data);
}

static void default_answer(const struct nlmsghdr *msg, void *data)
{
	const struct xfrm_userpolicy_default *d = mnl_nlmsg_get_payload(msg);
	int *there = data;

	*there |= mnl_nlmsg_get_payload_len(msg) >= sizeof(*d) &&
		  (d->fwd == XFRM_USERPOLICY_BLOCK || d->out == XFRM_USERPOLICY_BLOCK);
}

int ipsec_has_policies(void)
{
	int there = 0, err;
	struct nl nl;
	__u32 *flags;

	if (!kernel_has("xfrm_user"))
		return 0;
	err = nl_open(&nl, NETLINK_XFRM);
	if (!err) {
		nl_request(&nl, XFRM_MSG_GETSPDINFO, 0, sizeof(*flags), &flags);
		err = nl_talk(&nl, count_answer, &there, 0);
	}
	if (!err) {
		nl_request(&nl, XFRM_MSG_GETDEFAULT, 0, sizeof(struct xfrm_userpolicy_default), &flags);
		nl_talk(&nl, default_answer, &there, 0); /* older kernels have no default */
	}
	nl_close(&nl);
	return err == -EPROTONOSUPPORT ? 0 : err ? err : there; /* the kernel has no IPsec */
}
