# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: hosts in network namespaces, links between them, nat64 on one of them, and a watch over what it leaves.

    with Lab() as lab:
        a, b = lab.hosts('a', 'b')
        lab.link(a, 'eth0', b, 'eth0', mtu=9000)
        a.addr('eth0', '192.0.2.1/24')
        b.addr('eth0', '192.0.2.2/24')
        a.run('ping', '-c1', '192.0.2.2')

Inside `with host:` this thread is in the host's network namespace, with all that it starts and opens."""

import collections
import contextlib
import ctypes
import ipaddress
import itertools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

import bpf

NAT64 = os.environ.get('NAT64', os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'nat64'))
PYTHON = '/usr/bin/python3'
CLONE_NEWNET = 0x40000000
PATIENCE = float(os.environ.get('NAT64_TEST_PATIENCE', 1))
libc = ctypes.CDLL(None, use_errno=True)
numbers = itertools.count(1)

# Sizes of the RFC 6052 section 2.2 prefixes -> the bytes of the address that hold the IPv4 address.
EMBED = {32: (4, 5, 6, 7), 40: (5, 6, 7, 9), 48: (6, 7, 9, 10), 56: (7, 9, 10, 11), 64: (9, 10, 11, 12),
         96: (12, 13, 14, 15)}


# python -m http.server asks the DNS for its own name first, which may take seconds where there is none.
SERVER = '''
import functools, http.server, socket, socketserver, sys
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 128
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[3])
Server((sys.argv[1], int(sys.argv[2])), handler).serve_forever()
'''


def embed(v4, prefix='64:ff9b::/96'):
    """The IPv4-embedded IPv6 address of RFC 6052."""
    net = ipaddress.IPv6Network(prefix)
    out = bytearray(net.network_address.packed)
    for position, byte in zip(EMBED[net.prefixlen], ipaddress.IPv4Address(v4).packed):
        out[position] = byte
    return str(ipaddress.IPv6Address(bytes(out)))


def patience(seconds):
    """How long to wait for what must come: longer where the environment says that the machine is slow."""
    return seconds * PATIENCE


def wait_for(condition, what='', timeout=20):
    """The first true value of condition(), asked often; a failure names what was waited for, or calls it to be told."""
    end = time.monotonic() + patience(timeout)
    while not (value := condition()):
        assert time.monotonic() < end, f'waited in vain for {what() if callable(what) else what or condition}'
        time.sleep(0.005)
    return value


def pins():
    return {os.path.join(d, f) for d, _, files in os.walk('/sys/fs/bpf') for f in files}


def setns(fd):
    if libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), 'setns')


