# SPDX-License-Identifier: GPL-2.0-or-later
"""--per-prefix: how many mappings the hosts of an IPv6 prefix have, to the last one, whatever happens to the table; and what
becomes of those who come when it has as many as it may."""

import contextlib
import ipaddress
import json
import os
import random
import re
import struct
import time

import pytest

from bpf import MAPPING, TC_ACT_OK, Translator
from lab import NAT64, embed
from test_mappings import STATIC, TEMPLATE, consistent, on_every_cpu, opened
from test_mirror import told as heard, write
from test_state import TWO_CPUS
from test_static import statics
from test_status import fill, mappings

RECORD = struct.Struct('=16s16sIIII')       # struct nat64_prefix
MEMBER = struct.Struct('=IIII')             # struct nat64_member


BASE = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8']


def host(prefix, n):
    return str(ipaddress.IPv6Address(f'fc00:{prefix:x}::{n:x}'))


def speak(t, prefix, n):
    """A packet of host n of a /64: the IPv4 source it leaves with, or None."""
    packet = TEMPLATE[:8] + ipaddress.IPv6Address(host(prefix, n)).packed + TEMPLATE[24:]
    verdict, out = t.run64(packet)
    return str(ipaddress.IPv4Address(out[12:16])) if verdict == TC_ACT_OK else None


def counted(t, length=64, held=False):
    """{prefix: mappings} of the table, after a look whether the counts say the same, and all that is behind them. held: there
    is a static prefix."""
    want, record_of = {}, {}
    size = t.maps['mappings'].max_entries
    prefixes = [RECORD.unpack(t.maps['prefixes'].lookup(struct.pack('=I', i))) for i in range(t.maps['prefixes'].max_entries)]
    member = [MEMBER.unpack(t.maps['members'].lookup(struct.pack('=I', i))) for i in range(size)]
    for i in range(size):
        _, _, v6, tick, *_ = MAPPING.unpack(t.maps['mappings'].lookup(struct.pack('=I', i)))
        if tick in (0, STATIC):
            assert member[i][0] == 0, f'{t.v4[i]} is counted'
            continue
        prefix = str(ipaddress.ip_network((v6, length), strict=False))
        want.setdefault(prefix, set()).add(i)
        number = member[i][0]
        assert number, f'{t.v4[i]} is not counted'
        assert str(ipaddress.ip_network((prefixes[number - 1][0], length))) == prefix
        assert record_of.setdefault(prefix, number) == number
    for prefix, members in want.items():
        _, _, count, hand, *_ = prefixes[record_of[prefix] - 1]
        key = ipaddress.ip_network(prefix).network_address.packed
        assert t.maps['by_prefix'].lookup(key) == struct.pack('=I', record_of[prefix])
        assert count == len(members)
        seen, i = set(), hand - 1
        for _ in members:
            _, following, before, _ = member[i]
            assert member[following][2] == i == member[before][1]
            seen.add(i)
            i = following
        assert seen == members and i == hand - 1
    assert sum(p[2] for p in prefixes) == sum(len(m) for m in want.values()), 'something is counted that is not there'
    if not held:
        consistent(t)
    return {prefix: len(members) for prefix, members in want.items()}


def saved(tmp_path, rows):
    """A file for --restore: {last octet: (prefix, n, idle)}"""
    rows = [{'v4': f'10.0.1.{v4}', 'v6': host(p, n), 'type': 'dynamic', 'idle': idle, 'age': 90000}
            for v4, (p, n, idle) in rows.items()]
    (tmp_path / 'state').write_text(json.dumps({'nat64_mappings': 1, 'mappings': rows}))
    return tmp_path / 'state'


