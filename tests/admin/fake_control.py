# SPDX-License-Identifier: GPL-2.0-or-later
"""A control server as docs/control.md describes one, written from that page alone: VMs and pools in memory, no GPU.

Owns: framing, ids, the answers' shapes. What it was asked stands in `requests`; `script` replaces the next answers with
bytes of a test's own. Standard library only.
"""

import json
import os
import select
import socket
import threading
import time

WISH = {"pool": None, "priority": None, "weight": 100, "rate": None, "burst_ms": 10, "memory": 1 << 30, "sessions": 16,
        "queue": 512}


class Failure(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def vm_object(vm, **more):
    o = {"vm": vm, "name": "", "registered": False, "local": False, "uid": None, "state": "detached", "attached": False,
         "reason": "", "until": None, "gpu": None, "moving": False, "open_sessions": 0, "workers": 0, "memory_used": 0,
         "lease_ms": 0, "leases": 0, "recalls": 0, "waiting": False, "holding": False, "faults": 0, "requests": 0,
         "errors": 0}
    o.update(WISH)
    o.update(more)
    return o


class FakeControl:
    """Serves PATH from a thread of its own until close()."""

    def __init__(self, path, **status):
        self.path = path
        self.vms = {}
        self.pools = {"A": {"pool": "A", "backend": "software", "gpus": [0], "source": "file", "vms": 0,
                            "draining": False, "until": None}}
        self.gpus = [{"gpu": 0, "name": "software:0", "pool": "A", "backend": "software", "uuid": None, "ordinal": None,
                      "model": "vgpu software GPU", "memory": 0, "usable": True, "reason": "", "state": "ok",
                      "until": None, "vms": 0, "workers": 0, "holders": []}]
        self.events = []
        self.audit = []
        self.stats = None  # what `stats` answers, or None: it is not supported
        self.status = dict({"version": "0.1.0", "pid": os.getpid(), "uptime_s": 4321.5, "started": 1700000000.25,
                            "may_change": True, "admit_unknown": True, "workers": 0, "links": 0,
                            "registry": {"path": None, "state": "none", "schema": 0, "changes": 0}, "clients": 1,
                            "log_dropped": 0}, **status)
        self.began = time.monotonic()
        self.requests = []
        self.script = []
        self.storage = None  # what is wrong with the registry
        self.tick = None  # called before each list-vms, to let counters go on
        self.followers = []
        self.lock = threading.RLock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        self.wake_read, self.wake_write = os.pipe()
        self.clients = {}
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def close(self):
        os.write(self.wake_write, b"x")
        self.thread.join()
        for s in list(self.clients) + [self.listener]:
            s.close()
        os.close(self.wake_read)
        os.close(self.wake_write)
        if os.path.exists(self.path):
            os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self):
        while True:
            ready = select.select([self.listener, self.wake_read] + list(self.clients), [], [])[0]
            if self.wake_read in ready:
                return
            for s in ready:
                if s is self.listener:
                    self.clients[s.accept()[0]] = b""
                    continue
                try:
                    data = s.recv(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    self.drop(s)
                    continue
                self.clients[s] += data
                while s in self.clients and b"\n" in self.clients[s]:
                    line, self.clients[s] = self.clients[s].split(b"\n", 1)
                    self.answer(s, line)

    def drop(self, s):
        self.followers = [f for f in self.followers if f[0] is not s]
        self.clients.pop(s, None)
        s.close()

    def answer(self, s, line):
        with self.lock:
            request = json.loads(line)
            assert len(line) < 65536
            self.requests.append(request)
            if self.script:
                said = self.script.pop(0)
                if said is None:
                    self.drop(s)
                elif said != b"":
                    self.send(s, said)
                return
            name = "op_" + request["op"].replace("-", "_")
            fields = {k: v for k, v in request.items() if k not in ("id", "op")}
            try:
                if not hasattr(self, name):
                    raise Failure("unsupported", "there is no operation '%s'" % request["op"])
                answer = {"id": request["id"], "ok": True, "result": getattr(self, name)(**fields)}
                if request["op"] == "events" and fields.get("follow"):
                    self.followers.append((s, request["id"]))
            except Failure as f:
                answer = {"id": request["id"], "ok": False, "error": {"code": f.code, "message": str(f)}}
            except TypeError as f:
                answer = {"id": request["id"], "ok": False, "error": {"code": "invalid", "message": str(f)}}
            self.send(s, json.dumps(answer).encode() + b"\n")

    def send(self, s, data):
        try:
            s.sendall(data)
        except ConnectionError:
            self.drop(s)

    # ---- Reading ----

    def op_status(self):
        count = lambda f: sum(1 for v in self.vms.values() if f(v))
        uptime = self.status["uptime_s"] + time.monotonic() - self.began
        return dict(self.status, uptime_s=round(uptime, 3), pools=" ".join(sorted(self.pools)), gpus=len(self.gpus), vms={
            "registered": count(lambda v: v["registered"]), "attached": count(lambda v: v["attached"]),
            "quarantined": count(lambda v: v["state"] == "quarantined"),
            "draining": count(lambda v: v["state"] == "draining")})

    def op_list_vms(self):
        if self.tick:
            self.tick(self)
        return {"vms": [self.vms[n] for n in sorted(self.vms)]}

    def op_show_vm(self, vm):
        return {"vm": self.one(vm)}

    def op_list_pools(self):
        return {"pools": [self.pools[p] for p in sorted(self.pools)]}

    def op_list_gpus(self):
        return {"gpus": self.gpus}

    def op_stats(self, after=0):
        if self.stats is None:
            raise Failure("unsupported", "this mediator keeps no statistics")
        page = self.stats[after:after + 128]
        rest = after + 128 < len(self.stats)
        return {"vms": page, "next": after + 128 if rest else None}

    def op_events(self, since=0, limit=100, follow=False):
        found = [e for e in self.events if e["seq"] > since]
        return {"events": found[-limit:], "next": self.events[-1]["seq"] if self.events else 0, "lost": 0}

    def op_audit(self, limit=100, before=1 << 53):
        return {"audit": [a for a in reversed(self.audit) if a["seq"] < before][:limit]}

    # ---- Changing ----

    def one(self, vm, must=True):
        if vm not in self.vms and must:
            raise Failure("not-found", "vm %d: it is not registered and not attached (list-vms shows those that are)" % vm)
        return self.vms.get(vm)

    def happen(self, event, vm, text):
        e = {"seq": len(self.events) + 1, "time": time.time(), "event": event, "vm": vm, "gpu": None, "text": text}
        self.events.append(e)
        for s, number in list(self.followers):
            self.send(s, json.dumps({"id": number, "event": e}).encode() + b"\n")

    def change(self, op, vms, **values):
        if not self.status["may_change"]:
            raise Failure("denied", "%s: uid %d may only read; root and the group of admin_group may change" % (op, 1000))
        if self.storage:
            raise Failure("storage", "%s: the registry could not be written: %s; nothing was changed" % (op, self.storage))
        for vm in vms:
            if not self.one(vm)["registered"]:
                raise Failure("not-found", "vm %d: it is not registered" % vm)
        for vm in vms:
            for key, value in values.items():
                self.audit.append({"seq": len(self.audit) + 1, "time": time.time(), "uid": 0, "pid": 1, "op": op,
                                   "target": "vm %d" % vm, "old": "%s=%s" % (key, self.vms[vm][key]),
                                   "new": "%s=%s" % (key, value)})
                self.vms[vm][key] = WISH[key] if value is None and key in WISH else value
            self.happen("change", vm, "%s vm %d" % (op, vm))
        return {"vms": [self.vms[vm] for vm in vms]}

    def op_register_vm(self, vms, **values):
        for vm in vms:
            if vm in self.vms and self.vms[vm]["registered"]:
                raise Failure("exists", "vm %d: it is registered already (set-pool and the like change it)" % vm)
            if values.get("pool") and values["pool"] not in self.pools:
                raise Failure("not-found", "vm %d: pool '%s' has no GPU (pools: %s)" % (
                    vm, values["pool"], " ".join(sorted(self.pools))))
        for vm in vms:
            self.vms.setdefault(vm, vm_object(vm))["registered"] = True
        return self.change("register-vm", vms, **values)

    def op_remove_vm(self, vms, force=False):
        for vm in vms:
            if self.one(vm)["attached"] and not force:
                raise Failure("busy", "vm %d: it is attached: --force ends its sessions" % vm)
        for vm in vms:
            del self.vms[vm]
        return {"removed": vms}

    def op_set_name(self, vms, name):
        return self.change("set-name", vms, name=name)

    def op_set_pool(self, vms, pool):
        return self.change("set-pool", vms, pool=pool)

    def op_set_priority(self, vms, priority):
        return self.change("set-priority", vms, priority=priority)

    def op_set_weight(self, vms, weight):
        return self.change("set-weight", vms, weight=weight)

    def op_set_rate(self, vms, rate, **burst):
        return self.change("set-rate", vms, rate=rate, **burst)

    def op_set_quota(self, vms, **values):
        return self.change("set-quota", vms, **values)

    def op_add_pool(self, pool, backend="software", gpus=None):
        if pool in self.pools:
            raise Failure("exists", "pool %s: it has GPUs already" % pool)
        self.pools[pool] = dict(self.pools["A"], pool=pool, backend=backend, gpus=gpus or [1], source="registry")
        return {"pool": self.pools[pool]}

    def op_remove_pool(self, pool):
        if pool not in self.pools:
            raise Failure("not-found", "pool %s: there is none (pools: %s)" % (pool, " ".join(sorted(self.pools))))
        if self.pools[pool]["source"] == "file":
            raise Failure("conflict", "pool %s: it has a section in the configuration file" % pool)
        del self.pools[pool]
        return {"removed": pool}

    def op_assign_gpu(self, pool, gpu):
        for g in self.gpus:
            if gpu in (g["gpu"], g["name"]):
                g["pool"] = pool
                return {"pool": self.pools[pool], "gpu": g}
        raise Failure("not-found", "gpu %s: there is none (gpus: 0)" % gpu)

    def aside(self, state, vms, seconds, reason):
        for vm in vms:
            v = self.vms.setdefault(vm, vm_object(vm))
            v.update(state=state, reason=reason or "", until=time.time() + seconds if seconds else None)
        return {"vms": [self.vms[vm] for vm in vms]}

    def op_quarantine(self, vms, seconds=None, reason=None):
        return self.aside("quarantined", vms, seconds, reason)

    def op_release(self, vms):
        for vm in vms:
            if self.one(vm)["state"] != "quarantined":
                raise Failure("not-found", "vm %d: it is not in quarantine" % vm)
            self.vms[vm].update(state="detached", reason="", until=None)
        return {"vms": [self.vms[vm] for vm in vms]}

    def op_drain(self, vms=None, pool=None, gpu=None, seconds=None, reason=None):
        if vms is not None:
            return self.aside("draining", vms, seconds, reason)
        if pool is not None:
            self.pools[pool].update(draining=True)
            return {"pool": self.pools[pool]}
        self.gpus[gpu]["state"] = "draining"
        return {"gpu": self.gpus[gpu]}

    def op_undrain(self, vms=None, pool=None, gpu=None):
        if vms is not None:
            for vm in vms:
                self.one(vm).update(state="detached", reason="", until=None)
            return {"vms": [self.vms[vm] for vm in vms]}
        if pool is not None:
            self.pools[pool].update(draining=False)
            return {"pool": self.pools[pool]}
        self.gpus[gpu]["state"] = "ok"
        return {"gpu": self.gpus[gpu]}
