# SPDX-License-Identifier: GPL-2.0-or-later
"""nat64@.service under systemd and udev, as make install leaves them: names with a dash, interfaces that come and go, and
the hooks by which it comes back when an interface was down. That takes a machine for systemd: tests/booted.py."""

import os
import shutil
import time

import pytest

from booted import booted, run, state, told, works, write
from lab import patience, wait_for
from test_devices import not_here

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
CONF = 'v4-prefix 10.0.{n}.0/24\nallowed-src fc00::/8\nicmp-src 192.0.0.{n}\n'


@pytest.fixture(scope='module')
def systemd():
    with booted():
        if not shutil.which('udevadm'):
            not_here('udev')
        run('make', '-C', ROOT, '-s', 'install', '-o', 'nat64')       # which is there; a compiler would take its time
        run('systemctl', 'daemon-reload')
        for sysctl in 'ipv4/ip_forward', 'ipv6/conf/all/forwarding', 'ipv6/conf/default/forwarding':
            write(f'/proc/sys/net/{sysctl}', '1')
        yield
        run('make', '-C', ROOT, '-s', 'uninstall')
        run('rm', '-rf', '/etc/nat64', '/var/lib/nat64')


def interface(name):
    """As a manager of networks would set it up."""
    run('ip', 'link', 'add', 'name', name, 'type', 'veth', 'peer', 'name', f'p{name}'[:15])
    run('ip', 'link', 'set', f'p{name}'[:15], 'up')
    run('ip', 'link', 'set', name, 'up')


def routes(n):
    return run('ip', 'route', 'show', f'10.0.{n}.0/24').stdout


# Interface, unit, and a hook with its arguments, by which it comes back
UNITS = {'plain': ('eth9', 'nat64@eth9', ['/etc/network/if-up.d/nat64']),
         'dash': ('br-lan', 'nat64@br-lan', ['/etc/NetworkManager/dispatcher.d/90-nat64', 'br-lan', 'up']),
         'escaped': ('br-wan', r'nat64@br\x2dwan', ['/etc/networkd-dispatcher/routable.d/nat64'])}


@pytest.fixture(params=UNITS, scope='module')
def unit(request, systemd):
    """(interface, its unit, a number of its own, hook), enabled and started as a person types it."""
    name, unit, hook = UNITS[request.param]
    n = list(UNITS).index(request.param) + 101
    write(f'/etc/nat64/{name}.conf', CONF.format(n=n))
    interface(name)
    done = run('systemctl', 'enable', '--now', unit, check=False)
    assert done.returncode == 0 and state(unit) == 'active', f'{done}\n{told()}'
    yield name, unit, n, hook
    assert run('systemctl', 'disable', '--now', unit, check=False).returncode == 0, told()
    assert state(unit) == 'inactive' and routes(n) == '', told()
    assert os.path.exists(f'/var/lib/nat64/{name}.json')
    run('ip', 'link', 'del', name)


def test_it_works(unit):
    name, _, n, _ = unit
    assert works(name) and f'dev {name}' in routes(n)


def test_reload(unit):
    """A changed file."""
    name, unit, n, _ = unit
    write(f'/etc/nat64/{name}.conf', CONF.format(n=n) + 'timeout 99\n')
    run('systemctl', 'reload', unit)
    assert 'time-out          99 s' in run('nat64', '-i', name, '--status').stdout


def test_interface_that_comes_back(unit):
    """It is deleted and made anew, as a USB device or a VLAN: the unit goes and comes with it."""
    name, unit, n, _ = unit
    run('ip', 'link', 'del', name)
    wait_for(lambda: state(unit) == 'inactive', f'{unit} to stop', 10)
    interface(name)
    wait_for(lambda: works(name) and state(unit) == 'active', f'{unit} to be back', 20)
    assert f'dev {name}' in routes(n)


def test_file_of_several_interfaces(systemd):
    """nat64-config@: two interfaces with one translator; one that comes later, and one that comes back, is taken in."""
    write('/etc/nat64/home.conf', 'device nat64\ninterface lan-a\ninterface lan.b\n' + CONF.format(n=99))
    interface('lan-a')
    unit = 'nat64-config@home'
    run('systemctl', 'enable', '--now', unit)
    assert works('lan-a') and 'dev nat64' in routes(99), told()
    ports = lambda: run('nat64', '--device', 'nat64', '--status', check=False).stdout
    for _ in range(2):
        interface('lan.b')
        run('/etc/NetworkManager/dispatcher.d/90-nat64', 'lan.b', 'up')
        wait_for(lambda: 'lan-a, lan.b' in ports() and works('lan.b'), told, 10)
        run('ip', 'link', 'del', 'lan.b')
        assert 'its port lan.b is gone' in ports()
    run('systemctl', 'reload', unit)
    assert works('lan-a')
    run('systemctl', 'disable', '--now', unit)
    assert routes(99) == '' and not os.path.exists('/sys/class/net/nat64') and os.path.exists('/var/lib/nat64/home.json'), told()
    run('systemctl', 'start', unit)
    assert works('lan-a')
    run('systemctl', 'stop', unit)
    run('ip', 'link', 'del', 'lan-a')


