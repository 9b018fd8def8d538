# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets made by hand, through the gateway: header fields of RFC 7915 sections 4.1 and 5.1, checksums, addresses of RFC
6052. Expected bytes are scapy's or spelled out."""

import struct

import pytest
from scapy.all import (ICMP, IP, TCP, UDP, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6MLReport, ICMPv6ND_NS,
                       ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6ParamProblem, ICMPv6Unknown, IPOption_LSRR, IPOption_NOP,
                       IPOption_SSRR, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Raw, raw)

from bpf import TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, Translator
from lab import Crossing, embed, standard

V6, V4 = Crossing.V6, Crossing.V4
DATA = bytes(range(256)) * 6


def without_id(packet):
    """An IPv4 packet with its identification (the translator's choice) set to 0 and its header checksum made to fit."""
    p = IP(packet)
    p.id, p.chksum = 0, None
    return raw(p)


# What follows the IP header, on the IPv6 side and on the IPv4 side. One table for both directions.
PAYLOADS = {
    'udp': (UDP(sport=1234, dport=53) / b'hello', UDP(sport=1234, dport=53) / b'hello'),
    'udp-empty': (UDP(sport=1, dport=65535), UDP(sport=1, dport=65535)),
    'udp-odd': (UDP(sport=5, dport=6) / b'abc', UDP(sport=5, dport=6) / b'abc'),
    'udp-long': (UDP(sport=9, dport=9) / DATA[:1200], UDP(sport=9, dport=9) / DATA[:1200]),
    'tcp-syn': tuple(2 * [TCP(sport=40000, dport=80, seq=0xfffffff0, flags='S', window=64240,
                              options=[('MSS', 1440), ('SAckOK', b''), ('Timestamp', (7, 0)), ('NOP', None),
                                       ('WScale', 7)])]),
    'tcp-data': tuple(2 * [TCP(sport=80, dport=40000, seq=1, ack=2, flags='PA') / DATA[:1001]]),
    'tcp-rst': tuple(2 * [TCP(sport=80, dport=40000, flags='RA')]),
    'tcp-urgent': tuple(2 * [TCP(sport=80, dport=40000, flags='UAEC', urgptr=3) / b'abc']),
    'echo-request': (ICMPv6EchoRequest(id=0x1234, seq=7, data=DATA[:56]), ICMP(type=8, id=0x1234, seq=7) / DATA[:56]),
    'echo-reply': (ICMPv6EchoReply(id=0xffff, seq=0xffff, data=b'x'), ICMP(type=0, id=0xffff, seq=0xffff) / b'x'),
    'echo-empty': (ICMPv6EchoRequest(id=0, seq=0), ICMP(type=8, id=0, seq=0)),
}


@pytest.mark.parametrize('name', PAYLOADS)
def test_payload_6to4(crossing, name):
    six, four = PAYLOADS[name]
    out = crossing.xlat64(IPv6(src=V6, dst=embed(V4)) / six)
    size = len(IP() / four)
    want = IP(src=crossing.pool_addr, dst=V4, ttl=63, id=0, flags='DF' if size > 1260 else 0) / four
    assert [without_id(p) for p in out] == [raw(want)]


@pytest.mark.parametrize('name', PAYLOADS)
def test_payload_4to6(crossing, name):
    six, four = PAYLOADS[name]
    out = crossing.xlat46(IP(src=V4, dst=crossing.pool_addr, id=1, flags='DF') / four)
    assert out == [raw(IPv6(src=embed(V4), dst=V6, hlim=63, fl=0) / six)]


def zero_sum(header):
    """A UDP packet in this IP header whose checksum comes to 0, thus 0xffff on the wire."""
    zero = header / UDP(sport=3, dport=4) / b'\0\0'
    fill = raw(zero)[-4:-2]
    packet = header / UDP(sport=3, dport=4) / fill
    assert raw(packet)[-4:-2] == b'\xff\xff'
    return packet


