#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`vgpu-admin doctor` on hosts that are made of files: what it says of each, and that it says what to do."""

import json
import os
import socket
import unittest

from rig import ADMIN, FAILED, OK, Case

UUID = '00000000-1111-2222-3333-444444444444'
PROBE = json.dumps({'backend': 'software', 'gpu': 0, 'name': 'vgpu software GPU', 'uuid': UUID,
                    'total_memory_bytes': 1 << 30})


class DoctorCase(Case):
    """A host in a folder: /proc, /sys, /dev, a configuration and a worker, all in order; no NVIDIA GPU."""

    def setUp(self):
        super().setUp()
        self.root = os.path.join(self.folder, 'root')
        self.write('/proc/self/uid_map', '         0          0 4294967295\n')
        self.write('/proc/sys/kernel/seccomp/actions_avail', 'kill_process trap errno allow\n')
        self.write('/sys/fs/cgroup/cgroup.controllers', 'cpu memory pids\n')
        self.limits(32768)
        self.write('/run/vms/keep', '')
        os.chmod(self.root + '/run/vms', 0o770)
        self.config('')
        self.worker('echo %s' % "'%s'" % PROBE)

    def write(self, path, text, mode=0o644):
        path = self.root + path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as f:
            f.write(text)
        os.chmod(path, mode)

    def limits(self, files, memory='8388608'):
        text = 'Limit  Soft Limit  Hard Limit  Units\nMax locked memory  %s  %s  bytes\nMax open files  1024  %s  files\n'
        for pid in ('self', str(self.server.status['pid'])):
            self.write('/proc/%s/limits' % pid, text % (memory, memory, files))

    def config(self, text, watch='watch = /run/vms\n'):
        self.write('/mediator.conf', '[mediator]\n' + watch + text)

    def worker(self, script):
        self.write('/worker', '#!/bin/sh\n%s\n' % script, 0o755)

    def doctor(self, status=OK, *more):
        done = self.admin('--json', 'doctor', '--root', self.root, '--config', self.root + '/mediator.conf', '--worker',
                          self.root + '/worker', *more, status=status)
        said = json.loads(done.stdout)
        self.assertEqual([said[l] for l in ('ok', 'warn', 'bad')],
                         [sum(c['level'] == l for c in said['checks']) for l in ('ok', 'warn', 'bad')])
        for c in said['checks']:
            self.assertEqual(c['level'] == 'ok', c['remedy'] is None, c)
        self.checks = said['checks']
        return said

    def said(self, check, level, words):
        found = [c for c in self.checks if c['check'] == check and c['level'] == level and words in c['text']]
        self.assertTrue(found, 'no %s %s with %r in %s' % (level, check, words,
                                                           json.dumps(self.checks, indent=1)))
        return found[0]


class Healthy(DoctorCase):
    def test_all_is_well(self):
        said = self.doctor()
        self.assertEqual(said['bad'], 0)
        self.said('mediator', 'ok', 'vgpu-mediator 0.1.0, process')
        self.said('watch', 'ok', '0 sockets of devices')
        self.said('kernel', 'ok', 'Linux')
        self.said('memfd', 'ok', 'sealed')
        self.said('nofile', 'ok', '32768 open files')
        self.said('nvidia', 'ok', 'no NVIDIA GPU here')
        self.said('gpu', 'ok', 'vgpu software GPU, 1G')
        self.said('uids', 'ok', '1900000000 to 1900000511')

    def test_text(self):
        done = self.admin('doctor', '--root', self.root, '--config', self.root + '/mediator.conf', '--worker',
                          self.root + '/worker')
        lines = done.stdout.splitlines()
        self.assertRegex(lines[-1], r'^\d+ ok, \d+ to look at, 0 bad$')
        for line in lines[:-1]:
            self.assertRegex(line, r'^(ok|warn|bad) +[a-z]+ +\S|^ {18}-> \S')

    def test_real_host(self):
        """With the built worker, on this machine: whatever it finds, it comes to an end and says a verdict."""
        done = self.admin('doctor', status=OK)
        self.assertRegex(done.stdout, r'(?m)^ok +worker .*vgpu-worker runs$')
        self.assertRegex(done.stdout, r'(?m)^ok +gpu +software GPU 0')


