# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/boot.org: systemd-networkd, NetworkManager and ifupdown bring the interface up, down and up again, and the translator is there
each time. An upgrade of the package under traffic; and what autopkgtest runs.

The real ones, from the image (tests/image): under a real systemd, with the package installed, in a virtual machine (make test-boot);
and in a namespace without systemd."""

import glob
import json
import os
import re
import socket

import pytest

import recipes
from booted import booted, is_first, run, state, told, works, write
from lab import NAT64, PYTHON, Lab, embed, nothing_lost, patience, wait_for
from recipes import PRELUDE, ROOT, WEB, Image, blocks

DOC = 'docs/boot.org'
FIRST = 'v4-prefix 10.64.0.0/16\nallowed-src 2001:db8:1::/64\n'
OFF = '[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n'

# A veth is not for NetworkManager, but lan0 is to be taken for a network card.
CARD = 'SUBSYSTEM=="net", KERNEL=="lan0", ENV{NM_UNMANAGED}="0"\n'


def type_in(lines):
    """The prelude's apt, but not its systemctl: there is a real one."""
    return run('bash', '-e', '-c', PRELUDE.split('nat64()')[0] + re.search(r'^apt\(\).*$', PRELUDE, re.M)[0] + '\n' + lines)


class House:
    """The home router, which is the machine, one host on its LAN, and a web server."""

    def __init__(self, lab):
        self.lan, self.wan = lab.hosts('lan', 'wan')
        run('ip', 'link', 'add', 'wan0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', self.wan.ns)
        run('ip', 'addr', 'add', '203.0.113.2/24', 'dev', 'wan0')
        run('ip', 'link', 'set', 'wan0', 'up')
        self.wan.ip('link', 'set', 'eth0', 'up')
        self.wan.addr('eth0', '203.0.113.1/24')
        self.wan.ip('addr', 'add', f'{WEB}/32', 'dev', 'lo')
        self.wan.route('10.64.0.0/16', 'via', '203.0.113.2')
        run('ip', 'route', 'add', f'{WEB}/32', 'via', '203.0.113.1')

    def plug(self):
        """lan0 appears."""
        run('ip', 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', self.lan.ns)
        self.lan.ip('link', 'set', 'eth0', 'up')
        self.lan.ip('addr', 'add', '2001:db8:1::10/64', 'dev', 'eth0', 'nodad')
        self.lan.route('default', 'via', '2001:db8:1::1')

    @staticmethod
    def unplug():
        run('ip', 'link', 'del', 'lan0')

    def ping(self):
        return self.lan.run('ping', '-c', '1', '-W', '1', embed(WEB), check=False)

    def translated(self):
        """From the host to the web server, and back."""
        wait_for(lambda: self.ping().returncode == 0, lambda: f'the translator\n{told("lan0")}', 30)
        assert works('lan0') and '10.64.0.0/16' in run('ip', 'route', 'show', 'dev', 'lan0').stdout, told('lan0')


@pytest.fixture(scope='module')
def machine():
    """With a systemd that has booted it, but not the package."""
    with booted():
        if not is_first():
            pytest.skip('NO systemd as process 1: see make test-boot')
        write('/etc/systemd/system/off.target', OFF)
        write('/etc/udev/rules.d/90-lan0.rules', CARD)
        run('udevadm', 'control', '--reload')
        yield


@pytest.fixture
def house(machine):
    with Lab() as lab:
        yield House(lab)
        run('ip', 'link', 'del', 'lan0', check=False)


@pytest.fixture(scope='module')
def deb(machine):
    (path,) = glob.glob(f'{ROOT}/build/nat64_*.deb')
    return path


# The life of the package

ECHO = """
import socket
s = socket.create_server(('', 7))
c, _ = s.accept()
while data := c.recv(4096):
    c.sendall(data)
"""


def later_than(deb, tmp):
    """The same of a later version."""
    run('dpkg-deb', '-R', deb, tmp / 'tree')
    control = tmp / 'tree/DEBIAN/control'
    control.write_text(re.sub('^Version: .*', r'\g<0>+later', control.read_text(), flags=re.M))
    run('dpkg-deb', '-Znone', '--root-owner-group', '-b', tmp / 'tree', tmp / 'later.deb')
    return tmp / 'later.deb'


def files():
    """Those that are other than the image has them, but for what dpkg remembers, and directories of ours."""
    upper = '/run/image/up'
    return {os.path.join(top, name)[len(upper):] for top, dirs, names in os.walk(upper) for name in names + [d for d in dirs if 'nat64' in d]
            if not re.match(f'{upper}/var/(lib/(dpkg|systemd)|log|cache)(/|$)', os.path.join(top, name))}


def test_life_of_the_package(house, deb, tmp_path):
    """Installation starts nothing; an upgrade under traffic loses no packet, no mapping and no connection; removal saves the mappings
    and stops; after purge, nothing is there that was not there before."""
    before = files()
    network = lambda: {line for argv in (('ip', 'route'), ('ip', 'neigh', 'show', 'nud', 'permanent'), ('tc', 'qdisc'))
                       for line in run(*argv).stdout.splitlines()}
    house.plug()
    run('ip', 'addr', 'add', '2001:db8:1::1/64', 'dev', 'lan0', 'nodad')
    run('ip', 'link', 'set', 'lan0', 'up')
    run('sysctl', '-q', '-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
    clean = network()
    run('dpkg', '-i', deb)
    assert not run('systemctl', 'list-units', '--no-legend', 'nat64*').stdout, 'something was started'
    write('/etc/nat64/lan0.conf', FIRST)
    run('systemctl', 'enable', '--now', 'nat64@lan0')
    house.translated()

    house.wan.start(PYTHON, '-c', ECHO)
    house.wan.listening(7)
    with house.lan:
        connection = socket.create_connection((embed(WEB), 7))
    connection.settimeout(patience(20))

    def talk(data):
        connection.sendall(data)
        assert connection.recv(4096) == data
    mappings = lambda: [(m['v4'], m['v6']) for m in json.loads(run('nat64', '-i', 'lan0', '--mappings', '--json').stdout)['mappings']]
    programs = lambda: {p['id'] for p in json.loads(run('bpftool', '-j', 'prog', 'show').stdout) if p.get('name', '').startswith('nat64_')}
    talk(b'before')
    had = mappings()
    old = programs()
    traffic = [house.lan.start('ping', '-i', '0.02', embed(WEB)), house.wan.start('ping', '-i', '0.02', '-I', WEB, had[0][0])]
    with nothing_lost(*traffic):
        run('dpkg', '-i', later_than(deb, tmp_path))
        assert 'later' in run('dpkg-query', '-W', 'nat64').stdout
    talk(b'after')
    connection.close()
    assert mappings() == had and state('nat64@lan0') == 'active'
    assert old and programs() and not old & programs(), 'programs of the later version'

    run('dpkg', '-r', 'nat64')
    assert state('nat64@lan0') == 'inactive' and network() == clean and not programs()
    with open('/var/lib/nat64/lan0.json', encoding='ascii') as f:
        assert [(m['v4'], m['v6']) for m in json.load(f)['mappings']] == had
    run('env', 'IFACE=lan0', '/etc/network/if-up.d/nat64')
    assert network() == clean
    run('dpkg', '-P', 'nat64')
    assert files() <= before, files() - before


def test_as_autopkgtest_runs_it(machine, deb, tmp_path):
    """debian/tests, of the archive of the sources, with the package."""
    version = re.search('nat64_(.*)_', deb)[1]
    run('tar', '-x', '-C', tmp_path, '-f', f'{ROOT}/build/nat64-{version}.tar.gz')
    run('sh', '-c', 'rm -rf /var/lib/apt/lists/*')      # all that is needed is here, and apt is slow to read them
    done = run('autopkgtest', '--no-built-binaries', deb, f'{tmp_path}/nat64-{version}/', '--', 'null', check=False, cwd='/')
    run('dpkg', '-P', 'nat64')
    assert done.returncode == 0 and re.search(r'^demo +PASS$', done.stdout, re.M), done.stdout + done.stderr
    assert 'are what they were before' in done.stdout + done.stderr


# Section, how the interface goes down and up, and what takes the manager away again
MANAGERS = {
    'systemd-networkd': ('networkctl down lan0', 'networkctl up lan0', 'networkctl reconfigure lan0',
                         'systemctl disable --now networkd-dispatcher systemd-networkd.socket systemd-networkd; rm /etc/systemd/network/lan0.network'),
    'NetworkManager': ('nmcli connection down lan', 'nmcli connection up lan', 'nmcli device reapply lan0',
                       'nmcli connection delete lan; systemctl disable --now NetworkManager'),
    'ifupdown': ('ifdown lan0', 'ifup lan0', 'ifdown lan0; ifup lan0', 'ifdown lan0; rm /etc/network/interfaces.d/lan0')}


@pytest.fixture(scope='module')
def installed(machine, deb):
    run('dpkg', '-i', deb)
    yield
    run('dpkg', '-P', 'nat64')


@pytest.fixture(params=MANAGERS)
def manager(request, installed):
    yield request.param
    run('systemctl', 'start', 'multi-user.target', check=False)
    run('systemctl', 'disable', '--now', 'nat64@lan0', check=False)
    run('bash', '-c', MANAGERS[request.param][-1], check=False)
    run('rm', '-rf', '/etc/nat64/lan0.conf', '/var/lib/nat64')


def stop(house):
    """What is of a machine that has been switched off, and begins to boot: nothing runs, and /run is empty, in which ifupdown remembers
    what is up."""
    house.unplug()
    run('systemctl', 'isolate', 'off.target')
    wait_for(lambda: state('nat64@lan0') in ('inactive', 'failed'), lambda: told('lan0'))
    run('sh', '-c', 'rm -f /run/network/ifstate*')


def test_interface_goes_and_comes(house, manager):
    down, up, again, _ = MANAGERS[manager]
    house.plug()
    type_in(blocks(DOC, manager)[0])
    wait_for(lambda: '2001:db8:1::1/64' in run('ip', '-6', 'addr', 'show', 'dev', 'lan0').stdout, told, 30)
    for block in blocks(DOC, 'The translator'):
        type_in(block)
    house.translated()
    for _ in range(2):
        run('bash', '-c', down)
        wait_for(lambda: house.ping().returncode, lambda: f'{manager} to set it down\n{told("lan0")}', 30)
        run('bash', '-c', up)
        house.translated()
    run('bash', '-c', again)
    house.translated()

    # The machine starts, and the interface is there later; and sooner.
    stop(house)
    run('systemctl', 'start', 'multi-user.target')
    house.plug()
    house.translated()
    stop(house)
    house.plug()
    run('systemctl', 'start', 'multi-user.target')
    house.translated()


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


def test_without_systemd_a_bad_file(router):
    """What is wrong is named by file and line."""
    right = router.image.read('/etc/nat64/lan0.conf')
    router.image.write('/etc/nat64/lan0.conf', right + 'time-out 5\n')
    typed = recipes.type_in(router, blocks(DOC, 'ifupdown')[0], check=False)
    assert 'nat64: /etc/nat64/lan0.conf:3: ' in typed.stderr and 'nothing loaded' in status_of(router).stderr
    router.image.write('/etc/nat64/lan0.conf', right)
    router.image.run('ifdown', '--force', 'lan0')
    router.image.run('ifup', 'lan0')
    assert status_of(router).returncode == 0
