#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which GPUs the pools have, by what vgpu-worker --probe says, and when a card is full: docs/mediator.md, GPUs. The
GPUs are words of a fake worker's."""

import json
import signal
import unittest

import vgpu_link_device as link
from rig import Case, Mediator, say, say_in, wait_for

UUIDS = ['%08x-1111-2222-3333-444444444444' % n for n in range(4)]


def gpu(n, **more):
    return json.dumps(dict({'backend': 'cuda', 'gpu': n, 'name': 'NVIDIA "X"', 'uuid': UUIDS[n],
                            'total_memory_bytes': 4 << 30, 'compute': '9.0', 'multiprocessors': 2}, **more)) + '\n'


class Pools(Case):
    gpus = gpu(0) + gpu(1) + gpu(2, unusable='it can reach pageable memory')
    config = ('[pool A]\nbackend = auto\n[pool B]\ngpus = GPU-%s\n[pool C]\ngpus = 2, 3\n[pool D]\nbackend = auto\n'
              '[pool E]\ngpus = 0\n' % UUIDS[1])

    def args(self, vm_id, pool):
        args = json.loads(self.ok(self.device(vm_id, pool=pool).ask(say('args'))).data)
        return dict(zip(args[::2], args[1::2]))

    def test_each_gpu_is_logged(self):
        lines = {w['index']: w for w in self.mediator.lines('gpu')}
        self.assertEqual(len(lines), 3)
        self.assertEqual((lines['1']['uuid'], lines['1']['usable'], lines['1']['memory_mib'], lines['1']['name']),
                         ('GPU-' + UUIDS[1], 'yes', '4096', r'NVIDIA \"X\"'))
        self.assertEqual((lines['2']['usable'], lines['2']['reason']), ('no', 'it can reach pageable memory'))

    def test_what_is_wrong_is_said(self):
        reasons = '\n'.join(w['reason'] for w in self.mediator.lines('pool'))
        self.assertIn('pool C asks for GPU 2 (NVIDIA', reasons)
        self.assertIn('which cannot be used: it can reach pageable memory', reasons)
        self.assertIn('pool C asks for GPU 3, and this host has 0 (GPU-%s), 1 (GPU-%s), 2 (GPU-%s): mend gpus = in '
                      '[pool C], or the driver' % tuple(UUIDS[:3]), reasons)
        self.assertIn('pool A found no GPU of this host that can be used and that no pool names: it has a software GPU',
                      reasons)
        self.assertEqual(self.mediator.lines('ready')[0]['pools'], 'A B D E')

    def test_what_workers_are_told(self):
        said = self.args(1, 'A')
        self.assertEqual((said['--backend'], said.get('--gpu')), ('software', None))
        said = self.args(2, 'B')
        self.assertEqual((said['--backend'], said['--gpu']), ('cuda', 'GPU-' + UUIDS[1]))
        said = self.args(3, 'E')
        self.assertEqual((said['--backend'], said['--gpu']), ('cuda', '0'))

    def test_pool_without_gpu_refuses(self):
        d = self.dialled(4)
        d.send(link.pack(link.HELLO, link.pack_hello(vm_id=4, pool='C')))
        self.assertIn(b"pool 'C' has no GPU (pools: A B D E)", d.expect(link.REFUSE).payload)

    def test_reload_compares_what_was_asked(self):
        """What the host lacks is no difference between two configurations."""
        self.mediator.signal(signal.SIGHUP)
        self.mediator.wait_line('reload', level='info')
        self.assertEqual(self.mediator.lines('reload', level='warn'), [])
        self.mediator.write_config(self.config.replace('[pool E]\ngpus = 0', '[pool E]\ngpus = none'))
        self.mediator.signal(signal.SIGHUP)
        self.assertIn('pools', self.mediator.wait_line('reload', level='warn')['reason'])


