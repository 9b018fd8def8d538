# SPDX-License-Identifier: GPL-2.0-or-later
"""Load, reconfigure, unload: what is made and taken away, what is left alone, and what happens half way.

That a failing run changes nothing and that unloading removes exactly what loading made is checked by the lab
(Host.nat64, load, unload) in every one of these tests."""

import collections
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from bpf import Map, Prog, Translator, tc_programs, tcx_detach, tcx_programs
from lab import NAT64, embed, nothing_lost, standard

# Somebody else's filters. They match nothing, so that packets go on to the next one.
BPF = ['bpf', 'bytecode', '1,6 0 0 0']
U32 = ['u32', 'match', 'u32', '0x12345678', '0xffffffff', 'at', 0]


def pings(h6, target=embed('192.0.2.2'), count=3):
    out = h6.run('ping', '-c', count, '-i', '0.01', '-W', '5', target).stdout
    assert f'{count} received' in out, out


def programs(gw, i='eth0'):
    return {name[:10]: ids for name, ids in tc_programs(gw, i).items()}


def remove_by_hand(gw, kind, way):
    """Take our program away from its hook."""
    if kind == 'clsact':
        gw.run('tc', 'filter', 'del', 'dev', 'eth0', way, 'prio', 64)
    else:
        (ident,) = [ident for name, ident in tcx_programs(gw, 'eth0', way) if name.startswith('nat64_')]
        tcx_detach(gw, 'eth0', way, ident)


def test_load_and_unload(kind, net):
    h6, gw, h4 = net
    before = gw.snapshot()
    made = sorted(gw.load().after - before)
    attached = {'clsact': ['eth0: qdisc clsact', 'eth0: filter .* nat64_6to4', 'eth0: filter .* nat64_4to6'],
                'tcx': ['eth0: tcx ingress nat64_6to4 ', 'eth0: tcx egress nat64_4to6 ']}[kind]
    for what in r'4 unicast 10\.0\.1\.0/24 via 192\.0\.0\.', '4 broadcast 192', '4 .* PERMANENT', *attached:
        assert len([line for line in made if re.match(what, line)]) == 1, f'{what} in {made}'
    ours = '4 unicast 10|4 unicast 192.0.0.8 |4 broadcast 192|4 .* PERMANENT|eth0: qdisc clsact|eth0: filter .* pref 64 |eth0: tcx'
    assert {'clsact' in line or 'filter' in line for line in made if 'eth0: ' in line} == {kind == 'clsact'}
    assert not [line for line in made if not re.match(ours, line)]
    pings(h6)
    gw.unload()
    assert gw.snapshot() == before
    assert h6.run('ping', '-c1', '-W0.3', embed('192.0.2.2'), check=False).returncode


def test_unload_twice(nat):
    _, gw, _ = nat
    gw.unload()
    assert gw.nat64('-i', 'eth0', '-u', rc=1).stderr == 'nat64: nothing loaded on eth0\n'


def test_unload_with_the_options_of_load(nat):
    _, gw, _ = nat
    gw.unload('-4', '10.0.1.0/24', '-a', 'fc00::/8', '-t', '5', '-v')


def test_unload_with_other_options(nat):
    """-u takes away what is there, whatever prefix it is told."""
    _, gw, _ = nat
    gw.unload('-4', '10.9.9.0/24', '-6', '2001:db8::/32')


def test_load_again(kind, nat):
    """One filter each way, new programs, the same maps and mappings, and the same way for the packets."""
    h6, gw, _ = nat
    pings(h6)
    progs = programs(gw)
    with Translator(gw) as t:
        before, maps = t.mappings(), {n: t.maps[n].id for n in ('mappings', 'by_v6', 'pool', 'stats')}
    assert len(before) == 1
    gw.load()
    again = programs(gw)
    assert {k: len(v) for k, v in again.items()} == {'nat64_6to4': 1, 'nat64_4to6': 1}
    assert all(again[k] != progs[k] for k in progs)
    with Translator(gw) as t:
        assert {n: t.maps[n].id for n in maps} == maps
        assert t.mappings() == before
    pings(h6)


