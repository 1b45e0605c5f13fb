/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records and what goes into them; see stats.h. */
#include "mediator/stats.h"

#include <stdlib.h>

#include "common/names.h"

struct vgpu_stats *vgpu_stats_create(uint32_t vm_max)
{
    struct vgpu_stats *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->vm_max = vm_max;
    s->nobody.index = UINT32_MAX;
    s->vms = calloc(vm_max ? vm_max : 1, sizeof(struct vgpu_stats_vm *));
    if (!s->vms) {
        free(s);
        return NULL;
    }
    return s;
}

void vgpu_stats_destroy(struct vgpu_stats *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->vm_count; i++)
        free(s->vms[i]);
    free(s->vms);
    free(s);
}

void vgpu_stats_add(uint64_t *counter, uint64_t n)
{
    *counter = n > VGPU_STATS_MAX - *counter ? VGPU_STATS_MAX : *counter + n;
}

/* A place for a new record: a free one, or that of who left longest ago. UINT32_MAX: none. */
static uint32_t find_place(struct vgpu_stats *s)
{
    uint32_t oldest = UINT32_MAX;
    if (s->vm_count < s->vm_max)
        return s->vm_count++;
    for (uint32_t i = 0; i < s->vm_count; i++) {
        const struct vgpu_stats_vm *vm = s->vms[i];
        if (!vm)
            return i;
        if (!vm->users && (oldest == UINT32_MAX || vm->left_ns < s->vms[oldest]->left_ns))
            oldest = i;
    }
    if (oldest != UINT32_MAX) {
        free(s->vms[oldest]);
        s->vms[oldest] = NULL;
        s->forgotten++;
    }
    return oldest;
}

struct vgpu_stats_vm *vgpu_stats_join(struct vgpu_stats *s, uint64_t key)
{
    for (uint32_t i = 0; i < s->vm_count; i++) {
        if (s->vms[i] && s->vms[i]->key == key) {
            s->vms[i]->users++;
            return s->vms[i];
        }
    }
    uint32_t place = find_place(s);
    struct vgpu_stats_vm *vm = place == UINT32_MAX ? NULL : calloc(1, sizeof(*vm));
    if (!vm) {
        s->nobody.users++;
        return &s->nobody;
    }
    vm->key = key;
    vm->index = place;
    vm->users = 1;
    s->vms[place] = vm;
    return vm;
}

void vgpu_stats_leave(struct vgpu_stats_vm *vm, uint64_t now_ns)
{
    vm->users--;
    vm->left_ns = now_ns;
}

/* ---- Leases ---- */

static void meter_start(struct vgpu_stats_meter *m, uint64_t now_ns)
{
    m->leases++;
    m->out++;
    m->starts_ns += now_ns;
}

static void meter_stop(struct vgpu_stats_meter *m, uint64_t start_ns, uint64_t now_ns)
{
    m->out--;
    m->starts_ns -= start_ns;
    m->ended_ns += now_ns - start_ns;
}

uint64_t vgpu_stats_meter_ns(const struct vgpu_stats_meter *m, uint64_t now_ns)
{
    return m->ended_ns + (m->out * now_ns - m->starts_ns);
}

void vgpu_stats_granted(struct vgpu_stats *s, struct vgpu_stats_vm *vm, uint32_t gpu,
                        uint64_t waited_ns, uint64_t now_ns)
{
    if (vm) {
        meter_start(&vm->lease, now_ns);
        vgpu_histogram_add(&vm->wait, waited_ns);
    }
    if (!s || gpu >= VGPU_STATS_GPUS)
        return;
    struct vgpu_stats_gpu *g = &s->gpus[gpu];
    if (!g->lease.out)
        g->leased_since_ns = now_ns;
    meter_start(&g->lease, now_ns);
}

void vgpu_stats_returned(struct vgpu_stats *s, struct vgpu_stats_vm *vm, uint32_t gpu,
                         uint64_t start_ns, uint64_t now_ns)
{
    if (vm)
        meter_stop(&vm->lease, start_ns, now_ns);
    if (!s || gpu >= VGPU_STATS_GPUS)
        return;
    struct vgpu_stats_gpu *g = &s->gpus[gpu];
    meter_stop(&g->lease, start_ns, now_ns);
    if (!g->lease.out)
        g->leased_ns += now_ns - g->leased_since_ns;
}

