/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bench that rig.h describes. */
#include "rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static ssize_t on_send(void *opaque, const void *bytes, size_t length)
{
    struct rig *rig = opaque;
    assert_true(length > 0);
    if (rig->close_in_send) {
        rig->close_in_send = false;
        vgpu_device_link_closed(&rig->dev, rig->now);
        if (rig->reopen_in_send) {
            rig->reopen_in_send = false;
            vgpu_device_link_opened(&rig->dev, rig->now);
        }
        return -EPIPE;
    }
    if (rig->send_error)
        return rig->send_error;
    size_t n = length;
    if (n > rig->room)
        n = rig->room;
    if (n > rig->piece)
        n = rig->piece;
    if (n == 0)
        return -EAGAIN;
    assert_true(n <= sizeof(rig->tx) - rig->tx_length);
    memcpy(rig->tx + rig->tx_length, bytes, n);
    rig->tx_length += n;
    if (rig->room != SIZE_MAX)
        rig->room -= n;
    if (rig->on_send)
        rig->on_send(rig);
    return (ssize_t)n;
}

static ssize_t on_send_fds(void *opaque, const void *bytes, size_t length, const int *fds,
                           unsigned fd_count)
{
    struct rig *rig = opaque;
    assert_true(fd_count >= 1 && fd_count <= VGPU_LINK_MAX_FDS);
    assert_true(rig->window_open); /* or the descriptors are closed already */
    ssize_t taken = on_send(opaque, bytes, length);
    if (taken > 0) {
        assert_true(rig->fds_count < RIG_FDS_MAX);
        struct rig_fds *to = &rig->fds[(rig->fds_first + rig->fds_count++) % RIG_FDS_MAX];
        to->count = fd_count;
        memcpy(to->fds, fds, fd_count * sizeof(fds[0]));
    }
    return taken;
}

static int on_window_open(void *opaque, struct vgpu_device_window *window)
{
    struct rig *rig = opaque;
    assert_false(rig->window_open);
    if (rig->open_error)
        return rig->open_error;
    rig->window_open = true;
    rig->opens++;
    int base = 1000 * (int)rig->opens;
    window->memory = base + 1;
    for (int n = 0; n < (int)rig->dev.config.channel_count; n++) {
        window->doorbell[n] = base + 100 + n;
        window->interrupt[n] = base + 200 + n;
    }
    return 0;
}

static void on_window_close(void *opaque)
{
    struct rig *rig = opaque;
    assert_true(rig->window_open);
    rig->window_open = false;
    rig->window_closes++;
}

static void on_ring(void *opaque, uint32_t channel)
{
    struct rig *rig = opaque;
    assert_true(rig->window_open);
    assert_true(channel < rig->dev.config.channel_count);
    rig->rung[channel]++;
}

static void on_close(void *opaque)
{
    struct rig *rig = opaque;
    rig->closes++;
    if (rig->close_at_once)
        vgpu_device_link_closed(&rig->dev, rig->now);
}

static void on_raise(void *opaque)
{
    struct rig *rig = opaque;
    rig->interrupts++;
    if (rig->on_interrupt)
        rig->on_interrupt(rig);
}

static void on_set_timer(void *opaque, uint64_t deadline_ns)
{
    struct rig *rig = opaque;
    rig->deadline = deadline_ns;
}

static void on_event(void *opaque, const struct vgpu_device_event *event)
{
    struct rig *rig = opaque;
    assert_non_null(event->text);
    assert_true((unsigned)event->kind <= RIG_LAST);
    rig->events[event->kind]++;
    rig->last[event->kind] = *event;
    if (event->text[0]) {
        assert_true(strlen(event->text) < sizeof(rig->text));
        strcpy(rig->text, event->text);
    }
}

static const struct vgpu_device_ops ops = {
    .link_send = on_send,
    .link_send_fds = on_send_fds,
    .window_open = on_window_open,
    .window_close = on_window_close,
    .ring_doorbell = on_ring,
    .link_close = on_close,
    .raise_interrupt = on_raise,
    .set_timer = on_set_timer,
    .event = on_event,
};

struct vgpu_device_config rig_config(void)
{
    return (struct vgpu_device_config){.pool_id = 'A',
                                       .priority = VGPU_PRIORITY_MEDIUM,
                                       .vm_id = 7,
                                       .timeout_ms = 1000,
                                       .msix = true};
}

struct vgpu_device_config rig_config_window(void)
{
    struct vgpu_device_config config = rig_config();
    config.window_bytes = 16u << 20;
    config.channel_count = 10;
    return config;
}

