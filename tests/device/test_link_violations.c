/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The malformed twin of every message to the device (L1): each is a violation, ends the link and
 * does no more than that. */
#include "rig.h"

#include <string.h>

/* In which state of the link the bytes come. */
enum stage { BEFORE_HELLO, BEFORE_WELCOME, ATTACHED, REFUSED };

struct twin {
    const char *name;
    enum stage stage;
    uint32_t type;
    uint64_t seq;
    uint32_t length;     /* said and sent */
    uint8_t payload[40]; /* the rest is 0 */
    /* a field of the header, overwritten */
    uint32_t at, bytes;
    uint64_t value;
};

#define WELCOME_BYTES(features, pool, priority, reserved)                                          \
    {                                                                                              \
        features, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, pool, 0, 0, 0, priority, 0, 0, 0, reserved      \
    }
#define GOOD_WELCOME WELCOME_BYTES(1, 'B', 2, 0)
/* error_code 0, length */
#define RESPONSE_BYTES(low, high)                                                                  \
    {                                                                                              \
        0, 0, 0, 0, low, high, 0, 0                                                                \
    }

static const struct twin twins[] = {
    /* the header */
    {"wrong magic", ATTACHED, VGPU_LINK_UPDATE, 0, 24, GOOD_WELCOME, 0, 4, 0x4B4E4C57},
    {"magic in the other byte order", ATTACHED, VGPU_LINK_UPDATE, 0, 24, GOOD_WELCOME, 0, 4,
     0x564C4E4B},
    {"type 0", ATTACHED, 0, 0, 0, {0}, 0, 0, 0},
    {"type 9", ATTACHED, 9, 0, 0, {0}, 0, 0, 0},
    {"type 13", ATTACHED, 13, 0, 0, {0}, 0, 0, 0},
    {"WINDOW from the mediator", ATTACHED, VGPU_LINK_WINDOW, 0, 24, {0}, 0, 0, 0},
    {"CHANNEL_ENABLE from the mediator", ATTACHED, VGPU_LINK_CHANNEL_ENABLE, 0, 16, {0}, 0, 0, 0},
    {"CHANNEL_RESET from the mediator", ATTACHED, VGPU_LINK_CHANNEL_RESET, 0, 16, {0}, 0, 0, 0},
    {"CHANNEL_STATE before WELCOME", BEFORE_WELCOME, VGPU_LINK_CHANNEL_STATE, 0, 16, {0}, 0, 0, 0},
    {"CHANNEL_STATE without channels", ATTACHED, VGPU_LINK_CHANNEL_STATE, 0, 16, {0}, 0, 0, 0},
    {"CHANNEL_STATE after REFUSE", REFUSED, VGPU_LINK_CHANNEL_STATE, 0, 16, {0}, 0, 0, 0},
    {"type 0xFFFF", ATTACHED, 0xFFFF, 0, 24, {0}, 0, 0, 0},
    {"reserved", ATTACHED, VGPU_LINK_UPDATE, 0, 24, GOOD_WELCOME, 12, 4, 1},
    {"reserved, high bit", ATTACHED, VGPU_LINK_UPDATE, 0, 24, GOOD_WELCOME, 12, 4, 0x80000000},
    {"fd_count", ATTACHED, VGPU_LINK_UPDATE, 0, 24, GOOD_WELCOME, 6, 2, 1},
    {"fd_count 0xFFFF", ATTACHED, VGPU_LINK_RESPONSE, 1, 8, RESPONSE_BYTES(0, 0), 6, 2, 0xFFFF},
    {"length that overflows", ATTACHED, VGPU_LINK_RESPONSE, 1, 8, RESPONSE_BYTES(0, 0), 8, 4,
     0xFFFFFFFF},
    {"length 2048", ATTACHED, VGPU_LINK_RESPONSE, 1, 8, RESPONSE_BYTES(0, 0), 8, 4, 2048},
    {"length that wraps with the header", ATTACHED, VGPU_LINK_RESPONSE, 1, 8, RESPONSE_BYTES(0, 0),
     8, 4, 0xFFFFFFE8},
    /* from the wrong side */
    {"HELLO from the mediator", BEFORE_WELCOME, VGPU_LINK_HELLO, 0, 64, {0}, 0, 0, 0},
    {"REQUEST from the mediator", ATTACHED, VGPU_LINK_REQUEST, 1, 9, {0, 0, 0, 0, 1}, 0, 0, 0},
    {"CANCEL from the mediator", ATTACHED, VGPU_LINK_CANCEL, 1, 0, {0}, 0, 0, 0},
    {"RESET from the mediator", ATTACHED, VGPU_LINK_RESET, 0, 8, {0}, 0, 0, 0},
    /* WELCOME */
    {"WELCOME before HELLO", BEFORE_HELLO, VGPU_LINK_WELCOME, 0, 24, GOOD_WELCOME, 0, 0, 0},
    {"WELCOME while attached", ATTACHED, VGPU_LINK_WELCOME, 0, 24, GOOD_WELCOME, 0, 0, 0},
    {"WELCOME after REFUSE", REFUSED, VGPU_LINK_WELCOME, 0, 24, GOOD_WELCOME, 0, 0, 0},
    {"WELCOME too short", BEFORE_WELCOME, VGPU_LINK_WELCOME, 0, 23, GOOD_WELCOME, 0, 0, 0},
    {"WELCOME too long", BEFORE_WELCOME, VGPU_LINK_WELCOME, 0, 25, GOOD_WELCOME, 0, 0, 0},
    {"WELCOME empty", BEFORE_WELCOME, VGPU_LINK_WELCOME, 0, 0, {0}, 0, 0, 0},
    {"WELCOME with a seq", BEFORE_WELCOME, VGPU_LINK_WELCOME, 1, 24, GOOD_WELCOME, 0, 0, 0},
    {"WELCOME without the mailbox", BEFORE_WELCOME, VGPU_LINK_WELCOME, 0, 24,
     WELCOME_BYTES(2, 'B', 2, 0), 0, 0, 0},
    {"WELCOME, pool '@'", BEFORE_WELCOME, VGPU_LINK_WELCOME, 0, 24, WELCOME_BYTES(1, '@', 2, 0), 0,
     0, 0},
    {"WELCOME, pool '['", BEFORE_WELCOME, VGPU_LINK_WELCOME, 0, 24, WELCOME_BYTES(1, '[', 2, 0), 0,
     0, 0},
    {"WELCOME, priority 3", BEFORE_WELCOME, VGPU_LINK_WELCOME, 0, 24, WELCOME_BYTES(1, 'B', 3, 0),
     0, 0, 0},
    {"WELCOME, reserved", BEFORE_WELCOME, VGPU_LINK_WELCOME, 0, 24, WELCOME_BYTES(1, 'B', 2, 1), 0,
     0, 0},
    /* UPDATE */
    {"UPDATE before WELCOME", BEFORE_WELCOME, VGPU_LINK_UPDATE, 0, 24, GOOD_WELCOME, 0, 0, 0},
    {"UPDATE after REFUSE", REFUSED, VGPU_LINK_UPDATE, 0, 24, GOOD_WELCOME, 0, 0, 0},
    {"UPDATE too short", ATTACHED, VGPU_LINK_UPDATE, 0, 16, GOOD_WELCOME, 0, 0, 0},
    {"UPDATE too long", ATTACHED, VGPU_LINK_UPDATE, 0, 32, GOOD_WELCOME, 0, 0, 0},
    {"UPDATE with a seq", ATTACHED, VGPU_LINK_UPDATE, 1, 24, GOOD_WELCOME, 0, 0, 0},
    {"UPDATE without the mailbox", ATTACHED, VGPU_LINK_UPDATE, 0, 24, WELCOME_BYTES(0, 'B', 2, 0),
     0, 0, 0},
    {"UPDATE, pool 0", ATTACHED, VGPU_LINK_UPDATE, 0, 24, WELCOME_BYTES(1, 0, 2, 0), 0, 0, 0},
    {"UPDATE, priority 255", ATTACHED, VGPU_LINK_UPDATE, 0, 24, WELCOME_BYTES(1, 'B', 255, 0), 0, 0,
     0},
    {"UPDATE, reserved", ATTACHED, VGPU_LINK_UPDATE, 0, 24, WELCOME_BYTES(1, 'B', 2, 1), 0, 0, 0},
    /* REFUSE */
    {"REFUSE before HELLO", BEFORE_HELLO, VGPU_LINK_REFUSE, 0, 8, {2}, 0, 0, 0},
    {"REFUSE while attached", ATTACHED, VGPU_LINK_REFUSE, 0, 8, {2}, 0, 0, 0},
    {"REFUSE twice", REFUSED, VGPU_LINK_REFUSE, 0, 8, {2}, 0, 0, 0},
    {"REFUSE too short", BEFORE_WELCOME, VGPU_LINK_REFUSE, 0, 7, {2}, 0, 0, 0},
    {"REFUSE too long", BEFORE_WELCOME, VGPU_LINK_REFUSE, 0, 521, {2, 0, 0, 0, 1, 2}, 0, 0, 0},
    {"REFUSE, more text than it says",
     BEFORE_WELCOME,
     VGPU_LINK_REFUSE,
     0,
     10,
     {2, 0, 0, 0, 1, 0, 0, 0, 'a', 'b'},
     0,
     0,
     0},
    {"REFUSE, less text than it says",
     BEFORE_WELCOME,
     VGPU_LINK_REFUSE,
     0,
     10,
     {2, 0, 0, 0, 3, 0, 0, 0, 'a', 'b'},
     0,
     0,
     0},
    {"REFUSE, text length that overflows",
     BEFORE_WELCOME,
     VGPU_LINK_REFUSE,
     0,
     10,
     {2, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 'a', 'b'},
     0,
     0,
     0},
    {"REFUSE with a seq", BEFORE_WELCOME, VGPU_LINK_REFUSE, 5, 8, {2}, 0, 0, 0},
    /* RESPONSE */
    {"RESPONSE before HELLO", BEFORE_HELLO, VGPU_LINK_RESPONSE, 1, 8, RESPONSE_BYTES(0, 0), 0, 0,
     0},
    {"RESPONSE before WELCOME", BEFORE_WELCOME, VGPU_LINK_RESPONSE, 1, 8, RESPONSE_BYTES(0, 0), 0,
     0, 0},
    {"RESPONSE after REFUSE", REFUSED, VGPU_LINK_RESPONSE, 1, 8, RESPONSE_BYTES(0, 0), 0, 0, 0},
    {"RESPONSE too short", ATTACHED, VGPU_LINK_RESPONSE, 1, 7, RESPONSE_BYTES(0, 0), 0, 0, 0},
    {"RESPONSE empty", ATTACHED, VGPU_LINK_RESPONSE, 1, 0, {0}, 0, 0, 0},
    {"RESPONSE too long", ATTACHED, VGPU_LINK_RESPONSE, 1, 1033, RESPONSE_BYTES(1, 4), 0, 0, 0},
    {"RESPONSE, more bytes than it says", ATTACHED, VGPU_LINK_RESPONSE, 1, 12, RESPONSE_BYTES(3, 0),
     0, 0, 0},
    {"RESPONSE, fewer bytes than it says", ATTACHED, VGPU_LINK_RESPONSE, 1, 12,
     RESPONSE_BYTES(5, 0), 0, 0, 0},
    {"RESPONSE, length that overflows",
     ATTACHED,
     VGPU_LINK_RESPONSE,
     1,
     8,
     {0, 0, 0, 0, 0xF8, 0xFF, 0xFF, 0xFF},
     0,
     0,
     0},
    {"RESPONSE to nothing, but malformed", ATTACHED, VGPU_LINK_RESPONSE, 99, 12,
     RESPONSE_BYTES(5, 0), 0, 0, 0},
};

