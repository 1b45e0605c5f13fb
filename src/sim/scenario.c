/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scenario files: sections and `key = value`, as the mediator's configuration, and as strict. What
 * they may say is in docs/scheduling.md.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/names.h"
#include "common/parse.h"
#include "mediator/sched/place.h"
#include "sim/sim.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define QUANTUM_MAX     1000000000000ull /* ns */

enum section { NONE, SIMULATION, SCHEDULER, VMS, GPU };

struct reader {
    const char *path;
    unsigned line;
    char *error;
    struct vgpu_sim_scenario *sc;
    enum section section;
    struct vgpu_sim_vm vm; /* of the section that is read */
    uint32_t vm_count;     /* how many of it; 0: the section is over */
    struct vgpu_sim_event event;
};

static int fail(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct reader *r, const char *format, ...)
{
    va_list args;
    int n = snprintf(r->error, VGPU_SIM_ERROR, "%.120s:%u: ", r->path, r->line);
    va_start(args, format);
    vsnprintf(r->error + n, VGPU_SIM_ERROR - (size_t)n, format, args);
    va_end(args);
    return -EINVAL;
}

/* A time with its unit: 250us, 2ms, 1.5s, 800ns. */
static int parse_time(const char *text, uint64_t *ns)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
    char *end;
    if (*text < '0' || *text > '9')
        return -EINVAL;
    double value = strtod(text, &end);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (!strcmp(end, units[i].unit) && value * units[i].ns <= 1e15) {
            *ns = (uint64_t)(value * units[i].ns + 0.5);
            return 0;
        }
    return -EINVAL;
}

static int set_time(struct reader *r, const char *key, const char *value, uint64_t *ns)
{
    if (parse_time(value, ns))
        return fail(r, "%s = '%s' is not a time like 250us, 2ms or 1.5s", key, value);
    return 0;
}

static int set_number(struct reader *r, const char *key, const char *value, uint32_t min,
                      uint32_t max, uint32_t *out)
{
    if (vgpu_parse_u32(value, min, max, out))
        return fail(r, "%s = '%s' is not a number from %u to %u", key, value, min, max);
    return 0;
}

static int set_simulation(struct reader *r, const char *key, const char *value)
{
    struct vgpu_sim_scenario *sc = r->sc;
    if (!strcmp(key, "title")) {
        for (const char *c = value; *c; c++)
            if (*c < ' ' || *c > '~') /* it goes into a picture */
                return fail(r, "title has a character that is not printable ASCII");
        snprintf(sc->title, sizeof(sc->title), "%s", value);
        return 0;
    }
    if (!strcmp(key, "duration"))
        return set_time(r, key, value, &sc->duration_ns);
    if (!strcmp(key, "handover"))
        return set_time(r, key, value, &sc->handover_ns);
    if (!strcmp(key, "gpus"))
        return set_number(r, key, value, 1, VGPU_SIM_GPUS_MAX, &sc->sched.gpus);
    if (!strcmp(key, "gpu_memory")) {
        if (vgpu_parse_size(value, 1, 1ull << 50, &sc->gpu_memory_bytes))
            return fail(r, "gpu_memory = '%s' is not a size like 80G", value);
        return 0;
    }
    if (!strcmp(key, "seed")) {
        if (vgpu_parse_u64(value, 1, UINT64_MAX, &sc->seed))
            return fail(r, "seed = '%s' is not a number from 1 on", value);
        return 0;
    }
    return fail(r,
                "unknown key '%s' in [simulation] (known: title duration handover gpus "
                "gpu_memory seed)",
                key);
}

