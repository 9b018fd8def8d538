# SPDX-License-Identifier: GPL-2.0-or-later
"""--monitor --json --snapshot: all mappings and each change, without a gap, and who has sent something."""

import json
import os
import threading
import time

import pytest

from bpf import Translator
from lab import NAT64
from test_mappings import address, expire, speak
from test_monitor import EVENTS, Listener, held, lease, since
from test_status import mappings

STREAM = ('-i', 'eth0', '--monitor', '--json', '--snapshot')


def replay(lines):
    """What a reader has in the end: {v4: v6}. Each line is the next one."""
    table = {}
    for n, line in enumerate(lines, 1):
        assert line['seq'] == n
        if line['event'] in ('mapping', 'created', 'revived', 'refresh'):
            table[line['v4']] = line['v6']
        elif line['event'] == 'removed' and table.get(line['v4']) == line['v6']:
            del table[line['v4']]
    return table


def table(gw):
    return {row['v4']: row['v6'] for row in mappings(gw) if row['type'] == 'dynamic'}


def kinds(lines):
    return [line['event'] for line in lines]


def follow(gw, *argv, **kw):
    """A listener that has printed its snapshot, and those lines."""
    m = Listener(gw, *STREAM, *argv, **kw)
    lines = [m.next()]
    while lines[-1]['event'] != 'complete':
        lines.append(m.next())
    return m, lines


def test_snapshot_and_changes(net):
    """The first line says whose they are; then come those that are there, and what happens to them."""
    _, gw, _ = net
    gw.load('-s', 'fd00::9=10.0.1.9', '-t', '1', v4='10.0.1.0/28')
    with Translator(gw) as t:
        one, two = speak(t, 1), speak(t, 2)
        m, lines = follow(gw)
        first = lines[0]
        assert abs(since(first.pop('time')) - time.time()) < 60
        assert first == {'seq': 1, 'event': 'stream', 'nat64_stream': 1, 'interface': 'eth0', 'v6_prefix': '64:ff9b::/96',
                         'v4_prefix': '10.0.1.0/28', 'give_out': None, 'timeout': 1, 'refresh': 60}
        assert lines[1] == {'seq': 2, 'event': 'snapshot'} and lines[-1] == {'seq': 5, 'event': 'complete', 'mappings': 2}
        assert sorted((line['v4'], line['v6'], line['event']) for line in lines[2:4]) == \
               [(one, address(1), 'mapping'), (two, address(2), 'mapping')]
        assert all(0 <= line['idle'] <= 5 and 0 <= line['age'] <= 5 for line in lines[2:4])
        three = speak(t, 3)
        expire(t, one)
        assert speak(t, 1) == one
        gw.nat64('-i', 'eth0', '--delete', address(3))
        rest = m.stop()
    want = [{'event': 'created', 'v4': three, 'v6': address(3)}, {'event': 'revived', 'v4': one, 'v6': address(1)},
            {'event': 'removed', 'v4': three, 'v6': address(3), 'reason': 'deleted'}]
    assert [{key: line[key] for key in w} for line, w in zip(rest, want)] == want and len(rest) == 3
    assert replay(lines + rest) == table(gw)


def test_refreshes(net):
    """Each host that has sent something, once in the time that was asked for, and none that has not."""
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        one, two = speak(t, 1), speak(t, 2)
        m, lines = follow(gw, '--refresh', 1)
        start = time.monotonic()
        while time.monotonic() < start + 3.6:
            assert speak(t, 1) == one
            time.sleep(0.01)
        took = time.monotonic() - start
        rest = m.stop()
    assert 2 <= len(rest) <= took
    assert all((line['event'], line['v4'], line['v6']) == ('refresh', one, address(1)) and line['idle'] <= 1 for line in rest)
    assert replay(lines + rest) == {one: address(1), two: address(2)}


def many(path, n):
    """A file for --restore: fc00::1, fc00::2 and so on, with addresses from 10.0.0.1 on."""
    rows = [{'v4': f'10.{i >> 16}.{i >> 8 & 255}.{i & 255}', 'v6': f'fc00::{i >> 16:x}:{i & 0xffff:x}', 'type': 'dynamic', 'idle': 1,
             'age': 1} for i in range(1, n + 1)]
    path.write_text(json.dumps({'nat64_mappings': 1, 'mappings': rows}))
    return path


