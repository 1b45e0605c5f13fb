/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records of a channel through the worker: ring, decoder, names, executor, arena and the software
 * GPU, in one thread. An input is a script: each step a byte that says what, then what that takes.
 *
 *   0-199   a record: u16 opcode (0-0x7f: a CUDA call), u8 length / 4, body; the byte's lowest bit
 *           says whether it wants an answer
 *   200-219 units as they are: u8 count, bytes
 *   220-229 publish and let the worker run
 *   230-239 the mediator's answer to what was asked: u8 (0: no room)
 *   240-249 detach and attach again
 *   250-255 take the answers that came
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ring/ring.h"
#include "software.h"
#include "worker/channel.h"
#include "worker/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

#define WINDOW  ((uint64_t)2 << 20)
#define CONTEXT 1u
#define ASKED   64u

static struct vgpu_backend *backend;
static struct vgpu_lease lease, closed;
static struct vgpu_engine *engine; /* never has the lease: for the dispatcher's queue alone */
static struct vgpu_dispatcher dispatcher;
static struct vgpu_executor executor;
static struct vgpu_reports reports;
static struct vgpu_channel_server *channel;
static _Atomic uint32_t jobs; /* none, ever */
static uint8_t *window;
static int reports_fd = -1;
static struct vgpu_ring_client client;
static struct vgpu_report asked[ASKED];
static unsigned asked_count, states;
static uint64_t arena;

static const char ptx[] = ".version 6.4\n.target sm_70\n.address_size 64\n"
                          ".visible .global .align 8 .b8 table[64];\n"
                          ".visible .entry add(.param .u64 p, .param .u32 n)\n"
                          "{ .reg .u64 %rd<2>; .reg .u32 %r<3>;\n"
                          "ld.param.u64 %rd1, [p]; ld.param.u32 %r1, [n];\n"
                          "ld.global.u32 %r2, [%rd1]; add.u32 %r2, %r2, %r1;\n"
                          "st.global.u32 [%rd1], %r2; ret; }\n";

static void attach(void)
{
    vgpu_channel_attach(channel, &(struct vgpu_attachment){.window = window,
                                                           .window_bytes = WINDOW,
                                                           .number = 0,
                                                           .doorbell = eventfd(0, EFD_NONBLOCK),
                                                           .interrupt = eventfd(0, EFD_NONBLOCK),
                                                           .dispatcher = &dispatcher});
    vgpu_ring_client_init(&client, window);
}

static void open_all(void)
{
    struct vgpu_backend_config config = {
        .memory_bytes = 4 << 20, .threads = 1, .launch_instructions = 100000};
    struct vgpu_device_info info;
    char why[200];
    MUST(!vgpu_backend_software.open(&config, &backend, why, sizeof(why)));
    vgpu_backend_software.device_info(backend, &info);
    vgpu_lease_init(&closed);
    vgpu_lease_init(&lease);
    vgpu_lease_grant(&lease, 1);
    MUST(!vgpu_engine_create(&vgpu_backend_software, backend, NULL, &closed, &engine));
    vgpu_dispatch_init(&dispatcher, engine, &info, 0);
    vgpu_executor_init(&executor, &vgpu_backend_software, backend, NULL);
    reports_fd = eventfd(0, EFD_NONBLOCK);
    vgpu_reports_init(&reports, reports_fd);
    MUST(!posix_memalign((void **)&channel, 64, sizeof(*channel)));
    MUST(!posix_memalign((void **)&window, 4096, WINDOW));
    memset(window, 0, WINDOW);
    vgpu_channel_init(channel, &executor, &lease, &reports, &jobs, &jobs);
    asked_count = 0;
    arena = VGPU_CHANNEL_BYTES;
}

static void close_all(void)
{
    vgpu_engine_destroy(engine);
    vgpu_channel_destroy(channel);
    vgpu_dispatch_destroy(&dispatcher);
    vgpu_executor_destroy(&executor);
    vgpu_reports_destroy(&reports);
    vgpu_backend_software.close(backend);
    close(reports_fd);
    free(channel);
    free(window);
    backend = NULL;
}

static void read_reports(void)
{
    struct vgpu_report r;
    while (vgpu_reports_take(&reports, &r)) {
        if (r.kind == VGPU_REPORT_WANT_EXTENT) {
            MUST(asked_count < VGPU_CHANNEL_ASKED_MAX && r.bytes && r.bytes <= WINDOW + 65536);
            asked[asked_count++] = r;
        } else if (r.kind == VGPU_REPORT_CHANNEL) {
            states |= 1u << r.state;
        } else {
            MUST(r.offset >= VGPU_CHANNEL_BYTES && r.bytes <= WINDOW - r.offset);
        }
    }
}

static void run(void)
{
    /* A step for each record there can be, and for each 512 KiB of an extent. */
    for (unsigned i = 0; i < 20000; i++) {
        bool did = vgpu_channel_turn(channel, false);
        did |= vgpu_channel_poll(channel, true);
        if (channel->hold == VGPU_HOLD_JOB)
            break; /* its engine has no lease */
        if (!did)
            break;
    }
    read_reports();
}

static void take_answers(void)
{
    struct vgpu_ring_completion c;
    while (vgpu_ring_client_take(&client, &c))
        MUST(c.token);
}

