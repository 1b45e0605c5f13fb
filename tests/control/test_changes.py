#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every operation of docs/control.md, on VMs that are attached and on VMs that are not: K8, K10 to K33."""

import json
import time
import unittest

import vgpu_link_device as link
from rig import Case, say, say_in, wait_for

GIB = 1 << 30
GPU_A = 'GPU-00000000-0000-0000-0000-00000000000a'
GPU_B = 'GPU-00000000-0000-0000-0000-00000000000b'


def gpu_line(ordinal, uuid, memory=80 * GIB, **more):
    return json.dumps(dict({'backend': 'cuda', 'gpu': ordinal, 'name': 'Card %d' % ordinal, 'uuid': uuid,
                            'total_memory_bytes': memory}, **more)) + '\n'


class Base(Case):
    def open(self, d, session):
        self.ok(d.ask(link.named(link.SESSION_OPEN, session)))

    def args(self, d, session):
        """The command line of the session's worker."""
        return json.loads(self.ok(d.ask(say_in(session, 'args'))).data)

    def arg(self, d, session, name):
        words = self.args(d, session)
        return words[words.index(name) + 1]

    def pid(self, d, session):
        return int(self.ok(d.ask(say_in(session, 'pid'))).data)

    def quarantined(self, response):
        self.assertEqual(response.error, 0x0B, response)


