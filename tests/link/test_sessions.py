#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which worker a request goes to, and what a guest is told when a worker dies: docs/protocol.md P1 to P8, P14 to P17,
P23, P24; docs/worker.md from the mediator's side."""

import json
import os
import select
import signal
import struct
import time
import unittest

import vgpu_link_device as link
from rig import Case, say, say_in, wait_for

OPEN, CLOSE = link.SESSION_OPEN, link.SESSION_CLOSE


class Routing(Case):
    config = '[limits]\nsessions = 3\nmemory = 12345678\n[vm 8]\nsessions = 1\nmemory = 999\n'

    def test_p1_to_p4(self):
        """P5: what fails has no effect: not even a worker is started."""
        d = self.device()
        cases = [
            (b'\0', 9, 1), (link.typed(link.NOP)[:31], 9, 1),
            (link.typed(link.NOP, version=0x00020000), 8, 801), (link.typed(7), 8, 801), (link.typed(0xfff), 8, 801),
            (link.named(0x1000, 1), 0, 201), (link.named(0x1fff, 0), 8, 801), (link.named(0x2004, 1), 8, 801),
            (link.named(0xffffffff, 1), 8, 801),
            (link.named(OPEN, 1, flags=4), 1, 1), (link.named(OPEN, 1, flags=link.ASYNC), 1, 1),
            (link.named(OPEN, 1, reserved=(0, 1)), 1, 1), (link.named(OPEN, 1, param_count=1), 1, 1),
            (link.named(OPEN, 1, length=7), 1, 1), (link.named(OPEN, 1, b'\0'), 1, 1),
            (link.named(OPEN, 1, offset=33), 1, 1), (link.named(OPEN, 1, offset=24), 1, 1),
            (link.named(OPEN, 1, offset=0xfffffff8), 1, 1), (link.named(OPEN, 1, length=0xfffffff8), 1, 1),
            (link.typed(OPEN), 1, 1), (link.named(CLOSE, 1, b'\0' * 8), 1, 1),
        ]
        for data, error, status in cases:
            with self.subTest(data=data):
                response = d.ask(data)
                self.assertEqual((response.error, response.status), (error, status))
                self.assertTrue(response.data)  # P6: a text that says what was wrong
        self.assertEqual(self.mediator.workers(), [])
        self.ok(d.ask(link.named(OPEN, 1, flags=link.HIGH_PRIORITY)))  # P10

    def test_p14_each_session_has_its_worker(self):
        d = self.device()
        pids = {0: self.ok(d.ask(say('pid'))).data}
        for session in (5, 2**64 - 1):
            self.ok(d.ask(link.named(OPEN, session)))
            pids[session] = self.ok(d.ask(say_in(session, 'pid'))).data
        self.assertEqual(len(set(pids.values())), 3)
        self.assertEqual(self.ok(d.ask(say_in(0, 'pid'))).data, pids[0])
        self.assertEqual(self.ok(d.ask(say_in(5, 'pid'))).data, pids[5])
        for opcode in (link.STAGE_WRITE, link.STAGE_DROP, link.MODULE_LOAD, link.MODULE_UNLOAD, link.MODULE_KERNEL,
                       link.MODULE_GLOBAL):
            self.assertEqual(self.ok(d.ask(link.named(opcode, 5, b'pid'))).data, pids[5])
            self.assertEqual(self.ok(d.ask(link.named(opcode, 0, b'pid'))).data, pids[0])

    def test_p14_vms_are_apart(self):
        """Two VMs may use the same number; neither reaches what the other opened."""
        a, b = self.device(7), self.device(8)
        self.ok(a.ask(link.named(OPEN, 5)))
        self.assertEqual(b.ask(link.named(CLOSE, 5)).status, 201)
        self.assertEqual(b.ask(say_in(5, 'pid')).status, 201)
        self.ok(b.ask(link.named(OPEN, 5)))
        self.assertNotEqual(self.ok(a.ask(say_in(5, 'pid'))).data, self.ok(b.ask(say_in(5, 'pid'))).data)
        b.reset()
        self.ok(a.ask(say_in(5, 'pid')))

    def test_p15_not_open(self):
        d = self.device()
        for opcode in (link.SESSION_REQUEST, link.STAGE_WRITE, link.MODULE_LOAD, link.MODULE_KERNEL, CLOSE):
            response = d.ask(link.named(opcode, 5, b'' if opcode == CLOSE else b'x'))
            self.assertEqual((response.error, response.status), (0, 201))  # P8

    def test_p24_open_and_close(self):
        d = self.device()
        response = d.ask(link.named(OPEN, 0))
        self.assertEqual((response.error, response.status), (0, 1))
        for session in (1, 2, 3):
            self.ok(d.ask(link.named(OPEN, session)))
        self.assertEqual(d.ask(link.named(OPEN, 2)).status, 401)
        response = d.ask(link.named(OPEN, 4))
        self.assertEqual((response.error, response.data), (7, b'vm 7: has 3 sessions open, the most it may have'))
        self.ok(d.ask(link.named(CLOSE, 2)))
        self.ok(d.ask(link.named(OPEN, 4)))
        self.assertEqual(d.ask(link.named(CLOSE, 2)).status, 201)
        small = self.device(8)
        self.ok(small.ask(link.named(OPEN, 1)))
        self.assertEqual(small.ask(link.named(OPEN, 2)).error, 7)

    def test_p24_close_ends_what_hangs(self):
        d = self.device()
        self.ok(d.ask(link.named(OPEN, 5)))
        seq = d.submit(say_in(5, 'silent'))
        d.cancel(seq)
        self.ok(d.ask(link.named(CLOSE, 5)))
        wait_for('the worker to end', lambda: not self.mediator.workers())
        pid = self.ok(d.ask(say('pid'))).data
        self.ok(d.ask(link.named(CLOSE, 0)))  # a fresh session 0
        self.assertNotEqual(self.ok(d.ask(say('pid'))).data, pid)
        self.ok(d.ask(link.named(CLOSE, 0)))
        self.ok(d.ask(link.named(CLOSE, 0)))  # it is always open

    def test_worker_arguments(self):
        args = json.loads(self.ok(self.device(8).ask(say('args'))).data)
        said = dict(zip(args[::2], args[1::2]))
        expected = {'--fd': '3', '--vm': '8', '--session': '0', '--backend': 'software', '--memory': '999',
                    '--account-fd': '4', '--account-slot': '0', '--queue': '512', '--log-level': 'debug'}
        if os.getuid() == 0:
            self.assertEqual(said.pop('--uid'), said.pop('--gid'))
        self.assertEqual(said, expected)
        d = self.device(7)
        self.ok(d.ask(link.named(OPEN, 2**63)))
        args = json.loads(self.ok(d.ask(say_in(2**63, 'args'))).data)
        self.assertEqual(args[args.index('--session') + 1], str(2**63))
        self.assertEqual(args[args.index('--memory') + 1], '12345678')

    @unittest.skipUnless(os.getuid() == 0, 'only a mediator that runs as root gives uids')
    def test_each_vm_has_its_uid(self):
        uids = []
        for vm in (7, 9, 11):
            args = json.loads(self.ok(self.device(vm).ask(say('args'))).data)
            uids.append(int(args[args.index('--uid') + 1]))
            self.assertNotEqual(uids[-1], 0)
        if not self.mediator.lines('worker-uid'):
            self.assertEqual(len(set(uids)), 3)

    def test_worker_surroundings(self):
        """Nothing of the mediator goes on to a worker but its socket, its lock (W8), its account (W9), a pipe and a short
        environment."""
        state = json.loads(self.ok(self.device().ask(say('state'))).data)
        self.assertEqual(state['fds'], [0, 1, 2, 3, 4])
        self.assertEqual(state['lock'], os.path.join(os.path.realpath(self.mediator.sockets), 'vgpu-mediator.lock'))
        # PWD, SHLVL, _ and OLDPWD are the shell's that starts the fake one.
        self.assertEqual([n for n in state['environment']
                          if n not in ('PATH', 'LANG', 'LANGUAGE', 'TMPDIR', 'VGPU_FAKE', 'PWD', 'OLDPWD',
                                       'SHLVL', '_')
                          and not n.startswith('LC_') and not n.endswith('SAN_OPTIONS')], [])
        self.assertTrue(state['pgrp'])
        # Nothing blocked or ignored, but for what Python (13, 25) and the C library (32, 33) ignore themselves.
        self.assertEqual([int(m.split()[1], 16) & 0x7fffffff & ~0x1001000 for m in state['masks']], [0, 0])

    def test_response_passes_unparsed(self):
        d = self.device()
        self.assertEqual(d.ask(say('empty')).raw, b'')
        self.assertEqual(len(self.raw(d, 'big')), 1024)
        self.assertEqual(d.ask(say('error 10')).error, 10)

    def raw(self, d, text):
        seq = d.submit(say(text))
        message = d.expect(link.RESPONSE)
        self.assertEqual(message.seq, seq)
        return message.payload[8:]


