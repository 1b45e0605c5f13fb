/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Register file and accesses: R2 to R5, R11, R13, R16, and the reset values. */
#include "rig.h"

#include <errno.h>
#include <string.h>

/* Every word that a guest can name, in one table written from docs/register-map.md. */
struct reg {
    uint32_t offset, reset, writable;
};
static const struct reg regs[] = {
    {0x000, 0, 0},   {0x004, 0, 0},   {0x008, 'A', 0}, {0x00C, 1, 0},          {0x010, 7, 0},
    {0x014, 0, 0},   {0x018, 0, ~0u}, {0x01C, 0, 0},   {0x020, 0x00010000, 0}, {0x024, 0x3, 0},
    {0x028, 0, 1},   {0x02C, 0, 0},   {0x030, 0, ~0u}, {0x034, 0, 0},          {0x038, 0, 0},
    {0x03C, 0, ~0u}, {0x840, 0, 0},   {0x844, 0, 0},   {0x848, 0, 0},          {0x84C, 0, 0},
    {0x850, 0, 0},   {0x854, 0, 0},   {0x858, 0, 0},   {0xC00, 0, 0},          {0xFFC, 0, 0},
};
#define REG_COUNT (sizeof(regs) / sizeof(regs[0]))

static void reset_values(void **state)
{
    struct rig *rig = *state;
    for (unsigned i = 0; i < REG_COUNT; i++) {
        assert_int_equal(rd32(rig, regs[i].offset), regs[i].reset);
        assert_int_equal(peek(rig, regs[i].offset), regs[i].reset);
    }
    for (uint32_t offset = 0x40; offset < 0x840; offset += 8)
        assert_int_equal(rig_read(rig, offset, 8), 0);
    for (uint32_t offset = 0x858; offset < 0x1000; offset += 4)
        assert_int_equal(rd32(rig, offset), 0);
}

static void config_out_of_range_is_refused(void **state)
{
    struct rig *rig = *state;
    struct vgpu_device dev;
    struct vgpu_device_config bad[8];
    for (unsigned i = 0; i < 8; i++)
        bad[i] = rig_config();
    bad[0].pool_id = 'A' - 1;
    bad[1].pool_id = 'Z' + 1;
    bad[2].pool_id = 'a';
    bad[3].pool_id = 'A' | 0x100;
    bad[4].priority = 3;
    bad[5].timeout_ms = 99;
    bad[6].timeout_ms = 3600001;
    bad[7].timeout_ms = 0;
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(vgpu_device_init(&dev, &bad[i], rig->dev.ops, rig), -EINVAL);
    struct vgpu_device_config good = rig_config();
    good.timeout_ms = 3600000;
    good.pool_id = 'Z';
    assert_int_equal(vgpu_device_init(&dev, &good, rig->dev.ops, rig), 0);
    assert_int_equal(vgpu_device_init(&dev, &good, NULL, rig), -EINVAL);
}

/* Every register, every size, every position in the word: what R2 and R4 say, and no neighbour. */
static void r2_r4_every_access_to_every_register(void **state)
{
    struct rig *rig = *state;
    for (unsigned r = 0; r < REG_COUNT; r++) {
        for (unsigned size = 1; size <= 8; size++) {
            for (int shift = -7; shift <= 3; shift++) {
                int64_t at = (int64_t)regs[r].offset + shift;
                if (at < 0 || at == 0)
                    continue; /* a word write to DOORBELL at 0 is a doorbell: see test_mailbox */
                uint32_t before[0x1000 / 4];
                for (uint32_t w = 0; w < 0x1000; w += 4)
                    before[w / 4] = peek(rig, w);
                rig_write(rig, (uint32_t)at, 0xFEDCBA9876543211ull, size);
                for (uint32_t w = 0; w < 0x1000; w += 4) {
                    if (w >= 0x40 && w < 0x440)
                        continue; /* R3, below */
                    uint32_t want = before[w / 4];
                    bool whole = w >= (uint64_t)at && w + 4 <= (uint64_t)at + size;
                    for (unsigned k = 0; whole && k < REG_COUNT; k++)
                        if (regs[k].offset == w)
                            want = (want & ~regs[k].writable) |
                                   ((uint32_t)(0xFEDCBA9876543211ull >> (8 * (w - (uint64_t)at))) &
                                    regs[k].writable);
                    assert_int_equal(peek(rig, w), want);
                }
                for (unsigned rsize = 1; rsize <= 8; rsize++) {
                    uint64_t value = rig_read(rig, (uint32_t)at, rsize);
                    for (unsigned b = 0; b < rsize; b++)
                        assert_int_equal((value >> (8 * b)) & 0xFF,
                                         at + b < 0x1000 ? rig_read(rig, (uint32_t)at + b, 1) : 0);
                    if (rsize < 8)
                        assert_int_equal(value >> (8 * rsize), 0);
                }
            }
        }
    }
    assert_int_equal(rig->tx_length, 0);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_IDLE);
}