void rig_init(struct rig *rig, const struct vgpu_device_config *config)
{
    memset(rig, 0, sizeof(*rig));
    rig->room = SIZE_MAX;
    rig->piece = SIZE_MAX;
    rig->now = 5000 * S + 123;
    assert_int_equal(vgpu_device_init(&rig->dev, config, &ops, rig), 0);
}

int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    assert_non_null(rig);
    struct vgpu_device_config config = rig_config();
    rig_init(rig, &config);
    *state = rig;
    return 0;
}

int rig_setup_attached(void **state)
{
    rig_setup(state);
    rig_attach(*state);
    return 0;
}

int rig_setup_window(void **state)
{
    rig_setup(state);
    struct vgpu_device_config config = rig_config_window();
    rig_init(*state, &config);
    return 0;
}

int rig_setup_channels(void **state)
{
    rig_setup_window(state);
    rig_attach_channels(*state);
    return 0;
}

int rig_teardown(void **state)
{
    free(*state);
    return 0;
}

uint64_t rig_read(struct rig *rig, uint32_t offset, unsigned size)
{
    return vgpu_device_read(&rig->dev, offset, size, rig->now);
}

void rig_write(struct rig *rig, uint32_t offset, uint64_t value, unsigned size)
{
    vgpu_device_write(&rig->dev, offset, value, size, rig->now);
}

uint32_t rd32(struct rig *rig, uint32_t offset)
{
    uint64_t value = rig_read(rig, offset, 4);
    assert_true(value <= UINT32_MAX);
    return (uint32_t)value;
}

void wr32(struct rig *rig, uint32_t offset, uint32_t value)
{
    rig_write(rig, offset, value, 4);
}

uint32_t peek(struct rig *rig, uint32_t offset)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++)
        value |= (uint32_t)rig_read(rig, offset + i, 1) << (8 * i);
    return value;
}

bool response_is_zero(struct rig *rig)
{
    for (uint32_t i = 0; i < VGPU_MAILBOX_BYTES; i += 8)
        if (rig_read(rig, VGPU_REG_RESPONSE_BUF + i, 8))
            return false;
    return true;
}

void put_le(uint8_t *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

uint64_t get_le(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

size_t build(uint8_t *to, uint32_t type, uint64_t seq, const void *payload, uint32_t length)
{
    put_le(to, 0x4B4E4C56, 4);
    put_le(to + 4, type, 2);
    put_le(to + 6, 0, 2);
    put_le(to + 8, length, 4);
    put_le(to + 12, 0, 4);
    put_le(to + 16, seq, 8);
    if (length)
        memcpy(to + 24, payload, length);
    return 24 + (size_t)length;
}

void rig_receive(struct rig *rig, const void *bytes, size_t length)
{
    /* On the heap and of exactly this size: the sanitizer sees a read past the end. */
    uint8_t *copy = malloc(length ? length : 1);
    assert_non_null(copy);
    if (length)
        memcpy(copy, bytes, length);
    vgpu_device_link_received(&rig->dev, copy, length, 0, rig->now);
    free(copy);
}

void rig_say(struct rig *rig, uint32_t type, uint64_t seq, const void *payload, uint32_t length)
{
    uint8_t bytes[24 + 4096];
    assert_true(length <= 4096);
    rig_receive(rig, bytes, build(bytes, type, seq, payload, length));
}

static void welcome(struct rig *rig, uint32_t type, uint64_t features, uint32_t vm_id,
                    uint32_t pool, uint32_t priority)
{
    uint8_t p[24] = {0};
    put_le(p, features, 8);
    put_le(p + 8, vm_id, 4);
    put_le(p + 12, pool, 4);
    put_le(p + 16, priority, 4);
    rig_say(rig, type, 0, p, sizeof(p));
}

void rig_welcome(struct rig *rig, uint32_t type, uint32_t vm_id, uint32_t pool, uint32_t priority)
{
    welcome(rig, type, 1, vm_id, pool, priority);
}

void rig_welcome_features(struct rig *rig, uint64_t features)
{
    welcome(rig, VGPU_LINK_WELCOME, features, 9, 'B', VGPU_PRIORITY_HIGH);
}

void rig_state(struct rig *rig, uint32_t channel, uint32_t serial, uint32_t state, uint32_t error)
{
    uint8_t p[16];
    put_le(p, channel, 4);
    put_le(p + 4, serial, 4);
    put_le(p + 8, state, 4);
    put_le(p + 12, error, 4);
    rig_say(rig, VGPU_LINK_CHANNEL_STATE, 0, p, sizeof(p));
}

uint32_t rig_expect_channel(struct rig *rig, uint32_t type, uint32_t channel)
{
    struct rig_message m;
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, type);
    assert_int_equal(m.seq, 0);
    assert_int_equal(m.length, 16);
    assert_int_equal(get_le(m.payload, 4), channel);
    assert_int_equal(get_le(m.payload + 8, 8), 0);
    return (uint32_t)get_le(m.payload + 4, 4);
}

void rig_respond(struct rig *rig, uint64_t seq, uint32_t error_code, const void *bytes,
                 uint32_t length)
{
    uint8_t p[8 + VGPU_MAILBOX_BYTES];
    put_le(p, error_code, 4);
    put_le(p + 4, length, 4);
    if (length)
        memcpy(p + 8, bytes, length);
    rig_say(rig, VGPU_LINK_RESPONSE, seq, p, 8 + length);
}

bool rig_take(struct rig *rig, struct rig_message *m)
{
    if (rig->tx_length < 24)
        return false;
    assert_int_equal(get_le(rig->tx, 4), 0x4B4E4C56);
    m->type = (uint32_t)get_le(rig->tx + 4, 2);
    m->fd_count = (uint32_t)get_le(rig->tx + 6, 2);
    m->length = (uint32_t)get_le(rig->tx + 8, 4);
    m->reserved = (uint32_t)get_le(rig->tx + 12, 4);
    m->seq = get_le(rig->tx + 16, 8);
    assert_true(m->type == VGPU_LINK_WINDOW ? m->fd_count >= 1 : m->fd_count == 0);
    assert_int_equal(m->reserved, 0);
    assert_true(m->length <= VGPU_LINK_MAX_PAYLOAD);
    size_t whole = 24 + (size_t)m->length;
    if (rig->tx_length < whole)
        return false;
    if (m->fd_count) {
        assert_true(rig->fds_count > 0);
        const struct rig_fds *came = &rig->fds[rig->fds_first % RIG_FDS_MAX];
        assert_int_equal(came->count, m->fd_count);
        memcpy(m->fds, came->fds, sizeof(m->fds));
        rig->fds_first++;
        rig->fds_count--;
    }
    memcpy(m->payload, rig->tx + 24, m->length);
    rig->tx_length -= whole;
    memmove(rig->tx, rig->tx + whole, rig->tx_length);
    return true;
}

uint64_t rig_expect(struct rig *rig, uint32_t type)
{
    struct rig_message m;
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, type);
    return m.seq;
}

