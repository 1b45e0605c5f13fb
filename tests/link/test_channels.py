#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Channels through the mediator: docs/ring.md G1 to G6 and G14, docs/link.md and docs/worker.md of windows, channels and
extents, with a device and a local client on one side and a worker that lies on the other."""

import json
import mmap
import os
import random
import select
import signal
import struct
import unittest

import vgpu_link_device as link
from rig import Case, say_in, wait_for
from vgpu_link_device import ACTIVE, FATAL, FREE

OPEN, CLOSE = link.SESSION_OPEN, link.SESSION_CLOSE
MIB = 1 << 20
CHANNELS = link.FEATURE_MAILBOX | link.FEATURE_CHANNELS


class ChannelCase(Case):
    def windowed(self, vm_id=7, window_bytes=16 * MIB, channel_count=4, window=None):
        """A device with its window."""
        window = window or link.Window.make(window_bytes, channel_count)
        d = self.dialled(vm_id)
        d.window = window
        self.assertEqual(d.attach(vm_id=vm_id, **window.hello()).features, CHANNELS)
        d.send_window()
        return d

    def client(self, **hello):
        """A local client with its window."""
        d = self.local()
        d.attach(**dict({'features': CHANNELS}, **hello))
        d.expect_window()
        return d

    def opened(self, d, *sessions):
        for session in sessions:
            self.ok(d.ask(link.named(OPEN, session)))
        return d

    def active(self, d, session=5, channel=0):
        """An open session with an active channel."""
        self.opened(d, session)
        self.ok(d.bind(session, channel))
        d.enable(channel)
        d.expect_state(channel, ACTIVE)
        return d

    def fake(self, d, text, session=5):
        return self.ok(d.ask(say_in(session, text))).data

    def told(self, d, text, session=5):
        return json.loads(self.fake(d, text, session))

    def worker_pid(self, d, session=5):
        return int(self.fake(d, 'pid', session))

    def no_worker_is_left(self):
        wait_for('the workers to end', lambda: not self.mediator.workers())


class Channels(ChannelCase):
    """The good course of things, for both kinds of links."""

    def course(self, d):
        self.active(d)
        window = d.window
        heard = self.told(d, 'heard')
        self.assertEqual(heard[0][:4], ['attach', 0, window.bytes, window.bytes])
        self.assertEqual(heard[0][4][1:], ['anon_inode'] * 2)
        # It is the same memory and the same eventfds.
        self.fake(d, 'write 4096 hello')
        with mmap.mmap(window.memory, window.bytes) as memory:
            self.assertEqual(memory[4096:4101], b'hello')
        self.assertTrue(select.select([window.pairs[0][1]], [], [], link.TIMEOUT_S)[0])
        os.write(window.pairs[0][0], struct.pack('=Q', 3))
        self.assertEqual(self.fake(d, 'doorbell'), b'3')
        d.disable(0)
        d.expect_state(0, FREE)
        self.assertEqual(self.told(d, 'heard')[1], ['detach', 0])
        # And another one, with the same worker.
        self.ok(d.bind(5, 3))
        d.enable(3)
        d.expect_state(3, ACTIVE)
        self.assertEqual(self.told(d, 'heard')[2][:2], ['attach', 3])
        self.ok(d.ask(link.named(CLOSE, 5)))
        d.expect_state(3, FATAL, link.SESSION_LOST)
        d.disable(3)
        d.expect_state(3, FREE)
        self.no_worker_is_left()

    def test_device(self):
        self.course(self.windowed())

    def test_local_client(self):
        self.course(self.client())

    def test_a_worker_is_started_for_it(self):
        """The session of a channel may have asked for nothing yet."""
        d = self.active(self.windowed())
        self.assertEqual(len(self.mediator.workers()), 1)

    def test_a_worker_that_starts_slowly(self):
        self.mediator.start_as('slow 1')
        self.active(self.windowed())

    def test_every_channel(self):
        """64 channels, 16 sessions with one each, and eventfds that are not mixed up."""
        d = self.windowed(window_bytes=64 * MIB, channel_count=64)
        for session in range(1, 17):
            self.active(d, session, 4 * session - 1)
        for session in range(1, 17):
            os.write(d.window.pairs[4 * session - 1][0], struct.pack('=Q', session))
            self.assertEqual(int(self.fake(d, 'doorbell', session)), session)
        self.mediator.signal(signal.SIGUSR1)
        self.assertEqual(self.mediator.wait_line('status', vm=7)['channels'], '16/64')

    def test_g2_bind(self):
        d = self.opened(self.windowed(), 5, 6)
        for session, channel, status in ((0, 0, 1), (9, 0, 201), (5, 4, 1), (5, 0xffffffff, 1)):
            response = d.bind(session, channel)
            self.assertEqual((response.error, response.status), (0, status))
            self.assertTrue(response.data)
        self.ok(d.bind(5, 0))
        for session, channel in ((5, 0), (5, 1), (6, 0)):
            self.assertEqual(d.bind(session, channel).status, 401)
        self.ok(d.bind(6, 1))
        d.disable(0)
        d.expect_state(0, FREE)
        self.ok(d.bind(5, 2))  # a reset unbinds
        self.ok(d.ask(link.named(CLOSE, 6)))  # so does the end of the session
        self.opened(d, 8)
        self.ok(d.bind(8, 1))
        self.assertEqual(self.mediator.workers(), [])

    def test_g2_malformed(self):
        d = self.opened(self.windowed(), 5)
        for rest in (b'', b'\0' * 4, b'\0' * 7, b'\0' * 9, struct.pack('<II', 0, 1)):
            self.assertEqual(d.ask(link.named(link.SESSION_CHANNEL, 5, rest)).error, 1)
        self.assertEqual(d.ask(link.named(link.SESSION_CHANNEL, 5, b'\0' * 8, flags=link.ASYNC)).error, 1)

    def test_p33_no_window(self):
        for d in (self.device(), self.local()):
            if not d.attached:
                d.attach()
            self.opened(d, 5)
            response = d.bind(5, 0)
            self.assertEqual((response.error, response.status), (8, 801))

    def test_cancel_undoes_a_bind(self):
        d = self.opened(self.windowed(), 5)
        self.ok(d.bind(5, 0))
        d.cancel(d.seq)
        self.ok(d.bind(5, 1))
        d.enable(1)
        d.expect_state(1, ACTIVE)
        d.cancel(d.seq)  # too late: it is in use
        self.assertEqual(d.bind(5, 0).status, 401)

    def test_g3_not_bound(self):
        d = self.windowed()
        d.enable(2)
        d.expect_state(2, FATAL, link.NOT_BOUND)
        d.enable(2)
        d.expect_state(2, FATAL, link.NOT_BOUND)
        d.disable(2)
        d.expect_state(2, FREE)
        d.disable(2)
        d.expect_state(2, FREE)

    def test_g3_active_stays(self):
        d = self.active(self.windowed())
        d.enable(0)
        d.expect_state(0, ACTIVE)
        self.assertEqual(len(self.told(d, 'heard')), 1)

    def test_g4_worker_killed(self):
        d = self.active(self.windowed())
        os.kill(self.worker_pid(d), signal.SIGKILL)
        d.expect_state(0, FATAL, link.SESSION_LOST)
        self.assertEqual(d.bind(5, 1).status, 719)  # the session has its sticky error
        d.disable(0)
        d.expect_state(0, FREE)
        self.active(d, 6)

    def test_g4_worker_that_cannot_start(self):
        self.mediator.start_as('exit 1')
        d = self.opened(self.windowed(), 5)
        self.ok(d.bind(5, 0))
        d.enable(0)
        d.expect_state(0, FATAL, link.HOST)
        d.disable(0)
        d.expect_state(0, FREE)
        self.ok(d.bind(5, 0))
        d.enable(0)  # too soon
        d.expect_state(0, FATAL, link.HOST)
        self.assertTrue(self.mediator.lines('channel-refused', vm=7))
        self.mediator.start_as('')
        d.disable(0)
        d.expect_state(0, FREE)

        def again():
            self.ok(d.bind(5, 0))
            d.enable(0)
            message = d.expect(link.CHANNEL_STATE)
            state = link.State(*link.CHANNEL_BODY.unpack(message.payload))
            if state.state == ACTIVE:
                return True
            d.disable(0)
            d.expect_state(0, FREE)
            return False
        wait_for('the channel to be active', again)

    def test_fatal_of_the_workers(self):
        """G19: the session lives on, and a reset makes the channel usable again."""
        d = self.active(self.windowed())
        for error in (link.BAD_TAIL, link.BAD_RECORD, link.BAD_HEAD, link.HOST):
            self.fake(d, 'channel 0 %d %d' % (FATAL, error))
            d.expect_state(0, FATAL, error)
            self.worker_pid(d)
            d.disable(0)
            d.expect_state(0, FREE)
            self.ok(d.bind(5, 0))
            d.enable(0)
            d.expect_state(0, ACTIVE)
        self.assertEqual(len(self.mediator.workers()), 1)

    def test_fatal_instead_of_active(self):
        self.mediator.start_as('mute')
        d = self.opened(self.windowed(), 5)
        self.ok(d.bind(5, 0))
        d.enable(0)
        self.fake(d, 'channel 0 %d %d' % (FATAL, link.HOST))
        d.expect_state(0, FATAL, link.HOST)

    def test_link_reset(self):
        """The guest is new: nothing is told of what was, and the next one waits for the worker to be gone (G6)."""
        d = self.active(self.windowed())
        d.reset()
        self.active(d, 5, 0)
        self.no_state_is_left(d)

    def no_state_is_left(self, d):
        self.opened(d, 77)
        self.assertEqual(d.states, [])


class Crossing(ChannelCase):
    """Everything at the worst moment."""

    config = '[scheduler]\nanswer_ms = 1500\n'

    def muted(self, session=5):
        self.mediator.start_as('mute')
        d = self.opened(self.windowed(), session)
        self.ok(d.bind(session, 0))
        d.enable(0)
        return d

    def test_reset_before_the_answer(self):
        d = self.muted()
        d.disable(0)
        wait_for('DETACH', lambda: len(self.told(d, 'heard')) == 2)
        self.assertEqual(d.bind(5, 1).status, 401)  # its worker has channel 0 still
        self.fake(d, 'channel 0 %d 0' % ACTIVE)  # says nothing to the device any more
        self.fake(d, 'channel 0 0 0')
        d.expect_state(0, FREE)
        self.ok(d.bind(5, 1))

    def test_fatal_crosses_with_reset(self):
        d = self.muted()
        d.disable(0)
        self.fake(d, 'channel 0 %d %d' % (FATAL, link.BAD_TAIL))
        self.fake(d, 'channel 0 0 0')
        d.expect_state(0, FREE)

    def test_enable_while_it_is_let_go(self):
        """The last word of the guest counts; another session's worker waits for the first to let go."""
        d = self.muted()
        d.disable(0)
        self.opened(d, 6)
        self.ok(d.bind(6, 0))
        d.enable(0)
        self.fake(d, 'mode -')
        self.fake(d, 'channel 0 %d 0' % ACTIVE)
        self.assertEqual(len(self.mediator.workers()), 1)
        self.mediator.start_as('')
        self.fake(d, 'channel 0 0 0')
        d.expect_state(0, ACTIVE)
        self.assertEqual(self.told(d, 'heard', 6)[0][1], 0)

    def test_enable_without_a_session_while_it_is_let_go(self):
        d = self.muted()
        d.disable(0)
        d.enable(0)
        self.fake(d, 'channel 0 0 0')
        d.expect_state(0, FATAL, link.NOT_BOUND)

    def test_session_ends_before_the_answer(self):
        d = self.muted()
        self.ok(d.ask(link.named(CLOSE, 5)))
        d.expect_state(0, FATAL, link.SESSION_LOST)
        d.disable(0)
        d.expect_state(0, FREE)
        self.no_worker_is_left()

    def test_session_ends_while_it_is_let_go(self):
        d = self.muted()
        d.disable(0)
        self.ok(d.ask(link.named(CLOSE, 5)))
        d.expect_state(0, FREE)
        self.no_worker_is_left()

    def test_g6_free_only_when_reaped(self):
        """A worker that does not end keeps its channel: 2 s, then it is killed."""
        d = self.active(self.windowed())
        self.fake(d, 'stubborn')
        pid = self.mediator.workers()[0]
        self.ok(d.ask(link.named(CLOSE, 5)))
        d.expect_state(0, FATAL, link.SESSION_LOST)
        d.disable(0)
        d.expect_state(0, FREE)
        self.assertNotIn(pid, self.mediator.workers())

    def test_g6_next_session_waits(self):
        """After RESET the guest sees a free channel at once, and a new session binds it."""
        d = self.active(self.windowed())
        self.fake(d, 'stubborn')
        pid = self.mediator.workers()[0]
        d.reset()
        self.opened(d, 5)
        self.ok(d.bind(5, 0))
        d.enable(0)
        d.expect_state(0, ACTIVE)
        self.assertNotIn(pid, self.mediator.workers())

    def test_g6_device_comes_back(self):
        """The link is lost, the device brings the same memory, and the old worker still has it."""
        d = self.active(self.windowed())
        window = link.Window(d.window.bytes, d.window.channel_count)
        window.memory = os.dup(d.window.memory)
        window.pairs = [(os.dup(a), os.dup(b)) for a, b in d.window.pairs]
        self.fake(d, 'stubborn')
        pid = self.mediator.workers()[0]
        d.close()
        d = self.opened(self.windowed(window=window), 5)
        self.ok(d.bind(5, 0))
        d.enable(0)
        d.expect_state(0, ACTIVE)
        self.assertNotIn(pid, self.mediator.workers())

    def test_other_memory_does_not_wait(self):
        d = self.active(self.windowed())
        self.fake(d, 'stubborn')
        pid = self.mediator.workers()[0]
        d.close()
        self.active(self.windowed())
        self.assertIn(pid, self.mediator.workers())

    def test_attach_without_an_answer(self):
        d = self.muted()
        d.expect_state(0, FATAL, link.SESSION_LOST)
        self.assertIn('in time', self.mediator.wait_line('worker-kill')['reason'])

    def test_detach_without_an_answer(self):
        d = self.active(self.windowed())
        self.fake(d, 'mode mute')
        d.disable(0)
        d.expect_state(0, FREE)  # when the worker is gone
        self.assertIn('in time', self.mediator.wait_line('worker-kill')['reason'])
        self.assertEqual(d.ask(say_in(5, 'pid')).status, 719)

    def test_detach_without_an_answer_but_attach(self):
        """The late answer to ATTACH is not the one to DETACH."""
        d = self.muted()
        d.disable(0)
        self.fake(d, 'channel 0 %d 0' % ACTIVE)
        d.expect_state(0, FREE)
        self.assertIn('in time', self.mediator.wait_line('worker-kill')['reason'])

    def test_worker_exits_when_told_to_let_go(self):
        self.mediator.start_as('leave')
        d = self.active(self.windowed())
        d.disable(0)
        d.expect_state(0, FREE)
        self.assertEqual(d.ask(say_in(5, 'pid')).status, 719)

    def test_worker_killed_before_the_answer(self):
        d = self.muted()
        os.kill(self.worker_pid(d), signal.SIGKILL)
        d.expect_state(0, FATAL, link.SESSION_LOST)

    def test_worker_hangs_up(self):
        d = self.active(self.windowed())
        seq = d.submit(say_in(5, 'hang-up'))
        d.expect_state(0, FATAL, link.SESSION_LOST)
        d.response(seq)

    def test_unplugged(self):
        """Hot-unplug with everything in flight; the descriptors go with it."""
        before = self.mediator.fds()
        for mute in ('', 'mute'):
            self.mediator.start_as(mute)
            d = self.opened(self.windowed(), 5, 6)
            for session in (5, 6):
                self.ok(d.bind(session, session - 5))
                d.enable(session - 5)
            d.disable(0)
            d.close()
            self.no_worker_is_left()
            self.listeners.pop(7).close()
            wait_for('descriptors to be closed', lambda: self.mediator.fds() == before)


