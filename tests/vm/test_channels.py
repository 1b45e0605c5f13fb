#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The window and the channels of a VM, with the mediator played here: through vfio-pci behind an emulated IOMMU, as a
driver would have them (R20 to R27, L16)."""

import os
import struct
import subprocess
import sys

from vmlib import *  # noqa: F403
from vmlib import SOURCE, SetupError, VMTestCase, guest_program, main

sys.path.insert(0, os.path.join(SOURCE, 'tests', 'support'))

from vgpu_link import ACTIVE, FREE, Mediator  # noqa: E402
from vgpu_vm import kernel  # noqa: E402

CHANNEL = 3
CHANNEL_BYTES, UPLOAD = 0x80000, 0x40000
AT = CHANNEL * CHANNEL_BYTES + UPLOAD
IOMMU = ['-device', 'intel-iommu,intremap=on']


class Window(VMTestCase):
    """What programs in the guest do to the window and the channel registers, with our mediator behind them."""

    def run_in_vm(self, name, *arguments, **options):
        vm = self.vm([guest_program('tests/vm/guest/' + name)] + list(arguments), timeout_s=300, **options)
        vm.start()
        status = vm.wait()
        text = (vm.stdout + vm.stderr).decode()
        self.assertEqual(status, 0, text)
        self.assertNotIn('FAILED', text)
        return text

    def test_by_default(self):
        text = self.run_in_vm('t-window')
        self.assertIn('bytes=268435456 channels=16', text)

    def test_other_sizes(self):
        self.assertIn('bytes=67108864 channels=64', self.run_in_vm('t-window', window='64M', channels=64))
        self.assertIn('bytes=1048576 channels=1', self.run_in_vm('t-window', window='1M', channels=1))

    def test_without_a_window(self):
        self.run_in_vm('t-registers', window='0')

    def test_memory_that_was_given(self):
        backend = ['-object', 'memory-backend-memfd,id=w0,size=32M']
        text = self.run_in_vm('t-window', qemu_args=backend, device_props={'memdev': 'w0'})
        self.assertIn('bytes=33554432 channels=16', text)

    def test_g10_barriers_hold_between_guest_and_host(self):
        """What QEMU before 8.0 breaks for a machine that can have one processor only, see hypervisor/qemu/README.md."""
        litmus = guest_program('tests/vm/guest/t-litmus')
        vm = self.vm([litmus, 'guest'], mediator=self.files, window='16M', timeout_s=300)
        vm.start()
        with Mediator.connect(vm.socket_path) as link:
            link.attach(channels=True)
            fd = link.window.fd
            host = subprocess.Popen([litmus, 'host', str(fd)], pass_fds=[fd], stdin=subprocess.DEVNULL)
            try:
                status = vm.wait()
            finally:
                host.kill()
                host.wait()
        print(vm.stdout.decode())
        self.assertEqual(status, 0, (vm.stdout + vm.stderr).decode())

    def test_sizes_that_will_not_do(self):
        for options, words in (({'window': '3X'}, 'no number of bytes'), ({'channels': 65}, 'use 1 to 64')):
            with self.assertRaises(SetupError) as caught:
                self.vm(['true'], **options).start()
            self.assertIn(words, str(caught.exception))


class Vfio(VMTestCase):
    def test_a_channel_through_vfio_behind_an_iommu(self):
        modules = kernel.modules()
        vm = self.vm([guest_program('tests/vm/guest/t-vfio')] + modules, mediator=self.files, copy=modules,
                     qemu_args=IOMMU, kernel_options='intel_iommu=on', window='64M', channels=8, timeout_s=300)
        vm.start()
        self.addCleanup(lambda: sys.stdout.write((vm.stdout + vm.stderr).decode()))
        with Mediator.connect(vm.socket_path) as link:
            link.attach(channels=True)
            memory = link.window.memory
            vm.wait_line(rb'^ready')
            while not link.enabled:  # the guest's reset at power-on may come first
                link.receive()
            self.assertEqual(link.enabled, {CHANNEL})
            link.state(CHANNEL, ACTIVE)
            vm.wait_line(rb'^written')
            self.assertEqual(struct.unpack_from('<I', memory, AT), (0xC0FFEE01,))
            struct.pack_into('<I', memory, AT + 4, 0xC0FFEE02)
            link.window.interrupt(CHANNEL)
            vm.wait_line(rb'^rung')
            link.window.wait_rung(CHANNEL)
            link.window.interrupt(CHANNEL)
            vm.wait_line(rb'^off')
            link.window.interrupt(CHANNEL)
            vm.send(b'signalled\n')
            vm.wait_line(rb'^on')
            link.window.interrupt(0)
            request = link.expect_request()
            self.assertEqual(len(request.data), 4)
            link.respond(request.seq, b'fine')
            link.expect_channel_reset(CHANNEL)
            link.state(CHANNEL, FREE)
            self.assertEqual(vm.wait(), 0)
        self.assertNotIn(b'FAILED', vm.stdout)


if __name__ == '__main__':
    main()
