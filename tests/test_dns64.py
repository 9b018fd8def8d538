# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/dns64.org: an IPv6-only client fetches by name from an IPv4-only server, by each of the resolvers of the manual."""

import re

import pytest

import recipes
from lab import embed, wait_for
from recipes import WEB, Image, blocks, section, type_in
from test_docs import cells

RESOLVER = '2001:db8:1::1'
UNITS = {'Unbound': 'unbound', 'BIND': 'named', 'Knot Resolver': 'kresd@1'}


@pytest.fixture(scope='module')
def world(module_lab):
    """(lan, gw) of the home router, and the page that the Internet's IPv4-only web server has."""
    lan, gw, wan = recipes.home(module_lab)
    key = recipes.internet(wan)
    Image(gw), Image(lan)
    # The root of the lab has another key than that of the world.
    gw.image.write('/usr/share/dns/root.key', key)
    lan.image.write('/etc/resolv.conf', f'nameserver {RESOLVER}\n')
    kind, text = re.match(r'\. IN DNSKEY (\d+ \d+ \d+) (.*)', key).groups()
    lan.anchor = f'trust-anchors {{ . static-key {kind} "{text}"; }};\n'
    gw.image.write('/etc/bind/bind.keys', lan.anchor.replace('static', 'initial'))
    type_in(gw, blocks('README.org', 'Home router')[0])
    with recipes.web(wan) as page:
        yield lan, gw, page
    gw.nat64('-i', 'lan0', '-u')


def dig(host, *argv):
    return host.image.run('dig', '+time=5', '+tries=1', *argv).stdout


def aaaa(host, name, *argv):
    """(status, addresses)"""
    text = dig(host, *argv, 'AAAA', name)
    return re.search(r'status: (\w+)', text)[1], set(re.findall(r'\sIN\s+AAAA\s+([0-9a-f]\S+)', text))


@pytest.fixture(scope='module', params=UNITS)
def lan(request, world):
    """The client, while one of the resolvers works."""
    lan, gw, page = world
    unit = UNITS[request.param]
    type_in(gw, blocks('docs/dns64.org', request.param)[0])
    wait_for(lambda: gw.run('ss', '-Hlun', 'src', f'[{RESOLVER}]:53').stdout, lambda: gw.image.log(unit))
    lan.page, lan.router = page, gw
    yield lan
    type_in(gw, f'systemctl stop {unit}')


def test_fetch_by_name(lan):
    """What it is all for. Names of signed zones and of others."""
    name, content = lan.page
    for zone in 'example', 'insecure':
        assert lan.image.run('curl', '-sS', '-m', 10, f'http://only4.{zone}/{name}').stdout == content


def test_addresses(lan):
    """Made where there is no AAAA record, and only there; of what is forged, none."""
    assert aaaa(lan, 'only4.example') == ('NOERROR', {embed(WEB)})
    assert aaaa(lan, 'both.example') == ('NOERROR', {'2001:db8:ffff::1'})
    assert aaaa(lan, 'bogus.example') == ('SERVFAIL', set())
    assert aaaa(lan, 'none.example') == ('NXDOMAIN', set())


def test_discovery(lan):
    """RFC 7050: a host learns the NAT64 prefix from the addresses that ipv4only.arpa has here."""
    assert aaaa(lan, 'ipv4only.arpa') == ('NOERROR', {embed('192.0.0.170'), embed('192.0.0.171')})


def test_reverse(lan):
    """Who has that address?"""
    assert 'PTR' in dig(lan, '-x', embed(WEB))


def test_validating_client(lan):
    """A client that validates asks with CD. It gets the A record and its signature, and no AAAA record of a signed zone that it
    would take for a forgery."""
    flags = '+dnssec', '+cdflag'
    assert aaaa(lan, 'only4.example', *flags) == ('NOERROR', set())
    lan.image.write('/run/key', lan.anchor)
    delv = lambda what: lan.image.run('delv', f'@{RESOLVER}', '-a', '/run/key', '+root', '+cdflag', what, 'only4.example').stdout
    assert '; fully validated' in delv('A') and WEB in delv('A')
    assert '; negative response, fully validated' in delv('AAAA')


def test_table_of_clients(request, lan):
    """The manual's table says whom each resolver gives an AAAA record, for a signed name with an A record alone."""
    rows = cells(section('docs/dns64.org', 'Clients that validate'))
    (row,) = [row for row in rows if row[0] == request.node.callspec.params['lan']]
    asked = (), ('+dnssec',), ('+dnssec', '+cdflag')
    assert row[1:] == ['yes' if aaaa(lan, 'only4.example', *flags)[1] else 'no' for flags in asked]


def test_strangers_are_refused(lan):
    """The resolver is for the LAN."""
    gw = lan.router
    gw.addr('lo', '2001:db8:9::9/128')
    asked = gw.image.run('dig', '+time=2', '+tries=1', '-b', '2001:db8:9::9', f'@{RESOLVER}', 'AAAA', 'only4.example', check=False)
    gw.ip('addr', 'del', '2001:db8:9::9/128', 'dev', 'lo')
    assert 'status: REFUSED' in asked.stdout
