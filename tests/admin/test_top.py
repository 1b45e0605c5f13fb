#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`vgpu-admin top`: figures from two looks, keys, sizes of terminals, and what it leaves behind however it ends."""

import json
import os
import re
import signal
import time
import unittest

from fake_control import FakeControl, vm_object
from rig import ADMIN, FAILED, NO_MEDIATOR, OK, USAGE, Case
from terminal import PATIENCE_S, Terminal

KEYS_LINE = r'^q quit'


class TopCase(Case):
    """Counters go on by the clock: VM n has n * 100 ms of lease and 50 n launches each second."""

    def setUp(self):
        super().setUp()
        self.began = time.monotonic()
        self.server.vms[3].update(name='db', priority='high', memory_used=100 << 20)
        self.server.tick = self.tick
        self.speed = {1: 0.1, 2: 0.2, 3: 0.3}

    def tick(self, server):
        t = time.monotonic() - self.began
        server.stats = []
        for n, speed in self.speed.items():
            if n in server.vms:
                server.vms[n]['lease_ms'] = int(1000 * speed * t)
                server.stats.append({'vm': n, 'lease_ns': int(1e9 * speed * t), 'launches': int(500 * speed * t),
                                     'wait': {'sum_ns': int(5e8 * t), 'counts': []}, 'pending': 7, 'jobs': 1})

    def top(self, *words, **more):
        t = Terminal([ADMIN, 'top'] + [str(w) for w in words], env={'VGPU_CONTROL': self.socket}, **more)
        self.addCleanup(t.close)
        return t

    def wait_order(self, t, want):
        """Until these VMs stand on the screen in this order: it may be seen half drawn."""
        deadline, order = time.monotonic() + PATIENCE_S, None
        while order != want:
            self.assertLess(time.monotonic(), deadline, 'VMs %s, wanted %s:\n%s' % (order, want, t.screen.text()))
            t.read(0.1)
            order = [int(n) for n in re.findall(r'^ +(\d+)  \S+ +A ', t.screen.text(), re.MULTILINE)]

    def quit(self, t, keys='q', status=OK):
        t.send(keys)
        self.assertEqual(t.wait(), status)
        self.assertEqual(t.clean(), [])


