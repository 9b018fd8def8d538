/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nat64.h - the contract between the BPF programs and userspace: configuration, map records, counters */
#ifndef NAT64_H
#define NAT64_H

#include <linux/bpf.h>
#include <linux/types.h>

/* What a translator is found by: programs by their name, and if they are clsact filters by handle and priority as well;
 * routes and neighbours by their protocol number (rtm_protocol, NDA_PROTOCOL), which no routing daemon in
 * /etc/iproute2/rt_protos uses. */
#define NAT64_TC_HANDLE	  0x64
#define NAT64_TC_PRIORITY 64
#define NAT64_TC_FAST	  0x80000000 /* in the handle of nat64_fast: with the index of the translator's interface */
#define NAT64_RT_PROTOCOL 64
#define NAT64_PROG_6TO4	  "nat64_6to4"	   /* tc ingress */
#define NAT64_PROG_4TO6	  "nat64_4to6"	   /* tc egress */
#define NAT64_PROG_FAST	  "nat64_fast"	   /* with --fast: ingress of the interfaces that IPv4 comes in by */
#define NAT64_PROG_XDP64  "nat64_xdp_6to4" /* with --xdp: on the interfaces of IPv6 hosts, */
#define NAT64_PROG_XDP46  "nat64_xdp_4to6" /* and on those that IPv4 comes in by */
#define NAT64_PROG_EDIT	  "nat64_edit"	   /* changes mappings for userspace; attached to nothing */

/* Layout version of the state maps (mappings, by_v6, pool, order). They outlive the programs at a reconfiguration. What
 * loses nobody an address, "stats", those of listeners and of --per-prefix, does not count: it goes on as far as both versions
 * know it. */
#define NAT64_STATE_VERSION 3

/* The MAC address of the next hop that routes to a translator go via, on Ethernet. Locally administered, unicast; the rest
 * spells "nat64". */
#define NAT64_HOP_MAC                         \
	{                                     \
		0x02, 'n', 'a', 't', '6', '4' \
	}

/* The ports of a translator: interfaces that its programs are attached to. Each has programs of its own, which differ in
 * their configuration, over the same maps. A translator of one interface has that one; a device of nat64's own (--device)
 * may have others besides, which it sends to straight. They have numbers from 1 on. */
#define NAT64_PORTS 128

/* The limits that both sides rely on. */
#define NAT64_V4_LEN_MIN  8 /* 16 M mappings */
#define NAT64_V4_LEN_MAX  31
#define NAT64_V4_LEN_NONE 32		     /* no pool: all mappings are static */
#define NAT64_TIMEOUT_MAX (10 * 365 * 86400) /* seconds */
#define NAT64_RATE_MAX	  1000000

/* With --fast, the IPv4 next hops that each CPU remembers: entries of the map "hops4" for each possible CPU. */
#define NAT64_HOPS4 16384

/* With --xdp, the interfaces that frames may be sent to. */
#define NAT64_XDP_TARGETS 1024

/* How the programs for --xdp are attached. */
enum nat64_xdp {
	NAT64_XDP_NONE,
	NAT64_XDP_NATIVE,  /* in the driver, */
	NAT64_XDP_VETH,	   /* also in that of a veth */
	NAT64_XDP_GENERIC, /* by the kernel, which makes a packet first */
	NAT64_XDP_MODES
};

/* An IPv6 address in network byte order, in the sizes that make its handling cheap. */
union nat64_v6 {
	__u8 b[16];
	__be16 h[8];
	__be32 w[4];
	__u64 d[2]; /* for comparison only */
};

/* The configuration: `const volatile struct nat64_config cfg` in .rodata, fixed when a program is loaded, so that
 * the verifier removes what is not used. A reconfiguration loads new programs over the same state maps. */
