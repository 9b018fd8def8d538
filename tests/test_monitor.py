# SPDX-License-Identifier: GPL-2.0-or-later
"""--monitor and --trace: every event and packet against what was sent, the filter, the lease, and what ends them."""

import contextlib
import datetime
import ipaddress
import json
import mmap
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import time

import pytest
from scapy.all import (ICMP, IP, TCP, UDP, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6TimeExceeded, ICMPv6Unknown, IPOption_LSRR, IPv6,
                       IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrRouting, Raw, raw)

from bpf import KERNEL, Map, Translator
from lab import NAT64, Crossing, embed, wait_for
from test_cli import binary                # pylint: disable=unused-import
from test_mappings import address, expire, hear, speak

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
EVENTS, PACKETS = 0, 1
LISTENERS = 4                           # of each kind
LEASE = struct.Struct('=QQ')            # struct nat64_lease
RING_BYTES = 256 << 10
RECORD = 256 + 8                        # struct nat64_trace, and the header of a record in the ring
SERVER = '198.51.100.1'


def lease(t, ring, place=0):
    """(until, lost)"""
    return LEASE.unpack_from(t.maps['listen'].lookup(bytes(4)), LEASE.size * (2 + LISTENERS * ring + place))


def ear(t, ring):
    """(until, over)"""
    return LEASE.unpack_from(t.maps['listen'].lookup(bytes(4)), LEASE.size * ring)


def held(t, ring):
    """How many leases there are that have not run out."""
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return sum(lease(t, ring, place)[0] > now for place in range(LISTENERS))


def heard(t, ring):
    """Do packets know of all that listen, and have they rings?"""
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    until = {place: lease(t, ring, place)[0] for place in range(LISTENERS)}
    return ear(t, ring)[0] >= max(until.values()) and all(written(t, ring, place) is not None for place in until
                                                          if until[place] > now)


def written(t, ring, place=0):
    """How many bytes were ever written to the ring of a listener, the producer's position; None: there is no ring."""
    ident = t.maps[('events', 'packets')[ring]].lookup(struct.pack('=I', place))
    if not ident:
        return None
    inner = Map(struct.unpack('=I', ident)[0])
    try:
        with mmap.mmap(inner.fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE) as m:
            return struct.unpack_from('=Q', m)[0]
    finally:
        inner.close()


class Listener:
    """nat64 --monitor or --trace on a host; listens when it is there. What is not answered in time is of interest only if
    that is said."""

    def __init__(self, gw, *argv, ifname='eth0', via=(), stdout=subprocess.PIPE, unanswered=False):
        self.unanswered = unanswered
        self.gw, self.ring = gw, EVENTS if '--monitor' in argv else PACKETS
        self.json = '--json' in argv
        self.buffer = b''
        with contextlib.ExitStack() as stack:
            t = stack.enter_context(Translator(gw, ifname)) if ifname else None
            before = held(t, self.ring) if t else 0
            self.p = gw.start(*via, NAT64, *argv, stdout=stdout, stderr=subprocess.PIPE, text=False, bufsize=0)
            if t:
                wait_for(lambda: (held(t, self.ring) > before and heard(t, self.ring)) or self.p.poll() is not None,
                         'a listener')
        assert self.p.poll() is None, self.p.stderr.read()

    def lines(self, out):
        return [json.loads(line) if self.json else line for line in out.decode().splitlines()
                if self.unanswered or 'no-answer' not in line]

    def next(self, timeout=20):
        """The next line."""
        found = []
        while not found:
            while b'\n' not in self.buffer:
                assert select.select([self.p.stdout], [], [], timeout)[0], 'no line in time'
                more = os.read(self.p.stdout.fileno(), 1 << 16)
                assert more, 'it has ended'
                self.buffer += more
            line, self.buffer = self.buffer.split(b'\n', 1)
            found = self.lines(line)
        return found[0]

    def end(self, rc=0, err=''):
        """What it has printed until it ended by itself."""
        out, stderr = self.p.communicate(timeout=30)
        assert (self.p.returncode, stderr.decode()) == (rc, err)
        return self.lines(self.buffer + (out or b''))

    def stop(self, sig=signal.SIGTERM):
        """What it has printed until it was stopped."""
        self.p.send_signal(sig)
        return self.end()


def since(text):
    """Seconds since 1970 of a time as it is printed."""
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d', text), text
    return datetime.datetime.fromisoformat(text).timestamp()


def timeless(events):
    """Without the times, which are checked."""
    times = [since(e.pop('time')) for e in events]
    assert times == sorted(times) and abs(times[-1] - time.time()) < 60 if times else True
    for e in events:
        assert e.pop('interface') == 'eth0'
        if 'last_seen' in e:
            e['last_seen'] = since(e['last_seen'])
    return events


def created(v4, n, kind='dynamic'):
    return {'event': 'created', 'v4': v4, 'v6': address(n) if isinstance(n, int) else n, 'type': kind}


def removed(v4, v6, reason):
    return {'event': 'removed', 'v4': v4, 'v6': v6, 'reason': reason}


def test_monitor_in_json(net):
    """A pool of two: each host's address, from when to when."""
    _, gw, _ = net
    gw.load('-t', '1', v4='10.0.1.0/31')
    m = Listener(gw, '-i', 'eth0', '--monitor', '--json')
    with Translator(gw) as t:
        start = time.time()
        one, two = speak(t, 1), speak(t, 2)
        spoke = time.time()
        assert speak(t, 1) == one and speak(t, 3) is None and speak(t, 4) is None
        expire(t, one)
        assert speak(t, 1) == one                       # revived
        assert speak(t, 1) == one
        three = wait_for(lambda: speak(t, 3), 'an address that is free')
    events = m.stop()
    times = [since(e['time']) for e in events]
    events = timeless(events)
    seen = [e.pop('last_seen') for e in events if 'last_seen' in e]
    assert start - 0.01 <= times[0] <= times[1] <= spoke + 0.01
    kinds = [e for e in events if e['event'] != 'pool-exhausted']
    assert kinds == [created(one, 1), created(two, 2), {'event': 'revived', 'v4': one, 'v6': address(1)},
                     {'event': 'expired', 'v4': three, 'v6': address(2) if three == two else address(1), 'next': address(3)},
                     created(three, 3)]
    # last seen when the host spoke, not when its address was lost; and that long ago
    assert start - 0.01 <= seen[0] <= spoke + 0.01 and len(seen) == 2
    assert all(times[events.index(e)] > 1 + s for e, s in zip([e for e in events if e['event'] in ('revived', 'expired')], seen))
    full = [e for e in events if e['event'] == 'pool-exhausted']
    assert full[0] == {'event': 'pool-exhausted', 'v6': address(3)} and events[2] == full[0]
    assert all(e['v6'] == address(3) for e in full)     # the second one, a moment later, is not told


def test_monitor_in_text(net):
    _, gw, _ = net
    gw.load('-t', '1', v4='10.0.1.0/31')
    m = Listener(gw, '--monitor')
    with Translator(gw) as t:
        one = speak(t, 1)
        first = m.next()
        expire(t, one)
        speak(t, 1)
        speak(t, 2)
        assert speak(t, 3) is None
        wait_for(lambda: speak(t, 3), 'an address that is free')
    text = [first, *m.stop()]
    iso = r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d'
    a, b, c = (re.escape(address(n)) for n in (1, 2, 3))
    v4 = r'10\.0\.1\.[01]'
    want = [rf'created {re.escape(one)} {a}', rf'revived {re.escape(one)} {a}, last seen {iso}', rf'created {v4} {b}',
            rf'pool-exhausted {c}', rf'expired {v4} ({a}|{b}), last seen {iso}, now {c}', rf'created {v4} {c}']
    lines = [line for n, line in enumerate(text) if 'pool-exhausted' not in line or n == 3]
    assert len(lines) == len(want)
    for line, pattern in zip(lines, want):
        assert re.fullmatch(rf'{iso} eth0 {pattern}', line), line


