# SPDX-License-Identifier: GPL-2.0-or-later
"""nat64 in the company of what else is on a router: frames that are not ours, IPsec, encapsulating routes, bridges with
netfilter, conntrack."""

import contextlib
import os
import re
import socket
import subprocess
import time

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from bpf import Translator
from lab import NAT64, PYTHON, Crossing, Wire, embed, patience, standard, wait_for
from paths import fetch, ping, serve, v4_of
from test_check import under
from test_devices import not_here

H6, H4, WEB = 'fc00:6::6', '192.0.2.2', embed('192.0.2.2')
VMAC = '02:00:00:00:00:aa'


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(os.urandom(300_000))
    return path


def translated(gw, ifname='eth0'):
    with Translator(gw, ifname) as t:
        return t.stats()['packets']


# --- frames that are not ours ---

def udp6(src='fc00:66::1', dst=embed('198.51.100.1'), size=5):
    return IPv6(src=src, dst=dst, hlim=9) / UDP(sport=1, dport=2) / Raw(b'x' * size)


def send_all(wire, gw, *frames):
    """Frames to gw, and one that is ours behind them: when that is counted, all have been seen. How many were ours."""
    before = translated(gw)[0]
    for frame in frames:
        wire.send(bytes(frame))
    ours = Ether(dst=gw.mac('eth0'), src=wire.mac) / udp6(dst=embed('198.51.100.99'))
    wire.send(bytes(ours))
    wait_for(lambda: translated(gw)[0] > before, 'the packet that is ours')
    time.sleep(0.05)
    return translated(gw)[0] - before - 1


def test_frames_for_other_machines(nat):
    """An interface in promiscuous mode sees them; they are not for it, nor is what was sent to a group of the link."""
    h6, gw, _ = nat
    gw.ip('link', 'set', 'eth0', 'promisc', 'on')
    wire = Wire(h6)
    for dst in VMAC, 'ff:ff:ff:ff:ff:ff', '33:33:00:00:00:01':
        assert send_all(wire, gw, *[Ether(dst=dst, src=wire.mac) / udp6()] * 3) == 0, dst
    assert send_all(wire, gw, *[Ether(dst=gw.mac('eth0'), src=wire.mac) / udp6()] * 3) == 3
    wire.close()


def test_upper_interface(net):
    """VRRP's MAC address, or a container's: a macvlan with a translator of its own, beside that of its lower interface."""
    h6, gw, h4 = net
    gw.ip(*f'link add vmac link eth0 address {VMAC} type macvlan mode private'.split())
    gw.ip('link', 'set', 'vmac', 'up')
    for conf in 'all', 'eth0', 'vmac':
        gw.sysctl(f'net.ipv4.conf.{conf}.rp_filter', 1)
    gw.addr('vmac', 'fc00:7::1/64')
    h6.addr('eth0', 'fc00:7::7/64')
    h6.ip(*'-6 route replace default via fc00:7::1'.split())
    gw.load()
    gw.load('--icmp-src', '192.0.0.11', i='vmac', v4='10.0.7.0/24')
    wait_for(lambda: not h6.run('ping', '-c1', '-W0.5', '-I', 'fc00:7::7', WEB, check=False).returncode, 'an answer')
    ping(h6, WEB, '-I', 'fc00:7::7')
    assert v4_of(gw, 'fc00:7::7', 'vmac').startswith('10.0.7.')
    assert translated(gw) == [0, 0], 'the lower interface has taken them'
    ping(h4, v4_of(gw, 'fc00:7::7', 'vmac'))


def test_tags(nat):
    """Frames of a VLAN without an interface here are nobody's. Tag 0 is for its priority only."""
    h6, gw, h4 = nat
    wire, there = Wire(h6), Wire(h4)
    head = Ether(dst=gw.mac('eth0'), src=wire.mac)
    assert send_all(wire, gw, *[head / Dot1Q(vlan=10) / udp6()] * 3) == 0
    assert send_all(wire, gw, head / Dot1Q(vlan=0, prio=5) / Dot1Q(vlan=10) / udp6()) == 0
    while there.read(0.05):
        pass
    wire.send(bytes(head / Dot1Q(vlan=0, prio=5) / udp6(src=H6, dst=WEB)))
    got = IP(there.read(patience(5)))
    assert (got.src, got.dst, got.ttl, got[UDP].sport) == (v4_of(gw, H6, 'eth0'), H4, 8, 1)
    wire.close()
    there.close()


