# SPDX-License-Identifier: GPL-2.0-or-later
"""The device's end of the link, written from docs/link.md and nothing else; and requests, written from docs/protocol.md.

Owns: framing, numbering, and a check of every rule that link.md makes for what a mediator sends. Refuses to know how the
mediator is made. Standard library only.

    with Listener(folder, 7) as listener:
        link = listener.accept()
        link.attach(pool='A')
        error, response = link.ask(typed(NOP))

A mediator that breaks a rule raises Violation; one that closes raises Closed; one that is silent raises socket.timeout.
"""

import array
import collections
import fcntl
import os
import socket
import struct

MAGIC = 0x4B4E4C56
HEADER = struct.Struct('<IHHIIQ')
MAX_PAYLOAD = 2048
HELLO, WELCOME, REFUSE, REQUEST, RESPONSE, CANCEL, RESET, UPDATE = range(1, 9)
WINDOW, CHANNEL_ENABLE, CHANNEL_RESET, CHANNEL_STATE = range(9, 13)
FROM_MEDIATOR = {WELCOME: (24, 24), REFUSE: (8, 520), RESPONSE: (8, 1032), UPDATE: (24, 24), WINDOW: (24, 24),
                 CHANNEL_STATE: (16, 16)}
FEATURE_MAILBOX = 1
FEATURE_CHANNELS = 2
CHANNEL_BYTES = 0x80000
FREE, ACTIVE, FATAL = range(3)
BAD_TAIL, BAD_RECORD, BAD_HEAD, NOT_BOUND, SESSION_LOST, HOST = range(1, 7)
SEALS = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
PROTOCOL = 0x00010000
TIMEOUT_S = 60  # a loaded machine is no reason to fail

HELLO_BODY = struct.Struct('<QIIIIIIQII4I')
WELCOME_BODY = struct.Struct('<QIIII')
PAIR = struct.Struct('<II')
WINDOW_BODY = struct.Struct('<QIIII')
CHANNEL_BODY = struct.Struct('<IIII')

Message = collections.namedtuple('Message', 'type seq payload fds', defaults=((),))
State = collections.namedtuple('State', 'channel serial state error')
Welcome = collections.namedtuple('Welcome', 'features vm_id pool priority')
Response = collections.namedtuple('Response', 'error status results data raw')


class Closed(Exception):
    """The mediator ended the connection."""


class Refused(Exception):
    """REFUSE came; reason and text are its own."""

    def __init__(self, reason, text):
        super().__init__('%d: %s' % (reason, text))
        self.reason, self.text = reason, text


class Violation(Exception):
    """The mediator broke a rule of docs/link.md."""


def pack(kind, payload=b'', seq=0, magic=MAGIC, fd_count=0, length=None, reserved=0):
    """A message as bytes. The defaults make a correct header; override one to make a wrong one."""
    return HEADER.pack(magic, kind, fd_count, len(payload) if length is None else length, reserved, seq) + payload


def pack_hello(vm_id=0, pool='A', priority=1, features=FEATURE_MAILBOX, protocol=PROTOCOL, timeout_ms=30000,
               generation=0, reserved=(0, 0, 0, 0), window_bytes=0, channel_count=0, channel_bytes=0):
    return HELLO_BODY.pack(features, protocol, vm_id, ord(pool) if isinstance(pool, str) else pool, priority,
                           timeout_ms, generation, window_bytes, channel_count, channel_bytes, *reserved)


def pack_request(data, request_id=0, length=None):
    return PAIR.pack(request_id, len(data) if length is None else length) + data


# Requests.
NOP, CUDA_KERNEL, MEMORY_ALLOC, MEMORY_FREE, MEMORY_COPY, GET_DEVICE_INFO, SYNCHRONIZE = range(7)
SESSION_OPEN, SESSION_CLOSE, SESSION_REQUEST, SESSION_CHANNEL = 0x2000, 0x2001, 0x2002, 0x2003
STAGE_WRITE, STAGE_DROP = 0x2010, 0x2011
MODULE_LOAD, MODULE_UNLOAD, MODULE_KERNEL, MODULE_GLOBAL = 0x2020, 0x2021, 0x2022, 0x2023
ASYNC, HIGH_PRIORITY = 1, 2
REQUEST_HEADER = struct.Struct('<8I')
RESPONSE_HEADER = struct.Struct('<8I')


def typed(opcode, params=(), data=b'', flags=0, version=PROTOCOL, reserved=(0, 0), offset=None, length=None,
          param_count=None):
    """A request; the data part goes to the first multiple of 8 behind the parameters."""
    at = (32 + 4 * len(params) + 7) // 8 * 8 if data else 0
    head = REQUEST_HEADER.pack(version, opcode, flags, len(params) if param_count is None else param_count,
                               at if offset is None else offset, len(data) if length is None else length, *reserved)
    body = head + struct.pack('<%dI' % len(params), *params)
    return body + b'\0' * (at - len(body) if data else 0) + data


def named(opcode, session, rest=b'', **kwargs):
    """A request that names its session."""
    return typed(opcode, data=struct.pack('<Q', session) + rest, **kwargs)


