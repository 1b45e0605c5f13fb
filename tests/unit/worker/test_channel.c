/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A worker and its channel: the worker's side of docs/ring.md, G5 to G17, but for the arena
 * (test_channel_arena.c) and for what waits for a GPU (test_channel_gpu.c). */
#define _GNU_SOURCE /* memmem */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "channel_rig.h"
#include "fake_backend.h"
#include "vgpu_test.h"

static const struct answer_place nowhere = {0, 0};

static void g11_a_nop_with_a_token_is_answered_without_it_is_not(void **state)
{
    struct channel_rig *r = *state;
    guest_write(r, VGPU_RING_NOP, false, nowhere, NULL, 0);
    struct guest_answer a = guest_record(r, VGPU_RING_NOP, NULL, 0);
    guest_expect(a, 0);
    assert_int_equal(a.length, 0);
    guest_expect_silence(r, 5);
}

static void g9_records_run_in_order(void **state)
{
    struct channel_rig *r = *state;
    guest_load(r);
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 4096), 0);
    POST(r, MEMORY_SET, address, 0, 0, 4, 16, 1, 0);
    for (unsigned i = 0; i < 1000; i++)
        guest_launch_add(r, address, 3);
    struct guest_answer a = DO(r, COPY_FROM_DEVICE, address, 64, 0);
    guest_expect(a, 0);
    assert_int_equal(a.length, 64);
    assert_int_equal(get32(a.bytes), 3000);
    POST(r, MEMORY_SET, address, 0, 7, 4, 16, 1, 0);
    a = DO(r, COPY_FROM_DEVICE, address, 4, 0);
    assert_int_equal(get32(a.bytes), 7);
}

static void g9_units_are_given_back_while_nothing_is_answered(void **state)
{
    struct channel_rig *r = *state;
    /* Four rings of 16 KiB records, of which nothing comes back. */
    static uint8_t bytes[VGPU_RING_RECORD_BYTES_MAX - 8 - 24];
    uint64_t context = CHANNEL_CONTEXT;
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 65536), 0);
    for (unsigned i = 0; i < 32; i++) {
        uint64_t slots[] = {address, 0, 0};
        memset(bytes, (int)i, sizeof(bytes));
        const struct vgpu_ring_part parts[] = {PART(&context, 8), PART(slots, 24),
                                               PART(bytes, sizeof(bytes))};
        guest_write(r, VGPU_CALL_COPY_TO_DEVICE, false, nowhere, parts, 3);
        guest_publish(r);
    }
    struct guest_answer a = DO(r, COPY_FROM_DEVICE, address + sizeof(bytes) - 4, 4, 0);
    guest_expect(a, 0);
    assert_int_equal(get32(a.bytes), 0x1f1f1f1f);
}

static void g10_the_worker_sleeps_and_a_doorbell_wakes_it(void **state)
{
    struct channel_rig *r = *state;
    uint64_t before = r->doorbells;
    for (unsigned i = 0; i < 20; i++) {
        usleep(3000);
        guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
    }
    assert_true(r->doorbells - before >= 15); /* it did not look all the time */
}

