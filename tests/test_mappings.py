# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of dynamic mappings: how many addresses a prefix has, what happens when they run out or time out, and that
CPUs that race do it no harm. Packets run through the programs with BPF_PROG_TEST_RUN, on a gateway in the lab."""

import ipaddress
import json
import os
import random
import struct
import time

import pytest
from scapy.all import IP, UDP, IPv6, raw

from bpf import MAPPING, TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT, Translator
from lab import NAT64, embed, wait_for

TEMPLATE = raw(IPv6(src='fc00:66::', dst=embed('198.51.100.1'), hlim=64) / UDP(sport=3, dport=4) / b'data')


STATIC = 0x7fffffffffffffff     # NAT64_STATIC


def source(n):
    """Host number n behind h6."""
    return f'fc00:66::{n >> 16:x}:{n & 0xffff:x}'


def speak(t, n):
    """A packet of host n: the IPv4 source it leaves with, or None when it was dropped."""
    packet = TEMPLATE[:8] + ipaddress.IPv6Address(source(n)).packed + TEMPLATE[24:]
    verdict, out = t.run64(packet)
    if verdict == TC_ACT_OK:
        return str(ipaddress.IPv4Address(out[12:16]))
    assert verdict == TC_ACT_SHOT or verdict == TC_ACT_REDIRECT and out[6] == 58    # with an answer or without
    return None


def hear(t, v4):
    """A packet to an IPv4 address of the pool: the IPv6 destination it leaves for, or None when it was dropped."""
    verdict, out = t.run46(raw(IP(src='198.51.100.1', dst=v4) / UDP(sport=4, dport=3) / b'data'))
    if verdict == TC_ACT_REDIRECT and out[0] >> 4 == 6:
        return str(ipaddress.IPv6Address(out[24:40]))
    assert verdict == TC_ACT_SHOT or verdict == TC_ACT_REDIRECT and out[9] == 1
    return None


def address(n):
    return str(ipaddress.IPv6Address(source(n)))


def consistent(t, gives=None):
    """Both maps tell the same: every owner is found by its address, no two have the same, nobody is lost. gives: --give-out."""
    mappings = t.mappings()         # by_v6 -> mappings
    owners = {}
    for index in range(t.maps['mappings'].max_entries):
        _, _, v6, _, _, _, seen, _ = MAPPING.unpack(t.maps['mappings'].lookup(struct.pack('=I', index)))
        if seen or v6 != bytes(16):
            owners[str(ipaddress.IPv6Address(v6))] = str(t.v4[index])
    assert {m.v6: m.v4 for m in mappings.values()} == owners
    assert len(set(owners.values())) == len(owners)
    lists(t, gives)
    return owners


def lists(t, gives=None):
    """Every address that is given out is in one of the two lists, which end where they begin: those that are free, and
    those in use, in the order of their last packets, to an epoch or so. ([free], [in use])"""
    count = t.maps['mappings'].max_entries
    node = [struct.unpack('=II', t.maps['order'].lookup(struct.pack('=I', i))) for i in range(count + 2)]
    tick = [MAPPING.unpack(t.maps['mappings'].lookup(struct.pack('=I', i)))[3] for i in range(count)]
    out = []
    for head in count, count + 1:
        members, i = [], node[head][0]
        assert node[node[head][1]][0] == head
        while i != head:
            assert node[node[i][0]][1] == i and i < count and len(members) < count
            members.append(i)
            i = node[i][0]
        out.append(members)
    free, used = out
    assert all(tick[i] == 0 for i in free) and all(tick[i] not in (0, STATIC) for i in used)
    given_out = set(range(count)) - ({0, count - 1} if count > 2 else set())
    if gives:
        given_out = {i for i in given_out if t.v4[i] in ipaddress.ip_network(gives)}
    assert sorted(free + used) == sorted(i for i in given_out if tick[i] != STATIC)
    assert all(node[i] == (i, i) for i in set(range(count)) - set(free + used))
    return free, used


def opened(gw, *argv, **kw):
    gw.load(*argv, **kw)
    return Translator(gw)


@pytest.mark.parametrize('prefix, count', [('10.0.1.2/31', 2), ('10.0.1.4/30', 2), ('10.0.1.8/29', 6),
                                           ('10.0.1.16/28', 14), ('10.0.1.0/24', 254), ('10.0.2.0/23', 510)])
def test_number_of_addresses(net, prefix, count):
    """All but the network and the broadcast address; a /31 has neither. The next source is dropped and counted."""
    _, gw, _ = net
    network = ipaddress.ip_network(prefix)
    with opened(gw, v4=prefix) as t:
        given = [speak(t, n) for n in range(1, count + 1)]
        assert set(given) == {str(a) for a in network.hosts()} and len(given) == count
        assert t.drops() == {}
        for n in range(count + 1, count + 101):
            assert speak(t, n) is None
        assert t.drops() == {'pool-full': 100}
        assert [speak(t, n) for n in range(1, count + 1)] == given      # who has one keeps it
        for n, v4 in enumerate(given, 1):
            assert hear(t, v4) == address(n)
        if prefix[-2:] != '31':
            assert hear(t, network.network_address) is None and hear(t, network.broadcast_address) is None
            assert t.drops() == {'pool-full': 100, 'no-mapping': 2}
        assert len(consistent(t)) == count


def test_one_mapping_per_source(net):
    """A source has one address for all that it sends, and keeps it over a reload."""
    _, gw, _ = net
    with opened(gw) as t:
        first = {n: speak(t, n) for n in range(1, 51)}
        assert {n: speak(t, n) for n in range(1, 51)} == first
    with opened(gw) as t:
        assert {n: speak(t, n) for n in range(1, 51)} == first
        assert len(consistent(t)) == 50


def is_expired(t, v4):
    rows = json.loads(t.host.run(NAT64, '-i', t.ifname, '--mappings', '--json').stdout)['mappings']
    return {row['v4']: row['expires_in'] for row in rows}[str(v4)] == 0


def expire(t, v4):
    """Wait until a mapping has expired. What comes from the IPv4 side meanwhile keeps nothing alive."""
    asked = 0
    end = time.monotonic() + 30
    while not is_expired(t, v4):
        assert hear(t, v4) is not None
        asked += 1
        assert time.monotonic() < end, 'does not expire'
        time.sleep(0.01)
    time.sleep(0.05)            # programs know the time by the kernel's ticks
    return asked


@pytest.mark.parametrize('prefix', ['10.0.1.0/31', '10.0.1.0/24'])
def test_timeout_and_revival(net, prefix):
    """Expired when idle for the time-out, though the IPv4 side went on; and so it stays, whatever comes from there. Live
    again with a packet of its own source, as it was."""
    _, gw, _ = net
    with opened(gw, '-t', '3', v4=prefix) as t:      # a slow machine asks twice in that time, too
        v4 = speak(t, 1)
        assert hear(t, v4) == address(1)
        assert expire(t, v4) > 1
        assert [hear(t, v4) for _ in range(3)] == [address(1)] * 3
        assert is_expired(t, v4)
        assert speak(t, 1) == v4
        assert not is_expired(t, v4)
        assert hear(t, v4) == address(1)
        assert len(consistent(t)) == 1
        assert t.drops() == {}


def test_expired_until_another_host_has_it(net):
    """An expired mapping translates 4→6 until its address is given away, or it is deleted: then never again."""
    _, gw, _ = net
    with opened(gw, '-t', '1', v4='10.0.1.0/31') as t:
        given = {speak(t, n): address(n) for n in (1, 2)}
        for v4 in given:
            expire(t, v4)
        assert {v4: hear(t, v4) for v4 in given} == given
        taken = wait_for(lambda: speak(t, 3), 'an address that is free')
        (other,) = set(given) - {taken}
        assert hear(t, taken) == address(3) and hear(t, other) == given[other] and is_expired(t, other)
        gw.nat64('-i', 'eth0', '--delete', other)
        assert hear(t, other) is None and hear(t, taken) == address(3)
        assert t.drops()['no-mapping'] == 1
        consistent(t)


def test_a_keepalive_of_the_server(net, tmp_path):
    """RFC 5382 REQ-5: two hours after the last packet its connection, and nobody can have taken its address."""
    _, gw, _ = net
    (tmp_path / 'state').write_text(json.dumps({'nat64_mappings': 1, 'mappings': [
        {'v4': f'10.0.1.{n}', 'v6': address(n), 'type': 'dynamic', 'idle': 7430, 'age': 9000} for n in (0, 1)]}))
    with opened(gw, '--restore', tmp_path / 'state', v4='10.0.1.0/31') as t:
        assert speak(t, 2) is None
        assert [hear(t, f'10.0.1.{n}') for n in (0, 1)] == [address(0), address(1)]
        assert not is_expired(t, '10.0.1.0')


def test_reuse(net):
    """In a full pool a new source waits until a mapping has expired; one that is used is never given away."""
    _, gw, _ = net
    with opened(gw, '-t', '2', v4='10.0.1.0/31') as t:
        kept, idle = speak(t, 1), speak(t, 2)
        assert speak(t, 3) is None
        refused = 0
        end = time.monotonic() + 30
        while (got := speak(t, 3)) is None:
            refused += 1
            assert speak(t, 1) == kept
            assert time.monotonic() < end, 'an expired mapping is never reused'
            time.sleep(0.01)
        assert got == idle and refused > 1
        assert hear(t, idle) == address(3)
        assert speak(t, 1) == kept and hear(t, kept) == address(1)
        assert speak(t, 2) is None                  # its address is somebody else's now
        assert sorted(consistent(t)) == [address(1), address(3)]
        assert set(t.drops()) == {'pool-full'}


def test_revival_before_reuse(net):
    """Free addresses are given away before expired ones: the old owner finds its own again."""
    _, gw, _ = net
    with opened(gw, '-t', '1', v4='10.0.1.0/29') as t:
        v4 = speak(t, 1)
        expire(t, v4)
        others = [speak(t, n) for n in (2, 3, 4, 5, 6)]
        assert None not in others and v4 not in others
        assert speak(t, 1) == v4
        assert len(consistent(t)) == 6


def test_all_expire_and_start_over(net):
    """A whole pool of dead mappings serves new sources, each once."""
    _, gw, _ = net
    with opened(gw, '-t', '1', v4='10.0.1.0/28') as t:
        first = {speak(t, n) for n in range(14)}
        assert len(first) == 14
        wait_for(lambda: speak(t, 100), 'the first to expire')
        time.sleep(0.2)             # they did not all speak at the same moment
        second = [speak(t, 100 + n) for n in range(14)]
        assert set(second) == first
        assert sorted(consistent(t)) == sorted(address(100 + n) for n in range(14))


def test_refused_sources_keep_nothing_alive(net):
    """An attack on a full pool does not keep it full: what has expired is found within a second or so."""
    _, gw, _ = net
    with opened(gw, '-t', '1', v4='10.0.1.0/26') as t:
        assert len({speak(t, n) for n in range(62)}) == 62
        end = time.monotonic() + 30
        n = 1000
        while speak(t, n) is None:
            n += 1
            assert time.monotonic() < end, 'the pool stays full for ever'
        consistent(t)


ALLOWED = ['2001:db8:1::/48', '2001:db8:2:3::/64', '2001:db8:4::5/128', '2001:db8:8000::/33', 'fd00::/8']
SOURCES = {
    '2001:db8:1::': True, '2001:db8:1:ffff:ffff:ffff:ffff:ffff': True, '2001:db8:0:ffff:ffff:ffff:ffff:ffff': False,
    '2001:db8:2::': False, '2001:db8:2:3::1': True, '2001:db8:2:4::': False, '2001:db8:2:2:ffff::': False,
    '2001:db8:4::5': True, '2001:db8:4::4': False, '2001:db8:4::6': False, '2001:db8:8000::1': True,
    '2001:db8:ffff:ffff::1': True, '2001:db8:7fff::1': False, 'fc00::1': False, 'fd00::': True,
    'fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff': True, 'fc00:66::a': False, 'd00::1': False}


def test_allowlist(net):
    """Any of the prefixes, to the bit; the others are dropped, counted and answered."""
    _, gw, _ = net
    with opened(gw, '--icmp-rate', 1000, allow=ALLOWED) as t:
        assert {src: t.run64(raw(IPv6(src=src, dst=embed('198.51.100.1')) / UDP() / b'x'))[0] for src in SOURCES} == \
               {src: TC_ACT_OK if allowed else TC_ACT_REDIRECT for src, allowed in SOURCES.items()}
        assert t.drops() == {'not-allowed': sum(not allowed for allowed in SOURCES.values())}
        assert set(t.mappings()) == {str(ipaddress.ip_address(src)) for src, allowed in SOURCES.items() if allowed}


def on_every_cpu(work):
    """Run work(cpu) in a process on each of two CPUs at the same time; what each wrote to its pipe, as text."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    start_r, start_w = os.pipe()
    children = []
    for cpu in cpus:
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.sched_setaffinity(0, {cpu})
                os.close(start_w)
                os.read(start_r, 1)             # the end of file is the start
                os.write(w, work(cpu).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(w)
        children.append((pid, r))
    os.close(start_r)
    os.close(start_w)
    out = []
    for pid, r in children:
        with os.fdopen(r) as f:
            out.append(f.read())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return out


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='needs two CPUs')
@pytest.mark.parametrize('round_', range(3))
def test_two_cpus_see_the_same_new_sources(net, round_):
    """As many sources as there are addresses: each ends with one mapping, and no address leaks."""
    _, gw, _ = net
    with opened(gw, v4='10.0.2.0/23') as t:
        packets = [TEMPLATE[:8] + ipaddress.IPv6Address(source(n)).packed + TEMPLATE[24:] for n in range(1, 511)]

        def work(_):
            with gw:
                for p in packets:
                    for _ in range(3):
                        t.to4.run(t.ETH6 + p, t.ifindex)
            return ''
        on_every_cpu(work)
        given = [speak(t, n) for n in range(1, 511)]
        assert len(set(given)) == 510 and None not in given
        assert consistent(t) == {address(n): v4 for n, v4 in enumerate(given, 1)}
        # pool-full: for a moment both CPUs have taken an address for the same source
        assert set(t.drops()) <= {'mapping-busy', 'pool-full'}
        lists(t)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='needs two CPUs')
