# SPDX-License-Identifier: GPL-2.0-or-later
"""--status and --mappings: every number against what was sent, in text, JSON and Prometheus' format."""

import ctypes
import ipaddress
import json
import os
import re
import shutil
import struct
import subprocess
import time

import pytest
from scapy.all import ICMP, IP, UDP, IPv6, raw

from bpf import DROPS, MAPPING, Translator, addr, bpf
from lab import NAT64, embed
from test_mappings import address, expire, on_every_cpu, speak

UPDATE_BATCH = 26
STATIC = 0x7fffffffffffffff


def status(gw, *argv):
    """[translator] of --status --json."""
    return json.loads(gw.run(NAT64, '--status', '--json', *argv).stdout)['translators']


def mappings(gw, i='eth0'):
    return json.loads(gw.run(NAT64, '-i', i, '--mappings', '--json').stdout)['mappings']


def metrics(gw, *argv):
    """{sample with its labels: value} of --status --metrics."""
    lines = gw.run(NAT64, '--status', '--metrics', *argv).stdout.splitlines()
    return {m[1]: int(m[2]) for m in (re.fullmatch(r'(nat64_\w+\{.*\}) (\d+)', line) for line in lines if line[0] != '#')}


def fill(map_, keys, values, n):
    """BPF_MAP_UPDATE_BATCH of n entries."""
    k, v = ctypes.create_string_buffer(keys, len(keys)), ctypes.create_string_buffer(values, len(values))
    bpf(UPDATE_BATCH, bytearray(struct.pack('=QQQQIIQQ', 0, 0, addr(k), addr(v), n, map_.fd, 0, 0)))


def fill_mappings(t, n, first=1):
    """n live mappings of fd00::1, fd00::2, ..., as if these hosts had spoken just now."""
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 10**9
    for start in range(first, first + n, 1 << 16):
        span = range(start, min(start + (1 << 16), first + n))
        hosts = [b'\xfd' + i.to_bytes(15, 'big') for i in span]
        indexes = b''.join(struct.pack('=I', i) for i in span)
        fill(t.maps['mappings'], indexes, b''.join(MAPPING.pack(0, 0, h, 1 << 40, 0, 0, now, now) for h in hosts), len(span))
        fill(t.maps['by_v6'], b''.join(hosts), indexes, len(span))


# What is sent each way, and what it must be counted as; None: translated.
SENT = {
    '6to4': [
        (raw(IPv6(src='fc00:66::1', dst=embed('198.51.100.1'), hlim=64) / UDP(sport=1, dport=2) / bytes(n)), None)
        for n in (0, 1, 100, 999)
    ] + [
        (raw(IPv6(src='2001:db8::1', dst=embed('198.51.100.1')) / UDP() / b'x'), 'not-allowed'),
        (raw(IPv6(src='2001:db8::1', dst=embed('198.51.100.1')) / UDP() / b'y'), 'not-allowed'),
        (raw(IPv6(src='ff02::1', dst=embed('198.51.100.1')) / UDP() / b'x'), 'src-illegal'),
        (raw(IPv6(src='fc00:66::1', dst=embed('127.0.0.1')) / UDP() / b'x'), 'dst-illegal'),
    ],
    '4to6': [
        (raw(IP(src='198.51.100.1', dst='10.0.1.1') / UDP(sport=2, dport=1) / bytes(n)), None) for n in (5, 600)
    ] + [
        (raw(IP(src='198.51.100.1', dst='10.0.1.9') / UDP() / b'x'), 'no-mapping'),
        (raw(IP(src='198.51.100.1', dst='10.0.1.1') / ICMP(type=13)), 'icmp-type'),
        (raw(IP(src='198.51.100.1', dst='10.0.1.1') / ICMP(type=15)), 'icmp-type'),
        (raw(IP(src='198.51.100.1', dst='10.0.1.1') / ICMP(type=17)), 'icmp-type'),
    ],
}


@pytest.fixture
def counted(nat):
    """(gateway, what every counter must say)"""
    _, gw, _ = nat
    want = {way: {'packets': 0, 'bytes': 0, 'dropped': 0, 'drops': dict.fromkeys(DROPS, 0)} for way in SENT}
    with Translator(gw) as t:
        for way, packets in SENT.items():
            for packet, reason in packets:
                (t.run64 if way == '6to4' else t.run46)(packet)
                if reason:
                    want[way]['dropped'] += 1
                    want[way]['drops'][reason] += 1
                else:
                    want[way]['packets'] += 1
                    want[way]['bytes'] += len(packet)
    return gw, want


