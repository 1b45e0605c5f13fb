/* SPDX-License-Identifier: MIT */
/* Submitting (docs/ring.md G7 to G10) between two honest ends. */
#include "rig.h"

#include "ring/barrier.h"

#define CHANNEL_END (VGPU_CHANNEL_DOWNLOAD + VGPU_CHANNEL_DOWNLOAD_BYTES)

/* G6: what was there before is gone, and the channel says that it is active. */
static void test_init_clears(void **state)
{
    struct ring_rig *r = *state;
    uint32_t error = 1;
    assert_int_equal(vgpu_ring_client_state(&r->client, &error), VGPU_CHANNEL_ACTIVE);
    assert_int_equal(error, VGPU_CHANNEL_OK);
    uint32_t others = 0;
    for (uint32_t i = 0; i < CHANNEL_END; i++)
        others += r->channel[i] != 0;
    assert_int_equal(others, 1); /* state */
}

/* G7: units of a record, at the borders. */
static void test_units(void **state)
{
    assert_int_equal(vgpu_ring_units(0), 1);
    assert_int_equal(vgpu_ring_units(48), 1);
    assert_int_equal(vgpu_ring_units(49), 2);
    assert_int_equal(vgpu_ring_units(112), 2);
    assert_int_equal(vgpu_ring_units(113), 3);
    assert_int_equal(vgpu_ring_units(VGPU_RING_RECORD_BYTES_MAX), VGPU_RING_RECORD_UNITS_MAX);
    assert_true(vgpu_ring_units(VGPU_RING_RECORD_BYTES_MAX + 1) > VGPU_RING_RECORD_UNITS_MAX);
    assert_true(vgpu_ring_units(UINT32_MAX) > VGPU_RING_RECORD_UNITS_MAX);
}

/* G7: where a record's bytes stand. */
static void test_layout(void **state)
{
    struct ring_rig *r = *state;
    const uint8_t *ring = r->channel + VGPU_CHANNEL_SUBMISSIONS;
    struct vgpu_ring_record header = {.opcode = VGPU_RING_REQUEST,
                                      .flags = VGPU_RING_FLAG_HINT,
                                      .length = 12345, /* is set by write */
                                      .token = 0x01020304,
                                      .answer_unit = 5,
                                      .answer_units = 6};
    struct vgpu_ring_part parts[] = {{"abc", 3}, {"defg", 4}};
    assert_true(vgpu_ring_client_write(&r->client, &header, parts, 2));
    static const uint8_t expected[] = {0x02, 0x20, 1, 0, 7,   0,   0,   0,   4,   3,   2,  1,
                                       5,    0,    6, 0, 'a', 'b', 'c', 'd', 'e', 'f', 'g'};
    assert_memory_equal(ring, expected, sizeof(expected));
    assert_int_equal(rig_guest_page(r)->submit_tail, 0);
    vgpu_ring_client_publish(&r->client);
    assert_int_equal(rig_guest_page(r)->submit_tail, 1);
}

/* G8: nothing is seen before it was published; several at once by one addition. */
static void test_publish(void **state)
{
    struct ring_rig *r = *state;
    assert_true(rig_write(r, 1, 10));
    assert_true(rig_write(r, 2, 100));
    assert_true(rig_write(r, 3, 0));
    assert_false(vgpu_ring_server_pending(&r->server));
    assert_null(vgpu_ring_server_take(&r->server, r->record));
    vgpu_ring_client_publish(&r->client);
    assert_true(vgpu_ring_server_pending(&r->server));
    rig_expect(r, 1, 10);
    rig_expect(r, 2, 100);
    rig_expect(r, 3, 0);
    assert_null(vgpu_ring_server_take(&r->server, r->record));
    assert_int_equal(r->server.error, VGPU_CHANNEL_OK);
}

/* G7: records of every size, each beginning wherever the one before ended: over the end, too. */
static void test_wrap(void **state)
{
    struct ring_rig *r = *state;
    uint32_t wrapped = 0;
    for (uint32_t token = 1; token < 3000; token++) {
        uint32_t length = token * 37 % (VGPU_RING_RECORD_BYTES_MAX + 1);
        uint64_t at = r->client.tail % VGPU_RING_UNITS;
        wrapped += at + vgpu_ring_units(length) > VGPU_RING_UNITS;
        rig_post(r, token, length);
        rig_expect(r, token, length);
        vgpu_ring_server_show(&r->server);
    }
    assert_true(wrapped > 100);
    /* Each border between two units, with the header in the last unit and the rest in the first. */
    for (uint32_t units = 2; units <= VGPU_RING_RECORD_UNITS_MAX; units++) {
        while (r->client.tail % VGPU_RING_UNITS != VGPU_RING_UNITS - 1) {
            rig_post(r, 1, 0);
            rig_expect(r, 1, 0);
            vgpu_ring_server_show(&r->server);
        }
        rig_post(r, units, units * VGPU_RING_UNIT - 17);
        rig_expect(r, units, units * VGPU_RING_UNIT - 17);
        vgpu_ring_server_show(&r->server);
    }
}

