/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What two looks at the mediator say: rates from counters, loads of GPUs, order and choice. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>

#include "cli/admin/top.h"

/* The words of --sort and of the head; by number. */
static const char *const sort_words[TOP_SORT_COUNT] = {
    "vm", "name", "share", "wait", "queue", "memory", "launches", "errors",
};

enum top_sort top_sort_find(const char *word)
{
    int i = 0;
    while (i < TOP_SORT_COUNT && strcmp(word, sort_words[i]) != 0)
        i++;
    return (enum top_sort)i;
}

const char *top_sort_word(enum top_sort sort)
{
    return sort_words[sort];
}

static void copy_text(char *out, size_t size, struct json_object *o, const char *name,
                      const char *otherwise)
{
    admin_clean(out, size, admin_text(o, name, otherwise));
}

static int compare_number(const void *a, const void *b)
{
    const struct top_vm *x = a, *y = b;
    return (x->vm > y->vm) - (x->vm < y->vm);
}

static const struct top_vm *find_vm(const struct top_frame *frame, int64_t vm)
{
    struct top_vm key = {.vm = vm};
    return frame->vm_count ? bsearch(&key, frame->vms, frame->vm_count, sizeof(key), compare_number)
                           : NULL;
}

/* A counter's growth a second; it starts again when the VM attaches again. */
static double rate(double now, double before, double seconds)
{
    return seconds > 0 && now >= before ? (now - before) / seconds : TOP_UNKNOWN;
}

static void read_vm(struct top_vm *v, struct json_object *o)
{
    memset(v, 0, sizeof(*v));
    v->vm = admin_number(o, "vm", -1);
    v->gpu = admin_number(o, "gpu", -1);
    copy_text(v->name, sizeof(v->name), o, "name", "");
    copy_text(v->pool, sizeof(v->pool), o, "pool", "-");
    copy_text(v->priority, sizeof(v->priority), o, "priority", "-");
    copy_text(v->rate, sizeof(v->rate), o, "rate", "-");
    copy_text(v->state, sizeof(v->state), o, "state", "?");
    v->weight = admin_number(o, "weight", 0);
    v->memory_used = admin_number(o, "memory_used", 0);
    v->memory = admin_number(o, "memory", 0);
    v->queue = -1;
    v->queue_limit = admin_number(o, "queue", 0);
    v->programs = admin_number(o, "open_sessions", 0);
    v->attached = admin_flag(o, "attached");
    v->waiting = admin_flag(o, "waiting");
    v->holding = admin_flag(o, "holding");
    v->lease_ms = admin_real(o, "lease_ms", 0);
    v->errors = admin_real(o, "errors", 0);
    v->share = v->wait_share = v->launch_rate = v->error_rate = TOP_UNKNOWN;
}

static void set_rates(struct top_vm *v, const struct top_vm *old, double seconds)
{
    if (!v->attached || v->from_stats != old->from_stats)
        return; /* nothing goes on, or the same word stands for something else */
    v->share = rate(v->lease_ms, old->lease_ms, seconds * 1000);
    if (v->has_launches)
        v->launch_rate = rate(v->launches, old->launches, seconds);
    v->error_rate = rate(v->errors, old->errors, seconds);
    if (v->has_wait && old->has_wait)
        v->wait_share = rate(v->wait_ms, old->wait_ms, seconds * 1000);
}

static void read_gpu(struct top_gpu *g, struct json_object *o)
{
    memset(g, 0, sizeof(*g));
    g->gpu = admin_number(o, "gpu", -1);
    copy_text(g->name, sizeof(g->name), o, "name", "?");
    copy_text(g->pool, sizeof(g->pool), o, "pool", "-");
    copy_text(g->model, sizeof(g->model), o, "model", "");
    copy_text(g->state, sizeof(g->state), o, "state", "?");
    g->vms = admin_number(o, "vms", 0);
    g->workers = admin_number(o, "workers", 0);
    g->memory = admin_number(o, "memory", 0);
    g->usable = admin_flag(o, "usable");
    struct json_object *holders = admin_array(o, "holders");
    size_t at = 0;
    for (size_t i = 0; holders && i < json_object_array_length(holders) && at < 36; i++)
        at += (size_t)snprintf(
            g->holders + at, sizeof(g->holders) - at, "%s%lld", i ? " " : "",
            (long long)json_object_get_int64(json_object_array_get_idx(holders, i)));
}

