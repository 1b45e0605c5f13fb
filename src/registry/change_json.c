/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a request's JSON to a change: which fields an operation has, and what each may be. Strict: a
 * field that an operation does not have is an error, as a misspelt limit must not be no limit.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/parse.h"
#include "registry/change.h"

#define POLICY                                                                                     \
    (VGPU_FIELD_POOL | VGPU_FIELD_PRIORITY | VGPU_FIELD_WEIGHT | VGPU_FIELD_RATE |                 \
     VGPU_FIELD_BURST | VGPU_FIELD_MEMORY | VGPU_FIELD_SESSIONS | VGPU_FIELD_QUEUE |               \
     VGPU_FIELD_NAME)
#define QUOTA  (VGPU_FIELD_MEMORY | VGPU_FIELD_SESSIONS | VGPU_FIELD_QUEUE)
#define PLACES (VGPU_FIELD_VMS | VGPU_FIELD_POOL | VGPU_FIELD_GPU)

/* all: each of these; one: exactly one of these; some: at least one. */
struct form {
    uint32_t all, one, some, may;
};

static const struct form forms[VGPU_CHANGE_OPS] = {
    [VGPU_CHANGE_REGISTER] = {.all = VGPU_FIELD_VMS, .may = POLICY},
    [VGPU_CHANGE_REMOVE] = {.all = VGPU_FIELD_VMS, .may = VGPU_FIELD_FORCE},
    [VGPU_CHANGE_SET_POOL] = {.all = VGPU_FIELD_VMS | VGPU_FIELD_POOL},
    [VGPU_CHANGE_SET_PRIORITY] = {.all = VGPU_FIELD_VMS | VGPU_FIELD_PRIORITY},
    [VGPU_CHANGE_SET_WEIGHT] = {.all = VGPU_FIELD_VMS | VGPU_FIELD_WEIGHT},
    [VGPU_CHANGE_SET_RATE] = {.all = VGPU_FIELD_VMS | VGPU_FIELD_RATE, .may = VGPU_FIELD_BURST},
    [VGPU_CHANGE_SET_QUOTA] = {.all = VGPU_FIELD_VMS, .some = QUOTA},
    [VGPU_CHANGE_SET_NAME] = {.all = VGPU_FIELD_VMS | VGPU_FIELD_NAME},
    [VGPU_CHANGE_QUARANTINE] = {.all = VGPU_FIELD_VMS,
                                .may = VGPU_FIELD_SECONDS | VGPU_FIELD_REASON},
    [VGPU_CHANGE_RELEASE] = {.all = VGPU_FIELD_VMS},
    [VGPU_CHANGE_DRAIN] = {.one = PLACES, .may = VGPU_FIELD_SECONDS | VGPU_FIELD_REASON},
    [VGPU_CHANGE_UNDRAIN] = {.one = PLACES},
    [VGPU_CHANGE_ADD_POOL] = {.all = VGPU_FIELD_POOL, .may = VGPU_FIELD_BACKEND | VGPU_FIELD_GPUS},
    [VGPU_CHANGE_REMOVE_POOL] = {.all = VGPU_FIELD_POOL},
    [VGPU_CHANGE_ASSIGN_GPU] = {.all = VGPU_FIELD_POOL | VGPU_FIELD_GPU},
};

struct reader {
    struct vgpu_change *change;
    struct vgpu_change_error *error;
    const char *name; /* of the field */
};

static int bad(struct reader *r, struct json_object *value, const char *want)
{
    return vgpu_change_fail(r->error, VGPU_CODE_INVALID, "%s: %s = %.100s is not %s",
                            vgpu_change_op_name(r->change->op), r->name,
                            json_object_to_json_string(value), want);
}

static bool number(struct json_object *value, uint64_t min, uint64_t max, uint64_t *out)
{
    if (!json_object_is_type(value, json_type_int))
        return false;
    int64_t n = json_object_get_int64(value);
    if (n < 0 || (uint64_t)n < min || (uint64_t)n > max)
        return false;
    *out = (uint64_t)n;
    return true;
}

/* null: 0. */
static int read_u32(struct reader *r, struct json_object *value, uint32_t min, uint32_t max,
                    uint32_t *out)
{
    char want[64];
    uint64_t n = 0;
    snprintf(want, sizeof(want), "a whole number from %u to %u", min, max);
    if (value && !number(value, min, max, &n))
        return bad(r, value, want);
    *out = (uint32_t)n;
    return 0;
}