def parse_response(error, raw):
    """A response as docs/protocol.md has it; an empty one has no status."""
    if not raw:
        return Response(error, None, (), b'', raw)
    version, status, count, offset, length, _, r0, r1 = RESPONSE_HEADER.unpack_from(raw)
    if version != PROTOCOL or r0 or r1:
        raise Violation('a response with a wrong version or reserved words')
    results = struct.unpack_from('<%dI' % count, raw, 32)
    if (length and (offset % 8 or offset < 32 + 4 * count)) or offset + length > len(raw) or (not length and offset):
        raise Violation('a response whose data part is not inside')
    return Response(error, status, results, raw[offset:offset + length], raw)


def make_memory(size, seals=SEALS):
    """A window's memory file."""
    fd = os.memfd_create('window', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, 1033, seals)  # F_ADD_SEALS
    return fd


class Window:
    """Descriptors of a window, this end's. Closes them with the block."""

    def __init__(self, window_bytes, channel_count):
        self.bytes, self.channel_count = window_bytes, channel_count
        self.memory, self.pairs = None, []

    @classmethod
    def make(cls, window_bytes, channel_count):
        window = cls(window_bytes, channel_count)
        window.memory = make_memory(window_bytes)
        window.pairs = [(os.eventfd(0), os.eventfd(0)) for _ in range(channel_count)]
        return window

    def close(self):
        for fd in [self.memory] + [fd for pair in self.pairs for fd in pair]:
            if fd is not None:
                os.close(fd)
        self.memory, self.pairs = None, []

    def hello(self):
        return {'features': FEATURE_MAILBOX | FEATURE_CHANNELS, 'window_bytes': self.bytes,
                'channel_count': self.channel_count, 'channel_bytes': CHANNEL_BYTES}

    def body(self, first=0, channels=0):
        return WINDOW_BODY.pack(self.bytes, self.channel_count, CHANNEL_BYTES, first, channels)


