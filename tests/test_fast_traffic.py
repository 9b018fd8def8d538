# SPDX-License-Identifier: GPL-2.0-or-later
"""--fast on real traffic: what is usual goes past the IPv4 stack and is the same as by it; all else meets the stack."""

import contextlib
import json
import time

import pytest
from scapy.all import ESP, IP, TCP, UDP, IPOption_NOP, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, Raw, raw

from bpf import Translator
from lab import Crossing, embed, standard, wait_for
from paths import iperf
from test_monitor import Listener, timeless
from test_packets import without_id

V6, V4 = Crossing.V6, Crossing.V4
DATA = bytes(range(256)) * 6
MANY = 300


def forwarded(gw):
    """How many packets the gateway's IPv4 stack has forwarded."""
    with gw, open('/proc/thread-self/net/snmp', encoding='ascii') as f:
        names, values = [line.split() for line in f if line.startswith('Ip:')]
    return int(values[names.index('ForwDatagrams')])


def check(crossing, way, packets, want, by_stack):
    """Send a packet many times: the same comes out each time, and goes by the stack or not. Now and then one does that
    need not: each next hop hears from the stack four times a second."""
    before = forwarded(crossing.gw)
    out = (crossing.xlat64 if way == 64 else crossing.xlat46)(*packets * MANY)
    count = forwarded(crossing.gw) - before
    assert [without_id(p) for p in out] == [raw(p) for p in want] * MANY if way == 64 \
        else [bytes(p) for p in out] == [raw(p) for p in want] * MANY
    if by_stack:
        assert count >= MANY * len(packets)
    else:
        assert count < MANY * len(packets) / 3


@pytest.fixture(scope='module')
def fast(module_net):
    h6, gw, h4 = module_net
    gw.load('--fast')
    gw.sysctl('net.ipv4.icmp_ratelimit', 0)
    c = Crossing(*module_net)
    yield c
    c.close()


def udp(n):
    return UDP(sport=1234, dport=5678) / DATA[:n]


# Name: (what follows the IPv6 header, what follows the IPv4 header, fields of IPv6, fields of IPv4)
PACKETS64 = {
    'udp': (udp(100), udp(100), {}, {}),
    'tcp': (TCP(sport=1, dport=2, flags='A') / DATA[:1400], TCP(sport=1, dport=2, flags='A') / DATA[:1400], {},
            {'flags': 'DF'}),
    'esp': (ESP(spi=1, data=DATA[:99]), ESP(spi=1, data=DATA[:99]), {}, {}),
    'traffic class': (udp(9), udp(9), {'tc': 0xb8}, {'tos': 0xb8}),
    'hop limit 2': (udp(9), udp(9), {'hlim': 2}, {'ttl': 1}),
    'full size': (udp(1452), udp(1452), {}, {'flags': 'DF'}),
    'destination options': (IPv6ExtHdrDestOpt() / udp(9), udp(9), {}, {}),
}


@pytest.mark.parametrize('name', PACKETS64)
def test_6to4(fast, name):
    six, four, fields6, fields4 = PACKETS64[name]
    check(fast, 64, [IPv6(src=V6, dst=embed(V4), **fields6) / six],
          [IP(**{'src': fast.pool_addr, 'dst': V4, 'ttl': 63, 'id': 0, 'flags': 0, **fields4}) / four], False)


