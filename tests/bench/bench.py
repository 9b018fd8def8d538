# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast nat64 is, against plain IPv4 forwarding by the same kernel, in the same lab and the same run.

    IPv6 host h6 -- eth0 gateway eth1 -- IPv4 host h4       veth with GRO; h6 has IPv4 as well, for the comparison

Packets come from build/flood: an XDP program makes frames, the kernel's BPF_PROG_TEST_RUN gives them to the gateway's
interface as if the driver had received them, and a tc program on the far host counts and drops them. All that happens
on one CPU in one context: what is measured is the time that a packet takes from making it to the count, and neither a
scheduler nor a queue has a part in it. The median of slices of a millisecond is taken, which leaves out what the
machine does besides. A measurement is void unless every packet has arrived. Each group measures plain forwarding anew
before the translator; ratios are of neighbours in time, and their median is what is printed."""

import argparse
import collections
import contextlib
import datetime
import ipaddress
import json
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

import bpf
import chart
from lab import NAT64, Lab, checksum, embed, standard, wait_for

FLOOD, RTT = (os.path.join(TOP, 'build', tool) for tool in ('flood', 'rtt'))
FLOOD_PORT = 5678                                           # flood.h
SERVER = '192.0.2.2'                                        # h4
BEHIND4 = '198.51.100.9'                                    # a host behind h4
BEHIND6 = 'fc00:66::1:0'                                    # the first host behind h6; the others follow
PLAIN_NET, PLAIN6 = '10.16.0.0/12', '10.16.0.1'             # IPv4 hosts behind h6, for plain forwarding
POOL = '10.64.0.0'
TAYGA_PREFIX, TAYGA_HOST = '2001:db8:64::/96', '10.32.0.2'
TO4, TO6 = '6→4', '4→6'
DEVICE = '--device', 'nat64'
PORT = *DEVICE, '-i', 'eth0'      # of that device
XDP = '--xdp=veth',
MODES = {(): (), ('--fast',): ('--fast',), DEVICE: ('--device',), PORT: ('a port of --device',),
         (*PORT, '--fast'): ('a port of --device --fast',)}        # and what a row calls it
CPUS = sorted(os.sched_getaffinity(0))
ATTEMPTS = 3                                                # of a group, until no measurement is void
WELL_KNOWN = '64:ff9b::/96'
BPF_ENABLE_STATS = 32


class Void(Exception):
    """Packets did not arrive."""


# What is flooded: device of the gateway and bytes of the frame behind the Ethernet header; offsets in the frame of the
# word that tells hosts apart and of the checksums over it.
Flow = collections.namedtuple('Flow', 'dev packet word ip_checksum udp_checksum')


def udp(src, dst, proto=17, payload=18):
    """18 bytes of UDP payload: 64 bytes of Ethernet frame with IPv4, 20 bytes more with IPv6."""
    src, dst = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    body = struct.pack('!HHHH', 1234, FLOOD_PORT, 8 + payload, 0) + bytes(payload)
    pseudo = src.packed + dst.packed + struct.pack('!II', len(body), 17)
    body = body[:6] + struct.pack('!H', checksum(pseudo + body)) + body[8:]
    if src.version == 6:
        return struct.pack('!IHBB', 6 << 28, len(body), proto, 64) + src.packed + dst.packed + body
    df = 0x4000 if len(body) > 1232 else 0      # what is long would be cut
    head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(body), 1, df, 64, proto, 0) + src.packed + dst.packed
    return head[:10] + struct.pack('!H', checksum(head)) + head[12:] + body


def from6(first=BEHIND6, dst=BEHIND4, prefix=WELL_KNOWN, payload=18):
    """From IPv6 hosts, `first` and the following, to an IPv4 host."""
    return Flow('eth0', udp(first, embed(dst, prefix), payload=payload), 14 + 20, 0, 14 + 40 + 6)


def from4(first, proto=17, payload=18):
    """From an IPv4 host to `first` and the following."""
    return Flow('eth1', udp(BEHIND4, first, proto, payload), 14 + 16, 14 + 10, 14 + 20 + 6)


def padded(first):
    """The same with 2 bytes of payload, which Ethernet pads to as much."""
    return from4(first)._replace(packet=udp(BEHIND4, first, payload=2) + bytes(16))


def plain(way, payload=18):
    if way == TO6:
        return from4(PLAIN6, payload=payload)
    return Flow('eth0', udp(PLAIN6, BEHIND4, payload=payload), 14 + 12, 14 + 10, 14 + 20 + 6)


def pool_host(n, base=POOL):
    return str(ipaddress.ip_address(base) + n)


def of_first(payload=18):
    """What the first host sends, and what is sent to it."""
    return {TO4: from6(payload=payload), TO6: from4(pool_host(1), payload=payload)}


def packet_to(way):
    """What a packet of the first host has become: from its EtherType on, in hex."""
    packet = udp(pool_host(1), BEHIND4) if way == TO4 else udp(embed(BEHIND4), BEHIND6)
    return ('0800' if way == TO4 else '86dd') + packet.hex()


class Row:
    """A line of the result. unit: ns/packet and other times are better when less, all else when more."""

    def __init__(self, group, name, subject, unit, in_chart):
        self.group, self.name, self.subject, self.unit, self.in_chart = group, name, subject, unit, in_chart
        self.values, self.ratios = [], []

    def add(self, value, plain_value):
        self.values.append(value)
        if plain_value:
            less = self.unit in ('ns/packet', 'µs', 'ms')
            self.ratios.append(plain_value / value if less else value / plain_value)

    def result(self):
        return {'group': self.group, 'name': self.name, 'subject': self.subject, 'unit': self.unit,
                'chart': self.in_chart, 'median': statistics.median(self.values), 'values': self.values,
                'ratio': statistics.median(self.ratios) if self.ratios else None, 'ratios': self.ratios}


class Bench:
    def __init__(self, lab, options):
        self.lab, self.frames, self.quick = lab, options.packets, options.quick
        self.rows, self.void, self.skipped = {}, [], {}
        self.group = None
        self.h6, self.gw, self.h4 = standard(lab, mtu=1520)     # 20 more, so that both sides have 1460-byte segments
        self.gw.addr('eth0', '10.0.9.1/24')
        self.h6.addr('eth0', '10.0.9.2/24')
        self.h6.route('default', 'via', '10.0.9.1')
        self.gw.route(PLAIN_NET, 'via', '10.0.9.2')
        self.neighbours = {'eth0': self.h6, 'eth1': self.h4}
        self.ports = [(self.h6, 'eth0'), (self.gw, 'eth0'), (self.gw, 'eth1'), (self.h4, 'eth0')]
        for host, dev in self.ports:
            host.run('ethtool', '-K', dev, 'gro', 'on')
        self.sinks = {dev: int(host.run(FLOOD, 'sink', 'eth0').stdout)
                      for dev, host in (('eth0', self.h4), ('eth1', self.h6))}
        self.macs = {dev: self.gw.mac(dev).replace(':', '') for dev in self.sinks}
        # Neighbours are known before anything is measured, and used enough to stay so.
        for host, to in (self.h6, 'fc00:6::1'), (self.h6, SERVER), (self.h4, '10.0.9.2'):
            host.run('ping', '-c1', '-W5', to)

    # What is measured

    def row(self, name, value, plain_value=None, unit='ns/packet', subject='nat64', in_chart=False):
        self.rows.setdefault((self.group, name), Row(self.group, name, subject, unit, in_chart)).add(value, plain_value)
        return value

    def skip(self, what, why):
        if what not in self.skipped:
            self.skipped[what] = why
            print(f'bench: LEFT OUT: {what}: {why}', file=sys.stderr)

    def argv(self, flow, hosts, dev, action, *options, cpu=CPUS[-1]):
        frame = self.macs[flow.dev] + '020000000001' + ('86dd' if flow.packet[0] >> 4 == 6 else '0800') \
            + flow.packet.hex()
        if len(frame) > 256:        # flood.h: FRAME_MAX; what is behind is zero
            options, frame = (*options, '-l', len(frame) // 2), frame[:256]
        several = ['-h', hosts, '-a', flow.word, '-i', flow.ip_checksum, '-u', flow.udp_checksum]
        return [FLOOD, '-c', cpu, *options, *(several if hosts > 1 else []), 'send', dev, action, frame]

    def way_in(self, flow, action):
        """Where packets are made that are to come in as from a driver (pass), or by the link (tx)."""
        return (self.gw, flow.dev) if action == 'pass' else (self.neighbours[flow.dev], 'eth0')

    def send(self, flow, *, hosts=1, frames=None, rate=None, action='pass', sink=True):
        """Run build/flood: (sent, arrived, nanoseconds from the first to the last, nanoseconds for each in the median
        slice of about a millisecond). rate: (nanoseconds between frames, milliseconds)."""
        host, dev = self.way_in(flow, action)
        options = ['-g', rate[0], '-t', rate[1]] if rate else ['-n', frames or self.frames]
        options += ['-s', self.sinks[flow.dev]] if sink else []
        sent, arrived, took, each = host.run(*self.argv(flow, hosts, dev, action, *options)).stdout.split()
        return int(sent), int(arrived), int(took), float(each)

    def measure(self, what, flow, *, hosts=1, warm=True, reason=None, lossy=False, **how):
        """Nanoseconds that a packet of a flow takes. All of them must arrive; or be dropped by the translator for this
        reason; or, lossy, be lost, and those that arrive count."""
        if warm:
            self.send(flow, hosts=hosts, frames=max(hosts, 64), sink=False)
        before = self.drops(reason)
        sent, arrived, took, each = self.send(flow, hosts=hosts, sink=reason is None, **how)
        arrived += self.drops(reason) - before
        if not arrived or (arrived != sent and not lossy):
            raise Void(f'{what}: of {sent} packets {arrived} ' +
                       ('arrived' if reason is None else f'were dropped as {reason}'))
        return took / arrived if lossy else each

    def together(self, flows, action):
        """Nanoseconds from a packet to the next, of flows that come at a time, each by a CPU of its own."""
        running = []
        for cpu, flow in zip(CPUS, flows):
            host, dev = self.way_in(flow, action)
            running.append(host.start(*self.argv(flow, 1, dev, action, '-n', 3 * self.frames, cpu=cpu), stdout=subprocess.PIPE))
        return 1 / sum(1 / float(process.communicate()[0].split()[-1]) for process in running)

    def drops(self, reason):
        if reason is None:
            return 0
        with bpf.Translator(self.gw) as t:
            return t.drops().get(reason, 0)

    def plain(self, way, payload=18, **how):
        """Plain IPv4 forwarding of the same packets, now. No translator may be loaded."""
        return self.measure(f'plain {way}', plain(way, payload), **how)

    # What is measured against what

    def nat64(self, *argv):
        """Run nat64 on the gateway; milliseconds."""
        start = time.perf_counter()
        self.gw.run(NAT64, *(() if DEVICE[0] in argv else ('-i', 'eth0')), *argv)
        return (time.perf_counter() - start) * 1e3

    @contextlib.contextmanager
    def loaded(self, length=16, allow=('fc00::/8',), more=()):
        """The translator, with more options; with those of DEVICE not on eth0 alone but with a device of its own."""
        self.nat64('-4', f'{POOL}/{length}', *[a for prefix in allow for a in ('-a', prefix)], *more)
        try:
            with bpf.Translator(self.gw, DEVICE[1] if DEVICE[0] in more else 'eth0') as t:
                self.lab.seen(t)
            yield
        finally:
            self.nat64(*(DEVICE if DEVICE[0] in more else ()), '-u')

    def modes(self):
        """Options of the ways that a packet may take, as far as this nat64 has them."""
        return [mode for mode in MODES if not mode or self.option(mode[0])]

    def option(self, name):
        return re.search(rf'{name}\b', self.gw.run(NAT64, '--help').stdout)

    @contextlib.contextmanager
    def tayga(self):
        """Tayga on the gateway; None if it is not installed."""
        if not shutil.which('tayga'):
            self.skip('Tayga', 'not installed (Debian: apt-get install --no-install-recommends tayga)')
            yield None
            return
        conf = f'/run/{self.gw.ns}.tayga'
        with open(conf, 'w', encoding='ascii') as f:
            f.write(f'tun-device nat64\nipv4-addr 10.32.0.1\nprefix {TAYGA_PREFIX}\n'
                    f'map {TAYGA_HOST} {BEHIND6}\nmap 10.32.0.3 fc00:6::6\n')
        process = None
        try:
            self.gw.run('tayga', '-c', conf, '--mktun')
            self.gw.ip('link', 'set', 'nat64', 'mtu', 1520, 'up')
            self.gw.route('10.32.0.0/16', 'dev', 'nat64')
            self.gw.route(TAYGA_PREFIX, 'dev', 'nat64')
            process = self.gw.start('tayga', '-c', conf, '-d', stdout=subprocess.DEVNULL)
            wait_for(lambda: not self.h6.run('ping', '-c1', '-W1', embed(SERVER, TAYGA_PREFIX), check=False).returncode,
                     'Tayga to translate')
            yield process
        finally:
            if process:
                self.lab.end(process)
            self.gw.run('ip', 'link', 'del', 'nat64', check=False)
            os.unlink(conf)

    @contextlib.contextmanager
    def floor(self, way, device=False):
        """In place of the translator that is loaded, what none does without: the hook, the kernel's change of the
        protocol, and a header; with a device of its own also the packet's way back. For packets of the first host only,
        whose checksums stay wrong."""
        dev = DEVICE[1] if device else 'eth0'
        own = self.gw.mac(dev).replace(':', '')
        dst = own if device or way == TO4 else self.h6.mac('eth0').replace(':', '')
        frame = dst + own + packet_to(way)
        which = ('device-' if device else '') + ('6to4' if way == TO4 else '4to6')
        process = self.gw.start(FLOOD, 'floor', dev, which, frame)
        try:
            yield process.stdout.readline() == 'ready\n'
        finally:
            self.lab.end(process)

    @contextlib.contextmanager
    def xdp_sinks(self):
        """XDP programs count on the far hosts, where that of the gateway sends frames to; by tc it would be the sinks that take
        the time."""
        tc = self.sinks
        far = {'eth0': self.h4, 'eth1': self.h6}
        try:
            self.sinks = {dev: int(host.run(FLOOD, 'xdp-sink', 'eth0').stdout) for dev, host in far.items()}
            yield
        finally:
            self.sinks = tc
            for host in far.values():
                host.ip('link', 'set', 'eth0', 'xdpdrv', 'off')

    @contextlib.contextmanager
    def forwarder(self, way, translated=False):
        """An XDP program on the gateway that does nothing but send frames on; or what none does without that translates them, see
        floor(): room for the other header, and a header."""
        dev, to, far = ('eth0', 'eth1', self.h4) if way == TO4 else ('eth1', 'eth0', self.h6)
        macs = far.mac('eth0').replace(':', '') + self.macs[to]
        self.gw.run(FLOOD, 'forward', to, dev, macs)        # a veth takes frames from XDP if it has a program itself
        if translated:
            self.gw.run(FLOOD, 'translate', dev, to, macs + packet_to(way))
        else:
            self.gw.run(FLOOD, 'forward', dev, to, macs)
        try:
            yield
        finally:
            for name in dev, to:
                self.gw.ip('link', 'set', name, 'xdpdrv', 'off')

    @contextlib.contextmanager
    def steered(self, cpu):
        """The gateway's work on this CPU, one packet after the other, by receive packet steering."""
        def steer(mask):
            for dev in 'eth0', 'eth1':
                self.gw.run('ip', 'netns', 'exec', self.gw.ns, 'sh', '-c',
                            f'echo {mask} >/sys/class/net/{dev}/queues/rx-0/rps_cpus')
        steer(f'{1 << cpu:x}')
        try:
            yield
        finally:
            steer('0')

    def gateway_cpu(self):
        """The gateway's work on the first CPU, and the generator on the last."""
        return self.steered(CPUS[0])

    @contextlib.contextmanager
    def queues(self, count):
        """Links with so many queues, one for each CPU."""
        def have(n):
            for host, dev in self.ports:
                host.run('ethtool', '-L', dev, 'rx', n, 'tx', n)
        have(count)
        try:
            yield
        finally:
            have(1)

    def made(self, flow):
        """Nanoseconds to make a packet that is dropped where the stack begins: to another MAC address, it is somebody else's."""
        own, self.macs = self.macs, {flow.dev: '020000000002'}
        try:
            return self.send(flow, sink=False)[-1]
        finally:
            self.macs = own

    @contextlib.contextmanager
    def without(self, ports, *features):
        """With these offloads of some ports switched off (ethtool -K)."""
        def switch(state):
            for host, dev in ports:
                host.run('ethtool', '-K', dev, *[word for f in features for word in (f, state)])
        switch('off')
        try:
            yield
        finally:
            switch('on')


