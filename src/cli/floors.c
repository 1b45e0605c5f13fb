/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See floors.h. Rings, cache lines and wakes; the staged copy is in floors_copy.c. */
#include "cli/floors.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/floors_internal.h"
#include "common/clock.h"
#include "ring/barrier.h"
#include "ring/ring.h"

#define POST_BATCH      64u
#define POST_SAMPLES    2000u
#define RECORD_BATCH    16384u
#define RECORD_SAMPLES  200u
#define TAKE_BATCH      512u
#define TAKE_SAMPLES    1000u
#define PINGPONG_BATCH  64u
#define PINGPONG_ROUNDS 1000u
#define EVENTFD_ROUNDS  3000u
#define SHOW_EVERY      32u /* units given back at a time, as a worker does */

/* ---- Samples and waiting ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

void vgpu_floor_summarize(double *samples, size_t count, struct vgpu_floor_spread *out)
{
    qsort(samples, count, sizeof(*samples), ascending);
    *out = (struct vgpu_floor_spread){samples[0], samples[count / 2], samples[count * 99 / 100]};
}

void vgpu_floor_relax(unsigned *spins)
{
    if (++*spins % 4096)
        vgpu_shared_pause();
    else
        sched_yield();
}

static double per_item(uint64_t ns, unsigned items)
{
    return (double)ns / items;
}

/* ---- A ring with a consumer ---- */

struct ring {
    void *channel;
    struct vgpu_ring_client client;
    struct vgpu_ring_server server;
    pthread_t consumer;
    uint64_t taken; /* units; of the consumer, read by the producer */
    uint32_t stop;
};

static void *consume(void *arg)
{
    struct ring *r = arg;
    _Alignas(VGPU_RING_UNIT) uint8_t record[VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT];
    unsigned spins = 0, kept = 0;
    while (!vgpu_shared_acquire32(&r->stop)) {
        if (vgpu_ring_server_take(&r->server, record)) {
            if (++kept < SHOW_EVERY)
                continue;
        } else if (!kept) {
            vgpu_floor_relax(&spins);
            continue;
        }
        kept = 0;
        vgpu_ring_server_show(&r->server);
        vgpu_shared_release64(&r->taken, r->server.head);
    }
    return NULL;
}

static int ring_open(struct ring *r, bool consumer)
{
    *r = (struct ring){.stop = 0};
    r->channel =
        mmap(NULL, VGPU_CHANNEL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r->channel == MAP_FAILED)
        return -errno;
    vgpu_ring_server_init(&r->server, r->channel);
    vgpu_ring_client_init(&r->client, r->channel);
    int rc = consumer ? pthread_create(&r->consumer, NULL, consume, r) : 0;
    if (rc)
        munmap(r->channel, VGPU_CHANNEL_BYTES);
    return -rc;
}

static void ring_close(struct ring *r, bool consumer)
{
    vgpu_shared_release32(&r->stop, 1);
    if (consumer)
        pthread_join(r->consumer, NULL);
    munmap(r->channel, VGPU_CHANNEL_BYTES);
}

/* One unit: what a call with four slots takes. */
static bool write_one(struct ring *r, uint32_t number)
{
    uint64_t body[6] = {number, 1, 2, 3, 4, 5};
    struct vgpu_ring_part part = {body, sizeof(body)};
    struct vgpu_ring_record header = {.opcode = VGPU_RING_CALL_FIRST};
    return vgpu_ring_client_write(&r->client, &header, &part, 1);
}

static void wait_taken(struct ring *r)
{
    unsigned spins = 0;
    while (vgpu_shared_acquire64(&r->taken) != r->client.tail)
        vgpu_floor_relax(&spins);
}

int vgpu_floor_post(struct vgpu_floor_spread *ns)
{
    static double samples[POST_SAMPLES];
    struct ring r;
    int rc = ring_open(&r, true);
    if (rc)
        return rc;
    for (unsigned s = 0; s < POST_SAMPLES; s++) {
        wait_taken(&r);
        uint64_t t = vgpu_clock_ns();
        for (unsigned i = 0; i < POST_BATCH; i++) {
            write_one(&r, i);
            vgpu_ring_client_publish(&r.client);
        }
        samples[s] = per_item(vgpu_clock_ns() - t, POST_BATCH);
    }
    wait_taken(&r);
    ring_close(&r, true);
    vgpu_floor_summarize(samples, POST_SAMPLES, ns);
    return 0;
}

int vgpu_floor_records(struct vgpu_floor_spread *per_s)
{
    static double samples[RECORD_SAMPLES];
    struct ring r;
    int rc = ring_open(&r, true);
    if (rc)
        return rc;
    for (unsigned s = 0; s < RECORD_SAMPLES; s++) {
        unsigned spins = 0;
        uint64_t t = vgpu_clock_ns();
        for (unsigned i = 0; i < RECORD_BATCH; i++) {
            while (!write_one(&r, i))
                vgpu_floor_relax(&spins);
            vgpu_ring_client_publish(&r.client);
        }
        wait_taken(&r);
        samples[s] = RECORD_BATCH * 1e9 / (double)(vgpu_clock_ns() - t);
    }
    ring_close(&r, true);
    vgpu_floor_summarize(samples, RECORD_SAMPLES, per_s);
    return 0;
}

