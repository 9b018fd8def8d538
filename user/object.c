// SPDX-License-Identifier: GPL-2.0-or-later
/* object.c - the compiled BPF programs, of which there are two forms
 *
 * A file of its own for each, since libbpf loads no part of one whose other parts name what the kernel does not have.
 * Both are made of the same source, with the same programs, maps and data: one skeleton fits both. It comes without
 * them; they are compressed, to a third, as the program is for routers with little storage. */
#include <bpf/btf.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "object.h"

#define GZIP (MAX_WBITS + 16) /* zlib's word for the format */

static const unsigned char PLAIN[] = {
#include "nat64.gz.h"
};
static const unsigned char BTF[] = {
#include "nat64_btf.gz.h"
};

/* Both, as far as they were asked for; they stay until the process ends. */
static struct form {
	const unsigned char *gz;
	size_t gz_size;
	unsigned char *elf;
	size_t elf_size;
} forms[] = { { .gz = PLAIN, .gz_size = sizeof(PLAIN) }, { .gz = BTF, .gz_size = sizeof(BTF) } };

static int inflate_form(struct form *f)
{
	const unsigned char *size = f->gz + f->gz_size - 4; /* how long the contents are, little-endian (RFC 1952) */
	z_stream z = { .next_in = (unsigned char *)f->gz, .avail_in = f->gz_size };
	unsigned char *elf;
	int err;

	if (f->elf)
		return 0;
	f->elf_size = size[0] | size[1] << 8 | size[2] << 16 | (size_t)size[3] << 24;
	elf = malloc(f->elf_size);
	if (!elf || inflateInit2(&z, GZIP) != Z_OK) {
		free(elf);
		return -ENOMEM;
	}
	z.next_out = elf;
	z.avail_out = f->elf_size;
	err = inflate(&z, Z_FINISH) == Z_STREAM_END ? 0 : -EINVAL; /* of a damaged file */
	inflateEnd(&z);
	if (err)
		free(elf);
	else
		f->elf = elf;
	return err;
}

/* Does a function have a pointer among its parameters? */
static bool takes_pointer(const struct btf *btf, const struct btf_type *function)
{
	const struct btf_type *prototype = btf__type_by_id(btf, function->type);
	const struct btf_param *param = btf_params(prototype);

	for (int i = 0; i < btf_vlen(prototype); i++)
		if (btf_is_ptr(btf__type_by_id(btf, param[i].type)))
			return true;
	return false;
}

void object_make_static(const struct nat64_bpf *skel)
{
	const struct btf *btf = bpf_object__btf(skel->obj);

	for (__u32 i = 1; i < btf__type_cnt(btf); i++) {
		/* Who opens an object owns what is in it. */
		struct btf_type *t = (struct btf_type *)btf__type_by_id(btf, i);

		if (btf_is_func(t) && btf_vlen(t) == BTF_FUNC_GLOBAL && takes_pointer(btf, t))
			t->info = BTF_KIND_FUNC << 24 | BTF_FUNC_STATIC;
	}
}

struct nat64_bpf *object_open(bool btf)
{
	struct nat64_bpf *skel = calloc(1, sizeof(*skel));
	int err = skel ? nat64_bpf__create_skeleton(skel) : -ENOMEM;

	err = err ? err : inflate_form(&forms[btf]);
	if (!err) {
		skel->skeleton->data = forms[btf].elf;
		skel->skeleton->data_sz = forms[btf].elf_size;
		err = bpf_object__open_skeleton(skel->skeleton, NULL);
	}
	if (!err && !btf && access(KERNEL_BTF_FILE, F_OK))
		object_make_static(skel);
	if (!err)
		return skel;
	nat64_bpf__destroy(skel);
	errno = -err;
	return NULL;
}

bool object_is_btf(const struct nat64_bpf *skel)
{
	return skel->skeleton->data == forms[true].elf;
}
