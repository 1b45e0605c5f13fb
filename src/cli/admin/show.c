/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mediator's answers as people read them: tables, and facts about one thing. */
#include <inttypes.h>
#include <string.h>

#include "cli/admin/admin.h"

/* Text of a member that is a number or null. */
static const char *number_text(char out[24], struct json_object *object, const char *name)
{
    if (admin_has(object, name))
        snprintf(out, 24, "%" PRId64, admin_number(object, name, 0));
    else
        snprintf(out, 24, "-");
    return out;
}

/* "quarantined until 2026-05-04 12:30:05: reason", without what is not there. */
static void state_text(char out[256], struct json_object *o)
{
    char time[32];
    const char *reason = admin_text(o, "reason", "");
    double until = admin_real(o, "until", 0);
    snprintf(out, 256, "%s%s%s%s%s", admin_text(o, "state", "?"), until > 0 ? " until " : "",
             until > 0 ? admin_time(time, until) : "", *reason ? ": " : "", reason);
}

void admin_show_vms(struct json_object *result, FILE *out)
{
    static const struct admin_column columns[] = {
        {.title = "VM", .right = true},
        {.title = "NAME", .least = 8, .drop = 7},
        {.title = "POOL"},
        {.title = "PRIORITY", .drop = 1},
        {.title = "WEIGHT", .right = true, .drop = 6},
        {.title = "RATE", .right = true, .drop = 5},
        {.title = "MEMORY", .right = true, .drop = 4},
        {.title = "QUOTA", .right = true, .drop = 3},
        {.title = "GPU", .right = true, .drop = 2},
        {.title = "PROGRAMS", .right = true, .drop = 8},
        {.title = "STATE", .least = 11},
    };
    struct json_object *vms = admin_array(result, "vms");
    size_t count = vms ? json_object_array_length(vms) : 0;
    if (!count) {
        fputs("no VM is registered, attached, quarantined or draining\n", out);
        return;
    }
    struct admin_table *t = admin_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; i < count; i++) {
        struct json_object *vm = json_object_array_get_idx(vms, i);
        char number[24], size[16], state[256];
        admin_table_printf(t, "%" PRId64, admin_number(vm, "vm", -1));
        admin_table_add(t, admin_text(vm, "name", ""));
        admin_table_add(t, admin_text(vm, "pool", "-"));
        admin_table_add(t, admin_text(vm, "priority", "-"));
        admin_table_add(t, number_text(number, vm, "weight"));
        admin_table_add(t, admin_text(vm, "rate", "-"));
        admin_table_add(t, admin_size(size, (uint64_t)admin_number(vm, "memory_used", 0)));
        admin_table_add(t, admin_has(vm, "memory")
                               ? admin_size(size, (uint64_t)admin_number(vm, "memory", 0))
                               : "-");
        admin_table_add(t, number_text(number, vm, "gpu"));
        admin_table_printf(t, "%" PRId64, admin_number(vm, "open_sessions", 0));
        state_text(state, vm);
        if (!admin_flag(vm, "registered") && strlen(state) + 14 < sizeof(state))
            strcat(state, " (a stranger)");
        admin_table_add(t, state);
    }
    admin_table_print(t, out, admin_terminal_columns());
    admin_table_free(t);
}

static void fact(FILE *out, const char *name, const char *value)
{
    char clean[512];
    fprintf(out, "%-14s  %s\n", name, admin_clean(clean, sizeof(clean), value));
}

static void fact_number(FILE *out, const char *name, struct json_object *o, const char *member)
{
    char text[24];
    fact(out, name, number_text(text, o, member));
}

/* A limit, or that nobody said one. */
static void quota_text(char out[48], struct json_object *vm, const char *name, bool bytes)
{
    char size[16];
    if (!admin_has(vm, name))
        snprintf(out, 48, "the default");
    else if (bytes)
        snprintf(out, 48, "%s bytes", admin_size(size, (uint64_t)admin_number(vm, name, 0)));
    else
        snprintf(out, 48, "%" PRId64, admin_number(vm, name, 0));
}

