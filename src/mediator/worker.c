/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of a worker process and its socket; see worker.h. Starting one is in launch.c. */
#include "mediator/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "common/names.h"
#include "common/net.h"
#include "mediator/broker.h"
#include "mediator/enforce.h"
#include "mediator/events.h"
#include "mediator/launch.h"
#include "mediator/probe.h"
#include "mediator/seat.h"
#include "mediator/tenant_window.h"
#include "vgpu/curesult.h"
#include "vgpu/worker.h"

#define END_LIMIT_NS  (2 * VGPU_NS_PER_S)    /* from closing its socket to SIGKILL */
#define KILL_LIMIT_NS (10 * VGPU_NS_PER_S)   /* from SIGKILL to saying that it does not go */
#define PROMPT_NS     (500 * VGPU_NS_PER_MS) /* five times what W2 gives it */
#define READ_BUDGET   16                     /* packets in one round */
#define LAST_BUDGET   256                    /* packets read from one that is gone */

static void arm(struct vgpu_worker *w, uint64_t after_ns)
{
    vgpu_loop_timer_set(w->mediator->loop, &w->timer, vgpu_loop_now(w->mediator->loop) + after_ns);
}

static void close_socket(struct vgpu_worker *w)
{
    vgpu_loop_remove(w->mediator->loop, &w->source);
    vgpu_fd_close(&w->source.fd);
}

static void log_worker(enum vgpu_log_level level, const struct vgpu_worker *w, const char *event,
                       const char *reason)
{
    char quoted[256];
    vgpu_log(level, event, "vm=%u session=0x%llx pid=%d reason=%s", w->tenant->vm_id,
             (unsigned long long)w->session_id, (int)w->pid,
             vgpu_log_quote(quoted, sizeof(quoted), reason, strlen(reason)));
}

static void on_timer(struct vgpu_timer *timer)
{
    struct vgpu_worker *w = vgpu_list_entry(timer, struct vgpu_worker, timer);
    if (w->killed) {
        /* Its lease stays taken: what the GPU does now nobody knows. */
        log_worker(VGPU_LOG_ERROR, w, "gpu-unhealthy", "a worker does not die; its lease is held");
        if (!w->stuck) {
            w->stuck = true;
            w->mediator->gpus[w->seat->gpu].stuck++;
            vgpu_events_add(w->mediator->events, "gpu-unhealthy", w->tenant->vm_id, w->seat->gpu,
                            "worker %d does not die; its lease is held", (int)w->pid);
        }
        arm(w, KILL_LIMIT_NS);
    } else if (!w->session) {
        log_worker(VGPU_LOG_WARN, w, "worker-kill", "its socket is closed and it does not exit");
        w->killed = true;
        kill(w->pid, SIGKILL);
        arm(w, KILL_LIMIT_NS);
    } else if (w->source.fd < 0) {
        vgpu_worker_kill(w, CUDA_ERROR_LAUNCH_FAILED, "it closed its socket and does not exit");
    } else if (!w->ready) {
        vgpu_worker_kill(w, CUDA_ERROR_LAUNCH_FAILED, "it was not ready in time");
    } else if (w->pending) {
        vgpu_worker_kill(w, CUDA_ERROR_LAUNCH_FAILED, "it did not answer in time");
    }
}

static void on_channel_timer(struct vgpu_timer *timer)
{
    struct vgpu_worker *w = vgpu_list_entry(timer, struct vgpu_worker, channel_timer);
    vgpu_worker_kill(w, CUDA_ERROR_LAUNCH_FAILED,
                     "it did not attach or let go of its channel in time");
}

void vgpu_worker_owes_channel(struct vgpu_worker *w, bool owes)
{
    struct vgpu_mediator *m = w->mediator;
    w->channel_owed = owes && !w->killed;
    if (!w->channel_owed)
        vgpu_loop_timer_cancel(m->loop, &w->channel_timer);
    else if (w->ready) /* it has all the time that it is given to get ready first */
        vgpu_loop_timer_set(m->loop, &w->channel_timer,
                            vgpu_loop_now(m->loop) + m->settings->answer_ms * VGPU_NS_PER_MS);
}

void vgpu_worker_kill(struct vgpu_worker *w, uint32_t status, const char *reason)
{
    if (w->killed)
        return;
    log_worker(VGPU_LOG_WARN, w, "worker-kill", reason);
    vgpu_events_add(w->mediator->events, "worker-kill", w->tenant->vm_id, w->seat->gpu,
                    "pid %d: %s", (int)w->pid, reason);
    w->killed = true;
    w->pending = 0;
    w->lease.wants = false;
    if (!w->gone)
        kill(w->pid, SIGKILL); /* not reaped yet, so the pid is still its own */
    close_socket(w);
    vgpu_worker_owes_channel(w, false);
    if (w->session)
        vgpu_broker_worker_lost(w, status, reason);
    arm(w, KILL_LIMIT_NS);
}

