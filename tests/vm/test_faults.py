# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills the worker, the mediator and the hypervisor before, during and after a request, and looks at what the guest sees.

A bystander VM on the same mediator and GPU computes across every fault of another VM's and must notice nothing. What the
stages are, tests/vm/guest/t-hold.c says. Every test ends with the leak check of VMTestCase.
"""

import os
import re
import signal

from vmlib import Mediator, VMTestCase, guest_program, main, wait_for
from test_compute import program, ptx

STAGES = ['before', 'busy', 'done']
CONTROL = ptx('control.nvcc.ptx')
ADD = ptx('vector_add.nvcc.ptx')
LAUNCH_FAILED, LAUNCH_TIMEOUT = 719, 702
MEDIATOR_UNAVAILABLE = 3
PATIENT = 300


def numbers(match):
    """The key=number words of a SAW line."""
    return {k.decode(): int(v) for k, v in re.findall(br'(\w+)=(-?\d+)', match.group(0))}


def workers_of(mediator, vm_id):
    """Pids of a VM's worker processes."""
    found = []
    for name in os.listdir('/proc'):
        try:
            with open('/proc/%s/stat' % name) as f:
                ppid = int(f.read().rsplit(')', 1)[1].split()[1])
            with open('/proc/%s/cmdline' % name, 'rb') as f:
                words = f.read().split(b'\0')
        except (OSError, ValueError, IndexError):
            continue
        if ppid == mediator.pid() and b'--vm' in words and words[words.index(b'--vm') + 1] == b'%d' % vm_id:
            found.append(int(name))
    return found


def runs(pid):
    """Whether the process is there and has not ended; an orphan's remains wait for this process to bury them."""
    try:
        with open('/proc/%d/stat' % pid) as f:
            return f.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except OSError:
        return False


def log_of(mediator):
    with open(mediator.log, errors='replace') as f:
        return f.read()


