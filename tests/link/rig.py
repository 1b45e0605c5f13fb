# SPDX-License-Identifier: GPL-2.0-or-later
"""A mediator of the tests' own: in a folder that goes away with it, with the fake worker or the real one."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import vgpu_link_device as link

BUILD = os.environ['VGPU_BUILD']
MEDIATOR = os.path.join(BUILD, 'src', 'mediator', 'vgpu-mediator')
REAL_WORKER = os.path.join(BUILD, 'src', 'worker', 'vgpu-worker')
FAKE_WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fake_worker.py')
PATIENCE_S = 90


def wait_for(what, check):
    """Waits until check() is true and returns what it returned."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError('waited %d s in vain: %s' % (PATIENCE_S, what))
        time.sleep(0.02)


def words(line):
    """key=value pairs of a log line; a value in quotes may hold spaces."""
    return {k: v[1:-1] if v.startswith('"') else v for k, v in re.findall(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)', line)}


class Mediator:
    def __init__(self, config='', arguments=(), real=False, ready=True, env=None, before=None, gpus='', wait=True,
                 preexec=None):
        self.folder = tempfile.mkdtemp(prefix='link-')
        self.sockets = os.path.join(self.folder, 'sockets')
        os.mkdir(self.sockets)
        self.fake_start = os.path.join(self.folder, 'start')
        if before:
            before(self.sockets)
        with open(self.fake_start + '.gpus', 'w') as f:
            f.write(gpus)
        self.lock = os.path.join(self.sockets, 'vgpu-mediator.lock')
        self.listen = os.path.join(self.folder, 'mediator.sock')
        self.worker = os.path.join(self.folder, 'worker')
        self.config = os.path.join(self.folder, 'mediator.conf')
        self.write_config(config)
        if real:
            os.symlink(REAL_WORKER, self.worker)
        else:
            with open(self.worker, 'w') as f:
                f.write('#!/bin/sh\nVGPU_FAKE=%s exec %s -SE %s "$@"\n'
                        % (self.fake_start, sys.executable, FAKE_WORKER))
            os.chmod(self.worker, 0o755)
        self.log_path = os.path.join(self.folder, 'log')
        self.log = open(self.log_path, 'wb')
        r, w = os.pipe()
        stray = os.open('/dev/null', os.O_RDONLY)  # what it was given without knowing goes on to nobody
        self.process = subprocess.Popen(
            [MEDIATOR, '--watch', self.sockets, '--config', self.config, '--listen', self.listen, '--worker',
             self.worker, '--log-level', 'debug', '--ready-fd', str(w)] + list(arguments),
            pass_fds=[w, stray], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env=dict(os.environ, **(env or {})), preexec_fn=preexec)
        os.close(w)
        os.close(stray)
        try:
            said = b''
            while wait and select.select([r], [], [], PATIENCE_S)[0] and not said.endswith(b'.'):
                said += os.read(r, 16) or b'.'  # the end: then the mediator has closed it
            if wait and ready and said != b'ready\n.':
                self.process.kill()
                self.process.wait()
                raise AssertionError('the mediator did not get ready:\n' + self.text())
        finally:
            os.close(r)

    def write_config(self, text):
        with open(self.config, 'w') as f:
            f.write(text)

    def start_as(self, how):
        """How fake workers start from now on."""
        with open(self.fake_start, 'w') as f:
            f.write(how)

    def text(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def lines(self, event, **match):
        found = [words(l) for l in self.text().splitlines() if ' event=%s ' % event in l + ' ']
        return [w for w in found if all(w.get(k) == str(v) for k, v in match.items())]

    def wait_line(self, event, count=1, **match):
        return wait_for('%d lines event=%s %s' % (count, event, match),
                        lambda: len(self.lines(event, **match)) >= count and self.lines(event, **match))[-1]

    def workers(self):
        """Pids of its living children."""
        found = []
        for name in os.listdir('/proc'):
            try:
                with open('/proc/%d/stat' % int(name)) as f:
                    fields = f.read().rpartition(')')[2].split()
            except (OSError, ValueError):
                continue
            if int(fields[1]) == self.process.pid and fields[0] != 'Z':
                found.append(int(name))
        return found

    def fds(self):
        folder, found = '/proc/%d/fd/' % self.process.pid, []
        for n in os.listdir(folder):
            try:
                found.append(os.readlink(folder + n).split(':')[0])
            except FileNotFoundError:  # closed meanwhile
                pass
        return sorted(found)

    def rss_kib(self):
        with open('/proc/%d/status' % self.process.pid) as f:
            return int(re.search(r'VmRSS:\s+(\d+)', f.read()).group(1))

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Ends it; returns what is wrong with how it ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.log.close()
        text = self.text()
        left = [n for n in (self.listen, self.listen + '.lock', self.lock) if os.path.exists(n)]
        shutil.rmtree(self.folder)
        if status or left or 'runtime error' in text or 'Sanitizer' in text:
            return 'status %d, left %s:\n%s' % (status, left, text[-6000:])
        return None


class Case(unittest.TestCase):
    """Starts a mediator for each test, and checks how it ended."""

    config = ''
    arguments = ()
    real = False
    gpus = ''  # what a fake worker's --probe says

    def setUp(self):
        self.mediator = Mediator(self.config, self.arguments, self.real, gpus=self.gpus)
        self.addCleanup(self.end_mediator)
        self.listeners = {}

    def end_mediator(self):
        wrong = self.mediator.stop()
        for listener in self.listeners.values():
            listener.close()
        if wrong:
            self.fail(wrong)

    def device(self, vm_id=7, **hello):
        """An attached device; its listener stays, for the next connection."""
        d = self.dialled(vm_id)
        d.attach(**dict({'vm_id': vm_id}, **hello))
        return d

    def dialled(self, vm_id=7):
        if vm_id not in self.listeners:
            self.listeners[vm_id] = link.Listener(self.mediator.sockets, vm_id)
        d = self.listeners[vm_id].accept()
        self.addCleanup(d.close)
        return d

    def local(self):
        d = link.connect(self.mediator.listen)
        self.addCleanup(d.close)
        return d

    def ok(self, response, data=None):
        self.assertEqual((response.error, response.status), (0, 0), response)
        if data is not None:
            self.assertEqual(response.data, data)
        return response


def say(text, **kwargs):
    """A NOP that tells the fake worker of session 0 what to do."""
    return link.typed(link.NOP, data=text.encode(), **kwargs)


def say_in(session, text):
    """The same inside another session."""
    return link.named(link.SESSION_REQUEST, session, link.typed(link.NOP, data=text.encode()))