/* What it is doing and has done; without a mediator nobody knows. */
static void show_use(struct json_object *vm, FILE *out)
{
    char text[320];
    snprintf(text, sizeof(text), admin_has(vm, "gpu") ? "%" PRId64 "%s" : "-",
             admin_number(vm, "gpu", 0),
             admin_flag(vm, "moving") ? ", and sessions that still run on another" : "");
    fact(out, "gpu", text);
    snprintf(text, sizeof(text), "%s%" PRId64 " so far, %" PRId64 " ms, %" PRId64 " recalled",
             admin_flag(vm, "holding")   ? "held now; "
             : admin_flag(vm, "waiting") ? "waits for one; "
                                         : "",
             admin_number(vm, "leases", 0), admin_number(vm, "lease_ms", 0),
             admin_number(vm, "recalls", 0));
    fact(out, "leases", text);
    snprintf(text, sizeof(text), "%" PRId64 ", %" PRId64 " errors", admin_number(vm, "requests", 0),
             admin_number(vm, "errors", 0));
    fact(out, "requests", text);
    fact_number(out, "faults", vm, "faults");
}

void admin_show_vm(struct json_object *result, FILE *out)
{
    struct json_object *vm = admin_object(result, "vm");
    char text[320], size[16], quota[48];
    fact_number(out, "vm", vm, "vm");
    if (*admin_text(vm, "name", ""))
        fact(out, "name", admin_text(vm, "name", ""));
    fact(out, "registered", admin_flag(vm, "registered") ? "yes" : "no");
    if (admin_flag(vm, "local")) {
        snprintf(text, sizeof(text), "yes, programs of uid %" PRId64, admin_number(vm, "uid", -1));
        fact(out, "local", text);
    }
    state_text(text, vm);
    fact(out, "state", text);
    fact(out, "attached", admin_flag(vm, "attached") ? "yes" : "no");
    fact(out, "pool", admin_text(vm, "pool", "the device's wish"));
    fact(out, "priority", admin_text(vm, "priority", "the device's wish"));
    fact_number(out, "weight", vm, "weight");
    if (admin_has(vm, "rate"))
        snprintf(text, sizeof(text), "%s of a GPU's time", admin_text(vm, "rate", "?"));
    else
        snprintf(text, sizeof(text), "no limit");
    if (admin_has(vm, "rate") && admin_has(vm, "burst_ms"))
        snprintf(text + strlen(text), sizeof(text) - strlen(text), ", saves up %" PRId64 " ms",
                 admin_number(vm, "burst_ms", 0));
    fact(out, "rate", text);
    bool used = admin_has(vm, "memory_used");
    quota_text(quota, vm, "memory", true);
    snprintf(text, sizeof(text), "%s%s%s",
             used ? admin_size(size, (uint64_t)admin_number(vm, "memory_used", 0)) : "",
             used ? " of " : "", quota);
    fact(out, "memory", text);
    quota_text(quota, vm, "sessions", false);
    if (admin_has(vm, "open_sessions"))
        snprintf(text, sizeof(text), "%" PRId64 " of %s, %" PRId64 " workers",
                 admin_number(vm, "open_sessions", 0), quota, admin_number(vm, "workers", 0));
    else
        snprintf(text, sizeof(text), admin_has(vm, "sessions") ? "at most %s" : "%s", quota);
    fact(out, "programs", text);
    quota_text(quota, vm, "queue", false);
    snprintf(text, sizeof(text), admin_has(vm, "queue") ? "at most %s launches" : "%s", quota);
    fact(out, "queue", text);
    if (admin_has(vm, "leases"))
        show_use(vm, out);
}

/* "0 1 3", or "-". */
static void numbers_text(char *out, size_t size, struct json_object *array)
{
    size_t at = 0, count = array ? json_object_array_length(array) : 0;
    snprintf(out, size, "-");
    for (size_t i = 0; i < count && at + 24 < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i ? " " : "",
                               json_object_get_string(json_object_array_get_idx(array, i)));
}

void admin_show_pools(struct json_object *result, FILE *out)
{
    static const struct admin_column columns[] = {
        {.title = "POOL"},
        {.title = "BACKEND"},
        {.title = "GPUS", .least = 8},
        {.title = "VMS", .right = true},
        {.title = "FROM", .drop = 1},
        {.title = "STATE"},
    };
    struct json_object *pools = admin_array(result, "pools");
    struct admin_table *t = admin_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; pools && i < json_object_array_length(pools); i++) {
        struct json_object *pool = json_object_array_get_idx(pools, i);
        char text[256], time[32];
        admin_table_add(t, admin_text(pool, "pool", "?"));
        admin_table_add(t, admin_text(pool, "backend", "-"));
        numbers_text(text, sizeof(text), admin_array(pool, "gpus"));
        admin_table_add(t, text);
        admin_table_printf(t, "%" PRId64, admin_number(pool, "vms", 0));
        admin_table_add(t, admin_text(pool, "source", "-"));
        double until = admin_real(pool, "until", 0);
        if (admin_flag(pool, "draining"))
            admin_table_printf(t, "draining%s%s", until > 0 ? " until " : "",
                               until > 0 ? admin_time(time, until) : "");
        else
            admin_table_add(t, "ok");
    }
    admin_table_print(t, out, admin_terminal_columns());
    admin_table_free(t);
}

