# SPDX-License-Identifier: GPL-2.0-or-later
"""What is probably a mistake and loads all the same is warned of, in one line, and nothing else is; --dry-run."""

import json
import re

import pytest

from bpf import Translator, tc_programs
from lab import NAT64
from test_cli import ACCEPTED, BAD
from test_mappings import speak
from test_status import mappings


def warned(done):
    """The warnings of a run, and nothing else on stderr."""
    lines = done.stderr.splitlines()
    assert all(line.startswith('nat64: warning: ') for line in lines), done.stderr
    return [line[len('nat64: warning: '):] for line in lines]


PREFIXES = {'64:ff9b::/64': True, '64:ff9b::/32': True, '64:ff9b::/96': False, '64:ff9b:1::/48': False,
            '64:ff9b:1::/96': False, '2001:db8:64::/64': False}


@pytest.mark.parametrize('prefix', PREFIXES)
def test_well_known_prefix(net, prefix):
    _, gw, _ = net
    says = [f'-6 {prefix}: the well-known prefix, which others expect there, is 64:ff9b::/96']
    assert warned(gw.load('-6', prefix)) == (says if PREFIXES[prefix] else [])
    gw.unload()


def test_side_of_the_default_route(net):
    """The one that counts, if there are several."""
    _, gw, _ = net
    gw.addr('eth0', '203.0.113.1/24')
    for conf in 'all', 'eth0':
        gw.sysctl(f'net.ipv4.conf.{conf}.send_redirects', 0)
    gw.route('default', 'via', '192.0.2.2', 'metric', 100)
    gw.route('default', 'via', '203.0.113.2', 'metric', 200)
    assert warned(gw.load()) == []
    gw.unload()
    gw.route('default', 'via', '203.0.113.2', 'metric', 50)
    assert warned(gw.load()) == ['-i eth0: the IPv4 default route leads out there; is it the interface that faces the IPv6 '
                                 'hosts?']
    gw.unload()


# Sysctls that are 1 out of all and eth0, where IPv4 hosts are on the link, too
REDIRECTS = {'both': (['all', 'eth0'], 'net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0'),
             'all': (['all'], 'net.ipv4.conf.all.send_redirects=0'),
             'there': (['eth0'], 'net.ipv4.conf.eth0.send_redirects=0'), 'none': ([], None)}


@pytest.mark.parametrize('name', REDIRECTS)
def test_redirects(net, name):
    """A one-armed gateway would tell its IPv4 hosts of a better way to the pool; the warning names what stops that."""
    _, gw, _ = net
    on, sysctls = REDIRECTS[name]
    for conf in 'all', 'eth0':
        gw.sysctl(f'net.ipv4.conf.{conf}.send_redirects', int(conf in on))
    assert warned(gw.load()) == []              # no IPv4 hosts there
    gw.unload()
    gw.addr('eth0', '203.0.113.1/24')
    assert warned(gw.load()) == ([f'eth0: IPv4 hosts there will be sent ICMP redirects about the IPv4 prefix (sysctl {sysctls})']
                                 if sysctls else [])
    gw.unload()


def test_redirects_are_sent_unless(net):
    """What the warning is about, and that what it says helps."""
    h6, gw, _ = net
    gw.addr('eth0', '203.0.113.1/24')
    h6.addr('eth0', '203.0.113.6/24')           # an IPv4 host on the link of the IPv6 hosts
    h6.route('10.0.1.0/24', 'via', '203.0.113.1')
    sysctls = re.search(r'\(sysctl (.*)\)', warned(gw.load())[0]).group(1).split()
    for stopped in False, True:
        for name, value in (s.split('=') for s in sysctls if stopped):
            gw.sysctl(name, value)
        said = h6.run('ping', '-c3', '-i0.3', '-W1', '10.0.1.99', check=False).stdout
        assert ('Redirect Host' in said) == (not stopped), said
    gw.unload()


# -a, what else, and whether hosts of fc00:6::/64, on the link, and fc00:66::/64, behind a router there, are meant
ALLOWED = {
    'other network': (['fd00::/8'], [], False),
    'other networks': (['fd00::/8', '2001:db8::/32'], [], False),
    'all': (['fc00::/7'], [], True),
    'on the link': (['fc00:6::/64'], [], True),
    'a host': (['fc00:6::77/128'], [], True),
    'behind a router': (['fc00:66::/64'], [], True),
    'one of two': (['fd00::/8', 'fc00:66::/64'], [], True),
    'static': (['fd00::/8'], ['-s', 'fc00:6::80=10.0.1.80'], True),
}


