# SPDX-License-Identifier: GPL-2.0-or-later
"""--fast: where its program is attached, how it is found again, replaced and taken away, with tcx and as filters of
clsact. The lab (Host.nat64, load, unload) checks that nothing else changes, on any interface."""

import collections
import json
import os
import re
import sys

import pytest

from bpf import EXIT, Translator, by_id, has_tcx, mov, prog_load, prog_maps, tcx_attach, tcx_programs, Map, PROG_FD_BY_ID
from lab import NAT64, embed
from test_load import BPF, U32, every_step, inject, trace
from test_tcx import needs_tcx

LOAD = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '--fast']
OWNER = 32      # offset of .ifindex in struct nat64_config


def config(ident):
    """The .rodata of a program."""
    fd = by_id(PROG_FD_BY_ID, ident)
    for m in map(Map, prog_maps(fd)):
        if m.name == 'nat64_bp.rodata':
            raw = m.lookup(bytes(4))
        m.close()
    os.close(fd)
    return raw


def filters(gw, ifname, way='ingress'):
    text = gw.run('tc', '-j', 'filter', 'show', 'dev', ifname, way, check=False).stdout or '[]'
    return [f['options'] for f in json.loads(text) if 'bpf_name' in f.get('options', {})]


def fast(gw):
    """{interface: {owner: program id}} of what is attached."""
    out = collections.defaultdict(dict)
    for _, name in gw.interfaces():
        found = [ident for prog, ident in tcx_programs(gw, name, 'ingress') if prog == 'nat64_fast'] + \
                [f['prog']['id'] for f in filters(gw, name) if f['bpf_name'].startswith('nat64_fast')]
        for ident in found:
            owner = int.from_bytes(config(ident)[OWNER:OWNER + 4], sys.byteorder)
            owner = dict((n, i) for n, i in gw.interfaces()).get(owner, 'gone')
            assert owner not in out[name], f'two of {owner} on {name}'
            out[name][owner] = ident
    return {name: found for name, found in out.items() if found}


def where(gw, owner='eth0'):
    return sorted(name for name, found in fast(gw).items() if owner in found)


def pings(h6, target=embed('192.0.2.2'), count=3):
    out = h6.run('ping', '-c', count, '-i', '0.01', '-W', '5', target).stdout
    assert f'{count} received' in out, out


def uplink(lab, gw, ifname, *addresses):
    """Another interface of the gateway, an Ethernet to a host of its own."""
    other = lab.host(f'far-{ifname}')
    lab.link(gw, ifname, other, 'eth0')
    gw.addr(ifname, *addresses)


def second(lab, gw):
    """Another interface with IPv6 hosts."""
    uplink(lab, gw, 'eth2', 'fc00:b::1/64')


def foreign(gw, ifname, name, way='ingress'):
    fd = prog_load(mov(0, -1), EXIT, name=name)
    try:
        tcx_attach(gw, ifname, way, fd)
    finally:
        os.close(fd)


def test_load_and_unload(kind, net):
    """On the interface that IPv4 comes in by, over the same maps; without --fast there is nothing of it."""
    h6, gw, _ = net
    gw.load()
    assert fast(gw) == {}
    gw.unload()
    gw.load('--fast')
    assert where(gw) == ['eth1']
    with Translator(gw) as t:
        fd = by_id(PROG_FD_BY_ID, fast(gw)['eth1']['eth0'])
        assert {t.maps[name].id for name in ('mappings', 'stats', 'nat64_bp.rodata')} <= set(prog_maps(fd))
        os.close(fd)
    assert bool(filters(gw, 'eth1')) == (kind == 'clsact')
    pings(h6)
    gw.unload()
    assert fast(gw) == {}


def test_where(kind, lab, net):
    """Ethernet with an IPv4 address, and no port of anything."""
    _, gw, _ = net
    uplink(lab, gw, 'v4', '203.0.113.1/24')
    uplink(lab, gw, 'v6', '2001:db8::1/64')
    uplink(lab, gw, 'eth8', '198.18.0.1/24')
    gw.ip('link', 'set', 'eth8', 'down')
    uplink(lab, gw, 'eth9', '198.18.1.1/24')
    gw.ip('link', 'add', 'br0', 'type', 'bridge')
    gw.ip('link', 'set', 'eth9', 'master', 'br0')
    gw.addr('br0', '198.18.2.1/24')
    gw.ip('tuntap', 'add', 'tun0', 'mode', 'tun')
    gw.addr('tun0', '198.18.3.1/24')
    gw.addr('eth0', '198.18.4.1/24')            # its own: not another one
    gw.addr('lo', '198.18.5.1/32')
    gw.load('--fast')
    assert where(gw) == ['br0', 'eth1', 'eth8', 'v4']
    seen = json.loads(gw.run(NAT64, '--status', '--json').stdout)['translators'][0]['fast']
    assert sorted(seen) == where(gw)