class Mediator(DoctorCase):
    def test_none(self):
        self.server.close()
        self.server = None
        self.doctor(FAILED)
        self.assertIn('systemctl start', self.said('mediator', 'bad', 'no mediator at')['remedy'])

    def test_reader(self):
        self.server.status['may_change'] = False
        self.doctor()
        self.assertIn('admin_group', self.said('control', 'warn', 'you may read')['remedy'])

    def test_denied(self):
        self.server.script = [b'{"id": null, "ok": false, "error": {"code": "denied", "message": "not you"}}\n']
        self.doctor(FAILED)
        self.assertIn('readers = yes', self.said('mediator', 'bad', 'not you')['remedy'])

    def test_folder_that_anybody_writes(self):
        os.chmod(self.folder, 0o777)
        self.doctor(FAILED)
        self.said('control', 'bad', 'can be written by everybody')

    def test_other_version(self):
        self.server.status['version'] = '0.0.9'
        self.doctor()
        self.said('mediator', 'warn', 'it is version 0.0.9')

    def test_registry_in_trouble(self):
        self.server.status['registry'] = {'path': '/r.db', 'state': 'the disk is full', 'schema': 1, 'changes': 0}
        self.doctor(FAILED)
        self.said('registry', 'bad', 'the disk is full')


class Config(DoctorCase):
    def test_mistake_is_named_with_its_line(self):
        self.config('no_such_key = 1\n')
        self.doctor(FAILED)
        self.said('config', 'bad', 'mediator.conf:3')

    def test_none(self):
        os.unlink(self.root + '/mediator.conf')
        self.doctor()
        self.said('config', 'warn', 'one software GPU serves every VM')
        self.said('watch', 'warn', 'names no directory')


class Watch(DoctorCase):
    """docs/link.md L14."""

    def test_missing_and_not_a_directory(self):
        self.config('watch = /none\nwatch = /worker\n')
        self.doctor(FAILED)
        self.said('watch', 'bad', 'No such file')
        self.said('watch', 'bad', 'is no directory')

    def test_written_by_everybody(self):
        os.chmod(self.root + '/run/vms', 0o777)
        self.doctor(FAILED)
        self.assertIn('chmod o-w', self.said('watch', 'bad', 'written by everybody')['remedy'])
        os.chmod(self.root + '/run/vms', 0o1777)
        self.doctor()

    def listen(self, name):
        s = socket.socket(socket.AF_UNIX)
        self.addCleanup(s.close)
        s.bind(os.path.join(self.root, 'run/vms', name))
        s.listen(1)

    def test_names_and_kinds(self):
        self.listen('vm-7.sock')
        self.listen('vm-007.sock')
        self.listen('vm-x.sock')
        self.write('/run/vms/vm-9.sock', '')
        self.doctor()
        self.said('watch', 'ok', '1 sockets of devices')
        self.said('watch', 'warn', 'vm-007.sock: it is passed over: the name')
        self.said('watch', 'warn', 'vm-x.sock: it is passed over')
        self.said('watch', 'warn', 'vm-9.sock: it is passed over: it is no socket')

    def test_a_socket_that_nobody_serves(self):
        """Needs the real /proc/net/unix: so without --root."""
        vms = os.path.join(self.root, 'run/vms')
        self.config('', watch='watch = %s\n' % vms)
        self.listen('vm-7.sock')
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(os.path.join(vms, 'vm-8.sock'))
        dead.close()
        done = self.admin('--json', 'doctor', '--config', self.root + '/mediator.conf', '--worker', self.root + '/worker')
        self.checks = json.loads(done.stdout)['checks']
        self.said('watch', 'warn', 'vm-8.sock: nobody listens there')
        self.said('watch', 'ok', '1 sockets of devices')

    @unittest.skipIf(os.geteuid() != 0, 'only root can give a file away')
    def test_owner(self):
        self.listen('vm-7.sock')
        os.chown(self.root + '/run/vms', 12345, 0)
        self.doctor()
        self.said('watch', 'warn', 'vm-7.sock: it is not trusted')
        os.chown(self.root + '/run/vms', 0, 0)
        os.chown(self.root + '/run/vms/vm-7.sock', 54321, 0)
        self.doctor()
        self.said('watch', 'ok', '1 sockets of devices')  # in root's folder it is anybody's
        os.chown(self.root + '/run/vms', 12345, 0)
        os.chown(self.root + '/run/vms/vm-7.sock', 12345, 0)
        self.doctor()
        self.said('watch', 'ok', '1 sockets of devices')


