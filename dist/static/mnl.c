// SPDX-License-Identifier: GPL-2.0-or-later
/* mnl.c - what nat64 uses of libmnl, for a static binary: no distribution has a libmnl that can be linked so
 *
 * The contract is that of <libmnl/libmnl.h>; RFC 3549 and netlink(7) have the format. */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mnl_socket {
	int fd;
	struct sockaddr_nl addr;
};

/* Messages */

size_t mnl_nlmsg_get_payload_len(const struct nlmsghdr *msg)
{
	return msg->nlmsg_len - MNL_NLMSG_HDRLEN;
}

void *mnl_nlmsg_get_payload(const struct nlmsghdr *msg)
{
	return (char *)msg + MNL_NLMSG_HDRLEN;
}

/* Where the next attribute goes */
void *mnl_nlmsg_get_payload_tail(const struct nlmsghdr *msg)
{
	return (char *)msg + MNL_ALIGN(msg->nlmsg_len);
}

struct nlmsghdr *mnl_nlmsg_put_header(void *buf)
{
	struct nlmsghdr *msg = buf;

	memset(msg, 0, MNL_NLMSG_HDRLEN);
	msg->nlmsg_len = MNL_NLMSG_HDRLEN;
	return msg;
}

void *mnl_nlmsg_put_extra_header(struct nlmsghdr *msg, size_t size)
{
	void *header = mnl_nlmsg_get_payload_tail(msg);

	memset(header, 0, MNL_ALIGN(size));
	msg->nlmsg_len = MNL_ALIGN(msg->nlmsg_len) + MNL_ALIGN(size);
	return header;
}

bool mnl_nlmsg_ok(const struct nlmsghdr *msg, int len)
{
	return len >= (int)sizeof(*msg) && msg->nlmsg_len >= sizeof(*msg) && msg->nlmsg_len <= (unsigned int)len;
}

struct nlmsghdr *mnl_nlmsg_next(const struct nlmsghdr *msg, int *len)
{
	*len -= MNL_ALIGN(msg->nlmsg_len);
	return mnl_nlmsg_get_payload_tail(msg);
}

/* Attributes */

uint16_t mnl_attr_get_type(const struct nlattr *attr)
{
	return attr->nla_type & NLA_TYPE_MASK;
}

uint16_t mnl_attr_get_payload_len(const struct nlattr *attr)
{
	return attr->nla_len - MNL_ATTR_HDRLEN;
}

void *mnl_attr_get_payload(const struct nlattr *attr)
{
	return (char *)attr + MNL_ATTR_HDRLEN;
}

uint8_t mnl_attr_get_u8(const struct nlattr *attr)
{
	return *(uint8_t *)mnl_attr_get_payload(attr);
}

uint32_t mnl_attr_get_u32(const struct nlattr *attr)
{
	return *(uint32_t *)mnl_attr_get_payload(attr);
}

const char *mnl_attr_get_str(const struct nlattr *attr)
{
	return mnl_attr_get_payload(attr);
}

int mnl_attr_validate(const struct nlattr *attr, enum mnl_attr_data_type type)
{
	static const uint8_t SIZES[MNL_TYPE_MAX] = {
		[MNL_TYPE_U8] = 1, [MNL_TYPE_U16] = 2, [MNL_TYPE_U32] = 4, [MNL_TYPE_U64] = 8, [MNL_TYPE_MSECS] = 8
	};
	const char *data = mnl_attr_get_payload(attr);
	size_t len = mnl_attr_get_payload_len(attr);
	bool is_text = type == MNL_TYPE_STRING || type == MNL_TYPE_NUL_STRING;

	if (type >= MNL_TYPE_MAX || (type == MNL_TYPE_NUL_STRING && len && data[len - 1]))
		errno = EINVAL;
	else if ((SIZES[type] && len != SIZES[type]) || (is_text && !len) || (type == MNL_TYPE_FLAG && len) ||
		 (type == MNL_TYPE_NESTED && len && len < MNL_ATTR_HDRLEN))
		errno = ERANGE;
	else
		return 0;
	return -1;
}

static int parse(const char *at, size_t len, mnl_attr_cb_t cb, void *data)
{
	const struct nlattr *attr;
	int ret = MNL_CB_OK;

	for (; ret > MNL_CB_STOP && len >= sizeof(*attr); at += MNL_ALIGN(attr->nla_len)) {
		attr = (const struct nlattr *)at;
		if (attr->nla_len < sizeof(*attr) || attr->nla_len > len)
			break;
		ret = cb(attr, data);
		len -= len < (size_t)MNL_ALIGN(attr->nla_len) ? len : (size_t)MNL_ALIGN(attr->nla_len);
	}
	return ret;
}

