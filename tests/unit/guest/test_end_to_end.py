#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's programs against a real mediator and real workers on this host, without a VM: over the mediator's own
socket, and through the device model in vgpu-bench."""

import glob
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import unittest

from local_mediator import PATIENCE_S, Mediator, built

SOURCE = os.environ["VGPU_SOURCE"]
PTX = os.path.join(SOURCE, "tests", "fixtures", "ptx")


def words(line):
    """key=value words of a line; a value in quotes may hold spaces."""
    return {k: v.strip('"') for k, v in re.findall(r'([a-z_]+)=("[^"]*"|\S+)', line)}


class Case(unittest.TestCase):
    def setUp(self):
        self.mediator = Mediator()
        self.addCleanup(self.mediator.close)
        self.device = "local:" + self.mediator.socket

    def run_program(self, *command, status=0, env=None):
        """Runs a program to its end and returns its standard output. `env` comes on top of ours."""
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                timeout=PATIENCE_S, text=True, env=dict(os.environ, **(env or {})))
        self.assertEqual(result.returncode, status,
                         "%s\n%s\n%s\nmediator:\n%s" % (command, result.stdout, result.stderr, self.mediator.text()))
        return result.stdout

    def wait_for(self, look):
        """What `look` returns once that is true."""
        for _ in range(PATIENCE_S * 50):
            found = look()
            if found:
                return found
            select.select([], [], [], 0.02)
        self.fail("waited in vain")

    def start_hold(self, *arguments):
        """Starts t-hold and waits until it is at its stage."""
        process = subprocess.Popen([built("tests", "vm", "guest", "t-hold"), *arguments, "--device", self.device],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        line = process.stdout.readline()
        self.assertTrue(line.startswith("STAGE "), line)
        return process

    def finish_hold(self, process):
        """Lets it go on; (what it saw, how it recovered)."""
        out, _ = process.communicate("\n", timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 0, out)
        saw = [words(line) for line in out.splitlines() if line.startswith("SAW ")]
        self.assertEqual(len(saw), 1, out)
        return saw[0], out


class Programs(Case):
    def test_info(self):
        """vgpu-info: all facts, in words and as JSON."""
        facts = json.loads(self.run_program(built("src", "cli", "vgpu-info"), "--json", "--device", self.device))
        self.assertEqual(facts["device"], self.device)
        self.assertTrue(facts["attached"])
        self.assertEqual(facts["gpu"]["backend"], "software")
        self.assertGreater(facts["gpu"]["total_memory_bytes"], 0)
        text = self.run_program(built("src", "cli", "vgpu-info"), "--device", self.device)
        self.assertIn("backend       software", text)
        self.assertRegex(text, r"\ntransport     channel 0 of \d+, in a window of 256 MiB\n")
        self.assertTrue(facts["transport"].startswith("channel 0 of "))
        table = self.run_program(built("src", "cli", "vgpu-info"), "--summary", "--device", self.device).splitlines()
        self.assertTrue(any("vgpu software GPU" in line for line in table), table)
        self.assertTrue(any("0 bytes / 1.0 GiB" in line for line in table), table)
        self.assertEqual(len({len(line) for line in table}), 1, table)  # a table has straight edges

    def test_transport(self):
        """docs/guest.md: what VGPU_TRANSPORT and VGPU_WINDOW say is what one gets, and is told."""
        info = [built("src", "cli", "vgpu-info"), "--json", "--device", self.device]
        for variables, transport in (({"VGPU_TRANSPORT": "mailbox"}, "mailbox: it was asked for"), ({"VGPU_WINDOW": "0"}, "mailbox: no window was asked for"),
                                     ({"VGPU_WINDOW": "64M", "VGPU_TRANSPORT": "channel"}, "channel 0 of 16, in a window of 64 MiB")):
            with self.subTest(**variables):
                facts = json.loads(self.run_program(*info, env=variables))
                self.assertTrue(facts["transport"].startswith(transport), facts["transport"])
                self.assertIsNotNone(facts["gpu"])
        facts = json.loads(self.run_program(*info, env={"VGPU_PRIORITY": "high"}))
        self.assertEqual(facts["priority"], "high")
        self.run_program(*info, status=3, env={"VGPU_WINDOW": "0", "VGPU_TRANSPORT": "channel"})
        self.run_program(*info, status=2, env={"VGPU_WINDOW": "large"})
        self.run_program(*info, status=2, env={"VGPU_PRIORITY": "urgent"})
        self.run_program(*info, status=2, env={"VGPU_TRANSPORT": "pigeon"})

    def test_info_without_a_mediator(self):
        """vgpu-info's exit statuses: 1 no device, 2 wrong arguments."""
        info = built("src", "cli", "vgpu-info")
        self.run_program(info, "--device", "local:/nonexistent", status=1)
        self.run_program(info, "--device", "tape:0", status=2)
        self.run_program(info, "--color", status=2)

    def test_wrong_arguments(self):
        """What a program would ignore or misread is status 2; --help is 0 wherever it stands."""
        info, demo, bench = (built("src", "cli", "vgpu-" + name) for name in ("info", "demo", "bench"))
        for command in ((info, "--all", "--bogus"), (info, "--json", "--all"), (info, "--json", "--summary"), (info, "--summary", "--all"), (info, "--all", "--device", "pci:0000:00:04.0"),
                        (info, "--device="), (info, "--device", ""), (demo, "--device=", PTX), (demo, "--size", "33", PTX),
                        (demo, "--size", "0", PTX), (bench, "mailbox", "--device="),
                        (bench, "mailbox", "--transport", "local", "--mediator-dir", self.mediator.folder),
                        (bench, "mailbox", "--transport", "local", "--device", "pci:0000:00:04.0"),
                        (bench, "mailbox", "--transport", "tape"), (bench, "relay", "--device", self.device)):
            with self.subTest(command=command[1:]):
                self.run_program(*command, status=2)
        for command in ((info, "--help"), (demo, "--help"), (bench, "--help"), (bench, "mailbox", "--help")):
            self.assertIn("usage: ", self.run_program(*command))

    def test_output_lost(self):
        """Output that did not arrive is a failure."""
        for command in ((built("src", "cli", "vgpu-info"), "--device", self.device), (built("src", "cli", "vgpu-bench"), "--help"),
                        (built("src", "cli", "vgpu-demo"), "--version")):
            with self.subTest(command=command), open("/dev/full", "w") as full:
                result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
                                        timeout=PATIENCE_S, text=True)
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertIn("No space left", result.stderr)

    def test_requests(self):
        """P1 to P27: the malformed twins, straight to the mediator."""
        out = self.run_program(built("tests", "vm", "guest", "t-requests"), "--device", self.device)
        self.assertIn("verdict=ok", out)

    def test_cuda(self):
        """P19, P34: vector add and both SGEMMs, of both compilers, checked in C, by channel and by mailbox."""
        for transport, compiler in (("channel", "nvcc"), ("channel", "clang"), ("mailbox", "nvcc")):
            for kernel in ("sgemm_naive", "sgemm_tiled_16"):
                out = self.run_program(
                    built("tests", "vm", "guest", "t-cuda"), "--device", self.device, "--vector-add",
                    os.path.join(PTX, "vector_add.%s.ptx" % compiler), "--count", "30001", "--sgemm",
                    os.path.join(PTX, "sgemm.%s.ptx" % compiler), "--kernel", kernel, "--size", "64",
                    env={"VGPU_TRANSPORT": transport})
                self.assertIn("verdict=ok", out)

    def test_demo(self):
        """The demo's last line is what tools/demo reads."""
        out = self.run_program(built("src", "cli", "vgpu-demo"), "--device", self.device, "--count", "5000", "--size", "32", PTX)
        result = words(out.splitlines()[-1])
        self.assertEqual(result["verdict"], "ok")
        self.assertEqual(result["backend"], "software")
        self.assertGreaterEqual(int(result["bytes_to"]), 2 * 5000 * 4 + 2 * 32 * 32 * 4)

    def test_no_session_is_left(self):
        """L13: a client's workers end with its connection."""
        self.test_demo()
        for _ in range(500):
            if not self.mediator.workers():
                return
            select.select([], [], [], 0.02)
        self.fail("workers left: %s" % self.mediator.workers())


