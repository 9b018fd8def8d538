# SPDX-License-Identifier: GPL-2.0-or-later
"""nat64 on each kind of interface: veth, tun, tap, macvlan, bridge, vxlan; VLAN, bond and WireGuard where the kernel
has them (make test-kernels runs this on kernels that do).

On each: echo, TCP both ways, datagrams that need fragments both ways, errors, and nothing is left behind."""

import contextlib
import os
import re
import socket
import subprocess

import pytest

from bpf import Translator
from lab import PYTHON, embed, patience, standard, wait_for
from paths import fetch, hops, ping, serve, v4_of

H6, WEB, H4 = 'fc00:6::6', embed('192.0.2.2'), '192.0.2.2'
PUMP = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'pump.py')


def pump(kind):
    def make(lab, h6, gw):
        p = lab.host('outside').start(PYTHON, PUMP, kind, h6.ns, 'eth0', gw.ns, 'eth0')
        assert p.stdout.readline() == 'ready\n', p.stdout.read()
    return make


def veth(lab, h6, gw):
    lab.link(h6, 'eth0', gw, 'eth0')


def over_veth(*commands):
    """Interfaces that both hosts make on a veth link called `lower`. {n}: 1 and 2."""
    def make(lab, h6, gw):
        lab.link(h6, 'lower', gw, 'lower')
        for n, host in (1, h6), (2, gw):
            for command in commands:
                host.ip(*command.format(n=n, other=3 - n).split())
    return make


def macvlan(lab, h6, gw):
    lab.link(h6, 'eth0', gw, 'lower')
    gw.ip(*'link add eth0 link lower type macvlan mode bridge'.split())


def bridge(lab, h6, gw):
    lab.link(h6, 'eth0', gw, 'port')
    gw.ip(*'link add eth0 type bridge'.split())
    gw.ip(*'link set port master eth0'.split())


def bond(lab, h6, gw):
    gw.ip(*'link add eth0 type bond mode active-backup miimon 10'.split())
    lab.link(h6, 'eth0', gw, 'port')
    gw.ip(*'link set port down'.split())
    gw.ip(*'link set port master eth0'.split())
    gw.ip(*'link set port up'.split())


def wireguard(lab, h6, gw):
    lab.link(h6, 'lower', gw, 'lower')
    wireguard_over(h6, gw, 'eth0', 'fc00:6::')


def wireguard_over(h6, gw, ifname, net):
    """A tunnel between two hosts over the link `lower`, where h6 has the address 6 of `net` and gw 1."""
    keys = {}
    for host in h6, gw:
        private = host.run('wg', 'genkey').stdout.strip()
        with host:
            keys[host] = private, subprocess.run(['wg', 'pubkey'], input=private, text=True, check=True,
                                                 capture_output=True).stdout.strip()
    for n, host, other in (1, h6, gw), (2, gw, h6):
        host.addr('lower', f'203.0.113.{n}/24')
        host.ip(*f'link add {ifname} type wireguard'.split())
        allowed = f'{net}1/128,64:ff9b::/96' if host is h6 else f'{net}6/128'
        host.run('sh', '-c', f'echo {keys[host][0]} | wg set {ifname} private-key /dev/stdin listen-port 51820 '
                 f'peer {keys[other][1]} allowed-ips {allowed} endpoint 203.0.113.{3 - n}:51820')


V4, V6 = 'addr add 203.0.113.{n}/24 dev lower', 'addr add fd00::{n}/64 dev lower nodad'

