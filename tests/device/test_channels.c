/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Channels as the guest and the mediator see them: R20 to R26, L18 to L20. */
#include "rig.h"

#include <errno.h>
#include <string.h>

#define OWNER(n)    VGPU_REG_CHANNEL_OWNER(n)
#define CTRL(n)     VGPU_REG_CHANNEL_CTRL(n)
#define ERROR(n)    VGPU_REG_CHANNEL_ERROR(n)
#define DOORBELL(n) VGPU_REG_CHANNEL_DOORBELL(n)
#define ENABLE      VGPU_LINK_CHANNEL_ENABLE
#define RESET       VGPU_LINK_CHANNEL_RESET
#define FREE        VGPU_CHANNEL_FREE
#define ACTIVE      VGPU_CHANNEL_ACTIVE
#define FATAL       VGPU_CHANNEL_FATAL

/* What the three registers read. */
static void expect(struct rig *rig, uint32_t n, uint32_t owner, uint32_t ctrl, uint32_t error)
{
    assert_int_equal(rd32(rig, OWNER(n)), owner);
    assert_int_equal(rd32(rig, CTRL(n)), ctrl);
    assert_int_equal(rd32(rig, ERROR(n)), error);
}

/* Claimed by `token` and active; returns the serial of the ENABLE. */
static uint32_t activate(struct rig *rig, uint32_t n, uint32_t token)
{
    wr32(rig, OWNER(n), token);
    wr32(rig, CTRL(n), 1);
    uint32_t serial = rig_expect_channel(rig, ENABLE, n);
    rig_state(rig, n, serial, ACTIVE, 0);
    expect(rig, n, token, ACTIVE, 0);
    return serial;
}

static void r20_the_window_says_what_it_is(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rd32(rig, VGPU_REG_CAPABILITIES), 0x103);
    assert_int_equal(rd32(rig, VGPU_REG_WINDOW_SIZE_LO), 16u << 20);
    assert_int_equal(rd32(rig, VGPU_REG_WINDOW_SIZE_HI), 0);
    assert_int_equal(rd32(rig, VGPU_REG_CHANNEL_COUNT), 10);
    assert_int_equal(rd32(rig, VGPU_REG_CHANNEL_SIZE), 0x80000);
    for (uint32_t at = VGPU_REG_WINDOW_SIZE_LO; at <= VGPU_REG_CHANNEL_SIZE; at += 4)
        wr32(rig, at, 0xFFFFFFFF);
    assert_int_equal(rig->dev.stats.guest_errors, 4);
    assert_int_equal(rd32(rig, VGPU_REG_CHANNEL_COUNT), 10);
    /* Channel 9 is there, channel 10 is not. */
    wr32(rig, OWNER(9), 5);
    assert_int_equal(rd32(rig, OWNER(9)), 5);
    for (uint32_t at = OWNER(10); at < VGPU_BAR0_SIZE; at += 4) {
        wr32(rig, at, 1);
        assert_int_equal(rd32(rig, at), 0);
    }
    assert_int_equal(rig->dev.stats.guest_errors, 4 + (VGPU_BAR0_SIZE - OWNER(10)) / 4);
    struct vgpu_device_config config = rig_config_window();
    config.window_bytes = 1ull << 40;
    config.channel_count = 64;
    rig_init(rig, &config);
    assert_int_equal(rig_read(rig, VGPU_REG_WINDOW_SIZE_LO, 8), 1ull << 40);
    wr32(rig, OWNER(63), 7);
    assert_int_equal(rd32(rig, OWNER(63)), 7);
    vgpu_device_reset(&rig->dev, rig->now);
    assert_int_equal(rig_read(rig, VGPU_REG_WINDOW_SIZE_LO, 8), 1ull << 40);
}

