#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who gets how much of a GPU, by the mediator's own clock: docs/scheduling.md S2, S5, S6, S8, with real workers on the software
backend. Devices come through the mailbox; their kernels last by the clock, so a loaded machine moves no share."""

import datetime
import os
import re
import signal
import struct
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.environ["VGPU_SOURCE"], "tests", "link"))

import vgpu_link_device as link  # noqa: E402
from rig import Case, wait_for, words  # noqa: E402

SPIN = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry spin(.param .u64 ns)
{
    .reg .pred %p<2>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [ns];
    mov.u64 %rd2, %globaltimer;
AGAIN:
    mov.u64 %rd3, %globaltimer;
    sub.u64 %rd4, %rd3, %rd2;
    setp.lt.u64 %p1, %rd4, %rd1;
    @%p1 bra AGAIN;
    ret;
}
"""
NOT_READY = 600


class Hog(threading.Thread):
    """A device that always has kernels waiting, until it is told to stop. They are long enough for this thread to keep up with
    on a busy machine: 256 of them wait in its worker."""

    def __init__(self, device, kernel_us):
        super().__init__(daemon=True)
        self.device, self.kernel_us = device, kernel_us
        self.request_id = 0
        self.stopping = False
        self.launched = 0
        self.failure = None
        module = self.ask(link.named(link.MODULE_LOAD, 0, struct.pack("<II", 0, 0) + SPIN)).results
        found = self.ask(link.named(link.MODULE_KERNEL, 0, struct.pack("<IIII", module[0], module[1], 0, 0) + b"spin"))
        self.function = found.results[:2]
        self.start()

    def ask(self, data):
        self.request_id += 1
        response = self.device.ask(data, request_id=self.request_id)
        while response.status == NOT_READY and not self.stopping:
            response = self.device.ask(data, request_id=self.request_id)
        if response.error or response.status not in (0, NOT_READY):
            raise AssertionError(response)
        return response

    def run(self):
        kernel = link.typed(link.CUDA_KERNEL, tuple(self.function) + (1, 1, 1, 1, 1, 1, 0, 0),
                            struct.pack("<Q", self.kernel_us * 1000))
        try:
            while not self.stopping:
                self.ask(kernel)
                self.launched += 1
        except (AssertionError, link.Closed, link.Violation, OSError) as failure:
            self.failure = failure

    def stop(self):
        self.stopping = True
        self.join(60)


class Shares(Case):
    real = True

    def setUp(self):
        super().setUp()
        self.hogs = {}

    def stop(self):
        for hog in self.hogs.values():
            hog.stopping = True
        for vm_id, hog in self.hogs.items():
            hog.stop()
            self.assertIsNone(hog.failure, "vm %d" % vm_id)
        self.hogs = {}

    def hog(self, vm_id, kernel_us=2500, **hello):
        self.hogs[vm_id] = Hog(self.device(vm_id, **hello), kernel_us)
        self.addCleanup(self.stop)  # before the device is closed

    def status(self):
        """(time in seconds, {vm: words of its status line}), all of one moment."""
        before = len(self.mediator.lines("status-end"))
        self.mediator.signal(signal.SIGUSR1)
        wait_for("a status", lambda: len(self.mediator.lines("status-end")) > before)
        found, last, ends = {}, None, 0
        for line in self.mediator.text().splitlines():
            if " event=status-end " in line:
                ends += 1
                last = line
            elif " event=status " in line and ends == before:
                found[int(words(line)["vm"])] = words(line)
            if ends > before:
                break
        stamp = re.match(r"(\S+)Z ", last).group(1)
        return datetime.datetime.fromisoformat(stamp).timestamp(), found

    def window(self, seconds):
        """({vm: lease time in seconds}, {vm: leases}, seconds that passed)"""
        start, first = self.status()
        time.sleep(seconds)
        end, last = self.status()
        took = {vm: (int(last[vm]["lease_ms"]) - int(first[vm]["lease_ms"])) / 1000 for vm in first}
        leases = {vm: int(last[vm]["leases"]) - int(first[vm]["leases"]) for vm in first}
        return took, leases, end - start


class Weights(Shares):
    config = "[vm 1]\nweight = 100\n[vm 2]\nweight = 200\n[vm 3]\nweight = 400\n"

    def test_s5_shares_by_weight(self):
        """1 : 2 : 4 of the lease time, within three points."""
        for vm_id in (1, 2, 3):
            self.hog(vm_id)
        time.sleep(0.3)
        took, leases, passed = self.window(3)
        total = sum(took.values())
        print("weights 1 : 2 : 4 got %s %% in %.1f s, %d leases" % (
            ", ".join("%.1f" % (100 * took[v] / total) for v in (1, 2, 3)), passed, sum(leases.values())))
        for vm_id, weight in ((1, 1), (2, 2), (3, 4)):
            self.assertAlmostEqual(took[vm_id] / total, weight / 7, delta=0.03)
        self.assertGreater(total, passed * 0.5)


class Rate(Shares):
    config = "[vm 1]\nrate = 30%\nburst_ms = 100\n"

    def test_s8_rate(self):
        """30 % +- 2 points of the time over 5 s, alone on the GPU."""
        self.hog(1)
        time.sleep(0.8)  # for what it had saved up
        took, leases, passed = self.window(5)
        print("a rate of 30 %% got %.2f %% of %.2f s, %d leases" % (100 * took[1] / passed, passed, leases[1]))
        self.assertAlmostEqual(took[1] / passed, 0.30, delta=0.02)

    def test_s8_the_rest_is_for_others(self):
        self.hog(1)
        self.hog(2)
        time.sleep(0.8)
        took, _, passed = self.window(3)
        print("beside another it got %.2f %%" % (100 * took[1] / passed))
        # A limit, and no promise: what comes late because others compute is not saved up for ever.
        self.assertLess(took[1] / passed, 0.32)
        self.assertGreater(took[1] / passed, 0.15)
        self.assertGreater(took[2], took[1])


class Weighted(Shares):
    config = "[vm 1]\npriority = low\n[vm 2]\npriority = high\n"

    def test_s5_a_priority_is_a_share(self):
        """One part in 17 for low beside high, for ever; in mode weighted."""
        self.hog(1)
        self.hog(2)
        time.sleep(0.3)
        took, _, passed = self.window(3)
        share = took[1] / (took[1] + took[2])
        print("weighted: low got %.1f %% beside high" % (100 * share))
        self.assertAlmostEqual(share, 1 / 17, delta=0.02)


class Strict(Shares):
    config = "[scheduler]\nmode = strict\naging_ms = 400\n[vm 1]\npriority = low\n[vm 2]\npriority = high\n"

    def test_s6_strict_and_aging(self):
        """A low priority gets a turn each aging_ms under permanent high load, and no more."""
        self.hog(1)
        self.hog(2)
        time.sleep(0.3)
        took, leases, passed = self.window(4)
        share = took[1] / (took[1] + took[2])
        print("strict: low got %.1f %% in %d turns of %.1f s" % (100 * share, leases[1], passed))
        self.assertLess(share, 0.15)
        self.assertGreaterEqual(leases[1], 4)
        self.assertLessEqual(leases[1], passed / 0.4 + 2)

    def test_s5_low_runs_when_high_rests(self):
        self.hog(1)
        took, _, passed = self.window(0.5)
        self.assertGreater(took[1], passed * 0.9)


if __name__ == "__main__":
    unittest.main()
