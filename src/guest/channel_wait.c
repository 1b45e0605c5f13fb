/* SPDX-License-Identifier: MIT */
/*
 * Answers of a channel, and waiting for them (docs/ring.md, G15 to G17, G20). One thread at a time
 * takes completions and hands each to its ticket. Who waits looks for a short time; then one thread
 * sleeps for all, on the interrupt or for growing times, and the others on a word of their slot. A
 * host that died says nothing, so the one that sleeps for all looks at the channel's state.
 */
#define _GNU_SOURCE /* ppoll */
#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "guest/channel_parts.h"
#include "guest/deadline.h"
#include "guest/guest.h"
#include "ring/barrier.h"

#define LOOKS_AT_ONCE                        32u /* of one who spins, before it lets others at the completions */
#define SPIN_LOOKS                           64u /* between two looks at the clock */
#define SLEEP_FIRST_NS                       10000u
#define SLEEP_LAST_NS                        1000000u
#define LOOK_FIRST_NS                        1000000u /* between two looks at the state, */
#define LOOK_LATER_NS                        5000000u /* and after so many of them */
#define LOOKS_FIRST                          20u
#define FOLLOW_NS                            5000000u /* a wake-up that was missed costs no more than this */
#define ROOM_SPIN_NS                         20000u
#define ROOM_SPIN_PAUSES                     32u
#define DONE_LOOKS_UNTIL_A_LOOK_AT_THE_STATE 256u

void vgpu_futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u),
                            .tv_nsec = (long)(ns % 1000000000u)};
    /* Whatever ends it, the caller looks for itself. */
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &time, NULL, 0);
}

void vgpu_futex_wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void sleep_ns(uint64_t ns)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

static bool is_dead(const struct vgpu_channel *channel)
{
    return atomic_load_explicit(&channel->death, memory_order_acquire) != VGPU_DEATH_NONE;
}

/* Sequentially consistent where a sleeper says first that it sleeps, see follow. */
static bool is_done(struct vgpu_ticket *ticket)
{
    return atomic_load(&ticket->done) != 0;
}

/* ---- The end ---- */

int vgpu_channel_fail_dead(const struct vgpu_channel *channel)
{
    static const char *const what_to_do = "close the session and open another";
    uint32_t n = channel->port.number;
    switch (atomic_load_explicit(&channel->death, memory_order_acquire)) {
    case VGPU_DEATH_FATAL:
        return vgpu_fail(-ESTALE,
                         "channel %" PRIu32 " is over, and what was sent last may or may not have "
                         "run: %s (channel error %" PRIu32 "); %s",
                         n, vgpu_channel_error_text(channel->death_error), channel->death_error,
                         what_to_do);
    case VGPU_DEATH_FREE:
        return vgpu_fail(-ESTALE,
                         "channel %" PRIu32 " was taken back by the host or by another program: %s",
                         n, what_to_do);
    case VGPU_DEATH_COUNTER:
        return vgpu_fail(-ESTALE,
                         "channel %" PRIu32 " is over: the host's counter in it makes no sense; %s",
                         n, what_to_do);
    case VGPU_DEATH_TRANSPORT:
        return vgpu_fail(-ESTALE,
                         "channel %" PRIu32 " is over: the device no longer answers; when it is "
                         "back, %s",
                         n, what_to_do);
    default:
        return vgpu_fail(-ESTALE,
                         "everything this session had is gone (the mediator was restarted, or the "
                         "device was reset, since GENERATION is no longer %" PRIu32 "): %s",
                         channel->generation, what_to_do);
    }
}

static void wake_slot(struct vgpu_channel *channel, uint32_t slot)
{
    if (atomic_load(&channel->asleep[slot]) && atomic_exchange(&channel->asleep[slot], 0))
        vgpu_futex_wake(&channel->asleep[slot], 1);
}

void vgpu_channel_kill(struct vgpu_channel *channel, enum vgpu_channel_death death, uint32_t error)
{
    uint32_t none = VGPU_DEATH_NONE;
    /* Two threads may find it dead at once; then the later error is as true as the earlier. */
    if (!is_dead(channel))
        atomic_store_explicit(&channel->death_error, error, memory_order_relaxed);
    if (!atomic_compare_exchange_strong(&channel->death, &none, (uint32_t)death))
        return;
    for (uint32_t i = 0; i < VGPU_CHANNEL_SLOTS; i++)
        wake_slot(channel, i);
}

