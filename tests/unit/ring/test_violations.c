/* SPDX-License-Identifier: MIT */
/*
 * One rule broken at a time (docs/ring.md G9, G16, G19), by the guest and by the worker, each next
 * to the nearest thing that is allowed.
 */
#include "rig.h"

#include "ring/barrier.h"

static void publish_raw(struct ring_rig *r, uint64_t tail)
{
    rig_guest_page(r)->submit_tail = tail;
}

/* G19: the channel was fatal; after a reset it carries records and answers as on the first day. */
static void expect_reset_helps(struct ring_rig *r)
{
    struct vgpu_ring_completion c;
    rig_reset(r);
    uint32_t error;
    assert_int_equal(vgpu_ring_client_state(&r->client, &error), VGPU_CHANNEL_ACTIVE);
    assert_int_equal(error, VGPU_CHANNEL_OK);
    rig_post(r, 77, 500);
    rig_expect(r, 77, 500);
    assert_true(vgpu_ring_server_has_room(&r->server, 1));
    vgpu_ring_server_complete(&r->server, &(struct vgpu_ring_answer){.token = 77}, 0, 0);
    assert_true(vgpu_ring_client_take(&r->client, &c));
    assert_int_equal(c.token, 77);
}

/* G9: a tail that goes back or too far. */
static void test_bad_tail(void **state)
{
    struct ring_rig *r = *state;
    static const uint64_t tails[] = {2049 + 3, 4096, UINT64_MAX, (uint64_t)1 << 63, 2, 0};
    for (unsigned i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        rig_reset(r);
        for (uint32_t token = 1; token <= 3; token++) {
            rig_post(r, token, 0);
            rig_expect(r, token, 0);
        }
        vgpu_ring_server_show(&r->server);
        publish_raw(r, tails[i]);
        assert_null(vgpu_ring_server_take(&r->server, r->record));
        rig_expect_fatal(r, VGPU_CHANNEL_BAD_TAIL);
        expect_reset_helps(r);
    }
    /* The furthest that is allowed; units that were not shown count as taken up. */
    rig_reset(r);
    publish_raw(r, 2048);
    rig_next_record(r)->opcode = VGPU_RING_NOP;
    assert_non_null(vgpu_ring_server_take(&r->server, r->record));
    rig_reset(r);
    rig_post(r, 1, 0);
    rig_expect(r, 1, 0);
    publish_raw(r, 2049);
    assert_null(vgpu_ring_server_take(&r->server, r->record));
    rig_expect_fatal(r, VGPU_CHANNEL_BAD_TAIL);
}

/* G9, G10: a worker on its way to sleep sees a bad tail, says so once, and may sleep then. */
static void test_bad_tail_before_sleep(void **state)
{
    struct ring_rig *r = *state;
    publish_raw(r, 5000);
    assert_false(vgpu_ring_server_sleep(&r->server));
    assert_int_equal(rig_worker_page(r)->doorbell_wanted, 0);
    rig_expect_fatal(r, VGPU_CHANNEL_BAD_TAIL);
    rig_reset(r);
    publish_raw(r, 5000);
    assert_false(vgpu_ring_server_pending(&r->server));
    rig_expect_fatal(r, VGPU_CHANNEL_BAD_TAIL);
}

/* A record with this header and so many units published: taken, or not. */
static void try_header(struct ring_rig *r, const struct vgpu_ring_record *header, uint64_t units,
                       bool good)
{
    rig_reset(r);
    /* Not at the beginning, and going on over the end. */
    r->server.head = r->server.shown = r->server.tail = 2047;
    *rig_next_record(r) = *header;
    publish_raw(r, 2047 + units);
    const struct vgpu_ring_record *got = vgpu_ring_server_take(&r->server, r->record);
    if (good) {
        assert_non_null(got);
        assert_memory_equal(got, header, sizeof(*header));
        assert_int_equal(r->server.head, 2047 + vgpu_ring_units(header->length));
        assert_int_equal(r->server.error, VGPU_CHANNEL_OK);
    } else {
        assert_null(got);
        assert_int_equal(r->server.head, 2047); /* not consumed */
        rig_expect_fatal(r, VGPU_CHANNEL_BAD_RECORD);
        expect_reset_helps(r);
    }
}

