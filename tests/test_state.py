# SPDX-License-Identifier: GPL-2.0-or-later
"""Mappings that outlive changes: reconfiguration applies the difference, --delete and --flush, --save and --restore, and
what systemd makes of them."""

import ipaddress
import json
import os
import random
import re
import shlex
import shutil
import signal
import stat
import subprocess
import time

import pytest

from bpf import Translator
from lab import NAT64, embed, standard, wait_for
from test_load import pings
from test_mappings import address, consistent, expire, on_every_cpu, speak
from test_static import statics, to6
from test_status import fill_mappings, mappings, status

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
TWO_CPUS = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='needs two CPUs')


def table(gw, i='eth0'):
    return {row['v6']: row['v4'] for row in mappings(gw, i)}


def told(done):
    """{v6: (v4, why)} of the mappings that -v says were removed."""
    return {m[2]: (m[1], m[3]) for m in re.finditer(r'^mapping (\S+) (\S+) removed: (.*)$', done.stdout, re.M)}


# Reconfiguration

def test_narrower_allowlist(net):
    """Who is not allowed any more loses the mapping and is named; the others go on."""
    _, gw, _ = net
    gw.load('-a', '2001:db8::/32')
    with Translator(gw) as t:
        given = {address(n): speak(t, n) for n in range(1, 6)}
        packet = bytearray(bytes.fromhex('6000000000083b40'))
        other = {}
        for n in range(1, 4):
            src = f'2001:db8::{n}'
            verdict, out = t.run64(bytes(packet) + ipaddress.ip_address(src).packed +
                                   ipaddress.ip_address(embed('198.51.100.1')).packed + bytes(8))
            assert verdict == 0
            other[src] = str(ipaddress.ip_address(out[12:16]))
    assert table(gw) == given | other
    done = gw.load('-v', allow=['2001:db8::/32'])
    assert told(done) == {v6: (v4, 'the host is not allowed') for v6, v4 in given.items()}
    assert table(gw) == other
    with Translator(gw) as t:
        assert speak(t, 1) is None and t.drops()['not-allowed'] == 1
        assert set(consistent(t)) == set(other)
    assert gw.load('-v', allow=['2001:db8::/32']).stdout.count('removed') == 0


POOLS = {
    'grows': ('10.0.1.64/26', '10.0.0.0/22', lambda a: True),
    'shrinks': ('10.0.1.0/24', '10.0.1.32/28', lambda a: a in ipaddress.ip_network('10.0.1.33/32') or
                ipaddress.ip_address('10.0.1.33') <= a <= ipaddress.ip_address('10.0.1.46')),
    'shrinks to two': ('10.0.1.0/24', '10.0.1.8/31', lambda a: a in ipaddress.ip_network('10.0.1.8/31')),
    'moves': ('10.0.1.0/24', '10.0.7.0/24', lambda a: False),
}


