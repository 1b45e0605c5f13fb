/* SPDX-License-Identifier: MIT */
/*
 * The vgpu-stub device without a hypervisor: registers, mailbox, channels and the device's side of
 * the link (docs/register-map.md, docs/link.md), driven by events. It owns the state of one device
 * and refuses to know what a hypervisor, a socket, a clock or a thread is: whoever embeds it says
 * what happened and when, and carries out what the callbacks ask for. It never looks into the
 * window.
 *
 * Rules for the embedder
 * - One event at a time: no two calls for one device run at once in different threads.
 * - Nothing is allocated. struct vgpu_device is the embedder's memory; its fields are private,
 *   except `stats`, which may be read between events.
 * - now_ns is the host's CLOCK_MONOTONIC in nanoseconds, and does not go back.
 * - A callback may lead back into the device (a send that finds the peer gone reports link_closed;
 *   an interrupt may be aimed at the device's own registers). The device is ready for that. It is
 *   not ready for being initialized again or freed before the outermost call has returned.
 */
#ifndef VGPU_DEVICE_H
#define VGPU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vgpu/link.h"
#include "vgpu/registers.h"

#define VGPU_DEVICE_TIMEOUT_MS_MIN     100u
#define VGPU_DEVICE_TIMEOUT_MS_MAX     3600000u
#define VGPU_DEVICE_TIMEOUT_MS_DEFAULT 30000u

struct vgpu_device_config {
    uint32_t pool_id;    /* 'A'-'Z' */
    uint32_t priority;   /* enum vgpu_priority */
    uint32_t vm_id;      /* any */
    uint32_t timeout_ms; /* VGPU_DEVICE_TIMEOUT_MS_MIN to _MAX */
    bool msix;           /* raise_interrupt works: CAPABILITIES bit 1 */
    /* A power of two, VGPU_WINDOW_BYTES_MIN to _MAX, and more than the channels have; 0: no window
     * and no channels. */
    uint64_t window_bytes;
    uint32_t channel_count; /* 1 to VGPU_CHANNELS_MAX; ignored without a window */
};

/* What an event may have led to; for logs and traces, nothing depends on anyone listening. */
enum vgpu_device_event_kind {
    VGPU_DEVICE_GUEST_ERROR,      /* R5; already limited to ten a second */
    VGPU_DEVICE_SUBMITTED,        /* a request is on its way to the mediator */
    VGPU_DEVICE_COMPLETED,        /* STATUS became DONE or ERROR */
    VGPU_DEVICE_TIMED_OUT,        /* R12; COMPLETED follows */
    VGPU_DEVICE_RESPONSE_DROPPED, /* L11 */
    VGPU_DEVICE_RESET,            /* R15 */
    VGPU_DEVICE_CHANNEL_ACTIVE,   /* R24 */
    VGPU_DEVICE_CHANNEL_FATAL,    /* R24 */
    VGPU_DEVICE_CHANNEL_FREE,     /* R24: a reset is done */
    VGPU_DEVICE_LINK_OPENED,      /* someone connected; not attached yet */
    VGPU_DEVICE_LINK_ATTACHED,    /* WELCOME */
    VGPU_DEVICE_LINK_UPDATED,     /* UPDATE */
    VGPU_DEVICE_LINK_REFUSED,     /* REFUSE */
    VGPU_DEVICE_LINK_VIOLATION,   /* L1; link_close follows */
    VGPU_DEVICE_LINK_FAILED,      /* link_send reported an error; link_close follows */
    VGPU_DEVICE_LINK_CLOSED,      /* the peer is gone, for whatever reason */
};

struct vgpu_device_event {
    enum vgpu_device_event_kind kind;
    /* GUEST_ERROR, LINK_VIOLATION: what was wrong. LINK_REFUSED: the mediator's words, UTF-8
     * without control characters. Else "". Valid during the call only. */
    const char *text;
    uint64_t seq;      /* the request's number on the link; 0: none */
    uint32_t code;     /* GUEST_ERROR: offset. COMPLETED: ERROR_CODE. LINK_REFUSED: reason. RESET,
                          LINK_CLOSED: GENERATION. LINK_FAILED: errno. SUBMITTED: REQUEST_ID.
                          CHANNEL_*: the channel. */
    uint64_t value;    /* GUEST_ERROR: what was written. SUBMITTED, COMPLETED: bytes.
                          LINK_VIOLATION: the offending value. CHANNEL_FATAL: CHANNEL_ERROR. */
    uint64_t unlogged; /* GUEST_ERROR: how many before this one were kept quiet by the limit */
};

/* The window's descriptors. They are the embedder's: the device only hands them to link_send_fds.
 */
struct vgpu_device_window {
    int memory;                       /* sealed against growing, shrinking and more seals */
    int doorbell[VGPU_CHANNELS_MAX];  /* eventfds, as many as there are channels */
    int interrupt[VGPU_CHANNELS_MAX]; /* the same */
};

