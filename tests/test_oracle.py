# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle against the RFCs' own examples and tables, and against packets whose checksums scapy computed."""

import dataclasses
import itertools
import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, in6_chksum
from scapy.packet import Raw
from scapy.utils import checksum as rfc1071

import generator
import oracle
from oracle import Config, same, xlat46, xlat64

H6, H4 = "2001:db8::1", "192.0.2.33"            # an IPv6 host with a mapping
B6, B4 = "2001:db8::b", "192.0.2.34"            # another
N6 = "2001:db8::2"                              # allowed, no mapping yet
R6 = "2001:db8:99::1"                           # a router: no mapping, not allowed
S4, S6 = "198.51.100.2", "64:ff9b::c633:6402"   # the IPv4 server and what stands for it
ICMP_SRC = "192.0.0.8"

PROHIBITED6, PROHIBITED4 = ("icmpv6", 1, 1, 0), ("icmpv4", 3, 13, 0)     # RFC 7915 sections 5.4 and 4.4


def config(**kw):
    kw.setdefault("v4_prefix", IPv4Network("192.0.2.0/24"))
    kw.setdefault("allowed", [IPv6Network("2001:db8::/48")])
    kw.setdefault("mappings", {IPv6Address(H6): IPv4Address(H4), IPv6Address(B6): IPv4Address(B4)})
    return Config(**kw)


# --- building packets: headers and checksums by scapy ---

def pkt4(payload, src=S4, dst=H4, proto=17, **kw):
    return bytes(IP(src=src, dst=dst, proto=proto, ttl=kw.pop("ttl", 60), **kw) / Raw(payload))


def pkt6(payload, src=H6, dst=S6, nh=17, **kw):
    return bytes(IPv6(src=src, dst=dst, nh=nh, hlim=kw.pop("hlim", 60), **kw) / Raw(payload))


def frag6(nh, offset, more, ident, payload, reserved=0):
    """A fragment header and what follows (RFC 8200 section 4.5); offset in bytes."""
    return bytes((nh, reserved)) + (offset | more).to_bytes(2, "big") + ident.to_bytes(4, "big") + payload


def ext(nh, data=b"\1\4\0\0\0\0"):
    """Hop-by-hop or destination options header: PadN unless data says otherwise."""
    assert len(data) % 8 == 6
    return bytes((nh, len(data) // 8)) + data


def routing(nh, left, kind=0):
    return bytes((nh, 0, kind, left, 0, 0, 0, 0))


def l4_sum(proto, segment, at, src, dst, six):
    """segment with its checksum, computed by scapy over the pseudo-header of either family."""
    segment = segment[:at] + b"\0\0" + segment[at + 2:]
    if six:
        value = in6_chksum(proto, IPv6(src=src, dst=dst), segment)
    else:
        pseudo = IPv4Address(src).packed + IPv4Address(dst).packed + bytes((0, proto)) + len(segment).to_bytes(2, "big")
        value = rfc1071(pseudo + segment)
    if proto in (17, 136) and value == 0:
        value = 0xffff
    return segment[:at] + value.to_bytes(2, "big") + segment[at + 2:]


def udp(data=b"hello", sport=1000, dport=53, length=None):
    return sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + (length or 8 + len(data)).to_bytes(2, "big") + \
        b"\0\0" + data


def tcp(data=b"hello"):
    return bytes.fromhex("04d20050 00000001 00000002 50182000 0000 0000") + data


# protocol: (segment without checksum, offset of the checksum)
SEGMENTS = {6: (tcp(), 16), 17: (udp(), 6), 136: (udp(), 6),
            33: (bytes.fromhex("04d2005003000000 01000001 00000000") + b"dccp", 6)}


def seg4(proto, src=S4, dst=H4):
    segment, at = SEGMENTS[proto]
    return l4_sum(proto, segment, at, src, dst, False)


def seg6(proto, src=H6, dst=S6):
    segment, at = SEGMENTS[proto]
    return l4_sum(proto, segment, at, src, dst, True)


def icmp4(kind, code=0, rest=b"\0\0\0\0", body=b""):
    message = bytes((kind, code, 0, 0)) + rest + body
    return message[:2] + rfc1071(message).to_bytes(2, "big") + message[4:]


def icmp6(kind, code=0, rest=b"\0\0\0\0", body=b"", src=H6, dst=S6):
    return l4_sum(58, bytes((kind, code, 0, 0)) + rest + body, 2, src, dst, True)


def out(result):
    """The single packet of a translation."""
    assert (result.verdict, result.reason, len(result.packets)) == ("translated", None, 1), result
    return result.packets[0]


def drops(result, reason, icmp_error=None):
    assert (result.verdict, result.reason, result.packets) == ("error" if icmp_error else "drop", reason, []), result
    assert result.icmp_error == icmp_error and bool(result.answer) == bool(icmp_error)


def gives(result, expected, **kw):
    assert same(out(result), expected, **kw), f"\n{out(result).hex()}\n{expected.hex()}"


# --- checksum arithmetic ---

@pytest.mark.parametrize("old,m,new,expected", [
    (0xdd2f, 0x5555, 0x3285, 0x0000),               # RFC 1624 section 4
    (0x0000, 0x0000, 0x0000, 0x0000), (0xffff, 0xffff, 0x0000, 0xffff), (0xffff, 0x0000, 0x0000, 0x0000),
    (0x1234, 0x0001, 0x0002, 0x1233),
])
def test_rfc1624(old, m, new, expected):
    assert oracle.update(old, m.to_bytes(2, "big"), new.to_bytes(2, "big")) == expected


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0", b"\1", b"\xff\xff", b"\0\0\xff\xff", b"abc",
                                  bytes(range(256)) * 9])
def test_rfc1071(data):
    assert oracle.checksum(data) == rfc1071(data)


# --- RFC 6052 ---

TABLE_1 = [
    ("2001:db8::/32", "2001:db8:c000:221::"),
    ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
    ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
    ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
    ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
    ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
    ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
]


@pytest.mark.parametrize("prefix,address", TABLE_1)
def test_rfc6052_section_2_4(prefix, address):
    assert oracle.embed(IPv6Network(prefix), IPv4Address("192.0.2.33")) == IPv6Address(address)
    assert oracle.extract(IPv6Network(prefix), IPv6Address(address)) == IPv4Address("192.0.2.33")


@pytest.mark.parametrize("address", ["2001:db8:1c0:2:ff21::", "2001:db8:1c0:2:21:1:2:3",
                                     "2001:db8:1c0:2:ff21:ffff:ffff:ffff"])
def test_u_octet_and_suffix_are_ignored(address):
    assert oracle.extract(IPv6Network("2001:db8:100::/40"), IPv6Address(address)) == IPv4Address("192.0.2.33")


@pytest.mark.parametrize("prefix,s6", [(p, str(oracle.IPv6Address(a))) for p, a in TABLE_1])
def test_each_prefix_length_in_packets(prefix, s6):
    cfg = config(v6_prefix=IPv6Network(prefix), v4_prefix=IPv4Network("203.0.113.0/24"), allowed=[],
                 mappings={IPv6Address("fd00::1"): IPv4Address("203.0.113.9")})
    sent = pkt6(seg6(17, "fd00::1", s6), src="fd00::1", dst=s6)
    gives(xlat64(cfg, sent), pkt4(seg4(17, "203.0.113.9", "192.0.2.33"), src="203.0.113.9", dst="192.0.2.33"))
    answer = pkt4(seg4(17, "192.0.2.33", "203.0.113.9"), src="192.0.2.33", dst="203.0.113.9")
    gives(xlat46(cfg, answer), pkt6(seg6(17, s6, "fd00::1"), src=s6, dst="fd00::1"))
    error6 = icmp6(1, 4, body=pkt6(seg6(17, s6, "fd00::1"), src=s6, dst="fd00::1"), src="fd00::1", dst=s6)
    error4 = icmp4(3, 3, body=pkt4(seg4(17, "192.0.2.33", "203.0.113.9"), src="192.0.2.33", dst="203.0.113.9", id=0))
    gives(xlat64(cfg, pkt6(error6, src="fd00::1", dst=s6, nh=58)),
          pkt4(error4, src="203.0.113.9", dst="192.0.2.33", proto=1))


# --- by hand, byte for byte ---

def test_spelled_out_6to4():
    """UDP 2001:db8::1 -> 64:ff9b::198.51.100.2, traffic class 0xb8, flow label 0x12345, hop limit 60."""
    packet = bytes.fromhex("6b812345 000d 11 3c"
                           "20010db8000000000000000000000001 0064ff9b0000000000000000c6336402"
                           "03e8 0035 000d 5ff5 68656c6c6f")
    words = [0x2001, 0x0db8, 1, 0x64, 0xff9b, 0xc633, 0x6402, 13, 17, 0x03e8, 0x35, 13, 0x6865, 0x6c6c, 0x6f00]
    assert sum(words) % 0xffff == 0xffff - 0x5ff5
    result = xlat64(config(), packet)
    expected = bytes.fromhex("45b8 0021 0000 0000 3c 11 91bd c0000221 c6336402 03e8 0035 000d cb8d 68656c6c6f")
    assert out(result)[:4] == expected[:4]
    assert result.ident_free
    assert same(out(result), expected)
    assert rfc1071(expected[:20]) == 0
    words[:7] = [0xc000, 0x0221, 0xc633, 0x6402]
    assert sum(words) % 0xffff == 0xffff - 0xcb8d


def test_spelled_out_4to6():
    """TCP SYN 198.51.100.2:80 -> 192.0.2.33:1234, TOS 0x10, TTL 5, DF."""
    packet = bytes.fromhex("4510 0028 abcd 4000 05 06 dd9b c6336402 c0000221"
                           "0050 04d2 00000001 00000000 5002 2000 9e68 0000")
    assert rfc1071(packet[:20]) == 0
    expected = bytes.fromhex("61000000 0014 06 05"
                             "0064ff9b0000000000000000c6336402 20010db8000000000000000000000001"
                             "0050 04d2 00000001 00000000 5002 2000 32d0 0000")
    #  The sum goes down by what the addresses grew: 0064+ff9b+2001+0db8+0001 replaces c000+0221.
    grown = (0x64 + 0xff9b + 0x2001 + 0xdb8 + 1 - 0xc000 - 0x221) % 0xffff
    assert (0x9e68 - 0x32d0) % 0xffff == grown
    assert out(xlat46(config(), packet)) == expected