struct nat64_config {
	union nat64_v6 v6_prefix; /* NAT64 prefix, bits from v6_len on are zero */
	__u32 v6_len;		  /* 32, 40, 48, 56, 64 or 96 (RFC 6052 section 2.2) */
	__be32 v4_prefix; /* the pool, host bits are zero; 255.255.255.255, which nobody can have: there is none */
	__be32 v4_mask;
	__u32 v4_len;  /* 8 to 31, or 32 without a pool */
	__u32 ifindex; /* the interface that faces the IPv6 hosts; other versions of nat64 look for it here, too */
	__u32 mtu;     /* its MTU when loaded, bytes */
	__u64 timeout; /* a mapping idle for longer is dead (jiffies) */
	__u32 hz;      /* jiffies in a second */
	__u32 fresh;   /* what is not older need not be looked up or written again: a second or less (jiffies) */
	__u32 lowest_ipv6_mtu; /* RFC 7915 section 4.1: DF=0 packets are cut to this; >= 1280 */
	__u32 cut_mtu;	       /* to this really: .mtu if that is less, or that of a port */
	__be32 icmp_src;       /* RFC 6791: IPv4 source of ICMP errors from unmapped routers */
	__u32 icmp_rate;       /* ICMP errors of our own, a second and CPU, for each family */
	__u8 l3;	       /* 1: the interface has no Ethernet header (tun, WireGuard, ppp) */
	__u8 wkp_strict;       /* 1: enforce RFC 6052 section 3.1 */
	__u8 set_tos;	       /* 1: IPv4 TOS is .tos instead of the traffic class (RFC 7915 section 5.1) */
	__u8 tos;
	__u8 set_tclass; /* 1: traffic class is .tclass instead of the TOS (RFC 7915 section 4.1) */
	__u8 tclass;
	__u16 seed;	 /* random, for the identification of IPv4 packets */
	__u8 has_static; /* 1: look into static6 and static4 */
	__u8 fast;	 /* 1: past the IPv4 stack where nothing is unusual (--fast); never with .l3 */
	__u8 bridge_nf;	 /* 1: packets may come by a bridge with netfilter hooks, for programs that cannot see it */
	__u8 device; /* 1: the interface is nat64's own (--device): what comes is routed to it, and goes by the stack */
	__u8 xdp;    /* enum nat64_xdp */
	__u8 xdp_frags;	    /* 1: the programs for --xdp may meet frames that lie in several buffers */
	__u64 policy_count; /* kernel address of how many IPsec policies there are for what leaves (unsigned int); 0: none
			     * to be seen; for programs that cannot find it themselves */
	__u64 policy_default; /* the same: of what becomes of packets that there is no policy for (3 bytes) */
	__u32 epoch_shift;    /* see struct nat64_node */
	__u8 has_ports;	      /* of a device: 1, it has ports besides itself */
	__u8 by_home;	      /* of a port: 1, what has become IPv4 comes in by the device, as rp_filter wants it */
	__u8 unrouted;	      /* of a device: 1, the NAT64 prefix is not routed to it, it is there for its ports */
	__u8 pad2;
	__u64 reuse_idle; /* in a full pool, one idle for longer may go to another host (jiffies, at most .timeout); 0: as
			   * .timeout */
	__u32 home;	  /* of a port: the index of its device; 0: the routes lead to this interface itself */
	__u32 port;	  /* the number of this one */
	union nat64_v6 prefix_mask; /* of the length .prefix_len; */
	__u32 prefix_len;
	__u32 prefix_limit; /* so many dynamic mappings a prefix of that length may have; 0: any number */
	__u64 mac;	  /* with .xdp, of the interface that the program is on when it is loaded: the first 6 bytes */
	__be32 give_out;  /* of the pool, new hosts are given addresses of this prefix only; */
	__be32 give_mask; /* 0: all */
};

/* Map "ports": array, index = number. Made anew each load; an interface keeps its number from one to the next. */
struct nat64_port {
	__u32 ifindex; /* 0: there is none of this number */
	__u32 mtu;     /* when loaded, bytes */
	__u64 mac;     /* its own, in the first 6 bytes: not older than what is remembered of any next hop there */
	__u8 l3;       /* 1: frames have no Ethernet header */
	__u8 leaving;  /* 1: it is no port any more, but something of ours is still to be taken away there */
	__u8 pad[6];
	char name[16]; /* when loaded, to be told when it is gone */
};

/* The next hop of an IPv6 host. */
struct nat64_hop {
	__u64 mac; /* in the first 6 bytes; in the others (host byte order) the number of its port. That of the device: go by the stack */
	__u64 tick; /* when it was looked up, jiffies; good for a quarter of a second */
};