class Vms(Base):
    config = '[pool A]\ngpus = software\n[pool B]\ngpus = software\n[vm 50]\nsessions = 3\npriority = low\nrate = 50%\n'

    def test_k20_register(self):
        vms = self.ask('register-vm', vms=[9, 7], pool='B', priority='high', weight=300, rate='12.5%', burst_ms=40,
                       memory=GIB, sessions=5, queue=9)['vms']
        self.assertEqual([v['vm'] for v in vms], [9, 7])  # K23: in the order of the request
        self.assertEqual({k: vms[1][k] for k in ('registered', 'pool', 'priority', 'weight', 'rate', 'burst_ms', 'memory',
                                                 'sessions', 'queue', 'state', 'attached', 'gpu', 'local')},
                         {'registered': True, 'pool': 'B', 'priority': 'high', 'weight': 300, 'rate': '12.5%',
                          'burst_ms': 40, 'memory': GIB, 'sessions': 5, 'queue': 9, 'state': 'detached',
                          'attached': False, 'gpu': None, 'local': False})
        self.assertEqual([v['vm'] for v in self.ask('list-vms')['vms']], [7, 9, 50])
        self.ask('register-vm', vms=[8], name='B\u00fcro "1"')
        self.assertEqual(self.vm(8)['name'], 'B\u00fcro "1"')
        self.assertIsNone(self.vm(8)['pool'])
        self.fails('exists', 'vm 7 is registered', 'register-vm', vms=[10, 7])
        self.fails('not-found', 'vm 10', 'show-vm', vm=10)  # all or nothing
        self.fails('exists', 'configuration file', 'register-vm', vms=[50])

    def test_k20_values_out_of_range(self):
        for part, fields in (('weight = 0', {'weight': 0}), ('weight = 10001', {'weight': 10001}),
                             ('weight = 1.5', {'weight': 1.5}), ('rate = "0%"', {'rate': '0%'}),
                             ('rate = 30', {'rate': 30}), ('rate = "101%"', {'rate': '101%'}),
                             ('priority = "urgent"', {'priority': 'urgent'}), ('priority = "1"', {'priority': '1'}),
                             ('memory = -1', {'memory': -1}), ('memory = "1G"', {'memory': '1G'}),
                             ('sessions = 1025', {'sessions': 1025}), ('pool = "AB"', {'pool': 'AB'}),
                             ('pool = "a"', {'pool': 'a'}), ('burst_ms = 0', {'burst_ms': 0}),
                             ('queue = 65537', {'queue': 65537}), ('name', {'name': 'x' * 65}),
                             ('name', {'name': 'a\nb'}), ('no field', {'force': True})):
            with self.subTest(fields=fields):
                self.fails('invalid', part, 'register-vm', vms=[7], **fields)
        for vms in ([], [7, 7], [1, 2, 3, 2], [-1], [1 << 32], ['7'], 7, None, [0] * 5000, list(range(4097))):
            with self.subTest(vms=str(vms)[:40]):
                self.fails('invalid', 'vms' if not (isinstance(vms, list) and len(vms) == 1) else '', 'register-vm',
                           vms=vms)
        self.fails('invalid', 'overlap', 'register-vm', vms=[1, 2, 3, 2])
        self.fails('invalid', 'a name is for one', 'register-vm', vms=[1, 2], name='x')
        self.fails('not-found', "pool 'C' has no GPU (pools: A B)", 'register-vm', vms=[7], pool='C')
        self.assertEqual([v['vm'] for v in self.ask('list-vms')['vms']], [50])

    def test_k20_many_at_once(self):
        vms = self.ask('register-vm', vms=list(range(1000, 5095)))['vms']
        self.assertEqual(len(vms), 4095)
        self.fails('conflict', 'more than 4096', 'register-vm', vms=[1, 2])
        self.ask('set-weight', vms=list(range(1000, 5095)), weight=7)
        self.assertEqual(self.vm(5094)['weight'], 7)
        self.assertEqual(len(self.ask('remove-vm', vms=list(range(1000, 5095)))['removed']), 4095)

    def test_k8_registry_over_file(self):
        self.assertEqual((self.vm(50)['sessions'], self.vm(50)['rate']), (3, '50%'))
        self.ask('set-quota', vms=[50], sessions=2)
        self.ask('set-priority', vms=[50], priority='high')
        v = self.vm(50)
        self.assertEqual((v['sessions'], v['priority'], v['rate']), (2, 'high', '50%'))
        self.ask('set-quota', vms=[50], sessions=None)
        self.assertEqual(self.vm(50)['sessions'], 3)
        self.restart()
        v = self.vm(50)
        self.assertEqual((v['sessions'], v['priority']), (3, 'high'))
        self.ask('set-priority', vms=[50], priority=None)
        self.assertEqual(self.vm(50)['priority'], 'low')
        self.fails('conflict', '[vm 50] in line', 'remove-vm', vms=[50])

    def test_k8_reload_keeps_the_registry(self):
        self.ask('set-priority', vms=[50], priority='high')
        self.ask('register-vm', vms=[7], sessions=1)
        self.mediator.write_config(self.config.replace('sessions = 3', 'sessions = 4'))
        self.mediator.signal(1)
        wait_for('the reload', lambda: self.vm(50)['sessions'] == 4)
        self.assertEqual((self.vm(50)['priority'], self.vm(7)['sessions']), ('high', 1))
        self.assertEqual([e['event'] for e in self.ask('events')['events']].count('reload'), 1)

    def test_k22_set_each(self):
        self.ask('register-vm', vms=[7, 8])
        for op, fields in (('set-pool', {'pool': 'B'}), ('set-priority', {'priority': 'low'}),
                           ('set-weight', {'weight': 1}), ('set-rate', {'rate': '1%'}),
                           ('set-rate', {'rate': '99.9%', 'burst_ms': 3}), ('set-quota', {'memory': 1}),
                           ('set-quota', {'sessions': 1, 'queue': 4, 'memory': 5})):
            with self.subTest(op=op, fields=fields):
                for v in self.ask(op, vms=[7, 8], **fields)['vms']:
                    self.assertEqual({k: v[k] for k in fields}, fields)
                self.fails('not-found', 'vm 9 is not registered', op, vms=[7, 9], **fields)
                self.fails('invalid', '', op, vms=[7])
        self.ask('set-name', vms=[7], name='seven')
        self.restart()
        self.assertEqual((self.vm(7)['name'], self.vm(8)['queue'], self.vm(7)['rate']), ('seven', 4, '99.9%'))

    def test_k22_at_once(self):
        """What is attached feels it: its register shows the priority, its next worker the quota, its sessions the
        limit."""
        d = self.device(7)
        self.open(d, 1)
        self.pid(d, 1)
        self.ask('register-vm', vms=[7], priority='high', memory=123 << 20, sessions=2)
        self.assertEqual(d.expect_update().priority, 2)
        self.open(d, 2)
        self.assertEqual(self.arg(d, 2, '--memory'), str(123 << 20))
        self.assertEqual(d.ask(link.named(link.SESSION_OPEN, 3)).error, 7)
        v = self.vm(7)
        self.assertEqual((v['priority'], v['open_sessions'], v['workers'], v['state']), ('high', 2, 2, 'attached'))
        self.ask('set-weight', vms=[7], weight=5)
        self.ask('set-priority', vms=[7], priority=None)
        self.assertEqual(d.expect_update().priority, 1)  # what the device wished for
        self.assertEqual(self.vm(7)['weight'], 5)

    def test_k21_remove(self):
        d = self.device(7)
        self.ask('register-vm', vms=[7, 8], priority='high')
        d.expect_update()
        self.open(d, 1)
        self.pid(d, 1)
        self.fails('busy', 'vm 7 is attached', 'remove-vm', vms=[8, 7])
        self.assertTrue(self.vm(8)['registered'])
        self.assertEqual(self.ask('remove-vm', vms=[8, 7], force=True)['removed'], [8, 7])
        self.assertEqual(d.expect_update().priority, 1)
        v = self.vm(7)  # a stranger now
        self.assertEqual((v['registered'], v['open_sessions'], v['state']), (False, 0, 'attached'))
        self.fails('not-found', 'vm 8', 'show-vm', vm=8)
        self.ok(d.ask(say('pid')))

    def test_k15_audit(self):
        self.ask('register-vm', vms=[7, 8], pool='A')
        self.ask('set-pool', vms=[7], pool='B')
        lines = self.ask('audit')['audit']
        self.assertEqual([(a['op'], a['target']) for a in lines],
                         [('set-pool', 'vm 7'), ('register-vm', 'vm 8'), ('register-vm', 'vm 7')])
        self.assertEqual((lines[0]['old'], lines[0]['new']), ('pool=A', 'pool=B'))
        self.assertEqual(lines[0]['uid'], __import__('os').getuid())
        self.assertLess(abs(lines[0]['time'] - time.time()), 60)
        self.assertEqual(self.ask('audit', limit=1, before=lines[0]['seq'])['audit'], [lines[1]])
        self.fails('invalid', 'limit = 0', 'audit', limit=0)
        self.restart()
        self.assertEqual(self.ask('audit')['audit'], lines)

    def test_k14_events(self):
        first = self.ask('events')
        self.assertEqual([e['event'] for e in first['events']], ['started'])
        follower = self.client()
        self.assertEqual(follower.ask('events', follow=True, since=first['next'])['events'], [])
        d = self.device(7)
        self.ok(d.ask(say('pid')))
        d.close()
        heard = []
        while 'detached' not in heard:
            line = follower.line()
            self.assertEqual(line['id'], 1)
            heard.append(line['event']['event'])
            self.assertEqual(line['event']['vm'], 7)
        self.assertEqual(heard[:2], ['attached', 'worker-start'])
        with self.assertRaises(Exception):
            follower.ask('events', follow=True)
        names = [e['event'] for e in self.ask('events', since=first['next'])['events']]
        self.assertEqual(names[:len(heard)], heard)
        self.assertEqual(len(self.ask('events', limit=1)['events']), 1)
        self.assertEqual(self.ask('events', since=1 << 40)['events'], [])

    def test_k14_who_reads_slowly_loses_some_and_is_told(self):
        follower = self.client()
        follower.ask('events', follow=True)
        self.ask('register-vm', vms=list(range(100, 1100)))
        for i in range(8):
            self.ask('set-weight', vms=list(range(100, 1100)), weight=i + 1)
        lost = seen = 0
        last = self.ask('events', limit=1)['next']
        while True:
            line = follower.line()
            if 'lost' in line:
                lost += line['lost']
                continue
            seen += 1
            if line['event']['seq'] == last:
                break
        self.assertGreater(lost, 0)
        self.assertEqual(lost + seen, last - 1)

    def test_k10_status(self):
        self.device(7)
        self.ask('register-vm', vms=[7, 8])
        self.ask('quarantine', vms=[8])
        self.ask('drain', vms=[7])
        status = self.ask('status')
        self.assertEqual(status['vms'], {'registered': 3, 'attached': 1, 'quarantined': 1, 'draining': 1})
        self.assertEqual((status['pools'], status['gpus'], status['links'], status['may_change'],
                          status['registry']['state'], status['registry']['starts'], status['registry']['changes']),
                         ('A B', 2, 1, True, 'ok', 1, 3))

    def test_k13_stats(self):
        self.assertEqual(len(self.ask('stats')['gpus']), 2)
        self.ask('stats', after=0)
        self.fails('invalid', 'after', 'stats', after=-1)

    def test_k33_local_client(self):
        d = self.local()
        d.attach()
        vm = 1000000
        self.assertTrue(self.vm(vm)['local'])
        self.fails('conflict', 'local client of uid', 'register-vm', vms=[vm])
        self.ask('quarantine', vms=[vm], reason='enough')
        self.quarantined(d.ask(say('pid')))
        other = self.local()  # the user's, not the number's
        other.attach()
        self.quarantined(other.ask(say('pid')))
        self.assertEqual(self.vm(vm + 1)['state'], 'quarantined')
        self.ask('release', vms=[vm + 1])
        self.ok(d.ask(say('pid')))
        self.assertEqual(self.ask('audit')['audit'], [])


