# SPDX-License-Identifier: GPL-2.0-or-later
"""--check: each finding in a network namespace, or under a mount, that is made so that it is there; and not there without."""

import ctypes
import json
import os
import re
import struct
import subprocess

import pytest

import bpf
from lab import NAT64

SETUP = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8']
NOBODY = ['setpriv', '--reuid=65534', '--clear-groups', '--inh-caps=-all', '--bounding-set=+all']


def under(path, text=None):
    """A program that runs another one where an empty file system hides this path, or a file of this text."""
    script = 'mount -t tmpfs tmpfs "$1"' if text is None else \
        'mount -t tmpfs tmpfs /run; printf %s "$2" >/run/text; mount --bind /run/text "$1"'
    return ['unshare', '-m', 'sh', '-ec', f'{script}; shift 2; exec "$@"', 'sh', path, text or '']


def findings(gw, *argv, rc=0, via=(), watch=False):
    """What --check says: {what: [(state, text)]}. watch: that it says the same as text, and changes nothing."""
    doc = gw.run(*via, NAT64, '--check', '--json', *argv, check=False)
    said = json.loads(doc.stdout)
    assert said.keys() == {'can_run', 'findings'}
    fails = [f['text'] for f in said['findings'] if f['state'] == 'fails']
    more = f'; and {len(fails) - 1} more' if fails[1:] else ''
    complaint = f'nat64: cannot run here: {fails[0]}{more}\n' if fails else ''
    assert (doc.returncode, doc.stderr) == (rc, complaint) and rc == bool(fails) and said['can_run'] == (not fails)
    if watch:
        text = gw.nat64('--check', *argv, rc=rc, via=via)
        assert text.before == text.after and text.stderr == complaint
        assert text.stdout.splitlines() == [f'{f["state"]:8} {f["what"]:14} {f["text"]}' for f in said['findings']]
    out = {}
    for f in said['findings']:
        out.setdefault(f['what'], []).append((f['state'], f['text']))
    return out


def finding(gw, what, *argv, **kw):
    """The only finding of a kind."""
    one, = findings(gw, *argv, **kw)[what]
    return one


def test_a_machine_that_can(module_net):
    """A finding of each kind, and none that is not ok."""
    _, gw, _ = module_net
    said = findings(gw, *SETUP, watch=True)
    said.pop('PREEMPT_RT', None)        # which this kernel is or not
    kernel = {'lockdown', 'JIT', 'BTF', 'programs', 'kfuncs', 'XDP', 'tcx'}         # which may be as they like
    assert [(what, f) for what, fs in said.items() if what not in kernel for f in fs if f[0] != 'ok'] == []
    assert kernel | {'nat64', 'kernel', 'capabilities', 'redirect_neigh', 'IPv6', 'forwarding', 'rp_filter', 'br_netfilter',
                     'flow tables', 'IPsec', 'offloads', 'set-up'} == set(said)
    version = gw.run(NAT64, '-V').stdout.split()[1]
    assert said['nat64'] == [('ok', version)]
    assert os.uname().release in said['kernel'][0][1] and os.uname().machine in said['kernel'][0][1]
    assert said['tcx'][0][0] == ('ok' if bpf.has_tcx() else 'note')
    assert said['set-up'] == [('ok', 'eth0: can be loaded')]
    assert ('faster' in said['programs'][0][1]) == (said['programs'][0][0] == 'ok')
    assert said['kfuncs'][0][0] == ('ok' if bpf.KERNEL >= (6, 2) else 'note') or said['BTF'][0][0] == 'note'
    assert said['XDP'] == [('ok', 'for --xdp, and for a large MTU if the driver can') if bpf.KERNEL >= (5, 18) else
                           ('note', 'for --xdp, with an MTU of some 3500 bytes at most (Linux 5.18)')]


def test_without_options(module_net):
    """The machine alone; and with an interface alone."""
    _, gw, _ = module_net
    assert not {'set-up', 'offloads', 'rp_filter', 'br_netfilter'} & set(findings(gw))
    assert finding(gw, 'set-up', '-i', 'eth0') == ('ok', 'eth0: can be loaded (with -4 and -a it would be known for certain)')
    assert finding(gw, 'set-up', '--device', 'nat64')[0] == 'ok'


