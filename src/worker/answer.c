/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers and their encoding; see answer.h. */
#include "worker/answer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/names.h"
#include "common/wire.h"

void vgpu_answer_init(struct vgpu_answer *a)
{
    a->error_code = VGPU_ERR_NONE;
    a->bare = false;
    a->status = CUDA_SUCCESS;
    a->result_count = 0;
    a->data_length = 0;
    a->undo = (struct vgpu_undo){.kind = VGPU_UNDO_NOTHING};
}

/* Bytes of the UTF-8 sequence at p, 0 when it is none. Overlong forms, surrogates and what lies
 * over U+10FFFF are none. */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
    size_t n;
    uint8_t low = 0x80, high = 0xBF;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        n = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        n = 3;
        if (p[0] == 0xE0)
            low = 0xA0;
        else if (p[0] == 0xED)
            high = 0x9F;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        n = 4;
        if (p[0] == 0xF0)
            low = 0x90;
        else if (p[0] == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (left < n || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    return n;
}

/* Whether what is left is the beginning of one character: a text that was cut to fit ends so. */
static bool cut_in_two(const uint8_t *p, size_t left)
{
    if (p[0] < 0xC0 || left > 3)
        return false;
    for (size_t i = 1; i < left; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return false;
    }
    return true;
}

size_t vgpu_text_clean(char *text, size_t length)
{
    uint8_t *p = (uint8_t *)text;
    for (size_t i = 0; i < length;) {
        if ((p[i] >= 0x20 && p[i] < 0x7F) || p[i] == '\n' || p[i] == '\t') {
            i++;
            continue;
        }
        size_t n = p[i] >= 0x80 ? utf8_sequence(p + i, length - i) : 0;
        if (n) {
            i += n;
        } else if (cut_in_two(p + i, length - i)) {
            length = i;
        } else {
            p[i++] = '?';
        }
    }
    while (length && (text[length - 1] == '\n' || text[length - 1] == ' '))
        length--;
    return length;
}

/* The text fills the data part; what does not fit is cut. */
static void set_text(struct vgpu_answer *a, const char *format, va_list args)
{
    char text[sizeof(a->data) + 1];
    int n = vsnprintf(text, sizeof(text), format, args);
    size_t length = n < 0 ? 0 : (size_t)n;
    if (length > sizeof(a->data))
        length = sizeof(a->data);
    length = vgpu_text_clean(text, length);
    memcpy(a->data, text, length);
    a->data_length = (uint32_t)length;
}

void vgpu_answer_reject(struct vgpu_answer *a, uint32_t error_code, const char *format, ...)
{
    vgpu_answer_init(a);
    a->error_code = error_code;
    a->status =
        error_code == VGPU_ERR_UNSUPPORTED ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
    va_list args;
    va_start(args, format);
    set_text(a, format, args);
    va_end(args);
}

void vgpu_answer_fail(struct vgpu_answer *a, bool named, CUresult status, const char *format, ...)
{
    vgpu_answer_init(a);
    a->status = (uint32_t)status;
    if (status == CUDA_ERROR_NOT_READY)
        return; /* P9: no failure */
    a->error_code = named ? VGPU_ERR_NONE : VGPU_ERR_CUDA;
    va_list args;
    va_start(args, format);
    set_text(a, format, args);
    va_end(args);
    if (!a->data_length) {
        const char *text = vgpu_curesult_text(a->status);
        a->data_length = (uint32_t)strlen(text);
        memcpy(a->data, text, a->data_length);
    }
}

void vgpu_answer_not_ready(struct vgpu_answer *a)
{
    vgpu_answer_init(a);
    a->status = CUDA_ERROR_NOT_READY;
}

size_t vgpu_answer_encode(const struct vgpu_answer *a, uint64_t exec_time_us, uint8_t *out)
{
    if (a->bare)
        return 0;
    static_assert(VGPU_ANSWER_RESULTS * 4 < VGPU_ANSWER_DATA_BYTES, "results fit");
    uint32_t count = a->status == CUDA_SUCCESS ? a->result_count : 0;
    size_t head = sizeof(struct vgpu_response_header) + (size_t)count * 4;
    size_t offset = (head + 7) & ~(size_t)7;
    /* Whoever filled the answer saw to it that results and data fit; a text may be cut. */
    size_t length = a->data_length;
    if (length > VGPU_MAILBOX_BYTES - offset)
        length = VGPU_MAILBOX_BYTES - offset;
    memset(out, 0, length ? offset : head);
    vgpu_store_le32(out + offsetof(struct vgpu_response_header, version), VGPU_PROTOCOL_VERSION);
    vgpu_store_le32(out + offsetof(struct vgpu_response_header, status), a->status);
    vgpu_store_le32(out + offsetof(struct vgpu_response_header, result_count), count);
    vgpu_store_le32(out + offsetof(struct vgpu_response_header, data_offset),
                    length ? (uint32_t)offset : 0);
    vgpu_store_le32(out + offsetof(struct vgpu_response_header, data_length), (uint32_t)length);
    vgpu_store_le32(out + offsetof(struct vgpu_response_header, exec_time_us),
                    exec_time_us > UINT32_MAX ? UINT32_MAX : (uint32_t)exec_time_us);
    for (uint32_t i = 0; i < count; i++)
        vgpu_store_le32(out + sizeof(struct vgpu_response_header) + (size_t)i * 4, a->results[i]);
    if (!length)
        return head;
    memcpy(out + offset, a->data, length);
    return offset + length;
}
