/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the words of a command line to the fields of a request, by a command's description. */
#include <inttypes.h>
#include <string.h>

#include "cli/admin/command.h"
#include "cli/cli.h"
#include "common/parse.h"

static bool bad_value(const struct admin_command *c, const struct admin_option *o, const char *text,
                      struct admin_error *e, const char *want)
{
    admin_fail(e, ADMIN_USAGE, "usage", "%s: --%s '%s' is not %s%s%s%s", c->name, o->name, text,
               want, o->null ? ", or '" : "", o->null ? o->null : "", o->null ? "'" : "");
    return false;
}

/* 90, 90s, 15m, 2h, 7d */
static int parse_seconds(const char *text, uint64_t low, uint64_t high, uint64_t *seconds)
{
    static const struct {
        char unit;
        uint64_t factor;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t length = strlen(text);
    char digits[24];
    uint64_t factor = 1, number;
    for (unsigned i = 0; i < 4 && length; i++)
        if (text[length - 1] == units[i].unit) {
            factor = units[i].factor;
            length--;
            break;
        }
    if (!length || length >= sizeof(digits))
        return -1;
    memcpy(digits, text, length);
    digits[length] = 0;
    if (!cli_number(digits, 0, high, &number) || number * factor < low || number * factor > high)
        return -1;
    *seconds = number * factor;
    return 0;
}

/* Whether a text is a number, as an index of a GPU. */
static struct json_object *gpu_value(const char *text)
{
    uint64_t number;
    return cli_number(text, 0, UINT32_MAX, &number) ? json_object_new_int64((int64_t)number)
                                                    : json_object_new_string(text);
}

static struct json_object *gpus_value(const char *text)
{
    struct json_object *array = json_object_new_array();
    while (array) {
        size_t length = strcspn(text, ",");
        char one[64];
        if (!length || length >= sizeof(one)) {
            json_object_put(array);
            return NULL;
        }
        memcpy(one, text, length);
        one[length] = 0;
        json_object_array_add(array, gpu_value(one));
        if (!text[length])
            break;
        text += length + 1;
    }
    return array;
}

static bool fine_text(const char *text, uint64_t high)
{
    char clean[4096];
    if (strlen(text) > high || strlen(text) >= sizeof(clean))
        return false;
    cli_harmless(clean, sizeof(clean), text, 0);
    return !strcmp(clean, text); /* else it has control characters, or is no UTF-8 */
}

/* The option's value; NULL and *e when the text is none. Null itself is not made here. */
static struct json_object *make_value(const struct admin_command *c, const struct admin_option *o,
                                      const char *text, struct admin_error *e)
{
    char want[96];
    uint64_t number;
    uint32_t small;
    switch (o->kind) {
    case ADMIN_KIND_VMS:
        snprintf(want, sizeof(want), "%s: --%s", c->name, o->name);
        return admin_ranges(want, text, e);
    case ADMIN_KIND_NUMBER:
        if (cli_number(text, o->low, o->high, &number))
            return json_object_new_int64((int64_t)number);
        snprintf(want, sizeof(want), "a number from %" PRIu64 " to %" PRIu64, o->low, o->high);
        break;
    case ADMIN_KIND_SIZE:
        if (!vgpu_parse_size(text, o->low, o->high, &number))
            return json_object_new_int64((int64_t)number);
        snprintf(want, sizeof(want), "a number of bytes from 1 to 64T, as in 512M or 2G");
        break;
    case ADMIN_KIND_SECONDS:
        if (!parse_seconds(text, o->low, o->high, &number))
            return json_object_new_int64((int64_t)number);
        snprintf(want, sizeof(want), "a time from 1 second to a year, as in 90, 15m, 2h, 7d");
        break;
    case ADMIN_KIND_POOL:
        if (text[0] >= 'A' && text[0] <= 'Z' && !text[1])
            return json_object_new_string(text);
        snprintf(want, sizeof(want), "a letter from A to Z");
        break;
    case ADMIN_KIND_PRIORITY:
        if (!strcmp(text, "low") || !strcmp(text, "medium") || !strcmp(text, "high"))
            return json_object_new_string(text);
        snprintf(want, sizeof(want), "low, medium or high");
        break;
    case ADMIN_KIND_RATE:
        if (strchr(text, '%') && !vgpu_parse_percent(text, &small) && small)
            return json_object_new_string(text);
        snprintf(want, sizeof(want), "a share above 0%% and up to 100%%, as in 30%% or 12.5%%");
        break;
    case ADMIN_KIND_BACKEND:
        if (!strcmp(text, "software") || !strcmp(text, "cuda"))
            return json_object_new_string(text);
        snprintf(want, sizeof(want), "software or cuda");
        break;
    case ADMIN_KIND_GPU:
        if (*text && strlen(text) < 64 && fine_text(text, 63))
            return gpu_value(text);
        snprintf(want, sizeof(want), "a GPU's number or name");
        break;
    case ADMIN_KIND_GPUS: {
        struct json_object *array = fine_text(text, 4000) ? gpus_value(text) : NULL;
        if (array)
            return array;
        snprintf(want, sizeof(want), "a list of GPUs, as in 0,1 or software,software");
        break;
    }
    case ADMIN_KIND_TEXT:
        if (fine_text(text, o->high))
            return json_object_new_string(text);
        snprintf(want, sizeof(want), "a text of up to %" PRIu64 " bytes without control characters",
                 o->high);
        break;
    default:
        return json_object_new_string(text);
    }
    bad_value(c, o, text, e, want);
    return NULL;
}

static const char *field_of(const struct admin_option *o)
{
    return o->field ? o->field : o->name;
}

static bool is_flag(const struct admin_option *o)
{
    return o->kind == ADMIN_KIND_FLAG || (o->kind == ADMIN_KIND_OWN && !o->value);
}

static const struct admin_option *find_option(const struct admin_command *c, const char *name,
                                              size_t length)
{
    for (const struct admin_option *o = c->options; o->kind != ADMIN_KIND_END; o++)
        if (strlen(o->name) == length && !strncmp(o->name, name, length))
            return o;
    return NULL;
}

static bool put_value(const struct admin_command *c, const struct admin_option *o, const char *text,
                      struct json_object *arguments, struct admin_error *e)
{
    struct json_object *value = NULL;
    if (json_object_object_get_ex(arguments, field_of(o), NULL)) {
        admin_fail(e, ADMIN_USAGE, "usage", "%s: --%s is said twice", c->name, o->name);
        return false;
    }
    bool null = o->null && !is_flag(o) && !strcmp(text, o->null);
    if (is_flag(o))
        value = json_object_new_boolean(true);
    else if (!null)
        value = make_value(c, o, text, e);
    if (!value && !null)
        return false;
    json_object_object_add(arguments, field_of(o), value);
    return true;
}

/* The word at argv[*at]: an option with its value, or a value that stands for itself. */
static bool read_word(const struct admin_command *c, int argc, char **argv, int *at,
                      struct json_object *arguments, struct admin_error *e)
{
    const char *word = argv[*at];
    if (strncmp(word, "--", 2) != 0 || !word[2]) {
        for (unsigned i = 0; i < ADMIN_COMMAND_WORDS && c->words[i]; i++) {
            const struct admin_option *o = find_option(c, c->words[i], strlen(c->words[i]));
            if (o && !json_object_object_get_ex(arguments, field_of(o), NULL))
                return put_value(c, o, word, arguments, e);
        }
        admin_fail(e, ADMIN_USAGE, "usage", "%s: '%s' is one word too many", c->name, word);
        return false;
    }
    const char *equals = strchr(word, '=');
    size_t length = equals ? (size_t)(equals - word) - 2 : strlen(word) - 2;
    const struct admin_option *o = find_option(c, word + 2, length);
    if (!o) {
        admin_fail(e, ADMIN_USAGE, "usage", "%s: there is no option '%s' here", c->name, word);
        return false;
    }
    const char *value = equals ? equals + 1 : NULL;
    if (is_flag(o)) {
        if (value) {
            admin_fail(e, ADMIN_USAGE, "usage", "%s: --%s takes no value", c->name, o->name);
            return false;
        }
    } else if (!value) {
        if (*at + 1 >= argc) {
            admin_fail(e, ADMIN_USAGE, "usage", "%s: --%s needs a value (%s)", c->name, o->name,
                       o->help);
            return false;
        }
        value = argv[++*at];
    }
    return put_value(c, o, value, arguments, e);
}

/* How many of the options in `names` are there. */
static unsigned count_said(const struct admin_command *c, const char *names,
                           struct json_object *arguments)
{
    unsigned said = 0;
    while (*names) {
        size_t length = strcspn(names, " ");
        const struct admin_option *o = find_option(c, names, length);
        if (o && json_object_object_get_ex(arguments, field_of(o), NULL))
            said++;
        names += length + (names[length] == ' ');
    }
    return said;
}

static bool complete(const struct admin_command *c, struct json_object *arguments,
                     struct admin_error *e)
{
    for (const struct admin_option *o = c->options; o->kind != ADMIN_KIND_END; o++) {
        if (o->required && !json_object_object_get_ex(arguments, field_of(o), NULL)) {
            admin_fail(e, ADMIN_USAGE, "usage", "%s: --%s %s is missing (%s)", c->name, o->name,
                       o->value ? o->value : "", o->help);
            return false;
        }
    }
    if (c->one_of && count_said(c, c->one_of, arguments) != 1) {
        admin_fail(e, ADMIN_USAGE, "usage", "%s: say exactly one of these options: %s", c->name,
                   c->one_of);
        return false;
    }
    if (c->any_of && count_said(c, c->any_of, arguments) == 0) {
        admin_fail(e, ADMIN_USAGE, "usage", "%s: say at least one of these options: %s", c->name,
                   c->any_of);
        return false;
    }
    struct json_object *vms = admin_array(arguments, "vms");
    if (vms && json_object_array_length(vms) > 1 && admin_has(arguments, "name")) {
        admin_fail(e, ADMIN_USAGE, "usage", "%s: --name is for one VM, and these are %zu", c->name,
                   json_object_array_length(vms));
        return false;
    }
    return true;
}

struct json_object *admin_command_read(const struct admin_command *command, int argc, char **argv,
                                       struct admin_error *e)
{
    struct json_object *arguments = json_object_new_object();
    bool good = arguments != NULL;
    if (!good)
        admin_fail(e, ADMIN_FAILED, "failed", "out of memory");
    for (int i = 0; good && i < argc; i++)
        good = read_word(command, argc, argv, &i, arguments, e);
    if (good && complete(command, arguments, e))
        return arguments;
    json_object_put(arguments);
    return NULL;
}