/* How many local clients are that user's: its statistics are all of theirs together. */
static size_t clients_of(struct json_object *vms, int64_t uid)
{
    size_t count = 0;
    for (size_t i = 0; vms && i < json_object_array_length(vms); i++) {
        struct json_object *o = json_object_array_get_idx(vms, i);
        count += admin_flag(o, "local") && admin_number(o, "uid", -1) == uid;
    }
    return count;
}

/* The statistics by whom they are of. */
struct record {
    bool user;
    int64_t number;
    struct json_object *object;
};

static int compare_record(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    if (x->user != y->user)
        return x->user - y->user;
    return (x->number > y->number) - (x->number < y->number);
}

/* An array of *count, sorted; NULL: none, or no memory. */
static struct record *index_records(struct json_object *records, size_t *count)
{
    *count = records ? json_object_array_length(records) : 0;
    struct record *index = *count ? calloc(*count, sizeof(*index)) : NULL;
    if (!index) {
        *count = 0;
        return NULL;
    }
    for (size_t i = 0; i < *count; i++) {
        struct json_object *o = json_object_array_get_idx(records, i);
        bool user = admin_has(o, "uid");
        index[i] = (struct record){user, admin_number(o, user ? "uid" : "vm", -1), o};
    }
    qsort(index, *count, sizeof(*index), compare_record);
    return index;
}

/* The VM's record in the statistics, or NULL. */
static struct json_object *find_record(const struct record *index, size_t count,
                                       struct json_object *vms, struct json_object *vm)
{
    bool local = admin_flag(vm, "local");
    struct record key = {local, admin_number(vm, local ? "uid" : "vm", -1), NULL};
    if (!count || (local && clients_of(vms, key.number) != 1))
        return NULL;
    const struct record *found = bsearch(&key, index, count, sizeof(key), compare_record);
    return found ? found->object : NULL;
}

/* What only the statistics know, and what they know to the nanosecond. */
static void read_record(struct top_vm *v, struct json_object *record)
{
    struct json_object *wait = admin_object(record, "wait");
    v->launches = admin_real(record, "launches", 0);
    v->lease_ms = admin_real(record, "lease_ns", v->lease_ms * 1e6) / 1e6;
    v->queue = admin_number(record, "pending", 0) + admin_number(record, "jobs", 0);
    v->has_launches = v->from_stats = true;
    v->has_wait = wait != NULL;
    v->wait_ms = admin_real(wait, "sum_ns", 0) / 1e6;
}

static void sum_gpus(struct top_frame *frame)
{
    for (size_t g = 0; g < frame->gpu_count; g++) {
        struct top_gpu *gpu = &frame->gpus[g];
        gpu->load = frame->interval_s > 0 ? 0 : TOP_UNKNOWN;
        for (size_t i = 0; i < frame->vm_count; i++) {
            const struct top_vm *v = &frame->vms[i];
            if (v->gpu != gpu->gpu)
                continue;
            gpu->memory_used += v->memory_used;
            if (v->share > 0 && gpu->load >= 0)
                gpu->load += v->share;
        }
    }
}

