# SPDX-License-Identifier: GPL-2.0-or-later
"""oracle.py - RFC 7915 in plain Python: what a packet must become, or why it must be dropped.

Written from the RFCs alone, as the independent half of the comparison that test_run tables and the fuzzer make.
xlat64(cfg, packet) takes an IPv6 packet as it arrives, xlat46(cfg, packet) an IPv4 packet as it is about to leave;
both without link header, both give a Result. DECISIONS below says what is done where the RFCs leave a choice.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Callable, Optional

# Where the RFCs leave a choice: (name, what is done and why, source).
DECISIONS = [
    # --- what is ours, lengths, the order of checks ---
    ("ours",
     "6to4: version 6, at least 40 bytes, destination inside the NAT64 prefix. 4to6: version 4, at least 20 bytes, "
     "destination inside the pool, or icmp_src, which stands for no host: no-mapping, and does not wander back to "
     "where it came from. Everything else is passed untouched, whatever is wrong with it.",
     "7915 4.6, 5.6, 6791 3.1"),
    ("lengths",
     "Packet shorter than its length field (or than IHL): truncated. IHL below 5, or total length below the header: "
     "bad-header. Bytes after the length that the IP header states are link padding: not part of the packet, never "
     "parsed; whether they are cut off is free. Jumbograms (payload length 0 with hop-by-hop header): truncated.",
     "791 3.1, 8200 3"),
    ("order",
     "A packet with several faults gets the first reason of: IP header lengths; IPv4 options or IPv6 extension "
     "headers; protocol; fragment-bad; fragment-icmp; transport header present; src-illegal; dst-illegal; non-global; "
     "ICMPv6 type of a query; not-allowed / no-mapping; UDP without checksum; ICMP type and code, pointer, quote "
     "parse, owner of the quote, quoted ICMP; pool-full; fragment-bad of one that is to be cut; too-big is with the "
     "transport header.",
     "DESIGN: parse, bind, translate"),
    ("fixed-header",
     "The fixed transport header must be there: TCP 20, UDP 8, UDP-Lite 8, DCCP 12, ICMP 8 bytes. Too short in a whole "
     "packet: truncated; in a first fragment: fragment-bad. Other protocols have no minimum. Transport length fields "
     "and TCP's data offset are the end host's business, except UDP's length when the checksum must be computed.",
     "7915 4.5, 5.5"),
    # --- addresses ---
    ("embed-extract",
     "Extraction ignores the u octet and the suffix, whatever they are (section 2.2: SHOULD ignore the suffix; 2.3: "
     "the u octet is removed). With /96 they are part of the prefix. Composition sets both to zero.",
     "6052 2.2, 2.3"),
    ("illegal-v6-source",
     "::, ::1, ::ffff:0:0/96, fe80::/10, ff00::/8 and the NAT64 prefix: src-illegal, also for ICMPv6 errors.",
     "7915 5.1, 4291 2.5"),
    ("illegal-v4",
     "0/8, 127/8, 169.254/16, 224/4, 255.255.255.255: dst-illegal 6to4, src-illegal 4to6. The rest of 240/4, which 1812 "
     "5.3.7 counts among them, is carried: 6890 reserves it, networks use it, Linux forwards it. An ICMPv4 error "
     "(types 3, 4, 5, 11, 12) from such a source is translated all the same, as 4.1 says for trouble shooting. 4to6 "
     "destinations are inside the pool and need no check; the pool's own network and broadcast address never have a "
     "mapping.",
     "7915 4.1, 1812 5.3.7, 3927 2.7"),
    ("wkp-strict",
     "Only with prefix 64:ff9b::/96: IPv4 addresses of NON_GLOBAL are dropped as non-global: destination 6to4, source "
     "4to6 (ICMP errors too: 6052 says MUST), and the destination quoted in an ICMPv4 error. Excepted: the pool and "
     "icmp_src.",
     "6052 3.1"),
    ("hairpin",
     "The IPv4 source 4to6, and the destination quoted in an ICMPv4 error, are always embedded by RFC 6052, also when "
     "they are inside the pool, so that both hosts see each other through the NAT64 prefix.",
     "7757 4.2.1"),
    ("icmp-source",
     "ICMPv6 error (type < 128, not a fragment): a mapped source keeps its address; an allowed one without mapping "
     "gets a mapping like any packet (hops stay distinct in traceroute); if it is not allowed, or the pool is full, "
     "icmp_src.",
     "6791 3.1, 3.2"),
    ("no-mapping-for-drops",
     "A packet that is dropped for another reason takes no address from the pool (allocate() is called last).",
     "own"),
    # --- headers ---
    ("ttl",
     "Hop limit and TTL are copied: the IPv4 stack, after 6to4 and before 4to6, decrements and answers.",
     "7915 4.1, 5.1"),
    ("tos",
     "--tos and --tclass apply to the quoted header in an ICMP error too (same function).",
     "7915 4.3, 5.3"),
    ("ident",
     "6to4 without fragment header: the identification is free (ident_free); DF=0 up to 1260 bytes, else 1. With a "
     "fragment header, atomic ones too: low 16 bits copied, DF=0 whatever the size.",
     "7915 5.1, 5.1.1"),
    ("options",
     "IPv4 options are skipped; a malformed list (length below 2 or beyond the header) is bad-header. LSRR (131) and "
     "SSRR (137) are unexpired while pointer <= length; shorter than 3 bytes: bad-header.",
     "7915 4.1, 791 3.1"),
    ("ext-headers",
     "Hop-by-hop, routing and destination options headers in any order, at most EXT_HEADERS_MAX including the fragment "
     "header, and EXT_BYTES_MAX bytes together; more: ext-header. Any hop-by-hop position is accepted; options are not "
     "looked at. A header that does not fit: truncated. The first header that is none of these and not 44 is the "
     "protocol (AH 51, ESP 50, 59, 135, ... copied).",
     "7915 5.1"),
    ("routing",
     "Segments left > 0, any routing type: routing-header; Parameter Problem code 0 pointing at Segments Left.",
     "7915 5.1"),
    ("frag-ext",
     "Fragment header (atomic too) whose next header is 0, 43, 44, 51, 60, 135, 139 or 140: ext-header. ESP, 59 and "
     "253/254 count as upper layer.",
     "7915 5.1.1, 7045"),
    ("protocol",
     "Both ways IGMP (2) and ICMP of the other family: protocol. 4to6 also 0, 43, 44 and 60: as IPv4 protocols they "
     "mean nothing and an IPv6 host would read the payload as extension headers, which lets an IPv4 sender forge them. "
     "All other numbers are copied, payload untouched.",
     "7915 4.1, 4.2; 4.5 speaks of transport protocols"),
    # --- fragments ---
    ("fragment-bad",
     "Fragment without payload; offset + length > 65515 (IPv4 could not carry the whole); first fragment too short for "
     "its fixed header. Overlaps need state: they pass, and the host that reassembles rejects them. So does "
     "more-fragments with a length that is no multiple of 8, which 4.1 and 5.1.1 do not except; only when it would have "
     "to be cut it is fragment-bad, as no sender makes such pieces.",
     "8200 4.5, 791 3.2"),
    ("fragment-icmp",
     "Any fragment of ICMP either way (offset or M set): the pseudo-header holds the length of the whole message, "
     "which no fragment states, so the checksum of the first cannot be made. Atomic ones are whole packets. A whole "
     "ICMPv4 message with DF=0 is translated and then cut.",
     "7915 4.2, 5.2 with 8200 8.1"),
    ("cut",
     "4to6 with DF=0: if the IPv6 packet (with fragment header if it is a fragment already) exceeds limit = max(1280, "
     "min(lowest_ipv6_mtu, mtu)), it is cut; every piece but the last carries floor8(limit - 48) bytes. A whole "
     "packet with DF=1 is never cut. A fragment with DF=1 (some stacks send them) is cut at the link's MTU: 1480 bytes "
     "pass the MTU rule of 4.1, and no longer fit with a fragment header. Order of the pieces is free.",
     "7915 4.1"),
    # --- transport checksums ---
    ("checksum",
     "TCP, UDP, UDP-Lite, DCCP and ICMP: RFC 1624 eqn. 3 over everything that changed (pseudo-header, ICMP type and "
     "body), so that a wrong checksum stays wrong by the same amount. ICMP errors too: new = old + sum(new message) - "
     "sum(old message).",
     "7915 4.5, 5 (MUST be evaluated before translation), 1624"),
    ("udp0-46",
     "4to6, UDP checksum 0: whole packet: computed over the UDP length, which must be 8 .. payload length, else "
     "udp-length (bytes after it are carried along); first fragment: fragment-udp0; later fragments cannot be told and "
     "pass.",
     "7915 4.5"),
    ("udp0-64",
     "6to4, UDP checksum 0 (RFC 6936 tunnels; RFC 8200 8.1 speaks of receivers): stays 0, which says the same in IPv4. "
     "A checksum that becomes 0 is 0xffff, both ways. UDP-Lite: the same (0 stays 0, illegal before and after).",
     "768, 8200 8.1, 3828 3.1"),
    # --- ICMP ---
    ("icmp-code",
     "Echo with any code, Packet Too Big and Time Exceeded with any code (it is copied, but 0 in 3/4). Codes and types "
     "that 4.2 and 5.2 drop: icmp-type. Pointers: icmp-pointer. Unused bytes are 0 in the result.",
     "7915 4.2, 5.2"),
    ("mtu-46",
     "max(1280, min(MTU + 20, cfg.mtu)); the IPv4 next hop's MTU is its own stack's business. MTU 0: greatest RFC 1191 "
     "plateau in [1280, quoted total length) in place of MTU (+ 20 as well: plateaus are IPv4 MTUs); none: 1280.",
     "7915 4.2, 1191 7.1"),
    ("mtu-64",
     "min(MTU - 20, cfg.mtu - 20); with a fragment header in the quote (atomic too) 8 less than MTU - 20, as 5.2 says "
     "it must be taken into account; never below 68, the least IPv4 MTU, and at most 65535.",
     "7915 5.2"),
    ("protocol-unreachable",
     "3/2 becomes 4/1 with pointer 6, also when the quote gets a fragment header.",
     "7915 4.2"),
    ("quote-parse",
     "icmp-quote: wrong version, IP header or extension chain not complete, header lengths that contradict each other, "
     "anything in the chain that would drop a whole packet (segments left, extension header behind the fragment "
     "header, too many), protocols that do not cross, quoted ICMP (first fragment or whole) with less than 8 bytes or "
     "neither echo nor error, upper layer longer than IPv4 can carry. Options in a quoted IPv4 header are skipped "
     "unread. Everything else is translated, however short.",
     "7915 4.3, 5.3, 792"),
    ("quote-nested",
     "Quoted ICMPv4 type 3, 4, 5, 11, 12 or ICMPv6 type < 128: icmp-nested.",
     "7915 4.3, 5.3"),
    ("quote-owner",
     "icmp-foreign: 4to6 the quoted source is not the outer destination, or the quoted destination is one of "
     "illegal-v4, to which no packet of the host has crossed; 6to4 the quoted source is not in the NAT64 prefix or not "
     "the outer IPv4 destination (compared after extraction; so it is legal if that is), or the quoted destination has "
     "no mapping (none is made for it).",
     "issue; 5508 REQ-4"),
    ("quote-header",
     "Lengths, DF, fragment fields follow the rules of 4.1 and 5.1 from the quoted header's own length field "
     "(upper-layer length as claimed, not as present). Identification 6to4 without fragment header is free; the "
     "flow label 4to6 is 0. A quoted IPv4 packet is never cut; it has a fragment header only if it is a fragment.",
     "7915 4.3, 5.3"),
    ("quote-transport",
     "Checksum updated when its field is inside the bytes present (offset 0 only); UDP and UDP-Lite 0 stays 0 both "
     "ways. Quoted echo: type and checksum translated; the pseudo-header length is the claimed upper-layer length, of "
     "the fragment if it is one (nobody can check that sum).",
     "7915 4.3, 5.3"),
    ("rfc4884",
     "An extension is there when the length attribute is at least 128 octets and the message goes on behind it; "
     "otherwise all is quote and the attribute becomes 0. The field is translated as it is, padding too, then zero "
     "padded to 128 octets and to the unit (4 in ICMPv4, 8 in ICMPv6). In ICMPv6 Packet Too Big and Parameter Problem, "
     "which have no attribute, the extension is left off.",
     "4884 3, 4; 7915 4.2, 5.2"),
    ("truncation",
     "ICMPv6 errors are cut at 1280 bytes of IPv6 packet, ICMPv4 errors at 576 bytes of IPv4 packet, which 4884 5.3 asks "
     "of those with extensions, too. The original datagram field is the first to be cut, down to its 128 octets; of an "
     "extension that does not fit behind these the end goes (4.2: simply truncated, if it exceeds the maximum size).",
     "7915 4.2, 4443 2.4 c, 1812 4.3.2.3, 4884 3, 5.3"),
    # --- errors that the translator sends itself ---
    ("answers",
     "A dropped packet is answered with what ANSWERS64 and ANSWERS46 list by its reason: 1/1 and 3/13 unless 7915 or "
     "6146 name another. Not listed, so silent: src-illegal and the ICMP types and pointers that 7915 drops silently; "
     "ICMP errors (icmp-*); packets that contradict themselves (truncated, bad-header, fragment-bad, udp-length: 1812 "
     "4.3.2.7, they fail validation).",
     "7915 4.1, 4.4, 5.1, 5.4, 6146 3.4, 3.5"),
    ("no-answers",
     "Nobody is answered about an ICMP error or an ICMPv6 redirect, a later fragment (also in IPv6: the first has the "
     "answer), to an illegal source, about an IPv6 packet whose embedded destination is multicast or broadcast, or about "
     "IGMP (7915 4.2: silently). ICMPv6 queries are answered, which 7915 5.4 does not ask for and 4443 2.4 allows. Of a "
     "packet whose extension headers cannot be walked to their end it is not known that it is an error: answered.",
     "4443 2.4 e, 1812 4.3.2.7"),
    ("answer-form",
     "Source: the address that the packet was for. Hop limit and TTL 64, traffic class 0, TOS 0xc0, the identification is "
     "free. As much of the packet as fits 1280 and 576 bytes, without link padding.",
     "4443 2.4 c, 3.1, 1812 4.3.2"),
]

# RFC 7915 puts no bound on extension headers; a parser needs one.
EXT_HEADERS_MAX = 8
EXT_BYTES_MAX = 2032

IGMP, ICMP4, ICMP6, TCP, UDP, DCCP, UDPLITE = 2, 1, 58, 6, 17, 33, 136
HOPOPT, ROUTING, FRAGMENT, DSTOPTS, AH = 0, 43, 44, 60, 51

# Next headers behind a fragment header that mean "extension header", RFC 7915 section 5.1.1, IANA ipv6-parameters.
EXT_BEHIND_FRAGMENT = {HOPOPT, ROUTING, FRAGMENT, AH, DSTOPTS, 135, 139, 140}
NOT_CROSSING_64 = {ICMP4, IGMP}
NOT_CROSSING_46 = {ICMP6, IGMP, HOPOPT, ROUTING, FRAGMENT, DSTOPTS}

FIXED_HEADER = {TCP: 20, UDP: 8, UDPLITE: 8, DCCP: 12}      # RFC 9293 3.1, 768, 3828 3.1, 4340 5.1
CHECKSUM_AT = {TCP: 16, UDP: 6, UDPLITE: 6, DCCP: 6}
ICMP_HEADER = 8

PAYLOAD_MAX = 65535 - 20
DF_ABOVE = 1260                                             # RFC 7915 section 5
IPV6_MIN_MTU = 1280
ICMP4_ERROR_MAX = 576                                       # RFC 1812 section 4.3.2.3
ICMP6_ERROR_MAX = 1280                                      # RFC 4443 section 2.4 (c)
ORIGINAL_DATAGRAM_MIN = 128                                 # RFC 4884 section 3
PLATEAUS = (65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68)    # RFC 1191 section 7.1

ICMP4_ERRORS = {3, 4, 5, 11, 12}                            # RFC 1812 section 4.3.2.7

# Drop reason: (type, code) of the answer. RFC 7915 sections 5.4 and 4.4.
ANSWERS64 = {
    "dst-illegal": (1, 1), "non-global": (1, 1), "not-allowed": (1, 1), "ext-header": (1, 1), "fragment-icmp": (1, 1),
    "pool-full": (1, 3), "prefix-full": (1, 3),             # RFC 6146 section 3.5: address unreachable
    "protocol": (1, 4),                                     # RFC 6146 section 3.4: port unreachable
    "too-big": (2, 0),                                      # RFC 4443 section 3.2
    "routing-header": (4, 0),                               # RFC 7915 section 5.1
}
ANSWERS46 = {
    "non-global": (3, 13), "fragment-icmp": (3, 13), "fragment-udp0": (3, 13),
    "no-mapping": (3, 1),                                   # RFC 6146 section 3.5: host unreachable
    "protocol": (3, 2),                                     # RFC 6146 section 3.4: protocol unreachable
    "source-route": (3, 5),                                 # RFC 7915 section 4.1
}

WKP = IPv6Network("64:ff9b::/96")

ILLEGAL_V4 = [IPv4Network(n) for n in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4",
                                      "255.255.255.255/32")]

ILLEGAL_V6 = [IPv6Network(n) for n in ("::/128", "::1/128", "::ffff:0:0/96", "fe80::/10", "ff00::/8")]

# RFC 1918, RFC 5735 section 3 (all it lists), RFC 6598.
NON_GLOBAL = [IPv4Network(n) for n in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4")]


@dataclass
class Config:
    """What the translator is told, and the mappings (1:1). allocate(v6) gives the IPv4 address of a new mapping,
    or None when the pool is full; what it gives is entered into mappings."""
    v6_prefix: IPv6Network = WKP
    v4_prefix: IPv4Network = IPv4Network("10.0.1.0/24")
    allowed: list = field(default_factory=list)
    lowest_ipv6_mtu: int = IPV6_MIN_MTU
    icmp_src: IPv4Address = IPv4Address("192.0.0.8")
    wkp_strict: bool = False
    tos: Optional[int] = None
    tclass: Optional[int] = None
    mtu: int = 1500
    l3: bool = False
    mappings: dict = field(default_factory=dict)
    allocate: Optional[Callable] = None

    def owner(self, v4):
        """The IPv6 address that v4 is mapped to, or None."""
        for v6, mapped in self.mappings.items():
            if mapped == v4:
                return v6
        return None

    def new_mapping(self, v6):
        """A mapping for v6, or None when the pool is full. Without allocate: the lowest free address."""
        if self.allocate:
            v4 = self.allocate(v6)
        else:
            taken = set(self.mappings.values())
            v4 = next((a for a in self.v4_prefix.hosts() if a not in taken), None)
        if v4 is not None:
            self.mappings[v6] = v4
        return v4


@dataclass
class Result:
    """verdict: pass (not ours), translated, drop, or error (dropped, and icmp_error should go to the sender: a tuple
    family, type, code, pointer or MTU; answer is that packet). reason: name of the drop reason as in nat64.h. ident_free, quote_ident_free: the
    IPv4 identification of the packet, or of the packet quoted in it, is the translator's choice."""
    verdict: str
    packets: list = field(default_factory=list)
    reason: Optional[str] = None
    ident_free: bool = False
    quote_ident_free: bool = False
    icmp_error: Optional[tuple] = None
    answer: Optional[bytes] = None

    def matches(self, packets):
        """Whether an implementation's packets are the expected ones, in any order."""
        def norm(list_of_packets):
            return sorted(normalise(p, self.ident_free, self.quote_ident_free) for p in list_of_packets)
        return norm(self.packets) == norm(packets)