def test_status(net):
    _, gw, _ = net
    gw.load()
    assert json.loads(gw.run(NAT64, '--status', '--json').stdout)['translators'][0]['fast'] is None
    assert 'fast' not in gw.run(NAT64, '--status').stdout
    gw.load('--fast')
    assert json.loads(gw.run(NAT64, '--status', '--json').stdout)['translators'][0]['fast'] == ['eth1']
    assert re.search(r'^  fast +eth1$', gw.run(NAT64, '--status').stdout, re.M)
    assert re.search(r'^  fast +eth1$', gw.load('--fast', '-v').stdout, re.M)


def test_no_uplink(net):
    """Nowhere to attach it: that is said, and it works the ordinary way."""
    _, gw, _ = net
    gw.ip('addr', 'flush', 'dev', 'eth1')
    done = gw.load('--fast')
    assert re.fullmatch(r'nat64: --fast: no other [^\n]*\n', done.stderr)
    assert json.loads(gw.run(NAT64, '--status', '--json').stdout)['translators'][0]['fast'] == []
    assert re.search(r'^  fast +on no interface$', gw.run(NAT64, '--status').stdout, re.M)


def test_reconfigure(kind, lab, net):
    """Replaced where it is, added where it is to be now, removed where it is to be no more; everywhere without --fast."""
    h6, gw, _ = net
    uplink(lab, gw, 'old', '203.0.113.1/24')
    uplink(lab, gw, 'new')
    gw.load('--fast')
    first = fast(gw)
    assert sorted(first) == ['eth1', 'old']
    gw.ip('addr', 'flush', 'dev', 'old')
    gw.addr('new', '198.18.0.1/24')
    gw.load('--fast', '-t', 60)
    again = fast(gw)
    assert sorted(again) == ['eth1', 'new'] and again['eth1'] != first['eth1']
    pings(h6)
    gw.load('--fast', v4='10.0.2.0/24')
    assert where(gw) == ['eth1', 'new']
    pings(h6)
    gw.load()
    assert fast(gw) == {}
    gw.load('--fast')
    assert where(gw) == ['eth1', 'new']


@needs_tcx
def test_replaced_in_its_place(net):
    """tcx: between the programs of others, where it was. (One step: nothing else keeps the place.)"""
    _, gw, _ = net
    foreign(gw, 'eth1', 'first')
    gw.load('--fast')
    foreign(gw, 'eth1', 'last')
    for argv in ['--fast'], ['--fast', '-t', 60]:
        gw.load(*argv)
        assert [name for name, _ in tcx_programs(gw, 'eth1', 'ingress')] == ['first', 'nat64_fast', 'last']
    gw.unload()
    assert [name for name, _ in tcx_programs(gw, 'eth1', 'ingress')] == ['first', 'last']


def test_beside_clsact(net):
    """Where there is a clsact qdisc, as a filter of it, as nat64 itself; and the qdisc and its filters stay."""
    h6, gw, _ = net
    gw.run('tc', 'qdisc', 'add', 'dev', 'eth1', 'clsact')
    gw.run('tc', 'filter', 'add', 'dev', 'eth1', 'ingress', 'prio', 7, 'protocol', 'all', *BPF)
    before = gw.snapshot()
    gw.load('--fast')
    assert [f['handle'] for f in filters(gw, 'eth1')] == ['0x%x' % (0x80000000 | dict(
        (n, i) for i, n in gw.interfaces())['eth0'])]
    assert (filters(gw, 'eth0') == []) == has_tcx()
    pings(h6)
    gw.load('--fast', '-t', 60)
    assert len(filters(gw, 'eth1')) == 1
    gw.unload()
    assert gw.snapshot() == before


