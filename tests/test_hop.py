# SPDX-License-Identifier: GPL-2.0-or-later
"""The next hop that the routes to the translator go via: an address of 192.0.0.0/24 that nobody has, which the kernel
takes for a broadcast address, so that it never asks for it; whatever becomes of the interface's own MAC address."""

import contextlib
import json
import re
import subprocess
import time

import pytest

from bpf import Translator
from lab import NAT64, PYTHON, Wire, embed, patience, standard, wait_for
from paths import fetch, ping, serve, v4_of
from test_devices import not_here, site
from test_load import LOAD, inject, second, state, trace

WEB = embed('192.0.2.2')
BROADCAST = 'ff:ff:ff:ff:ff:ff'


def hop_of(gw, dev='eth0', net='10.0.1.0/24'):
    route, = json.loads(gw.ip('-j', 'route', 'show', net, 'dev', dev))
    return route['gateway']


def neighbours(gw, dev='eth0'):
    """The IPv4 neighbours of an interface, also those that the kernel made by itself."""
    return {n['dst']: n for n in json.loads(gw.ip('-j', '-4', 'neigh', 'show', 'dev', dev, 'nud', 'all'))}


def ours(gw):
    """All that nat64 has among the routes and neighbours, and what the kernel has for its next hop."""
    text = gw.ip('route', 'show', 'table', 'all', 'proto', '64') + gw.ip('-6', 'route', 'show', 'table', 'all', 'proto', '64')
    for family in '-4', '-6':
        text += ''.join(line + '\n' for line in gw.ip(family, 'neigh', 'show', 'dev', 'eth0', 'nud', 'all').splitlines()
                        if re.match(r'192\.0\.0\.|64:ff9b|fe80::64:ff9b', line))
    return text


@contextlib.contextmanager
def pings(*ways):
    """Packets that go on meanwhile, and all arrive: (from, to)."""
    running = [host.start('ping', '-n', '-i', '0.005', '-w', int(patience(60)), to) for host, to in ways]
    for p in running:
        assert 'bytes from' in p.stdout.readline() + p.stdout.readline()
    yield
    for p in running:           # some more, however short that was
        for _ in range(10):
            p.stdout.readline()
        p.send_signal(2)
        report = p.communicate(timeout=patience(20))[0]
        sent, received = map(int, re.search(r'(\d+) packets transmitted, (\d+) received', report).groups())
        assert sent - received <= 1 and received > 10, report     # the last is under way


def change_mac(gw, dev, address):
    gw.ip('link', 'set', dev, 'address', address)
    assert gw.mac(dev) == address


@pytest.mark.parametrize('fast', [[], ['--fast']], ids=['stack', 'fast'])
@pytest.mark.parametrize('how', ['hand', 'bridge'])
def test_the_mac_address_changes(lab, tmp_path_factory, fast, how):
    """Of an interface, while it is in use: by a command, or as a port with a lower one joins a bridge."""
    h6, gw, h4 = lab.hosts('h6', 'gw', 'h4')
    if how == 'hand':
        lab.link(h6, 'eth0', gw, 'eth0')
    else:
        lab.link(h6, 'eth0', gw, 'port')
        gw.ip('link', 'set', 'port', 'down')
        gw.ip('link', 'set', 'port', 'address', '0a:00:00:00:00:01')
        gw.ip('link', 'set', 'port', 'up')
        gw.ip('link', 'add', 'eth0', 'type', 'bridge')
        gw.ip('link', 'set', 'port', 'master', 'eth0')
        gw.ip('link', 'set', 'eth0', 'up')
        gw.ip('link', 'add', 'low', 'address', '02:00:00:00:00:01', 'type', 'veth', 'peer', 'name', 'peer')
        for dev in 'low', 'peer':
            gw.ip('link', 'set', dev, 'up')
        assert gw.mac('eth0') == '0a:00:00:00:00:01'
    lab.link(gw, 'eth1', h4, 'eth0')
    gw.forwards()
    gw.sysctl('net.ipv6.conf.eth0.ndisc_notify', 1)       # or h6 finds out half a minute later
    h6.addr('eth0', 'fc00:6::6/64')
    gw.addr('eth0', 'fc00:6::1/64')
    gw.addr('eth1', '192.0.2.1/24')
    h4.addr('eth0', '192.0.2.2/24')
    h4.route('default', 'via', '192.0.2.1')
    h6.route('default', 'via', 'fc00:6::1')
    wait_for(lambda: not h6.run('ping', '-c1', '-W0.5', 'fc00:6::1', check=False).returncode, 'the link to work')
    gw.load(*fast)
    gw.loaded['eth0'] = {line for line in gw.loaded['eth0'] if ' lladdr ' not in line}  # that goes
    ping(h6, WEB)
    address = v4_of(gw, 'fc00:6::6', 'eth0')
    big = site(tmp_path_factory, 1_000_000)
    serve(h4, big.parent, '192.0.2.2')
    serve(h6, big.parent, '::')
    tcp = h6.start('ping', '-n', '-i', '0.01', WEB)         # traffic meanwhile
    for n in range(1, 4):
        if how == 'hand':
            change_mac(gw, 'eth0', f'02:00:00:00:00:{n:02x}')
        else:
            gw.ip('link', 'set', 'low', *(['nomaster'] if n == 2 else ['master', 'eth0']))
            assert gw.mac('eth0') == f'0{"2a"[n == 2]}:00:00:00:00:01'
        wait_for(lambda: not h6.run('ping', '-c1', '-W0.3', WEB, check=False).returncode, 'the way to be found again')
        ping(h4, address)
        fetch(h6, f'[{WEB}]', big)
        fetch(h4, address, big)
        unknown = '10.0.1.200'
        done = h4.run('ping', '-c1', '-W2', unknown, check=False)
        assert f'From {unknown} icmp_seq=1 Destination Host Unreachable' in done.stdout, done.stdout
    lab.end(tcp)
    entry = neighbours(gw)[hop_of(gw)]
    assert (entry['state'], entry['lladdr']) == (['NOARP'], BROADCAST)
    with Translator(gw) as t:
        assert not set(t.drops()) - {'no-mapping'}
    gw.unload()
    assert ours(gw) == ''


