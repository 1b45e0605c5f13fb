#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vgpu-worker as a process, on the software backend: W1 to W8 of docs/worker.md, and a whole computation. The test is the
mediator."""
import json
import os
import resource
import struct
import subprocess
import sys
import time
import unittest

from worker_client import (CANCEL, DTOH, GET_DEVICE_INFO, GRANT, MEMORY_COPY, MEMORY_FREE, MODULE_UNLOAD, NOP,
                           NOT_READY, PATIENCE_S, READY, RECALL, REQUEST, SYNCHRONIZE, Failed, Worker, u64, worker_path)

NOBODY = 65534

# Counts to the value behind its first parameter's address, for ever when that is 0 all the time.
SPIN = b"""
.version 6.4
.target sm_70
.address_size 64
.visible .entry spin(.param .u64 spin_param_0)
{
    .reg .pred %p<2>;
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [spin_param_0];
    cvta.to.global.u64 %rd2, %rd1;
again:
    ld.volatile.global.u32 %r1, [%rd2];
    setp.eq.s32 %p1, %r1, 0;
    @%p1 bra again;
    ret;
}
.visible .entry fault()
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    mov.u64 %rd1, 16;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
"""

FIXTURES = os.path.join(os.environ["VGPU_SOURCE"], "tests", "fixtures", "ptx")

with open(os.path.join(FIXTURES, "vector_add.nvcc-O0.ptx"), "rb") as fixture:
    VECTOR_ADD = fixture.read()  # more than one request holds


def status_of(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def descriptors_of(pid):
    folder = "/proc/%d/fd" % pid
    return {int(fd): os.readlink(os.path.join(folder, fd)) for fd in os.listdir(folder)}


class Compute(unittest.TestCase):
    def add_vectors(self, worker, n=1000):
        values = [[float((i * k) % 1000) for i in range(n)] for k in (3, 7)]
        a, b, c = (worker.alloc(4 * n) for _ in range(3))
        worker.write(a, struct.pack("<%df" % n, *values[0]))
        worker.write(b, struct.pack("<%df" % n, *values[1]))
        module = worker.load(VECTOR_ADD)
        function, size, layout = worker.kernel(module, "vector_add")
        self.assertEqual([s for _, s in layout], [8, 8, 8, 4])
        args = bytearray(size)
        for (offset, width), value in zip(layout, (a, b, c, n)):
            args[offset:offset + width] = value.to_bytes(width, "little")
        worker.launch(function, (-(-n // 128), 1, 1), (128, 1, 1), bytes(args))
        worker.synchronize()
        got = struct.unpack("<%df" % n, worker.read(c, 4 * n))
        self.assertEqual(list(got), [x + y for x, y in zip(*values)])
        return module, (a, b, c)

    def test_p18_vector_add(self):
        with Worker() as worker:
            before = worker.free_memory()
            module, buffers = self.add_vectors(worker)
            for address in buffers:
                worker.free(address)
            worker.must(worker.named(MODULE_UNLOAD, struct.pack("<Q", module)))
            self.assertEqual(worker.free_memory(), before)
            self.assertEqual(worker.wants, 1)

    def test_p25_vector_add_in_a_session(self):
        with Worker(session=0x123456789ABCDEF0) as worker:
            self.add_vectors(worker)

    def test_w4_lease_recalled_all_the_time(self):
        """The same with a mediator that takes the lease back whenever it can."""
        with Worker() as worker:
            receive = worker.receive

            def nagging(timeout=PATIENCE_S):
                packet = receive(timeout)
                if worker.held:
                    worker.recall(0)
                return packet

            worker.receive = nagging
            self.add_vectors(worker, 300)
            self.assertGreater(worker.wants, 5)

    def test_p14_handles_and_memory_of_another_session(self):
        with Worker() as one, Worker() as other:
            module = one.load(VECTOR_ADD)
            function = one.kernel(module, "vector_add")[0]
            address = one.alloc(64)
            one.write(address, b"secret")
            theirs = other.load(VECTOR_ADD)
            with self.assertRaises(Failed) as caught:
                other.kernel(module, "vector_add")
            self.assertEqual(caught.exception.response.status, 400)
            with self.assertRaises(Failed) as caught:
                other.launch(function, (1, 1, 1), (1, 1, 1), bytes(28))
            self.assertEqual(caught.exception.response.status, 400)
            answer = other.ask(other.named(MODULE_UNLOAD, struct.pack("<Q", module)))
            self.assertEqual((answer.error, answer.status), (0, 400))
            answer = other.ask(other.typed(MEMORY_COPY, [DTOH] + u64(0) + u64(address) + u64(6)))
            self.assertNotIn(b"secret", answer.data)
            other.kernel(theirs, "vector_add")
            self.assertEqual(one.read(address, 6), b"secret")

    def test_p27_log_of_a_bad_module(self):
        with Worker() as worker:
            with self.assertRaises(Failed) as caught:
                worker.load(b".version 6.4\n.target sm_70\n.address_size 64\n.visible .entry k() { nonsense; }\n")
            answer = caught.exception.response
            self.assertEqual(answer.error, 0)
            self.assertIn(answer.status, (200, 209, 218, 222))
            self.assertIn("4", answer.data.decode("utf-8"))  # the line

    def test_p27_fatbins(self):
        """nvcc's compressed fatbins run in the confined worker; what has no PTX for it is refused, and says why."""
        images = {}
        for name in ("tiny.plain", "tiny.lz4", "tiny.zstd", "machine-code", "newer"):
            with open(os.path.join(FIXTURES, "..", "images", name + ".fatbin"), "rb") as f:
                images[name] = f.read()
        with Worker() as worker:
            for name in ("tiny.plain", "tiny.lz4", "tiny.zstd"):
                address = worker.alloc(4)
                try:
                    module = worker.load(images[name])
                except Failed as refusal:  # a build without the library
                    self.assertEqual(refusal.response.status, 801)
                    self.assertIn(b"--compress-mode=none", refusal.response.data)
                    self.assertNotEqual(name, "tiny.plain")
                    continue
                function, size, layout = worker.kernel(module, "tiny")
                self.assertEqual((size, layout), (8, [(0, 8)]))
                worker.launch(function, (1, 1, 1), (1, 1, 1), struct.pack("<Q", address))
                worker.synchronize()
                self.assertEqual(worker.read(address, 4), b"\x07\0\0\0")
            for name in ("machine-code", "newer"):
                with self.assertRaises(Failed) as caught:
                    worker.load(images[name])
                self.assertEqual(caught.exception.response.status, 209)
                self.assertIn(b"compute_75", caught.exception.response.data)

    def test_p16_fault_is_sticky_and_ends_no_other(self):
        with Worker() as worker, Worker() as other:
            function = worker.kernel(worker.load(SPIN), "fault")[0]
            worker.launch(function, (1, 1, 1), (1, 1, 1))
            for opcode in (SYNCHRONIZE, SYNCHRONIZE, NOP, GET_DEVICE_INFO):
                answer = worker.ask(worker.typed(opcode))
                self.assertEqual((answer.error, answer.status), (5, 700))
            self.assertIsNone(worker.process.poll())  # it waits for its SESSION_CLOSE
            self.add_vectors(other, 100)

    def test_p13_cancelled_allocation(self):
        with Worker() as worker:
            before = worker.free_memory()
            worker.alloc(4096)
            worker.send(CANCEL, worker.last_seq)
            worker.ask(worker.typed(MEMORY_FREE, u64(1)))  # behind the undoing
            self.assertEqual(worker.free_memory(), before)

    def test_memory_option_is_the_quota(self):
        with Worker(args=["--memory", "1M"]) as worker:
            self.assertLessEqual(worker.free_memory(), 1 << 20)
            with self.assertRaises(Failed) as caught:
                worker.alloc((1 << 20) + 1)
            self.assertEqual((caught.exception.response.error, caught.exception.response.status), (5, 2))