def test_nothing_lost_while_reconfiguring(kind, nat):
    """A ping every 2 ms and a TCP transfer during six reconfigurations."""
    h6, gw, h4 = nat
    pings(h6)
    with Translator(gw) as t:
        before = t.mappings()
    server = h4.start('iperf3', '-s', '-1')
    h4.listening(5201)
    ping = h6.start('ping', '-i', '0.002', embed('192.0.2.2'))
    tcp = h6.start('iperf3', '-c', embed('192.0.2.2'), '-t', '60', '--json')
    with nothing_lost(ping):
        for n in range(6):
            gw.load('-t', 100 + n, *(['-a', '2001:db8::/32'] if n % 2 else []))
    os.killpg(tcp.pid, signal.SIGINT)
    report = json.loads(tcp.communicate(timeout=20)[0])
    assert report['end']['sum_sent']['bytes'] > 1000000
    assert all(i['sum']['bytes'] > 0 for i in report['intervals'][:-1])
    gw.lab.end(server)
    with Translator(gw) as t:
        after = t.mappings()
        assert {m.v6: m.v4 for m in after.values()} == {m.v6: m.v4 for m in before.values()}
        assert t.drops() == {}


def test_new_options_take_effect(nat):
    h6, gw, _ = nat
    h6.addr('eth0', '2001:db8:77::1/128')
    gw.route('2001:db8:77::1/128', 'via', 'fc00:6::6')
    ping = ['ping', '-c1', '-W1', '-I', '2001:db8:77::1', embed('192.0.2.2')]
    assert h6.run(*ping, check=False).returncode
    gw.load('-a', '2001:db8:77::/48')
    h6.run(*ping)


def test_other_nat64_prefix(nat):
    """The mappings stay, the old prefix is nobody's."""
    h6, gw, h4 = nat
    pings(h6)
    with Translator(gw) as t:
        before = {m.v6: m.v4 for m in t.mappings().values()}
    gw.load('-6', '2001:db8:64::/96')
    pings(h6, embed('192.0.2.2', '2001:db8:64::/96'))
    assert h6.run('ping', '-c1', '-W0.3', embed('192.0.2.2'), check=False).returncode
    with Translator(gw) as t:
        assert {m.v6: m.v4 for m in t.mappings().values()} == before
    h4.run('ping', '-c1', '-W5', before['fc00:6::6'])


def test_other_v4_prefix(nat):
    """The mappings are gone, and it says so; the old route goes."""
    h6, gw, h4 = nat
    pings(h6)
    done = gw.load(v4='10.0.2.0/25')
    assert len(done.stderr.splitlines()) == 1 and 'mapping' in done.stderr and '10.0.1.0/24' in done.stderr
    assert gw.ip('route', 'show', '10.0.1.0/24') == ''
    assert gw.ip('route', 'show', '10.0.2.0/25') != ''
    with Translator(gw) as t:
        assert t.mappings() == {}
    pings(h6)
    with Translator(gw) as t:
        assert [m.v4.rsplit('.', 1)[0] for m in t.mappings().values()] == ['10.0.2']


def test_mtu_of_the_route_follows(nat):
    """The interface's MTU - 20, again at each reconfiguration."""
    _, gw, _ = nat
    gw.ip('link', 'set', 'eth0', 'mtu', 1400)
    gw.load()
    assert json.loads(gw.ip('-j', 'route', 'show', '10.0.1.0/24'))[0]['metrics'][0]['mtu'] == 1380
    gw.loaded.clear()       # what load made no longer is what ip shows of the link
    gw.nat64('-u', '-i', 'eth0')


# Coexistence

@pytest.mark.parametrize('priority', [1, 49152])
def test_foreign_filters_stay(net, priority):
    h6, gw, _ = net
    gw.run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact')
    for way, filter_ in ('ingress', U32), ('egress', U32), ('ingress', BPF), ('egress', BPF):
        priority += 1
        gw.run('tc', 'filter', 'add', 'dev', 'eth0', way, 'prio', priority, 'protocol', 'all', *filter_)
    before = gw.snapshot()
    gw.load()
    pings(h6)
    gw.load('-t', 60)
    gw.unload()
    assert gw.snapshot() == before


def test_clsact_that_was_there_stays(net):
    _, gw, _ = net
    gw.run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact')
    before = gw.snapshot()
    gw.load()
    gw.unload()
    assert gw.snapshot() == before