def test_frames_have_the_new_source(lab):
    """With --fast, too, where the program writes it: a moment after the change, for all hosts."""
    h6, gw, h4 = standard(lab)
    gw.sysctl('net.ipv6.conf.eth0.ndisc_notify', 1)
    gw.load('--fast')
    gw.loaded['eth0'] = {line for line in gw.loaded['eth0'] if ' lladdr ' not in line}
    ping(h6, WEB)
    address = v4_of(gw, 'fc00:6::6', 'eth0')
    p = h4.start(PYTHON, '-c', f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(b'x', ({address!r}, 9))
    time.sleep(.002)
""")
    change_mac(gw, 'eth0', '02:00:00:00:00:07')
    time.sleep(1)
    seen = h6.run('tcpdump', '-nnec50', '-i', 'eth0', 'udp and ip6 and dst port 9', timeout=20).stdout
    sources = set(re.findall(r'^\S+ (\S+) > ', seen, re.M))
    assert sources == {'02:00:00:00:00:07'}, seen
    lab.end(p)


def test_nothing_leaves_as_it_came(net):
    """While one IPv4 prefix takes the place of another, routes and programs do not change in the same moment."""
    h6, gw, h4 = net
    wire = Wire(h6)
    with wire.sock, contextlib.ExitStack() as stack:
        for n in 1, 2:
            p = h4.start('ping', '-n', '-f', '-i', '0.0005', f'10.0.{n}.9', stdout=subprocess.DEVNULL)
            stack.callback(h4.lab.end, p)
        for n in 1, 2, 1, 2:
            gw.run(NAT64, '-i', 'eth0', '-4', f'10.0.{n}.0/24', '-a', 'fc00::/8')
        with Translator(gw) as t:
            wait_for(lambda: t.drops().get('no-mapping', 0) > 10, 'packets to come')
        gw.run(NAT64, '-i', 'eth0', '-u')
        while packet := wire.read(0.2):
            assert packet[0] >> 4 == 6, f'untranslated: {packet[:20].hex()}'


@pytest.mark.parametrize('state', ['permanent', 'all'])
def test_neighbours_flushed(nat, state):
    h6, gw, h4 = nat
    ping(h6, WEB)
    for _ in range(3):
        gw.ip('-4', 'neigh', 'flush', 'dev', 'eth0', 'nud', state)
        ping(h6, WEB)
    assert neighbours(gw)[hop_of(gw)]['lladdr'] == BROADCAST
    before = ours(gw)
    gw.nat64('-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8')       # makes the entry its own again
    assert ours(gw) != before and 'PERMANENT proto 64' in ours(gw)
    gw.ip('-4', 'neigh', 'flush', 'dev', 'eth0', 'nud', 'permanent')
    ping(h6, WEB)
    gw.loaded.clear()
    gw.nat64('-i', 'eth0', '-u')
    assert ours(gw) == ''


def test_routes_change_while_packets_flow(nat):
    """The broadcast route goes and comes back each time; the next hop stays the same one."""
    h6, gw, h4 = nat
    ping(h6, WEB)
    address, hop = v4_of(gw, 'fc00:6::6', 'eth0'), hop_of(gw)
    with pings((h6, WEB), (h4, address)):
        for n in range(6):
            gw.load('-s', f'fc00::80=10.0.2.{n}', '-s', 'fc00:9::/120=10.0.3.0/24')
            if n == 3:
                gw.ip('-4', 'neigh', 'flush', 'dev', 'eth0', 'nud', 'permanent')
                gw.loaded['eth0'] = {line for line in gw.loaded['eth0'] if ' lladdr ' not in line}
            assert hop_of(gw) == hop_of(gw, net='10.0.3.0/24') == hop
            assert f'broadcast {hop} dev eth0' in gw.ip('route', 'show', 'table', 'local')
            gw.ip('link', 'set', 'eth0', 'mtu', 1500 - n)       # all routes get another MTU


# What versions before had: routes by way of an IPv6 neighbour, with either address.
OLD = 'route replace 10.0.1.0/24 via inet6 {via} dev eth0 onlink mtu 1480 proto 64', \
    'route replace 192.0.0.8 via inet6 {via} dev eth0 onlink mtu 1480 metric {index} proto 64'


def make_old(gw, via):
    """Turns what is loaded into what an older nat64 would have left."""
    hop = hop_of(gw)
    index = json.loads(gw.ip('-j', 'link', 'show', 'dev', 'eth0'))[0]['ifindex']
    gw.ip('-6', 'neigh', 'add', via, 'lladdr', '02:6e:61:74:36:34', 'dev', 'eth0', 'nud', 'permanent', 'protocol', '64')
    for line in OLD:
        gw.ip(*line.format(via=via, index=index).split())
    gw.ip('route', 'del', 'broadcast', hop, 'dev', 'eth0', 'table', 'local')
    gw.ip('neigh', 'del', hop, 'dev', 'eth0')
    gw.loaded.clear()
    assert hop not in ours(gw) and via in ours(gw)


@pytest.mark.parametrize('via', ['64:ff9b::', 'fe80::64:ff9b'])
def test_after_an_older_version(nat, via):
    h6, gw, h4 = nat
    ping(h6, WEB)
    with pings((h6, WEB), (h4, v4_of(gw, 'fc00:6::6', 'eth0'))):
        make_old(gw, via)
        gw.run(NAT64, '-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8')
        assert via not in ours(gw) and hop_of(gw) in ours(gw)
    make_old(gw, via)
    gw.nat64('-i', 'eth0', '-u')
    assert ours(gw) == ''


def test_another_next_hop(nat):
    """It gives way to an address that the options name, and to one that somebody has."""
    h6, gw, h4 = nat
    ping(h6, WEB)
    seen = [hop_of(gw)]
    with pings((h6, WEB), (h4, v4_of(gw, 'fc00:6::6', 'eth0'))):
        for extra in ['--icmp-src', seen[0]], ['-s', f'fc00::80={seen[0]}'], []:
            gw.load(*extra)
            seen.append(hop_of(gw))
            assert f'{hop_of(gw)} dev eth0' in gw.ip('route', 'show', 'table', 'local')
        gw.addr('eth1', f'{seen[3]}/32')
        gw.load()
    assert seen[0] != seen[1] == seen[2] == seen[3] != hop_of(gw)
    assert seen[1] not in ours(gw)


def test_which_next_hop(net, lab):
    """Never an address that a host or this machine could have."""
    h6, gw, h4 = net
    gw.load()
    usual = hop_of(gw)
    gw.unload()
    last = int(usual.split('.')[-1])
    taken = [['addr', 'add', f'192.0.0.{last}/32', 'dev', 'eth1'], ['route', 'add', f'192.0.0.{last + 1}', 'via', '192.0.2.2'],
             ['route', 'add', '198.18.0.0/15', 'via', f'192.0.0.{last + 2}', 'dev', 'eth1', 'onlink'],
             ['neigh', 'add', f'192.0.0.{last + 3}', 'lladdr', '02:11:22:33:44:55', 'dev', 'eth0', 'nud', 'permanent'],
             ['route', 'add', 'broadcast', f'192.0.0.{last + 4}', 'dev', 'eth1', 'table', 'local']]
    for command in taken:
        gw.ip(*command)
    gw.ip('route', 'add', 'blackhole', '192.0.0.0/24')      # which is nobody's
    gw.load()
    assert hop_of(gw) == f'192.0.0.{last + len(taken)}'
    ping(h6, WEB)
    b6 = second(lab, gw)
    gw.load('-6', '2001:db8:64::/96', i='eth2', v4='10.0.2.0/24')
    assert hop_of(gw, 'eth2', '10.0.2.0/24') != hop_of(gw)
    ping(h6, WEB)
    ping(b6, embed('192.0.2.2', '2001:db8:64::/96'))
    gw.unload(i='eth2')
    gw.unload()
    assert '02:11:22:33:44:55' in gw.ip('neigh', 'show', f'192.0.0.{last + 3}', 'dev', 'eth0')


def test_none_is_left(net):
    _, gw, _ = net
    done = gw.load('--icmp-src', '192.0.2.99', v4='192.0.0.0/24', rc=1)
    assert '192.0.0.0/24' in done.stderr


def test_no_local_table(lab):
    """A namespace where even the loopback interface has had no address: the kernel takes all for broadcast addresses."""
    script = f"""
        ip link add eth0 type veth peer name peer
        ip link set peer up; ip link set eth0 up
        ! ip route show table local >/dev/null 2>&1 || exit 9
        {NAT64} -i eth0 -4 10.0.1.0/24 -a fc00::/8 2>/dev/null || exit 1
        ip route show table all proto 64
        ip neigh show nud permanent
        {NAT64} -i eth0 -u
        ip route show table all proto 64
        ip neigh show nud permanent"""
    done = lab.host('outside').run('unshare', '--net', 'sh', '-c', script, check=False)
    assert done.returncode == 0, done
    assert re.sub(r'192\.0\.0\.[1-9]\d+', 'HOP', done.stdout).splitlines() == [
        '10.0.1.0/24 via HOP dev eth0 onlink mtu 1480 ', '192.0.0.8 via HOP dev eth0 metric 3 onlink mtu 1480 ',
        'broadcast HOP dev eth0 table local scope link ', 'HOP dev eth0 lladdr 02:6e:61:74:36:34 PERMANENT proto 64 ']


FLOWTABLE = '''
table inet f {
    flowtable ft { hook ingress priority 0; devices = { eth0, eth1 }; }
    chain forward { type filter hook forward priority 0; meta l4proto { tcp, udp } flow add @ft; }
}
'''
MASQUERADE = '''
table ip n {
    chain post { type nat hook postrouting priority srcnat; oifname eth1 masquerade; }
}
'''


@pytest.mark.parametrize('nat', ['', MASQUERADE], ids=['plain', 'masquerade'])
def test_flowtable(lab, tmp_path_factory, nat):
    """Software flow offloading, as many home routers have it: past the stack, but by the same next hop."""
    h6, gw, h4 = standard(lab)
    done = gw.run('nft', FLOWTABLE + nat, check=False)
    if done.returncode:
        not_here('nft flowtable')
    if nat:
        h4.ip('route', 'del', 'default')
    gw.load()
    ping(h6, WEB)
    big = site(tmp_path_factory, 20_000_000)
    serve(h4, big.parent, '192.0.2.2')
    client = h6.start('curl', '-gsSf', '-m', int(patience(60)), '--limit-rate', '2M', '-o', '/dev/null', f'http://[{WEB}]/big')
    wait_for(lambda: '[OFFLOAD]' in conntrack(gw), 'a flow to be offloaded')
    by_stack, all_of_them = forwarded(gw), translated(gw)
    fetch(h6, f'[{WEB}]', big, timeout=60)
    assert client.wait(patience(60)) == 0, client.stdout.read()
    assert forwarded(gw) - by_stack < (translated(gw) - all_of_them) / 2
    with Translator(gw) as t:
        assert t.drops() == {}


def conntrack(gw):
    with gw, open('/proc/thread-self/net/nf_conntrack', encoding='ascii') as f:
        return f.read()


def translated(gw):
    with Translator(gw) as t:
        return sum(t.stats()['packets'])


def forwarded(gw):
    with gw, open('/proc/thread-self/net/snmp', encoding='ascii') as f:
        names, values = [line.split() for line in f if line.startswith('Ip:')]
    return int(values[names.index('ForwDatagrams')])


def test_every_step_to_another_next_hop_may_fail(nat, tmp_path):
    """The routes go back to the old one, which is a broadcast address meanwhile, and must be none while they do."""
    h6, gw, _ = nat
    ping(h6, WEB)
    gw.loaded.clear()
    other = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '--icmp-src', hop_of(gw), '-s', 'fc00::80=10.0.2.80']
    steps = [(call, n) for call, n in trace(gw, other, tmp_path, late=True) if call != 'bpf']
    gw.run(NAT64, '-i', 'eth0', '-u')
    gw.run(NAT64, *LOAD)
    before, failed = state(gw), 0
    for syscall, n in steps:
        what, rc, stderr = inject(gw, syscall, n, other, 'ENOMEM')
        if rc == 0 or 'but for this the new options are in force' in stderr:
            gw.run(NAT64, '-i', 'eth0', '-u')
            gw.run(NAT64, *LOAD)
            before = state(gw)
            continue
        failed += 1
        assert rc == 1 and re.fullmatch(r'nat64: [^\n]+\n', stderr), what
        assert state(gw) == before, what
        ping(h6, WEB)
    assert failed >= 7
    gw.nat64('-i', 'eth0', '-u')
    assert ours(gw) == ''