# --- what is ours ---

@pytest.mark.parametrize("packet", [
    b"", b"\x60", pkt6(udp())[:39], pkt6(udp(), dst="2001:db8:5::1"), pkt6(udp(), dst="64:ff9c::1.2.3.4"),
    b"\x40" + pkt6(udp())[1:],
])
def test_64_not_ours(packet):
    assert xlat64(config(), packet).verdict == "pass"


@pytest.mark.parametrize("packet", [
    b"", b"\x45", pkt4(udp())[:19], pkt4(udp(), dst="192.0.3.33"), b"\x65" + pkt4(udp())[1:],
])
def test_46_not_ours(packet):
    assert xlat46(config(), packet).verdict == "pass"


# --- 5.1 header ---

@pytest.mark.parametrize("payload,flags", [(1240, 0), (1241, 2), (1400, 2)])
def test_64_df_rule(payload, flags):
    segment = l4_sum(17, udp(bytes(payload - 8)), 6, H6, S6, True)
    result = xlat64(config(), pkt6(segment, tc=0xb9, fl=77))
    expected = pkt4(l4_sum(17, segment, 6, H4, S4, False), src=H4, dst=S4, tos=0xb9, flags=flags, id=0)
    gives(result, expected)
    assert result.ident_free and IP(out(result)).flags.DF == bool(flags)


def test_tos_and_tclass_set():
    gives(xlat64(config(tos=0), pkt6(seg6(17), tc=0xb8)), pkt4(seg4(17, H4, S4), src=H4, dst=S4, tos=0))
    gives(xlat46(config(tclass=4), pkt4(seg4(17), tos=0xb8)), pkt6(seg6(17, S6, H6), src=S6, dst=H6, tc=4))


@pytest.mark.parametrize("proto", [6, 17, 136, 33])
def test_transports_both_ways(proto):
    gives(xlat64(config(), pkt6(seg6(proto), nh=proto)), pkt4(seg4(proto, H4, S4), src=H4, dst=S4, proto=proto))
    gives(xlat46(config(), pkt4(seg4(proto), proto=proto)), pkt6(seg6(proto, S6, H6), src=S6, dst=H6, nh=proto))


def test_tcp_by_scapy():
    sent = IPv6(src=H6, dst=S6, hlim=9) / TCP(sport=1, dport=2, options=[("MSS", 1440)]) / b"abc"
    expected = IP(src=H4, dst=S4, ttl=9) / TCP(sport=1, dport=2, options=[("MSS", 1440)]) / b"abc"
    gives(xlat64(config(), bytes(sent)), bytes(expected))


@pytest.mark.parametrize("way,proto,at", [(w, p, a) for w in "64" for p, a in ((6, 16), (17, 6), (136, 6), (33, 6))])
def test_wrong_checksum_stays_wrong_by_as_much(way, proto, at):
    def off_by(segment, n):
        value = int.from_bytes(segment[at:at + 2], "big") + n
        return segment[:at] + (value - 0xffff * (value > 0xffff)).to_bytes(2, "big") + segment[at + 2:]
    if way == "6":
        gives(xlat64(config(), pkt6(off_by(seg6(proto), 1), nh=proto)),
              pkt4(off_by(seg4(proto, H4, S4), 1), src=H4, dst=S4, proto=proto))
    else:
        gives(xlat46(config(), pkt4(off_by(seg4(proto), 1), proto=proto)),
              pkt6(off_by(seg6(proto, S6, H6), 1), src=S6, dst=H6, nh=proto))


@pytest.mark.parametrize("proto", [132, 47, 50, 51, 115, 59, 135, 4, 41, 253, 255])
def test_other_protocols_are_carried_untouched(proto):
    gives(xlat64(config(), pkt6(b"payload", nh=proto)), pkt4(b"payload", src=H4, dst=S4, proto=proto))
    gives(xlat46(config(), pkt4(b"payload", proto=proto)), pkt6(b"payload", src=S6, dst=H6, nh=proto))


@pytest.mark.parametrize("proto", [1, 2])
def test_64_protocols_that_do_not_cross(proto):
    drops(xlat64(config(), pkt6(bytes(20), nh=proto)), "protocol", ("icmpv6", 1, 4, 0))


@pytest.mark.parametrize("proto", [58, 2, 0, 43, 44, 60])
def test_46_protocols_that_do_not_cross(proto):
    drops(xlat46(config(), pkt4(bytes(20), proto=proto)), "protocol", ("icmpv4", 3, 2, 0) if proto != 2 else None)


def test_no_next_header_without_payload():
    gives(xlat64(config(), pkt6(b"", nh=59)), pkt4(b"", src=H4, dst=S4, proto=59))


@pytest.mark.parametrize("proto,least", [(6, 20), (17, 8), (136, 8), (33, 12), (58, 8)])
def test_64_transport_header_must_be_there(proto, least):
    drops(xlat64(config(), pkt6(b"\x80" * (least - 1), nh=proto)), "truncated")
    assert xlat64(config(), pkt6(b"\x80" * least, nh=proto)).verdict == "translated"


@pytest.mark.parametrize("proto,least", [(6, 20), (17, 8), (136, 8), (33, 12), (1, 8)])
def test_46_transport_header_must_be_there(proto, least):
    drops(xlat46(config(), pkt4(b"\x08" * (least - 1), proto=proto)), "truncated")
    assert xlat46(config(), pkt4(b"\x08\0" + (b"\0" + bytes([least])) * (least // 2 - 1),
                                 proto=proto)).verdict == "translated"


def test_64_lengths():
    drops(xlat64(config(), pkt6(seg6(17))[:-1]), "truncated")
    gives(xlat64(config(), pkt6(seg6(17)) + b"padding"), pkt4(seg4(17, H4, S4), src=H4, dst=S4))
    drops(xlat64(config(), pkt6(bytes(65516), nh=253)), "too-big", ("icmpv6", 2, 0, 65535))
    assert len(out(xlat64(config(), pkt6(bytes(65515), nh=253)))) == 65535


def test_46_lengths():
    good = pkt4(seg4(17))
    drops(xlat46(config(), good[:-1]), "truncated")
    gives(xlat46(config(), good + b"padding"), pkt6(seg6(17, S6, H6), src=S6, dst=H6))
    drops(xlat46(config(), b"\x44" + good[1:]), "bad-header")
    drops(xlat46(config(), b"\x4f" + good[1:]), "truncated")
    drops(xlat46(config(), b"\x47" + good[1:2] + b"\0\x1b" + good[4:]), "bad-header")


# --- addresses ---

@pytest.mark.parametrize("src", ["::", "::1", "fe80::1", "febf::1", "ff02::1", "::ffff:1.2.3.4", "64:ff9b::1.2.3.4"])
def test_64_illegal_source(src):
    cfg = config(allowed=[IPv6Network("::/0")])
    drops(xlat64(cfg, pkt6(seg6(17, src), src=src)), "src-illegal")
    quote = pkt6(seg6(17, S6, H6), src=S6, dst=H6)
    drops(xlat64(cfg, pkt6(icmp6(1, 4, body=quote, src=src), src=src, nh=58)), "src-illegal")


ILLEGAL4 = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "239.255.255.255",
            "255.255.255.255"]
LEGAL4 = ["1.0.0.1", "126.0.0.1", "128.0.0.1", "169.253.1.1", "223.255.255.255", "10.0.0.1", "240.0.0.0",
          "255.255.255.254"]


@pytest.mark.parametrize("dst", ILLEGAL4 + LEGAL4)
def test_64_illegal_destination(dst):
    result = xlat64(config(), pkt6(seg6(17), dst=f"64:ff9b::{dst}"))
    if dst in ILLEGAL4:
        group = dst in ("224.0.0.1", "239.255.255.255") or dst == "255.255.255.255"
        drops(result, "dst-illegal", None if group else PROHIBITED6)
    else:
        assert result.verdict == "translated"


@pytest.mark.parametrize("src", ILLEGAL4 + LEGAL4)
def test_46_illegal_source_but_not_of_errors(src):
    src6 = str(IPv6Address(f"64:ff9b::{src}"))
    result = xlat46(config(), pkt4(seg4(17, src), src=src))
    if src in ILLEGAL4:
        drops(result, "src-illegal")
    else:
        gives(result, pkt6(seg6(17, src6, H6), src=src6, dst=H6))
    error = icmp4(11, 0, body=pkt4(seg4(17, H4, S4), src=H4, dst=S4))
    quote = pkt6(seg6(17), fl=0)
    gives(xlat46(config(), pkt4(error, src=src, proto=1)),
          pkt6(icmp6(3, 0, body=quote, src=src6, dst=H6), src=src6, dst=H6, nh=58))


# The first and last address of each row of RFC 5735 section 3, of RFC 1918 and of RFC 6598, that is not illegal anyway.
NON_GLOBAL = ["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255",
              "192.0.0.0",
              "192.0.0.255", "192.88.99.1", "198.18.0.0", "198.19.255.255", "198.51.100.2", "203.0.113.255",
              "100.64.0.0",
              "100.127.255.255", "240.0.0.0", "255.255.255.254"]
GLOBAL = ["9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "192.0.1.0",
          "198.17.255.255", "198.20.0.0", "100.63.255.255", "100.128.0.0", "203.0.114.0"]


@pytest.mark.parametrize("address", NON_GLOBAL + GLOBAL)
def test_wkp_strict(address):
    far6 = str(IPv6Address(f"64:ff9b::{address}"))
    for strict in (False, True):
        cfg = config(wkp_strict=strict)
        results = [
            xlat64(cfg, pkt6(seg6(17, H6, far6), dst=far6)),
            xlat46(cfg, pkt4(seg4(17, address), src=address)),
            xlat46(cfg, pkt4(icmp4(11, 0, body=pkt4(seg4(17, H4, address), src=H4, dst=address)), src="9.9.9.9",
                             proto=1)),
        ]
        for result, answer in zip(results, (PROHIBITED6, PROHIBITED4, None)):
            if strict and address in NON_GLOBAL:
                group = address in ILLEGAL4
                drops(result, "non-global", None if group else answer)
            else:
                assert result.verdict == "translated"
    # Not the well-known prefix: no such rule.
    cfg = config(wkp_strict=True, v6_prefix=IPv6Network("2001:db8:9::/96"))
    assert xlat46(cfg, pkt4(seg4(17, address), src=address)).verdict == "translated"