class Faults(VMTestCase):
    def mediator(self, config=None):
        path = self.write('mediator.conf', config) if config else None
        mediator = Mediator(config=path)
        self.addCleanup(mediator.close)
        mediator.start()
        return mediator

    def held(self, mediator, stage, vm_id=1, recover_ms=60000, start=True, **options):
        """A VM that has gone to `stage` of a request."""
        vm = self.vm([program('t-hold'), stage, '--ptx', CONTROL, '--recover', str(recover_ms)], copy=[CONTROL], vm_id=vm_id,
                     mediator=mediator, timeout_s=PATIENT, **options)
        if start:
            vm.start()
            vm.wait_line(b'^STAGE ' + stage.encode())
        return vm

    def bystander(self, mediator):
        """A VM that computes once for each line it is sent."""
        script = 'while read line; do "$@" >/tmp/out 2>&1 && echo ROUND ok || { cat /tmp/out; echo ROUND bad; }; done'
        vm = self.vm(['sh', '-c', script, 'sh', program('t-cuda'), '--vector-add', ADD, '--count', '3000'],
                     copy=[program('t-cuda'), ADD], vm_id=2, mediator=mediator, timeout_s=2 * PATIENT)
        vm.start()
        self.ask(vm)
        self.answered(vm)
        return vm

    def ask(self, bystander):
        bystander.send(b'go\n')

    def answered(self, bystander):
        word = bystander.wait_line(br'^ROUND (\w+)').group(1)
        self.assertEqual(word, b'ok', bytes(bystander.stdout).decode(errors='replace'))

    def saw(self, vm):
        return numbers(vm.wait_line(b'^SAW .*'))

    def finish(self, vm):
        self.assertEqual(vm.wait(), 0, (bytes(vm.stdout) + bytes(vm.stderr)).decode(errors='replace'))
        vm.close()

    def test_worker_killed(self):
        """P16: that session answers CUDA_ERROR_LAUNCH_FAILED, a new one works, nobody else notices."""
        mediator = self.mediator()
        bystander = self.bystander(mediator)
        for stage in STAGES:
            with self.subTest(stage=stage):
                vm = self.held(mediator, stage)
                workers = workers_of(mediator, 1)
                self.assertEqual(len(workers), 1)
                self.ask(bystander)
                os.kill(workers[0], signal.SIGKILL)
                wait_for(lambda: not workers_of(mediator, 1), what='the worker to be reaped')
                if stage != 'busy':
                    vm.send(b'go\n')
                saw = self.saw(vm)
                self.assertEqual(saw['cuda'], 0 if stage == 'done' else LAUNCH_FAILED, saw)
                self.assertEqual((saw['errno'], saw['error_code'], saw['link_state']), (0, 0, 1), saw)
                self.assertEqual(saw['generation'], saw['generation_before'], saw)
                vm.wait_line(b'^RECOVERED ')
                self.finish(vm)
                self.answered(bystander)
        self.assertEqual(log_of(mediator).count('event=detached vm=2 '), 0, 'the bystander was detached')
        bystander.close()

    def test_mediator_killed(self):
        """R14, R17: GENERATION moves, a request in flight fails with error 3; a new mediator finds the device again."""
        mediator = self.mediator()
        for stage in STAGES:
            with self.subTest(stage=stage):
                vm = self.held(mediator, stage)
                workers = workers_of(mediator, 1)
                mediator.kill()
                wait_for(lambda: not any(runs(p) for p in workers), what='the workers to end')
                if stage != 'busy':
                    vm.send(b'go\n')
                saw = self.saw(vm)
                self.assertEqual(saw['generation'], saw['generation_before'] + 1, saw)
                self.assertEqual(saw['link_state'], 0, saw)
                if stage == 'done':
                    self.assertEqual((saw['cuda'], saw['error_code']), (0, 0), saw)
                else:
                    self.assertEqual((saw['cuda'], saw['error_code']), (0, MEDIATOR_UNAVAILABLE), saw)
                mediator.start()
                vm.wait_line(b'^RECOVERED ')
                self.finish(vm)

    def test_mediator_stopped_and_started(self):
        """The clean way ends the same for the guest, and leaves no worker."""
        mediator = self.mediator()
        vm = self.held(mediator, 'busy')
        self.assertEqual(mediator.stop(), 0)
        saw = self.saw(vm)
        self.assertEqual((saw['error_code'], saw['generation']), (MEDIATOR_UNAVAILABLE, saw['generation_before'] + 1), saw)
        mediator.start()
        vm.wait_line(b'^RECOVERED ')
        self.finish(vm)

    def test_hypervisor_killed(self):
        """L13: what the VM had is freed, its worker ends, nobody else notices, and the VM can come again."""
        mediator = self.mediator()
        bystander = self.bystander(mediator)
        for number, stage in enumerate(STAGES):
            with self.subTest(stage=stage):
                vm = self.held(mediator, stage)
                self.assertEqual(len(workers_of(mediator, 1)), 1)
                self.ask(bystander)
                vm.kill_qemu()
                wait_for(lambda: not workers_of(mediator, 1), what='the worker to end')
                wait_for(lambda: log_of(mediator).count('event=detached vm=1 ') == number + 1, what='the detach line')
                vm.close()
                self.answered(bystander)
        vm = self.held(mediator, 'done')
        vm.send(b'go\n')
        self.assertEqual(self.saw(vm)['cuda'], 0)
        self.finish(vm)
        bystander.close()

    def test_machine_reset(self):
        """R15, L12: a reset frees what the guest had; the guest comes up again and computes."""
        mediator = self.mediator()
        vm = self.held(mediator, 'busy', reboot=True)
        before = workers_of(mediator, 1)
        vm.system_reset()
        vm.wait_started()
        vm.wait_line(b'^STAGE busy')
        after = workers_of(mediator, 1)
        self.assertEqual(len(after), 1)
        self.assertNotEqual(before, after)
        self.assertIn('event=reset', log_of(mediator))
        vm.send(b'go\n')
        self.saw(vm)
        vm.close()

    def test_hot_unplug(self):
        """R19: unplugging a device that is at work ends its sessions; the VM and its hypervisor live on."""
        mediator = self.mediator()
        script = '"$@"; echo ENDED $?; ls /sys/bus/pci/devices; read line; echo ALIVE'
        vm = self.vm(['sh', '-c', script, 'sh', program('t-hold'), 'busy', '--ptx', CONTROL], copy=[program('t-hold'), CONTROL],
                     mediator=mediator, timeout_s=PATIENT, root_port=True)
        vm.start()
        vm.wait_line(b'^STAGE busy')
        vm.qmp.command('device_del', id='vgpu')
        vm.wait_line(br'^ENDED \d+')
        wait_for(lambda: not workers_of(mediator, 1), what='the worker to end')
        self.assertIn('event=detached vm=1 ', log_of(mediator))
        vm.send(b'go\n')
        vm.wait_line(b'^ALIVE')
        self.assertEqual(vm.wait(), 0)
        vm.close()

    def test_endless_kernel(self):
        """W5: a kernel that never ends is ended when others wait, with CUDA_ERROR_LAUNCH_TIMEOUT, and they get the GPU."""
        mediator = self.mediator('[scheduler]\nwatchdog_ms = 1000\n')
        vm = self.held(mediator, 'kernel')
        bystander = self.bystander(mediator)
        vm.send(b'go\n')
        saw = self.saw(vm)
        self.assertEqual((saw['cuda'], saw['errno']), (LAUNCH_TIMEOUT, 0), saw)
        vm.wait_line(b'^RECOVERED ')
        self.finish(vm)
        bystander.close()

    def test_guest_program_killed(self):
        """A program that is killed with a session open: the next one that opens a session ends it."""
        mediator = self.mediator()
        hold = program('t-hold')
        script = '"$1" busy --ptx "$2" & sleep 5; kill -9 $!; wait; echo KILLED; read line; "$1" done >/tmp/out </dev/null; echo ENDED $?; read line'
        vm = self.vm(['sh', '-c', script, 'sh', hold, CONTROL], copy=[hold, CONTROL], mediator=mediator, timeout_s=PATIENT)
        vm.start()
        vm.wait_line(b'^KILLED')
        first = workers_of(mediator, 1)
        self.assertEqual(len(first), 1)
        vm.send(b'go\n')
        self.assertEqual(vm.wait_line(br'^ENDED (\d+)').group(1), b'0')
        wait_for(lambda: first[0] not in workers_of(mediator, 1), what="the dead program's worker to end")
        vm.send(b'go\n')
        self.finish(vm)


if __name__ == '__main__':
    main()