static void break_rules(struct vgpu_worker *w, const char *reason)
{
    vgpu_worker_kill(w, CUDA_ERROR_LAUNCH_FAILED, reason);
}

void vgpu_worker_end(struct vgpu_worker *w)
{
    w->session = NULL;
    w->pending = 0;
    vgpu_worker_owes_channel(w, false);
    if (w->killed)
        return;
    vgpu_lease_member_end(w->mediator->leases, &w->lease, vgpu_loop_now(w->mediator->loop));
    close_socket(w);
    arm(w, END_LIMIT_NS);
}

/* Sends one packet; false when it was not taken. */
static int send_packet(struct vgpu_worker *w, uint32_t type, uint64_t seq, const void *payload,
                       uint32_t length, const int *fds, uint32_t fd_count)
{
    uint8_t packet[VGPU_WORKER_MAX_MESSAGE];
    struct vgpu_worker_header header = {.type = type, .length = length, .seq = seq};
    if (w->source.fd < 0)
        return -EPIPE;
    memcpy(packet, &header, sizeof(header));
    if (length)
        memcpy(packet + sizeof(header), payload, length);
    ssize_t n = vgpu_net_send(w->source.fd, packet, sizeof(header) + length, fds, fd_count);
    return n < 0 ? (int)n : 0;
}

/* Nothing but a REQUEST can be left out: who does not take the rest is ended. */
void vgpu_worker_send(struct vgpu_worker *w, uint32_t type, uint64_t seq, const void *payload,
                      uint32_t length, const int *fds, uint32_t fd_count)
{
    int rc = send_packet(w, type, seq, payload, length, fds, fd_count);
    if (rc == -EAGAIN || rc == -ENOBUFS || rc == -ETOOMANYREFS)
        break_rules(w, "it does not read its socket");
    /* Any other error: it is gone, and SIGCHLD says so. */
}

static void send_or_kill(struct vgpu_worker *w, uint32_t type, uint64_t seq, const void *payload,
                         uint32_t length)
{
    vgpu_worker_send(w, type, seq, payload, length, NULL, 0);
}

/* What it was silent for before counts: cancelling again and again keeps no hung worker alive. */
static void await_answer(struct vgpu_worker *w)
{
    uint64_t limit = w->mediator->settings->answer_ms * VGPU_NS_PER_MS;
    uint64_t left = w->silent_ns < limit ? limit - w->silent_ns : 0;
    arm(w, left > PROMPT_NS ? left : PROMPT_NS);
}

int vgpu_worker_request(struct vgpu_worker *w, uint64_t seq, uint32_t request_id,
                        const uint8_t *bytes, uint32_t length)
{
    uint8_t payload[sizeof(struct vgpu_worker_request) + VGPU_MAILBOX_BYTES];
    struct vgpu_worker_request request = {.request_id = request_id, .length = length};
    memcpy(payload, &request, sizeof(request));
    memcpy(payload + sizeof(request), bytes, length);
    int rc = send_packet(w, VGPU_WORKER_REQUEST, seq, payload, (uint32_t)sizeof(request) + length,
                         NULL, 0);
    if (rc == -EAGAIN || rc == -ENOBUFS)
        return -EAGAIN;
    w->pending = seq;
    w->asked_ns = vgpu_loop_now(w->mediator->loop);
    if (w->ready && w->source.fd >= 0)
        await_answer(w);
    return 0;
}

void vgpu_worker_cancel(struct vgpu_worker *w, uint64_t seq)
{
    if (w->pending == seq) {
        uint64_t waited = vgpu_loop_now(w->mediator->loop) - w->asked_ns;
        w->pending = 0;
        if (w->ready) {
            vgpu_loop_timer_cancel(w->mediator->loop, &w->timer);
            if (waited > PROMPT_NS) /* by then it should have said something */
                w->silent_ns += waited;
        }
    }
    send_or_kill(w, VGPU_WORKER_CANCEL, seq, NULL, 0);
}

static void lease_grant(struct vgpu_lease_member *member, uint64_t lease)
{
    struct vgpu_worker *w = vgpu_list_entry(member, struct vgpu_worker, lease);
    send_or_kill(w, VGPU_WORKER_GRANT, lease, NULL, 0);
}