def test_udp_checksum_that_becomes_zero_is_sent_as_ffff(crossing):
    want = zero_sum(IP(src=crossing.pool_addr, dst=V4, ttl=63, id=0, flags=0))
    out = crossing.xlat64(IPv6(src=V6, dst=embed(V4)) / UDP(sport=3, dport=4) / want[Raw].load)
    assert [without_id(p) for p in out] == [raw(want)]
    want = zero_sum(IPv6(src=embed(V4), dst=V6, hlim=63))
    out = crossing.xlat46(IP(src=V4, dst=crossing.pool_addr) / UDP(sport=3, dport=4) / want[Raw].load)
    assert out == [raw(want)]


def test_udp_without_checksum_gets_one_4to6(crossing):
    """IPv6 requires it (RFC 7915 section 4.5)."""
    for data in b'', b'x', DATA[:1000]:
        out = crossing.xlat46(IP(src=V4, dst=crossing.pool_addr) / UDP(sport=3, dport=4, chksum=0) / data)
        assert out == [raw(IPv6(src=embed(V4), dst=V6, hlim=63) / UDP(sport=3, dport=4) / data)]


def test_wrong_checksum_stays_wrong(crossing):
    """The translator must not mend what was damaged on the way: the receiver has to see it."""
    for proto in UDP, TCP:
        right = raw(IPv6(src=V6, dst=embed(V4)) / proto(sport=3, dport=4) / b'data')
        damaged = right[:-1] + b'!'
        for p in crossing.xlat64(damaged):
            again = IP(p)
            there = again[proto].chksum
            again[proto].chksum = None
            assert IP(raw(again))[proto].chksum != there
        assert len(crossing.xlat64(damaged)) == 1


# RFC 7915 section 5.1: IPv6 header fields in, IPv4 header fields out.
FIELDS_6TO4 = {
    'traffic class': ({'tc': 0xff}, {'tos': 0xff}),
    'dscp': ({'tc': 0xb8}, {'tos': 0xb8}),
    'ecn': ({'tc': 0x03}, {'tos': 0x03}),
    'flow label': ({'fl': 0xfffff, 'tc': 0}, {'tos': 0}),
    'flow label and class': ({'fl': 0xabcde, 'tc': 0x12}, {'tos': 0x12}),
    'hop limit 255': ({'hlim': 255}, {'ttl': 254}),
    'hop limit 2': ({'hlim': 2}, {'ttl': 1}),
}


@pytest.mark.parametrize('name', FIELDS_6TO4)
def test_fields_6to4(crossing, name):
    six, four = FIELDS_6TO4[name]
    udp = UDP(sport=3, dport=4) / b'data'
    out = crossing.xlat64(IPv6(src=V6, dst=embed(V4), **six) / udp)
    want = IP(**{'src': crossing.pool_addr, 'dst': V4, 'ttl': 63, 'id': 0, **four}) / udp
    assert [without_id(p) for p in out] == [raw(want)]


# RFC 7915 section 4.1: IPv4 header fields in, IPv6 header fields out.
FIELDS_4TO6 = {
    'tos': ({'tos': 0xff}, {'tc': 0xff}),
    'dscp': ({'tos': 0xb8}, {'tc': 0xb8}),
    'ecn': ({'tos': 0x03}, {'tc': 0x03}),
    'ttl 255': ({'ttl': 255}, {'hlim': 254}),
    'ttl 2': ({'ttl': 2}, {'hlim': 1}),
    'df': ({'flags': 'DF', 'id': 77}, {}),
    'no df': ({'flags': 0, 'id': 77}, {}),
    'options are skipped': ({'options': [IPOption_NOP()] * 8}, {}),
    'source route at its end': ({'options': [IPOption_LSRR(routers=['192.0.2.9'], pointer=8)]}, {}),
}


