#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The mediator as a program: arguments, configuration, signals, its own socket, the watched directory, its end."""

import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import vgpu_link_device as link
from rig import FAKE_WORKER, MEDIATOR, Case, Mediator, say, say_in, wait_for


def run(*arguments):
    done = subprocess.run([MEDIATOR] + list(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=90)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='daemon-')
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def fails(self, status, part, *arguments):
        code, _, err = run(*arguments)
        self.assertEqual(code, status, err)
        self.assertIn(part, err)

    def test_version_and_help(self):
        self.assertRegex(run('--version')[1], r'^vgpu-mediator \d+\.\d+\.\d+\n$')
        code, out, _ = run('--help')
        self.assertEqual(code, 0)
        for option in ('--watch', '--config', '--log-level', '--worker', '--listen', '--ready-fd'):
            self.assertIn(option, out)

    def test_usage(self):
        self.fails(2, 'Try vgpu-mediator --help', '--what')
        self.fails(2, "'more' is not an option", 'more')
        self.fails(2, '--log-level loud', '--log-level', 'loud')
        self.fails(2, 'no open descriptor', '--ready-fd', '99')
        self.fails(2, 'no open descriptor', '--ready-fd', 'x')
        self.fails(2, 'too many directories', *(['--watch', '/'] * 17))

    def test_config(self):
        self.fails(2, 'No such file', '--config', self.path('none'))
        with open(self.path('c'), 'w') as f:
            f.write('[mediator]\n\nlisten_on = /x\n')
        self.fails(2, "c:3: unknown key 'listen_on'", '--config', self.path('c'))

    def test_cannot_start(self):
        with open(self.path('w'), 'w') as f:
            f.write('#!/bin/sh\n')
        self.fails(1, 'cannot run the worker %s: Permission denied' % self.path('w'), '--worker', self.path('w'))
        os.chmod(self.path('w'), 0o755)
        worker = ['--worker', self.path('w')]
        self.fails(1, 'cannot run the worker', '--worker', self.path('x'))
        self.fails(1, 'cannot watch the directory %s: No such file or directory (make it first)' % self.path('d'),
                   '--watch', self.path('d'), *worker)
        self.fails(1, 'Not a directory', '--watch', self.path('w'), *worker)
        self.fails(1, 'cannot make the lock', '--listen', self.path('d', 's'), *worker)
        self.fails(1, 'it exists and is not a socket', '--listen', self.path('w'), *worker)
        self.assertTrue(os.path.exists(self.path('w')))
        self.fails(1, 'name too long', '--listen', self.path('s' * 110), *worker)
        self.assertEqual(os.listdir(self.folder), ['w'])  # no socket, no lock left

    def test_finds_worker(self):
        """A copy of the program far from any worker says where it looked."""
        shutil.copy(MEDIATOR, self.path('vgpu-mediator'))
        done = subprocess.run([self.path('vgpu-mediator')], stderr=subprocess.PIPE, timeout=90)
        if done.returncode == 0 or not done.stderr:
            self.skipTest('a worker is installed')
        self.assertIn(b'cannot find vgpu-worker', done.stderr)
        self.assertIn(b'--worker', done.stderr)


class Example(unittest.TestCase):
    """The configuration that is installed as an example, as it is and with every comment made a key."""

    def test_example(self):
        path = os.path.join(os.environ['VGPU_SOURCE'], 'packaging', 'host', 'mediator.conf')
        with open(path) as f:
            example = f.read()
        for text in (example, re.sub(r'(?m)^#(?=\S)', '', example)):
            folder = tempfile.mkdtemp(prefix='example-')
            try:
                for path in ('/run/vgpu-mediator/vms', '/run/vgpu-mediator', '/var/lib/vgpu-mediator'):
                    text = text.replace(path, folder)
                m = Mediator(text.replace('= vgpu-admin', '= root'))  # which every host has
                with link.connect(m.listen) as d:
                    d.attach()
                self.assertIsNone(m.stop())
            finally:
                shutil.rmtree(folder)