/* Text of less than size bytes, without control characters; null: "". */
static int read_text(struct reader *r, struct json_object *value, char *out, size_t size)
{
    char want[64];
    snprintf(want, sizeof(want), "a text of up to %zu bytes without control characters", size - 1);
    out[0] = 0;
    if (!value)
        return 0;
    if (!json_object_is_type(value, json_type_string))
        return bad(r, value, want);
    const char *text = json_object_get_string(value);
    size_t length = (size_t)json_object_get_string_len(value);
    if (length >= size)
        return bad(r, value, want);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return bad(r, value, want);
    memcpy(out, text, length);
    out[length] = 0;
    return 0;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* A VM that stands there twice is a mistake in a range, most likely. */
static int check_twice(struct reader *r)
{
    struct vgpu_change *c = r->change;
    uint32_t *sorted = malloc(c->vm_count * sizeof(*sorted)), twice = 0;
    bool found = false;
    if (!sorted)
        return vgpu_change_fail(r->error, VGPU_CODE_INTERNAL, "out of memory");
    memcpy(sorted, c->vms, c->vm_count * sizeof(*sorted));
    qsort(sorted, c->vm_count, sizeof(*sorted), compare);
    for (uint32_t i = 1; i < c->vm_count && !found; i++) {
        found = sorted[i] == sorted[i - 1];
        twice = sorted[i];
    }
    free(sorted);
    if (found)
        return vgpu_change_fail(r->error, VGPU_CODE_INVALID,
                                "%s: vm %u stands in vms twice: do the ranges overlap?",
                                vgpu_change_op_name(c->op), twice);
    return 0;
}

static int read_vms(struct reader *r, struct json_object *value)
{
    struct vgpu_change *c = r->change;
    static const char want[] = "an array of 1 to 4096 VM numbers";
    if (!json_object_is_type(value, json_type_array))
        return value ? bad(r, value, want)
                     : vgpu_change_fail(r->error, VGPU_CODE_INVALID, "%s: vms is not %s",
                                        vgpu_change_op_name(c->op), want);
    size_t count = json_object_array_length(value);
    if (!count || count > VGPU_REGISTRY_VMS_MAX)
        return vgpu_change_fail(r->error, VGPU_CODE_INVALID,
                                "%s: vms has %zu numbers and is not %s", vgpu_change_op_name(c->op),
                                count, want);
    c->vms = malloc(count * sizeof(*c->vms));
    if (!c->vms)
        return vgpu_change_fail(r->error, VGPU_CODE_INTERNAL, "out of memory");
    for (size_t i = 0; i < count; i++) {
        uint64_t vm;
        struct json_object *item = json_object_array_get_idx(value, i);
        if (!number(item, 0, UINT32_MAX, &vm))
            return bad(r, item, "a VM number from 0 to 4294967295");
        c->vms[c->vm_count++] = (uint32_t)vm;
    }
    return check_twice(r);
}

static int read_pool(struct reader *r, struct json_object *value)
{
    char text[2];
    if (value && (json_object_get_string_len(value) != 1 || read_text(r, value, text, 2) ||
                  text[0] < 'A' || text[0] > 'Z'))
        return bad(r, value, "a pool: one letter from A to Z");
    r->change->pool = value ? text[0] : 0;
    return 0;
}

static int read_rate(struct reader *r, struct json_object *value)
{
    uint32_t rate = 0;
    if (value && (!json_object_is_type(value, json_type_string) ||
                  vgpu_parse_percent(json_object_get_string(value), &rate) || !rate))
        return bad(r, value, "a share like \"30%\" or \"12.5%\"");
    r->change->rate = rate;
    return 0;
}

static int read_priority(struct reader *r, struct json_object *value)
{
    const char *name = value ? json_object_get_string(value) : "";
    uint32_t priority = 0;
    if (value && (!json_object_is_type(value, json_type_string) || strspn(name, "012") ||
                  vgpu_parse_priority(name, &priority)))
        return bad(r, value, "one of \"low\", \"medium\", \"high\"");
    r->change->priority = value ? (int32_t)priority : -1;
    return 0;
}

static int read_memory(struct reader *r, struct json_object *value)
{
    uint64_t memory = 0;
    if (value && !number(value, 1, 1ull << 46, &memory))
        return bad(r, value, "a number of bytes from 1 to 2^46");
    r->change->memory = memory;
    return 0;
}

static int read_gpu(struct reader *r, struct json_object *value, struct vgpu_change_gpu *gpu)
{
    uint64_t n;
    gpu->by_number = json_object_is_type(value, json_type_int);
    if (gpu->by_number) {
        if (!number(value, 0, UINT32_MAX, &n))
            return bad(r, value, "a GPU's number");
        gpu->number = (uint32_t)n;
        return 0;
    }
    if (!json_object_is_type(value, json_type_string) ||
        read_text(r, value, gpu->name, sizeof(gpu->name)) || !gpu->name[0])
        return bad(r, value, "a GPU: a number or a name as list-gpus shows");
    return 0;
}

static int read_gpus(struct reader *r, struct json_object *value)
{
    struct vgpu_change *c = r->change;
    if (!json_object_is_type(value, json_type_array) ||
        json_object_array_length(value) > VGPU_REGISTRY_GPUS || !json_object_array_length(value))
        return bad(r, value, "an array of 1 to 16 GPUs");
    size_t count = json_object_array_length(value);
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++)
        rc = read_gpu(r, json_object_array_get_idx(value, i), &c->gpus[c->gpu_count++]);
    return rc;
}

