#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Windows through the mediator: who gets one, what a device may send as one, and descriptors, none of which may stay."""

import fcntl
import os
import resource
import socket
import struct
import unittest

import vgpu_link_device as link
from rig import Mediator, wait_for
from test_channels import CHANNELS, MIB, ChannelCase
from vgpu_link_device import ACTIVE, CHANNEL_BYTES, FATAL, FREE

ADD_SEALS = 1033
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE, SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16


class Hello(ChannelCase):
    """Who gets a window, and of what size."""

    config = '[mediator]\nlocal_window = 8M\n'

    def test_device_without_one(self):
        self.assertEqual(self.device().welcome.features, link.FEATURE_MAILBOX)

    def test_device_shapes(self):
        """What cannot be a window is refused at once."""
        right = {'features': CHANNELS, 'window_bytes': 16 * MIB, 'channel_count': 4, 'channel_bytes': CHANNEL_BYTES}
        for wrong in ({'window_bytes': 0}, {'window_bytes': MIB // 2}, {'window_bytes': 3 * MIB}, {'window_bytes': 1 << 41},
                      {'window_bytes': (1 << 64) - 1}, {'channel_count': 0}, {'channel_count': 65},
                      {'channel_count': 0xffffffff}, {'channel_count': 32}, {'channel_bytes': 0},
                      {'channel_bytes': CHANNEL_BYTES * 2}):
            with self.subTest(wrong=wrong):
                d = self.dialled()
                with self.assertRaises(link.Refused) as caught:
                    d.attach(**dict(right, **wrong))
                self.assertEqual(caught.exception.reason, 5)
        d = self.dialled()
        d.attach(**dict(right, channel_count=31))

    def test_local_wishes(self):
        for bytes_wished, channels_wished, size, count in (
                (0, 0, 8 * MIB, 4), (MIB, 1, MIB, 1), (MIB, 2, 2 * MIB, 2), (MIB, 4, 4 * MIB, 4), (3 * MIB, 1, 4 * MIB, 1),
                (1 << 63, 0xffffffff, 8 * MIB, 15), (1, 1, MIB, 1), (MIB + 1, 16, 8 * MIB, 15)):
            with self.subTest(bytes_wished=bytes_wished, channels_wished=channels_wished):
                d = self.client(window_bytes=bytes_wished, channel_count=channels_wished)
                self.assertEqual((d.window.bytes, d.window.channel_count), (size, count))
                self.assertEqual(os.fstat(d.window.memory).st_size, size)
                self.assertEqual(fcntl.fcntl(d.window.memory, 1034), SEAL_SEAL | SEAL_SHRINK | SEAL_GROW)
                self.assertEqual(os.fstat(d.window.memory).st_blocks, 0)  # no page of it is there yet
                d.close()

    def test_local_without_one(self):
        d = self.local()
        self.assertEqual(d.attach().features, link.FEATURE_MAILBOX)
        self.ok(d.ask(link.typed(link.NOP)))

    def test_local_clients_apart(self):
        """Each has memory of its own."""
        a, b = self.client(), self.client()
        self.assertNotEqual(os.fstat(a.window.memory).st_ino, os.fstat(b.window.memory).st_ino)
        self.active(a)
        b.enable(0)
        b.expect_state(0, FATAL, link.NOT_BOUND)


class NoLocalWindow(ChannelCase):
    config = '[mediator]\nlocal_window = 0\n'

    def test_none(self):
        d = self.local()
        self.assertEqual(d.attach(features=CHANNELS).features, link.FEATURE_MAILBOX)
        self.ok(d.ask(link.typed(link.NOP)))
        self.assertIn('local_window', self.mediator.wait_line('no-window')['reason'])
        self.windowed()  # a device has its own


class Hostile(ChannelCase):
    """L1: logged with the reason, everything closed, and nothing else happens."""

    def setUp(self):
        super().setUp()
        self.spare = []
        self.vm = 100
        self.addCleanup(lambda: [os.close(fd) for fd in self.spare])
        self.before = self.mediator.fds()

    def keep(self, fd):
        self.spare.append(fd)
        return fd

    def greeted(self, window):
        """A device that is about to send its window. Each is another VM: ten violations of one are logged in a second."""
        self.vm += 1
        d = self.dialled(self.vm)
        d.window = window
        d.attach(vm_id=self.vm, **window.hello())
        return d

    def another(self):
        """A device with its window, the same way."""
        d = self.greeted(link.Window.make(16 * MIB, 4))
        d.send_window()
        return d

    def ends(self, d, reason):
        try:
            while True:  # states may have come before
                self.assertEqual(d.receive().type, link.CHANNEL_STATE)
        except link.Closed:
            pass
        said = self.mediator.wait_line('violation', socket='%s/vm-%d.sock' % (self.mediator.sockets, self.vm))
        self.assertIn(reason, said['reason'])
        d.close()
        self.clean()

    def clean(self):
        """No descriptor stays; the device's socket would be dialled again, so it goes first."""
        if self.vm in self.listeners:
            self.listeners.pop(self.vm).close()
        wait_for('descriptors to be closed', lambda: self.mediator.fds() == self.before)

    def memory_twins(self):
        size = 16 * MIB
        yield link.make_memory(size, 0), 'not sealed'
        yield link.make_memory(size, SEAL_GROW | SEAL_SEAL), 'not sealed'
        yield link.make_memory(size, SEAL_SHRINK | SEAL_SEAL), 'not sealed'
        yield link.make_memory(size, SEAL_SHRINK | SEAL_GROW), 'not sealed'
        yield link.make_memory(size, link.SEALS | SEAL_WRITE), 'sealed against writing'
        yield link.make_memory(size, link.SEALS | SEAL_FUTURE_WRITE), 'sealed against writing'
        yield link.make_memory(size // 2), 'not window_bytes long'
        yield link.make_memory(size * 2), 'not window_bytes long'
        yield link.make_memory(0), 'not window_bytes long'
        yield link.make_memory(size + 4096), 'not window_bytes long'
        r, w = os.pipe()
        os.close(w)
        yield r, 'no memory file'
        yield os.eventfd(0), 'no memory file'
        yield os.open('/', os.O_RDONLY), 'no memory file'
        yield os.open('/dev/zero', os.O_RDWR), 'no memory file'
        yield socket.socket(socket.AF_UNIX).detach(), 'no memory file'
        path = os.path.join(self.mediator.folder, 'file')
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, size)
        yield fd, 'memory file'
        fd = link.make_memory(size)
        yield os.open('/proc/self/fd/%d' % fd, os.O_RDONLY), 'not open for reading and writing'
        yield os.open('/proc/self/fd/%d' % fd, os.O_WRONLY), 'not open for reading and writing'
        os.close(fd)

    def test_memory(self):
        for fd, reason in self.memory_twins():
            with self.subTest(reason=reason):
                self.keep(fd)
                window = link.Window(16 * MIB, 4)
                d = self.greeted(window)
                d.send_with_fds(link.pack(link.WINDOW, window.body(), fd_count=1), [fd])
                self.ends(d, reason)

    def test_order(self):
        """The memory first, then the channels from 0 on, without gaps and once."""
        def events(w, first, count):
            return [fd for pair in w.pairs[first:first + count] for fd in pair]

        memory = (lambda w: w.body(), lambda w: [w.memory])
        twins = [
            ('before the one with the memory', [(lambda w: w.body(0, 4), lambda w: events(w, 0, 4))]),
            ('before the one with the memory', [(lambda w: w.body(1, 0), lambda w: [w.memory])]),
            ('one descriptor', [(lambda w: w.body(), lambda w: [w.memory, w.memory])]),
            ('one descriptor', [(lambda w: w.body(), lambda w: [])]),
            ('no channels', [memory, memory]),
            ('out of order', [memory, (lambda w: w.body(8, 4), lambda w: events(w, 8, 4))]),
            ('out of order', [memory, (lambda w: w.body(0, 8), lambda w: events(w, 0, 8)),
                              (lambda w: w.body(0, 8), lambda w: events(w, 0, 8))]),
            ('out of order', [memory, (lambda w: w.body(0xffffffff, 8), lambda w: events(w, 0, 8))]),
            ('too many', [memory, (lambda w: w.body(0, 9), lambda w: events(w, 0, 8))]),
            ('too many', [memory, (lambda w: w.body(0, 0xffffffff), lambda w: events(w, 0, 8))]),
            ('two descriptors', [memory, (lambda w: w.body(0, 8), lambda w: events(w, 0, 7))]),
            ('two descriptors', [memory, (lambda w: w.body(0, 8), lambda w: events(w, 0, 8)[:15])]),
            ('two descriptors', [memory, (lambda w: w.body(0, 7), lambda w: events(w, 0, 8))]),
            ('too many', [memory, (lambda w: w.body(0, 8), lambda w: events(w, 0, 8)),
                          (lambda w: w.body(8, 8), lambda w: events(w, 0, 8))]),
            ('no eventfd', [memory, (lambda w: w.body(0, 1), lambda w: [w.memory, w.pairs[0][0]])]),
            ('no eventfd', [memory, (lambda w: w.body(0, 1), lambda w: [w.pairs[0][0], 0])]),
            ('differs from HELLO', [(lambda w: struct.pack('<QIIII', w.bytes * 2, w.channel_count, CHANNEL_BYTES, 0, 0),
                                     lambda w: [w.memory])]),
            ('differs from HELLO', [(lambda w: struct.pack('<QIIII', w.bytes, 11, CHANNEL_BYTES, 0, 0),
                                     lambda w: [w.memory])]),
            ('differs from HELLO', [(lambda w: struct.pack('<QIIII', w.bytes, w.channel_count, 1, 0, 0),
                                     lambda w: [w.memory])]),
        ]
        for reason, messages in twins:
            with self.subTest(reason=reason):
                window = link.Window.make(16 * MIB, 12)
                d = self.greeted(window)
                for make_body, fds in messages:
                    fds = fds(window)
                    try:
                        d.send_with_fds(link.pack(link.WINDOW, make_body(window), fd_count=len(fds)), fds)
                    except link.Closed:
                        break
                self.ends(d, reason)

    def test_a_second_window(self):
        d = self.another()
        d.send(link.pack(link.WINDOW, d.window.body()))
        self.ends(d, 'a second WINDOW')
        d = self.another()
        d.send_with_fds(link.pack(link.WINDOW, d.window.body(), fd_count=1), [d.window.memory])
        self.ends(d, 'descriptors')

    def test_fd_count(self):
        window = link.Window.make(16 * MIB, 4)
        d = self.greeted(window)
        d.send(link.pack(link.WINDOW, window.body(), fd_count=1))
        self.ends(d, 'fewer descriptors')
        for count in (17, 0xffff):
            window = link.Window.make(16 * MIB, 4)
            d = self.greeted(window)
            d.send(link.pack(link.WINDOW, window.body(), fd_count=count))
            self.ends(d, 'fd_count')
        window = link.Window.make(16 * MIB, 4)
        d = self.greeted(window)
        d.send_with_fds(link.pack(link.WINDOW, window.body(), fd_count=1), [window.memory] * 2)
        self.ends(d, 'no message speaks of')

    def test_floods(self):
        """As many as the kernel takes in one message, and messages of them; with every kind of message."""
        many = [self.keep(os.eventfd(0)) for _ in range(2)] * 120
        for count in (17, 240):
            window = link.Window.make(16 * MIB, 4)
            d = self.greeted(window)
            d.send_with_fds(link.pack(link.WINDOW, window.body(), fd_count=16), many[:count])
            self.ends(d, 'descriptors')
        for data in (link.pack(link.REQUEST, link.pack_request(link.typed(link.NOP)), seq=1), link.pack(link.CANCEL, seq=1),
                     link.pack(link.RESET, b'\0' * 8), link.pack(link.CHANNEL_ENABLE, b'\0' * 16)[:10]):
            window = link.Window.make(16 * MIB, 4)
            d = self.greeted(window)
            d.send_with_fds(data[:-1], many[:9])  # beside a message that is not whole yet
            try:
                d.send_with_fds(data[-1:], many[:9])
            except link.Closed:
                pass
            self.ends(d, 'descriptors')
        d = self.another()
        d.send_with_fds(link.pack(link.CANCEL, seq=1), many[:1])  # the window is there: nothing more is taken
        self.ends(d, 'descriptors')

    def test_before_hello_and_without_channels(self):
        self.vm = 1
        d = self.dialled(1)
        d.send_with_fds(link.pack(link.HELLO, link.pack_hello()), [0])
        self.ends(d, 'descriptors')
        self.vm = 2
        d = self.device(2)
        d.send_with_fds(link.pack(link.CANCEL, seq=1), [0])
        self.ends(d, 'descriptors')

    def test_half_a_window(self):
        """Its link ends before the window is complete."""
        for steps in (1, 2):
            window = link.Window.make(16 * MIB, 12)
            d = self.greeted(window)
            d.send_with_fds(link.pack(link.WINDOW, window.body(), fd_count=1), [window.memory])
            if steps > 1:
                d.send_with_fds(link.pack(link.WINDOW, window.body(0, 8), fd_count=16),
                                [fd for pair in window.pairs[:8] for fd in pair])
            wait_for('the descriptors to be there', lambda: self.mediator.fds() != self.before)
            d.close()
            self.clean()

    def test_channel_messages(self):
        twins = [
            ('does not have', lambda d: d.enable(4, serial=1)), ('does not have', lambda d: d.disable(4, serial=1)),
            ('does not have', lambda d: d.enable(0xffffffff, serial=1)), ('serial', lambda d: d.enable(0, serial=0)),
            ('serial', lambda d: d.enable(0, serial=2)), ('serial', lambda d: d.disable(0, serial=0xffffffff)),
            ('serial', lambda d: (d.enable(0, serial=1), d.enable(0, serial=1))),
            ('serial', lambda d: (d.disable(0, serial=1), d.enable(0, serial=3))),
            ('state or error', lambda d: d.enable(0, state=1)), ('state or error', lambda d: d.disable(0, error=1)),
            ('too short', lambda d: d.send(link.pack(link.CHANNEL_ENABLE, b'\0' * 15))),
            ('too long', lambda d: d.send(link.pack(link.CHANNEL_RESET, b'\0' * 17))),
            ('seq', lambda d: d.send(link.pack(link.CHANNEL_RESET, struct.pack('<4I', 0, 1, 0, 0), seq=1))),
            ('fd_count', lambda d: d.send(link.pack(link.CHANNEL_RESET, struct.pack('<4I', 0, 1, 0, 0), fd_count=1))),
            ('only a mediator', lambda d: d.send(link.pack(link.CHANNEL_STATE, b'\0' * 16))),
        ]
        for reason, misbehave in twins:
            with self.subTest(reason=reason):
                d = self.another()
                misbehave(d)
                self.ends(d, reason)

    def test_channel_messages_without_channels(self):
        self.vm = 1
        d = self.device(1)
        d.enable(0)
        self.ends(d, 'without a window')
        self.vm = 2
        d = self.device(2)
        d.send(link.pack(link.WINDOW, b'\0' * 24))
        self.ends(d, 'WINDOW without channels')
        d = self.client()
        d.send(link.pack(link.WINDOW, d.window.body()))
        d.expect_closed()
        wait_for('it to be said', lambda: 'from a local client' in self.mediator.text())
        for early in (lambda d: d.enable(0), lambda d: d.submit(link.typed(link.NOP)), lambda d: d.reset()):
            d = self.greeted(link.Window.make(16 * MIB, 4))
            early(d)
            self.ends(d, 'before the window is complete')  # L16

    def test_enable_flood(self):
        """A channel that goes on and off in a loop: one ATTACH is under way at a time, and the last word counts."""
        d = self.opened(self.windowed(), 5)
        self.ok(d.bind(5, 0))
        for _ in range(1000):
            d.enable(0)
        d.expect_state(0, ACTIVE)  # with the last serial, whatever was answered before
        d.close()

    def test_on_and_off(self):
        d = self.active(self.windowed())
        for i in range(500):
            d.disable(0)
            d.enable(0)
        d.disable(0)
        last = None
        while last is None or last.serial != d.serials[0] or last.state != FREE:
            last = link.State(*link.CHANNEL_BODY.unpack(d.expect(link.CHANNEL_STATE).payload))
        self.assertLessEqual(len(self.told(d, 'heard')), 2 + 1000)
        self.assertEqual(len(self.mediator.workers()), 1)
        self.active(d, 6)

    def test_flood_without_reading(self):
        """L2: 64 KiB of answers that nobody reads end the link."""
        d = self.windowed()
        d.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            for _ in range(100000):
                d.enable(0)
        except (link.Closed, socket.timeout):
            pass
        self.assertIn('does not read', self.mediator.wait_line('violation')['reason'])


class Descriptors(unittest.TestCase):
    """When they run out there is no window, and all else goes on."""

    def limited(self, files, **kwargs):
        m = Mediator(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)), **kwargs)
        self.addCleanup(lambda: self.assertIsNone(m.stop()))
        return m

    def test_local_clients(self):
        m = self.limited(200)  # three eighths: eight windows of 9
        clients = []
        try:
            got = 0
            for _ in range(16):
                d = link.connect(m.listen)
                clients.append(d)
                if d.attach(features=CHANNELS).features == CHANNELS:
                    d.expect_window()
                    got += 1
                self.assertEqual(d.ask(link.typed(link.NOP)).status, 0)
            self.assertEqual(got, 8)
            line = m.wait_line('no-window')
            self.assertIn('windows have 72 descriptors, 9 more would be over 75', line['reason'])
            with link.Listener(m.sockets, 7) as listener, listener.accept() as d:  # VMs have a share of their own
                d.window = link.Window.make(16 * MIB, 12)
                self.assertEqual(d.attach(vm_id=7, **d.window.hello()).features, CHANNELS)
            clients.pop(0).close()

            def again():
                d = link.connect(m.listen)
                clients.append(d)
                return d.attach(features=CHANNELS).features == CHANNELS
            wait_for('room for a window', again)
        finally:
            for d in clients:
                d.close()

    def test_device(self):
        m = self.limited(100)
        with link.Listener(m.sockets, 7) as listener:
            d = listener.accept()
            with d:
                window = link.Window.make(64 * MIB, 64)
                d.window = window
                self.assertEqual(d.attach(vm_id=7, **window.hello()).features, link.FEATURE_MAILBOX)
                self.assertEqual(d.ask(link.typed(link.NOP)).status, 0)
            self.assertIn('129 more', m.wait_line('no-window', vm=7)['reason'])


