// SPDX-License-Identifier: GPL-2.0-or-later
/* save.c - mappings in a file */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "save.h"

#define MAX_LINKS 40 /* as the kernel follows */

static int by_v4(const void *a, const void *b)
{
	const struct saved_mapping *x = a, *y = b;

	return v4_order(x->v4, y->v4);
}

static int by_v6(const void *a, const void *b)
{
	const struct saved_mapping *x = a, *y = b;

	return v6_order(&x->v6, &y->v6);
}

/* A number of seconds; false if it is none. */
static bool get_seconds(const json_t *mapping, const char *key, __u32 *seconds)
{
	const json_t *value = json_object_get(mapping, key);
	json_int_t n = json_integer_value(value);

	*seconds = n;
	return json_is_integer(value) && n >= 0 && n <= NAT64_TIMEOUT_MAX;
}

static __u32 later(__u32 seconds, __u32 since)
{
	return seconds + since < NAT64_TIMEOUT_MAX ? seconds + since : NAT64_TIMEOUT_MAX;
}

/* How old the file is. It need not be the last state that there was: saving may have failed since, or the machine crashed.
 * Where the clock has been set back, or the file has no time, it is new. */
static int read_time(const json_t *root, struct saved *s, struct reason *why)
{
	const json_t *value = json_object_get(root, SAVE_TIME);
	json_int_t n = value ? json_integer_value(value) : time(NULL), now = time(NULL);

	if ((value && !json_is_integer(value)) || n < 0)
		return reason(why, -EINVAL, "\"%s\" is not a number of seconds", SAVE_TIME);
	s->since = n >= now ? 0 : now - n < NAT64_TIMEOUT_MAX ? now - n : NAT64_TIMEOUT_MAX;
	return 0;
}

/* Reads one mapping. 1: a static one, which is the configuration's. */
static int read_mapping(const json_t *mapping, struct saved_mapping *m, struct reason *why)
{
	const char *type = json_string_value(json_object_get(mapping, SAVE_TYPE));
	const char *v4 = json_string_value(json_object_get(mapping, SAVE_V4));
	const char *v6 = json_string_value(json_object_get(mapping, SAVE_V6));
	struct prefix4 prefix4 = { .len = 32 };
	struct prefix6 prefix6 = { .len = 128 };

	if (type && !strcmp(type, SAVE_STATIC))
		return 1;
	if (!type || strcmp(type, SAVE_DYNAMIC))
		return reason(why, -EINVAL, "\"%s\" is neither \"%s\" nor \"%s\"", SAVE_TYPE, SAVE_DYNAMIC,
			      SAVE_STATIC);
	if (!v4 || inet_pton(AF_INET, v4, &prefix4.addr) != 1 || prefix4_special(&prefix4))
		return reason(why, -EINVAL, "\"%s\" is not the IPv4 address of a host", SAVE_V4);
	if (!v6 || inet_pton(AF_INET6, v6, &prefix6.addr) != 1 || prefix6_special(&prefix6))
		return reason(why, -EINVAL, "\"%s\" is not the IPv6 address of a host", SAVE_V6);
	if (!get_seconds(mapping, SAVE_IDLE, &m->idle))
		return reason(why, -EINVAL, "\"%s\" is not a number of seconds", SAVE_IDLE);
	if (!get_seconds(mapping, SAVE_AGE, &m->age))
		return reason(why, -EINVAL, "\"%s\" is not a number of seconds", SAVE_AGE);
	m->v4 = prefix4.addr;
	m->v6 = prefix6.addr;
	return 0;
}

static int read_list(const json_t *list, struct saved *s, struct reason *why)
{
	struct reason what;
	size_t i;
	int ret;

	if (!json_is_array(list))
		return reason(why, -EINVAL, "it has no list \"%s\"", SAVE_LIST);
	s->list = malloc((json_array_size(list) + 1) * sizeof(*s->list));
	if (!s->list)
		return reason(why, -ENOMEM, "%s", strerror(ENOMEM));
	for (i = 0; i < json_array_size(list); i++) {
		ret = read_mapping(json_array_get(list, i), &s->list[s->n], &what);
		if (ret < 0)
			return reason(why, ret, "mapping %zu: %s", i + 1, what.text);
		s->list[s->n].idle = later(s->list[s->n].idle, s->since);
		s->list[s->n].age = later(s->list[s->n].age, s->since);
		s->n += !ret;
	}
	return 0;
}

