# SPDX-License-Identifier: GPL-2.0-or-later
"""Real programs over several routers on each side: traceroute, path MTU discovery, big datagrams, loss, reordering."""

import ipaddress
import os
import re
import select
import socket

import pytest

from lab import Lab, embed, patience, wait_for
from paths import H4, H6, ICMP_SRC, LINKS6, NAMES, Path, fetch, hops, iperf, ping, serve, v4_of
import conftest

WEB = embed(H4)
HOPS6 = ['fc00:6::1', '2001:db8:1::1', *map(embed, ('203.0.113.1', '203.0.113.2', '198.51.100.2', H4))]
HOPS4 = ['192.0.2.1', '198.51.100.1', '203.0.113.1', ICMP_SRC, ICMP_SRC]     # and then the target


@pytest.fixture(scope='module')
def long_path():
    with Lab() as lab:
        conftest.OPEN.append(lab)
        yield Path(lab).load()
    conftest.OPEN.remove(lab)


@pytest.fixture
def path(long_path):
    yield long_path
    long_path.forget()


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    d = tmp_path_factory.mktemp('site')
    for name, size in ('small', 300), ('medium', 1 << 20), ('big', int(os.environ.get('NAT64_TEST_BYTES', 20 << 20))):
        (d / name).write_bytes(os.urandom(size))
    return d


def is_dropped(host, table='ip f'):
    """Has the counting drop rule of dropping() met a packet?"""
    return int(re.search(r'packets (\d+) ', host.run('nft', 'list', 'table', *table.split()).stdout).group(1))


# ---- traceroute, tracepath

@pytest.mark.parametrize('how', [['traceroute', '-n', '-q1'], ['traceroute', '-n', '-q1', '-I'],
                                 ['traceroute', '-n', '-q1', '-T'], ['traceroute', '-n', '-q1', '-U'],
                                 ['traceroute', '-n', '-q1', '--mtu'], ['tracepath', '-n']], ids=' '.join)
def test_every_hop_is_seen(path, how):
    before = path.drops()
    assert hops(path.h6.run(*how, WEB).stdout) == HOPS6
    assert hops(path.h4.run(*how, path.pool_address).stdout) == [*HOPS4, path.pool_address]
    assert path.drops() == before


def test_hops_have_icmp_src(path):
    """--icmp-src; the routers of the IPv4 side know a way back to it, as rp_filter=1 wants."""
    path.load('--icmp-src', '198.18.0.8')
    assert hops(path.h4.run('traceroute', '-n', '-q1', path.pool_address).stdout)[3:5] == ['198.18.0.8'] * 2
    path.load()
    assert hops(path.h4.run('traceroute', '-n', '-q1', path.pool_address).stdout)[3:5] == [ICMP_SRC] * 2


def test_a_router_with_a_mapping_shows_its_own_address(path):
    """A router that is allowed appears with its address of the pool, the other one without."""
    path.load(allow=('fc00::/8', '2001:db8:2::/64'))
    seen = hops(path.h4.run('traceroute', '-n', '-q1', path.pool_address).stdout)
    assert ipaddress.ip_address(seen[3]) in ipaddress.ip_network('10.0.1.0/24') and seen[3] != path.pool_address
    assert seen[4] == ICMP_SRC
    path.gw.unload(i='left')        # or the router would keep its mapping
    path.load()


def test_sizes_of_ping(path):
    """Echo crosses whole; what needs fragments does not (RFC 7915 has no way to translate fragmented ICMP)."""
    for size in 0, 1, 8, 1000, 1232, 1233, 1400, 1452:
        ping(path.h6, WEB, '-s', size)
        ping(path.h4, path.pool_address, '-s', size)
    before = path.drops().get('fragment-icmp', 0)
    for host, target in (path.h6, WEB), (path.h4, path.pool_address):
        assert host.run('ping', '-c1', '-W0.3', '-s', 20000, target, check=False).returncode
    assert path.drops()['fragment-icmp'] > before


# ---- path MTU

