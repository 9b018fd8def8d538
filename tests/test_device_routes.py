# SPDX-License-Identifier: GPL-2.0-or-later
"""--device where routing is more than the main table: VRFs, rules, VLANs, hosts that move, firewalls on both sides."""

import json
import os
import re
import socket
import threading

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR

from bpf import Translator
from lab import embed, patience, standard, wait_for
from paths import fetch, hops, ping, serve, v4_of
from test_devices import not_here

H4, WEB = '192.0.2.2', embed('192.0.2.2')
HOP6 = 'via fe80::64:ff9b dev nat64 onlink'          # of nat64's own route


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(os.urandom(300_000))
    return path


def drops(gw):
    with Translator(gw, 'nat64') as t:
        return t.drops()


def received(host, ifname):
    return json.loads(host.ip('-j', '-s', 'link', 'show', 'dev', ifname))[0]['stats64']['rx']['packets']


def both_ways(h6, gw, h4, file, v6='fc00:6::6'):
    """Echo and TCP from either side, and what traceroute says; the host's IPv4 address."""
    ping(h6, WEB)
    address = v4_of(gw, v6, 'nat64')
    ping(h4, address)
    for host, at, other, url in (h4, H4, h6, f'[{WEB}]'), (h6, '::', h4, address):
        server = serve(host, file.parent, at)
        fetch(other, url, file)
        host.lab.end(server)
    assert hops(h6.run('traceroute', '-n', '-q1', WEB).stdout)[-1] == WEB
    assert hops(h4.run('traceroute', '-n', '-q1', address).stdout)[-1] == address
    return address


def hop4(gw):
    """How nat64's own IPv4 route goes on, for a route of another table."""
    return re.search(r'^10\.0\.1\.0/24 (via \S+)', gw.ip('route', 'show', 'dev', 'nat64'), re.M)[1] + ' dev nat64 onlink'


# --- VRFs ---

def vrf(gw, name, table, ifname, *addresses):
    """Put an interface into a VRF of its own: it loses its IPv6 addresses by that."""
    done = gw.run(*f'ip link add {name} type vrf table {table}'.split(), check=False)
    if 'Unknown device type' in done.stderr:
        not_here('VRF')
    gw.ip('link', 'set', name, 'up')
    gw.ip('link', 'set', ifname, 'master', name)
    for address in addresses:
        gw.ip('addr', 'add', address, 'dev', ifname, 'nodad')
        wait_for(lambda a=address.split('/')[0]: gw.ip('-6', 'route', 'show', 'vrf', name, 'type', 'local', a), address)


@pytest.mark.parametrize('back', ['blue', 'eth0'])
def test_hosts_in_a_vrf(lab, file, back):
    """Routes that leak: from the VRF to the device, and from the main table to the VRF, or past it to the hosts alone."""
    h6, gw, h4 = standard(lab)
    gw.sysctl('net.ipv4.conf.all.rp_filter', 1)
    vrf(gw, 'blue', 10, 'eth0', 'fc00:6::1/64')
    gw.load(device='nat64')
    gw.ip(*f'-6 route add 64:ff9b::/96 {HOP6} vrf blue'.split())
    gw.ip(*f'-6 route add fc00:6::/64 dev {back}'.split())
    both_ways(h6, gw, h4, file)
    assert drops(gw) == {}
    assert 'working           yes' in gw.nat64('--device', 'nat64', '--status').stdout


def test_the_router_itself_in_a_vrf(lab):
    """Its programs that are bound to the VRF."""
    _, gw, _ = standard(lab)
    vrf(gw, 'blue', 10, 'eth0', 'fc00:6::1/64')
    if [int(n) for n in os.uname().release.split('.')[:2]] < [6, 12]:
        pytest.skip('NO answer gets from the main table to a program in a VRF: so on Linux 5.10, and not on 6.12')
    gw.load(device='nat64')
    gw.ip(*f'-6 route add 64:ff9b::/96 {HOP6} vrf blue'.split())
    gw.ip(*'-6 route add fc00:6::/64 dev blue'.split())
    ping(gw, WEB, '-I', 'blue')
    assert drops(gw) == {}


def test_ipv4_in_a_vrf(lab, file):
    """Hosts in one VRF, IPv4 in another, the device in none."""
    h6, gw, h4 = standard(lab)
    gw.sysctl('net.ipv4.conf.all.rp_filter', 1)
    vrf(gw, 'blue', 10, 'eth0', 'fc00:6::1/64')
    vrf(gw, 'red', 20, 'eth1')
    gw.load(device='nat64')
    gw.ip(*f'-6 route add 64:ff9b::/96 {HOP6} vrf blue'.split())
    gw.ip(*'-6 route add fc00:6::/64 dev blue'.split())
    gw.ip(*f'-4 route add 10.0.1.0/24 {hop4(gw)} vrf red'.split())
    gw.ip(*'-4 route add default dev red'.split())
    both_ways(h6, gw, h4, file)
    assert drops(gw) == {}


