#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/link.md, clause by clause, as the mediator keeps it: the right message and its malformed twins."""

import os
import socket
import struct
import time
import unittest

import vgpu_link_device as link
from rig import Case, say, wait_for

PAIR = link.PAIR


class Violations(Case):
    """L1: logged with the reason, closed, tried again with back-off; nothing else happens."""

    def violates(self, d, data, reason, attached=True):
        if attached and not d.attached:
            d.attach()
        count = len(self.mediator.lines('violation'))
        d.send(data)
        d.expect_closed()
        self.mediator.wait_line('violation', count + 1)
        self.assertIn(reason, self.mediator.lines('violation')[-1]['reason'])

    def test_l1_hello(self):
        hello = link.pack_hello()
        twins = [
            (link.pack(link.HELLO, hello, magic=0x4B4E4C57), 'magic'),
            (link.pack(link.HELLO, hello, magic=0x564C4E4B), 'magic'),
            (link.pack(link.HELLO, hello, fd_count=1), 'fd_count'),
            (link.pack(link.HELLO, hello, reserved=1), 'reserved'),
            (link.pack(link.HELLO, hello, seq=1), 'seq'),
            (link.pack(link.HELLO, hello[:-1]), 'too short'),
            (link.pack(link.HELLO, hello + b'\0'), 'too long'),
            (link.pack(link.HELLO, hello, length=0), 'too short'),
            (link.pack(link.HELLO, hello, length=0xffffffff), 'too long'),
            (link.pack(link.HELLO, link.pack_hello(reserved=(0, 0, 0, 1))), 'reserved'),
            (link.pack(0, hello), 'unknown'),
            (link.pack(9, hello), 'too long'),
            (link.pack(13, hello), 'unknown'),
            (link.pack(link.WELCOME, b'\0' * 24), 'only a mediator'),
        ]
        for data, reason in twins:
            with self.subTest(reason=reason):
                self.violates(self.dialled(), data, reason, attached=False)

    def test_l1_attached(self):
        request = link.pack_request(link.typed(link.NOP))
        twins = [
            (link.pack(link.REQUEST, request, seq=1, magic=0), 'magic'),
            (link.pack(link.REQUEST, request, seq=1, fd_count=16), 'fd_count'),
            (link.pack(link.REQUEST, request, seq=1, reserved=0x100), 'reserved'),
            (link.pack(link.REQUEST, request[:8], seq=1), 'too short'),
            (link.pack(link.REQUEST, PAIR.pack(0, 1025) + b'\0' * 1025, seq=1), 'too long'),
            (link.pack(link.REQUEST, link.pack_request(link.typed(link.NOP), length=31), seq=1), 'request_length'),
            (link.pack(link.REQUEST, link.pack_request(link.typed(link.NOP), length=33), seq=1), 'request_length'),
            (link.pack(link.REQUEST, link.pack_request(link.typed(link.NOP), length=0xfffffff8), seq=1),
             'request_length'),
            (link.pack(link.REQUEST, link.pack_request(link.typed(link.NOP), length=0), seq=1), 'request_length'),
            (link.pack(link.REQUEST, request, seq=0), 'seq'),
            (link.pack(link.CANCEL, b'\0', seq=1), 'too long'),
            (link.pack(link.RESET, b'\0' * 7), 'too short'),
            (link.pack(link.RESET, b'\0' * 9), 'too long'),
            (link.pack(link.RESET, PAIR.pack(0, 1)), 'reserved'),
            (link.pack(link.RESET, PAIR.pack(0, 0), seq=1), 'seq'),
            (link.pack(link.RESPONSE, PAIR.pack(0, 0), seq=1), 'only a mediator'),
            (link.pack(link.UPDATE, b'\0' * 24), 'only a mediator'),
            (link.pack(link.REFUSE, PAIR.pack(1, 0)), 'only a mediator'),
            (link.pack(0xffff), 'unknown'),
            (link.pack(link.HELLO, link.pack_hello()), 'second HELLO'),
            (os.urandom(4096), 'magic'),
        ]
        for data, reason in twins:
            with self.subTest(reason=reason):
                self.violates(self.dialled(), data, reason)
        d = self.device()
        self.ok(d.ask(say('pid')))  # and after all that it serves

    def test_l1_nothing_behind_a_violation_counts(self):
        d = self.device()
        d.send(link.pack(link.CANCEL, b'x', seq=9) + link.pack(link.REQUEST, link.pack_request(say('pid')), seq=1))
        d.expect_closed()
        self.assertEqual(self.mediator.wait_line('detached')['requests'], '0')

    def test_l1_descriptors_are_closed(self):
        before = self.mediator.fds()
        r, w = os.pipe()
        for attached in (False, True):
            d = self.dialled()
            if attached:
                d.attach()
                data = link.pack(link.REQUEST, link.pack_request(link.typed(link.NOP)), seq=1)
            else:
                data = link.pack(link.HELLO, link.pack_hello())
            d.send_with_fds(data, [w] * 16)
            d.expect_closed()
        os.close(w)
        self.assertEqual(os.read(r, 1), b'')  # the mediator keeps none of them
        os.close(r)
        self.assertEqual(len(self.mediator.wait_line('violation', 2)['reason']), len('descriptors came with a message'))
        self.listeners.pop(7).close()
        wait_for('the descriptors of before', lambda: self.mediator.fds() == before)

    def test_l1_partial_bytes(self):
        d = self.dialled()
        for byte in link.pack(link.HELLO, link.pack_hello()):
            d.send(bytes([byte]))
        d.expect(link.WELCOME)
        d.attached = True
        data = link.pack(link.REQUEST, link.pack_request(say('pid')), seq=1) + link.pack(link.CANCEL, seq=99)
        for at in range(0, len(data), 5):
            d.send(data[at:at + 5])
            time.sleep(0.001)
        self.ok(d.response(1))

    def test_l1_end_inside_a_message(self):
        d = self.device()
        d.send(link.pack(link.REQUEST, link.pack_request(say('pid')), seq=1)[:40])
        d.close()
        self.assertEqual(self.mediator.wait_line('detached')['requests'], '0')
        self.ok(self.device().ask(say('pid')))

    def test_l3_nothing_before_welcome(self):
        for data in (link.pack(link.REQUEST, link.pack_request(link.typed(link.NOP)), seq=1),
                     link.pack(link.CANCEL, seq=1), link.pack(link.RESET, PAIR.pack(0, 0))):
            self.violates(self.dialled(), data, 'before HELLO', attached=False)

    def test_l3_hello_limit(self):
        d = self.dialled()
        d.sock.settimeout(1)
        with self.assertRaises(socket.timeout):  # the mediator says nothing first
            d.receive()
        d.sock.settimeout(60)
        d.expect_closed()
        self.assertIn('no HELLO', self.mediator.wait_line('violation')['reason'])

    def test_l8_numbers(self):
        d = self.device()
        for seq in (1, 2, 10, 2**40):
            d.send(link.pack(link.REQUEST, link.pack_request(say('pid')), seq=seq))
            self.ok(d.response(seq))
        self.violates(d, link.pack(link.REQUEST, link.pack_request(say('pid')), seq=2**40), 'not greater')
        d = self.device()
        self.ok(d.ask(say('pid')))  # a new connection numbers anew
        d.seq = 5
        self.ok(d.ask(say('pid')))
        self.violates(d, link.pack(link.REQUEST, link.pack_request(say('pid')), seq=4), 'not greater')

    def test_l9_one_outstanding(self):
        d = self.device()
        d.submit(say('silent'))
        self.violates(d, link.pack(link.REQUEST, link.pack_request(say('pid')), seq=2), 'outstanding')

    def test_l2_who_does_not_read_is_closed(self):
        other = self.device(8)
        d = self.device()
        d.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            for seq in range(1, 3000):
                d.send(link.pack(link.REQUEST, link.pack_request(link.typed(99)), seq=seq))
                if seq == 100:
                    self.ok(other.ask(say('pid')))  # nobody else waits for it
        except (link.Closed, OSError):
            pass
        wait_for('the link to be closed', lambda: '64 KiB' in self.mediator.text())
        self.ok(other.ask(say('pid')))