class Deaths(Case):
    config = '[scheduler]\nanswer_ms = 3000\nstart_ms = 3000\n'

    def pid(self, d, session=0):
        return int(self.ok(d.ask(say_in(session, 'pid'))).data)

    def sticky(self, d, session, status=719):
        for _ in range(2):
            response = d.ask(say_in(session, 'pid'))
            self.assertEqual((response.error, response.status), (0, status))
            self.assertTrue(response.data)
        if session == 0:
            response = d.ask(say('pid'))
            self.assertEqual((response.error, response.status), (5, status))  # P7

    def test_p16_killed_between_requests(self):
        d = self.device()
        self.ok(d.ask(link.named(OPEN, 5)))
        alone = self.pid(d)
        for session in (5, 0):
            os.kill(self.pid(d, session), signal.SIGKILL)
            self.mediator.wait_line('worker-end', session=hex(session))
            self.sticky(d, session)
            self.assertEqual(d.ask(link.named(OPEN, 5)).status, 401)  # it is open still
            if session == 5:
                self.assertEqual(self.pid(d), alone)  # the other session notices nothing
        self.ok(d.ask(link.named(CLOSE, 5)))
        self.ok(d.ask(link.named(CLOSE, 0)))
        self.pid(d)
        self.ok(d.ask(link.named(OPEN, 5)))
        self.pid(d, 5)

    def test_p16_killed_during_a_request(self):
        d = self.device()
        pid = self.pid(d)
        seq = d.submit(say('silent'))
        os.kill(pid, signal.SIGKILL)
        response = d.response(seq)
        self.assertEqual((response.error, response.status), (5, 719))
        self.assertIn(b'signal 9', response.data)
        self.sticky(d, 0)
        self.assertEqual(self.device(8).ask(say('die')).status, 719)
        d.reset()  # P17
        self.pid(d)

    def test_p16_killed_after_its_answer(self):
        d = self.device()
        self.ok(d.ask(say('answer-then-die')), b'last words')
        self.mediator.wait_line('worker-end')
        self.sticky(d, 0)

    def test_p16_exit(self):
        d = self.device()
        self.assertEqual(d.ask(say_in(0, 'exit 3')).status, 719)
        self.assertIn('status 3', self.mediator.wait_line('worker-end')['reason'])

    def test_w2_silent(self):
        d = self.device()
        self.assertEqual(d.ask(say('silent')).status, 719)
        self.assertIn('did not answer', self.mediator.wait_line('worker-kill')['reason'])
        wait_for('the worker to go', lambda: not self.mediator.workers())

    def test_w2_cancelled_is_not_owed(self):
        d = self.device()
        pid = self.pid(d)
        d.cancel(d.submit(say('silent')))
        time.sleep(4)
        self.assertEqual(self.pid(d), pid)

    def test_w2_cancelling_keeps_no_hung_worker(self):
        d = self.device()
        self.ok(d.ask(say('deaf')))

        def cancelled():
            seq = d.submit(say('pid'))
            if select.select([d.sock], [], [], 1)[0]:
                return d.response(seq).status == 719
            d.cancel(seq)
            return False
        wait_for('the worker to be killed', cancelled)
        self.assertIn('did not answer', self.mediator.wait_line('worker-kill')['reason'])

    def test_w2_surplus_answers_are_dropped(self):
        d = self.device()
        self.ok(d.ask(say('twice')), b'')
        self.assertEqual(self.ok(d.ask(say('other'))).data, b'right')
        self.pid(d)

    def test_w6_stubborn(self):
        """Who does not exit when its socket closes is killed; its number can be used at once."""
        d = self.device()
        self.ok(d.ask(say('stubborn')))
        d.reset()
        self.pid(d)
        wait_for('the old worker to be killed', lambda: len(self.mediator.workers()) == 1)
        self.assertEqual(len(self.mediator.lines('worker-kill')), 1)

    def test_w6_hang_up(self):
        d = self.device()
        self.assertEqual(d.ask(say('hang-up')).status, 719)
        wait_for('the worker to go', lambda: not self.mediator.workers())

    def test_w7_rules(self):
        """Who breaks the rules is killed, with the reason in the log; the other VM notices nothing."""
        other = self.device(8)
        pid = self.pid(other)
        d = self.device()
        for how, reason in (('short', 'too short'), ('long', 'too long'), ('length', "length is not what came"),
                            ('inner', 'wrong length'), ('inner-short', 'too short'), ('inner-overflow', 'wrong length'),
                            ('type', 'unknown type'), ('side', 'too long'), ('ready', 'second READY'),
                            ('payload', 'too long'), ('want', 'WANT'), ('return', 'RETURN'), ('return-0', 'RETURN'),
                            ('fds', 'descriptors'), ('empty', '')):
            with self.subTest(how=how):
                count = len(self.mediator.lines('worker-kill'))
                response = d.ask(say('break ' + how))
                self.assertEqual((response.error, response.status), (5, 719))
                line = self.mediator.wait_line('worker-kill', count + 1)
                self.assertIn(reason, line['reason'])
                d.reset()
        self.assertEqual(self.pid(other), pid)
        wait_for('one worker left', lambda: len(self.mediator.workers()) == 1)

    def test_w1_before_ready(self):
        self.mediator.start_as('early')
        self.assertEqual(self.device().ask(say('pid')).status, 719)
        self.assertIn('before READY', self.mediator.wait_line('worker-kill')['reason'])

    def test_w1_never_ready(self):
        self.mediator.start_as('never')
        d = self.device()
        self.assertEqual(d.ask(say('pid')).status, 719)
        self.assertIn('not ready in time', self.mediator.wait_line('worker-kill')['reason'])

    def test_w1_slow_start(self):
        """Requests wait in the socket until the worker is ready."""
        self.mediator.start_as('slow 1.5')
        d = self.device()
        d.cancel(d.submit(say('pid')))
        self.ok(d.ask(say('pid')))

    def test_flood_of_a_deaf_worker(self):
        """A worker that does not read costs its guest answers, and the mediator nothing."""
        other = self.device(8)
        d = self.device()
        self.ok(d.ask(say('deaf')))
        errors = set()
        for _ in range(3000):
            d.cancel(d.submit(say('pid')))
            while select.select([d.sock], [], [], 0)[0]:
                errors.add(struct.unpack_from('<I', d.expect(link.RESPONSE).payload)[0])
            if errors or self.mediator.lines('worker-kill'):
                break
        self.assertIn(errors, ({7}, {5}, set()))
        self.assertTrue(errors or 'does not read' in self.mediator.text())
        self.ok(other.ask(say('pid')))


