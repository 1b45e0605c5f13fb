# SPDX-License-Identifier: GPL-2.0-or-later
"""The mediator's end of the link, written from docs/link.md and nothing else.

Owns: framing, and a check of every rule that page makes for what a device sends. Refuses to know what is in a request,
and how the device is made. Standard library only.

    with Mediator.connect('/run/vm-7.sock') as link:
        hello = link.attach(vm_id=7)
        request = link.expect_request()
        link.respond(request.seq, b'answer')

A device that breaks a rule raises Violation; one that closes raises Closed; one that is silent raises socket.timeout.
"""

import array
import collections
import os
import select
import socket
import struct
import time

MAGIC = 0x4B4E4C56
HEADER = struct.Struct('<IHHIIQ')
MAX_PAYLOAD = 2048

HELLO, WELCOME, REFUSE, REQUEST, RESPONSE, CANCEL, RESET, UPDATE = range(1, 9)
NAMES = {HELLO: 'HELLO', WELCOME: 'WELCOME', REFUSE: 'REFUSE', REQUEST: 'REQUEST', RESPONSE: 'RESPONSE',
         CANCEL: 'CANCEL', RESET: 'RESET', UPDATE: 'UPDATE'}
FROM_DEVICE = (HELLO, REQUEST, CANCEL, RESET)

FEATURE_MAILBOX = 1
PROTOCOL = 0x00010000
TIMEOUT_S = 30  # a loaded machine is no reason to fail

Message = collections.namedtuple('Message', 'type seq payload')
Request = collections.namedtuple('Request', 'seq request_id data')
Hello = collections.namedtuple('Hello', 'features protocol vm_id pool_id priority timeout_ms generation window_bytes '
                               'channel_count channel_bytes')
HELLO_BODY = struct.Struct('<QIIIIIIQII4I')
WELCOME_BODY = struct.Struct('<QIIII')


class Closed(Exception):
    """The other side ended the connection, possibly inside a message (then the text says so)."""


class Violation(Exception):
    """The other side broke a rule of docs/link.md."""


def pack(kind, payload=b'', seq=0, magic=MAGIC, fd_count=0, length=None, reserved=0):
    """A message as bytes. The defaults make a correct header; override one to make a wrong one."""
    return HEADER.pack(magic, kind, fd_count, len(payload) if length is None else length, reserved, seq) + payload


def pack_welcome(vm_id=0, pool='A', priority=1, features=FEATURE_MAILBOX, reserved=0):
    return WELCOME_BODY.pack(features, vm_id, ord(pool) if isinstance(pool, str) else pool, priority, reserved)


def pack_response(data=b'', error=0, length=None):
    return struct.pack('<II', error, len(data) if length is None else length) + data


def pack_refuse(reason, text='', length=None):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack('<II', reason, len(data) if length is None else length) + data


