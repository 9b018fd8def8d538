# SPDX-License-Identifier: GPL-2.0-or-later
"""The ICMP errors that nat64 itself sends (RFC 7915 sections 4.4 and 5.4), as programs on both sides see them. Their
bytes are in test_rfc.py."""

import errno
import re
import socket
import time

import pytest
from scapy.all import ICMP, IP, TCP, UDP, ICMPv6DestUnreach, IPv6, raw

from bpf import TC_ACT_REDIRECT, TC_ACT_SHOT, Translator
from lab import Wire, embed, one_cpu, wait_for

SERVER = '192.0.2.2'
STRANGER = '2001:db8:bad::1'
NOBODY = '10.0.1.200'


def socket_of(host, family, kind):
    with host:
        return socket.socket(family, kind)


def connect_error(host, address, port=80, source=None):
    """What TCP's connect() says."""
    with socket_of(host, socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_STREAM) as s:
        if source:
            s.bind((source, 0))
        s.settimeout(10)
        try:
            s.connect((address, port))
        except TimeoutError:
            return 'time-out'
        except OSError as e:
            return e.errno
        return 0


def datagram_error(host, address, source=None, size=5):
    """What a connected UDP socket says after a datagram."""
    with socket_of(host, socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(*(socket.IPPROTO_IPV6, 25) if ':' in address else (socket.IPPROTO_IP, 11), 1)      # RECVERR: tell all
        if source:
            s.bind((source, 0))
        s.connect((address, 9))
        s.settimeout(10)
        s.send(bytes(size))
        try:
            s.recv(10)
        except TimeoutError:
            return 'time-out'
        except OSError as e:
            return e.errno
        return 0


def ping_says(host, *argv):
    return host.run('ping', '-c1', '-W10', *argv, check=False).stdout


@pytest.fixture
def strict(net):
    """The manual's translator, on a gateway and between hosts that check the sources of what they get. The hosts leave
    checksums to their network cards, and those of the gateway cannot compute any: what is left undone shows."""
    h6, gw, h4 = net
    for host in net:
        for conf in 'all', 'default', 'eth0':
            host.sysctl(f'net.ipv4.conf.{conf}.rp_filter', 1)
    gw.sysctl('net.ipv4.conf.eth1.rp_filter', 1)
    for ifname in 'eth0', 'eth1':
        gw.run('ethtool', '-K', ifname, 'tx', 'off')
    h6.addr('eth0', f'{STRANGER}/128')
    gw.route(f'{STRANGER}/128', 'via', 'fc00:6::6')
    gw.load()
    return net


def test_a_host_that_is_not_allowed_is_told(strict):
    h6, gw, _ = strict
    server = embed(SERVER)
    said = ping_says(h6, '-I', STRANGER, server)
    assert re.search(f'From {server}.* Destination unreachable: Administratively prohibited', said), said
    assert connect_error(h6, server, source=STRANGER) == errno.EACCES
    for size in 0, 5, 200, 1400:
        assert datagram_error(h6, server, STRANGER, size) == errno.EACCES
    with Translator(gw) as t:
        assert set(t.drops()) == {'not-allowed'} and t.drops()['not-allowed'] >= 6
        assert t.stats()['packets'] == [0, 0]


def test_a_client_of_an_address_without_host_is_told(strict):
    _, gw, h4 = strict
    said = ping_says(h4, NOBODY)
    assert re.search(f'From {NOBODY} .*Destination Host Unreachable', said), said
    for host in h4, gw:                 # the gateway itself is a client like any other
        assert connect_error(host, NOBODY) == errno.EHOSTUNREACH
        for size in 0, 5, 200, 1400:
            assert datagram_error(host, NOBODY, size=size) == errno.EHOSTUNREACH
    with Translator(gw) as t:
        assert set(t.drops()) == {'no-mapping'}
        assert t.stats()['packets'] == [0, 0]


def test_static_mappings_outside_the_pool(strict):
    """Their routes lead here, and an address that stands for nobody has none."""
    _, gw, h4 = strict
    gw.load('-s', 'fc00:77::/120=203.0.113.0/24')
    assert connect_error(h4, '10.0.1.77') == errno.EHOSTUNREACH
    assert connect_error(h4, '203.0.113.9') == errno.EHOSTUNREACH        # fc00:77::9: no route to it
    with Translator(gw) as t:
        assert set(t.drops()) == {'no-mapping', 'no-route'}


def test_a_full_pool_is_told(strict):
    h6, gw, _ = strict
    gw.load(v4='10.0.1.0/31')
    h6.addr('eth0', *(f'fc00:6::{n}/64' for n in (7, 8, 9)))
    for n in 7, 8:
        ping_says(h6, '-I', f'fc00:6::{n}', embed(SERVER))
    assert re.search('Destination unreachable: Address unreachable', ping_says(h6, '-I', 'fc00:6::9', embed(SERVER)))
    assert connect_error(h6, embed(SERVER), source='fc00:6::9') == errno.EHOSTUNREACH
    with Translator(gw) as t:
        assert set(t.drops()) == {'pool-full'}


def mapped(gw, h6):
    """The pool's address of h6, and when it was last seen."""
    h6.run('ping', '-c1', '-I', 'fc00:6::6', embed(SERVER))
    with Translator(gw) as t:
        return t.mappings()['fc00:6::6']


def test_a_mapped_host_without_route_is_told(strict):
    """Found out when the packet is IPv6 already: its answer goes back through the translator. It keeps no mapping alive."""
    h6, gw, h4 = strict
    host = mapped(gw, h6)
    gw.ip('-6', 'route', 'add', 'unreachable', 'fc00:6::6/128')
    time.sleep(1.2)                 # the next hop is remembered for a quarter of a second, the mapping fresh for one
    said = ping_says(h4, host.v4)
    assert re.search(f'From {host.v4} .*Destination Host Unreachable', said), said
    assert connect_error(h4, host.v4) == errno.EHOSTUNREACH
    assert datagram_error(h4, host.v4) == errno.EHOSTUNREACH
    with Translator(gw) as t:
        assert set(t.drops()) == {'no-route'}
        assert t.stats()['packets'] == [1, 1], 'the ping; the answers are not packets that somebody sent'
        assert t.mappings()['fc00:6::6'] == host


def test_a_link_whose_mtu_was_lowered_is_told(strict):
    """The route to the pool still has the MTU that the interface had: the translator finds out."""
    h6, gw, h4 = strict
    host = mapped(gw, h6)
    h6.ip('link', 'set', 'eth0', 'mtu', 1400)
    gw.ip('link', 'set', 'eth0', 'mtu', 1400)
    time.sleep(0.3)
    with socket_of(h4, socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.IPPROTO_IP, 10, 2)      # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        s.connect((host.v4, 9))
        s.send(bytes(1400))
        wait_for(lambda: s.getsockopt(socket.IPPROTO_IP, 14) != 1500, 'the path MTU')       # IP_MTU
        with open('/proc/version', encoding='ascii') as f:
            version = tuple(map(int, re.search(r'version (\d+)\.(\d+)', f.read()).groups()))
        assert s.getsockopt(socket.IPPROTO_IP, 14) == (1380 if version >= (5, 13) else 1260)
    with Translator(gw) as t:
        assert set(t.drops()) == {'too-big'}
    for h in h6, gw:
        h.ip('link', 'set', 'eth0', 'mtu', 1500)


# Frames of a stranger's packet: to us, and to others.
FRAMES = {'to us': (None, True), 'broadcast': ('ff:ff:ff:ff:ff:ff', False), 'multicast': ('33:33:00:00:00:01', False),
          'to another machine': ('02:00:00:00:00:77', False)}


@pytest.mark.parametrize('name', FRAMES)
def test_link_layer_groups_get_no_answer(strict, name):
    """RFC 4443 section 2.4 (e.4), (e.5)."""
    h6, gw, _ = strict
    mac, answered = FRAMES[name]
    mac = bytes.fromhex((mac or gw.mac('eth0')).replace(':', ''))
    wire = Wire(h6)
    packet = raw(IPv6(src=STRANGER, dst=embed(SERVER)) / UDP(sport=1, dport=2) / b'x')
    wire.send(mac + wire.mac + b'\x86\xdd' + packet)
    with Translator(gw) as t:       # what was not sent to the interface itself is left to the stack, which drops it
        if answered:
            wait_for(lambda: t.drops() == {'not-allowed': 1}, 'the drop')
        got = wire.read(5 if answered else 0.2)
        assert t.drops() == ({'not-allowed': 1} if answered else {})
    assert bool(got) == answered
    if got:
        answer = IPv6(got)
        assert (answer.src, answer.dst, answer[ICMPv6DestUnreach].code) == (embed(SERVER), STRANGER, 1)
    wire.close()


def six(src=STRANGER):
    return raw(IPv6(src=src, dst=embed(SERVER)) / TCP(sport=1, dport=2))


def four(src, dst=NOBODY):
    return raw(IP(src=src, dst=dst) / TCP(sport=1, dport=2))


def answered(run, packets):
    """How many of these one CPU answers, and in how many seconds at most."""
    start = time.monotonic()
    with one_cpu():
        verdicts = [run(p)[0] for p in packets]
    assert set(verdicts) <= {TC_ACT_SHOT, TC_ACT_REDIRECT}
    return verdicts.count(TC_ACT_REDIRECT), time.monotonic() - start


def test_answers_are_limited(strict):
    """RFC 4443 section 2.4 (f), RFC 1812 section 4.3.2.8: token buckets of a second's worth for each CPU. One source
    has a tenth; neither that nor the other side's flood takes all."""
    _, gw, _ = strict
    for rate, of_one in (100, 10), (20, 2), (5, 1):
        gw.load('--icmp-rate', rate)
        with Translator(gw) as t:
            for run, one, others in (
                    (t.run64, six(), [six(f'2001:db8:bad::{n:x}:0') for n in range(1, 400)]),
                    (t.run46, four('198.51.100.1'), [four(f'198.51.{100 + n // 250}.{n % 250 + 2}') for n in range(400)])):
                n, seconds = answered(run, [one] * 100)
                assert of_one <= n <= of_one + seconds * rate / 10 + 1, (rate, n, seconds)
                more, also = answered(run, others)
                seconds += also
                assert rate * 0.5 <= n + more <= rate + seconds * rate + 1, (rate, n, more, seconds)
    gw.load('--icmp-rate', 0)
    with Translator(gw) as t:
        assert answered(t.run64, [six()] * 5)[0] == answered(t.run46, [four('198.51.100.1')] * 5)[0] == 0


def test_what_is_not_answered_takes_no_token(strict):
    """A flood of errors, or from nowhere, leaves the answers to those who get them."""
    _, gw, _ = strict
    gw.load('--icmp-rate', 10)
    with Translator(gw) as t:
        error = raw(IP(src='198.51.100.1', dst=NOBODY) / ICMP(type=3, code=1)) + four(NOBODY, '198.51.100.1')
        assert answered(t.run46, [error] * 50)[0] == 0
        assert answered(t.run46, [four('198.51.100.1')])[0] == 1
        assert answered(t.run64, [six('fe80::1')] * 50)[0] == 0
        assert answered(t.run64, [six()])[0] == 1
