# SPDX-License-Identifier: GPL-2.0-or-later
"""What one VM has inside: the program, its files, and how to run it. Refuses to know the archive's
format and the VM.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile

from . import initramfs, paths
from .errors import SetupError

CONFIG = '/.vgpu-vm/'
GUEST_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'


def init_program():
    """The guest's first process, compiled once."""
    source = os.path.join(paths.PACKAGE, 'guest_init.c')
    with open(source, 'rb') as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()[:12]
    target = os.path.join(paths.cache('vm'), 'init-' + digest)
    if not os.path.exists(target):
        compiler = shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')
        if not compiler:
            raise SetupError(
                'no C compiler to build the guest init program with: run tools/setup test'
            )
        with tempfile.TemporaryDirectory(dir=paths.cache('vm')) as work:
            made = os.path.join(work, 'init')
            result = subprocess.run(
                [compiler, '-O2', '-static', '-s', '-o', made, source],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                universal_newlines=True,
            )
            if result.returncode != 0:
                raise SetupError(
                    'cannot compile %s (is libc6-dev installed?): %s'
                    % (source, result.stdout.strip())
                )
            os.replace(made, target)
    with open(target, 'rb') as stream:
        return stream.read()


def find_program(name, applets):
    """(what to execute in the guest, the file to copy there or None)."""
    if '/' not in name:
        if name in applets:
            return '/usr/bin/' + name, None
        found = shutil.which(name)
        if not found:
            raise SetupError(
                "no program '%s' in PATH, and busybox has none of that name: give its path" % name
            )
        name = found
    if not os.path.exists(name):
        raise SetupError('%s does not exist: build it, or correct the path' % name)
    if not os.path.isfile(name):
        raise SetupError('%s is not a file: name a program' % name)
    if not os.access(name, os.X_OK):
        raise SetupError('%s is not executable: run chmod +x on it' % name)
    return os.path.abspath(name), os.path.abspath(name)


def build(argv, copies, env):
    """The archive for one run. argv: bytes; copies: paths; env: {name: value}."""
    archive, applets = initramfs.base_archive(init_program())
    environment = {'PATH': GUEST_PATH, 'HOME': '/root', 'TERM': 'dumb', 'LANG': 'C.UTF-8'}
    environment.update(env)
    for name in environment:
        if not name or '=' in name:
            raise SetupError("'%s' is no name for an environment variable: use NAME=VALUE" % name)
    cuda = paths.cuda_library()
    if cuda:
        # Before what the host may have of NVIDIA's: that one would look for a card.
        folders = [os.path.dirname(cuda), environment.get('LD_LIBRARY_PATH')]
        environment['LD_LIBRARY_PATH'] = ':'.join(f for f in folders if f)
    path, source = find_program(os.fsdecode(argv[0]), applets)
    if cuda:
        initramfs.add_program(archive, cuda, environment)
    for copy in copies:
        if not os.path.exists(copy):
            raise SetupError('%s does not exist: correct the path given with --copy' % copy)
        if os.path.isdir(copy):
            raise SetupError('%s is a folder: name the files in it with one --copy each' % copy)
        initramfs.add_program(archive, copy, environment)
    if source:
        initramfs.add_program(archive, source, environment)
        interpreter = initramfs.script_interpreter(source)
        if interpreter:
            if os.path.basename(interpreter) not in applets:
                if not os.path.exists(interpreter):
                    raise SetupError(
                        '%s wants the interpreter %s, which does not exist: correct its first line'
                        % (source, interpreter)
                    )
                initramfs.add_program(archive, interpreter, environment)
    cwd = os.getcwd()
    archive.add_dir(archive.resolve(cwd))
    archive.add_file(CONFIG + 'argv', b''.join(a + b'\0' for a in [os.fsencode(path)] + argv))
    archive.add_file(
        CONFIG + 'env',
        b''.join(os.fsencode('%s=%s' % item) + b'\0' for item in environment.items()),
    )
    archive.add_file(CONFIG + 'cwd', os.fsencode(cwd) + b'\0')
    return archive