# Groups of rows: each function measures one round.

def udp64(b):
    b.row('making a frame, and nothing else', b.send(plain(TO4), action='drop', sink=False)[-1], subject='plain')
    base = {}
    for hosts, name in (1, '1 flow'), (10000, '10,000 hosts'):
        for way in TO4, TO6:
            base[way, hosts] = b.row(f'plain IPv4, {way} direction, {name}', b.plain(way, hosts=hosts), subject='plain')
    flows = of_first()
    for mode in b.modes():
        with b.loaded(more=mode):
            if not mode:
                b.row('plain IPv4 beside nat64', b.plain(TO4), base[TO4, 1])
            if mode in ((), DEVICE):
                for way, flow in flows.items():
                    with b.floor(way, mode == DEVICE) as ready:
                        if ready:
                            name = ', '.join([way, 'only the kernel\'s part', *MODES[mode]])
                            b.row(name, b.measure(name, flow), base[way, 1], subject='floor', in_chart=True)
                        else:
                            b.skip('the least that a translator takes', 'tcx: Linux 6.6')
            for hosts, name in (1, '1 flow'), (10000, '10,000 hosts'):
                for way, flow in flows.items():
                    full = ', '.join([way, name, *MODES[mode]])
                    b.row(full, b.measure(full, flow, hosts=hosts), base[way, hosts], in_chart=True)
    with b.tayga() as tayga:
        if tayga:
            flows = {TO4: from6(prefix=TAYGA_PREFIX), TO6: from4(TAYGA_HOST)}
            for way, flow in flows.items():
                b.row(f'Tayga, {way}, 1 flow', b.measure(f'Tayga {way}', flow, lossy=True), base[way, 1],
                      subject='tayga', in_chart=True)


