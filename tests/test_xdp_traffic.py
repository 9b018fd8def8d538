# SPDX-License-Identifier: GPL-2.0-or-later
"""--xdp on real traffic: what is plain goes past the stack and is the same as by it; all else meets the stack, and the tc
programs."""

import contextlib
import os
import random
import time

import pytest
from scapy.all import IP, TCP, UDP, IPv6, raw

from bpf import KERNEL, Translator
from frames import arrives, take_frames
from lab import NAT64, Crossing, embed, patience, standard
from paths import iperf
from test_fast_traffic import DATA, V4, V6, check, udp
from test_monitor import Listener, timeless


WAYS = {'tc': [], 'fast': ['--fast'], 'xdp': ['--xdp=veth']}


@pytest.fixture(scope='module', params=['veth', 'generic'])
def crossing(module_net, request):
    """With packets made by hand, whose checksums are finished."""
    h6, gw, h4 = module_net
    held = take_frames(h6, h4)
    gw.load(f'--xdp={request.param}')
    gw.sysctl('net.ipv4.icmp_ratelimit', 0)
    c = Crossing(*module_net)
    yield c
    c.close()
    gw.unload()
    for fd in held:
        os.close(fd)


TRAFFIC = {
    'udp': udp(100),
    'tcp': TCP(sport=1, dport=2, flags='A') / DATA[:900],
    'short': udp(3),
}


@pytest.mark.parametrize('name', TRAFFIC)
def test_past_the_stack(crossing, name):
    """What is plain does not meet the IPv4 stack, and is the same as by it."""
    six = four = TRAFFIC[name]
    by_stack = False
    check(crossing, 64, [IPv6(src=V6, dst=embed(V4), tc=0xb8) / six],
          [IP(src=crossing.pool_addr, dst=V4, tos=0xb8, ttl=63, id=0, flags=0) / four], by_stack)
    check(crossing, 46, [IP(src=V4, dst=crossing.pool_addr, id=7) / four],
          [IPv6(src=embed(V4), dst=V6, hlim=63) / six], by_stack)


def rest_meets_the_stack(c):
    """The answers are those of the stack and of the tc programs."""
    answer, = arrives(c.w6, c.w6, c.eth6 + raw(IPv6(src=V6, dst=embed(V4), hlim=1) / udp(9)))
    assert answer[6] == 58 and answer[40:42] == b'\3\0'
    answer, = arrives(c.w4, c.w4, c.eth4 + raw(IP(src=V4, dst=c.pool_addr, ttl=1) / udp(9)))
    assert answer[9] == 1 and answer[20:22] == b'\x0b\0'
    pieces = arrives(c.w6, c.w4, c.eth4 + raw(IP(src=V4, dst=c.pool_addr, id=7) / udp(1400)), 2)
    assert [p[6] for p in pieces] == [44, 44] and max(map(len, pieces)) == 1280
    answer, = arrives(c.w6, c.w6, c.eth6 + raw(IPv6(src='2001:db8::7', dst=embed(V4)) / udp(9)))
    assert answer[6] == 58 and answer[40:42] == b'\1\1'


def test_the_rest_meets_the_stack(crossing):
    rest_meets_the_stack(crossing)


def test_trace(crossing):
    """What somebody traces is seen, all of it; the rest goes on past the stack."""
    six = IPv6(src=V6, dst=embed(V4)) / udp(30)
    listener = Listener(crossing.gw, '--trace', f'{V6} udp port 5678', '--json')
    assert len(crossing.xlat64(*[six] * 100)) == 100
    assert len([line for line in timeless(listener.stop()) if line['verdict'] == 'translated']) == 100
    four = IP(src=crossing.pool_addr, dst=V4, ttl=63, id=0, flags=0) / udp(30)
    back6, back4 = IPv6(src=embed(V4), dst=V6, hlim=63) / udp(30), IP(src=V4, dst=crossing.pool_addr, id=7) / udp(30)
    for other in 'fc00:66::77', '203.0.113.77':
        listener = Listener(crossing.gw, '--trace', other, '--json')
        check(crossing, 64, [six], [four], False)
        check(crossing, 46, [back4], [back6], False)
        assert listener.stop() == []
    for mine in V6, embed(V4), crossing.pool_addr, V4, 'udp':
        listener = Listener(crossing.gw, '--trace', mine, '--json')
        assert len(crossing.xlat46(*[back4] * 20)) == 20
        assert len([line for line in timeless(listener.stop()) if line['in']['length'] == 58]) == 20