def test_exhausted_is_told_once_a_second(net):
    """However often it happens."""
    _, gw, _ = net
    gw.load(v4='10.0.1.0/31')
    m = Listener(gw, '--monitor', '--json')
    with Translator(gw) as t:
        start, n = time.monotonic(), 0
        while time.monotonic() - start < 3.5:
            assert speak(t, 1) and speak(t, 2) and speak(t, 3) is None
            gw.run(NAT64, '-i', 'eth0', '--flush')
            n += 1
        took = time.monotonic() - start
    full = [since(e['time']) for e in m.stop() if e['event'] == 'pool-exhausted']
    assert n > 2 * took and 1 <= len(full) <= took + 1
    assert all(b - a > 0.99 for a, b in zip(full, full[1:]))


def test_real_traffic(nat):
    """As a user sees it: ping, with both listeners there at the same time."""
    h6, gw, _ = nat
    m, t = Listener(gw, '--monitor', '--json'), Listener(gw, '--trace', 'fc00:6::6', '--json')
    h6.run('ping', '-c', 2, '-i', '0.01', embed('192.0.2.2'))
    assert timeless(m.stop()) == [created('10.0.1.1', 'fc00:6::6')]
    out = timeless(t.stop(signal.SIGINT))
    host = {'v4': '10.0.1.1', 'v6': 'fc00:6::6'}
    ask6 = {'src': 'fc00:6::6', 'dst': '64:ff9b::c000:202', 'protocol': 'icmp6', 'icmp_type': 128, 'icmp_code': 0, 'length': 104}
    ask4 = {'src': '10.0.1.1', 'dst': '192.0.2.2', 'protocol': 'icmp', 'icmp_type': 8, 'icmp_code': 0, 'length': 84}
    back4 = {'src': '192.0.2.2', 'dst': '10.0.1.1', 'protocol': 'icmp', 'icmp_type': 0, 'icmp_code': 0, 'length': 84}
    back6 = {'src': '64:ff9b::c000:202', 'dst': 'fc00:6::6', 'protocol': 'icmp6', 'icmp_type': 129, 'icmp_code': 0, 'length': 104}
    assert out == 2 * [
        {'direction': '6to4', 'in': ask6, 'verdict': 'translated', 'reason': None, 'host': host, 'out': ask4},
        {'direction': '4to6', 'in': back4, 'verdict': 'translated', 'reason': None, 'host': host, 'out': back6}]


# --- what commands do to mappings ---

def test_delete_and_flush(nat):
    _, gw, _ = nat
    m = Listener(gw, '--monitor', '--json')
    with Translator(gw) as t:
        v4 = [speak(t, n) for n in range(4)]
    gw.nat64('-i', 'eth0', '--delete', address(1))
    gw.nat64('-i', 'eth0', '--delete', v4[2])
    gw.nat64('-i', 'eth0', '--flush')
    events = timeless(m.stop())
    assert events == [created(a, n) for n, a in enumerate(v4)] + [removed(v4[n], address(n), 'deleted') for n in (1, 2, 0, 3)]


def test_reconfiguration(net):
    """What stays is not told of; a mapping that an option takes away is, with the reason; and the listener goes on."""
    _, gw, _ = net
    wide = ['fc00::/8', 'fd00::/8']
    gw.load(allow=wide)
    m = Listener(gw, '--monitor', '--json')
    with Translator(gw) as t:
        stays, goes = speak(t, 1), speak(t, 2)
    gw.load('-t', 100, allow=wide)
    assert m.p.poll() is None
    gw.load('-s', f'fd00::5={goes}', allow=wide)            # takes the address of a dynamic mapping
    gw.load(allow=wide)                                     # becomes dynamic
    gw.load()                                               # is not allowed any more
    assert timeless(m.stop()) == [
        created(stays, 1), created(goes, 2), removed(goes, address(2), 'its address has a static mapping'),
        created(goes, 'fd00::5', 'static'), removed(goes, 'fd00::5', 'the host is not allowed')]


def test_other_pool(net):
    """Maps of their own: what is copied is not told of, what is not is removed."""
    _, gw, _ = net
    gw.load('-s', 'fd00::9=10.0.1.9', v4='10.0.1.0/28')
    m = Listener(gw, '--monitor', '--json')
    with Translator(gw) as t:
        v4 = [speak(t, n) for n in range(10)]
    assert len(set(v4)) == 10 and '10.0.1.9' not in v4
    gw.load('-s', 'fd00::9=10.0.1.9', v4='10.0.1.0/29')     # half of it; the static one is outside now, and still there
    gone = [(a, n) for n, a in enumerate(v4) if int(a.split('.')[3]) > 6]
    assert len(gone) == 4
    gw.load('-s', 'fd00::7=10.0.1.200', v4='10.0.1.0/24')
    with Translator(gw) as t:
        last = speak(t, 50)
    events = timeless(m.stop())
    first = events[:10 + len(gone)]
    assert first[:10] == [created(a, n) for n, a in enumerate(v4)]
    for e, (a, n) in zip(first[10:], sorted(gone, key=lambda g: ipaddress.ip_address(g[0]))):
        assert e.pop('reason') in ('its address is not in the IPv4 prefix', 'its address is not given out')
        assert e == {'event': 'removed', 'v4': a, 'v6': address(n)}
    assert events[10 + len(gone):] == [created('10.0.1.200', 'fd00::7', 'static'), created(last, 50)]


def test_restore(nat, tmp_path):
    _, gw, _ = nat
    with Translator(gw) as t:
        v4 = {speak(t, n): n for n in range(3)}
    gw.nat64('-i', 'eth0', '--save', tmp_path / 'saved')
    gw.nat64('-i', 'eth0', '--flush')
    m = Listener(gw, '--monitor', '--json')
    gw.nat64('-i', 'eth0', '--restore', tmp_path / 'saved')
    assert timeless(m.stop()) == [created(a, n) for a, n in v4.items()]


def test_flush_of_more_than_the_ring_holds(net):
    """The command waits for the reader: nothing is lost."""
    _, gw, _ = net
    gw.load(v4='10.0.0.0/18')
    with Translator(gw) as t:
        for n in range(8000):
            speak(t, n)
    m = Listener(gw, '--monitor', '--json', stdout=subprocess.DEVNULL)
    gw.nat64('-i', 'eth0', '--flush')
    with Translator(gw) as t:
        assert lease(t, EVENTS)[1] == 0 and written(t, EVENTS) >= 8000 * 136 > 4 * RING_BYTES
    m.stop()


# --- single packets ---

def v6(*layers, src='fc00:66::1', dst=embed(SERVER), **kw):
    p = IPv6(src=src, dst=dst, hlim=64, **kw)
    for layer in layers:
        p = p / layer
    return p


def v4(*layers, src=SERVER, dst=None, **kw):
    p = IP(src=src, dst=dst or 'HOST', ttl=64, **kw) if dst else IP(src=src, ttl=64, **kw)
    for layer in layers:
        p = p / layer
    return p


HOST6, PEER6 = 'fc00:66::1', '64:ff9b::c633:6401'
QUOTED = IPv6(src=embed(SERVER), dst=HOST6) / UDP(sport=53, dport=1000) / b'quoted'

