#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The window, channels and interrupts of the real QEMU (R20 to R27, L15 to L20): shared memory and its seals, eventfds
in both directions, loss, reset and hot-unplug with channels in every state, and mediators and guests that misbehave."""

import fcntl
import os
import random
import resource
import select
import time
import unittest

from vgpu_guest import (CAPABILITIES, CHANNEL_COUNT, CHANNEL_SIZE, DONE, DOORBELL, GENERATION, INTERRUPT_CTRL,
                        WINDOW_SIZE, Guest, channel_doorbell, channel_error, ctrl, owner)
import vgpu_link
from vgpu_link import ACTIVE, CHANNEL_BODY, CHANNEL_STATE, FATAL, FREE, RESET, SEALS, WINDOW, pack
from vgpu_qtest import (BAR0_AT, BAR2_AT, BAR4_AT, CAP_EXPRESS, ECAM_AT, RAM_AT, Qemu, QemuError, main, wait_for)

NOT_BOUND, SESSION_LOST, HOST = 4, 5, 6
PBA_AT = BAR4_AT + 0x800
SMALL = 'window=4M,channels=3'
F_ADD_SEALS = 1033


class Memory(unittest.TestCase):
    """R20, L16, L17: BAR2 and what the mediator got are the same memory, and it keeps its size."""

    def check_shared(self, q, link, size):
        self.assertEqual(link.window.bytes, size)
        for at in (0, 4096 * 3 + 8, size // 2, size - 8):
            value = random.randrange(1 << 64)
            q.write(BAR2_AT + at, value, 8)
            self.assertEqual(int.from_bytes(link.window.memory[at:at + 8], 'little'), value, hex(at))
            link.window.memory[at:at + 8] = (value ^ 0xFFFF).to_bytes(8, 'little')
            self.assertEqual(q.read(BAR2_AT + at, 8), value ^ 0xFFFF, hex(at))

    def test_r20_registers(self):
        with Guest('q35', 'window=8G,channels=64') as q:
            self.assertEqual(q.reg(WINDOW_SIZE, size=8), 8 << 30)
            self.assertEqual([q.reg(r) for r in (CAPABILITIES, CHANNEL_COUNT, CHANNEL_SIZE)], [0x103, 64, 0x80000])
        with Guest('q35', 'window=0') as q:
            self.assertEqual(q.reg(WINDOW_SIZE, size=8), 0)
            self.assertEqual([q.reg(r) for r in (CAPABILITIES, CHANNEL_COUNT, CHANNEL_SIZE)], [3, 0, 0])
            with q.mediator() as link:
                self.assertEqual(link.expect_hello()[7:], (0, 0, 0))
                link.welcome(features=3)
                q.wait_attached()
                q.reg(owner(0), 1)
                self.assertEqual(q.channel(0), [0, 0, 0])
                link.expect_silence()

    def test_l16_shared_both_ways(self):
        for machine in ('q35', 'pc'):
            with Guest(machine) as q, q.attach_channels() as link:
                self.check_shared(q, link, 256 << 20)

    def test_l16_every_number_of_channels(self):
        for count in (1, 8, 9, 64):
            with Guest('q35', 'window=64M,channels=%d' % count) as q, q.attach_channels() as link:
                self.assertEqual(len(set(link.window.doorbells + link.window.interrupts)), 2 * count)

    def test_l17_seals(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            fd = link.window.fd
            for size in (0, 1 << 20, (4 << 20) - 1, 8 << 20):
                with self.assertRaises(PermissionError):
                    os.ftruncate(fd, size)
            with self.assertRaises(PermissionError):
                fcntl.fcntl(fd, F_ADD_SEALS, 8)  # or a mediator could make it read-only for the guest
            self.assertEqual(fcntl.fcntl(fd, vgpu_link.F_GET_SEALS), SEALS)
            self.check_shared(q, link, 4 << 20)

    def test_l17_memory_is_the_same_for_the_next_mediator_and_eventfds_are_not(self):
        with Guest('q35', SMALL) as q:
            first = q.attach_channels()
            q.write(BAR2_AT + 64, 0xABCD)
            old = first.window
            first.window = None  # kept, as by a worker that was left behind
            first.close()
            q.wait_attached(0)
            with q.attach_channels() as second:
                self.assertEqual(second.window.memory[64:66], b'\xcd\xab')
                self.check_shared(q, second, 4 << 20)
                q.enable_msix()
                q.aim_vector(1, RAM_AT + 64, 7)
                q.write(RAM_AT + 64, 0)
                old.interrupt(0)
                q.reg(channel_doorbell(0), 1)
                second.window.wait_rung(0)
                self.assertFalse(old.rung(0))
                self.assertEqual(q.read(RAM_AT + 64), 0)
                second.window.interrupt(0)
                wait_for(lambda: q.read(RAM_AT + 64) == 7, 'the interrupt')
            old.close()

    def test_memdev(self):
        args = ['-object', 'memory-backend-memfd,id=m,size=8M,share=on']
        with Guest('q35', 'memdev=m,channels=15', args=args) as q, q.attach_channels() as link:
            self.assertEqual(q.reg(WINDOW_SIZE, size=8), 8 << 20)
            self.check_shared(q, link, 8 << 20)

    def test_memdev_that_does_not_do(self):
        memfd = 'memory-backend-memfd,id=m,share=%s,size=%s,seal=%s'
        for backend, options, words in (
                (memfd % ('off', '16M', 'on'), '', 'share=on'),
                (memfd % ('on', '16M', 'off'), '', 'seal=on'),
                ('memory-backend-ram,id=m,size=16M,share=on', '', 'memory-backend-memfd'),
                (memfd % ('on', '12M', 'on'), '', 'power of two'),
                (memfd % ('on', '8M', 'on'), '', '16 of 512 KiB'),
                (memfd % ('on', '16M', 'on'), ',window=32M', 'leave one of the two'),
                (memfd % ('on', '16M', 'on'), ',window=0', 'leave one of the two'),
                (memfd % ('on', '16M', 'on'), ',channels=65', '1 to 64')):
            with self.subTest(backend=backend, options=options), self.assertRaises(QemuError) as caught:
                Qemu('q35', 'memdev=m' + options, args=['-object', backend]).close()
            self.assertIn(words, str(caught.exception))

    def test_memdev_has_one_user_at_a_time(self):
        args = ['-object', 'memory-backend-memfd,id=m,size=16M']
        with Guest('pc', 'memdev=m', args=args) as q:
            with self.assertRaises(QemuError) as caught:
                q.qmp('device_add', driver='vgpu-stub', id='other', memdev='m')
            self.assertIn('another user', str(caught.exception))
            q.qmp('device_del', id='gpu')
            q.ask('outl 0xae10 0')
            q.ask('outl 0xae08 0x%x' % (1 << q.slot))
            q.wait_event('DEVICE_DELETED')
            with self.assertRaises(QemuError):  # one that fails does not keep it
                q.qmp('device_add', driver='vgpu-stub', id='gpu', memdev='m', pool_id='?')
            q.qmp('device_add', driver='vgpu-stub', id='gpu', chardev='link', memdev='m', addr='4')
            q.map()
            with q.attach_channels() as link:
                self.check_shared(q, link, 16 << 20)


class Channels(unittest.TestCase):
    def test_r21_r22_r23_the_life_of_a_channel(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            q.reg(ctrl(1), 1)
            self.assertEqual(q.channel(1), [0, FREE, 0], 'nobody has it')
            q.reg(owner(1), 0x1234)
            q.reg(owner(1), 0x5678)
            self.assertEqual(q.channel(1), [0x1234, FREE, 0])
            q.reg(ctrl(1), 1)
            self.assertEqual(link.expect_enable(1), 1)
            self.assertEqual(q.channel(1), [0x1234, FREE, 0])
            link.state(1, ACTIVE)
            q.wait_channel(1, 0x1234, ACTIVE, 0)
            link.state(1, FATAL, SESSION_LOST)
            q.wait_channel(1, 0x1234, FATAL, SESSION_LOST)
            q.reg(owner(1), 0)
            self.assertEqual(link.expect_channel_reset(1), 2)
            q.reg(owner(1), 0x5678)
            self.assertEqual(q.channel(1), [0, FATAL, SESSION_LOST], 'a worker may be in it still')
            link.state(1, FREE)
            q.wait_channel(1, 0, FREE, 0)
            q.reg(owner(1), 0x5678)
            self.assertEqual(q.channel(1), [0x5678, FREE, 0])
            link.expect_silence()
            for name, count in (('channel_claims', 2), ('channel_claims_refused', 2), ('channel_enables', 1),
                                ('channel_resets', 1), ('channels_lost', 1), ('channel_states_dropped', 0),
                                ('guest_errors', 1)):
                self.assertEqual(q.property(name), count, name)
            self.assertEqual([q.channel(n) for n in (0, 2)], [[0, 0, 0]] * 2)

    def test_r22_without_a_mediator(self):
        with Guest('q35', SMALL) as q:
            q.reg(owner(0), 5)
            q.reg(ctrl(0), 1)
            self.assertEqual(q.channel(0), [5, FATAL, HOST])
            q.reg(ctrl(0), 0)
            self.assertEqual(q.channel(0), [5, FREE, 0])
            with q.attach():  # a mediator that knows no channels
                q.reg(ctrl(0), 1)
                self.assertEqual(q.channel(0), [5, FATAL, HOST])

    def test_l19_late_words_are_dropped(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            q.reg(owner(0), 5)
            q.reg(ctrl(0), 1)
            serial = link.expect_enable(0)
            q.reg(ctrl(0), 0)
            link.state(0, ACTIVE, serial=serial)
            wait_for(lambda: q.property('channel_states_dropped') == 1, 'the late word')
            self.assertEqual(q.channel(0), [5, FATAL, 0])
            link.expect_channel_reset(0)
            link.state(0, FREE)
            q.wait_channel(0, 5, FREE, 0)

    def test_l16_mailbox_beside_channels(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            q.activate(link, 0)
            q.submit(b'beside')
            request = link.expect_request()
            link.respond(request.seq, b'fine')
            q.wait_status(DONE)
            self.assertEqual(q.response(), b'fine')


class Doorbells(unittest.TestCase):
    """R25: in any state, by any word write, without a message on the link."""

    def test_each_channel_has_its_own(self):
        with Guest('q35', 'window=64M,channels=64') as q, q.attach_channels() as link:
            for n in (0, 1, 31, 63):
                q.reg(channel_doorbell(n), random.randrange(1 << 32))
                link.window.wait_rung(n)
                self.assertEqual([i for i in range(64) if link.window.rung(i)], [])
            link.expect_silence()
            self.assertEqual(q.property('guest_errors'), 0)

    def test_which_accesses_ring(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            q.reg(channel_doorbell(1), 0)
            link.window.wait_rung(1)
            q.reg(channel_error(1), 1 << 32, size=8)  # R2: its upper half
            link.window.wait_rung(1)
            for size, at in ((1, 0), (1, 3), (2, 0), (2, 2)):
                q.reg(channel_doorbell(1) + at, 1, size=size)
            q.reg(channel_doorbell(3), 1)  # there is no channel 3
            self.assertEqual(q.reg(channel_doorbell(1)), 0)
            self.assertFalse(any(link.window.rung(n) for n in range(3)))

    def test_not_without_a_mediator(self):
        with Guest('q35', SMALL) as q:
            q.reg(channel_doorbell(0), 1)
            with q.attach():
                q.reg(channel_doorbell(0), 1)
            q.wait_attached(0)
            with q.attach_channels() as link:
                self.assertFalse(link.window.rung(0))
            self.assertEqual(q.property('guest_errors'), 0)

    def test_a_mediator_that_does_not_look(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            for _ in range(40):
                q.post(['writel 0x%x 1' % (BAR0_AT + channel_doorbell(0))] * 500)
            self.assertEqual(int.from_bytes(os.read(link.window.doorbells[0], 8), 'little'), 20000)


class Interrupts(unittest.TestCase):
    """R27."""

    def prepare(self, q, channels):
        q.enable_msix()
        for n in range(channels):
            q.aim_vector(1 + n, RAM_AT + 4 * n, 0x100 + n)
        self.clear(q, channels)

    def clear(self, q, channels):
        for n in range(channels):
            q.write(RAM_AT + 4 * n, 0)

    def raised(self, q, channels):
        return [n for n in range(channels) if q.read(RAM_AT + 4 * n) == 0x100 + n]

    def test_each_channel_has_its_own(self):
        for machine in ('q35', 'pc'):
            with Guest(machine, 'window=64M,channels=64') as q, q.attach_channels() as link:
                self.prepare(q, 64)
                for n in (0, 1, 40, 63):
                    link.window.interrupt(n)
                    wait_for(lambda: self.raised(q, 64) == [n], 'the interrupt of channel %d' % n)
                    self.clear(q, 64)
                self.assertEqual(q.property('completions'), 0)

    def test_masked_it_is_pending(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            self.prepare(q, 3)
            q.aim_vector(2, RAM_AT + 4, 0x101, masked=1)
            link.window.interrupt(1)
            wait_for(lambda: q.read(PBA_AT) == 1 << 2, 'the pending bit')
            self.assertEqual(self.raised(q, 3), [])
            q.write(BAR4_AT + 2 * 16 + 12, 0)
            self.assertEqual(self.raised(q, 3), [1])
            self.assertEqual(q.read(PBA_AT), 0)

    def test_many_signals_become_one_and_the_last_is_not_lost(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            self.prepare(q, 3)
            for _ in range(1000):
                link.window.interrupt(2)
            wait_for(lambda: self.raised(q, 3) == [2], 'the interrupt')
            wait_for(lambda: self.drained(link, 2), 'QEMU to take all signals')
            self.clear(q, 3)
            link.window.interrupt(2)
            wait_for(lambda: self.raised(q, 3) == [2], 'the interrupt')

    def drained(self, link, n):
        poll = select.poll()
        poll.register(link.window.interrupts[n], select.POLLIN)
        return not poll.poll(0)

    def test_a_signal_from_before_the_guest_looked(self):
        # MSI-X is off when the worker signals: nothing is raised, and nothing breaks.
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            link.window.interrupt(0)
            wait_for(lambda: self.drained(link, 0), 'QEMU to take the signal')
            self.prepare(q, 3)
            link.window.interrupt(0)
            wait_for(lambda: self.raised(q, 3) == [0], 'the interrupt')

    def test_without_msix(self):
        with Guest('pc', SMALL, args=['-cpu', 'qemu64,-apic']) as q, q.attach_channels() as link:
            link.window.interrupt(0)
            q.activate(link, 0)
            q.reg(channel_doorbell(0), 1)
            link.window.wait_rung(0)

    def test_r18_aimed_at_the_device_itself(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            q.enable_msix(address=BAR0_AT + DOORBELL, data=1)
            q.aim_vector(1, BAR0_AT + DOORBELL, 1)
            q.aim_vector(2, BAR0_AT + channel_doorbell(2), 1)
            q.aim_vector(3, BAR0_AT + ctrl(0), 0)
            q.reg(INTERRUPT_CTRL, 1)
            for n in range(3):
                for _ in range(50):
                    link.window.interrupt(n)
                wait_for(lambda: self.drained(link, n), 'QEMU to take the signals')
            link.window.wait_rung(2)
            wait_for(lambda: q.property('completions') > 0, 'the doorbell')
            self.assertGreater(q.property('channel_resets'), 0)
            q.qmp('query-status')

    def test_r18_aimed_at_the_reset(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            q.activate(link, 0)
            q.enable_ecam()
            devctl = q.capability(CAP_EXPRESS) + 8
            q.enable_msix()
            q.aim_vector(1, ECAM_AT + (q.slot << 15) + devctl, 0x8000)
            generation = q.reg(GENERATION)
            link.window.interrupt(0)
            self.assertEqual(link.expect_reset(), generation + 1)
            q.map()
            self.assertEqual(q.channel(0), [0, 0, 0])
            q.activate(link, 0, 9)


class Loss(unittest.TestCase):
    def states(self, q, link):
        """Channels 0 to 4: owned, being enabled, active, fatal, being reset."""
        q.reg(owner(0), 10)
        q.reg(owner(1), 11)
        q.reg(ctrl(1), 1)
        link.expect_enable(1)
        for n in (2, 3, 4):
            q.activate(link, n, 10 + n)
        link.state(3, FATAL, NOT_BOUND)
        q.wait_channel(3, 13, FATAL, NOT_BOUND)
        q.reg(ctrl(4), 0)
        link.expect_channel_reset(4)

    def test_r26_losing_the_mediator(self):
        with Guest() as q:
            link = q.attach_channels()
            self.states(q, link)
            generation = q.reg(GENERATION)
            link.close()
            q.wait_attached(0)
            self.assertEqual(q.reg(GENERATION), generation + 1)
            self.assertEqual([q.channel(n) for n in range(5)], [[10 + n, FREE, 0] for n in range(5)])
            with q.attach_channels() as again:
                for n in range(5):
                    q.reg(ctrl(n), 1)
                    self.assertEqual(again.expect_enable(n), 1)
                    again.state(n, ACTIVE)
                    q.wait_channel(n, 10 + n, ACTIVE, 0)

    def test_r26_reset(self):
        def system(q):
            q.qmp('system_reset')
            q.wait_event('RESET')
        for how in (system, lambda q: q.function_level_reset()):
            with Guest() as q, q.attach_channels() as link:
                self.states(q, link)
                how(q)
                link.expect_reset()
                q.map()
                self.assertEqual([q.channel(n) for n in range(5)], [[0, FREE, 0]] * 5)
                link.state(2, FATAL, SESSION_LOST)
                wait_for(lambda: q.property('channel_states_dropped') == 1, 'the word about the guest before')
                q.reg(channel_doorbell(3), 1)
                link.window.wait_rung(3)
                q.activate(link, 2, 99)
                self.assertEqual(link.serials[2], 2, 'serials go on')
                q.enable_msix()
                q.aim_vector(3, RAM_AT, 5)
                link.window.interrupt(2)
                wait_for(lambda: q.read(RAM_AT) == 5, 'the interrupt')

    def test_again_and_again_without_a_leak(self):
        with Guest('q35', 'window=64M,channels=64') as q:
            q.attach_channels().close()
            q.wait_attached(0)
            fds = q.open_fds()
            for i in range(30):
                link = q.attach_channels()
                self.assertGreaterEqual(q.open_fds(), fds + 128)
                q.activate(link, i, 1 + i)
                link.close()
                q.wait_attached(0)
                self.assertEqual(q.channel(i), [1 + i, FREE, 0])
            wait_for(lambda: q.open_fds() <= fds, 'descriptors to be closed')

    def test_an_idle_device_uses_no_processor(self):
        # A descriptor that is closed and still waited for would make QEMU turn round and round.
        with Guest('pc', 'window=64M,channels=64') as q:
            for _ in range(2):
                link = q.attach_channels()
                link.window.interrupt(1)
                q.reg(channel_doorbell(1), 1)
                link.window.wait_rung(1)
                self.check_idle(q)
                link.close()
                q.wait_attached(0)
                self.check_idle(q)
            link = q.attach_channels()
            q.qmp('device_del', id='gpu')
            q.ask('outl 0xae10 0')
            q.ask('outl 0xae08 0x%x' % (1 << q.slot))
            link.drain_until_closed()
            link.close()
            q.wait_event('DEVICE_DELETED')
            self.check_idle(q)

    def check_idle(self, q):
        """The least of a few tries: what was to be done before may take a moment."""
        used = []
        for _ in range(5):
            before = q.cpu_ticks()
            time.sleep(0.2)
            used.append(q.cpu_ticks() - before)
        self.assertLessEqual(min(used), 1, used)

    def test_no_descriptors_left(self):
        with Guest('q35', 'window=64M,channels=64') as q:
            pid = q.process.pid
            before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            fds = q.open_fds()
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (fds + 20, before[1]))
            with q.mediator() as link:
                link.expect_hello()
                link.welcome(features=3)
                self.assertEqual(link.drain_until_closed(), [])
            q.wait_log('raise the limit on open files')
            q.wait_attached(0)
            wait_for(lambda: q.open_fds() <= fds, 'descriptors to be closed')
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            with q.attach_channels() as link:
                q.activate(link, 63)


class Hostile(unittest.TestCase):
    def good(self, q):
        with q.attach_channels() as link:
            n = 2
            q.reg(owner(n), 0)
            link.expect_channel_reset(n)
            link.state(n, FREE)
            q.activate(link, n, 77)
            q.reg(channel_doorbell(n), 1)
            link.window.wait_rung(n)
        q.wait_attached(0)

    def test_l1_every_bad_word(self):
        def body(channel=0, serial=1, state=ACTIVE, error=0):
            return CHANNEL_BODY.pack(channel, serial, state, error)
        words = (body(channel=3), body(channel=0xFFFFFFFF), body(state=3), body(state=0xFFFFFFFF), body(error=1),
                 body(state=FATAL), body(state=FATAL, error=7), body(serial=2), body(serial=0x7FFFFFFF), body()[:15],
                 body() + b'\0')
        messages = [pack(CHANNEL_STATE, word) for word in words]
        messages += [pack(CHANNEL_STATE, body(), seq=1), pack(CHANNEL_STATE, body(), fd_count=1),
                     pack(WINDOW, bytes(24)), pack(WINDOW, bytes(24), fd_count=1), pack(10, body()), pack(11, body()),
                     pack(13, body())]
        with Guest('q35', SMALL) as q:
            self.good(q)
            fds = q.open_fds()
            for count, data in enumerate(messages, 1):
                link = q.attach_channels()
                q.reg(owner(0), 1)
                q.reg(ctrl(0), 1)
                link.expect_enable(0)
                link.send_raw(data)
                self.assertEqual(link.drain_until_closed(), [])
                link.close()
                wait_for(lambda: q.property('violations') == count, 'violation %d, %r' % (count, data))
                q.wait_attached(0)
                self.assertEqual(q.channel(0), [1, FREE, 0])
            self.good(q)
            wait_for(lambda: q.open_fds() <= fds, 'descriptors to be closed')

    def test_random_bytes(self):
        seed = int(os.environ.get('VGPU_FUZZ_SEED', random.randrange(1 << 32)))
        chance = random.Random(seed)
        with Guest('q35', SMALL) as q:
            for _ in range(40):
                link = q.attach_channels()
                for n in range(3):
                    q.reg(owner(n), 1 + n)
                    q.reg(ctrl(n), chance.randrange(2))
                data = bytearray(b''.join(pack(CHANNEL_STATE, CHANNEL_BODY.pack(
                    chance.randrange(3), chance.randrange(3), state, 4 if state == FATAL else 0))
                    for state in chance.choices(range(3), k=6)))
                for _ in range(chance.randrange(4)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                try:
                    link.send_raw(bytes(data[:chance.randrange(len(data) + 1)]))
                except vgpu_link.Closed:
                    pass
                link.close()
                wait_for(lambda: q.property('link_state') == 'down', 'the end (seed %d)' % seed)
                self.assertEqual([q.reg(ctrl(n)) for n in range(3)], [FREE] * 3, 'seed %d' % seed)
            self.good(q)

    def test_a_mediator_that_goes_while_it_gets_the_window(self):
        with Guest('q35', 'window=64M,channels=64') as q:
            q.attach_channels().close()
            q.wait_attached(0)
            fds = q.open_fds()
            for messages in range(9):
                link = q.mediator()
                link.expect_hello()
                link.welcome(features=3)
                for _ in range(messages):
                    link.expect(WINDOW)
                link.close()
                wait_for(lambda: q.property('link_state') == 'down', 'the end')
            wait_for(lambda: q.open_fds() <= fds, 'descriptors to be closed')
            with q.attach_channels() as link:
                q.activate(link, 3)

    def test_l18_a_mediator_that_never_reads(self):
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            for n in range(3):
                q.reg(owner(n), 1)
            rounds = 30000
            for _ in range(rounds // 1000):
                q.post(['writel 0x%x %d' % (BAR0_AT + ctrl(1), i % 2) for i in range(1000)])
            q.qmp('query-status')
            self.assertEqual(q.channel(0), [1, FREE, 0])
            q.reg(ctrl(0), 1)
            resets = 0
            while True:  # the stream is whole, as receive() checks, and says less than was done
                message = link.receive()
                if message.type == vgpu_link.CHANNEL_RESET:
                    resets += 1
                    link.enabled.discard(1)
                elif CHANNEL_BODY.unpack(message.payload)[0] == 0:
                    break
            self.assertGreater(resets, 10)
            self.assertLess(resets, rounds // 2)
            link.state(0, ACTIVE)
            q.wait_channel(0, 1, ACTIVE, 0)
            link.state(1, FREE)
            q.wait_channel(1, 1, FREE, 0)

    def test_the_guest_writes_everything(self):
        seed = int(os.environ.get('VGPU_FUZZ_SEED', random.randrange(1 << 32)))
        chance = random.Random(seed)
        with Guest('q35', SMALL) as q, q.attach_channels() as link:
            q.enable_msix()
            for _ in range(20):
                q.post(['write%s 0x%x 0x%x' % (chance.choice('bwlq'), BAR0_AT + chance.randrange(0xBF0, 0xC38),
                                              chance.choice((0, 1, chance.randrange(1 << 8))))
                        for _ in range(500)])
                for n in range(3):
                    link.window.interrupt(n)
                    self.assertIn(q.reg(ctrl(n)), (FREE, ACTIVE, FATAL), 'seed %d' % seed)
            q.function_level_reset()
            while link.receive().type != RESET:
                link.enabled.clear()
            q.map()
            q.activate(link, 2)


class Unplug(unittest.TestCase):
    """R19 with channels: in each state, and from inside an interrupt of theirs."""

    def eject(self, q):
        q.qmp('device_del', id='gpu')
        q.ask('outl 0xae10 0')
        q.ask('outl 0xae08 0x%x' % (1 << q.slot))

    def test_r19_in_each_state(self):
        for state in ('owned', 'enabling', 'active', 'fatal', 'resetting', 'no mediator', 'window half sent'):
            with self.subTest(state=state), Guest('pc') as q:
                fds = q.open_fds()
                link = None
                if state == 'window half sent':
                    link = q.mediator()
                    link.expect_hello()
                    link.welcome(features=3)
                    link.expect(WINDOW)
                elif state != 'no mediator':
                    link = q.attach_channels()
                q.reg(owner(0), 1)
                if state in ('active', 'fatal', 'resetting'):
                    q.reg(owner(0), 0)
                    link.expect_channel_reset(0)
                    q.activate(link, 0)
                if state == 'enabling':
                    q.reg(ctrl(0), 1)
                if state == 'fatal':
                    link.state(0, FATAL, HOST)
                    q.wait_channel(0, 1, FATAL, HOST)
                if state == 'resetting':
                    q.reg(ctrl(0), 0)
                self.eject(q)
                if link:
                    link.drain_until_closed()
                q.wait_event('DEVICE_DELETED')
                if link and link.window.memory:  # ours goes on, and leads nowhere
                    link.window.memory[0:4] = b'gone'
                    for n in range(len(link.window.interrupts)):
                        link.window.interrupt(n)
                if link:
                    link.close()
                wait_for(lambda: q.open_fds() < fds, 'the memory file to be closed')
                q.qmp('device_add', driver='vgpu-stub', id='gpu', chardev='link', addr='4')
                q.map()
                with q.attach_channels() as again:
                    self.assertEqual(again.window.memory[0:4], bytes(4), 'new memory')
                    self.assertEqual(q.channel(0), [0, FREE, 0])
                    q.activate(again, 0)
                wait_for(lambda: q.open_fds() <= fds, 'no descriptors more than before')

    def test_an_interrupt_aimed_at_the_ejection(self):
        with Guest('q35', SMALL, bus='rp', args=['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off', '-device',
                                                 'pcie-root-port,id=rp,addr=05.0'], mapped=False) as q:
            where = dict(slot=0, bus=1)
            q.config_write(0x18, 0x010100, slot=5)
            q.config_write(0x20, 0xE010E000, slot=5)
            q.config_write(0x04, 0x6, 2, slot=5)
            q.map(**where)
            slot_control = q.capability(CAP_EXPRESS, slot=5) + 0x18
            q.config_write(slot_control, 0x0100, 2, slot=5)
            link = q.attach_channels()
            q.activate(link, 1)
            q.enable_ecam()
            q.enable_msix(**where)
            q.aim_vector(2, ECAM_AT + (5 << 15) + slot_control, 0x0700)
            q.qmp('device_del', id='gpu')
            for n in (0, 1, 2):
                link.window.interrupt(n)
            link.drain_until_closed()
            link.close()
            q.wait_event('DEVICE_DELETED')
            q.qmp('query-status')

    def test_quit_with_channels(self):
        with Guest('q35', SMALL) as q:
            link = q.attach_channels()
            q.activate(link, 0)
            q.qmp('quit')
            self.assertEqual(q.process.wait(60), 0)
            link.drain_until_closed()
            link.close()


if __name__ == '__main__':
    main()
