#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The device in the real QEMU: what it is on the bus, its registers through the memory core, properties, interrupts,
reset, and that it cannot be migrated (R1 to R5, R8, R11, R13, R15 to R17, R19)."""

import os
import struct
import subprocess
import tempfile
import time
import unittest

from vgpu_guest import (BUSY, CAPABILITIES, DONE, DOORBELL, ERROR, ERROR_CODE, GENERATION, IDLE, INTERRUPT_CTRL,
                        INTERRUPT_STATUS, INVALID_LENGTH, LINK_STATE, POOL_ID, PRIORITY, PROTOCOL_VER, REQUEST_BUF,
                        REQUEST_ID, REQUEST_LEN, RESPONSE_BUF, RESPONSE_LEN, SCRATCH, STATUS, TIMESTAMP_HI,
                        TIMESTAMP_LO, UNAVAILABLE, VM_ID, Guest, ctrl)
from vgpu_link import FATAL, FREE
from vgpu_qtest import (BAR0_AT, BAR4_AT, CAP_EXPRESS, CAP_MSIX, ECAM_AT, RAM_AT, Qemu, QemuError, le, main, wait_for)


class Identity(unittest.TestCase):
    """R1, on a PCI Express and on a conventional bus."""

    def check(self, machine, express, options='', window=256 << 20, vectors=17):
        with Guest(machine, options, mapped=False) as q:
            self.assertEqual(q.config_read(0x00), 0x11111AF4)
            self.assertEqual(q.config_read(0x08, 1), 0x02)
            self.assertEqual(q.config_read(0x08) >> 8, 0x120000)
            self.assertEqual(q.config_read(0x3D, 1), 0, 'no INTx pin')
            for bar, size in ((0, 0x1000), (1, 0), (4, 0x1000), (5, 0)) + (() if window else ((2, 0), (3, 0))):
                at = 0x10 + 4 * bar
                self.assertEqual(q.config_read(at) & 0xF, 0, '32-bit, memory, not prefetchable')
                q.config_write(at, 0xFFFFFFFF)
                found = q.config_read(at)
                self.assertEqual(-found & 0xFFFFFFFF if found else 0, size, 'size of BAR%d' % bar)
            if window:
                self.assertEqual(q.config_read(0x18) & 0xF, 0xC, '64-bit, memory, prefetchable')
                q.config_write(0x18, 0xFFFFFFFF)
                q.config_write(0x1C, 0xFFFFFFFF)
                found = q.config_read(0x18) & ~0xF | q.config_read(0x1C) << 32
                self.assertEqual(-found & (1 << 64) - 1, window, 'size of BAR2')
            msix = q.capability(CAP_MSIX)
            self.assertNotEqual(msix, 0)
            self.assertEqual(q.config_read(msix + 2, 2) & 0x7FF, vectors - 1, 'vectors')
            self.assertEqual(q.config_read(msix + 4) & 7, 4, 'table in BAR4')
            self.assertEqual(q.config_read(msix + 8) & 7, 4, 'pending bits in BAR4')
            pcie = q.capability(CAP_EXPRESS)
            if express:
                self.assertNotEqual(pcie, 0)
                self.assertTrue(q.config_read(pcie + 4) & 1 << 28, 'function-level reset')
            else:
                self.assertEqual(pcie, 0)

    def test_r1_express(self):
        self.check('q35', True)

    def test_r1_conventional(self):
        self.check('pc', False)

    def test_r1_windows(self):
        self.check('q35', True, 'window=0', 0, 1)
        self.check('pc', False, 'window=0,channels=99', 0, 1)
        self.check('q35', True, 'window=1M,channels=1', 1 << 20, 2)
        self.check('pc', False, 'window=64M,channels=64', 64 << 20, 65)

    def test_r1_endpoint_behind_a_root_port(self):
        with Guest('q35', bus='rp', args=['-device', 'pcie-root-port,id=rp,addr=05.0'], mapped=False) as q:
            q.config_write(0x18, 0x010100, slot=5)
            where = dict(slot=0, bus=1)
            self.assertEqual(q.config_read(0, **where), 0x11111AF4)
            pcie = q.capability(CAP_EXPRESS, **where)
            self.assertEqual(q.config_read(pcie + 2, 2, **where) >> 4 & 0xF, 0, 'an endpoint')

    def test_r1_ids_from_properties(self):
        with Guest('q35', 'vendor_id=0x1234,device_id=0xabcd', mapped=False) as q:
            self.assertEqual(q.config_read(0x00), 0xABCD1234)

    def test_capabilities_without_msix(self):
        # A processor without an APIC: this machine cannot carry message-signalled interrupts.
        with Guest('pc', args=['-cpu', 'qemu64,-apic']) as q:
            self.assertEqual(q.capability(CAP_MSIX), 0)
            self.assertEqual(q.reg(CAPABILITIES), 0x101)
            q.reg(INTERRUPT_CTRL, 1)
            q.reg(DOORBELL, 1)
            self.assertEqual(q.reg(STATUS), ERROR)
            self.assertEqual(q.reg(INTERRUPT_STATUS), 1)


class Properties(unittest.TestCase):
    """Which values are taken, and what is said of the others."""

    def test_defaults(self):
        with Guest() as q:
            self.assertEqual([q.reg(r) for r in (POOL_ID, PRIORITY, VM_ID, PROTOCOL_VER, CAPABILITIES, LINK_STATE)],
                             [ord('A'), 1, 0, 0x10000, 0x103, 0])

    def test_values(self):
        for text, value in (('low', 0), ('medium', 1), ('high', 2), ('0', 0), ('1', 1), ('2', 2)):
            with Guest('q35', 'pool_id=Z,priority=%s,vm_id=4294967295,timeout_ms=3600000' % text) as q:
                self.assertEqual([q.reg(r) for r in (POOL_ID, PRIORITY, VM_ID)], [ord('Z'), value, 0xFFFFFFFF])

    def test_out_of_range_is_refused_with_a_sentence(self):
        for option, word in (('pool_id=AB', 'A to Z'), ('pool_id=a', 'A to Z'), ('pool_id=', 'A to Z'),
                             ('priority=3', 'low, medium, high'), ('priority=HIGH', 'low, medium, high'),
                             ('priority=', 'low, medium, high'), ('timeout_ms=99', '100'),
                             ('timeout_ms=3600001', '3600000'), ('vendor_id=0xffff', '0xfffe'),
                             ('vendor_id=0', '0xfffe'), ('vm_id=-1', 'vm_id'), ('vm_id=4294967296', 'vm_id'),
                             ('requests=1', 'requests'), ('channels=0', '1 to 64'), ('channels=65', '1 to 64'),
                             ('window=3M', 'power of two'), ('window=512K', 'power of two'), ('window=2T', '1 TiB'),
                             ('window=8M', '16 of 512 KiB'), ('window=32M,channels=64', '64 of 512 KiB')):
            with self.subTest(option=option):
                with self.assertRaises(QemuError) as caught:
                    Qemu('q35', option).close()
                self.assertIn(word, str(caught.exception))
                self.assertTrue(str(caught.exception).startswith('exit status 1: '), caught.exception)

    def test_refused_at_hot_plug_leaves_qemu_as_it_was(self):
        with Qemu('pc', None) as q:
            for _ in range(3):
                with self.assertRaises(QemuError):
                    q.qmp('device_add', driver='vgpu-stub', id='gpu', pool_id='?', chardev='link')
            q.qmp('device_add', driver='vgpu-stub', id='gpu', pool_id='B', chardev='link', addr='4')
            q.map()
            self.assertEqual(q.read(BAR0_AT + POOL_ID), ord('B'))

    def test_without_a_chardev(self):
        with Guest(chardev=False) as q:
            self.assertEqual(q.reg(LINK_STATE), 0)
            q.submit(b'x')
            self.assertEqual((q.reg(STATUS), q.reg(ERROR_CODE)), (ERROR, UNAVAILABLE))
            q.qmp('system_reset')
            q.wait_event('RESET')
            q.map()
            self.assertEqual(q.reg(STATUS), IDLE)


class Accesses(unittest.TestCase):
    """R2 to R5 through QEMU's memory core, which could split or refuse accesses on its way."""

    def test_r3_every_size_and_alignment_in_the_request_buffer(self):
        with Guest() as q:
            mirror = bytearray(1024)
            for size in (1, 2, 4, 8):
                for at in list(range(0, 24)) + list(range(1024 - 16, 1024 - size + 1)):
                    value = le(os.urandom(size))
                    q.reg(REQUEST_BUF + at, value, size)
                    mirror[at:at + size] = value.to_bytes(size, 'little')
            for size in (1, 2, 4, 8):
                for at in list(range(0, 32)) + list(range(1024 - 24, 1024 - size + 1)):
                    self.assertEqual(q.reg(REQUEST_BUF + at, size=size), le(mirror[at:at + size]))
            self.assertEqual(q.property('guest_errors'), 0)

    def test_r4_part_of_a_word(self):
        with Guest() as q:
            q.reg(SCRATCH, 0x11223344)
            for shift in range(4):
                self.assertEqual(q.reg(SCRATCH + shift, size=1), 0x44 - 0x11 * shift)
                q.reg(SCRATCH + shift, 0xFF, 1)
            q.reg(SCRATCH + 1, 0xFFFF, 2)
            self.assertEqual(q.reg(SCRATCH), 0x11223344)
            q.reg(REQUEST_LEN, 0)
            q.reg(DOORBELL, 1, 1)
            q.reg(DOORBELL, 1, 2)
            self.assertEqual(q.reg(STATUS), IDLE)
            # 8 bytes from 0x02E cover REQUEST_ID, and half of the two words beside it.
            q.reg(0x02E, 0xFFFF_89ABCDEF_FFFF, 8)
            self.assertEqual(q.reg(REQUEST_ID), 0x89ABCDEF)
            self.assertEqual(q.reg(INTERRUPT_STATUS), 0)
            self.assertEqual(q.reg(0x02E, size=8), 0x00000000_89ABCDEF_0000)

    def test_r2_eight_bytes_are_two_registers(self):
        with Guest() as q:
            q.reg(SCRATCH, 0x5566778811223344, 8)
            self.assertEqual(q.reg(SCRATCH), 0x11223344)
            self.assertEqual(q.reg(REQUEST_BUF), 0x55667788)
            q.reg(DOORBELL, 1, 8)  # DOORBELL and STATUS
            self.assertEqual(q.reg(ERROR_CODE), INVALID_LENGTH)
            stamp = q.reg(TIMESTAMP_LO, size=8)
            self.assertEqual(stamp, q.reg(TIMESTAMP_HI) << 32 | q.reg(TIMESTAMP_LO))

    def test_r5_read_only_and_reserved(self):
        with Guest() as q:
            before = [q.peek(at) for at in range(0, 0x40, 4)] + [q.peek(at) for at in range(0x840, 0x870, 4)]
            for at in [STATUS, POOL_ID, PRIORITY, VM_ID, ERROR_CODE, RESPONSE_LEN, PROTOCOL_VER, CAPABILITIES,
                       TIMESTAMP_LO, TIMESTAMP_HI, GENERATION, LINK_STATE, 0x840, 0x858, 0xFFC, RESPONSE_BUF,
                       RESPONSE_BUF + 1020]:
                q.reg(at, 0xFFFFFFFF)
                q.reg(at + 1, 0xFF, 1)
            after = [q.peek(at) for at in range(0, 0x40, 4)] + [q.peek(at) for at in range(0x840, 0x870, 4)]
            self.assertEqual(before, after)
            self.assertEqual(q.reg(RESPONSE_BUF, size=8), 0)
            self.assertEqual(q.reg(0xFF8, size=8), 0)
            self.assertEqual(q.property('guest_errors'), 34)

    def test_r5_the_log_is_limited(self):
        log = '/guest-errors'
        with Guest(args=['-d', 'guest_errors']) as q:
            started = time.monotonic()
            q.post(['writel 0x%x 1' % (BAR0_AT + STATUS)] * 3000)
            seconds = time.monotonic() - started
            lines = q.log().count('vgpu-stub (vm 0)')
            self.assertGreaterEqual(lines, 10, log)
            self.assertLessEqual(lines, 10 * (int(seconds) + 1))
            self.assertEqual(q.property('guest_errors'), 3000)


