/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a channel's worker costs, with the guest in a thread of this process and a driver that does
 * nothing: records posted without pause (guest's and worker's ns for each, and how many a second
 * end to end), what the worker adds from one driver entry to the next, and a NOP that is waited for
 * with the worker looking and asleep, beside a round trip by two eventfds.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backend/driver.h"
#include "common/clock.h"
#include "ring/barrier.h"
#include "ring/ring.h"
#include "software.h"
#include "worker/channel.h"
#include "worker/dispatch.h"
#include "worker/engine.h"

#define POSTS     4000000u
#define CALLS     20000u
#define SLEEPS    3000u
#define CONTEXT   11u
#define EVENT     13u
#define MODULE    14u
#define KERNEL    15u
#define ASLEEP_NS 400000u

static struct vgpu_driver_ops null_ops;
static uint64_t entered;

static CUresult null_launch(struct vgpu_driver *driver, struct vgpu_driver_function *function,
                            struct vgpu_driver_stream *stream, uint32_t grid_x, uint32_t grid_y,
                            uint32_t grid_z, uint32_t block_x, uint32_t block_y, uint32_t block_z,
                            uint32_t shared_bytes, uint32_t flags, const void *arguments,
                            size_t arguments_length)
{
    entered++;
    return CUDA_SUCCESS;
}

static CUresult null_record(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                            struct vgpu_driver_stream *stream, uint32_t flags)
{
    entered++;
    return CUDA_SUCCESS;
}

static CUresult null_query(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                           uint32_t *result)
{
    entered++;
    return CUDA_SUCCESS;
}

static struct vgpu_driver *null_driver(struct vgpu_backend *b)
{
    struct vgpu_driver *driver = vgpu_software_driver(b);
    null_ops = *driver->ops;
    null_ops.launch = null_launch;
    null_ops.event_record = null_record;
    null_ops.event_query = null_query;
    driver->ops = &null_ops;
    return driver;
}

struct bench {
    struct vgpu_lease lease;
    struct vgpu_engine *engine;
    struct vgpu_dispatcher dispatcher;
    uint8_t *window;
    int doorbell, interrupt;
    struct vgpu_ring_client client;
    uint64_t rung;
};

static void publish(struct bench *b)
{
    uint64_t one = 1;
    if (!vgpu_ring_client_publish(&b->client))
        return;
    b->rung++;
    if (write(b->doorbell, &one, sizeof(one)) < 0)
        abort();
}

static void post(struct bench *b, uint32_t opcode, uint32_t token,
                 const struct vgpu_ring_part *parts, unsigned count)
{
    struct vgpu_ring_record h = {.opcode = (uint16_t)opcode, .token = token};
    while (!vgpu_ring_client_write(&b->client, &h, parts, count)) {
        publish(b);
        vgpu_shared_pause();
    }
}

static void await(struct bench *b)
{
    struct vgpu_ring_completion c;
    while (!vgpu_ring_client_take(&b->client, &c))
        vgpu_shared_pause();
    if (c.status) {
        fprintf(stderr, "channel_bench: status %u: %.*s\n", c.status, (int)c.length,
                (const char *)c.bytes);
        exit(1);
    }
}

static void call(struct bench *b, uint32_t opcode, uint32_t token, const uint64_t *slots,
                 const void *rest, uint32_t length)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    uint64_t context = info->context_free ? 0 : CONTEXT;
    const struct vgpu_ring_part parts[] = {
        {&context, 8}, {slots, info->in_count * 8u}, {rest, length}};
    post(b, opcode, token, parts, 3);
}

