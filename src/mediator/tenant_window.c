/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Channels and extents of a tenant; see tenant_window.h. */
#include "mediator/tenant_window.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mediator/broker.h"
#include "mediator/link.h"
#include "mediator/tenant.h"
#include "mediator/worker.h"
#include "vgpu/curesult.h"
#include "vgpu/worker.h"

static void act(struct vgpu_tenant *t, uint32_t n, int deeds);

/* --- opening and closing --- */

const char *vgpu_tenant_window_refusal(const struct vgpu_link_hello *hello)
{
    return vgpu_window_shape(hello->window_bytes, hello->channel_count, hello->channel_bytes);
}

/* Windows take at most half of the descriptors that there may be: the rest is for links and
 * workers, without which nobody is served at all. Local clients leave a quarter of that to VMs. */
static bool has_descriptors(const struct vgpu_mediator *m, bool local, uint32_t channels,
                            char why[160])
{
    uint32_t wanted = vgpu_window_descriptors(channels);
    uint64_t most = local ? m->files_limit / 8 * 3 : m->files_limit / 2;
    if (m->window_files + wanted <= most)
        return true;
    snprintf(why, 160,
             "windows have %u descriptors, %u more would be over %llu, their share of the limit on "
             "files, %llu",
             m->window_files, wanted, (unsigned long long)most, (unsigned long long)m->files_limit);
    return false;
}

static struct vgpu_window *open_window(struct vgpu_mediator *m, bool local, uint64_t bytes,
                                       uint32_t channels, char why[160])
{
    if (!has_descriptors(m, local, channels, why))
        return NULL;
    struct vgpu_window *w = vgpu_window_create(bytes, channels);
    int rc = w ? 0 : -ENOMEM;
    if (w) {
        w->counted = &m->window_files;
        m->window_files += vgpu_window_descriptors(channels);
    }
    if (w && local)
        rc = vgpu_window_make(w);
    if (!rc)
        return w;
    snprintf(why, 160, "cannot make it: %s (windows have %u descriptors of a limit of %llu files)",
             strerror(-rc), m->window_files, (unsigned long long)m->files_limit);
    vgpu_window_drop(w);
    return NULL;
}

void vgpu_tenant_window_open(struct vgpu_tenant *t, struct vgpu_link *link,
                             const struct vgpu_link_hello *hello)
{
    struct vgpu_mediator *m = link->mediator;
    uint64_t bytes = hello->window_bytes, now = vgpu_loop_now(m->loop);
    uint32_t channels = hello->channel_count, suppressed;
    bool local = !link->endpoint;
    char why[160] = "local_window = 0";
    t->window = NULL;
    if (local && m->settings->local_window)
        vgpu_window_choose(hello->window_bytes, hello->channel_count, m->settings->local_window,
                           &bytes, &channels);
    if (!local || m->settings->local_window)
        t->window = open_window(m, local, bytes, channels, why);
    /* Not the bucket of its coming and going: that line comes right after. */
    if (!t->window && vgpu_log_limit_take(&vgpu_ledger_account(&m->ledger, t->account, now)->guests,
                                          now, &suppressed))
        vgpu_log(VGPU_LOG_WARN, "no-window", "vm=%u reason=\"%s\" suppressed=%u", t->vm_id, why,
                 suppressed);
}

static void log_window(const struct vgpu_tenant *t)
{
    vgpu_log(VGPU_LOG_DEBUG, "window", "vm=%u bytes=%llu channels=%u", t->vm_id,
             (unsigned long long)t->window->bytes, t->window->channel_count);
}

static void send_window(struct vgpu_tenant *t, bool memory, uint32_t first,
                        struct vgpu_link_window *message)
{
    uint8_t bytes[VGPU_FRAME_MAX];
    int fds[VGPU_LINK_MAX_FDS];
    uint32_t count = vgpu_window_message(t->window, memory, first, message, fds);
    vgpu_link_send_fds(t->link, bytes, vgpu_frame_window(bytes, message, (uint16_t)count), fds,
                       count);
}

void vgpu_tenant_window_send(struct vgpu_tenant *t)
{
    struct vgpu_link_window message;
    log_window(t);
    send_window(t, true, 0, &message);
    for (uint32_t sent = 0; sent < t->window->channel_count; sent += message.channels)
        send_window(t, false, sent, &message);
}

void vgpu_tenant_window_close(struct vgpu_tenant *t)
{
    vgpu_window_drop(t->window); /* workers that are ending have it still */
    t->window = NULL;
}

