/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device model on a bench: callbacks that record what was asked of them, and a mediator played by
 * hand. It owns no expectation; the tests do.
 */
#ifndef VGPU_DEVICE_RIG_H
#define VGPU_DEVICE_RIG_H

#include "vgpu_test.h"

#include "device/device.h"
#include "vgpu/protocol.h"

#define RIG_TX_BYTES (256u * 1024u)
#define RIG_FDS_MAX  64u
#define RIG_LAST     VGPU_DEVICE_LINK_CLOSED
#define MS           1000000ull
#define S            1000000000ull

struct rig {
    struct vgpu_device dev;
    uint64_t now;

    uint8_t tx[RIG_TX_BYTES]; /* what the device has sent and nobody has taken */
    size_t tx_length;
    size_t room;         /* bytes that link_send still takes */
    size_t piece;        /* bytes that link_send takes at most in one call */
    ssize_t send_error;  /* returned by link_send when not 0 */
    bool close_in_send;  /* link_send reports the link's end itself */
    bool reopen_in_send; /* ... and then a new connection */
    bool close_at_once;  /* link_close reports the link's end itself */

    unsigned closes, interrupts;
    uint64_t deadline;
    unsigned events[RIG_LAST + 1];
    struct vgpu_device_event last[RIG_LAST + 1]; /* of each kind; text is not valid */
    char text[1024];                             /* of the last event with a text */
    void (*on_interrupt)(struct rig *rig);
    void (*on_send)(struct rig *rig); /* after link_send has taken bytes */

    /* The window. Descriptors are numbers: 1000 x how often it was opened, + 1 for the memory,
     * + 100 + n and + 200 + n for channel n's. */
    unsigned opens, window_closes;
    bool window_open;
    int open_error; /* returned by window_open when not 0 */
    unsigned rung[VGPU_CHANNELS_MAX];
    struct rig_fds {
        unsigned count;
        int fds[VGPU_LINK_MAX_FDS];
    } fds[RIG_FDS_MAX]; /* that went with messages, in order */
    unsigned fds_first, fds_count;
};

struct rig_message {
    uint32_t type, fd_count, length, reserved;
    uint64_t seq;
    uint8_t payload[VGPU_LINK_MAX_PAYLOAD];
    int fds[VGPU_LINK_MAX_FDS]; /* as many as fd_count says */
};

/* Fixtures: *state becomes a struct rig with a device that has the properties A, medium, vm 7,
 * 1000 ms; attached to pool B, high, vm 9 in the second. */
int rig_setup(void **state);
int rig_setup_attached(void **state);
/* The same with a window of 16 MiB and 10 channels; attached with channels in the second. */
int rig_setup_window(void **state);
int rig_setup_channels(void **state);
int rig_teardown(void **state);

struct vgpu_device_config rig_config(void);
struct vgpu_device_config rig_config_window(void);
void rig_init(struct rig *rig, const struct vgpu_device_config *config);

uint64_t rig_read(struct rig *rig, uint32_t offset, unsigned size);
void rig_write(struct rig *rig, uint32_t offset, uint64_t value, unsigned size);
uint32_t rd32(struct rig *rig, uint32_t offset);
void wr32(struct rig *rig, uint32_t offset, uint32_t value);
/* A register's bytes, read one at a time: no side effect (R4). */
uint32_t peek(struct rig *rig, uint32_t offset);
bool response_is_zero(struct rig *rig);

/* The mediator's side. */
void put_le(uint8_t *to, uint64_t value, unsigned bytes);
uint64_t get_le(const uint8_t *from, unsigned bytes);
size_t build(uint8_t *to, uint32_t type, uint64_t seq, const void *payload, uint32_t length);
void rig_receive(struct rig *rig, const void *bytes, size_t length);
void rig_say(struct rig *rig, uint32_t type, uint64_t seq, const void *payload, uint32_t length);
void rig_welcome(struct rig *rig, uint32_t type, uint32_t vm_id, uint32_t pool, uint32_t priority);
void rig_respond(struct rig *rig, uint64_t seq, uint32_t error_code, const void *bytes,
                 uint32_t length);
/* Takes one whole message that the device sent; false when there is none. */
bool rig_take(struct rig *rig, struct rig_message *message);
/* Takes one that must be there and of this type; returns its seq. */
uint64_t rig_expect(struct rig *rig, uint32_t type);
void rig_expect_silence(struct rig *rig);
void rig_attach(struct rig *rig);
/* WELCOME with these features; whatever follows is not taken. */
void rig_welcome_features(struct rig *rig, uint64_t features);
/* HELLO, WELCOME with channels, and the WINDOW messages are taken. */
void rig_attach_channels(struct rig *rig);
void rig_state(struct rig *rig, uint32_t channel, uint32_t serial, uint32_t state, uint32_t error);
/* A CHANNEL_ENABLE or CHANNEL_RESET of this channel must be next; returns its serial. */
uint32_t rig_expect_channel(struct rig *rig, uint32_t type, uint32_t channel);

/* The guest submits `length` bytes of a pattern, REQUEST_ID id; nothing is checked. */
void rig_doorbell(struct rig *rig, uint32_t length, uint32_t id);
/* The same, and the REQUEST must come out; returns its seq. */
uint64_t rig_submit(struct rig *rig, uint32_t length, uint32_t id);
uint8_t pattern(uint32_t id, uint32_t at);

#endif
