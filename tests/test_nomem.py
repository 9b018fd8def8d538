# SPDX-License-Identifier: GPL-2.0-or-later
"""Out of memory, wherever the program asks for some: it says so and fails, or does without. It never crashes, and changes
nothing half."""

import itertools
import re

import pytest

from bpf import Translator
from lab import NAT64
from test_mappings import speak

LOAD = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '-a', 'fd00::/8', '-s', 'fc00::9=10.0.1.9',
        '-s', '2001:db8:3::/120=10.0.2.0/24']
COMMANDS = {
    'monitor': ['--monitor'],
    'trace': ['-i', 'eth0', '--trace', 'host', 'fc00::1', '--json'],
    'status': ['--status'],
    'metrics': ['--status', '--metrics'],
    'mappings': ['-i', 'eth0', '--mappings'],
    'mappings of all': ['--mappings', '--json'],
    'save': ['-i', 'eth0', '--save', 'SAVED'],
    'load again': ['-v', *LOAD],
    'other prefix': ['-i', 'eth0', '-4', '10.0.1.0/25', '-a', 'fc00::/8', '--fast'],
    'flush': ['-i', 'eth0', '--flush'],
}


def starve(gw, nomem, tmp_path, argv):
    """(exit status, stderr) for each time that memory is asked for; what listens ends at once, as its reader has gone."""
    reader = ':' if {'--monitor', '--trace'} & set(argv) else 'cat >/dev/null'
    for n in itertools.count(1):
        said = tmp_path / f'refused{n}'
        done = gw.run('bash', '-c', f'LD_PRELOAD={nomem} NAT64_NOMEM={n} NAT64_NOMEM_FILE={said} "$@" | {reader}; '
                      'exit ${PIPESTATUS[0]}', 'bash', NAT64, *argv, check=False)
        if not said.exists():
            assert n > 1
            return
        yield n, done.returncode, done.stderr


@pytest.mark.parametrize('name', COMMANDS)
def test_no_memory(nat, nomem, tmp_path, name):
    _, gw, _ = nat
    gw.loaded.clear()
    for n, rc, stderr in starve(gw, nomem, tmp_path, [a.replace('SAVED', f'{tmp_path}/saved') for a in COMMANDS[name]]):
        what = f'request {n}: exit {rc}\n{stderr}'
        assert rc in (0, 1, 2), what
        if rc:
            assert re.fullmatch(r'nat64: [^\n]+\n(nat64: eth0: but for this the new options are in force; [^\n]+\n)?', stderr), what
            assert 'null' not in stderr, what
        with Translator(gw) as t:
            assert speak(t, n), what
    gw.nat64('-i', 'eth0', '-u')


def test_no_memory_to_load(net, nomem, tmp_path):
    _, gw, _ = net
    before = gw.snapshot()
    for n, rc, stderr in starve(gw, nomem, tmp_path, LOAD):
        what = f'request {n}: exit {rc}\n{stderr}'
        assert rc in (0, 1, 2), what
        if rc:
            assert re.fullmatch(r'nat64: [^\n]+\n', stderr), what
            assert gw.snapshot() == before, what
        else:
            gw.run(NAT64, '-i', 'eth0', '-u')
    gw.run(NAT64, '-i', 'eth0', '-u')
    assert gw.snapshot() == before
