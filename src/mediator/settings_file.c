/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reader of the configuration file: sections, `key = value`, comments. Strict: what it does not
 * know is an error that names the line. See settings.h.
 */
#include "mediator/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/names.h"
#include "common/parse.h"
#include "vgpu/ring.h"

#define MAX_FILE (1u << 20)
#define MAX_LINE 1024

enum section { NONE, MEDIATOR, POOL, VM, LOCAL, LIMITS, SCHEDULER };

struct reader {
    const char *name;
    unsigned line;
    char *error;
    struct vgpu_settings *s;
    enum section section;
    bool any_pool;
    bool seen[SCHEDULER + 1]; /* sections that may stand once */
    struct vgpu_pool_setting *pool;
    enum vgpu_backend_kind backend;
    bool backend_said, gpus_said;
    struct vgpu_vm_setting *vm;
};

static int fail(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct reader *r, const char *format, ...)
{
    va_list args;
    int n = snprintf(r->error, VGPU_SETTINGS_ERROR, "%.200s:%u: ", r->name, r->line);
    va_start(args, format);
    vsnprintf(r->error + n, VGPU_SETTINGS_ERROR - (size_t)n, format, args);
    va_end(args);
    return -EINVAL;
}

static int set_text(struct reader *r, const char *value, char **out)
{
    char *copy = strdup(value);
    if (!copy)
        return fail(r, "out of memory");
    free(*out);
    *out = copy;
    return 0;
}

static int set_u32(struct reader *r, const char *key, const char *value, uint32_t min, uint32_t max,
                   uint32_t *out)
{
    if (vgpu_parse_u32(value, min, max, out))
        return fail(r, "%s = '%s' is not a number from %u to %u", key, value, min, max);
    return 0;
}

static int set_pool_letter(struct reader *r, const char *value, char *out)
{
    if (value[0] < 'A' || value[0] > 'Z' || value[1])
        return fail(r, "'%s' is not a pool: write one letter from A to Z", value);
    *out = value[0];
    return 0;
}

static bool is_same_gpu(const struct vgpu_gpu_setting *a, const struct vgpu_gpu_setting *b)
{
    if (a->backend != VGPU_GPU_CUDA || b->backend != VGPU_GPU_CUDA || a->by_uuid != b->by_uuid)
        return false; /* whether a number and a UUID are the same GPU only the host knows */
    return a->by_uuid ? !memcmp(a->uuid, b->uuid, sizeof(a->uuid)) : a->ordinal == b->ordinal;
}

/* software, an ordinal or a UUID. */
static int read_gpu(struct reader *r, const char *item, struct vgpu_gpu_setting *gpu)
{
    *gpu = (struct vgpu_gpu_setting){.backend = VGPU_GPU_SOFTWARE};
    if (!strcmp(item, "software"))
        return 0;
    gpu->backend = VGPU_GPU_CUDA;
    gpu->by_uuid = !strncmp(item, "GPU-", 4);
    if (gpu->by_uuid ? vgpu_parse_uuid(item, gpu->uuid)
                     : vgpu_parse_u32(item, 0, 63, &gpu->ordinal))
        return fail(r,
                    "'%s' is no GPU: write software, none, numbers from 0 to 63, or "
                    "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx as vgpu-worker --probe says",
                    item);
    return 0;
}

/* software | none | a list of ordinals and UUIDs, comma-separated. */
static int set_gpus(struct reader *r, char *value)
{
    r->gpus_said = true;
    r->pool->gpu_count = 0;
    if (!strcmp(value, "none"))
        return 0;
    char *rest = value;
    for (char *item; (item = strsep(&rest, ","));) {
        struct vgpu_gpu_setting gpu;
        item += strspn(item, " \t");
        item[strcspn(item, " \t")] = 0;
        if (read_gpu(r, item, &gpu))
            return -EINVAL;
        if (r->pool->gpu_count == VGPU_POOL_MAX_GPUS)
            return fail(r, "a pool has at most %u GPUs", VGPU_POOL_MAX_GPUS);
        for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++)
            for (uint32_t i = 0; i < r->s->pools[p].gpu_count; i++)
                if (is_same_gpu(&r->s->pools[p].gpus[i], &gpu))
                    return fail(r, "%s%s is already in pool %c: a GPU is in one pool",
                                gpu.by_uuid ? "" : "GPU ", item, (char)('A' + p));
        r->pool->gpus[r->pool->gpu_count++] = gpu;
    }
    return 0;
}