@contextlib.contextmanager
def one_cpu():
    """Packets that this thread sends one after the other stay in order: they go through one CPU's queues."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


class Host:
    """A host: a network namespace, IPv6 without duplicate address detection."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.ns = f'nat64-{os.getpid()}-{next(numbers)}-{name}'
        subprocess.run(['ip', 'netns', 'add', self.ns], check=True)
        self.fd = os.open(f'/run/netns/{self.ns}', os.O_RDONLY)
        self.home = []
        self.loaded = {}                # interface -> lines of the snapshot that nat64 made
        for conf in 'all', 'default':
            self.sysctl(f'net.ipv6.conf.{conf}.accept_dad', 0)
        self.sysctl('net.ipv6.conf.default.router_solicitations', 0)
        self.ip('link', 'set', 'lo', 'up')

    def __enter__(self):
        self.home.append(os.open('/proc/thread-self/ns/net', os.O_RDONLY))
        setns(self.fd)
        return self

    def __exit__(self, *_):
        fd = self.home.pop()
        setns(fd)
        os.close(fd)

    def run(self, *argv, check=True, timeout=60, **kw):
        """Run a program to its end; its output is in .stdout and .stderr."""
        with self:
            done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  check=False, timeout=patience(timeout), **kw)
        if check:
            assert done.returncode == 0, f'{self.name}: {" ".join(map(str, argv))}: exit {done.returncode}\n' \
                                         f'{done.stdout}{done.stderr}'
        return done

    def start(self, *argv, **kw):
        """Start a program; it ends with the lab at the latest."""
        kw = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True} | kw
        with self:
            p = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, start_new_session=True, **kw)
        self.lab.processes.append(p)
        return p

    def ip(self, *argv, **kw):
        return self.run('ip', *argv, **kw).stdout

    def addr(self, ifname, *addresses):
        for a in addresses:
            self.ip('addr', 'add', a, 'dev', ifname, *(['nodad'] if ':' in a else []))
            if ':' in a:        # the kernel makes the routes a moment later
                wait_for(lambda a=a: self.ip('-6', 'route', 'show', 'table', 'local', a.split('/')[0]), a)

    def route(self, *argv):
        self.ip('-6' if any(':' in str(a) for a in argv) else '-4', 'route', 'add', *argv)

    def sysctl(self, name, value=None):
        with self:
            with open('/proc/sys/' + name.replace('.', '/'), 'r+' if value is not None else 'r', encoding='ascii') as f:
                return f.write(str(value)) if value is not None else f.read().strip()

    def forwards(self):
        """It is a router, for both families."""
        self.sysctl('net.ipv4.ip_forward', 1)
        self.sysctl('net.ipv6.conf.all.forwarding', 1)

    def mac(self, ifname):
        return json.loads(self.ip('-j', 'link', 'show', 'dev', ifname))[0]['address']

    def nft(self, rules):
        self.run('nft', rules)

    def http(self, directory, address, port=80):
        """A web server; returns its process when it listens."""
        p = self.start(PYTHON, '-c', SERVER, address, port, directory, stdout=subprocess.DEVNULL)
        self.listening(port)
        return p

    def listening(self, port):
        wait_for(lambda: self.run('ss', '-Hltn', f'sport = :{port}').stdout, f'a listener on port {port}')

    def interfaces(self):
        with self:
            return socket.if_nameindex()

    def batch(self, tool, *lines):
        """Many commands of ip or tc in one process; options go before them."""
        options = [line for line in lines if line.startswith('-')]
        with self:
            return subprocess.run([tool, *options, '-batch', '-'], input='\n'.join(lines[len(options):]) + '\n',
                                  capture_output=True, text=True, check=True).stdout

    def snapshot(self):
        """The host's network configuration as a set of lines: everything that nat64 may or may not touch. Neighbours
        that the kernel learnt come and go and are left out."""
        ask = ['addr', 'route show table all', 'rule', 'neigh', 'neigh show proxy']
        text = []
        for family, more in ('-4', ['link']), ('-6', []):
            lines = self.batch('ip', family, '-o', '-d', *ask, *more)
            # A bridge's clocks run, and what the kernel makes of a link that is up, it makes in its own time.
            lines = re.sub(r'\w+_timer +[0-9.]+| state (UNKNOWN|UP)\b', '', lines)
            # An XDP program is a thing of its own: "xdp" among what the interface is, and a line of a program.
            for m in re.finditer(r'^\d+: ([^:@]+)\S* .*prog/(xdp\w*) id (\d+) (?:name (\S+))?.*$', lines, re.M):
                text.append(f'{m[1]}: {m[2]} {m[4]} id {m[3]}')
            lines = re.sub(r'(?<= )xdp\w*(?:/id:\d+)? |\\? +prog/xdp.*$', '', lines, flags=re.M)
            text += [f'{family[1]} {line}' for line in lines.splitlines()
                     if not re.search(r' lladdr (?!.*(PERMANENT|NOARP))| (FAILED|INCOMPLETE)', line)]
        names = [name for _, name in self.interfaces()]
        ask = [f'{what} {name} {way}' for name in names for what, way in
               (('qdisc show dev', ''), ('filter show dev', 'ingress'), ('filter show dev', 'egress'))]
        place = -1
        for line in self.batch('tc', *ask).splitlines():
            place += bool(re.match('qdisc .* root ', line))         # the first line of each interface
            text.append(f'{names[place]}: {line}')
        text += [f'{name}: tcx {way} {program} id {ident}' for name in names for way in bpf.TCX
                 for program, ident in bpf.tcx_programs(self, name, way)]
        text += self.run('nft', '-s', 'list', 'ruleset').stdout.splitlines()
        count = collections.Counter()
        lines = set()
        for line in text:               # the same line twice is two things
            count[line] += 1
            lines.add(f'{line} (#{count[line]})' if count[line] > 1 else line)
        with self:
            for top in 'ipv4', 'ipv6', 'core':
                for path, _, names in os.walk(f'/proc/sys/net/{top}'):
                    for name in names:
                        try:
                            with open(f'{path}/{name}', encoding='latin1') as f:
                                lines.add(f'sysctl {path}/{name}={f.read().strip()}')
                        except OSError:         # write-only, or no secret set
                            pass
        return lines

    def nat64(self, *argv, rc=0, via=(), timeout=60):
        """Run nat64. It never pins anything; a run that fails changes nothing and says why in one line of stderr. (A
        program that is neither attached nor pinned is gone with the process.)"""
        before, pinned = self.snapshot(), pins()
        done = self.run(*via, NAT64, *argv, check=False, timeout=timeout)
        what = f'nat64 {" ".join(map(str, argv))}: exit {done.returncode}\n{done.stdout}{done.stderr}'
        assert done.returncode == rc, f'expected exit {rc}: {what}'
        after = self.snapshot()
        assert pins() <= pinned, f'pinned {pins() - pinned}: {what}'
        if rc:
            assert changes(before, after) == '', f'failed, but changed the machine: {what}'
            assert re.fullmatch(r'nat64: [^\n]+\n', done.stderr), f'not one line of complaint: {what}'
            assert done.stdout == '' or {'--status', '--check'} & set(argv), what       # which tell of what does not work
        done.before, done.after = before, after
        return done

    def load(self, *extra, i='eth0', device=None, v4='10.0.1.0/24', allow=('fc00::/8',), **kw):
        """nat64 -i eth0 -4 10.0.1.0/24 -a fc00::/8, or the same for a device of its own, and remember what it made for
        unload."""
        argv = (['--device', device] if device else ['-i', i]) + (['-4', v4] if v4 else []) + [x for a in allow for x in ('-a', a)]
        done = self.nat64(*argv, *extra, **kw)
        i = device or i
        if done.returncode == 0:
            made = self.loaded.get(i, set())
            gone = done.before - done.after
            assert gone <= made, f'load removed what is not ours: {gone - made}'
            self.loaded[i] = (made - gone) | (done.after - done.before)
            with bpf.Translator(self, i) as t:
                self.lab.seen(t)
            self.lab.ids |= {('prog', int(m[1])) for line in done.after if (m := re.search(r': xdp\w* nat64_xdp.* id (\d+)', line))}
        return done

    def unload(self, *extra, i='eth0', keeps=(), **kw):
        """nat64 -u, and check that it took away what load made and nothing else; keeps: words of lines that stay."""
        done = self.nat64('-i', i, '-u', *extra, **kw)
        if done.returncode == 0:
            made = {line for line in self.loaded.pop(i, set()) if not any(k in line for k in keeps)}
            new = done.after - done.before
            gone = done.before - done.after
            if not any(name == i for _, name in self.interfaces()):     # a device: all that names it goes, also the kernel's own
                about = re.compile(rf'(?<![\w.-]){re.escape(i)}(?![\w.-])')
                new -= {re.sub(f'(, )?{about.pattern}', '', line) for line in gone}         # from a list (of a flowtable)
                gone, made = ({line for line in lines if not about.search(line)} for lines in (gone, made))
            assert new == set(), f'unload made: {new}'
            assert gone == made, f'unload left {sorted(made - gone)}, removed foreign {sorted(gone - made)}'
        return done


