# SPDX-License-Identifier: GPL-2.0-or-later
"""Static mappings, RFC 7757: hosts and prefixes, inside and outside the dynamic prefix."""

import ipaddress
import json
import socket
import time

import pytest
from scapy.all import IP, UDP, IPv6, raw

from bpf import TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT, Translator
from lab import embed, patience
from test_load import pings
from test_mappings import address, consistent, speak
from test_status import mappings, status


def to4(t, v6):
    """The IPv4 source that a packet from v6 leaves with; None: dropped."""
    verdict, out = t.run64(raw(IPv6(src=v6, dst=embed('198.51.100.1'), hlim=64) / UDP(sport=3, dport=4) / b'data'))
    if verdict != TC_ACT_OK:
        assert verdict == TC_ACT_SHOT or verdict == TC_ACT_REDIRECT and out[6] == 58        # with an answer or without
        return None
    return str(ipaddress.ip_address(out[12:16]))


def to6(t, v4):
    """The IPv6 destination that a packet to v4 leaves with; None: dropped, as nobody's."""
    before = t.drops().get('no-mapping', 0), t.drops().get('no-route', 0)
    verdict, out = t.run46(raw(IP(src='198.51.100.1', dst=v4) / UDP(sport=4, dport=3) / b'data'))
    if verdict == TC_ACT_SHOT or out[0] >> 4 == 4:      # without an answer or with
        assert (t.drops().get('no-mapping', 0), t.drops().get('no-route', 0)) == (before[0] + 1, before[1])
        return None
    assert verdict in (TC_ACT_OK, TC_ACT_REDIRECT)      # OK: its MAC address is known
    return str(ipaddress.ip_address(out[24:40]))


def statics(*pairs):
    return [x for pair in pairs for x in ('-s', pair)]


@pytest.fixture
def gw(net):
    """A gateway that has a route to everybody."""
    _, gw, _ = net
    gw.route('2001:db8::/32', 'via', 'fc00:6::6')
    return gw


# RFC 7757, the table of section 3.2 and the results of its appendix B.
RFC7757 = ['2001:db8:aaaa::=192.0.2.1', '2001:db8:bbbb::b/128=192.0.2.2/32', '2001:db8:cccc::/124=192.0.2.16/28',
           '2001:db8:dddd::/64=192.0.2.128/26', '2001:db8:eeee:8::/62=192.0.2.192/29']
APPENDIX_B = {
    '192.0.2.1': '2001:db8:aaaa::', '192.0.2.2': '2001:db8:bbbb::b', '192.0.2.16': '2001:db8:cccc::',
    '192.0.2.24': '2001:db8:cccc::8', '192.0.2.31': '2001:db8:cccc::f', '192.0.2.128': '2001:db8:dddd::',
    '192.0.2.152': '2001:db8:dddd:0:6000::', '192.0.2.183': '2001:db8:dddd:0:dc00::',
    '192.0.2.191': '2001:db8:dddd:0:fc00::', '192.0.2.195': '2001:db8:eeee:9:8000::'}


@pytest.mark.parametrize('pair', ['2001:db8::/120=10.0.1.0/24', '2001:db8::/112=10.0.0.0/16'], ids=['all of it', 'more'])
def test_static_prefix_covers_the_pool(gw, pair):
    """Then there is nothing left to give to others."""
    gw.load('-s', pair)
    host = '2001:db8::5' if pair.endswith('/24') else '2001:db8::105'
    with Translator(gw) as t:
        assert (to4(t, host), to6(t, '10.0.1.5')) == ('10.0.1.5', host)
        assert to4(t, 'fc00::1') is None and t.drops() == {'pool-full': 1}


@pytest.mark.parametrize('pool', ['10.0.1.0/24', '192.0.2.0/23'], ids=['outside the pool', 'inside'])
def test_rfc7757_appendix_b(gw, pool):
    gw.ip('addr', 'flush', 'dev', 'eth1')
    gw.load(*statics(*RFC7757), '--icmp-src', '203.0.113.1', v4=pool, allow=[])
    with Translator(gw) as t:
        for v4, v6 in APPENDIX_B.items():
            assert (to4(t, v6), to6(t, v4)) == (v4, v6)
        assert to4(t, '2001:db8:aaaa::1') is None and t.drops() == {'not-allowed': 1}
    assert [(row['v6'], row['v4']) for row in mappings(gw)] == \
           [tuple(pair.replace('/128', '').replace('/32', '').split('=')) for pair in RFC7757]
    assert all(row == {'v4': row['v4'], 'v6': row['v6'], 'type': 'static', 'idle': None, 'expires_in': None, 'age': None}
               for row in mappings(gw))
    assert status(gw)[0]['static_mappings'] == 5