def test_beside_a_translator(nat):
    _, gw, _ = nat
    assert finding(gw, 'set-up', *SETUP) == ('ok', 'eth0: can be loaded')
    assert finding(gw, 'set-up', '-i', 'eth0', '-4', '10.0.2.0/24', '-a', 'fc00::/8', watch=True)[0] == 'ok'
    assert 'translator on eth0' in finding(gw, 'set-up', '--device', 'nat64', '-4', '10.0.1.0/25', '-a', 'fc00::/8', rc=1)[1]


@pytest.mark.parametrize('argv, says', [
    (['--check', '-i', 'nosuch0'], '-i nosuch0: no such interface'),
    (['--check', '-4', '10.0.1.7/24'], '10.0.1.0/24'),
    (['--check', '-a', 'fc00::/8', '-i', 'eth0'], '-a fc00::/8: there are no IPv4 addresses'),
    (['--check', '-i', 'lo'], 'loopback'),
    (['--check', '--metrics'], '--metrics: only with --status'),
    (['--check', '--status'], '--status: not together with --check'),
    (['--check', '-u'], '-u: not together with --check'),
    (['--check', '--dry-run'], '--dry-run: only to load'),
    (['--check', '--restore', '/nosuch'], '--restore: not together'),
    (['--check', '--device', 'nat64', '--fast'], '--fast: not with --device alone'),
])
def test_wrong_options(module_net, argv, says):
    assert says in module_net[1].nat64(*argv, rc=2).stderr


def test_cannot_write(module_net):
    done = module_net[1].run('sh', '-c', f'{NAT64} --check >/dev/full', check=False)
    assert done.returncode == 1 and done.stderr == 'nat64: cannot write: No space left on device\n'


# --- the kernel; what it has not is hidden from the process ---

def test_old_kernels(net, old_kernel, monkeypatch):
    _, gw, _ = net
    said = findings(gw)
    assert 'Linux 6.5.0' in said['kernel'][0][1]
    assert said['tcx'] == [('note', 'none (Linux 6.6): programs are filters of a clsact qdisc (CONFIG_NET_SCH_INGRESS, '
                                    'CONFIG_NET_CLS_BPF)')]
    monkeypatch.setenv('NOTCX_RELEASE', '5.9.0-foo')
    state, text = finding(gw, 'kernel', rc=1)
    assert (state, text) == ('fails', f'Linux 5.9.0-foo {os.uname().machine}: too old (Linux 5.10)')


@pytest.mark.parametrize('version, release, warns', [
    ('#1 SMP PREEMPT_RT Debian 6.12.57-1', '6.12.57+deb13-rt-amd64', True), ('#1 SMP PREEMPT_RT', '6.18.1', True),
    ('#1 SMP PREEMPT_RT Debian 6.1.170-3', '6.1.0-47-rt-amd64', False), ('#1 SMP PREEMPT_DYNAMIC', '6.18.1', False)])
def test_preempt_rt(net, old_kernel, monkeypatch, version, release, warns):
    """Who loads it is told as well, in the same words."""
    _, gw, _ = net
    monkeypatch.setenv('NOTCX_VERSION', version)
    monkeypatch.setenv('NOTCX_RELEASE', release)
    said = findings(gw, *SETUP).get('PREEMPT_RT')
    text = 'the kernel is PREEMPT_RT and lets one packet interrupt the translation of another, which may spoil it ' \
           '(CONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y)'
    assert said == ([('note', text)] if warns else None)
    assert gw.nat64(*SETUP, '--dry-run').stderr == (f'nat64: warning: {text}\n' if warns else '')


def test_kernel_without_btf(module_net):
    _, gw, _ = module_net
    said = findings(gw, via=under('/sys/kernel/btf'))
    assert said['BTF'] == [('note', 'the kernel has none: IPsec policies cannot be seen (CONFIG_DEBUG_INFO_BTF)')]
    assert said['programs'] == [('note', 'the kernel takes them, in the slower form '
                                         f'({"CONFIG_DEBUG_INFO_BTF" if bpf.KERNEL >= (6, 2) else "Linux 6.2"})')]
    assert said['kfuncs'] == [('note', 'cannot be found without BTF, so that programs are in the slower form (CONFIG_DEBUG_INFO_BTF)')]


