/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables of metrics and how each is written; see metrics.h. */
#include "exporter/metrics.h"

#include <stdio.h>
#include <string.h>

#include "common/histogram.h"

enum form {
    COUNT,   /* as it is */
    SECONDS, /* ns there, seconds here */
};

struct metric {
    const char *name, *help, *key;
    enum form form;
    bool counter; /* else a gauge */
};

static const struct metric vm_metrics[] = {
    {"vgpu_vm_attached", "Whether its device, or a client of that user, is connected.", "attached",
     COUNT, false},
    {"vgpu_vm_waiting", "Whether it waits for a lease of its GPU.", "waiting", COUNT, false},
    {"vgpu_vm_holding_lease", "Whether it has the lease of its GPU.", "holding", COUNT, false},
    {"vgpu_vm_sessions", "Sessions that are open.", "sessions", COUNT, false},
    {"vgpu_vm_workers", "Worker processes.", "workers", COUNT, false},
    {"vgpu_vm_memory_used_bytes", "Device memory that its sessions hold.", "memory_used", COUNT,
     false},
    {"vgpu_vm_memory_quota_bytes", "Device memory that its sessions may hold.", "memory_quota",
     COUNT, false},
    {"vgpu_vm_gpu_seconds_total", "Time in which it had a lease of a GPU.", "lease_ns", SECONDS,
     true},
    {"vgpu_vm_busy_seconds_total",
     "Time in which it had a lease and, as its workers say, something to do.", "busy_ns", SECONDS,
     true},
    {"vgpu_vm_leases_total", "Leases that it was granted.", "leases", COUNT, true},
    {"vgpu_vm_lease_recalls_total", "Leases that were asked back, because others waited.",
     "recalls", COUNT, true},
    {"vgpu_vm_throttles_total", "How often it had to wait because its rate was used up.",
     "throttles", COUNT, true},
    {"vgpu_vm_watchdog_kills_total", "Workers that did not return a lease in time and were killed.",
     "watchdog_kills", COUNT, true},
    {"vgpu_vm_faults_total", "Workers that were lost while their session went on, killed ones too.",
     "faults", COUNT, true},
    {"vgpu_vm_attaches_total", "Connections of its device, or of clients of that user.", "attaches",
     COUNT, true},
    {"vgpu_vm_sessions_opened_total", "Sessions that were opened.", "sessions_opened", COUNT, true},
    {"vgpu_vm_workers_started_total", "Worker processes that were started.", "workers_started",
     COUNT, true},
    {"vgpu_vm_requests_total", "Requests by mailbox.", "requests", COUNT, true},
    {"vgpu_vm_request_errors_total", "Requests by mailbox that were answered with an error code.",
     "request_errors", COUNT, true},
    {"vgpu_vm_request_cancels_total", "Requests by mailbox that were cancelled before the answer.",
     "cancels", COUNT, true},
    {"vgpu_vm_request_bytes_total", "Bytes of requests by mailbox.", "request_bytes", COUNT, true},
    {"vgpu_vm_response_bytes_total", "Bytes of answers by mailbox.", "response_bytes", COUNT, true},
    {"vgpu_vm_records_total", "Records that were taken from channels.", "records", COUNT, true},
    {"vgpu_vm_calls_total", "CUDA calls that were run or refused.", "calls", COUNT, true},
    {"vgpu_vm_posted_calls_total", "CUDA calls that nobody waits for.", "posts", COUNT, true},
    {"vgpu_vm_launches_total", "Kernel launches.", "launches", COUNT, true},
};