def test_host_from_both_sides(net):
    """Reached from IPv4 before it has sent anything; needs no -a; never expires."""
    h6, gw, h4 = net
    gw.load(*statics('fc00:6::6=10.0.1.77'), '-t', 1, allow=[])
    h4.run('ping', '-c1', '-W5', '10.0.1.77')
    pings(h6)
    with Translator(gw) as t:
        assert to6(t, '10.0.1.77') == 'fc00:6::6'
    time.sleep(2.5)
    h4.run('ping', '-c1', '-W5', '10.0.1.77')
    (row,) = mappings(gw)
    assert (row['v4'], row['v6'], row['type']) == ('10.0.1.77', 'fc00:6::6', 'static')
    assert status(gw)[0]['mappings'] == {'live': 0, 'expired': 0, 'static': 1, 'free': 253, 'addresses': 254}


def test_packets_wait_for_a_silent_host(net):
    """What comes before the host has answered the neighbour solicitation is kept for it, all of it."""
    h6, gw, h4 = net
    gw.load(*statics('fc00:6::6=10.0.1.77'), allow=[])
    h6.nft('add table ip6 f; add chain ip6 f in { type filter hook input priority 0; };'
           'add rule ip6 f in icmpv6 type nd-neighbor-solicit counter drop')
    gw.ip('-6', 'neigh', 'flush', 'dev', 'eth0')
    with h6:
        rx = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with h4:
        tx = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with rx, tx:
        rx.bind(('::', 7000))
        rx.settimeout(patience(10))
        for n in range(5):
            tx.sendto(b'%d' % n, ('10.0.1.77', 7000))
            time.sleep(0.05)
        assert 'packets 0 ' not in h6.run('nft', 'list', 'table', 'ip6', 'f').stdout, 'nothing was asked'
        h6.nft('delete table ip6 f')
        assert [rx.recv(100) for _ in range(5)] == [b'%d' % n for n in range(5)]


@pytest.mark.parametrize('pair, v4', [('fc00:6::6=203.0.113.7', '203.0.113.7'),
                                      ('fc00:6::/120=203.0.113.0/24', '203.0.113.6'),
                                      ('fc00:6::6/128=10.0.1.9/32', '10.0.1.9')])
def test_real_traffic(net, pair, v4):
    """With the route that it takes, which goes with it."""
    h6, gw, h4 = net
    gw.load(*statics(pair))
    pings(h6)
    h4.run('ping', '-c1', '-W5', v4)
    routes = [r['dst'] for r in json.loads(gw.ip('-j', 'route', 'show', 'proto', 64))]
    outside = pair.split('=')[1] if v4.startswith('203') else None
    assert sorted(routes) == sorted(['10.0.1.0/24', '192.0.0.8'] + ([outside] if outside else []))
    gw.load()
    assert len(json.loads(gw.ip('-j', 'route', 'show', 'proto', 64))) == 2
    pings(h6)


def test_held_addresses_are_never_given_out(gw):
    """Those of hosts and of prefixes, whatever the pool's pressure; every other one is."""
    gw.load(*statics('2001:db8::5=10.0.1.5', '2001:db8:3::/124=10.0.1.16/28', '2001:db8::1=10.0.1.0'), v4='10.0.1.0/26')
    held = {'10.0.1.5', *map(str, ipaddress.ip_network('10.0.1.16/28'))}
    with Translator(gw) as t:
        given = [speak(t, n) for n in range(1, 46)]
        assert set(given) == {str(a) for a in ipaddress.ip_network('10.0.1.0/26').hosts()} - held
        for n in range(300):
            assert speak(t, 100 + n) is None
        assert to6(t, '10.0.1.5') == '2001:db8::5' and to6(t, '10.0.1.18') == '2001:db8:3::2'
        assert to6(t, '10.0.1.0') == '2001:db8::1'
    assert status(gw)[0]['mappings'] == {'live': 45, 'expired': 0, 'static': 18, 'free': 0, 'addresses': 63}


def test_nobody_is_the_owner_of_held_addresses(gw):
    """The unspecified address, which the table has for their owner."""
    gw.load(*statics('2001:db8:3::/121=10.0.1.0/25'))
    with Translator(gw) as t:
        assert to4(t, '::') is None
        assert t.drops() == {'src-illegal': 1}


