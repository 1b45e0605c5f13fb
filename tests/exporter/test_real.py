#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vgpu-exporter with a real mediator, real workers and programs that do work; and a real Prometheus (docs/metrics.md)."""

import concurrent.futures
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

from local_mediator import Mediator, built
from rig import PATIENCE_S, Exporter, tool, value

UID = "uid:%d" % os.getuid()
WORK = built("tests", "exporter", "t-work")


class Program:
    """A t-work of its own: a local client of this user."""

    def __init__(self, mediator, transport="channel"):
        env = dict(os.environ, VGPU_DEVICE="local:" + mediator.socket, VGPU_TRANSPORT=transport,
                   LD_LIBRARY_PATH=built("src", "guest", "cuda"))
        self.process = subprocess.Popen([WORK], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.line("READY")

    def line(self, expected):
        if not select.select([self.process.stdout], [], [], PATIENCE_S)[0]:
            raise AssertionError("no line %r" % expected)
        line = self.process.stdout.readline().decode().strip()
        if line != expected:
            raise AssertionError("%r instead of %r" % (line, expected))

    def do(self, what):
        self.begin(what)
        self.line("DONE")

    def begin(self, what):
        self.process.stdin.write(what.encode() + b"\n")
        self.process.stdin.flush()

    def close(self, kill=False):
        if kill:
            self.process.kill()
        elif self.process.poll() is None:
            try:
                self.begin("end")
            except OSError:
                pass  # it went by itself
        self.process.wait(PATIENCE_S)
        self.process.stdin.close()
        self.process.stdout.close()


class RealCase(unittest.TestCase):
    more_config = ""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="control-")
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "control.sock")
        self.mediator = Mediator("[mediator]\ncontrol = %s\nreaders = yes\n%s" % (self.path, self.more_config))
        self.addCleanup(self.end)

    def end(self):
        self.mediator.process.terminate()
        self.mediator.process.wait(PATIENCE_S)
        text = self.mediator.text()
        self.mediator.close()
        for word in ("Sanitizer", "runtime error", "event=violation"):
            self.assertNotIn(word, text)

    def exporter(self, *arguments):
        exporter = Exporter(self.path, *(arguments or ("--cache-ms", "0")))
        self.addCleanup(exporter.close)
        return exporter

    def program(self, **more):
        program = Program(self.mediator, **more)
        self.addCleanup(program.close)
        return program

    def wait_for(self, check, what):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = check()
            if found:
                return found
            if time.monotonic() > deadline:
                self.fail("waited in vain for %s\n%s" % (what, self.mediator.text()))
            time.sleep(0.05)

    def figures(self, exporter):
        """What the user's programs have done so far."""
        samples = exporter.scrape()
        found = {name: value(samples, "vgpu_vm_%s" % name, vm=UID) or 0
                 for name in ("calls_total", "launches_total", "posted_calls_total", "workers_started_total", "workers", "gpu_seconds_total",
                              "busy_seconds_total", "call_duration_seconds_count", "leases_total", "requests_total")}
        for direction in ("to_device", "from_device"):
            found[direction] = value(samples, "vgpu_vm_copied_bytes_total", vm=UID, direction=direction) or 0
        found["oom"] = value(samples, "vgpu_vm_call_errors_total", vm=UID, error="CUDA_ERROR_OUT_OF_MEMORY") or 0
        return found


