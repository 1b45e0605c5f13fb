#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vgpu-admin's command line against a server made from docs/control.md: requests, answers, exit statuses, bad input."""

import json
import os
import re
import subprocess
import unittest

from fake_control import vm_object
from rig import (ADMIN, BUSY, CONFLICT, DENIED, FAILED, NO_MEDIATOR, NOT_FOUND, OK, STORAGE, UNSUPPORTED, USAGE, Case,
                 run)
from terminal import Terminal

# A command line, and the request that docs/control.md has for it.
REQUESTS = [
    ('status', {'op': 'status'}),
    ('list-vms', {'op': 'list-vms'}),
    ('list-pools', {'op': 'list-pools'}),
    ('list-gpus', {'op': 'list-gpus'}),
    ('show-vm --vm-id 2', {'op': 'show-vm', 'vm': 2}),
    ('show-vm 2', {'op': 'show-vm', 'vm': 2}),
    ('events --limit 5 --since 7', {'op': 'events', 'limit': 5, 'since': 7}),
    ('audit --limit 3 --before 9', {'op': 'audit', 'limit': 3, 'before': 9}),
    ('register-vm --vm-id 8-10', {'op': 'register-vm', 'vms': [8, 9, 10]}),
    ('register-vm 20 --name db --pool A --priority high --weight 200 --rate 30% --burst-ms 20 --memory 2G --sessions 4 '
     '--queue 64',
     {'op': 'register-vm', 'vms': [20], 'name': 'db', 'pool': 'A', 'priority': 'high', 'weight': 200, 'rate': '30%',
      'burst_ms': 20, 'memory': 2 << 30, 'sessions': 4, 'queue': 64}),
    ('set-name 1 front', {'op': 'set-name', 'vms': [1], 'name': 'front'}),
    ('set-pool --vm-id 1-3 --pool A', {'op': 'set-pool', 'vms': [1, 2, 3], 'pool': 'A'}),
    ('set-pool 1 default', {'op': 'set-pool', 'vms': [1], 'pool': None}),
    ('set-priority 1,3 low', {'op': 'set-priority', 'vms': [1, 3], 'priority': 'low'}),
    ('set-weight --vm-id=2 --weight=7', {'op': 'set-weight', 'vms': [2], 'weight': 7}),
    ('set-weight 2 default', {'op': 'set-weight', 'vms': [2], 'weight': None}),
    ('set-rate 2 12.5%', {'op': 'set-rate', 'vms': [2], 'rate': '12.5%'}),
    ('set-rate 2 default --burst-ms 5', {'op': 'set-rate', 'vms': [2], 'rate': None, 'burst_ms': 5}),
    ('set-quota 2 --memory 512M', {'op': 'set-quota', 'vms': [2], 'memory': 512 << 20}),
    ('set-quota 2 --sessions 3 --queue default', {'op': 'set-quota', 'vms': [2], 'sessions': 3, 'queue': None}),
    ('add-pool B', {'op': 'add-pool', 'pool': 'B'}),
    ('add-pool C --backend cuda', {'op': 'add-pool', 'pool': 'C', 'backend': 'cuda'}),
    ('add-pool D --gpus software,0,GPU-x', {'op': 'add-pool', 'pool': 'D', 'gpus': ['software', 0, 'GPU-x']}),
    ('remove-pool B', {'op': 'remove-pool', 'pool': 'B'}),
    ('assign-gpu --pool A --gpu 0', {'op': 'assign-gpu', 'pool': 'A', 'gpu': 0}),
    ('assign-gpu A software:0', {'op': 'assign-gpu', 'pool': 'A', 'gpu': 'software:0'}),
    ('quarantine 1-2 --seconds 15m --reason loud', {'op': 'quarantine', 'vms': [1, 2], 'seconds': 900, 'reason': 'loud'}),
    ('quarantine 3', {'op': 'quarantine', 'vms': [3]}),
    ('quarantine 3 --seconds forever', {'op': 'quarantine', 'vms': [3], 'seconds': None}),
    ('release 3', {'op': 'release', 'vms': [3]}),
    ('drain --gpu 0 --seconds 90', {'op': 'drain', 'gpu': 0, 'seconds': 90}),
    ('undrain --gpu 0', {'op': 'undrain', 'gpu': 0}),
    ('drain --pool A', {'op': 'drain', 'pool': 'A'}),
    ('undrain --pool A', {'op': 'undrain', 'pool': 'A'}),
    ('drain --vm-id 1-2 --seconds 2h', {'op': 'drain', 'vms': [1, 2], 'seconds': 7200}),
    ('undrain --vm-id 1-2', {'op': 'undrain', 'vms': [1, 2]}),
    ('remove-vm 8-10', {'op': 'remove-vm', 'vms': [8, 9, 10]}),
    ('remove-vm 1 --force', {'op': 'remove-vm', 'vms': [1], 'force': True}),
]