@pytest.mark.parametrize('order', [['eth0', 'eth2'], ['eth2', 'eth0']])
def test_two_translators(kind, lab, net, order):
    """Each has its own on the uplink, and on the other's interface if that has IPv4, too; the last one takes away what
    nat64 made."""
    _, gw, _ = net
    second(lab, gw)
    gw.addr('eth0', '198.18.0.1/24')
    gw.addr('eth2', '198.18.2.1/24')
    clean = gw.snapshot()
    pool = {'eth0': '10.0.1.0/24', 'eth2': '10.0.2.0/24'}
    for i in 'eth0', 'eth2':
        gw.run(NAT64, '-i', i, '-4', pool[i], '-a', 'fc00::/8', '--fast')
    both = fast(gw)
    assert {name: sorted(found) for name, found in both.items()} == \
           {'eth1': ['eth0', 'eth2'], 'eth0': ['eth2'], 'eth2': ['eth0']}
    assert [s['fast'] for s in json.loads(gw.run(NAT64, '--status', '--json').stdout)['translators']] == \
           [['eth1', 'eth2'], ['eth0', 'eth1']]
    gw.run(NAT64, '-i', 'eth2', '-4', '10.0.2.0/24', '-a', 'fc00::/8', '--fast', '-t', 60)
    again = fast(gw)
    assert again['eth1']['eth0'] == both['eth1']['eth0'] and again['eth1']['eth2'] != both['eth1']['eth2']
    first, last = order
    gw.run(NAT64, '-i', first, '-u')
    assert where(gw, first) == [] and where(gw, last) == sorted({'eth0', 'eth1', 'eth2'} - {last})
    gw.run(NAT64, '-i', last, '-4', pool[last], '-a', 'fc00::/8', '--fast', '-t', 60)
    gw.run(NAT64, '-i', last, '-u')
    assert gw.snapshot() == clean


def test_clsact_of_ours_stays_for_others(old_kernel, net):
    """Filters that came later keep the qdisc."""
    _, gw, _ = net
    gw.load('--fast')
    gw.run('tc', 'filter', 'add', 'dev', 'eth1', 'egress', 'prio', 7, 'protocol', 'all', *BPF)
    gw.unload(keeps=('eth1: qdisc clsact',))
    assert 'pref 7' in gw.run('tc', 'filter', 'show', 'dev', 'eth1', 'egress').stdout


def leftover(lab, gw):
    """Two translators, and the interface of the first is deleted."""
    second(lab, gw)
    gw.run(NAT64, *LOAD)
    gw.run(NAT64, '-i', 'eth2', '-4', '10.0.2.0/24', '-a', 'fc00::/8', '--fast')
    gw.ip('link', 'del', 'eth0')
    assert sorted(fast(gw)['eth1']) == ['eth2', 'gone']
    return fast(gw)['eth1']['eth2']


END = {
    'unload it': ['-u', '-i', 'eth0'],
    'unload another': ['-u', '-i', 'eth2'],
    'unload where nothing is': ['-u', '-i', 'eth3'],
    'reconfigure another': ['-i', 'eth2', '-4', '10.0.2.0/24', '-a', 'fc00::/8', '--fast'],
    'load another': ['-i', 'eth3', '-4', '10.0.3.0/24', '-a', 'fc00::/8'],
}


@pytest.mark.parametrize('name', END)
def test_interface_deleted(kind, lab, net, name):
    """What is left on the uplink is nobody's: the next run takes it away, and nothing of others."""
    _, gw, _ = net
    uplink(lab, gw, 'eth3', 'fc00:c::1/64')
    kept = leftover(lab, gw)
    done = gw.run(NAT64, *END[name])
    assert ('eth0: no such interface; removed' in done.stderr) == (name == 'unload it'), done.stderr
    left = fast(gw).get('eth1', {})
    if name == 'unload another':
        assert left == {}
    else:
        assert list(left) == ['eth2'] and (left['eth2'] == kept) == (name != 'reconfigure another')
    for i in 'eth2', 'eth3':
        gw.run(NAT64, '-u', '-i', i, check=False)
    assert fast(gw) == {}
    assert not [line for line in gw.snapshot() if re.search('clsact|proto 64|tcx', line)]


def test_nothing_left_of_none(net):
    """An interface that there never was, and nothing of nobody: the usual complaint."""
    _, gw, _ = net
    assert 'no such interface' in gw.nat64('-u', '-i', 'eth7', rc=2).stderr


def test_half_removed_by_hand(net):
    """The translator's own programs are gone: its -u still takes away those of --fast."""
    _, gw, _ = net
    gw.run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact')
    gw.load('--fast')
    gw.run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact')
    gw.loaded.clear()
    gw.nat64('-u', '-i', 'eth0')
    assert fast(gw) == {} and 'proto 64' not in gw.ip('route')


def caps(*names):
    return ['setpriv', '--bounding-set=-all,' + ','.join(f'+{n}' for n in names)]


THREE = caps('net_admin', 'bpf', 'perfmon')


