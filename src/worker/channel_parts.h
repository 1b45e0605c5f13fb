/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between channel.c, pending.c and arena.c, and nobody else's. */
#ifndef VGPU_WORKER_CHANNEL_PARTS_H
#define VGPU_WORKER_CHANNEL_PARTS_H

#include "worker/channel.h"

/* Writes the answer to a record, if it wants one and the channel is alive; there is room (G16). */
void vgpu_channel_answer(struct vgpu_channel_server *c, const struct vgpu_ring_record *record,
                         uint32_t status, uint32_t error_code, const void *bytes, uint32_t length);
/* The same of a failure: its text also says which request it was, and so does the log. `of`: which,
 * if not the one that is answered. */
void vgpu_channel_answer_failure(struct vgpu_channel_server *c,
                                 const struct vgpu_ring_record *record, struct vgpu_answer *a,
                                 vgpu_request_name of);
/* And with a text of its own. */
void vgpu_channel_fail(struct vgpu_channel_server *c, const struct vgpu_ring_record *record,
                       CUresult status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A pending entry for this record, at the end of the list; NULL: there is none left. */
struct vgpu_pending *vgpu_pending_new(struct vgpu_channel_server *c,
                                      const struct vgpu_ring_record *record,
                                      struct vgpu_pending_list *list);
/* It is done with, answered or not. */
void vgpu_pending_drop(struct vgpu_channel_server *c, struct vgpu_pending_list *list,
                       struct vgpu_pending *p);

/* ---- pending.c: calls that wait for the GPU ---- */

/* Begins the call, which vgpu_calls_can_begin. */
enum vgpu_channel_hold vgpu_pending_begin(struct vgpu_channel_server *c,
                                          const struct vgpu_ring_record *record, uint64_t context,
                                          struct vgpu_call_frame *frame);
/* Answers those that are done; `wait`: waits for all. Under the lease. */
bool vgpu_pending_poll(struct vgpu_channel_server *c, bool wait);
/* Forgets all of them, unanswered. */
void vgpu_pending_forget(struct vgpu_channel_server *c);
/* The answer to a call that failed. `earlier`: the status is the deferred error's. */
void vgpu_pending_fail(struct vgpu_channel_server *c, const struct vgpu_ring_record *record,
                       const struct vgpu_call_info *info, CUresult status, bool earlier,
                       const char *text);

/* ---- arena.c: extents ---- */

enum vgpu_channel_hold vgpu_arena_alloc(struct vgpu_channel_server *c,
                                        const struct vgpu_ring_record *record, uint64_t bytes);
enum vgpu_channel_hold vgpu_arena_free(struct vgpu_channel_server *c,
                                       const struct vgpu_ring_record *record, uint64_t offset);
bool vgpu_arena_poll(struct vgpu_channel_server *c, bool lease, bool wait);
/* After the GPU is done: gives back what nobody waits for any more. */
void vgpu_arena_detach(struct vgpu_channel_server *c);
/* Whether an extent waits for the lease. */
bool vgpu_arena_wants_lease(const struct vgpu_channel_server *c);

#endif