static int set_scheduler(struct reader *r, const char *key, const char *value)
{
    struct vgpu_sched_config *c = &r->sc->sched;
    if (!strcmp(key, "mode")) {
        if (strcmp(value, "weighted") && strcmp(value, "strict"))
            return fail(r, "mode = '%s' is neither weighted nor strict", value);
        c->mode = !strcmp(value, "strict") ? VGPU_SCHED_STRICT : VGPU_SCHED_WEIGHTED;
        return 0;
    }
    if (!strcmp(key, "quantum"))
        return set_time(r, key, value, &c->quantum_ns);
    if (!strcmp(key, "watchdog"))
        return set_time(r, key, value, &c->watchdog_ns);
    if (!strcmp(key, "aging"))
        return set_time(r, key, value, &c->aging_ns);
    if (!strcmp(key, "linger"))
        return set_time(r, key, value, &c->linger_ns);
    if (!strcmp(key, "leases"))
        return set_number(r, key, value, 1, VGPU_SCHED_SLOTS_MAX, &c->slots);
    for (uint32_t p = 0; p < VGPU_SCHED_PRIORITIES; p++)
        if (!strcmp(key, vgpu_priority_name(p)))
            return set_number(r, key, value, 1, VGPU_SCHED_FACTOR_MAX, &c->factor[p]);
    return fail(r,
                "unknown key '%s' in [scheduler] (known: mode quantum watchdog aging linger "
                "leases low medium high)",
                key);
}

/* busy | every TIME | poisson TIME | after TIME */
static int set_arrival(struct reader *r, const char *value)
{
    static const struct {
        const char *word;
        enum vgpu_sim_arrival arrival;
    } words[] = {
        {"every ", VGPU_SIM_PERIODIC}, {"poisson ", VGPU_SIM_POISSON}, {"after ", VGPU_SIM_CLOSED}};
    r->vm.arrival = VGPU_SIM_BUSY;
    if (!strcmp(value, "busy"))
        return 0;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t n = strlen(words[i].word);
        if (!strncmp(value, words[i].word, n) && !parse_time(value + n, &r->vm.period_ns) &&
            r->vm.period_ns) {
            r->vm.arrival = words[i].arrival;
            return 0;
        }
    }
    return fail(r, "work = '%s' is none of: busy, every TIME, poisson TIME, after TIME", value);
}

/* TIME | TIME to TIME | about TIME */
static int set_kernel(struct reader *r, const char *value)
{
    char first[32] = "", second[32] = "";
    r->vm.length = VGPU_SIM_CONSTANT;
    if (sscanf(value, "about %31s", second) == 1 && !parse_time(second, &r->vm.kernel_ns) &&
        r->vm.kernel_ns) {
        r->vm.length = VGPU_SIM_EXPONENTIAL;
        return 0;
    }
    int n = sscanf(value, "%31s to %31s", first, second);
    if (n >= 1 && !parse_time(first, &r->vm.kernel_ns) && r->vm.kernel_ns) {
        if (n == 1 && strlen(first) == strlen(value))
            return 0;
        if (n == 2 && !parse_time(second, &r->vm.kernel_max_ns) &&
            r->vm.kernel_max_ns >= r->vm.kernel_ns) {
            r->vm.length = VGPU_SIM_UNIFORM;
            return 0;
        }
    }
    return fail(r, "kernel = '%s' is none of: TIME, TIME to TIME, about TIME", value);
}

static int set_vms(struct reader *r, const char *key, const char *value)
{
    struct vgpu_sim_vm *vm = &r->vm;
    if (!strcmp(key, "count"))
        return set_number(r, key, value, 1, VGPU_SIM_VMS_MAX, &r->vm_count);
    if (!strcmp(key, "priority")) {
        if (vgpu_parse_priority(value, &vm->share.priority))
            return fail(r, "priority = '%s' is none of low, medium, high", value);
        return 0;
    }
    if (!strcmp(key, "weight"))
        return set_number(r, key, value, 1, VGPU_SCHED_WEIGHT_MAX, &vm->share.weight);
    if (!strcmp(key, "rate")) {
        if (vgpu_parse_percent(value, &vm->share.rate))
            return fail(r, "rate = '%s' is not a share like 30%%", value);
        return 0;
    }
    if (!strcmp(key, "burst"))
        return set_time(r, key, value, &vm->share.burst_ns);
    if (!strcmp(key, "gpu"))
        return set_number(r, key, value, 0, VGPU_SIM_GPUS_MAX - 1, &vm->share.gpu);
    if (!strcmp(key, "work"))
        return set_arrival(r, value);
    if (!strcmp(key, "kernel"))
        return set_kernel(r, value);
    if (!strcmp(key, "kernels"))
        return set_number(r, key, value, 1, 1000000, &vm->kernels);
    if (!strcmp(key, "memory")) {
        if (vgpu_parse_size(value, 1, 1ull << 50, &vm->memory_bytes))
            return fail(r, "memory = '%s' is not a size like 2G", value);
        return 0;
    }
    if (!strcmp(key, "start"))
        return set_time(r, key, value, &vm->start_ns);
    if (!strcmp(key, "stop"))
        return set_time(r, key, value, &vm->stop_ns);
    if (!strcmp(key, "fault"))
        return set_time(r, key, value, &vm->fault_ns);
    if (!strcmp(key, "restart"))
        return set_time(r, key, value, &vm->restart_ns);
    return fail(r,
                "unknown key '%s' in [vms] (known: count priority weight rate burst gpu work "
                "kernel kernels memory start stop fault restart)",
                key);
}