/* What the device asks of its embedder. None may block. All but link_send may be NULL, and for a
 * device with a window link_send_fds and window_open may not. */
struct vgpu_device_ops {
    /* Takes up to length bytes for the peer: returns how many, or 0 or -EAGAIN for none now (then
     * vgpu_device_link_writable is due later), or another negative errno: the link is dead. */
    ssize_t (*link_send)(void *opaque, const void *bytes, size_t length);
    /* The same, with descriptors beside the first byte: none of them goes unless a byte does. */
    ssize_t (*link_send_fds)(void *opaque, const void *bytes, size_t length, const int *fds,
                             unsigned fd_count);
    /* A mediator that speaks of channels has attached: fill in its descriptors, which stay open
     * until window_close, and from now on wake it by the doorbells and raise MSI-X vector
     * VGPU_MSIX_CHANNEL + n when interrupt[n] is signalled. Eventfds are new ones each time: a
     * process that a mediator before left behind must not eat this one's doorbells. 0, or a
     * negative errno, with nothing open: the link is given up. Must not lead back into the
     * device. */
    int (*window_open)(void *opaque, struct vgpu_device_window *window);
    /* That mediator is lost. Undoes window_open. Must not lead back into the device. */
    void (*window_close)(void *opaque);
    /* The guest rang CHANNEL_DOORBELL[channel] by an access that the embedder did not serve itself;
     * only between window_open and window_close. */
    void (*ring_doorbell)(void *opaque, uint32_t channel);
    /* Ends the connection, now or soon. For the device it has ended already. */
    void (*link_close)(void *opaque);
    /* Raises MSI-X vector VGPU_MSIX_MAILBOX. */
    void (*raise_interrupt)(void *opaque);
    /* vgpu_device_timer is due at deadline_ns; 0: never. Replaces the deadline before. */
    void (*set_timer)(void *opaque, uint64_t deadline_ns);
    /* Must not lead back into the device. */
    void (*event)(void *opaque, const struct vgpu_device_event *event);
};

struct vgpu_device_stats {
    uint64_t requests;          /* sent, or to be sent, to the mediator */
    uint64_t completions;       /* of any kind */
    uint64_t errors;            /* completions with an ERROR_CODE */
    uint64_t timeouts;          /* R12 */
    uint64_t doorbells_ignored; /* R9 */
    uint64_t guest_errors;      /* R5, logged or not */
    uint64_t responses_dropped; /* L11 */
    uint64_t resets;            /* R15 */
    uint64_t attached;          /* WELCOMEs */
    uint64_t refused;           /* REFUSEs */
    uint64_t violations;        /* L1 */
    uint64_t claims;            /* R21: tokens taken */
    uint64_t claims_refused;    /* R21: tokens not taken */
    uint64_t channel_enables;   /* R22: with a mediator to ask */
    uint64_t channel_resets;    /* R23: the same */
    uint64_t channels_lost;     /* times at which a channel became fatal */
    uint64_t states_dropped;    /* L19 */
};

#define VGPU_DEVICE_GUEST_ERRORS_PER_S 10u
/* The largest message in each direction. */
#define VGPU_DEVICE_RX_BYTES                                                                       \
    (sizeof(struct vgpu_link_header) + sizeof(struct vgpu_link_response) + VGPU_MAILBOX_BYTES)
#define VGPU_DEVICE_TX_BYTES                                                                       \
    (sizeof(struct vgpu_link_header) + sizeof(struct vgpu_link_request) + VGPU_MAILBOX_BYTES)

enum vgpu_device_link_state {
    VGPU_DEVICE_LINK_DOWN = 0,    /* nobody connected */
    VGPU_DEVICE_LINK_HELLO = 1,   /* connected, no WELCOME yet */
    VGPU_DEVICE_LINK_UP = 2,      /* attached */
    VGPU_DEVICE_LINK_REFUSAL = 3, /* REFUSE came, the mediator is about to close */
    VGPU_DEVICE_LINK_CLOSING = 4, /* given up by the device, link_closed not reported yet */
};

/* Private. Where a channel is between the guest's words and the mediator's (channel.c). */
enum vgpu_device_channel_phase {
    VGPU_DEVICE_CHANNEL_IDLE = 0,      /* free */
    VGPU_DEVICE_CHANNEL_ENABLING = 1,  /* the mediator was asked, or is about to be */
    VGPU_DEVICE_CHANNEL_ENABLED = 2,   /* active */
    VGPU_DEVICE_CHANNEL_BROKEN = 3,    /* fatal */
    VGPU_DEVICE_CHANNEL_RESETTING = 4, /* not free before the mediator says so */
};

/* Private. */
struct vgpu_device_channel {
    uint32_t owner;
    uint32_t phase;       /* enum vgpu_device_channel_phase */
    uint32_t shown;       /* CHANNEL_CTRL, enum vgpu_channel_state */
    uint32_t error;       /* CHANNEL_ERROR */
    uint32_t serial;      /* of the last message about it on this connection */
    uint64_t reset_waits; /* to be sent: its place in the order; 0: not */
    uint64_t enable_waits;
};

