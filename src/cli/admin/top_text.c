/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A look at the mediator as text: the same lines for the screen, for pipes and for scripts. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "cli/admin/top.h"

/* "61.3%", or "-" when it is not known. */
static const char *percent(char out[16], double share)
{
    if (share < 0)
        snprintf(out, 16, "-");
    else
        snprintf(out, 16, "%.1f%%", share < 99.99 ? share * 100 : 9999.0);
    return out;
}

static const char *per_second(char out[16], double rate)
{
    if (rate < 0)
        snprintf(out, 16, "-");
    else if (rate < 10)
        snprintf(out, 16, "%.1f", rate);
    else if (rate < 10000)
        snprintf(out, 16, "%.0f", rate);
    else if (rate < 1e6)
        snprintf(out, 16, "%.0fk", rate / 1e3);
    else
        snprintf(out, 16, "%.1fM", rate < 1e12 ? rate / 1e6 : 999999.0);
    return out;
}

void top_write_head(const struct top_frame *frame, const struct top_view *view, FILE *out)
{
    char clock[32], span[32];
    admin_time(clock, (double)time(NULL));
    fprintf(out,
            "vgpu-admin top  %s  mediator %s up %s  %" PRId64 " VMs attached, %" PRId64
            " registered, %" PRId64 " quarantined, %" PRId64 " draining  %" PRId64 " workers\n",
            clock + 11 * (strlen(clock) > 11), frame->version, admin_span(span, frame->uptime_s),
            frame->attached, frame->registered, frame->quarantined, frame->draining,
            frame->workers);
    fprintf(out, "every %g s, by %s%s%s%s%s%s\n", (double)view->interval_ms / 1000,
            top_sort_word(view->sort), view->reverse ? ", the other way round" : "",
            *view->filter ? ", only '" : "", view->filter, *view->filter ? "'" : "",
            view->paused ? ", PAUSED" : "");
}

void top_write_gpu(const struct top_gpu *gpu, FILE *out, unsigned width)
{
    char left[96], right[160], load[16], used[16], size[16];
    snprintf(left, sizeof(left), "GPU %-2" PRId64 " %-1s %-12.40s ", gpu->gpu, gpu->pool,
             gpu->name);
    int at = snprintf(right, sizeof(right), " %6s  memory %s", percent(load, gpu->load),
                      admin_size(used, (uint64_t)gpu->memory_used));
    if (gpu->memory > 0)
        at += snprintf(right + at, sizeof(right) - (size_t)at, " of %s",
                       admin_size(size, (uint64_t)gpu->memory));
    at += snprintf(right + at, sizeof(right) - (size_t)at, "  VMs %" PRId64, gpu->vms);
    if (!gpu->usable || strcmp(gpu->state, "ok") != 0)
        snprintf(right + at, sizeof(right) - (size_t)at, "  %s",
                 gpu->usable ? gpu->state : "cannot be used");
    else if (*gpu->holders)
        snprintf(right + at, sizeof(right) - (size_t)at, "  held by %s", gpu->holders);
    size_t rest = admin_width(left) + 32 + 2; /* room for the right side, so that bars are alike */
    unsigned bar = !width              ? 20
                   : width > rest + 50 ? 40
                   : width > rest + 10 ? width - (unsigned)rest
                                       : 0;
    fputs(left, out);
    if (bar) {
        unsigned full = gpu->load > 0 ? (unsigned)(gpu->load * bar + 0.5) : 0;
        fputc('[', out);
        for (unsigned i = 0; i < bar; i++)
            fputc(i < full ? '|' : ' ', out);
        fputc(']', out);
    }
    fprintf(out, "%s\n", right);
}

