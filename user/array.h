/* SPDX-License-Identifier: GPL-2.0-or-later */
/* array.h - arrays that grow by one thing at a time */
#ifndef NAT64_ARRAY_H
#define NAT64_ARRAY_H

#include <stdlib.h>

/* The array with room for one more thing of `size` than the `n` that are in it: NULL at first, and then what was returned
 * the last time. It always has room for a power of two. NULL: no memory, and the array is as it was. */
static inline void *array_room(void *list, size_t n, size_t size)
{
	return n & (n - 1) ? list : realloc(list, (n ? 2 * n : 1) * size);
}

#endif
