/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of vgpu-bench: a path that carries requests, samples and their percentiles, a mediator
 * of its own, and the bare relay that paths are compared with.
 */
#ifndef VGPU_CLI_BENCH_H
#define VGPU_CLI_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "vgpu/protocol.h"

/* ---- What was asked for ---- */

struct bench_settings {
    const char *transport, *device, *mediator_dir, *mediator_config;
    const char *library, *native; /* libcuda.so.1 of ours, of NVIDIA's */
    const char *svg;              /* a picture goes there */
    uint64_t seconds, count, vm_id;
    uint64_t copy_bytes;              /* of large copies */
    uint64_t pinned_bytes;            /* the same, at most what fits the arena of the window */
    uint64_t kernel_us, gap_us, hogs; /* share; 0: not said */
    bool has_vm_id, has_copy, json;
};

/* Whether another sample belongs to this figure, after `done` of them since start_ns. */
bool bench_goes_on(const struct bench_settings *settings, uint64_t done, uint64_t start_ns);

/* ---- Samples ---- */

struct bench_samples {
    uint64_t *ns;
    size_t count, capacity;
};

/* Drops the sample when there is no memory for it. */
void bench_add(struct bench_samples *samples, uint64_t ns);
void bench_free(struct bench_samples *samples);

struct bench_summary {
    size_t count;
    double min_us, median_us, p90_us, p99_us, max_us;
};
/* Sorts the samples. */
struct bench_summary bench_summarize(struct bench_samples *samples);

/* ---- A path for requests ---- */

struct bench_path {
    const char *name;
    void *state;
    /* Carries one request. `response` has VGPU_MAILBOX_BYTES. Adds the time that this path wants to
     * be judged by to *ns. False with a text on stderr when it failed. */
    bool (*exchange)(void *state, const void *request, uint32_t length, uint8_t *response,
                     uint32_t *response_length, uint32_t *error_code, uint64_t *ns);
};

/* The NOP that round trips are measured with. Returns its length. */
uint32_t bench_build_nop(uint8_t bytes[VGPU_MAILBOX_BYTES]);

/* By vgpu_execute_request; the state is a struct vgpu. */
bool bench_library_exchange(void *state, const void *request, uint32_t length, uint8_t *response,
                            uint32_t *response_length, uint32_t *error_code, uint64_t *ns);

/* ---- The mailbox ---- */

struct bench_mailbox_rates {
    double to_bytes_per_s, from_bytes_per_s;
    uint64_t to_count, from_count; /* requests */
};
/* Round trips of a NOP, and copies of session 0, one request at a time. */
bool bench_mailbox_nop(const struct bench_settings *settings, const struct bench_path *path,
                       struct bench_samples *samples);
bool bench_mailbox_copies(const struct bench_settings *settings, const struct bench_path *path,
                          struct bench_mailbox_rates *rates);

/* `vgpu-bench mailbox` and `vgpu-bench relay`: measured and printed. */
bool bench_run_mailbox(const struct bench_settings *settings, const struct bench_path *path);
bool bench_run_relay(const struct bench_settings *settings, const struct bench_path *path);

/* ---- A mediator of our own ---- */

struct bench_mediator {
    pid_t pid;
    char directory[64];   /* watched; also holds its socket for local clients */
    char socket_path[96]; /* of --listen */
};

/* Starts one, with a temporary directory; `config` is its configuration file or NULL. False with a
 * text on stderr, and nothing left behind. */
bool bench_mediator_start(struct bench_mediator *mediator, const char *config);
void bench_mediator_stop(struct bench_mediator *mediator);

/*
 * From here on the first SIGINT, SIGTERM or SIGHUP only sets a flag, for whoever measures to end
 * early and leave no directory and no process behind. A second one ends the program as usual.
 */
void bench_catch_signals(void);
bool bench_stopped(void);
/* Ends the program by the signal that was caught, if any. */
void bench_reraise(void);

/* ---- The device model without a hypervisor, linked to a mediator ---- */

struct bench_device;

/* Makes the socket vm-<vm_id>.sock in a directory that a mediator watches, and waits until that has
 * attached. NULL with a text on stderr. */
struct bench_device *bench_device_open(const char *directory, uint32_t vm_id);
void bench_device_close(struct bench_device *device);
/* Its times run from the write of DOORBELL to the read of STATUS that shows the completion. */
struct bench_path bench_device_path(struct bench_device *device);

/* ---- A process that sleeps on an eventfd ---- */

struct bench_wake;

/* NULL with a text on stderr. */
struct bench_wake *bench_wake_open(void);
void bench_wake_close(struct bench_wake *wake);
/* Wakes it, and is woken. False when that was interrupted. */
bool bench_wake_round(struct bench_wake *wake, uint64_t *ns);

/* ---- A bare relay over the same sockets ---- */

struct bench_relay;

/* client --stream--> relay process --seqpacket--> echo process and back, with the sizes of messages
 * that a request of `request_bytes` answered by `response_bytes` has on the real way. */
struct bench_relay *bench_relay_open(uint32_t request_bytes, uint32_t response_bytes);
void bench_relay_close(struct bench_relay *relay);
/* One message there and back. False when a process is gone. */
bool bench_relay_round(struct bench_relay *relay, uint64_t *ns);

#endif
