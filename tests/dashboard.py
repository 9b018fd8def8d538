# SPDX-License-Identifier: GPL-2.0-or-later
"""The picture of the dashboard in docs/monitoring.org: Debian has no Grafana, so this draws dist/grafana.json itself.

    sudo make dashboard       ten minutes

What it shows is measured: two translators on a gateway have traffic in network namespaces, node_exporter has their metrics,
Debian's Prometheus asks it for them, and is asked in turn for the very expressions of each panel."""

import argparse
import glob
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
from xml.sax.saxutils import escape

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..')
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lab import Lab, NAT64      # noqa: E402
from recipes import Image       # noqa: E402

STEP = 5                    # seconds from scrape to scrape, and from point to point

# The network -----------------------------------------------------------------------------------------------------

# (interface, hosts' prefix, IPv4 prefix, how many hosts come)
LANS = [('lan0', '2001:db8:1::/64', '10.64.0.0/25', 90), ('guest0', '2001:db8:2::/64', '10.64.1.0/27', 45)]

# UDP with answers that are longer: for each host, when it is there, and how many packets a second it sends
HOSTS = '''
import json, random, socket, sys, time
hosts, seconds = json.load(sys.stdin)
for host in hosts:
    host["socket"] = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    host["socket"].bind((host["address"], 0))
    host["socket"].setblocking(False)
start = time.monotonic()
while (now := time.monotonic() - start) < seconds:
    for host in hosts:
        if host["from"] <= now < host["to"] and random.random() < host["rate"] / 10:
            host["socket"].sendto(b"?" * 60, ("64:ff9b::198.51.100.80", 7))
    time.sleep(0.1)
'''
SERVER = '''
import random, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("198.51.100.80", 7))
while True:
    _, peer = s.recvfrom(2048)
    for _ in range(random.randrange(1, 3)):
        s.sendto(b"!" * random.randrange(100, 1200), peer)
'''
# Somebody outside who looks for hosts, now and then
SCANNER = '''
import random, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for _ in range(random.choice((0, 0, 0, 5, 40))):
        s.sendto(b"?", ("10.64.0." + str(random.randrange(1, 127)), random.randrange(1, 65536)))
        time.sleep(0.2)
    time.sleep(5)
'''


def network(lab, seconds):
    """The gateway, once there is traffic behind it."""
    gw, wan = lab.hosts('gw', 'wan')
    lab.link(gw, 'wan0', wan, 'eth0')
    gw.forwards()
    gw.addr('wan0', '203.0.113.2/24')
    wan.addr('eth0', '203.0.113.1/24', '198.51.100.80/32')
    gw.route('default', 'via', '203.0.113.1')
    wan.route('10.64.0.0/16', 'via', '203.0.113.2')
    wan.start('python3', '-c', SERVER)
    wan.start('python3', '-c', SCANNER)
    for ifname, hosts, pool, n in LANS:
        net = hosts.removesuffix('/64')
        lan = lab.host(ifname)
        lab.link(lan, 'eth0', gw, ifname)
        gw.addr(ifname, f'{net}1/64')
        # The last one has an address that its network does not have
        addresses = [f'{net}{i:x}' for i in range(0x10, 0x10 + n)] + ['2001:db8:bad::1']
        lan.batch('ip', *(f'addr add {a}/64 dev eth0 nodad' for a in addresses))
        lan.route('default', 'via', f'{net}1')
        gw.route('2001:db8:bad::/64', 'dev', ifname, 'metric', len(lab.all))
        gw.load('-t', 90, i=ifname, v4=pool, allow=[hosts])
        there = []
        for address in addresses:
            start = random.uniform(-0.3, 0.9) * seconds
            there.append({'address': address, 'from': start, 'to': start + random.uniform(0.1, 0.6) * seconds,
                          'rate': random.choice((0.3, 1, 3, 8))})
        there[-1] |= {'from': 0.4 * seconds, 'to': 0.7 * seconds, 'rate': 0.5}
        with tempfile.TemporaryFile('w+') as f:
            json.dump([there, seconds], f)
            f.seek(0)
            with lan:
                lab.processes.append(subprocess.Popen(['python3', '-c', HOSTS], stdin=f, start_new_session=True))
    return gw