@pytest.mark.parametrize('name', ALLOWED)
def test_allowed_that_holds_nobody(net, name):
    _, gw, _ = net
    allow, more, fine = ALLOWED[name]
    said = warned(gw.load(*more, allow=allow))
    gw.unload()
    assert len(said) == (not fine)
    if said:
        assert re.fullmatch(r'-a fd00::/8(, \.\.\.)?: holds none of the hosts behind eth0, which has fc00:6(6)?::/64: they '
                            r'will be refused', said[0])


def test_hosts_that_are_not_known(net):
    """No routes to them yet, or one to everywhere: nothing to say."""
    _, gw, _ = net
    gw.ip('-6', 'addr', 'flush', 'dev', 'eth0', 'scope', 'global')
    gw.ip('-6', 'route', 'flush', 'dev', 'eth0')
    assert warned(gw.load(allow=['fd00::/8'])) == []
    gw.unload()
    gw.addr('eth0', 'fc00:6::1/64')
    gw.ip('-6', 'route', 'add', 'default', 'dev', 'eth0')
    assert warned(gw.load(allow=['fd00::/8'])) == []
    gw.unload()


def test_device(net):
    """Nobody is behind a device of our own."""
    _, gw, _ = net
    for _ in range(2):
        assert warned(gw.nat64('--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fd00::/8')) == []
    gw.nat64('--device', 'nat64', '-u')


CHAIN = 'type nat hook postrouting priority srcnat;'
# Rules, and whether they would hide addresses of 10.0.1.0/24
RULES = {
    'masquerade': (f'table ip nat {{ chain post {{ {CHAIN} oifname "eth1" masquerade; }} }}', True),
    'our prefix': (f'table ip nat {{ chain post {{ {CHAIN} ip saddr 10.0.1.0/24 masquerade; }} }}', True),
    'wider': (f'table ip nat {{ chain post {{ {CHAIN} ip saddr 10.0.0.0/15 masquerade; }} }}', True),
    'a part': (f'table ip nat {{ chain post {{ {CHAIN} ip saddr 10.0.1.64/27 masquerade; }} }}', True),
    'snat': (f'table ip nat {{ chain post {{ {CHAIN} ip saddr 10.0.1.0/24 snat to 192.0.2.1; }} }}', True),
    'inet': (f'table inet nat {{ chain post {{ {CHAIN} ip saddr 10.0.1.0/24 masquerade; }} }}', True),
    'set': (f'table ip nat {{ chain post {{ {CHAIN} ip saddr {{ 10.0.1.0/24, 10.0.5.0/24 }} masquerade; }} }}', True),
    'all but': (f'table ip nat {{ chain post {{ {CHAIN} ip saddr != 172.17.0.0/16 masquerade; }} }}', True),
    'containers': (f'table ip nat {{ chain post {{ {CHAIN} ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; }} }}', False),
    'machines': (f'table ip nat {{ chain post {{ {CHAIN} ip saddr 192.168.122.0/23 ip daddr != 192.168.122.0/23 masquerade; }} }}',
                 False),
    'a host': (f'table ip nat {{ chain post {{ {CHAIN} ip saddr 10.0.2.7 masquerade; }} }}', False),
    'destinations': ('table ip nat { chain pre { type nat hook prerouting priority dstnat; tcp dport 80 dnat to 10.0.1.80; } }',
                     False),
    'filter': ('table ip filter { chain f { type filter hook forward priority 0; ip saddr 10.0.1.0/24 accept; } }', False),
    'IPv6': (f'table ip6 nat {{ chain post {{ {CHAIN} oifname "eth1" masquerade; }} }}', False),
    'none': ('', False),
}