static void r20_sizes_out_of_range_are_refused(void **state)
{
    struct rig *rig = *state;
    static const struct {
        uint64_t bytes;
        uint32_t channels;
        int ret;
    } tries[] = {
        {1u << 20, 1, 0},
        {1u << 20, 2, -EINVAL}, /* nothing is left for the arena */
        {1u << 19, 1, -EINVAL},
        {3u << 20, 1, -EINVAL}, /* no power of two */
        {1ull << 40, 64, 0},
        {1ull << 41, 64, -EINVAL},
        {1ull << 40, 65, -EINVAL},
        {1ull << 40, 0, -EINVAL},
        {1ull << 40, UINT32_MAX, -EINVAL},
        {32u << 20, 64, -EINVAL},
        {64u << 20, 64, 0},
        {0, 0, 0},
        {0, 1000, 0},
    };
    struct vgpu_device dev;
    for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        struct vgpu_device_config config = rig_config();
        config.window_bytes = tries[i].bytes;
        config.channel_count = tries[i].channels;
        assert_int_equal(vgpu_device_init(&dev, &config, rig->dev.ops, rig), tries[i].ret);
    }
    assert_int_equal(vgpu_device_read(&dev, VGPU_REG_CHANNEL_COUNT, 4, 0), 0);
    struct vgpu_device_config config = rig_config_window();
    struct vgpu_device_ops ops = *rig->dev.ops;
    ops.window_open = NULL;
    assert_int_equal(vgpu_device_init(&dev, &config, &ops, rig), -EINVAL);
    ops = *rig->dev.ops;
    ops.link_send_fds = NULL;
    assert_int_equal(vgpu_device_init(&dev, &config, &ops, rig), -EINVAL);
}

static void r21_a_token_is_taken_only_while_it_is_0(void **state)
{
    struct rig *rig = *state;
    wr32(rig, OWNER(3), 0xAAAA0001);
    expect(rig, 3, 0xAAAA0001, FREE, 0);
    wr32(rig, OWNER(3), 0xBBBB0002);
    expect(rig, 3, 0xAAAA0001, FREE, 0);
    wr32(rig, OWNER(3), 0xAAAA0001);
    assert_int_equal(rig->dev.stats.claims, 1);
    assert_int_equal(rig->dev.stats.claims_refused, 2);
    assert_int_equal(rig->dev.stats.guest_errors, 0);
    rig_expect_silence(rig); /* owners are the guest's affair */
    expect(rig, 2, 0, FREE, 0);
    expect(rig, 4, 0, FREE, 0);
    /* R4: a part of the word takes nothing. */
    rig_write(rig, OWNER(4), 0x1234, 2);
    assert_int_equal(rd32(rig, OWNER(4)), 0);
    wr32(rig, OWNER(3), 0);
    expect(rig, 3, 0, FREE, 0);
    wr32(rig, OWNER(3), 0xBBBB0002); /* it was free: nobody is to be waited for */
    expect(rig, 3, 0xBBBB0002, FREE, 0);
    rig_expect_channel(rig, RESET, 3); /* and yet what A bound is to go */
}

static void r21_no_two_owners_overlap(void **state)
{
    struct rig *rig = *state;
    for (uint32_t kind = 0; kind < 3; kind++) { /* let go while being enabled, active, fatal */
        uint32_t n = kind;
        wr32(rig, OWNER(n), 1);
        wr32(rig, CTRL(n), 1);
        uint32_t serial = rig_expect_channel(rig, ENABLE, n);
        if (kind)
            rig_state(rig, n, serial, ACTIVE, 0);
        if (kind == 2)
            rig_state(rig, n, serial, FATAL, VGPU_CHANNEL_BAD_TAIL);
        wr32(rig, OWNER(n), 0);
        assert_int_equal(rd32(rig, OWNER(n)), 0); /* at once */
        assert_int_equal(rd32(rig, CTRL(n)), kind == 1 ? ACTIVE : FATAL);
        uint32_t reset = rig_expect_channel(rig, RESET, n);
        assert_int_equal(reset, serial + 1);
        /* Neither another nor the same token, however often; nor 1 to CTRL. */
        for (unsigned i = 0; i < 3; i++) {
            wr32(rig, OWNER(n), 2);
            wr32(rig, OWNER(n), 1);
            wr32(rig, CTRL(n), 1);
        }
        assert_int_equal(rd32(rig, OWNER(n)), 0);
        rig_expect_silence(rig);
        /* What the worker said before it heard of the reset. */
        rig_state(rig, n, serial, ACTIVE, 0);
        rig_state(rig, n, serial, FATAL, VGPU_CHANNEL_SESSION_LOST);
        rig_state(rig, n, serial, FREE, 0);
        wr32(rig, OWNER(n), 2);
        assert_int_equal(rd32(rig, OWNER(n)), 0);
        rig_state(rig, n, reset, FREE, 0);
        expect(rig, n, 0, FREE, 0);
        wr32(rig, OWNER(n), 2);
        expect(rig, n, 2, FREE, 0);
    }
    assert_int_equal(rig->dev.stats.claims_refused, 3 * 7);
    assert_int_equal(rig->dev.stats.states_dropped, 9);
    assert_int_equal(rig->dev.stats.violations, 0);
}