def single(b):
    """As the rows of udp, but not in lists: with those the kernel takes 64 packets at a time through each of its steps. And
    what of it is forwarding: the rest, making a packet, is the generator's, and on another CPU with real traffic."""
    flows = of_first()
    with b.steered(CPUS[-1]):
        made = b.row('made, and dropped where the stack begins', b.made(plain(TO4)), subject='plain')
        base = {way: b.row(f'plain IPv4, {way} direction', b.plain(way), subject='plain') for way in flows}

        def rows(name, way, subject):
            value = b.row(name, b.measure(name, flows[way]), base[way], subject=subject)
            b.row(f'{name}, less the making', value - made, base[way] - made, subject=subject)
        with b.loaded():
            b.send(from6(), frames=64, sink=False)
            for way in flows:
                rows(f'{way}, 1 flow', way, 'nat64')
                with b.floor(way) as ready:
                    if ready:
                        rows(f"{way}, only the kernel's part", way, 'floor')


def short(b):
    base = b.row('plain IPv4', b.measure('plain', padded(PLAIN6)), subject='plain')
    for mode in b.modes():
        with b.loaded(more=mode):
            b.send(from6(), frames=64, sink=False)
            name = ', '.join([TO6, *MODES[mode]])
            b.row(name, b.measure(name, padded(pool_host(1))), base)


