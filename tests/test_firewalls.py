# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/firewalls.org: the hosts reach, and are not reached, with each of the firewalls of the manual."""

import contextlib
import re
import socket

import pytest

import recipes
from bpf import Translator
from lab import Wire, patience, wait_for
from recipes import OUTSIDE, WEB, Image, blocks, section, type_in
from test_devices import not_here
from test_docs import man
from test_hop import conntrack

DOC = 'docs/firewalls.org'
TARGET = f'64:ff9b::{OUTSIDE}'
NAT64, MASQUERADE = blocks('README.org', 'Home router')[0].split('\n', 1)


@pytest.fixture
def home(lab):
    """The router with nat64, and nothing that masquerades. A stranger outside has a route to the hosts' IPv4 addresses."""
    lan, gw, wan = recipes.home(lab)
    assert type_in(gw, NAT64).stderr == ''
    yield lan, gw, wan
    gw.nat64('-i', 'lan0', '-u')


def lines(heading):
    (found,) = blocks(DOC, heading)
    return found


def answered(host, address):
    return host.run('ping', '-c', 1, '-W', 1, address, check=False).returncode == 0


def mapped(gw, device='lan0'):
    with Translator(gw, device) as t:
        (mapping,) = t.mappings().values()
    return mapping.v4


def reaches_and_is_not_reached(lan, gw, wan, pings=False):
    """Of what everybody does, all works; of what a stranger does, nothing (or pings)."""
    assert answered(lan, TARGET)
    server = wan.http('/etc/hostname', OUTSIDE)
    assert lan.run('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', f'http://[{TARGET}]/').stdout == '404'
    wan.lab.end(server)
    # an ICMP error belongs to what it is about
    with lan, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.connect((TARGET, 9))
        s.settimeout(10)
        s.send(b'x')
        with pytest.raises(ConnectionRefusedError):
            s.recv(10)
    done = lan.run('traceroute', '-6', '-n', '-q', 1, '-w', 2, '-m', 4, TARGET, check=False)
    assert '64:ff9b::101:101' in done.stdout, done.stdout
    # nothing of a stranger comes through; a marker that does follows it
    with wan, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        wire = Wire(lan)
        for _ in range(3):
            s.sendto(b'stranger', (mapped(gw), 7))
        with contextlib.suppress(OSError), socket.create_connection((mapped(gw), 7), 0.2):
            pass
        wan.run('ping', '-c', 1, '-W', 0.2, mapped(gw), check=False)
    assert answered(lan, TARGET)
    while (packet := wire.read(1)) and packet[40] != 129:       # the marker: an echo reply
        assert pings and packet[40] == 128, packet
    assert packet
    wire.close()


def masqueraded(lan, wan):
    """Does the world see the one address of the router?"""
    wire = Wire(wan)
    answered(lan, TARGET)
    packet = wait_for(lambda: wire.read(1))
    wire.close()
    return packet[12:16] == socket.inet_aton('203.0.113.2')


def test_nftables(home):
    """Without it the hosts can be reached from outside; with it they reach, and are not reached."""
    lan, gw, wan = home
    type_in(gw, MASQUERADE)
    assert answered(lan, TARGET) and answered(wan, mapped(gw))
    type_in(gw, lines('nftables'))
    reaches_and_is_not_reached(lan, gw, wan)


def test_server_behind_the_firewall(home):
    """The rule for a server, in front of the others."""
    lan, gw, wan = home
    answered(lan, TARGET)
    type_in(gw, lines('nftables'))
    (rule,) = re.findall(r'=(ip daddr [^=]* accept)=', section(DOC, 'nftables'))
    server = lan.http('/etc/hostname', '2001:db8:1::10', 443)
    address = f'http://{mapped(gw)}:443/'
    assert wan.run('curl', '-s', '-m', 1, address, check=False).returncode != 0
    gw.run('nft', f'insert rule ip nat64 forward {rule.replace("10.64.0.80", mapped(gw))}')
    wan.run('curl', '-s', '-m', 5, address)
    lan.lab.end(server)


def test_ipv6_rules_see_nothing(home):
    """What the warning is about."""
    lan, gw, _ = home
    gw.nft('table ip6 f {\nchain f {\ntype filter hook forward priority 0; policy drop;\n'
           'ip6 daddr 64:ff9b::/96 counter accept\nip6 saddr 64:ff9b::/96 counter accept\n}\n}')
    assert answered(lan, TARGET)
    assert gw.run('nft', 'list', 'chain', 'ip6', 'f', 'f').stdout.count('packets 0 ') == 2


