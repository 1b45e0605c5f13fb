/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * t-scrub fill|check|both [--device D]
 *
 * What the next owner of a channel and of the arena finds there (G6).
 *
 *     fill   fills all of the arena and staging that it can have with 0xA5, prints "FILLED" and
 *            waits for a line; the session is not closed
 *     check  what a new session can have of the arena, and its channel, hold nothing of anybody
 *     both   fill, then check, one session after the other on one window
 *
 * Prints "RESULT key=value ..." and exits 0 when all was right.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel_test.h"
#include "guest/channel.h"
#include "guest/deadline.h"
#include "guest/guest.h"

#define PATTERN    0xA5
#define EXTENT_MAX 256u

/* Everything the arena has, in as many extents as it takes. Bytes of them. */
static uint64_t take_arena(struct vgpu_channel *channel, uint64_t *offsets, uint64_t *sizes,
                           unsigned *count)
{
    uint64_t total = 0;
    uint64_t bytes = (uint64_t)64 << 20;
    *count = 0;
    while (bytes >= VGPU_ARENA_GRANULE && *count < EXTENT_MAX) {
        if (vgpu_channel_arena_alloc(channel, bytes, &offsets[*count]) != 0) {
            bytes /= 2;
            continue;
        }
        sizes[(*count)++] = bytes;
        total += bytes;
    }
    return total;
}

static int open_channel(uint64_t session, struct vgpu_channel **channel)
{
    if (channel_test_request(session, VGPU_OP_SESSION_OPEN, NULL, 0) != 0)
        return channel_test_fail("SESSION_OPEN");
    if (vgpu_channel_open(channel_test_gpu, session, channel) != 0)
        return channel_test_fail("vgpu_channel_open");
    return 0;
}

static int run_fill(uint64_t session, struct vgpu_channel **channel)
{
    static uint64_t offsets[EXTENT_MAX], sizes[EXTENT_MAX];
    unsigned count;
    if (open_channel(session, channel) != 0)
        return 1;
    uint8_t *window = vgpu_channel_window(*channel);
    uint64_t total = take_arena(*channel, offsets, sizes, &count);
    for (unsigned i = 0; i < count; i++)
        memset(window + offsets[i], PATTERN, sizes[i]);
    memset(window + vgpu_channel_upload(*channel), PATTERN, VGPU_CHANNEL_UPLOAD_BYTES);
    memset(window + vgpu_channel_download(*channel), PATTERN, VGPU_CHANNEL_DOWNLOAD_BYTES);
    printf("FILLED extents=%u bytes=%" PRIu64 "\n", count, total);
    return total ? 0 : 1;
}

static uint64_t count_pattern(const uint8_t *bytes, uint64_t length)
{
    uint64_t found = 0;
    for (uint64_t i = 0; i < length; i++)
        found += bytes[i] != 0;
    return found;
}

static int run_check(uint64_t session)
{
    static uint64_t offsets[EXTENT_MAX], sizes[EXTENT_MAX];
    struct vgpu_channel *channel;
    unsigned count;
    uint64_t left = 0;
    if (open_channel(session, &channel) != 0)
        return 1;
    uint8_t *window = vgpu_channel_window(channel);
    /* Before anything was sent: all but the two pages of counters is as the worker cleared it. */
    uint64_t first = vgpu_channel_upload(channel) - VGPU_CHANNEL_UPLOAD;
    left +=
        count_pattern(window + first + VGPU_CHANNEL_HINTS, VGPU_CHANNEL_BYTES - VGPU_CHANNEL_HINTS);
    uint64_t total = take_arena(channel, offsets, sizes, &count);
    for (unsigned i = 0; i < count; i++)
        left += count_pattern(window + offsets[i], sizes[i]);
    vgpu_channel_close(channel, false);
    if (vgpu_session_end(channel_test_gpu, session, vgpu_deadline_ns(CHANNEL_TEST_PATIENCE_MS)) !=
        0)
        return channel_test_fail("SESSION_CLOSE");
    printf("RESULT extents=%u bytes=%" PRIu64 " left=%" PRIu64 " verdict=%s\n", count, total, left,
           total && !left ? "ok" : "failed");
    return total && !left ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct channel_test_options options;
    struct vgpu_channel *channel = NULL;
    const char *mode = argc > 1 ? argv[1] : "";
    bool fill = strcmp(mode, "fill") == 0, both = strcmp(mode, "both") == 0;
    if ((!fill && !both && strcmp(mode, "check") != 0) ||
        !channel_test_options(argc, argv, &options)) {
        fprintf(stderr, "usage: t-scrub fill|check|both [--device D]\n");
        return 2;
    }
    if (!channel_test_open(&options))
        return 1;
    uint64_t session = (uint64_t)vgpu_next_request_id(channel_test_gpu) << 32 | 77;
    int status = 0;
    if (fill || both)
        status = run_fill(session, &channel);
    if (fill) {
        char c;
        while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
            ;
    }
    if (both && channel) {
        vgpu_channel_close(channel, false);
        if (vgpu_session_end(channel_test_gpu, session,
                             vgpu_deadline_ns(CHANNEL_TEST_PATIENCE_MS)) != 0)
            status = channel_test_fail("SESSION_CLOSE");
    }
    if (!fill && status == 0)
        status = run_check(session + 1);
    vgpu_cleanup(channel_test_gpu);
    return status;
}
