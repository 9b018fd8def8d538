# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/monitoring.org: the metrics of a translator that works, read by promtool; alerts and the dashboard, asked of them."""

import json
import os
import re
import subprocess
import xml.etree.ElementTree

import pytest

from dashboard import expression_of
from lab import standard
from recipes import IMAGE, ROOT, Image, blocks, text, type_in
from test_docs import cells

DOC = 'docs/monitoring.org'
RULES = 'dist/nat64.rules.yml'


def about(metrics):
    """The series of such a text, without their values: (name, labels in no order)."""
    return {(name, frozenset(re.findall(r'\w+="[^"]*"', labels)))
            for name, labels in re.findall(r'^(nat64_\w+)\{(.*)\} \S+$', metrics, re.M)}


@pytest.fixture(scope='module')
def metrics(module_lab):
    """What the cron job of the manual writes."""
    h6, gw, h4 = standard(module_lab)
    Image(gw)
    gw.load()
    h6.run('ping', '-c', 1, '-W', 5, '64:ff9b::192.0.2.2')
    type_in(gw, blocks(DOC, 'The metrics')[0])
    path, line = re.match(r'PATH=(\S+)\n\S+ \S+ \S+ \S+ \S+ root (.*)\n$', gw.image.read('/etc/cron.d/nat64')).groups()
    assert '/usr/local/sbin' in path
    type_in(gw, line)
    metrics = gw.image.read('/var/lib/prometheus/node-exporter/nat64.prom')
    # Prometheus sees it all
    type_in(gw, 'systemctl start prometheus-node-exporter')
    gw.listening(9100)
    seen = gw.run('curl', '-sS', '-m', 20, 'http://[::1]:9100/metrics').stdout
    assert about(metrics) <= about(seen)
    assert 'node_textfile_scrape_error 0' in seen and re.search(r'node_textfile_mtime_seconds\{file=".*nat64.prom"\}', seen)
    module_lab.gw = gw
    yield metrics


