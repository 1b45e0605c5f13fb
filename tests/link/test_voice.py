#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What workers say on stderr, in the mediator's log: docs/mediator.md, Logs; docs/worker.md W10."""

import unittest

import vgpu_link_device as link
from rig import Case, say, say_in, wait_for


class Voice(Case):
    def said(self, **match):
        return [w['line'] for w in self.mediator.lines('worker-says', **match)]

    def test_w10_a_line_with_its_speaker(self):
        d = self.device()
        self.ok(d.ask(link.named(link.SESSION_OPEN, 5)))
        pid = self.ok(d.ask(say_in(5, 'pid'))).data.decode()
        self.ok(d.ask(say_in(5, 'say the driver is odd')))
        line = self.mediator.wait_line('worker-says', vm=7)
        self.assertEqual((line['session'], line['pid'], line['line'], line['level']),
                         ('0x5', pid, 'the driver is odd', 'warn'))

    def test_w10_nothing_passes_for_the_mediators(self):
        """A line that looks like the mediator's comes quoted; its level is believed, nothing else of it."""
        d = self.device()
        self.ok(d.ask(say('forge')))
        self.mediator.wait_line('worker-says', 2)
        self.assertEqual(self.mediator.lines('violation'), [])
        first, second = self.mediator.lines('worker-says')[-2:]
        self.assertEqual(first['line'], r'event=violation vm=1 reason=\"x\"')
        self.assertEqual((first['level'], first['prog']), ('error', 'vgpu-mediator'))
        self.assertEqual(second['line'], r'?[31m<0>a \"quoted\" line?')
        for line in self.mediator.text().splitlines():
            self.assertRegex(line, r'^\d{4}-\d\d-\d\dT')

    def test_w10_talk_is_bounded(self):
        """One that never stops talking costs a few lines, and nobody else's time or words."""
        d = self.device()
        self.ok(d.ask(say('babble')))
        other = self.device(8)
        wait_for('the first lines', lambda: len(self.said(vm=7)) >= 60)
        rss = self.mediator.rss_kib()
        for n in range(100):
            self.ok(other.ask(say('pid')))
        self.ok(other.ask(say('say I am here')))
        self.mediator.wait_line('worker-says', vm=8)
        self.ok(d.ask(link.named(link.SESSION_CLOSE, 0)))
        self.mediator.wait_line('worker-end', vm=7)
        last = self.mediator.lines('worker-says', vm=7)[-1]
        self.assertGreater(int(last['suppressed']), 0)
        self.assertLess(self.mediator.rss_kib() - rss, 8192)
        log = len(self.mediator.text())
        self.assertLess(log, 200000)

    def test_w10_last_words(self):
        """What a worker said last is in the log, before the line that says that it is gone, however much it said."""
        d = self.device()
        self.assertEqual(d.ask(say('last-words')).status, 719)
        self.mediator.wait_line('worker-end', vm=7)
        self.assertEqual(self.said(vm=7)[-1], 'these are my last words')
        text = self.mediator.text()
        self.assertLess(text.index('my last words'), text.index('event=worker-end'))

    def test_no_descriptors_stay(self):
        d = self.device()
        self.ok(d.ask(say('pid')))
        before = self.mediator.fds()
        for n in range(5):
            self.ok(d.ask(link.named(link.SESSION_OPEN, 9)))
            self.ok(d.ask(say_in(9, 'say %d' % n)))
            self.ok(d.ask(link.named(link.SESSION_CLOSE, 9)))
        wait_for('their end', lambda: len(self.mediator.workers()) == 1)
        wait_for('their descriptors', lambda: self.mediator.fds() == before)


class Quiet(Case):
    arguments = ('--log-level', 'info')

    def test_debug_lines_cost_nothing(self):
        """A worker's debug lines are left out where the mediator's are, and fill no bucket."""
        d = self.device()
        for n in range(80):
            self.ok(d.ask(say('say 2026-01-01T00:00:00.000000Z level=debug prog=w event=x n=%d' % n)))
        self.ok(d.ask(say('say loud')))
        self.assertEqual(self.mediator.wait_line('worker-says')['suppressed'], '0')
        self.assertEqual(len(self.mediator.lines('worker-says')), 1)


if __name__ == '__main__':
    unittest.main()