# What is wrong, and words of the message.
MISTAKES = [
    ('', 'usage:'),
    ('no-such', "no command 'no-such'"),
    ('list-vms extra', "'extra' is one word too many"),
    ('list-vms --no-such', "no option '--no-such'"),
    ('show-vm', '--vm-id N is missing'),
    ('show-vm x', "--vm-id 'x' is not a number from 0 to 4294967295"),
    ('show-vm 1 2', "'2' is one word too many"),
    ('set-weight 1', '--weight N is missing'),
    ('set-weight 1 0', "--weight '0' is not a number from 1 to 10000, or 'default'"),
    ('set-weight 1 5 --weight 6', '--weight is said twice'),
    ('set-weight --weight 6 --vm-id', '--vm-id needs a value'),
    ('set-rate 1 30', "--rate '30' is not a share above 0% and up to 100%"),
    ('set-rate 1 0%', 'is not a share above 0%'),
    ('set-rate 1 101%', 'is not a share above 0%'),
    ('set-quota 1', 'at least one of these options: memory sessions queue'),
    ('set-quota 1 --memory 65T', "--memory '65T' is not a number of bytes"),
    ('set-quota 1 --memory -1', 'is not a number of bytes'),
    ('set-quota 1 --sessions 1025', 'is not a number from 1 to 1024'),
    ('set-pool 1 a', "--pool 'a' is not a letter from A to Z"),
    ('set-priority 1 urgent', 'is not low, medium or high'),
    ('register-vm 1-2 --name x', '--name is for one VM, and these are 2'),
    ('register-vm 1 --name \x1b[2J', 'without control characters'),
    ('register-vm 1 --name ' + 'x' * 65, 'a text of up to 64 bytes'),
    ('add-pool B --backend rocm', 'is not software or cuda'),
    ('add-pool B --gpus 0,,1', 'is not a list of GPUs'),
    ('drain', 'exactly one of these options: gpu pool vm-id'),
    ('drain --gpu 0 --pool A', 'exactly one of these options'),
    ('quarantine 1 --seconds 366d', 'is not a time from 1 second to a year'),
    ('quarantine 1 --seconds 5w', 'is not a time'),
    ('remove-vm 1 --force=yes', '--force takes no value'),
    ('events --limit 0', 'is not a number from 1 to 1000'),
    ('top --interval x', "--interval 'x' is not a number"),
    ('top --batch 0', "--batch '0' is not a number"),
    ('top --batch 1 --sort colour', "--sort 'colour' is not vm, name"),
    ('--control', '--control needs a path'),
]

