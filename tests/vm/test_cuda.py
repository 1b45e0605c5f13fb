# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the CUDA driver API in virtual machines: they find our libcuda.so.1, and get NVIDIA's answers."""

import difflib
import os

from vmlib import SOURCE, VMTestCase, guest_program, main

HERE = os.path.join(SOURCE, 'tests', 'cuda')
KERNELS = os.path.join(HERE, 'kernels.ptx')


class Cuda(VMTestCase):
    def run_program(self, name, *arguments):
        vm = self.vm([guest_program(os.path.join('tests', 'cuda', name))] + list(arguments), copy=list(arguments),
                     timeout_s=400)
        vm.start()
        status = vm.wait()
        self.assertEqual(status, 0, (bytes(vm.stdout) + bytes(vm.stderr)).decode(errors='replace'))
        return bytes(vm.stdout).decode(errors='replace')

    def test_every_answer_is_nvidias(self):
        """P28-P32 through the mailbox: the transcript of NVIDIA's driver, word for word."""
        with open(os.path.join(HERE, 'expected.txt'), encoding='utf-8') as f:
            want = f.read().splitlines()
        ours = self.run_program('cuda_conformance', KERNELS).splitlines()
        lines = list(difflib.unified_diff(want, ours, 'NVIDIA', 'ours', lineterm='', n=1))
        self.assertFalse(lines, '\n'.join(lines))

    def test_the_first_program(self):
        """docs/first-cuda-program.md, with the kernel that clang made of it."""
        self.assertIn('1048576 of 1048576 right', self.run_program('cuda_saxpy', os.path.join(HERE, 'saxpy.ptx')))


if __name__ == '__main__':
    main()