# name -> (packet, {of "in"}, verdict, reason, {of "out"} or None). 6→4: from HOST6 to PEER6, its address in the pool is
# A (10.0.1.1); 4→6 the other way. Addresses and directions are filled in by the test.
PACKETS_SENT = {
    'udp 6→4': (v6(UDP(sport=1000, dport=53) / b'12345'), {'protocol': 'udp', 'src_port': 1000, 'dst_port': 53, 'length': 53},
                'translated', None, {'protocol': 'udp', 'src_port': 1000, 'dst_port': 53, 'length': 33}),
    'tcp 4→6': (v4(TCP(sport=80, dport=40000, flags='SA')),
                {'protocol': 'tcp', 'src_port': 80, 'dst_port': 40000, 'tcp_flags': 'S.', 'length': 40}, 'translated', None,
                {'protocol': 'tcp', 'src_port': 80, 'dst_port': 40000, 'tcp_flags': 'S.', 'length': 60}),
    'tcp 6→4': (v6(TCP(sport=80, dport=4, flags='FRPUEC')),
                {'protocol': 'tcp', 'src_port': 80, 'dst_port': 4, 'tcp_flags': 'FRPUEW', 'length': 60}, 'translated', None,
                {'protocol': 'tcp', 'src_port': 80, 'dst_port': 4, 'tcp_flags': 'FRPUEW', 'length': 40}),
    'no flags 6→4': (v6(TCP(sport=80, dport=5, flags=0)),
                     {'protocol': 'tcp', 'src_port': 80, 'dst_port': 5, 'tcp_flags': 'none', 'length': 60}, 'translated', None,
                     {'protocol': 'tcp', 'src_port': 80, 'dst_port': 5, 'tcp_flags': 'none', 'length': 40}),
    'echo 4→6': (v4(ICMP(type=8, id=7) / b'hi'), {'protocol': 'icmp', 'icmp_type': 8, 'icmp_code': 0, 'length': 30},
                 'translated', None, {'protocol': 'icmp6', 'icmp_type': 128, 'icmp_code': 0, 'length': 50}),
    'gre 6→4': (v6(Raw(b'\0' * 8), nh=47), {'protocol': 'gre', 'length': 48}, 'translated', None, {'protocol': 'gre', 'length': 28}),
    'no name 6→4': (v6(Raw(b'\0' * 8), nh=200), {'protocol': '200', 'length': 48}, 'translated', None,
                    {'protocol': '200', 'length': 28}),
    'options 6→4': (v6(IPv6ExtHdrDestOpt(), UDP(sport=5, dport=6) / b'x'),
                    {'protocol': 'udp', 'src_port': 5, 'dst_port': 6, 'length': 57},
                    'translated', None, {'protocol': 'udp', 'src_port': 5, 'dst_port': 6, 'length': 29}),
    'first fragment 6→4': (v6(IPv6ExtHdrFragment(id=77, m=1, nh=17), Raw(raw(UDP(sport=5, dport=6, len=24, chksum=9) / bytes(8)))),
                           {'protocol': 'udp', 'src_port': 5, 'dst_port': 6, 'length': 64,
                            'fragment': {'id': 77, 'offset': 0, 'more': True}}, 'translated', None,
                           {'protocol': 'udp', 'src_port': 5, 'dst_port': 6, 'length': 36,
                            'fragment': {'id': 77, 'offset': 0, 'more': True}}),
    'last fragment 4→6': (v4(Raw(bytes(20)), proto=17, id=99, frag=10),
                          {'protocol': 'udp', 'length': 40, 'fragment': {'id': 99, 'offset': 80, 'more': False}},
                          'translated', None, {'protocol': 'udp', 'length': 68, 'fragment': {'id': 99, 'offset': 80, 'more': False}}),
    'error 6→4': (v6(ICMPv6TimeExceeded() / QUOTED), {'protocol': 'icmp6', 'icmp_type': 3, 'icmp_code': 0, 'length': 102},
                  'translated', None, {'protocol': 'icmp', 'icmp_type': 11, 'icmp_code': 0, 'length': 62}),
    'cut 4→6': (v4(UDP(sport=7, dport=8) / bytes(1400)), {'protocol': 'udp', 'src_port': 7, 'dst_port': 8, 'length': 1428},
                'translated', None, {'protocol': 'udp', 'src_port': 7, 'dst_port': 8, 'pieces': 2}),
    'foreign protocol 6→4': (v6(Raw(bytes(8)), nh=1), {'protocol': 'icmp', 'icmp_type': 0, 'icmp_code': 0, 'length': 48},
                             'answered', 'protocol',
                             {'src': PEER6, 'dst': HOST6, 'protocol': 'icmp6', 'icmp_type': 1, 'icmp_code': 4, 'length': 96}),
    'neighbours 6→4': (v6(ICMPv6Unknown(type=200, code=3) / bytes(4)),
                       {'protocol': 'icmp6', 'icmp_type': 200, 'icmp_code': 3}, 'dropped', 'icmp-type', None),
    'truncated 6→4': (raw(v6(UDP(sport=5, dport=6) / b'12345'))[:-3], {'protocol': 'udp', 'src_port': 5, 'dst_port': 6, 'length': 53},
                      'dropped', 'truncated', None),
    'bad fragment 4→6': (v4(Raw(bytes(16)), proto=6, id=3, flags='MF'), {'protocol': 'tcp', 'src_port': 0, 'dst_port': 0, 'tcp_flags': 'none',
                         'length': 36, 'fragment': {'id': 3, 'offset': 0, 'more': True}}, 'dropped', 'fragment-bad', None),
    'timestamp 4→6': (v4(ICMP(type=13)), {'protocol': 'icmp', 'icmp_type': 13, 'icmp_code': 0, 'length': 40}, 'dropped', 'icmp-type', None),
    'routing 6→4': (v6(IPv6ExtHdrRouting(type=4, segleft=1, addresses=['fc00::9']), UDP(sport=5, dport=6)),
                    {'protocol': 'udp', 'src_port': 5, 'dst_port': 6, 'length': 72}, 'answered', 'routing-header',
                    {'src': PEER6, 'dst': HOST6, 'protocol': 'icmp6', 'icmp_type': 4, 'icmp_code': 0, 'length': 120}),
    'source route 4→6': (v4(UDP(sport=5, dport=6), options=[IPOption_LSRR(routers=['192.0.2.77'])]),
                         {'protocol': 'udp', 'src_port': 5, 'dst_port': 6, 'length': 36}, 'answered', 'source-route',
                         {'src': 'A', 'dst': SERVER, 'protocol': 'icmp', 'icmp_type': 3, 'icmp_code': 5, 'length': 64}),
}


@pytest.fixture(scope='module')
def opened(crossing):
    with Translator(crossing.gw) as t:
        pool = str(ipaddress.IPv4Address(t.run64(raw(v6(UDP() / b'x')))[1][12:16]))
        yield crossing, t, pool


def sent(name, pool):
    """A packet of PACKETS_SENT, and the line that it must make."""
    packet, want_in, verdict, reason, want_out = PACKETS_SENT[name]
    six = name.endswith('6→4')
    if not six:
        packet = packet.copy()
        packet.dst = pool
    near, far = ((HOST6, PEER6), (pool, SERVER)) if six else ((SERVER, pool), (PEER6, HOST6))
    packet = raw(packet)
    want_in = {'src': near[0], 'dst': near[1], 'length': len(packet)} | want_in
    if want_out:
        want_out = {'src': far[0], 'dst': far[1]} | want_out
        want_out = {k: pool if v == 'A' else v for k, v in want_out.items()}
    return packet, {'direction': '6to4' if six else '4to6', 'in': want_in, 'verdict': verdict, 'reason': reason,
                    'host': {'v4': pool, 'v6': HOST6}, 'out': want_out}


