# SPDX-License-Identifier: GPL-2.0-or-later
"""What is published: the archive of the sources, and the packages that are built from it."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile

import pytest

from bpf import Translator
from lab import PYTHON, embed, patience

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')


def run(*argv, check=True, **kw):
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **kw)
    assert not check or done.returncode == 0, f'{argv}: exit {done.returncode}\n{done.stdout}{done.stderr}'
    return done


def dist(tree):
    """make dist there: (checksum, path)."""
    checksum, path = run('make', '-s', '-C', tree, 'dist').stdout.split()[-2:]
    return checksum, os.path.join(tree, path)


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    """(checksum of the archive, its contents unpacked)."""
    checksum, path = dist(ROOT)
    tmp = tmp_path_factory.mktemp('dist')
    run('tar', '-x', '-C', tmp, '-f', path)
    (tree,) = tmp.iterdir()
    return checksum, tree


def test_archive_is_the_sources(sources):
    """All that git knows, as it is here, and Debian's changelog; who made it cannot be seen."""
    _, path = dist(ROOT)
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    names = [m.name.split('/', 1)[1] for m in members]
    assert len({m.mtime for m in members}) == 1 and {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, '', '')}
    assert {oct(m.mode) for m in members} == {'0o644', '0o755'}
    assert {'Makefile', '.clang-format', 'tests/deps', 'LICENSES/GPL-2.0-only.txt'} <= set(names)
    for name in names:
        with open(os.path.join(ROOT, name), 'rb') as here, open(sources[1] / name, 'rb') as there:
            assert here.read() == there.read(), name
    if os.path.exists(f'{ROOT}/.git'):
        known = run('git', '-c', 'safe.directory=*', '-C', ROOT, 'ls-files', '-z').stdout.split('\0')[:-1]
        assert sorted([*known, 'debian/changelog']) == sorted(names)


def test_archive_is_reproducible(sources):
    """From a checkout and from what was unpacked, wherever and whenever: the same bytes."""
    checksum, tree = sources
    assert dist(ROOT)[0] == checksum
    os.utime(tree / 'README.org')
    os.makedirs(tree / 'tests/__pycache__', exist_ok=True)
    (tree / 'tests/__pycache__/lab.pyc').touch()
    assert dist(tree)[0] == checksum


# Debian

def needs(*sets):
    """Loudly, what these sets of tests/deps lack."""
    if os.path.isdir('/run/vmrun'):
        pytest.skip('NO packages are built in a virtual machine')
    missing = run(f'{ROOT}/tests/deps', '--check', *sets, check=False)
    if missing.returncode:
        pytest.skip(f'NO package was built or tested: {missing.stderr}')


@pytest.fixture(scope='module')
def deb(tmp_path_factory):
    """The package, of make deb."""
    needs('build', 'package')
    path = run('make', '-s', '-C', ROOT, 'deb').stdout.split()[-1]
    return shutil.copy(os.path.join(ROOT, path), tmp_path_factory.mktemp('deb'))


@pytest.fixture(scope='module')
def later(deb, tmp_path_factory):
    """The same of a later version."""
    tmp = tmp_path_factory.mktemp('later')
    run('dpkg-deb', '-R', deb, tmp / 'tree')
    control = tmp / 'tree/DEBIAN/control'
    control.write_text(re.sub('^Version: .*', r'\g<0>+later', control.read_text(), flags=re.M))
    run('dpkg-deb', '--root-owner-group', '-b', tmp / 'tree', tmp / 'later.deb')
    return tmp / 'later.deb'


@pytest.mark.skipif('NAT64_TEST_ALL' not in os.environ, reason='NAT64_TEST_ALL=1 builds the packages twice')
def test_deb_is_reproducible(deb, sources):
    """Of another directory."""
    again = run('make', '-s', '-C', sources[1], 'deb').stdout.split()[-1]
    with open(deb, 'rb') as one, open(sources[1] / again, 'rb') as other:
        assert one.read() == other.read()


FILES = """
/etc/nat64/sample.conf /etc/network/if-up.d/nat64 /usr/lib/NetworkManager/dispatcher.d/90-nat64
/usr/lib/networkd-dispatcher/degraded.d/nat64 /usr/lib/networkd-dispatcher/routable.d/nat64
LIB/systemd/system/nat64@.service LIB/systemd/system/nat64-config@.service LIB/systemd/system/nat64-monitor.service
LIB/udev/rules.d/99-nat64.rules /usr/sbin/nat64 /usr/share/man/man8/nat64.8
/usr/share/bash-completion/completions/nat64 /usr/share/fish/vendor_completions.d/nat64.fish
/usr/share/zsh/site-functions/_nat64 /usr/share/lintian/overrides/nat64
/usr/share/doc/nat64/README.org /usr/share/doc/nat64/changelog /usr/share/doc/nat64/changelog.Debian
/usr/share/doc/nat64/copyright /usr/share/doc/nat64/bench.svg /usr/share/doc/nat64/examples/grafana.json
/usr/share/doc/nat64/examples/nat64.rules.yml
"""


