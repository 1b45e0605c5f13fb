/* SPDX-License-Identifier: MIT */
/*
 * The link: what a device and the mediator say to each other over one Unix stream socket. The prose
 * is docs/link.md. Little-endian. No code here.
 */
#ifndef VGPU_LINK_H
#define VGPU_LINK_H

#include <assert.h>
#include <stdint.h>

#include "vgpu/registers.h"
#include "vgpu/ring.h"

#define VGPU_LINK_MAGIC       0x4B4E4C56u /* "VLNK" */
#define VGPU_LINK_MAX_PAYLOAD 2048u       /* bytes after the header, any message */
#define VGPU_LINK_MAX_FDS     16u         /* descriptors in one batch: QEMU takes no more */

/* Before every message. */
struct vgpu_link_header {
    uint32_t magic;    /* VGPU_LINK_MAGIC */
    uint16_t type;     /* enum vgpu_link_type */
    uint16_t fd_count; /* descriptors that come with this message; 0 but for WINDOW */
    uint32_t length;   /* bytes of payload */
    uint32_t reserved; /* 0 */
    uint64_t seq;      /* of the request that this is about; 0 where there is none */
};
static_assert(sizeof(struct vgpu_link_header) == 24, "wire");

enum vgpu_link_type {
    VGPU_LINK_HELLO = 1,    /* device -> mediator, first */
    VGPU_LINK_WELCOME = 2,  /* mediator -> device: attached */
    VGPU_LINK_REFUSE = 3,   /* mediator -> device: why not; the mediator then closes */
    VGPU_LINK_REQUEST = 4,  /* device -> mediator */
    VGPU_LINK_RESPONSE = 5, /* mediator -> device */
    VGPU_LINK_CANCEL = 6,   /* device -> mediator: nobody waits for this request any more */
    VGPU_LINK_RESET = 7,    /* device -> mediator: the guest is new, what it had is to be freed */
    VGPU_LINK_UPDATE = 8,   /* mediator -> device: pool, priority or vm_id were changed */
    /* With VGPU_LINK_FEATURE_CHANNELS only. */
    VGPU_LINK_WINDOW = 9,          /* device -> mediator; mediator -> local client: descriptors */
    VGPU_LINK_CHANNEL_ENABLE = 10, /* device -> mediator: the guest wrote 1 to CHANNEL_CTRL */
    VGPU_LINK_CHANNEL_RESET =
        11, /* device -> mediator: it wrote 0 there, or released the channel */
    VGPU_LINK_CHANNEL_STATE = 12, /* mediator -> device: what CHANNEL_CTRL reads now */
};

/* HELLO.features and WELCOME.features; a bit that the other side does not know is not an error. */
#define VGPU_LINK_FEATURE_MAILBOX  (1ull << 0) /* must be set by both */
/* A window and channels. Of a device: it has them and sends WINDOW after WELCOME. Of a local client
 * (the mediator knows which it is): it would like them, of the size in its HELLO, and gets WINDOW.
 */
#define VGPU_LINK_FEATURE_CHANNELS (1ull << 1)
#define VGPU_LINK_FEATURES_KNOWN   (VGPU_LINK_FEATURE_MAILBOX | VGPU_LINK_FEATURE_CHANNELS)

struct vgpu_link_hello {
    uint64_t features;      /* VGPU_LINK_FEATURE_* of the device */
    uint32_t protocol;      /* VGPU_PROTOCOL_VERSION */
    uint32_t vm_id;         /* a wish, like pool and priority */
    uint32_t pool_id;       /* 'A'-'Z' */
    uint32_t priority;      /* enum vgpu_priority */
    uint32_t timeout_ms;    /* after which the device gives a request up */
    uint32_t generation;    /* GENERATION, for logs */
    uint64_t window_bytes;  /* 0: no window */
    uint32_t channel_count; /* 0: no window */
    uint32_t channel_bytes;
    uint32_t reserved[4]; /* 0 */
};
static_assert(sizeof(struct vgpu_link_hello) == 64, "wire");