uint64_t vgpu_stats_leased_ns(const struct vgpu_stats_gpu *g, uint64_t now_ns)
{
    return g->leased_ns + (g->lease.out ? now_ns - g->leased_since_ns : 0);
}

/* ---- What workers say ---- */

/* Of a counter that another process can write: read once, taken as far as it is higher than ever
 * before. */
static void take(uint64_t *total, uint64_t *seen, uint64_t now)
{
    if (now <= *seen)
        return;
    vgpu_stats_add(total, now - *seen);
    *seen = now;
}

static uint64_t read_once(const uint64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static void count_errors(struct vgpu_stats_vm *vm, uint32_t status, uint64_t count)
{
    struct vgpu_stats_error *e = vm->errors;
    while (e < vm->errors + vm->error_count && e->status != status)
        e++;
    if (e == vm->errors + vm->error_count) {
        /* What has no name could be any number: a worker cannot make up as many as it likes. */
        if (vm->error_count == VGPU_USAGE_ERRORS || !vgpu_curesult_is_known(status)) {
            vgpu_stats_add(&vm->errors_other, count);
            return;
        }
        vm->error_count++;
        e->status = status;
    }
    vgpu_stats_add(&e->count, count);
}

static void take_error(struct vgpu_stats_vm *vm, struct vgpu_usage_error *seen,
                       const struct vgpu_usage_error *now)
{
    uint64_t count = __atomic_load_n(&now->count, __ATOMIC_ACQUIRE), added = 0;
    uint32_t status = __atomic_load_n(&now->status, __ATOMIC_RELAXED);
    take(&added, &seen->count, count);
    if (added)
        count_errors(vm, status, added);
}

/* Whoever lied about its time before only has less to lie about later: no more is counted than
 * there were leases for. */
static void take_busy(struct vgpu_stats *s, struct vgpu_stats_vm *vm, uint32_t gpu,
                      struct vgpu_usage *seen, const struct vgpu_usage *usage, uint64_t now_ns)
{
    uint64_t busy = __atomic_load_n(&usage->busy_ns, __ATOMIC_ACQUIRE);
    uint64_t since = __atomic_load_n(&usage->busy_since_ns, __ATOMIC_ACQUIRE);
    busy = busy < VGPU_STATS_MAX ? busy : VGPU_STATS_MAX;
    if (since && since < now_ns)
        vgpu_stats_add(&busy, now_ns - since);
    take(&vm->said_busy_ns, &seen->busy_ns, busy);
    uint64_t most = vgpu_stats_meter_ns(&vm->lease, now_ns);
    if (most > vm->said_busy_ns)
        most = vm->said_busy_ns;
    if (most <= vm->busy_ns)
        return;
    if (gpu < VGPU_STATS_GPUS)
        vgpu_stats_add(&s->gpus[gpu].busy_ns, most - vm->busy_ns);
    vm->busy_ns = most;
}

void vgpu_stats_take(struct vgpu_stats *s, struct vgpu_stats_vm *vm, uint32_t gpu,
                     struct vgpu_stats_seen *of, const struct vgpu_usage *usage, uint64_t now_ns)
{
    struct vgpu_usage *seen = &of->usage;
    take(&vm->records, &seen->records, read_once(&usage->records));
    take(&vm->calls, &seen->calls, read_once(&usage->calls));
    take(&vm->launches, &seen->launches, read_once(&usage->launches));
    take(&vm->posts, &seen->posts, read_once(&usage->posts));
    take(&vm->bytes_to_device, &seen->bytes_to_device, read_once(&usage->bytes_to_device));
    take(&vm->bytes_from_device, &seen->bytes_from_device, read_once(&usage->bytes_from_device));
    take(&vm->call.sum_ns, &seen->sampled_ns, read_once(&usage->sampled_ns));
    for (unsigned i = 0; i < VGPU_HISTOGRAM_BUCKETS; i++)
        take(&vm->call.counts[i], &seen->call_time[i], read_once(&usage->call_time[i]));
    for (unsigned i = 0; i < VGPU_USAGE_ERRORS; i++)
        take_error(vm, &seen->errors[i], &usage->errors[i]);
    take(&vm->errors_other, &seen->errors_other, read_once(&usage->errors_other));
    take_busy(s, vm, gpu, seen, usage, now_ns);
}