void admin_show_gpus(struct json_object *result, FILE *out)
{
    static const struct admin_column columns[] = {
        {.title = "GPU", .right = true},
        {.title = "NAME", .least = 8, .drop = 2},
        {.title = "POOL"},
        {.title = "MODEL", .least = 8, .drop = 1},
        {.title = "MEMORY", .right = true, .drop = 3},
        {.title = "VMS", .right = true},
        {.title = "WORKERS", .right = true, .drop = 4},
        {.title = "HELD BY", .least = 4, .drop = 5},
        {.title = "STATE", .least = 8},
    };
    struct json_object *gpus = admin_array(result, "gpus");
    struct admin_table *t = admin_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; gpus && i < json_object_array_length(gpus); i++) {
        struct json_object *gpu = json_object_array_get_idx(gpus, i);
        char text[256], size[16], time[32];
        int64_t memory = admin_number(gpu, "memory", 0);
        double until = admin_real(gpu, "until", 0);
        admin_table_printf(t, "%" PRId64, admin_number(gpu, "gpu", -1));
        admin_table_add(t, admin_text(gpu, "name", "?"));
        admin_table_add(t, admin_text(gpu, "pool", "-"));
        admin_table_add(t, admin_text(gpu, "model", ""));
        admin_table_add(t, memory > 0 ? admin_size(size, (uint64_t)memory) : "-");
        admin_table_printf(t, "%" PRId64, admin_number(gpu, "vms", 0));
        admin_table_printf(t, "%" PRId64, admin_number(gpu, "workers", 0));
        numbers_text(text, sizeof(text), admin_array(gpu, "holders"));
        admin_table_add(t, text);
        if (!admin_flag(gpu, "usable"))
            snprintf(text, sizeof(text), "cannot be used: %s", admin_text(gpu, "reason", "?"));
        else
            snprintf(text, sizeof(text), "%s%s%s", admin_text(gpu, "state", "?"),
                     until > 0 ? " until " : "", until > 0 ? admin_time(time, until) : "");
        admin_table_add(t, text);
    }
    admin_table_print(t, out, admin_terminal_columns());
    admin_table_free(t);
}

void admin_show_status(struct json_object *result, FILE *out)
{
    struct json_object *vms = admin_object(result, "vms");
    struct json_object *registry = admin_object(result, "registry");
    char text[512], span[32], time[32];
    fact(out, "version", admin_text(result, "version", "?"));
    snprintf(text, sizeof(text), "%" PRId64 ", up %s since %s", admin_number(result, "pid", 0),
             admin_span(span, admin_real(result, "uptime_s", 0)),
             admin_time(time, admin_real(result, "started", 0)));
    fact(out, "process", text);
    fact(out, "you may", admin_flag(result, "may_change") ? "read and change" : "read");
    snprintf(text, sizeof(text),
             "%" PRId64 " registered, %" PRId64 " attached, %" PRId64 " quarantined, %" PRId64
             " draining; strangers are %s",
             admin_number(vms, "registered", 0), admin_number(vms, "attached", 0),
             admin_number(vms, "quarantined", 0), admin_number(vms, "draining", 0),
             admin_flag(result, "admit_unknown") ? "admitted" : "refused");
    fact(out, "vms", text);
    snprintf(text, sizeof(text), "%s; GPUs: %" PRId64, admin_text(result, "pools", "none"),
             admin_number(result, "gpus", 0));
    fact(out, "pools", text);
    snprintf(text, sizeof(text), "%" PRId64 "; links: %" PRId64, admin_number(result, "workers", 0),
             admin_number(result, "links", 0));
    fact(out, "workers", text);
    if (admin_has(registry, "path"))
        snprintf(text, sizeof(text),
                 "%s: %s, schema %" PRId64 ", changes since the start: %" PRId64,
                 admin_text(registry, "path", "?"), admin_text(registry, "state", "?"),
                 admin_number(registry, "schema", 0), admin_number(registry, "changes", 0));
    else
        snprintf(text, sizeof(text), "none: nothing can be registered");
    fact(out, "registry", text);
    snprintf(text, sizeof(text), "connections: %" PRId64 "; log lines dropped: %" PRId64,
             admin_number(result, "clients", 0), admin_number(result, "log_dropped", 0));
    fact(out, "control", text);
}

