/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines; see log.h. */
#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

#define LINE_BYTES  1024 /* less than PIPE_BUF, so that a line is never torn */
#define LIMIT_BURST 10

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const int syslog_levels[] = {3, 4, 6, 7};

static struct {
    const char *program;
    enum vgpu_log_level level;
    bool journal; /* stderr is the journal: it takes the level from a "<n>" in front */
    uint64_t dropped;
} log_state = {.program = "vgpu", .level = VGPU_LOG_INFO};

void vgpu_log_open(const char *program, enum vgpu_log_level level)
{
    log_state.program = program;
    log_state.level = level;
    log_state.journal = getenv("JOURNAL_STREAM") != NULL;
}

void vgpu_log_set_level(enum vgpu_log_level level)
{
    log_state.level = level;
}

bool vgpu_log_enabled(enum vgpu_log_level level)
{
    return level <= log_state.level;
}

int vgpu_log_level_parse(const char *text, enum vgpu_log_level *out)
{
    for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (!strcmp(text, level_names[i])) {
            *out = (enum vgpu_log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *vgpu_log_level_name(enum vgpu_log_level level)
{
    return level <= VGPU_LOG_DEBUG ? level_names[level] : "?";
}

uint64_t vgpu_log_dropped(void)
{
    return __atomic_load_n(&log_state.dropped, __ATOMIC_RELAXED);
}

/* Writes the line if that can be done at once; stderr may be a pipe that nobody empties. */
static void write_line(const char *line, size_t length)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) ||
        write(STDERR_FILENO, line, length) != (ssize_t)length)
        __atomic_fetch_add(&log_state.dropped, 1, __ATOMIC_RELAXED);
}

void vgpu_log(enum vgpu_log_level level, const char *event, const char *format, ...)
{
    if (!vgpu_log_enabled(level))
        return;
    int saved_errno = errno;
    char line[LINE_BYTES];
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);

    size_t used = 0;
    if (log_state.journal)
        used = (size_t)snprintf(line, sizeof(line), "<%d>", syslog_levels[level]);
    used += strftime(line + used, sizeof(line) - used, "%Y-%m-%dT%H:%M:%S", &tm);
    /* The program and event names are this tree's own and short: what comes before the format
     * fits. */
    used += (size_t)snprintf(line + used, sizeof(line) - used,
                             ".%06ldZ level=%s prog=%.32s event=%.48s ", ts.tv_nsec / 1000,
                             level_names[level], log_state.program, event);
    size_t room = sizeof(line) - used - 1; /* for the newline */
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(line + used, room, format, args);
    va_end(args);
    if (wanted >= 0 && (size_t)wanted < room) {
        used += (size_t)wanted;
    } else if (wanted >= 0) {
        used += room - 1;
        for (size_t i = used - 3; i < used; i++)
            line[i] = '.';
    }
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    while (used && line[used - 1] == ' ')
        used--;
    line[used++] = '\n';
    write_line(line, used);
    errno = saved_errno;
}

const char *vgpu_log_quote(char *buffer, size_t size, const char *text, size_t length)
{
    size_t used = 0;
    buffer[used++] = '"';
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool escape = c == '"' || c == '\\';
        if (used + (escape ? 2 : 1) + 2 > size)
            break;
        if (escape)
            buffer[used++] = '\\';
        buffer[used++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    buffer[used++] = '"';
    buffer[used] = 0;
    return buffer;
}

bool vgpu_log_limit_take(struct vgpu_log_limit *limit, uint64_t now_ns, uint32_t *suppressed)
{
    if (now_ns - limit->second_ns >= VGPU_NS_PER_S) {
        limit->second_ns = now_ns;
        limit->used = 0;
    }
    if (limit->used >= LIMIT_BURST) {
        if (limit->suppressed < UINT32_MAX)
            limit->suppressed++;
        return false;
    }
    limit->used++;
    *suppressed = limit->suppressed;
    limit->suppressed = 0;
    return true;
}