static void r2_parts_in_ascending_order(void **state)
{
    struct rig *rig = *state;
    rig_attach(rig);
    /* LO is latched before HI is read, in one 8-byte read. */
    uint64_t seq = rig_submit(rig, 4, 1);
    rig->now = 0x123456789ABCDEFull;
    rig_respond(rig, seq, 0, "abcd", 4);
    assert_int_equal(rig_read(rig, VGPU_REG_TIMESTAMP_LO, 8), 0x123456789ABCDEFull);
    /* REQUEST_LEN (0x018) is written; RESPONSE_LEN (0x01C) beside it is not. */
    rig_write(rig, VGPU_REG_REQUEST_LEN, 0xFFFFFFFF00000004ull, 8);
    assert_int_equal(peek(rig, VGPU_REG_REQUEST_LEN), 4);
    assert_int_equal(peek(rig, VGPU_REG_RESPONSE_LEN), 4);
    /* An 8-byte write from 0x02E: half a word, REQUEST_ID whole, half a word. */
    rig_write(rig, 0x02E, 0xAAAA12345678BBBBull, 8);
    assert_int_equal(peek(rig, VGPU_REG_REQUEST_ID), 0x12345678);
    assert_int_equal(peek(rig, VGPU_REG_INTERRUPT_STATUS), 1);
}

static void r3_buffers_take_every_access(void **state)
{
    struct rig *rig = *state;
    uint8_t want[VGPU_MAILBOX_BYTES] = {0};
    uint32_t x = 12345;
    for (unsigned round = 0; round < 20000; round++) {
        x = x * 1664525u + 1013904223u;
        unsigned size = 1 + (x >> 20) % 8;
        uint32_t at = (x >> 8) % (VGPU_MAILBOX_BYTES - size + 1);
        uint64_t value = ((uint64_t)x << 32 | x) * 2654435761u;
        rig_write(rig, VGPU_REG_REQUEST_BUF + at, value, size);
        for (unsigned i = 0; i < size; i++)
            want[at + i] = (uint8_t)(value >> (8 * i));
    }
    for (unsigned size = 1; size <= 8; size++) {
        for (uint32_t at = 0; at + size <= VGPU_MAILBOX_BYTES; at++) {
            uint64_t value = rig_read(rig, VGPU_REG_REQUEST_BUF + at, size);
            assert_int_equal(value, get_le(want + at, size));
        }
    }
    assert_int_equal(rig->dev.stats.guest_errors, 0);
}

/* The seams: SCRATCH | REQUEST_BUF, REQUEST_BUF | RESPONSE_BUF, RESPONSE_BUF | WINDOW_SIZE. */
static void r3_accesses_that_cross_into_and_out_of_a_buffer(void **state)
{
    struct rig *rig = *state;
    rig_write(rig, VGPU_REG_SCRATCH, 0x1122334455667788ull, 8);
    assert_int_equal(rd32(rig, VGPU_REG_SCRATCH), 0x55667788);
    assert_int_equal(rd32(rig, VGPU_REG_REQUEST_BUF), 0x11223344);
    rig_write(rig, VGPU_REG_SCRATCH + 2, 0xAABBCCDDull, 4);
    assert_int_equal(rd32(rig, VGPU_REG_SCRATCH), 0x55667788);
    assert_int_equal(rd32(rig, VGPU_REG_REQUEST_BUF), 0x1122AABB);
    rig_write(rig, VGPU_REG_RESPONSE_BUF - 1, 0xFFFFFFFFFFFFFFEEull, 8);
    assert_int_equal(rig_read(rig, VGPU_REG_RESPONSE_BUF - 1, 8), 0xEE);
    assert_true(response_is_zero(rig));
    rig_write(rig, VGPU_REG_WINDOW_SIZE_LO - 3, ~0ull, 8);
    assert_int_equal(rig_read(rig, VGPU_REG_WINDOW_SIZE_LO - 3, 8), 0);
}

static void accesses_outside_the_bar(void **state)
{
    struct rig *rig = *state;
    static const uint64_t offsets[] = {0x1000,     0x1004,         0xFFFFFFFFull,
                                       UINT64_MAX, UINT64_MAX - 7, 0x100000000ull};
    for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        for (unsigned size = 1; size <= 8; size++) {
            vgpu_device_write(&rig->dev, offsets[i], ~0ull, size, rig->now);
            assert_int_equal(vgpu_device_read(&rig->dev, offsets[i], size, rig->now), 0);
        }
    }
    assert_int_equal(rig_read(rig, 0xFFF, 8), 0);
    rig_write(rig, 0xFFF, ~0ull, 8);
    /* A size that no bus has: the first 8 bytes count, nothing is overrun. */
    rig_write(rig, VGPU_REG_SCRATCH, 0x1122334455667788ull, 200);
    assert_int_equal(rig_read(rig, VGPU_REG_SCRATCH, 200), 0x1122334455667788ull);
    assert_int_equal(rig_read(rig, VGPU_REG_SCRATCH, 0), 0);
}

