# SPDX-License-Identifier: GPL-2.0-or-later
"""--xdp: where its programs are attached, how they are found again, replaced and taken away, and what it refuses. The lab
(Host.nat64, load, unload) checks that nothing else changes, on any interface: so all of it is done to veth."""

import contextlib
import json
import os
import re

import pytest

from bpf import XDP_DRIVER, XDP_GENERIC, Prog, Translator, xdp_hold, xdp_program
from frames import take_frames
from lab import NAT64
from test_fast import THREE, caps, pings, uplink
from test_load import every_step

POOL = '-4', '10.0.1.0/24', '-a', 'fc00::/8'
LOAD = ['-i', 'eth0', *POOL, '--xdp=veth']


def programs(gw):
    """{interface: name of our XDP program there}"""
    found = {name: xdp_program(gw, name) for _, name in gw.interfaces()}
    return {name: p[0] for name, p in found.items() if p and p[0].startswith('nat64_xdp')}


BOTH = {'eth0': 'nat64_xdp_6to4', 'eth1': 'nat64_xdp_4to6'}


def status(gw):
    return json.loads(gw.run(NAT64, '--status', '--json', check=False).stdout)['translators'][0]


def test_load_and_unload(net):
    """On the interface of the IPv6 hosts, and on that which IPv4 comes in by, over the same maps."""
    h6, gw, h4 = net
    held = take_frames(h6, h4)
    gw.load()
    assert programs(gw) == {} and status(gw)['xdp'] is None and 'xdp' not in gw.run(NAT64, '--status').stdout
    gw.unload()
    done = gw.load('--xdp=veth', '-v')
    assert programs(gw) == BOTH
    assert re.findall(r'^  xdp +(.*)$', done.stdout, re.M) == ['eth0, IPv6 to IPv4', 'eth1, IPv4 to IPv6']
    assert status(gw)['xdp'] == {'interfaces': ['eth0', 'eth1'], 'mode': 'veth'} and status(gw)['working']
    assert re.search(r'^  xdp +eth0, eth1 \(veth\)$', gw.run(NAT64, '--status').stdout, re.M)
    with Translator(gw) as t:
        for ifname in BOTH:
            with contextlib.closing(Prog(xdp_program(gw, ifname)[1])) as prog:
                assert {t.maps[name].id for name in ('mappings', 'stats', 'by_v6' if ifname == 'eth0' else 'ports')} <= set(prog.map_ids)
            assert xdp_program(gw, ifname)[2] == XDP_DRIVER
    pings(h6)
    gw.unload()
    assert programs(gw) == {}
    for fd in held:
        os.close(fd)


def test_generic(net):
    """Any Ethernet interface can have it, only if asked for by name."""
    h6, gw, _ = net
    gw.load('--xdp=generic')
    assert programs(gw) == BOTH and {xdp_program(gw, name)[2] for name in BOTH} == {XDP_GENERIC}
    assert status(gw)['xdp']['mode'] == 'generic'
    pings(h6)
    gw.unload()
    assert programs(gw) == {}


WAYS = {'tc': [], 'fast': ['--fast'], 'xdp': ['--xdp=veth'], 'both': ['--xdp=veth', '--fast'], 'generic': ['--xdp=generic']}


def test_reconfigure(net):
    """From any way to any other: new programs, the same mappings, nothing left of the old."""
    h6, gw, _ = net
    gw.load()
    pings(h6)
    for way in 'xdp', 'generic', 'both', 'xdp', 'fast':
        before = {name: xdp_program(gw, name) for name in BOTH}
        gw.load(*WAYS[way])
        after = {name: xdp_program(gw, name) for name in BOTH}
        want = {'xdp': XDP_DRIVER, 'both': XDP_DRIVER, 'generic': XDP_GENERIC}.get(way)
        for name, p in after.items():
            assert (p and p[2]) == want and (p is None or p != before[name])
        assert bool(status(gw)['fast']) == (way in ('fast', 'both'))
        pings(h6)
    gw.load('--xdp=veth', v4='10.0.2.0/24')
    assert programs(gw) == BOTH
    pings(h6)


