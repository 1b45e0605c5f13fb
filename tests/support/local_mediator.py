# SPDX-License-Identifier: GPL-2.0-or-later
"""A mediator on this host for tests of programs that come in through its own socket, without a VM."""

import os
import select
import shutil
import subprocess
import tempfile

BUILD = os.environ["VGPU_BUILD"]
PATIENCE_S = 120


def built(*path):
    return os.path.join(BUILD, *path)


class Mediator:
    """A mediator with a folder of its own; may be killed and started again."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="e2e-")
        self.socket = os.path.join(self.folder, "mediator.socket")
        self.log = open(os.path.join(self.folder, "log"), "w+b")
        self.process = None
        self.start()

    def start(self):
        ready, ready_write = os.pipe()
        self.process = subprocess.Popen(
            [built("src", "mediator", "vgpu-mediator"), "--watch", self.folder, "--listen", self.socket, "--worker",
             built("src", "worker", "vgpu-worker"), "--ready-fd", str(ready_write)],
            pass_fds=[ready_write], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        os.close(ready_write)
        try:
            if not select.select([ready], [], [], PATIENCE_S)[0] or os.read(ready, 16).strip() != b"ready":
                raise AssertionError("the mediator did not get ready:\n" + self.text())
        finally:
            os.close(ready)

    def text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def workers(self):
        """Pids of its workers."""
        found = []
        for task in os.listdir("/proc/%d/task" % self.process.pid):
            with open("/proc/%d/task/%s/children" % (self.process.pid, task)) as children:
                for pid in children.read().split():
                    try:
                        with open("/proc/%s/cmdline" % pid, "rb") as command:
                            words = command.read().split(b"\0")
                    except (FileNotFoundError, ProcessLookupError):
                        continue  # it is just going
                    if b"--session" in words:
                        found.append(int(pid))
        return found

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.log.close()
            shutil.rmtree(self.folder)
