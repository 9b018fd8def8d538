# SPDX-License-Identifier: GPL-2.0-or-later
"""--xdp in a real driver: four network cards of virtio_net, joined in pairs, in a virtual machine (tests/vmrun --pairs 2 names
them in NAT64_TEST_CARDS)."""

import contextlib
import json
import os
import time

import pytest
from scapy.all import IP, TCP, IPv6, raw

import conftest
from bpf import KERNEL, XDP_DRIVER, Translator, xdp_program
from lab import NAT64, Crossing, Lab, embed, patience
from paths import iperf
from test_fast import pings
from test_fast_traffic import DATA, V4, V6, check, udp
from test_xdp_attach import BOTH, POOL, programs, status

CARDS = os.environ.get('NAT64_TEST_CARDS', '').split()
pytestmark = pytest.mark.skipif(len(CARDS) != 4, reason='NO network cards that may be used: see make test-kernels')


@pytest.fixture(scope='module')
def net():
    """h6 - gw - h4 as lab.standard() has it, over the cards."""
    with Lab() as lab:
        conftest.OPEN.append(lab)
        hosts = h6, gw, h4 = lab.hosts('h6', 'gw', 'h4')
        for host, card, name in zip((h6, gw, gw, h4), CARDS, ('eth0', 'eth0', 'eth1', 'eth0')):
            os.system(f'ip link set {card} netns {host.ns} name {name}')
            host.ip('link', 'set', name, 'up')
        gw.sysctl('net.ipv4.ip_forward', 1)
        gw.sysctl('net.ipv6.conf.all.forwarding', 1)
        for host, ifname, *addresses in (h6, 'eth0', 'fc00:6::6/64'), (gw, 'eth0', 'fc00:6::1/64'), \
                (gw, 'eth1', '192.0.2.1/24'), (h4, 'eth0', '192.0.2.2/24'):
            host.addr(ifname, *addresses)
        h6.route('default', 'via', 'fc00:6::1')
        h4.route('default', 'via', '192.0.2.1')
        gw.route('fc00:66::/64', 'via', 'fc00:6::6')
        gw.route('198.51.100.0/24', 'via', '192.0.2.2')
        yield hosts
    conftest.OPEN.remove(lab)


@pytest.fixture(scope='module')
def crossing(net):
    """Loaded; or skipped, where the driver wants more queues than a card of the emulation has."""
    gw = net[1]
    done = gw.run(NAT64, '-i', 'eth0', *POOL, '--xdp', check=False)
    if KERNEL < (5, 13) and done.returncode:
        assert 'eth0 cannot have it: ' in done.stderr and programs(gw) == {}
        pytest.skip(f'NO native XDP in this driver: {done.stderr.strip()}')
    assert done.returncode == 0, done.stderr
    with contextlib.closing(Crossing(*net)) as c:
        yield c
    gw.run(NAT64, '-i', 'eth0', '-u', check=False)


def test_attached(crossing):
    assert programs(crossing.gw) == BOTH and {xdp_program(crossing.gw, name)[2] for name in BOTH} == {XDP_DRIVER}
    assert status(crossing.gw)['xdp'] == {'interfaces': ['eth0', 'eth1'], 'mode': 'native'} and status(crossing.gw)['working']


PACKETS = {'udp': udp(100), 'short': udp(1), 'tcp': TCP(sport=1, dport=2, flags='A') / DATA[:1200]}


@pytest.mark.parametrize('name', PACKETS)
def test_past_the_stack(crossing, name):
    payload = PACKETS[name]
    check(crossing, 64, [IPv6(src=V6, dst=embed(V4), tc=0xb8) / payload],
          [IP(src=crossing.pool_addr, dst=V4, tos=0xb8, ttl=63, id=0, flags=0) / payload], False)
    check(crossing, 46, [IP(src=V4, dst=crossing.pool_addr, id=7) / payload],
          [IPv6(src=embed(V4), dst=V6, hlim=63) / payload], False)


def test_the_rest_meets_the_stack(crossing):
    assert crossing.xlat64(*[IPv6(src=V6, dst=embed(V4), hlim=1) / udp(9)] * 9) == []
    assert crossing.back and {(p[40], p[41]) for p in crossing.back if p[6] == 58} == {(3, 0)}
    out = crossing.xlat46(*[IP(src=V4, dst=crossing.pool_addr, id=7) / udp(1400)] * 10)
    assert len(out) == 20 and max(map(len, out)) == 1280
    out = crossing.xlat64(*[IPv6(src='2001:db8::7', dst=embed(V4)) / udp(9)] * 9)
    assert out == [] and (1, 1) in {(p[40], p[41]) for p in crossing.back}


@pytest.mark.parametrize('options', [['-n', '2M'], ['-n', '2M', '-R']], ids=' '.join)
def test_tcp(crossing, net, options):
    h6, gw, h4 = net
    with Translator(gw) as t:
        before = t.stats()
        end = iperf(h4, h6, embed('192.0.2.2'), *options)
        assert end['sum_received']['bytes'] >= end['sum_sent']['bytes'] / 10
        assert t.stats()['drops'] == before['drops']


def flood(c, argv):
    """Runs nat64 while packets flow; returns how many were lost."""
    packet = c.eth6 + raw(IPv6(src=V6, dst=embed(V4)) / udp(9))
    p = c.gw.start(NAT64, '-i', 'eth0', *POOL, *argv)
    sent = received = 0
    while p.poll() is None or sent < 100:
        c.w6.send(packet)
        sent += 1
        time.sleep(0.002)
        while c.w4.read(0):
            received += 1
    assert p.returncode == 0
    while received < sent and c.w4.read(patience(2)):
        received += 1
    return sent - received


def test_between_configurations(crossing):
    """What is lost is what the driver drops while it makes room for XDP, or gives it back: none when the program changes."""
    assert flood(crossing, ['--xdp', '-t', '60']) == 0
    lost = {' '.join(argv) or 'tc': flood(crossing, argv) for argv in ([], ['--xdp'], ['--fast'], ['--xdp', '--fast'], ['--xdp'])}
    print(f'lost: {json.dumps(lost)}')
    assert lost['--xdp'] == 0
    assert max(lost.values()) < 500


def test_unload(crossing, net):
    gw = crossing.gw
    gw.run(NAT64, '-i', 'eth0', '-u')
    assert programs(gw) == {}
    gw.run(NAT64, '-i', 'eth0', *POOL)
    pings(net[0])