static void must(struct bench *b, uint32_t opcode, const uint64_t *slots, const void *rest,
                 uint32_t length)
{
    call(b, opcode, 1, slots, rest, length);
    publish(b);
    await(b);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print(const char *what, uint64_t *samples, size_t count)
{
    qsort(samples, count, sizeof(*samples), by_value);
    printf("%-44s min %6llu  median %6llu  p99 %6llu ns\n", what, (unsigned long long)samples[0],
           (unsigned long long)samples[count / 2], (unsigned long long)samples[count * 99 / 100]);
}

/* Thread time of the engine is not to be had from here: what the guest sees is. */
static void measure_posts(struct bench *b, const char *what, uint32_t opcode, const uint64_t *slots,
                          const void *rest, uint32_t length, unsigned batch)
{
    static uint64_t took[POSTS / 64];
    uint64_t begin = vgpu_clock_ns(), rung = b->rung;
    for (unsigned i = 0; i < POSTS; i++) {
        if (opcode == VGPU_RING_NOP)
            post(b, opcode, 0, NULL, 0);
        else
            call(b, opcode, 0, slots, rest, length);
        if (i % batch == batch - 1)
            publish(b);
        if (i % 64 == 63)
            took[i / 64] = vgpu_clock_ns();
    }
    post(b, VGPU_RING_NOP, 1, NULL, 0);
    publish(b);
    await(b);
    uint64_t all = vgpu_clock_ns() - begin;
    for (unsigned i = POSTS / 64 - 1; i; i--)
        took[i] = (took[i] - took[i - 1]) / 64;
    char name[80];
    snprintf(name, sizeof(name), "%s, %u at a time: each", what, batch);
    print(name, took + 1, POSTS / 64 - 1);
    printf("%-44s %.2f M/s, %.1f ns each, %llu doorbells\n", "  end to end",
           POSTS * 1e3 / (double)all, (double)all / POSTS, (unsigned long long)(b->rung - rung));
}

static void measure_calls(struct bench *b, const char *what, uint32_t opcode, const uint64_t *slots)
{
    static uint64_t took[CALLS];
    for (unsigned i = 0; i < CALLS; i++) {
        uint64_t t = vgpu_clock_ns();
        if (opcode == VGPU_RING_NOP)
            post(b, opcode, 1, NULL, 0);
        else
            call(b, opcode, 1, slots, NULL, 0);
        publish(b);
        await(b);
        took[i] = vgpu_clock_ns() - t;
    }
    print(what, took, CALLS);
}

static void measure_asleep(struct bench *b)
{
    static uint64_t took[SLEEPS];
    for (unsigned i = 0; i < SLEEPS; i++) {
        usleep(ASLEEP_NS / 1000);
        uint64_t t = vgpu_clock_ns();
        post(b, VGPU_RING_NOP, 1, NULL, 0);
        publish(b);
        await(b);
        took[i] = vgpu_clock_ns() - t;
    }
    print("NOP and its answer, worker asleep", took, SLEEPS);
}

struct echo {
    int to, from;
};

static void *echo_main(void *arg)
{
    struct echo *e = arg;
    uint64_t count;
    while (read(e->to, &count, sizeof(count)) == sizeof(count) && count != 2) {
        if (write(e->from, &count, sizeof(count)) < 0)
            break;
    }
    return NULL;
}

static void measure_eventfds(void)
{
    static uint64_t took[SLEEPS];
    struct echo e = {eventfd(0, 0), eventfd(0, 0)};
    pthread_t thread;
    uint64_t one = 1, two = 2;
    pthread_create(&thread, NULL, echo_main, &e);
    for (unsigned i = 0; i < SLEEPS; i++) {
        usleep(ASLEEP_NS / 1000);
        uint64_t t = vgpu_clock_ns(), count;
        if (write(e.to, &one, 8) < 0 || read(e.from, &count, 8) < 0)
            abort();
        took[i] = vgpu_clock_ns() - t;
    }
    if (write(e.to, &two, 8) < 0)
        abort();
    pthread_join(thread, NULL);
    print("round trip by two eventfds", took, SLEEPS);
    close(e.to);
    close(e.from);
}

int main(void)
{
    static const char ptx[] = ".version 6.4\n.target sm_70\n.address_size 64\n"
                              ".visible .entry k(.param .u64 p, .param .u32 n) { ret; }\n";
    struct vgpu_backend_ops ops = vgpu_backend_software;
    struct vgpu_backend_config config = {.threads = 1};
    struct vgpu_backend *backend;
    struct vgpu_device_info info;
    char why[200];
    ops.driver = null_driver;
    if (ops.open(&config, &backend, why, sizeof(why))) {
        fprintf(stderr, "channel_bench: %s\n", why);
        return 1;
    }
    ops.device_info(backend, &info);
    struct bench b = {.doorbell = eventfd(0, EFD_NONBLOCK), .interrupt = eventfd(0, EFD_NONBLOCK)};
    vgpu_lease_init(&b.lease);
    if (posix_memalign((void **)&b.window, 4096, VGPU_WINDOW_BYTES_MIN) ||
        vgpu_engine_create(&ops, backend, NULL, &b.lease, &b.engine)) {
        fprintf(stderr, "channel_bench: no engine\n");
        return 1;
    }
    memset(b.window, 0, VGPU_WINDOW_BYTES_MIN);
    vgpu_dispatch_init(&b.dispatcher, b.engine, &info, 0);
    vgpu_lease_grant(&b.lease, 1);
    vgpu_engine_attach(b.engine, &(struct vgpu_attachment){.window = b.window,
                                                           .window_bytes = VGPU_WINDOW_BYTES_MIN,
                                                           .doorbell = dup(b.doorbell),
                                                           .interrupt = dup(b.interrupt),
                                                           .dispatcher = &b.dispatcher});
    vgpu_ring_client_init(&b.client, b.window);
    while (vgpu_ring_client_state(&b.client, NULL) != VGPU_CHANNEL_ACTIVE)
        vgpu_shared_pause();
    must(&b, VGPU_CALL_PRIMARY_RETAIN, (const uint64_t[]){CONTEXT, 0}, NULL, 0);
    must(&b, VGPU_CALL_EVENT_CREATE, (const uint64_t[]){EVENT, 0}, NULL, 0);
    must(&b, VGPU_CALL_MODULE_LOAD, (const uint64_t[]){MODULE, 0}, ptx, sizeof(ptx) - 1);
    must(&b, VGPU_CALL_FUNCTION_GET, (const uint64_t[]){MODULE, KERNEL}, "k", 1);

    static const uint64_t launch[] = {KERNEL, 0, 1, 1, 1, 32, 1, 1, 0, 0, 0};
    static const uint8_t bytes[512];
    measure_posts(&b, "NOP", VGPU_RING_NOP, NULL, NULL, 0, 1);
    measure_posts(&b, "NOP", VGPU_RING_NOP, NULL, NULL, 0, 16);
    measure_posts(&b, "event_record", VGPU_CALL_EVENT_RECORD, (const uint64_t[]){EVENT, 0, 0}, NULL,
                  0, 1);
    measure_posts(&b, "launch, 12 bytes", VGPU_CALL_LAUNCH, launch, bytes, 12, 1);
    measure_posts(&b, "launch, 512 bytes", VGPU_CALL_LAUNCH, launch, bytes, 512, 1);
    measure_calls(&b, "NOP and its answer, worker looking", VGPU_RING_NOP, NULL);
    measure_calls(&b, "event_query and its answer", VGPU_CALL_EVENT_QUERY,
                  (const uint64_t[]){EVENT});
    measure_asleep(&b);
    measure_eventfds();

    vgpu_engine_destroy(b.engine);
    vgpu_dispatch_destroy(&b.dispatcher);
    ops.close(backend);
    free(b.window);
    close(b.doorbell);
    close(b.interrupt);
    return entered ? 0 : 1;
}