static const struct metric gpu_metrics[] = {
    {"vgpu_gpu_vms", "VMs and local clients that are placed on it.", "vms", COUNT, false},
    {"vgpu_gpu_workers", "Worker processes on it.", "workers", COUNT, false},
    {"vgpu_gpu_lease_holders", "Leases of it that are out.", "holders", COUNT, false},
    {"vgpu_gpu_contexts", "GPU contexts on it that there are or may be.", "contexts", COUNT, false},
    {"vgpu_gpu_memory_bytes", "Device memory that may be taken; 0: no limit is known.", "memory",
     COUNT, false},
    {"vgpu_gpu_memory_used_bytes", "Device memory that VMs hold.", "memory_used", COUNT, false},
    {"vgpu_gpu_leases_total", "Leases of it that were granted.", "leases", COUNT, true},
    {"vgpu_gpu_lease_seconds_total", "Lease time of all its VMs together.", "lease_ns", SECONDS,
     true},
    {"vgpu_gpu_leased_seconds_total", "Time in which somebody had a lease of it.", "leased_ns",
     SECONDS, true},
    {"vgpu_gpu_busy_seconds_total",
     "Time in which those who had its lease had something to do, as their workers say.", "busy_ns",
     SECONDS, true},
    {"vgpu_gpu_watchdog_kills_total", "Workers on it that the watchdog killed.", "watchdog_kills",
     COUNT, true},
};

static const struct metric mediator_metrics[] = {
    {"vgpu_mediator_links", "Connections to devices and of local clients.", "links", COUNT, false},
    {"vgpu_mediator_vms", "VMs and local clients that are attached.", "vms", COUNT, false},
    {"vgpu_mediator_workers", "Worker processes.", "workers", COUNT, false},
    {"vgpu_mediator_attaches_total", "Devices and local clients that were let in.", "attaches",
     COUNT, true},
    {"vgpu_mediator_refusals_total", "Devices and local clients that were refused.", "refusals",
     COUNT, true},
    {"vgpu_mediator_violations_total", "Connections that were closed because they broke the rules.",
     "violations", COUNT, true},
    {"vgpu_mediator_workers_started_total", "Worker processes that were started.",
     "workers_started", COUNT, true},
    {"vgpu_mediator_faults_total", "Workers that were lost while their session went on.", "faults",
     COUNT, true},
    {"vgpu_mediator_watchdog_kills_total", "Workers that the watchdog killed.", "watchdog_kills",
     COUNT, true},
    {"vgpu_mediator_records_forgotten_total",
     "VMs that left and whose figures were dropped, for want of room.", "records_forgotten", COUNT,
     true},
    {"vgpu_mediator_log_dropped_lines_total", "Log lines that could not be written.", "log_dropped",
     COUNT, true},
};
#define METRICS(table) table, sizeof(table) / sizeof((table)[0])

/* The buckets that are shown of each: the rest would be series that say nothing. */
static const struct histogram {
    const char *name, *help, *key;
    unsigned first, last;
} vm_histograms[] = {
    {"vgpu_vm_lease_wait_seconds", "From asking for a lease to having it.", "wait", 6, 27},
    {"vgpu_vm_request_duration_seconds", "From a request by mailbox to its answer.", "mailbox", 6,
     25},
    {"vgpu_vm_call_duration_seconds",
     "How long CUDA calls took in the worker; about one call in 32 is measured.", "call", 0, 24},
};

static void head(struct vgpu_text *t, const char *name, const char *type, const char *help)
{
    vgpu_text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void label(struct vgpu_text *t, const char *name, const char *value)
{
    vgpu_text_printf(t, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '\n')
            vgpu_text_append(t, "\\n", 2);
        else if (*value == '"' || *value == '\\')
            vgpu_text_printf(t, "\\%c", *value);
        else
            vgpu_text_append(t, value, 1);
    }
    vgpu_text_append(t, "\"", 1);
}

static void seconds(struct vgpu_text *t, uint64_t ns)
{
    vgpu_text_printf(t, "%llu.%09llu", (unsigned long long)(ns / 1000000000u),
                     (unsigned long long)(ns % 1000000000u));
}

/* A number that is not negative; false: there is none. */
static bool number(struct json_object *of, const char *key, uint64_t *out)
{
    struct json_object *value;
    if (!json_object_object_get_ex(of, key, &value) || !json_object_is_type(value, json_type_int))
        return false;
    int64_t n = json_object_get_int64(value);
    *out = n > 0 ? (uint64_t)n : 0;
    return true;
}

