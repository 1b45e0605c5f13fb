/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the mediator's figures to Prometheus's text format (version 0.0.4). Pure. docs/metrics.md
 * lists what there is; the tables here and that page are held against each other by a test.
 */
#ifndef VGPU_EXPORTER_METRICS_H
#define VGPU_EXPORTER_METRICS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/text.h"
#include "exporter/nvml.h"

/* What the exporter knows by itself. */
struct vgpu_exporter_state {
    const char *version;
    uint64_t scrapes, queries, query_errors;
    double query_seconds; /* the last one took */
    uint64_t restarts;    /* of the mediator, that were seen */
};

/* Everything. stats NULL: the mediator is away. nvml NULL: there is no NVML. */
void vgpu_metrics_write(struct vgpu_text *text, struct json_object *stats,
                        const struct vgpu_exporter_state *state,
                        const struct vgpu_nvml_sample *nvml);

/* When the mediator of these figures was started; 0: they do not say. */
double vgpu_metrics_start_time(struct json_object *stats);

#endif
