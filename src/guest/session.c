/* SPDX-License-Identifier: MIT */
/*
 * Sessions: opening under a random number that is recorded first, so that a successor can clean up,
 * and closing. Also what is asked of a session as a whole: device info, NOP.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/carry.h"
#include "guest/channel.h"
#include "guest/deadline.h"
#include "guest/guest.h"
#include "vgpu/curesult.h"

#define NUMBER_TRIES                                                                               \
    8 /* random 64-bit numbers: a second clash in a row means something is wrong                   \
       */

/* The part of the time-out that ending dead programs' sessions may take: they had time enough, and
 * the next opener goes on where this one stopped. */
#define SWEEP_SHARE 10u

struct sweep {
    struct vgpu *gpu;
    uint64_t deadline_ns;
    unsigned ended;
};

static int end_for_dead(void *context, uint64_t number)
{
    struct sweep *sweep = context;
    if (vgpu_now_ns() >= sweep->deadline_ns)
        return -ETIMEDOUT;
    int err = vgpu_session_end(sweep->gpu, number, sweep->deadline_ns);
    sweep->ended += err == 0;
    return err;
}

/* Directory for this device's records, after ending what dead programs left; negative errno with a
 * text when there is none. */
static int open_records(struct vgpu *gpu, uint64_t deadline_ns, unsigned *ended)
{
    struct sweep sweep = {gpu, deadline_ns, 0};
    uint32_t generation;
    int err = vgpu_generation(gpu, &generation);
    if (err < 0)
        return err;
    int dir = vgpu_record_open_dir(gpu->run_dir, gpu->address + strlen("pci:"));
    if (dir < 0)
        return dir;
    int removed = vgpu_record_sweep(dir, generation, end_for_dead, &sweep);
    if (removed < 0) {
        close(dir);
        return vgpu_fail(removed, "the run directory %s cannot be read: %s", gpu->run_dir,
                         strerror(-removed));
    }
    *ended = sweep.ended;
    return dir;
}

int vgpu_sweep(struct vgpu *gpu, unsigned *sessions, unsigned *channels)
{
    *sessions = *channels = 0;
    int err = vgpu_check_handle(gpu);
    if (err < 0 || !gpu->run_dir)
        return err;
    int dir = open_records(gpu, vgpu_deadline_ns(gpu->timeout_ms), sessions);
    if (dir < 0)
        return dir;
    bool left = vgpu_record_any_dead(dir);
    close(dir);
    /* After the sessions: then the workers have let go. */
    err = vgpu_transport_mailbox_sweep(gpu->transport);
    if (err >= 0)
        *channels = (unsigned)err;
    if (left)
        return vgpu_fail(-EAGAIN, "the host did not say that all sessions of programs that died "
                                  "have ended");
    return err == -EOPNOTSUPP || err > 0 ? 0 : err;
}

/* Picks a number, and records it when there is a directory to record it in. */
static int choose_number(struct vgpu_session *session, int dir)
{
    for (int i = 0; i < NUMBER_TRIES; i++) {
        int err = vgpu_random(&session->number, sizeof(session->number));
        if (err < 0)
            return err;
        if (session->number == 0)
            continue;
        if (dir < 0)
            return 0;
        err = vgpu_record_create(dir, session->number, session->generation, &session->record);
        if (err == 0)
            return 0;
        if (err != -EEXIST) {
            snprintf(session->unrecorded_why, sizeof(session->unrecorded_why),
                     "no file could be made in %s: %s", session->gpu->run_dir, strerror(-err));
            return 0;
        }
    }
    return vgpu_fail(-EIO, "no free session number was found in %d tries", NUMBER_TRIES);
}

static int init_session_locks(struct vgpu_session *session)
{
    if (pthread_mutex_init(&session->lock, NULL))
        return -ENOMEM;
    if (pthread_mutex_init(&session->stage_lock, NULL)) {
        pthread_mutex_destroy(&session->lock);
        return -ENOMEM;
    }
    return 0;
}

static void free_session(struct vgpu_session *session)
{
    pthread_mutex_destroy(&session->stage_lock);
    pthread_mutex_destroy(&session->lock);
    free(session);
}

/* SESSION_OPEN under a number that nobody has. -ESTALE: GENERATION moved meanwhile. */
static int ask_for_session(struct vgpu_session *session, int dir, uint64_t deadline_ns)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    struct vgpu_call call = {
        .what = "vgpu_session_open", .opcode = VGPU_OP_SESSION_OPEN, .full_is_final = true};
    int err = 0;
    for (int i = 0; i < NUMBER_TRIES; i++) {
        if ((err = choose_number(session, dir)) < 0)
            return err;
        uint32_t remaining_ms = vgpu_remaining_ms(deadline_ns);
        err = vgpu_session_call(session, &call, remaining_ms ? remaining_ms : 1, &response, &answer,
                                NULL);
        if (err != CUDA_ERROR_ILLEGAL_STATE)
            break;
        vgpu_record_remove(&session->record, session->number); /* somebody has that number */
    }
    if (err == -EAGAIN && response.error_code == VGPU_ERR_QUEUE_FULL)
        return vgpu_fail(err, "vgpu_session_open: this VM has as many sessions as it may (error "
                              "7): close one, end a program that has one, or have the limit "
                              "raised on the host");
    return err;
}