static int set_gpu(struct reader *r, const char *key, const char *value)
{
    if (!strcmp(key, "down") || !strcmp(key, "up")) {
        struct vgpu_sim_scenario *sc = r->sc;
        if (sc->event_count == VGPU_SIM_EVENTS_MAX)
            return fail(r, "more than %u times at which GPUs come or go", VGPU_SIM_EVENTS_MAX);
        struct vgpu_sim_event e = {.gpu = r->event.gpu, .up = *key == 'u'};
        int rc = set_time(r, key, value, &e.at_ns);
        if (rc)
            return rc;
        uint32_t at = sc->event_count++;
        for (; at && sc->events[at - 1].at_ns > e.at_ns; at--)
            sc->events[at] = sc->events[at - 1];
        sc->events[at] = e;
        return 0;
    }
    return fail(r, "unknown key '%s' in [gpu] (known: down up)", key);
}

/* Adds the VMs of the section that ends here. */
static int end_section(struct reader *r)
{
    struct vgpu_sim_scenario *sc = r->sc;
    if (r->section != VMS)
        return 0;
    if (r->vm_count > VGPU_SIM_VMS_MAX - sc->vm_count)
        return fail(r, "more than %u VMs", VGPU_SIM_VMS_MAX);
    struct vgpu_sim_vm *vms = realloc(sc->vms, (sc->vm_count + r->vm_count) * sizeof(*vms));
    if (!vms)
        return fail(r, "out of memory");
    sc->vms = vms;
    if (r->vm.share.rate && !r->vm.share.burst_ns)
        r->vm.share.burst_ns = 2 * sc->sched.quantum_ns;
    for (uint32_t i = 0; i < r->vm_count; i++) {
        struct vgpu_sim_vm *vm = &sc->vms[sc->vm_count++];
        *vm = r->vm;
        vm->group = sc->group_count;
        if (r->vm_count > 1)
            snprintf(vm->name, sizeof(vm->name), "%.24s-%u", r->vm.name, (i + 1) % 100000);
    }
    sc->group_count++;
    return 0;
}

static int open_section(struct reader *r, char *name)
{
    int rc = end_section(r);
    if (rc)
        return rc;
    if (!strcmp(name, "simulation")) {
        r->section = SIMULATION;
    } else if (!strcmp(name, "scheduler")) {
        r->section = SCHEDULER;
    } else if (!strncmp(name, "vms ", 4) && name[4]) {
        if (name[4 + strspn(name + 4, NAME_CHARACTERS)]) /* it goes into CSV and a picture */
            return fail(r, "[vms %.31s]: write letters, digits, '.', '_' and '-'", name + 4);
        r->section = VMS;
        r->vm = (struct vgpu_sim_vm){
            .share = {.gpu = VGPU_PLACE_NONE, .priority = 1, .weight = VGPU_SCHED_WEIGHT_DEFAULT},
            .kernels = 1,
            .kernel_ns = 100000};
        r->vm_count = 1;
        snprintf(r->vm.name, sizeof(r->vm.name), "%.31s", name + 4);
        snprintf(r->vm.section, sizeof(r->vm.section), "%.31s", name + 4);
    } else if (!strncmp(name, "gpu ", 4)) {
        r->section = GPU;
        return set_number(r, "[gpu N]: N", name + 4, 0, VGPU_SIM_GPUS_MAX - 1, &r->event.gpu);
    } else {
        return fail(r, "unknown section [%s] (known: simulation, scheduler, vms NAME, gpu N)",
                    name);
    }
    return 0;
}