def test_the_device_in_a_vrf(lab):
    """It is a thing of the main table: told by those who load it again, and by --status."""
    _, gw, _ = standard(lab)
    vrf(gw, 'blue', 10, 'eth0', 'fc00:6::1/64')
    gw.load(device='nat64')
    gw.ip(*'link set nat64 master blue'.split())
    gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=1)
    assert 'belongs to the VRF blue' in gw.nat64('--device', 'nat64', '--status', rc=1).stdout
    gw.ip(*'link set nat64 nomaster'.split())
    gw.load(device='nat64')
    gw.nat64('--device', 'nat64', '--status')


# --- rules ---

def test_rules_choose_the_way_out(lab, file):
    """By the address of the pool, or by a mark that the IPv6 packet was given: it stays with the packet."""
    h6, gw, h4 = standard(lab)
    lab.link(gw, 'eth2', h4, 'eth1')
    gw.addr('eth2', '198.18.0.1/24')
    h4.addr('eth1', '198.18.0.2/24')
    gw.load(device='nat64')
    ping(h6, WEB)
    address = v4_of(gw, 'fc00:6::6', 'nat64')
    gw.ip(*'route add default via 198.18.0.2 dev eth2 table 7'.split())
    gw.nft('table ip6 m { chain pre { type filter hook prerouting priority mangle; iifname "eth0" meta mark set 6; }; }')
    for rule in f'from {address} iif nat64', 'fwmark 6':
        before = received(h4, 'eth1')
        ping(h6, WEB)
        assert received(h4, 'eth1') - before < 3, 'without a rule'
        gw.ip('rule', 'add', *rule.split(), 'table', 7)
        before = received(h4, 'eth1')
        both_ways(h6, gw, h4, file)
        assert received(h4, 'eth1') - before > 10, f'not by the rule {rule}'
        gw.ip('rule', 'del', *rule.split(), 'table', 7)
    assert drops(gw) == {}


@pytest.mark.parametrize('rule', ['fwmark 6', 'from fc00:6::/64'])
def test_rules_lead_to_it(lab, file, rule):
    """Whom a rule leads to a table with a route to the device reaches IPv4, and nobody else; so do the answers."""
    h6, gw, h4 = standard(lab)
    gw.load(device='nat64')
    gw.nft('''
        table ip6 m {
            chain pre { type filter hook prerouting priority mangle; ip6 saddr fc00:6::/64 meta mark set 6; }
        }''')
    gw.ip(*'-6 route add unreachable 64:ff9b::/96 table 8'.split())
    gw.ip(*f'-6 route add 64:ff9b::/96 {HOP6} table 9'.split())
    gw.ip('-6', 'rule', 'add', 'pref', 90, *rule.split(), 'table', 9)
    gw.ip(*'-6 rule add pref 91 table 8'.split())
    gw.ip(*'-4 route add unreachable default table 8'.split())
    gw.ip(*f'-4 route add 10.0.1.0/24 {hop4(gw)} table 9'.split())
    gw.ip(*'-4 rule add pref 90 iif eth1 table 9'.split())
    gw.ip(*'-4 rule add pref 91 iif eth1 table 8'.split())
    both_ways(h6, gw, h4, file)
    h6.addr('eth0', 'fc00:66::6/128')
    assert 'unreachable' in h6.run('ping', '-c1', '-W5', '-I', 'fc00:66::6', WEB, check=False).stdout.lower()
    assert drops(gw) == {}


def test_a_tunnel_for_all_else(lab, file):
    """As wg-quick has it: all that leaves goes by another table, unless the main table has more than a default route."""
    h6, gw, h4 = standard(lab)
    lab.link(gw, 'vpn', h4, 'eth1')
    gw.addr('vpn', '198.18.0.1/24', 'fc00:f::1/64')
    h4.addr('eth1', '198.18.0.2/24', 'fc00:f::2/64', '203.0.113.9/32')
    h4.route('10.0.0.0/8', 'via', '198.18.0.1')
    gw.load(device='nat64')
    for family, via in ('-4', '198.18.0.2'), ('-6', 'fc00:f::2'):
        gw.ip(family, *f'route add default via {via} dev vpn table 51820'.split())
        gw.ip(family, *'rule add not fwmark 51820 table 51820'.split())
        gw.ip(family, *'rule add table main suppress_prefixlength 0'.split())
    both_ways(h6, gw, h4, file)
    serve(h4, file.parent, '203.0.113.9')
    before = received(h4, 'eth1')
    fetch(h6, f'[{embed("203.0.113.9")}]', file)
    fetch(gw, f'[{embed("203.0.113.9")}]', file)
    assert received(h4, 'eth1') - before > 10, 'not by the tunnel'
    assert drops(gw) == {}