@pytest.mark.parametrize('name', PACKETS_SENT)
def test_packet(opened, name):
    """What is said of a packet is what was sent, and what the RFC makes of it."""
    crossing, t, pool = opened
    packet, want = sent(name, pool)
    trace = Listener(crossing.gw, '--trace', HOST6, '--json')
    if 'cut' in name:                   # pieces leave in real life only; and the kernel's stack is on the way
        assert len(crossing.xlat46(packet)) == 2
    else:
        (t.run64 if name.endswith('6→4') else t.run46)(packet)
    (line,) = timeless(trace.stop())
    assert line == want


def test_packets_in_text(opened):
    crossing, t, pool = opened
    trace = Listener(crossing.gw, '--trace', HOST6)
    names = ['udp 6→4', 'tcp 4→6', 'echo 4→6', 'first fragment 6→4', 'last fragment 4→6', 'truncated 6→4', 'timestamp 4→6', 'source route 4→6']
    for name in names:
        (t.run64 if name.endswith('6→4') else t.run46)(sent(name, pool)[0])
    crossing.xlat46(sent('cut 4→6', pool)[0])
    lines = [re.sub(r'^\S{32} eth0 ', '', line) for line in trace.stop()]
    assert lines == [
        f'6to4 {HOST6}.1000 > {PEER6}.53: udp, length 53 => {pool}.1000 > {SERVER}.53: udp, length 33',
        f'4to6 {SERVER}.80 > {pool}.40000: tcp [S.], length 40 => {PEER6}.80 > {HOST6}.40000: tcp [S.], length 60',
        f'4to6 {SERVER} > {pool}: icmp type 8 code 0, length 30 => {PEER6} > {HOST6}: icmp6 type 128 code 0, length 50',
        f'6to4 {HOST6}.5 > {PEER6}.6: udp, fragment 77 at 0+, length 64 => '
        f'{pool}.5 > {SERVER}.6: udp, fragment 77 at 0+, length 36',
        f'4to6 {SERVER} > {pool}: udp, fragment 99 at 80, length 40 => {PEER6} > {HOST6}: udp, fragment 99 at 80, length 68',
        f'6to4 {HOST6}.5 > {PEER6}.6: udp, length 53: dropped, truncated, host {pool}',
        f'4to6 {SERVER} > {pool}: icmp type 13 code 0, length 40: dropped, icmp-type, host {HOST6}',
        f'4to6 {SERVER}.5 > {pool}.6: udp, length 36: dropped, source-route, host {HOST6}; answer '
        f'{pool} > {SERVER}: icmp type 3 code 5, length 64',
        f'4to6 {SERVER}.7 > {pool}.8: udp, length 1428 => {PEER6}.7 > {HOST6}.8: udp, in 2 pieces']


def test_drops_without_mapping(opened):
    """Who is not known has no address: and one whose mapping has gone is known by it no longer."""
    crossing, t, _ = opened
    trace = Listener(crossing.gw, '--trace', '--json', '-i', 'eth0')
    t.run64(raw(v6(UDP(sport=1, dport=2), src='2001:db8::1')))
    t.run46(raw(v4(UDP(sport=1, dport=2), dst='10.0.1.200')))
    t.run46(raw(v4(UDP(sport=1, dport=2), src='127.0.0.1', dst='10.0.1.200')))
    lines = [(e['verdict'], e['reason'], e['host'], e['out'] and e['out']['dst']) for e in timeless(trace.stop())]
    assert lines == [('answered', 'not-allowed', {'v6': '2001:db8::1', 'v4': None}, '2001:db8::1'),
                     ('answered', 'no-mapping', {'v6': None, 'v4': '10.0.1.200'}, SERVER),
                     ('dropped', 'src-illegal', {'v6': None, 'v4': '10.0.1.200'}, None)]


def test_packets_to_an_expired_mapping(net):
    """The host still has it, whether they get through or not."""
    _, gw, _ = net
    gw.load('-t', 1)
    with Translator(gw) as t:
        pool = speak(t, 1)
        expire(t, pool)
        trace = Listener(gw, '--trace', address(1), '--json')
        assert hear(t, pool) == address(1)
        t.run46(raw(v4(UDP(sport=1, dport=2), src='127.0.0.1', dst=pool)))
    assert [(line['verdict'], line['host']) for line in timeless(trace.stop())] == \
           [(verdict, {'v6': address(1), 'v4': pool}) for verdict in ('translated', 'dropped')]


# Two hosts, two servers, both ways; and packets that do not get through.
TALK = {
    'a': raw(v6(UDP(sport=1000, dport=53) / b'x', src='fc00:66::1')),
    'b': raw(v6(TCP(sport=2000, dport=80), src='fc00:66:1::2', dst=embed('198.51.100.129'))),
    'c': raw(v6(ICMPv6EchoRequest(), src='fc00:66::1', dst=embed('198.51.100.129'))),
    'd': raw(v6(IPv6ExtHdrDestOpt(), TCP(sport=53, dport=443), src='fc00:66::1')),
    'e': raw(v6(IPv6ExtHdrFragment(id=1, offset=1, nh=17), Raw(bytes(8)), src='fc00:66::1')),
    'n': raw(v6(UDP(sport=1000, dport=53) / b'x', src='2001:db8::1')),                          # not allowed
}
FILTERS = {
    '': 'abcdenABCX',
    'fc00:66::1': 'acdeACX',
    'host fc00:66::1': 'acdeACX',
    'fc00:66:1::2': 'bB',
    'fc00:66::/64': 'acdeACX',
    'net fc00:66::/32': 'abcdeABCX',
    '::/0': 'abcdenABCX',
    '2001:db8::1': 'n',
    '2001:db8::2': '',
    embed('198.51.100.129'): 'bcBC',
    '198.51.100.129': 'bcBC',
    '198.51.100.128/25': 'bcBC',
    '198.51.100.0/25': 'adenAX',
    '192.0.2.0/24': '',
    'POOL1': 'acdeACX',
    'POOL2': 'bB',
    '10.0.1.0/24': 'abcdeABCX',
    'tcp': 'bdB',
    'udp': 'aenA',
    'icmp': 'cCX',
    'icmp6': 'cCX',
    'port 53': 'adnA',
    'fc00:66::1 and udp and port 53': 'aA',
    'udp port 53': 'anA',
    'tcp port 443': 'd',
    'host fc00:66::1 tcp': 'd',
    'sctp': '',
    'port 9': '',
    # as pcap-filter(7) has it, of both sides at once
    'src fc00:66::1': 'acde',
    'dst fc00:66::1': 'ACX',
    'src host POOL1': 'acde',
    'dst net 10.0.1.0/24': 'ABCX',
    'src 198.51.100.129 and dst fc00:66:1::2': 'B',
    'src fc00:66::1 and dst 198.51.100.1': 'ade',
    'src or dst fc00:66::1': 'acdeACX',
    'src and dst fc00:66::/32': '',
    'fc00:66::1 198.51.100.129': 'cC',
    'not fc00:66::1': 'bnB',
    'not src fc00:66::1 and not tcp': 'nACX',
    '! udp': 'bcdBCX',
    'udp or icmp': 'acenACX',
    'udp || icmp6': 'acenACX',
    'tcp && port http': 'bB',
    'port domain': 'adnA',
    'port 53 or 80': 'abdnAB',
    'port 53 or port 80': 'abdnAB',
    'src port 53': 'dA',
    'dst port domain': 'an',
    'udp src port 53 or tcp dst port 80': 'Ab',
    'portrange 50-90': 'abdnAB',
    'src portrange 1000-2000': 'abn',
    'host fc00:66:1::2 or 2001:db8::1': 'bnB',
    'udp and (port 53 or icmp)': 'anA',
    'not (udp or tcp)': 'cCX',
    'not not udp': 'aenA',
    'tcp or udp and port 53': 'adnA',             # from left to right
    'tcp or (udp and port 53)': 'abdnAB',
    '6to4': 'abcden',
    '4to6 and not icmp': 'AB',
    'ip6 src fc00:66:1::2': 'b',
    'ip proto 6': 'bdB',
    'proto 17': 'aenA',
    'proto tcp': 'bdB',
}


