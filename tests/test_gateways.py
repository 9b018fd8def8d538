# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/gateways.org: more than one gateway, with the files of docs/gateways as they are, by keepalived and by BIRD. Gateways die and
come back, and no connection breaks."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from lab import NAT64, PYTHON, embed, wait_for
from recipes import ROOT, Image, text
from test_monitor import Listener
from test_status import mappings

FILES = os.path.join(ROOT, 'docs/gateways')
SERVER = '198.51.100.80'
OURS = os.path.abspath(NAT64)

ECHO = '''
import asyncio, sys
async def talk(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
async def main():
    server = await asyncio.start_server(talk, sys.argv[1], 7, backlog=1000)
    await server.serve_forever()
asyncio.run(main())
'''

# Connections from many addresses: some say something ten times a second, the others at the begin and at the end.
TALK = '''
import asyncio, json, signal, sys, time
server, busy, idle, *sources = sys.argv[1:]
busy, stop, gaps, broken = int(busy), asyncio.Event(), [], []
async def one(n, source):
    async def say():
        start = time.monotonic()
        writer.write(b'12345678' * 100)
        await writer.drain()
        await asyncio.wait_for(reader.readexactly(800), 30)
        gaps.append(time.monotonic() - start)
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(server, 7, local_addr=(source, 0)), 30)
        await say()
        ready.append(n)
        if len(ready) == busy + int(idle):
            print('ready', flush=True)
        while not stop.is_set():
            if n < busy:
                await say()
            await asyncio.sleep(0.1)
        await say()
        writer.close()
    except Exception as e:
        broken.append(f'{n} {source}: {e!r}')
        print('broken', n, repr(e), file=sys.stderr, flush=True)
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.gather(*(one(n, sources[n % len(sources)]) for n in range(busy + int(idle))))
    print(json.dumps({'gap': max(gaps), 'broken': broken}))
ready = []
asyncio.run(main())
'''


class Talk:
    """TCP connections from a host to the server, until stop() says what has become of them."""

    def __init__(self, host, busy, idle, sources):
        self.p = host.start(PYTHON, '-c', TALK, embed(SERVER), busy, idle, *sources)
        line = self.p.stdout.readline()
        assert line == 'ready\n', line + self.p.stdout.read()

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        out, _ = self.p.communicate(timeout=60)
        seen = json.loads(out.splitlines()[-1])
        assert seen['broken'] == [], out
        return seen['gap']


def mirror_command():
    """What the unit runs, with the name of the other gateway as $0."""
    unit = text('dist/nat64-mirror@.service').replace('\\\n', '')
    return re.search(r"^ExecStart=/bin/sh -c '(.*)' %i$", unit, re.M)[1].replace('$$', '$').replace('/usr/local/sbin/nat64', OURS)


