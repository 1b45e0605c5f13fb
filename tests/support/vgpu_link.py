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
import fcntl
import mmap
import os
import select
import socket
import struct
import time

MAGIC = 0x4B4E4C56
HEADER = struct.Struct('<IHHIIQ')
MAX_PAYLOAD = 2048

HELLO, WELCOME, REFUSE, REQUEST, RESPONSE, CANCEL, RESET, UPDATE = range(1, 9)
WINDOW, CHANNEL_ENABLE, CHANNEL_RESET, CHANNEL_STATE = range(9, 13)
NAMES = {HELLO: 'HELLO', WELCOME: 'WELCOME', REFUSE: 'REFUSE', REQUEST: 'REQUEST', RESPONSE: 'RESPONSE',
         CANCEL: 'CANCEL', RESET: 'RESET', UPDATE: 'UPDATE', WINDOW: 'WINDOW', CHANNEL_ENABLE: 'CHANNEL_ENABLE',
         CHANNEL_RESET: 'CHANNEL_RESET', CHANNEL_STATE: 'CHANNEL_STATE'}
ABOUT_CHANNELS = (WINDOW, CHANNEL_ENABLE, CHANNEL_RESET)
FROM_DEVICE = (HELLO, REQUEST, CANCEL, RESET) + ABOUT_CHANNELS

FEATURE_MAILBOX = 1
FEATURE_CHANNELS = 2
FREE, ACTIVE, FATAL = range(3)
CHANNEL_BYTES = 0x80000
WINDOW_CHANNELS = 8  # in one message
SEALS = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW
F_GET_SEALS = 1034
PROTOCOL = 0x00010000
TIMEOUT_S = 30  # a loaded machine is no reason to fail

Message = collections.namedtuple('Message', 'type seq payload fds')
Channel = collections.namedtuple('Channel', 'channel serial')
Request = collections.namedtuple('Request', 'seq request_id data')
Hello = collections.namedtuple('Hello', 'features protocol vm_id pool_id priority timeout_ms generation window_bytes '
                               'channel_count channel_bytes')
HELLO_BODY = struct.Struct('<QIIIIIIQII4I')
WELCOME_BODY = struct.Struct('<QIIII')
WINDOW_BODY = struct.Struct('<QIIII')
CHANNEL_BODY = struct.Struct('<IIII')


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


def close_all(fds):
    for fd in fds:
        os.close(fd)


