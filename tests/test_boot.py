# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/boot.org: systemd-networkd, NetworkManager and ifupdown bring the interface up, down and up again, and the translator is there
each time.

The real ones, from the image (tests/image): under a real systemd, with the interfaces of the machine, and so in a virtual machine only;
and in a namespace without systemd."""

import glob
import os
import subprocess

import pytest

import recipes
from lab import NAT64, wait_for
from recipes import IMAGE, PRELUDE, ROOT, Image, blocks

DOC = 'docs/boot.org'
TARGET = '[Unit]\nWants=systemd-udevd.service dbus.service\nAfter=systemd-udevd.service dbus.service\nAllowIsolate=yes\n'
INSIDE = []         # what brings a command to where systemd is


def run(*argv, check=True, given=None):
    done = subprocess.run([*INSIDE, *argv], input=given, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f'{argv}: {done}'
    return done


def type_in(lines):
    """The prelude's apt, but not its systemctl: there is a real one."""
    return run('bash', '-e', '-c', PRELUDE.split('systemctl()')[0].replace('nat64()', 'unused()') + lines)


def write(path, content):
    run('sh', '-c', 'mkdir -p "${0%/*}" && cat >"$0"', path, given=content)


def cpus():
    """Those that can be switched off."""
    return glob.glob('/sys/devices/system/cpu/cpu[1-9]*/online')


def switch(value):
    for cpu in cpus():
        with open(cpu, 'w', encoding='ascii') as f:
            f.write(value)


