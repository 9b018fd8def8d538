# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/ipv6-mostly.org: hosts that have nothing configured, of which one can do without IPv4 and the other cannot."""

import os
import re
import socket

import pytest

import recipes
from lab import Wire, wait_for
from recipes import OUTSIDE, WEB, Image, blocks, type_in

DOC = 'docs/ipv6-mostly.org'
# udhcpc says what it got by variables.
SCRIPT = '#!/bin/sh\n[ "$1" != bound ] || env >/run/lease\n'
# That of the next release of Debian, which tests/image has beside that of this one
NEWER = '/usr/lib/nat64-trixie/usr'
RADVD = f'#!/bin/sh\nexec {NEWER}/lib64/ld-linux-x86-64.so.2 --library-path {NEWER}/lib/x86_64-linux-gnu {NEWER}/sbin/radvd "$@"\n'


@pytest.fixture(scope='module')
def world(module_lab):
    """(lan, old, gw): the router with all that the recipes have, and two hosts on its LAN that have just been switched on."""
    lan, gw, wan, old = recipes.home(module_lab, ['old'])
    key = recipes.internet(wan)
    for host in lan, old, gw:
        Image(host)
        host.image.write('/run/script', SCRIPT)
        host.image.run('chmod', '755', '/run/script')
    gw.image.write('/usr/share/dns/root.key', key)
    gw.old = old_radvd(gw)
    if gw.old:
        gw.image.write('/usr/sbin/radvd', RADVD)
    type_in(gw, blocks('README.org', 'Home router')[0])
    type_in(gw, blocks('docs/dns64.org', 'Unbound')[0])
    gw.image.write('/etc/dnsmasq.d/test.conf', 'no-ping\n')     # it would wait for three seconds whether somebody answers
    type_in(gw, blocks(DOC, 'DHCP for those that need it')[0])
    wire = Wire(lan)
    type_in(gw, blocks(DOC, 'Router advertisements')[0])
    gw.advertisement = wait_for(lambda: advertisement(wire), lambda: gw.image.log('radvd'))
    wire.close()
    with recipes.web(wan) as page:
        module_lab.page = page
        yield lan, old, gw
    gw.nat64('-i', 'lan0', '-u')


def old_radvd(gw):
    """Does this one not know nat64prefix?"""
    version = gw.image.run('radvd', '-v', check=False)
    return tuple(map(int, re.search(r'(\d+)\.(\d+)', version.stdout + version.stderr).groups())) < (2, 20)


def advertisement(wire):
    """The options of the next router advertisement: {type: bytes after type and length}."""
    frame = wire.sock.recv(1 << 16)
    if frame[12:14] != b'\x86\xdd' or frame[20] != 58 or frame[54] != 134:
        return None
    rest, found = frame[54 + 16:], {}
    while rest:
        found[rest[0]] = rest[2:8 * rest[1]]
        rest = rest[8 * rest[1]:]
    return found


def test_pref64(world):
    """RFC 8781 section 4: type 38, 13 bits of lifetime, prefix length code 0 for /96, and the 96 bits."""
    option = world[2].advertisement[38]
    assert option[2:] == socket.inet_pton(socket.AF_INET6, '64:ff9b::')[:12]
    assert option[1] & 7 == 0 and int.from_bytes(option[:2], 'big') >> 3 > 0


def test_old_radvd(world):
    """What the manual says of Debian 12's: it refuses the line, and takes the file without it."""
    _, _, gw = world
    if not gw.old:
        pytest.skip('NO radvd without nat64prefix: this one has it')
    with_it = gw.image.read('/etc/radvd.conf')
    for text, rc in (with_it, 1), (re.sub(r'.*nat64prefix.*\n', '', with_it), 0):
        gw.image.write('/run/radvd.conf', text)
        path = os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'nat64-image')
        done = gw.image.run(f'{os.environ.get("NAT64_IMAGE", path)}/usr/sbin/radvd', '-c', '-C', '/run/radvd.conf', check=False)
        assert done.returncode == rc, done


def test_rdisc6(world):
    lan, _, _ = world
    text = lan.image.run('rdisc6', '-1', '-q', 'eth0').stdout
    assert text.split() == ['2001:db8:1::/64']
    text = lan.image.run('rdisc6', '-1', 'eth0').stdout
    assert re.search(r'Recursive DNS server +: 2001:db8:1::1\b', text)


def lease(host, *options):
    """What the host is told by DHCP."""
    host.image.run('rm', '-f', '/run/lease')
    host.image.run('busybox', 'udhcpc', '-i', 'eth0', '-f', '-q', '-n', '-t', 20, '-T', 1, '-s', '/run/script', *options)
    return dict(line.split('=', 1) for line in host.image.read('/run/lease').splitlines())


def test_option_108(world):
    """RFC 8925: who asks for the option is told to wait half an hour for IPv4; who does not is not told."""
    lan, old, _ = world
    assert int(lease(lan, '-O', '108')['opt108'], 16) == 1800
    assert 'opt108' not in lease(old)


def fetch(host, name):
    page, content = host.lab.page
    return host.image.run('curl', '-sS', '-m', 10, f'http://{name}/{page}').stdout == content


def test_ipv4_host(world):
    """It has an address and the resolver, and reaches IPv4 as ever."""
    _, old, _ = world
    got = lease(old)
    old.addr('eth0', f'{got["ip"]}/24')
    old.route('default', 'via', got['router'])
    old.image.write('/etc/resolv.conf', f'nameserver {got["dns"]}\n')
    old.sysctl('net.ipv6.conf.eth0.disable_ipv6', 1)
    assert fetch(old, 'only4.example')


def test_host_with_a_clat(world):
    """It has IPv6 alone, from the router advertisement; and then an IPv4 literal works, and a ping, and a program that knows nothing
    but IPv4."""
    lan, _, _ = world
    lan.image.write('/etc/resolv.conf', 'nameserver 2001:db8:1::1\n')
    assert lan.ip('-4', 'addr', 'show', 'dev', 'eth0') == ''
    assert fetch(lan, 'only4.example')
    type_in(lan, blocks(DOC, 'A host without a CLAT of its own')[0])
    try:
        assert fetch(lan, 'only4.example') and fetch(lan, WEB)
        lan.run('ping', '-c', 1, '-W', 5, OUTSIDE)
        with lan, socket.create_connection((WEB, 80), 10) as s:
            assert s.getsockname()[0] == '192.0.0.1'
    finally:
        lan.nat64('--device', 'clat', '-u')
