# SPDX-License-Identifier: GPL-2.0-or-later
"""Channels in virtual machines: in use, shared by sixteen programs, and with everything killed while they idle, post, wait,
copy and allocate. tests/channel has the same without a VM. Few boots: one VM goes through many faults."""

import json
import os
import re
import signal
import subprocess
import time

from vmlib import Mediator, VMTestCase, guest_program, main, wait_for
from test_faults import log_of, runs, workers_of

FAST = guest_program(os.path.join('tests', 'channel', 't-fast'))
SCRUB = guest_program(os.path.join('tests', 'channel', 't-scrub'))
BENCH = guest_program(os.path.join('src', 'cli', 'vgpu-bench'))
INFO = guest_program(os.path.join('src', 'cli', 'vgpu-info'))
STAGES = ['idle', 'posting', 'sync', 'copy', 'arena']
LAUNCH_FAILED, DEVICES_UNAVAILABLE, SIGBUS = 719, 46, -1
PATIENT = 600
# Each line of standard input is a command.
SHELL = 'mkfifo /tmp/idle /tmp/go; exec 9<>/tmp/idle 8<>/tmp/go; echo SHELL; while read -r line; do eval "$line"; done'


def words(text):
    return {k.decode(): v.decode() for k, v in re.findall(br'([a-z0-9_]+)=(\S+)', text)}