class DeviceLink:
    """One connection, the device's end. Sends what it is told to, right or wrong; checks what comes."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(TIMEOUT_S)
        self.buffer = b''
        self.fds = []  # came, and belong to a message that is not whole yet
        self.window = None
        self.serials = collections.Counter()
        self.states = []  # that were passed over while something else was waited for
        self.seq = 0
        self.late = 0  # answers that nobody waited for any more
        self.attached = False
        self.wants_window = False  # a local client's: the mediator may send descriptors
        self.welcome = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        if self.window:
            self.window.close()

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed() from None

    def send_with_fds(self, data, fds):
        try:
            self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))])
        except (BrokenPipeError, ConnectionResetError):
            raise Closed() from None

    def _fill(self, size):
        while len(self.buffer) < size:
            try:
                data, ancillary, flags, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
            except ConnectionResetError:
                data, ancillary, flags = b'', [], 0
            for level, kind, raw in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds = array.array('i')
                    fds.frombytes(raw[:len(raw) - len(raw) % fds.itemsize])
                    self.fds += fds
            if flags & socket.MSG_CTRUNC or (self.fds and not self.wants_window):
                raise Violation('descriptors that nobody asked for')
            if not data:
                raise Closed()
            self.buffer += data

    def receive(self):
        """The next message, checked (L1)."""
        self._fill(HEADER.size)
        magic, kind, fd_count, length, reserved, seq = HEADER.unpack_from(self.buffer)
        if magic != MAGIC or (fd_count and kind != WINDOW) or reserved:
            raise Violation('a header with wrong magic, fd_count or reserved field')
        if kind not in FROM_MEDIATOR:
            raise Violation('message type %d from a mediator' % kind)
        low, high = FROM_MEDIATOR[kind]
        if not low <= length <= high:
            raise Violation('message type %d with %d bytes' % (kind, length))
        if (seq != 0) != (kind == RESPONSE):
            raise Violation('message type %d with seq %d' % (kind, seq))
        self._fill(HEADER.size + length)
        payload = self.buffer[HEADER.size:HEADER.size + length]
        self.buffer = self.buffer[HEADER.size + length:]
        if kind in (REFUSE, RESPONSE) and PAIR.unpack_from(payload)[1] != length - 8:
            raise Violation('inner length is not what is left of the message')
        if kind in (WELCOME, UPDATE):
            features, vm_id, pool, priority, zero = WELCOME_BODY.unpack(payload)
            if zero or not 65 <= pool <= 90 or priority > 2 or not features & 1 or (kind == WELCOME) == self.attached:
                raise Violation('WELCOME or UPDATE out of range or out of order')
        if kind in (RESPONSE, WINDOW, CHANNEL_STATE) and not self.attached:
            raise Violation('message type %d before WELCOME' % kind)
        if len(self.fds) < fd_count or (self.fds[fd_count:] and not self.buffer):
            raise Violation('%d descriptors came, fd_count is %d' % (len(self.fds), fd_count))
        fds, self.fds = self.fds[:fd_count], self.fds[fd_count:]
        return Message(kind, seq, payload, fds)

    def expect(self, kind):
        message = self.receive()
        while message.type == CHANNEL_STATE and kind == RESPONSE:  # it may come at any time
            self.states.append(State(*CHANNEL_BODY.unpack(message.payload)))
            message = self.receive()
        if message.type != kind:
            if message.type == REFUSE:
                raise Refused(PAIR.unpack_from(message.payload)[0], message.payload[8:].decode())
            raise Violation('expected type %d, got %d' % (kind, message.type))
        return message

    def attach(self, **hello):
        self.wants_window = hello.get('features', 0) & FEATURE_CHANNELS
        self.send(pack(HELLO, pack_hello(**hello)))
        features, vm_id, pool, priority, _ = WELCOME_BODY.unpack(self.expect(WELCOME).payload)
        self.attached = True
        self.welcome = Welcome(features, vm_id, chr(pool), priority)
        return self.welcome

    def send_window(self, window=None):
        """A device's WINDOW messages; the link closes it."""
        self.window = window = window or self.window
        self.send_with_fds(pack(WINDOW, window.body(), fd_count=1), [window.memory])
        for first in range(0, window.channel_count, 8):
            fds = [fd for pair in window.pairs[first:first + 8] for fd in pair]
            self.send_with_fds(pack(WINDOW, window.body(first, len(fds) // 2), fd_count=len(fds)), fds)

    def expect_window(self):
        """A local client's; the link closes it."""
        message = self.expect(WINDOW)
        size, count, channel_bytes, first, channels = WINDOW_BODY.unpack(message.payload)
        self.window = window = Window(size, count)
        if first or channels or len(message.fds) != 1 or channel_bytes != CHANNEL_BYTES:
            raise Violation('the first WINDOW has to have the memory')
        window.memory = message.fds[0]
        while len(window.pairs) < count:
            message = self.expect(WINDOW)
            told = WINDOW_BODY.unpack(message.payload)
            fds = message.fds
            if told != (size, count, CHANNEL_BYTES, len(window.pairs), len(fds) // 2) or not fds or len(fds) % 2:
                raise Violation('WINDOW out of order')
            window.pairs += [(fds[i], fds[i + 1]) for i in range(0, len(fds), 2)]
        if len(window.pairs) > count:
            raise Violation('more channels than there are')
        return window

    def say_channel(self, kind, channel, serial=None, state=0, error=0):
        if serial is None:
            self.serials[channel] += 1
            serial = self.serials[channel]
        self.send(pack(kind, CHANNEL_BODY.pack(channel, serial, state, error)))

    def enable(self, channel, **said):
        self.say_channel(CHANNEL_ENABLE, channel, **said)

    def disable(self, channel, **said):
        self.say_channel(CHANNEL_RESET, channel, **said)

    def expect_state(self, channel, state, error=0, serial=None):
        """CHANNEL_STATE is what comes next, with the serial of what was said last."""
        said = self.states.pop(0) if self.states else State(*CHANNEL_BODY.unpack(self.expect(CHANNEL_STATE).payload))
        expected = State(channel, self.serials[channel] if serial is None else serial, state, error)
        if said != expected:
            raise Violation('%s, expected %s' % (said, expected))

    def bind(self, session, channel):
        return self.ask(named(SESSION_CHANNEL, session, PAIR.pack(channel, 0)))

    def expect_update(self):
        features, vm_id, pool, priority, _ = WELCOME_BODY.unpack(self.expect(UPDATE).payload)
        return Welcome(features, vm_id, chr(pool), priority)

    def expect_closed(self):
        """Nothing more comes but the end."""
        try:
            message = self.receive()
        except Closed:
            return
        raise Violation('expected the end, got message type %d' % message.type)

    def submit(self, data, request_id=0):
        """Sends a request; returns its seq."""
        self.seq += 1
        self.send(pack(REQUEST, pack_request(data, request_id), seq=self.seq))
        return self.seq

    def response(self, seq):
        """The response to seq; one that crossed with a CANCEL or a RESET is dropped and counted (L11)."""
        message = self.expect(RESPONSE)
        while message.seq < seq:
            self.late += 1
            message = self.expect(RESPONSE)
        if message.seq != seq:
            raise Violation('a response to %d, expected %d' % (message.seq, seq))
        return parse_response(PAIR.unpack_from(message.payload)[0], message.payload[8:])

    def ask(self, data, request_id=0):
        return self.response(self.submit(data, request_id))

    def cancel(self, seq):
        self.send(pack(CANCEL, seq=seq))

    def reset(self, generation=1):
        self.send(pack(RESET, PAIR.pack(generation, 0)))


class Listener:
    """A device's socket: vm-<id>.sock in a folder."""

    def __init__(self, folder, vm_id, name=None):
        self.vm_id = vm_id
        self.path = os.path.join(folder, name or 'vm-%d.sock' % vm_id)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.bind(self.path)
        self.sock.listen(16)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def accept(self):
        return DeviceLink(self.sock.accept()[0])

    def close(self):
        self.sock.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass


def connect(path):
    """A local client: the same protocol on the mediator's own socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)  # waits while the queue is full, which a socket with a time-out would not
    except OSError:
        sock.close()
        raise
    return DeviceLink(sock)
