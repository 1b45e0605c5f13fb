#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Many programs on channels at once: none loses a call, none is left out, nothing is left over, and who rests costs nothing."""

import os
import time
import unittest

from rig import ChannelCase, cpu_s, descriptors, resident_kib

SANITIZED = "san" in os.path.basename(os.environ["VGPU_BUILD"])
CLIENTS = 64


class Load(ChannelCase):
    # Every client holds a little device memory, and all are one user.
    config = "[limits]\nmemory = 4G\n"

    def test_sixty_four_clients(self):
        """G8 to G11, L13: every launch is counted, each client gets a share, descriptors and workers go when clients go."""
        self.check_next_client()
        self.wait_no_workers()
        before, grown = descriptors(self.mediator.process.pid), resident_kib(self.mediator.process.pid)
        seconds = 12 if SANITIZED else 8
        clients = [self.fast("count", "--wait", "--seconds", str(seconds)) for _ in range(CLIENTS)]
        for client in clients:
            client.line("READY")
        for client in clients:
            client.go()
        time.sleep(seconds / 2)
        workers = self.mediator.workers()
        self.assertEqual(len(workers), CLIENTS)
        memory = {pid: resident_kib(pid) for pid in workers}
        time.sleep(seconds / 4)
        for pid in workers:
            try:
                self.assertLess(resident_kib(pid) - memory[pid], 64 << 10, "a worker's memory grows while its ring is full")
            except (FileNotFoundError, ProcessLookupError):
                pass  # it is done already
        results = [client.result() for client in clients]
        posted = sorted(int(r["posted"]) for r in results)
        self.assertEqual([r["counter"] for r in results], [r["posted"] for r in results])
        rate = sum(int(r["posted"]) / float(r["seconds"]) for r in results)
        print("%d clients: %d launches, %.0f a second; share of the least %.3f, of the most %.3f of the mean"
              % (CLIENTS, sum(posted), rate, posted[0] * CLIENTS / sum(posted), posted[-1] * CLIENTS / sum(posted)))
        self.assertGreater(posted[0], 0)
        self.assertLess(posted[-1], 100 * posted[0], "shares differ by more than two orders of magnitude")
        self.wait_no_workers()
        self.wait_for(lambda: descriptors(self.mediator.process.pid) <= before, "the mediator's descriptors")
        self.assertLess(resident_kib(self.mediator.process.pid) - grown, 64 << 10)

    def test_two_tenants_on_one_gpu(self):
        """A lease is called back from a worker that has never an empty ring, and both get on."""
        pair = [self.fast("count", "--wait", "--seconds", "4") for _ in range(2)]
        for client in pair:
            client.line("READY")
        for client in pair:
            client.go()
        posted = sorted(int(client.result()["posted"]) for client in pair)
        print("two tenants: %d and %d launches" % tuple(posted))
        self.assertGreater(posted[0], 0)
        self.assertLess(posted[1], 30 * posted[0])
        self.wait_no_workers()
        # The mailbox begins and ends sessions; calls and copies come by channels (G5).
        self.assertEqual(len(self.requests_of_all()), 2)
        self.assertLess(max(self.requests_of_all()), 20)
        recalls = [line for line in self.mediator.text().splitlines() if "event=detached" in line and "recalls=0 " not in line]
        self.assertTrue(recalls, self.mediator.text())

    def test_idle_uses_no_processor(self):
        """Attached, with channels, and nothing to do: mediator, workers and programs all sleep."""
        clients = [self.fast("idle") for _ in range(8)]
        for client in clients:
            client.line("STAGE")
        pids = [self.mediator.process.pid] + self.mediator.workers() + [c.process.pid for c in clients]
        self.assertEqual(len(pids), 17)
        time.sleep(1)  # what still polls because there was work a moment ago
        before = {pid: cpu_s(pid) for pid in pids}
        time.sleep(2)
        used = {pid: cpu_s(pid) - before[pid] for pid in pids}
        print("idle: %.0f ms of processor time in 2 s, of 17 processes" % (sum(used.values()) * 1000))
        # Clock ticks are 10 ms; a process that polls would have used all of 2 s.
        self.assertLessEqual(sum(used.values()), 0.05, used)
        for client in clients:
            client.process.kill()


if __name__ == "__main__":
    unittest.main()
