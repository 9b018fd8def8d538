# SPDX-License-Identifier: GPL-2.0-or-later
"""RFC 7915 row by row: packets made by hand through the BPF programs, and what must come out, byte by byte.

A case is one line: its name (the RFC's section first), the packet, and what is expected: the packets that it becomes,
or the reason that its drop is counted under, and then the answer if one is sent. Headers are spelled out here,
checksums are scapy's. oracle.py is asked about every packet too. docs/rfc.org refers to the names."""

import collections
import errno
import fcntl
import fnmatch
import glob
import importlib
import ipaddress
import os
import re
import select
import struct
import time

import pytest
from scapy.utils import checksum

import bpf
import oracle
from bpf import TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC
from lab import NAT64, Wire, embed, patience, wait_for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')

H6, H4 = 'fc00:66::a', '10.0.1.1'                   # a host with a mapping
B6, B4 = 'fc00:66::b', '10.0.1.2'                   # another
R6 = '2001:db8:99::1'                               # an IPv6 router: no mapping, not allowed
S6, S4 = '64:ff9b::c633:6402', '198.51.100.2'       # an IPv4 server
T6, T4 = '64:ff9b::cb00:7107', '203.0.113.7'        # an IPv4 router on the way to it

TCP, UDP, DCCP, UDPLITE, ICMP4, ICMP6 = 6, 17, 33, 136, 1, 58
HOPOPT, ROUTING, FRAGMENT, DSTOPTS, AH = 0, 43, 44, 60, 51
DF, MF = 0x4000, 0x2000
MANY = bytes(range(256)) * 16

# --- packets ---


def packed(address):
    return ipaddress.ip_address(address).packed


def l4(proto, segment, src, dst):
    """A segment with its checksum: over the pseudo-header of the addresses' family, over the message only in ICMP."""
    at = {TCP: 16, UDP: 6, UDPLITE: 6, DCCP: 6, ICMP4: 2, ICMP6: 2}[proto]
    segment = segment[:at] + b'\0\0' + segment[at + 2:]
    pseudo = packed(src) + packed(dst)
    pseudo += struct.pack('!II', len(segment), proto) if ':' in src else struct.pack('!HH', proto, len(segment))
    value = checksum((b'' if proto == ICMP4 else pseudo) + segment)
    if proto in (UDP, UDPLITE):
        value = value or 0xffff
    return segment[:at] + struct.pack('!H', value) + segment[at + 2:]


def p6(payload, proto=UDP, src=H6, dst=S6, hlim=64, tc=0, fl=0, plen=None):
    """An IPv6 packet."""
    return struct.pack('!IHBB', 6 << 28 | tc << 20 | fl, len(payload) if plen is None else plen, proto, hlim) + \
        packed(src) + packed(dst) + payload


def p4(payload, proto=UDP, src=S4, dst=H4, ttl=64, tos=0, ident=0, frag=0, options=b'', total=None):
    """An IPv4 packet. In an expected one the identification 0 stands for any."""
    ihl = 20 + len(options)
    header = struct.pack('!BBHHHBBH', 0x40 + ihl // 4, tos, ihl + len(payload) if total is None else total, ident, frag,
                         ttl, proto, 0) + packed(src) + packed(dst) + options
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + payload


def udp(data=b'hello', length=None):
    return struct.pack('!HHHH', 53, 1000, 8 + len(data) if length is None else length, 0) + data


def tcp(data=b'hello'):
    return bytes.fromhex('04d20050 00000001 00000002 50182000 0000 0000') + data


def dccp(data=b'hello'):
    return bytes.fromhex('04d20050 04 00 0000 04 00 0001') + data


def echo(kind, data=b'hello', code=0):
    return bytes((kind, code)) + bytes.fromhex('0000 1234 0007') + data


def err6(kind, code, rest, quote, src=H6, dst=S6):
    return p6(l4(ICMP6, bytes((kind, code, 0, 0)) + rest + quote, src, dst), ICMP6, src, dst)


def err4(kind, code, rest, quote, src=S4, dst=H4, **kw):
    return p4(l4(ICMP4, bytes((kind, code, 0, 0)) + rest + quote, src, dst), ICMP4, src, dst, **kw)


def out4(payload, proto=UDP, **kw):
    """What comes from H6 to S6, as IPv4."""
    return p4(payload, proto, **{'src': H4, 'dst': S4, **kw})


def out6(payload, proto=UDP, **kw):
    """What comes from S4 to H4, as IPv6."""
    return p6(payload, proto, **{'src': S6, 'dst': H6, **kw})


def frag6(proto, offset, more, ident, payload, reserved=0):
    """A fragment header and what follows it; offset in bytes."""
    return struct.pack('!BBHI', proto, reserved, offset | more, ident) + payload


def options6(proto, units=0):
    """A hop-by-hop or destination options header that holds padding."""
    return bytes((proto, units)) + bytes(6 + 8 * units)


def routing(proto, left, kind=0):
    """A routing header with one address."""
    return bytes((proto, 2, kind, left)) + bytes(4) + packed('fc00:66::1')


def chain(*kinds, last=UDP):
    """(first next header, extension headers) that end with protocol `last`."""
    headers = b''
    for this, following in zip(kinds, (*kinds[1:], last)):
        headers += routing(following, 0) if this == ROUTING else options6(following)
    return kinds[0], headers


# --- the errors that the translator sends itself, from the address that the packet was for ---

def unreachable6(packet, code=1, kind=1, word=0):
    """RFC 7915 section 5.4, RFC 4443 section 3: at most 1280 bytes. 1/1: administratively prohibited."""
    src, dst = (str(ipaddress.IPv6Address(packet[at:at + 16])) for at in (8, 24))
    return err6(kind, code, struct.pack('!I', word), packet[:1232], dst, src)


def unreachable4(packet, code=13):
    """RFC 7915 section 4.4, RFC 1812: at most 576 bytes, precedence 6. 3/13: administratively prohibited."""
    src, dst = (str(ipaddress.IPv4Address(packet[at:at + 4])) for at in (12, 16))
    return err4(3, code, bytes(4), packet[:548], dst, src, tos=0xc0)


# --- cases ---

Case = collections.namedtuple('Case', 'way packet want options mtu oracle')
CASES = {}


def case(way, name, packet, *want, options=(), mtu=1500, ask=True):
    """want: packets, or a reason and perhaps the answer. ask: whether the oracle has an opinion."""
    assert name not in CASES, name
    CASES[name] = Case(way, packet, want, tuple(options), mtu, ask)


def to4(name, packet, *want, **kw):
    case('6to4', name, packet, *want, **kw)


def to6(name, packet, *want, **kw):
    case('4to6', name, packet, *want, **kw)


U64, U46 = l4(UDP, udp(), H6, S6), l4(UDP, udp(), S4, H4)       # a datagram before translation
U4, U6 = l4(UDP, udp(), H4, S4), l4(UDP, udp(), S6, H6)         # and after

# Both ways: name, protocol of IPv6 and IPv4, segment of IPv6 and IPv4, the checksum to be made.
SEGMENTS = {
    'tcp': (TCP, TCP, tcp(), tcp()),
    'udp': (UDP, UDP, udp(), udp()),
    'udp-empty': (UDP, UDP, udp(b''), udp(b'')),
    'udp-odd': (UDP, UDP, udp(b'abc'), udp(b'abc')),
    'udp-1000': (UDP, UDP, udp(MANY[:1000]), udp(MANY[:1000])),
    'dccp': (DCCP, DCCP, dccp(), dccp()),
    'udplite': (UDPLITE, UDPLITE, udp(length=0), udp(length=0)),
    'echo-request': (ICMP6, ICMP4, echo(128), echo(8)),
    'echo-reply': (ICMP6, ICMP4, echo(129), echo(0)),
    'echo-empty': (ICMP6, ICMP4, echo(128, b''), echo(8, b'')),
    'echo-code-1': (ICMP6, ICMP4, echo(128, code=1), echo(8, code=1)),
}
for name_, (proto6, proto4, six, four) in SEGMENTS.items():
    to6(f'4.5-{name_}', p4(l4(proto4, four, S4, H4), proto4), out6(l4(proto6, six, S6, H6), proto6))
    to4(f'5.5-{name_}', p6(l4(proto6, six, H6, S6), proto6), out4(l4(proto4, four, H4, S4), proto4))
    if len(six) > 8:                    # damaged on the way: a wrong checksum stays wrong by as much
        def flip(packet):
            return packet[:-1] + bytes((packet[-1] ^ 1,))
        to6(f'4.5-{name_}-damaged', flip(p4(l4(proto4, four, S4, H4), proto4)),
            flip(out6(l4(proto6, six, S6, H6), proto6)))
        to4(f'5.5-{name_}-damaged', flip(p6(l4(proto6, six, H6, S6), proto6)),
            flip(out4(l4(proto4, four, H4, S4), proto4)))

# Protocols that the translator does not know: carried as they are.
OTHERS = {'sctp': 132, 'gre': 47, 'esp': 50, 'ah': 51, 'l2tp': 115, 'ipip': 4, '6in4': 41, 'pim': 103, 'ospf': 89,
          'no-next-header': 59, 'mobility': 135, 'hip': 139, 'shim6': 140, 'experiment': 253, 'reserved': 255}
for name_, number in OTHERS.items():
    for data in b'', b'\x01', MANY[:100]:
        to6(f'4.1-next-header-{name_}-{len(data)}', p4(data, number), out6(data, number))
        to4(f'5.1-protocol-{name_}-{len(data)}', p6(data, number), out4(data, number))

# --- 4.1: IPv4 header to IPv6 ---

for tos in 0, 1, 0x03, 0xb8, 0xff:
    to6(f'4.1-traffic-class-{tos:02x}', p4(U46, tos=tos), out6(U6, tc=tos))
    to6(f'4.1-traffic-class-{tos:02x}-set-to-0', p4(U46, tos=tos), out6(U6, tc=0), options=('--tclass', '0'))
    to6(f'4.1-traffic-class-{tos:02x}-set-to-28', p4(U46, tos=tos), out6(U6, tc=0x28), options=('--tclass', '0x28'))
    to6(f'4.1-traffic-class-{tos:02x}-not-by-tos', p4(U46, tos=tos), out6(U6, tc=tos), options=('--tos', '0'))
for ttl in 1, 2, 64, 255:
    to6(f'4.1-hop-limit-{ttl}', p4(U46, ttl=ttl), out6(U6, hlim=ttl))
to6('4.1-df-no-fragment-header', p4(U46, ident=77, frag=DF), out6(U6))
to6('4.1-no-df-no-fragment-header', p4(U46, ident=77), out6(U6))
to6('4.1-reserved-flag', p4(U46, frag=0x8000), out6(U6))
to6('4.1-link-padding', p4(U46) + bytes(17), out6(U6))
to6('4.1-spelled-out',
    bytes.fromhex('45ab0021 1234 4000 2711 0bb7 c6336402 0a000101 0035 03e8 000d 82ae 68656c6c6f'),
    bytes.fromhex('6ab00000 000d 11 27 0064ff9b0000000000000000c6336402 fc00006600000000000000000000000a'
                  '0035 03e8 000d 913e 68656c6c6f'))

for src in '0.0.0.0', '0.1.2.3', '127.0.0.1', '127.255.255.255', '169.254.1.1', '224.0.0.1', '239.255.255.255', \
        '255.255.255.255':
    to6(f'4.1-illegal-source-{src}', p4(l4(UDP, udp(), src, H4), src=src), 'src-illegal')
for src in '1.0.0.1', '126.255.255.255', '128.0.0.1', '169.253.1.1', '169.255.1.1', '223.255.255.255', '10.0.0.1', \
        '192.168.1.1', '240.0.0.0', '247.1.2.3', '255.255.255.254':
    to6(f'4.1-legal-source-{src}', p4(l4(UDP, udp(), src, H4), src=src),
        out6(l4(UDP, udp(), embed(src), H6), src=embed(src)))

RR, TS, ALERT = bytes.fromhex('0707 04 00000000 00'), bytes.fromhex('44 08 05 00 00000000'), bytes.fromhex('94040000')
OPTIONS = {
    'nop': b'\1' * 4, 'nops': b'\1' * 40, 'end': bytes(4), 'record-route': RR, 'timestamp': TS, 'alert': ALERT,
    'security': bytes.fromhex('820b 0000000000000000 00 00'), 'unknown': bytes.fromhex('fe04abcd'),
    'all': b'\1' + RR + TS + ALERT + bytes(3), 'behind-end': bytes.fromhex('00 830704'),
    'lsrr-spent': bytes.fromhex('01 83 07 08 c0000209'), 'ssrr-spent': bytes.fromhex('01 89 07 08 c0000209'),
    'lsrr-far-spent': bytes.fromhex('01 83 07 ff c0000209'),
}
for name_, opts in OPTIONS.items():
    to6(f'4.1-option-{name_}', p4(U46, options=opts), out6(U6))
for name_, opts in {'length-0': '0700 0000', 'length-1': '0701 0000', 'too-long': '0705 0000', 'no-length': '01010107',
                    'lsrr-2': '8302 0000', 'ssrr-2': '8902 0000'}.items():
    to6(f'4.1-option-bad-{name_}', p4(U46, options=bytes.fromhex(opts)), 'bad-header')


