#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vgpu-admin and the real mediator: each command changes what it says, at once, and it is there after a restart."""

import json
import os
import subprocess
import time
import unittest

import vgpu_link_device as link
from rig import (ADMIN, BUSY, CONFLICT, NO_MEDIATOR, NOT_FOUND, OK, USAGE, Mediator, run)
from terminal import Terminal


class Live(unittest.TestCase):
    def setUp(self):
        self.mediator = Mediator()
        self.addCleanup(self.mediator.close)

    def admin(self, *words, status=OK):
        done = run(*words, env={'VGPU_CONTROL': self.mediator.control})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def json(self, *words, status=OK):
        return json.loads(self.admin('--json', *words, status=status).stdout)

    def vm(self, number):
        return self.json('show-vm', number)['vm']

    def device(self, number, **hello):
        """A VM's device, attached."""
        listener = link.Listener(self.mediator.vms, number)
        self.addCleanup(listener.close)
        device = listener.accept()
        self.addCleanup(device.close)
        device.attach(vm_id=number, **hello)
        return device

    def test_registering_decides_what_a_device_gets(self):
        self.admin('register-vm', 7, '--pool', 'A', '--priority', 'high', '--weight', 300, '--memory', '64M', '--name', 'db')
        device = self.device(7, priority=0)
        self.assertEqual(device.welcome.priority, 2)
        vm = self.vm(7)
        self.assertEqual((vm['name'], vm['pool'], vm['priority'], vm['weight'], vm['memory'], vm['state']),
                         ('db', 'A', 'high', 300, 64 << 20, 'attached'))
        self.admin('set-priority', 7, 'low')
        self.assertEqual(device.expect_update().priority, 0)
        for words, field, want in (
                (['set-weight', 7, 5], 'weight', 5), (['set-weight', 7, 'default'], 'weight', 100),
                (['set-rate', 7, '30%'], 'rate', '30%'), (['set-rate', 7, 'default'], 'rate', None),
                (['set-quota', 7, '--memory', '32M'], 'memory', 32 << 20),
                (['set-quota', 7, '--sessions', 2, '--queue', 9], 'sessions', 2), (['set-name', 7, 'front'], 'name', 'front')):
            self.assertEqual(self.json(*words)['vms'][0][field], want)
            self.assertEqual(self.vm(7)[field], want)

    def test_changes_outlast_the_mediator(self):
        self.admin('register-vm', '1-5', '--weight', 300)
        self.admin('add-pool', 'B', '--gpus', 'software,software')
        self.admin('set-pool', '4-5', 'B')
        before = self.json('list-vms')['vms'], self.json('list-pools')['pools']
        audit = self.json('audit')
        self.assertEqual(self.mediator.stop(), 0)
        self.admin('list-vms', status=NO_MEDIATOR)
        self.assertEqual(json.loads(run('--json', '--registry', self.mediator.registry, 'audit').stdout), audit)
        self.mediator.start()
        self.assertEqual((self.json('list-vms')['vms'], self.json('list-pools')['pools']), before)

    def test_while_a_mediator_runs_the_file_is_its_own(self):
        self.admin('register-vm', 1)
        done = run('--registry', self.mediator.registry, 'list-vms')
        self.assertEqual(done.returncode, BUSY, done.stderr)
        self.assertIn('--control', done.stderr)

    def test_pools(self):
        pool = self.json('add-pool', 'B')['pool']
        self.assertEqual((pool['pool'], len(pool['gpus'])), ('B', 1))
        self.admin('add-pool', 'B', status=CONFLICT)
        self.admin('add-pool', 'C', '--gpus', 99, status=NOT_FOUND)
        moved = self.json('assign-gpu', 'B', 'software')
        self.assertEqual(len(moved['pool']['gpus']), 2)
        self.admin('register-vm', 1, '--pool', 'B')
        self.admin('remove-pool', 'B', status=CONFLICT)
        self.admin('set-pool', 1, 'A')
        self.assertEqual(self.json('remove-pool', 'B'), {'removed': 'B'})
        self.admin('remove-pool', 'A', status=CONFLICT)
        self.admin('set-pool', 1, 'Q', status=NOT_FOUND)
        gpus = {g['gpu']: g for g in self.json('list-gpus')['gpus']}
        self.assertEqual(gpus[0]['pool'], 'A')
        self.assertIn('software:0', self.admin('list-gpus').stdout)

    def test_quarantine_ends_what_runs(self):
        self.admin('register-vm', 7)
        device = self.device(7)
        self.assertEqual(device.ask(link.typed(link.NOP)).error, 0)
        self.admin('quarantine', 7, '--seconds', '1h', '--reason', 'loud')
        self.assertEqual(device.ask(link.typed(link.NOP)).error, 0x0B)
        self.assertEqual((self.vm(7)['state'], self.vm(7)['reason']), ('quarantined', 'loud'))
        self.assertIn('quarantined until', self.admin('list-vms').stdout)
        self.admin('release', 7)
        self.admin('release', 7, status=NOT_FOUND)
        self.assertEqual(device.ask(link.typed(link.NOP)).error, 0)

    def test_drain(self):
        self.admin('register-vm', 7)
        for place in (['--vm-id', 7], ['--pool', 'A'], ['--gpu', 0]):
            self.json('drain', *place)
            self.json('undrain', *place)
        self.admin('drain', '--vm-id', 7, '--seconds', '1h')
        self.assertEqual(self.vm(7)['state'], 'draining')
        device = self.device(7)
        self.assertEqual(device.ask(link.typed(link.NOP)).error, 7)
        self.admin('undrain', '--vm-id', 7)
        self.assertEqual(device.ask(link.typed(link.NOP)).error, 0)
        self.admin('drain', '--gpu', 99, status=NOT_FOUND)

    def test_remove(self):
        self.admin('register-vm', '7-8')
        device = self.device(7)
        self.admin('remove-vm', '7-8', status=BUSY)
        self.admin('show-vm', 8)
        self.admin('remove-vm', '7-8', '--force')
        device.expect_closed()  # strangers are not admitted
        self.admin('show-vm', 7, status=NOT_FOUND)

    def test_a_change_holds_for_all_or_none(self):
        self.admin('register-vm', 9)
        self.assertIn('vm 9', self.admin('register-vm', '8-10', status=CONFLICT).stderr)
        self.assertEqual([v['vm'] for v in self.json('list-vms')['vms']], [9])

    def test_what_the_mediator_finds_invalid(self):
        self.admin('register-vm', '1-4096')
        self.assertEqual(len(self.json('set-weight', '1-4096', 5)['vms']), 4096)
        self.assertEqual(len(self.admin('list-vms').stdout.splitlines()), 4097)
        self.admin('register-vm', 5000, status=CONFLICT)

    def test_events_and_audit_and_status(self):
        follow = subprocess.Popen([ADMIN, '--json', '--control', self.mediator.control, 'events', '--follow'],
                                  stdout=subprocess.PIPE, text=True)
        try:
            self.admin('register-vm', 7)
            self.device(7)
            said = set()
            while not {'started', 'change', 'attached'} <= said:
                said.add(json.loads(follow.stdout.readline())['event'])
        finally:
            follow.terminate()
            follow.wait()
            follow.stdout.close()
        self.assertIn('attached', self.admin('events').stdout)
        entry = self.json('audit')['audit'][0]
        self.assertEqual((entry['op'], entry['target'], entry['uid']), ('register-vm', 'vm 7', os.getuid()))
        status = self.json('status')
        self.assertEqual((status['vms']['registered'], status['vms']['attached'], status['registry']['state']), (1, 1, 'ok'))
        self.assertIn('1 registered, 1 attached', self.admin('status').stdout)

    def test_doctor(self):
        said = run('--json', 'doctor', '--config', self.mediator.config, env={'VGPU_CONTROL': None})
        checks = {(c['check'], c['level']): c['text'] for c in json.loads(said.stdout)['checks']}
        self.assertIn('process %d' % self.mediator.process.pid, checks['mediator', 'ok'])
        self.assertIn('you may change things', checks['control', 'ok'])
        self.assertIn('quick_check ok', checks['registry', 'ok'])
        self.assertEqual(said.returncode, OK, said.stdout)

    def test_top_sees_work(self):
        self.admin('register-vm', '7-8')
        bench = subprocess.Popen([os.path.join(os.path.dirname(ADMIN), 'vgpu-bench'), 'mailbox', '--transport', 'device',
                                  '--mediator-dir', self.mediator.vms, '--vm-id', '7', '--seconds', '2'],
                                 stdout=subprocess.DEVNULL)
        try:
            deadline, share = time.monotonic() + 60, 0
            while share <= 0.05 and time.monotonic() < deadline:  # it may have begun late in the interval
                frame = self.json('top', '--batch', 1, '--interval', 0.3)
                share = max(v['share'] or 0 for v in frame['vms'])
            self.assertGreater(share, 0.05)
            self.assertEqual(frame['vms'][0]['vm'], 7)
            self.assertEqual(frame['vms'][0]['launches_per_s'], 0)
            t = Terminal([ADMIN, 'top', '--interval', '0.2'], env={'VGPU_CONTROL': self.mediator.control})
            self.addCleanup(t.close)
            t.wait_for(r'^ +7 .*attached')
            t.send('q')
            self.assertEqual((t.wait(), t.clean()), (OK, []))
        finally:
            bench.terminate()
            bench.wait()


if __name__ == '__main__':
    unittest.main()
