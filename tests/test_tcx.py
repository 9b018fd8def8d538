# SPDX-License-Identifier: GPL-2.0-or-later
"""Attached by tcx (Linux 6.6), which other things on the machine may use as well: what goes beyond test_load.py, which runs
its own tests with tcx where it matters."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from bpf import EXIT, Translator, has_tcx, mov, prog_load, tc_programs, tcx_attach, tcx_programs
from lab import NAT64, embed, wait_for

needs_tcx = pytest.mark.skipif(not has_tcx(), reason='NO tcx: before Linux 6.6')
pytestmark = needs_tcx

LOAD = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8']
NEXT, DROP = -1, 2      # TC_ACT_UNSPEC, TC_ACT_SHOT


def pings(h6, target=embed('192.0.2.2'), count=3):
    out = h6.run('ping', '-c', count, '-i', '0.01', '-W', '5', target).stdout
    assert f'{count} received' in out, out


def order(gw, way='ingress'):
    return [name for name, _ in tcx_programs(gw, 'eth0', way)]


def kinds(gw):
    """How our programs are attached, by what the kernel lists."""
    tcx = [name for way in ('ingress', 'egress') for name in order(gw, way) if name.startswith('nat64_')]
    filters = [f['options']['bpf_name'].split('+')[0] for way in ('ingress', 'egress')
               for f in json.loads(gw.run('tc', '-j', 'filter', 'show', 'dev', 'eth0', way, check=False).stdout or '[]')
               if 'bpf_name' in f.get('options', {})]
    return {'tcx': tcx, 'clsact': filters}


BOTH = ['nat64_6to4', 'nat64_4to6']


def foreign(gw, name, way='ingress', before=None, verdict=NEXT, ifname='eth0'):
    fd = prog_load(mov(0, verdict), EXIT, name=name)
    try:
        tcx_attach(gw, ifname, way, fd, before)
    finally:
        os.close(fd)


@pytest.mark.parametrize('way', ['ingress', 'egress'])
def test_foreign_programs_stay_where_they_are(net, way):
    """Those that were there come before ours, those that came later after; also when ours is replaced."""
    h6, gw, _ = net
    ours = BOTH[way == 'egress']
    foreign(gw, 'first', way)
    gw.load()
    foreign(gw, 'last', way)
    assert order(gw, way) == ['first', ours, 'last']
    gw.load('-t', 60)
    assert order(gw, way) == ['first', ours, 'last']
    pings(h6)
    gw.unload()
    assert order(gw, way) == ['first', 'last']


def test_foreign_program_alone(net):
    """It is nobody's translator."""
    _, gw, _ = net
    foreign(gw, 'other')
    assert gw.nat64('-u', '-i', 'eth0', rc=1).stderr == 'nat64: nothing loaded on eth0\n'
    assert gw.nat64('--status').stdout == 'no translator is loaded\n'
    assert order(gw) == ['other']


def test_translated_packets_end_the_row(nat):
    """What comes after ours sees what is not ours, and nothing else."""
    h6, gw, _ = nat
    pings(h6)
    foreign(gw, 'last', verdict=DROP)
    assert h6.run('ping', '-c1', '-W0.3', 'fc00:6::1', check=False).returncode
    # the answers of neighbour discovery are not dropped for long enough to matter
    with Translator(gw) as t:
        before = t.stats()['packets'][0]
        h6.run('ping', '-c1', '-W1', embed('192.0.2.2'), check=False)
        assert t.stats()['packets'][0] > before
    gw.unload()


def hits(gw):
    """What the one filter of clsact ingress has counted."""
    return int(re.search(r' (\d+) pkt', gw.run('tc', '-s', 'filter', 'show', 'dev', 'eth0', 'ingress').stdout)[1])


def test_clsact_that_comes_later(nat):
    """Somebody makes one with filters: they see what is not ours, untranslated, and nothing of it is touched."""
    h6, gw, _ = nat
    gw.run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact')
    gw.run('tc', 'filter', 'add', 'dev', 'eth0', 'ingress', 'prio', 1, 'protocol', 'ipv6', 'u32', 'match', 'u8', 58, '0xff',
           'at', 6, 'match', 'u8', 128, '0xff', 'at', 40, 'action', 'mirred', 'egress', 'mirror', 'dev', 'lo')
    pings(h6)
    assert hits(gw) == 0                        # translated before, and the row is at its end
    pings(h6, 'fc00:6::1')
    assert hits(gw) == 3
    gw.load('-t', 60)
    assert kinds(gw)['tcx'] == BOTH
    pings(h6)
    gw.unload()
    assert 'clsact' in gw.run('tc', 'qdisc', 'show', 'dev', 'eth0').stdout
    assert hits(gw) == 3
    gw.load()                                   # now there is one: among its filters
    assert kinds(gw) == {'tcx': [], 'clsact': BOTH}
    gw.unload()