class Moves(Base):
    """K24."""

    config = '[pool A]\ngpus = software\n[pool B]\ngpus = software, software\n[pool C]\ngpus = software\n'

    def test_new_sessions_go_and_old_ones_stay(self):
        d = self.device(7)
        self.open(d, 1)
        first = self.pid(d, 1)
        self.assertEqual(self.vm(7)['gpu'], 0)
        self.ask('register-vm', vms=[7], pool='B')
        self.assertEqual(d.expect_update().pool, 'B')
        v = self.vm(7)
        self.assertIn(v['gpu'], (1, 2))
        self.assertTrue(v['moving'])
        self.assertEqual(self.pid(d, 1), first)  # it lives
        self.open(d, 2)
        self.assertNotEqual(self.pid(d, 2), first)
        workers = {g['gpu']: g['workers'] for g in self.ask('list-gpus')['gpus']}
        self.assertEqual((workers[0], workers[v['gpu']]), (1, 1))
        self.fails('busy', 'from its last move', 'set-pool', vms=[7], pool='C')
        self.ok(d.ask(link.named(link.SESSION_CLOSE, 1)))
        wait_for('the move', lambda: not self.vm(7)['moving'])
        self.assertIn('moved-out', [e['event'] for e in self.ask('events')['events']])
        self.ask('set-pool', vms=[7], pool='C')
        self.assertEqual(d.expect_update().pool, 'C')
        self.assertEqual(self.vm(7)['gpu'], 3)

    def test_and_back(self):
        d = self.device(7)
        self.open(d, 1)
        first = self.pid(d, 1)
        self.ask('register-vm', vms=[7], pool='B')
        d.expect_update()
        self.open(d, 2)
        self.pid(d, 2)
        self.ask('set-pool', vms=[7], pool='A')
        self.assertEqual(d.expect_update().pool, 'A')
        self.assertEqual(self.vm(7)['gpu'], 0)
        self.assertEqual(self.pid(d, 1), first)
        self.ok(d.ask(link.named(link.SESSION_CLOSE, 2)))
        wait_for('the move', lambda: not self.vm(7)['moving'])

    def test_leases_are_apart(self):
        """Old and new sessions hold leases of different GPUs at once, and each waits for who is there."""
        d, other = self.device(7), self.device(8)
        self.open(d, 1)
        self.ok(d.ask(say_in(1, 'want hold')))
        self.ask('register-vm', vms=[7], pool='C')
        d.expect_update()
        self.open(d, 2)
        self.ok(d.ask(say_in(2, 'want hold')))
        holders = {g['gpu']: g['holders'] for g in self.ask('list-gpus')['gpus']}
        self.assertEqual((holders[0], holders[3]), ([7], [7]))
        self.assertGreaterEqual(self.vm(7)['leases'], 2)
        d.close()
        self.ok(other.ask(say('want')))  # GPU 0 is free again

    def test_ends_while_it_moves(self):
        d = self.device(7)
        self.open(d, 1)
        self.pid(d, 1)
        self.ask('register-vm', vms=[7], pool='B')
        d.expect_update()
        self.open(d, 2)
        self.pid(d, 2)
        d.close()
        wait_for('all gone', lambda: not self.mediator.workers())
        self.assertEqual([g['vms'] for g in self.ask('list-gpus')['gpus']], [0, 0, 0, 0])
        d = self.device(7)
        self.assertIn(self.vm(7)['gpu'], (1, 2))

    def test_idle_moves_without_a_trace(self):
        d = self.device(7)
        self.ask('register-vm', vms=[7], pool='B')
        self.assertEqual(d.expect_update().pool, 'B')
        self.assertFalse(self.vm(7)['moving'])
        self.ok(d.ask(say('pid')))