def link(b):
    base = {way: b.row(f'plain IPv4, {way} direction', b.plain(way, action='tx'), subject='plain')
            for way in (TO4, TO6)}
    with b.loaded():
        for way, flow in of_first().items():
            b.row(f'{way}, 1 flow', b.measure(way, flow, action='tx'), base[way])


def xdp(b):
    """All by the veth link, as frames come to a driver's XDP programs."""
    if not b.option('--xdp'):
        b.skip('XDP', 'this nat64 has no --xdp')
        return
    base = {}
    with b.xdp_sinks():
        for payload, size in (18, '64-byte packets'), (1472 - 20, '1500-byte packets'):
            for way in TO4, TO6:
                base[way, size] = b.row(f'plain IPv4, {way} direction, {size}', b.plain(way, payload, action='tx'), subject='plain')
        for way in TO4, TO6:
            base[way, 'hosts'] = b.row(f'plain IPv4, {way} direction, 10,000 hosts', b.plain(way, hosts=10000, action='tx'),
                                       subject='plain')
            with b.forwarder(way):
                b.row(f'a frame sent on as it is, {way} direction', b.measure('forwarder', plain(way), action='tx'),
                      base[way, '64-byte packets'], subject='floor', in_chart=True)
        for way, flow in of_first().items():
            with b.forwarder(way, translated=True):
                name = f'{way}, only room and a header, --xdp'
                b.row(name, b.measure(name, flow, action='tx'), base[way, '64-byte packets'], subject='floor')
        with b.loaded(more=XDP):
            for payload, size in (18, '64-byte packets'), (1472 - 20, '1500-byte packets'):
                for way, flow in of_first(payload).items():
                    b.row(f'{way}, {size}, --xdp', b.measure(way, flow, action='tx'), base[way, size], in_chart=True)
            b.row(f'{TO6}, 64-byte packets that are padding in part, --xdp', b.measure(TO6, padded(pool_host(1)), action='tx'),
                  base[TO6, '64-byte packets'])
            for way, flow in of_first().items():
                b.row(f'{way}, 10,000 hosts, --xdp', b.measure(way, flow, hosts=10000, action='tx'), base[way, 'hosts'], in_chart=True)
        with b.loaded(24, more=XDP):
            b.send(from6(), hosts=254, frames=254, sink=False, action='tx')
            for name, flow, reason in ('new hosts, pool full', from6('fc00:66::2:0'), 'pool-full'), \
                    ('not allowed', from6('2001:db8::2:0'), 'not-allowed'):
                b.row(f'{TO4}, {name}, --xdp', b.measure(name, flow, hosts=10000, reason=reason, action='tx'),
                      base[TO4, '64-byte packets'], in_chart=True)


