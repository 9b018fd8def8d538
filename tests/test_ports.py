# SPDX-License-Identifier: GPL-2.0-or-later
"""Several -i: interfaces that share one translator, a device of nat64's own, and are sent to straight."""

import ipaddress
import itertools
import json
import os
import re
import signal
import socket
import threading
import time

import pytest
import bpf
from bpf import Translator, tcx_programs
from lab import NAT64, Wire, embed, patience, standard, wait_for
from paths import fetch, hops, iperf, ping, serve, v4_of
from test_devices import DEVICES, needs, not_here
from test_load import inject, state, trace
from test_mappings import TEMPLATE
from test_monitor import Listener
from test_own_device import Router
from test_per_prefix import counted
from test_state import backlog_drops
from test_tcx import foreign

H4, WEB = '192.0.2.2', embed('192.0.2.2')
POOL = ('-4', '10.0.1.0/24', '-a', 'fc00::/8')
LANS = ('-i', 'lan0', '-i', 'lan1')
COUNTERS = '''
table ip6 t {
    counter forwarded { }
    chain forward {
        type filter hook forward priority 0;
        ct state invalid drop
        ip6 saddr 64:ff9b::/96 counter name forwarded
        ip6 daddr 64:ff9b::/96 counter name forwarded
    }
}
'''
# Not with --fast, which most packets of a connection go by, past this.
STATEFUL = '''
table ip t {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname { "lan0", "lan1", "nat64" } oifname "wan" accept
        iifname "wan" oifname "nat64" accept
    }
}
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(os.urandom(1_000_000))
    return path


@pytest.fixture
def router(lab):
    router = Router(lab)
    router.gw.nat64(*LANS, *POOL)
    yield router
    if 'nat64' in [name for _, name in router.gw.interfaces()]:
        router.gw.nat64('--device', 'nat64', '-u')


def rp_filter(gw, value):
    for conf in 'all', 'lan0', 'lan1':
        gw.sysctl(f'net.ipv4.conf.{conf}.rp_filter', value)


def status(gw, *which):
    done = gw.run(NAT64, *which, '--status', '--json', check=False)
    (s,) = json.loads(done.stdout)['translators']
    assert done.returncode == (0 if s['working'] else 1)
    return s


def forwarded(gw):
    """How many packets of the NAT64 prefix the IPv6 stack has passed on."""
    (counter,) = [o['counter'] for o in json.loads(gw.run('nft', '-j', 'list', 'counters', 'table', 'ip6', 't').stdout)['nftables']
                  if 'counter' in o]
    return counter['packets']


@pytest.mark.parametrize('extra', [(), ('--fast',)], ids=['default', 'fast'])
@pytest.mark.parametrize('rp', [0, 1, 2], ids='rp_filter={}'.format)
def test_lans_share_a_pool(router, file, rp, extra):
    """Hosts of two LANs, one behind another router on the second: one pool, straight to the LANs and past the IPv6 stack.
    What comes and goes elsewhere, by the IPv6 stack in both directions, if the prefix is routed to the device at all."""
    gw, h4 = router.gw, router.h4
    rp_filter(gw, rp)
    gw.nat64(*LANS, *POOL, *extra)
    gw.nft(COUNTERS + ('' if extra else STATEFUL))
    serve(h4, file.parent, '0.0.0.0')
    for v6, host in router.hosts.items():
        ping(host, WEB)
        fetch(host, f'[{WEB}]', file)
        serve(host, file.parent, '::')
        address = v4_of(gw, v6, 'nat64')
        assert address.startswith('10.0.1.')
        ping(h4, address)
        fetch(h4, address, file)
    hairpin = embed(v4_of(gw, 'fc00:8::8', 'nat64'))
    if not extra:
        gw.run('nft', 'add', 'rule', 'ip', 't', 'forward', 'iifname', '{ "lan0", "nat64" }', 'oifname', 'nat64', 'accept')
    fetch(router.a, f'[{hairpin}]', file)
    assert forwarded(gw) == 0
    assert status(gw)['ports'] == ['lan0', 'lan1'] and status(gw, '-i', 'lan1') == status(gw)
    assert gw.run('ping', '-c1', '-W0.3', WEB, check=False).returncode, 'the prefix is not to be routed to the device'

    gw.nat64('--device', 'nat64', '-i', 'lan0', *POOL, *extra)
    ping(router.a, WEB)
    assert forwarded(gw) == 0
    ping(gw, WEB)
    gone = forwarded(gw)
    ping(router.c, WEB, count=4)
    ping(h4, v4_of(gw, 'fc00:8::8', 'nat64'), count=4)
    assert forwarded(gw) - gone == 16, 'not all by the stack'
    fetch(router.b, f'[{WEB}]', file)
    with Translator(gw, 'nat64') as t:
        assert set(t.drops()) <= {'icmp-type'}          # redirects of the IPv4 stack about the hairpin


def test_ttl_and_path_mtu(router):
    """One hop, whichever way; what does not fit is told of, as from an interface of that MTU."""
    gw = router.gw
    mapped = None
    for host in gw, router.h4, router.r, router.c:             # as many errors as traceroutes one after the other ask for
        host.sysctl('net.ipv4.icmp_ratelimit', 0)
        host.sysctl('net.ipv6.icmp.ratelimit', 0)
    for argv in LANS, ('--device', 'nat64', '-i', 'lan0'):
        gw.nat64(*argv, *POOL)
        for host in router.a, router.c:
            way = [embed('192.0.2.1')]                          # the IPv4 stack, which alone has the packets; translated
            if host is router.c:
                way = ['fc00:8::1', *(way if argv is LANS else ['fc00:7::1'])]
            assert hops(host.run('traceroute', '-n', '-q1', WEB).stdout) == way + [WEB]
        mapped = v4_of(gw, 'fc00:8::8', 'nat64')
        assert hops(router.h4.run('traceroute', '-n', '-q1', mapped).stdout) == \
            ['192.0.2.1', v4_of(gw, 'fc00:7::8', 'nat64'), mapped]
    gw.nat64(*LANS, *POOL)
    for host, ifname in (gw, 'lan1'), (router.r, 'left'), (router.b, 'eth0'):
        host.ip('link', 'set', ifname, 'mtu', 1400)
    gw.nat64(*LANS, *POOL)
    found = router.h4.run('tracepath', '-n', mapped).stdout
    assert re.search(r'Resume: pmtu 1380\b', found), found
    end = iperf(router.h4, router.b, WEB, '-n', '20M', '-R')
    assert end['sum_received']['bytes'] >= 20_000_000
    with Translator(gw, 'nat64') as t:
        assert set(t.drops()) <= {'too-big'}


def test_different_mtus(router):
    """A super-packet goes straight only in segments that fit the link of its host."""
    gw = router.gw
    for host, ifname in (gw, 'lan0'), (router.a, 'eth0'), (gw, 'wan'), (router.h4, 'eth0'):
        host.ip('link', 'set', ifname, 'mtu', 9000)
    gw.nat64(*LANS, *POOL)
    ping(router.a, WEB, '-s', '8000')
    for host in router.a, router.b:
        for reverse in (), ('-R',):
            end = iperf(router.h4, host, WEB, '-n', '50M', *reverse)
            assert end['sum_sent']['bytes'] >= 50_000_000
    with Translator(gw, 'nat64') as t:
        stats = t.stats()
        assert set(t.drops()) <= {'too-big'}
    assert min(b / n for b, n in zip(stats['bytes'], stats['packets'])) > 40 and \
        max(b / n for b, n in zip(stats['bytes'], stats['packets'])) > 3000, stats


def test_may_be_fragmented(router):
    """RFC 7915 section 4: DF=0, and too long for the port of its host, is cut, whatever --lowest-ipv6-mtu says."""
    gw = router.gw
    for host, ifname in (gw, 'lan1'), (router.r, 'left'), (router.b, 'eth0'):
        host.ip('link', 'set', ifname, 'mtu', 1400)
    gw.nat64(*LANS, *POOL, '--lowest-ipv6-mtu', '1500')
    ping(router.b, WEB)
    address = v4_of(gw, 'fc00:7::7', 'nat64')
    with router.b:
        to = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with router.h4:
        by = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with to, by:
        to.bind(('::', 7))
        to.settimeout(patience(5))
        by.setsockopt(socket.IPPROTO_IP, 10, 0)                 # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
        for length in 1372, 1452, 3000, 1353, 1352:
            by.sendto(bytes(length), (address, 7))
            assert len(to.recv(65535)) == length
    with Translator(gw, 'nat64') as t:
        assert t.drops() == {}


def test_mac_of_the_device(router):
    """It may change at any time, as udev does it when a device is new."""
    gw = router.gw
    done = gw.run('ip', 'link', 'set', 'nat64', 'address', '02:00:00:00:00:99', check=False)
    if 'not supported' in done.stderr:
        not_here('an ifb instead of a dummy')
    assert done.returncode == 0
    for argv in LANS, ('--device', 'nat64', '-i', 'lan0'):
        gw.nat64(*argv, *POOL)
        gw.ip('link', 'set', 'nat64', 'address', f'02:00:00:00:00:{len(argv):02}')
        for host in router.hosts.values():
            ping(host, WEB)


@pytest.mark.parametrize('rp', [0, 1], ids='rp_filter={}'.format)
def test_bridge_that_has_another_mac(router, rp):
    """A bridge takes what is for the MAC address of one of its ports, too: hosts use it as long as they remember it. With
    br_netfilter, packets from a bridge arrive again."""
    gw, old = router.gw, router.gw.mac('lan1')
    gw.nat64('-i', 'lan0', '-u')
    gw.ip(*'link add br0 type bridge'.split())
    gw.ip(*'link set lan1 master br0'.split())
    gw.ip(*'link set br0 address 02:00:00:00:00:77 up'.split())
    gw.ip(*'addr flush dev lan1'.split())
    gw.addr('br0', 'fc00:7::1/64')
    rp_filter(gw, rp)
    gw.sysctl('net.ipv4.conf.br0.rp_filter', rp)
    router.b.ip('-6', 'neigh', 'replace', 'fc00:7::1', 'lladdr', old, 'dev', 'eth0', 'nud', 'permanent')
    wait_for(lambda: not router.b.run('ping', '-c1', '-W0.5', 'fc00:6::1', check=False).returncode, 'the bridge')
    for argv in ('-i', 'br0'), ('-i', 'lan0', '-i', 'br0'):
        gw.nat64(*argv, *POOL)
        ping(router.b, WEB)
    gw.nat64('-i', 'br0', '-u')


def test_device_by_its_name(router):
    """-i may be the device: then it is one without ports, as before it had some."""
    gw = router.gw
    for start in LANS, ('--device', 'nat64'):
        gw.nat64(*start, *POOL)
        gw.nat64('-i', 'nat64', *POOL, '-t', '100')
        s = status(gw)
        assert s['working'] and s['ports'] == [] and s['timeout'] == 100
        for host in router.hosts.values():
            ping(host, WEB)


def test_one_look_for_fast(lab, tmp_path):
    """At all interfaces, however many ports are taken away; not one for each port."""
    gw = lab.host('gw')
    for n in range(8):
        gw.ip('link', 'add', f'p{n}', 'type', 'veth', 'peer', 'name', f'q{n}')
        gw.ip('link', 'set', f'p{n}', 'up')
    looks = []
    for ports in 2, 8:
        gw.nat64(*[word for n in range(ports) for word in ('-i', f'p{n}')], *POOL)
        gw.run('strace', '-qq', '-o', tmp_path / 'trace', '-e', 'trace=bpf,sendto', NAT64, '-i', 'p0', '-u')
        looks.append(len(re.findall(r'RTM_GETQDISC|RTM_GETTFILTER|BPF_PROG_QUERY', (tmp_path / 'trace').read_text(encoding='latin1'))))
    assert looks[1] < 2.5 * looks[0], looks


def test_followed_by_a_port(router):
    """--monitor and --trace with any port are about the whole translator."""
    gw = router.gw
    monitor, trace = (Listener(gw, '-i', 'lan0', what, '--json', ifname='nat64') for what in ('--monitor', '--trace'))
    for host in router.a, router.b:
        ping(host, WEB, count=1)
    gw.nat64('--device', 'nat64', *LANS, *POOL)
    ping(router.b, WEB, count=1)
    assert [(e['interface'], e['event'], e['v6']) for e in monitor.stop()] == \
        [('nat64', 'created', 'fc00:6::6'), ('nat64', 'created', 'fc00:7::7')]
    assert [p['direction'] for p in trace.stop()] == 3 * ['6to4', '4to6']


def test_host_that_moves(router):
    """From a LAN to another one, and to one that is not named: with its address, and found there."""
    gw = router.gw
    gw.nat64('--device', 'nat64', *LANS, *POOL)
    address = None
    for argv in LANS, ('-i', 'lan0'):
        gw.nat64('--device', 'nat64', *argv, *POOL)
        router.a.addr('eth0', 'fc00:66::66/128')
        gw.ip(*'-6 route replace fc00:66::66/128 via fc00:6::6'.split())
        ping(router.a, WEB, '-I', 'fc00:66::66')
        address = address or v4_of(gw, 'fc00:66::66', 'nat64')
        router.a.ip(*'addr del fc00:66::66/128 dev eth0'.split())
        router.b.addr('eth0', 'fc00:66::66/128')
        gw.ip(*'-6 route replace fc00:66::66/128 via fc00:7::7'.split())
        time.sleep(0.3)                                         # for so long a next hop is remembered
        ping(router.h4, address)
        ping(router.b, WEB, '-I', 'fc00:66::66')
        router.b.ip(*'addr del fc00:66::66/128 dev eth0'.split())
    assert v4_of(gw, 'fc00:66::66', 'nat64') == address


def answered(ping):
    """(sent, received) of a ping that is to end."""
    os.killpg(ping.pid, signal.SIGINT)
    return map(int, re.search(r'(\d+) packets transmitted, (\d+) received', ping.communicate(timeout=20)[0]).groups())


@pytest.mark.parametrize('rp', [0, 1], ids='rp_filter={}'.format)
def test_forms_change_under_a_flood(router, rp):
    """From one interface to several, with the prefix routed to the device or not, and back: of a host that is served all the
    time no packet is lost, in either direction, nor its address."""
    gw, lan1 = router.gw, router.gw.mac('lan1')
    rp_filter(gw, rp)
    gw.nat64(*LANS, *POOL)
    ping(router.a, WEB)
    address = v4_of(gw, 'fc00:6::6', 'nat64')
    forms = [('-i', 'lan0'), LANS, ('-i', 'lan0', '-i', 'lan1', '--device', 'nat64'), ('--device', 'nat64', '-i', 'lan0'),
             ('-i', 'lan0', '-t', '100'), ('--device', 'nat64', '-i', 'lan1', '-i', 'lan0', '--fast'), ('-i', 'lan0', '--fast'),
             ('-i', 'lan0', '-i', 'lan1', '-s', 'fc00:77::7=10.0.1.77')]
    pings = [router.a.start('ping', '-q', '-i', '0.002', WEB), router.h4.start('ping', '-q', '-i', '0.002', address)]
    busy = backlog_drops()
    for form in [*forms, *forms]:
        gw.run(NAT64, *form, *POOL)
    for p in pings:
        sent, received = answered(p)
        assert sent > 500 and sent - received <= 1 + backlog_drops() - busy, f'{sent} sent, {received} received'
    assert v4_of(gw, 'fc00:6::6', status(gw)['interface']) == address and gw.mac('lan1') == lan1
    gw.nat64('-i', 'lan0', *POOL)
    gw.nat64('-i', 'lan0', '-u')
    assert not [line for line in gw.snapshot() if 'nat64_' in line or ' proto 64' in line]


def test_a_limit_is_for_all_ports(router):
    """The mappings of a prefix are counted together, whichever port its hosts are behind, and however the ports change."""
    gw = router.gw
    ping(router.a, WEB)
    for ports in LANS, LANS[:2], LANS:
        gw.nat64(*ports, *POOL, '--per-prefix', '8=2')
        for host in router.a, router.b:
            if host is router.a or ports == LANS:
                ping(host, WEB)
        with Translator(gw, 'lan0') as t:
            assert counted(t, 8) == {'fc00::/8': 2}
    assert router.c.run('ping', '-c1', '-W0.3', WEB, check=False).returncode
    assert status(gw)['6to4']['drops']['prefix-full']


@pytest.mark.skipif('not bpf.has_tcx()', reason='NO tcx, whose rows can be full: before Linux 6.6')
def test_a_limit_outlives_a_failure(lab):
    """The programs of one port were in place, without --per-prefix, when those of another could not be: what they have let in
    meanwhile is counted by those from before."""
    router = Router(lab)
    gw, wire = router.gw, Wire(router.a)
    wide = ('-4', '10.0.0.0/19', '-a', 'fc00::/8')
    gw.nat64('--device', 'nat64', '-i', 'lan0', *wide, '--per-prefix', '64=2')
    with pytest.raises(OSError):
        for n in range(65):
            foreign(gw, f'f{n}', 'egress', ifname='lan1')
    ended = threading.Event()

    def flood():
        eth = bytes.fromhex(gw.mac('lan0').replace(':', '')) + wire.mac + b'\x86\xdd'
        for n in itertools.count():
            if ended.wait(0.0001):
                return
            wire.send(eth + TEMPLATE[:8] + ipaddress.IPv6Address(f'fc00:1:0:{n & 0xffff:x}::1').packed + TEMPLATE[24:])
    thread = threading.Thread(target=flood)
    thread.start()
    done = gw.run(NAT64, '--device', 'nat64', *LANS, *wide, check=False)
    ended.set()
    thread.join()
    wire.close()
    assert done.returncode == 1 and re.fullmatch('nat64: lan1: cannot attach to the egress hook: .*\n', done.stderr)
    with Translator(gw, 'nat64') as t:
        assert len(counted(t)) > 10
    gw.nat64('--device', 'nat64', '-u')


def test_ports_come_and_go(router):
    """Others are served meanwhile. What has gone is told of, and taken up again when it is there."""
    gw = router.gw
    gw.nat64('--device', 'nat64', *LANS, *POOL)
    for host in router.a, router.b:
        ping(host, WEB)
    address = v4_of(gw, 'fc00:7::7', 'nat64')
    flood, busy = router.a.start('ping', '-q', '-i', '0.002', WEB), backlog_drops()
    for _ in range(3):
        gw.ip('link', 'set', 'lan1', 'down')
        gw.ip('link', 'set', 'lan1', 'address', '02:00:00:00:00:77', 'up')
        gw.addr('lan1', 'fc00:7::1/64')
        router.b.ip(*'-6 neigh flush dev eth0'.split())
        wait_for(lambda: not router.b.run('ping', '-c1', '-W0.5', WEB, check=False).returncode, 'the link')
        ping(router.h4, address)
        gw.nat64('--device', 'nat64', '-i', 'lan0', *POOL)
        gw.nat64('--device', 'nat64', *LANS, *POOL)
    gw.ip('link', 'set', 'lan1', 'name', 'lan9')
    gw.ip('link', 'add', 'lan1', 'type', 'veth', 'peer', 'name', 'other')
    assert status(gw)['working']                                # it is an interface, not a name
    gw.nat64('--device', 'nat64', '-i', 'lan9', '-i', 'lan0', *POOL)
    ping(router.b, WEB)
    gw.ip('link', 'del', 'lan1')
    gw.ip('link', 'del', 'lan9')
    s = status(gw)
    assert s['problems'] == ['its port lan9 is gone (load it again, with or without)']
    assert "-i lan9: no such interface" in gw.nat64('--device', 'nat64', '-i', 'lan9', '-i', 'lan0', *POOL).stderr
    assert status(gw)['working'] and status(gw)['ports'] == ['lan0']
    sent, received = answered(flood)
    assert sent > 500 and sent - received <= 1 + backlog_drops() - busy
    assert v4_of(gw, 'fc00:7::7', 'nat64') == address


def test_what_status_says(router):
    """Of each port: its programs, MTU, forwarding, rp_filter; and of a device that somebody has removed."""
    gw = router.gw
    rp_filter(gw, 0)
    gw.nat64(*LANS, *POOL)
    assert status(gw)['working']
    for what, back, says in (('link set lan1 mtu 1400', 'link set lan1 mtu 1500', 'the MTU of lan1 is 1400 and was 1500'),):
        gw.ip(*what.split())
        assert says in status(gw)['problems'][0]
        gw.ip(*back.split())
    for name, value, says in ('ipv4.conf.lan1.forwarding', 0, 'IPv4 forwarding is off on lan1'), \
            ('ipv4.conf.lan1.rp_filter', 1, 'lan1 drops packets by rp_filter'), \
            ('ipv4.conf.lan1.rp_filter', 2, 'lan1 drops packets by rp_filter'):
        before = gw.sysctl(f'net.{name}').strip()
        gw.sysctl(f'net.{name}', value)
        assert says in status(gw)['problems'][0]
        gw.sysctl(f'net.{name}', before)
    gw.sysctl('net.ipv4.conf.lan1.rp_filter', 2)
    gw.addr('lan1', '198.51.100.1/32')                          # with an address, the loose form lets them in
    assert status(gw)['working']
    gw.ip(*'addr del 198.51.100.1/32 dev lan1'.split())
    gw.ip('link', 'del', 'nat64')
    done = gw.run(NAT64, '-i', 'lan0', '--status', check=False)
    assert done.returncode == 1 and 'its device is gone' in done.stdout
    gw.nat64(*LANS, *POOL)                                      # its mappings were with its ports
    assert status(gw)['working']
    gw.ip('link', 'del', 'nat64')
    gw.nat64('-i', 'lan1', '-u')
    assert not [line for line in gw.snapshot() if 'nat64_' in line or ' proto 64' in line]


def test_fast_where_a_port_was(kind, lab):
    """A port that leaves, and has an IPv4 address, gets the program for --fast; of its filters nothing else is left."""
    h6, gw, h4 = standard(lab)
    lab.link(lab.host('h'), 'eth0', gw, 'eth2')
    gw.addr('eth2', '198.51.100.1/24')
    before = gw.snapshot()
    gw.nat64('-i', 'eth0', '-i', 'eth2', *POOL, '--fast')
    assert status(gw)['fast'] == ['eth1']
    gw.nat64('--device', 'nat64', '-i', 'eth0', *POOL, '--fast')
    assert sorted(status(gw)['fast']) == ['eth1', 'eth2']
    ping(h6, WEB)
    gw.nat64('--device', 'nat64', '-i', 'eth0', '-i', 'eth2', *POOL)        # and a port where that was
    assert status(gw)['ports'] == ['eth0', 'eth2']
    gw.nat64('--device', 'nat64', '-u')
    assert gw.snapshot() == before


def test_killed_half_way(router):
    """A route that leads to two interfaces, as it does for a moment, is known for ours: replaced, and removed."""
    gw = router.gw
    both = ('route', 'replace', '10.0.1.0/24', 'proto', 64, 'nexthop', 'via', '192.0.0.99', 'dev', 'nat64', 'onlink',
            'nexthop', 'via', '192.0.0.98', 'dev', 'lan0', 'onlink')
    gw.ip(*both)
    assert 'is not as it was made' in status(gw)['problems'][0]
    gw.nat64(*LANS, *POOL)
    assert status(gw)['working'] and 'nexthop' not in gw.ip('route')
    gw.ip(*both)
    gw.nat64('-i', 'lan0', '-u')
    assert '10.0.1.0/24' not in gw.ip('route')


def test_bad_input(router):
    gw = router.gw
    before = gw.snapshot()

    def refused(rc, *argv):
        stderr = gw.nat64(*argv, rc=rc).stderr
        assert gw.snapshot() == before
        return stderr

    for action in '--status', '-u', '--flush', '--mappings':
        assert '-i lan1' in refused(2, *LANS, action)
        assert '--device nat64' in refused(2, '--device', 'nat64', '-i', 'lan0', action)
    assert '-i lo' in refused(2, '-i', 'lan0', '-i', 'lo', *POOL)
    assert "own device" in refused(2, '-i', 'lan0', '-i', 'nat64', *POOL)
    assert '-i nosuch0' in refused(2, '-i', 'nosuch0', '-i', 'nosuch1', *POOL)
    assert '--fast' in refused(2, '--device', 'nat64', '--fast', *POOL)
    gw.nat64('-i', 'wan', '-4', '10.0.2.0/24', '-a', 'fc00::/8', '--icmp-src', '192.0.0.12', '-6', '2001:db8:64::/96')
    before = gw.snapshot()
    assert 'wan: has a translator of its own' in refused(1, *LANS, '-i', 'wan', *POOL)
    gw.nat64('-i', 'wan', '-u')


def test_names(lab):
    """Without --device the device has a name that is free, and keeps it."""
    h6, gw, h4 = standard(lab)
    gw.ip(*'link add nat64 type ifb'.split())
    gw.ip(*'link add p0 type veth peer name p1'.split())
    gw.nat64('-i', 'eth0', '-i', 'p0', *POOL)
    assert status(gw)['interface'] == 'nat64-2'
    gw.ip(*'link del nat64'.split())
    gw.nat64('-i', 'p0', '-i', 'eth0', '-i', 'eth0', *POOL)
    assert status(gw)['interface'] == 'nat64-2' and sorted(status(gw)['ports']) == ['eth0', 'p0']
    ping(h6, WEB)
    gw.nat64('-i', 'p0', '-u')


def test_configuration_file(lab, tmp_path):
    """Lines of a file and -i add up; the same interface twice is one."""
    h6, gw, h4 = standard(lab)
    gw.ip(*'link add p0 type veth peer name p1'.split())
    (tmp_path / 'conf').write_text('interface eth0\ninterface p0\nv4-prefix 10.0.1.0/24\nallowed-src fc00::/8\n')
    gw.nat64('-i', 'eth0', '-c', tmp_path / 'conf')
    assert sorted(status(gw)['ports']) == ['eth0', 'p0']
    ping(h6, WEB)
    gw.nat64('-i', 'p0', '-u')


@pytest.mark.parametrize('rp', [0, 1], ids='rp_filter={}'.format)
@pytest.mark.parametrize('kind', ['tun', 'tun with offloads', 'wireguard'])
def test_port_without_ethernet(lab, kind, rp, file):
    """A tunnel and a LAN: packets gain and lose the Ethernet header on their way between the device and the tunnel."""
    make, _ = DEVICES[kind]
    peer, h6, gw, h4 = lab.hosts('peer', 'h6', 'gw', 'h4')
    with needs(kind):
        make(lab, peer, gw)
    lab.link(h6, 'eth0', gw, 'lan')
    lab.link(gw, 'wan', h4, 'eth0')
    for host in peer, gw:
        host.ip('link', 'set', 'eth0', 'up')
    gw.forwards()
    for conf in 'all', 'eth0', 'lan':
        gw.sysctl(f'net.ipv4.conf.{conf}.rp_filter', rp)
    peer.addr('eth0', 'fc00:6::6/64')
    gw.addr('eth0', 'fc00:6::1/64')
    peer.route('::/0', 'dev', 'eth0')
    h6.addr('eth0', 'fc00:7::7/64')
    gw.addr('lan', 'fc00:7::1/64')
    h6.route('::/0', 'via', 'fc00:7::1')
    gw.addr('wan', '192.0.2.1/24')
    h4.addr('eth0', f'{H4}/24')
    h4.route('default', 'via', '192.0.2.1')
    gw.nat64('-i', 'eth0', '-i', 'lan', *POOL)
    serve(h4, file.parent, H4)
    for host, v6 in (h6, 'fc00:7::7'), (peer, 'fc00:6::6'):
        wait_for(lambda h=host: not h.run('ping', '-c1', '-W0.5', WEB, check=False).returncode, 'an answer')
        fetch(host, f'[{WEB}]', file)
        serve(host, file.parent, '::')
        address = v4_of(gw, v6, 'nat64')
        ping(h4, address)
        fetch(h4, address, file)
    with Translator(gw, 'nat64') as t:
        assert t.drops() == {}
    gw.nat64('-i', 'lan', '-u')


def test_every_step_may_fail(lab, tmp_path):
    """What fails half way leaves all ports as they were, in both directions between the forms. (Each form has a third of the
    steps: there are many.)"""
    _, gw, _ = standard(lab)
    gw.ip(*'link add p0 type veth peer name p1'.split())
    gw.ip('link', 'set', 'p0', 'up')
    one, two = ['-i', 'eth0', *POOL], ['-i', 'eth0', '-i', 'p0', *POOL]

    def there():
        links = [link['ifname'] for link in json.loads(gw.ip('-j', 'link'))]
        return links, state(gw), [tcx_programs(gw, 'p0', way) for way in ('ingress', 'egress')]

    def alike(what):
        """Without what is another one each time: programs, and by the index of a new device next hop and metric."""
        return re.sub(r"(nat64_\w+)', \d+|192\.0\.0\.\d+ dev|metric \d+", r'\1', str(what))

    def begin(argv):
        for ifname in 'eth0', 'p0':
            gw.run(NAT64, '-i', ifname, '-u', check=False)
        if argv:
            gw.run(NAT64, *argv)

    clean, failed = there(), 0
    for k, (start, aim) in enumerate((([], two), (one, two), (two, one))):
        begin(start)
        late = trace(gw, aim, tmp_path, late=True)
        begin(aim)
        reached = alike(there())
        begin(start)
        before = there()
        assert start or before == clean
        for syscall, n in sorted(late)[k::3]:
            what, rc, stderr = inject(gw, syscall, n, aim, 'ENOMEM')
            if not rc:
                assert stderr == '' and alike(there()) == reached, what
            elif 'the new options are in force' in stderr:
                gw.run(NAT64, *aim)
                assert alike(there()) == reached, what
            else:
                failed += 1
                assert rc == 1 and re.fullmatch(r'nat64: [^\n]+\n', stderr) and there() == before, (what, stderr)
                continue
            begin(start)
            before = there()
    assert failed >= 10
    begin([])
    assert there() == clean