RANGES = [
    ('7', [7]),
    ('8-11', [8, 9, 10, 11]),
    ('8-10,25,3', [8, 9, 10, 25, 3]),
    ('5-5', [5]),
    ('0,4294967295', [0, 4294967295]),
    ('1-4096', list(range(1, 4097))),
]
BAD_RANGES = [
    ('', 'is missing at'), ('x', 'is missing at'), ('-3', 'is missing at'), ('3-', 'has no end'), ('9-3', 'is empty'),
    ('1,,2', 'is missing at'), ('1,2,', 'is missing at'), ('1-4097', 'more than 4096'),
    ('1-4000,5000-5100', 'more than 4096'), ('5-9,7', 'VM 7 stands in it twice'), ('4294967296', 'is missing at'),
    ('0-4294967295', 'more than 4096'), ('1 2', 'is no part of a list'), ('1-2-3', 'is no part of a list'),
    ('99999999999999999999', 'is missing at'), ('1\x1b[2J', 'is no part of a list'),
]


class Requests(Case):
    def test_each_command_asks_what_the_page_says(self):
        """K10 to K32: names and types of fields."""
        for line, want in REQUESTS:
            with self.subTest(line):
                done = self.admin(*line.split(), status=OK if line != 'x' else None)
                self.assertEqual(self.asked(), want)
                self.assertTrue(done.stdout.strip() or line.startswith(('events', 'audit')), 'it said nothing')

    def test_every_command_stands_in_the_table_above(self):
        said = {line.split()[0] for line, _ in REQUESTS}
        help_text = run('--help').stdout
        commands = set(re.findall(r'^  ([a-z][a-z-]+)  ', help_text, re.MULTILINE))
        self.assertEqual(commands - said, {'top', 'doctor'})

    def test_json_is_the_result_alone(self):
        for line, want in REQUESTS:
            with self.subTest(line):
                got = self.json(*line.split())
                self.assertIsInstance(got, dict)
        self.assertEqual(self.json('show-vm', 2)['vm']['name'], 'web-2')
        self.assertEqual([v['vm'] for v in self.json('list-vms')['vms']], sorted(self.server.vms))

    def test_options_may_stand_anywhere(self):
        self.admin('set-weight', '--json', '--weight', 3, '--control', self.socket, '1', env={'VGPU_CONTROL': '/none'})
        self.assertEqual(self.asked(), {'op': 'set-weight', 'vms': [1], 'weight': 3})

    def test_help_of_each_command_names_its_options(self):
        for line, _ in REQUESTS:
            name = line.split()[0]
            text = run(name, '--help').stdout
            for option in re.findall(r'--[a-z-]+', line):
                self.assertIn(option, text, name)
        self.assertIn('usage: vgpu-admin', run('--help').stdout)
        self.assertRegex(run('--version').stdout, r'^vgpu-admin \d')


class Mistakes(Case):
    def test_each_is_named_and_nothing_is_asked(self):
        for line, words in MISTAKES:
            with self.subTest(line):
                done = self.admin(*line.split(), status=USAGE)
                self.assertIn(words, done.stderr)
                self.assertNotIn('\x1b', done.stderr)
        self.assertEqual(self.server.requests, [])

    def test_ranges(self):
        for text, want in RANGES:
            with self.subTest(text):
                self.server.script = [b'{"id": 1, "ok": true, "result": {"vms": []}}\n']
                self.admin('quarantine', '--vm-id=' + text)
                self.assertEqual(self.asked()['vms'], want)

    def test_bad_ranges(self):
        for text, words in BAD_RANGES:
            with self.subTest(text):
                done = self.admin('quarantine', '--vm-id=' + text, status=USAGE)
                self.assertIn(words, done.stderr)
                self.assertNotIn('\x1b', done.stderr)
        self.assertEqual(self.server.requests, [])

    def test_json_carries_the_error(self):
        e = self.json('set-weight', 1, 0, status=USAGE)['error']
        self.assertEqual(e['code'], 'usage')
        self.assertIn("--weight '0'", e['message'])


