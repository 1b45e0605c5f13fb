# SPDX-License-Identifier: GPL-2.0-or-later
"""What the VM tests share: the runner's VM class, and a test case that fails when anything is left
behind.

Owns: finding the programs under test, and the leak check. Refuses to know what is tested. `from
vmlib import *`.
"""

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unittest

SOURCE = os.environ.get('VGPU_SOURCE') or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
RUNNER = os.path.join(SOURCE, 'tools', 'vgpu-vm')
sys.path.insert(0, os.path.join(SOURCE, 'tools'))

from vgpu_vm import VM, Mediator, SetupError, VMError, VMTimeout  # noqa: E402

__all__ = [
    'VM',
    'Mediator',
    'SetupError',
    'VMError',
    'VMTimeout',
    'VMTestCase',
    'RUNNER',
    'SOURCE',
    'guest_program',
    'wait_for',
    'main',
]

PR_SET_CHILD_SUBREAPER = 36


def guest_program(path):
    """A program to run in a VM, by its path in the build folder ($VGPU_GUEST_BUILD, else
    $VGPU_BUILD, else build).
    """
    build = (
        os.environ.get('VGPU_GUEST_BUILD')
        or os.environ.get('VGPU_BUILD')
        or os.path.join(SOURCE, 'build')
    )
    return os.path.join(build, path)


def wait_for(condition, timeout_s=60, what='the condition'):
    """Call `condition` until it yields something true, which is returned."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError('waited %d s in vain for %s' % (timeout_s, what))
        time.sleep(0.02)


def processes():
    """[(pid, command line, environment)] of all processes, as far as they may be read."""
    found = []
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        texts = []
        for part in ('cmdline', 'environ'):
            try:
                with open('/proc/%s/%s' % (name, part), 'rb') as stream:
                    texts.append(stream.read())
            except OSError:
                texts.append(b'')
        found.append((int(name), texts[0], texts[1]))
    return found


def children():
    """The live or dead children of this process, adopted ones too."""
    found = []
    for task in os.listdir('/proc/self/task'):
        try:
            with open('/proc/self/task/%s/children' % task, encoding='ascii') as stream:
                found += [int(pid) for pid in stream.read().split()]
        except OSError:
            pass
    return found


def descriptors():
    """What this process has open, by number."""
    found = {}
    for name in os.listdir('/proc/self/fd'):
        try:
            found[int(name)] = os.readlink('/proc/self/fd/' + name)
        except OSError:
            pass  # the one that lists the folder
    return found


class VMTestCase(unittest.TestCase):
    """Every test gets a temporary folder of its own (self.tmp, also TMPDIR), and must leave no
    process that knows it,
    no child, no descriptor and no file outside what it made itself in self.files."""

    def setUp(self):
        # Whatever a test orphans becomes a child of this process, where the check finds it.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._old_tmp = os.environ.get('TMPDIR')
        base = tempfile.mkdtemp(prefix='vt-', dir='/tmp')
        self.files = os.path.join(base, 'f')
        self.tmp = os.path.join(base, 't')
        os.mkdir(self.files)
        os.mkdir(self.tmp)
        os.environ['TMPDIR'] = self.tmp
        tempfile.tempdir = None
        self._base = base
        self._descriptors = descriptors()
        # Runs after all of a test's own cleanups, which may still be ending VMs.
        self.addCleanup(self._check)

    def _check(self):
        try:
            self.assert_nothing_left()
        finally:
            if self._old_tmp is None:
                os.environ.pop('TMPDIR', None)
            else:
                os.environ['TMPDIR'] = self._old_tmp
            tempfile.tempdir = None
            shutil.rmtree(self._base, ignore_errors=True)

    def related(self):
        """Processes, except this one, that know this test's folder: [(pid, command)]."""
        mark = os.fsencode(self._base)
        return [
            (pid, command.replace(b'\0', b' '))
            for pid, command, environ in processes()
            if pid != os.getpid() and (mark in command or mark in environ)
        ]

    def assert_nothing_left(self):
        """No process, child, socket, file or descriptor of this test, after a moment for what is
        ending just now.
        """
        deadline = time.monotonic() + 20
        while True:
            for pid in children():
                try:
                    os.waitpid(pid, os.WNOHANG)  # adopted and dead: ours to bury
                except OSError:
                    pass
            left = [('process', p) for p in self.related()] + [('child', pid) for pid in children()]
            left += [
                ('file', os.path.join(d, n)) for d, _, names in os.walk(self.tmp) for n in names
            ]
            left += [('folder', os.path.join(self.tmp, n)) for n in os.listdir(self.tmp)]
            left += [
                ('socket', os.path.join(d, n))
                for d, _, names in os.walk(self.files)
                for n in names
                if stat.S_ISSOCK(os.lstat(os.path.join(d, n)).st_mode)
            ]
            now = descriptors()
            left += [('descriptor', (n, now[n])) for n in now if n not in self._descriptors]
            if not left:
                return
            if time.monotonic() > deadline:
                self.fail('left behind: %s' % left)
            time.sleep(0.05)

    def write(self, name, text, mode=0o644):
        """A file in self.files; its path."""
        path = os.path.join(self.files, name)
        with open(path, 'wb') as out:
            out.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        return path

    def compile(self, name, source, *options):
        """Compile a small C program; its path."""
        path = os.path.join(self.files, name)
        subprocess.run(
            [
                os.environ.get('CC', 'cc'),
                '-Wall',
                '-Werror',
                '-o',
                path,
                self.write(name + '.c', source),
            ]
            + list(options),
            check=True,
        )
        return path

    def vm(self, argv, **options):
        """A VM that is closed when the test ends; not yet started."""
        vm = VM(argv, **options)
        self.addCleanup(vm.close)
        return vm


def main():
    unittest.main(verbosity=2)