# --- hosts ---

def connected(h6, src, h4):
    """The two ends of a TCP connection from a host to the IPv4 server."""
    with h4:
        listener = socket.create_server((H4, 7000))
    with h6:
        s6 = socket.create_connection((WEB, 7000), timeout=patience(10), source_address=(src, 0))
    with listener:
        s4, _ = listener.accept()
    s4.settimeout(patience(10))
    return s6, s4


def exchange(*ends):
    """Each end gets what the other sends."""
    for sender, receiver in ends, reversed(ends):
        data = os.urandom(20_000)
        sender.sendall(data)
        got = b''
        while len(got) < len(data):
            got += receiver.recv(1 << 16) or b'the end'
        assert got == data


def test_a_host_moves_from_vlan_to_vlan(lab):
    """Three LANs, two of them VLANs of a trunk, have one pool. A host keeps its addresses, and its connections."""
    gw, h4, h6 = lab.hosts('gw', 'h4', 'h6')
    lab.link(gw, 'wan', h4, 'eth0')
    lab.switch((gw, 'trunk'), (h6, 'trunk'))
    lab.link(gw, 'lan', h6, 'lan')
    lans = 'trunk.10', 'trunk.20', 'lan'
    for host in gw, h6:
        for ifname in lans[:2]:
            done = host.run(*f'ip link add {ifname} link trunk type vlan id {ifname[-2:]}'.split(), check=False)
            if 'Unknown device type' in done.stderr:
                not_here('VLAN')
            host.ip('link', 'set', ifname, 'up')
    gw.forwards()
    gw.addr('wan', '192.0.2.1/24')
    h4.addr('eth0', f'{H4}/24')
    h4.route('default', 'via', '192.0.2.1')
    h6.ip(*'addr add fc00:66::66/128 dev lo'.split())
    for n, ifname in enumerate(lans, 1):
        gw.addr(ifname, f'fc00:{n}::1/64')
        h6.addr(ifname, f'fc00:{n}::6/64')
    gw.load(device='nat64')
    ends, addresses = None, set()
    for n, ifname in enumerate(lans, 1):
        gw.ip(*f'-6 route replace fc00:66::66/128 via fc00:{n}::6'.split())
        h6.ip(*f'-6 route replace default via fc00:{n}::1 dev {ifname}'.split())
        ping(h6, WEB, '-I', f'fc00:{n}::6')
        ping(h6, WEB, '-I', 'fc00:66::66')
        addresses.add(v4_of(gw, 'fc00:66::66', 'nat64'))
        ping(h4, max(addresses))
        ends = ends or connected(h6, 'fc00:66::66', h4)
        exchange(*ends)
    for end in ends:
        end.close()
    assert len(addresses) == 1
    with Translator(gw, 'nat64') as t:
        assert t.drops() == {} and len(t.mappings()) == 4


def name_server(host, address, stop):
    """Answers for `short` with one A record, for `long` with more than goes into one packet."""
    with host:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, 10, 0)              # IP_MTU_DISCOVER: DF=0
    s.settimeout(0.05)
    s.bind((address, 53))

    def run():
        with s:
            while not stop.is_set():
                try:
                    data, who = s.recvfrom(4096)
                except TimeoutError:
                    continue
                q = DNS(data)
                n = 80 if q.qd.qname == b'long.example.' else 1
                records = None
                for i in range(n):
                    rr = DNSRR(rrname=q.qd.qname, rdata=f'203.0.113.{i}')
                    records = records / rr if records else rr
                s.sendto(bytes(DNS(id=q.id, qr=1, qd=q.qd, an=records)), who)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize('router', [True, False], ids=['router', 'host'])
