/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of commands; see command.h. What a field means and may be is docs/control.md's. */
#include <ctype.h>
#include <string.h>

#include "cli/admin/command.h"

/* clang-format off */
#define VMS       {"vm-id", ADMIN_KIND_VMS, "vms", "RANGES", "the VMs: 7, 8-20 or 7,8-20", .required = true}
#define ONE_VM    {"vm-id", ADMIN_KIND_NUMBER, "vm", "N", "the VM", .high = UINT32_MAX, .required = true}
#define SOME_VMS  {"vm-id", ADMIN_KIND_VMS, "vms", "RANGES", "these VMs"}
#define POOL(...)     {"pool", ADMIN_KIND_POOL, .value = "LETTER", .help = "pool, A to Z", __VA_ARGS__}
#define PRIORITY(...) {"priority", ADMIN_KIND_PRIORITY, .value = "P", .help = "low, medium or high", __VA_ARGS__}
#define WEIGHT(...)   {"weight", ADMIN_KIND_NUMBER, .value = "N", .help = "share among VMs of its priority, 1 to 10000", .low = 1, .high = 10000, __VA_ARGS__}
#define RATE(...)     {"rate", ADMIN_KIND_RATE, .value = "SHARE", .help = "at most this share of a GPU's time: 30%, 12.5%", __VA_ARGS__}
#define BURST(...)    {"burst-ms", ADMIN_KIND_NUMBER, "burst_ms", "MS", "what of its rate it may save up, 1 to 60000", .low = 1, .high = 60000, __VA_ARGS__}
#define MEMORY(...)   {"memory", ADMIN_KIND_SIZE, .value = "BYTES", .help = "device memory of all its sessions together: 2G", .low = 1, .high = 1ull << 46, __VA_ARGS__}
#define SESSIONS(...) {"sessions", ADMIN_KIND_NUMBER, .value = "N", .help = "programs at once, 1 to 1024", .low = 1, .high = 1024, __VA_ARGS__}
#define QUEUE(...)    {"queue", ADMIN_KIND_NUMBER, .value = "N", .help = "launches in flight, 1 to 65536", .low = 1, .high = 65536, __VA_ARGS__}
#define SECONDS       {"seconds", ADMIN_KIND_SECONDS, .value = "TIME", .help = "for how long: 90, 15m, 2h, 7d, or 'forever': until somebody ends it", .low = 1, .high = 31536000, .null = "forever"}
#define REASON        {"reason", ADMIN_KIND_TEXT, .value = "TEXT", .help = "why, for the logs and for whoever looks", .high = 128}
#define NAME          {"name", ADMIN_KIND_TEXT, .value = "TEXT", .help = "for people; one VM only", .high = 64}
#define GPU           {"gpu", ADMIN_KIND_GPU, .value = "GPU", .help = "number or name of list-gpus"}
#define DRAINED       {"pool", ADMIN_KIND_POOL, .value = "LETTER", .help = "all of this pool"}
#define BACK          .null = "default"