def test_trunk(lab):
    """Untagged hosts and those of a VLAN on one wire, each with a translator of their own; and hosts of a VLAN to another
    NAT64, past the translator of the trunk."""
    h6, gw, h4 = lab.hosts('h6', 'gw', 'h4')
    lab.link(h6, 'eth0', gw, 'eth0')
    lab.link(gw, 'eth1', h4, 'eth0')
    for host in h6, gw:
        done = host.run(*'ip link add eth0.10 link eth0 type vlan id 10'.split(), check=False)
        if 'Unknown device type' in done.stderr:
            not_here('VLAN')
        host.ip('link', 'set', 'eth0.10', 'up')
    gw.forwards()
    for ifname, n in ('eth0', 6), ('eth0.10', 10):
        h6.addr(ifname, f'fc00:{n}::6/64')
        gw.addr(ifname, f'fc00:{n}::1/64')
        h6.ip(*f'-6 rule add from fc00:{n}::6 table {n}'.split())
        h6.ip(*f'-6 route add default via fc00:{n}::1 dev {ifname} table {n}'.split())
    gw.addr('eth1', '192.0.2.1/24')
    h4.addr('eth0', f'{H4}/24')
    h4.route('default', 'via', '192.0.2.1')
    gw.load()
    # not ours: routed on, to a NAT64 that is h4
    gw.addr('eth1', 'fc00:4::1/64')
    h4.addr('eth0', 'fc00:4::4/64')
    h4.ip(*f'addr add {WEB}/128 dev lo'.split())
    h4.route('fc00::/16', 'via', 'fc00:4::1')
    gw.route('64:ff9b::/96', 'via', 'fc00:4::4')
    ping(h6, WEB, '-I', 'fc00:10::6')
    assert translated(gw) == [0, 0]
    gw.ip(*'-6 route del 64:ff9b::/96'.split())
    gw.load('--icmp-src', '192.0.0.11', i='eth0.10', v4='10.0.10.0/24')
    ping(h6, WEB, '-I', 'fc00:6::6')
    ping(h6, WEB, '-I', 'fc00:10::6')
    assert v4_of(gw, 'fc00:6::6', 'eth0').startswith('10.0.1.')
    assert v4_of(gw, 'fc00:10::6', 'eth0.10').startswith('10.0.10.')
    ping(h4, v4_of(gw, 'fc00:10::6', 'eth0.10'))


# --- what a packet must go through on its way out ---

def echo(c, host='fc00:66::1', server='198.51.100.1'):
    """An echo request of a host, so that it has a mapping: its address."""
    got, = c.xlat64(IPv6(src=host, dst=embed(server), hlim=64) / ICMPv6EchoRequest(id=1, seq=1))
    return IP(got).src


@pytest.mark.parametrize('extra', [(), ('--fast',)], ids=['default', 'fast'])
def test_ipsec_policy(lab, extra):
    """A policy may want what leaves for a host encrypted, or not at all: nothing for that host goes past it, nor what is
    sent to it about what was dropped. Other hosts' packets are as they were without it."""
    net = h6, gw, h4 = standard(lab, mtu4=9000)
    gw.load('--icmp-rate', 1000000, *extra)
    c = Crossing(*net)
    kept, other = echo(c, 'fc00:66::1'), echo(c, 'fc00:66::2')
    small = UDP(sport=1, dport=2) / Raw(b'y' * 100)
    large = UDP(sport=1, dport=2) / Raw(b'z' * 3000)

    def answers(address, payload=small, flags='DF'):
        return c.xlat46(IP(src='198.51.100.1', dst=address, flags=flags, ttl=9, id=5) / payload)

    want = [answers(other), answers(other, large, 0)]
    assert len(want[0]) == 1 and len(want[1]) > 1 and IPv6(want[0][0]).hlim == 8
    gw.ip(*'xfrm policy add dst fc00:66::1 dir out action block'.split())
    for payload, flags in (small, 'DF'), (large, 0):
        assert answers(kept, payload, flags) == []
    assert [answers(other), answers(other, large, 0)] == want
    for source in 'fc00:66::1', 'fc00:66::2':
        assert c.xlat64(IPv6(src=source, dst=embed('127.0.0.1')) / small) == []
        assert bool(c.back) == (source == 'fc00:66::2'), 'the error about what was dropped'
    gw.ip(*'xfrm policy add dst 198.51.100.0/24 dir out action block'.split())
    c.w6.send(c.eth6 + bytes(udp6()))
    assert not (packet := c.w4.read(0.2)), IP(packet).summary()
    gw.ip(*'xfrm policy flush'.split())
    assert len(answers(kept)) == 1
    # for what passes, and for all there is no policy for
    for on, off in ('policy add src 0.0.0.0/0 dst 0.0.0.0/0 dir fwd action block', 'policy flush'), \
            ('policy setdefault out block fwd block', 'policy setdefault out accept fwd accept'):
        done = gw.run('ip', 'xfrm', *on.split(), check=False)
        if done.returncode:
            assert 'setdefault' in on, done.stderr              # older iproute2 or kernel
            continue
        assert c.w4.read(0.05) is None
        for _ in range(3):
            c.w6.send(c.eth6 + bytes(udp6()))
        packet = c.w4.read(0.3)
        assert packet is None, IP(packet).summary()
        gw.ip('xfrm', *off.split())
    c.close()