void rig_expect_silence(struct rig *rig)
{
    assert_int_equal(rig->tx_length, 0);
}

void rig_attach(struct rig *rig)
{
    vgpu_device_link_opened(&rig->dev, rig->now);
    rig_expect(rig, VGPU_LINK_HELLO);
    rig_welcome(rig, VGPU_LINK_WELCOME, 9, 'B', VGPU_PRIORITY_HIGH);
    assert_true(vgpu_device_attached(&rig->dev));
}

void rig_attach_channels(struct rig *rig)
{
    struct rig_message m;
    unsigned windows = 0;
    vgpu_device_link_opened(&rig->dev, rig->now);
    rig_expect(rig, VGPU_LINK_HELLO);
    rig_welcome_features(rig, 3);
    assert_true(vgpu_device_attached(&rig->dev));
    while (rig_take(rig, &m)) {
        assert_int_equal(m.type, VGPU_LINK_WINDOW);
        windows++;
    }
    assert_int_equal(windows, 1 + (rig->dev.config.channel_count + 7) / 8);
    assert_int_equal(rig->fds_count, 0);
}

uint8_t pattern(uint32_t id, uint32_t at)
{
    return (uint8_t)(id * 31u + at * 7u + 1u);
}

void rig_doorbell(struct rig *rig, uint32_t length, uint32_t id)
{
    for (uint32_t i = 0; i < length && i < VGPU_MAILBOX_BYTES; i++)
        rig_write(rig, VGPU_REG_REQUEST_BUF + i, pattern(id, i), 1);
    wr32(rig, VGPU_REG_REQUEST_LEN, length);
    wr32(rig, VGPU_REG_REQUEST_ID, id);
    wr32(rig, VGPU_REG_DOORBELL, 1);
}

uint64_t rig_submit(struct rig *rig, uint32_t length, uint32_t id)
{
    rig_doorbell(rig, length, id);
    struct rig_message m;
    assert_true(rig_take(rig, &m));
    assert_int_equal(m.type, VGPU_LINK_REQUEST);
    assert_int_equal(m.length, 8 + length);
    assert_int_equal(get_le(m.payload, 4), id);
    assert_int_equal(get_le(m.payload + 4, 4), length);
    for (uint32_t i = 0; i < length; i++)
        assert_int_equal(m.payload[8 + i], pattern(id, i));
    assert_int_equal(peek(rig, VGPU_REG_STATUS), VGPU_STATUS_BUSY);
    return m.seq;
}