static void r22_enable(void **state)
{
    struct rig *rig = *state;
    wr32(rig, CTRL(0), 1); /* nobody has it */
    rig_expect_silence(rig);
    assert_int_equal(rig->dev.stats.guest_errors, 1);
    assert_int_equal(rig->last[VGPU_DEVICE_GUEST_ERROR].code, CTRL(0));
    wr32(rig, OWNER(0), 1);
    wr32(rig, CTRL(0), 2);
    wr32(rig, CTRL(0), 0xFFFFFFFF);
    wr32(rig, ERROR(0), 1);
    rig_expect_silence(rig);
    assert_int_equal(rig->dev.stats.guest_errors, 4);
    rig_write(rig, CTRL(0), 1, 2); /* a part of the word (R4) */
    rig_expect_silence(rig);

    wr32(rig, CTRL(0), 1);
    expect(rig, 0, 1, FREE, 0);
    assert_int_equal(rig_expect_channel(rig, ENABLE, 0), 1);
    wr32(rig, CTRL(0), 1); /* it is being enabled */
    rig_expect_silence(rig);
    rig_state(rig, 0, 1, ACTIVE, 0);
    expect(rig, 0, 1, ACTIVE, 0);
    assert_int_equal(rig->last[VGPU_DEVICE_CHANNEL_ACTIVE].code, 0);
    wr32(rig, CTRL(0), 1);
    rig_expect_silence(rig);
    rig_state(rig, 0, 1, FATAL, VGPU_CHANNEL_BAD_RECORD);
    expect(rig, 0, 1, FATAL, VGPU_CHANNEL_BAD_RECORD);
    wr32(rig, CTRL(0), 1);
    rig_expect_silence(rig);
    expect(rig, 0, 1, FATAL, VGPU_CHANNEL_BAD_RECORD);

    wr32(rig, OWNER(1), 1);
    wr32(rig, CTRL(1), 1);
    rig_state(rig, 1, rig_expect_channel(rig, ENABLE, 1), FATAL, VGPU_CHANNEL_NOT_BOUND);
    expect(rig, 1, 1, FATAL, VGPU_CHANNEL_NOT_BOUND);
    assert_int_equal(rig->dev.stats.channels_lost, 2);
    assert_int_equal(rig->dev.stats.channel_enables, 2);
}

static void r22_without_a_mediator_it_is_fatal_at_once(void **state)
{
    struct rig *rig = *state;
    for (unsigned way = 0; way < 3; way++) {
        if (way == 1) /* connected, not attached */
            vgpu_device_link_opened(&rig->dev, rig->now);
        if (way == 2) /* attached to one that has no channels */
            rig_welcome_features(rig, 1);
        rig->tx_length = 0;
        wr32(rig, OWNER(5), 9);
        wr32(rig, CTRL(5), 1);
        expect(rig, 5, 9, FATAL, VGPU_CHANNEL_HOST);
        wr32(rig, OWNER(5), 8);
        expect(rig, 5, 9, FATAL, VGPU_CHANNEL_HOST);
        wr32(rig, CTRL(5), 0);
        expect(rig, 5, 9, FREE, 0);
        wr32(rig, CTRL(5), 1);
        wr32(rig, OWNER(5), 0);
        expect(rig, 5, 0, FREE, 0);
        wr32(rig, DOORBELL(5), 1);
        rig_expect_silence(rig);
    }
    assert_int_equal(rig->opens, 0);
    assert_int_equal(rig->rung[5], 0);
    assert_int_equal(rig->dev.stats.channel_enables, 0);
    /* One that was fatal before the mediator came is reset by the mediator's word. */
    vgpu_device_link_closed(&rig->dev, rig->now);
    wr32(rig, OWNER(5), 7);
    wr32(rig, CTRL(5), 1);
    rig->tx_length = 0;
    rig_attach_channels(rig);
    expect(rig, 5, 7, FATAL, VGPU_CHANNEL_HOST);
    wr32(rig, CTRL(5), 0);
    expect(rig, 5, 7, FATAL, VGPU_CHANNEL_HOST);
    rig_state(rig, 5, rig_expect_channel(rig, RESET, 5), FREE, 0);
    expect(rig, 5, 7, FREE, 0);
}

