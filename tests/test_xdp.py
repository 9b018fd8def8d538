# SPDX-License-Identifier: GPL-2.0-or-later
"""--xdp: what its programs do with single frames, against what the RFC says, and what the tc programs do with the same packet
(BPF_PROG_TEST_RUN)."""

import contextlib
import os
import struct
import time

import pytest

from bpf import KERNEL, XDP_DROP, XDP_PASS, XDP_REDIRECT, Translator
from frames import Frames, is_frame, is_plain, known_hops, take_frames
from lab import NAT64, checksum, standard
from test_check import under
from test_fast_traffic import DATA
from test_monitor import Listener
from test_rfc import B6, CASES, H4, H6, S4, S6, l4, p4, p6
from test_rfc import TCP as PROTO_TCP, UDP as PROTO_UDP, udp as udp_header

LOAD = ['-i', 'eth0', '-4', '10.0.1.0/24', '-a', 'fc00::/8', '--xdp=veth']


@contextlib.contextmanager
def loaded_frames(net, *options, via=()):
    """The gateway with next hops that are known. via: what runs nat64, as under()."""
    _, gw, _ = net
    held = take_frames(net[0], net[2])
    known_hops(*net)
    gw.run(*via, NAT64, *LOAD, *options)
    with Translator(gw) as t, contextlib.closing(Frames(*net, t)) as f:
        yield f
    gw.run(NAT64, '-i', 'eth0', '-u')
    for fd in held:
        os.close(fd)


@pytest.fixture(scope='module')
def frames(module_net):
    with loaded_frames(module_net, '--icmp-rate', '1000000') as f:
        for v6 in H6, B6:
            f.t.run64(p6(l4(PROTO_UDP, udp_header(), v6, S6), src=v6))
        yield f


def must_be_sent(way, packet):
    """Of what tc translates, the plain packets; but those for a mapped host go back by the stack, and what is longer than the
    link is answered there."""
    return is_plain(way, packet) and (way == '4to6' or len(packet) <= 1520 and packet[36:39] != bytes((10, 0, 1)))


def test_rfc_table(frames):
    """All cases of test_rfc.py that take no option."""
    wrong = {}
    for name, c in CASES.items():
        if (c.options, c.mtu) != ((), 1500) or not is_frame(c.way, c.packet):
            continue
        want = c.want[0] if len(c.want) == 1 and isinstance(c.want[0], bytes) else None
        try:
            verdict = frames.check(c.way, c.packet, want)
            assert (verdict == XDP_REDIRECT) == bool(want and must_be_sent(c.way, c.packet)), verdict
        except AssertionError as e:
            wrong[name] = str(e)
    assert not wrong, '\n'.join(f'{name}: {error}' for name, error in wrong.items())
    assert frames.count[XDP_REDIRECT] > 40 and frames.count[XDP_PASS] > 500


def test_headers_that_are_not_for_us(frames):
    """Another MAC address, a broadcast, a VLAN tag, a frame of another protocol, and one that is cut short: as they came."""
    packet = {'6to4': p6(l4(PROTO_UDP, udp_header(), H6, S6)), '4to6': p4(l4(PROTO_UDP, udp_header(), S4, H4))}
    for way, ours in frames.header.items():
        assert frames.check(way, packet[way]) == XDP_REDIRECT
        proto = ours[12:]
        for header in b'\2' * 6 + ours[6:], b'\xff' * 6 + ours[6:], ours[:12] + b'\x81\0\0\5' + proto, \
                ours[:12] + b'\x81\0\0\0' + proto, ours[:12] + b'\x88\xa8\0\7\x81\0\0\5' + proto, ours[:12] + b'\x08\x06':
            before = frames.t.stats()
            assert frames.run(way, packet[way], header) == (XDP_PASS, header + packet[way])
            assert frames.t.stats() == before
        for n in range(1, len(packet[way])):
            assert frames.check(way, packet[way][:n].ljust(6, b'\0')) == XDP_PASS if n > 39 else True