@pytest.mark.parametrize('missing', ['INTERFACE', 'STREAM'])
def test_mirror_file_lacks_something(missing):
    """The file is named, and what is missing there."""
    env = {'PATH': os.environ['PATH'], 'INTERFACE': 'nat64', 'STREAM': 'echo never'}
    done = subprocess.run(['sh', '-c', mirror_command(), 'gw2'], env=env | {missing: ''}, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and f'{missing}: is missing in /etc/nat64/gw2.mirror' in done.stderr and done.stderr.count('\n') == 1


class Gateway:
    """A host with nat64 by the file of the manual, and what else is on a gateway."""

    def __init__(self, host, number, tmp_path):
        self.host, self.number, self.tmp = host, number, tmp_path
        self.processes, self.mirror, self.log, self.events = [], None, None, []
        host.forwards()
        Image(host)

    def load(self):
        self.host.run(NAT64, '-c', f'{FILES}/nat64-{self.number}.conf')
        self.log = Listener(self.host, '-i', 'nat64', '--monitor', '--json', ifname=None)

    def start(self, *argv):
        self.processes.append(self.host.start(*self.host.image.argv(*argv)))

    def follow(self, other):
        """What the unit does, with a command instead of ssh, until it says that it has started."""
        command = mirror_command()
        names = dict(re.findall(r'^(\w+)=\'?(.*?)\'?$', text('docs/gateways/gw2.mirror'), re.M))
        stream = re.sub('^ssh .* root@gw2 nat64', f'exec nsenter --net=/run/netns/{other.host.ns} {OURS}', names['STREAM'])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            path = self.tmp / f'notify-{self.number}-{time.monotonic_ns()}'
            ready.bind(str(path))
            ready.settimeout(20)
            env = os.environ | {'INTERFACE': names['INTERFACE'], 'STREAM': f'{stream} --refresh 1', 'NOTIFY_SOCKET': str(path)}
            self.mirror = self.host.start('sh', '-c', command, env=env)
            assert ready.recv(100) == b'READY=1'

    def die(self, links=True):
        """The plug is pulled, or with the links still up it hangs: nothing is said, and all that it knew is gone."""
        for p in self.processes + [self.mirror]:
            self.host.lab.end(p)
        if links:
            self.host.batch('ip', 'link set lan0 down', 'link set wan0 down')
        else:
            self.host.sysctl('net.ipv4.ip_forward', 0)
            self.host.sysctl('net.ipv6.conf.all.forwarding', 0)
        self.processes, self.mirror = [], None
        self.events += self.log.stop()
        self.host.run(NAT64, '-c', f'{FILES}/nat64-{self.number}.conf', '-u')

    def end(self):
        for p in self.processes + [self.mirror]:
            if p:
                self.host.lab.end(p)
        if self.log:
            self.events += self.log.stop()


def table(gateway):
    return {row['v4']: row['v6'] for row in mappings(gateway.host, 'nat64')}


def nobody_has_two(gateways):
    """Over all that both have told: no address was ever given to two hosts."""
    owners = {}
    for gateway in gateways:
        for e in gateway.events:
            if e['event'] == 'created':
                owners.setdefault(e['v4'], set()).add(e['v6'])
            assert e['event'] not in ('pool-exhausted', 'lost'), e
    assert owners and all(len(hosts) == 1 for hosts in owners.values()), owners


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='NO systemd-analyze: the unit is not verified')
def test_unit_verifies(tmp_path):
    """systemd-analyze says nothing of it, something of a broken one, and that it is hardened, for one that goes out by ssh."""
    unit = text('dist/nat64-mirror@.service').replace('/usr/local/sbin/nat64', OURS)
    path = tmp_path / 'nat64-mirror@gw2.service'
    for broken in False, True:
        path.write_text(unit.replace('Type=notify', 'Type=exit') if broken else unit)
        done = subprocess.run(['systemd-analyze', '--man=no', 'verify', path], capture_output=True, text=True, check=False)
        assert ('nat64-mirror' in done.stderr) == broken, done.stderr
    done = subprocess.run(['systemd-analyze', 'security', '--offline=true', '--threshold=30', path], capture_output=True, text=True, check=False)
    if 'unrecognized option' not in done.stderr:        # before systemd 250
        assert done.returncode == 0, done.stdout


def hosts_of(h6, n):
    sources = [f'2001:db8:1::{i:x}' for i in range(0x100, 0x100 + n)]
    h6.batch('ip', '-6', *(f'addr add {source}/64 dev eth0 nodad' for source in sources))
    return sources


def test_vrrp(lab, tmp_path):
    """Fifty transfers and a hundred idle connections, and the gateway that works is gone. VRRP's dead interval is 3.6 times 0.2 s."""
    h6, gw1, gw2, wan = lab.hosts('h6', 'gw1', 'gw2', 'wan')
    lab.switch((h6, 'eth0'), (gw1, 'lan0'), (gw2, 'lan0'))
    lab.switch((wan, 'eth0'), (gw1, 'wan0'), (gw2, 'wan0'))
    gateways = [Gateway(gw, n, tmp_path) for n, gw in enumerate((gw1, gw2), 1)]
    for n, gw in enumerate((gw1, gw2), 1):
        gw.addr('lan0', f'2001:db8:1::1{n}/64')
        gw.addr('wan0', f'203.0.113.1{n}/24')
        gw.route('default', 'via', '203.0.113.1')
    sources = hosts_of(h6, 150)
    h6.route('default', 'via', 'fe80::64', 'dev', 'eth0')
    wan.addr('eth0', '203.0.113.1/24')
    wan.ip('addr', 'add', f'{SERVER}/32', 'dev', 'lo')
    wan.route('10.64.0.0/16', 'via', '203.0.113.64')
    wan.start(PYTHON, '-c', ECHO, SERVER)
    wan.listening(7)
    for g in gateways:
        g.load()
    gateways[0].follow(gateways[1])
    gateways[1].follow(gateways[0])
    for g in gateways:
        g.start('keepalived', '-n', '-l', '-f', f'{FILES}/keepalived-{g.number}.conf')
    wait_for(lambda: 'fe80::64' in gw1.ip('-6', 'addr', 'show', 'dev', 'vrrp-lan', check=False) and
             '203.0.113.64' in gw1.ip('addr', 'show', 'dev', 'vrrp-wan', check=False), 'gateway 1 to be the master')
    talk = Talk(h6, 50, 100, sources)
    wait_for(lambda: len(table(gateways[1])) == 150, 'all hosts at the other gateway')
    before = table(gateways[0])
    gateways[0].die(links=False)        # a switch would send to the other at once if a link went down
    wait_for(lambda: 'fe80::64' in gw2.ip('-6', 'addr', 'show', 'dev', 'vrrp-lan'), 'gateway 2 to be the master')
    time.sleep(2)
    gap = talk.stop()
    print(f'vrrp: the longest gap was {gap:.2f} s')
    assert table(gateways[1]) == before
    for g in gateways[1:]:
        g.end()
    nobody_has_two(gateways)