static void answer_extent(bool room)
{
    struct vgpu_worker_extent e = {.free_bytes = 1};
    if (!asked_count)
        return;
    struct vgpu_report r = asked[0];
    memmove(asked, asked + 1, --asked_count * sizeof(asked[0]));
    if (room && r.bytes <= WINDOW - VGPU_CHANNEL_BYTES) {
        if (arena + r.bytes > WINDOW)
            arena = VGPU_CHANNEL_BYTES; /* over another: as a mediator that is wrong */
        e = (struct vgpu_worker_extent){
            .offset = arena, .bytes = r.bytes, .dirty = r.seq & 1, .free_bytes = 0};
        arena += r.bytes;
    }
    vgpu_channel_extent(channel, r.seq, &e);
}

static void write_record(uint16_t opcode, bool wants, const void *body, uint32_t length)
{
    static uint32_t token;
    token += 2;
    struct vgpu_ring_record h = {.opcode = opcode,
                                 .token = wants ? token | 1 : 0,
                                 .answer_unit = (uint16_t)(token % 700),
                                 .answer_units = (uint16_t)(token % 20)};
    struct vgpu_ring_part part = {body, length};
    (void)vgpu_ring_client_write(&client, &h, &part, 1);
}

static void call(uint16_t opcode, const uint64_t *slots, unsigned count, const char *text)
{
    uint8_t body[1024];
    size_t n = text ? strlen(text) : 0;
    uint64_t context = CONTEXT;
    memcpy(body, &context, 8);
    memcpy(body + 8, slots, 8 * count);
    if (n)
        memcpy(body + 8 + 8 * count, text, n);
    write_record(opcode, true, body, (uint32_t)(8 + 8 * count + n));
}

/* What a session has: a context, a module, a function, a stream, an event. Small numbers are names,
 * so that inputs find them. */
static void prepare(void)
{
    call(VGPU_CALL_PRIMARY_RETAIN, (const uint64_t[]){CONTEXT, 0}, 2, NULL);
    call(VGPU_CALL_MODULE_LOAD, (const uint64_t[]){1, 0}, 2, ptx);
    call(VGPU_CALL_FUNCTION_GET, (const uint64_t[]){1, 1}, 2, "add");
    call(VGPU_CALL_STREAM_CREATE, (const uint64_t[]){1, 0, 0}, 3, NULL);
    call(VGPU_CALL_EVENT_CREATE, (const uint64_t[]){1, 0}, 2, NULL);
    (void)vgpu_ring_client_publish(&client);
    run();
    take_answers();
}

static void finish(void)
{
    /* Whatever the channel has become: its session goes on by another. */
    vgpu_channel_detach(channel);
    attach();
    call(VGPU_CALL_CONTEXT_DESTROY, (const uint64_t[]){CONTEXT}, 1, NULL);
    (void)vgpu_ring_client_publish(&client);
    run();
    struct vgpu_ring_completion c;
    MUST(vgpu_ring_client_take(&client, &c) && c.token);
    vgpu_channel_detach(channel);
    while (asked_count)
        answer_extent(true);
    read_reports();
    MUST(states & 1u << VGPU_CHANNEL_FREE);
    MUST(!channel->outstanding && !channel->allocs);
    struct vgpu_extent e;
    while (channel->extents.count)
        MUST(vgpu_extents_remove(&channel->extents, channel->extents.extent[0].offset, &e));
}

/* The bytes of the input that are left. */
struct script {
    const uint8_t *at;
    size_t left;
};

static uint8_t next(struct script *s)
{
    if (!s->left)
        return 0;
    s->left--;
    return *s->at++;
}

static void step(struct script *s)
{
    uint8_t what = next(s);
    if (what < 200) {
        uint16_t opcode = next(s);
        opcode |= (uint16_t)(next(s) << 8);
        if (opcode < 0x80)
            opcode |= 0x1000;
        uint32_t length = (uint32_t)next(s) * 4;
        if (length > s->left)
            length = (uint32_t)s->left;
        write_record(opcode, what & 1, s->at, length);
        s->at += length;
        s->left -= length;
    } else if (what < 220) {
        uint32_t units = next(s);
        for (uint32_t i = 0; i < units && s->left; i++) {
            size_t n = s->left < 64 ? s->left : 64;
            memcpy(window + VGPU_CHANNEL_SUBMISSIONS + client.tail % VGPU_RING_UNITS * 64, s->at,
                   n);
            client.tail++;
            s->at += n;
            s->left -= n;
        }
    } else if (what < 230) {
        (void)vgpu_ring_client_publish(&client);
        run();
    } else if (what < 240) {
        answer_extent(next(s));
        run();
    } else if (what < 250) {
        vgpu_channel_detach(channel);
        attach();
        read_reports(); /* as attach.c, which takes no ATTACH before it has sent that it is free */
    } else {
        take_answers();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!backend)
        open_all();
    states = 0;
    attach();
    prepare();
    for (struct script s = {data, size}; s.left;)
        step(&s);
    (void)vgpu_ring_client_publish(&client);
    run();
    finish();
    /* A lost session does nothing more: another one for the next input. */
    if (atomic_load(&executor.sticky))
        close_all();
    return 0;
}