def test_nothing_is_missed(net, tmp_path):
    """Hosts come and go on all CPUs while the snapshot is printed: who reads it has the table in the end."""
    _, gw, _ = net
    gw.load('--restore', many(tmp_path / 'saved', 20000), v4='10.0.0.0/16')
    stop = threading.Event()

    def make(cpu):
        os.sched_setaffinity(0, {cpu})
        n = (cpu + 1) << 20
        with Translator(gw) as t:
            while not stop.is_set():
                speak(t, n)
                n += 1
    cpus = sorted(os.sched_getaffinity(0))[:2]
    makers = [threading.Thread(target=make, args=(cpu,)) for cpu in cpus]
    for maker in makers:
        maker.start()
    try:
        m, lines = follow(gw)
        for n in range(1, 20):
            gw.run(NAT64, '-i', 'eth0', '--delete', f'fc00::{n:x}')
    finally:
        stop.set()
        for maker in makers:
            maker.join()
    lines += m.stop()
    assert 'lost' not in kinds(lines) and 'created' in kinds(lines)[:kinds(lines).index('complete')]
    assert replay(lines) == table(gw)
    assert kinds(lines).count('removed') == 19


def test_lost_events_are_mended(net, tmp_path):
    """A reader that stands still for so long that events are lost is told so, and of all mappings again."""
    _, gw, _ = net
    gw.load('--restore', many(tmp_path / 'saved', 50000), v4='10.0.0.0/16')
    m, lines = follow(gw)
    gw.run(NAT64, '-i', 'eth0', '--flush')              # tells of more than there is room for
    with Translator(gw) as t:
        assert lease(t, EVENTS)[1] > 0
        given = {speak(t, n): address(n) for n in range(5)}
    while lines[-1]['event'] != 'lost':
        lines.append(m.next())
    while lines[-1]['event'] != 'complete':
        lines.append(m.next())
    lines += m.stop()
    n = kinds(lines).index('lost')
    assert lines[n]['count'] >= 1 and kinds(lines[n:]).count('mapping') >= 5
    assert table(gw) == given
    # in the last snapshot that is complete, or told of since
    end = max(n for n, kind in enumerate(kinds(lines)) if kind == 'complete')
    n = max(n for n, kind in enumerate(kinds(lines[:end])) if kind == 'snapshot')
    assert {line['v4']: line['v6'] for line in lines[n:] if line['event'] in ('mapping', 'created')} == given


def test_reconfiguration(net):
    """Begins again, with what the options are now; and the lines go on to be counted."""
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        one = speak(t, 1)
    m, lines = follow(gw)
    gw.load('-t', '99')
    for _ in range(4):
        lines.append(m.next())
    gw.load('-t', '99', v4='10.0.0.0/23')           # maps of their own
    for _ in range(4):
        lines.append(m.next())
    gw.unload()
    rest = m.end(1, 'nat64: eth0: unloaded\n')
    first = [line for line in lines if line['event'] == 'stream']
    assert [(line['timeout'], line['v4_prefix']) for line in first] == \
           [(7440, '10.0.1.0/24'), (99, '10.0.1.0/24'), (99, '10.0.0.0/23')]
    assert kinds(rest) == ['unloaded'] and replay(lines + rest) == {one: address(1)}


def test_two_readers(nat):
    """An operator's log and a stream, or two streams, at the same time."""
    _, gw, _ = nat
    log = Listener(gw, '-i', 'eth0', '--monitor', '--json')
    (a, lines_a), (b, lines_b) = follow(gw), follow(gw)
    with Translator(gw) as t:
        assert held(t, EVENTS) == 3
        one = speak(t, 1)
    assert [e['v4'] for e in log.stop()] == [one]
    assert replay(lines_a + a.stop()) == replay(lines_b + b.stop()) == {one: address(1)}


@pytest.mark.parametrize('argv, complaint', [
    (('-i', 'eth0', '--monitor', '--snapshot'), '--snapshot: only with --monitor --json'),
    (('-i', 'eth0', '--mappings', '--json', '--snapshot'), '--snapshot: only with --monitor --json'),
    (('--monitor', '--json', '--snapshot'), '--snapshot: of which interface? (-i)'),
    (('-i', 'eth0', '--monitor', '--json', '--refresh', '5'), '--refresh: only with --snapshot'),
    ((*STREAM, '--refresh', '0'), '--refresh 0: must be 1 to 315360000'),
])
def test_usage(nat, argv, complaint):
    _, gw, _ = nat
    assert gw.nat64(*argv, rc=2).stderr == f'nat64: {complaint}\n'