class AnyOrder(ChannelCase):
    """Sessions, channels, kills and resets in any order: in the end everything is free, and nothing is left."""

    SESSIONS = CHANNELS = 4

    def step(self, d, rolls):
        session, channel = rolls.randrange(1, 1 + self.SESSIONS), rolls.randrange(self.CHANNELS)
        what = rolls.randrange(24)
        if what < 4:
            d.ask(link.named(OPEN, session))
        elif what < 9:
            d.bind(session, channel)
        elif what < 14:
            d.enable(channel)
        elif what < 18:
            d.disable(channel)
        elif what < 20:
            d.ask(link.named(CLOSE, session))
        elif what < 22:
            self.mediator.start_as(rolls.choice(('', '', 'slow 0.1', 'leave', 'mute', 'exit 1')))
        elif what < 23:
            for pid in rolls.sample(self.mediator.workers(), min(1, len(self.mediator.workers()))):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        else:
            d.reset()

    def in_the_end(self, d):
        self.mediator.start_as('')
        for session in range(1, 1 + self.SESSIONS):
            d.ask(link.named(CLOSE, session))
        for channel in range(self.CHANNELS):
            d.disable(channel)
        waiting = {link.State(channel, d.serials[channel], FREE, 0) for channel in range(self.CHANNELS)}
        while waiting:
            waiting.discard(d.states.pop(0) if d.states
                            else link.State(*link.CHANNEL_BODY.unpack(d.expect(link.CHANNEL_STATE).payload)))
        # 304 and error 7 are over when workers start again.
        self.opened(d, *range(1, 1 + self.SESSIONS))
        for n in range(self.CHANNELS):
            wait_for('a worker', lambda: d.ask(say_in(n + 1, 'pid')).status == 0)
            self.ok(d.bind(n + 1, n))
            d.enable(n)
            d.expect_state(n, ACTIVE)

    def test_any_order(self):
        before = self.mediator.fds()
        for seed in range(6):
            with self.subTest(seed=seed):
                self.mediator.start_as('')
                d = self.windowed()
                rolls = random.Random(seed)
                for _ in range(150):
                    self.step(d, rolls)
                self.in_the_end(d)
                d.close()
                self.listeners.pop(7).close()
                self.no_worker_is_left()
                wait_for('descriptors to be closed', lambda: self.mediator.fds() == before)
        self.assertEqual(self.mediator.lines('violation'), [])