@pytest.fixture
def anycast(lab, tmp_path):
    """(hosts, server's host, gateways) with routers between them, all of which speak BGP."""
    h6, r6, gw1, gw2, r4, inet = lab.hosts('h6', 'r6', 'gw1', 'gw2', 'r4', 'inet')
    lab.link(h6, 'eth0', r6, 'lan0')
    lab.switch((r6, 'core0'), (gw1, 'lan0'), (gw2, 'lan0'))
    lab.switch((r4, 'core0'), (gw1, 'wan0'), (gw2, 'wan0'))
    lab.link(r4, 'inet0', inet, 'eth0')
    r6.sysctl('net.ipv6.conf.all.forwarding', 1)
    r4.sysctl('net.ipv4.ip_forward', 1)
    h6.addr('eth0', '2001:db8:1::2/64')
    r6.addr('lan0', '2001:db8:1::1/64')
    h6.route('default', 'via', '2001:db8:1::1')
    r6.addr('core0', '2001:db8:f::1/64')
    r4.addr('core0', '203.0.113.1/24')
    r4.addr('inet0', '198.51.100.1/24')
    inet.addr('eth0', f'{SERVER}/24')
    inet.route('default', 'via', '198.51.100.1')
    inet.start(PYTHON, '-c', ECHO, SERVER)
    inet.listening(7)
    for router, name in (r6, 'router6'), (r4, 'router4'):
        Image(router)
        router.start(*router.image.argv('bird', '-f', '-c', f'{FILES}/bird-{name}.conf', '-s', '/run/bird.ctl'))
    gateways = []
    for n, gw in enumerate((gw1, gw2), 1):
        gateways.append(Gateway(gw, n, tmp_path))
        gw.addr('wan0', f'203.0.113.1{n}/24')
        connect(gateways[-1])
    return h6, r6, r4, gateways


def connect(g):
    """What the kernel forgets of links that go down."""
    g.host.batch('ip', 'link set lan0 up', 'link set wan0 up')
    g.host.addr('lan0', f'2001:db8:f::1{g.number}/64')
    g.host.route('2001:db8:1::/48', 'via', '2001:db8:f::1')
    g.host.route('default', 'via', '203.0.113.1')


def announce(g):
    g.start('bird', '-f', '-c', f'{FILES}/bird-{g.number}.conf', '-s', '/run/bird.ctl')


def ways(r6, r4):
    """How many ways lead to the NAT64 prefix, and which routes to the IPv4 prefix there are."""
    return len(re.findall(r'\bvia\b', r6.ip('-6', 'route', 'show', '64:ff9b::/96'))), \
        set(re.findall(r'^(10\.64\.\S+) via (\S+)', r4.ip('route'), re.M))


BOTH = 2, {('10.64.0.0/17', '203.0.113.11'), ('10.64.128.0/17', '203.0.113.12')}


def complete(r6, r4):
    n, routes = ways(r6, r4)
    return n == BOTH[0] and BOTH[1] <= routes