static int read_backend(struct reader *r, struct json_object *value)
{
    const char *name =
        json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
    r->change->cuda = !strcmp(name, "cuda");
    if (!r->change->cuda && strcmp(name, "software") != 0)
        return bad(r, value, "one of \"software\", \"cuda\"");
    return 0;
}

static int read_force(struct reader *r, struct json_object *value)
{
    if (!json_object_is_type(value, json_type_boolean))
        return bad(r, value, "true or false");
    r->change->force = json_object_get_boolean(value);
    return 0;
}

static uint32_t field_bit(const char *name)
{
    static const char *const names[] = {
        "vms",      "name",  "pool",    "priority", "weight", "rate", "burst_ms", "memory",
        "sessions", "queue", "seconds", "reason",   "force",  "gpu",  "gpus",     "backend"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(names[i], name))
            return 1u << i;
    return 0;
}

static int read_field(struct reader *r, uint32_t bit, struct json_object *value)
{
    struct vgpu_change *c = r->change;
    switch (bit) {
    case VGPU_FIELD_VMS:
        return read_vms(r, value);
    case VGPU_FIELD_NAME:
        return read_text(r, value, c->name, sizeof(c->name));
    case VGPU_FIELD_POOL:
        return read_pool(r, value);
    case VGPU_FIELD_PRIORITY:
        return read_priority(r, value);
    case VGPU_FIELD_WEIGHT:
        return read_u32(r, value, 1, 10000, &c->weight);
    case VGPU_FIELD_RATE:
        return read_rate(r, value);
    case VGPU_FIELD_BURST:
        return read_u32(r, value, 1, 60000, &c->burst_ms);
    case VGPU_FIELD_MEMORY:
        return read_memory(r, value);
    case VGPU_FIELD_SESSIONS:
        return read_u32(r, value, 1, 1024, &c->sessions);
    case VGPU_FIELD_QUEUE:
        return read_u32(r, value, 1, 65536, &c->queue);
    case VGPU_FIELD_SECONDS:
        return read_u32(r, value, 1, VGPU_CHANGE_SECONDS, &c->seconds);
    case VGPU_FIELD_REASON:
        return read_text(r, value, c->reason, sizeof(c->reason));
    case VGPU_FIELD_FORCE:
        return read_force(r, value);
    case VGPU_FIELD_GPU:
        return read_gpu(r, value, &c->gpu);
    case VGPU_FIELD_GPUS:
        return read_gpus(r, value);
    case VGPU_FIELD_BACKEND:
        return read_backend(r, value);
    }
    return -EINVAL;
}

static int check_form(struct reader *r)
{
    const struct form *f = &forms[r->change->op];
    uint32_t said = r->change->said, one = said & f->one;
    const char *op = vgpu_change_op_name(r->change->op);
    if (f->all & ~said)
        return vgpu_change_fail(r->error, VGPU_CODE_INVALID,
                                "%s: a field is missing: docs/control.md has what it takes", op);
    if (f->one && (!one || (one & (one - 1))))
        return vgpu_change_fail(r->error, VGPU_CODE_INVALID, "%s: takes one of gpu, pool and vms",
                                op);
    if (f->some && !(said & f->some))
        return vgpu_change_fail(r->error, VGPU_CODE_INVALID,
                                "%s: takes at least one of memory, sessions and queue", op);
    if (said & VGPU_FIELD_NAME && r->change->vm_count > 1)
        return vgpu_change_fail(r->error, VGPU_CODE_INVALID,
                                "%s: a name is for one VM, and these are %u", op,
                                r->change->vm_count);
    return 0;
}

/* null takes back what the registry says of a VM; nothing else can be null. */
static bool may_be_null(enum vgpu_change_op op, uint32_t bit)
{
    if (bit == VGPU_FIELD_SECONDS)
        return true;
    return (op >= VGPU_CHANGE_SET_POOL && op <= VGPU_CHANGE_SET_NAME && bit & POLICY) ||
           (op == VGPU_CHANGE_REGISTER && bit & POLICY);
}

int vgpu_change_read(struct vgpu_change *change, enum vgpu_change_op op,
                     struct json_object *request, struct vgpu_change_error *error)
{
    struct reader r = {.change = change, .error = error};
    const struct form *f = &forms[op];
    *change = (struct vgpu_change){.op = op, .priority = -1};
    json_object_object_foreach(request, name, value)
    {
        uint32_t bit = field_bit(name);
        if (!strcmp(name, "id") || !strcmp(name, "op"))
            continue;
        r.name = name;
        if (!(bit & (f->all | f->one | f->some | f->may)))
            return vgpu_change_fail(error, VGPU_CODE_INVALID, "%s: there is no field '%.40s'",
                                    vgpu_change_op_name(op), name);
        if (!value && !may_be_null(op, bit))
            return vgpu_change_fail(error, VGPU_CODE_INVALID, "%s: %s cannot be null",
                                    vgpu_change_op_name(op), name);
        if (read_field(&r, bit, value))
            return -EINVAL;
        change->said |= bit;
    }
    return check_form(&r);
}
