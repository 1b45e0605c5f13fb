/* SPDX-License-Identifier: MIT */
/* What the files of the device model say to each other. Nobody else includes this. */
#ifndef VGPU_DEVICE_INTERNAL_H
#define VGPU_DEVICE_INTERNAL_H

#include "device.h"
#include "vgpu/protocol.h"

/* Every word on the link and in the buffers is little-endian, whatever the host is. */
static inline uint32_t vgpu_device_get16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t vgpu_device_get32(const uint8_t *p)
{
    return vgpu_device_get16(p) | vgpu_device_get16(p + 2) << 16;
}

static inline uint64_t vgpu_device_get64(const uint8_t *p)
{
    return vgpu_device_get32(p) | (uint64_t)vgpu_device_get32(p + 4) << 32;
}

static inline void vgpu_device_put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void vgpu_device_put32(uint8_t *p, uint32_t v)
{
    vgpu_device_put16(p, v);
    vgpu_device_put16(p + 2, v >> 16);
}

static inline void vgpu_device_put64(uint8_t *p, uint64_t v)
{
    vgpu_device_put32(p, (uint32_t)v);
    vgpu_device_put32(p + 4, (uint32_t)(v >> 32));
}

static inline void vgpu_device_emit(struct vgpu_device *dev, struct vgpu_device_event event)
{
    if (!event.text)
        event.text = "";
    if (dev->ops->event)
        dev->ops->event(dev->opaque, &event);
}

/* registers.c */
void vgpu_device_guest_error(struct vgpu_device *dev, const char *text, uint32_t offset,
                             uint64_t value, uint64_t now_ns);
void vgpu_device_show_properties(struct vgpu_device *dev);

/* mailbox.c. A completion may lead back into the device: it comes last in what its caller does. */
void vgpu_device_doorbell(struct vgpu_device *dev, uint32_t value, uint64_t now_ns);
void vgpu_device_acknowledge(struct vgpu_device *dev);
void vgpu_device_complete(struct vgpu_device *dev, uint32_t error_code, const uint8_t *response,
                          uint32_t length, uint64_t now_ns);
void vgpu_device_mailbox_reset(struct vgpu_device *dev);

/* channel.c */
#define VGPU_DEVICE_CHANNEL_WORDS 4u
uint32_t vgpu_device_channel_read(const struct vgpu_device *dev, uint32_t offset);
void vgpu_device_channel_write(struct vgpu_device *dev, uint32_t offset, uint32_t value,
                               uint64_t now_ns);
/* Is the offset a register of a channel that there is? */
bool vgpu_device_is_channel(const struct vgpu_device *dev, uint32_t offset);
/* What the mediator says of a channel. A violation, or NULL; *value: what was found. */
const char *vgpu_device_channel_state(struct vgpu_device *dev, const struct vgpu_link_channel *said,
                                      uint64_t *value);
void vgpu_device_channels_reset(struct vgpu_device *dev);
void vgpu_device_channels_lost(struct vgpu_device *dev);

/* link.c. The first five only note what is to be said; flush says it. */
void vgpu_device_link_request(struct vgpu_device *dev, uint64_t seq);
void vgpu_device_link_cancel(struct vgpu_device *dev, uint64_t seq);
void vgpu_device_link_reset(struct vgpu_device *dev);
void vgpu_device_link_channel_enable(struct vgpu_device *dev, uint32_t channel);
void vgpu_device_link_channel_reset(struct vgpu_device *dev, uint32_t channel);
/* WELCOME has come: is there a window to speak of? False: the link has been given up. */
bool vgpu_device_link_open_window(struct vgpu_device *dev, uint64_t features, uint64_t now_ns);
void vgpu_device_link_flush(struct vgpu_device *dev, uint64_t now_ns);
bool vgpu_device_link_hello_sent(const struct vgpu_device *dev);
void vgpu_device_link_violation(struct vgpu_device *dev, const char *text, uint64_t value,
                                uint64_t now_ns);

#endif