def test_dns(lab, router):
    """A resolver on the router, or on a host, asks a name server that has IPv4 only; long answers come in fragments."""
    h6, gw, h4 = standard(lab)
    gw.load(device='nat64')
    stop = threading.Event()
    thread = name_server(h4, H4, stop)
    try:
        with (gw if router else h6), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
            s.settimeout(patience(5))
            for name, n in ('short.example', 1), ('long.example', 80):
                s.sendto(bytes(DNS(id=7, qd=DNSQR(qname=name))), (WEB, 53))
                data, who = s.recvfrom(1 << 16)
                assert who[:2] == (WEB, 53)
                answer = DNS(data)
                assert answer.id == 7 and answer.ancount == n and answer.an.rdata == '203.0.113.0'
                assert n == 1 or len(data) > 1500
    finally:
        stop.set()
        thread.join()
    assert drops(gw) == {}


CLOSED = '''
table ip f {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state invalid counter drop
        ct state established,related accept
        iifname "nat64" oifname "eth1" accept
    }
}
table ip6 f {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state invalid counter drop
        ct state established,related accept
        iifname "eth0" oifname "nat64" accept
    }
}
'''


@pytest.mark.parametrize('masquerade', [False, True])
def test_nobody_comes_in(lab, file, masquerade):
    """Firewalls of both families know a connection by its first packet, each for itself; who has opened none is kept out by
    the one, and were it not, by the other. None takes a packet for invalid, nor an error that belongs to a connection."""
    h6, gw, h4 = standard(lab)
    gw.load(device='nat64')
    gw.nft(CLOSED)
    if masquerade:
        gw.nft('table ip nat { chain post { type nat hook postrouting priority srcnat; oifname "eth1" masquerade; }; }')
        h4.ip('route', 'del', 'default')
    serve(h4, file.parent, H4)
    ping(h6, WEB)
    fetch(h6, f'[{WEB}]', file)
    assert hops(h6.run('traceroute', '-n', '-q1', WEB).stdout)[-1] == WEB
    for ifname, host in ('eth1', gw), ('eth0', h4):                 # Fragmentation Needed is for the connection
        host.ip('link', 'set', ifname, 'mtu', 1300)
    assert re.search(r'Resume: pmtu 1320\b', h6.run('tracepath', '-n', WEB).stdout)
    address = v4_of(gw, 'fc00:6::6', 'nat64')
    if masquerade:
        h4.route('default', 'via', '192.0.2.1')
    for family in 'ip', 'ip6':
        assert h4.run('ping', '-c1', '-W0.5', address, check=False).returncode
        assert 'counter packets 0 ' in gw.run('nft', 'list', 'chain', family, 'f', 'forward').stdout, f'invalid in {family}'
        gw.nft(f'insert rule {family} f forward meta l4proto {{ icmp, ipv6-icmp }} accept')
    ping(h4, address)
    assert drops(gw) == {}


def test_containers(lab, file):
    """Twenty, each on a veth of its own with a route to its address, and one pool. They come and go."""
    gw, h4 = lab.hosts('gw', 'h4')
    lab.link(gw, 'wan', h4, 'eth0')
    gw.forwards()
    gw.addr('wan', '192.0.2.1/24')
    h4.addr('eth0', f'{H4}/24')
    h4.route('default', 'via', '192.0.2.1')
    gw.load(device='nat64', v4='10.0.1.0/27')
    serve(h4, file.parent, H4)
    containers = []
    for n in range(1, 21):
        c = lab.host(f'c{n}')
        containers.append(c)
        lab.link(gw, f'c{n}', c, 'eth0')
        c.addr('eth0', f'fc00:c::{n:x}/128')
        c.ip('-6', 'route', 'add', 'default', 'via', 'fe80::1', 'dev', 'eth0', 'onlink')
        gw.ip('addr', 'add', 'fe80::1/64', 'dev', f'c{n}', 'nodad')
        gw.route(f'fc00:c::{n:x}/128', 'dev', f'c{n}')
        ping(c, WEB, count=1)
    clients = [c.start('curl', '-gsSf', '-m', int(patience(60)), '-o', '/dev/null', '-w', '%{size_download}',
                       f'http://[{WEB}]/file') for c in containers]
    for p in clients:
        assert p.communicate(timeout=patience(60))[0] == str(file.stat().st_size)
    with Translator(gw, 'nat64') as t:
        addresses = {m.v4 for m in t.mappings().values()}
        assert t.drops() == {}
    assert len(addresses) == 20
    for v4 in addresses:
        ping(h4, v4, count=1)
    gw.ip('link', 'del', 'c20')
    ping(containers[0], embed(v4_of(gw, 'fc00:c::2', 'nat64')), count=1)       # from one to another, by their IPv4 addresses
    assert h4.run('ping', '-c1', '-W5', v4_of(gw, 'fc00:c::14', 'nat64'), check=False).returncode
