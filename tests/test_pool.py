# SPDX-License-Identifier: GPL-2.0-or-later
"""The pool is full only when every address has a live mapping: what is free, or has expired, is found by the first packet
that needs it, whatever happened to the table before. With --reuse-idle, what has been idle for long enough as well."""

import ipaddress
import json
import os
import random
import time

import pytest

from bpf import Translator
from lab import NAT64
from test_mappings import TEMPLATE, address, consistent, hear, is_expired, lists, on_every_cpu, opened, source, speak
from test_monitor import Listener
from test_static import statics
from test_status import mappings, status


def test_half_of_the_pool_is_static(net):
    """A static prefix that holds half of the addresses: the first packet of the first host passes, and all others."""
    _, gw, _ = net
    with opened(gw, *statics('2001:db8:3::/113=10.0.0.0/17'), v4='10.0.0.0/16') as t:
        given = [speak(t, n) for n in range(300)]
        assert None not in given and len(set(given)) == 300
        assert all(ipaddress.ip_address(v4) >= ipaddress.ip_address('10.0.128.0') for v4 in given)
        assert t.drops() == {}


@pytest.mark.parametrize('loaded', [False, True])
def test_restored_mappings_in_a_row(net, tmp_path, loaded):
    """However many of them: the first packet of the first new host passes."""
    _, gw, _ = net
    rows = [{'v4': f'10.0.1.{n}', 'v6': address(n), 'type': 'dynamic', 'idle': n, 'age': n} for n in range(1, 201)]
    (tmp_path / 'state').write_text(json.dumps({'nat64_mappings': 1, 'mappings': rows}))
    if loaded:
        gw.load()
        gw.nat64('-i', 'eth0', '--restore', tmp_path / 'state')
    else:
        gw.load('--restore', tmp_path / 'state')
    with Translator(gw) as t:
        given = [speak(t, n) for n in range(1000, 1054)]
        assert None not in given and len(set(given)) == 54 and t.drops() == {}
        assert speak(t, 2000) is None
        assert {address(n): f'10.0.1.{n}' for n in range(1, 201)}.items() <= consistent(t).items()
        assert lists(t)[1][:200] == list(range(200, 0, -1))     # the longest silent first


def test_order_of_expiry(net, tmp_path):
    """Restored mappings take their places among those that are there: addresses come free in the order in which their
    hosts were last heard of."""
    _, gw, _ = net
    gw.load('-t', 1000, v4='10.0.1.0/27')
    idle = {n: n * 37 % 1000 for n in range(1, 21)}

    def restore(numbers):
        rows = [{'v4': f'10.0.1.{n}', 'v6': address(n), 'type': 'dynamic', 'idle': idle[n], 'age': 2000} for n in numbers]
        (tmp_path / 'state').write_text(json.dumps({'nat64_mappings': 1, 'mappings': rows}))
        gw.nat64('-i', 'eth0', '--restore', tmp_path / 'state')
    restore(range(1, 21, 2))
    restore(range(2, 21, 2))
    with Translator(gw) as t:
        speak(t, 99)
        assert [idle.get(i, 0) for i in lists(t)[1]] == sorted(idle.values(), reverse=True) + [0]
        consistent(t)


def test_silent_for_longer_than_the_machine_is_up(net, tmp_path):
    """The time of a restored mapping is then below zero in the kernel's ticks; it is refreshed as any other."""
    _, gw, _ = net
    year = 365 * 86400
    row = {'v4': '10.0.1.1', 'v6': address(1), 'type': 'dynamic', 'idle': 5 * year, 'age': 6 * year}
    (tmp_path / 'state').write_text(json.dumps({'nat64_mappings': 1, 'mappings': [row]}))

    def idle():
        rows = json.loads(gw.run(NAT64, '-i', 'eth0', '--mappings', '--json').stdout)['mappings']
        return next(r['idle'] for r in rows if r['v4'] == '10.0.1.1')
    with opened(gw, '-t', 9 * year, '--restore', tmp_path / 'state', v4='10.0.1.0/30') as t:
        assert idle() >= 5 * year
        assert speak(t, 2) == '10.0.1.2' and lists(t)[1] == [1, 2]
        assert speak(t, 1) == '10.0.1.1' and idle() < year
        assert lists(t)[1] == [2, 1]            # it would not be the next to lose its address any more
        assert speak(t, 3) is None
        consistent(t)


