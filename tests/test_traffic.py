# SPDX-License-Identifier: GPL-2.0-or-later
"""Real programs on real stacks: ping, curl and a web server, iperf3, nftables."""

import hashlib
import json
import os
import re
import time

import pytest

from bpf import KERNEL, Translator
from lab import PYTHON, embed, patience, standard, wait_for
from paths import iperf

WEB = embed('192.0.2.2')


def ping(host, target, *options, count=5):
    """-w: until `count` answers have come."""
    out = host.run('ping', '-c', count, '-i', '0.01', '-w', int(patience(20)), *options, target).stdout
    assert int(re.search(r' (\d+) received', out).group(1)) >= count, out
    return out


def v4_of(gw, v6='fc00:6::6', i='eth0'):
    with Translator(gw, i) as t:
        return t.mappings()[v6].v4


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """What the web servers serve: a page and 20 MB."""
    d = tmp_path_factory.mktemp('site')
    (d / 'index.html').write_text('<p>the page</p>\n')
    (d / 'big').write_bytes(os.urandom(int(os.environ.get('NAT64_TEST_BYTES', 20 << 20))))
    return d


def fetch(host, url, site, name):
    out = host.run('sh', '-c', f'curl -sS --fail -g -m {patience(50)} http://{url}/{name} | sha256sum').stdout.split()[0]
    assert out == hashlib.sha256((site / name).read_bytes()).hexdigest()


# A kernel that does not describe itself, to nat64 only.
NO_BTF = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /sys/kernel/btf && exec "$0" "$@"']


@pytest.fixture(params=['with BTF', 'without BTF'])
def form(request, net):
    """The manual's setup with one form of the programs and with the other; where there is no BTF all tests are with the
    other."""
    gw, tags = net[1], []
    if request.param == 'with BTF':
        gw.load()
        return net
    btf = os.path.exists('/sys/kernel/btf')
    for via in ([], NO_BTF) if btf else ([],):
        said = gw.load('-v', via=via).stdout
        assert ('without BTF' in said) == (via == NO_BTF or not btf or KERNEL < (6, 2)), said
        with Translator(gw) as t:
            tags.append(t.to4.tag)
    if KERNEL >= (6, 2) and len(tags) == 2:
        assert tags[0] != tags[1], 'the same form'
    return net


def test_ping(nat):
    h6, gw, h4 = nat
    out = ping(h6, WEB)
    assert 'ttl=63' in out
    assert 'ttl=63' in ping(h4, v4_of(gw))
    with Translator(gw) as t:
        assert t.stats()['packets'] == [10, 10] and t.drops() == {}


def test_class_e(net):
    """240.0.0.0/4 for the pool, for a static mapping and for a server."""
    h6, gw, h4 = net
    gw.addr('eth1', '240.9.0.1/24')
    h4.addr('eth0', '240.9.0.2/24')
    h6.addr('eth0', 'fc00:6::80/64')
    gw.load('-s', 'fc00:6::80=240.7.0.1', '--icmp-src', '240.8.0.1', v4='240.0.0.0/30')
    ping(h6, embed('240.9.0.2'), '-I', 'fc00:6::6')
    mapped = v4_of(gw)
    assert mapped in ('240.0.0.1', '240.0.0.2')
    ping(h4, mapped, '-I', '240.9.0.2')
    ping(h4, '240.7.0.1', '-I', '240.9.0.2')
    with Translator(gw) as t:
        assert t.stats()['packets'] == [15, 15] and t.drops() == {}


def test_web(form, site):
    """A page, and 20 MB with all the offloads of veth, from an IPv4 server and from an IPv6 server."""
    h6, gw, h4 = form
    h4.http(site, '192.0.2.2')
    fetch(h6, f'[{WEB}]', site, 'index.html')
    fetch(h6, f'[{WEB}]', site, 'big')
    h6.http(site, '::')
    fetch(h4, v4_of(gw), site, 'index.html')
    fetch(h4, v4_of(gw), site, 'big')


def test_web_without_offloads(form, site):
    """The same with every checksum and segment made by the sender's CPU."""
    h6, gw, h4 = form
    for host in h6, h4:
        host.run('ethtool', '-K', 'eth0', 'tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off')
    h4.http(site, '192.0.2.2')
    fetch(h6, f'[{WEB}]', site, 'big')
    h6.http(site, '::')
    fetch(h4, v4_of(gw), site, 'big')


