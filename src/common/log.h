/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logging: one line an event on stderr, `time level=... prog=... event=... key=value ...`, or the
 * same as JSON; or, when stderr is the journal's, a datagram to the journal with a field for each
 * key. Control characters never reach the line. A log that nobody reads costs lines, never time: a
 * line that would block is dropped and counted.
 *
 * It knows no event; who logs names it.
 */
#ifndef VGPU_COMMON_LOG_H
#define VGPU_COMMON_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vgpu_log_level {
    VGPU_LOG_ERROR = 0,
    VGPU_LOG_WARN = 1,
    VGPU_LOG_INFO = 2,
    VGPU_LOG_DEBUG = 3,
};

/*
 * program stands in every line and must stay valid (a literal). Before the first call the level is
 * info and the program "vgpu". Call both before other threads log.
 */
void vgpu_log_open(const char *program, enum vgpu_log_level level);
void vgpu_log_set_level(enum vgpu_log_level level);

/* Lets a caller leave out the work of making a line that would not be written. Any thread. */
bool vgpu_log_enabled(enum vgpu_log_level level);

enum vgpu_log_format { VGPU_LOG_TEXT, VGPU_LOG_JSON };

/* Of lines on stderr from now on. */
void vgpu_log_set_format(enum vgpu_log_format format);
/* text, json. Returns 0 or -EINVAL. */
int vgpu_log_format_parse(const char *text, enum vgpu_log_format *out);

/*
 * Lines go to the journal that listens there, whatever stderr is; NULL: to stderr again. open does
 * so by itself when stderr is the journal's (JOURNAL_STREAM says so). 0 or a negative errno.
 */
int vgpu_log_to_journal(const char *socket);

/* error, warn, info, debug. Returns 0 or -EINVAL. */
int vgpu_log_level_parse(const char *text, enum vgpu_log_level *out);
const char *vgpu_log_level_name(enum vgpu_log_level level);

/*
 * Writes one line; format makes the `key=value` pairs after event=. Strings that come from outside
 * go through vgpu_log_quote. At most 1 KiB; a longer line is cut and says so. Any thread; one line
 * is one write.
 */
void vgpu_log(enum vgpu_log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Lines that could not be written without blocking, so far. */
uint64_t vgpu_log_dropped(void);

/*
 * Puts `"text"` into buffer, with " and \ escaped and everything but printable ASCII as '?', cut to
 * fit; text needs no NUL at length. size is at least 3. Returns buffer.
 */
const char *vgpu_log_quote(char *buffer, size_t size, const char *text, size_t length);

/* A bucket for lines that somebody else can cause at will: 10 at once, then 10 a second. */
struct vgpu_log_limit {
    uint64_t second_ns;  /* start of the second that is being counted */
    uint32_t used;       /* lines in it */
    uint32_t suppressed; /* lines left out since the last one that was let through */
};

/*
 * Whether a line may be written now. When it may, *suppressed is how many were left out before it.
 * A zeroed struct is a full bucket. One thread at a time for each limit.
 */
bool vgpu_log_limit_take(struct vgpu_log_limit *limit, uint64_t now_ns, uint32_t *suppressed);

#endif
