// SPDX-License-Identifier: GPL-2.0-or-later
/* offload.c - what an interface does for the kernel */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "offload.h"

static int ask(int fd, const char *ifname, void *request)
{
	struct ifreq ifr = { .ifr_data = request };

	strncpy(ifr.ifr_name, ifname, sizeof(ifr.ifr_name) - 1);
	return ioctl(fd, SIOCETHTOOL, &ifr) ? -errno : 0;
}

/* How many features the kernel knows. 0: it does not say. */
static __u32 count_features(int fd, const char *ifname)
{
	struct ethtool_sset_info *set = calloc(1, sizeof(*set) + sizeof(set->data[0]));
	__u32 n = 0;

	if (!set)
		return 0;
	set->cmd = ETHTOOL_GSSET_INFO;
	set->sset_mask = 1ULL << ETH_SS_FEATURES;
	if (!ask(fd, ifname, set) && set->sset_mask)
		n = set->data[0];
	free(set);
	return n;
}

/* The number of a feature. n: it has none. */
static __u32 find_feature(int fd, const char *ifname, const char *feature, __u32 n)
{
	struct ethtool_gstrings *names = calloc(1, sizeof(*names) + (size_t)n * ETH_GSTRING_LEN);
	__u32 i = n;

	if (!names)
		return n;
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_FEATURES;
	names->len = n;
	if (!ask(fd, ifname, names))
		for (i = 0;
		     i < n && strncmp((char *)names->data + (size_t)i * ETH_GSTRING_LEN, feature, ETH_GSTRING_LEN);)
			i++;
	free(names);
	return i;
}

static int is_on(int fd, const char *ifname, __u32 feature)
{
	__u32 blocks = feature / 32 + 1;
	struct ethtool_gfeatures *f = calloc(1, sizeof(*f) + blocks * sizeof(f->features[0]));
	int ret;

	if (!f)
		return -ENOMEM;
	f->cmd = ETHTOOL_GFEATURES;
	f->size = blocks;
	ret = ask(fd, ifname, f);
	ret = ret ? ret : (int)(f->features[feature / 32].active >> feature % 32 & 1);
	free(f);
	return ret;
}

int offload_is_on(const char *ifname, const char *feature)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret = 0; /* which the units of systemd allow */
	__u32 n, i;

	if (fd < 0)
		return -errno;
	n = count_features(fd, ifname);
	i = n ? find_feature(fd, ifname, feature, n) : n;
	if (i < n)
		ret = is_on(fd, ifname, i);
	close(fd);
	return ret;
}
