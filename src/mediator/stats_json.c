/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records as JSON; see stats_json.h. Numbers are integers up to 2^63 - 1, times are ns. */
#include "mediator/stats_json.h"

#include "common/names.h"
#include "common/text.h"

static void put(struct vgpu_text *t, const char *name, uint64_t value)
{
    vgpu_text_printf(t, ",\"%s\":%llu", name,
                     (unsigned long long)(value < VGPU_STATS_MAX ? value : VGPU_STATS_MAX));
}

static void put_text(struct vgpu_text *t, const char *name, const char *value)
{
    vgpu_text_printf(t, ",\"%s\":", name);
    vgpu_text_json(t, value);
}

/* Buckets behind the last one that is not 0 are left out. */
static void put_histogram(struct vgpu_text *t, const char *name, const struct vgpu_histogram *h)
{
    unsigned count = VGPU_HISTOGRAM_BUCKETS;
    while (count && !h->counts[count - 1])
        count--;
    vgpu_text_printf(t, ",\"%s\":{\"sum_ns\":%llu,\"counts\":[", name,
                     (unsigned long long)h->sum_ns);
    for (unsigned i = 0; i < count; i++)
        vgpu_text_printf(t, "%s%llu", i ? "," : "", (unsigned long long)h->counts[i]);
    vgpu_text_printf(t, "]}");
}

static void put_errors(struct vgpu_text *t, const struct vgpu_stats_vm *vm)
{
    vgpu_text_printf(t, ",\"errors\":{\"other\":%llu", (unsigned long long)vm->errors_other);
    for (uint32_t i = 0; i < vm->error_count; i++)
        vgpu_text_printf(t, ",\"%s\":%llu", vgpu_curesult_name(vm->errors[i].status),
                         (unsigned long long)vm->errors[i].count);
    vgpu_text_printf(t, "}");
}

static void put_vm(struct vgpu_text *t, const struct vgpu_stats_vm *vm,
                   const struct vgpu_stats_vm_now *now, uint64_t now_ns)
{
    char pool[2] = {vm->pool, 0};
    vgpu_text_printf(t, "{\"%s\":%u,\"pool\":\"%s\",\"gpu\":%u,\"priority\":\"%s\"",
                     vm->local ? "uid" : "vm", vm->number, pool, vm->gpu,
                     vgpu_priority_name(vm->priority));
    put(t, "attached", now->attached);
    put(t, "clients", now->clients);
    put(t, "waiting", now->waiting);
    put(t, "holding", now->holding);
    put(t, "sessions", now->sessions);
    put(t, "workers", now->workers);
    put(t, "memory_used", now->memory_used);
    put(t, "memory_quota", now->memory_quota);
    put(t, "mailbox_pending", now->mailbox);
    put(t, "jobs", now->jobs);
    put(t, "pending", now->pending);
    put(t, "lease_ns", vgpu_stats_meter_ns(&vm->lease, now_ns));
    put(t, "busy_ns", vm->busy_ns);
    put(t, "leases", vm->lease.leases);
    put(t, "recalls", vm->recalls);
    put(t, "throttles", vm->throttles + now->throttles);
    put(t, "watchdog_kills", vm->watchdog_kills);
    put(t, "faults", vm->faults);
    put(t, "attaches", vm->attaches);
    put(t, "sessions_opened", vm->sessions);
    put(t, "workers_started", vm->workers);
    put(t, "requests", vm->requests);
    put(t, "request_errors", vm->request_errors);
    put(t, "cancels", vm->cancels);
    put(t, "request_bytes", vm->request_bytes);
    put(t, "response_bytes", vm->response_bytes);
    put(t, "records", vm->records);
    put(t, "calls", vm->calls);
    put(t, "launches", vm->launches);
    put(t, "posts", vm->posts);
    put(t, "bytes_to_device", vm->bytes_to_device);
    put(t, "bytes_from_device", vm->bytes_from_device);
    put_errors(t, vm);
    put_histogram(t, "wait", &vm->wait);
    put_histogram(t, "mailbox", &vm->mailbox);
    put_histogram(t, "call", &vm->call);
    vgpu_text_printf(t, "}");
}

static void put_gpu(struct vgpu_text *t, uint32_t index, const struct vgpu_stats_gpu *gpu,
                    const struct vgpu_stats_gpu_now *now, uint64_t now_ns)
{
    char pool[2] = {now->pool, 0};
    vgpu_text_printf(t, "{\"gpu\":%u", index);
    put_text(t, "name", now->name);
    put_text(t, "backend", now->backend);
    put_text(t, "pool", pool);
    put(t, "vms", now->vms);
    put(t, "workers", now->workers);
    put(t, "holders", gpu->lease.out);
    put(t, "memory", now->memory_bytes);
    put(t, "memory_used", now->memory_used);
    put(t, "contexts", now->contexts);
    put(t, "leases", gpu->lease.leases);
    put(t, "lease_ns", vgpu_stats_meter_ns(&gpu->lease, now_ns));
    put(t, "leased_ns", vgpu_stats_leased_ns(gpu, now_ns));
    put(t, "busy_ns", gpu->busy_ns);
    put(t, "watchdog_kills", gpu->watchdog_kills);
    vgpu_text_printf(t, "}");
}

static void put_mediator(struct vgpu_text *t, const struct vgpu_stats *s,
                         const struct vgpu_stats_now *now)
{
    vgpu_text_printf(t, ",\"mediator\":{\"start_time\":%.3f", now->start_time_s);
    put_text(t, "version", now->version);
    put(t, "pid", now->pid);
    put(t, "links", now->links);
    put(t, "vms", now->vms);
    put(t, "workers", now->workers);
    put(t, "attaches", s->links);
    put(t, "refusals", s->refusals);
    put(t, "violations", s->violations);
    put(t, "workers_started", s->workers);
    put(t, "faults", s->faults);
    put(t, "watchdog_kills", s->watchdog_kills);
    put(t, "records_forgotten", s->forgotten);
    put(t, "log_dropped", now->log_dropped);
    vgpu_text_printf(t, "}");
}

char *vgpu_stats_json(const struct vgpu_stats *s, const struct vgpu_stats_now *now, uint32_t after)
{
    struct vgpu_text t = {0};
    uint32_t end = s->vm_count;
    bool any = false;
    if (after < s->vm_count && s->vm_count - after > VGPU_STATS_PAGE)
        end = after + VGPU_STATS_PAGE;
    vgpu_text_printf(&t, "{\"vms\":[");
    for (uint32_t i = after; i < end; i++) {
        if (!s->vms[i])
            continue;
        if (any)
            vgpu_text_append(&t, ",", 1);
        any = true;
        put_vm(&t, s->vms[i], &now->vms_now[i - after], now->now_ns);
    }
    vgpu_text_printf(&t, "]");
    if (end < s->vm_count) {
        vgpu_text_printf(&t, ",\"next\":%u}", end);
        return vgpu_text_take(&t);
    }
    /* Last, so that what workers say of all VMs is in it. */
    vgpu_text_printf(&t, ",\"gpus\":[");
    for (uint32_t i = 0; i < now->gpu_count; i++) {
        if (i)
            vgpu_text_append(&t, ",", 1);
        put_gpu(&t, i, &s->gpus[i], &now->gpus[i], now->now_ns);
    }
    vgpu_text_printf(&t, "]");
    put_mediator(&t, s, now);
    vgpu_text_printf(&t, ",\"next\":null}");
    return vgpu_text_take(&t);
}
