# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/containers.org: Podman's own containers, with IPv6 alone, fetch from an IPv4-only server."""

import pytest

import recipes
from bpf import Translator
from recipes import Image, blocks, type_in, web

DOC = 'docs/containers.org'

# There is no registry: the image is a busybox. The storage is on a tmpfs, and there is no cgroup manager to ask.
PREPARE = '''
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /etc/containers /run/root/bin
printf '[storage]\\ndriver="vfs"\\nrunroot="/run/containers/storage"\\ngraphroot="/run/graph"\\n' >/etc/containers/storage.conf
printf '[containers]\\ncgroups="disabled"\\nlog_driver="k8s-file"\\n[engine]\\nevents_logger="file"\\ncgroup_manager="cgroupfs"\\n' \\
    >/etc/containers/containers.conf
cp "$(command -v busybox)" /run/root/bin
for name in sh wget httpd ip; do ln -s busybox /run/root/bin/$name; done
tar -c -C /run/root . | podman import -q - localhost/busybox >/dev/null
'''


@pytest.fixture
def host(lab):
    """The container host, wan0 of the manual's home router."""
    _, gw, wan = recipes.home(lab)
    Image(gw)
    type_in(gw, PREPARE)
    with web(wan) as page:
        gw.page = page
        yield gw
    type_in(gw, 'podman rm -f -t 0 web >/dev/null; nat64 -i "$(podman network inspect -f "{{.NetworkInterface}}" six)" -u')


def test_podman(host):
    first, second = blocks(DOC, 'Podman')
    type_in(host, first)
    assert 'inet ' not in type_in(host, 'podman exec web ip addr show dev eth0').stdout
    assert host.page[0] == 'hostname' and type_in(host, second).stdout.endswith(host.page[1])


def test_a_device_sees_what_podman_masquerades(host):
    """What the manual says of the form: packets do not get to a device of its own with the containers' addresses."""
    first, second = blocks(DOC, 'Podman')
    type_in(host, first)
    type_in(host, second.replace('nat64 -i "$bridge"', 'nat64 --device six').split('sudo podman run')[0])
    try:
        done = type_in(host, 'podman exec web wget -q -T 1 -O - http://[64:ff9b::198.51.100.80]/hostname', check=False)
        assert done.returncode != 0
        with Translator(host, 'six') as t:
            assert t.mappings() == {}
    finally:
        type_in(host, 'nat64 --device six -u; ' + second.split('sudo nft')[0])