def test_clsact_stays_for_filters_that_came_later(old_kernel, nat):
    _, gw, _ = nat
    for way in 'ingress', 'egress':
        gw.run('tc', 'filter', 'add', 'dev', 'eth0', way, 'prio', 7, 'protocol', 'all', *BPF)
        gw.unload(keeps=('qdisc clsact',))
        assert 'pref 7' in gw.run('tc', 'filter', 'show', 'dev', 'eth0', way).stdout
        gw.run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact')
        gw.load()


@pytest.mark.parametrize('way', ['ingress', 'egress'])
@pytest.mark.parametrize('filter_', [['handle', '0x64'] + BPF, ['handle', '0x1'] + BPF, U32],
                         ids=['our handle', 'our priority', 'our priority, another kind'])
def test_foreign_filter_in_our_place(net, way, filter_):
    """It is never replaced: with our handle, or of another kind, it is an error (for egress half way through)."""
    h6, gw, _ = net
    gw.run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact')
    gw.run('tc', 'filter', 'add', 'dev', 'eth0', way, 'prio', 64, 'protocol', 'all', *filter_)
    before = gw.snapshot()
    with_handle_1 = filter_[1] == '0x1'
    done = gw.run(NAT64, '-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', check=False)
    if done.returncode == 0 and with_handle_1:          # there is room for both
        assert before - gw.snapshot() == set()
        gw.nat64('-u', '-i', 'eth0')
    else:
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and way in done.stderr, done.stderr
    assert gw.snapshot() == before
    assert gw.nat64('-u', '-i', 'eth0', rc=1).stderr == 'nat64: nothing loaded on eth0\n'


def test_same_prefixes_in_another_namespace(nat, lab):
    """Two gateways on one kernel know nothing of each other."""
    h6, gw, _ = nat
    other6, other, _ = standard(lab)
    other.load()
    pings(h6)
    pings(other6)
    other.unload()
    pings(h6)
    other.load()
    gw.unload()
    pings(other6)


def second(lab, gw):
    """Another IPv6 host, behind eth2 of the gateway."""
    b6 = lab.host('b6')
    lab.link(b6, 'eth0', gw, 'eth2')
    b6.addr('eth0', 'fc00:b::6/64')
    gw.addr('eth2', 'fc00:b::1/64')
    b6.route('default', 'via', 'fc00:b::1')
    return b6


@pytest.mark.parametrize('prefix', ['64:ff9b::/96', '2001:db8:b::/96'])
def test_two_interfaces(nat, lab, prefix):
    h6, gw, h4 = nat
    b6 = second(lab, gw)
    gw.load('-6', prefix, i='eth2', v4='10.0.2.0/24')
    pings(h6)
    pings(b6, embed('192.0.2.2', prefix))
    gw.load('-t', 99)
    gw.unload(i='eth2')
    pings(h6)
    gw.load('-6', prefix, i='eth2', v4='10.0.2.0/24')
    gw.unload(i='eth0')
    pings(b6, embed('192.0.2.2', prefix))


# Conflicts: exit 1, and the thing in the way is named.

def conflict(gw, *names, argv=(), **kw):
    done = gw.load(*argv, rc=1, **kw)
    for name in names:
        assert name in done.stderr, done.stderr
    assert programs(gw) == {}


def test_prefix_routed_elsewhere(net):
    _, gw, _ = net
    gw.route('10.0.1.0/24', 'via', '192.0.2.2')
    conflict(gw, '10.0.1.0/24', 'eth1')


@pytest.mark.parametrize('route', [['unreachable', '10.0.1.0/24'], ['blackhole', '10.0.1.0/24'],
                                   ['10.0.1.0/24', 'via', '192.0.2.2', 'metric', '500', 'tos', '0x10'],
                                   ['10.0.1.128/25', 'via', '192.0.2.2'], ['10.0.1.7/32', 'dev', 'eth1'],
                                   ['10.0.1.128/25', 'via', '192.0.2.2', 'metric', '500'],
                                   ['blackhole', '10.0.1.128/25', 'metric', '500']])
