/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A GPU's queues without a GPU: the functions of NVIDIA's driver that have to do with contexts,
 * streams, events and pinned memory, as its manual describes them, and a hand that lets work
 * finish. What the manual forbids (a handle that was destroyed, an event on another context's
 * stream) fails the test.
 */
#ifndef VGPU_TEST_FAKE_GPU_H
#define VGPU_TEST_FAKE_GPU_H

#include "cuda.h"

#define FAKE_STREAMS 64

struct fake_gpu {
    CUresult broken;          /* not 0: what everything answers */
    CUresult refuse_register; /* cuMemHostRegister answers it */
    unsigned records;         /* cuEventRecord, so far */
    unsigned queries, waits;  /* of streams and events */
    unsigned events, streams; /* that there are */
    unsigned contexts;        /* that there are */
    unsigned registered;      /* regions */
    unsigned registrations;   /* so far */
    CUcontext registered_by;  /* the last one */
};
extern struct fake_gpu fake;

/* A backend on it, without a context. */
struct vgpu_backend *fake_open(void);
/* Closes it and looks for what was left. */
void fake_close(struct vgpu_backend *b);

/* Work on a stream of the driver's: a kernel that ends when it is told to. */
void fake_work(struct vgpu_backend *b, struct vgpu_driver_stream *stream);
/* Lets the next piece of work end; false: there is none. */
bool fake_finish(struct vgpu_driver_stream *stream);
void fake_finish_default(CUcontext context);
/* Everything. */
void fake_finish_all(void);

/* What has to be done before the work that is there now is: for comparing with a fence. */
struct fake_snapshot {
    unsigned position[FAKE_STREAMS];
};
/* NULL: of the selected context's default stream. */
struct fake_snapshot fake_snapshot_stream(struct vgpu_driver_stream *stream);
struct fake_snapshot fake_snapshot_context(CUcontext context);
struct fake_snapshot fake_snapshot_event(CUevent event);
bool fake_passed(const struct fake_snapshot *snapshot);

#endif
