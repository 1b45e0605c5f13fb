/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the worker itself costs a CUDA driver call, from the bytes of the request to the entry of
 * the driver, with a driver that does nothing. Three figures for each call, in ns, median and 99th
 * percentile:
 *
 *   submit   the control thread: decode, check, make the job, queue it
 *   run      the engine thread: from one driver entry to the next, with a full queue
 *   wake     both, and the kernel waking the engine thread, which sleeps (not the worker's own
 * cost)
 *
 * submit + run is the overhead. The clock's own cost is taken off each sample.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/driver.h"
#include "common/clock.h"
#include "common/wire.h"
#include "software.h"
#include "worker/dispatch.h"

#define BATCH   256u
#define BATCHES 400u
#define SAMPLES (BATCH * BATCHES)
#define WAKES   2000u
#define CONTEXT 11u
#define STREAM  12u
#define EVENT   13u
#define MODULE  14u
#define KERNEL  15u

static struct vgpu_driver_ops null_ops;
static uint64_t entered[SAMPLES];
static uint32_t entered_count;

static CUresult enter(void)
{
    if (entered_count < SAMPLES)
        entered[entered_count] = vgpu_clock_ns();
    __atomic_store_n(&entered_count, entered_count + 1, __ATOMIC_RELEASE);
    return CUDA_SUCCESS;
}

static CUresult null_launch(struct vgpu_driver *driver, struct vgpu_driver_function *function,
                            struct vgpu_driver_stream *stream, uint32_t grid_x, uint32_t grid_y,
                            uint32_t grid_z, uint32_t block_x, uint32_t block_y, uint32_t block_z,
                            uint32_t shared_bytes, uint32_t flags, const void *arguments,
                            size_t arguments_length)
{
    return enter();
}

static CUresult null_copy(struct vgpu_driver *driver, CUdeviceptr destination,
                          struct vgpu_driver_stream *stream, const void *data, size_t data_length)
{
    return enter();
}

static CUresult null_record(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                            struct vgpu_driver_stream *stream, uint32_t flags)
{
    return enter();
}

static CUresult null_query(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                           uint32_t *result)
{
    return enter();
}

static struct vgpu_driver *null_driver(struct vgpu_backend *b)
{
    struct vgpu_driver *driver = vgpu_software_driver(b);
    null_ops = *driver->ops;
    null_ops.launch = null_launch;
    null_ops.copy_to_device = null_copy;
    null_ops.event_record = null_record;
    null_ops.event_query = null_query;
    driver->ops = &null_ops;
    return driver;
}

struct request {
    size_t length;
    uint8_t bytes[VGPU_MAILBOX_BYTES];
};

static struct request make(uint32_t opcode, const uint64_t *slots, const void *rest, size_t length)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    struct request r = {.length = 48 + 8 * (size_t)info->in_count + length};
    vgpu_store_le32(r.bytes, VGPU_PROTOCOL_VERSION);
    vgpu_store_le32(r.bytes + 4, opcode);
    vgpu_store_le32(r.bytes + 8, info->posted ? VGPU_FLAG_ASYNC : 0);
    vgpu_store_le32(r.bytes + 16, 32);
    vgpu_store_le32(r.bytes + 20, (uint32_t)r.length - 32);
    vgpu_store_le64(r.bytes + 40, info->context_free ? 0 : CONTEXT);
    for (unsigned i = 0; i < info->in_count; i++)
        vgpu_store_le64(r.bytes + 48 + 8 * i, slots[i]);
    if (length)
        memcpy(r.bytes + 48 + 8 * (size_t)info->in_count, rest, length);
    return r;
}

struct bench {
    struct vgpu_sink sink; /* first */
    struct vgpu_lease lease;
    struct vgpu_engine *engine;
    struct vgpu_dispatcher dispatcher;
    uint64_t lease_number;
    unsigned answers;
};

static void on_answer(struct vgpu_sink *sink, void *tag, const struct vgpu_answer *answer)
{
    struct bench *b = (struct bench *)sink;
    b->answers++;
    if (answer->error_code || answer->status) {
        fprintf(stderr, "worker_bench: status %u: %.*s\n", answer->status, (int)answer->data_length,
                (const char *)answer->data);
        exit(1);
    }
}

static void set_gate(struct bench *b, bool open)
{
    uint64_t number;
    if (open) {
        vgpu_lease_grant(&b->lease, ++b->lease_number);
        vgpu_engine_wake(b->engine);
        return;
    }
    vgpu_lease_recall(&b->lease, b->lease_number, 0, UINT32_MAX, 0);
    vgpu_engine_wake(b->engine);
    while (!vgpu_lease_take_return(&b->lease, &number)) {
    }
}

/* Answers whether an answer comes later. */
static bool submit(struct bench *b, const struct request *r)
{
    struct vgpu_answer answer;
    if (vgpu_dispatch_submit(&b->dispatcher, r->bytes, r->length, &b->sink, NULL, &answer))
        return true;
    if (answer.error_code || answer.status)
        on_answer(&b->sink, NULL, &answer);
    return false;
}

static void collect(struct bench *b)
{
    struct pollfd p = {.fd = vgpu_engine_fd(b->engine), .events = POLLIN};
    (void)poll(&p, 1, 100);
    vgpu_dispatch_collect(&b->dispatcher);
}