static void r5_each_kind_of_guest_error(void **state)
{
    struct rig *rig = *state;
    static const struct {
        uint32_t offset;
        unsigned size;
        unsigned errors;
    } writes[] = {
        {VGPU_REG_SCRATCH, 1, 1},        /* a part of a word (R4) */
        {VGPU_REG_SCRATCH + 1, 2, 1},    /* the same */
        {VGPU_REG_DOORBELL, 2, 1},       /* the same: no doorbell */
        {VGPU_REG_REQUEST_ID + 2, 4, 2}, /* two parts */
        {VGPU_REG_STATUS, 4, 1},         /* read-only */
        {VGPU_REG_GENERATION, 8, 2},     /* read-only, twice */
        {0x858, 4, 1},                   /* reserved */
        {VGPU_REG_RESPONSE_BUF + 5, 1, 1},
        {VGPU_REG_REQUEST_LEN, 4, 0},
        {VGPU_REG_REQUEST_BUF + 3, 7, 0},
        {VGPU_REG_INTERRUPT_STATUS, 4, 0},
    };
    for (unsigned i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
        uint64_t before = rig->dev.stats.guest_errors;
        rig->now += 10 * S;
        rig_write(rig, writes[i].offset, 1, writes[i].size);
        assert_int_equal(rig->dev.stats.guest_errors - before, writes[i].errors);
    }
    assert_int_equal(rig->events[VGPU_DEVICE_GUEST_ERROR], rig->dev.stats.guest_errors);
    assert_int_equal(rig->events[VGPU_DEVICE_COMPLETED], 0);
}

static void r5_at_most_ten_logs_in_any_second(void **state)
{
    struct rig *rig = *state;
    uint64_t logged_at[4000];
    unsigned logged = 0;
    /* 1000 errors a second for 10 s. */
    for (unsigned i = 0; i < 10000; i++) {
        rig->now += 1 * MS;
        unsigned before = rig->events[VGPU_DEVICE_GUEST_ERROR];
        wr32(rig, VGPU_REG_STATUS, 1);
        if (rig->events[VGPU_DEVICE_GUEST_ERROR] != before)
            logged_at[logged++] = rig->now;
    }
    assert_true(logged >= 90 && logged <= 110);
    for (unsigned i = 10; i < logged; i++)
        assert_true(logged_at[i] - logged_at[i - 10] >= 1 * S);
    assert_int_equal(rig->dev.stats.guest_errors, 10000);
    /* What was kept quiet is told afterwards. */
    rig->now += 10 * S;
    wr32(rig, VGPU_REG_STATUS, 1);
    assert_true(rig->last[VGPU_DEVICE_GUEST_ERROR].unlogged > 0);
    assert_int_equal(rig->last[VGPU_DEVICE_GUEST_ERROR].code, VGPU_REG_STATUS);
    rig->now += 10 * S;
    wr32(rig, VGPU_REG_STATUS, 1);
    assert_int_equal(rig->last[VGPU_DEVICE_GUEST_ERROR].unlogged, 0);
}

static void reserved_bits_read_zero(void **state)
{
    struct rig *rig = *state;
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 0xFFFFFFFF);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_CTRL), 1);
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 0xFFFFFFFE);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_CTRL), 0);
    wr32(rig, VGPU_REG_INTERRUPT_STATUS, 0xFFFFFFFF);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 0);
    wr32(rig, VGPU_REG_DOORBELL, 0xFFFFFFFE); /* bit 0 clear: no doorbell */
    assert_int_equal(rd32(rig, VGPU_REG_DOORBELL), 0);
    assert_int_equal(rig->dev.stats.completions, 0);
    wr32(rig, VGPU_REG_DOORBELL, 0xFFFFFFFF); /* bit 0 set: a doorbell */
    assert_int_equal(rig->dev.stats.completions, 1);
    assert_int_equal(rd32(rig, VGPU_REG_DOORBELL), 0);
}