def test_policies_that_cannot_be_seen(net):
    """Of a kernel without BTF: loading says so while there are some. Of one with BTF that cannot be used: always."""
    _, gw, _ = net
    load = [NAT64, '-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8']
    warning = 'nat64: warning: IPsec policies cannot be seen here: packets may leave in the clear, but for --device '
    said = gw.run(*under('/sys/kernel/btf/vmlinux', 'no BTF'), *load).stderr
    assert re.fullmatch(re.escape(warning) + r'\([A-Z][a-z ]+\)\n', said), said
    without = under('/sys/kernel/btf')
    assert gw.run(*without, *load).stderr == ''
    gw.ip(*'xfrm policy add dst fc00:66::1 dir out action block'.split())
    assert gw.run(*without, *load).stderr == warning + '(no /sys/kernel/btf/vmlinux)\n'
    gw.run(NAT64, '-i', 'eth0', '-u')


def test_ipsec_tunnel(lab):
    """Hosts that reach the translator by ESP in tunnel mode: both ways through the tunnel, nothing in the clear."""
    h6, gw, h4 = standard(lab)
    tunnel(h6, gw)
    gw.load('-s', 'fd99::2=10.0.1.9')
    wire = Wire(gw)             # h6's own sees packets once more when they are decrypted
    ping(h6, WEB, '-I', 'fd99::2')
    ping(h4, '10.0.1.9')
    seen = []
    wire.sock.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while True:
            frame, (_, proto, kind, *_) = wire.sock.recvfrom(1 << 16)
            if kind == socket.PACKET_OUTGOING and proto == 0x86dd:
                seen.append(IPv6(frame[14:]))
    assert [p for p in seen if p.nh == 50], 'no ESP at all'
    assert not [p for p in seen if p.dst == 'fd99::2'], 'in the clear'
    wire.close()


def tunnel(h6, gw, device=None, mark=()):
    """ESP in tunnel mode between two hosts, for fd99::2 of h6. On a device of its own (XFRM, VTI), or by policies alone."""
    a, b, v = 'fc00:6::6', 'fc00:6::1', 'fd99::2'
    for host in h6, gw:
        for src, dst, spi, reqid in (a, b, '0x100', 1), (b, a, '0x200', 2):
            done = host.run('ip', 'xfrm', 'state', 'add', 'src', src, 'dst', dst, 'proto', 'esp', 'spi', spi, 'reqid', reqid,
                            'mode', 'tunnel', *mark, 'auth', 'hmac(sha1)', '0x0102030405060708090a0b0c0d0e0f1011121314',
                            'enc', 'ecb(cipher_null)', '', check=False)
            if done.returncode:
                not_here(f'ESP for IPv6 ({done.stderr.strip()})')
    out, back = ('src', a, 'dst', b, 'proto', 'esp', 'reqid', 1, 'mode', 'tunnel'), \
        ('src', b, 'dst', a, 'proto', 'esp', 'reqid', 2, 'mode', 'tunnel')
    selector = {'there': ('src', v, 'dst', '::/0'), 'here': ('src', '::/0', 'dst', v)}
    if device:
        selector = {'there': ('src', '::/0', 'dst', '::/0'), 'here': ('src', '::/0', 'dst', '::/0')}
    for host, way, direction, tmpl in (h6, 'there', 'out', out), (h6, 'here', 'in', back), (gw, 'here', 'out', back), \
            (gw, 'there', 'in', out), (gw, 'there', 'fwd', out):
        host.ip('xfrm', 'policy', 'add', *selector[way], 'dir', direction, *mark, 'tmpl', *tmpl)
    if device:
        h6.ip('link', 'set', device, 'up', 'mtu', 1380)
        gw.ip('link', 'set', device, 'up', 'mtu', 1380)
        h6.addr(device, f'{v}/64')
        gw.addr(device, 'fd99::1/64')
        h6.ip(*f'-6 route add 64:ff9b::/96 dev {device} src {v}'.split())
    else:
        h6.ip('addr', 'add', f'{v}/128', 'dev', 'lo')
        h6.ip(*f'-6 route add 64:ff9b::/96 via {b} dev eth0 src {v}'.split())
        gw.ip(*f'-6 route add {v} via {a} dev eth0'.split())