def test_filter_at_our_place_matters_not(nat):
    """Priority 64 is ours on clsact only."""
    _, gw, _ = nat
    gw.run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact')
    gw.run('tc', 'filter', 'add', 'dev', 'eth0', 'ingress', 'prio', 64, 'protocol', 'all', 'u32', 'match', 'u32', 0, 0)
    gw.load('-t', 60)
    gw.unload()
    assert gw.load(rc=1).stderr.count('priority 64') == 1


def test_ingress_qdisc(net, notcx):
    """With which there can be no clsact: tcx needs none."""
    h6, gw, _ = net
    gw.run('tc', 'qdisc', 'add', 'dev', 'eth0', 'ingress')
    assert 'ingress qdisc' in gw.nat64(*LOAD, rc=1, via=['env', f'LD_PRELOAD={notcx}']).stderr
    gw.load()
    pings(h6)
    gw.unload()


def test_clsact_translator_goes_on(net, notcx):
    """One that was loaded as a filter is found, reconfigured as what it is, and unloaded."""
    h6, gw, _ = net
    old = ['env', f'LD_PRELOAD={notcx}']
    for _ in range(2):
        gw.load(via=old)
        assert kinds(gw) == {'tcx': [], 'clsact': BOTH}
        pings(h6)
        gw.load('-t', 60)
        assert kinds(gw) == {'tcx': [], 'clsact': BOTH}
        assert gw.nat64('--status', '--json', '-i', 'eth0').stdout.count('"clsact"') == 1
        pings(h6)
        gw.unload()
        assert kinds(gw) == {'tcx': [], 'clsact': []}


@pytest.mark.parametrize('end', ['load', 'unload'])
def test_loaded_by_an_old_version_as_well(nat, notcx, end):
    """An old version does not see the tcx programs and attaches its own: the next run of ours leaves one of each, or none."""
    h6, gw, _ = nat
    gw.run('env', f'LD_PRELOAD={notcx}', NAT64, *LOAD)
    assert kinds(gw) == {'tcx': BOTH, 'clsact': BOTH}
    if end == 'load':
        gw.run(NAT64, *LOAD)
        assert kinds(gw) == {'tcx': BOTH, 'clsact': []}
        assert 'clsact' not in gw.run('tc', 'qdisc', 'show', 'dev', 'eth0').stdout
        pings(h6)
    gw.loaded.clear()
    gw.nat64('-u', '-i', 'eth0')
    assert kinds(gw) == {'tcx': [], 'clsact': []}
    assert 'clsact' not in gw.run('tc', 'qdisc', 'show', 'dev', 'eth0').stdout


def caps(*names):
    return ['setpriv', '--bounding-set=-all,' + ','.join(f'+{n}' for n in names)]


def test_capabilities(net, notcx):
    """Exactly those of the manual: the first load takes three, and who unloads must look at what is attached."""
    _, gw, _ = net
    three = caps('net_admin', 'bpf', 'perfmon')
    gw.load(via=three)
    for argv in LOAD, ['-u', '-i', 'eth0']:
        assert 'missing CAP_SYS_ADMIN' in gw.nat64(*argv, rc=1, via=three).stderr
    gw.unload(via=caps('net_admin', 'sys_admin'))
    assert gw.nat64('-u', '-i', 'eth0', rc=1, via=caps('net_admin')).stderr == 'nat64: nothing loaded on eth0\n'
    gw.load(via=['env', f'LD_PRELOAD={notcx}'])         # filters can be told by their names
    gw.unload(via=caps('net_admin'))


def test_capabilities_with_programs_of_others(net):
    """Whether one of them is ours only CAP_SYS_ADMIN tells."""
    _, gw, _ = net
    foreign(gw, 'other', 'egress')
    three = caps('net_admin', 'bpf', 'perfmon')
    assert 'missing CAP_SYS_ADMIN' in gw.nat64(*LOAD, rc=1, via=three).stderr
    gw.load(via=caps('net_admin', 'bpf', 'perfmon', 'sys_admin'))


def test_capabilities_of_filters_beside_programs_of_others(net, notcx):
    """Those of others might be of --fast: who unloads must be allowed to look."""
    _, gw, _ = net
    foreign(gw, 'other')
    gw.load(via=['env', f'LD_PRELOAD={notcx}'])
    assert 'missing CAP_SYS_ADMIN' in gw.nat64('-u', '-i', 'eth0', rc=1, via=caps('net_admin')).stderr
    gw.unload(via=caps('net_admin', 'sys_admin'))
    assert order(gw) == ['other']


