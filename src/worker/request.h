/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a request is called in logs, and in what a guest is told of a failure: one by mailbox by its
 * REQUEST_ID, as in 4711; a record of a channel by the channel and the units of its ring before it,
 * since the channel was attached, as in 3.17432. Both ends of a ring know that without saying it,
 * so it costs nothing (docs/mediator.md, "Following a request").
 */
#ifndef VGPU_WORKER_REQUEST_H
#define VGPU_WORKER_REQUEST_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

/* A REQUEST_ID below 2^32, or with the highest bit a channel and its units. 0: none. */
typedef uint64_t vgpu_request_name;

#define VGPU_REQUEST_NONE     0u
#define VGPU_REQUEST_TEXT     32u
#define VGPU_REQUEST_UNITS    (((uint64_t)1 << 56) - 1) /* 30 years of posts without a pause */
#define VGPU_REQUEST_CHANNELS ((uint64_t)1 << 63)

static inline vgpu_request_name vgpu_request_of_record(uint32_t channel, uint64_t units)
{
    return VGPU_REQUEST_CHANNELS | (uint64_t)(channel & 0x7f) << 56 | (units & VGPU_REQUEST_UNITS);
}

/* Into `text`, VGPU_REQUEST_TEXT bytes, which it answers; "-" for none. */
static inline const char *vgpu_request_text(vgpu_request_name name, char *text)
{
    if (name & VGPU_REQUEST_CHANNELS)
        snprintf(text, VGPU_REQUEST_TEXT, "%u.%" PRIu64, (unsigned)(name >> 56 & 0x7f),
                 name & VGPU_REQUEST_UNITS);
    else
        snprintf(text, VGPU_REQUEST_TEXT, name ? "%" PRIu64 : "-", name);
    return text;
}

#endif