class Interrupts(unittest.TestCase):
    """R8 and R11: MSI-X, as a write to the guest's memory."""

    def test_r8_vector_0_on_completion(self):
        with Guest() as q:
            q.enable_msix(data=0x1234)
            q.write(RAM_AT, 0)
            q.reg(DOORBELL, 1)  # REQUEST_LEN 0 completes at once; no interrupt was asked for
            self.assertEqual(q.read(RAM_AT), 0)
            self.assertEqual(q.reg(INTERRUPT_STATUS), 1)
            q.reg(INTERRUPT_CTRL, 1)
            self.assertEqual(q.read(RAM_AT), 0, 'R11: none for a completion in the past')
            q.reg(DOORBELL, 1)
            self.assertEqual(q.read(RAM_AT), 0x1234)

    def test_r8_on_an_answer(self):
        with Guest() as q, q.attach() as link:
            q.enable_msix(data=0x77)
            q.write(RAM_AT, 0)
            q.reg(INTERRUPT_CTRL, 1)
            q.submit(b'question', 5)
            request = link.expect_request()
            self.assertEqual((request.data, request.request_id), (b'question', 5))
            self.assertEqual(q.read(RAM_AT), 0)
            link.respond(request.seq, b'answer')
            wait_for(lambda: q.read(RAM_AT) == 0x77, 'the interrupt')
            self.assertEqual(q.reg(STATUS), DONE)
            self.assertEqual(q.response(), b'answer')
            self.assertEqual(q.reg(STATUS), IDLE, 'R10')

    def test_a_masked_vector_stays_pending(self):
        with Guest() as q:
            q.enable_msix(data=0x55)
            q.write(RAM_AT, 0)
            q.write(BAR4_AT + 12, 1)
            q.reg(INTERRUPT_CTRL, 1)
            q.reg(DOORBELL, 1)
            self.assertEqual(q.read(RAM_AT), 0)
            self.assertEqual(q.read(BAR4_AT + 0x800) & 1, 1)
            q.write(BAR4_AT + 12, 0)
            self.assertEqual(q.read(RAM_AT), 0x55)

    def test_r18_an_interrupt_aimed_at_the_doorbell(self):
        with Guest() as q, q.attach() as link:
            q.enable_msix(address=BAR0_AT + DOORBELL, data=1)
            q.reg(INTERRUPT_CTRL, 1)
            for _ in range(100):
                q.reg(DOORBELL, 1)
            completions = q.property('completions')
            self.assertEqual(completions, 100)
            q.submit(b'x')
            link.respond(link.expect_request().seq, b'y')
            q.wait_status(DONE)
            time.sleep(0.1)
            self.assertEqual(q.property('completions'), 101)

    def test_r18_an_interrupt_aimed_at_the_reset(self):
        with Guest() as q, q.attach() as link:
            q.enable_ecam()
            devctl = q.capability(CAP_EXPRESS) + 8
            q.enable_msix(address=ECAM_AT + (q.slot << 15) + devctl, data=0x8000)
            q.reg(INTERRUPT_CTRL, 1)
            q.submit(b'x')
            generation = q.reg(GENERATION)
            link.respond(link.expect_request().seq, b'y')
            wait_for(lambda: q.property('resets') > 1 or q.property('completions') == 1, 'the completion')
            self.assertEqual(link.expect_reset(), generation + 1)
            q.map()
            self.assertEqual(q.status(), IDLE)
            q.submit(b'z')
            self.assertEqual(link.expect_request().data, b'z')