def cpus(b):
    """Two CPUs against one, with a flow and a queue of the link for each."""
    if len(CPUS) < 2:
        b.skip('two CPUs', 'there is one')
        return

    def row(name, flows, action):
        one, two = b.together(flows[:1], action), b.together(flows, action)
        b.row(f'{name}: two CPUs, times one', one / two, unit='')

    ways = {TO4: [from6(), from6('fc00:66::1:1')], TO6: [from4(pool_host(1)), from4(pool_host(2))]}
    for way in ways:
        row(f'plain IPv4, {way} direction', [plain(way)] * 2, 'pass')
    with b.loaded():
        for flow in ways[TO4]:
            b.send(flow, frames=64, sink=False)
        for way, flows in ways.items():
            row(way, flows, 'pass')
    if not b.option('--xdp'):
        return
    with b.queues(2), b.xdp_sinks(), b.loaded(more=XDP):
        for flow in ways[TO4]:
            b.send(flow, frames=64, sink=False, action='tx')
        for way, flows in ways.items():
            row(f'{way}, --xdp', flows, 'tx')


def attack(b):
    base = {way: b.plain(way) for way in (TO4, TO6)}
    # Each packet from a host of its own. The allowlist is looked at for such packets only.
    for allowed in 1, 1000:
        others = [str(ipaddress.ip_network((0x20010db8_0001 + n << 80, 48))) for n in range(allowed - 1)]
        with b.loaded(12, [*others, 'fc00::/8']):
            name = f'{TO4}, new hosts' + (f', {allowed:,} allow prefixes' if allowed > 1 else '')
            b.row(name, b.measure(name, from6(), hosts=min(b.frames, 1000000), frames=min(b.frames, 1000000),
                                  warm=False), base[TO4], in_chart=True)
            if allowed > 1:
                b.row(f'{TO4}, 1 flow, {allowed:,} allow prefixes', b.measure(name, from6()), base[TO4])
    with b.loaded(24):
        b.send(from6(), hosts=254, frames=254, sink=False)
        name = f'{TO4}, new hosts, pool full'
        b.row(name, b.measure(name, from6('fc00:66::2:0'), hosts=10000, reason='pool-full'), base[TO4], in_chart=True)
        name = f'{TO4}, ordinary drop (not allowed)'
        b.row(name, b.measure(name, from6('2001:db8::2:0'), hosts=10000, reason='not-allowed'), base[TO4],
              in_chart=True)
    with b.loaded():
        b.send(from6(), frames=64, sink=False)
        name = f'{TO6}, no mapping'
        b.row(name, b.measure(name, from4(pool_host(1000)), hosts=10000, reason='no-mapping'), base[TO6],
              in_chart=True)
        name = f'{TO6}, ordinary drop (protocol)'
        b.row(name, b.measure(name, from4(pool_host(1), proto=2), reason='protocol'), base[TO6], in_chart=True)


def growth(b):
    counts = (1, 100, 10000) if b.quick else (1, 100, 10000, 1000000)
    base = {(way, hosts): b.plain(way, hosts=hosts, warm=False) for hosts in counts for way in (TO4, TO6)}
    for way in TO4, TO6:
        b.row(f'plain IPv4, {way} direction, 1 host', base[way, 1], subject='plain')
        b.row(f'plain IPv4, {way} direction, {counts[-1]:,} hosts', base[way, counts[-1]], subject='plain')
    with b.loaded(12):
        for hosts in counts:
            b.send(from6(), hosts=hosts, frames=hosts, sink=False)
            for way, flow in of_first().items():
                name = f'{way}, {hosts:,} mapping' + 's' * (hosts > 1)
                b.row(name, b.measure(name, flow), base[way, 1], in_chart=True)
                if hosts > 1:
                    b.row(f'{name}, packets of all', b.measure(name, flow, hosts=hosts, warm=False), base[way, hosts])


def static(b):
    if not b.option('--static'):
        b.skip('static prefixes', 'this nat64 has no --static')
        return
    base = {way: b.plain(way) for way in (TO4, TO6)}
    v4, v6 = int(ipaddress.ip_address('10.128.0.0')), int(ipaddress.ip_address('fc00:66:0:0:1::'))
    for count in (1, 100) if b.quick else (1, 100, 10000):
        pairs = [f'{ipaddress.ip_address(v6 + n)}/124={ipaddress.ip_address(v4 + n)}/28'
                 for n in range(0, 16 * count, 16)]
        with b.loaded(more=[word for pair in pairs for word in ('--static', pair)]):
            for way, flow in (TO4, from6('fc00:66:0:0:1::1')), (TO6, from4('10.128.0.1')):
                name = f'{way}, {count:,} static prefix' + 'es' * (count > 1)
                b.row(name, b.measure(name, flow), base[way])