def test_next_hops(net):
    """Hosts of a static prefix, each a neighbour of its own, in turn: also those that share a slot of what the program
    remembers of next hops, which are 1,024 addresses apart."""
    _, gw, _ = net
    gw.load(*statics('fc00:6::/112=198.18.0.0/16'), allow=[])
    hosts = (2, 3, 1026, 1027, 2050)
    for n in hosts:
        gw.ip('neigh', 'replace', f'fc00:6::{n:x}', 'lladdr', f'02:00:00:00:{n >> 8:02x}:{n & 255:02x}', 'dev', 'eth0')
    known = set()
    with Translator(gw) as t:
        for n in hosts * 5 + tuple(n for n in hosts for _ in range(5)):
            verdict, frame = t.frame46(raw(IP(src='198.51.100.1', dst=f'198.18.{n >> 8}.{n & 255}') / UDP() / b'data'))
            assert frame[38:54] == ipaddress.ip_address(f'fc00:6::{n:x}').packed
            if verdict == TC_ACT_OK:
                assert frame[:6] == bytes([2, 0, 0, 0, n >> 8, n & 255])
                known.add(n)
            else:
                assert verdict == TC_ACT_REDIRECT
    assert known == set(hosts)


def test_longest_match_wins(gw):
    """A host inside a prefix, a prefix inside a prefix, on either side."""
    gw.load(*statics('2001:db8:3::/112=10.8.0.0/16', '2001:db8:3::100/120=10.9.9.0/24', '2001:db8:3::105=10.0.1.5',
                     '2001:db8:4::/120=10.8.1.0/24', '2001:db8:5::7=10.8.1.7'))
    with Translator(gw) as t:
        assert to4(t, '2001:db8:3::5') == '10.8.0.5'
        assert to4(t, '2001:db8:3::106') == '10.9.9.6'
        assert to4(t, '2001:db8:3::105') == '10.0.1.5'
        assert to6(t, '10.8.0.5') == '2001:db8:3::5'
        assert to6(t, '10.8.1.6') == '2001:db8:4::6'
        assert to6(t, '10.8.1.7') == '2001:db8:5::7'
        assert to6(t, '10.9.9.5') == '2001:db8:3::105'
    routes = {r['dst'] for r in json.loads(gw.ip('-j', 'route', 'show', 'proto', 64))}
    assert routes == {'10.0.1.0/24', '192.0.0.8', '10.8.0.0/16', '10.9.9.0/24'}


def test_dynamic_mapping_in_the_way(gw):
    """Of another host: replaced, and named; of the host itself: its other address is free again."""
    gw.load()
    with Translator(gw) as t:
        first, second, third = (speak(t, n) for n in (1, 2, 3))
    done = gw.load('-v', *statics(f'2001:db8::5={first}', f'{address(2)}=10.0.1.200', f'{address(3)}={third}',
                                  '2001:db8:7::/124=10.0.1.240/28'))
    assert f'mapping {first} {address(1)} removed: its address has a static mapping\n' in done.stdout
    assert f'mapping {second} {address(2)} removed: the host has a static mapping\n' in done.stdout
    assert done.stdout.count('removed') == 2
    with Translator(gw) as t:
        assert to6(t, first) == '2001:db8::5' and to4(t, '2001:db8::5') == first
        assert to4(t, address(2)) == '10.0.1.200' and to6(t, '10.0.1.200') == address(2)
        assert to6(t, second) is None
        assert to4(t, address(3)) == third and to6(t, third) == address(3)
        assert to4(t, address(1)) not in (None, first, second, third)       # those that were free before come first
        assert speak(t, 4) not in (None, first, third, '10.0.1.200')
        table = {row['v4']: row['v6'] for row in mappings(gw) if '/' not in row['v4']}
        assert len(set(table.values())) == len(table)


def test_dynamic_mapping_in_the_way_of_a_prefix(gw):
    gw.load(v4='10.0.1.0/29')
    with Translator(gw) as t:
        given = {n: speak(t, n) for n in range(1, 7)}
    done = gw.load('-v', *statics('2001:db8:7::/126=10.0.1.0/30', 'fc00:66::/120=203.0.113.0/24'), v4='10.0.1.0/29')
    assert done.stdout.count('removed: ') == 6
    with Translator(gw) as t:
        for n, v4 in given.items():
            assert to4(t, address(n)) == f'203.0.113.{n}'
            assert to6(t, v4) == (f'2001:db8:7::{int(v4[-1])}' if int(v4[-1]) < 4 else None)
        assert t.mappings() == {}


def test_no_longer_static(gw):
    """A host that is allowed keeps its address, as a dynamic one; others do not. Held addresses are free again."""
    pairs = [f'{address(1)}=10.0.1.7', '2001:db8::5=10.0.1.8', '2001:db8:7::/126=10.0.1.12/30']
    gw.load(*statics(*pairs))
    with Translator(gw) as t:
        assert speak(t, 1) == '10.0.1.7'
    done = gw.load('-v')
    assert 'mapping 10.0.1.8 2001:db8::5 removed: the host is not allowed\n' in done.stdout
    with Translator(gw) as t:
        assert speak(t, 1) == '10.0.1.7' and to6(t, '10.0.1.7') == address(1)
        assert to6(t, '10.0.1.8') is None and to6(t, '10.0.1.13') is None
        assert sorted(consistent(t)) == [address(1)]
    assert [(row['v4'], row['type']) for row in mappings(gw)] == [('10.0.1.7', 'dynamic')]