static const char *string(struct json_object *of, const char *key)
{
    struct json_object *value;
    return json_object_object_get_ex(of, key, &value) &&
                   json_object_is_type(value, json_type_string)
               ? json_object_get_string(value)
               : "";
}

/* `vm="7"`, or `vm="uid:1000"` for a local user; `gpu="0"`; nothing. */
static void labels_of(struct vgpu_text *t, struct json_object *object)
{
    uint64_t n;
    if (number(object, "vm", &n))
        vgpu_text_printf(t, "vm=\"%llu\"", (unsigned long long)n);
    else if (number(object, "uid", &n))
        vgpu_text_printf(t, "vm=\"uid:%llu\"", (unsigned long long)n);
    else if (number(object, "gpu", &n))
        vgpu_text_printf(t, "gpu=\"%llu\"", (unsigned long long)n);
}

static void sample(struct vgpu_text *t, const struct metric *m, struct json_object *of, bool labels)
{
    uint64_t value;
    if (!number(of, m->key, &value))
        return;
    vgpu_text_printf(t, "%s%s", m->name, labels ? "{" : "");
    if (labels) {
        labels_of(t, of);
        vgpu_text_append(t, "}", 1);
    }
    vgpu_text_append(t, " ", 1);
    if (m->form == SECONDS)
        seconds(t, value);
    else
        vgpu_text_printf(t, "%llu", (unsigned long long)value);
    vgpu_text_append(t, "\n", 1);
}

static void head_of(struct vgpu_text *t, const struct metric *m)
{
    head(t, m->name, m->counter ? "counter" : "gauge", m->help);
}

