# SPDX-License-Identifier: GPL-2.0-or-later
"""vgpu-exporter, scraped; and a stand-in for the mediator's control socket (docs/control.md) that says what a test wants."""

import http.client
import json
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

BUILD = os.environ["VGPU_BUILD"]
SOURCE = os.environ["VGPU_SOURCE"]
PATIENCE_S = 30
EXPORTER = os.path.join(BUILD, "src", "exporter", "vgpu-exporter")
SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def tool(name):
    """Path of a program of Prometheus's: as tools/setup unpacks it, or installed; None: there is none."""
    unpacked = os.path.join(SOURCE, ".cache", "prometheus", "usr", "bin", name)
    return unpacked if os.access(unpacked, os.X_OK) else shutil.which(name)


def parse(text):
    """{(name, frozenset of labels): value}, and fails on a line that is none, or a series that comes twice."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.match(line)
        if not match:
            raise AssertionError("no sample: %r" % line)
        key = (match.group(1), frozenset(LABEL.findall(match.group(2) or "")))
        if key in found:
            raise AssertionError("twice: %r" % line)
        found[key] = float(match.group(3))
    return found


def value(samples, metric, **labels):
    return samples.get((metric, frozenset(labels.items())))


class Exporter:
    """One exporter; its port is free and its own."""

    def __init__(self, control, *arguments):
        ready, ready_write = os.pipe()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([EXPORTER, "--control", control, "--listen", "127.0.0.1:0", "--ready-fd", str(ready_write),
                                         "--nvml", "none", *arguments], pass_fds=[ready_write], stdin=subprocess.DEVNULL,
                                        stderr=self.log)
        os.close(ready_write)
        try:
            if not select.select([ready], [], [], PATIENCE_S)[0]:
                raise AssertionError("it did not get ready: " + self.text())
            said = os.read(ready, 64).decode().split()
            if said[:1] != ["ready"]:
                raise AssertionError("it did not get ready: " + self.text())
            self.port = int(said[1])
            while os.read(ready, 64):
                pass  # until it has closed its end
        finally:
            os.close(ready)

    def text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def ask(self, path="/metrics", method="GET", body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())
        finally:
            connection.close()

    def scrape(self):
        status, text, _ = self.ask()
        if status != 200:
            raise AssertionError("HTTP %d" % status)
        return parse(text)

    def descriptors(self):
        return sorted(os.readlink("/proc/%d/fd/%s" % (self.process.pid, fd)) for fd in os.listdir("/proc/%d/fd" % self.process.pid))

    def close(self):
        self.process.terminate()
        try:
            status = self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            text = self.text()
            self.log.close()
        if status or "Sanitizer" in text or "runtime error" in text:
            raise AssertionError("exit status %d: %s" % (status, text))


class Control:
    """A control socket. `answer(request)` gives the result object, or a dict with "raw" (bytes to send), or None: silence."""

    def __init__(self, path, answer):
        self.path = path
        self.answer = answer
        self.requests = []
        self.lock = threading.Lock()
        self.stopping = False
        self.socket = socket.socket(socket.AF_UNIX)
        if os.path.exists(path):
            os.unlink(path)
        self.socket.bind(path)
        self.socket.listen(64)
        self.connections = []
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            thread = threading.Thread(target=self.serve, args=[connection])
            self.threads.append(thread)
            thread.start()

    def serve(self, connection):
        try:
            for line in connection.makefile("rb"):
                request = json.loads(line)
                with self.lock:
                    self.requests.append(request)
                result = self.answer(request)
                if result is None:
                    continue
                if "raw" in result:
                    connection.sendall(result["raw"])
                    if result.get("close"):
                        connection.shutdown(socket.SHUT_RDWR)
                else:
                    connection.sendall(json.dumps({"id": request["id"], "ok": True, "result": result}).encode() + b"\n")
        except OSError:
            pass

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join()
        for connection in self.connections:
            connection.close()
        os.unlink(self.path)


def vm(number, **more):
    """A VM's figures, with small numbers unless a test says more."""
    figures = {"vm": number, "pool": "A", "gpu": 0, "priority": "medium", "attached": 1, "waiting": 0, "holding": 1, "sessions": 1,
               "workers": 1, "memory_used": 4096, "memory_quota": 1 << 30, "mailbox_pending": 0, "jobs": 2, "pending": 3,
               "lease_ns": 1500000000, "busy_ns": 500000000, "leases": 4, "recalls": 1, "throttles": 2, "watchdog_kills": 0,
               "faults": 0, "attaches": 1, "sessions_opened": 1, "workers_started": 1, "requests": 10, "request_errors": 1,
               "cancels": 0, "request_bytes": 1000, "response_bytes": 2000, "records": 100, "calls": 90, "launches": 50, "posts": 60,
               "bytes_to_device": 12345, "bytes_from_device": 678, "errors": {"other": 0, "CUDA_ERROR_OUT_OF_MEMORY": 2},
               "wait": {"sum_ns": 3000000, "counts": [1, 2]}, "mailbox": {"sum_ns": 0, "counts": []},
               "call": {"sum_ns": 2000, "counts": [3, 0, 1]}}
    figures.update(more)
    return figures


def last_page(vms, started=1700000000.5):
    return {"vms": vms, "next": None,
            "gpus": [{"gpu": 0, "name": "software:0", "backend": "software", "pool": "A", "vms": len(vms), "workers": 1, "holders": 1,
                      "memory": 0, "memory_used": 4096, "contexts": 1, "leases": 9, "lease_ns": 2500000000, "leased_ns": 2000000000,
                      "busy_ns": 1000000000, "watchdog_kills": 0}],
            "mediator": {"start_time": started, "version": "0.1.0", "pid": 1, "links": 2, "vms": 2, "workers": 1, "attaches": 3,
                         "refusals": 0, "violations": 0, "workers_started": 1, "faults": 0, "watchdog_kills": 0,
                         "records_forgotten": 0, "log_dropped": 0}}


class ExporterCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="exporter-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "control.sock")

    def control(self, answer):
        control = Control(self.path, answer)
        self.addCleanup(control.close)
        return control

    def exporter(self, *arguments, control=None):
        exporter = Exporter(control or self.path, *arguments)
        self.addCleanup(exporter.close)
        return exporter

    def wait_descriptors(self, exporter, before):
        def kinds(names):
            return [re.sub(r"\d+", "N", name) for name in names]
        deadline = time.monotonic() + PATIENCE_S
        while kinds(exporter.descriptors()) != kinds(before) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(kinds(exporter.descriptors()), kinds(before))
