/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exporter's HTTP server: /metrics, a short page at /, 404 for the rest. One thread serves all
 * connections and asks the mediator, so whoever comes while it does so gets the same answer; that
 * answer holds for a moment, however many ask.
 */
#ifndef VGPU_EXPORTER_SERVER_H
#define VGPU_EXPORTER_SERVER_H

#include <stdint.h>

#include "exporter/nvml.h"

struct vgpu_server_config {
    const char *host; /* an address, IPv4 or IPv6 */
    uint16_t port;    /* 0: any */
    const char *control;
    unsigned cache_ms;      /* how long an answer holds */
    unsigned timeout_ms;    /* for the mediator */
    struct vgpu_nvml *nvml; /* NULL: there is none */
};

struct vgpu_server;

/* NULL with a reason in why (256 bytes). The config's strings and nvml must outlive it. */
struct vgpu_server *vgpu_server_start(const struct vgpu_server_config *config, char *why);
uint16_t vgpu_server_port(const struct vgpu_server *server);
void vgpu_server_stop(struct vgpu_server *server);

#endif
