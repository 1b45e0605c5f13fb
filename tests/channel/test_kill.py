#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills the program, its worker and the mediator while a channel idles, posts, waits, copies and allocates (G4, G20).

Each ends in a defined error, the next client works and counts exactly what it launched, and a bystander notices nothing.
tests/vm/test_fast_path.py does the same to a VM, its device and its hypervisor.
"""

import os
import signal
import time
import unittest

from rig import STAGES, ChannelCase, descriptors, words

LAUNCH_FAILED = 719
DEVICES_UNAVAILABLE = 46
SOON_S = 20  # "a few seconds", on a machine with other things to do


class Kill(ChannelCase):
    def at_stage(self, stage):
        """A program in the midst of a stage, and its worker."""
        before = set(self.mediator.workers())
        program = self.fast(stage)
        program.line("STAGE " + stage)
        time.sleep(0.2)
        new = [pid for pid in self.mediator.workers() if pid not in before]
        self.assertEqual(len(new), 1)
        return program, new[0]

    def saw(self, program, stage, since):
        if stage == "idle":
            program.go()
        found = words(program.line("SAW "))
        took = time.monotonic() - since
        print("%-8s %s after %.2f s in %s" % (stage, found["name"], took, found["call"]))
        self.assertLess(took, SOON_S)
        return int(found["result"])

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)

    def test_worker_killed(self):
        """P16, G4: that session is CUDA_ERROR_LAUNCH_FAILED; the bystander's is not."""
        for stage in STAGES:
            with self.subTest(stage=stage):
                bystander = self.fast("count", "--wait", "--seconds", "2")
                bystander.line("READY")
                program, worker = self.at_stage(stage)
                bystander.go()
                self.kill(worker)
                self.assertEqual(self.saw(program, stage, time.monotonic()), LAUNCH_FAILED)
                bystander.result()
                self.check_next_client()

    def test_program_killed(self):
        """L13: its worker ends, nothing of it is left in the mediator."""
        self.check_next_client()
        self.wait_no_workers()
        before = descriptors(self.mediator.process.pid)
        for stage in STAGES:
            with self.subTest(stage=stage):
                bystander = self.fast("count", "--wait", "--seconds", "2")
                bystander.line("READY")
                program, worker = self.at_stage(stage)
                bystander.go()
                program.process.kill()
                self.wait_for(lambda: worker not in self.mediator.workers(), "its worker to end")
                bystander.result()
                self.check_next_client()
        self.wait_no_workers()
        self.wait_for(lambda: descriptors(self.mediator.process.pid) <= before, "the mediator's descriptors")

    def test_mediator_killed(self):
        """R14, G20: the session is gone for good, workers end, a new mediator serves new ones."""
        for stage in STAGES:
            with self.subTest(stage=stage):
                program, worker = self.at_stage(stage)
                self.mediator.kill()
                since = time.monotonic()
                self.mediator.start()
                self.assertIn(self.saw(program, stage, since), (DEVICES_UNAVAILABLE, LAUNCH_FAILED))
                self.check_next_client()


if __name__ == "__main__":
    unittest.main()
