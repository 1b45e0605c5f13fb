/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The window and channels on the link, from the device's side: L1, L15, L16, L18, L19; and that
 * nothing overflows when the mediator does not read. */
#include "rig.h"

#include <errno.h>
#include <string.h>

#define OWNER(n)    VGPU_REG_CHANNEL_OWNER(n)
#define CTRL(n)     VGPU_REG_CHANNEL_CTRL(n)
#define DOORBELL(n) VGPU_REG_CHANNEL_DOORBELL(n)
#define ENABLE      VGPU_LINK_CHANNEL_ENABLE
#define RESET       VGPU_LINK_CHANNEL_RESET
#define ACTIVE      VGPU_CHANNEL_ACTIVE

/* A WINDOW message must be next, with these channels; their descriptors are the rig's. */
static void expect_window(struct rig *rig, uint32_t count, uint32_t first, uint32_t channels)
{
    struct rig_message m;
    int base = 1000 * (int)rig->opens;
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, VGPU_LINK_WINDOW);
    assert_int_equal(m.seq, 0);
    assert_int_equal(m.length, 24);
    assert_int_equal(get_le(m.payload, 8), rig->dev.config.window_bytes);
    assert_int_equal(get_le(m.payload + 8, 4), count);
    assert_int_equal(get_le(m.payload + 12, 4), 0x80000);
    assert_int_equal(get_le(m.payload + 16, 4), first);
    assert_int_equal(get_le(m.payload + 20, 4), channels);
    assert_int_equal(m.fd_count, channels ? 2 * channels : 1);
    if (channels == 0)
        assert_int_equal(m.fds[0], base + 1);
    for (uint32_t n = 0; n < channels; n++) {
        assert_int_equal(m.fds[2 * n], base + 100 + (int)(first + n));
        assert_int_equal(m.fds[2 * n + 1], base + 200 + (int)(first + n));
    }
}

static void expect_windows(struct rig *rig, uint32_t count)
{
    expect_window(rig, count, 0, 0);
    for (uint32_t first = 0; first < count; first += 8)
        expect_window(rig, count, first, count - first < 8 ? count - first : 8);
}

static void l15_hello_says_what_there_is(void **state)
{
    struct rig *rig = *state;
    struct rig_message m;
    vgpu_device_link_opened(&rig->dev, rig->now);
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, VGPU_LINK_HELLO);
    assert_int_equal(get_le(m.payload, 8), 3);
    assert_int_equal(get_le(m.payload + 32, 8), 16u << 20);
    assert_int_equal(get_le(m.payload + 40, 4), 10);
    assert_int_equal(get_le(m.payload + 44, 4), 0x80000);
    for (unsigned i = 48; i < 64; i += 8)
        assert_int_equal(get_le(m.payload + i, 8), 0);
    assert_int_equal(rig->opens, 0); /* not before there is somebody to give it to */
}

static void l15_a_mediator_without_channels(void **state)
{
    struct rig *rig = *state;
    vgpu_device_link_opened(&rig->dev, rig->now);
    rig_expect(rig, VGPU_LINK_HELLO);
    rig_welcome_features(rig, 1 | 4 | 1ull << 63); /* all sorts, but not ours */
    rig_expect_silence(rig);
    assert_int_equal(rig->opens, 0);
    rig_respond(rig, rig_submit(rig, 4, 1), 0, "fine", 4);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
    rig_state(rig, 0, 0, 0, 0); /* not agreed on */
    assert_int_equal(rig->dev.stats.violations, 1);
    assert_int_equal(rig->window_closes, 0);
}

static void l15_a_device_without_a_window(void **state)
{
    struct rig *rig = *state;
    struct vgpu_device_config config = rig_config();
    rig_init(rig, &config);
    vgpu_device_link_opened(&rig->dev, rig->now);
    rig_expect(rig, VGPU_LINK_HELLO);
    rig_welcome_features(rig, 3); /* L4: a bit that we do not have is no violation */
    rig_expect_silence(rig);
    assert_int_equal(rig->opens, 0);
    rig_state(rig, 0, 0, 0, 0);
    assert_int_equal(rig->dev.stats.violations, 1);
}