def test_two_cpus_fight_over_expiring_addresses(net):
    """Crowds of sources that relieve each other, each as large as the pool: whatever happens, the maps agree."""
    _, gw, _ = net
    with opened(gw, '-t', '1', v4='10.0.1.0/28') as t:
        start = time.monotonic()

        def work(cpu):
            rng = random.Random(cpu)
            told = set()
            while (now := time.monotonic() - start) < 8:
                n = int(now / 0.6) % 5 * 14 + rng.randrange(14)
                if speak(t, n):
                    told.add(n)
            return ' '.join(map(str, told))
        served = {n for text in on_every_cpu(work) for n in text.split()}
        assert len(served) >= 28, 'no crowd was relieved'
        owners = consistent(t)
        assert len(owners) <= 14
        time.sleep(2.5)
        again = [speak(t, 500 + n) for n in range(14)]
        assert len(set(again)) == 14 and None not in again, 'an address leaked'
        consistent(t)


def test_last_seen_is_not_written_per_packet(net):
    """Once a second at most: a packet of an existing mapping costs no map update."""
    _, gw, _ = net
    with opened(gw) as t:
        speak(t, 1)
        seen = {t.mappings()[address(1)].last_seen}
        end = time.monotonic() + 2.5
        packets = 0
        while time.monotonic() < end:
            speak(t, 1)
            packets += 1
            seen.add(t.mappings()[address(1)].last_seen)
        times = sorted(seen)
        assert packets > 20 and 2 <= len(times) <= 5
        assert all(b - a > 500_000_000 for a, b in zip(times, times[1:]))


def test_created_stays(net):
    """The time a mapping was made does not move with its use."""
    _, gw, _ = net
    with opened(gw) as t:
        speak(t, 1)
        made = t.mappings()[address(1)]
        time.sleep(1.2)
        speak(t, 1)
        now = t.mappings()[address(1)]
        assert now.created == made.created and now.last_seen > made.last_seen >= made.created
        for n in range(2, 13):
            speak(t, n)
        for m in t.mappings().values():
            assert m.last_seen >= m.created, 'its first packet came before it was made'
        assert abs(made.created - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) < 60 * 10**9
