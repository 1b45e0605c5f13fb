/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A text that grows as it is written. Knows nothing of what is in it. One thread at a time. */
#ifndef VGPU_COMMON_TEXT_H
#define VGPU_COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Zero it to begin. */
struct vgpu_text {
    char *bytes; /* with a NUL at length; NULL: nothing was written */
    size_t length, room;
    bool failed; /* no memory: nothing that is written after that is in it */
};

void vgpu_text_printf(struct vgpu_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void vgpu_text_append(struct vgpu_text *text, const char *bytes, size_t length);

/* "text" as JSON has it, in quotes; control characters and what is no UTF-8 as escapes. */
void vgpu_text_json(struct vgpu_text *text, const char *string);

/* Hands out the bytes, which are the caller's to free, and starts anew. NULL: there was no memory.
 */
char *vgpu_text_take(struct vgpu_text *text);
void vgpu_text_free(struct vgpu_text *text);

#endif
