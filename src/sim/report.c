/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What came of a run, as a table for people and as CSV; see sim.h. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"

/* A line of the table: the VMs of one section together. */
struct group {
    const char *name;
    uint32_t vms;
    uint64_t gpu_ns, least_ns, most_ns, requests, kills, throttles, backlog;
    int64_t lag_max_ns, lag_min_ns;
    struct vgpu_sim_samples wait, latency;
};

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool append(struct vgpu_sim_samples *to, const struct vgpu_sim_samples *from)
{
    if (!from->count)
        return true;
    uint64_t *value = realloc(to->value, (to->count + from->count) * sizeof(*value));
    if (!value)
        return false;
    memcpy(value + to->count, from->value, from->count * sizeof(*value));
    to->value = value;
    to->count += from->count;
    return true;
}

static void gather(const struct vgpu_sim_run *run, uint32_t number, struct group *g)
{
    *g = (struct group){.least_ns = UINT64_MAX};
    for (uint32_t i = 0; i < run->scenario->vm_count; i++) {
        const struct vgpu_sim_result *r = &run->vms[i];
        if (run->scenario->vms[i].group != number)
            continue;
        if (!g->name)
            g->name = run->scenario->vms[i].section;
        g->vms++;
        g->gpu_ns += r->gpu_ns;
        g->least_ns = r->gpu_ns < g->least_ns ? r->gpu_ns : g->least_ns;
        g->most_ns = r->gpu_ns > g->most_ns ? r->gpu_ns : g->most_ns;
        g->requests += r->requests;
        g->kills += r->kills;
        g->throttles += r->throttles;
        g->backlog += r->backlog;
        g->lag_max_ns = r->lag_max_ns > g->lag_max_ns ? r->lag_max_ns : g->lag_max_ns;
        g->lag_min_ns = r->lag_min_ns < g->lag_min_ns ? r->lag_min_ns : g->lag_min_ns;
        if (!append(&g->wait, &r->wait) || !append(&g->latency, &r->latency))
            break; /* fewer samples then: only the quantiles suffer */
    }
    if (g->wait.count)
        qsort(g->wait.value, g->wait.count, sizeof(uint64_t), compare);
    if (g->latency.count)
        qsort(g->latency.value, g->latency.count, sizeof(uint64_t), compare);
}

/* A time in the unit that suits it, 8 columns. */
static const char *show(uint64_t ns, char text[16])
{
    if (ns < 10000)
        snprintf(text, 16, "%5" PRIu64 " ns", ns);
    else if (ns < 10000000)
        snprintf(text, 16, "%5.0f us", (double)ns / 1e3);
    else if (ns < 10000000000)
        snprintf(text, 16, "%5.0f ms", (double)ns / 1e6);
    else
        snprintf(text, 16, "%5.1f s ", (double)ns / 1e9);
    return text;
}

void vgpu_sim_table(const struct vgpu_sim_run *run, FILE *out)
{
    const struct vgpu_sim_scenario *sc = run->scenario;
    char a[16], b[16], c[16], d[16], e[16], f[16];
    double time = (double)sc->duration_ns;
    fprintf(out, "%s\n", sc->title);
    fprintf(out, "%u VMs, %u GPUs, %.1f s, %s, quantum %s, seed %" PRIu64 "\n\n", sc->vm_count,
            sc->sched.gpus, time / 1e9, sc->sched.mode == VGPU_SCHED_STRICT ? "strict" : "weighted",
            show(sc->sched.quantum_ns, a), sc->seed);
    fprintf(out, "%-16s %5s %7s %15s %9s %9s %9s %9s %9s %9s %9s\n", "VMs", "count", "GPU %",
            "each, % of a GPU", "requests", "wait p50", "p99", "max", "latency", "p99", "lag max");
    for (uint32_t number = 0; number < sc->group_count; number++) {
        struct group g;
        gather(run, number, &g);
        if (!g.vms)
            continue;
        fprintf(out, "%-16.16s %5u %7.2f %7.3f-%7.3f %9" PRIu64 " %9s %9s %9s %9s %9s %9s", g.name,
                g.vms, 100 * (double)g.gpu_ns / time, 100 * (double)g.least_ns / time,
                100 * (double)g.most_ns / time, g.requests,
                show(vgpu_sim_quantile(&g.wait, 0.5), a), show(vgpu_sim_quantile(&g.wait, 0.99), b),
                show(vgpu_sim_quantile(&g.wait, 1), c), show(vgpu_sim_quantile(&g.latency, 0.5), d),
                show(vgpu_sim_quantile(&g.latency, 0.99), e), show((uint64_t)g.lag_max_ns, f));
        if (g.kills)
            fprintf(out, "  killed %" PRIu64 "x", g.kills);
        if (g.throttles)
            fprintf(out, "  throttled %" PRIu64 "x", g.throttles);
        fputc('\n', out);
        free(g.wait.value);
        free(g.latency.value);
    }
    fputc('\n', out);
    for (uint32_t i = 0; i < sc->sched.gpus; i++)
        fprintf(out, "GPU %u: busy %6.2f %%, at most %" PRIu64 " waiting\n", i,
                100 * (double)run->busy_ns[i] / time, run->queue_max[i]);
    fprintf(out, "%" PRIu64 " events, %" PRIu64 " decisions, digest %016" PRIx64, run->events,
            run->decisions, run->digest);
    if (run->decision.count)
        fprintf(out, "; a decision took %s at the median, %s at p99",
                show(vgpu_sim_quantile(&run->decision, 0.5), a),
                show(vgpu_sim_quantile(&run->decision, 0.99), b));
    fprintf(out, "\n%s%s\n", run->broken[0] ? "BROKEN: " : "every invariant held", run->broken);
}

void vgpu_sim_csv(const struct vgpu_sim_run *run, FILE *out)
{
    const struct vgpu_sim_scenario *sc = run->scenario;
    fprintf(out,
            "vm,gpu,priority,weight,rate,gpu_ns,lease_ns,requests,kernels,leases,backlog,kills,"
            "throttles,moves,wait_p50_ns,wait_p99_ns,wait_max_ns,latency_p50_ns,"
            "latency_p99_ns,latency_max_ns,lag_max_ns,lag_min_ns\n");
    for (uint32_t i = 0; i < sc->vm_count; i++) {
        const struct vgpu_sim_vm *vm = &sc->vms[i];
        const struct vgpu_sim_result *r = &run->vms[i];
        fprintf(out, "%s,%u,%u,%u,%u", vm->name, vm->share.gpu, vm->share.priority,
                vm->share.weight, vm->share.rate);
        const uint64_t values[] = {r->gpu_ns,
                                   r->lease_ns,
                                   r->requests,
                                   r->kernels,
                                   r->leases,
                                   r->backlog,
                                   r->kills,
                                   r->throttles,
                                   r->moves,
                                   vgpu_sim_quantile(&r->wait, 0.5),
                                   vgpu_sim_quantile(&r->wait, 0.99),
                                   vgpu_sim_quantile(&r->wait, 1),
                                   vgpu_sim_quantile(&r->latency, 0.5),
                                   vgpu_sim_quantile(&r->latency, 0.99),
                                   vgpu_sim_quantile(&r->latency, 1)};
        for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++)
            fprintf(out, ",%" PRIu64, values[k]);
        fprintf(out, ",%" PRId64 ",%" PRId64 "\n", r->lag_max_ns, r->lag_min_ns);
    }
}
