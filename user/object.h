/* SPDX-License-Identifier: GPL-2.0-or-later */
/* object.h - the compiled BPF programs, of which there are two forms */
#ifndef NAT64_OBJECT_H
#define NAT64_OBJECT_H

#include <stdbool.h>

#include "nat64.h"
#include "nat64.skel.h"

#define KERNEL_BTF_FILE "/sys/kernel/btf/vmlinux"

/* Opens the programs for loading. `btf`: the form that reads the kernel's own structures and is faster. It takes Linux
 * 6.2 with BTF; other kernels refuse to load it. NULL, with errno. nat64_bpf__destroy() in the end. */
struct nat64_bpf *object_open(bool btf);

/* Makes those functions static that take a packet, for the verifier to walk once for each call. A kernel without BTF takes no
 * others: by its own BTF alone it knows the type of a packet in a global function's prototype. object_open() does so where it
 * is needed. */
void object_make_static(const struct nat64_bpf *skel);

/* Which form it is */
bool object_is_btf(const struct nat64_bpf *skel);

#endif