static char *trim(char *text)
{
    text += strspn(text, " \t\r\n");
    size_t n = strlen(text);
    while (n && strchr(" \t\r\n", text[n - 1]))
        text[--n] = 0;
    return text;
}

static int read_line(struct reader *r, char *text)
{
    text[strcspn(text, "#")] = 0;
    text = trim(text);
    size_t n = strlen(text);
    if (!n)
        return 0;
    if (text[0] == '[' && text[n - 1] == ']') {
        text[n - 1] = 0;
        return open_section(r, trim(text + 1));
    }
    char *value = strchr(text, '=');
    if (!value)
        return fail(r, "'%.40s' is neither a [section] nor key = value", text);
    *value++ = 0;
    const char *key = trim(text);
    value = trim(value);
    switch (r->section) {
    case SIMULATION:
        return set_simulation(r, key, value);
    case SCHEDULER:
        return set_scheduler(r, key, value);
    case VMS:
        return set_vms(r, key, value);
    case GPU:
        return set_gpu(r, key, value);
    default:
        return fail(r, "'%.40s' stands in no section", key);
    }
}

static int check(struct reader *r)
{
    struct vgpu_sim_scenario *sc = r->sc;
    if (!sc->duration_ns)
        return fail(r, "duration = 0: nothing would happen");
    if (!sc->sched.quantum_ns || sc->sched.quantum_ns > QUANTUM_MAX)
        return fail(r, "quantum has to be from 1ns to 1000s");
    if (!sc->vm_count)
        return fail(r, "there is no [vms NAME] section: nobody to schedule");
    for (uint32_t i = 0; i < sc->vm_count; i++)
        if (sc->vms[i].share.gpu != VGPU_PLACE_NONE && sc->vms[i].share.gpu >= sc->sched.gpus)
            return fail(r, "%s is on GPU %u, but gpus = %u", sc->vms[i].name, sc->vms[i].share.gpu,
                        sc->sched.gpus);
    for (uint32_t i = 0; i < sc->event_count; i++)
        if (sc->events[i].gpu >= sc->sched.gpus)
            return fail(r, "[gpu %u], but gpus = %u", sc->events[i].gpu, sc->sched.gpus);
    return 0;
}

struct vgpu_sim_scenario *vgpu_sim_load(const char *path, char error[VGPU_SIM_ERROR])
{
    char line[512];
    struct reader r = {.path = path, .error = error, .sc = calloc(1, sizeof(*r.sc))};
    FILE *file = r.sc ? fopen(path, "re") : NULL;
    if (!file) {
        snprintf(error, VGPU_SIM_ERROR, "%.120s: %s", path, strerror(r.sc ? errno : ENOMEM));
        free(r.sc);
        return NULL;
    }
    *r.sc = (struct vgpu_sim_scenario){
        .title = "",
        .sched = {.gpus = 1,
                  .mode = VGPU_SCHED_WEIGHTED,
                  .slots = 1,
                  .quantum_ns = 5000000,
                  .watchdog_ns = 10000000000,
                  .aging_ns = 2000000000,
                  .linger_ns = 50000,
                  .factor = {1, 4, 16}},
        .duration_ns = 1000000000,
        .gpu_memory_bytes = 80ull << 30,
        .seed = 1,
    };
    int rc = 0;
    while (!rc && fgets(line, sizeof(line), file)) {
        r.line++;
        if (!strchr(line, '\n') && strlen(line) == sizeof(line) - 1)
            rc = fail(&r, "a line of over %zu bytes", sizeof(line) - 2);
        else
            rc = read_line(&r, line);
    }
    fclose(file);
    if (!rc)
        rc = end_section(&r);
    if (!rc)
        rc = check(&r);
    if (!rc)
        return r.sc;
    vgpu_sim_scenario_free(r.sc);
    return NULL;
}

void vgpu_sim_scenario_free(struct vgpu_sim_scenario *sc)
{
    if (!sc)
        return;
    free(sc->vms);
    free(sc);
}