const char *vgpu_tenant_window_take(struct vgpu_tenant *t, const struct vgpu_link_window *message,
                                    const int *fds, uint32_t fd_count)
{
    const char *reason = vgpu_window_take(t->window, message, fds, fd_count);
    if (!reason && vgpu_window_complete(t->window))
        log_window(t);
    return reason;
}

/* --- telling the link --- */

static const char *error_text(uint32_t error)
{
    switch (error) {
#define TEXT(value, name, text)                                                                    \
    case name:                                                                                     \
        return text;
        VGPU_CHANNEL_ERROR_LIST(TEXT)
#undef TEXT
    }
    return "?";
}

/* A guest can have its channels fatal as often as it likes. */
static void log_channel(struct vgpu_tenant *t, uint32_t n, const struct vgpu_channel *c)
{
    static const char *const names[] = {"free", "active", "fatal"};
    struct vgpu_mediator *m = t->link->mediator;
    uint64_t now = vgpu_loop_now(m->loop);
    uint32_t suppressed;
    bool bad = c->state == VGPU_CHANNEL_FATAL && c->error != VGPU_CHANNEL_SESSION_LOST;
    enum vgpu_log_level level = bad ? VGPU_LOG_INFO : VGPU_LOG_DEBUG;
    if (!vgpu_log_enabled(level))
        return;
    if (!vgpu_log_limit_take(&vgpu_ledger_account(&m->ledger, t->account, now)->guests, now,
                             &suppressed))
        return;
    vgpu_log(level, "channel", "vm=%u channel=%u state=%s reason=\"%s\" suppressed=%u", t->vm_id, n,
             names[c->state], error_text(c->error), suppressed);
}

static void tell(struct vgpu_tenant *t, uint32_t n)
{
    const struct vgpu_channel *c = &t->window->channels[n].channel;
    uint8_t message[VGPU_FRAME_MAX];
    if (!t->link)
        return;
    log_channel(t, n, c);
    vgpu_link_send(t->link, message,
                   vgpu_frame_state(message, &(struct vgpu_link_channel){.channel = n,
                                                                         .serial = c->serial,
                                                                         .state = c->state,
                                                                         .error = c->error}));
}

/* --- telling the workers --- */

static struct vgpu_worker *find_worker(struct vgpu_mediator *m, uint64_t id)
{
    vgpu_list_each(node, &m->workers)
    {
        struct vgpu_worker *w = vgpu_list_entry(node, struct vgpu_worker, node);
        if (w->id == id)
            return w;
    }
    return NULL;
}

/*
 * Whether a worker that was given the same memory for another connection is still there (G6): a
 * device that comes back brings the file that it brought before.
 */
static bool is_in_use_elsewhere(const struct vgpu_mediator *m, const struct vgpu_window *window)
{
    vgpu_list_each(node, &m->workers)
    {
        const struct vgpu_worker *w = vgpu_list_entry(node, struct vgpu_worker, node);
        if (w->window && w->window != window && vgpu_window_same_memory(w->window, window))
            return true;
    }
    return false;
}

static void detach(struct vgpu_tenant *t, uint32_t n)
{
    const struct vgpu_channel *c = &t->window->channels[n].channel;
    struct vgpu_worker *w = find_worker(t->link->mediator, c->holder);
    if (!w) /* not reached: who holds it lives */
        return;
    struct vgpu_worker_channel message = {.channel = n};
    vgpu_worker_owes_channel(w, true);
    vgpu_worker_send(w, VGPU_WORKER_DETACH, 0, &message, sizeof(message), NULL, 0);
}

/* What keeps the session of a channel from being served there. 0: nothing does, it has a worker. */
static uint32_t prepare_session(struct vgpu_tenant *t, struct vgpu_session *s)
{
    struct vgpu_broker_refusal refusal;
    uint32_t suppressed;
    if (!s || s->sticky)
        return VGPU_CHANNEL_SESSION_LOST;
    if (vgpu_broker_start_worker(t, s, &refusal))
        return VGPU_CHANNEL_OK;
    struct vgpu_mediator *m = t->link->mediator;
    uint64_t now = vgpu_loop_now(m->loop);
    if (vgpu_log_limit_take(&vgpu_ledger_account(&m->ledger, t->account, now)->guests, now,
                            &suppressed))
        vgpu_log(VGPU_LOG_INFO, "channel-refused",
                 "vm=%u session=0x%llx reason=\"%s\" suppressed=%u", t->vm_id,
                 (unsigned long long)s->id, refusal.text, suppressed);
    return VGPU_CHANNEL_HOST;
}