def test_part_of_the_prefix_routed_elsewhere(net, route):
    _, gw, _ = net
    gw.ip('route', 'add', *route)
    conflict(gw, '10.0.1.')


@pytest.mark.parametrize('route', [['blackhole', '10.0.1.0/24', 'metric', '32', 'proto', 'bird'],
                                   ['unreachable', '10.0.1.0/24', 'metric', '4294967295'],
                                   ['10.0.1.0/24', 'via', '192.0.2.2', 'metric', '500']])
def test_route_that_loses_is_no_conflict(net, route):
    """As a routing daemon has it that announces the prefix. It stays as it is."""
    h6, gw, _ = net
    gw.ip('route', 'add', *route)
    for extra in [], ['-t', '99'], ['-s', 'fc00::80=10.0.2.80']:
        gw.load(*extra)
        pings(h6)
    gw.ip('route', 'add', 'blackhole', '10.0.2.80', 'metric', '9')
    gw.load('-s', 'fc00::80=10.0.2.80')
    pings(h6)


@pytest.mark.parametrize('route', ['10.0.0.0/8', '10.0.0.0/23', 'default'])
def test_wider_route_is_no_conflict(net, route):
    h6, gw, _ = net
    gw.route(route, 'via', '192.0.2.2')
    gw.load()
    pings(h6)


def test_address_of_the_machine_in_the_prefix(net):
    _, gw, _ = net
    gw.addr('eth1', '10.0.1.5/32')
    conflict(gw, '10.0.1.5')


def test_prefix_in_a_subnet_of_the_machine(net):
    _, gw, _ = net
    gw.addr('eth1', '10.0.1.129/25')
    conflict(gw, '10.0.1.1')


@pytest.mark.parametrize('v4', ['10.0.1.0/24', '10.0.1.0/25', '10.0.0.0/16'])
def test_prefix_of_another_translator(nat, lab, v4):
    h6, gw, _ = nat
    second(lab, gw)
    done = gw.load(i='eth2', v4=v4, rc=1)
    assert '10.0.1.0/24' in done.stderr and 'eth0' in done.stderr
    pings(h6)


@pytest.mark.parametrize('nat64, address', [('64:ff9b::/96', '64:ff9b::c0a8:1/120'), ('fc00:6::/64', None),
                                            ('fc00:6::/32', None), ('fc00:6::/96', None)])
def test_own_subnet_inside_the_nat64_prefix(net, nat64, address):
    _, gw, _ = net
    if address:
        gw.addr('eth0', address)
    conflict(gw, nat64, argv=['-6', nat64])


# Failures that can be provoked half way

def test_interface_down(net):
    """No route can be added on it: nothing is loaded, or the reason given."""
    _, gw, _ = net
    gw.ip('link', 'set', 'eth0', 'down')
    assert 'eth0' in gw.load(rc=1).stderr


def test_ipv6_disabled_on_the_interface(net):
    _, gw, _ = net
    gw.sysctl('net.ipv6.conf.eth0.disable_ipv6', 1)
    assert 'eth0' in gw.load(rc=1).stderr


def test_few_file_descriptors(net):
    """Whatever step it ends at, nothing is left; and with enough of them it loads."""
    h6, gw, _ = net
    failed = 0
    for n in list(range(4, 40, 2)) + [64]:
        limit = ['prlimit', f'--nofile={n}']
        done = gw.run(*limit, NAT64, '-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', check=False)
        if done.returncode == 0:
            break
        failed += 1
        assert programs(gw) == {} and gw.ip('route', 'show', '10.0.1.0/24') == ''
    assert failed and done.returncode == 0
    gw.nat64('-u', '-i', 'eth0')