void top_write_vms(const struct top_vm *const *vms, size_t count, FILE *out, unsigned width)
{
    static const struct admin_column columns[] = {
        {.title = "VM", .right = true, .wide = 3},
        {.title = "NAME", .least = 10, .drop = 4},
        {.title = "POOL", .drop = 8},
        {.title = "GPU", .right = true, .drop = 7},
        {.title = "PRIORITY", .drop = 3},
        {.title = "WEIGHT", .right = true, .drop = 6},
        {.title = "RATE", .right = true, .drop = 5, .wide = 5},
        {.title = "SHARE", .right = true, .wide = 6},
        {.title = "WAIT", .right = true, .drop = 1, .wide = 6},
        {.title = "QUEUE", .right = true, .drop = 10},
        {.title = "MEMORY", .right = true, .wide = 6},
        {.title = "QUOTA", .right = true, .drop = 9, .wide = 5},
        {.title = "LAUNCH/S", .right = true, .drop = 2},
        {.title = "ERR/S", .right = true, .drop = 11},
        {.title = "STATE", .wide = 9},
    };
    struct admin_table *t = admin_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; i < count; i++) {
        const struct top_vm *v = vms[i];
        char text[16];
        admin_table_printf(t, "%" PRId64, v->vm);
        admin_table_add(t, v->name);
        admin_table_add(t, v->pool);
        admin_table_printf(t, v->gpu < 0 ? "-" : "%" PRId64, v->gpu);
        admin_table_add(t, v->priority);
        admin_table_printf(t, "%" PRId64, v->weight);
        admin_table_add(t, v->rate);
        admin_table_add(t, percent(text, v->share));
        admin_table_add(t, v->has_wait ? percent(text, v->wait_share) : v->waiting ? "yes" : "");
        admin_table_printf(t, v->queue < 0 ? "-" : "%" PRId64, v->queue);
        admin_table_add(t, admin_size(text, (uint64_t)v->memory_used));
        admin_table_add(t, admin_size(text, (uint64_t)v->memory));
        admin_table_add(t, per_second(text, v->launch_rate));
        admin_table_add(t, per_second(text, v->error_rate));
        admin_table_printf(t, "%s%s", v->state, v->holding ? " *" : "");
    }
    admin_table_print(t, out, width);
    admin_table_free(t);
}

static struct json_object *real(double value)
{
    return value < 0 ? NULL : json_object_new_double(value);
}

static void add(struct json_object *o, const char *name, struct json_object *value)
{
    json_object_object_add(o, name, value);
}

static struct json_object *vm_object(const struct top_vm *v)
{
    struct json_object *o = json_object_new_object();
    if (!o)
        return NULL;
    add(o, "vm", json_object_new_int64(v->vm));
    add(o, "name", json_object_new_string(v->name));
    add(o, "pool", json_object_new_string(v->pool));
    add(o, "gpu", v->gpu < 0 ? NULL : json_object_new_int64(v->gpu));
    add(o, "priority", json_object_new_string(v->priority));
    add(o, "weight", json_object_new_int64(v->weight));
    add(o, "state", json_object_new_string(v->state));
    add(o, "share", real(v->share));
    add(o, "wait_share", v->has_wait ? real(v->wait_share) : NULL);
    add(o, "waiting", json_object_new_boolean(v->waiting));
    add(o, "holding", json_object_new_boolean(v->holding));
    add(o, "queue", v->queue < 0 ? NULL : json_object_new_int64(v->queue));
    add(o, "memory_used", json_object_new_int64(v->memory_used));
    add(o, "memory", json_object_new_int64(v->memory));
    add(o, "launches_per_s", real(v->launch_rate));
    add(o, "errors_per_s", real(v->error_rate));
    return o;
}

void top_write_json(const struct top_frame *frame, const struct top_vm *const *vms, size_t count,
                    FILE *out)
{
    struct json_object *o = json_object_new_object(), *gpu_array = json_object_new_array(),
                       *vm_array = json_object_new_array();
    if (!o || !gpu_array || !vm_array) {
        json_object_put(o);
        json_object_put(gpu_array);
        json_object_put(vm_array);
        return;
    }
    for (size_t i = 0; i < frame->gpu_count; i++) {
        const struct top_gpu *g = &frame->gpus[i];
        struct json_object *gpu = json_object_new_object();
        if (!gpu)
            continue;
        add(gpu, "gpu", json_object_new_int64(g->gpu));
        add(gpu, "name", json_object_new_string(g->name));
        add(gpu, "pool", json_object_new_string(g->pool));
        add(gpu, "load", real(g->load));
        add(gpu, "vms", json_object_new_int64(g->vms));
        add(gpu, "memory_used", json_object_new_int64(g->memory_used));
        json_object_array_add(gpu_array, gpu);
    }
    for (size_t i = 0; i < count; i++)
        json_object_array_add(vm_array, vm_object(vms[i]));
    add(o, "time", json_object_new_int64((int64_t)time(NULL)));
    add(o, "interval_s", json_object_new_double(frame->interval_s));
    add(o, "gpus", gpu_array);
    add(o, "vms", vm_array);
    admin_json_print(o, out);
    json_object_put(o);
}
