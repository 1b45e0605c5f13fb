# SPDX-License-Identifier: GPL-2.0-or-later
"""A mediator in a few lines, written from docs/worker.md and docs/protocol.md: it starts vgpu-worker, grants it the lease
when it asks, and sends it requests. Standard library only."""
import itertools
import os
import select
import socket
import struct
import subprocess
import time

REQUEST, CANCEL, GRANT, RECALL = 1, 2, 3, 4
READY, RESPONSE, WANT, RETURN = 16, 17, 18, 19

NOP, CUDA_KERNEL, MEMORY_ALLOC, MEMORY_FREE, MEMORY_COPY, GET_DEVICE_INFO, SYNCHRONIZE = range(7)
SESSION_REQUEST, STAGE_WRITE, STAGE_DROP = 0x2002, 0x2010, 0x2011
MODULE_LOAD, MODULE_UNLOAD, MODULE_KERNEL, MODULE_GLOBAL = 0x2020, 0x2021, 0x2022, 0x2023
HTOD, DTOH, DTOD = 1, 2, 3
ASYNC = 1
NOT_READY = 600

PATIENCE_S = 60.0  # for one packet, on a machine that is busy with other things


def worker_path():
    return os.environ.get("VGPU_WORKER") or os.path.join(os.environ["VGPU_BUILD"], "src", "worker", "vgpu-worker")


def u64(value):
    return [value & 0xFFFFFFFF, value >> 32]


def request(opcode, params=(), data=b"", flags=0):
    head = 32 + 4 * len(params)
    offset = (head + 7) & ~7
    out = struct.pack("<8I", 0x00010000, opcode, flags, len(params), offset if data else 0, len(data), 0, 0)
    out += struct.pack("<%dI" % len(params), *params)
    return out + bytes(offset - head) + data if data else out


class Response:
    def __init__(self, error, raw):
        self.error, self.raw, self.status, self.results, self.data = error, raw, None, (), b""
        if raw:
            version, self.status, count, offset, length, self.exec_time_us, r0, r1 = struct.unpack_from("<8I", raw)
            assert (version, r0, r1) == (0x00010000, 0, 0), raw
            assert offset % 8 == 0 and offset + length <= len(raw) <= 1024, raw
            self.results = struct.unpack_from("<%dI" % count, raw, 32)
            self.data = raw[offset:offset + length]

    def result64(self, first):
        return self.results[first] | self.results[first + 1] << 32

    def __repr__(self):
        return "Response(error=%r, status=%r, results=%r, data=%r)" % (self.error, self.status, self.results, self.data[:300])


class Failed(Exception):
    def __init__(self, response):
        super().__init__(repr(response))
        self.response = response


