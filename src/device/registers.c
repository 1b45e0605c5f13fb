/* SPDX-License-Identifier: MIT */
/*
 * BAR0: which bytes an access means and what each register does with it (R2 to R5, R11, R13), the
 * limit on what a guest can make the host log, and reset. It refuses to know how a request is
 * carried, and what a channel goes through.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define NS_PER_S 1000000000u

static bool window_is_valid(const struct vgpu_device_config *config,
                            const struct vgpu_device_ops *ops)
{
    uint64_t bytes = config->window_bytes;
    uint32_t count = config->channel_count;
    if (bytes == 0)
        return true;
    return bytes >= VGPU_WINDOW_BYTES_MIN && bytes <= VGPU_WINDOW_BYTES_MAX &&
           (bytes & (bytes - 1)) == 0 && count >= 1 && count <= VGPU_CHANNELS_MAX &&
           bytes > (uint64_t)count * VGPU_CHANNEL_BYTES && ops->link_send_fds && ops->window_open;
}

int vgpu_device_init(struct vgpu_device *dev, const struct vgpu_device_config *config,
                     const struct vgpu_device_ops *ops, void *opaque)
{
    if (config->pool_id < 'A' || config->pool_id > 'Z' || config->priority >= VGPU_PRIORITY_COUNT ||
        config->timeout_ms < VGPU_DEVICE_TIMEOUT_MS_MIN ||
        config->timeout_ms > VGPU_DEVICE_TIMEOUT_MS_MAX || !ops || !ops->link_send ||
        !window_is_valid(config, ops))
        return -EINVAL;
    memset(dev, 0, sizeof(*dev));
    dev->config = *config;
    if (config->window_bytes == 0)
        dev->config.channel_count = 0;
    dev->ops = ops;
    dev->opaque = opaque;
    vgpu_device_show_properties(dev);
    return 0;
}

void vgpu_device_show_properties(struct vgpu_device *dev)
{
    dev->pool_id = dev->config.pool_id;
    dev->priority = dev->config.priority;
    dev->vm_id = dev->config.vm_id;
}

bool vgpu_device_attached(const struct vgpu_device *dev)
{
    return dev->link.state == VGPU_DEVICE_LINK_UP;
}

void vgpu_device_guest_error(struct vgpu_device *dev, const char *text, uint32_t offset,
                             uint64_t value, uint64_t now_ns)
{
    dev->stats.guest_errors++;
    /* The slot holds the time of the tenth log before this one: no second can see an eleventh. */
    uint64_t *slot = &dev->logged_ns[dev->logged % VGPU_DEVICE_GUEST_ERRORS_PER_S];
    if (dev->logged >= VGPU_DEVICE_GUEST_ERRORS_PER_S && now_ns - *slot < NS_PER_S) {
        dev->unlogged++;
        return;
    }
    *slot = now_ns;
    dev->logged++;
    uint64_t unlogged = dev->unlogged;
    dev->unlogged = 0;
    vgpu_device_emit(dev, (struct vgpu_device_event){.kind = VGPU_DEVICE_GUEST_ERROR,
                                                     .text = text,
                                                     .code = offset,
                                                     .value = value,
                                                     .unlogged = unlogged});
}

static bool in_request_buf(uint32_t offset)
{
    return offset >= VGPU_REG_REQUEST_BUF && offset < VGPU_REG_REQUEST_BUF + VGPU_MAILBOX_BYTES;
}

static bool in_response_buf(uint32_t offset)
{
    return offset >= VGPU_REG_RESPONSE_BUF && offset < VGPU_REG_RESPONSE_BUF + VGPU_MAILBOX_BYTES;
}