def changes(before, after):
    """The difference of two snapshots, as text; '' when there is none."""
    return '\n'.join([f'- {line}' for line in sorted(before - after)] + [f'+ {line}' for line in sorted(after - before)])


@contextlib.contextmanager
def nothing_lost(*traffic):
    """The started pings are under way, and lose none of their packets until this ends."""
    for ping in traffic:
        ping.stdout.readline()
        assert 'bytes from' in ping.stdout.readline()
    yield
    for ping in traffic:
        os.killpg(ping.pid, signal.SIGINT)
        out = ping.communicate(timeout=patience(20))[0]
        assert ' 0% packet loss' in out, out[-300:]


class Lab:
    """Hosts and links. On leaving, whatever was loaded is unloaded, and everything must be gone."""

    def __init__(self):
        self.all, self.processes = [], []
        self.ids = set()                # ('prog' or 'map', id) of every translator seen

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close(check=exc == (None, None, None))

    def host(self, name):
        self.all.append(Host(self, name))
        return self.all[-1]

    def hosts(self, *names):
        return [self.host(name) for name in names]

    def link(self, a, a_if, b, b_if, mtu=None):
        """A veth pair between two hosts, up."""
        subprocess.run(['ip', '-n', a.ns, 'link', 'add', a_if, 'type', 'veth', 'peer', 'name', b_if, 'netns', b.ns],
                       check=True)
        for host, ifname in (a, a_if), (b, b_if):
            host.ip('link', 'set', ifname, *(['mtu', mtu] if mtu else []), 'up')
        for host, ifname in (a, a_if), (b, b_if):      # IPv6 comes up a moment later
            wait_for(lambda host=host, ifname=ifname: re.search(f'local fe80::.* dev {ifname} ', host.ip(
                '-6', 'route', 'show', 'table', 'local')), f'{ifname} of {host.name} to be up')

    def switch(self, *ends):
        """An Ethernet switch between (host, interface) ends."""
        sw = self.host('switch')
        sw.ip('link', 'add', 'br0', 'type', 'bridge')
        sw.ip('link', 'set', 'br0', 'up')
        for n, (host, ifname) in enumerate(ends):
            self.link(sw, f'port{n}', host, ifname)
            sw.ip('link', 'set', f'port{n}', 'master', 'br0')

    def seen(self, translator):
        self.ids |= {('prog', translator.to4.id), ('prog', translator.to6.id)}
        self.ids |= {('map', i) for i in translator.map_ids}

    def end(self, p, sig=signal.SIGKILL):
        """End a process of ours, with its children."""
        if p.poll() is None:
            os.killpg(p.pid, sig)
        p.wait(patience(20))
        for stream in p.stdout, p.stderr:
            if stream:
                stream.close()
        if p in self.processes:
            self.processes.remove(p)

    def close(self, check=True, patience=20):
        try:
            for p in list(self.processes):
                self.end(p)
            if check:
                for host in self.all:
                    for ifname in list(host.loaded):
                        host.unload(i=ifname)
        finally:
            for host in self.all:
                while host.home:
                    host.__exit__()
                os.close(host.fd)
                subprocess.run(['ip', 'netns', 'del', host.ns], check=True)
            self.all = []
        if check:
            wait_for(lambda: not [i for i in self.ids if bpf.exists(*i)], 'programs and maps to be freed',
                     patience)