/* G8: 2048 units and no more between submit_head and the tail; units come back when shown. */
static void test_full(void **state)
{
    struct ring_rig *r = *state;
    for (uint32_t i = 1; i <= VGPU_RING_UNITS; i++)
        assert_true(rig_write(r, i, 48));
    assert_false(rig_write(r, 1, 0));
    vgpu_ring_client_publish(&r->client);
    assert_false(rig_write(r, 1, 0));
    rig_expect(r, 1, 48);
    rig_expect(r, 2, 48);
    assert_false(rig_write(r, 1, 0)); /* taken, but not shown */
    vgpu_ring_server_show(&r->server);
    assert_false(rig_write(r, 7, 113)); /* three units, two are free */
    assert_true(rig_write(r, 7, 112));
    assert_false(rig_write(r, 1, 0));
    vgpu_ring_client_publish(&r->client);
    for (uint32_t i = 3; i <= VGPU_RING_UNITS; i++)
        rig_expect(r, i, 48);
    rig_expect(r, 7, 112);
    assert_false(vgpu_ring_server_pending(&r->server));
    assert_false(r->client.broken);
    assert_int_equal(r->server.error, VGPU_CHANNEL_OK);
}

/* G9: a worker that finds nothing keeps no units back. */
static void test_idle_worker_gives_back(void **state)
{
    struct ring_rig *r = *state;
    rig_post(r, 1, 48);
    rig_expect(r, 1, 48);
    assert_int_equal(rig_worker_page(r)->submit_head, 0);
    assert_null(vgpu_ring_server_take(&r->server, r->record));
    assert_int_equal(rig_worker_page(r)->submit_head, 1);
    rig_post(r, 2, 48);
    rig_expect(r, 2, 48);
    assert_true(vgpu_ring_server_sleep(&r->server));
    assert_int_equal(rig_worker_page(r)->submit_head, 2);
}

/* G7: a body of more than a record holds is refused, also one whose parts sum up beyond 32 bits. */
static void test_too_long(void **state)
{
    struct ring_rig *r = *state;
    static uint8_t body[VGPU_RING_RECORD_BYTES_MAX + 1];
    struct vgpu_ring_record header = {.opcode = VGPU_RING_NOP};
    struct vgpu_ring_part part = {body, sizeof(body)};
    assert_false(vgpu_ring_client_write(&r->client, &header, &part, 1));
    struct vgpu_ring_part huge[] = {{body, UINT32_MAX}, {body, 1}, {body, 20}};
    assert_false(vgpu_ring_client_write(&r->client, &header, huge, 3));
    assert_int_equal(r->client.tail, 0);
    assert_false(r->client.broken);
    part.length--;
    assert_true(vgpu_ring_client_write(&r->client, &header, &part, 1));
    vgpu_ring_client_publish(&r->client);
    assert_non_null(vgpu_ring_server_take(&r->server, r->record));
}

/* G9: what was taken is a copy, and stays what it was when it was checked. */
static void test_copied(void **state)
{
    struct ring_rig *r = *state;
    rig_post(r, 5, 200);
    struct vgpu_ring_record *in_ring = rig_next_record(r);
    const struct vgpu_ring_record *header = vgpu_ring_server_take(&r->server, r->record);
    assert_non_null(header);
    memset(in_ring, 0xFF, 256);
    assert_int_equal(header->length, 200);
    assert_int_equal(header->token, 5);
    assert_int_equal(r->record[16 + 199], rig_byte(5, 199));
}

/* G10: the doorbell is asked for by a worker that is about to sleep, and by nobody else. */
static void test_doorbell(void **state)
{
    struct ring_rig *r = *state;
    assert_true(rig_write(r, 1, 0));
    assert_false(vgpu_ring_client_publish(&r->client));
    /* A record is there already: no sleep, and the wish is withdrawn. */
    assert_false(vgpu_ring_server_sleep(&r->server));
    assert_int_equal(rig_worker_page(r)->doorbell_wanted, 0);
    assert_false(vgpu_ring_server_sleep(&r->server)); /* nor with one known, but not taken */
    rig_expect(r, 1, 0);
    assert_true(vgpu_ring_server_sleep(&r->server));
    assert_int_equal(rig_worker_page(r)->doorbell_wanted, 1);
    assert_true(rig_write(r, 2, 0));
    assert_true(vgpu_ring_client_publish(&r->client));
    vgpu_ring_server_woke(&r->server);
    assert_int_equal(rig_worker_page(r)->doorbell_wanted, 0);
    rig_expect(r, 2, 0);
    assert_true(rig_write(r, 3, 0));
    assert_false(vgpu_ring_client_publish(&r->client));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RING_TEST(test_init_clears), RING_TEST(test_units),
        RING_TEST(test_layout),      RING_TEST(test_publish),
        RING_TEST(test_wrap),        RING_TEST(test_full),
        RING_TEST(test_too_long),    RING_TEST(test_idle_worker_gives_back),
        RING_TEST(test_copied),      RING_TEST(test_doorbell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