def test_where(lab, net):
    """Where IPv4 comes in: as --fast. An interface that gets no address any more loses its program."""
    _, gw, _ = net
    uplink(lab, gw, 'v4', '203.0.113.1/24')
    uplink(lab, gw, 'v6', '2001:db8::1/64')
    gw.load('--xdp=veth')
    assert programs(gw) == BOTH | {'v4': 'nat64_xdp_4to6'}
    gw.ip('addr', 'flush', 'dev', 'v4')
    gw.addr('v6', '198.18.0.1/24')
    gw.load('--xdp=veth')
    assert programs(gw) == BOTH | {'v6': 'nat64_xdp_4to6'}


def test_ports(lab, net):
    """Several interfaces of IPv6 hosts: each has the program of its own; one that leaves loses it."""
    h6, gw, h4 = net
    uplink(lab, gw, 'eth2', 'fc00:b::1/64')
    held = take_frames(h6, h4)
    both = ['-i', 'eth0', '-i', 'eth2', *POOL, '--xdp=veth']
    gw.run(NAT64, *both)
    assert programs(gw) == BOTH | {'eth2': 'nat64_xdp_6to4'}
    assert status(gw)['xdp']['interfaces'] == ['eth0', 'eth1', 'eth2'] and status(gw)['working']
    pings(h6)
    gw.run(NAT64, '--device', 'nat64', '-i', 'eth0', *POOL, '--xdp=veth')
    assert programs(gw) == BOTH
    pings(h6)
    gw.run(NAT64, '-i', 'eth0', *POOL, '--xdp=veth')
    assert programs(gw) == BOTH
    gw.run(NAT64, *both)
    gw.run(NAT64, '-i', 'eth2', '-u')
    assert programs(gw) == {} and not [line for line in gw.snapshot() if re.search('nat64_|proto 64|: nat64', line)]
    for fd in held:
        os.close(fd)


def no_room(lab, gw, ifname, *addresses):
    """An interface whose driver refuses XDP, once it is asked: the other side has more queues to send from than this one to receive."""
    other = lab.host(f'far-{ifname}')
    gw.ip('link', 'add', ifname, 'numrxqueues', 1, 'type', 'veth', 'peer', 'name', 'eth0', 'numtxqueues', 2, 'netns', other.ns)
    for host, name in (gw, ifname), (other, 'eth0'):
        host.ip('link', 'set', name, 'up')
    other.run('ethtool', '-L', 'eth0', 'tx', 2, check=False)    # older kernels have begun with all of them
    gw.addr(ifname, *addresses)


def bridge(gw, *addresses):
    gw.ip('link', 'add', 'br0', 'type', 'bridge')
    gw.ip('link', 'set', 'br0', 'addrgenmode', 'none')      # whose state would change meanwhile
    gw.addr('br0', *addresses)
    gw.ip('link', 'set', 'br0', 'up')


@pytest.mark.parametrize('where', ['eth0', 'eth1'])
def test_program_of_somebody_else(net, where):
    """It stays; nat64 does not load, in either mode, and says what would do: --fast. That of libxdp has others behind it."""
    h6, gw, _ = net
    for generic in False, True:
        for name in 'foreign', 'xdp_dispatcher':
            held = xdp_hold(gw, where, name, generic=generic)
            ident = xdp_program(gw, where)[1]
            want = f'{where} has another XDP program, foreign, id {ident}; --fast works with it' if name == 'foreign' else \
                f'{where} has XDP programs of others, by libxdp, id {ident} (xdp-loader status {where}); --fast works with them'
            for mode in 'veth', 'generic':
                assert want in gw.nat64('-i', 'eth0', *POOL, f'--xdp={mode}', rc=1).stderr
            gw.load('--fast')
            gw.load('--xdp=veth', rc=1)
            pings(h6)
            gw.unload()
            assert xdp_program(gw, where)[0] == name
            os.close(held)