static int set_backend(struct reader *r, const char *value)
{
    r->backend_said = true;
    r->backend = VGPU_GPU_CUDA;
    r->pool->or_software = !strcmp(value, "auto");
    if (!strcmp(value, "software"))
        r->backend = VGPU_GPU_SOFTWARE;
    else if (strcmp(value, "cuda") && !r->pool->or_software)
        return fail(r, "backend = '%s' is none of software, cuda, auto", value);
    return 0;
}

/* A backend that was named has to be the one that its GPUs need; without GPUs it says which. */
static int end_section(struct reader *r)
{
    struct vgpu_pool_setting *pool = r->pool;
    if (r->section != POOL)
        return 0;
    for (uint32_t i = 0; r->backend_said && i < pool->gpu_count; i++)
        if (pool->gpus[i].backend != r->backend)
            return fail(r, "the pool above has a GPU that backend = %s cannot run",
                        pool->or_software ? "auto" : vgpu_backend_name(r->backend));
    if (r->gpus_said && !pool->gpu_count)
        pool->or_software = false; /* none means none */
    if (r->backend_said && !r->gpus_said) {
        pool->all = r->backend == VGPU_GPU_CUDA;
        if (!pool->all)
            pool->gpus[pool->gpu_count++] = (struct vgpu_gpu_setting){.backend = VGPU_GPU_SOFTWARE};
    }
    memcpy(pool->asked, pool->gpus, sizeof(pool->asked));
    pool->asked_count = pool->gpu_count;
    return 0;
}

static int set_mediator(struct reader *r, const char *key, const char *value)
{
    struct vgpu_settings *s = r->s;
    if (!strcmp(key, "listen"))
        return set_text(r, value, &s->listen);
    if (!strcmp(key, "control"))
        return set_text(r, value, &s->control);
    if (!strcmp(key, "registry"))
        return set_text(r, value, &s->registry);
    if (!strcmp(key, "admin_group"))
        return set_text(r, value, &s->admin_group);
    if (!strcmp(key, "readers")) {
        if (vgpu_parse_bool(value, &s->readers))
            return fail(r, "readers = '%s' is neither yes nor no", value);
        return 0;
    }
    if (!strcmp(key, "watch")) {
        int rc = vgpu_settings_add_watch(s, value);
        return rc ? fail(r, "cannot watch more than %u directories", VGPU_SETTINGS_WATCH) : 0;
    }
    if (!strcmp(key, "log_level")) {
        if (vgpu_log_level_parse(value, &s->log_level))
            return fail(r, "log_level = '%s' is none of error, warn, info, debug", value);
        return 0;
    }
    if (!strcmp(key, "log_format")) {
        if (vgpu_log_format_parse(value, &s->log_format))
            return fail(r, "log_format = '%s' is neither text nor json", value);
        return 0;
    }
    if (!strcmp(key, "worker"))
        return set_text(r, value, &s->worker);
    if (!strcmp(key, "worker_uid_base")) {
        s->has_worker_uid_base = true;
        return set_u32(r, key, value, 1, UINT32_MAX - 2 - 2 * VGPU_SETTINGS_VMS,
                       &s->worker_uid_base);
    }
    if (!strcmp(key, "admit_unknown")) {
        if (vgpu_parse_bool(value, &s->admit_unknown))
            return fail(r, "admit_unknown = '%s' is neither yes nor no", value);
        return 0;
    }
    if (!strcmp(key, "allow_pageable_access")) {
        if (vgpu_parse_bool(value, &s->allow_pageable_access))
            return fail(r, "allow_pageable_access = '%s' is neither yes nor no", value);
        return 0;
    }
    if (!strcmp(key, "max_vms"))
        return set_u32(r, key, value, 1, VGPU_SETTINGS_VMS, &s->max_vms);
    if (!strcmp(key, "local_clients"))
        return set_u32(r, key, value, 1, VGPU_SETTINGS_VMS, &s->local_clients);
    if (!strcmp(key, "local_window")) {
        if (vgpu_parse_size(value, 0, VGPU_WINDOW_BYTES_MAX, &s->local_window) ||
            (s->local_window && s->local_window < VGPU_WINDOW_BYTES_MIN) ||
            s->local_window & (s->local_window - 1))
            return fail(r, "local_window = '%s' is neither 0 nor a power of two from 1M to 1T",
                        value);
        return 0;
    }
    if (!strcmp(key, "local_vm_base"))
        return set_u32(r, key, value, 0, UINT32_MAX - VGPU_SETTINGS_VMS, &s->local_vm_base);
    return fail(r,
                "unknown key '%s' in [mediator] (known: listen watch control registry admin_group "
                "readers log_level log_format worker "
                "worker_uid_base admit_unknown allow_pageable_access max_vms local_vm_base "
                "local_clients local_window)",
                key);
}

