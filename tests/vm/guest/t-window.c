/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The window and the channel registers as programs in a guest see them through the hypervisor (R20
 * to R26), past the library: memory that all of them share, and channels that they compete for. No
 * session is opened, so a channel that is enabled is not bound.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest_test.h"
#include "vgpu/ring.h"

#define PROCESSES   8u
#define PATIENCE_MS 60000u

static volatile uint8_t *bar;

static uint32_t reg(uint32_t at)
{
    return *(volatile uint32_t *)(volatile void *)(bar + at);
}

static void set_reg(uint32_t at, uint32_t value)
{
    *(volatile uint32_t *)(volatile void *)(bar + at) = value;
}

static bool wait_reg(uint32_t at, uint32_t value)
{
    for (unsigned i = 0; i < PATIENCE_MS / 10; i++) {
        if (reg(at) == value)
            return true;
        usleep(10000);
    }
    return false;
}

static volatile uint64_t *map_window(const char *dir, uint64_t bytes)
{
    char path[400];
    snprintf(path, sizeof(path), "%s/resource%u", dir, VGPU_BAR_WINDOW);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_SYNC);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (at == MAP_FAILED)
        guest_say("note        %s: %s", path, strerror(error));
    return at == MAP_FAILED ? NULL : at;
}

static void test_memory(const char *dir, uint64_t bytes)
{
    volatile uint64_t *first = map_window(dir, bytes), *second = map_window(dir, bytes);
    if (!guest_check(first && second, "R20", "the window can be mapped"))
        return;
    const uint64_t at[] = {0, 4096 / 8, bytes / 16, bytes / 8 - 1};
    bool same = true;
    for (unsigned i = 0; i < 4; i++)
        first[at[i]] = 0x1122334455667788u + i;
    for (unsigned i = 0; i < 4; i++)
        same = same && second[at[i]] == 0x1122334455667788u + i;
    guest_check(same, "R20", "and is memory, from its first byte to its last");
    pid_t child = fork();
    if (child == 0) {
        first[1] = 0xC0FFEE;
        _exit(0);
    }
    waitpid(child, NULL, 0);
    guest_check(second[1] == 0xC0FFEE, "R20", "which programs share");
}

static void test_one_channel(uint32_t n)
{
    uint32_t token = (uint32_t)getpid();
    set_reg(VGPU_REG_CHANNEL_CTRL(n), 1);
    guest_check(reg(VGPU_REG_CHANNEL_CTRL(n)) == VGPU_CHANNEL_FREE, "R22",
                "channel %" PRIu32 " is not enabled while nobody has it", n);
    set_reg(VGPU_REG_CHANNEL_OWNER(n), token);
    set_reg(VGPU_REG_CHANNEL_OWNER(n), token + 1);
    guest_check(reg(VGPU_REG_CHANNEL_OWNER(n)) == token, "R21", "the first token stays");
    set_reg(VGPU_REG_CHANNEL_DOORBELL(n), 1);
    guest_check(reg(VGPU_REG_CHANNEL_DOORBELL(n)) == 0, "R25", "a doorbell reads 0");
    set_reg(VGPU_REG_CHANNEL_CTRL(n), 1);
    guest_check(wait_reg(VGPU_REG_CHANNEL_CTRL(n), VGPU_CHANNEL_FATAL) &&
                    reg(VGPU_REG_CHANNEL_ERROR(n)) == VGPU_CHANNEL_NOT_BOUND,
                "G3", "one that no session is bound to is fatal: error %" PRIu32,
                reg(VGPU_REG_CHANNEL_ERROR(n)));
    set_reg(VGPU_REG_CHANNEL_CTRL(n), 1);
    guest_check(reg(VGPU_REG_CHANNEL_CTRL(n)) == VGPU_CHANNEL_FATAL, "R24", "and stays so");
    set_reg(VGPU_REG_CHANNEL_CTRL(n), 0);
    guest_check(wait_reg(VGPU_REG_CHANNEL_CTRL(n), VGPU_CHANNEL_FREE) &&
                    reg(VGPU_REG_CHANNEL_ERROR(n)) == 0 && reg(VGPU_REG_CHANNEL_OWNER(n)) == token,
                "R23", "until it is reset, and the owner has it still");
    set_reg(VGPU_REG_CHANNEL_OWNER(n), 0);
    guest_check(reg(VGPU_REG_CHANNEL_OWNER(n)) == 0, "R21", "it is released");
}

