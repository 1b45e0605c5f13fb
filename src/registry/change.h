/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A change that somebody asks for (docs/control.md, K20 to K32), with its values checked one by one
 * but not yet against how things are: that is plan.h's part. Plain data.
 */
#ifndef VGPU_REGISTRY_CHANGE_H
#define VGPU_REGISTRY_CHANGE_H

#include "registry/model.h"

#define VGPU_CHANGE_MESSAGE 320u /* bytes for a message */
#define VGPU_CHANGE_SECONDS 31536000u

enum vgpu_change_op {
    VGPU_CHANGE_REGISTER,
    VGPU_CHANGE_REMOVE,
    VGPU_CHANGE_SET_POOL,
    VGPU_CHANGE_SET_PRIORITY,
    VGPU_CHANGE_SET_WEIGHT,
    VGPU_CHANGE_SET_RATE,
    VGPU_CHANGE_SET_QUOTA,
    VGPU_CHANGE_SET_NAME,
    VGPU_CHANGE_QUARANTINE,
    VGPU_CHANGE_RELEASE,
    VGPU_CHANGE_DRAIN,
    VGPU_CHANGE_UNDRAIN,
    VGPU_CHANGE_ADD_POOL,
    VGPU_CHANGE_REMOVE_POOL,
    VGPU_CHANGE_ASSIGN_GPU,
    VGPU_CHANGE_OPS,
};

/* Fields of a request. */
enum vgpu_change_field {
    VGPU_FIELD_VMS = 1 << 0,
    VGPU_FIELD_NAME = 1 << 1,
    VGPU_FIELD_POOL = 1 << 2,
    VGPU_FIELD_PRIORITY = 1 << 3,
    VGPU_FIELD_WEIGHT = 1 << 4,
    VGPU_FIELD_RATE = 1 << 5,
    VGPU_FIELD_BURST = 1 << 6,
    VGPU_FIELD_MEMORY = 1 << 7,
    VGPU_FIELD_SESSIONS = 1 << 8,
    VGPU_FIELD_QUEUE = 1 << 9,
    VGPU_FIELD_SECONDS = 1 << 10,
    VGPU_FIELD_REASON = 1 << 11,
    VGPU_FIELD_FORCE = 1 << 12,
    VGPU_FIELD_GPU = 1 << 13,
    VGPU_FIELD_GPUS = 1 << 14,
    VGPU_FIELD_BACKEND = 1 << 15,
};

/* The codes of K6. */
enum vgpu_change_code {
    VGPU_CODE_INVALID,
    VGPU_CODE_NOT_FOUND,
    VGPU_CODE_EXISTS,
    VGPU_CODE_DENIED,
    VGPU_CODE_BUSY,
    VGPU_CODE_CONFLICT,
    VGPU_CODE_STORAGE,
    VGPU_CODE_UNSUPPORTED,
    VGPU_CODE_INTERNAL,
};

struct vgpu_change_error {
    enum vgpu_change_code code;
    char message[VGPU_CHANGE_MESSAGE];
};

/* A GPU as somebody names it. */
struct vgpu_change_gpu {
    bool by_number;
    uint32_t number;
    char name[VGPU_REGISTRY_GPU_NAME];
};

/* What is not said, or null, has the value that model.h's rows have for it. */
struct vgpu_change {
    enum vgpu_change_op op;
    uint32_t said; /* enum vgpu_change_field, null included */
    uint32_t *vms; /* in the order of the request; all different */
    uint32_t vm_count;
    char name[VGPU_REGISTRY_NAME];
    char pool;
    int32_t priority;
    uint32_t weight, rate, burst_ms, sessions, queue;
    uint64_t memory;
    uint32_t seconds; /* 0: null, which is for ever */
    char reason[VGPU_REGISTRY_REASON];
    bool force;
    struct vgpu_change_gpu gpu;
    struct vgpu_change_gpu gpus[VGPU_REGISTRY_GPUS];
    uint32_t gpu_count;
    bool cuda; /* backend */
};

const char *vgpu_change_op_name(enum vgpu_change_op op);
/* "invalid", "not-found" ... */
const char *vgpu_change_code_name(enum vgpu_change_code code);
/* Fills in; returns -EINVAL, so that a caller can end with it. */
int vgpu_change_fail(struct vgpu_change_error *error, enum vgpu_change_code code,
                     const char *format, ...) __attribute__((format(printf, 3, 4)));
void vgpu_change_free(struct vgpu_change *change);

/* change_json.c: where there is json-c. */
struct json_object;

/* The operation of that name, if it is a change. */
bool vgpu_change_find(const char *name, enum vgpu_change_op *op);
/*
 * Reads the fields of a request; `id` and `op` are passed over. 0, or -EINVAL with an error. The
 * caller frees the change in any case.
 */
int vgpu_change_read(struct vgpu_change *change, enum vgpu_change_op op,
                     struct json_object *request, struct vgpu_change_error *error);

#endif
