/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What executes the CUDA calls that cross from a guest (api/cuda.calls): a driver. Each backend has
 * one. Its functions are generated declarations (struct vgpu_driver_ops), one for each call, with
 * checked scalars, looked-up objects and bounded buffers; it knows nothing of names, sessions,
 * quotas or transports.
 *
 * Contract, for every function:
 * - It acts in the context that context_use made current last. It answers a CUresult.
 * - Scalars are in the range of their C type and otherwise as the guest sent them: the driver
 * checks what they mean. Device addresses may be anything; a copy must not touch host memory but
 * the buffers it was handed.
 * - `new` objects: *object is set on success only. The caller names them and ends them by the
 *   matching call (stream_destroy ...); functions end with their module, everything with its
 *   context, and the caller forgets those names then.
 * - Work on a stream may go on after the return. context_synchronize, stream_synchronize,
 *   stream_fence, event_synchronize, copy_from_device and array_read wait for what they name.
 * - copy_to_device and array_write have taken their bytes when they return.
 * - A sticky error is answered by every call that follows.
 *
 * Threads: one at a time (the worker's engine thread), but for the backend's own `interrupt`.
 */
#ifndef VGPU_BACKEND_DRIVER_H
#define VGPU_BACKEND_DRIVER_H

#include "vgpu_driver_ops.h"

struct vgpu_driver;
struct vgpu_driver_fence;

/*
 * Marks in the order of work, for one who must not wait inside a call. Each mark_* puts one where a
 * synchronization would wait for: behind all work of a stream (NULL: the default one), of the
 * current context, before the last record of an event. *fence NULL: all of that is done already. A
 * fence lives until `end`; its stream or event may be destroyed before, its context may not.
 */
struct vgpu_fence_ops {
    CUresult (*mark_stream)(struct vgpu_driver *driver, struct vgpu_driver_stream *stream,
                            struct vgpu_driver_fence **fence);
    CUresult (*mark_context)(struct vgpu_driver *driver, struct vgpu_driver_fence **fence);
    CUresult (*mark_event)(struct vgpu_driver *driver, struct vgpu_driver_event *event,
                           struct vgpu_driver_fence **fence);
    /* CUDA_SUCCESS: passed. NOT_READY. Anything else: what the synchronization would have answered.
     * Cheap, whatever context is current. */
    CUresult (*query)(struct vgpu_driver *driver, struct vgpu_driver_fence *fence);
    /* The same, but waits. */
    CUresult (*wait)(struct vgpu_driver *driver, struct vgpu_driver_fence *fence);
    void (*end)(struct vgpu_driver *driver, struct vgpu_driver_fence *fence);
};

/* The first member of every driver. */
#define VGPU_DRIVER_TEXT_BYTES 1024u
struct vgpu_driver {
    const struct vgpu_driver_ops *ops;
    const struct vgpu_fence_ops *fences; /* NULL: what was called is done when the call returns */
    /* What a person needs to mend a call that failed, NUL-terminated: a compiler's log, a reason.
     * The caller empties it before each call; a driver that has nothing to say leaves it. */
    char text[VGPU_DRIVER_TEXT_BYTES];
};

/* Flags of `launch`. */
#define VGPU_LAUNCH_COOPERATIVE (1u << 0) /* all blocks run at a time, or 720 */
#define VGPU_LAUNCH_FLAGS_KNOWN VGPU_LAUNCH_COOPERATIVE

/* What `layout` of function_get and function_params is filled with: struct vgpu_param_layout each
 * (vgpu/protocol.h), little-endian. */

#endif