def test_one_host_does_not_fill_the_pool(net):
    """Eight addresses of a /64 take two of a /29; who is refused is told, and the rest is for others."""
    h6, gw, _ = net
    with opened(gw, '--per-prefix', '64=2', v4='10.0.1.0/29') as t:
        given = [speak(t, 1, n) for n in range(1, 9)]
        assert None not in given[:2] and given[2:] == [None] * 6
        assert t.drops() == {'prefix-full': 6}
        assert [speak(t, 1, n) for n in (1, 2)] == given[:2]
        others = [speak(t, p, n) for p in (2, 3) for n in (1, 2)]
        assert None not in others and speak(t, 2, 3) is None and t.drops() == {'pool-full': 1, 'prefix-full': 6}
        assert counted(t) == {f'fc00:{p}::/64': 2 for p in (1, 2, 3)}
        gw.nat64('-i', 'eth0', '--flush')
        h6.addr('eth0', *(f'fc00:6::{n}/64' for n in (7, 8)))
        for n in 7, 8:
            h6.run('ping', '-c1', '-W5', '-I', f'fc00:6::{n}', embed('192.0.2.2'))
        said = h6.run('ping', '-c1', '-W5', '-I', 'fc00:6::6', embed('192.0.2.2'), check=False).stdout
        assert re.search('Destination unreachable: Address unreachable', said), said
        assert t.drops()['prefix-full'] == 7 and counted(t) == {'fc00:6::/64': 2}


@pytest.mark.parametrize('argv', [[], ['--reuse-idle', 600]])
def test_what_has_expired_is_no_reason_to_refuse(net, tmp_path, argv):
    """A new host gets the address of the one of its own prefix that could lose it in a full pool; never that of another's."""
    _, gw, _ = net
    rows = {1: (1, 1, 8000), 2: (1, 2, 1000), 3: (1, 3, 100), 4: (2, 1, 9000)}
    with opened(gw, '--per-prefix', '64=3', *argv, '--restore', saved(tmp_path, rows)) as t:
        assert counted(t) == {'fc00:1::/64': 3, 'fc00:2::/64': 1}
        given = [speak(t, 1, n) for n in (11, 12, 13)]
        if argv:
            assert sorted(given[:2]) == ['10.0.1.1', '10.0.1.2'] and given[2] is None
        else:
            assert given == ['10.0.1.1', None, None]
        assert {host(1, 3): '10.0.1.3', host(2, 1): '10.0.1.4'}.items() <= consistent(t).items()
        assert speak(t, 1, 1) is None
        assert counted(t) == {'fc00:1::/64': 3, 'fc00:2::/64': 1}


@pytest.mark.parametrize('where', [0, 1, 20, 39])
def test_the_one_that_has_expired_is_found(net, tmp_path, where):
    """In a prefix with many mappings: by a few packets, however many others are live."""
    _, gw, _ = net
    rows = {n + 1: (1, n, 8000 if n == where else 0) for n in range(40)}
    with opened(gw, '--per-prefix', '64=40', '--restore', saved(tmp_path, rows)) as t:
        given = [speak(t, 1, 100) for _ in range(6)]
        assert given[-1] == f'10.0.1.{where + 1}' and counted(t) == {'fc00:1::/64': 40}


def test_a_prefix_of_any_length(net):
    """To the bit."""
    _, gw, _ = net
    with opened(gw, '--per-prefix', '125=3', v4='10.0.1.0/28') as t:
        given = {n: speak(t, 1, n) for n in range(24)}
        served = [n for n, v4 in given.items() if v4]
        assert served == [n for n in range(24) if n % 8 < 3] and t.drops() == {'prefix-full': 15}
        assert counted(t, 125) == {f'{host(1, n)}/125': 3 for n in (0, 8, 16)}


def test_more_prefixes_than_there_is_room_for(net):
    """As long as few have mappings at a time: what is remembered of those that have none left gives way."""
    _, gw, _ = net
    with opened(gw, '--per-prefix', '64=1', v4='10.0.1.0/28') as t:
        assert t.maps['prefixes'].max_entries < 100
        for start in range(0, 400, 14):
            assert None not in [speak(t, p, 1) for p in range(start, start + 14)]
            assert speak(t, 500, 1) is None
            assert counted(t) == {f'{ipaddress.ip_address(host(p, 0))}/64': 1 for p in range(start, start + 14)}
            gw.nat64('-i', 'eth0', '--flush')
            assert counted(t) == {}
        assert speak(t, 0, 1) and speak(t, 0, 2) is None and t.drops() == {'pool-full': 29, 'prefix-full': 1}


def test_a_new_prefix_is_served_at_once(net):
    """However many records of prefixes that had nothing left for a while are among those that it may have."""
    _, gw, _ = net
    with opened(gw, '--per-prefix', '64=2') as t:
        for _ in range(3):
            gw.nat64('-i', 'eth0', '--flush')
            assert None not in [speak(t, p, 1) for p in range(1, 201)]
        assert None not in [speak(t, p, 1) for p in range(201, 255)]
        assert t.drops() == {} and counted(t) == {f'fc00:{p:x}::/64': 1 for p in range(1, 255)}


