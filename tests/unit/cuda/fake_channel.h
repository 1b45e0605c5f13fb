/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel for the fake host: the library's own end of it, and a thread with the other end of the
 * rings that hands calls to fake.c. Like a GPU it lags behind: what was sent runs some time later,
 * in order, with whatever then is in the window. So memory that is used again too early is seen.
 */
#ifndef VGPU_TEST_CUDA_FAKE_CHANNEL_H
#define VGPU_TEST_CUDA_FAKE_CHANNEL_H

#include "fake.h"
#include "guest/channel.h"

#define FAKE_WINDOW_BYTES (40u << 20)
#define FAKE_ARENA_BYTES  (FAKE_WINDOW_BYTES - VGPU_CHANNEL_BYTES)

/* As fake_setup_current, with a fresh channel. A cmocka setup function; the other ends it. */
int fake_channel_setup(void **state);
int fake_channel_teardown(void **state);

/* Nothing runs while it is true. */
void fake_channel_stop(bool stopped);
/* How many calls may wait before the oldest runs. */
void fake_channel_set_lag(unsigned calls);
/* The host gives the channel up. */
void fake_channel_kill(void);
/* Bytes of the arena that are given out now. */
uint64_t fake_channel_arena_used(void);
unsigned fake_channel_arena_extents(void);
/* Where it is in the window; UINT64_MAX: not there. */
uint64_t fake_channel_offset(const void *address);
/* Calls so far that named bytes of the window that were nobody's. */
unsigned fake_channel_strays(void);

#endif