def trace(gw, argv, tmp_path, late=False):
    """Which bpf calls and netlink requests nat64 makes: [(system call, its how manieth)]. Of the calls that are all
    alike and made by libbpf to learn what the kernel can do, the first stands for all. late: only from the loading of
    the last program on."""
    gw.run('strace', '-f', '-qq', '-o', tmp_path / 'trace', '-e', 'trace=bpf,sendto,sendmsg',
           '-e', 'raw=sendto,sendmsg', NAT64, *argv)
    count, kinds, out = collections.Counter(), collections.Counter(), []
    with open(tmp_path / 'trace', encoding='latin1') as f:
        for syscall, cmd, rest in re.findall(r'(bpf|sendto|sendmsg)\((\w*)(.*)', f.read()):
            if 'BPF_PROG_TYPE_SCHED_CLS' in rest and late:
                out.clear()
            count[syscall] += 1
            kinds[cmd] += 1
            if syscall != 'bpf' or kinds[cmd] == 1 or cmd in ('BPF_PROG_LOAD', 'BPF_MAP_UPDATE_ELEM', 'BPF_MAP_FREEZE',
                                                              'BPF_MAP_LOOKUP_BATCH', 'BPF_PROG_ATTACH', 'BPF_PROG_DETACH',
                                                              'BPF_PROG_QUERY', 'BPF_PROG_GET_FD_BY_ID'):
                out.append((syscall, count[syscall]))
    return out


def state(gw):
    """Like Host.snapshot, without what nat64 never touches: quick."""
    return gw.run('sh', '-c', 'ip -4 route show table all; ip -6 route show table all; ip neigh show nud permanent;'
                  'tc qdisc; tc filter show dev eth0 ingress; tc filter show dev eth0 egress').stdout + \
        ''.join(f'{way} {tcx_programs(gw, "eth0", way)}\n' for way in ('ingress', 'egress'))


LOAD = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8']


def inject(gw, syscall, n, argv, error):
    """Run nat64 with its nth system call of a kind failing: (what happened, exit status, stderr)."""
    done = gw.run('strace', '-f', '-qq', '-o', '/dev/null', '-e', f'trace={syscall}', '-e',
                  f'inject={syscall}:error={error}:when={n}', NAT64, *argv, check=False)
    return f'{syscall} number {n}: exit {done.returncode}: {done.stderr}', done.returncode, done.stderr


def every_step(gw, load, tmp_path, is_there, some=lambda steps, loaded: steps):
    """Of a load that attaches programs elsewhere, too, and of a reconfiguration, from where the programs have been loaded on: each
    run brings all of it, or leaves everything as it was, or says that it has brought it but for something. Returns how many failed."""
    clean = gw.snapshot()
    failed = 0
    for loaded in False, True:
        if loaded:
            gw.run(NAT64, *load)
        steps = some(trace(gw, load, tmp_path, late=True), loaded)
        if not loaded:
            gw.run(NAT64, '-u', '-i', 'eth0')
        for syscall, n in steps:
            before = gw.snapshot()
            what, rc, stderr = inject(gw, syscall, n, load, 'ENOMEM')
            if rc == 0:
                assert is_there(), what
                if not loaded:
                    gw.run(NAT64, '-u', '-i', 'eth0')
                    assert gw.snapshot() == clean, what
            elif 'the new options are in force' in stderr:      # after the programs have changed there is no way back
                assert rc == 1 and loaded and is_there(), what
                gw.run(NAT64, *load)
            else:
                failed += 1
                assert rc == 1 and re.fullmatch(r'nat64: [^\n]+\n', stderr), what
                assert gw.snapshot() == before, what
    return failed


def test_every_step_of_load_may_fail(kind, net, tmp_path):
    """The run fails in one line and leaves the machine as it was, or does without that call and loads."""
    h6, gw, _ = net
    clean = state(gw)
    steps = trace(gw, LOAD, tmp_path)
    gw.run(NAT64, '-u', '-i', 'eth0')
    failed = collections.Counter()
    for syscall, n in steps:
        what, rc, stderr = inject(gw, syscall, n, LOAD, 'ENOMEM')
        if rc == 0:
            assert {k: len(v) for k, v in programs(gw).items()} == {'nat64_6to4': 1, 'nat64_4to6': 1}, what
            gw.run(NAT64, '-u', '-i', 'eth0')
        else:
            failed[syscall] += 1
            assert rc == 1 and re.fullmatch(r'nat64: [^\n]+\n', stderr), what
        assert state(gw) == clean, what
    # Some calls ask what the kernel has, and in vain is an answer.
    assert failed['bpf'] >= (16 if kind == 'tcx' else 5), failed
    assert failed['sendto'] + failed['sendmsg'] >= 5, failed
    gw.load()
    pings(h6)


