# SPDX-License-Identifier: GPL-2.0-or-later
"""bpf(2) by ctypes: find the translator of an interface, run its programs on a packet, read its maps."""

import collections
import contextlib
import ctypes
import errno
import ipaddress
import json
import os
import platform
import re
import resource
import socket
import struct
import sys

KERNEL = tuple(int(n) for n in os.uname().release.split('.')[:2])
NR_BPF = {'x86_64': 321, 'aarch64': 280, 'riscv64': 280, 'armv7l': 386, 'ppc64le': 361, 's390x': 351}
MAP_LOOKUP, MAP_NEXT_KEY, PROG_LOAD, PROG_ATTACH, PROG_DETACH, TEST_RUN, PROG_FD_BY_ID, MAP_FD_BY_ID, OBJ_INFO, PROG_QUERY, \
    LINK_CREATE = 1, 4, 5, 8, 9, 10, 13, 14, 15, 16, 28
TCX = {'ingress': 46, 'egress': 47}        # enum bpf_attach_type

TC_ACT_UNSPEC, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_REDIRECT = -1, 0, 2, 7
XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
XDP_DRIVER, XDP_GENERIC = 1, 2             # XDP_ATTACHED_* of linux/if_link.h
MAPPING = struct.Struct('=II16sQQQQQ')     # struct nat64_mapping
HEADER = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'nat64.h')
libc = ctypes.CDLL(None, use_errno=True)


def drop_table():
    """The NAT64_DROPS of nat64.h as [(name, text)], in its order."""
    with open(HEADER, encoding='utf-8') as f:
        body = re.search(r'#define NAT64_DROPS\(X\)(.*?)\n\n', f.read(), re.S).group(1)
    table = re.findall(r'X\((\w+),\s*"([^"]+)",\s*"([^"]+)"\)', body)
    assert len(table) == body.count('X('), 'nat64.h: a drop reason in a form that this does not parse'
    return [(name, text) for _, name, text in table]


DROPS = [name for name, _ in drop_table()]


def bpf(cmd, attr):
    """One bpf(2) call; attr is a bytearray that the kernel may write to. Raises OSError."""
    buf = (ctypes.c_char * len(attr)).from_buffer(attr)
    ret = libc.syscall(NR_BPF[platform.machine()], cmd, buf, len(attr))
    if ret < 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))
    return ret


def addr(buf):
    return ctypes.addressof(buf)


def by_id(cmd, ident):
    return bpf(cmd, bytearray(struct.pack('=III', ident, 0, 0)))


def exists(kind, ident):
    try:
        os.close(by_id({'prog': PROG_FD_BY_ID, 'map': MAP_FD_BY_ID}[kind], ident))
        return True
    except OSError as e:
        if e.errno != errno.ENOENT:
            raise
        return False


def info(fd, size=256, **pointers):
    """The first bytes of bpf_prog_info or bpf_map_info; pointers: offset of a u64 field -> buffer."""
    out = ctypes.create_string_buffer(size)
    for offset, buf in pointers.items():
        struct.pack_into('=Q', out, int(offset[1:]), addr(buf))
        struct.pack_into('=I', out, int(offset[1:]) - 4, len(buf) // 4)
    bpf(OBJ_INFO, bytearray(struct.pack('=IIQ', fd, size, addr(out))))
    return out.raw


def prog_maps(fd):
    """The map ids of a program: nr_map_ids at 52, map_ids at 56 of struct bpf_prog_info."""
    ids = ctypes.create_string_buffer(4 * 64)
    raw = info(fd, o56=ids)
    return struct.unpack_from('=%dI' % struct.unpack_from('=I', raw, 52), ids.raw)


def cstr(raw):
    return raw.split(b'\0')[0].decode()


class Map:
    """A map by its id. Per-CPU values are given as a list of values."""

    def __init__(self, ident):
        self.id, self.fd = ident, by_id(MAP_FD_BY_ID, ident)
        self.type, _, self.key_size, self.value_size, self.max_entries, self.flags = \
            struct.unpack_from('=6I', raw := info(self.fd))
        self.name = cstr(raw[24:40])
        self.percpu = self.type in (5, 6, 10)
        self.cpus = 1
        if self.percpu:
            with open('/sys/devices/system/cpu/possible', encoding='ascii') as f:
                self.cpus = int(re.split('[-,]', f.read().strip())[-1]) + 1

    def close(self):
        os.close(self.fd)

    def lookup(self, key):
        size = (self.value_size + 7) // 8 * 8 if self.percpu else self.value_size
        k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size * self.cpus)
        try:
            bpf(MAP_LOOKUP, bytearray(struct.pack('=IIQQQ', self.fd, 0, addr(k), addr(v), 0)))
        except OSError as e:
            if e.errno == errno.ENOENT:
                return None
            raise
        values = [v.raw[i * size:i * size + self.value_size] for i in range(self.cpus)]
        return values if self.percpu else values[0]

    def keys(self):
        key, out = None, []
        while True:
            k = ctypes.create_string_buffer(key, self.key_size) if key is not None else None
            n = ctypes.create_string_buffer(self.key_size)
            try:
                bpf(MAP_NEXT_KEY, bytearray(struct.pack('=IIQQQ', self.fd, 0, addr(k) if k else 0, addr(n), 0)))
            except OSError as e:
                if e.errno == errno.ENOENT:
                    return out
                raise
            key = n.raw
            out.append(key)