static void reach(struct rig *rig, enum stage stage)
{
    if (stage == BEFORE_HELLO)
        rig->room = 63; /* the HELLO has not wholly gone out */
    vgpu_device_link_opened(&rig->dev, rig->now);
    if (stage == ATTACHED) {
        rig_expect(rig, VGPU_LINK_HELLO);
        rig_welcome(rig, VGPU_LINK_WELCOME, 9, 'B', 2);
        wr32(rig, VGPU_REG_INTERRUPT_CTRL, 1);
        rig_submit(rig, 4, 1); /* seq 1 is outstanding */
    } else if (stage == REFUSED) {
        static const uint8_t refuse[8] = {2};
        rig_say(rig, VGPU_LINK_REFUSE, 0, refuse, 8);
        assert_int_equal(rig->dev.stats.refused, 1);
    }
    assert_int_equal(rig->dev.stats.violations, 0);
}

static void check_ended(struct rig *rig, enum stage stage)
{
    uint32_t lost = stage == ATTACHED;
    assert_int_equal(rig->dev.stats.violations, 1);
    assert_int_equal(rig->closes, 1);
    assert_true(rig->text[0] != 0); /* a reason was logged */
    assert_int_equal(rd32(rig, VGPU_REG_LINK_STATE), 0);
    assert_int_equal(rd32(rig, VGPU_REG_POOL_ID), 'A');
    assert_int_equal(rd32(rig, VGPU_REG_PRIORITY), 1);
    assert_int_equal(rd32(rig, VGPU_REG_VM_ID), 7);
    assert_int_equal(rd32(rig, VGPU_REG_GENERATION), lost);
    assert_int_equal(rig->interrupts, lost);
    assert_int_equal(peek(rig, VGPU_REG_STATUS), lost ? VGPU_STATUS_ERROR : VGPU_STATUS_IDLE);
    assert_int_equal(peek(rig, VGPU_REG_ERROR_CODE), lost ? VGPU_ERR_MEDIATOR_UNAVAILABLE : 0);
    assert_true(response_is_zero(rig));
    /* Whatever follows is not looked at, and nothing more is said. */
    size_t said = rig->tx_length;
    rig->room = SIZE_MAX;
    uint8_t more[24] = {0};
    rig_receive(rig, more, sizeof(more));
    vgpu_device_link_writable(&rig->dev, rig->now);
    assert_int_equal(rig->tx_length, said);
    assert_int_equal(rig->dev.stats.violations, 1);
    assert_int_equal(rig->closes, 1);
    /* The next mediator finds the device as ever. */
    vgpu_device_link_closed(&rig->dev, rig->now);
    rig->tx_length = 0;
    rig_attach(rig);
    rig_respond(rig, rig_submit(rig, 8, 2), 0, "fine", 4);
    assert_int_equal(rd32(rig, VGPU_REG_STATUS), VGPU_STATUS_DONE);
}