def test_counters_in_json(counted):
    gw, want = counted
    (seen,) = status(gw)
    assert {way: seen[way] for way in want} == want


def test_counters_in_text(counted):
    """Totals in a line each way, and below it the reasons that occurred, and no other."""
    gw, want = counted
    text = gw.run(NAT64, '--status', '-i', 'eth0').stdout
    for way, title in ('6to4', 'IPv6 to IPv4'), ('4to6', 'IPv4 to IPv6'):
        w = want[way]
        m = re.search(rf'^  {title} +{w["packets"]} packets, {w["bytes"]} bytes, {w["dropped"]} dropped\n((?:    .*\n)*)',
                      text, re.M)
        assert m, text
        assert {k: int(v) for k, v in (line.split() for line in m[1].splitlines())} == \
               {k: v for k, v in w['drops'].items() if v}


def test_counters_in_metrics(counted):
    gw, want = counted
    seen = metrics(gw)
    for way, w in want.items():
        where = f'interface="eth0",direction="{way}"'
        assert seen[f'nat64_packets_total{{{where}}}'] == w['packets']
        assert seen[f'nat64_bytes_total{{{where}}}'] == w['bytes']
        for reason, n in w['drops'].items():
            assert seen[f'nat64_drops_total{{{where},reason="{reason}"}}'] == n


def test_counters_of_real_traffic(nat):
    """A hundred echo requests and replies, 84 bytes of IPv4 and 104 of IPv6 each."""
    h6, gw, _ = nat
    h6.run('ping', '-c', 100, '-i', 0.002, embed('192.0.2.2'))
    (seen,) = status(gw)
    assert [(seen[way]['packets'], seen[way]['bytes'], seen[way]['dropped']) for way in SENT] == \
           [(100, 10400, 0), (100, 8400, 0)]


CONFIGURATIONS = {
    'defaults': ([], {}),
    'everything': (['-6', '2001:db8:64::/96', '-t', 77, '--reuse-idle', 60, '--per-prefix', '56=4', '--icmp-src', '192.0.2.99', '--icmp-rate', 0,
                    '--lowest-ipv6-mtu', 1400, '--wkp-strict', '--tos', '0x10', '--tclass', 0, '-a', '2001:db8:1::/48', '-a', '2001:db8::1/128'],
                   {'v6_prefix': '2001:db8:64::/96', 'timeout': 77, 'reuse_idle': 60, 'per_prefix': {'length': 56, 'mappings': 4}, 'icmp_src': '192.0.2.99', 'icmp_rate': 0,
                    'lowest_ipv6_mtu': 1400, 'wkp_strict': True, 'tos': 16, 'tclass': 0,
                    'allowed_src': ['2001:db8::1', '2001:db8:1::/48', 'fc00::/8']}),
}


@pytest.mark.parametrize('name', CONFIGURATIONS)
def test_configuration(kind, net, name):
    """What was asked for, and the ids that tc tells; all names, and no other."""
    _, gw, _ = net
    argv, changed = CONFIGURATIONS[name]
    before = time.time()
    gw.load(*argv, v4='10.0.2.0/23')
    after = time.time()
    (seen,) = status(gw)
    with Translator(gw) as t:
        want = {'interface': 'eth0', 'ifindex': t.ifindex, 'working': True, 'problems': [], 'v6_prefix': '64:ff9b::/96', 'v4_prefix': '10.0.2.0/23',
                'allowed_src': ['fc00::/8'], 'static_mappings': 0, 'timeout': 7440, 'give_out': None, 'reuse_idle': None, 'per_prefix': None, 'icmp_src': '192.0.0.8',
                'icmp_rate': 100, 'lowest_ipv6_mtu': 1280, 'wkp_strict': False, 'tos': None, 'tclass': None,
                'ports': None, 'fast': None, 'xdp': None,
                'programs': {'6to4': t.to4.id, '4to6': t.to6.id}, 'attached': kind, 'kernel': gw.run('uname', '-r').stdout.strip(),
                'mappings': {'live': 0, 'expired': 0, 'static': 0, 'free': 510, 'addresses': 510}} | changed
    assert before - 2 <= seen.pop('since') <= after + 1
    assert set(seen) - set(want) == {'6to4', '4to6'}
    assert {k: seen[k] for k in want} == want
    text = gw.run(NAT64, '--status').stdout
    for word in [want['v6_prefix'], want['v4_prefix'], f'{want["timeout"]} s', want['icmp_src'], *want['allowed_src'],
                 f'6to4 {want["programs"]["6to4"]}', f'4to6 {want["programs"]["4to6"]}', f'by {kind}', want['kernel'],
                 'of 510 addresses', 'working           yes\n']:
        assert word in text


