/* SPDX-License-Identifier: GPL-2.0-only */
/* icmp.h - ICMP errors: their type, code and parameters (RFC 7915 sections 4.2 and 5.2), the packet that they quote
 * (4.3 and 5.3), and RFC 4884 extensions behind it
 *
 *	IP header | ICMP header, 8 bytes | quoted packet: IP header, beginning of the transport | padding | extensions
 *	          |                      |<----------- RFC 4884 length, 0 without extensions ---------->|
 *
 * Everything up to the quoted transport header is written anew; the kernel moves only what stands before it. The
 * checksum is changed by what changed: one that was wrong stays wrong.
 */
#ifndef NAT64_ICMP_H
#define NAT64_ICMP_H

#include "answer.h"

#define QUOTE_MIN 128 /* quoted packet with extensions behind it, RFC 4884 section 3 */

/* A quoted packet in its new form, and what it takes to get there. */
struct quote {
	__u32 at;	  /* quoted IP header, from skb->data */
	__u32 len;	  /* the quoted packet as far as it is quoted, old form */
	__u32 extensions; /* bytes behind it */
	__u32 old_header; /* quoted IP header, with extension headers or options */
	__u32 new_header;
	__u32 keep;	       /* bytes behind it that are kept */
	__u32 pad;	       /* zero bytes behind these */
	__u32 keep_extensions; /* bytes of extensions behind the padding */
	csum_t diff;	       /* change of the ICMP checksum */
	struct icmp icmp;      /* new ICMP header */
	struct {
		__u8 any;  /* 1: change the quoted transport checksum */
		__u8 off;  /* from the quoted transport header */
		__u8 type; /* quoted ICMP: new type; else 0xff */
		__sum16 check;
	} l4;
};

/* The work on one ICMP error. Here and not on the stack, which is 512 bytes for all functions together. */
struct icmp_work {
	struct icmp old; /* its header */
	struct quote n;
	struct pkt q;
	struct header6 h;	   /* 4→6 */
	struct iphdr outer, inner; /* 6→4 */
	__u8 extensions[SCRATCH];  /* which wait here until the packet has its new form */
};

PER_CPU(icmp_work, struct icmp_work, 1);

/* MTU that a Packet Too Big or Fragmentation Needed reports. */
static __always_inline __u32 mtu64(__u32 mtu, bool frag_header)
{
	__u32 less = frag_header ? 20 + FRAG_HEADER : 20, link = cfg.mtu - 20;

	mtu = mtu > less + 68 ? mtu - less : 68;
	mtu = mtu < link ? mtu : link;
	return mtu < 65535 ? mtu : 65535;
}

static __always_inline __u32 mtu46(__u32 mtu, __u32 quoted_len)
{
	/* RFC 1191 section 7: a router that gives no MTU; the largest plateau below the packet that went wrong */
	if (!mtu)
		mtu = quoted_len > 32000   ? 32000
		      : quoted_len > 17914 ? 17914
		      : quoted_len > 8166  ? 8166
		      : quoted_len > 4352  ? 4352
		      : quoted_len > 2002  ? 2002
		      : quoted_len > 1492  ? 1492
					   : 1280 - 20;
	mtu += 20;
	mtu = mtu < cfg.mtu ? mtu : cfg.mtu;
	return mtu > 1280 ? mtu : 1280;
}

/* RFC 7915 Figure 6, -1: n/a. */
static __always_inline int pointer64(__u32 at)
{
	switch (at) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 4:
	case 5:
		return 2;
	case 6:
		return 9;
	case 7:
		return 8;
	case 8 ... 23:
		return 12;
	case 24 ... 39:
		return 16;
	default:
		return -1;
	}
}

/* RFC 7915 Figure 3, -1: n/a. */
static __always_inline int pointer46(__u32 at)
{
	switch (at) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
	case 3:
		return 4;
	case 8:
		return 7;
	case 9:
		return 6;
	case 12 ... 15:
		return 8;
	case 16 ... 19:
		return 24;
	default:
		return -1;
	}
}