class Quarantine(Base):
    config = '[pool A]\ngpus = software\n[limits]\nquarantine_faults = 3\nquarantine_s = 600\n[scheduler]\nwatchdog_ms = 300\n'

    def test_k30_by_hand_and_by_time(self):
        d = self.device(7)
        self.open(d, 1)
        self.pid(d, 1)
        seq = d.submit(say_in(1, 'silent'))
        v = self.ask('quarantine', vms=[7], seconds=1, reason='mining')['vms'][0]
        self.assertEqual((v['state'], v['reason'], v['attached'], v['registered']), ('quarantined', 'mining', True, False))
        self.assertLess(v['until'], time.time() + 1.1)
        self.quarantined(d.response(seq))
        self.quarantined(d.ask(link.named(link.SESSION_OPEN, 2)))
        wait_for('its worker gone', lambda: not self.mediator.workers())
        wait_for('the end', lambda: self.vm(7)['state'] == 'attached')
        self.ok(d.ask(say('pid')))
        wait_for('the audit', lambda: self.ask('audit')['audit'][0]['op'] == 'release')
        self.assertIsNone(self.ask('audit')['audit'][0]['uid'])

    def test_k30_release(self):
        d = self.device(7)
        self.assertIsNone(self.ask('quarantine', vms=[7, 8], seconds=None)['vms'][0]['until'])
        self.quarantined(d.ask(say('pid')))
        self.fails('not-found', 'vm 9 is not in quarantine', 'release', vms=[7, 9])
        self.quarantined(d.ask(say('pid')))
        self.ask('release', vms=[7, 8])
        self.ok(d.ask(say('pid')))

    def test_k31_faults(self):
        d = self.device(7)
        for i in range(3):
            self.assertEqual(self.vm(7)['state'], 'attached')
            d.ask(say('die'))
            if i < 2:
                self.ok(d.ask(link.named(link.SESSION_CLOSE, 0)))
        wait_for('quarantine', lambda: self.vm(7)['state'] == 'quarantined')
        v = self.vm(7)
        self.assertIn('3 faults in 60 s', v['reason'])
        self.assertEqual(v['faults'], 3)
        self.quarantined(d.ask(say('pid')))
        wait_for('the audit', lambda: self.ask('audit')['audit'])
        line = self.ask('audit')['audit'][0]
        self.assertEqual((line['op'], line['target'], line['uid']), ('quarantine', 'vm 7', None))
        d.close()
        self.restart()
        d = self.device(7)
        self.quarantined(d.ask(say('pid')))  # K33
        self.ask('release', vms=[7])
        self.ok(d.ask(say('pid')))
        d.ask(say('die'))  # counts from 0 again
        self.ok(d.ask(link.named(link.SESSION_CLOSE, 0)))
        self.ok(d.ask(say('pid')))

    def test_k31_gpu_faults(self):
        """A worker that had one lives on, and ends with its program: then it counts, once."""
        d = self.device(7)
        for session, status in enumerate((700, 719, 1, 715), 1):  # 1, an invalid value, is none
            self.assertEqual(self.vm(7)['state'], 'attached')
            self.open(d, session)
            self.ok(d.ask(say_in(session, 'fault %d' % status)))
            pid = self.pid(d, session)
            self.ok(d.ask(link.named(link.SESSION_CLOSE, session)))
            wait_for('its end', lambda: pid not in self.mediator.workers())
        wait_for('quarantine', lambda: self.vm(7)['state'] == 'quarantined')
        self.assertEqual(self.vm(7)['faults'], 3)
        self.ask('release', vms=[7])
        self.open(d, 9)
        self.ok(d.ask(say_in(9, 'fault 700')))
        self.ok(d.ask(link.named(link.SESSION_CLOSE, 9)))
        wait_for('the fault', lambda: self.vm(7)['faults'] == 4)
        self.ok(d.ask(say('pid')))  # it counts from 0 again

    def test_k31_watchdog_counts_more(self):
        d, other = self.device(7), self.device(8)
        self.ok(d.ask(say('want hold')))
        self.ok(other.ask(say('want')))
        wait_for('quarantine', lambda: self.vm(7)['state'] == 'quarantined')
        self.assertEqual(self.vm(8)['state'], 'attached')
        self.assertIn('watchdog', [e['event'] for e in self.ask('events')['events']])

    def test_k30_channel_is_lost(self):
        window = link.Window.make(1 << 20, 1)
        d = self.device(7, **window.hello())
        d.send_window(window)
        self.open(d, 1)
        self.ok(d.bind(1, 0))
        d.enable(0)
        d.expect_state(0, link.ACTIVE)
        self.ask('quarantine', vms=[7])
        d.expect_state(0, link.FATAL, link.SESSION_LOST)
        self.quarantined(d.ask(say('pid')))


