# SPDX-License-Identifier: GPL-2.0-or-later
"""The chart of a benchmark: a bar for each row, its speed relative to plain IPv4 forwarding.

    chart.py RESULT.json CHART.svg"""

import json
import sys
from xml.sax.saxutils import escape

LABEL, BAR, RIGHT, LINE, TOP, BOTTOM = 330, 400, 130, 22, 66, 30
COLOURS = {'nat64': '#2b6cb0', 'plain': '#888888', 'tayga': '#c05621', 'floor': '#718096'}


def bars(result):
    """The rows that can be compared with plain forwarding and ask for a place in the chart."""
    return [row for row in result['rows'] if row['chart'] and row['ratio'] is not None]


def svg(result):
    rows = bars(result)
    most = max([1.2] + [row['ratio'] for row in rows])
    width, height = LABEL + BAR + RIGHT, TOP + LINE * len(rows) + BOTTOM

    def x(ratio):
        return LABEL + ratio / most * BAR

    end = TOP + LINE * len(rows)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
           '<text x="12" y="24" font-size="16">nat64: speed relative to plain IPv4 forwarding</text>',
           f'<text x="12" y="44" fill="#555555">{escape(machine(result["machine"]))}, '
           f'median of {result["rounds"]} rounds</text>',
           f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{TOP - 4}" y2="{end + 4}" stroke="#000000" '
           'stroke-dasharray="4 3"/>']
    for n, row in enumerate(rows):
        y = TOP + n * LINE
        out += [f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(row["name"])}</text>',
                f'<rect x="{LABEL}" y="{y + 3}" width="{x(row["ratio"]) - LABEL:.1f}" height="{LINE - 6}" '
                f'fill="{COLOURS[row["subject"]]}"/>',
                f'<text x="{x(row["ratio"]) + 6:.1f}" y="{y + 15}" stroke="#ffffff" stroke-width="3" '
                f'style="paint-order:stroke">{row["ratio"]:.2f}'
                f'<tspan dx="8" fill="#777777">  {amount(row)}</tspan></text>']
    out += [f'<text x="{x(1):.1f}" y="{end + 18}" text-anchor="middle">plain IPv4 forwarding = 1</text>', '</svg>']
    return '\n'.join(out) + '\n'


def machine(m):
    return f'{m["cpu"]}, {m["cpus"]} CPUs, Linux {m["kernel"]}'


def amount(row):
    """The median with its unit; what a packet costs also as packets per second."""
    value, unit = row['median'], row['unit']
    if unit == 'ns/packet':
        return f'{1e3 / value:.2f} Mpps' if value else '-'
    return f'{value:.3g} {unit}' if value < 1000 else f'{value:.0f} {unit}'


if __name__ == '__main__':
    with open(sys.argv[1], encoding='utf-8') as result_file, open(sys.argv[2], 'w', encoding='utf-8') as chart_file:
        chart_file.write(svg(json.load(result_file)))
