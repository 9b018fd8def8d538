/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sparse.h - included before nat64.bpf.c by `make lint` alone: the byte order macros of <bpf/bpf_endian.h> made of casts
 * that sparse checks. What they compute does not matter to it. */
#ifndef NAT64_TESTS_SPARSE_H
#define NAT64_TESTS_SPARSE_H

#include <linux/types.h>
#include <bpf/bpf_endian.h>

#define FORCE __attribute__((force))

#undef bpf_htons
#undef bpf_ntohs
#undef bpf_htonl
#undef bpf_ntohl
#define bpf_htons(x) ((FORCE __be16)(__u16)(x))
#define bpf_ntohs(x) ((FORCE __u16)(__be16)(x))
#define bpf_htonl(x) ((FORCE __be32)(__u32)(x))
#define bpf_ntohl(x) ((FORCE __u32)(__be32)(x))

/* Builtins of clang that sparse does not know. */
#define __builtin_preserve_field_info(field, kind) 1
#define __builtin_preserve_access_index(x)	   (x)

#endif
