# SPDX-License-Identifier: GPL-2.0-or-later
"""What is published: the archive of the sources, and the packages that are built from it."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile

import pytest

from bpf import Translator
from lab import NAT64, PYTHON, embed, nothing_lost, patience

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


def built(name, target, *sets):
    """A file in build/ that takes its time: made here only if all is tested, else as it was made of these sources."""
    path = os.path.abspath(f'{ROOT}/build/{name}')
    if os.environ.get('NAT64_TEST_ALL'):
        needs('build', *sets)
        run('make', '-s', '-C', ROOT, *target.split())
    elif not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(NAT64):
        pytest.skip(f'NO {name} of these sources was tested: make {target}, or NAT64_TEST_ALL=1')
    return path


VERSION = run(NAT64, '-V').stdout.split()[1]


@pytest.fixture(scope='module')
def deb(tmp_path_factory):
    """The package, of make deb."""
    needs('build', 'package')
    missing = run('dpkg-checkbuilddeps', f'{ROOT}/debian/control', check=False)
    if missing.returncode:          # it is here, but not as a package
        pytest.skip(f'NO package was built or tested: {missing.stderr}')
    path = run('make', '-s', '-C', ROOT, 'deb').stdout.split()[-1]
    return shutil.copy(os.path.join(ROOT, path), tmp_path_factory.mktemp('deb'))


def deb_later(deb, tmp):
    """The same of a later version."""
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
LIB/systemd/system/nat64@.service LIB/systemd/system/nat64-config@.service LIB/systemd/system/nat64-monitor.service LIB/systemd/system/nat64-mirror@.service
LIB/udev/rules.d/99-nat64.rules /usr/sbin/nat64 /usr/share/man/man8/nat64.8
/usr/share/bash-completion/completions/nat64 /usr/share/fish/vendor_completions.d/nat64.fish
/usr/share/zsh/site-functions/_nat64 /usr/share/lintian/overrides/nat64
/usr/share/doc/nat64/README.org /usr/share/doc/nat64/changelog /usr/share/doc/nat64/changelog.Debian
/usr/share/doc/nat64/copyright /usr/share/doc/nat64/bench.svg /usr/share/doc/nat64/dashboard.svg
/usr/share/doc/nat64/examples/grafana.json
/usr/share/doc/nat64/examples/nat64.rules.yml
/usr/share/doc/nat64/examples/gateways/bird-1.conf /usr/share/doc/nat64/examples/gateways/bird-2.conf
/usr/share/doc/nat64/examples/gateways/bird-router4.conf /usr/share/doc/nat64/examples/gateways/bird-router6.conf
/usr/share/doc/nat64/examples/gateways/gw2.mirror /usr/share/doc/nat64/examples/gateways/keepalived-1.conf
/usr/share/doc/nat64/examples/gateways/keepalived-2.conf /usr/share/doc/nat64/examples/gateways/nat64-1.conf
/usr/share/doc/nat64/examples/gateways/nat64-2.conf
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
    print(what, *names, *(a for a in sys.argv if a == '--no-block'), file=f)
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
        verb = {'stop': 'StopPost', 'try-reload-or-restart': 'Reload', 'restart': 'Start'}[what]
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
                and not re.match('(/var/(lib/(dpkg|rpm)|log|cache)|/root/.rpmdb|/usr/share/licenses)(/|$)', name)} - self.before

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


RPM = ['rpm', '--force-debian', '--nodeps', '--define', '_install_script_path PATH']
LIVES = {       # of a package: a later one, and the commands of its life
    'deb': (lambda *a: deb_later(*a), ['dpkg', '-i'], ['dpkg', '-i'], ['dpkg', '-r', 'nat64'], ['dpkg', '-P', 'nat64']),
    'rpm': (lambda *a: rpm_later(*a), [*RPM, '-i'], [*RPM, '-U'], [*RPM, '-e', 'nat64'], None),
}
WANTS = '/etc/systemd/system/sys-subsystem-net-devices-eth0.device.wants'
TARGET = '/etc/systemd/system/multi-user.target.wants'
ENABLED = f'{WANTS}/nat64@eth0.service', f'{TARGET}/nat64-config@lan.service', f'{TARGET}/nat64-mirror@gw2.service'
UNITS = 'nat64@*.service nat64-config@*.service'


@pytest.mark.parametrize('kind', LIVES)
def test_upgrade_remove_purge(request, tmp_path, kind, machine, net):
    """An upgrade under traffic loses no packet, no mapping and no connection, and what translates then is of the new version.
    Removal saves the mappings and unloads. After the purge, nothing is there that was not there before; rpm has none, and what
    people and units have made stays."""
    h6, gw, h4 = net
    package = request.getfixturevalue(kind)
    make_later, *commands = LIVES[kind]
    install, upgrade, remove, purge = ([word.replace('PATH', machine.environ['PATH']) for word in c or []] for c in commands)
    (tmp_path / 'later').mkdir()
    later = make_later(package, tmp_path / 'later')
    clean = gw.snapshot()
    machine.run(*install, package, host=gw)
    assert not [line for line in machine.log() if not re.match('daemon-reload|is-', line)], 'something was started'
    with open(machine.path('/etc/nat64/eth0.conf'), 'w', encoding='ascii') as f:
        f.write('v4-prefix 10.0.1.0/24\nallowed-src fc00::/8\n')
    os.makedirs(machine.path(WANTS))
    os.makedirs(machine.path(TARGET), exist_ok=True)
    for link in ENABLED:
        os.symlink('/lib/systemd/system/' + re.sub('.*/(.*@).*', r'\1.service', link), machine.path(link))
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
    traffic = [h6.start('ping', '-i', '0.002', embed('192.0.2.2')), h4.start('ping', '-i', '0.002', before[0][0])]
    with nothing_lost(*traffic):
        machine.run(*upgrade, later, host=gw)
    talk(b'after')
    connection.close()
    assert mappings() == before
    log = machine.log()
    assert f'try-reload-or-restart {UNITS}' in log and any('--no-block' in line for line in log if 'nat64-mirror@' in line)
    assert not any(line.startswith(('stop', 'restart', 'start')) for line in log), log
    with Translator(gw, 'eth0') as t:
        assert not {t.to4.id, t.to6.id} & set(programs)

    machine.run(*remove, host=gw)
    assert any(line.startswith(f'stop {UNITS}') for line in machine.log())
    assert gw.snapshot() == clean
    with open(machine.path('/var/lib/nat64/eth0.json'), encoding='ascii') as f:
        assert [(m['v4'], m['v6']) for m in json.load(f)['mappings']] == before
    assert os.path.exists(machine.path('/etc/nat64/eth0.conf'))
    if purge:
        done = machine.run('env', 'IFACE=eth0', '/etc/network/if-up.d/nat64', host=gw)
        assert done.stdout + done.stderr == '' and machine.log() == []
        machine.run(*purge, host=gw)
    mine = set() if purge else {'/etc/nat64', '/etc/nat64/eth0.conf', '/var/lib/nat64', '/var/lib/nat64/eth0.json', WANTS,
                                *ENABLED}
    changed = machine.changed()
    if not purge:       # an empty directory that is dpkg's, too, of which rpm knows nothing
        changed -= {name for name in changed if os.path.isdir(name) and not os.listdir(name)}
    assert changed == mine


# Fedora

@pytest.fixture(scope='module')
def rpm():
    return built(f'nat64-{VERSION}-1.{os.uname().machine}.rpm', 'rpm', 'rpm')


def rpm_later(rpm, tmp):
    """The same as another release: what is in it is packed again with the scripts of the spec file."""
    (tmp / 'tree').mkdir()
    cpio = run('sh', '-c', 'rpm2cpio "$0" | cpio -idm --quiet -D "$1"', rpm, tmp / 'tree')
    assert cpio.stderr == ''
    with open(f'{ROOT}/build/recipes/nat64.spec', encoding='utf-8') as f:
        spec = f.read()
    spec = re.sub(r'^%prep.*?(?=^%preun)', f'%install\ncp -a {tmp}/tree/. %{{buildroot}}\n\n', spec, flags=re.M | re.S)
    spec = re.sub(r'^%(license|doc) .*', r'%{_datadir}/\1*/*', spec, flags=re.M).replace('/license*/', '/licenses/')
    spec = re.sub(r'^Release: .*', 'Release: 2', spec, flags=re.M)
    (tmp / 'nat64.spec').write_text(spec)
    run('rpmbuild', '-bb', '--quiet', '--nodeps', '--define', f'_topdir {tmp}', '--define', '__os_install_post %{nil}',
        '--define', 'debug_package %{nil}', '--define', '_build_id_links none', tmp / 'nat64.spec')
    (later,) = tmp.glob('RPMS/*/*.rpm')
    return later


def test_rpm_has(rpm):
    """The files of the other package but ifupdown's hook, and which of them are configuration."""
    names = {n.removesuffix('.gz') for n in run('rpm', '-qlp', rpm).stdout.split()}
    others = {n for n in FILES.replace('LIB', '/usr/lib').split() if not re.match('/usr/share/(doc|lintian)|/etc/network', n)}
    parents = {n for n in names if any(other.startswith(f'{n}/') for other in others)}
    assert others <= names and all(n.startswith(('/usr/share/doc/', '/usr/share/licenses/')) for n in names - others - parents)
    assert run('rpm', '-qcp', rpm).stdout.split() == ['/etc/nat64/sample.conf']
    assert any(n.startswith('/usr/share/licenses/') for n in names)
    assert {'README.org', 'CHANGELOG.md', 'grafana.json', 'nat64.rules.yml', *os.listdir(f'{ROOT}/docs')} <= \
        {os.path.basename(n) for n in names}