/* What processor time the process takes while nobody has anything to do. */
static void an_idle_worker_uses_no_processor(void **state)
{
    struct channel_rig *r = *state;
    struct timespec a, b;
    guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
    usleep(50000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    usleep(400000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    int64_t ns = (b.tv_sec - a.tv_sec) * 1000000000ll + (b.tv_nsec - a.tv_nsec);
    assert_true(ns < 4000000); /* 1 %, of which most is this thread's going to sleep */
}

static void g11_posted_calls_with_a_token_are_answered_0(void **state)
{
    struct channel_rig *r = *state;
    struct guest_answer a = DO(r, MEMORY_FREE, 12345); /* no such address: deferred */
    guest_expect(a, 0);
    assert_int_equal(a.length, 0);
    a = guest_synchronize(r);
    guest_expect(a, CUDA_ERROR_INVALID_VALUE);
    assert_non_null(memmem(a.bytes, a.length, "earlier", 7));
    guest_expect(guest_synchronize(r), 0); /* P30: once */
}

/* docs/mediator.md, "Following a request": a failure's text names its record, which is the channel
 * and what was in the ring before it; a deferred one names the record that failed. */
static void failures_name_their_request(void **state)
{
    struct channel_rig *r = *state;
    char name[64];
    for (unsigned i = 0; i < 3; i++) {
        guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
        snprintf(name, sizeof(name), "(request %u.%llu)", CHANNEL_NUMBER,
                 (unsigned long long)r->client.tail);
        struct guest_answer a = /* there is no such module */
            guest_do(r, VGPU_CALL_FUNCTION_GET, SLOTS(4711, 9), "add", 3);
        assert_int_not_equal(a.status, CUDA_SUCCESS);
        assert_non_null(memmem(a.bytes, a.length, name, strlen(name)));
        snprintf(name, sizeof(name), "(request %u.%llu)", CHANNEL_NUMBER,
                 (unsigned long long)r->client.tail);
        POST(r, MEMORY_FREE, 12345);
        POST(r, MEMORY_FREE, 12346);
        a = guest_synchronize(r);
        guest_expect(a, CUDA_ERROR_INVALID_VALUE);
        assert_non_null(memmem(a.bytes, a.length, name, strlen(name)));
    }
}

static void g11_failures_without_a_token_are_deferred(void **state)
{
    struct channel_rig *r = *state;
    static const uint8_t not_utf8[] = {1, 0, 2};
    uint64_t context = CHANNEL_CONTEXT;
    POST(r, MEMORY_FREE, 12345);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
    /* Of any kind: a call there is not, */
    struct vgpu_ring_part part = PART(&context, 8);
    guest_write(r, 0x1fff, false, nowhere, &part, 1);
    guest_publish(r);
    guest_expect(guest_synchronize(r), CUDA_ERROR_NOT_SUPPORTED);
    /* bytes beside a stage, */
    guest_call(r, VGPU_CALL_COPY_TO_DEVICE, false, SLOTS(4096, 0, 5), not_utf8, 3);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
    /* a stage there is not. */
    POST(r, COPY_TO_DEVICE, 4096, 0, 5);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_HANDLE);
    guest_expect(guest_synchronize(r), 0);
}

static void g12_a_call_that_is_not_in_the_table_is_801(void **state)
{
    struct channel_rig *r = *state;
    uint64_t context = CHANNEL_CONTEXT;
    guest_expect(guest_record(r, 0x1ffe, &context, 8), CUDA_ERROR_NOT_SUPPORTED);
    guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
}

static void g12_what_cannot_be_understood_has_an_error_code(void **state)
{
    struct channel_rig *r = *state;
    guest_load(r);
    /* P28: a text with a NUL. */
    struct guest_answer a = guest_do(r, VGPU_CALL_FUNCTION_GET, SLOTS(1, 9), "a\0b", 3);
    assert_int_equal(a.error_code, VGPU_ERR_INVALID_REQUEST);
    assert_int_equal(a.status, CUDA_ERROR_INVALID_VALUE);
    a = guest_do(r, VGPU_CALL_FUNCTION_GET, SLOTS(1, 9), NULL, 0);
    assert_int_equal(a.error_code, VGPU_ERR_INVALID_REQUEST);
    guest_expect(guest_do(r, VGPU_CALL_FUNCTION_GET, SLOTS(1, 9), "add", 3), 0);
}

static void g11_failures_of_calls_are_texts(void **state)
{
    struct channel_rig *r = *state;
    struct guest_answer a = DO(r, STREAM_SYNCHRONIZE, 77);
    guest_expect(a, CUDA_ERROR_INVALID_HANDLE);
    assert_non_null(memmem(a.bytes, a.length, "stream_synchronize", 18));
    /* Cut to what the entry has, when there is no place (G15). */
    uint32_t token = BEGIN(r, STREAM_SYNCHRONIZE, 77);
    struct vgpu_ring_completion c = guest_take(r);
    assert_int_equal(c.token, token);
    assert_int_equal(c.status, CUDA_ERROR_INVALID_HANDLE);
    assert_true(c.length > 0 && c.length <= VGPU_RING_INLINE_BYTES);
}

static void p16_a_lost_session_answers_its_error_to_everything(void **state)
{
    struct channel_rig *r = *state;
    guest_load(r);
    guest_call(r, VGPU_CALL_LAUNCH, false, SLOTS(2, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0), NULL, 0);
    uint32_t status = guest_synchronize(r).status;
    assert_int_equal(status, CUDA_ERROR_ILLEGAL_ADDRESS);
    struct guest_answer a = DO(r, MEMORY_ALLOC, 4096);
    guest_expect(a, status);
    assert_non_null(memmem(a.bytes, a.length, "lost", 4));
    a = DO(r, MEMORY_FREE, 4096); /* a posted one with a token */
    guest_expect(a, status);
    struct request nop = req_session(VGPU_OP_MODULE_UNLOAD, CHANNEL_SESSION, "12345678", 8);
    a = guest_request(r, &nop);
    assert_int_equal(a.status, status);
    struct vgpu_ring_stage_copy s = {.stage = 1, .total_bytes = 4, .bytes = 4};
    guest_expect(guest_record(r, VGPU_RING_STAGE_COPY, &s, sizeof(s)), status);
    guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
}

/* ---- G9, G12: what breaks the rules ---- */

static void expect_fatal(struct channel_rig *r, uint32_t want)
{
    uint32_t error = 0;
    assert_int_equal(guest_wait_fatal(r), want);
    while (rig_channel_state(r, 0, &error) != VGPU_CHANNEL_FATAL)
        usleep(100);
    assert_int_equal(error, want);
    guest_expect_silence(r, 3);
    /* G19: a reset makes it usable again, and the session lives. */
    rig_detach(r);
    rig_attach(r);
    guest_expect(guest_synchronize(r), 0);
}

static void post_raw(struct channel_rig *r, uint16_t opcode, bool wants, const void *body,
                     uint32_t length)
{
    struct vgpu_ring_part part = PART(body, length);
    guest_write(r, opcode, wants, nowhere, &part, 1);
    guest_publish(r);
}

static void g12_bodies_that_cannot_be_are_fatal(void **state)
{
    struct channel_rig *r = *state;
    static const uint8_t bytes[2048];
    static const struct {
        uint16_t opcode;
        bool wants;
        uint32_t length;
    } bad[] = {
        {VGPU_RING_NOP, true, 1},
        {VGPU_CALL_STREAM_SYNCHRONIZE, true, 8},  /* a slot too few */
        {VGPU_CALL_STREAM_SYNCHRONIZE, true, 17}, /* something behind */
        {VGPU_CALL_STREAM_SYNCHRONIZE, true, 0},
        {VGPU_CALL_STREAM_SYNCHRONIZE, false, 16}, /* no token, and not posted */
        {VGPU_RING_REQUEST, true, 31},
        {VGPU_RING_REQUEST, true, 1025},
        {VGPU_RING_REQUEST, false, 32},
        {VGPU_RING_STAGE_COPY, true, 23},
        {VGPU_RING_STAGE_COPY, true, 25},
        {VGPU_RING_STAGE_COPY, false, 24},
        {VGPU_RING_ARENA_ALLOC, true, 7},
        {VGPU_RING_ARENA_ALLOC, false, 8},
        {VGPU_RING_ARENA_FREE, true, 9},
        {VGPU_RING_ARENA_FREE, false, 8},
        {0x0001, true, 0},
        {0x0fff, true, 0},
        {0x2000, true, 0},
        {0xffff, true, 0},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        post_raw(r, bad[i].opcode, bad[i].wants, bytes, bad[i].length);
        expect_fatal(r, VGPU_CHANNEL_BAD_RECORD);
    }
}

static void g9_headers_that_cannot_be_are_fatal(void **state)
{
    struct channel_rig *r = *state;
    const struct vgpu_ring_record bad[] = {
        {.flags = 0x8000},
        {.length = 64},         /* more than was published */
        {.length = UINT32_MAX}, /* more than any record */
        {.answer_unit = 767, .answer_units = 2},
        {.answer_unit = 65535, .answer_units = 65535},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t *at = r->channel + VGPU_CHANNEL_SUBMISSIONS +
                      r->client.tail % VGPU_RING_UNITS * VGPU_RING_UNIT;
        memcpy(at, &bad[i], sizeof(bad[i]));
        r->client.tail++;
        guest_publish(r);
        expect_fatal(r, VGPU_CHANNEL_BAD_RECORD);
    }
}

static void g9_a_tail_that_cannot_be_is_fatal(void **state)
{
    struct channel_rig *r = *state;
    r->client.tail += VGPU_RING_UNITS + 1;
    guest_publish(r);
    expect_fatal(r, VGPU_CHANNEL_BAD_TAIL);
    guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
    r->client.tail--;
    guest_publish(r);
    uint64_t one = 1; /* the worker may sleep, and the client sees no need to ring */
    assert_int_equal(write(r->doorbell, &one, 8), 8);
    expect_fatal(r, VGPU_CHANNEL_BAD_TAIL);
}

static void g16_a_head_that_cannot_be_is_fatal(void **state)
{
    struct channel_rig *r = *state;
    struct vgpu_ring_guest *page = (void *)r->channel;
    /* It is looked at when it must be: when 1024 are out. */
    for (unsigned i = 0; i < 1100; i++)
        guest_write(r, VGPU_RING_NOP, true, nowhere, NULL, 0);
    __atomic_store_n(&page->complete_head, 5000, __ATOMIC_RELEASE);
    guest_publish(r);
    assert_int_equal(guest_wait_fatal(r), VGPU_CHANNEL_BAD_HEAD);
}

static void g16_no_more_than_1024_answers_wait(void **state)
{
    struct channel_rig *r = *state;
    struct vgpu_ring_completion c;
    const struct vgpu_ring_worker *page = (void *)(r->channel + VGPU_CHANNEL_WORKER_PAGE);
    uint64_t before = r->client.tail;
    for (unsigned i = 0; i < 1500; i++)
        guest_write(r, VGPU_RING_NOP, true, nowhere, NULL, 0);
    guest_publish(r);
    usleep(20000);
    /* One has been taken, and waits. */
    assert_int_equal(__atomic_load_n(&page->submit_head, __ATOMIC_ACQUIRE) - before, 1025);
    /* A reply there is no room for holds up what is behind it, until there is. */
    for (unsigned i = 0; i < 1500; i++) {
        c = guest_take(r);
        assert_int_equal(c.token, i + 1 + (r->token - 1500));
    }
    guest_expect_silence(r, 3);
}

static void g16_what_wants_no_answer_needs_no_room(void **state)
{
    struct channel_rig *r = *state;
    for (unsigned i = 0; i < VGPU_RING_COMPLETIONS; i++)
        guest_write(r, VGPU_RING_NOP, true, nowhere, NULL, 0);
    guest_publish(r);
    /* Three rings' worth that must pass, with 1024 answers not taken. */
    for (unsigned i = 0; i < 3 * VGPU_RING_UNITS; i++) {
        guest_write(r, VGPU_RING_NOP, false, nowhere, NULL, 0);
        guest_publish(r);
    }
    for (unsigned i = 0; i < VGPU_RING_COMPLETIONS; i++)
        (void)guest_take(r);
}

static void g17_an_interrupt_comes_when_it_is_wanted(void **state)
{
    struct channel_rig *r = *state;
    struct pollfd p = {.fd = r->interrupt, .events = POLLIN};
    uint64_t count;
    guest_expect(guest_record(r, VGPU_RING_NOP, NULL, 0), 0);
    assert_int_equal(poll(&p, 1, 0), 0); /* nobody asked for it */
    for (unsigned i = 0; i < 200; i++) {
        uint32_t token = guest_write(r, VGPU_RING_NOP, true, nowhere, NULL, 0);
        guest_publish(r);
        struct vgpu_ring_completion c;
        while (!guest_take_now(r, &c)) {
            if (vgpu_ring_client_sleep(&r->client)) {
                assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
                assert_int_equal(read(r->interrupt, &count, 8), 8);
                vgpu_ring_client_woke(&r->client);
            }
        }
        assert_int_equal(c.token, token);
        if (i % 10 == 0)
            usleep(500);
    }
    /* A counter that is full holds nobody up. */
    uint64_t full = UINT64_MAX - 1;
    assert_int_equal(write(r->interrupt, &full, 8), 8);
    uint32_t token = guest_write(r, VGPU_RING_NOP, true, nowhere, NULL, 0);
    (void)vgpu_ring_client_sleep(&r->client);
    guest_publish(r);
    assert_int_equal(guest_take(r).token, token);
}

/* ---- Stages and requests ---- */

static void g13_a_stage_is_filled_from_the_upload_staging(void **state)
{
    struct channel_rig *r = *state;
    uint64_t upload = CHANNEL_NUMBER * VGPU_CHANNEL_BYTES + VGPU_CHANNEL_UPLOAD;
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 300000), 0);
    for (uint32_t at = 0; at < 300000; at += 100000) {
        memset(r->window + upload, (int)(at / 100000 + 1), 100000);
        struct vgpu_ring_stage_copy s = {.stage = 3,
                                         .total_bytes = 300000,
                                         .offset = at,
                                         .bytes = 100000,
                                         .window_offset = upload};
        guest_expect(guest_record(r, VGPU_RING_STAGE_COPY, &s, sizeof(s)), 0);
    }
    POST(r, COPY_TO_DEVICE, address, 0, 3);
    struct guest_answer a = DO(r, COPY_FROM_DEVICE, address + 299996, 4, 0);
    guest_expect(a, 0);
    assert_int_equal(get32(a.bytes), 0x03030303);
    a = DO(r, COPY_FROM_DEVICE, address + 99996, 8, 0);
    assert_int_equal(get32(a.bytes), 0x01010101);
    assert_int_equal(get32(a.bytes + 4), 0x02020202);
}