BAD = {
    'no equals sign': (['2001:db8::5'], ['2001:db8::5']),
    'empty': ([''], ['-s']),
    'sides swapped': (['10.0.1.5=2001:db8::5'], ['10.0.1.5=2001:db8::5']),
    'bad v6': (['2001:db8:::5=10.0.1.5'], ['2001:db8:::5']),
    'bad v4': (['2001:db8::5=10.0.1.256'], ['10.0.1.256']),
    'v6 host bits': (['2001:db8::5/120=10.0.1.0/24'], ['2001:db8::/120']),
    'v4 host bits': (['2001:db8::/120=10.0.1.7/24'], ['10.0.1.0/24']),
    'lengths do not fit': (['2001:db8::/121=10.0.2.0/24'], ['2001:db8::/121=10.0.2.0/24']),
    'host to prefix': (['2001:db8::5=10.0.2.0/24'], ['fewer']),
    'junk behind': (['2001:db8::5=10.0.1.5x'], ['10.0.1.5x']),
    'very long': (['2001:db8::5=' + '1' * 1000], ['111']),
    'multicast': (['ff02::1=10.0.1.5'], ['multicast']),
    'link-local': (['fe80::1=10.0.1.5'], ['link-local']),
    'v4 multicast': (['2001:db8::5=224.0.0.1'], ['multicast']),
    'v4 broadcast': (['2001:db8::5=255.255.255.255'], ['broadcast']),
    'v4 prefix with broadcast': (['2001:db8:5::/120=255.255.255.0/24'], ['broadcast']),
    'inside the NAT64 prefix': (['64:ff9b::1=10.0.1.5'], ['64:ff9b::1=10.0.1.5', 'NAT64 prefix']),
    'contains the NAT64 prefix': (['64:ff9b::/32=10.0.1.5'], ['NAT64 prefix']),
    'contains icmp-src': (['2001:db8::/120=192.0.0.0/24'], ['192.0.0.0/24', '--icmp-src']),
    'same v4': (['2001:db8::5=10.0.1.5', '2001:db8::6=10.0.1.5'], ['2001:db8::5=10.0.1.5', '2001:db8::6=10.0.1.5']),
    'same v6': (['2001:db8::5=10.0.1.5', '2001:db8::5=10.0.1.6'], ['2001:db8::5=10.0.1.5', '2001:db8::5=10.0.1.6']),
    'same v4 prefix': (['2001:db8::/120=10.2.0.0/24', '2001:db8:1::/120=10.2.0.0/24'],
                       ['2001:db8::/120=10.2.0.0/24', '2001:db8:1::/120=10.2.0.0/24']),
    'same twice': (['2001:db8::5=10.0.1.5', '2001:db8::5=10.0.1.5'], ['2001:db8::5=10.0.1.5']),
}


@pytest.fixture(scope='module')
def loaded(module_net):
    module_net[1].load()
    return module_net[1]


@pytest.mark.parametrize('name', BAD)
def test_bad_input(loaded, name):
    pairs, names = BAD[name]
    stderr = loaded.nat64('-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', *statics(*pairs), rc=2).stderr
    assert all(n in stderr for n in names), stderr


CONFLICTS = {
    'address of the machine': ('2001:db8::5=192.0.2.1', '192.0.2.1'),
    'prefix with an address of the machine': ('2001:db8::/120=192.0.2.0/24', '192.0.2.1'),
    'routed elsewhere': ('2001:db8::/120=198.51.100.0/24', '198.51.100.0/24'),
    'part of it routed elsewhere': ('2001:db8::/112=198.51.0.0/16', '198.51.100.0/24'),
    'pool of another translator': ('2001:db8::5=10.0.7.7', '10.0.7.0/24'),
    'part of it is the pool of another translator': ('2001:db8::/112=10.0.0.0/16', '10.0.7.0/24'),
}


@pytest.mark.parametrize('name', CONFLICTS)
def test_conflict(net, lab, name):
    """Exit 1, the thing in the way named, and nothing changed."""
    _, gw, _ = net
    pair, names = CONFLICTS[name]
    lab.link(gw, 'eth2', lab.host('b6'), 'eth0')
    gw.load(i='eth2', v4='10.0.7.0/24')
    assert names in gw.load(*statics(pair), v4='172.16.0.0/24', rc=1).stderr


def test_wider_route_is_no_conflict(net):
    h6, gw, _ = net
    gw.load(*statics('fc00:6::6=198.18.0.7'))
    pings(h6)
