# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: a lab with nothing in it, the standard topology, and a watch over what tests leave behind."""

import os
import subprocess
import sys
import tempfile

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpf                                          # noqa: E402
from lab import Crossing, Lab, NAT64, standard      # noqa: E402

OPEN = []       # labs that live longer than a test


def pytest_sessionstart(session):
    if os.geteuid() != 0:
        pytest.exit('the tests make network namespaces: run them as root (sudo make test)', 2)
    if not os.access(NAT64, os.X_OK):
        pytest.exit(f'{NAT64} is not there: run make first', 2)


def namespaces():
    return {n for n in os.listdir('/run/netns') if n.startswith(f'nat64-{os.getpid()}-')} \
        if os.path.isdir('/run/netns') else set()


@pytest.fixture(autouse=True)
def nothing_left():
    """No namespace outlives a test. The lab itself watches the rest: filters, routes, neighbours, sysctls and pinned files
    at each run of nat64, programs and maps when it closes."""
    home = os.readlink('/proc/thread-self/ns/net')
    yield
    left = namespaces() - {host.ns for lab in OPEN for host in lab.all}
    for ns in left:         # or every later test would complain of it
        subprocess.run(['ip', 'netns', 'del', ns], check=False)
    assert not left, f'network namespaces left: {left}'
    assert os.readlink('/proc/thread-self/ns/net') == home, 'the test stayed in another network namespace'


@pytest.fixture
def lab(nothing_left):
    with Lab() as lab:
        yield lab


@pytest.fixture
def net(lab):
    """(h6, gw, h4), nothing loaded."""
    return standard(lab)


@pytest.fixture
def nat(net):
    """(h6, gw, h4) with the manual's command run on gw."""
    net[1].load()
    return net


def library(name):
    """What LD_PRELOAD takes, of a source beside this file."""
    with tempfile.TemporaryDirectory() as tmp:
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), f'{name}.c')
        subprocess.run([os.environ.get('CC', 'cc'), '-D_GNU_SOURCE', '-shared', '-fPIC', '-o', f'{tmp}/{name}.so', source,
                        '-ldl'], check=True)
        yield f'{tmp}/{name}.so'


@pytest.fixture(scope='session')
def notcx():
    """A library that makes the kernel look like one from before tcx."""
    yield from library('notcx')


@pytest.fixture(scope='session')
def nomem():
    """A library that has no memory for the program when NAT64_NOMEM says."""
    yield from library('nomem')


@pytest.fixture(scope='session')
def rxvlan():
    """A library that makes network cards look as if they took VLAN tags off."""
    yield from library('rxvlan')


@pytest.fixture
def old_kernel(notcx, monkeypatch):
    """What the test runs sees a kernel without tcx."""
    monkeypatch.setenv('LD_PRELOAD', notcx)


@pytest.fixture(params=['tcx', 'clsact'])
def kind(request):
    """How nat64 attaches; the other fixtures come after this one."""
    if request.param == 'clsact':
        request.getfixturevalue('old_kernel')
    elif not bpf.has_tcx():
        pytest.skip('NO tcx: before Linux 6.6')
    return request.param


@pytest.fixture(scope='module')
def module_lab():
    """A lab for a table of tests that do not disturb each other."""
    with Lab() as lab:
        OPEN.append(lab)
        yield lab
    OPEN.remove(lab)


@pytest.fixture(scope='module')
def module_net(module_lab):
    return standard(module_lab)


@pytest.fixture(scope='module')
def crossing(module_net):
    """Packets made by hand through the manual's translator; it answers all that has an answer."""
    module_net[1].load('--icmp-rate', 1000000)
    c = Crossing(*module_net)
    yield c
    c.close()
