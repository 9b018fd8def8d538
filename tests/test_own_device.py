# SPDX-License-Identifier: GPL-2.0-or-later
"""--device: a device of nat64's own, which translates whatever is routed to it, from anywhere."""

import json
import os
import re
import socket

import pytest
from bpf import Translator
from lab import NAT64, embed, patience, standard, wait_for
from paths import fetch, hops, iperf, ping, serve, v4_of
from test_devices import needs, not_here, site, wireguard_over
from test_hop import FLOWTABLE, MASQUERADE, conntrack
from test_load import inject, state, trace
from test_neighbours import tunnel

H4, WEB = '192.0.2.2', embed('192.0.2.2')
FIREWALL = '''
table ip nat {
    chain post { type nat hook postrouting priority srcnat; oifname "wan" ip daddr 203.0.113.0/24 masquerade; }
}
table ip f {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname "nat64" accept
        iifname "wan" oifname "nat64" ip daddr 10.0.1.0/28 accept
    }
}
table ip6 f {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname { "lan0", "lan1" } oifname "nat64" accept
        iifname "nat64" oifname { "lan0", "lan1" } accept
    }
}
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(os.urandom(2_000_000))
    return path


class Router:
    """Two LANs, a host behind another router on the second, and IPv4 behind wan; strict reverse path filters and stateful
    firewalls in both families. LANs have no IPv4 address."""

    def __init__(self, lab):
        self.a, self.b, self.r, self.c, self.gw, self.h4 = lab.hosts('a', 'b', 'r', 'c', 'gw', 'h4')
        lab.link(self.a, 'eth0', self.gw, 'lan0')
        lab.switch((self.b, 'eth0'), (self.r, 'left'), (self.gw, 'lan1'))
        lab.link(self.r, 'right', self.c, 'eth0')
        lab.link(self.gw, 'wan', self.h4, 'eth0')
        for host in self.gw, self.r:
            host.sysctl('net.ipv6.conf.all.forwarding', 1)
        self.gw.sysctl('net.ipv4.ip_forward', 1)
        for conf in 'all', 'default', 'lan0', 'lan1', 'wan':
            self.gw.sysctl(f'net.ipv4.conf.{conf}.rp_filter', 1)
        for n, host, ifname in (6, self.a, 'lan0'), (7, self.b, 'lan1'):
            self.gw.addr(ifname, f'fc00:{n}::1/64')
            host.addr('eth0', f'fc00:{n}::{n}/64')
            host.route('default', 'via', f'fc00:{n}::1')
        self.r.addr('left', 'fc00:7::8/64')
        self.r.addr('right', 'fc00:8::1/64')
        self.r.route('default', 'via', 'fc00:7::1')
        self.c.addr('eth0', 'fc00:8::8/64')
        self.c.route('default', 'via', 'fc00:8::1')
        self.gw.route('fc00:8::/64', 'via', 'fc00:7::8')
        self.gw.addr('wan', '192.0.2.1/24')
        self.h4.addr('eth0', f'{H4}/24', '203.0.113.9/32')
        self.h4.route('10.0.0.0/8', 'via', '192.0.2.1')
        self.gw.route('203.0.113.0/24', 'via', H4)
        self.hosts = {'fc00:6::6': self.a, 'fc00:7::7': self.b, 'fc00:8::8': self.c}
        for host in self.hosts.values():
            wait_for(lambda h=host: not h.run('ping', '-c1', '-W0.5', 'fc00:6::1', check=False).returncode, 'the links')


@pytest.fixture
def router(lab):
    return Router(lab)


def drops(gw):
    with Translator(gw, 'nat64') as t:
        return t.drops()


def test_whatever_is_routed_to_it(router, file):
    """Hosts of two LANs and behind another router have one pool; the router itself too. Firewalls see every packet in both
    families, masquerade works, IPv4 hosts reach mapped ones, hosts reach each other through the prefix."""
    gw, h4 = router.gw, router.h4
    gw.load(device='nat64')
    gw.nft(FIREWALL)
    gw.nft('add rule ip6 f forward iifname "lan1" oifname "lan1" accept')
    serve(h4, file.parent, '0.0.0.0')
    for v6, host in router.hosts.items():
        ping(host, WEB)
        fetch(host, f'[{WEB}]', file)
        fetch(host, f'[{embed("203.0.113.9")}]', file)          # masqueraded
        serve(host, file.parent, '::')
        address = v4_of(gw, v6, 'nat64')
        ping(h4, address)
        fetch(h4, address, file)
    ping(gw, WEB)
    fetch(gw, f'[{WEB}]', file)
    fetch(gw, v4_of(gw, 'fc00:8::8', 'nat64'), file)            # an IPv4 program of the router
    assert drops(gw) == {}
    hairpin = embed(v4_of(gw, 'fc00:8::8', 'nat64'))
    ping(router.a, hairpin)
    fetch(router.a, f'[{hairpin}]', file)
    assert set(drops(gw)) <= {'icmp-type'}                      # redirects of the IPv4 stack, which sees them come and go
    assert {str(v4_of(gw, v6, 'nat64')).rsplit('.', 1)[0] for v6 in router.hosts} == {'10.0.1'}
    gw.nft('flush ruleset')
    gw.unload(i='nat64')
    assert 'nat64' not in [name for _, name in gw.interfaces()]


def test_it_is_one_hop(router):
    """Both stacks of this machine decrement: together once."""
    gw = router.gw
    gw.load(device='nat64')
    for host in router.a, router.c:
        way = ['fc00:6::1'] if host is router.a else ['fc00:8::1', 'fc00:7::1']
        assert hops(host.run('traceroute', '-n', '-q1', WEB).stdout) == way + [WEB]
    mapped = v4_of(gw, 'fc00:8::8', 'nat64')
    assert hops(router.h4.run('traceroute', '-n', '-q1', mapped).stdout) == \
        ['192.0.2.1', v4_of(gw, 'fc00:7::8', 'nat64'), mapped]
    assert hops(gw.run('traceroute', '-n', '-q1', WEB).stdout) == [WEB]


def test_host_that_moves(router):
    """From LAN to LAN, with its address, an IPv4 host finds it where it was."""
    gw = router.gw
    gw.load(device='nat64')
    router.a.addr('eth0', 'fc00:66::66/128')
    gw.route('fc00:66::66/128', 'via', 'fc00:6::6')
    ping(router.a, WEB, '-I', 'fc00:66::66')
    address = v4_of(gw, 'fc00:66::66', 'nat64')
    router.a.ip(*'addr del fc00:66::66/128 dev eth0'.split())
    router.c.addr('eth0', 'fc00:66::66/128')
    router.r.route('fc00:66::66/128', 'via', 'fc00:8::8')
    gw.ip(*'-6 route replace fc00:66::66/128 via fc00:7::8'.split())
    ping(router.h4, address)
    ping(router.c, WEB, '-I', 'fc00:66::66')
    assert v4_of(gw, 'fc00:66::66', 'nat64') == address


def test_interfaces_change(router):
    """What happens to an interface of a host is none of the translator's business."""
    gw = router.gw
    gw.load(device='nat64')
    ping(router.a, WEB)
    gw.ip(*'link set lan0 down'.split())
    gw.ip(*'link set lan0 address 02:00:00:00:00:77'.split())
    gw.ip(*'link set lan0 name uplan'.split())
    gw.ip(*'link set uplan up'.split())
    gw.addr('uplan', 'fc00:6::1/64')
    router.a.ip(*'-6 neigh flush dev eth0'.split())             # or it asks for the new MAC address half a minute later
    wait_for(lambda: not router.a.run('ping', '-c1', '-W0.5', 'fc00:6::1', check=False).returncode, 'the link')
    ping(router.a, WEB)
    ping(router.h4, v4_of(gw, 'fc00:6::6', 'nat64'))


def test_path_mtu_both_ways(router):
    """Both stacks say what is too big; the errors are translated like any."""
    gw = router.gw
    gw.load(device='nat64')
    ping(router.c, WEB)
    for host, ifname in (router.r, 'right'), (router.c, 'eth0'):
        host.ip('link', 'set', ifname, 'mtu', 1400)
    address = v4_of(gw, 'fc00:8::8', 'nat64')
    found = router.h4.run('tracepath', '-n', address).stdout
    assert re.search(r'Resume: pmtu 1380\b', found), found
    for host, ifname in (gw, 'wan'), (router.h4, 'eth0'):
        host.ip('link', 'set', ifname, 'mtu', 1300)
    found = router.a.run('tracepath', '-n', WEB).stdout
    assert re.search(r'Resume: pmtu 1320\b', found), found
    with socket_of(router.h4, '0.0.0.0') as s4, socket_of(router.c, 'fc00:8::8') as s6:
        for size in 100, 1200, 1300, 1500, 8000, 60000:
            data = os.urandom(size)
            s4.sendto(data, (address, 7000))
            assert s6.recv(1 << 16) == data, f'{size} bytes from h4'
            wait_for(lambda d=data: arrives(s6, d, (WEB, 7000), s4), f'{size} bytes from c')     # the first tells the MTU
    assert drops(gw) == {}


def arrives(sender, data, to, receiver):
    sender.sendto(data, to)
    receiver.settimeout(patience(0.5))
    try:
        return receiver.recv(1 << 16) == data
    except TimeoutError:
        return False


def socket_of(host, address):
    """A datagram socket that lets what it sends be cut on its way."""
    with host:
        s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
    if ':' in address:
        s.setsockopt(socket.IPPROTO_IPV6, 23, 0)        # IPV6_MTU_DISCOVER
    else:
        s.setsockopt(socket.IPPROTO_IP, 10, 0)          # IP_MTU_DISCOVER
    s.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)        # SO_RCVBUFFORCE
    s.settimeout(patience(10))
    s.bind((address, 7000))
    return s


def test_bulk(router):
    """Super-packets stay such."""
    gw = router.gw
    gw.load(device='nat64')
    for reverse in (), ('-R',):
        end = iperf(router.h4, router.a, WEB, '-n', '100M', *reverse)
        assert end['sum_sent']['bytes'] >= 100_000_000 and end['sum_received']['bytes'] > 90_000_000    # the rest is under way
    with Translator(gw, 'nat64') as t:
        stats = t.stats()
    assert min(b / n for b, n in zip(stats['bytes'], stats['packets'])) > 40 and \
        max(b / n for b, n in zip(stats['bytes'], stats['packets'])) > 5000, stats
    assert stats['drops'] == [{}, {}]


def test_packets_that_go_round_end(lab):
    """Two mappings that point at each other, and two devices: what circles loses a hop each time."""
    h6, gw, h4 = standard(lab)
    gw.load('-6', '2001:db8:64::/96', '-s', f'{embed("10.0.2.9")}=10.0.1.9', device='one', allow=('::/0',))
    gw.load('-s', '2001:db8:64::a00:109=10.0.2.9', '--icmp-src', '192.0.0.11', '-s', 'fc00:6::6=10.0.2.6', device='two',
            v4='10.0.2.0/24', allow=('::/0',))
    # an IPv4 packet to 10.0.1.9 becomes one to 64:ff9b::10.0.2.9, that one to 10.0.2.9, that to 2001:db8:64::10.0.1.9, ...
    h4.run('ping', '-c1', '-W0.5', '-t', '255', '10.0.1.9', check=False)
    before = [counted(gw, name) for name in ('one', 'two')]
    h4.run('ping', '-c1', '-W1', '10.0.1.9', check=False)
    after = [counted(gw, name) for name in ('one', 'two')]
    assert after == [counted(gw, name) for name in ('one', 'two')], 'it still goes round'
    assert 60 < sum(after) - sum(before) < 400, 'its TTL does not tell how often it went round'


def counted(gw, name):
    with Translator(gw, name) as t:
        stats = t.stats()
        return sum(stats['packets']) + sum(n for way in stats['drops'] for n in way.values())


def test_siit_dc(lab, file):
    """RFC 7755: all mappings are static, and there is no pool."""
    h6, gw, h4 = standard(lab)
    gw.load('-s', 'fc00:6::6=203.0.113.6', '-s', 'fc00:66::/120=198.18.7.0/24', device='nat64', v4=None, allow=())
    ping(h6, WEB)
    ping(h4, '203.0.113.6')
    serve(h4, file.parent, H4)
    fetch(h6, f'[{WEB}]', file)
    h6.addr('eth0', 'fc00:66::9/128')
    ping(h4, '198.18.7.9')
    with Translator(gw, 'nat64') as t:
        assert t.drops() == {}
    status = json.loads(gw.nat64('--device', 'nat64', '--status', '--json').stdout)['translators'][0]
    assert status['v4_prefix'] is None and status['mappings']['addresses'] == 0


def datagrams_return(host, h4):
    """From an IPv4 program of a host to h4 and back, whole and in pieces."""
    with socket_of(host, '0.0.0.0') as s, socket_of(h4, '0.0.0.0') as s4:
        for size in 100, 1400, 5000:
            data = os.urandom(size)
            s.sendto(data, (H4, 7000))
            got, back = s4.recvfrom(1 << 16)
            assert got == data
            s4.sendto(data, back)
            assert s.recv(1 << 16) == data


def test_clat(lab, file):
    """RFC 6877: IPv4-only programs on a host that has IPv6 alone, through a NAT64 elsewhere."""
    h6, gw, h4 = standard(lab)
    gw.load()                                                   # the NAT64 of the network
    gw.route('fc00:c1a7::/96', 'via', 'fc00:6::6')
    h6.forwards()
    h6.load('-6', 'fc00:c1a7::/96', '-s', '64:ff9b::/96=0.0.0.0/0', device='clat', v4=None, allow=())
    h6.addr('clat', '192.0.0.1/32')
    ping(h6, H4)
    serve(h4, file.parent, H4)
    fetch(h6, H4, file)
    assert hops(h6.run('traceroute', '-n', '-q1', H4).stdout)[-1] == H4
    datagrams_return(h6, h4)
    h6.ip(*'addr del 192.0.0.1/32 dev clat'.split())


def test_clat_of_a_router(lab, file):
    """RFC 6877: hosts that have IPv4 alone, behind a router that has IPv6 alone. There is no NAT44: each has an address of the
    router's /96, by which it is also reached."""
    h6, gw, h4 = standard(lab)
    h = lab.host('h')
    lab.link(h6, 'lan', h, 'eth0')
    gw.load()
    gw.route('fc00:c1a7::/96', 'via', 'fc00:6::6')
    h6.forwards()
    for conf in 'all', 'default', 'lan', 'eth0':
        h6.sysctl(f'net.ipv4.conf.{conf}.rp_filter', 1)
    h6.addr('lan', '192.168.7.1/24')
    h.addr('eth0', '192.168.7.7/24')
    h.route('default', 'via', '192.168.7.1')
    h6.load('-6', 'fc00:c1a7::/96', '-s', '64:ff9b::/96=0.0.0.0/0', device='clat', v4=None, allow=())
    serve(h4, file.parent, H4)
    ping(h, H4)
    fetch(h, H4, file)
    assert hops(h.run('traceroute', '-n', '-q1', H4).stdout)[-1] == H4
    ping(h4, v4_of(gw, embed('192.168.7.7', 'fc00:c1a7::/96'), 'eth0'))
    datagrams_return(h, h4)
    with Translator(h6, 'clat') as t:
        assert t.drops() == {}


def test_one_neighbour_for_all(nat_device):
    """However many hosts and servers there are: the kernel's tables of neighbours are small."""
    gw = nat_device
    gw.nat64('--device', 'nat64', '-4', '10.0.0.0/16', '-a', 'fc00::/8')
    with gw, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s4, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s6:
        for n in range(1, 251):
            s4.sendto(b'x', (f'10.0.0.{n}', 9))
            s6.sendto(b'x', (embed(f'192.0.2.{n}'), 9))
    for family in '-4', '-6':
        seen = [line for line in gw.ip(family, 'neigh', 'show', 'dev', 'nat64', 'nud', 'all').splitlines() if ' NOARP' in line]
        assert len([line for line in seen if not line.startswith('ff02:')]) == 1, seen


def test_status_tells_of_its_routes(nat_device):
    """A route that somebody took away is missed, in either family."""
    gw = nat_device
    gw.nat64('--device', 'nat64', '--status')
    for family, prefix in ('-6', '64:ff9b::/96'), ('-4', '10.0.1.0/24'):
        gw.ip(family, 'route', 'del', prefix, 'dev', 'nat64')
        done = gw.run(NAT64, '--device', 'nat64', '--status', check=False)
        assert done.returncode == 1 and f'the route to {prefix} is missing' in done.stdout
        gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8')
        gw.nat64('--device', 'nat64', '--status')


@pytest.fixture
def nat_device(lab):
    gw = standard(lab)[1]
    gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8')
    yield gw
    gw.nat64('--device', 'nat64', '-u')


def test_ipsec(lab, file):
    """Hosts behind ESP in tunnel mode: policies are for the stack, in both directions, and it tells what is too big."""
    h6, gw, h4 = standard(lab)
    tunnel(h6, gw)
    gw.load('-s', 'fd99::2=10.0.1.9', device='nat64')
    ping(h6, WEB, '-I', 'fd99::2')
    ping(h4, '10.0.1.9')
    serve(h4, file.parent, H4)
    fetch(h6, f'[{WEB}]', file, '--interface', 'fd99::2')
    serve(h6, file.parent, 'fd99::2')
    fetch(h4, '10.0.1.9', file)
    gw.ip(*'xfrm policy del src fd99::2 dst ::/0 dir fwd'.split())
    gw.ip(*'xfrm policy add src fd99::2 dst ::/0 dir fwd action block'.split())
    assert h6.run('ping', '-c1', '-W0.5', '-I', 'fd99::2', WEB, check=False).returncode, 'against the policy'


@pytest.mark.parametrize('masquerade', [False, True])
def test_flowtable(lab, tmp_path_factory, masquerade):
    """Flows are offloaded between the device and the interfaces, both as IPv4 and as IPv6."""
    h6, gw, h4 = standard(lab)
    gw.load(device='nat64')
    done = gw.run('nft', FLOWTABLE.replace('eth0, eth1', 'eth0, eth1, nat64') + (MASQUERADE if masquerade else ''), check=False)
    if done.returncode:
        not_here('nft flowtable')
    if masquerade:
        h4.ip('route', 'del', 'default')
    ping(h6, WEB)
    big = site(tmp_path_factory, 20_000_000)
    serve(h4, big.parent, H4)
    client = h6.start('curl', '-gsSf', '-m', int(patience(60)), '--limit-rate', '2M', '-o', '/dev/null', f'http://[{WEB}]/big')
    wait_for(lambda: '[OFFLOAD]' in conntrack(gw), 'a flow to be offloaded')
    fetch(h6, f'[{WEB}]', big, timeout=60)
    assert client.wait(patience(60)) == 0, client.stdout.read()
    assert drops(gw) == {}


def test_wireguard_and_lan(lab, file):
    """Peers of a hub and a LAN."""
    h6, gw, h4 = standard(lab)
    peer = lab.host('peer')
    lab.link(peer, 'lower', gw, 'lower')
    with needs('wireguard'):
        wireguard_over(peer, gw, 'wg0', 'fc00:9::')
    for host in peer, gw:
        host.ip('link', 'set', 'wg0', 'up')
    peer.addr('wg0', 'fc00:9::6/64')
    gw.addr('wg0', 'fc00:9::1/64')
    peer.route('::/0', 'dev', 'wg0')
    gw.load(device='nat64')
    serve(h4, file.parent, H4)
    for host, v6 in (h6, 'fc00:6::6'), (peer, 'fc00:9::6'):
        wait_for(lambda h=host: not h.run('ping', '-c1', '-W0.5', WEB, check=False).returncode, 'an answer')
        fetch(host, f'[{WEB}]', file)
        ping(h4, v4_of(gw, v6, 'nat64'))


def test_routes_of_others_to_the_prefix(lab):
    """Where another route takes the packets, the device gets none: to be refused, and to be told."""
    h6, gw, h4 = standard(lab)
    for how in ('via', 'fc00:6::6', 'metric', 100), ('metric', 50):
        kind = [] if 'via' in how else ['blackhole']
        gw.ip('-6', 'route', 'add', *kind, '64:ff9b::/96', *how)
        for dry in (), ('--dry-run',):
            gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', *dry, rc=1)
        gw.ip('-6', 'route', 'del', *kind, '64:ff9b::/96')
        gw.load(device='nat64')
        gw.ip('-6', 'route', 'add', *kind, '64:ff9b::/96', *how)
        done = gw.run(NAT64, '--device', 'nat64', '--status', check=False)
        assert done.returncode == 1 and 'route to 64:ff9b::/96' in done.stdout
        gw.ip('-6', 'route', 'del', *kind, '64:ff9b::/96', *how)
        gw.nat64('--device', 'nat64', '--status')
        gw.unload(i='nat64')
    gw.ip(*'-6 route add unreachable 64:ff9b::a00:0/104'.split())          # no private addresses: that is its good right
    gw.load(device='nat64')
    gw.nat64('--device', 'nat64', '--status')
    ping(h6, WEB)
    assert 'unreachable' in h6.run('ping', '-c1', '-W5', embed('10.9.9.9'), check=False).stdout.lower()
    gw.unload(i='nat64')
    gw.ip(*'-6 route del unreachable 64:ff9b::a00:0/104'.split())
    gw.ip(*'-6 route add 64:ff9b::a00:0/104 via fc00:6::6'.split())
    done = gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=1)
    assert 'there is already a route to 64:ff9b::a00:0/104 on eth0' in done.stderr
    gw.ip(*'-6 route del 64:ff9b::a00:0/104'.split())
    gw.load()                   # before the stack: a route of a device of ours is not in its way
    gw.load('--icmp-src', '192.0.0.12', device='nat64', v4='10.0.2.0/24')
    gw.load()
    ping(h6, WEB)


def test_status_looks_where_the_stack_does(nat_device):
    gw = nat_device
    gw.sysctl('net.ipv6.conf.nat64.forwarding', 0)
    gw.nat64('--device', 'nat64', '--status')
    gw.sysctl('net.ipv6.conf.all.forwarding', 0)
    gw.sysctl('net.ipv6.conf.nat64.forwarding', 1)
    assert 'IPv6 forwarding is off' in gw.run(NAT64, '--device', 'nat64', '--status', check=False).stdout
    assert 'fe80' not in gw.ip('-6', 'addr', 'show', 'dev', 'nat64')
    assert "own device" in gw.nat64('-i', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '--fast', rc=2).stderr


def test_it_is_made_and_removed(lab):
    """Names that are taken or impossible, a failure half way, a dry run, and again with other options."""
    h6, gw, h4 = standard(lab)
    for name in 'a/b', 'x' * 16, '', '.', 'a b', 'nat%d':
        gw.nat64('--device', name, '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=2)
    gw.nat64('--device', 'eth1', '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=1)
    gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '--fast', rc=2)
    gw.nat64('--device', 'nat64', '-u', rc=2)
    gw.route('64:ff9b::/96', 'via', 'fc00:6::6')                # fails half way: it leads elsewhere
    gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=1)
    gw.ip(*'-6 route del 64:ff9b::/96'.split())
    before = gw.snapshot()
    gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '--dry-run')
    assert gw.snapshot() == before
    gw.load(device='nat64')
    ping(h6, WEB)
    address = v4_of(gw, 'fc00:6::6', 'nat64')
    gw.load('-6', '2001:db8:64::/96', device='nat64')
    ping(h6, embed(H4, '2001:db8:64::/96'))
    assert v4_of(gw, 'fc00:6::6', 'nat64') == address
    assert '64:ff9b::/96' not in gw.ip('-6', 'route')
    gw.nat64('--device', 'nat64', '--mappings')
    gw.unload(i='nat64')
    gw.ip(*'link add nat64 type ifb'.split())
    gw.nat64('--device', 'nat64', '-u', rc=1)
    gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=1)


def test_every_step_may_fail(lab, tmp_path):
    """A device that was made for a translator goes when that cannot be loaded; one that was there stays."""
    _, gw, _ = standard(lab)
    load = ['--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '-s', 'fc00::7=10.0.1.7']
    other = [*load[:-1], 'fc00::7=10.0.1.8', '-6', '2001:db8:64::/96']

    def steps(argv):
        late = trace(gw, argv, tmp_path, late=True)
        gw.run(NAT64, '-i', 'nat64', '-u')
        return late

    def there():
        links = [link['ifname'] for link in json.loads(gw.ip('-j', 'link'))]
        return links, state(gw)

    clean = there()
    late = steps(load)
    early = [(syscall, n) for syscall, n in trace(gw, load, tmp_path) if syscall != 'bpf']
    gw.run(NAT64, '-i', 'nat64', '-u')
    failed = 0
    for syscall, n in sorted({*late, *early}):
        what, rc, stderr = inject(gw, syscall, n, load, 'ENOMEM')
        if rc:
            failed += 1
            assert rc == 1 and re.fullmatch(r'nat64: [^\n]+\n', stderr), what
        else:
            assert stderr == '', what
            gw.run(NAT64, '-i', 'nat64', '-u')
        assert there() == clean, what
    assert failed >= 10

    gw.run(NAT64, *load)
    late = steps(other)
    gw.run(NAT64, *other)
    aim = there()
    gw.run(NAT64, *load)
    before = there()
    reasons = set()
    for syscall, n in late:
        what, rc, stderr = inject(gw, syscall, n, other, 'ENOMEM')
        if not rc:
            assert stderr == '' and there() == aim, what
        elif 'the new options are in force' in stderr:
            reasons.add(re.search('cannot [^:]+', stderr)[0])
            gw.run(NAT64, *other)
            assert there() == aim, what
        else:
            assert rc == 1 and re.fullmatch(r'nat64: [^\n]+\n', stderr) and there() == before, what
        gw.run(NAT64, *load)
    assert reasons == {'cannot change the mappings', 'cannot remove its routes'}
    gw.run(NAT64, '-i', 'nat64', '-u')


def test_killed_while_the_device_is_made(lab, tmp_path):
    """Whatever call it was in: there is no device, or one that is known for ours, and -u takes it away. Loading says that
    it is down."""
    _, gw, _ = standard(lab)
    clean, devices = gw.snapshot(), 0
    load = [NAT64, '--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8']
    gw.run('strace', '-qq', '-o', tmp_path / 'trace', '-e', 'trace=sendto,recvmsg', *load)
    assert ' group default ' in gw.ip('link', 'show', 'nat64')      # what is made next is not alone in its group otherwise
    gw.run(NAT64, '--device', 'nat64', '-u')
    calls = re.findall(r'^(sendto|recvmsg)(.*)', (tmp_path / 'trace').read_text(encoding='latin1'), re.M)
    made = next(i for i, (call, rest) in enumerate(calls) if call == 'sendto' and 'RTM_NEWLINK' in rest)
    for n in range(made, made + 9):
        call = calls[n][0]
        when = [c for c, _ in calls[:n + 1]].count(call)
        done = gw.run('strace', '-qq', '-o', '/dev/null', '-e', f'trace={call}', '-e', f'inject={call}:signal=KILL:when={when}', *load,
                      check=False)
        assert done.returncode not in (0, 1)
        if 'nat64' in [name for _, name in gw.interfaces()]:
            devices += 1
            assert gw.run(*load, check=False).stderr == 'nat64: nat64: interface is down (ip link set nat64 up)\n'
            gw.run(NAT64, '--device', 'nat64', '-u')
        assert gw.snapshot() == clean
    assert devices >= 4