static void must(struct bench *b, struct request r)
{
    unsigned before = b->answers;
    if (!submit(b, &r))
        return;
    while (b->answers == before)
        collect(b);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t clock_cost(void)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 10000; i++) {
        uint64_t t = vgpu_clock_ns(), d = vgpu_clock_ns() - t;
        best = d < best ? d : best;
    }
    return best;
}

struct figure {
    uint64_t median, p99;
};

static struct figure figure_of(uint64_t *samples, size_t count, uint64_t off)
{
    qsort(samples, count, sizeof(*samples), by_value);
    uint64_t median = samples[count / 2], p99 = samples[count * 99 / 100];
    return (struct figure){median > off ? median - off : 0, p99 > off ? p99 - off : 0};
}

static void measure(struct bench *b, const char *name, struct request r)
{
    static uint64_t took[SAMPLES], ran[SAMPLES], woke[WAKES];
    size_t runs = 0;
    uint64_t off = clock_cost();
    for (unsigned batch = 0; batch < BATCHES; batch++) {
        set_gate(b, false);
        unsigned owed = 0, before = b->answers;
        for (unsigned i = 0; i < BATCH; i++) {
            uint64_t t = vgpu_clock_ns();
            owed += submit(b, &r);
            took[batch * BATCH + i] = vgpu_clock_ns() - t;
        }
        __atomic_store_n(&entered_count, 0, __ATOMIC_RELAXED);
        set_gate(b, true);
        while (__atomic_load_n(&entered_count, __ATOMIC_ACQUIRE) < BATCH ||
               b->answers - before < owed)
            collect(b);
        /* What was answered before it ran comes back, too. */
        must(b, make(VGPU_CALL_DRIVER_VERSION, NULL, NULL, 0));
        for (unsigned i = 1; i < BATCH; i++)
            ran[runs++] = entered[i] - entered[i - 1];
    }
    for (unsigned i = 0; i < WAKES; i++) {
        __atomic_store_n(&entered_count, 0, __ATOMIC_RELAXED);
        uint64_t until = vgpu_clock_ns() + 20 * VGPU_NS_PER_US; /* it falls asleep */
        while (vgpu_clock_ns() < until) {
        }
        uint64_t t = vgpu_clock_ns();
        unsigned before = b->answers, owed = submit(b, &r);
        while (!__atomic_load_n(&entered_count, __ATOMIC_ACQUIRE) || b->answers - before < owed)
            collect(b);
        woke[i] = entered[0] - t;
    }
    struct figure s = figure_of(took, SAMPLES, off), x = figure_of(ran, runs, off),
                  w = figure_of(woke, WAKES, off);
    printf("%-34s %6llu %6llu   %6llu %6llu   %6llu   %7llu %7llu\n", name,
           (unsigned long long)s.median, (unsigned long long)s.p99, (unsigned long long)x.median,
           (unsigned long long)x.p99, (unsigned long long)(s.median + x.median),
           (unsigned long long)w.median, (unsigned long long)w.p99);
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
        fprintf(stderr, "worker_bench: %s\n", why);
        return 1;
    }
    ops.device_info(backend, &info);
    struct bench b = {.sink.answer = on_answer};
    vgpu_lease_init(&b.lease);
    if (vgpu_engine_create(&ops, backend, NULL, &b.lease, &b.engine)) {
        fprintf(stderr, "worker_bench: no engine\n");
        return 1;
    }
    vgpu_dispatch_init(&b.dispatcher, b.engine, &info, 0);
    set_gate(&b, true);
    must(&b, make(VGPU_CALL_PRIMARY_RETAIN, (const uint64_t[]){CONTEXT, 0}, NULL, 0));
    must(&b, make(VGPU_CALL_STREAM_CREATE, (const uint64_t[]){STREAM, 0, 0}, NULL, 0));
    must(&b, make(VGPU_CALL_EVENT_CREATE, (const uint64_t[]){EVENT, 0}, NULL, 0));
    must(&b, make(VGPU_CALL_MODULE_LOAD, (const uint64_t[]){MODULE, 0}, ptx, sizeof(ptx) - 1));
    must(&b, make(VGPU_CALL_FUNCTION_GET, (const uint64_t[]){MODULE, KERNEL}, "k", 1));

    static const uint8_t bytes[800];
    printf("%-34s %13s   %13s   %6s   %15s\n", "ns: median, p99", "submit", "run", "both", "wake");
    measure(&b, "event_record (posted)",
            make(VGPU_CALL_EVENT_RECORD, (const uint64_t[]){EVENT, STREAM, 0}, NULL, 0));
    measure(&b, "launch, 12 bytes (posted)",
            make(VGPU_CALL_LAUNCH,
                 (const uint64_t[]){KERNEL, STREAM, 1, 1, 1, 32, 1, 1, 0, 0, 0, 0}, bytes, 12));
    measure(&b, "launch, 512 bytes (posted)",
            make(VGPU_CALL_LAUNCH,
                 (const uint64_t[]){KERNEL, STREAM, 1, 1, 1, 32, 1, 1, 0, 0, 0, 0}, bytes, 512));
    measure(&b, "copy_to_device, 800 bytes (posted)",
            make(VGPU_CALL_COPY_TO_DEVICE, (const uint64_t[]){4096, STREAM, 0}, bytes, 800));
    measure(&b, "event_query (sync)",
            make(VGPU_CALL_EVENT_QUERY, (const uint64_t[]){EVENT}, NULL, 0));

    vgpu_engine_destroy(b.engine);
    vgpu_dispatch_destroy(&b.dispatcher);
    ops.close(backend);
    return 0;
}
