# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs in virtual machines compute through the device: registers, requests, kernels of both compilers, two VMs."""

import json
import os

from vmlib import SOURCE, Mediator, VMTestCase, guest_program, main

PTX = os.path.join(SOURCE, 'tests', 'fixtures', 'ptx')
PROGRAMS = os.path.join('tests', 'vm', 'guest')


def program(name):
    return guest_program(os.path.join(PROGRAMS, name))


def ptx(name):
    return os.path.join(PTX, name)


class Compute(VMTestCase):
    def run_all(self, commands, copy=(), **options):
        """Runs each command in one VM, one after the other; fails with the output of those that failed."""
        script = 'bad=0; for c in "$@"; do sh -c "$c"; s=$?; echo "EXIT $s $c"; [ $s = 0 ] || bad=1; done; exit $bad'
        vm = self.vm(['sh', '-c', script, 'sh'] + commands, copy=copy, timeout_s=400, **options)
        vm.start()
        status = vm.wait()
        text = (bytes(vm.stdout) + bytes(vm.stderr)).decode(errors='replace')
        self.assertEqual(status, 0, text)
        self.assertEqual(text.count('EXIT 0 '), len(commands), text)
        return text

    def test_registers_and_requests(self):
        """R2-R17 and P1-P27 as a guest sees them, and many programs on one mailbox."""
        names = ['t-registers', 't-requests', 't-sharing']
        text = self.run_all([program(n) for n in names], copy=[program(n) for n in names], vm_id=7, pool='A', priority='high')
        self.assertNotIn('FAILED', text)

    def test_kernels_of_both_compilers(self):
        """P18, P19, P22, P27: what nvcc and clang made of the same sources gives right answers."""
        commands, images = [], []
        for compiler in ['nvcc', 'clang', 'nvcc-O0', 'clang-O0']:
            add, mul = ptx('vector_add.%s.ptx' % compiler), ptx('sgemm.%s.ptx' % compiler)
            images += [add, mul]
            commands.append('%s --vector-add %s --count 20000' % (program('t-cuda'), add))
            for kernel in ['sgemm_naive', 'sgemm_tiled_16', 'sgemm_tiled_32']:
                commands.append('%s --sgemm %s --kernel %s --size 64' % (program('t-cuda'), mul, kernel))
        self.run_all(commands, copy=[program('t-cuda')] + images)

    def test_info_shows_what_the_vm_was_given(self):
        """R16: pool, priority and number are the mediator's; vgpu-info prints them for people and for programs."""
        info = guest_program('src/cli/vgpu-info')
        text = self.run_all([info, info + ' --json'], copy=[info], vm_id=42, pool='A', priority='low')
        self.assertRegex(text, r'(?m)^pool +A$')
        self.assertRegex(text, r'(?m)^priority +low$')
        self.assertRegex(text, r'(?m)^vm id +42$')
        report = json.loads(text[text.index('\n{') if '\n{' in text else text.index('\n['):].split('EXIT')[0])
        self.assertIn('vgpu software GPU', json.dumps(report))

    def test_two_vms_cannot_reach_each_other(self):
        """P14, P15, P20: neither can name, read or free what the other made."""
        with Mediator() as mediator:
            holder = self.vm([program('t-isolation'), 'hold', ptx('vector_add.nvcc.ptx')],
                             copy=[ptx('vector_add.nvcc.ptx')], vm_id=1, priority='high', mediator=mediator, timeout_s=400)
            holder.start()
            words = holder.wait_line(br'^SECRET (.*)').group(1).split()
            prober = self.vm([program('t-isolation').encode(), b'probe'] + words, vm_id=2, priority='low', mediator=mediator,
                             timeout_s=400)
            prober.start()
            self.assertEqual(prober.wait(), 0, bytes(prober.stdout).decode(errors='replace'))
            holder.send(b'go\n')
            self.assertEqual(holder.wait(), 0, bytes(holder.stdout).decode(errors='replace'))
            holder.close()
            prober.close()

    def test_without_mediator(self):
        """R6: no mediator is error 3, at once; vgpu-info says so with exit status 3."""
        info = guest_program('src/cli/vgpu-info')
        empty = os.path.join(self.files, 'nobody')
        os.mkdir(empty)
        vm = self.vm([info], mediator=empty, timeout_s=200)
        vm.start()
        self.assertEqual(vm.wait(), 3, bytes(vm.stderr))


if __name__ == '__main__':
    main()
