/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Strict number and word readers; see parse.h. */
#include "common/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "vgpu/registers.h"

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Reads digits up to *end; the number itself may not overflow, its range is for the caller. */
static int read_number(const char *text, const char **end, uint64_t *out)
{
    unsigned base = 10;
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    const char *start = text;
    uint64_t value = 0;
    for (; *text; text++) {
        int digit = digit_value(*text);
        if (digit < 0 || (unsigned)digit >= base)
            break;
        if (value > (UINT64_MAX - (unsigned)digit) / base)
            return -ERANGE;
        value = value * base + (unsigned)digit;
    }
    if (text == start)
        return -EINVAL;
    *end = text;
    *out = value;
    return 0;
}

int vgpu_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    const char *end;
    uint64_t value;
    int rc = read_number(text, &end, &value);
    if (rc)
        return rc;
    if (*end)
        return -EINVAL;
    if (value < min || value > max)
        return -ERANGE;
    *out = value;
    return 0;
}

int vgpu_parse_u32(const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t value;
    int rc = vgpu_parse_u64(text, min, max, &value);
    if (!rc)
        *out = (uint32_t)value;
    return rc;
}

int vgpu_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    const char *end;
    uint64_t value;
    int rc = read_number(text, &end, &value);
    if (rc)
        return rc;
    unsigned shift = 0;
    switch (*end) {
    case 'k':
    case 'K':
        shift = 10;
        break;
    case 'm':
    case 'M':
        shift = 20;
        break;
    case 'g':
    case 'G':
        shift = 30;
        break;
    case 't':
    case 'T':
        shift = 40;
        break;
    }
    if (shift)
        end++;
    if (*end)
        return -EINVAL;
    if (value > (UINT64_MAX >> shift))
        return -ERANGE;
    value <<= shift;
    if (value < min || value > max)
        return -ERANGE;
    *out = value;
    return 0;
}

int vgpu_parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"yes", "true", "on", "1"};
    static const char *const no[] = {"no", "false", "off", "0"};
    for (unsigned i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (!strcmp(text, yes[i]) || !strcmp(text, no[i])) {
            *out = !strcmp(text, yes[i]);
            return 0;
        }
    }
    return -EINVAL;
}

int vgpu_parse_fd(const char *text, int *out)
{
    uint32_t fd;
    if (vgpu_parse_u32(text, 0, INT_MAX, &fd) || fcntl((int)fd, F_GETFD) < 0)
        return -EBADF;
    *out = (int)fd;
    return 0;
}

/* Whether a dash stands before byte i. */
static bool has_dash(unsigned i)
{
    return i == 4 || i == 6 || i == 8 || i == 10;
}

int vgpu_parse_uuid(const char *text, uint8_t out[16])
{
    uint8_t uuid[16];
    if (!strncmp(text, "GPU-", 4))
        text += 4;
    for (unsigned i = 0; i < sizeof(uuid); i++) {
        if (has_dash(i) && *text++ != '-')
            return -EINVAL;
        int high = digit_value(text[0]);
        int low = high < 0 ? -1 : digit_value(text[1]);
        if (low < 0)
            return -EINVAL;
        uuid[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    if (*text)
        return -EINVAL;
    memcpy(out, uuid, sizeof(uuid));
    return 0;
}

void vgpu_uuid_write(char *text, const uint8_t uuid[16])
{
    static const char digits[] = "0123456789abcdef";
    memcpy(text, "GPU-", 4);
    text += 4;
    for (unsigned i = 0; i < 16; i++) {
        if (has_dash(i))
            *text++ = '-';
        *text++ = digits[uuid[i] >> 4];
        *text++ = digits[uuid[i] & 15];
    }
    *text = 0;
}

int vgpu_parse_priority(const char *text, uint32_t *out)
{
    static const char *const names[] = {"low", "medium", "high"};
    for (uint32_t i = 0; i < VGPU_PRIORITY_COUNT; i++) {
        if (!strcmp(text, names[i]) || (text[0] == (char)('0' + i) && !text[1])) {
            *out = i;
            return 0;
        }
    }
    return -EINVAL;
}

int vgpu_parse_percent(const char *text, uint32_t *out)
{
    uint32_t value = 0;
    unsigned digits = 0;
    for (; *text >= '0' && *text <= '9' && digits < 4; text++, digits++)
        value = value * 10 + (uint32_t)(*text - '0');
    if (!digits)
        return -EINVAL;
    value *= 10;
    if (*text == '.') {
        if (text[1] < '0' || text[1] > '9')
            return -EINVAL;
        value += (uint32_t)(text[1] - '0');
        text += 2;
    }
    if (*text == '%')
        text++;
    if (*text || value > 1000)
        return -EINVAL;
    *out = value;
    return 0;
}