# What a reconfiguration is to change: a static mapping, the allowlist, the NAT64 prefix and --fast, and with them the pool,
# so that there are maps of its own; or all but the pool, so that the maps that are in use are changed.
BEFORE = [*LOAD, '-s', 'fc00:6::6=10.0.1.66', '-s', 'fc00::7=10.0.1.77', '--fast']
AFTER = ['-i', 'eth0', '-a', 'fc00:6::/32', '-6', '2001:db8:64::/96', '-s', 'fc00::7=10.0.1.7']


def what_is_there(gw):
    """state() with what --fast attaches, and the mappings; and the same without what another run makes anew."""
    text = state(gw) + gw.run('tc', 'filter', 'show', 'dev', 'eth1', 'ingress').stdout + str(tcx_programs(gw, 'eth1', 'ingress'))
    listed = json.loads(gw.run(NAT64, '-i', 'eth0', '--mappings', '--json').stdout)
    owners = str([listed['v6_prefix'], *((m['v4'], m['v6'], m['type']) for m in listed['mappings'])])
    form = re.sub(r"(nat64_\w+', |\bid |tag )\w+|jited", '', text)
    return text + owners, form + owners


def reconfigure_with_failures(h6, gw, tmp_path, pool):
    """Until the programs have changed, what was loaded goes on, with the same programs and mappings. After that it is an
    error all the same, the new options are in force, and another run does what is missing. How many system calls made it
    fail before; and what failed after."""
    gw.loaded.clear()       # the runs below are not counted by the lab; the last one unloads
    other = [*AFTER, '-4', pool]
    gw.run(NAT64, *BEFORE)
    steps = trace(gw, other, tmp_path, late=True)
    aim = what_is_there(gw)[1]
    gw.run(NAT64, *BEFORE)
    pings(h6)
    before = what_is_there(gw)
    failed, late = collections.Counter(), set()
    for syscall, n in steps:
        what, rc, stderr = inject(gw, syscall, n, other, 'ENOMEM')
        complaints = [line for line in stderr.splitlines() if 'mappings gone: ' not in line]
        if rc and not stderr.endswith('nat64: eth0: but for this the new options are in force; run it again\n'):
            failed[syscall] += 1
            assert rc == 1 and re.fullmatch(r'nat64: [^\n]+\n', stderr), what
            assert what_is_there(gw) == before, what
            pings(h6, count=1)
            continue
        if rc:
            assert rc == 1 and len(complaints) == 2, what
            late.add(re.search('cannot [a-z]+( the [a-z]+)?', complaints[0])[0])
            gw.run(NAT64, *other)
        else:
            assert complaints == [], what
        assert what_is_there(gw)[1] == aim, what
        pings(h6, embed('192.0.2.2', '2001:db8:64::/96'), count=1)
        gw.run(NAT64, *BEFORE)
        before = what_is_there(gw)
    gw.run(NAT64, *LOAD)
    pings(h6)
    gw.nat64('-u', '-i', 'eth0')
    assert 'proto 64' not in state(gw)
    return failed, late


def test_every_step_of_reconfiguration_may_fail(kind, nat, tmp_path):
    h6, gw, _ = nat
    failed, late = reconfigure_with_failures(h6, gw, tmp_path, '10.0.2.0/24')
    assert failed['bpf'] >= 1 and failed['sendto'] + failed['sendmsg'] >= 3, failed
    assert late == {'cannot detach', 'cannot change the mappings', 'cannot remove the route'}


def test_every_change_of_the_mappings_may_fail(nat, tmp_path):
    """With the same pool: in maps that are in use."""
    h6, gw, _ = nat
    failed, late = reconfigure_with_failures(h6, gw, tmp_path, '10.0.1.0/24')
    assert failed.total() >= 3, failed
    assert late == {'cannot detach', 'cannot change the mappings'}


