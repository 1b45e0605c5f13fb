/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other forms of a log line than its text: JSON, and the journal's native fields. Both are made
 * from the same `key=value` text, so that no event is written twice. Pure. For log.c.
 */
#ifndef VGPU_COMMON_LOG_FORM_H
#define VGPU_COMMON_LOG_FORM_H

#include <stdbool.h>
#include <stddef.h>

#define VGPU_LOG_KEY_MAX 32u

/* A pair of a text: `key=value`, or `key="value"` with \" and \\ escaped. */
struct vgpu_log_pair {
    const char *key;
    size_t key_length;   /* 1 to VGPU_LOG_KEY_MAX, of a-z, 0-9 and _ */
    const char *value;   /* without quotes, escapes still in it */
    size_t value_length; /* a text that was cut may end before its quote does */
    bool quoted;
};

/* The next pair from *at on; false: there is none. Words that are no pair are passed over. */
bool vgpu_log_next_pair(const char *text, size_t length, size_t *at, struct vgpu_log_pair *out);

/*
 * One JSON object with these four and the text's pairs; whole numbers are numbers, all else
 * strings. Into size bytes, without a newline; what does not fit is left out, pair by pair, and
 * "truncated":true says so. Returns its length; at least 512 bytes have room for the beginning.
 */
size_t vgpu_log_json(char *out, size_t size, const char *time, const char *level,
                     const char *program, const char *event, const char *text, size_t length);

/*
 * A datagram for journald: MESSAGE (event and text), PRIORITY, SYSLOG_IDENTIFIER, VGPU_EVENT, and
 * VGPU_<KEY> for each pair. In and out as above.
 */
size_t vgpu_log_journal(char *out, size_t size, int priority, const char *program,
                        const char *event, const char *text, size_t length);

#endif
