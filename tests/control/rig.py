# SPDX-License-Identifier: GPL-2.0-or-later
"""A mediator with a control socket and a registry, in folders that go away with the test."""

import importlib.util
import os
import shutil
import sys
import tempfile

import vgpu_control

# The mediator's own rig, under its own name: this one has the same.
_path = os.path.join(os.environ['VGPU_SOURCE'], 'tests', 'link', 'rig.py')
_spec = importlib.util.spec_from_file_location('link_rig', _path)
link_rig = importlib.util.module_from_spec(_spec)
sys.modules['link_rig'] = link_rig
_spec.loader.exec_module(link_rig)

Mediator, say, say_in, wait_for = link_rig.Mediator, link_rig.say, link_rig.say_in, link_rig.wait_for
Failed = vgpu_control.Failed


class Case(link_rig.Case):
    mediator_keys = ''  # more of [mediator]
    registry = True

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='control-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, 'control.sock')
        self.database = os.path.join(self.folder, 'registry.db')
        self.config = self.make_config(type(self).config)
        super().setUp()
        self.control = self.client()

    def make_config(self, rest):
        return '[mediator]\ncontrol = %s\n%s%s%s' % (
            self.path, 'registry = %s\n' % self.database if self.registry else '', self.mediator_keys, rest)

    def end_mediator(self):
        super().end_mediator()
        left = sorted(set(os.listdir(self.folder)) - {'registry.db', 'stray'})
        self.assertEqual(left, [], 'what a clean end leaves')

    def client(self):
        c = vgpu_control.Control(self.path)
        self.addCleanup(c.close)
        return c

    def ask(self, op, **fields):
        return self.control.ask(op, **fields)

    def vm(self, number):
        return self.ask('show-vm', vm=number)['vm']

    def fails(self, code, part, op, **fields):
        with self.assertRaises(Failed) as caught:
            self.ask(op, **fields)
        self.assertEqual(caught.exception.code, code, caught.exception)
        self.assertIn(part, caught.exception.message)

    def restart(self, kill=False):
        """A new mediator on the same registry. Devices dial anew."""
        self.control.close()
        if kill:
            self.mediator.process.kill()
            self.mediator.process.wait()
        else:
            self.assertIsNone(self.mediator.stop())
        for listener in self.listeners.values():
            listener.close()
        self.listeners = {}
        if kill:
            self.mediator.log.close()
            shutil.rmtree(self.mediator.folder)
        self.mediator = Mediator(self.config, self.arguments, self.real, gpus=self.gpus)
        self.control = self.client()
