# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of the mediator's control socket, written from docs/control.md. Standard library only."""

import json
import socket

TIMEOUT_S = 60  # a loaded machine is no reason to fail


class Failed(Exception):
    """ok was false; code and message are the error's."""

    def __init__(self, code, message):
        super().__init__('%s: %s' % (code, message))
        self.code, self.message = code, message


class Control:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)  # waits while the queue of those who want in is full
        self.sock.settimeout(TIMEOUT_S)
        self.buffer = b''
        self.last = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        """The next line as an object; None at the end."""
        while b'\n' not in self.buffer:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b''
            if not data:
                assert not self.buffer, 'half a line: %r' % self.buffer[:200]
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b'\n')
        return json.loads(line)

    def submit(self, op, **fields):
        self.last += 1
        self.send(json.dumps(dict(fields, id=self.last, op=op)).encode() + b'\n')
        return self.last

    def ask(self, op, **fields):
        """The result; raises Failed."""
        number = self.submit(op, **fields)
        answer = self.line()
        assert answer is not None, 'no answer to %s' % op
        assert answer['id'] == number, (answer, number)
        if answer['ok'] is not True:
            raise Failed(answer['error']['code'], answer['error']['message'])
        return answer['result']
