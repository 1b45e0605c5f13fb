# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the CUDA driver API on our libcuda, without a VM: each call's answer against NVIDIA's own (P28-P32), and
the backend for NVIDIA GPUs with our library in the place of NVIDIA's."""

import difflib
import os
import shutil
import subprocess
import tempfile
import time
import unittest

from local_mediator import PATIENCE_S, Mediator, built

SOURCE = os.environ["VGPU_SOURCE"]
HERE = os.path.join(SOURCE, "tests", "cuda")
KERNELS = os.path.join(HERE, "kernels.ptx")
LIBRARY = built("src", "guest", "cuda")


class Programs(unittest.TestCase):
    """By the mailbox."""
    transport = "mailbox"
    copies = "2"

    def setUp(self):
        self.mediator = Mediator()
        self.addCleanup(self.mediator.close)
        self.env = dict(os.environ, LD_LIBRARY_PATH=LIBRARY, VGPU_DEVICE="local:" + self.mediator.socket,
                        VGPU_TRANSPORT=self.transport)

    def run_program(self, *command, **env):
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                timeout=PATIENCE_S, text=True, env=dict(self.env, **env))
        self.assertEqual(result.returncode, 0,
                         "%s\n%s\n%s\nmediator:\n%s" % (command, result.stdout, result.stderr, self.mediator.text()))
        return result.stdout

    def nobody_is_left(self):
        """Who ends with copies in flight keeps no worker."""
        end = time.monotonic() + PATIENCE_S
        while self.mediator.workers():
            self.assertLess(time.monotonic(), end, "workers left: %s" % self.mediator.workers())
            time.sleep(0.02)

    def compare(self, ours):
        with open(os.path.join(HERE, "expected.txt"), encoding="utf-8") as f:
            want = f.read().splitlines()
        lines = list(difflib.unified_diff(want, ours.splitlines(), "NVIDIA", "ours", lineterm="", n=1))
        self.assertFalse(lines, "\n".join(lines))

    def test_every_answer_is_nvidias(self):
        """The transcript of NVIDIA's driver, word for word."""
        self.compare(self.run_program(built("tests", "cuda", "cuda_conformance"), KERNELS))

    def test_copies(self):
        """C10, C11: copies of every kind of memory, as plain memory says."""
        out = self.run_program(built("tests", "cuda", "cuda_copies"), KERNELS, self.copies)
        self.assertEqual(out.splitlines()[-1], "the end")
        self.nobody_is_left()

    def test_compiled_with_nvidias_header(self):
        """A program that was compiled against NVIDIA's cuda.h runs unchanged."""
        header = next((d for d in ("/usr/local/cuda/include", "/usr/include") if os.path.exists(d + "/cuda.h")), None)
        if not header:
            self.skipTest("no cuda.h of NVIDIA's on this machine")
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "conformance")
            # The library needs its sanitizer, if it has one, to be loaded first: by the program.
            sanitize = ["-fsanitize=address,undefined"] if "asan" in os.path.basename(os.environ["VGPU_BUILD"]) else []
            subprocess.run(["cc", "-I" + header, os.path.join(HERE, "conformance.c"), "-o", program, "-L" + LIBRARY,
                            "-lcuda", "-lpthread"] + sanitize, check=True, timeout=PATIENCE_S)
            self.compare(self.run_program(program, KERNELS))

    def test_the_backend_for_nvidia_gpus(self):
        """Every kernel of tests/fixtures by the backend `cuda`, which finds our library where NVIDIA's would be: so the
        backend, the guest's library and the worker are all in the way of each answer."""
        out = self.run_program(built("tests", "bench", "backend_check"), "cuda",
                               VGPU_LIBCUDA=os.path.join(LIBRARY, "libcuda.so.1"), VGPU_SOURCE=SOURCE)
        self.assertRegex(out, r"\b[1-9]\d* runs, 0 wrong")

    def test_what_a_channel_needs_of_a_backend(self):
        """G13: copies by the window, fences and pinned memory; on the software backend, and on `cuda` with our library."""
        for backend in ("software", "cuda"):
            with self.subTest(backend=backend):
                out = self.run_program(built("tests", "bench", "window_check"), backend,
                                       VGPU_LIBCUDA=os.path.join(LIBRARY, "libcuda.so.1"))
                self.assertRegex(out, r"\b[1-9]\d* checks, 0 wrong")

    def test_the_first_program(self):
        """docs/first-cuda-program.md: kernel by clang, program by cc."""
        clang = shutil.which("clang")
        if not clang:
            self.skipTest("no clang on this machine")
        with tempfile.TemporaryDirectory() as folder:
            ptx = os.path.join(folder, "saxpy.ptx")
            subprocess.run([clang, "-x", "cuda", "--cuda-device-only", "-nocudainc", "-nocudalib",
                            "--cuda-gpu-arch=sm_70", "-Wno-unknown-cuda-version", "-O2", "-S",
                            os.path.join(SOURCE, "docs", "first-cuda-program", "saxpy.cu"), "-o", ptx],
                           check=True, timeout=PATIENCE_S)
            self.assertIn("1048576 of 1048576 right", self.run_program(built("tests", "cuda", "cuda_saxpy"), ptx))


class ProgramsOnAChannel(Programs):
    """The same by a channel of the window."""
    transport = "channel"
    copies = "8"


if __name__ == "__main__":
    unittest.main()