class Batch(TopCase):
    def test_rates_from_two_looks(self):
        frames = [json.loads(l) for l in self.admin('top', '--json', '--batch', 2, '--interval', 0.4).stdout.splitlines()]
        self.assertEqual(len(frames), 2)
        for f in frames:
            vms = {v['vm']: v for v in f['vms']}
            for n, speed in self.speed.items():
                self.assertAlmostEqual(vms[n]['share'], speed, delta=0.4 * speed)
                self.assertAlmostEqual(vms[n]['launches_per_s'], 500 * speed, delta=200 * speed)
                self.assertAlmostEqual(vms[n]['wait_share'], 0.5, delta=0.2)
                self.assertEqual(vms[n]['queue'], 8)
            self.assertAlmostEqual(f['gpus'][0]['load'], sum(v['share'] for v in f['vms']), delta=0.001)
            self.assertEqual(f['gpus'][0]['memory_used'], 100 << 20)
            self.assertEqual([v['vm'] for v in f['vms']], [3, 2, 1])

    def test_rates_are_by_the_mediators_clock(self):
        """K10's uptime_s: how long an answer took on its way is no matter."""
        looks = []

        def jump(server):
            looks.append(1)
            server.stats = None
            server.status['uptime_s'] += 10
            server.vms[1]['lease_ms'] = 5000 * len(looks)
        self.server.tick = jump
        frame = self.json('top', '--batch', 1, '--interval', 0.1)
        self.assertAlmostEqual(frame['interval_s'], 10.1, delta=0.5)
        self.assertAlmostEqual({v['vm']: v['share'] for v in frame['vms']}[1], 0.5, delta=0.05)

    def test_text(self):
        out = self.admin('top', '--batch', 1, '--interval', 0.2).stdout
        self.assertIn('3 VMs attached, 3 registered', out)
        self.assertRegex(out, r'GPU 0 +A software:0 +\[\|+ +\] +\d+\.\d%')
        self.assertRegex(out, r'\n +3  db +A +0  high +100 +- +\d+\.\d% +\d+\.\d% +8 +100M +1G +\d+ +0\.0  attached\n')

    def test_sort_and_filter(self):
        for sort, want in (('vm', [1, 2, 3]), ('name', [3, 1, 2]), ('memory', [3, 1, 2]), ('launches', [3, 2, 1])):
            frame = self.json('top', '--batch', 1, '--interval', 0.1, '--sort', sort)
            self.assertEqual([v['vm'] for v in frame['vms']], want, sort)
        for text, want in (('db', [3]), ('web', [1, 2]), ('HIGH', [3]), ('nothing', [])):
            frame = self.json('top', '--batch', 1, '--interval', 0.1, '--filter', text, '--sort', 'vm')
            self.assertEqual([v['vm'] for v in frame['vms']], want, text)

    def test_without_statistics(self):
        """K13 may be `unsupported`; then what only it knows is not made up."""
        tick, self.server.tick = self.server.tick, lambda s: (self.tick(s), setattr(s, 'stats', None))
        vm = self.json('top', '--batch', 1, '--interval', 0.3)['vms'][0]
        self.assertGreater(vm['share'], 0)
        self.assertEqual((vm['launches_per_s'], vm['queue'], vm['wait_share']), (None, None, None))

    def test_statistics_in_pages(self):
        for n in range(4, 301):
            self.server.vms[n] = vm_object(n, attached=True, state='attached', gpu=0)
            self.speed[n] = 0.001
        frame = self.json('top', '--batch', 1, '--interval', 0.3, '--sort', 'vm')
        self.assertEqual([v['vm'] for v in frame['vms'] if v['launches_per_s'] is None], [])

    def test_a_counter_that_starts_again_is_no_rate(self):
        looks = []

        def again(server):
            looks.append(1)
            server.stats = None
            server.vms[1]['lease_ms'] = 1000 if len(looks) == 1 else 5
        self.server.tick = again
        shares = {v['vm']: v['share'] for v in self.json('top', '--batch', 1, '--interval', 0.1)['vms']}
        self.assertEqual(shares, {1: None, 2: 0, 3: 0})

    def test_another_mediator_is_no_rate(self):
        looks = []

        def other(server):
            looks.append(1)
            server.status['pid'] = min(len(looks), 2)
        self.server.tick = other
        self.assertEqual(len(self.admin('top', '--json', '--batch', 1, '--interval', 0.1).stdout.splitlines()), 1)
        self.assertEqual(len(looks), 4)  # status comes before: the pid of the look before

    def test_the_mediators_end_is_an_error(self):
        self.server.script = [None]
        self.admin('top', '--batch', 5, '--interval', 0.1, status=NO_MEDIATOR)

    def test_a_local_client_alone_of_its_user(self):
        self.server.vms[1000000] = vm_object(1000000, local=True, uid=0, attached=True, state='attached', gpu=0)
        self.server.tick = lambda s: setattr(s, 'stats', [{'uid': 0, 'lease_ns': 0, 'launches': 0}])
        vms = {v['vm']: v for v in self.json('top', '--batch', 1, '--interval', 0.1)['vms']}
        self.assertEqual(vms[1000000]['launches_per_s'], 0)
        self.server.vms[1000001] = dict(self.server.vms[1000000], vm=1000001)
        vms = {v['vm']: v for v in self.json('top', '--batch', 1, '--interval', 0.1)['vms']}
        self.assertIsNone(vms[1000000]['launches_per_s'])