def test_what_cannot_be_removed_when_loading(net, tmp_path):
    """Where no translator was, nothing stays of one that could not be finished."""
    _, gw, _ = net
    stray = ['route', 'add', '10.9.9.0/24', 'dev', 'eth0', 'proto', '64']
    gw.ip(*stray)
    clean = state(gw)
    steps = trace(gw, LOAD, tmp_path, late=True)
    gw.run(NAT64, '-u', '-i', 'eth0')
    failed = False
    for syscall, n in steps:
        gw.ip(*stray)
        what, rc, stderr = inject(gw, syscall, n, LOAD, 'ENOMEM')
        if rc:
            failed |= 'cannot remove the route to 10.9.9.0/24' in stderr
            assert rc == 1 and re.fullmatch(r'nat64: [^\n]+\n', stderr), what
            assert state(gw) == clean, what
        else:
            assert stderr == '' and '10.9.9.0' not in state(gw), what
        gw.run(NAT64, '-u', '-i', 'eth0')
    assert failed


def test_every_step_of_unload_may_fail(kind, net, tmp_path):
    """It says so, and a second attempt takes away the rest."""
    _, gw, _ = net
    clean = state(gw)
    gw.run(NAT64, *LOAD)
    steps = trace(gw, ['-u', '-i', 'eth0'], tmp_path)
    failed = 0
    for syscall, n in steps:
        if state(gw) == clean:
            gw.run(NAT64, *LOAD)
        what, rc, stderr = inject(gw, syscall, n, ['-u', '-i', 'eth0'], 'ENOBUFS')
        assert (state(gw) == clean) == (rc == 0), what
        if rc:
            failed += 1
            assert rc == 1 and re.fullmatch(r'nat64: [^\n]+\n', stderr), what
            if 'proto 64' not in state(gw) or not programs(gw):     # it did something
                gw.run(NAT64, '-u', '-i', 'eth0')
                assert state(gw) == clean, what
    gw.run(NAT64, '-u', '-i', 'eth0', check=False)
    assert failed >= 5 and state(gw) == clean