def test_a_look_that_has_strayed(net, tmp_path):
    """A mapping that is looked at may become another prefix's at that moment: those behind it are of no concern."""
    _, gw, _ = net
    with opened(gw, '--per-prefix', '64=1', '--restore', saved(tmp_path, {1: (1, 1, 0), 2: (2, 1, 8000)})) as t:
        member = [MEMBER.unpack(t.maps['members'].lookup(struct.pack('=I', i))) for i in range(3)]
        key = struct.pack('=I', member[1][0] - 1)
        record = t.maps['prefixes'].lookup(key)
        *fields, _, below, pad = RECORD.unpack(record)
        fill(t.maps['prefixes'], key, RECORD.pack(*fields, 2 + 1, below, pad), 1)
        assert speak(t, 1, 2) is None and t.drops() == {'prefix-full': 1}
        fill(t.maps['prefixes'], key, record, 1)
        assert counted(t) == {'fc00:1::/64': 1, 'fc00:2::/64': 1}


def test_races_that_are_always_lost(net, tmp_path):
    """Other CPUs change the list of a prefix whenever somebody is about to join it (here: it begins nowhere): no packet gets a
    mapping that is not counted, and commands say that they could not count."""
    _, gw, _ = net
    with opened(gw, '--per-prefix', '64=4') as t:
        assert speak(t, 1, 1) and speak(t, 2, 1)
        member = [MEMBER.unpack(t.maps['members'].lookup(struct.pack('=I', i))) for i in range(3)]
        key = struct.pack('=I', member[1][0] - 1)
        record = t.maps['prefixes'].lookup(key)

        def lost(hand=1 << 30):
            *fields, _, below, pad = RECORD.unpack(t.maps['prefixes'].lookup(key))
            fill(t.maps['prefixes'], key, RECORD.pack(*fields, hand, below, pad), 1)
        lost()
        assert speak(t, 1, 2) is None and speak(t, 2, 2) and t.drops() == {'mapping-busy': 1}
        lost(RECORD.unpack(record)[3])
        assert counted(t) == {'fc00:1::/64': 1, 'fc00:2::/64': 2}
        lost()
        rows = saved(tmp_path, {9: (1, 9, 10)})
        assert 'busy' in gw.nat64('-i', 'eth0', '--restore', rows, rc=1).stderr
        stream = write(tmp_path / 'stream', heard('10.0.1.8', host(1, 8)))
        assert 'busy' in gw.nat64('-i', 'eth0', '--mirror', stream, rc=1).stderr
        assert 'busy' in gw.nat64(*BASE, '--per-prefix', '64=4', rc=1).stderr
        lost(RECORD.unpack(record)[3])
        gw.load('--per-prefix', '64=4')
        assert counted(t) == {'fc00:1::/64': 3, 'fc00:2::/64': 2}
        assert speak(t, 1, 3) and speak(t, 1, 4) is None


@contextlib.contextmanager
def no_neighbours(t, i):
    """Whenever the mapping is about to leave the list of its prefix, another CPU has changed its neighbours: here it has none."""
    key = struct.pack('=I', i)
    member = t.maps['members'].lookup(key)
    prefix, _, before, pad = MEMBER.unpack(member)
    fill(t.maps['members'], key, MEMBER.pack(prefix, 1 << 30, before, pad), 1)
    yield
    fill(t.maps['members'], key, member, 1)


def test_races_to_leave_a_prefix(net, tmp_path):
    """Who loses them is counted where it was, and its address is not another host's. The same if the new owner is of the same prefix,
    and turns out to have another address: what it can neither keep nor leave."""
    _, gw, _ = net
    with opened(gw, '--per-prefix', '64=3', '--restore', saved(tmp_path, {1: (1, 1, 8000)}), v4='10.0.1.0/30') as t:
        assert speak(t, 2, 1) == '10.0.1.2'
        with no_neighbours(t, 1):
            assert speak(t, 3, 1) is None
        assert counted(t) == {'fc00:1::/64': 1, 'fc00:2::/64': 1} and speak(t, 1, 1) == '10.0.1.1'
    gw.unload()
    with opened(gw, '--per-prefix', '64=1', '--restore', tmp_path / 'state') as t:
        new = ipaddress.IPv6Address(host(1, 2)).packed
        fill(t.maps['by_v6'], new, struct.pack('=I', 2), 1)
        with no_neighbours(t, 1):
            assert speak(t, 1, 2) is None
        fill(t.maps['by_v6'], new, struct.pack('=I', 1), 1)
        assert counted(t) == {'fc00:1::/64': 1} and speak(t, 1, 2) == '10.0.1.1'


