/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the test programs inside a VM share. See guest_test.h. */
#include "guest_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

unsigned guest_checks, guest_failures;

bool guest_check(bool good, const char *clause, const char *format, ...)
{
    va_list arguments;
    guest_checks++;
    if (!good)
        guest_failures++;
    printf("%-6s %-4s ", good ? "ok" : "FAILED", clause);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
    return good;
}

void guest_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

bool guest_wait_line(void)
{
    int c;
    do {
        c = getchar();
    } while (c != '\n' && c != EOF);
    return c == '\n';
}

struct vgpu *guest_open(const char *program, struct vgpu_options *options)
{
    struct vgpu *gpu;
    int err = vgpu_init(options, &gpu);
    if (err == 0)
        return gpu;
    fprintf(stderr, "%s: %s\n", program, vgpu_last_error_text());
    exit(err == -ENODEV || err == -ENOENT ? GUEST_SKIP : 1);
}

const char *guest_sysfs_dir(struct vgpu *gpu)
{
    static char path[320];
    const char *address = vgpu_address(gpu);
    if (strncmp(address, "pci:", 4) != 0)
        return NULL;
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address + 4);
    return path;
}

volatile uint8_t *guest_map(const char *program, struct vgpu *gpu)
{
    char path[400];
    const char *dir = guest_sysfs_dir(gpu);
    if (!dir) {
        fprintf(stderr, "%s: %s has no registers to map\n", program, vgpu_address(gpu));
        exit(GUEST_SKIP);
    }
    snprintf(path, sizeof(path), "%s/resource0", dir);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_SYNC);
    void *bar =
        fd < 0 ? MAP_FAILED : mmap(NULL, VGPU_BAR0_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bar == MAP_FAILED || flock(fd, LOCK_EX) < 0) {
        fprintf(stderr, "%s: %s cannot be mapped: %s\n", program, path, strerror(errno));
        exit(GUEST_SKIP);
    }
    return bar;
}

int guest_finish(const char *program, const char *extra)
{
    printf("RESULT program=%s checks=%u failures=%u%s%s verdict=%s\n", program, guest_checks,
           guest_failures, extra && *extra ? " " : "", extra ? extra : "",
           guest_failures ? "failed" : "ok");
    fflush(stdout);
    return guest_failures ? 1 : 0;
}

void guest_request_init(struct guest_request *request, uint32_t opcode, uint32_t flags)
{
    struct vgpu_request_header header = {
        .version = VGPU_PROTOCOL_VERSION, .opcode = opcode, .flags = flags};
    memset(request, 0, sizeof(*request));
    memcpy(request->bytes, &header, sizeof(header));
    request->length = sizeof(header);
}

void guest_request_params(struct guest_request *request, const uint32_t *params, uint32_t count)
{
    memcpy(request->bytes + request->length, params, (size_t)count * 4);
    request->length += count * 4;
    guest_request_poke(request, offsetof(struct vgpu_request_header, param_count), count);
}

void guest_request_data(struct guest_request *request, const void *data, uint32_t length)
{
    uint32_t offset = (request->length + 7) & ~7u;
    memcpy(request->bytes + offset, data, length);
    request->length = offset + length;
    guest_request_poke(request, offsetof(struct vgpu_request_header, data_offset), offset);
    guest_request_poke(request, offsetof(struct vgpu_request_header, data_length), length);
}

void guest_request_poke(struct guest_request *request, uint32_t offset, uint32_t value)
{
    memcpy(request->bytes + offset, &value, sizeof(value));
}

bool guest_exchange(struct vgpu *gpu, const struct guest_request *request,
                    struct vgpu_response *response, struct vgpu_answer *answer)
{
    *answer = (struct vgpu_answer){0};
    int err = vgpu_execute_request(gpu, request->bytes, request->length, 0, 0, response);
    if (err < 0) {
        guest_say("note        the request was not answered: %s", vgpu_last_error_text());
        return false;
    }
    if (vgpu_response_parse(response->bytes, response->length, answer) < 0) {
        guest_say("note        %s", vgpu_last_error_text());
        return false;
    }
    return true;
}
