#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rings and arena from a device and a local client to the real worker and back (docs/ring.md): what the mediator hands out
is what the worker serves, and nothing of one session is left for the next (G6)."""

import mmap
import os
import signal
import struct
import time
import unittest

import vgpu_link_device as link
from rig import PATIENCE_S
from test_channels import MIB, ChannelCase
from vgpu_link_device import ACTIVE, CHANNEL_BYTES, FATAL, FREE

NOP, ARENA_ALLOC, ARENA_FREE = 0, 0x2030, 0x2031
COMPLETIONS, SUBMISSIONS, UPLOAD = 0x4000, 0x20000, 0x40000
DOWNLOAD = 0x60000
MARK = b'a secret of the one before'


class Ring:
    """The guest's end of a channel, as plain as it can be: one record at a time."""

    def __init__(self, memory, pair, channel):
        self.memory, self.doorbell = memory, pair[0]
        self.base = channel * CHANNEL_BYTES
        self.tail = self.done = 0

    def ask(self, opcode, body=b''):
        """Status and answer of a record."""
        token = self.done + 1
        record = struct.pack('<HHIIHH', opcode, 0, len(body), token, 0, 0) + body
        units = -(-len(record) // 64)
        at = self.base + SUBMISSIONS + self.tail % 2048 * 64
        self.memory[at:at + len(record)] = record
        self.publish(self.tail + units)
        entry = self.base + COMPLETIONS + self.done % 1024 * 64
        self.wait(lambda: struct.unpack_from('<Q', self.memory, entry + 56)[0] == self.done + 1)
        self.done += 1
        struct.pack_into('<Q', self.memory, self.base + 64, self.done)
        said, status, _, length = struct.unpack_from('<IIII', self.memory, entry)
        assert said == token
        return status, self.memory[entry + 16:entry + 16 + min(length, 40)]

    def wait(self, check):
        deadline = time.monotonic() + PATIENCE_S
        while not check():
            if time.monotonic() > deadline:
                raise AssertionError('waited in vain for a completion')
            time.sleep(0.0001)

    def publish(self, tail):
        self.tail = tail
        struct.pack_into('<Q', self.memory, self.base, tail)
        os.write(self.doorbell, struct.pack('=Q', 1))

    def take(self, size):
        """An extent's offset."""
        status, answer = self.ask(ARENA_ALLOC, struct.pack('<Q', size))
        assert status == 0, answer
        return struct.unpack('<Q', answer)[0]


class RealChannels(ChannelCase):
    real = True

    def ring(self, d, session=5, channel=0):
        self.active(d, session, channel)
        memory = mmap.mmap(d.window.memory, d.window.bytes)
        self.addCleanup(memory.close)
        return Ring(memory, d.window.pairs[channel], channel)

    def course(self, d):
        ring = self.ring(d)
        for _ in range(3000):  # once round the ring and the completions
            self.assertEqual(ring.ask(NOP), (0, b''))
        first = ring.take(MIB)
        self.assertEqual(first, d.window.channel_count * CHANNEL_BYTES)
        self.assertEqual(ring.take(1), first + MIB)
        status, text = ring.ask(ARENA_ALLOC, struct.pack('<Q', d.window.bytes))
        self.assertEqual(status, 2)
        self.assertIn(b'ARENA_ALLOC', text)
        self.assertEqual(ring.ask(ARENA_FREE, struct.pack('<Q', first))[0], 0)
        self.assertEqual(ring.ask(ARENA_FREE, struct.pack('<Q', first))[0], 1)
        self.assertEqual(ring.take(2 * MIB), first + MIB + 0x10000)
        self.assertEqual(ring.take(MIB), first)

    def test_device(self):
        self.course(self.windowed())

    def test_local_client(self):
        self.course(self.client())

    def test_g19_bad_tail(self):
        """A ring that breaks the rules costs its channel, and a reset brings it back."""
        d = self.windowed()
        ring, other = self.ring(d), self.ring(d, 6, 1)
        ring.publish(1 << 40)
        d.expect_state(0, FATAL, link.BAD_TAIL)
        self.assertEqual(other.ask(NOP), (0, b''))
        d.disable(0)
        d.expect_state(0, FREE)
        self.ok(d.bind(5, 2))
        d.enable(2)
        d.expect_state(2, ACTIVE)
        self.assertEqual(Ring(ring.memory, d.window.pairs[2], 2).ask(NOP), (0, b''))

    def test_g6_scrubbed(self):
        """Neither staging nor arena show the next session what was there, however the one before went."""
        for how in ('reset', 'closed', 'killed'):
            with self.subTest(how=how):
                d = self.windowed(7 + len(how))
                ring = self.ring(d)
                offset = ring.take(MIB)
                for at in (UPLOAD, DOWNLOAD, offset, offset + MIB - len(MARK)):
                    ring.memory[at:at + len(MARK)] = MARK
                if how == 'reset':
                    self.assertEqual(ring.ask(ARENA_FREE, struct.pack('<Q', offset))[0], 0)
                    d.disable(0)
                elif how == 'closed':
                    self.ok(d.ask(link.named(link.SESSION_CLOSE, 5)))
                    d.expect_state(0, FATAL, link.SESSION_LOST)
                    d.disable(0)
                else:
                    os.kill(int(self.mediator.lines('worker-start', vm=7 + len(how))[-1]['pid']), signal.SIGKILL)
                    d.expect_state(0, FATAL, link.SESSION_LOST)
                    d.disable(0)
                d.expect_state(0, FREE)
                after = self.ring(d, 6)
                self.assertEqual(after.take(MIB), offset)
                for at, size in ((UPLOAD, CHANNEL_BYTES - UPLOAD), (offset, MIB)):
                    self.assertEqual(after.memory[at:at + size].strip(b'\0'), b'')
                d.close()

    def test_g6_new_guest(self):
        """The same after a reset of the device, and after a connection that was lost, with the same memory."""
        d = self.windowed()
        ring = self.ring(d)
        offset = ring.take(MIB)
        ring.memory[offset:offset + len(MARK)] = ring.memory[UPLOAD:UPLOAD + len(MARK)] = MARK
        d.reset()
        after = self.ring(d)
        self.assertEqual(after.take(MIB), offset)
        self.assertEqual((after.memory[offset:offset + MIB].strip(b'\0'), after.memory[UPLOAD:UPLOAD + 64].strip(b'\0')),
                         (b'', b''))
        after.memory[offset:offset + len(MARK)] = MARK
        window = link.Window(d.window.bytes, d.window.channel_count)
        window.memory = os.dup(d.window.memory)
        window.pairs = [(os.eventfd(0), os.eventfd(0)) for _ in range(window.channel_count)]
        d.close()
        last = self.ring(self.windowed(window=window))
        self.assertEqual(last.take(MIB), offset)
        self.assertEqual(last.memory[offset:offset + MIB].strip(b'\0'), b'')

    def test_many_clients(self):
        """16 local clients with a channel each, at work at the same time."""
        clients = [self.client(window_bytes=16 * MIB) for _ in range(16)]
        rings = [self.ring(d) for d in clients]
        for _ in range(20):
            for ring in rings:
                self.assertEqual(ring.ask(NOP), (0, b''))
        self.assertEqual(len({ring.take(MIB) for ring in rings}), 1)  # each has an arena of its own
        for d in clients:
            d.close()
        self.no_worker_is_left()


del ChannelCase  # its tests are not ours
if __name__ == '__main__':
    unittest.main()
