/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log lines; see log.h. */
#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log_form.h"
#include "common/net.h"

#define LINE_BYTES  1024 /* less than PIPE_BUF, so that a line is never torn */
#define FORM_BYTES  4000 /* of JSON: the same; the keys and quotes of a line may make it longer */
#define JOURNAL     "/run/systemd/journal/socket"
#define LIMIT_BURST 10

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const int syslog_levels[] = {3, 4, 6, 7};

static struct {
    const char *program;
    enum vgpu_log_level level;
    enum vgpu_log_format format;
    bool journal; /* stderr is the journal's: it takes the level from a "<n>" in front */
    int fd;       /* the journal's own socket; -1: none */
    uint64_t dropped;
} log_state = {.program = "vgpu", .level = VGPU_LOG_INFO, .fd = -1};

/* JOURNAL_STREAM is inherited by whoever is started; that stderr still is what it names is not. */
static bool is_journal(void)
{
    const char *said = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return said && sscanf(said, "%llu:%llu", &device, &inode) == 2 && !fstat(STDERR_FILENO, &st) &&
           st.st_dev == device && st.st_ino == inode;
}

void vgpu_log_open(const char *program, enum vgpu_log_level level)
{
    log_state.program = program;
    log_state.level = level;
    log_state.journal = is_journal();
    if (log_state.journal)
        (void)vgpu_log_to_journal(JOURNAL); /* if not, stderr will do */
}

int vgpu_log_to_journal(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    vgpu_fd_close(&log_state.fd);
    if (!path)
        return 0;
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        int rc = -errno;
        vgpu_fd_close(&fd);
        return rc;
    }
    log_state.fd = fd;
    return 0;
}

void vgpu_log_set_format(enum vgpu_log_format format)
{
    log_state.format = format;
}

int vgpu_log_format_parse(const char *text, enum vgpu_log_format *out)
{
    if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
        return -EINVAL;
    *out = *text == 'j' ? VGPU_LOG_JSON : VGPU_LOG_TEXT;
    return 0;
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

/* The pairs of an event: what does not fit is cut, and says so. Returns the length. */
static size_t make_body(char *body, size_t room, const char *format, va_list args)
{
    int wanted = vsnprintf(body, room, format, args);
    size_t used = wanted < 0 ? 0 : (size_t)wanted;
    if (used >= room) {
        used = room - 1;
        memset(body + used - 3, '.', 3);
    }
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)body[i] < 0x20 || body[i] == 0x7f)
            body[i] = '?';
    while (used && body[used - 1] == ' ')
        used--;
    return used;
}

/* False: the journal cannot take it now, or is gone. */
static bool send_to_journal(enum vgpu_log_level level, const char *event, const char *body,
                            size_t length)
{
    char datagram[FORM_BYTES];
    if (log_state.fd < 0)
        return false;
    size_t n = vgpu_log_journal(datagram, sizeof(datagram), syslog_levels[level], log_state.program,
                                event, body, length);
    return send(log_state.fd, datagram, n, MSG_NOSIGNAL) == (ssize_t)n;
}

void vgpu_log(enum vgpu_log_level level, const char *event, const char *format, ...)
{
    if (!vgpu_log_enabled(level))
        return;
    int saved_errno = errno;
    char time[32], head[160], body[LINE_BYTES], line[FORM_BYTES + 1];
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &tm), used = 0;
    snprintf(time + n, sizeof(time) - n, ".%06ldZ", ts.tv_nsec / 1000);
    /* The program and event names are this tree's own and short: all of it fits. */
    size_t head_length = (size_t)snprintf(head, sizeof(head), "%s level=%s prog=%.32s event=%.48s",
                                          time, level_names[level], log_state.program, event);
    va_list args;
    va_start(args, format);
    size_t length = make_body(body, LINE_BYTES - head_length - 2, format, args);
    va_end(args);
    if (send_to_journal(level, event, body, length)) {
        errno = saved_errno;
        return;
    }
    if (log_state.journal)
        used = (size_t)snprintf(line, sizeof(line), "<%d>", syslog_levels[level]);
    if (log_state.format == VGPU_LOG_JSON)
        used += vgpu_log_json(line + used, FORM_BYTES - used, time, level_names[level],
                              log_state.program, event, body, length);
    else
        used += (size_t)snprintf(line + used, sizeof(line) - used, "%s%s%.*s", head,
                                 length ? " " : "", (int)length, body);
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
