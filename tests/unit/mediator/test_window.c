/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Windows: their shapes, what a local client gets, and what is taken from a device. That nothing is
 * left open the teardown of every test looks after.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/sys.h"
#include "mediator/window.h"
#include "vgpu_test.h"

#define MIB ((uint64_t)1 << 20)

static void test_shape(void **state)
{
    (void)state;
    assert_null(vgpu_window_shape(MIB, 1, VGPU_CHANNEL_BYTES));
    assert_null(vgpu_window_shape(VGPU_WINDOW_BYTES_MAX, 64, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(MIB, 2, VGPU_CHANNEL_BYTES)); /* L15: more than channels */
    assert_null(vgpu_window_shape(2 * MIB, 3, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(0, 0, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(MIB / 2, 1, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(MIB + 1, 1, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(2 * VGPU_WINDOW_BYTES_MAX, 1, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(UINT64_MAX, 1, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(64 * MIB, 0, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(64 * MIB, 65, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(64 * MIB, UINT32_MAX, VGPU_CHANNEL_BYTES));
    assert_non_null(vgpu_window_shape(64 * MIB, 1, VGPU_CHANNEL_BYTES * 2));
}

/* Whatever is wished for: a window that can be, within what one may have. */
static void test_choose(void **state)
{
    (void)state;
    static const uint64_t bytes[] = {0,         1,         MIB,        MIB + 1,   3 * MIB,
                                     256 * MIB, 257 * MIB, 1ull << 63, UINT64_MAX};
    static const uint32_t channels[] = {0, 1, 2, 3, 4, 15, 16, 17, 64, UINT32_MAX};
    for (uint64_t most = VGPU_WINDOW_BYTES_MIN; most <= VGPU_WINDOW_BYTES_MAX; most *= 2)
        for (unsigned b = 0; b < sizeof(bytes) / sizeof(bytes[0]); b++)
            for (unsigned c = 0; c < sizeof(channels) / sizeof(channels[0]); c++) {
                uint64_t size = 0;
                uint32_t count = 0;
                vgpu_window_choose(bytes[b], channels[c], most, &size, &count);
                assert_null(vgpu_window_shape(size, count, VGPU_CHANNEL_BYTES));
                assert_true(size <= most && count <= VGPU_WINDOW_LOCAL_CHANNELS_MAX);
                assert_true(size >= bytes[b] || size == most);
                assert_true(count >= channels[c] || count == VGPU_WINDOW_LOCAL_CHANNELS_MAX ||
                            size == most);
            }
    uint64_t size;
    uint32_t count;
    vgpu_window_choose(0, 0, 256 * MIB, &size, &count);
    assert_int_equal(size, 256 * MIB);
    assert_int_equal(count, VGPU_WINDOW_LOCAL_CHANNELS);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_make(void **state)
{
    (void)state;
    struct vgpu_window *w = vgpu_window_create(16 * MIB, 9);
    uint32_t files = vgpu_window_descriptors(9);
    w->counted = &files;
    assert_non_null(w);
    assert_false(vgpu_window_complete(w));
    assert_int_equal(vgpu_window_make(w), 0);
    assert_true(vgpu_window_complete(w));
    int memory = w->memory, last = w->channels[8].interrupt;
    assert_true(ftruncate(memory, 0) < 0 && ftruncate(memory, 1 << 30) < 0);
    assert_true(fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE) < 0);
    struct vgpu_link_window m;
    int fds[VGPU_LINK_MAX_FDS];
    assert_int_equal(vgpu_window_message(w, true, 0, &m, fds), 1);
    assert_true(fds[0] == memory && !m.channels && !m.first && m.window_bytes == 16 * MIB);
    assert_int_equal(vgpu_window_message(w, false, 0, &m, fds), 16);
    assert_true(m.first == 0 && m.channels == 8 && fds[15] == w->channels[7].interrupt);
    assert_int_equal(vgpu_window_message(w, false, 8, &m, fds), 2);
    assert_true(m.first == 8 && m.channels == 1 && fds[0] == w->channels[8].doorbell);
    vgpu_window_drop(vgpu_window_use(w));
    assert_true(is_open(memory) && files);
    vgpu_window_drop(w);
    assert_true(!is_open(memory) && !is_open(last) && !files);
    vgpu_window_drop(NULL);
}

/* --- from a device --- */

static int make_memory(uint64_t bytes)
{
    int fd = vgpu_memfd_create("window", VGPU_MFD_CLOEXEC | VGPU_MFD_ALLOW_SEALING);
    assert_true(fd >= 0 && !ftruncate(fd, (off_t)bytes));
    assert_false(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL));
    return fd;
}

static const char *take(struct vgpu_window *w, uint32_t first, uint32_t channels, const int *fds,
                        uint32_t fd_count)
{
    const struct vgpu_link_window m = {.window_bytes = w->bytes,
                                       .channel_count = w->channel_count,
                                       .channel_bytes = VGPU_CHANNEL_BYTES,
                                       .first = first,
                                       .channels = channels};
    return vgpu_window_take(w, &m, fds, fd_count);
}

static const char *take_events(struct vgpu_window *w, uint32_t first, uint32_t channels)
{
    int fds[VGPU_LINK_MAX_FDS];
    for (uint32_t i = 0; i < 2 * channels; i++)
        assert_true((fds[i] = eventfd(0, EFD_CLOEXEC)) >= 0);
    return take(w, first, channels, fds, 2 * channels);
}

static void test_take(void **state)
{
    (void)state;
    struct vgpu_window *w = vgpu_window_create(16 * MIB, 9);
    int memory = make_memory(16 * MIB);
    assert_null(take(w, 0, 0, &memory, 1));
    assert_null(take_events(w, 0, 8));
    assert_false(vgpu_window_complete(w));
    assert_null(take_events(w, 8, 1));
    assert_true(vgpu_window_complete(w));
    /* They may block no worker, whatever the device made of them. */
    assert_true(fcntl(w->channels[8].doorbell, F_GETFL) & O_NONBLOCK);
    /* Everything after that is too much, and is closed. */
    memory = make_memory(16 * MIB);
    assert_non_null(take(w, 0, 0, &memory, 1));
    assert_false(is_open(memory));
    assert_non_null(take_events(w, 0, 1));
    /* Its memory is dirty. */
    struct vgpu_arena_holder h;
    uint64_t offset;
    bool dirty = false;
    vgpu_arena_holder_init(&h);
    assert_int_equal(vgpu_arena_take(w->arena, &h, VGPU_ARENA_GRANULE, &offset, &dirty), 0);
    assert_true(dirty);
    assert_int_equal(offset, 9 * VGPU_CHANNEL_BYTES);
    vgpu_arena_release(w->arena, &h);
    vgpu_window_drop(w);
}

/* What a device may have instead of a sealed memory file of the right size. */
static void test_wrong_memory(void **state)
{
    (void)state;
    int pipes[2];
    assert_false(pipe(pipes));
    int read_write = make_memory(16 * MIB);
    char name[40];
    snprintf(name, sizeof(name), "/proc/self/fd/%d", read_write);
    int unsealed = vgpu_memfd_create("window", VGPU_MFD_CLOEXEC | VGPU_MFD_ALLOW_SEALING);
    assert_false(ftruncate(unsealed, (off_t)(16 * MIB)));
    int path = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    assert_true(path >= 0);
    const int wrong[] = {pipes[0],
                         pipes[1],
                         eventfd(0, EFD_CLOEXEC),
                         make_memory(8 * MIB),
                         make_memory(32 * MIB),
                         make_memory(0),
                         unsealed,
                         open("/dev/zero", O_RDWR | O_CLOEXEC),
                         open("/", O_RDONLY | O_CLOEXEC),
                         open(name, O_RDONLY | O_CLOEXEC),
                         path,
                         -1};
    for (unsigned i = 0; wrong[i] >= 0; i++) {
        struct vgpu_window *w = vgpu_window_create(16 * MIB, 4);
        assert_non_null(take(w, 0, 0, &wrong[i], 1));
        assert_false(is_open(wrong[i]));
        vgpu_window_drop(w);
    }
    close(read_write);
}

static void test_same_memory(void **state)
{
    (void)state;
    struct vgpu_window *a = vgpu_window_create(16 * MIB, 1), *b = vgpu_window_create(16 * MIB, 1);
    struct vgpu_window *c = vgpu_window_create(16 * MIB, 1);
    int memory = make_memory(16 * MIB), again = dup(memory), other = make_memory(16 * MIB);
    assert_false(vgpu_window_same_memory(a, b)); /* neither has any */
    assert_null(take(a, 0, 0, &memory, 1));
    assert_null(take(b, 0, 0, &again, 1));
    assert_null(take(c, 0, 0, &other, 1));
    assert_true(vgpu_window_same_memory(a, b));
    assert_false(vgpu_window_same_memory(a, c));
    vgpu_window_drop(a);
    vgpu_window_drop(b);
    vgpu_window_drop(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST(test_shape), VGPU_TEST(test_choose),       VGPU_TEST(test_make),
        VGPU_TEST(test_take),  VGPU_TEST(test_wrong_memory), VGPU_TEST(test_same_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