static void l16_window_comes_at_once_and_whole(void **state)
{
    struct rig *rig = *state;
    static const uint32_t counts[] = {1, 7, 8, 9, 16, 63, 64};
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct vgpu_device_config config = rig_config();
        config.window_bytes = 64u << 20;
        config.channel_count = counts[i];
        rig_init(rig, &config);
        for (unsigned again = 0; again < 3; again++) { /* each connection has eventfds of its own */
            vgpu_device_link_opened(&rig->dev, rig->now);
            rig_expect(rig, VGPU_LINK_HELLO);
            rig_welcome_features(rig, 3);
            assert_int_equal(rig->opens, again + 1);
            expect_windows(rig, counts[i]);
            rig_expect_silence(rig);
            assert_false(vgpu_device_link_wants_write(&rig->dev));
            rig_welcome(rig, VGPU_LINK_UPDATE, 1, 'C', 0); /* not again */
            rig_expect_silence(rig);
            vgpu_device_link_closed(&rig->dev, rig->now);
            assert_int_equal(rig->window_closes, again + 1);
        }
    }
}

static void l16_before_everything_else_however_slow_the_socket(void **state)
{
    struct rig *rig = *state;
    for (size_t room = 0; room < 48 * 3 + 1; room++) {
        struct vgpu_device_config config = rig_config_window();
        rig_init(rig, &config);
        vgpu_device_link_opened(&rig->dev, rig->now);
        rig_expect(rig, VGPU_LINK_HELLO);
        rig->room = room;
        rig->piece = 1 + room % 7; /* descriptors go with a first byte that may be alone */
        rig_welcome_features(rig, 3);
        wr32(rig, OWNER(0), 1);
        wr32(rig, CTRL(0), 1);
        rig_doorbell(rig, 4, 1);
        vgpu_device_reset(&rig->dev, rig->now);
        wr32(rig, OWNER(1), 1);
        wr32(rig, CTRL(1), 1);
        rig_doorbell(rig, 4, 2);
        assert_true(room == 48 * 3 || vgpu_device_link_wants_write(&rig->dev));
        rig->room = SIZE_MAX;
        vgpu_device_link_writable(&rig->dev, rig->now);
        expect_windows(rig, 10);
        if (rig->tx_length > 24 + 8 + 24 + 16 + 24 + 8 + 4) /* begun before the reset */
            rig_expect_channel(rig, ENABLE, 0);
        rig_expect(rig, VGPU_LINK_RESET);
        rig_expect_channel(rig, ENABLE, 1);
        rig_expect(rig, VGPU_LINK_REQUEST);
        rig_expect_silence(rig);
    }
}

static void no_eventfds_gives_the_link_up(void **state)
{
    struct rig *rig = *state;
    rig->open_error = -EMFILE;
    vgpu_device_link_opened(&rig->dev, rig->now);
    rig_expect(rig, VGPU_LINK_HELLO);
    rig_welcome_features(rig, 3);
    rig_expect_silence(rig);
    assert_int_equal(rig->closes, 1);
    assert_int_equal(rig->last[VGPU_DEVICE_LINK_FAILED].code, EMFILE);
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 0);
    assert_int_equal(rig->window_closes, 0);
    /* Later there are some. */
    rig->open_error = 0;
    vgpu_device_link_closed(&rig->dev, rig->now);
    rig_attach_channels(rig);
}

static void a_send_that_fails_closes_the_window(void **state)
{
    struct rig *rig = *state;
    for (unsigned sent = 0; sent < 3; sent++) {
        struct vgpu_device_config config = rig_config_window();
        rig_init(rig, &config);
        rig->close_at_once = sent & 1;
        vgpu_device_link_opened(&rig->dev, rig->now);
        rig_expect(rig, VGPU_LINK_HELLO);
        rig->room = 48 * sent;
        rig_welcome_features(rig, 3);
        if (sent == 2) {
            rig->close_in_send = true; /* the embedder finds the peer gone */
            rig->reopen_in_send = true;
        } else {
            rig->send_error = -EPIPE;
        }
        rig->room = SIZE_MAX;
        rig->tx_length = 0;
        rig->fds_count = 0;
        vgpu_device_link_writable(&rig->dev, rig->now);
        assert_false(rig->window_open);
        assert_int_equal(rig->window_closes, 1);
        if (sent == 2) {
            rig_expect(rig, VGPU_LINK_HELLO); /* the new connection's, and no WINDOW before it */
            rig_expect_silence(rig);
            rig_welcome_features(rig, 3);
            expect_windows(rig, 10);
        } else {
            rig_expect_silence(rig);
            assert_int_equal(rig->events[VGPU_DEVICE_LINK_FAILED], 1);
        }
    }
}

