# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU without a guest: processors that never run, and a test that plays what they would do.

Owns: starting and ending QEMU, its qtest and QMP sockets, and the little of PCI that a firmware would do (configuration
space, BARs, MSI-X). Refuses to know what the registers mean. Standard library only.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

TIMEOUT_S = 60

COMMAND, COMMAND_MEMORY, COMMAND_MASTER = 0x04, 0x2, 0x4
CAP_EXPRESS, CAP_MSIX = 0x10, 0x11
BAR0_AT, BAR4_AT = 0xE0000000, 0xE0100000
BAR2_AT = 0x800000000
RAM_AT = 0x200000  # any page of the guest's memory
ECAM_AT = 0xB0000000


class QemuError(Exception):
    """QEMU ended, or refused something."""


class Sock:
    """Lines over a Unix socket that we listen on."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(1)
        self.sock = None
        self.buffer = b''

    def accept(self, alive):
        self.listener.settimeout(0.2)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self.sock = self.listener.accept()[0]
                self.sock.settimeout(TIMEOUT_S)
                return
            except socket.timeout:
                if not alive() or time.monotonic() > deadline:
                    raise QemuError('QEMU did not start')

    def close(self):
        for sock in (self.listener, self.sock):
            if sock:
                sock.close()

    def line(self):
        while b'\n' not in self.buffer:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b''
            if not data:
                raise QemuError('QEMU ended')
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return line.decode()


class Qemu:
    """One QEMU with a link at self.link_path. `device`: options of the vgpu-stub, None for no device."""

    def __init__(self, machine='q35', device='', args=(), bus='', chardev=True, slot=4):
        self.folder = tempfile.mkdtemp(prefix='vgpu-qtest-')
        self.link_path = os.path.join(self.folder, 'link')
        self.log_path = os.path.join(self.folder, 'log')
        self.slot = slot
        self.events = []
        self.process = None
        self.qtest = self.monitor = None
        try:
            self._start(machine, device, args, bus, chardev)
        except BaseException:
            self.close()
            raise

    def _start(self, machine, device, args, bus, chardev):
        self.qtest = Sock(os.path.join(self.folder, 'qtest'))
        self.monitor = Sock(os.path.join(self.folder, 'qmp'))
        command = [os.environ['VGPU_QEMU'], '-nodefaults', '-display', 'none', '-machine', machine + ',accel=qtest',
                   '-L', os.path.join(os.path.dirname(os.environ['VGPU_QEMU']), 'pc-bios'), '-m', '64', '-S',
                   '-qtest', 'unix:' + os.path.join(self.folder, 'qtest'), '-qtest-log', '/dev/null',
                   '-qmp', 'unix:' + os.path.join(self.folder, 'qmp')]
        if chardev:
            command += ['-chardev', 'socket,id=link,path=%s,server=on,wait=off' % self.link_path]
        command += args
        if device is not None:
            command += ['-device', self.device_option(device, bus, chardev)]
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        alive = lambda: self.process.poll() is None  # noqa: E731
        try:
            self.qtest.accept(alive)
            self.monitor.accept(alive)
            self.monitor.line()
            self.qmp('qmp_capabilities')
        except (QemuError, BrokenPipeError):
            status = self.process.wait(TIMEOUT_S)
            raise QemuError('exit status %d: %s' % (status, self.log())) from None

    def device_option(self, options='', bus='', chardev=True):
        return 'vgpu-stub,id=gpu%s%s%s' % (',chardev=link' if chardev else '',
                                           ',bus=' + bus if bus else ',addr=%02x.0' % self.slot,
                                           ',' + options if options else '')

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        """End QEMU; whatever happened before, nothing of it is left."""
        if self.process:
            self.process.kill()
            self.process.wait()
        for sock in (self.qtest, self.monitor):
            if sock:
                sock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as stream:
            return stream.read()

    def wait_log(self, text):
        wait_for(lambda: text in self.log(), 'the log to say %r; it says %r' % (text, self.log()))

    def alive(self):
        return self.process.poll() is None

    def open_fds(self):
        return len(os.listdir('/proc/%d/fd' % self.process.pid))

    def cpu_ticks(self):
        """What its processor time has been, in clock ticks."""
        with open('/proc/%d/stat' % self.process.pid, encoding='ascii') as stream:
            fields = stream.read().rsplit(')', 1)[1].split()
        return int(fields[11]) + int(fields[12])

    # QMP

    def qmp(self, execute, **arguments):
        self.monitor.sock.sendall(json.dumps({'execute': execute, 'arguments': arguments}).encode() + b'\n')
        while True:
            answer = json.loads(self.monitor.line())
            if 'event' in answer:
                self.events.append(answer)
            elif 'error' in answer:
                raise QemuError(answer['error']['desc'])
            else:
                return answer['return']

    def wait_event(self, name):
        """Events come between answers: ask something until it is there."""
        def seen():
            self.qmp('query-status')
            return any(e['event'] == name for e in self.events)
        wait_for(seen, 'event ' + name)

    def property(self, name, device='gpu'):
        return self.qmp('qom-get', path='/machine/peripheral/' + device, property=name)

    # qtest

    def ask(self, command):
        self.qtest.sock.sendall(command.encode() + b'\n')
        while True:
            answer = self.qtest.line().split()
            if answer[0] == 'IRQ':
                continue
            if answer[0] != 'OK':
                raise QemuError('%s: %s' % (command, ' '.join(answer)))
            return int(answer[1], 16) if len(answer) > 1 else None

    def post(self, commands):
        """Many commands at once, their answers read afterwards."""
        self.qtest.sock.sendall(''.join(c + '\n' for c in commands).encode())
        for command in commands:
            if not self.qtest.line().startswith('OK'):
                raise QemuError(command)

    def read(self, address, size=4):
        return self.ask('read%s 0x%x' % ({1: 'b', 2: 'w', 4: 'l', 8: 'q'}[size], address))

    def write(self, address, value, size=4):
        self.ask('write%s 0x%x 0x%x' % ({1: 'b', 2: 'w', 4: 'l', 8: 'q'}[size], address, value))

    # PCI

    def config_read(self, offset, size=4, slot=None, bus=0):
        self.ask('outl 0xcf8 0x%x' % (0x80000000 | bus << 16 | (self.slot if slot is None else slot) << 11 |
                                      (offset & 0xFC)))
        return self.ask('in%s 0x%x' % ({1: 'b', 2: 'w', 4: 'l'}[size], 0xCFC + (offset & 3)))

    def config_write(self, offset, value, size=4, slot=None, bus=0):
        self.ask('outl 0xcf8 0x%x' % (0x80000000 | bus << 16 | (self.slot if slot is None else slot) << 11 |
                                      (offset & 0xFC)))
        self.ask('out%s 0x%x 0x%x' % ({1: 'b', 2: 'w', 4: 'l'}[size], 0xCFC + (offset & 3), value))

    def capability(self, wanted, **where):
        """The offset of a capability, 0 when the function has none."""
        at = self.config_read(0x34, 1, **where)
        for _ in range(48):
            if at == 0 or self.config_read(at, 1, **where) == wanted:
                return at
            at = self.config_read(at + 1, 1, **where)
        raise QemuError('the list of capabilities has no end')

    def map(self, **where):
        """What a firmware does: addresses for the BARs, memory and bus mastering on."""
        self.config_write(0x10, BAR0_AT, **where)
        self.config_write(0x18, BAR2_AT & 0xFFFFFFFF, **where)
        self.config_write(0x1C, BAR2_AT >> 32, **where)
        self.config_write(0x20, BAR4_AT, **where)
        self.config_write(COMMAND, COMMAND_MEMORY | COMMAND_MASTER, 2, **where)

    def aim_vector(self, vector, address, data, masked=0):
        for i, word in enumerate((address & 0xFFFFFFFF, address >> 32, data, masked)):
            self.write(BAR4_AT + 16 * vector + 4 * i, word)

    def enable_msix(self, address=RAM_AT, data=0xC0FFEE, **where):
        self.aim_vector(0, address, data)
        self.config_write(self.capability(CAP_MSIX, **where) + 2, 0x8000, 2, **where)

    def function_level_reset(self):
        at = self.capability(CAP_EXPRESS)
        self.config_write(at + 8, self.config_read(at + 8, 2) | 0x8000, 2)

    def enable_ecam(self):
        """Configuration space as memory, as a q35 firmware sets it up."""
        self.config_write(0x64, 0, slot=0)
        self.config_write(0x60, ECAM_AT | 1, slot=0)


def wait_for(condition, what, timeout=TIMEOUT_S):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError('waited %d s for %s' % (timeout, what))
        time.sleep(0.01)


def qemu_version():
    shown = subprocess.run([os.environ['VGPU_QEMU'], '--version'], stdout=subprocess.PIPE, universal_newlines=True)
    return tuple(int(n) for n in shown.stdout.split('version ')[1].split()[0].split('.')[:2])


def le(data):
    return int.from_bytes(data, 'little')


def words(*values):
    return struct.pack('<%dI' % len(values), *values)


def main():
    """Run the tests of the calling script; 77 when there is no QEMU to test."""
    qemu = os.environ.get('VGPU_QEMU', '')
    if not os.path.exists(qemu):
        print('SKIP: no QEMU with the device at %s: run hypervisor/qemu/build' % (qemu or '$VGPU_QEMU'))
        sys.exit(77)
    unittest.main(module='__main__', verbosity=2)