for name_, opts in {'lsrr': '83070400000000 00', 'ssrr': '89070400000000 00', 'lsrr-behind-nop': '01 830704 00000000',
                    'lsrr-last-hop': '01 830b08 c0000209 c000020a', 'ssrr-pointer-at-end': '01 890707 c0000209',
                    'lsrr-pointer-0': '01 830700 c0000209', 'lsrr-empty': '01 830303',
                    'lsrr-behind-alert': '94040000 830704 00000000 00'}.items():
    packet_ = p4(U46, options=bytes.fromhex(opts))
    to6(f'4.1-source-route-{name_}', packet_, 'source-route', unreachable4(packet_, 5))
LSRR = bytes.fromhex('01 830704 00000000')
packet_ = p4(l4(UDP, udp(MANY[:1400]), S4, H4), options=LSRR)
to6('4.1-source-route-long', packet_, 'source-route', unreachable4(packet_, 5))
packet_ = p4(l4(ICMP4, echo(8), S4, H4), ICMP4, options=LSRR)
to6('4.1-source-route-echo', packet_, 'source-route', unreachable4(packet_, 5))
packet_ = p4(MANY[:64], frag=MF, options=LSRR)
to6('4.1-source-route-first-fragment', packet_, 'source-route', unreachable4(packet_, 5))
to6('4.1-source-route-later-fragment', p4(U46, frag=8, options=LSRR), 'source-route')
to6('4.1-source-route-illegal-source', p4(U46, src='127.0.0.1', options=LSRR), 'source-route')
for kind in 3, 4, 5, 11, 12:
    to6(f'4.1-source-route-icmp-error-{kind}', err4(kind, 0, bytes(4), p4(U4, src=H4, dst=S4), options=LSRR),
        'source-route')

to6('4.1-truncated', p4(U46, total=100), 'truncated')
to6('4.1-total-below-header', p4(U46, total=19), 'bad-header')
to6('4.1-ihl-4', b'\x44' + p4(U46)[1:], 'bad-header')
to6('4.1-ihl-15', b'\x4f' + p4(b'')[1:], 'truncated')
for name_, proto, least in ('tcp', TCP, 20), ('udp', UDP, 8), ('udplite', UDPLITE, 8), ('dccp', DCCP, 12), \
        ('icmp', ICMP4, 8):
    to6(f'4.5-{name_}-cut-short', p4(tcp()[:least - 1], proto), 'truncated')
    to4(f'5.5-{name_}-cut-short', p6(tcp()[:least - 1], ICMP6 if proto == ICMP4 else proto), 'truncated')

# --- 4, 4.1: fragments and DF ---

