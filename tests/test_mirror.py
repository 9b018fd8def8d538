# SPDX-License-Identifier: GPL-2.0-or-later
"""--mirror: a gateway that has the mappings of another one. What becomes of mappings that exclude each other is compared with a
model of a few lines, decide()."""

import ipaddress
import itertools
import json
import os
import random
import re
import signal
import struct
import subprocess
import time

import pytest

from bpf import MAPPING, Translator
from lab import NAT64, standard, wait_for
from test_mappings import address, consistent, hear, speak
from test_monitor import EVENTS, Listener, lease
from test_status import mappings
from test_stream import STREAM, many, table

HOLD = 7440             # -t
HEADER = {'event': 'stream', 'nat64_stream': 1, 'v6_prefix': '64:ff9b::/96', 'v4_prefix': '10.0.1.0/24', 'timeout': 7440}


@pytest.fixture
def two(lab):
    """Two gateways, each with its hosts."""
    return standard(lab)[1], standard(lab)[1]


class Mirror:
    """What one gateway prints, another one reads, through a FIFO."""

    def __init__(self, source, to, tmp_path, *argv, refresh=1):
        self.fifo = tmp_path / f'fifo-{source.ns}-{to.ns}-{time.monotonic_ns()}'
        os.mkfifo(self.fifo)
        with open(os.open(self.fifo, os.O_RDWR), 'wb') as pipe:
            self.monitor = source.start(NAT64, *STREAM, '--refresh', refresh, stdout=pipe, stderr=subprocess.PIPE)
            self.p = to.start(NAT64, '-i', 'eth0', '--mirror', self.fifo, '-v', *argv)
        self.out = ''
        while 'has all mappings' not in self.out:
            line = self.p.stdout.readline()
            assert line, self.out
            self.out += line

    def stop(self):
        """What it said after the stream had ended."""
        self.monitor.send_signal(signal.SIGTERM)
        self.monitor.wait(20)
        out, _ = self.p.communicate(timeout=20)
        assert self.p.returncode == 0, out
        return self.out + out


def write(path, *lines, header=None):
    """A stream with a snapshot of these lines."""
    every = [HEADER | (header or {}), {'event': 'snapshot'}, *lines, {'event': 'complete', 'mappings': 0}]
    path.write_text(''.join(json.dumps({'seq': n} | line) + '\n' for n, line in enumerate(every, 1)))
    return path


def told(v4, v6, idle=0, age=0, event='mapping', **kw):
    return {'event': event, 'v4': v4, 'v6': v6, 'idle': idle, 'age': age} | kw


def hearsay(t):
    """{v6: v4} of the mappings that are only hearsay."""
    return {m.v6: m.v4 for m in t.mappings().values() if m.last_seen & 1}


def test_all_that_happens(two, tmp_path):
    """The snapshot, and then each change: hosts have at one gateway the addresses that the other has given them."""
    a, b = two
    a.load()
    b.load()
    with Translator(a) as ta, Translator(b) as tb:
        given = {speak(ta, n): address(n) for n in range(20)}
        mirror = Mirror(a, b, tmp_path)
        assert table(b) == given and hearsay(tb) == {v6: v4 for v4, v6 in given.items()}
        consistent(tb)
        new = {speak(ta, n): address(n) for n in range(20, 40)}
        wait_for(lambda: table(b) == given | new, 'what is new')
        gone = address(3)
        a.nat64('-i', 'eth0', '--delete', gone)
        wait_for(lambda: gone not in table(b).values(), 'what was removed')
        for v4, v6 in (given | new).items():
            if v6 != gone:
                assert hear(tb, v4) == v6
        assert speak(tb, 5) == next(v4 for v4, v6 in given.items() if v6 == address(5))
        wait_for(lambda: speak(tb, 5) and address(5) not in hearsay(tb), 'a packet that keeps alive')
        a.nat64('-i', 'eth0', '--flush')
        wait_for(lambda: not table(b), 'all gone')
        consistent(tb)
    assert '20 taken over' in mirror.stop()