static void l1_every_malformed_twin(void **state)
{
    struct rig *rig = *state;
    for (unsigned i = 0; i < sizeof(twins) / sizeof(twins[0]); i++) {
        /* Whole; one byte at a time; with a good message behind it. */
        for (unsigned way = 0; way < 3; way++) {
            const struct twin *t = &twins[i];
            struct vgpu_device_config config = rig_config();
            uint8_t bytes[2 * (24 + 2048)], payload[2048] = {0};
            rig_init(rig, &config);
            reach(rig, t->stage);
            memcpy(payload, t->payload, sizeof(t->payload));
            size_t n = build(bytes, t->type, t->seq, payload, t->length);
            if (t->bytes)
                put_le(bytes + t->at, t->value, t->bytes);
            if (way == 2) {
                static const uint8_t good[24] = GOOD_WELCOME;
                n += build(bytes + n, t->stage == ATTACHED ? VGPU_LINK_UPDATE : VGPU_LINK_WELCOME,
                           0, good, 24);
            }
            for (size_t at = 0; at < n; at += way == 1 ? 1 : n)
                rig_receive(rig, bytes + at, way == 1 ? 1 : n);
            if (rig->dev.stats.violations != 1)
                print_error("%s: not seen as a violation\n", t->name);
            check_ended(rig, t->stage);
        }
    }
}