def test_mappings_and_their_count(net):
    """Live, expired and free; idle and expiry of each; in the order of their addresses."""
    _, gw, _ = net
    gw.load('-t', 2, v4='10.0.1.0/28')
    with Translator(gw) as t:
        old = {speak(t, n): address(n) for n in range(3)}
        expire(t, list(old)[0])
        time.sleep(0.2)
        new = {speak(t, n): address(n) for n in range(10, 14)}
    (seen,) = status(gw)
    assert seen['mappings'] == {'live': 4, 'expired': 3, 'static': 0, 'free': 7, 'addresses': 14}
    assert '4 live, 3 expired, 0 static, 7 free, of 14 addresses' in gw.run(NAT64, '--status').stdout
    samples = metrics(gw)
    assert {state: samples[f'nat64_pool_addresses{{interface="eth0",state="{state}"}}']
            for state in ('live', 'expired', 'static', 'free')} == \
           {'live': 4, 'expired': 3, 'static': 0, 'free': 7}
    rows = mappings(gw)
    assert {row['v4']: row['v6'] for row in rows} == old | new
    assert [row['v4'] for row in rows] == sorted(old | new, key=ipaddress.ip_address)
    assert all(set(row) == {'v4', 'v6', 'type', 'idle', 'expires_in', 'age'} and row['type'] == 'dynamic' for row in rows)
    for row in rows:
        if row['v4'] in old:
            assert row['expires_in'] == 0 and row['idle'] >= 2 and row['age'] >= 2
        else:
            assert 0 < row['expires_in'] <= 2 and row['idle'] <= 1
    text = [line.split() for line in gw.run(NAT64, '-i', 'eth0', '--mappings').stdout.splitlines()]
    assert text[0] == ['IPv4', 'IPv6', 'type', 'idle', 'expires']
    assert [(row[0], row[1], row[2]) for row in text[1:]] == [(row['v4'], row['v6'], 'dynamic') for row in rows]


def test_idle_and_age(net):
    """In seconds: made five seconds ago, silent for three."""
    _, gw, _ = net
    gw.load()
    with Translator(gw) as t:
        speak(t, 1)
        made = time.monotonic()
        time.sleep(2)
        speak(t, 1)
        spoke = time.monotonic()
        time.sleep(3)
        before = time.monotonic()
        (row,) = mappings(gw)
        after = time.monotonic()
    assert int(before - made) - 1 <= row['age'] <= after - made + 1
    assert int(before - spoke) - 1 <= row['idle'] <= after - spoke + 1
    assert row['idle'] < row['age']
    assert 7440 <= row['idle'] + row['expires_in'] <= 7441


def test_header_of_mappings(nat):
    _, gw, _ = nat
    seen = json.loads(gw.run(NAT64, '-i', 'eth0', '--mappings', '--json').stdout)
    assert abs(seen.pop('time') - time.time()) < 60
    assert seen == {'nat64_mappings': 1, 'interface': 'eth0', 'v6_prefix': '64:ff9b::/96', 'v4_prefix': '10.0.1.0/24',
                    'timeout': 7440, 'mappings': []}


def test_nothing_loaded(net):
    _, gw, _ = net
    assert status(gw) == []
    assert gw.run(NAT64, '--status').stdout == 'no translator is loaded\n'
    assert metrics(gw) == {}
    for argv in ['--status'], ['--mappings'], ['--mappings', '--json']:
        assert gw.nat64('-i', 'eth0', *argv, rc=1).stderr == 'nat64: nothing loaded on eth0\n'
    for argv in ['--status'], ['--mappings']:
        assert 'nosuch0' in gw.nat64('-i', 'nosuch0', *argv, rc=2).stderr