static void r11_interrupt_status_is_latched_and_cleared_by_one(void **state)
{
    struct rig *rig = *state;
    wr32(rig, VGPU_REG_DOORBELL, 1); /* REQUEST_LEN 0: completes at once */
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1); /* reading does not clear */
    wr32(rig, VGPU_REG_INTERRUPT_STATUS, 0);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
    wr32(rig, VGPU_REG_INTERRUPT_STATUS, 0xFFFFFFFE);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
    rig_write(rig, VGPU_REG_INTERRUPT_STATUS, 1, 1); /* a part of a word */
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
    wr32(rig, VGPU_REG_INTERRUPT_STATUS, 1);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 0);
    /* Enabling later does not raise for the past; nothing was raised at all. */
    wr32(rig, VGPU_REG_DOORBELL, 1);
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
    assert_int_equal(rig->interrupts, 0);
    /* A doorbell does not clear it. */
    wr32(rig, VGPU_REG_DOORBELL, 0);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
}

static void r13_timestamp_is_the_completions_and_hi_is_latched(void **state)
{
    struct rig *rig = *state;
    rig_attach(rig);
    uint64_t seq = rig_submit(rig, 1, 1);
    rig->now = 0x00000001FFFFFFF0ull;
    rig_respond(rig, seq, 0, NULL, 0);
    assert_int_equal(rd32(rig, VGPU_REG_TIMESTAMP_HI), 0); /* nothing latched yet */
    for (unsigned i = 0; i < 4; i++)
        rig_read(rig, VGPU_REG_TIMESTAMP_LO + i, 1); /* a part: latches nothing */
    rig_read(rig, VGPU_REG_TIMESTAMP_LO + 1, 3);
    assert_int_equal(rd32(rig, VGPU_REG_TIMESTAMP_HI), 0);
    rig->now += 10 * S;
    assert_int_equal(rd32(rig, VGPU_REG_TIMESTAMP_LO), 0xFFFFFFF0);
    assert_int_equal(rd32(rig, VGPU_REG_TIMESTAMP_HI), 1);
    /* The next doorbell forgets all three (R6). */
    wr32(rig, VGPU_REG_REQUEST_LEN, 1);
    wr32(rig, VGPU_REG_DOORBELL, 1);
    assert_int_equal(rd32(rig, VGPU_REG_TIMESTAMP_HI), 0);
    assert_int_equal(rd32(rig, VGPU_REG_TIMESTAMP_LO), 0);
    assert_int_equal(rd32(rig, VGPU_REG_TIMESTAMP_HI), 0);
}

static void capabilities_without_msix(void **state)
{
    struct rig *rig = *state;
    struct vgpu_device_config config = rig_config();
    config.msix = false;
    rig_init(rig, &config);
    assert_int_equal(rd32(rig, VGPU_REG_CAPABILITIES), VGPU_CAP_MAILBOX);
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    wr32(rig, VGPU_REG_DOORBELL, 1);
    assert_int_equal(rd32(rig, VGPU_REG_INTERRUPT_STATUS), 1);
    assert_int_equal(rig->interrupts, 0);
}

static void r16_properties_then_decision_then_properties(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rd32(rig, VGPU_REG_POOL_ID), 'A');
    vgpu_device_link_opened(&rig->dev, rig->now);
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 0); /* connected is not attached */
    rig_expect(rig, VGPU_LINK_HELLO);
    rig_welcome(rig, VGPU_LINK_WELCOME, 9, 'B', 2);
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 1);
    assert_int_equal(rd32(rig, VGPU_REG_POOL_ID), 'B');
    assert_int_equal(rd32(rig, VGPU_REG_PRIORITY), 2);
    assert_int_equal(rd32(rig, VGPU_REG_VM_ID), 9);
    vgpu_device_reset(&rig->dev, rig->now); /* a reset changes none of them */
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 1);
    assert_int_equal(rd32(rig, VGPU_REG_POOL_ID), 'B');
    assert_int_equal(rd32(rig, VGPU_REG_PRIORITY), 2);
    assert_int_equal(rd32(rig, VGPU_REG_VM_ID), 9);
    vgpu_device_link_closed(&rig->dev, rig->now);
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 0);
    assert_int_equal(rd32(rig, VGPU_REG_POOL_ID), 'A');
    assert_int_equal(rd32(rig, VGPU_REG_PRIORITY), 1);
    assert_int_equal(rd32(rig, VGPU_REG_VM_ID), 7);
}

#define T(f) VGPU_TEST_F(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(reset_values),
        T(config_out_of_range_is_refused),
        T(r2_r4_every_access_to_every_register),
        T(r2_parts_in_ascending_order),
        T(r3_buffers_take_every_access),
        T(r3_accesses_that_cross_into_and_out_of_a_buffer),
        T(accesses_outside_the_bar),
        T(r5_each_kind_of_guest_error),
        T(r5_at_most_ten_logs_in_any_second),
        T(reserved_bits_read_zero),
        T(r11_interrupt_status_is_latched_and_cleared_by_one),
        T(r13_timestamp_is_the_completions_and_hi_is_latched),
        T(capabilities_without_msix),
        T(r16_properties_then_decision_then_properties),
    };
    return cmocka_run_group_tests_name("device registers", tests, NULL, NULL);
}