/*
 * GENERATION moved while the session was opened. Nobody knows on which side of that the host took
 * the request: if on the far side, it has a session of that number now, and a record that says the
 * old generation would be swept away without ending it.
 */
static int undo_stale_open(struct vgpu_session *session, int dir)
{
    struct vgpu *gpu = session->gpu;
    vgpu_record_remove(&session->record, session->number);
    int err = vgpu_generation(gpu, &session->generation);
    if (err < 0)
        return err;
    if (dir >= 0)
        (void)vgpu_record_create(dir, session->number, session->generation, &session->record);
    err =
        vgpu_session_end(gpu, session->number, vgpu_deadline_ns(gpu->timeout_ms / SWEEP_SHARE + 1));
    if (err != 0 && err != -ENOLINK) {
        vgpu_record_release(&session->record); /* the next opener tries again */
        return err;
    }
    vgpu_record_remove(&session->record, session->number); /* without a mediator none is open */
    session->dead = false;
    return err;
}

/* A channel, if there is to be one. Only "channel" makes it a failure that there is none. */
static int open_channel(struct vgpu_session *session)
{
    struct vgpu *gpu = session->gpu;
    char *text = session->transport_text;
    size_t capacity = sizeof(session->transport_text);
    if (gpu->way == VGPU_WAY_MAILBOX) {
        snprintf(text, capacity, "mailbox: it was asked for (VGPU_TRANSPORT)");
        return 0;
    }
    int err = vgpu_channel_open(gpu, session->number, &session->channel);
    if (err == 0) {
        const struct vgpu_channel_port *port = vgpu_channel_port(session->channel);
        snprintf(text, capacity,
                 "channel %" PRIu32 " of %" PRIu32 ", in a window of %" PRIu64 " MiB", port->number,
                 port->channel_count, port->window_bytes >> 20);
        return 0;
    }
    snprintf(text, capacity, "mailbox: %s", vgpu_last_error_text());
    if (gpu->way == VGPU_WAY_AUTO)
        return 0;
    char why[512];
    snprintf(why, sizeof(why), "%s", vgpu_last_error_text());
    return vgpu_fail(err,
                     "vgpu_session_open: no channel is to be had, and VGPU_TRANSPORT wants "
                     "one: %s",
                     why);
}

int vgpu_session_open(struct vgpu *gpu, struct vgpu_session **result)
{
    int err = vgpu_check_handle(gpu);
    if (err < 0)
        return err;
    if (!result)
        return vgpu_fail(-EINVAL, "vgpu_session_open: session is NULL");
    *result = NULL;
    struct vgpu_session *session = calloc(1, sizeof(*session));
    if (!session)
        return vgpu_fail(-ENOMEM, "out of memory");
    if (init_session_locks(session) < 0) {
        free(session);
        return vgpu_fail(-ENOMEM, "out of memory");
    }
    session->gpu = gpu;
    session->record = (struct vgpu_record)VGPU_RECORD_NONE;
    session->next_stage = 1;
    int dir = -1;
    uint64_t deadline_ns = vgpu_deadline_ns(gpu->timeout_ms);
    if (gpu->run_dir) {
        unsigned ended;
        dir = open_records(gpu, vgpu_deadline_ns(gpu->timeout_ms / SWEEP_SHARE + 1), &ended);
        if (dir < 0)
            snprintf(session->unrecorded_why, sizeof(session->unrecorded_why), "%s",
                     vgpu_last_error_text());
    }
    /* After the sweep, which may take long, and before the session is made: should it move in
     * between, the answer shows it, and the session is undone. Once more then; a device whose
     * generation never rests has no use for a session. */
    if ((err = vgpu_generation(gpu, &session->generation)) < 0)
        goto fail;
    err = ask_for_session(session, dir, deadline_ns);
    if (err == -ESTALE) {
        if ((err = undo_stale_open(session, dir)) != 0)
            goto fail;
        err = ask_for_session(session, dir, deadline_ns);
        if (err == -ESTALE && undo_stale_open(session, dir) == 0)
            err = vgpu_fail(-ESTALE, "vgpu_session_open: the device was reset, or its mediator "
                                     "restarted, twice while the session was opened: nothing was "
                                     "lost, try again when it has come to rest");
    }
    if (err != 0) {
        /* It may have been opened all the same, when the answer was lost: then the record stays for
         * the next opener, unless the host said no. */
        if (err > 0 || err == -EAGAIN || err == -ENOLINK || err == -ESTALE)
            vgpu_record_remove(&session->record, session->number);
        goto fail;
    }
    if ((err = open_channel(session)) != 0) {
        char why[512];
        snprintf(why, sizeof(why), "%s", vgpu_last_error_text());
        if (vgpu_session_end(gpu, session->number, vgpu_deadline_ns(gpu->timeout_ms)) == 0)
            vgpu_record_remove(&session->record, session->number);
        vgpu_fail(err, "%s", why);
        goto fail;
    }
    if (dir >= 0)
        close(dir);
    pthread_mutex_lock(&gpu->lock);
    session->next = gpu->sessions;
    gpu->sessions = session;
    pthread_mutex_unlock(&gpu->lock);
    *result = session;
    return 0;
fail:
    if (dir >= 0)
        close(dir);
    vgpu_record_release(&session->record);
    free_session(session);
    return err;
}