def test_web_with_gro_on_the_gateway(nat, site):
    """As a router's NIC does it: the gateway sees TCP super-packets that GRO made."""
    h6, gw, h4 = nat
    for host, ifname in (gw, 'eth0'), (gw, 'eth1'), (h6, 'eth0'), (h4, 'eth0'):
        sender = ['tx', 'off', 'tso', 'off', 'gso', 'off'] if host != gw else []
        host.run('ethtool', '-K', ifname, 'gro', 'on', *sender)
    h4.http(site, '192.0.2.2')
    fetch(h6, f'[{WEB}]', site, 'big')
    h6.http(site, '::')
    fetch(h4, v4_of(gw), site, 'big')


def test_many_connections(nat, site):
    h6, gw, h4 = nat
    h4.http(site, '192.0.2.2')
    urls = ' '.join(f'http://[{WEB}]/index.html?{n}' for n in range(100))
    out = h6.run('sh', '-c', f'curl -sS --fail -g -m {patience(50)} --parallel --parallel-max 20 {urls}').stdout
    assert out == '<p>the page</p>\n' * 100


@pytest.fixture(scope='module')
def module_nat(module_net):
    module_net[1].load()
    return module_net


@pytest.mark.parametrize('options', [['-n', '30M'], ['-n', '30M', '-R'], ['-n', '30M', '-P', '4'],
                                     ['-n', '5M', '-M', '500'], ['-n', '5M', '-M', '500', '-R']], ids=' '.join)
def test_iperf3_tcp(module_nat, options):
    h6, gw, h4 = module_nat
    ping(h6, WEB)
    with Translator(gw) as t:
        before = t.stats()
        for server, client, target in (h4, h6, WEB), (h6, h4, v4_of(gw)):
            end = iperf(server, client, target, '-w', '128K', *options)
            assert end['sum_sent']['bytes'] >= (30 if '30M' in options else 5) << 20
            # What the receiver has not read when the sender is done lies in the sockets, twice 256 kB each.
            streams = 4 if '-P' in options else 1
            assert end['sum_received']['bytes'] >= end['sum_sent']['bytes'] - streams * (1 << 20)
        assert t.stats()['drops'] == before['drops']


@pytest.mark.parametrize('options', [['-l', '1000', '-b', '8M'], ['-l', '1000', '-b', '8M', '-R'],
                                     ['-l', '16', '-b', '100K'], ['-l', '1432', '-b', '8M', '-R']], ids=' '.join)
def test_iperf3_udp(module_nat, options):
    """The translator drops none; where a busy machine stands still for a moment, a queue of the kernel may overflow."""
    h6, gw, h4 = module_nat
    ping(h6, WEB)
    for way, server, client, target in (0, h4, h6, WEB), (1, h6, h4, v4_of(gw)):
        with Translator(gw) as t:
            before = t.stats()
            end = iperf(server, client, target, '-u', '-t', '1', *options)
            after = t.stats()
        assert end['sum']['lost_packets'] < end['sum']['packets'] / 2 > 25
        way ^= '-R' in options
        assert after['packets'][way] - before['packets'][way] >= end['sum']['packets'] - end['sum']['lost_packets']
        assert after['drops'] == before['drops']


@pytest.mark.parametrize('mtu', [1280, 1420, 9000])
def test_mtu(lab, site, mtu):
    """Links of other sizes on the IPv6 side, and on both: TCP finds its size, and the stack answers what is too big."""
    h6, gw, h4 = standard(lab, mtu=mtu, mtu4=max(mtu, 1500))
    gw.load()
    ping(h6, WEB, '-s', mtu - 48, '-M', 'do')
    h4.http(site, '192.0.2.2')
    h6.http(site, '::')
    fetch(h6, f'[{WEB}]', site, 'big')
    fetch(h4, v4_of(gw), site, 'big')
    ping(h4, v4_of(gw), '-s', mtu - 48, '-M', 'do')
    if mtu < 1500:
        h4.ip('route', 'flush', 'cache')
        out = h4.run('ping', '-c1', '-W1', '-s', mtu - 47, '-M', 'do', v4_of(gw), check=False).stdout
        assert f'mtu = {mtu - 20}' in out, out


def test_gateway_as_server(nat, site):
    """The gateway's own IPv4 addresses, through the NAT64 prefix."""
    h6, gw, _ = nat
    gw.ip('addr', 'add', '203.0.113.9/32', 'dev', 'lo')
    gw.http(site, '0.0.0.0')
    for address in '192.0.2.1', '203.0.113.9':
        ping(h6, embed(address))
        fetch(h6, f'[{embed(address)}]', site, 'big')


