#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/cuda-calls.md ends in the table that api/cuda.calls makes, each rule of it is named by a test, and each call's
version is one that NVIDIA's headers know, where they are installed."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ["VGPU_SOURCE"]
TYPEDEFS = "/usr/local/cuda/include/cudaTypedefs.h"
sys.path.insert(0, os.path.join(SOURCE, "api"))

import calls as description  # noqa: E402

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

    def test_no_newer_version_is_missing(self):
        """C6: what cuGetProcAddress finds for a newer CUDA is not less than what an older one gets."""
        newest = {}
        for call in description.load(os.path.join(SOURCE, "api", "cuda.calls")):
            if call.exported:
                newest.setdefault(re.sub(r"_v\d+$", "", call.name), []).append((call.since, call.form))
        for base, versions in newest.items():
            forms = [form for _, form in sorted(versions)]
            self.assertFalse(forms[-1] == "none" and set(forms) != {"none"}, base)

    @unittest.skipUnless(os.path.exists(TYPEDEFS), "NVIDIA's cudaTypedefs.h is not installed")
    def test_versions(self):
        """C6: a version that is wrong here would hand out the wrong function."""
        known = {}
        with open(TYPEDEFS, encoding="utf-8", errors="replace") as header:
            for name, version in re.findall(r"\*PFN_(cu\w+?)_v(\d+)(?:_ptds|_ptsz)?\)", header.read()):
                known.setdefault(name, set()).add(int(version))
        calls = [c for c in description.load(os.path.join(SOURCE, "api", "cuda.calls")) if c.exported]
        compared = 0
        for call in calls:
            base = re.sub(r"_v\d+$", "", call.name)
            if base in known:
                self.assertIn(call.since, known[base], call.name)
                compared += 1
        self.assertGreater(compared, 300)


if __name__ == "__main__":
    unittest.main()
