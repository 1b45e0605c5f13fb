# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of tools/vgpu-vm. Owns options, streams and signals of this process; the rest is
machine.py's.
"""

import argparse
import os
import select
import signal
import sys
import time

from . import accel, guest, kernel, paths
from .errors import SetupError, VMError
from .machine import VM

# A program that was told to end has this long to do so.
SIGNAL_GRACE_S = 5

EPILOG = '''
PROGRAM with a slash is a file of this machine, else one of busybox's programs or one in PATH. It
and every --copy FILE are in the VM at the same path as here, with the libraries they need, and it
runs as root in the current folder's path.

The exit status is PROGRAM's, 128+N if signal N ended it; 2 if something is wrong with what was
asked for, 124 when --timeout is over, 125 if the VM, QEMU or the private mediator failed.
'''


def parse(argv):
    parser = argparse.ArgumentParser(
        prog='vgpu-vm',
        description='Run a program in a virtual machine with a vgpu-stub device.',
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage='%(prog)s [options] -- PROGRAM [ARGS]',
    )
    device = parser.add_argument_group('device')
    device.add_argument(
        '--pool', default='A', metavar='LETTER', help='pool the VM asks for (default A)'
    )
    device.add_argument(
        '--priority', default='medium', metavar='P', help='low, medium (default) or high'
    )
    device.add_argument(
        '--vm-id', type=int, default=1, metavar='N', help='identifier of the VM (default 1)'
    )
    device.add_argument(
        '--window',
        metavar='BYTES',
        help="size of the device's window, a power of two such as 256M (the default), or 0 for none",
    )
    device.add_argument(
        '--channels', type=int, metavar='N', help='channels in the window, 1 to 64 (default 16)'
    )
    device.add_argument(
        '--device-prop',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='another property of the device',
    )
    device.add_argument(
        '--no-device', action='store_true', help='leave the device out, and the mediator with it'
    )
    device.add_argument(
        '--mediator',
        metavar='DIR',
        help='folder that a running mediator watches (default: a private mediator)',
    )
    device.add_argument(
        '--mediator-config', metavar='FILE', help='configuration file for the private mediator'
    )
    machine = parser.add_argument_group('machine')
    machine.add_argument('--mem', type=int, default=512, metavar='MiB', help='memory (default 512)')
    machine.add_argument('--cpus', type=int, default=1, metavar='N', help='processors (default 1)')
    machine.add_argument(
        '--accel', default='auto', metavar='A', help='auto (default: KVM if it works), kvm or tcg'
    )
    machine.add_argument(
        '--kernel', metavar='FILE', help="vmlinuz or vmlinux instead of Debian's cloud kernel"
    )
    machine.add_argument(
        '--qemu-arg', action='append', default=[], metavar='ARG', help='another argument for QEMU'
    )
    machine.add_argument('--qmp', metavar='SOCKET', help='let QEMU listen for QMP clients there')
    machine.add_argument(
        '--serial-log', metavar='FILE', help="keep the guest kernel's messages in FILE"
    )
    program = parser.add_argument_group('program')
    program.add_argument(
        '--copy',
        action='append',
        default=[],
        metavar='FILE',
        help='have FILE in the VM, at the same path',
    )
    program.add_argument(
        '--env',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='environment variable of the program',
    )
    program.add_argument(
        '--stdin',
        action='store_true',
        help='pass standard input on (default: the program has none)',
    )
    program.add_argument(
        '--timeout', type=float, metavar='S', help='end it after S seconds, status 124'
    )
    parser.add_argument('--verbose', action='store_true', help='say what the runner does')
    parser.add_argument(
        '--prepare',
        action='store_true',
        help='only do what the first VM would wait for: kernel, init, KVM trial',
    )
    parser.add_argument(
        'command', nargs=argparse.REMAINDER, metavar='PROGRAM', help=argparse.SUPPRESS
    )
    args = parser.parse_args(argv)
    if args.command[:1] == ['--']:
        args.command = args.command[1:]
    if not args.command and not args.prepare:
        parser.error('no program to run: give one after --')
    if args.timeout is not None and args.timeout <= 0:
        parser.error('--timeout must be more than 0')
    return args


def pairs(items, option):
    result = {}
    for item in items:
        name, equals, value = item.partition('=')
        if not name or not equals:
            raise SetupError("%s '%s' is no NAME=VALUE" % (option, item))
        result[name] = value
    return result


def complain(text):
    sys.stderr.write('vgpu-vm: %s\n' % text)
    sys.stderr.flush()


def writer(fd):
    """A sink that writes everything to a descriptor; a reader that went away ends the run as
    SIGPIPE would.
    """

    def write(data):
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                select.select([], [fd], [])

    return write


class Signals:
    """SIGINT, SIGTERM and SIGHUP, as something select() can wait for."""

    def __init__(self):
        self.read_fd, write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(write_fd, False)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.note)
        self.first = None

    def note(self, number, frame):
        """Before the program runs there is nobody to pass it on to: unwind at once."""
        if self.first is None:
            self.first = number
        if not self.forwarding:
            raise Interrupted(number)

    forwarding = False

    def take(self):
        try:
            return list(os.read(self.read_fd, 64))
        except BlockingIOError:
            return []


class Interrupted(BaseException):
    """A signal came before the program was started."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