class Worker:
    """One worker process. `session` other than 0 wraps every typed request in SESSION_REQUEST."""

    def __init__(self, session=0, backend="software", args=(), start=True, **popen):
        self.session = session
        self.seq = itertools.count(1)
        self.ids = itertools.count(0x1000)
        self.last_seq = 0
        self.lease, self.held, self.again, self.wants, self.auto = 0, False, False, 0, True
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = theirs.fileno()
        command = [worker_path(), "--fd", str(fd), "--vm", "7", "--session", str(session), "--backend", backend,
                   "--log-level", "error"]
        popen.setdefault("stdin", subprocess.DEVNULL)
        pass_fds = popen.pop("pass_fds", ())
        self.process = subprocess.Popen(command + list(args), pass_fds=(fd,) + tuple(pass_fds), **popen)
        theirs.close()
        if start:
            kind, seq, body = self.receive()
            assert (kind, seq, body) == (READY, 0, b""), (kind, seq, body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the session as the mediator does; answers the worker's exit status."""
        self.sock.close()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe:
                    pipe.close()

    def send(self, kind, seq, body=b""):
        self.sock.send(struct.pack("=IIQ", kind, len(body), seq) + body)

    def receive(self, timeout=PATIENCE_S):
        """The next packet (type, seq, body), or None when the worker is gone or says nothing."""
        if not select.select([self.sock], [], [], timeout)[0]:
            return None
        try:
            packet = self.sock.recv(65536)
        except ConnectionResetError:
            return None
        if not packet:
            return None
        kind, length, seq = struct.unpack_from("=IIQ", packet)
        body = packet[16:]
        assert length == len(body), packet
        if kind == WANT:
            self.wants += 1
            assert not self.again
            if self.held:
                self.again = True  # the next one, before it returns this one
            elif self.auto:
                self.grant()
        elif kind == RETURN:
            assert self.held and seq == self.lease
            self.held = False
            if self.again and self.auto:
                self.grant()
            self.again = False
        return kind, seq, body

    def grant(self):
        self.lease += 1
        self.held = True
        self.send(GRANT, self.lease)

    def recall(self, grace_us=0):
        self.send(RECALL, self.lease, struct.pack("=II", grace_us, 0))

    def submit(self, raw, request_id=None):
        seq = self.last_seq = next(self.seq)
        self.send(REQUEST, seq, struct.pack("=II", next(self.ids) if request_id is None else request_id, len(raw)) + raw)
        return seq

    def response(self, seq):
        while True:
            packet = self.receive()
            assert packet, "the worker is gone or silent"
            if packet[0] == RESPONSE and packet[1] == seq:
                error, length = struct.unpack_from("=II", packet[2])
                assert length == len(packet[2]) - 8
                return Response(error, packet[2][8:])

    def once(self, raw, request_id=None):
        return self.response(self.submit(raw, request_id))

    def ask(self, raw, patience=PATIENCE_S):
        """Asks until the answer is not "not yet"."""
        request_id, deadline = next(self.ids), time.monotonic() + patience
        while True:
            answer = self.once(raw, request_id)
            if answer.status != NOT_READY or time.monotonic() > deadline:
                return answer

    def typed(self, opcode, params=(), data=b"", flags=0):
        raw = request(opcode, params, data, flags)
        return self.named(SESSION_REQUEST, raw) if self.session else raw

    def named(self, opcode, rest=b""):
        return request(opcode, (), struct.pack("<Q", self.session) + rest)

    def must(self, raw):
        answer = self.ask(raw)
        if answer.error or answer.status:
            raise Failed(answer)
        return answer

    # What a guest library would do.

    def alloc(self, size):
        return self.must(self.typed(MEMORY_ALLOC, u64(size))).result64(0)

    def free(self, address):
        self.must(self.typed(MEMORY_FREE, u64(address)))

    def write(self, address, data):
        for at in range(0, len(data), 800):
            piece = data[at:at + 800]
            self.must(self.typed(MEMORY_COPY, [HTOD] + u64(address + at) + u64(0) + u64(len(piece)), piece))

    def read(self, address, size):
        out = b""
        while len(out) < size:
            n = min(992, size - len(out))
            out += self.must(self.typed(MEMORY_COPY, [DTOH] + u64(0) + u64(address + len(out)) + u64(n))).data
        return out

    def stage(self, stage, data):
        for at in range(0, len(data), 900):
            piece = data[at:at + 900]
            self.must(self.named(STAGE_WRITE, struct.pack("<4I", stage, len(data), at, 0) + piece))

    def load(self, image, stage=1):
        self.stage(stage, image)
        return self.must(self.named(MODULE_LOAD, struct.pack("<2I", stage, 0))).result64(0)

    def kernel(self, module, name):
        """(function, bytes of its argument buffer, [(offset, size)])"""
        answer = self.must(self.named(MODULE_KERNEL, struct.pack("<QII", module, 0, 0) + name.encode()))
        return answer.result64(0), answer.results[3], list(struct.iter_unpack("<II", answer.data))

    def launch(self, function, grid, block, args=b"", shared=0, flags=0):
        return self.must(self.typed(CUDA_KERNEL, u64(function) + list(grid) + list(block) + [shared, 0], args, flags))

    def synchronize(self):
        self.must(self.typed(SYNCHRONIZE))

    def free_memory(self):
        return struct.unpack_from("<Q", self.must(self.typed(GET_DEVICE_INFO)).data, 104)[0]