def test_stop_while_it_reloads(unit):
    """What has begun is let end, and then it is stopped as ever."""
    name, unit, n, _ = unit
    run('rm', '-f', f'/var/lib/nat64/{name}.json')
    run('systemctl', '--no-block', 'reload', unit)
    wait_for(lambda: state(unit) == 'reloading', told)
    run('systemctl', 'stop', unit)
    assert state(unit) == 'inactive' and routes(n) == '' and os.path.exists(f'/var/lib/nat64/{name}.json'), told()
    run('systemctl', 'start', unit)
    assert works(name)
    write(f'/etc/nat64/{name}.conf', 'no-such-option 1\n')
    run('sh', '-c', f"systemctl --no-block reload '{unit}'; systemctl stop '{unit}'")
    assert state(unit) in ('inactive', 'failed') and routes(n) == '', told()
    write(f'/etc/nat64/{name}.conf', CONF.format(n=n))
    run('systemctl', 'start', unit)
    assert works(name)


def test_interface_that_goes_while_it_reloads(unit):
    name, unit, _, _ = unit
    run('systemctl', '--no-block', 'reload', unit)
    wait_for(lambda: state(unit) == 'reloading', told)
    run('ip', 'link', 'del', name)
    wait_for(lambda: state(unit) in ('inactive', 'failed'), told, 10)
    interface(name)
    wait_for(lambda: works(name) and state(unit) == 'active', told, 20)


def test_start_that_fails_unloads_nothing(unit):
    """What somebody has loaded by hand."""
    name, unit, n, _ = unit
    run('systemctl', 'stop', unit)
    run('nat64', '-i', name, '-4', '10.9.9.0/24', '-a', 'fc00::/8')
    write(f'/etc/nat64/{name}.conf', 'no-such-option 1\n')
    assert run('systemctl', 'start', unit, check=False).returncode and state(unit) == 'failed'
    assert works(name) and '10.9.9.0/24' in run('ip', 'route', 'show', 'dev', name).stdout
    run('nat64', '-i', name, '-u')
    write(f'/etc/nat64/{name}.conf', CONF.format(n=n))
    run('systemctl', 'start', unit)
    assert works(name)


def call(hook, name, *argv):
    """A hook as NetworkManager calls it, with arguments, or as the others do, by $IFACE."""
    run(*(argv or hook), env=os.environ | ({} if argv or hook[1:] else {'IFACE': name}))


def test_interface_that_was_down(unit):
    """The hook brings the routes back."""
    name, unit, n, hook = unit
    run('ip', 'link', 'set', name, 'down')
    run('ip', 'link', 'set', name, 'up')
    assert routes(n) == '' and not works(name)
    call(hook, name)
    wait_for(lambda: works(name) and state(unit) == 'active', f'{unit} to be reloaded', 10)
    assert f'dev {name}' in routes(n)


def test_interface_that_was_down_while_it_started(unit):
    """The hook waits until it can be reloaded."""
    name, unit, n, hook = unit
    run('systemctl', 'stop', unit)
    slow = f'/run/systemd/system/{unit}.service.d/slow.conf'
    write(slow, '[Service]\nExecStartPost=/bin/sleep 2\n')
    run('systemctl', 'daemon-reload')
    run('systemctl', '--no-block', 'start', unit)
    wait_for(lambda: run('systemctl', 'show', '-P', 'SubState', unit).stdout == 'start-post\n', told)
    run('ip', 'link', 'set', name, 'down')
    run('ip', 'link', 'set', name, 'up')
    call(hook, name)
    wait_for(lambda: works(name) and state(unit) == 'active', told, 10)
    os.remove(slow)
    run('systemctl', 'daemon-reload')


def test_hook_is_for_active_units_alone(unit):
    """Not for one that was stopped, nor when an interface goes."""
    name, unit, n, hook = unit
    run('ip', 'route', 'del', f'10.0.{n}.0/24')
    call(hook, name, '/etc/NetworkManager/dispatcher.d/90-nat64', name, 'down')
    assert routes(n) == ''
    run('systemctl', 'stop', unit)
    call(hook, name)
    time.sleep(patience(0.3))
    assert state(unit) == 'inactive' and routes(n) == ''
    run('systemctl', 'start', unit)
    assert works(name)
