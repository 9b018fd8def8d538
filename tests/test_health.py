# SPDX-License-Identifier: GPL-2.0-or-later
"""--status tells whether what the translator needs is in place, and what is not; and it works again when that is mended."""

import json
import re

import pytest

from lab import NAT64, embed, wait_for
from test_hop import hop_of
from test_load import remove_by_hand, second

WEB = embed('192.0.2.2')
LOAD = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8']


def working(gw, *extra):
    """What the three forms of --status say, which is the same: the problems."""
    text, doc, metrics = (gw.run(NAT64, '-i', 'eth0', '--status', *form, check=False) for form in
                          ([], ['--json'], ['--metrics']))
    said, = json.loads(doc.stdout)['translators']
    problems = said['problems']
    assert said['working'] == (problems == [])
    shown = re.search(r'^  working           (yes|no: .*\n(?: {20}.*\n)*)', text.stdout, re.M).group(1)
    assert shown.replace('no: ', '').split('\n') == [*(' ' * 20 * bool(n) + p for n, p in enumerate(problems)), ''] \
        if problems else shown == 'yes'
    assert f'nat64_working{{interface="eth0"}} {int(not problems)}\n' in metrics.stdout
    complaint = ''
    if problems:
        complaint = f'nat64: eth0: does not work: {problems[0]}' + (f'; and {len(problems) - 1} more' if problems[1:] else '') + '\n'
    for done in text, doc, metrics:
        assert (done.returncode, done.stderr) == (int(bool(problems)), complaint)
    return problems


# Name: (commands of ip on gw, or sysctls; what it says, one regular expression for each problem)
CASES = {
    'route removed': (['route del 10.0.1.0/24'], ['the route to 10.0.1.0/24 is missing .*']),
    'all routes removed': (['route flush proto 64'], ['the route to 10.0.1.0/24 and 3 more are missing .*']),
    'route replaced': (['route replace 10.0.1.0/24 via 192.0.2.2'], ['.*10.0.1.0/24.* on eth1']),
    'route of another next hop': (['route replace 10.0.1.0/24 via 192.0.0.99 dev eth0 onlink mtu 1480 proto 64'],
                                  ['the route to 192.0.0.8 is not as it was made .*', 'the next hop 192.0.0.99 is no broadcast .*']),
    'route without MTU': (['route replace 10.0.1.0/24 via 192.0.0.99 dev eth0 onlink proto 64'],
                          ['the route to 10.0.1.0/24 is not as it was made .*']),
    'part routed elsewhere': (['route add 10.0.1.16/28 via 192.0.2.2'], ['.*10.0.1.16/28 on eth1']),
    'static route removed': (['route del 203.0.113.0/24'], ['the route to 203.0.113.0/24 is missing .*']),
    'no broadcast address': (['route del broadcast {hop} dev eth0 table local'],
                             ['the next hop {hop} is no broadcast address there any more .*']),
    'down': (['link set eth0 down'], ['interface is down .*']),
    'down and up': (['link set eth0 down', 'link set eth0 up'], ['the route to 10.0.1.0/24 and 3 more are missing .*']),
    'last IPv4 address removed': (['addr add 203.0.113.1/30 dev eth0', 'addr del 203.0.113.1/30 dev eth0'],
                                  ['the route to 10.0.1.0/24 and 3 more are missing .*']),
    'MTU': (['link set eth0 mtu 1400'], ['its MTU is 1400 and was 1500 when it was loaded .*']),
    'IPv6 disabled': ({'net.ipv6.conf.eth0.disable_ipv6': 1}, ['IPv6 is disabled .*']),
    'port of a bridge': (['link add br0 type bridge', 'link set eth0 master br0'], ['is a port of br0: .*']),
    'IPv4 forwarding': ({'net.ipv4.ip_forward': 0}, ['IPv4 forwarding is off .sysctl net.ipv4.ip_forward=1.']),
    'IPv4 forwarding there': ({'net.ipv4.conf.eth0.forwarding': 0},
                              ['IPv4 forwarding is off there .sysctl net.ipv4.conf.eth0.forwarding=1.']),
    'IPv4 forwarding of the uplink': ({'net.ipv4.conf.eth1.forwarding': 0},
                                      ['IPv4 forwarding is off on eth1 .sysctl net.ipv4.conf.eth1.forwarding=1.']),
    'IPv6 forwarding': ({'net.ipv6.conf.all.forwarding': 0}, ['IPv6 forwarding is off .sysctl net.ipv6.conf.all.forwarding=1.']),
    'IPv6 forwarding there': ({'net.ipv6.conf.eth0.forwarding': 0},
                              ['IPv6 forwarding is off there .sysctl net.ipv6.conf.eth0.forwarding=1.']),
    'several': ({'net.ipv4.ip_forward': 0, 'net.ipv6.conf.all.forwarding': 0}, ['IPv4 forwarding .*', 'IPv6 forwarding .*']),
}
# What is not wrong
FINE = {
    'a losing route': ['route add blackhole 10.0.1.0/24 metric 99'],
    'a wider route': ['route add 10.0.0.0/8 via 192.0.2.2'],
    'neighbours gone': ['neigh flush dev eth0 nud all'],
    'another MAC address': ['link set eth0 address 02:00:00:00:00:09'],
    'IPv4 addresses there': ['addr add 192.168.5.1/30 dev eth0'],
    'uplink by itself': {'net.ipv4.ip_forward': 0, 'net.ipv6.conf.all.forwarding': 0, 'net.ipv4.conf.eth0.forwarding': 1,
                         'net.ipv4.conf.eth1.forwarding': 1, 'net.ipv6.conf.eth0.forwarding': 1},
    'others closed': {'net.ipv4.conf.default.forwarding': 0, 'net.ipv6.conf.eth1.forwarding': 0},
}


