// SPDX-License-Identifier: GPL-2.0-or-later
/* object.c - the compiled BPF programs, of which there are two forms
 *
 * A file of its own for each, since libbpf loads no part of one whose other parts name what the kernel does not have.
 * Both are made of the same source, with the same programs, maps and data: one skeleton fits both. */
#include <errno.h>
#include <stdlib.h>

#include "object.h"
#include "nat64_btf.skel.h"

struct nat64_bpf *object_open(bool btf)
{
	struct nat64_bpf *skel = calloc(1, sizeof(*skel));
	int err = skel ? nat64_bpf__create_skeleton(skel) : -ENOMEM;

	if (!err && btf)
		skel->skeleton->data = (void *)nat64_btf_bpf__elf_bytes(&skel->skeleton->data_sz);
	err = err ? err : bpf_object__open_skeleton(skel->skeleton, NULL);
	if (!err)
		return skel;
	nat64_bpf__destroy(skel);
	errno = -err;
	return NULL;
}

bool object_is_btf(const struct nat64_bpf *skel)
{
	size_t size;

	return skel->skeleton->data == nat64_btf_bpf__elf_bytes(&size);
}
