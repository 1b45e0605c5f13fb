/* SPDX-License-Identifier: MIT */
/* Completing (docs/ring.md G11, G15 to G18) between two honest ends. */
#include "rig.h"

#include "ring/barrier.h"

static void answer(struct ring_rig *r, uint32_t token, const void *bytes, uint32_t length,
                   uint16_t unit, uint16_t units)
{
    struct vgpu_ring_answer a = {token, token * 2, token * 3, length, bytes};
    assert_true(vgpu_ring_server_has_room(&r->server, 1));
    assert_false(vgpu_ring_server_complete(&r->server, &a, unit, units));
}

/* Takes the next, which must be this one. */
static struct vgpu_ring_completion taken(struct ring_rig *r, uint32_t token)
{
    struct vgpu_ring_completion c = {.token = 0};
    assert_true(vgpu_ring_client_take(&r->client, &c));
    assert_int_equal(c.token, token);
    assert_int_equal(c.status, token * 2);
    assert_int_equal(c.error_code, token * 3);
    return c;
}

/* G15: an entry is there when its sequence is, once, and then its place is given back. */
static void test_entry(void **state)
{
    struct ring_rig *r = *state;
    struct vgpu_ring_completion c;
    assert_false(vgpu_ring_client_take(&r->client, &c));
    answer(r, 7, "12345678", 8, 0, 0);
    assert_int_equal(rig_entry(r, 0)->sequence, 1);
    assert_int_equal(rig_guest_page(r)->complete_head, 0);
    c = taken(r, 7);
    assert_int_equal(c.length, 8);
    assert_memory_equal(c.bytes, "12345678", 8);
    assert_int_equal(rig_guest_page(r)->complete_head, 1);
    assert_false(vgpu_ring_client_take(&r->client, &c));
}

/* G15: up to 40 bytes stand in the entry, more in the answer area, cut to what the record has. */
static void test_answers(void **state)
{
    static const struct {
        uint16_t unit, units;
        uint32_t length, arrives;
    } cases[] = {
        {0, 0, 0, 0},           {0, 0, 40, 40},     {0, 0, 41, 40},     {0, 0, 70000, 40},
        {3, 1, 40, 40},         {3, 1, 41, 41},     {3, 1, 64, 64},     {3, 1, 65, 64},
        {767, 1, 400, 64},      {766, 2, 128, 128}, {0, 768, 100, 100}, {0, 768, 49152, 49152},
        {0, 768, 70000, 49152},
    };
    static uint8_t bytes[70000];
    struct ring_rig *r = *state;
    for (uint32_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = rig_byte(3, i);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(r->channel + VGPU_CHANNEL_ANSWERS, 0xEE, VGPU_CHANNEL_ANSWERS_BYTES);
        answer(r, i + 1, bytes, cases[i].length, cases[i].unit, cases[i].units);
        struct vgpu_ring_completion c = taken(r, i + 1);
        uint32_t length;
        const uint8_t *where =
            vgpu_ring_client_answer(&r->client, &c, cases[i].unit, cases[i].units, &length);
        assert_int_equal(length, cases[i].arrives);
        assert_int_equal(c.length, cases[i].arrives);
        assert_memory_equal(where, bytes, length);
        /* Nothing outside of where it belongs. */
        const uint8_t *area = r->channel + VGPU_CHANNEL_ANSWERS;
        uint32_t from = cases[i].unit * VGPU_RING_UNIT;
        uint32_t to = length > VGPU_RING_INLINE_BYTES ? from + length : from;
        for (uint32_t at = 0; at < VGPU_CHANNEL_ANSWERS_BYTES; at++)
            if (at < from || at >= to)
                assert_int_equal(area[at], 0xEE);
    }
}

/* G15: the place that the worker may write an answer to itself. */
static void test_answer_area(void **state)
{
    struct ring_rig *r = *state;
    struct vgpu_ring_record header = {.answer_unit = 767, .answer_units = 1};
    uint32_t bytes = 1;
    assert_ptr_equal(vgpu_ring_server_answer_area(&r->server, &header, &bytes),
                     r->channel + VGPU_CHANNEL_SUBMISSIONS - 64);
    assert_int_equal(bytes, 64);
    header.answer_units = 0;
    assert_null(vgpu_ring_server_answer_area(&r->server, &header, &bytes));
    assert_int_equal(bytes, 0);
}