def test_killed_half_way(net):
    """After a kill -9 at any moment, load and unload still bring it into order."""
    h6, gw, _ = net
    clean = state(gw)
    start = time.monotonic()
    gw.run(NAT64, *LOAD)
    took = time.monotonic() - start
    gw.run(NAT64, '-u', '-i', 'eth0')
    for n in range(6):
        p = gw.start(NAT64, *LOAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(took * (n + 4) / 10)
        gw.lab.end(p)
        if n % 3 == 2:
            gw.run(NAT64, *LOAD)
            pings(h6, count=1)
        gw.run(NAT64, '-u', '-i', 'eth0', check=False)
        assert state(gw) == clean


# What an administrator may do behind its back

def test_clsact_deleted_by_hand(old_kernel, nat):
    """The rest, route and neighbour, is still found; and a new load repairs."""
    h6, gw, _ = nat
    gw.run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact')
    gw.load()
    pings(h6)
    gw.run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact')
    gw.loaded.clear()
    gw.nat64('-u', '-i', 'eth0')
    assert gw.ip('route', 'show', '10.0.1.0/24') == '' and 'PERMANENT' not in gw.ip('neigh', 'show')


@pytest.mark.parametrize('way', ['ingress', 'egress'])
def test_one_program_removed_by_hand(kind, nat, way):
    h6, gw, _ = nat
    clean = None
    for repair in True, False:
        remove_by_hand(gw, kind, way)
        if repair:
            gw.load()
            assert {k: len(v) for k, v in programs(gw).items()} == {'nat64_6to4': 1, 'nat64_4to6': 1}
            pings(h6)
        else:
            gw.loaded.clear()
            clean = gw.nat64('-u', '-i', 'eth0').after
    assert not [line for line in clean if re.search('pref 64|proto 64|clsact|tcx', line)]


def test_route_and_neighbour_deleted_by_hand(nat):
    h6, gw, _ = nat
    for repair in True, False:
        gw.ip('route', 'del', '10.0.1.0/24')
        gw.ip('neigh', 'flush', 'dev', 'eth0', 'nud', 'permanent')
        if repair:
            gw.load()
            pings(h6)
        else:
            gw.loaded.clear()
            gw.nat64('-u', '-i', 'eth0')


def test_interface_taken_down_and_up(nat):
    """The kernel drops the route with the link; loading again is all that it takes."""
    h6, gw, _ = nat
    gw.ip('link', 'set', 'eth0', 'down')
    gw.ip('link', 'set', 'eth0', 'up')
    gw.addr('eth0', 'fc00:6::1/64')         # the kernel drops it with the link
    gw.ip('-6', 'route', 'replace', 'fc00:66::/64', 'via', 'fc00:6::6')
    gw.run(NAT64, *LOAD)
    pings(h6)
    gw.loaded.clear()
    gw.nat64('-u', '-i', 'eth0')


def test_interface_deleted(nat):
    """All state goes with it: lab.close checks the programs and maps."""
    _, gw, _ = nat
    gw.ip('link', 'del', 'eth0')
    gw.loaded.clear()
    assert gw.ip('route', 'show', '10.0.1.0/24') == ''
    assert 'eth0' in gw.nat64('-u', '-i', 'eth0', rc=2).stderr


def test_namespace_deleted(nat):
    _, gw, _ = nat
    gw.loaded.clear()       # so that lab.close unloads nothing before it deletes the namespace


@pytest.mark.parametrize('size', ['10.0.0.0/16', '10.0.0.0/12'])
def test_large_prefix(net, size):
    """Loads, says what memory it takes with -v, translates, and gives the memory back."""
    h6, gw, _ = net
    done = gw.load('-v', v4=size)
    said_memory(gw, done)
    pings(h6)


def said_memory(gw, done):
    """What -v said, which must be the memory of all maps of the programs as the kernel counts it, each once."""
    said = int(re.search(r'^  memory +(\d+) kB$', done.stdout, re.M)[1])
    maps, total = set(), 0
    for ifname in 'eth0', 'eth1':
        for ident in itertools.chain(*tc_programs(gw, ifname).values()):
            program = Prog(ident)
            maps |= set(program.map_ids)
            program.close()
    for m in map(Map, maps):
        with open(f'/proc/self/fdinfo/{m.fd}', encoding='ascii') as f:
            total += int(re.search(r'^memlock:\s*(\d+)', f.read(), re.M)[1])
        m.close()
    assert said == (total + 1023) // 1024
    return said


def test_memory(net):
    """-v counts what an option adds."""
    _, gw, _ = net
    plain = said_memory(gw, gw.load('-v'))
    assert said_memory(gw, gw.load('-v', '--fast')) > plain + 512


def test_in_a_container_without_sys(net, tmp_path):
    """Neither /sys nor bpffs is needed, nor the place it was built in."""
    h6, gw, _ = net
    copy = shutil.copy(NAT64, tmp_path / 'anything')
    gw.run('unshare', '-m', 'sh', '-c', f'umount -l /sys; cd /; exec {copy} -i eth0 -4 10.0.1.0/24 -a fc00::/8')
    pings(h6)
    gw.run('unshare', '-m', 'sh', '-c', f'umount -l /sys; cd /; exec {copy} -i eth0 -u')
    assert programs(gw) == {}


def test_netns_exec(net):
    """As people run it: ip netns exec, which mounts another /sys."""
    h6, gw, h4 = net
    gw.load(via=['ip', 'netns', 'exec', gw.ns])
    pings(h6)
    gw.unload(via=['ip', 'netns', 'exec', gw.ns])


def test_packets_of_others_pass(nat):
    """IPv6 and IPv4 through the same interface, to the gateway and beyond, as without nat64."""
    h6, gw, h4 = nat
    h6.addr('eth0', '203.0.113.6/24')
    gw.addr('eth0', '203.0.113.1/24')
    h6.route('192.0.2.0/24', 'via', '203.0.113.1')
    pings(h6, 'fc00:6::1')
    pings(h6, '192.0.2.2')
    pings(h4, '203.0.113.6')
    with Translator(gw) as t:
        assert t.stats()['packets'] == [0, 0] and t.drops() == {}


def test_filters_are_fixed_in_place(old_kernel, nat):
    """Handle and priority are part of the contract: other tools find us there."""
    _, gw, _ = nat
    for way in 'ingress', 'egress':
        text = gw.run('tc', 'filter', 'show', 'dev', 'eth0', way).stdout
        assert 'pref 64 bpf' in text and 'handle 0x64' in text and 'direct-action' in text


def test_few_or_no_messages_of_libbpf(nat):
    _, gw, _ = nat
    done = gw.run('prlimit', '--nofile=8', NAT64, *LOAD, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and 'libbpf' not in done.stderr