void vgpu_channel_look(struct vgpu_channel *channel, uint64_t interval_ns)
{
    uint64_t now = vgpu_now_ns(), last = atomic_load(&channel->looked_ns);
    if (now - last < interval_ns || is_dead(channel) ||
        !atomic_compare_exchange_strong(&channel->looked_ns, &last, now))
        return;
    const struct vgpu_transport_ops *ops = channel->port.transport->ops;
    uint32_t state = 0, error = 0, generation = 0;
    if (ops->state(&channel->port, &state, &error, &generation) < 0)
        vgpu_channel_kill(channel, VGPU_DEATH_TRANSPORT, 0);
    else if (generation != channel->generation)
        vgpu_channel_kill(channel, VGPU_DEATH_GENERATION, 0);
    else if (state == VGPU_CHANNEL_FATAL)
        vgpu_channel_kill(channel, VGPU_DEATH_FATAL, error);
    else if (state != VGPU_CHANNEL_ACTIVE)
        vgpu_channel_kill(channel, VGPU_DEATH_FREE, 0);
}

/* ---- Completions ---- */

static void free_units(struct vgpu_channel *channel, uint32_t first, uint32_t count)
{
    while (count) {
        uint32_t word = first / 64, bit = first % 64;
        uint32_t n = 64 - bit < count ? 64 - bit : count;
        uint64_t mask = (n == 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1) << bit;
        atomic_fetch_or_explicit(&channel->free_units[word], mask, memory_order_release);
        first += n;
        count -= n;
    }
}

/* The answer's bytes, to where its ticket wants them. The length is the host's: it is cut to what
 * was asked for, first by the ring's end, then here. */
static void hand_over(struct vgpu_channel *channel, const struct vgpu_channel_slot *slot,
                      const struct vgpu_ring_completion *entry, struct vgpu_ticket *ticket)
{
    uint32_t length;
    const uint8_t *from = vgpu_ring_client_answer(&channel->drain, entry, slot->answer_unit,
                                                  slot->answer_units, &length);
    ticket->length = length < ticket->capacity ? length : ticket->capacity;
    if (ticket->length)
        memcpy(ticket->bytes, from, ticket->length);
    ticket->status = entry->status;
    ticket->error_code = entry->error_code;
    atomic_store(&ticket->done, 1); /* from here on it is its waiter's */
}

static void take_entry(struct vgpu_channel *channel, const struct vgpu_ring_completion *entry)
{
    uint32_t number = vgpu_slot_of(entry->token);
    struct vgpu_channel_slot *slot = &channel->slot[number];
    if (entry->token == 0 ||
        atomic_load_explicit(&slot->token, memory_order_acquire) != entry->token) {
        channel->strange++;
        return;
    }
    /* At once, so that a second answer under this token finds nothing. */
    atomic_store_explicit(&slot->token, 0, memory_order_relaxed);
    struct vgpu_ticket *ticket = atomic_exchange(&slot->ticket, NULL);
    if (ticket)
        hand_over(channel, slot, entry, ticket);
    free_units(channel, slot->answer_unit, slot->answer_units);
    wake_slot(channel, number);
    /* Last: the next user of the slot sees all of this done. */
    atomic_fetch_or_explicit(&channel->free_slots[number / 64], (uint64_t)1 << number % 64,
                             memory_order_release);
}

static bool try_drain_lock(struct vgpu_channel *channel)
{
    return atomic_load_explicit(&channel->drain_lock, memory_order_relaxed) == 0 &&
           atomic_exchange_explicit(&channel->drain_lock, 1, memory_order_acquire) == 0;
}

static void drain_unlock(struct vgpu_channel *channel)
{
    atomic_store_explicit(&channel->drain_lock, 0, memory_order_release);
}

/* Takes what there is: a ring's worth at most, whatever the host keeps writing. */
static bool take_some(struct vgpu_channel *channel)
{
    struct vgpu_ring_completion entry;
    unsigned taken = 0;
    while (taken < VGPU_RING_COMPLETIONS && vgpu_ring_client_take(&channel->drain, &entry)) {
        take_entry(channel, &entry);
        taken++;
    }
    return taken != 0;
}

void vgpu_channel_drain(struct vgpu_channel *channel)
{
    if (!try_drain_lock(channel))
        return;
    take_some(channel);
    drain_unlock(channel);
}

