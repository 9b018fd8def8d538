# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual, the man page, --help and the completion say the same; the drop reasons are those of nat64.h."""

import os
import re
import shutil
import subprocess

import pytest

from bpf import DROPS, drop_table
from lab import NAT64

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')


def read(name):
    with open(os.path.join(ROOT, name), encoding='utf-8') as f:
        return f.read()


def man():
    """nat64(8) as a reader sees it."""
    done = subprocess.run(['mandoc', '-T', 'utf8', '-O', 'width=500', os.path.join(ROOT, 'dist/nat64.8')],
                          capture_output=True, text=True, check=True)
    return re.sub('.\b', '', done.stdout)


def long_options(text):
    return set(re.findall(r'(?<![\w/-])--[a-z][a-z0-9-]+', text))


def help_text():
    return subprocess.run([NAT64, '--help'], capture_output=True, text=True, check=True).stdout


def help_options():
    """{long: short or None} of the lines of --help that describe an option."""
    return {m[2]: m[1] for m in re.finditer(r'^\s+(?:(-\w), )?(--[a-z][a-z0-9-]*)', help_text(), re.M)}


def complete(*words):
    """What bash offers for the last of these words."""
    script = '''
        [ -r /usr/share/bash-completion/bash_completion ] && . /usr/share/bash-completion/bash_completion
        . "$1"; shift
        spec=$(complete -p nat64) || exit 1
        function=$(sed 's/.*-F \\([^ ]*\\).*/\\1/' <<<"$spec")
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        "$function" nat64 "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    '''
    env = dict(os.environ, PATH=os.path.dirname(os.path.abspath(NAT64)) + ':' + os.environ['PATH'])
    done = subprocess.run(['bash', '-c', script, 'bash', os.path.join(ROOT, 'build/completion.bash'), *words],
                          capture_output=True, text=True, check=True, env=env)
    assert done.stderr == ''
    return [word.strip() for word in done.stdout.splitlines() if word.strip()]


def test_help_lists_options():
    options = help_options()
    assert {'--interface': '-i', '--v4-prefix': '-4', '--v6-prefix': '-6', '--allowed-src': '-a', '--timeout': '-t',
            '--unload': '-u', '--verbose': '-v', '--help': '-h', '--version': '-V'}.items() <= options.items()
    assert long_options(help_text()) == set(options)
    assert all(len(line) <= 80 for line in help_text().splitlines())


def test_man_page_has_the_options_of_help():
    text = man()
    assert long_options(text) == set(help_options())
    for long, short in help_options().items():
        if short:
            assert re.search(rf'^\s+{short}\b.*{long}\b', text, re.M), f'no paragraph for {short}, {long}'


def manual():
    """{file: text} of what there is to read beside nat64(8)."""
    return {name: read(name) for name in ['README.org', *(f'docs/{f}' for f in sorted(os.listdir(os.path.join(ROOT, 'docs'))) if f.endswith('.org'))]}


def test_manual_speaks_of_options_that_there_are():
    """On a line of nat64's own, and wherever a name is marked up as one; other programs have options, too."""
    known = set(help_options())
    for name, text in manual().items():
        for line in text.splitlines():
            if re.match(r'(: |sudo |# )*(\./)?nat64 ', line):
                assert long_options(re.split(r'[|#;]', line.lstrip(':# '))[0]) <= known, f'{name}: {line}'


def test_links_lead_somewhere():
    """Between the files of the manual, and to places inside of one."""
    for name, text in manual().items():
        for target in re.findall(r'\[\[file:([^]]+)\]', text):
            assert os.path.exists(os.path.join(ROOT, os.path.dirname(name), target.split('::')[0])), f'{name}: {target}'
        for target in re.findall(r'\[\[#(\w+)\]', text):
            assert f':CUSTOM_ID: {target}\n' in text, f'{name}: #{target}'
        assert name == 'README.org' or f'{name}][' in manual()['README.org'], f'README.org does not lead to {name}'


def test_readme_is_short():
    """What is reference goes to nat64(8), recipes to docs/; and the first screen says it all."""
    lines = read('README.org').splitlines()
    assert len(lines) < 320
    screen = '\n'.join(lines[:50])
    assert 'nat64 -i eth0 -u' in screen and '| Tayga' in screen and '| Jool' in screen


