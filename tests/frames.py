# SPDX-License-Identifier: GPL-2.0-or-later
"""Single frames through the XDP programs (BPF_PROG_TEST_RUN), compared with what the tc programs do with the same packet."""

import struct

import bpf
from bpf import TC_ACT_SHOT, XDP_DROP, XDP_PASS, XDP_REDIRECT, Prog, xdp_hold, xdp_program
from lab import checksum, patience


def take_frames(*hosts):
    """A veth takes frames from XDP if its peer has GRO; on older kernels, if that has an XDP program, whatever that does.
    Returns descriptors to be held."""
    for host in hosts:
        host.run('ethtool', '-K', 'eth0', 'gro', 'on')
    return [xdp_hold(host, 'eth0') for host in hosts] if bpf.KERNEL < (5, 13) else []


def known_hops(h6, gw, h4):
    """All IPv4 hosts are behind h4, and the kernel need not ask for its MAC address, nor for that of h6."""
    for host, address, ifname in (h6, 'fc00:6::6', 'eth0'), (h4, '192.0.2.2', 'eth1'):
        gw.ip('neigh', 'replace', address, 'lladdr', host.mac('eth0'), 'dev', ifname)
    gw.ip('route', 'replace', 'default', 'via', '192.0.2.2')


def older(packet):
    """The same packet one hop later, with the header checksum that belongs to it; the identification of IPv4 is left out of
    what is whole and may be fragmented, for it is any."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes((packet[7] - 1,)) + packet[8:]
    ident = packet[4:6] if packet[6:8] != b'\0\0' else b'\0\0'
    header = packet[:4] + ident + packet[6:8] + bytes((packet[8] - 1,)) + packet[9:10] + b'\0\0' + packet[12:20]
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + packet[20:]


def trim(packet):
    """Without link padding."""
    return packet[:struct.unpack_from('!H', packet, 2)[0] if packet[0] >> 4 == 4 else
                  40 + struct.unpack_from('!H', packet, 4)[0]]


def anonymous(packet):
    """An IPv4 packet without its identification, if that is any; the header checksum must be right."""
    if packet[0] >> 4 == 6 or packet[6:8] != b'\0\0':
        return packet
    assert checksum(packet[:20]) == 0, 'wrong IPv4 header checksum: ' + packet.hex()
    header = packet[:4] + b'\0\0' + packet[6:10] + b'\0\0' + packet[12:20]
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + packet[20:]


def is_frame(way, packet):
    """Has it an IP header? BPF_PROG_TEST_RUN takes no less."""
    return len(packet) >= (40 if way == '6to4' else 20)


def is_plain(way, packet):
    """TCP and UDP, whole, with nothing between the headers, and a hop to spare: what may be sent by XDP, if it fits."""
    if way == '6to4':
        return len(packet) == 40 + struct.unpack_from('!H', packet, 4)[0] and packet[6] in (6, 17) and packet[7] > 1
    if len(packet) < 28:
        return False
    length, frag = struct.unpack_from('!HxxH', packet, 2)
    return packet[0] == 0x45 and packet[9] in (6, 17) and packet[8] > 1 and not frag & 0x3fff and \
        (packet[9] == 6 or packet[26:28] != b'\0\0') and length + 20 <= (1500 if frag & 0x4000 else 1280)


class Frames:
    """The two programs, on eth0 and eth1 of the gateway whose translator is t."""

    def __init__(self, h6, gw, h4, t):
        self.gw, self.t = gw, t
        self.prog = {way: Prog(xdp_program(gw, ifname)[1]) for way, ifname in (('6to4', 'eth0'), ('4to6', 'eth1'))}
        mac = {name: bytes.fromhex(host.mac(ifname).replace(':', '')) for name, host, ifname in
               (('h6', h6, 'eth0'), ('gw6', gw, 'eth0'), ('gw4', gw, 'eth1'), ('h4', h4, 'eth0'))}
        self.header = {'6to4': mac['gw6'] + mac['h6'] + b'\x86\xdd', '4to6': mac['gw4'] + mac['h4'] + b'\x08\x00'}
        self.sent = {'6to4': mac['h4'] + mac['gw4'] + b'\x08\x00', '4to6': mac['h6'] + mac['gw6'] + b'\x86\xdd'}
        self.by_tc = {'6to4': t.run64, '4to6': t.run46}
        self.count = dict.fromkeys((XDP_DROP, XDP_PASS, XDP_REDIRECT), 0)

    def close(self):
        for prog in self.prog.values():
            prog.close()

    def run(self, way, packet, header=None, tries=3):
        """(verdict, frame afterwards) of the XDP program; by the third time the next hops are known."""
        for _ in range(tries):
            with self.gw:
                verdict, out = self.prog[way].run_xdp((header or self.header[way]) + packet)
            if verdict != XDP_PASS:
                break
        return verdict, out

    def counted(self, way):
        """(packets, bytes, {reason: drops})"""
        n, stats = 0 if way == '6to4' else 1, self.t.stats()
        return stats['packets'][n], stats['bytes'][n], stats['drops'][n]

    def at_tc(self, way, packet):
        """What the tc program does with it: (action, packet, reasons)."""
        before = self.counted(way)[2]
        act, out = self.by_tc[way](packet)
        return act, out, [r for r, n in self.counted(way)[2].items() if n != before.get(r, 0)]

    def check(self, way, packet, want=None, tc=None):
        """What is sent is what tc sends, one hop later; what is dropped, tc drops for the same reason; what passes is as it came,
        and counted by nobody. want: the packet that it becomes by the RFC. tc: what the tc program has done with it just now, as
        at_tc(), which makes the mapping and finds the next hop. Returns the verdict."""
        for _ in range(1 if tc or not is_plain(way, packet) else 4):    # what is remembered may have become too old since
            seen = tc or self.at_tc(way, packet)
            before = self.counted(way)
            verdict, out = self.run(way, packet, tries=3 if is_plain(way, packet) else 1)
            after = self.counted(way)
            if verdict != XDP_PASS:
                break
        drops = {r: n - before[2].get(r, 0) for r, n in after[2].items() if n != before[2].get(r, 0)}
        if verdict == XDP_REDIRECT:
            assert seen[0] != TC_ACT_SHOT and not seen[2] and not drops, f'sent, tc: {seen[0]} {seen[2]}'
            length = struct.unpack_from('!H', packet, 4 if way == '6to4' else 2)[0] + (40 if way == '6to4' else 0)
            assert (after[0] - before[0], after[1] - before[1]) == (1, length)
            assert out[:14] == self.sent[way] and len(out) == 14 + len(trim(out[14:]))
            for whole in seen[1], want:
                assert whole is None or anonymous(out[14:]).hex() == older(trim(whole)).hex()
        elif verdict == XDP_DROP:
            assert after[:2] == before[:2] and drops == {seen[2][0]: 1}, f'dropped {drops}, tc: {seen[2]}'
        else:
            assert verdict == XDP_PASS and out == self.header[way] + packet and after == before
        self.count[verdict] += 1
        return verdict


def arrives(far, near, frame, many=1):
    """Sends a frame, and waits for so many IP packets on the far side (or as an answer, on the near one). What goes by the stack
    may be overtaken by what XDP sends: so no packet behind it tells that nothing comes any more, as Crossing has it."""
    while far.read(0.1):
        pass
    near.send(frame)
    out = [far.read(patience(5)) for _ in range(many)]
    assert None not in out, 'nothing came'
    return out
