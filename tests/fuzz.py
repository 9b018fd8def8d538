#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""fuzz.py - random packets through the BPF programs and through the oracle; every difference is shown.

usage: fuzz.py [PACKETS [SEED]]         default: 1000000, and a seed of the day's time, which is printed

Needs root: it loads the translator into network namespaces of its own, in one configuration after the other, and runs
the programs with BPF_PROG_TEST_RUN. Pieces of a packet that is cut leave through the interface and are caught there. At an
interface, the programs of --xdp see each packet too, behind those at tc.
"""

import contextlib
import ipaddress
import itertools
import random
import struct
import sys
import time

import bpf
import generator
import oracle
from frames import Frames, is_frame, known_hops, trim
from lab import Lab, Wire, patience, standard

OK, SHOT, UNSPEC, REDIRECT = 0, 2, -1, 7

# Options of nat64, and the same for the oracle.
CONFIGS = [
    ({}, []),
    ({'v6_prefix': '2001:db8::/32'}, ['-6', '2001:db8::/32']),
    ({'v6_prefix': '2001:db8:100::/40', 'tos': 0}, ['-6', '2001:db8:100::/40', '--tos', '0']),
    ({'v6_prefix': '2001:db8:122::/48', 'tclass': 0x28}, ['-6', '2001:db8:122::/48', '--tclass', '0x28']),
    ({'v6_prefix': '2001:db8:122:300::/56'}, ['-6', '2001:db8:122:300::/56']),
    ({'v6_prefix': '2001:db8:122:344::/64', 'lowest_ipv6_mtu': 1400},
     ['-6', '2001:db8:122:344::/64', '--lowest-ipv6-mtu', '1400']),
    ({'v6_prefix': '2001:db8:122:344::/96', 'icmp_src': '192.0.2.77'},
     ['-6', '2001:db8:122:344::/96', '--icmp-src', '192.0.2.77']),
    ({'wkp_strict': True}, ['--wkp-strict']),
]
POOL, ALLOWED = '10.0.1.0/24', 'fc00::/8'
MAX_LEN = 3500  # what BPF_PROG_TEST_RUN takes is a little less than a page
GATEWAY = {ipaddress.IPv6Address(a) for a in ('fc00:6::1', 'fc00:6::')}     # the second is the routers' anycast address
HOSTS = 8       # with a mapping from the start


def configuration(fields):
    kind = {'v6_prefix': ipaddress.IPv6Network, 'icmp_src': ipaddress.IPv4Address}
    return oracle.Config(v4_prefix=ipaddress.IPv4Network(POOL), allowed=[ipaddress.IPv6Network(ALLOWED)],
                         **{k: kind.get(k, lambda v: v)(v) for k, v in fields.items()})


def host(number):
    """One of those with a mapping from the start."""
    return ipaddress.IPv6Address(f'fc00:6::{0x600 + number:x}')


def hello(cfg, v6):
    """Its first packet."""
    return bytes.fromhex('60000000 0008 3b40') + v6.packed + \
        oracle.embed(cfg.v6_prefix, ipaddress.IPv4Address('8.8.8.8')).packed + bytes(8)


class Fuzz:
    """One configuration, loaded."""

    def __init__(self, lab, fields, options, device=None):
        self.cfg = configuration(fields)
        self.device = device
        h6, self.gw, h4 = standard(lab)
        self.gw.route('default', 'via', 'fc00:6::6')      # whatever host a generator thinks of is behind h6
        self.gw.route('fc00:6::6/128', 'dev', 'eth0')
        self.gw.route('fc00:6::/65', 'via', 'fc00:6::6')
        self.gw.route('fc00:6:0:0:8000::/65', 'via', 'fc00:6::6')
        self.gw.ip('neigh', 'replace', 'fc00:6::6', 'lladdr', h6.mac('eth0'), 'dev', 'eth0')
        for _ in range(2 if device else 1):     # then the device is there, and can have another MTU
            self.gw.load(*options, '--icmp-rate', '1000000', *[] if device else ['--xdp=veth'], v4=POOL, allow=(ALLOWED,),
                         device=device)
            if device:
                self.gw.ip('link', 'set', device, 'mtu', self.cfg.mtu)
        self.t = bpf.Translator(self.gw, device or 'eth0')
        known_hops(h6, self.gw, h4)
        self.frames = None if device else Frames(h6, self.gw, h4, self.t)
        self.wire = Wire(h6, 'eth0')
        self.cfg.allocate = self.mapping_of
        for v6 in map(host, range(HOSTS)):
            self.t.run64(hello(self.cfg, v6))
            self.cfg.mappings[v6] = self.mapping_of(v6)
            assert self.cfg.mappings[v6], 'a host that is allowed got no mapping'

    def close(self):
        if self.frames:
            self.frames.close()
        self.t.close()
        self.wire.close()

    def mapping_of(self, v6):
        index = self.t.maps['by_v6'].lookup(v6.packed)
        return index and self.cfg.v4_prefix[struct.unpack('=I', index)[0]]

    def drops(self):
        return {(way, name): n for way in (0, 1) for name, n in self.t.stats()['drops'][way].items()}

    def run(self, way, packet):
        """(verdict, packets, reason) of the programs."""
        if len(packet) < (40 if way == '6to4' else 20):     # BPF_PROG_TEST_RUN takes no such thing
            return 'pass', [], []
        before = self.drops()
        run = self.t.run64 if way == '6to4' else self.t.run46
        act, out = run(packet)
        reasons = [r for (_, r), n in self.drops().items() if n != before.get((_, r), 0)]
        if act == UNSPEC:
            return 'pass', [], reasons
        if reasons:
            return 'drop', [out] if act == REDIRECT else [], reasons
        return 'translated', [out], reasons

    def check(self, way, packet):
        """None, or what is different."""
        if self.device and way == '4to6' and packet[8:9] == b'\xff':
            return None             # no packet has such a TTL that was forwarded to the device
        known = set(self.cfg.mappings)
        try:
            verdict, out, reasons = self.run(way, packet)
            if self.frames and is_frame(way, packet):
                self.frames.check(way, packet, tc=(SHOT if verdict == 'drop' else OK, out[0] if out else b'', reasons))
        except OSError as error:
            return str(error)
        except AssertionError as error:
            return f'by XDP: {error}'
        if reasons == ['too-big'] and way == '4to6' and len(packet) > self.cfg.mtu - 20 and \
                (packet[6] & 0x40 or len(packet) > struct.unpack_from('!H', packet, 2)[0]):
            return None             # the stack answers DF=1 and cuts off link padding before packets come so far
        if reasons == ['no-route'] and self.cfg.owner(ipaddress.IPv4Address(packet[16:20])) in GATEWAY:
            return None             # a host that said it was the gateway got a mapping, and gets nothing from it
        want = (oracle.xlat64 if way == '6to4' else oracle.xlat46)(self.cfg, packet)
        if self.device and way == '4to6' and verdict == 'translated':
            if want.reason == 'too-big':
                return None         # by the stack, at the interface that it is to leave by
            out[0] = out[0][:7] + bytes((out[0][7] - 1,)) + out[0][8:]      # the stack takes a hop
        if want.verdict == 'translated' and len(want.packets) > 1:
            out += filter(None, (self.wire.read(patience(5)) for _ in want.packets[1:]))
        answer, out = (out, []) if verdict == 'drop' else ([], out)
        answer = [trim(p) for p in answer]
        if verdict != ('drop' if want.verdict == 'error' else want.verdict) or \
                (want.reason and reasons != [want.reason]):
            return f'{verdict} {reasons}, oracle: {want.verdict} {want.reason}'
        wanted = [want.answer] if want.answer else []
        if len(answer) != len(wanted) or not all(map(oracle.same, answer, wanted)):
            return f'answered: {[p.hex() for p in answer]}\n  want {want.icmp_error} {[p.hex() for p in wanted]}'
        if want.verdict == 'translated' and not want.matches([trim(p) for p in out]):
            return 'other bytes: ' + '\n  got  '.join([''] + [trim(p).hex() for p in out]) + \
                '\n  want '.join([''] + [p.hex() for p in want.packets])
        if way == '6to4' and want.verdict != 'translated' and len(packet) >= 40:
            src = ipaddress.IPv6Address(packet[8:24])
            if src not in known and self.mapping_of(src):
                return f'a mapping for {src}, though the packet was dropped'
        return None


def fuzz(total, seed, max_differences=20, say=print):
    """Runs `total` packets; returns the number of differences."""
    differences, done, by_xdp, start = 0, 0, 0, time.monotonic()
    per = -(-total // (2 * len(CONFIGS)))
    for number, ((fields, options), device) in enumerate(itertools.product(CONFIGS, (None, 'nat64'))):
        with Lab() as lab, contextlib.ExitStack() as stack:
            f = Fuzz(lab, fields, options, device)
            stack.callback(f.close)
            rng = random.Random(f'{seed} {number}')
            streams = {way: generator.packets(f.cfg, rng, way, max_len=MAX_LEN) for way in generator.WAYS}
            for i in range(per):
                way = generator.WAYS[i & 1]
                packet = next(streams[way])
                what = f.check(way, packet)
                done += 1
                if what:
                    differences += 1
                    say(f'seed {seed}, configuration {number} {" ".join(options)} {device or ""}, packet {i}, {way}: {what}\n'
                        f'  in   {packet.hex()}')
                    if differences >= max_differences:
                        return differences
            if f.frames:
                by_xdp += f.frames.count[bpf.XDP_REDIRECT]
    rate = done / (time.monotonic() - start)
    say(f'seed {seed}: {done} packets, {by_xdp} of them by XDP too, {differences} differences, {rate:.0f} packets a second')
    return differences


if __name__ == '__main__':
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
    sys.exit(1 if fuzz(count, sys.argv[2] if len(sys.argv) > 2 else str(int(time.time()))) else 0)
