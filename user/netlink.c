// SPDX-License-Identifier: GPL-2.0-or-later
/* netlink.c - requests to the kernel's rtnetlink */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "netlink.h"

#define ANSWER_SIZE   65536
#define DUMP_ATTEMPTS 20

int nl_open(struct nl *nl, int protocol)
{
	int on = 1;

	memset(nl, 0, sizeof(*nl));
	nl->answer = malloc(ANSWER_SIZE);
	if (!nl->answer)
		return -ENOMEM;
	nl->socket = mnl_socket_open2(protocol, SOCK_CLOEXEC);
	if (!nl->socket || mnl_socket_bind(nl->socket, 0, MNL_SOCKET_AUTOPID))
		return -errno;
	/* With NETLINK_GET_STRICT_CHK a dump is restricted to what the request asks for; without it the kernel ignores that. */
	if (mnl_socket_setsockopt(nl->socket, NETLINK_EXT_ACK, &on, sizeof(on)) ||
	    mnl_socket_setsockopt(nl->socket, NETLINK_GET_STRICT_CHK, &on, sizeof(on)))
		return -errno;
	return 0;
}

void nl_close(struct nl *nl)
{
	if (nl->socket)
		mnl_socket_close(nl->socket);
	free(nl->answer);
	nl->socket = NULL;
	nl->answer = NULL;
}

struct nlmsghdr *nl_request(struct nl *nl, __u16 type, __u16 flags, size_t size, void *header)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(nl->request);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = NLM_F_REQUEST | flags;
	msg->nlmsg_seq = ++nl->seq;
	*(void **)header = mnl_nlmsg_put_extra_header(msg, size);
	nl->second = NULL;
	return msg;
}

struct nlmsghdr *nl_second(struct nl *nl, __u16 type, size_t size, void *header)
{
	const struct nlmsghdr *first = (struct nlmsghdr *)nl->request;

	nl->second = mnl_nlmsg_put_header(nl->request + MNL_ALIGN(first->nlmsg_len));
	nl->second->nlmsg_type = type;
	nl->second->nlmsg_flags = NLM_F_REQUEST;
	*(void **)header = mnl_nlmsg_put_extra_header(nl->second, size);
	return nl->second;
}

static int kernel_words(const struct nlattr *attr, void *data)
{
	struct reason *why = data;

	if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG && !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING))
		reason(why, 0, "%s", mnl_attr_get_str(attr));
	return MNL_CB_OK;
}

/* NLMSG_ERROR: the verdict (0: done), and the kernel's words behind the request, which it may quote. */
static int verdict(struct nl *nl, const struct nlmsghdr *msg)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(msg);
	size_t offset = sizeof(*e);

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*e))
		return -EBADMSG;
	if (!(msg->nlmsg_flags & NLM_F_CAPPED))
		offset += e->msg.nlmsg_len - sizeof(e->msg);
	if (msg->nlmsg_flags & NLM_F_ACK_TLVS)
		mnl_attr_parse(msg, offset, kernel_words, &nl->kernel);
	return e->error;
}

/* Returns 1 to go on, 0 when done, or a negative errno; -EINTR: the dump is inconsistent, but was read to its end. */
static int one_answer(struct nl *nl, const struct nlmsghdr *msg, nl_cb cb, void *data, bool *interrupted)
{
	if (msg->nlmsg_seq != nl->seq || msg->nlmsg_type == NLMSG_NOOP)
		return 1;
	if (msg->nlmsg_flags & NLM_F_DUMP_INTR)
		*interrupted = true;
	switch (msg->nlmsg_type) {
	case NLMSG_ERROR:
		return verdict(nl, msg);
	case NLMSG_OVERRUN:
		return -ENOBUFS;
	case NLMSG_DONE:
		if (mnl_nlmsg_get_payload_len(msg) >= sizeof(int) && *(int *)mnl_nlmsg_get_payload(msg) < 0)
			return *(int *)mnl_nlmsg_get_payload(msg);
		return *interrupted ? -EINTR : 0;
	default:
		if (cb)
			cb(msg, data);
		return 1;
	}
}

static int talk_once(struct nl *nl, nl_cb cb, void *data)
{
	const struct nlmsghdr *request = (struct nlmsghdr *)nl->request, *last = nl->second ? nl->second : request;
	bool interrupted = false;
	int len, ret;

	nl->kernel.text[0] = 0;
	if (mnl_socket_sendto(nl->socket, request, (const char *)last + last->nlmsg_len - nl->request) < 0)
		return -errno;
	for (;;) {
		const struct nlmsghdr *msg = (struct nlmsghdr *)nl->answer;

		len = mnl_socket_recvfrom(nl->socket, nl->answer, ANSWER_SIZE);
		if (len < 0)
			return -errno;
		for (; mnl_nlmsg_ok(msg, len); msg = mnl_nlmsg_next(msg, &len)) {
			ret = one_answer(nl, msg, cb, data, &interrupted);
			if (ret <= 0)
				return ret;
		}
	}
}

int nl_talk(struct nl *nl, nl_cb cb, void *data, size_t size)
{
	struct nlmsghdr *request = (struct nlmsghdr *)nl->request;
	void *first = NULL;
	int err = -ENOMEM;

	if ((request->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		request->nlmsg_flags |= NLM_F_ACK;
	if (size) {
		first = malloc(size);
		if (!first)
			return err;
		memcpy(first, data, size);
	}
	for (int i = 0; i < DUMP_ATTEMPTS; i++) {
		err = talk_once(nl, cb, data);
		if (err != -EINTR)
			break;
		if (size)
			memcpy(data, first, size);
		request->nlmsg_seq = ++nl->seq;
	}
	free(first);
	return err;
}

const char *nl_error(const struct nl *nl, int err)
{
	return nl->kernel.text[0] ? nl->kernel.text : strerror(-err);
}