@pytest.mark.parametrize('name', FIELDS_4TO6)
def test_fields_4to6(crossing, name):
    four, six = FIELDS_4TO6[name]
    udp = UDP(sport=3, dport=4) / b'data'
    crossing.gw.sysctl('net.ipv4.conf.all.accept_source_route', 1)
    udp_bytes = raw(IP(src=V4, dst=crossing.pool_addr) / udp)[20:]      # scapy's checksum would count the route's end
    out = crossing.xlat46(IP(**{'src': V4, 'dst': crossing.pool_addr, 'proto': 17, **four}) / udp_bytes)
    assert out == [raw(IPv6(**{'src': embed(V4), 'dst': V6, 'hlim': 63, 'fl': 0, **six}) / udp)]


@pytest.mark.parametrize('size, df', [(28, 0), (1259, 0), (1260, 0), (1261, 1), (1480, 1)])
def test_df_rule(crossing, size, df):
    """IPv4 packets up to 1260 bytes may be fragmented on their way, larger ones may not."""
    udp = UDP(sport=3, dport=4) / DATA[:size - 28]
    packet = IPv6(src=V6, dst=embed(V4)) / udp
    assert len(packet) == size + 20
    out = [IP(p) for p in crossing.xlat64(packet)]
    assert [(p.len, p.flags.DF, p.flags.MF, p.frag) for p in out] == [(size, df, 0, 0)]


def test_identification(crossing):
    """Packets that may be fragmented have identifications that differ."""
    packets = [IPv6(src=V6, dst=embed(V4)) / UDP(sport=3, dport=4) / bytes([n]) for n in range(20)]
    out = [IP(p) for p in crossing.xlat64(*packets)]
    assert [p.load[0] for p in out] == list(range(20))
    assert len({p.id for p in out}) > 15


def test_spelled_out(crossing):
    """One packet each way byte by byte, with no library's help: RFC 7915 by hand."""
    pool = bytes(map(int, crossing.pool_addr.split('.')))
    six = bytes.fromhex('6ab12345 000d1128 fc00006600000000000000000000000a 0064ff9b0000000000000000c63364c8'
                        '1000 2000 000d') + b'\0\0' + b'hello'

    def fold(data):
        data += b'\0' * (len(data) % 2)
        n = sum(data[0::2]) * 256 + sum(data[1::2])
        n = (n & 0xffff) + (n >> 16)
        return struct.pack('!H', 0xffff - ((n & 0xffff) + (n >> 16)))

    six = six[:46] + fold(six[8:40] + bytes.fromhex('0000000d 00000011') + six[40:]) + six[48:]
    out, = crossing.xlat64(six)
    four = bytes.fromhex('45ab0021') + out[4:6] + bytes.fromhex('0000 2711 0000') + pool + bytes.fromhex('c63364c8')
    four = four[:10] + fold(four) + four[12:]
    udp = bytes.fromhex('1000 2000 000d 0000') + b'hello'
    udp = udp[:6] + fold(four[12:20] + bytes.fromhex('0011000d') + udp) + udp[8:]
    assert out == four + udp

    udp = bytes.fromhex('2000 1000 000d 0000') + b'hello'
    ends = bytes.fromhex('c63364c8') + pool
    four = bytes.fromhex('45ab0021 1234 4000 2811 0000') + ends
    four = four[:10] + fold(four) + ends + udp[:6] + fold(ends + bytes.fromhex('0011000d') + udp) + udp[8:]
    six = bytes.fromhex('6ab00000 000d1127 0064ff9b0000000000000000c63364c8 fc00006600000000000000000000000a') + udp
    six = six[:46] + fold(six[8:40] + bytes.fromhex('0000000d 00000011') + udp) + six[48:]
    assert crossing.xlat46(four) == [six]


# RFC 6052 section 2.4, tables 1 and 2: the addresses for 192.0.2.33.
RFC6052 = {
    '2001:db8::/32': '2001:db8:c000:221::',
    '2001:db8:100::/40': '2001:db8:1c0:2:21::',
    '2001:db8:122::/48': '2001:db8:122:c000:2:2100::',
    '2001:db8:122:300::/56': '2001:db8:122:3c0:0:221::',
    '2001:db8:122:344::/64': '2001:db8:122:344:c0:2:2100::',
    '2001:db8:122:344::/96': '2001:db8:122:344::192.0.2.33',
    '64:ff9b::/96': '64:ff9b::192.0.2.33',
}


