# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration file: the same options as on the command line, which wins; errors with file and line."""

import os
import random
import time

import pytest

from lab import NAT64
from test_status import status


@pytest.fixture
def conf(tmp_path):
    """conf(text) writes a configuration file and gives its path."""
    def write(text):
        path = tmp_path / 'nat64.conf'
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path
    return write


FILE = '''
# The LAN
interface eth0
v4-prefix 10.0.1.0/24    # private ones
  allowed-src\tfc00::/8
allowed-src 2001:db8:1::/48
   # static mappings
static 2001:db8::5=10.0.1.5\r
static 2001:db8:3::/120=10.0.2.0/24

timeout 300
reuse-idle 60
per-prefix 56=4
v6-prefix 2001:db8:64::/96
icmp-src 192.0.2.99
icmp-rate 7
lowest-ipv6-mtu 1400
wkp-strict
tos 0x10
tclass 0
timeout 300'''


def seen(gw):
    (s,) = status(gw)
    return {k: s[k] for k in ('v4_prefix', 'v6_prefix', 'allowed_src', 'static_mappings', 'timeout', 'reuse_idle', 'per_prefix', 'icmp_src',
                              'icmp_rate', 'lowest_ipv6_mtu', 'wkp_strict', 'tos', 'tclass')}


WANT = {'v4_prefix': '10.0.1.0/24', 'v6_prefix': '2001:db8:64::/96', 'allowed_src': ['2001:db8:1::/48', 'fc00::/8'],
        'static_mappings': 2, 'timeout': 300, 'reuse_idle': 60, 'per_prefix': {'length': 56, 'mappings': 4},
        'icmp_src': '192.0.2.99', 'icmp_rate': 7, 'lowest_ipv6_mtu': 1400,
        'wkp_strict': True, 'tos': 16, 'tclass': 0}


@pytest.mark.parametrize('c', ['-c', '--config'])
def test_every_option(net, conf, c):
    _, gw, _ = net
    gw.nat64(c, conf(FILE))
    assert seen(gw) == WANT
    gw.nat64('-u', c, conf(FILE))


def test_command_line_wins(net, conf):
    """Wherever it stands; what can be given many times adds up."""
    _, gw, _ = net
    gw.nat64('-t', '77', '-c', conf(FILE), '--tos', '3', '-4', '10.0.3.0/24', '-a', '2001:db8:2::/48',
             '-s', '2001:db8::6=10.0.3.6')
    assert seen(gw) == WANT | {'v4_prefix': '10.0.3.0/24', 'timeout': 77, 'tos': 3, 'static_mappings': 3,
                               'allowed_src': ['2001:db8:1::/48', '2001:db8:2::/48', 'fc00::/8']}
    gw.nat64('-u', '-i', 'eth0')


GOOD = 'v4-prefix 10.0.1.0/24\nallowed-src fc00::/8\n'

