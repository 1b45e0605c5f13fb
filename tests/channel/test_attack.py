#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that writes anything anywhere in its window while others work (G9, G13, G16, G19), and what the next owner finds (G6)."""

import random
import unittest

from rig import ATTACK, SCRUB, ChannelCase, Program

SECONDS = 8


class Attack(ChannelCase):
    # What an attacker is tricked into allocating is his user's.
    config = "[limits]\nmemory = 8G\n"

    def attack(self, mode):
        seed = random.randrange(1, 1 << 32)
        print("%s --seed %d" % (mode, seed))
        victims = [self.fast("count", "--wait", "--seconds", str(SECONDS)) for _ in range(2)]
        for victim in victims:
            victim.line("READY")
        attacker = Program(self, ATTACK, mode, "--seconds", str(SECONDS), "--seed", str(seed))
        for victim in victims:
            victim.go()
        for victim in victims:
            found = victim.result()
            self.assertEqual(found["counter"], found["posted"])
        found = attacker.result()
        print(" ".join("%s=%s" % item for item in found.items()))
        self.assertGreater(int(found["resets"]), 0)
        fatal = sum(int(found[key]) for key in ("bad_tail", "bad_record", "bad_head"))
        self.assertGreater(fatal, 0, "no rule was broken that the worker noticed")
        self.check_next_client()
        self.wait_no_workers()

    def test_own_channel(self):
        """A session beside it on the same window, and other tenants, stay right; its channel works again after each reset."""
        self.attack("channel")

    def test_whole_window(self):
        """All channels and the arena: other tenants stay right."""
        self.attack("window")

    def test_scrubbed(self):
        """G6: the next owner of channel and arena finds zeroes."""
        found = Program(self, SCRUB, "both").result()
        self.assertEqual(found["left"], "0")
        self.assertGreater(int(found["bytes"]), 1 << 20)


if __name__ == "__main__":
    unittest.main()