class Many(ChannelCase):
    def test_64_local_clients(self):
        """All at once, each with a window, a session, a channel and an extent of its own; then half of them vanish."""
        before = self.mediator.fds()
        clients = [self.client() for _ in range(64)]
        for d in clients:
            self.ok(d.ask(link.named(link.SESSION_OPEN, 5)))
            self.ok(d.bind(5, 0))
            d.enable(0)
        for d in clients:
            d.expect_state(0, ACTIVE)
        self.assertEqual(len({os.fstat(d.window.memory).st_ino for d in clients}), 64)
        for d in clients:
            self.assertEqual(self.told(d, 'extent %d' % MIB)[1], MIB)
        for i, d in enumerate(clients):
            os.write(d.window.pairs[0][0], struct.pack('=Q', i + 1))
        for i, d in enumerate(clients):
            self.assertEqual(int(self.fake(d, 'doorbell')), i + 1)
        self.assertLess(self.mediator.rss_kib(), 64 * 1024)
        for d in clients[::2]:
            d.close()
        wait_for('half of the workers to end', lambda: len(self.mediator.workers()) == 32)
        for d in clients[1::2]:
            self.worker_pid(d)
            d.close()
        self.no_worker_is_left()
        wait_for('descriptors to be closed', lambda: self.mediator.fds() == before)


if __name__ == '__main__':
    unittest.main()