@pytest.mark.parametrize('kind', ['xfrm', 'vti6'])
def test_ipsec_interface(lab, kind, file):
    """XFRM and VTI interfaces hand over what they decrypt with the header of the frame that it came in."""
    h6, gw, h4 = standard(lab)
    for host, local, remote in (h6, 'fc00:6::6', 'fc00:6::1'), (gw, 'fc00:6::1', 'fc00:6::6'):
        what = f'local {local} remote {remote} key 9' if kind == 'vti6' else 'dev eth0 if_id 5'
        done = host.run(*f'ip link add tn0 type {kind} {what}'.split(), check=False)
        if 'Unknown device type' in done.stderr:
            not_here(kind)
        assert done.returncode == 0, done.stderr
    tunnel(h6, gw, 'tn0', ('mark', 9, 'mask', '0xffffffff') if kind == 'vti6' else ('if_id', 5))
    gw.load(i='tn0', allow=('fd99::/64',))
    ping(h6, WEB)
    address = v4_of(gw, 'fd99::2', 'tn0')
    ping(h4, address)
    serve(h4, file.parent, H4)
    serve(h6, file.parent, '::')
    fetch(h6, f'[{WEB}]', file)
    fetch(h4, address, file)


def test_route_with_encapsulation(nat):
    """Segment routing to the hosts: packets leave with the route's own header, as when they are forwarded."""
    h6, gw, h4 = nat
    done = gw.run(*'ip -6 route add fc00:77::/64 encap seg6 mode encap segs fc00:6::6 dev eth0'.split(), check=False)
    if done.returncode:
        not_here(f'seg6 ({done.stderr.strip()})')
    c = Crossing(h6, gw, h4)
    address = echo(c, 'fc00:77::1')
    packet = IP(src='198.51.100.1', dst=address, ttl=9) / UDP(sport=1, dport=2) / Raw(b'x')
    got, = c.xlat46(packet)
    outer = IPv6(got)
    assert (outer.dst, outer.nh, outer.hlim) == ('fc00:6::6', 43, 8), 'no routing header'
    inner = IPv6(got[40 + (got[41] + 1) * 8:])
    assert (inner.src, inner.dst, inner.hlim, inner[UDP].sport) == (embed('198.51.100.1'), 'fc00:77::1', 9, 1)     # seg6 decrements the outer one
    c.close()


@pytest.mark.parametrize('extra', [(), ('--fast',)], ids=['default', 'fast'])
def test_mtu_of_a_route(lab, extra):
    """The route to the hosts has an MTU below the interface's (`lock`, or forwarding takes no notice): senders are told, and
    nothing longer leaves."""
    h6, gw, h4 = standard(lab, mtu4=9000)
    gw.ip(*'-6 route replace fc00:66::/64 via fc00:6::6 mtu lock 1400'.split())
    gw.load('--icmp-rate', 1000000, '--lowest-ipv6-mtu', 1500, *extra)
    c = Crossing(h6, gw, h4)
    address = echo(c)
    for size, fits in (1380, True), (1381, False), (1480, False), (1380, True):
        packet = IP(src='198.51.100.1', dst=address, ttl=9, flags='DF') / UDP(sport=1, dport=2) / Raw(b'x' * (size - 28))
        got = c.xlat46(packet)
        assert [len(p) for p in got] == ([size + 20] if fits else []), size
        if not fits:
            error = IP(c.back[0])
            assert (error.src, error[ICMP].type, error[ICMP].code) == (address, 3, 4)
            known = int(gw.run('uname', '-r').stdout.split('.')[0]) > 5      # before 5.12 the kernel does not say it
            assert error[ICMP].nexthopmtu == (1380 if known else 1260)
    pieces = c.xlat46(IP(src='198.51.100.1', dst=address, ttl=9, id=7) / UDP(sport=1, dport=2) / Raw(b'x' * 4000))
    assert len(pieces) > 1 and max(map(len, pieces)) <= 1400
    assert sum(len(p) - 48 for p in pieces) == 4008
    c.close()