static void g13_only_ones_own_bytes_can_be_named(void **state)
{
    struct channel_rig *r = *state;
    const uint64_t begin = CHANNEL_NUMBER * VGPU_CHANNEL_BYTES;
    const uint64_t upload = begin + VGPU_CHANNEL_UPLOAD, download = begin + VGPU_CHANNEL_DOWNLOAD;
    uint64_t address = guest_out(DO(r, MEMORY_ALLOC, 4096), 0);
    const uint64_t bad_reads[] = {0,
                                  begin,
                                  upload - 1,
                                  upload + VGPU_CHANNEL_UPLOAD_BYTES - 15,
                                  download,
                                  begin + VGPU_CHANNEL_BYTES + VGPU_CHANNEL_UPLOAD,
                                  CHANNEL_WINDOW,
                                  CHANNEL_WINDOW - 8,
                                  UINT64_MAX - 7,
                                  UINT64_MAX};
    for (unsigned i = 0; i < sizeof(bad_reads) / sizeof(bad_reads[0]); i++) {
        POST(r, COPY_WINDOW_TO_DEVICE, address, 16, bad_reads[i], 0);
        guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
        struct vgpu_ring_stage_copy s = {
            .stage = 1, .total_bytes = 16, .bytes = 16, .window_offset = bad_reads[i]};
        guest_expect(guest_record(r, VGPU_RING_STAGE_COPY, &s, sizeof(s)),
                     CUDA_ERROR_INVALID_VALUE);
    }
    POST(r, COPY_WINDOW_TO_DEVICE, address, UINT64_MAX, upload, 0);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
    POST(r, COPY_DEVICE_TO_WINDOW, upload, address, 16, 0);
    guest_expect(guest_synchronize(r), CUDA_ERROR_INVALID_VALUE);
    memset(r->window + upload, 0x5a, 16);
    POST(r, COPY_WINDOW_TO_DEVICE, address, 16, upload, 0);
    POST(r, COPY_DEVICE_TO_WINDOW, download, address, 16, 0);
    guest_expect(guest_synchronize(r), 0);
    assert_memory_equal(r->window + download, r->window + upload, 16);
}

