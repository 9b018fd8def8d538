# SPDX-License-Identifier: GPL-2.0-or-later
"""--give-out: a gateway gives new hosts only a part of the addresses that it translates; the others are another gateway's."""

import ipaddress
import json
import threading
import time

import pytest

from bpf import Translator
from lab import NAT64, wait_for
from test_mappings import address, consistent, hear, lists, speak
from test_mirror import told, two, write        # pylint: disable=unused-import
from test_status import status
from test_stream import table


def within(v4, prefix):
    return ipaddress.ip_address(v4) in ipaddress.ip_network(prefix)


def test_only_these_and_all_are_translated(net, tmp_path):
    """A quarter of the prefix, and hosts that another gateway has given others."""
    _, gw, _ = net
    gw.load('--give-out', '10.0.1.64/26')
    header = {'give_out': '10.0.1.128/25'}
    gw.nat64('-i', 'eth0', '--mirror', write(tmp_path / 's', told('10.0.1.200', address(200)), told('10.0.1.65', address(65)),
                                             header=header))
    with Translator(gw) as t:
        given = [speak(t, n) for n in range(1, 64)]
        assert set(given) == {f'10.0.1.{n}' for n in range(64, 128)} - {'10.0.1.65'}
        assert speak(t, 100) is None and t.drops() == {'pool-full': 1}
        for v4, n in ('10.0.1.200', 200), ('10.0.1.65', 65):
            assert speak(t, n) == v4 and hear(t, v4) == address(n)
        consistent(t, '10.0.1.64/26')
    (seen,) = status(gw)
    assert seen['give_out'] == '10.0.1.64/26' and seen['mappings']['live'] == 65 and seen['mappings']['free'] == 0
    assert '  gives out         10.0.1.64/26\n' in gw.nat64('--status').stdout
    gw.nat64('-i', 'eth0', '--flush')
    with Translator(gw) as t:
        assert len(lists(t, '10.0.1.64/26')[0]) == 64
    assert status(gw)[0]['mappings'] == {'live': 0, 'expired': 0, 'static': 0, 'free': 64, 'addresses': 64}


def test_the_others_are_not_reused(net, tmp_path):
    """However long they are idle: the gateway that gives them out knows better."""
    _, gw, _ = net
    gw.load('--give-out', '10.0.1.0/30', '-t', '1', v4='10.0.1.0/29')
    gw.nat64('-i', 'eth0', '--mirror', write(tmp_path / 's', told('10.0.1.5', address(5), idle=9000, age=9000),
                                             header={'v4_prefix': '10.0.1.0/29'}))
    with Translator(gw) as t:
        one = {speak(t, n) for n in range(1, 4)}
        assert one == {'10.0.1.1', '10.0.1.2', '10.0.1.3'}
        got = wait_for(lambda: speak(t, 9), 'an address that is free again', 10)
        assert got in one and hear(t, '10.0.1.5') == address(5)
        for n in range(20, 40):
            assert speak(t, n) in one | {None}
        consistent(t, '10.0.1.0/30')


def test_the_other_gateway_has_died(net, tmp_path):
    """It takes over while packets flow: nobody loses an address, free ones are given out, and of those in use the first to go is
    that of the host which was silent for the longest. And back."""
    _, gw, _ = net
    mine, all_ = '10.0.1.0/25', '10.0.1.0/24'
    gw.load('--give-out', mine, '-t', '5000')
    silent = {n: 1000 + 37 * (n * 71 % 100) for n in range(128, 228)}       # in no order
    gw.nat64('-i', 'eth0', '--mirror', write(tmp_path / 's', *(
        told(f'10.0.1.{n}', f'fc00:5::{n:x}', idle=idle, age=9000) for n, idle in silent.items()), header={'give_out': '10.0.1.128/25'}))
    stop, wrong = threading.Event(), []
    with Translator(gw) as t:
        given = {n: speak(t, n) for n in range(1, 60)}
        before = table(gw)

        def talk():
            while not stop.is_set():
                wrong.extend(n for n, v4 in given.items() if speak(t, n) != v4)
        talker = threading.Thread(target=talk)
        talker.start()
        try:
            gw.load('-t', '5000')
            assert table(gw) == before
            consistent(t)
            gw.load('-t', '5000', '--give-out', mine)
            consistent(t, mine)
            gw.load('-t', '5000')
        finally:
            stop.set()
            talker.join()
        assert wrong == [] and table(gw) == before
        used = lists(t)[1]
        theirs = [i for i in used if i >= 128]
        assert theirs == sorted(silent, key=lambda n: -silent[n])
        free = len(lists(t)[0])
        new = [speak(t, 1000 + n) for n in range(free)]
        assert None not in new and any(within(v4, '10.0.1.128/25') for v4 in new)
        assert speak(t, 5000) is None
    # all are in use: now 2000 s are enough, and the oldest goes first
    gw.load('-t', '5000', '--reuse-idle', '2000')
    oldest = sorted(silent, key=lambda n: -silent[n])
    with Translator(gw) as t:
        assert [speak(t, 6000 + n) for n in range(5)] == [f'10.0.1.{n}' for n in oldest[:5]]
        consistent(t)
    assert all_


