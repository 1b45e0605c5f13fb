/* SPDX-License-Identifier: MIT */
/* Words: the thread's error text, and the names of results, codes and states. */
#include <stdarg.h>
#include <stdio.h>

#include "guest/guest.h"
#include "vgpu/curesult.h"

static _Thread_local char error_text[768];

void vgpu_set_error_text(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof(error_text), format, arguments);
    va_end(arguments);
}

const char *vgpu_last_error_text(void)
{
    return error_text[0] ? error_text : "no error";
}

const char *vgpu_result_name(uint32_t cuda_result)
{
    switch (cuda_result) {
#define NAME_CASE(value, name, text)                                                               \
    case value:                                                                                    \
        return #name;
        VGPU_CURESULT_LIST(NAME_CASE)
#undef NAME_CASE
    }
    return "CUDA_ERROR";
}

const char *vgpu_result_text(uint32_t cuda_result)
{
    switch (cuda_result) {
#define TEXT_CASE(value, name, text)                                                               \
    case value:                                                                                    \
        return text;
        VGPU_CURESULT_LIST(TEXT_CASE)
#undef TEXT_CASE
    }
    return "unrecognized error";
}

const char *vgpu_error_code_text(uint32_t error_code)
{
    switch (error_code) {
#define TEXT_CASE(value, name, text)                                                               \
    case value:                                                                                    \
        return text;
        VGPU_ERROR_LIST(TEXT_CASE)
#undef TEXT_CASE
    }
    return "unknown error code";
}

const char *vgpu_status_text(uint32_t status)
{
    static const char *const texts[] = {"IDLE", "BUSY", "DONE", "ERROR"};
    return status < sizeof(texts) / sizeof(texts[0]) ? texts[status] : "invalid";
}