class Account(unittest.TestCase):
    """W9, with a page that this test made."""

    SLOT = struct.Struct("=QII")

    def setUp(self):
        self.page = os.memfd_create("account")
        self.addCleanup(os.close, self.page)
        os.truncate(self.page, 65536 + 4092 * 1024)
        os.pwrite(self.page, struct.pack("=II", 0x74636361, 3), 0)
        self.args = ["--memory", "1M", "--account-fd", str(self.page), "--account-slot", "1"]

    def slot(self, n):
        return self.SLOT.unpack(os.pread(self.page, self.SLOT.size, 64 + self.SLOT.size * n))

    def hold(self, n, size):
        os.pwrite(self.page, self.SLOT.pack(size, 0, 0), 64 + self.SLOT.size * n)

    def test_w9_what_others_hold_is_not_there(self):
        with Worker(args=self.args, pass_fds=[self.page]) as worker:
            self.assertEqual(worker.free_memory(), 1 << 20)
            address = worker.alloc(1000)
            self.assertEqual(self.slot(1), (1024, 0, 0))
            self.hold(2, 1000000)
            self.assertEqual(worker.free_memory(), (1 << 20) - 1024 - 1000000)
            with self.assertRaises(Failed) as caught:
                worker.alloc(1 << 16)
            self.assertEqual((caught.exception.response.error, caught.exception.response.status), (5, 2))
            self.assertEqual(self.slot(1), (1024, 0, 0))
            self.hold(2, 2**64 - 1)  # more than there is
            self.assertEqual(worker.free_memory(), 0)
            worker.ask(worker.typed(MEMORY_FREE, u64(address)))
            self.assertEqual(self.slot(1), (0, 0, 0))
            self.assertEqual([self.slot(0), self.slot(2)], [(0, 0, 0), (2**64 - 1, 0, 0)])
            # W8: mapped, and no descriptor of it is left.
            self.assertFalse([t for t in descriptors_of(worker.process.pid).values() if "account" in t])
            with open("/proc/%d/maps" % worker.process.pid) as f:
                self.assertIn("/memfd:account", f.read())

    def test_w9_no_account(self):
        """What is no account ends it before READY."""
        for args, reason in ((["--account-fd", "77", "--account-slot", "0"], b"Bad file descriptor"),
                             (["--account-fd", "0", "--account-slot", "0"], None)):
            run = subprocess.run([worker_path(), "--fd", "9", "--vm", "1", "--session", "0", "--backend", "software",
                                  "--memory", "1M"] + args, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                 timeout=PATIENCE_S, check=False)
            self.assertEqual(run.returncode, 1 if reason else 2, run.stderr)
            self.assertIn(reason or b"--account-fd", run.stderr)