int vgpu_check_session(const struct vgpu_session *session)
{
    if (!session)
        return vgpu_fail(-EINVAL, "the vgpu session is NULL");
    return vgpu_check_handle(session->gpu);
}

int vgpu_session_close(struct vgpu_session *session)
{
    if (!session)
        return 0;
    struct vgpu *gpu = session->gpu;
    int err = vgpu_check_handle(gpu);
    if (err < 0)
        return err; /* a forked child's: vgpu_cleanup frees it */
    pthread_mutex_lock(&gpu->lock);
    for (struct vgpu_session **at = &gpu->sessions; *at; at = &(*at)->next) {
        if (*at == session) {
            *at = session->next;
            break;
        }
    }
    pthread_mutex_unlock(&gpu->lock);
    /* With its generation it is gone already. */
    if (!session->dead)
        err = vgpu_session_end(gpu, session->number, vgpu_deadline_ns(gpu->timeout_ms));
    if (err == 0)
        vgpu_record_remove(&session->record, session->number);
    else
        vgpu_record_release(&session->record); /* the next opener tries again */
    /* After the session: then the worker has let go of it already. */
    vgpu_carry_forget(session);
    vgpu_channel_close(session->channel, false);
    free_session(session);
    return err;
}

void vgpu_session_farewell(struct vgpu_session *session, uint32_t timeout_ms)
{
    if (vgpu_session_end(session->gpu, session->number, vgpu_deadline_ns(timeout_ms)) != 0)
        return; /* record and channel are found by whoever comes next */
    if (session->channel)
        vgpu_channel_farewell(session->channel);
    vgpu_record_remove(&session->record, session->number);
}

const char *vgpu_session_transport(const struct vgpu_session *session)
{
    return session ? session->transport_text : "no session";
}

uint64_t vgpu_session_number(const struct vgpu_session *session)
{
    return session ? session->number : 0;
}

bool vgpu_session_recorded(const struct vgpu_session *session, const char **why)
{
    bool recorded = session && session->unrecorded_why[0] == 0;
    if (why)
        *why = recorded ? "" : session ? session->unrecorded_why : "no session";
    return recorded;
}

void vgpu_session_set_timeout(struct vgpu_session *session, uint32_t timeout_ms)
{
    if (vgpu_check_session(session) < 0)
        return;
    pthread_mutex_lock(&session->lock);
    session->timeout_ms = timeout_ms;
    pthread_mutex_unlock(&session->lock);
}

void vgpu_session_queued(struct vgpu_session *session)
{
    pthread_mutex_lock(&session->lock);
    session->sync_stale = true;
    pthread_mutex_unlock(&session->lock);
}

int vgpu_nop(struct vgpu_session *session)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    struct vgpu_call call = {.what = "vgpu_nop", .opcode = VGPU_OP_NOP};
    return vgpu_session_call(session, &call, 0, &response, &answer, NULL);
}

int vgpu_device_info(struct vgpu_session *session, struct vgpu_device_info_wire *info)
{
    struct vgpu_response response;
    struct vgpu_answer answer;
    int err = vgpu_check_session(session);
    if (err < 0)
        return err;
    if (!info)
        return vgpu_fail(-EINVAL, "vgpu_device_info: info is NULL");
    struct vgpu_call call = {.what = "vgpu_device_info", .opcode = VGPU_OP_GET_DEVICE_INFO};
    err = vgpu_session_call(session, &call, 0, &response, &answer, NULL);
    if (err != 0)
        return err;
    if (answer.data_length != sizeof(*info))
        return vgpu_fail(-EBADMSG, "vgpu_device_info: an answer of %" PRIu32 " bytes, want %zu",
                         answer.data_length, sizeof(*info));
    memcpy(info, answer.data, sizeof(*info));
    /* Names end in NUL by contract; a caller that prints them must be able to rely on it. */
    info->name[sizeof(info->name) - 1] = 0;
    info->backend[sizeof(info->backend) - 1] = 0;
    return 0;
}
