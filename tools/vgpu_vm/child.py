# SPDX-License-Identifier: GPL-2.0-or-later
"""A child process under guard.py, seen from the runner. Owns the socket to the guard; refuses to
know what runs.
"""

import os
import select
import socket
import subprocess
import sys
import time

from . import paths


class Child:
    """Start a command that ends when this process ends, however it ends.

    grace_s: between SIGTERM and SIGKILL when the runner dies. deadline_s: hard limit on the child's
    life, 0 for none.
    remove: what the guard deletes if the runner cannot. pass_fds: descriptors the child inherits.
    """

    def __init__(self, command, log, grace_s=0.0, deadline_s=0, remove=(), pass_fds=(), env=None):
        self.status = None  # the wait status once ended
        self._pid = None
        self._buffer = b''
        ours, theirs = socket.socketpair()
        args = (
            [
                sys.executable,
                '-I',
                '-S',
                os.path.join(paths.PACKAGE, 'guard.py'),
                str(theirs.fileno()),
                str(grace_s),
                str(deadline_s),
            ]
            + list(remove)
            + ['--']
            + list(command)
        )
        with open(log, 'ab') as out:
            self._guard = subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                pass_fds=list(pass_fds) + [theirs.fileno()],
                start_new_session=True,
            )
        theirs.close()
        self._control = ours

    def fileno(self):
        """Readable when the child has ended."""
        return self._control.fileno()

    def pid(self):
        """The child's process id; None when it has ended (for tests that kill it at a chosen
        moment).
        """
        while self._pid is None and self.status is None:
            self._receive()
        return self._pid if self.poll() is None else None

    def poll(self):
        """The wait status, or None while it runs."""
        return self.wait(0)

    def wait(self, timeout_s):
        """Wait up to timeout_s for the end; the wait status, or None."""
        deadline = time.monotonic() + timeout_s
        while self.status is None:
            left = max(0, deadline - time.monotonic())
            if not select.select([self._control], [], [], left)[0]:
                return None
            self._receive()
        return self.status

    def _receive(self):
        """Take what the guard says; blocks until it says something."""
        try:
            data = self._control.recv(64)
        except OSError:
            data = b''
        lines = (self._buffer + data).split(b'\n')
        self._buffer = lines.pop()
        for line in lines:
            if line.startswith(b'P'):
                self._pid = int(line[1:])
            else:
                self.status = int(line)
                # Tell the guard that cleaning up stays here.
                self._ask(b'.')
        if not data and self.status is None:
            self.status = 9  # the guard itself was killed, and took the child along

    def _ask(self, what):
        try:
            self._control.send(what)
        except OSError:
            pass

    def terminate(self):
        self._ask(b'T')

    def kill(self):
        self._ask(b'K')

    def stop(self, grace_s):
        """SIGTERM, then SIGKILL; the wait status. Nothing is left afterwards."""
        if self.poll() is None:
            self.terminate()
            if self.wait(grace_s) is None:
                self.kill()
                self.wait(30)
        self._guard.wait()
        self._control.close()
        return self.status


def describe(status):
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return 'killed by signal %d' % os.WTERMSIG(status)
    return 'exit status %d' % os.WEXITSTATUS(status)


def tail(path, lines=30):
    """The last lines of a log, for a message; '' when there is none."""
    try:
        with open(path, 'rb') as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 65536))
            text = stream.read().decode('utf-8', 'replace')
    except OSError:
        return ''
    return '\n'.join(line.rstrip('\r') for line in text.split('\n')[-lines:]).strip('\n')
