# SPDX-License-Identifier: GPL-2.0-or-later
"""Stands between the runner and one long-lived child (QEMU or a mediator), so that no child
outlives the runner.

Owns: the child's end, and the files to remove with it. Refuses to know what the child does. Run as
a program of its own, because only a process that nobody kills by accident can clean up after a
runner that was killed with SIGKILL:

    guard.py FD GRACE DEADLINE REMOVE... -- COMMAND...

FD is a socket to the runner. When it closes, the child gets SIGTERM, GRACE seconds later SIGKILL,
and the REMOVE paths are deleted. 'T' and 'K' received there send SIGTERM and SIGKILL. After
DEADLINE seconds (0: never) the child is killed in any case. To the runner go two lines: 'P' and the
child's process id at once, its wait status in decimal when it has ended. Should the guard itself be
killed, the kernel kills the child (PR_SET_PDEATHSIG).
"""

import ctypes
import os
import select
import shutil
import signal
import sys
import time

PR_SET_PDEATHSIG = 1


def remove(paths):
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            try:
                os.unlink(path)
            except OSError:
                pass


def start(command, control):
    """Fork and run the child, tied to this process's life."""
    libc = ctypes.CDLL(None, use_errno=True)
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(127)
        os.close(control)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execv(command[0], command)
        except OSError as error:
            os.write(2, ('cannot run %s: %s\n' % (command[0], error.strerror)).encode())
        os._exit(127)
    return pid


def tell(control, text):
    try:
        os.write(control, text.encode())
    except OSError:
        pass


def main():
    split = sys.argv.index('--')
    control, grace, deadline = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    paths, command = sys.argv[4:split], sys.argv[split + 1 :]
    # The terminal's signals are for the runner; it says here what is to end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_w, False)
    signal.set_wakeup_fd(wake_w)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pid = start(command, control)
    # What the child inherits is to close when the child ends, not when the guard does.
    for number in [int(name) for name in os.listdir('/proc/self/fd')]:
        if number > 2 and number not in (control, wake_r, wake_w):
            try:
                os.close(number)
            except OSError:
                pass  # it served to read the folder
    tell(control, 'P%d\n' % pid)
    kill_at = time.monotonic() + deadline if deadline else None
    orphaned = False
    while True:
        wait_s = max(0, kill_at - time.monotonic()) if kill_at is not None else None
        ready = select.select([wake_r] + ([] if orphaned else [control]), [], [], wait_s)[0]
        if wake_r in ready:
            os.read(wake_r, 512)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if control in ready:
            try:
                asked = os.read(control, 64)
            except OSError:
                asked = b''
            if not asked:
                orphaned = True
                kill_at = time.monotonic() + grace
                os.kill(pid, signal.SIGTERM if grace else signal.SIGKILL)
            if b'T' in asked:
                os.kill(pid, signal.SIGTERM)
            if b'K' in asked:
                os.kill(pid, signal.SIGKILL)
        if kill_at is not None and time.monotonic() >= kill_at:
            os.kill(pid, signal.SIGKILL)
            kill_at = None
    tell(control, '%d\n' % status)
    try:
        # The runner may have died in this moment: what it did not take back to clean up is ours.
        orphaned = orphaned or not os.read(control, 1)
    except OSError:
        orphaned = True
    if orphaned:
        remove(paths)


if __name__ == '__main__':
    main()
