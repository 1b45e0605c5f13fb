/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines out of a stream that somebody else writes: bounded, whatever comes. Pure. It does not know
 * where the bytes come from.
 */
#ifndef VGPU_MEDIATOR_LINES_H
#define VGPU_MEDIATOR_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/log.h"

#define VGPU_LINE_BYTES 480u /* of a line; what is longer is cut */

/* A zeroed one is empty. */
struct vgpu_lines {
    uint32_t length;
    bool cut; /* the line was longer */
    char text[VGPU_LINE_BYTES];
};

/*
 * Takes bytes up to the end of a line. Returns how many it took; *whole says that text and length
 * are a line now (without its newline), which is the caller's to use before the next call.
 */
size_t vgpu_lines_take(struct vgpu_lines *lines, const char *bytes, size_t size, bool *whole);

/*
 * Where the message of a line begins: behind time, level and program when it looks like vgpu_log's
 * (*level says which), else at 0, and *level is warn: nobody but a driver, a C library or a
 * sanitizer writes other lines, and they mean it. What it looks like proves nothing.
 */
size_t vgpu_lines_message(const char *text, size_t length, enum vgpu_log_level *level);

#endif