class Starts(Case):
    def test_cannot_start(self):
        """304 and a text, again and again without a storm of attempts; then it works again."""
        os.rename(self.mediator.worker, self.mediator.worker + '.away')
        d = self.device()
        for _ in range(50):
            response = d.ask(say('pid'))
            self.assertEqual((response.error, response.status), (5, 304))
            self.assertTrue(response.data)
        self.assertLess(len(self.mediator.lines('worker-start-failed')), 10)
        self.ok(d.ask(link.named(OPEN, 5)))
        self.assertEqual((d.ask(say_in(5, 'pid')).error, d.ask(say_in(5, 'pid')).status), (0, 304))
        os.rename(self.mediator.worker + '.away', self.mediator.worker)
        wait_for('a worker', lambda: d.ask(say('pid')).status == 0)
        self.ok(d.ask(say_in(5, 'pid')))

    def test_exits_before_ready(self):
        self.mediator.start_as('exit 4')
        d = self.device()
        for _ in range(30):
            response = d.ask(say('pid'))
            self.assertEqual((response.error, response.status), (5, 304))
        self.assertIn('status 4', self.mediator.lines('worker-start-failed')[0]['reason'])
        self.assertLess(len(self.mediator.lines('worker-start')), 10)
        self.mediator.start_as('')
        wait_for('a worker', lambda: d.ask(say('pid')).status == 0)

    def test_killed_before_ready(self):
        self.mediator.start_as('kill')
        d = self.device()
        self.assertEqual(d.ask(say('pid')).status, 719)
        self.mediator.start_as('')
        self.assertEqual(d.ask(say('pid')).status, 719)  # P16: until the session is closed
        self.ok(d.ask(link.named(CLOSE, 0)))
        wait_for('a worker', lambda: d.ask(say('pid')).status == 0)

    def test_not_a_program(self):
        with open(self.mediator.worker, 'w') as f:
            f.write('this is no program\n')
        response = self.device().ask(link.typed(link.NOP))
        self.assertEqual(response.status, 304)


class RealWorker(Case):
    real = True

    def test_memory_and_sessions(self):
        d = self.device()
        self.ok(d.ask(link.typed(link.NOP)))
        info = self.ok(d.ask(link.typed(link.GET_DEVICE_INFO))).data
        self.assertEqual(struct.unpack_from('<Q', info, 96)[0], 1 << 30)
        response = self.ok(d.ask(link.typed(link.MEMORY_ALLOC, (256, 0))))
        address = response.results
        copy = link.typed(link.MEMORY_COPY, (1,) + address + (0, 0, 5, 0), b'hello')
        self.wait(d, copy)
        back = link.typed(link.MEMORY_COPY, (2, 0, 0) + address + (5, 0))
        self.assertEqual(self.wait(d, back).data, b'hello')
        self.ok(d.ask(link.named(OPEN, 3)))
        other = d.ask(link.named(link.SESSION_REQUEST, 3, back))
        self.assertNotEqual(other.status, 0)

    def wait(self, d, request):
        d.request_id = getattr(d, 'request_id', 0) + 1
        response = d.ask(request, d.request_id)
        while response.status == 600:
            response = d.ask(request, d.request_id)
        return self.ok(response)


if __name__ == '__main__':
    unittest.main()
