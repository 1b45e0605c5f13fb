/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker with a channel, in this process: the test is the guest, by src/ring's client, and a
 * thread of the rig is the mediator, over the socket. The backend is the software one, or one whose
 * GPU works when the test says so (fake_gpu.h).
 */
#ifndef VGPU_TEST_CHANNEL_RIG_H
#define VGPU_TEST_CHANNEL_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "build.h"
#include "ring/ring.h"
#include "vgpu/worker.h"
#include "vgpu_cuda_calls.h"
#include "worker/control.h"

#define CHANNEL_WINDOW  ((uint64_t)16 << 20)
#define CHANNEL_NUMBER  2u
#define CHANNEL_COUNT   4u /* the arena begins behind them */
#define CHANNEL_CONTEXT 0xC0117E87u
#define CHANNEL_SESSION 0x5e5510u
#define PATIENCE_MS     20000

struct channel_rig {
    const struct vgpu_backend_ops *ops;
    struct vgpu_backend *backend;
    struct vgpu_worker *worker;
    pthread_t worker_thread, mediator_thread;
    int fd, theirs, stop_fd;
    _Atomic int ended_with; /* INT_MAX: it runs */

    /* The guest's. */
    int window_fd, doorbell, interrupt;
    uint8_t *window, *channel;
    struct vgpu_ring_client client;
    uint32_t token;
    uint64_t doorbells; /* rung */

    /* The mediator's thread writes them under the lock; tests look when they like. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic bool grants;    /* answers WANT */
    _Atomic bool held;      /* there is a lease */
    bool again;             /* it wants the next lease, and holds one */
    _Atomic uint64_t lease; /* its number */
    _Atomic unsigned wants, returns;
    _Atomic uint64_t returned_ns; /* when the last came */
    _Atomic bool answers_extents; /* else WANT_EXTENTs wait in asked */
    _Atomic bool dirty;           /* what it answers */
    _Atomic uint64_t arena_next, arena_free;
    _Atomic unsigned asked_count, returned_count; /* counted after they are written */
    struct rig_extent {
        uint64_t seq, offset, bytes;
    } asked[64], returned[4096];
    _Atomic unsigned channels; /* CHANNEL packets; the last, under the lock: */
    struct vgpu_worker_channel last;
};

#define CHANNEL_QUEUE 10u

/* VGPU_TEST_F setups: a worker, granted leases as it wants, with an active channel. */
int channel_setup(void **state);           /* on the software backend, with CHANNEL_CONTEXT */
int channel_setup_gpu(void **state);       /* on fake_gpu, with CHANNEL_CONTEXT */
int channel_setup_gpu_queue(void **state); /* the same, with a limit of CHANNEL_QUEUE */
int channel_setup_requests(void **state);  /* on fake_backend, for whole requests */
int channel_setup_bare(void **state);      /* software; not attached, no context */
int channel_teardown(void **state);

/* The mediator's side. Packets are sent from the test's thread. */
void rig_send(struct channel_rig *r, uint32_t type, uint64_t seq, const void *body, uint32_t length,
              const int *fds, unsigned fd_count);
void rig_attach(struct channel_rig *r); /* and waits until it is active */
void rig_attach_only(struct channel_rig *r);
void rig_detach(struct channel_rig *r); /* and waits until it is free */
/* Waits for the next CHANNEL packet after `seen` of them; answers its state. */
uint32_t rig_channel_state(struct channel_rig *r, unsigned seen, uint32_t *error);
void rig_grants(struct channel_rig *r, bool grants); /* WANTs that came are answered, too */
/* RECALLs the lease that is held; waits for RETURN: ns from sending to it. */
uint64_t rig_recall(struct channel_rig *r, uint32_t grace_us);
void rig_recall_only(struct channel_rig *r, uint32_t grace_us, uint32_t linger_us);
/* Once the worker has asked so often: GRANTs and RECALLs in one breath, and waits for RETURN. */
void rig_grant_and_recall(struct channel_rig *r, unsigned wants);
/* Waits until the worker has asked `count` times for extents that were not answered. */
/* Until the lease has come back more often than that. */
void rig_wait_lease_back(struct channel_rig *r, unsigned returns);
void rig_wait_asked(struct channel_rig *r, unsigned count);
void rig_answer_extent(struct channel_rig *r, unsigned i, uint64_t offset, uint64_t bytes,
                       bool dirty);
void rig_wait_returned(struct channel_rig *r, unsigned count);

/* The guest's side. */
#define PART(p, n)                                                                                 \
    (struct vgpu_ring_part)                                                                        \
    {                                                                                              \
        (p), (n)                                                                                   \
    }
struct answer_place {
    uint16_t unit, units;
};
/* Writes a record, waiting for room; not published. Answers its token: 0 for `wants` false. */
uint32_t guest_write(struct channel_rig *r, uint16_t opcode, bool wants, struct answer_place place,
                     const struct vgpu_ring_part *parts, unsigned count);
void guest_publish(struct channel_rig *r);
/* The next completion, whatever it is. Fails the test when none comes. */
struct vgpu_ring_completion guest_take(struct channel_rig *r);
bool guest_take_now(struct channel_rig *r, struct vgpu_ring_completion *out);
/* Nothing comes for so long. */
void guest_expect_silence(struct channel_rig *r, unsigned ms);
/* Waits until the worker's page says fatal; answers why. */
uint32_t guest_wait_fatal(struct channel_rig *r);

/* A CUDA call: published; its token. */
uint32_t guest_call(struct channel_rig *r, uint32_t opcode, bool wants, const uint64_t *slots,
                    const void *rest, uint32_t length);
/* The same and its answer, whose bytes (answer area or entry) are in `bytes`. */
struct guest_answer {
    uint32_t status, error_code, length;
    uint8_t bytes[2048];
};
struct guest_answer guest_do(struct channel_rig *r, uint32_t opcode, const uint64_t *slots,
                             const void *rest, uint32_t length);
struct guest_answer guest_record(struct channel_rig *r, uint16_t opcode, const void *body,
                                 uint32_t length);
struct guest_answer guest_request(struct channel_rig *r, const struct request *request);
#define SLOTS(...)          ((const uint64_t[]){__VA_ARGS__})
#define DO(r, NAME, ...)    guest_do((r), VGPU_CALL_##NAME, SLOTS(__VA_ARGS__), NULL, 0)
#define POST(r, NAME, ...)  guest_call((r), VGPU_CALL_##NAME, false, SLOTS(__VA_ARGS__), NULL, 0)
#define BEGIN(r, NAME, ...) guest_call((r), VGPU_CALL_##NAME, true, SLOTS(__VA_ARGS__), NULL, 0)
struct guest_answer guest_synchronize(struct channel_rig *r);
void guest_expect(struct guest_answer answer, uint32_t status);
uint64_t guest_out(struct guest_answer answer, unsigned slot);
struct guest_answer guest_alloc_extent(struct channel_rig *r, uint64_t bytes);
struct guest_answer guest_free_extent(struct channel_rig *r, uint64_t offset);
/* A module with calls_ptx's kernels: module 1; functions 1 `add`, 2 `wild`. */
void guest_load(struct channel_rig *r);
void guest_launch_add(struct channel_rig *r, uint64_t address, uint32_t n);

#endif
