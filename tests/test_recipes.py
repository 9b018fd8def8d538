# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual's recipes, as a stranger types them: the very lines of README.org and nat64(8)."""

import re

import pytest
from scapy.all import IP

import recipes
from lab import NAT64, Wire
from recipes import OUTSIDE, blocks, section, type_in
from test_docs import man, manual, read
from test_load import pings


@pytest.fixture
def home(lab):
    """The home router of the manual, with its lines typed in."""
    lan, gw, wan = recipes.home(lab)
    assert type_in(gw, blocks('README.org', 'Home router')[0]).stderr == ''
    yield lan, gw, wan
    gw.nat64('-i', 'lan0', '-u')


def test_home_router(home):
    """It can be pinged as the manual says, and the world sees the one address of the router."""
    lan, _, wan = home
    (target,) = re.findall(r'=ping (\S+)=', section('README.org', 'Home router'))
    wire = Wire(wan)
    lan.run('ping', '-c', 1, '-W', 5, target)
    seen = IP(wire.read(5))
    assert (seen.src, seen.dst) == ('203.0.113.2', OUTSIDE)
    wire.close()
    assert f'ping {target}' in man()


# Commands that load something, but for those that others type: of the home router and of an IPv6-mostly LAN
LOADS = [(name, line) for name, text in manual().items() if name != 'docs/ipv6-mostly.org'
         for line in re.findall(r'^sudo (?:\./)?(nat64 (?:-i|--device) (?!lan0)\w+ .*-[4s] [^#\n]*)', text, re.M)]


@pytest.mark.parametrize('name, line', LOADS)
def test_every_load(module_net, name, line):
    """As it is written, it loads, and what is loaded works."""
    h6, gw, _ = module_net
    device = line.split()[2]
    if '--xdp' in line:
        assert 'eth0 is a veth' in gw.nat64(*line.split()[1:], rc=1).stderr     # see test_xdp_native.py
        return
    if device == 'wg0':
        gw.ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'peer')
        gw.ip('link', 'set', device, 'up')
        gw.ip('link', 'set', 'peer', 'up')
    type_in(gw, line)
    gw.run(NAT64, '-i', device, '--status')
    if device == 'eth0' and 'fc00::/8' in line:
        pings(h6)
    gw.run(NAT64, '-i', device, '-u')


def test_loads_are_found():
    assert len(LOADS) >= 7 and {'README.org', 'docs/device.org', 'docs/faster.org', 'docs/operation.org'} <= {name for name, _ in LOADS}


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
    text = re.sub(r'^#(?=[a-z])', '', text, flags=re.M)
    conf.write_text(text)
    assert '--xdp: eth0 is a veth' in gw.nat64('-i', 'eth0', '-c', conf, '--dry-run', rc=1).stderr
    conf.write_text(re.sub(r'^xdp$', '', text, flags=re.M))
    gw.nat64('-i', 'eth0', '-c', conf, '--dry-run')