/* WELCOME and UPDATE: what the registers show from now on. */
struct vgpu_link_welcome {
    uint64_t features; /* both sides' bits; for UPDATE what WELCOME said */
    uint32_t vm_id;
    uint32_t pool_id;  /* 'A'-'Z' */
    uint32_t priority; /* enum vgpu_priority */
    uint32_t reserved; /* 0 */
};
static_assert(sizeof(struct vgpu_link_welcome) == 24, "wire");

enum vgpu_link_refusal {
    VGPU_REFUSE_PROTOCOL = 1,     /* no common protocol or feature */
    VGPU_REFUSE_INVALID_POOL = 2, /* the pool does not exist or has no GPU */
    VGPU_REFUSE_DUPLICATE = 3,    /* another device with this vm_id is attached */
    VGPU_REFUSE_UNKNOWN_VM = 4,   /* not registered, and strangers are not admitted */
    VGPU_REFUSE_INVALID = 5,      /* a field of the hello is out of range */
    VGPU_REFUSE_FULL = 6,         /* no room for another device */
};
#define VGPU_LINK_REFUSE_TEXT_MAX 512u

/* REFUSE: text follows, text_length bytes of UTF-8, no NUL. */
struct vgpu_link_refuse {
    uint32_t reason;      /* enum vgpu_link_refusal */
    uint32_t text_length; /* bytes, at most VGPU_LINK_REFUSE_TEXT_MAX */
};
static_assert(sizeof(struct vgpu_link_refuse) == 8, "wire");

/* REQUEST: the request follows. */
struct vgpu_link_request {
    uint32_t request_id;     /* REQUEST_ID, the guest's name for it */
    uint32_t request_length; /* bytes, 1 to VGPU_MAILBOX_BYTES */
};
static_assert(sizeof(struct vgpu_link_request) == 8, "wire");

/* RESPONSE: the response follows. */
struct vgpu_link_response {
    uint32_t error_code;      /* enum vgpu_error: 0 makes STATUS DONE, anything else ERROR */
    uint32_t response_length; /* bytes, 0 to VGPU_MAILBOX_BYTES */
};
static_assert(sizeof(struct vgpu_link_response) == 8, "wire");

/*
 * WINDOW. The first one has channels 0 and one descriptor, the window's memory file, sealed against
 * growing, shrinking and further seals. Those that follow at once have, for the channels from
 * `first` on, in order and without gaps, two descriptors each: the doorbell's eventfd and the
 * interrupt's. The window is there when the last channel's have come.
 */
struct vgpu_link_window {
    uint64_t window_bytes;
    uint32_t channel_count; /* of the window, 1 to VGPU_CHANNELS_MAX */
    uint32_t channel_bytes; /* VGPU_CHANNEL_BYTES */
    uint32_t first;
    uint32_t channels; /* with this message, at most VGPU_LINK_WINDOW_CHANNELS */
};
static_assert(sizeof(struct vgpu_link_window) == 24, "wire");
#define VGPU_LINK_WINDOW_CHANNELS (VGPU_LINK_MAX_FDS / 2)

/* CHANNEL_ENABLE, CHANNEL_RESET, CHANNEL_STATE. */
struct vgpu_link_channel {
    uint32_t channel;
    uint32_t serial; /* of ENABLE and RESET: counts both, for each channel, from 1 in the life of
                        the connection; of STATE: that of the last one that the mediator has seen */
    uint32_t state;  /* STATE: enum vgpu_channel_state; else 0 */
    uint32_t error;  /* STATE: enum vgpu_channel_error; else 0 */
};
static_assert(sizeof(struct vgpu_link_channel) == 16, "wire");

/* RESET */
struct vgpu_link_reset {
    uint32_t generation; /* GENERATION after the reset, for logs */
    uint32_t reserved;   /* 0 */
};
static_assert(sizeof(struct vgpu_link_reset) == 8, "wire");

#endif
