/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables from the contracts' X-macros; see names.h. */
#include "common/names.h"

#include <stddef.h>

#include "vgpu/curesult.h"
#include "vgpu/registers.h"

const char *vgpu_curesult_name(uint32_t status)
{
    switch (status) {
#define VGPU_CASE(value, name, text)                                                               \
    case value:                                                                                    \
        return #name;
        VGPU_CURESULT_LIST(VGPU_CASE)
#undef VGPU_CASE
    }
    return "CUresult without a name";
}

bool vgpu_curesult_is_known(uint32_t status)
{
    static const uint32_t known[] = {
#define VGPU_ITEM(value, name, text) value,
        VGPU_CURESULT_LIST(VGPU_ITEM)
#undef VGPU_ITEM
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i] == status)
            return true;
    return false;
}

const char *vgpu_curesult_text(uint32_t status)
{
    switch (status) {
#define VGPU_CASE(value, name, text)                                                               \
    case value:                                                                                    \
        return text;
        VGPU_CURESULT_LIST(VGPU_CASE)
#undef VGPU_CASE
    }
    return "unrecognized error code";
}

const char *vgpu_error_text(uint32_t error_code)
{
    switch (error_code) {
#define VGPU_CASE(value, name, text)                                                               \
    case value:                                                                                    \
        return text;
        VGPU_ERROR_LIST(VGPU_CASE)
#undef VGPU_CASE
    }
    return "unknown error";
}

const char *vgpu_priority_name(uint32_t priority)
{
    switch (priority) {
    case VGPU_PRIORITY_LOW:
        return "low";
    case VGPU_PRIORITY_MEDIUM:
        return "medium";
    case VGPU_PRIORITY_HIGH:
        return "high";
    }
    return "?";
}