static int set_pool(struct reader *r, const char *key, char *value)
{
    if (!strcmp(key, "gpus") || !strcmp(key, "gpu"))
        return set_gpus(r, value);
    if (!strcmp(key, "backend"))
        return set_backend(r, value);
    if (!strcmp(key, "threads"))
        return set_u32(r, key, value, 0, 1024, &r->pool->threads);
    if (!strcmp(key, "launch_instructions")) {
        if (vgpu_parse_u64(value, 0, UINT64_MAX, &r->pool->launch_instructions))
            return fail(r, "launch_instructions = '%s' is not a number, 0 for no limit", value);
        return 0;
    }
    if (!strcmp(key, "card_memory")) {
        if (vgpu_parse_size(value, 1, 1ull << 46, &r->pool->card_memory))
            return fail(r, "card_memory = '%s' is not a size like 512M or 80G", value);
        return 0;
    }
    return fail(
        r,
        "unknown key '%s' in [pool] (known: gpus backend threads launch_instructions card_memory)",
        key);
}

static int set_vm(struct reader *r, const char *key, const char *value)
{
    struct vgpu_vm_setting *vm = r->vm;
    bool local = r->section == LOCAL;
    if (!strcmp(key, "pool"))
        return set_pool_letter(r, value, &vm->pool);
    if (!strcmp(key, "priority")) {
        uint32_t priority;
        if (vgpu_parse_priority(value, &priority))
            return fail(r, "priority = '%s' is none of low, medium, high", value);
        vm->priority = (int)priority;
        return 0;
    }
    if (!strcmp(key, "memory")) {
        if (vgpu_parse_size(value, 1, 1ull << 46, &vm->memory))
            return fail(r, "memory = '%s' is not a size like 512M or 2G", value);
        return 0;
    }
    if (!strcmp(key, "sessions"))
        return set_u32(r, key, value, 1, 1024, &vm->sessions);
    if (!strcmp(key, "queue"))
        return set_u32(r, key, value, 1, VGPU_SETTINGS_QUEUE, &vm->queue);
    if (!strcmp(key, "weight"))
        return set_u32(r, key, value, 1, VGPU_SCHED_WEIGHT_MAX, &vm->weight);
    if (!strcmp(key, "rate")) {
        if (vgpu_parse_percent(value, &vm->rate) || !vm->rate)
            return fail(r, "rate = '%s' is not a share like 30%% or 12.5%%", value);
        return 0;
    }
    if (!strcmp(key, "burst_ms"))
        return set_u32(r, key, value, 1, 60000, &vm->burst_ms);
    if (!strcmp(key, "uid"))
        return set_u32(r, key, value, 1, UINT32_MAX - 2, &vm->uid);
    if (!local && !strcmp(key, "socket")) {
        if (value[0] != '/' || value[strlen(value) - 1] == '/')
            return fail(r, "socket = '%s' has to start with / and to end in a name", value);
        return set_text(r, value, &vm->socket);
    }
    if (local && !strcmp(key, "vm")) {
        vm->has_vm = true;
        return set_u32(r, key, value, 0, UINT32_MAX, &vm->vm_id);
    }
    if (local && !strcmp(key, "allow")) {
        bool allow;
        if (vgpu_parse_bool(value, &allow))
            return fail(r, "allow = '%s' is neither yes nor no", value);
        vm->deny = !allow;
        return 0;
    }
    return fail(r,
                "unknown key '%s' in [%s] (known: pool priority weight rate burst_ms memory "
                "sessions queue uid %s)",
                key, local ? "local" : "vm", local ? "vm allow" : "socket");
}

static int set_limits(struct reader *r, const char *key, const char *value)
{
    if (!strcmp(key, "sessions"))
        return set_u32(r, key, value, 1, 1024, &r->s->default_sessions);
    if (!strcmp(key, "queue"))
        return set_u32(r, key, value, 1, VGPU_SETTINGS_QUEUE, &r->s->default_queue);
    if (!strcmp(key, "memory")) {
        if (vgpu_parse_size(value, 1, 1ull << 46, &r->s->default_memory))
            return fail(r, "memory = '%s' is not a size like 512M or 2G", value);
        return 0;
    }
    if (!strcmp(key, "context_memory")) {
        if (vgpu_parse_size(value, 0, 1ull << 40, &r->s->context_memory))
            return fail(r, "context_memory = '%s' is not a size like 526M", value);
        return 0;
    }
    if (!strcmp(key, "quarantine_faults"))
        return set_u32(r, key, value, 0, VGPU_SETTINGS_FAULTS, &r->s->quarantine_faults);
    if (!strcmp(key, "quarantine_window_s"))
        return set_u32(r, key, value, 1, 86400, &r->s->quarantine_window_s);
    if (!strcmp(key, "quarantine_s"))
        return set_u32(r, key, value, 1, 31536000, &r->s->quarantine_s);
    return fail(r,
                "unknown key '%s' in [limits] (known: sessions queue memory context_memory "
                "quarantine_faults quarantine_window_s quarantine_s)",
                key);
}

