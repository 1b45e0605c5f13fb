#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vgpu-bench's figures of the fast path hang together. How large they are is not for a test to say."""

import json
import os
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

from rig import PATIENCE_S, ChannelCase, built

BENCH = built("src", "cli", "vgpu-bench")


class Bench(ChannelCase):
    def run_bench(self, *arguments):
        result = subprocess.run((BENCH,) + arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, timeout=PATIENCE_S, text=True)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr + self.mediator.text())
        return result.stdout

    def test_channel(self):
        """All rows are there, in order, with goals; the picture is a picture."""
        with tempfile.TemporaryDirectory() as folder:
            svg = os.path.join(folder, "run.svg")
            report = json.loads(self.run_bench("channel", "--transport", "local", "--device", "local:" + self.mediator.socket,
                                               "--count", "20", "--copy", "8", "--json", "--svg", svg))
            xml.etree.ElementTree.parse(svg)
        rows = report["rows"]
        # Not "nop": whether a worker is found polling is the machine's affair.
        for key in ("mailbox_nop", "post", "posts", "nop_asleep", "launch_sync", "pageable_to", "pageable_from",
                    "pinned_to", "pinned_from"):
            self.assertIn(key, rows)
            self.assertGreater(rows[key]["value"], 0)
        for row in rows.values():
            if "count" in row:
                self.assertTrue(row["min"] <= row["value"] <= row["p99"], row)
            if "at_most" in row:
                self.assertEqual(row["met"], row["value"] <= row["at_most"])
        self.assertIn("at_most", rows["post"])
        self.assertIn("copies of pinned memory by the guest: none (goal met)", report["notes"])

    def test_share(self):
        """A program alone, beside hogs, and beside hogs of lower priority: each figure is there, and no child is left."""
        report = json.loads(self.run_bench("share", "--device", "local:" + self.mediator.socket, "--count", "20", "--hogs", "2",
                                           "--kernel-us", "300", "--json"))
        rows = report["rows"]
        for key in ("alone", "equal", "high"):
            self.assertTrue(0 < rows[key]["min"] <= rows[key]["value"] <= rows[key]["p99"], rows[key])
            self.assertEqual(rows[key]["count"], 20)
        self.assertAlmostEqual(rows["high"]["at_most"], 2 * rows["alone"]["value"], delta=1)
        for key in ("hogs_alone", "hogs_equal", "hogs_high"):
            self.assertGreaterEqual(rows[key]["value"], 0)
        self.assertGreater(rows["hogs_alone"]["value"], 0)
        self.wait_no_workers()
        priorities = [line.split("priority=")[1].split()[0] for line in self.mediator.text().splitlines() if "event=attached" in line]
        self.assertEqual(priorities[:5], ["medium"] * 4 + ["high"])
        result = subprocess.run((BENCH, "share", "--device", "pci:0000:00:04.0"), stdin=subprocess.DEVNULL, capture_output=True,
                                text=True, check=False)
        self.assertEqual(result.returncode, 2)
        self.assertIn("one place in the schedule", result.stderr)

    def test_cuda_beside_native(self):
        """Two libraries take turns: here ours is both."""
        report = json.loads(self.run_bench("cuda", "--transport", "local", "--device", "local:" + self.mediator.socket, "--count",
                                           "4", "--copy", "2", "--json", "--native", built("src", "guest", "cuda", "libcuda.so.1")))
        row = report["rows"]["launch_sync"]
        self.assertAlmostEqual(row["at_most"], report["rows"]["native_launch_sync"]["value"] + 2000, delta=0.01)


if __name__ == "__main__":
    unittest.main()