static size_t length_of(struct json_object *array)
{
    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

static void write_table(struct vgpu_text *t, const struct metric *table, size_t count,
                        struct json_object *objects)
{
    for (size_t i = 0; i < count; i++) {
        head_of(t, &table[i]);
        for (size_t j = 0; j < length_of(objects); j++)
            sample(t, &table[i], json_object_array_get_idx(objects, j), true);
    }
}

/* ---- What is no plain number ---- */

static void write_histogram(struct vgpu_text *t, const struct histogram *h, struct json_object *vm)
{
    struct json_object *of, *counts;
    uint64_t sum = 0, so_far = 0;
    if (!json_object_object_get_ex(vm, h->key, &of) ||
        !json_object_object_get_ex(of, "counts", &counts))
        return;
    number(of, "sum_ns", &sum);
    size_t count = length_of(counts);
    for (unsigned i = 0; i < VGPU_HISTOGRAM_BUCKETS; i++) {
        if (i < count) {
            int64_t n = json_object_get_int64(json_object_array_get_idx(counts, i));
            so_far += n > 0 ? (uint64_t)n : 0;
        }
        bool shown = i >= h->first && i <= h->last, end = i == VGPU_HISTOGRAM_BUCKETS - 1;
        if (!shown && !end)
            continue;
        vgpu_text_printf(t, "%s_bucket{", h->name);
        labels_of(t, vm);
        if (end)
            vgpu_text_printf(t, ",le=\"+Inf\"} ");
        else
            vgpu_text_printf(t, ",le=\"%.9g\"} ", (double)vgpu_histogram_limit_ns(i) / 1e9);
        vgpu_text_printf(t, "%llu\n", (unsigned long long)so_far);
    }
    vgpu_text_printf(t, "%s_sum{", h->name);
    labels_of(t, vm);
    vgpu_text_printf(t, "} ");
    seconds(t, sum);
    vgpu_text_printf(t, "\n%s_count{", h->name);
    labels_of(t, vm);
    vgpu_text_printf(t, "} %llu\n", (unsigned long long)so_far);
}

/* A value of the VM's with one label more. */
static void write_labelled(struct vgpu_text *t, const char *name, struct json_object *of,
                           const char *key, const char *label_name, const char *label_value)
{
    uint64_t value;
    if (!number(of, key, &value))
        return;
    vgpu_text_printf(t, "%s{", name);
    labels_of(t, of);
    vgpu_text_append(t, ",", 1);
    label(t, label_name, label_value);
    vgpu_text_printf(t, "} %llu\n", (unsigned long long)value);
}

static void write_vm_errors(struct vgpu_text *t, struct json_object *vm)
{
    struct json_object *errors;
    if (!json_object_object_get_ex(vm, "errors", &errors) ||
        !json_object_is_type(errors, json_type_object))
        return;
    json_object_object_foreach(errors, error, value)
    {
        vgpu_text_printf(t, "vgpu_vm_call_errors_total{");
        labels_of(t, vm);
        vgpu_text_append(t, ",", 1);
        label(t, "error", error);
        vgpu_text_printf(t, "} %llu\n", (unsigned long long)json_object_get_int64(value));
    }
}

static void write_vm_info(struct vgpu_text *t, struct json_object *vm)
{
    char gpu[24] = "";
    uint64_t n;
    if (number(vm, "gpu", &n))
        snprintf(gpu, sizeof(gpu), "%llu", (unsigned long long)n);
    vgpu_text_printf(t, "vgpu_vm_info{");
    labels_of(t, vm);
    vgpu_text_append(t, ",", 1);
    label(t, "pool", string(vm, "pool"));
    vgpu_text_append(t, ",", 1);
    label(t, "gpu", gpu);
    vgpu_text_append(t, ",", 1);
    label(t, "priority", string(vm, "priority"));
    vgpu_text_printf(t, "} 1\n");
}

static void write_vms(struct vgpu_text *t, struct json_object *vms)
{
    head(t, "vgpu_vm_info", "gauge", "Always 1: where it is, and as what.");
    for (size_t i = 0; i < length_of(vms); i++)
        write_vm_info(t, json_object_array_get_idx(vms, i));
    write_table(t, METRICS(vm_metrics), vms);
    head(t, "vgpu_vm_copied_bytes_total", "counter",
         "Bytes that were copied to or from the device.");
    for (size_t i = 0; i < length_of(vms); i++) {
        struct json_object *vm = json_object_array_get_idx(vms, i);
        write_labelled(t, "vgpu_vm_copied_bytes_total", vm, "bytes_to_device", "direction",
                       "to_device");
        write_labelled(t, "vgpu_vm_copied_bytes_total", vm, "bytes_from_device", "direction",
                       "from_device");
    }
    head(t, "vgpu_vm_queue_depth", "gauge",
         "What waits: mailbox: requests without an answer; jobs: requests in workers' queues; "
         "calls: calls that are under way on the GPU.");
    for (size_t i = 0; i < length_of(vms); i++) {
        struct json_object *vm = json_object_array_get_idx(vms, i);
        write_labelled(t, "vgpu_vm_queue_depth", vm, "mailbox_pending", "queue", "mailbox");
        write_labelled(t, "vgpu_vm_queue_depth", vm, "jobs", "queue", "jobs");
        write_labelled(t, "vgpu_vm_queue_depth", vm, "pending", "queue", "calls");
    }
    head(t, "vgpu_vm_call_errors_total", "counter", "CUDA calls that failed, by CUresult.");
    for (size_t i = 0; i < length_of(vms); i++)
        write_vm_errors(t, json_object_array_get_idx(vms, i));
    for (size_t h = 0; h < sizeof(vm_histograms) / sizeof(vm_histograms[0]); h++) {
        head(t, vm_histograms[h].name, "histogram", vm_histograms[h].help);
        for (size_t i = 0; i < length_of(vms); i++)
            write_histogram(t, &vm_histograms[h], json_object_array_get_idx(vms, i));
    }
}

static void write_gpus(struct vgpu_text *t, struct json_object *gpus)
{
    head(t, "vgpu_gpu_info", "gauge", "Always 1: what it is.");
    for (size_t i = 0; i < length_of(gpus); i++) {
        struct json_object *gpu = json_object_array_get_idx(gpus, i);
        vgpu_text_printf(t, "vgpu_gpu_info{");
        labels_of(t, gpu);
        vgpu_text_append(t, ",", 1);
        label(t, "name", string(gpu, "name"));
        vgpu_text_append(t, ",", 1);
        label(t, "backend", string(gpu, "backend"));
        vgpu_text_append(t, ",", 1);
        label(t, "pool", string(gpu, "pool"));
        vgpu_text_printf(t, "} 1\n");
    }
    write_table(t, METRICS(gpu_metrics), gpus);
}

double vgpu_metrics_start_time(struct json_object *stats)
{
    struct json_object *mediator, *started;
    if (!json_object_object_get_ex(stats, "mediator", &mediator) ||
        !json_object_object_get_ex(mediator, "start_time", &started))
        return 0;
    return json_object_get_double(started);
}

static void write_mediator(struct vgpu_text *t, struct json_object *stats,
                           const struct vgpu_exporter_state *state)
{
    struct json_object *mediator = NULL;
    json_object_object_get_ex(stats, "mediator", &mediator);
    head(t, "vgpu_mediator_info", "gauge", "Always 1: which version of vgpu-mediator runs.");
    vgpu_text_printf(t, "vgpu_mediator_info{");
    label(t, "version", string(mediator, "version"));
    vgpu_text_printf(t, "} 1\n");
    head(t, "vgpu_mediator_start_time_seconds", "gauge", "When it was started, since 1970.");
    vgpu_text_printf(t, "vgpu_mediator_start_time_seconds %.3f\n", vgpu_metrics_start_time(stats));
    head(t, "vgpu_mediator_restarts_total", "counter",
         "How often another mediator answered than before, while this exporter ran.");
    vgpu_text_printf(t, "vgpu_mediator_restarts_total %llu\n", (unsigned long long)state->restarts);
    for (size_t i = 0; i < sizeof(mediator_metrics) / sizeof(mediator_metrics[0]); i++) {
        head_of(t, &mediator_metrics[i]);
        sample(t, &mediator_metrics[i], mediator, false);
    }
}

/* ---- The cards, by NVML ---- */

static void write_card(struct vgpu_text *t, const char *name, const struct vgpu_nvml_gpu *gpu,
                       const char *clock, double value)
{
    vgpu_text_printf(t, "%s{", name);
    label(t, "uuid", gpu->uuid);
    if (clock) {
        vgpu_text_append(t, ",", 1);
        label(t, "clock", clock);
    }
    vgpu_text_printf(t, "} %.10g\n", value);
}

static void write_nvml(struct vgpu_text *t, const struct vgpu_nvml_sample *s)
{
    static const struct {
        const char *name, *help;
        enum vgpu_nvml_value value;
    } plain[] = {
        {"vgpu_nvml_temperature_celsius", "The card's temperature.", VGPU_NVML_TEMPERATURE},
        {"vgpu_nvml_power_watts", "What the card takes.", VGPU_NVML_POWER},
        {"vgpu_nvml_utilization_ratio", "Part of the last moments in which a kernel ran.",
         VGPU_NVML_UTILIZATION},
        {"vgpu_nvml_memory_bytes", "The card's memory.", VGPU_NVML_MEMORY},
        {"vgpu_nvml_memory_used_bytes", "What of it is taken, by anybody.", VGPU_NVML_MEMORY_USED},
    };
    static const struct {
        const char *label;
        enum vgpu_nvml_value value;
    } clocks[] = {{"sm", VGPU_NVML_CLOCK_SM}, {"memory", VGPU_NVML_CLOCK_MEMORY}};
    head(t, "vgpu_nvml_up", "gauge", "Whether NVML answered.");
    vgpu_text_printf(t, "vgpu_nvml_up %d\n", s->count > 0);
    head(t, "vgpu_nvml_info", "gauge", "Always 1: a card of this host.");
    for (unsigned i = 0; i < s->count; i++) {
        vgpu_text_printf(t, "vgpu_nvml_info{");
        label(t, "uuid", s->gpus[i].uuid);
        vgpu_text_printf(t, ",index=\"%u\",", i);
        label(t, "model", s->gpus[i].name);
        vgpu_text_printf(t, "} 1\n");
    }
    for (size_t m = 0; m < sizeof(plain) / sizeof(plain[0]); m++) {
        head(t, plain[m].name, "gauge", plain[m].help);
        for (unsigned i = 0; i < s->count; i++)
            if (s->gpus[i].has & 1u << plain[m].value)
                write_card(t, plain[m].name, &s->gpus[i], NULL, s->gpus[i].value[plain[m].value]);
    }
    head(t, "vgpu_nvml_clock_hertz", "gauge", "The card's clocks.");
    for (unsigned i = 0; i < s->count; i++)
        for (size_t c = 0; c < sizeof(clocks) / sizeof(clocks[0]); c++)
            if (s->gpus[i].has & 1u << clocks[c].value)
                write_card(t, "vgpu_nvml_clock_hertz", &s->gpus[i], clocks[c].label,
                           s->gpus[i].value[clocks[c].value]);
}

static void write_exporter(struct vgpu_text *t, const struct vgpu_exporter_state *s)
{
    head(t, "vgpu_exporter_build_info", "gauge", "Always 1: which version of vgpu-exporter runs.");
    vgpu_text_printf(t, "vgpu_exporter_build_info{");
    label(t, "version", s->version);
    vgpu_text_printf(t, "} 1\n");
    head(t, "vgpu_exporter_scrapes_total", "counter", "Requests for these metrics.");
    vgpu_text_printf(t, "vgpu_exporter_scrapes_total %llu\n", (unsigned long long)s->scrapes);
    head(t, "vgpu_exporter_queries_total", "counter", "Questions to the mediator.");
    vgpu_text_printf(t, "vgpu_exporter_queries_total %llu\n", (unsigned long long)s->queries);
    head(t, "vgpu_exporter_query_errors_total", "counter", "Questions that had no good answer.");
    vgpu_text_printf(t, "vgpu_exporter_query_errors_total %llu\n",
                     (unsigned long long)s->query_errors);
    head(t, "vgpu_exporter_query_duration_seconds", "gauge", "How long the last question took.");
    vgpu_text_printf(t, "vgpu_exporter_query_duration_seconds %.6f\n", s->query_seconds);
}

/* Those of a field of the figures that say which they are: the caller's to put. */
static struct json_object *named(struct json_object *stats, const char *key)
{
    struct json_object *all = NULL, *some = json_object_new_array();
    json_object_object_get_ex(stats, key, &all);
    for (size_t i = 0; i < length_of(all); i++) {
        struct json_object *o = json_object_array_get_idx(all, i);
        uint64_t n;
        if (number(o, "vm", &n) || number(o, "uid", &n) || number(o, "gpu", &n))
            json_object_array_add(some, json_object_get(o));
    }
    return some;
}

void vgpu_metrics_write(struct vgpu_text *t, struct json_object *stats,
                        const struct vgpu_exporter_state *state,
                        const struct vgpu_nvml_sample *nvml)
{
    write_exporter(t, state);
    head(t, "vgpu_mediator_up", "gauge", "Whether the mediator answered.");
    vgpu_text_printf(t, "vgpu_mediator_up %d\n", stats != NULL);
    if (stats) {
        struct json_object *vms = named(stats, "vms"), *gpus = named(stats, "gpus");
        write_mediator(t, stats, state);
        write_gpus(t, gpus);
        write_vms(t, vms);
        json_object_put(vms);
        json_object_put(gpus);
    }
    if (nvml)
        write_nvml(t, nvml);
}