def test_6to4_fragments(fast):
    whole = raw(IPv6(src=V6, dst=embed(V4)) / udp(800))[40:]
    parts = [IPv6(src=V6, dst=embed(V4)) / IPv6ExtHdrFragment(nh=17, id=5, offset=off // 8, m=m) / whole[off:end]
             for off, end, m in ((0, 400, 1), (400, len(whole), 0))]
    four = raw(IP(src=fast.pool_addr, dst=V4) / udp(800))[20:]
    want = [IP(src=fast.pool_addr, dst=V4, ttl=63, id=0, frag=off // 8, flags=flags, proto=17) / four[off:end]
            for off, end, flags in ((0, 400, 'MF'), (400, len(four), 0))]
    check(fast, 64, parts, want, False)


# Name: (what follows the IPv6 header, what follows the IPv4 header, fields of IPv4, by the stack?)
PACKETS46 = {
    'udp': (udp(100), udp(100), {}, False),
    'tcp': (TCP(sport=1, dport=2, flags='A') / DATA[:1400], TCP(sport=1, dport=2, flags='A') / DATA[:1400],
            {'flags': 'DF'}, False),
    'esp': (ESP(spi=1, data=DATA[:99]), ESP(spi=1, data=DATA[:99]), {}, False),
    'udp without checksum': (udp(101), UDP(sport=1234, dport=5678, chksum=0) / DATA[:101], {}, False),
    'tos': (udp(40), udp(40), {'tos': 0xb8}, False),
    'full size': (udp(1432), udp(1432), {'flags': 'DF'}, False),
    'options': (udp(40), udp(40), {'options': [IPOption_NOP()] * 4}, True),
}


@pytest.mark.parametrize('name', PACKETS46)
def test_4to6(fast, name):
    six, four, fields, by_stack = PACKETS46[name]
    fast.xlat64(IPv6(src=V6, dst=embed(V4)) / udp(1))
    check(fast, 46, [IP(src=V4, dst=fast.pool_addr, id=7, **fields) / four],
          [IPv6(src=embed(V4), dst=V6, hlim=63, tc=fields.get('tos', 0)) / six], by_stack)


@pytest.mark.parametrize('pair, v4', [('fc00:66::/120=203.0.113.0/24', '203.0.113.10'), ('fc00:66::a=203.0.113.7', '203.0.113.7'),
                                      ('fc00:66::/124=10.0.1.16/28', '10.0.1.26')])
def test_static(net, pair, v4):
    """The next hop of a host that has no entry in the table is remembered too."""
    _, gw, _ = net
    gw.load('--fast', '-s', pair)
    with contextlib.closing(Crossing(*net)) as crossing:
        assert crossing.pool_addr == v4
        check(crossing, 64, [IPv6(src=V6, dst=embed(V4)) / udp(9)], [IP(src=v4, dst=V4, ttl=63, id=0, flags=0) / udp(9)], False)
        check(crossing, 46, [IP(src=V4, dst=v4, id=7) / udp(9)], [IPv6(src=embed(V4), dst=V6, hlim=63) / udp(9)], False)


# Name: (what follows the IPv6 header, what follows the IPv4 header, what is behind that up to 60 bytes of frame or more)
PADDED46 = {
    'tcp': (TCP(sport=1, dport=2, flags='A'), TCP(sport=1, dport=2, flags='A'), b'secret'),
    'udp': (udp(1), udp(1), b'secret' * 3),
    'udp without checksum': (udp(3), UDP(sport=1234, dport=5678, chksum=0) / DATA[:3], b'padding' * 3),
    'esp': (ESP(spi=1, data=b'x'), ESP(spi=1, data=b'x'), bytes(17)),
    'behind a long one': (udp(1000), udp(1000), b'FCS.'),
}


@pytest.mark.parametrize('name', PADDED46)
def test_4to6_link_padding_is_cut_off(fast, name):
    """Ethernet frames have 60 bytes at least; it is as usual as they are. Nothing of it is seen on the other side."""
    six, four, padding = PADDED46[name]
    packet = raw(IP(src=V4, dst=fast.pool_addr, id=7) / four) + padding
    assert len(packet) >= 46
    check(fast, 46, [packet], [IPv6(src=embed(V4), dst=V6, hlim=63) / six], False)


@pytest.mark.parametrize('padding', [b'secret', b'x' * 999], ids=len)
def test_6to4_link_padding_is_left_to_the_stack(fast, padding):
    """Which cuts it off."""
    packet = raw(IPv6(src=V6, dst=embed(V4), nh=59)) + padding
    check(fast, 64, [packet], [IP(src=fast.pool_addr, dst=V4, ttl=63, id=0, flags=0, proto=59)], True)
    packet = raw(IPv6(src=V6, dst=embed(V4)) / udp(9)) + padding
    check(fast, 64, [packet], [IP(src=fast.pool_addr, dst=V4, ttl=63, id=0, flags=0) / udp(9)], True)


def test_4to6_too_long_without_df_is_cut(fast):
    out = fast.xlat46(*[IP(src=V4, dst=fast.pool_addr, id=7) / udp(1400)] * 10)
    assert len(out) == 20 and max(map(len, out)) == 1280
    assert all(IPv6(p).nh == 44 for p in out)


def test_4to6_wrong_header_checksum(fast):
    """RFC 1812 section 5.2.2: dropped, as by the stack. In IPv6 nobody could see it any more."""
    packet = raw(IP(src=V4, dst=fast.pool_addr, id=7) / udp(9))
    assert len(fast.xlat46(*[packet] * 9)) == 9
    assert fast.xlat46(*[packet[:10] + bytes((packet[10] ^ 1,)) + packet[11:]] * 9) == []
    assert fast.xlat46(*[packet[:1] + b'\x10' + packet[2:]] * 9) == []


def test_ttl_1_is_answered(fast):
    assert fast.xlat64(*[IPv6(src=V6, dst=embed(V4), hlim=1) / udp(9)] * 9) == []
    assert [(p[40], p[41]) for p in fast.back if p[6] == 58] == [(3, 0)] * len(fast.back) and fast.back
    assert fast.xlat46(*[IP(src=V4, dst=fast.pool_addr, ttl=1) / udp(9)] * 9) == []
    assert [(p[20], p[21]) for p in fast.back if p[9] == 1] == [(11, 0)] * len(fast.back) and fast.back


def test_too_long_with_df_is_answered(fast):
    out = fast.xlat46(*[IP(src=V4, dst=fast.pool_addr, flags='DF') / udp(1460)] * 9)
    assert out == []
    assert {(p[20], p[21], int.from_bytes(p[26:28])) for p in fast.back} == {(3, 4, 1480)}


def test_no_route_is_answered(fast):
    out = fast.xlat64(*[IPv6(src='fc00:66::77', dst=embed('203.0.113.1')) / udp(9)] * 9)     # not yet limited
    assert out == []
    assert fast.back and {p[40] for p in fast.back} == {1}


def test_the_gateway_itself_is_reached(fast):
    """6→4 to an address of the gateway: not to be forwarded."""
    assert fast.xlat64(*[IPv6(src=V6, dst=embed('192.0.2.1')) / udp(9)] * 9) == []
    assert fast.back and {(p[40], p[41]) for p in fast.back} == {(1, 4)}


def test_counted(fast):
    with Translator(fast.gw) as t:
        before = t.stats()
        fast.xlat64(*[IPv6(src=V6, dst=embed(V4)) / udp(100)] * MANY)
        fast.xlat46(*[IP(src=V4, dst=fast.pool_addr) / udp(100)] * MANY)
        after = t.stats()
    assert [a - b for a, b in zip(after['packets'], before['packets'])] == [MANY + 1] * 2       # and the markers
    assert after['bytes'][0] - before['bytes'][0] > MANY * 148 and after['bytes'][1] - before['bytes'][1] > MANY * 128
    assert after['drops'] == before['drops']


def test_trace(fast):
    """A line for each packet, by whichever way it goes, before the stack or behind it."""
    six, four = IPv6(src=V6, dst=embed(V4)) / udp(30), IP(src=V4, dst=fast.pool_addr, id=7) / udp(30)
    trace = Listener(fast.gw, '--trace', f'{V6} udp port 5678', '--json')
    check(fast, 64, [six], [IP(src=fast.pool_addr, dst=V4, ttl=63, id=0) / udp(30)], False)
    check(fast, 46, [four], [IPv6(src=embed(V4), dst=V6, hlim=63) / udp(30)], False)
    ends6 = {'protocol': 'udp', 'src_port': 1234, 'dst_port': 5678, 'length': 78}
    ends4 = ends6 | {'length': 58}
    lines = timeless(trace.stop())
    assert [line['direction'] for line in lines] == ['6to4'] * MANY + ['4to6'] * MANY
    for line in lines:
        assert line['verdict'] == 'translated'
        ends = [{'src': V6, 'dst': embed(V4)} | ends6, {'src': fast.pool_addr, 'dst': V4} | ends4]
        if line['direction'] == '4to6':
            ends = [{'src': V4, 'dst': fast.pool_addr} | ends4, {'src': embed(V4), 'dst': V6} | ends6]
        assert [line['in'], line['out']] == ends


def test_what_is_not_ours_is_not_touched(fast):
    """Plain IPv4, back to where it came from."""
    fast.gw.route('10.0.2.0/24', 'via', '192.0.2.2')
    packet = raw(IP(src=V4, dst='10.0.2.1', id=7, ttl=9) / udp(9))
    assert fast.xlat46(*[packet] * 9) == []
    assert [without_id(p) for p in fast.back if p[16:20] == b'\n\0\2\1'] == \
        [raw(IP(src=V4, dst='10.0.2.1', id=0, ttl=8) / udp(9))] * 9


@pytest.mark.parametrize('options', [['-n', '30M'], ['-n', '30M', '-R'], ['-n', '30M', '-P', '4'],
                                     ['-n', '5M', '-M', '500', '-R']], ids=' '.join)
@pytest.mark.parametrize('gro', ['on', 'off'])
def test_tcp(net, options, gro):
    h6, gw, h4 = net
    gw.load('--fast')
    for dev in 'eth0', 'eth1':
        gw.run('ethtool', '-K', dev, 'gro', gro)
    before = forwarded(gw)
    end = iperf(h4, h6, embed('192.0.2.2'), *options)
    assert end['sum_received']['bytes'] >= end['sum_sent']['bytes'] / 10
    with Translator(gw) as t:
        stats = t.stats()
    assert not any(stats['drops'])
    assert forwarded(gw) - before < sum(stats['packets']) / 2


def test_routes_are_followed(lab):
    """A route that moves, and one that goes, while packets flow."""
    h6, gw, h4 = standard(lab)
    other = lab.host('other')
    lab.link(gw, 'eth2', other, 'eth0')
    gw.addr('eth2', '203.0.113.1/24')
    other.addr('eth0', '203.0.113.2/24')
    gw.load('--fast')
    c = Crossing(h6, gw, h4)
    try:
        packet = IPv6(src=V6, dst=embed(V4)) / udp(9)
        assert len(c.xlat64(*[packet] * 50)) == 50
        gw.ip('route', 'replace', '198.51.100.0/24', 'via', '203.0.113.2')
        time.sleep(0.3)
        received = counter(other)
        for _ in range(50):
            c.w6.send(c.eth6 + raw(packet))
        wait_for(lambda: counter(other) - received >= 50, 'packets on the new way')
    finally:
        c.close()


def counter(host):
    return json.loads(host.ip('-j', '-s', 'link', 'show', 'dev', 'eth0'))[0]['stats64']['rx']['packets']


def test_a_neighbour_with_another_mac_address_is_found(lab):
    """The stack sees enough packets to probe its neighbours."""
    h6, gw, h4 = standard(lab)
    for dev in 'eth0', 'eth1':
        for family in 'ipv4', 'ipv6':
            for name, value in ('base_reachable_time_ms', 500), ('delay_first_probe_time', 1), ('retrans_time_ms', 100):
                gw.sysctl(f'net.{family}.neigh.{dev}.{name}', value)
    gw.load('--fast')
    server = h4.start('iperf3', '-s', '-1')
    h4.listening(5201)
    before = forwarded(gw)
    client = h6.start('iperf3', '-u', '-b', '2M', '-l', '200', '-t', '60', '-c', embed('192.0.2.2'))
    wait_for(lambda: counter(h4) > 1000, 'packets')
    assert forwarded(gw) - before < 500
    h4.ip('link', 'set', 'eth0', 'address', '02:00:00:00:00:77')
    h6.ip('link', 'set', 'eth0', 'address', '02:00:00:00:00:66')
    wait_for(lambda: not h6.run('ping', '-c1', '-W1', embed('192.0.2.2'), check=False).returncode, 'packets to arrive',
             40)
    lab.end(client)
    lab.end(server)
