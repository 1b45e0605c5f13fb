#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`vgpu-admin --registry`: the registry without a mediator, and files that are none."""

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import unittest

from rig import ADMIN, BUSY, CONFLICT, DENIED, FAILED, NOT_FOUND, OK, STORAGE, UNSUPPORTED, USAGE, run


class Direct(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='direct-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = os.path.join(self.folder, 'registry.db')

    def admin(self, *words, status=OK):
        done = run('--registry', self.file, *words, env={'VGPU_CONTROL': '/none'})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def json(self, *words, status=OK):
        return json.loads(self.admin('--json', *words, status=status).stdout)

    def test_what_is_said_is_kept(self):
        self.admin('register-vm', '1-3', '--pool', 'A', '--weight', 200, '--memory', '2G', '--rate', '12.5%')
        self.admin('set-priority', '2', 'high')
        self.admin('set-name', '2', 'front end')
        self.admin('set-rate', '3', 'default')
        vms = {v['vm']: v for v in self.json('list-vms')['vms']}
        self.assertEqual(sorted(vms), [1, 2, 3])
        self.assertEqual((vms[1]['pool'], vms[1]['weight'], vms[1]['memory'], vms[1]['rate'], vms[1]['priority']),
                         ('A', 200, 2 << 30, '12.5%', None))
        self.assertEqual((vms[2]['priority'], vms[2]['name']), ('high', 'front end'))
        self.assertIsNone(vms[3]['rate'])
        self.assertEqual(self.json('show-vm', 2)['vm'], vms[2])
        self.assertIn('front end', self.admin('show-vm', 2).stdout)
        self.assertIn('12.5%', self.admin('list-vms').stdout)

    def test_quarantine_and_draining(self):
        self.admin('register-vm', '1-3')
        self.admin('quarantine', '1,9', '--seconds', '2h', '--reason', 'loud')
        self.admin('drain', '--vm-id', 2, '--seconds', 'forever')
        states = {v['vm']: (v['state'], v['reason']) for v in self.json('list-vms')['vms']}
        self.assertEqual(states, {1: ('quarantined', 'loud'), 2: ('draining', 'by hand'), 3: ('detached', ''),
                                  9: ('quarantined', 'loud')})
        self.admin('release', '1,9')
        self.admin('undrain', '--vm-id', 2)
        self.admin('release', 1, status=NOT_FOUND)
        self.assertEqual([v['vm'] for v in self.json('list-vms')['vms']], [1, 2, 3])

    def test_a_change_holds_for_all_or_none(self):
        """K7."""
        self.admin('register-vm', '5')
        self.assertIn('vm 5', self.admin('register-vm', '3-7', status=CONFLICT).stderr)
        self.assertEqual([v['vm'] for v in self.json('list-vms')['vms']], [5])
        self.admin('set-weight', '5,6', 7, status=NOT_FOUND)
        self.assertIsNone(self.json('show-vm', 5)['vm']['weight'])

    def test_remove(self):
        self.admin('register-vm', '1-2')
        self.assertEqual(self.json('remove-vm', 1), {'removed': [1]})
        self.admin('remove-vm', 1, status=NOT_FOUND)
        self.admin('show-vm', 1, status=NOT_FOUND)

    def test_audit(self):
        self.admin('register-vm', 1, '--weight', 5)
        self.admin('set-weight', 1, 6)
        lines = self.json('audit', '--limit', 1)['audit']
        self.assertEqual(len(lines), 1)
        self.assertEqual((lines[0]['op'], lines[0]['target'], lines[0]['old'], lines[0]['new'], lines[0]['uid']),
                         ('set-weight', 'vm 1', 'weight=5', 'weight=6', os.getuid()))
        self.assertEqual([l['op'] for l in self.json('audit', '--before', lines[0]['seq'])['audit']], ['register-vm'])

    def test_what_needs_a_mediator(self):
        self.admin('register-vm', 1)
        for words in (['status'], ['list-gpus'], ['add-pool', 'B'], ['drain', '--gpu', 0], ['top'], ['events'], ['doctor'],
                      ['assign-gpu', 'A', 0]):
            self.assertIn('only a running mediator', self.admin(*words, status=UNSUPPORTED).stderr)
        self.assertEqual(self.json('list-pools'), {'pools': []})

    def test_a_slip_of_the_path_makes_no_file(self):
        self.admin('list-vms', status=NOT_FOUND)
        self.admin('set-weight', 1, 2, status=NOT_FOUND)
        self.assertEqual(os.listdir(self.folder), [])
        self.file = os.path.join(self.folder, 'none', 'registry.db')
        self.admin('register-vm', 1, status=STORAGE)

    def test_another_program_has_it(self):
        self.admin('register-vm', 1)
        holder = subprocess.Popen(['flock', self.file + '.lock', 'cat'], stdin=subprocess.PIPE)
        try:
            while not os.path.exists(self.file + '.lock') or subprocess.run(
                    ['flock', '-n', self.file + '.lock', 'true']).returncode == 0:
                pass
            self.assertIn('--control', self.admin('list-vms', status=BUSY).stderr)
        finally:
            holder.stdin.close()
            holder.wait()

    def test_files_that_are_no_registry(self):
        for content in (b'hello' * 1000, b'SQLite format 3\0' + b'\xff' * 5000):
            with open(self.file, 'wb') as f:
                f.write(content)
            self.assertIn(self.file, self.admin('list-vms', status=STORAGE).stderr)
            with open(self.file, 'rb') as f:
                self.assertEqual(f.read(), content)
            os.unlink(self.file)
        sqlite3.connect(self.file).execute('CREATE TABLE x (y)').connection.commit()
        self.admin('list-vms', status=STORAGE)

    def test_a_newer_schema(self):
        self.admin('register-vm', 1)
        with sqlite3.connect(self.file) as db:
            db.execute('PRAGMA user_version = 99')
        db.close()
        self.assertIn('99', self.admin('list-vms', status=STORAGE).stderr)

    def doctor(self, level):
        """What the doctor says of the file; it is asked by a configuration."""
        conf = os.path.join(self.folder, 'mediator.conf')
        with open(conf, 'w') as f:
            f.write('[mediator]\nregistry = %s\n' % self.file)
        done = run('--json', 'doctor', '--config', conf, env={'VGPU_CONTROL': '/none'})
        self.assertEqual(done.returncode, FAILED)  # no mediator
        found = [c for c in json.loads(done.stdout)['checks'] if c['check'] == 'registry']
        self.assertEqual([c['level'] for c in found], [level], found)
        return found[0]['text']

    def test_doctor(self):
        self.assertIn('made when the mediator starts', self.doctor('ok'))
        self.admin('register-vm', '1-7')
        before = sorted(os.listdir(self.folder))
        self.assertIn('7 VMs, quick_check ok', self.doctor('ok'))
        self.assertEqual(sorted(os.listdir(self.folder)), before)  # it leaves nothing behind
        os.chmod(self.file, 0o666)
        conf_checks = run('--json', 'doctor', '--config', os.path.join(self.folder, 'mediator.conf'),
                          env={'VGPU_CONTROL': '/none'}).stdout
        self.assertIn('can be written by others (mode 0666)', conf_checks)
        os.chmod(self.file, 0o600)
        with sqlite3.connect(self.file) as db:
            db.execute('PRAGMA user_version = 99')
        db.close()
        self.assertIn('schema 99', self.doctor('bad'))
        with open(self.file, 'r+b') as f:
            f.write(b'\0' * 100)
        self.assertIn('cannot be read', self.doctor('bad'))


if __name__ == '__main__':
    unittest.main()
