# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP in tunnels whose outer packets cross the translator, in super-packets: the hosts hand them over, as any good card
takes them, or the gateway's own GRO makes them. What leaves the gateway is as on a wire: single packets, with checksums
that the receiver looks at. Compared with the same tunnel between IPv4 and IPv4, in the same lab, in turn."""

import os
import re

import pytest

import bpf
from lab import embed, patience
from paths import H4, H6, fetch, ping, serve, v4_of

BYTES = int(os.environ.get('NAT64_TEST_BYTES', 8 << 20))
HOME4 = '203.0.113.6'       # of the IPv6 host, for the other tunnel
ROUNDS = 3

# name -> (type and options at the IPv6 end, at an IPv4 end, IP version inside, whether super-packets cross in one: 6→4,
# 4→6). Where they do not, each segment goes through a stack once more than others.
ZERO6, DF = 'udp6zerocsumtx udp6zerocsumrx', 'df set'
KINDS = {
    'ipip': ('ip6tnl mode ipip6 encaplimit none', 'ipip', 4, (False, False)),
    'ipip-option': ('ip6tnl mode ipip6 encaplimit 4', 'ipip', 4, (False, False)),
    '6in4': ('ip6tnl mode ip6ip6 encaplimit none', 'sit', 6, (False, False)),
    'gre4': ('ip6gre encaplimit none', 'gre', 4, (True, True)),
    'gre6': ('ip6gre encaplimit none', 'gre', 6, (True, True)),
    'gretap': ('ip6gretap encaplimit none', 'gretap', 4, (True, True)),
    'vxlan4': ('vxlan dstport 4789', f'vxlan dstport 4789 {DF}', 4, (True, True)),
    'vxlan6': ('vxlan dstport 4789', f'vxlan dstport 4789 {DF}', 6, (True, True)),
    'vxlan4-nocsum': (f'vxlan dstport 4789 {ZERO6}', 'vxlan dstport 4789 noudpcsum', 4, (True, False)),
    'vxlan6-nocsum': (f'vxlan dstport 4789 {ZERO6}', 'vxlan dstport 4789 noudpcsum', 6, (True, False)),
    'geneve': ('geneve', f'geneve udpcsum {DF}', 4, (True, True)),
    'geneve-nocsum': (f'geneve {ZERO6}', 'geneve noudpcsum', 6, (True, False)),
}


new = pytest.mark.skipif(bpf.KERNEL < (6, 3), reason='NO help of the kernel for tunnels before 6.3')
old = pytest.mark.skipif(bpf.KERNEL >= (6, 3), reason='the kernel shows what is in a tunnel')


@pytest.fixture
def big(tmp_path):
    path = tmp_path / 'big'
    path.write_bytes(os.urandom(BYTES))
    return path


def add(host, name, what, number, local, remote, address):
    """One end of a tunnel."""
    kind, *options = what.split()
    if kind in ('vxlan', 'geneve'):
        options = ['id', str(number), *options]
    if kind == 'vxlan':
        options += ['dev', 'eth0']
    if kind != 'geneve':
        options += ['local', local]
    done = host.run('ip', 'link', 'add', 'name', name, 'type', kind, *options, 'remote', remote, check=False)
    if re.search('Unknown device type|Operation not supported', done.stderr):
        pytest.skip(f'NO {kind} in this kernel')
    assert done.returncode == 0, done.stderr
    host.ip('link', 'set', name, 'mtu', 1380, 'up')
    host.addr(name, address)


def inner(version, number, host):
    return f'172.16.{number}.{host}' if version == 4 else f'fd00:{number}::{host}'


def seconds(host, address, path):
    """How long a download takes, with its contents compared."""
    url = f'[{address}]' if ':' in address else address
    fetch(host, url, path, timeout=30)
    return float(host.run('curl', '-sS', '-g', '-o', '/dev/null', '-m', patience(30), '-w', '%{time_total}',
                          f'http://{url}/{path.name}').stdout)


def best(plain, other):
    """The least time of both, measured in turn."""
    times = [(plain(), other()) for _ in range(ROUNDS)]
    return min(t for t, _ in times), min(t for _, t in times)


@pytest.fixture
def wire(net):
    """Whatever leaves the gateway is as on a wire. Nothing loaded."""
    for ifname in 'eth0', 'eth1':
        net[1].run('ethtool', '-K', ifname, 'tx', 'off', 'tso', 'off', 'gso', 'off', 'tx-udp-segmentation', 'off')
    return net


def tunnels(net, kind, i='eth0'):
    """Two of them between the same hosts, number 1 past the translator, whose interface is i, and number 2 across."""
    h6, gw, h4 = net
    six, four, version, _ = KINDS[kind]
    h6.addr('eth0', f'{HOME4}/24')
    gw.addr('eth0', '203.0.113.1/24')
    h6.route('192.0.2.0/24', 'via', '203.0.113.1')
    ping(h6, embed(H4))
    pool = v4_of(gw, H6, i)
    mask = '/24' if version == 4 else '/64'
    for name, number, ends in ('plain', 1, ((h6, four, HOME4, H4), (h4, four, H4, HOME4))), \
                              ('across', 2, ((h6, six, H6, embed(H4)), (h4, four, H4, pool))):
        for n, (host, what, local, remote) in enumerate(ends, 1):
            add(host, name, what, number, local, remote, inner(version, number, n) + mask)
    for number in 1, 2:
        ping(h6, inner(version, number, 2))


def single_packets(host):
    """What a host sends is as if it came by a wire."""
    for ifname in 'eth0', 'plain', 'across':
        host.run('ethtool', '-K', ifname, 'tso', 'off', 'gso', 'off', 'tx', 'off')


def gro(gw, what):
    for ifname in 'eth0', 'eth1':
        gw.run('ethtool', '-K', ifname, 'gro', what)


def changes(t, work):
    """What the translator counts while work is done: the reasons to drop that it had, for each way, packets, and bytes; and
    what work returns."""
    before = t.stats()
    done = work()
    after = t.stats()
    reasons = [{name for name, n in now.items() if n != then.get(name)}
               for then, now in zip(before['drops'], after['drops'])]
    return reasons, *([b - a for a, b in zip(before[what], after[what])] for what in ('packets', 'bytes')), done


WAYS = [('6to4', 'h4', 1), ('4to6', 'h6', 2)]


def compare(net, big, kind, who, i='eth0'):
    """Super-packets cross, of the hosts or of the gateway's GRO, without loss, and about as fast as plain forwarding."""
    h6, gw, h4 = net
    _, _, version, in_one = KINDS[kind]
    tunnels(net, kind, i)
    if who == 'gateway':
        single_packets(h6)
        single_packets(h4)
        gro(gw, 'on')
    for host in h6, h4:
        serve(host, big.parent, '::')
    for index, (way, client, n) in enumerate(WAYS):
        client = {'h4': h4, 'h6': h6}[client]
        with bpf.Translator(gw, i) as t:
            dropped, packets, size, (plain, across) = changes(t, lambda c=client, n=n: best(
                lambda: seconds(c, inner(version, 1, n), big), lambda: seconds(c, inner(version, 2, n), big)))
        length = size[index] / packets[index]
        print(f'{kind} {who} {way}: {plain:.4f} s, across {across:.4f} s, ratio {across / plain:.2f}, {length:.0f} bytes')
        assert not any(dropped), dropped
        assert across < (3 if in_one[index] else 10) * plain, f'{way}: {across:.3f} s, plain forwarding {plain:.3f} s'
        if who == 'hosts':
            assert (length > 2000) == in_one[index], f'{way}: {length:.0f} bytes a packet'


