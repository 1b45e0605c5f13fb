/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables from the contracts' X-macros; see names.h. */
#include "common/names.h"

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
    switch (status) {
#define VGPU_CASE(value, name, text)                                                               \
    case value:                                                                                    \
        return true;
        VGPU_CURESULT_LIST(VGPU_CASE)
#undef VGPU_CASE
    }
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