def test_rpmlint(rpm, recipes):
    done = run('rpmlint', '-r', f'{ROOT}/dist/packages/nat64.rpmlintrc', rpm, f'{recipes}/nat64.spec', check=False)
    assert done.returncode == 0 and not re.search(': [EW]: ', done.stdout), done.stdout + done.stderr


@pytest.mark.skipif('NAT64_TEST_ALL' not in os.environ, reason='NAT64_TEST_ALL=1 builds the packages twice')
def test_rpm_is_reproducible(rpm, sources):
    run('make', '-s', '-C', sources[1], 'rpm')
    with open(rpm, 'rb') as one, open(f'{sources[1]}/build/{os.path.basename(rpm)}', 'rb') as other:
        assert one.read() == other.read()


# What nobody has built here: recipes of other distributions, as far as they can be looked at

RECIPES = f'{ROOT}/dist/packages'
BASE = {'etc/nat64/sample.conf', 'usr/share/man/man8/nat64.8', 'usr/share/bash-completion/completions/nat64',
        'usr/share/fish/vendor_completions.d/nat64.fish', 'usr/share/zsh/site-functions/_nat64'}
SYSTEMD = {'usr/lib/systemd/system/nat64@.service', 'usr/lib/systemd/system/nat64-config@.service',
           'usr/lib/systemd/system/nat64-monitor.service', 'usr/lib/systemd/system/nat64-mirror@.service', 'usr/lib/udev/rules.d/99-nat64.rules',
           'usr/lib/NetworkManager/dispatcher.d/90-nat64', 'usr/lib/networkd-dispatcher/routable.d/nat64',
           'usr/lib/networkd-dispatcher/degraded.d/nat64'}