class Unknown(Base):
    config = '[pool A]\ngpus = software\n'
    mediator_keys = 'admit_unknown = no\n'

    def test_registered_is_let_in_and_removed_is_put_out(self):
        d = self.dialled(7)
        with self.assertRaises(link.Refused):
            d.attach(vm_id=7)
        d.close()
        self.assertIn('refused', [e['event'] for e in self.ask('events')['events']])
        self.ask('register-vm', vms=[7])
        d = self.device(7)
        self.ok(d.ask(say('pid')))
        self.ask('remove-vm', vms=[7], force=True)
        d.expect_closed()


class Pools(Base):
    config = '[pool A]\ngpus = 0\n[pool S]\ngpus = software\n'
    gpus = gpu_line(0, GPU_A) + gpu_line(1, GPU_B, 40 * GIB) + gpu_line(2, GPU_B[:-1] + 'c', unusable='too old') + \
        '{"backend": "software", "gpu": 0}\n'

    def test_k12_lists(self):
        gpus = self.ask('list-gpus')['gpus']
        self.assertEqual([(g['gpu'], g['pool'], g['backend'], g['uuid'], g['ordinal'], g['usable']) for g in gpus],
                         [(0, 'A', 'cuda', GPU_A, 0, True), (1, 'S', 'software', None, None, True),
                          (2, None, 'cuda', GPU_B, 1, True), (3, None, 'cuda', GPU_B[:-1] + 'c', 2, False)])
        self.assertEqual((gpus[3]['reason'], gpus[2]['memory'], gpus[2]['model']), ('too old', 40 * GIB, 'Card 1'))
        self.assertEqual([(p['pool'], p['gpus'], p['backend'], p['source']) for p in self.ask('list-pools')['pools']],
                         [('A', [0], 'cuda', 'file'), ('S', [1], 'software', 'file')])

    def test_k25_add(self):
        pool = self.ask('add-pool', pool='B', gpus=[GPU_B, 'software'])['pool']
        self.assertEqual((pool['gpus'], pool['backend'], pool['source']), ([2, 4], 'mixed', 'registry'))
        self.fails('exists', 'pool B is there', 'add-pool', pool='B')
        self.fails('conflict', 'is in pool A', 'add-pool', pool='C', gpus=[0])
        self.fails('conflict', 'too old', 'add-pool', pool='C', gpus=[3])
        self.fails('not-found', 'no GPU 9', 'add-pool', pool='C', gpus=[9])
        self.fails('not-found', "no GPU 'GPU-x'", 'add-pool', pool='C', gpus=['GPU-x'])
        self.fails('not-found', 'no cuda GPU', 'add-pool', pool='C', backend='cuda')
        self.fails('invalid', 'backend', 'add-pool', pool='C', backend='metal')
        self.ask('add-pool', pool='C', backend='software')
        d = self.device(7, pool='C')
        self.assertEqual(self.vm(7)['gpu'], 5)
        self.assertEqual(self.arg_of(d, '--backend'), 'software')
        d.close()
        self.restart()
        self.assertEqual([(p['pool'], len(p['gpus'])) for p in self.ask('list-pools')['pools']],
                         [('A', 1), ('B', 2), ('C', 1), ('S', 1)])
        d = self.device(8, pool='B')
        self.assertIn(self.arg_of(d, '--backend'), ('software', 'cuda'))

    def arg_of(self, d, name):
        words = json.loads(self.ok(d.ask(say('args'))).data)
        return words[words.index(name) + 1]

    def test_k25_cuda_takes_the_rest_and_a_worker_gets_it(self):
        self.ask('add-pool', pool='B', backend='cuda')
        d = self.device(7, pool='B')
        self.assertEqual(self.arg_of(d, '--gpu'), GPU_B)

    def test_k25_room(self):
        self.ask('add-pool', pool='B', gpus=['software'] * 16)
        self.fails('conflict', 'has room for', 'add-pool', pool='C')
        self.fails('conflict', 'more than 16', 'assign-gpu', pool='B', gpu=2)
        self.ask('remove-pool', pool='B')
        self.ask('add-pool', pool='C', gpus=['software'] * 16)  # those places are free again

    def test_k26_remove(self):
        self.fails('not-found', 'no pool B', 'remove-pool', pool='B')
        self.fails('conflict', 'line', 'remove-pool', pool='A')
        self.ask('add-pool', pool='B', gpus=[2])
        self.ask('register-vm', vms=[9], pool='B')
        self.fails('conflict', 'vm 9 is registered in it', 'remove-pool', pool='B')
        self.ask('set-pool', vms=[9], pool='S')
        d = self.device(7, pool='B')
        self.fails('busy', 'vm 7', 'remove-pool', pool='B')
        d.close()
        wait_for('detached', lambda: self.ask('status')['links'] == 0)
        self.assertEqual(self.ask('remove-pool', pool='B')['removed'], 'B')
        self.assertIsNone(self.ask('list-gpus')['gpus'][2]['pool'])
        d = self.dialled(7)
        with self.assertRaises(link.Refused):
            d.attach(vm_id=7, pool='B')

    def test_k27_assign(self):
        result = self.ask('assign-gpu', pool='A', gpu=2)
        self.assertEqual((result['pool']['gpus'], result['gpu']['pool'], result['pool']['source']), ([0, 2], 'A', 'registry'))
        self.fails('exists', 'in pool A already', 'assign-gpu', pool='A', gpu=GPU_A)
        d = self.device(7, pool='A')
        on = self.vm(7)['gpu']
        self.open(d, 1)
        first = self.pid(d, 1)
        self.ask('assign-gpu', pool='B', gpu=on)
        v = self.vm(7)
        self.assertEqual((v['pool'], v['moving']), ('A', True))
        self.assertNotEqual(v['gpu'], on)
        self.assertEqual(self.pid(d, 1), first)
        self.fails('busy', 'last one of pool A', 'assign-gpu', pool='B', gpu=v['gpu'])
        self.assertEqual(self.ask('assign-gpu', pool='S', gpu='software')['pool']['gpus'], [1, 4])
        self.assertEqual([a['target'] for a in self.ask('audit')['audit'][1:3]], ['pool A', 'pool B'])
        d.close()
        self.restart()
        pools = {p['pool']: p for p in self.ask('list-pools')['pools']}
        self.assertEqual((len(pools['A']['gpus']), len(pools['B']['gpus']), len(pools['S']['gpus'])), (1, 1, 2))

    def test_k22_quota_over_the_card(self):
        self.ask('register-vm', vms=[7], pool='A', memory=80 * GIB)
        self.fails('invalid', 'more than the largest GPU of pool A has', 'set-quota', vms=[7], memory=81 * GIB)
        self.ask('register-vm', vms=[8], pool='S', memory=1000 * GIB)  # no card, no limit
        self.fails('invalid', 'pool A', 'set-pool', vms=[8], pool='A')

    def test_k32_drain_gpu(self):
        self.ask('assign-gpu', pool='A', gpu=2)
        d = self.device(7, pool='A')
        on = self.vm(7)['gpu']
        self.open(d, 1)
        first = self.pid(d, 1)
        gpu = self.ask('drain', gpu=on, reason='a new fan')['gpu']
        self.assertEqual((gpu['state'], gpu['reason']), ('draining', 'a new fan'))
        v = self.vm(7)
        self.assertEqual((v['moving'], v['gpu']), (True, 2 - on))
        self.assertEqual(self.pid(d, 1), first)
        self.open(d, 2)
        self.pid(d, 2)
        self.ask('drain', gpu=2 - on)
        response = d.ask(link.named(link.SESSION_OPEN, 3))
        self.assertEqual(response.error, 7)
        self.assertIn(b'drained', response.data)
        self.pid(d, 2)  # what runs runs on
        d.close()
        self.restart()
        self.assertEqual([g['state'] for g in self.ask('list-gpus')['gpus'] if g['pool'] == 'A'], ['draining'] * 2)  # K33
        self.ask('undrain', gpu=GPU_A)
        d = self.device(7, pool='A')
        self.ok(d.ask(say('pid')))
        self.assertEqual(self.arg_of(d, '--gpu'), '0')

    def test_k32_drain_pool_and_vm(self):
        d = self.device(7, pool='S')
        self.open(d, 1)
        self.pid(d, 1)
        self.assertTrue(self.ask('drain', pool='S', seconds=1)['pool']['draining'])
        self.assertEqual(d.ask(link.named(link.SESSION_OPEN, 2)).error, 7)
        self.pid(d, 1)
        wait_for('the end', lambda: not self.ask('list-pools')['pools'][1]['draining'])
        self.open(d, 2)
        self.assertEqual(self.ask('drain', vms=[7])['vms'][0]['state'], 'draining')
        response = d.ask(say_in(2, 'pid'))  # it has no worker yet
        self.assertEqual(response.error, 7)
        self.assertIn(b'vm 7 is being drained', response.data)
        self.pid(d, 1)
        self.ask('undrain', vms=[7])
        self.pid(d, 2)
        self.fails('not-found', 'no pool Q', 'drain', pool='Q')
        self.fails('invalid', 'one of gpu, pool and vms', 'drain')
        self.fails('invalid', 'one of gpu, pool and vms', 'drain', pool='S', gpu=0)
        self.fails('invalid', 'which of the software', 'drain', gpu='software')


class NoRegistry(Base):
    registry = False
    config = '[pool A]\ngpus = software\n'

    def test_k6_unsupported(self):
        self.fails('unsupported', 'registry = PATH', 'register-vm', vms=[7])
        self.fails('unsupported', 'registry = PATH', 'add-pool', pool='B')
        self.fails('unsupported', 'registry = PATH', 'audit')
        self.assertIsNone(self.ask('status')['registry']['path'])

    def test_k33_set_aside_all_the_same(self):
        d = self.device(7)
        self.ask('quarantine', vms=[7], seconds=1)
        self.quarantined(d.ask(say('pid')))
        wait_for('the end', lambda: self.vm(7)['state'] == 'attached')
        self.ok(d.ask(say('pid')))
        self.ask('drain', gpu=0)
        self.open_fails(d)
        self.ask('undrain', gpu=0)
        self.ask('quarantine', vms=[7])
        self.ask('release', vms=[7])
        self.open(d, 2)

    def open_fails(self, d):
        self.assertEqual(d.ask(link.named(link.SESSION_OPEN, 2)).error, 7)


if __name__ == '__main__':
    unittest.main()
