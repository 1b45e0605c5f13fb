#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket itself: docs/control.md K1 to K6."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import vgpu_control
from rig import Case, Failed, wait_for


class Lines(Case):
    def raw(self, data):
        """The answer to these bytes, on a connection of their own."""
        with vgpu_control.Control(self.path) as c:
            c.send(data)
            return c.line()

    def invalid(self, data, part):
        answer = self.raw(data)
        self.assertEqual((answer['ok'], answer['error']['code']), (False, 'invalid'), answer)
        self.assertIn(part, answer['error']['message'])
        return answer

    def test_k2_broken_json(self):
        for data, part in ((b'nonsense\n', 'no JSON'), (b'[1]\n', 'one JSON object'), (b'{"id": 1\n', 'no whole'),
                           (b'{"op": "status"} {}\n', 'JSON'), (b'"x"\n', 'one JSON object'),
                           (b'{"op": "status",}\n', 'JSON'), (b'{"op": "\xff\xfe"}\n', 'JSON'),
                           (b'{"op": "status", "x": %s1%s}\n' % (b'[' * 20, b']' * 20), 'JSON'), (b'\0\n', 'JSON')):
            with self.subTest(data=data):
                self.assertIsNone(self.invalid(data, part)['id'])

    def test_k2_goes_on_after_a_mistake(self):
        self.control.send(b'{"id": 3, "op": 7}\n\n  \r\n{"id": 4, "op": "status"}\n')
        self.assertEqual(self.control.line()['error']['code'], 'invalid')
        answer = self.control.line()
        self.assertEqual((answer['id'], answer['ok']), (4, True))

    def test_k2_a_line_of_64_kib_and_one_byte_more(self):
        fill = 65536 - len(b'{"id": 1, "op": "status", "x": ""}\n')
        self.invalid(b'{"id": 1, "op": "status", "x": "%s"}\n' % (b'a' * fill), "no field 'x'")
        with vgpu_control.Control(self.path) as c:
            try:
                c.send(b'{"id": 1, "op": "status", "x": "%s"}\n' % (b'a' * (fill + 1)))
            except (BrokenPipeError, ConnectionResetError):
                pass
            answer = c.line()
            self.assertIn('longer than 65536', answer['error']['message'])
            self.assertIsNone(c.line())

    def test_k3_ids(self):
        self.assertEqual(self.raw(b'{"id": 9007199254740991, "op": "status"}\n')['id'], 9007199254740991)
        self.assertIsNone(self.raw(b'{"op": "status"}\n')['id'])
        for bad in (b'-1', b'1.5', b'"1"', b'9007199254740992', b'null', b'99999999999999999999999'):
            with self.subTest(id=bad):
                self.assertIsNone(self.invalid(b'{"id": %s, "op": "status"}\n' % bad, 'id is not')['id'])

    def test_k3_unknown(self):
        self.fails('unsupported', "no operation 'frobnicate'", 'frobnicate')
        self.fails('invalid', "no field 'vmm'", 'show-vm', vmm=7)
        self.fails('invalid', "no field 'prioritty'", 'register-vm', vms=[7], prioritty='low')

    def test_k3_answers_in_order(self):
        """Changes, which wait for the disk, and what does not, on one connection."""
        lines, n = b'', 40
        for i in range(n):
            op = {'op': 'register-vm', 'vms': [i]} if i % 2 else {'op': 'status'}
            lines += json.dumps(dict(op, id=i)).encode() + b'\n'
        self.control.send(lines)
        self.assertEqual([self.control.line()['id'] for _ in range(n)], list(range(n)))
        self.assertEqual(len(self.ask('list-vms')['vms']), n // 2)

    def test_k3_half_closed(self):
        """Who says all and closes its side still gets the answers."""
        with vgpu_control.Control(self.path) as c:
            c.send(b'{"id": 1, "op": "register-vm", "vms": [5]}\n{"id": 2, "op": "list-vms"}\n{"id": 3')
            c.sock.shutdown(socket.SHUT_WR)
            self.assertTrue(c.line()['ok'])
            self.assertEqual(c.line()['result']['vms'][0]['vm'], 5)
            self.assertIsNone(c.line())

    def test_k4_half_a_message(self):
        c = self.client()
        start = time.monotonic()
        c.send(b'{"id": 1, "op": "sta')
        self.assertIsNone(c.line())
        self.assertGreater(time.monotonic() - start, 4)
        self.ask('status')  # this one was silent meanwhile, and may be

    def test_k4_byte_by_byte(self):
        for byte in b'{"id": 1, "op": "status"}\n':
            self.control.send(bytes([byte]))
        self.assertTrue(self.control.line()['ok'])

    def test_k4_who_does_not_read(self):
        """Reads no more of its requests, and everybody else goes on."""
        self.ask('register-vm', vms=list(range(200)))
        before = self.mediator.rss_kib()
        c = self.client()
        c.sock.settimeout(0.5)
        request = b'{"id": 1, "op": "list-vms"}\n' * 400
        with self.assertRaises(socket.timeout):
            for _ in range(2000):
                c.send(request)
        for _ in range(20):
            self.ask('list-vms')
        time.sleep(1)
        self.assertLess(self.mediator.rss_kib() - before, 65536)  # a hundredth of what was asked for

    def test_k4_at_most_64(self):
        clients = [self.client() for _ in range(63)]
        for c in clients:
            c.ask('status')
        with vgpu_control.Control(self.path) as c:
            answer = c.line()
            self.assertEqual((answer['id'], answer['error']['code']), (None, 'busy'))
            self.assertIsNone(c.line())
        clients[0].close()
        wait_for('room', lambda: self.ask('status')['clients'] == 63)
        self.client().ask('status')

    def test_k4_200_in_parallel(self):
        """Many clients with many requests at once: each is answered, or told that there is no room."""
        results, errors = [], []

        def run(number):
            try:
                with vgpu_control.Control(self.path) as c:
                    for i in range(5):
                        c.ask('register-vm' if i == 2 else 'status', **({'vms': [1000 + number]} if i == 2 else {}))
                results.append('ok')
            except (Failed, AssertionError, BrokenPipeError, ConnectionResetError) as e:
                if isinstance(e, Failed) and e.code != 'busy':
                    errors.append(e)
                results.append('busy')

        threads = [threading.Thread(target=run, args=(n,)) for n in range(200)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(errors, [])
        self.assertEqual(len(results), 200)
        self.assertGreaterEqual(results.count('ok'), 60)
        self.assertGreaterEqual(len(self.ask('list-vms')['vms']), results.count('ok'))
        wait_for('all closed', lambda: self.ask('status')['clients'] == 1)

    def test_k4_a_flood_makes_no_vm_wait(self):
        """A device's requests are answered while clients ask for long lists without end."""
        self.ask('register-vm', vms=list(range(100, 400)))
        d = self.device(7)
        stop = threading.Event()

        def flood():
            with vgpu_control.Control(self.path) as c:
                while not stop.is_set():
                    c.ask('list-vms')

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for t in threads:
            t.start()
        try:
            for _ in range(20):
                self.ok(d.ask(__import__('vgpu_link_device').typed(0)))
        finally:
            stop.set()
            for t in threads:
                t.join()

    def test_descriptors_sent_are_not_taken(self):
        self.ask('status')
        before = self.mediator.fds()
        c = self.client()
        socket.send_fds(c.sock, [b'{"id": 1, "op": "status"}\n'], [0, 1, 2])
        self.assertTrue(c.line()['ok'])
        c.close()
        wait_for('closed', lambda: self.mediator.fds() == before)

    def test_k1_lock_and_stale_socket(self):
        """A second mediator on the same socket is refused; the socket of a killed one is replaced."""
        env = dict(os.environ)
        command = [a for a in self.mediator.process.args]
        second = subprocess.run(command[:1] + ['--config', self.mediator.config, '--worker', self.mediator.worker],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                                timeout=60)
        self.assertEqual(second.returncode, 1)
        self.assertIn(b'another vgpu-mediator', second.stderr)
        self.ask('status')
        self.restart(kill=True)
        self.ask('status')


AS_NOBODY = '''
import os, sys
sys.path.insert(0, sys.argv[2])
import vgpu_control, json.decoder, encodings.idna  # while they can be read
groups = [int(g) for g in sys.argv[3].split(',') if g]
os.setgroups(groups); os.setgid(65534); os.setuid(65534)
c = vgpu_control.Control(sys.argv[1])
for request in sys.argv[4:]:
    try:
        c.send(request.encode() + b'\\n')
    except BrokenPipeError:  # turned away: it says why
        pass
    print(c.line())
'''


@unittest.skipIf(os.getuid(), 'needs root for a second user')
class Who(Case):
    """K5."""

    readers = 'yes'

    def setUp(self):
        self.mediator_keys = 'admin_group = daemon\nreaders = %s\n' % self.readers
        super().setUp()
        os.chmod(self.folder, 0o711)
        os.chmod(tempfile.gettempdir(), os.stat(tempfile.gettempdir()).st_mode | 0o711)

    def nobody(self, *requests, groups=''):
        out = subprocess.run([sys.executable, '-c', AS_NOBODY, self.path,
                              os.path.join(os.environ['VGPU_SOURCE'], 'tests', 'support'), groups] + list(requests),
                             stdout=subprocess.PIPE, timeout=60, check=True).stdout.decode()
        return [eval(line) for line in out.splitlines()]  # what repr wrote

    def test_reader_reads_and_changes_nothing(self):
        status, change, vms = self.nobody('{"op": "status"}', '{"op": "register-vm", "vms": [7]}', '{"op": "list-vms"}')
        self.assertIs(status['result']['may_change'], False)
        self.assertEqual(change['error']['code'], 'denied')
        self.assertEqual(vms['result']['vms'], [])

    def test_member_of_the_group_changes(self):
        status, change = self.nobody('{"op": "status"}', '{"op": "register-vm", "vms": [7]}', groups='1')
        self.assertIs(status['result']['may_change'], True)
        self.assertTrue(change['ok'], change)
        self.assertEqual(self.ask('audit')['audit'][0]['uid'], 65534)

    def test_readers_leave_room(self):
        """32 of them at most: they cannot shut out who decides."""
        helper = subprocess.Popen([sys.executable, '-c', AS_NOBODY.replace('c = vgpu_control.Control(sys.argv[1])', '''
cs = [vgpu_control.Control(sys.argv[1]) for _ in range(40)]
def ok(c):
    try: c.send(b'{"op": "status"}\\n')
    except BrokenPipeError: pass
    return bool((c.line() or {}).get('ok'))
print(sum(ok(c) for c in cs), flush=True)
sys.stdin.read()
sys.exit()'''), self.path, os.path.join(os.environ['VGPU_SOURCE'], 'tests', 'support'), ''],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self.assertEqual(helper.stdout.readline().strip(), b'32')
            self.assertEqual(self.ask('status')['clients'], 33)
        finally:
            helper.communicate(b'')


class Strangers(Who):
    readers = 'no'

    def test_reader_reads_and_changes_nothing(self):
        answer = self.nobody('{"op": "status"}')
        self.assertEqual((answer[0]['id'], answer[0]['error']['code']), (None, 'denied'))

    def test_readers_leave_room(self):
        pass


if __name__ == '__main__':
    unittest.main()