static int set_scheduler(struct reader *r, const char *key, const char *value)
{
    struct vgpu_settings *s = r->s;
    if (!strcmp(key, "quantum_ms"))
        return set_u32(r, key, value, 1, 60000, &s->quantum_ms);
    if (!strcmp(key, "aging_ms"))
        return set_u32(r, key, value, 1, 3600000, &s->aging_ms);
    if (!strcmp(key, "linger_us"))
        return set_u32(r, key, value, 0, 100000, &s->linger_us);
    if (!strcmp(key, "leases"))
        return set_u32(r, key, value, 1, VGPU_SCHED_SLOTS_MAX, &s->leases);
    if (!strcmp(key, "mode")) {
        s->mode = !strcmp(value, "strict") ? VGPU_SCHED_STRICT : VGPU_SCHED_WEIGHTED;
        if (s->mode == VGPU_SCHED_WEIGHTED && strcmp(value, "weighted"))
            return fail(r, "mode = '%s' is neither weighted nor strict", value);
        return 0;
    }
    for (uint32_t p = 0; p < VGPU_SCHED_PRIORITIES; p++)
        if (!strcmp(key, vgpu_priority_name(p)))
            return set_u32(r, key, value, 1, VGPU_SCHED_FACTOR_MAX, &s->factor[p]);
    if (!strcmp(key, "watchdog_ms"))
        return set_u32(r, key, value, 100, 3600000, &s->watchdog_ms);
    if (!strcmp(key, "answer_ms"))
        return set_u32(r, key, value, 1000, 3600000, &s->answer_ms);
    if (!strcmp(key, "start_ms"))
        return set_u32(r, key, value, 1000, 3600000, &s->start_ms);
    return fail(r,
                "unknown key '%s' in [scheduler] (known: mode low medium high quantum_ms aging_ms "
                "linger_us leases watchdog_ms answer_ms start_ms)",
                key);
}

static int start_pool(struct reader *r, const char *argument)
{
    char letter = 0; /* set below; an optimising gcc 12 does not see it */
    int rc = set_pool_letter(r, argument, &letter);
    if (rc)
        return rc;
    if (!r->any_pool) /* the file's pools replace the default one */
        memset(r->s->pools, 0, sizeof(r->s->pools));
    r->any_pool = true;
    r->pool = &r->s->pools[letter - 'A'];
    if (r->pool->present)
        return fail(r, "[pool %c] stands in line %u already", letter, r->pool->line);
    r->pool->present = true;
    r->pool->line = r->line;
    r->backend_said = r->gpus_said = false;
    return 0;
}

static int start_vm(struct reader *r, const char *what, const char *argument,
                    struct vgpu_vm_setting **list, uint32_t *count)
{
    uint32_t key;
    if (vgpu_parse_u32(argument, 0, UINT32_MAX, &key))
        return fail(r, "[%s %s]: write a number after %s", what, argument, what);
    for (uint32_t i = 0; i < *count; i++)
        if ((*list)[i].key == key)
            return fail(r, "[%s %u] stands in line %u already", what, key, (*list)[i].line);
    if (*count == VGPU_SETTINGS_VMS)
        return fail(r, "more than %u sections [%s]", VGPU_SETTINGS_VMS, what);
    struct vgpu_vm_setting *grown = realloc(*list, (*count + 1) * sizeof(**list));
    if (!grown)
        return fail(r, "out of memory");
    *list = grown;
    r->vm = &grown[(*count)++];
    *r->vm = (struct vgpu_vm_setting){
        .key = key,
        .line = r->line,
        .in_file = true,
        .registered = true,
        .priority = -1,
        .uid = VGPU_SETTINGS_NO_UID,
    };
    return 0;
}

