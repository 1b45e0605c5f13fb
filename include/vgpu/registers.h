/* SPDX-License-Identifier: MIT */
/*
 * BAR0 of the vgpu-stub device, as the guest sees it. The prose is docs/register-map.md; where the
 * two differ, that page is right and this header has a bug. Everything is little-endian. No code
 * here.
 */
#ifndef VGPU_REGISTERS_H
#define VGPU_REGISTERS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* PCI identity. */
#define VGPU_PCI_VENDOR_ID 0x1AF4
#define VGPU_PCI_DEVICE_ID 0x1111
#define VGPU_PCI_CLASS     0x1200 /* processing accelerator */
#define VGPU_PCI_REVISION  0x02
#define VGPU_BAR_REGISTERS 0
#define VGPU_BAR_WINDOW    2
#define VGPU_BAR_MSIX      4
#define VGPU_BAR0_SIZE     0x1000u
#define VGPU_MSIX_MAILBOX  0 /* vector of the mailbox */
#define VGPU_MSIX_CHANNEL  1 /* vector of channel 0; channel n has the n-th after it */

/* The mailbox: frozen. */
#define VGPU_REG_DOORBELL         0x000u /* RW: bit 0 = 1 submits, 0 acknowledges; reads 0 */
#define VGPU_REG_STATUS           0x004u /* RO: enum vgpu_status */
#define VGPU_REG_POOL_ID          0x008u /* RO: ASCII letter */
#define VGPU_REG_PRIORITY         0x00Cu /* RO: enum vgpu_priority */
#define VGPU_REG_VM_ID            0x010u /* RO */
#define VGPU_REG_ERROR_CODE       0x014u /* RO: enum vgpu_error */
#define VGPU_REG_REQUEST_LEN      0x018u /* RW: bytes, 1 to VGPU_MAILBOX_BYTES */
#define VGPU_REG_RESPONSE_LEN     0x01Cu /* RO: bytes */
#define VGPU_REG_PROTOCOL_VER     0x020u /* RO: VGPU_PROTOCOL_VERSION */
#define VGPU_REG_CAPABILITIES     0x024u /* RO: VGPU_CAP_* */
#define VGPU_REG_INTERRUPT_CTRL   0x028u /* RW: bit 0, interrupt on completion */
#define VGPU_REG_INTERRUPT_STATUS 0x02Cu /* RW1C: bit 0, a request completed */
#define VGPU_REG_REQUEST_ID       0x030u /* RW: the guest's name for the request */
#define VGPU_REG_TIMESTAMP_LO                                                                      \
    0x034u /* RO: completion, host CLOCK_MONOTONIC ns; reading latches HI */
#define VGPU_REG_TIMESTAMP_HI 0x038u /* RO */
#define VGPU_REG_SCRATCH      0x03Cu /* RW: no effect */
#define VGPU_REG_REQUEST_BUF  0x040u /* RW */
#define VGPU_REG_RESPONSE_BUF 0x440u /* RO */
#define VGPU_MAILBOX_BYTES    1024u  /* size of each of the two buffers */

/* After the mailbox. */
#define VGPU_REG_WINDOW_SIZE_LO 0x840u /* RO: bytes of BAR2, 0 when there is none */
#define VGPU_REG_WINDOW_SIZE_HI 0x844u
#define VGPU_REG_CHANNEL_COUNT  0x848u /* RO: 0 when there is no window */
#define VGPU_REG_CHANNEL_SIZE   0x84Cu /* RO */
#define VGPU_REG_GENERATION     0x850u /* RO: goes up when everything the guest made is gone */
#define VGPU_REG_LINK_STATE     0x854u /* RO: bit 0, a mediator is attached */
#define VGPU_LINK_ATTACHED      0x1u

/* Channels (docs/ring.md): four words for each. */
#define VGPU_REG_CHANNEL_OWNER(n) (0xC00u + 16u * (n)) /* RW: a token is taken only while 0 */
#define VGPU_REG_CHANNEL_CTRL(n)                                                                   \
    (0xC04u + 16u * (n)) /* RW: 1 enables, 0 resets; reads the state                               \
                          */
#define VGPU_REG_CHANNEL_ERROR(n)    (0xC08u + 16u * (n)) /* RO: enum vgpu_channel_error */
#define VGPU_REG_CHANNEL_DOORBELL(n) (0xC0Cu + 16u * (n)) /* WO: wakes the worker; reads 0 */

/* STATUS */
enum vgpu_status {
    VGPU_STATUS_IDLE = 0,
    VGPU_STATUS_BUSY = 1,
    VGPU_STATUS_DONE = 2,
    VGPU_STATUS_ERROR = 3,
};

/* PRIORITY */
enum vgpu_priority {
    VGPU_PRIORITY_LOW = 0,
    VGPU_PRIORITY_MEDIUM = 1,
    VGPU_PRIORITY_HIGH = 2,
};
#define VGPU_PRIORITY_COUNT 3u

/* CAPABILITIES */
#define VGPU_CAP_MAILBOX   (1u << 0)
#define VGPU_CAP_INTERRUPT (1u << 1)
#define VGPU_CAP_DMA       (1u << 2)
#define VGPU_CAP_MULTI     (1u << 3)
#define VGPU_CAP_WINDOW    (1u << 8)

/* ERROR_CODE. X(value, name, text) */
#define VGPU_ERROR_LIST(X)                                                                         \
    X(0x00, VGPU_ERR_NONE, "no error")                                                             \
    X(0x01, VGPU_ERR_INVALID_REQUEST, "invalid request")                                           \
    X(0x02, VGPU_ERR_REQUEST_TOO_LARGE, "request too large")                                       \
    X(0x03, VGPU_ERR_MEDIATOR_UNAVAILABLE, "mediator unavailable")                                 \
    X(0x04, VGPU_ERR_TIMEOUT, "timeout")                                                           \
    X(0x05, VGPU_ERR_CUDA, "CUDA error")                                                           \
    X(0x06, VGPU_ERR_INVALID_POOL, "invalid pool")                                                 \
    X(0x07, VGPU_ERR_QUEUE_FULL, "queue full")                                                     \
    X(0x08, VGPU_ERR_UNSUPPORTED, "unsupported operation")                                         \
    X(0x09, VGPU_ERR_INVALID_LENGTH, "invalid length")                                             \
    X(0x0A, VGPU_ERR_RATE_LIMITED, "rate limited")                                                 \
    X(0x0B, VGPU_ERR_QUARANTINED, "VM quarantined")

enum vgpu_error {
#define VGPU_ERROR_ENUM(value, name, text) name = value,
    VGPU_ERROR_LIST(VGPU_ERROR_ENUM)
#undef VGPU_ERROR_ENUM
};
#define VGPU_ERR_CUDA_FIRST 0xF0u /* 0xF0-0xFF: CUDA-specific, none assigned */
#define VGPU_ERR_CUDA_LAST  0xFFu

static_assert(VGPU_REG_REQUEST_BUF + VGPU_MAILBOX_BYTES == VGPU_REG_RESPONSE_BUF,
              "the two buffers are neighbours");
static_assert(VGPU_REG_RESPONSE_BUF + VGPU_MAILBOX_BYTES == VGPU_REG_WINDOW_SIZE_LO,
              "the channel registers follow the mailbox");

#endif
