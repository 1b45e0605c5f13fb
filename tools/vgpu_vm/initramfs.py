# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the guest's file system: a newc archive in memory, with files at the paths they have on
the host.

Owns: the archive's format, and which files a program needs to run. Refuses to know what runs it.
"""

import os
import re
import shutil
import stat
import struct
import subprocess

from .errors import SetupError

EM_X86_64 = 62
ET_EXEC, ET_DYN = 2, 3
PT_DYNAMIC, PT_INTERP = 2, 3
DEFAULT_LOADER = '/lib64/ld-linux-x86-64.so.2'
# The loader finds libraries here without a cache of its own.
DEFAULT_LIBRARY_DIRS = (
    '/lib/x86_64-linux-gnu/',
    '/usr/lib/x86_64-linux-gnu/',
    '/lib64/',
    '/usr/lib64/',
    '/lib/',
    '/usr/lib/',
)
MACHINES = {
    3: '32-bit x86',
    40: '32-bit Arm',
    183: '64-bit Arm',
    243: 'RISC-V',
    21: '64-bit PowerPC',
    22: 'S/390',
}


class Archive:
    """Entries by path. Folders on the way are made; a symbolic link on the way is copied and
    followed, as on the host.
    """

    def __init__(self):
        self.entries = {}  # path without leading slash -> (mode, data, rdev)

    def add(self, path, mode, data=b'', rdev=(0, 0)):
        self.entries[path.strip('/')] = (mode, data, rdev)

    def add_dir(self, path):
        if path.strip('/') and path.strip('/') not in self.entries:
            self.add_parents(path)
            self.add(path, stat.S_IFDIR | 0o755)

    def add_parents(self, path):
        parts = path.strip('/').split('/')[:-1]
        for i in range(len(parts)):
            parent = '/'.join(parts[: i + 1])
            if parent not in self.entries:
                self.add(parent, stat.S_IFDIR | 0o755)

    def add_file(self, path, data, mode=0o644):
        self.add_parents(path)
        self.add(path, stat.S_IFREG | mode, data)

    def add_link(self, path, target):
        self.add_parents(path)
        self.add(path, stat.S_IFLNK | 0o777, os.fsencode(target))

    def resolve(self, path, depth=0):
        """Copy the symbolic links that lead to `path` on the host; the real path."""
        if depth > 40:
            raise SetupError('%s: too many symbolic links: name the file itself' % path)
        walked = ''
        parts = [p for p in path.split('/') if p]
        for i, part in enumerate(parts):
            here = walked + '/' + part
            if os.path.islink(here):
                target = os.readlink(here)
                self.add_link(here, target)
                rest = '/'.join([target] + parts[i + 1 :])
                return self.resolve(
                    os.path.normpath(rest if target.startswith('/') else walked + '/' + rest),
                    depth + 1,
                )
            walked = here
        return walked or '/'

    def copy(self, path):
        """Copy a file of the host to the same path, through whatever links lead there; the real
        path.
        """
        real = self.resolve(os.path.abspath(path))
        if real.strip('/') not in self.entries:
            try:
                with open(real, 'rb') as stream:
                    data = stream.read()
                    mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            except OSError as error:
                raise SetupError('cannot copy %s into the VM: %s' % (path, error.strerror))
            self.add_file(real, data, mode)
        return real

    def write(self, out):
        """Write the archive to a binary file."""
        inode = 0
        for path in sorted(self.entries):
            mode, data, rdev = self.entries[path]
            inode += 1
            write_entry(out, inode, os.fsencode(path), mode, data, rdev)
        write_entry(out, 0, b'TRAILER!!!', 0, b'', (0, 0))


def write_entry(out, inode, name, mode, data, rdev):
    header = '070701' + '%08X' * 13 % (
        inode,
        mode,
        0,
        0,
        1,
        0,
        len(data),
        0,
        0,
        rdev[0],
        rdev[1],
        len(name) + 1,
        0,
    )
    head = header.encode() + name + b'\0'
    out.write(head + b'\0' * (-len(head) % 4))
    out.write(data)
    out.write(b'\0' * (-len(data) % 4))


def elf_info(path):
    """(machine, interpreter or None, is dynamic) of an ELF file, or None if it is none."""
    with open(path, 'rb') as stream:
        head = stream.read(64)
        if len(head) < 52 or head[:4] != b'\x7fELF':
            return None
        machine = struct.unpack_from('<H', head, 18)[0]
        if head[4] != 2 or len(head) < 64 or machine != EM_X86_64:
            return machine, None, False
        kind = struct.unpack_from('<H', head, 16)[0]
        offset = struct.unpack_from('<Q', head, 32)[0]
        size, count = struct.unpack_from('<HH', head, 54)
        interpreter, dynamic = None, False
        for i in range(count if size >= 56 and kind in (ET_EXEC, ET_DYN) else 0):
            stream.seek(offset + i * size)
            raw = stream.read(56)
            if len(raw) < 56:
                break
            p_type, _, p_offset, _, _, p_filesz = struct.unpack_from('<IIQQQQ', raw)
            if p_type == PT_DYNAMIC:
                dynamic = True
            elif p_type == PT_INTERP and p_filesz < 4096:
                stream.seek(p_offset)
                interpreter = os.fsdecode(stream.read(p_filesz).split(b'\0')[0])
        return machine, interpreter, dynamic


def libraries(path, interpreter, env):
    """The libraries the loader would load for a program: it is asked itself, so that it cannot be
    second-guessed.
    """
    loader = interpreter or DEFAULT_LOADER
    if not os.access(loader, os.X_OK):
        raise SetupError(
            '%s wants the loader %s, which is not installed: install its libc, or link it '
            'statically'
            % (path, loader)
        )
    asked = {k: v for k, v in os.environ.items() if not k.startswith('LD_')}
    for name in ('LD_LIBRARY_PATH', 'LD_PRELOAD'):
        if name in env:
            asked[name] = env[name]
    result = subprocess.run(
        [loader, '--list', path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=asked,
    )
    text = os.fsdecode(result.stdout)
    missing = re.findall(r'^\s*(\S+) => not found', text, re.MULTILINE)
    missing += re.findall(r'while loading shared libraries: (\S+):', text)
    if missing:
        raise SetupError(
            '%s needs %s, which is not found: build or install it, or point LD_LIBRARY_PATH to it '
            'with --env'
            % (path, ', '.join(sorted(set(missing))))
        )
    if result.returncode != 0:
        raise SetupError('cannot list the libraries of %s: %s' % (path, text.strip()))
    found = re.findall(r'=> (/\S.*?) \(0x[0-9a-f]+\)', text) + re.findall(
        r'^\s*(/\S.*?) \(0x[0-9a-f]+\)', text, re.MULTILINE
    )
    return sorted(set(found))


def add_program(archive, path, env):
    """Copy a file and, when it is a program or library, all that it needs to run."""
    real = archive.copy(path)
    info = elf_info(real)
    if info is None:
        return
    machine, interpreter, dynamic = info
    if machine != EM_X86_64:
        raise SetupError(
            '%s is for %s, the VM is 64-bit x86: build it for x86_64'
            % (path, MACHINES.get(machine, 'machine %d' % machine))
        )
    if not dynamic or (interpreter is None and '.so' not in os.path.basename(real)):
        return  # static
    found = libraries(real, interpreter, env)
    for library in found + [interpreter or DEFAULT_LOADER]:
        archive.copy(library)
    strange = [f for f in found if not f.startswith(DEFAULT_LIBRARY_DIRS)]
    if strange and os.path.exists('/etc/ld.so.cache'):
        # Found through the cache perhaps; the guest's loader then needs it as well.
        archive.copy('/etc/ld.so.cache')


def script_interpreter(path):
    """The interpreter a script names in its first line, or None."""
    with open(path, 'rb') as stream:
        first = stream.read(256).split(b'\n')[0]
    if not first.startswith(b'#!'):
        return None
    words = first[2:].split()
    return os.fsdecode(words[0]) if words else None


def find_busybox():
    """A statically linked busybox and the names it answers to."""
    for path in ('/bin/busybox', '/usr/bin/busybox', shutil.which('busybox')):
        if path and os.access(path, os.X_OK):
            info = elf_info(os.path.realpath(path))
            if info and not info[2] or info and info[1] is None:
                listed = subprocess.run(
                    [path, '--list'], stdout=subprocess.PIPE, universal_newlines=True
                ).stdout
                return path, listed.split()
    raise SetupError(
        'no static busybox on this machine: run tools/setup test, or install busybox-static'
    )


def base_archive(init):
    """What every guest has: the init program, folders, a console, and busybox under all its names.
    """
    archive = Archive()
    archive.resolve('/bin')
    archive.resolve('/lib')
    archive.resolve('/lib64')
    for folder in (
        '/bin',
        '/dev',
        '/etc',
        '/proc',
        '/root',
        '/run',
        '/sys',
        '/tmp',
        '/usr/bin',
        '/var/tmp',
    ):
        archive.add_dir(os.path.realpath(folder) if os.path.islink(folder) else folder)
    archive.add('dev/console', stat.S_IFCHR | 0o600, rdev=(5, 1))
    archive.add_file('init', init, 0o755)
    archive.add_file(
        'etc/passwd', b'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n'
    )
    archive.add_file('etc/group', b'root:x:0:\nnogroup:x:65534:\n')
    busybox, names = find_busybox()
    with open(busybox, 'rb') as stream:
        archive.add_file('usr/bin/busybox', stream.read(), 0o755)
    for name in names:
        archive.add_link('usr/bin/' + name, 'busybox') if name != 'busybox' else None
    if 'bin' not in archive.entries or not stat.S_ISLNK(archive.entries['bin'][0]):
        archive.add_link('bin/sh', '../usr/bin/busybox')
    return archive, set(names)