@pytest.mark.parametrize('link, mtu, learnt6, learnt4', [
    ('r6b', 1300, 1300, 1280),      # between two IPv6 routers
    ('gw', 1400, 1400, 1380),       # and at the translator
    ('r6b', 1280, 1280, 1260),
    ('r4a', 1400, 1420, 1400),
    ('r4b', 1400, 1420, 1400),      # between two IPv4 routers
    ('h4', 1300, 1320, 1300),
])
def test_tracepath_finds_the_mtu(path, link, mtu, learnt6, learnt4):
    path.left_of(link, mtu)
    if link == 'gw':
        path.load()
    for host, target, learnt in (path.h6, WEB, learnt6), (path.h4, path.pool_address, learnt4):
        out = host.run('tracepath', '-n', target).stdout
        assert f'Resume: pmtu {learnt} hops 6 back 6' in out, out


@pytest.mark.parametrize('link, mtu', [('r6b', 1280), ('r6b', 1300), ('gw', 1400), ('r4b', 1400), ('r4b', 1300),
                                       ('r4b', 1000), ('r4b', 576), ('r6b+r4b', 1300)])
def test_tcp_discovers_the_mtu(path, site, link, mtu):
    """Both hosts' own links take 1500 bytes, so a small link in the middle is found by ICMP errors only. Smaller than
    1260 on the IPv4 side: IPv6 packets are no smaller than 1280, but their IPv4 form may be fragmented."""
    for name in link.split('+'):
        path.left_of(name, mtu)
    if link == 'gw':
        path.load()
    before = path.drops()
    servers = [serve(path.h4, site, H4), serve(path.h6, site, '::')]
    fetch(path.h6, f'[{WEB}]', site / 'medium')
    fetch(path.h4, path.pool_address, site / 'medium')
    for p in servers:
        path.lab.end(p)
    assert path.drops() == before


DROPPED = [('r6b', 1300, 'h4', 'ip', 'icmp type destination-unreachable', 'ip f'),
           ('r4b', 1300, 'h6', 'ip6', 'icmpv6 type packet-too-big', 'ip6 f')]


@pytest.mark.parametrize('link, mtu, server, family, match, table', DROPPED, ids=['4 to 6', '6 to 4'])
def test_without_the_icmp_error_tcp_hangs(path, site, link, mtu, server, family, match, table):
    """The other half of the test above: it is the translated error that makes the transfer work."""
    path.left_of(link, mtu)
    host, client, url = {'h4': (path.h4, path.h6, f'[{WEB}]'), 'h6': (path.h6, path.h4, path.pool_address)}[server]
    host.nft(f'add table {table}; add chain {table} in {{ type filter hook input priority 0; }};'
             f'add rule {table} in {match} counter drop')
    p = serve(host, site, H4 if server == 'h4' else '::')
    transfer = client.start('curl', '-sS', '--fail', '-g', '-m', patience(30), f'http://{url}/medium',
                            '-o', '/dev/null', '-w', 'all of %{size_download}')
    wait_for(lambda: is_dropped(host, table) > 2, 'errors about retransmissions')
    assert transfer.poll() is None, transfer.stdout.read()
    host.nft(f'delete table {table}')
    out = transfer.communicate(timeout=patience(35))[0]
    assert out == f'all of {1 << 20}'
    path.lab.end(p)


# ---- datagrams

def udp_pair(path, sender, discover):
    """(sending socket connected to the other host, receiving socket)."""
    with path.h6:
        s6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s6.bind((H6, 7000))
        s6.connect((WEB, 7000))
    with path.h4:
        s4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s4.bind((H4, 7000))
        s4.connect((path.pool_address, 7000))
    for s in s6, s4:
        s.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)    # SO_RCVBUFFORCE
        s.settimeout(patience(10))
    s4.setsockopt(socket.IPPROTO_IP, 10, discover)      # IP_MTU_DISCOVER
    return (s6, s4) if sender == 'h6' else (s4, s6)


DONT, WANT = 0, 1       # IP_PMTUDISC_*
SIZES = 0, 1, 1200, 1224, 1232, 1233, 1240, 1400, 1424, 1425, 1432, 1433, 1452, 1453, 1472, 1473, 3000, 9000, 20000, \
    60000, 65507


def exchange(path, sender, discover, sizes):
    """Each size arrives as it was sent."""
    tx, rx = udp_pair(path, sender, discover)
    with tx, rx:
        for size in sizes:
            data = os.urandom(size)
            for attempt in range(4):        # the first ones may be lost to path MTU discovery
                try:
                    tx.send(data)
                except OSError:             # EMSGSIZE was pending
                    continue
                if select.select([rx], [], [], patience(10 if discover == DONT or attempt == 3 else 0.3))[0]:
                    break
            assert rx.recv(1 << 16) == data, f'{size} bytes'
            while select.select([rx], [], [], 0)[0]:
                assert rx.recv(1 << 16) == data


