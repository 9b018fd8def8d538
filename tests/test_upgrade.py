# SPDX-License-Identifier: GPL-2.0-or-later
"""From one version of nat64 to another while packets flow: what costs somebody something outlives it."""

import json
import os
import re
import shutil
import subprocess

import pytest

from bpf import Translator
from lab import NAT64, embed, nothing_lost
from test_load import pings
from test_per_prefix import counted

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
RELEASE = '85ce624'             # state of version 2, without lists of addresses
HOSTS = [f'fc00:6::{n:x}' for n in range(0x100, 0x118)]
STATICS = ['-s', 'fc00::80=10.0.1.80', '-s', 'fc00::90=10.0.9.9', '-s', 'fc00:77::/124=10.0.1.96/28']
LOAD = ['-i', 'eth0', '-a', 'fc00::/8', *STATICS]
POOL = ['-4', '10.0.1.0/24']


def make(tree):
    subprocess.run(['make', '-s', '-C', tree, 'nat64'], check=True, stdout=subprocess.DEVNULL)
    return str(tree / 'nat64')


@pytest.fixture(scope='session')
def release(tmp_path_factory):
    """nat64 as it was released last."""
    if not os.path.exists(f'{ROOT}/.git'):
        pytest.skip('NO git repository: the upgrade from the last release is not tested')
    tree = tmp_path_factory.mktemp('release')
    with open(tree / 'tar', 'wb') as f:
        done = subprocess.run(['git', '-c', 'safe.directory=*', '-C', ROOT, 'archive', RELEASE], stdout=f,
                              stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        pytest.skip(f'NO commit {RELEASE}, the upgrade from the last release is not tested: {done.stderr}')
    subprocess.run(['tar', '-x', '-C', tree, '-f', tree / 'tar'], check=True)
    return make(tree)


@pytest.fixture(scope='session')
def later(tmp_path_factory):
    """nat64 with a drop reason and a member of the configuration more, as it may be one day."""
    tree = tmp_path_factory.mktemp('later') / 'nat64'
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns('.git', 'build', 'test_*', 'nat64'))
    text = (tree / 'nat64.h').read_text()
    for pattern, more in ((r'(#define NAT64_DROPS\(X\).*?"\))(?=\n/)', '\\1 \\\\\n\tX(LATER, "later", "of a later version")'),
                          (r'(struct nat64_config \{.*?)(?=\n\};)', '\\1\n\t__u64 later;')):
        text, n = re.subn(pattern, more, text, count=1, flags=re.S)
        assert n == 1
    (tree / 'nat64.h').write_text(text)
    return make(tree)


def owners(gw, nat64=NAT64):
    """[(IPv4, IPv6, type)], as one version sees them."""
    listed = json.loads(gw.run(nat64, '-i', 'eth0', '--mappings', '--json').stdout)['mappings']
    return sorted((m['v4'], m['v6'], m['type']) for m in listed)


def counters(gw, nat64=NAT64):
    (s,) = json.loads(gw.run(nat64, '-i', 'eth0', '--status', '--json', check=False).stdout)['translators']
    return {way: {k: s[way][k] for k in ('packets', 'bytes', 'drops')} for way in ('6to4', '4to6')}


def not_less(now, before):
    """Counters never go back."""
    for way, counts in before.items():
        for key in 'packets', 'bytes':
            assert now[way][key] >= counts[key], (way, key)
        for reason, n in counts['drops'].items():
            assert now[way]['drops'].get(reason, 0) >= n, (way, reason)


def speak(h6, hosts):
    """A ping from each, which must be answered."""
    h6.run('sh', '-ec', f'for a in {" ".join(hosts)}; do ping -c1 -W10 -I $a {embed("192.0.2.2")}; done')


def busy(h6, gw, h4, nat64, *options):
    """Loads a version, has hosts speak, some packets dropped, and tells who has which address."""
    gw.run(nat64, *LOAD, *POOL, *options)
    pings(h6)
    h6.addr('eth0', *(f'{a}/64' for a in HOSTS), '2001:db8::6/64')
    gw.route('2001:db8::/64', 'via', 'fc00:6::6')
    speak(h6, HOSTS)
    assert h6.run('ping', '-c1', '-W0.2', '-I', '2001:db8::6', embed('192.0.2.2'), check=False).returncode
    assert h4.run('ping', '-c1', '-W0.2', '10.0.1.200', check=False).returncode
    there = owners(gw, nat64)
    assert len(there) == len(HOSTS) + 1 + 3
    return there


UPGRADES = {'as it is': (POOL, []), 'fast': ([*POOL, '--fast'], ['--fast']), 'larger pool': (['-4', '10.0.0.0/22'], [])}