def standard(lab, mtu=None, mtu4=None):
    """h6 (IPv6 only) -- gw -- h4 (IPv4 only), as in the manual; everybody behind h6 is fc00::/8, everybody behind h4
    the documentation prefixes. Behind both are networks where nobody answers, for packets made by hand."""
    h6, gw, h4 = lab.hosts('h6', 'gw', 'h4')
    lab.link(h6, 'eth0', gw, 'eth0', mtu)
    lab.link(gw, 'eth1', h4, 'eth0', mtu4)
    gw.forwards()
    h6.addr('eth0', 'fc00:6::6/64')
    gw.addr('eth0', 'fc00:6::1/64')
    h6.route('default', 'via', 'fc00:6::1')
    gw.route('fc00:66::/64', 'via', 'fc00:6::6')
    gw.addr('eth1', '192.0.2.1/24')
    h4.addr('eth0', '192.0.2.2/24')
    h4.route('default', 'via', '192.0.2.1')
    gw.route('198.51.100.0/24', 'via', '192.0.2.2')
    return h6, gw, h4


class Wire:
    """A raw socket on an interface: frames out, and the IP packets that come in."""

    ND = range(130, 138)        # MLD, router and neighbour discovery, redirect: the hosts' own talk

    def __init__(self, host, ifname='eth0'):
        with host:
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.sock.bind((ifname, 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE if hasattr(socket, 'SO_RCVBUFFORCE') else 33,
                             8 << 20)
        self.mac = bytes.fromhex(host.mac(ifname).replace(':', ''))

    def close(self):
        self.sock.close()

    def send(self, frame):
        self.sock.send(frame)

    def read(self, timeout):
        """The next IP packet (without its Ethernet header), None when there is none in time."""
        end = time.monotonic() + timeout
        while True:
            self.sock.settimeout(max(end - time.monotonic(), 0.0))
            try:
                frame, (_, proto, kind, *_) = self.sock.recvfrom(1 << 16)
            except (TimeoutError, BlockingIOError):
                return None
            if kind == socket.PACKET_OUTGOING or proto not in (0x0800, 0x86dd):
                continue
            packet = frame[14:]
            if proto == 0x86dd and (packet[6] == 58 and packet[40] in self.ND or packet[6] == 0 and packet[42] == 5):
                continue
            return packet


class Crossing:
    """Packets made by hand, sent on one side of the gateway, and what comes out on the other.

    A marker follows each packet; what arrives before the marker is the answer. So nothing waits for a time-out, and
    that nothing came out is known while translation works. near/far: the last packets seen on either side."""

    V6, V4 = 'fc00:66::a', '198.51.100.200'     # the marker's two ends

    def __init__(self, h6, gw, h4, prefix='64:ff9b::/96'):
        self.gw, self.prefix = gw, prefix
        self.w6, self.w4 = Wire(h6), Wire(h4)
        self.eth6 = bytes.fromhex(gw.mac('eth0').replace(':', '')) + self.w6.mac + b'\x86\xdd'
        self.eth4 = bytes.fromhex(gw.mac('eth1').replace(':', '')) + self.w4.mac + b'\x08\x00'
        self.back = []
        self.pool_addr = '0.0.0.0'
        for _ in range(50):             # the first ones wait for neighbour discovery
            self.w6.send(self.eth6 + self._marker6(b'hello'))
            while packet := self.w4.read(0.1):
                if packet.endswith(b'hello'):
                    self.pool_addr = str(ipaddress.IPv4Address(packet[12:16]))
                    break
            if packet:
                break
        assert packet, 'no packet crosses 6→4'
        for _ in range(50):
            self.w4.send(self.eth4 + self._marker4(b'hallo'))
            while packet := self.w6.read(0.1):
                if packet.endswith(b'hallo'):
                    return
        raise AssertionError('no packet crosses 4→6')

    def close(self):
        self.w6.close()
        self.w4.close()

    def _marker6(self, token):
        src, dst = (ipaddress.IPv6Address(a).packed for a in (self.V6, embed(self.V4, self.prefix)))
        udp = struct.pack('!HHHH', 4660, 22136, 8 + len(token), 0) + token
        pseudo = src + dst + struct.pack('!II', len(udp), 17)
        udp = udp[:6] + struct.pack('!H', checksum(pseudo + udp) or 0xffff) + token
        return struct.pack('!IHBB', 6 << 28, len(udp), 17, 64) + src + dst + udp

    def _marker4(self, token):
        src, dst = (ipaddress.IPv4Address(a).packed for a in (self.V4, self.pool_addr))
        udp = struct.pack('!HHHH', 22136, 4660, 8 + len(token), 0) + token
        pseudo = src + dst + struct.pack('!HH', 17, len(udp))
        udp = udp[:6] + struct.pack('!H', checksum(pseudo + udp) or 0xffff) + token
        ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0) + src + dst
        return ip[:10] + struct.pack('!H', checksum(ip)) + ip[12:] + udp

    def _cross(self, near, eth, packets, marker, far):
        for wire in near, far:
            while wire.read(0):
                pass
        token = os.urandom(16)
        with one_cpu():
            for packet in packets:
                near.send(eth + bytes(packet))
            near.send(eth + marker(token))
        out = []
        while (packet := far.read(patience(5))) is not None and not packet.endswith(token):
            out.append(packet)
        assert packet is not None, 'the marker after the packet did not arrive'
        self.back = []
        while packet := near.read(0):
            self.back.append(packet)
        return out

    def xlat64(self, *packets):
        """Send IPv6 packets from h6's side: the IPv4 packets that reach h4. .back: what came back to h6."""
        return self._cross(self.w6, self.eth6, packets, self._marker6, self.w4)

    def xlat46(self, *packets):
        """Send IPv4 packets from h4's side: the IPv6 packets that reach h6. .back: what came back to h4."""
        return self._cross(self.w4, self.eth4, packets, self._marker4, self.w6)


def checksum(data):
    """RFC 1071, as the number to put into the field."""
    data = bytes(data) + b'\0' * (len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