@pytest.mark.parametrize('words, order', [(words, 0) for words in FILTERS] + [('udp and port 53', n) for n in (1, 2)])
def test_filter(opened, words, order):
    """One of the two addresses, on either side; a host's packets from the IPv4 side too, dropped ones included."""
    _, t, _ = opened
    crossing = opened[0]
    one, two = (str(ipaddress.IPv4Address(t.run64(TALK[n])[1][12:16])) for n in 'ab')
    talk = dict(TALK, A=raw(v4(UDP(sport=53, dport=1000), dst=one)),
                B=raw(v4(TCP(sport=80, dport=2000), src='198.51.100.129', dst=two)),
                C=raw(v4(ICMP(type=0), src='198.51.100.129', dst=one)),
                X=raw(v4(ICMP(type=13), src=SERVER, dst=one)))                                  # dropped: icmp-type
    filter_ = words.replace('POOL1', one).replace('POOL2', two)
    words_ = filter_.split()
    argv = [['--trace', *words_, '-i', 'eth0', '--json'], ['--trace', '--json', *words_, '-i', 'eth0'],
            ['-i', 'eth0', '--trace', words_[0] if words_ else '', '--json', *words_[1:]]][order]
    trace = Listener(crossing.gw, *argv)
    got = ''
    for packet in talk.values():
        (t.run64 if packet[0] >> 4 == 6 else t.run46)(packet)
    lines = trace.stop()
    inner = {json.dumps(key): name for name, key in ((n, identity(p)) for n, p in talk.items())}
    got = ''.join(inner[json.dumps(identity_of(line))] for line in lines)
    assert sorted(got) == sorted(FILTERS.get(words, 'anA'))


UNANSWERED = {
    'udp': UDP(sport=1, dport=7) / b'x',
    'syn': TCP(sport=1, dport=7, flags='S'),
    'echo': ICMPv6EchoRequest(id=7),
}
QUIET = {'ack': TCP(sport=1, dport=7, flags='A'), 'reset': TCP(sport=1, dport=7, flags='R'), 'echo reply': ICMPv6EchoReply(id=7),
         'fragment': IPv6ExtHdrFragment(id=1, offset=1, nh=17) / Raw(bytes(8))}


@pytest.mark.parametrize('name', list(UNANSWERED) + list(QUIET))
def test_what_is_not_answered(opened, name):
    """It was translated, and what became of it then, a trace does not see: but that nothing comes back. Said once for each
    flow, of what would be answered."""
    crossing, t, _ = opened
    packet = v6((UNANSWERED | QUIET)[name])
    trace = Listener(crossing.gw, '--trace', 'src', HOST6, '--json', unanswered=True)
    for _ in range(2):
        t.run64(raw(packet))
    lines = [trace.next() for _ in range(3 if name in UNANSWERED else 2)]
    time.sleep(0.6 if name in UNANSWERED else 2.6)
    assert trace.stop() == []
    assert [e.get('verdict') for e in lines[:2]] == ['translated'] * 2
    if name in UNANSWERED:
        assert since(lines[2].pop('time')) - since(lines[0]['time']) >= 2
        assert lines[2] == {'interface': 'eth0', 'event': 'no-answer', 'direction': '6to4', 'seconds': 2, 'in': lines[0]['in']}


def test_what_is_not_answered_in_text(opened):
    """Also from the other side; and a packet that is dropped has its reason."""
    crossing, t, pool = opened
    trace = Listener(crossing.gw, '--trace', 'port', '7', unanswered=True)
    t.run46(raw(v4(TCP(sport=1000, dport=7), dst=pool)))
    t.run46(raw(v4(UDP(sport=1000, dport=7), dst='10.0.1.250')))
    text = [trace.next() for _ in range(3)]
    assert re.sub(r'^\S+ ', '', text[2]) == (f'eth0 no-answer 4to6 {SERVER}.1000 > {pool}.7: tcp [S], length 40: translated 2 s '
                                             'ago, and nothing has come back here')
    assert trace.stop() == []


ANSWERS = {
    'udp': (UDP(sport=1, dport=7) / b'x', UDP(sport=7, dport=1)),
    'syn': (TCP(sport=1, dport=7, flags='S'), TCP(sport=7, dport=1, flags='SA')),
    'refused': (TCP(sport=1, dport=7, flags='S'), TCP(sport=7, dport=1, flags='RA')),
    'echo': (ICMPv6EchoRequest(id=7), ICMP(type=0, id=7)),
    'error': (UDP(sport=1, dport=7) / b'x', 'ERROR'),
    'error of a router': (TCP(sport=1, dport=7, flags='S'), 'ROUTER'),
    'dropped': (UDP(sport=1, dport=7) / b'x', 'DROPPED'),
}


@pytest.mark.parametrize('name', ANSWERS)
def test_what_is_answered(opened, name):
    """By what the filter does not want, too; an ICMP error is an answer."""
    crossing, t, pool = opened
    ask, answer = ANSWERS[name]
    trace = Listener(crossing.gw, '--trace', '6to4', 'and', 'host', HOST6, '--json', unanswered=True)
    _, asked = t.run64(raw(v6(ask)))
    quoted = IP(asked)
    answer = {'ERROR': ICMP(type=3, code=3) / quoted, 'ROUTER': ICMP(type=11) / quoted,
              'DROPPED': Raw(raw(UDP(sport=7, dport=1, len=99)))}.get(answer if isinstance(answer, str) else '', answer)
    t.run46(raw(v4(answer, src='192.0.2.99' if name == 'error of a router' else SERVER, dst=pool,
                   **({'proto': 17} if name == 'dropped' else {}))))
    assert trace.next()['verdict'] == 'translated'
    time.sleep(2.6)
    assert trace.stop() == []


def test_firewall_behind_the_translator(nat):
    """As a user sees it."""
    h6, gw, _ = nat
    gw.nft('table ip f {\nchain f {\ntype filter hook forward priority 0; iifname "eth0" udp dport 9 drop;\n}\n}')
    trace = Listener(gw, '--trace', '--json', unanswered=True)
    h6.run('ping', '-c', 1, '-W', 5, embed('192.0.2.2'))
    h6.run('bash', '-c', f'echo x >/dev/udp/{embed("192.0.2.2")}/9')
    lines = [trace.next() for _ in range(4)]
    assert [e.get('event') for e in lines] == [None, None, None, 'no-answer'] and lines[3]['in']['dst_port'] == 9
    trace.stop()


@pytest.mark.parametrize('words', ['fc00:66::2', '10.0.1.250', 'tcp', 'udp port 9', 'fc00:66::1 port 9', '198.51.100.1 icmp'])
def test_filter_spares_the_ring(nat, words):
    """What a filter does not want takes no room from what it wants."""
    _, gw, _ = nat
    with Translator(gw) as t:
        trace = Listener(gw, '--trace', words)
        trace_many(t, 10)
        assert written(t, PACKETS) == 0
        assert trace.stop() == []
        trace = Listener(gw, '--trace', 'fc00:66::1 udp port 2')
        trace_many(t, 10)
        assert written(t, PACKETS) == 10 * RECORD
        assert len(trace.stop()) == 10


