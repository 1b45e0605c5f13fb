/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vgpu device for the library's tests: the real device model (src/device) in a thread, reached by
 * every register access of this process and its forked children through a socket, so that each
 * access arrives with its width and its order. On the device's link sits a host that the test
 * scripts. The library under test is compiled with VGPU_MMIO_HOOKED.
 */
#ifndef VGPU_TEST_MODEL_H
#define VGPU_TEST_MODEL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"
#include "guest/vgpu_mmio_client.h"
#include "ring/ring.h"

struct model;

/* A request as the host got it. */
struct model_request {
    uint64_t seq;
    uint32_t id; /* REQUEST_ID */
    uint32_t length;
    uint8_t bytes[VGPU_MAILBOX_BYTES];
};

/*
 * Answers a request, with model_respond, now or later (then by the test's own thread). Runs in the
 * model's thread with its lock held.
 */
typedef void (*model_handler)(struct model *model, const struct model_request *request);

/* A record of a channel that is neither a REQUEST nor a NOP; in the worker's thread, lock held. */
typedef void (*model_record_handler)(struct model *model, uint32_t channel,
                                     const struct vgpu_ring_record *record, const uint8_t *body);

#define MODEL_LOG          4096
#define MODEL_CHANNELS     2u
#define MODEL_WINDOW_BYTES (32u << 20)

/* A channel as the host sees it. Its worker is a thread that takes the records of all of them. */
struct model_channel {
    bool active;
    struct vgpu_ring_server ring;
    struct vgpu_ring_record asked[VGPU_RING_COMPLETIONS]; /* REQUESTs without an answer, by token */
    unsigned enables, resets;                             /* that the host was told of */
};

struct model {
    pthread_t thread;
    int listen_fd, wake[2];
    char directory[96];
    char socket_path[108];
    char resource0[108];
    char run_dir[108];
    char resource2[108]; /* empty: no window */
    int window_fd, eventfds[2 * MODEL_CHANNELS];
    uint8_t *window;
    pthread_t worker;
    model_record_handler record_handler;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t moved;
    struct vgpu_device device;
    model_handler handler;
    void *context;          /* the handler's */
    uint64_t deadline_ns;   /* of the device's timer */
    uint64_t accesses;      /* register accesses so far */
    uint64_t reads, writes; /* of them */
    int fake_offset;        /* -1, or the register whose reads give fake_value */
    uint32_t fake_value;
    uint8_t sent[VGPU_DEVICE_TX_BYTES]; /* what the device is sending */
    size_t sent_length;
    struct model_request log[MODEL_LOG]; /* what the host got */
    unsigned log_count;
    struct model_channel channel[MODEL_CHANNELS];
    bool keeps_silent; /* answers no CHANNEL_ENABLE and no CHANNEL_RESET */
    bool stop;
};

/* Starts a model whose host is attached, and which vgpu_init finds by model_options. */
struct model *model_start(model_handler handler, void *context);
/* The same with a window of MODEL_CHANNELS channels and a worker behind them. */
struct model *model_start_windowed(model_handler handler, model_record_handler record_handler,
                                   void *context);
void model_stop(struct model *model);
struct vgpu_options model_options(const struct model *model);

/* All of these lock, but for model_respond inside a handler. */
void model_lock(struct model *model);
void model_unlock(struct model *model);
void model_attach(struct model *model);
void model_lose_link(struct model *model);
void model_reset(struct model *model);
/* Reads of the register at `offset` give `value`; -1: no more. */
void model_fake_register(struct model *model, int offset, uint32_t value);
/* Waits until the host has got `count` requests; false after 20 s. */
bool model_wait_requests(struct model *model, unsigned count);
unsigned model_request_count(struct model *model);
/* Copies entry `index` of what the host got. */
struct model_request model_request_at(struct model *model, unsigned index);

/* The host's answer; the lock is held. `bytes` may be NULL when length is 0. */
void model_respond(struct model *model, uint64_t seq, uint32_t error_code, const void *bytes,
                   uint32_t length);
/* The answer to a record, in a model_record_handler. */
void model_answer(struct model *model, uint32_t channel, const struct vgpu_ring_record *record,
                  uint32_t status, const void *bytes, uint32_t length);
/* The mediator says that the channel is fatal. */
void model_break_channel(struct model *model, uint32_t channel, uint32_t error);
/* A response: header, results, data. Returns its length. */
uint32_t model_build_response(uint8_t bytes[VGPU_MAILBOX_BYTES], uint32_t status,
                              const uint32_t *results, uint32_t result_count, const void *data,
                              uint32_t data_length);

/* One access as another program could make it, past the library. */
uint32_t model_read32(uint32_t offset);
void model_write32(uint32_t offset, uint32_t value);

#endif