@pytest.mark.parametrize('name', POOLS)
def test_other_v4_prefix(net, name):
    """What fits stays, with its times; what does not is named. Counters go on."""
    _, gw, _ = net
    old, new, fits = POOLS[name]
    gw.load(v4=old)
    count = ipaddress.ip_network(old).num_addresses - 2
    with Translator(gw) as t:
        given = {address(n): speak(t, n) for n in range(1, count // 2)}
        before = t.mappings()
        packets = t.stats()['packets'][0]
    stay = {v6: v4 for v6, v4 in given.items() if fits(ipaddress.ip_address(v4))}
    done = gw.load('-v', v4=new)
    assert table(gw) == stay
    assert {v6: v4 for v6, (v4, _) in told(done).items()} == {v6: v4 for v6, v4 in given.items() if v6 not in stay}
    lost = [v4 for v4 in given.values() if ipaddress.ip_address(v4) not in ipaddress.ip_network(new)]
    if lost:
        assert re.fullmatch(rf'nat64: eth0: mappings gone: {len(lost)}, .*{old}\n', done.stderr)
    else:
        assert done.stderr == ''
    with Translator(gw) as t:
        after = t.mappings()
        assert {v6: (after[v6].last_seen, after[v6].created) for v6 in stay} == \
               {v6: (before[v6].last_seen, before[v6].created) for v6 in stay}
        assert t.stats()['packets'][0] == packets
        for v6, v4 in stay.items():
            assert to6(t, v4) == v6
        size = ipaddress.ip_network(new).num_addresses
        free = (size if size == 2 else size - 2) - len(stay)
        more = [speak(t, 10000 + n) for n in range(min(free, 100))]
        assert None not in more and len(set(more)) == len(more) and not set(more) & set(stay.values())
        consistent(t)


def test_smaller_prefix_keeps_its_edges(net):
    """The network's and the broadcast address of the new prefix are not given out, nor kept."""
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        given = {speak(t, n): address(n) for n in range(1, 41)}
    done = gw.load('-v', v4='10.0.1.32/29')
    assert told(done)[given['10.0.1.32']] == ('10.0.1.32', 'its address is not given out')
    assert set(table(gw).values()) == {f'10.0.1.{n}' for n in range(33, 39)}


def backlog_drops():
    """Packets that this machine's CPUs had no time for, in whatever namespace."""
    with open('/proc/net/softnet_stat', encoding='ascii') as f:
        return sum(int(line.split()[1], 16) for line in f)


def test_tcp_and_flood_during_reconfigurations(nat):
    """All kinds of changes, again and again, and no packet of a mapped host is lost, but to a CPU that was too busy."""
    h6, gw, h4 = nat
    pings(h6)
    v4 = table(gw)['fc00:6::6']
    kinds = [['-t', '100'], ['-a', '2001:db8::/32'], statics('2001:db8::5=10.0.1.99'), statics(f'fc00:6::6={v4}'),
             statics('2001:db8:1::/120=203.0.113.0/24'), ['-4', '10.0.0.0/23'], ['-4', '10.0.1.0/28'], []]
    h4.start('iperf3', '-s', '-1')
    h4.listening(5201)
    ping = h6.start('ping', '-q', '-i', '0.002', embed('192.0.2.2'))
    tcp = h6.start('iperf3', '-c', embed('192.0.2.2'), '-t', '120', '--json')
    runs, end, busy_drops = 0, time.monotonic() + 15, backlog_drops()
    while time.monotonic() < end or runs <= len(kinds):     # on a slow machine each kind once, and the first again
        argv = kinds[runs % len(kinds)]
        gw.run(NAT64, '-i', 'eth0', *(argv if '-4' in argv else ['-4', '10.0.1.0/24', *argv]), '-a', 'fc00::/8')
        runs += 1
    os.killpg(ping.pid, signal.SIGINT)
    out = ping.communicate(timeout=20)[0]
    sent, received = map(int, re.search(r'(\d+) packets transmitted, (\d+) received', out).groups())
    assert sent > 1000 and sent - received <= 1 + backlog_drops() - busy_drops, out     # 1: on its way at the end
    os.killpg(tcp.pid, signal.SIGINT)
    report = json.loads(tcp.communicate(timeout=20)[0])
    assert report['end']['sum_sent']['bytes'] > 1000000
    assert all(i['sum']['bytes'] > 0 for i in report['intervals'][:-1])
    gw.run(NAT64, '-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8')
    assert table(gw) == {'fc00:6::6': v4}
    (s,) = status(gw)
    assert s['6to4']['dropped'] == s['4to6']['dropped'] == 0
    gw.loaded.clear()           # other programs than those that load made
    gw.nat64('-i', 'eth0', '-u')


# --delete and --flush

@pytest.mark.parametrize('by', ['v6', 'v4'])
def test_delete(net, by):
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        given = {address(n): speak(t, n) for n in range(1, 6)}
        victim = address(3)
        done = gw.nat64('-i', 'eth0', '-v', '--delete', victim if by == 'v6' else given[victim])
        assert done.stdout == f'mapping {given[victim]} {victim} removed\n'
        assert table(gw) == {v6: v4 for v6, v4 in given.items() if v6 != victim}
        assert to6(t, given[victim]) is None
        consistent(t)
        assert speak(t, 3) not in [None, *[v4 for v6, v4 in given.items() if v6 != victim]]
        consistent(t)


def test_delete_of_an_expired_mapping_in_a_full_pool(net):
    """Its address is the next one that is given out."""
    _, gw, _ = net
    gw.load('-t', 3, v4='10.0.1.0/29')
    with Translator(gw) as t:
        given = [speak(t, n) for n in range(6)]
        assert speak(t, 99) is None
        gw.nat64('-i', 'eth0', '--delete', given[2])
        assert speak(t, 99) == given[2]
        expire(t, given[4])
        gw.nat64('-i', 'eth0', '--delete', address(4))
        consistent(t)


def test_what_cannot_be_deleted(net):
    _, gw, _ = net
    gw.load(*statics('2001:db8::5=10.0.1.5', '2001:db8:3::/124=10.0.1.16/28'))
    for what in 'fc00:66::77', '10.0.1.77', '10.9.9.9', '10.0.1.0', '::':
        assert f'{what}: has no mapping' in gw.nat64('-i', 'eth0', '--delete', what, rc=1).stderr
    for what in '2001:db8::5', '10.0.1.5', '10.0.1.17':
        assert 'static' in gw.nat64('-i', 'eth0', '--delete', what, rc=1).stderr


def test_flush(net):
    """Whatever is not static."""
    _, gw, _ = net
    gw.load('-t', 2, *statics('2001:db8::5=10.0.1.5'))
    with Translator(gw) as t:
        given = [speak(t, n) for n in range(20)]
        expire(t, given[0])
        speak(t, 30)
        assert gw.nat64('-i', 'eth0', '--flush', '-v').stdout.count('removed') == 21
        assert table(gw) == {'2001:db8::5': '10.0.1.5'}
        assert status(gw)[0]['mappings'] == {'live': 0, 'expired': 0, 'static': 1, 'free': 253, 'addresses': 254}
        assert None not in [speak(t, n) for n in range(20)]
        assert gw.nat64('-i', 'eth0', '--flush').stdout == ''


def test_flush_of_a_million(net):
    _, gw, _ = net
    gw.load(v4='10.0.0.0/12', allow=['fd00::/8'])
    with Translator(gw) as t:
        fill_mappings(t, (1 << 20) - 2)
        start = time.monotonic()
        gw.run(NAT64, '-i', 'eth0', '--flush')
        print(f'a million mappings flushed: {time.monotonic() - start:.1f} s')
        assert status(gw)[0]['mappings']['free'] == (1 << 20) - 2
        assert t.maps['by_v6'].keys() == []


@TWO_CPUS
def test_changes_while_crowds_come_and_go(net):
    """New hosts, expiring ones, and an administrator who deletes, flushes, pins and unpins: the maps agree, no address
    leaks and nobody is locked out."""
    _, gw, _ = net
    gw.load('-t', 1, v4='10.0.1.0/28')
    start, speaker = time.monotonic(), min(os.sched_getaffinity(0))
    base = ['-i', 'eth0', '-4', '10.0.1.0/28', '-a', 'fc00::/8', '-t', '1']

    def work(cpu):
        rng = random.Random(cpu)
        served, runs = set(), 0
        while (now := time.monotonic() - start) < 15:
            if cpu == speaker:
                with Translator(gw) as t:
                    for _ in range(200):
                        n = int(now / 0.6) % 5 * 14 + rng.randrange(14)
                        if speak(t, n):
                            served.add(n)
                continue
            runs += 1
            v4 = f'10.0.1.{rng.randrange(1, 15)}'
            gw.run(NAT64, *rng.choice([
                base + statics(f'2001:db8::5={v4}'), base + statics(f'{address(rng.randrange(70))}={v4}'), base,
                ['-i', 'eth0', '--flush'], ['-i', 'eth0', '--delete', v4],
                ['-i', 'eth0', '--delete', address(rng.randrange(70))]]), check=False)
        return f'{len(served)} {runs}'
    numbers = [int(x) for text in on_every_cpu(work) for x in text.split()]
    assert max(numbers[0], numbers[2]) > 28 and min(numbers[1], numbers[3]) == 0 < max(numbers[1], numbers[3])
    gw.run(NAT64, *base)
    with Translator(gw) as t:
        owners = consistent(t)
        assert '2001:db8::5' not in owners and len(owners) <= 14
        time.sleep(2.5)
        again = [speak(t, 500 + n) for n in range(14)]
        assert len(set(again)) == 14 and None not in again, 'an address leaked'
        consistent(t)
    gw.loaded.clear()
    gw.nat64('-i', 'eth0', '-u')


@TWO_CPUS
def test_new_hosts_during_changes(net, tmp_path):
    """Deletions, restorations and reconfigurations of all kinds, while new hosts come, a few at a time: there are always
    free addresses, and so the first packet of each host passes."""
    _, gw, _ = net
    gw.load('-t', 1, v4='10.0.0.0/23')
    base = ['-i', 'eth0', '-a', 'fc00::/8', '-t', '1']
    start = time.monotonic()
    speaker, done = min(os.sched_getaffinity(0)), tmp_path / 'done'

    def work(cpu):
        rng = random.Random(cpu)
        runs = n = 0
        while not done.exists():
            if cpu == speaker:
                with Translator(gw) as t:
                    for n in range(n + 1, n + 20):
                        assert speak(t, n % 60000) or t.drops().keys() <= {'mapping-busy'}, f'host {n}: {t.drops()}'
                        time.sleep(0.005)
                continue
            runs += 1
            gw.run(NAT64, *rng.choice([
                base + ['-4', '10.0.0.0/23'], base + ['-4', '10.0.0.0/23'] + statics('2001:db8::5=10.0.0.77'),
                base + ['-4', '10.0.0.0/22'], base + ['-4', '10.0.0.0/22'] + statics('2001:db8:1::/121=10.0.0.0/25'),
                ['-i', 'eth0', '--flush'], ['-i', 'eth0', '--delete', f'10.0.0.{rng.randrange(256)}'],
                ['-i', 'eth0', '--save', tmp_path / 'state'],
                ['-i', 'eth0', '--restore', tmp_path / 'state']]), check=False)
            if runs > 20 and time.monotonic() - start > 15:
                done.touch()
        return f'{n} {runs}'
    numbers = [int(x) for text in on_every_cpu(work) for x in text.split()]
    assert max(numbers[0], numbers[2]) > 200, numbers
    gw.nat64(*base, '-4', '10.0.0.0/23')        # whatever the last one was: no address is held for a prefix
    with Translator(gw) as t:
        assert 'pool-full' not in t.drops()
        consistent(t)
    gw.loaded.clear()
    gw.nat64('-i', 'eth0', '-u')


# --save and --restore

def test_save_and_restore(net, tmp_path):
    """After an unload, on the way of a load: the same addresses, idle times and ages, before the first packet."""
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        given = {address(n): speak(t, n) for n in random.Random(1).sample(range(1, 1000), 40)}
    time.sleep(2)
    start = time.monotonic()
    before = {row['v6']: row for row in mappings(gw)}
    gw.nat64('-i', 'eth0', '--save', tmp_path / 'state')
    assert os.listdir(tmp_path) == ['state']
    assert os.stat(tmp_path / 'state').st_mode & 0o777 == 0o600
    gw.unload()
    gw.load()
    assert table(gw) == {}
    gw.unload()
    time.sleep(1)
    gw.load('--restore', tmp_path / 'state')
    assert table(gw) == given
    for row in mappings(gw):
        for key in 'idle', 'age':
            assert 1 <= row[key] - before[row['v6']][key] <= time.monotonic() - start + 1
    with Translator(gw) as t:
        consistent(t)
        for v6, v4 in given.items():
            assert to6(t, v4) == v6
        assert speak(t, 5000) not in given.values()


def test_restored_mappings_expire(net, tmp_path):
    """By the time-out, counted from when the host was last heard of, not from the restoration."""
    _, gw, _ = net
    gw.load('-t', 6)
    with Translator(gw) as t:
        old = speak(t, 1)
        time.sleep(4)
        new = speak(t, 2)
    gw.nat64('-i', 'eth0', '--save', tmp_path / 'state')
    gw.unload()
    gw.load('-t', 6, '--restore', tmp_path / 'state')
    with Translator(gw) as t:
        assert (to6(t, old), to6(t, new)) == (address(1), address(2))
        expire(t, old)
        assert to6(t, new) == address(2)
        assert speak(t, 1) == old
        consistent(t)


@pytest.mark.parametrize('ago, idle', [(-3600, 0), (3600, 3600), (86400, 86400), (1 << 33, 10 * 365 * 86400)])
@pytest.mark.parametrize('loaded', [False, True])
def test_file_of_another_day(net, tmp_path, loaded, ago, idle):
    """The time since it was saved counts: a file that was left behind holds no address against a host that needs one."""
    _, gw, _ = net
    pool = '10.0.1.8/31'
    gw.load(v4=pool)
    with Translator(gw) as t:
        given = {address(n): speak(t, n) for n in (1, 2)}
    gw.nat64('-i', 'eth0', '--save', tmp_path / 'state')
    gw.unload()
    saved = json.loads((tmp_path / 'state').read_text())
    saved['time'] -= ago if ago < 1 << 33 else saved['time']
    (tmp_path / 'state').write_text(json.dumps(saved))
    if loaded:
        gw.load(v4=pool)
        done = gw.nat64('-i', 'eth0', '--restore', tmp_path / 'state')
    else:
        done = gw.load('--restore', tmp_path / 'state', v4=pool)
    assert table(gw) == given
    assert ('they have expired' in done.stderr) == (ago > 7200)
    assert all(idle <= row['idle'] <= idle + 60 for row in mappings(gw))
    with Translator(gw) as t:
        assert (speak(t, 3) in given.values()) == (ago > 7200)


def test_restore_into_what_is_loaded(net, tmp_path):
    """Who has a mapping keeps it; the rest comes back. What cannot is counted, and named with -v."""
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        given = {address(n): speak(t, n) for n in range(1, 11)}
    gw.nat64('-i', 'eth0', '--save', tmp_path / 'state')
    gw.nat64('-i', 'eth0', '--flush')
    with Translator(gw) as t:
        moved = speak(t, 5)
        thief = next(a for n in range(100, 400) if (a := speak(t, n)) in given.values() and a != given[address(5)])
    there = table(gw)
    done = gw.nat64('-i', 'eth0', '-v', '--restore', tmp_path / 'state')
    after = table(gw)
    assert after.items() >= there.items() and moved == after[address(5)]
    robbed = next(v6 for v6, v4 in given.items() if v4 == thief)
    assert f'mapping {thief} {robbed} not restored: another host has its address\n' in done.stdout
    assert f'mapping {given[address(5)]} {address(5)} not restored: ' in done.stdout
    refused = done.stdout.count('not restored')
    assert done.stderr == f'nat64: mappings not restored: {refused} of 10\n'
    assert sum(after.get(v6) == v4 for v6, v4 in given.items()) == 10 - refused
    with Translator(gw) as t:
        consistent(t)


def test_restore_with_other_options(net, tmp_path):
    """Static mappings and the allowlist are those of now."""
    _, gw, _ = net
    gw.load(*statics('2001:db8::5=10.0.1.200'))
    with Translator(gw) as t:
        given = {n: speak(t, n) for n in range(1, 9)}
    gw.nat64('-i', 'eth0', '--save', tmp_path / 'state')
    gw.unload()
    gw.load('--restore', tmp_path / 'state', *statics(f'2001:db8::6={given[1]}', f'{address(2)}=10.0.1.100'),
            v4='10.0.1.0/24', allow=['fc00:66::/126', 'fc00:66::4/126'])
    assert table(gw) == {'2001:db8::6': given[1], address(2): '10.0.1.100',
                         **{address(n): given[n] for n in range(3, 8)}}


def document(rows, **header):
    return {'nat64_mappings': 1, 'mappings': rows} | header


def row(**changed):
    return {'v4': '10.0.1.7', 'v6': 'fc00:66::7', 'type': 'dynamic', 'idle': 1, 'expires_in': 2, 'age': 3} | changed


# What is in the file, and what the complaint must name.
DAMAGED = {
    'empty': ('', 'line 1'),
    'junk': ('\0\1\2\3' * 1000, 'line 1'),
    'cut off': (json.dumps(document([row(), row(v4='10.0.1.8', v6='fc00:66::8')]), indent=1)[:-20], 'line 18'),
    'something behind': (json.dumps(document([row()])) + '\n]', 'line 2'),
    'not UTF-8': (b'{"nat64_mappings":1,"mappings":[],"x":"\xff"}', 'line 1'),
    'other JSON': ('{"colour": "red"}', 'not a file of nat64'),
    'a list': ('[]', 'not a file of nat64'),
    'status': ('{"translators":[]}', 'not a file of nat64'),
    'later version': (document([], nat64_mappings=2), '2'),
    'no list': ({'nat64_mappings': 1}, 'mappings'),
    'list of numbers': (document([1]), 'mapping 1'),
    'bad v4': (document([row(), row(v4='10.0.1.256')]), 'mapping 2: "v4"'),
    'v4 prefix': (document([row(v4='10.0.1.0/24')]), 'mapping 1: "v4"'),
    'v4 multicast': (document([row(v4='224.0.0.1')]), 'mapping 1: "v4"'),
    'bad v6': (document([row(v6='fc00:66::7::')]), 'mapping 1: "v6"'),
    'v6 multicast': (document([row(v6='ff02::1')]), 'mapping 1: "v6"'),
    'no v6': (document([{k: v for k, v in row().items() if k != 'v6'}]), 'mapping 1: "v6"'),
    'v6 a number': (document([row(v6=6)]), 'mapping 1: "v6"'),
    'type': (document([row(type='strange')]), 'mapping 1: "type"'),
    'time a string': (document([row()], time='1'), '"time"'),
    'time negative': (document([row()], time=-1), '"time"'),
    'idle negative': (document([row(idle=-1)]), 'mapping 1: "idle"'),
    'idle a string': (document([row(idle='1')]), 'mapping 1: "idle"'),
    'idle too long': (document([row(idle=1 << 40)]), 'mapping 1: "idle"'),
    'age missing': (document([row(age=None)]), 'mapping 1: "age"'),
    'v4 twice': (document([row(), row(v6='fc00:66::8')]), '10.0.1.7'),
    'v6 twice': (document([row(), row(v4='10.0.1.8')]), 'fc00:66::7'),
    'of another translator': (document([row(v4='10.0.7.7')]), '10.0.1.0/24'),
    'deep': ('[' * 100000, 'line 1'),
}


@pytest.fixture(scope='module')
def busy(module_net):
    """A translator with a mapping."""
    module_net[1].load()
    with Translator(module_net[1]) as t:
        speak(t, 1)
    return module_net[1]


@pytest.mark.parametrize('how', ['on its own', 'with a load'])
@pytest.mark.parametrize('name', DAMAGED)
def test_damaged_file(busy, tmp_path, name, how):
    text, names = DAMAGED[name]
    text = json.dumps(text) if isinstance(text, dict) else text
    (tmp_path / 'state').write_bytes(text if isinstance(text, bytes) else text.encode())
    before = table(busy)
    argv = [] if how == 'on its own' else ['-4', '10.0.1.0/24', '-a', 'fc00::/8', '-t', '5']
    rc = 1 if name == 'of another translator' and not argv else 2
    stderr = busy.nat64('-i', 'eth0', *argv, '--restore', tmp_path / 'state', rc=rc).stderr
    assert names in stderr and str(tmp_path / 'state') in stderr, stderr
    assert table(busy) == before and status(busy)[0]['timeout'] == 7440


def test_unreadable_file(busy, tmp_path):
    for path in tmp_path / 'none', tmp_path:
        assert str(path) in busy.nat64('-i', 'eth0', '--restore', path, rc=2).stderr


def test_nothing_to_restore_yet(net, tmp_path):
    """The first time, there is no file: it loads, and says so."""
    _, gw, _ = net
    done = gw.load('--restore', tmp_path / 'none')
    assert re.fullmatch(rf'nat64: --restore {tmp_path}/none: No such file.*\n', done.stderr)


def test_save_is_atomic(busy, tmp_path):
    """A full disk, a directory that is not there: the old file stays, and nothing beside it."""
    (tmp_path / 'state').write_text('old')
    before = os.listdir(tmp_path)
    busy.nat64('-i', 'eth0', '--save', tmp_path / 'no' / 'state', rc=1)
    busy.nat64('-i', 'eth0', '--save', tmp_path, rc=1)
    busy.nat64('-i', 'eth0', '--save', '/dev/null', rc=1)
    assert os.stat('/dev/null').st_rdev
    done = busy.run('prlimit', '--fsize=10', NAT64, '-i', 'eth0', '--save', tmp_path / 'state', check=False)
    assert done.returncode == 1 and str(tmp_path / 'state') in done.stderr
    assert (tmp_path / 'state').read_text() == 'old' and os.listdir(tmp_path) == before
    busy.nat64('-i', 'eth0', '--save', tmp_path / 'state')
    assert json.loads((tmp_path / 'state').read_text())['nat64_mappings'] == 1 and os.listdir(tmp_path) == before


def test_save_keeps_links_and_modes(busy, tmp_path):
    """It is the file that is replaced, not the link to it, with its owner and mode; also one that is not there yet."""
    (tmp_path / 'there').mkdir()
    target = tmp_path / 'there' / 'state'
    (tmp_path / 'link').symlink_to('there/state')
    (tmp_path / 'chain').symlink_to(tmp_path / 'link')
    links = ['link', 'chain', 'there']
    for name, mode in ('chain', 0o600), ('link', 0o640):
        if target.exists():
            os.chmod(target, mode)
            os.chown(target, 65534, 65534)
        busy.nat64('-i', 'eth0', '--save', tmp_path / name)
        assert json.loads(target.read_text())['nat64_mappings'] == 1
        assert stat.S_IMODE(target.stat().st_mode) == mode and os.listdir(tmp_path / 'there') == ['state']
        assert (tmp_path / 'link').is_symlink() and (tmp_path / 'chain').is_symlink()
    assert (target.stat().st_uid, target.stat().st_gid) == (65534, 65534)
    assert sorted(os.listdir(tmp_path)) == sorted(links)
    (tmp_path / 'ring').symlink_to('ring')
    (tmp_path / 'nowhere').symlink_to('no/state')
    for name in 'ring', 'nowhere':
        busy.nat64('-i', 'eth0', '--save', tmp_path / name, rc=1)
        assert (tmp_path / name).is_symlink()
    dev = os.lstat('/dev/stdout')               # a link, to a file here
    busy.run('sh', '-c', f'{NAT64} -i eth0 --save /dev/stdout >{tmp_path}/out')
    assert json.loads((tmp_path / 'out').read_text())['nat64_mappings'] == 1
    assert os.lstat('/dev/stdout').st_ino == dev.st_ino
    busy.run('sh', '-c', f'exec >{tmp_path}/gone; rm {tmp_path}/gone; ! {NAT64} -i eth0 --save /dev/stdout')
    assert not list(tmp_path.glob('gone*'))


def test_a_million_saved_and_restored(net, tmp_path):
    _, gw, _ = net
    gw.load(v4='10.0.0.0/12', allow=['fd00::/8'])
    with Translator(gw) as t:
        fill_mappings(t, (1 << 20) - 2)
    start = time.monotonic()
    gw.run(NAT64, '-i', 'eth0', '--save', tmp_path / 'state')
    print(f'a million mappings saved: {time.monotonic() - start:.1f} s')
    gw.unload()
    start = time.monotonic()
    gw.load('--restore', tmp_path / 'state', v4='10.0.0.0/12', allow=['fd00::/8'])
    print(f'a million mappings loaded and restored: {time.monotonic() - start:.1f} s')
    assert status(gw)[0]['mappings']['live'] == (1 << 20) - 2


def test_takeover(lab, tmp_path):
    """A second gateway takes over during a TCP transfer: the mappings restored, the routes moved."""
    h6, gw, h4 = standard(lab)
    spare = lab.host('gw2')
    lab.link(h6, 'eth9', spare, 'eth0')
    lab.link(spare, 'eth1', h4, 'eth9')
    for name in 'net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding':
        spare.sysctl(name, 1)
    h6.addr('eth9', 'fc00:9::6/64')
    spare.addr('eth0', 'fc00:9::1/64')
    spare.route('fc00:6::6/128', 'via', 'fc00:9::6')
    spare.addr('eth1', '192.0.9.1/24')
    h4.addr('eth9', '192.0.9.2/24')
    spare.route('192.0.2.2/32', 'via', '192.0.9.2')
    for host in h6, h4:
        host.sysctl('net.ipv4.conf.all.rp_filter', 0)
    gw.load()
    h4.start('iperf3', '-s', '-1')
    h4.listening(5201)
    tcp = h6.start('iperf3', '-c', embed('192.0.2.2'), '-B', 'fc00:6::6', '-t', '6', '--json')
    wait_for(lambda: table(gw), 'the mapping')
    time.sleep(2)
    gw.run(NAT64, '-i', 'eth0', '--save', tmp_path / 'state')
    spare.load('--restore', tmp_path / 'state')
    assert table(spare) == table(gw) == {'fc00:6::6': '10.0.1.1'}
    h4.ip('route', 'replace', '10.0.1.0/24', 'via', '192.0.9.1')
    h6.ip('-6', 'route', 'replace', 'default', 'via', 'fc00:9::1')
    gw.unload()
    report = json.loads(tcp.communicate(timeout=60)[0])
    assert 'error' not in report
    assert all(i['sum']['bytes'] > 0 for i in report['intervals'][-3:-1]), report['intervals'][-3:]
    (s,) = status(spare)
    assert s['6to4']['packets'] > 100 and s['4to6']['packets'] > 100


@pytest.mark.parametrize('argv', [['--delete', 'fc00:66::1'], ['--flush'], ['--save', 'FILE'], ['--restore', 'FILE']])
def test_least_privilege(net, tmp_path, argv):
    """CAP_SYS_ADMIN, and nothing else."""
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        assert speak(t, 1)
    gw.run(NAT64, '-i', 'eth0', '--save', tmp_path / 'state')
    argv = ['-i', 'eth0', *[tmp_path / 'state' if a == 'FILE' else a for a in argv]]
    done = gw.run('setpriv', '--bounding-set=-sys_admin', NAT64, *argv, check=False)
    assert done.returncode == 1 and re.fullmatch(r'nat64: eth0: .*CAP_SYS_ADMIN[^\n]*\n', done.stderr)
    gw.run('setpriv', '--bounding-set=-all,+sys_admin', NAT64, *argv)
    assert len(table(gw)) == (0 if argv[2] in ('--delete', '--flush') else 1)


BAD = {
    'delete nothing': (['--delete', ''], '--delete'),
    'delete junk': (['--delete', '10.0.1'], '10.0.1'),
    'delete a prefix': (['--delete', '10.0.1.0/24'], '10.0.1.0/24'),
    'delete and flush': (['--delete', '10.0.1.1', '--flush'], '--flush'),
    'save and unload': (['--save', '/tmp/x', '-u'], '-u'),
    'restore and unload': (['--restore', '/dev/null', '-u'], '--restore'),
    'restore and flush': (['--restore', '/dev/null', '--flush'], '--restore'),
    'save nowhere': (['--save', ''], '--save'),
    'flush something': (['--flush=x'], '--flush'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input(busy, name):
    argv, names = BAD[name]
    assert names in busy.nat64('-i', 'eth0', *argv, rc=2).stderr


@pytest.mark.parametrize('argv', [['--delete', '10.0.1.1'], ['--flush'], ['--save', '/tmp/x'],
                                  ['--restore', '/dev/stdin']])
def test_nothing_loaded(net, tmp_path, argv):
    if argv[0] == '--restore':
        (tmp_path / 'state').write_text(json.dumps(document([])))
        argv = ['--restore', tmp_path / 'state']
    assert net[1].nat64('-i', 'eth0', *argv, rc=1).stderr == 'nat64: nothing loaded on eth0\n'


# systemd

UNITS = ['nat64@', 'nat64-config@']


def unit(name):
    with open(os.path.join(ROOT, f'dist/{name}.service'), encoding='utf-8') as f:
        return f.read()


def installed(tmp_path, name):
    """A unit as make install writes it."""
    subprocess.run(['make', '-C', ROOT, '-s', 'install', f'DESTDIR={tmp_path}', 'PREFIX=/usr'], check=True,
                   stdout=subprocess.DEVNULL)
    return tmp_path / f'usr/lib/systemd/system/{name}.service'


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='NO systemd-analyze: the unit is not verified')
@pytest.mark.parametrize('name', UNITS)
def test_unit_verifies(tmp_path, name):
    """systemd-analyze says nothing of it, and something of a broken one."""
    path = installed(tmp_path, name)
    text = path.read_text().replace('/usr/sbin/nat64', os.path.abspath(NAT64))
    for broken in False, True:
        (tmp_path / f'{name}.service').write_text(text.replace('Type=oneshot', 'Type=twoshot') if broken else text)
        done = subprocess.run(['systemd-analyze', '--man=no', 'verify', tmp_path / f'{name}eth0.service'],
                              capture_output=True, text=True, check=False, cwd=tmp_path)
        said = [line for line in done.stderr.splitlines() if name in line]
        assert bool(said) == broken, done.stderr


@pytest.mark.parametrize('name', UNITS)
def test_unit_does_what_it_says(net, tmp_path, name):
    """Its commands, with the capabilities that it grants: start, reload, stop, and start again with the mappings."""
    h6, gw, _ = net
    text = unit(name)
    names = 'device nat64\ninterface eth0\n' if 'config' in name else ''
    caps = re.search(r'^CapabilityBoundingSet=(.*)$', text, re.M)[1].split()
    via = ['setpriv', '--bounding-set=-all,' + ','.join('+' + c[4:].lower() for c in caps)]
    conf = tmp_path / 'eth0.conf'

    def do(what, **environ):
        lines = re.findall(rf'^{what}=-?(.*)$', text.replace('\\\n', ' '), re.M)
        assert lines
        for line in lines:
            # /sys is that of the namespace that mounted it, /proc/sys that of whoever looks
            for old, new in ('%I', 'eth0'), ('%i', 'eth0'), ('$$', '$'), ('/etc/nat64', str(tmp_path)), ('/var/lib/nat64', str(tmp_path)), \
                    ('/usr/local/sbin/nat64', NAT64), ('/sys/class/net', '/proc/sys/net/ipv6/conf'):
                line = line.replace(old, new)
            gw.run(*via, *shlex.split(line), env=os.environ | environ)
    conf.write_text(f'{names}v4-prefix 10.0.1.0/24\nallowed-src fc00::/8\n')
    do('ExecStart')
    pings(h6)
    before = table(gw)
    conf.write_text(f'{names}v4-prefix 10.0.1.0/24\nallowed-src fc00::/8\ntimeout 99\n')
    do('ExecReload')
    assert status(gw)[0]['timeout'] == 99 and table(gw) == before
    do('ExecStopPost', EXIT_CODE='exited', EXIT_STATUS='1')      # of a start that failed
    assert table(gw) == before and not (tmp_path / 'eth0.json').exists()
    do('ExecStopPost', EXIT_CODE='exited', EXIT_STATUS='0')
    assert status(gw) == [] and (tmp_path / 'eth0.json').exists()
    do('ExecStart')
    assert table(gw) == before != {}
    do('ExecStopPost', EXIT_CODE='killed', EXIT_STATUS='KILL')