@pytest.mark.parametrize('level', ['none', 'integrity', 'confidentiality'])
@pytest.mark.parametrize('btf', [True, False])
def test_lockdown(module_net, level, btf):
    """Only of the slower form does it take something."""
    levels = ' '.join(f'[{word}]' if word == level else word for word in ('none', 'integrity', 'confidentiality'))
    via = ['unshare', '-m', 'sh', '-ec', 'mount -t tmpfs tmpfs /sys/kernel/security; echo "$1" >/sys/kernel/security/lockdown; '
           f'{"" if btf else "mount -t tmpfs tmpfs /sys/kernel/btf;"} shift; exec "$@"', 'sh', levels]
    state, text = finding(module_net[1], 'lockdown', via=via)
    slower = not btf or bpf.KERNEL < (6, 2)
    assert text.startswith(level) and 'securityfs' not in text and state == ('note' if level == 'confidentiality' and slower else 'ok')


def test_no_securityfs(module_net):
    said = finding(module_net[1], 'lockdown', via=under('/sys/kernel/security'))
    assert said == ('ok', 'none that can be seen (securityfs)')


# In the machine's own network namespace, the only one that has these sysctls
@pytest.mark.parametrize('name, value, says', [
    ('bpf_jit_harden', '2', ('note', 'hardened also for root, which makes programs slower (sysctl net.core.bpf_jit_harden=1)')),
    ('bpf_jit_harden', '1', ('ok', 'on')), ('bpf_jit_harden', '0', ('ok', 'on'))])
def test_jit(name, value, says):
    done = subprocess.run([*under(f'/proc/sys/net/core/{name}', value), NAT64, '--check', '--json'], capture_output=True,
                          text=True, check=False)
    jit, = (f for f in json.loads(done.stdout)['findings'] if f['what'] == 'JIT')
    with open('/proc/sys/net/core/bpf_jit_enable', encoding='ascii') as f:
        if f.read().strip() == '0':
            says = ('note', 'off: the kernel interprets BPF programs, which is slow (sysctl net.core.bpf_jit_enable=1)')
    assert (jit['state'], jit['text']) == says


@pytest.mark.parametrize('enabled, says', [
    ('0', 'off: the kernel interprets BPF programs, which is slow (sysctl net.core.bpf_jit_enable=1)'),
    ('1', 'none: the kernel interprets BPF programs, which is slow (CONFIG_BPF_JIT)'),
    (None, 'none, or off: the kernel interprets BPF programs, which is slow (CONFIG_BPF_JIT, sysctl net.core.bpf_jit_enable=1)')])
def test_no_jit(old_kernel, monkeypatch, enabled, says):
    monkeypatch.setenv('NOTCX_NOJIT', '1')
    path = '/proc/sys/net/core'
    via = under(path) if enabled is None else under(f'{path}/bpf_jit_enable', enabled)
    done = subprocess.run([*via, NAT64, '--check', '--json'], capture_output=True, text=True, check=False)
    assert [(f['state'], f['text']) for f in json.loads(done.stdout)['findings'] if f['what'] == 'JIT'] == [('note', says)]


def test_jit_that_cannot_compile(net, old_kernel, monkeypatch):
    """Of a kernel that does nothing but compile; it says ENOTSUPP, which is 524 and in no header."""
    _, gw, _ = net
    monkeypatch.setenv('NOTCX_ERRNO', '524')
    said = findings(gw, *SETUP, rc=1)
    text = 'this kernel (6.5.0) runs no BPF programs but those that it can compile, and not these (CONFIG_BPF_JIT_ALWAYS_ON)'
    assert said['programs'] == [('fails', text)]
    assert gw.nat64(*SETUP, rc=1).stderr == f'nat64: eth0: {text}\n'


def test_no_ipv6(net):
    _, gw, _ = net
    assert finding(gw, 'IPv6', rc=1, via=under('/proc/sys/net/ipv6')) == \
        ('fails', 'the kernel has none (CONFIG_IPV6, and no ipv6.disable=1)')
    gw.sysctl('net.ipv6.conf.all.disable_ipv6', 1)
    said = findings(gw, *SETUP, rc=1)
    assert said['IPv6'] == [('note', 'is disabled on most interfaces (sysctl net.ipv6.conf.all.disable_ipv6=0)')]
    assert said['set-up'][0] == ('fails', 'eth0: IPv6 is disabled (sysctl net.ipv6.conf.eth0.disable_ipv6)')


def test_no_proc(module_net):
    """What it could not look at, it says."""
    said = findings(module_net[1], via=under('/proc'))
    assert {what for what, fs in said.items() if fs[0][0] == 'unknown'} >= {'IPv6', 'forwarding'}


# --- privileges ---