@pytest.mark.parametrize('link, mtu', [(None, 1500), ('r6b', 1280), ('r4b', 1300), ('r4b', 576)])
@pytest.mark.parametrize('sender, discover', [('h6', WANT), ('h4', DONT), ('h4', WANT)],
                         ids=['h6', 'h4 DF=0', 'h4 DF=1 while it fits'])
def test_datagrams_of_all_sizes(path, sender, discover, link, mtu):
    """UDP with DF=0 is cut for the smallest IPv6 link; with DF=1 the sender is told and fragments itself."""
    if link:
        path.left_of(link, mtu)
    before = path.drops()
    exchange(path, sender, discover, SIZES)
    assert path.drops() == before


@pytest.mark.parametrize('lowest', [1280, 1400, 1500])
def test_lowest_ipv6_mtu(path, lowest):
    """DF=0: no IPv6 packet is longer, and the first fragments are as long as they can be."""
    path.load('--lowest-ipv6-mtu', lowest)
    tx, rx = udp_pair(path, 'h4', DONT)
    with tx, rx, path.h6, socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86dd)) as tap:
        tap.bind(('right', 0x86dd))
        tap.settimeout(patience(5))
        data = os.urandom(4000)
        tx.send(data)
        assert rx.recv(1 << 16) == data
        sizes, total = [], 0
        while total < 4008:
            packet, (_, _, kind, *_) = tap.recvfrom(1 << 16)
            if kind == socket.PACKET_HOST and packet[6] == 44:
                sizes.append(len(packet))
                total += len(packet) - 48
    assert max(sizes) == 48 + (lowest - 48) // 8 * 8, sizes
    path.load()


@pytest.mark.parametrize('mtu, rest', [(1280, 1500), (1420, 1500), (1420, 9000), (9000, 9000), (9000, 1500), (65535, 9000)])
def test_mtu_of_the_interface(path, site, mtu, rest):
    """The translator's interface is smaller or larger than the other links."""
    for name in NAMES[1:]:
        path.left_of(name, mtu if name == 'gw' else rest)
    path.load()
    before = path.drops()
    for host, target, least in (path.h6, WEB, 48), (path.h4, path.pool_address, 48):
        ping(host, target, '-M', 'do', '-s', min(mtu, rest) - least)
    servers = [serve(path.h4, site, H4), serve(path.h6, site, '::')]
    fetch(path.h6, f'[{WEB}]', site / 'medium')
    fetch(path.h4, path.pool_address, site / 'medium')
    for p in servers:
        path.lab.end(p)
    for sender, discover in ('h6', WANT), ('h4', DONT), ('h4', WANT):
        exchange(path, sender, discover, (1252, 1453, 8000, 30000))
    assert path.drops() == before


# ---- hairpinning

@pytest.fixture(scope='module')
def second(long_path):
    """A second IPv6 host, on r6b."""
    r6b = long_path.r6b
    host = long_path.lab.host('other')
    long_path.lab.link(r6b, 'side', host, 'left')
    r6b.addr('side', 'fc00:9::1/64')
    host.addr('left', 'fc00:9::9/64')
    host.route('default', 'via', 'fc00:9::1')
    long_path.gw.route('fc00:9::/64', 'via', f'{LINKS6["gw"]}6')
    host.sysctl('net.ipv6.icmp.ratelimit', 0)
    for name in 'all', 'left':      # Linux 5.10 would tell IPv4 hosts of a shorter way, by ICMP that does not cross
        long_path.gw.sysctl(f'net.ipv4.conf.{name}.send_redirects', 0)
    return host


@pytest.fixture
def other(path, second):
    """(that host, its pool address in the NAT64 prefix)"""
    ping(second, WEB, count=1)
    return second, embed(v4_of(path.gw, 'fc00:9::9', 'left'))


@pytest.mark.parametrize('how', [['traceroute', '-n', '-q1'], ['traceroute', '-n', '-q1', '-I'],
                                 ['traceroute', '-n', '-q1', '-T'], ['tracepath', '-n']], ids=' '.join)