def identity(packet):
    """What tells the packets of TALK apart."""
    if packet[0] >> 4 == 6:
        return [str(ipaddress.IPv6Address(packet[8:24])), str(ipaddress.IPv6Address(packet[24:40])), len(packet)]
    return [str(ipaddress.IPv4Address(packet[12:16])), str(ipaddress.IPv4Address(packet[16:20])), len(packet)]


def identity_of(line):
    return [line['in'][k] for k in ('src', 'dst', 'length')]


# --- listeners that are slow, stopped, killed, too many ---

def consumed(t, ring, place):
    """As written(): the consumer's position."""
    inner = Map(struct.unpack('=I', t.maps[('events', 'packets')[ring]].lookup(struct.pack('=I', place)))[0])
    try:
        with mmap.mmap(inner.fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ) as m:
            return struct.unpack_from('=Q', m)[0]
    finally:
        inner.close()


def trace_many(t, n):
    packet = raw(v6(UDP(sport=1, dport=2) / b'x'))
    for _ in range(n):
        t.run64(packet)


def test_stopped_listener_loses_what_the_ring_does_not_hold(nat):
    """And says how many: what is printed and what is lost is what there was."""
    _, gw, _ = nat
    trace = Listener(gw, '--trace', '--json')
    with Translator(gw) as t:
        trace.p.send_signal(signal.SIGSTOP)
        trace_many(t, 3000)
        lost = lease(t, PACKETS)[1]
        trace.p.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        trace_many(t, 5)
    lines = trace.stop()
    (said,) = [e for e in lines if 'event' in e]
    assert since(said.pop('time')) and said == {'interface': 'eth0', 'event': 'lost', 'count': lost}
    assert len(lines) - 1 + lost == 3005
    assert 0 <= RING_BYTES // RECORD - (len(lines) - 6) < 10
    assert 'event' in lines[len(lines) - 6], 'lost is said where it happened'


def test_slow_reader(nat):
    """A reader that does not read for longer than a lease: the lease stays, and what is lost is counted."""
    _, gw, _ = nat
    trace = Listener(gw, '--trace')
    with Translator(gw) as t:
        for _ in range(14):
            trace_many(t, 500)
            time.sleep(0.25)
        assert lease(t, PACKETS)[0] > time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        lost = lease(t, PACKETS)[1]
        assert lost > 0
        lines = [trace.next() for _ in range(7000 - lost)] + trace.stop()
    said = [int(re.fullmatch(r'\S+ eth0 lost (\d+)', line)[1]) for line in lines if ' lost ' in line]
    assert sum(said) == lost and len(lines) - len(said) + lost == 7000


def test_gap(nat):
    """Stopped for longer than the lease: it cannot know what it has missed, and says for how long."""
    _, gw, _ = nat
    m = Listener(gw, '--monitor', '--json')
    with Translator(gw) as t:
        m.p.send_signal(signal.SIGSTOP)
        time.sleep(3.5)
        speak(t, 1)
        assert len(set(ear(t, EVENTS))) == 1, 'the first to find that nobody listens spares it the others'
        m.p.send_signal(signal.SIGCONT)
        wait_for(lambda: held(t, EVENTS) and heard(t, EVENTS), 'a lease')
        v4_ = speak(t, 2)
    gap, event = timeless(m.stop())
    assert gap['event'] == 'lost' and 1 <= gap['seconds'] <= 20 and event == created(v4_, 2)


def test_killed_listener(nat):
    """Costs nothing a little later, and does not stand in the way of the next, which sees nothing old."""
    _, gw, _ = nat
    trace = Listener(gw, '--trace')
    with Translator(gw) as t:
        trace.p.send_signal(signal.SIGSTOP)
        trace_many(t, 10)
        trace.p.kill()
        trace.p.wait()
        assert held(t, PACKETS) == 1
        time.sleep(2.2)
        at = written(t, PACKETS)
        assert at == 10 * RECORD and len(set(ear(t, PACKETS))) == 2
        trace_many(t, 10)
        assert len(set(ear(t, PACKETS))) == 1 and written(t, PACKETS) == at
        trace = Listener(gw, '--trace')
        assert held(t, PACKETS) == 1 and written(t, PACKETS) == 0, 'the place has been taken, with another ring'
        trace_many(t, 2)
        assert len(trace.stop()) == 2


def test_nothing_is_written_when_nobody_listens(nat):
    """Before anybody has listened, and afterwards; and each ring only for its own listeners."""
    _, gw, _ = nat
    with Translator(gw) as t:
        speak(t, 1)
        trace_many(t, 3)
        assert (written(t, EVENTS), written(t, PACKETS)) == (None, None)
        m, trace = Listener(gw, '--monitor', '-i', 'eth0'), Listener(gw, '--trace', 'port', '9')
        speak(t, 2)
        trace_many(t, 3)
        assert written(t, EVENTS) > 0 == written(t, PACKETS)
        trace.stop()
        m.stop()
        assert (lease(t, EVENTS), written(t, EVENTS), written(t, PACKETS)) == ((0, 0), None, None), 'nor is memory taken'
        speak(t, 3)
        gw.nat64('-i', 'eth0', '--flush')
        assert lease(t, EVENTS) == (0, 0)


@pytest.mark.parametrize('what', ['--monitor', '--trace'])
def test_several_listeners(nat, what):
    """Each sees all; one too many is refused, and the place of one that has gone is free."""
    _, gw, _ = nat
    listeners = [Listener(gw, what, '--json') for _ in range(LISTENERS)]
    refused = f'nat64: eth0: {LISTENERS} times nat64 {what} is listening, and no more can\n'
    with Translator(gw) as t:
        for n in range(2):
            speak(t, 1 + n)
            assert gw.nat64(what, rc=1).stderr == refused
        gw.nat64('-i', 'eth0', '--flush')
        out = [timeless(listener.stop()) for listener in listeners[1:]]
        assert held(t, EVENTS if what == '--monitor' else PACKETS) == 1
        fresh = Listener(gw, what, '--json')
        speak(t, 9)
        out.append(timeless(listeners[0].stop()))
    assert out[0] == out[1] == out[2] == out[3][:-1] and timeless(fresh.stop()) == out[3][-1:]
    if what == '--monitor':
        assert [e['event'] for e in out[0]] == ['created', 'created', 'removed', 'removed']
    else:
        assert [e['in']['src'] for e in out[0]] == [address(1), address(2)]


def test_each_its_own_filter(nat):
    """And what the one does not want takes no room from it."""
    _, gw, _ = nat
    tcp, udp = Listener(gw, '--trace', 'tcp', '--json'), Listener(gw, '--trace', 'udp', '--json')
    with Translator(gw) as t:
        trace_many(t, 5)
        assert (written(t, PACKETS, 0), written(t, PACKETS, 1)) == (0, 5 * RECORD)
    assert (len(tcp.stop()), len(udp.stop())) == (0, 5)


def test_slow_listener_and_quick_one(nat):
    """What the slow one loses the quick one has."""
    _, gw, _ = nat
    slow, quick = Listener(gw, '--trace', '--json'), Listener(gw, '--trace', stdout=subprocess.DEVNULL)
    with Translator(gw) as t:
        slow.p.send_signal(signal.SIGSTOP)
        for _ in range(6):
            trace_many(t, 500)
            wait_for(lambda: consumed(t, PACKETS, 1) == written(t, PACKETS, 1), 'the quick one')
        assert lease(t, PACKETS, 0)[1] > 0 == lease(t, PACKETS, 1)[1]
        slow.p.send_signal(signal.SIGCONT)
    quick.stop()
    slow.stop()