const struct admin_command admin_commands[] = {
    {"status", "what the mediator does, in short", .show = admin_show_status},
    {"list-vms", "VMs that are registered, attached, quarantined or draining",
     .show = admin_show_vms},
    {"show-vm", "everything about one VM", .words = {"vm-id"}, .options = {ONE_VM},
     .show = admin_show_vm},
    {"list-pools", "pools and their GPUs", .show = admin_show_pools},
    {"list-gpus", "GPUs, who uses them and what is wrong with them", .show = admin_show_gpus},
    {"top", "live view of GPUs and VMs",
     .options = {{"interval", ADMIN_KIND_OWN, .value = "SECONDS", .help = "between two looks, 0.1 to 3600; default 2"},
                 {"batch", ADMIN_KIND_OWN, .value = "N", .help = "N looks as plain text (or JSON), then end"},
                 {"sort", ADMIN_KIND_OWN, .value = "COLUMN", .help = "vm, name, share (default), wait, queue, memory, launches, errors"},
                 {"filter", ADMIN_KIND_OWN, .value = "TEXT", .help = "only VMs with this in number, name, pool, priority or state"}},
     .explain = "Keys: s or < > another column to sort by, r the other way round, / filter (Esc: none),\n"
                "space pause, + - interval, arrows and Page Up/Down, h help, q quit.\n"},
    {"events", "what happened, oldest first",
     .options = {{"follow", ADMIN_KIND_OWN, .help = "go on with what happens, until interrupted"},
                 {"since", ADMIN_KIND_NUMBER, .value = "SEQ", .help = "only after this number", .high = 1ull << 53},
                 {"limit", ADMIN_KIND_NUMBER, .value = "N", .help = "at most the newest N, 1 to 1000; default 100", .low = 1, .high = 1000}}},
    {"audit", "who changed what, newest first",
     .options = {{"limit", ADMIN_KIND_NUMBER, .value = "N", .help = "at most N, 1 to 1000; default 100", .low = 1, .high = 1000},
                 {"before", ADMIN_KIND_NUMBER, .value = "SEQ", .help = "only with smaller numbers", .low = 1, .high = 1ull << 53}},
     .show = admin_show_audit},
    {"doctor", "checks this host and says what to do",
     .options = {{"config", ADMIN_KIND_OWN, .value = "FILE", .help = "the mediator's configuration; default: the installed one"},
                 {"worker", ADMIN_KIND_OWN, .value = "FILE", .help = "the worker's program; default: as the mediator looks for it"},
                 {"root", ADMIN_KIND_OWN, .value = "DIR", .help = "look for the host's files below DIR"}},
     .explain = "Each line is ok, warn or bad. Exit status 0: nothing is bad; 1: something is.\n"},

    {"register-vm", "puts VMs into the registry", .words = {"vm-id"},
     .options = {VMS, NAME, POOL(), PRIORITY(), WEIGHT(), RATE(), BURST(), MEMORY(), SESSIONS(), QUEUE()},
     .show = admin_show_change},
    {"remove-vm", "takes VMs out of the registry", .words = {"vm-id"},
     .options = {VMS, {"force", ADMIN_KIND_FLAG, .help = "attached ones too: their sessions end"}},
     .show = admin_show_change},
    {"set-name", "names a VM", .words = {"vm-id", "name"},
     .options = {{"vm-id", ADMIN_KIND_VMS, .field = "vms", .value = "N", .help = "the VM", .required = true}, {"name", ADMIN_KIND_TEXT, .value = "TEXT", .help = "for people; one VM only", .high = 64, .required = true}},
     .show = admin_show_change},
    {"set-pool", "moves VMs to a pool", .words = {"vm-id", "pool"},
     .options = {VMS, POOL(.required = true, BACK)}, .show = admin_show_change,
     .explain = "Sessions that run stay on their GPU until they end.\n"},
    {"set-priority", "low, medium or high", .words = {"vm-id", "priority"},
     .options = {VMS, PRIORITY(.required = true, BACK)}, .show = admin_show_change},
    {"set-weight", "a VM's share among those of its priority", .words = {"vm-id", "weight"},
     .options = {VMS, WEIGHT(.required = true, BACK)}, .show = admin_show_change},
    {"set-rate", "a limit on a VM's share of GPU time", .words = {"vm-id", "rate"},
     .options = {VMS, RATE(.required = true, BACK), BURST(BACK)}, .show = admin_show_change},
    {"set-quota", "memory, programs and launches at once", .words = {"vm-id"},
     .options = {VMS, MEMORY(BACK), SESSIONS(BACK), QUEUE(BACK)}, .any_of = "memory sessions queue",
     .show = admin_show_change},
    {"add-pool", "makes a pool", .words = {"pool"},
     .options = {POOL(.required = true),
                 {"backend", ADMIN_KIND_BACKEND, .value = "B", .help = "software or cuda: all GPUs of it that are in no pool; default software"},
                 {"gpus", ADMIN_KIND_GPUS, .value = "LIST", .help = "its GPUs, with commas: numbers or names of list-gpus, or 'software' for each further one"}},
     .show = admin_show_change},
    {"remove-pool", "removes a pool in which no VM is", .words = {"pool"},
     .options = {POOL(.required = true)}, .show = admin_show_change},
    {"assign-gpu", "moves a GPU to a pool", .words = {"pool", "gpu"},
     .options = {POOL(.required = true), {"gpu", ADMIN_KIND_GPU, .value = "GPU", .help = "number or name of list-gpus, or 'software': a further one", .required = true}},
     .show = admin_show_change},
    {"quarantine", "ends the sessions of VMs and lets them begin none", .words = {"vm-id"},
     .options = {VMS, SECONDS, REASON}, .show = admin_show_change},
    {"release", "ends a quarantine", .words = {"vm-id"}, .options = {VMS},
     .show = admin_show_change},
    {"drain", "lets what runs end, and nothing begin",
     .options = {GPU, DRAINED, SOME_VMS, SECONDS, REASON}, .one_of = "gpu pool vm-id",
     .show = admin_show_change},
    {"undrain", "ends draining", .options = {GPU, DRAINED, SOME_VMS}, .one_of = "gpu pool vm-id",
     .show = admin_show_change},
    {0},
};
/* clang-format on */

const struct admin_command *admin_command_find(const char *name)
{
    for (const struct admin_command *c = admin_commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

static void print_option(const struct admin_option *o, FILE *out)
{
    char left[64];
    snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value ? " " : "",
             o->value ? o->value : "");
    bool named = o->null && !strstr(o->help, o->null);
    fprintf(out, "  %-18s  %s%s%s%s\n", left, o->help, named ? ", or '" : "", named ? o->null : "",
            named ? "': what holds without the registry" : "");
}

void admin_command_usage(const struct admin_command *command, FILE *out)
{
    fprintf(out, "usage: vgpu-admin %s", command->name);
    for (const struct admin_option *o = command->options; o->kind != ADMIN_KIND_END; o++) {
        bool bare = false;
        for (unsigned i = 0; i < ADMIN_COMMAND_WORDS; i++)
            bare = bare || (command->words[i] && !strcmp(command->words[i], o->name));
        fputs(o->required ? " " : " [", out);
        fprintf(out, bare ? "[--%s]%s%s" : "--%s%s%s", o->name, o->value ? " " : "",
                o->value ? o->value : "");
        fputs(o->required ? "" : "]", out);
    }
    fprintf(out, "\n\n%c%s.\n", toupper((unsigned char)command->summary[0]), command->summary + 1);
    for (const struct admin_option *o = command->options; o->kind != ADMIN_KIND_END; o++)
        print_option(o, out);
    fputs("  --json              the mediator's answer, one JSON object\n"
          "  --control PATH      the mediator's control socket (also: VGPU_CONTROL)\n",
          out);
    if (command->one_of)
        fprintf(out, "Exactly one of: %s.\n", command->one_of);
    if (command->any_of)
        fprintf(out, "At least one of: %s.\n", command->any_of);
    if (command->explain)
        fputs(command->explain, out);
}
