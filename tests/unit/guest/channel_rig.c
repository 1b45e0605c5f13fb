/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See channel_rig.h. */
#include "channel_rig.h"

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "guest/deadline.h"
#include "ring/barrier.h"
#include "vgpu_test.h"

/* ---- The port ---- */

static struct rig *rig_of(struct vgpu_channel_port *port)
{
    return port->own;
}

static void port_ring(struct vgpu_channel_port *port)
{
    uint64_t one = 1;
    atomic_fetch_add(&rig_of(port)->bells, 1);
    if (write(rig_of(port)->bell, &one, sizeof(one)) < 0)
        atomic_fetch_add(&rig_of(port)->wrong, 1);
}

static int port_state(struct vgpu_channel_port *port, uint32_t *state, uint32_t *error,
                      uint32_t *generation)
{
    struct rig *rig = rig_of(port);
    atomic_fetch_add(&rig->looks, 1);
    *state = atomic_load(&rig->state);
    *error = atomic_load(&rig->error);
    *generation = atomic_load(&rig->generation);
    return 0;
}

static void port_release(struct vgpu_channel_port *port, bool forked)
{
    if (!forked)
        atomic_fetch_add(&rig_of(port)->released, 1);
}

static const struct vgpu_transport_ops ops = {
    .ring = port_ring, .state = port_state, .release = port_release};

/* ---- The server ---- */

static void signal_guest(struct rig *rig)
{
    uint64_t one = 1;
    if (write(rig->interrupt, &one, sizeof(one)) < 0)
        atomic_fetch_add(&rig->wrong, 1);
}

static void complete(struct rig *rig, const struct vgpu_ring_answer *answer, uint16_t unit,
                     uint16_t units)
{
    if (!vgpu_ring_server_has_room(&rig->server, 1)) {
        atomic_fetch_add(&rig->wrong, 1); /* never more than 1024 are outstanding (G11) */
        return;
    }
    if (vgpu_ring_server_complete(&rig->server, answer, unit, units))
        signal_guest(rig);
}

static uint32_t draw(struct rig *rig)
{
    rig->random = rig->random * 1664525u + 1013904223u;
    return rig->random >> 8;
}

/* What no worker would write. The lengths go past vgpu_ring_server_complete, which would cut them.
 */
static void lie(struct rig *rig, const struct vgpu_ring_record *record)
{
    /* None that is outstanding, now or soon: no guest could tell that from the truth. */
    uint32_t tokens[] = {0, record->token ^ 0x40000000u, record->token ^ 0x80000200u, UINT32_MAX,
                         draw(rig) | 0x80000000u};
    struct vgpu_ring_completion *entry =
        (struct vgpu_ring_completion *)(void *)(rig->window + VGPU_CHANNEL_COMPLETIONS) +
        rig->server.completed % VGPU_RING_COMPLETIONS;
    if (!vgpu_ring_server_has_room(&rig->server, 2))
        return;
    entry->token = tokens[draw(rig) % 5];
    entry->status = draw(rig);
    entry->length = UINT32_MAX - draw(rig) % 2;
    rig->server.completed++;
    vgpu_shared_release64(&entry->sequence, rig->server.completed);
}

void rig_answer(struct rig *rig, const struct vgpu_ring_record *record, uint32_t status,
                const void *bytes, uint32_t length)
{
    struct vgpu_ring_answer answer = {
        .token = record->token, .status = status, .length = length, .bytes = bytes};
    if (rig->lies)
        lie(rig, record);
    complete(rig, &answer, record->answer_unit, record->answer_units);
    if (rig->lies && vgpu_ring_server_has_room(&rig->server, 2)) {
        /* Once more: the token is nobody's any more. In the entry, since the first answer's bytes
         * may still be being read. */
        if (answer.length > VGPU_RING_INLINE_BYTES)
            answer.length = VGPU_RING_INLINE_BYTES;
        complete(rig, &answer, record->answer_unit, record->answer_units);
    }
}

void rig_echo(struct rig *rig, const struct vgpu_ring_record *record, const uint8_t *body)
{
    if (record->token && record->length >= 8)
        rig_answer(rig, record, 0, body + 8, record->length - 8);
}

