#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker that does what the request tells it to, right or wrong; written from docs/worker.md.

The data part of a NOP is a list of words: see `obey`. Without one it answers 0. How it starts is in the file `start`
beside the mediator's sockets ($VGPU_FAKE, from the script that starts it): empty or missing, as it should; `exit N`,
`kill`, `never`, `slow S`, `early`, `mute` (answers no ATTACH and no DETACH), `leave` (attaches, and exits when told to
let go). With --probe it prints the file `start.gpus` (`sleep` there: and does not end).
"""
import json
import os
import signal
import socket
import struct
import sys
import time

HEADER = struct.Struct('=IIQ')
PAIR = struct.Struct('=II')
CHANNEL_BODY = struct.Struct('=IIII')
ATTACH_BODY = struct.Struct('=QII')
EXTENT_BODY = struct.Struct('=QQQII')
REQUEST, CANCEL, GRANT, RECALL, ATTACH, DETACH, EXTENT = range(1, 8)
READY, RESPONSE, WANT, RETURN, CHANNEL, WANT_EXTENT, RETURN_EXTENT = range(16, 23)
FREE, ACTIVE, FATAL = range(3)


def request_text(words):
    return ' '.join(words[1:]).encode()


def probe():
    with open(os.environ['VGPU_FAKE'] + '.probed', 'w') as f:
        f.write(' '.join(sys.argv[1:]))
    try:
        with open(os.environ['VGPU_FAKE'] + '.gpus') as f:
            lines = f.readlines()
    except OSError:
        lines = []
    sys.stdout.write(''.join(l for l in lines if not l.startswith(('sleep', 'exit'))))
    sys.stdout.flush()
    if 'sleep\n' in lines:
        time.sleep(600)
    if 'exit\n' in lines:
        sys.stderr.write('no driver here\n')
        sys.exit(1)


class Worker:
    def __init__(self):
        self.sock = socket.socket(fileno=3)
        self.sock.setblocking(True)
        self.lease = 0
        self.wanting = None  # the request that waits for a lease
        self.hold = False
        self.cancelled = []
        self.recalls = []
        self.answered = 0
        self.mode = ''
        self.window = None  # descriptors: memory, doorbell, interrupt
        self.heard = []  # of ATTACH and DETACH
        self.asking = {}  # WANT_EXTENT by number: the request that waits for the answer

    def send(self, kind, seq=0, payload=b'', length=None, fds=()):
        data = HEADER.pack(kind, len(payload) if length is None else length, seq) + payload
        if fds:
            socket.send_fds(self.sock, [data], list(fds))
        else:
            self.sock.send(data)

    def respond(self, seq, text=b'', error=0, status=0):
        raw = struct.pack('<8I', 0x10000, status, 0, 32 if text else 0, len(text), 0, 0, 0) + text
        self.answered += 1
        self.send(RESPONSE, seq, PAIR.pack(error, len(raw)) + raw)

    def obey(self, seq, request_id, words):
        command, rest = words[0], words[1:]
        if command == 'args':
            self.respond(seq, json.dumps(sys.argv[1:]).encode())
        elif command == 'pid':
            self.respond(seq, str(os.getpid()).encode())
        elif command == 'state':
            fds = sorted(int(n) for n in os.listdir('/proc/self/fd'))
            self.respond(seq, json.dumps({
                'cancelled': self.cancelled, 'recalls': self.recalls, 'lease': self.lease, 'request_id': request_id,
                'fds': [n for n in fds if os.path.exists('/proc/self/fd/%d' % n)],
                'ids': [os.getuid(), os.getgid()], 'pgrp': os.getpgrp() == os.getpid(), 
                'environment': sorted(os.environ), 'lock': os.readlink('/proc/self/fd/0'),
                'masks': [line for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn'))],
            }).encode())
        elif command == 'error':
            self.respond(seq, b'', error=int(rest[0]))
        elif command == 'empty':
            self.send(RESPONSE, seq, PAIR.pack(0, 0))
        elif command == 'big':
            self.send(RESPONSE, seq, PAIR.pack(0, 1024) + b'\0' * 1024)
        elif command == 'sleep':
            time.sleep(float(rest[0]))
            self.respond(seq)
        elif command == 'silent':
            pass
        elif command == 'answer-then-die':
            self.respond(seq, b'last words')
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == 'die':
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == 'exit':
            os._exit(int(rest[0]))
        elif command == 'hang-up':
            self.sock.close()
            os.close(3) if os.path.exists('/proc/self/fd/3') else None
            time.sleep(600)
        elif command == 'twice':
            self.respond(seq)
            self.respond(seq, b'again')
        elif command == 'other':  # an answer to what was never asked, then the right one
            self.respond(seq + 1000, b'wrong')
            self.respond(seq, b'right')
        elif command == 'deaf':  # reads nothing more, lives on
            self.respond(seq)
            time.sleep(600)
        elif command == 'stubborn':  # does not exit when the socket closes
            self.respond(seq)
            while True:
                time.sleep(600)
        elif command == 'want':  # answers under a lease, keeps it until it is recalled
            self.hold = 'hold' in rest
            if self.lease:
                self.respond(seq, b'lease %d' % self.lease)
            else:
                self.wanting = seq
                self.send(WANT)
        elif command == 'say':  # on stderr, and a line that nobody may mistake
            os.write(2, request_text(words) + b'\n')
            self.respond(seq)
        elif command == 'forge':
            os.write(2, b'2026-01-01T00:00:00.000000Z level=error prog=vgpu-mediator event=violation vm=1 reason="x"\n'
                     b'\x1b[31m<0>a "quoted" line\r\n')
            self.respond(seq)
        elif command == 'babble':  # for as long as it is let
            self.respond(seq)
            line = b'b' * 99 + b'\n'
            while True:
                os.write(2, line * 40)
        elif command == 'last-words':
            os.write(2, b'noise\n' * 5000 + b'these are my last words')
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == 'hold':  # writes into its slot of the account, as a worker that allocates does
            args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
            os.pwrite(int(args['--account-fd']), struct.pack('=QI', int(rest[0]), int((rest + ['0'])[1])),
                      64 + 16 * int(args['--account-slot']))
            self.respond(seq)
        elif command == 'usage':  # fills its own place among the figures: with a byte, or with anything
            args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
            os.pwrite(int(args['--account-fd']), os.urandom(1024) if rest[0] == 'random' else bytes([int(rest[0])]) * 1024,
                      65536 + 1024 * int(args['--account-slot']))
            self.respond(seq)
        elif command == 'fault':  # counts a failed call of that status, as vgpu/usage.h says
            args = dict(zip(sys.argv[1:], sys.argv[2:]))
            os.pwrite(int(args['--account-fd']), struct.pack('=IIQ', int(rest[0]), 0, 1),
                      65536 + 1024 * int(args['--account-slot']) + 11 * 8 + 32 * 8)
            self.respond(seq)
        elif command == 'account':  # the page as it sees it
            fd = int(sys.argv[sys.argv.index('--account-fd') + 1])
            head = struct.unpack('=II', os.pread(fd, 8, 0))
            try:
                os.ftruncate(fd, 0)
                sealed = False
            except OSError:
                sealed = True
            slots = [struct.unpack('=Q', os.pread(fd, 8, 64 + 16 * i))[0] for i in range(head[1])]
            self.respond(seq, json.dumps({'magic': head[0], 'slots': slots, 'sealed': sealed,
                                          'size': os.fstat(fd).st_size}).encode())
        elif command == 'mode':
            self.mode = rest[0]
            self.respond(seq)
        elif command == 'channel':  # what it says of a channel: number, state, error
            self.say_channel(*map(int, rest))
            self.respond(seq)
        elif command == 'heard':
            self.respond(seq, json.dumps(self.heard).encode())
        elif command == 'extent':  # asks for one; answered with what came
            number = len(self.asking) + 1000
            self.asking[number] = seq
            self.send(WANT_EXTENT, number, EXTENT_BODY.pack(0, int(rest[0]), 0, 0, 0))
        elif command == 'give':  # an extent back
            self.send(RETURN_EXTENT, 0, EXTENT_BODY.pack(int(rest[0]), int(rest[1]), 0, 0, 0))
            self.respond(seq)
        elif command == 'write':  # into the window, and rings the interrupt
            os.pwrite(self.window[0], rest[1].encode(), int(rest[0]))
            os.write(self.window[2], struct.pack('=Q', 1))
            self.respond(seq)
        elif command == 'doorbell':  # how often it was rung
            self.respond(seq, b'%d' % struct.unpack('=Q', os.read(self.window[1], 8)))
        elif command == 'return':
            lease, self.lease = self.lease, 0
            self.send(RETURN, lease)
            self.respond(seq)
        elif command == 'break':
            self.break_rules(rest[0], seq)
        else:
            self.respond(seq, b'what?', error=1)

    def break_rules(self, how, seq):
        if how == 'short':
            self.sock.send(b'abc')
        elif how == 'empty':
            self.sock.send(b'')
        elif how == 'long':
            self.sock.send(HEADER.pack(RESPONSE, 2000, seq) + b'\0' * 2000)
        elif how == 'length':
            self.send(RESPONSE, seq, PAIR.pack(0, 0), length=9)
        elif how == 'inner':
            self.send(RESPONSE, seq, PAIR.pack(0, 1025) + b'\0' * 1024)
        elif how == 'inner-short':
            self.send(RESPONSE, seq, b'\0' * 7)
        elif how == 'inner-overflow':
            self.send(RESPONSE, seq, PAIR.pack(0, 0xfffffff8))
        elif how == 'type':
            self.send(99)
        elif how == 'side':
            self.send(REQUEST, seq, PAIR.pack(0, 0))
        elif how == 'ready':
            self.send(READY)
        elif how == 'payload':
            self.send(WANT, 0, b'12345678')
        elif how == 'want':
            self.send(WANT)
            self.send(WANT)
        elif how == 'return':
            self.send(RETURN, 12345)
        elif how == 'return-0':
            self.send(RETURN, 0)
        elif how == 'fds':
            self.send(WANT, 0, b'', fds=[0, 1, 2])
        elif how == 'channel-short':
            self.send(CHANNEL, 0, b'\0' * 12)
        elif how == 'channel-long':
            self.send(CHANNEL, 0, b'\0' * 20)
        elif how == 'channel-reserved':
            self.send(CHANNEL, 0, CHANNEL_BODY.pack(0, FATAL, 1, 1))
        elif how == 'attach':  # for the other side
            self.send(ATTACH, 0, ATTACH_BODY.pack(1 << 28, 0, 0))
        elif how.startswith('channel='):  # number,state,error
            self.say_channel(*map(int, how[8:].split(',')))
        elif how.startswith('twice='):
            self.say_channel(*map(int, how[6:].split(',')))
            self.say_channel(*map(int, how[6:].split(',')))
        elif how.startswith('want='):  # offset,bytes,free,dirty,reserved
            self.send(WANT_EXTENT, 1, EXTENT_BODY.pack(*map(int, how[5:].split(','))))
        elif how.startswith('give='):
            self.send(RETURN_EXTENT, 0, EXTENT_BODY.pack(*map(int, how[5:].split(','))))
        time.sleep(600)

    def say_channel(self, number, state, error=0):
        self.send(CHANNEL, 0, CHANNEL_BODY.pack(number, state, error, 0))

    def attach(self, payload, fds):
        size, number, reserved = ATTACH_BODY.unpack(payload)
        if reserved or len(fds) != 3:
            sys.exit('ATTACH is malformed')
        if self.window:
            if os.fstat(self.window[0]).st_ino != os.fstat(fds[0]).st_ino:
                sys.exit('another window')
            for fd in self.window:
                os.close(fd)
        self.window = fds
        kinds = [os.readlink('/proc/self/fd/%d' % fd).split(':')[0] for fd in fds]
        self.heard.append(['attach', number, size, os.fstat(fds[0]).st_size, kinds])
        if self.mode != 'mute':
            self.say_channel(number, ACTIVE)

    def detach(self, payload):
        number, *rest = CHANNEL_BODY.unpack(payload)
        if any(rest):
            sys.exit('DETACH is malformed')
        self.heard.append(['detach', number])
        if self.mode == 'leave':
            os._exit(0)
        if self.mode != 'mute':
            self.say_channel(number, FREE)

    def extent(self, number, payload):
        offset, size, free, dirty, reserved = EXTENT_BODY.unpack(payload)
        if reserved or number not in self.asking:
            sys.exit('EXTENT is malformed')
        self.respond(self.asking[number], json.dumps([offset, size, free, dirty]).encode())

    def start(self):
        path = os.environ.get('VGPU_FAKE', '')
        try:
            with open(path) as f:
                words = f.read().split()
        except OSError:
            words = []
        if words[:1] == ['exit']:
            os._exit(int(words[1]))
        if words[:1] == ['kill']:
            os.kill(os.getpid(), signal.SIGKILL)
        if words[:1] == ['never']:
            time.sleep(600)
        if words[:1] == ['slow']:
            time.sleep(float(words[1]))
        if words[:1] in (['mute'], ['leave']):
            self.mode = words[0]
        if words[:1] == ['early']:
            self.send(WANT)
            time.sleep(600)
        self.send(READY)

    def packet(self, kind, seq, payload, fds):
        if fds and kind != ATTACH:
            sys.exit('descriptors came with a packet of type %d' % kind)
        if kind == ATTACH:
            self.attach(payload, fds)
        elif kind == DETACH:
            self.detach(payload)
        elif kind == EXTENT:
            self.extent(seq, payload)
        elif kind == REQUEST:
            request_id, _ = PAIR.unpack_from(payload)
            request = payload[PAIR.size:]
            opcode, = struct.unpack_from('<I', request, 4)
            offset, length = struct.unpack_from('<II', request, 16)
            if opcode >= 0x2000:  # what stands after the session
                offset, length = offset + 8, length - 8
                if opcode == 0x2002:
                    request = request[offset:]
                    offset, length = struct.unpack_from('<II', request, 16)
            words = request[offset:offset + length].decode().split()
            if words:
                self.obey(seq, request_id, words)
            else:
                self.respond(seq)
        elif kind == CANCEL:
            self.cancelled.append(seq)
        elif kind == GRANT:
            self.lease = seq
            if self.wanting is not None:
                self.respond(self.wanting, b'lease %d' % seq)
                self.wanting = None
        elif kind == RECALL:
            self.recalls.append([seq, PAIR.unpack(payload)[0]])
            if not self.hold and self.lease == seq:
                self.lease = 0
                self.send(RETURN, seq)

    def run(self):
        self.start()
        while True:
            data, fds, _, _ = socket.recv_fds(self.sock, 4096, 16)
            if not data:
                os._exit(0)
            kind, length, seq = HEADER.unpack_from(data)
            if len(data) != HEADER.size + length:
                sys.exit('a packet of the mediator has a wrong length')
            self.packet(kind, seq, data[HEADER.size:], fds)


if __name__ == '__main__':
    if '--probe' in sys.argv:
        probe()
        sys.exit(0)
    try:
        Worker().run()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
