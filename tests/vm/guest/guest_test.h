/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the test programs inside a VM share. Each prints a line for each check, ends with a line
 * RESULT and key=value words, and exits 0 passed, 1 failed, 77 cannot run here.
 */
#ifndef VGPU_GUEST_TEST_H
#define VGPU_GUEST_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/cli.h"
#include "guest/vgpu_mmio_client.h"

#define GUEST_SKIP 77

extern unsigned guest_checks, guest_failures;

/* Counts and prints one check: "ok R6 ..." or "FAILED R6 ...". Returns `good`. */
bool guest_check(bool good, const char *clause, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Prints a line at once, so that a test outside the VM sees it when it is true. */
void guest_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Waits for one line on stdin. False: there is none any more. */
bool guest_wait_line(void);

/* Opens the device; exits with 77 when there is none, since nothing can be tested then. */
struct vgpu *guest_open(const char *program, struct vgpu_options *options);

/* The registers past the library: BAR0 mapped, and the mailbox's lock held until the program ends.
 * Exits with 77 when there is none. */
volatile uint8_t *guest_map(const char *program, struct vgpu *gpu);
/* "/sys/bus/pci/devices/..." of the device. */
const char *guest_sysfs_dir(struct vgpu *gpu);

/* Prints the RESULT line's end and returns the exit status. `extra` is more key=value words. */
int guest_finish(const char *program, const char *extra);

/* ---- Requests put together by hand, for what the library would not send ---- */

struct guest_request {
    uint8_t bytes[2048];
    uint32_t length;
};

/* A request with its header; params and data may be added. */
void guest_request_init(struct guest_request *request, uint32_t opcode, uint32_t flags);
/* Adds params; before any data. */
void guest_request_params(struct guest_request *request, const uint32_t *params, uint32_t count);
/* Adds the data part. */
void guest_request_data(struct guest_request *request, const void *data, uint32_t length);
/* Overwrites one word of the bytes. */
void guest_request_poke(struct guest_request *request, uint32_t offset, uint32_t value);

/* Makes the request through the mailbox. True when the device answered; `answer` is zero when the
 * response is none. */
bool guest_exchange(struct vgpu *gpu, const struct guest_request *request,
                    struct vgpu_response *response, struct vgpu_answer *answer);

#endif
