// SPDX-License-Identifier: GPL-2.0-or-later
/* nomem - preloaded (LD_PRELOAD), has no memory for the N-th time that the program itself, not one of its libraries,
 * asks for some: NAT64_NOMEM=N. When it comes to that, it says so in the file NAT64_NOMEM_FILE. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned long from, to;
static long countdown;

static int add_segments(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	(void)data;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD) {
			unsigned long start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

			from = !from || start < from ? start : from;
			to = start + info->dlpi_phdr[i].p_memsz > to ? start + info->dlpi_phdr[i].p_memsz : to;
		}
	return 1; /* the program is the first; no more */
}

__attribute__((constructor)) static void begin(void)
{
	const char *n = getenv("NAT64_NOMEM");

	countdown = n ? atol(n) : 0;
	dl_iterate_phdr(add_segments, NULL);
}

static int is_refused(const void *caller)
{
	if ((unsigned long)caller < from || (unsigned long)caller >= to || !countdown || --countdown)
		return 0;
	close(open(getenv("NAT64_NOMEM_FILE"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	errno = ENOMEM;
	return 1;
}

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

void *malloc(size_t size)
{
	static void *(*real)(size_t);

	real = real ? real : REAL("malloc", void *(*)(size_t));
	return is_refused(__builtin_return_address(0)) ? NULL : real(size);
}

void *realloc(void *old, size_t size)
{
	static void *(*real)(void *, size_t);

	real = real ? real : REAL("realloc", void *(*)(void *, size_t));
	return is_refused(__builtin_return_address(0)) ? NULL : real(old, size);
}

/* dlsym() may need it itself: glibc goes on without. */
void *calloc(size_t n, size_t size)
{
	static void *(*real)(size_t, size_t);
	static int asking;

	if (!real && asking)
		return NULL;
	asking = 1;
	real = real ? real : REAL("calloc", void *(*)(size_t, size_t));
	return is_refused(__builtin_return_address(0)) ? NULL : real(n, size);
}

/* Not memory by its name, but nothing else either */
FILE *open_memstream(char **text, size_t *size)
{
	FILE *(*real)(char **, size_t *) = REAL("open_memstream", FILE * (*)(char **, size_t *));

	return is_refused(__builtin_return_address(0)) ? NULL : real(text, size);
}
