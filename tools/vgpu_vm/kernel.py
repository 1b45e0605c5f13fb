# SPDX-License-Identifier: GPL-2.0-or-later
"""Gets the guest's kernel: Debian's cloud kernel, taken out of its package, not installed, and the
modules that hand a PCI device to a program (VFIO).

Owns: the download, and unpacking vmlinux from bzImage (QEMU enters it directly, and the guest need
not decompress it, which costs a third of a second without KVM). Refuses to know what the kernel is
told on its command line.
"""

import bz2
import glob
import gzip
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile

from . import paths
from .errors import SetupError

META_PACKAGE = 'linux-image-cloud-amd64'
# In the order in which they are loaded; a kernel may have some of them built in.
MODULES = (
    'irqbypass',
    'iommufd',
    'vfio_virqfd',
    'vfio',
    'vfio_iommu_type1',
    'vfio-pci-core',
    'vfio-pci',
)


def run(args, cwd=None, data=None):
    """A command's standard output, or None."""
    try:
        result = subprocess.run(
            args,
            cwd=cwd,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, LC_ALL='C.UTF-8'),
        )
    except OSError:
        return None
    return result.stdout if result.returncode == 0 else None


def decompress(data):
    """What the kernel's own decompressor would yield; None for a format that cannot be read here.
    """
    try:
        if data[:2] == b'\x1f\x8b':
            return gzip.decompress(data)
        if data[:6] == b'\xfd7zXZ\0' or data[:3] == b'\x5d\0\0':
            return lzma.LZMADecompressor().decompress(data)
        if data[:3] == b'BZh':
            return bz2.BZ2Decompressor().decompress(data)
    except (OSError, EOFError, lzma.LZMAError):
        return None
    if data[:4] == b'\x28\xb5\x2f\xfd':
        return run(['zstd', '-dc'], data=data)
    if data[:4] == b'\x02\x21\x4c\x18':
        return run(['lz4', '-dc'], data=data)
    return None


def extract_vmlinux(image):
    """The ELF kernel inside a bzImage (x86 boot protocol 2.08 or later), or None."""
    if image[:4] == b'\x7fELF':
        return image
    if len(image) < 0x260 or image[0x202:0x206] != b'HdrS':
        return None
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from('<II', image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    # The payload ends in its unpacked size, which no format but gzip knows about.
    payload = image[start : start + length]
    kernel = decompress(payload[:-4]) or decompress(payload)
    return kernel if kernel and kernel[:4] == b'\x7fELF' else None


def cloud_package():
    """The package that the cloud kernel's meta package stands for now."""
    text = run(['apt-cache', 'depends', '--no-recommends', '--no-suggests', META_PACKAGE])
    match = re.search(
        r'Depends: (linux-image-\S*cloud\S*)', (text or b'').decode('utf-8', 'replace')
    )
    if not match:
        raise SetupError(
            'apt knows no package %s: run apt-get update, or give a kernel with --kernel FILE'
            % META_PACKAGE
        )
    return match.group(1)


def fetch(folder):
    """Download the kernel package into the cache and leave vmlinux (or vmlinuz) in `folder`."""
    package = cloud_package()
    work = tempfile.mkdtemp(prefix='kernel-', dir=paths.cache('vm'))
    try:
        # apt's own user cannot enter every home directory.
        run(['apt-get', '-qq', '-o', 'APT::Sandbox::User=root', 'download', package], cwd=work)
        debs = glob.glob(os.path.join(glob.escape(work), '*.deb'))
        if len(debs) != 1 or run(['dpkg-deb', '-x', debs[0], os.path.join(work, 'x')]) is None:
            raise SetupError(
                'cannot download %s: check the network (and apt-get update), or give a kernel with '
                '--kernel FILE' % package
            )
        images = glob.glob(os.path.join(glob.escape(work), 'x', 'boot', 'vmlinuz-*'))
        if len(images) != 1:
            raise SetupError(
                'package %s holds %d kernels: give one with --kernel FILE' % (package, len(images))
            )
        store(images[0], work)
        store_modules(os.path.join(work, 'x'), os.path.join(work, 'modules'))
        os.makedirs(folder, exist_ok=True)
        shutil.rmtree(os.path.join(folder, 'modules'), ignore_errors=True)
        os.rename(os.path.join(work, 'modules'), os.path.join(folder, 'modules'))
        for name in ('vmlinux', 'vmlinuz'):
            if os.path.exists(os.path.join(work, name)):
                os.replace(os.path.join(work, name), os.path.join(folder, name))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def store(image_path, folder):
    """Put the kernel into `folder` in the form that boots fastest."""
    with open(image_path, 'rb') as stream:
        image = stream.read()
    kernel = extract_vmlinux(image)
    with open(os.path.join(folder, 'vmlinux' if kernel else 'vmlinuz'), 'wb') as out:
        out.write(kernel or image)


def store_modules(tree, folder):
    """Put the modules that MODULES names into `folder`, not compressed, named after their place in
    that order.
    """
    os.makedirs(folder)
    for parent, _, names in os.walk(tree):
        for name in names:
            stem, dot, rest = name.partition('.ko')
            if not dot or stem not in MODULES:
                continue
            with open(os.path.join(parent, name), 'rb') as stream:
                data = stream.read()
            data = decompress(data) if rest else data
            if not data:
                raise SetupError('cannot unpack the kernel module %s: install zstd' % name)
            path = os.path.join(folder, '%d-%s.ko' % (MODULES.index(stem), stem))
            with open(path, 'wb') as out:
                out.write(data)


def modules():
    """Paths of the modules for VFIO that belong to the cloud kernel, in the order in which a guest
    loads them.
    """
    folder = paths.cache('vm', 'kernel')
    find()
    with paths.locked('kernel'):
        if not os.path.isdir(os.path.join(folder, 'modules')):
            fetch(folder)  # a cache from before there were any: the kernel comes with them
        names = sorted(os.listdir(os.path.join(folder, 'modules')))
    return [os.path.join(folder, 'modules', name) for name in names]


def find(named=None):
    """Path of the kernel to boot: the one named, or the cloud kernel, downloaded when the cache has
    none.
    """
    if named:
        if not os.access(named, os.R_OK):
            raise SetupError(
                'cannot read the kernel %s: name a readable vmlinuz or vmlinux with --kernel'
                % named
            )
        return os.path.abspath(named)
    folder = paths.cache('vm', 'kernel')
    with paths.locked('kernel'):
        for attempt in (0, 1):
            for name in ('vmlinux', 'vmlinuz'):
                if os.path.exists(os.path.join(folder, name)):
                    return os.path.join(folder, name)
            if attempt == 0:
                fetch(folder)
    raise SetupError('no kernel in %s after a download: remove the folder and try again' % folder)