def staged(tree):
    """Files below, none of which speaks of a place where nothing is."""
    names = {os.path.join(top, name)[len(str(tree)) + 1:] for top, _, files in os.walk(tree) for name in files}
    for name in names:
        assert b'/usr/local' not in (tree / name).read_bytes(), name
    return names


@pytest.fixture(scope='module')
def recipes():
    """As make recipes fills them in."""
    run('make', '-s', '-C', ROOT, 'recipes')
    tree = f'{ROOT}/build/recipes'
    for top, _, files in os.walk(tree):
        for name in files:
            if not name.endswith('.gz'):
                with open(os.path.join(top, name), encoding='utf-8') as f:
                    assert not re.search('@[A-Z0-9]+@', f.read()), name
    return tree


@pytest.mark.parametrize('name, shell, files', [
    ('PKGBUILD', 'bash', BASE | SYSTEMD | {'usr/bin/nat64'}),
    ('APKBUILD', 'sh', BASE | {'usr/sbin/nat64', 'etc/network/if-up.d/nat64'})])
def test_recipe_installs(recipes, tmp_path, name, shell, files):
    """What package() puts where, of what was built here; and the checksum is that of the archive."""
    script = f"""set -eu; pkgdir=$1; . {recipes}/{name}; [ "$pkgver" = "$2" ]
        if [ {name} = APKBUILD ]; then cd "$3"; else cd "$4"; ln -s "$3" "$pkgname-$pkgver"; fi
        check; package >/dev/null; cd {recipes}
        if [ {name} = APKBUILD ]; then echo "$sha512sums" | grep . | sha512sum -c; else echo "$sha256sums $source" | sha256sum -c; fi"""
    (tmp_path / 'pkg').mkdir()
    run(shell, '-c', script, shell, tmp_path / 'pkg', VERSION, os.path.abspath(ROOT), tmp_path)
    assert staged(tmp_path / 'pkg') == files


