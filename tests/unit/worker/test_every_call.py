#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every CUDA driver call of api/cuda.calls against vgpu-worker, with each slot at its extremes: P28 to P31 of
docs/protocol.md. The description says which slots there are, so no call escapes; what must be answered is written here
from the protocol."""
import os
import struct
import sys
import unittest

sys.path.insert(0, os.path.join(os.environ["VGPU_SOURCE"], "api"))

import calls as description  # noqa: E402
from worker_client import ASYNC, Worker, request  # noqa: E402

INVALID_VALUE, OUT_OF_MEMORY, INVALID_CONTEXT, INVALID_HANDLE, NOT_SUPPORTED = 1, 2, 201, 400, 801
NOT_FOUND = 500
SESSION = 0xABCDEF0123456789
MASK = (1 << 64) - 1

PTX = b"""
.version 6.4
.target sm_70
.address_size 64
.visible .global .align 8 .b8 table[64];
.visible .entry nothing(.param .u64 p) { ret; }
"""

with_calls = [c for c in description.load(os.path.join(os.environ["VGPU_SOURCE"], "api", "cuda.calls")) if c.crosses]
by_name = {c.name: c for c in with_calls}

# One of each kind, under these names.
NAMES = {"context": 0xC0, "module": 0xD0, "function": 0xF0, "stream": 0x50, "event": 0xE0, "pool": 0xB0, "array": 0xA0}
# What a valid call of each has in its scalars; 0 elsewhere.
GOOD = {
    "launch": {"grid_x": 1, "grid_y": 1, "grid_z": 1, "block_x": 1, "block_y": 1, "block_z": 1},
    "memory_alloc": {"size": 64}, "memory_alloc_async": {"size": 64},
    "copy_from_device": {"size": 8}, "copy_on_device": {"size": 8},
    "copy_rect": {"destination_pitch": 8, "source_pitch": 8, "width": 8, "height": 1, "depth": 1},
    "memory_set": {"element_bytes": 1, "width": 8, "height": 1},
    "pool_get_attribute": {"attribute": 4}, "pool_set_attribute": {"attribute": 4},
    "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags": {"blockSize": 32},
    "cuOccupancyAvailableDynamicSMemPerBlock": {"blockSize": 32, "numBlocks": 1},
    "function_set_attribute": {"attribute": 8},
    "array_create": {"width": 16, "height": 4, "format": 0x20, "channels": 1},
    "array_write": {"row_bytes": 8, "rows": 1}, "array_read": {"row_bytes": 8, "rows": 1, "size": 8},
    "array_copy": {"row_bytes": 8, "rows": 1, "depth": 1},
    "texture_create": {"address_mode_0": 1, "address_mode_1": 1, "address_mode_2": 1},
}
ADDRESSES = {"address", "destination", "source"}
# Objects without names: what makes one.
OBJECTS = {"texture_destroy": "texture_create", "surface_destroy": "surface_create"}


def out_of_range(ctype):
    """Slots that no value of the type has (P28)."""
    if ctype in description.SIGNED32:
        return [1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, MASK - (1 << 31)]
    if ctype in ("u32", "f32"):
        return [1 << 32, 1 << 63, MASK]
    return []


def extremes(ctype):
    """Those at the ends of the type."""
    if ctype in description.SIGNED32:
        return [0, (1 << 31) - 1, MASK, MASK - (1 << 31) + 1]
    if ctype in ("u32", "f32"):
        return [0, (1 << 32) - 1]
    return [0, 1 << 63, MASK]


class EveryCall(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.worker = Worker(session=SESSION)
        cls.fresh = 0x10000
        w = cls.worker
        cls.ok("primary_retain", [NAMES["context"], 0], context=0)
        cls.ok("module_load", [NAMES["module"], 0], PTX)
        cls.ok("function_get", [NAMES["module"], NAMES["function"]], b"nothing")
        cls.ok("stream_create", [NAMES["stream"], 0, 0])
        cls.ok("event_create", [NAMES["event"], 0])
        cls.ok("pool_create", [NAMES["pool"], 0])
        cls.ok("array_create", [NAMES["array"], 16, 4, 0, 0x20, 1, 2])
        cls.ok("event_record", [NAMES["event"], NAMES["stream"], 0])
        cls.memory = struct.unpack("<Q", cls.ok("memory_alloc", [4096]).data)[0]
        assert w.process.poll() is None

    @classmethod
    def tearDownClass(cls):
        assert cls.worker.process.poll() is None, "the worker died"
        status = cls.worker.close()
        assert status == 0, status  # a sanitizer's report is another

    @classmethod
    def raw(cls, call, slots, rest=b"", flags=None, context=None):
        if context is None:
            context = 0 if call.context else NAMES["context"]
        if flags is None:
            flags = ASYNC if call.klass == "posted" else 0
        body = struct.pack("<QQ%dQ" % len(slots), SESSION, context, *slots)
        return request(call.opcode, (), body + rest, flags)

    @classmethod
    def ask(cls, name, slots, rest=b"", **more):
        """(status, answer): of a posted call the status is the deferred one, which this fetches."""
        call = by_name[name]
        answer = cls.worker.ask(cls.raw(call, slots, rest, **more))
        assert answer.error == 0, (name, slots, answer)
        if call.klass == "sync" or answer.status is not None:
            return answer.status, answer
        late = cls.worker.ask(cls.raw(by_name["context_synchronize"], []))
        return late.status, late

    @classmethod
    def ok(cls, name, slots, rest=b"", **more):
        status, answer = cls.ask(name, slots, rest, **more)
        assert status == 0, (name, slots, answer)
        return answer

    @classmethod
    def new_name(cls):
        cls.fresh += 1
        return cls.fresh

    def good(self, call, but=None):
        """Slots of a call that works, or is refused for what it means; nothing is made for slot number `but`."""
        slots = []
        for i, p in enumerate(call.inputs):
            if i == but:
                slots.append(0)
            elif p.role == "new":
                slots.append(self.new_name())
            elif p.role in ("use", "use0"):
                slots.append(NAMES[p.kind])
            elif p.role == "drop":
                slots.append(self.victim(p.kind))
            elif p.role in ("reads", "writes"):
                slots.append(0)
            elif p.name in ADDRESSES:
                slots.append(self.memory if p.name != "source" else self.memory + 1024)
            else:
                slots.append(GOOD.get(call.name, {}).get(p.name, 0))
        return slots

    def victim(self, kind):
        """A thing that may be dropped."""
        name = self.new_name()
        makers = {"context": ("context_create", [name, 0], b""), "module": ("module_load", [name, 0], PTX),
                  "stream": ("stream_create", [name, 0, 0], b""), "event": ("event_create", [name, 0], b""),
                  "pool": ("pool_create", [name, 0], b""),
                  "array": ("array_create", [name, 4, 0, 0, 0x20, 1, 0], b"")}
        maker, slots, rest = makers[kind]
        self.ok(maker, slots, rest)
        return name

    def drop(self, call, slots):
        """What the call made goes again."""
        for p, value in zip(call.inputs, slots):
            if p.role == "new" and p.kind != "function":
                dropper = {"module": "module_unload"}.get(p.kind, p.kind + "_destroy")
                self.ask(dropper, [value])

    def rest(self, call):
        if call.name == "launch":
            return bytes(8)
        if call.name in ("module_load",):
            return PTX
        if not call.payload:
            return b""
        return {"function_get": b"nothing", "module_global": b"table"}.get(call.name, b"12345678")

    def each(self, *roles):
        for call in with_calls:
            for i, p in enumerate(call.inputs):
                if p.role in roles:
                    yield call, i, p

    def test_p28_each_call_as_it_should_be(self):
        for call in with_calls:
            with self.subTest(call=call.name):
                slots = self.good(call)
                if call.name == "memory_free":
                    slots = [struct.unpack("<Q", self.ok("memory_alloc", [64]).data)[0]]
                if call.name == "memory_free_async":
                    slots = [struct.unpack("<Q", self.ok("memory_alloc", [64]).data)[0], 0]
                if call.name in OBJECTS:
                    maker = by_name[OBJECTS[call.name]]
                    slots = [struct.unpack("<Q", self.ok(maker.name, self.good(maker)).data)[0]]
                status, answer = self.ask(call.name, slots, self.rest(call))
                self.assertEqual(status, 0, answer)
                if call.klass == "sync":
                    self.assertGreaterEqual(len(answer.data), 8 * len(call.outputs))
                    if not call.fill:
                        self.assertEqual(len(answer.data), 8 * len(call.outputs))
                    self.assertEqual(answer.results, ())
                self.drop(call, slots)

    def test_p28_slots_outside_their_type(self):
        for call, i, p in self.each("in"):
            for value in out_of_range(p.ctype):
                with self.subTest(call=call.name, slot=p.name, value=hex(value)):
                    slots = self.good(call, but=i)
                    slots[i] = value
                    status, answer = self.ask(call.name, slots, self.rest(call))
                    self.assertEqual(status, INVALID_VALUE, answer)
                    self.drop(call, slots)

    def test_slots_at_the_ends_of_their_type(self):
        """Any answer will do that is one, and the worker lives."""
        for call, i, p in self.each("in"):
            for value in extremes(p.ctype):
                with self.subTest(call=call.name, slot=p.name, value=hex(value)):
                    slots = self.good(call, but=i)
                    slots[i] = value
                    status, answer = self.ask(call.name, slots, self.rest(call))
                    self.assertIn(status, (0, INVALID_VALUE, OUT_OF_MEMORY, INVALID_HANDLE, NOT_SUPPORTED), answer)
                    self.drop(call, slots)
        self.assertIsNone(self.worker.process.poll())

    def test_p29_handles_that_name_nothing(self):
        for call, i, p in self.each("use", "use0", "drop"):
            wrong = INVALID_CONTEXT if p.kind == "context" else INVALID_HANDLE
            forged = [NAMES[k] for k in NAMES if k != p.kind and NAMES[k]] + [1, MASK, 1 << 63, 0xDEADBEEF]
            if p.role != "use0":
                forged.append(0)
            for value in forged:
                with self.subTest(call=call.name, slot=p.name, value=hex(value)):
                    slots = self.good(call, but=i)
                    slots[i] = value
                    status, answer = self.ask(call.name, slots, self.rest(call))
                    self.assertEqual(status, wrong, answer)
                    self.drop(call, slots)

    def test_p29_names_that_were_dropped(self):
        for kind in ("module", "stream", "event", "pool", "array"):
            name = self.victim(kind)
            dropper = "module_unload" if kind == "module" else kind + "_destroy"
            self.ok(dropper, [name])
            self.assertEqual(self.ask(dropper, [name])[0], INVALID_HANDLE)
        name = self.victim("context")
        self.ok("context_destroy", [name])
        self.assertEqual(self.ask("context_destroy", [name])[0], INVALID_CONTEXT)
        self.assertEqual(self.ask("stream_create", [self.new_name(), 0, 0], context=name)[0], INVALID_CONTEXT)

    def test_p29_new_names(self):
        for call, i, p in self.each("new"):
            for value in (0, NAMES[p.kind] or None):
                if value is None:
                    continue
                with self.subTest(call=call.name, value=hex(value)):
                    slots = self.good(call, but=i)
                    slots[i] = value
                    status, answer = self.ask(call.name, slots, self.rest(call))
                    self.assertEqual(status, INVALID_VALUE, answer)
        # A call that fails leaves the name free, and the largest name is one.
        self.assertEqual(self.ask("event_create", [MASK, 0xFFFF])[0], INVALID_VALUE)
        self.ok("event_create", [MASK, 0])
        self.ok("event_destroy", [MASK])

    def test_p29_the_context(self):
        for call in with_calls:
            with self.subTest(call=call.name):
                slots = [1] * len(call.inputs)
                if call.fill and not call.fill.size.isdigit():
                    slots[[p.name for p in call.inputs].index(call.fill.size)] = 8
                for p, i in ((p, i) for i, p in enumerate(call.inputs) if p.role == "stage"):
                    slots[i] = 0
                rest = self.rest(call)
                self.assertEqual(self.ask(call.name, slots, rest, context=0xBAD)[0], INVALID_CONTEXT)
                if not call.context:
                    self.assertEqual(self.ask(call.name, slots, rest, context=0)[0], INVALID_CONTEXT)

    def test_p28_data_of_the_wrong_length(self):
        for call in with_calls:
            slots, rest = [0] * len(call.inputs), self.rest(call)
            flags = ASYNC if call.klass == "posted" else 0
            body = struct.pack("<QQ%dQ" % len(slots), SESSION, NAMES["context"], *slots)
            short = [body[:n] for n in (0, 7, 8, 15, len(body) - 8, len(body) - 1) if n < len(body)]
            wrong = short + ([] if call.payload else [body + b"x", body + bytes(512)])
            if call.payload and call.payload.role == "text":
                wrong += [body, body + b"x" * 513, body + b"a\0b", body + b"\0"]
            for data in wrong:
                with self.subTest(call=call.name, length=len(data)):
                    self.assertEqual(self.worker.ask(request(call.opcode, (), data, flags)).error, 1)
            if call.payload and call.payload.role == "text":
                self.assertEqual(self.worker.ask(request(call.opcode, (), body + b"x" * 512, flags)).error, 0)
            self.assertEqual(self.worker.ask(request(call.opcode, (0,), body + rest, flags)).error, 1)
            self.assertEqual(self.worker.ask(request(call.opcode, (), body + rest, flags | 4)).error, 1)

    def test_p30_async(self):
        for call in with_calls:
            slots = [0] * len(call.inputs)
            rest = self.rest(call)
            if call.klass == "sync":
                self.assertEqual(self.worker.ask(self.raw(call, slots, rest, flags=ASYNC)).error, 1, call.name)
            else:
                # The names are wrong, and it is answered all the same: without ASYNC by a response, with it by none.
                late = self.worker.ask(self.raw(call, slots, rest, flags=0))
                self.assertEqual((late.error, late.status, late.data), (0, 0, b""), call.name)
                early = self.worker.ask(self.raw(call, slots, rest, flags=ASYNC))
                self.assertEqual((early.error, early.raw), (0, b""), call.name)
        self.worker.ask(self.raw(by_name["context_synchronize"], []))

    def test_p31_stages(self):
        for call, i, p in self.each("stage"):
            slots = self.good(call, but=i)
            slots[i] = 9
            self.assertEqual(self.worker.ask(self.raw(call, slots, b"x")).error, 1, call.name)  # both
            self.assertEqual(self.ask(call.name, slots)[0], INVALID_HANDLE, call.name)  # not there
            slots[i] = (1 << 32) + 9
            self.assertEqual(self.ask(call.name, slots)[0], INVALID_VALUE, call.name)
            slots[i] = 9
            self.worker.stage(9, self.rest(call))
            self.assertEqual(self.ask(call.name, slots)[0], 0, call.name)
            self.drop(call, slots)
            self.assertEqual(self.ask(call.name, slots)[0], INVALID_HANDLE, call.name)  # used up

    def test_g13_the_window_of_a_session_without_a_channel(self):
        """Whatever the offset: 0 bytes are none, any other number is refused before the driver hears of it."""
        seen = set()
        for call, i, p in self.each("reads", "writes"):
            size = [q.name for q in call.inputs].index(p.size)
            for offset in (0, 1, 0x20000, 1 << 63, MASK):
                for length, want in ((0, 0), (1, INVALID_VALUE), (8, INVALID_VALUE), (1 << 63, INVALID_VALUE),
                                     (MASK, INVALID_VALUE)):
                    with self.subTest(call=call.name, offset=hex(offset), length=hex(length)):
                        slots = self.good(call)
                        slots[i], slots[size] = offset, length
                        status, answer = self.ask(call.name, slots)
                        self.assertEqual(status, want, answer)
            seen.add(call.name)
        self.assertLessEqual({"copy_window_to_device", "copy_device_to_window"}, seen)

    def test_p28_fill_as_the_request_says(self):
        for call in with_calls:
            if not call.fill or call.fill.size.isdigit():
                continue
            width = [i for i, p in enumerate(call.inputs) if p.name == "row_bytes"]
            i = [p.name for p in call.inputs].index(call.fill.size)
            most = description.FILL_LIMIT - 8 * len(call.outputs)
            for size, status in ((0, 0), (1, 0), (most, 0), (most + 1, INVALID_VALUE), ((1 << 32) - 1, INVALID_VALUE)):
                slots = self.good(call, but=i)
                slots[i] = size
                if width:  # elements of 4 bytes, 16 in a row
                    if size % 4 or size > 64 and not status:
                        continue
                    slots[width[0]] = size
                got, answer = self.ask(call.name, slots)
                self.assertEqual(got, status, (call.name, size, answer))
                if not status:  # no kernel has printed anything
                    fill = 0 if call.name == "printf_read" else size
                    self.assertEqual(len(answer.data), 8 * len(call.outputs) + fill)

    def test_p3_opcodes_that_are_none(self):
        known = {c.opcode for c in with_calls}
        for opcode in range(0x1000, 0x2000):
            if opcode not in known:
                self.assertEqual(self.worker.ask(request(opcode, (), struct.pack("<2Q", SESSION, 0))).error, 8)
        for call in with_calls[:3]:
            inner = self.raw(call, [0] * len(call.inputs))
            self.assertEqual(self.worker.ask(self.worker.named(0x2002, inner)).error, 1)

    def test_p15_another_session(self):
        for call in with_calls:
            body = struct.pack("<QQ%dQ" % len(call.inputs), SESSION + 1, 0, *([0] * len(call.inputs)))
            answer = self.worker.ask(request(call.opcode, (), body + self.rest(call)))
            self.assertEqual((answer.error, answer.status), (0, INVALID_CONTEXT), call.name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