class Prog:
    """A tc program by its id, to be run with BPF_PROG_TEST_RUN."""

    def __init__(self, ident):
        self.id, self.fd = ident, by_id(PROG_FD_BY_ID, ident)
        raw = info(self.fd)
        self.name, self.tag, self.map_ids = cstr(raw[64:80]), raw[8:16], prog_maps(self.fd)
        self.out = ctypes.create_string_buffer(1 << 16)

    def close(self):
        os.close(self.fd)

    def run(self, frame, ifindex, flags=0, **skb):
        """Run on one Ethernet frame as if it were on the device ifindex of this thread's network namespace.
        flags: BPF_F_TEST_*. skb: mark, gso_size, gso_segs, wire_len of struct __sk_buff.
        Returns (verdict, frame afterwards)."""
        ctx = bytearray(192)
        offsets = {'mark': 8, 'priority': 32, 'ifindex': 40, 'wire_len': 160, 'gso_segs': 164, 'gso_size': 176}
        for name, value in dict(skb, ifindex=ifindex).items():
            struct.pack_into('=I', ctx, offsets[name], value)
        c = (ctypes.c_char * len(ctx)).from_buffer(ctx)
        d = ctypes.create_string_buffer(frame, len(frame))
        attr = bytearray(struct.pack('=IIIIQQIIIIQQIII', self.fd, 0, len(frame), len(self.out), addr(d),
                                     addr(self.out), 1, 0, len(ctx), 0, addr(c), 0, flags, 0, 0))
        bpf(TEST_RUN, attr)
        retval, _, size = struct.unpack_from('=III', attr, 4)
        return ctypes.c_int32(retval).value, self.out[:size]


    def run_xdp(self, frame):
        """The same of an XDP program, in this thread's network namespace."""
        d = ctypes.create_string_buffer(frame, len(frame))
        attr = bytearray(struct.pack('=IIIIQQIIIIQQIII', self.fd, 0, len(frame), len(self.out), addr(d), addr(self.out), 1,
                                     0, 0, 0, 0, 0, 0, 0, 0))
        bpf(TEST_RUN, attr)
        retval, _, size = struct.unpack_from('=III', attr, 4)
        return retval, self.out[:size]


Mapping = collections.namedtuple('Mapping', 'v4 v6 last_seen created flags')


def tcx_query(ifindex, way):
    """Ids of the programs attached by tcx, in their order, on an interface of this thread's network namespace."""
    ids = ctypes.create_string_buffer(4 * 64)
    attr = bytearray(struct.pack('=IIIIQIIQQQQ', ifindex, TCX[way], 0, 0, addr(ids), 64, 0, 0, 0, 0, 0))
    try:
        bpf(PROG_QUERY, attr)
    except OSError as e:
        if e.errno == errno.EINVAL:     # before Linux 6.6
            return []
        raise
    return struct.unpack_from('=%dI' % struct.unpack_from('=I', attr, 24), ids.raw)


def tcx_attach(host, ifname, way, fd, before=None):
    """Attach a program by tcx, behind the others or before the one of an id."""
    with host:
        flags, ident = (1 << 3 | 1 << 5, before) if before else (0, 0)      # BPF_F_BEFORE | BPF_F_ID
        bpf(PROG_ATTACH, bytearray(struct.pack('=IIIIIIQ', libc.if_nametoindex(ifname.encode()), fd, TCX[way], flags, 0,
                                               ident, 0)))


