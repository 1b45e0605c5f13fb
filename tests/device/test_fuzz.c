/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random events against a second device model, a slow and simple one written from
 * docs/register-map.md alone: after each event every register of the two must agree, and whatever
 * the device sent must be a correct stream. The seed is printed when it fails; VGPU_FUZZ_SEED and
 * VGPU_FUZZ_STEPS repeat or prolong a run.
 */
#include "rig.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The reference. One byte array holds BAR0; a few facts stand beside it. */
struct reference {
    uint8_t bar[0x1000];
    uint64_t stamp;
    bool connected, welcomed, refused;
    uint64_t in_flight; /* seq, 0: none */
    uint64_t requests;
    uint64_t due;
    uint64_t completions;
    unsigned interrupts;
    uint8_t captured[1024];
    uint32_t captured_length, captured_id;
};

static uint64_t random_state;

static uint32_t rnd(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % below);
}

static uint32_t get(const struct reference *r, uint32_t at)
{
    return (uint32_t)get_le(r->bar + at, 4);
}

static void set(struct reference *r, uint32_t at, uint32_t value)
{
    put_le(r->bar + at, value, 4);
}

static void show_properties(struct reference *r)
{
    set(r, 0x008, 'A');
    set(r, 0x00C, 1);
    set(r, 0x010, 7);
}

static void ref_init(struct reference *r)
{
    memset(r, 0, sizeof(*r));
    show_properties(r);
    set(r, 0x020, 0x10000);
    set(r, 0x024, 3);
}

static void ref_forget(struct reference *r)
{
    set(r, 0x014, 0);
    set(r, 0x01C, 0);
    set(r, 0x034, 0);
    set(r, 0x038, 0);
    r->stamp = 0;
    memset(r->bar + 0x440, 0, 1024);
}

static void ref_complete(struct reference *r, uint32_t error, const uint8_t *bytes, uint32_t length,
                         uint64_t now)
{
    memset(r->bar + 0x440, 0, 1024);
    if (length)
        memcpy(r->bar + 0x440, bytes, length);
    set(r, 0x01C, length);
    set(r, 0x014, error);
    r->stamp = now;
    set(r, 0x034, (uint32_t)now);
    set(r, 0x004, error ? 3 : 2);
    set(r, 0x02C, 1);
    r->in_flight = 0;
    r->completions++;
    if (get(r, 0x028))
        r->interrupts++;
}

static void ref_acknowledge(struct reference *r)
{
    if (get(r, 0x004) >= 2)
        set(r, 0x004, 0);
}

static void ref_doorbell(struct reference *r, uint64_t now)
{
    uint32_t length = get(r, 0x018);
    if (get(r, 0x004) == 1)
        return;
    set(r, 0x004, 0);
    ref_forget(r);
    if (length == 0) {
        ref_complete(r, 9, NULL, 0, now);
    } else if (length > 1024) {
        ref_complete(r, 2, NULL, 0, now);
    } else if (!r->welcomed) {
        ref_complete(r, 3, NULL, 0, now);
    } else {
        set(r, 0x004, 1);
        r->in_flight = ++r->requests;
        r->due = now + 1000 * MS;
        memcpy(r->captured, r->bar + 0x40, 1024);
        r->captured_length = length;
        r->captured_id = get(r, 0x030);
    }
}

static uint64_t ref_read(struct reference *r, uint32_t at, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        uint32_t a = at + i;
        bool whole = a % 4 == 0 && i + 4 <= size;
        if (a >= 0x1000)
            break;
        value |= (uint64_t)r->bar[a] << (8 * i);
        if (whole && a == 0x01C && get(r, 0x01C) == 0)
            ref_acknowledge(r);
        if (whole && a == 0x034)
            set(r, 0x038, (uint32_t)(r->stamp >> 32));
        if (get(r, 0x01C) && a == 0x440 + get(r, 0x01C) - 1)
            ref_acknowledge(r);
    }
    return value;
}