static void lease_recall(struct vgpu_lease_member *member, uint64_t lease, uint32_t grace_us,
                         uint32_t linger_us)
{
    struct vgpu_worker *w = vgpu_list_entry(member, struct vgpu_worker, lease);
    struct vgpu_worker_recall recall = {.grace_us = grace_us, .linger_us = linger_us};
    send_or_kill(w, VGPU_WORKER_RECALL, lease, &recall, sizeof(recall));
}

static void lease_kill(struct vgpu_lease_member *member)
{
    struct vgpu_worker *w = vgpu_list_entry(member, struct vgpu_worker, lease);
    if (!w->killed) {
        w->tenant->stats->watchdog_kills++;
        w->mediator->stats->watchdog_kills++;
        w->mediator->stats->gpus[w->seat->gpu].watchdog_kills++;
    }
    vgpu_worker_kill(w, CUDA_ERROR_LAUNCH_TIMEOUT,
                     "a kernel ran too long while others waited for the GPU");
}

const struct vgpu_lease_ops vgpu_worker_lease_ops = {
    .grant = lease_grant,
    .recall = lease_recall,
    .kill = lease_kill,
};

static void on_ready(struct vgpu_worker *w)
{
    w->ready = true;
    log_worker(VGPU_LOG_DEBUG, w, "worker-ready", "it takes requests");
    w->asked_ns = vgpu_loop_now(w->mediator->loop);
    if (w->pending)
        await_answer(w);
    else
        vgpu_loop_timer_cancel(w->mediator->loop, &w->timer);
    if (w->channel_owed)
        vgpu_worker_owes_channel(w, true);
    if (w->session)
        vgpu_broker_worker_ready(w);
}

static void on_response(struct vgpu_worker *w, uint64_t seq, const uint8_t *payload, uint32_t size)
{
    struct vgpu_worker_response response;
    if (size < sizeof(response)) {
        break_rules(w, "a RESPONSE is too short");
        return;
    }
    memcpy(&response, payload, sizeof(response));
    if (response.length > VGPU_MAILBOX_BYTES || response.length != size - sizeof(response)) {
        break_rules(w, "a RESPONSE has a wrong length");
        return;
    }
    if (w->pending == seq) {
        w->pending = 0;
        vgpu_loop_timer_cancel(w->mediator->loop, &w->timer);
    }
    vgpu_broker_answer(w, seq, response.error_code, payload + sizeof(response), response.length);
}

static bool is_length(uint32_t type, uint32_t length)
{
    switch (type) {
    case VGPU_WORKER_RESPONSE:
        return true; /* it says itself how long it is */
    case VGPU_WORKER_CHANNEL:
        return length == sizeof(struct vgpu_worker_channel);
    case VGPU_WORKER_WANT_EXTENT:
    case VGPU_WORKER_RETURN_EXTENT:
        return length == sizeof(struct vgpu_worker_extent);
    }
    return !length;
}

/* About its channel and its extents. */
static void on_window_packet(struct vgpu_worker *w, const struct vgpu_worker_header *header,
                             const uint8_t *payload)
{
    const char *wrong;
    if (header->type == VGPU_WORKER_CHANNEL)
        wrong = vgpu_tenant_worker_channel(w, payload);
    else if (header->type == VGPU_WORKER_WANT_EXTENT)
        wrong = vgpu_tenant_worker_want(w, header->seq, payload);
    else
        wrong = vgpu_tenant_worker_return(w, payload);
    if (wrong)
        break_rules(w, wrong);
}

static void on_packet(struct vgpu_worker *w, const uint8_t *packet, size_t size)
{
    struct vgpu_mediator *m = w->mediator;
    struct vgpu_worker_header header;
    if (size < sizeof(header)) {
        break_rules(w, "a packet is too short");
        return;
    }
    memcpy(&header, packet, sizeof(header));
    if (header.length != size - sizeof(header)) {
        break_rules(w, "a packet's length is not what came");
        return;
    }
    if (!is_length(header.type, header.length)) {
        break_rules(w, "a packet is too long or too short for its type");
        return;
    }
    if (w->ready == (header.type == VGPU_WORKER_READY)) {
        break_rules(w, w->ready ? "a second READY" : "a packet before READY");
        return;
    }
    int rc = 0;
    switch (header.type) {
    case VGPU_WORKER_READY:
        on_ready(w);
        return;
    case VGPU_WORKER_RESPONSE:
        on_response(w, header.seq, packet + sizeof(header), header.length);
        return;
    case VGPU_WORKER_WANT:
        rc = vgpu_lease_member_want(m->leases, &w->lease, vgpu_loop_now(m->loop));
        if (rc)
            break_rules(w, "WANT while it waits for a lease or has one");
        break;
    case VGPU_WORKER_RETURN:
        rc = vgpu_lease_member_return(m->leases, &w->lease, header.seq, vgpu_loop_now(m->loop));
        if (rc)
            break_rules(w, "RETURN of a lease that it does not have");
        break;
    case VGPU_WORKER_CHANNEL:
    case VGPU_WORKER_WANT_EXTENT:
    case VGPU_WORKER_RETURN_EXTENT:
        on_window_packet(w, &header, packet + sizeof(header));
        return;
    default:
        break_rules(w, "a packet of an unknown type");
        return;
    }
    vgpu_mediator_schedule(m);
}