def tcx_detach(host, ifname, way, ident):
    fd = by_id(PROG_FD_BY_ID, ident)
    with host:
        bpf(PROG_DETACH, bytearray(struct.pack('=IIIIIIQ', libc.if_nametoindex(ifname.encode()), fd, TCX[way], 0, 0, 0,
                                               0)))
    os.close(fd)


def has_tcx():
    """Does this kernel know tcx?"""
    try:
        bpf(PROG_QUERY, bytearray(struct.pack('=IIIIQIIQQQQ', 1, TCX['ingress'], *[0] * 9)))
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        return False
    return True


def prog_load(*instructions, name='foreign', kind=3):
    """A descriptor of a tc program of these instructions."""
    with contextlib.suppress(ValueError):       # before 5.11 programs count as locked memory
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    code = ctypes.create_string_buffer(b''.join(instructions), 8 * len(instructions))
    licence = ctypes.create_string_buffer(b'GPL')
    return bpf(PROG_LOAD, bytearray(struct.pack('=IIQQIIQII16sII', kind, len(instructions), addr(code), addr(licence), 0,
                                                0, 0, 0, 0, name.encode(), 0, 0)))


def mov(register, value):
    """r = value, as BPF instruction; which half of a byte has the register is a matter of byte order"""
    return struct.pack('=BBhi', 0xb7, register << 4 if sys.byteorder == 'big' else register, 0, value)


def call(helper):
    """r0 = helper(r1, r2, ..)"""
    return struct.pack('=BBhi', 0x85, 0, 0, helper)


EXIT = struct.pack('=BBhi', 0x95, 0, 0, 0)


def change_proto(frame, proto, **skb):
    """What bpf_skb_change_proto() answers in BPF_PROG_TEST_RUN when asked to make this frame one of another protocol: 0
    or a negative error. For what a kernel refuses to any program; skb as in Prog.run()."""
    fd = prog_load(mov(2, socket.htons(proto)), mov(3, 0), call(31), EXIT)
    prog = Prog(struct.unpack_from('=I', info(fd), 4)[0])
    os.close(fd)
    answer, _ = prog.run(frame, 0, **skb)
    prog.close()
    return answer


def prog_name(ident):
    fd = by_id(PROG_FD_BY_ID, ident)
    name = cstr(info(fd)[64:80])
    os.close(fd)
    return name


def tcx_programs(host, ifname, way):
    """[(program name, id)] of what is attached to a hook by tcx, in the order of the packets' way."""
    with host:
        return [(prog_name(i), i) for i in tcx_query(libc.if_nametoindex(ifname.encode()), way)]


def xdp_program(host, ifname):
    """(program name, id, how it is attached) of an interface's XDP program, or None."""
    link = json.loads(host.run('ip', '-j', '-d', 'link', 'show', 'dev', ifname).stdout)[0]
    return (link['xdp']['prog']['name'], link['xdp']['prog']['id'], link['xdp']['mode']) if 'xdp' in link else None


def xdp_hold(host, ifname, name='foreign', verdict=XDP_PASS, generic=False):
    """Attaches an XDP program that does the same with each frame; it is there as long as the descriptor that this returns."""
    fd = prog_load(mov(0, verdict), EXIT, name=name, kind=6)
    with host:
        held = bpf(LINK_CREATE, bytearray(struct.pack('=IIII', fd, libc.if_nametoindex(ifname.encode()), 37,
                                                      2 if generic else 4)))       # BPF_XDP, XDP_FLAGS_*_MODE
    os.close(fd)
    return held


def tc_programs(host, ifname):
    """{program name: ids} of the BPF programs on an interface's tc hooks, whether attached by tcx or as filters."""
    found = {}
    for way in TCX:
        for name, ident in tcx_programs(host, ifname, way):
            found.setdefault(name, []).append(ident)
    for way in 'ingress', 'egress':
        text = host.run('tc', '-j', 'filter', 'show', 'dev', ifname, way).stdout
        for f in json.loads(text or '[]'):
            opt = f.get('options', {})
            if 'prog' in opt:
                found.setdefault(opt.get('bpf_name', opt['prog'].get('name', '')), []).append(opt['prog']['id'])
    return found


