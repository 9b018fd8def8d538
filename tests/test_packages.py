# SPDX-License-Identifier: GPL-2.0-or-later
"""What is published: the archive of the sources, and the packages that are built from it."""

import os
import subprocess
import tarfile

import pytest

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
    """All that git knows, as it is here, and nothing else; who made it cannot be seen."""
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
        assert sorted(run('git', '-c', 'safe.directory=*', '-C', ROOT, 'ls-files', '-z').stdout.split('\0')[:-1]) == sorted(names)


def test_archive_is_reproducible(sources):
    """From a checkout and from what was unpacked, wherever and whenever: the same bytes."""
    checksum, tree = sources
    assert dist(ROOT)[0] == checksum
    os.utime(tree / 'README.org')
    os.makedirs(tree / 'tests/__pycache__', exist_ok=True)
    (tree / 'tests/__pycache__/lab.pyc').touch()
    assert dist(tree)[0] == checksum