@pytest.fixture(scope='module')
def server33(module_lab):
    """Hosts of their own for the tests of prefixes; the IPv4 one is the RFC's."""
    h6, gw, h4 = standard(module_lab)
    gw.ip('neigh', 'add', '192.0.2.33', 'lladdr', h4.mac('eth0'), 'dev', 'eth1')
    return h6, gw, h4


@pytest.mark.parametrize('prefix', RFC6052)
def test_rfc6052(server33, prefix):
    server33[1].load('-6', prefix)
    crossing = Crossing(*server33, prefix)
    address = RFC6052[prefix]
    for six, four in PAYLOADS['tcp-data'], PAYLOADS['udp'], PAYLOADS['echo-request']:
        out = crossing.xlat64(IPv6(src=V6, dst=address) / six)
        want = IP(src=crossing.pool_addr, dst='192.0.2.33', ttl=63, id=0) / four
        assert [without_id(p) for p in out] == [raw(want)]
        out = crossing.xlat46(IP(src='192.0.2.33', dst=crossing.pool_addr) / four)
        assert out == [raw(IPv6(src=address, dst=V6, hlim=63) / six)]
    crossing.close()


@pytest.fixture(scope='module')
def translator(crossing):
    with Translator(crossing.gw) as t:
        yield t


def six(src=V6, dst=embed(V4), **kw):
    return IPv6(src=src, dst=dst, **kw)


def udp_to(dst):
    return six(dst=dst) / UDP(sport=3, dport=4) / b'x'


def udp_from(src):
    return six(src=src) / UDP(sport=3, dport=4) / b'x'


# Ours, and cannot be translated: the packet, the reason it is counted under, and type and code of the answer, if any.
DROPS_6TO4 = {
    'payload longer than the packet': (six(plen=100) / UDP(sport=3, dport=4) / b'x', 'truncated'),
    'half a UDP header': (six(nh=17) / b'\0\1\0\2', 'truncated'),
    'half a TCP header': (six(nh=6) / bytes(19), 'truncated'),
    'half an ICMPv6 header': (six(nh=58) / bytes(3), 'truncated'),
    'from multicast': (udp_from('ff02::1'), 'src-illegal'),
    'from loopback': (udp_from('::1'), 'src-illegal'),
    'from unspecified': (udp_from('::'), 'src-illegal'),
    'from link-local': (udp_from('fe80::1'), 'src-illegal'),
    'from the NAT64 prefix': (udp_from(embed('198.51.100.1')), 'src-illegal'),
    'from a host not allowed': (udp_from('2001:db8::1'), 'not-allowed', 1, 1),
    'to 0.0.0.0': (udp_to(embed('0.0.0.0')), 'dst-illegal', 1, 1),
    'to loopback': (udp_to(embed('127.0.0.1')), 'dst-illegal', 1, 1),
    'to multicast': (udp_to(embed('224.0.0.1')), 'dst-illegal'),
    'to link-local': (udp_to(embed('169.254.1.1')), 'dst-illegal', 1, 1),
    'to broadcast': (udp_to(embed('255.255.255.255')), 'dst-illegal'),
    'router solicitation': (six(hlim=255) / ICMPv6ND_RS(), 'icmp-type'),
    'router advertisement': (six(hlim=255) / ICMPv6ND_RA(), 'icmp-type'),
    'neighbour solicitation': (six(hlim=255) / ICMPv6ND_NS(tgt='fc00::1'), 'icmp-type'),
    'multicast listener report': (six() / ICMPv6MLReport(), 'icmp-type'),
    'unknown ICMPv6 error': (six() / ICMPv6Unknown(type=100) / bytes(50), 'icmp-type'),
    'unknown ICMPv6 message': (six() / ICMPv6Unknown(type=200) / bytes(50), 'icmp-type'),
    'ICMPv4 in IPv6': (six(nh=1) / ICMP(type=8), 'protocol', 1, 4),
    'IGMP in IPv6': (six(nh=2) / bytes(8), 'protocol', 1, 4),
}


