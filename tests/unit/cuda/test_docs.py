#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cuda-calls.md ends in the table that api/cuda.calls makes, and each rule of it is named by a test."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ["VGPU_SOURCE"]
PAGE = os.path.join(SOURCE, "docs", "cuda-calls.md")


class Page(unittest.TestCase):
    def test_table(self):
        with tempfile.TemporaryDirectory() as folder:
            table = os.path.join(folder, "table")
            subprocess.run([sys.executable, os.path.join(SOURCE, "api", "generate.py"), "table",
                            os.path.join(SOURCE, "api", "cuda.calls"), table], check=True)
            with open(table, encoding="utf-8") as made, open(PAGE, encoding="utf-8") as page:
                self.assertTrue(page.read().endswith(made.read()),
                                "bring the tables up to date: api/generate.py table api/cuda.calls FILE")

    def test_rules_are_tested(self):
        with open(PAGE, encoding="utf-8") as page:
            rules = set(re.findall(r"\*\*(C\d+)\.", page.read()))
        named = set()
        for name in os.listdir(os.path.join(SOURCE, "tests", "unit", "cuda")):
            if name.startswith("test_") and name != "test_docs.py":
                with open(os.path.join(SOURCE, "tests", "unit", "cuda", name), encoding="utf-8") as test:
                    named |= set(re.findall(r"\bC\d+\b", test.read()))
        self.assertEqual(rules - named, set())
        self.assertGreaterEqual(len(rules), 17)


if __name__ == "__main__":
    unittest.main()
