/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names that count in a watched directory; see watch.h. */
#include <string.h>

#include "common/parse.h"
#include "mediator/watch.h"

bool vgpu_watch_parse_name(const char *name, uint32_t *vm_id)
{
    static const char prefix[] = "vm-", suffix[] = ".sock";
    char digits[16];
    size_t length = strlen(name);
    size_t around = sizeof(prefix) - 1 + sizeof(suffix) - 1;
    if (length <= around || length - around >= sizeof(digits))
        return false;
    if (memcmp(name, prefix, sizeof(prefix) - 1) ||
        strcmp(name + length - (sizeof(suffix) - 1), suffix))
        return false;
    memcpy(digits, name + sizeof(prefix) - 1, length - around);
    digits[length - around] = 0;
    /* One name for each VM: no vm-07, no vm-0x7. */
    if (digits[0] == '0' && digits[1])
        return false;
    return vgpu_parse_u32(digits, 0, UINT32_MAX, vm_id) == 0;
}
