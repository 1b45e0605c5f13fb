#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry under a mediator, when things go wrong: docs/control.md K7, docs/mediator.md on the registry."""

import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest

import vgpu_control
from rig import Case, Failed, Mediator, link_rig, say, wait_for

NOTHING = '[pool A]\ngpus = software\n'


class Start(unittest.TestCase):
    """What a mediator says that cannot use its registry: status 1, and the reason."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='storage-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, 'registry.db')
        self.conf = os.path.join(self.folder, 'mediator.conf')

    def run_it(self, path=None):
        with open(self.conf, 'w') as f:
            f.write('[mediator]\nregistry = %s\n%s' % (path or self.path, NOTHING))
        done = subprocess.run([link_rig.MEDIATOR, '--config', self.conf, '--worker', '/bin/true'],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=90)
        self.assertEqual(done.returncode, 1)
        return done.stderr.decode()

    def make(self):
        """A registry as a mediator makes it."""
        m = Mediator('[mediator]\nregistry = %s\n%s' % (self.path, NOTHING))
        self.assertIsNone(m.stop())
        return sqlite3.connect(self.path)

    def test_newer_schema(self):
        db = self.make()
        db.execute('PRAGMA user_version = 99')
        db.close()
        said = self.run_it()
        self.assertIn('has schema 99, this program knows 2 at most', said)
        with sqlite3.connect(self.path) as db:
            self.assertEqual(db.execute('PRAGMA user_version').fetchone(), (99,))

    def test_corrupt(self):
        db = self.make()
        db.executemany("INSERT INTO audit (time_ms, op, target, old, new) VALUES (1, ?, '', '', '')", [('x' * 500,)] * 200)
        db.commit()
        db.close()
        with open(self.path, 'r+b') as f:
            f.seek(4096 * 8)
            f.write(os.urandom(4096 * 4))
        self.assertIn('is damaged', self.run_it())

    def test_no_sqlite_file(self):
        with open(self.path, 'w') as f:
            f.write('# not a database, and long enough for a header of one\n' * 20)
        self.assertIn('no SQLite file', self.run_it())

    def test_somebody_elses(self):
        with sqlite3.connect(self.path) as db:
            db.execute('CREATE TABLE recipes (name TEXT)')
        self.assertIn('no registry', self.run_it())

    def test_a_row_that_makes_no_sense(self):
        db = self.make()
        db.execute('PRAGMA ignore_check_constraints = ON')
        db.execute('INSERT INTO vms (vm, registered, priority) VALUES (7, 1, 9)')
        db.commit()
        db.close()
        said = self.run_it()
        self.assertIn('vm', said)
        self.assertRegex(said, 'damaged|CHECK')

    def test_no_folder(self):
        self.assertIn('No such file', self.run_it(os.path.join(self.folder, 'none', 'registry.db')))

    def test_is_a_folder(self):
        os.mkdir(self.path)
        self.assertIn(self.path, self.run_it())

    def test_locked_by_sqlite3(self):
        db = self.make()
        db.isolation_level = None
        db.execute('PRAGMA locking_mode = EXCLUSIVE')
        db.execute('BEGIN EXCLUSIVE')
        self.assertIn('another program has it locked', self.run_it())
        db.close()


class Running(Case):
    config = NOTHING

    def test_a_second_mediator(self):
        with open(os.path.join(self.folder, 'stray'), 'w') as f:
            f.write('[mediator]\nregistry = %s\n%s' % (self.database, NOTHING))
        done = subprocess.run([link_rig.MEDIATOR, '--config', f.name, '--worker', '/bin/true'], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=90)
        self.assertEqual(done.returncode, 1)
        said = done.stderr.decode()
        self.assertIn('another vgpu-mediator (pid %d)' % self.mediator.process.pid, said)
        self.assertIn(self.database, said)
        self.ask('register-vm', vms=[7])

    def test_k7_locked(self):
        """storage, nothing is changed, VMs go on; and then it works again."""
        d = self.device(7)
        db = sqlite3.connect(self.database, isolation_level=None)
        db.execute('BEGIN IMMEDIATE')
        number = self.control.submit('register-vm', vms=[7])
        other = self.client()
        for _ in range(5):
            self.ok(d.ask(say('pid')))
            other.ask('status')
        answer = self.control.line()
        self.assertEqual((answer['id'], answer['ok'], answer['error']['code']), (number, False, 'storage'), answer)
        self.assertIn('nothing was changed', answer['error']['message'])
        self.assertIn('another program has it locked', answer['error']['message'])
        self.assertFalse(self.vm(7)['registered'])
        db.execute('ROLLBACK')
        db.close()
        self.assertTrue(self.ask('register-vm', vms=[7])['vms'][0]['registered'])

    def test_k7_full(self):
        db = sqlite3.connect(self.database)
        pages = db.execute('PRAGMA page_count').fetchone()[0]
        db.close()
        self.assertGreater(pages, 5)
        # The limit is the file's size as the kernel sees it: for the mediator, from now on.
        size = os.path.getsize(self.database + '-wal') + 8192
        import resource
        resource.prlimit(self.mediator.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        with self.assertRaises(Failed) as caught:
            self.ask('register-vm', vms=list(range(2000)))
        self.assertEqual(caught.exception.code, 'storage')
        self.assertEqual(self.ask('list-vms')['vms'], [])
        resource.prlimit(self.mediator.process.pid, resource.RLIMIT_FSIZE,
                         (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.assertEqual(len(self.ask('register-vm', vms=list(range(2000)))['vms']), 2000)

    def test_k31_quarantine_holds_without_the_disk(self):
        db = sqlite3.connect(self.database, isolation_level=None)
        db.execute('BEGIN IMMEDIATE')
        d = self.device(7)
        for _ in range(40):
            d.ask(say('die'))
            if d.ask(link_rig.link.named(link_rig.link.SESSION_CLOSE, 0)).error:
                break
        wait_for('quarantine', lambda: self.vm(7)['state'] == 'quarantined')
        self.assertEqual(d.ask(say('pid')).error, 0x0B)
        self.mediator.wait_line('registry')
        self.assertEqual(self.vm(7)['state'], 'quarantined')
        db.execute('ROLLBACK')
        db.close()

    def test_k7_killed_at_any_moment(self):
        """kill -9 while changes are on their way: what was answered holds, and a change is whole or not there."""
        rng = random.Random(4711)
        registered, weights = set(), {}
        for number in range(6):
            first = 10 * number
            clients = [self.client() for _ in range(4)]
            sent = {}
            for i, c in enumerate(clients):
                vms = [first + i * 2, first + i * 2 + 1]
                c.submit('register-vm', vms=vms, weight=number + 1)
                sent[i] = vms
            time.sleep(rng.random() * 0.004)
            self.mediator.process.kill()
            answered = []
            for i, c in enumerate(clients):
                line = c.line()
                if line is not None:
                    self.assertTrue(line['ok'], line)
                    answered += sent[i]
                c.close()
            self.restart(kill=True)
            there = {v['vm']: v['weight'] for v in self.ask('list-vms')['vms']}
            for vm in answered:
                self.assertIn(vm, there)
            for vms in sent.values():
                self.assertEqual(len({vm in there for vm in vms}), 1, (vms, there))  # both or none
            for vm, weight in weights.items():
                self.assertEqual(there[vm], weight)
            weights = there
            log = self.ask('audit', limit=1000)['audit']
            self.assertEqual(len(log), len(there))  # a line for each, no more
        self.assertEqual(self.ask('status')['registry']['starts'], 7)

    def test_k7_serial(self):
        """Changes of many clients at once: each one's value is somebody's, and the audit log tells one story."""
        self.ask('register-vm', vms=[7, 8])

        def run(weight):
            with vgpu_control.Control(self.path) as c:
                for _ in range(10):
                    c.ask('set-weight', vms=[7, 8], weight=weight)

        threads = [threading.Thread(target=run, args=(w,)) for w in range(1, 9)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(self.vm(7)['weight'], self.vm(8)['weight'])
        story = [a for a in self.ask('audit', limit=1000)['audit'] if a['op'] == 'set-weight' and a['target'] == 'vm 7']
        self.assertEqual(len(story), 80)
        weight = ''
        for a in reversed(story):
            self.assertIn(a['old'], (weight, 'weight=-' if not weight else weight, ''))
            weight = a['new'] or weight
        self.assertEqual(weight, 'weight=%d' % self.vm(7)['weight'])

    def test_no_leak(self):
        before = self.mediator.fds()
        for i in range(50):
            with vgpu_control.Control(self.path) as c:
                c.submit('register-vm', vms=[i])
                if i % 3:
                    c.line()  # some leave without waiting for the answer
        wait_for('all done', lambda: self.ask('status')['vms']['registered'] == 50)
        self.ask('audit')
        wait_for('all closed', lambda: [f for f in self.mediator.fds() if f != 'socket'] ==
                 [f for f in before if f != 'socket'] and len(self.mediator.fds()) - len(before) <= 1)

    def test_mode_of_the_file(self):
        self.ask('register-vm', vms=[7])
        for name in (self.database, self.database + '-wal'):
            self.assertEqual(os.stat(name).st_mode & 0o777, 0o600, name)


@unittest.skipIf(os.getuid(), 'needs root to mount')
class ReadOnly(unittest.TestCase):
    """A registry on a file system that can only be read: the policy holds, changes are refused."""

    def test_it(self):
        folder = tempfile.mkdtemp(prefix='read-only-')
        self.addCleanup(shutil.rmtree, folder)
        store = os.path.join(folder, 'store')
        os.mkdir(store)
        path, sock = os.path.join(store, 'registry.db'), os.path.join(folder, 'control.sock')
        config = '[mediator]\nregistry = %s\ncontrol = %s\n%s' % (path, sock, NOTHING)
        m = Mediator(config)
        with vgpu_control.Control(sock) as c:
            c.ask('register-vm', vms=[7], priority='high')
        self.assertIsNone(m.stop())
        if subprocess.call(['mount', '--bind', store, store], stderr=subprocess.DEVNULL):
            self.skipTest('cannot mount here')
        try:
            subprocess.check_call(['mount', '-o', 'remount,bind,ro', store])
            m = Mediator(config)
            try:
                with vgpu_control.Control(sock) as c:
                    self.assertEqual(c.ask('show-vm', vm=7)['vm']['priority'], 'high')
                    self.assertIn('can only be read', c.ask('status')['registry']['state'])
                    with self.assertRaises(Failed) as caught:
                        c.ask('set-priority', vms=[7], priority='low')
                    self.assertEqual(caught.exception.code, 'storage')
                    self.assertIn('only be read', caught.exception.message)
                    self.assertEqual(c.ask('show-vm', vm=7)['vm']['priority'], 'high')
            finally:
                self.assertIsNone(m.stop())
        finally:
            subprocess.check_call(['umount', store])


if __name__ == '__main__':
    unittest.main()