def test_pacman_scripts(tmp_path):
    """An upgrade reloads, removal stops."""
    (tmp_path / 'systemctl').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'systemctl').chmod(0o755)
    for step, said in ('post_upgrade', f'try-reload-or-restart {UNITS}'), ('pre_remove', f'stop {UNITS} nat64-mirror@*.service nat64-monitor.service'):
        script = 'PATH=$1:$PATH; . <(sed "s|/run/systemd/system|/|" "$2"); "$3"'
        assert run('bash', '-c', script, 'bash', tmp_path, f'{RECIPES}/nat64.install', step).stdout.strip() == said


def test_nix_expression(recipes):
    if not shutil.which('nix-instantiate'):
        pytest.skip('NO nix-instantiate: nat64.nix was not parsed')
    run('nix-instantiate', '--parse', f'{recipes}/nat64.nix')


def test_openwrt_package(recipes, tmp_path):
    """Make understands the file, and it installs what is there."""
    (tmp_path / 'rules.mk').write_text('INSTALL_DIR=install -d\nINSTALL_BIN=install -m755\nINSTALL_DATA=install -m644\n'
                                       'INSTALL_CONF=install -m600\n')
    (tmp_path / 'bpf.mk').write_text('')
    (tmp_path / 'package.mk').write_text('define BuildPackage\ninstall:\n\t$(call Package/$(1)/install,$(DEST))\nendef\n')
    run('make', '-s', '-C', f'{recipes}/openwrt', 'install', f'TOPDIR={tmp_path}', f'INCLUDE_DIR={tmp_path}',
        f'PKG_BUILD_DIR={os.path.abspath(ROOT)}', f'DEST={tmp_path}/pkg')
    assert staged(tmp_path / 'pkg') == {'usr/sbin/nat64', 'etc/config/nat64', 'etc/init.d/nat64', 'etc/hotplug.d/iface/50-nat64'}
    assert os.access(tmp_path / 'pkg/etc/init.d/nat64', os.X_OK)


# Functions of OpenWrt's /lib/functions.sh, procd.sh and network.sh, as far as they are used
OPENWRT = r"""
config() { CONFIG_SECTION=${2:-cfg$((n = n + 1))}; config_cb "$1" "$CONFIG_SECTION"; }
option() { option_cb "$@"; }
list() { list_cb "$@"; }
reset_cb() { config_cb() { :; }; option_cb() { :; }; list_cb() { :; }; }
config_load() { . "$top/$1"; ${CONFIG_SECTION:+config_cb}; }
network_get_device() { eval "$1="; case $2 in lan) eval "$1=eth0" ;; guest) eval "$1=eth1" ;; *) return 1 ;; esac; }
procd_open_instance() { echo "open $1"; }
procd_set_param() { echo "$@"; }
procd_close_instance() { echo close; }
procd_add_reload_trigger() { echo "trigger $@"; }
logger() { [ $# -gt 2 ] && echo "$3" >>"$top/log" || cat >>"$top/log"; }
nat64() { echo "$@" >>"$top/ran"; }
top=$1; . "$top/init"; NAT64=nat64; LOADED=$top/loaded; "$2"
"""


@pytest.fixture(params=['dash', 'busybox ash'])
def openwrt(request, tmp_path):
    """init(config, what): (what procd is told, what nat64 was told, the log)."""
    shell = request.param.split()
    if not shutil.which(shell[0]):
        pytest.skip(f'NO {shell[0]}: the init script was not run by it')
    with open(f'{RECIPES}/openwrt/files/nat64.init', encoding='utf-8') as f:
        text = f.read()
    assert text.startswith('#!/bin/sh /etc/rc.common\n') and '. /lib/functions/network.sh' in text
    (tmp_path / 'init').write_text(text.replace('. /lib/functions/network.sh', ':'))

    def init(config, what='start_service'):
        (tmp_path / 'nat64').write_text(config)
        for name in 'ran', 'log':
            (tmp_path / name).write_text('')
        done = run(*shell, '-c', OPENWRT, 'init', tmp_path, what)
        assert done.stderr == ''
        return done.stdout, (tmp_path / 'ran').read_text(), (tmp_path / 'log').read_text()
    return init