static void attach(struct vgpu_tenant *t, uint32_t n)
{
    struct vgpu_window_channel *wc = &t->window->channels[n];
    if (is_in_use_elsewhere(t->link->mediator, t->window))
        return; /* until the last of these is reaped */
    struct vgpu_session *s = vgpu_tenant_session(t, wc->channel.session);
    uint32_t error = prepare_session(t, s);
    if (error) {
        act(t, n, vgpu_channel_failed(&wc->channel, error));
        return;
    }
    struct vgpu_worker *w = s->worker;
    const struct vgpu_worker_attach message = {.window_bytes = t->window->bytes, .channel = n};
    const int fds[] = {t->window->memory, wc->doorbell, wc->interrupt};
    if (!w->window)
        w->window = vgpu_window_use(t->window);
    vgpu_channel_attaching(&wc->channel, w->id);
    vgpu_worker_owes_channel(w, true);
    vgpu_worker_send(w, VGPU_WORKER_ATTACH, 0, &message, sizeof(message), fds, 3);
}

static void act(struct vgpu_tenant *t, uint32_t n, int deeds)
{
    if (!t->link) /* it ended meanwhile: there is nobody to do anything for */
        return;
    if (deeds & VGPU_CHANNEL_DETACH)
        detach(t, n);
    if (deeds & VGPU_CHANNEL_ATTACH)
        attach(t, n);
    if (deeds & VGPU_CHANNEL_TELL)
        tell(t, n);
}

/* --- what the link says --- */

typedef int channel_event(struct vgpu_channel *c, uint32_t serial);

static const char *take_event(struct vgpu_tenant *t, uint32_t n, uint32_t serial,
                              channel_event *event)
{
    if (n >= t->window->channel_count)
        return "a channel that the window does not have";
    int deeds = event(&t->window->channels[n].channel, serial);
    if (deeds < 0)
        return "serial of a channel is not the next one";
    act(t, n, deeds);
    return NULL;
}

const char *vgpu_tenant_channel_enable(struct vgpu_tenant *t, uint32_t channel, uint32_t serial)
{
    return take_event(t, channel, serial, vgpu_channel_enable);
}

const char *vgpu_tenant_channel_reset(struct vgpu_tenant *t, uint32_t channel, uint32_t serial)
{
    return take_event(t, channel, serial, vgpu_channel_reset);
}

void vgpu_tenant_window_renew(struct vgpu_tenant *t)
{
    for (uint32_t i = 0; t->window && i < t->window->channel_count; i++)
        vgpu_channel_renew(&t->window->channels[i].channel);
}

/* --- what a session does --- */

/* The channel that the session or its worker has; channel_count: none. */
static uint32_t channel_of(const struct vgpu_window *window, const struct vgpu_session *s)
{
    uint32_t n = 0;
    for (; n < window->channel_count; n++) {
        const struct vgpu_channel *c = &window->channels[n].channel;
        if (c->bound && c->session == s->id)
            break;
        if (c->hold != VGPU_HOLD_NONE && s->worker && c->holder == s->worker->id)
            break;
    }
    return n;
}

