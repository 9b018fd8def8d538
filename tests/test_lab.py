# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself: it must see what a faulty nat64 would leave behind."""

import ipaddress
import os
import subprocess

import pytest

import lab as lab_module
from bpf import Translator, exists
from conftest import namespaces
from lab import Lab, changes, checksum, embed, standard, wait_for


@pytest.mark.parametrize('change', [
    ['ip', 'route', 'add', '203.0.113.0/24', 'via', '192.0.2.2'],
    ['ip', '-6', 'route', 'add', '2001:db8:5::/48', 'via', 'fc00:6::6'],
    ['ip', 'route', 'add', '203.0.113.0/24', 'dev', 'eth1', 'table', '77'],
    ['ip', 'rule', 'add', 'from', '203.0.113.0/24', 'table', '77'],
    ['ip', 'neigh', 'add', 'fc00:6::9', 'lladdr', '02:00:00:00:00:09', 'dev', 'eth0'],
    ['ip', 'neigh', 'add', 'proxy', 'fc00:6::9', 'dev', 'eth0'],
    ['ip', 'addr', 'add', '203.0.113.1/32', 'dev', 'lo'],
    ['ip', 'link', 'set', 'eth0', 'mtu', '1400'],
    ['ip', 'link', 'set', 'eth0', 'promisc', 'on'],
    ['tc', 'qdisc', 'add', 'dev', 'eth1', 'clsact'],
    ['tc', 'filter', 'add', 'dev', 'eth0', 'egress', 'prio', '9', 'u32', 'match', 'u32', '0', '0'],
    ['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter'],
    ['nft', 'add table ip t'],
], ids=' '.join)
def test_snapshot_sees(net, change):
    _, gw, _ = net
    if 'filter' in change:
        gw.run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact')
    before = gw.snapshot()
    assert gw.snapshot() == before
    gw.run(*change)
    assert changes(before, gw.snapshot()) != ''


def fake(path, text):
    path.write_text('#!/bin/sh\n' + text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize('text', ['ip route add 203.0.113.0/24 via 192.0.2.2; echo "nat64: failed" >&2; exit 1',
                                  'exit 1', 'echo "nat64: a" >&2; echo "nat64: b" >&2; exit 1',
                                  'echo "nat64: failed" >&2; exit 2', 'echo; echo "nat64: failed" >&2; exit 1',
                                  'exit 0'])
def test_a_bad_failure_is_seen(net, monkeypatch, tmp_path, text):
    """A run that fails but changes the machine, says nothing or too much, or ends with the wrong status."""
    monkeypatch.setattr(lab_module, 'NAT64', fake(tmp_path / 'nat64', text))
    with pytest.raises(AssertionError):
        net[1].nat64('-i', 'eth0', rc=1)


@pytest.mark.parametrize('text', ['exit 0', '"$REAL" "$@" && ip route add 203.0.113.0/24 via 192.0.2.2',
                                  '"$REAL" "$@" && ip route del 198.51.100.0/24',
                                  '"$REAL" "$@" && tc qdisc add dev eth0 clsact'])
def test_a_bad_unload_is_seen(nat, monkeypatch, tmp_path, text):
    """One that leaves or removes too much."""
    gw = nat[1]
    real = lab_module.NAT64
    with monkeypatch.context() as m:
        m.setenv('REAL', real)
        m.setattr(lab_module, 'NAT64', fake(tmp_path / 'nat64', text))
        with pytest.raises(AssertionError):
            gw.unload()
    if text == 'exit 0':
        subprocess.run(['ip', 'netns', 'exec', gw.ns, real, '-i', 'eth0', '-u'], check=True)


def test_programs_that_stay_are_seen(nothing_left):
    """The lab knows the ids of what was attached, and looks for them when all is taken away."""
    watched = Lab()
    _, gw, _ = standard(watched)
    gw.load()
    with Translator(gw) as t:       # holds program and maps
        held = {('prog', t.to4.id), ('prog', t.to6.id)} | {('map', i) for i in t.map_ids}
        assert len(held) >= 7 and held <= watched.ids
        with pytest.raises(AssertionError, match='to be freed'):
            watched.close(patience=0.1)
        assert all(exists(*i) for i in held)
    wait_for(lambda: not any(exists(*i) for i in held), 'programs and maps to be freed')


def test_namespaces_that_stay_are_seen(nothing_left):
    watched = Lab()
    host = watched.host('forgotten')
    assert host.ns in namespaces()
    watched.close()
    assert host.ns not in namespaces()


def test_embed():
    """RFC 6052 section 2.4; also in test_packets.py, from the other side."""
    for prefix, address in {'2001:db8::/32': '2001:db8:c000:221::', '2001:db8:100::/40': '2001:db8:1c0:2:21::',
                            '2001:db8:122::/48': '2001:db8:122:c000:2:2100::',
                            '2001:db8:122:300::/56': '2001:db8:122:3c0:0:221::',
                            '2001:db8:122:344::/64': '2001:db8:122:344:c0:2:2100::',
                            '64:ff9b::/96': '64:ff9b::c000:221'}.items():
        assert ipaddress.ip_address(embed('192.0.2.33', prefix)) == ipaddress.ip_address(address)


def test_checksum():
    """The example of RFC 1071 section 3."""
    assert checksum(bytes.fromhex('0001f203f4f5f6f7')) == 0xffff - 0xddf2


def test_hosts_are_apart(lab):
    a, b = lab.hosts('a', 'b')
    lab.link(a, 'eth0', b, 'eth7', mtu=1400)
    assert 'eth7' not in a.ip('link') and 'mtu 1400' in b.ip('link', 'show', 'eth7')
    home = os.readlink('/proc/thread-self/ns/net')
    with a:
        outer = os.readlink('/proc/thread-self/ns/net')
        with b:
            assert os.readlink('/proc/thread-self/ns/net') not in (home, outer)
        assert os.readlink('/proc/thread-self/ns/net') == outer != home
