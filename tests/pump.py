# SPDX-License-Identifier: GPL-2.0-or-later
"""A tunnel without a world between its ends: what comes out of the tun or tap device of one network namespace goes
into that of the other, as it is.

usage: pump.py tun|tap|tun-gso|tap-gso NETNS DEVICE NETNS DEVICE"""

import ctypes
import fcntl
import os
import selectors
import struct
import sys

TUNSETIFF, TUNSETOFFLOAD = 0x400454ca, 0x400454d0
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 1, 2, 0x1000, 0x4000
OFFLOADS = 1 | 2 | 4 | 8        # TUN_F_CSUM, _TSO4, _TSO6, _TSO_ECN
USO = 0x20 | 0x40               # TUN_F_USO4, _USO6, since 6.2


def device(kind, ns, name):
    fd = os.open(f'/run/netns/{ns}', os.O_RDONLY)
    if ctypes.CDLL(None).setns(fd, 0x40000000):
        sys.exit(f'cannot enter {ns}')
    os.close(fd)
    flags = IFF_NO_PI | (IFF_TAP if kind.startswith('tap') else IFF_TUN) | (IFF_VNET_HDR if kind.endswith('gso') else 0)
    fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack('16sH22x', name.encode(), flags))
    if flags & IFF_VNET_HDR:
        try:
            fcntl.ioctl(fd, TUNSETOFFLOAD, OFFLOADS | USO)
        except OSError:
            fcntl.ioctl(fd, TUNSETOFFLOAD, OFFLOADS)
    return fd


def main(kind, *ends):
    a, b = device(kind, *ends[:2]), device(kind, *ends[2:])
    wait = selectors.DefaultSelector()
    wait.register(a, selectors.EVENT_READ, b)
    wait.register(b, selectors.EVENT_READ, a)
    print('ready', flush=True)
    while True:
        for key, _ in wait.select():
            try:
                while True:
                    os.write(key.data, os.read(key.fd, 1 << 17))
            except BlockingIOError:     # all read
                pass
            except OSError:             # the other end is down: lost
                pass


main(*sys.argv[1:])