LAN = "config translator 'lan'\n\tlist interface 'lan'\n\toption v4_prefix '10.0.1.0/24'\n\tlist allowed_src 'fc00::/8'\n"
GUEST = "config translator 'guest'\n\toption interface guest\n\toption v4_prefix 10.0.2.0/24\n\tlist allowed_src 'fd00::/8'\n"
RUN = 'open {}\ncommand nat64 {}\nstdout 1\nstderr 1\nclose\n'
RUN_LAN = RUN.format('lan', '-i eth0 --v4-prefix 10.0.1.0/24 --allowed-src fc00::/8')
RUN_GUEST = RUN.format('guest', '-i eth1 --v4-prefix 10.0.2.0/24 --allowed-src fd00::/8')


def test_openwrt_init(openwrt):
    """From the configuration to the command line, and to what is unloaded when it changes."""
    assert openwrt(LAN + GUEST) == (RUN_LAN + RUN_GUEST, '', '')
    assert openwrt(LAN + GUEST) == (RUN_LAN + RUN_GUEST, '', '')                                       # a reload
    assert openwrt(LAN + GUEST.replace('guest\n\toption v', 'wan\n\toption v')) == \
        (RUN_LAN, '', 'guest: network wan is not up\n')                                               # it may come back
    assert openwrt(LAN) == (RUN_LAN, '-i eth1 -u\n', '')                                              # section gone
    assert openwrt(LAN + "\toption enabled 'off'\n") == ('', '-i eth0 -u\n', '')                      # switched off
    device = LAN + "\tlist interface 'guest'\n\toption device 'nat64'\n\toption fast '1'\n\toption wkp_strict '0'\n"
    words = '--device nat64 -i eth0 -i eth1 --v4-prefix 10.0.1.0/24 --allowed-src fc00::/8 --fast'
    assert openwrt(LAN)[0] == RUN_LAN
    assert openwrt(device) == (RUN.format('lan', words), '', '')                                       # nat64 goes on with it
    assert openwrt(LAN) == (RUN_LAN, '--device nat64 -u\n', '')                                        # of another name
    assert openwrt(GUEST.replace("'guest'", "'lan'")) == (RUN_GUEST.replace('open guest', 'open lan'), '-i eth0 -u\n', '')
    assert openwrt('', 'stop_service') == ('', '-i eth1 -u\n', '')
    assert openwrt('', 'stop_service') == ('', '', '')
    assert openwrt('')[0] == ''
    assert openwrt("config other 'x'\n\toption v4_prefix '10.0.1.0/24'\n") == ('', '', '')
    assert openwrt('', 'service_triggers')[0] == 'trigger nat64\n'


def test_openwrt_options(openwrt, net):
    """The file that comes with the package starts nothing, has all options that a file can have, and nat64 takes them; what it
    does not know is handed on to it, and refused."""
    gw = net[1]
    with open(f'{RECIPES}/openwrt/files/nat64.config', encoding='utf-8') as f:
        sample = f.read()
    assert openwrt(sample)[0] == ''
    every = re.sub(r'^\t#(option|list)', r'\t\1', sample, flags=re.M).replace("enabled '0'", "enabled '1'")
    (command,) = re.findall('^command nat64 (.*)', openwrt(every)[0], re.M)
    with open(f'{ROOT}/dist/sample.conf', encoding='utf-8') as f:
        options = set(re.findall(r'^#([a-z][a-z0-9-]*)(?: \S+)?$', f.read(), re.M)) - {'interface'}
    assert {word[2:] for word in command.split() if word.startswith('--')} == options, \
        'dist/sample.conf has other options than dist/packages/openwrt/files/nat64.config (see docs/developers.org)'
    gw.nat64(*command.replace('--xdp', '--xdp=veth').split(), '--dry-run')
    (command,) = re.findall('^command nat64 (.*)', openwrt(LAN + "\toption timeuot '7'\n")[0], re.M)
    assert '--timeuot' in gw.nat64(*command.split(), rc=2).stderr


@pytest.mark.parametrize('event, reloads', [('ACTION=ifup INTERFACE=lan', True), ('ACTION=ifup INTERFACE=wan', False),
                                            ('ACTION=ifdown INTERFACE=lan', False), ('ACTION=ifup INTERFACE=la', False)])
def test_openwrt_hotplug(tmp_path, event, reloads):
    with open(f'{RECIPES}/openwrt/files/nat64.hotplug', encoding='utf-8') as f:
        (tmp_path / 'hotplug').write_text(f.read().replace('/etc/init.d/nat64', 'service'))
    script = """uci() { echo "nat64.lan.interface='guest' 'lan'"; }; service() { [ "$1" = enabled ] || echo "$1"; }
                ACTION=$1 INTERFACE=$2; . "$0" """
    done = run('sh', '-c', script, tmp_path / 'hotplug', *(word.split('=')[1] for word in event.split()), check=False)
    assert done.stdout.strip() == ('reload' if reloads else '') and done.stderr == ''