class EndlessKernel(unittest.TestCase):
    def start(self, worker):
        flag = worker.alloc(4)
        function = worker.kernel(worker.load(SPIN), "spin")[0]
        worker.launch(function, (1, 1, 1), (32, 1, 1), struct.pack("<Q", flag))

    def test_w6_exits_at_once(self):
        with Worker() as worker:
            self.start(worker)
            self.assertEqual(worker.once(worker.typed(SYNCHRONIZE)).status, NOT_READY)
            worker.recall(0)
            self.assertIsNone(worker.receive(0.5))  # W4: it cannot return the lease ...
            self.assertEqual(worker.once(worker.typed(NOP)).status, 0)  # ... but it answers (P11)
            start = time.monotonic()
            self.assertEqual(worker.close(), 0)
            self.assertLess(time.monotonic() - start, 30)  # "at once", with room for a busy machine

    def test_w3_cancel_of_what_waits_behind_it(self):
        with Worker() as worker:
            self.start(worker)
            seq = worker.submit(worker.typed(SYNCHRONIZE))
            worker.send(CANCEL, seq)
            self.assertEqual(worker.once(worker.typed(NOP)).status, 0)
            self.assertIsNone(worker.receive(0.3))  # W3: no response


class Process(unittest.TestCase):
    def test_w1_ready_is_the_first_packet(self):
        with Worker(start=False) as worker:
            seq = worker.submit(worker.typed(NOP))  # waits in the socket
            self.assertEqual(worker.receive()[0], READY)
            self.assertEqual(worker.response(seq).status, 0)

    def test_w6_exit_status(self):
        worker = Worker()
        self.assertEqual(worker.close(), 0)

    def test_w6_mediator_gone_before_ready(self):
        worker = Worker(start=False, stderr=subprocess.DEVNULL)
        self.assertIn(worker.close(), (0, 4))

    def test_w7_violations_end_it(self):
        bad = {
            "short": b"x",
            "unknown type": struct.pack("=IIQ", 99, 0, 1),
            "other side": struct.pack("=IIQ", READY, 0, 0),
            "length": struct.pack("=IIQ", CANCEL, 4, 1),
            "long": bytes(5000),
            "request": struct.pack("=IIQII", REQUEST, 8, 1, 1, 1),
            "recall": struct.pack("=IIQII", RECALL, 12, 1, 1, 1) + bytes(4),
        }
        for name, packet in bad.items():
            with self.subTest(name):
                worker = Worker(stderr=subprocess.PIPE)
                worker.sock.send(packet)
                self.assertIsNone(worker.receive())
                worker.process.wait(PATIENCE_S)
                log = worker.process.stderr.read().decode()
                self.assertEqual(worker.close(), 3)
                self.assertIn("event=violation", log)
                self.assertIn("reason=", log)

    def test_w4_grant_twice_ends_it(self):
        worker = Worker(stderr=subprocess.DEVNULL)
        worker.send(GRANT, 1)
        worker.send(GRANT, 2)
        self.assertIsNone(worker.receive())
        self.assertEqual(worker.close(), 3)

    def test_usage(self):
        for args in ([], ["--fd", "3"], ["--bogus"], ["--probe", "--backend", "nonsense"],
                     ["--fd", "3", "--vm", "1", "--session", "0", "--backend", "nonsense"]):
            with self.subTest(args):
                run = subprocess.run([worker_path()] + args, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     timeout=PATIENCE_S, check=False)
                self.assertEqual(run.returncode, 2)
                self.assertIn(b"vgpu-worker:", run.stderr)

    def test_set_up_that_fails(self):
        run = subprocess.run([worker_path(), "--fd", "9", "--vm", "1", "--session", "0", "--backend", "software"],
                             stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"reason=", run.stderr)

    def test_probe(self):
        run = subprocess.run([worker_path(), "--probe", "--backend", "software"], stdout=subprocess.PIPE, timeout=PATIENCE_S,
                             check=True)
        lines = run.stdout.splitlines()
        self.assertEqual(len(lines), 1)
        gpu = json.loads(lines[0].decode())
        self.assertEqual(gpu["backend"], "software")
        self.assertGreater(gpu["total_memory_bytes"], 0)
        self.assertEqual(len(gpu["uuid"]), 36)


