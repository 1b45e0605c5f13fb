# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides between KVM and TCG. A /dev/kvm may exist and still be unable to boot a guest, so it is
tried, once.

Owns: the trial and its verdict, kept in the cache until this machine restarts. Refuses to know what
the VM is for.
"""

import fcntl
import hashlib
import json
import os
import platform
import time

from . import paths
from .errors import SetupError, VMError

# KVM boots the guest in about a second. One that needs longer than this would not beat TCG.
TRIAL_S = 6
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01


def arguments(name):
    """QEMU's arguments. -cpu max with TCG: -cpu host exists with KVM only."""
    if name == 'kvm':
        return ['-accel', 'kvm', '-cpu', 'host']
    return ['-accel', 'tcg,thread=multi', '-cpu', 'max']


def verdict_path(binary):
    """One file per boot of this machine, kernel and QEMU (its path: a QEMU built anew is as good
    with KVM as before).
    """
    try:
        with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as stream:
            boot = stream.read().strip()
    except OSError:
        boot = ''
    key = '\0'.join([boot, platform.release(), os.path.realpath(binary)])
    return os.path.join(
        paths.cache('vm'), 'kvm-%s.json' % hashlib.sha256(key.encode()).hexdigest()[:16]
    )


def recall(binary):
    """True or False as tried before, None if it was not."""
    try:
        with open(verdict_path(binary), encoding='utf-8') as stream:
            return bool(json.load(stream)['works'])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(binary, works):
    path = verdict_path(binary)
    temporary = '%s.%d' % (path, os.getpid())
    with open(temporary, 'w', encoding='utf-8') as out:
        json.dump({'works': works, 'kernel': platform.release()}, out)
    os.replace(temporary, path)


def kvm_opens(device):
    """Whether a VM can be made at all; None if it can, else why not. Costs nothing."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return '%s: %s' % (device, error.strerror)
    try:
        if fcntl.ioctl(fd, KVM_GET_API_VERSION, 0) != 12:
            return '%s speaks another version of the interface' % device
        os.close(fcntl.ioctl(fd, KVM_CREATE_VM, 0))
    except OSError as error:
        return '%s cannot make a VM: %s' % (device, error.strerror)
    finally:
        os.close(fd)
    return None


def kvm_boots(image, log):
    """Boot a guest that does nothing; None if that works, else why not."""
    from .machine import VM  # it needs this module to start a VM

    started = time.monotonic()
    try:
        with VM(
            ['true'],
            device=False,
            accel='kvm',
            kernel=image,
            boot_timeout_s=TRIAL_S,
            timeout_s=TRIAL_S,
        ) as vm:
            vm.start()
            status = vm.wait()
    except VMError as error:
        return error.text
    log('KVM booted a guest in %.2f s' % (time.monotonic() - started))
    return None if status == 0 else 'the trial guest ended with status %d' % status


def choose(wanted, binary, image, log):
    """'kvm' or 'tcg'. image: the kernel to try with. log: called with a line for a person."""
    if wanted == 'auto':
        wanted = os.environ.get('VGPU_VM_ACCEL', 'auto')
    if wanted in ('kvm', 'tcg'):
        return wanted
    if wanted != 'auto':
        raise SetupError("accelerator '%s' is none of auto, kvm, tcg" % wanted)
    device = os.environ.get('VGPU_VM_KVM', '/dev/kvm')
    why = kvm_opens(device)
    if why is None:
        with paths.locked('kvm'):
            works = recall(binary)
            if works is None:
                why = kvm_boots(image, log)
                works = why is None
                remember(binary, works)
            else:
                why = 'tried before'
        if works:
            log('using KVM')
            return 'kvm'
    log('using TCG, KVM does not work here (%s)' % why)
    return 'tcg'
