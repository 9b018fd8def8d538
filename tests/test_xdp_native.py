# SPDX-License-Identifier: GPL-2.0-or-later
"""--xdp in a real driver: four network cards of virtio_net, joined in pairs, in a virtual machine (tests/vmrun --pairs 2 names
them in NAT64_TEST_CARDS)."""

import contextlib
import os
import struct
import time

import pytest
from scapy.all import IP, TCP, UDP, IPv6, raw

import conftest
from bpf import KERNEL, XDP_DRIVER, Translator, xdp_program
from frames import trim
from lab import NAT64, Crossing, Lab, embed, patience
from paths import iperf
from test_fast import pings
from test_fast_traffic import DATA, V4, V6, forwarded, udp
from test_packets import without_id
from test_xdp_attach import BOTH, POOL, programs, status
from test_xdp_traffic import rest_meets_the_stack

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
        gw.forwards()
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


def one_by_one(c, way, packet, many=60):
    """Sends a packet many times, each when the one before it has arrived: the emulation's queues are short. What comes out, without
    identifications that are any, and how many of them the stack has forwarded."""
    near, far, eth = (c.w6, c.w4, c.eth6) if way == 64 else (c.w4, c.w6, c.eth4)
    while far.read(0.1):
        pass
    before, out = forwarded(c.gw), []
    for _ in range(many):
        near.send(eth + raw(packet))
        out.append(far.read(patience(5)))
        assert out[-1], f'packet {len(out)} did not arrive'
    return [without_id(trim(p)) if way == 64 else trim(p) for p in out], forwarded(c.gw) - before


PACKETS = {'udp': udp(100), 'short': udp(1), 'tcp': TCP(sport=1, dport=2, flags='A') / DATA[:1200]}


@pytest.mark.parametrize('name', PACKETS)
def test_past_the_stack(crossing, name):
    """But for one to each next hop four times a second: and a slow machine takes seconds for these."""
    payload = PACKETS[name]
    for way, packet, want in (64, IPv6(src=V6, dst=embed(V4), tc=0xb8) / payload,
                              IP(src=crossing.pool_addr, dst=V4, tos=0xb8, ttl=63, id=0, flags=0) / payload), \
            (46, IP(src=V4, dst=crossing.pool_addr, id=7) / payload, IPv6(src=embed(V4), dst=V6, hlim=63) / payload):
        start = time.monotonic()
        out, by_stack = one_by_one(crossing, way, packet)
        assert [bytes(p) for p in out] == [raw(want)] * len(out)
        assert by_stack <= 10 * (time.monotonic() - start) + 5 and by_stack < len(out)


def test_the_rest_meets_the_stack(crossing):
    rest_meets_the_stack(crossing)


@pytest.mark.parametrize('options', [['-n', '2M'], ['-n', '2M', '-R']], ids=' '.join)
def test_tcp(crossing, net, options):
    h6, gw, h4 = net
    with Translator(gw) as t:
        before = t.stats()
        end = iperf(h4, h6, embed('192.0.2.2'), *options)
        assert end['sum_received']['bytes'] > 0        # what is still on its way when it ends does not count
        assert t.stats()['drops'] == before['drops']


def flood(c, argv):
    """Runs nat64 while packets flow, each with a number; returns how many were lost."""
    p = c.gw.start(NAT64, '-i', 'eth0', *POOL, *argv)
    sent, seen = 0, set()

    def take(timeout):
        packet = c.w4.read(timeout)
        if packet and packet[9] == 17 and len(packet) == 20 + 8 + 20:
            seen.add(packet[28:])
        return packet
    token = os.urandom(12)
    while p.poll() is None or sent < 100:
        c.w6.send(c.eth6 + raw(IPv6(src=V6, dst=embed(V4)) / UDP(sport=1234, dport=5678) / (token + struct.pack('!Q', sent))))
        sent += 1
        time.sleep(0.002)
        while take(0):
            pass
    assert p.returncode == 0
    while len(seen) < sent and take(patience(2)):
        pass
    return sent - len([number for number in seen if number.startswith(token)])


def test_between_configurations(crossing):
    """What is lost is what the driver drops while it makes room for XDP, or gives it back: none when the program changes."""
    assert flood(crossing, ['--xdp', '-t', '60']) == 0
    lost = [(' '.join(argv) or 'tc', flood(crossing, argv)) for argv in ([], ['--xdp'], ['--fast'], ['--xdp', '--fast'], ['--xdp'])]
    print(f'lost: {lost}')
    assert lost[-1][1] == 0
    assert max(n for _, n in lost) < 500


def test_unload(crossing, net):
    gw = crossing.gw
    gw.run(NAT64, '-i', 'eth0', '-u')
    assert programs(gw) == {}
    gw.run(NAT64, '-i', 'eth0', *POOL)
    pings(net[0])