class Card(Case):
    """Contexts count against the card: 4 GiB, of which a context takes 1 and VM 8's memory up to 1.5."""

    gpus = gpu(0)
    config = '[pool A]\ngpus = 0\n[limits]\ncontext_memory = 1G\nmemory = 1536M\n'

    def test_full(self):
        d, other = self.device(7), self.device(8)
        for session in (1, 2):
            self.ok(d.ask(link.named(link.SESSION_OPEN, session)))
        self.ok(d.ask(say_in(1, 'pid')))
        self.ok(other.ask(say('hold %d' % (1 << 40))))  # says more than it may have: counts as what it may
        refused = d.ask(say_in(2, 'pid'))
        self.assertEqual(refused.status, 2)
        self.assertIn(b"the GPU's 4096 MiB are taken: 1536 held, 2 contexts of 1024; a session needs one", refused.data)
        self.assertEqual(self.mediator.wait_line('gpu-full')['vm'], '7')
        self.ok(other.ask(say('hold %d' % (1 << 30))))
        self.ok(d.ask(say_in(2, 'pid')))  # as if nothing had been: it was not that session's fault
        self.ok(d.ask(link.named(link.SESSION_OPEN, 3)))
        self.assertEqual(d.ask(say_in(3, 'pid')).status, 2)
        self.ok(d.ask(link.named(link.SESSION_CLOSE, 1)))
        self.mediator.wait_line('worker-end', session='0x1')
        self.ok(d.ask(say_in(3, 'pid')))

    def test_more_contexts_of_one_session(self):
        d = self.device(7)
        self.ok(d.ask(say('hold 0 4')))
        self.ok(d.ask(link.named(link.SESSION_OPEN, 1)))
        self.assertIn(b'0 held, 4 contexts of 1024', d.ask(say_in(1, 'pid')).data)


class Probes(unittest.TestCase):
    def mediator(self, **kwargs):
        m = Mediator(**kwargs)
        self.addCleanup(lambda: self.assertIsNone(m.stop()))
        return m

    def test_not_asked_without_need(self):
        """Nobody's driver is loaded for software pools."""
        m = self.mediator(config='[pool A]\ngpus = software\n', gpus=gpu(0))
        self.assertEqual(m.lines('gpu'), [])

    def test_it_fails(self):
        m = self.mediator(config='[pool A]\nbackend = auto\n', gpus='exit\n')
        self.assertIn('exited with status 1', m.wait_line('probe')['reason'])
        self.assertEqual(m.wait_line('worker-says', probe='yes')['line'], 'no driver here')
        self.assertEqual(m.lines('ready')[0]['pools'], 'A')

    def test_it_says_nonsense(self):
        m = self.mediator(config='[pool A]\ngpus = 0\n', gpus='nonsense\n' + gpu(0) + 'x' * 200000)
        self.assertIn('not as it should be', m.lines('probe')[0]['reason'])
        self.assertEqual(m.lines('ready')[0]['pools'], 'A')

    def test_pageable_access_is_passed_on(self):
        """To the probe, which decides by it what can be used, and to workers on cuda GPUs."""
        pools = '[pool A]\ngpus = 0\n[pool B]\ngpus = software\n'
        for said in ('yes', 'no'):
            m = self.mediator(config='[mediator]\nallow_pageable_access = %s\n%s' % (said, pools), gpus=gpu(0))
            for pool in 'AB':
                with link.connect(m.listen) as d:
                    d.attach(pool=pool)
                    args = json.loads(d.ask(say('args')).data)
                self.assertEqual('--allow-pageable-access' in args, said == 'yes' and pool == 'A', args)
            with open(m.fake_start + '.probed') as f:
                self.assertEqual('--allow-pageable-access' in f.read(), said == 'yes')

    def test_it_does_not_end(self):
        m = self.mediator(config='[pool A]\nbackend = auto\n[scheduler]\nstart_ms = 1000\n', gpus='sleep\n' + gpu(0))
        self.assertIn('does not end', m.lines('probe')[0]['reason'])
        self.assertEqual(m.lines('ready')[0]['pools'], 'A')
        with link.connect(m.listen) as d:
            d.attach()

    def test_sigterm_while_it_runs(self):
        """The loop is not blocked by it."""
        m = Mediator(config='[pool A]\nbackend = auto\n', gpus='sleep\n', wait=False)
        wait_for('the probe', m.workers)
        m.signal(signal.SIGHUP)
        self.assertIn('still starting', m.wait_line('reload')['reason'])
        m.signal(signal.SIGTERM)
        self.assertEqual(m.process.wait(90), 0)
        self.assertIsNone(m.stop())

    def test_real_probe(self):
        m = self.mediator(config='[pool A]\nbackend = auto\n', real=True)
        self.assertEqual(m.lines('gpu', backend='software')[0]['usable'], 'yes')
        self.assertEqual(m.lines('ready')[0]['pools'], 'A')


if __name__ == '__main__':
    unittest.main()
