/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random owners, enables and resets against a mediator that is slow and honest (its words are true
 * and come late) or a liar (any words that are in range), with a socket that stalls and a link and
 * a guest that come and go. What must hold is stated as rules, not as a second model:
 *   - R21: with an honest mediator nobody takes a channel while a worker of an owner before, of the
 *     same guest, is in it;
 *   - a register changes only by what R21 to R26 name: the guest's word, the mediator's, loss,
 * reset;
 *   - L18: serials count up by one, and nobody enables what is not idle;
 *   - an honest mediator that is given time answers everything: no channel is stuck.
 * VGPU_FUZZ_SEED repeats a run, VGPU_FUZZ_STEPS prolongs it.
 */
#include "rig.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANNELS 10u
#define OWNER(n) VGPU_REG_CHANNEL_OWNER(n)
#define CTRL(n)  VGPU_REG_CHANNEL_CTRL(n)
#define ERROR(n) VGPU_REG_CHANNEL_ERROR(n)

static uint64_t random_state;

static uint32_t rnd(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 11) % below);
}

/* What the mediator knows of a channel. */
struct host_channel {
    uint32_t serial; /* of the last message taken */
    bool asked;      /* ENABLE taken, not answered */
    bool inside;     /* a worker is in it */
    bool resetting;  /* RESET taken, not answered */
};

struct world {
    struct rig *rig;
    bool honest;
    bool connected;
    struct host_channel host[CHANNELS];
    uint32_t owner[CHANNELS]; /* as last read */
    uint64_t claims, refused, enabled, fatal, freed, lies;
};

static void forget_host(struct world *w)
{
    memset(w->host, 0, sizeof(w->host));
    w->rig->tx_length = 0;
    w->rig->fds_count = 0;
}

static void take_all(struct world *w)
{
    struct rig_message m;
    while (rig_take(w->rig, &m)) {
        if (m.type == VGPU_LINK_RESET) {
            for (uint32_t n = 0; n < CHANNELS; n++) /* L20; workers are gone at once here */
                w->host[n].asked = w->host[n].inside = w->host[n].resetting = false;
        }
        if (m.type != VGPU_LINK_CHANNEL_ENABLE && m.type != VGPU_LINK_CHANNEL_RESET)
            continue;
        uint32_t n = (uint32_t)get_le(m.payload, 4);
        assert_true(n < CHANNELS);
        struct host_channel *h = &w->host[n];
        assert_int_equal(get_le(m.payload + 4, 4), ++h->serial);
        if (m.type == VGPU_LINK_CHANNEL_RESET) {
            h->resetting = true;
            h->asked = false; /* overtaken */
        } else {
            /* Only of one that is free as far as the device was told. */
            if (w->honest)
                assert_true(!h->asked && !h->inside);
            h->asked = true;
        }
    }
}

/* The mediator says or does something about channel n. */
static void host_acts(struct world *w, uint32_t n)
{
    struct host_channel *h = &w->host[n];
    if (!w->honest && rnd(2)) {
        uint32_t state = rnd(3);
        rig_state(w->rig, n, h->serial - rnd(h->serial < 3 ? h->serial + 1 : 3), state,
                  state == VGPU_CHANNEL_FATAL ? 1 + rnd(6) : 0);
        w->lies++;
        return;
    }
    if (h->resetting) {
        /* The worker lets go first; an ENABLE that came behind is then answered on its own. */
        h->inside = h->resetting = false;
        rig_state(w->rig, n, h->serial, VGPU_CHANNEL_FREE, 0);
        w->freed++;
    } else if (h->asked) {
        h->asked = false;
        h->inside = rnd(4) != 0;
        rig_state(w->rig, n, h->serial, h->inside ? VGPU_CHANNEL_ACTIVE : VGPU_CHANNEL_FATAL,
                  h->inside ? 0 : VGPU_CHANNEL_NOT_BOUND);
        w->enabled++;
    } else if (h->inside && rnd(4) == 0) {
        rig_state(w->rig, n, h->serial, VGPU_CHANNEL_FATAL, VGPU_CHANNEL_BAD_TAIL);
        w->fatal++; /* the worker stays in it until the reset */
    }
}

static void guest_acts(struct world *w, uint32_t n)
{
    struct rig *rig = w->rig;
    uint32_t owner = rd32(rig, OWNER(n)), ctrl = rd32(rig, CTRL(n));
    uint32_t token = 1 + rnd(5);
    assert_int_equal(owner, w->owner[n]);
    switch (rnd(6)) {
    case 0:
    case 1:
        wr32(rig, OWNER(n), token);
        if (owner) {
            assert_int_equal(rd32(rig, OWNER(n)), owner);
        } else if (rd32(rig, OWNER(n)) != 0) {
            assert_int_equal(rd32(rig, OWNER(n)), token);
            assert_int_equal(ctrl, VGPU_CHANNEL_FREE);
            if (w->honest) { /* R21 */
                take_all(w);
                assert_false(w->host[n].inside || w->host[n].asked);
            }
            w->owner[n] = token;
            w->claims++;
        } else {
            w->refused++;
        }
        assert_int_equal(rd32(rig, CTRL(n)), ctrl);
        break;
    case 2:
    case 3:
        wr32(rig, CTRL(n), 1);
        if (!owner)
            assert_int_equal(rd32(rig, CTRL(n)), ctrl);
        break;
    case 4:
        wr32(rig, CTRL(n), 0);
        assert_int_equal(rd32(rig, OWNER(n)), owner);
        break;
    default:
        wr32(rig, OWNER(n), 0);
        assert_int_equal(rd32(rig, OWNER(n)), 0);
        w->owner[n] = 0;
    }
}