static void ref_write(struct reference *r, uint32_t at, uint64_t value, unsigned size, uint64_t now)
{
    for (unsigned i = 0; i < size; i++) {
        uint32_t a = at + i;
        if (a >= 0x40 && a < 0x440)
            r->bar[a] = (uint8_t)(value >> (8 * i));
        if (a % 4 || i + 4 > size)
            continue;
        uint32_t word = (uint32_t)(value >> (8 * i));
        if (a == 0x000 && (word & 1))
            ref_doorbell(r, now);
        else if (a == 0x000)
            ref_acknowledge(r);
        else if (a == 0x018 || a == 0x030 || a == 0x03C)
            set(r, a, word);
        else if (a == 0x028)
            set(r, a, word & 1);
        else if (a == 0x02C && (word & 1))
            set(r, a, 0);
    }
}

static void ref_lose(struct reference *r, uint64_t now)
{
    bool attached = r->welcomed;
    r->connected = r->welcomed = r->refused = false;
    if (!attached)
        return;
    set(r, 0x854, 0);
    set(r, 0x850, get(r, 0x850) + 1);
    show_properties(r);
    if (get(r, 0x004) == 1)
        ref_complete(r, 3, NULL, 0, now);
}

static void ref_reset(struct reference *r)
{
    ref_forget(r);
    r->in_flight = 0;
    set(r, 0x004, 0);
    set(r, 0x018, 0);
    set(r, 0x028, 0);
    set(r, 0x02C, 0);
    set(r, 0x030, 0);
    set(r, 0x03C, 0);
    memset(r->bar + 0x40, 0, 1024);
    set(r, 0x850, get(r, 0x850) + 1);
}

/* The mediator that reads what the device sends. */
struct listener {
    bool hello;        /* this connection's HELLO came */
    uint64_t last_seq; /* of any connection */
    uint64_t outstanding;
    unsigned messages;
};

static void listen_all(struct rig *rig, struct listener *l, const struct reference *r)
{
    struct rig_message m;
    while (rig_take(rig, &m)) {
        l->messages++;
        if (!l->hello) {
            assert_int_equal(m.type, VGPU_LINK_HELLO);
            assert_int_equal(m.length, 64);
            l->hello = true;
            continue;
        }
        switch (m.type) {
        case VGPU_LINK_REQUEST:
            assert_true(m.seq > l->last_seq);    /* L8 */
            assert_int_equal(l->outstanding, 0); /* L9 */
            assert_int_equal(m.length, 8 + get_le(m.payload + 4, 4));
            if (m.seq == r->in_flight) { /* R7 */
                assert_int_equal(get_le(m.payload, 4), r->captured_id);
                assert_int_equal(m.length - 8, r->captured_length);
                assert_memory_equal(m.payload + 8, r->captured, r->captured_length);
            }
            l->last_seq = m.seq;
            l->outstanding = m.seq;
            break;
        case VGPU_LINK_CANCEL:
            assert_int_equal(m.length, 0);
            assert_int_equal(m.seq, l->last_seq); /* only of what was really sent */
            l->outstanding = 0;
            break;
        case VGPU_LINK_RESET:
            assert_int_equal(m.length, 8);
            l->outstanding = 0;
            break;
        default:
            fail_msg("the device sent type %u", m.type);
        }
    }
}

static void connection_gone(struct rig *rig, struct listener *l)
{
    rig->tx_length = 0;
    l->hello = false;
    l->outstanding = 0;
}