int mnl_attr_parse(const struct nlmsghdr *msg, unsigned int offset, mnl_attr_cb_t cb, void *data)
{
	size_t len = mnl_nlmsg_get_payload_len(msg), skip = MNL_ALIGN(offset);

	return parse((char *)mnl_nlmsg_get_payload(msg) + skip, skip < len ? len - skip : 0, cb, data);
}

int mnl_attr_parse_nested(const struct nlattr *nest, mnl_attr_cb_t cb, void *data)
{
	return parse(mnl_attr_get_payload(nest), mnl_attr_get_payload_len(nest), cb, data);
}

void mnl_attr_put(struct nlmsghdr *msg, uint16_t type, size_t len, const void *data)
{
	struct nlattr *attr = mnl_nlmsg_get_payload_tail(msg);

	attr->nla_type = type;
	attr->nla_len = MNL_ATTR_HDRLEN + len;
	memset((char *)attr + MNL_ATTR_HDRLEN, 0, MNL_ALIGN(len));
	if (len)
		memcpy(mnl_attr_get_payload(attr), data, len);
	msg->nlmsg_len = MNL_ALIGN(msg->nlmsg_len) + MNL_ALIGN(attr->nla_len);
}

void mnl_attr_put_u8(struct nlmsghdr *msg, uint16_t type, uint8_t value)
{
	mnl_attr_put(msg, type, sizeof(value), &value);
}

void mnl_attr_put_u32(struct nlmsghdr *msg, uint16_t type, uint32_t value)
{
	mnl_attr_put(msg, type, sizeof(value), &value);
}

void mnl_attr_put_strz(struct nlmsghdr *msg, uint16_t type, const char *text)
{
	mnl_attr_put(msg, type, strlen(text) + 1, text);
}

struct nlattr *mnl_attr_nest_start(struct nlmsghdr *msg, uint16_t type)
{
	struct nlattr *nest = mnl_nlmsg_get_payload_tail(msg);

	mnl_attr_put(msg, type | NLA_F_NESTED, 0, NULL);
	return nest;
}

void mnl_attr_nest_end(struct nlmsghdr *msg, struct nlattr *nest)
{
	nest->nla_len = (char *)mnl_nlmsg_get_payload_tail(msg) - (char *)nest;
}

/* Sockets */

struct mnl_socket *mnl_socket_open2(int protocol, int flags)
{
	struct mnl_socket *nl = calloc(1, sizeof(*nl));

	if (!nl)
		return NULL;
	nl->fd = socket(AF_NETLINK, SOCK_RAW | flags, protocol);
	if (nl->fd >= 0)
		return nl;
	free(nl);
	return NULL;
}

int mnl_socket_bind(struct mnl_socket *nl, unsigned int groups, pid_t pid)
{
	nl->addr = (struct sockaddr_nl){ .nl_family = AF_NETLINK, .nl_groups = groups, .nl_pid = pid };
	return bind(nl->fd, (struct sockaddr *)&nl->addr, sizeof(nl->addr));
}

int mnl_socket_setsockopt(const struct mnl_socket *nl, int option, void *value, socklen_t len)
{
	return setsockopt(nl->fd, SOL_NETLINK, option, value, len);
}

ssize_t mnl_socket_sendto(const struct mnl_socket *nl, const void *msg, size_t len)
{
	static const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	return sendto(nl->fd, msg, len, 0, (const struct sockaddr *)&kernel, sizeof(kernel));
}

/* A message that was cut off, or is not the kernel's, is an error. */
ssize_t mnl_socket_recvfrom(const struct mnl_socket *nl, void *buf, size_t size)
{
	struct sockaddr_nl from = { 0 };
	struct iovec room = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &room, .msg_iovlen = 1 };
	ssize_t len = recvmsg(nl->fd, &msg, 0);

	if (len < 0)
		return len;
	if (!(msg.msg_flags & MSG_TRUNC) && msg.msg_namelen == sizeof(from) && from.nl_family == AF_NETLINK &&
	    !from.nl_pid)
		return len;
	errno = msg.msg_flags & MSG_TRUNC ? ENOSPC : EINVAL;
	return -1;
}

int mnl_socket_close(struct mnl_socket *nl)
{
	int ret = close(nl->fd);

	free(nl);
	return ret;
}
