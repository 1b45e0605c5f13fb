# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's driver does with BAR0, written from docs/register-map.md. Owns register names and the mailbox's steps;
refuses to know how an access reaches the device."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))

from vgpu_qtest import BAR0_AT, Qemu, le, wait_for  # noqa: E402
from vgpu_link import ACTIVE, Mediator  # noqa: E402

DOORBELL, STATUS, POOL_ID, PRIORITY, VM_ID, ERROR_CODE = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14
REQUEST_LEN, RESPONSE_LEN, PROTOCOL_VER, CAPABILITIES = 0x18, 0x1C, 0x20, 0x24
INTERRUPT_CTRL, INTERRUPT_STATUS, REQUEST_ID = 0x28, 0x2C, 0x30
TIMESTAMP_LO, TIMESTAMP_HI, SCRATCH, REQUEST_BUF, RESPONSE_BUF = 0x34, 0x38, 0x3C, 0x40, 0x440
WINDOW_SIZE, CHANNEL_COUNT, CHANNEL_SIZE, GENERATION, LINK_STATE = 0x840, 0x848, 0x84C, 0x850, 0x854

IDLE, BUSY, DONE, ERROR = range(4)
TOO_LARGE, UNAVAILABLE, TIMEOUT, CUDA, INVALID_LENGTH = 2, 3, 4, 5, 9


def owner(n):
    return 0xC00 + 16 * n


def ctrl(n):
    return 0xC04 + 16 * n


def channel_error(n):
    return 0xC08 + 16 * n


def channel_doorbell(n):
    return 0xC0C + 16 * n


class Guest(Qemu):
    """A QEMU whose device is mapped, and that is driven like a guest drives it."""

    def __init__(self, *args, mapped=True, **kwargs):
        super().__init__(*args, **kwargs)
        try:
            if mapped:
                self.map()
        except BaseException:
            self.close()
            raise

    def reg(self, offset, value=None, size=4):
        if value is None:
            return self.read(BAR0_AT + offset, size)
        return self.write(BAR0_AT + offset, value, size)

    def peek(self, offset):
        """A register's bytes one by one: no side effect (R4)."""
        return le(bytes(self.reg(offset + i, size=1) for i in range(4)))

    def status(self):
        return self.peek(STATUS)

    def submit(self, data, request_id=0):
        padded = data + bytes(-len(data) % 8)
        self.post(['writeq 0x%x 0x%x' % (BAR0_AT + REQUEST_BUF + i, le(padded[i:i + 8]))
                   for i in range(0, len(padded), 8)])
        self.reg(REQUEST_LEN, len(data))
        self.reg(REQUEST_ID, request_id)
        self.reg(DOORBELL, 1)

    def response(self):
        return bytes(self.reg(RESPONSE_BUF + i, size=1) for i in range(self.peek(RESPONSE_LEN)))

    def wait_status(self, *wanted):
        wait_for(lambda: self.status() in wanted, 'STATUS %s; it is %d' % (wanted, self.status()))

    def wait_attached(self, attached=1):
        wait_for(lambda: self.reg(LINK_STATE) == attached, 'LINK_STATE %d' % attached)

    def mediator(self):
        """A mediator that is connected and has not said anything."""
        return Mediator.connect(self.link_path)

    def attach(self, **welcome):
        link = self.mediator()
        link.attach(**welcome)
        self.wait_attached()
        return link

    def attach_channels(self, **welcome):
        return self.attach(channels=True, **welcome)

    def channel(self, n):
        """CHANNEL_OWNER, CTRL and ERROR."""
        return [self.reg(owner(n)), self.reg(ctrl(n)), self.reg(channel_error(n))]

    def wait_channel(self, n, *wanted):
        wait_for(lambda: self.channel(n) == list(wanted), 'channel %d to read %s; it reads %s'
                 % (n, wanted, self.channel(n)))

    def activate(self, link, n, token=1):
        self.reg(owner(n), token)
        self.reg(ctrl(n), 1)
        link.expect_enable(n)
        link.state(n, ACTIVE)
        self.wait_channel(n, token, ACTIVE, 0)

    def reach(self, link, state):
        """Bring an attached device into a state; the seq of what is in flight, for BUSY."""
        if state == IDLE:
            return None
        self.submit(b'state')
        request = link.expect_request()
        if state != BUSY:
            link.respond(request.seq, b'0123456789', 0 if state == DONE else CUDA)
        self.wait_status(state)
        return request.seq