def test_no_free_address_is_overlooked(net, tmp_path):
    """Hosts that come, stay and go, deletions, restorations and reconfigurations at random, beside a model of them: as
    long as that has an address which is free, or whose host has been silent for long enough, no host is refused."""
    _, gw, _ = net
    rng = random.Random(9)
    pool = {f'10.0.1.{n}' for n in range(1, 15)}
    static = {}
    gw.load('-t', 1, v4='10.0.1.0/28')
    heard = {}                  # address -> when its host was last heard of
    owner = {}
    served = refused = recycled = 0

    def load():
        gw.run(NAT64, '-i', 'eth0', '-4', '10.0.1.0/28', '-a', 'fc00::/8', '-t', '1',
               *statics(*[f'{v6}={v4}' for v6, v4 in static.items()]))

    def command():
        v4 = rng.choice(sorted(pool))
        kind = rng.randrange(5)
        if kind == 0:
            gw.run(NAT64, '-i', 'eth0', '--delete', v4, check=False)
            if v4 not in static.values():
                heard.pop(v4, None)
        elif kind == 1:
            saved = time.monotonic()
            gw.run(NAT64, '-i', 'eth0', '--save', tmp_path / 'state')
            gw.run(NAT64, '-i', 'eth0', '--flush')
            gw.run(NAT64, '-i', 'eth0', '--restore', tmp_path / 'state')
            for v4, when in heard.items():      # the file has whole seconds
                heard[v4] = time.monotonic() - max(int(saved - when), 0)
        elif kind == 2:
            static[f'2001:db8::{rng.randrange(1, 4)}'] = v4
            for v6 in [v6 for v6 in static if list(static.values()).count(static[v6]) > 1][1:]:
                del static[v6]
            load()
            heard.pop(v4, None)
        elif kind == 3:
            if static:
                released = static.pop(rng.choice(sorted(static)))
                load()
                heard.pop(released, None)       # 2001:db8::/32 is not allowed
        else:
            load()

    end = time.monotonic() + 20
    n_from = 0
    t = Translator(gw)
    while time.monotonic() < end:
        if rng.random() < 0.03:
            t.close()
            command()
            t = Translator(gw)
        if rng.random() < 0.02:
            n_from += 7                         # others take their place
            time.sleep(rng.choice([0, 0, 0.5, 1, 2.5]))
        n = n_from + rng.randrange(20)
        now = time.monotonic()
        # time-out, the second more, its time written once in an eighth of the time-out, and an epoch
        free = [a for a in pool - set(static.values()) if now - heard.get(a, -9) > 1 + 1 + 0.125 + 0.1]
        v4 = speak(t, n)
        if v4 is None:
            refused += 1
            assert not free, f'{address(n)} refused, while {free} were free'
            continue
        served += 1
        recycled += owner.get(v4, n) != n
        owner[v4], heard[v4] = n, time.monotonic()
    assert min(served, refused, recycled) > 20, (served, refused, recycled)
    consistent(t)
    t.close()
    gw.loaded.clear()
    gw.nat64('-i', 'eth0', '-u')


# --reuse-idle

def saved(tmp_path, idle):
    """A file for --restore: host n has 10.0.1.n, and has been silent for idle[n] seconds."""
    rows = [{'v4': f'10.0.1.{n}', 'v6': address(n), 'type': 'dynamic', 'idle': s, 'age': 9000} for n, s in idle.items()]
    (tmp_path / 'state').write_text(json.dumps({'nat64_mappings': 1, 'mappings': rows}))
    return tmp_path / 'state'


IDLE = {1: 500, 2: 2000, 3: 100, 4: 1000, 5: 0}


@pytest.mark.parametrize('later', [False, True])
def test_a_full_pool_ages(net, tmp_path, later):
    """A new host gets an address that is free; if there is none, that of the host which has been silent for the longest,
    if for long enough; if not, none. Also if the option comes while the pool is full."""
    _, gw, _ = net
    gw.load(*[] if later else ['--reuse-idle', 300], '--restore', saved(tmp_path, IDLE), v4='10.0.1.0/29')
    with Translator(gw) as t:
        assert speak(t, 10) == '10.0.1.6'                           # the free one
        assert [hear(t, f'10.0.1.{n}') for n in IDLE] == [address(n) for n in IDLE]
        if later:
            assert speak(t, 11) is None
    if later:
        gw.load('--reuse-idle', 300, v4='10.0.1.0/29')
    (s,) = status(gw)
    assert s['reuse_idle'] == 300 and s['mappings']['expired'] == 0
    with Translator(gw) as t:
        before = t.drops().get('pool-full', 0)
        monitor = Listener(gw, '--monitor', '--json')
        assert [speak(t, n) for n in (11, 12, 13)] == ['10.0.1.2', '10.0.1.4', '10.0.1.1']
        assert speak(t, 14) is None and t.drops() == {'pool-full': before + 1}
        assert [hear(t, f'10.0.1.{n}') for n in range(1, 7)] == [address(n) for n in (13, 11, 3, 12, 5, 10)]
        assert speak(t, 2) is None                                  # who came too late is a new host
        assert [speak(t, n) for n in (3, 5, 10, 11, 12, 13)] == [f'10.0.1.{n}' for n in (3, 5, 6, 2, 4, 1)]
        assert sorted(consistent(t)) == sorted(address(n) for n in (3, 5, 10, 11, 12, 13))
        told = [(e['event'], e.get('v4'), e['v6'], e.get('next')) for e in monitor.stop() if e['event'] != 'pool-exhausted']
    assert told == [e for new, old, v4 in ((11, 2, 2), (12, 4, 4), (13, 1, 1)) for e in (
        ('expired', f'10.0.1.{v4}', address(old), address(new)), ('created', f'10.0.1.{v4}', address(new), None))]


