/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Members of answers, with something for what is missing, and JSON on a line. See admin.h. */
#include <string.h>

#include "cli/admin/admin.h"
#include "cli/cli.h"

static struct json_object *member(struct json_object *object, const char *name)
{
    struct json_object *value = NULL;
    if (object && json_object_is_type(object, json_type_object))
        json_object_object_get_ex(object, name, &value);
    return value;
}

const char *admin_text(struct json_object *object, const char *name, const char *otherwise)
{
    struct json_object *value = member(object, name);
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : otherwise;
}

int64_t admin_number(struct json_object *object, const char *name, int64_t otherwise)
{
    struct json_object *value = member(object, name);
    bool number =
        json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
    return number ? json_object_get_int64(value) : otherwise;
}

double admin_real(struct json_object *object, const char *name, double otherwise)
{
    struct json_object *value = member(object, name);
    bool number =
        json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
    return number ? json_object_get_double(value) : otherwise;
}

bool admin_flag(struct json_object *object, const char *name)
{
    struct json_object *value = member(object, name);
    return json_object_is_type(value, json_type_boolean) && json_object_get_boolean(value);
}

struct json_object *admin_object(struct json_object *object, const char *name)
{
    struct json_object *value = member(object, name);
    return json_object_is_type(value, json_type_object) ? value : NULL;
}

struct json_object *admin_array(struct json_object *object, const char *name)
{
    struct json_object *value = member(object, name);
    return json_object_is_type(value, json_type_array) ? value : NULL;
}

bool admin_has(struct json_object *object, const char *name)
{
    return member(object, name) != NULL;
}

/* json-c would leave DEL and C1 as they are, and a terminal may take them for commands. The depth
 * is bounded by the parser's. */
static void print_value(struct json_object *value, FILE *out)
{
    if (json_object_is_type(value, json_type_object)) {
        const char *before = "{";
        json_object_object_foreach(value, name, inner)
        {
            fputs(before, out);
            cli_json_string(out, name);
            fputs(": ", out);
            print_value(inner, out);
            before = ", ";
        }
        fputs(*before == '{' ? "{}" : "}", out);
    } else if (json_object_is_type(value, json_type_array)) {
        fputc('[', out);
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            if (i)
                fputs(", ", out);
            print_value(json_object_array_get_idx(value, i), out);
        }
        fputc(']', out);
    } else if (json_object_is_type(value, json_type_string)) {
        cli_json_string(out, json_object_get_string(value));
    } else {
        fputs(json_object_to_json_string(value), out);
    }
}

void admin_json_print(struct json_object *value, FILE *out)
{
    print_value(value, out);
    fputc('\n', out);
}
