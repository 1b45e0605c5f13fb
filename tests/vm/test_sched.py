# SPDX-License-Identifier: GPL-2.0-or-later
"""Four virtual machines of different priorities on one GPU, one with a kernel that never ends: docs/scheduling.md S5, S7.
tests/sched has the same policy without VMs, where shares are exact."""

import os
import re
import signal
import time

from vmlib import Mediator, VMTestCase, guest_program, main, wait_for
from test_faults import log_of, workers_of

SHARE = guest_program(os.path.join('tests', 'sched', 't-share'))
LAUNCH_TIMEOUT = 702
PATIENT = 600
PRIORITIES = {1: 'low', 2: 'medium', 3: 'high'}
ENDLESS = 4
WATCHDOG_MS = 1500


def words(text):
    return dict(re.findall(r'([a-z0-9_]+)=(\S+)', text))


class FourVMs(VMTestCase):
    def vm_of(self, mediator, vm_id, priority, *arguments):
        vm = self.vm([SHARE] + [str(a) for a in arguments], priority=priority, vm_id=vm_id, mediator=mediator,
                     timeout_s=PATIENT, env={'VGPU_TRANSPORT': 'channel'})
        vm.start()
        return vm

    def status(self, mediator):
        """{VM: words of its status line}"""
        before = log_of(mediator).count('event=status-end ')
        os.kill(mediator.pid(), signal.SIGUSR1)
        wait_for(lambda: log_of(mediator).count('event=status-end ') > before, what='a status')
        text = log_of(mediator).split('event=status-end ')[before]
        found = [words(line) for line in text.splitlines() if 'event=status ' in line]
        return {int(w['vm']): w for w in found}

    def leased(self, mediator, seconds):
        """{VM: lease time in ms of so many seconds}"""
        first = self.status(mediator)
        time.sleep(seconds)
        last = self.status(mediator)
        return {vm: int(last[vm]['lease_ms']) - int(first[vm]['lease_ms']) for vm in PRIORITIES}

    @staticmethod
    def result(vm, order):
        """The RESULT since the last."""
        vm.send(order)
        return {k: int(v) for k, v in words(vm.wait_line(b'^RESULT .*', timeout_s=PATIENT).group(0).decode()).items()}

    def test_priorities_and_an_endless_kernel(self):
        mediator = Mediator(config=self.write('mediator.conf', '[scheduler]\nwatchdog_ms = %d\n' % WATCHDOG_MS))
        self.addCleanup(mediator.close)
        mediator.start()
        # Many kernels at a time: an emulated processor is slow to ask for the next ones. Of the high one fewer: it is asked
        # how long each took.
        vms = {vm_id: self.vm_of(mediator, vm_id, priority, 'busy', '--kernel-us', 1000 if priority == 'high' else 4000,
                                 '--queued', 20 if priority == 'high' else 100) for vm_id, priority in PRIORITIES.items()}
        vms[ENDLESS] = self.vm_of(mediator, ENDLESS, 'medium', 'endless')
        for vm in vms.values():
            vm.wait_line(b'^READY')
        shown = {vm: w['priority'] for vm, w in self.status(mediator).items()}
        self.assertEqual(shown, {**PRIORITIES, ENDLESS: 'medium'})
        for vm_id in PRIORITIES:
            vms[vm_id].send(b'go\n')
        # All of them at work.
        wait_for(lambda: all(int(w['leases']) > 3 for vm, w in self.status(mediator).items() if vm in PRIORITIES),
                 timeout_s=PATIENT, what='leases of all')
        self.result(vms[3], b'mark\n')
        took = self.leased(mediator, 6)
        without = self.result(vms[3], b'mark\n')
        print('lease time of 6 s: low %d ms, medium %d ms, high %d ms' % (took[1], took[2], took[3]))
        self.assertGreater(took[1], 0)
        self.assertGreater(took[2], took[1])
        self.assertGreater(took[3], took[2])

        vms[ENDLESS].send(b'go\n')
        saw = words(vms[ENDLESS].wait_line(b'^SAW .*', timeout_s=PATIENT).group(0).decode())
        self.assertEqual(int(saw['result']), LAUNCH_TIMEOUT, saw)
        kills = [line for line in log_of(mediator).splitlines() if 'event=worker-kill' in line]
        self.assertEqual([words(line)['vm'] for line in kills], [str(ENDLESS)])
        self.assertEqual(vms[ENDLESS].wait(), 0)

        # The others notice nothing but the time it took.
        after = self.leased(mediator, 7)  # for hundreds of requests of the high one
        print('after it, of 7 s: low %d ms, medium %d ms, high %d ms' % (after[1], after[2], after[3]))
        found = {}
        for vm_id in PRIORITIES:
            self.assertGreater(after[vm_id], 0)
            self.assertEqual(len(workers_of(mediator, vm_id)), 1)
            found[vm_id] = self.result(vms[vm_id], b'end\n')
            self.assertGreater(found[vm_id]['requests'], 0)
            self.assertEqual(vms[vm_id].wait(), 0)
        # One of some hundred of its requests waited for the watchdog; the others did not.
        print('the high VM, 20 kernels of 1 ms at a time: p50 %d, p99 %d, most %d ms without; %d, %d, %d ms with the endless kernel'
              % tuple(r[k] // 1000 for r in (without, found[3]) for k in ('p50_us', 'p99_us', 'max_us')))
        self.assertGreater(found[3]['max_us'], WATCHDOG_MS * 1000 // 2)
        self.assertLess(found[3]['p99_us'], WATCHDOG_MS * 1000)
        wait_for(lambda: log_of(mediator).count('event=detached ') == 4, what='all to be gone')
        for vm in vms.values():
            vm.close()


if __name__ == '__main__':
    main()