def test_mirrored_while_the_prefix_is_shared(two, tmp_path):
    """Two halves: each gateway gives out its own, whichever a host speaks to first; both translate both."""
    low, high = two
    low.load('--give-out', '10.0.1.0/25')
    high.load('--give-out', '10.0.1.128/25')
    from test_mirror import Mirror
    mirrors = Mirror(low, high, tmp_path), Mirror(high, low, tmp_path)
    with Translator(low) as a, Translator(high) as b:
        for n in range(40):
            assert within(speak(a, n), '10.0.1.0/25') and within(speak(b, 100 + n), '10.0.1.128/25')
        wait_for(lambda: len(table(low)) == 80 and table(low) == table(high), 'the same at both')
        for n in range(40):
            assert speak(a, 100 + n) == speak(b, 100 + n) and speak(a, n) == speak(b, n)
        # a host whose first packets come to both, before they hear of each other
        one = speak(a, 500), speak(b, 500)
        wait_for(lambda: table(low) == table(high), 'the same at both')
        assert speak(a, 500) == speak(b, 500) == min(one, key=ipaddress.ip_address)
        consistent(a, '10.0.1.0/25')
        consistent(b, '10.0.1.128/25')
    for m in mirrors:
        m.stop()


def test_restore_static_and_other_prefix(net, tmp_path):
    """What was saved comes back wherever it is; static ones are of no list; another prefix keeps what fits."""
    _, gw, _ = net
    rows = [{'v4': f'10.0.1.{n}', 'v6': f'fc00::{n:x}', 'type': 'dynamic', 'idle': n, 'age': 999} for n in (1, 2, 200, 201)]
    (tmp_path / 'saved').write_text(json.dumps({'nat64_mappings': 1, 'mappings': rows}))
    gw.load('--give-out', '10.0.1.0/25', '-s', 'fd00::9=10.0.1.9', '-s', 'fd00::a=10.0.1.210', '--restore', tmp_path / 'saved')
    with Translator(gw) as t:
        assert set(consistent(t, '10.0.1.0/25').values()) >= {row['v4'] for row in rows}
    gw.load('--give-out', '10.0.1.0/25', v4='10.0.0.0/23')
    with Translator(gw) as t:
        assert set(consistent(t, '10.0.1.0/25').values()) == {row['v4'] for row in rows}
    gw.nat64('-i', 'eth0', '--flush')
    gw.nat64('-i', 'eth0', '--restore', tmp_path / 'saved')
    with Translator(gw) as t:
        assert set(consistent(t, '10.0.1.0/25').values()) == {row['v4'] for row in rows}
        assert {speak(t, n) for n in range(300, 310)} < {f'10.0.1.{n}' for n in range(128)}


def test_per_prefix(net, tmp_path):
    """A host of a full prefix gets no address of the other gateway, however long that is idle."""
    _, gw, _ = net
    gw.load('--give-out', '10.0.1.0/25', '--per-prefix', '64=2', '-t', '1')
    gw.nat64('-i', 'eth0', '--mirror', write(tmp_path / 's', told('10.0.1.200', address(1), idle=9000, age=9000)))
    with Translator(gw) as t:
        mine = speak(t, 2)
        assert within(mine, '10.0.1.0/25')
        time.sleep(0.3)
        got = {speak(t, n) for n in range(10, 30)}
        assert got == {None}
        assert wait_for(lambda: speak(t, 3), 'the one of this gateway', 10) == mine
        consistent(t, '10.0.1.0/25')


@pytest.mark.parametrize('argv, complaint', [
    (('--give-out', '10.0.2.0/25'), '--give-out 10.0.2.0/25: does not lie within the IPv4 prefix 10.0.1.0/24'),
    (('--give-out', '10.0.0.0/23'), '--give-out 10.0.0.0/23: does not lie within the IPv4 prefix 10.0.1.0/24'),
    (('--give-out', '10.0.1.1/25'), '--give-out 10.0.1.1/25: not a network address (did you mean 10.0.1.0/25?)'),
    (('--give-out', '10.0.1.0'), None),
    (('--give-out', '10.0.1.255/32'), '--give-out 10.0.1.255: is not the address of a host'),
    (('--give-out', '0.0.0.0/0'), '--give-out 0.0.0.0/0: prefix length must be 8 to 32'),
])
def test_usage(net, argv, complaint):
    _, gw, _ = net
    done = gw.nat64('-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', *argv, rc=2)
    assert complaint is None or done.stderr == f'nat64: {complaint}\n'


def test_usage_without_a_pool(net):
    _, gw, _ = net
    assert gw.nat64('-i', 'eth0', '-s', '2001:db8::/120=203.0.113.0/24', '--give-out', '203.0.113.0/25', rc=2).stderr == \
        'nat64: --give-out 203.0.113.0/25: there are no IPv4 addresses to give out (-4)\n'
    assert NAT64