/* Takes packets; false when the socket is empty, at its end, or closed by now. */
static bool read_packet(struct vgpu_worker *w)
{
    uint8_t packet[VGPU_WORKER_MAX_MESSAGE + 1];
    struct vgpu_net_ancillary ancillary;
    if (w->source.fd < 0)
        return false;
    ssize_t n = vgpu_net_recv(w->source.fd, packet, sizeof(packet), 0, &ancillary);
    if (n == -EAGAIN)
        return false;
    if (n <= 0) {
        /* It closed its end, or sent an empty packet: either way it is to go. If it is exiting,
         * SIGCHLD brings the reason; if not, the timer does. */
        close_socket(w);
        arm(w, END_LIMIT_NS);
        return false;
    }
    if (ancillary.excess)
        break_rules(w, "it sent descriptors");
    else if (ancillary.truncated)
        break_rules(w, "a packet is too long");
    else {
        w->silent_ns = 0;
        on_packet(w, packet, (size_t)n);
    }
    return true;
}

static void on_event(struct vgpu_source *source, uint32_t events)
{
    struct vgpu_worker *w = vgpu_list_entry(source, struct vgpu_worker, source);
    (void)events;
    for (unsigned i = 0; i < READ_BUDGET && read_packet(w); i++)
        ;
}

/* Its descriptors, its slot in the tenant's account, and the process; what was made stays in w. */
static int bring_up(struct vgpu_worker *w)
{
    struct vgpu_mediator *m = w->mediator;
    int fds[2], err = -1;
    int rc = vgpu_net_pair(SOCK_SEQPACKET, fds);
    if (rc)
        return rc;
    w->source.fd = fds[0];
    rc = vgpu_loop_add(m->loop, &w->source, EPOLLIN);
    if (!rc)
        rc = vgpu_voice_open(&w->voice, m, w->tenant->account, &err);
    if (!rc)
        rc = vgpu_launch_worker(m, w->tenant, w->session_id, w->slot, fds[1], err, &w->pid);
    if (!rc)
        snprintf(w->voice.who, sizeof(w->voice.who), "vm=%u session=0x%llx pid=%d",
                 w->tenant->vm_id, (unsigned long long)w->session_id, (int)w->pid);
    vgpu_fd_close(&fds[1]);
    vgpu_fd_close(&err);
    return rc;
}

int vgpu_worker_start(struct vgpu_mediator *m, struct vgpu_tenant *tenant, uint64_t session_id,
                      struct vgpu_worker **out, char *why)
{
    struct vgpu_worker *w = calloc(1, sizeof(*w));
    if (!w) {
        snprintf(why, 128, "out of memory");
        return -ENOMEM;
    }
    w->mediator = m;
    w->tenant = tenant;
    w->seat = tenant->seat;
    w->id = ++m->last_worker_id;
    w->session_id = session_id;
    w->timer.call = on_timer;
    w->channel_timer.call = on_channel_timer;
    vgpu_arena_holder_init(&w->extents);
    w->source.call = on_event;
    w->source.fd = w->voice.source.fd = -1;
    w->voice.mediator = m;
    int rc = vgpu_quota_take(w->seat->quota, &w->slot);
    if (rc) {
        snprintf(why, 128, "too many sessions of one tenant: %u", VGPU_ACCOUNT_SLOTS);
        free(w);
        return rc;
    }
    rc = bring_up(w);
    if (rc) {
        snprintf(why, 128, "cannot start a worker: %s", strerror(-rc));
        close_socket(w);
        vgpu_voice_close(&w->voice);
        vgpu_quota_give_back(w->seat->quota, w->slot);
        free(w);
        return rc;
    }
    vgpu_list_append(&m->workers, &w->node);
    vgpu_lease_member_add(&w->seat->lease, &w->lease);
    w->seat->worker_count++;
    tenant->worker_count++;
    tenant->stats->workers++;
    m->stats->workers++;
    arm(w, m->settings->start_ms * VGPU_NS_PER_MS);
    vgpu_events_add(m->events, "worker-start", tenant->vm_id, w->seat->gpu,
                    "session 0x%llx, pid %d", (unsigned long long)session_id, (int)w->pid);
    vgpu_log(VGPU_LOG_DEBUG, "worker-start", "vm=%u session=0x%llx pid=%d", tenant->vm_id,
             (unsigned long long)session_id, (int)w->pid);
    *out = w;
    return 0;
}