void admin_show_event(struct json_object *event, FILE *out)
{
    char time[32], word[32], text[512], about[64] = "";
    if (admin_has(event, "vm"))
        snprintf(about, sizeof(about), "vm %" PRId64 " ", admin_number(event, "vm", 0));
    if (admin_has(event, "gpu"))
        snprintf(about + strlen(about), sizeof(about) - strlen(about), "gpu %" PRId64 " ",
                 admin_number(event, "gpu", 0));
    fprintf(out, "%s  %6" PRId64 "  %-13s  %s%s\n", admin_time(time, admin_real(event, "time", 0)),
            admin_number(event, "seq", 0),
            admin_clean(word, sizeof(word), admin_text(event, "event", "?")), about,
            admin_clean(text, sizeof(text), admin_text(event, "text", "")));
}

void admin_show_events(struct json_object *result, FILE *out)
{
    struct json_object *events = admin_array(result, "events");
    int64_t lost = admin_number(result, "lost", 0);
    if (lost > 0)
        fprintf(out, "(%" PRId64 " earlier events are not kept any more)\n", lost);
    for (size_t i = 0; events && i < json_object_array_length(events); i++)
        admin_show_event(json_object_array_get_idx(events, i), out);
}

void admin_show_audit(struct json_object *result, FILE *out)
{
    static const struct admin_column columns[] = {
        {.title = "SEQ", .right = true},
        {.title = "TIME"},
        {.title = "UID", .right = true},
        {.title = "PID", .right = true, .drop = 2},
        {.title = "WHAT"},
        {.title = "OF", .least = 8},
        {.title = "WAS", .least = 8, .drop = 1},
        {.title = "IS", .least = 8},
    };
    struct json_object *lines = admin_array(result, "audit");
    struct admin_table *t = admin_table_new(columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; lines && i < json_object_array_length(lines); i++) {
        struct json_object *line = json_object_array_get_idx(lines, i);
        char time[32], number[24];
        admin_table_printf(t, "%" PRId64, admin_number(line, "seq", 0));
        admin_table_add(t, admin_time(time, admin_real(line, "time", 0)));
        admin_table_add(t, number_text(number, line, "uid"));
        admin_table_add(t, number_text(number, line, "pid"));
        admin_table_add(t, admin_text(line, "op", "?"));
        admin_table_add(t, admin_text(line, "target", "?"));
        admin_table_add(t, admin_text(line, "old", ""));
        admin_table_add(t, admin_text(line, "new", ""));
    }
    admin_table_print(t, out, admin_terminal_columns());
    admin_table_free(t);
}

/* An array of one, so that what lists many can show it. */
static void show_one(struct json_object *one, const char *name,
                     void (*show)(struct json_object *result, FILE *out), FILE *out)
{
    struct json_object *result = json_object_new_object(), *array = json_object_new_array();
    if (result && array) {
        json_object_array_add(array, json_object_get(one));
        json_object_object_add(result, name, array);
        show(result, out);
    }
    json_object_put(result);
}

void admin_show_change(struct json_object *result, FILE *out)
{
    struct json_object *removed = NULL;
    if (admin_array(result, "vms"))
        admin_show_vms(result, out);
    if (admin_object(result, "pool"))
        show_one(admin_object(result, "pool"), "pools", admin_show_pools, out);
    if (admin_object(result, "gpu"))
        show_one(admin_object(result, "gpu"), "gpus", admin_show_gpus, out);
    json_object_object_get_ex(result, "removed", &removed);
    if (json_object_is_type(removed, json_type_array)) {
        fputs("removed:", out);
        for (size_t i = 0; i < json_object_array_length(removed); i++)
            fprintf(out, " %" PRId64, json_object_get_int64(json_object_array_get_idx(removed, i)));
        fputc('\n', out);
    } else if (removed) {
        char clean[64];
        fprintf(out, "removed: %s\n",
                admin_clean(clean, sizeof(clean), json_object_get_string(removed)));
    }
}
