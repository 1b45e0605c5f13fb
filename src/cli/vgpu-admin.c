/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-admin: asks the mediator of this host what it does, and changes it. The commands are data
 * (admin/commands.c); what they mean is docs/control.md's.
 */
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admin/command.h"
#include "cli/admin/direct.h"
#include "cli/cli.h"
#include "config.h"

static void usage(FILE *out)
{
    fputs("usage: vgpu-admin [--control PATH | --registry FILE] [--json] COMMAND [OPTION]...\n"
          "\n"
          "Asks the vgpu mediator of this host what it does, and changes it.\n"
          "\n",
          out);
    for (const struct admin_command *c = admin_commands; c->name; c++)
        fprintf(out, "  %-13s  %s\n", c->name, c->summary);
    fputs("\n"
          "  --control PATH   the mediator's control socket (also: VGPU_CONTROL);\n"
          "                   default: " ADMIN_CONTROL_DEFAULT "\n"
          "  --registry FILE  no mediator runs: read and change its registry itself\n"
          "  --json           the answer as one JSON object\n"
          "  --version, --help; vgpu-admin COMMAND --help\n"
          "\n"
          "Exit status: 0 done, 1 failed, 2 wrong arguments, 3 not found, 4 not allowed,\n"
          "  5 no mediator, 6 it exists or does not fit, 7 in use, 8 the registry cannot be\n"
          "  written, 9 the mediator cannot do that.\n",
          out);
}

static int report(const struct admin_options *options, const struct admin_error *e)
{
    fflush(stdout);
    if (options->json) {
        fputs("{\"error\": {\"code\": ", stdout);
        cli_json_string(stdout, e->code);
        fputs(", \"message\": ", stdout);
        cli_json_string(stdout, e->text);
        fputs("}}\n", stdout);
    }
    char clean[ADMIN_TEXT];
    fprintf(stderr, "vgpu-admin: %s\n", admin_clean(clean, sizeof(clean), e->text));
    if (e->status == ADMIN_USAGE && !strcmp(e->code, "usage"))
        fputs("Try vgpu-admin --help.\n", stderr);
    return cli_finish(ADMIN_PROGRAM, e->status);
}

/*
 * Takes --control, --registry, --json and --help out of the words, wherever they stand; what is
 * left stays in order. Returns how many are left, or -1 and *e.
 */
static int take_common(int argc, char **argv, struct admin_options *options, bool *help,
                       struct admin_error *e)
{
    int left = 0;
    for (int i = 0; i < argc; i++) {
        const char **text = NULL;
        const char *value = NULL, *name = "--control";
        if (cli_option(argc, argv, &i, name, &value))
            text = &options->control;
        else if (cli_option(argc, argv, &i, name = "--registry", &value))
            text = &options->registry;
        else if (!strcmp(argv[i], "--json"))
            options->json = true;
        else if (!strcmp(argv[i], "--help"))
            *help = true;
        else
            argv[left++] = argv[i];
        if (text && (!value || !*value)) {
            admin_fail(e, ADMIN_USAGE, "usage", "%s needs a path", name);
            return -1;
        }
        if (text)
            *text = value;
    }
    return left;
}

static uint64_t own_number(struct json_object *arguments, const char *name, double factor,
                           uint64_t low, uint64_t high, uint64_t otherwise, struct admin_error *e)
{
    const char *text = admin_text(arguments, name, NULL);
    char *end;
    if (!text)
        return otherwise;
    double value = strtod(text, &end) * factor;
    if (*text >= '0' && *text <= '9' && !*end && value >= (double)low && value <= (double)high)
        return (uint64_t)value;
    admin_fail(e, ADMIN_USAGE, "usage", "top: --%s '%s' is not a number from %g to %g", name, text,
               (double)low / factor, (double)high / factor);
    return 0;
}

static enum admin_status run_own(const struct admin_command *c, const struct admin_options *options,
                                 struct json_object *arguments, struct admin_error *e)
{
    if (!strcmp(c->name, "events")) {
        bool follow = admin_flag(arguments, "follow");
        json_object_object_del(arguments, "follow");
        return admin_events(options, arguments, follow, e);
    }
    if (!strcmp(c->name, "top")) {
        struct admin_top_options top = {
            .interval_ms = own_number(arguments, "interval", 1000, 100, 3600000, 2000, e),
            .batch = own_number(arguments, "batch", 1, 1, 1000000000, options->json, e),
            .sort = admin_text(arguments, "sort", NULL),
            .filter = admin_text(arguments, "filter", NULL),
        };
        return e->status ? e->status : admin_top(options, &top, e);
    }
    struct admin_doctor_options doctor = {
        .root = admin_text(arguments, "root", ""),
        .config = admin_text(arguments, "config", NULL),
        .worker = admin_text(arguments, "worker", NULL),
    };
    return admin_doctor(options, &doctor, e);
}

static enum admin_status run(const struct admin_command *c, const struct admin_options *options,
                             struct json_object *arguments, struct admin_error *e)
{
    const char *op = c->op ? c->op : c->name;
    struct json_object *result;
    if (options->registry) {
        result = admin_direct(options->registry, op, arguments, e);
    } else if (!c->show) {
        return run_own(c, options, arguments, e);
    } else {
        struct admin_link *link = admin_link_open(options->control, e);
        if (!link)
            return e->status;
        result = admin_link_call(link, op, arguments, e);
        admin_link_close(link);
    }
    if (!result)
        return e->status;
    if (options->json)
        admin_json_print(result, stdout);
    else
        c->show(result, stdout);
    json_object_put(result);
    return ADMIN_OK;
}

int main(int argc, char **argv)
{
    struct admin_options options = {.control = getenv("VGPU_CONTROL")};
    struct admin_error e = {0};
    bool help = false;
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN); /* a pipe that nobody reads any more is an error like another */
    if (options.control && !*options.control)
        options.control = NULL;
    int words = take_common(argc - 1, argv + 1, &options, &help, &e);
    options.control_said = options.control != NULL;
    if (!options.control)
        options.control = ADMIN_CONTROL_DEFAULT;
    if (words < 0)
        return report(&options, &e);
    if (words && !strcmp(argv[1], "--version")) {
        puts("vgpu-admin " VGPU_VERSION);
        return cli_finish(ADMIN_PROGRAM, ADMIN_OK);
    }
    if (!words && !help) {
        usage(stderr);
        return ADMIN_USAGE;
    }
    const struct admin_command *command = words ? admin_command_find(argv[1]) : NULL;
    if (words && !command) {
        admin_fail(&e, ADMIN_USAGE, "usage", "there is no command '%s'", argv[1]);
        return report(&options, &e);
    }
    if (help) {
        if (command)
            admin_command_usage(command, stdout);
        else
            usage(stdout);
        return cli_finish(ADMIN_PROGRAM, ADMIN_OK);
    }
    struct json_object *arguments = admin_command_read(command, words - 1, argv + 2, &e);
    if (arguments)
        e.status = run(command, &options, arguments, &e);
    json_object_put(arguments);
    return e.status && e.text[0] ? report(&options, &e) : cli_finish(ADMIN_PROGRAM, e.status);
}