class Faults(Case):
    ptx = os.path.join(PTX, "control.nvcc.ptx")

    def test_worker_killed(self):
        """P16: before, during and after a request, a dead worker is status 719, for that session alone."""
        for stage, cuda in (("before", "719"), ("busy", "719"), ("kernel", "719"), ("done", "0")):
            with self.subTest(stage=stage):
                process = self.start_hold(stage, "--ptx", self.ptx, "--recover", "60000")
                workers = self.mediator.workers()
                self.assertEqual(len(workers), 1)
                os.kill(workers[0], signal.SIGKILL)
                if stage == "busy":  # ends by itself
                    out, _ = process.communicate(timeout=PATIENCE_S)
                    saw = words([line for line in out.splitlines() if line.startswith("SAW ")][0])
                else:
                    saw, out = self.finish_hold(process)
                self.assertEqual((saw["cuda"], saw["errno"]), (cuda, "0"), out)
                self.assertEqual(saw["generation"], saw["generation_before"])
                self.assertIn("\nRECOVERED ", out)

    def test_mediator_killed(self):
        """R14, P17: GENERATION moves, the session is gone, and a new mediator serves new ones."""
        for stage in ("before", "busy", "kernel"):
            with self.subTest(stage=stage):
                process = self.start_hold(stage, "--ptx", self.ptx, "--recover", "60000")
                self.mediator.kill()
                self.mediator.start()
                saw, out = self.finish_hold(process)
                self.assertGreater(int(saw["generation"]), int(saw["generation_before"]), out)
                self.assertTrue(saw["error_code"] == "3" or saw["cuda"] == "201" or saw["errno"] == "116", out)
                self.assertIn("\nRECOVERED ", out)