def test_wkp_strict_excepts_own_addresses():
    cfg = config(wkp_strict=True)                  # 192.0.2.0/24 is not global itself
    hairpin6 = f"64:ff9b::{B4}"
    assert xlat64(cfg, pkt6(seg6(17, H6, hairpin6), dst=hairpin6)).verdict == "translated"
    assert xlat46(cfg, pkt4(seg4(17, B4), src=B4)).verdict == "translated"
    assert xlat46(cfg, pkt4(seg4(17, ICMP_SRC), src=ICMP_SRC)).verdict == "translated"


def test_mappings():
    cfg = config()
    drops(xlat64(cfg, pkt6(seg6(17, R6), src=R6)), "not-allowed", PROHIBITED6)
    drops(xlat46(cfg, pkt4(seg4(17, S4, "192.0.2.99"), dst="192.0.2.99")), "no-mapping", ("icmpv4", 3, 1, 0))
    asked = []
    cfg.allocate = lambda v6: asked.append(v6) or IPv4Address("192.0.2.99")
    gives(xlat64(cfg, pkt6(seg6(17, N6), src=N6)), pkt4(seg4(17, "192.0.2.99", S4), src="192.0.2.99", dst=S4))
    assert asked == [IPv6Address(N6)]
    gives(xlat46(cfg, pkt4(seg4(17, S4, "192.0.2.99"), dst="192.0.2.99")), pkt6(seg6(17, S6, N6), src=S6, dst=N6))
    assert xlat64(cfg, pkt6(seg6(17, N6), src=N6)).verdict == "translated" and len(asked) == 1
    cfg.allocate = lambda v6: None
    drops(xlat64(cfg, pkt6(seg6(17, "2001:db8::3"), src="2001:db8::3")), "pool-full", ("icmpv6", 1, 3, 0))
    # A mapping is used when its owner is in no -a prefix (any more).
    cfg.allowed = []
    assert xlat64(cfg, pkt6(seg6(17))).verdict == "translated"


def test_the_answers():
    """RFC 4443 section 3.1 and RFC 792, byte by byte, with scapy's checksums."""
    bad = pkt6(udp(bytes(1400)), src=R6)
    message = bytes.fromhex("0101 0000 00000000") + bad[:1232]
    want = pkt6(l4_sum(58, message, 2, S6, R6, True), src=S6, dst=R6, nh=58, hlim=64)
    assert len(want) == 1280 and xlat64(config(), bad + b"padding").answer == want
    bad = pkt4(udp(bytes(1400)), dst="192.0.2.99")
    want = pkt4(icmp4(3, 1, body=bad[:548]), src="192.0.2.99", dst=S4, proto=1, ttl=64, tos=0xc0, id=0)
    assert len(want) == 576 and xlat46(config(), bad + b"padding").answer == want
    bad = pkt6(routing(17, 1) + seg6(17), nh=43)
    message = bytes.fromhex("0400 0000 0000002b") + bad
    assert xlat64(config(), bad).answer == pkt6(l4_sum(58, message, 2, S6, H6, True), src=S6, dst=H6, nh=58, hlim=64)


def test_46_icmp_src_stands_for_no_host():
    drops(xlat46(config(), pkt4(seg4(17, S4, ICMP_SRC), dst=ICMP_SRC)), "no-mapping", ("icmpv4", 3, 1, 0))
    assert xlat46(config(), pkt4(seg4(17, S4, "192.0.0.9"), dst="192.0.0.9")).verdict == "pass"


def test_64_query_types_come_before_the_source():
    drops(xlat64(config(), pkt6(icmp6(135, body=bytes(16), src=R6), src=R6, nh=58)), "icmp-type")


def test_dropped_packets_take_no_address():
    cfg = config(allocate=lambda v6: pytest.fail("allocated"))
    drops(xlat64(cfg, pkt6(icmp6(135, body=bytes(16), src=N6), src=N6, nh=58)), "icmp-type")
    drops(xlat64(cfg, pkt6(seg6(17, N6), src=N6, dst="64:ff9b::127.0.0.1")), "dst-illegal", PROHIBITED6)


# --- extension headers ---

def test_64_extension_headers_are_skipped():
    expected = pkt4(seg4(17, H4, S4), src=H4, dst=S4)
    gives(xlat64(config(), pkt6(ext(17) + seg6(17), nh=0)), expected)
    gives(xlat64(config(), pkt6(ext(17, bytes((1, 12)) + bytes(12)) + seg6(17), nh=60)), expected)
    gives(xlat64(config(), pkt6(routing(17, 0) + seg6(17), nh=43)), expected)
    gives(xlat64(config(), pkt6(ext(60) + ext(43) + routing(60, 0) + ext(17) + seg6(17), nh=0)), expected)
    gives(xlat64(config(), pkt6(ext(0) + ext(17) + seg6(17), nh=60)), expected)


def test_64_number_of_extension_headers():
    eight = ext(60) * 7 + ext(17)
    gives(xlat64(config(), pkt6(eight + seg6(17), nh=60)), pkt4(seg4(17, H4, S4), src=H4, dst=S4))
    drops(xlat64(config(), pkt6(ext(60) + eight + seg6(17), nh=60)), "ext-header", PROHIBITED6)
    drops(xlat64(config(), pkt6(ext(60) * 7 + ext(44) + frag6(17, 0, 0, 1, seg6(17)), nh=60)), "ext-header",
          PROHIBITED6)
    assert xlat64(config(), pkt6(ext(60) * 6 + ext(44) + frag6(17, 0, 0, 1, seg6(17)), nh=60)).verdict == "translated"


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_64_extension_header_cut_short(cut):
    drops(xlat64(config(), pkt6(ext(17)[:cut], nh=0)), "truncated")
    drops(xlat64(config(), pkt6(frag6(17, 0, 0, 1, b"")[:cut], nh=44)), "truncated")
    drops(xlat64(config(), pkt6(ext(60) + ext(17)[:cut], nh=60)), "truncated")


def test_64_extension_header_longer_than_packet():
    for nh in (17, 253):
        drops(xlat64(config(), pkt6(bytes((nh, 9)) + bytes(30), nh=60)), "truncated")


@pytest.mark.parametrize("kind", [0, 2, 4, 77])
def test_64_routing_header_with_segments_left(kind):
    drops(xlat64(config(), pkt6(routing(17, 1, kind) + seg6(17), nh=43)), "routing-header", ("icmpv6", 4, 0, 43))
    drops(xlat64(config(), pkt6(ext(43) + routing(17, 2, kind) + seg6(17), nh=60)), "routing-header",
          ("icmpv6", 4, 0, 51))


def test_64_routing_header_when_no_error_is_sent():
    drops(xlat64(config(), pkt6(routing(58, 1) + icmp6(1, 4, body=bytes(48)), nh=43)), "routing-header")
    drops(xlat64(config(), pkt6(routing(58, 1) + icmp6(137, body=bytes(48)), nh=43)), "routing-header")
    drops(xlat64(config(), pkt6(routing(58, 1) + icmp6(128), nh=43)), "routing-header", ("icmpv6", 4, 0, 43))
    drops(xlat64(config(), pkt6(routing(17, 1) + seg6(17), nh=43, src="fe80::1")), "routing-header")
    drops(xlat64(config(), pkt6(routing(58, 1), nh=43)), "routing-header", ("icmpv6", 4, 0, 43))


# --- IPv4 options ---

@pytest.mark.parametrize("options", [
    b"\1\1\1\1", b"\0\xff\xff\xff", b"\x94\4\0\0", b"\7\7\4\0\0\0\0\0", b"\x83\7\x08\1\2\3\4\0", b"\x89\3\4\0",
    b"\1\1\7\2",
])
def test_46_options_are_skipped(options):
    gives(xlat46(config(), pkt4(seg4(17), options=[])), pkt6(seg6(17, S6, H6), src=S6, dst=H6))
    gives(xlat46(config(), with_options(options, seg4(17))), pkt6(seg6(17, S6, H6), src=S6, dst=H6))


