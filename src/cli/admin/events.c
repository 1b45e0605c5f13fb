/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `events`: what happened, and with --follow what happens, until somebody interrupts it. */
#include <inttypes.h>

#include "cli/admin/admin.h"

#define FOLLOW_MS 3600000 /* how long to wait for a line before waiting again */

/* One line of a followed connection. */
static void show_line(const struct admin_options *options, struct json_object *line)
{
    struct json_object *event = admin_object(line, "event");
    if (options->json && event)
        admin_json_print(event, stdout);
    else if (event)
        admin_show_event(event, stdout);
    else if (admin_has(line, "lost"))
        fprintf(stderr,
                "vgpu-admin: events: %" PRId64 " events are missing here: this program was "
                "too slow for them\n",
                admin_number(line, "lost", 0));
    fflush(stdout);
}

enum admin_status admin_events(const struct admin_options *options, struct json_object *arguments,
                               bool follow, struct admin_error *e)
{
    struct admin_link *link = admin_link_open(options->control, e);
    if (!link)
        return e->status;
    if (follow)
        json_object_object_add(arguments, "follow", json_object_new_boolean(true));
    struct json_object *result = admin_link_call(link, "events", arguments, e);
    if (result) {
        e->status = ADMIN_OK;
        if (!follow && options->json) {
            admin_json_print(result, stdout);
        } else if (options->json) { /* every event is a line of its own, the first ones too */
            struct json_object *events = admin_array(result, "events");
            for (size_t i = 0; events && i < json_object_array_length(events); i++)
                admin_json_print(json_object_array_get_idx(events, i), stdout);
        } else {
            admin_show_events(result, stdout);
        }
        json_object_put(result);
        fflush(stdout);
    }
    /* Ends with the connection, a signal, or when nobody reads what is written. */
    while (follow && e->status == ADMIN_OK && !ferror(stdout)) {
        struct json_object *line = admin_link_line(link, FOLLOW_MS, e);
        if (line) {
            if (admin_has(line, "error"))
                json_object_put(admin_link_result(line, e));
            else
                show_line(options, line);
            json_object_put(line);
        }
    }
    admin_link_close(link);
    return e->status;
}
