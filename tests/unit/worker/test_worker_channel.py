#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A channel of vgpu-worker as a process, confined as ever (docs/worker.md, W8), written from docs/ring.md: the test is
the mediator and the guest."""
import fcntl
import mmap
import os
import signal
import socket
import struct
import sys
import time
import unittest

from worker_client import PATIENCE_S, Worker

ATTACH, DETACH, EXTENT = 5, 6, 7
CHANNEL, WANT_EXTENT, RETURN_EXTENT = 20, 21, 22
ACTIVE, FATAL, FREE = 1, 2, 0
WINDOW, CHANNEL_BYTES = 4 << 20, 0x80000
NUMBER = 1
NOP, ARENA_ALLOC, ARENA_FREE = 0, 0x2030, 0x2031
DRIVER_VERSION, PRIMARY_RETAIN, MEMORY_ALLOC, COPY_FROM_DEVICE, COPY_WINDOW_TO_DEVICE = 0x1001, 0x1002, 0x1040, 0x1046, 0x1050
F_ADD_SEALS, SHRINK, GROW = 1033, 2, 4


class Guest:
    """One window, one channel, and the mediator's packets about them."""

    def __init__(self, worker):
        self.worker = worker
        self.fd = os.memfd_create("window", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, WINDOW)
        fcntl.fcntl(self.fd, F_ADD_SEALS, SHRINK | GROW)
        self.window = mmap.mmap(self.fd, WINDOW)
        self.doorbell, self.interrupt = os.eventfd(0, os.EFD_CLOEXEC), os.eventfd(0, os.EFD_CLOEXEC)
        self.base = NUMBER * CHANNEL_BYTES
        self.arena = 2 * CHANNEL_BYTES
        self.returned = []

    def close(self):
        self.window.close()
        for fd in (self.fd, self.doorbell, self.interrupt):
            os.close(fd)

    def attach(self):
        body = struct.pack("=QII", WINDOW, NUMBER, 0)
        socket.send_fds(self.worker.sock, [struct.pack("=IIQ", ATTACH, len(body), 0) + body],
                        [self.fd, self.doorbell, self.interrupt])
        self.expect(ACTIVE)
        self.tail = self.taken = self.token = 0

    def detach(self):
        self.worker.send(DETACH, 0, struct.pack("=IIII", NUMBER, 0, 0, 0))
        self.expect(FREE)

    def expect(self, state):
        while True:
            packet = self.worker.receive()
            assert packet, "the worker is gone or silent"
            if packet[0] == CHANNEL:
                assert struct.unpack("=IIII", packet[2])[:2] == (NUMBER, state), packet
                return

    def serve(self, timeout):
        packet = self.worker.receive(timeout)
        if packet and packet[0] == WANT_EXTENT:
            size = struct.unpack_from("=QQ", packet[2])[1]
            self.worker.send(EXTENT, packet[1], struct.pack("=QQQII", self.arena, size, 0, 1, 0))
            self.arena += size
        elif packet and packet[0] == RETURN_EXTENT:
            self.returned.append(struct.unpack_from("=QQ", packet[2]))

    def post(self, opcode, body=b"", wants=True):
        token = 0
        if wants:
            self.token += 1
            token = self.token
        raw = struct.pack("<HHIIHH", opcode, 0, len(body), token, 0, 16) + body
        raw += bytes(-len(raw) % 64)
        for i in range(0, len(raw), 64):
            at = self.base + 0x20000 + self.tail % 2048 * 64
            self.window[at:at + 64] = raw[i:i + 64]
            self.tail += 1
        struct.pack_into("<Q", self.window, self.base, self.tail)
        if struct.unpack_from("<I", self.window, self.base + 0x1000 + 64)[0]:
            os.eventfd_write(self.doorbell, 1)

    def do(self, opcode, body=b""):
        """A record and its answer: (status, bytes)."""
        self.post(opcode, body)
        until = time.monotonic() + PATIENCE_S
        at = self.base + 0x4000 + self.taken % 1024 * 64
        while struct.unpack_from("<Q", self.window, at + 56)[0] != self.taken + 1:
            # It may have slept when the flag was looked at too early: Python orders nothing.
            if struct.unpack_from("<I", self.window, self.base + 0x1000 + 64)[0]:
                os.eventfd_write(self.doorbell, 1)
            self.serve(0.001)
            assert time.monotonic() < until, "no answer"
        token, status, error, length = struct.unpack_from("<IIII", self.window, at)
        assert (token, error) == (self.token, 0), (token, error)
        data = at + 16 if length <= 40 else self.base + 0x14000
        data = self.window[data:data + length]
        self.taken += 1
        struct.pack_into("<Q", self.window, self.base + 64, self.taken)
        return status, data

    def call(self, opcode, *slots, context=1):
        status, data = self.do(opcode, struct.pack("<%dQ" % (len(slots) + 1), context, *slots))
        assert not status, data
        return data


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class TestChannel(unittest.TestCase):
    def setUp(self):
        self.worker = Worker(session=0x77)
        self.guest = Guest(self.worker)
        self.guest.attach()

    def tearDown(self):
        self.guest.close()
        self.worker.close()

    def test_w8_a_confined_worker_serves_a_channel(self):
        g = self.guest
        for _ in range(100):
            self.assertEqual(g.do(NOP), (0, b""))
        self.assertGreater(struct.unpack("<q", g.call(DRIVER_VERSION, context=0))[0], 0)
        g.call(PRIMARY_RETAIN, 1, 0, context=0)
        address = struct.unpack("<Q", g.call(MEMORY_ALLOC, 65536))[0]
        status, data = g.do(ARENA_ALLOC, struct.pack("<Q", 1 << 20))
        self.assertEqual(status, 0)
        offset = struct.unpack("<Q", data)[0]
        self.assertEqual(g.window[offset:offset + (1 << 20)], bytes(1 << 20))
        g.window[offset:offset + 65536] = bytes(range(256)) * 256
        g.post(COPY_WINDOW_TO_DEVICE, struct.pack("<5Q", 1, address, 65536, offset, 0), wants=False)
        self.assertEqual(g.call(COPY_FROM_DEVICE, address + 65280, 256, 0), bytes(range(256)))
        self.assertEqual(g.do(ARENA_FREE, struct.pack("<Q", offset))[0], 0)
        while not g.returned:
            g.serve(1)
        self.assertEqual(g.returned, [(offset, 1 << 20)])

    def test_g3_again_and_again(self):
        pid = self.worker.process.pid
        before = len(os.listdir("/proc/%d/fd" % pid)), open("/proc/%d/maps" % pid).read().count("memfd:window")
        for _ in range(100):
            self.assertEqual(self.guest.do(NOP)[0], 0)
            self.guest.detach()
            self.guest.attach()
        after = len(os.listdir("/proc/%d/fd" % pid)), open("/proc/%d/maps" % pid).read().count("memfd:window")
        self.assertEqual(before, after)

    def test_g19_fatal_and_back(self):
        self.guest.post(0x0fff)
        self.guest.expect(FATAL)
        self.guest.detach()
        self.guest.attach()
        self.assertEqual(self.guest.do(NOP)[0], 0)

    def test_an_idle_worker_uses_no_processor(self):
        self.assertEqual(self.guest.do(NOP)[0], 0)
        time.sleep(0.2)
        before = cpu_seconds(self.worker.process.pid)
        time.sleep(1.5)
        self.assertLessEqual(cpu_seconds(self.worker.process.pid) - before, 0.01)

    def test_w6_it_ends_with_its_socket_under_load(self):
        for _ in range(500):
            self.guest.post(NOP, wants=False)
        self.assertEqual(self.worker.close(), 0)

    def test_a_killed_worker_leaves_the_window(self):
        self.worker.process.send_signal(signal.SIGKILL)
        self.worker.process.wait(PATIENCE_S)
        self.guest.post(NOP)
        self.assertEqual(struct.unpack_from("<I", self.guest.window, self.guest.base + 0x1000 + 68)[0], ACTIVE)


if __name__ == "__main__":
    if not hasattr(os, "eventfd") or not hasattr(socket, "send_fds"):
        print("needs Python 3.10")
        sys.exit(77)
    unittest.main(verbosity=2)
