/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests; see control_request.h. */
#include "mediator/control_request.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#define ID_MAX ((1ull << 53) - 1)

static struct json_object *parse(const char *line, size_t length, struct vgpu_change_error *error)
{
    struct json_tokener *tokener = json_tokener_new_ex(VGPU_CONTROL_DEPTH);
    if (!tokener) {
        vgpu_change_fail(error, VGPU_CODE_INTERNAL, "out of memory");
        return NULL;
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *json = json_tokener_parse_ex(tokener, line, (int)length);
    enum json_tokener_error state = json_tokener_get_error(tokener);
    size_t end = json_tokener_get_parse_end(tokener);
    if (memchr(line, 0, length)) /* where json-c takes it for the end */
        vgpu_change_fail(error, VGPU_CODE_INVALID, "the line is no JSON: it has a NUL in it");
    else if (state == json_tokener_continue)
        vgpu_change_fail(error, VGPU_CODE_INVALID, "the line is no whole JSON object");
    else if (state != json_tokener_success)
        vgpu_change_fail(error, VGPU_CODE_INVALID, "the line is no JSON: %s at byte %zu",
                         json_tokener_error_desc(state), end);
    else if (end != length || !json_object_is_type(json, json_type_object))
        vgpu_change_fail(error, VGPU_CODE_INVALID,
                         "the line is not one JSON object: {\"id\": 1, \"op\": \"status\"}");
    else {
        json_tokener_free(tokener);
        return json;
    }
    json_object_put(json);
    json_tokener_free(tokener);
    return NULL;
}

static bool number(struct json_object *value, uint64_t min, uint64_t max, uint64_t *out)
{
    if (!json_object_is_type(value, json_type_int))
        return false;
    int64_t n = json_object_get_int64(value);
    if (n < 0 || (uint64_t)n < min || (uint64_t)n > max)
        return false;
    *out = (uint64_t)n;
    return true;
}

int vgpu_control_request_read(struct vgpu_control_request *r, const char *line, size_t length,
                              struct vgpu_change_error *error)
{
    struct json_object *value;
    *r = (struct vgpu_control_request){0};
    while (length && (line[length - 1] == ' ' || line[length - 1] == '\r'))
        length--;
    r->json = parse(line, length, error);
    if (!r->json)
        return -EINVAL;
    if (json_object_object_get_ex(r->json, "id", &value)) {
        r->has_id = number(value, 0, ID_MAX, &r->id);
        if (!r->has_id)
            return vgpu_change_fail(error, VGPU_CODE_INVALID,
                                    "id is not a whole number from 0 to 2^53 - 1");
    }
    if (!json_object_object_get_ex(r->json, "op", &value) ||
        !json_object_is_type(value, json_type_string))
        return vgpu_change_fail(error, VGPU_CODE_INVALID, "op is missing, or is not a text");
    r->op = json_object_get_string(value);
    return 0;
}

void vgpu_control_request_free(struct vgpu_control_request *r)
{
    json_object_put(r->json);
    *r = (struct vgpu_control_request){0};
}

int vgpu_control_request_only(const struct vgpu_control_request *r, const char *const *names,
                              struct vgpu_change_error *error)
{
    json_object_object_foreach(r->json, key, value)
    {
        bool known = !strcmp(key, "id") || !strcmp(key, "op");
        (void)value;
        for (const char *const *name = names; *name && !known; name++)
            known = !strcmp(key, *name);
        if (!known)
            return vgpu_change_fail(error, VGPU_CODE_INVALID, "%.40s: there is no field '%.40s'",
                                    r->op, key);
    }
    return 0;
}

int vgpu_control_request_number(const struct vgpu_control_request *r, const char *name,
                                uint64_t min, uint64_t max, uint64_t *out,
                                struct vgpu_change_error *error)
{
    struct json_object *value;
    if (!json_object_object_get_ex(r->json, name, &value) || number(value, min, max, out))
        return 0;
    return vgpu_change_fail(error, VGPU_CODE_INVALID,
                            "%.40s: %s = %.60s is not a whole number from %llu to %llu", r->op,
                            name, json_object_to_json_string(value), (unsigned long long)min,
                            (unsigned long long)max);
}

int vgpu_control_request_bool(const struct vgpu_control_request *r, const char *name, bool *out,
                              struct vgpu_change_error *error)
{
    struct json_object *value;
    if (!json_object_object_get_ex(r->json, name, &value))
        return 0;
    if (!json_object_is_type(value, json_type_boolean))
        return vgpu_change_fail(error, VGPU_CODE_INVALID, "%.40s: %s = %.60s is not true or false",
                                r->op, name, json_object_to_json_string(value));
    *out = json_object_get_boolean(value);
    return 0;
}
