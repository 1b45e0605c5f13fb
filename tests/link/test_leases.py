#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases between VMs through the whole mediator: docs/worker.md W4 and W5, docs/mediator.md on the scheduler."""

import json
import unittest

import vgpu_link_device as link
from rig import Case, say, say_in, wait_for


class Leases(Case):
    config = '[pool A]\ngpus = software\n[pool B]\ngpus = software\n[scheduler]\nquantum_ms = 50\nwatchdog_ms = 1000\n'

    def want(self, d, text='want'):
        return int(self.ok(d.ask(say(text))).data.split()[1])

    def state(self, d):
        return json.loads(self.ok(d.ask(say('state'))).data)

    def test_two_vms_take_turns(self):
        a, b = self.device(1), self.device(2)
        numbers = []
        for _ in range(5):
            numbers += [self.want(a), self.want(b)]
        self.assertEqual(numbers, sorted(set(numbers)))  # each turn is a new lease
        self.assertEqual(self.state(a)['lease'], 0)
        self.assertEqual(self.state(b)['lease'], numbers[-1])
        self.assertLessEqual(self.state(a)['recalls'][0][1], 50000)
        b.close()
        line = self.mediator.wait_line('detached')
        self.assertEqual(line['leases'], '5')
        self.assertGreaterEqual(int(line['lease_ms']), 0)

    def test_alone_keeps_it(self):
        a = self.device(1)
        first = self.want(a)
        self.assertEqual(self.want(a), first)
        self.assertEqual(self.state(a)['recalls'], [])

    def test_pools_do_not_wait_for_each_other(self):
        a, b = self.device(1, pool='A'), self.device(2, pool='B')
        first = self.want(a, 'want hold')
        self.assertNotEqual(self.want(b, 'want hold'), first)
        self.assertEqual((self.state(a)['recalls'], self.state(b)['recalls']), ([], []))

    def test_high_priority_recalls_at_once(self):
        low, high = self.device(1, priority=0), self.device(2, priority=2)
        self.want(low)
        self.want(high)
        self.assertEqual(self.state(low)['recalls'][-1][1], 0)
        self.want(low)
        # the rest of its quantum, but for gaps (S4)
        self.assertTrue(0 < self.state(high)['recalls'][-1][1] <= 50000)

    def test_w5_watchdog(self):
        """Who does not return is killed and its session ends with 702; the other goes on."""
        a, b = self.device(1), self.device(2)
        self.want(a, 'want hold')
        self.want(b)  # it waited for the watchdog
        response = a.ask(say('pid'))
        self.assertEqual((response.error, response.status), (5, 702))
        self.assertIn('too long', self.mediator.lines('worker-kill')[0]['reason'])
        self.ok(a.ask(link.named(link.SESSION_CLOSE, 0)))
        self.want(a)

    def test_w5_watchdog_during_a_request(self):
        a, b = self.device(1), self.device(2)
        self.want(a, 'want hold')
        seq = a.submit(say('silent'))
        self.want(b)
        self.assertEqual(a.response(seq).status, 702)

    def test_tenant_shares_its_lease(self):
        """Several sessions of a VM hold one lease; it is free when all have returned it."""
        a, b = self.device(1), self.device(2)
        self.ok(a.ask(link.named(link.SESSION_OPEN, 5)))
        first = self.want(a, 'want hold')
        self.assertEqual(self.ok(a.ask(say_in(5, 'want hold'))).data, b'lease %d' % first)
        seq = b.submit(say('want'))
        wait_for('a recall', lambda: self.state(a)['recalls'])
        self.ok(a.ask(say('return')))
        self.ok(a.ask(say_in(5, 'return')))
        self.assertEqual(b.response(seq).data, b'lease %d' % (first + 1))
        self.assertEqual(self.mediator.lines('worker-kill'), [])

    def test_lease_is_free_when_its_holder_dies(self):
        a, b, c = self.device(1), self.device(2), self.device(3)
        self.want(a, 'want hold')
        seq = b.submit(say('want hold'))
        a.close()  # with the lease in hand
        self.ok(b.response(seq))
        seq = c.submit(say('want'))
        b.reset()
        self.ok(c.response(seq))
        self.assertEqual(self.mediator.lines('worker-kill'), [])

    def test_waiter_that_dies_is_not_waited_for(self):
        a, b, c = self.device(1), self.device(2), self.device(3)
        self.want(a, 'want hold')
        b.submit(say('want'))
        seq = c.submit(say('want'))
        b.close()
        self.ok(a.ask(say('return')))
        self.ok(c.response(seq))


class TwoGpus(Case):
    config = '[pool A]\ngpus = software, software\n'

    def test_tenants_are_spread(self):
        a, b, c = self.device(1), self.device(2), self.device(3)
        for d in (a, b):
            self.ok(d.ask(say('want hold')))
        gpus = [line['gpu'] for line in self.mediator.lines('attached')]
        self.assertEqual(sorted(gpus[:2]), ['0', '1'])
        c.submit(say('want'))
        wait_for('one of the two to be recalled', lambda: any(
            json.loads(self.ok(d.ask(say('state'))).data)['recalls'] for d in (a, b)))


if __name__ == '__main__':
    unittest.main()
