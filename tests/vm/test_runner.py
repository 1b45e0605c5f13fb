#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of tools/vgpu-vm itself: each test names the promise of docs/vm-runner.md that it checks.
"""

import json
import os
import random
import signal
import subprocess
import sys
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import vmlib  # noqa: E402
from vmlib import RUNNER, VMError, VMTestCase, VMTimeout, wait_for  # noqa: E402

from vgpu_vm import accel, channel, initramfs, kernel, paths  # noqa: E402

# Stands in for vgpu-mediator where the runner's half of the contract is tested: the command line,
# readiness, the end.
MEDIATOR = '''#!%s -I
import json, os, signal, sys, time
args = sys.argv[1:]
json.dump(args, open(os.environ['VT_RECORD'], 'w'))
print('stand-in mediator speaks', flush=True)
if os.environ.get('VT_MODE') == 'refuse':
    sys.exit(4)
end = 3 if os.environ.get('VT_MODE') == 'bad end' else 0
signal.signal(signal.SIGTERM, lambda *_: os._exit(end))
os.write(int(args[args.index('--ready-fd') + 1]), b'ready\\n')
while True:
    time.sleep(3600)
''' % sys.executable


class RunnerCase(VMTestCase):
    def run_vm(self, *args, device=False, input=None, **env):
        """Run tools/vgpu-vm to its end; (status, stdout, stderr)."""
        command = [RUNNER, '--accel', 'tcg'] + ([] if device else ['--no-device']) + list(args)
        result = subprocess.run(
            command,
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=300,
            env=dict(os.environ, **env),
        )
        return result.returncode, result.stdout, result.stderr.decode('utf-8', 'replace')

    def start_vm(self, *args, device=False):
        """Start tools/vgpu-vm; a Popen whose pipes and process are gone when the test ends."""
        command = [RUNNER, '--accel', 'tcg'] + ([] if device else ['--no-device']) + list(args)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

        def end():
            if process.poll() is None:
                process.kill()
            process.communicate()

        self.addCleanup(end)
        return process


class Status(RunnerCase):
    """The runner's exit status is the program's."""

    def test_exit_status_passes_through(self):
        for status in (0, 1, 77):
            with self.subTest(status=status):
                self.assertEqual(
                    self.run_vm('--', 'sh', '-c', 'exit %d' % status), (status, b'', '')
                )

    def test_death_by_signal_is_128_plus_n(self):
        self.assertEqual(self.run_vm('--', 'sh', '-c', 'kill -9 $$')[0], 137)
        crash = self.compile('crash', 'int main(void) { *(volatile int *)8 = 1; return 0; }')
        self.assertEqual(self.run_vm('--', crash)[0], 128 + signal.SIGSEGV)

    def test_kernel_panic_is_125_with_the_console(self):
        status, _, err = self.run_vm('--', 'sh', '-c', 'echo c > /proc/sysrq-trigger; sleep 100')
        self.assertEqual(status, 125)
        self.assertIn('Kernel panic', err)
        self.assertIn('the VM ended before the program did', err)

    def test_kernel_that_does_not_boot_is_125(self):
        status, _, err = self.run_vm('--kernel', self.write('kernel', b'\0' * 65536), '--', 'true')
        self.assertEqual(status, 125, err)

    def test_timeout_is_124(self):
        status, out, err = self.run_vm(
            '--timeout', '15', '--', 'sh', '-c', 'echo before; sleep 1000'
        )
        self.assertEqual((status, out), (124, b'before\n'), err)
        self.assertIn('time is up', err)

    def test_program_that_cannot_be_executed(self):
        script = self.write('text', 'no program at all\n', 0o755)
        status, _, err = self.run_vm('--', script)
        self.assertEqual(status, 2)
        self.assertIn('cannot run', err)


class Streams(RunnerCase):
    """Standard streams are carried byte for byte, apart from each other and from the kernel's
    console.
    """

    def test_all_bytes_arrive_exactly(self):
        data = (
            bytes(range(256)) * 256 + random.Random(1).randbytes(100000)
            if hasattr(random, 'randbytes')
            else bytes(range(256)) * 600
        )
        status, out, err = self.run_vm(
            '--copy', self.write('data', data), '--', 'cat', os.path.join(self.files, 'data')
        )
        self.assertEqual((status, err), (0, ''))
        self.assertEqual(out, data)

    def test_stderr_is_apart(self):
        self.assertEqual(
            self.run_vm('--', 'sh', '-c', 'echo out; echo err >&2; printf "no newline"'),
            (0, b'out\nno newline', 'err\n'),
        )

    def test_stdin_is_passed_on_if_asked_for(self):
        data = bytes(range(256)) * 100
        self.assertEqual(self.run_vm('--stdin', '--', 'cat', input=data), (0, data, ''))

    def test_stdin_is_empty_otherwise(self):
        self.assertEqual(
            self.run_vm('--', 'sh', '-c', 'cat; echo end', input=b'not for you'), (0, b'end\n', '')
        )

    def test_program_that_does_not_read_its_input(self):
        self.assertEqual(self.run_vm('--stdin', '--', 'true', input=b'x' * 300000), (0, b'', ''))

    def test_output_of_what_the_program_left_running_does_not_keep_the_vm(self):
        self.assertEqual(
            self.run_vm('--', 'sh', '-c', 'sleep 1000 & echo done'), (0, b'done\n', '')
        )


class Inside(RunnerCase):
    """What the program finds in the VM."""

    def test_arguments_arrive_as_they_are(self):
        show = self.compile(
            'show',
            '#include <stdio.h>\nint main(int c, char **v) {'
            'for (int i = 1; i < c; i++) printf("[%s]", v[i]); return 0; }',
        )
        arguments = ['a b', '', '$HOME', "'\"", '-x', '--', '\n', 'ümlaut', b'\xff\xfe']
        expected = b''.join(b'[' + os.fsencode(a) + b']' for a in arguments)
        self.assertEqual(self.run_vm('--', show, *arguments), (0, expected, ''))

    def test_files_programs_and_libraries_are_at_their_paths(self):
        library = self.compile(
            'libanswer.so', 'int answer(void) { return 42; }', '-shared', '-fPIC'
        )
        program = os.path.join(self.files, 'ask')
        source = self.write('ask.c', 'int answer(void);\nint main(void) { return answer(); }')
        subprocess.run(
            ['cc', '-o', program, source, library, '-Wl,-rpath,' + self.files], check=True
        )
        data = self.write('data file', 'content', 0o600)
        link = os.path.join(self.files, 'link')
        os.symlink('data file', link)
        self.assertEqual(self.run_vm('--', program)[0], 42)
        self.assertEqual(
            self.run_vm(
                '--copy',
                data,
                '--copy',
                link,
                '--',
                'sh',
                '-c',
                'cat "$1" "$2"; stat -c %a "$1"',
                'sh',
                data,
                link,
            ),
            (0, b'contentcontent600\n', ''),
        )

    def test_environment_and_folder(self):
        status, out, err = self.run_vm(
            '--env',
            'A=b c',
            '--env',
            'EMPTY=',
            '--',
            'sh',
            '-c',
            'echo "$A|${EMPTY-unset}|$(id -u)"; pwd',
        )
        self.assertEqual((status, out.decode(), err), (0, 'b c||0\n%s\n' % os.getcwd(), ''))

    def test_memory_and_processors(self):
        status, out, _ = self.run_vm(
            '--mem', '1024', '--cpus', '2', '--', 'sh', '-c', 'nproc; grep MemTotal /proc/meminfo'
        )
        self.assertEqual(status, 0)
        lines = out.decode().split('\n')
        self.assertEqual(lines[0], '2')
        self.assertGreater(int(lines[1].split()[1]), 800 * 1024)

    def test_script_with_another_interpreter(self):
        script = self.write('script', '#!/bin/bash\na=(1 2 3)\necho ${#a[@]}\n', 0o755)
        self.assertEqual(self.run_vm('--', script), (0, b'3\n', ''))

    def test_device_has_the_properties_asked_for(self):
        status, out, err = self.run_vm(
            '--mediator',
            self.files,
            '--vm-id',
            '7',
            '--',
            'sh',
            '-c',
            'cat /sys/bus/pci/devices/*/class',
            device=True,
        )
        self.assertEqual(status, 0, err)
        self.assertIn(b'0x120000', out)

    def test_no_device_if_asked_for(self):
        self.assertNotIn(
            b'0x120000', self.run_vm('--', 'sh', '-c', 'cat /sys/bus/pci/devices/*/class')[1]
        )


class Refusals(RunnerCase):
    """What cannot be done is refused in one line that says what to do, with status 2."""

    def refused(self, wanted, *args, **options):
        status, out, err = self.run_vm(*args, **options)
        self.assertEqual((status, out), (2, b''), err)
        self.assertIn(wanted, err)
        self.assertEqual(len(err.strip().split('\n')), 1, err)

    def test_missing_program(self):
        self.refused('does not exist', '--', '/nowhere/program')
        self.refused('in PATH', '--', 'no-such-program-anywhere')
        self.refused('not executable', '--', self.write('plain', 'x'))
        self.refused('is not a file', '--', self.files + '/.')

    def test_program_for_another_machine(self):
        with open(self.compile('native', 'int main(void) { return 0; }'), 'rb') as stream:
            elf = bytearray(stream.read())
        elf[18:20] = b'\xb7\x00'
        self.refused('64-bit Arm', '--', self.write('foreign', bytes(elf), 0o755))

    def test_missing_library(self):
        library = self.compile('libgone.so', 'int answer(void) { return 42; }', '-shared', '-fPIC')
        program = self.compile(
            'ask', 'int answer(void);\nint main(void) { return answer(); }', library
        )
        os.unlink(library)
        self.refused('libgone.so', '--', program)

    def test_missing_copy(self):
        self.refused('--copy', '--copy', '/nowhere/file', '--', 'true')
        self.refused('is a folder', '--copy', self.files, '--', 'true')

    def test_bad_values(self):
        self.refused('not a letter', '--pool', 'AB', '--', 'true')
        self.refused('not a letter', '--pool', '1', '--', 'true')
        self.refused('low, medium, high', '--priority', 'urgent', '--', 'true')
        self.refused('out of range', '--vm-id', '4294967296', '--', 'true')
        self.refused('out of range', '--vm-id', '-1', '--', 'true')
        self.refused('MiB', '--mem', '1', '--', 'true')
        self.refused('NAME=VALUE', '--env', 'nothing', '--', 'true')
        self.refused('none of auto, kvm, tcg', '--accel', 'hax', '--', 'true')

    def test_missing_parts(self):
        self.refused('no program', '--', 'true', VGPU_QEMU='/nowhere/qemu')
        self.refused('cannot read the kernel', '--kernel', '/nowhere/vmlinuz', '--', 'true')
        self.refused('is no folder', '--mediator', '/nowhere', '--', 'true', device=True)
        self.refused('VGPU_MEDIATOR', '--', 'true', device=True, VGPU_MEDIATOR='/nowhere/mediator')

    def test_second_vm_of_the_same_id(self):
        with self.vm(['sleep', '1000'], mediator=self.files, vm_id=5, accel='tcg') as first:
            first.start(wait=False)
            socket = os.path.join(self.files, 'vm-5.sock')
            wait_for(lambda: os.path.exists(socket), what=socket)
            self.refused(
                'running already',
                '--mediator',
                self.files,
                '--vm-id',
                '5',
                '--',
                'true',
                device=True,
            )
            self.assertTrue(os.path.exists(socket))


class Ends(RunnerCase):
    """However a run ends, nothing is left (VMTestCase checks that after each test)."""

    def wait_output(self, process, wanted):
        line = process.stdout.readline()
        self.assertEqual(line, wanted)

    def test_kill_9_of_the_runner(self):
        process = self.start_vm(
            '--mediator',
            self.files,
            '--qmp',
            os.path.join(self.files, 'qmp'),
            '--',
            'sh',
            '-c',
            'echo up; sleep 1000',
            device=True,
        )
        self.wait_output(process, b'up\n')
        self.assertTrue(any(b'qemu' in command for _, command in self.related()))
        process.kill()
        process.communicate()
        self.assert_nothing_left()

    def test_kill_9_of_the_guard(self):
        process = self.start_vm('--', 'sh', '-c', 'echo up; sleep 1000')
        self.wait_output(process, b'up\n')
        guards = [pid for pid, command in self.related() if b'guard.py' in command]
        self.assertEqual(len(guards), 1)
        os.kill(guards[0], signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 125, err)

    def test_kill_9_of_qemu(self):
        process = self.start_vm('--', 'sh', '-c', 'echo up; sleep 1000')
        self.wait_output(process, b'up\n')
        for pid, command in self.related():
            if b'guard.py' not in command and b'initramfs' in command:
                os.kill(pid, signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 125, err)
        self.assertIn(b'killed by signal 9', err)

    def test_signals_are_passed_on(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number=number):
                process = self.start_vm(
                    '--',
                    'sh',
                    '-c',
                    'trap "echo got it; exit 9" TERM INT; echo up; while :; do sleep 1; done',
                )
                self.wait_output(process, b'up\n')
                process.send_signal(number)
                out, err = process.communicate(timeout=120)
                self.assertEqual((process.returncode, out), (9, b'got it\n'), err)

    def test_signal_that_the_program_ignores(self):
        process = self.start_vm(
            '--', 'sh', '-c', 'trap "" TERM; echo up; while :; do sleep 1; done'
        )
        self.wait_output(process, b'up\n')
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)

    def test_signal_during_boot(self):
        process = self.start_vm('--', 'sleep', '1000')
        wait_for(lambda: any(b'initramfs' in command for _, command in self.related()), what='QEMU')
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)

    def test_reader_that_goes_away(self):
        process = self.start_vm('--', 'yes')
        self.wait_output(process, b'y\n')
        process.stdout.close()
        self.assertEqual(process.wait(timeout=120), 128 + signal.SIGPIPE)
        process.stdout = None


class PrivateMediator(RunnerCase):
    """A private mediator is started as agreed, and ended."""

    def run_with(self, mode, *args):
        self.record = os.path.join(self.files, 'record')
        return self.run_vm(
            *args,
            '--',
            'true',
            device=True,
            VGPU_MEDIATOR=self.write('mediator', MEDIATOR, 0o755),
            VT_RECORD=self.record,
            VT_MODE=mode,
            VGPU_WORKER='/bin/true',
        )

    def test_command_line(self):
        config = self.write('config', '')
        self.assertEqual(self.run_with('good', '--mediator-config', config)[0], 0)
        with open(self.record, encoding='utf-8') as stream:
            args = json.load(stream)
        for name in ('--watch', '--listen', '--ready-fd', '--log-level'):
            self.assertIn(name, args)
        self.assertEqual(args[args.index('--worker') + 1], '/bin/true')
        self.assertEqual(args[args.index('--config') + 1], config)

    def test_refusal_to_start_shows_its_log(self):
        status, _, err = self.run_with('refuse')
        self.assertEqual(status, 125)
        self.assertIn('stand-in mediator speaks', err)
        self.assertIn('exit status 4', err)

    def test_bad_end_fails_the_run_and_shows_its_log(self):
        status, _, err = self.run_with('bad end')
        self.assertEqual(status, 125)
        self.assertIn('stand-in mediator speaks', err)
        self.assertIn('exit status 3', err)


class Acceleration(VMTestCase):
    """A KVM that is there but does not boot the guest is noticed, once, and TCG used."""

    def setUp(self):
        super().setUp()
        self.real = paths.qemu()
        self.image = kernel.find()
        os.symlink(paths.firmware(self.real), os.path.join(self.files, 'pc-bios'))
        self.said = []

    def with_fake(self, kvm_does):
        """An environment in which QEMU does as told when asked for KVM, and /dev/kvm seems fine."""
        self.counter = os.path.join(self.files, 'tries')
        fake = self.write(
            'qemu',
            '#!/bin/sh\ncase "$*" in *"-accel kvm"*) echo >> %s; %s;; esac\nexec %s "$@"\n'
            % (self.counter, kvm_does, self.real),
            0o755,
        )
        for patch in (
            mock.patch.dict(
                os.environ,
                {
                    'VGPU_QEMU': fake,
                    'VGPU_CACHE': os.path.join(self.files, 'cache'),
                    'VGPU_VM_ACCEL': 'auto',
                },
            ),
            mock.patch.object(accel, 'kvm_opens', lambda device: None),
            mock.patch.object(accel, 'TRIAL_S', 2),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def boot(self):
        with self.vm(['true'], device=False, kernel=self.image, log=self.said.append) as vm:
            vm.start()
            self.assertEqual(vm.wait(), 0)
            return vm.accel

    def tries(self):
        with open(self.counter, encoding='ascii') as stream:
            return len(stream.read())

    def test_kvm_that_hangs(self):
        self.with_fake('exec sleep 1000')
        self.assertEqual(self.boot(), 'tcg')
        self.assertEqual(self.tries(), 1)
        self.assertEqual(self.boot(), 'tcg')
        self.assertEqual(self.tries(), 1, 'the verdict is remembered')
        self.assertIn('using TCG', self.said[0])

    def test_kvm_that_fails(self):
        self.with_fake('echo KVM internal error >&2; exit 1')
        self.assertEqual(self.boot(), 'tcg')

    def test_kvm_that_was_good_and_is_not_now(self):
        self.with_fake('exit 1')
        accel.remember(paths.qemu(), True)
        self.assertEqual(self.boot(), 'tcg')
        self.assertFalse(accel.recall(paths.qemu()))

    def test_no_kvm_at_all(self):
        with mock.patch.dict(os.environ, {'VGPU_VM_KVM': '/nowhere/kvm', 'VGPU_VM_ACCEL': 'auto'}):
            self.assertEqual(self.boot(), 'tcg')


class Library(VMTestCase):
    """What the VM class offers to tests."""

    def test_dialogue(self):
        with self.vm(
            ['sh', '-c', 'echo ready; read a; echo "got $a"; read b || echo end; exit 4'],
            device=False,
        ) as vm:
            vm.start()
            vm.wait_line(rb'^ready$')
            vm.send(b'word\n')
            self.assertEqual(vm.wait_line(rb'got (.*)').group(1), b'word')
            vm.send_eof()
            vm.wait_line(rb'^end$')
            self.assertEqual(vm.wait(), 4)

    def test_waiting_in_vain(self):
        with self.vm(['sh', '-c', 'echo something; sleep 1000'], device=False) as vm:
            vm.start()
            with self.assertRaises(VMTimeout):
                vm.wait_line(b'else', timeout_s=1)
        with self.vm(['echo', 'something'], device=False) as vm:
            vm.start()
            with self.assertRaisesRegex(VMError, 'without a line'):
                vm.wait_line(b'else')

    def test_stop_and_continue(self):
        with self.vm(['sh', '-c', 'echo up; read a'], device=False) as vm:
            vm.start()
            vm.wait_line(b'up')
            vm.qmp.command('stop')
            self.assertEqual(vm.qmp.command('query-status')['status'], 'paused')
            vm.qmp.wait_event('STOP')
            vm.qmp.command('cont')
            vm.send(b'\n')
            self.assertEqual(vm.wait(), 0)
            with self.assertRaisesRegex(VMError, 'refuses'):
                vm.qmp.command('device_del', id='none')

    def test_reset(self):
        with self.vm(
            ['sh', '-c', 'echo up; read a; echo "got $a"'], device=False, reboot=True
        ) as vm:
            vm.start()
            vm.wait_line(b'up')
            vm.system_reset()
            vm.wait_started()
            vm.wait_line(b'up')
            vm.send(b'it\n')
            vm.wait_line(b'got it')
            self.assertEqual((vm.wait(), vm.boots), (0, 2))

    def test_panic_with_reboot(self):
        with self.vm(
            ['sh', '-c', 'echo c > /proc/sysrq-trigger; sleep 1000'], device=False, reboot=True
        ) as vm:
            vm.start()
            with self.assertRaisesRegex(VMError, 'panicked'):
                vm.wait(120)

    def test_unplug(self):
        with self.vm(
            [
                'sh',
                '-c',
                'show() { cat /sys/bus/pci/devices/*/class; }; show; echo up; read a; show',
            ],
            mediator=self.files,
            root_port=True,
        ) as vm:
            vm.start()
            vm.wait_line(b'up')
            self.assertIn(b'0x120000', vm.stdout)
            seen = len(vm.stdout)
            vm.qmp.command('device_del', id='vgpu')
            vm.qmp.wait_event('DEVICE_DELETED')
            vm.send(b'\n')
            self.assertEqual(vm.wait(), 0)
            self.assertNotIn(b'0x120000', vm.stdout[seen:])

    def test_kill_qemu(self):
        with self.vm(['sh', '-c', 'echo up; sleep 1000'], mediator=self.files) as vm:
            vm.start()
            vm.wait_line(b'up')
            self.assertIsNotNone(vm.qemu_pid())
            vm.kill_qemu()
            self.assertIsNone(vm.qemu_pid())
            with self.assertRaisesRegex(VMError, 'signal 9'):
                vm.wait()

    def test_two_at_once(self):
        with self.vm(['sh', '-c', 'read a; echo $a'], mediator=self.files, vm_id=1) as one, self.vm(
            ['sh', '-c', 'read a; echo $a'], mediator=self.files, vm_id=2
        ) as two:
            one.start()
            two.start()
            one.send(b'first\n')
            two.send(b'second\n')
            self.assertEqual((two.wait(), one.wait()), (0, 0))
            self.assertEqual((bytes(one.stdout), bytes(two.stdout)), (b'first\n', b'second\n'))


class Pieces(unittest.TestCase):
    """Parts that need no VM."""

    def test_frames_survive_any_split_and_drop_damage(self):
        frames = [(b'O', bytes(range(256))), (b'E', b''), (b'X', b'\x7e\x7d'), (b'O', b'\x7d' * 50)]
        wire = b''.join(channel.encode(k, p) for k, p in frames)
        for step in (1, 2, 3, 7, len(wire)):
            decoder = channel.Decoder()
            got = []
            for i in range(0, len(wire), step):
                got += decoder.feed(wire[i : i + step])
            self.assertEqual(got, frames)
        decoder = channel.Decoder()
        cut = channel.encode(b'O', b'cut short by a reset')[:-9]
        self.assertEqual(
            decoder.feed(b'boot noise' + cut + channel.encode(b'H', b'1')), [(b'H', b'1')]
        )
        self.assertEqual(
            channel.Decoder().feed(channel.encode(b'O', b'abc').replace(b'b', b'c')), []
        )

    def test_archive_is_a_newc_archive(self):
        archive = initramfs.Archive()
        archive.add_file('a/b/file', b'odd', 0o640)
        archive.add_link('a/link', 'b/file')
        read_fd, write_fd = os.pipe()
        with os.fdopen(write_fd, 'wb') as out:
            archive.write(out)
        with os.fdopen(read_fd, 'rb') as stream:
            data = stream.read()
        self.assertEqual(len(data) % 4, 0)
        self.assertEqual(data.count(b'070701'), 5)
        self.assertIn(b'a/b/file\0', data)
        self.assertIn(b'TRAILER!!!\0', data)


if __name__ == '__main__':
    vmlib.main()
