# SPDX-License-Identifier: GPL-2.0-or-later
"""generator.py - random packets aimed at a translator: mostly nearly valid, some odd, some broken.

packets(cfg, rng, way) yields for ever; the same seed gives the same packets. The configuration says what addresses mean
something. Nothing here knows how anything is to be translated: that is oracle.py's part.
"""

from ipaddress import IPv4Address, IPv6Address

from oracle import (CHECKSUM_AT, DCCP, DSTOPTS, FRAGMENT, HOPOPT, ICMP4, ICMP6, ROUTING, TCP, UDP, UDPLITE, be16,
                    checksum, embed, pseudo6, put16)

WAYS = ("6to4", "4to6")

# Sizes of transport payload where something changes: minima, 1260 and 1280 rules, link MTUs; each is tried with a few
# bytes less and more.
EDGES = (0, 8, 128, 512, 548, 568, 1192, 1204, 1212, 1220, 1232, 1240, 1252, 1260, 1272, 1280, 1420, 1432, 1440, 1452,
         1460, 1472, 1480, 2464)

FAR = ("198.51.100.2", "203.0.113.1", "8.8.8.8", "1.1.1.1", "9.9.9.9", "4.4.4.4", "223.255.255.254")
ODD_FAR = ("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.16.0.1",
           "172.32.0.1", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
           "224.0.0.1", "239.1.2.3", "240.0.0.0", "247.1.2.3", "255.255.255.254", "255.255.255.255")
ODD_V6 = ("::", "::1", "::1.2.3.4", "::ffff:198.51.100.2", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1",
          "2001:db8:ffff::1", "2002:c633:6402::1")

# Packets of unmapped but allowed sources come from this many hosts, so that a fuzzer's pool lasts.
NEW_HOSTS = 6


