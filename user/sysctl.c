// SPDX-License-Identifier: GPL-2.0-or-later
/* sysctl.c - reading sysctls of this network namespace */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sysctl.h"

int sysctl_read(const char *dir, const char *interface, const char *leaf)
{
	char path[128];
	FILE *file;
	int value;
	int n;

	snprintf(path, sizeof(path), "/proc/sys/%s%s%s/%s", dir, interface ? "/" : "", interface ? interface : "",
		 leaf);
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT && access("/proc/sys", F_OK) ? -ENODATA : -errno;
	n = fscanf(file, "%d", &value);
	fclose(file);
	return n == 1 ? value : -EBADMSG;
}

struct sysctl_name sysctl_name(const char *interface)
{
	struct sysctl_name name = { { 0 } };

	strncpy(name.s, interface, sizeof(name.s) - 1);
	for (char *c = name.s; *c; c++)
		if (*c == '.')
			*c = '/';
	return name;
}