class Counts(RealCase):
    """What is shown is what was done."""

    def check_work(self, transport):
        exporter, program = self.exporter(), self.program(transport=transport)
        before = self.figures(exporter)
        for what, expected in (("launch 777", {"launches_total": 777, "posted_calls_total": 777, "calls_total": 778}),
                               ("to 9 100", {"to_device": 900}), ("to 3 700000", {"to_device": 2100000}),
                               ("back 5 256", {"from_device": 1280}), ("back 2 1000000", {"from_device": 2000000}),
                               ("fail 4", {"oom": 4, "calls_total": 5})):
            program.do(what)
            after = self.figures(exporter)
            changed = {name: after[name] - before[name] for name in after}
            # Everything else stays where it is: a launch copies nothing, a copy launches nothing.
            for name in ("launches_total", "to_device", "from_device", "oom"):
                self.assertEqual(changed[name], expected.get(name, 0), (what, name))
            for name in ("posted_calls_total", "calls_total"):
                if name in expected:
                    self.assertEqual(changed[name], expected[name], (what, name))
            before = after
        return exporter

    def test_channel(self):
        samples = self.check_work("channel").scrape()
        self.assertGreater(value(samples, "vgpu_vm_records_total", vm=UID), 777)

    def test_mailbox(self):
        samples = self.check_work("mailbox").scrape()
        self.assertEqual(value(samples, "vgpu_vm_records_total", vm=UID), 0)
        self.assertGreater(value(samples, "vgpu_vm_requests_total", vm=UID), 0)
        self.assertGreater(value(samples, "vgpu_vm_request_duration_seconds_count", vm=UID), 0)
        self.assertGreater(value(samples, "vgpu_vm_request_bytes_total", vm=UID), 2100000)

    def test_times_and_gauges(self):
        """Times are what the clock says, gauges what there is."""
        exporter, begin = self.exporter(), time.monotonic()
        first, second = self.program(), self.program()
        for program in (first, second):
            program.begin("launch 20000")
        for program in (first, second):
            program.line("DONE")
        samples = exporter.scrape()
        took = time.monotonic() - begin
        get = lambda metric, **labels: value(samples, metric, **labels)
        self.assertEqual(get("vgpu_vm_launches_total", vm=UID), 40000)
        lease, busy = get("vgpu_vm_gpu_seconds_total", vm=UID), get("vgpu_vm_busy_seconds_total", vm=UID)
        self.assertTrue(0 < busy <= lease <= 2 * took, (busy, lease, took))
        leased = get("vgpu_gpu_leased_seconds_total", gpu="0")
        self.assertTrue(0 < leased <= took, (leased, took))
        self.assertAlmostEqual(get("vgpu_gpu_lease_seconds_total", gpu="0"), lease, places=6)
        self.assertEqual(get("vgpu_gpu_leases_total", gpu="0"), get("vgpu_vm_leases_total", vm=UID))
        self.assertEqual(get("vgpu_vm_lease_wait_seconds_count", vm=UID), get("vgpu_vm_leases_total", vm=UID))
        measured = get("vgpu_vm_call_duration_seconds_count", vm=UID)
        self.assertTrue(40000 / 64 < measured < 40000 / 16, measured)
        self.assertLess(get("vgpu_vm_call_duration_seconds_sum", vm=UID), took)
        self.assertEqual(get("vgpu_vm_workers", vm=UID), 2)
        self.assertEqual(get("vgpu_mediator_workers"), 2)
        self.assertEqual(get("vgpu_mediator_vms"), 2)
        self.assertEqual(get("vgpu_vm_memory_used_bytes", vm=UID), 2 << 20)
        self.assertEqual(get("vgpu_vm_memory_quota_bytes", vm=UID), 1 << 30)
        self.assertEqual(get("vgpu_vm_attached", vm=UID), 1)
        self.assertEqual(get("vgpu_vm_info", vm=UID, pool="A", gpu="0", priority="medium"), 1)
        self.assertEqual(get("vgpu_gpu_info", gpu="0", name="software:0", backend="software", pool="A"), 1)
        for program in (first, second):
            program.close()
        self.wait_for(lambda: value(exporter.scrape(), "vgpu_vm_workers", vm=UID) == 0, "the workers' end")
        samples = exporter.scrape()
        self.assertEqual(get("vgpu_vm_attached", vm=UID), 0)
        self.assertEqual(get("vgpu_vm_memory_used_bytes", vm=UID), 0)
        self.assertEqual(get("vgpu_vm_launches_total", vm=UID), 40000)
        still = get("vgpu_vm_gpu_seconds_total", vm=UID)
        time.sleep(0.1)
        self.assertEqual(value(exporter.scrape(), "vgpu_vm_gpu_seconds_total", vm=UID), still)

    def test_counters_never_go_back(self):
        """Workers end, are killed, and others come."""
        exporter, last, launches = self.exporter(), {}, 0
        for kill in (False, True, False):
            program = self.program()
            for _ in range(3):
                program.do("launch 100")
                launches += 100
                last = self.check_monotonic(exporter, last)
            self.assertEqual(last[("vgpu_vm_launches_total", frozenset({("vm", UID)}))], launches)
            program.close(kill)
            last = self.check_monotonic(exporter, last)
        victim = self.program()
        victim.do("launch 50")
        os.kill(self.mediator.workers()[-1], signal.SIGKILL)
        self.wait_for(lambda: value(exporter.scrape(), "vgpu_vm_faults_total", vm=UID) == 1, "the fault")
        last = self.check_monotonic(exporter, last)
        self.assertEqual(last[("vgpu_vm_launches_total", frozenset({("vm", UID)}))], launches + 50)
        self.assertEqual(last[("vgpu_mediator_faults_total", frozenset())], 1)

    def check_monotonic(self, exporter, last):
        samples = exporter.scrape()
        for (name, labels), before in last.items():
            if name.endswith(("_total", "_count", "_sum", "_bucket")):
                self.assertGreaterEqual(samples[(name, labels)], before, (name, labels))
        return samples

    def test_200_scrapes(self):
        exporter, program = self.exporter("--cache-ms", "60000"), self.program()
        program.do("launch 10")
        before = len(exporter.descriptors()), len(os.listdir("/proc/%d/fd" % self.mediator.process.pid))
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            answers = {answer.result()[:2] for answer in [pool.submit(exporter.ask) for _ in range(200)]}
        self.assertEqual(len(answers), 1)
        self.assertIn("\nvgpu_exporter_queries_total 1\n", answers.pop()[1])
        self.wait_for(lambda: (len(exporter.descriptors()), len(os.listdir("/proc/%d/fd" % self.mediator.process.pid))) == before,
                      "descriptors to be closed")

    def test_restart(self):
        """A mediator that dies is down, not gone; the next one is counted."""
        exporter, program = self.exporter(), self.program()
        program.do("launch 10")
        self.assertEqual(self.figures(exporter)["launches_total"], 10)
        self.mediator.kill()
        samples = exporter.scrape()
        self.assertEqual(value(samples, "vgpu_mediator_up"), 0)
        self.assertIsNone(value(samples, "vgpu_vm_launches_total", vm=UID))
        self.mediator.start()
        samples = exporter.scrape()
        self.assertEqual(value(samples, "vgpu_mediator_up"), 1)
        self.assertEqual(value(samples, "vgpu_mediator_restarts_total"), 1)
        self.assertIsNone(value(samples, "vgpu_vm_launches_total", vm=UID))