def test_uplink_that_cannot(lab, net):
    """One that IPv4 comes in by may do without, unless it is the way out, or the only one."""
    h6, gw, _ = net
    uplink(lab, gw, 'eth2', '203.0.113.1/24')
    held = xdp_hold(gw, 'eth2')
    done = gw.load('--xdp=veth', '-v')
    assert programs(gw) == BOTH and '--xdp: not on eth2, which has another XDP program' in done.stdout
    bridge(gw, '198.18.0.1/24')
    no_room(lab, gw, 'eth3', '198.18.1.1/24')
    done = gw.load('--xdp=veth', '-v')
    assert programs(gw) == BOTH and status(gw)['working']
    assert '--xdp: not on br0, which is a bridge, where' in done.stdout
    assert '--xdp: not on eth3, which cannot have it: ' in done.stdout
    gw.unload()
    gw.ip('addr', 'flush', 'dev', 'eth1')
    assert re.search('--xdp: on no interface that IPv4 comes in by: (eth2|eth3|br0) ', gw.nat64(*LOAD, rc=1).stderr)
    gw.route('default', 'via', '203.0.113.2')
    done = gw.nat64(*LOAD, rc=1)
    assert '--xdp: eth2, where IPv4 comes in, has another' in done.stderr
    os.close(held)


def test_refused(lab, net, rxvlan, monkeypatch):
    """In words, and nothing has changed: veth without being forced, what the driver has no room for, what the kernel has no native
    XDP for, network cards that take VLAN tags off."""
    _, gw, _ = net
    no_room(lab, gw, 'eth2', 'fc00:b::1/64')
    assert re.search('eth2 cannot have it: .*queues', gw.nat64('-i', 'eth2', *POOL, '--xdp=veth', rc=1).stderr)
    assert 'eth0 is a veth' in gw.nat64('-i', 'eth0', *POOL, '--xdp', rc=1).stderr
    bridge(gw, 'fc00:c::1/64')
    for mode in 'native', 'generic':
        assert 'br0 is a bridge, where' in gw.nat64('-i', 'br0', *POOL, f'--xdp={mode}', rc=1).stderr
    gw.run('ip', 'tuntap', 'add', 'tap0', 'mode', 'tap')
    gw.ip('link', 'set', 'tap0', 'up')
    gw.load('--xdp=generic', i='tap0')
    gw.unload(i='tap0')
    monkeypatch.setenv('LD_PRELOAD', rxvlan)
    assert 'ethtool -K tap0 rxvlan off' in gw.nat64('-i', 'tap0', *POOL, '--xdp=generic', rc=1).stderr


def test_capabilities(net):
    """As for --fast: three to load, CAP_SYS_ADMIN to tell whose the programs are."""
    _, gw, _ = net
    gw.load('--xdp=veth', via=THREE)
    for argv in LOAD, ['-u', '-i', 'eth0']:
        assert 'missing CAP_SYS_ADMIN' in gw.nat64(*argv, rc=1, via=THREE).stderr
    gw.unload(via=caps('net_admin', 'sys_admin'))
    held = xdp_hold(gw, 'eth1')
    assert 'missing CAP_SYS_ADMIN' in gw.nat64(*LOAD, rc=1, via=THREE).stderr
    gw.load(via=THREE)                                  # others do not matter
    gw.unload()
    os.close(held)


def test_wrong_command_lines(net):
    _, gw, _ = net
    gw.ip('tuntap', 'add', 'tun0', 'mode', 'tun')
    gw.ip('link', 'set', 'tun0', 'up')
    assert "not native, veth or generic" in gw.nat64('-i', 'eth0', *POOL, '--xdp=offload', rc=2).stderr
    assert 'given twice' in gw.nat64('-i', 'eth0', *POOL, '--xdp', '--xdp=generic', rc=2).stderr
    assert 'no Ethernet interface' in gw.nat64('-i', 'tun0', *POOL, '--xdp', rc=2).stderr
    assert '--device alone' in gw.nat64('--device', 'nat64', *POOL, '--xdp', rc=2).stderr


def test_configuration_file(net, tmp_path):
    _, gw, _ = net
    (tmp_path / 'conf').write_text('xdp\n')
    assert 'eth0 is a veth' in gw.nat64('-i', 'eth0', *POOL, '-c', tmp_path / 'conf', rc=1).stderr
    (tmp_path / 'conf').write_text('xdp veth\n')
    gw.load('-c', tmp_path / 'conf')
    assert programs(gw) == BOTH


def test_no_uplink(net):
    _, gw, _ = net
    gw.ip('addr', 'flush', 'dev', 'eth1')
    done = gw.load('--xdp=veth')
    assert re.fullmatch(r'nat64: --xdp: no other [^\n]*\n', done.stderr)
    assert programs(gw) == {'eth0': 'nat64_xdp_6to4'}