/* G9: every way a header can be wrong, and the last value at which it is right. */
static void test_bad_record(void **state)
{
    struct ring_rig *r = *state;
    static const struct {
        struct vgpu_ring_record header;
        uint64_t published;
        bool good;
    } cases[] = {
        {{.length = 48}, 1, true},
        {{.length = 49}, 1, false},
        {{.length = 49}, 2, true},
        {{.length = 16368}, 256, true},
        {{.length = 16368}, 255, false},
        {{.length = 16369}, 257, false},
        {{.length = 16369}, 2048, false},
        {{.length = 0x7FFFFFFF}, 2048, false},
        {{.length = 0xFFFFFFF0}, 2048, false}, /* 0 in 32 bits, with the header */
        {{.length = 0xFFFFFFFF}, 2048, false},
        {{.flags = VGPU_RING_FLAG_HINT}, 1, true},
        {{.flags = 2}, 1, false},
        {{.flags = 0x8000}, 1, false},
        {{.flags = 0xFFFF}, 1, false},
        {{.answer_unit = 0, .answer_units = 768}, 1, true},
        {{.answer_unit = 1, .answer_units = 768}, 1, false},
        {{.answer_unit = 0, .answer_units = 769}, 1, false},
        {{.answer_unit = 767, .answer_units = 1}, 1, true},
        {{.answer_unit = 768, .answer_units = 1}, 1, false},
        {{.answer_unit = 769, .answer_units = 0}, 1, false},
        {{.answer_unit = 0xFFFF, .answer_units = 0xFFFF}, 1, false},
        {{.answer_unit = 1, .answer_units = 0xFFFF}, 1, false}, /* 0 in 16 bits */
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        try_header(r, &cases[i].header, cases[i].published, cases[i].good);
}

/* G16: complete_head that goes back or too far, looked at when room is short. */
static void test_bad_head(void **state)
{
    struct ring_rig *r = *state;
    static const uint64_t heads[] = {101, UINT64_MAX, (uint64_t)1 << 63, 49, 0};
    for (unsigned i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct vgpu_ring_completion c;
        rig_reset(r);
        for (uint32_t k = 0; k < 100; k++) {
            assert_true(vgpu_ring_server_has_room(&r->server, 1));
            vgpu_ring_server_complete(&r->server, &(struct vgpu_ring_answer){.token = k}, 0, 0);
        }
        for (uint32_t k = 0; k < 50; k++)
            assert_true(vgpu_ring_client_take(&r->client, &c));
        assert_true(vgpu_ring_server_has_room(&r->server, 974));
        rig_guest_page(r)->complete_head = heads[i];
        assert_false(vgpu_ring_server_has_room(&r->server, 975));
        rig_expect_fatal(r, VGPU_CHANNEL_BAD_HEAD);
        expect_reset_helps(r);
    }
}

/* G16: the same where room is found missing in the middle of an answer. */
static void test_bad_head_in_complete(void **state)
{
    struct ring_rig *r = *state;
    for (uint32_t k = 0; k < VGPU_RING_COMPLETIONS; k++)
        vgpu_ring_server_complete(&r->server, &(struct vgpu_ring_answer){.token = k}, 0, 0);
    rig_guest_page(r)->complete_head = 1025;
    rig_guest_page(r)->interrupt_wanted = 1;
    assert_false(
        vgpu_ring_server_complete(&r->server, &(struct vgpu_ring_answer){.token = 1}, 0, 0));
    rig_expect_fatal(r, VGPU_CHANNEL_BAD_HEAD);
}

/* G19: the worker's own reasons, and that what it wrote before its page is not believed. */
static void test_fail(void **state)
{
    struct ring_rig *r = *state;
    rig_post(r, 1, 0);
    vgpu_ring_server_fail(&r->server, VGPU_CHANNEL_SESSION_LOST);
    rig_expect_fatal(r, VGPU_CHANNEL_SESSION_LOST);
    expect_reset_helps(r);
    /* The guest writes all over the worker's page: only the guest believes it. */
    rig_post(r, 2, 100);
    memset(rig_worker_page(r), 0xFF, 4096);
    rig_expect(r, 2, 100);
    assert_true(vgpu_ring_server_sleep(&r->server));
    assert_int_equal(r->server.error, VGPU_CHANNEL_OK);
}

/* A worker that counts back or beyond what was written: the client writes no more, and lives. */
static void test_hostile_submit_head(void **state)
{
    struct ring_rig *r = *state;
    static const uint64_t heads[] = {2049, UINT64_MAX, (uint64_t)1 << 63, 9};
    for (unsigned i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        rig_reset(r);
        for (uint32_t k = 0; k < 10; k++)
            rig_post(r, k, 0);
        for (uint32_t k = 0; k < 10; k++)
            rig_expect(r, k, 0);
        vgpu_ring_server_show(&r->server);
        while (rig_write(r, 1, 0) && r->client.tail < 2048 + 10) {
        }
        vgpu_ring_client_publish(&r->client);
        assert_int_equal(r->client.tail, 2048 + 10);
        assert_int_equal(r->client.head, 10);
        rig_worker_page(r)->submit_head = heads[i] == 2049 ? 2059 : heads[i];
        assert_false(rig_write(r, 1, 0));
        assert_true(r->client.broken);
        rig_worker_page(r)->submit_head = 100;
        assert_false(rig_write(r, 1, 0)); /* once and for all */
        assert_int_equal(r->client.tail, 2048 + 10);
    }
}

/* A worker whose entries lie: lengths are bounded by the record's own range. */
static void test_hostile_completion(void **state)
{
    struct ring_rig *r = *state;
    static const uint32_t lengths[] = {41, 64, 65, 128, 129, 49152, 49153, 0x80000000u, UINT32_MAX};
    uint64_t k = 0;
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct vgpu_ring_completion c;
        uint32_t length;
        *rig_entry(r, k) = (struct vgpu_ring_completion){
            .token = UINT32_MAX, .length = lengths[i], .sequence = k + 1};
        k++;
        assert_true(vgpu_ring_client_take(&r->client, &c));
        assert_ptr_equal(vgpu_ring_client_answer(&r->client, &c, 0, 0, &length), c.bytes);
        assert_int_equal(length, 40);
        const uint8_t *where = vgpu_ring_client_answer(&r->client, &c, 766, 2, &length);
        assert_ptr_equal(where, r->channel + VGPU_CHANNEL_SUBMISSIONS - 128);
        assert_true(length <= 128);
        where = vgpu_ring_client_answer(&r->client, &c, 0, 768, &length);
        assert_true(where + length <= r->channel + VGPU_CHANNEL_SUBMISSIONS);
        /* Even a range that no record could have had. */
        vgpu_ring_client_answer(&r->client, &c, 0xFFFF, 0xFFFF, &length);
        assert_int_equal(length, 40);
    }
    /* A sequence that is not the next is no entry, whichever it is. */
    static const uint64_t sequences[] = {0, 1, 1024, 1025, UINT64_MAX};
    for (unsigned i = 0; i < sizeof(sequences) / sizeof(sequences[0]); i++) {
        struct vgpu_ring_completion c;
        rig_entry(r, k)->sequence = sequences[i];
        assert_false(vgpu_ring_client_take(&r->client, &c));
        assert_true(vgpu_ring_client_sleep(&r->client));
    }
    assert_int_equal(rig_guest_page(r)->complete_head, k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(test_bad_tail),
        RING_TEST(test_bad_tail_before_sleep),
        RING_TEST(test_bad_record),
        RING_TEST(test_bad_head),
        RING_TEST(test_bad_head_in_complete),
        RING_TEST(test_fail),
        RING_TEST(test_hostile_submit_head),
        RING_TEST(test_hostile_completion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