class Running(Case):
    config = '[pool A]\ngpus = software\n'

    def test_second_mediator(self):
        code, _, err = run('--listen', self.mediator.listen, '--worker', self.mediator.worker)
        self.assertEqual(code, 1)
        self.assertIn('another vgpu-mediator (pid %d)' % self.mediator.process.pid, err)
        self.assertIn(self.mediator.listen, err)
        code, _, err = run('--watch', self.mediator.sockets, '--worker', self.mediator.worker)
        self.assertEqual(code, 1)
        self.assertIn('another vgpu-mediator (pid %d)' % self.mediator.process.pid, err)
        self.local().attach()  # the first one is none the worse for it

    def test_stale_socket(self):
        """What a killed mediator left is nobody's, and is taken over."""
        self.mediator.process.kill()
        self.mediator.process.wait()
        self.assertTrue(os.path.exists(self.mediator.listen))
        os.unlink(self.mediator.lock)  # the new one watches nothing
        other = subprocess.Popen([MEDIATOR, '--listen', self.mediator.listen, '--worker', self.mediator.worker],
                                 stderr=subprocess.DEVNULL)

        def attach():
            try:
                return self.local().attach()
            except OSError:
                return None
        wait_for('the new one', attach)
        other.terminate()
        self.assertEqual(other.wait(90), 0)
        self.assertFalse(os.path.exists(self.mediator.listen))
        self.mediator.process.returncode = 0

    def test_w8_no_new_mediator_beside_old_workers(self):
        """The lock outlives a killed mediator until its last worker has gone; the next one starts then."""
        d = self.device()
        self.ok(d.ask(say('stubborn')))
        pid = self.mediator.workers()[0]
        self.mediator.process.kill()
        self.mediator.process.wait()
        self.mediator.process.returncode = 0
        arguments = ['--watch', self.mediator.sockets, '--listen', self.mediator.listen, '--worker',
                     self.mediator.worker]
        code, _, err = run(*arguments)
        self.assertEqual(code, 1)
        self.assertIn('pid %d), or a worker that it left' % self.mediator.process.pid, err)
        os.kill(pid, signal.SIGKILL)
        r, w = os.pipe()
        other = subprocess.Popen([MEDIATOR, '--ready-fd', str(w)] + arguments, pass_fds=[w], stderr=subprocess.DEVNULL)
        os.close(w)
        with os.fdopen(r, 'rb') as ready:
            self.assertEqual(ready.read(), b'ready\n')
        other.terminate()
        self.assertEqual(other.wait(90), 0)

    def test_lock_of_a_stranger(self):
        """What cannot be a lock costs the guard, not the service."""
        m = Mediator(before=lambda sockets: os.mkdir(os.path.join(sockets, 'vgpu-mediator.lock')))
        self.addCleanup(lambda: self.assertIsNone(m.stop()))
        self.assertIn('cannot make the lock', m.wait_line('no-lock')['reason'])
        with link.connect(m.listen) as d:
            d.attach()
        os.rmdir(m.lock)

    def test_lock_with_another_name(self):
        """A file of the mediator's own that somebody else linked here is not written into."""
        def before(sockets):
            precious = os.path.join(os.path.dirname(sockets), 'precious')
            with open(precious, 'w') as f:
                f.write('precious')
            os.link(precious, os.path.join(sockets, 'vgpu-mediator.lock'))
        m = Mediator(before=before)
        self.addCleanup(lambda: self.assertIsNone(m.stop()))
        self.assertIn('has other names', m.wait_line('no-lock')['reason'])
        with open(m.lock) as f:
            self.assertEqual(f.read(), 'precious')
        os.unlink(m.lock)

    def test_sigterm_leaves_nothing(self):
        d = self.device()
        self.ok(d.ask(say('stubborn')))
        self.ok(d.ask(link.named(link.SESSION_OPEN, 5)))
        self.ok(d.ask(say_in(5, 'pid')))
        local = self.local()
        local.attach()
        pids = self.mediator.workers()
        self.assertEqual(len(pids), 2)
        self.mediator.signal(signal.SIGTERM)
        d.expect_closed()
        local.expect_closed()
        self.assertEqual(self.mediator.process.wait(90), 0)
        for pid in pids:
            self.assertFalse(os.path.exists('/proc/%d' % pid))
        self.assertFalse(os.path.exists(self.mediator.listen))
        self.assertTrue(self.mediator.lines('detached', vm=7))

    def test_sigint(self):
        self.mediator.signal(signal.SIGINT)
        self.assertEqual(self.mediator.process.wait(90), 0)

    def test_killed_mediator_takes_its_workers_along(self):
        d = self.device()
        self.ok(d.ask(say('pid')))
        pid = self.mediator.workers()[0]
        self.mediator.process.kill()
        self.mediator.process.wait()
        self.mediator.process.returncode = 0
        os.unlink(self.mediator.listen)
        os.unlink(self.mediator.listen + '.lock')
        os.unlink(self.mediator.lock)
        d.expect_closed()

        def gone():
            try:
                with open('/proc/%d/stat' % pid) as f:
                    return f.read().rpartition(')')[2].split()[0] == 'Z'
            except OSError:
                return True
        wait_for('the worker to exit', gone)

    def test_sigusr1(self):
        a, b = self.device(7), self.device(8, priority=2)
        self.ok(a.ask(say('want')))
        self.mediator.signal(signal.SIGUSR1)
        self.mediator.wait_line('status-end', vms=2)
        line = self.mediator.lines('status', vm=7)[0]
        self.assertEqual([line[k] for k in ('pool', 'priority', 'link', 'requests', 'errors', 'workers', 'leased')],
                         ['A', 'medium', 'up', '1', '0', '1', 'yes'])
        self.assertEqual(self.mediator.lines('status', vm=8)[0]['priority'], 'high')
        b.close()

    def test_sighup(self):
        a = self.device(7)
        self.mediator.write_config(self.config + '[vm 7]\npriority = high\n[vm 8]\nsessions = 1\n'
                                   '[mediator]\nmax_vms = 9\n')
        self.mediator.signal(signal.SIGHUP)
        self.assertEqual(a.expect_update(), (1, 7, 'A', 2))  # L7
        self.assertTrue(self.mediator.lines('reload', level='warn'))  # max_vms has to wait
        b = self.device(8)
        self.ok(b.ask(link.named(link.SESSION_OPEN, 1)))
        self.assertEqual(b.ask(link.named(link.SESSION_OPEN, 2)).error, 7)
        self.mediator.write_config('[vm 7]\npriority = urgent\n')
        self.mediator.signal(signal.SIGHUP)
        self.assertIn('urgent', self.mediator.wait_line('reload', level='error')['reason'])
        self.ok(a.ask(say('pid')))

    def test_watch_come_and_go(self):
        """A socket that appears is tried at once, one that vanishes no more, one that comes back again."""
        for _ in range(3):
            d = self.device(7)
            self.listeners.pop(7).close()
            self.ok(d.ask(say('pid')))  # the connection does not need the name
            d.close()
        path = os.path.join(self.mediator.sockets, 'moved')
        with link.Listener(self.mediator.sockets, 9, 'moved') as listener:
            os.rename(path, os.path.join(self.mediator.sockets, 'vm-9.sock'))
            listener.path = os.path.join(self.mediator.sockets, 'vm-9.sock')
            with listener.accept() as d:
                self.assertEqual(d.attach().vm_id, 9)

    def test_watch_stale_socket(self):
        """A name that nobody listens behind is tried for ever, quietly; then somebody does."""
        path = os.path.join(self.mediator.sockets, 'vm-7.sock')
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
        self.mediator.wait_line('not-connected', vm=7)
        time.sleep(1)
        s.settimeout(90)
        s.listen(1)
        d = link.DeviceLink(s.accept()[0])
        d.attach()
        self.assertEqual(len(self.mediator.lines('not-connected', vm=7)), 1)
        d.close()
        s.close()
        os.unlink(path)

    def test_watched_directory_goes_and_comes(self):
        d = self.device(7)
        away = self.mediator.sockets + '.away'
        os.rename(self.mediator.sockets, away)
        self.mediator.wait_line('watch-gone')
        self.ok(d.ask(say('pid')))
        self.listeners.pop(7).sock.close()
        d.close()
        os.mkdir(self.mediator.sockets)
        self.device(8)
        self.mediator.wait_line('watch-back')
        shutil.rmtree(away)

    def test_watched_directory_is_removed(self):
        """Also while a device of it is attached, which keeps its connection."""
        d = self.device(7)
        shutil.rmtree(self.mediator.sockets)
        self.mediator.wait_line('watch-gone')
        os.mkdir(self.mediator.sockets)
        self.device(8)
        self.ok(d.ask(say('pid')))
        self.listeners.pop(7).sock.close()

    def test_no_descriptors(self):
        """Connections that there are no descriptors for wait, and cost no time; workers get the limit of before."""
        pid = self.mediator.process.pid
        own = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        self.assertEqual(before, (own[1], own[1]))
        d = self.device(7)
        self.ok(d.ask(say('pid')))
        self.assertEqual(resource.prlimit(self.mediator.workers()[0], resource.RLIMIT_NOFILE)[0], own[0])

        def cpu_s():
            with open('/proc/%d/stat' % pid) as f:
                return sum(int(n) for n in f.read().rpartition(')')[2].split()[11:13]) / os.sysconf('SC_CLK_TCK')
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir('/proc/%d/fd' % pid)) + 2, before[1]))
        waiting = [self.local() for _ in range(20)]
        self.mediator.wait_line('accept')
        start = cpu_s()
        time.sleep(2)
        self.assertLess(cpu_s() - start, 1)  # one that is called again and again has used 2 s
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        waiting[-1].attach()

    def test_silent_connections_are_bounded(self):
        """65 that say no HELLO: the last is told that there is no room (REFUSE 6)."""
        for _ in range(64):
            self.local()
        with self.assertRaises(link.Refused) as raised:
            self.local().expect(link.WELCOME)
        self.assertEqual(raised.exception.reason, 6)

    def test_reconnects_after_the_device_goes(self):
        for _ in range(5):
            d = self.device(7)
            self.ok(d.ask(say('pid')))
            d.close()


