#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What workers say that they did, when they say rubbish: docs/worker.md W9, docs/metrics.md."""

import json
import os
import shutil
import socket
import tempfile
import unittest

import vgpu_link_device as link
from rig import Case, say, wait_for

FOLDER = tempfile.mkdtemp(prefix='figures-')
CONTROL = os.path.join(FOLDER, 'control.sock')


def tearDownModule():
    shutil.rmtree(FOLDER)


class Figures(Case):
    config = '[mediator]\ncontrol = %s\n' % CONTROL

    def stats(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(CONTROL)
            s.sendall(b'{"id":1,"op":"stats"}\n')
            answer = json.loads(s.makefile().readline())
        self.assertTrue(answer['ok'], answer)
        return answer['result']

    def vm(self, number):
        return [v for v in self.stats()['vms'] if v.get('vm') == number][0]

    def numbers(self, number):
        """All counters that workers write."""
        vm = self.vm(number)
        found = [vm[k] for k in ('records', 'calls', 'launches', 'posts', 'bytes_to_device', 'bytes_from_device', 'busy_ns')]
        return found + [vm['call']['sum_ns']] + vm['call']['counts']

    def test_rubbish(self):
        """Nothing of it goes back, nor to anybody else; the mediator goes on."""
        good, bad = self.device(7), self.device(8)
        self.ok(good.ask(say('usage 0')))
        self.ok(bad.ask(say('usage 0')))
        calls_of_good, last = self.numbers(7), self.numbers(8)
        for content in ['255', '0', '1'] + 60 * ['random'] + ['0', '127']:
            self.ok(bad.ask(say('usage ' + content)))
            now = self.numbers(8)
            self.assertEqual([n for n, l in zip(now, last) if n < l], [])
            self.assertEqual([n for n in now if not 0 <= n < 2**63], [])
            self.assertLessEqual(len(self.vm(8)['errors']), 25)
            last = now
        self.assertEqual(self.numbers(7), calls_of_good)
        self.assertLessEqual(self.vm(8)['jobs'], 10**6)
        result = self.stats()
        gpu = result['gpus'][0]
        self.assertLessEqual(gpu['busy_ns'], gpu['lease_ns'])
        self.assertLessEqual(last[6], self.vm(8)['lease_ns'])
        bad.ask(say('die'))
        self.mediator.wait_line('worker-end', vm=8)
        self.assertGreaterEqual(self.numbers(8)[1], last[1])

    def test_slots_are_clean(self):
        """What a worker left in its place is not the next one's."""
        d = self.device()
        self.ok(d.ask(say('usage 1')))
        d.ask(say('die'))
        wait_for('the worker to be gone', lambda: self.vm(7)['workers'] == 0)
        before = self.numbers(7)
        self.assertEqual(before[1], 0x0101010101010101)
        d.ask(link.named(link.SESSION_CLOSE, 0))
        self.ok(d.ask(say('heard')))
        self.assertEqual(self.vm(7)['workers_started'], 2)
        self.assertEqual(self.numbers(7), before)

    def test_refused_and_reattached(self):
        """Figures of a VM outlive its connection; a second device with its number is a refusal."""
        d = self.device()
        self.ok(d.ask(say('usage 1')))
        first = self.vm(7)
        self.assertEqual((first['attached'], first['attaches'], first['workers']), (1, 1, 1))
        d.close()
        wait_for('the detach', lambda: self.vm(7)['attached'] == 0 and self.vm(7)['workers'] == 0)
        self.assertEqual(self.vm(7)['calls'], 0x0101010101010101)
        self.assertEqual(self.vm(7)['requests'], first['requests'])
        self.device()
        again = self.vm(7)
        self.assertEqual((again['attached'], again['attaches'], again['calls']), (1, 2, 0x0101010101010101))


class Logs(Case):
    """docs/mediator.md, Logs: JSON is the same lines, and a request can be followed from the link to the worker and back."""

    real = True
    config = '[mediator]\nlog_format = json\n'

    def lines(self, event):
        found = [json.loads(line) for line in self.mediator.text().splitlines()]  # every line is an object
        return [line for line in found if line['event'] == event]

    def test_a_request_is_followed(self):
        d = self.device()
        self.ok(d.ask(say(''), 4711))
        request = wait_for('the answer', lambda: self.lines('answer') and self.lines('request'))[0]
        answer = self.lines('answer')[0]
        self.assertEqual(request['vm'], 7)
        self.assertEqual(request['request'], 4711)
        self.assertEqual([answer[k] for k in ('vm', 'request', 'seq', 'error')], [7, request['request'], request['seq'], 0])
        said = wait_for('the worker', lambda: [w for w in self.lines('worker-says') if 'event=response' in w['line']])
        said = ' '.join(w['line'] for w in self.lines('worker-says'))
        self.assertIn('event=request request=%d seq=%d bytes=' % (request['request'], request['seq']), said)
        self.assertIn('event=response seq=%d error=0 ' % request['seq'], said)


if __name__ == '__main__':
    unittest.main()