class Live(TopCase):
    def test_shows_and_quits(self):
        t = self.top('--interval', 0.2)
        t.wait_for(r'^ +3  db .* \d+\.\d% ')
        self.assertTrue(t.screen.alternate)
        self.assertRegex(t.screen.lines()[0], r'^vgpu-admin top')
        self.assertRegex(t.screen.lines()[-1], KEYS_LINE)
        self.wait_order(t, [3, 2, 1])
        self.quit(t)

    def test_keys(self):
        t = self.top('--interval', 0.2)
        t.wait_for(r'^ +3  db .* \d+\.\d% ')
        t.send('r')
        t.wait_for('the other way round')
        self.wait_order(t, [1, 2, 3])
        t.send('r<')
        t.wait_for('by name$')
        self.wait_order(t, [3, 1, 2])
        t.send('/web')
        t.wait_for('^Filter: web')
        self.wait_order(t, [1, 2])
        t.send('\x7f\x7f\x7fzz\r')
        t.wait_for('no VM has this')
        t.send('\x1b')
        t.wait_for(r'^ +3  db')
        t.send('h')
        t.wait_for('^SHARE  of the time')
        t.send('h')
        t.wait_for(r'^ +3  db')
        t.send('-')
        t.wait_for('every 0.1 s')
        t.send('++')
        t.wait_for('every 0.5 s')
        self.quit(t)

    def test_pause(self):
        t = self.top('--interval', 0.1)
        t.wait_for(r'^ +3  db .* \d+\.\d% ')
        t.send(' ')
        t.wait_for('PAUSED')
        time.sleep(0.3)  # what was asked is answered
        count = len(self.server.requests)
        t.read(0.4)
        time.sleep(0.4)
        self.assertEqual(len(self.server.requests), count)
        t.send(' ')
        t.wait_for(r'by share$')
        deadline = time.monotonic() + 30
        while len(self.server.requests) == count and time.monotonic() < deadline:
            t.read(0.1)
        self.assertGreater(len(self.server.requests), count)
        self.quit(t)

    def test_sizes(self):
        for n in range(4, 60):
            self.server.vms[n] = vm_object(n, name='w-%d' % n, attached=True, state='attached', pool='A', gpu=0)
        t = self.top('--interval', 0.2, '--sort', 'vm', rows=30, columns=120)
        t.wait_for(KEYS_LINE)
        for rows, columns in ((40, 140), (24, 80), (12, 60), (5, 40), (2, 10), (1, 1), (50, 200)):
            with self.subTest(rows=rows, columns=columns):
                t.resize(rows, columns)
                if columns >= 40:
                    t.wait_for(r'^q quit[^\n]*\Z')  # on the last line
                else:
                    for _ in range(5):
                        t.read(0.1)
        t.wait_for(r'^ +30  w-30')
        t.send('\x1b[6~')
        self.quit(t)

    def test_page_down_reaches_the_last(self):
        for n in range(4, 100):
            self.server.vms[n] = vm_object(n, name='w-%d' % n, attached=True, state='attached', pool='A', gpu=0)
        t = self.top('--interval', 0.2, '--sort', 'vm', rows=24, columns=100)
        t.wait_for(r'^ +10  w-10')
        t.send('\x1b[6~' * 9)
        t.wait_for(r'^ +99  w-99')
        t.send('\x1b[5~' * 9)
        t.wait_for(r'^ +1  web-1')
        self.quit(t)

    def test_terminals_without_colours(self):
        for term in ('vt100', 'xterm-mono', 'xterm-256color'):
            with self.subTest(term):
                t = self.top('--interval', 0.2, term=term)
                t.wait_for(r'^ +3  db .* \d+\.\d% ')
                coloured = any(s & set(range(30, 38)) for row in t.screen.cells for _, s in row)
                self.assertEqual(coloured, term == 'xterm-256color')
                self.quit(t)

    def test_states_stand_out(self):
        self.server.vms[2].update(state='quarantined')
        t = self.top('--interval', 0.2, '--sort', 'vm', term='xterm-256color')
        found = t.wait_for(r'^ +2 .*quarantined')
        row = t.screen.cells[t.screen.text()[:found.start()].count('\n')]
        self.assertIn(31, row[10][1])
        self.quit(t)

    def test_mediator_goes_and_comes(self):
        t = self.top('--interval', 0.1)
        t.wait_for(r'^ +3  db .* \d+\.\d% ')
        self.server.close()
        t.wait_for('closed the connection|no mediator at')
        self.server = FakeControl(self.socket)
        self.server.vms[5] = vm_object(5, name='new', registered=True, attached=True, state='attached', pool='A', gpu=0)
        t.wait_for(r'^ +5  new')
        t.wait_for(KEYS_LINE)
        self.quit(t)

    def test_every_end_leaves_the_terminal_clean(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            with self.subTest(number):
                t = self.top('--interval', 60)
                t.wait_for(KEYS_LINE)
                t.process.send_signal(number)
                self.assertEqual(t.wait(), OK)
                self.assertEqual(t.clean(), [])
        t = self.top('--interval', 60)
        t.wait_for(KEYS_LINE)
        self.quit(t, '\x03')

    def test_terminals_that_cannot_be_used(self):
        t = self.top(term='no-such-terminal')
        self.assertEqual(t.wait(), FAILED)
        self.assertIn(b'no-such-terminal', t.raw)
        self.assertEqual(t.clean(), [])
        t = self.top(stdin=False)
        self.assertEqual(t.wait(), USAGE)
        self.assertIn(b'--batch', t.raw)
        self.assertIn('--batch', self.admin('top', status=USAGE).stderr)

    def test_a_terminal_that_goes_away_is_the_end(self):
        t = self.top('--interval', 60)
        t.wait_for(KEYS_LINE)
        master, t.master = t.master, os.open('/dev/null', os.O_RDWR)
        os.close(master)
        self.assertIsNotNone(t.process.wait(60))


if __name__ == '__main__':
    unittest.main()