class Crowd(Case):
    """A directory full of names leaves room for devices (max_vms = 2: 68 sockets are tried)."""

    config = '[mediator]\nmax_vms = 2\n'

    def test_plain_files(self):
        for vm in range(1000, 1100):
            with open(os.path.join(self.mediator.sockets, 'vm-%d.sock' % vm), 'w'):
                pass
        self.device(7)
        self.assertLess(len(self.mediator.lines('not-connected')), 100)  # ten a second

    def test_dead_sockets(self):
        paths = [os.path.join(self.mediator.sockets, 'vm-%d.sock' % vm) for vm in range(1000, 1068)]
        for path in paths:
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(path)
        self.listeners[7] = link.Listener(self.mediator.sockets, 7)
        self.mediator.wait_line('socket-ignored', vm=7)
        for path in paths:
            os.unlink(path)
        self.device(7)  # there is room again

    def test_long_directory(self):
        """What is there at the start is read in parts."""
        def fill(sockets):
            for n in range(1500):
                with open(os.path.join(sockets, 'n%d' % n), 'w'):
                    pass
            self.listeners[7] = link.Listener(sockets, 7)
        m = Mediator(before=fill)
        self.addCleanup(lambda: self.assertIsNone(m.stop()))
        with self.listeners[7].accept() as d:
            d.attach()