def test_back_before_its_address_is_needed(net, tmp_path):
    """A host that was silent for longer than that, and whose address nobody needed, has it for as long again. Its mapping
    had not expired: nobody is told that it was revived."""
    _, gw, _ = net
    with opened(gw, '--reuse-idle', 300, '--restore', saved(tmp_path, {0: 400, 1: 500}), v4='10.0.1.0/31') as t:
        monitor = Listener(gw, '--monitor', '--json')
        assert not is_expired(t, '10.0.1.1')
        assert speak(t, 1) == '10.0.1.1' and lists(t)[1] == [0, 1]
        assert {m['v4']: m['idle'] // 100 for m in mappings(gw)} == {'10.0.1.0': 4, '10.0.1.1': 0}
        assert speak(t, 10) == '10.0.1.0' and speak(t, 11) is None and speak(t, 1) == '10.0.1.1'
        assert [e['event'] for e in monitor.stop()] == ['expired', 'created', 'pool-exhausted']
        consistent(t)


def test_restored_when_the_option_comes(net, tmp_path):
    """What comes back has its place among those that are there, whose places are from longer epochs: that of the one which has
    been silent for the longest."""
    _, gw, _ = net
    with opened(gw, v4='10.0.1.0/28') as t:
        assert None not in [speak(t, n) for n in range(1, 15)]
    gw.nat64('-i', 'eth0', '--delete', '10.0.1.5')
    gw.load('--reuse-idle', 300, '--restore', saved(tmp_path, {5: 5000}), v4='10.0.1.0/28')
    with Translator(gw) as t:
        assert [speak(t, n) for n in (100, 101)] == ['10.0.1.5', None] and lists(t)[1][-1] == 5


def test_only_what_has_expired_without_the_option(net, tmp_path):
    """Nor with one that is as long as the time-out."""
    _, gw, _ = net
    gw.load('-t', 3000, '--restore', saved(tmp_path, IDLE | {6: 2900}), v4='10.0.1.0/29')
    for argv in [], ['--reuse-idle', 3000]:
        gw.load('-t', 3000, *argv, v4='10.0.1.0/29')
        with Translator(gw) as t:
            assert speak(t, 10) is None and hear(t, '10.0.1.6') == address(6)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='needs two CPUs')
def test_hosts_that_return_while_others_take_their_addresses(net):
    """Hosts that have been silent for long enough speak on one CPU while new ones come on the other, round after round:
    who has been served has its address for as long as it was promised, whatever the other CPU did."""
    _, gw, _ = net
    with opened(gw, '--reuse-idle', 1, v4='10.0.4.0/22') as t:
        crowd = list(range(1, 1023))
        assert None not in [speak(t, n) for n in crowd]
        kept = taken = quick = 0
        for round_ in range(1, 5):
            time.sleep(2.2)
            new = [10000 * round_ + n for n in range(len(crowd))]
            packets = {n: TEMPLATE[:8] + ipaddress.IPv6Address(source(n)).packed + TEMPLATE[24:] for n in crowd + new}
            first, start = min(os.sched_getaffinity(0)), time.monotonic()

            def work(cpu):
                with gw:
                    outs = {n: t.to4.run(t.ETH6 + packets[n], t.ifindex) for n in (crowd if cpu == first else new)}
                return json.dumps({n: str(ipaddress.IPv4Address(out[26:30])) for n, (verdict, out) in outs.items()
                                   if verdict == 0})
            served = [(address(int(n)), v4) for text in on_every_cpu(work) for n, v4 in json.loads(text).items()]
            owners = consistent(t)
            assert set(t.drops()) <= {'pool-full', 'mapping-busy'} and len(owners) == 1022
            if time.monotonic() - start < 1:
                quick += 1
                assert {v6: owners.get(v6) for v6, _ in served} == dict(served), 'who was served has lost its address'
            kept += sum(v6 in owners for v6 in map(address, crowd))
            taken += sum(v6 in owners for v6 in map(address, new))
            crowd = [n for n in crowd + new if address(n) in owners]
        assert min(kept, taken, quick) > 0, (kept, taken, quick)