def change(gw, what):
    hop = hop_of(gw)
    for command in what:
        if isinstance(what, dict):
            gw.sysctl(command, what[command])
        else:
            gw.ip(*command.format(hop=hop).split())
    return hop


@pytest.fixture
def loaded(net):
    net[1].load('-s', 'fc00::80=203.0.113.0', '-s', 'fc00:9::/120=203.0.113.0/24', '-s', 'fc00:9:1::/120=198.18.5.0/24')
    assert working(net[1]) == []
    net[1].loaded.clear()
    return net


@pytest.mark.parametrize('name', CASES)
def test_what_is_wrong(loaded, name):
    _, gw, _ = loaded
    what, says = CASES[name]
    hop = change(gw, what)
    said = working(gw)
    assert len(said) == len(says) and all(re.fullmatch(p.format(hop=re.escape(hop)), s) for p, s in zip(says, said)), said


@pytest.mark.parametrize('name', FINE)
def test_what_is_not_wrong(loaded, name):
    h6, gw, _ = loaded
    change(gw, FINE[name])
    if 'uplink' in name:        # it does work
        gw.ip('-6', 'route', 'replace', 'fc00:66::/64', 'via', 'fc00:6::6')
        wait_for(lambda: not h6.run('ping', '-c1', '-W0.3', WEB, check=False).returncode, 'packets to cross')
    assert working(gw) == []


def test_the_way_out_counts(loaded, lab):
    """With a default route, the interface that it leads to; others may be closed."""
    _, gw, _ = loaded
    lab.link(gw, 'eth2', lab.host('other'), 'eth0')
    gw.addr('eth2', '198.18.0.1/30')
    gw.sysctl('net.ipv4.conf.eth2.forwarding', 0)
    assert working(gw) == []
    gw.route('default', 'via', '192.0.2.2')
    assert working(gw) == []
    gw.ip('route', 'replace', 'default', 'via', '198.18.0.2')
    assert working(gw) == ['IPv4 forwarding is off on eth2 (sysctl net.ipv4.conf.eth2.forwarding=1)']
    gw.ip('route', 'replace', 'default', 'nexthop', 'via', '198.18.0.2', 'nexthop', 'via', '192.0.2.2')
    assert working(gw) == []