class Drop(Exception):
    """The packet is ours and must not cross."""

    def __init__(self, reason, pointer=0):
        super().__init__(reason)
        self.reason = reason
        self.pointer = pointer          # or MTU, for the answer


def be16(data, at):
    return data[at] << 8 | data[at + 1]


def be32(data, at):
    return be16(data, at) << 16 | be16(data, at + 2)


def put16(data, at, value):
    return data[:at] + value.to_bytes(2, "big") + data[at + 2:]


# --- checksums ---

INVERTED = bytes(~octet & 0xff for octet in range(256))


def ones_sum(data):
    """The one's complement sum of data's 16-bit words, zero padded (RFC 1071): 0 only if all are 0, else 1 to 0xffff.
    As 2^16 is 1 modulo 0xffff, that is the remainder of the whole number that data spells."""
    number = int.from_bytes(data + bytes(len(data) % 2), "big")
    return number % 0xffff or (0xffff if number else 0)


def ones_add(*sums):
    """The one's complement sum of sums."""
    return ones_sum(b"".join(s.to_bytes(2, "big") for s in sums))


def checksum(data):
    """RFC 1071: the checksum of data in which the checksum field is zero."""
    return ~ones_sum(data) & 0xffff


def update(old_checksum, old, new):
    """RFC 1624 eqn. 3: HC' = ~(~HC + ~m + m') for all words m of old, m' of new (both without the checksum itself)."""
    old += bytes(len(old) % 2)
    return ~ones_add(~old_checksum & 0xffff, ones_sum(old.translate(INVERTED)), ones_sum(new)) & 0xffff


