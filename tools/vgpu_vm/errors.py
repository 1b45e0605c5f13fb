# SPDX-License-Identifier: GPL-2.0-or-later
"""The runner's errors, and the exit status each becomes. Owns nothing else."""

# Exit statuses of tools/vgpu-vm that are not the program's own.
EXIT_SETUP = 2
EXIT_TIMEOUT = 124
EXIT_VM = 125


class SetupError(Exception):
    """What was asked for cannot be done; one line that says what to do about it."""

    status = EXIT_SETUP


class VMError(Exception):
    """The VM, not the program, failed: no boot, a kernel panic, QEMU or the mediator died.

    `detail` holds the tail of what the console, QEMU or the mediator said.
    """

    status = EXIT_VM

    def __init__(self, text, detail=''):
        super().__init__(text + ('\n' + detail if detail else ''))
        self.text = text
        self.detail = detail


class VMTimeout(VMError):
    """The time given to the program, or to a wait, is over."""

    status = EXIT_TIMEOUT