def dropped(translator, run, packet, way, reason, verdict=TC_ACT_SHOT):
    before = translator.stats()
    assert run(raw(packet))[0] == verdict
    after = translator.stats()
    assert after['packets'] == before['packets'] and after['bytes'] == before['bytes']
    counted = [{k: v - b.get(k, 0) for k, v in a.items() if v != b.get(k, 0)}
               for a, b in zip(after['drops'], before['drops'])]
    assert counted == [{reason: 1} if w == way else {} for w in (0, 1)]


@pytest.mark.parametrize('name', DROPS_6TO4)
def test_dropped_6to4(crossing, translator, name):
    packet, reason, *answer = DROPS_6TO4[name]
    dropped(translator, translator.run64, packet, 0, reason, TC_ACT_REDIRECT if answer else TC_ACT_SHOT)
    assert crossing.xlat64(packet) == []        # and on the wire
    assert [list(p[40:42]) for p in crossing.back] == ([answer] if answer else [])


def four(src=V4, **kw):
    return lambda pool: IP(src=src, dst=pool, **kw)


DROPS_4TO6 = {
    'half a UDP header': (four(proto=17), bytes(7), 'truncated'),
    'half a TCP header': (four(proto=6), bytes(19), 'truncated'),
    'half an ICMP header': (four(proto=1), bytes(3), 'truncated'),
    'payload longer than the packet': (four(len=100), UDP() / b'x', 'truncated'),
    'header longer than the packet': (four(len=30, ihl=15), bytes(60), 'bad-header'),
    'from 0.0.0.0': (four('0.0.0.0'), UDP(), 'src-illegal'),
    'from loopback': (four('127.0.0.1'), UDP(), 'src-illegal'),
    'from multicast': (four('224.0.0.1'), UDP(), 'src-illegal'),
    'from broadcast': (four('255.255.255.255'), UDP(), 'src-illegal'),
    'ICMPv6 in IPv4': (four(proto=58), raw(ICMPv6EchoRequest()), 'protocol', 3, 2),
    'IGMP': (four(proto=2), bytes(8), 'protocol'),
    'ICMP timestamp': (four(), ICMP(type=13), 'icmp-type'),
    'ICMP information request': (four(), ICMP(type=15), 'icmp-type'),
    'ICMP router solicitation': (four(), ICMP(type=10), 'icmp-type'),
    'ICMP redirect': (four(), ICMP(type=5) / bytes(28), 'icmp-type'),
    'ICMP unknown': (four(), ICMP(type=200), 'icmp-type'),
    'no mapping': (lambda _: IP(src=V4, dst='10.0.1.254'), UDP(), 'no-mapping', 3, 1),
    'the network address': (lambda _: IP(src=V4, dst='10.0.1.0'), UDP(), 'no-mapping', 3, 1),
    'the broadcast address': (lambda _: IP(src=V4, dst='10.0.1.255'), UDP(), 'no-mapping', 3, 1),
}


@pytest.mark.parametrize('name', DROPS_4TO6)
def test_dropped_4to6(crossing, translator, name):
    header, payload, reason, *answer = DROPS_4TO6[name]
    packet = header(crossing.pool_addr) / payload
    dropped(translator, translator.run46, packet, 1, reason, TC_ACT_REDIRECT if answer else TC_ACT_SHOT)
    if answer:
        assert crossing.xlat46(packet) == []
        assert [list(p[20:22]) for p in crossing.back] == [answer]