def test_races_for_a_place(net, tmp_path):
    """Other CPUs change the neighbours of an address whenever it is about to change its place among those that are free or in use
    (here: it has none): commands say that it is not where it belongs."""
    _, gw, _ = net
    key = struct.pack('=I', 9)

    def loses(*argv):
        node = t.maps['order'].lookup(key)
        fill(t.maps['order'], key, node[:4] + struct.pack('=I', 1 << 30), 1)
        assert 'busy' in gw.run(NAT64, *argv, check=False).stderr
        fill(t.maps['order'], key, node, 1)
    with opened(gw) as t:
        loses('-i', 'eth0', '--restore', saved(tmp_path, {9: (1, 9, 10)}))
        gw.nat64('-i', 'eth0', '--delete', '10.0.1.9')
        assert consistent(t) == {}
        loses(*BASE, *statics(f'{host(1, 9)}=10.0.1.9'))
    gw.loaded.clear()
    gw.nat64('-i', 'eth0', '-u')


def test_a_new_pool_is_not_searched(net, tmp_path):
    """It may have 16 million addresses, and nothing to be counted."""
    _, gw, _ = net
    looks = []
    for argv in [], ['--per-prefix', '64=1']:
        gw.run('strace', '-qq', '-o', tmp_path / 'trace', '-e', 'trace=bpf',
               NAT64, '-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', *argv)
        looks.append((tmp_path / 'trace').read_text(encoding='latin1').count('BPF_MAP_LOOKUP_BATCH'))
        gw.nat64('-i', 'eth0', '-u')
    assert looks[0] == looks[1]


def test_reconfigurations(net):
    """The counts are those of the options that are in force; nobody loses a mapping by it."""
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        given = {(p, n): speak(t, p, n) for p in (1, 2) for n in range(5)}

    def reloaded(*argv, length=64, want, **kw):
        gw.load(*argv, **kw)
        with Translator(gw) as t:
            assert counted(t, length) == want
            assert {key: speak(t, *key) for key in given} == given
            assert speak(t, 1, 100) is None and set(t.drops()) == {'prefix-full'}
    five = {'fc00:1::/64': 5, 'fc00:2::/64': 5}
    reloaded('--per-prefix', '64=3', want=five)
    reloaded('--per-prefix', '64=5', want=five)
    reloaded('--per-prefix', '16=8', length=16, want={'fc00::/16': 10})
    gw.load()
    with Translator(gw) as t:
        given[2, 5] = speak(t, 2, 5)
    five['fc00:2::/64'] = 6
    reloaded('--per-prefix', '64=1', want=five)
    reloaded('--per-prefix', '64=1', v4='10.0.0.0/23', want=five)
    pinned = statics(f'{host(2, 5)}={given[2, 5]}')
    reloaded('--per-prefix', '64=1', *pinned, v4='10.0.0.0/23', want=five | {'fc00:2::/64': 5})
    reloaded('--per-prefix', '64=1', v4='10.0.0.0/23', want=five)
    reloaded('--per-prefix', '64=5', want=five)
    gw.load('--per-prefix', '64=6')
    with Translator(gw) as t:
        assert speak(t, 1, 5) and speak(t, 1, 6) is None and speak(t, 2, 6) is None
        assert counted(t) == {'fc00:1::/64': 6, 'fc00:2::/64': 6}


