# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs one program in a virtual machine of its own: what tools/vgpu-vm and the VM tests share.

    from vgpu_vm import VM
    with VM(['/path/to/program', 'argument'], vm_id=7) as vm:
        vm.start()
        vm.wait_line(b'ready')
        vm.send(b'go\\n')
        assert vm.wait() == 0

Python 3.7 and its standard library only.
"""

from .errors import SetupError, VMError, VMTimeout
from .machine import VM
from .mediator import Mediator

__all__ = ['VM', 'Mediator', 'SetupError', 'VMError', 'VMTimeout']