@pytest.mark.parametrize('proto', [PROTO_TCP, PROTO_UDP])
def test_unfinished_checksums(frames, proto):
    """What a sender on this machine leaves to its network card: the sum of the pseudo-header. XDP cannot see that it is left, and
    lets it pass."""
    for way, src, dst in ('6to4', H6, S6), ('4to6', S4, H4):
        segment = bytearray(bytes.fromhex('04d20050 00000001 00000002 50182000 0000 0000') + b'hello' if proto == PROTO_TCP
                            else udp_header())
        make = p6 if way == '6to4' else p4
        assert frames.check(way, make(l4(proto, bytes(segment), src, dst), proto, src, dst)) == XDP_REDIRECT
        at = 16 if proto == PROTO_TCP else 6
        whole = make(bytes(segment), proto, src, dst)
        addresses = whole[8:40] if way == '6to4' else whole[12:20]
        segment[at:at + 2] = struct.pack('!H', ~checksum(addresses + struct.pack('!II', len(segment), proto)) & 0xffff)
        assert frames.run(way, make(bytes(segment), proto, src, dst))[0] == XDP_PASS


def test_link_padding(frames):
    """4→6 it is cut off, whatever length the frame has; 6→4 the stack does that."""
    for size in range(0, 40):
        segment = udp_header(DATA[:size])
        padding = b'secret' + bytes(max(0, 40 - size))
        assert frames.check('4to6', p4(l4(PROTO_UDP, segment, S4, H4)) + padding, p6(l4(PROTO_UDP, segment, S6, H6), src=S6, dst=H6)) \
            == XDP_REDIRECT
        assert frames.check('6to4', p6(l4(PROTO_UDP, segment, H6, S6)) + padding) == XDP_PASS


@pytest.mark.skipif(KERNEL < (5, 18), reason='NO frames in several buffers: before Linux 5.18')
@pytest.mark.parametrize('form', ['with BTF', 'without BTF'])
def test_frames_in_several_buffers(lab, form):
    """They pass as they came, also where the packet is at its end just when the first buffer is, and what follows is padding: of
    which XDP might cut off the wrong part."""
    via = under('/sys/kernel/btf') if form == 'without BTF' and os.path.exists('/sys/kernel/btf') else ()
    with loaded_frames(standard(lab, 9000, 9000), via=via) as frames:
        sent = 0
        for size in range(3300, 3600):      # the first buffer: what a page has left of 256 bytes before and some 320 behind
            for way, packet in ('6to4', p6(l4(PROTO_UDP, udp_header(DATA[:1] * size), H6, S6))), \
                    ('4to6', p4(l4(PROTO_UDP, udp_header(DATA[:1] * size), S4, H4), frag=0x4000)):
                if not sent:
                    assert frames.check(way, packet) == XDP_REDIRECT
                verdict, out = frames.run(way, packet + bytes(8900 - len(packet)), tries=1)
                assert (verdict, out) == (XDP_PASS, frames.header[way] + packet.ljust(8900, b'\0'))
            sent += 1


def drops_of(frames, way, packets):
    """What the XDP program does with packets, and the drops that it counts."""
    before = frames.counted(way)[2]
    verdicts = [frames.run(way, packet, tries=1)[0] for packet in packets]
    return verdicts, {r: n - before.get(r, 0) for r, n in frames.counted(way)[2].items() if n != before.get(r, 0)}


def from_host(v6):
    return p6(l4(PROTO_UDP, udp_header(), v6, S6), src=v6)


STRANGERS = [from_host(f'2001:db8::{n:x}') for n in range(1, 200)]


def test_sources_that_are_not_allowed(net):
    """Dropped and counted; but one that is to be answered goes to the tc program, which answers it, as long as there are
    answers (--icmp-rate)."""
    with loaded_frames(net, '--icmp-rate', '0') as frames:
        assert drops_of(frames, '6to4', STRANGERS) == ([XDP_DROP] * 199, {'not-allowed': 199})
        illegal = [from_host(v6) for v6 in ('fe80::1', 'ff02::1', '::1', '64:ff9b::1')]
        assert drops_of(frames, '6to4', illegal) == ([XDP_DROP] * 4, {'src-illegal': 4})
        assert drops_of(frames, '6to4', [from_host('fc00:66::5')]) == ([XDP_PASS], {})
        for packet in *STRANGERS[:3], *illegal:
            assert frames.check('6to4', packet) == XDP_DROP
    with loaded_frames(net, '--icmp-rate', '1') as frames:
        assert drops_of(frames, '6to4', STRANGERS) == ([XDP_PASS] * 199, {})    # nobody has been answered yet
        for _ in range(10):             # each time there may be another one by then
            for packet in STRANGERS[:3]:
                frames.t.run64(packet)
            verdicts, drops = drops_of(frames, '6to4', STRANGERS[:3])
            if XDP_DROP in verdicts:
                break
        assert drops == {'not-allowed': verdicts.count(XDP_DROP)}