class LongPath(unittest.TestCase):
    def test_long_path(self):
        m = Mediator()
        try:
            deep = os.path.join(m.sockets, 'x' * 120)
            os.mkdir(deep)
            here = os.getcwd()
            os.chdir(deep)
            try:
                s = socket.socket(socket.AF_UNIX)
                s.bind('d.sock')
            finally:
                os.chdir(here)
            s.settimeout(90)
            s.listen(1)
            m.write_config('[vm 5]\nsocket = %s/d.sock\npool = A\n' % deep)
            m.signal(signal.SIGHUP)
            with link.DeviceLink(s.accept()[0]) as d:
                self.assertEqual(d.attach().vm_id, 5)
            s.close()
        finally:
            wrong = m.stop()
        self.assertIsNone(wrong)


class Local(Case):
    config = '[mediator]\nlocal_vm_base = 500\n[local %d]\npriority = high\nsessions = 2\n' % os.getuid()

    def test_local_clients(self):
        """They speak the link protocol with a device's part; their numbers come from the mediator."""
        a, b = self.local(), self.local()
        self.assertEqual(a.attach(vm_id=7, priority=0), (1, 500, 'A', 2))
        self.assertEqual(b.attach().vm_id, 501)
        self.device(7)
        self.ok(a.ask(link.named(link.SESSION_OPEN, 1)))
        self.assertEqual(b.ask(say_in(1, 'pid')).status, 201)
        self.assertNotEqual(self.ok(a.ask(say('pid'))).data, self.ok(b.ask(say('pid'))).data)
        a.close()
        self.mediator.wait_line('detached', vm=500)

    def test_l1_violation(self):
        d = self.local()
        d.attach()
        d.send(b'\0' * 24)
        d.expect_closed()
        self.local().attach()

    def test_not_allowed(self):
        self.mediator.write_config('[local %d]\nallow = no\n' % os.getuid())
        self.mediator.signal(signal.SIGHUP)
        self.mediator.wait_line('reload', level='info')
        d = self.local()
        with self.assertRaises(link.Refused) as raised:
            d.expect(link.WELCOME)
        self.assertEqual(raised.exception.reason, 4)
        d.expect_closed()

    @unittest.skipUnless(os.getuid() == 0, 'needs root, to be somebody else')
    def test_other_user(self):
        """Without a [local] section only root and the mediator's own user may."""
        os.chmod(self.mediator.folder, 0o755)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.chdir(self.mediator.folder)  # the folders above may be closed to others
                os.setgid(54321)
                os.setuid(54321)
                with link.connect('mediator.sock') as d:
                    try:
                        d.expect(link.WELCOME)
                    except link.Refused as e:
                        status = 0 if e.reason == 4 and '54321' in e.text else 2
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)

    def test_one_user_leaves_room(self):
        """Clients of one user are counted (local_clients), and take no place of a VM's (max_vms)."""
        m = Mediator('[mediator]\nmax_vms = 2\nlocal_clients = 2\n')
        self.addCleanup(lambda: self.assertIsNone(m.stop()))
        with link.connect(m.listen) as a, link.connect(m.listen) as b, link.connect(m.listen) as c:
            a.attach()
            b.attach()
            with self.assertRaises(link.Refused) as raised:
                c.expect(link.WELCOME)
            self.assertEqual(raised.exception.reason, 6)
            for vm in (7, 8):
                with link.Listener(m.sockets, vm) as listener:
                    d = listener.accept()
                    self.addCleanup(d.close)
                    self.assertEqual(d.attach(vm_id=vm).vm_id, vm)

    def test_lines_of_who_comes_and_goes(self):
        """Ten lines a second for one user, however often it comes back."""
        start = time.monotonic()
        for _ in range(100):
            d = self.local()
            d.attach()
            d.close()
        seconds = time.monotonic() - start
        self.mediator.signal(signal.SIGUSR1)
        self.mediator.wait_line('status-end')
        lines = len(self.mediator.lines('attached')) + len(self.mediator.lines('detached'))
        self.assertLessEqual(lines, 10 * (seconds + 3))

    def test_fixed_number(self):
        self.mediator.write_config('[local %d]\nvm = 33\n' % os.getuid())
        self.mediator.signal(signal.SIGHUP)
        self.mediator.wait_line('reload', level='info')
        self.assertEqual(self.local().attach().vm_id, 33)
        d = self.local()
        with self.assertRaises(link.Refused) as raised:
            d.attach()
        self.assertEqual(raised.exception.reason, 3)