/* Private. The link: one message being received, one being sent, and what is to be sent next.
 * Nothing is queued: each kind of message can wait at most once (link.c says why). */
struct vgpu_device_link {
    enum vgpu_device_link_state state;
    uint32_t epoch; /* moves with every connection that comes or goes */
    bool flushing;
    uint32_t rx_length;
    uint32_t tx_length;
    uint32_t tx_sent;
    uint64_t tx_request_seq; /* of the REQUEST in tx, 0: another message */
    uint32_t tx_fd_count;
    int tx_fds[VGPU_LINK_MAX_FDS]; /* go with the first byte of tx */
    bool channels;                 /* both sides speak of channels */
    bool window_opened;
    uint32_t window_step; /* of the WINDOW messages, the one that is next; 0: none waits */
    uint64_t last_order;
    bool cancel_waits;
    bool reset_waits;
    uint64_t request_waits; /* its place in the order; 0: not */
    uint64_t cancel_seq;
    uint64_t request_seq;
    uint32_t request_id;
    uint32_t request_length;
    uint8_t request[VGPU_MAILBOX_BYTES];
    uint8_t rx[VGPU_DEVICE_RX_BYTES];
    uint8_t tx[VGPU_DEVICE_TX_BYTES];
};

struct vgpu_device {
    struct vgpu_device_stats stats; /* may be read */

    /* Private from here on. */
    struct vgpu_device_config config;
    const struct vgpu_device_ops *ops;
    void *opaque;

    uint32_t status, error_code, pool_id, priority, vm_id;
    uint32_t request_len, response_len, request_id;
    uint32_t interrupt_ctrl, interrupt_status, scratch, generation;
    uint64_t timestamp_ns;
    uint32_t timestamp_hi_latched;
    uint8_t request_buf[VGPU_MAILBOX_BYTES];
    uint8_t response_buf[VGPU_MAILBOX_BYTES];

    uint64_t last_seq;     /* never used twice in the device's life (L8) */
    uint64_t inflight_seq; /* while BUSY */
    bool inflight_sent;    /* the whole REQUEST was handed to the link */
    uint64_t deadline_ns;  /* while BUSY */
    bool raising;          /* inside raise_interrupt */

    uint64_t logged_ns[VGPU_DEVICE_GUEST_ERRORS_PER_S]; /* when the last ten were logged */
    uint64_t logged;
    uint64_t unlogged;

    struct vgpu_device_window window; /* while link.window_opened */
    struct vgpu_device_channel channels[VGPU_CHANNELS_MAX];
    struct vgpu_device_link link;
};

/*
 * Makes a device: not attached, STATUS IDLE, GENERATION 0. ops must outlive the device.
 * Returns 0, or -EINVAL when a field of config is out of range (nothing is changed then).
 */
int vgpu_device_init(struct vgpu_device *dev, const struct vgpu_device_config *config,
                     const struct vgpu_device_ops *ops, void *opaque);

/*
 * The guest accesses BAR0. offset: any; what lies outside the BAR reads 0 and ignores writes. size:
 * 1 to 8 bytes, any alignment. Byte i of the value is the byte at offset + i.
 */
uint64_t vgpu_device_read(struct vgpu_device *dev, uint64_t offset, unsigned size, uint64_t now_ns);
void vgpu_device_write(struct vgpu_device *dev, uint64_t offset, uint64_t value, unsigned size,
                       uint64_t now_ns);

/* Power, bus or function-level reset (R15). */
void vgpu_device_reset(struct vgpu_device *dev, uint64_t now_ns);

/* A mediator connected. If another connection was open, that one is lost first. */
void vgpu_device_link_opened(struct vgpu_device *dev, uint64_t now_ns);

/* Bytes came, in pieces of any size, with fd_count descriptors. The embedder closes those: any is a
 * violation. */
void vgpu_device_link_received(struct vgpu_device *dev, const void *bytes, size_t length,
                               unsigned fd_count, uint64_t now_ns);

/* The link takes bytes again. May be called at any time. */
void vgpu_device_link_writable(struct vgpu_device *dev, uint64_t now_ns);

/* The connection is gone. May be called when there is none. */
void vgpu_device_link_closed(struct vgpu_device *dev, uint64_t now_ns);

/* The deadline given to set_timer has come. May be called early, late or twice. */
void vgpu_device_timer(struct vgpu_device *dev, uint64_t now_ns);

/* True while bytes wait for vgpu_device_link_writable. */
bool vgpu_device_link_wants_write(const struct vgpu_device *dev);

/* For those who look on; nothing else is to be decided by it. */
enum vgpu_device_link_state vgpu_device_link_state(const struct vgpu_device *dev);

/* True while LINK_STATE bit 0 is set. */
bool vgpu_device_attached(const struct vgpu_device *dev);

#endif
