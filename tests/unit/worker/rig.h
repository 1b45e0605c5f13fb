/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A mailbox on a dispatcher on an engine on the fake backend, with the lease granted, a clock that
 * the test moves, and no socket: for the clauses of docs/protocol.md.
 */
#ifndef VGPU_TEST_RIG_H
#define VGPU_TEST_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "build.h"
#include "fake_backend.h"
#include "worker/dispatch.h"
#include "worker/mailbox.h"

#define RIG_RESPONSES 4096

struct rig {
    const struct vgpu_backend_ops *ops;
    struct vgpu_backend *backend;
    struct vgpu_account *account;   /* NULL: none */
    struct vgpu_account *neighbour; /* another session's in the same */
    struct vgpu_lease lease;
    struct vgpu_engine *engine;
    struct vgpu_dispatcher dispatcher;
    struct vgpu_mailbox mailbox;
    uint64_t now_ns;
    uint64_t seq;
    uint32_t request_id;
    unsigned count;
    struct response responses[RIG_RESPONSES]; /* in the order in which they came */
};

/* VGPU_TEST_F setups; teardown fails the test when the backend saw a broken rule. */
int rig_setup(void **state);         /* session 0 */
int rig_setup_session(void **state); /* session RIG_SESSION */
int rig_setup_account(void **state); /* session 0, in an account of RIG_QUOTA bytes */
int rig_teardown(void **state);
/* The same on another backend, open, which teardown closes; quota 0: without an account. */
int rig_setup_on(void **state, const struct vgpu_backend_ops *ops, struct vgpu_backend *backend,
                 uint64_t session, uint64_t quota);
#define RIG_QUOTA   4096u
#define RIG_SESSION 0x1122334455667788ull

/* Hands a request in; answers its seq. */
uint64_t rig_submit(struct rig *r, const struct request *request);
uint64_t rig_submit_as(struct rig *r, const struct request *request, uint32_t request_id);

/* The response to seq if it came; NULL. The pointer is good until the rig ends. */
const struct response *rig_response(struct rig *r, uint64_t seq);
/* Waits for it. */
const struct response *rig_wait(struct rig *r, uint64_t seq);
/* Submits and waits. */
const struct response *rig_call(struct rig *r, struct request request);

/* Forgets the responses that came, so that more fit. */
void rig_forget(struct rig *r);

/* Waits until the engine has done all it has. Not while something is held. */
void rig_settle(struct rig *r);
/* Moves the clock. */
void rig_advance(struct rig *r, uint64_t ns);

/* Shortcuts that must work. */
uint64_t rig_alloc(struct rig *r, uint64_t size);
uint64_t rig_load(struct rig *r);
uint64_t rig_kernel(struct rig *r, uint64_t module, const char *name);

#endif