def test_measured_cells():
    """The speeds of the README are those that were measured."""
    (row,) = [row for row in cells(read('README.org')) if row[0].startswith('speed, 64 bytes')]
    rows = {row[0]: row[-1] for row in cells(read('docs/speed.org'))}
    assert row[1] == rows['64-byte packets 6→4 / 4→6, 1 flow']
    assert row[2] == rows['Tayga, 64-byte packets 6→4 / 4→6']
    text = re.sub(r'\s+', ' ', read('README.org'))
    for option in '--fast', '--xdp', '--device':
        name, option = f'64-byte packets, ={option}', 'own' if option == '--device' else option
        assert re.search(rf'{option}=? {rows[name].replace(" / ", " and ")}\b', text), option


def test_completion_offers_the_options_of_help():
    offered = complete('nat64', '-')
    assert {o.rstrip('=') for o in offered if o.startswith('--')} == set(help_options())
    assert {o.rstrip('=') for o in complete('nat64', '--v')} == {'--v4-prefix', '--v6-prefix', '--verbose', '--version'}


@pytest.mark.parametrize('option', ['-i', '--interface'])
def test_completion_offers_interfaces(option):
    links = set(os.listdir('/sys/class/net'))
    offered = set(complete('nat64', option, ''))
    assert offered and offered <= links


@pytest.mark.parametrize('shell', ['zsh', 'fish'])
def test_completion_of_other_shells(shell):
    """The shell understands it, and it has each option with what --help says of it."""
    path = os.path.join(ROOT, f'build/completion.{shell}')
    assert os.path.getmtime(path) >= os.path.getmtime(NAT64), 'run make first'
    text = re.sub(r'\\(.)', r'\1', read(path))
    for line in help_text().splitlines():
        if m := re.match(r'\s+(?:-(\w), )?--([a-z0-9-]+)(?: \S+)?\s+(.*)', line):
            assert m[2] in text and m[3] in text, line
    if not shutil.which(shell):
        pytest.skip(f'NO {shell}: its completion was only read')
    assert subprocess.run([shell, '-n', path], capture_output=True, text=True, check=True).stderr == ''


@pytest.mark.skipif(not shutil.which('fish'), reason='NO fish: it was not asked')
def test_fish_offers_the_options_of_help(tmp_path):
    """What it offers, asked as a user does."""
    env = dict(os.environ, HOME=str(tmp_path))

    def offers(words):
        done = subprocess.run(['fish', '--no-config', '-c', f'source {ROOT}/build/completion.fish; complete -C "nat64 {words}"'],
                              capture_output=True, text=True, check=True, env=env)
        return {line.split('\t')[0] for line in done.stdout.splitlines()}
    assert {o for o in offers('--') if o.startswith('--')} == set(help_options())
    assert offers('-i ') == set(os.listdir('/sys/class/net'))
    assert offers('-6 ') == {'64:ff9b::/96'} and {'tcp', 'not', '6to4'} <= offers('--trace ')


def cells(text):
    """The rows of an org table: lists of cells, without markup."""
    return [[c.strip().strip('=~') for c in line.strip().strip('|').split('|')]
            for line in text.splitlines() if line.startswith('|')]


def test_man_page_drop_table():
    text = re.sub(r'\s+', ' ', man())
    places = []
    for name, meaning in drop_table():
        place = text.find(f' {name} {meaning}')
        assert place >= 0, f'nat64(8): no "{name}: {meaning}"'
        places.append(place)
    assert places == sorted(places)


def test_the_manuals_command_is_the_command():
    """The two commands of the manual are those that the tests run."""
    for text in read('README.org'), man():
        assert re.search(r'nat64 -i eth0 -4 10\.0\.1\.0/24 -a fc00::/8', text)
        assert re.search(r'nat64 -i eth0 -u', text)


def test_version_is_one():
    """The Makefile's: what is built has it, and no other file names it."""
    version = re.search(r'^VERSION\s*:?=\s*([0-9.]+)', read('Makefile'), re.M).group(1)
    assert subprocess.run([NAT64, '-V'], capture_output=True, text=True, check=True).stdout.split()[1] == version
    assert re.search(rf'^\.Os nat64 {re.escape(version)}$', read('build/nat64.8'), re.M)
    assert re.search(rf'^## \[{re.escape(version)}\]', read('CHANGELOG.md'), re.M)
    named = re.compile(rf'(?<![\w.]){re.escape(version)}(?![\w.]*\d)')
    for where, below, files in os.walk(ROOT):
        below[:] = set(below) - {'.git', 'build', '__pycache__', '.pytest_cache'}
        for name in set(files) - {'Makefile', 'CHANGELOG.md', 'changelog', 'nat64'}:
            with open(os.path.join(where, name), encoding='utf-8', errors='replace') as f:
                assert not (found := [line for line in f if named.search(line)]), f'{name}: {found}'