class Translator:
    """The programs and maps attached to an interface of a host (lab.Host), found through tc."""

    ETH6 = bytes.fromhex('020000000001 020000000002 86dd')
    ETH4 = bytes.fromhex('020000000001 020000000002 0800')

    def __init__(self, host, ifname='eth0', device=None):
        """device: the one that the interface is a port of, whose program IPv4 packets meet."""
        self.host, self.ifname, self.device = host, ifname, device or ifname
        for patience in range(10, -1, -1):
            try:
                self.to4, self.to6 = self._programs()
                break
            except FileNotFoundError:       # a reconfiguration has put others in their place
                if not patience:
                    raise
        self.map_ids = sorted(set(self.to4.map_ids) | set(self.to6.map_ids))
        self.all_maps = [*map(Map, self.map_ids)]
        self.maps = {m.name: m for m in self.all_maps}
        self.ETH6 = self._header(ifname, self.ETH6)
        self.ETH4 = self._header(self.device, self.ETH4)
        with host:
            self.ifindex, self.ifindex4 = (int(libc.if_nametoindex(name.encode())) for name in (ifname, self.device))
        self.pool = struct.unpack_from('=4s', self.maps['pool'].lookup(bytes(4)), 8)[0]
        self.v4 = ipaddress.ip_network((self.pool, self._v4_len()))

    def _header(self, ifname, default):
        """An Ethernet header by which the kernel takes packets for ours."""
        link = json.loads(self.host.run('ip', '-j', 'link', 'show', 'dev', ifname).stdout)[0]
        if link['link_type'] != 'ether':
            return default
        mac = bytes.fromhex(link['address'].replace(':', ''))
        return mac + (mac if 'NOARP' in link['flags'] else default[6:12]) + default[12:]    # a device sends to itself

    def _programs(self):
        ids = {}
        for way, ifname in ('nat64_6to4', self.ifname), ('nat64_4to6', self.device):
            found = tc_programs(self.host, ifname)
            matches = [i for name, i in found.items() if name.startswith(way)]
            assert len(matches) == 1 and len(matches[0]) == 1, f'{self.ifname}: {way} not attached exactly once: {found}'
            ids[way] = matches[0][0]
        return Prog(ids['nat64_6to4']), Prog(ids['nat64_4to6'])

    def _v4_len(self):
        return struct.unpack_from('=I', self.maps['pool'].lookup(bytes(4)), 12)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for thing in [self.to4, self.to6, *self.all_maps]:
            thing.close()

    def run64(self, packet, **skb):
        """One IPv6 packet through the 6→4 program: (verdict, IP packet as it left the program)."""
        with self.host:
            verdict, frame = self.to4.run(self.ETH6 + bytes(packet), self.ifindex, **skb)
        return verdict, frame[14:]

    def run46(self, packet, **skb):
        """One IPv4 packet through the 4→6 program: (verdict, IP packet as it left the program)."""
        verdict, frame = self.frame46(packet, **skb)
        return verdict, frame[14:]

    def frame46(self, packet, **skb):
        """The same, with its Ethernet header."""
        with self.host:
            return self.to6.run(self.ETH4 + bytes(packet), self.ifindex4, **skb)

    def stats(self):
        """Counters summed over the CPUs: {'packets': [6→4, 4→6], 'bytes': [..], 'drops': [{reason: n}, {..}]},
        drops that are zero left out."""
        n = len(DROPS)
        fmt = struct.Struct('=%dQ' % (4 + 2 * n))
        per_cpu = self.maps['stats'].lookup(bytes(4))
        assert len(per_cpu[0]) == fmt.size, 'struct nat64_stats has changed its shape'
        total = [sum(column) for column in zip(*(fmt.unpack(v) for v in per_cpu))]
        return {'packets': total[0:2], 'bytes': total[2:4],
                'drops': [{name: count for name, count in zip(DROPS, total[4 + w * n:]) if count} for w in (0, 1)]}

    def drops(self):
        """{reason: n}, both ways together."""
        out = collections.Counter()
        for way in self.stats()['drops']:
            out.update(way)
        return dict(out)

    def mappings(self):
        """{v6 address: Mapping}, what the table holds, dead ones too; checks that both maps agree."""
        out = {}
        assert self.maps['mappings'].value_size == MAPPING.size, 'struct nat64_mapping has changed its shape'
        for key in self.maps['by_v6'].keys():
            index = self.maps['by_v6'].lookup(key)
            if index is None:           # went away meanwhile
                continue
            _, flags, owner, _, _, _, seen, created = MAPPING.unpack(self.maps['mappings'].lookup(index))
            v6 = str(ipaddress.IPv6Address(key))
            assert owner == key, f'by_v6 says {v6} has index {index}, which is {ipaddress.IPv6Address(owner)}'
            out[v6] = Mapping(str(self.v4[struct.unpack('=I', index)[0]]), v6, seen, created, flags)
        return out