def test_nobody(net):
    """Without privileges it looks at what it may look at, and says of the rest that it could not."""
    _, gw, _ = net
    said = findings(gw, *SETUP, via=NOBODY, watch=True)
    assert said['capabilities'] == [('note', 'not permitted: missing CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON (run it as root)')]
    for what in 'programs', 'redirect_neigh', 'XDP':
        assert said[what] == [('unknown', 'could not be tried: not permitted: missing CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON')]
    assert said['flow tables'] == [('unknown', 'to see those of nftables takes CAP_NET_ADMIN')]
    assert said['IPsec'] == [('unknown', 'to see the policies takes CAP_NET_ADMIN')]
    assert said['set-up'] == [('unknown', 'eth0: addresses and routes are not in the way; its hooks could not be looked at')]
    assert said['forwarding'] == [('ok', 'IPv4 and IPv6')]
    gw.sysctl('net.ipv4.ip_forward', 0)
    gw.route('10.0.1.0/25', 'via', '192.0.2.2')
    said = findings(gw, *SETUP, rc=1, via=NOBODY)
    assert said['forwarding'] == [('fails', 'eth0: IPv4 forwarding is off (sysctl net.ipv4.ip_forward=1)')]
    assert said['set-up'] == [('fails', '-4 10.0.1.0/24: there is already a route to 10.0.1.0/25 on eth1')]


@pytest.mark.parametrize('caps, state, says', [
    ('-net_admin', 'fails', 'not permitted: missing CAP_NET_ADMIN, which nobody here can have (a container?)'),
    ('-sys_admin', 'note', 'not permitted: missing CAP_SYS_ADMIN (to take over the translator that is loaded)')])
def test_capabilities(module_net, caps, state, says):
    assert finding(module_net[1], 'capabilities', rc=int(state == 'fails'), via=['setpriv', f'--bounding-set={caps}']) == (state, says)


def test_user_namespace(module_net):
    """All capabilities, and none of them counts."""
    said = findings(module_net[1], rc=1, via=['unshare', '-r'])
    assert said['capabilities'][0][0] == 'ok'
    assert said['programs'][0][0] == 'fails' and 'inside a user namespace' in said['programs'][0][1]
    assert said['redirect_neigh'] == said['XDP'] == [('unknown', 'could not be tried: see programs')]


# --- around it ---

FORWARDING = {
    'IPv4': ({'net.ipv4.ip_forward': 0}, ['IPv4 forwarding is off (sysctl net.ipv4.ip_forward=1)']),
    'IPv6': ({'net.ipv6.conf.all.forwarding': 0}, ['IPv6 forwarding is off (sysctl net.ipv6.conf.all.forwarding=1)']),
    'IPv4 of one': ({'net.ipv4.conf.eth0.forwarding': 0}, ['IPv4 forwarding is off there (sysctl net.ipv4.conf.eth0.forwarding=1)']),
    'the uplink': ({'net.ipv4.conf.eth1.forwarding': 0},
                   ['IPv4 forwarding is off on eth1 (sysctl net.ipv4.conf.eth1.forwarding=1)']),
    'both': ({'net.ipv4.ip_forward': 0, 'net.ipv6.conf.all.forwarding': 0},
             ['IPv4 forwarding is off (sysctl net.ipv4.ip_forward=1)', 'IPv6 forwarding is off (sysctl net.ipv6.conf.all.forwarding=1)']),
}


