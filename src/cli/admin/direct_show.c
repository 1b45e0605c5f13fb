/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows of the registry as JSON; see direct_show.h. */
#include "cli/admin/direct_show.h"

#include "common/names.h"

static void add(struct json_object *o, const char *name, struct json_object *value)
{
    json_object_object_add(o, name, value);
}

/* 0 is what the registry does not say. */
static struct json_object *number(uint64_t n)
{
    return n ? json_object_new_int64((int64_t)n) : NULL;
}

static struct json_object *letter(char pool)
{
    char text[2] = {pool, 0};
    return pool ? json_object_new_string(text) : NULL;
}

static bool is_aside(const struct vgpu_registry_aside *aside, int64_t now_ms)
{
    return aside->until_ms > now_ms;
}

static struct json_object *until(const struct vgpu_registry_aside *aside)
{
    return aside->until_ms == VGPU_REGISTRY_FOREVER
               ? NULL
               : json_object_new_double((double)aside->until_ms / 1000);
}

static struct json_object *vm_object(const struct vgpu_registry_vm *row, int64_t now_ms)
{
    struct json_object *o = json_object_new_object();
    if (!o)
        return NULL;
    bool quarantined = is_aside(&row->quarantine, now_ms);
    const struct vgpu_registry_aside *aside = quarantined                     ? &row->quarantine
                                              : is_aside(&row->drain, now_ms) ? &row->drain
                                                                              : NULL;
    char rate[8] = "";
    if (row->rate)
        vgpu_registry_rate_write(rate, row->rate);
    add(o, "vm", json_object_new_int64(row->vm));
    add(o, "name", json_object_new_string(row->name));
    add(o, "registered", json_object_new_boolean(row->registered));
    add(o, "pool", letter(row->pool));
    add(o, "priority",
        row->priority < 0 ? NULL
                          : json_object_new_string(vgpu_priority_name((uint32_t)row->priority)));
    add(o, "weight", number(row->weight));
    add(o, "rate", row->rate ? json_object_new_string(rate) : NULL);
    add(o, "burst_ms", number(row->burst_ms));
    add(o, "memory", number(row->memory));
    add(o, "sessions", number(row->sessions));
    add(o, "queue", number(row->queue));
    add(o, "state",
        json_object_new_string(quarantined ? "quarantined"
                               : aside     ? "draining"
                                           : "detached"));
    add(o, "attached", json_object_new_boolean(false));
    add(o, "reason", json_object_new_string(aside ? aside->reason : ""));
    add(o, "until", aside ? until(aside) : NULL);
    add(o, "gpu", NULL);
    return o;
}

/* {name: array}; takes the array. */
static struct json_object *wrap(const char *name, struct json_object *value)
{
    struct json_object *result = value ? json_object_new_object() : NULL;
    if (result)
        add(result, name, value);
    else
        json_object_put(value);
    return result;
}

struct json_object *direct_vms(const struct vgpu_registry_state *state, const uint32_t *vms,
                               uint32_t count, int64_t now_ms)
{
    struct json_object *array = json_object_new_array();
    for (uint32_t i = 0; array && !vms && i < state->vm_count; i++)
        json_object_array_add(array, vm_object(&state->vms[i], now_ms));
    for (uint32_t i = 0; array && vms && i < count; i++) {
        struct vgpu_registry_vm none;
        const struct vgpu_registry_vm *row = vgpu_registry_find_vm(state, vms[i]);
        if (!row) { /* nothing of it is worth a row any more */
            vgpu_registry_vm_init(&none, vms[i]);
            row = &none;
        }
        json_object_array_add(array, vm_object(row, now_ms));
    }
    return wrap("vms", array);
}

struct json_object *direct_vm(const struct vgpu_registry_state *state, uint32_t vm, int64_t now_ms)
{
    const struct vgpu_registry_vm *row = vgpu_registry_find_vm(state, vm);
    return row ? wrap("vm", vm_object(row, now_ms)) : NULL;
}

struct json_object *direct_pools(const struct vgpu_registry_state *state, int64_t now_ms)
{
    struct json_object *array = json_object_new_array();
    for (uint32_t i = 0; array && i < VGPU_REGISTRY_POOLS; i++) {
        const struct vgpu_registry_pool *pool = &state->pools[i];
        struct json_object *o = pool->pool ? json_object_new_object() : NULL;
        if (!o)
            continue;
        struct json_object *gpus = json_object_new_array();
        for (uint32_t g = 0; gpus && g < pool->gpu_count; g++)
            json_object_array_add(gpus, json_object_new_string(pool->gpus[g]));
        add(o, "pool", letter(pool->pool));
        add(o, "gpus", gpus); /* names: numbers are a mediator's */
        add(o, "source", json_object_new_string(pool->has_gpus ? "registry" : "file"));
        add(o, "draining", json_object_new_boolean(is_aside(&pool->drain, now_ms)));
        add(o, "until", is_aside(&pool->drain, now_ms) ? until(&pool->drain) : NULL);
        json_object_array_add(array, o);
    }
    return wrap("pools", array);
}

struct json_object *direct_audit(const struct vgpu_registry_audit *lines, uint32_t count)
{
    struct json_object *array = json_object_new_array();
    for (uint32_t i = 0; array && i < count; i++) {
        const struct vgpu_registry_audit *line = &lines[i];
        struct json_object *o = json_object_new_object();
        if (!o)
            break;
        add(o, "seq", json_object_new_int64((int64_t)line->seq));
        add(o, "time", json_object_new_double((double)line->time_ms / 1000));
        add(o, "uid", line->uid < 0 ? NULL : json_object_new_int64(line->uid));
        add(o, "pid", line->pid < 0 ? NULL : json_object_new_int64(line->pid));
        add(o, "op", json_object_new_string(line->op));
        add(o, "target", json_object_new_string(line->target));
        add(o, "old", json_object_new_string(line->before));
        add(o, "new", json_object_new_string(line->after));
        json_object_array_add(array, o);
    }
    return wrap("audit", array);
}

struct json_object *direct_removed(const uint32_t *vms, uint32_t count)
{
    struct json_object *array = json_object_new_array();
    for (uint32_t i = 0; array && i < count; i++)
        json_object_array_add(array, json_object_new_int64(vms[i]));
    return wrap("removed", array);
}