def test_place_taken_meanwhile(nat):
    """Of one that was stopped for so long that others have taken all places but one: it takes that, and says what it
    missed."""
    _, gw, _ = nat
    first = Listener(gw, '--monitor', '--json')
    with Translator(gw) as t:
        first.p.send_signal(signal.SIGSTOP)
        wait_for(lambda: not held(t, EVENTS), 'the end of a lease')
        second = Listener(gw, '--monitor', '--json')
        speak(t, 1)
        first.p.send_signal(signal.SIGCONT)
        wait_for(lambda: held(t, EVENTS) == 2 and heard(t, EVENTS), 'both')
        v4_ = speak(t, 2)
    gap, event = timeless(first.stop())
    assert gap['event'] == 'lost' and gap['seconds'] >= 1 and event == created(v4_, 2)
    assert [e['v6'] for e in second.stop()] == [address(1), address(2)]


def test_reconfigurations_while_listening(nat):
    """Other options, and another IPv4 prefix, which has maps of its own: both go on, and nothing is lost."""
    _, gw, _ = nat
    m, trace = Listener(gw, '--monitor', '--json'), Listener(gw, '--trace', '--json')
    n = 0
    for options in [{}, {'v4': '10.0.1.0/25'}, {'v4': '10.0.2.0/24'}, {'v4': '10.0.2.0/24', 'allow': ['fc00::/7']}]:
        gw.load('-t', 50 + n, **options)
        time.sleep(0.4)                 # the listener looks for itself
        with Translator(gw) as t:
            n += 1
            assert speak(t, n)
            assert held(t, EVENTS) == held(t, PACKETS) == 1
    assert [e['v6'] for e in m.stop() if e['event'] == 'created'] == [address(i) for i in range(1, n + 1)]
    assert [e['in']['src'] for e in trace.stop()] == [address(i) for i in range(1, n + 1)]


@pytest.mark.parametrize('how', ['unload', 'interface'])
def test_unload_while_listening(nat, how):
    """Said on both streams by --monitor, whose log would go on for ever otherwise; exit status 1."""
    _, gw, _ = nat
    m, trace = Listener(gw, '--monitor', '--json', '-i', 'eth0'), Listener(gw, '--trace', '-i', 'eth0')
    with Translator(gw) as t:
        v4_ = speak(t, 1)
    if how == 'unload':
        gw.unload()
    else:
        gw.ip('link', 'del', 'eth0')
        gw.loaded.clear()
    assert timeless(m.end(1, 'nat64: eth0: unloaded\n')) == [created(v4_, 1), {'event': 'unloaded'}]
    assert len(trace.end(1, 'nat64: eth0: unloaded\n')) == 1


def test_several_interfaces(nat, lab):
    """Without -i all of them, each by its name, for ever; with -i that one, as long as it is there."""
    _, gw, _ = nat
    lab.link(gw, 'eth2', lab.host('b6'), 'eth0')
    gw.load(i='eth2', v4='10.0.2.0/24')
    both = Listener(gw, '--monitor', '--json', ifname='eth2')
    one = Listener(gw, '--trace', '-i', 'eth2', '--json', ifname='eth2')
    with Translator(gw, 'eth2') as t2, Translator(gw) as t:
        speak(t2, 1)
        first = both.next()
        speak(t, 2)
        second = both.next()
    assert [(e['interface'], e['v6']) for e in (first, second)] == [('eth2', address(1)), ('eth0', address(2))]
    gw.unload(i='eth2')
    assert both.next()['event'] == 'unloaded'
    (line,) = one.end(1, 'nat64: eth2: unloaded\n')
    assert (line['interface'], line['in']['src']) == ('eth2', address(1))
    with Translator(gw) as t:
        speak(t, 3)
    assert both.next()['v6'] == address(3)
    gw.unload()
    assert both.next()['event'] == 'unloaded'
    both.p.send_signal(signal.SIGTERM)
    assert both.end(0, 'nat64: eth2: unloaded\nnat64: eth0: unloaded\n') == []


def test_translators_that_come_later(net, lab):
    """Without -i: also when there is none at first, and again when one comes back. What a translator has done before that
    is noticed is told with the time when it was."""
    h6, gw, _ = net
    m, trace = (Listener(gw, what, '--json', ifname=None) for what in ('--monitor', '--trace'))
    assert m.p.stderr.readline() == trace.p.stderr.readline() == b'nat64: no translator is loaded; waiting for one\n'
    told = []
    for round_ in range(2):
        gw.load()
        h6.run('ping', '-c', 1, '-W', 5, embed('192.0.2.2'))            # at once
        event = m.next()
        assert (event['event'], event['v4'], event['v6']) == ('created', '10.0.1.1', 'fc00:6::6')
        told.append(since(event['time']))
        with Translator(gw) as t:
            wait_for(lambda t=t: all(held(t, ring) and heard(t, ring) for ring in (EVENTS, PACKETS)), 'the listeners')
            speak(t, round_)
        assert m.next()['v6'] == address(round_)
        wait_for(lambda r=round_: trace.next()['in']['src'] == address(r), 'the packet')
        gw.unload()
        assert m.next()['event'] == 'unloaded'
    assert told == sorted(told)
    lab.link(gw, 'eth2', lab.host('b6'), 'eth0')
    gw.load(i='eth2', v4='10.0.2.0/24')
    with Translator(gw, 'eth2') as t:
        speak(t, 5)
        event = m.next()
        assert (event['interface'], event['event'], event['v6']) == ('eth2', 'created', address(5))
        wait_for(lambda: held(t, PACKETS), 'the other listener')
    gw.ip('link', 'del', 'eth2')
    gw.loaded.clear()
    assert m.next()['event'] == 'unloaded'
    for listener in m, trace:
        said = [listener.p.stderr.readline().decode() for _ in range(3)]
        assert said == ['nat64: eth0: unloaded\n'] * 2 + ['nat64: eth2: unloaded\n']
        listener.p.send_signal(signal.SIGTERM)
        listener.end()


@pytest.mark.parametrize('what', ['--monitor', '--trace'])
def test_lines_are_flushed(nat, what):
    """Through a pipe, as to logger: each at once."""
    h6, gw, _ = nat
    listener = Listener(gw, what)
    h6.run('ping', '-c', 1, embed('192.0.2.2'))
    assert 'fc00:6::6' in listener.next(5)
    listener.stop()


