/* SPDX-License-Identifier: GPL-2.0-or-later */
/* save.h - mappings in a file: the JSON of --mappings, which --save writes and --restore reads */
#ifndef NAT64_SAVE_H
#define NAT64_SAVE_H

#include <stddef.h>
#include <stdio.h>

#include "addr.h"

#define SAVE_FORMAT  "nat64_mappings" /* by this member, the version, a file is known to be one of ours */
#define SAVE_VERSION 1

#define SAVE_TIME    "time"
#define SAVE_LIST    "mappings"
#define SAVE_V4	     "v4"
#define SAVE_V6	     "v6"
#define SAVE_TYPE    "type"
#define SAVE_STATIC  "static"
#define SAVE_DYNAMIC "dynamic"
#define SAVE_IDLE    "idle"
#define SAVE_EXPIRES "expires_in"
#define SAVE_AGE     "age"

/* A dynamic mapping */
struct saved_mapping {
	__be32 v4;
	union nat64_v6 v6;
	__u32 idle; /* seconds, by now */
	__u32 age;
};

struct saved {
	struct saved_mapping *list; /* sorted by IPv4 address */
	size_t n;
	__u32 since; /* seconds since it was written */
};

/* Reads a file. 0, or a negative errno with *why: where it is damaged, or not one of ours. saved_free() in either
 * case. */
int saved_read(const char *path, struct saved *s, struct reason *why);
void saved_free(struct saved *s);

/* Is it of another translator: is none of its mappings in the pool? 0, or -EINVAL with *why. */
int saved_check(const struct saved *s, const struct prefix4 *pool, struct reason *why);

/* Replaces a file, or the one that a symbolic link leads to, by what write(to, data) writes, in one step or not at all. 0,
 * or a negative errno with *why. */
int file_replace(const char *path, int (*write)(FILE *to, void *data), void *data, struct reason *why);

#endif