class Window:
    """What a device gave: its memory, mapped, and each channel's eventfds. Owns the descriptors (L17)."""

    def __init__(self, hello):
        self.bytes, self.count = hello.window_bytes, hello.channel_count
        self.fd = -1
        self.memory = None
        self.doorbells, self.interrupts = [], []

    def close(self):
        if self.memory:
            self.memory.close()
            self.memory = None
        close_all([self.fd] * (self.fd >= 0) + self.doorbells + self.interrupts)
        self.fd, self.doorbells, self.interrupts = -1, [], []

    @property
    def whole(self):
        return self.fd >= 0 and len(self.doorbells) == self.count

    def take(self, message):
        """One WINDOW message, held to L16 and L17."""
        size, count, channel_bytes, first, channels = WINDOW_BODY.unpack(message.payload)
        fds = list(message.fds)
        try:
            if (size, count, channel_bytes) != (self.bytes, self.count, CHANNEL_BYTES):
                raise Violation('WINDOW of other sizes than HELLO: %s' % ((size, count, channel_bytes),))
            if len(fds) != (2 * channels or 1):
                raise Violation('WINDOW of %d channels with %d descriptors' % (channels, len(fds)))
            if self.fd < 0:
                if first or channels:
                    raise Violation('the memory is not what comes first')
                self._take_memory(fds[0])
                fds = []
            elif not 1 <= channels <= WINDOW_CHANNELS or first != len(self.doorbells) or first + channels > count:
                raise Violation('WINDOW of channels %d to %d after %d' % (first, first + channels,
                                                                          len(self.doorbells)))
            else:
                self.doorbells += fds[0::2]
                self.interrupts += fds[1::2]
                fds = []
        finally:
            close_all(fds)

    def _take_memory(self, fd):
        if os.fstat(fd).st_size != self.bytes:
            raise Violation('a memory file of %d bytes' % os.fstat(fd).st_size)
        if fcntl.fcntl(fd, F_GET_SEALS) & SEALS != SEALS:
            raise Violation('a memory file with seals %d' % fcntl.fcntl(fd, F_GET_SEALS))
        self.memory = mmap.mmap(fd, self.bytes)
        self.fd = fd

    def rung(self, channel):
        """Has the doorbell been rung since it was last asked?"""
        poll = select.poll()
        poll.register(self.doorbells[channel], select.POLLIN)
        return bool(poll.poll(0)) and bool(os.read(self.doorbells[channel], 8))

    def wait_rung(self, channel, timeout=TIMEOUT_S):
        poll = select.poll()
        poll.register(self.doorbells[channel], select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise socket.timeout('the doorbell of channel %d is silent' % channel)
        os.read(self.doorbells[channel], 8)

    def interrupt(self, channel):
        os.write(self.interrupts[channel], struct.pack('=Q', 1))


class Stream:
    """Messages over a connected Unix stream socket."""

    def __init__(self, sock, timeout=TIMEOUT_S):
        self.sock = sock
        self.sock.setblocking(False)
        self.timeout = timeout
        self.buffer = b''
        self.fds = []  # of the message that is coming in

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.sock.close()
        close_all(self.fds)
        self.fds = []

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
                # No more than is wanted, so that what comes belongs to this message.
                data, ancillary, flags, _ = self.sock.recvmsg(want - len(self.buffer), socket.CMSG_SPACE(16 * 4))
            except BlockingIOError:
                self._wait(deadline)
                continue
            except ConnectionResetError:
                data, ancillary, flags = b'', [], 0
            for level, kind, raw in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds = array.array('i')
                    fds.frombytes(raw[:len(raw) - len(raw) % fds.itemsize])
                    self.fds += fds
                    if self.buffer or flags & socket.MSG_CTRUNC:
                        raise Violation('descriptors that did not come whole with the first byte of a message')
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
        if bool(fd_count) != (kind == WINDOW) or fd_count != len(self.fds):
            raise Violation('%s with fd_count %d and %d descriptors' % (NAMES[kind], fd_count, len(self.fds)))
        if reserved:
            raise Violation('reserved is 0x%x' % reserved)
        if length > MAX_PAYLOAD:
            raise Violation('length is %d' % length)
        self._fill(HEADER.size + length, timeout)
        payload = self.buffer[HEADER.size:HEADER.size + length]
        self.buffer = self.buffer[HEADER.size + length:]
        fds, self.fds = tuple(self.fds), []
        return Message(kind, seq, payload, fds)

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
        self.hello = None
        self.window = None  # channels are agreed on
        self.serials = collections.Counter()
        self.enabled = set()  # channels that are being enabled, active or fatal, as far as was said

    def close(self):
        super().close()
        if self.window:
            self.window.close()

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
        """The next message of the device, held to L3, L8, L9, L10, L12, L16 and L18."""
        message = super().receive(timeout)
        try:
            self._check(message)
        except Violation:
            if message.type != WINDOW:  # which has an owner
                close_all(message.fds)
            raise
        return message

    def _check(self, message):
        name = NAMES[message.type]
        if message.type not in FROM_DEVICE:
            raise Violation('a device does not send %s' % name)
        if not self.greeted and message.type != HELLO:
            raise Violation('%s before HELLO' % name)
        if self.greeted and message.type == HELLO:
            raise Violation('a second HELLO')
        if message.type != HELLO and not self.attached:
            raise Violation('%s before WELCOME' % name)
        if message.type not in (REQUEST, CANCEL) and message.seq:
            raise Violation('%s with seq %d' % (name, message.seq))
        if message.type in ABOUT_CHANNELS and not self.window:
            raise Violation('%s, and channels were not agreed on' % name)
        if self.window and (message.type == WINDOW) == self.window.whole:
            raise Violation('%s where %s to come' % (name, 'no WINDOW is' if self.window.whole else 'WINDOW has'))
        getattr(self, '_check_' + name.lower())(message)

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
        sizes = (hello.window_bytes, hello.channel_count, hello.channel_bytes)
        if hello.features & FEATURE_CHANNELS:
            size, count, channel_bytes = sizes
            if size & (size - 1) or not 1 << 20 <= size <= 1 << 40 or not 1 <= count <= 64 or \
                    channel_bytes != CHANNEL_BYTES or size < count * channel_bytes:
                raise Violation('HELLO with a window of %s' % (sizes,))
        elif any(sizes):
            raise Violation('HELLO without channels, and with a window of %s' % (sizes,))
        self.greeted = True
        self.hello = hello

    def _check_window(self, message):
        self.window.take(message)

    def _check_channel(self, message):
        if len(message.payload) != CHANNEL_BODY.size:
            raise Violation('%s of %d bytes' % (NAMES[message.type], len(message.payload)))
        channel, serial, state, error = CHANNEL_BODY.unpack(message.payload)
        if channel >= self.window.count or state or error:
            raise Violation('%s of channel %d with %d, %d' % (NAMES[message.type], channel, state, error))
        self.serials[channel] += 1
        if serial != self.serials[channel]:
            raise Violation('%s of channel %d has serial %d after %d' % (NAMES[message.type], channel, serial,
                                                                         self.serials[channel] - 1))
        return channel

    def _check_channel_enable(self, message):
        channel = self._check_channel(message)
        if channel in self.enabled:
            raise Violation('CHANNEL_ENABLE of channel %d, which is not free' % channel)
        self.enabled.add(channel)

    def _check_channel_reset(self, message):
        self._check_channel(message)

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
        self.enabled.clear()

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

    def expect_enable(self, channel, timeout=None):
        """Its serial."""
        return self._expect_channel(CHANNEL_ENABLE, channel, timeout)

    def expect_channel_reset(self, channel, timeout=None):
        return self._expect_channel(CHANNEL_RESET, channel, timeout)

    def _expect_channel(self, kind, channel, timeout):
        said = Channel(*CHANNEL_BODY.unpack(self.expect(kind, timeout).payload)[:2])
        if said.channel != channel:
            raise Violation('%s of channel %d instead of %d' % (NAMES[kind], said.channel, channel))
        return said.serial

    def state(self, channel, state, error=0, serial=None):
        """CHANNEL_STATE, with the newest serial that has come unless told otherwise."""
        if state == FREE:
            self.enabled.discard(channel)
        self.send(CHANNEL_STATE, CHANNEL_BODY.pack(channel, self.serials[channel] if serial is None else serial,
                                                   state, error))

    def welcome(self, vm_id=0, pool='A', priority=1, features=FEATURE_MAILBOX, **more):
        self.attached = True
        if self.hello and self.hello.features & features & FEATURE_CHANNELS:
            self.window = Window(self.hello)
        self.send(WELCOME, pack_welcome(vm_id, pool, priority, features, **more))

    def update(self, vm_id=0, pool='A', priority=1, **more):
        self.send(UPDATE, pack_welcome(vm_id, pool, priority, **more))

    def refuse(self, reason, text=''):
        self.send(REFUSE, pack_refuse(reason, text))

    def attach(self, vm_id=None, pool=None, priority=None, channels=False):
        """HELLO and WELCOME, and the window if channels are wanted; what is not given is welcomed as wished."""
        hello = self.expect_hello()
        self.welcome(hello.vm_id if vm_id is None else vm_id, pool or chr(hello.pool_id),
                     hello.priority if priority is None else priority,
                     FEATURE_MAILBOX | FEATURE_CHANNELS if channels else FEATURE_MAILBOX)
        while self.window and not self.window.whole:
            self.expect(WINDOW)
        return hello

    def respond(self, seq, data=b'', error=0):
        if seq == self.outstanding:
            self.outstanding = 0
        self.send(RESPONSE, pack_response(data, error), seq)
