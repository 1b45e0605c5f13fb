#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""api/calls.py and api/generate.py: a line of the description that means nothing is refused with its number, and what
names bytes of the window comes out as an offset on one side and a looked-up pointer on the other (P28, G13)."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

API = os.path.join(os.environ["VGPU_SOURCE"], "api")
sys.path.insert(0, API)

import calls as description  # noqa: E402

COPY = "wire 0x1050 posted copy(in CUdeviceptr to, in size_t size, reads from size, use0 CUstream stream)"
BACK = "wire 0x1051 posted back(writes to size, in u32 size)"


class Description(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "some.calls")
        self.output = os.path.join(folder.name, "output")

    def write(self, *lines):
        with open(self.path, "w", encoding="utf-8") as f:
            f.write("# a comment\n" + "\n".join(lines) + "\n")

    def generate(self, kind):
        return subprocess.run([sys.executable, os.path.join(API, "generate.py"), kind, self.path, self.output],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def made(self, kind):
        result = self.generate(kind)
        self.assertEqual(result.returncode, 0, result.stdout)
        with open(self.output, encoding="utf-8") as f:
            return re.sub(r"\s+", " ", f.read())

    def test_window_parameters(self):
        self.write(COPY, BACK)
        copy, back = description.load(self.path)
        self.assertEqual([p.name for p in copy.inputs], ["to", "size", "from", "stream"])
        self.assertEqual([(p.role, p.name, p.size) for p in copy.windows + back.windows],
                         [("reads", "from", "size"), ("writes", "to", "size")])

    def test_what_is_made_of_them(self):
        self.write(COPY, BACK)
        self.assertIn("uint64_t context_, CUdeviceptr to, size_t size, uint64_t from, uint64_t stream",
                      self.made("guest-h"))
        ops = self.made("driver-h")
        self.assertIn("CUdeviceptr to, size_t size, const void *from, struct vgpu_driver_stream *stream", ops)
        self.assertIn("void *to, uint32_t size", ops)
        worker = self.made("worker-c")
        self.assertIn("const void *from = vgpu_calls_window(calls, frame, in[2], in[1], false); "
                      "if (in[1] && !from) return CUDA_ERROR_INVALID_VALUE;", worker)
        # A number of 32 bits is known to be one before it is used.
        self.assertIn("if (in[1] > UINT32_MAX) return vgpu_calls_bad_value(frame, \"size\"); "
                      "void *to = vgpu_calls_window(calls, frame, in[0], in[1], true);", worker)
        table = self.made("table")
        self.assertIn("window from (read, size bytes)", table)
        self.assertIn("window to (written, size bytes)", table)
        self.assertEqual(self.made("calls-c").count(".window = true"), 2)

    def test_lines_that_mean_nothing(self):
        wrong = [
            "wire 0x1050 posted copy(reads from size)",  # no such number
            "wire 0x1050 posted copy(reads from to, in CUdeviceptr to)",  # an address is none
            "wire 0x1050 posted copy(reads from size, in i32 size)",  # may be negative
            "wire 0x1050 posted copy(reads from size, writes size size)",  # no `in`
            "wire 0x1050 posted copy(reads from, in size_t size)",
            "wire 0x1050 posted copy(reads from 64)",  # a number in the description would be a number in both sides
            "wire 0x1050 sync copy(reads from size, in size_t size, new CUstream stream)",
            "wire 0x1050 posted copy(reads from size, in size_t size, drop CUstream stream)",
            "call 0x1050 posted cuCopy(reads from size, in size_t size) since 2000",
            "wire 0x2050 posted copy()",
            "wire 0x1050 posted copy(in size_t)",
            "wire 0x1050 later copy()",
            "what 0x1050 posted copy()",
        ]
        for line in wrong:
            with self.subTest(line=line):
                self.write(COPY.replace("0x1050", "0x1060").replace("copy", "other"), line)
                with self.assertRaises(description.DescriptionError) as refused:
                    description.load(self.path)
                self.assertIn("some.calls:3: ", str(refused.exception))
        self.write(COPY, COPY.replace("copy", "again"))
        result = self.generate("calls-h")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r"^generate.py: .*some.calls:3: again: opcode 0x1050 is taken")
        self.assertFalse(os.path.exists(self.output))


if __name__ == "__main__":
    unittest.main()
