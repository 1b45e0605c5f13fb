# SPDX-License-Identifier: GPL-2.0-or-later
"""A terminal for programs that draw on one: a pty, and what they would have put on its screen.

Owns: the few of xterm's sequences that ncurses uses with TERM=xterm or vt100. One it does not know raises, so that a test
never looks at a screen that is not the program's. Standard library only.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

PATIENCE_S = 60

CSI = re.compile(r'\x1b\[([?>]?)([0-9;]*)([@-~])')
OTHER = re.compile(r'\x1b(?:[()][0-9A-B]|[78=>cMDE])')


class Screen:
    """What is where. Cells are (character, attributes), attributes a frozenset of SGR numbers."""

    def __init__(self, rows, columns):
        self.rest = ''
        self.alternate = self.hidden = False
        self.resize(rows, columns)

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.cells = [[(' ', frozenset())] * columns for _ in range(rows)]
        self.y = self.x = 0
        self.sgr = frozenset()
        self.saved = (0, 0)
        self.region = (0, rows - 1)  # that scrolls

    def lines(self):
        return [''.join(c for c, _ in row).rstrip() for row in self.cells]

    def text(self):
        return '\n'.join(self.lines())

    def feed(self, data):
        text = self.rest + data
        self.rest = ''
        at = 0
        while at < len(text):
            c = text[at]
            if c == '\x1b':
                found = CSI.match(text, at) or OTHER.match(text, at)
                if not found:
                    if len(text) - at < 16 and re.fullmatch(r'\x1b(?:\[[?>]?[0-9;]*|[()])?', text[at:]):
                        self.rest = text[at:]
                        return
                    raise AssertionError('a sequence that this terminal does not know: %r' % text[at:at + 16])
                at = found.end()
                if found.re is CSI:
                    self.sequence(*found.groups())
                elif found.group(0) == '\x1b7':
                    self.saved = (self.y, self.x)
                elif found.group(0) == '\x1b8':
                    self.y, self.x = self.saved
                elif found.group(0) == '\x1bM' and self.y == self.region[0]:
                    self.scroll(self.region[1], self.region[0])
                elif found.group(0) == '\x1bM':
                    self.y = max(0, self.y - 1)
                continue
            at += 1
            if c == '\r':
                self.x = 0
            elif c == '\n':
                if self.y == self.region[1]:
                    self.scroll(*self.region)
                elif self.y + 1 < self.rows:
                    self.y += 1
            elif c == '\b':
                self.x = max(0, self.x - 1)
            elif c == '\t':
                self.x = min(self.columns - 1, self.x // 8 * 8 + 8)
            elif c in '\x0e\x0f\x07\0':
                pass
            elif ord(c) < 32:
                raise AssertionError('a control character that this terminal does not know: %r' % c)
            else:
                self.put(c)

    def scroll(self, gone, fresh):
        del self.cells[gone]
        self.cells.insert(fresh, [(' ', self.sgr)] * self.columns)

    def put(self, c):
        if self.x >= self.columns:
            self.x = 0
            self.y = min(self.rows - 1, self.y + 1)
        self.cells[self.y][self.x] = (c, self.sgr)
        self.last = c
        self.x += 1

    def blank(self, y, first, last):
        for x in range(max(0, first), min(self.columns, last)):
            self.cells[y][x] = (' ', self.sgr)

    def sequence(self, mark, numbers, final):
        n = [int(v) if v else 0 for v in numbers.split(';')]
        one = max(1, n[0])
        if mark:
            if final in 'hl' and n[0] in (1049, 47, 1047):
                self.alternate = final == 'h'
            if final in 'hl' and n[0] == 25:
                self.hidden = final == 'l'
            if final not in 'hlmr':
                raise AssertionError('a sequence that this terminal does not know: ?%s%s' % (numbers, final))
        elif final == 'H':
            self.y = min(self.rows, one) - 1
            self.x = min(self.columns, max(1, n[1]) if len(n) > 1 else 1) - 1
        elif final == 'A':
            self.y = max(0, self.y - one)
        elif final == 'B':
            self.y = min(self.rows - 1, self.y + one)
        elif final == 'C':
            self.x = min(self.columns - 1, self.x + one)
        elif final == 'D':
            self.x = max(0, self.x - one)
        elif final == 'G':
            self.x = min(self.columns, one) - 1
        elif final == 'd':
            self.y = min(self.rows, one) - 1
        elif final == 'J':
            if n[0] == 2:
                for y in range(self.rows):
                    self.blank(y, 0, self.columns)
            elif n[0] == 0:
                self.blank(self.y, self.x, self.columns)
                for y in range(self.y + 1, self.rows):
                    self.blank(y, 0, self.columns)
        elif final == 'K':
            self.blank(self.y, 0 if n[0] else self.x, self.x + 1 if n[0] == 1 else self.columns)
        elif final == 'X':
            self.blank(self.y, self.x, self.x + one)
        elif final == 'P':
            row = self.cells[self.y]
            del row[self.x:self.x + one]
            row.extend([(' ', self.sgr)] * (self.columns - len(row)))
        elif final == '@':
            row = self.cells[self.y]
            row[self.x:self.x] = [(' ', self.sgr)] * one
            del row[self.columns:]
        elif final == 'b':
            for _ in range(one):
                self.put(self.last)
        elif final == 'm':
            self.attributes(n)
        elif final == 'r':
            self.region = (one - 1, (n[1] if len(n) > 1 and n[1] else self.rows) - 1)
            self.y = self.x = 0
        elif final in 'STLM':
            top, bottom = self.region
            if final in 'LM':
                top = self.y
            for _ in range(min(one, bottom - top + 1)):
                self.scroll(*((top, bottom) if final in 'SM' else (bottom, top)))
        elif final in 'lht':
            pass  # modes
        else:
            raise AssertionError('a sequence that this terminal does not know: %s%s' % (numbers, final))

    def attributes(self, numbers):
        now = set(self.sgr)
        for v in numbers:
            if v == 0:
                now.clear()
            elif v == 39:
                now -= set(range(30, 38))
            elif v == 27:
                now.discard(7)
            elif v == 22:
                now -= {1, 2}
            elif 30 <= v < 38:
                now = now - set(range(30, 38)) | {v}
            else:
                now.add(v)
        self.sgr = frozenset(now)


class Terminal:
    """A program on a terminal. `raw` is all it wrote."""

    def __init__(self, command, rows=24, columns=100, term='xterm', env=None, stdin=True):
        self.master, slave = pty.openpty()
        self.screen = Screen(rows, columns)
        self.raw = b''
        self.set_size(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            command, stdin=slave if stdin else subprocess.DEVNULL, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),
            env=dict(os.environ, TERM=term, LC_ALL='C.UTF-8', **(env or {})))

    def set_size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))

    def resize(self, rows, columns):
        self.read(0.05)
        self.screen.resize(rows, columns)
        self.set_size(rows, columns)

    def send(self, keys):
        os.write(self.master, keys.encode())

    def read(self, seconds):
        """Takes what comes within that time; False when there is no more ever."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.raw += data
        self.screen.feed(data.decode(errors='replace'))
        return bool(data)

    def wait_for(self, pattern):
        """Until the screen has it; returns the match."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = re.search(pattern, self.screen.text(), re.MULTILINE)
            if found:
                return found
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.read(0.1)
                raise AssertionError('waited in vain for %r on\n%s' % (pattern, self.screen.text()))
            self.read(0.2)

    def wait(self):
        """Its exit status; what it still wrote is read."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            self.read(0.05)
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError('it does not end:\n' + self.screen.text())
        while select.select([self.master], [], [], 0)[0] and self.read(0):
            pass
        return self.process.returncode

    def clean(self):
        """What it left behind that it should not have: of the terminal's modes and of the screen."""
        wrong = []
        if termios.tcgetattr(self.slave) != self.before:
            wrong.append('modes')
        if self.screen.alternate:
            wrong.append('alternate screen')
        if self.screen.hidden:
            wrong.append('hidden cursor')
        if self.screen.sgr:
            wrong.append('attributes %s' % sorted(self.screen.sgr))
        return wrong

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)
