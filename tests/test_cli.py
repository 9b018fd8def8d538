# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: what is refused, with one line, exit 2 and nothing changed (lab.Host.nat64 watches that); what is
accepted."""

import json
import os
import re
import shutil

import pytest

from bpf import Translator, tc_programs
from lab import NAT64, embed, standard

GOOD = {'-i': 'eth0', '-4': '10.0.1.0/24', '-a': 'fc00::/8'}


def with_(**changed):
    """The manual's command with some options changed, or without them (None)."""
    options = GOOD | {{'i': '-i', 'v4': '-4', 'v6': '-6', 'a': '-a', 't': '-t'}[k]: v for k, v in changed.items()}
    return [x for k, v in options.items() if v is not None for x in (k, v)]


# Arguments, and what the complaint must name.
BAD = {
    'unknown interface': (with_(i='nosuch0'), 'nosuch0'),
    'interface name too long': (with_(i='averylonginterfacename'), 'averylonginterfacename'),
    'empty interface name': (with_(i=''), '-i'),
    'loopback': (with_(i='lo'), 'lo'),
    'v4 without length': (with_(v4='10.0.1.0'), '10.0.1.0'),
    'v4 with host bits': (with_(v4='10.0.1.7/24'), '10.0.1.0/24'),
    'v4 /32': (with_(v4='10.0.1.0/32'), '10.0.1.0/32'),
    'v4 /33': (with_(v4='10.0.1.0/33'), '10.0.1.0/33'),
    'v4 /7': (with_(v4='10.0.0.0/7'), '10.0.0.0/7'),
    'v4 /0': (with_(v4='0.0.0.0/0'), '0.0.0.0/0'),
    'v4 negative length': (with_(v4='10.0.1.0/-24'), '10.0.1.0/-24'),
    'v4 length with plus': (with_(v4='10.0.1.0/+24'), '10.0.1.0/+24'),
    'v4 length empty': (with_(v4='10.0.1.0/'), '10.0.1.0/'),
    'v4 length junk': (with_(v4='10.0.1.0/24x'), '10.0.1.0/24x'),
    'v4 length blank': (with_(v4='10.0.1.0/ 24'), '10.0.1.0/ 24'),
    'v4 length overflow': (with_(v4='10.0.1.0/4294967320'), '10.0.1.0/4294967320'),
    'v4 address short': (with_(v4='10.0.1/24'), '10.0.1/24'),
    'v4 address is v6': (with_(v4='fc00::/24'), 'fc00::/24'),
    'v4 address junk': (with_(v4='pool/24'), 'pool/24'),
    'v4 empty': (with_(v4=''), '-4'),
    'v4 loopback': (with_(v4='127.0.1.0/24'), '127.0.1.0/24'),
    'v4 multicast': (with_(v4='224.0.1.0/24'), '224.0.1.0/24'),
    'v4 broadcast': (with_(v4='255.255.255.0/24'), 'broadcast (255.255.255.255)'),
    'v4 pair with broadcast': (with_(v4='255.255.255.254/31'), 'broadcast (255.255.255.255)'),
    'icmp-src broadcast': (with_() + ['--icmp-src', '255.255.255.255'], 'broadcast (255.255.255.255)'),
    'v4 0/8': (with_(v4='0.0.1.0/24'), '0.0.1.0/24'),
    'v6 without length': (with_(v6='64:ff9b::'), '64:ff9b::'),
    'v6 with host bits': (with_(v6='64:ff9b::1/96'), '64:ff9b::/96'),
    'v6 /95': (with_(v6='64:ff9b::/95'), '64:ff9b::/95'),
    'v6 /97': (with_(v6='64:ff9b::/97'), '64:ff9b::/97'),
    'v6 /0': (with_(v6='::/0'), '::/0'),
    'v6 /128': (with_(v6='64:ff9b::/128'), '64:ff9b::/128'),
    'v6 length junk': (with_(v6='64:ff9b::/96 '), '64:ff9b::/96 '),
    'v6 bits 64 to 71': (with_(v6='2001:db8:0:0:100::/96'), '2001:db8:0:0:100::/96'),
    'v6 is v4': (with_(v6='10.0.0.0/32'), '10.0.0.0/32'),
    'v6 multicast': (with_(v6='ff0e::/32'), 'ff0e::/32'),
    'allowed without length': (with_(a='fc00::'), 'fc00::'),
    'allowed with host bits': (with_(a='fc00::1/8'), 'fc00::/8'),
    'allowed /129': (with_(a='fc00::/129'), 'fc00::/129'),
    'allowed junk': (with_(a='fc00::/8,fd00::/8'), 'fc00::/8,fd00::/8'),
    'allowed is v4': (with_(a='10.0.0.0/8'), '10.0.0.0/8'),
    'allowed second one bad': (with_() + ['-a', 'what'], 'what'),
    'timeout 0': (with_(t='0'), '0'),
    'timeout negative': (with_(t='-1'), '-1'),
    'timeout too large': (with_(t='315360001'), '315360001'),
    'timeout overflow': (with_(t='18446744073709551617'), '18446744073709551617'),
    'timeout junk': (with_(t='abc'), 'abc'),
    'timeout trailing junk': (with_(t='60s'), '60s'),
    'timeout fraction': (with_(t='1.5'), '1.5'),
    'timeout blank': (with_(t=' 60'), ' 60'),
    'timeout empty': (with_(t=''), '-t'),
    'reuse-idle 0': (with_() + ['--reuse-idle', '0'], '--reuse-idle 0'),
    'reuse-idle junk': (with_() + ['--reuse-idle', '1h'], '--reuse-idle 1h'),
    'reuse-idle above the time-out': (with_(t='60') + ['--reuse-idle', '61'],
                                      '--reuse-idle 61: must not be more than the time-out (-t 60)'),
    'per-prefix without number': (with_() + ['--per-prefix', '64'], '--per-prefix 64: not a prefix length, =, and a number'),
    'per-prefix 0': (with_() + ['--per-prefix', '64=0'], '--per-prefix 64=0: mappings must be a number of 1 to'),
    'per-prefix of everybody': (with_() + ['--per-prefix', '0=5'], '--per-prefix 0=5: prefix length must be a number of 1 to 128'),
    'per-prefix too long': (with_() + ['--per-prefix', '129=5'], '--per-prefix 129=5: prefix length'),
    'per-prefix very long': (with_() + ['--per-prefix', '00000000064=5'], '--per-prefix 00000000064=5'),
    'per-prefix junk': (with_() + ['--per-prefix', '64=5x'], '--per-prefix 64=5x'),
    'per-prefix empty': (with_() + ['--per-prefix', '=5'], '--per-prefix =5'),
    'per-prefix negative': (with_() + ['--per-prefix', '64=-5'], '--per-prefix 64=-5'),
    'rate negative': (with_() + ['--icmp-rate', '-1'], '-1'),
    'rate too large': (with_() + ['--icmp-rate', '1000001'], '1000001'),
    'rate junk': (with_() + ['--icmp-rate', '10/s'], '10/s'),
    'stray argument': (with_() + ['eth1'], 'eth1'),
    'stray argument on unload': (['-i', 'eth0', '-u', 'eth1'], 'eth1'),
    'two interfaces on unload': (['-i', 'eth0', '-i', 'eth1', '-u'], '-i eth1: given twice'),
    'v4 twice': (with_() + ['-4', '10.0.2.0/24'], '10.0.2.0/24'),
    'v6 twice': (with_(v6='64:ff9b::/96') + ['-6', '2001:db8::/32'], '2001:db8::/32'),
    'timeout twice': (with_(t='60') + ['-t', '61'], '61'),
    'file twice': (with_() + ['-c', '/dev/null', '-c', '/dev/zero'], '-c /dev/zero: given twice'),
    'unknown option': (with_() + ['-x'], 'x'),
    'unknown long option': (with_() + ['--frobnicate'], 'frobnicate'),
    'argument missing': (with_() + ['-t'], 't'),
    'nothing allowed': (with_(a=None), '-a'),
    'no interface': (with_(i=None), '-i'),
    'no v4 prefix': (with_(v4=None), '-4'),
    'nothing at all': ([], '(see nat64 --help)'),
    'json of nothing': (['--json'], '--json: only with --status'),
    'metrics of nothing': (['--metrics'], '--metrics: only with --status'),
    'unload without interface': (['-u'], '-i'),
    'unload of an unknown interface': (['-u', '-i', 'nosuch0'], 'nosuch0'),
    'argument to a flag': (['-i', 'eth0', '--unload=yes'], 'unload'),
}