D1400 = l4(UDP, udp(MANY[:3000]), S4, H4)
D1400_6 = l4(UDP, udp(MANY[:3000]), S6, H6)
for name_, start, end, more in ('first', 0, 1200, 1), ('middle', 1200, 2000, 1), ('last', 2000, 3008, 0), \
        ('last-odd', 2400, 3007, 0), ('smallest-first', 0, 8, 1), ('smallest-middle', 8, 16, 1), \
        ('smallest-last', 3000, 3001, 0):
    to6(f'4.1-fragment-{name_}', p4(D1400[start:end], ident=0xabcd, frag=more * MF | start // 8),
        out6(frag6(UDP, start, more, 0xabcd, D1400_6[start:end]), FRAGMENT))
    to6(f'4.1-fragment-{name_}-with-options',
        p4(D1400[start:end], ident=0xabcd, frag=more * MF | start // 8, options=RR),
        out6(frag6(UDP, start, more, 0xabcd, D1400_6[start:end]), FRAGMENT))
    to6(f'4.1-fragment-{name_}-with-df', p4(D1400[start:end], ident=0xabcd, frag=DF | more * MF | start // 8),
        out6(frag6(UDP, start, more, 0xabcd, D1400_6[start:end]), FRAGMENT))
    at_ = {UDP: (D1400, D1400_6), 132: (MANY, MANY), TCP: (l4(TCP, tcp(MANY[:3000]), S4, H4),
                                                           l4(TCP, tcp(MANY[:3000]), S6, H6))}
    for proto in (TCP, 132):
        if proto == 132 or start or end >= 20:
            to6(f'4.1-fragment-{name_}-protocol-{proto}',
                p4(at_[proto][0][start:end], proto, ident=1, frag=more * MF | start // 8),
                out6(frag6(proto, start, more, 1, at_[proto][1][start:end]), FRAGMENT))
to6('4.1-fragment-ident-ffff', p4(MANY[:8], ident=0xffff, frag=MF | 1),
    out6(frag6(UDP, 8, 1, 0xffff, MANY[:8]), FRAGMENT))
to6('4.1-fragment-farthest', p4(MANY[:3], 132, ident=9, frag=8188), out6(frag6(132, 65504, 0, 9, MANY[:3]), FRAGMENT))
to6('4.1-fragment-bad-empty', p4(b'', 132, frag=8), 'fragment-bad')
to6('4.1-fragment-bad-beyond', p4(MANY[:8], 132, frag=8189), 'fragment-bad')
to6('4.1-fragment-bad-far-beyond', p4(MANY[:80], 132, frag=0x1fff), 'fragment-bad')
to6('4.1-fragment-bad-tiny-tcp', p4(tcp()[:16], TCP, frag=MF), 'fragment-bad')
to6('4.1-fragment-bad-tiny-dccp', p4(dccp()[:8], DCCP, frag=MF), 'fragment-bad')
for name_, offset, more in ('first', 0, 1), ('middle', 8, 1), ('last', 8, 0):
    a, b = p4(echo(8, MANY[:16]), ICMP4, frag=more * MF | offset // 8), \
        p6(frag6(ICMP6, offset, more, 1, echo(128, MANY[:16])), FRAGMENT)
    to6(f'4.2-fragment-{name_}', a, 'fragment-icmp', *[] if offset else [unreachable4(a)])
    to4(f'5.2-fragment-{name_}', b, 'fragment-icmp', *[] if offset else [unreachable6(b)])
to6('4.2-fragment-of-error', p4(echo(3, MANY[:16]), ICMP4, frag=MF), 'fragment-icmp')
to4('5.2-fragment-of-error', p6(frag6(ICMP6, 0, 1, 1, echo(1, MANY[:16])), FRAGMENT), 'fragment-icmp')
to4('5.2-fragment-of-redirect', p6(frag6(ICMP6, 0, 1, 1, echo(137, MANY[:16])), FRAGMENT), 'fragment-icmp')


def datagram(size, **kw):
    """(payload of an IPv4 packet, payload of the IPv6 packet) of so many bytes."""
    return l4(UDP, udp(MANY[:size - 8]), S4, H4, **kw), l4(UDP, udp(MANY[:size - 8]), S6, H6, **kw)


def pieces(payload, sizes, ident, first=0, more=0, proto=UDP):
    at, out = 0, []
    for n in sizes:
        out.append(out6(frag6(proto, first + at, int(more or at + n < len(payload)), ident, payload[at:at + n]),
            FRAGMENT))
        at += n
    assert at == len(payload)
    return out


a, b = datagram(1240)
to6('4.1-cut-not-1280', p4(a, ident=7), out6(b))
a, b = datagram(1241)
to6('4.1-cut-1281', p4(a, ident=7), *pieces(b, (1232, 9), 7))
a, b = datagram(1480)
to6('4.1-cut-1500', p4(a, ident=7), *pieces(b, (1232, 248), 7))
to6('4.1-df-1480-link-9000', p4(a, ident=7, frag=DF), out6(b), mtu=9000)
to6('4.1-df-1500-fits', p4(a[:1460], 132, ident=7, frag=DF), out6(a[:1460], 132))
big_ = out6(MANY[:1481], 132)                           # answered in its IPv6 form, which is translated on its way back
to6('4.1-df-1501-too-big', p4(MANY[:1481], 132, frag=DF), 'too-big', unreachable6(big_, 0, 2, 1500), ask=False)
a, b = datagram(3000)
to6('4.1-cut-in-three', p4(a, ident=7), *pieces(b, (1232, 1232, 536), 7))
to6('4.1-cut-with-options', p4(a, ident=7, options=RR), *pieces(b, (1232, 1232, 536), 7))
to6('4.1-cut-df-9000', p4(a, ident=7, frag=DF), out6(b), mtu=9000)
to6('4.1-cut-9000', p4(a, ident=7), *pieces(b, (1232, 1232, 536), 7), mtu=9000)
to6('4.1-cut-lowest-1400', p4(a, ident=7), *pieces(b, (1352, 1352, 296), 7), options=('--lowest-ipv6-mtu', '1400'))
a, b = datagram(1360)
to6('4.1-cut-lowest-1400-fits', p4(a, ident=7), out6(b), options=('--lowest-ipv6-mtu', '1400'))
a, b = datagram(1361)
to6('4.1-cut-lowest-1400-1401', p4(a, ident=7), *pieces(b, (1352, 9), 7), options=('--lowest-ipv6-mtu', '1400'))
to6('4.1-cut-lowest-1500', p4(D1400[:1460], 132, ident=7), out6(D1400[:1460], 132),
    options=('--lowest-ipv6-mtu', '1500'))
to6('4.1-cut-mtu-1280', p4(MANY[:1241], 132, ident=7), *pieces(MANY[:1241], (1232, 9), 7, proto=132), mtu=1280)
to6('4.1-cut-without-checksum', p4(udp(MANY[:2000]), ident=7),
    *pieces(l4(UDP, udp(MANY[:2000]), S6, H6), (1232, 776), 7))
to6('4.1-cut-tcp', p4(l4(TCP, tcp(MANY[:1400]), S4, H4), TCP, ident=7),
    *pieces(l4(TCP, tcp(MANY[:1400]), S6, H6), (1232, 188), 7, proto=TCP))
to6('4.1-cut-echo', p4(l4(ICMP4, echo(8, MANY[:1400]), S4, H4), ICMP4, ident=7),
    *pieces(l4(ICMP6, echo(128, MANY[:1400]), S6, H6), (1232, 176), 7, proto=ICMP6))
to6('4.1-cut-fragment-first', p4(D1400[:1480], ident=7, frag=MF), *pieces(D1400_6[:1480], (1232, 248), 7, more=1))
to6('4.1-cut-fragment-middle', p4(MANY[:1480], ident=7, frag=MF | 185),
    *pieces(MANY[:1480], (1232, 248), 7, first=1480, more=1))
to6('4.1-cut-fragment-last', p4(MANY[:1470], ident=7, frag=370), *pieces(MANY[:1470], (1232, 238), 7, first=2960))
to6('4.1-cut-fragment-1232', p4(MANY[:1232], ident=7, frag=370), *pieces(MANY[:1232], (1232,), 7, first=2960))
for name_, offset, df, most in ('first', 0, 0, 1232), ('middle', 1480, 0, 1232), ('df', 1480, DF, 1452):
    # More fragments, but not in units of 8 bytes: for the receiver to judge, unless it does not fit.
    a, b = (D1400[:most + 1], D1400_6[:most + 1]) if not offset else (MANY[:most + 1],) * 2
    for size_ in 9, most - 1:
        to6(f'4.1-fragment-units-{name_}-{size_}', p4(a[:size_], ident=7, frag=df | MF | offset // 8),
            *pieces(b[:size_], (size_,), 7, first=offset, more=1))
    to6(f'4.1-fragment-bad-units-{name_}', p4(a, ident=7, frag=df | MF | offset // 8), 'fragment-bad')
to6('4.1-fragment-units-farthest', p4(MANY[:11], 132, ident=9, frag=MF | 8188),
    out6(frag6(132, 65504, 1, 9, MANY[:11]), FRAGMENT))
to6('4.1-cut-fragment-df', p4(D1400[:1480], ident=7, frag=DF | MF), *pieces(D1400_6[:1480], (1448, 32), 7, more=1))
to6('4.1-cut-fragment-df-fits', p4(D1400[:1448], ident=7, frag=DF | MF), *pieces(D1400_6[:1448], (1448,), 7, more=1))

# --- 4.2, 4.3: ICMPv4 errors. The packet in error went from H6 to S6. ---

W4, W6 = p4(U4, src=H4, dst=S4, ttl=7, ident=0x4242), p6(U64, hlim=7)
Z4 = bytes(4)

UNREACHABLE46 = {0: 0, 1: 0, 3: 4, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 10: 1, 11: 0, 12: 0, 13: 1, 14: None, 15: 1, 16: None,
                 17: None, 255: None}
for code, new in UNREACHABLE46.items():
    to6(f'4.2-type-3-code-{code}', err4(3, code, Z4, W4),
        'icmp-type' if new is None else err6(1, new, Z4, W6, S6, H6))
to6('4.2-type-3-code-2', err4(3, 2, Z4, W4), err6(4, 1, bytes.fromhex('00000006'), W6, S6, H6))
for code in 0, 1, 7:
    to6(f'4.2-type-11-code-{code}', err4(11, code, Z4, W4), err6(3, code, Z4, W6, S6, H6))
for kind in 4, 5, 6:
    to6(f'4.2-type-{kind}', err4(kind, 0, Z4, W4), 'icmp-type')

# Figure 3.
FIGURE3 = {0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, 12: 8, 13: 8, 14: 8, 15: 8, 16: 24, 17: 24, 18: 24, 19: 24}
for pointer in [*range(24), 39, 40, 255]:
    for code in 0, 2:
        to6(f'4.2-type-12-code-{code}-pointer-{pointer}', err4(12, code, bytes((pointer, 0, 0, 0)), W4),
            err6(4, 0, bytes((0, 0, 0, FIGURE3[pointer])), W6, S6, H6) if pointer in FIGURE3 else 'icmp-pointer')
for code in 1, 3, 255:
    to6(f'4.2-type-12-code-{code}', err4(12, code, Z4, W4), 'icmp-type')


def needed(mtu, quote=W4):
    return err4(3, 4, struct.pack('!HH', 0, mtu), quote)


def too_big(mtu, quote=W6):
    return err6(2, 0, struct.pack('!I', mtu), quote, S6, H6)


for link, rows in {1500: {1: 1280, 68: 1280, 576: 1280, 1259: 1280, 1260: 1280, 1261: 1281, 1400: 1420, 1480: 1500,
                          1481: 1500, 1500: 1500, 65535: 1500},
                   9000: {1500: 1520, 4352: 4372, 8980: 9000, 8981: 9000, 9000: 9000},
                   1280: {1500: 1280, 68: 1280}}.items():
    for mtu_, new in rows.items():
        to6(f'4.2-mtu-{mtu_}-link-{link}', needed(mtu_), too_big(new), mtu=link)


# A router without RFC 1191: the greatest plateau below the quoted total length, that is a link of IPv4.
def claims(total):
    """W4 and W6 whose lengths say that they were longer."""
    return (p4(U4, src=H4, dst=S4, ttl=7, ident=0x4242, total=total), p6(U64, hlim=7, plen=total - 20))


for link, rows in {1500: {21: 1280, 576: 1280, 1280: 1280, 1300: 1280, 1492: 1280, 1493: 1500, 1500: 1500, 65535: 1500},
                   9000: {1492: 1280, 1493: 1512, 1500: 1512, 2002: 1512, 2003: 2022, 4352: 2022, 4353: 4372,
                          8166: 4372, 8167: 8186, 9000: 8186, 17914: 8186, 17915: 9000, 65535: 9000},
                   }.items():
    for total_, new in rows.items():
        four, six = claims(total_)
        to6(f'4.2-plateau-{total_}-link-{link}', needed(0, four), too_big(new, six), mtu=link)
for total_, new in {32000: 17934, 32001: 32020, 65535: 32020, 17915: 17934}.items():
    four, six = claims(total_)
    to6(f'4.2-plateau-{total_}-link-65535', needed(0, four), too_big(new, six), mtu=65535)

for src, src6 in (T4, T6), ('127.0.0.1', embed('127.0.0.1')), ('0.0.0.0', embed('0.0.0.0')), \
        ('255.255.255.255', embed('255.255.255.255')), ('10.9.9.9', embed('10.9.9.9')), ('192.0.0.8',
            embed('192.0.0.8')):
    to6(f'4.1-error-from-{src}', err4(11, 0, Z4, W4, src=src), err6(3, 0, Z4, W6, src6, H6))
to6('4.2-error-with-df', err4(11, 0, Z4, W4, frag=DF), err6(3, 0, Z4, W6, S6, H6))
to6('4.2-error-with-options', err4(11, 0, Z4, W4, options=ALERT), err6(3, 0, Z4, W6, S6, H6))
to6('4.2-error-unused-bytes', err4(3, 1, b'\x55\x00\x66\x77', W4), err6(1, 0, Z4, W6, S6, H6))
to6('4.2-error-wrong-checksum', err4(11, 0, Z4, W4)[:-1] + b'?', err6(3, 0, Z4, W6, S6, H6)[:-1] + b'?')
to6('4.3-error-tos-of-the-quote', err4(3, 1, Z4, p4(U4, src=H4, dst=S4, tos=0xb8)),
    err6(1, 0, Z4, p6(U64, tc=0xb8), S6, H6))
to6('4.3-error-tclass-set', err4(3, 1, Z4, p4(U4, src=H4, dst=S4, tos=0xb8)),
    p6(l4(ICMP6, bytes.fromhex('0100 0000 00000000') + p6(U64, tc=0x28), S6, H6), ICMP6, S6, H6, tc=0x28),
    options=('--tclass', '0x28'))

# Quoted transports, whole and truncated at every place where it matters: (6, 4) from H6 to S6.
QUOTES = {f'{name_}': (p6(l4(pr6, s6, H6, S6), pr6, hlim=1), p4(l4(pr4, s4, H4, S4), pr4, H4, S4, ttl=1))
          for name_, (pr6, pr4, s6, s4) in SEGMENTS.items()}
QUOTES |= {f'{name_}': (p6(MANY[:60], number), p4(MANY[:60], number, H4, S4)) for name_, number in OTHERS.items()}
CUTS = {'tcp': (0, 1, 8, 16, 17, 18, 20), 'udp': (0, 4, 6, 7, 8, 9), 'dccp': (0, 6, 7, 8, 12), 'udplite': (7, 8),
        'echo-request': (8, 9, 12), 'echo-reply': (8,), 'sctp': (0, 8), 'esp': (3,)}
HALF = {'tcp': 17, 'udp': 7, 'dccp': 7, 'udplite': 7}


def cut_quotes(transport, six, four, length, before):
    """Both packets with `length` bytes of their transport. Half a checksum can only stay what it was `before`."""
    six, four = six[:40 + length], four[:20 + length]
    if HALF.get(transport) == length:
        six, four = six[:-1] + before[length - 1:length], four[:-1] + before[length - 1:length]
    return six, four


for name_, (six, four) in QUOTES.items():
    for cut in (None, *CUTS.get(name_, ())):
        six_, four_ = (six[:1232], four) if cut is None else cut_quotes(name_, six, four, cut, four[20:])
        to6(f'4.3-quoted-{name_}-{"whole" if cut is None else cut}', err4(3, 1, Z4, four_),
            err6(1, 0, Z4, six_, S6, H6))
to6('4.3-quoted-udp-without-checksum', err4(3, 3, Z4, p4(udp(), src=H4, dst=S4)), err6(1, 4, Z4, p6(udp()), S6, H6))
to6('4.3-quoted-options', err4(3, 1, Z4, p4(U4, src=H4, dst=S4, options=RR + ALERT)), err6(1, 0, Z4, p6(U64), S6, H6))
to6('4.3-quoted-source-route', err4(3, 5, Z4, p4(U4, src=H4, dst=S4, options=LSRR)), err6(1, 0, Z4, p6(U64), S6, H6))
to6('4.3-quoted-options-cut-off', err4(3, 1, Z4, p4(U4, src=H4, dst=S4, options=RR)[:24]), 'icmp-quote')
for name_, offset, more in ('first', 0, 1), ('middle', 1200, 1), ('last', 2400, 0):
    body6, body4 = (l4(UDP, udp(MANY[:80]), H6, S6),
        l4(UDP, udp(MANY[:80]), H4, S4)) if not offset else (MANY[:88],) * 2
    to6(f'4.3-quoted-fragment-{name_}',
        err4(11, 1, Z4, p4(body4, src=H4, dst=S4, ident=0xbeef, frag=more * MF | offset // 8)),
        err6(3, 1, Z4, p6(frag6(UDP, offset, more, 0xbeef, body6), FRAGMENT), S6, H6))
to6('4.3-quoted-ttl-0', err4(11, 0, Z4, p4(U4, src=H4, dst=S4, ttl=0)), err6(3, 0, Z4, p6(U64, hlim=0), S6, H6))
for kind in 3, 4, 5, 11, 12:
    to6(f'4.3-nested-{kind}', err4(3, 1, Z4, p4(bytes((kind, 0)) + bytes(6) + W4, ICMP4, H4, S4)), 'icmp-nested')
for kind in 13, 14, 17, 9, 10, 40:
    to6(f'4.3-quoted-icmp-type-{kind}', err4(3, 1, Z4, p4(bytes((kind, 0)) + bytes(12), ICMP4, H4, S4)), 'icmp-quote')
to6('4.3-quoted-icmp-cut-short', err4(3, 1, Z4, p4(echo(8), ICMP4, H4, S4)[:27]), 'icmp-quote')
for number in 2, ICMP6, HOPOPT, ROUTING, FRAGMENT, DSTOPTS:
    to6(f'4.3-quoted-protocol-{number}', err4(3, 2, Z4, p4(MANY[:20], number, H4, S4)), 'icmp-quote')
to6('4.3-quote-empty', err4(3, 1, Z4, b''), 'icmp-quote')
to6('4.3-quote-19-bytes', err4(3, 1, Z4, W4[:19]), 'icmp-quote')
to6('4.3-quote-version-6', err4(3, 1, Z4, W6), 'icmp-quote')
to6('4.3-quote-ihl-4', err4(3, 1, Z4, b'\x44' + W4[1:]), 'icmp-quote')
to6('4.3-quote-total-below-header', err4(3, 1, Z4, p4(U4, src=H4, dst=S4, total=19)), 'icmp-quote')
to6('4.3-foreign-other-host', err4(3, 1, Z4, p4(U4, src=B4, dst=S4)), 'icmp-foreign')
to6('4.3-foreign-outside', err4(3, 1, Z4, p4(U4, src='192.0.2.9', dst=S4)), 'icmp-foreign')
for dst in '0.0.0.0', '0.1.2.3', '127.0.0.1', '169.254.1.1', '224.0.0.1', '239.255.255.255', '255.255.255.255':
    to6(f'4.3-foreign-to-{dst}', err4(11, 0, Z4, p4(l4(UDP, udp(), H4, dst), src=H4, dst=dst)), 'icmp-foreign')
    to4(f'5.3-foreign-from-{dst}', err6(3, 0, Z4, p6(l4(UDP, udp(), embed(dst), H6), src=embed(dst), dst=H6)),
        'icmp-foreign')
    to4(f'5.3-illegal-from-{dst}',
        err6(3, 0, Z4, p6(l4(UDP, udp(), embed(dst), H6), src=embed(dst), dst=H6), dst=embed(dst)), 'dst-illegal')
to6('4.3-no-mapping', err4(3, 1, Z4, p4(U4, src='10.0.1.200', dst=S4), dst='10.0.1.200'), 'no-mapping')
to6('4.3-wrong-outer-checksum-of-the-quote', err4(3, 1, Z4, p4(flip(U4), src=H4, dst=S4)),
    err6(1, 0, Z4, p6(flip(U64)), S6, H6))

# Never more than 1280 bytes: from the end of the quote.
big4, big6 = p4(l4(UDP, udp(MANY[:1400]), H4, S4), src=H4, dst=S4), p6(l4(UDP, udp(MANY[:1400]), H6, S6))
for size_ in 1203, 1211, 1212, 1213, 1400:
    to6(f'4.2-truncated-at-1280-quote-{size_}', err4(3, 1, Z4, big4[:size_]),
        err6(1, 0, Z4, big6[:min(size_ + 20, 1232)], S6, H6))
to6('4.2-truncated-with-df', err4(3, 1, Z4, big4, frag=DF), err6(1, 0, Z4, big6[:1232], S6, H6))

# RFC 4884: the length attribute counts 32-bit words in ICMPv4, 64-bit words in ICMPv6.
MPLS = bytes.fromhex('2000 df f1 0008 0101 00010140')
EXTENSION = MPLS[:2] + struct.pack('!H', checksum(MPLS[:2] + b'\0\0' + MPLS[4:])) + MPLS[4:]


def long_quote(size):
    """The same packet to S6 quoted up to `size` bytes of IPv4: (IPv6, IPv4)."""
    return big6[:size + 20], big4[:size]


for kind, code, new, newcode in (3, 1, 1, 0), (3, 3, 1, 4), (3, 13, 1, 1), (11, 0, 3, 0), (11, 1, 3, 1):
    six, four = long_quote(128)
    to6(f'4884-46-type-{kind}-code-{code}', err4(kind, code, b'\0\x20\0\0', four + EXTENSION),
        err6(new, newcode, b'\x13\0\0\0', six + bytes(4) + EXTENSION, S6, H6))
for size_ in 128, 132, 136, 140, 144, 548, 1000:
    six, four = long_quote(size_)
    pad = bytes(-(size_ + 20) % 8)
    to6(f'4884-46-length-{size_}', err4(3, 1, bytes((0, size_ // 4, 0, 0)), four + EXTENSION),
        err6(1, 0, bytes(((size_ + 20 + 7) // 8, 0, 0, 0)), six + pad + EXTENSION, S6, H6))
six, four = long_quote(128)
short4, short6 = W4.ljust(128, b'\0'), W6.ljust(152, b'\0')
to6('4884-46-padded-quote', err4(3, 1, b'\0\x20\0\0', short4 + EXTENSION),
    err6(1, 0, b'\x13\0\0\0', short6 + EXTENSION, S6, H6))
to6('4884-46-length-too-small', err4(3, 1, b'\0\x1f\0\0', four + EXTENSION), err6(1, 0, Z4, six + EXTENSION, S6, H6))
to6('4884-46-length-of-all', err4(3, 1, b'\0\x20\0\0', four), err6(1, 0, Z4, six, S6, H6))
to6('4884-46-length-beyond', err4(3, 1, b'\0\xff\0\0', four), err6(1, 0, Z4, six, S6, H6))
to6('4884-46-opaque', err4(3, 1, b'\0\x20\0\0', four + b'anything'),
    err6(1, 0, b'\x13\0\0\0', six + bytes(4) + b'anything', S6, H6))
to6('4884-46-needed-has-none', err4(3, 4, bytes.fromhex('0020 0500'), four + EXTENSION), too_big(1300, six))
to6('4884-46-protocol-unreachable-has-none', err4(3, 2, b'\0\x20\0\0', four + EXTENSION),
    err6(4, 1, b'\0\0\0\6', six, S6, H6))
to6('4884-46-parameter-problem-has-none', err4(12, 0, b'\x08\x20\0\0', four + EXTENSION),
    err6(4, 0, b'\0\0\0\7', six, S6, H6))
for size_, ext_, most in (1000, 300, 928), (1016, 197, 1032), (1020, 192, 1040), (1020, 193, 1032), (128, 1103, 128), \
        (140, 1104, 128):                               # the quote makes room, of 1232 bytes
    six, four = long_quote(size_)
    to6(f'4884-46-quote-truncated-{size_}-{ext_}', err4(11, 0, bytes((0, size_ // 4, 0, 0)), four + MANY[:ext_]),
        err6(3, 0, bytes((most // 8, 0, 0, 0)), six[:most].ljust(most, b'\0') + MANY[:ext_], S6, H6))
for size_, ext_ in (128, 1105), (1020, 1200), (132, 1300):
    six, four = long_quote(size_)
    to6(f'4884-46-extension-truncated-{size_}-{ext_}', err4(3, 1, bytes((0, size_ // 4, 0, 0)), four + MANY[:ext_]),
        err6(1, 0, b'\x10\0\0\0', six[:128] + MANY[:1104], S6, H6))
six, four = long_quote(1020)
to6('4884-46-longest-length', err4(3, 1, b'\0\xff\0\0', four + EXTENSION),
    err6(1, 0, b'\x82\0\0\0', six + EXTENSION, S6, H6))

for kind in 9, 10, 13, 14, 15, 16, 17, 18:
    to6(f'4.2-query-{kind}', p4(l4(ICMP4, echo(kind, bytes(12)), S4, H4), ICMP4), 'icmp-type')
to6('4.2-igmp', p4(bytes.fromhex('1100eeff00000000'), 2), 'protocol')
for number in HOPOPT, ROUTING, FRAGMENT, DSTOPTS, ICMP6:
    packet_ = p4(options6(UDP) + U46, number)
    to6(f'4.1-next-header-not-carried-{number}', packet_, 'protocol', unreachable4(packet_, 2))

# --- 4.5: UDP without checksum ---

for size_ in 0, 1, 2, 7, 1000, 1231:
    to6(f'4.5-udp-zero-{size_}', p4(udp(MANY[:size_])), out6(l4(UDP, udp(MANY[:size_]), S6, H6)))
behind = udp(b'hello', length=11)                       # the UDP packet ends before the IP packet does
to6('4.5-udp-zero-shorter', p4(behind), out6(l4(UDP, behind[:11], S6, H6) + behind[11:]))
to6('4.5-udp-zero-length-7', p4(udp(length=7)), 'udp-length')
to6('4.5-udp-zero-length-0', p4(udp(length=0)), 'udp-length')
to6('4.5-udp-zero-length-beyond', p4(udp(length=14)), 'udp-length')
packet_ = p4(udp(MANY[:992]), ident=7, frag=MF)
to6('4.5-udp-zero-first-fragment', packet_, 'fragment-udp0', unreachable4(packet_))
to6('4.5-udp-zero-later-fragment', p4(bytes(64), ident=7, frag=MF | 8), out6(frag6(UDP, 64, 1, 7, bytes(64)), FRAGMENT))
to6('4.5-udplite-zero-stays', p4(udp(), UDPLITE), out6(udp(), UDPLITE))
to4('5.5-udp-zero-stays', p6(udp()), out4(udp()))
to4('5.5-udplite-zero-stays', p6(udp(), UDPLITE), out4(udp(), UDPLITE))


def sums_to_zero(src, dst):
    """A UDP packet whose checksum comes to 0, which is sent as 0xffff."""
    fill = l4(UDP, udp(b'\0\0'), src, dst)[6:8]
    return udp(fill)


for name_, at_ in ('becomes', (H4, S4)), ('was', (H6, S6)):
    segment_ = sums_to_zero(*at_)
    to4(f'5.5-udp-ffff-{name_}', p6(l4(UDP, segment_, H6, S6)), out4(l4(UDP, segment_, H4, S4)))
for name_, at_ in ('becomes', (S6, H6)), ('was', (S4, H4)):
    segment_ = sums_to_zero(*at_)
    to6(f'4.5-udp-ffff-{name_}', p4(l4(UDP, segment_, S4, H4)), out6(l4(UDP, segment_, S6, H6)))
    to6(f'4.5-udp-zero-ffff-{name_}', p4(segment_), out6(l4(UDP, segment_, S6, H6)))

# --- 5.1: IPv6 header to IPv4 ---

for tc in 0, 1, 0x03, 0xb8, 0xff:
    to4(f'5.1-tos-{tc:02x}', p6(U64, tc=tc), out4(U4, tos=tc))
    to4(f'5.1-tos-{tc:02x}-set-to-0', p6(U64, tc=tc), out4(U4, tos=0), options=('--tos', '0'))
    to4(f'5.1-tos-{tc:02x}-set-to-28', p6(U64, tc=tc), out4(U4, tos=0x28), options=('--tos', '0x28'))
    to4(f'5.1-tos-{tc:02x}-not-by-tclass', p6(U64, tc=tc), out4(U4, tos=tc), options=('--tclass', '0'))
for fl in 1, 0xfffff, 0xabcde:
    to4(f'5.1-flow-label-{fl:x}', p6(U64, fl=fl), out4(U4))
for hlim in 1, 2, 64, 255:
    to4(f'5.1-ttl-{hlim}', p6(U64, hlim=hlim), out4(U4, ttl=hlim))
for size_ in 28, 1259, 1260, 1261, 1280, 1480, 3000:
    a, b = (l4(UDP, udp(MANY[:size_ - 28]), *ends) for ends in ((H6, S6), (H4, S4)))
    to4(f'5.1-df-{size_}', p6(a), out4(b, frag=DF if size_ > 1260 else 0))
to4('5.1-link-padding', p6(U64) + bytes(9), out4(U4))
to4('5.1-spelled-out',
    bytes.fromhex('6ab12345 000d 11 28 fc00006600000000000000000000000a 0064ff9b0000000000000000c6336402'
                  '0035 03e8 000d 913e 68656c6c6f'),
    bytes.fromhex('45ab0021 0000 0000 2811 5ceb 0a000101 c6336402 0035 03e8 000d 82ae 68656c6c6f'))

for src in '::', '::1', '::ffff:198.51.100.2', '::ffff:0:0', 'fe80::1', 'febf:ffff::1', 'ff02::1', 'ff0e::1', S6, \
        '64:ff9b::', '64:ff9b::ffff:ffff':
    to4(f'5.1-illegal-source-{src}', p6(l4(UDP, udp(), src, S6), src=src), 'src-illegal')
    to4(f'5.1-illegal-source-of-error-{src}', err6(3, 0, Z4, p6(U6, src=S6, dst=H6), src=src), 'src-illegal')
for src in '::2', '::1.2.3.4', 'fec0::1', R6, '64:ff9b::1:0:0', '64:ff9b:1::1':
    packet_ = p6(l4(UDP, udp(), src, S6), src=src)
    to4(f'5.1-not-allowed-{src}', packet_, 'not-allowed', unreachable6(packet_))
for dst in '0.0.0.0', '0.1.2.3', '127.0.0.1', '169.254.1.1', '224.0.0.1', '239.255.255.255', '255.255.255.255':
    packet_ = p6(l4(UDP, udp(), H6, embed(dst)), dst=embed(dst))
    group_ = dst.startswith(('224.', '239.')) or dst == '255.255.255.255'
    to4(f'5.1-illegal-destination-{dst}', packet_, 'dst-illegal', *[] if group_ else [unreachable6(packet_)])
for dst in '1.0.0.1', '126.255.255.255', '128.0.0.1', '223.255.255.255', '240.0.0.0', '247.1.2.3', '255.255.255.254':
    to4(f'5.1-legal-destination-{dst}', p6(l4(UDP, udp(), H6, embed(dst)), dst=embed(dst)),
        out4(l4(UDP, udp(), H4, dst), dst=dst))
    to6(f'4.3-error-about-packet-to-{dst}', err4(11, 0, Z4, p4(l4(UDP, udp(), H4, dst), src=H4, dst=dst)),
        err6(3, 0, Z4, p6(l4(UDP, udp(), H6, embed(dst)), dst=embed(dst)), S6, H6))

to4('5.1-truncated', p6(U64, plen=100), 'truncated')
to4('5.1-payload-length-0', p6(U64, plen=0), 'truncated')
to4('5.1-jumbogram', p6(bytes.fromhex('11 00 c204 00010000') + U64, HOPOPT, plen=0), 'truncated')

# Extension headers: skipped, in any order and number within reason.
EXTENSIONS = {
    'hop-by-hop': [HOPOPT], 'destination': [DSTOPTS], 'routing': [ROUTING], 'hop-by-hop-destination': [HOPOPT, DSTOPTS],
    'rfc-order': [HOPOPT, DSTOPTS, ROUTING, DSTOPTS], 'backwards': [DSTOPTS, ROUTING, HOPOPT],
    'hop-by-hop-twice': [HOPOPT, HOPOPT], 'eight': [DSTOPTS] * 8, 'eight-mixed': [HOPOPT, DSTOPTS,
        ROUTING] * 2 + [DSTOPTS] * 2,
}
for name_, kinds in EXTENSIONS.items():
    for proto, a, b in ((UDP, U64, U4), (TCP, l4(TCP, tcp(), H6, S6), l4(TCP, tcp(), H4, S4)),
        (132, MANY[:9], MANY[:9]),
                        (59, b'', b''), (50, MANY[:30], MANY[:30])):
        first_, headers = chain(*kinds, last=proto)
        to4(f'5.1-extension-{name_}-protocol-{proto}', p6(headers + a, first_), out4(b, proto))
    first_, headers = chain(*kinds, last=ICMP6)
    to4(f'5.1-extension-{name_}-echo', p6(headers + l4(ICMP6, echo(128), H6, S6), first_),
        out4(l4(ICMP4, echo(8), H4, S4), ICMP4))
    to4(f'5.1-extension-{name_}-error', p6(headers + err6(3, 0, Z4, p6(U6, src=S6, dst=H6))[40:], first_),
        err4(11, 0, Z4, p4(U46), src=H4, dst=S4))
for units in 1, 5, 100, 253:
    to4(f'5.1-extension-{8 + 8 * units}-bytes', p6(options6(UDP, units) + U64, DSTOPTS), out4(U4))
packet_ = p6(options6(UDP, 254) + U64, DSTOPTS)
to4('5.1-extension-2040-bytes', packet_, 'ext-header', unreachable6(packet_))
for kinds in [DSTOPTS] * 9, [HOPOPT] * 12:
    first_, headers = chain(*kinds)
    packet_ = p6(headers + U64, first_)
    to4(f'5.1-extensions-{len(kinds)}', packet_, 'ext-header', unreachable6(packet_))
a, b = l4(UDP, udp(MANY[:1232]), H6, S6), l4(UDP, udp(MANY[:1232]), H4, S4)
to4('5.1-df-extension-does-not-count', p6(options6(UDP) + a, DSTOPTS), out4(b))
to4('5.1-extension-header-missing', p6(b'', DSTOPTS), 'truncated')
to4('5.1-extension-header-cut', p6(options6(UDP)[:7], HOPOPT), 'truncated')
to4('5.1-extension-longer-than-packet', p6(bytes((UDP, 4)) + bytes(14), HOPOPT), 'truncated')
to4('5.1-extension-then-nothing', p6(options6(UDP), DSTOPTS), 'truncated')


def parameter_problem(packet, pointer):
    """Type 4, code 0, pointer at Segments Left."""
    return unreachable6(packet, 0, 4, pointer)


for kind in 0, 2, 3, 4, 77:
    packet_ = p6(routing(UDP, 1, kind) + U64, ROUTING)
    to4(f'5.1-routing-type-{kind}', packet_, 'routing-header', parameter_problem(packet_, 43))
for left in 2, 255:
    packet_ = p6(routing(UDP, left) + U64, ROUTING)
    to4(f'5.1-routing-{left}-left', packet_, 'routing-header', parameter_problem(packet_, 43))
packet_ = p6(options6(ROUTING) + routing(UDP, 1) + U64, HOPOPT)
to4('5.1-routing-behind-hop-by-hop', packet_, 'routing-header', parameter_problem(packet_, 51))
packet_ = p6(routing(ROUTING, 0) + routing(UDP, 1) + U64, ROUTING)
to4('5.1-routing-second', packet_, 'routing-header', parameter_problem(packet_, 67))
packet_ = p6(options6(ROUTING, 5) + routing(UDP, 1) + l4(UDP, udp(MANY[:1400]), H6, S6), DSTOPTS)
to4('5.1-routing-long', packet_, 'routing-header', parameter_problem(packet_, 91))
packet_ = p6(routing(UDP, 1) + l4(UDP, udp(), R6, S6), ROUTING, src=R6)
to4('5.1-routing-from-stranger', packet_, 'routing-header', parameter_problem(packet_, 43))
packet_ = p6(routing(ICMP6, 1) + l4(ICMP6, echo(128), H6, S6), ROUTING)
to4('5.1-routing-echo', packet_, 'routing-header', parameter_problem(packet_, 43))
packet_ = p6(routing(FRAGMENT, 1) + frag6(UDP, 0, 1, 5, l4(UDP, udp(MANY[:80]), H6, S6)), ROUTING)
to4('5.1-routing-fragment', packet_, 'routing-header', parameter_problem(packet_, 43))
to4('5.1-routing-later-fragment', p6(routing(FRAGMENT, 1) + frag6(UDP, 80, 0, 5, MANY[:80]), ROUTING), 'routing-header')
to4('5.1-routing-nothing-behind', p6(routing(ICMP6, 1), ROUTING) + b'\1', 'routing-header',
    parameter_problem(p6(routing(ICMP6, 1), ROUTING), 43))
for kind in 1, 2, 3, 4, 100, 137:
    to4(f'5.4-no-answer-to-icmp-{kind}', p6(routing(ICMP6, 1) + bytes((kind, 0)) + bytes(50), ROUTING),
        'routing-header')
for src in '::', 'fe80::1', 'ff02::1', S6:
    to4(f'5.4-no-answer-to-{src}', p6(routing(UDP, 1) + U64, ROUTING, src=src), 'routing-header')

# --- 5.1.1: fragments ---

V3000, V3000_4 = l4(UDP, udp(MANY[:3000]), H6, S6), l4(UDP, udp(MANY[:3000]), H4, S4)
X3000, X3000_4 = l4(TCP, tcp(MANY[:3000]), H6, S6), l4(TCP, tcp(MANY[:3000]), H4, S4)
for name_, start, end, more in ('first', 0, 1232, 1), ('middle', 1232, 2464, 1), ('last', 2464, 3008, 0), ('last-odd',
    2464, 2999, 0), \
        ('smallest-first', 0, 8, 1), ('smallest-middle', 8, 16, 1), ('smallest-last', 3000, 3001, 0), ('first-3000', 0,
            3000, 1):
    want_ = {'ident': 0x5678, 'frag': more * MF | start // 8}
    frag_ = frag6(UDP, start, more, 0x12345678, V3000[start:end])
    to4(f'5.1.1-{name_}', p6(frag_, FRAGMENT), out4(V3000_4[start:end], **want_))
    for kinds in [HOPOPT], [DSTOPTS], [ROUTING], [HOPOPT, DSTOPTS, ROUTING, DSTOPTS], [DSTOPTS] * 7:
        first_, headers = chain(*kinds, last=FRAGMENT)
        to4(f'5.1.1-{name_}-behind-{"-".join(map(str, kinds))}', p6(headers + frag_, first_),
            out4(V3000_4[start:end], **want_))
    if start or end >= 20:
        to4(f'5.1.1-{name_}-tcp', p6(frag6(TCP, start, more, 0x12345678, X3000[start:end]), FRAGMENT),
            out4(X3000_4[start:end], TCP, **want_))
    for number in 132, 50, 59, 253:
        to4(f'5.1.1-{name_}-protocol-{number}', p6(frag6(number, start, more, 0x12345678, MANY[start:end]), FRAGMENT),
            out4(MANY[start:end], number, **want_))
first_, headers = chain(*[DSTOPTS] * 8, last=FRAGMENT)
packet_ = p6(headers + frag6(UDP, 8, 0, 1, MANY[:8]), first_)
to4('5.1.1-behind-eight', packet_, 'ext-header', unreachable6(packet_))
for size_ in 8, 1240, 1241, 3000:
    a, b = (l4(UDP, udp(MANY[:size_ - 8]), *ends) for ends in ((H6, S6), (H4, S4)))
    to4(f'5.1.1-atomic-{size_}', p6(frag6(UDP, 0, 0, 0xffff1234, a), FRAGMENT), out4(b, ident=0x1234))
to4('5.1.1-atomic-echo', p6(frag6(ICMP6, 0, 0, 0x1234, l4(ICMP6, echo(128), H6, S6)), FRAGMENT),
    out4(l4(ICMP4, echo(8), H4, S4), ICMP4, ident=0x1234))
to4('5.1.1-reserved-bits', p6(frag6(UDP, 1232 | 6, 1, 0x12345678, MANY[:8], reserved=0xff), FRAGMENT),
    out4(MANY[:8], ident=0x5678, frag=MF | 154))
to4('5.1.1-reserved-bits-atomic', p6(frag6(UDP, 6, 0, 0x12345678, U64), FRAGMENT), out4(U4, ident=0x5678))
to4('5.1.1-reserved-bits-atomic-echo', p6(frag6(ICMP6, 4, 0, 0x12345678, l4(ICMP6, echo(128), H6, S6)), FRAGMENT),
    out4(l4(ICMP4, echo(8), H4, S4), ICMP4, ident=0x5678))
for number in HOPOPT, ROUTING, FRAGMENT, AH, DSTOPTS, 135, 139, 140:
    for name_, offset, more in ('first', 0, 1), ('last', 800, 0), ('atomic', 0, 0):
        packet_ = p6(frag6(number, offset, more, 1, options6(UDP) + U64[:8]), FRAGMENT)
        to4(f'5.1.1-extension-behind-{number}-{name_}', packet_, 'ext-header',
            *[] if offset else [unreachable6(packet_)])
to4('5.1.1-header-cut', p6(bytes((UDP, 0, 0, 1, 0, 0, 0)), FRAGMENT), 'truncated')
to4('5.1.1-bad-empty', p6(frag6(UDP, 8, 0, 1, b''), FRAGMENT), 'fragment-bad')
for size_ in 1, 7, 9, 1231:                             # not in units of 8 bytes, as in section 4.1
    to4(f'5.1.1-units-{size_}', p6(frag6(UDP, 8, 1, 0x12345678, MANY[:size_]), FRAGMENT),
        out4(MANY[:size_], ident=0x5678, frag=MF | 1))
to4('5.1.1-units-first', p6(frag6(UDP, 0, 1, 0x12345678, V3000[:1001]), FRAGMENT),
    out4(V3000_4[:1001], ident=0x5678, frag=MF))
to4('5.1.1-units-farthest', p6(frag6(UDP, 65504, 1, 0x12345678, MANY[:11]), FRAGMENT),
    out4(MANY[:11], ident=0x5678, frag=MF | 8188))
to4('5.1.1-bad-beyond', p6(frag6(UDP, 65512, 0, 1, MANY[:8]), FRAGMENT), 'fragment-bad')
to4('5.1.1-farthest', p6(frag6(UDP, 65504, 0, 0xffffabcd, MANY[:11]), FRAGMENT),
    out4(MANY[:11], ident=0xabcd, frag=8188))
to4('5.1.1-bad-tiny-tcp', p6(frag6(TCP, 0, 1, 1, tcp()[:16]), FRAGMENT), 'fragment-bad')
to4('5.1.1-bad-tiny-dccp', p6(frag6(DCCP, 0, 1, 1, dccp()[:8]), FRAGMENT), 'fragment-bad')

# --- 5.2, 5.3: ICMPv6 errors. The packet in error went from S6 to H6. ---

Q6, Q4 = out6(U6, hlim=7), p4(U46, ttl=7)

UNREACHABLE64 = {0: 1, 1: 10, 2: 1, 3: 1, 4: 3, 5: None, 6: None, 7: None, 8: None, 255: None}
for code, new in UNREACHABLE64.items():
    to4(f'5.2-type-1-code-{code}', err6(1, code, Z4, Q6),
        'icmp-type' if new is None else err4(3, new, Z4, Q4, H4, S4))
for code in 0, 1, 9:
    to4(f'5.2-type-3-code-{code}', err6(3, code, Z4, Q6), err4(11, code, Z4, Q4, H4, S4))

# Figure 6.
FIGURE6 = {0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8} | {n: 12 for n in range(8, 24)} | {n: 16 for n in range(24, 40)}
for pointer in [*range(44), 255, 256, 0x01000000, 0xffffffff]:
    to4(f'5.2-type-4-code-0-pointer-{pointer}', err6(4, 0, struct.pack('!I', pointer), Q6),
        err4(12, 0, bytes((FIGURE6[pointer], 0, 0, 0)), Q4, H4, S4) if pointer in FIGURE6 else 'icmp-pointer')
to4('5.2-type-4-code-1', err6(4, 1, struct.pack('!I', 6), Q6), err4(3, 2, Z4, Q4, H4, S4))
to4('5.2-type-4-code-1-pointer-40', err6(4, 1, struct.pack('!I', 40), Q6), err4(3, 2, Z4, Q4, H4, S4))
for code in 2, 3, 255:
    to4(f'5.2-type-4-code-{code}', err6(4, code, Z4, Q6), 'icmp-type')
for kind in 0, 5, 99, 100, 101, 127:
    to4(f'5.2-type-{kind}', err6(kind, 0, Z4, Q6), 'icmp-type')


def reports6(mtu):
    return err6(2, 0, struct.pack('!I', mtu), Q6)


def reports4(mtu):
    return err4(3, 4, struct.pack('!HH', 0, mtu), Q4, H4, S4)



F6, F4 = out6(frag6(UDP, 0, 1, 0xbeef, l4(UDP, udp(MANY[:80]), S6, H6)), FRAGMENT), \
    p4(l4(UDP, udp(MANY[:80]), S4, H4), ident=0xbeef, frag=MF)
for link, rows in {1500: {0: 68, 20: 68, 68: 68, 87: 68, 88: 68, 89: 69, 1000: 980, 1279: 1259, 1280: 1260, 1281: 1261,
                          1400: 1380, 1480: 1460, 1499: 1479, 1500: 1480, 1501: 1480, 9000: 1480, 65535: 1480,
                          65536: 1480, 0x7fffffff: 1480, 0xffffffff: 1480},
                   9000: {1500: 1480, 1520: 1500, 9000: 8980, 65535: 8980}, 1280: {1280: 1260, 1500: 1260},
                   65535: {65535: 65515, 0xffffffff: 65515}}.items():
    for mtu_, new in rows.items():
        to4(f'5.2-mtu-{mtu_}-link-{link}', reports6(mtu_), reports4(new), mtu=link)
        if link == 1500 and mtu_ >= 96:
            to4(f'5.2-mtu-{mtu_}-fragment', err6(2, 0, struct.pack('!I', mtu_), F6),
                err4(3, 4, struct.pack('!HH', 0, min(mtu_ - 28, 1480)), F4, H4, S4))
to4('5.2-mtu-atomic-fragment', err6(2, 0, struct.pack('!I', 1300), out6(frag6(UDP, 0, 0, 0xbeef, U6), FRAGMENT)),
    err4(3, 4, struct.pack('!HH', 0, 1272), p4(U46, ident=0xbeef), H4, S4))
to4('5.2-type-2-code-7', err6(2, 7, struct.pack('!I', 1300), Q6), reports4(1280))

# RFC 6791: the source.
to4('6791-router-without-mapping', err6(3, 0, Z4, Q6, src=R6), err4(11, 0, Z4, Q4, '192.0.0.8', S4))
to4('6791-icmp-src', err6(3, 0, Z4, Q6, src=R6), err4(11, 0, Z4, Q4, '192.0.2.77', S4),
    options=('--icmp-src', '192.0.2.77'))
to4('6791-router-with-mapping', err6(3, 0, Z4, p6(l4(UDP, udp(), S6, B6), src=S6, dst=B6)),
    err4(11, 0, Z4, p4(l4(UDP, udp(), S4, B4), dst=B4), H4, S4))
packet_ = p6(l4(ICMP6, echo(129), R6, S6), ICMP6, src=R6)
to4('6791-not-for-echo', packet_, 'not-allowed', unreachable6(packet_))
for kind, code, rest, kind4, code4, rest4 in (1, 0, Z4, 3, 1, Z4), (1, 4, Z4, 3, 3, Z4), (4, 1, Z4, 3, 2, Z4), \
        (2, 0, struct.pack('!I', 1300), 3, 4, struct.pack('!I', 1280)), (4, 0, struct.pack('!I', 7), 12, 0,
            b'\x08\0\0\0'):
    to4(f'6791-type-{kind}-code-{code}', err6(kind, code, rest, Q6, src=R6),
        err4(kind4, code4, rest4, Q4, '192.0.0.8', S4))
packet_ = p4(U46, dst='192.0.0.8')
to6('6791-to-the-icmp-source', packet_, 'no-mapping', unreachable4(packet_, 1))

to4('5.2-error-unused-bytes', err6(1, 0, b'\0\x66\x77\x88', Q6), err4(3, 1, Z4, Q4, H4, S4))
to4('5.2-error-wrong-checksum', flip(err6(3, 0, Z4, Q6)), flip(err4(11, 0, Z4, Q4, H4, S4)))
to4('5.3-error-tos-of-the-quote', err6(1, 0, Z4, out6(U6, tc=0xb8)), err4(3, 1, Z4, p4(U46, tos=0xb8), H4, S4))
to4('5.3-error-tos-set', err6(1, 0, Z4, out6(U6, tc=0xb8)),
    err4(3, 1, Z4, p4(U46, tos=0x28), H4, S4, tos=0x28), options=('--tos', '0x28'))
QUOTES64 = {f'{name_}': (out6(l4(pr6, s6, S6, H6), pr6, hlim=1), p4(l4(pr4, s4, S4, H4), pr4, ttl=1))
            for name_, (pr6, pr4, s6, s4) in SEGMENTS.items()}
QUOTES64 |= {f'{name_}': (out6(MANY[:60], number), p4(MANY[:60], number)) for name_, number in OTHERS.items()}
for name_, (six, four) in QUOTES64.items():
    for cut in (None, *CUTS.get(name_, ())):
        six_, four_ = (six, four[:548]) if cut is None else cut_quotes(name_, six, four, cut, six[40:])
        to4(f'5.3-quoted-{name_}-{"whole" if cut is None else cut}', err6(1, 0, Z4, six_),
            err4(3, 1, Z4, four_, H4, S4))
to4('5.3-quoted-udp-without-checksum', err6(1, 4, Z4, out6(udp())), err4(3, 3, Z4, p4(udp()), H4, S4))
to4('5.3-quoted-hop-limit-0', err6(3, 0, Z4, out6(U6, hlim=0)), err4(11, 0, Z4, p4(U46, ttl=0), H4, S4))
to4('5.3-quoted-flow-label', err6(3, 0, Z4, out6(U6, fl=0xabcde)), err4(11, 0, Z4, p4(U46), H4, S4))
for name_, kinds in EXTENSIONS.items():
    first_, headers = chain(*kinds)
    to4(f'5.3-quoted-extension-{name_}', err6(1, 0, Z4, out6(headers + U6, first_)), err4(3, 1, Z4, p4(U46), H4, S4))
    if len(kinds) < 8:
        first_, headers = chain(*kinds, last=FRAGMENT)
        to4(f'5.3-quoted-extension-{name_}-fragment',
            err6(1, 0, Z4, out6(headers + frag6(132, 800, 1, 0xbeef, MANY[:88]), first_)),
            err4(3, 1, Z4, p4(MANY[:88], 132, ident=0xbeef, frag=MF | 100), H4, S4))
for name_, offset, more in ('first', 0, 1), ('middle', 1200, 1), ('last', 2400, 0):
    body6, body4 = (l4(UDP, udp(MANY[:80]), S6, H6),
        l4(UDP, udp(MANY[:80]), S4, H4)) if not offset else (MANY[:88],) * 2
    to4(f'5.3-quoted-fragment-{name_}', err6(3, 1, Z4, out6(frag6(UDP, offset, more, 0x1234beef, body6), FRAGMENT)),
        err4(11, 1, Z4, p4(body4, ident=0xbeef, frag=more * MF | offset // 8), H4, S4))
to4('5.3-quoted-atomic', err6(3, 1, Z4, out6(frag6(UDP, 0, 0, 0x1234beef, U6), FRAGMENT)),
    err4(11, 1, Z4, p4(U46, ident=0xbeef), H4, S4))
for size_ in 1260, 1261, 1480:
    six, four = out6(l4(UDP, udp(MANY[:size_ - 28]), S6, H6)), p4(l4(UDP, udp(MANY[:size_ - 28]), S4, H4),
        frag=DF if size_ > 1260 else 0)
    to4(f'5.3-quoted-df-{size_}', err6(1, 0, Z4, six[:148]), err4(3, 1, Z4, four[:128], H4, S4))
for kind in 1, 2, 3, 4, 100, 127:
    to4(f'5.3-nested-{kind}', err6(1, 0, Z4, out6(bytes((kind, 0)) + bytes(6) + Q6, ICMP6)), 'icmp-nested')
for kind in 130, 133, 135, 137, 143, 200:
    to4(f'5.3-quoted-icmp-type-{kind}', err6(1, 0, Z4, out6(bytes((kind, 0)) + bytes(20), ICMP6)), 'icmp-quote')
to4('5.3-quoted-icmp-cut-short', err6(1, 0, Z4, out6(echo(128), ICMP6)[:47]), 'icmp-quote')
for number in ICMP4, 2:
    to4(f'5.3-quoted-protocol-{number}', err6(4, 1, Z4, out6(MANY[:20], number)), 'icmp-quote')
to4('5.3-quote-empty', err6(1, 0, Z4, b''), 'icmp-quote')
to4('5.3-quote-39-bytes', err6(1, 0, Z4, Q6[:39]), 'icmp-quote')
to4('5.3-quote-version-4', err6(1, 0, Z4, Q4.ljust(60, b'\0')), 'icmp-quote')
to4('5.3-quote-routing-left', err6(1, 0, Z4, out6(routing(UDP, 1) + U6, ROUTING)), 'icmp-quote')
to4('5.3-quote-extension-cut', err6(1, 0, Z4, out6(options6(UDP) + U6, DSTOPTS)[:44]), 'icmp-quote')
to4('5.3-quote-extensions-9', err6(1, 0, Z4, out6(chain(*[DSTOPTS] * 9)[1] + U6, DSTOPTS)), 'icmp-quote')
to4('5.3-quote-too-long-for-ipv4', err6(1, 0, Z4, out6(U6, plen=65516)), 'icmp-quote')
four = p4(U46, frag=DF, total=65535)
to4('5.3-quote-longest', err6(1, 0, Z4, out6(U6, plen=65515)), err4(3, 1, Z4, four, H4, S4))
to4('5.3-foreign-no-mapping', err6(1, 0, Z4, p6(U6, src=S6, dst='fc00:66::77')), 'icmp-foreign')
to4('5.3-foreign-not-to-its-sender', err6(1, 0, Z4, p6(U6, src=T6, dst=H6)), 'icmp-foreign')
to4('5.3-foreign-outside-the-prefix', err6(1, 0, Z4, p6(U6, src='2001:db8::1', dst=H6)), 'icmp-foreign')
to4('5.3-wrong-outer-checksum-of-the-quote', err6(1, 0, Z4, out6(flip(U6))), err4(3, 1, Z4, p4(flip(U46)), H4, S4))

# ICMPv4 errors stay within 576 bytes.
long6, long4 = out6(l4(UDP, udp(MANY[:1100]), S6, H6)), p4(l4(UDP, udp(MANY[:1100]), S4, H4))
for size_ in 567, 568, 569, 1148:
    to4(f'5.2-truncated-at-576-quote-{size_}', err6(1, 0, Z4, long6[:size_]),
        err4(3, 1, Z4, long4[:min(size_ - 20, 548)], H4, S4))
for kind, code, new, newcode in (1, 0, 3, 1), (1, 4, 3, 3), (1, 1, 3, 10), (3, 0, 11, 0):
    to4(f'4884-64-type-{kind}-code-{code}', err6(kind, code, b'\x10\0\0\0', long6[:128] + EXTENSION),
        err4(new, newcode, b'\0\x20\0\0', long4[:108] + bytes(20) + EXTENSION, H4, S4))
for size_ in 128, 136, 144, 152, 160, 552:
    quote_ = long4[:size_ - 20]
    quote_ += bytes(max(-len(quote_) % 4, 128 - len(quote_)))
    to4(f'4884-64-length-{size_}', err6(1, 0, bytes((size_ // 8, 0, 0, 0)), long6[:size_] + EXTENSION),
        err4(3, 1, bytes((0, len(quote_) // 4, 0, 0)), quote_ + EXTENSION, H4, S4))
to4('4884-64-padded-quote', err6(1, 0, b'\x10\0\0\0', Q6.ljust(128, b'\0') + EXTENSION),
    err4(3, 1, b'\0\x20\0\0', Q4.ljust(128, b'\0') + EXTENSION, H4, S4))
to4('4884-64-length-too-small', err6(1, 0, b'\x0f\0\0\0', long6[:128] + EXTENSION),
    err4(3, 1, Z4, long4[:108] + EXTENSION, H4, S4))
to4('4884-64-length-of-all', err6(1, 0, b'\x10\0\0\0', long6[:128]), err4(3, 1, Z4, long4[:108], H4, S4))
to4('4884-64-length-beyond', err6(1, 0, b'\xff\0\0\0', long6[:128]), err4(3, 1, Z4, long4[:108], H4, S4))
to4('4884-64-opaque', err6(1, 0, b'\x10\0\0\0', long6[:128] + b'any'),
    err4(3, 1, b'\0\x20\0\0', long4[:108] + bytes(20) + b'any', H4, S4))
for size_, ext_, most in (1000, 12, 536), (1088, 100, 448), (520, 100, 448), (560, 9, 536), (560, 8, 540), (568, 1, 544), \
        (160, 419, 128), (1000, 420, 128):              # the quote makes room, of 548 bytes
    to4(f'4884-64-quote-truncated-{size_}-{ext_}', err6(3, 0, bytes((size_ // 8, 0, 0, 0)), long6[:size_] + MANY[:ext_]),
        err4(11, 0, bytes((0, most // 4, 0, 0)), long4[:most] + MANY[:ext_], H4, S4))
to4('4884-64-mpls-of-a-full-error', err6(3, 0, b'\x8a\0\0\0', long6[:1104] + EXTENSION + MANY[:116]),
    err4(11, 0, b'\0\x69\0\0', long4[:420] + EXTENSION + MANY[:116], H4, S4))
for size_, ext_ in (152, 421), (1000, 422), (128, 1000):
    to4(f'4884-64-extension-truncated-{size_}-{ext_}',
        err6(1, 0, bytes((size_ // 8, 0, 0, 0)), long6[:size_] + MANY[:ext_]),
        err4(3, 1, b'\0\x20\0\0', long4[:min(size_ - 20, 128)].ljust(128, b'\0') + MANY[:420], H4, S4))
to4('4884-64-too-big-has-none', err6(2, 0, struct.pack('!I', 1300), long6[:128] + EXTENSION),
    err4(3, 4, struct.pack('!I', 1280), long4[:108] + EXTENSION, H4, S4))
first_, headers = chain(ROUTING, DSTOPTS, DSTOPTS)
to4('4884-64-quoted-extension-headers',
    err6(1, 0, b'\x13\0\0\0', (out6(headers + U6, first_)).ljust(152, b'\0') + EXTENSION),
    err4(3, 1, b'\0\x20\0\0', Q4[:8] + b'\x40' + p4(U46)[9:] + bytes(128 - len(Q4)) + EXTENSION, H4, S4))

for kind in 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 143, 151, 200, 255:
    to4(f'5.2-query-{kind}', p6(l4(ICMP6, echo(kind, bytes(24)), H6, S6), ICMP6, hlim=255), 'icmp-type')
packet_ = p6(l4(ICMP4, echo(8), H4, S4), ICMP4)
to4('5.2-icmpv4-in-ipv6', packet_, 'protocol', unreachable6(packet_, 4))
packet_ = p6(bytes.fromhex('1100eeff00000000'), 2)
to4('5.2-igmp', packet_, 'protocol', unreachable6(packet_, 4))
for kinds in [HOPOPT], [DSTOPTS] * 3:
    first_, headers = chain(*kinds, last=ICMP6)
    to4(f'5.2-mld-behind-{len(kinds)}', p6(headers + l4(ICMP6, echo(131, bytes(16)), H6, S6), first_, hlim=1),
        'icmp-type')

# --- hairpinning: RFC 7757 section 4 ---

to4('7757-hairpin-out', p6(l4(UDP, udp(), H6, embed(B4)), dst=embed(B4)), p4(l4(UDP, udp(), H4, B4), src=H4, dst=B4))
to6('7757-hairpin-in', p4(l4(UDP, udp(), H4, B4), src=H4, dst=B4),
    p6(l4(UDP, udp(), embed(H4), B6), src=embed(H4), dst=B6))
hair6 = p6(l4(UDP, udp(), embed(H4), B6), src=embed(H4), dst=B6)        # what B6 got and complains of
hair4 = p4(l4(UDP, udp(), H4, B4), src=H4, dst=B4)
to4('7757-hairpin-error-out', err6(1, 4, Z4, hair6, B6, embed(H4)), err4(3, 3, Z4, hair4, B4, H4))
to6('7757-hairpin-error-in', err4(3, 3, Z4, hair4, B4, H4),
    err6(1, 4, Z4, p6(l4(UDP, udp(), H6, embed(B4)), dst=embed(B4)), embed(B4), H6))
to4('7757-hairpin-to-self', p6(l4(UDP, udp(), H6, embed(H4)), dst=embed(H4)),
    p4(l4(UDP, udp(), H4, H4), src=H4, dst=H4))

# --- RFC 6052 ---

PREFIXES = {'2001:db8::/32': '2001:db8:c633:6402::', '2001:db8:100::/40': '2001:db8:1c6:3364:2::',
            '2001:db8:122::/48': '2001:db8:122:c633:64:200::', '2001:db8:122:300::/56': '2001:db8:122:3c6:33:6402::',
            '2001:db8:122:344::/64': '2001:db8:122:344:c6:3364:200:0',
            '2001:db8:122:344::/96': '2001:db8:122:344::c633:6402', '64:ff9b:1:fffe::/96': '64:ff9b:1:fffe::c633:6402'}
for prefix, s6_ in PREFIXES.items():
    kw_ = {'options': ('-6', prefix)}
    size_ = prefix.split('/')[1] + ('-local' if prefix.startswith('64:') else '')
    to4(f'6052-{size_}-udp-64', p6(l4(UDP, udp(), H6, s6_), dst=s6_), out4(U4), **kw_)
    to6(f'6052-{size_}-udp-46', p4(U46), p6(l4(UDP, udp(), s6_, H6), src=s6_, dst=H6), **kw_)
    to6(f'6052-{size_}-without-checksum', p4(udp()), p6(l4(UDP, udp(), s6_, H6), src=s6_, dst=H6), **kw_)
    to4(f'6052-{size_}-echo-64', p6(l4(ICMP6, echo(128), H6, s6_), ICMP6, dst=s6_),
        out4(l4(ICMP4, echo(8), H4, S4), ICMP4), **kw_)
    to6(f'6052-{size_}-echo-46', p4(l4(ICMP4, echo(0), S4, H4), ICMP4),
        p6(l4(ICMP6, echo(129), s6_, H6), ICMP6, s6_, H6), **kw_)
    to4(f'6052-{size_}-error-64', err6(1, 4, Z4, p6(l4(UDP, udp(), s6_, H6), src=s6_, dst=H6, hlim=7), dst=s6_),
        err4(3, 3, Z4, Q4, H4, S4), **kw_)
    to6(f'6052-{size_}-error-46', err4(11, 0, Z4, W4, src=T4),
        err6(3, 0, Z4, p6(l4(UDP, udp(), H6, s6_), dst=s6_, hlim=7), embed(T4, prefix), H6), **kw_)
    to4(f'6052-{size_}-source-in-prefix', p6(l4(UDP, udp(), s6_, s6_), src=s6_, dst=s6_), 'src-illegal', **kw_)
    packet_ = p6(U64, dst=embed('127.0.0.1', prefix))
    to4(f'6052-{size_}-illegal-destination', packet_, 'dst-illegal', unreachable6(packet_), **kw_)
    packet_ = p6(l4(UDP, udp(), '2620::9', s6_), src='2620::9', dst=s6_)
    to4(f'6052-{size_}-not-allowed', packet_, 'not-allowed', unreachable6(packet_), **kw_)
    if not size_.startswith('96'):
        dirty = bytearray(packed(s6_))
        dirty[8], dirty[15] = 0x5a, 0xa5                # u octet and suffix: the translator MUST, SHOULD ignore them
        dirty = str(ipaddress.IPv6Address(bytes(dirty)))
        to4(f'6052-{size_}-u-octet-and-suffix', p6(l4(UDP, udp(), H6, dirty), dst=dirty), out4(U4), **kw_)

STRICT = ('--wkp-strict',)
NON_GLOBAL = ['10.0.0.1', '10.255.255.255', '100.64.0.1', '100.127.255.255', '172.16.0.1', '172.31.255.255',
    '192.0.0.1',
              '192.0.2.1', '192.88.99.1', '192.168.0.1', '192.168.255.255', '198.18.0.1', '198.19.255.255',
              '198.51.100.2', '203.0.113.7', '240.0.0.1', '255.255.255.254']
GLOBAL = ['9.255.255.255', '11.0.0.1', '100.63.255.255', '100.128.0.1', '172.15.255.255', '172.32.0.1', '192.0.1.1',
          '192.0.3.1', '192.88.98.1', '192.167.255.255', '192.169.0.1', '198.17.255.255', '198.20.0.1', '198.51.99.1',
          '198.51.101.1', '203.0.112.1', '203.0.114.1', '8.8.8.8']
for far in NON_GLOBAL + GLOBAL:
    e_ = embed(far)
    bad_ = far in NON_GLOBAL
    six, four = p6(l4(UDP, udp(), H6, e_), dst=e_), p4(l4(UDP, udp(), far, H4), src=far)
    to4(f'6052-3.1-strict-64-{far}', six,
        *['non-global', unreachable6(six)] if bad_ else [out4(l4(UDP, udp(), H4, far), dst=far)], options=STRICT)
    to6(f'6052-3.1-strict-46-{far}', four,
        *['non-global', unreachable4(four)] if bad_ else [out6(l4(UDP, udp(), e_, H6), src=e_)], options=STRICT)
to6('6052-3.1-strict-error', err4(11, 0, Z4, p4(l4(UDP, udp(), H4, '8.8.8.8'), src=H4, dst='8.8.8.8'), src='10.9.9.9'),
    'non-global',
    options=STRICT)
to6('6052-3.1-strict-quoted', err4(11, 0, Z4, W4, src='8.8.8.8'), 'non-global', options=STRICT)
to4('6052-3.1-strict-hairpin', p6(l4(UDP, udp(), H6, embed(B4)), dst=embed(B4)),
    p4(l4(UDP, udp(), H4, B4), src=H4, dst=B4), options=STRICT)
to4('6052-3.1-own-prefix', p6(l4(UDP, udp(), H6, '2001:db8:122:344::c633:6402'), dst='2001:db8:122:344::c633:6402'),
    out4(U4),
    options=(*STRICT, '-6', '2001:db8:122:344::/96'))

# --- 4.6, 5.6: what is not ours ---

for dst in '10.0.0.255', '10.0.2.0', '192.0.2.1', '255.255.255.255', '224.0.0.1':
    to6(f'4.6-to-{dst}', p4(U46, dst=dst))
for dst in '10.0.1.0', '10.0.1.255', '10.0.1.200':
    packet_ = p4(U46, dst=dst)
    to6(f'4.6-no-host-{dst}', packet_, 'no-mapping', unreachable4(packet_, 1))

# --- 4.4, 5.4: who is answered, and who is not ---

N4 = '10.0.1.200'                                       # of the pool, nobody's
for name_, packet_ in {
        'tcp': p4(l4(TCP, tcp(), S4, N4), TCP, dst=N4), 'echo': p4(l4(ICMP4, echo(8), S4, N4), ICMP4, dst=N4),
        'long': p4(MANY[:1400], 132, dst=N4), 'df': p4(U46, dst=N4, frag=DF), 'options': p4(U46, dst=N4, options=RR),
        'first-fragment': p4(D1400[:1200], dst=N4, ident=9, frag=MF), 'timestamp': p4(echo(13, bytes(12)), ICMP4, dst=N4),
        'without-checksum': p4(udp(), dst=N4), 'empty': p4(b'', 132, dst=N4)}.items():
    to6(f'4.4-no-host-{name_}', packet_, 'no-mapping', unreachable4(packet_, 1))
packet_ = p4(U46, dst=N4)
to6('4.4-no-host-link-padding', packet_ + b'padding', 'no-mapping', unreachable4(packet_, 1))
to6('4.4-no-answer-to-later-fragment', p4(D1400[1200:2000], dst=N4, frag=MF | 150), 'no-mapping')
for kind in 3, 4, 5, 11, 12:
    to6(f'4.4-no-answer-to-icmp-{kind}', err4(kind, 0, Z4, p4(U4, src=N4, dst=S4), dst=N4), 'no-mapping')
for name_, packet_ in {
        'tcp': p6(l4(TCP, tcp(), R6, S6), TCP, src=R6), 'echo': p6(l4(ICMP6, echo(128), R6, S6), ICMP6, src=R6),
        'long': p6(MANY[:1400], 132, src=R6), 'extension': p6(options6(UDP) + U64, HOPOPT, src=R6),
        'first-fragment': p6(frag6(UDP, 0, 1, 9, V3000[:1200]), FRAGMENT, src=R6), 'empty': p6(b'', 59, src=R6),
        'flow-label': p6(U64, src=R6, fl=0xabcde, tc=0xb8)}.items():
    to4(f'5.4-not-allowed-{name_}', packet_, 'not-allowed', unreachable6(packet_))
packet_ = p6(U64, src=R6)
to4('5.4-not-allowed-link-padding', packet_ + b'padding', 'not-allowed', unreachable6(packet_))
to4('5.4-no-answer-to-later-fragment', p6(frag6(UDP, 1200, 1, 9, V3000[1200:2000]), FRAGMENT, src=R6), 'not-allowed')
packet_ = p6(U64, src='fc00:99::1', dst=embed('127.0.0.1'))
to4('5.4-no-mapping-for-the-answered', packet_, 'dst-illegal', unreachable6(packet_))
to4('5.4-no-answer-to-stray-error', err6(1, 4, Z4, p6(U6, src=S6, dst='fc00:66::77'), R6), 'icmp-foreign')
to4('5.4-icmp-rate-0', p6(U64, src=R6), 'not-allowed', options=('--icmp-rate', '0'), ask=False)
to6('4.4-icmp-rate-0', p4(U46, dst=N4), 'no-mapping', options=('--icmp-rate', '0'), ask=False)
for dst in 'fc00:6::1', '64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff', '64:ff9b::1:0:0', '64:ff9b:1::c633:6402', 'ff02::1':
    to4(f'5.6-to-{dst}', p6(U64, dst=dst))
to4('5.6-version-4', b'\x40' + p6(U64)[1:])
to6('4.6-version-6', b'\x65' + p4(U46)[1:])


# --- running them ---

class Bench:
    """The translator on a gateway, at its interface, on a device of its own, or with the interface as a port of such a device,
    loaded again when a case asks for other options."""

    def __init__(self, h6, gw, form='interface'):
        self.gw, self.h6, self.t, self.now, self.mtu = gw, h6, None, None, 65535
        self.device = form == 'device'      # all goes by the stack
        self.port = form == 'port'
        self.ifname = 'nat64' if self.device else 'eth0'
        self.where = {'interface': ['-i', 'eth0'], 'device': ['--device', 'nat64'], 'port': ['--device', 'nat64', '-i', 'eth0']}[form]
        for host in h6, gw:                 # the largest MTU of the cases; ours is set when a case asks for it
            host.ip('link', 'set', 'eth0', 'mtu', 65535)
        gw.ip('neigh', 'replace', 'fc00:6::6', 'lladdr', h6.mac('eth0'), 'dev', 'eth0')
        if '--device' in self.where:
            gw.run(NAT64, *self.where, '-4', '10.0.1.0/24', '-a', 'fc00::/8')
        self.wire = Wire(h6)
        self.cfg = None
        self.use((), 1500)
        for v6, v4 in (H6, H4), (B6, B4):
            self.t.run64(p6(l4(UDP, udp(), v6, S6), src=v6))
            assert self.t.mappings()[v6].v4 == v4

    def close_translator(self):
        if self.t:
            self.t.close()
        self.t = self.now = None

    def close(self):
        self.close_translator()
        self.gw.run(NAT64, '-i', self.ifname, '-u')
        self.wire.close()

    def use(self, options, mtu):
        """Load with these options, unless they are in place."""
        if self.now == (options, mtu):
            return
        self.close_translator()
        if self.mtu != mtu:
            for ifname in {self.ifname, *self.where[1::2]}:
                self.gw.ip('link', 'set', ifname, 'mtu', mtu)
        # Without Host.load()'s look at all the rest of the machine, which takes longer than a hundred cases.
        self.gw.run(NAT64, *self.where, '-4', '10.0.1.0/24', '-a', 'fc00::/8', *options,
                    *[] if '--icmp-rate' in options else ['--icmp-rate', '1000000'])
        self.t = bpf.Translator(self.gw, self.ifname, 'nat64' if '--device' in self.where else None)
        self.gw.lab.seen(self.t)
        self.configure(options, mtu)

    def configure(self, options, mtu):
        """What the oracle is to know of them."""
        self.now, self.mtu = (options, mtu), mtu
        self.cfg = oracle.Config(v4_prefix=ipaddress.IPv4Network('10.0.1.0/24'), mtu=mtu,
                                 allowed=[ipaddress.IPv6Network('fc00::/8')], allocate=lambda v6: None,
                                 mappings={ipaddress.IPv6Address(v6): ipaddress.IPv4Address(v4)
                                           for v6, v4 in ((H6, H4), (B6, B4))})
        pairs = dict(zip(options, options[1:] + ('',)))
        for option, value in pairs.items():
            if option == '-6':
                self.cfg.v6_prefix = ipaddress.IPv6Network(value)
            elif option == '--icmp-src':
                self.cfg.icmp_src = ipaddress.IPv4Address(value)
            elif option == '--wkp-strict':
                self.cfg.wkp_strict = True
            elif option.startswith('--'):
                setattr(self.cfg, option[2:].replace('-', '_'), int(value, 0))

    def run(self, way, packet, **kw):
        """(verdict of the program, packet afterwards, reasons counted, number of packets counted)."""
        before = self.t.stats()
        verdict, out = (self.t.run64 if way == '6to4' else self.t.run46)(packet, **kw)
        after, n = self.t.stats(), 0 if way == '6to4' else 1
        reasons = [r for w in (0, 1) for r,
            c in after['drops'][w].items() for _ in range(c - before['drops'][w].get(r, 0))]
        assert after['packets'][1 - n] == before['packets'][1 - n]
        return verdict, out, reasons, after['packets'][n] - before['packets'][n]


@pytest.fixture(scope='module', params=os.environ.get('NAT64_TEST_FORMS', 'interface device port').split())
def bench(module_net, request):
    b = Bench(*module_net[:2], request.param)
    yield b
    b.close()


def one_hop_less(packet):
    """What the stack, which has next what the device's program lets go, makes of an IPv6 packet; but for 255, which no packet
    has that was forwarded to the device, and which cannot become more on its way there."""
    return packet[:7] + bytes((packet[7] - (packet[7] < 255),)) + packet[8:]


# What the stack answers that gets the packet next, by the MTU of the interface that it is to leave by.
BY_THE_STACK = {'4.1-df-1501-too-big'}


def fitted(got, want):
    """`got` without link padding, and with the identifications of `want` where these are 0, which stands for any. The
    header checksum of `got` must be right."""
    if got[0] >> 4 == 6:
        return got[:40 + struct.unpack_from('!H', got, 4)[0]]
    got = got[:struct.unpack_from('!H', got, 2)[0]]
    if want[:1] == b'\x45' and want[4:6] == b'\0\0':
        got = _any_ident(got)
    if len(want) >= 48 and want[9] == ICMP4 and want[20] in (3, 11, 12) and want[28] == 0x45 and want[32:34] == b'\0\0':
        got = got[:28] + _any_ident(got[28:])
    return got


def _any_ident(packet):
    assert packet[0] == 0x45 and checksum(packet[:20]) == 0, 'wrong IPv4 header checksum: ' + packet.hex()
    header = packet[:4] + b'\0\0' + packet[6:10] + b'\0\0' + packet[12:20]
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + packet[20:]


def check(bench, name, **kw):
    c = CASES[name]
    want = [w for w in c.want if isinstance(w, bytes)]
    reason = [w for w in c.want if isinstance(w, str)]
    while bench.wire.read(0):
        pass
    verdict, out, reasons, count = bench.run(c.way, c.packet, **kw)
    assert reasons == reason
    if not c.want:
        assert (verdict, out, count) == (TC_ACT_UNSPEC, c.packet, 0)
    elif reason:
        assert (verdict, count) == (TC_ACT_REDIRECT if want else TC_ACT_SHOT, 0)
        if want:
            assert [fitted(out, want[0]).hex()] == [want[0].hex()]
    else:
        # 4→6: redirected by way of the kernel's neighbour, or sent with its MAC address in place.
        assert count == 1
        assert verdict == TC_ACT_OK or c.way == '4to6' and verdict == TC_ACT_REDIRECT
        if bench.device and c.way == '4to6':
            assert verdict == TC_ACT_REDIRECT
            out = one_hop_less(out)
        first = [bench.wire.read(patience(5)) for _ in want[1:]]          # pieces leave before the last, which the packet becomes
        assert None not in first, 'a piece is missing'
        assert [fitted(g, w).hex() for g, w in zip([*first, out], want)] == [w.hex() for w in want]
    assert bench.wire.read(0) is None, 'more came out'
    return reason, want


@pytest.mark.parametrize('name', sorted(CASES, key=lambda n: (CASES[n].mtu, CASES[n].options)))
def test_case(bench, name):
    c = CASES[name]
    if bench.device and name in BY_THE_STACK or bench.port and c.way == '6to4':      # the same program as at an interface
        return
    bench.use(c.options, c.mtu)
    reason, want = check(bench, name)
    if not c.oracle:
        return
    says = (oracle.xlat64 if c.way == '6to4' else oracle.xlat46)(bench.cfg, c.packet)
    if not c.want:
        assert says.verdict == 'pass'
    elif reason:
        assert (says.verdict, says.reason) == ('error' if want else 'drop', reason[0])
    else:
        assert says.verdict == 'translated' and says.matches(want), [p.hex() for p in says.packets]


# Cases in which the end of a packet is cut off or added to. bpf_skb_change_tail makes the packet CHECKSUM_NONE, which
# is right; but test_run compares skb->csum all the same. The same is true of all answers.
NEW_TAIL = ('4.1-cut-*', '4884-*', '*-truncated-*', '5.3-quoted-udp-1000-whole')
COMPLETE = 4        # BPF_F_TEST_SKB_CHECKSUM_COMPLETE: the kernel compares skb->csum with the bytes afterwards


def test_checksum_complete(bench):
    """All cases again as packets whose sum a network card has computed: what the program changes must reach that sum,
    or the stack behind would complain of a broken card."""
    bench.use((), 1500)
    try:
        bench.t.run64(p6(U64), flags=COMPLETE)
    except OSError as e:
        assert e.errno == errno.EINVAL
        pytest.skip('CHECKSUM_COMPLETE: BPF_PROG_TEST_RUN of this kernel cannot do it (6.16 can)')
    wrong = {}
    for name, c in CASES.items():
        is_answer = c.want and isinstance(c.want[0], str) and len(c.want) == 2
        if (c.options, c.mtu) == ((), 1500) and c.want and not is_answer and not any(fnmatch.fnmatch(name, n) for n in NEW_TAIL):
            try:
                check(bench, name, flags=COMPLETE)
            except OSError as e:
                wrong[name] = str(e)
    assert not wrong, '\n'.join(f'{name}: {error}' for name, error in wrong.items())


@pytest.mark.parametrize('proto, header, size, df', [
    (TCP, 20, 1220, 0), (TCP, 20, 1221, 1), (TCP, 20, 1440, 1), (TCP, 32, 1208, 0), (TCP, 32, 1209, 1),
    (UDP, 8, 1232, 0), (UDP, 8, 1233, 1)])
def test_df_of_segments(bench, proto, header, size, df):
    """5.1: what counts is the length of the packets that a GSO packet becomes, not its own."""
    bench.use((), 1500)
    error = bpf.change_proto(bpf.Translator.ETH6 + p6(U64), 0x0800, gso_size=size, gso_segs=3)
    if error:
        pytest.skip(f'Linux {os.uname().release} changes the protocol of no super-packet whose kind is unknown, and '
                    f'BPF_PROG_TEST_RUN cannot say which it is (error {error}); test_offloads.py sends real ones')
    segment = udp(MANY[:3000]) if proto == UDP else tcp(b'')[:12] + bytes((header * 4,)) + tcp(b'')[13:] + \
        bytes(header - 20) + MANY[:3000]
    verdict, out, reasons, _ = bench.run('6to4', p6(l4(proto, segment, H6, S6), proto), gso_size=size, gso_segs=3)
    want = out4(l4(proto, segment, H4, S4), proto, frag=df * DF)
    assert (verdict, reasons, fitted(out, want).hex()) == (TC_ACT_OK, [], want.hex())


def test_every_other_type_is_dropped(bench):
    """4.2, 5.2: unknown types, silently."""
    bench.use((), 1500)
    known6, known4 = {1, 2, 3, 4, 128, 129}, {0, 3, 8, 11, 12}
    for kind in range(256):
        if kind not in known6:
            assert bench.run('6to4', err6(kind, 0, Z4, Q6))[::2] == (TC_ACT_SHOT, ['icmp-type']), kind
        if kind not in known4:
            assert bench.run('4to6', err4(kind, 0, Z4, W4))[::2] == (TC_ACT_SHOT, ['icmp-type']), kind


# --- what stands before the IP header, and where it lies ---

@pytest.mark.parametrize('tags', ['8100 0005', '88a8 0007 8100 0005', '8100 e007 8100 2fff', '8100 0000 8100 0005'])
@pytest.mark.parametrize('way', ['6to4', '4to6'])
def test_vlan_tag_in_band(bench, tags, way):
    """A tagged packet is its VLAN's: it passes as it is, and is not counted."""
    bench.use((), 1500)
    prog, packet, proto = {'6to4': (bench.t.to4, p6(U64), b'\x86\xdd'), '4to6': (bench.t.to6, p4(U46), b'\x08\x00')}[way]
    frame = bench.t.ETH6[:12] + bytes.fromhex(tags) + proto + packet
    before = bench.t.stats()
    with bench.gw:
        assert prog.run(frame, bench.t.ifindex) == (TC_ACT_UNSPEC, frame)
    assert bench.t.stats() == before


class Tap:
    """A tap device of a host, up, whose packets lie in the kernel as we like: IFF_NAPI_FRAGS puts all but the first
    element of a writev() outside the linear part."""

    IFF_TAP, IFF_NAPI, IFF_NAPI_FRAGS, IFF_NO_PI, TUNSETIFF = 2, 0x10, 0x20, 0x1000, 0x400454ca

    def __init__(self, host, name):
        with host:
            self.fd = os.open('/dev/net/tun', os.O_RDWR)
            flags = self.IFF_TAP | self.IFF_NAPI | self.IFF_NAPI_FRAGS | self.IFF_NO_PI
            fcntl.ioctl(self.fd, self.TUNSETIFF, struct.pack('16sH22x', name.encode(), flags))
        host.run('ethtool', '-K', name, 'gro', 'off')           # which would pull the headers
        host.ip('link', 'set', name, 'up')
        self.mac = bytes.fromhex(host.mac(name).replace(':', ''))

    def close(self):
        os.close(self.fd)

    def send(self, eth_proto, packet, *sizes):
        """A packet in fragments of these sizes, and the rest; its Ethernet header is the linear part."""
        parts, at = [], 0
        for n in (*sizes, len(packet)):
            parts.append(packet[at:at + n])
            at += n
        os.writev(self.fd, [self.mac + bytes.fromhex('020000000064') + eth_proto, *filter(None, parts)])

    def read(self, eth_proto, timeout=5):
        """The next packet of that protocol that is not the kernel's own talk, or None."""
        end = time.monotonic() + patience(timeout)
        while select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
            frame = os.read(self.fd, 1 << 17)
            if frame[12:14] == eth_proto and frame[14:].endswith(b'hello'):
                return frame[14:]
        return None


IN_PARTS = {
    'udp': (p6(U64), out4(U4), p4(U46), out6(U6)),
    'without-checksum': (p6(udp()), out4(udp()), p4(udp()), out6(l4(UDP, udp(), S6, H6))),
    'tcp': (p6(l4(TCP, tcp(), H6, S6), TCP), out4(l4(TCP, tcp(), H4, S4), TCP),
            p4(l4(TCP, tcp(), S4, H4), TCP), out6(l4(TCP, tcp(), S6, H6), TCP)),
    'echo': (p6(l4(ICMP6, echo(128), H6, S6), ICMP6), out4(l4(ICMP4, echo(8), H4, S4), ICMP4),
             p4(l4(ICMP4, echo(8), S4, H4), ICMP4), out6(l4(ICMP6, echo(128), S6, H6), ICMP6)),
    'error': (err6(1, 4, Z4, Q6), err4(3, 3, Z4, Q4, H4, S4), err4(3, 3, Z4, W4), err6(1, 4, Z4, W6, S6, H6)),
    'extensions': (p6(chain(HOPOPT, DSTOPTS, ROUTING)[1] + U64, HOPOPT), out4(U4), p4(U46, options=RR), out6(U6)),
    'fragment': (p6(frag6(UDP, 800, 0, 5, MANY[:91] + b'hello'), FRAGMENT),
        out4(MANY[:91] + b'hello', ident=5, frag=100),
                 p4(MANY[:91] + b'hello', ident=5, frag=100), out6(frag6(UDP, 800, 0, 5, MANY[:91] + b'hello'),
                     FRAGMENT)),
}


def older(packet):
    """The same packet one hop later."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes((packet[7] - 1,)) + packet[8:]
    header = packet[:8] + bytes((packet[8] - 1,)) + packet[9:10] + b'\0\0' + packet[12:20]
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + packet[20:]


def test_headers_outside_the_linear_part(lab):
    """Both ways through the stack of a gateway with packets that have nothing but the Ethernet header in one piece."""
    gw = lab.host('gw')
    gw.forwards()
    tap6, tap4 = Tap(gw, 'eth0'), Tap(gw, 'eth1')
    gw.addr('eth0', 'fc00:6::1/64')
    gw.addr('eth1', '192.0.2.1/24')
    for ifname, via, net in ('eth0', 'fc00:6::6', 'fc00:66::/64'), ('eth1', '192.0.2.2', '198.51.100.0/24'):
        gw.ip('neigh', 'add', via, 'lladdr', '02:00:00:00:00:64', 'dev', ifname)
        gw.ip('route', 'add', net, 'via', via)
    gw.load()
    for name, (six, four, back4, back6) in IN_PARTS.items():
        for sizes in (), (8,), (40,), (33, 9), (41, 3, 5), (48, 4, 4):
            tap6.send(b'\x86\xdd', six, *sizes)
            want = older(four)
            got = tap4.read(b'\x08\x00')
            assert got and fitted(got, want).hex() == want.hex(), (name, sizes)
        for sizes in (), (8,), (20,), (13, 9), (21, 3, 5), (28, 4, 4):
            tap4.send(b'\x08\x00', back4, *sizes)
            got = tap6.read(b'\x86\xdd')
            assert got and got.hex() == older(back6).hex(), (name, sizes)
    gw.unload()
    tap6.close()
    tap4.close()


# --- docs/rfc.org ---

def test_document_names_what_there_is():
    """Every test, function and file that docs/rfc.org names exists; every case is named there."""
    with open(os.path.join(ROOT, 'docs/rfc.org'), encoding='utf-8') as f:
        text = f.read()
    code = ''
    for name in [*glob.glob(os.path.join(ROOT, 'headers/*.h')), os.path.join(ROOT, 'nat64.bpf.c'),
        os.path.join(ROOT, 'nat64.h')]:
        with open(name, encoding='utf-8') as f:
            code += f.read()
    for name in re.findall(r'=(\w+)\(\)=', text):
        assert re.search(rf'\b{name}\(', code), f'no function {name}'
    for name in re.findall(r'=((?:headers|user|tests|docs)/[\w./]+)=', text):
        assert os.path.exists(os.path.join(ROOT, name)), f'no file {name}'
    named = set()
    for file, test in re.findall(r'\b(test_\w+)\.py::(\w+)', text):
        assert hasattr(importlib.import_module(file), test), f'no test {file}.py::{test}'
    for pattern in re.findall(r'~([^~\s]+)~', text):
        found = fnmatch.filter(CASES, pattern)
        assert found, f'no case {pattern}'
        named.update(found)
    assert sorted(set(CASES) - named) == [], 'cases that docs/rfc.org does not name'