def test_several_interfaces(nat, lab):
    """All of this namespace, and no others; or the one that was asked for."""
    _, gw, h4 = nat
    odd = 'we"ird\\'
    lab.link(gw, 'eth2', lab.host('b6'), 'eth0')
    lab.link(gw, 'eth3', lab.host('c6'), 'eth0')
    gw.batch('ip', 'link set eth3 down', f"link set eth3 name '{odd}'", f"link set '{odd}' up")
    lab.link(h4, 'eth5', lab.host('d6'), 'eth0')
    gw.load(i='eth2', v4='10.0.2.0/24')
    gw.load(i=odd, v4='10.0.3.0/24')
    h4.load(i='eth5', v4='10.0.4.0/24')
    assert {s['interface']: s['v4_prefix'] for s in status(gw)} == \
           {'eth0': '10.0.1.0/24', 'eth2': '10.0.2.0/24', odd: '10.0.3.0/24'}
    assert [s['interface'] for s in status(gw, '-i', 'eth2')] == ['eth2']
    assert re.findall(r'^\S.*', gw.run(NAT64, '--status').stdout, re.M) == ['eth0', 'eth2', odd]
    assert 'nat64_mapping_timeout_seconds{interface="we\\"ird\\\\"}' in metrics(gw)


@pytest.mark.parametrize('way', ['ingress', 'egress'])
def test_half_a_translator(old_kernel, nat, way):
    """One program gone: that is what there is to say."""
    _, gw, _ = nat
    gw.run('tc', 'filter', 'del', 'dev', 'eth0', way, 'prio', 64)
    gw.load(i='eth1', v4='10.0.2.0/24')
    for argv in ['--status'], ['-i', 'eth0', '--status'], ['-i', 'eth0', '--mappings']:
        done = gw.nat64(*argv, rc=1)
        assert f'its {way} program is missing' in done.stderr
        assert (f'working           no: its {way} program is missing' in done.stdout) == ('--status' in argv)
        assert ('10.0.2.0/24' in done.stdout) == (argv == ['--status'])
    both = json.loads(gw.nat64('--status', '--json', rc=1).stdout)['translators']
    assert [(s['interface'], s['working'], len(s['problems'])) for s in both] == [('eth0', False, 1), ('eth1', True, 0)]
    assert set(both[0]) == {'interface', 'ifindex', 'working', 'problems'}
    lines = gw.nat64('--status', '--metrics', rc=1).stdout.splitlines()
    assert [line for line in lines if 'interface="eth0"' in line] == ['nat64_working{interface="eth0"} 0']
    assert 'nat64_working{interface="eth1"} 1' in lines
    gw.unload(i='eth1')
    gw.loaded.clear()
    gw.nat64('-u', '-i', 'eth0')


def promtool():
    if not shutil.which('promtool'):
        pytest.skip('NO promtool: the metrics are not checked against Prometheus (package prometheus)')
    return shutil.which('promtool')


@pytest.mark.parametrize('loaded', [0, 1, 2])
def test_promtool_likes_the_metrics(net, lab, loaded):
    _, gw, _ = net
    tool = promtool()
    if loaded:
        gw.load()
    if loaded == 2:
        lab.link(gw, 'eth2', lab.host('b6'), 'eth0')
        gw.load(i='eth2', v4='10.0.2.0/24')
    text = gw.run(NAT64, '--status', '--metrics').stdout
    done = subprocess.run([tool, 'check', 'metrics'], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    broken = text.replace('# TYPE nat64_info gauge', '# TYPE nat64_info nonsense')
    assert subprocess.run([tool, 'check', 'metrics'], input=broken, capture_output=True, text=True, check=False).returncode


MILLION = 1 << 20


@pytest.fixture
def million(net):
    _, gw, _ = net
    gw.load(v4='10.0.0.0/12', allow=['fd00::/8'])
    with Translator(gw) as t:
        fill_mappings(t, MILLION - 2)
    return gw


def test_a_million_mappings(million, tmp_path, record_property):
    """In seconds and little memory: all of them, sorted, in text and in JSON."""
    limit = ['prlimit', f'--as={64 << 20}']
    for argv in [], ['--json']:
        start = time.monotonic()
        with open(tmp_path / 'list', 'w', encoding='ascii') as f:
            million.start(*limit, NAT64, '-i', 'eth0', '--mappings', *argv, stdout=f).wait(120)
        record_property(f'seconds {argv}', time.monotonic() - start)
        print(f'a million mappings {argv}: {time.monotonic() - start:.1f} s')
        with open(tmp_path / 'list', encoding='ascii') as f:
            if argv:
                rows = [(row['v4'], row['v6']) for row in json.load(f)['mappings']]
            else:
                rows = [tuple(line.split()[:2]) for line in f][1:]
        assert len(rows) == MILLION - 2
        assert rows[0] == ('10.0.0.1', 'fd00::1') and rows[-1] == ('10.15.255.254', 'fd00::f:fffe')
        numbers = [struct.unpack('!I', bytes(map(int, v4.split('.'))))[0] for v4, _ in rows]
        assert all(b == a + 1 for a, b in zip(numbers, numbers[1:]))
    (seen,) = status(million)
    assert seen['mappings'] == {'live': MILLION - 2, 'expired': 0, 'static': 0, 'free': 0, 'addresses': MILLION - 2}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='needs two CPUs')