def promtool(*argv, given=None, rc=0):
    done = subprocess.run([IMAGE, '--', 'promtool', *map(str, argv)], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == rc, f'{done.stdout}{done.stderr}'
    return done.stdout


def names(expression):
    """The metrics that an expression asks for."""
    return set(re.findall(r'\bnat64_[a-z0-9_]+', expression))


def series(metrics):
    """{series: value}"""
    return dict(line.rsplit(' ', 1) for line in metrics.splitlines() if not line.startswith('#'))


def test_metrics(metrics):
    """Prometheus takes them, and they are what its authors recommend."""
    assert promtool('check', 'metrics', given=metrics) == ''
    assert series(metrics)['nat64_packets_total{interface="eth0",direction="6to4"}'] == '1'


def rule_list():
    return dict(re.findall(r'alert: (\w+)\n\s+expr: (.*?)\n\s+(?:for|labels):', text(RULES), re.S))


def test_rules(metrics, module_lab):
    """promtool reads the copy that the manual makes; every alert is in the manual."""
    known = {name.split('{')[0] for name in series(metrics)}
    for alert, expression in rule_list().items():
        assert names(expression) - {'nat64_prom'} <= known, alert
    (lines,) = blocks(DOC, 'Alerts')
    assert '6 rules found' in type_in(module_lab.gw, f'mkdir -p /etc/prometheus; cd {os.path.abspath(ROOT)}\n{lines}').stdout
    assert list(rule_list()) == [row[0] for row in cells(text(DOC)) if row[0].startswith('Nat64')]


# Series of an hour, in minutes, and the alerts that they raise at its end
LABELS = 'instance="gw",job="node",interface="eth0"'
POOL = 'nat64_pool_addresses{%s,state="%s"}'
PACKETS = [f'nat64_packets_total{{{LABELS},direction="{way}"}}: 0+600x60' for way in ('6to4', '4to6')]
DROPS = 'nat64_drops_total{%s,direction="6to4",reason="%s"}'
WORKS = f'nat64_working{{{LABELS}}}: 1x60'
CASES = {
    'all is well': ([WORKS, *PACKETS, POOL % (LABELS, 'live') + ': 200x60', POOL % (LABELS, 'expired') + ': 54x60',
                     POOL % (LABELS, 'free') + ': 0x60', DROPS % (LABELS, 'too-big') + ': 0+3x60'], ''),
    'not working': ([f'nat64_working{{{LABELS}}}: 1x50 0x10'], 'Nat64NotWorking'),
    'gone': ([f'nat64_working{{{LABELS}}}: 1x50'], 'Nat64Gone'),
    'nearly full': ([WORKS, POOL % (LABELS, 'live') + ': 200+1x60', POOL % (LABELS, 'static') + ': 10x60',
                     POOL % (LABELS, 'free') + ': 60-1x60'], 'Nat64PoolNearlyFull'),
    'full': ([WORKS, DROPS % (LABELS, 'pool-full') + ': 0+5x60'], 'Nat64PoolFull'),
    'a prefix is full': ([WORKS, DROPS % (LABELS, 'prefix-full') + ': 0+5x60'], 'Nat64PoolFull'),
    'drops': ([WORKS, *PACKETS, DROPS % (LABELS, 'offload') + ': 0+20x60'], 'Nat64Drops'),
    'scanned': ([WORKS, *PACKETS, DROPS % (LABELS, 'no-mapping') + ': 0+600x60', DROPS % (LABELS, 'not-allowed') + ': 0+600x60'], ''),
    'no cron job': ([WORKS, 'node_textfile_mtime_seconds{instance="gw",file="/x/nat64.prom"}: 0x60'], 'Nat64MetricsStale')}


def test_alerts(tmp_path):
    """What raises which, and what raises none: Prometheus' own arithmetic."""
    tests = []
    for name, (given, raised) in CASES.items():
        tests.append({'name': name, 'interval': '1m',
                      'input_series': [dict(zip(('series', 'values'), line.split(': '))) for line in given],
                      'promql_expr_test': [{'expr': 'count by (alertname) (ALERTS{alertstate="firing"})', 'eval_time': '59m',
                                            'exp_samples': [{'labels': f'{{alertname="{raised}"}}', 'value': 1}] if raised else []}]})
    path = tmp_path / 'test.yml'
    path.write_text(json.dumps({'rule_files': [os.path.join(ROOT, RULES)], 'evaluation_interval': '1m', 'tests': tests}))
    promtool('test', 'rules', path)
    path.write_text(path.read_text().replace('1x50 0x10', '1x60'))     # and it does look
    promtool('test', 'rules', path, rc=1)


def queries():
    """(panel, expression) of the dashboard, with its variables set to what Grafana sets them to for 'All'."""
    dashboard = json.loads(text('dist/grafana.json'))
    variables = {v['name'] for v in dashboard['templating']['list']}
    assert {v['definition'] for v in dashboard['templating']['list'] if v['type'] == 'query'} == {
        f'label_values(nat64_info, {label})' for label in ('instance', 'interface')}
    for panel in dashboard['panels']:
        for target in panel['targets']:
            expression = expression_of(target, '5m')
            assert '$' not in expression and target['datasource']['uid'].strip('${}') in variables
            yield panel['title'], expression, target['legendFormat']


def test_dashboard(metrics, tmp_path):
    """Each panel shows something of a real translator's metrics, by Prometheus' arithmetic; its legends name labels that there are."""
    given, tests = [], []
    for name, value in series(metrics).items():
        step = '+60' if '_total' in name else '+0'
        given.append({'series': name.replace('{', '{instance="gw",job="node",', 1), 'values': f'{value}{step}x60'})
    known = {name.split('{')[0] for name in series(metrics)}
    for title, expression, legend in queries():
        assert names(expression) <= known, title
        assert set(re.findall(r'\{\{(\w+)\}\}', legend)) <= {'instance'} | {
            label for name in series(metrics) if name.split('{')[0] in names(expression) for label in re.findall(r'(\w+)="', name)}
        tests.append({'expr': f'count({expression}) > bool 0', 'eval_time': '59m', 'exp_samples': [{'labels': '{}', 'value': 1}]})
    assert len(tests) == 7
    path = tmp_path / 'test.yml'
    path.write_text(json.dumps({'tests': [{'interval': '1m', 'input_series': given, 'promql_expr_test': tests}]}))
    promtool('test', 'rules', path)


def test_picture():
    """docs/dashboard.svg is of the dashboard as it is: its panels, expressions and legends; all show something. make dashboard draws
    it again."""
    svg = '{http://www.w3.org/2000/svg}'
    drawn = {}
    for group in xml.etree.ElementTree.fromstring(text('docs/dashboard.svg')).iter(f'{svg}g'):
        words = [t.text for t in group.iter(f'{svg}text')]
        drawn[words[0]] = [t.text for t in group.iter(f'{svg}title')], words[1:], len(list(group.iter(f'{svg}polyline')))
    dashboard = json.loads(text('dist/grafana.json'))
    assert list(drawn) == [panel['title'] for panel in dashboard['panels']]
    for panel in dashboard['panels']:
        expressions, words, lines = drawn[panel['title']]
        assert expressions == [target['expr'] for target in panel['targets']]
        legends = [re.sub(r'\\{\\{\w+\\}\\}', r'[\\w-]+', re.escape(target['legendFormat'])) for target in panel['targets']]
        shown = [w for w in words if any(legend and re.fullmatch(legend, w) for legend in legends)]
        assert shown or panel['type'] == 'table' and {'instance', '64:ff9b::/96'} <= set(words), panel['title']
        assert lines >= len(shown) if panel['type'] == 'timeseries' else not lines, panel['title']
    assert '[[file:dashboard.svg]]' in text(DOC)