DEVICES = {          # name -> how to make it, is it layer 3
    'veth': (veth, False),
    'tun': (pump('tun'), True),
    'tun with offloads': (pump('tun-gso'), True),
    'tap': (pump('tap'), False),
    'tap with offloads': (pump('tap-gso'), False),
    'macvlan': (macvlan, False),
    'bridge': (bridge, False),
    'vxlan': (over_veth('addr add 203.0.113.{n}/24 dev lower',
                        'link add eth0 type vxlan id 64 local 203.0.113.{n} remote 203.0.113.{other} dstport 4789'),
              False),
    'VLAN': (over_veth('link add eth0 link lower type vlan id 64'), False),
    'QinQ': (over_veth('link add mid link lower type vlan id 64', 'link set mid up',
                       'link add eth0 link mid type vlan id 4'), False),
    'bond': (bond, False),
    'wireguard': (wireguard, True),
    'geneve': (over_veth(V4, 'link add eth0 type geneve id 64 remote 203.0.113.{other}'), False),
    'gretap': (over_veth(V4, 'link add eth0 type gretap local 203.0.113.{n} remote 203.0.113.{other}'), False),
    'gre': (over_veth(V4, 'link add eth0 type gre local 203.0.113.{n} remote 203.0.113.{other}'), True),
    'sit': (over_veth(V4, 'link add eth0 type sit local 203.0.113.{n} remote 203.0.113.{other}'), True),
    'ip6gre': (over_veth(V6, 'link add eth0 type ip6gre local fd00::{n} remote fd00::{other} dev lower'), True),
    'ip6tnl': (over_veth(V6, 'link add eth0 type ip6tnl mode any local fd00::{n} remote fd00::{other} dev lower'), True),
}


def site(tmp_path_factory, size):
    """A file to serve, in a directory of its own."""
    path = tmp_path_factory.mktemp('site') / 'big'
    path.write_bytes(os.urandom(int(os.environ.get('NAT64_TEST_BYTES', size))))
    return path


@pytest.fixture(scope='module')
def big(tmp_path_factory):
    return site(tmp_path_factory, 5 << 20)


def not_here(why):
    """Skip, unless everything must be there."""
    assert not os.environ.get('NAT64_TEST_ALL'), why
    pytest.skip(f'{why}: not in this kernel, see make test-kernels')


@contextlib.contextmanager
def needs(kind):
    """Skip, as not_here() does, if a device of a kind cannot be made."""
    try:
        yield
    except (AssertionError, FileNotFoundError) as e:
        if not re.search("Unknown device type|file or directory: 'wg'", str(e)):
            raise
        not_here(f'{kind}: {e}')