bool vgpu_channel_done(struct vgpu_channel *channel, struct vgpu_ticket *ticket)
{
    if (is_done(ticket) || vgpu_channel_check(channel) < 0)
        return true;
    vgpu_channel_drain(channel);
    if (is_done(ticket))
        return true;
    /* Who asks again and again without waiting learns of the end, too. */
    uint32_t looks = atomic_fetch_add_explicit(&channel->idle_looks, 1, memory_order_relaxed);
    if (looks % DONE_LOOKS_UNTIL_A_LOOK_AT_THE_STATE == 0)
        vgpu_channel_look(channel, LOOK_FIRST_NS);
    return is_dead(channel);
}

/* ---- Waiting ---- */

static bool has_passed(uint64_t deadline_ns)
{
    return deadline_ns != 0 && vgpu_now_ns() >= deadline_ns;
}

/* Some looks with the completions in hand, or a pause. */
static void spin_once(struct vgpu_channel *channel, struct vgpu_ticket *ticket)
{
    if (!try_drain_lock(channel)) {
        vgpu_shared_pause();
        return;
    }
    for (unsigned i = 0; i < LOOKS_AT_ONCE; i++) {
        if (take_some(channel) && is_done(ticket))
            break;
        vgpu_shared_pause();
    }
    drain_unlock(channel);
}

static void spin(struct vgpu_channel *channel, struct vgpu_ticket *ticket, uint64_t deadline_ns)
{
    uint64_t start_ns = 0;
    for (;;) {
        for (unsigned i = 0; i < SPIN_LOOKS; i += LOOKS_AT_ONCE) {
            spin_once(channel, ticket);
            if (is_done(ticket) || is_dead(channel))
                return;
        }
        uint64_t now = vgpu_now_ns();
        if (start_ns == 0)
            start_ns = now;
        /* Many waiters need their processors for other things than looking at one word. */
        uint32_t waiters = atomic_load_explicit(&channel->waiters, memory_order_relaxed);
        if ((now - start_ns) * (waiters ? waiters : 1) >= channel->spin_ns ||
            (deadline_ns && now >= deadline_ns))
            return;
    }
}

/* The drain lock of a thread that is about to sleep, or did: holders keep it for microseconds. */
static void drain_lock(struct vgpu_channel *channel)
{
    while (!try_drain_lock(channel))
        sched_yield();
}

static void sleep_until_interrupt(struct vgpu_channel *channel, struct vgpu_ticket *ticket,
                                  uint64_t ns)
{
    drain_lock(channel);
    bool sleeps = vgpu_ring_client_sleep(&channel->drain);
    drain_unlock(channel);
    if (!sleeps)
        return;
    /* What came before the wish was seen has been handed over by whoever took it; look once more.
     */
    if (!is_done(ticket)) {
        struct pollfd ready = {.fd = channel->port.interrupt_fd, .events = POLLIN};
        struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u),
                                .tv_nsec = (long)(ns % 1000000000u)};
        uint64_t count;
        atomic_fetch_add_explicit(&channel->sleeps, 1, memory_order_relaxed);
        if (ppoll(&ready, 1, &time, NULL) > 0 &&
            read(channel->port.interrupt_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
            sleep_ns(SLEEP_FIRST_NS); /* no eventfd any more; never in a tight loop */
    }
    drain_lock(channel);
    vgpu_ring_client_woke(&channel->drain);
    drain_unlock(channel);
}

static uint64_t bounded(uint64_t ns, uint64_t deadline_ns)
{
    if (deadline_ns == 0)
        return ns;
    uint64_t now = vgpu_now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
    return left < ns ? left : ns;
}

/* Sleeps for all who wait. */
static void lead(struct vgpu_channel *channel, struct vgpu_ticket *ticket, uint64_t deadline_ns)
{
    uint64_t pause_ns = SLEEP_FIRST_NS;
    for (unsigned looks = 0; !is_done(ticket) && !is_dead(channel) && !has_passed(deadline_ns);) {
        uint64_t interval_ns = looks < LOOKS_FIRST ? LOOK_FIRST_NS : LOOK_LATER_NS;
        if (channel->port.interrupt_fd >= 0) {
            sleep_until_interrupt(channel, ticket, bounded(interval_ns, deadline_ns));
            looks++;
        } else {
            atomic_fetch_add_explicit(&channel->sleeps, 1, memory_order_relaxed);
            sleep_ns(bounded(pause_ns, deadline_ns));
            pause_ns += pause_ns / 2;
            if (pause_ns > SLEEP_LAST_NS)
                pause_ns = SLEEP_LAST_NS;
            looks += pause_ns == SLEEP_LAST_NS;
        }
        vgpu_channel_drain(channel);
        vgpu_channel_look(channel, interval_ns);
    }
}