uint32_t vgpu_tenant_channel_bind(struct vgpu_tenant *t, const struct vgpu_session *s,
                                  uint32_t channel, char *why)
{
    struct vgpu_window *window = t->window;
    if (channel >= window->channel_count) {
        snprintf(why, 128, "there is no channel %u: the window has 0 to %u", channel,
                 window->channel_count - 1);
        return CUDA_ERROR_INVALID_VALUE;
    }
    uint32_t has = channel_of(window, s);
    if (has < window->channel_count) {
        snprintf(why, 128, "the session has channel %u: write 0 to its CHANNEL_CTRL, wait for 0",
                 has);
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    if (!vgpu_channel_bind(&window->channels[channel].channel, s->id)) {
        snprintf(why, 128, "channel %u is another session's", channel);
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    return CUDA_SUCCESS;
}

void vgpu_tenant_channel_unbind(struct vgpu_tenant *t, const struct vgpu_session *s)
{
    for (uint32_t i = 0; t->window && i < t->window->channel_count; i++)
        vgpu_channel_unbind(&t->window->channels[i].channel, s->id);
}

void vgpu_tenant_channel_lost(struct vgpu_tenant *t, const struct vgpu_session *s, bool ended,
                              uint32_t error)
{
    for (uint32_t i = 0; t->window && i < t->window->channel_count; i++) {
        struct vgpu_channel *c = &t->window->channels[i].channel;
        if (c->bound && c->session == s->id)
            act(t, i, vgpu_channel_session_lost(c, ended, error));
    }
}

/* --- what becomes of a worker --- */

void vgpu_tenant_worker_leaving(struct vgpu_worker *w)
{
    struct vgpu_window *window = w->tenant->window;
    for (uint32_t i = 0; window && window == w->window && i < window->channel_count; i++)
        vgpu_channel_worker_leaving(&window->channels[i].channel, w->id);
}

/* Goes on with the channels that waited for a worker of another connection. */
static void attach_waiting(struct vgpu_mediator *m)
{
    for (uint32_t i = 0; i < m->slot_count; i++) {
        struct vgpu_tenant *t = m->tenants[i];
        for (uint32_t n = 0; t && t->link && t->window && n < t->window->channel_count; n++)
            if (vgpu_channel_wants_attach(&t->window->channels[n].channel))
                attach(t, n);
    }
}

void vgpu_tenant_worker_gone(struct vgpu_worker *w)
{
    struct vgpu_mediator *m = w->mediator;
    struct vgpu_tenant *t = w->tenant;
    struct vgpu_window *window = w->window;
    if (!window)
        return;
    w->window = NULL;
    vgpu_arena_release(window->arena, &w->extents);
    bool current = window == t->window;
    for (uint32_t i = 0; current && i < window->channel_count; i++)
        act(t, i, vgpu_channel_worker_gone(&window->channels[i].channel, w->id));
    vgpu_window_drop(window);
    if (!current)
        attach_waiting(m);
}

/* --- what a worker says --- */

const char *vgpu_tenant_worker_channel(struct vgpu_worker *w, const uint8_t *payload)
{
    struct vgpu_window *window = w->window;
    struct vgpu_worker_channel said;
    const char *why = "CHANNEL about a channel that it does not have";
    memcpy(&said, payload, sizeof(said));
    if (said.reserved)
        return "reserved field of CHANNEL is not 0";
    if (!window || said.channel >= window->channel_count)
        return why;
    struct vgpu_channel *c = &window->channels[said.channel].channel;
    int deeds = vgpu_channel_said(c, w->id, said.state, said.error, &why);
    if (deeds < 0)
        return why;
    if (c->hold != VGPU_HOLD_ATTACHING && c->hold != VGPU_HOLD_DETACHING)
        vgpu_worker_owes_channel(w, false);
    act(w->tenant, said.channel, deeds);
    return NULL;
}

const char *vgpu_tenant_worker_want(struct vgpu_worker *w, uint64_t seq, const uint8_t *payload)
{
    struct vgpu_worker_extent wish, answer = {0};
    bool dirty = false;
    memcpy(&wish, payload, sizeof(wish));
    if (!w->window)
        return "WANT_EXTENT without a window";
    if (!wish.bytes || wish.bytes % VGPU_ARENA_GRANULE || wish.offset || wish.free_bytes ||
        wish.dirty || wish.reserved)
        return "WANT_EXTENT is malformed";
    struct vgpu_arena *arena = w->window->arena;
    if (!vgpu_arena_take(arena, &w->extents, wish.bytes, &answer.offset, &dirty))
        answer.bytes = wish.bytes;
    else
        w->window->refused_extents++;
    answer.dirty = dirty;
    answer.free_bytes = vgpu_arena_free_bytes(arena);
    vgpu_worker_send(w, VGPU_WORKER_EXTENT, seq, &answer, sizeof(answer), NULL, 0);
    return NULL;
}

const char *vgpu_tenant_worker_return(struct vgpu_worker *w, const uint8_t *payload)
{
    struct vgpu_worker_extent extent;
    memcpy(&extent, payload, sizeof(extent));
    if (extent.reserved)
        return "reserved field of RETURN_EXTENT is not 0";
    if (!w->window || vgpu_arena_return(w->window->arena, &w->extents, extent.offset, extent.bytes))
        return "RETURN_EXTENT of what it does not have";
    return NULL;
}

void vgpu_tenant_window_status(const struct vgpu_tenant *t, char *out, size_t size)
{
    const struct vgpu_window *w = t->window;
    uint32_t active = 0;
    out[0] = 0;
    if (!w || !vgpu_window_complete(w))
        return;
    for (uint32_t i = 0; i < w->channel_count; i++)
        active += w->channels[i].channel.state == VGPU_CHANNEL_ACTIVE;
    uint64_t arena = w->bytes - (uint64_t)w->channel_count * VGPU_CHANNEL_BYTES;
    snprintf(out, size, " channels=%u/%u arena_used=%llu arena=%llu extents_refused=%llu", active,
             w->channel_count, (unsigned long long)(arena - vgpu_arena_free_bytes(w->arena)),
             (unsigned long long)arena, (unsigned long long)w->refused_extents);
}
