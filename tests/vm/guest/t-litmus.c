/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Do barriers hold between a guest and a process of the host that share the window? Sleep and wake
 * rest on it (G10, G17): each side stores, then looks at what the other stores, and never may both
 * have looked too early. A hypervisor that emulates the guest's processor can break it.
 *
 * t-litmus guest           in a VM; counts the rounds in which both looked too early
 * t-litmus host FD         beside it; FD is the window's memory
 *
 * Both sides do as many rounds, in step, with pauses that let every overlap come about.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest_test.h"
#include "ring/barrier.h"

#define ROUNDS       1500000u
#define SHARED_BYTES 4096u

/* Each word in a cache line of its own. */
struct shared {
    struct {
        uint32_t value;
        uint32_t pad[15];
    } host_ready, guest_ready, guest_store, host_store, host_saw, guest_done;
};

static void pause_for(uint32_t turns)
{
    for (volatile uint32_t i = 0; i < turns; i++)
        ;
}

static void wait_for(const uint32_t *word, uint32_t value)
{
    while (vgpu_shared_acquire32(word) != value)
        ;
}

static int as_host(struct shared *s)
{
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        vgpu_shared_release32(&s->host_ready.value, round);
        wait_for(&s->guest_ready.value, round);
        pause_for(round * 7 % 120);
        vgpu_shared_publish32(&s->host_store.value, round);
        uint32_t saw = vgpu_shared_look32(&s->guest_store.value) == round;
        vgpu_shared_release32(&s->host_saw.value, round << 1 | saw);
        wait_for(&s->guest_done.value, round);
    }
    return 0;
}

static int as_guest(struct shared *s)
{
    uint32_t neither = 0, guest_saw = 0, host_saw = 0;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        wait_for(&s->host_ready.value, round);
        vgpu_shared_release32(&s->guest_ready.value, round);
        pause_for(round % 8);
        vgpu_shared_publish32(&s->guest_store.value, round);
        uint32_t saw = vgpu_shared_look32(&s->host_store.value) == round;
        uint32_t other;
        do {
            other = vgpu_shared_acquire32(&s->host_saw.value);
        } while (other >> 1 != round);
        guest_saw += saw;
        host_saw += other & 1;
        neither += !saw && !(other & 1);
        vgpu_shared_release32(&s->guest_done.value, round);
    }
    guest_check(neither == 0, "G10", "in %u of %u rounds neither saw the other's store", neither,
                ROUNDS);
    char extra[100];
    snprintf(extra, sizeof(extra), "guest_saw=%u host_saw=%u both=%u", guest_saw, host_saw,
             guest_saw + host_saw + neither - ROUNDS);
    return guest_finish("t-litmus", extra);
}

int main(int argc, char **argv)
{
    bool guest = argc == 2 && strcmp(argv[1], "guest") == 0;
    int fd;
    if (guest) {
        struct vgpu_options options = VGPU_OPTIONS_INIT;
        struct vgpu *gpu = guest_open("t-litmus", &options);
        char path[400];
        snprintf(path, sizeof(path), "%s/resource2", guest_sysfs_dir(gpu));
        fd = open(path, O_RDWR | O_CLOEXEC | O_SYNC);
        vgpu_cleanup(gpu);
    } else if (argc == 3 && strcmp(argv[1], "host") == 0) {
        fd = atoi(argv[2]);
    } else {
        fprintf(stderr, "t-litmus: wrong arguments; see the top of t-litmus.c\n");
        return 2;
    }
    void *at = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        fprintf(stderr, "t-litmus: the window cannot be mapped\n");
        return 1;
    }
    return guest ? as_guest(at) : as_host(at);
}