def with_options(options, payload, **kw):
    plain = pkt4(options + payload, **kw)
    header = bytes((0x45 + len(options) // 4,)) + plain[1:10] + b"\0\0" + plain[12:20] + options
    return header[:10] + rfc1071(header).to_bytes(2, "big") + header[12:] + payload


@pytest.mark.parametrize("options", [b"\x83\7\4\1\2\3\4\0", b"\x89\7\4\1\2\3\4\0", b"\1\x89\7\7\2\3\4\0",
                                     b"\x94\4\0\0\x83\3\3\0"])
def test_46_source_route(options):
    drops(xlat46(config(), with_options(options, seg4(17))), "source-route", ("icmpv4", 3, 5, 0))
    drops(xlat46(config(), with_options(options, icmp4(3, 3, body=bytes(28)), proto=1)), "source-route")
    drops(xlat46(config(), with_options(options, bytes(8), frag=3)), "source-route")
    drops(xlat46(config(), with_options(options, seg4(17), src="127.0.0.1")), "source-route")


@pytest.mark.parametrize("options", [b"\7\0\0\0", b"\7\1\0\0", b"\7\5\0\0", b"\1\1\1\7", b"\x83\2\0\0"])
def test_46_malformed_options(options):
    drops(xlat46(config(), with_options(options, seg4(17))), "bad-header")


# --- fragments ---

FULL6 = l4_sum(17, udp(bytes(range(256)) * 8), 6, H6, S6, True)
FULL4 = l4_sum(17, FULL6, 6, H4, S4, False)


@pytest.mark.parametrize("start,end,more", [(0, 1024, 1), (1024, 2048, 1), (2048, 2056, 0)])
@pytest.mark.parametrize("before", [b"", ext(44)])
def test_64_fragments(start, end, more, before):
    payload = before + frag6(17, start, more, 0x1234abcd, FULL6[start:end], reserved=9)
    result = xlat64(config(), pkt6(payload, nh=60 if before else 44))
    assert not result.ident_free
    gives(result, pkt4(FULL4[start:end], src=H4, dst=S4, id=0xabcd, flags=more, frag=start // 8), ident_free=False)


def test_64_reserved_bits_of_the_fragment_header_are_ignored():
    payload = bytearray(frag6(17, 0, 0, 7, seg6(17)))
    payload[3] |= 6
    gives(xlat64(config(), pkt6(bytes(payload), nh=44)), pkt4(seg4(17, H4, S4), src=H4, dst=S4, id=7), ident_free=False)


def test_64_atomic_fragment():
    big = l4_sum(17, udp(bytes(1400)), 6, H6, S6, True)
    gives(xlat64(config(), pkt6(frag6(17, 0, 0, 0x10002, big), nh=44)),
          pkt4(l4_sum(17, big, 6, H4, S4, False), src=H4, dst=S4, id=2), ident_free=False)
    echo = icmp6(128, body=b"x")
    gives(xlat64(config(), pkt6(frag6(58, 0, 0, 2, echo), nh=44)),
          pkt4(icmp4(8, body=b"x"), src=H4, dst=S4, proto=1, id=2), ident_free=False)


@pytest.mark.parametrize("nh", [0, 43, 44, 51, 60, 135, 139, 140])
def test_64_extension_header_behind_the_fragment_header(nh):
    for offset, more in ((0, 1), (1024, 0), (0, 0)):
        drops(xlat64(config(), pkt6(frag6(nh, offset, more, 1, bytes(64)), nh=44)), "ext-header",
              None if offset else PROHIBITED6)


@pytest.mark.parametrize("nh", [50, 59, 132, 253])
def test_64_upper_layers_behind_the_fragment_header(nh):
    gives(xlat64(config(), pkt6(frag6(nh, 0, 1, 1, b"12345678"), nh=44)),
          pkt4(b"12345678", src=H4, dst=S4, proto=nh, id=1, flags=1), ident_free=False)


@pytest.mark.parametrize("nh,offset,more,payload", [
    (17, 8, 0, b""), (17, 8, 1, b""), (6, 0, 1, bytes(16)),
    (33, 0, 1, bytes(8)),
    (17, 65512, 0, bytes(4)), (17, 65508 // 8 * 8, 0, bytes(20)), (253, 0, 1, b""),
])
def test_bad_fragments(nh, offset, more, payload):
    drops(xlat64(config(), pkt6(frag6(nh, offset, more, 1, payload), nh=44)), "fragment-bad")
    drops(xlat46(config(), pkt4(payload, proto=nh, frag=offset // 8, flags=more)), "fragment-bad")


@pytest.mark.parametrize("nh,offset,more,payload", [
    (17, 8, 0, bytes(1)), (17, 65504, 0, bytes(11)), (6, 8, 0, bytes(1)), (6, 0, 1, bytes(24)), (17, 0, 1, b"\1" * 8),
    (17, 0, 1, b"\1" * 9), (17, 8, 1, bytes(12)), (17, 65504, 1, bytes(11)),
])
def test_small_fragments_that_pass(nh, offset, more, payload):
    assert xlat64(config(), pkt6(frag6(nh, offset, more, 1, payload), nh=44)).verdict == "translated"
    assert xlat46(config(), pkt4(payload, proto=nh, frag=offset // 8, flags=more)).verdict == "translated"


def test_fragmented_icmp():
    for offset, more in ((0, 1), (8, 1), (8, 0)):
        drops(xlat64(config(), pkt6(frag6(58, offset, more, 1, icmp6(128, body=bytes(8))), nh=44)), "fragment-icmp",
              None if offset else PROHIBITED6)
        drops(xlat46(config(), pkt4(icmp4(8, body=bytes(8)), proto=1, frag=offset // 8, flags=more)), "fragment-icmp",
              None if offset else PROHIBITED4)
    drops(xlat64(config(), pkt6(frag6(58, 0, 1, 1, icmp6(1, body=bytes(8))), nh=44)), "fragment-icmp")
    drops(xlat46(config(), pkt4(icmp4(11, body=bytes(8)), proto=1, flags=1)), "fragment-icmp")


@pytest.mark.parametrize("start,end,more", [(0, 1024, 1), (1024, 2048, 1), (2048, 2056, 0)])
@pytest.mark.parametrize("flags", [0, 2])
def test_46_fragments(start, end, more, flags):
    full4 = l4_sum(17, FULL6, 6, S4, H4, False)
    full6 = l4_sum(17, FULL6, 6, S6, H6, True)
    gives(xlat46(config(), pkt4(full4[start:end], id=0xabcd, flags=more | flags, frag=start // 8)),
          pkt6(frag6(17, start, more, 0xabcd, full6[start:end]), src=S6, dst=H6, nh=44))


def pieces_of(result):
    """(offset, more, identification, payload length) of the fragments, and their payload put together."""
    assert result.verdict == "translated"
    found, payload = [], b""
    for p in sorted(result.packets, key=lambda p: p[42:44]):
        assert p[6] == 44 and int.from_bytes(p[4:6], "big") == len(p) - 40
        field16 = int.from_bytes(p[42:44], "big")
        found.append((field16 & 0xfff8, field16 & 1, int.from_bytes(p[44:48], "big"), len(p)))
        payload += p[48:]
    return found, payload


def test_46_df0_is_cut():
    datagram6 = l4_sum(17, udp(bytes(2600)), 6, S6, H6, True)
    datagram4 = l4_sum(17, udp(bytes(2600)), 6, S4, H4, False)
    found, payload = pieces_of(xlat46(config(), pkt4(datagram4, id=0xfedc)))
    assert found == [(0, 1, 0xfedc, 1280), (1232, 1, 0xfedc, 1280), (2464, 0, 0xfedc, 192)]
    assert payload == datagram6
    # DF=1: as it is.
    gives(xlat46(config(), pkt4(datagram4, flags=2)), pkt6(datagram6, src=S6, dst=H6))


@pytest.mark.parametrize("lowest,mtu,payload,lengths", [
    (1280, 1500, 1240, [1280]), (1280, 1500, 1241, [1280, 57]), (1400, 1500, 1360, [1400]),
    (1400, 1500, 1361, [1400, 57]),
    (1501, 9000, 1462, [1496, 62]), (1500, 1400, 1361, [1400, 57]),
])
def test_46_cut_at_the_threshold(lowest, mtu, payload, lengths):
    datagram = l4_sum(17, udp(bytes(payload - 8)), 6, S4, H4, False)
    result = xlat46(config(lowest_ipv6_mtu=lowest, mtu=mtu), pkt4(datagram))
    assert [len(p) for p in result.packets] == lengths


def test_46_fragment_is_cut_again():
    middle = bytes(range(256)) * 5                      # 1280 bytes at offset 1480, where a 1500 byte link cuts
    found, payload = pieces_of(xlat46(config(), pkt4(middle, id=9, frag=185, flags=1)))
    assert found == [(1480, 1, 9, 1280), (2712, 1, 9, 96)] and payload == middle
    found, payload = pieces_of(xlat46(config(), pkt4(middle[:-1], id=9, frag=185)))
    assert found == [(1480, 1, 9, 1280), (2712, 0, 9, 95)] and payload == middle[:-1]
    # 1232 bytes just fit with the fragment header, 1240 do not, though they would without it.
    assert [len(p) for p in xlat46(config(), pkt4(middle[:1232], frag=1, flags=1)).packets] == [1280]
    assert [len(p) for p in xlat46(config(), pkt4(middle[:1240], frag=1, flags=1)).packets] == [1280, 56]


def test_46_fragment_with_df1_is_cut_at_the_link_only():
    part = bytes(range(256)) * 5 + bytes(180)                        # 1460 bytes: 1508 with both headers
    found, payload = pieces_of(xlat46(config(), pkt4(part[:1456], id=9, frag=185, flags=3)))
    assert found == [(1480, 1, 9, 1496), (2928, 1, 9, 56)] and payload == part[:1456]
    assert len(xlat46(config(), pkt4(part[:1448], id=9, frag=185, flags=3)).packets) == 1
    assert len(xlat46(config(mtu=9000), pkt4(part[:1456], id=9, frag=185, flags=3)).packets) == 1


def test_46_large_datagrams_and_echo_are_cut():
    datagram4 = l4_sum(17, udp(bytes(60000)), 6, S4, H4, False)
    found, payload = pieces_of(xlat46(config(), pkt4(datagram4, id=1)))
    assert len(found) == 49 and payload == l4_sum(17, udp(bytes(60000)), 6, S6, H6, True)
    found, payload = pieces_of(xlat46(config(), pkt4(icmp4(8, body=bytes(1400)), proto=1, id=1)))
    assert found == [(0, 1, 1, 1280), (1232, 0, 1, 48 + 176)]
    assert payload == icmp6(128, body=bytes(1400), src=S6, dst=H6)
    assert found[0][3] == 1280


# --- UDP without checksum ---

def test_46_udp_without_checksum():
    gives(xlat46(config(), pkt4(udp())), pkt6(seg6(17, S6, H6), src=S6, dst=H6))
    big = udp(bytes(65507))
    gives(xlat46(config(), pkt4(big, flags=2)), pkt6(l4_sum(17, big, 6, S6, H6, True), src=S6, dst=H6))


def test_46_udp_length():
    gives(xlat46(config(), pkt4(udp(b""))), pkt6(l4_sum(17, udp(b""), 6, S6, H6, True), src=S6, dst=H6))
    for length in (7, 14):
        drops(xlat46(config(), pkt4(udp(length=length))), "udp-length")
    assert xlat46(config(), pkt4(b"\0" * 4 + b"\0\7\1\1" + b"hello")).verdict == "translated"
    trailing = udp() + b"tail"
    gives(xlat46(config(), pkt4(trailing)), pkt6(seg6(17, S6, H6) + b"tail", src=S6, dst=H6))


def test_46_udp_without_checksum_in_fragments():
    drops(xlat46(config(), pkt4(udp(bytes(8)), flags=1)), "fragment-udp0", PROHIBITED4)
    gives(xlat46(config(), pkt4(bytes(16), frag=2, id=3)), pkt6(frag6(17, 16, 0, 3, bytes(16)), src=S6, dst=H6, nh=44))


def summing_to_zero(proto, src, dst, six):
    """A UDP(-Lite) datagram whose checksum computes to 0 and is therefore sent as 0xffff."""
    datagram = udp(b"\0\0")
    value = int.from_bytes(l4_sum(proto, datagram, 6, src, dst, six)[6:8], "big")
    datagram = l4_sum(proto, udp(value.to_bytes(2, "big")), 6, src, dst, six)
    assert datagram[6:8] == b"\xff\xff"
    return datagram


@pytest.mark.parametrize("proto", [17, 136])
def test_checksum_that_becomes_zero_is_sent_as_ffff(proto):
    after = summing_to_zero(proto, H4, S4, False)
    packet = out(xlat64(config(), pkt6(l4_sum(proto, after, 6, H6, S6, True), nh=proto)))
    assert packet[20:] == after
    after = summing_to_zero(proto, S6, H6, True)
    assert out(xlat46(config(), pkt4(l4_sum(proto, after, 6, S4, H4, False), proto=proto)))[40:] == after


def test_zero_checksum_stays_zero():
    assert out(xlat64(config(), pkt6(udp())))[20:] == udp()
    assert out(xlat64(config(), pkt6(udp(), nh=136)))[20:] == udp()
    assert out(xlat46(config(), pkt4(udp(), proto=136)))[40:] == udp()


# --- ICMP queries ---

def test_echo_both_ways():
    for kind6, kind4 in ((128, 8), (129, 0)):
        for code in (0, 7):
            rest, body = b"\x12\x34\0\1", b"ping data odd"
            gives(xlat64(config(), pkt6(icmp6(kind6, code, rest, body), nh=58)),
                  pkt4(icmp4(kind4, code, rest, body), src=H4, dst=S4, proto=1))
            gives(xlat46(config(), pkt4(icmp4(kind4, code, rest, body), proto=1)),
                  pkt6(icmp6(kind6, code, rest, body, S6, H6), src=S6, dst=H6, nh=58))


def test_echo_by_scapy():
    gives(xlat64(config(), bytes(IPv6(src=H6, dst=S6) / ICMPv6EchoRequest(id=5, seq=6, data=b"abc"))),
          bytes(IP(src=H4, dst=S4) / ICMP(id=5, seq=6) / b"abc"))
    gives(xlat46(config(), bytes(IP(src=S4, dst=H4, ttl=64) / ICMP(type=0, id=5, seq=6) / b"abc")),
          bytes(IPv6(src=S6, dst=H6) / ICMPv6EchoReply(id=5, seq=6, data=b"abc")))


def test_wrong_icmp_checksum_stays_wrong():
    message = bytearray(icmp6(128, body=b"x"))
    message[3] ^= 1
    expected = icmp4(8, body=b"x")
    got = out(xlat64(config(), pkt6(bytes(message), nh=58)))[20:]
    assert got[:2] + got[4:] == expected[:2] + expected[4:]
    assert abs(int.from_bytes(got[2:4], "big") - int.from_bytes(expected[2:4], "big")) == 1


@pytest.mark.parametrize("kind", [130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 143, 151, 160, 200, 255])
def test_64_informational_messages_that_do_not_cross(kind):
    drops(xlat64(config(), pkt6(icmp6(kind, body=bytes(40)), nh=58)), "icmp-type")


@pytest.mark.parametrize("kind", [1, 2, 4, 5, 6, 7, 9, 10, 13, 14, 15, 16, 17, 18, 19, 30, 40, 42, 43, 128, 255])
def test_46_types_that_do_not_cross(kind):
    quote = pkt4(seg4(17, H4, S4), src=H4, dst=S4)
    drops(xlat46(config(), pkt4(icmp4(kind, body=quote), proto=1)), "icmp-type")


# --- ICMP errors ---

# What the IPv6 host got from the server, and what the server had sent; and the other way round.
GOT6, SENT4 = pkt6(seg6(17, S6, H6), src=S6, dst=H6), pkt4(seg4(17), id=0)
GOT4, SENT6 = pkt4(seg4(17, H4, S4), src=H4, dst=S4), pkt6(seg6(17))


def error64(kind, code, rest=b"\0\0\0\0", quote=GOT6, cfg=None, src=R6, dst=S6):
    return xlat64(cfg or config(), pkt6(icmp6(kind, code, rest, quote, src, dst), src=src, dst=dst, nh=58))


def error46(kind, code, rest=b"\0\0\0\0", quote=GOT4, cfg=None, src="203.0.113.1", dst=H4):
    return xlat46(cfg or config(), pkt4(icmp4(kind, code, rest, quote), src=src, dst=dst, proto=1))


def is64(result, kind, code, rest=b"\0\0\0\0", quote=SENT4, src=ICMP_SRC, dst=S4):
    gives(result, pkt4(icmp4(kind, code, rest, quote), src=src, dst=dst, proto=1))
    assert result.ident_free


def is46(result, kind, code, rest=b"\0\0\0\0", quote=SENT6, src="64:ff9b::203.0.113.1", dst=H6):
    src = str(IPv6Address(src))
    gives(result, pkt6(icmp6(kind, code, rest, quote, src, dst), src=src, dst=dst, nh=58))


def n32(value):
    return value.to_bytes(4, "big")


@pytest.mark.parametrize("kind,code,rest,expected", [
    (1, 0, bytes(4), (3, 1)), (1, 1, bytes(4), (3, 10)), (1, 2, bytes(4), (3, 1)), (1, 3, bytes(4), (3, 1)),
    (1, 4, bytes(4), (3, 3)), (1, 5, bytes(4), None), (1, 6, bytes(4), None), (1, 7, bytes(4), None),
    (1, 255, bytes(4), None),
    (3, 0, bytes(4), (11, 0)), (3, 1, bytes(4), (11, 1)), (3, 9, bytes(4), (11, 9)),
    (4, 1, n32(40), (3, 2)), (4, 2, n32(40), None), (4, 3, n32(0), None), (4, 0, n32(6), (12, 0, b"\x09\0\0\0")),
    (2, 0, n32(1400), (3, 4, b"\0\0\x05\x64")), (2, 5, n32(1400), (3, 4, b"\0\0\x05\x64")),
    (0, 0, bytes(4), None), (5, 0, bytes(4), None), (100, 0, bytes(4), None), (127, 0, bytes(4), None),
    (1, 4, b"\0\1\2\3", (3, 3)),                                     # unused bytes do not cross
])
def test_64_error_types(kind, code, rest, expected):
    result = error64(kind, code, rest)
    if expected is None:
        drops(result, "icmp-type")
    else:
        is64(result, *expected)


# RFC 7915 figure 6
@pytest.mark.parametrize("pointer,expected", [
    (0, 0), (1, 1), (2, None), (3, None), (4, 2), (5, 2), (6, 9), (7, 8), (8, 12), (15, 12), (23, 12), (24, 16),
    (31, 16),
    (39, 16), (40, None), (41, None), (1000, None), (256, None), (0x06000000, None), (0xffffffff, None),
])
def test_64_pointers(pointer, expected):
    result = error64(4, 0, n32(pointer))
    if expected is None:
        drops(result, "icmp-pointer")
    else:
        is64(result, 12, 0, bytes((expected, 0, 0, 0)))


@pytest.mark.parametrize("mtu,link,expected", [
    (1280, 1500, 1260), (1500, 1500, 1480), (9000, 1500, 1480), (9000, 9000, 8980), (0xffffffff, 9000, 8980),
    (1279, 1500, 1259),
    (100, 1500, 80), (88, 1500, 68), (87, 1500, 68), (0, 1500, 68), (1400, 1400, 1380),
])
def test_64_packet_too_big(mtu, link, expected):
    is64(error64(2, 0, n32(mtu), cfg=config(mtu=link)), 3, 4, n32(expected))


def test_64_packet_too_big_about_a_fragment():
    quote6 = pkt6(frag6(17, 8, 1, 0x77, bytes(16)), src=S6, dst=H6, nh=44)
    quote4 = pkt4(bytes(16), id=0x77, frag=1, flags=1)
    result = error64(2, 0, n32(1400), quote6)
    assert not result.quote_ident_free
    gives(result, pkt4(icmp4(3, 4, n32(1372), quote4), src=ICMP_SRC, dst=S4, proto=1), quote_ident_free=False)
    # The link's own limit stays the RFC's formula.
    is64(error64(2, 0, n32(1500), quote6, cfg=config(mtu=1400)), 3, 4, n32(1380), quote4)


@pytest.mark.parametrize("kind,code,rest,expected", [
    (3, 0, bytes(4), (1, 0)), (3, 1, bytes(4), (1, 0)), (3, 2, bytes(4), (4, 1, n32(6))), (3, 3, bytes(4), (1, 4)),
    (3, 4, n32(1400), (2, 0, n32(1420))), (3, 5, bytes(4), (1, 0)), (3, 6, bytes(4), (1, 0)), (3, 7, bytes(4), (1, 0)),
    (3, 8, bytes(4), (1, 0)), (3, 9, bytes(4), (1, 1)), (3, 10, bytes(4), (1, 1)), (3, 11, bytes(4), (1, 0)),
    (3, 12, bytes(4), (1, 0)), (3, 13, bytes(4), (1, 1)), (3, 14, bytes(4), None), (3, 15, bytes(4), (1, 1)),
    (3, 16, bytes(4), None), (3, 255, bytes(4), None),
    (11, 0, bytes(4), (3, 0)), (11, 1, bytes(4), (3, 1)), (11, 7, bytes(4), (3, 7)), (11, 0, b"\1\0\2\3", (3, 0)),
    (12, 0, b"\x08\0\0\0", (4, 0, n32(7))), (12, 1, b"\x08\0\0\0", None), (12, 2, b"\x08\0\0\0", (4, 0, n32(7))),
    (12, 3, b"\x08\0\0\0", None), (4, 0, bytes(4), None), (5, 0, bytes(4), None), (5, 1, bytes(4), None),
])
def test_46_error_types(kind, code, rest, expected):
    result = error46(kind, code, rest)
    if expected is None:
        drops(result, "icmp-type")
    else:
        is46(result, *expected)


# RFC 7915 figure 3
@pytest.mark.parametrize("pointer,expected", [
    (0, 0), (1, 1), (2, 4), (3, 4), (4, None), (5, None), (6, None), (7, None), (8, 7), (9, 6), (10, None), (11, None),
    (12, 8),
    (13, 8), (14, 8), (15, 8), (16, 24), (17, 24), (18, 24), (19, 24), (20, None), (21, None), (255, None),
])
@pytest.mark.parametrize("code", [0, 2])
def test_46_pointers(pointer, expected, code):
    result = error46(12, code, bytes((pointer, 0, 0, 0)))
    if expected is None:
        drops(result, "icmp-pointer")
    else:
        is46(result, 4, 0, n32(expected))


@pytest.mark.parametrize("mtu,total,link,expected", [
    (1400, 1500, 1500, 1420), (1480, 1500, 1500, 1500), (1500, 1500, 1500, 1500), (9000, 1500, 9000, 9000),
    (1260, 1500, 1500, 1280),
    (1000, 1500, 1500, 1280), (68, 1500, 1500, 1280), (1, 1500, 1500, 1280), (65535, 1500, 65535, 65535),
    # RFC 1191 plateaus at or above 1280, less than the total length
    (0, 1500, 9000, 1512), (0, 1492, 9000, 1280), (0, 1493, 9000, 1512), (0, 2002, 9000, 1512), (0, 2003, 9000, 2022),
    (0, 4352, 9000, 2022), (0, 4353, 9000, 4372), (0, 8166, 9000, 4372), (0, 8167, 9000, 8186),
    (0, 17915, 65535, 17934),
    (0, 32001, 65535, 32020), (0, 65535, 65535, 32020), (0, 1500, 1500, 1500), (0, 576, 1500, 1280),
    (0, 33, 1500, 1280),
])
def test_46_fragmentation_needed(mtu, total, link, expected):
    quote4 = GOT4[:2] + total.to_bytes(2, "big") + GOT4[4:]
    quote6 = SENT6[:4] + (total - 20).to_bytes(2, "big") + SENT6[6:]
    is46(error46(3, 4, n32(mtu), quote4, cfg=config(mtu=link)), 2, 0, n32(expected), quote6)


# --- sources of errors ---

def test_64_error_sources():
    cfg = config(allocate=lambda v6: IPv4Address("192.0.2.77"))
    is64(error64(3, 0, cfg=cfg, src=R6), 11, 0, src=ICMP_SRC)
    is64(error64(3, 0, cfg=cfg, src=H6), 11, 0, src=H4)
    is64(error64(3, 0, cfg=cfg, src=B6), 11, 0, src=B4)
    is64(error64(3, 0, cfg=cfg, src=N6), 11, 0, src="192.0.2.77")
    is64(error64(3, 0, cfg=config(icmp_src=IPv4Address("203.0.113.7"))), 11, 0, src="203.0.113.7")
    is64(error64(3, 0, cfg=config(allocate=lambda v6: None), src=N6), 11, 0, src=ICMP_SRC)
    drops(xlat64(config(), pkt6(icmp6(128, src=R6), src=R6, nh=58)), "not-allowed", PROHIBITED6)


def test_64_foreign_errors():
    for quote in (pkt6(seg6(17, R6, H6), src=R6, dst=H6),                                   # not from behind the prefix
                  pkt6(udp(), src="64:ff9b::198.51.100.3", dst=H6),                         # of another server
                  pkt6(udp(), src=S6, dst=N6), pkt6(udp(), src=S6, dst=R6)):                # to a host without mapping
        drops(error64(1, 4, quote=quote, cfg=config(allocate=lambda v6: pytest.fail("allocated"))), "icmp-foreign")


def test_46_foreign_errors():
    for quote in (pkt4(udp(), src=B4, dst=S4), pkt4(udp(), src="9.9.9.9", dst=S4)):
        drops(error46(3, 3, quote=quote), "icmp-foreign")
    drops(error46(3, 3, dst="192.0.2.99"), "no-mapping")


def test_hairpin():
    """H sends to B through the prefix, B answers with port unreachable: each leg as the RFCs have it."""
    hp, bp = str(IPv6Address(f"64:ff9b::{H4}")), str(IPv6Address(f"64:ff9b::{B4}"))
    cfg = config()
    leg1 = out(xlat64(cfg, pkt6(seg6(17, H6, bp), dst=bp)))
    assert same(leg1, pkt4(seg4(17, H4, B4), src=H4, dst=B4))
    leg2 = out(xlat46(cfg, leg1))
    assert leg2 == pkt6(seg6(17, hp, B6), src=hp, dst=B6)
    back1 = out(error64(1, 4, quote=leg2, src=B6, dst=hp, cfg=cfg))
    assert same(back1, pkt4(icmp4(3, 3, body=pkt4(seg4(17, H4, B4), src=H4, dst=B4, id=0)), src=B4, dst=H4, proto=1))
    back2 = out(xlat46(cfg, back1))
    assert back2 == pkt6(icmp6(1, 4, body=pkt6(seg6(17, H6, bp), dst=bp), src=bp, dst=H6), src=bp, dst=H6, nh=58)


# --- quoted packets ---

@pytest.mark.parametrize("proto", [6, 17, 136, 33])
@pytest.mark.parametrize("keep", [0, 1, 7, 8, 12, 16, 17, 18, 20, 30])
def test_quoted_transport_truncated_anywhere(proto, keep):
    at = 16 if proto == 6 else 6
    q6 = pkt6(seg6(proto, S6, H6), src=S6, dst=H6, nh=proto)[:40 + keep]
    q4 = pkt4(seg4(proto), proto=proto, id=0)[:20 + keep]
    if at < keep < at + 2:
        q4 = q4[:20] + q6[40:]                      # half a checksum says nothing: left alone
    assert (q6[40:] == q4[20:]) == (keep < at + 2)
    is64(error64(1, 4, quote=q6), 3, 3, quote=q4)
    q4, q6 = pkt4(seg4(proto, H4, S4), src=H4, dst=S4, proto=proto)[:20 + keep], pkt6(seg6(proto), nh=proto)[:40 + keep]
    if at < keep < at + 2:
        q6 = q6[:40] + q4[20:]
    is46(error46(3, 3, quote=q4), 1, 4, quote=q6)


def test_quoted_udp_without_checksum():
    is64(error64(1, 4, quote=pkt6(udp(), src=S6, dst=H6)), 3, 3, quote=pkt4(udp(), id=0))
    is46(error46(3, 3, quote=pkt4(udp(), src=H4, dst=S4)), 1, 4, quote=pkt6(udp()))


@pytest.mark.parametrize("proto", [50, 132, 47, 51])
def test_quoted_other_protocols(proto):
    is64(error64(1, 4, quote=pkt6(b"12345678", src=S6, dst=H6, nh=proto)), 3, 3,
         quote=pkt4(b"12345678", proto=proto, id=0))
    is46(error46(3, 3, quote=pkt4(b"12345678", src=H4, dst=S4, proto=proto)), 1, 4, quote=pkt6(b"12345678", nh=proto))


@pytest.mark.parametrize("kind6,kind4", [(128, 8), (129, 0)])
@pytest.mark.parametrize("keep", [8, 9, 50])
def test_quoted_echo(kind6, kind4, keep):
    body = b"echo data that may be cut off" * 2
    q6 = pkt6(icmp6(kind6, 0, b"\1\2\3\4", body, S6, H6), src=S6, dst=H6, nh=58)[:40 + keep]
    q4 = pkt4(icmp4(kind4, 0, b"\1\2\3\4", body), proto=1, id=0)[:20 + keep]
    is64(error64(3, 0, quote=q6), 11, 0, quote=q4)
    q4 = pkt4(icmp4(kind4, 0, b"\1\2\3\4", body), proto=1, src=H4, dst=S4)[:20 + keep]
    q6 = pkt6(icmp6(kind6, 0, b"\1\2\3\4", body), nh=58)[:40 + keep]
    is46(error46(11, 0, quote=q4), 3, 0, quote=q6)


def test_quoted_header_fields():
    q6, q4 = pkt6(seg6(17, S6, H6), src=S6, dst=H6, tc=0x88, hlim=1, fl=5), pkt4(seg4(17), tos=0x88, ttl=1, id=0)
    is64(error64(3, 0, quote=q6), 11, 0, quote=q4)
    q4, q6 = pkt4(seg4(17, H4, S4), src=H4, dst=S4, tos=0x88, ttl=1, id=99, flags=2), pkt6(seg6(17), tc=0x88, hlim=1)
    is46(error46(11, 0, quote=q4), 3, 0, quote=q6)


def test_set_tos_reaches_the_quote():
    result = error64(3, 0, quote=pkt6(seg6(17, S6, H6), src=S6, dst=H6, tc=0x88), cfg=config(tos=3))
    gives(result, pkt4(icmp4(11, 0, body=pkt4(seg4(17), tos=3, id=0)), src=ICMP_SRC, dst=S4, proto=1, tos=3))


def test_quoted_packet_without_payload():
    is64(error64(3, 0, quote=pkt6(b"", src=S6, dst=H6, nh=59)), 11, 0, quote=pkt4(b"", proto=59, id=0))
    is46(error46(11, 0, quote=pkt4(b"", src=H4, dst=S4, proto=59)), 3, 0, quote=pkt6(b"", nh=59))


@pytest.mark.parametrize("size,df", [(1240, 0), (1241, 2)])
def test_quoted_df_follows_the_claimed_length(size, df):
    full = l4_sum(17, udp(bytes(size - 8)), 6, S6, H6, True)
    q6, q4 = pkt6(full, src=S6, dst=H6)[:100], pkt4(l4_sum(17, full, 6, S4, H4, False), id=0, flags=df)[:80]
    is64(error64(3, 0, quote=q6), 11, 0, quote=q4)


@pytest.mark.parametrize("offset,more", [(0, 1), (8, 1), (800, 0)])
def test_quoted_fragments(offset, more):
    part6, part4 = (seg6(17, S6, H6), seg4(17)) if offset == 0 else (b"x" * 16, b"x" * 16)
    q6 = pkt6(frag6(17, offset, more, 0xabcd4321, part6), src=S6, dst=H6, nh=44)
    q4 = pkt4(part4, id=0x4321, frag=offset // 8, flags=more)
    is64(error64(3, 1, quote=q6), 11, 1, quote=q4)
    part6, part4 = (seg6(17), seg4(17, H4, S4)) if offset == 0 else (b"x" * 16, b"x" * 16)
    q4 = pkt4(part4, src=H4, dst=S4, id=0x4321, frag=offset // 8, flags=more)
    is46(error46(11, 1, quote=q4), 3, 1, quote=pkt6(frag6(17, offset, more, 0x4321, part6), nh=44))


def test_quoted_fragments_of_icmp_cross():
    """A later fragment has no ICMP header; a first one is echo with its type translated."""
    q6 = pkt6(frag6(58, 1232, 0, 5, b"\3\0\0\0rest"), src=S6, dst=H6, nh=44)
    is64(error64(3, 1, quote=q6), 11, 1, quote=pkt4(b"\3\0\0\0rest", proto=1, id=5, frag=154))
    q6 = pkt6(frag6(58, 0, 1, 5, icmp6(129, 0, b"\1\2\3\4", bytes(8), S6, H6)), src=S6, dst=H6, nh=44)
    is64(error64(3, 1, quote=q6), 11, 1, quote=pkt4(icmp4(0, 0, b"\1\2\3\4", bytes(8)), proto=1, id=5, flags=1))
    q4 = pkt4(icmp4(8, 0, b"\1\2\3\4", bytes(8)), src=H4, dst=S4, proto=1, id=5, flags=1)
    is46(error46(11, 1, quote=q4), 3, 1, quote=pkt6(frag6(58, 0, 1, 5, icmp6(128, 0, b"\1\2\3\4", bytes(8))), nh=44))


def test_quoted_extension_headers_and_options():
    q6 = pkt6(ext(43) + routing(17, 0) + seg6(17, S6, H6), src=S6, dst=H6, nh=0)
    is64(error64(3, 0, quote=q6), 11, 0, quote=SENT4)
    options = b"\x83\7\4\1\2\3\4\0"
    is46(error46(11, 0, quote=with_options(options, seg4(17, H4, S4), src=H4, dst=S4)), 3, 0, quote=SENT6)


@pytest.mark.parametrize("quote", [
    b"", GOT6[:39], b"\x40" + GOT6[1:], SENT4 + bytes(40),
    pkt6(ext(17), src=S6, dst=H6, nh=0)[:47], pkt6(frag6(17, 0, 1, 1, b""), src=S6, dst=H6, nh=44)[:47],
    pkt6(routing(17, 1) + bytes(8), src=S6, dst=H6, nh=43), pkt6(frag6(60, 0, 1, 1, bytes(8)), src=S6, dst=H6, nh=44),
    pkt6(ext(60) * 9 + bytes(8), src=S6, dst=H6, nh=60), pkt6(bytes(8), src=S6, dst=H6, nh=1),
    pkt6(bytes(8), src=S6, dst=H6, nh=2), pkt6(b"\x80" + bytes(6), src=S6, dst=H6, nh=58),
    pkt6(b"\x85" + bytes(20), src=S6, dst=H6, nh=58),
    GOT6[:4] + b"\0\7" + b"\0" + GOT6[7:40] + ext(17) + bytes(8), GOT6[:4] + b"\xff\xf0" + GOT6[6:],
])
def test_64_quotes_that_make_no_sense(quote):
    drops(error64(1, 4, quote=quote), "icmp-quote")


@pytest.mark.parametrize("quote", [
    b"", GOT4[:19], b"\x44" + GOT4[1:], b"\x46" + GOT4[1:20], b"\x65" + GOT4[1:], GOT4[:2] + b"\0\x13" + GOT4[4:],
    pkt4(bytes(8), src=H4, dst=S4, proto=58), pkt4(bytes(8), src=H4, dst=S4, proto=2),
    pkt4(bytes(8), src=H4, dst=S4, proto=44),
    pkt4(b"\x08" + bytes(6), src=H4, dst=S4, proto=1), pkt4(b"\x0d" + bytes(20), src=H4, dst=S4, proto=1),
])
def test_46_quotes_that_make_no_sense(quote):
    drops(error46(3, 3, quote=quote), "icmp-quote")


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 100])
def test_64_nested_errors(kind):
    quote = pkt6(icmp6(kind, 0, body=SENT6, src=S6, dst=H6), src=S6, dst=H6, nh=58)
    drops(error64(1, 4, quote=quote), "icmp-nested")


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_46_nested_errors(kind):
    quote = pkt4(icmp4(kind, 0, body=SENT4), src=H4, dst=S4, proto=1)
    drops(error46(3, 3, quote=quote), "icmp-nested")


def test_wrong_error_checksum_stays_wrong():
    good = pkt6(icmp6(1, 4, body=GOT6, src=R6), src=R6, nh=58)
    bad = good[:42] + bytes((good[42] ^ 1,)) + good[43:]
    a, b = out(xlat64(config(), good)), out(xlat64(config(), bad))
    assert a[24:] == b[24:] and a[22:24] != b[22:24] and not same(a, b)
    good = pkt4(icmp4(3, 3, body=GOT4), proto=1)
    bad = good[:22] + bytes((good[22] ^ 1,)) + good[23:]
    a, b = out(xlat46(config(), good)), out(xlat46(config(), bad))
    assert a[44:] == b[44:] and a[42:44] != b[42:44] and not same(a, b)


# --- RFC 4884 and truncation ---

MPLS = bytes.fromhex("2000 0000 0008 0101 00010140")                    # an extension of one object, opaque here


@pytest.mark.parametrize("kind,code,kind4,code4", [(1, 3, 3, 1), (3, 0, 11, 0)])
def test_64_extension(kind, code, kind4, code4):
    # 128 octets, zero padded: 108 after translation, so padded to 128 again = 32 words.
    q6, q4 = GOT6.ljust(128, b"\0"), SENT4.ljust(108, b"\0").ljust(128, b"\0")
    is64(error64(kind, code, b"\x10\0\0\0", q6 + MPLS), kind4, code4, b"\0\x20\0\0", q4 + MPLS)
    # 200 octets of a longer packet: 180 = 45 words.
    long6, long4 = l4_sum(17, udp(bytes(400)), 6, S6, H6, True), l4_sum(17, udp(bytes(400)), 6, S4, H4, False)
    q6, q4 = pkt6(long6, src=S6, dst=H6)[:200], pkt4(long4, id=0)[:180]
    is64(error64(kind, code, b"\x19\0\0\0", q6 + MPLS), kind4, code4, b"\0\x2d\0\0", q4 + MPLS)


@pytest.mark.parametrize("kind,code,kind6,code6", [(3, 1, 1, 0), (11, 0, 3, 0)])
def test_46_extension(kind, code, kind6, code6):
    # 128 octets: 148 after translation, padded to 152 = 19 units of 8.
    q4, q6 = GOT4.ljust(128, b"\0"), SENT6.ljust(148, b"\0").ljust(152, b"\0")
    is46(error46(kind, code, b"\0\x20\0\0", q4 + MPLS), kind6, code6, b"\x13\0\0\0", q6 + MPLS)
    # 132 octets: 152, no padding.
    q4, q6 = GOT4.ljust(132, b"\0"), SENT6.ljust(152, b"\0")
    is46(error46(kind, code, b"\0\x21\0\0", q4 + MPLS), kind6, code6, b"\x13\0\0\0", q6 + MPLS)
    # A quoted fragment grows by 28: 128 -> 156 -> 160.
    q4 = pkt4(bytes(108), src=H4, dst=S4, id=3, frag=1)
    q6 = pkt6(frag6(17, 8, 0, 3, bytes(108)), nh=44).ljust(160, b"\0")
    is46(error46(kind, code, b"\0\x20\0\0", q4 + MPLS), kind6, code6, b"\x14\0\0\0", q6 + MPLS)
    # A quoted header with 40 bytes of options shrinks by 20: 108, padded to 128.
    q4 = with_options(b"\1" * 40, bytes(68), src=H4, dst=S4, proto=253)
    q6 = pkt6(bytes(68), nh=253).ljust(128, b"\0")
    is46(error46(kind, code, b"\0\x20\0\0", q4 + MPLS), kind6, code6, b"\x10\0\0\0", q6 + MPLS)


@pytest.mark.parametrize("kind,code,rest,expected", [
    (3, 2, b"\0\x20\0\0", (4, 1, n32(6))), (3, 4, b"\0\x20\x05\x78", (2, 0, n32(1420))),
    (12, 0, b"\x08\x20\0\0", (4, 0, n32(7))),
])
def test_46_extension_where_icmpv6_has_none(kind, code, rest, expected):
    is46(error46(kind, code, rest, GOT4.ljust(128, b"\0") + MPLS), *expected, SENT6.ljust(148, b"\0"))


@pytest.mark.parametrize("units", [1, 15, 17, 200])
def test_64_length_attribute_that_fits_nothing(units):
    q6 = GOT6.ljust(136 if units == 17 else 128, b"\0")
    is64(error64(1, 3, bytes((units, 0, 0, 0)), q6), 3, 1, quote=SENT4.ljust(len(q6) - 20, b"\0"))


@pytest.mark.parametrize("units", [1, 31, 33, 200])
def test_46_length_attribute_that_fits_nothing(units):
    q4 = GOT4.ljust(132 if units == 33 else 128, b"\0")
    is46(error46(3, 1, bytes((0, units, 0, 0)), q4), 1, 0, quote=SENT6.ljust(len(q4) + 20, b"\0"))


def test_64_no_length_attribute_in_packet_too_big_and_parameter_problem():
    q6 = GOT6.ljust(128, b"\0") + MPLS
    is64(error64(2, 0, n32(0x10000000 | 1400), q6, cfg=config(mtu=1500)), 3, 4, n32(1480),
         SENT4.ljust(108, b"\0") + MPLS)
    is64(error64(4, 1, b"\x10\0\0\0", q6), 3, 2, quote=SENT4.ljust(108, b"\0") + MPLS)


def test_64_truncated_at_576():
    long6, long4 = l4_sum(17, udp(bytes(1400)), 6, S6, H6, True), l4_sum(17, udp(bytes(1400)), 6, S4, H4, False)
    q6, q4 = pkt6(long6, src=S6, dst=H6), pkt4(long4, id=0, flags=2)
    for keep in (567, 568, 569, 1232):                                  # 568 - 20 + 28 = 576
        result = error64(1, 4, quote=q6[:keep])
        is64(result, 3, 3, quote=q4[:min(keep - 20, 548)])
        assert len(out(result)) == min(576, keep + 8)
    # With an extension: the quote makes room for it, but not its first 128 bytes.
    is64(error64(1, 3, b"\x45\0\0\0", q6[:552] + MPLS + bytes(8)), 3, 1, b"\0\x84\0\0", q4[:528] + MPLS + bytes(8))
    for words in 0x47, 0x90:
        is64(error64(1, 3, bytes((words, 0, 0, 0)), q6[:words * 8] + MPLS), 3, 1, b"\0\x86\0\0", q4[:536] + MPLS)
    is64(error64(1, 3, b"\x20\0\0\0", q6[:256] + bytes(421)), 3, 1, b"\0\x20\0\0", q4[:128] + bytes(420))


def test_46_truncated_at_1280():
    long6, long4 = l4_sum(17, udp(bytes(1400)), 6, H6, S6, True), l4_sum(17, udp(bytes(1400)), 6, H4, S4, False)
    q6, q4 = pkt6(long6), pkt4(long4, src=H4, dst=S4)
    for keep in (1211, 1212, 1213, 1400):                               # 1212 + 20 + 48 = 1280
        for flags in (0, 2):
            result = xlat46(config(), pkt4(icmp4(3, 3, body=q4[:keep]), src="203.0.113.1", proto=1, flags=flags))
            is46(result, 1, 4, quote=q6[:min(keep + 20, 1232)])
    is46(error46(3, 1, b"\0\xff\0\0", q4[:1020] + bytes(300)), 1, 0, b"\x74\0\0\0", q6[:928] + bytes(300))
    is46(error46(3, 1, b"\0\xff\0\0", q4[:1020] + bytes(1300)), 1, 0, b"\x10\0\0\0", q6[:128] + bytes(1104))


def test_icmp4_error_with_df0_is_not_fragmented():
    cfg = config(lowest_ipv6_mtu=1280)
    assert len(error46(3, 3, quote=pkt4(bytes(1460), src=H4, dst=S4, proto=253), cfg=cfg).packets) == 1


# --- the comparison helper ---

def test_same():
    a = pkt4(seg4(6), proto=6, id=1)
    assert same(a, pkt4(seg4(6), proto=6, id=2)) and not same(a, pkt4(seg4(6), proto=6, id=2), ident_free=False)
    assert same(a, a + b"padding")
    assert not same(a, a[:10] + b"\0\0" + a[12:])                       # a wrong header checksum
    assert not same(a, pkt4(seg4(6), proto=6, id=1, ttl=59))
    zero, ones = a[:36] + b"\0\0" + a[38:], a[:36] + b"\xff\xff" + a[38:]
    assert same(zero, ones) and not same(a, ones)
    u = pkt4(udp())
    assert not same(u, u[:26] + b"\xff\xff" + u[28:])
    e1, e2 = pkt4(icmp4(3, 3, body=pkt4(udp(), id=1)), proto=1), pkt4(icmp4(3, 3, body=pkt4(udp(), id=2)), proto=1)
    assert e1 != e2 and same(e1, e2) and not same(e1, e2, quote_ident_free=False)
    # IPv6: the two zeros of TCP are one, in a first fragment too; a later fragment and UDP are compared bit for bit.
    zero, ones = seg6(6)[:16] + b"\0\0" + seg6(6)[18:], seg6(6)[:16] + b"\xff\xff" + seg6(6)[18:]
    assert same(pkt6(zero, nh=6), pkt6(ones, nh=6)) and not same(pkt6(zero, nh=6), pkt6(seg6(6), nh=6))
    assert same(pkt6(frag6(6, 0, 1, 1, zero), nh=44), pkt6(frag6(6, 0, 1, 1, ones), nh=44))
    assert not same(pkt6(frag6(6, 8, 1, 1, zero), nh=44), pkt6(frag6(6, 8, 1, 1, ones), nh=44))
    assert not same(pkt4(zero, proto=6, frag=1), pkt4(ones, proto=6, frag=1))
    assert not same(pkt6(udp()), pkt6(udp()[:6] + b"\xff\xff" + udp()[8:]))
    assert same(pkt6(b"", nh=59), pkt6(b"", nh=59) + b"padding") and not same(pkt6(b"", nh=59), pkt6(b"", nh=60))
    assert same(pkt4(b"", id=1), pkt4(b"", id=2) + b"padding") and not same(pkt4(b"", id=1), pkt4(b"", id=2), False)
    result = oracle.Result("translated", [a, u])
    assert result.matches([u, a]) and not result.matches([a]) and not result.matches([a, a])


def test_every_reason_is_known():
    """The oracle speaks of no drop reason that nat64.h does not have."""
    import pathlib
    import re
    here = pathlib.Path(__file__).resolve().parent
    names = set(re.findall(r'X\([A-Z0-9_]+,\s*"([a-z0-9-]+)"', (here.parent / "nat64.h").read_text()))
    used = set(re.findall(r'Drop\("([a-z0-9-]+)"', (here / "oracle.py").read_text())) | {"fragment-bad", "truncated"}
    assert used <= names and len(used) > 15


# --- random packets: laws that hold whatever the packet ---

def residual(packet):
    """What the transport checksum's test sums to: 0 when it is right. None where there is none to test."""
    six = packet[0] >> 4 == 6
    ip = IPv6(packet) if six else IP(packet)
    at, proto = (40, ip.nh) if six else (ip.ihl * 4, ip.proto)
    if proto not in (1, 6, 17, 33, 58, 136) or (not six and (ip.flags.MF or ip.frag)):
        return None
    segment = packet[at:40 + ip.plen] if six else packet[at:ip.len]
    if proto in (17, 136) and segment[6:8] == b"\0\0":
        return None
    if proto == 1:
        return rfc1071(segment) % 0xffff
    if six:
        return in6_chksum(proto, IPv6(src=ip.src, dst=ip.dst), segment) % 0xffff
    addresses = IPv4Address(ip.src).packed + IPv4Address(ip.dst).packed
    pseudo = addresses + bytes((0, proto)) + len(segment).to_bytes(2, "big")
    return rfc1071(pseudo + segment) % 0xffff


RANDOM_CONFIGS = [
    config(), config(v6_prefix=IPv6Network("2001:db8:100::/40"), allowed=[IPv6Network("fd00::/8")]),
    config(v6_prefix=IPv6Network("2001:db8:122:344::/64"), tos=0, tclass=0, lowest_ipv6_mtu=1400, mtu=9000),
    config(wkp_strict=True),
]


@pytest.mark.parametrize("cfg", RANDOM_CONFIGS)
@pytest.mark.parametrize("way", generator.WAYS)
def test_random_packets(cfg, way):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    cfg = dataclasses.replace(cfg, mappings=dict(cfg.mappings))
    checked = 0
    for packet in itertools.islice(generator.packets(cfg, random.Random(seed), way), 1000):
        result = (xlat64 if way == "6to4" else xlat46)(cfg, packet)
        assert bool(result.packets) == (result.verdict == "translated")
        assert bool(result.reason) == (result.verdict in ("drop", "error"))
        assert bool(result.answer) == bool(result.icmp_error) == (result.verdict == "error")
        for p in result.packets:
            if way == "6to4":
                assert p[0] == 0x45 and rfc1071(p[:20]) == 0 and int.from_bytes(p[2:4], "big") == len(p)
            else:
                assert p[0] >> 4 == 6 and int.from_bytes(p[4:6], "big") == len(p) - 40
                assert len(p) <= max(1280, cfg.lowest_ipv6_mtu) or packet[6] & 0x40
        # A checksum that was right is right, one that was wrong is wrong by the same amount.
        if len(result.packets) == 1 and (way == "4to6" or packet[6] in (6, 17, 33, 58, 136)):
            before, after = residual(packet), residual(result.packets[0])
            if before is not None and after is not None:
                assert before == after, packet.hex()
                checked += 1
    assert checked > 150


def test_generator_is_reproducible_and_reaches_every_reason():
    def some(seed, way, count=50):
        return list(itertools.islice(generator.packets(config(), random.Random(seed), way), count))
    assert some(1, "6to4") == some(1, "6to4") != some(2, "6to4")
    assert all(len(p) <= 600 for p in itertools.islice(generator.packets(config(), random.Random(3), "4to6", 600), 500))
    common = {"pass", "translated", "truncated", "src-illegal", "non-global", "fragment-bad", "fragment-icmp",
              "icmp-type", "icmp-pointer", "icmp-nested", "icmp-quote", "icmp-foreign", "protocol"}
    for way, translate, rest in (
            ("6to4", xlat64, {"dst-illegal", "not-allowed", "pool-full", "ext-header", "routing-header"}),
            ("4to6", xlat46, {"bad-header", "no-mapping", "source-route", "fragment-udp0", "udp-length"})):
        missing = common | rest
        cfg = config(wkp_strict=True, allocate=lambda v6: None)
        for packet in itertools.islice(generator.packets(cfg, random.Random(7), way, 2000), 20000):
            result = translate(cfg, packet)
            missing.discard(result.reason or result.verdict)
            if not missing:
                break
        assert not missing