static void r23_reset(void **state)
{
    struct rig *rig = *state;
    uint32_t serial = activate(rig, 0, 1);
    wr32(rig, CTRL(0), 0);
    expect(rig, 0, 1, ACTIVE, 0); /* a worker is in it */
    uint32_t reset = rig_expect_channel(rig, RESET, 0);
    assert_int_equal(reset, serial + 1);
    wr32(rig, CTRL(0), 0); /* once more: the mediator hears of it, since something may be bound */
    uint32_t again = rig_expect_channel(rig, RESET, 0);
    rig_state(rig, 0, reset, FREE, 0); /* not the newest */
    expect(rig, 0, 1, ACTIVE, 0);
    rig_state(rig, 0, again, FREE, 0);
    expect(rig, 0, 1, FREE, 0); /* and the owner has it still */
    wr32(rig, CTRL(0), 1);
    assert_int_equal(rig_expect_channel(rig, ENABLE, 0), again + 1);
    rig_state(rig, 0, again + 1, ACTIVE, 0);
    expect(rig, 0, 1, ACTIVE, 0);

    rig_state(rig, 0, again + 1, FATAL, VGPU_CHANNEL_BAD_HEAD);
    wr32(rig, CTRL(0), 0);
    expect(rig, 0, 1, FATAL, VGPU_CHANNEL_BAD_HEAD);
    rig_state(rig, 0, rig_expect_channel(rig, RESET, 0), FREE, 0);
    expect(rig, 0, 1, FREE, 0);

    wr32(rig, CTRL(0), 0); /* a free one: it stays free, and can be enabled at once */
    expect(rig, 0, 1, FREE, 0);
    wr32(rig, CTRL(0), 1);
    reset = rig_expect_channel(rig, RESET, 0);
    serial = rig_expect_channel(rig, ENABLE, 0);
    rig_state(rig, 0, reset, FREE, 0); /* crossed */
    expect(rig, 0, 1, FREE, 0);
    rig_state(rig, 0, serial, ACTIVE, 0);
    expect(rig, 0, 1, ACTIVE, 0);
    assert_int_equal(rig->dev.stats.guest_errors, 0);
    assert_int_equal(rig->dev.stats.channel_resets, 4);
}

static void r23_one_being_enabled_reads_2_until_it_is_free(void **state)
{
    struct rig *rig = *state;
    wr32(rig, OWNER(0), 1);
    wr32(rig, CTRL(0), 1);
    uint32_t serial = rig_expect_channel(rig, ENABLE, 0);
    wr32(rig, CTRL(0), 0);
    uint32_t reset = rig_expect_channel(rig, RESET, 0);
    rig_state(rig, 0, serial, ACTIVE, 0); /* crossed */
    expect(rig, 0, 1, FATAL, 0);
    rig_state(rig, 0, reset, FREE, 0);
    expect(rig, 0, 1, FREE, 0);
}

