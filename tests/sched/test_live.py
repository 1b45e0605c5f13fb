#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduler under programs through channels: an interactive one beside hogs (S3, S4), a kernel that never ends (S7), processes
that are killed under load, and what a lease costs when nobody else wants it (S1)."""

import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.environ["VGPU_SOURCE"], "tests", "channel"))

from local_mediator import built  # noqa: E402
from rig import ChannelCase, Program, words  # noqa: E402

SHARE = built("tests", "sched", "t-share")
SANITIZED = "san" in os.path.basename(os.environ["VGPU_BUILD"])
LAUNCH_TIMEOUT = 702
POSTS = 1000000


def runs(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Live(ChannelCase):
    def start(self, mode, *arguments, priority=None):
        if priority:
            self.env = dict(self.env, VGPU_PRIORITY=priority)
        program = Program(self, SHARE, mode, *[str(a) for a in arguments])
        self.env.pop("VGPU_PRIORITY", None)
        program.line("READY")
        return program

    def begin(self, *programs):
        for program in programs:
            program.go()

    def end(self, program):
        """The words of its RESULT."""
        program.go()
        found = words(program.line("RESULT "))
        self.assertEqual(program.process.wait(120), 0)
        return {k: int(v) for k, v in found.items()}

    def status(self):
        """[words of each VM's status line]"""
        before = self.mediator.text().count("event=status-end ")
        self.mediator.process.send_signal(signal.SIGUSR1)
        self.wait_for(lambda: self.mediator.text().count("event=status-end ") > before, "a status")
        text = self.mediator.text().split("event=status-end ")[before]
        return [words(line) for line in text.splitlines() if "event=status " in line]

    def of(self, priority):
        found = [s for s in self.status() if s["priority"] == priority]
        self.assertEqual(len(found), 1, found)
        return found[0]

    def check_at_rest(self):
        """Nobody holds or waits, and no lease was lost: a program that comes now gets on."""
        self.wait_no_workers()
        self.wait_for(lambda: not self.status(), "the clients to be gone")
        last = self.start("busy", "--kernel-us", 100)
        self.begin(last)
        time.sleep(0.1)
        self.assertGreater(self.end(last)["requests"], 0)
        for line in self.mediator.text().splitlines():
            if "event=detached" in line:
                counters = {k: int(v) for k, v in words(line).items() if v.isdigit()}
                self.assertLessEqual(counters["recalls"], counters["leases"], line)


class Interactive(Live):
    def course(self):
        """(requests, leases, median in us) of an interactive program of high priority beside two hogs, over a second or two."""
        # Much is queued, so that they want the GPU all the time, on a busy machine too.
        hogs = [self.start("busy", "--kernel-us", 2000, "--queued", 100) for _ in range(2)]
        self.begin(*hogs)
        quick = self.start("interactive", "--kernel-us", 50, "--gap-us", 500, priority="high")
        self.begin(quick)
        time.sleep(0.5)
        before = self.of("high")
        time.sleep(1.5)
        after = self.of("high")
        result = self.end(quick)
        for hog in hogs:
            self.assertGreater(self.end(hog)["requests"], 10)
        return result, int(after["leases"]) - int(before["leases"])


class Lingering(Interactive):
    config = "[scheduler]\nlinger_us = 50000\nhigh = 1000\n"

    def test_s4_the_lease_outlasts_gaps(self):
        result, leases = self.course()
        per_lease = result["requests"] * 0.75 / max(leases, 1)
        print("linger: %d requests, p50 %d us, %.1f a lease" % (result["requests"], result["p50_us"], per_lease))
        self.assertGreater(per_lease, 2)


class NotLingering(Interactive):
    config = "[scheduler]\nlinger_us = 0\nhigh = 1000\n"

    def test_s4_without_it_each_gap_ends_it(self):
        result, leases = self.course()
        per_lease = result["requests"] * 0.75 / max(leases, 1)
        print("no linger: %d requests, p50 %d us, %.1f a lease" % (result["requests"], result["p50_us"], per_lease))
        self.assertLess(per_lease, 2)


class Watchdog(Live):
    config = "[scheduler]\nwatchdog_ms = 700\n"

    def test_s7_an_endless_kernel(self):
        """It is ended, with 702, and nobody else; the others go on."""
        hogs = [self.start("busy", "--kernel-us", 500) for _ in range(2)]
        self.begin(*hogs)
        endless = self.start("endless")
        workers = set(self.mediator.workers())
        self.begin(endless)
        saw = words(endless.line("SAW "))
        self.assertEqual(int(saw["result"]), LAUNCH_TIMEOUT, saw)
        self.assertEqual(endless.process.wait(120), 0)
        self.wait_for(lambda: len(self.mediator.workers()) == 2, "its worker to end")
        self.assertEqual(len(workers - set(self.mediator.workers())), 1)
        kills = [line for line in self.mediator.text().splitlines() if "event=worker-kill" in line]
        self.assertEqual(len(kills), 1, kills)
        before = {s["vm"]: int(s["lease_ms"]) for s in self.status()}
        time.sleep(0.5)
        for s in self.status():
            self.assertGreater(int(s["lease_ms"]), before[s["vm"]])
        for hog in hogs:
            self.assertGreater(self.end(hog)["requests"], 0)
        self.check_at_rest()


class Neighbours(Live):
    """S7 of those beside a kernel that never ends: nobody loses a call, one request of each waits for the watchdog, and what
    the others see of it at their 99th percentile is nothing."""
    watchdog_ms = 1000
    leases = 1

    def setUp(self):
        self.config = "[scheduler]\nwatchdog_ms = %d\nleases = %d\n" % (self.watchdog_ms, self.leases)
        super().setUp()

    def mark(self, program):
        program.go("mark")
        return {k: int(v) for k, v in words(program.line("RESULT ")).items()}

    def course(self):
        """(RESULT without, RESULT with an endless kernel) of an interactive program beside a busy one."""
        busy = self.start("busy", "--kernel-us", 500)
        quick = self.start("interactive", "--kernel-us", 50, "--gap-us", 500, priority="high")
        endless = self.start("endless")
        self.begin(busy, quick)
        time.sleep(0.5)
        self.mark(quick)
        time.sleep(2)
        without = self.mark(quick)
        self.begin(endless)
        saw = words(endless.line("SAW "))
        self.assertEqual(int(saw["result"]), LAUNCH_TIMEOUT, saw)
        time.sleep(3)  # for hundreds of requests, of which one waited
        found = self.end(quick)
        self.assertEqual(endless.process.wait(120), 0)
        self.assertGreater(self.end(busy)["requests"], 0)
        print("%d lease(s), watchdog after %d ms: p50 %d, p99 %d, most %d us without; %d, %d, %d us with it" % (
            self.leases, self.watchdog_ms, without["p50_us"], without["p99_us"], without["max_us"], found["p50_us"],
            found["p99_us"], found["max_us"]))
        self.assertLess(found["p99_us"], self.watchdog_ms * 1000 // 2)
        self.check_at_rest()
        return found

    def test_s7_one_request_waits(self):
        found = self.course()
        self.assertGreater(found["max_us"], self.watchdog_ms * 1000 // 2)


class NeighboursOfTwo(Neighbours):
    """With two leases at a time the others go on meanwhile."""
    watchdog_ms = 3000
    leases = 2

    def test_s7_one_request_waits(self):
        found = self.course()
        self.assertLess(found["max_us"], self.watchdog_ms * 1000 // 2)


class Killed(Live):
    def load(self):
        hogs = [self.start("busy", "--kernel-us", 300) for _ in range(3)]
        self.begin(*hogs)
        time.sleep(0.2)
        return hogs

    def check_others(self, hogs):
        """Both get on: the lease of who is gone was free again."""
        before = {s["vm"]: int(s["leases"]) for s in self.status() if s["link"] == "up"}
        self.assertEqual(len(before), len(hogs))
        self.wait_for(lambda: all(int(s["leases"]) >= before[s["vm"]] + 5 for s in self.status() if s["vm"] in before),
                      "the others' leases")
        for hog in hogs:
            self.assertGreater(self.end(hog)["requests"], 20)

    def test_a_worker(self):
        hogs = self.load()
        workers = self.mediator.workers()
        self.assertEqual(len(workers), 3)
        os.kill(workers[0], signal.SIGKILL)
        self.wait_for(lambda: len(self.mediator.workers()) == 2, "the worker to be reaped")
        ended = []
        self.wait_for(lambda: ended or ended.extend(h for h in hogs if h.process.poll() is not None) or ended,
                      "its program to be told")
        self.assertEqual(len(ended), 1)
        self.assertNotEqual(int(words(ended[0].line("SAW "))["result"]), 0)
        self.wait_for(lambda: len(self.status()) == 2, "it to be gone")
        self.check_others([h for h in hogs if h not in ended])
        self.check_at_rest()

    def test_a_client(self):
        hogs = self.load()
        hogs[0].process.kill()
        self.wait_for(lambda: len(self.status()) == 2, "it to be gone")
        self.check_others(hogs[1:])
        self.check_at_rest()

    def test_the_mediator(self):
        """Its workers end, its clients are told, and the next one serves from the beginning."""
        hogs = self.load()
        workers = self.mediator.workers()
        self.mediator.kill()
        self.wait_for(lambda: not any(runs(pid) for pid in workers), "the workers to end")
        for hog in hogs:
            self.assertNotEqual(int(words(hog.line("SAW "))["result"]), 0)
        self.mediator.start()
        self.assertEqual(self.status(), [])
        pair = [self.start("busy", "--kernel-us", 300) for _ in range(2)]
        self.begin(*pair)
        time.sleep(0.3)
        self.check_others(pair)
        self.check_at_rest()


class Alone(Live):
    def test_s1_no_message_without_contention(self):
        """A million posted calls cost the broker nothing."""
        posts = POSTS // 10 if SANITIZED else POSTS
        program = self.start("post", "--count", posts)
        self.begin(program)
        program.line("PREPARED")
        before = self.status()[0]
        program.go()
        seconds = float(words(program.line("POSTED "))["seconds"])
        after = self.status()[0]
        print("%d posted calls in %.2f s: %d messages about leases, %d requests by the mailbox"
              % (posts, seconds, int(after["lease_messages"]) - int(before["lease_messages"]),
                 int(after["requests"]) - int(before["requests"])))
        for counter in ("lease_messages", "leases", "recalls", "requests"):
            self.assertEqual(after[counter], before[counter], counter)
        self.assertEqual(after["leased"], "yes")
        self.assertEqual(int(after["lease_messages"]), 2)  # WANT and GRANT
        program.process.stdin.close()
        self.assertEqual(program.process.wait(120), 0)


if __name__ == "__main__":
    unittest.main()
