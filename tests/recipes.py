# SPDX-License-Identifier: GPL-2.0-or-later
"""The recipes of the manual, typed in as a stranger types them: the very lines, at a host of the lab.

What they install is in an image (tests/image): a host that has one has its own /etc, /var and /run, and nothing of it is
on this machine. Where a line says apt or systemctl, it is asked whether the package is there, and the program of its unit is started."""

import contextlib
import os
import re
import subprocess

from lab import NAT64, wait_for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
IMAGE = os.path.join(ROOT, 'tests/image')

PRELUDE = f'''
sudo() {{ "$@"; }}
nat64() {{ {os.path.abspath(NAT64)} "$@"; }}
apt() {{ [ "$1" = install ] && {{ ! command -v apt-get || dpkg-query -W "${{@:2}}"; }} >/dev/null; }}
systemctl() {{
	local verb=$1 unit file instance line pid
	shift
	[ "$1" != --now ] || shift
	for unit; do
		unit=${{unit%.service}}
		instance=${{unit#*@}}
		file=$(ls {{/etc,/lib}}/systemd/system/"${{unit/@*/@}}".service 2>/dev/null | head -n 1)
		[ -e "$file" ] || {{ echo "systemctl: no unit $unit" >&2; return 1; }}
		if [ -e "/run/unit-$unit" ]; then
			pid=$(cat "/run/unit-$unit")
			kill "$pid" 2>/dev/null || :
			while [ -e "/proc/$pid/exe" ]; do sleep 0.01; done
			rm "/run/unit-$unit"
		fi
		case $verb in enable | start | restart | reload-or-restart) ;; *) continue ;; esac
		(
			set +e
			lines=$(sed -e :a -e '/\\\\$/N; s/\\\\\\n//; ta' "$file" | sed "s/%i/$instance/g; s/%p/${{unit%@*}}/g")
			of() {{ sed -n "s/^$1=[-@!]*//p" <<<"$lines"; }}
			for line in $(of EnvironmentFile); do set -a; . "$line"; set +a; done
			for line in $(of RuntimeDirectory); do
				mkdir -p "/run/$line"
				[ -z "$(of User)" ] || chown "$(of User):" "/run/$line"
			done
			for line in "$(of Environment)"; do [ -z "$line" ] || eval "export $line"; done
			cd "$(of WorkingDirectory)" 2>/dev/null || cd /
			while read -r line; do eval "$line"; done <<<"$(of ExecStartPre)"
			eval "exec $(of ExecStart | head -n 1)"
		) </dev/null >"/run/log-$unit" 2>&1 &
		echo $! >"/run/unit-$unit"
		line=$(sed -n 's/^BusName=//p' "$file")
		[ -z "$line" ] || until dbus-send --system --print-reply --dest=org.freedesktop.DBus / \
			org.freedesktop.DBus.NameHasOwner "string:$line" | grep -q true; do sleep 0.05; done
	done
}}
'''


def text(name):
    with open(os.path.join(ROOT, name), encoding='utf-8') as f:
        return f.read()


def section(name, heading):
    """Of a file of the manual, what is below a heading."""
    whole = text(name)
    level, start = re.search(rf'^(\*+) {re.escape(heading)}\n', whole, re.M).span(1)
    rest = whole[start + 1:]
    end = re.search(rf'^\*{{1,{start - level}}} ', rest, re.M)
    return rest[:end.start() if end else None]


def blocks(name, heading, kind='src sh'):
    """The examples of a section."""
    found = re.findall(rf'^#\+begin_{kind}[^\n]*\n(.*?)^#\+end_{kind.split()[0]}', section(name, heading), re.M | re.S)
    assert found, f'{name}: {heading}: no {kind}'
    return found


class Image:
    """The image as a host has it."""

    def __init__(self, host):
        self.host = host
        host.image = self
        self.process = host.start(IMAGE, '--', 'sh', '-c', 'echo ready; exec sleep infinity')
        assert self.process.stdout.readline() == 'ready\n'
        (self.first,) = wait_for(lambda: subprocess.run(['pgrep', '-P', str(self.process.pid)], capture_output=True, text=True,
                                                        check=False).stdout.split())

    def argv(self, *argv):
        return ['nsenter', '-t', self.first, '-m', '-p', '--', *argv]

    def run(self, *argv, **kw):
        return self.host.run(*self.argv(*argv), **kw)

    def write(self, path, content):
        done = subprocess.run(self.argv('sh', '-c', 'cat >"$0"', path), input=content, text=True, check=False)
        assert done.returncode == 0, path

    def read(self, path):
        return self.run('cat', path).stdout

    def log(self, unit):
        return self.run('tail', '-n', 20, f'/run/log-{unit}', check=False).stdout