@pytest.fixture(scope='module', params=['nothing loaded', 'loaded'])
def gw(request, module_lab):
    _, gw, _ = standard(module_lab)
    if request.param == 'loaded':
        gw.load('-t', '1234')
    return gw


@pytest.mark.parametrize('name', BAD)
def test_bad_input(gw, name):
    argv, names = BAD[name]
    assert names in gw.nat64(*argv, rc=2).stderr


def test_nothing_allowed_says_so(gw):
    assert 'nothing' in gw.nat64(*with_(a=None), rc=2).stderr


@pytest.mark.parametrize('argv', [['-u', '-i', 'eth1'],
                                  ['-i', 'eth1', '--unload', '-4', '10.0.1.0/24', '-a', 'fc00::/8']])
def test_unload_where_nothing_is_loaded(gw, argv):
    assert gw.nat64(*argv, rc=1).stderr == 'nat64: nothing loaded on eth1\n'


def test_help_and_version(net):
    """For everybody, not only root; on stdout; whatever else is given, even when it makes no sense."""
    _, gw, _ = net
    options = ['-i', '--interface', '-4', '--v4-prefix', '-6', '--v6-prefix', '-a', '--allowed-src', '-t', '--timeout',
               '-u', '--unload', '-v', '--verbose', '-h', '--help', '-V', '--version']
    for user in [], ['setpriv', '--reuid=65534', '--clear-groups']:
        for h in '-h', '--help':
            text = gw.nat64(h, via=user)
            assert text.stderr == ''
            assert set(options) <= set(re.findall(r'(?<![\w-])-{1,2}\w[\w-]*', text.stdout))
        for v in '-V', '--version':
            assert re.fullmatch(r'nat64 \d+\.\d+(\.\d+)?\S*\n', gw.nat64(v, via=user).stdout)
    assert '7440' in gw.nat64('-h').stdout and '64:ff9b::/96' in gw.nat64('-h').stdout