/* ICMPv6 error to ICMP, section 5.2; the MTU comes later. */
static __always_inline int icmp_header64(const struct icmp *old, struct icmp *new)
{
	int pointer;

	new->rest = 0;
	new->check = 0;
	switch (old->type) {
	case 1: /* destination unreachable */
		new->type = 3;
		switch (old->code) {
		case 0: /* no route to destination */
		case 2: /* beyond scope of source address */
		case 3: /* address unreachable */
			new->code = 1;
			return NAT64_PASS;
		case 1: /* administratively prohibited */
			new->code = 10;
			return NAT64_PASS;
		case 4: /* port unreachable */
			new->code = 3;
			return NAT64_PASS;
		default:
			return NAT64_DROP_ICMP_TYPE;
		}
	case 2: /* packet too big */
		new->type = 3;
		new->code = 4;
		return NAT64_PASS;
	case 3: /* time exceeded */
		new->type = 11;
		new->code = old->code;
		return NAT64_PASS;
	case 4: /* parameter problem */
		switch (old->code) {
		case 0: /* erroneous header field */
			pointer = pointer64(bpf_ntohl(old->rest));
			if (pointer < 0)
				return NAT64_DROP_ICMP_POINTER;
			new->type = 12;
			new->code = 0;
			new->b[0] = pointer;
			return NAT64_PASS;
		case 1: /* unrecognized next header: protocol unreachable */
			new->type = 3;
			new->code = 2;
			return NAT64_PASS;
		default:
			return NAT64_DROP_ICMP_TYPE;
		}
	default:
		return NAT64_DROP_ICMP_TYPE;
	}
}

/* ICMP error to ICMPv6, section 4.2; the MTU comes later. */
static __always_inline int icmp_header46(const struct icmp *old, struct icmp *new)
{
	int pointer;

	new->rest = 0;
	new->check = 0;
	switch (old->type) {
	case 3: /* destination unreachable */
		new->type = 1;
		switch (old->code) {
		case 0: /* net unreachable */
		case 1: /* host unreachable */
		case 5: /* source route failed */
		case 6 ... 8:
		case 11:
		case 12:
			new->code = 0;
			return NAT64_PASS;
		case 2: /* protocol unreachable: unrecognized next header */
			new->type = 4;
			new->code = 1;
			new->rest = bpf_htonl(6);
			return NAT64_PASS;
		case 3: /* port unreachable */
			new->code = 4;
			return NAT64_PASS;
		case 4: /* fragmentation needed: packet too big */
			new->type = 2;
			new->code = 0;
			return NAT64_PASS;
		case 9: /* administratively prohibited */
		case 10:
		case 13:
		case 15: /* precedence cutoff */
			new->code = 1;
			return NAT64_PASS;
		default:
			return NAT64_DROP_ICMP_TYPE;
		}
	case 11: /* time exceeded */
		new->type = 3;
		new->code = old->code;
		return NAT64_PASS;
	case 12: /* parameter problem */
		if (old->code != 0 && old->code != 2)
			return NAT64_DROP_ICMP_TYPE;
		pointer = pointer46(old->b[0]);
		if (pointer < 0)
			return NAT64_DROP_ICMP_POINTER;
		new->type = 4;
		new->code = 0;
		new->rest = bpf_htonl(pointer);
		return NAT64_PASS;
	default:
		return NAT64_DROP_ICMP_TYPE;
	}
}

/* Finds the quoted packet and the extensions: `length` is the RFC 4884 field in bytes. */
static __always_inline void find_quote(const struct pkt *p, __u32 length, struct quote *n)
{
	n->at = p->l4_off + sizeof(struct icmp);
	n->len = p->l4_len - sizeof(struct icmp);
	n->extensions = 0;
	if (length >= QUOTE_MIN && length < n->len) {
		n->extensions = n->len - length;
		n->len = length;
	}
}

/* The facts of the quoted IPv6 packet. */
static __always_inline int load_quote6(struct __sk_buff *skb, struct pkt *q, struct quote *n)
{
	struct ipv6hdr h;

	if (pkt_load(skb, n->at, &h, sizeof(h)) != NAT64_PASS || h.version != 6 ||
	    parse6(skb, q, &h, n->at) != NAT64_PASS)
		return NAT64_DROP_ICMP_QUOTE;
	n->old_header = IP6_HEADER + q->ext_len;
	if (n->len < n->old_header || q->proto == IPPROTO_ICMP || q->proto == IPPROTO_IGMP_ || q->l4_len > L4_MAX)
		return NAT64_DROP_ICMP_QUOTE;
	return NAT64_PASS;
}