@pytest.mark.parametrize('name', UPGRADES)
def test_upgrade_under_traffic(kind, net, release, name):
    """No packet is lost either way, no host loses its address or gets another's, and the new version takes away all that
    the old one made."""
    h6, gw, h4 = net
    new, old = UPGRADES[name]
    clean = gw.snapshot()
    there = busy(h6, gw, h4, release, *old)
    (address,) = [v4 for v4, v6, _ in there if v6 == 'fc00:6::6']
    before = counters(gw, release)
    traffic = [host.start('ping', '-i', '0.002', *argv) for host, argv in ((h6, ('-I', 'fc00:6::6', embed('192.0.2.2'))),
                                                                          (h4, (address,)))]
    with nothing_lost(*traffic):
        done = gw.run(NAT64, *LOAD, *new)
        again = gw.run(NAT64, *LOAD, *new, '-t', 99)
    assert done.stderr == again.stderr == ''
    assert owners(gw) == there
    not_less(counters(gw), before)
    speak(h6, HOSTS)
    assert owners(gw) == there
    h6.addr('eth0', 'fc00:6::999/64')
    speak(h6, ['fc00:6::999'])
    assert len({v4 for v4, _, _ in owners(gw)}) == len(there) + 1
    gw.run(NAT64, '-i', 'eth0', '-u')
    gw.ip('-6', 'route', 'del', '2001:db8::/64')
    assert gw.snapshot() == clean


def test_the_release_is_understood(net, release, tmp_path):
    """Its status, mappings and counters; they are saved, deleted and restored."""
    h6, gw, h4 = net
    clean = gw.snapshot()
    there = busy(h6, gw, h4, release)
    assert owners(gw) == there
    ours, theirs = counters(gw), counters(gw, release)
    for way in theirs:      # the release does not know of all reasons
        assert not any(ours[way]['drops'].pop(name) for name in set(ours[way]['drops']) - set(theirs[way]['drops']))
    assert ours == theirs
    gw.run(NAT64, '-i', 'eth0', '--save', tmp_path / 'saved')
    gone = {HOSTS[0], HOSTS[1]}
    gw.run(NAT64, '-i', 'eth0', '--delete', HOSTS[0])
    gw.run(NAT64, '-i', 'eth0', '--delete', [v4 for v4, v6, _ in there if v6 == HOSTS[1]][0])
    assert owners(gw, release) == [row for row in there if row[1] not in gone]
    gw.run(NAT64, '-i', 'eth0', '--restore', tmp_path / 'saved')
    assert owners(gw, release) == there
    speak(h6, HOSTS)
    assert owners(gw, release) == there
    gw.run(NAT64, '-i', 'eth0', '--flush')
    assert owners(gw, release) == [row for row in there if row[2] == 'static']
    speak(h6, HOSTS)
    gw.run(NAT64, '-i', 'eth0', '-u')
    gw.run(NAT64, *LOAD, *POOL, '--restore', tmp_path / 'saved')
    assert owners(gw) == there
    gw.run(NAT64, '-i', 'eth0', '-u')
    gw.ip('-6', 'route', 'del', '2001:db8::/64')
    assert gw.snapshot() == clean


def test_mappings_of_the_release_are_counted(net, release):
    """For --per-prefix, of which it knows nothing."""
    h6, gw, h4 = net
    there = busy(h6, gw, h4, release)
    dynamic = len([row for row in there if row[2] == 'dynamic'])
    assert gw.run(NAT64, *LOAD, *POOL, '--per-prefix', f'64={dynamic}').stderr == ''
    assert owners(gw) == there
    with Translator(gw) as t:
        assert counted(t, held=True) == {'fc00:6::/64': dynamic}
    speak(h6, HOSTS)
    h6.addr('eth0', 'fc00:6::999/64')
    assert h6.run('ping', '-c1', '-W0.2', '-I', 'fc00:6::999', embed('192.0.2.2'), check=False).returncode
    assert counters(gw)['6to4']['drops']['prefix-full']
    gw.run(NAT64, '-i', 'eth0', '-u')


def test_release_with_a_full_pool(net, release):
    """It sees that an address is free again which another version has freed."""
    h6, gw, _ = net
    h6.addr('eth0', *(f'{a}/64' for a in HOSTS[:3]))
    gw.run(release, '-i', 'eth0', '-4', '10.0.1.0/30', '-a', 'fc00::/8')
    speak(h6, HOSTS[:2])
    for _ in range(3):          # so that it has looked at all
        assert h6.run('ping', '-c1', '-W0.2', '-I', HOSTS[2], embed('192.0.2.2'), check=False).returncode
    gw.run(NAT64, '-i', 'eth0', '--delete', HOSTS[0])
    speak(h6, HOSTS[2:3])
    assert {v6 for _, v6, _ in owners(gw)} == {HOSTS[1], HOSTS[2]}
    gw.run(NAT64, '-i', 'eth0', '-u')


def test_another_drop_reason(net, later):
    """Mappings and counters go on with a version that counts more, and back, and both understand each other."""
    h6, gw, h4 = net
    there = busy(h6, gw, h4, NAT64)
    before = counters(gw)
    assert before['6to4']['drops'] and before['4to6']['drops']
    for nat64, other in (later, NAT64), (NAT64, later):
        assert gw.run(nat64, *LOAD, *POOL).stderr == ''
        assert owners(gw, nat64) == owners(gw, other) == there
        for n in counters(gw, nat64), counters(gw, other):
            n = {way: counts | {'drops': {k: v for k, v in counts['drops'].items() if k != 'later'}} for way, counts in n.items()}
            assert n == before
        assert json.loads(gw.run(other, '-i', 'eth0', '--status', '--json').stdout)['translators'][0]['v4_prefix'] == '10.0.1.0/24'
    gw.run(NAT64, '-i', 'eth0', '-u')
