#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Many links, many times: nothing is left behind and memory is bounded."""

import os
import random
import unittest

import vgpu_link_device as link
from rig import Case, say, wait_for

SEED = 20


class Load(Case):
    config = '[mediator]\nmax_vms = 150\n'

    def test_a_hundred_links(self):
        devices = [self.device(vm) for vm in range(100)]
        seqs = [d.submit(link.typed(99)) for d in devices]
        for d, seq in zip(devices, seqs):
            self.assertEqual(d.response(seq).error, 8)
        pids = set()
        for d in devices[:8]:
            pids.add(self.ok(d.ask(say('pid'))).data)
        self.assertEqual(len(pids), 8)
        for d in devices:
            d.close()
        self.mediator.wait_line('detached', 100)

    def test_no_descriptor_is_left(self):
        """200 connections, some of them with sessions, some ended by a violation."""
        d = self.device(1)
        self.ok(d.ask(say('pid')))
        d.close()
        self.listeners.pop(1).close()
        wait_for('the worker to end', lambda: not self.mediator.workers())
        wait_for('the link to end', lambda: len(self.mediator.lines('detached')) == 1)
        before = self.mediator.fds()
        for n in range(200):
            d = self.local() if n % 2 else self.device(1)
            if n % 2:
                d.attach()
            if n % 10 == 0:
                self.ok(d.ask(say('pid')))
            if n % 7 == 0:
                d.send(os.urandom(100))
                d.expect_closed()
            d.close()
        self.listeners.pop(1).close()
        wait_for('the workers to end', lambda: not self.mediator.workers())
        wait_for('the descriptors of before', lambda: self.mediator.fds() == before)

    def test_memory_is_bounded(self):
        d = self.device(1)
        self.ok(d.ask(say('pid')))

        def work(rounds):
            for _ in range(rounds):
                self.ok(d.ask(link.named(link.SESSION_OPEN, 5)))
                self.ok(d.ask(link.named(link.SESSION_CLOSE, 5)))
                self.assertEqual(d.ask(link.typed(99)).error, 8)
                d.cancel(d.seq)
                d.reset()
        work(2000)
        first = self.mediator.rss_kib()
        work(6000)
        # Sanitizers keep freed memory back for a while: what is forbidden is growth with each request.
        self.assertLess(self.mediator.rss_kib() - first, 6000)

    def test_random_bytes(self):
        """Nonsense at every stage ends one link and nothing else."""
        rng = random.Random(SEED)
        other = self.device(2)
        pid = self.ok(other.ask(say('pid'))).data
        hello = link.pack(link.HELLO, link.pack_hello())
        request = link.pack(link.REQUEST, link.pack_request(say('pid')), seq=1)
        for n in range(150):
            d = self.local()
            data = bytearray(hello + request + link.pack(link.CANCEL, seq=1) + link.pack(link.RESET, b'\0' * 8))
            for _ in range(rng.randrange(1, 6)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            try:
                d.send(bytes(data[:rng.randrange(1, len(data) + 1)]))
            except link.Closed:
                pass
            d.close()
        self.assertEqual(self.ok(other.ask(say('pid'))).data, pid)


if __name__ == '__main__':
    unittest.main()