/* Something from the mediator; the reference is told what must follow. */
static void mediator_speaks(struct rig *rig, struct reference *r, struct listener *l)
{
    uint8_t bytes[24 + 2048], payload[2048];
    uint32_t kind = rnd(12);
    bool can_hear = r->connected && l->hello && !r->refused;
    for (unsigned i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)rnd(256);
    if (!can_hear)
        return;
    if (kind < 3 && !r->welcomed) {
        uint32_t vm = rnd(100), pool = 'A' + rnd(26), priority = rnd(3);
        rig_welcome(rig, VGPU_LINK_WELCOME, vm, pool, priority);
        r->welcomed = true;
        set(r, 0x010, vm);
        set(r, 0x008, pool);
        set(r, 0x00C, priority);
        set(r, 0x854, 1);
    } else if (kind == 3 && !r->welcomed) {
        uint32_t length = rnd(513);
        put_le(payload, rnd(8), 4);
        put_le(payload + 4, length, 4);
        rig_say(rig, VGPU_LINK_REFUSE, 0, payload, 8 + length);
        r->refused = true;
    } else if (kind == 4 && r->welcomed) {
        uint32_t vm = rnd(100), pool = 'A' + rnd(26), priority = rnd(3);
        rig_welcome(rig, VGPU_LINK_UPDATE, vm, pool, priority);
        set(r, 0x010, vm);
        set(r, 0x008, pool);
        set(r, 0x00C, priority);
    } else if (kind < 10 && r->welcomed) {
        uint64_t seq = rnd(4) ? l->outstanding : rnd(50);
        uint32_t length = rnd(3) ? rnd(16) : rnd(1025);
        uint32_t error = rnd(2) ? 0 : rnd(300);
        put_le(payload, error, 4);
        put_le(payload + 4, length, 4);
        size_t n = build(bytes, VGPU_LINK_RESPONSE, seq, payload, 8 + length);
        for (size_t at = 0; at < n;) {
            size_t piece = 1 + rnd((uint32_t)(n - at));
            if (rnd(3) == 0)
                piece = n - at;
            rig_receive(rig, bytes + at, piece);
            at += piece;
        }
        if (seq && seq == r->in_flight && seq == l->outstanding)
            ref_complete(r, error, payload + 8, length, rig->now);
        if (seq == l->outstanding)
            l->outstanding = 0;
    } else if (kind == 11 && rnd(8) == 0) {
        /* Bytes that cannot be a message: the first four are no magic. */
        payload[0] = 0;
        rig_receive(rig, payload, 24 + rnd(200));
        ref_lose(r, rig->now);
        assert_int_equal(vgpu_device_link_state(&rig->dev), VGPU_DEVICE_LINK_CLOSING);
        vgpu_device_link_closed(&rig->dev, rig->now);
        connection_gone(rig, l);
    }
}

static void guest_acts(struct rig *rig, struct reference *r)
{
    static const uint32_t favourites[] = {0x000, 0x004, 0x014, 0x018, 0x01C, 0x028, 0x02C,
                                          0x030, 0x034, 0x038, 0x03C, 0x440, 0x850};
    uint32_t at = favourites[rnd(sizeof(favourites) / sizeof(favourites[0]))];
    unsigned size = 4;
    if (rnd(3) == 0) {
        at = rnd(0x1000);
        size = 1 + rnd(8);
    } else if (rnd(4) == 0) {
        at = at < 4 ? at + rnd(4) : at - 4 + rnd(8);
        size = 1 + rnd(8);
    } else if (rnd(4) == 0 && get(r, 0x01C)) {
        at = 0x440 + get(r, 0x01C) - 1 - rnd(4);
        size = 1 + rnd(8);
    }
    if (rnd(2)) {
        uint64_t got = rig_read(rig, at, size);
        assert_int_equal(got, ref_read(r, at, size));
        return;
    }
    uint64_t value = rnd(2) ? rnd(3) : (uint64_t)rnd(UINT32_MAX) << 32 | rnd(1100);
    if (at == 0x018 && size == 4)
        value = rnd(8) ? 1 + rnd(1024) : rnd(1100);
    ref_write(r, at, value, size, rig->now);
    rig_write(rig, at, value, size);
}

static void compare(struct rig *rig, struct reference *r)
{
    for (uint32_t at = 0; at < 0x40; at += 4)
        assert_int_equal(peek(rig, at), get(r, at));
    for (uint32_t at = 0x840; at < 0x858; at += 4)
        assert_int_equal(peek(rig, at), get(r, at));
    assert_memory_equal(rig->dev.request_buf, r->bar + 0x40, 1024);
    assert_memory_equal(rig->dev.response_buf, r->bar + 0x440, 1024);
    assert_int_equal(rig->dev.stats.completions, r->completions);
    assert_int_equal(rig->interrupts, r->interrupts);
    assert_int_equal(rig->dev.stats.requests, r->requests);
    /* R18: while BUSY there is always an end in sight. */
    if (get(r, 0x004) == 1)
        assert_int_equal(rig->deadline, r->due);
    else
        assert_int_equal(rig->deadline, 0);
}