class Bench(Case):
    def test_mailbox(self):
        """vgpu-bench mailbox: figures that hang together, by the device model and by the socket."""
        for transport in (["--transport", "device", "--mediator-dir", self.mediator.folder],
                          ["--transport", "local", "--device", self.device]):
            out = json.loads(self.run_program(built("src", "cli", "vgpu-bench"), "mailbox", "--json", "--count", "100", *transport))
            nop = out["nop"]
            self.assertEqual(nop["count"], 100)
            self.assertTrue(0 < nop["min_us"] <= nop["median_us"] <= nop["p90_us"] <= nop["p99_us"] <= nop["max_us"])
            for way in ("to_device", "from_device"):
                self.assertEqual(out[way]["count"], 100)
                self.assertGreater(out[way]["bytes_per_s"], 0)

    def make_folder(self):
        """For TMPDIR. Its path is short, since paths of sockets are."""
        folder = tempfile.mkdtemp(prefix="b-", dir="/tmp")
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def test_stopped(self):
        """A signal ends vgpu-bench; the mediator it started and that one's folder go with it."""
        folder = self.make_folder()
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number):
                process = subprocess.Popen([built("src", "cli", "vgpu-bench"), "mailbox", "--transport", "device", "--seconds", "600"],
                                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                           env=dict(os.environ, TMPDIR=folder))
                self.addCleanup(process.stdout.close)
                self.wait_for(lambda: glob.glob(os.path.join(folder, "*", "vm-%d.sock" % process.pid)))
                process.send_signal(number)
                self.assertEqual(process.wait(PATIENCE_S), -number)
                self.assertEqual(os.listdir(folder), [])

    def test_not_started(self):
        """A mediator that does not get ready leaves no folder."""
        folder = self.make_folder()
        result = subprocess.run([built("src", "cli", "vgpu-bench"), "relay"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, timeout=PATIENCE_S, env=dict(os.environ, VGPU_MEDIATOR="/bin/false", TMPDIR=folder))
        self.assertEqual(result.returncode, 1)
        self.assertEqual(os.listdir(folder), [])

    def test_relay(self):
        """vgpu-bench relay: both kinds of samples and their ratio; how large it is is not for a test to say."""
        out = json.loads(self.run_program(built("src", "cli", "vgpu-bench"), "relay", "--json", "--count", "100"))
        self.assertEqual(out["device"]["count"], 100)
        self.assertEqual(out["relay"]["count"], 100)
        self.assertAlmostEqual(out["ratio_of_medians"], out["device"]["median_us"] / out["relay"]["median_us"], delta=0.01)


if __name__ == "__main__":
    unittest.main(verbosity=2)