def test_gateway_as_client(nat, site):
    """The gateway reaches a mapped host by its IPv4 address: packets of its own, with unfinished checksums."""
    h6, gw, _ = nat
    ping(h6, WEB)
    address = v4_of(gw)
    ping(gw, address)
    h6.http(site, '::')
    fetch(gw, address, site, 'big')
    h6.start('iperf3', '-s', '-1')
    h6.listening(5201)
    end = json.loads(gw.run('iperf3', '-c', address, '-u', '-b', '8M', '-t', '1', '-l', '1000', '--json').stdout)['end']
    assert end['sum']['lost_packets'] < end['sum']['packets'] > 50


def test_masquerade(nat, site, tmp_path):
    """NAT44 behind it: the IPv4 side sees the gateway's address only, and needs no route to the pool."""
    h6, gw, h4 = nat
    gw.nft('add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; };'
           'add rule ip nat post oifname "eth1" masquerade')
    h4.ip('route', 'del', 'default')
    log = tmp_path / 'log'
    with open(log, 'w', encoding='ascii') as f:
        h4.start(PYTHON, '-u', '-m', 'http.server', '--bind', '192.0.2.2', '-d', site, 80, stdout=f)
        h4.listening(80)
        ping(h6, WEB)
        fetch(h6, f'[{WEB}]', site, 'big')
    assert set(re.findall(r'^\S*\d+\.\d+\.\d+\.\d+', log.read_text(), re.M)) == {'192.0.2.1'}


def test_port_forward_to_a_mapped_host(nat, site):
    """DNAT on the gateway to an IPv6-only server."""
    h6, gw, h4 = nat
    ping(h6, WEB)
    gw.nft('add table ip nat; add chain ip nat pre { type nat hook prerouting priority -100; };'
           f'add rule ip nat pre ip daddr 192.0.2.1 tcp dport 8080 dnat to {v4_of(gw)}:80')
    h6.http(site, '::')
    fetch(h4, '192.0.2.1:8080', site, 'big')


def test_firewall_sees_the_packets(nat):
    """netfilter's forward hook has its say: translated packets are ordinary IPv4 packets of the gateway."""
    h6, gw, h4 = nat
    gw.nft('add table ip f; add chain ip f pass { type filter hook forward priority 0; };'
           'add rule ip f pass ip saddr 10.0.1.0/24 icmp type echo-request counter drop')
    assert h6.run('ping', '-c1', '-W0.5', WEB, check=False).returncode
    assert 'packets 1 ' in gw.run('nft', 'list', 'ruleset').stdout
    gw.nft('delete table ip f')
    ping(h6, WEB)


@pytest.mark.parametrize('address', [None, '203.0.113.1/24'], ids=['no IPv4 address', 'an IPv4 address'])
@pytest.mark.parametrize('rp_filter', [1, 2])
def test_rp_filter(net, rp_filter, address, site):
    """Strict reverse path filtering, with and without an IPv4 address on the interface."""
    h6, gw, h4 = net
    if address:
        gw.addr('eth0', address)
    for conf in 'all', 'default', 'eth0', 'eth1':
        gw.sysctl(f'net.ipv4.conf.{conf}.rp_filter', rp_filter)
    gw.load()
    ping(h6, WEB)
    ping(h6, embed('192.0.2.1'))
    ping(h4, v4_of(gw))
    h4.http(site, '192.0.2.2')
    fetch(h6, f'[{WEB}]', site, 'index.html')


@pytest.fixture
def two(lab):
    """Two IPv6 hosts on the gateway's link."""
    a, b, gw, h4 = lab.hosts('a', 'b', 'gw', 'h4')
    lab.switch((a, 'eth0'), (b, 'eth0'), (gw, 'eth0'))
    lab.link(gw, 'eth1', h4, 'eth0')
    gw.forwards()
    gw.addr('eth0', 'fc00:6::1/64')
    gw.addr('eth1', '192.0.2.1/24')
    h4.addr('eth0', '192.0.2.2/24')
    h4.route('default', 'via', '192.0.2.1')
    for host, address in (a, 'fc00:6::a'), (b, 'fc00:6::b'):
        host.addr('eth0', f'{address}/64')
        host.route('default', 'via', 'fc00:6::1')
    gw.load()
    return a, b, gw, h4