class Lies(ChannelCase):
    """W7: a worker that says what it was not asked, or of what it does not have, is killed; its channel is fatal."""

    def lies(self, how, reason, command='break '):
        d = self.active(self.windowed())
        count = len(self.mediator.lines('worker-kill'))
        seq = d.submit(say_in(5, command + how))
        self.assertEqual(d.response(seq).status, 719)
        if not d.states:
            d.expect_state(0, FATAL, link.SESSION_LOST)
        else:
            self.assertEqual(d.states[-1].state, FATAL)
        self.assertIn(reason, self.mediator.wait_line('worker-kill', count + 1)['reason'])
        d.close()
        self.no_worker_is_left()

    def test_channels(self):
        for how, reason in (
                ('channel=0,1,0', 'nobody asked'), ('channel=0,0,0', 'nobody asked'),
                ('channel=1,1,0', 'does not have'), ('channel=1,0,0', 'does not have'),
                ('channel=1,2,1', 'does not have'), ('channel=4,2,1', 'does not have'),
                ('channel=4294967295,2,1', 'does not have'), ('channel=0,3,0', 'unknown state'),
                ('channel=0,2,0', 'not a worker'), ('channel=0,2,4', 'not a worker'), ('channel=0,2,5', 'not a worker'),
                ('channel=0,2,7', 'not a worker'), ('channel=0,2,4294967295', 'not a worker'),
                ('twice=0,2,1', 'second time'),
                ('channel-short', 'too long or too short'), ('channel-long', 'too long or too short'),
                ('channel-reserved', 'reserved'), ('attach', 'too long or too short'), ('fds', 'descriptors')):
            with self.subTest(how=how):
                self.lies(how, reason)

    def test_extents(self):
        for how, reason in (
                ('want=0,0,0,0,0', 'malformed'), ('want=0,65535,0,0,0', 'malformed'),
                ('want=65536,65536,0,0,0', 'malformed'), ('want=0,65536,1,0,0', 'malformed'),
                ('want=0,65536,0,1,0', 'malformed'), ('want=0,65536,0,0,1', 'malformed'),
                ('give=2097152,65536,0,0,0', 'does not have'), ('give=0,0,0,0,0', 'does not have'),
                ('give=18446744073709551615,65536,0,0,0', 'does not have'), ('give=0,65536,0,0,1', 'reserved')):
            with self.subTest(how=how):
                self.lies(how, reason)

    def test_without_a_window(self):
        """A worker that was never given a channel has nothing to say of one."""
        d = self.windowed()
        for session, how in enumerate(('channel=0,1,0', 'channel=0,2,1', 'want=0,65536,0,0,0',
                                       'give=2097152,65536,0,0,0'), 1):
            self.opened(d, session)
            self.assertEqual(d.ask(say_in(session, 'break ' + how)).status, 719)

    def test_another_sessions_channel(self):
        d = self.active(self.windowed())
        self.active(d, 6, 1)
        self.assertEqual(d.ask(say_in(6, 'break channel=0,2,1')).status, 719)
        if not d.states:
            d.expect_state(1, FATAL, link.SESSION_LOST)
        self.worker_pid(d)  # and the first session did not notice
        d.disable(0)
        self.assertEqual([s.state for s in d.states if s.channel == 0], [])
        d.states = []
        d.expect_state(0, FREE)