# Prometheus ------------------------------------------------------------------------------------------------------

def prometheus_of_debian(directory):
    """Its server, unpacked there; the image of the recipes has its tool alone."""
    subprocess.run(['apt-get', '-qq', '-o', 'APT::Sandbox::User=root', 'download', 'prometheus'], cwd=directory, check=True)
    subprocess.run(['dpkg-deb', '-x', *glob.glob(f'{directory}/*.deb'), directory], check=True)
    return f'{directory}/usr/bin/prometheus'


class Prometheus:
    """As docs/monitoring.org has it, on the gateway; but each STEP seconds instead of each minute."""

    def __init__(self, gw, server):
        self.image = image = Image(gw)
        self.version = re.search(r'version (\S+)', image.run(server, '--version').stdout)[1]
        image.write('/run/prometheus.yml', json.dumps({
            'global': {'scrape_interval': f'{STEP}s'},
            'scrape_configs': [{'job_name': 'node', 'static_configs': [{'targets': ['[::1]:9100'], 'labels': {'instance': 'gw'}}]}]}))
        directory = '/var/lib/prometheus/node-exporter'
        for argv in (['sh', '-c', f'while :; do {os.path.abspath(NAT64)} --status --metrics | sponge {directory}/nat64.prom; sleep 1; done'],
                     ['prometheus-node-exporter', '--collector.disable-defaults', '--collector.textfile',
                      f'--collector.textfile.directory={directory}'],
                     [server, '--config.file=/run/prometheus.yml', '--storage.tsdb.path=/run/tsdb', '--web.listen-address=[::1]:9090']):
            gw.start(*image.argv(*argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        gw.listening(9090)

    def ask(self, what, **values):
        url = f'http://[::1]:9090/api/v1/{what}?{urllib.parse.urlencode(values)}'
        answer = json.loads(self.image.run('curl', '-sS', '-g', url).stdout)
        assert answer['status'] == 'success', answer
        return answer['data']['result']


def expression_of(target, interval):
    """With the variables set to what Grafana sets them to for 'All', and rates over the interval."""
    return re.sub(r'\$(instance|interface)\b', '.*', target['expr']).replace('$__rate_interval', interval)


def results(dashboard, prometheus, start, end):
    """{title: [series of Prometheus]}"""
    out = {}
    for panel in dashboard['panels']:
        found = []
        for target in panel['targets']:
            expression = expression_of(target, f'{4 * STEP}s')
            some = prometheus.ask('query_range', query=expression, start=start, end=end, step=STEP)
            found += [(target['legendFormat'], series) for series in some]
        assert found, f'{panel["title"]}: nothing to show'
        out[panel['title']] = found
    return out


# The picture -----------------------------------------------------------------------------------------------------

COLUMN, ROW, GAP, HEAD = 50, 32, 8, 56          # a place in the grid; above it
COLOURS = ['#3d8c40', '#d9a400', '#3274d9', '#e0752d', '#b8352f', '#8f3bb8', '#1f9e9e', '#6b6b6b', '#c45a8c', '#5b7a2a']
NAMED = {'green': '#3d8c40', 'orange': '#e0752d', 'red': '#b8352f'}


def amount(value, unit):
    """In the units of Grafana that the dashboard has."""
    if unit == 'percentunit':
        return f'{value:.1%}'
    name = {'short': '', 'pps': ' p/s', 'bps': 'b/s'}[unit]
    power = min(int(math.log(value, 1000)), 3) if value >= 1000 else 0
    value /= 1000 ** power
    return f'{value:.3g}{" " if power or unit == "bps" else ""}{("", "k", "M", "G")[power]}{name}'


def legend(text, labels):
    return re.sub(r'\{\{(\w+)\}\}', lambda m: labels.get(m[1], ''), text).strip()


def text(x, y, content, size=12, fill='#333333', anchor='start', **more):
    style = ''.join(f' {k.replace("_", "-")}="{v}"' for k, v in more.items())
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{style}>{escape(content)}</text>'


def stat(panel, found, w, h):
    """A field for each series, of the last value."""
    mapped = panel['fieldConfig']['defaults']['mappings'][0]['options']
    wide = w / len(found)
    for n, (name, series) in enumerate(found):
        value = mapped[f'{float(series["values"][-1][1]):g}']
        yield f'<rect x="{n * wide + 4:.0f}" y="30" width="{wide - 8:.0f}" height="{h - 38}" rx="3" fill="{NAMED[value["color"]]}"/>'
        yield text((n + .5) * wide, h / 2 + 14, value['text'], 28, '#ffffff', 'middle')
        yield text((n + .5) * wide, h - 20, legend(name, series['metric']), 12, '#ffffff', 'middle')


def gauge(panel, found, w, h):
    """A half circle for each series, of the last value, in the colour of its threshold."""
    defaults = panel['fieldConfig']['defaults']
    wide = w / len(found)
    r = min(wide / 2 - 16, h - 78)

    def arc(x, share, colour):
        a = math.pi * (1 - share)
        return f'<path d="M{x - r:.1f} {h - 42} A{r:.1f} {r:.1f} 0 0 1 {x + r * math.cos(a):.1f} {h - 42 - r * math.sin(a):.1f}" ' \
               f'fill="none" stroke="{colour}" stroke-width="16"/>'

    for n, (name, series) in enumerate(found):
        value, x = float(series['values'][-1][1]), (n + .5) * wide
        step = [s for s in defaults['thresholds']['steps'] if s['value'] is None or value >= s['value']][-1]
        share = (value - defaults['min']) / (defaults['max'] - defaults['min'])
        yield arc(x, 1, '#e4e4e4')
        yield arc(x, share, NAMED[step['color']])
        yield text(x, h - 44, amount(value, defaults['unit']), 18, NAMED[step['color']], 'middle')
        yield text(x, h - 16, legend(name, series['metric']), 12, anchor='middle')


def round_up(value):
    """The next of 1, 2, 5, 10, ..."""
    power = 10 ** math.floor(math.log10(value))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= value)


def timeseries(panel, found, w, h, start, end):
    """A line for each series, or one above the other; gaps where there is no value."""
    defaults = panel['fieldConfig']['defaults']
    custom = defaults.get('custom', {})
    stacked = custom.get('stacking', {}).get('mode') == 'normal'
    times = range(start, end + 1, STEP)
    rows, floor = [], dict.fromkeys(times, 0.0)
    for name, series in found:
        values = {int(t): float(v) for t, v in series['values']}
        top = {t: floor[t] + values[t] for t in times if t in values}
        rows.append((legend(name, series['metric']), top, dict(floor)))
        if stacked:
            floor |= top
    most = round_up(max(max(top.values()) for _, top, _ in rows) or 1)
    legend_width = 44 + 7 * max(len(name) for name, *_ in rows)
    x0, x1, y0, y1 = 66, w - legend_width, h - 26, 36

    def at(t, v):
        return f'{x0 + (t - start) / (end - start) * (x1 - x0):.1f},{y0 - v / most * (y0 - y1):.1f}'

    for n in range(5):
        y = y0 - n / 4 * (y0 - y1)
        yield f'<line x1="{x0}" x2="{x1}" y1="{y:.0f}" y2="{y:.0f}" stroke="#e4e4e4"/>'
        yield text(x0 - 6, y + 4, amount(most * n / 4, defaults['unit']), 11, '#777777', 'end')
    for t in times:
        if (t - start) % 120 < STEP:
            yield text(x0 + (t - start) / (end - start) * (x1 - x0), h - 8, f'{(t - start) // 60} min', 11, '#777777', 'middle')
    for n, (name, top, below) in enumerate(rows):
        colour = COLOURS[n % len(COLOURS)]
        runs = [[]]
        for t in times:
            if t in top:
                runs[-1].append(t)
            elif runs[-1]:
                runs.append([])
        for run in filter(None, runs):
            line = ' '.join(at(t, top[t]) for t in run)
            if stacked:
                line_below = ' '.join(at(t, below[t]) for t in reversed(run))
                yield f'<polygon points="{line} {line_below}" fill="{colour}" fill-opacity="{custom["fillOpacity"] / 100}"/>'
            yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        y = 44 + n * 17
        yield f'<rect x="{x1 + 14}" y="{y - 5}" width="12" height="4" fill="{colour}"/>'
        yield text(x1 + 32, y, name)


def table(_, found, w, h):
    """The labels of each series that is there at the end; not those that Grafana's tables have in every dashboard."""
    last = max(series['values'][-1][0] for _, series in found)
    rows = [series['metric'] for _, series in found if series['values'][-1][0] == last]
    names = [n for n in sorted(set().union(*rows)) if n not in ('__name__', 'job')]
    longest = {n: max(len(n), *(len(r.get(n, '')) for r in rows)) + 2 for n in names}
    each, x = (w - 20) / sum(longest.values()), 10
    for n in names:
        yield text(x, 48, n, font_weight='bold')
        for k, row in enumerate(rows):
            yield text(x, 72 + 22 * k, row.get(n, ''))
        x += each * longest[n]
    yield f'<line x1="8" x2="{w - 8}" y1="56" y2="56" stroke="#cccccc"/>'


def svg(dashboard, found, start, end, made):
    panels = dashboard['panels']
    width = 24 * COLUMN
    height = HEAD + ROW * max(p['gridPos']['y'] + p['gridPos']['h'] for p in panels) + GAP
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif">', f'<rect width="{width}" height="{height}" fill="#f0f1f3"/>',
           text(12, 24, dashboard['title'], 16), text(12, 44, made, 12, '#555555')]
    draw = {'stat': stat, 'gauge': gauge, 'timeseries': lambda *args: timeseries(*args, start, end), 'table': table}
    for panel in panels:
        at = panel['gridPos']
        w, h = at['w'] * COLUMN - GAP, at['h'] * ROW - GAP
        out += [f'<g id="panel-{panel["id"]}" transform="translate({at["x"] * COLUMN + GAP // 2} {HEAD + at["y"] * ROW})">']
        out += [f'<title>{escape(target["expr"])}</title>' for target in panel['targets']]
        out += [f'<rect width="{w}" height="{h}" rx="3" fill="#ffffff" stroke="#d8d9dc"/>',
                text(10, 20, panel['title'], 13, font_weight='bold')]
        out += [*draw[panel['type']](panel, found[panel['title']], w, h), '</g>']
    return '\n'.join(out + ['</svg>']) + '\n'


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    p.add_argument('--seconds', type=int, default=540, metavar='N', help='of traffic; default 540')
    p.add_argument('--svg', default=os.path.join(TOP, 'docs', 'dashboard.svg'), metavar='FILE')
    options = p.parse_args()
    if os.geteuid():
        p.error('network namespaces take root: sudo make dashboard')
    random.seed('nat64')
    with open(os.path.join(TOP, 'dist', 'grafana.json'), encoding='utf-8') as f:
        dashboard = json.load(f)
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        gw = network(lab, options.seconds)
        prometheus = Prometheus(gw, prometheus_of_debian(directory))
        start = int(time.time()) + 6 * STEP         # rates take some scrapes
        end = start + (options.seconds - 8 * STEP) // STEP * STEP
        time.sleep(end - time.time())
        found = results(dashboard, prometheus, start, end)
        made = f'Drawn by "make dashboard", without Grafana: two translators under traffic in network namespaces, as Prometheus ' \
               f'{prometheus.version} has their metrics.'
    with open(options.svg, 'w', encoding='utf-8') as f:
        f.write(svg(dashboard, found, start, end, made))
    owner = os.stat(os.path.dirname(os.path.abspath(options.svg)))
    os.chown(options.svg, owner.st_uid, owner.st_gid)
    print(f'wrote {options.svg}')


if __name__ == '__main__':
    sys.exit(main())