static struct vgpu_worker *find_pid(struct vgpu_mediator *m, pid_t pid)
{
    /* The analyzer does not see that a freed worker left the list before. */
    vgpu_list_each(node, &m->workers) // NOLINT(clang-analyzer-unix.Malloc)
    {
        struct vgpu_worker *w = vgpu_list_entry(node, struct vgpu_worker, node);
        if (w->pid == pid)
            return w;
    }
    return NULL;
}

/* A GPU fault makes nobody end the worker: it answers with that until its program is through. */
static void count_gpu_fault(struct vgpu_worker *w)
{
    const struct vgpu_usage *usage = vgpu_quota_usage(w->seat->quota, w->slot);
    for (unsigned i = 0; i < VGPU_USAGE_ERRORS && !w->fault; i++) {
        uint32_t status = __atomic_load_n(&usage->errors[i].status, __ATOMIC_RELAXED);
        uint64_t count = __atomic_load_n(&usage->errors[i].count, __ATOMIC_RELAXED);
        if (!count || !vgpu_enforce_is_fault(status))
            continue;
        w->fault = true;
        vgpu_enforce_fault(w->mediator, w->tenant, false, vgpu_curesult_name(status));
    }
}

static void on_gone(struct vgpu_worker *w, int status)
{
    struct vgpu_mediator *m = w->mediator;
    struct vgpu_tenant *tenant = w->tenant;
    char how[96];
    w->gone = true;
    /* What it said before it went still counts. */
    for (unsigned i = 0; i < LAST_BUDGET && read_packet(w); i++)
        ;
    vgpu_voice_close(&w->voice);
    vgpu_stats_take(m->stats, tenant->stats, w->seat->gpu, &w->seen,
                    vgpu_quota_usage(w->seat->quota, w->slot), vgpu_loop_now(m->loop));
    count_gpu_fault(w);
    /* The driver has taken its memory back with the process. */
    vgpu_quota_give_back(w->seat->quota, w->slot);
    bool signalled = WIFSIGNALED(status);
    snprintf(how, sizeof(how), signalled ? "killed by signal %d" : "exited with status %d",
             signalled ? WTERMSIG(status) : WEXITSTATUS(status));
    bool expected = w->killed || !w->session;
    log_worker(expected ? VGPU_LOG_DEBUG : VGPU_LOG_WARN, w,
               w->ready || expected ? "worker-end" : "worker-start-failed", how);
    if (w->session) {
        char why[192];
        bool started = w->ready || signalled;
        snprintf(why, sizeof(why),
                 started ? "the process that served this session is gone: %s"
                         : "the worker could not start: %s; the host's log says why",
                 how);
        vgpu_broker_worker_lost(w, started ? CUDA_ERROR_LAUNCH_FAILED : 0, why);
    }
    close_socket(w);
    vgpu_loop_timer_cancel(m->loop, &w->timer);
    vgpu_worker_owes_channel(w, false);
    vgpu_lease_member_remove(m->leases, &w->lease, vgpu_loop_now(m->loop));
    vgpu_list_remove(&w->node);
    tenant->worker_count--;
    uint32_t gpu = w->seat->gpu;
    if (w->stuck)
        m->gpus[gpu].stuck--;
    vgpu_events_add(m->events, "worker-end", tenant->vm_id, gpu, "pid %d %s", (int)w->pid, how);
    if (vgpu_seat_worker_gone(m, tenant, w->seat))
        vgpu_events_add(m->events, "moved-out", tenant->vm_id, gpu,
                        "its last session there has ended");
    vgpu_tenant_worker_gone(w);
    free(w);
    vgpu_broker_release(m, tenant);
    vgpu_mediator_schedule(m);
}

void vgpu_worker_reap(struct vgpu_mediator *m)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            break;
        struct vgpu_worker *w = find_pid(m, pid);
        if (w)
            on_gone(w, status);
        else
            vgpu_probe_gone(m, pid, status);
    }
    vgpu_mediator_stop_if_done(m);
}