/* The same for IPv4. */
static __always_inline int load_quote4(struct __sk_buff *skb, struct pkt *q, struct quote *n)
{
	struct iphdr h;

	if (pkt_load(skb, n->at, &h, sizeof(h)) != NAT64_PASS || h.version != 4 ||
	    parse4(q, &h, n->at, ~0U) != NAT64_PASS)
		return NAT64_DROP_ICMP_QUOTE;
	n->old_header = IP4_HEADER + q->ext_len;
	if (n->len < n->old_header || q->proto == IPPROTO_ICMPV6 || q->proto == IPPROTO_IGMP_ ||
	    is_ext_header(q->proto))
		return NAT64_DROP_ICMP_QUOTE;
	return NAT64_PASS;
}

/* What type, code and rest contribute to the ICMP checksum. */
static __always_inline csum_t icmp_header_sum(const struct icmp *i)
{
	return icmp_type_sum(i->type, i->code) + csum_32(i->rest);
}

/* What changes in the quoted transport header: its checksum, if that is quoted, by `diff`; if `type` is not 0xff, it is an
 * ICMP query and gets that type. */
static __always_inline int quoted_transport(struct __sk_buff *skb, const struct pkt *q, struct quote *n, csum_t diff,
					    __u8 type)
{
	__u32 quoted = n->len - n->old_header;
	__sum16 before;
	int at;

	n->l4.any = 0;
	n->l4.type = type;
	if (type != 0xff) {
		at = 2;
		diff += csum_sub(icmp_type_sum(type, 0), icmp_type_sum(q->icmp_type, 0));
		n->diff += csum_sub(icmp_type_sum(type, 0), icmp_type_sum(q->icmp_type, 0));
	} else {
		at = csum_at(q->proto);
		if (at < 0 || q->frag_off)
			return NAT64_PASS;
	}
	if (quoted < (__u32)at + 2)
		return NAT64_PASS;
	if (pkt_load(skb, q->l4_off + at, &n->l4.check, 2) != NAT64_PASS)
		return NAT64_DROP_ICMP_QUOTE;
	before = n->l4.check;
	if (zero_is_none(q->proto) && !before)
		return NAT64_PASS; /* without checksum */
	n->l4.any = 1;
	n->l4.off = at;
	n->l4.check = check_changed(n->l4.check, q->proto, diff);
	n->diff += csum_sub(csum_field(n->l4.check), csum_field(before));
	return NAT64_PASS;
}

/* Decides how much of the quote stays, so that the error has `max` bytes at most, of which `outer` are the IP header.
 * Without extensions, or if there can be none in this type of error (`unit` 0), the end of the quoted packet goes. With
 * extensions the quoted packet is shortened or padded to a multiple of `unit` bytes, and to QUOTE_MIN at least, and the end
 * of the extensions goes only where even that leaves no room for them. Returns the length field of RFC 4884, in units. */
static __always_inline __u32 fit_quote(struct quote *n, __u32 max, __u32 outer, __u32 unit)
{
	__u32 room = max - outer - sizeof(struct icmp), len;

	n->keep = n->len - n->old_header;
	n->pad = 0;
	n->keep_extensions = 0;
	if (n->extensions && unit) {
		n->keep_extensions = n->extensions < room - QUOTE_MIN ? n->extensions : room - QUOTE_MIN;
		room = (room - n->keep_extensions) & ~(unit - 1);
		len = (n->new_header + n->keep + unit - 1) & ~(unit - 1);
		len = len > QUOTE_MIN ? len : QUOTE_MIN;
		len = len < room ? len : room;
		if (n->new_header + n->keep < len)
			n->pad = len - n->new_header - n->keep;
		else
			n->keep = len - n->new_header;
		return len / unit;
	}
	if (n->new_header + n->keep > room)
		n->keep = room - n->new_header;
	return 0;
}

/* Length of the quote as it leaves. */
static __always_inline __u32 quote_len(const struct quote *n)
{
	return n->new_header + n->keep + n->pad + n->keep_extensions;
}