def test_at_the_same_time(net):
    """Of runs at the same time some may fail; there is never a second program, and all can be taken away."""
    h6, gw, _ = net
    before = gw.snapshot()
    for _ in range(5):
        runs = [gw.start(NAT64, *LOAD) for _ in range(4)]
        for p in runs:
            out = p.communicate(timeout=60)[0]
            assert p.returncode in (0, 1) and out.count('\n') <= 1, out
        assert any(p.returncode == 0 for p in runs)
        assert {k: len(v) for k, v in tc_programs(gw, 'eth0').items()} == {'nat64_6to4': 1, 'nat64_4to6': 1}
        gw.run(NAT64, *LOAD)
        pings(h6, count=1)
        gw.run(NAT64, '-i', 'eth0', '-u')
        assert gw.snapshot() == before


def late_attach(gw, trace):
    """A run that comes to the attaching of its ingress program and waits there for four seconds, and the number of that call.

    Which call of all it is depends on how many programs the whole machine has, and other tests have some: tried again.
    """
    strace = ['strace', '-qq', '-o', trace, '-e', 'trace=bpf']

    def waits(p):
        """In the same call of BPF_PROG_ATTACH, 8, a while later."""
        def calls():
            children = Path(f'/proc/{p.pid}/task/{p.pid}/children').read_text(encoding='ascii').split()
            return [Path(f'/proc/{child}/syscall').read_text(encoding='ascii').split()[:3] for child in children]
        before = calls()
        time.sleep(0.3)
        return any(call[1:2] == ['0x8'] for call in before) and calls() == before

    for _ in range(10):
        gw.run(*strace, NAT64, *LOAD)
        lines = trace.read_text(encoding='latin1').splitlines()
        n = 1 + [i for i, line in enumerate(lines) if 'BPF_PROG_ATTACH' in line][1]       # the first is of the egress hook
        gw.run(NAT64, '-i', 'eth0', '-u')
        slow = gw.start(*strace, '-e', f'inject=bpf:delay_enter=4000000:when={n}', NAT64, *LOAD)
        wait_for(lambda: 'proto 64' in gw.ip('route'), 'the slow one to come to the routes')
        time.sleep(0.3)
        if waits(slow):
            return slow, n
        slow.communicate(timeout=60)
        gw.run(NAT64, '-i', 'eth0', '-u')
    pytest.fail('never was the call that waited the attaching')


@pytest.mark.parametrize('who', ['another nat64', 'somebody else'])
def test_row_changes_before_ours_comes(net, tmp_path, who):
    """Between the look at the row and the attaching: never two of ours, and it does not matter what others do."""
    h6, gw, _ = net
    slow, n = late_attach(gw, tmp_path / 'trace')
    if who == 'another nat64':
        gw.run(NAT64, *LOAD)
    else:
        foreign(gw, 'other')
    out = slow.communicate(timeout=60)[0]
    assert 'ESTALE' in (tmp_path / 'trace').read_text(encoding='latin1').splitlines()[n - 1]
    if who == 'another nat64':
        assert slow.returncode == 1 and 'another nat64' in out, out
        assert order(gw) == ['nat64_6to4']
    else:
        assert slow.returncode == 0, out
        assert order(gw) == ['other', 'nat64_6to4']
        pings(h6)
    gw.run(NAT64, '-i', 'eth0', '-u')


def test_interface_moved_to_another_namespace(nat, lab):
    """The kernel leaves tcx programs at the interface: --status says there that they do not work, nobody claims it where it was, and
    loading again there, or -u, does as everywhere."""
    _, gw, _ = nat
    other = lab.host('other')
    gw.loaded.clear()
    gw.ip('link', 'set', 'eth0', 'netns', other.ns)
    other.ip('link', 'set', 'eth0', 'up')
    assert order(other) == ['nat64_6to4']
    assert 'no translator is loaded' in gw.nat64('--status').stdout
    done = other.run(NAT64, '--status', check=False)       # not nat64(): the kernel is still making addresses of the link
    assert done.returncode == 1 and 'the route to 10.0.1.0/24' in done.stdout
    other.run(NAT64, *LOAD)
    assert 'route' not in other.run(NAT64, '--status', check=False).stdout
    other.nat64('-u', '-i', 'eth0')
    assert order(other) == order(other, 'egress') == []


def test_full_hook(net):
    """The kernel takes 63 programs on a hook: one line, and nothing has changed."""
    _, gw, _ = net
    with pytest.raises(OSError):
        for n in range(65):
            foreign(gw, f'f{n}', 'egress')
    done = gw.load(rc=1)
    assert 'egress' in done.stderr
    assert order(gw) == []