class Watchdog(RealCase):
    more_config = "[scheduler]\nquantum_ms = 10\nwatchdog_ms = 300\n"

    def test_kills_are_counted(self):
        exporter = self.exporter()
        env = dict(os.environ, VGPU_DEVICE="local:" + self.mediator.socket, VGPU_TRANSPORT="channel",
                   LD_LIBRARY_PATH=built("src", "guest", "cuda"))
        hog = subprocess.Popen([built("tests", "channel", "t-fast"), "sync"], env=env, stdout=subprocess.DEVNULL)
        self.addCleanup(hog.wait)
        self.addCleanup(hog.kill)
        self.wait_for(lambda: value(exporter.scrape(), "vgpu_vm_leases_total", vm=UID), "the hog's lease")
        time.sleep(0.3)
        program = self.program()  # waits for the GPU until the hog has lost it
        program.do("launch 5")
        samples = exporter.scrape()
        for name, labels in (("vgpu_vm_watchdog_kills_total", {"vm": UID}), ("vgpu_vm_faults_total", {"vm": UID}),
                             ("vgpu_gpu_watchdog_kills_total", {"gpu": "0"}), ("vgpu_mediator_watchdog_kills_total", {})):
            self.assertEqual(value(samples, name, **labels), 1, name)
        self.assertGreater(value(samples, "vgpu_vm_lease_wait_seconds_sum", vm=UID), 0.05)