class Failures(Case):
    CODES = [('invalid', USAGE), ('not-found', NOT_FOUND), ('exists', CONFLICT), ('denied', DENIED), ('busy', BUSY),
             ('conflict', CONFLICT), ('storage', STORAGE), ('unsupported', UNSUPPORTED), ('internal', FAILED),
             ('something-new', FAILED)]

    def test_exit_status_of_each_code(self):
        """K6, and the manual's list."""
        for code, status in self.CODES:
            with self.subTest(code):
                answer = {'id': 1, 'ok': False, 'error': {'code': code, 'message': 'vm 1: no, and why'}}
                self.server.script = [json.dumps(answer).encode() + b'\n'] * 2
                self.assertEqual(self.admin('set-weight', 1, 2, status=status).stderr, 'vgpu-admin: vm 1: no, and why\n')
                self.assertEqual(self.json('set-weight', 1, 2, status=status)['error'],
                                 {'code': code, 'message': 'vm 1: no, and why'})

    def test_what_the_server_refuses(self):
        self.admin('show-vm', 99, status=NOT_FOUND)
        self.admin('register-vm', 1, status=CONFLICT)
        self.admin('remove-vm', 1, status=BUSY)
        self.admin('remove-pool', 'A', status=CONFLICT)
        self.server.storage = 'the disk is full'
        self.assertIn('the disk is full', self.admin('set-weight', 1, 2, status=STORAGE).stderr)
        self.server.storage = None
        self.server.status['may_change'] = False
        self.admin('set-weight', 1, 2, status=DENIED)

    def test_nobody_there(self):
        for env in ({'VGPU_CONTROL': self.socket + '.not'}, {'VGPU_CONTROL': self.folder}):
            done = self.admin('list-vms', status=NO_MEDIATOR, env=env)
            self.assertIn(env['VGPU_CONTROL'], done.stderr)
        self.server.close()
        self.server = None
        self.admin('list-vms', status=NO_MEDIATOR)
        self.admin('top', '--batch', 1, status=NO_MEDIATOR)
        self.admin('events', '--follow', status=NO_MEDIATOR)

    def test_path_too_long(self):
        self.assertIn('107 bytes', self.admin('--control', '/' + 'x' * 200, 'status', status=USAGE).stderr)

    def test_refused_before_asking(self):
        """K4 and K5: an answer with id null, then the end."""
        for code, status in (('busy', BUSY), ('denied', DENIED)):
            answer = {'id': None, 'ok': False, 'error': {'code': code, 'message': 'no'}}
            self.server.script = [json.dumps(answer).encode() + b'\n']
            self.admin('status', status=status)

    def test_answers_that_are_none(self):
        cases = [(None, NO_MEDIATOR, 'closed the connection'), (b'hello\n', FAILED, 'no mediator'),
                 (b'[1]\n', FAILED, 'no mediator'), (b'{"id": 1, "ok": true}\n', FAILED, 'no result'),
                 (b'\x1b[2J\xff\n', FAILED, 'no mediator'), (b'{' * 200 + b'\n', FAILED, 'no mediator'),
                 (b'{"id": 1, "ok": false}\n', FAILED, 'no reason')]
        for said, status, words in cases:
            with self.subTest(said):
                self.server.script = [said]
                done = self.admin('status', status=status)
                self.assertIn(words, done.stderr)
                self.assertNotIn('\x1b', done.stderr)

    def test_results_of_other_shapes_do_no_harm(self):
        for result in ('{}', '{"vms": 7}', '{"vms": [1, null, []], "vm": [], "pools": [[]], "gpus": ["x"], "audit": [0]}',
                       '{"vm": {"vm": "x", "rate": 5, "memory": -1}, "vms": [{"vm": null, "name": 3}]}'):
            for line in ('status', 'list-vms', 'show-vm 1', 'list-pools', 'list-gpus', 'audit', 'events', 'set-weight 1 2',
                         'remove-vm 1', 'add-pool B', 'drain --gpu 0'):
                self.server.script = [b'{"id": 1, "ok": true, "result": %s}\n' % result.encode()]
                self.admin(*line.split())