def test_refreshes_keep_alive(two, tmp_path):
    """A host that goes on sending through one gateway keeps its address at the other, also where that is full; one that does
    not is idle at both. What one has heard of, it does not tell as its own."""
    a, b = two
    a.load('-t', '2', v4='10.0.1.0/31')
    b.load('-t', '2', v4='10.0.1.0/31')
    with Translator(a) as ta, Translator(b) as tb:
        one, two_ = speak(ta, 1), speak(ta, 2)
        ab, ba = Mirror(a, b, tmp_path), Mirror(b, a, tmp_path)
        end = time.monotonic() + 6
        taken = None
        while time.monotonic() < end:
            assert speak(ta, 1) == one
            taken = taken or speak(tb, 3)
            time.sleep(0.02)
        assert taken == two_                                    # that of the host that was silent
        wait_for(lambda: table(a) == table(b) == {one: address(1), two_: address(3)}, 'the same at both')
        assert set(hearsay(tb)) == {address(1)} and set(hearsay(ta)) == {address(3)}
        consistent(ta)
        consistent(tb)
    ab.stop()
    ba.stop()


def test_no_echo(two, tmp_path):
    """Two mirrors of each other do not tell each other the same again and again."""
    a, b = two
    a.load('-s', 'fd00::1=10.0.1.1')
    b.load('-s', 'fd00::1=10.0.1.1')
    log = [Listener(gw, *STREAM, '--refresh', '1') for gw in two]
    ab, ba = Mirror(a, b, tmp_path), Mirror(b, a, tmp_path)
    with Translator(a) as ta, Translator(b) as tb:
        for n in range(30):                     # each gateway has hosts of its own, and both know all addresses
            v4 = speak(ta, n)
            wait_for(lambda v4=v4: v4 in table(b), 'mirrored')
            v4 = speak(tb, 100 + n)
            wait_for(lambda v4=v4: v4 in table(a), 'mirrored')
        assert table(a) == table(b) and len(table(a)) == 60
        end = time.monotonic() + 3              # and one of them refreshes its own
        while time.monotonic() < end:
            for n in range(30):
                speak(ta, n)
            time.sleep(0.05)
    for gw, listener, first in zip(two, log, (0, 100)):
        lines = [line for line in listener.stop() if line['event'] not in ('stream', 'snapshot', 'complete')]
        assert {line['v6'] for line in lines} == {address(first + n) for n in range(30)}, gw.name
        assert len([line for line in lines if line['event'] == 'created']) == 30
        assert len([line for line in lines if line['event'] == 'refresh']) >= (30 if gw is a else 0)
    ab.stop()
    ba.stop()


# --- mappings that exclude each other ---

LOCAL, HEARSAY, OVER = 'local', 'hearsay', 'over'


def decide(table, v4, v6, weak):
    """The model: a table {v4: (v6, kind)} after another gateway has said that v6 has v4; weak: by hearsay, or it is over."""
    def key(v4, v6):
        return (*map(int, v4.split('.')), v6)
    rivals = {a: (h, kind) for a, (h, kind) in table.items() if a == v4 or h == v6}
    if rivals.get(v4, (None,))[0] == v6:
        return table
    for a, (h, kind) in rivals.items():
        if kind != OVER and (weak or (kind == LOCAL and key(a, h) < key(v4, v6))):
            return table
    return {a: owner for a, owner in table.items() if a not in rivals} | {v4: (v6, OVER if weak == OVER else HEARSAY)}


def cases():
    """All that there may be of two addresses and two hosts, in all strengths; and all that may be told of one of the hosts."""
    pairs = [[], ['Ag'], ['Ah'], ['Bg'], ['Bh'], ['Ag', 'Bh'], ['Ah', 'Bg']]
    for pair in pairs:
        for kinds in itertools.product((LOCAL, HEARSAY, OVER), repeat=len(pair)):
            for v4, weak in itertools.product('AB', ('', HEARSAY, OVER)):
                yield {p: kind for p, kind in zip(pair, kinds)}, v4, weak