# File, and what the complaint must name besides the file.
BAD = {
    'unknown option': (GOOD + 'frobnicate 3\n', ':3: frobnicate'),
    'a dash too many': (GOOD + '-t 3\n', ':3: -t'),
    'letter': (GOOD + 't 3\n', ':3: t'),
    'unload': (GOOD + 'unload\n', ':3: unload'),
    'config': (GOOD + 'config other\n', ':3: config'),
    'restore': (GOOD + 'restore other\n', ':3: restore'),
    'status': (GOOD + 'status\n', ':3: status'),
    'value missing': ('v4-prefix\n', ':1: v4-prefix: needs'),
    'value of a flag': (GOOD + '\n\nwkp-strict yes\n', ':5: wkp-strict: takes no'),
    'bad prefix': ('# x\nv4-prefix 10.0.1.7/24\n', ':2: v4-prefix 10.0.1.7/24: not a network address (did you mean '),
    'two words': (GOOD + 'timeout 3 4\n', ':3: timeout 3 4'),
    'equals': (GOOD + 'timeout=3\n', ':3: timeout=3'),
    'twice': (GOOD + 'timeout 3\ntimeout 4\n', ':4: timeout 4: given twice'),
    'bad though the command line wins': ('v4-prefix what\n', ':1: v4-prefix what'),
    'bad static': (GOOD + 'static 2001:db8::5\n', ':3: static 2001:db8::5: not V6=V4'),
    'static twice': (GOOD + 'static 2001:db8::5=10.0.1.5\n\nstatic 2001:db8::6=10.0.1.5\n', ':5: static 2001:db8::6='),
    'NUL': (GOOD.encode() + b'timeout\0 3\n', ':3: not a text file'),
    'escape': (GOOD.encode() + b'\x1b[2Jtimeout 3\n', ':3: not a text file'),
    'long line': (GOOD + 'timeout ' + '3' * 5000 + '\n', ':3: line is too long'),
    'other encoding': ('v4-prefix 10.0.1.0/24\n'.encode('utf-16'), ':1: '),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_file(net, conf, name):
    _, gw, _ = net
    text, names = BAD[name]
    path = conf(text)
    argv = ['-4', '10.0.5.0/24', '-a', '::/0'] if 'command line' in name else []
    stderr = gw.nat64('-i', 'eth0', '-c', path, *argv, rc=2).stderr
    assert str(path) + names in stderr, stderr
    if name == 'static twice':
        assert f'{path}:3: static 2001:db8::5=10.0.1.5' in stderr


def test_what_is_missing_is_missing(net, conf):
    _, gw, _ = net
    assert '-4' in gw.nat64('-i', 'eth0', '-c', conf('allowed-src fc00::/8\n'), rc=2).stderr
    assert '-a' in gw.nat64('-i', 'eth0', '-c', conf('v4-prefix 10.0.1.0/24\n'), rc=2).stderr
    assert '-i' in gw.nat64('-c', conf(GOOD), rc=2).stderr
    assert 'nosuch0' in gw.nat64('-c', conf(GOOD + 'interface nosuch0'), rc=2).stderr
    assert '-4' in gw.nat64('-i', 'eth0', '-c', '/dev/null', rc=2).stderr


def test_unreadable_files(net, tmp_path):
    _, gw, _ = net
    argv = ['-i', 'eth0', '-c']
    assert 'No such file' in gw.nat64(*argv, tmp_path / 'none', rc=2).stderr
    assert 'directory' in gw.nat64(*argv, tmp_path, rc=2).stderr
    assert '-c' in gw.nat64(*argv, '', rc=2).stderr
    (tmp_path / 'secret').write_text(GOOD)
    os.chmod(tmp_path / 'secret', 0)
    via = ['setpriv', '--bounding-set=-dac_override,-dac_read_search']
    assert 'Permission denied' in gw.nat64(*argv, tmp_path / 'secret', rc=2, via=via).stderr


JUNK = {
    'zeros': b'\0' * (100 << 20),
    'random': random.Random(1).randbytes(100 << 20),
    'one letter': b'x' * (100 << 20),
    'empty lines': b'\n' * (100 << 20),
    'comments': b'# nothing to see\n' * (6 << 20),
}


@pytest.mark.parametrize('name', JUNK)
def test_huge_junk(net, conf, name):
    """100 MB of it: in one line, without eating the memory, and soon."""
    _, gw, _ = net
    path = conf(JUNK[name])
    start = time.monotonic()
    done = gw.run('prlimit', f'--as={64 << 20}', NAT64, '-i', 'eth0', '-c', path, check=False, timeout=30)
    print(f'{name}: {time.monotonic() - start:.2f} s')
    assert done.returncode == 2 and done.stderr.startswith(f'nat64: {path}:') and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize('pool', ['10.0.1.0/24', '10.9.0.0/16'])
def test_ten_thousand_static_mappings(net, conf, pool):
    """Outside the dynamic prefix, each with a route; and inside. Then without the first half of them."""
    _, gw, _ = net
    lines = [f'static 2001:db8:9::{n:x}=10.9.{n >> 8}.{n & 255}' for n in range(1, 10001)]
    path = conf('\n'.join([f'v4-prefix {pool}', *lines]))
    start = time.monotonic()
    gw.run(NAT64, '-i', 'eth0', '-c', path)
    print(f'ten thousand static mappings: {time.monotonic() - start:.2f} s')
    assert status(gw)[0]['static_mappings'] == 10000
    outside = pool == '10.0.1.0/24'
    assert len(gw.ip('route', 'show', 'proto', 64).splitlines()) == (10002 if outside else 2)
    gw.run(NAT64, '-i', 'eth0', '-c', conf('\n'.join([f'v4-prefix {pool}', *lines[5000:]])))
    assert status(gw)[0]['static_mappings'] == 5000
    assert len(gw.ip('route', 'show', 'proto', 64).splitlines()) == (5002 if outside else 2)
    gw.nat64('-i', 'eth0', '-u')