static int check_twice(struct saved *s, struct reason *why)
{
	const struct saved_mapping *m = s->list;

	qsort(s->list, s->n, sizeof(*s->list), by_v6);
	for (size_t i = 1; i < s->n; i++)
		if (!by_v6(&m[i - 1], &m[i]))
			return reason(why, -EINVAL, "%s is in it twice", text6((struct prefix6){ m[i].v6, 128 }).s);
	qsort(s->list, s->n, sizeof(*s->list), by_v4);
	for (size_t i = 1; i < s->n; i++)
		if (!by_v4(&m[i - 1], &m[i]))
			return reason(why, -EINVAL, "%s is in it twice", text4((struct prefix4){ m[i].v4, 32 }).s);
	return 0;
}

static int read_document(const json_t *root, struct saved *s, struct reason *why)
{
	const json_t *version = json_object_get(root, SAVE_FORMAT);
	int err;

	if (!json_is_integer(version))
		return reason(why, -EINVAL, "not a file of nat64 --save");
	if (json_integer_value(version) != SAVE_VERSION)
		return reason(why, -EINVAL, "of another version of nat64 (%s %lld)", SAVE_FORMAT,
			      (long long)json_integer_value(version));
	err = read_time(root, s, why);
	err = err ? err : read_list(json_object_get(root, SAVE_LIST), s, why);
	return err ? err : check_twice(s, why);
}

int saved_read(const char *path, struct saved *s, struct reason *why)
{
	json_error_t where;
	json_t *root;
	FILE *file;
	int err;

	*s = (struct saved){ 0 };
	file = fopen(path, "re");
	if (!file)
		return reason(why, -errno, "%s", strerror(errno));
	root = json_loadf(file, JSON_REJECT_DUPLICATES, &where);
	err = ferror(file) ? -EIO : 0;
	if (err)
		reason(why, err, "cannot read it");
	else if (!root)
		err = reason(why, -EINVAL, "line %d, column %d: %s", where.line, where.column, where.text);
	else
		err = read_document(root, s, why);
	/* the message may quote control characters of the file */
	for (char *c = why->text; err && *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	json_decref(root);
	fclose(file);
	return err;
}

void saved_free(struct saved *s)
{
	free(s->list);
	*s = (struct saved){ 0 };
}

int saved_check(const struct saved *s, const struct prefix4 *pool, struct reason *why)
{
	for (size_t i = 0; i < s->n; i++)
		if (prefix4_covers(pool, &(struct prefix4){ s->list[i].v4, 32 }))
			return 0;
	return s->n ? reason(why, -EINVAL, "it is of another translator: no mapping is in %s", text4(*pool).s) : 0;
}

/* Follows symbolic links to a name, where there need not be a file yet. */
static int resolve(const char *path, char to[PATH_MAX])
{
	char link[PATH_MAX];
	ssize_t n = 0;

	if (snprintf(to, PATH_MAX, "%s", path) >= PATH_MAX)
		return -ENAMETOOLONG;
	for (int i = 0; i < MAX_LINKS; i++) {
		char *slash = strrchr(to, '/');
		size_t dir;

		n = readlink(to, link, sizeof(link));
		if (n < 0)
			return errno == EINVAL || errno == ENOENT ? 0 : -errno;
		dir = link[0] == '/' || !slash ? 0 : slash + 1 - to;
		if (dir + n >= PATH_MAX)
			return -ENAMETOOLONG;
		memcpy(to + dir, link, n);
		to[dir + n] = 0;
	}
	return -ELOOP;
}

int file_replace(const char *path, int (*write)(FILE *to, void *data), void *data, struct reason *why)
{
	char target[PATH_MAX], temporary[PATH_MAX];
	struct stat st, there;
	FILE *file = NULL;
	bool old;
	int fd, err;

	old = !stat(path, &st);
	if (old && !S_ISREG(st.st_mode))
		return reason(why, -EINVAL, "not a regular file");
	err = resolve(path, target);
	/* /proc/self/fd/1 is a link to a name that the file may not have any more. */
	if (!err && old && (lstat(target, &there) || there.st_dev != st.st_dev || there.st_ino != st.st_ino))
		err = -ENOENT;
	if (!err && snprintf(temporary, sizeof(temporary), "%s.XXXXXX", target) >= (int)sizeof(temporary))
		err = -ENAMETOOLONG;
	if (err)
		return reason(why, err, "%s", strerror(-err));
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return reason(why, -errno, "%s", strerror(errno));
	file = fdopen(fd, "w");
	err = file ? write(file, data) : -errno;
	/* The new file gets the owner and the mode of the old one. If we may not give it away, it stays ours. */
	if (!err && old && (fchown(fd, st.st_uid, st.st_gid) || fchmod(fd, st.st_mode & 0777)))
		err = errno == EPERM ? 0 : -errno;
	if (!err && (fsync(fd) || rename(temporary, target)))
		err = -errno;
	if (file)
		fclose(file);
	else
		close(fd);
	if (err)
		unlink(temporary);
	return err ? reason(why, err, "%s", strerror(-err)) : 0;
}
