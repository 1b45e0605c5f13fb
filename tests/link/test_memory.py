#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The quota of device memory that all sessions of a tenant share: docs/worker.md W9, docs/mediator.md."""

import json
import os
import signal
import struct
import unittest

import vgpu_link_device as link
from rig import Case, say, say_in, wait_for

MIB = 1 << 20


class Accounts(Case):
    """Who has which account and slot, with workers that write into it."""

    config = '[limits]\nmemory = 1M\n'

    def account(self, d, session=0):
        return json.loads(self.ok(d.ask(say_in(session, 'account'))).data)

    def open(self, d, session):
        self.ok(d.ask(link.named(link.SESSION_OPEN, session)))

    def test_w9_one_account_for_all_sessions(self):
        d = self.device()
        for session in (1, 2):
            self.open(d, session)
            self.ok(d.ask(say_in(session, 'hold %d' % (100 + session))))
        account = self.account(d, 1)
        self.assertEqual(account['slots'], [101, 102])
        self.assertTrue(account['sealed'])
        self.assertEqual((account['magic'], account['size']), (0x74636361, 65536 + 4092 * 1024))
        self.assertEqual(self.account(self.device(8))['slots'], [0])  # another VM has its own

    def test_status(self):
        """What a VM holds is in its status line, and no more than it may hold is believed."""
        d = self.device()
        for size, shown in ((4096, 4096), (2**64 - 1, MIB)):
            self.ok(d.ask(say('hold %d' % size)))
            count = len(self.mediator.lines('status-end'))
            self.mediator.signal(signal.SIGUSR1)
            self.mediator.wait_line('status-end', count + 1)
            line = self.mediator.lines('status', vm=7)[-1]
            self.assertEqual((line['memory'], line['quota']), (str(shown), str(MIB)))

    def test_w9_killed_at_any_time(self):
        """What a worker held is free when it is gone, and its slot somebody else's; its neighbour's stays."""
        d = self.device()
        for session in (1, 2):
            self.open(d, session)
            self.ok(d.ask(say_in(session, 'hold 500')))
        self.assertEqual(d.ask(say_in(1, 'die')).status, 719)
        self.mediator.wait_line('worker-end', session='0x1')
        self.assertEqual(self.account(d, 2)['slots'], [0, 500])
        self.open(d, 3)
        self.ok(d.ask(say_in(3, 'hold 7')))
        self.assertEqual(self.account(d, 2)['slots'], [7, 500])

    def test_w9_coming_back_is_no_way_out(self):
        """While a worker of the last connection is ending, what it holds counts."""
        d = self.device()
        self.ok(d.ask(say('hold 300')))
        self.ok(d.ask(say('stubborn')))
        d.close()
        d = self.device()
        self.open(d, 1)
        self.assertEqual(self.account(d, 1)['slots'], [300, 0])
        self.mediator.wait_line('worker-end', session='0x0')
        self.assertEqual(self.account(d, 1)['slots'], [0, 0])

    def test_w9_a_user_has_one_account(self):
        """However many clients a local user connects."""
        a, b = self.local(), self.local()
        a.attach()
        b.attach()
        self.ok(a.ask(say('hold 11')))
        self.ok(b.ask(say('hold 22')))
        self.assertEqual(self.account(a)['slots'], [11, 22])
        a.close()
        wait_for('its end', lambda: self.account(b)['slots'] == [0, 22])


# 256 KiB of variables, in a module that has nothing else.
VARIABLES = b'.version 7.0\n.target sm_75\n.address_size 64\n.visible .global .align 4 .b8 big[262144];\n'


class Quota(Case):
    """The real worker: what a tenant may allocate, over all its sessions."""

    config = '[limits]\nmemory = 1M\n'
    real = True

    def setUp(self):
        super().setUp()
        self.d = self.device()
        for session in (1, 2):
            self.ok(self.d.ask(link.named(link.SESSION_OPEN, session)))

    def ask(self, session, request):
        data = link.named(link.SESSION_REQUEST, session, request) if isinstance(request, bytes) else request(session)
        while True:
            self.request_id = getattr(self, 'request_id', 0) + 1
            response = self.d.ask(data, request_id=self.request_id)
            while response.status == 600:  # not yet: the same again
                response = self.d.ask(data, request_id=self.request_id)
            return response

    def alloc(self, session, size):
        return self.ask(session, link.typed(link.MEMORY_ALLOC, (size & 0xffffffff, size >> 32)))

    def info(self, session):
        """Total and free bytes."""
        return struct.unpack_from('<QQ', self.ok(self.ask(session, link.typed(link.GET_DEVICE_INFO))).data, 96)

    def test_w9_sessions_share(self):
        self.assertEqual(self.info(1), (MIB, MIB))
        first = self.alloc(1, 768 * 1024)
        self.ok(first)
        self.assertEqual(self.info(1), (MIB, 256 * 1024))
        self.assertEqual(self.info(2), (MIB, 256 * 1024))
        refused = self.alloc(2, 256 * 1024 + 1)
        self.assertEqual(refused.status, 2)
        self.assertIn(b'262144 are free', refused.data)
        self.ok(self.alloc(2, 256 * 1024))
        self.assertEqual(self.alloc(1, 1).status, 2)
        self.ok(self.ask(1, link.typed(link.MEMORY_FREE, first.results[:2])))
        self.assertEqual(self.info(2), (MIB, 768 * 1024))
        self.ok(self.alloc(2, 768 * 1024))
        self.assertEqual(self.info(1), (MIB, 0))

    def test_w9_rounding_counts(self):
        """A byte costs 256 (docs/software-backend.md), and an allocation that fits only unrounded is undone."""
        self.ok(self.alloc(1, MIB - 256))
        self.ok(self.alloc(2, 1))
        self.assertEqual(self.info(1), (MIB, 0))
        self.assertEqual(self.alloc(1, 1).status, 2)
        self.assertEqual(self.info(2), (MIB, 0))

    def test_w9_killed_worker_frees(self):
        self.ok(self.alloc(1, MIB))
        self.assertEqual(self.alloc(2, 256).status, 2)
        pid = int(self.mediator.lines('worker-start', session='0x1')[-1]['pid'])
        os.kill(pid, signal.SIGKILL)
        self.mediator.wait_line('worker-end', session='0x1')
        self.assertEqual(self.info(2), (MIB, MIB))
        self.ok(self.alloc(2, MIB))

    def test_w9_module_variables_count(self):
        def load(session):
            return link.named(link.MODULE_LOAD, session, bytes(8) + VARIABLES)
        module = self.ask(1, load)
        self.ok(module)
        self.assertEqual(self.info(2), (MIB, 768 * 1024))
        self.ok(self.alloc(2, 600 * 1024))
        refused = self.ask(1, load)  # loaded, found too big, and gone again
        self.assertEqual(refused.status, 2)
        self.assertIn(b'its variables', refused.data)
        self.assertEqual(self.info(1), (MIB, 168 * 1024))
        unload = struct.pack('<2I', *module.results[:2])
        self.ok(self.ask(1, lambda session: link.named(link.MODULE_UNLOAD, session, unload)))
        self.assertEqual(self.info(1), (MIB, 424 * 1024))


if __name__ == '__main__':
    unittest.main()