class Attaching(Case):
    config = '[pool A]\ngpus = software\n[pool B]\ngpus = software, software\n[vm 9]\npool = B\npriority = high\n'

    def refusal(self, vm_id=7, **hello):
        d = self.dialled(vm_id)
        with self.assertRaises(link.Refused) as raised:
            d.attach(**hello)
        d.expect_closed()
        return raised.exception

    def test_l4_features(self):
        d = self.dialled()
        self.assertEqual(d.attach(features=2**64 - 1 - link.FEATURE_CHANNELS).features, 1)
        self.assertEqual(self.refusal(8, features=2).reason, 1)
        self.assertEqual(self.refusal(8, features=0).reason, 1)

    def test_l4_protocol(self):
        self.assertEqual(self.refusal(protocol=0x00020000).reason, 1)
        self.assertEqual(self.refusal(protocol=0).reason, 1)
        self.dialled().attach(protocol=0x00010003)

    def test_l4_wishes(self):
        self.assertEqual(self.device(7, pool='B', priority=0).welcome, (1, 7, 'B', 0))
        self.assertEqual(self.device(9, pool='A', priority=0).welcome, (1, 9, 'B', 2))

    def test_l5_refusals(self):
        e = self.refusal(pool='C')
        self.assertEqual((e.reason, e.text), (2, "vm 7: pool 'C' has no GPU (pools: A B)"))
        for hello in ({'pool': 0x40}, {'pool': 0x5b}, {'pool': 0x161}, {'priority': 3}, {'priority': 0xffffffff}):
            self.assertEqual(self.refusal(**hello).reason, 5)
        self.device(7)  # L6: it was tried again all the time

    def test_l6_backoff(self):
        """A refused device is tried again, less and less often, at least every 2 s."""
        times = []
        for _ in range(6):
            self.refusal(pool='C')
            times.append(time.monotonic())
        self.assertGreater(times[-1] - times[0], 0.5)

    def test_l14_path_decides(self):
        self.assertEqual(self.device(12).welcome.vm_id, 12)
        self.assertEqual(self.dialled(13).attach(vm_id=99).vm_id, 13)

    def test_l14_names(self):
        others = [link.Listener(self.mediator.sockets, 0, name) for name in
                  ('vm-07.sock', 'vm-x.sock', 'vm-5.socket', 'vm--1.sock', 'vm-4294967296.sock')]
        self.device(5)
        for o in others:
            o.sock.settimeout(0.2)
            with self.assertRaises(socket.timeout):
                o.accept()
            o.close()

    def test_l14_duplicate(self):
        path = os.path.join(self.mediator.folder, 'other.sock')
        self.mediator.write_config(self.config + '[vm 7]\nsocket = %s\n' % path)
        first = self.device(7)
        with link.Listener(self.mediator.folder, 7, 'other.sock') as second:
            self.mediator.signal(1)
            d = second.accept()
            with self.assertRaises(link.Refused) as raised:
                d.attach()
            self.assertEqual(raised.exception.reason, 3)
            d.close()
            self.ok(first.ask(say('pid')))
            first.close()
            self.listeners.pop(7).close()

            def attach():
                with second.accept() as d:
                    try:
                        return d.attach()
                    except link.Refused:
                        return None
            self.assertEqual(wait_for('the second device', attach).vm_id, 7)

    @unittest.skipUnless(os.getuid() == 0, 'needs root, to give directories away')
    def test_l14_directory(self):
        os.chown(self.mediator.sockets, 12345, 12345)  # neither root nor the peer's, which is root
        self.listeners[7] = link.Listener(self.mediator.sockets, 7)
        wait_for('the complaint', lambda: 'belongs to uid 12345' in self.mediator.text())
        os.chown(self.mediator.sockets, 0, 0)
        os.chmod(self.mediator.sockets, 0o777)
        wait_for('the complaint', lambda: 'not sticky' in self.mediator.text())
        self.listeners[7].sock.settimeout(0.3)
        with self.assertRaises(socket.timeout):  # what it dialled it hung up without a word
            while True:
                with self.listeners[7].accept() as d:
                    d.expect_closed()
        os.chmod(self.mediator.sockets, 0o1777)
        self.listeners[7].sock.settimeout(60)

        def attach():
            d = self.dialled(7)
            try:
                return d.attach()
            except link.Closed:  # one of the connections of before
                return None
        self.assertTrue(wait_for('an attached device', attach))

    def test_l14_not_a_socket(self):
        with open(os.path.join(self.mediator.sockets, 'vm-3.sock'), 'w'):
            pass
        os.symlink('/tmp/nothing', os.path.join(self.mediator.sockets, 'vm-4.sock'))
        for vm in (3, 4):
            self.assertIn('not a socket', self.mediator.wait_line('not-connected', vm=vm)['reason'])