def test_routing_header_is_answered(crossing, translator):
    """RFC 7915 section 5.1: Parameter Problem, code 0, with the pointer at Segments Left; from the gateway."""
    for before, pointer in (six(), 43), (six() / IPv6ExtHdrHopByHop(), 51):
        packet = before / IPv6ExtHdrRouting(addresses=['fc00::1'], segleft=1) / UDP(sport=3, dport=4)
        dropped(translator, translator.run64, packet, 0, 'routing-header', TC_ACT_REDIRECT)
        assert crossing.xlat64(packet) == []
        answer, = [IPv6(p) for p in crossing.back]
        assert (answer.dst, answer[ICMPv6ParamProblem].code, answer[ICMPv6ParamProblem].ptr) == (V6, 0, pointer)
        quote = answer[ICMPv6ParamProblem].payload
        assert raw(packet).startswith(raw(quote)[:7]) and raw(quote)[8:] == raw(packet)[8:]
        there = answer[ICMPv6ParamProblem].cksum
        del answer[ICMPv6ParamProblem].cksum
        assert IPv6(raw(answer))[ICMPv6ParamProblem].cksum == there


@pytest.mark.parametrize('option', [IPOption_LSRR, IPOption_SSRR])
def test_source_route_is_answered(crossing, translator, option):
    """RFC 7915 section 4.1: an unexpired source route is dropped, with Source Route Failed to the sender."""
    packet = IP(src=V4, dst=crossing.pool_addr, options=[IPOption_NOP(), option(routers=['192.0.2.9'])]) / UDP()
    dropped(translator, translator.run46, packet, 1, 'source-route', TC_ACT_REDIRECT)
    crossing.gw.sysctl('net.ipv4.conf.all.accept_source_route', 1)
    if option == IPOption_SSRR:         # on the wire the gateway's own stack refuses it before us
        return
    assert crossing.xlat46(packet) == []
    answer, = [IP(p) for p in crossing.back]
    assert (answer.dst, answer[ICMP].type, answer[ICMP].code) == (V4, 3, 5)
    quote = raw(answer[ICMP].payload)
    assert quote[12:20] == raw(packet)[12:20] and len(quote) >= 28 + 8
    there = answer[ICMP].chksum
    del answer[ICMP].chksum
    assert IP(raw(answer))[ICMP].chksum == there


# Not ours: other filters and the stack see it as it was.
FOREIGN_6TO4 = {
    'to the gateway': six(dst='fc00:6::1') / ICMPv6EchoRequest(),
    'to another host': six(dst='2001:db8::1') / UDP(),
    'beside the prefix': six(dst='64:ff9b:1::192.0.2.1') / UDP(),
    'just below the prefix': six(dst='64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff') / UDP(),
    'just above the prefix': six(dst='64:ff9b::1:0:0') / UDP(),
    'neighbour discovery': six(src='fe80::1', dst='ff02::1:ff00:1', hlim=255) / ICMPv6ND_NS(tgt='fc00::1'),
    'an extension header to another host': six(dst='2001:db8::1') / IPv6ExtHdrHopByHop() / UDP(),
}


@pytest.mark.parametrize('name', FOREIGN_6TO4)
def test_foreign_6to4(translator, name):
    packet, before = raw(FOREIGN_6TO4[name]), translator.stats()
    assert translator.run64(packet) == (TC_ACT_UNSPEC, packet)
    assert translator.stats() == before


@pytest.mark.parametrize('dst', ['10.0.0.255', '10.0.2.0', '192.0.2.1', '224.0.0.1', '255.255.255.255'])
def test_foreign_4to6(translator, dst):
    packet, before = raw(IP(src=V4, dst=dst) / UDP() / b'data'), translator.stats()
    assert translator.run46(packet) == (TC_ACT_UNSPEC, packet)
    assert translator.stats() == before


def test_other_ethernet_protocols_are_foreign(crossing, translator):
    """ARP, the other family and unknown protocols pass in both programs."""
    before = translator.stats()
    for proto, packet in ((b'\x08\x06', bytes(28)), (b'\x08\x00', raw(IP(src=V4, dst='10.0.1.1') / UDP())),
                          (b'\x88\xb5', raw(six() / UDP()))):
        frame = bytes(12) + proto + packet
        with crossing.gw:
            assert translator.to4.run(frame, translator.ifindex) == (TC_ACT_UNSPEC, frame)
    for proto, packet in ((b'\x08\x06', bytes(28)), (b'\x86\xdd', raw(six() / UDP())),
                          (b'\x88\xb5', raw(IP(src=V4, dst='10.0.1.1') / UDP()))):
        frame = bytes(12) + proto + packet
        with crossing.gw:
            assert translator.to6.run(frame, translator.ifindex) == (TC_ACT_UNSPEC, frame)
    assert translator.stats() == before