def test_capabilities(kind, lab, net):
    """As without --fast: three to load, CAP_SYS_ADMIN to look at what is attached by tcx, here on any interface."""
    _, gw, _ = net
    gw.load('--fast', via=THREE)
    if kind == 'tcx':
        for argv in LOAD, ['-u', '-i', 'eth0']:
            assert 'missing CAP_SYS_ADMIN' in gw.nat64(*argv, rc=1, via=THREE).stderr
        second(lab, gw)
        gw.load(i='eth2', v4='10.0.2.0/24', via=THREE)      # without --fast, others do not matter
        assert 'missing CAP_SYS_ADMIN' in gw.nat64('-u', '-i', 'eth2', rc=1, via=THREE).stderr
        gw.unload(i='eth2')
        gw.unload(via=caps('net_admin', 'sys_admin'))
    else:
        gw.unload(via=caps('net_admin'))


@needs_tcx
def test_capabilities_with_programs_of_others(net):
    _, gw, _ = net
    foreign(gw, 'eth1', 'other')
    assert 'missing CAP_SYS_ADMIN' in gw.nat64(*LOAD, rc=1, via=THREE).stderr
    gw.load(via=THREE)


def test_layer3(net, tmp_path):
    """No Ethernet, no MAC addresses to send to: a wrong command line, also if a file says so."""
    _, gw, _ = net
    gw.ip('tuntap', 'add', 'tun0', 'mode', 'tun')
    gw.ip('link', 'set', 'tun0', 'up')
    argv = ['-i', 'tun0', '-4', '10.0.1.0/24', '-a', 'fc00::/8']
    assert '--fast' in gw.nat64(*argv, '--fast', rc=2).stderr
    (tmp_path / 'conf').write_text('fast\n')
    assert '--fast' in gw.nat64(*argv, '-c', tmp_path / 'conf', rc=2).stderr


def test_configuration_file(net, tmp_path):
    _, gw, _ = net
    (tmp_path / 'conf').write_text('fast\n')
    gw.load('-c', tmp_path / 'conf')
    assert where(gw) == ['eth1']


@pytest.mark.parametrize('loaded', [False, True])
def test_failure_on_an_uplink(kind, lab, net, loaded):
    """The last step fails, on the last interface: all is as it was before, with the same programs."""
    h6, gw, _ = net
    uplink(lab, gw, 'zz', '203.0.113.1/24')
    if loaded:
        gw.load('--fast')
        gw.ip('link', 'del', 'zz')
        uplink(lab, gw, 'zz', '203.0.113.1/24')
    if kind == 'clsact':
        gw.run('tc', 'qdisc', 'add', 'dev', 'zz', 'clsact')
        gw.run('tc', 'filter', 'add', 'dev', 'zz', 'ingress', 'prio', 64, 'protocol', 'all', *U32)
    else:
        with pytest.raises(OSError):
            for n in range(65):
                foreign(gw, 'zz', f'f{n}')
    before = fast(gw)
    assert 'zz' in gw.load('--fast', '-t', 60, rc=1).stderr
    assert fast(gw) == before and bool(before) == loaded
    if loaded:
        pings(h6)
        gw.loaded.clear()
        gw.nat64('-u', '-i', 'eth0')


def test_every_step_may_fail(kind, net, tmp_path):
    """As in test_load.py, of a load and a reconfiguration."""
    h6, gw, _ = net
    clean = gw.snapshot()
    assert every_step(gw, LOAD, tmp_path, lambda: where(gw) == ['eth1']) >= 10
    pings(h6)
    gw.run(NAT64, '-u', '-i', 'eth0')
    assert gw.snapshot() == clean


def test_every_step_of_unload_may_fail(kind, net, tmp_path):
    """It says so, and a second attempt takes away the rest."""
    _, gw, _ = net
    clean = gw.snapshot()
    gw.run(NAT64, *LOAD)
    steps = trace(gw, ['-u', '-i', 'eth0'], tmp_path)
    for syscall, n in steps:
        if gw.snapshot() == clean:
            gw.run(NAT64, *LOAD)
        what, rc, _ = inject(gw, syscall, n, ['-u', '-i', 'eth0'], 'ENOBUFS')
        assert (gw.snapshot() == clean) == (rc == 0), what
        assert rc == 0 or fast(gw) == {} or gw.run(NAT64, '--status').stdout.startswith('eth0'), what
    gw.run(NAT64, '-u', '-i', 'eth0', check=False)
    assert gw.snapshot() == clean