static void step(struct rig *rig, struct reference *r, struct listener *l)
{
    rig->now += rnd(4) ? rnd(1000) : rnd(1000 * 1000);
    uint32_t what = rnd(100);
    if (what < 12) { /* a guest that means it */
        uint32_t length = 1 + rnd(1024);
        ref_write(r, 0x018, length, 4, rig->now);
        rig_write(rig, 0x018, length, 4);
        ref_write(r, 0x000, 1, 4, rig->now);
        rig_write(rig, 0x000, 1, 4);
    } else if (what < 60) {
        guest_acts(rig, r);
    } else if (what < 80) {
        mediator_speaks(rig, r, l);
    } else if (what < 85) {
        rig->room = rnd(3) ? SIZE_MAX : rnd(1200);
        rig->piece = rnd(3) ? SIZE_MAX : 1 + rnd(100);
        vgpu_device_link_writable(&rig->dev, rig->now);
    } else if (what < 88) {
        if (rnd(2) && rig->deadline)
            rig->now = rig->deadline;
        vgpu_device_timer(&rig->dev, rig->now);
        if (r->in_flight && rig->now >= r->due)
            ref_complete(r, 4, NULL, 0, rig->now);
    } else if (what < 90 && rnd(3) == 0) {
        vgpu_device_reset(&rig->dev, rig->now);
        ref_reset(r);
    } else if (what == 90 && rnd(4) == 0) {
        listen_all(rig, l, r); /* what was said before the end counts */
        ref_lose(r, rig->now);
        vgpu_device_link_closed(&rig->dev, rig->now);
        connection_gone(rig, l);
    } else if (what > 90 && !r->connected) {
        rig->room = rnd(4) ? SIZE_MAX : rnd(100);
        vgpu_device_link_opened(&rig->dev, rig->now);
        r->connected = true;
    }
    if (rnd(4))
        listen_all(rig, l, r);
    compare(rig, r);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void random_events_against_the_reference(void **state)
{
    struct rig *rig = *state;
    uint64_t seeds = 40, first = from_environment("VGPU_FUZZ_SEED", 1);
    uint64_t steps = from_environment("VGPU_FUZZ_STEPS", 8000);
    uint64_t requests = 0, done = 0, timeouts = 0, dropped = 0;
    if (getenv("VGPU_FUZZ_SEED"))
        seeds = 1;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        struct reference r;
        struct listener l = {0};
        struct vgpu_device_config config = rig_config();
        rig_init(rig, &config);
        ref_init(&r);
        random_state = seed * 0x9E3779B97F4A7C15ull;
        /* Left behind only when a step fails: repeat with VGPU_FUZZ_SEED. */
        char note[64];
        snprintf(note, sizeof(note), "%" PRIu64, seed);
        setenv("VGPU_FUZZ_RUNNING", note, 1);
        for (uint64_t i = 0; i < steps; i++)
            step(rig, &r, &l);
        requests += rig->dev.stats.requests;
        done += rig->dev.stats.completions - rig->dev.stats.errors;
        timeouts += rig->dev.stats.timeouts;
        dropped += rig->dev.stats.responses_dropped;
    }
    print_message("%" PRIu64 " requests, %" PRIu64 " done, %" PRIu64 " timed out, %" PRIu64
                  " late answers\n",
                  requests, done, timeouts, dropped);
    /* A run that never got anywhere would prove nothing. */
    if (!getenv("VGPU_FUZZ_SEED")) {
        assert_true(requests > 1000);
        assert_true(done > 200);
        assert_true(timeouts > 100);
        assert_true(dropped > 100);
    }
    unsetenv("VGPU_FUZZ_RUNNING");
}

static int tell_seed(void **state)
{
    const char *seed = getenv("VGPU_FUZZ_RUNNING");
    if (seed)
        print_error("failed with seed %s: repeat with VGPU_FUZZ_SEED=%s\n", seed, seed);
    return rig_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        VGPU_TEST_F(random_events_against_the_reference, rig_setup, tell_seed),
    };
    return cmocka_run_group_tests_name("device fuzz", tests, NULL, NULL);
}
