/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows in memory; see model.h. */
#include "registry/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/names.h"

/* The first row whose number is not below vm's. */
static uint32_t lower_bound(const struct vgpu_registry_state *s, uint32_t vm)
{
    uint32_t from = 0, to = s->vm_count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (s->vms[middle].vm < vm)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

const struct vgpu_registry_vm *vgpu_registry_find_vm(const struct vgpu_registry_state *s,
                                                     uint32_t vm)
{
    uint32_t i = lower_bound(s, vm);
    return i < s->vm_count && s->vms[i].vm == vm ? &s->vms[i] : NULL;
}

const struct vgpu_registry_gpu *vgpu_registry_find_gpu(const struct vgpu_registry_state *s,
                                                       const char *name)
{
    for (uint32_t i = 0; i < s->gpu_count; i++)
        if (!strcmp(s->gpus[i].name, name))
            return &s->gpus[i];
    return NULL;
}

void vgpu_registry_vm_init(struct vgpu_registry_vm *row, uint32_t vm)
{
    *row = (struct vgpu_registry_vm){.vm = vm, .priority = -1};
}

bool vgpu_registry_vm_says(const struct vgpu_registry_vm *r)
{
    return r->registered || r->name[0] || r->pool || r->priority >= 0 || r->weight || r->rate ||
           r->burst_ms || r->memory || r->sessions || r->queue || r->quarantine.until_ms ||
           r->drain.until_ms;
}

static int make_room(struct vgpu_registry_state *s, uint32_t count)
{
    if (count <= s->vm_room)
        return 0;
    uint32_t room = s->vm_room ? s->vm_room : 64;
    while (room < count)
        room *= 2;
    struct vgpu_registry_vm *vms = realloc(s->vms, room * sizeof(*vms));
    if (!vms)
        return -ENOMEM;
    s->vms = vms;
    s->vm_room = room;
    return 0;
}

int vgpu_registry_reserve(struct vgpu_registry_state *s, const struct vgpu_registry_txn *txn)
{
    uint32_t fresh = 0;
    for (uint32_t i = 0; i < txn->vm_count; i++)
        fresh += !txn->vms[i].drop && !vgpu_registry_find_vm(s, txn->vms[i].row.vm);
    if (fresh && s->vm_count + fresh > VGPU_REGISTRY_VMS_MAX)
        return -ENOSPC;
    if (txn->put_gpu && txn->gpu.drain.until_ms && !vgpu_registry_find_gpu(s, txn->gpu.name) &&
        s->gpu_count == VGPU_REGISTRY_CARDS)
        return -ENOSPC;
    return make_room(s, s->vm_count + fresh);
}

/* There is room. */
static void put_vm(struct vgpu_registry_state *s, const struct vgpu_registry_vm *row)
{
    uint32_t i = lower_bound(s, row->vm);
    if (i == s->vm_count || s->vms[i].vm != row->vm) {
        memmove(&s->vms[i + 1], &s->vms[i], (s->vm_count - i) * sizeof(*s->vms));
        s->vm_count++;
    }
    s->vms[i] = *row;
}

static void drop_vm(struct vgpu_registry_state *s, uint32_t vm)
{
    uint32_t i = lower_bound(s, vm);
    if (i == s->vm_count || s->vms[i].vm != vm)
        return;
    s->vm_count--;
    memmove(&s->vms[i], &s->vms[i + 1], (s->vm_count - i) * sizeof(*s->vms));
}

static void put_gpu(struct vgpu_registry_state *s, const struct vgpu_registry_gpu *row)
{
    uint32_t i = 0;
    while (i < s->gpu_count && strcmp(s->gpus[i].name, row->name) != 0)
        i++;
    if (row->drain.until_ms) {
        s->gpus[i] = *row;
        s->gpu_count += i == s->gpu_count;
    } else if (i < s->gpu_count) {
        s->gpus[i] = s->gpus[--s->gpu_count];
    }
}

void vgpu_registry_apply(struct vgpu_registry_state *s, const struct vgpu_registry_txn *txn)
{
    for (uint32_t i = 0; i < txn->vm_count; i++) {
        if (txn->vms[i].drop)
            drop_vm(s, txn->vms[i].row.vm);
        else
            put_vm(s, &txn->vms[i].row);
    }
    for (uint32_t p = 0; p < VGPU_REGISTRY_POOLS; p++)
        if (txn->put_pool[p])
            s->pools[p] = txn->pools[p];
    if (txn->put_gpu)
        put_gpu(s, &txn->gpu);
}

int vgpu_registry_add_vm(struct vgpu_registry_state *s, const struct vgpu_registry_vm *row)
{
    if (s->vm_count >= VGPU_REGISTRY_VMS_MAX)
        return -ENOSPC;
    int rc = make_room(s, s->vm_count + 1);
    if (!rc)
        put_vm(s, row);
    return rc;
}

void vgpu_registry_state_free(struct vgpu_registry_state *s)
{
    free(s->vms);
    *s = (struct vgpu_registry_state){0};
}

/* --- transactions --- */

/* Room for one more in an array of elements of that size. */
static int grow(void **list, uint32_t count, uint32_t *room, size_t size)
{
    if (count < *room)
        return 0;
    uint32_t wanted = *room ? 2 * *room : 4;
    void *more = realloc(*list, wanted * size);
    if (!more)
        return -ENOMEM;
    *list = more;
    *room = wanted;
    return 0;
}

int vgpu_registry_txn_vm(struct vgpu_registry_txn *txn, const struct vgpu_registry_vm *row)
{
    void *list = txn->vms;
    int rc = grow(&list, txn->vm_count, &txn->vm_room, sizeof(*txn->vms));
    txn->vms = list;
    if (!rc)
        txn->vms[txn->vm_count++] =
            (struct vgpu_registry_put_vm){.drop = !vgpu_registry_vm_says(row), .row = *row};
    return rc;
}

void vgpu_registry_txn_pool(struct vgpu_registry_txn *txn, const struct vgpu_registry_pool *row)
{
    uint32_t p = (uint32_t)(row->pool - 'A');
    txn->put_pool[p] = true;
    txn->pools[p] = *row;
    if (!row->has_gpus && !row->drain.until_ms)
        txn->pools[p].pool = 0;
}

int vgpu_registry_txn_audit(struct vgpu_registry_txn *txn, const struct vgpu_registry_audit *line)
{
    void *list = txn->audit;
    int rc = grow(&list, txn->audit_count, &txn->audit_room, sizeof(*txn->audit));
    txn->audit = list;
    if (!rc)
        txn->audit[txn->audit_count++] = *line;
    return rc;
}

void vgpu_registry_txn_free(struct vgpu_registry_txn *txn)
{
    free(txn->vms);
    free(txn->audit);
    *txn = (struct vgpu_registry_txn){0};
}

/* --- texts --- */

void vgpu_registry_rate_write(char *text, uint32_t rate)
{
    if (rate % 10)
        snprintf(text, 8, "%u.%u%%", rate / 10 % 1000, rate % 10);
    else
        snprintf(text, 8, "%u%%", rate / 10 % 1000);
}

struct writer {
    char *text;
    size_t size, used;
};

static void say(struct writer *w, const char *name, const char *value)
{
    int n = snprintf(w->text + w->used, w->size - w->used, "%s%s=%s", w->used ? " " : "", name,
                     *value ? value : "-");
    w->used += n > 0 ? (size_t)n : 0;
    if (w->used >= w->size)
        w->used = w->size - 1;
}

static void say_number(struct writer *w, const char *name, uint64_t value)
{
    char text[24] = "";
    if (value)
        snprintf(text, sizeof(text), "%" PRIu64, value);
    say(w, name, text);
}

static void say_aside(struct writer *w, const char *name, const struct vgpu_registry_aside *aside)
{
    char text[VGPU_REGISTRY_REASON + 48] = "";
    if (aside->until_ms == VGPU_REGISTRY_FOREVER)
        snprintf(text, sizeof(text), "ever(%s)", aside->reason);
    else if (aside->until_ms)
        snprintf(text, sizeof(text), "%" PRId64 "(%s)", aside->until_ms / 1000, aside->reason);
    say(w, name, text);
}

static bool same_aside(const struct vgpu_registry_aside *a, const struct vgpu_registry_aside *b)
{
    return a->until_ms == b->until_ms && !strcmp(a->reason, b->reason);
}

/* What of `is` is not as in `other`. */
static void write_differing(const struct vgpu_registry_vm *is, const struct vgpu_registry_vm *other,
                            char *text, size_t size)
{
    struct writer w = {.text = text, .size = size};
    char small[8] = "";
    text[0] = 0;
    if (is->registered != other->registered)
        say(&w, "registered", is->registered ? "yes" : "no");
    if (strcmp(is->name, other->name) != 0)
        say(&w, "name", is->name);
    if (is->pool != other->pool) {
        small[0] = is->pool;
        small[1] = 0;
        say(&w, "pool", small);
    }
    if (is->priority != other->priority)
        say(&w, "priority", is->priority < 0 ? "" : vgpu_priority_name((uint32_t)is->priority));
    if (is->weight != other->weight)
        say_number(&w, "weight", is->weight);
    if (is->rate != other->rate) {
        small[0] = 0;
        if (is->rate)
            vgpu_registry_rate_write(small, is->rate);
        say(&w, "rate", small);
    }
    if (is->burst_ms != other->burst_ms)
        say_number(&w, "burst_ms", is->burst_ms);
    if (is->memory != other->memory)
        say_number(&w, "memory", is->memory);
    if (is->sessions != other->sessions)
        say_number(&w, "sessions", is->sessions);
    if (is->queue != other->queue)
        say_number(&w, "queue", is->queue);
    if (!same_aside(&is->quarantine, &other->quarantine))
        say_aside(&w, "quarantine", &is->quarantine);
    if (!same_aside(&is->drain, &other->drain))
        say_aside(&w, "drain", &is->drain);
}

void vgpu_registry_vm_differ(const struct vgpu_registry_vm *before,
                             const struct vgpu_registry_vm *after, char *old_text, char *new_text,
                             size_t size)
{
    write_differing(before, after, old_text, size);
    write_differing(after, before, new_text, size);
}