/* The register's value, without side effect. */
static uint32_t peek_word(const struct vgpu_device *dev, uint32_t offset)
{
    switch (offset) {
    case VGPU_REG_STATUS:
        return dev->status;
    case VGPU_REG_POOL_ID:
        return dev->pool_id;
    case VGPU_REG_PRIORITY:
        return dev->priority;
    case VGPU_REG_VM_ID:
        return dev->vm_id;
    case VGPU_REG_ERROR_CODE:
        return dev->error_code;
    case VGPU_REG_REQUEST_LEN:
        return dev->request_len;
    case VGPU_REG_RESPONSE_LEN:
        return dev->response_len;
    case VGPU_REG_PROTOCOL_VER:
        return VGPU_PROTOCOL_VERSION;
    case VGPU_REG_CAPABILITIES:
        return VGPU_CAP_MAILBOX | (dev->config.msix ? VGPU_CAP_INTERRUPT : 0u) |
               (dev->config.window_bytes ? VGPU_CAP_WINDOW : 0u);
    case VGPU_REG_INTERRUPT_CTRL:
        return dev->interrupt_ctrl;
    case VGPU_REG_INTERRUPT_STATUS:
        return dev->interrupt_status;
    case VGPU_REG_REQUEST_ID:
        return dev->request_id;
    case VGPU_REG_TIMESTAMP_LO:
        return (uint32_t)dev->timestamp_ns;
    case VGPU_REG_TIMESTAMP_HI:
        return dev->timestamp_hi_latched;
    case VGPU_REG_SCRATCH:
        return dev->scratch;
    case VGPU_REG_WINDOW_SIZE_LO:
        return (uint32_t)dev->config.window_bytes;
    case VGPU_REG_WINDOW_SIZE_HI:
        return (uint32_t)(dev->config.window_bytes >> 32);
    case VGPU_REG_CHANNEL_COUNT:
        return dev->config.channel_count;
    case VGPU_REG_CHANNEL_SIZE:
        return dev->config.window_bytes ? VGPU_CHANNEL_BYTES : 0u;
    case VGPU_REG_GENERATION:
        return dev->generation;
    case VGPU_REG_LINK_STATE:
        return vgpu_device_attached(dev) ? VGPU_LINK_ATTACHED : 0u;
    default: /* channels; DOORBELL and what is reserved read 0 */
        return vgpu_device_is_channel(dev, offset) ? vgpu_device_channel_read(dev, offset) : 0;
    }
}

static uint32_t read_word(struct vgpu_device *dev, uint32_t offset)
{
    uint32_t value = peek_word(dev, offset);
    if (offset == VGPU_REG_TIMESTAMP_LO)
        dev->timestamp_hi_latched = (uint32_t)(dev->timestamp_ns >> 32);
    else if (offset == VGPU_REG_RESPONSE_LEN && value == 0)
        vgpu_device_acknowledge(dev);
    return value;
}

/* count bytes from offset on, all in one word. */
static uint32_t read_part(struct vgpu_device *dev, uint32_t offset, unsigned count)
{
    uint32_t value = 0;
    if (in_request_buf(offset)) {
        for (unsigned i = 0; i < count; i++)
            value |= (uint32_t)dev->request_buf[offset - VGPU_REG_REQUEST_BUF + i] << (8 * i);
        return value;
    }
    if (in_response_buf(offset)) {
        uint32_t first = offset - VGPU_REG_RESPONSE_BUF;
        for (unsigned i = 0; i < count; i++)
            value |= (uint32_t)dev->response_buf[first + i] << (8 * i);
        uint32_t length = dev->response_len;
        if (length > first && length <= first + count)
            vgpu_device_acknowledge(dev); /* R10: the last byte was read */
        return value;
    }
    if (count == 4)
        return read_word(dev, offset);
    value = peek_word(dev, offset & ~3u) >> (8 * (offset & 3u));
    return value & ((1u << (8 * count)) - 1u);
}

uint64_t vgpu_device_read(struct vgpu_device *dev, uint64_t offset, unsigned size, uint64_t now_ns)
{
    (void)now_ns;
    uint64_t value = 0;
    if (size > 8)
        size = 8;
    if (offset >= VGPU_BAR0_SIZE)
        return 0;
    /* What reaches past the last register reads like a reserved one. */
    for (unsigned done = 0; done < size;) {
        uint32_t at = (uint32_t)offset + done;
        unsigned count = 4 - (at & 3u);
        if (count > size - done)
            count = size - done;
        value |= (uint64_t)read_part(dev, at, count) << (8 * done);
        done += count;
    }
    return value;
}