void rig_hold(struct rig *rig, const struct vgpu_ring_record *record)
{
    if (rig->held_count == RIG_HELD) {
        atomic_fetch_add(&rig->wrong, 1);
        return;
    }
    rig->held[rig->held_count++] = *record;
    atomic_store(&rig->held_shown, rig->held_count);
}

static void answer_held(struct rig *rig)
{
    while (atomic_load(&rig->let_go) && rig->held_count) {
        const struct vgpu_ring_record *record = &rig->held[--rig->held_count];
        rig_answer(rig, record, 0, &record->token, sizeof(record->token));
        atomic_store(&rig->held_shown, rig->held_count);
        atomic_fetch_sub(&rig->let_go, 1);
    }
}

static void sleep_on_bell(struct rig *rig)
{
    struct pollfd ready = {.fd = rig->bell, .events = POLLIN};
    uint64_t count;
    if (!vgpu_ring_server_sleep(&rig->server))
        return;
    while (!atomic_load(&rig->stop) && poll(&ready, 1, 50) == 0)
        ;
    if (read(rig->bell, &count, sizeof(count)) < 0 && !atomic_load(&rig->stop))
        atomic_fetch_add(&rig->wrong, 1);
    vgpu_ring_server_woke(&rig->server);
}

static void *serve(void *opaque)
{
    struct rig *rig = opaque;
    static _Thread_local uint8_t bytes[VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT];
    while (!atomic_load(&rig->stop)) {
        const struct vgpu_ring_record *record = NULL;
        answer_held(rig);
        if (!atomic_load(&rig->paused) && vgpu_ring_server_has_room(&rig->server, 1))
            record = vgpu_ring_server_take(&rig->server, bytes);
        if (record) {
            rig->handler(rig, record, bytes + sizeof(*record));
            atomic_fetch_add(&rig->taken, 1);
            continue;
        }
        vgpu_ring_server_show(&rig->server);
        if (rig->server.error)
            atomic_store(&rig->wrong, 1000 + rig->server.error); /* our guest broke the rules */
        if (atomic_load(&rig->sleepy) && !atomic_load(&rig->paused))
            sleep_on_bell(rig);
        else
            sched_yield();
    }
    return NULL;
}

/* ---- For the test ---- */

struct rig *rig_start(rig_handler handler, bool interrupt)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    assert_non_null(rig);
    rig->window = aligned_alloc(4096, RIG_WINDOW_BYTES);
    assert_non_null(rig->window);
    rig->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    rig->interrupt = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    rig->handler = handler;
    rig->state = VGPU_CHANNEL_ACTIVE;
    rig->generation = 3;
    rig->random = 1;
    rig->transport.ops = &ops;
    vgpu_ring_server_init(&rig->server, rig->window);
    struct vgpu_channel_port port = {
        .transport = &rig->transport,
        .window = rig->window,
        .window_bytes = RIG_WINDOW_BYTES,
        .channel_count = 1,
        .interrupt_fd = interrupt ? rig->interrupt : -1,
        .own = rig,
    };
    assert_int_equal(vgpu_channel_attach(&rig->gpu, &port, 3, &rig->channel), 0);
    assert_int_equal(pthread_create(&rig->thread, NULL, serve, rig), 0);
    return rig;
}

void rig_stop(struct rig *rig)
{
    atomic_store(&rig->stop, true);
    pthread_join(rig->thread, NULL);
    vgpu_channel_close(rig->channel, false);
    uint64_t wrong = atomic_load(&rig->wrong), released = atomic_load(&rig->released);
    close(rig->bell);
    close(rig->interrupt);
    free(rig->window);
    free(rig);
    assert_int_equal(wrong, 0);
    assert_int_equal(released, 1);
}

void rig_wait(_Atomic uint64_t *counter, uint64_t value)
{
    uint64_t deadline_ns = vgpu_deadline_ns(20000);
    while (atomic_load(counter) < value && vgpu_now_ns() < deadline_ns)
        usleep(100);
    assert_true(atomic_load(counter) >= value);
}

void rig_wait_held(struct rig *rig, unsigned count)
{
    uint64_t deadline_ns = vgpu_deadline_ns(20000);
    while (atomic_load(&rig->held_shown) != count && vgpu_now_ns() < deadline_ns)
        usleep(100);
    assert_int_equal(atomic_load(&rig->held_shown), count);
}

void rig_let_go(struct rig *rig)
{
    atomic_store(&rig->let_go, atomic_load(&rig->held_shown));
}