def test_counters(crossing, translator):
    """Packets and bytes of the IP packets as they came, each way."""
    before = translator.stats()
    six_ = [six() / UDP(sport=3, dport=4) / DATA[:n] for n in (0, 1, 1000)]
    four_ = [IP(src=V4, dst=crossing.pool_addr) / UDP(sport=3, dport=4) / DATA[:n] for n in (2, 300)]
    assert [translator.run64(raw(p))[0] for p in six_] == [TC_ACT_OK] * 3
    assert {translator.run46(raw(p))[0] for p in four_} <= {TC_ACT_OK, TC_ACT_REDIRECT}    # next hop known, or not
    after = translator.stats()
    assert [a - b for a, b in zip(after['packets'], before['packets'])] == [3, 2]
    assert [a - b for a, b in zip(after['bytes'], before['bytes'])] == [sum(map(len, six_)), sum(map(len, four_))]
    assert after['drops'] == before['drops']


@pytest.mark.parametrize('headers', [[IPv6ExtHdrHopByHop()], [IPv6ExtHdrDestOpt()],
                                     [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(),
                                      IPv6ExtHdrRouting(addresses=['fc00::1'], segleft=0), IPv6ExtHdrDestOpt()]],
                         ids=['hop-by-hop', 'destination', 'all'])
def test_extension_headers_are_skipped(crossing, headers):
    """RFC 7915 section 5.1: they have no meaning in IPv4; total length and protocol are adjusted."""
    packet = six()
    for h in headers:
        packet = packet / h
    udp = UDP(sport=3, dport=4) / b'data'
    out = crossing.xlat64(packet / udp)
    assert [without_id(p) for p in out] == [raw(IP(src=crossing.pool_addr, dst=V4, ttl=63, id=0) / udp)]


def test_padding_is_no_payload(crossing):
    """Bytes behind the IP packet, as short Ethernet frames have them, do not cross."""
    packet = raw(six() / UDP(sport=3, dport=4) / b'x')
    want = raw(IP(src=crossing.pool_addr, dst=V4, ttl=63, id=0) / UDP(sport=3, dport=4) / b'x')
    assert [without_id(p) for p in crossing.xlat64(packet + bytes(20))] == [want]
    packet = raw(IP(src=V4, dst=crossing.pool_addr) / UDP(sport=3, dport=4) / b'x')
    want = raw(IPv6(src=embed(V4), dst=V6, hlim=63) / UDP(sport=3, dport=4) / b'x')
    assert crossing.xlat46(packet + bytes(20)) == [want]


def test_hop_limit_runs_out(crossing):
    """A packet whose hop limit ends at the gateway does not cross."""
    assert crossing.xlat64(six(hlim=1) / UDP(sport=3, dport=4)) == []
    assert crossing.xlat46(IP(src=V4, dst=crossing.pool_addr, ttl=1) / UDP(sport=3, dport=4)) == []
    assert [IP(p).type for p in crossing.back] == [11]      # the stack's own time exceeded


def test_too_big_with_df(crossing):
    """DF=1 and longer than the IPv6 link carries: Fragmentation Needed with the link's MTU - 20."""
    fits = IP(src=V4, dst=crossing.pool_addr, flags='DF') / UDP(sport=3, dport=4) / DATA[:1452]
    assert [len(p) for p in crossing.xlat46(fits)] == [1500]
    assert crossing.xlat46(fits / b'x') == []
    errors = [IP(p) for p in crossing.back]
    assert [(p.type, p.code, p[ICMP].nexthopmtu) for p in errors] == [(3, 4, 1480)]