def test_device(lab):
    """Stateful in both families."""
    lan, gw, wan = recipes.home(lab)
    type_in(gw, NAT64.replace('-i lan0', '--device nat64'))
    type_in(gw, MASQUERADE + lines('A device of its own'))
    assert answered(lan, TARGET) and not answered(wan, mapped(gw, 'nat64'))
    gw.nat64('--device', 'nat64', '-u')


def test_firewalld(home):
    lan, gw, wan = home
    Image(gw)
    gw.image.run('mkdir', '-p', '/run/dbus')
    gw.image.run('dbus-daemon', '--system', '--fork')
    type_in(gw, 'systemctl start firewalld')
    wait_for(lambda: gw.image.run('firewall-cmd', '--state', check=False).returncode == 0, lambda: gw.image.log('firewalld'))
    assert not answered(lan, TARGET)
    type_in(gw, lines('firewalld'))
    reaches_and_is_not_reached(lan, gw, wan)
    assert masqueraded(lan, wan)


def test_ufw(home):
    lan, gw, wan = home
    Image(gw)
    type_in(gw, lines('ufw'))
    reaches_and_is_not_reached(lan, gw, wan, pings=True)
    assert masqueraded(lan, wan)
    type_in(gw, 'ufw route delete allow in on lan0 out on wan0')
    server = wan.http('/etc/hostname', OUTSIDE)
    assert lan.run('curl', '-s', '-m', 1, f'http://[{TARGET}]/', check=False).returncode == 28      # nobody answers
    lan.lab.end(server)


def test_flow_tables(home):
    """Both directions of a connection by the flow table."""
    lan, gw, wan = home
    type_in(gw, MASQUERADE)
    done = type_in(gw, lines('Flow tables'), check=False)
    assert 'syntax error' not in done.stderr
    if done.returncode:
        not_here('nft flowtable')
    with wan, socket.create_server((WEB, 7)) as server:
        with lan:
            client = socket.create_connection((f'64:ff9b::{WEB}', 7), patience(10))
        peer, _ = server.accept()
        for _ in range(10):
            client.sendall(b'x')
            assert peer.recv(1) == b'x'
            peer.sendall(b'y')
            assert client.recv(1) == b'y'
        wait_for(lambda: '[OFFLOAD]' in conntrack(gw), 'a flow to be offloaded')
        client.sendall(b'x')
        assert peer.recv(1) == b'x'
        client.close()
        peer.close()


@pytest.mark.parametrize('mtu', [1500, 1492, 1400])
def test_no_clamping(lab, mtu):
    """Bulk TCP to a server, and back, with the MSS as the hosts have it: without any ICMP error, also on a PPPoE link. Where the link is
    smaller, an error tells, and the transfer goes on."""
    lan, gw, wan = recipes.home(lab)
    gw.ip('link', 'set', 'wan0', 'mtu', mtu)
    type_in(gw, NAT64)
    gw.nft('table ip t {\nchain out {\ntype filter hook output priority 0;\nicmp type destination-unreachable icmp code frag-needed counter\n}\n'
           'chain forward {\ntype filter hook forward priority 0;\ntcp flags syn tcp option maxseg size 1440 counter\n}\n}')
    with wan, socket.create_server((WEB, 7)) as server:
        with lan:
            client = socket.create_connection((f'64:ff9b::{WEB}', 7), patience(10))
        peer, _ = server.accept()
        for a, b in ((client, peer), (peer, client))[:1 if mtu < 1480 else 2]:
            for _ in range(20):
                a.sendall(bytes(50_000))
                assert len(b.recv(50_000, socket.MSG_WAITALL)) == 50_000
        client.close()
        peer.close()
    seen = gw.run('nft', 'list', 'table', 'ip', 't').stdout
    told, syns = (int(re.search(rf'{what} counter packets (\d+)', seen)[1]) for what in ('frag-needed', 'maxseg size 1440'))
    assert syns == 1 and bool(told) == (mtu < 1480)
    gw.nat64('-i', 'lan0', '-u')


def test_man_page_has_the_same_rules():
    rules = re.search(r'^table.*?^}$', lines('nftables'), re.M | re.S)[0]
    assert re.sub(r'\s+', ' ', rules) in re.sub(r'\s+', ' ', man())