/* Takes bytes that will be cut out off the checksum. They start at an even offset, and what follows them moves by an even
 * number of bytes: so each byte stays in its half of a 16-bit word. */
static __always_inline int cut_out(struct __sk_buff *skb, struct quote *n, __u32 at, __u32 len)
{
	int sum = len ? range_sum(skb, at, len) : 0;

	if (sum < 0)
		return NAT64_DROP_TRUNCATED;
	n->diff = csum_sub(n->diff, sum);
	return NAT64_PASS;
}

/* Changes the checksum by the new ICMP header, and takes the quoted IP header off it, which is written anew. */
static __always_inline int change_headers(struct __sk_buff *skb, struct icmp_work *w)
{
	struct quote *n = &w->n;

	n->diff += csum_sub(icmp_header_sum(&n->icmp), icmp_header_sum(&w->old));
	n->icmp.check = w->old.check;
	return cut_out(skb, n, n->at, n->old_header);
}

/* Cuts the packet after what is kept of the quoted one, and saves the extensions that stay. */
static __always_inline int cut_tail(struct __sk_buff *skb, struct icmp_work *w)
{
	struct quote *n = &w->n;
	__u32 quoted_end = n->at + n->old_header + n->keep, extensions = n->at + n->len, len;

	TRY(cut_out(skb, n, quoted_end, extensions - quoted_end));
	TRY(cut_out(skb, n, extensions + n->keep_extensions, n->extensions - n->keep_extensions));
	if (n->keep_extensions) {
		len = pkt_bounded(n->keep_extensions, SCRATCH);
		TRY(pkt_load(skb, extensions, w->extensions, len));
	}
	if (quoted_end < skb->len && bpf_skb_change_tail(skb, quoted_end, 0))
		return NAT64_DROP_NO_MEMORY;
	return NAT64_PASS;
}

/* Puts padding and extensions behind the packet. */
static __always_inline int put_extensions(struct __sk_buff *skb, const struct icmp_work *w)
{
	__u32 at = skb->len + w->n.pad, len = pkt_bounded(w->n.keep_extensions, SCRATCH);

	if (bpf_skb_change_tail(skb, at + len, 0))
		return NAT64_DROP_NO_MEMORY;
	return pkt_store(skb, at, w->extensions, len);
}

/* Writes the ICMP header and what is quoted of a changed transport header. The quoted IP header is the caller's. */
static __always_inline int put_icmp(struct __sk_buff *skb, struct quote *n, __u32 at)
{
	__u32 l4 = at + sizeof(struct icmp) + n->new_header;

	n->icmp.check = csum_changed(n->icmp.check, n->diff);
	TRY(pkt_store(skb, at, &n->icmp, sizeof(n->icmp)));
	if (n->l4.type != 0xff)
		TRY(pkt_store(skb, l4, &n->l4.type, 1));
	if (n->l4.any)
		TRY(pkt_store(skb, l4 + n->l4.off, &n->l4.check, 2));
	return NAT64_PASS;
}

/* The type that a quoted ICMP query has on the other side; 0xff if it is not ICMP or not its beginning. An error
 * about an error is not made (RFC 4443 section 2.4 (e)), and none is translated. */
static __always_inline int quoted_type(struct __sk_buff *skb, struct pkt *q, const struct quote *n, __u8 icmp, __u8 ask,
				       __u8 reply, __u8 new_ask, __u8 new_reply, __u8 *type)
{
	__u8 old;

	*type = 0xff;
	if (q->proto != icmp || q->frag_off)
		return NAT64_PASS;
	if (n->len - n->old_header < sizeof(struct icmp) || pkt_load(skb, q->l4_off, &old, sizeof(old)) != NAT64_PASS)
		return NAT64_DROP_ICMP_QUOTE;
	q->icmp_type = old;
	if (old == ask)
		*type = new_ask;
	else if (old == reply)
		*type = new_reply;
	else if (icmp == IPPROTO_ICMP ? is_icmp4_error(old) : old < 128)
		return NAT64_DROP_ICMP_NESTED;
	else
		return NAT64_DROP_ICMP_QUOTE;
	return NAT64_PASS;
}

#endif
