#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The window and the channels of a VM, with the mediator played here: through vfio-pci behind an emulated IOMMU, as a
driver would have them (R20 to R27, L16)."""

import os
import struct
import sys

from vmlib import *  # noqa: F403
from vmlib import SOURCE, VMTestCase, guest_program, main

sys.path.insert(0, os.path.join(SOURCE, 'tests', 'support'))

from vgpu_link import ACTIVE, FREE, Mediator  # noqa: E402
from vgpu_vm import kernel  # noqa: E402

CHANNEL = 3
CHANNEL_BYTES, UPLOAD = 0x80000, 0x40000
AT = CHANNEL * CHANNEL_BYTES + UPLOAD
IOMMU = ['-device', 'intel-iommu,intremap=on']


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