/* Each process takes what it gets; the number it got is its exit status. */
static unsigned grab(uint32_t channels, uint32_t token)
{
    unsigned got = 0;
    for (uint32_t i = 0; i < channels; i++) {
        uint32_t n = (i + token) % channels;
        set_reg(VGPU_REG_CHANNEL_OWNER(n), token);
        got += reg(VGPU_REG_CHANNEL_OWNER(n)) == token;
    }
    return got;
}

static void test_competition(uint32_t channels)
{
    unsigned got[PROCESSES] = {0}, held[PROCESSES] = {0}, all = 0;
    pid_t children[PROCESSES];
    for (uint32_t i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i] == 0)
            _exit((int)grab(channels, 100 + i));
    }
    for (uint32_t i = 0; i < PROCESSES; i++) {
        int status = 0;
        if (children[i] > 0 && waitpid(children[i], &status, 0) > 0 && WIFEXITED(status))
            got[i] = (unsigned)WEXITSTATUS(status);
        all += got[i];
    }
    for (uint32_t n = 0; n < channels; n++)
        for (uint32_t i = 0; i < PROCESSES; i++)
            held[i] += reg(VGPU_REG_CHANNEL_OWNER(n)) == 100 + i;
    guest_check(all == channels && memcmp(got, held, sizeof(got)) == 0, "R21",
                "%u processes took %u of %" PRIu32 " channels, each its own", PROCESSES, all,
                channels);
}

static void test_reset(const char *dir, uint32_t channels)
{
    char path[400];
    uint32_t generation = reg(VGPU_REG_GENERATION), owned = 0;
    snprintf(path, sizeof(path), "%s/reset", dir);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (!guest_check(fd >= 0 && write(fd, "1", 1) == 1, "R15", "the function can be reset"))
        return;
    close(fd);
    for (uint32_t n = 0; n < channels; n++)
        owned += reg(VGPU_REG_CHANNEL_OWNER(n)) != 0 || reg(VGPU_REG_CHANNEL_CTRL(n)) != 0;
    guest_check(owned == 0 && reg(VGPU_REG_GENERATION) == generation + 1, "R26",
                "which frees all channels, whoever had them");
    test_one_channel(0);
}

int main(void)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    char extra[80];
    struct vgpu *gpu = guest_open("t-window", &options);
    bar = guest_map("t-window", gpu);
    const char *dir = guest_sysfs_dir(gpu);
    uint64_t bytes = reg(VGPU_REG_WINDOW_SIZE_LO) | (uint64_t)reg(VGPU_REG_WINDOW_SIZE_HI) << 32;
    uint32_t channels = reg(VGPU_REG_CHANNEL_COUNT);
    if (bytes == 0) {
        fprintf(stderr, "t-window: this device has no window\n");
        return GUEST_SKIP;
    }
    guest_check(wait_reg(VGPU_REG_LINK_STATE, VGPU_LINK_ATTACHED), "R16", "attached");
    guest_check(bytes >= (uint64_t)channels * VGPU_CHANNEL_BYTES &&
                    reg(VGPU_REG_CHANNEL_SIZE) == VGPU_CHANNEL_BYTES,
                "R20", "%" PRIu64 " bytes have %" PRIu32 " channels", bytes, channels);
    test_memory(dir, bytes);
    test_one_channel(channels - 1);
    test_competition(channels);
    test_reset(dir, channels);
    vgpu_cleanup(gpu);
    snprintf(extra, sizeof(extra), "bytes=%" PRIu64 " channels=%" PRIu32, bytes, channels);
    return guest_finish("t-window", extra);
}