@pytest.mark.parametrize('sig', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize('what', ['--monitor', '--trace'])
def test_signals(nat, what, sig):
    assert Listener(nat[1], what).stop(sig) == []


@pytest.mark.parametrize('busy', [False, True])
def test_reader_gone(nat, busy):
    """As with `| head`: it ends quietly, also when nothing happens."""
    _, gw, _ = nat
    trace = Listener(gw, '--trace')
    if busy:
        with Translator(gw) as t:
            trace_many(t, 100)
    trace.p.stdout.close()
    assert trace.p.wait(10) == 0 and trace.p.stderr.read() == b''
    with Translator(gw) as t:
        assert lease(t, PACKETS)[0] == 0


def test_full_disk(nat):
    _, gw, _ = nat
    with open('/dev/full', 'w', encoding='ascii') as full:
        trace = Listener(gw, '--trace', stdout=full)
    with Translator(gw) as t:
        trace_many(t, 1)
    assert trace.p.wait(10) == 1 and trace.p.stderr.read() == b'nat64: cannot write: No space left on device\n'


@pytest.mark.parametrize('what', ['--monitor', '--trace'])
def test_least_privilege(kind, nat, what):
    """CAP_SYS_ADMIN and nothing else, as all that looks; the commands that tell of what they do need no more either."""
    _, gw, _ = nat
    only = ['setpriv', '--bounding-set=-all,+sys_admin']
    if KERNEL < (5, 11):
        only = ['prlimit', '--memlock=unlimited', *only]        # maps count as locked memory
    done = gw.nat64(what, rc=1, via=['setpriv', '--bounding-set=-sys_admin'])
    assert re.fullmatch(r'nat64: (eth0: )?not permitted: missing CAP_SYS_ADMIN[^\n]*\n', done.stderr)
    listener = Listener(gw, what, '--json', via=only)
    with Translator(gw) as t:
        speak(t, 1)
    gw.nat64('-i', 'eth0', '--flush', via=only)
    lines = listener.stop()
    assert [e.get('event') for e in lines] == (['created', 'removed'] if what == '--monitor' else [None])


BAD = {
    'both': (['--monitor', '--trace'], 2, '--trace'),
    'with status': (['--status', '--monitor'], 2, '--monitor'),
    'with unload': (['-i', 'eth0', '-u', '--trace'], 2, '--trace'),
    'metrics': (['--monitor', '--metrics'], 2, '--metrics'),
    'argument': (['--monitor=eth0'], 2, '--monitor'),
    'words': (['--monitor', 'eth0'], 2, 'eth0'),
    'no such interface': (['--monitor', '-i', 'nosuch0'], 2, 'nosuch0'),
    'nothing there': (['--monitor', '-i', 'eth1'], 1, 'nothing loaded on eth1'),
    'name': (['--trace', 'www.example.org'], 2, 'www.example.org'),
    'name of a port': (['--trace', 'port', 'nosuchport'], 2, 'port nosuchport'),
    'half an address': (['--trace', '10.0.1'], 2, '10.0.1'),
    'host bits': (['--trace', '10.0.1.7/24'], 2, 'did you mean 10.0.1.0/24?'),
    'host bits of IPv6': (['--trace', 'fc00::7/64'], 2, 'did you mean fc00::/64?'),
    'length': (['--trace', 'fc00::/129'], 2, '0 to 128'),
    'two filters': (['--trace=tcp', '--trace=udp'], 2, '--trace udp: given twice'),
    'and what': (['--trace', 'tcp', 'and'], 2, 'at the end: not an address'),
    'or what': (['--trace', 'port', '1', 'or'], 2, 'at the end'),
    'not what': (['--trace', 'not'], 2, 'at the end'),
    'or first': (['--trace', 'or', 'tcp'], 2, 'or: not an address'),
    'source': (['--trace', 'src'], 2, 'at the end'),
    'source of what': (['--trace', 'src', 'tcp'], 2, 'tcp: not an address'),
    'open': (['--trace', '(tcp'], 2, 'a ) is missing'),
    'closed': (['--trace', 'tcp)'], 2, 'a ( is missing'),
    'nothing in it': (['--trace', '()'], 2, '): not an address'),
    'deep': (['--trace', '(' * 20 + 'tcp' + ')' * 20], 2, 'too many parentheses'),
    'range': (['--trace', 'portrange', '5'], 2, 'portrange: is two ports'),
    'range backwards': (['--trace', 'portrange', '5-1'], 2, '5 is more than 1'),
    'proto': (['--trace', 'proto'], 2, 'proto: which?'),
    'proto 256': (['--trace', 'proto', '256'], 2, 'proto: which?'),
    'many': (['--trace', ' or '.join(['tcp'] * 50)], 2, 'too long'),
    'no port': (['--trace', 'port'], 2, 'port: which'),
    'bad port': (['--trace', 'port', '65536'], 2, '65536'),
    'port zero': (['--trace', 'port', '0'], 2, '0'),
    'port of ICMP': (['--trace', 'icmp', 'port', '1'], 2, 'no ports'),
    'long': (['--trace', 'fc00::1' + ' and tcp' * 100], 2, 'too long'),
    'empty': (['--trace', ''], 2, 'filter'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input(module_net, name):
    argv, rc, says = BAD[name]
    gw = module_net[1]
    if not gw.loaded:
        gw.load()
    assert says in gw.nat64(*argv, rc=rc).stderr


def test_nothing_loaded(net):
    """On an interface there must be one; of all, there may be one later."""
    for what in '--monitor', '--trace':
        assert net[1].nat64(what, '-i', 'eth0', rc=1).stderr == 'nat64: nothing loaded on eth0\n'


def installed(tmp_path):
    """The unit as make install writes it."""
    subprocess.run(['make', '-C', ROOT, '-s', 'install', f'DESTDIR={tmp_path}', 'PREFIX=/usr'], check=True,
                   stdout=subprocess.DEVNULL)
    return (tmp_path / 'usr/lib/systemd/system/nat64-monitor.service').read_text()


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='NO systemd-analyze: the unit is not verified')
def test_unit_verifies(tmp_path):
    """systemd-analyze says nothing of it, something of a broken one, and that it is hardened."""
    text = installed(tmp_path).replace('/usr/sbin/nat64', os.path.abspath(NAT64))
    path = tmp_path / 'nat64-monitor.service'
    for broken in False, True:
        path.write_text(text.replace('Type=exec', 'Type=exit') if broken else text)
        done = subprocess.run(['systemd-analyze', '--man=no', 'verify', path], capture_output=True, text=True, check=False,
                              cwd=tmp_path)
        assert ('nat64-monitor' in done.stderr) == broken, done.stderr
    done = subprocess.run(['systemd-analyze', 'security', '--offline=true', '--threshold=20', path], capture_output=True,
                          text=True, check=False)
    if 'unrecognized option' not in done.stderr:        # before systemd 250
        assert done.returncode == 0, done.stdout


def test_unit_does_what_it_says(net, binary, tmp_path):
    """Its command, as the user and with the capability that it grants, started before there is a translator."""
    _, gw, _ = net
    text = installed(tmp_path)
    (command,) = re.findall(r'^ExecStart=(.*)$', text, re.M)
    caps = [re.findall(rf'^{what}=(.*)$', text, re.M) for what in ('AmbientCapabilities', 'CapabilityBoundingSet')]
    assert caps == [['CAP_SYS_ADMIN']] * 2 and 'DynamicUser=yes' in text
    via = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--no-new-privs', '--inh-caps=-all,+sys_admin',
           '--ambient-caps=-all,+sys_admin', '--bounding-set=-all,+sys_admin']
    if KERNEL < (5, 11):
        via = ['prlimit', '--memlock=unlimited', *via]
    p = gw.start(*via, *command.replace('/usr/sbin/nat64', binary).split(), stderr=subprocess.PIPE)
    assert 'waiting' in p.stderr.readline()
    gw.load()
    with Translator(gw) as t:
        speak(t, 1)
        wait_for(lambda: held(t, EVENTS) and heard(t, EVENTS), 'the service')
        speak(t, 2)
    for n in 1, 2:
        assert f'eth0 created 10.0.1.{n} {address(n)}' in p.stdout.readline()
    gw.unload()
    assert 'eth0 unloaded' in p.stdout.readline()


def test_json_names_are_documented():
    """All names that the other tests have seen."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), '../dist/nat64.8'), encoding='utf-8') as f:
        man = f.read()
    for name in ('time', 'interface', 'event', 'v4', 'v6', 'type', 'last_seen', 'next', 'reason', 'count', 'seconds',
                 'direction', 'in', 'out', 'verdict', 'host', 'src', 'dst', 'src_port', 'dst_port', 'protocol', 'icmp_type',
                 'icmp_code', 'tcp_flags', 'length', 'fragment', 'id', 'offset', 'more', 'pieces', 'segments'):
        assert re.search(rf'^\.(It )?Cm .*\b{name}\b', man, re.M), name
    for event in 'created', 'revived', 'expired', 'removed', 'pool-exhausted', 'unloaded', 'lost', 'no-answer':
        assert re.search(rf'^\.It Cm {event}\b', man, re.M), event
