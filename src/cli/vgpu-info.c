/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-info: what this machine has been given: the device's registers and, when a mediator is
 * attached, the GPU behind it. Reads only; the session it opens is closed before it ends.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "config.h"
#include "guest/vgpu_mmio_client.h"

static const char usage[] =
    "usage: vgpu-info [--device pci:ADDRESS|local:SOCKET] [--json|--summary]\n"
    "       vgpu-info --all\n"
    "\n"
    "Prints what this machine has been given: the vgpu device and the GPU behind it.\n"
    "  --device D  that one, not the first found (also: environment variable VGPU_DEVICE)\n"
    "  --json      one JSON object\n"
    "  --summary   a small table, as nvidia-smi prints one\n"
    "  --all       only list the addresses of all vgpu devices, one a line\n"
    "exit status: 0 all well, 1 no usable device, 2 wrong arguments,\n"
    "             3 the device is there and has no mediator or no GPU behind it\n";

struct facts {
    const char *address;
    uint32_t pool, priority, vm_id, protocol, capabilities, generation, link_state;
    bool has_gpu;
    char why_no_gpu[512];
    char transport[320]; /* how a program's requests travel now, and why; empty: no session */
    struct vgpu_device_info_wire gpu;
};

static const struct {
    uint32_t bit;
    const char *name;
} capability_names[] = {
    {VGPU_CAP_MAILBOX, "mailbox"}, {VGPU_CAP_INTERRUPT, "interrupt"}, {VGPU_CAP_DMA, "dma"},
    {VGPU_CAP_MULTI, "multi"},     {VGPU_CAP_WINDOW, "window"},
};
#define CAPABILITY_NAMES (sizeof(capability_names) / sizeof(capability_names[0]))

static int collect(struct vgpu *gpu, struct facts *facts)
{
    struct vgpu_session *session;
    int err;
    facts->address = vgpu_address(gpu);
    if ((err = vgpu_pool(gpu, &facts->pool)) < 0 ||
        (err = vgpu_priority(gpu, &facts->priority)) < 0 ||
        (err = vgpu_vm_id(gpu, &facts->vm_id)) < 0 ||
        (err = vgpu_protocol_version(gpu, &facts->protocol)) < 0 ||
        (err = vgpu_capabilities(gpu, &facts->capabilities)) < 0 ||
        (err = vgpu_generation(gpu, &facts->generation)) < 0 ||
        (err = vgpu_link_state(gpu, &facts->link_state)) < 0)
        return err;
    if (!(facts->link_state & VGPU_LINK_ATTACHED)) {
        snprintf(facts->why_no_gpu, sizeof(facts->why_no_gpu),
                 "no mediator is attached to the device: is vgpu-mediator running on the host, and "
                 "does it know this VM's socket?");
        return 0;
    }
    if (vgpu_session_open(gpu, &session) == 0) {
        cli_harmless(facts->transport, sizeof(facts->transport), vgpu_session_transport(session),
                     0);
        facts->has_gpu = vgpu_device_info(session, &facts->gpu) == 0;
        if (!facts->has_gpu)
            snprintf(facts->why_no_gpu, sizeof(facts->why_no_gpu), "%s", vgpu_last_error_text());
        vgpu_session_close(session);
    } else {
        snprintf(facts->why_no_gpu, sizeof(facts->why_no_gpu), "%s", vgpu_last_error_text());
    }
    return 0;
}