/* Who led leaves: one of those who follow is to lead. */
static void pass_on(struct vgpu_channel *channel)
{
    atomic_store(&channel->leader, 0);
    if (atomic_load(&channel->followers) == 0)
        return;
    for (uint32_t i = 0; i < VGPU_CHANNEL_SLOTS; i++) {
        if (atomic_load(&channel->asleep[i]) && atomic_exchange(&channel->asleep[i], 0)) {
            vgpu_futex_wake(&channel->asleep[i], 1);
            return;
        }
    }
}

/*
 * Sleeps until its answer came, or it is to lead. All sequentially consistent: this side says that
 * it sleeps and then looks; the others do what is looked for, and then look who sleeps.
 */
static void follow(struct vgpu_channel *channel, struct vgpu_ticket *ticket, uint64_t deadline_ns)
{
    _Atomic uint32_t *word = &channel->asleep[vgpu_slot_of(ticket->token)];
    atomic_fetch_add(&channel->followers, 1);
    atomic_store(word, 1);
    if (!is_done(ticket) && !is_dead(channel) && atomic_load(&channel->leader))
        vgpu_futex_wait(word, 1, bounded(FOLLOW_NS, deadline_ns));
    atomic_fetch_sub(&channel->followers, 1);
}

void vgpu_channel_abandon(struct vgpu_channel *channel, struct vgpu_ticket *ticket)
{
    struct vgpu_channel_slot *slot = &channel->slot[vgpu_slot_of(ticket->token)];
    struct vgpu_ticket *ours = ticket;
    if (is_done(ticket) || atomic_compare_exchange_strong(&slot->ticket, &ours, NULL))
        return;
    while (!is_done(ticket)) /* it is being handed over */
        sched_yield();
}

int vgpu_channel_finish_until(struct vgpu_channel *channel, struct vgpu_ticket *ticket,
                              uint64_t deadline_ns)
{
    if (is_done(ticket))
        return 0;
    int err = vgpu_channel_check(channel);
    if (err == -ECHILD)
        return err;
    if (err == 0) {
        atomic_fetch_add_explicit(&channel->waiters, 1, memory_order_relaxed);
        spin(channel, ticket, deadline_ns);
        while (!is_done(ticket) && !is_dead(channel) && !has_passed(deadline_ns)) {
            uint32_t none = 0;
            if (atomic_compare_exchange_strong(&channel->leader, &none, 1)) {
                lead(channel, ticket, deadline_ns);
                pass_on(channel);
            } else {
                follow(channel, ticket, deadline_ns);
            }
        }
        atomic_fetch_sub_explicit(&channel->waiters, 1, memory_order_relaxed);
    }
    if (is_done(ticket))
        return 0;
    if (!is_dead(channel))
        return vgpu_fail(-ETIMEDOUT, "the host has not answered yet");
    /* What came before the end counts. */
    vgpu_channel_drain(channel);
    vgpu_channel_abandon(channel, ticket);
    return is_done(ticket) ? 0 : vgpu_channel_fail_dead(channel);
}

int vgpu_channel_finish(struct vgpu_channel *channel, struct vgpu_ticket *ticket)
{
    return vgpu_channel_finish_until(channel, ticket, 0);
}

void vgpu_channel_wait_room(struct vgpu_channel *channel, struct vgpu_channel_pause *pause)
{
    uint64_t now = vgpu_now_ns();
    if (pause->start_ns == 0)
        pause->start_ns = now;
    if (channel->spin_ns && now - pause->start_ns < ROOM_SPIN_NS) {
        /* The worker needs the counter that is looked at: not in a tight loop. */
        for (unsigned i = 0; i < ROOM_SPIN_PAUSES; i++)
            vgpu_shared_pause();
    } else {
        if (pause->sleep_ns == 0)
            pause->sleep_ns = SLEEP_FIRST_NS;
        sleep_ns(pause->sleep_ns);
        pause->sleep_ns += pause->sleep_ns / 2;
        if (pause->sleep_ns > SLEEP_LAST_NS)
            pause->sleep_ns = SLEEP_LAST_NS;
        vgpu_channel_look(channel, LOOK_FIRST_NS);
    }
    /* The worker may be waiting for room for its answers. */
    vgpu_channel_drain(channel);
}
