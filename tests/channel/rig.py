# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs on channels of a mediator on this host: started, watched, counted. Knows nothing of what is tested."""

import os
import re
import select
import subprocess
import time
import unittest

from local_mediator import PATIENCE_S, Mediator, built

FAST = built("tests", "channel", "t-fast")
ATTACK = built("tests", "channel", "t-attack")
SCRUB = built("tests", "channel", "t-scrub")
STAGES = ["idle", "posting", "sync", "copy", "arena"]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def words(line):
    """key=value words of a line."""
    return dict(re.findall(r"([a-z0-9_]+)=(\S+)", line))


def cpu_s(pid):
    """Seconds of processor time that a process has used."""
    with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def resident_kib(pid):
    with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    return 0


class Program:
    """One program, spoken with line by line."""

    def __init__(self, case, *command):
        self.case = case
        self.process = subprocess.Popen(command, env=case.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.buffer = b""
        self.said = []
        case.addCleanup(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stdin.close()
        self.process.stdout.close()

    def line(self, start, timeout_s=PATIENCE_S):
        """The next line that begins so."""
        deadline = time.monotonic() + timeout_s
        while True:
            while b"\n" in self.buffer:
                line, self.buffer = self.buffer.split(b"\n", 1)
                self.said.append(line.decode(errors="replace"))
                if self.said[-1].startswith(start):
                    return self.said[-1]
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                self.case.fail("no line %r in %d s, but %r\nmediator:\n%s" % (start, timeout_s, self.said, self.case.mediator.text()))
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                self.case.fail("ended without a line %r: %r\nmediator:\n%s" % (start, self.said, self.case.mediator.text()))
            self.buffer += data

    def go(self, word=""):
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def result(self):
        """The words of its RESULT line, which has to be a good one."""
        found = words(self.line("RESULT "))
        self.case.assertEqual(found["verdict"], "ok", self.said)
        self.case.assertEqual(self.process.wait(PATIENCE_S), 0, self.said)
        return found


class ChannelCase(unittest.TestCase):
    """A mediator of its own, which must be as it was at the end, and have nothing bad to say of its workers."""

    config = None

    def setUp(self):
        self.mediator = Mediator(self.config)
        self.addCleanup(self.mediator.close)
        self.addCleanup(self.check_log)
        self.env = dict(os.environ, VGPU_DEVICE="local:" + self.mediator.socket, VGPU_TRANSPORT="channel",
                        LD_LIBRARY_PATH=built("src", "guest", "cuda"))

    def check_log(self):
        text = self.mediator.text()
        for word in ("Sanitizer", "runtime error", "event=violation"):
            self.assertNotIn(word, text)

    def fast(self, stage, *arguments):
        return Program(self, FAST, stage, *arguments)


    def wait_for(self, look, what):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > deadline:
                self.fail("waited in vain for %s\nmediator:\n%s" % (what, self.mediator.text()))
            time.sleep(0.02)

    def wait_no_workers(self):
        self.wait_for(lambda: not self.mediator.workers(), "the workers to end")

    def check_next_client(self):
        """Whoever comes next counts right: nothing of an earlier one is run, nothing of its own is lost or run twice."""
        found = self.fast("count", "--count", "1500").result()
        self.assertEqual(found["counter"], "1500")

    def requests_of_all(self):
        """What came by the mailbox, of clients that have gone."""
        return [int(words(line)["requests"]) for line in self.mediator.text().splitlines() if "event=detached" in line]
