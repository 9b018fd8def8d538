# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab with routers: h6 - r6a - r6b - gw - r4a - r4b - h4.

The IPv6 routers have addresses of 2001:db8::/32, which no test allows: they never get a mapping. Everything that
speaks IPv4 filters strictly by reverse path. On every link one end is `right` of the host before it and the other
`left` of the host behind it."""

import hashlib
import json
import re

from bpf import Translator
from lab import embed, patience

NAMES = 'h6', 'r6a', 'r6b', 'gw', 'r4a', 'r4b', 'h4'
H6, H4, POOL = 'fc00:6::6', '192.0.2.2', '10.0.1.0/24'
LINKS6 = {'r6a': 'fc00:6::', 'r6b': '2001:db8:1::', 'gw': '2001:db8:2::'}       # the link left of ...
LINKS4 = {'r4a': '203.0.113.', 'r4b': '198.51.100.', 'h4': '192.0.2.'}
ICMP_SRC = '192.0.0.8'


class Path:
    """The seven hosts as attributes."""

    def __init__(self, lab, mtu=1500):
        self.lab, self.mtu = lab, mtu
        self.changed = set()            # links whose MTU is another one now
        self.hosts = lab.hosts(*NAMES)
        self.h6, self.r6a, self.r6b, self.gw, self.r4a, self.r4b, self.h4 = self.hosts
        for left, right in zip(self.hosts, self.hosts[1:]):
            lab.link(left, 'right', right, 'left', mtu)
        for host in self.hosts[3:]:
            for conf in 'all', 'default', 'left', 'right':
                if conf in ('all', 'default') or conf in [name for _, name in host.interfaces()]:
                    host.sysctl(f'net.ipv4.conf.{conf}.rp_filter', 1)
            host.sysctl('net.ipv4.ip_forward', int(host != self.h4))
        for host in self.hosts:         # traceroute asks for more errors a second than a router likes to send
            host.sysctl('net.ipv4.icmp_ratelimit', 0)
            host.sysctl('net.ipv6.icmp.ratelimit', 0)
        for host in self.hosts[1:4]:
            host.sysctl('net.ipv6.conf.all.forwarding', 1)
        for left, right in zip(self.hosts[:3], self.hosts[1:4]):
            net = LINKS6[right.name]
            left.addr('right', f'{net}6/64')
            right.addr('left', f'{net}1/64')
            left.route('default', 'via', f'{net}1')
            for behind in list(LINKS6.values())[:self.hosts.index(left)]:
                right.route(f'{behind}/64', 'via', f'{net}6')
        for left, right in zip(self.hosts[3:6], self.hosts[4:]):
            net = LINKS4[right.name]
            left.addr('right', f'{net}1/24')
            right.addr('left', f'{net}2/24')
            right.route('default', 'via', f'{net}1')
            for behind in list(LINKS4.values())[self.hosts.index(right) - 3:]:
                left.route(f'{behind}0/24', 'via', f'{net}2')

    def load(self, *extra, **kw):
        self.gw.load(*extra, i='left', **kw)
        ping(self.h6, embed(H4), count=1)
        self.pool_address = v4_of(self.gw, H6, 'left')
        return self

    def left_of(self, name, mtu):
        """Set the MTU of the link that is left of a host."""
        at = NAMES.index(name)
        self.changed.add(name)
        for host, ifname in (self.hosts[at - 1], 'right'), (self.hosts[at], 'left'):
            host.ip('link', 'set', ifname, 'mtu', mtu)

    def forget(self):
        """Links as they were, and nobody knows a path MTU."""
        for name in list(self.changed):
            self.left_of(name, self.mtu)
        if 'gw' in self.changed:
            self.load()
        self.changed = set()
        for host in self.h6, self.gw, self.h4:
            host.batch('ip', '-4', 'route flush cache')
            host.batch('ip', '-6', 'route flush cache')

    def drops(self):
        with Translator(self.gw, 'left') as t:
            return t.drops()


def v4_of(gw, v6, i):
    with Translator(gw, i) as t:
        return t.mappings()[v6].v4


def ping(host, target, *options, count=3):
    """Echo until `count` answers have come. (Without -w ping gives up two round trips after its last packet, which is
    nothing if it is a busy process that carries them.)"""
    out = host.run('ping', '-c', count, '-i', '0.01', '-w', int(patience(20)), *options, target).stdout
    assert int(re.search(r' (\d+) received', out).group(1)) >= count, out
    return out


def hops(output):
    """The addresses that traceroute or tracepath prints, the last for each hop; '' for one that was silent."""
    found = {}
    for line in output.splitlines():
        m = re.match(r' *(\d+)[:?]* +(\S+)', line)
        if m and not m.group(2).startswith('['):
            found[int(m.group(1))] = m.group(2) if re.search('[.:]', m.group(2)) else ''
    return [found.get(n + 1, '') for n in range(max(found, default=0))]


# A web server that does not ask the name of its own address, which takes seconds where no name server answers.
def serve(host, directory, address, port=80):
    """A web server; the process."""
    return host.http(directory, address, port)


def fetch(host, url, path, *options, timeout=60):
    """Fetch a file with curl and compare it with what it should be."""
    out = host.run('sh', '-c', f'curl -sS --fail -g -m {patience(timeout)} {" ".join(options)} http://{url}/{path.name} | sha256sum',
                   timeout=timeout + 5).stdout.split()[0]
    assert out == hashlib.sha256(path.read_bytes()).hexdigest()


def iperf(server, client, target, *options):
    s = server.start('iperf3', '-s', '-1')
    server.listening(5201)
    report = json.loads(client.run('iperf3', '-c', target, '--json', *options).stdout)
    assert s.wait(patience(20)) == 0
    return report['end']
