/* SPDX-License-Identifier: GPL-2.0-or-later */
/* flood.h - what flood.c tells the generator in flood.bpf.c */
#ifndef FLOOD_H
#define FLOOD_H

#include <linux/types.h>

#define FRAME_MAX  128	/* bytes of a frame that are made anew each time; the rest is zero */
#define LENGTH_MAX 1514 /* of the whole frame */
#define FLOOD_UDP  26	/* bytes of UDP in a packet of the benchmark */
#define FLOOD_PORT 5678 /* UDP destination port: the sink counts and drops such packets and no others */

#define STAMPS 256 /* the last ones are kept; a power of 2 */

/* What has come to the sink. The time is looked at for each 64th only. */
struct flood_arrived {
	__u64 count;
	__u64 last; /* CLOCK_MONOTONIC, nanoseconds */
};

struct flood_config {
	__u8 frame[FRAME_MAX]; /* an Ethernet frame, its checksums right */
	__u32 len;	       /* of the frame, bytes; a multiple of 4 */
	__u32 action;	       /* of enum xdp_action, for each frame */
	__u32 word_at;	       /* offset of the 32-bit word that tells hosts apart, a part of an address */
	__u32 hosts;	       /* how many values it takes: the frame's, and the following ones */
	__u32 step;	      /* prime to hosts: from one frame's host to the next one's, so that they come unordered */
	__u32 ip_checksum_at; /* 0: there is none, IPv6 */
	__u32 udp_checksum_at;
	__u32 to;    /* forwarder: index of the interface */
	__u32 again; /* floor: the packet comes in by the same interface, where else it would go on */
	__u64 gap;   /* nanoseconds from frame to frame; 0: no pause */
	__u64 burst; /* a generator that is late for longer than this (nanoseconds) does not catch up */
	__u64 slice; /* so many frames from one time stamp to the next */
};

#endif
