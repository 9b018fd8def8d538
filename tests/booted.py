# SPDX-License-Identifier: GPL-2.0-or-later
"""A systemd with the interfaces of a machine, which is a virtual one: elsewhere it would do to the machine what systemd does to one
that boots, such as empty /tmp.

It is process 1 (tests/vmrun --init), or that of a PID namespace, with the same interfaces, files and devices."""

import contextlib
import glob
import os
import subprocess

import pytest

from lab import wait_for

TARGET = '[Unit]\nWants=systemd-udevd.service\nAfter=systemd-udevd.service\nAllowIsolate=yes\n'
INSIDE = []         # what brings a command to where systemd is


def run(*argv, check=True, given=None, **kw):
    kw |= {'stdin': subprocess.DEVNULL} if given is None else {'input': given}
    done = subprocess.run([*INSIDE, *map(str, argv)], capture_output=True, text=True, check=False, **kw)
    assert not check or done.returncode == 0, f'{argv}: {done}'
    return done


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)


def state(unit):
    return run('systemctl', 'is-active', unit, check=False).stdout.strip()


def works(name):
    return run('nat64', '-i', name, '--status', check=False).returncode == 0


def told(name=None):
    """What happened, for who reads that a test has failed."""
    ask = ['dmesg'], ['journalctl', '-n', '60', '--no-pager', '-o', 'short-monotonic'], ['ip', 'addr'], ['ip', 'route']
    ask += (['nat64', '-i', name, '--status'], ['systemctl', '--no-pager', 'status', f'nat64@{name}']) if name else ()
    return '\n'.join('\n'.join((done.stdout + done.stderr).splitlines()[-60:]) for argv in ask for done in [run(*argv, check=False)])


def is_first():
    with open('/proc/1/comm', encoding='ascii') as f:
        return f.read() == 'systemd\n'


def has_started():
    return run('systemctl', 'is-system-running', check=False).stdout.strip() in ('running', 'degraded')


@contextlib.contextmanager
def one_processor():
    """While systemd starts, the kernel patches itself in many places, which an emulated machine of several CPUs may not survive."""
    others = glob.glob('/sys/devices/system/cpu/cpu[1-9]*/online')
    for value in '0', '1':
        for cpu in others:
            write(cpu, value)
        if value == '0':
            yield


@contextlib.contextmanager
def booted():
    if not os.path.isdir('/run/vmrun'):
        pytest.skip('NO machine of its own for systemd: see make test-boot')
    if is_first():
        wait_for(has_started, told, 60)
        yield
        return
    write('/etc/systemd/system/test.target', TARGET)
    write('/etc/systemd/system.conf.d/test.conf', '[Manager]\nDefaultDeviceTimeoutSec=20s\n')
    with one_processor():
        process = subprocess.Popen(['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', '--mount', '--',
                                    '/usr/lib/systemd/systemd', '--system', '--unit=test.target', '--log-target=kmsg'],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        first = wait_for(lambda: run('pgrep', '-P', str(process.pid), check=False).stdout.strip(), 'process 1')
        INSIDE[:] = ['nsenter', '-t', first, '-p', '-m']
        wait_for(has_started, 'systemd', 30)
        yield
        INSIDE.clear()
        process.kill()
        process.wait()
