# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual's recipes, as a stranger types them: the very lines of README.org and nat64(8)."""

import re
import socket
import time

import pytest
from scapy.all import IP

from bpf import Translator
from lab import NAT64, Wire
from test_docs import man, read

OUTSIDE = '1.1.1.1'             # that ping reaches in the manual


def section(heading):
    text = read('README.org')
    return re.split(r'^\*+ ', text[text.index(f'** {heading}\n') + 3:], flags=re.M)[0]


def blocks(heading, kind):
    """The examples of a section of README.org."""
    found = re.findall(rf'^#\+begin_{kind}[^\n]*\n(.*?)^#\+end_{kind.split()[0]}', section(heading), re.M | re.S)
    assert found, heading
    return found


def type_in(host, lines):
    """What somebody types at the router; root is somebody who need not ask."""
    return host.run('bash', '-e', '-c', f'sudo() {{ "$@"; }}\nnat64() {{ {NAT64} "$@"; }}\n{lines}')


@pytest.fixture
def home(lab):
    """The home router of the manual: lan0, wan0, and the Internet behind them."""
    lan, gw, wan = lab.hosts('lan', 'gw', 'wan')
    lab.link(lan, 'eth0', gw, 'lan0')
    lab.link(gw, 'wan0', wan, 'eth0')
    gw.sysctl('net.ipv4.ip_forward', 1)
    gw.sysctl('net.ipv6.conf.all.forwarding', 1)
    gw.addr('lan0', '2001:db8:1::1/64')
    lan.addr('eth0', '2001:db8:1::10/64')
    lan.route('default', 'via', '2001:db8:1::1')
    gw.addr('wan0', '203.0.113.2/24')
    wan.addr('eth0', '203.0.113.1/24')
    wan.ip('addr', 'add', f'{OUTSIDE}/32', 'dev', 'lo')
    gw.route('default', 'via', '203.0.113.1')
    wan.route('10.64.0.0/16', 'via', '203.0.113.2')     # somebody who knows how to reach the hosts
    assert type_in(gw, blocks('Home router', 'src sh')[0]).stderr == ''
    yield lan, gw, wan
    gw.nat64('-i', 'lan0', '-u')


def answered(host, address):
    return host.run('ping', '-c', 1, '-W', 1, address, check=False).returncode == 0


def mapped(gw):
    with Translator(gw, 'lan0') as t:
        (mapping,) = t.mappings().values()
    return mapping.v4


def test_home_router(home):
    """It can be pinged as the manual says, and the world sees the one address of the router."""
    lan, _, wan = home
    (target,) = re.findall(r'=ping (\S+)=', section('Home router'))
    wire = Wire(wan)
    lan.run('ping', '-c', 1, '-W', 5, target)
    seen = IP(wire.read(5))
    assert (seen.src, seen.dst) == ('203.0.113.2', OUTSIDE)
    wire.close()
    assert f'ping {target}' in man()


def firewall():
    (lines,) = blocks('Firewall', 'src sh')
    return lines


def test_firewall(home):
    """Without it the hosts can be reached from outside; with it they reach, and are not reached."""
    lan, gw, wan = home
    assert answered(lan, f'64:ff9b::{OUTSIDE}') and answered(wan, mapped(gw))
    type_in(gw, firewall())
    assert not answered(wan, mapped(gw)) and answered(lan, f'64:ff9b::{OUTSIDE}')
    server = wan.http('/etc/hostname', OUTSIDE)
    assert lan.run('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', f'http://[64:ff9b::{OUTSIDE}]/').stdout == '404'
    wan.lab.end(server)
    # an ICMP error belongs to what it is about
    with lan, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.connect((f'64:ff9b::{OUTSIDE}', 9))
        s.settimeout(10)
        s.send(b'x')
        with pytest.raises(ConnectionRefusedError):
            s.recv(10)
    done = lan.run('traceroute', '-6', '-n', '-q', 1, '-w', 2, '-m', 3, f'64:ff9b::{OUTSIDE}', check=False)
    assert '64:ff9b::101:101' in done.stdout, done.stdout
    # a stranger's answer to nothing
    wire = Wire(lan)
    wan.run('ping', '-c', 1, '-W', 0.2, mapped(gw), check=False)
    time.sleep(0.2)
    assert wire.read(0) is None
    wire.close()


def test_server_behind_the_firewall(home):
    """The rule for a server, in front of the others."""
    lan, gw, wan = home
    answered(lan, f'64:ff9b::{OUTSIDE}')
    type_in(gw, firewall())
    (rule,) = re.findall(r'=(ip daddr [^=]* accept)=', section('Firewall'))
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
    assert answered(lan, f'64:ff9b::{OUTSIDE}')
    assert gw.run('nft', 'list', 'chain', 'ip6', 'f', 'f').stdout.count('packets 0 ') == 2


def test_man_page_has_the_same_rules():
    rules = re.search(r'^table.*?^}$', firewall(), re.M | re.S)[0]
    assert re.sub(r'\s+', ' ', rules) in re.sub(r'\s+', ' ', man())


def test_sample_file(net, tmp_path):
    """All that a configuration file may have; each line is right once it is uncommented, and none is loaded by mistake."""
    _, gw, _ = net
    text = read('dist/sample.conf')
    names = set(re.findall(r'^#([a-z][a-z0-9-]+)(?: |$)', text, re.M))
    table = re.findall(r'\{\s*(?:\'.\'|0), "([a-z0-9-]+)",[^{}]*?\.in_file = true', read('nat64.c'))
    assert names == set(table) and len(names) > 10
    conf = tmp_path / 'eth0.conf'
    conf.write_text(text)
    assert '--v4-prefix is missing' in gw.nat64('-i', 'eth0', '-c', conf, rc=2).stderr
    conf.write_text(re.sub(r'^#(?=[a-z])', '', text, flags=re.M))
    gw.nat64('-i', 'eth0', '-c', conf, '--dry-run')