static int start_section(struct reader *r, char *text)
{
    int rc = end_section(r);
    if (rc)
        return rc;
    char *argument = text + strcspn(text, " \t");
    if (*argument)
        *argument++ = 0;
    argument += strspn(argument, " \t");
    static const char *const names[] = {"",      "mediator", "pool",     "vm",
                                        "local", "limits",   "scheduler"};
    r->section = NONE;
    for (unsigned i = MEDIATOR; i <= SCHEDULER; i++)
        if (!strcmp(text, names[i]))
            r->section = (enum section)i;
    switch (r->section) {
    case POOL:
        return start_pool(r, argument);
    case VM:
        return start_vm(r, "vm", argument, &r->s->vms, &r->s->vm_count);
    case LOCAL:
        return start_vm(r, "local", argument, &r->s->locals, &r->s->local_count);
    case MEDIATOR:
    case LIMITS:
    case SCHEDULER:
        if (*argument)
            return fail(r, "[%s] takes nothing after its name", text);
        if (r->seen[r->section])
            return fail(r, "[%s] stands twice", text);
        r->seen[r->section] = true;
        return 0;
    case NONE:
        break;
    }
    return fail(r,
                "unknown section [%s] (known: mediator, pool X, vm N, local UID, limits, "
                "scheduler)",
                text);
}

static int read_line(struct reader *r, char *line)
{
    line += strspn(line, " \t");
    size_t length = strlen(line);
    while (length && strchr(" \t\r", line[length - 1]))
        line[--length] = 0;
    if (!length || line[0] == '#' || line[0] == ';')
        return 0;
    if (line[0] == '[') {
        if (line[length - 1] != ']')
            return fail(r, "a section ends with ]");
        line[length - 1] = 0;
        return start_section(r, line + 1);
    }
    char *value = strchr(line, '=');
    if (!value || value == line)
        return fail(r, "'%s' is neither [section] nor key = value", line);
    char *key_end = value;
    *value++ = 0;
    while (key_end > line && strchr(" \t", key_end[-1]))
        *--key_end = 0;
    value += strspn(value, " \t");
    if (!*value)
        return fail(r, "%s has no value", line);
    switch (r->section) {
    case MEDIATOR:
        return set_mediator(r, line, value);
    case POOL:
        return set_pool(r, line, value);
    case VM:
    case LOCAL:
        return set_vm(r, line, value);
    case LIMITS:
        return set_limits(r, line, value);
    case SCHEDULER:
        return set_scheduler(r, line, value);
    case NONE:
        break;
    }
    return fail(r, "'%s' stands before the first [section]", line);
}

struct vgpu_settings *vgpu_settings_parse(const char *name, const char *text, size_t length,
                                          char *error)
{
    struct reader r = {.name = name, .error = error, .s = vgpu_settings_default()};
    if (!r.s) {
        snprintf(error, VGPU_SETTINGS_ERROR, "%.200s: out of memory", name);
        return NULL;
    }
    int rc = 0;
    for (size_t at = 0; !rc && at < length;) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t line_length = end ? (size_t)(end - (text + at)) : length - at;
        char line[MAX_LINE];
        r.line++;
        if (line_length >= sizeof(line) || memchr(text + at, 0, line_length)) {
            rc = fail(&r, "the line is longer than %u bytes or has a NUL in it", MAX_LINE - 1);
            break;
        }
        memcpy(line, text + at, line_length);
        line[line_length] = 0;
        rc = read_line(&r, line);
        at += line_length + 1;
    }
    if (!rc)
        rc = end_section(&r);
    if (rc) {
        vgpu_settings_free(r.s);
        return NULL;
    }
    return r.s;
}

struct vgpu_settings *vgpu_settings_load(const char *path, char *error)
{
    struct vgpu_settings *s = NULL;
    size_t used = 0;
    char *text = malloc(MAX_FILE + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !text) {
        snprintf(error, VGPU_SETTINGS_ERROR, "cannot read the configuration %.300s: %s", path,
                 strerror(text ? errno : ENOMEM));
        goto out;
    }
    for (ssize_t n; used <= MAX_FILE; used += (size_t)n) {
        n = read(fd, text + used, MAX_FILE + 1 - used);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n < 0) {
            snprintf(error, VGPU_SETTINGS_ERROR, "cannot read the configuration %.300s: %s", path,
                     strerror(errno));
            goto out;
        } else if (n == 0)
            break;
    }
    if (used > MAX_FILE)
        snprintf(error, VGPU_SETTINGS_ERROR, "%.300s is longer than 1 MiB", path);
    else
        s = vgpu_settings_parse(path, text, used, error);
out:
    if (fd >= 0)
        close(fd);
    free(text);
    return s;
}