class Output(Case):
    def test_names_of_others_cannot_command_the_terminal(self):
        self.server.vms[1].update(name='a\x1b[2J\x9bb\x7f', reason='\u009b31m')
        for words in (['list-vms'], ['show-vm', 1], ['top', '--batch', 1, '--interval', 0.1],
                      ['--json', 'list-vms'], ['--json', 'top', '--batch', 1, '--interval', 0.1]):
            out = self.admin(*words).stdout
            self.assertNotRegex(out, '[\x00-\x09\x0b-\x1f\x7f-\x9f]')

    def test_a_pipe_gets_whole_lines(self):
        self.server.vms[1].update(state='quarantined', reason='r' * 300)
        self.assertIn('r' * 200, self.admin('list-vms').stdout)

    def test_a_narrow_terminal_cuts(self):
        self.server.vms[1].update(name='n' * 60, state='quarantined', reason='r' * 100)
        for columns in (120, 80, 60, 40, 20):
            with self.subTest(columns):
                t = Terminal([ADMIN, 'list-vms'], rows=30, columns=columns, env={'VGPU_CONTROL': self.socket})
                try:
                    self.assertEqual(t.wait(), OK)
                    lines = t.raw.decode().replace('\r', '').splitlines()
                    self.assertEqual(len(lines), 4)
                    self.assertLessEqual(max(map(len, lines)), columns)
                    self.assertTrue(lines[0].lstrip().startswith('VM'))
                    self.assertIn('attached' if columns > 20 else 'atta', lines[2])
                finally:
                    t.close()

    def test_wide_characters_line_up(self):
        self.server.vms[1]['name'] = '日本'
        out = self.admin('list-vms', env={'LC_ALL': 'C.UTF-8'}).stdout.splitlines()
        self.assertEqual(out[1].index('A') + 2, out[2].index(' A ') + 1)

    def test_a_full_disk_is_an_error(self):
        with open('/dev/full', 'w') as full:
            done = subprocess.run([ADMIN, 'list-vms'], env=dict(os.environ, VGPU_CONTROL=self.socket), stdout=full,
                                  stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, FAILED)
        self.assertIn(b'could not be written', done.stderr)


class Follow(Case):
    def follow(self, *words):
        return subprocess.Popen([ADMIN, 'events', '--follow'] + list(words), stdout=subprocess.PIPE,
                                env=dict(os.environ, VGPU_CONTROL=self.socket), text=True)

    def test_events_come_as_they_happen(self):
        """K14."""
        self.admin('set-weight', 1, 5)
        p = self.follow('--limit', '10')
        self.assertIn('set-weight vm 1', p.stdout.readline())
        self.admin('set-weight', 2, 6)
        line = p.stdout.readline()
        self.assertIn('set-weight vm 2', line)
        self.assertIn('change', line)
        p.terminate()
        p.wait()
        p.stdout.close()

    def test_json_lines(self):
        self.admin('set-weight', 1, 5)
        p = self.follow('--json')
        self.assertEqual(json.loads(p.stdout.readline())['vm'], 1)
        self.admin('set-weight', 2, 6)
        self.assertEqual(json.loads(p.stdout.readline())['vm'], 2)
        p.terminate()
        p.wait()
        p.stdout.close()

    def test_the_mediators_end_is_the_end(self):
        p = self.follow()
        while not self.server.followers:
            pass
        self.server.close()
        self.server = None
        self.assertEqual(p.wait(60), NO_MEDIATOR)
        p.stdout.close()

    def test_a_reader_that_leaves_is_the_end(self):
        p = self.follow()
        p.stdout.close()
        while p.poll() is None:
            self.admin('set-weight', 1, 5)
        self.assertEqual(p.returncode, FAILED)


class Large(Case):
    def test_four_thousand_vms(self):
        for n in range(4, 4097):
            self.server.vms[n] = vm_object(n, registered=True)
        self.assertEqual(len(self.admin('list-vms').stdout.splitlines()), 4097)
        self.assertEqual(len(self.json('set-weight', '1-4096', 2)['vms']), 4096)


if __name__ == '__main__':
    unittest.main()