/* G11, G15: many more than there are entries, in step and in bursts. */
static void test_around(void **state)
{
    struct ring_rig *r = *state;
    uint32_t next = 1, expected = 1, random = 99;
    while (expected < 5000) {
        for (uint32_t burst = rig_random(&random) % 1500; burst; burst--) {
            if (!vgpu_ring_server_has_room(&r->server, 1))
                break;
            answer(r, next, &next, sizeof(next), 0, 0);
            next++;
        }
        for (uint32_t burst = rig_random(&random) % 1500; burst && expected < next; burst--) {
            struct vgpu_ring_completion c = taken(r, expected);
            assert_memory_equal(c.bytes, &expected, sizeof(expected));
            expected++;
        }
    }
    assert_int_equal(r->server.error, VGPU_CHANNEL_OK);
}

/* G16: 1024 entries between complete_head and the worker's count, and not one more. */
static void test_full(void **state)
{
    struct ring_rig *r = *state;
    assert_true(vgpu_ring_server_has_room(&r->server, VGPU_RING_COMPLETIONS));
    assert_false(vgpu_ring_server_has_room(&r->server, VGPU_RING_COMPLETIONS + 1));
    assert_false(vgpu_ring_server_has_room(&r->server, UINT32_MAX));
    for (uint32_t i = 1; i <= VGPU_RING_COMPLETIONS; i++)
        answer(r, i, NULL, 0, 0, 0);
    assert_false(vgpu_ring_server_has_room(&r->server, 1));
    assert_true(vgpu_ring_server_has_room(&r->server, 0));
    /* Even a worker that asked for no room overwrites nothing. */
    struct vgpu_ring_answer one_more = {.token = 5000};
    assert_false(vgpu_ring_server_complete(&r->server, &one_more, 0, 0));
    taken(r, 1);
    taken(r, 2);
    assert_true(vgpu_ring_server_has_room(&r->server, 2));
    assert_false(vgpu_ring_server_has_room(&r->server, 3));
    answer(r, 1025, NULL, 0, 0, 0);
    answer(r, 1026, NULL, 0, 0, 0);
    assert_false(vgpu_ring_server_has_room(&r->server, 1));
    for (uint32_t i = 3; i <= 1026; i++)
        taken(r, i);
    assert_true(vgpu_ring_server_has_room(&r->server, VGPU_RING_COMPLETIONS));
    assert_int_equal(r->server.error, VGPU_CHANNEL_OK);
}

/* G17: the interrupt is for a guest that is about to sleep, and for nobody else. */
static void test_interrupt(void **state)
{
    struct ring_rig *r = *state;
    struct vgpu_ring_answer a = {.token = 1};
    assert_false(vgpu_ring_server_complete(&r->server, &a, 0, 0));
    assert_false(vgpu_ring_client_sleep(&r->client));
    assert_int_equal(rig_guest_page(r)->interrupt_wanted, 0);
    struct vgpu_ring_completion c;
    assert_true(vgpu_ring_client_take(&r->client, &c));
    assert_true(vgpu_ring_client_sleep(&r->client));
    assert_int_equal(rig_guest_page(r)->interrupt_wanted, 1);
    assert_true(vgpu_ring_server_complete(&r->server, &a, 0, 0));
    vgpu_ring_client_woke(&r->client);
    assert_int_equal(rig_guest_page(r)->interrupt_wanted, 0);
    assert_true(vgpu_ring_client_take(&r->client, &c));
    assert_false(vgpu_ring_server_complete(&r->server, &a, 0, 0));
}

/* G18: a token's hint stands in the page of hints, whatever the token is. */
static void test_hints(void **state)
{
    static const uint32_t tokens[] = {0, 1, 1023, 1024, 1025, 0x80000000u, UINT32_MAX};
    struct ring_rig *r = *state;
    for (unsigned i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        uint32_t *hint = vgpu_ring_server_hint(&r->server, tokens[i]);
        assert_ptr_equal((uint8_t *)hint, r->channel + VGPU_CHANNEL_HINTS + tokens[i] % 1024 * 4);
        assert_true((uint8_t *)(hint + 1) <= r->channel + VGPU_CHANNEL_COMPLETIONS);
        *hint = 1;
    }
}

/* CHANNEL_ERROR has a text for every value that may be read there. */
static void test_texts(void **state)
{
    for (uint32_t e = 0; e <= VGPU_CHANNEL_HOST; e++) {
        assert_non_null(vgpu_channel_error_text(e));
        for (uint32_t other = 0; other < e; other++)
            assert_string_not_equal(vgpu_channel_error_text(e), vgpu_channel_error_text(other));
    }
    assert_non_null(vgpu_channel_error_text(UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(test_entry),  RING_TEST(test_answers), RING_TEST(test_answer_area),
        RING_TEST(test_around), RING_TEST(test_full),    RING_TEST(test_interrupt),
        RING_TEST(test_hints),  RING_TEST(test_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