def test_hairpin(two, site):
    """One IPv6 host to another through the NAT64 prefix."""
    a, b, gw, h4 = two
    for host in a, b:
        ping(host, WEB)
    target = embed(v4_of(gw, 'fc00:6::b'))
    out = ping(a, target)
    assert f'from {target}' in out and 'ttl=63' in out
    b.http(site, '::')
    fetch(a, f'[{target}]', site, 'big')
    ping(a, embed(v4_of(gw, 'fc00:6::a')))          # and to itself


def test_hosts_do_not_share_addresses(two):
    a, b, gw, h4 = two
    ping(a, WEB)
    ping(b, WEB)
    mine = {v4_of(gw, 'fc00:6::a'), v4_of(gw, 'fc00:6::b')}
    assert len(mine) == 2
    for address in mine:
        ping(h4, address)


def test_not_allowed(nat):
    h6, gw, h4 = nat
    h6.addr('eth0', '2001:db8:77::1/128')
    gw.route('2001:db8:77::1/128', 'via', 'fc00:6::6')
    assert h6.run('ping', '-c2', '-i', '0.01', '-W0.5', '-I', '2001:db8:77::1', WEB, check=False).returncode
    ping(h6, WEB, '-I', 'fc00:6::6')
    with Translator(gw) as t:
        assert t.drops() == {'not-allowed': 2}
        assert list(t.mappings()) == ['fc00:6::6']


def test_host_behind_a_router(nat, lab, site):
    """The IPv6 host is a hop away from the gateway: the next hop towards it is not itself."""
    h6, gw, h4 = nat
    far = lab.host('far')
    lab.link(far, 'eth0', h6, 'eth1')
    h6.sysctl('net.ipv6.conf.all.forwarding', 1)
    h6.addr('eth1', 'fc00:7::1/64')
    far.addr('eth0', 'fc00:7::7/64')
    far.route('default', 'via', 'fc00:7::1')
    gw.route('fc00:7::/64', 'via', 'fc00:6::6')
    assert 'ttl=62' in ping(far, WEB)
    far.http(site, '::')
    fetch(h4, v4_of(gw, 'fc00:7::7'), site, 'big')


def test_host_behind_another_interface(nat, lab):
    """Its packets come in on the translator's interface, the route to it leads out of another one: where it says."""
    h6, gw, h4 = nat
    ping(h6, WEB)
    lab.link(h6, 'eth1', gw, 'eth2')
    h6.addr('eth1', 'fc00:8::6/64')
    gw.addr('eth2', 'fc00:8::1/64')
    for conf in 'all', 'eth0':
        h6.sysctl(f'net.ipv6.conf.{conf}.accept_ra', 0)
    out = h6.run('ping', '-c3', '-i', '0.01', '-W2', '-I', 'fc00:8::6', WEB, check=False).stdout
    with Translator(gw) as t:
        drops = t.drops()
    assert '3 received' in out or drops.get('no-route'), f'neither arrived nor counted: {out} {drops}'


def test_no_route_is_counted(nat):
    """A mapped host that became unreachable: dropped with a reason, not sent anywhere."""
    h6, gw, h4 = nat
    ping(h6, WEB)
    address = v4_of(gw)
    gw.ip('addr', 'del', 'fc00:6::1/64', 'dev', 'eth0')
    wait_for(lambda: h4.run('ping', '-c1', '-W0.2', address, check=False).returncode, 'the route to be forgotten')
    with Translator(gw) as t:
        before = t.drops().get('no-route', 0)
    h4.run('ping', '-c3', '-i', '0.01', '-W0.2', address, check=False)
    with Translator(gw) as t:
        assert t.drops()['no-route'] >= before + 3
    gw.addr('eth0', 'fc00:6::1/64')
    wait_for(lambda: not h4.run('ping', '-c1', '-W0.5', address, check=False).returncode, 'the way to be found again')


def test_neighbour_that_moves(nat):
    """The host changes its MAC address and says so: no address is remembered for longer than a second."""
    h6, gw, h4 = nat
    ping(h6, WEB)
    address = v4_of(gw)
    ping(h4, address)
    h6.ip('link', 'set', 'eth0', 'address', '02:aa:bb:cc:dd:ee')
    h6.run('ping', '-c1', '-W5', 'fc00:6::1')
    gw.ip('neigh', 'replace', 'fc00:6::6', 'lladdr', '02:aa:bb:cc:dd:ee', 'dev', 'eth0')
    time.sleep(1)
    ping(h4, address)