/* State map "mappings": array, index = host part of the IPv4 address (host byte order), 2^(32 - v4_len) entries.
 * Owner changes happen under .lock (the first member), in several steps; headers/state.h says how readers go without.
 * Userspace reads this record with BPF_F_LOCK, and again if .tick is NAT64_TAKEN.
 *
 * The packet path knows the time by .tick, in jiffies, which costs nothing to read. .last_seen is the same moment for
 * people: CLOCK_BOOTTIME in nanoseconds. */
struct nat64_mapping {
	struct bpf_spin_lock lock;
	__u32 epoch;	   /* of .tick, when it got its place in "order" */
	union nat64_v6 v6; /* the owner */
	__u64 tick;	   /* last packet from the IPv6 side, written at most once in cfg.fresh jiffies; 0: free */
	struct nat64_hop hop;
	__u64 last_seen; /* with NAT64_HEARSAY; never before .created */
	__u64 created;	 /* when this owner got the address, CLOCK_BOOTTIME, nanoseconds */
};

/* In .last_seen, which is right to a nanosecond without it: the mapping, or its time, is from another gateway (--mirror), and the
 * host has not been seen here since. */
#define NAT64_HEARSAY 1ULL

/* .tick of a mapping that never expires: a static one from host to host. With .v6 all zero: the address is held by a
 * static prefix, look into "static4". Userspace makes both kinds. */
#define NAT64_STATIC 0x7fffffffffffffffULL

/* .tick of a mapping that is about to get another owner, or none: nobody's. For a microsecond or so. */
#define NAT64_TAKEN 0x7ffffffffffffffeULL

/* State map "by_v6": hash, key union nat64_v6, value __u32 index into "mappings". */

/* State map "pool": array of one: whose state this is, and the lock of "order". */
struct nat64_pool {
	struct bpf_spin_lock lock;
	__u32 version;	  /* NAT64_STATE_VERSION, as all of this but the lock set by userspace */
	__be32 v4_prefix; /* of the mappings */
	__u32 v4_len;
};

/* State map "order": array, two circular lists of all addresses that are given out here: those that are free, and those that
 * have an owner, in the order of its last packet. A node for each index of "mappings", and two behind them for where the
 * lists begin and end. An address that is not given out is a list of its own: .next and .prev are its own index.
 *
 * Nodes change places under the lock of "pool". To write three nodes for each packet would cost too much. A host goes to
 * the end of the list with its first packet of an epoch, 2^cfg.epoch_shift jiffies: so what is behind another in the
 * list may have been silent for longer, but not by more than an epoch. */
struct nat64_node {
	__u32 next;
	__u32 prev;
};

#define NAT64_NODES	      2
#define NAT64_FREE(addresses) (addresses)
#define NAT64_USED(addresses) ((addresses) + 1)

/* With --per-prefix: maps "by_prefix" (hash, key union nat64_v6, value __u32), "prefixes", "members" and "counting", see
 * headers/prefix.h. They count what is in "mappings": if there are none that fit at a reconfiguration, they are made anew. */
struct nat64_prefix {
	union nat64_v6 v6;
	union nat64_v6 was; /* the prefix before */
	__u32 count;	    /* its dynamic mappings, and those that are about to be made */
	__u32 hand;	    /* the one of them that is looked at next; an index, and 1; 0: there is none */
	__u32 below;	    /* it counts nothing: the record that it is on top of, of those that a prefix may have */
	__u32 pad;
};

struct nat64_member {
	__u32 prefix; /* number of the record; 0: a member of none */
	__u32 next;   /* indices */
	__u32 prev;
	__u32 pad;
};

struct nat64_counting {
	struct bpf_spin_lock lock;
	__u32 made; /* records that ever were some prefix's */
	__u32 top;  /* of the stack, the number of a record */
	__u32 pad;
};

/* Records: as many prefixes as there are mappings, and what CPUs need that are about to make one */
#define NAT64_PREFIXES(addresses) ((addresses) + 64)

/* A change of one mapping that userspace asks for: map "edits" of the program nat64_edit, which does with each run what
 * the next entry says, as the programs of the packets do it, while these go on. */