/* R24, L19: every word of the mediator in every phase; only what fits changes anything. */
static void r24_what_does_not_fit_changes_nothing(void **state)
{
    struct rig *rig = *state;
    enum { IDLE, ENABLING, ENABLED, BROKEN, RESETTING, PHASES };
    static const uint32_t shown[PHASES] = {FREE, FREE, ACTIVE, FATAL, ACTIVE};
    for (unsigned phase = 0; phase < PHASES; phase++) {
        for (uint32_t said = 0; said <= FATAL; said++) {
            for (uint32_t old = 0; old < 2; old++) {
                struct vgpu_device_config config = rig_config_window();
                rig_init(rig, &config);
                rig_attach_channels(rig);
                wr32(rig, OWNER(1), 1);
                wr32(rig, CTRL(1), 0); /* serial 1 */
                uint32_t serial = rig_expect_channel(rig, RESET, 1);
                if (phase != IDLE) {
                    wr32(rig, CTRL(1), 1);
                    serial = rig_expect_channel(rig, ENABLE, 1);
                }
                if (phase > ENABLING)
                    rig_state(rig, 1, serial, ACTIVE, 0);
                if (phase == BROKEN)
                    rig_state(rig, 1, serial, FATAL, VGPU_CHANNEL_BAD_TAIL);
                if (phase == RESETTING) {
                    wr32(rig, CTRL(1), 0);
                    serial = rig_expect_channel(rig, RESET, 1);
                }
                assert_int_equal(rd32(rig, CTRL(1)), shown[phase]);
                assert_int_equal(rig->dev.stats.states_dropped, 0);
                bool fits =
                    !old &&
                    ((phase == ENABLING && said != FREE) || (phase == ENABLED && said == FATAL) ||
                     (phase == RESETTING && said == FREE) || (phase == IDLE && said == FREE));
                rig_state(rig, 1, serial - old, said, said == FATAL ? VGPU_CHANNEL_HOST : 0);
                assert_int_equal(rd32(rig, CTRL(1)), fits ? said : shown[phase]);
                assert_int_equal(rd32(rig, ERROR(1)), fits && said == FATAL ? VGPU_CHANNEL_HOST
                                                      : phase == BROKEN     ? VGPU_CHANNEL_BAD_TAIL
                                                                            : 0);
                assert_int_equal(rig->dev.stats.states_dropped, !fits);
                assert_int_equal(rig->dev.stats.violations, 0);
            }
        }
    }
}

static void r25_a_doorbell_wakes_whatever_the_state(void **state)
{
    struct rig *rig = *state;
    wr32(rig, DOORBELL(2), 0);
    wr32(rig, DOORBELL(2), 0xFFFFFFFF);
    assert_int_equal(rig->rung[2], 2);
    activate(rig, 2, 1);
    wr32(rig, DOORBELL(2), 1);
    assert_int_equal(rig->rung[2], 3);
    assert_int_equal(rd32(rig, DOORBELL(2)), 0);
    rig_write(rig, ERROR(2), 0x0000000100000000ull, 8); /* R2: the upper half is a word */
    assert_int_equal(rig->rung[2], 4);
    assert_int_equal(rig->dev.stats.guest_errors, 1); /* the lower one is read-only */
    rig_write(rig, DOORBELL(2), 1, 2);
    rig_write(rig, DOORBELL(2) + 1, 1, 1);
    assert_int_equal(rig->rung[2], 4);
    assert_int_equal(rig->rung[1] + rig->rung[3], 0);
    rig_expect_silence(rig);
    vgpu_device_link_closed(&rig->dev, rig->now);
    wr32(rig, DOORBELL(2), 1);
    assert_int_equal(rig->rung[2], 4);
}

static void r26_losing_the_mediator_frees_channels_and_keeps_owners(void **state)
{
    struct rig *rig = *state;
    uint32_t serial = activate(rig, 0, 10);
    serial = activate(rig, 1, 11);
    rig_state(rig, 1, serial, FATAL, VGPU_CHANNEL_BAD_TAIL);
    activate(rig, 2, 12);
    wr32(rig, CTRL(2), 0);
    rig_expect_channel(rig, RESET, 2);
    wr32(rig, OWNER(3), 13);
    wr32(rig, CTRL(3), 1);
    rig_expect_channel(rig, ENABLE, 3);
    activate(rig, 4, 14);
    wr32(rig, OWNER(4), 0);
    rig->room = 0;
    wr32(rig, CTRL(0), 0); /* waits to be sent, and never is */
    uint32_t generation = rd32(rig, VGPU_REG_GENERATION);
    vgpu_device_link_closed(&rig->dev, rig->now);
    assert_false(rig->window_open);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), generation + 1);
    for (uint32_t n = 0; n < 4; n++)
        expect(rig, n, 10 + n, FREE, 0);
    expect(rig, 4, 0, FREE, 0);
    rig->tx_length = 0;
    rig->room = SIZE_MAX;
    rig_attach_channels(rig);
    rig_expect_silence(rig);
    /* Serials are the connection's; what the old one's were is not known any more. */
    wr32(rig, CTRL(1), 1);
    assert_int_equal(rig_expect_channel(rig, ENABLE, 1), 1);
    rig_state(rig, 1, 1, ACTIVE, 0);
    expect(rig, 1, 11, ACTIVE, 0);
    wr32(rig, OWNER(0), 0);
    assert_int_equal(rig_expect_channel(rig, RESET, 0), 1);
    wr32(rig, OWNER(0), 20);
    expect(rig, 0, 20, FREE, 0);
}

