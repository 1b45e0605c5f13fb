/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `doctor`: runs the checks and says what they found, as lines or as JSON. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admin/doctor.h"

static const char *const level_words[] = {"ok", "warn", "bad"};

void doctor_say(struct doctor *d, enum doctor_level level, const char *check, const char *remedy,
                const char *format, ...)
{
    char text[1024], clean[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    admin_clean(clean, sizeof(clean), text);
    d->counts[level]++;
    if (d->checks) {
        struct json_object *o = json_object_new_object();
        if (!o)
            return;
        json_object_object_add(o, "check", json_object_new_string(check));
        json_object_object_add(o, "level", json_object_new_string(level_words[level]));
        json_object_object_add(o, "text", json_object_new_string(clean));
        json_object_object_add(o, "remedy", remedy ? json_object_new_string(remedy) : NULL);
        json_object_array_add(d->checks, o);
        return;
    }
    printf("%-4s  %-10s  %s\n", level_words[level], check, clean);
    if (remedy) {
        admin_clean(clean, sizeof(clean), remedy);
        printf("%*s-> %s\n", 18, "", clean);
    }
    fflush(stdout); /* some checks take seconds */
}

const char *doctor_path(const struct doctor *d, char out[4096], const char *path)
{
    snprintf(out, 4096, "%s%s", d->asked->root, path);
    return out;
}

const char *doctor_line(const struct doctor *d, char *out, size_t size, const char *path)
{
    char place[4096];
    FILE *file = fopen(doctor_path(d, place, path), "re");
    if (!file)
        return NULL;
    bool good = fgets(out, (int)size, file) != NULL;
    fclose(file);
    if (!good)
        return NULL;
    out[strcspn(out, "\n")] = 0;
    return out;
}

enum admin_status admin_doctor(const struct admin_options *options,
                               const struct admin_doctor_options *doctor, struct admin_error *e)
{
    struct doctor d = {.options = options, .asked = doctor};
    if (options->json && !(d.checks = json_object_new_array()))
        return admin_fail(e, ADMIN_FAILED, "failed", "out of memory");
    doctor_check_config(&d);
    doctor_check_control(&d);
    doctor_check_watch(&d);
    doctor_check_registry(&d);
    doctor_check_kernel(&d);
    doctor_check_limits(&d);
    doctor_check_kvm(&d);
    doctor_check_nvidia(&d);
    doctor_check_worker(&d);
    if (d.checks) {
        struct json_object *o = json_object_new_object();
        for (unsigned i = 0; o && i < 3; i++)
            json_object_object_add(o, level_words[i], json_object_new_int((int)d.counts[i]));
        if (o)
            json_object_object_add(o, "checks", json_object_get(d.checks));
        admin_json_print(o, stdout);
        json_object_put(o);
        json_object_put(d.checks);
    } else {
        printf("%u ok, %u to look at, %u bad\n", d.counts[DOCTOR_OK], d.counts[DOCTOR_WARN],
               d.counts[DOCTOR_BAD]);
    }
    vgpu_settings_free(d.settings);
    json_object_put(d.status);
    return d.counts[DOCTOR_BAD] ? ADMIN_FAILED : ADMIN_OK;
}