class Channels(VMTestCase):
    def mediator(self, config='[limits]\nsessions = 40\nmemory = 4G\n'):
        mediator = Mediator(config=self.write('mediator.conf', config))
        self.addCleanup(mediator.close)
        mediator.start()
        return mediator

    def shell(self, mediator, **options):
        """A VM that does what it is told."""
        vm = self.vm(['sh', '-c', SHELL], copy=[FAST, SCRUB, BENCH, INFO], mediator=mediator, timeout_s=PATIENT, mem_mib=1024,
                     env={'VGPU_TRANSPORT': 'channel'}, **options)
        vm.start()
        vm.wait_line(b'^SHELL')
        return vm

    def tell(self, vm, command):
        vm.send(command.encode() + b'\n')

    def ask(self, vm, command, pattern):
        """What the command says on the line of this pattern."""
        self.tell(vm, command)
        return vm.wait_line(pattern, timeout_s=PATIENT)

    def count(self, vm):
        """A program that comes now counts right: nothing of others' is run in its place, nothing of its own twice."""
        found = words(self.ask(vm, '%s count --count 500' % FAST, b'^(RESULT|FAILED) .*').group(0))
        self.assertEqual((found.get('verdict'), found.get('counter')), ('ok', '500'), self.said(vm))

    def scrubbed(self, vm):
        """G6: the arena and the channel that a program gets now hold nothing of anybody's."""
        found = words(self.ask(vm, '%s check' % SCRUB, b'^(RESULT|FAILED) .*').group(0))
        self.assertEqual((found.get('verdict'), found.get('left')), ('ok', '0'), self.said(vm))

    def said(self, vm):
        return (bytes(vm.stdout) + bytes(vm.stderr)).decode(errors='replace')

    def at_all_stages(self, vm, mediator):
        """Starts a program for each stage; waits until all are there. Their workers."""
        for stage in STAGES:
            self.tell(vm, '{ %s %s <%s 2>&1 | while read -r l; do echo "%s: $l"; done; } &'
                      % (FAST, stage, '/tmp/idle' if stage == 'idle' else '/dev/null', stage))
            vm.wait_line(b'^%s: STAGE' % stage.encode(), timeout_s=PATIENT)
        time.sleep(1)
        workers = workers_of(mediator, vm.vm_id)
        self.assertEqual(len(workers), len(STAGES))
        return workers

    def saw(self, vm, allowed):
        """What each program saw; each has to be of the allowed."""
        self.tell(vm, 'echo >&9')
        since = time.monotonic()
        seen = {}
        while len(seen) < len(STAGES):
            match = vm.wait_line(br'^(\w+): (SAW .*)', timeout_s=60)
            seen[match.group(1).decode()] = words(match.group(2))
        print('after %.1f s: %s' % (time.monotonic() - since, {k: v['name'] for k, v in seen.items()}))
        for stage in STAGES:
            self.assertIn(int(seen[stage]['result']), allowed, seen)

    def generation(self, vm):
        text = self.ask(vm, '%s | grep generation' % INFO, br'^generation +(\d+)')
        return int(text.group(1))

    def requests_of(self, mediator, vm_id):
        """REQUEST messages of the VM's mailbox until now."""
        ends = log_of(mediator).count('event=status-end')
        os.kill(mediator.pid(), signal.SIGUSR1)
        wait_for(lambda: log_of(mediator).count('event=status-end') > ends, what='the status')
        return int(re.findall(r'event=status vm=%d .*?requests=(\d+)' % vm_id, log_of(mediator))[-1])

    def test_killed(self):
        """G4, G19, G20: workers, programs, the mediator and the hypervisor, each at five stages at once."""
        mediator = self.mediator()
        vm = self.shell(mediator)
        before = self.requests_of(mediator, 1)
        self.count(vm)
        self.assertLess(self.requests_of(mediator, 1) - before, 50, 'what should go by the channel went by the mailbox')

        for worker in self.at_all_stages(vm, mediator):
            os.kill(worker, signal.SIGKILL)
        self.saw(vm, [LAUNCH_FAILED])
        self.count(vm)

        killed = self.at_all_stages(vm, mediator)
        self.ask(vm, 'kill -9 $(pidof t-fast); sleep 1; echo KILLED', b'^KILLED')
        self.count(vm)
        self.scrubbed(vm)
        wait_for(lambda: not set(killed) & set(workers_of(mediator, 1)), what="the dead programs' workers to end")

        generation = self.generation(vm)
        workers = self.at_all_stages(vm, mediator)
        mediator.kill()
        wait_for(lambda: not any(runs(p) for p in workers), what='the workers to end')
        self.saw(vm, [DEVICES_UNAVAILABLE, LAUNCH_FAILED])
        mediator.start()
        wait_for(lambda: 'event=attached vm=1 ' in log_of(mediator).rsplit('event=ready', 1)[1], what='the device')
        self.assertGreater(self.generation(vm), generation)
        self.count(vm)
        self.scrubbed(vm)

        self.at_all_stages(vm, mediator)
        vm.kill_qemu()
        wait_for(lambda: not workers_of(mediator, 1), what='the workers to end')
        vm.close()
        vm = self.shell(mediator)
        self.count(vm)
        self.scrubbed(vm)
        vm.close()

    def test_reset(self):
        """R15, G4: the device is reset under five programs; the machine that comes up finds channels free and clean."""
        mediator = self.mediator()
        vm = self.shell(mediator, reboot=True)
        workers = self.at_all_stages(vm, mediator)
        vm.system_reset()
        wait_for(lambda: not set(workers) & set(workers_of(mediator, 1)), what='the workers to end')
        vm.wait_started()
        vm.wait_line(b'^SHELL')
        self.count(vm)
        self.scrubbed(vm)
        vm.close()

    def test_unplugged(self):
        """R19: the device goes under five programs: each ends, the VM and its hypervisor live on."""
        mediator = self.mediator()
        vm = self.shell(mediator, root_port=True)
        self.at_all_stages(vm, mediator)
        vm.qmp.command('device_del', id='vgpu')
        wait_for(lambda: not workers_of(mediator, 1), what='the workers to end')
        self.saw(vm, [LAUNCH_FAILED, DEVICES_UNAVAILABLE, SIGBUS])
        self.ask(vm, 'echo ALIVE', b'^ALIVE')
        vm.close()

    def test_sixteen_programs_and_sixty_four_clients(self):
        """G2, G8: sixteen programs on sixteen channels of one VM, and 64 local clients, at once: none loses a launch."""
        mediator = self.mediator()
        vm = self.shell(mediator)
        self.tell(vm, 'for i in $(seq 16); do %s count --wait --seconds 8 <&8 & done' % FAST)
        for _ in range(16):
            vm.wait_line(b'^READY', timeout_s=PATIENT)
        self.tell(vm, 'for i in $(seq 16); do echo >&8; done')
        # All channels are taken: the next one goes by the mailbox.
        self.tell(vm, 'VGPU_TRANSPORT=auto %s count --count 500 | sed s/RESULT/LATE/' % FAST)
        env = dict(os.environ, VGPU_DEVICE='local:' + mediator.listen, VGPU_TRANSPORT='channel',
                   LD_LIBRARY_PATH=guest_program(os.path.join('src', 'guest', 'cuda')))
        clients = [subprocess.Popen([FAST, 'count', '--seconds', '5'], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT) for _ in range(64)]
        outputs = [client.communicate(timeout=PATIENT)[0] for client in clients]
        posted = []
        for output in outputs:
            found = words(output)
            self.assertEqual((found.get('verdict'), found.get('counter')), ('ok', found.get('posted')), output)
            posted.append(int(found['posted']))
        programs = []
        for _ in range(17):
            line = vm.wait_line(b'^(RESULT|LATE|FAILED) .*', timeout_s=PATIENT).group(0)
            found = words(line)
            self.assertEqual((found.get('verdict'), found.get('counter')), ('ok', found.get('posted')), self.said(vm))
            if line.startswith(b'RESULT'):
                programs.append(int(found['posted']))
        print('64 clients: %d to %d launches each; beside them 16 programs of a VM: %d to %d'
              % (min(posted), max(posted), min(programs), max(programs)))
        self.assertGreater(min(posted + programs), 0)
        vm.close()

    def test_speed(self):
        """Figures from inside a VM: that they are there; how large they are is reported."""
        mediator = self.mediator()
        vm = self.shell(mediator)
        text = self.ask(vm, '%s channel --count 5 --json --seconds 1 || echo "BENCH failed"' % BENCH, b'^(\\{|BENCH).*').group(0)
        self.assertTrue(text.startswith(b'{'), self.said(vm))
        rows = json.loads(text)['rows']
        for key in ('post', 'posts', 'nop_asleep', 'mailbox_nop', 'pageable_to', 'pageable_from', 'pinned_to'):
            self.assertGreater(rows[key]['value'], 0)
        print('in a VM: 256 MiB pageable %.0f MB/s to the device, %.0f MB/s back; post %.0f ns; mailbox NOP %.0f us' % (
            rows['pageable_to']['value'] / 1e6, rows['pageable_from']['value'] / 1e6, rows['post']['value'],
            rows['mailbox_nop']['value'] / 1e3))
        vm.close()


if __name__ == '__main__':
    main()