def test_conflicts(net, tmp_path):
    """All cases at once, each with addresses of its own, against the model."""
    _, gw, _ = net
    header = {'v4_prefix': '10.0.0.0/20'}
    saved, first, second, want, before = [], [], [], {}, {}
    for n, (state, v4, weak) in enumerate(cases()):
        v4s = {k: ipaddress.ip_address(f'10.0.0.{2 + i}') + 2 * n for i, k in enumerate('AB')}
        for order in 'gh', 'hg':                # who has the lower address
            pool = {k: v4 + 2048 * (order == 'hg') for k, v4 in v4s.items()}
            pool = {k: str(v4) for k, v4 in pool.items()}
            hosts = {h: f'fc00:{n + 1:x}:{order == "hg":d}::{order.index(h) + 1}'.replace(':0::', '::') for h in 'gh'}
            there = {pool[pair[0]]: (hosts[pair[1]], kind) for pair, kind in state.items()}
            before |= there
            for a, (h, kind) in there.items():
                if kind == HEARSAY:
                    first.append(told(a, h))
                else:
                    saved.append({'v4': a, 'v6': h, 'type': 'dynamic', 'idle': 5 if kind == LOCAL else HOLD + 10, 'age': HOLD + 20})
            second.append(told(pool[v4], hosts['h'], idle=HOLD + 10 if weak == OVER else 0, age=HOLD + 20,
                               **({'hearsay': True} if weak == HEARSAY else {})))
            want |= decide(there, pool[v4], hosts['h'], weak)
    random.Random(1).shuffle(second)
    (tmp_path / 'saved').write_text(json.dumps({'nat64_mappings': 1, 'mappings': saved}))
    gw.run(NAT64, '-i', 'eth0', '-4', '10.0.0.0/20', '-a', 'fc00::/8', '--restore', tmp_path / 'saved')
    gw.nat64('-i', 'eth0', '--mirror', write(tmp_path / 'first', *first, header=header))
    assert table(gw) == {a: h for a, (h, _) in before.items()}
    log = Listener(gw, '-i', 'eth0', '--monitor', '--json')
    gw.nat64('-i', 'eth0', '--mirror', write(tmp_path / 'second', *second, header=header))
    assert table(gw) == {a: h for a, (h, _) in want.items()}
    # who has lost what this gateway had given is told of
    lost = {(e['v4'], e['v6']) for e in log.stop() if e['event'] == 'removed' and 'by another gateway' in e['reason']}
    assert lost == {(a, h) for a, (h, kind) in before.items() if kind != HEARSAY and want.get(a, (None,))[0] != h}
    with Translator(gw) as t:
        consistent(t)


