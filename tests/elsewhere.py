#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""elsewhere.py - the RFC's table and random packets for machines on which Python would be too slow.

usage: elsewhere.py ask PACKETS SEED [CONFIGURATIONS] >ASKED    then, there, as root: testrun <ASKED >ANSWERED
       elsewhere.py compare ASKED ANSWERED

tests/testrun.c runs the programs there and knows nothing of translation. What must come out is said here, by test_rfc.py,
oracle.py and fuzz.py, as for tests on this machine. With CONFIGURATIONS only so many are loaded for each: of the RFC's table those
with the most cases.
"""

import collections
import contextlib
import dataclasses
import itertools
import os
import random
import struct
import sys

import fuzz
import generator
import oracle
import test_rfc
from bpf import DROPS
from frames import Frames, is_frame, is_plain

# MAC addresses: the gateway's on its two sides, and those of the hosts there.
MAC = {name: f'02:00:00:00:00:{n:02x}' for n, name in enumerate(('gw6', 'h6', 'gw4', 'h4'), 1)}

# lab.standard() and what Bench has beyond it, in one network namespace and two for its hosts.
TOPOLOGY = [
    'ip netns add h6 && ip netns add h4',
    *(f"{where}sh -c 'for c in all default; do echo 0 >/proc/sys/net/ipv6/conf/$c/accept_dad; done; "
      "echo 0 >/proc/sys/net/ipv6/conf/default/router_solicitations; ip link set lo up'"
      for where in ('', 'ip netns exec h6 ', 'ip netns exec h4 ')),
    'echo 1 >/proc/sys/net/ipv4/ip_forward && echo 1 >/proc/sys/net/ipv6/conf/all/forwarding',
    f'ip link add eth0 address {MAC["gw6"]} mtu 65535 type veth peer name eth0 address {MAC["h6"]} mtu 65535 netns h6',
    f'ip link add eth1 address {MAC["gw4"]} type veth peer name eth0 address {MAC["h4"]} netns h4',
    'ip -n h6 link set eth0 up && ip -n h4 link set eth0 up && ip link set eth0 up && ip link set eth1 up',
    'ip addr add fc00:6::1/64 dev eth0 nodad && ip addr add 192.0.2.1/24 dev eth1',
    f'ip neigh replace fc00:6::6 lladdr {MAC["h6"]} dev eth0 && ip neigh replace 192.0.2.2 lladdr {MAC["h4"]} dev eth1',
    'ip route add fc00:66::/64 via fc00:6::6 && ip route add 198.51.100.0/24 via 192.0.2.2',
]
# Those of Fuzz.
ROUTES = [
    'ip link set eth0 mtu 1500 && ip -n h6 link set eth0 mtu 1500',
    'ip route add fc00:6::6/128 dev eth0 && ip route add default via fc00:6::6 && ip route add default via 192.0.2.2',
    'ip route add fc00:6::/65 via fc00:6::6 && ip route add fc00:6:0:0:8000::/65 via fc00:6::6',
]


class Asked(Exception):
    """There is no answer yet."""


Answer = collections.namedtuple('Answer', 'verdict frame index counts out')


class Guest:
    """The other machine: lines for it, and if they are answered already, its answers."""

    def __init__(self, asked=None, answers=None):
        self.asked, self.answers = asked, answers

    def tell(self, line):
        if self.answers is None:
            print(line)
        else:
            assert next(self.asked, '') == line + '\n', 'other packets have been asked for'

    def run(self, program, ifname, frame, tries=1, pieces=0):
        self.tell(f'run {program} {ifname} {tries} {pieces} {frame.hex()}')
        if self.answers is None:
            raise Asked
        words = next(self.answers, '').split()
        if not words:
            raise EOFError('the answers end here')
        if words[0] == 'error':
            raise OSError(int(words[1]), os.strerror(int(words[1])))
        at = words.index('out')
        return Answer(int(words[0]), bytes.fromhex(words[1]), None if words[3] == '-' else int(words[3]),
                      [tuple(map(int, word.split(':'))) for word in words[5:at]], [*map(bytes.fromhex, words[at + 1:])])


def raw(mac):
    return bytes.fromhex(mac.replace(':', ''))


class Translator:
    """bpf.Translator of another machine, as far as tests ask it, and the wire on which pieces come out."""

    def __init__(self, guest):
        self.guest, self.pieces, self.came = guest, 0, []
        self.total = [0] * (4 + 2 * len(DROPS))
        self.owner, self.index = None, None         # the source of the last IPv6 packet, and its mapping
        self.maps = {'by_v6': self}

    def run(self, program, ifname, header, packet, tries=1):
        answer = self.guest.run(program, ifname, header + packet, tries, self.pieces)
        for at, more in answer.counts:
            self.total[at] += more
        self.owner, self.index = packet[8:24], answer.index
        self.came += answer.out
        return answer.verdict, answer.frame

    def run64(self, packet):
        self.came = []
        verdict, frame = self.run('nat64_6to4', 'eth0', raw(MAC['gw6']) + raw(MAC['h6']) + b'\x86\xdd', packet)
        return verdict, frame[14:]

    def run46(self, packet):
        self.came = []
        verdict, frame = self.run('nat64_4to6', 'eth0', raw(MAC['gw6']) + raw(MAC['h6']) + b'\x08\x00', packet)
        return verdict, frame[14:]

    def stats(self):
        drops = self.total[4:4 + len(DROPS)], self.total[4 + len(DROPS):]
        return {'packets': self.total[0:2], 'bytes': self.total[2:4],
                'drops': [{name: n for name, n in zip(DROPS, way) if n} for way in drops]}

    def lookup(self, key):
        assert key == self.owner, 'nobody has asked whether that host has a mapping'
        return self.index if self.index is None else struct.pack('=I', self.index)

    def read(self, _):
        return self.came.pop(0) if self.came else None


class Bench(test_rfc.Bench):
    """The RFC's table."""

    def __init__(self, guest):
        self.guest, self.device, self.port = guest, False, False
        self.t = self.wire = Translator(guest)
        self.now = self.mtu = None

    def use(self, options, mtu):
        if self.now != (options, mtu):
            more = '' if '--icmp-rate' in options else ' --icmp-rate 1000000'
            self.guest.tell(f'sh ip link set eth0 mtu {mtu} && '
                            f'"$NAT64" -i eth0 -4 10.0.1.0/24 -a fc00::/8 {" ".join(options)}{more} >&2')
            self.configure(options, mtu)


