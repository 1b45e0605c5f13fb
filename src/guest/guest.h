/* SPDX-License-Identifier: MIT */
/*
 * What the files of libvgpu share: the handle, the session, the error text. Nothing of it is seen
 * by programs.
 */
#ifndef VGPU_GUEST_GUEST_H
#define VGPU_GUEST_GUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/record.h"
#include "guest/transport.h"
#include "guest/vgpu_mmio_client.h"

#define VGPU_DEFAULT_TIMEOUT_MS 35000u /* a little more than the device's own 30 s */

enum vgpu_way { VGPU_WAY_AUTO, VGPU_WAY_MAILBOX, VGPU_WAY_CHANNEL };
enum vgpu_gate { VGPU_GATE_FREE, VGPU_GATE_SENDING, VGPU_GATE_SENT };

struct vgpu_channel;
struct vgpu_kept;
struct vgpu_ticket;

struct vgpu {
    struct vgpu_transport *transport;
    pid_t pid; /* of the process that made it: see fork in the public header */
    uint32_t timeout_ms;
    enum vgpu_way way; /* how sessions' requests are to travel */
    char address[256];
    char *run_dir; /* where sessions are recorded; NULL: not needed */

    pthread_mutex_t lock; /* guards what follows; never held while the device is waited for */
    pthread_cond_t gate_moved;
    enum vgpu_gate gate; /* the one request in flight */
    pthread_t owner;     /* its thread, unless the gate is free */
    uint32_t next_request_id;
    struct vgpu_statistics statistics;
    struct vgpu_session *sessions; /* open ones */
};

struct vgpu_session {
    struct vgpu *gpu;
    struct vgpu_session *next;
    uint64_t number;
    uint32_t generation; /* in which it was opened */
    struct vgpu_record record;
    char unrecorded_why[256];     /* empty when recorded */
    struct vgpu_channel *channel; /* NULL: everything goes by the mailbox */
    char transport_text[320];     /* which of them, and why */

    pthread_mutex_t lock; /* guards what follows */
    uint32_t timeout_ms;  /* 0: the handle's */
    bool dead;            /* GENERATION moved */
    int lost; /* what every call says since the channel is gone; 0: it is not known to be */
    struct vgpu_kept *kept; /* requests on the channel that may be asked for again, carry.c */
    uint32_t next_stage;
    uint32_t sync_request_id;   /* of a SYNCHRONIZE whose answer is still to come; 0: none */
    bool sync_stale;            /* something was queued after that one was asked */
    pthread_mutex_t stage_lock; /* one stage at a time, so that four suffice for any thread count */
};

void vgpu_set_error_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Sets the thread's error text; its value is `result`. A macro, so that a reader's tool sees which
 * value that is. */
#define vgpu_fail(result, ...)                                                                     \
    __extension__({                                                                                \
        int vgpu_fail_result_ = (result); /* first: it may be -errno */                            \
        vgpu_set_error_text(__VA_ARGS__);                                                          \
        vgpu_fail_result_;                                                                         \
    })

/* 0, or -EINVAL / -ECHILD when the handle may not be used here. */
int vgpu_check_handle(const struct vgpu *gpu);
int vgpu_check_session(const struct vgpu_session *session);

/* Random bytes of the kernel; -EIO when it has none for us. */
int vgpu_random(void *bytes, size_t length);

/* One request of a session, to be put into bytes. */
struct vgpu_call {
    const char *what; /* for messages: "vgpu_memory_alloc" */
    uint32_t opcode;
    uint32_t flags;
    const uint32_t *params; /* opcodes under VGPU_OP_SESSION_FIRST only */
    uint32_t param_count;
    const void *prefix; /* what follows the session's number, opcodes from there on only */
    uint32_t prefix_length;
    const void *data;
    uint32_t data_length;
    uint32_t request_id; /* 0: a new one */
    bool full_is_final;  /* error 7 means "no room", not "later": do not ask again */
};

/*
 * Makes the request, asks again while the host says "not yet", takes the answer apart. `response`
 * is where the answer's pointers lead. Returns as the public functions do. *asked_id (may be NULL)
 * is the number it was asked under, 0 when it was not asked: after a negative result the host may
 * still be at it, and its answer is to be had by asking under that number again.
 */
int vgpu_session_call(struct vgpu_session *session, const struct vgpu_call *call,
                      uint32_t timeout_ms, struct vgpu_response *response,
                      struct vgpu_answer *answer, uint32_t *asked_id);

/*
 * The same in two halves, for who has several in flight; only with a session that has a channel.
 * They run in order. `response` must stay where it is from start to finish. finish gives the result
 * of vgpu_session_call, and both back to the caller whatever it is.
 */
int vgpu_session_start(struct vgpu_session *session, const struct vgpu_call *call,
                       struct vgpu_response *response, struct vgpu_ticket *ticket);
int vgpu_session_finish(struct vgpu_session *session, const char *what, uint32_t timeout_ms,
                        struct vgpu_response *response, struct vgpu_ticket *ticket,
                        struct vgpu_answer *answer);

/* ERROR_CODE as a negative errno, with a text. */
int vgpu_fail_error_code(const char *what, uint32_t error_code, const struct vgpu_answer *answer);

/* A status that is not 0, with a text. Positive. */
int vgpu_fail_status(const char *what, const struct vgpu_answer *answer);

/*
 * One request of a session by the mailbox, whatever else the session has: for what only the mailbox
 * carries (G5). Asks again on "not yet" until the deadline. Returns as the public functions do.
 */
int vgpu_mailbox_call(struct vgpu *gpu, uint64_t session, const struct vgpu_call *call,
                      uint64_t deadline_ns, struct vgpu_response *response,
                      struct vgpu_answer *answer);

/* Copies `bytes` into a stage of its own. The caller holds the session's stage_lock. */
int vgpu_stage_fill(struct vgpu_session *session, const char *what, const void *bytes,
                    uint32_t length, uint32_t *stage);
/*
 * After a failure whose answer does not say what became of the stage. A session has room for four:
 * one that is left behind is missed later. Keeps the text of the failure, returns `err`.
 */
int vgpu_stage_drop_after(struct vgpu_session *session, uint32_t stage, int err);

/* Something was queued that a SYNCHRONIZE asked before does not cover. */
void vgpu_session_queued(struct vgpu_session *session);

/* The time-out of the session's calls, ms, never 0. */
uint32_t vgpu_session_timeout_ms(struct vgpu_session *session);

/* SESSION_CLOSE of any number, for the clean-up of dead programs' sessions and for our own. 0: it
 * is closed. The last answer is waited for up to 250 ms past the deadline. */
int vgpu_session_end(struct vgpu *gpu, uint64_t number, uint64_t deadline_ns);

/*
 * What every opener does for what dead programs of this VM left, and for their channels, too: for
 * vgpu-guestd. Waits up to the handle's time-out. 0, or a negative errno with a text when something
 * is left. *sessions and *channels are how many were ended and freed.
 */
int vgpu_sweep(struct vgpu *gpu, unsigned *sessions, unsigned *channels);

/* Ends the session on the host when the process exits. Frees nothing here, since other threads may
 * still be inside; the session is not to be used afterwards. */
void vgpu_session_farewell(struct vgpu_session *session, uint32_t timeout_ms);

/* Finds the device that options and environment name. enumerate.c */
int vgpu_find_device(const struct vgpu_options *options, char *device_dir, size_t capacity,
                     char *address, size_t address_capacity);

#endif
