/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs that go past the library share: its handle, its arguments, its sessions. */
#ifndef VGPU_CHANNEL_TEST_H
#define VGPU_CHANNEL_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "guest/vgpu_mmio_client.h"

#define CHANNEL_TEST_PATIENCE_MS 60000u

struct channel_test_options {
    const char *device; /* NULL: the library's choice */
    uint64_t seconds, seed;
};

extern struct vgpu *channel_test_gpu;

/* From argv[2] on. False with a text on stderr. */
bool channel_test_options(int argc, char **argv, struct channel_test_options *options);
/* Opens the device; false after a line FAILED. */
bool channel_test_open(const struct channel_test_options *options);
/* Prints a line FAILED with the library's words. 1. */
int channel_test_fail(const char *what);
/* A request of the session by the mailbox, as the library's functions return. */
int channel_test_request(uint64_t session, uint32_t opcode, const void *prefix, uint32_t length);

#endif