class Host(DoctorCase):
    def test_few_descriptors(self):
        self.limits(1024)
        self.doctor()
        self.assertIn('LimitNOFILE=17152', self.said('nofile', 'warn', 'only 1024')['remedy'])

    def test_no_locked_memory(self):
        self.limits(32768, '0')
        self.doctor()
        self.said('memlock', 'warn', 'no memory at all')

    def test_user_namespace(self):
        self.write('/proc/self/uid_map', '0 100000 65536\n')
        self.doctor()
        self.said('uids', 'warn', 'lacks the uids 1900000000')
        self.config('worker_uid_base = 1000\n')
        self.doctor()
        self.said('uids', 'ok', '1000 to 1511')

    def test_no_cgroup(self):
        os.unlink(self.root + '/sys/fs/cgroup/cgroup.controllers')
        self.doctor()
        self.said('cgroup', 'warn', 'no cgroup file system')

    def test_kvm(self):
        self.doctor()
        self.said('kvm', 'warn', 'there is no /dev/kvm')
        self.write('/dev/kvm', '')
        self.doctor()
        self.said('kvm', 'warn', 'is not KVM')


class Gpus(DoctorCase):
    def card(self, driver=True, nodes=('nvidiactl', 'nvidia-uvm', 'nvidia0'), mode=0o666, libcuda=True):
        self.write('/sys/bus/pci/devices/0000:01:00.0/vendor', '0x10de\n')
        self.write('/sys/bus/pci/devices/0000:01:00.0/class', '0x030200\n')
        self.write('/sys/bus/pci/devices/0000:01:00.1/vendor', '0x10de\n')
        self.write('/sys/bus/pci/devices/0000:01:00.1/class', '0x040300\n')
        if driver:
            self.write('/proc/driver/nvidia/version', 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.1\n')
        for n in nodes:
            self.write('/dev/' + n, '', mode)
        if libcuda:
            self.write('/usr/lib/x86_64-linux-gnu/libcuda.so.1', '')

    def test_in_order(self):
        self.card()
        self.write('/sys/module/nvidia_uvm/parameters/uvm_disable_hmm', 'Y\n')
        self.doctor()
        self.said('nvidia', 'ok', '550.1')
        self.said('nvidia', 'ok', '/dev/nvidia0')
        self.said('libcuda', 'ok', 'libcuda.so.1')
        self.said('pageable', 'ok', 'cannot reach')

    def test_no_driver(self):
        self.card(driver=False)
        self.doctor()
        self.said('nvidia', 'warn', '1 NVIDIA GPUs, and no driver')
        self.config('[pool A]\ngpus = 0\n')
        self.doctor(FAILED)
        self.said('nvidia', 'bad', 'no driver')

    def test_missing_nodes_library_and_modes(self):
        self.card(nodes=('nvidiactl', 'nvidia0'), mode=0o660, libcuda=False)
        self.doctor(FAILED)
        self.said('nvidia', 'bad', '/dev/nvidia-uvm is missing')
        self.said('nvidia', 'bad', '/dev/nvidia0 has mode 0660')
        self.said('libcuda', 'bad', "none of the loader's folders")
        os.chmod(self.root + '/dev/nvidia0', 0o664)
        self.doctor(FAILED)
        self.said('nvidia', 'bad', '/dev/nvidia0 has mode 0664')

    def test_pageable_access(self):
        self.card()
        self.write('/sys/module/nvidia_uvm/parameters/uvm_disable_hmm', 'N\n')
        self.doctor()
        self.assertIn('uvm_disable_hmm=1', self.said('pageable', 'warn', 'may reach')['remedy'])
        self.config('allow_pageable_access = yes\n')
        self.doctor()
        self.said('pageable', 'warn', "write its worker's memory")

    def test_configured_and_not_there(self):
        self.config('[pool A]\ngpus = 0\n')
        self.doctor(FAILED)
        self.said('nvidia', 'bad', 'this host has no NVIDIA GPU')

    def test_worker(self):
        cases = [('exit 3', ''), ('echo broken >&2; exit 1', 'broken'), ('kill -9 $$', 'signal 9'),
                 ('exec /none/there', 'not found')]
        for script, words in cases:
            with self.subTest(script):
                self.worker(script)
                self.doctor(FAILED)
                self.said('worker', 'bad', words)
        os.unlink(self.root + '/worker')
        self.doctor(FAILED)
        self.said('worker', 'bad', 'cannot be run')

    def test_what_the_worker_says_of_a_gpu(self):
        self.card()
        self.worker("""echo '{"backend": "cuda", "gpu": 0, "unusable": "it can reach pageable memory"}'
echo 'vgpu-worker: backend x: nothing' >&2
yes | head -c 100000""")
        self.doctor(FAILED)
        self.said('gpu', 'bad', 'cuda GPU 0 cannot be used: it can reach pageable memory')
        self.said('gpu', 'bad', 'backend x')


if __name__ == '__main__':
    unittest.main()