enum nat64_edit_how {
	NAT64_EDIT_TAKE_OUT, /* of its list: it is given out no more */
	NAT64_EDIT_SET,	     /* if the owner is still .was: .v6 and the rest, at its place in the lists */
	NAT64_EDIT_CLAIM,    /* the same, but only if a new host might get the address, and .v6 has none */
	NAT64_EDIT_PLACE,    /* nothing changes but its place in the lists, */
	NAT64_EDIT_COUNT,    /* or that it is counted where it should be */
	NAT64_EDIT_MIRROR,   /* another gateway says that .v6 has it, see headers/mirror.h, */
	NAT64_EDIT_FORGET,   /* or that it has lost it */
};

enum nat64_edit_done {
	NAT64_DONE_NOT,
	NAT64_DONE,
	NAT64_DONE_LAST, /* but its place is the last one: that of .before has changed meanwhile */
	NAT64_DONE_HALF, /* but other CPUs were always faster: it may be in the wrong list, or not counted where it should be */
	/* of NAT64_EDIT_MIRROR and NAT64_EDIT_FORGET: */
	NAT64_DONE_SAME,  /* so it is, and nothing has changed */
	NAT64_DONE_BEGUN, /* to be run again, once all programs that run now have ended */
	NAT64_DONE_LOSES, /* to what is there */
	NAT64_DONE_STATIC,
};

struct nat64_edit {
	__u32 index;
	__u32 how;
	union nat64_v6 was;
	union nat64_v6 v6; /* all zero: none */
	__u64 tick;
	__u64 last_seen;
	__u64 created;
	__u32 before; /* with an owner that is not static: the node that comes behind it */
	__u32 epoch;  /* of that node's mapping, as it was when .before was chosen */
	__u32 done;   /* enum nat64_edit_done, written by the program */
	__u32 pad;
	/* Of NAT64_EDIT_MIRROR and NAT64_EDIT_FORGET, where before the first run .tick is for how long the host has been silent
	 * (jiffies), .last_seen too and .created for how long it has had the address (nanoseconds): */
	__u32 weak;	     /* it stands back for whatever is there */
	__u32 begun;	     /* 1: it has run */
	__u32 had;	     /* an address that the host had besides: its index, and 1; 0: none, */
	__u32 had_local;     /* the same, if it had that not by hearsay: listeners are to know */
	union nat64_v6 lost; /* who had .index, and not by hearsay; all zero: nobody */
};

#define NAT64_EDITS 1024

/* Map "allowed": LPM trie, one entry for each -a prefix, value unused (1). Configuration: made anew each load. */
struct nat64_lpm6 {
	__u32 len; /* prefix length, host byte order */
	union nat64_v6 v6;
} __attribute__((packed)); /* the kernel takes all behind .len for the key: no padding */

/* Explicit address mappings (RFC 7757): prefix to prefix, or with addresses outside the pool. The longest match wins.
 * The bits behind the IPv4 prefix follow the IPv6 prefix, the rest of the IPv6 address is zero (sections 3.3, 4.2).
 * Configuration maps "static6" (LPM trie, struct nat64_lpm6 -> struct nat64_static4) and "static4" (LPM trie, struct
 * nat64_lpm4 -> struct nat64_static6), one entry in each for a mapping, made anew each load. */
struct nat64_lpm4 {
	__u32 len; /* prefix length, host byte order */
	__be32 v4;
};

struct nat64_static4 {
	__be32 v4;  /* host bits are zero */
	__u32 len;  /* of the IPv4 prefix */
	__u32 from; /* length of the IPv6 prefix: the host bits start there */
};

struct nat64_static6 {
	union nat64_v6 v6; /* host bits are zero */
	__u32 v4_host;	   /* mask of the host bits of the IPv4 address, host byte order */
	__u32 left;	   /* how far from the end of the IPv6 address they are: 128 - length - host bits */
};

/* Why a packet of ours was dropped. One list; the enum, names, status, JSON, the manual's table and the tests' check
 * come from it. X(enumerator, name, what it means) */
