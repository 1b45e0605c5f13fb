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


class Mediator:
    """The real one, with a registry, a control socket and a watched directory in a folder that goes with it."""

    def __init__(self, config='admit_unknown = no\n[pool A]\ngpus = software\n'):
        self.folder = tempfile.mkdtemp(prefix='admin-')
        self.vms = os.path.join(self.folder, 'vms')
        self.control = os.path.join(self.folder, 'control.sock')
        self.registry = os.path.join(self.folder, 'registry.db')
        self.config = os.path.join(self.folder, 'mediator.conf')
        os.mkdir(self.vms)
        with open(self.config, 'w') as f:
            f.write('[mediator]\nwatch = %s\ncontrol = %s\nregistry = %s\n%s' % (self.vms, self.control, self.registry,
                                                                               config))
        self.process = None
        self.start()

    def start(self):
        self.log = open(os.path.join(self.folder, 'log'), 'ab')
        ready, ready_write = os.pipe()
        self.process = subprocess.Popen(
            [os.path.join(BUILD, 'src', 'mediator', 'vgpu-mediator'), '--config', self.config, '--ready-fd',
             str(ready_write)], pass_fds=[ready_write], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        os.close(ready_write)
        with os.fdopen(ready, 'rb') as f:
            said = f.read()
        self.log.close()
        if said != b'ready\n':
            with open(os.path.join(self.folder, 'log')) as f:
                raise AssertionError('the mediator did not get ready:\n' + f.read())

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)

    def close(self):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)
