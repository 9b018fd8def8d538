// SPDX-License-Identifier: GPL-2.0-only
/* run.bpf.c - programs that nat64 itself runs (BPF_PROG_TEST_RUN), for what only a program may do */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "nat64.h"

/* The kernel's jiffies, by which mappings know the time. */
__u64 jiffies = 0;

SEC("socket")
int read_jiffies(struct __sk_buff *skb)
{
	(void)skb;
	jiffies = bpf_jiffies64();
	return 0;
}

/* A listener's ring: that of a translator that is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, NAT64_RING_BYTES);
} ring SEC(".maps");

/* Puts the packet that it is run with into the ring; 0, or 1: there is no room. */
SEC("socket")
int put_record(struct __sk_buff *skb)
{
	struct nat64_record record;

	return bpf_skb_load_bytes(skb, 0, &record, sizeof(record)) ||
	       bpf_ringbuf_output(&ring, &record, sizeof(record), 0);
}

char LICENSE[] SEC("license") = "GPL";