def test_help_to_a_full_disk(net):
    """What could not be written is a failure, not a success."""
    assert net[1].run('sh', '-c', f'{NAT64} --help > /dev/full; echo $?', check=False).stdout == '1\n'


ACCEPTED = {
    'long options': ['--interface', 'eth0', '--v4-prefix', '10.0.1.0/24', '--v6-prefix', '64:ff9b::/96',
                     '--allowed-src', 'fc00::/8', '--timeout', '60', '--verbose'],
    'long options with =': ['--interface=eth0', '--v4-prefix=10.0.1.0/24', '--v6-prefix=64:ff9b::/96',
                            '--allowed-src=fc00::/8', '--timeout=60'],
    'values joined': ['-ieth0', '-410.0.1.0/24', '-664:ff9b::/96', '-afc00::/8', '-t60'],
    'the same value twice': with_() + with_() + ['-t', '60', '-t', '60'],
    'the same file twice': with_() + ['-c', '/dev/null', '-c', '/dev/null', '--restore', '/none', '--restore', '/none'],
    'the same prefix spelled differently': with_(v6='64:ff9b::/96') + ['-6', '0064:FF9B:0:0::0.0.0.0/96'],
    'longest time-out': with_(t='315360000'),
    'reuse-idle as long': with_(t='60') + ['--reuse-idle', '60'],
    'per-prefix of hosts': with_() + ['--per-prefix', '128=1'],
    'per-prefix of all': with_() + ['--per-prefix', '1=16777216'],
    'everybody allowed': with_(a='::/0'),
    'one host allowed': with_(a='fc00:66::a/128'),
    'many allowed': with_() + [x for n in range(1000) for x in ('-a', f'2001:db8:{n:x}::/48')],
}