/* L18: the order in which the guest did it, also among requests. */
static void l18_in_the_guests_order(void **state)
{
    struct rig *rig = *state;
    wr32(rig, OWNER(0), 1);
    wr32(rig, OWNER(1), 1);
    wr32(rig, OWNER(2), 1);
    rig->room = 0;
    wr32(rig, CTRL(2), 0); /* in tx from here on */
    wr32(rig, CTRL(1), 0);
    rig_doorbell(rig, 4, 1);
    wr32(rig, CTRL(0), 0);
    wr32(rig, CTRL(1), 1);
    rig->room = SIZE_MAX;
    vgpu_device_link_writable(&rig->dev, rig->now);
    assert_int_equal(rig_expect_channel(rig, RESET, 2), 1);
    assert_int_equal(rig_expect_channel(rig, RESET, 1), 1);
    rig_expect(rig, VGPU_LINK_REQUEST);
    assert_int_equal(rig_expect_channel(rig, RESET, 0), 1);
    assert_int_equal(rig_expect_channel(rig, ENABLE, 1), 2);
    rig_expect_silence(rig);
}

static void l18_what_waits_is_bounded_whatever_the_guest_does(void **state)
{
    struct rig *rig = *state;
    rig->room = 0;
    for (uint32_t i = 0; i < 5000; i++) {
        for (uint32_t n = 0; n < 10; n++) {
            wr32(rig, OWNER(n), i + 1);
            wr32(rig, CTRL(n), 1);
            wr32(rig, CTRL(n), 0);
            wr32(rig, OWNER(n), 0);
        }
    }
    for (uint32_t n = 0; n < 10; n++) {
        assert_int_equal(rd32(rig, OWNER(n)), 0);
        assert_int_equal(rd32(rig, CTRL(n)), VGPU_CHANNEL_FATAL);
    }
    rig->room = SIZE_MAX;
    vgpu_device_link_writable(&rig->dev, rig->now);
    /* Channel 0's ENABLE was begun; then one RESET for each, numbered without gaps. */
    assert_int_equal(rig_expect_channel(rig, ENABLE, 0), 1);
    for (uint32_t n = 0; n < 10; n++) {
        uint32_t serial = n ? 1 : 2;
        assert_int_equal(rig_expect_channel(rig, RESET, n), serial);
        rig_state(rig, n, serial, VGPU_CHANNEL_FREE, 0);
        assert_int_equal(rd32(rig, CTRL(n)), VGPU_CHANNEL_FREE);
    }
    rig_expect_silence(rig);
}

static void l19_a_state_while_something_newer_waits_says_nothing(void **state)
{
    struct rig *rig = *state;
    wr32(rig, OWNER(0), 1);
    wr32(rig, CTRL(0), 1);
    uint32_t serial = rig_expect_channel(rig, ENABLE, 0);
    wr32(rig, OWNER(1), 1);
    rig->room = 0;
    wr32(rig, CTRL(1), 0); /* fills tx */
    wr32(rig, CTRL(0), 0); /* waits */
    rig_state(rig, 0, serial, ACTIVE, 0);
    assert_int_equal(rd32(rig, CTRL(0)), VGPU_CHANNEL_FATAL); /* R23: it was being enabled */
    assert_int_equal(rd32(rig, VGPU_REG_CHANNEL_ERROR(0)), 0);
    assert_int_equal(rig->dev.stats.states_dropped, 1);
    /* A serial that was not sent yet is a lie. */
    rig_state(rig, 0, serial + 1, VGPU_CHANNEL_FREE, 0);
    assert_int_equal(rig->dev.stats.violations, 1);
}

static void l18_serials_wrap(void **state)
{
    struct rig *rig = *state;
    wr32(rig, OWNER(0), 1);
    rig->dev.channels[0].serial = UINT32_MAX - 1;
    static const uint32_t serials[] = {UINT32_MAX, 0, 1};
    for (unsigned i = 0; i < 3; i++) {
        wr32(rig, CTRL(0), 1);
        assert_int_equal(rig_expect_channel(rig, ENABLE, 0), serials[i]);
        rig_state(rig, 0, serials[i], ACTIVE, 0);
        assert_int_equal(rd32(rig, CTRL(0)), ACTIVE);
        rig->dev.channels[0].serial--; /* so that the RESET has this number, too */
        wr32(rig, CTRL(0), 0);
        rig_state(rig, 0, rig_expect_channel(rig, RESET, 0), VGPU_CHANNEL_FREE, 0);
    }
    assert_int_equal(rig->dev.stats.violations, 0);
}