static void g12_bad_pieces_of_a_stage_are_a_status(void **state)
{
    struct channel_rig *r = *state;
    const uint64_t upload = CHANNEL_NUMBER * VGPU_CHANNEL_BYTES + VGPU_CHANNEL_UPLOAD;
    const struct vgpu_ring_stage_copy bad[] = {
        {0, 4, 0, 4, upload},          {1, 0, 0, 4, upload},          {1, 4, 0, 0, upload},
        {1, 4, 4, 4, upload},          {1, 8, 4, 4, upload},          {1, UINT32_MAX, 0, 4, upload},
        {1, 8, UINT32_MAX, 4, upload}, {1, 8, 4, UINT32_MAX, upload},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        guest_expect(guest_record(r, VGPU_RING_STAGE_COPY, &bad[i], sizeof(bad[i])),
                     CUDA_ERROR_INVALID_VALUE);
}

static struct response parse(const struct guest_answer *a)
{
    struct response out;
    parse_response(1, a->error_code, a->bytes, a->length, &out);
    assert_int_equal(out.length ? out.status : 0, a->status);
    return out;
}

static void p34_requests_are_answered_as_by_the_mailbox(void **state)
{
    struct channel_rig *r = *state;
    struct request load = req_load(CHANNEL_SESSION, 0, "ok module");
    struct guest_answer a = guest_request(r, &load);
    struct response out = parse(&a);
    expect_ok(&out);
    uint64_t module = result64(&out, 0);
    struct request find = req_module_kernel(CHANNEL_SESSION, module, 0, "poke");
    a = guest_request(r, &find);
    out = parse(&a);
    expect_ok(&out);
    uint64_t kernel = result64(&out, 0);
    struct request alloc = req_alloc(4096);
    alloc = req_wrap(CHANNEL_SESSION, &alloc);
    a = guest_request(r, &alloc);
    out = parse(&a);
    expect_ok(&out);
    uint64_t address = result64(&out, 0);
    uint8_t arguments[12];
    memcpy(arguments, &address, 8);
    put32(arguments + 8, 4711);
    struct request launch = req_launch(kernel, arguments, 12);
    launch = req_wrap(CHANNEL_SESSION, &launch);
    a = guest_request(r, &launch);
    out = parse(&a);
    expect_ok(&out);
    struct request back = req_dtoh(address, 4);
    back = req_wrap(CHANNEL_SESSION, &back);
    a = guest_request(r, &back);
    out = parse(&a);
    expect_ok(&out);
    assert_int_equal(get32(out.data), 4711);
    /* P10: ASYNC is answered bare. */
    struct request sent = async(req_free(address));
    sent = req_wrap(CHANNEL_SESSION, &sent);
    a = guest_request(r, &sent);
    assert_int_equal(a.error_code, 0);
    assert_int_equal(a.length, 0);
    struct request wait = req_sync();
    wait = req_wrap(CHANNEL_SESSION, &wait);
    guest_request(r, &wait);
    assert_int_equal(fake_free_bytes(r->backend), FAKE_MEMORY_BYTES - 256);
}

static void p34_requests_fail_as_by_the_mailbox(void **state)
{
    struct channel_rig *r = *state;
    struct request bad = patched(req_load(CHANNEL_SESSION, 0, "ok"), W_VERSION, 7);
    struct guest_answer a = guest_request(r, &bad);
    struct response out = parse(&a);
    expect_reject(&out, VGPU_ERR_UNSUPPORTED);
    struct request other = req_load(CHANNEL_SESSION + 1, 0, "ok");
    a = guest_request(r, &other);
    out = parse(&a);
    expect_status(&out, 0, CUDA_ERROR_INVALID_CONTEXT);
    struct request unload = req_unload(CHANNEL_SESSION, 99);
    a = guest_request(r, &unload);
    out = parse(&a);
    expect_status(&out, 0, CUDA_ERROR_INVALID_HANDLE);
    struct request ptx = req_load(CHANNEL_SESSION, 0, "no module");
    a = guest_request(r, &ptx);
    out = parse(&a);
    expect_status(&out, 0, CUDA_ERROR_INVALID_PTX);
    assert_non_null(strstr(out.text, "line 1"));
}

/* G12: never 600, however long it takes. */
static void g12_a_request_that_takes_long_is_answered_when_it_is_done(void **state)
{
    struct channel_rig *r = *state;
    struct request alloc = req_alloc(256);
    alloc = req_wrap(CHANNEL_SESSION, &alloc);
    struct vgpu_ring_part part = PART(alloc.bytes, alloc.length);
    fake_hold(r->backend, FAKE_ALLOC);
    uint32_t token =
        guest_write(r, VGPU_RING_REQUEST, true, (struct answer_place){0, 16}, &part, 1);
    guest_publish(r);
    assert_true(fake_wait_held(r->backend));
    guest_expect_silence(r, 150);
    fake_release(r->backend);
    struct vgpu_ring_completion c = guest_take(r);
    assert_int_equal(c.token, token);
    assert_int_equal(c.status, 0);
    assert_int_equal(c.error_code, 0);
}

/* P10, P19: but for what is answered before it runs. */
static void p34_a_launch_is_answered_before_it_runs(void **state)
{
    struct channel_rig *r = *state;
    struct request load = req_load(CHANNEL_SESSION, 0, "ok module");
    struct guest_answer a = guest_request(r, &load);
    struct response out = parse(&a);
    struct request find = req_module_kernel(CHANNEL_SESSION, result64(&out, 0), 0, "empty");
    a = guest_request(r, &find);
    out = parse(&a);
    struct request launch = req_launch(result64(&out, 0), NULL, 0);
    launch = req_wrap(CHANNEL_SESSION, &launch);
    fake_hold(r->backend, FAKE_LAUNCH);
    a = guest_request(r, &launch);
    out = parse(&a);
    expect_ok(&out);
    assert_true(fake_wait_held(r->backend));
    fake_release(r->backend);
    /* Once, and what comes next has an answer of its own. */
    a = guest_request(r, &find);
    out = parse(&a);
    expect_ok(&out);
}

/* G5: a request by the mailbox beside the channel is served. */
static void g5_mailbox_and_channel_go_side_by_side(void **state)
{
    struct channel_rig *r = *state;
    for (unsigned i = 0; i < 300; i++) {
        struct request alloc = req_alloc(256);
        alloc = req_wrap(CHANNEL_SESSION, &alloc);
        uint8_t body[8 + sizeof(alloc.bytes)];
        put32(body, i + 1);
        put32(body + 4, alloc.length);
        memcpy(body + 8, alloc.bytes, alloc.length);
        rig_send(r, VGPU_WORKER_REQUEST, 1000 + i, body, 8 + alloc.length, NULL, 0);
        struct guest_answer a = guest_request(r, &alloc);
        struct response out = parse(&a);
        expect_ok(&out);
    }
    /* All of both have run once the last has. */
    while (fake_calls(r->backend, FAKE_ALLOC) < 600)
        usleep(100);
    assert_int_equal(fake_free_bytes(r->backend), FAKE_MEMORY_BYTES - 600 * 256);
}

int main(void)
{
#define ON(setup, f) VGPU_TEST_F(f, setup, channel_teardown)
    const struct CMUnitTest tests[] = {
        ON(channel_setup, g11_a_nop_with_a_token_is_answered_without_it_is_not),
        ON(channel_setup, g9_records_run_in_order),
        ON(channel_setup, g9_units_are_given_back_while_nothing_is_answered),
        ON(channel_setup, g10_the_worker_sleeps_and_a_doorbell_wakes_it),
        ON(channel_setup, an_idle_worker_uses_no_processor),
        ON(channel_setup, g11_posted_calls_with_a_token_are_answered_0),
        ON(channel_setup, g11_failures_without_a_token_are_deferred),
        ON(channel_setup, failures_name_their_request),
        ON(channel_setup, g12_a_call_that_is_not_in_the_table_is_801),
        ON(channel_setup, g12_what_cannot_be_understood_has_an_error_code),
        ON(channel_setup, g11_failures_of_calls_are_texts),
        ON(channel_setup, p16_a_lost_session_answers_its_error_to_everything),
        ON(channel_setup, g12_bodies_that_cannot_be_are_fatal),
        ON(channel_setup, g9_headers_that_cannot_be_are_fatal),
        ON(channel_setup, g9_a_tail_that_cannot_be_is_fatal),
        ON(channel_setup, g16_a_head_that_cannot_be_is_fatal),
        ON(channel_setup, g16_no_more_than_1024_answers_wait),
        ON(channel_setup, g16_what_wants_no_answer_needs_no_room),
        ON(channel_setup, g17_an_interrupt_comes_when_it_is_wanted),
        ON(channel_setup, g13_a_stage_is_filled_from_the_upload_staging),
        ON(channel_setup, g13_only_ones_own_bytes_can_be_named),
        ON(channel_setup, g12_bad_pieces_of_a_stage_are_a_status),
        ON(channel_setup_requests, p34_requests_are_answered_as_by_the_mailbox),
        ON(channel_setup_requests, p34_requests_fail_as_by_the_mailbox),
        ON(channel_setup_requests, g12_a_request_that_takes_long_is_answered_when_it_is_done),
        ON(channel_setup_requests, p34_a_launch_is_answered_before_it_runs),
        ON(channel_setup_requests, g5_mailbox_and_channel_go_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
