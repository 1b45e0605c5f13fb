#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A driver-API program on the guest's libcuda.so.1, against a real mediator and real workers on this host."""

import os
import re
import select
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ["VGPU_BUILD"]
PROGRAM = os.path.join(BUILD, "tests", "unit", "cuda", "cuda_program")
PATIENCE_S = 120


class Programs(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cuda-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.socket = os.path.join(self.folder, "socket")
        self.log = open(os.path.join(self.folder, "log"), "w+b")
        self.addCleanup(self.log.close)
        self.start()

    def start(self, *options):
        ready, ready_write = os.pipe()
        self.mediator = subprocess.Popen(
            [os.path.join(BUILD, "src", "mediator", "vgpu-mediator"), "--watch", self.folder, "--listen", self.socket,
             "--worker", os.path.join(BUILD, "src", "worker", "vgpu-worker"), "--ready-fd", str(ready_write), *options],
            pass_fds=[ready_write], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.addCleanup(self.stop, self.mediator)
        os.close(ready_write)
        try:
            self.assertTrue(select.select([ready], [], [], PATIENCE_S)[0] and os.read(ready, 16).strip() == b"ready", self.text())
        finally:
            os.close(ready)

    @staticmethod
    def stop(mediator):
        if mediator.poll() is None:
            mediator.terminate()
        mediator.wait(PATIENCE_S)

    def text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def begin(self, what):
        environment = dict(os.environ, VGPU_DEVICE="local:" + self.socket, VGPU_CUDA_DEBUG="1",
                           LD_LIBRARY_PATH=os.path.join(BUILD, "src", "guest", "cuda"))
        return subprocess.Popen([PROGRAM, what], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def finish(self, process, line=None):
        out, err = process.communicate(line, timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 0, "%s\n%s\nmediator:\n%s" % (out, err, self.text()))
        self.assertTrue(out.endswith("done\n"), out)
        self.said = err
        return out

    def run_program(self, what):
        return self.finish(self.begin(what))

    def test_threads(self):
        """C8, C12, C13: launches through stages, host functions and copies of four threads; two programs at a time."""
        other = self.begin("threads")
        self.run_program("threads")
        self.finish(other)

    def test_order(self):
        """C12: a host function makes what a kernel on another stream reads."""
        self.run_program("order")

    def test_replay(self):
        """C15, C16: a captured graph, a thousand times."""
        self.run_program("replay")

    def test_fault(self):
        """C5: a fault ends what the program has; the next program is not concerned."""
        self.run_program("fault")
        self.run_program("order")

    def test_fault_is_followed(self):
        """docs/mediator.md, "Following a request": the name that a program is told leads to the worker's lines."""
        self.stop(self.mediator)
        self.start("--log-level", "debug")
        self.run_program("fault")
        told = re.findall(r"illegal.*\(request (\d+\.\d+)\)", self.said)
        self.assertTrue(told, self.said)
        lines = [line.replace('\\"', '"') for line in self.text().split("\n") if "request=%s " % told[0] in line]
        for event in "call", "fault", "call-failed":
            self.assertTrue([line for line in lines if "event=%s " % event in line], "%s\n%s" % (event, self.text()))
        for line in lines:
            self.assertRegex(line, r"event=worker-says vm=\d+ session=0x[0-9a-f]+ pid=\d+ ")

    def test_fork(self):
        """C1: a child of fork has nothing, and takes nothing from its parent when it exits."""
        self.run_program("fork")

    def test_leave(self):
        """C1: a program that gives nothing back exits well, more often than a VM may have sessions."""
        for _ in range(20):
            self.run_program("leave")

    def test_mediator_dies(self):
        """C5: the mediator goes and comes back: the session is gone for good, another program works."""
        holding = self.begin("hold")
        self.assertEqual(holding.stdout.readline(), "ready\n")
        self.mediator.kill()
        self.mediator.wait(PATIENCE_S)
        self.start()
        self.assertIn("46 46\n", self.finish(holding, "\n"))
        self.run_program("order")


if __name__ == "__main__":
    unittest.main()
