#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/admin.md: every command in its `sh` blocks works, one after the other in one shell, as the page says."""

import json
import os
import re
import shutil
import subprocess
import sys
import unittest

from rig import ADMIN, BUILD, SOURCE, run

GUIDE = os.path.join(SOURCE, 'docs', 'admin.md')


def guide():
    with open(GUIDE, encoding='utf-8') as f:
        return f.read()


def blocks():
    return re.findall(r'(?ms)^```sh\n(.*?)^```$', guide())


class Guide(unittest.TestCase):
    def test_it_works_from_top_to_bottom(self):
        """As typed, but for the folder of the build, and the mediator ends also when a command fails."""
        script = '\n'.join(blocks()).replace('$PWD/build', BUILD)
        if not shutil.which('sqlite3'):
            script = script.replace('sqlite3 ', 'sqlite ').replace(
                'export PATH', 'sqlite() { python3 -c "import sqlite3, sys\n'
                'sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2].split()[1]))" "$@"; }\nexport PATH', 1)
        clean = "trap 'status=$?; kill $(jobs -p) 2>/dev/null || true; wait || true; rm -rf \"$try\"; exit $status' EXIT\n"
        done = subprocess.run(['bash', '-euxc', 'vms=\n' + clean + script], cwd=SOURCE, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=200)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        out = done.stdout
        for line in ('A     software  0       0  file      ok', 'B     software  1 2     0  registry  ok'):
            self.assertIn(line, guide())
            self.assertIn(line, out)
        shares = [float(s) for s in re.findall(r'(?m)^ +\d+ .* (\d+\.\d)% +\d+\.\d% .*attached', out)]
        self.assertGreater(max(shares), 1, 'nobody worked:\n' + out)
        self.assertRegex(out, r'(?m)^ 6 .* quarantined until .*: endless kernels$')
        self.assertRegex(out, r'(?m)^  1  software:1 .*draining')
        last = out[out.rindex('VM  NAME'):]
        self.assertEqual([int(n) for n in re.findall(r'(?m)^ *(\d+) ', last)], list(range(1, 10)), last)
        self.assertRegex(last, r'(?m)^ 2 .* A +high +100 ')
        self.assertRegex(last, r'(?m)^ 5 .* B +high +100 ')

    def test_exit_statuses_are_those_of_the_help(self):
        text = re.sub(r'\s+', ' ', guide())
        said = re.search(r'Exit statuses are stable: (.*?)\.', text).group(1)
        self.assertEqual(re.findall(r'\d', said), list('0123456789'))

    def test_every_command_of_the_guide_exists(self):
        known = set(re.findall(r'(?m)^  ([a-z][a-z-]+)  ', run('--help').stdout))
        for name in re.findall(r'vgpu-admin (?:--registry \S+ )?([a-z-]+)', guide()):
            self.assertIn(name, known)


if __name__ == '__main__':
    unittest.main()