def test_dump_of_a_table_that_changes(net):
    """Crowds of hosts relieve each other: whenever it is looked at, the list is valid and nobody is in it twice."""
    _, gw, _ = net
    gw.load('-t', 1, v4='10.0.1.0/26')
    start, speaker = time.monotonic(), min(os.sched_getaffinity(0))

    def work(cpu):
        if cpu == speaker:
            n = 0
            with Translator(gw) as t:
                while (now := time.monotonic() - start) < 8:
                    n += 1
                    speak(t, int(now / 0.7) % 5 * 62 + n % 62)
            return ''
        dumps, seen = 0, set()
        while time.monotonic() - start < 8:
            rows = mappings(gw)
            for key in 'v4', 'v6':
                assert len({row[key] for row in rows}) == len(rows), rows
            addresses = [ipaddress.ip_address(row['v4']) for row in rows]
            assert addresses == sorted(addresses)
            assert all(row['v6'].startswith('fc00:66::') for row in rows)
            seen |= {row['v6'] for row in rows}
            counts = status(gw)[0]['mappings']
            assert counts['live'] + counts['expired'] + counts['free'] == counts['addresses'] == 62
            dumps += 1
        assert dumps > 10 and len(seen) > 100, (dumps, len(seen))
        return 'ok'
    assert 'ok' in on_every_cpu(work)


def test_since_is_one_moment(nat):
    """Whatever part of a second it is when somebody asks."""
    _, gw, _ = nat
    seen = set()
    for _ in range(20):
        seen.add(status(gw)[0]['since'])
        time.sleep(0.05)
    assert len(seen) == 1


def test_mappings_of_all(nat, lab):
    """Without -i, as --status: a list of what -i prints of each, or a heading before each."""
    _, gw, _ = nat
    empty = gw.nat64('--mappings', '--json', '-i', 'eth0').stdout
    lab.link(gw, 'eth2', lab.host('b6'), 'eth0')
    gw.load(i='eth2', v4='10.0.2.0/24')
    for i in 'eth0', 'eth2':
        with Translator(gw, i) as t:
            fill_mappings(t, 3)
    one = {i: gw.nat64('--mappings', '-i', i).stdout for i in ('eth0', 'eth2')}
    assert all(text.count('\n') == 4 for text in one.values())
    want = [json.loads(gw.nat64('--mappings', '--json', '-i', i).stdout) for i in ('eth0', 'eth2')]
    got = json.loads(gw.nat64('--mappings', '--json').stdout)['translators']
    for document in want + got:
        document.pop('time')
        for mapping in document['mappings']:
            mapping.update(idle=0, expires_in=0, age=0)
    assert got == want and len(got[1]['mappings']) == 3
    text = gw.nat64('--mappings').stdout
    assert re.sub(r' +\d+ +\d+$', '', text, flags=re.M) == re.sub(
        r' +\d+ +\d+$', '', f'eth0\n{one["eth0"]}\neth2\n{one["eth2"]}', flags=re.M)
    gw.unload(i='eth2')
    assert json.loads(gw.nat64('--mappings', '--json').stdout)['translators'][0].keys() == json.loads(empty).keys()
    gw.unload()
    assert json.loads(gw.nat64('--mappings', '--json').stdout) == {'translators': []}
    assert gw.nat64('--mappings').stdout == 'no translator is loaded\n'