@pytest.fixture(params=DEVICES)
def hosts(request, lab):
    """h6 and gw joined by devices of one kind, both called eth0, and h4 behind gw."""
    make, layer3 = DEVICES[request.param]
    h6, gw, h4 = lab.hosts('h6', 'gw', 'h4')
    with needs(request.param):
        make(lab, h6, gw)
    lab.link(gw, 'eth1', h4, 'eth0')
    for host in h6, gw:
        host.ip('link', 'set', 'eth0', 'up')
        host.sysctl('net.ipv4.conf.all.rp_filter', 1)
    gw.forwards()
    h6.addr('eth0', f'{H6}/64')
    gw.addr('eth0', 'fc00:6::1/64')
    gw.addr('eth1', '192.0.2.1/24')
    h4.addr('eth0', f'{H4}/24')
    h4.route('default', 'via', '192.0.2.1')
    if request.param == 'ip6gre' and [int(n) for n in os.uname().release.split('.')[:2]] < [5, 14]:
        assert 'Linux 5.14' in gw.nat64('-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=1).stderr
        pytest.skip('NO translation on ip6gre before Linux 5.14: it is refused')
    h6.route('::/0', *(['dev', 'eth0'] if layer3 else ['via', 'fc00:6::1']))
    wait_for(lambda: not h6.run('ping', '-c1', '-W0.5', 'fc00:6::1', check=False).returncode, 'the link to work')
    return h6, gw, h4, layer3


def test_device(hosts, big):
    h6, gw, h4, layer3 = hosts
    gw.load()
    ping(h6, WEB)
    address = v4_of(gw, H6, 'eth0')
    ping(h4, address)
    assert ('02:6e:61:74:36:34' in gw.ip('-4', 'neigh')) != layer3, 'a neighbour where there is none, or none'
    serve(h4, big.parent, H4)
    serve(h6, big.parent, '::')
    fetch(h6, f'[{WEB}]', big)
    fetch(h4, address, big)
    datagrams(h6, h4, address)
    assert hops(h6.run('traceroute', '-n', '-q1', WEB).stdout)[-1] == WEB
    assert hops(h4.run('traceroute', '-n', '-q1', address).stdout) == ['192.0.2.1', address]
    with Translator(gw) as t:
        assert t.drops() == {}
        assert min(t.stats()['packets']) > 100
    assert 'working           yes' in gw.nat64('--status').stdout
    gw.unload()
    assert h6.run('ping', '-c1', '-W0.3', WEB, check=False).returncode


NOT_FOR_HOSTS = {       # how it is made, and what nat64 says of it
    'dummy': ('type dummy', 'nothing behind'),
    'ifb': ('type ifb', 'nothing behind'),
    'vrf': ('type vrf table 64', 'VRF'),
    'ipip': ('type ipip local 203.0.113.1 remote 203.0.113.2', 'no IPv6'),
    'sit for IPv4': ('type sit mode ipip local 203.0.113.1 remote 203.0.113.2', 'no IPv6'),
    'ip6tnl for IPv4': ('type ip6tnl mode ipip6 local fd00::1 remote fd00::2', 'no IPv6'),
    'ipvlan': ('link eth1 type ipvlan mode l2', 'its own addresses'),
    'macvtap': ('link eth1 type macvtap', 'for a program'),
    'nlmon': ('type nlmon', 'neither Ethernet nor'),
    'vcan': ('type vcan', 'neither Ethernet nor'),
}


@pytest.mark.parametrize('kind', NOT_FOR_HOSTS)
def test_nothing_to_translate_there(net, kind):
    """Interfaces that IPv6 hosts cannot be behind are refused, in words."""
    gw, (how, says) = net[1], NOT_FOR_HOSTS[kind]
    done = gw.run(*f'ip link add name odd {how}'.split(), check=False)
    if re.search('Unknown device type|not supported', done.stderr):
        not_here(f'{kind}: {done.stderr}')
    assert done.returncode == 0, done.stderr
    gw.run(*'ip link set odd addrgenmode none'.split(), check=False)    # or the kernel makes an address while nat64 runs
    gw.ip('link', 'set', 'odd', 'up')
    assert says in gw.nat64('-i', 'odd', '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=1).stderr


def datagrams(h6, h4, address):
    """Both ways, small and large, and a gap in the sizes where the link's MTU is."""
    with h6:
        s6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with h4:
        s4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with s6, s4:
        for s in s6, s4:
            s.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)    # SO_RCVBUFFORCE
            s.settimeout(patience(10))
        s4.setsockopt(socket.IPPROTO_IP, 10, 0)             # IP_MTU_DISCOVER, IP_PMTUDISC_DONT: DF=0
        s6.setsockopt(socket.IPPROTO_IPV6, 23, 0)           # IPV6_MTU_DISCOVER: no path MTU to learn
        s6.bind((H6, 7000))
        s4.bind((H4, 7000))
        for size in 0, 1, 1000, 1233, 1400, 1452, 1473, 5000, 60000:
            data = os.urandom(size)
            s6.sendto(data, (WEB, 7000))
            assert s4.recv(1 << 16) == data, f'{size} bytes from h6'
            s4.sendto(data, (address, 7000))
            assert s6.recv(1 << 16) == data, f'{size} bytes from h4'


def test_big_file_with_netem(lab, tmp_path_factory):
    """Loss and reordering on both sides, while 100 MB go one way and come back."""
    h6, gw, h4 = standard(lab)
    for host, ifname in (gw, 'eth0'), (gw, 'eth1'), (h6, 'eth0'), (h4, 'eth0'):
        done = host.run('tc', 'qdisc', 'add', 'dev', ifname, 'root', 'netem', 'limit', 10000, 'delay', '1ms', 'reorder',
                        '90%', '50%', 'loss', '0.5%', check=False)
        if 'qdisc kind is unknown' in done.stderr:
            not_here('netem')
        assert done.returncode == 0, done.stderr
    for host in h6, h4:                 # or whole super-packets are lost and late
        host.run('ethtool', '-K', 'eth0', 'tso', 'off', 'gso', 'off')
    big = site(tmp_path_factory, 100_000_000)
    gw.load()
    ping(h6, WEB, count=1)
    serve(h4, big.parent, H4)
    serve(h6, big.parent, '::')
    fetch(h6, f'[{WEB}]', big, timeout=120)
    fetch(h4, v4_of(gw, H6, 'eth0'), big, timeout=120)
    big.unlink()                        # pytest would keep it
    with Translator(gw) as t:
        assert t.drops() == {}
    for host in h6, h4:
        seen = host.run('nstat', '-asz', 'TcpExtTCPOFOQueue').stdout
        assert int(re.search(r'TCPOFOQueue +(\d+)', seen).group(1)), seen