def test_tcp(net):
    """Of hosts on the same machine, whose checksums are not finished when XDP sees them."""
    h6, gw, h4 = net
    held = take_frames(h6, h4)
    for mode in 'veth', 'generic':
        gw.load(f'--xdp={mode}')
        for options in ['-n', '5M'], ['-n', '5M', '-R']:
            end = iperf(h4, h6, embed('192.0.2.2'), *options)
            assert end['sum_received']['bytes'] > 0        # what is still on its way when it ends does not count
        with Translator(gw) as t:
            assert not any(t.stats()['drops'])
    for fd in held:
        os.close(fd)


def test_nothing_is_lost_between_configurations(net):
    """From one way to the next while packets flow: all arrive, and once. A driver may lose some when XDP comes to it or goes, as
    veth did on older kernels."""
    h6, gw, h4 = net
    held = take_frames(h6, h4)
    gw.load()
    with contextlib.closing(Crossing(*net)) as c:
        packet = c.eth6 + raw(IPv6(src=V6, dst=embed(V4)) / udp(9))
        lost, ways = [], ['tc', 'xdp', 'xdp', 'fast', 'xdp', 'tc']
        for way in ways[1:]:
            p = gw.start(NAT64, '-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', *WAYS[way])
            sent = received = 0
            while p.poll() is None or sent < 100:
                c.w6.send(packet)
                sent += 1
                time.sleep(0.0005)
                while c.w4.read(0):
                    received += 1
            assert p.returncode == 0
            while received < sent and c.w4.read(patience(2)):
                received += 1
            lost.append(sent - received)
    print(f'lost: {lost}')
    for before, way, n in zip(ways, ways[1:], lost):
        assert 0 <= n <= (5 if KERNEL < (5, 13) and before != way else 0), lost
    gw.run(NAT64, '-i', 'eth0', '-u')
    gw.loaded.clear()
    for fd in held:
        os.close(fd)


# Length of the payload: does it lie in several buffers? One is a page, less what the kernel keeps before and behind a frame.
JUMBO = {100: False, 3000: False, 8900: True}


@pytest.mark.parametrize('mode', ['veth', 'generic'])
def test_large_mtu(lab, mode):
    """Frames that lie in several buffers meet the stack; all others go past it, as with any MTU. In generic mode all lie in one."""
    net = h6, gw, h4 = standard(lab, 9000, 9000)
    if mode == 'veth' and KERNEL < (5, 18):
        assert 'MTU' in gw.load('--xdp=veth', rc=1).stderr
    else:
        if mode == 'veth':
            take_frames(h6, h4)
        gw.load(f'--xdp={mode}')
        with contextlib.closing(Crossing(*net)) as c:
            for size, several in JUMBO.items():
                by_stack = several and mode != 'generic'
                payload = UDP(sport=1234, dport=5678) / random.randbytes(size)
                flags = 'DF' if size > 1260 else 0
                check(c, 64, [IPv6(src=V6, dst=embed(V4)) / payload],
                      [IP(src=c.pool_addr, dst=V4, ttl=63, id=0, flags=flags) / payload], by_stack)
                check(c, 46, [IP(src=V4, dst=c.pool_addr, id=7, flags=flags) / payload],
                      [IPv6(src=embed(V4), dst=V6, hlim=63) / payload], by_stack)
            payload = UDP(sport=1234, dport=5678) / random.randbytes(8900)
            without = UDP(sport=1234, dport=5678, chksum=0) / payload.payload
            check(c, 46, [IP(src=V4, dst=c.pool_addr, id=7, flags='DF') / without], [IPv6(src=embed(V4), dst=V6, hlim=63) / payload], True)
        for options in ['-n', '5M'], ['-n', '5M', '-R']:
            assert iperf(h4, h6, embed('192.0.2.2'), *options)['sum_received']['bytes'] > 0
        with Translator(gw) as t:
            assert not any(t.stats()['drops'])
