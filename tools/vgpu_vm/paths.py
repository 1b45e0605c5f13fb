# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the runner finds things: the cache, QEMU, the programs of this project. Refuses to know how
they are made.
"""

import contextlib
import fcntl
import os
import shutil

from .errors import SetupError

PACKAGE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(PACKAGE))


def cache(*parts):
    """A folder below the cache ($VGPU_CACHE, default .cache of the checkout), made if need be."""
    path = os.path.join(os.environ.get('VGPU_CACHE') or os.path.join(ROOT, '.cache'), *parts)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise SetupError(
            'cannot make the cache folder %s (%s): set VGPU_CACHE to one you can write'
            % (path, error.strerror)
        )
    return path


@contextlib.contextmanager
def locked(name):
    """Hold a lock in the cache: what is made once is made by one process, the others wait for it.
    """
    with open(os.path.join(cache('vm'), name + '.lock'), 'w', encoding='utf-8') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def qemu():
    """The QEMU to run: $VGPU_QEMU, or the one that hypervisor/qemu/build made."""
    named = os.environ.get('VGPU_QEMU')
    path = named or os.path.join(ROOT, '.cache', 'qemu', 'current', 'qemu-system-x86_64')
    if os.access(path, os.X_OK):
        return path
    if named and named != os.path.join(ROOT, '.cache', 'qemu', 'current', 'qemu-system-x86_64'):
        raise SetupError(
            'VGPU_QEMU names %s, which is no program: correct it, or unset it to use our own' % path
        )
    raise SetupError(
        'no QEMU with vgpu-stub at %s: run hypervisor/qemu/build (make demo and make test do)'
        % path
    )


def firmware(binary):
    """The firmware folder that belongs to a QEMU, or None for the one it was built with."""
    beside = os.path.join(os.path.dirname(binary), 'pc-bios')
    return beside if os.path.exists(os.path.join(beside, 'bios-256k.bin')) else None


def project_program(name, variable, folder):
    """One of the project's programs: from the environment, the build folder, or installed; None if
    nowhere.
    """
    named = os.environ.get(variable)
    if named:
        if not os.access(named, os.X_OK):
            raise SetupError(
                '%s names %s, which is no program: correct or unset it' % (variable, named)
            )
        return os.path.abspath(named)
    builds = (
        [os.environ['VGPU_BUILD']]
        if os.environ.get('VGPU_BUILD')
        else [os.path.join(ROOT, 'build')]
    )
    for build in builds:
        path = os.path.join(build, folder, name)
        if os.access(path, os.X_OK):
            return os.path.abspath(path)
    for place in ('/usr/local/libexec/vgpu', '/usr/libexec/vgpu', '/usr/local/sbin', '/usr/sbin'):
        if os.access(os.path.join(place, name), os.X_OK):
            return os.path.join(place, name)
    return shutil.which(name)


def cuda_library():
    """The guest's libcuda.so.1: from the build folder that guests get their programs from, or installed; None if
    nowhere.
    """
    build = (
        os.environ.get('VGPU_GUEST_BUILD')
        or os.environ.get('VGPU_BUILD')
        or os.path.join(ROOT, 'build')
    )
    places = [os.path.join(build, 'src', 'guest', 'cuda')]
    for prefix in ('/usr/local', '/usr'):
        places += [prefix + '/lib/x86_64-linux-gnu/vgpu', prefix + '/lib/vgpu', prefix + '/lib64/vgpu']
    for place in places:
        path = os.path.join(place, 'libcuda.so.1')
        if os.path.exists(path):
            return os.path.abspath(path)
    return None