static void format_uuid(const uint8_t uuid[16], char text[48])
{
    int at = snprintf(text, 48, "GPU-");
    for (int i = 0; i < 16; i++)
        at += snprintf(text + at, 48 - (size_t)at, "%s%02x",
                       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

/* A letter for a person; a register may hold anything. */
static char pool_letter(uint32_t pool)
{
    return pool >= 'A' && pool <= 'Z' ? (char)pool : '?';
}

static void print_text(const struct facts *facts)
{
    const struct vgpu_device_info_wire *gpu = &facts->gpu;
    char name[sizeof(gpu->name)], backend[sizeof(gpu->backend)];
    char total[32], available[32], shared[32], uuid[48];
    printf("device        %s\n", facts->address);
    printf("pool          %c\n", pool_letter(facts->pool));
    printf("priority      %s\n", cli_priority_name(facts->priority));
    printf("vm id         %" PRIu32 "\n", facts->vm_id);
    printf("protocol      %" PRIu32 ".%" PRIu32 "\n", facts->protocol >> 16,
           facts->protocol & 0xFFFF);
    printf("capabilities ");
    for (size_t i = 0; i < CAPABILITY_NAMES; i++)
        if (facts->capabilities & capability_names[i].bit)
            printf(" %s", capability_names[i].name);
    printf(" (0x%" PRIx32 ")\n", facts->capabilities);
    printf("mediator      %s\n",
           facts->link_state & VGPU_LINK_ATTACHED ? "attached" : "not attached");
    printf("generation    %" PRIu32 "\n", facts->generation);
    if (facts->transport[0])
        printf("transport     %s\n", facts->transport);
    if (!facts->has_gpu)
        return;
    format_uuid(gpu->uuid, uuid);
    cli_format_bytes(total, sizeof(total), gpu->total_memory_bytes);
    cli_format_bytes(available, sizeof(available), gpu->free_memory_bytes);
    cli_format_bytes(shared, sizeof(shared), gpu->max_shared_per_block_bytes);
    cli_harmless(backend, sizeof(backend), gpu->backend, 0); /* the host's words, not ours */
    cli_harmless(name, sizeof(name), gpu->name, 0);
    printf("backend       %s\n", backend);
    printf("gpu           %s\n", name);
    printf("uuid          %s\n", uuid);
    printf("memory        %s, %s free\n", total, available);
    printf("compute       %" PRIu32 ".%" PRIu32 "\n", gpu->compute_major, gpu->compute_minor);
    printf("processors    %" PRIu32 ", warps of %" PRIu32 "\n", gpu->multiprocessors,
           gpu->warp_size);
    printf("block         %" PRIu32 " threads, at most %" PRIu32 " x %" PRIu32 " x %" PRIu32
           ", %s shared, %" PRIu32 " registers\n",
           gpu->max_threads_per_block, gpu->max_block_dim[0], gpu->max_block_dim[1],
           gpu->max_block_dim[2], shared, gpu->max_registers_per_block);
    printf("grid          at most %" PRIu32 " x %" PRIu32 " x %" PRIu32 "\n", gpu->max_grid_dim[0],
           gpu->max_grid_dim[1], gpu->max_grid_dim[2]);
    if (gpu->clock_khz)
        printf("clock         %" PRIu32 " MHz\n", gpu->clock_khz / 1000);
}

/* A table for those whose fingers type nvidia-smi. What is a VM's share is told as its card. */
static void print_summary(const struct facts *facts)
{
    static const char line[] =
        "+----------------------------------------+---------------------------"
        "---+\n";
    const struct vgpu_device_info_wire *gpu = &facts->gpu;
    char name[sizeof(gpu->name)], backend[sizeof(gpu->backend)], used[32], total[32], uuid[48];
    char memory[80], place[64], left[64], title[320];
    snprintf(title, sizeof(title), "vgpu %s on %s", VGPU_VERSION, facts->address);
    snprintf(place, sizeof(place), "pool %c, %s, vm %" PRIu32, pool_letter(facts->pool),
             cli_priority_name(facts->priority), facts->vm_id);
    printf("%s| %-69.69s |\n%s", line, title, line);
    if (!facts->has_gpu) {
        printf("| %-38s | %-28.28s |\n%s", "no GPU", place, line);
        return;
    }
    uint64_t free_bytes = gpu->free_memory_bytes < gpu->total_memory_bytes
                              ? gpu->free_memory_bytes
                              : gpu->total_memory_bytes;
    cli_format_bytes(used, sizeof(used), gpu->total_memory_bytes - free_bytes);
    cli_format_bytes(total, sizeof(total), gpu->total_memory_bytes);
    cli_harmless(name, sizeof(name), gpu->name, 0);
    cli_harmless(backend, sizeof(backend), gpu->backend, 0);
    format_uuid(gpu->uuid, uuid);
    snprintf(memory, sizeof(memory), "%s / %s", used, total);
    snprintf(left, sizeof(left), "compute %" PRIu32 ".%" PRIu32 ", %" PRIu32 " SMs, %s",
             gpu->compute_major, gpu->compute_minor, gpu->multiprocessors, backend);
    printf("| %-38.38s | %-28.28s |\n", name, place);
    printf("| %-38.38s | memory %-21.21s |\n", left, memory);
    printf("| %-69.69s |\n%s", uuid, line);
}

static void print_json(const struct facts *facts)
{
    const struct vgpu_device_info_wire *gpu = &facts->gpu;
    printf("{\"device\": ");
    cli_json_string(stdout, facts->address);
    printf(", \"pool\": \"%c\", \"priority\": \"%s\", \"vm_id\": %" PRIu32,
           pool_letter(facts->pool), cli_priority_name(facts->priority), facts->vm_id);
    printf(", \"protocol\": \"%" PRIu32 ".%" PRIu32 "\", \"capabilities\": [",
           facts->protocol >> 16, facts->protocol & 0xFFFF);
    bool first = true;
    for (size_t i = 0; i < CAPABILITY_NAMES; i++) {
        if (!(facts->capabilities & capability_names[i].bit))
            continue;
        printf("%s\"%s\"", first ? "" : ", ", capability_names[i].name);
        first = false;
    }
    printf("], \"attached\": %s, \"generation\": %" PRIu32 ", \"transport\": ",
           facts->link_state & VGPU_LINK_ATTACHED ? "true" : "false", facts->generation);
    if (facts->transport[0])
        cli_json_string(stdout, facts->transport);
    else
        printf("null");
    printf(", \"gpu\": ");
    if (!facts->has_gpu) {
        printf("null}\n");
        return;
    }
    char uuid[48];
    format_uuid(gpu->uuid, uuid);
    printf("{\"name\": ");
    cli_json_string(stdout, gpu->name);
    printf(", \"backend\": ");
    cli_json_string(stdout, gpu->backend);
    printf(", \"uuid\": \"%s\", \"total_memory_bytes\": %" PRIu64
           ", \"free_memory_bytes\": %" PRIu64,
           uuid, gpu->total_memory_bytes, gpu->free_memory_bytes);
    printf(", \"compute_capability\": \"%" PRIu32 ".%" PRIu32 "\", \"multiprocessors\": %" PRIu32
           ", \"warp_size\": %" PRIu32,
           gpu->compute_major, gpu->compute_minor, gpu->multiprocessors, gpu->warp_size);
    printf(", \"max_threads_per_block\": %" PRIu32 ", \"max_block_dim\": [%" PRIu32 ", %" PRIu32
           ", %" PRIu32 "], \"max_grid_dim\": [%" PRIu32 ", %" PRIu32 ", %" PRIu32 "]",
           gpu->max_threads_per_block, gpu->max_block_dim[0], gpu->max_block_dim[1],
           gpu->max_block_dim[2], gpu->max_grid_dim[0], gpu->max_grid_dim[1], gpu->max_grid_dim[2]);
    printf(", \"max_shared_per_block_bytes\": %" PRIu32 ", \"max_registers_per_block\": %" PRIu32
           ", \"clock_khz\": %" PRIu32 "}}\n",
           gpu->max_shared_per_block_bytes, gpu->max_registers_per_block, gpu->clock_khz);
}

static int list_all(void)
{
    struct vgpu_device_entry entries[64];
    size_t count;
    if (vgpu_list_devices(NULL, entries, 64, &count) < 0) {
        fprintf(stderr, "vgpu-info: %s\n", vgpu_last_error_text());
        return VGPU_EXIT_NO_DEVICE;
    }
    for (size_t i = 0; i < count && i < 64; i++)
        printf("pci:%s\n", entries[i].address);
    return count ? VGPU_EXIT_OK : VGPU_EXIT_NO_DEVICE;
}

int main(int argc, char **argv)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    bool json = false, all = false, summary = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            json = true;
        } else if (strcmp(argv[i], "--summary") == 0) {
            summary = true;
        } else if (strcmp(argv[i], "--all") == 0) {
            all = true;
        } else if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return cli_finish("vgpu-info", VGPU_EXIT_OK);
        } else if (strcmp(argv[i], "--version") == 0) {
            puts("vgpu-info " VGPU_VERSION);
            return cli_finish("vgpu-info", VGPU_EXIT_OK);
        } else if (!cli_text_option(argc, argv, &i, "--device", &options.device) ||
                   !options.device) {
            fprintf(stderr, "vgpu-info: wrong argument '%s'\n%s", argv[i], usage);
            return VGPU_EXIT_USAGE;
        }
    }
    if ((all && (json || summary || options.device)) || (json && summary)) {
        fprintf(stderr, "vgpu-info: --all goes with nothing else, --json not with --summary\n%s",
                usage);
        return VGPU_EXIT_USAGE;
    }
    if (all)
        return cli_finish("vgpu-info", list_all());
    struct vgpu *gpu;
    int err = vgpu_init(&options, &gpu);
    if (err < 0) {
        fprintf(stderr, "vgpu-info: %s\n", vgpu_last_error_text());
        return err == -EINVAL ? VGPU_EXIT_USAGE : VGPU_EXIT_NO_DEVICE;
    }
    struct facts facts = {0};
    int status = VGPU_EXIT_OK;
    if (collect(gpu, &facts) < 0) {
        fprintf(stderr, "vgpu-info: %s\n", vgpu_last_error_text());
        status = VGPU_EXIT_NO_DEVICE;
    } else {
        if (json)
            print_json(&facts);
        else if (summary)
            print_summary(&facts);
        else
            print_text(&facts);
        if (!facts.has_gpu) {
            fflush(stdout);
            fprintf(stderr, "vgpu-info: %s\n", facts.why_no_gpu);
            status = VGPU_EXIT_NO_MEDIATOR;
        }
    }
    vgpu_cleanup(gpu);
    return cli_finish("vgpu-info", status);
}
