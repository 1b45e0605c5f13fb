/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vgpu-sim: the scheduler in virtual time, from a scenario file to tables and pictures. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/parse.h"
#include "config.h"
#include "sim/sim.h"

static const char usage[] =
    "usage: vgpu-sim [--csv FILE] [--svg FILE] [--seed N] [--time] SCENARIO\n"
    "\n"
    "Runs the mediator's scheduler with the VMs and GPUs of a scenario file, in virtual time.\n"
    "  --csv FILE   a line for each VM\n"
    "  --svg FILE   a picture: who held which GPU when, and how long requests took\n"
    "  --seed N     in place of the scenario's\n"
    "  --time       measure what a decision takes\n"
    "FILE - is standard output; the table is left out then.\n"
    "Exit status: 0 every invariant held, 1 one did not or something failed, 2 wrong arguments.\n"
    "Scenarios: docs/scheduling.md says what they may contain.\n";

static int write_file(const char *path, const struct vgpu_sim_run *run,
                      void (*write)(const struct vgpu_sim_run *run, FILE *out))
{
    bool std = !strcmp(path, "-");
    FILE *out = std ? stdout : fopen(path, "we");
    if (out) {
        write(run, out);
        bool failed = ferror(out) != 0;
        if (!std && fclose(out))
            failed = true;
        if (!failed)
            return 0;
    }
    fprintf(stderr, "vgpu-sim: %s: %s\n", path, strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"csv", required_argument, NULL, 'c'},
                                            {"svg", required_argument, NULL, 's'},
                                            {"seed", required_argument, NULL, 'n'},
                                            {"time", no_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    const char *csv = NULL, *svg = NULL;
    uint64_t seed = 0;
    bool timed = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            csv = optarg;
            break;
        case 's':
            svg = optarg;
            break;
        case 'n':
            if (vgpu_parse_u64(optarg, 1, UINT64_MAX, &seed)) {
                fprintf(stderr, "vgpu-sim: --seed '%s' is not a number from 1 on\n", optarg);
                return 2;
            }
            break;
        case 't':
            timed = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        case 'v':
            puts("vgpu-sim " VGPU_VERSION);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind != argc - 1) {
        fputs(usage, stderr);
        return 2;
    }
    char error[VGPU_SIM_ERROR];
    struct vgpu_sim_scenario *scenario = vgpu_sim_load(argv[optind], error);
    if (!scenario) {
        fprintf(stderr, "vgpu-sim: %s\n", error);
        return 1;
    }
    if (seed)
        scenario->seed = seed;
    struct vgpu_sim_run *run = vgpu_sim(scenario, timed);
    int rc = 1;
    if (!run) {
        fprintf(stderr, "vgpu-sim: out of memory\n");
    } else {
        rc = run->broken[0] != 0;
        if (!(csv && !strcmp(csv, "-")) && !(svg && !strcmp(svg, "-")))
            vgpu_sim_table(run, stdout);
        else if (rc)
            fprintf(stderr, "vgpu-sim: %s\n", run->broken);
        if (csv)
            rc |= write_file(csv, run, vgpu_sim_csv);
        if (svg)
            rc |= write_file(svg, run, vgpu_sim_picture);
    }
    vgpu_sim_free(run);
    vgpu_sim_scenario_free(scenario);
    return rc;
}