class Stream:
    """Messages over a connected Unix stream socket."""

    def __init__(self, sock, timeout=TIMEOUT_S):
        self.sock = sock
        self.sock.setblocking(False)
        self.timeout = timeout
        self.buffer = b''

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.sock.close()

    def send_raw(self, data, fds=()):
        """All of data, with descriptors beside its first byte."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        deadline = time.monotonic() + self.timeout
        while data:
            try:
                sent = self.sock.sendmsg([data], ancillary)
            except BlockingIOError:
                self._wait(deadline, write=True)
                continue
            except (BrokenPipeError, ConnectionResetError) as error:
                raise Closed('while sending') from error
            data = data[sent:]
            ancillary = []

    def send(self, kind, payload=b'', seq=0, fds=(), **header):
        self.send_raw(pack(kind, payload, seq, **header), fds)

    def _wait(self, deadline, write=False):
        left = deadline - time.monotonic()
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT if write else select.POLLIN)
        if left <= 0 or not poll.poll(left * 1000):
            raise socket.timeout('the other side neither said nor took anything')

    def _fill(self, want, timeout):
        deadline = time.monotonic() + timeout
        while len(self.buffer) < want:
            try:
                data, ancillary, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
            except BlockingIOError:
                self._wait(deadline)
                continue
            except ConnectionResetError:
                data, ancillary = b'', []
            for level, kind, raw in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds = array.array('i')
                    fds.frombytes(raw[:len(raw) - len(raw) % fds.itemsize])
                    for fd in fds:
                        os.close(fd)
                    raise Violation('descriptors came that no message speaks of')
            if not data:
                raise Closed('inside a message' if self.buffer else 'between messages')
            self.buffer += data

    def receive(self, timeout=None):
        """The next message, its header checked as L1 says."""
        timeout = self.timeout if timeout is None else timeout
        self._fill(HEADER.size, timeout)
        magic, kind, fd_count, length, reserved, seq = HEADER.unpack_from(self.buffer)
        if magic != MAGIC:
            raise Violation('wrong magic 0x%08x' % magic)
        if kind not in NAMES:
            raise Violation('unknown type %d' % kind)
        if fd_count:
            raise Violation('fd_count is %d' % fd_count)
        if reserved:
            raise Violation('reserved is 0x%x' % reserved)
        if length > MAX_PAYLOAD:
            raise Violation('length is %d' % length)
        self._fill(HEADER.size + length, timeout)
        payload = self.buffer[HEADER.size:HEADER.size + length]
        self.buffer = self.buffer[HEADER.size + length:]
        return Message(kind, seq, payload)

    def expect_closed(self, timeout=None):
        """The other side must end the connection; anything it still says is an error."""
        try:
            message = self.receive(timeout)
        except Closed as closed:
            if 'inside' in str(closed):
                raise Violation('the connection ended inside a message') from closed
            return
        raise Violation('%s instead of the end of the connection' % NAMES[message.type])

    def drain_until_closed(self, timeout=None):
        """Take what was sent before the connection ended; a message that was cut off is no fault then."""
        messages = []
        try:
            while True:
                messages.append(self.receive(timeout))
        except Closed:
            return messages

    def expect_silence(self, seconds=0.2):
        try:
            message = self.receive(seconds)
        except socket.timeout:
            return
        raise Violation('%s where nothing is to be said' % NAMES[message.type])


class Mediator(Stream):
    """What a mediator says, and what it may rely on."""

    def __init__(self, sock, timeout=TIMEOUT_S):
        super().__init__(sock, timeout)
        self.greeted = False
        self.attached = False
        self.last_seq = 0
        self.outstanding = 0

    @classmethod
    def connect(cls, path, timeout=TIMEOUT_S):
        """Connect to a device's socket, waiting until somebody listens there."""
        deadline = time.monotonic() + timeout
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(path)
                return cls(sock, timeout)
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def receive(self, timeout=None):
        """The next message of the device, held to L3, L8, L9, L10 and L12."""
        message = super().receive(timeout)
        name = NAMES[message.type]
        if message.type not in FROM_DEVICE:
            raise Violation('a device does not send %s' % name)
        if not self.greeted and message.type != HELLO:
            raise Violation('%s before HELLO' % name)
        if self.greeted and message.type == HELLO:
            raise Violation('a second HELLO')
        if message.type != HELLO and not self.attached:
            raise Violation('%s before WELCOME' % name)
        if message.type in (HELLO, RESET) and message.seq:
            raise Violation('%s with seq %d' % (name, message.seq))
        getattr(self, '_check_' + name.lower())(message)
        return message

    def _check_hello(self, message):
        if len(message.payload) != HELLO_BODY.size:
            raise Violation('HELLO of %d bytes' % len(message.payload))
        fields = HELLO_BODY.unpack(message.payload)
        if any(fields[10:]):
            raise Violation('HELLO with reserved fields')
        hello = Hello(*fields[:10])
        if not hello.features & FEATURE_MAILBOX:
            raise Violation('HELLO without the mailbox feature')
        if not (ord('A') <= hello.pool_id <= ord('Z') and hello.priority <= 2):
            raise Violation('HELLO with a wish out of range: %s' % (hello,))
        self.greeted = True

    def _check_request(self, message):
        if message.seq <= self.last_seq:
            raise Violation('REQUEST %d after %d' % (message.seq, self.last_seq))
        if self.outstanding:
            raise Violation('REQUEST %d while %d is outstanding' % (message.seq, self.outstanding))
        if len(message.payload) < 8:
            raise Violation('REQUEST of %d bytes' % len(message.payload))
        length = struct.unpack_from('<I', message.payload, 4)[0]
        if not 1 <= length <= 1024 or length != len(message.payload) - 8:
            raise Violation('REQUEST says %d bytes and has %d' % (length, len(message.payload) - 8))
        self.last_seq = self.outstanding = message.seq

    def _check_cancel(self, message):
        if message.payload:
            raise Violation('CANCEL with a payload')
        if message.seq == self.outstanding:
            self.outstanding = 0

    def _check_reset(self, message):
        if len(message.payload) != 8 or message.payload[4:] != bytes(4):
            raise Violation('RESET with payload %s' % message.payload.hex())
        self.outstanding = 0

    def expect(self, kind, timeout=None):
        message = self.receive(timeout)
        if message.type != kind:
            raise Violation('%s instead of %s' % (NAMES[message.type], NAMES[kind]))
        return message

    def expect_hello(self, timeout=None):
        return Hello(*HELLO_BODY.unpack(self.expect(HELLO, timeout).payload)[:10])

    def expect_request(self, timeout=None):
        message = self.expect(REQUEST, timeout)
        return Request(message.seq, struct.unpack_from('<I', message.payload)[0], message.payload[8:])

    def expect_cancel(self, seq, timeout=None):
        message = self.expect(CANCEL, timeout)
        if message.seq != seq:
            raise Violation('CANCEL of %d instead of %d' % (message.seq, seq))

    def expect_reset(self, timeout=None):
        """GENERATION after the reset."""
        return struct.unpack_from('<I', self.expect(RESET, timeout).payload)[0]

    def welcome(self, vm_id=0, pool='A', priority=1, **more):
        self.attached = True
        self.send(WELCOME, pack_welcome(vm_id, pool, priority, **more))

    def update(self, vm_id=0, pool='A', priority=1, **more):
        self.send(UPDATE, pack_welcome(vm_id, pool, priority, **more))

    def refuse(self, reason, text=''):
        self.send(REFUSE, pack_refuse(reason, text))

    def attach(self, vm_id=None, pool=None, priority=None):
        """HELLO and WELCOME; what is not given is welcomed as wished."""
        hello = self.expect_hello()
        self.welcome(hello.vm_id if vm_id is None else vm_id, pool or chr(hello.pool_id),
                     hello.priority if priority is None else priority)
        return hello

    def respond(self, seq, data=b'', error=0):
        if seq == self.outstanding:
            self.outstanding = 0
        self.send(RESPONSE, pack_response(data, error), seq)