# One static binary

ARCHS = {'amd64': None, 'arm64': 'aarch64', 'armhf': 'arm', 'riscv64': 'riscv64'}        # Debian's name, QEMU's
HERE = {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(os.uname().machine)


def test_static_libmnl(net, tmp_path):
    """What stands in for libmnl in a static binary has all that nat64 uses, and does the same: here before the real one."""
    source, lib = f'{ROOT}/dist/static/mnl.c', tmp_path / 'mnl.so'
    run(os.environ.get('CC', 'cc'), '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-shared', '-fPIC', '-o', lib, source)
    defined = set(re.findall(r' T (mnl_\w+)', run('nm', lib).stdout))
    assert defined == set(re.findall(r' U (mnl_\w+)', run('nm', '-D', NAT64).stdout)), 'of libmnl, what nat64 uses and no more'
    h6, gw, _ = net
    via = ['env', f'LD_PRELOAD={lib}']
    gw.load('-s', 'fc00::80=10.0.9.80', '--fast', via=via)
    h6.run('ping', '-c3', '-i0.01', embed('192.0.2.2'))
    same = [gw.nat64('-i', 'eth0', '--status', via=v).stdout for v in (via, [])]
    assert same[0] == same[1] and 'working           yes' in same[0]
    for wrong in ('nowhere', '10.0.1.0/24'), ('eth1', '192.0.2.0/24'):
        done = [gw.run(*v, NAT64, '-i', wrong[0], '-4', wrong[1], '-a', 'fc00::/8', check=False) for v in (via, [])]
        assert done[0].returncode == done[1].returncode != 0 and done[0].stderr == done[1].stderr
    gw.unload(via=via)


def static(arch):
    return built(f'nat64-{VERSION}-{arch}', f'static ARCHS={arch}', 'static', 'cross')


@pytest.mark.parametrize('arch', ARCHS)
def test_static_binary(arch):
    """Needs nothing, is small, tells nothing of where it was built, and runs, where QEMU can tell."""
    path = static(arch)
    assert os.path.getsize(path) < 1000000
    with open(path, 'rb') as f:
        text = f.read()
    assert os.path.abspath(ROOT).encode() not in text
    headers = run('readelf', '-ldW', path).stdout
    assert 'INTERP' not in headers and 'NEEDED' not in headers
    emulator = [] if arch == HERE else [f'qemu-{ARCHS[arch]}-static']
    if emulator and not shutil.which(emulator[0]):
        pytest.skip(f'NO {emulator[0]}: the binary for {arch} was not run')
    assert run(*emulator, path, '--help').stdout == run(NAT64, '--help').stdout
    done = run(*emulator, path, '-i', 'lo', '-4', '10.0.1.7/24', '-a', 'fc00::/8', check=False)
    assert done.returncode == 2 and done.stderr == 'nat64: -4 10.0.1.7/24: not a network address (did you mean 10.0.1.0/24?)\n'


def test_static_binary_translates(net, tmp_path):
    """As the other does: loaded, asked, saved, loaded again by the other, unloaded."""
    h6, gw, h4 = net
    path = static(HERE)
    clean = gw.snapshot()
    load = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '-s', 'fc00::80=10.0.1.80']
    gw.run(path, *load)
    h6.run('ping', '-c3', '-i0.01', embed('192.0.2.2'))
    asked = [gw.run(nat64, '-i', 'eth0', '--mappings').stdout for nat64 in (path, NAT64)]
    assert [row.split()[:3] for row in asked[0].splitlines()] == [row.split()[:3] for row in asked[1].splitlines()]
    assert 'fc00:6::6' in asked[0]
    gw.run(path, '-i', 'eth0', '--status')
    gw.run(path, '-i', 'eth0', '--save', tmp_path / 'saved')
    gw.run(NAT64, *load)
    gw.run(path, *load, '--restore', tmp_path / 'saved')
    (address,) = [m['v4'] for m in json.loads((tmp_path / 'saved').read_text())['mappings'] if m['v6'] == 'fc00:6::6']
    h4.run('ping', '-c3', '-i0.01', address)
    gw.run(path, '-i', 'eth0', '-u')
    assert gw.snapshot() == clean