def programs(b):
    """Time in each program alone, as the kernel counts it while BPF_ENABLE_STATS is held; and its size."""
    with b.loaded():
        b.send(from6(), sink=False)
        with bpf.Translator(b.gw) as t:
            held = bpf.bpf(BPF_ENABLE_STATS, bytearray(4))
            try:
                for way, prog, flow in (TO4, t.to4, from6()), (TO6, t.to6, from4(pool_host(1))):
                    before = struct.unpack_from('=QQ', bpf.info(prog.fd), 192)
                    b.measure(way, flow)
                    now = struct.unpack_from('=QQ', bpf.info(prog.fd), 192)
                    b.row(f'{prog.name}, time in the program', (now[0] - before[0]) / (now[1] - before[1]))
            finally:
                os.close(held)
            for prog in t.to4, t.to6:
                jited, xlated = struct.unpack_from('=II', raw := bpf.info(prog.fd), 16)
                b.row(f'{prog.name}, BPF instructions', xlated // 8, unit='')
                b.row(f'{prog.name}, machine code', jited, unit='bytes')
                if verified := struct.unpack_from('=I', raw, 216)[0]:       # since Linux 5.16
                    b.row(f'{prog.name}, instructions the verifier looked at', verified, unit='')


def iperf(b, address, streams, reverse):
    server = b.h4.start('iperf3', '-s', '-1', stdout=subprocess.DEVNULL)    # one that is used again may still be busy
    b.h4.listening(5201)
    done = b.h6.run('iperf3', '-c', address, '-t', 1, '-J', '-P', streams, '-A', f'{CPUS[0]},{CPUS[-1]}',
                    *['-R'] * reverse, check=False)
    b.lab.end(server)
    result = json.loads(done.stdout)
    if 'error' in result:
        raise Void(f'iperf3 {address}: {result["error"]}')
    return result['end']['sum_received']['bits_per_second'] / 1e9


def tcp(b):
    """segments: what the hosts' interfaces send, and so what the gateway's receive."""
    hosts, gateway = [b.ports[0], b.ports[3]], [b.ports[1], b.ports[2]]
    kinds = [('super-packets', 1, []), ('super-packets', 8, []), ('GRO', 1, [(hosts, 'tso', 'gso')]),
             ('GRO', 8, [(hosts, 'tso', 'gso')]),
             ('no GSO, no GRO', 1, [(hosts, 'tso', 'gso'), (gateway, 'gro')])]
    for kind, streams, off in kinds:
        with contextlib.ExitStack() as stack:
            for ports, *features in off:
                stack.enter_context(b.without(ports, *features))
            name = f'{kind}, {streams} stream' + 's' * (streams > 1)
            base = {}
            for way, reverse in (TO4, False), (TO6, True):
                base[way] = b.row(f'plain IPv4, {way} direction, {name}', iperf(b, SERVER, streams, reverse),
                                  unit='Gbit/s', subject='plain')
            modes = {mode: MODES[mode] for mode in b.modes()} | ({XDP: ('--xdp',)} if b.option('--xdp') else {})
            for mode in modes if streams == 1 else [()]:
                with b.loaded(more=mode):
                    for way, reverse in (TO4, False), (TO6, True):
                        b.row(', '.join([f'TCP {way}', name, *modes[mode]]), iperf(b, embed(SERVER), streams, reverse), base[way],
                              'Gbit/s', in_chart=True)
            with b.tayga() if streams == 1 and 'no' not in kind else contextlib.nullcontext() as tayga:
                for way, reverse in ((TO4, False), (TO6, True)) if tayga else ():
                    b.row(f'Tayga, TCP {way}, {name}', iperf(b, embed(SERVER, TAYGA_PREFIX), streams, reverse),
                          base[way], 'Gbit/s', 'tayga', in_chart=True)


def latency(b):
    """A request to h4 and its answer, over TCP, while the gateway forwards 64-byte packets on one CPU at half the rate
    that plain forwarding is capable of."""
    b.h4.start(RTT, 'serve', SERVER, 7777)
    b.h4.listening(7777)
    gap = int(2 * b.plain(TO4))
    seconds = 0.3 if b.quick else 1

    def ask(address, flow):
        load = b.gw.start(*b.argv(flow, 1, 'eth0', 'pass', '-g', gap, '-t', int(seconds * 1000) + 500),
                          stdout=subprocess.DEVNULL)
        time.sleep(0.2)
        asked = b.h6.run(RTT, 'ask', address, 7777, seconds, check=False)
        b.lab.end(load)
        if asked.returncode:
            raise Void(f'requests to {address}: {asked.stderr.strip()}')
        return [float(n) for n in asked.stdout.split()[1:]]

    with b.gateway_cpu():
        names = 'median', '99th percentile'
        base = [b.row(f'plain IPv4, {name}', value, unit='µs', subject='plain')
                for name, value in zip(names, ask(SERVER, plain(TO4)))]
        with b.loaded():
            for name, value, plain_value in zip(names, ask(embed(SERVER), from6()), base):
                b.row(f'request under load, {name}', value, plain_value, 'µs', in_chart=True)


def throughput(b):
    """In the manner of RFC 8219 section 7.1: the highest rate at which no more than 0.001 % of the packets are lost, by
    bisection. A trial that fails may be repeated twice: on a small machine something else runs now and then."""
    top = 2e9 / b.plain(TO4)
    trial = 100 if b.quick else 250

    def search(flow):
        low, high, best = 0, top, 0
        for _ in range(7):
            rate = (low + high) / 2
            for _ in range(3):
                sent, arrived, took, _ = b.send(flow, rate=(round(1e9 / rate), trial))
                if passed := sent - arrived <= sent * 1e-5:
                    break
            if passed:
                low, best = rate, max(best, sent / took * 1e3)
            else:
                high = rate
        return best

    with b.gateway_cpu():
        base = {way: b.row(f'plain IPv4, {way} direction', search(plain(way)), unit='Mpps', subject='plain')
                for way in (TO4, TO6)}
        with b.loaded():
            b.send(from6(), frames=64, sink=False)
            for way, flow in of_first().items():
                b.row(f'throughput {way} at 0.001 % loss', search(flow), base[way], 'Mpps', in_chart=True)
                with b.floor(way) as ready:
                    if ready:
                        b.row(f"throughput {way}, only the kernel's part", search(flow), base[way], 'Mpps', subject='floor')


def mirror(b):
    """New hosts at a gateway, whose mappings another one mirrors; both processes and the generator share the CPUs."""
    if not b.option('--mirror'):
        b.skip('mirrored mappings', 'this nat64 has no --mirror')
        return
    rate, seconds = 100000, 0.5 if b.quick else 3
    hosts = int(rate * seconds)
    other = standard(b.lab)[1]
    options = ['-i', 'eth0', '-4', f'{POOL}/12', '-a', 'fc00::/8']
    with b.loaded(12):
        base = b.measure('new hosts', from6(), hosts=hosts, frames=hosts, warm=False)
    live = lambda: json.loads(other.run(NAT64, '-i', 'eth0', '--status', '--json').stdout)['translators'][0]['mappings']['live']
    with b.loaded(12), tempfile.TemporaryDirectory() as tmp:
        other.run(NAT64, *options)
        os.mkfifo(f'{tmp}/fifo')
        with open(os.open(f'{tmp}/fifo', os.O_RDWR), 'wb') as fifo:
            reader = other.start(NAT64, '-i', 'eth0', '--mirror', f'{tmp}/fifo', '-v')
            writer = b.gw.start(NAT64, '-i', 'eth0', '--monitor', '--json', '--snapshot', stdout=fifo)
        reader.stdout.readline()
        name = f'{TO4}, {rate:,} new hosts a second, mirrored'
        sent, arrived, _, _ = b.send(from6(), hosts=hosts, rate=(10**9 // rate, int(seconds * 1000)))
        start = time.perf_counter()
        if sent != arrived:
            raise Void(f'{name}: of {sent} packets {arrived} arrived')
        wait_for(lambda: live() >= min(sent, hosts), 'the mirror')
        b.row(f'{name}: behind in the end', (time.perf_counter() - start) * 1e3, unit='ms')
        b.row(f'{TO4}, new hosts, mirrored', b.measure('new hosts, mirrored', from6('fc00:66::1000:0'), hosts=hosts, frames=hosts,
                                                       warm=False), base)
        b.lab.end(writer)
        b.lab.end(reader)
        other.run(NAT64, '-i', 'eth0', '-u')


def load(b):
    for length in 24, 16, 12:
        b.row(f'load, /{length}', b.nat64('-4', f'{POOL}/{length}', '-a', 'fc00::/8'), unit='ms')
        with bpf.Translator(b.gw) as t:
            b.lab.seen(t)
        b.row(f'unload, /{length}', b.nat64('-u'), unit='ms')


# Name, function, title, rounds at the most.
GROUPS = {name: (function, title, most) for name, function, title, most in [
    ('udp', udp64, '64-byte UDP packets', 99),
    ('single', single, '64-byte UDP packets one by one, not in lists', 99),
    ('short', short, '64-byte UDP packets that are padding in part', 99),
    ('link', link, '64-byte UDP packets that come over the veth link, its NAPI and GRO', 99),
    ('xdp', xdp, 'By XDP, over the veth link; the far host counts by XDP, too', 99),
    ('cpus', cpus, 'Two CPUs', 99),
    ('attack', attack, 'New hosts; what a scan or an attack costs', 99),
    ('growth', growth, 'How cost grows', 99),
    ('static', static, 'Static prefixes', 99),
    ('programs', programs, 'The programs alone', 99),
    ('tcp', tcp, 'TCP, 1460-byte segments', 5),
    ('latency', latency, 'Latency of a 64-byte request, gateway half loaded', 5),
    ('rfc8219', throughput, 'Throughput, gateway on a CPU of its own', 5),
    ('mirror', mirror, 'Mappings mirrored to another gateway; ratio to the same without a mirror', 3),
    ('load', load, 'Loading and unloading', 99),
]}

# What the rows say about each other: how many times faster the first is than the second.
COMPARISONS = [
    *[(f'{what}: 10,000 hosts against 1 flow', ('udp', f'{what}, 10,000 hosts'), ('udp', f'{what}, 1 flow'))
      for way in (TO4, TO6) for what in (way, f'plain IPv4, {way} direction')],
    *[(f'{way}: {many} against 1', ('growth', f'{way}, {many}'), ('growth', f'{way}, 1 mapping'))
      for many in ('1,000,000 mappings', '1,000,000 mappings, packets of all') for way in (TO4, TO6)],
    *[(f'plain IPv4, {way} direction: packets of 1,000,000 hosts against 1',
       ('growth', f'plain IPv4, {way} direction, 1,000,000 hosts'), ('growth', f'plain IPv4, {way} direction, 1 host'))
      for way in (TO4, TO6)],
    (f'{TO4}: pool full against an ordinary drop', ('attack', f'{TO4}, new hosts, pool full'),
     ('attack', f'{TO4}, ordinary drop (not allowed)')),
    (f'{TO6}: no mapping against an ordinary drop', ('attack', f'{TO6}, no mapping'),
     ('attack', f'{TO6}, ordinary drop (protocol)')),
    *[(f'{way}: packets, against Tayga', ('udp', f'{way}, 1 flow'), ('udp', f'Tayga, {way}, 1 flow'))
      for way in (TO4, TO6)],
    *[(f'{way}: TCP, {kind}, against Tayga', ('tcp', f'TCP {way}, {kind}, 1 stream'),
       ('tcp', f'Tayga, TCP {way}, {kind}, 1 stream')) for kind in ('super-packets', 'GRO') for way in (TO4, TO6)],
]


def comparisons(rows):
    out = {}
    for name, one, other in COMPARISONS:
        if one in rows and other in rows:
            a, b = (statistics.median(rows[key].values) for key in (one, other))
            out[name] = b / a if rows[one].unit == 'ns/packet' else a / b
    return out


def machine():
    with open('/proc/cpuinfo', encoding='utf-8') as f:
        model = re.search(r'^(?:model name|Model)\s*: (.*)', f.read(), re.M)
    return {'cpu': model[1] if model else platform.machine(), 'cpus': len(CPUS), 'kernel': platform.release(),
            'nat64': subprocess.run([NAT64, '--version'], capture_output=True, text=True, check=True).stdout.strip(),
            'date': datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d')}


def measure(b, groups, rounds):
    """All rounds of all groups, one after the other. A void measurement has its group done again."""
    failed = []
    for n in range(rounds):
        for name in groups:
            function, _, most = GROUPS[name]
            if n >= most or name in failed:
                continue
            b.group = name
            for attempt in range(1, ATTEMPTS + 1):
                print(f'\rbench: round {n + 1} of {rounds}: {name:20}', end='', file=sys.stderr, flush=True)
                try:
                    function(b)
                    break
                except Void as void:
                    b.void.append(f'{name}: {void}')
                    print(f'\nbench: VOID: {b.void[-1]}', file=sys.stderr)
                    if attempt == ATTEMPTS:
                        failed.append(name)
                finally:
                    for process in list(b.lab.processes):
                        b.lab.end(process)
    print('\r' + ' ' * 50 + '\r', end='', file=sys.stderr, flush=True)
    return failed


def table(result):
    """The result for people."""
    width = max(len(row['name']) for row in result['rows']) + 2
    group = None
    for row in result['rows']:
        if row['group'] != group:
            group = row['group']
            print(f'\n{GROUPS[group][1]:{width}} {"median":>9} {"":10} {"lowest":>9} {"highest":>9}   to plain IPv4')
        digits = 0 if float(row['median']).is_integer() else 2 if row['median'] < 100 else 1
        low, median, high = (f'{v:9.{digits}f}' for v in (min(row['values']), row['median'], max(row['values'])))
        ratio = f'{row["ratio"]:10.3f}' if row['ratio'] is not None else ''
        print(f'{row["name"]:{width}} {median} {row["unit"]:10} {low} {high}   {ratio}'.rstrip())
    if result['comparisons']:
        print('\nTimes as fast')
        for name, ratio in result['comparisons'].items():
            print(f'{name:{width}} {ratio:9.2f}')
    for name, why in result['left out'].items():
        print(f'\nLEFT OUT: {name}: {why}')


def write(path, text):
    """A file that belongs to whom its directory belongs: the benchmark runs as root, the next make may not."""
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)
    owner = os.stat(os.path.dirname(os.path.abspath(path)))
    os.chown(path, owner.st_uid, owner.st_gid)
    print(f'wrote {path}')


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0],
                                formatter_class=argparse.RawTextHelpFormatter,
                                epilog='\n'.join(f'  {name:10}{title}' for name, (_, title, _) in GROUPS.items()))
    p.add_argument('--rounds', type=int, default=5, metavar='N', help='default 5; groups that take long have fewer')
    p.add_argument('--rows', default=','.join(GROUPS), metavar='GROUP,...', help='these groups only')
    p.add_argument('--packets', type=int, metavar='N', help='packets of one measurement; default 200000')
    p.add_argument('--quick', action='store_true', help='fewer of everything: to see that it works, not how fast it is')
    p.add_argument('--json', default=os.path.join(TOP, 'build', 'bench.json'), metavar='FILE')
    p.add_argument('--svg', default=os.path.join(TOP, 'build', 'bench.svg'), metavar='FILE')
    options = p.parse_args()
    options.packets = options.packets or (20000 if options.quick else 200000)
    groups = [g.strip() for g in options.rows.split(',')]
    if unknown := [g for g in groups if g not in GROUPS]:
        p.error(f'no such group: {", ".join(unknown)} (there are {", ".join(GROUPS)})')
    if options.rounds < 1 or options.packets < 1000:
        p.error('at least 1 round of 1000 packets')
    if os.geteuid():
        p.error('network namespaces take root: sudo make bench')
    if len(CPUS) < 2:
        print('bench: one CPU only: rows where the gateway should have its own say little', file=sys.stderr)

    start = time.monotonic()
    with Lab() as lab:
        b = Bench(lab, options)
        failed = measure(b, groups, options.rounds)
        result = {'machine': machine(), 'rounds': options.rounds, 'packets': options.packets,
                  'seconds': round(time.monotonic() - start), 'rows': [row.result() for row in b.rows.values()],
                  'comparisons': comparisons(b.rows), 'left out': b.skipped, 'void': b.void, 'failed': failed}
    if result['rows']:
        table(result)
        print()
        write(options.json, json.dumps(result, indent=1, ensure_ascii=False) + '\n')
        write(options.svg, chart.svg(result))
    for name in failed:
        print(f'bench: {name}: packets did not arrive, {ATTEMPTS} times: no number to trust', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
