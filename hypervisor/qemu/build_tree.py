# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the vgpu-stub device into a QEMU source tree.

Owns: which of our files go where in the tree, and the three lines QEMU's build needs to hear of
them. The lines go in by looking for the place, not by a context diff, so one script serves every
QEMU from 5.2 on. Refuses to know how the tree got there or how it is built.

    hw/vgpu/vgpu-*.[ch], trace-events                   from hypervisor/qemu/
    hw/vgpu/src/device/*.[ch]                           from src/device/
    hw/vgpu/include/vgpu/*.h                            from include/vgpu/
    hw/vgpu/meson.build, Kconfig, trace.h               written here
"""

import glob
import os
import re


class TreeError(Exception):
    """A tree or a set of sources this script cannot work with."""


GLUE = ('vgpu-stub.c', 'vgpu-window.c', 'vgpu-window.h', 'vgpu-compat.h', 'trace-events')

KCONFIG = '''# Written by hypervisor/qemu/build of vgpu.
config VGPU_STUB
    bool
    default y if PCI_DEVICES
    depends on PCI && MSI_NONBROKEN
'''

TRACE_H = '#include "trace/trace-hw_vgpu.h"\n'

MESON = '''# Written by hypervisor/qemu/build of vgpu.
vgpu_include = declare_dependency(
  include_directories: include_directories('include', 'src', 'src/device'))
%(set)s.add(when: 'CONFIG_VGPU_STUB', if_true: [vgpu_include, files(
%(files)s
)])
'''


def read(path):
    with open(path, encoding='utf-8') as stream:
        return stream.read()


def write_if_changed(path, text):
    """Leave an unchanged file its time stamp: ninja then has nothing to do. True if written."""
    try:
        if read(path) == text:
            return False
    except OSError:
        pass
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as stream:
        stream.write(text)
    return True


def device_sources(root, allow_missing=False):
    """Our files as {path below hw/vgpu: text}; includes the glue, the device model and the
    contracts.
    """
    here = os.path.join(root, 'hypervisor', 'qemu')
    files = {}
    for name in GLUE:
        path = os.path.join(here, name)
        if os.path.exists(path):
            files[name] = read(path)
        elif not allow_missing:
            raise TreeError('%s is missing: this checkout is not whole' % path)
    for folder, target, patterns in (
        ('src/device', 'src/device', ('*.c', '*.h')),
        ('include/vgpu', 'include/vgpu', ('*.h',)),
    ):
        for pattern in patterns:
            for path in sorted(
                glob.glob(os.path.join(glob.escape(os.path.join(root, folder)), pattern))
            ):
                files['%s/%s' % (target, os.path.basename(path))] = read(path)
    return files


def insert_line(path, anchor, line):
    """Put `line` in front of the first line that `anchor` matches, with its indentation; once."""
    text = read(path)
    if re.search(r'^\s*' + re.escape(line) + r'$', text, re.MULTILINE):
        return
    match = re.search(r'^([ \t]*)' + anchor + r'$', text, re.MULTILINE)
    if not match:
        raise TreeError(
            '%s has no line like %s: this QEMU is laid out in a way that the script does not know'
            % (path, anchor)
        )
    write_if_changed(
        path, text[: match.start()] + match.group(1) + line + '\n' + text[match.start() :]
    )


def insert(tree, root, allow_missing=False):
    """Install or refresh the device in a QEMU tree. Files of ours that are gone from the checkout
    go from the tree.
    """
    files = device_sources(root, allow_missing)
    whole = 'vgpu-stub.c' in files
    target = os.path.join(tree, 'hw', 'vgpu')
    # QEMU 8.1 renamed the set of sources shared by the system emulators.
    newer = 'system_ss' in read(os.path.join(tree, 'hw', 'misc', 'meson.build'))
    if whole:
        sources = sorted(f for f in files if f.endswith('.c'))
        files['meson.build'] = MESON % {
            'set': 'system_ss' if newer else 'softmmu_ss',
            'files': '\n'.join("  '%s'," % f for f in sources),
        }
    else:
        files['meson.build'] = '# Written without the device, for a trial of the build itself.\n'
        files.setdefault('trace-events', '')
    files['Kconfig'] = KCONFIG
    files['trace.h'] = TRACE_H
    for path, text in files.items():
        write_if_changed(os.path.join(target, path), text)
    for directory, _, names in os.walk(target):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.relpath(path, target) not in files:
                os.unlink(path)
    insert_line(os.path.join(tree, 'hw', 'meson.build'), r"subdir\('virtio'\)", "subdir('vgpu')")
    insert_line(
        os.path.join(tree, 'hw', 'Kconfig'), r'source virtio/Kconfig', 'source vgpu/Kconfig'
    )
    insert_line(os.path.join(tree, 'meson.build'), r"'hw/virtio',", "'hw/vgpu',")


def kconfig_symbols(tree):
    """Every symbol the tree's Kconfig files define; QEMU refuses a configuration that names
    another.
    """
    symbols = set()
    for directory, folders, names in os.walk(tree):
        folders[:] = [f for f in folders if f not in ('build', 'roms', 'tests', 'docs', '.git')]
        for name in names:
            if name.startswith('Kconfig'):
                symbols.update(
                    re.findall(r'^config (\w+)', read(os.path.join(directory, name)), re.MULTILINE)
                )
    return symbols