@pytest.mark.parametrize('name', RULES)
def test_fast_past_nat44(net, name):
    _, gw, _ = net
    rules, matter = RULES[name]
    if rules:
        gw.nft(rules.replace('} }', '}\n}'))
    says = r'--fast: goes past NAT44, so that the rule in nftables\' table nat, chain post hides no addresses of 10\.0\.1\.0/24'
    said = warned(gw.load('--fast'))
    assert [bool(re.fullmatch(says, line)) for line in said] == ([True] if matter else [])
    assert [w.replace('xdp', 'fast', 1) for w in warned(gw.load('--xdp=generic'))] == said
    assert warned(gw.load()) == [], 'without --fast they apply'
    gw.unload()


# --- --dry-run ---

@pytest.mark.parametrize('name', BAD)
def test_dry_run_of_what_is_wrong(module_net, name):
    """As loading it: the same complaint and exit status."""
    gw = module_net[1]
    argv = [a for a in BAD[name][0] if a not in ('-u', '--unload', '--trace')]
    if len(argv) == len(BAD[name][0]):
        assert gw.nat64('--dry-run', *argv, rc=2).stderr == gw.nat64(*argv, rc=2).stderr


@pytest.mark.parametrize('name', ACCEPTED)
def test_dry_run_of_what_is_right(net, name):
    """Nothing is there afterwards, and with -v it says what would be."""
    _, gw, _ = net
    done = gw.nat64('--dry-run', *ACCEPTED[name])
    assert done.before == done.after and tc_programs(gw, 'eth0') == {}
    said = gw.nat64('--dry-run', '-v', *ACCEPTED[name]).stdout
    assert said.startswith('eth0: would be loaded\n') and '10.0.1.0/24: 254 addresses' in said


def test_dry_run_of_a_conflict(net):
    """What only the machine knows of: exit status 1, as loading has."""
    _, gw, _ = net
    gw.route('10.0.1.0/25', 'via', '192.0.2.2')
    argv = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8']
    assert gw.nat64('--dry-run', *argv, rc=1).stderr == gw.nat64(*argv, rc=1).stderr
    done = gw.nat64('--dry-run', *argv, rc=1, via=['setpriv', '--bounding-set=-net_admin'])
    assert 'CAP_NET_ADMIN' in done.stderr


def test_dry_run_of_a_file(nat, tmp_path):
    """Of a translator that goes on as it was, with all its mappings, and with the warnings that loading would give."""
    _, gw, _ = nat
    with Translator(gw) as t:
        for n in range(3):
            speak(t, n)
        ids = t.to4.id, t.to6.id
    before = mappings(gw)
    conf = tmp_path / 'eth0.conf'
    conf.write_text('v4-prefix 10.0.2.0/24\nallowed-src fd00::/8\nv6-prefix 64:ff9b::/64\nfast\n')
    done = gw.nat64('-i', 'eth0', '-c', conf, '--dry-run', '-v')
    assert done.before == done.after
    assert [line.split(':')[1].split()[0] for line in done.stderr.splitlines()] == ['eth0', 'warning', 'warning']
    assert 'mappings that would be gone: 3' in done.stderr
    assert done.stdout.startswith('eth0: would be reconfigured\n') and re.search('^  fast +eth1$', done.stdout, re.M)
    with Translator(gw) as t:
        assert (t.to4.id, t.to6.id) == ids
    gw.run('sh', '-c', f'{NAT64} -i eth0 --mappings --json >{tmp_path}/now')
    now = json.loads((tmp_path / 'now').read_text())['mappings']
    assert [(m['v4'], m['v6']) for m in now] == [(m['v4'], m['v6']) for m in before]
    conf.write_text('v4-prefix 10.0.2.0/24\nallowed-src fd00::/8\nv6-prefix 64:ff9b::/65\n')
    assert f'{conf}:3: v6-prefix' in gw.nat64('-i', 'eth0', '-c', conf, '--dry-run', rc=2).stderr


@pytest.mark.parametrize('argv', [['-u'], ['--status'], ['--flush'], ['--restore', 'FILE']])
def test_dry_run_of_something_else(nat, tmp_path, argv):
    (tmp_path / 'saved').write_text('{"nat64_mappings": 1, "mappings": []}')
    argv = [a.replace('FILE', f'{tmp_path}/saved') for a in argv]
    assert nat[1].nat64('-i', 'eth0', '--dry-run', *argv, rc=2).stderr == 'nat64: --dry-run: only to load\n'