@pytest.mark.parametrize('name', FORWARDING)
def test_forwarding(net, name):
    """Of the interface; and of any, if it is one of all."""
    _, gw, _ = net
    sysctls, says = FORWARDING[name]
    for sysctl, value in sysctls.items():
        gw.sysctl(sysctl, value)
    assert findings(gw, *SETUP, rc=1)['forwarding'] == [('fails', f'eth0: {text}') for text in says]
    if 'eth' not in ''.join(sysctls):
        assert findings(gw, rc=1)['forwarding'] == [('fails', text) for text in says]
        says_device = [('fails', f'nat64: {text}') for text in says]
        assert findings(gw, '--device', 'nat64', '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=1)['forwarding'] == says_device


def test_rp_filter(net):
    """It costs ports of a device some speed, and a translator of one interface nothing."""
    _, gw, _ = net
    both = ['-i', 'eth0', '-i', 'eth1', '-4', '10.0.1.0/24', '-a', 'fc00::/8']
    gw.sysctl('net.ipv4.conf.all.rp_filter', 0)
    for ifname in 'eth0', 'eth1':
        gw.sysctl(f'net.ipv4.conf.{ifname}.rp_filter', 0)
    assert [state for state, _ in findings(gw, *both)['rp_filter']] == ['ok', 'ok']
    gw.sysctl('net.ipv4.conf.eth0.rp_filter', 1)
    assert findings(gw, *both)['rp_filter'] == [
        ('note', 'eth0: on: what has become IPv4 goes by the device, which costs speed (sysctl net.ipv4.conf.all.rp_filter=0 '
                 'net.ipv4.conf.eth0.rp_filter=0)'), ('ok', 'eth1: does no harm')]
    assert findings(gw, *SETUP)['rp_filter'] == [('ok', 'eth0: does no harm')]


def test_br_netfilter(net):
    _, gw, _ = net
    gw.run('modprobe', 'br_netfilter', check=False)
    if not os.path.exists('/proc/sys/net/bridge'):
        pytest.skip('NO br_netfilter in this kernel: see make test-kernels')
    gw.ip('link', 'add', 'br0', 'type', 'bridge')
    gw.ip('link', 'set', 'br0', 'up')
    assert finding(gw, 'br_netfilter', *SETUP) == ('ok', 'eth0: does no harm')
    assert finding(gw, 'br_netfilter', '-i', 'br0') == \
        ('note', 'br0: packets meet netfilter twice (sysctl net.bridge.bridge-nf-call-ip6tables=0)')


def test_flow_tables(net):
    _, gw, _ = net
    gw.nft('table inet f { chain c { type filter hook forward priority 0; }\n}')
    assert finding(gw, 'flow tables') == ('ok', 'none')
    done = gw.run('nft', 'table inet f { flowtable fast { hook ingress priority 0; devices = { eth0, eth1 }; }\n}', check=False)
    if done.returncode:
        pytest.skip(f'NO flow tables in this kernel: see make test-kernels: {done.stderr}')
    assert finding(gw, 'flow tables') == ('ok', 'fast of table f, for translated flows as for others')


POLICY = ['policy', 'add', 'src', '10.9.0.0/16', 'dst', '192.0.2.0/24', 'dir', 'DIR', 'tmpl', 'src', '192.0.2.1', 'dst', '192.0.2.2',
          'proto', 'esp', 'mode', 'tunnel']


@pytest.mark.parametrize('way', ['out', 'fwd', 'in', 'default'])
def test_ipsec(net, way):
    """Policies for what leaves or passes; not those for what is for this machine."""
    _, gw, _ = net
    argv = ['policy', 'setdefault', 'out', 'block'] if way == 'default' else [way if w == 'DIR' else w for w in POLICY]
    assert finding(gw, 'IPsec') == ('ok', 'no policies')
    done = gw.run('ip', 'xfrm', *argv, check=False)
    if done.returncode:
        pytest.skip(f'NO {way} policies in this kernel: see make test-kernels: {done.stderr}')
    there = ('note', 'there are policies: packets go by the IPv6 stack, and --fast is out of use')
    assert finding(gw, 'IPsec') == (('ok', 'no policies') if way == 'in' else there)
    if way != 'in':
        assert finding(gw, 'IPsec', rc=1, via=under('/sys/kernel/btf')) == \
            ('fails', 'there are policies, which cannot be seen here: packets might leave in the clear (--device)')


# --- the interface ---

def test_vlans(net):
    _, gw, _ = net
    assert 'VLANs' not in findings(gw, *SETUP)
    for number in 5, 6:
        if gw.run('ip', 'link', 'add', 'link', 'eth0', 'name', f'eth0.{number}', 'type', 'vlan', 'id', number, check=False).returncode:
            pytest.skip('NO VLANs in this kernel: see make test-kernels')
    assert finding(gw, 'VLANs', *SETUP) == \
        ('note', 'eth0: tagged frames are not translated there (-i eth0.5 -i eth0.6, or --device)')
    assert 'VLANs' not in findings(gw, '-i', 'eth1')


def xdp_link(host, ifname):
    """An XDP program that passes everything, as long as the descriptors are open."""
    prog = bpf.prog_load(bpf.mov(0, 2), bpf.EXIT, kind=6)
    with host:
        ifindex = ctypes.CDLL(None).if_nametoindex(ifname.encode())
        return prog, bpf.bpf(28, bytearray(struct.pack('=IIIIIIQ', prog, ifindex, 37, 0, 0, 0, 0)))      # BPF_LINK_CREATE, BPF_XDP


def test_xdp(net):
    _, gw, _ = net
    assert len(findings(gw, *SETUP)['XDP']) == 1        # what the kernel can
    gw.load('--xdp=veth')
    assert len(findings(gw, *SETUP)['XDP']) == 1        # its own
    gw.unload()
    fds = xdp_link(gw, 'eth0')
    said = findings(gw, *SETUP)
    assert said['XDP'][1:] == [('note', 'eth0: a program sees packets before nat64 does, and what it takes never comes')]
    for fd in fds:
        os.close(fd)


def test_offloads(net):
    _, gw, _ = net
    assert finding(gw, 'offloads', *SETUP) == ('ok', 'eth0: none that harms')
    done = gw.run('ethtool', '-K', 'eth0', 'rx-udp-gro-forwarding', 'on', check=False)
    big = gw.run('ip', 'link', 'set', 'eth0', 'gro_max_size', 100000, check=False)
    said = findings(gw, *SETUP).get('offloads')
    want = []
    if not done.returncode:             # Linux 5.13
        want += [('note', 'eth0: merged UDP packets keep their size, also above --lowest-ipv6-mtu (ethtool -K eth0 '
                          'rx-udp-gro-forwarding off)')]
    if not big.returncode:              # Linux 5.19
        want += [('note', 'eth0: packets merged to more than 64 kB, BIG TCP, are dropped (ip link set eth0 gro_max_size 65536 '
                          'gro_ipv4_max_size 65536)')]
    if not want:
        pytest.skip(f'NO such offloads in this kernel, or tools that do not know them: {done.stderr}{big.stderr}')
    assert said == want


# --- the set-up: what loading it would say ---

CONFLICTS = {
    'route': (['route', 'add', '10.0.1.0/25', 'via', '192.0.2.2'], '-4 10.0.1.0/24: there is already a route to 10.0.1.0/25 on eth1'),
    'address': (['addr', 'add', '10.0.1.7/24', 'dev', 'eth1'], '-4 10.0.1.0/24: contains the address 10.0.1.7 of eth1'),
    'v6 route': (['-6', 'route', 'add', '64:ff9b::/96', 'dev', 'eth1'], '-6 64:ff9b::/96: there is already a route to 64:ff9b::/96 '
                                                                        'on eth1'),
    'down': (['link', 'set', 'eth0', 'down'], 'eth0: interface is down (ip link set eth0 up)'),
}


@pytest.mark.parametrize('via', [[], NOBODY], ids=['root', 'nobody'])
@pytest.mark.parametrize('name', CONFLICTS)
def test_conflicts(net, name, via):
    _, gw, _ = net
    command, says = CONFLICTS[name]
    gw.ip(*command)
    assert findings(gw, *SETUP, rc=1, via=via, watch=not via)['set-up'] == [('fails', says)]
    if not via:
        assert gw.nat64(*SETUP, rc=1).stderr == f'nat64: {says}\n'          # as loading says it


def test_many_interfaces(net):
    """However much there is to be said of each, what is in the way is said."""
    _, gw, _ = net
    many = [f'{side}{n}' for side in 'vw' for n in range(32)]
    with gw:
        subprocess.run(['ip', '-batch', '-'], text=True, check=True, input=''.join(
            f'link add v{n} type veth peer name w{n}\nlink set v{n} up\nlink set w{n} up\n' for n in range(32)))
    gw.route('10.0.1.0/25', 'via', '192.0.2.2')
    said = findings(gw, *(word for name in many for word in ('-i', name)), '-4', '10.0.1.0/24', '-a', 'fc00::/8', rc=1)
    assert [text.split(':')[0] for _, text in said['offloads']] == many
    assert said['set-up'][-1] == ('fails', '-4 10.0.1.0/24: there is already a route to 10.0.1.0/25 on eth1')


def test_somebody_elses_filters(net, old_kernel):
    _, gw, _ = net
    gw.run('tc', 'qdisc', 'add', 'dev', 'eth0', 'ingress')
    state, text = finding(gw, 'set-up', *SETUP, rc=1)
    assert state == 'fails' and 'ingress qdisc' in text


def test_warnings(net):
    _, gw, _ = net
    said = findings(gw, '-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fd00::/8', '-6', '64:ff9b::/64')
    assert [state for state, _ in said['set-up']] == ['note', 'note', 'ok']
    texts = ' '.join(text for _, text in said['set-up'])
    assert '-6 64:ff9b::/64: the well-known prefix' in texts and re.search('-a fd00::/8: holds none', texts)