def test_both_ends_decide_the_same(two, tmp_path):
    """Each of two gateways has made a mapping, and they exclude each other: after each has heard of the other's, both have the
    same, in whatever order they hear."""
    a, b = two
    at = {'a': [], 'b': []}
    for n, (x, y) in enumerate(itertools.permutations(['Ag', 'Ah', 'Bg', 'Bh'], 2)):
        if x[0] != y[0] and x[1] != y[1]:
            continue
        v4 = {'A': f'10.0.1.{2 * n + 2}', 'B': f'10.0.1.{2 * n + 3}'}
        v6 = {'g': f'fc00:{n + 1:x}::1', 'h': f'fc00:{n + 1:x}::2'}
        at['a'].append((v4[x[0]], v6[x[1]]))
        at['b'].append((v4[y[0]], v6[y[1]]))
    for gw, name in (a, 'a'), (b, 'b'):
        rows = [{'v4': v4, 'v6': v6, 'type': 'dynamic', 'idle': 0, 'age': 9} for v4, v6 in at[name]]
        (tmp_path / name).write_text(json.dumps({'nat64_mappings': 1, 'mappings': rows}))
        gw.run(NAT64, '-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '--restore', tmp_path / name)
        assert table(gw) == dict(at[name])
    a.nat64('-i', 'eth0', '--mirror', write(tmp_path / 'to-a', *(told(*m) for m in at['b'])))
    b.nat64('-i', 'eth0', '--mirror', write(tmp_path / 'to-b', *(told(*m) for m in reversed(at['a']))))
    assert table(a) == table(b) and len(table(a)) == len(at['a'])
    for x, y in zip(at['a'], at['b']):
        assert min(x, y, key=lambda m: (int(m[0].split('.')[3]), m[1])) in table(a).items()


def hear_of(gateways, queues, to, message):
    """A gateway reads a line of the other's stream."""
    kind, v4, v6 = message
    there = gateways[to]
    rivals = [(a, h) for a, (h, k) in there.items() if k == LOCAL and (a == v4) != (h == v6)]
    if kind == 'removed':
        gateways[to] = {a: owner for a, owner in there.items() if (a, owner[0]) != (v4, v6)}
        queues[to] += [('kept', a, h) for a, h in rivals]
        return
    new = gateways[to] = decide(there, v4, v6, '')
    queues[to] += [('removed', a, h) for a, h in rivals if new.get(a, (None,))[0] != h]


def test_model_of_interleavings():
    """Every order in which two gateways, which give out the same addresses, make mappings and hear of each other's: when all that
    was told has arrived, both have the same."""
    hosts, addresses = 'ghi', ('10.0.1.1', '10.0.1.2', '10.0.1.3')

    def run(order):
        gateways, queues = [{}, {}], [[], []]
        for step in order:
            if isinstance(step, tuple):         # a host sends something through a gateway
                n, h = step
                mine = [a for a, (owner, _) in gateways[n].items() if owner == h]
                free = [a for a in addresses if a not in gateways[n]]
                if not mine and free:
                    queues[n].append(('created', free[0], h))
                if mine or free:
                    gateways[n][(mine or free)[0]] = (h, LOCAL)
            elif queues[step]:                  # a line of this gateway arrives at the other
                hear_of(gateways, queues, 1 - step, queues[step].pop(0))
        steps = 0
        while queues[0] or queues[1]:
            n = 0 if queues[0] else 1
            hear_of(gateways, queues, 1 - n, queues[n].pop(0))
            steps += 1
            assert steps < 100, f'it goes round and round: {order}'
        a, b = ({v4: h for v4, (h, _) in g.items()} for g in gateways)
        assert a == b and len(set(a.values())) == len(a), (order, a, b)
    steps = [*itertools.product((0, 1), hosts), 0, 1]
    for order in itertools.product(steps, repeat=5):
        run(order)
    draw = random.Random(1)
    for _ in range(50000):
        run([draw.choice(steps) for _ in range(draw.randrange(6, 20))])


# --- what is no stream, or of another gateway ---

def lines(*rows):
    return ''.join(json.dumps(row) + '\n' for row in rows)


ONE = told('10.0.1.7', 'fc00::7')
JUNK = {
    'nothing': ('', 'the stream has ended before all mappings were there'),
    'no JSON': ('hello\n', 'line 1: not a stream of nat64 --monitor --json --snapshot'),
    'binary': ('\0' * 1000 + '\n', 'line 1: not a stream of nat64 --monitor --json --snapshot'),
    'no lines': ('x' * 300000, 'line 1: too long'),
    'a log': (lines({'time': 'now', 'interface': 'eth0', 'event': 'created', 'v4': '10.0.1.7', 'v6': 'fc00::7'}),
              'line 1: not a stream of nat64 --monitor --json --snapshot'),
    'a file of --save': (lines({'nat64_mappings': 1, 'mappings': []}), 'line 1: not a stream of nat64 --monitor --json --snapshot'),
    'no first line': (lines({'seq': 2} | ONE), 'line 1: not a stream of nat64 --monitor --json --snapshot'),
    'version': (lines({'seq': 1} | HEADER | {'nat64_stream': 2}, {'seq': 2} | ONE), 'line 1: a stream of another version of nat64'),
    'NAT64 prefix': (lines({'seq': 1} | HEADER | {'v6_prefix': '2001:db8::/96'}, {'seq': 2} | ONE),
                     'line 1: of another NAT64 prefix than 64:ff9b::/96, which eth0 has'),
    'IPv4 prefix': (lines({'seq': 1} | HEADER | {'v4_prefix': '10.0.0.0/23'}, {'seq': 2} | ONE),
                    'line 1: of another IPv4 prefix than 10.0.1.0/24, which eth0 has'),
    'no IPv4 prefix': (lines({'seq': 1} | HEADER | {'v4_prefix': None}), 'line 1: of another IPv4 prefix than 10.0.1.0/24, which eth0 has'),
    'half a line': (lines({'seq': 1} | HEADER) + '{"seq":2,"eve', 'the stream has ended in the midst of a line'),
    'early end': (lines({'seq': 1} | HEADER), 'the stream has ended before all mappings were there'),
    'a gap': (lines({'seq': 1} | HEADER, {'seq': 3} | ONE), 'line 3 comes after line 1'),
    'IPv4 address': (lines({'seq': 1} | HEADER, {'seq': 2} | ONE | {'v4': '10.0.2.7'}),
                     'line 2: "v4" is not an address of the IPv4 prefix'),
    'broadcast address': (lines({'seq': 1} | HEADER, {'seq': 2} | ONE | {'v4': '10.0.1.255'}), 'line 2: "v4" is not the address of a host'),
    'IPv6 address': (lines({'seq': 1} | HEADER, {'seq': 2} | ONE | {'v6': 'ff02::1'}), 'line 2: "v6" is not the address of a host'),
    'idle': (lines({'seq': 1} | HEADER, {'seq': 2} | ONE | {'idle': -1}), 'line 2: "idle" and "age" are not seconds'),
}


@pytest.fixture(scope='module')
def gateway(module_net):
    module_net[1].load()
    return module_net[1]


@pytest.mark.parametrize('name', JUNK)
def test_junk_changes_nothing(gateway, tmp_path, name):
    text, complaint = JUNK[name]
    (tmp_path / 'stream').write_text(text)
    done = gateway.nat64('-i', 'eth0', '--mirror', tmp_path / 'stream', rc=1)
    assert done.stderr == f'nat64: --mirror: {complaint}\n' and table(gateway) == {}


def test_stdin_and_what_cannot_be_opened(gateway, tmp_path):
    done = gateway.nat64('-i', 'eth0', '--mirror', tmp_path / 'none', rc=1)
    assert done.stderr == f'nat64: --mirror {tmp_path}/none: No such file or directory\n'
    assert gateway.nat64('-i', 'eth0', '--mirror', '-', rc=1).stderr == 'nat64: --mirror: the stream has ended before all mappings were there\n'
    assert gateway.nat64('-i', 'eth0', '--mirror', '-', '--json', rc=2)


def test_what_is_not_understood_is_said(gateway, tmp_path):
    """Kinds of lines that a later version may have; and hosts that the options here do not allow, or which have another."""
    gateway.load('-s', 'fd00::9=10.0.1.9', '-s', '2001:db8:9::/120=203.0.113.0/24')
    done = gateway.nat64('-i', 'eth0', '--mirror', write(
        tmp_path / 'stream', told('10.0.1.7', 'fc00::7', later=True), {'event': 'moved', 'to': 5}, {'event': 'moved'},
        told('10.0.1.8', '2001:db8::8'), told('10.0.1.9', 'fc00::8'), told('10.0.1.10', 'fd00::9'), told('10.0.1.11', '2001:db8:9::1')))
    assert done.stderr == 'nat64: --mirror: line 4: "moved" is not known here, and left out, as all of that kind\n' \
        'nat64: --mirror: 2 lines not known, 4 mappings refused, since the options here are others\n'
    assert table(gateway) == {'10.0.1.7': 'fc00::7'}
    gateway.nat64('-i', 'eth0', '--flush')
    gateway.load()


def test_a_snapshot_mends_what_was_lost(net, tmp_path):
    """What a later snapshot does not have any more goes, if it was only hearsay; what was there before the stream stays."""
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        own = speak(t, 1)
        fifo = tmp_path / 'fifo'
        os.mkfifo(fifo)
        with open(os.open(fifo, os.O_RDWR), 'w', encoding='ascii') as pipe:
            p = gw.start(NAT64, '-i', 'eth0', '--mirror', fifo)
            seq = itertools.count(1)

            def say(*rows):
                pipe.write(lines(*({'seq': next(seq)} | row for row in rows)))
                pipe.flush()
            four = [told(f'10.0.1.{n}', address(n)) for n in (100, 101, 102, 103)]
            say(HEADER, {'event': 'snapshot'}, *four, {'event': 'complete'})
            wait_for(lambda: len(table(gw)) == 5, 'a snapshot')
            # now seen here, too
            wait_for(lambda: speak(t, 102) == '10.0.1.102' and address(102) not in hearsay(t), 'a packet that keeps alive')
            say({'event': 'lost', 'count': 7}, {'event': 'snapshot'}, four[0], told('10.0.1.104', address(104)), {'event': 'complete'})
            want = {own: address(1)} | {f'10.0.1.{n}': address(n) for n in (100, 102, 104)}
            wait_for(lambda: table(gw) == want, 'another one')
            consistent(t)
        p.wait(10)
    assert p.returncode == 0


def test_reconfigurations_of_both(two, tmp_path):
    """The mirror goes on through them; another prefix, or none, ends it."""
    a, b = two
    a.load()
    b.load()
    mirror = Mirror(a, b, tmp_path)
    with Translator(a) as ta:
        given = {speak(ta, 1): address(1)}
        wait_for(lambda: table(b) == given, 'before')
    b.load('-t', '99')
    time.sleep(0.6)                             # so that it has seen that
    a.load('-t', '77')
    with Translator(a) as ta:
        given[speak(ta, 2)] = address(2)
        wait_for(lambda: table(b) == given, 'after')
    with Translator(b) as tb:
        consistent(tb)
    b.unload()
    out, _ = mirror.p.communicate(timeout=20)
    assert mirror.p.returncode == 1 and 'nothing loaded on eth0' in out, out


def test_partition(two, tmp_path):
    """The mirrors stand still while both gateways give out the same addresses, to the same hosts and to others. When they go on, both
    have the same soon, also beside somebody who does not read what he has asked for."""
    a, b = two
    a.load(v4='10.0.0.0/16')
    b.load(v4='10.0.0.0/16')
    mirrors = Mirror(a, b, tmp_path), Mirror(b, a, tmp_path)
    stuck = [Listener(gw, '-i', 'eth0', '--monitor') for gw in two]
    for m in mirrors:
        os.kill(m.p.pid, signal.SIGSTOP)
    with Translator(a) as ta, Translator(b) as tb:
        draw = random.Random(1)
        for a_host, b_host in zip(draw.sample(range(4000), 3000), draw.sample(range(4000), 3000)):
            speak(ta, a_host)
            speak(tb, b_host)
    for m in mirrors:
        os.kill(m.p.pid, signal.SIGCONT)
    wait_for(lambda: table(a) == table(b) and len(table(a)) > 2000, 'the same at both')
    with Translator(a) as ta, Translator(b) as tb:
        assert len(set(consistent(ta).values())) == len(consistent(tb))
        assert lease(ta, EVENTS, 1)[1] and lease(tb, EVENTS, 1)[1] and len(stuck) == 2     # they have lost something
    for m in mirrors:
        m.stop()
