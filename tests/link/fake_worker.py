#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A worker that does what the request tells it to, right or wrong; written from docs/worker.md.

The data part of a NOP is a list of words: see `obey`. Without one it answers 0. How it starts is in the file `start`
beside the mediator's sockets ($VGPU_FAKE, from the script that starts it): empty or missing, as it should; `exit N`,
`kill`, `never`, `slow S`, `early`. With --probe it prints the file `start.gpus` (`sleep` there: and does not end).
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
REQUEST, CANCEL, GRANT, RECALL = 1, 2, 3, 4
READY, RESPONSE, WANT, RETURN = 16, 17, 18, 19


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
        time.sleep(600)

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
        if words[:1] == ['early']:
            self.send(WANT)
            time.sleep(600)
        self.send(READY)

    def packet(self, kind, seq, payload):
        if kind == REQUEST:
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
            data = self.sock.recv(4096)
            if not data:
                os._exit(0)
            kind, length, seq = HEADER.unpack_from(data)
            if len(data) != HEADER.size + length:
                sys.exit('a packet of the mediator has a wrong length')
            self.packet(kind, seq, data[HEADER.size:])


if __name__ == '__main__':
    if '--probe' in sys.argv:
        probe()
        sys.exit(0)
    try:
        Worker().run()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