class Time(unittest.TestCase):
    def test_r13_the_hosts_monotonic_clock(self):
        with Guest() as q:
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            q.reg(DOORBELL, 1)
            after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            self.assertEqual(q.reg(TIMESTAMP_HI), 0, 'nothing latched')
            low = q.reg(TIMESTAMP_LO)
            stamp = low | q.reg(TIMESTAMP_HI) << 32
            self.assertTrue(before <= stamp <= after, (before, stamp, after))


class Reset(unittest.TestCase):
    """R15 to R17: by the machine and by function, in each state."""

    def check(self, state, how):
        with Guest() as q, q.attach(pool='C', priority=2, vm_id=33) as link:
            seq = q.reach(link, state)
            q.reg(SCRATCH, 5)
            q.reg(INTERRUPT_CTRL, 1)
            generation = q.reg(GENERATION)
            how(q)
            self.assertEqual(link.expect_reset(), generation + 1)
            q.map()
            self.assertEqual(q.reg(GENERATION), generation + 1)
            for at in (STATUS, ERROR_CODE, REQUEST_LEN, RESPONSE_LEN, INTERRUPT_CTRL, INTERRUPT_STATUS, REQUEST_ID,
                       TIMESTAMP_LO, TIMESTAMP_HI, SCRATCH, REQUEST_BUF, RESPONSE_BUF):
                self.assertEqual(q.peek(at), 0, hex(at))
            self.assertEqual([q.reg(r) for r in (POOL_ID, PRIORITY, VM_ID, LINK_STATE)], [ord('C'), 2, 33, 1])
            if seq:
                link.respond(seq, b'late')
                wait_for(lambda: q.property('responses_dropped') == 1, 'the late answer to be dropped')
            q.submit(b'again')
            request = link.expect_request()
            link.respond(request.seq, b'fine')
            q.wait_status(DONE)

    def test_r15_system_reset(self):
        def how(q):
            q.qmp('system_reset')
            q.wait_event('RESET')
        for state in (IDLE, BUSY, DONE, ERROR):
            with self.subTest(state=state):
                self.check(state, how)

    def test_r15_function_level_reset(self):
        for state in (IDLE, BUSY, DONE, ERROR):
            with self.subTest(state=state):
                self.check(state, lambda q: q.function_level_reset())

    def test_a_flood_of_resets_says_no_more_than_it_must(self):
        with Guest() as q, q.attach() as link:
            before = q.reg(GENERATION)
            for _ in range(2000):
                q.function_level_reset()
            q.map()
            self.assertEqual(q.reg(GENERATION), before + 2000)
            generation = before
            while generation < before + 2000:
                generation = link.expect_reset()
            q.submit(b'x')
            link.expect_request()