def test_two_translators(lab, net):
    """An interface has one program: the second translator finds the uplink taken. Each unloads its own."""
    _, gw, _ = net
    uplink(lab, gw, 'eth2', 'fc00:b::1/64')
    gw.load('--xdp=veth')
    second = ['-i', 'eth2', '-4', '10.0.2.0/24', '-a', 'fc00::/8']
    assert 'eth1 has the XDP program of another translator' in gw.nat64(*second, '--xdp=veth', rc=1).stderr
    gw.run(NAT64, *second)
    gw.run(NAT64, '-i', 'eth2', '-u')
    assert programs(gw) == BOTH


END = {
    'unload it': ['-u', '-i', 'eth0'],
    'unload where nothing is': ['-u', '-i', 'eth3'],
    'load another': ['-i', 'eth3', '-4', '10.0.3.0/24', '-a', 'fc00::/8'],
}


@pytest.mark.parametrize('name', END)
def test_interface_deleted(lab, net, name):
    """What is left on the uplink is nobody's: the next run takes it away."""
    _, gw, _ = net
    uplink(lab, gw, 'eth3', 'fc00:c::1/64')
    gw.run(NAT64, *LOAD)
    gw.ip('link', 'del', 'eth0')
    assert programs(gw) == {'eth1': 'nat64_xdp_4to6'}
    gw.run(NAT64, *END[name])
    assert programs(gw) == {}
    gw.run(NAT64, '-u', '-i', 'eth3', check=False)


def test_health(net):
    """A program that is gone, one that has been replaced, another MAC address."""
    _, gw, _ = net
    gw.load('--xdp=veth')
    gw.route('default', 'via', '192.0.2.2')
    gw.ip('link', 'set', 'eth0', 'xdpdrv', 'off')
    assert status(gw)['problems'] == ['--xdp: its program is missing on eth0 (load it again)']
    held = xdp_hold(gw, 'eth0')
    assert status(gw)['problems'] == ['--xdp: its program is replaced by another on eth0 (load it again)']
    os.close(held)
    gw.load('--xdp=veth')
    assert status(gw)['problems'] == []
    gw.ip('link', 'set', 'eth1', 'xdpdrv', 'off')
    assert status(gw)['problems'] == ['--xdp: its program is missing on eth1 (load it again)']
    gw.load('--xdp=veth')
    gw.ip('link', 'set', 'eth1', 'address', '02:00:00:00:00:77')
    gw.ip('route', 'replace', 'default', 'via', '192.0.2.2')
    assert any('the MAC address of eth1 is another one' in p for p in status(gw)['problems'])
    gw.load('--xdp=veth')
    assert status(gw)['problems'] == []
    gw.loaded.clear()           # it was not nat64 alone that took programs away
    gw.run(NAT64, '-i', 'eth0', '-u')
    assert programs(gw) == {}


@pytest.mark.parametrize('loaded', [None, '--xdp=veth', '--xdp=generic'])
def test_failure_on_an_uplink(lab, net, loaded):
    """The last step fails, on the last interface: all is as it was before, with the same programs."""
    _, gw, _ = net
    if loaded:
        gw.load(loaded)
    no_room(lab, gw, 'zz', '203.0.113.1/24')
    gw.ip('route', 'replace', 'default', 'dev', 'zz')
    before = {name: xdp_program(gw, name) for name in BOTH}
    assert 'zz, where IPv4 comes in, cannot have it: ' in gw.load('--xdp=veth', '-t', 60, rc=1).stderr
    assert {name: xdp_program(gw, name) for name in BOTH} == before
    assert bool(loaded) == all(before.values())


def test_every_step_may_fail(net, tmp_path):
    """As in test_load.py, of a load and of a reconfiguration; some of them."""
    h6, gw, _ = net
    assert every_step(gw, LOAD, tmp_path, lambda: programs(gw) == BOTH, lambda steps, loaded:
                      steps if os.environ.get('NAT64_TEST_ALL') else steps[loaded::7]) >= 4
    pings(h6)
    gw.run(NAT64, '-u', '-i', 'eth0')
    assert programs(gw) == {}