static void check(struct world *w)
{
    for (uint32_t n = 0; n < CHANNELS; n++) {
        uint32_t ctrl = rd32(w->rig, CTRL(n)), error = rd32(w->rig, ERROR(n));
        assert_true(ctrl <= VGPU_CHANNEL_FATAL && error <= VGPU_CHANNEL_HOST);
        assert_true(error == 0 || ctrl == VGPU_CHANNEL_FATAL);
        assert_int_equal(rd32(w->rig, OWNER(n)), w->owner[n]);
        if (ctrl == VGPU_CHANNEL_ACTIVE)
            assert_true(vgpu_device_attached(&w->rig->dev));
    }
    assert_int_equal(w->rig->window_open, vgpu_device_attached(&w->rig->dev));
    assert_int_equal(w->rig->dev.stats.violations, 0);
}

static void step(struct world *w)
{
    struct rig *rig = w->rig;
    uint32_t what = rnd(100), n = rnd(CHANNELS);
    rig->now += rnd(1000);
    if (what < 55) {
        guest_acts(w, n);
    } else if (what < 90) {
        if (rnd(3))
            take_all(w);
        if (vgpu_device_attached(&rig->dev) && w->host[n].serial)
            host_acts(w, n);
    } else if (what < 96) {
        rig->room = rnd(3) ? SIZE_MAX : rnd(100);
        rig->piece = rnd(3) ? SIZE_MAX : 1 + rnd(20);
        vgpu_device_link_writable(&rig->dev, rig->now);
    } else if (what == 96 && rnd(10) == 0) {
        vgpu_device_reset(&rig->dev, rig->now);
        memset(w->owner, 0, sizeof(w->owner));
        if (w->honest) { /* the guest is new: workers of the old one are the mediator's affair */
            rig->room = SIZE_MAX;
            vgpu_device_link_writable(&rig->dev, rig->now);
            take_all(w);
        }
    } else if (what == 97 && rnd(20) == 0) {
        vgpu_device_link_closed(&rig->dev, rig->now);
        w->connected = false;
        forget_host(w);
    } else if (what > 97 && !w->connected) {
        rig->room = rig->piece = SIZE_MAX;
        vgpu_device_link_opened(&rig->dev, rig->now);
        rig_expect(rig, VGPU_LINK_HELLO);
        rig_welcome_features(rig, 3);
        w->connected = true;
    }
    check(w);
}

/* Given time, everything ends: every channel can be had and enabled again. */
static void settle(struct world *w)
{
    struct rig *rig = w->rig;
    rig->room = rig->piece = SIZE_MAX;
    if (!w->connected) {
        vgpu_device_link_opened(&rig->dev, rig->now);
        rig_expect(rig, VGPU_LINK_HELLO);
        rig_welcome_features(rig, 3);
    }
    vgpu_device_link_writable(&rig->dev, rig->now);
    w->honest = true;
    for (uint32_t n = 0; n < CHANNELS; n++) {
        wr32(rig, OWNER(n), 0);
        struct rig_message m;
        while (rig_take(rig, &m))
            if (m.type == VGPU_LINK_CHANNEL_RESET || m.type == VGPU_LINK_CHANNEL_ENABLE)
                w->host[get_le(m.payload, 4)].serial = (uint32_t)get_le(m.payload + 4, 4);
        rig_state(rig, n, w->host[n].serial, VGPU_CHANNEL_FREE, 0);
        wr32(rig, OWNER(n), 77);
        assert_int_equal(rd32(rig, OWNER(n)), 77);
        wr32(rig, CTRL(n), 1);
        rig_state(rig, n, rig_expect_channel(rig, VGPU_LINK_CHANNEL_ENABLE, n), VGPU_CHANNEL_ACTIVE,
                  0);
        assert_int_equal(rd32(rig, CTRL(n)), VGPU_CHANNEL_ACTIVE);
    }
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void random_channels_keep_the_rules(void **state)
{
    uint64_t first = from_environment("VGPU_FUZZ_SEED", 1);
    uint64_t last = getenv("VGPU_FUZZ_SEED") ? first : 40;
    uint64_t steps = from_environment("VGPU_FUZZ_STEPS", 8000);
    struct world total = {0};
    for (uint64_t seed = first; seed <= last; seed++) {
        struct world w = {.rig = *state, .honest = seed % 2 == 0};
        struct vgpu_device_config config = rig_config_window();
        rig_init(w.rig, &config);
        random_state = seed * 0x9E3779B97F4A7C15ull;
        char note[32];
        snprintf(note, sizeof(note), "%" PRIu64, seed);
        setenv("VGPU_FUZZ_RUNNING", note, 1);
        for (uint64_t i = 0; i < steps; i++)
            step(&w);
        settle(&w);
        total.claims += w.claims;
        total.refused += w.refused;
        total.enabled += w.enabled;
        total.fatal += w.fatal;
        total.freed += w.freed;
        total.lies += w.lies;
    }
    print_message("%" PRIu64 " claims, %" PRIu64 " refused, %" PRIu64 " enables answered, %" PRIu64
                  " turned fatal, %" PRIu64 " freed, %" PRIu64 " lies\n",
                  total.claims, total.refused, total.enabled, total.fatal, total.freed, total.lies);
    /* A run that never got anywhere would prove nothing. */
    if (!getenv("VGPU_FUZZ_SEED")) {
        assert_true(total.claims > 1000 && total.refused > 1000 && total.enabled > 1000);
        assert_true(total.fatal > 100 && total.freed > 1000 && total.lies > 1000);
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
        VGPU_TEST_F(random_channels_keep_the_rules, rig_setup_window, tell_seed),
    };
    return cmocka_run_group_tests_name("device channels fuzz", tests, NULL, NULL);
}