class Migration(unittest.TestCase):
    def test_r19_is_refused_with_a_reason(self):
        with Guest() as q:
            try:
                q.qmp('migrate', uri='exec:cat > /dev/null')
            except QemuError as error:
                text = str(error)
            else:
                text = ''
                wait_for(lambda: q.qmp('query-migrate').get('status') == 'failed', 'the migration to fail')
                text = str(q.qmp('query-migrate')) + q.log()
            self.assertIn('vgpu-stub', text)

    def test_r19_saving_is_refused_too(self):
        with tempfile.TemporaryDirectory() as folder:
            image = os.path.join(folder, 'disk')
            with open(image, 'wb') as out:
                out.write(empty_qcow2())
            drive = ['-drive', 'if=none,id=d,format=qcow2,file=' + image]
            with Guest(args=drive) as q:
                said = q.qmp('human-monitor-command', **{'command-line': 'savevm x'})
                self.assertIn('vgpu-stub', said)
            with Guest(device=None, args=drive, mapped=False) as q:  # it is the device that is in the way
                self.assertEqual(q.qmp('human-monitor-command', **{'command-line': 'savevm x'}), '')


def empty_qcow2():
    """A disk image of 1 MiB that a snapshot fits into: header, refcount table, refcount block, L1 table."""
    cluster = 65536
    header = struct.pack('>4sIQIIQIIQQIIQ', b'QFI\xfb', 2, 0, 0, 16, 1 << 20, 0, 1, 3 * cluster, cluster, 1, 0, 0)
    return b''.join(part.ljust(cluster, b'\0') for part in (
        header, struct.pack('>Q', 2 * cluster), struct.pack('>4H', 1, 1, 1, 1), b''))


