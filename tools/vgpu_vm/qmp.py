# SPDX-License-Identifier: GPL-2.0-or-later
"""A QMP client: commands, answers, events. Owns the JSON stream; refuses to know which commands
there are.
"""

import json
import select
import time

from .errors import VMError, VMTimeout


class QMP:
    """Speaks QMP over a connected socket. Not for use by several threads at once."""

    def __init__(self, sock):
        self.sock = sock
        self.events = []
        self._buffer = b''
        self._ready = False

    def fileno(self):
        return self.sock.fileno()

    def _message(self, deadline):
        while b'\n' not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise VMTimeout('QEMU does not answer on its control socket')
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b''
            if not data:
                raise VMError('QEMU closed its control socket')
            self._buffer += data
        line, self._buffer = self._buffer.split(b'\n', 1)
        return json.loads(line.decode('utf-8'))

    def _send(self, message):
        try:
            self.sock.sendall(json.dumps(message).encode() + b'\n')
        except OSError as error:
            raise VMError('QEMU closed its control socket (%s)' % error.strerror)

    def command(self, name, timeout_s=60, **arguments):
        """Run a command; its result. A refusal raises VMError with QEMU's words."""
        deadline = time.monotonic() + timeout_s
        if not self._ready:
            while 'QMP' not in self._message(deadline):
                pass
            self._ready = True
            self.command('qmp_capabilities', timeout_s)
        # Argument names have dashes where Python has underscores; `value` and `property` have
        # neither.
        self._send(
            {'execute': name, 'arguments': {k.replace('_', '-'): v for k, v in arguments.items()}}
        )
        while True:
            message = self._message(deadline)
            if 'return' in message:
                return message['return']
            if 'error' in message:
                raise VMError('QEMU refuses %s: %s' % (name, message['error'].get('desc')))
            if 'event' in message:
                self.events.append(message)

    def wait_event(self, name, timeout_s=60):
        """The next event of that name, also one that came earlier and was not waited for."""
        deadline = time.monotonic() + timeout_s
        if not self._ready:
            self.command('query-status', timeout_s)
        while True:
            for i, event in enumerate(self.events):
                if event['event'] == name:
                    return self.events.pop(i)
            message = self._message(deadline)
            if 'event' in message:
                self.events.append(message)