def test_anycast(anycast):
    """Two hundred connections over two gateways; one dies and comes back, then the other."""
    h6, r6, r4, gateways = anycast
    for g in gateways:
        g.load()
    for g, other in zip(gateways, reversed(gateways)):
        g.follow(other)
    for g in gateways:
        announce(g)
    wait_for(lambda: complete(r6, r4), lambda: f'routes: {ways(r6, r4)}', 40)
    talk = Talk(h6, 100, 100, hosts_of(h6, 200))
    wait_for(lambda: len(table(gateways[0])) == len(table(gateways[1])) == 200, 'all hosts at both')
    before = table(gateways[0])
    assert before == table(gateways[1])
    halves = {v4.split('.')[2] >= '128' for v4 in before}
    assert len({int(v4.split('.')[2]) >> 7 for v4 in before}) == 2 and halves      # both have given out some
    for g, other in zip(gateways, reversed(gateways)):
        g.die()
        wait_for(lambda: ways(r6, r4)[0] == 1, 'the other way alone')
        time.sleep(1)
        assert table(other) == before
        connect(g)
        g.load()
        g.follow(other)                                             # and then it has all mappings,
        assert table(g) == before
        announce(g)                                                 # and gets packets
        other.host.lab.end(other.mirror)
        other.follow(g)
        wait_for(lambda: complete(r6, r4), lambda: f'routes: {ways(r6, r4)}', 40)
    time.sleep(1)
    gap = talk.stop()
    print(f'anycast: the longest gap was {gap:.2f} s')
    assert table(gateways[0]) == table(gateways[1]) == before
    for g in gateways:
        g.end()
    nobody_has_two(gateways)


def test_static_prefixes(lab):
    """Three gateways without any mirror: each packet takes another one, in both directions."""
    h6, r6, r4 = lab.hosts('h6', 'r6', 'r4')
    gateways = lab.hosts('gw1', 'gw2', 'gw3')
    lab.link(h6, 'eth0', r6, 'lan0')
    h6.addr('eth0', '2001:db8:1::2/64')
    r6.addr('lan0', '2001:db8:1::1/64')
    h6.route('default', 'via', '2001:db8:1::1')
    lab.switch((r6, 'core0'), *((gw, 'lan0') for gw in gateways))
    lab.switch((r4, 'core0'), *((gw, 'wan0') for gw in gateways))
    r6.addr('core0', '2001:db8:f::1/64')
    r4.addr('core0', '203.0.113.1/24')
    r4.ip('addr', 'add', f'{SERVER}/32', 'dev', 'lo')
    for host in r6, *gateways:
        host.sysctl('net.ipv6.conf.all.forwarding', 1)
    for n, gw in enumerate(gateways, 1):
        gw.sysctl('net.ipv4.ip_forward', 1)
        gw.addr('lan0', f'2001:db8:f::1{n}/64')
        gw.addr('wan0', f'203.0.113.1{n}/24')
        gw.route('2001:db8:1::/64', 'via', '2001:db8:f::1')
        gw.route('default', 'via', '203.0.113.1')
        gw.load('-s', '2001:db8:1::/120=10.64.1.0/24', v4=None, allow=(), device='nat64')
        r6.ip('-6', 'rule', 'add', 'fwmark', n, 'lookup', 100 + n)
        r6.route('64:ff9b::/96', 'via', f'2001:db8:f::1{n}', 'table', 100 + n)
        r4.ip('rule', 'add', 'fwmark', n, 'lookup', 100 + n)
        r4.route('10.64.1.0/24', 'via', f'203.0.113.1{n}', 'table', 100 + n)
    r6.nft('table ip6 t { chain c { type filter hook prerouting priority raw; iif lan0 meta mark set numgen inc mod 3 offset 1; }; }')
    r4.route('10.64.1.0/24', 'via', '203.0.113.11')                # replaced by the mark's
    r4.nft('table ip t { chain c { type route hook output priority raw; meta mark set numgen inc mod 3 offset 1; }; }')
    r4.start(PYTHON, '-c', ECHO, SERVER)
    r4.listening(7)
    sources = [f'2001:db8:1::{i:x}' for i in range(0x10, 0x60)]
    h6.batch('ip', '-6', *(f'addr add {source}/64 dev eth0 nodad' for source in sources))
    talk = Talk(h6, 40, 40, sources)
    time.sleep(2)
    talk.stop()
    for gw in gateways:                                             # a third each
        (seen,) = json.loads(gw.run(NAT64, '--status', '--json').stdout)['translators']
        assert seen['6to4']['packets'] > 200 and seen['4to6']['packets'] > 200 and not seen['6to4']['dropped'] and not seen['4to6']['dropped']
