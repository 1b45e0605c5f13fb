# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual machine that runs one program, from the first byte of its file system to its exit
status.

Owns: QEMU's command line, the life of the QEMU process and its temporary folder, and the program's
streams. What goes into the guest is initramfs.py's, the wire is channel.py's, whether KVM works is
accel.py's. Refuses to know what the device or the mediator do. One thread uses a VM; nothing runs
in the background, so output waits in QEMU until it is asked for.
"""

import os
import re
import select
import shutil
import socket
import stat
import tempfile
import time

from . import accel, channel, guest, kernel, paths
from .child import Child, describe, tail
from .errors import SetupError, VMError, VMTimeout
from .mediator import Mediator
from .qmp import QMP

PRIORITIES = ('low', 'medium', 'high', '0', '1', '2')
SOCKET_PATH_MAX = 107
# Given up on after this many seconds when there is TCG to fall back to.
KVM_BOOT_S = 30
# Every option here was measured; docs/vm-runner.md has the figures.
KERNEL_OPTIONS = (
    'console=ttyS0 quiet nokaslr mitigations=off noreplace-smp cryptomgr.notests lsm= audit=0 '
    '8250.nr_uarts=2 random.trust_cpu=on'
)
SANITIZER_OPTIONS = ('ASAN_OPTIONS', 'LSAN_OPTIONS', 'TSAN_OPTIONS', 'UBSAN_OPTIONS')


class VM:
    """A virtual machine for one program. Use as a context manager: leaving it leaves nothing
    behind.

    argv: program and arguments, bytes or str. A program with a slash is a file of this machine; one
    without is one of busybox's, or else looked for in PATH. It runs as root, in a folder of the
    same path as the current one.

    pool, priority, vm_id: the device's properties.   mem_mib, cpus: the VM's size.
    copy: files to have in the VM, at the same path; programs and libraries bring what they need.
    env: environment of the program (sanitizer options are passed on by themselves).
    mediator: a folder that a running mediator watches, or a Mediator, or None for a private one.
    device: False leaves our device out, and the mediator with it.   device_props: more properties
    of it.
    window: bytes of the device's window, with K, M or G behind them if you like, 0 for none.
    channels: how many it has. None: what the device does by itself.
    root_port: put the device behind a PCIe root port, from which `device_del` (id 'vgpu') can
    unplug it.
    reboot: let the guest restart (QMP system_reset); else a restart ends the VM.
    timeout_s: for all of it, from start(); None for no limit.   boot_timeout_s: for the guest to
    come up.
    accel: 'auto', 'kvm' or 'tcg'.   kernel: a vmlinuz or vmlinux instead of Debian's cloud kernel.
    kernel_options: more of the kernel's command line.
    qemu_args: more arguments for QEMU.   qmp_path: a socket for somebody else's QMP client.
    console_log: file for the guest kernel's messages.   log: called with each message for a person
    (verbose).
    mediator_config: configuration file for the private mediator.
    """

    def __init__(
        self,
        argv,
        pool='A',
        priority='medium',
        vm_id=1,
        mem_mib=512,
        cpus=1,
        copy=(),
        env=None,
        mediator=None,
        device=True,
        device_props=None,
        window=None,
        channels=None,
        root_port=False,
        reboot=False,
        timeout_s=None,
        boot_timeout_s=120,
        accel='auto',
        kernel=None,
        kernel_options='',
        qemu_args=(),
        qmp_path=None,
        console_log=None,
        log=None,
        mediator_config=None,
    ):
        self.argv = [os.fsencode(a) for a in argv]
        self.pool, self.priority, self.vm_id = pool, str(priority), vm_id
        self.mem_mib, self.cpus = mem_mib, cpus
        self.copy, self.env = list(copy), dict(env or {})
        for name in SANITIZER_OPTIONS:
            if name in os.environ:
                self.env.setdefault(name, os.environ[name])
        self.device, self.device_props, self.root_port = device, dict(device_props or {}), root_port
        self.window, self.channels = window, channels
        self.reboot, self.timeout_s, self.boot_timeout_s = reboot, timeout_s, boot_timeout_s
        self.accel_wanted, self.accel = accel, None
        self.kernel_named, self.kernel_options = kernel, kernel_options
        self.qemu_args, self.qmp_path, self.console_log = list(qemu_args), qmp_path, console_log
        self.log = log or (lambda text: None)
        self.mediator_config = mediator_config
        self._mediator_given = mediator
        self.mediator = None  # the private one

        self.stdout, self.stderr = bytearray(), bytearray()
        self.on_stdout, self.on_stderr = self.stdout.extend, self.stderr.extend
        self.exit_status = None  # as a shell has it: 0-255, or 128 + signal
        self.boots = 0  # how often the guest came up
        self.started = False  # the program runs, or ran
        self.boot_s = None  # seconds from QEMU's start to the program's
        self.directory = None
        self.socket_path = None
        self._child = self._channel = self._qmp = None
        self._decoder = channel.Decoder()
        self._input, self._input_ends, self._input_taken = bytearray(), False, True
        self._line_at = 0
        self._launched = self._deadline = None
        self._console_checked = 0
        self._closed = False

    # -- life

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.close()
        except VMError:
            if kind is None:
                raise

    def start(self, wait=True):
        """Boot, and wait until the program has been started (wait=False: until QEMU has been)."""
        self._check()
        self.directory = tempfile.mkdtemp(prefix='vgpu-vm-')
        binary = paths.qemu()
        image = kernel.find(self.kernel_named)
        with open(os.path.join(self.directory, 'initramfs'), 'wb') as out:
            guest.build(self.argv, self.copy, self.env).write(out)
        self._deadline = time.monotonic() + self.timeout_s if self.timeout_s else None
        if self.device:
            self._find_mediator()
        self.accel = accel.choose(self.accel_wanted, binary, image, self.log)
        self._launch(binary, image)
        if not wait:
            return self
        may_fall_back = self.accel == 'kvm' and self.accel_wanted == 'auto'
        try:
            self.wait_started(min(self.boot_timeout_s, KVM_BOOT_S) if may_fall_back else None)
        except VMError:
            # A KVM that was good once and is not now: nothing has run yet, so try again without.
            if not may_fall_back or self.boots or self._out_of_time():
                raise
            accel.remember(binary, False)
            self.log('KVM failed to boot the guest: using TCG')
            self._end_qemu(0)
            self.accel = 'tcg'
            self._launch(binary, image)
            self.wait_started()
        return self

    def _out_of_time(self):
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _check(self):
        """Refuse what cannot be, before anything is started."""
        if not self.argv or not self.argv[0]:
            raise SetupError('no program to run: give one after --')
        if any(b'\0' in a for a in self.argv):
            raise SetupError(
                'an argument holds a NUL byte, which no program can be given: take it out'
            )
        if not re.match(r'[A-Za-z]\Z', str(self.pool)):
            raise SetupError("pool '%s' is not a letter: use one of A to Z" % self.pool)
        if self.priority not in PRIORITIES:
            raise SetupError("priority '%s' is none of low, medium, high" % self.priority)
        if not 0 <= self.vm_id <= 0xFFFFFFFF:
            raise SetupError('vm-id %d is out of range: use 0 to 4294967295' % self.vm_id)
        if self.window is not None and not re.match(r'[0-9]+[KMG]?\Z', str(self.window)):
            raise SetupError(
                "window '%s' is no number of bytes: give 0 or a power of two, such as 256M"
                % self.window
            )
        if self.channels is not None and not 1 <= self.channels <= 64:
            raise SetupError('%d channels will not do: use 1 to 64' % self.channels)
        if not 64 <= self.mem_mib <= 1 << 20:
            raise SetupError('%d MiB of memory will not do: use 64 to 1048576' % self.mem_mib)
        if not 1 <= self.cpus <= 64:
            raise SetupError('%d processors will not do: use 1 to 64' % self.cpus)
        if self.qmp_path and len(os.fsencode(self.qmp_path)) > SOCKET_PATH_MAX:
            raise SetupError(
                '%s is too long for a socket (%d bytes at most): use a shorter path'
                % (self.qmp_path, SOCKET_PATH_MAX)
            )

    def _find_mediator(self):
        given = self._mediator_given
        if given is None:
            folder = os.path.join(self.directory, 'm')
            os.mkdir(folder, 0o700)
            self.mediator = Mediator(
                folder,
                config=self.mediator_config,
                remove=[self.directory],
                deadline_s=self._hard_limit_s(),
            )
            self.mediator.start()
        else:
            folder = given.directory if isinstance(given, Mediator) else given
            if not os.path.isdir(folder):
                raise SetupError(
                    '%s is no folder: name the one that a running mediator watches' % folder
                )
            if not os.access(folder, os.W_OK | os.X_OK):
                raise SetupError(
                    'cannot write to %s, where the mediator looks for VMs: run as its owner'
                    % folder
                )
        self.socket_path = os.path.join(os.path.abspath(folder), 'vm-%d.sock' % self.vm_id)
        if len(os.fsencode(self.socket_path)) > SOCKET_PATH_MAX:
            raise SetupError(
                '%s is too long for a socket (%d bytes at most): use a folder with a shorter path, '
                'or set TMPDIR'
                % (self.socket_path, SOCKET_PATH_MAX)
            )
        if listens(self.socket_path):
            taken, self.socket_path = self.socket_path, None
            raise SetupError(
                'VM %d is running already (%s): choose another --vm-id' % (self.vm_id, taken)
            )

    def _hard_limit_s(self):
        """When a child is to end even if nobody here looks any more; 0 for never."""
        return self.timeout_s + 30 if self.timeout_s else 0

    def _command(self, binary, image, channel_fd, qmp_fd):
        options = KERNEL_OPTIONS + (' panic=0' if self.reboot else ' panic=-1')
        if self.kernel_options:
            options += ' ' + self.kernel_options
        command = [
            binary,
            '-nodefaults',
            '-no-user-config',
            '-display',
            'none',
            '-name',
            'vgpu-vm-%d' % self.vm_id,
            '-machine',
            'q35',
            '-m',
            str(self.mem_mib),
            '-smp',
            # With one processor and no chance of another, TCG before QEMU 8.0 leaves barriers out,
            # and what the guest shares with a worker needs them.
            '%d,maxcpus=%d' % (self.cpus, max(self.cpus, 2)),
        ] + accel.arguments(self.accel)
        if paths.firmware(binary):
            command += ['-L', paths.firmware(binary)]
        command += [
            '-kernel',
            image,
            '-initrd',
            os.path.join(self.directory, 'initramfs'),
            '-append',
            options,
        ]
        if not self.reboot:
            command += ['-no-reboot']
        command += [
            '-chardev',
            'file,id=console,path=' + escape(self.console_path()),
            '-serial',
            'chardev:console',
            '-chardev',
            'socket,id=channel,fd=%d' % channel_fd,
            '-serial',
            'chardev:channel',
            '-chardev',
            'socket,id=control,fd=%d' % qmp_fd,
            '-mon',
            'chardev=control,mode=control',
        ]
        if self.qmp_path:
            command += ['-qmp', 'unix:%s,server=on,wait=off' % escape(self.qmp_path)]
        if self.device:
            props = {
                'id': 'vgpu',
                'pool_id': self.pool,
                'priority': self.priority,
                'vm_id': str(self.vm_id),
                'chardev': 'vgpu0',
            }
            if self.root_port:
                command += ['-device', 'pcie-root-port,id=root0,slot=1']
                props['bus'] = 'root0'
            for name, value in (('window', self.window), ('channels', self.channels)):
                if value is not None:
                    props[name] = str(value)
            props.update(self.device_props)
            command += [
                '-chardev',
                'socket,id=vgpu0,path=%s,server=on,wait=off' % escape(self.socket_path),
                '-device',
                ','.join(['vgpu-stub'] + ['%s=%s' % (k, escape(str(v))) for k, v in props.items()]),
            ]
        return command + self.qemu_args

    def console_path(self):
        return (
            os.path.abspath(self.console_log)
            if self.console_log
            else os.path.join(self.directory, 'console.log')
        )

    def _launch(self, binary, image):
        ours_channel, theirs_channel = socket.socketpair()
        ours_qmp, theirs_qmp = socket.socketpair()
        ours_channel.setblocking(False)
        self._channel, self._qmp = ours_channel, QMP(ours_qmp)
        self._decoder = channel.Decoder()
        self._launched = time.monotonic()
        remove = [self.directory] + [p for p in (self.socket_path, self.qmp_path) if p]
        try:
            self._child = Child(
                self._command(binary, image, theirs_channel.fileno(), theirs_qmp.fileno()),
                os.path.join(self.directory, 'qemu.log'),
                remove=remove,
                deadline_s=self._hard_limit_s(),
                pass_fds=[theirs_channel.fileno(), theirs_qmp.fileno()],
            )
        finally:
            theirs_channel.close()
            theirs_qmp.close()

    def _end_qemu(self, grace_s):
        """End QEMU and take back what it was given; its wait status."""
        status = None
        if self._child:
            status = self._child.stop(grace_s)
            self._child = None
            self._channel.close()
            self._qmp.sock.close()
        for path in (self.socket_path, self.qmp_path):
            if path and os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)
        return status

    def close(self):
        """End all that still runs and remove all files. Raises VMError if QEMU or the private
        mediator died badly.
        """
        if self._closed:
            return
        self._closed = True
        problems = []
        try:
            # A program that ended leaves QEMU to shut down in order; one that did not is of no
            # interest any more.
            status = self._end_qemu(10 if self.exit_status is not None else 0)
            if self.exit_status is not None and status:
                problems.append(
                    (
                        'QEMU ended badly: %s' % describe(status),
                        tail(os.path.join(self.directory, 'qemu.log')),
                    )
                )
        finally:
            try:
                if self.mediator:
                    self.mediator.close()
            except VMError as error:
                problems.append((error.text, error.detail))
            finally:
                if self.directory:
                    shutil.rmtree(self.directory, ignore_errors=True)
        if problems:
            raise VMError('; '.join(p[0] for p in problems), '\n'.join(p[1] for p in problems))

    # -- the program

    def wait_started(self, timeout_s=None):
        """Wait until the program runs."""
        boots = self.boots
        self._pump_until(
            lambda: self.started,
            timeout_s or self.boot_timeout_s,
            'the guest has not come up after %d s' % (timeout_s or self.boot_timeout_s),
        )
        if self.boots > boots:
            self.log('%s: program started after %.2f s' % (self.accel.upper(), self.boot_s))

    def wait(self, timeout_s=None):
        """Wait for the program's end; its exit status, 128 + N if signal N killed it."""
        self._pump_until(
            lambda: self.exit_status is not None,
            timeout_s,
            'the program still runs after %s s' % timeout_s,
        )
        return self.exit_status

    def wait_line(self, pattern, timeout_s=120):
        """Wait for a line of standard output that matches (a bytes regular expression, searched);
        the match.

        Lines are taken in order: the next call looks at what follows the line found.
        """
        found = []

        def look():
            while True:
                end = self.stdout.find(b'\n', self._line_at)
                if end < 0:
                    return False
                line = bytes(self.stdout[self._line_at : end])
                self._line_at = end + 1
                match = re.search(pattern, line)
                if match:
                    found.append(match)
                    return True

        self._pump_until(
            lambda: look() or self.exit_status is not None,
            timeout_s,
            'no line of output matches %r' % pattern,
        )
        if not found:
            raise VMError(
                'the program ended (status %d) without a line that matches %r'
                % (self.exit_status, pattern),
                (bytes(self.stdout[-2000:]) + bytes(self.stderr[-2000:])).decode(
                    'utf-8', 'replace'
                ),
            )
        return found[0]

    def send(self, data):
        """Give the program input."""
        self._input += data
        self._feed()

    def send_eof(self):
        """End the program's input, after what was sent."""
        self._input_ends = True
        self._feed()

    def signal(self, number):
        """Send a signal to the program (to its process group)."""
        self._transmit(channel.encode(b'K', bytes([number])))

    def input_pending(self):
        """Bytes of input that have not yet been sent."""
        return len(self._input)

    # -- the machine

    @property
    def qmp(self):
        """The QMP client: vm.qmp.command('device_del', id='vgpu')."""
        return self._qmp

    def qemu_pid(self):
        """QEMU's process id, None when it has ended."""
        return self._child.pid() if self._child else None

    def kill_qemu(self):
        """End QEMU as a crash would (SIGKILL), now."""
        if self._child:
            self._child.kill()
            self._child.wait(30)

    def system_reset(self):
        """Reset the machine (needs reboot=True); wait_started() then waits for the program to run
        anew.
        """
        if not self.reboot:
            raise SetupError('a reset would end this VM: make it with reboot=True')
        self.started = False
        self.qmp.command('system_reset')

    def console_tail(self, lines=60):
        """The last lines of the guest kernel's console."""
        return tail(self.console_path(), lines) if self.directory else ''

    def fileno(self):
        """Readable when pump() has something to do, except for the end of time limits."""
        return self._channel.fileno()

    def pump(self, timeout_s):
        """Take what the guest sent, waiting for it up to timeout_s. Raises VMError when the VM is
        gone or out of time.
        """
        now = time.monotonic()
        if self._deadline is not None:
            if now >= self._deadline:
                raise VMTimeout(
                    'time is up: the program ran for %d s' % self.timeout_s, self._detail()
                )
            timeout_s = min(timeout_s, self._deadline - now)
        if select.select([self._channel], [], [], max(0, timeout_s))[0]:
            try:
                data = self._channel.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b''
            for kind, payload in self._decoder.feed(data):
                self._handle(kind, payload)
            if not data and self.exit_status is None:
                status = self._child.wait(30)
                if status is not None:
                    raise VMError(
                        'the VM ended before the program did (QEMU: %s)' % describe(status),
                        self._detail(),
                    )
                raise VMError('QEMU closed the channel to the guest', self._detail())
        elif self.reboot and now - self._console_checked > 1:
            self._console_checked = now
            if 'Kernel panic' in self.console_tail():
                raise VMError('the guest kernel panicked', self._detail())

    def _pump_until(self, done, timeout_s, complaint):
        if self._channel is None or self._child is None:
            raise VMError('the VM does not run')
        end = time.monotonic() + timeout_s if timeout_s else None
        while not done():
            left = end - time.monotonic() if end else 1
            if left <= 0:
                raise VMTimeout(complaint, self._detail())
            self.pump(min(left, 1))

    def _detail(self):
        parts = [
            ('console', self.console_tail()),
            ('QEMU', tail(os.path.join(self.directory, 'qemu.log'))),
        ]
        if self.mediator:
            parts.append(('mediator', self.mediator.tail()))
        return '\n'.join('--- %s\n%s' % part for part in parts if part[1])

    def _handle(self, kind, payload):
        if kind == b'O':
            self.on_stdout(payload)
        elif kind == b'E':
            self.on_stderr(payload)
        elif kind == b'H':
            self.boots += 1
            self._input_taken = True
        elif kind == b'S':
            self.started = True
            self.boot_s = time.monotonic() - self._launched
            self._feed()
        elif kind == b'A':
            self._input_taken = True
            self._feed()
        elif kind == b'X' and len(payload) == 2:
            self.exit_status = payload[1] + (128 if payload[0] else 0)
        elif kind == b'F':
            raise SetupError(payload.decode('utf-8', 'replace'))

    def _feed(self):
        """Send one frame of input at a time: the guest's serial port has no other flow control."""
        if not self.started or not self._input_taken or self.exit_status is not None:
            return
        if self._input:
            piece = bytes(self._input[: channel.PAYLOAD_MAX])
            del self._input[: channel.PAYLOAD_MAX]
            self._input_taken = False
            self._transmit(channel.encode(b'I', piece))
        elif self._input_ends:
            self._input_ends = False
            self._transmit(channel.encode(b'Z'))

    def _transmit(self, frame):
        # At most one frame of input and a few signals are ever under way: the socket holds many
        # times that.
        try:
            self._channel.sendall(frame)
        except OSError:
            pass  # the VM is gone, which pump() reports


def escape(text):
    """A value inside one of QEMU's comma-separated options."""
    return text.replace(',', ',,')


def listens(path):
    """Whether a process listens on that Unix socket. Connecting to find out would disturb the one
    who does.
    """
    try:
        with open('/proc/net/unix', encoding='utf-8', errors='replace') as stream:
            return any(line.rstrip('\n').endswith(' ' + path) for line in stream)
    except OSError:
        return False