def table(guest, configurations):
    """The table's cases; returns how many, and what is wrong with some."""
    cases, wrong = test_rfc.CASES, []
    count = collections.Counter((c.mtu, c.options) for c in cases.values())
    used = [key for key, _ in count.most_common(configurations)]
    names = sorted((name for name, c in cases.items() if (c.mtu, c.options) in used),
                   key=lambda name: used.index((cases[name].mtu, cases[name].options)))
    b = Bench(guest)
    b.use((), 1500)
    for number, v6 in enumerate((test_rfc.H6, test_rfc.B6), 1):
        with contextlib.suppress(Asked):
            b.t.run64(test_rfc.p6(test_rfc.l4(test_rfc.UDP, test_rfc.udp(), v6, test_rfc.S6), src=v6))
            assert b.t.index == number, 'the first hosts get the first addresses'
    for name in names:
        want = cases[name].want
        b.t.pieces = len(want) - 1 if want and isinstance(want[0], bytes) else 0
        try:
            test_rfc.test_case(b, name)
        except Asked:
            pass
        except (AssertionError, OSError) as error:
            wrong.append(f'{name}: {error}')
    guest.tell('sh "$NAT64" -i eth0 -u >&2')
    return len(names), wrong


class RemoteFrames(Frames):
    """The XDP programs of another machine."""

    def __init__(self, t):
        self.t, self.count = t, collections.Counter()
        mac = {name: raw(address) for name, address in MAC.items()}
        self.header = {'6to4': mac['gw6'] + mac['h6'] + b'\x86\xdd', '4to6': mac['gw4'] + mac['h4'] + b'\x08\x00'}
        self.sent = {'6to4': mac['h4'] + mac['gw4'] + b'\x08\x00', '4to6': mac['h6'] + mac['gw6'] + b'\x86\xdd'}

    def run(self, way, packet, header=None, tries=3):
        return self.t.run(f'nat64_xdp_{way}', {'6to4': 'eth0', '4to6': 'eth1'}[way], self.header[way], packet, tries)