/* clang-format off */
#define NAT64_DROPS(X) \
	X(TRUNCATED,	"truncated",	"shorter than its own headers say") \
	X(BAD_HEADER,	"bad-header",	"an IP or extension header contradicts itself") \
	X(SRC_ILLEGAL,	"src-illegal",	"source is multicast, loopback, link-local, broadcast, unspecified or inside the NAT64 prefix") \
	X(DST_ILLEGAL,	"dst-illegal",	"destination is multicast, loopback, link-local, broadcast or unspecified") \
	X(NON_GLOBAL,	"non-global",	"non-global IPv4 address behind the well-known prefix, with --wkp-strict") \
	X(NOT_ALLOWED,	"not-allowed",	"IPv6 source has no mapping and is in no -a prefix") \
	X(POOL_FULL,	"pool-full",	"every IPv4 address has a live mapping") \
	X(MAPPING_BUSY,	"mapping-busy",	"the mapping is being made or given away on another CPU at this moment") \
	X(NO_MAPPING,	"no-mapping",	"IPv4 destination has no mapping") \
	X(EXT_HEADER,	"ext-header",	"too many extension headers, or one that cannot be translated where it stands") \
	X(ROUTING,	"routing-header",	"IPv6 routing header with segments left") \
	X(SOURCE_ROUTE,	"source-route",	"unexpired IPv4 source route option") \
	X(FRAG_ICMP,	"fragment-icmp",	"fragmented ICMP") \
	X(FRAG_UDP0,	"fragment-udp0",	"fragment of a UDP packet without checksum") \
	X(FRAG_BAD,	"fragment-bad",	"fragment that is too small, beyond 64 kB, or not a multiple of 8 bytes where it must be cut") \
	X(ICMP_TYPE,	"icmp-type",	"ICMP message that has no counterpart or is for one link only") \
	X(ICMP_POINTER,	"icmp-pointer",	"Parameter Problem that points at what the other side does not have") \
	X(ICMP_NESTED,	"icmp-nested",	"ICMP error about an ICMP error") \
	X(ICMP_QUOTE,	"icmp-quote",	"ICMP error whose quoted packet is truncated or makes no sense") \
	X(ICMP_FOREIGN,	"icmp-foreign",	"ICMP error about a packet that is not of the host it goes to") \
	X(PROTOCOL,	"protocol",	"protocol that does not cross (IGMP, ICMP of the other family)") \
	X(UDP_LENGTH,	"udp-length",	"UDP packet without checksum whose length does not fit the packet") \
	X(TOO_BIG,	"too-big",	"translated packet would exceed what the protocol or the link can carry") \
	X(NO_ROUTE,	"no-route",	"no IPv6 route to the mapped host, or IPv6 forwarding is off") \
	X(NO_MEMORY,	"no-memory",	"the kernel could not change the packet or store the mapping") \
	X(OFFLOAD,	"offload",	"of a tunnel, with segments or a checksum yet to be made, which this kernel cannot translate") \
	X(PREFIX_FULL,	"prefix-full",	"IPv6 source is of a prefix that has as many mappings as --per-prefix allows")
/* clang-format on */

enum nat64_drop {
	NAT64_PASS = -1, /* translated, go on */
#define X(id, name, text) NAT64_DROP_##id,
	NAT64_DROPS(X)
#undef X
	NAT64_DROP_MAX
};

enum nat64_way {
	NAT64_6TO4,
	NAT64_4TO6,
	NAT64_WAYS
};

/* State map "stats": per-CPU array of one; add up over the CPUs. Bytes are those of the IP packet as it came. */
struct nat64_stats {
	__u64 packets[NAT64_WAYS]; /* translated */
	__u64 bytes[NAT64_WAYS];
	__u64 drops[NAT64_WAYS][NAT64_DROP_MAX];
};

/* Who listens to what happens. State map "listen": array of one, which listeners map into their memory
 * (BPF_F_MMAPABLE). What they are told comes by ring buffers of their own making, which they put into the maps "events"
 * and "packets", arrays of such.
 *
 * A listener takes a lease that nobody holds or that has run out, atomically, and the place in the array with it, and goes
 * on renewing it. So one that is killed costs nothing a little later. Whether there is any is seen from struct nat64_ear:
 * the first packet that finds it run out notes which time that was. It writes nothing that a listener writes, so that none
 * that comes at this very moment is overlooked. */