class Traces(unittest.TestCase):
    def test_each_trace_event(self):
        with Guest('q35', 'timeout_ms=100', args=['-trace', 'vgpu_stub_*', '-d', 'guest_errors']) as q:
            link = q.attach()
            q.reg(STATUS, 1)
            q.submit(b'a')
            link.respond(link.expect_request().seq, b'b')
            q.wait_status(DONE)
            q.submit(b'c')
            seq = link.expect_request().seq
            link.expect_cancel(seq)
            link.respond(seq)
            link.update(pool='B')
            wait_for(lambda: q.reg(POOL_ID) == ord('B'), 'the update')
            q.function_level_reset()
            link.expect_reset()
            link.close()
            q.map()
            q.wait_attached(0)
            with q.attach_channels() as other:
                q.activate(other, 2)
                other.state(2, FATAL, 1)
                q.wait_channel(2, 1, FATAL, 1)
                q.reg(ctrl(2), 0)
                other.expect_channel_reset(2)
                other.state(2, FREE)
                q.wait_channel(2, 1, FREE, 0)
            with q.mediator() as other:
                other.expect_hello()
                other.refuse(2, 'no such pool')
            with q.mediator() as third:
                third.expect_hello()
                third.send_raw(b'\0' * 24)
                third.expect_closed()
            for event in ('doorbell', 'completion', 'timeout', 'response_dropped', 'guest_error', 'reset', 'link_open',
                          'link_attached', 'link_updated', 'link_refused', 'link_violation', 'link_close',
                          'window_open', 'window_close', 'channel_active', 'channel_fatal', 'channel_free'):
                q.wait_log('vgpu_stub_' + event)


class Help(unittest.TestCase):
    def test_the_device_describes_itself(self):
        text = subprocess.run([os.environ['VGPU_QEMU'], '-device', 'vgpu-stub,help'], stdout=subprocess.PIPE,
                              universal_newlines=True).stdout
        for name in ('pool_id', 'priority', 'vm_id', 'chardev', 'timeout_ms', 'vendor_id', 'device_id', 'window',
                     'channels', 'memdev'):
            self.assertIn('  %s=' % name, text)


if __name__ == '__main__':
    main()