def test_deb_has(deb):
    """Which files, which of them are configuration, and that they name each other by where they are."""
    names = [line.split()[5][1:] for line in run('dpkg-deb', '-c', deb).stdout.splitlines()]
    lib = '/usr/lib' if any(name.startswith('/usr/lib/systemd/system/nat64') for name in names) else '/lib'
    assert {n.removesuffix('.gz') for n in names if not n.endswith('/')} == set(FILES.replace('LIB', lib).split()) | {
        f'/usr/share/doc/nat64/{name}' for name in os.listdir(f'{ROOT}/docs') if name.endswith('.org')}
    assert set(run('dpkg-deb', '-I', deb, 'conffiles').stdout.split()) == {f for f in FILES.split() if f.startswith('/etc/')}
    with tarfile.open(fileobj=subprocess.Popen(['dpkg-deb', '--fsys-tarfile', deb], stdout=subprocess.PIPE).stdout,
                      mode='r|') as data:
        for member in data:
            if member.isfile() and not member.name.startswith('./usr/share/doc/'):
                text = data.extractfile(member).read()
                assert b'/usr/local' not in text and b'build/deb' not in text and ROOT.encode() not in text, member.name


def test_lintian(deb):
    done = run('lintian', '--no-cfg', '--allow-root', '--fail-on', 'error,warning', deb, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search('^[EW]:', done.stdout, re.M), done.stdout


class Machine:
    """This one's file system under an overlay: what is installed or removed there is so nowhere else. /run/systemd says that
    systemd runs, and SYSTEMCTL is what it does."""

    SETUP = '''
        set -e
        mount -t tmpfs tmpfs "$0"; mkdir "$0/upper" "$0/work" "$0/root"
        mount -t overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" overlay "$0/root"
        for dir in proc dev tmp; do mount --rbind "/$dir" "$0/root/$dir"; done
        mount -t tmpfs tmpfs "$0/root/run"; mkdir -p "$0/root/run/systemd/system"
        echo ready; exec cat'''
    INSIDE = 'mount -t sysfs sysfs /sys; exec "$@"'         # of this network namespace

    SYSTEMCTL = '''#!/usr/bin/python3
import fnmatch, os, re, shlex, subprocess, sys
here = os.path.dirname(os.path.abspath(__file__))
what, *names = [a for a in sys.argv[1:] if not a.startswith('-')]
with open(here + '/log', 'a') as f:
    print(what, *names, file=f)
with open(here + '/active') as f:
    active = f.read().split()
if what == 'is-active':
    sys.exit(3 * (names[0] not in active))
if what == 'is-enabled':
    sys.exit(print('disabled') or 1)
for unit in active:
    if any(fnmatch.fnmatch(unit, name) for name in names) and what != 'daemon-reload':
        for lib in '/lib', '/usr/lib':
            template = lib + '/systemd/system/' + re.sub('@.*[.]', '@.', unit)
            if os.path.exists(template):
                break
        with open(template) as f:
            text = f.read().replace('\\\\\\n', '').replace('$$', '$')
        verb = {'stop': 'Stop', 'try-reload-or-restart': 'Reload', 'restart': 'Start'}[what]
        for line in re.findall('^Exec' + verb + '=-?(.*)', text, re.M):
            instance = unit.split('@')[1].rsplit('.', 1)[0]
            subprocess.run(shlex.split(re.sub('%[iI]', instance, line)), check=True)
'''

    def __init__(self, tmp):
        self.tmp = tmp
        (tmp / 'systemctl').write_text(self.SYSTEMCTL)
        (tmp / 'systemctl').chmod(0o755)
        self.active()
        (tmp / 'disk').mkdir()
        self.process = subprocess.Popen(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', self.SETUP, tmp / 'disk'],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if (said := self.process.stdout.readline()) != 'ready\n':
            self.close()
            pytest.skip(f'NO overlay here, so that no package was installed: {said}')
        self.disk = f'/proc/{self.process.pid}/root{tmp}/disk'
        with contextlib.suppress(FileNotFoundError):        # a container's, which forbids to start and stop anything
            os.remove(self.path('/usr/sbin/policy-rc.d'))
        self.before = set()
        self.before = self.changed()
        self.environ = dict(os.environ, PATH=f'{tmp}:/usr/sbin:/usr/bin:/sbin:/bin', DEBIAN_FRONTEND='noninteractive', LC_ALL='C.UTF-8')

    def active(self, *units):
        """These have been started."""
        (self.tmp / 'active').write_text(' '.join(units))

    def log(self):
        """What systemctl was called with since the last time."""
        log = self.tmp / 'log'
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text('')
        return lines

    def path(self, name):
        return f'{self.disk}/root{name}'

    def run(self, *argv, host=None, **kw):
        """There, and in the network namespace of a host."""
        with host or contextlib.nullcontext():
            return run('nsenter', '-t', self.process.pid, '-m', '--', 'chroot', f'{self.tmp}/disk/root', 'unshare', '--mount', '--',
                       'sh', '-c', self.INSIDE, 'sh', *argv, env=self.environ, **kw)

    def changed(self):
        """Files and directories that are other than they were, but for what dpkg remembers."""
        upper = f'{self.disk}/upper'
        found = {os.path.join(top, name)[len(upper):] for top, dirs, files in os.walk(upper) for name in files + dirs}
        return {name for name in found if not (os.path.isdir(upper + name) and os.path.isdir(name))
                and not re.match('/var/(lib/dpkg|log|cache)/', name)} - self.before

    def close(self):
        self.process.stdin.close()
        self.process.wait(patience(20))
        self.process.stdout.close()


@pytest.fixture
def machine(tmp_path):
    m = Machine(tmp_path)
    yield m
    m.close()


def test_demo_of_the_installed(deb, machine):
    """What autopkgtest runs."""
    machine.run('dpkg', '-i', deb)
    names = re.findall('^Tests: (.*)', open(f'{ROOT}/debian/tests/control', encoding='utf-8').read(), re.M)
    assert names == ['demo']
    assert 'are what they were before' in machine.run(f'{os.path.abspath(ROOT)}/debian/tests/demo').stdout


ECHO = """
import socket
s = socket.create_server(('', 7))
c, _ = s.accept()
while data := c.recv(4096):
    c.sendall(data)
"""


def test_upgrade_remove_purge(deb, later, machine, net):
    """An upgrade under traffic loses no packet, no mapping and no connection, and what translates then is of the new version.
    Removal saves the mappings and unloads; after the purge, nothing is there that was not there before."""
    h6, gw, h4 = net
    clean = gw.snapshot()
    machine.run('dpkg', '-i', deb, host=gw)
    assert not [line for line in machine.log() if not re.match('daemon-reload|is-', line)], 'something was started'
    with open(machine.path('/etc/nat64/eth0.conf'), 'w', encoding='ascii') as f:
        f.write('v4-prefix 10.0.1.0/24\nallowed-src fc00::/8\n')
    wants = machine.path('/etc/systemd/system/sys-subsystem-net-devices-eth0.device.wants')
    os.makedirs(wants)
    os.symlink('/lib/systemd/system/nat64@.service', f'{wants}/nat64@eth0.service')
    os.makedirs(machine.path('/var/lib/nat64'))         # as systemd does before it starts the unit
    machine.run('nat64', '-i', 'eth0', '-c', '/etc/nat64/eth0.conf', host=gw)
    machine.active('nat64@eth0.service')
    mappings = lambda: [(m['v4'], m['v6']) for m in json.loads(machine.run(
        'nat64', '-i', 'eth0', '--mappings', '--json', host=gw).stdout)['mappings']]

    h4.start(PYTHON, '-c', ECHO)
    h4.listening(7)
    with h6:
        connection = socket.create_connection((embed('192.0.2.2'), 7))
    connection.settimeout(patience(20))

    def talk(data):
        connection.sendall(data)
        assert connection.recv(4096) == data
    talk(b'before')
    before = mappings()
    with Translator(gw, 'eth0') as t:
        programs = t.to4.id, t.to6.id
    pings = [h6.start('ping', '-i', '0.002', embed('192.0.2.2')), h4.start('ping', '-i', '0.002', before[0][0])]
    for p in pings:
        p.stdout.readline()
        assert 'bytes from' in p.stdout.readline()
    machine.run('dpkg', '-i', later, host=gw)
    for p in pings:
        os.killpg(p.pid, signal.SIGINT)
        out = p.communicate(timeout=patience(20))[0]
        assert ' 0% packet loss' in out, out[-300:]
    talk(b'after')
    connection.close()
    assert mappings() == before
    log = machine.log()
    assert 'try-reload-or-restart nat64@*.service nat64-config@*.service' in log
    assert not any(line.startswith(('stop', 'restart', 'start')) for line in log), log
    with Translator(gw, 'eth0') as t:
        assert not {t.to4.id, t.to6.id} & set(programs)

    machine.run('dpkg', '-r', 'nat64', host=gw)
    assert 'stop nat64@*.service nat64-config@*.service' in machine.log()
    assert gw.snapshot() == clean
    with open(machine.path('/var/lib/nat64/eth0.json'), encoding='ascii') as f:
        assert [(m['v4'], m['v6']) for m in json.load(f)['mappings']] == before
    assert os.path.exists(machine.path('/etc/nat64/eth0.conf'))
    done = machine.run('env', 'IFACE=eth0', '/etc/network/if-up.d/nat64', host=gw)
    assert done.stdout + done.stderr == '' and machine.log() == []

    machine.run('dpkg', '-P', 'nat64', host=gw)
    assert machine.changed() == set()