def test_commands(net, tmp_path):
    """What is deleted gives room, what is restored takes it, also more than a prefix may have."""
    _, gw, _ = net
    gw.load('--per-prefix', '64=3')
    with Translator(gw) as t:
        given = [speak(t, 1, n) for n in (1, 2, 3)]
        gw.nat64('-i', 'eth0', '--save', tmp_path / 'saved')
        gw.nat64('-i', 'eth0', '--delete', given[0])
        gw.nat64('-i', 'eth0', '--delete', host(1, 2))
        assert counted(t) == {'fc00:1::/64': 1}
        new = [speak(t, 1, n) for n in (4, 5, 6)]
        assert None not in new[:2] and new[2] is None
        gw.nat64('-i', 'eth0', '--restore', tmp_path / 'saved')
        back = [m['v6'] for m in mappings(gw)]
        assert counted(t) == {'fc00:1::/64': len(back)} and len(back) > 3
        gw.nat64('-i', 'eth0', '--delete', back[0])
        assert counted(t) == {'fc00:1::/64': len(back) - 1}
        gw.nat64('-i', 'eth0', '--flush')
        assert counted(t) == {}
        assert [bool(speak(t, 1, n)) for n in range(10, 15)] == [True] * 3 + [False] * 2


@TWO_CPUS
def test_two_cpus_and_the_last_place(net):
    """Both see new hosts of the same prefix at the same time: it has never more than it may, and in the end as many."""
    _, gw, _ = net
    with opened(gw, '--per-prefix', '64=5', v4='10.0.0.0/20') as t:
        start = time.monotonic() + 1

        def work(cpu):
            packets = [[TEMPLATE[:8] + ipaddress.IPv6Address(host(p, cpu * 1000 + n)).packed + TEMPLATE[24:]
                        for n in range(8)] for p in range(600)]
            served = []
            with gw:
                for p, of_prefix in enumerate(packets):
                    while time.monotonic() < start + p / 1000:
                        pass
                    served.append([t.to4.run(t.ETH6 + packet, t.ifindex)[0] for packet in of_prefix].count(TC_ACT_OK))
            return json.dumps(served)
        served = [sum(pair) for pair in zip(*map(json.loads, on_every_cpu(work)))]
        assert max(served) == 5 and served.count(5) > 500
        assert set(t.drops()) <= {'prefix-full', 'mapping-busy'}
        assert list(counted(t).values()) == served


@TWO_CPUS
@pytest.mark.parametrize('commands', [False, True])
def test_crowds(net, tmp_path, commands):
    """Hosts of a few prefixes that come and go on both CPUs, or on one while commands change everything on the other: the
    counts are right."""
    _, gw, _ = net
    gw.load('-t', 1, '--per-prefix', '64=4', v4='10.0.1.0/28')
    base = ['-i', 'eth0', '-4', '10.0.1.0/28', '-a', 'fc00::/8', '-t', '1', '--per-prefix']
    start, speaker = time.monotonic(), min(os.sched_getaffinity(0))

    def work(cpu):
        rng = random.Random(cpu)
        served = runs = 0
        while (now := time.monotonic() - start) < 10:
            if cpu == speaker or not commands:
                with Translator(gw) as t:
                    for _ in range(200):
                        served += speak(t, rng.randrange(1, 6), int(now / 0.7) % 5 * 10 + rng.randrange(10)) is not None
                continue
            runs += 1
            v4 = f'10.0.1.{rng.randrange(1, 15)}'
            p, n = rng.randrange(1, 6), rng.randrange(50)
            gw.run(NAT64, *rng.choice([
                base + ['64=4'], base + ['64=3'], base + ['48=4'], base[:-1], base + ['64=4'] + statics(f'{host(p, n)}={v4}'),
                ['-i', 'eth0', '--flush'], ['-i', 'eth0', '--delete', v4], ['-i', 'eth0', '--delete', host(p, n)],
                ['-i', 'eth0', '--save', tmp_path / 'state'], ['-i', 'eth0', '--restore', tmp_path / 'state']]), check=False)
        return f'{served} {runs}'
    out = on_every_cpu(work)
    assert all(max(map(int, text.split())) > 5 for text in out), out
    if commands:
        gw.run(NAT64, *base, '64=4')
    with Translator(gw) as t:
        assert commands or max(counted(t).values()) <= 4
        counted(t)
        time.sleep(2.5)
        assert [bool(speak(t, p, 100 + n)) for p in (7, 8) for n in range(5)] == ([True] * 4 + [False]) * 2
        counted(t)
    gw.loaded.clear()
    gw.nat64('-i', 'eth0', '-u')