/* L1, L19: malformed and impossible words. */
static void l1_every_malformed_state(void **state)
{
    struct rig *rig = *state;
    static const struct {
        uint32_t length, channel, serial, state, error;
        uint64_t seq;
        uint32_t fd_count, fds;
    } bad[] = {
        {15, 0, 1, 1, 0, 0, 0, 0},          {17, 0, 1, 1, 0, 0, 0, 0},
        {0, 0, 1, 1, 0, 0, 0, 0},           {16, 10, 0, 0, 0, 0, 0, 0},
        {16, UINT32_MAX, 0, 0, 0, 0, 0, 0}, {16, 0, 1, 3, 0, 0, 0, 0},
        {16, 0, 1, UINT32_MAX, 0, 0, 0, 0}, {16, 0, 1, 2, 7, 0, 0, 0},
        {16, 0, 1, 2, UINT32_MAX, 0, 0, 0}, {16, 0, 1, 2, 0, 0, 0, 0}, /* fatal without a reason */
        {16, 0, 1, 1, 1, 0, 0, 0},                                     /* an error, and active */
        {16, 0, 1, 0, 1, 0, 0, 0},          {16, 0, 2, 1, 0, 0, 0, 0}, /* never sent */
        {16, 1, 1, 0, 0, 0, 0, 0}, /* sent for another channel */
        {16, 0, 0x7FFFFFFF, 1, 0, 0, 0, 0}, {16, 0, 1, 1, 0, 1, 0, 0}, /* a seq */
        {16, 0, 1, 1, 0, 0, 1, 0}, /* says that descriptors come */
        {16, 0, 1, 1, 0, 0, 0, 1}, /* they come */
        {16, 0, 1, 1, 0, 0, 1, 1},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct vgpu_device_config config = rig_config_window();
        uint8_t bytes[24 + 32], p[32] = {0};
        rig_init(rig, &config);
        rig_attach_channels(rig);
        wr32(rig, OWNER(0), 1);
        wr32(rig, CTRL(0), 1);
        assert_int_equal(rig_expect_channel(rig, ENABLE, 0), 1);
        put_le(p, bad[i].channel, 4);
        put_le(p + 4, bad[i].serial, 4);
        put_le(p + 8, bad[i].state, 4);
        put_le(p + 12, bad[i].error, 4);
        size_t n = build(bytes, VGPU_LINK_CHANNEL_STATE, bad[i].seq, p, bad[i].length);
        put_le(bytes + 6, bad[i].fd_count, 2);
        vgpu_device_link_received(&rig->dev, bytes, n, bad[i].fds, rig->now);
        if (rig->dev.stats.violations != 1)
            print_error("malformed state %u is taken\n", i);
        assert_int_equal(rig->dev.stats.violations, 1);
        assert_int_equal(rig->closes, 1);
        assert_int_equal(rd32(rig, CTRL(0)), VGPU_CHANNEL_FREE);
        assert_int_equal(rd32(rig, OWNER(0)), 1);
        assert_false(rig->window_open);
    }
}

#define T(f)       VGPU_TEST_F(f, rig_setup_channels, rig_teardown)
#define T_ALONE(f) VGPU_TEST_F(f, rig_setup_window, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_ALONE(l15_hello_says_what_there_is),
        T_ALONE(l15_a_mediator_without_channels),
        T_ALONE(l15_a_device_without_a_window),
        T_ALONE(l16_window_comes_at_once_and_whole),
        T_ALONE(l16_before_everything_else_however_slow_the_socket),
        T_ALONE(no_eventfds_gives_the_link_up),
        T_ALONE(a_send_that_fails_closes_the_window),
        T(l18_in_the_guests_order),
        T(l18_what_waits_is_bounded_whatever_the_guest_does),
        T(l19_a_state_while_something_newer_waits_says_nothing),
        T(l18_serials_wrap),
        T(l1_every_malformed_state),
    };
    return cmocka_run_group_tests_name("device window", tests, NULL, NULL);
}