def type_in(host, lines, **kw):
    """What somebody types at the host; root is somebody who need not ask."""
    argv = ['bash', '-e', '-c', PRELUDE + lines]
    return host.run(*(host.image.argv(*argv) if hasattr(host, 'image') else argv), **kw)


# The Internet of these recipes ------------------------------------------------------------------------------------

OUTSIDE = '1.1.1.1'             # that ping reaches in the manual
WEB = '198.51.100.80'           # an IPv4-only web server
ROOTS = {'a': '198.41.0.4', 'b': '170.247.170.2', 'old-b': '199.9.14.201', 'c': '192.33.4.12', 'd': '199.7.91.13',
         'e': '192.203.230.10', 'f': '192.5.5.241', 'g': '192.112.36.4', 'h': '198.97.190.53', 'i': '192.36.148.17',
         'j': '192.58.128.30', 'k': '193.0.14.129', 'l': '199.7.83.42', 'm': '202.12.27.33'}
HEAD = '$TTL 3600\n@ SOA a.root-servers.net. hostmaster.example. 1 3600 600 86400 60\n'
ZONES = {
    '.': HEAD + '@ NS a.root-servers.net.\na.root-servers.net. A 198.41.0.4\nexample. NS ns.example.\nns.example. A 198.41.0.4\n'
         'insecure. NS ns.example.\narpa. NS a.root-servers.net.\n',
    'arpa': HEAD + '@ NS a.root-servers.net.\nipv4only NS ns.example.\n',
    'example': HEAD + f'@ NS ns\nns A 198.41.0.4\nonly4 A {WEB}\nboth A {WEB}\nboth AAAA 2001:db8:ffff::1\nbogus A 192.0.2.66\n',
    'insecure': HEAD + f'@ NS ns.example.\nonly4 A {WEB}\n',
    'ipv4only.arpa': HEAD + '@ NS ns.example.\n@ A 192.0.0.170\n@ A 192.0.0.171\n'}


def home(lab, others=()):
    """The home router of the manual: lan0, wan0, and the Internet behind them: [lan, gw, wan]. With other hosts on its LAN, none of
    them has an address yet: [lan, gw, wan, *others]."""
    lan, gw, wan, *others = hosts = lab.hosts('lan', 'gw', 'wan', *others)
    if others:
        lab.switch((gw, 'lan0'), (lan, 'eth0'), *((host, 'eth0') for host in others))
    else:
        lab.link(lan, 'eth0', gw, 'lan0')
    lab.link(gw, 'wan0', wan, 'eth0')
    gw.forwards()
    gw.addr('lan0', '2001:db8:1::1/64')
    if not others:
        lan.addr('eth0', '2001:db8:1::10/64')
        lan.route('default', 'via', '2001:db8:1::1')
    gw.addr('wan0', '203.0.113.2/24')
    wan.addr('eth0', '203.0.113.1/24')
    for address in OUTSIDE, WEB, *ROOTS.values():
        wan.ip('addr', 'add', f'{address}/32', 'dev', 'lo')
    gw.route('default', 'via', '203.0.113.1')
    wan.route('10.64.0.0/16', 'via', '203.0.113.2')     # somebody who knows how to reach the hosts
    return hosts


def internet(wan):
    """All name servers of the Internet, with a signed root of the lab's own; returns its key as a DNSKEY record."""
    image = Image(wan)
    image.run('mkdir', '-p', '/run/zones')
    conf = 'options { directory "/run/zones"; recursion no; listen-on { any; }; dnssec-validation no; };\n'
    for zone, content in ZONES.items():
        name = zone.strip('.') or 'root'
        image.write(f'/run/zones/{name}', content)
        signed = '.signed' if name in ('root', 'arpa', 'example') else ''
        conf += f'zone "{zone}" {{ type primary; file "/run/zones/{name}{signed}"; }};\n'
    image.write('/run/zones/named.conf', conf)
    image.run('bash', '-e', '-c', '''cd /run/zones
        for zone in example arpa .; do
            file=${zone/#./root}
            dnssec-keygen -q -a ECDSAP256SHA256 -f KSK "$zone" >$file.ksk
            dnssec-keygen -q -a ECDSAP256SHA256 "$zone" >/dev/null
            [ $zone != . ] || cat dsset-* >>root
            dnssec-signzone -q -S -o "$zone" -f $file.signed $file >/dev/null
        done
        sed -i 's/192\\.0\\.2\\.66/192.0.2.67/' example.signed
        named -c /run/zones/named.conf -u root''')
    return image.run('bash', '-c', 'grep -v "^;" /run/zones/$(cat /run/zones/root.ksk).key').stdout


@contextlib.contextmanager
def web(wan, name='hostname'):
    """The web server; gives what it is to be asked for, and the answer."""
    server = wan.http('/etc', WEB)
    with open(f'/etc/{name}', encoding='utf-8') as f:
        yield name, f.read()
    wan.lab.end(server)