NOT_MOUNTED = {
    'status': ('/sys', ['--status'], 'nat64: eth0: cannot tell how many CPUs there are: /sys is not mounted\n'),
    'json': ('/sys', ['--status', '--json', '-i', 'eth0'], 'nat64: eth0: cannot tell how many CPUs there are: /sys is not mounted\n'),
    'metrics': ('/sys', ['--status', '--metrics'], 'nat64: eth0: cannot tell how many CPUs there are: /sys is not mounted\n'),
    'fast': ('/sys', ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '--fast'],
             'nat64: eth0: cannot tell how many CPUs there are: /sys is not mounted\n'),
    'load': ('/proc', ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8'],
             'nat64: eth0: cannot tell whether IPv6 is enabled there: /proc is not mounted\n'),
}


@pytest.mark.parametrize('name', NOT_MOUNTED)
def test_what_is_not_mounted_is_named(nat, name):
    """And nothing is made up: no status of zeros."""
    where, argv, says = NOT_MOUNTED[name]
    gw = nat[1]
    before = gw.snapshot()
    done = gw.run('unshare', '-m', 'sh', '-c', 'umount -l "$0" && exec "$@"', where, NAT64, *argv, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, '', says)
    assert gw.snapshot() == before


@pytest.mark.parametrize('argv', [['--status'], ['--mappings', '--json'], ['--monitor'], ['--trace']])
@pytest.mark.parametrize('caps', ['-all', '-sys_admin'])
def test_missing_capability_names_no_interface(nat, argv, caps):
    """That the user has not named; only one that has a translator."""
    done = nat[1].nat64(*argv, rc=1, via=['setpriv', f'--bounding-set={caps}'])
    assert done.stderr == 'nat64: not permitted: missing CAP_SYS_ADMIN (to look into what is loaded)\n'


# Each needs CAP_SYS_ADMIN and nothing else.
ASK = [['--status'], ['--status', '-i', 'eth0', '--json'], ['--status', '--metrics'], ['-i', 'eth0', '--mappings']]


@pytest.mark.parametrize('argv', ASK)
def test_least_privilege(kind, nat, argv):
    _, gw, _ = nat
    only = ['setpriv', '--bounding-set=-all,+sys_admin']
    assert gw.run(*only, NAT64, *argv).stdout == gw.run(NAT64, *argv).stdout != ''
    done = gw.run('setpriv', '--bounding-set=-sys_admin', NAT64, *argv, check=False)
    assert done.returncode == 1 and done.stdout == ''
    assert re.fullmatch(r'nat64: (eth0: )?not permitted: missing CAP_SYS_ADMIN[^\n]*\n', done.stderr)


BAD = {
    'json alone': (['-i', 'eth0', '--json'], '--json: only with --status'),
    'json with unload': (['-i', 'eth0', '-u', '--json'], '--json'),
    'metrics with mappings': (['-i', 'eth0', '--mappings', '--metrics'], '--metrics'),
    'metrics and json': (['--status', '--metrics', '--json'], '--metrics'),
    'status and unload': (['-i', 'eth0', '--status', '-u'], '-u'),
    'mappings and status': (['-i', 'eth0', '--mappings', '--status'], '--status'),
    'mappings of what': (['--mappings', 'eth0'], 'eth0'),
    'status with an argument': (['--status=eth0'], '--status'),
    'status of two': (['--status', 'eth0'], 'eth0'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input(nat, name):
    argv, names = BAD[name]
    assert names in nat[1].nat64(*argv, rc=2).stderr


@pytest.mark.parametrize('argv', [['--status'], ['--status', '--json'], ['--status', '--metrics'],
                                  ['-i', 'eth0', '--mappings'], ['-i', 'eth0', '--mappings', '--json'],
                                  ['--mappings'], ['--mappings', '--json']])
def test_full_disk(nat, argv):
    """What could not be written is a failure, in one line."""
    done = nat[1].run('sh', '-c', '"$0" "$@" > /dev/full', NAT64, *argv, check=False)
    assert done.returncode == 1 and re.fullmatch(r'nat64: [^\n]*No space left[^\n]*\n', done.stderr)


def test_full_disk_in_between(net):
    """The reason is told also if what fails is not what is written last."""
    gw = net[1]
    gw.load(*(word for n in range(1, 151) for word in ('-s', f'fc00::{n:x}=10.0.1.{n}')))
    test_full_disk(net, ['-i', 'eth0', '--mappings'])