class Prometheus(RealCase):
    """The one that operators run, scraping every 0.2 s while workers come and go and the mediator is started again."""

    def query(self, expression):
        url = "http://127.0.0.1:%d/api/v1/query?%s" % (self.port, urllib.parse.urlencode({"query": expression}))
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            result = json.load(answer)["data"]["result"]
        return {result[i]["metric"].get("vm", ""): float(result[i]["value"][1]) for i in range(len(result))}

    def names(self):
        url = "http://127.0.0.1:%d/api/v1/label/__name__/values" % self.port
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def start_prometheus(self, target):
        program = tool("prometheus")
        if not program:
            self.skipTest("no Prometheus here: tools/setup test")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        folder = tempfile.TemporaryDirectory(prefix="prometheus-")
        self.addCleanup(folder.cleanup)
        config = os.path.join(folder.name, "prometheus.yml")
        with open(config, "w", encoding="utf-8") as out:
            out.write("scrape_configs:\n- job_name: vgpu\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n  static_configs:\n"
                      "  - targets: ['127.0.0.1:%d']\n" % target)
        log = open(os.path.join(folder.name, "log"), "wb")
        self.addCleanup(log.close)
        process = subprocess.Popen([program, "--config.file=" + config, "--storage.tsdb.path=" + os.path.join(folder.name, "data"),
                                    "--web.listen-address=127.0.0.1:%d" % self.port], stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.wait_for(self.is_scraped, "the first scrape")

    def is_scraped(self):
        try:
            return self.query("up == 1 and vgpu_mediator_up == 1") or self.query("vgpu_mediator_up == 1")
        except OSError:
            return None

    def test_scraped(self):
        self.start_prometheus(self.exporter().port)
        launches = 0
        for _ in range(3):
            program = self.program()
            program.do("launch 500")
            program.do("to 2 5000")
            program.close()
            launches += 500
            self.wait_for(lambda: self.query("vgpu_vm_launches_total").get(UID) == launches, "%d launches" % launches)
        self.wait_for(lambda: self.query('vgpu_vm_copied_bytes_total{direction="to_device"}').get(UID) == 30000, "the bytes")
        counters = [name for name in self.names() if name.startswith("vgpu_") and name.endswith(("_total", "_bucket", "_sum", "_count"))]
        self.assertGreater(len(counters), 40)
        for name in counters:
            self.assertEqual(self.query("resets(%s[5m]) > 0" % name), {}, name)
        self.assertGreater(self.query("histogram_quantile(0.99, vgpu_vm_lease_wait_seconds_bucket)")[UID], 0)
        self.mediator.kill()
        self.wait_for(lambda: self.query("vgpu_mediator_up == 0"), "the mediator to be down")
        self.assertTrue(self.query("up == 1"))
        self.mediator.start()
        self.wait_for(lambda: self.query("vgpu_mediator_up == 1"), "the mediator to be up")
        self.wait_for(lambda: self.query("vgpu_mediator_restarts_total") == {"": 1}, "the restart")
        program = self.program()
        program.do("launch 7")
        self.wait_for(lambda: self.query("vgpu_vm_launches_total").get(UID) == 7, "the new count")


if __name__ == "__main__":
    unittest.main()
