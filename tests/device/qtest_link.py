#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The link of the real QEMU: attaching, requests, loss, time-outs, hostile and absent mediators, and hot-unplug (L1 to
L13, R12, R14, R18, R19)."""

import os
import random
import struct
import time
import unittest

from vgpu_guest import (BUSY, CUDA, DONE, DOORBELL, ERROR, ERROR_CODE, GENERATION, IDLE, INTERRUPT_CTRL, LINK_STATE,
                        POOL_ID, PRIORITY, REQUEST_BUF, REQUEST_LEN, RESPONSE_LEN, STATUS, TIMEOUT,
                        UNAVAILABLE, VM_ID, Guest)
import vgpu_link
from vgpu_link import RESPONSE, UPDATE, WELCOME, pack, pack_response, pack_welcome
from vgpu_qtest import (BAR0_AT, CAP_EXPRESS, ECAM_AT, RAM_AT, QemuError, main, qemu_version, wait_for)


class Attaching(unittest.TestCase):
    def test_l3_hello_says_what_the_properties_say(self):
        with Guest('q35', 'pool_id=Q,priority=low,vm_id=77,timeout_ms=1234') as q:
            with q.mediator() as link:
                hello = link.expect_hello()
                self.assertEqual(hello, vgpu_link.Hello(3, 0x10000, 77, ord('Q'), 0, 1234, q.reg(GENERATION),
                                                        256 << 20, 16, 0x80000))
                link.expect_silence()
                self.assertEqual(q.property('link_state'), 'connected')
                link.welcome(88, 'R', 2)
                q.wait_attached()
                self.assertEqual([q.reg(r) for r in (POOL_ID, PRIORITY, VM_ID)], [ord('R'), 2, 88])
                self.assertEqual(q.property('link_state'), 'attached')

    def test_a_mediator_that_was_there_first(self):
        # Before the device is made, and with bytes in the socket that nobody has read.
        with Guest('pc', None, mapped=False) as q:
            with q.mediator() as link:
                link.expect_silence()
                q.qmp('device_add', driver='vgpu-stub', id='gpu', chardev='link', addr='4')
                q.map()
                link.attach(pool='B')
                q.wait_attached()
                q.submit(b'x')
                link.expect_request()

    def test_again_and_again(self):
        with Guest() as q:
            fds = None
            for i in range(50):
                link = q.attach(vm_id=i)
                self.assertEqual(q.reg(VM_ID), i)
                self.assertEqual(q.reg(GENERATION), q.property('resets') + i)
                link.close()
                q.wait_attached(0)
                if i == 5:
                    fds = q.open_fds()
            wait_for(lambda: q.open_fds() <= fds, 'descriptors to be closed')
            self.assertEqual(q.property('times_attached'), 50)

    def test_a_second_mediator_waits_for_its_turn(self):
        with Guest() as q:
            first = q.attach(vm_id=1)
            with q.mediator() as second:
                second.expect_silence()
                first.close()
                second.attach(vm_id=2)
                wait_for(lambda: q.reg(VM_ID) == 2, 'the second')

    def test_l6_refused(self):
        with Guest('q35', 'vm_id=3') as q:
            with q.mediator() as link:
                link.expect_hello()
                link.refuse(3, 'vm 3: is attached\n\x1b[2J twice')
                q.wait_log('vm 3: is attached??[2J twice')
                q.wait_log('reason 3')
                self.assertEqual(q.reg(LINK_STATE), 0)
                self.assertEqual(q.property('link_state'), 'refused')
                q.submit(b'x')
                self.assertEqual(q.reg(ERROR_CODE), UNAVAILABLE)
            with q.attach():
                self.assertEqual(q.property('times_refused'), 1)

    def test_l7_update(self):
        with Guest() as q, q.attach() as link:
            link.update(5, 'X', 0)
            wait_for(lambda: q.reg(POOL_ID) == ord('X'), 'the update')
            self.assertEqual([q.reg(r) for r in (PRIORITY, VM_ID)], [0, 5])


class Requests(unittest.TestCase):
    def test_every_kind_of_length(self):
        with Guest() as q, q.attach() as link:
            for length in (1, 2, 7, 8, 9, 1023, 1024):
                data = os.urandom(length)
                q.submit(data, length)
                request = link.expect_request()
                self.assertEqual((request.data, request.request_id), (data, length))
                link.respond(request.seq, data[::-1], CUDA if length == 9 else 0)
                q.wait_status(DONE, ERROR)
                self.assertEqual(q.peek(ERROR_CODE), CUDA if length == 9 else 0)
                self.assertEqual(q.response(), data[::-1])
                self.assertEqual(q.reg(STATUS), IDLE)

    def test_an_answer_without_bytes(self):
        with Guest() as q, q.attach() as link:
            q.submit(b'x')
            link.respond(link.expect_request().seq)
            q.wait_status(DONE)
            self.assertEqual(q.reg(RESPONSE_LEN), 0)
            self.assertEqual(q.reg(STATUS), IDLE)

    def test_an_answer_in_single_bytes(self):
        with Guest() as q, q.attach() as link:
            q.submit(b'x')
            for byte in pack(RESPONSE, pack_response(b'answer'), link.expect_request().seq):
                link.send_raw(bytes([byte]))
                self.assertEqual(q.reg(LINK_STATE), 1)
            q.wait_status(DONE)
            self.assertEqual(q.response(), b'answer')

    def test_l8_l11_numbers_and_late_answers(self):
        with Guest('q35', 'timeout_ms=100') as q, q.attach() as link:
            q.submit(b'first')
            first = link.expect_request().seq
            link.expect_cancel(first)
            q.wait_status(ERROR)
            self.assertEqual(q.peek(ERROR_CODE), TIMEOUT)
            q.reg(DOORBELL, 0)
            link.respond(first, b'late')
            link.respond(12345, b'never asked for')
            wait_for(lambda: q.property('responses_dropped') == 2, 'both to be dropped')
            self.assertEqual(q.reg(STATUS), IDLE)
            self.assertEqual(q.response(), b'')

    def test_r12_counts_although_the_machine_is_stopped(self):
        with Guest('q35', 'timeout_ms=300') as q, q.attach() as link:
            self.assertFalse(q.qmp('query-status')['running'])
            started = time.monotonic()
            q.submit(b'x')
            link.expect_cancel(link.expect_request().seq)
            self.assertGreaterEqual(time.monotonic() - started, 0.25)
            q.wait_log('did not answer request 1 within 300 ms')


class Loss(unittest.TestCase):
    def test_r14_in_each_state(self):
        for state in (IDLE, BUSY, DONE, ERROR):
            with self.subTest(state=state), Guest('q35', 'pool_id=D,vm_id=4,priority=0') as q:
                link = q.attach(pool='E', vm_id=5, priority=1)
                q.reach(link, state)
                generation = q.reg(GENERATION)
                q.enable_msix()
                q.write(RAM_AT, 0)
                q.reg(INTERRUPT_CTRL, 1)
                link.close()
                q.wait_attached(0)
                self.assertEqual(q.reg(GENERATION), generation + 1)
                self.assertEqual([q.reg(r) for r in (POOL_ID, PRIORITY, VM_ID)], [ord('D'), 0, 4])
                self.assertEqual(q.status(), ERROR if state == BUSY else state)
                if state == BUSY:
                    self.assertEqual(q.reg(ERROR_CODE), UNAVAILABLE)
                self.assertEqual(q.read(RAM_AT) != 0, state == BUSY)
                q.submit(b'x')
                self.assertEqual((q.reg(STATUS), q.reg(ERROR_CODE)), (ERROR, UNAVAILABLE))
                with q.attach() as again:
                    q.submit(b'y')
                    again.respond(again.expect_request().seq, b'z')
                    q.wait_status(DONE)

    def test_lost_between_doorbells(self):
        # The mediator goes while the guest goes on ringing: whatever comes first, no request is stuck.
        with Guest() as q:
            for _ in range(20):
                link = q.attach()
                for _ in range(3):
                    q.submit(b'x')
                    q.reg(DOORBELL, 1)
                link.close()
                q.submit(b'y')
                q.wait_status(ERROR)
                self.assertEqual(q.peek(ERROR_CODE), UNAVAILABLE)
                q.wait_attached(0)


class Hostile(unittest.TestCase):
    """L1 against QEMU itself: every one of these ends the connection and nothing else."""

    def good(self, q):
        with q.attach() as link:
            q.submit(b'still')
            link.respond(link.expect_request().seq, b'alive')
            q.wait_status(DONE)
            self.assertEqual(q.response(), b'alive')
            generation = q.reg(GENERATION)
        wait_for(lambda: q.reg(GENERATION) == generation + 1, 'the end')

    def twins(self, seq):
        """(attached, bytes): both sorts of state, every rule of the header and of each message."""
        good = pack_welcome(pool='B')
        answer = pack_response(b'1234')
        yield from ((False, data) for data in (
            pack(WELCOME, good, magic=0), pack(0, good), pack(99, good), pack(WELCOME, good, fd_count=1),
            pack(WELCOME, good, reserved=1), pack(WELCOME, good, seq=1), pack(WELCOME, good[:-1]),
            pack(WELCOME, good + b'\0'), pack(WELCOME, pack_welcome(pool='a')), pack(WELCOME, pack_welcome(priority=3)),
            pack(WELCOME, pack_welcome(features=0)), pack(WELCOME, pack_welcome(reserved=1)), pack(UPDATE, good),
            pack(RESPONSE, answer, seq=1), pack(vgpu_link.HELLO, bytes(64)), pack(vgpu_link.RESET, bytes(8)),
            pack(vgpu_link.CANCEL, seq=1), pack(vgpu_link.REFUSE, vgpu_link.pack_refuse(1, 'abc', 2)),
            pack(vgpu_link.REFUSE, vgpu_link.pack_refuse(1, 'x' * 513)),
            pack(vgpu_link.REFUSE, vgpu_link.pack_refuse(1, 'x')) + b'more', pack(WELCOME, length=0xFFFFFFFF)))
        yield from ((True, data) for data in (
            pack(WELCOME, good), pack(vgpu_link.REFUSE, vgpu_link.pack_refuse(1)), pack(UPDATE, good, seq=1),
            pack(UPDATE, pack_welcome(pool='[')), pack(RESPONSE, pack_response(b'1234', length=5), seq),
            pack(RESPONSE, pack_response(b'1234', length=3), seq), pack(RESPONSE, pack_response(b'x' * 1025), seq),
            pack(RESPONSE, answer[:7], seq), pack(RESPONSE, b'', seq), pack(RESPONSE, answer, seq, length=0xFFFFFFE8),
            pack(RESPONSE, pack_response(length=0xFFFFFFF8), seq), pack(RESPONSE, answer, seq, fd_count=16),
            pack(vgpu_link.REQUEST, struct.pack('<II', 1, 1) + b'x', 1), b'\xff' * 24, os.urandom(65536)))

    def test_l1_malformed_twins(self):
        with Guest() as q:
            self.good(q)
            fds = q.open_fds()
            count = 0
            for attached, data in list(self.twins(0)):
                link = q.mediator()
                if attached:
                    link.attach()
                    q.wait_attached()
                    q.submit(b'in flight')
                    seq = link.expect_request().seq
                    data = data[:16] + struct.pack('<Q', seq) + data[24:] if data[4:6] == b'\5\0' else data
                else:
                    link.expect_hello()
                count += 1
                try:
                    link.send_raw(data)
                except vgpu_link.Closed:
                    pass
                self.assertEqual(link.drain_until_closed(), [])
                link.close()
                wait_for(lambda: q.property('violations') == count, 'violation %d, %r' % (count, data[:48]))
                q.wait_attached(0)
                if attached:
                    q.wait_status(ERROR)
                    self.assertEqual(q.reg(ERROR_CODE), UNAVAILABLE)
            self.good(q)
            wait_for(lambda: q.open_fds() <= fds, 'descriptors to be closed')
            self.assertIn('closing the link', q.log())

    def test_l1_descriptors(self):
        with Guest() as q:
            self.good(q)
            fds = q.open_fds()
            for count, attached, data in ((1, False, pack(WELCOME, pack_welcome())),
                                          (16, False, pack(WELCOME, pack_welcome(), fd_count=16)),
                                          (1, True, pack(UPDATE, pack_welcome())), (16, True, b'V'),
                                          (40, True, b'VLNK'),
                                          (3, True, pack(UPDATE, pack_welcome()) * 50)):
                link = q.attach() if attached else q.mediator()
                if not attached:
                    link.expect_hello()
                pipes = [os.pipe() for _ in range(count)]
                try:
                    link.send_raw(data, [p[1] for p in pipes])
                except vgpu_link.Closed:
                    pass
                link.expect_closed()
                link.close()
                for _, end in pipes:
                    os.close(end)
                for end, _ in pipes:
                    self.assertEqual(os.read(end, 1), b'', 'QEMU has closed its end of every pipe')
                    os.close(end)
                q.wait_attached(0)
            self.assertEqual(q.property('violations'), 6)
            self.good(q)
            wait_for(lambda: q.open_fds() <= fds, 'descriptors to be closed')

    def test_random_bytes(self):
        seed = int(os.environ.get('VGPU_FUZZ_SEED', random.randrange(1 << 32)))
        chance = random.Random(seed)
        with Guest() as q:
            for _ in range(40):
                link = q.mediator()
                link.expect_hello()
                data = bytearray(pack(WELCOME, pack_welcome(pool='B')) + pack(UPDATE, pack_welcome(pool='C')) * 3 +
                                 pack(RESPONSE, pack_response(b'x' * chance.randrange(100)), 1) * 3)
                for _ in range(chance.randrange(6)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                cut = chance.randrange(len(data) + 1)
                try:
                    link.send_raw(bytes(data[:cut]))
                    link.send_raw(bytes(data[cut:]))
                except vgpu_link.Closed:
                    pass
                link.close()
                q.submit(b'x')
                q.reg(DOORBELL, 0)
                wait_for(lambda: q.property('link_state') == 'down', 'the end (seed %d)' % seed)
                self.assertNotEqual(q.status(), BUSY, 'seed %d' % seed)
            self.good(q)


class Absent(unittest.TestCase):
    """L2 and R18: a mediator that does nothing, a guest that does everything."""

    def test_r18_a_flood_of_doorbells(self):
        with Guest() as q, q.attach() as link:
            q.submit(b'x')
            request = link.expect_request()
            for _ in range(20):
                q.post(['writel 0x%x 1' % (BAR0_AT + DOORBELL)] * 500)
                q.qmp('query-status')
            self.assertEqual(q.property('doorbells_ignored'), 10000)
            link.expect_silence()
            link.respond(request.seq, b'y')
            q.wait_status(DONE)
            # Without a request in the way each is a request of its own: 5000 that fail at once.
            q.reg(REQUEST_LEN, 5000)
            for _ in range(10):
                q.post(['writel 0x%x 1' % (BAR0_AT + DOORBELL)] * 500)
                q.qmp('query-status')
            self.assertEqual(q.property('errors'), 5000)

    def test_l2_a_mediator_that_never_reads(self):
        with Guest('q35') as q, q.attach() as link:
            # Each round abandons a request and sends another; the socket is full after a few hundred.
            for i in range(600):
                q.reg(REQUEST_LEN, 1024)
                q.reg(REQUEST_BUF, i)
                q.reg(DOORBELL, 1)
                self.assertEqual(q.reg(STATUS), BUSY)
                q.function_level_reset()
                q.map()
            q.qmp('query-status')
            q.submit(b'the last one')
            self.assertEqual(q.reg(STATUS), BUSY)
            seen = 0
            while True:  # the stream is whole, and what nobody waited for was left out
                message = link.receive()
                if message.type == vgpu_link.REQUEST:
                    seen += 1
                    if message.payload[8:] == b'the last one':
                        break
            self.assertLess(seen, 601)
            link.respond(message.seq, b'at last')
            q.wait_status(DONE)
            self.assertEqual(q.response(), b'at last')

    def test_r12_while_the_socket_is_full(self):
        with Guest('q35', 'timeout_ms=100') as q, q.attach() as link:
            for i in range(600):
                q.reg(REQUEST_LEN, 1024)
                q.reg(DOORBELL, 1)
                q.function_level_reset()
                q.map()
            for _ in range(3):
                q.submit(b'nobody reads this')
                q.wait_status(ERROR)
                self.assertEqual(q.reg(ERROR_CODE), TIMEOUT)
            link.close()
            q.wait_attached(0)
            with q.attach() as again:
                q.submit(b'x')
                again.expect_request()


class Unplug(unittest.TestCase):
    """R19: in every state, by the ways of both buses. What is left is a QEMU that takes the device again."""

    PORT = ['-device', 'pcie-root-port,id=rp,addr=05.0']
    BEHIND = dict(slot=0, bus=1)

    def check_gone(self, q, link):
        if link:
            link.drain_until_closed()
            link.close()
        q.wait_event('DEVICE_DELETED')
        with self.assertRaises(QemuError):
            q.property('requests')

    def eject(self, q):
        """The ACPI way: the guest writes the slot's bit into the eject register of bus selector 0."""
        q.qmp('device_del', id='gpu')
        q.ask('outl 0xae10 0')
        q.ask('outl 0xae08 0x%x' % (1 << q.slot))

    def test_r19_conventional_in_each_state(self):
        for state in (IDLE, BUSY, DONE, ERROR, 'refused', 'hello', 'no mediator'):
            with self.subTest(state=state), Guest('pc') as q:
                link = None
                if state == 'refused':
                    link = q.mediator()
                    link.expect_hello()
                    link.refuse(1, 'no')
                    wait_for(lambda: q.property('link_state') == 'refused', 'the refusal')
                elif state == 'hello':
                    link = q.mediator()
                    link.expect_hello()
                elif state != 'no mediator':
                    link = q.attach()
                    q.reach(link, state)
                self.eject(q)
                self.check_gone(q, link)
                q.qmp('device_add', driver='vgpu-stub', id='gpu', chardev='link', addr='4')
                q.map()
                with q.attach() as again:
                    q.submit(b'x')
                    self.assertEqual(again.expect_request().seq, 1)

    def native(self, device=''):
        """A q35 whose root port handles hot-unplug itself, as PCI Express has it."""
        args = list(self.PORT)
        if qemu_version() >= (6, 1):
            args = ['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'] + args
        q = Guest('q35', device, bus='rp', args=args, mapped=False)
        q.config_write(0x18, 0x010100, slot=5)
        q.config_write(0x20, 0xE010E000, slot=5)  # memory window: E0000000 to E01FFFFF
        q.config_write(0x04, 0x6, 2, slot=5)
        q.map(**self.BEHIND)
        q.slot_control = q.capability(CAP_EXPRESS, slot=5) + 0x18
        q.config_write(q.slot_control, 0x0100, 2, slot=5)  # powered, indicator on
        return q

    def test_r19_express_in_each_state(self):
        for state in (IDLE, BUSY, DONE, ERROR):
            with self.subTest(state=state), self.native() as q:
                link = q.attach()
                q.reach(link, state)
                q.qmp('device_del', id='gpu')
                q.config_write(q.slot_control, 0x0700, 2, slot=5)  # power off, indicator off
                self.check_gone(q, link)

    def test_an_interrupt_aimed_at_the_ejection(self):
        # The guest unplugs the device from inside the device's own interrupt, in each way a completion comes about.
        for way in ('answer', 'time-out', 'loss', 'doorbell'):
            with self.subTest(way=way), self.native('timeout_ms=200') as q:
                link = q.attach()
                q.enable_ecam()
                q.enable_msix(address=ECAM_AT + (5 << 15) + q.slot_control, data=0x0700, **self.BEHIND)
                q.reg(INTERRUPT_CTRL, 1)
                if way == 'doorbell':
                    q.reg(DOORBELL, 1)
                else:
                    q.submit(b'x')
                    seq = link.expect_request().seq
                    if way == 'answer':
                        link.send_raw(pack(RESPONSE, pack_response(b'y'), seq) * 3)
                    elif way == 'loss':
                        link.close()
                        link = None
                self.check_gone(q, link)
                q.qmp('query-status')

    def test_unplugged_with_bytes_on_their_way(self):
        with Guest('pc') as q:
            link = q.attach()
            for _ in range(5):
                q.submit(b'x')
                request = link.expect_request()
                link.respond(request.seq, b'y')
                q.wait_status(DONE)
            q.submit(b'z')
            link.send_raw(pack(UPDATE, pack_welcome(pool='Y')) * 500)
            self.eject(q)
            self.check_gone(q, link)

    def test_quit_while_busy(self):
        with Guest() as q:
            link = q.attach()
            q.reach(link, BUSY)
            q.qmp('quit')
            self.assertEqual(q.process.wait(60), 0)
            link.drain_until_closed()
            link.close()


if __name__ == '__main__':
    main()