static void l1_descriptors_that_came_anyway(void **state)
{
    struct rig *rig = *state;
    static const enum stage stages[] = {BEFORE_HELLO, BEFORE_WELCOME, ATTACHED, REFUSED};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned with = 0; with < 3; with++) {
            struct vgpu_device_config config = rig_config();
            static const uint8_t good[24] = GOOD_WELCOME;
            uint8_t bytes[64];
            rig_init(rig, &config);
            reach(rig, stages[i]);
            size_t n = build(bytes, stages[i] == ATTACHED ? VGPU_LINK_UPDATE : VGPU_LINK_WELCOME, 0,
                             good, 24);
            /* with a whole message, with its first byte, with its last */
            if (with == 2 && stages[i] != BEFORE_HELLO && stages[i] != REFUSED) {
                rig_receive(rig, bytes, n - 1);
                vgpu_device_link_received(&rig->dev, bytes + n - 1, 1, 16, rig->now);
            } else {
                vgpu_device_link_received(&rig->dev, bytes, with ? 1 : n, 1, rig->now);
            }
            check_ended(rig, stages[i]);
        }
    }
}

/* A header is judged before a byte of the payload is waited for or stored. */
static void a_bad_header_needs_no_payload(void **state)
{
    struct rig *rig = *state;
    uint8_t header[24];
    reach(rig, ATTACHED);
    build(header, VGPU_LINK_RESPONSE, 1, NULL, 0);
    put_le(header + 8, 1033, 4);
    rig_receive(rig, header, 23);
    assert_int_equal(rig->dev.stats.violations, 0);
    rig_receive(rig, header + 23, 1);
    check_ended(rig, ATTACHED);
}

/* The longest of each kind is no violation. */
static void the_longest_messages_are_welcome(void **state)
{
    struct rig *rig = *state;
    uint8_t p[8 + 1024] = {0};
    reach(rig, ATTACHED);
    put_le(p + 4, 1024, 4);
    rig_say(rig, VGPU_LINK_RESPONSE, 1, p, 8 + 1024);
    assert_int_equal(rd32(rig, VGPU_REG_RESPONSE_LEN), 1024);
    vgpu_device_link_closed(&rig->dev, rig->now);
    vgpu_device_link_opened(&rig->dev, rig->now);
    put_le(p + 4, 512, 4);
    memset(p + 8, 'x', 512);
    rig_say(rig, VGPU_LINK_REFUSE, 0, p, 8 + 512);
    assert_int_equal(rig->dev.stats.refused, 1);
    assert_int_equal(rig->dev.stats.violations, 0);
}

#define T(f) VGPU_TEST_F(f, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(l1_every_malformed_twin),
        T(l1_descriptors_that_came_anyway),
        T(a_bad_header_needs_no_payload),
        T(the_longest_messages_are_welcome),
    };
    return cmocka_run_group_tests_name("device link violations", tests, NULL, NULL);
}
