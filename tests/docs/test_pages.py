#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages against the tree: what they name exists, what exists is on them, and what a reader is told to type works.

docs/admin.md is typed by tests/admin/test_guide.py, man/ is read by tests/admin/test_manual.py, docs/metrics.md by
tests/exporter, the pictures of docs/scheduling.md by tests/sim."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.environ["VGPU_BUILD"]
SOURCE = os.environ["VGPU_SOURCE"]
ADMIN = os.path.join(BUILD, "src", "cli", "vgpu-admin")
MEDIATOR = os.path.join(BUILD, "src", "mediator", "vgpu-mediator")
COMMON = {"--json", "--control", "--registry", "--help", "--version"}


def read(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as f:
        return f.read()


def said(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60).stdout


def part(text, start, end):
    """What stands from `start` up to `end`; both must be there."""
    return text[text.index(start) + len(start):].split(end, 1)[0]


class Tree(unittest.TestCase):
    def test_links_paths_and_lines(self):
        """tools/check-docs finds nothing."""
        if not shutil.which("git") or subprocess.run(["git", "ls-files"], cwd=SOURCE, stdout=subprocess.DEVNULL,
                                                     stderr=subprocess.DEVNULL, timeout=60).returncode:
            self.skipTest("no git tree here, or not ours to read")
        done = subprocess.run([sys.executable, os.path.join(SOURCE, "tools", "check-docs")], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_check_docs_sees_what_is_wrong(self):
        """A tree with one mistake of each kind, and one without."""
        if not shutil.which("git"):
            self.skipTest("no git here")
        for page, wrong in (("[a](b.md#c-d)\n\n`src/x.c`\n", None), ("[a](none.md)\n", "no file none.md"),
                            ("[a](b.md#none)\n", "no heading b.md#none"), ("`src/none.c`\n", "no file src/none.c"),
                            ("![a](none.svg)\n", "no file none.svg"), ("x" * 161 + "\n", "161 characters"),
                            ("| step | file | function |\n| --- | --- | --- |\n| 1 | `src/x.c` | `f` |\n| 2 | | `g` |\n",
                             "no g in src/x.c")):
            with self.subTest(page[:40]), tempfile.TemporaryDirectory() as tree:
                for folder in ("tools", "src"):
                    os.mkdir(os.path.join(tree, folder))
                shutil.copy(os.path.join(SOURCE, "tools", "check-docs"), os.path.join(tree, "tools"))
                for name, text in (("src/x.c", "int f(void);\n"), ("b.md", "## C `d`\n"), ("a.md", page)):
                    with open(os.path.join(tree, name), "w", encoding="utf-8") as f:
                        f.write(text)
                subprocess.run("git init -q && git add .", shell=True, cwd=tree, check=True)
                done = subprocess.run([sys.executable, os.path.join(tree, "tools", "check-docs")], stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, timeout=60)
                self.assertEqual(done.returncode, 1 if wrong else 0, done.stdout)
                self.assertIn(wrong or "2 pages", done.stdout)

    def test_installed_headers_find_each_other(self):
        """A program outside of this tree has only those that are installed."""
        installed = set(re.findall(r"'vgpu/(\w+\.h)'", read("include", "meson.build")))
        self.assertIn("link.h", installed)
        for name in installed:
            wanted = set(re.findall(r'#include "vgpu/(\w+\.h)"', read("include", "vgpu", name)))
            self.assertEqual(wanted - installed, set(), name)

    def test_every_installed_program_has_a_manual_page(self):
        pages = {os.path.splitext(p)[0] for p in os.listdir(os.path.join(SOURCE, "man")) if re.search(r"\.[18]$", p)}
        programs = set()
        for folder, _, files in os.walk(os.path.join(SOURCE, "src")):
            if "meson.build" in files:
                found = re.findall(r"executable\('([\w-]+)'(.*?)\n(?=\S|\Z)", read(folder, "meson.build") + "\n", re.DOTALL)
                programs |= {name for name, rest in found if "install: true" in rest.split("\nexecutable")[0]}
        self.assertIn("vgpu-guestd", programs)
        self.assertEqual(programs - pages, set())


class Keys(unittest.TestCase):
    """Every key of a configuration is on its page, and no other."""

    @staticmethod
    def known(section):
        """By the mediator's own message about a key that it does not know."""
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
            config.write("[%s]\nnonsense = 1\n" % section)
            config.flush()
            return set(re.search(r"\(known: (.*)\)", said(MEDIATOR, "--config", config.name)).group(1).split())

    @staticmethod
    def rows(text):
        """The keys of a table: what is in backticks in its first column."""
        first = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        return set(re.findall(r"`(\w+)`", " ".join(first)))

    def test_of_the_mediator(self):
        page = part(read("docs", "mediator.md"), "## Configuration", "### Changing it")
        self.assertEqual(self.rows(part(page, "\n`[mediator]`", "\n`[pool A]`")), self.known("mediator"))
        self.assertEqual(self.rows(part(page, "\n`[pool A]`", "\n`[vm N]`")), self.known("pool A"))
        self.assertEqual(self.rows(part(page, "\n`[vm N]`", "\n`[limits]`")), self.known("vm 1") | self.known("local 1"))
        self.assertEqual(set(re.findall(r"`(\w+)` = ", part(page, "\n`[limits]`", "\n`[scheduler]`"))) |
                         set(re.findall(r"`(quarantine_window_s)`", page)), self.known("limits"))
        self.assertEqual(self.rows(page[page.index("\n`[scheduler]`"):]), self.known("scheduler"))

    def test_the_packaged_example_is_one(self):
        """Also with what it has behind a #."""
        example = read("packaging", "host", "mediator.conf")
        section, seen = "mediator", set()
        for line in example.splitlines():
            found = re.match(r"#?\[(\w+)( \w+)?\]$", line)
            if found:
                section = found.group(1) + (found.group(2) or "")
            found = re.match(r"#?(\w+) = ", line)
            if found:
                self.assertIn(found.group(1), self.known(section), line)
                seen.add(found.group(1))
        self.assertIn("quarantine_s", seen)

    def test_of_the_simulator(self):
        text = read("src", "sim", "scenario.c")
        known = set(re.findall(r'strcmp\(key, "(\w+)"\)', text)) | {"low", "medium", "high"}
        page = part(read("docs", "scheduling.md"), "A scenario is a file of sections", "\n\n")
        for key in known:
            self.assertRegex(page, r"`%s`" % key)
        for sample in set(re.findall(r"(?m)^(\w+) *=", "".join(
                read("src", "sim", "scenarios", s) for s in os.listdir(os.path.join(SOURCE, "src", "sim", "scenarios"))))):
            self.assertIn(sample, known)


@unittest.skipUnless(os.path.exists(ADMIN), "this build has no vgpu-admin")
class Admin(unittest.TestCase):
    def test_every_command_and_option_is_in_the_guide(self):
        """In its table of commands, and nothing else is."""
        table = part(read("docs", "admin.md"), "## Every command", "\n## ")
        rows = re.findall(r"^\| `([a-z-]+)(.*?)` \|", table, re.MULTILINE)
        told = {name: set(re.findall(r"--[a-z-]+", rest)) for name, rest in rows}
        names = re.findall(r"^  ([a-z][a-z-]+)  ", said(ADMIN, "--help"), re.MULTILINE)
        self.assertIn("set-quota", names)
        self.assertEqual(told, {name: set(re.findall(r"--[a-z-]+", said(ADMIN, name, "--help"))) - COMMON for name in names})
        for option in ("--control", "--registry", "--json"):
            self.assertIn("`%s" % option, table)


class Mediator:
    """With two pools and a registry; ends with the test."""

    def __init__(self, test):
        self.folder = tempfile.mkdtemp()
        test.addCleanup(shutil.rmtree, self.folder)
        self.control = os.path.join(self.folder, "control.sock")
        config = os.path.join(self.folder, "mediator.conf")
        with open(config, "w", encoding="utf-8") as f:
            f.write("[mediator]\ncontrol = %s\nregistry = %s/registry.db\n[pool A]\ngpus = software\n[pool B]\ngpus = software\n"
                    % (self.control, self.folder))
        self.log = open(os.path.join(self.folder, "log"), "w", encoding="utf-8")
        test.addCleanup(self.log.close)
        self.process = subprocess.Popen([MEDIATOR, "--config", config], stderr=self.log)
        test.addCleanup(self.process.wait)
        test.addCleanup(self.process.terminate)
        until = time.monotonic() + 60
        while self.admin("status").returncode:
            test.assertLess(time.monotonic(), until)
            time.sleep(0.05)

    def admin(self, *words, text=None):
        """By words, or as it stands in a page."""
        command = ["bash", "-c", text] if text else [ADMIN] + [str(w) for w in words]
        env = dict(os.environ, VGPU_CONTROL=self.control, PATH=os.path.dirname(ADMIN) + ":" + os.environ["PATH"])
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60, env=env)


@unittest.skipUnless(os.path.exists(ADMIN), "this build has no vgpu-admin")
class Readme(unittest.TestCase):
    """The screens of the README are what vgpu-admin prints; tests/admin/scene makes them."""

    def setUp(self):
        self.mediator = Mediator(self)
        for command in re.findall(r"^    (vgpu-admin (?:register-vm|set-weight) .*)$", read("tests", "admin", "scene"), re.MULTILINE):
            self.typed(command)
        names = re.search(r"for name in (.*); do", read("tests", "admin", "scene")).group(1).split()
        for vm, name in enumerate(names, 1):
            self.typed("vgpu-admin set-name %d %s" % (vm, name))

    def typed(self, command):
        done = self.mediator.admin(text=command)
        if "no registry" in done.stdout or "without SQLite" in done.stdout:
            self.skipTest("this build has no registry")
        self.assertEqual(done.returncode, 0, command + "\n" + done.stdout)
        return done.stdout

    @staticmethod
    def lasting(line):
        """A line of a table of VMs, without what depends on the time and on whether a VM runs: memory, GPU, programs."""
        words = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", line).split()
        if words[0] == "VM":
            return words
        return words[:6] + words[7:8] + [re.sub("^attached$", "detached", w) for w in words[10:]]

    def test_commands_and_list_vms(self):
        text = re.search(r"```\n(\$ vgpu-admin set-rate.*?)```", read("README.md"), re.DOTALL).group(1)
        steps = re.findall(r"(?m)^\$ (.*)\n((?:[^$\n].*\n)*)", text)
        self.assertEqual(steps[-1][0], "vgpu-admin list-vms")
        for command, shown in steps:
            printed = self.typed(command)
            self.assertEqual([self.lasting(s) for s in shown.splitlines()], [self.lasting(s) for s in printed.splitlines()], command)
        self.assertEqual(len(steps[-1][1].splitlines()), 11)

    def test_top(self):
        """The picture's title and columns."""
        shown = [re.sub(r"&amp;", "&", t) for t in re.findall(r"<text[^>]*>([^<]*)</text>", read("docs", "top.svg"))]
        printed = self.mediator.admin("top", "--batch", 1, "--interval", 0.1).stdout.splitlines()

        def words(line):
            return re.sub(r"\d+", "N", re.sub(r"\d+(ms|s|m|h)\b", "Ns", line)).split()
        self.assertEqual(words(shown[0]), words(printed[0]))
        header = next(line for line in printed if "PRIORITY" in line)
        # On a terminal the column sorted by stands out: in a piece of its own.
        columns = " ".join(shown).split()
        self.assertEqual(columns[columns.index("VM"):][:len(header.split())], header.split())
        self.assertTrue(any(t.startswith("GPU 1  B software:1") for t in shown))


class FirstProgram(unittest.TestCase):
    """docs/first-cuda-program.md, typed as it stands, but for apt-get, make and the VM."""

    def test_it_works(self):
        if not shutil.which("clang"):
            self.skipTest("no clang here: tools/setup test")
        page = read("docs", "first-cuda-program.md")
        blocks = re.findall(r"(?ms)^```\n(.*?)^```$", page)
        answer = next(b for b in blocks if " right\n" in b)
        typed = [b for b in blocks if re.match(r"clang |cc |mkdir ", b)]
        self.assertEqual(len(typed), 3)
        self.assertEqual([b for b in blocks if b not in typed and b != answer and not re.match(r"sudo |\.\./\.\./tools/vgpu-vm ", b)], [])
        if "asan" in os.path.basename(BUILD) or "tsan" in os.path.basename(BUILD):
            self.skipTest("a library with a sanitizer does not load into cc's own program")
        with tempfile.TemporaryDirectory() as tree:
            os.mkdir(os.path.join(tree, "docs"))
            here = os.path.join(tree, "docs", "first-cuda-program")
            shutil.copytree(os.path.join(SOURCE, "docs", "first-cuda-program"), here)
            os.symlink(BUILD, os.path.join(tree, "build"))
            os.symlink(os.path.join(SOURCE, "include"), os.path.join(tree, "include"))
            script = "".join(typed).replace("/tmp/vms", os.path.join(tree, "vms"))
            clean = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n"
            done = subprocess.run(["bash", "-e", "-m", "-c", clean + script], cwd=here, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=200)
            self.assertIn(answer.strip(), done.stdout, done.stderr)


if __name__ == "__main__":
    unittest.main()
