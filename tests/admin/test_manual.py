#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages and the completion say what the programs' own --help says, and can be read."""

import glob
import os
import re
import shutil
import subprocess
import unittest

from rig import ADMIN, BUILD, SOURCE, Case, run

COMPLETION = os.path.join(SOURCE, 'packaging', 'completion', 'vgpu-admin')
PROGRAMS = {'vgpu-admin.8': 'src/cli/vgpu-admin', 'vgpu-mediator.8': 'src/mediator/vgpu-mediator',
            'vgpu-worker.8': 'src/worker/vgpu-worker', 'vgpu-sim.1': 'src/cli/vgpu-sim', 'vgpu-info.1': 'src/cli/vgpu-info',
            'vgpu-bench.1': 'src/cli/vgpu-bench', 'vgpu-demo.1': 'src/cli/vgpu-demo', 'vgpu-guestd.8': 'src/guestd/vgpu-guestd',
            'vgpu-exporter.8': 'src/exporter/vgpu-exporter'}


def commands():
    """Each command with its options, by its own help."""
    found = {}
    for name in re.findall(r'^  ([a-z][a-z-]+)  ', run('--help').stdout, re.MULTILINE):
        if not name.startswith('--'):
            usage = run(name, '--help').stdout.partition('\n\n')[0]
            found[name] = set(re.findall(r'--[a-z-]+', usage))
    return found


def page_text(path):
    with open(path, encoding='utf-8') as f:
        return f.read().replace('\\-', '-').replace('\\fB', '').replace('\\fR', '').replace('\\fI', '').replace('\\fP', '')


class Pages(unittest.TestCase):
    def test_each_program_has_its_page(self):
        self.assertEqual({os.path.basename(p) for p in glob.glob(SOURCE + '/man/*.[1-8]')}, set(PROGRAMS))

    @unittest.skipUnless(shutil.which('groff'), 'no groff here')
    def test_they_format_without_a_warning(self):
        for page in PROGRAMS:
            done = subprocess.run(['groff', '-man', '-ww', '-Tutf8', '-z', os.path.join(SOURCE, 'man', page)],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            self.assertEqual((done.returncode, done.stdout), (0, ''), page)

    def test_they_have_the_sections_that_readers_look_for(self):
        for page in PROGRAMS:
            text = page_text(os.path.join(SOURCE, 'man', page))
            for section in ('NAME', 'SYNOPSIS', 'DESCRIPTION', 'EXIT STATUS', 'SEE ALSO'):
                self.assertIn('.SH %s\n' % section, text, page)
            self.assertRegex(text, r'\.SH NAME\n%s - \S' % page.split('.')[0])

    def test_every_option_of_every_program_is_there_and_no_other(self):
        for page, program in PROGRAMS.items():
            program = os.path.join(BUILD, program)
            if not os.path.exists(program):
                continue  # this build has other programs
            with self.subTest(page):
                done = subprocess.run([program, '--help'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                said = set(re.findall(r'--[a-z][a-z-]*', done.stdout)) | {'--help', '--version'}
                if page == 'vgpu-admin.8':
                    said |= set().union(*commands().values())
                told = set(re.findall(r'--[a-z][a-z-]*', page_text(os.path.join(SOURCE, 'man', page))))
                self.assertEqual(told, said)

    def test_every_command_of_vgpu_admin_has_its_options(self):
        text = page_text(os.path.join(SOURCE, 'man', 'vgpu-admin.8'))
        for name, options in commands().items():
            line = re.search(r'(?m)^(?:\.BI? )?%s( .*)?$' % name, text)
            self.assertTrue(line, name)
            self.assertEqual(set(re.findall(r'--[a-z-]+', line.group(0))), options, name)

    def test_exit_statuses_are_listed(self):
        text = page_text(os.path.join(SOURCE, 'man', 'vgpu-admin.8'))
        with open(os.path.join(SOURCE, 'src', 'cli', 'admin', 'admin.h')) as f:
            statuses = re.findall(r'ADMIN_[A-Z_]+ = (\d),', f.read())
        listed = re.findall(r'(?m)^\.TP\n\.B (\d)$', text)
        self.assertEqual(listed, statuses)


class Completion(Case):
    def complete(self, *words, control=True):
        """What bash offers for the last word."""
        script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vgpu_admin; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(['bash', '-c', script, 'bash', COMPLETION, ADMIN] + list(words), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=True, stdin=subprocess.DEVNULL,
                              env=dict(os.environ, VGPU_CONTROL=self.socket if control else '/none'))
        self.assertEqual(done.stderr, '')
        return set(done.stdout.split())

    def test_commands_and_options_are_those_of_the_help(self):
        said = commands()
        common = {'--control', '--registry', '--json', '--help'}
        self.assertEqual(self.complete(''), set(said) | common | {'--version'})
        for name, options in said.items():
            self.assertEqual(self.complete(name, ''), options | common, name)

    def test_parts_of_words(self):
        self.assertEqual(self.complete('set-p'), {'set-pool', 'set-priority'})
        self.assertEqual(self.complete('--json', 'set-priority', '--priority', 'm'), {'medium'})
        self.assertEqual(self.complete('--control', self.socket, 'top', '--sort', 'w'), {'wait'})

    def test_what_the_mediator_knows(self):
        self.assertEqual(self.complete('show-vm', '--vm-id', ''), {'1', '2', '3'})
        self.assertEqual(self.complete('set-weight', '--vm-id', '1,'), {'1,1', '1,2', '1,3'})
        self.assertEqual(self.complete('set-pool', '--pool', ''), {'A'})
        self.assertEqual(self.complete('drain', '--gpu', ''), {'software', '0'})
        self.assertEqual(self.complete('show-vm', '--vm-id', '', control=False), set())
        self.assertEqual(self.complete('--control', self.socket, 'show-vm', '--vm-id', '', control=False), {'1', '2', '3'})


if __name__ == '__main__':
    unittest.main()
