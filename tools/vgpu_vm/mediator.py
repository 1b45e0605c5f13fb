# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a private vgpu-mediator. Owns its folder, its log and its end; refuses to know what it
mediates.
"""

import os
import select
import shutil
import tempfile
import time

from . import paths
from .child import Child, describe, tail
from .errors import SetupError, VMError


class Mediator:
    """A mediator that watches a folder of its own for the sockets of VMs.

    with Mediator() as mediator:
        with VM([...], mediator=mediator.directory) as vm: ...
    """

    def __init__(
        self,
        directory=None,
        config=None,
        log_level='info',
        log=None,
        args=(),
        deadline_s=0,
        remove=(),
    ):
        self.private = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix='vgpu-mediator-')
        self.log = log or os.path.join(self.directory, 'mediator.log')
        self.config = config
        self.log_level = log_level
        self.args = list(args)
        self.deadline_s = deadline_s
        self.remove = list(remove) or ([self.directory] if self.private else [])
        self.listen = os.path.join(self.directory, 'mediator.socket')
        self.child = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    def start(self, timeout_s=60):
        """Start it and wait until it is up. After a stop or a kill it may be started again."""
        program = paths.project_program('vgpu-mediator', 'VGPU_MEDIATOR', 'src/mediator')
        if program is None:
            raise SetupError(
                'no vgpu-mediator: run make, set VGPU_BUILD to the build folder, or name one with '
                '--mediator DIR (the folder a running mediator watches)'
            )
        command = [
            program,
            '--watch',
            self.directory,
            '--log-level',
            self.log_level,
            '--listen',
            self.listen,
        ]
        worker = paths.project_program('vgpu-worker', 'VGPU_WORKER', 'src/worker')
        if worker:
            command += ['--worker', worker]
        if self.config:
            command += ['--config', self.config]
        ready_r, ready_w = os.pipe()
        try:
            self.child = Child(
                command + ['--ready-fd', str(ready_w)] + self.args,
                self.log,
                grace_s=5.0,
                deadline_s=self.deadline_s,
                remove=self.remove,
                pass_fds=[ready_w],
            )
        finally:
            os.close(ready_w)
        try:
            self._wait_ready(ready_r, program, timeout_s)
        finally:
            os.close(ready_r)

    def _wait_ready(self, ready_r, program, timeout_s):
        deadline = time.monotonic() + timeout_s
        said = b''
        while b'\n' not in said:
            left = deadline - time.monotonic()
            data = b''
            if left > 0 and select.select([ready_r], [], [], left)[0]:
                data = os.read(ready_r, 64)
            said += data
            if not data and b'\n' not in said:
                how = 'is not ready after %d s' % timeout_s
                if self.child.wait(5 if left > 0 else 0) is not None:
                    how = 'ended at once: ' + describe(self.child.status)
                raise VMError('%s %s' % (program, how), tail(self.log))

    def pid(self):
        """Its process id, None when it has ended."""
        return self.child.pid() if self.child else None

    def kill(self):
        """End it the hard way (SIGKILL) and wait for that."""
        if self.child:
            self.child.kill()
            self.child.wait(30)
            self.child.stop(0)
            self.child = None

    def stop(self, grace_s=20):
        """End it the clean way; its wait status, None if it was not running."""
        status = None
        if self.child:
            status = self.child.stop(grace_s)
            self.child = None
        return status

    def tail(self):
        return tail(self.log)

    def close(self):
        """Stop it and remove what it left. Raises VMError if it did not end with status 0."""
        text = ''
        try:
            status = self.stop()
            if status:
                text = self.tail()
        finally:
            if self.private:
                shutil.rmtree(self.directory, ignore_errors=True)
        if status:
            raise VMError('the mediator ended badly: %s' % describe(status), text)