@new
@pytest.mark.parametrize('who', ['hosts', 'gateway'])
@pytest.mark.parametrize('kind', KINDS)
def test_tcp_in_tunnel(wire, big, kind, who):
    wire[1].load()
    compare(wire, big, kind, who)


@new
@pytest.mark.parametrize('kind', ['vxlan4', 'vxlan6-nocsum'])
def test_on_a_device(wire, big, kind):
    wire[1].load(device='nat64')
    compare(wire, big, kind, 'hosts', 'nat64')


@new
@pytest.mark.parametrize('kind', ['vxlan6', 'vxlan4-nocsum'])
def test_fast(wire, big, kind):
    """What is unusual takes the ordinary way, and segments have to."""
    wire[1].load('--fast')
    compare(wire, big, kind, 'hosts')


@old
@pytest.mark.parametrize('kind', ['ipip', 'gre4', 'vxlan4', 'vxlan4-nocsum'])
def test_tcp_in_tunnel_without_help_of_the_kernel(wire, tmp_path, kind):
    """What cannot be translated is dropped and counted; with single packets, as the manual says, all is well."""
    h6, gw, h4 = wire
    gw.load()
    version = KINDS[kind][2]
    (tmp_path / 'big').write_bytes(os.urandom(200000))
    tunnels(wire, kind)
    for host in h6, h4:
        serve(host, tmp_path, '::')
    fetch6 = ['curl', '-sS', '-o', '/dev/null', '-m', patience(1), f'http://{inner(version, 2, 2)}/big']
    with bpf.Translator(gw, 'eth0') as t:
        dropped, *_ = changes(t, lambda: h6.run(*fetch6, check=False))
        assert dropped[0] <= {'offload'} and dropped[1] == {'offload'}
    single_packets(h6)
    single_packets(h4)
    gro(gw, 'off')
    for _, client, n in WAYS:
        fetch({'h4': h4, 'h6': h6}[client], inner(version, 2, n), tmp_path / 'big', timeout=30)