def pseudo6(src, dst, length, proto):
    """RFC 8200 section 8.1."""
    return src.packed + dst.packed + length.to_bytes(4, "big") + bytes((0, 0, 0, proto))


def update_transport(proto, payload, old_addrs, new_addrs):
    """RFC 7915 sections 4.5 and 5.5: the pseudo-header's addresses change, its length and protocol do not. What is
    shorter than the checksum field (in a quote) stays."""
    at = CHECKSUM_AT.get(proto)
    if at is None or len(payload) < at + 2:
        return payload
    old = be16(payload, at)
    if proto in (UDP, UDPLITE) and old == 0:
        return payload
    new = update(old, b"".join(a.packed for a in old_addrs), b"".join(a.packed for a in new_addrs))
    if proto in (UDP, UDPLITE) and new == 0:
        new = 0xffff
    return put16(payload, at, new)


def update_icmp(old_message, new_message, old_pseudo=b"", new_pseudo=b""):
    """RFC 7915 sections 4.2 and 5.2: new_message with the checksum that old_message's becomes."""
    old = be16(old_message, 2)
    new = update(old, old_pseudo + put16(old_message, 2, 0), new_pseudo + put16(new_message, 2, 0))
    return put16(new_message, 2, new)


# --- addresses ---

def embed(prefix, v4):
    """RFC 6052 section 2.3: prefix, address, suffix zero, with the null octet "u" at bits 64 to 71."""
    octets = prefix.network_address.packed[:prefix.prefixlen // 8] + v4.packed
    if prefix.prefixlen < 96:
        octets = octets.ljust(15, b"\0")
        octets = octets[:8] + b"\0" + octets[8:]
    return IPv6Address(octets)


def extract(prefix, v6):
    """RFC 6052 section 2.3."""
    octets = v6.packed
    if prefix.prefixlen == 96:
        return IPv4Address(octets[12:])
    octets = octets[:8] + octets[9:]
    at = prefix.prefixlen // 8
    return IPv4Address(octets[at:at + 4])


def illegal_v4(v4):
    """RFC 1812 section 5.3.7, but for class E, which DECISIONS carry."""
    return any(v4 in net for net in ILLEGAL_V4)


def illegal_v6(cfg, v6):
    """RFC 7915 section 5.1, RFC 4291 section 2.5."""
    return v6 in cfg.v6_prefix or any(v6 in net for net in ILLEGAL_V6)


def non_global(cfg, v4):
    """RFC 6052 section 3.1: v4 may not stand behind the well-known prefix."""
    if not cfg.wkp_strict or cfg.v6_prefix != WKP or v4 in cfg.v4_prefix or v4 == cfg.icmp_src:
        return False
    return any(v4 in net for net in NON_GLOBAL)


# --- parsing ---

@dataclass
class Chain6:
    """Where an IPv6 packet's headers lead: protocol, offset of its first byte, fragment fields (offset in bytes)."""
    proto: int
    at: int
    has_fragment_header: bool = False
    offset: int = 0
    more: bool = False
    ident: int = 0

    @property
    def is_fragment(self):
        return bool(self.offset or self.more)


def walk6(packet, ignore_segments_left=False):
    """RFC 7915 section 5.1: the headers up to the first that is not skipped. Raises Drop; routing-header carries the
    offset of Segments Left."""
    nexthdr, at, count = packet[6], 40, 0
    while nexthdr in (HOPOPT, ROUTING, DSTOPTS, FRAGMENT):
        count += 1
        if count > EXT_HEADERS_MAX:
            raise Drop("ext-header")
        if at + 8 > len(packet):
            raise Drop("truncated")
        if nexthdr == FRAGMENT:
            # RFC 8200 section 4.5: next header, reserved, offset (13 bits, units of 8), reserved (2), M, identification
            field16 = be16(packet, at + 2)
            if packet[at] in EXT_BEHIND_FRAGMENT:
                raise Drop("ext-header")
            if at + 8 > 40 + EXT_BYTES_MAX:
                raise Drop("ext-header")
            return Chain6(packet[at], at + 8, True, field16 & 0xfff8, bool(field16 & 1), be32(packet, at + 4))
        length = (packet[at + 1] + 1) * 8
        if at + length > len(packet):
            raise Drop("truncated")
        if nexthdr == ROUTING and packet[at + 3] and not ignore_segments_left:
            raise Drop("routing-header", at + 3)
        nexthdr, at = packet[at], at + length
    if at > 40 + EXT_BYTES_MAX:
        raise Drop("ext-header")
    return Chain6(nexthdr, at)


def is_icmp6_error(packet):
    """RFC 4443 section 2.4 (e.1, e.2): nothing is sent about this packet."""
    try:
        chain = walk6(packet, ignore_segments_left=True)
    except Drop:
        return False
    return chain.proto == ICMP6 and not chain.offset and chain.at < len(packet) and \
        (packet[chain.at] < 128 or packet[chain.at] == 137)


def is_later_fragment6(packet):
    nexthdr, at = packet[6], 40
    for _ in range(EXT_HEADERS_MAX):
        if nexthdr not in (HOPOPT, ROUTING, DSTOPTS, FRAGMENT) or at + 8 > len(packet):
            return False
        if nexthdr == FRAGMENT:
            return be16(packet, at + 2) >= 8
        nexthdr, at = packet[at], at + (packet[at + 1] + 1) * 8
    return False


def walk_options(options):
    """RFC 791 section 3.1, RFC 7915 section 4.1: raises Drop for an unexpired source route."""
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == 0:
            return
        if kind == 1:
            at += 1
            continue
        if at + 2 > len(options) or options[at + 1] < 2 or at + options[at + 1] > len(options):
            raise Drop("bad-header")
        length = options[at + 1]
        if kind in (131, 137):
            if length < 3:
                raise Drop("bad-header")
            if options[at + 2] <= length:
                raise Drop("source-route")
        at += length


def check_transport(proto, icmp, payload, is_fragment, offset, more):
    """What must be known about transport and fragments before anything is translated: RFC 7915 sections 4.5, 5.5,
    5.1.1, RFC 8200 section 4.5."""
    if is_fragment:
        if not payload or offset + len(payload) > PAYLOAD_MAX:
            raise Drop("fragment-bad")
        if proto == icmp:
            raise Drop("fragment-icmp")
    if offset == 0:
        need = ICMP_HEADER if proto == icmp else FIXED_HEADER.get(proto, 0)
        if len(payload) < need:
            raise Drop("fragment-bad" if is_fragment else "truncated")


# --- RFC 4884 ---

def split_original(data, length_octets):
    """The "original datagram" field and the extension structure behind it; None without one (RFC 4884 section 4)."""
    if length_octets < ORIGINAL_DATAGRAM_MIN or length_octets >= len(data):
        return data, None
    return data[:length_octets], data[length_octets:]


def join_original(quote, extension, unit, room):
    """Quote and extension for the other family: bytes (at most room) and the length attribute (RFC 4884 section 3). How
    much of the original datagram there is, each implementation decides (section 5.3): as much as the extension leaves
    room for, but its minimum."""
    if extension is None:
        return quote[:room], 0
    extension = extension[:room - ORIGINAL_DATAGRAM_MIN]
    quote = quote.ljust(ORIGINAL_DATAGRAM_MIN, b"\0")
    quote += bytes(-len(quote) % unit)
    quote = quote[:(room - len(extension)) // unit * unit]
    return quote + extension, len(quote) // unit


# --- IPv6 to IPv4: RFC 7915 section 5 ---

def ipv4_header(cfg, tclass, length, hop_limit, proto, src, dst, chain):
    """RFC 7915 sections 5.1 and 5.1.1; length is the payload's."""
    total = 20 + length
    if chain.has_fragment_header:
        ident = chain.ident & 0xffff
        flags = (0x2000 if chain.more else 0) | chain.offset >> 3
    else:
        ident = 0
        flags = 0x4000 if total > DF_ABOVE else 0
    tos = tclass if cfg.tos is None else cfg.tos
    header = bytes((0x45, tos)) + total.to_bytes(2, "big") + ident.to_bytes(2, "big") + flags.to_bytes(2, "big") + \
        bytes((hop_limit, ICMP4 if proto == ICMP6 else proto, 0, 0)) + src.packed + dst.packed
    return put16(header, 10, checksum(header))


def tclass_of(packet):
    return (packet[0] << 4 | packet[1] >> 4) & 0xff


ICMP6_ECHO = {128: 8, 129: 0}


def icmp64_error_type(message):
    """RFC 7915 section 5.2: ICMPv6 type, code, MTU and pointer to (type, code, pointer), None for the MTU's case."""
    kind, code = message[0], message[1]
    if kind == 1:                                           # Destination Unreachable
        codes = {0: 1, 1: 10, 2: 1, 3: 1, 4: 3}
        if code in codes:
            return 3, codes[code], 0
    elif kind == 2:                                         # Packet Too Big
        return 3, 4, None
    elif kind == 3:                                         # Time Exceeded
        return 11, code, 0
    elif kind == 4:                                         # Parameter Problem
        if code == 0:
            pointer = be32(message, 4)
            if pointer in (0, 1):                           # Figure 6
                return 12, 0, pointer
            if pointer in (4, 5):
                return 12, 0, 2
            if pointer == 6:
                return 12, 0, 9
            if pointer == 7:
                return 12, 0, 8
            if 8 <= pointer <= 23:
                return 12, 0, 12
            if 24 <= pointer <= 39:
                return 12, 0, 16
            raise Drop("icmp-pointer")
        if code == 1:
            return 3, 2, 0
    raise Drop("icmp-type")


def quote64(cfg, quote, outer_dst4):
    """RFC 7915 section 5.3: the IPv6 packet in error, perhaps truncated, as IPv4; and its chain of headers."""
    if len(quote) < 40 or quote[0] >> 4 != 6:
        raise Drop("icmp-quote")
    try:
        chain = walk6(quote)
    except Drop:
        raise Drop("icmp-quote") from None
    claimed = be16(quote, 4) - (chain.at - 40)
    if claimed < 0 or claimed > PAYLOAD_MAX or chain.proto in NOT_CROSSING_64:
        raise Drop("icmp-quote")

    src, dst = IPv6Address(quote[8:24]), IPv6Address(quote[24:40])
    # RFC 5508 REQ-4. That the quoted source is legal follows from the outer destination, which _xlat64 has checked.
    if src not in cfg.v6_prefix or extract(cfg.v6_prefix, src) != outer_dst4 or dst not in cfg.mappings:
        raise Drop("icmp-foreign")
    src4, dst4 = outer_dst4, cfg.mappings[dst]

    payload = quote[chain.at:]
    if chain.offset == 0:
        if chain.proto == ICMP6:
            if len(payload) < ICMP_HEADER:
                raise Drop("icmp-quote")
            if payload[0] < 128:
                raise Drop("icmp-nested")
            if payload[0] not in ICMP6_ECHO:
                raise Drop("icmp-quote")
            payload = echo64(payload, src, dst, claimed)
        else:
            payload = update_transport(chain.proto, payload, (src, dst), (src4, dst4))
    return ipv4_header(cfg, tclass_of(quote), claimed, quote[7], chain.proto, src4, dst4, chain) + payload, chain


def echo64(message, src, dst, length):
    """RFC 7915 section 5.2, ICMPv6 informational messages: out of the checksum go the type and the pseudo-header.
    Only the type differs in the message, so a truncated one will do."""
    new = bytes((ICMP6_ECHO[message[0]],)) + message[1:]
    return update_icmp(message[:8], new[:8], pseudo6(src, dst, length, ICMP6)) + new[8:]


def icmp64_error(cfg, message, src, dst, dst4):
    """RFC 7915 sections 5.2 and 5.3: an ICMPv6 error as ICMPv4, and whether the quoted identification is free."""
    kind, code, pointer = icmp64_error_type(message)
    length_attribute = message[4] * 8 if message[0] in (1, 3) else 0
    quote, extension = split_original(message[8:], length_attribute)
    quote4, chain = quote64(cfg, quote, dst4)
    body, length = join_original(quote4, extension, 4, ICMP4_ERROR_MAX - 20 - ICMP_HEADER)

    rest = bytes((pointer or 0, length, 0, 0))
    if pointer is None:
        mtu = min(be32(message, 4) - (28 if chain.has_fragment_header else 20), cfg.mtu - 20, 65535)
        rest = bytes((0, length)) + max(mtu, 68).to_bytes(2, "big")
    new = bytes((kind, code, 0, 0)) + rest + body
    return update_icmp(message, new, pseudo6(src, dst, len(message), ICMP6)), not chain.has_fragment_header


def _xlat64(cfg, packet):
    src, dst = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    if 40 + be16(packet, 4) > len(packet):
        raise Drop("truncated")
    packet = packet[:40 + be16(packet, 4)]
    chain = walk6(packet)
    proto, payload = chain.proto, packet[chain.at:]
    if proto in NOT_CROSSING_64:
        raise Drop("protocol")
    check_transport(proto, ICMP6, payload, chain.is_fragment, chain.offset, chain.more)
    if len(payload) > PAYLOAD_MAX:
        raise Drop("too-big", 65535)                        # fits, whatever headers the next one has

    if illegal_v6(cfg, src):
        raise Drop("src-illegal")
    dst4 = extract(cfg.v6_prefix, dst)
    if illegal_v4(dst4):
        raise Drop("dst-illegal")
    if non_global(cfg, dst4):
        raise Drop("non-global")

    is_error = proto == ICMP6 and payload[0] < 128
    src4 = cfg.mappings.get(src)
    allowed = any(src in net for net in cfg.allowed)
    if proto == ICMP6 and not is_error and payload[0] not in ICMP6_ECHO:
        raise Drop("icmp-type")
    if src4 is None and not allowed and not is_error:
        raise Drop("not-allowed")

    quote_ident_free = False
    if is_error:
        payload, quote_ident_free = icmp64_error(cfg, payload, src, dst, dst4)
    elif proto == ICMP6:
        payload = echo64(payload, src, dst, len(payload))

    if src4 is None and allowed:
        src4 = cfg.new_mapping(src)
    if src4 is None:
        if not is_error:
            raise Drop("pool-full")
        src4 = cfg.icmp_src
    if chain.offset == 0:
        payload = update_transport(proto, payload, (src, dst), (src4, dst4))

    header = ipv4_header(cfg, tclass_of(packet), len(payload), packet[7], proto, src4, dst4, chain)
    return Result("translated", [header + payload], ident_free=not chain.has_fragment_header,
                  quote_ident_free=quote_ident_free)


# --- IPv4 to IPv6: RFC 7915 section 4 ---

def ipv6_header(cfg, tos, length, ttl, proto, src, dst, fragment=None):
    """RFC 7915 section 4.1; length is the payload's, fragment = (offset in bytes, more, identification) or None."""
    tclass = tos if cfg.tclass is None else cfg.tclass
    proto = ICMP6 if proto == ICMP4 else proto
    nexthdr, extra = proto, b""
    if fragment:
        offset, more, ident = fragment
        nexthdr, extra = FRAGMENT, bytes((proto, 0)) + (offset | more).to_bytes(2, "big") + ident.to_bytes(4, "big")
    return (6 << 28 | tclass << 20).to_bytes(4, "big") + (length + len(extra)).to_bytes(2, "big") + \
        bytes((nexthdr, ttl)) + src.packed + dst.packed + extra


ICMP4_ECHO = {8: 128, 0: 129}


def icmp46_error_type(message):
    """RFC 7915 section 4.2: ICMPv4 type, code and pointer to (type, code, pointer), None for the MTU's case."""
    kind, code = message[0], message[1]
    if kind == 3:                                           # Destination Unreachable
        if code in (0, 1, 5, 6, 7, 8, 11, 12):
            return 1, 0, 0
        if code == 2:
            return 4, 1, 6
        if code == 3:
            return 1, 4, 0
        if code == 4:
            return 2, 0, None
        if code in (9, 10, 13, 15):
            return 1, 1, 0
    elif kind == 11:                                        # Time Exceeded
        return 3, code, 0
    elif kind == 12 and code in (0, 2):                     # Parameter Problem
        pointers = {0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6}     # Figure 3
        pointers.update({p: 8 for p in range(12, 16)})
        pointers.update({p: 24 for p in range(16, 20)})
        if message[4] in pointers:
            return 4, 0, pointers[message[4]]
        raise Drop("icmp-pointer")
    raise Drop("icmp-type")


def packet_too_big(cfg, mtu, quoted_total):
    """RFC 7915 section 4.2, Code 4: the MTU field of the ICMPv6 message."""
    if mtu == 0:
        mtu = next((p for p in PLATEAUS if IPV6_MIN_MTU <= p < quoted_total), 0)
    return max(IPV6_MIN_MTU, min(mtu + 20, cfg.mtu))


def quote46(cfg, quote, outer_dst, outer_dst6):
    """RFC 7915 section 4.3: the IPv4 packet in error, perhaps truncated, as IPv6."""
    if len(quote) < 20 or quote[0] >> 4 != 4:
        raise Drop("icmp-quote")
    ihl, total, field16, proto = (quote[0] & 15) * 4, be16(quote, 2), be16(quote, 6), quote[9]
    if ihl < 20 or ihl > len(quote) or total < ihl or proto in NOT_CROSSING_46:
        raise Drop("icmp-quote")

    src, dst = IPv4Address(quote[12:16]), IPv4Address(quote[16:20])
    # RFC 5508 REQ-4: a NAT translates errors about what it translated. An illegal destination never was: dst-illegal.
    # (Section 4.1 lets the illegal source of the error itself cross, and speaks of no other address.)
    if src != outer_dst or illegal_v4(dst):
        raise Drop("icmp-foreign")
    if non_global(cfg, dst):
        raise Drop("non-global")
    src6, dst6 = outer_dst6, embed(cfg.v6_prefix, dst)

    payload, claimed = quote[ihl:], total - ihl
    offset, more = (field16 & 0x1fff) * 8, bool(field16 & 0x2000)
    if offset == 0:
        if proto == ICMP4:
            if len(payload) < ICMP_HEADER:
                raise Drop("icmp-quote")
            if payload[0] in ICMP4_ERRORS:
                raise Drop("icmp-nested")
            if payload[0] not in ICMP4_ECHO:
                raise Drop("icmp-quote")
            payload = echo46(payload, src6, dst6, claimed)
        else:
            payload = update_transport(proto, payload, (src, dst), (src6, dst6))
    fragment = (offset, more, be16(quote, 4)) if offset or more else None
    return ipv6_header(cfg, quote[1], claimed, quote[8], proto, src6, dst6, fragment) + payload


def echo46(message, src6, dst6, length):
    """RFC 7915 section 4.2, ICMPv4 query messages: into the checksum go the type and the pseudo-header."""
    new = bytes((ICMP4_ECHO[message[0]],)) + message[1:]
    return update_icmp(message[:8], new[:8], new_pseudo=pseudo6(src6, dst6, length, ICMP6)) + new[8:]


def icmp46_error(cfg, message, src6, dst, dst6):
    """RFC 7915 sections 4.2 and 4.3: an ICMPv4 error as ICMPv6."""
    kind, code, pointer = icmp46_error_type(message)
    quote, extension = split_original(message[8:], message[5] * 4)
    quote6 = quote46(cfg, quote, dst, dst6)
    if kind not in (1, 3):
        extension = None                                    # RFC 4884 section 4.6
    body, length = join_original(quote6, extension, 8, ICMP6_ERROR_MAX - 40 - ICMP_HEADER)

    if pointer is None:
        rest = packet_too_big(cfg, be16(message, 6), be16(quote, 2)).to_bytes(4, "big")
    elif kind == 4:
        rest = pointer.to_bytes(4, "big")
    else:
        rest = bytes((length, 0, 0, 0))
    new = bytes((kind, code, 0, 0)) + rest + body
    return update_icmp(message, new, new_pseudo=pseudo6(src6, dst6, len(new), ICMP6))


def udp_checksum(payload, src6, dst6):
    """RFC 7915 section 4.5, RFC 8200 section 8.1: a UDP packet without checksum gets one."""
    length = be16(payload, 4)
    if length < 8 or length > len(payload):
        raise Drop("udp-length")
    value = checksum(pseudo6(src6, dst6, length, UDP) + payload[:length])
    return put16(payload, 6, value or 0xffff)


def _xlat46(cfg, packet):
    ihl, total, field16, proto = (packet[0] & 15) * 4, be16(packet, 2), be16(packet, 6), packet[9]
    src, dst = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    if ihl < 20:
        raise Drop("bad-header")
    if ihl > len(packet):
        raise Drop("truncated")
    if total < ihl:
        raise Drop("bad-header")
    if total > len(packet):
        raise Drop("truncated")
    payload = packet[ihl:total]
    offset, more, dont = (field16 & 0x1fff) * 8, bool(field16 & 0x2000), bool(field16 & 0x4000)
    is_fragment = bool(offset or more)
    is_error = proto == ICMP4 and offset == 0 and bool(payload) and payload[0] in ICMP4_ERRORS
    walk_options(packet[20:ihl])
    if proto in NOT_CROSSING_46:
        raise Drop("protocol")
    check_transport(proto, ICMP4, payload, is_fragment, offset, more)

    if illegal_v4(src) and not is_error:
        raise Drop("src-illegal")
    if non_global(cfg, src):
        raise Drop("non-global")
    dst6 = cfg.owner(dst)
    if dst6 is None:
        raise Drop("no-mapping")
    src6 = embed(cfg.v6_prefix, src)

    if is_error:
        payload = icmp46_error(cfg, payload, src6, dst, dst6)
    elif proto == ICMP4:
        if payload[0] not in ICMP4_ECHO:
            raise Drop("icmp-type")
        payload = echo46(payload, src6, dst6, len(payload))
    elif proto == UDP and offset == 0 and be16(payload, 6) == 0:
        if is_fragment:
            raise Drop("fragment-udp0")
        payload = udp_checksum(payload, src6, dst6)
    elif offset == 0:
        payload = update_transport(proto, payload, (src, dst), (src6, dst6))

    def emit(piece, fragment):
        return ipv6_header(cfg, packet[1], len(piece), packet[8], proto, src6, dst6, fragment) + piece

    ident = be16(packet, 4)
    limit = max(IPV6_MIN_MTU, cfg.mtu if dont else min(cfg.lowest_ipv6_mtu, cfg.mtu))
    if dont and not is_fragment or 40 + 8 * is_fragment + len(payload) <= limit:
        return Result("translated", [emit(payload, (offset, more, ident) if is_fragment else None)])
    if more and len(payload) % 8:
        raise Drop("fragment-bad")
    most = (limit - 48) // 8 * 8
    pieces = []
    for at in range(0, len(payload), most):
        last = at + most >= len(payload)
        pieces.append(emit(payload[at:at + most], (offset + at, more or not last, ident)))
    return Result("translated", pieces)


# --- what is sent about packets that are dropped ---

def answer64(cfg, packet, drop):
    """RFC 7915 section 5.4: Result of a dropped IPv6 packet."""
    packet = packet[:40 + be16(packet, 4)]
    src, dst = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    dst4 = extract(cfg.v6_prefix, dst)
    if drop.reason not in ANSWERS64 or illegal_v6(cfg, src) or is_later_fragment6(packet) or is_icmp6_error(packet) or \
            dst4.is_multicast or dst4 == IPv4Address("255.255.255.255"):
        return Result("drop", reason=drop.reason)
    kind, code = ANSWERS64[drop.reason]
    message = bytes((kind, code, 0, 0)) + drop.pointer.to_bytes(4, "big") + packet[:ICMP6_ERROR_MAX - 40 - ICMP_HEADER]
    message = put16(message, 2, checksum(pseudo6(dst, src, len(message), ICMP6) + message))
    answer = ipv6_header(Config(), 0, len(message), 64, ICMP6, dst, src) + message
    return Result("error", reason=drop.reason, icmp_error=("icmpv6", kind, code, drop.pointer), answer=answer)


def answer46(_, packet, drop):
    """RFC 7915 section 4.4: Result of a dropped IPv4 packet."""
    if drop.reason not in ANSWERS46:
        return Result("drop", reason=drop.reason)
    packet = packet[:be16(packet, 2)]
    src, dst, proto, payload = IPv4Address(packet[12:16]), IPv4Address(packet[16:20]), packet[9], \
        packet[(packet[0] & 15) * 4:]
    if illegal_v4(src) or be16(packet, 6) & 0x1fff or proto == IGMP or \
            proto == ICMP4 and payload and payload[0] in ICMP4_ERRORS:
        return Result("drop", reason=drop.reason)
    kind, code = ANSWERS46[drop.reason]
    message = bytes((kind, code, 0, 0, 0, 0, 0, 0)) + packet[:ICMP4_ERROR_MAX - 20 - ICMP_HEADER]
    message = put16(message, 2, checksum(message))
    answer = ipv4_header(Config(), 0xc0, len(message), 64, ICMP4, dst, src, Chain6(ICMP4, 0)) + message
    return Result("error", reason=drop.reason, icmp_error=("icmpv4", kind, code, 0), answer=answer, ident_free=True)


# --- the entry points ---

def run(translate, answer, cfg, packet):
    try:
        return translate(cfg, packet)
    except Drop as drop:
        return answer(cfg, packet, drop)


def xlat64(cfg, packet):
    """What becomes of an IPv6 packet that arrives (RFC 7915 section 5.6)."""
    packet = bytes(packet)
    if len(packet) < 40 or packet[0] >> 4 != 6 or IPv6Address(packet[24:40]) not in cfg.v6_prefix:
        return Result("pass")
    return run(_xlat64, answer64, cfg, packet)


def xlat46(cfg, packet):
    """What becomes of an IPv4 packet that is about to leave (RFC 7915 section 4.6)."""
    packet = bytes(packet)
    if len(packet) < 20 or packet[0] >> 4 != 4 or \
            IPv4Address(packet[16:20]) not in cfg.v4_prefix and IPv4Address(packet[16:20]) != cfg.icmp_src:
        return Result("pass")
    return run(_xlat46, answer46, cfg, packet)


# --- comparison ---

def normalise(packet, ident_free=False, quote_ident_free=False):
    """A translated packet with everything that may differ between right translators made the same:

    - link padding behind the IP packet is cut off;
    - a right IPv4 header checksum is written as 0 (a wrong one marks the packet, it equals no right packet's form),
      the identification as 0 where it is free;
    - the TCP, DCCP and ICMP checksum 0xffff is written as 0x0000: both are zero in one's complement and both verify,
      and which of them comes out of RFC 1624 depends on the way to add. Not so for UDP and UDP-Lite: there 0 is none.
    The same holds inside an ICMP error. The ICMP checksum over a quoted IPv4 header does not depend on its
    identification, because a right header sums to zero."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        packet = packet[:max(be16(packet, 2), 20)]
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        packet = packet[:40 + be16(packet, 4)]
    return _normalise(packet, ident_free, quote_ident_free, False)


def _normalise(packet, ident_free, quote_ident_free, quoted):
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        at, proto, offset, icmp = (packet[0] & 15) * 4, packet[9], be16(packet, 6) & 0x1fff, ICMP4
        if ones_sum(packet[:at]) != 0xffff:
            return b"wrong IPv4 header checksum: " + packet
        packet = put16(packet, 10, 0)
        if ident_free:
            packet = put16(packet, 4, 0)
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        at, proto, offset, icmp = 40, packet[6], 0, ICMP6
        if proto == FRAGMENT and len(packet) >= 48:
            at, proto, offset = 48, packet[40], be16(packet, 42) & 0xfff8
    else:
        return packet
    if offset:
        return packet
    where = 2 if proto == icmp else CHECKSUM_AT.get(proto)
    if where and proto not in (UDP, UDPLITE) and len(packet) >= at + where + 2 and be16(packet, at + where) == 0xffff:
        packet = put16(packet, at + where, 0)
    if proto == icmp and not quoted and len(packet) > at + 8:
        errors = ICMP4_ERRORS if icmp == ICMP4 else range(1, 128)
        if packet[at] in errors:
            packet = packet[:at + 8] + _normalise(packet[at + 8:], quote_ident_free, False, True)
    return packet


def same(a, b, ident_free=True, quote_ident_free=True):
    """Whether two translated packets are the same but for what RFC 7915 leaves free; see normalise()."""
    return normalise(a, ident_free, quote_ident_free) == normalise(b, ident_free, quote_ident_free)