@pytest.mark.parametrize('name', ACCEPTED)
def test_accepted(net, name):
    h6, gw, h4 = net
    gw.nat64(*ACCEPTED[name])
    assert {k[:10]: len(v) for k, v in tc_programs(gw, 'eth0').items()} == {'nat64_6to4': 1, 'nat64_4to6': 1}
    with Translator(gw) as t:
        gw.lab.seen(t)
        assert str(t.v4) == '10.0.1.0/24'
    if name == 'one host allowed':
        h6.run('ping', '-c1', '-W1', embed('192.0.2.2'), check=False)
        with Translator(gw) as t:
            assert t.drops().get('not-allowed')
    else:
        h6.run('ping', '-c1', '-W5', embed('192.0.2.2'))
    gw.nat64('-i', 'eth0', '-u')


def test_quiet_unless_asked(net):
    _, gw, _ = net
    done = gw.load()
    assert (done.stdout, done.stderr) == ('', '')
    done = gw.load('-v')
    assert done.stdout + done.stderr != ''
    done = gw.unload()
    assert (done.stdout, done.stderr) == ('', '')


@pytest.mark.parametrize('name, values', {
    'net.ipv4.ip_forward': {'net.ipv4.ip_forward': 0},
    'net.ipv4.conf.eth0.forwarding': {'net.ipv4.conf.eth0.forwarding': 0},
    'net.ipv6.conf.all.forwarding': {'net.ipv6.conf.all.forwarding': 0},
    'net.ipv6.conf.eth0.forwarding': {'net.ipv6.conf.eth0.forwarding': 0},
}.items())
def test_forwarding_off_is_warned_of(net, name, values):
    """Naming the sysctl, on one line; it loads all the same, and changes no sysctl."""
    _, gw, _ = net
    for k, v in values.items():
        gw.sysctl(k, v)
    done = gw.load()
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and name in lines[0] and lines[0].startswith('nat64: '), done.stderr
    assert not [line for line in done.after - done.before if line.startswith('sysctl')]


@pytest.fixture
def binary(tmp_path):
    """nat64 where every user can run it."""
    copy = shutil.copy(NAT64, tmp_path / 'nat64')
    for d in [tmp_path, *tmp_path.parents]:
        if os.stat(d).st_uid == os.getuid() and 'pytest' in str(d):
            os.chmod(d, 0o755)
    return str(copy)


MISSING = {
    'net_admin': (['setpriv', '--bounding-set=-net_admin'], 'CAP_NET_ADMIN'),
    'bpf': (['setpriv', '--bounding-set=-bpf,-sys_admin'], 'CAP_BPF'),
    'nobody': (['setpriv', '--reuid=65534', '--clear-groups'], 'CAP_NET_ADMIN'),
}


@pytest.mark.parametrize('name', MISSING)
def test_missing_capability(net, binary, name):
    _, gw, _ = net
    via, names = MISSING[name]
    before = gw.snapshot()
    done = gw.run(*via, binary, *with_(), check=False)
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r'nat64: [^\n]+\n', done.stderr) and names in done.stderr
    assert gw.snapshot() == before


def test_missing_capability_on_unload(nat, binary):
    _, gw, _ = nat
    before = gw.snapshot()
    done = gw.run('setpriv', '--bounding-set=-net_admin', binary, '-u', '-i', 'eth0', check=False)
    assert done.returncode == 1 and 'CAP_NET_ADMIN' in done.stderr
    assert gw.snapshot() == before


def test_route_as_ip_shows_it(nat):
    """What an administrator sees: routes and neighbour of nat64's own protocol, in the device's name."""
    _, gw, _ = nat
    route, = json.loads(gw.ip('-j', '-d', 'route', 'show', '10.0.1.0/24'))
    assert route['dev'] == 'eth0' and route['protocol'] == '64'
    assert route['metrics'][0]['mtu'] == 1480
    neigh, = json.loads(gw.ip('-j', '-4', 'neigh', 'show', 'dev', 'eth0', 'nud', 'permanent'))
    broadcast, = json.loads(gw.ip('-j', '-d', 'route', 'show', 'table', 'local', 'proto', '64'))
    assert neigh['dst'] == broadcast['dst'] == route['gateway']
    assert (broadcast['type'], broadcast['dev']) == ('broadcast', 'eth0')