class Strangers(Case):
    config = '[mediator]\nadmit_unknown = no\nmax_vms = 2\n[vm 1]\n[vm 2]\n[vm 3]\n'

    def test_l5_strangers_and_room(self):
        d = self.dialled(9)
        with self.assertRaises(link.Refused) as raised:
            d.attach()
        self.assertEqual(raised.exception.reason, 4)
        self.listeners.pop(9).close()
        self.device(1)
        second = self.device(2)
        d = self.dialled(3)
        with self.assertRaises(link.Refused) as raised:
            d.attach()
        self.assertEqual(raised.exception.reason, 6)
        second.close()
        self.listeners.pop(2).close()
        self.mediator.wait_line('detached', vm=2)

        def attach():
            try:
                return self.dialled(3).attach()
            except link.Refused:
                return None
        self.assertEqual(wait_for('room', attach).vm_id, 3)


class Requests(Case):
    def test_l10_cancel(self):
        d = self.device()
        pid = self.ok(d.ask(say('pid'))).data
        seq = d.submit(say('silent'))
        d.cancel(seq)
        state = self.ok(d.ask(say('state'))).data
        self.assertIn(b'"cancelled": [%d]' % seq, state)
        self.assertEqual(self.ok(d.ask(say('pid'))).data, pid)

    def test_l10_crossing(self):
        """A CANCEL of what was answered reaches the worker, so that it can undo it; of others nothing happens."""
        d = self.device()
        self.ok(d.ask(say('pid')))
        d.cancel(1)
        d.cancel(1)   # once is enough
        d.cancel(0)
        d.cancel(77)  # never used
        d.cancel(2**63)
        self.assertIn(b'"cancelled": [1]', self.ok(d.ask(say('state'))).data)

    def test_l10_crossing_with_another_worker(self):
        """What a worker of before answered is nothing that the new one could undo."""
        d = self.device()
        self.ok(d.ask(say('pid')))
        self.ok(d.ask(link.named(link.SESSION_CLOSE, 0)))
        self.ok(d.ask(say('pid')))
        d.cancel(1)
        self.assertIn(b'"cancelled": []', self.ok(d.ask(say('state'))).data)
        d.reset()
        self.ok(d.ask(say('pid')))
        d.cancel(3)
        self.assertIn(b'"cancelled": []', self.ok(d.ask(say('state'))).data)

    def test_l10_cancelled_answer_is_dropped(self):
        d = self.device()
        self.ok(d.ask(say('pid')))
        seq = d.submit(say('sleep 0.5'))
        d.cancel(seq)
        self.ok(d.ask(say('pid')))  # the next thing that comes is this answer
        d.close()
        self.assertEqual(self.mediator.wait_line('detached')['late'], '1')

    def test_l10_open_is_undone(self):
        d = self.device()
        self.ok(d.ask(link.named(link.SESSION_OPEN, 5)))
        d.cancel(d.seq)
        self.assertEqual(d.ask(link.named(link.SESSION_CLOSE, 5)).status, 201)
        self.ok(d.ask(link.named(link.SESSION_OPEN, 5)))
        opened = d.seq
        self.ok(d.ask(link.named(link.SESSION_CLOSE, 5)))
        self.ok(d.ask(link.named(link.SESSION_OPEN, 5)))
        d.cancel(opened)  # that one is gone; the new one stays
        self.ok(d.ask(link.named(link.SESSION_CLOSE, 5)))

    def test_l12_reset(self):
        d = self.device()
        pid = self.ok(d.ask(say('pid'))).data
        self.ok(d.ask(link.named(link.SESSION_OPEN, 5)))
        d.submit(say('silent'))
        d.reset()
        self.assertEqual(d.ask(link.named(link.SESSION_CLOSE, 5)).status, 201)
        self.assertNotEqual(self.ok(d.ask(say('pid'))).data, pid)
        wait_for('the old worker to end', lambda: len(self.mediator.workers()) == 1)

    def test_l12_many_resets(self):
        """Requests may follow at once; processes do not pile up, whatever a guest does."""
        d = self.device()
        statuses = set()
        for _ in range(60):
            d.submit(say('silent'))
            d.reset()
        for _ in range(20):
            response = d.ask(say('pid'))
            statuses.add(response.error)
            d.reset()
        self.assertLessEqual(statuses, {0, 7})
        self.assertLessEqual(len(self.mediator.workers()), 40)
        wait_for('the workers to end', lambda: not self.mediator.workers())

    def test_l13_lost(self):
        d = self.device()
        other = self.device(8)
        pid = self.ok(other.ask(say('pid'))).data
        self.ok(d.ask(link.named(link.SESSION_OPEN, 5)))
        self.ok(d.ask(say('pid')))
        d.submit(say('silent'))
        d.close()
        d = self.device()
        self.assertEqual(d.ask(link.named(link.SESSION_CLOSE, 5)).status, 201)
        self.assertEqual(self.ok(other.ask(say('pid'))).data, pid)

    def test_request_id_travels(self):
        d = self.device()
        self.assertIn(b'"request_id": 4000000000,', self.ok(d.ask(say('state'), request_id=4000000000)).data)

    def test_counters(self):
        d = self.device(priority=2)
        self.ok(d.ask(say('pid')))
        self.ok(d.ask(say('empty')) and d.ask(say('pid')))
        self.assertEqual(d.ask(say('error 5')).error, 5)
        d.close()
        line = self.mediator.wait_line('detached')
        self.assertEqual([line[k] for k in ('vm', 'pool', 'priority', 'backend', 'requests', 'errors', 'sessions')],
                         ['7', 'A', 'high', 'software', '4', '1', '1'])
        self.assertEqual(int(line['bytes_in']), sum(32 + len(w) for w in ('pid', 'empty', 'pid', 'error 5')))
        self.assertGreater(int(line['bytes_out']), 64)
        self.assertEqual(self.mediator.lines('attached')[0]['socket'], self.listeners[7].path)


if __name__ == '__main__':
    unittest.main()