class Confinement(unittest.TestCase):
    """W8."""

    def test_w8_whoever_starts_it(self):
        stray = os.pipe()
        try:
            os.set_inheritable(stray[0], True)
            with Worker(pass_fds=stray) as worker:
                worker.alloc(4096)
                pid = worker.process.pid
                status = status_of(pid)
                self.assertEqual(status["NoNewPrivs"], "1")
                for task in os.listdir("/proc/%d/task" % pid):  # it belongs to each thread
                    with open("/proc/%d/task/%s/status" % (pid, task)) as f:
                        self.assertIn("NoNewPrivs:\t1", f.read())
                self.assertEqual(resource.prlimit(pid, resource.RLIMIT_CORE), (0, 0))
                self.assertLessEqual(resource.prlimit(pid, resource.RLIMIT_NOFILE)[1], 256)
                self.assertEqual(os.readlink("/proc/%d/cwd" % pid), "/")
                fds = descriptors_of(pid)
                self.assertTrue(fds[3].startswith("socket:"), fds)
                mine = {os.readlink("/proc/self/fd/%d" % fd) for fd in stray}
                self.assertFalse(mine & set(fds.values()), fds)
                for fd, target in fds.items():
                    if fd > 3:
                        self.assertFalse(target.startswith(("socket:", "pipe:")), fds)
        finally:
            for fd in stray:
                os.close(fd)

    def test_w8_system_calls_and_memory(self):
        """What is in force in the program itself; what that forbids is in test_confine.c."""
        with Worker(args=["--log-level", "debug", "--memory", "64M", "--threads", "2"], stderr=subprocess.PIPE) as worker:
            pid = worker.process.pid
            said = {}
            while said.get("event") != "confined":  # comes before READY
                line = worker.process.stderr.readline().decode()
                self.assertTrue(line)
                said = dict(field.split("=", 1) for field in line.split() if "=" in field)
            bound = int(said["memory_limit_bytes"])
            self.assertTrue(said["landlock_abi"].isdigit(), said)
            filtered = "2" if said["seccomp"] == "yes" else "0"
            for task in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/status" % (pid, task)) as f:
                    self.assertIn("Seccomp:\t" + filtered, f.read())
            if bound:  # not in a build with a sanitizer
                self.assertEqual(resource.prlimit(pid, resource.RLIMIT_DATA), (bound, bound))
                self.assertGreater(bound, 64 << 20)
            Compute().add_vectors(worker, 1000)

    def test_w8_standard_descriptors_that_are_missing(self):
        def close_them():
            for fd in range(3):
                os.close(fd)

        with Worker(preexec_fn=close_them) as worker:
            fds = descriptors_of(worker.process.pid)
            self.assertEqual([fds[fd] for fd in range(3)], ["/dev/null"] * 3)
            worker.alloc(64)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_w8_started_as_root(self):
        with Worker(args=["--uid", str(NOBODY), "--gid", str(NOBODY)],
                    preexec_fn=lambda: os.setgroups([0, 4, 27])) as worker:
            pid = worker.process.pid
            for task in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/status" % (pid, task)) as f:
                    status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
                self.assertEqual(status["Uid"].split(), [str(NOBODY)] * 4)
                self.assertEqual(status["Gid"].split(), [str(NOBODY)] * 4)
                self.assertEqual(status["Groups"].split(), [])
                self.assertEqual(status["NoNewPrivs"], "1")
                for capabilities in ("CapPrm", "CapEff", "CapAmb"):
                    self.assertEqual(int(status[capabilities], 16), 0)
            # Not dumpable: what is under /proc belongs to root, not to the uid.
            self.assertEqual(os.stat("/proc/%d/mem" % pid).st_uid, 0)
            Compute().add_vectors(worker, 100)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_w8_another_uid_without_being_root(self):
        def drop():
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)

        path = worker_path()
        if subprocess.run(["test", "-x", path], preexec_fn=drop, check=False).returncode:
            self.skipTest("nobody cannot run %s" % path)
        worker = Worker(args=["--uid", "1", "--gid", "1"], start=False, preexec_fn=drop, stderr=subprocess.PIPE)
        self.assertIsNone(worker.receive())
        worker.process.wait(PATIENCE_S)
        self.assertIn(b"reason=", worker.process.stderr.read())
        self.assertEqual(worker.close(), 1)
        with Worker(args=["--uid", str(NOBODY), "--gid", str(NOBODY)], preexec_fn=drop) as own:
            own.alloc(64)


if __name__ == "__main__":
    sys.stdout.flush()
    unittest.main()
