/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asking the mediator for its figures over the control socket (docs/control.md K13). Knows the
 * protocol and nothing of metrics. One connection for each question, so that a mediator that was
 * started again is no special case.
 */
#ifndef VGPU_EXPORTER_CLIENT_H
#define VGPU_EXPORTER_CLIENT_H

#include <json-c/json.h>

#define VGPU_CLIENT_WHY 256u /* bytes for a reason */

/*
 * All of `stats`: an object with "vms", "gpus" and "mediator"; the caller puts it. NULL after
 * timeout_ms at most, with a reason in why.
 */
struct json_object *vgpu_client_stats(const char *socket, unsigned timeout_ms, char *why);

#endif
