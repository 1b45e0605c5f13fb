# SPDX-License-Identifier: GPL-2.0-or-later
"""vgpu-admin beside a control server of the tests' own."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

from fake_control import FakeControl, vm_object

BUILD = os.environ['VGPU_BUILD']
SOURCE = os.environ['VGPU_SOURCE']
ADMIN = os.path.join(BUILD, 'src', 'cli', 'vgpu-admin')
OK, FAILED, USAGE, NOT_FOUND, DENIED, NO_MEDIATOR, CONFLICT, BUSY, STORAGE, UNSUPPORTED = range(10)


def run(*words, env=None, **more):
    """What vgpu-admin says: a CompletedProcess with text."""
    env = {k: v for k, v in dict(os.environ, **(env or {})).items() if v is not None}
    return subprocess.run([ADMIN] + [str(w) for w in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=env, timeout=120, encoding='utf-8', errors='surrogateescape',
                          **more)


class Case(unittest.TestCase):
    """A control server with VMs 1 to 3, attached, in pool A."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='admin-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.socket = os.path.join(self.folder, 'control.sock')
        self.server = FakeControl(self.socket)
        self.addCleanup(lambda: self.server and self.server.close())
        for n in (1, 2, 3):
            self.server.vms[n] = vm_object(n, name='web-%d' % n, registered=True, attached=True, state='attached',
                                           pool='A', priority='medium', gpu=0)

    def admin(self, *words, status=OK, env=None, **more):
        done = run(*words, env=dict({'VGPU_CONTROL': self.socket}, **(env or {})), **more)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def json(self, *words, status=OK):
        return json.loads(self.admin('--json', *words, status=status).stdout)

    def asked(self):
        """The last request, without its id."""
        return {k: v for k, v in self.server.requests[-1].items() if k != 'id'}