def serve(vm, signals, with_stdin):
    """Carry streams and signals until the program has ended; its exit status, or 128 + the signal
    that ended the run.
    """
    stdin = 0 if with_stdin else None
    if stdin is None:
        vm.send_eof()
    end = None
    while vm.exit_status is None:
        watch = [signals.read_fd]
        if stdin is not None and not vm.input_pending():
            watch.append(stdin)
        ready = select.select([vm] + watch, [], [], 1)[0]
        if signals.read_fd in ready:
            for number in signals.take():
                if number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    if end is not None:
                        return 128 + signals.first  # told twice: no more waiting
                    vm.signal(number)
                    end = time.monotonic() + SIGNAL_GRACE_S
        if stdin in ready:
            data = os.read(stdin, 16384)
            if data:
                vm.send(data)
            else:
                vm.send_eof()
                stdin = None
        vm.pump(0)
        if end is not None and vm.exit_status is None and time.monotonic() > end:
            return 128 + signals.first
    return vm.exit_status


def prepare(say):
    binary = paths.qemu()
    image = kernel.find()
    guest.init_program()
    say('kernel: %s' % image)
    accel.choose('auto', binary, image, say)
    return 0


def main(argv=None):
    args = parse(sys.argv[1:] if argv is None else argv)
    say = complain if args.verbose else lambda text: None
    signals = Signals()
    status = None
    try:
        if args.prepare:
            return prepare(complain)
        with VM(
            args.command,
            pool=args.pool,
            priority=args.priority,
            vm_id=args.vm_id,
            mem_mib=args.mem,
            cpus=args.cpus,
            copy=args.copy,
            env=pairs(args.env, '--env'),
            mediator=args.mediator,
            device=not args.no_device,
            device_props=pairs(args.device_prop, '--device-prop'),
            window=args.window,
            channels=args.channels,
            timeout_s=args.timeout,
            accel=args.accel,
            kernel=args.kernel,
            qemu_args=args.qemu_arg,
            qmp_path=args.qmp,
            console_log=args.serial_log,
            log=say,
            mediator_config=args.mediator_config,
        ) as vm:
            vm.on_stdout, vm.on_stderr = writer(1), writer(2)
            vm.start()
            signals.forwarding = True
            if signals.first is not None:
                raise Interrupted(signals.first)
            status = serve(vm, signals, args.stdin)
        return status
    except Interrupted as interrupted:
        return 128 + interrupted.number
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except SetupError as error:
        complain(error)
        return error.status
    except VMError as error:
        if error.detail:
            sys.stderr.write(error.detail.rstrip('\n') + '\n')
        complain(error.text)
        # A program that failed says more about it than what broke down afterwards.
        return status or error.status