/* Both ends in one thread, so that the records' lines are this processor's already. */
int vgpu_floor_take(struct vgpu_floor_spread *ns)
{
    static double samples[TAKE_SAMPLES];
    _Alignas(VGPU_RING_UNIT) uint8_t record[VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT];
    struct ring r;
    int rc = ring_open(&r, false);
    if (rc)
        return rc;
    for (unsigned s = 0; s < TAKE_SAMPLES; s++) {
        for (unsigned i = 0; i < TAKE_BATCH; i++)
            write_one(&r, i);
        vgpu_ring_client_publish(&r.client);
        uint64_t t = vgpu_clock_ns();
        while (vgpu_ring_server_take(&r.server, record)) {
        }
        vgpu_ring_server_show(&r.server);
        samples[s] = per_item(vgpu_clock_ns() - t, TAKE_BATCH);
    }
    ring_close(&r, false);
    vgpu_floor_summarize(samples, TAKE_SAMPLES, ns);
    return 0;
}

/* ---- A cache line there and back ---- */

struct pingpong {
    _Alignas(128) uint64_t there;
    _Alignas(128) uint64_t back;
};

/* Not the loop that yields: its own cost would be in the figure. */
static void wait_for(const uint64_t *word, uint64_t value)
{
    unsigned spins = 0;
    while (vgpu_shared_acquire64(word) != value)
        if (++spins % (1u << 16) == 0)
            sched_yield();
}

static void *return_balls(void *arg)
{
    struct pingpong *p = arg;
    for (uint64_t i = 1; i <= (uint64_t)PINGPONG_ROUNDS * PINGPONG_BATCH; i++) {
        wait_for(&p->there, i);
        vgpu_shared_release64(&p->back, i);
    }
    return NULL;
}

int vgpu_floor_pingpong(struct vgpu_floor_spread *ns)
{
    static double samples[PINGPONG_ROUNDS];
    struct pingpong p = {.there = 0};
    pthread_t other;
    uint64_t ball = 0;
    int rc = pthread_create(&other, NULL, return_balls, &p);
    if (rc)
        return -rc;
    for (unsigned s = 0; s < PINGPONG_ROUNDS; s++) {
        uint64_t t = vgpu_clock_ns();
        for (unsigned i = 0; i < PINGPONG_BATCH; i++) {
            vgpu_shared_release64(&p.there, ++ball);
            wait_for(&p.back, ball);
        }
        samples[s] = per_item(vgpu_clock_ns() - t, PINGPONG_BATCH);
    }
    pthread_join(other, NULL);
    vgpu_floor_summarize(samples, PINGPONG_ROUNDS, ns);
    return 0;
}

/* ---- Two processes that wake each other ---- */

/* After fork in a program that may have threads: system calls alone. */
static void __attribute__((noreturn)) echo_events(int from, int to, pid_t parent)
{
    uint64_t count;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    for (unsigned i = 0; i < EVENTFD_ROUNDS; i++) {
        if (read(from, &count, sizeof(count)) != sizeof(count))
            _exit(1);
        count = 1;
        if (write(to, &count, sizeof(count)) != sizeof(count))
            _exit(1);
    }
    _exit(0);
}

static int measure_events(int to, int from, double *samples)
{
    for (unsigned i = 0; i < EVENTFD_ROUNDS; i++) {
        uint64_t count = 1, t = vgpu_clock_ns();
        if (write(to, &count, sizeof(count)) != sizeof(count) ||
            read(from, &count, sizeof(count)) != sizeof(count))
            return -errno;
        samples[i] = (double)(vgpu_clock_ns() - t);
    }
    return 0;
}

int vgpu_floor_eventfd(struct vgpu_floor_spread *ns)
{
    static double samples[EVENTFD_ROUNDS];
    int rc = 0, there = eventfd(0, EFD_CLOEXEC), back = eventfd(0, EFD_CLOEXEC);
    pid_t parent = getpid(), child = -1;
    if (there < 0 || back < 0 || (child = fork()) < 0) {
        rc = -errno;
        goto out;
    }
    if (child == 0)
        echo_events(there, back, parent);
    rc = measure_events(there, back, samples);
    if (rc)
        kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
    if (!rc)
        vgpu_floor_summarize(samples, EVENTFD_ROUNDS, ns);
out:
    if (there >= 0)
        close(there);
    if (back >= 0)
        close(back);
    return rc;
}

/* ---- All ---- */

int vgpu_floors_measure(struct vgpu_floors *out, uint64_t copy_bytes)
{
    struct vgpu_floor_spread post, records, pingpong, events, copy = {0};
    uint32_t piece;
    int rc;
    *out = (struct vgpu_floors){0};
    if ((rc = vgpu_floor_post(&post)) || (rc = vgpu_floor_records(&records)) ||
        (rc = vgpu_floor_pingpong(&pingpong)) || (rc = vgpu_floor_eventfd(&events)) ||
        (copy_bytes && (rc = vgpu_floor_staged_copy(copy_bytes, &copy, &piece))))
        return rc;
    *out = (struct vgpu_floors){.post_ns = post.median,
                                .records_per_s = records.median,
                                .pingpong_ns = pingpong.median,
                                .eventfd_roundtrip_ns = events.median,
                                .staged_copy_bytes_per_s = copy.median};
    return 0;
}