/* R14: what the guest sees when it is interrupted is the whole loss. */
static void look_at_channels(struct rig *rig)
{
    expect(rig, 0, 1, FREE, 0);
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 0);
    assert_false(rig->window_open);
}

static void r14_channels_are_free_before_the_request_completes(void **state)
{
    struct rig *rig = *state;
    activate(rig, 0, 1);
    wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
    rig_submit(rig, 4, 1);
    rig->on_interrupt = look_at_channels;
    vgpu_device_link_closed(&rig->dev, rig->now);
    assert_int_equal(rig->interrupts, 1);
}

static void r26_l20_a_reset_clears_owners_and_covers_the_channels(void **state)
{
    struct rig *rig = *state;
    uint32_t serial = activate(rig, 0, 10);
    wr32(rig, OWNER(1), 11);
    rig->room = 0;
    wr32(rig, CTRL(1), 1); /* begun in tx */
    wr32(rig, CTRL(0), 0); /* waits */
    wr32(rig, OWNER(2), 12);
    wr32(rig, CTRL(2), 1); /* waits */
    vgpu_device_reset(&rig->dev, rig->now);
    for (uint32_t n = 0; n < 3; n++)
        expect(rig, n, 0, FREE, 0);
    assert_true(rig->window_open);
    wr32(rig, OWNER(2), 22); /* the new guest is quick */
    wr32(rig, CTRL(2), 1);
    rig->room = SIZE_MAX;
    vgpu_device_link_writable(&rig->dev, rig->now);
    /* The message in tx was begun; what waited is covered by RESET; then the new guest's. */
    assert_int_equal(rig_expect_channel(rig, ENABLE, 1), 1);
    rig_expect(rig, VGPU_LINK_RESET);
    assert_int_equal(rig_expect_channel(rig, ENABLE, 2), 1);
    rig_expect_silence(rig);
    /* Words about the guest before. */
    rig_state(rig, 0, serial, FATAL, VGPU_CHANNEL_SESSION_LOST);
    rig_state(rig, 1, 1, ACTIVE, 0);
    expect(rig, 0, 0, FREE, 0);
    expect(rig, 1, 0, FREE, 0);
    assert_int_equal(rig->dev.stats.states_dropped, 2);
    rig_state(rig, 2, 1, ACTIVE, 0);
    expect(rig, 2, 22, ACTIVE, 0);
    /* Serials go on. */
    wr32(rig, OWNER(0), 5);
    wr32(rig, CTRL(0), 1);
    assert_int_equal(rig_expect_channel(rig, ENABLE, 0), serial + 1);
}

#define T(f)       VGPU_TEST_F(f, rig_setup_channels, rig_teardown)
#define T_ALONE(f) VGPU_TEST_F(f, rig_setup_window, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_ALONE(r20_the_window_says_what_it_is),
        T_ALONE(r20_sizes_out_of_range_are_refused),
        T(r21_a_token_is_taken_only_while_it_is_0),
        T(r21_no_two_owners_overlap),
        T(r22_enable),
        T_ALONE(r22_without_a_mediator_it_is_fatal_at_once),
        T(r23_reset),
        T(r23_one_being_enabled_reads_2_until_it_is_free),
        T(r24_what_does_not_fit_changes_nothing),
        T(r25_a_doorbell_wakes_whatever_the_state),
        T(r26_losing_the_mediator_frees_channels_and_keeps_owners),
        T(r14_channels_are_free_before_the_request_completes),
        T(r26_l20_a_reset_clears_owners_and_covers_the_channels),
    };
    return cmocka_run_group_tests_name("device channels", tests, NULL, NULL);
}