def test_a_full_pool(net):
    """A new host is dropped and counted while every address has a live mapping; its event is told once a second."""
    with loaded_frames(net, '--icmp-rate', '0') as frames:
        hosts = [from_host(f'fc00:66::{n:x}') for n in range(1, 256)]
        assert drops_of(frames, '6to4', hosts[:9]) == ([XDP_PASS] * 9, {})
        for packet in hosts:
            frames.t.run64(packet)
        assert len(frames.t.mappings()) == 254
        assert drops_of(frames, '6to4', [hosts[-1]] * 9) == ([XDP_DROP] * 9, {'pool-full': 9})
        assert frames.check('6to4', hosts[-1]) == XDP_DROP
        assert frames.check('6to4', hosts[0]) == XDP_REDIRECT
        monitor = Listener(frames.gw, '--monitor', '--json')
        frames.t.run64(hosts[-1])
        assert drops_of(frames, '6to4', [hosts[-1]] * 9) == ([XDP_DROP] * 9, {'pool-full': 9})
        time.sleep(1.1)
        assert drops_of(frames, '6to4', [hosts[-1]])[0] == [XDP_PASS]
        monitor.stop()


def test_static_mappings(net):
    """From host to host, of prefixes, and outside the pool; a mapping that was idle is the tc program's to renew."""
    static = {'fc00:66::a': '10.0.1.66', 'fc00:66:1::5': '10.0.1.85', 'fc00:66:2::9': '203.0.113.9'}
    with loaded_frames(net, '-s', 'fc00:66::a=10.0.1.66', '-s', 'fc00:66:1::/124=10.0.1.80/28', '-s',
                       'fc00:66:2::/120=203.0.113.0/24') as frames:
        frames.gw.route('fc00:66:1::/64', 'via', 'fc00:6::6')
        frames.gw.route('fc00:66:2::/64', 'via', 'fc00:6::6')
        for v6, v4 in static.items():
            assert frames.check('6to4', from_host(v6), p4(l4(PROTO_UDP, udp_header(), v4, S4), src=v4, dst=S4)) == XDP_REDIRECT
            assert frames.check('4to6', p4(l4(PROTO_UDP, udp_header(), S4, v4), dst=v4),
                                p6(l4(PROTO_UDP, udp_header(), S6, v6), src=S6, dst=v6)) == XDP_REDIRECT
        frames.t.run64(from_host('fc00:66::77'))
        assert frames.run('6to4', from_host('fc00:66::77'))[0] == XDP_REDIRECT
        time.sleep(1.2)
        assert frames.run('6to4', from_host('fc00:66::77'))[0] == XDP_PASS


@pytest.mark.parametrize('options', [('--tos', '0x28'), ('--tclass', '0x28'), ('--lowest-ipv6-mtu', '1400')], ids=' '.join)
def test_options(net, options):
    """The cases of test_rfc.py with an option; those with another NAT64 prefix are in the fuzz."""
    with loaded_frames(net, '--icmp-rate', '1000000', *options) as frames:
        for v6 in H6, B6:
            frames.t.run64(from_host(v6))
        for c in CASES.values():
            if c.options == options and is_frame(c.way, c.packet):
                frames.check(c.way, c.packet, c.want[0] if len(c.want) == 1 and isinstance(c.want[0], bytes) else None)
        packet = p4(l4(PROTO_UDP, udp_header(DATA[:1300]), S4, H4))
        assert frames.check('4to6', packet) == (XDP_REDIRECT if '1400' in options else XDP_PASS)
        assert frames.count[XDP_REDIRECT] >= (1 if '1400' in options else 5)