@pytest.fixture(scope='module')
def systemd():
    if not os.path.isdir('/run/vmrun'):
        pytest.skip('NO machine of its own for systemd: see make test-kernels')
    for sysctl in 'ipv4/ip_forward', 'ipv6/conf/all/forwarding', 'ipv6/conf/default/forwarding':
        with open(f'/proc/sys/net/{sysctl}', 'w', encoding='ascii') as f:
            f.write('1')
    switch('0')         # see test_unit.py
    prepare = f'''
        make -C {ROOT} -s install -o nat64
        mkdir -p /etc/systemd/system.conf.d
        printf '{TARGET}' >/etc/systemd/system/test.target
        printf '[Manager]\\nDefaultDeviceTimeoutSec=20s\\n' >/etc/systemd/system.conf.d/test.conf
        for u in NetworkManager networkd-dispatcher systemd-networkd systemd-networkd.socket networking NetworkManager-wait-online systemd-networkd-wait-online; do
            rm -f /etc/systemd/system/*.wants/$u*
        done
        echo ready
        exec /usr/lib/systemd/systemd --system --unit=test.target --log-target=kmsg >/dev/null 2>&1'''
    process = subprocess.Popen([IMAGE, '--', 'sh', '-e', '-c', prepare],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    first = wait_for(lambda: run('pgrep', '-P', str(process.pid), check=False).stdout.strip(), 'process 1')
    INSIDE[:] = ['nsenter', '-t', first, '-p', '-m', '--']
    wait_for(lambda: run('systemctl', 'is-system-running', check=False).stdout.strip() in ('running', 'degraded'),
             'systemd', 15)
    yield
    INSIDE.clear()
    process.kill()
    process.wait()
    switch('1')


def works():
    return run('nat64', '-i', 'lan0', '--status', check=False).returncode == 0


def status():
    return '\n'.join(run(*argv, check=False).stdout for argv in (
        ('nat64', '-i', 'lan0', '--status'), ('systemctl', '--no-pager', 'status', 'nat64@lan0'), ('journalctl', '-n', '40', '--no-pager'), ('ip', 'addr'), ('ip', 'route')))


# Section, how the interface goes down and up, and what takes the manager away again
MANAGERS = {
    'systemd-networkd': ('networkctl down lan0', 'networkctl up lan0', 'networkctl reconfigure lan0',
                         'systemctl disable --now networkd-dispatcher systemd-networkd.socket systemd-networkd; rm /etc/systemd/network/lan0.network'),
    'NetworkManager': ('nmcli connection down lan', 'nmcli connection up lan', 'nmcli device reapply lan0',
                       'nmcli connection delete lan; systemctl disable --now NetworkManager'),
    'ifupdown': ('ifdown lan0', 'ifup lan0', 'ifdown lan0; ifup lan0', 'ifdown lan0; rm /etc/network/interfaces.d/lan0')}


@pytest.mark.parametrize('manager', MANAGERS)
def test_interface_goes_and_comes(systemd, manager):
    down, up, again, away = MANAGERS[manager]
    run('ip', 'link', 'add', 'name', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1')
    run('ip', 'link', 'set', 'lan1', 'up')
    type_in(blocks(DOC, manager)[0])
    wait_for(lambda: '2001:db8:1::1/64' in run('ip', '-6', 'addr', 'show', 'dev', 'lan0').stdout, manager, 10)
    for block in blocks(DOC, 'The translator'):
        type_in(block)
    assert works(), status()
    for _ in range(2):
        run('bash', '-c', down)
        wait_for(lambda: not works(), f'{manager} to set it down', 5)
        run('bash', '-c', up)
        wait_for(works, status, 5)
    run('bash', '-c', again)
    wait_for(works, status, 5)
    assert run('ip', 'route', 'show', '10.64.0.0/16').stdout
    run('systemctl', 'disable', '--now', 'nat64@lan0')
    run('bash', '-c', away)
    run('ip', 'link', 'del', 'lan0')


# Without systemd: the same managers and their hooks, in a namespace. The shim of systemctl starts their programs.

@pytest.fixture
def router(lab):
    """lan0 as it is before anybody has configured it, nat64 installed, and a bus."""
    gw, other = lab.hosts('gw', 'other')
    lab.link(gw, 'lan0', other, 'eth0')
    Image(gw)
    gw.image.run('make', '-C', ROOT, '-s', 'install', '-o', 'nat64')
    gw.image.run('sh', '-e', '-c', 'mkdir -p /run/dbus; dbus-daemon --system --fork; mount -t sysfs -o ro sysfs /sys')
    for block in blocks(DOC, 'The translator')[:2]:
        recipes.type_in(gw, block)
    gw.ip('link', 'set', 'lan0', 'down')
    yield gw
    gw.nat64('-i', 'lan0', '-u')


def status_of(gw):
    return gw.run(NAT64, '-i', 'lan0', '--status', check=False)


@pytest.mark.parametrize('manager', MANAGERS)
def test_without_systemd(router, manager):
    """The hook alone: it loads the translator the first time, and brings it back each time."""
    down, up, *_ = MANAGERS[manager]
    recipes.type_in(router, blocks(DOC, manager)[0])
    working = lambda: status_of(router).returncode == 0
    told = lambda: f'{status_of(router)} {router.ip("addr")}'
    wait_for(working, told)
    for _ in range(2):
        router.image.run('sh', '-c', down)
        if manager != 'NetworkManager':         # which takes the addresses away, and leaves the link up
            wait_for(lambda: not working(), told)
        router.image.run('sh', '-c', up)
        wait_for(working, told)
        assert '2001:db8:1::1/64' in router.ip('addr', 'show', 'dev', 'lan0')


def test_bad_file(router):
    """What is wrong is named by file and line."""
    right = router.image.read('/etc/nat64/lan0.conf')
    router.image.write('/etc/nat64/lan0.conf', right + 'time-out 5\n')
    typed = recipes.type_in(router, blocks(DOC, 'ifupdown')[0], check=False)
    assert 'nat64: /etc/nat64/lan0.conf:3: ' in typed.stderr and 'nothing loaded' in status_of(router).stderr
    router.image.write('/etc/nat64/lan0.conf', right)
    router.image.run('ifdown', '--force', 'lan0')
    router.image.run('ifup', 'lan0')
    assert status_of(router).returncode == 0