bool top_frame_make(struct top_frame *frame, const struct top_answers *answers, uint64_t at_ns,
                    const struct top_frame *before)
{
    struct json_object *vms = admin_array(answers->vms, "vms");
    struct json_object *gpus = admin_array(answers->gpus, "gpus");
    struct json_object *counts = admin_object(answers->status, "vms");
    memset(frame, 0, sizeof(*frame));
    frame->at_ns = at_ns;
    frame->pid = admin_number(answers->status, "pid", 0);
    frame->workers = admin_number(answers->status, "workers", 0);
    frame->attached = admin_number(counts, "attached", 0);
    frame->registered = admin_number(counts, "registered", 0);
    frame->quarantined = admin_number(counts, "quarantined", 0);
    frame->draining = admin_number(counts, "draining", 0);
    frame->uptime_s = admin_real(answers->status, "uptime_s", 0);
    copy_text(frame->version, sizeof(frame->version), answers->status, "version", "?");
    /* Another mediator counts from 0. The time is the mediator's, whose counters these are: between
     * a question and its answer may lie anything. */
    if (before->at_ns && before->pid == frame->pid && at_ns > before->at_ns) {
        frame->interval_s = frame->uptime_s - before->uptime_s;
        if (!(frame->interval_s > 0))
            frame->interval_s = (double)(at_ns - before->at_ns) / 1e9;
    }

    size_t vm_count = vms ? json_object_array_length(vms) : 0;
    size_t gpu_count = gpus ? json_object_array_length(gpus) : 0;
    frame->vms = calloc(vm_count + 1, sizeof(*frame->vms));
    frame->gpus = calloc(gpu_count + 1, sizeof(*frame->gpus));
    if (!frame->vms || !frame->gpus) {
        top_frame_free(frame);
        return false;
    }
    frame->vm_count = vm_count;
    frame->gpu_count = gpu_count;
    size_t record_count;
    struct record *index = index_records(answers->records, &record_count);
    for (size_t i = 0; i < vm_count; i++) {
        struct json_object *vm = json_object_array_get_idx(vms, i);
        struct json_object *record = find_record(index, record_count, vms, vm);
        read_vm(&frame->vms[i], vm);
        if (record)
            read_record(&frame->vms[i], record);
    }
    free(index);
    qsort(frame->vms, vm_count, sizeof(*frame->vms), compare_number);
    for (size_t i = 0; i < vm_count && frame->interval_s > 0; i++) {
        const struct top_vm *old = find_vm(before, frame->vms[i].vm);
        if (old)
            set_rates(&frame->vms[i], old, frame->interval_s);
    }
    for (size_t i = 0; i < gpu_count; i++)
        read_gpu(&frame->gpus[i], json_object_array_get_idx(gpus, i));
    sum_gpus(frame);
    return true;
}

void top_frame_free(struct top_frame *frame)
{
    free(frame->vms);
    free(frame->gpus);
    memset(frame, 0, sizeof(*frame));
}

static bool passes(const struct top_vm *v, const char *filter)
{
    char number[24];
    snprintf(number, sizeof(number), "%lld", (long long)v->vm);
    return !*filter || strstr(number, filter) || strcasestr(v->name, filter) ||
           strcasestr(v->pool, filter) || strcasestr(v->priority, filter) ||
           strcasestr(v->state, filter);
}

static double sort_value(const struct top_vm *v, enum top_sort sort)
{
    switch (sort) {
    case TOP_SORT_SHARE:
        return v->share;
    case TOP_SORT_WAIT:
        return v->has_wait ? v->wait_share : v->waiting;
    case TOP_SORT_QUEUE:
        return (double)v->queue;
    case TOP_SORT_MEMORY:
        return (double)v->memory_used;
    case TOP_SORT_LAUNCHES:
        return v->launch_rate;
    case TOP_SORT_ERRORS:
        return v->error_rate;
    default:
        return 0;
    }
}

/* Most first, but numbers and names upwards; equals by number, so that lines do not dance. */
static int compare_by(const void *a, const void *b, void *opaque)
{
    const struct top_vm *x = *(const struct top_vm *const *)a;
    const struct top_vm *y = *(const struct top_vm *const *)b;
    const struct top_view *view = opaque;
    int order = 0;
    if (view->sort == TOP_SORT_NAME) {
        order = strcmp(x->name, y->name);
    } else if (view->sort != TOP_SORT_VM) {
        double p = sort_value(x, view->sort), q = sort_value(y, view->sort);
        order = (p < q) - (p > q);
    }
    if (!order)
        order = (x->vm > y->vm) - (x->vm < y->vm);
    return view->reverse ? -order : order;
}

const struct top_vm **top_order(const struct top_frame *frame, const struct top_view *view,
                                size_t *count)
{
    *count = 0;
    const struct top_vm **order = calloc(frame->vm_count + 1, sizeof(*order));
    if (!order)
        return NULL;
    for (size_t i = 0; i < frame->vm_count; i++)
        if (passes(&frame->vms[i], view->filter))
            order[(*count)++] = &frame->vms[i];
    qsort_r(order, *count, sizeof(*order), compare_by, (void *)view);
    return order;
}