class ServiceManager(unittest.TestCase):
    def test_sd_notify(self):
        for abstract in (False, True):
            folder = tempfile.mkdtemp(prefix='notify-')
            try:
                name = '\0vgpu-test-%d' % os.getpid() if abstract else os.path.join(folder, 's')
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                    s.bind(name)
                    s.settimeout(90)
                    m = Mediator(env={'NOTIFY_SOCKET': name.replace('\0', '@')})
                    self.assertEqual(s.recv(100), b'READY=1')
                    with link.connect(m.listen) as d:  # workers have nothing to tell it
                        d.attach()
                        self.assertNotIn(b'NOTIFY_SOCKET', d.ask(say('state')).data)
                    self.assertIsNone(m.stop())
                    self.assertEqual(s.recv(100), b'STOPPING=1')
            finally:
                shutil.rmtree(folder)

    def test_log_that_nobody_reads(self):
        """A stderr that is full costs lines, never time."""
        m = Mediator()
        r, w = os.pipe()
        fcntl.fcntl(w, 1031, 4096)  # F_SETPIPE_SZ
        m.stop()
        folder = tempfile.mkdtemp(prefix='log-')
        try:
            worker = os.path.join(folder, 'worker')
            with open(worker, 'w') as f:
                f.write('#!/bin/sh\nexec python3 -SE %s "$@"\n' % FAKE_WORKER)
            os.chmod(worker, 0o755)
            p = subprocess.Popen([MEDIATOR, '--listen', folder + '/s', '--worker', worker, '--log-level', 'debug'],
                                 stderr=w)
            wait_for('the socket', lambda: os.path.exists(folder + '/s'))
            for _ in range(200):
                with wait_for('a link', lambda: self.connect(folder + '/s')) as d:
                    d.attach()
            p.terminate()
            self.assertEqual(p.wait(90), 0)
        finally:
            os.close(r)
            os.close(w)
            shutil.rmtree(folder)

    def connect(self, path):
        try:
            return link.connect(path)
        except OSError:
            return None


if __name__ == '__main__':
    unittest.main()