enum nat64_ring {
	NAT64_EVENTS,  /* struct nat64_event: --monitor */
	NAT64_PACKETS, /* struct nat64_trace: --trace */
	NAT64_RINGS
};

#define NAT64_LISTENERS	 4	      /* of each kind at a time */
#define NAT64_RING_BYTES (256 * 1024) /* of each listener, but one that may not lose anything has more */

struct nat64_ear {
	__u64 until; /* when the last of the leases runs out, or later: CLOCK_BOOTTIME, nanoseconds */
	__u64 over;  /* as .until: nobody listens */
};

struct nat64_lease {
	__u64 until; /* 0: nobody holds it */
	__u64 lost;  /* what the ring had no room for, ever */
};

/* The packets that a trace is about: one of the two addresses, on either side of the translation, and the protocol. BPF
 * lets pass what it cannot tell of: behind extension headers, the listener does. */
struct nat64_filter {
	union nat64_v6 v6, v6_mask;
	__be32 v4, v4_mask;
	__u8 family; /* 4, 6, or 0: any address */
	__u8 proto;  /* 0: any; IPPROTO_ICMP stands for ICMPv6, too */
	__be16 port; /* 0: any */
};

struct nat64_listen {
	struct nat64_ear ear[NAT64_RINGS];
	struct nat64_lease lease[NAT64_RINGS][NAT64_LISTENERS];
	__u64 exhausted; /* time of the last NAT64_EVENT_EXHAUSTED, CLOCK_BOOTTIME, nanoseconds */
	struct nat64_filter filter[NAT64_LISTENERS];
};

/* What happens to a mapping: a host got an address; has it again, after it was idle for the time-out; lost it to another
 * host, after that or the time of --reuse-idle; lost it by a command; has it still, while another gateway gives up a
 * mapping that it excludes. Or a host got none. X(enumerator, name) */
/* clang-format off */
#define NAT64_EVENT_KINDS(X) \
	X(CREATED,	"created") \
	X(REVIVED,	"revived") \
	X(EXPIRED,	"expired") \
	X(REMOVED,	"removed") \
	X(EXHAUSTED,	"pool-exhausted") \
	X(KEPT,		"kept")
/* clang-format on */

enum nat64_event_kind {
#define X(id, name) NAT64_EVENT_##id,
	NAT64_EVENT_KINDS(X)
#undef X
	NAT64_EVENT_MAX
};

/* In the ring "events". From a command there come NAT64_WHY_BYTES of text behind it: the reason. */
struct nat64_event {
	__u64 time; /* CLOCK_BOOTTIME, nanoseconds */
	__u64 seen; /* revived, expired: when the host was seen last before */
	__u32 kind; /* enum nat64_event_kind */
	__be32 v4;
	union nat64_v6 v6;
	union nat64_v6 next; /* expired: the host that gets the address */
	__u32 is_static;
	__u32 pad;
};

#define NAT64_WHY_BYTES 64

struct nat64_record {
	struct nat64_event event;
	char why[NAT64_WHY_BYTES];
};

/* In the ring "packets": a packet as it came and as it left, and what became of it. */
#define NAT64_IN_BYTES	128 /* powers of two */
#define NAT64_OUT_BYTES 64

struct nat64_trace {
	__u64 time;	      /* CLOCK_BOOTTIME, nanoseconds */
	__s32 verdict;	      /* enum nat64_drop, or NAT64_PASS */
	__u8 way;	      /* enum nat64_way */
	__u8 answered;	      /* 1: dropped, and what left is an ICMP error about it */
	__u8 in_len, out_len; /* bytes of .in and .out that are there */
	__u16 cut;	      /* bytes of payload of each piece it was cut into, the last of which is in .out; or 0 */
	__u16 segments;	      /* of a super-packet */
	__be32 host4, peer4;  /* the addresses of the IPv6 host and of the other, as far as they are known, or 0 */
	union nat64_v6 host6, peer6;
	__u8 in[NAT64_IN_BYTES]; /* from the IP header on */
	__u8 out[NAT64_OUT_BYTES];
};

#endif