class Extents(ChannelCase):
    """G14, G6: the arena's book."""

    GRANULE = 0x10000

    def test_take_and_give(self):
        d = self.active(self.windowed())  # 16 MiB, of which four channels take 2
        first = 4 * link.CHANNEL_BYTES
        room = 16 * MIB - first
        offset, size, free, dirty = self.told(d, 'extent %d' % MIB)
        self.assertEqual((offset, size, free, dirty), (first, MIB, room - MIB, 1))  # a device's memory may be written to
        offset, size, free, dirty = self.told(d, 'extent %d' % room)
        self.assertEqual((size, free), (0, room - MIB))  # no room, and how much there is
        self.assertEqual(self.told(d, 'extent %d' % (room - MIB))[:3], [first + MIB, room - MIB, 0])
        self.fake(d, 'give %d %d' % (first, MIB))
        self.assertEqual(self.told(d, 'extent %d' % self.GRANULE)[0], first)
        self.mediator.signal(signal.SIGUSR1)
        line = self.mediator.wait_line('status', vm=7)
        self.assertEqual((int(line['arena']), int(line['arena_used']), line['extents_refused']),
                         (room, room - MIB + self.GRANULE, '1'))

    def test_g6_dirty(self):
        """What we made and nobody has used is clean; a second time it is not."""
        d = self.active(self.client())
        offset, size, _, dirty = self.told(d, 'extent %d' % MIB)
        self.assertEqual(dirty, 0)
        self.fake(d, 'give %d %d' % (offset, size))
        self.assertEqual(self.told(d, 'extent %d' % self.GRANULE)[3], 1)
        self.assertEqual(self.told(d, 'extent %d' % (2 * MIB))[3], 1)  # it begins in what was used
        self.assertEqual(self.told(d, 'extent %d' % MIB)[3], 0)

    def test_g6_free_only_when_reaped(self):
        d = self.active(self.windowed())
        room = 16 * MIB - 4 * link.CHANNEL_BYTES
        self.told(d, 'extent %d' % room)
        self.active(d, 6, 1)
        self.assertEqual(self.told(d, 'extent %d' % self.GRANULE, 6)[1], 0)
        self.fake(d, 'stubborn')
        pid = [int(l['pid']) for l in self.mediator.lines('worker-start') if l['session'] == '0x5'][0]
        self.ok(d.ask(link.named(CLOSE, 5)))
        self.assertEqual(self.told(d, 'extent %d' % self.GRANULE, 6)[1], 0)
        wait_for('room', lambda: self.told(d, 'extent %d' % room, 6)[1] == room)
        self.assertNotIn(pid, self.mediator.workers())

    def test_no_other_sessions(self):
        d = self.active(self.windowed())
        offset, size, *_ = self.told(d, 'extent %d' % MIB)
        self.active(d, 6, 1)
        self.assertEqual(d.ask(say_in(6, 'break give=%d,%d,0,0,0' % (offset, size))).status, 719)
        self.fake(d, 'give %d %d' % (offset, size))

    def test_not_in_parts(self):
        d = self.active(self.windowed())
        offset, size, *_ = self.told(d, 'extent %d' % MIB)
        self.assertEqual(d.ask(say_in(5, 'break give=%d,%d,0,0,0' % (offset, size - self.GRANULE))).status, 719)

    def test_at_most_1024(self):
        d = self.active(self.windowed(window_bytes=128 * MIB))
        for i in range(1024):
            self.assertEqual(self.told(d, 'extent %d' % self.GRANULE)[1], self.GRANULE, i)
        self.assertEqual(self.told(d, 'extent %d' % self.GRANULE)[1], 0)
        self.active(d, 6, 1)  # the room is the others' to have
        self.assertEqual(self.told(d, 'extent %d' % self.GRANULE, 6)[1], self.GRANULE)

    def test_kept_over_a_reset_of_the_channel(self):
        """Extents are the session's, not the channel's."""
        d = self.active(self.windowed())
        offset, size, *_ = self.told(d, 'extent %d' % MIB)
        d.disable(0)
        d.expect_state(0, FREE)
        self.assertNotEqual(self.told(d, 'extent %d' % MIB)[0], offset)
        self.fake(d, 'give %d %d' % (offset, size))


if __name__ == '__main__':
    unittest.main()