def test_every_hop_between_two_ipv6_hosts(path, other, how):
    """The way to the translator and back: r6b is on it twice, the second time with the source that it has by RFC 6791."""
    host, address = other
    before = path.drops()
    assert hops(path.h6.run(*how, address).stdout) == [*HOPS6[:3], embed(ICMP_SRC), address]
    back = embed(path.pool_address)
    assert hops(host.run(*how, back).stdout) == ['fc00:9::1', HOPS6[2], embed(ICMP_SRC), embed(ICMP_SRC), back]
    assert path.drops() == before


def test_errors_between_two_ipv6_hosts(path, site, other):
    """Port unreachable gets back to the sender, and path MTU discovery works."""
    host, address = other
    before = path.drops()
    with path.h6, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.settimeout(patience(5))
        s.connect((address, 9))
        s.send(b'nobody is here')
        with pytest.raises(ConnectionRefusedError):
            s.recv(1)
    path.left_of('r6b', 1300)
    servers = [serve(host, site, '::'), serve(path.h6, site, '::')]
    fetch(path.h6, f'[{address}]', site / 'medium')
    fetch(host, f'[{embed(path.pool_address)}]', site / 'medium')
    for p in servers:
        path.lab.end(p)
    assert path.drops() == before


# ---- bulk

def test_a_big_file_over_a_bad_line(path, site):
    """Every hundredth packet is lost, on the routers of both sides, and TCP gets it all the same."""
    for host, family in (path.r6b, 'ip6'), (path.r4a, 'ip'):
        host.nft(f'add table {family} f; add chain {family} f forward {{ type filter hook forward priority 0; }};'
                 f'add rule {family} f forward numgen random mod 100 0 counter drop')
    servers = [serve(path.h4, site, H4), serve(path.h6, site, '::')]
    before = path.drops()
    fetch(path.h6, f'[{WEB}]', site / 'big')
    fetch(path.h4, path.pool_address, site / 'big')
    for host, family in (path.r6b, 'ip6'), (path.r4a, 'ip'):
        assert is_dropped(host, f'{family} f')
        host.nft(f'delete table {family} f')
    for p in servers:
        path.lab.end(p)
    assert path.drops() == before


def test_a_big_file_out_of_order(path, site):
    """Some packets take a slower queue and are overtaken."""
    for host, ifname in (path.gw, 'right'), (path.r6b, 'left'), (path.r6b, 'right'), (path.r4a, 'right'):
        host.nft(f'add table inet {ifname}; add chain inet {ifname} post {{ type filter hook postrouting priority 0; }};'
                 f'add rule inet {ifname} post oifname {ifname} meta priority set numgen random mod 20 '
                 'map { 0: 1:2, 1-19: 1:1 }')
        host.batch('tc', f'qdisc add dev {ifname} root handle 1: htb default 1',
                   f'class add dev {ifname} parent 1: classid 1:1 htb rate 2gbit quantum 60000',
                   f'class add dev {ifname} parent 1: classid 1:2 htb rate 20mbit quantum 1500')
    servers = [serve(path.h4, site, H4), serve(path.h6, site, '::')]
    before = path.drops()
    fetch(path.h6, f'[{WEB}]', site / 'big')
    fetch(path.h4, path.pool_address, site / 'big')
    for host in path.h4, path.h6:
        seen = host.run('nstat', '-asz', 'TcpExtTCPOFOQueue', 'TcpExtTCPSACKReorder', 'TcpExtTCPTSReorder').stdout
        assert sum(int(n) for n in re.findall(r'TCP\w+ +(\d+)', seen)), seen
    for host, ifname in (path.gw, 'right'), (path.r6b, 'left'), (path.r6b, 'right'), (path.r4a, 'right'):
        host.nft(f'delete table inet {ifname}')
        host.batch('tc', f'qdisc del dev {ifname} root')
    for p in servers:
        path.lab.end(p)
    assert path.drops() == before


@pytest.mark.parametrize('link, mtu', [('r6b', 1280), ('r4b', 1300)])
def test_iperf3_over_a_small_link(path, link, mtu):
    path.left_of(link, mtu)
    before = path.drops()
    for server, client, target in (path.h4, path.h6, WEB), (path.h6, path.h4, path.pool_address):
        for options in ['-n', '10M'], ['-n', '10M', '-R'], ['-n', '10M', '-P', '4']:
            assert iperf(server, client, target, *options)['sum_sent']['bytes'] >= 10 << 20
    assert path.drops() == before
