#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""vgpu-exporter against a stand-in for the mediator (docs/metrics.md)."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from rig import EXPORTER, PATIENCE_S, SOURCE, Control, ExporterCase, last_page, parse, tool, value, vm


class Metrics(ExporterCase):
    def test_values(self):
        """Every number of the answer is where it belongs, in base units."""
        self.control(lambda request: last_page([vm(7), vm(0, uid=1000, calls=1) | {"vm": None}]))
        samples = self.exporter().scrape()
        for name, expected in (("gpu_seconds_total", 1.5), ("busy_seconds_total", 0.5), ("leases_total", 4), ("throttles_total", 2),
                               ("memory_used_bytes", 4096), ("memory_quota_bytes", 2**30), ("requests_total", 10),
                               ("calls_total", 90), ("launches_total", 50), ("lease_wait_seconds_sum", 0.003),
                               ("lease_wait_seconds_count", 3), ("call_duration_seconds_count", 4)):
            self.assertEqual(value(samples, "vgpu_vm_" + name, vm="7"), expected, name)
        self.assertEqual(value(samples, "vgpu_vm_calls_total", vm="uid:1000"), 1)
        self.assertEqual(value(samples, "vgpu_vm_copied_bytes_total", vm="7", direction="to_device"), 12345)
        self.assertEqual(value(samples, "vgpu_vm_copied_bytes_total", vm="7", direction="from_device"), 678)
        self.assertEqual(value(samples, "vgpu_vm_queue_depth", vm="7", queue="calls"), 3)
        self.assertEqual(value(samples, "vgpu_vm_call_errors_total", vm="7", error="CUDA_ERROR_OUT_OF_MEMORY"), 2)
        self.assertEqual(value(samples, "vgpu_vm_info", vm="7", pool="A", gpu="0", priority="medium"), 1)
        self.assertEqual(value(samples, "vgpu_gpu_info", gpu="0", name="software:0", backend="software", pool="A"), 1)
        self.assertEqual(value(samples, "vgpu_gpu_leased_seconds_total", gpu="0"), 2)
        self.assertEqual(value(samples, "vgpu_mediator_up"), 1)
        self.assertEqual(value(samples, "vgpu_mediator_links"), 2)
        self.assertEqual(value(samples, "vgpu_mediator_start_time_seconds"), 1700000000.5)

    def test_histograms(self):
        """Buckets are cumulative, in order, and end with +Inf, which is the count."""
        counts = [i % 5 for i in range(32)]
        self.control(lambda request: last_page([vm(7, call={"sum_ns": 5, "counts": counts}, wait={"sum_ns": 5, "counts": counts})]))
        _, text, _ = self.exporter().ask()
        for name in ("vgpu_vm_call_duration_seconds", "vgpu_vm_lease_wait_seconds"):
            found = re.findall(r'^%s_bucket\{vm="7",le="([^"]+)"\} (\d+)$' % name, text, re.M)
            limits, values = [float(limit) for limit, _ in found], [int(n) for _, n in found]
            self.assertEqual(limits, sorted(set(limits)))
            self.assertEqual(values, sorted(values))
            self.assertEqual(limits[-1], float("inf"))
            self.assertEqual(values[-1], sum(counts))
            for limit, n in zip(limits[:-1], values):
                self.assertEqual(n, sum(c for i, c in enumerate(counts) if 256e-9 * 2**i <= limit * 1.000001), (name, limit))
            self.assertEqual(value(parse(text), name + "_count", vm="7"), sum(counts))

    def test_promtool(self):
        """Names, types and units are as Prometheus would have them."""
        promtool = tool("promtool")
        if not promtool:
            self.skipTest("no promtool here: tools/setup test")
        self.control(lambda request: last_page([vm(7), vm(8)]))
        for control, up in ((self.path, 1), ("/nonexistent", 0)):
            _, text, _ = self.exporter(control=control).ask()
            self.assertIn("\nvgpu_mediator_up %d\n" % up, text)
            run = subprocess.run([promtool, "check", "metrics"], input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual((run.returncode, run.stdout), (0, b""))

    def test_pages(self):
        """A mediator with many VMs answers by pages, and all of them are there, each once."""
        def answer(request):
            after = request["after"]
            page = [vm(n) for n in range(after, min(after + 128, 1000))]
            return {"vms": page, "next": after + 128} if after + 128 < 1000 else last_page(page)

        control = self.control(answer)
        samples = self.exporter().scrape()
        self.assertEqual(sorted(int(dict(labels)["vm"]) for name, labels in samples if name == "vgpu_vm_calls_total"), list(range(1000)))
        self.assertEqual([r["after"] for r in control.requests], list(range(0, 1000, 128)))
        self.assertEqual({r["op"] for r in control.requests}, {"stats"})

    def test_labels_are_escaped(self):
        page = last_page([vm(7, pool='"\\\n')])
        page["gpus"][0]["name"] = 'a"b'
        self.control(lambda request: page)
        _, text, _ = self.exporter().ask()
        self.assertIn('vgpu_vm_info{vm="7",pool="\\"\\\\\\n",gpu="0",priority="medium"} 1\n', text)
        self.assertIn('name="a\\"b"', text)

    def test_restarts_are_counted(self):
        started = [100.25]
        self.control(lambda request: last_page([vm(7)], started[0]))
        exporter = self.exporter("--cache-ms", "0")
        self.assertEqual(value(exporter.scrape(), "vgpu_mediator_restarts_total"), 0)
        self.assertEqual(value(exporter.scrape(), "vgpu_mediator_restarts_total"), 0)
        started[0] = 200.5
        self.assertEqual(value(exporter.scrape(), "vgpu_mediator_restarts_total"), 1)


class Http(ExporterCase):
    def test_pages_and_methods(self):
        self.control(lambda request: last_page([vm(7)]))
        exporter = self.exporter()
        status, text, headers = exporter.ask("/metrics")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
        self.assertTrue(text.endswith("\n"))
        status, text, headers = exporter.ask("/")
        self.assertEqual(status, 200)
        self.assertIn("/metrics", text)
        for path in ("/metrics/", "/metric", "/../etc/passwd", "/" + "x" * 4000):
            self.assertEqual(exporter.ask(path)[0], 404, path)
        for method in ("POST", "PUT", "DELETE"):
            self.assertEqual(exporter.ask("/metrics", method, body=b"x" * 100000 if method == "POST" else None)[0], 405)
        self.assertEqual(exporter.ask("/metrics", "HEAD")[:2], (200, ""))
        self.assertEqual(exporter.ask("/metrics", body=b"a body with GET")[0], 200)

    def test_bad_http(self):
        """Rubbish, half a request and headers without end cost who sends them a connection."""
        self.control(lambda request: last_page([vm(7)]))
        exporter = self.exporter()
        before = exporter.descriptors()
        for junk in (b"\0\1\2\3\n\n", b"GET\r\n\r\n", b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 100000 + b"\r\n\r\n", b"GET /met"):
            with socket.create_connection(("127.0.0.1", exporter.port), 0.5) as connection:
                try:
                    connection.sendall(junk)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
                except OSError:
                    pass
        self.assertEqual(value(exporter.scrape(), "vgpu_mediator_up"), 1)
        self.wait_descriptors(exporter, before)

    def test_200_scrapes_in_parallel_cost_one_question(self):
        gate = threading.Event()

        def answer(request):
            gate.wait(PATIENCE_S)
            return last_page([vm(n) for n in range(100)])

        control = self.control(answer)
        exporter = self.exporter("--cache-ms", "60000", "--timeout-ms", "30000")
        before = exporter.descriptors()
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            answers = [pool.submit(exporter.ask) for _ in range(200)]
            time.sleep(0.5)  # most of them are there by now, and wait
            gate.set()
            bodies = {a.result()[:2] for a in answers}
        self.assertEqual(len(bodies), 1)
        self.assertEqual(len(control.requests), 1)
        status, text = bodies.pop()
        self.assertEqual((status, value(parse(text), "vgpu_vm_calls_total", vm="99")), (200, 90))
        self.wait_descriptors(exporter, before)

    def test_clients_that_do_not_read(self):
        """They keep nobody waiting."""
        self.control(lambda request: last_page([vm(n) for n in range(2000)]))
        exporter = self.exporter()
        slow = []
        for _ in range(50):
            connection = socket.create_connection(("127.0.0.1", exporter.port), PATIENCE_S)
            self.addCleanup(connection.close)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.append(connection)
        self.assertEqual(value(exporter.scrape(), "vgpu_vm_calls_total", vm="1999"), 90)

    def test_one_port(self):
        """A port that is taken, and an address that is none, are said clearly."""
        exporter = self.exporter()
        for listen, status, said in (("127.0.0.1:%d" % exporter.port, 1, "port %d" % exporter.port), ("localhost:1", 1, "'localhost' is no IPv4"),
                                     ("127.0.0.1", 2, "--listen '127.0.0.1'"), ("127.0.0.1:70000", 2, "--listen")):
            run = subprocess.run([EXPORTER, "--listen", listen, "--nvml", "none"], stderr=subprocess.PIPE, timeout=PATIENCE_S)
            self.assertEqual(run.returncode, status, listen)
            self.assertIn(said, run.stderr.decode())


class Away(ExporterCase):
    """The mediator is not there, or not itself: HTTP 200, vgpu_mediator_up 0, and what the exporter knows."""

    def down(self, exporter):
        samples = exporter.scrape()
        self.assertEqual(value(samples, "vgpu_mediator_up"), 0)
        self.assertFalse([name for name, _ in samples if name.startswith(("vgpu_vm_", "vgpu_gpu_"))])
        self.assertGreaterEqual(value(samples, "vgpu_exporter_query_errors_total"), 1)

    def test_no_socket(self):
        exporter = self.exporter("--cache-ms", "0")
        self.down(exporter)
        self.control(lambda request: last_page([vm(7)]))
        self.assertEqual(value(exporter.scrape(), "vgpu_mediator_up"), 1)
        self.assertEqual(value(exporter.scrape(), "vgpu_exporter_query_errors_total"), 1)

    def test_long_path(self):
        self.down(self.exporter(control="/x" * 200))

    def test_bad_answers(self):
        answers = [{"raw": b"", "close": True}, {"raw": b"{\"id\":1,\"ok\":tr", "close": True}, {"raw": b"not json\n"}, {"raw": b"[]\n"},
                   {"raw": b"\n"}, {"raw": b"{}\n"}, {"raw": b"null\n"},
                   {"raw": b'{"id":null,"ok":false,"error":{"code":"denied","message":"no"}}\n'},
                   {"raw": b'{"id":1,"ok":true,"result":[]}\n'}, {"raw": b'{"id":1,"ok":true,"result":{"vms":7}}\n'},
                   {"vms": [], "next": 5}, {"raw": b"x" * (9 << 20)}, {"raw": b"[" * 100000 + b"\n"}]
        turn = []
        self.control(lambda request: turn[-1])
        exporter = self.exporter("--cache-ms", "0")
        before = exporter.descriptors()
        for answer in answers:
            turn.append(answer)
            self.down(exporter)
        self.assertIn("no", exporter.text())
        self.wait_descriptors(exporter, before)

    def test_strange_figures(self):
        """What is missing, of another type or below 0 costs that sample, not the rest."""
        odd = vm(7, calls="many", launches=-5, errors=None, wait=7, call={"sum_ns": "x", "counts": [1, "y", -3, None]}, pool=5, gpu=None)
        del odd["leases"]
        page = last_page([odd, vm(8), None, 5, "x", []])
        page["mediator"]["links"] = None
        self.control(lambda request: page)
        exporter = self.exporter()
        samples = exporter.scrape()
        self.assertIsNone(value(samples, "vgpu_vm_calls_total", vm="7"))
        self.assertEqual(value(samples, "vgpu_vm_launches_total", vm="7"), 0)
        self.assertEqual(value(samples, "vgpu_vm_requests_total", vm="7"), 10)
        self.assertEqual(value(samples, "vgpu_vm_calls_total", vm="8"), 90)

    def test_silence(self):
        """A mediator that hangs costs each scrape no more than the time-out, and a signal ends the exporter all the same."""
        self.control(lambda request: None)
        exporter = self.exporter("--timeout-ms", "200")
        self.down(exporter)
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            for answer in [pool.submit(exporter.ask) for _ in range(50)]:
                self.assertEqual(answer.result()[0], 200)

    def test_drip(self):
        """An answer that never ends, byte by byte, ends at the deadline."""
        done = threading.Event()
        self.addCleanup(done.set)
        control = Control(self.path, lambda request: None)
        self.addCleanup(control.close)

        def drip():
            while not done.wait(0.02):
                for connection in control.connections:
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        pass

        thread = threading.Thread(target=drip)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(done.set)
        self.down(self.exporter("--timeout-ms", "300"))


class Nvml(ExporterCase):
    """The cards' own figures, by a library that stands in for NVIDIA's."""

    library = os.path.join(os.environ["VGPU_BUILD"], "tests", "exporter", "libfake-nvml.so")

    def run_with(self, mode, *arguments):
        os.environ["FAKE_NVML"] = mode
        try:
            return self.exporter("--nvml", self.library, "--cache-ms", "0", *arguments)
        finally:
            del os.environ["FAKE_NVML"]

    def test_values(self):
        """There although the mediator is away."""
        samples = self.run_with("two").scrape()
        for uuid, celsius, watts in (("GPU-fake-0", 40, 70.5), ("GPU-fake-1", 41, None)):
            self.assertEqual(value(samples, "vgpu_nvml_temperature_celsius", uuid=uuid), celsius)
            self.assertEqual(value(samples, "vgpu_nvml_power_watts", uuid=uuid), watts)  # the second has no such sensor
            self.assertEqual(value(samples, "vgpu_nvml_clock_hertz", uuid=uuid, clock="sm"), 1980e6)
            self.assertEqual(value(samples, "vgpu_nvml_clock_hertz", uuid=uuid, clock="memory"), 2619e6)
            self.assertEqual(value(samples, "vgpu_nvml_utilization_ratio", uuid=uuid), 0.25)
            self.assertEqual(value(samples, "vgpu_nvml_memory_bytes", uuid=uuid), 80 << 30)
        self.assertEqual(value(samples, "vgpu_nvml_info", uuid="GPU-fake-1", index="1", model='Fake "GPU"'.replace('"', '\\"')), 1)
        self.assertEqual(value(samples, "vgpu_nvml_up"), 1)
        promtool = tool("promtool")
        if promtool:
            text = self.run_with("two").ask()[1]
            run = subprocess.run([promtool, "check", "metrics"], input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual((run.returncode, run.stdout), (0, b""))

    def test_none(self):
        """No such library, or one that does not start: nothing of it is there."""
        for exporter in (self.exporter(), self.exporter("--nvml", "/nonexistent.so"), self.run_with("fail")):
            self.assertFalse([name for name, _ in exporter.scrape() if name.startswith("vgpu_nvml")])

    def test_hangs(self):
        """A driver in trouble does not hold up a scrape, nor the end."""
        exporter = self.run_with("hang")
        self.assertEqual(value(exporter.scrape(), "vgpu_nvml_up"), 0)


class Docs(unittest.TestCase):
    """Every metric is on docs/metrics.md, and nothing else; the dashboard uses what exists."""

    def names(self):
        """What the exporter can say, by its own HELP lines."""
        case = ExporterCase()
        case.setUp()
        try:
            case.control(lambda request: last_page([vm(7)]))
            os.environ["FAKE_NVML"] = "two"
            text = case.exporter("--nvml", Nvml.library).ask()[1]
        finally:
            os.environ.pop("FAKE_NVML", None)
            case.doCleanups()
        return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))

    def test_page(self):
        with open(os.path.join(SOURCE, "docs", "metrics.md"), encoding="utf-8") as page:
            documented = dict(re.findall(r"^\| `(vgpu_[a-z_]+)` \| (counter|gauge|histogram) \|", page.read(), re.M))
        self.assertEqual(documented, self.names())

    def test_dashboard(self):
        names = set()
        for name, kind in self.names().items():
            names |= {name + "_bucket", name + "_sum", name + "_count"} if kind == "histogram" else {name}
        with open(os.path.join(SOURCE, "packaging", "grafana", "vgpu.json"), encoding="utf-8") as file:
            text = file.read()
        dashboard = json.loads(text)
        used = set(re.findall(r"\bvgpu_[a-z_]+", text))
        self.assertTrue(used)
        self.assertEqual(used - names, set())
        identifiers = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(identifiers), len(set(identifiers)))
        promtool = tool("promtool")
        if not promtool:
            self.skipTest("no promtool here: tools/setup test")
        rules = {"groups": [{"name": "dashboard", "rules": []}]}
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"].replace("$__rate_interval", "5m")
                rules["groups"][0]["rules"].append({"record": "dashboard:%d:%s" % (panel["id"], target["refId"].lower()), "expr": expression})
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(rules, file)
            file.flush()
            run = subprocess.run([promtool, "check", "rules", "--lint=none", file.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(run.returncode, 0, run.stdout.decode())


if __name__ == "__main__":
    unittest.main()