def test_fast_on_the_way_out(old_kernel, net, lab):
    """Its program is missed where the default route leads, and nowhere else: other interfaces come and go."""
    _, gw, _ = net
    gw.load('--fast')
    lab.link(gw, 'eth2', lab.host('other'), 'eth0')
    gw.addr('eth2', '198.18.0.1/30')
    assert working(gw) == []
    gw.route('default', 'via', '192.0.2.2')
    assert working(gw) == []
    gw.run('tc', 'filter', 'del', 'dev', 'eth1', 'ingress')
    assert [p.split(' (')[0] for p in working(gw)] == ['--fast: its program is missing on eth1, where IPv4 comes in']
    gw.loaded.clear()
    gw.run(NAT64, *LOAD, '--fast')
    assert working(gw) == []


@pytest.mark.parametrize('way', ['ingress', 'egress'])
def test_program_missing(kind, nat, way):
    _, gw, _ = nat
    remove_by_hand(gw, kind, way)
    assert working(gw) == [f'its {way} program is missing (load it again, or unload)']
    gw.loaded.clear()
    gw.run(NAT64, *LOAD)
    assert working(gw) == []


def test_one_of_two(nat, lab):
    """All are shown, and the exit status tells that one does not work."""
    _, gw, _ = nat
    second(lab, gw)
    gw.load(i='eth2', v4='10.0.2.0/24')
    assert gw.nat64('--status').stdout.count('working           yes') == 2
    gw.ip('route', 'del', '10.0.2.0/24')
    done = gw.nat64('--status', rc=1)
    assert re.findall(r'^(\S+)|^  working +(\w+)', done.stdout, re.M) == [('eth0', ''), ('', 'yes'), ('eth2', ''), ('', 'no')]
    assert re.fullmatch(r'nat64: eth2: does not work: the route to 10\.0\.2\.0/24 is missing .*\n', done.stderr)
    gw.nat64('-i', 'eth0', '--status')
    gw.loaded.pop('eth2')
    gw.nat64('-i', 'eth2', '-u')


def test_renamed(nat):
    """The interface gets another name, with the translator on it."""
    h6, gw, h4 = nat
    h6.run('ping', '-c1', WEB)
    for old, new in ('eth0', 'lan-0'), ('lan-0', 'x.5'):
        gw.ip('link', 'set', old, 'down')
        gw.ip('link', 'set', old, 'name', new)
        gw.ip('link', 'set', new, 'up')
        gw.addr(new, 'fc00:6::1/64')
        done = gw.run(NAT64, '-i', new, '--status', check=False)
        assert done.returncode == 1 and f'{new}: does not work: the route to 10.0.1.0/24 and 1 more are missing' in done.stderr
        assert 'fc00:6::6' in gw.run(NAT64, '-i', new, '--mappings').stdout
        done = gw.run(NAT64, '-i', new, *LOAD[2:])
        assert done.stderr == ''
        h6.run('ping', '-c1', '-W2', WEB)
        assert 'working           yes' in gw.run(NAT64, '-i', new, '--status').stdout
        assert gw.run(NAT64, '-i', old, '--status', check=False).returncode == 2
    with gw, open('/proc/sys/net/ipv4/conf/x.5/forwarding', 'w', encoding='ascii') as f:
        f.write('0')
    assert gw.run(NAT64, '-i', 'x.5', *LOAD[2:]).stderr == \
        'nat64: warning: x.5: IPv4 forwarding is off there (sysctl net.ipv4.conf.x/5.forwarding=1)\n'
    gw.loaded.clear()
    gw.nat64('-i', 'x.5', '-u')
    assert gw.ip('route', 'show', 'table', 'all', 'proto', '64') == ''


def test_renamed_while_up(nat):
    """Newer kernels allow that, and the routes stay."""
    h6, gw, _ = nat
    if gw.run('ip', 'link', 'set', 'eth0', 'name', 'lan0', check=False).returncode:
        pytest.skip('NO renaming of an interface that is up in this kernel')
    h6.run('ping', '-c1', '-W2', WEB)
    assert 'working           yes' in gw.nat64('-i', 'lan0', '--status').stdout
    gw.loaded.clear()
    gw.nat64('-i', 'lan0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '-t', '99')
    h6.run('ping', '-c1', '-W2', WEB)
    gw.nat64('-i', 'lan0', '-u')
    assert gw.ip('route', 'show', 'table', 'all', 'proto', '64') == ''