class Maker:
    """Makes the parts of packets. Methods that take six build for IPv6 when it is true, else for IPv4."""

    def __init__(self, cfg, rng, max_len):
        self.cfg, self.rng, self.max_len = cfg, rng, max_len
        self.mapped6 = sorted(cfg.mappings)
        nets = [n for n in cfg.allowed if n.prefixlen <= 120]
        self.new6 = [net[0x100 + i * 7] if net.num_addresses > 0x200 else net[i + 1]
                     for net in nets for i in range(NEW_HOSTS)]

    def chance(self, percent):
        return self.rng.random() * 100 < percent

    def pick(self, **weights):
        return self.rng.choices(list(weights), list(weights.values()))[0]

    # --- addresses ---

    def far4(self):
        """An IPv4 address of the outside."""
        kind = self.pick(far=70, random=8, odd=10, pool=8, icmp_src=1)
        if kind == "far":
            return IPv4Address(self.rng.choice(FAR))
        if kind == "random":
            return IPv4Address(self.rng.getrandbits(32))
        if kind == "odd":
            return IPv4Address(self.rng.choice(ODD_FAR))
        if kind == "pool":
            return self.pool4()
        return self.cfg.icmp_src

    def pool4(self):
        """An address of the pool, mapped mostly."""
        if self.mapped6 and self.chance(90):
            return self.cfg.mappings[self.rng.choice(self.mapped6)]
        return self.cfg.v4_prefix[self.rng.randrange(self.cfg.v4_prefix.num_addresses)]

    def host6(self):
        """An address of the IPv6 side: mapped, allowed, a stranger, or illegal."""
        kind = self.pick(mapped=80, new=6, stranger=8, odd=6)
        if kind == "mapped" and self.mapped6:
            return self.rng.choice(self.mapped6)
        if kind == "new" and self.new6:
            return self.rng.choice(self.new6)
        if kind == "odd":
            if self.chance(15):
                return embed(self.cfg.v6_prefix, self.far4())
            return IPv6Address(self.rng.choice(ODD_V6))
        return IPv6Address("2001:db8:bad::") + self.rng.randrange(1 << 32)

    def far6(self, v4):
        """What stands for v4 behind the NAT64 prefix; rarely with u octet or suffix that are not zero."""
        octets = bytearray(embed(self.cfg.v6_prefix, v4).packed)
        length = self.cfg.v6_prefix.prefixlen
        if length < 96 and self.chance(5):
            used = length // 8 + 4 + (1 if length > 32 else 0)
            where = self.rng.choice([8] + list(range(max(used, 9), 16)))
            octets[where] = self.rng.randrange(1, 256)
        return IPv6Address(bytes(octets))

    # --- transport ---

    def data(self):
        """Payload bytes; the length likes the edges."""
        kind = self.pick(small=60, edge=28, medium=10, large=2)
        if kind == "small":
            length = self.rng.randrange(64)
        elif kind == "edge":
            length = max(0, self.rng.choice(EDGES) + self.rng.choice((-20, -9, -8, -1, 0, 1, 7, 8, 9, 12, 20)))
        elif kind == "medium":
            length = self.rng.randrange(3000)
        else:
            length = self.rng.randrange(65536)
        length = min(length, self.max_len - 120)
        return self.rng.choice((bytes(length), self.rng.randbytes(length)))

    def checksummed(self, proto, segment, at, src, dst, six, plain_icmp=False):
        """segment with its checksum at `at`: right mostly, else wrong, 0, or 0xffff."""
        if len(segment) < at + 2:
            return segment
        kind = self.pick(right=84, wrong=7, zero=20 if proto == UDP and not six else 4, ones=2, nearly=1)
        if kind == "zero":
            return put16(segment, at, 0)
        if kind == "ones":
            return put16(segment, at, 0xffff)
        if kind == "wrong":
            return put16(segment, at, self.rng.getrandbits(16))
        segment = put16(segment, at, 0)
        if plain_icmp:
            pseudo = b""
        elif six:
            pseudo = pseudo6(src, dst, len(segment), proto)
        else:
            pseudo = src.packed + dst.packed + bytes((0, proto)) + (len(segment) & 0xffff).to_bytes(2, "big")
        value = checksum(pseudo + segment)
        if kind == "nearly":
            value = value - 1 & 0xffff
        if proto in (UDP, UDPLITE):
            value = value or 0xffff
        return put16(segment, at, value)

    def becomes_zero(self, proto, segment, at, src, dst, other_src, other_dst):
        """segment whose checksum is 0 once the addresses are those of the other family."""
        if len(segment) < at + 4 or at + 4 > len(segment) - len(segment) % 2:
            return segment
        length = len(segment)

        def pseudo(s, d):
            if s.version == 6:
                return pseudo6(s, d, length, proto)
            return s.packed + d.packed + bytes((0, proto)) + (length & 0xffff).to_bytes(2, "big")
        end = length - length % 2 - 2
        segment = put16(put16(segment, at, 0), end, 0)
        segment = put16(segment, end, checksum(pseudo(other_src, other_dst) + segment))
        return put16(segment, at, checksum(pseudo(src, dst) + segment) or 0xffff)

    def segment(self, src, dst, six, other=None):
        """(protocol, bytes) of something that is not an ICMP error. other: the pair of addresses after translation."""
        rng = self.rng
        kind = self.pick(udp=38, tcp=30, echo=14, udplite=4, dccp=4, other=7, icmp=2, odd=1)
        data = self.data()
        if kind == "echo":
            return self.echo(src, dst, six)
        if kind == "icmp":
            message = bytes((rng.randrange(256), rng.choice((0, 0, rng.randrange(256))), 0,
                             0)) + rng.randbytes(4) + data
            proto = ICMP6 if six else ICMP4
            return proto, self.checksummed(proto, message, 2, src, dst, six, plain_icmp=not six)
        if kind == "other":
            proto = rng.choice((4, 41, 47, 50, 51, 59, 103, 115, 132, 135, 139, 140, 253, 255, rng.randrange(256)))
            return proto, data
        if kind == "odd":
            return rng.choice((ICMP4, ICMP6, 2, HOPOPT, ROUTING, FRAGMENT, DSTOPTS)), data
        ports = rng.randbytes(4)
        if kind == "tcp":
            proto = TCP
            options = bytes(4 * rng.choice((0, 0, 0, 3, 10)))
            offset_flags = bytes(((5 + len(options) // 4) << 4, rng.choice((2, 16, 18, 24, 4))))
            segment = ports + rng.randbytes(8) + offset_flags + rng.randbytes(2) + bytes(4) + options + data
        elif kind == "dccp":
            proto = DCCP
            segment = ports + bytes((rng.choice((3, 4)), 0, 0, 0, rng.randrange(256))) + rng.randbytes(7) + data
        else:
            proto = UDP if kind == "udp" else UDPLITE
            length = 8 + len(data)
            if self.chance(5):
                length = rng.choice((0, 7, 8, length - 1, length + 1, rng.randrange(65536)))
            if proto == UDPLITE:
                length = rng.choice((0, 8, length))
            segment = ports + (length & 0xffff).to_bytes(2, "big") + bytes(2) + data
        at = CHECKSUM_AT[proto]
        if other and self.chance(2):
            return proto, self.becomes_zero(proto, segment, at, src, dst, *other)
        return proto, self.checksummed(proto, segment, at, src, dst, six)

    def echo(self, src, dst, six):
        kinds = (128, 129) if six else (8, 0)
        message = bytes((self.rng.choice(kinds), 0 if self.chance(95) else 1, 0,
                         0)) + self.rng.randbytes(4) + self.data()
        proto = ICMP6 if six else ICMP4
        return proto, self.checksummed(proto, message, 2, src, dst, six, plain_icmp=not six)

    # --- IP ---

    def slice(self, segment):
        """(offset, more, bytes): a fragment of segment, now and then one that no sender makes."""
        rng = self.rng
        units = max(1, (len(segment) + 7) // 8)
        kind = self.pick(first=35, middle=20, last=30, odd=10, far=5)
        if kind == "odd":
            return rng.randrange(0, 65536, 8), rng.randrange(2), segment[:rng.randrange(len(segment) + 1)]
        if kind == "far":
            return rng.choice((65528, 65520, 65512, 65504, 65496)), rng.randrange(2), segment[:rng.randrange(40)]
        a, b = sorted((rng.randrange(units), rng.randrange(units)))
        b += 1
        if kind == "first":
            a = 0
        more = 0 if kind == "last" else 1
        end = len(segment) if not more else b * 8
        return a * 8, more, segment[a * 8:end]

    def options_header(self, nexthdr):
        """Hop-by-hop or destination options, of any length."""
        units = self.rng.choice((0, 0, 0, 1, 2, 5))
        data = bytes((1,
                      4 + units * 8)) + bytes(4 + units * 8) if self.chance(80) else self.rng.randbytes(6 + units * 8)
        return bytes((nexthdr, units)) + data

    def routing_header(self, nexthdr):
        units = self.rng.choice((0, 2, 2, 4))
        left = 0 if self.chance(75) else self.rng.randrange(256)
        return bytes((nexthdr, units, self.rng.choice((0, 2, 3, 4, 77)), left)) + bytes(4 + units * 8)

    def chain(self, proto, payload):
        """(first next header, bytes): payload behind some extension headers."""
        count = self.rng.choice((1, 1, 1, 2, 2, 3, 4, 7, 8, 9, 10))
        for _ in range(count):
            kind = self.rng.choice((HOPOPT, DSTOPTS, DSTOPTS, ROUTING))
            payload = (self.routing_header(proto) if kind == ROUTING else self.options_header(proto)) + payload
            proto = kind
        return proto, payload

    def packet6(self, src, dst, proto, payload, fragments=12, extensions=10):
        """An IPv6 packet; fragments and extensions are percentages."""
        rng = self.rng
        if self.chance(fragments):
            offset, more, part = (0, 0, payload) if self.chance(15) else self.slice(payload)
            behind = proto
            if self.chance(3):
                behind, part = self.chain(proto, part)
            reserved = rng.choice((0, 0, 0, rng.randrange(256)))
            field16 = offset | more | rng.choice((0, 0, 0, 2, 4, 6))
            payload = bytes((behind, reserved)) + field16.to_bytes(2, "big") + rng.randbytes(4) + part
            proto = FRAGMENT
        if self.chance(extensions):
            proto, payload = self.chain(proto, payload)
        payload = payload[:65535]
        first = 6 << 28 | rng.choice((0, 0, rng.randrange(256))) << 20 | rng.choice((0, rng.getrandbits(20)))
        return first.to_bytes(4, "big") + len(payload).to_bytes(2, "big") + \
            bytes((proto, rng.choice((64, 63, 2, 1, 255, rng.randrange(256))))) + src.packed + dst.packed + payload

    def options4(self):
        """IPv4 options, padded to 4 bytes."""
        rng, options = self.rng, b""
        for _ in range(rng.choice((1, 1, 2, 3))):
            kind = self.pick(nop=3, end=1, alert=3, record=3, source=3, broken=1)
            if kind == "nop":
                options += b"\1"
            elif kind == "end":
                options += b"\0"
            elif kind == "alert":
                options += b"\x94\4\0\0"
            elif kind == "broken":
                options += rng.randbytes(rng.randrange(1, 6))
            else:
                hops = rng.choice((0, 1, 2, 3))
                number = 7 if kind == "record" else rng.choice((131, 137))
                pointer = rng.choice((4, 4, 4 + 4 * hops, 8, 3, rng.randrange(256)))
                options += bytes((number, 3 + 4 * hops, pointer)) + rng.randbytes(4 * hops)
        options = options[:40]
        return options + rng.choice((b"\0", b"\1")) * (-len(options) % 4)

    def packet4(self, src, dst, proto, payload, fragments=12, options=8):
        """An IPv4 packet; fragments and options are percentages."""
        rng = self.rng
        offset, more = 0, 0
        if self.chance(fragments):
            offset, more, payload = self.slice(payload)
        opts = self.options4() if self.chance(options) else b""
        payload = payload[:65535 - 20 - len(opts)]
        flags = rng.choice((0, 0, 0x4000, 0x4000, 0x8000 if self.chance(10) else 0)) | more << 13 | offset >> 3
        header = bytes((0x45 + len(opts) // 4, rng.choice((0, 0, rng.randrange(256))))) + \
            (20 + len(opts) + len(payload)).to_bytes(2, "big") + rng.choice((bytes(2), rng.randbytes(2))) + \
            flags.to_bytes(2, "big") + \
            bytes((rng.choice((64, 63, 2, 1, 255, rng.randrange(256))), proto, 0, 0)) + src.packed + dst.packed + opts
        return put16(header, 10, checksum(header)) + payload

    # --- ICMP errors ---

    def error_head(self, six):
        """(type, code, rest) of an ICMP error, most of them of the kinds that cross."""
        rng = self.rng
        if six:
            kind = self.pick(unreach=30, too_big=25, time=20, param=20, odd=5)
            if kind == "unreach":
                return 1, rng.choice((0, 1, 2, 3, 4, 4, rng.randrange(10))), bytes(4)
            if kind == "too_big":
                mtu = rng.choice((0, 68, 1260, 1279, 1280, 1300, 1400, 1480, 1500, 9000, 65535, 65556,
                                  rng.getrandbits(32), rng.randrange(1600)))
                return 2, 0 if self.chance(90) else rng.randrange(256), mtu.to_bytes(4, "big")
            if kind == "time":
                return 3, rng.choice((0, 0, 1, rng.randrange(256))), bytes(4)
            if kind == "param":
                pointer = rng.choice((rng.randrange(44), rng.randrange(44), rng.getrandbits(32)))
                return 4, rng.choice((0, 0, 1, 2, 3)), pointer.to_bytes(4, "big")
            return rng.randrange(128), rng.randrange(8), rng.randbytes(4)
        kind = self.pick(unreach=35, needed=20, time=20, param=20, odd=5)
        if kind == "unreach":
            return 3, rng.randrange(18), bytes(4)
        if kind == "needed":
            mtu = rng.choice((0, 0, 0, 68, 1259, 1260, 1261, 1400, 1480, 1500, 9000, 65535, rng.randrange(65536)))
            return 3, 4, bytes(2) + mtu.to_bytes(2, "big")
        if kind == "time":
            return 11, rng.choice((0, 0, 1, rng.randrange(256))), bytes(4)
        if kind == "param":
            pointer = rng.choice((rng.randrange(24), rng.randrange(24), rng.randrange(256)))
            return 12, rng.choice((0, 0, 2, 1, 3)), bytes((pointer, 0, 0, 0))
        return rng.choice((4, 5, 6, rng.randrange(256))), rng.randrange(8), rng.randbytes(4)

    def quote(self, src, dst, six):
        """The packet in error from src to dst, as much of it as a router may return."""
        kind = self.pick(segment=92, nested=4, noise=2, nothing=2)
        if kind == "nothing":
            return self.rng.randbytes(self.rng.randrange(48))
        if kind == "noise":
            return self.rng.randbytes(self.rng.randrange(200))
        if kind == "nested":
            number, code, rest = self.error_head(six)
            proto, payload = ICMP6 if six else ICMP4, bytes((number, code, 0, 0)) + rest + bytes(40)
        else:
            proto, payload = self.segment(src, dst, six)
        make = self.packet6 if six else self.packet4
        whole = make(src, dst, proto, payload, 12, 4)
        if self.chance(4):
            whole = self.damage(whole, 60)
        header = 40 if six else 20
        most = 1232 if six else 548
        limit = self.rng.choice((most, most, most, header + 8, 128, header + self.rng.randrange(40),
                                 self.rng.randrange(1, 1400)))
        return whole[:limit]

    def extension(self, head, quote, six):
        """head and quote with an RFC 4884 extension: right mostly."""
        unit, at = (8, 0) if six else (4, 1)
        if self.chance(85):
            quote = quote[:self.rng.choice((128, 128, 136, 132, 200, 400, 500, 1000))].ljust(128, b"\0")
            quote += bytes(-len(quote) % unit)
        length = len(quote) // unit
        if self.chance(8):
            length = self.rng.randrange(256)
        body = bytes.fromhex("20000000") + self.rng.randbytes(4 * self.rng.choice((0, 1, 2, 4, 10, 30, 110, 300)))
        body = put16(body, 2, checksum(body))
        number, code, rest = head
        rest = rest[:at] + bytes((length & 0xff,)) + rest[at + 1:]
        return (number, code, rest), quote + body

    def error(self, src, dst, quote_src, quote_dst, six):
        """An ICMP error message from src to dst about a packet from quote_src to quote_dst."""
        head, body = self.error_head(six), self.quote(quote_src, quote_dst, six)
        if self.chance(18):
            head, body = self.extension(head, body, six)
        message = bytes((head[0], head[1], 0, 0)) + head[2] + body
        proto = ICMP6 if six else ICMP4
        return proto, self.checksummed(proto, message, 2, src, dst, six, plain_icmp=not six)

    # --- damage ---

    def damage(self, packet, header):
        """Breaks the header somewhere."""
        rng = self.rng
        out = bytearray(packet)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            if not out:
                break
            at = rng.randrange(min(len(out), header))
            out[at] = rng.choice((out[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255))
        return bytes(out)

    def finish(self, packet):
        """Some packets are broken as a whole: cut short, padded, or with damaged headers."""
        kind = self.pick(good=88, damage=6, cut=3, pad=2, length=1)
        if kind == "damage":
            return self.damage(packet, 100)
        if kind == "cut":
            return packet[:self.rng.randrange(1, len(packet) + 1)]
        if kind == "pad":
            return (packet + self.rng.randbytes(self.rng.randrange(1, 48)))
        if kind == "length":
            at = 4 if packet[0] >> 4 == 6 else 2
            wrong = be16(packet, at) + self.rng.choice((-9, -8, -1, 1, 8, 100))
            return put16(packet, at, max(0, wrong) & 0xffff)
        return packet

    # --- whole packets ---

    def one64(self):
        src = self.host6()
        dst4 = self.far4()
        dst = self.far6(dst4) if self.chance(99) else self.host6()
        if self.chance(28):
            whose = self.rng.choice(self.mapped6) if self.mapped6 and self.chance(92) else self.host6()
            about = dst if self.chance(93) else self.far6(self.far4())
            if self.chance(40):
                src = whose
            proto, payload = self.error(src, dst, about, whose, True)
            return self.packet6(src, dst, proto, payload, fragments=4, extensions=6)
        other = (self.cfg.mappings[src], dst4) if src in self.cfg.mappings else None
        proto, payload = self.segment(src, dst, True, other)
        return self.packet6(src, dst, proto, payload)

    def one46(self):
        src, dst = self.far4(), self.pool4() if self.chance(99) else self.far4()
        if self.chance(28):
            whose = dst if self.chance(93) else self.pool4()
            about = src if self.chance(40) else self.far4()
            proto, payload = self.error(src, dst, whose, about, False)
            return self.packet4(src, dst, proto, payload, fragments=4, options=6)
        owner = self.cfg.owner(dst)
        other = (embed(self.cfg.v6_prefix, src), owner) if owner else None
        proto, payload = self.segment(src, dst, False, other)
        return self.packet4(src, dst, proto, payload)


def packets(cfg, rng, way, max_len=65535):
    """Random packets for cfg without end: IPv6 for way "6to4", IPv4 for "4to6", at most max_len (>= 256) bytes each.
    The mappings are those of cfg at the start. rng is a random.Random."""
    if way not in WAYS:
        raise ValueError(way)
    maker = Maker(cfg, rng, max_len)
    while True:
        packet = maker.one64() if way == "6to4" else maker.one46()
        yield maker.finish(packet)[:max_len]