# --- what hangs on a packet from where it has been before ---

RULES = '''
table ip nat {
	chain post { type nat hook postrouting priority srcnat; oifname "eth1" masquerade; }
}
table ip filter {
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state invalid drop
		ct state established,related accept
		iifname "br0" meta mark 7 accept
	}
}
table ip6 filter {
	chain forward { type filter hook forward priority 0; ct state invalid drop; }
}
table bridge b {
	chain pre { type filter hook prerouting priority 0; meta mark set 7; }
}
'''


@pytest.mark.parametrize('calls', [0, 1])
def test_bridge_with_netfilter(lab, calls, file):
    """Docker and Kubernetes switch bridge-nf-call-ip6tables on: what has met netfilter as IPv6 on its way through a bridge
    meets it again as IPv4. Its mark stays."""
    h6, gw, h4 = lab.hosts('h6', 'gw', 'h4')
    lab.link(h6, 'eth0', gw, 'port')
    lab.link(gw, 'eth1', h4, 'eth0')
    gw.ip(*'link add br0 type bridge'.split())
    gw.ip(*'link set port master br0'.split())
    gw.ip(*'link set br0 up'.split())
    gw.run('modprobe', 'br_netfilter', check=False)
    try:
        for family in 'ip', 'ip6':
            gw.sysctl(f'net.bridge.bridge-nf-call-{family}tables', calls)
    except FileNotFoundError:
        not_here('br_netfilter')
    gw.forwards()
    h6.addr('eth0', 'fc00:6::6/64')
    gw.addr('br0', 'fc00:6::1/64')
    h6.route('default', 'via', 'fc00:6::1')
    gw.addr('eth1', '192.0.2.1/24')
    h4.addr('eth0', f'{H4}/24')     # no route back to the pool: what is not masqueraded is lost
    gw.nft(RULES)
    gw.load(i='br0')
    wait_for(lambda: not h6.run('ping', '-c1', '-W0.5', 'fc00:6::1', check=False).returncode, 'the bridge to forward')
    ping(h6, WEB)
    serve(h4, file.parent, H4)
    fetch(h6, f'[{WEB}]', file)


def test_conntrack_of_both_families(nat, file):
    """Stateful firewalls that drop what they do not know: IPv4 connections are tracked, of IPv6 there is nothing to be
    tracked, and a rule that excepts packets from tracking excepts no others."""
    h6, gw, h4 = nat
    gw.nft('''
        table inet f {
            chain raw { type filter hook prerouting priority raw; meta nfproto ipv6 notrack; }
            chain forward {
                type filter hook forward priority 0; policy drop;
                ct state invalid drop
                ct state established,related accept
                iifname "eth0" oifname "eth1" accept
            }
        }''')
    ping(h6, WEB)
    serve(h4, file.parent, H4)
    fetch(h6, f'[{WEB}]', file)
    assert h4.run('ping', '-c1', '-W0.3', v4_of(gw, H6, 'eth0'), check=False).returncode, 'the firewall lets all in'


TRANSPARENT = '''
import functools, http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_IP, 19, 1)        # IP_TRANSPARENT
        self.socket.bind(self.server_address)
        self.server_name = self.server_port = ''
Server(('0.0.0.0', 8080), functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])).serve_forever()
'''
TPROXY = '''
table ip t {
    chain pre {
        type filter hook prerouting priority mangle;
        meta l4proto tcp socket transparent 1 meta mark set 1 accept
        ip saddr 10.0.1.0/24 tcp dport 80 tproxy to :8080 meta mark set 1 accept
    }
}
'''


def test_transparent_proxy(nat, file):
    """What nftables' socket and tproxy do with IPv4, they do with packets that were IPv6."""
    h6, gw, _ = nat
    done = gw.run('nft', TPROXY, check=False)
    if done.returncode:
        not_here('nft tproxy')
    gw.ip(*'rule add fwmark 1 table 100'.split())
    gw.ip(*'route add local default dev lo table 100'.split())
    gw.start(PYTHON, '-c', TRANSPARENT, file.parent, stdout=subprocess.DEVNULL)
    gw.listening(8080)
    fetch(h6, f'[{embed("203.0.113.80")}]', file)           # there is no such server
