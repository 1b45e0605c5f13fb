#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A picture of a terminal: runs a command on one for some seconds, then prints what is on its screen and writes it as SVG.

    shot.py --svg docs/top.svg --seconds 8 --rows 20 --columns 110 -- vgpu-admin top

The README's picture of `vgpu-admin top` is made by it. No test.
"""
import argparse
import html
import time

from terminal import Terminal

WIDTH, HEIGHT, EDGE = 7.83, 17, 12  # of a character cell, and round all of them, in pixels
COLOURS = {30: '#2e3436', 31: '#f66151', 32: '#57e389', 33: '#f8e45c', 34: '#62a0ea', 35: '#dc8add', 36: '#33c7de',
           37: '#deddda'}
PAPER, INK = '#1d1f21', '#d8d8d8'


def runs(row):
    """The row as (column, text, attributes), each as long as the attributes stay."""
    start, found = 0, []
    for x in range(1, len(row) + 1):
        if x == len(row) or row[x][1] != row[start][1]:
            found.append((start, ''.join(c for c, _ in row[start:x]), row[start][1]))
            start = x
    return found


def svg(screen):
    width, height = screen.columns * WIDTH + 2 * EDGE, screen.rows * HEIGHT + 2 * EDGE
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-size="13" xml:space="preserve" '
           'font-family="DejaVu Sans Mono,Menlo,Consolas,monospace">' % (width, height),
           '<rect width="100%%" height="100%%" rx="6" fill="%s"/>' % PAPER]
    for y, row in enumerate(screen.cells):
        for x, text, sgr in runs(row):
            ink = next((COLOURS[n] for n in sgr if n in COLOURS), INK)
            if 7 in sgr:
                out.append('<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>' % (
                    EDGE + x * WIDTH, EDGE + y * HEIGHT, len(text) * WIDTH, HEIGHT, ink))
                ink = PAPER
            if not text.strip():
                continue
            left = len(text) - len(text.lstrip())
            out.append('<text x="%.1f" y="%d" textLength="%.1f" fill="%s"%s%s>%s</text>' % (
                EDGE + (x + left) * WIDTH, EDGE + y * HEIGHT + 13, len(text.strip()) * WIDTH, ink,
                ' font-weight="bold"' if 1 in sgr else '', ' opacity="0.6"' if 2 in sgr else '',
                html.escape(text.strip())))
    return '\n'.join(out + ['</svg>', ''])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--svg')
    parser.add_argument('--seconds', type=float, default=5)
    parser.add_argument('--rows', type=int, default=24)
    parser.add_argument('--columns', type=int, default=100)
    parser.add_argument('--keys', default='q', help='that end the command')
    parser.add_argument('command', nargs='+')
    options = parser.parse_args()
    terminal = Terminal(options.command, options.rows, options.columns, term='xterm-256color')
    try:
        end = time.monotonic() + options.seconds
        while time.monotonic() < end and terminal.process.poll() is None:
            terminal.read(0.1)
        terminal.read(0.05)
        print(terminal.screen.text())
        if options.svg:
            with open(options.svg, 'w', encoding='utf-8') as f:
                f.write(svg(terminal.screen))
        terminal.send(options.keys)
        terminal.wait()
    finally:
        terminal.close()


if __name__ == '__main__':
    main()
