# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel and network cards put off: segmentation, checksums, and headers where they are not expected.

Super-packets and unfinished checksums come from the hosts, whose veth devices take them as any good card does. What
has become of them is seen behind a router that has all offloads off, where each packet is as it would be on a wire."""

import collections
import contextlib
import ctypes
import errno
import itertools
import os
import platform
import random
import re
import socket
import struct
import time

import pytest

import bpf
import conftest
import fuzz
import generator
from lab import Lab, Wire, checksum, embed, patience, standard
from paths import H4, H6, Path, fetch, ping, serve, v4_of

WEB = embed(H4)
SOL_UDP, UDP_SEGMENT = 17, 103
SO_NO_CHECK, SO_RCVBUFFORCE = 11, 33
IP_MTU_DISCOVER, DONT, WANT = 10, 0, 1
TCP, UDP, FRAGMENT = 6, 17, 44
udp_gso = pytest.mark.skipif(tuple(map(int, re.findall(r'\d+', platform.release())[:2])) < (5, 14),
                             reason='before 5.14 the kernel refuses to translate UDP super-packets')


@pytest.fixture(scope='module')
def long_path():
    with Lab() as lab:
        conftest.OPEN.append(lab)
        path = Path(lab)
        for host, ifname in (path.r6b, 'left'), (path.r4a, 'right'):
            host.run('ethtool', '-K', ifname, 'tx', 'off', 'tso', 'off', 'gso', 'off', 'tx-udp-segmentation', 'off')
        yield path.load()
    conftest.OPEN.remove(lab)


@pytest.fixture
def path(long_path):
    yield long_path
    long_path.forget()


@pytest.fixture(scope='module')
def big(tmp_path_factory):
    path = tmp_path_factory.mktemp('site') / 'big'
    path.write_bytes(os.urandom(int(os.environ.get('NAT64_TEST_BYTES', 3 << 20))))
    return path


def facts(packet):
    """(source, destination, protocol, transport, is a fragment) of an IP packet without link padding."""
    if packet[0] >> 4 == 4:
        head = (packet[0] & 15) * 4
        end, frag = struct.unpack_from('!H2xH', packet, 2)
        assert checksum(packet[:head]) == 0, 'IPv4 header checksum'
        return packet[12:16], packet[16:20], packet[9], packet[head:end], bool(frag & 0x3fff)
    end = 40 + struct.unpack_from('!H', packet, 4)[0]
    if packet[6] == FRAGMENT:
        return packet[8:24], packet[24:40], packet[40], packet[48:end], True
    return packet[8:24], packet[24:40], packet[6], packet[40:end], False


def transport_checksum(src, dst, proto, segment):
    """0 if the checksum is right."""
    if len(src) == 4:
        return checksum(src + dst + struct.pack('!HH', proto, len(segment)) + segment)
    return checksum(src + dst + struct.pack('!II', len(segment), proto) + segment)


def reassembled(packets):
    """The transport parts of fragments of one IPv6 packet, put together."""
    parts = {}
    for p in packets:
        off = struct.unpack_from('!H', p, 42)[0]
        parts[off & ~7] = facts(p)[3], off & 1
    out = b''
    for off in sorted(parts):
        data, more = parts[off]
        assert off == len(out) and bool(more) == (off != max(parts))
        out += data
    return out


@contextlib.contextmanager
def tap(host, ifname, proto, matches=lambda segment: True):
    """The IP packets of one protocol that come in on an interface while the block runs, in a list, the checksum of each
    looked at."""
    wire, out = Wire(host, ifname), []
    try:
        yield out
        while packet := wire.read(patience(0.2)):
            src, dst, p, segment, fragment = facts(packet)
            if p != proto or not matches(segment):
                continue
            assert fragment or transport_checksum(src, dst, p, segment) == 0, f'checksum of {packet.hex()}'
            out.append(packet)
    finally:
        wire.close()


def way_of(path, way):
    """(sender, receiver, the receiver's address as the sender writes it, where the packets are seen)."""
    if way == '4to6':
        return path.h4, path.h6, path.pool_address, (path.r6a, 'right')
    return path.h6, path.h4, WEB, (path.r4b, 'left')


@contextlib.contextmanager
def translated(path, way):
    """[packets, bytes] that the translator translates while the block runs."""
    out = []
    with bpf.Translator(path.gw, 'left') as t:
        before = t.stats()
        yield out
        after = t.stats()
    index = ['6to4', '4to6'].index(way)
    assert after['drops'] == before['drops']
    out += [after[what][index] - before[what][index] for what in ('packets', 'bytes')]


# ---- TCP

def transfer(path, big, way, mss=None):
    """A file over TCP whose receiver takes segments of at most mss: (the packets that carried it on the far side, the
    packets and bytes of counters of the translator)."""
    sender, receiver, _, tapped = way_of(path, way)
    back = WEB if receiver is path.h6 else path.pool_address
    change = ['-6' if ':' in back else '-4', 'route', 'change', 'default', 'via',
              'fc00:6::1' if ':' in back else '192.0.2.1']
    if mss:
        receiver.ip(*change, 'advmss', mss)
    p = serve(sender, big.parent, '::' if sender is path.h6 else H4)
    with tap(*tapped, TCP, lambda segment: segment[:2] == b'\0\x50') as seen, translated(path, way) as counted:
        fetch(receiver, f'[{back}]' if ':' in back else back, big)
    path.lab.end(p)
    receiver.ip(*change)
    return seen, counted


@pytest.mark.parametrize('way', ['6to4', '4to6'])
@pytest.mark.parametrize('mss', [None, 536])
def test_tcp_segments(path, big, way, mss):
    """Super-packets go through the translator; their segments are as large as the connection agreed, no more, no less:
    1500 bytes of IPv6, 1480 of IPv4."""
    longest = mss + (60 if way == '4to6' else 40) if mss else 1500 if way == '4to6' else 1480
    seen, counted = transfer(path, big, way, mss)
    sizes = collections.Counter(len(packet) for packet in seen)
    assert counted[1] / counted[0] > 2 * longest, f'no super-packets: {counted}'
    assert max(sizes) == longest and sizes[longest] > 0.9 * sum(sizes.values()), sizes


@pytest.mark.parametrize('longest', [1260, 1261])
def test_df_of_tcp_segments(path, big, longest):
    """RFC 7915 section 5.1: DF=0 up to 1260 bytes, which is the length of a segment and not of its super-packet. (The same
    as test_rfc.py::test_df_of_segments, on kernels too where that one cannot run.)"""
    seen, counted = transfer(path, big, '6to4', longest - 40)
    assert counted[1] / counted[0] > 2 * longest, f'no super-packets: {counted}'
    flags = {packet[6] & 0x40 for packet in seen if len(packet) == longest}
    assert flags == {0x40 if longest > 1260 else 0}


def test_tcp_segments_of_df0(path, big):
    """A server that does not discover the path MTU, and super-packets of its DF=0 segments: a smaller IPv6 link in the
    middle must not stop them, since it is the translator that fragments for it (RFC 7915 section 4.1)."""
    path.left_of('r6b', 1280)
    path.h4.sysctl('net.ipv4.ip_no_pmtu_disc', 1)
    path.h4.nft('add table ip f; add chain ip f in { type filter hook input priority 0; };'
                'add rule ip f in icmp type destination-unreachable counter drop')     # it would not look at it anyway
    p = serve(path.h4, big.parent, H4)
    fetch(path.h6, f'[{WEB}]', big, timeout=10)
    path.lab.end(p)
    path.h4.nft('delete table ip f')
    path.h4.sysctl('net.ipv4.ip_no_pmtu_disc', 0)


# ---- UDP

@contextlib.contextmanager
def sockets(path, way, discover=WANT):
    """(sending socket connected to the other host, receiving socket)."""
    with path.h6:
        s6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with path.h4:
        s4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with s6, s4:
        for s, mine, other in (s6, H6, WEB), (s4, H4, path.pool_address):
            s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
            s.settimeout(patience(5))
            s.bind((mine, 7000))
            s.connect((other, 7000))
        s4.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
        yield (s6, s4) if way == '6to4' else (s4, s6)


def is_7000(segment):
    return segment[:4] == struct.pack('!HH', 7000, 7000)


SEGMENT_SIZES = [(1000, 20300), (1232, 24640), (100, 6399), (1400, 42001)]


@udp_gso
@pytest.mark.parametrize('way', ['6to4', '4to6'])
@pytest.mark.parametrize('size, total', SEGMENT_SIZES)
def test_udp_segments(path, way, size, total):
    """One send call, one packet through the translator, many datagrams on the wire."""
    data = os.urandom(total)
    with sockets(path, way) as (tx, rx):
        tx.setsockopt(SOL_UDP, UDP_SEGMENT, size)
        with tap(*way_of(path, way)[3], UDP, is_7000) as seen, translated(path, way) as counted:
            tx.send(data)
            got = [rx.recv(1 << 16) for _ in range(-(-total // size))]
    assert got == [data[at:at + size] for at in range(0, total, size)]
    assert [facts(packet)[3][8:] for packet in seen] == got
    assert counted[0] == 1


@udp_gso
@pytest.mark.parametrize('options', [['gro', 'on', 'rx-udp-gro-forwarding', 'on'], ['gro', 'on', 'rx-gro-list', 'on']],
                         ids=' '.join)
@pytest.mark.parametrize('way', ['6to4', '4to6'])
def test_udp_that_the_gateway_put_together(path, way, options):
    """GRO on the translator's machine, as one packet with the payload of many, or as a list of packets."""
    wrong = collections.Counter()
    for ifname in 'left', 'right':
        path.gw.run('ethtool', '-K', ifname, *options)
    with sockets(path, way) as (tx, rx), translated(path, way) as counted:
        tx.setsockopt(SOL_UDP, UDP_SEGMENT, 1200)
        for _ in range(8):
            data = os.urandom(24000)
            with tap(*way_of(path, way)[3], UDP, is_7000) as seen:
                tx.send(data)
                rx.settimeout(patience(1))
                got = []
                with contextlib.suppress(TimeoutError):
                    got = [rx.recv(1 << 16) for _ in range(20)]
            wrong['lost'] += got != [data[at:at + 1200] for at in range(0, 24000, 1200)]
            wrong['other'] += [facts(packet)[3][8:] for packet in seen] != got
    for ifname in 'left', 'right':
        path.gw.run('ethtool', '-K', ifname, *['off' if word == 'on' else word for word in options])
    assert not +wrong, wrong
    assert counted[0] < 80, 'GRO put nothing together'


@pytest.mark.parametrize('options', [['gro', 'on'], ['gro', 'on', 'rx-gro-list', 'on']], ids=' '.join)
@pytest.mark.parametrize('way', ['6to4', '4to6'])
def test_tcp_that_the_gateway_put_together(path, big, way, options):
    sender, receiver, _, tapped = way_of(path, way)
    back = WEB if receiver is path.h6 else path.pool_address
    for ifname in 'left', 'right':
        path.gw.run('ethtool', '-K', ifname, *options)
    p = serve(sender, big.parent, '::' if sender is path.h6 else H4)
    with tap(*tapped, TCP, lambda segment: segment[:2] == b'\0\x50') as seen, translated(path, way) as counted:
        fetch(receiver, f'[{back}]' if ':' in back else back, big)
    path.lab.end(p)
    for ifname in 'left', 'right':
        path.gw.run('ethtool', '-K', ifname, *['off' if word == 'on' else word for word in options])
    sizes = collections.Counter(len(packet) for packet in seen)
    longest = 1500 if way == '4to6' else 1480
    assert max(sizes) == longest and sizes[longest] > 0.8 * sum(sizes.values()), sizes
    assert counted[1] / counted[0] > 2 * longest, f'GRO put nothing together: {counted}'


@pytest.mark.parametrize('size', [1233, 1300, 1400, 1452, 2000, 8000, 60000])
def test_unfinished_checksum_of_what_is_cut(path, size):
    """The sender leaves the checksum to a card that will never see the whole packet."""
    data = os.urandom(size)
    with sockets(path, '4to6', DONT) as (tx, rx), tap(path.r6a, 'right', UDP) as seen:
        tx.send(data)
        assert rx.recv(1 << 16) == data
    assert len(seen) > 1 and max(map(len, seen)) <= 1280
    src, dst, proto, _, _ = facts(seen[0])
    segment = reassembled(seen)
    assert segment[8:] == data
    assert transport_checksum(src, dst, proto, segment) == 0


def test_no_checksum(lab):
    """UDP over IPv4 without a checksum, in packets of all lengths, also such that are scattered over many pages."""
    h6, gw, h4 = standard(lab, mtu=65535, mtu4=65535)
    gw.load()
    ping(h6, WEB)
    with h6:
        rx = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with h4:
        tx = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with tx, rx:
        rx.bind((H6, 7000))
        rx.settimeout(patience(5))
        tx.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        tx.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, WANT)
        tx.connect((v4_of(gw, H6, 'eth0'), 7000))
        for size in 0, 1, 2, 3, 511, 512, 513, 1200, 4095, 8191, 30001, 65000, 65467:
            data = os.urandom(size)
            tx.send(data)
            assert rx.recv(1 << 16) == data, f'{size} bytes'


# ---- where the bytes are, and what the kernel has added up already

def send(wire, frame):
    """Again, if a CPU's queue is full of other tests' packets."""
    for attempt in range(50):
        try:
            return wire.send(frame)
        except OSError as e:
            if e.errno != errno.ENOBUFS or attempt == 49:
                raise
            time.sleep(0.1)


def test_headers_outside_the_linear_part(lab):
    """A packet socket puts all of a packet over a page, but the Ethernet header, outside the linear part."""
    h6, gw, h4 = standard(lab, mtu=9000, mtu4=9000)
    gw.load()
    ping(h6, WEB)
    address = socket.inet_aton(v4_of(gw, H6, 'eth0'))
    v6, v4, web = socket.inet_pton(socket.AF_INET6, H6), socket.inet_aton(H4), socket.inet_pton(socket.AF_INET6, WEB)
    w6, w4 = Wire(h6), Wire(h4)
    for host in h6, h4:                 # nobody is there to receive it
        host.nft('add table inet f; add chain inet f in { type filter hook input priority 0; };'
                 'add rule inet f in udp dport 7000 drop')
    options = bytes([60, 1, 1, 12]) + bytes(12), bytes([FRAGMENT, 0, 1, 4, 0, 0, 0, 0]), struct.pack('!BBHI', UDP, 0, 0, 7)

    def udp(src, dst, size):
        data = struct.pack('!HHHH', 7000, 7000, 8 + size, 0) + os.urandom(size)
        return data[:6] + struct.pack('!H', transport_checksum(src, dst, UDP, data) or 0xffff) + data[8:]

    for size, extra in itertools.product([4200, 8000], [b'', b''.join(options)]):
        u = udp(v6, web, size)
        header = struct.pack('!IHBB', 6 << 28, len(u) + len(extra), 0 if extra else UDP, 64) + v6 + web + extra
        send(w6, bytes.fromhex(gw.mac('eth0').replace(':', '')) + w6.mac + b'\x86\xdd' + header + u)
        src, dst, proto, segment, fragment = facts(w4.read(patience(5)))
        assert (src, dst, proto, fragment) == (address, v4, UDP, False)
        assert segment[8:] == u[8:] and transport_checksum(src, dst, proto, segment) == 0

        u = udp(v4, address, size)
        header = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(u), 1, 0x4000, 64, UDP, 0) + v4 + address
        header = header[:10] + struct.pack('!H', checksum(header)) + header[12:]
        send(w4, bytes.fromhex(gw.mac('eth1').replace(':', '')) + w4.mac + b'\x08\0' + header + u)
        src, dst, proto, segment, fragment = facts(w6.read(patience(5)))
        assert (src, dst, proto, fragment) == (web, v6, UDP, False)
        assert segment[8:] == u[8:] and transport_checksum(src, dst, proto, segment) == 0
    w6.close()
    w4.close()


BPF_F_TEST_SKB_CHECKSUM_COMPLETE = 4


def run_complete(prog, frame, ifindex):
    """BPF_PROG_TEST_RUN with CHECKSUM_COMPLETE: False if the packet's sum is not what its bytes add up to afterwards."""
    ctx, out = bytearray(192), ctypes.create_string_buffer(1 << 16)
    struct.pack_into('=I', ctx, 40, ifindex)
    c, d = (ctypes.c_char * len(ctx)).from_buffer(ctx), ctypes.create_string_buffer(frame, len(frame))
    attr = bytearray(struct.pack('=IIIIQQIIIIQQIII', prog.fd, 0, len(frame), len(out), bpf.addr(d), bpf.addr(out), 1, 0,
                                 len(ctx), 0, bpf.addr(c), 0, BPF_F_TEST_SKB_CHECKSUM_COMPLETE, 0, 0))
    try:
        bpf.bpf(bpf.TEST_RUN, attr)
    except OSError as e:
        if e.errno == errno.EINVAL:
            pytest.skip(f'{platform.release()} cannot pretend CHECKSUM_COMPLETE')
        if e.errno != errno.EBADMSG:
            raise
        return False
    return True


def is_cut(packet, out):
    """Has the packet lost its end? Then the kernel gives the sum up, which is fine, but BPF_PROG_TEST_RUN goes on comparing:
    pieces of a packet, ICMP errors that became too long, had extensions or link padding."""
    if fuzz.trim(packet) != packet:
        return True
    if packet[0] >> 4 == 4:
        head = (packet[0] & 15) * 4
        fragment = bool(packet[6] & 0x3f or packet[7])
        return out[6] == FRAGMENT and (not fragment or len(out) - 48 < len(packet) - head) or \
            packet[9] == 1 and packet[head] in (3, 4, 5, 11, 12) and (len(out) == 1280 or packet[head + 5])
    return out[9] == 1 and out[20] in (3, 11, 12) and (len(out) == 576 or out[25] or len(out) < len(packet) - 40)


@pytest.mark.parametrize('options', [{}, {'lowest_ipv6_mtu': 1500}], ids=str)
@pytest.mark.parametrize('way', generator.WAYS)
def test_sum_of_the_whole_packet(lab, way, options):
    """A card that has added up the packet: what we change must reach that sum, else the packet is thrown away by
    whoever looks at it next. Random packets of all kinds; the kernel compares."""
    rng = random.Random(seed := random.randrange(1 << 32))
    done = 0
    with contextlib.closing(fuzz.Fuzz(lab, options, [x for k, v in options.items()
                                                     for x in ('--' + k.replace('_', '-'), v)])) as f:
        eth, prog = (f.t.ETH6, f.t.to4) if way == '6to4' else (f.t.ETH4, f.t.to6)
        for packet in itertools.islice(generator.packets(f.cfg, rng, way, fuzz.MAX_LEN), 3000):
            if len(packet) < (40 if way == '6to4' else 20):
                continue
            with f.gw:
                ok = run_complete(prog, eth + packet, f.t.ifindex)
            verdict, out, _ = f.run(way, packet)
            while f.wire.read(0):
                pass
            done += verdict == 'translated'
            assert ok or verdict == 'drop' or is_cut(packet, out[0]), \
                f'seed {seed}: the sum is wrong after {packet.hex()} became {out[0].hex()}'
    assert done > 300