class Fuzz(fuzz.Fuzz):
    """Random packets."""

    def __init__(self, guest, fields, options):
        self.cfg, self.device = fuzz.configuration(fields), None
        guest.tell(f'sh "$NAT64" -i eth0 -4 {fuzz.POOL} -a {fuzz.ALLOWED} {" ".join(options)} --icmp-rate 1000000 '
                   '--xdp=veth >&2')
        self.t = self.wire = Translator(guest)
        self.frames = RemoteFrames(self.t)
        self.cfg.allocate = self.mapping_of
        for number in range(fuzz.HOSTS):
            v6 = fuzz.host(number)
            with contextlib.suppress(Asked):
                self.t.run64(fuzz.hello(self.cfg, v6))
                assert self.t.index == number + 1, 'the first hosts get the first addresses'
            self.cfg.mappings[v6] = self.cfg.v4_prefix[number + 1]
        # As it is now: what is asked must not depend on the answers.
        self.first = dataclasses.replace(self.cfg, mappings=dict(self.cfg.mappings), allocate=lambda v6: None)

    def packets(self, rng):
        """(way, packet) without end."""
        streams = [generator.packets(self.first, rng, way, max_len=fuzz.MAX_LEN) for way in generator.WAYS]
        for way, stream in itertools.cycle(zip(generator.WAYS, streams)):
            packet = next(stream)
            want = oracle.xlat46(self.first, packet) if way == '4to6' else None
            self.pieces = max(len(want.packets) - 1, 0) if want and want.verdict == 'translated' else 0
            yield way, packet

    def run(self, way, packet):
        self.t.pieces = self.pieces
        try:
            return super().run(way, packet)
        finally:
            self.t.pieces = 0

    def ask(self, way, packet):
        """All that check() asks."""
        if is_frame(way, packet):
            with contextlib.suppress(Asked):
                self.run(way, packet)
            with contextlib.suppress(Asked):
                self.frames.run(way, packet, tries=3 if is_plain(way, packet) else 1)


def at_random(guest, total, seed, configurations):
    """Random packets; returns how many, and what is wrong with some."""
    wrong, done = [], 0
    used = fuzz.CONFIGS[:configurations]
    for command in ROUTES:
        guest.tell(f'sh {command}')
    for number, (fields, options) in enumerate(used):
        f = Fuzz(guest, fields, options)
        for way, packet in itertools.islice(f.packets(random.Random(f'{seed} {number}')), -(-total // len(used))):
            done += 1
            if guest.answers is None:
                f.ask(way, packet)
            elif what := f.check(way, packet):
                wrong.append(f'configuration {number} {" ".join(options)}, {way}: {what}\n  in   {packet.hex()}')
        guest.tell('sh "$NAT64" -i eth0 -u >&2')
    return done, wrong


def both(guest, total, seed, configurations=None):
    """All that is asked; compares, if it is answered. Returns whether nothing is wrong."""
    total, configurations = int(total), configurations and int(configurations)
    guest.tell(f'sh : {total} {seed} {configurations or ""}')
    for command in TOPOLOGY:
        guest.tell(f'sh {command}')
    guest.tell('wire h6 eth0')
    right = True
    for what, (done, wrong) in (('cases of the table', table(guest, configurations)),
                                (f'random packets, seed {seed}', at_random(guest, total, seed, configurations))):
        if guest.answers is not None:
            print('\n'.join(wrong[:20] + [f'{done} {what}: {len(wrong)} wrong']))
            right = right and not wrong
    return right


def main(argv):
    if len(argv) in (3, 4) and argv[0] == 'ask':
        both(Guest(), *argv[1:])
        return 0
    if len(argv) == 3 and argv[0] == 'compare':
        with open(argv[1], encoding='ascii') as asked, open(argv[2], encoding='ascii') as answers:
            how = asked.readline().split()[2:]
            asked.seek(0)
            try:
                return 0 if both(Guest(asked, answers), *how) else 1
            except (EOFError, AssertionError) as error:
                print(error)
                return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