static void write_word(struct vgpu_device *dev, uint32_t offset, uint32_t value, uint64_t now_ns)
{
    switch (offset) {
    case VGPU_REG_DOORBELL:
        vgpu_device_doorbell(dev, value, now_ns);
        return;
    case VGPU_REG_REQUEST_LEN:
        dev->request_len = value;
        return;
    case VGPU_REG_INTERRUPT_CTRL:
        dev->interrupt_ctrl = value & 1u;
        return;
    case VGPU_REG_INTERRUPT_STATUS:
        dev->interrupt_status &= ~value;
        return;
    case VGPU_REG_REQUEST_ID:
        dev->request_id = value;
        return;
    case VGPU_REG_SCRATCH:
        dev->scratch = value;
        return;
    default:
        if (vgpu_device_is_channel(dev, offset)) {
            vgpu_device_channel_write(dev, offset, value, now_ns);
            return;
        }
        vgpu_device_guest_error(dev, "write to a read-only register or a reserved offset", offset,
                                value, now_ns);
    }
}

static void write_part(struct vgpu_device *dev, uint32_t offset, uint32_t value, unsigned count,
                       uint64_t now_ns)
{
    if (in_request_buf(offset)) {
        for (unsigned i = 0; i < count; i++)
            dev->request_buf[offset - VGPU_REG_REQUEST_BUF + i] = (uint8_t)(value >> (8 * i));
    } else if (in_response_buf(offset)) {
        vgpu_device_guest_error(dev, "write to the response buffer", offset, value, now_ns);
    } else if (count != 4) {
        vgpu_device_guest_error(dev, "write to a part of a register", offset, value, now_ns);
    } else {
        write_word(dev, offset, value, now_ns);
    }
}

void vgpu_device_write(struct vgpu_device *dev, uint64_t offset, uint64_t value, unsigned size,
                       uint64_t now_ns)
{
    if (size > 8)
        size = 8;
    if (dev->raising) {
        /* The guest aimed the MSI-X vector at this device. Served, a doorbell of that kind would
         * raise the next interrupt from inside this one, without end (R18). */
        vgpu_device_guest_error(dev, "the interrupt is aimed at the device itself",
                                offset < VGPU_BAR0_SIZE ? (uint32_t)offset : VGPU_BAR0_SIZE, value,
                                now_ns);
        return;
    }
    if (offset >= VGPU_BAR0_SIZE) {
        vgpu_device_guest_error(dev, "write outside the registers", VGPU_BAR0_SIZE, value, now_ns);
        return;
    }
    for (unsigned done = 0; done < size;) {
        uint32_t at = (uint32_t)offset + done;
        unsigned count = 4 - (at & 3u);
        if (count > size - done)
            count = size - done;
        uint32_t part = (uint32_t)(value >> (8 * done));
        if (count < 4)
            part &= (1u << (8 * count)) - 1u;
        write_part(dev, at, part, count, now_ns);
        done += count;
    }
}

void vgpu_device_reset(struct vgpu_device *dev, uint64_t now_ns)
{
    vgpu_device_mailbox_reset(dev);
    dev->request_len = 0;
    dev->request_id = 0;
    dev->interrupt_ctrl = 0;
    dev->interrupt_status = 0;
    dev->scratch = 0;
    memset(dev->request_buf, 0, sizeof(dev->request_buf));
    vgpu_device_channels_reset(dev);
    dev->generation++;
    dev->stats.resets++;
    vgpu_device_emit(
        dev, (struct vgpu_device_event){.kind = VGPU_DEVICE_RESET, .code = dev->generation});
    vgpu_device_link_reset(dev);
    vgpu_device_link_flush(dev, now_ns);
}
