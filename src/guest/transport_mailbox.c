/* SPDX-License-Identifier: MIT */
/*
 * The mailbox of a PCI device: BAR0 mapped into this process, one request at a time, shared with
 * other processes by a lock on the file that is mapped. Owns the order of register accesses; knows
 * nothing of what a request says.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/deadline.h"
#include "guest/guest.h"
#include "guest/mmio.h"
#include "guest/pci_window.h"
#include "guest/transport.h"

#define ALL_ONES 0xFFFFFFFFu /* what reads give when no device answers */

struct mailbox {
    struct vgpu_transport base;
    int fd; /* of resource0: mapped, and locked while a request is in flight */
    volatile uint8_t *bar;
    bool kept_from_child; /* the kernel leaves the mapping out of forked children */
    bool locked;
    struct vgpu_pci_window window;
};

static struct mailbox *to_mailbox(struct vgpu_transport *transport)
{
    return (struct mailbox *)transport;
}

static int fail_gone(void)
{
    return vgpu_fail(-ENODEV, "the device no longer answers (it reads all ones): it was unplugged, "
                              "or its memory was switched off");
}

/*
 * The lock dies with its holder, whatever killed it, since the kernel closes its descriptors. It
 * has no time-out of its own, so we ask again and again.
 */
static int lock_mailbox(struct mailbox *mailbox, uint64_t deadline_ns)
{
    struct vgpu_backoff backoff = {.start_ns = 1}; /* others hold it for long, or not at all */
    while (flock(mailbox->fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK)
            return vgpu_fail(-errno, "the mailbox cannot be locked: %s", strerror(errno));
        if (!vgpu_backoff_wait(&backoff, deadline_ns))
            return vgpu_fail(-ETIMEDOUT, "other programs kept the mailbox for the whole time-out: "
                                         "try again, or give it longer");
    }
    mailbox->locked = true;
    return 0;
}

static void unlock_mailbox(struct mailbox *mailbox)
{
    /* Said aloud, not left to close: a forked child may hold the same open file. */
    if (mailbox->locked)
        flock(mailbox->fd, LOCK_UN);
    mailbox->locked = false;
}

/*
 * With the lock held, brings the mailbox to IDLE. What is there otherwise belongs to a program that
 * died or gave up: its request cannot be taken back, so a BUSY one is waited for, and its answer is
 * acknowledged unread. From IDLE on, while we hold the lock, the next completion is ours.
 */
static int settle_mailbox(struct mailbox *mailbox, uint64_t deadline_ns)
{
    struct vgpu_backoff backoff = {0};
    for (;;) {
        uint32_t status = vgpu_mmio_read32(mailbox->bar, VGPU_REG_STATUS);
        switch (status) {
        case VGPU_STATUS_IDLE:
            return 0;
        case VGPU_STATUS_DONE:
        case VGPU_STATUS_ERROR:
            vgpu_mmio_write32(mailbox->bar, VGPU_REG_DOORBELL, 0);
            break;
        case VGPU_STATUS_BUSY:
            break;
        case ALL_ONES:
            return fail_gone();
        default:
            return vgpu_fail(-EBADMSG, "STATUS reads %" PRIu32 ", which means nothing", status);
        }
        if (!vgpu_backoff_wait(&backoff, deadline_ns))
            return vgpu_fail(-ETIMEDOUT,
                             "the mailbox is still %s with an earlier request, which was given up "
                             "here or left by another program; the device gives it up after its "
                             "own time-out (30 s unless configured): try again then",
                             vgpu_status_text(status));
    }
}

static int mailbox_send(struct vgpu_transport *transport, const void *request, uint32_t length,
                        uint32_t request_id, uint64_t deadline_ns)
{
    struct mailbox *mailbox = to_mailbox(transport);
    int err = lock_mailbox(mailbox, deadline_ns);
    if (err < 0)
        return err;
    err = settle_mailbox(mailbox, deadline_ns);
    if (err < 0) {
        unlock_mailbox(mailbox);
        return err;
    }
    /* Rounding up to eight bytes stays inside the buffer: its size is a multiple of eight. */
    vgpu_mmio_write_bytes(mailbox->bar, VGPU_REG_REQUEST_BUF, request, length);
    vgpu_mmio_write32(mailbox->bar, VGPU_REG_REQUEST_LEN, length);
    vgpu_mmio_write32(mailbox->bar, VGPU_REG_REQUEST_ID, request_id);
    vgpu_mmio_write32(mailbox->bar, VGPU_REG_DOORBELL, 1);
    return 0;
}

static int mailbox_wait(struct vgpu_transport *transport, uint64_t deadline_ns, uint32_t *status)
{
    struct mailbox *mailbox = to_mailbox(transport);
    struct vgpu_backoff backoff = {0};
    for (;;) {
        uint32_t now = vgpu_mmio_read32(mailbox->bar, VGPU_REG_STATUS);
        if (status)
            *status = now;
        switch (now) {
        case VGPU_STATUS_DONE:
        case VGPU_STATUS_ERROR:
            return 0;
        case VGPU_STATUS_BUSY:
            break;
        case VGPU_STATUS_IDLE:
            unlock_mailbox(mailbox);
            return vgpu_fail(-ECONNRESET, "the device was reset under the request (or a program "
                                          "that does not take the lock used the mailbox)");
        case ALL_ONES:
            unlock_mailbox(mailbox);
            return fail_gone();
        default:
            unlock_mailbox(mailbox);
            return vgpu_fail(-EBADMSG, "STATUS reads %" PRIu32 ", which means nothing", now);
        }
        if (!vgpu_backoff_wait(&backoff, deadline_ns))
            return vgpu_fail(-ETIMEDOUT, "the device is still BUSY with the request");
    }
}

static int mailbox_read(struct vgpu_transport *transport, struct vgpu_response *response)
{
    struct mailbox *mailbox = to_mailbox(transport);
    int err = 0;
    /* DONE means error code 0 (R8), which saves an access. */
    response->error_code = VGPU_ERR_NONE;
    if (response->status == VGPU_STATUS_ERROR)
        response->error_code = vgpu_mmio_read32(mailbox->bar, VGPU_REG_ERROR_CODE);
    response->length = vgpu_mmio_read32(mailbox->bar, VGPU_REG_RESPONSE_LEN);
    if (response->length > VGPU_MAILBOX_BYTES) {
        uint32_t length = response->length;
        response->length = 0;
        vgpu_mmio_write32(mailbox->bar, VGPU_REG_DOORBELL, 0);
        err = length == ALL_ONES
                  ? fail_gone()
                  : vgpu_fail(-EBADMSG, "RESPONSE_LEN reads %" PRIu32 ", over the buffer's %u",
                              length, VGPU_MAILBOX_BYTES);
        goto out;
    }
    /* Reading the last byte, or a RESPONSE_LEN of 0, acknowledges (R10). */
    vgpu_mmio_read_bytes(mailbox->bar, VGPU_REG_RESPONSE_BUF, response->bytes, response->length);
    /* After the bytes: a reset in their midst shows here. */
    response->generation = vgpu_mmio_read32(mailbox->bar, VGPU_REG_GENERATION);
out:
    unlock_mailbox(mailbox);
    return err;
}

static void mailbox_abandon(struct vgpu_transport *transport)
{
    unlock_mailbox(to_mailbox(transport));
}

static int mailbox_read_register(struct vgpu_transport *transport, uint32_t offset, uint32_t *value)
{
    struct mailbox *mailbox = to_mailbox(transport);
    *value = vgpu_mmio_read32(mailbox->bar, offset);
    /* Only a counter or the host's choice may be all ones by itself. */
    if (*value == ALL_ONES && offset != VGPU_REG_GENERATION && offset != VGPU_REG_VM_ID)
        return fail_gone();
    return 0;
}

static void mailbox_close(struct vgpu_transport *transport, bool forked)
{
    struct mailbox *mailbox = to_mailbox(transport);
    if (!forked)
        unlock_mailbox(mailbox);
    /* In a child what stands at that address may be something else by now, and the child's own. */
    if (mailbox->bar && !(forked && mailbox->kept_from_child))
        munmap((void *)(uintptr_t)mailbox->bar, VGPU_BAR0_SIZE);
    if (mailbox->fd >= 0)
        close(mailbox->fd);
    vgpu_pci_unmap(&mailbox->window, forked);
    if (!forked)
        pthread_mutex_destroy(&mailbox->window.lock);
    free(mailbox);
}

/* ---- Channels: all of it is pci_window.c's ---- */

static int mailbox_claim(struct vgpu_transport *transport, struct vgpu_channel_port *port)
{
    return vgpu_pci_claim(&to_mailbox(transport)->window, transport, port);
}

static int mailbox_enable(struct vgpu_channel_port *port, uint64_t deadline_ns)
{
    return vgpu_pci_enable(&to_mailbox(port->transport)->window, port, deadline_ns);
}

static void mailbox_ring(struct vgpu_channel_port *port)
{
    vgpu_pci_ring(&to_mailbox(port->transport)->window, port);
}

static int mailbox_state(struct vgpu_channel_port *port, uint32_t *state, uint32_t *error,
                         uint32_t *generation)
{
    return vgpu_pci_state(&to_mailbox(port->transport)->window, port, state, error, generation);
}

static void mailbox_release(struct vgpu_channel_port *port, bool forked)
{
    vgpu_pci_release(&to_mailbox(port->transport)->window, port, forked);
}

static void mailbox_farewell(struct vgpu_channel_port *port)
{
    vgpu_pci_farewell(&to_mailbox(port->transport)->window, port);
}

int vgpu_transport_mailbox_sweep(struct vgpu_transport *transport)
{
    return vgpu_pci_sweep(&to_mailbox(transport)->window);
}

static const struct vgpu_transport_ops mailbox_ops = {
    .send = mailbox_send,
    .wait = mailbox_wait,
    .read = mailbox_read,
    .abandon = mailbox_abandon,
    .read_register = mailbox_read_register,
    .claim = mailbox_claim,
    .enable = mailbox_enable,
    .ring = mailbox_ring,
    .state = mailbox_state,
    .release = mailbox_release,
    .farewell = mailbox_farewell,
    .close = mailbox_close,
};

/*
 * Firmware that does not know the device may leave its memory switched off, and mapping resource0
 * does not switch it on. Asks the kernel to, when it is off; needs root, so the udev rule does the
 * same at boot.
 */
static int enable_memory(const char *device_dir)
{
    char path[512];
    uint8_t command[2] = {0, 0};
    snprintf(path, sizeof(path), "%s/config", device_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? pread(fd, command, sizeof(command), 4) : -1;
    if (fd >= 0)
        close(fd);
    if (n != (ssize_t)sizeof(command) || (command[0] & 0x2))
        return 0; /* on; or not to be known, and then the registers will tell */
    snprintf(path, sizeof(path), "%s/enable", device_dir);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    n = fd >= 0 ? write(fd, "1", 1) : -1;
    int err = n == 1 ? 0 : -errno;
    if (fd >= 0)
        close(fd);
    if (err < 0)
        return vgpu_fail(err,
                         "the device's memory is switched off and cannot be switched on (%s): "
                         "as root, write 1 to %s, which vgpu's udev rule does at boot",
                         strerror(-err), path);
    return 0;
}

static int check_device(struct mailbox *mailbox, const char *path)
{
    uint32_t version = vgpu_mmio_read32(mailbox->bar, VGPU_REG_PROTOCOL_VER);
    if (version == ALL_ONES)
        return vgpu_fail(-ENODEV, "%s reads all ones: no device answers there", path);
    if (version >> 16 != VGPU_PROTOCOL_VERSION >> 16)
        return vgpu_fail(
            -ENODEV,
            "%s says protocol %" PRIu32 ".%" PRIu32
            ", this library speaks %u.x: it is another device, or needs another libvgpu",
            path, version >> 16, version & 0xFFFF, VGPU_PROTOCOL_VERSION >> 16);
    uint32_t capabilities = vgpu_mmio_read32(mailbox->bar, VGPU_REG_CAPABILITIES);
    if (!(capabilities & VGPU_CAP_MAILBOX))
        return vgpu_fail(-ENODEV, "%s has no mailbox (CAPABILITIES 0x%" PRIx32 ")", path,
                         capabilities);
    return 0;
}

/* The window is mapped when a channel is first wanted. */
static void name_window(struct mailbox *mailbox, const char *device_dir,
                        const struct vgpu_options *options, const char *name)
{
    struct vgpu_pci_window *window = &mailbox->window;
    if (options->resource0)
        snprintf(window->path, sizeof(window->path), "%s",
                 options->resource2 ? options->resource2 : "/nonexistent");
    else
        snprintf(window->path, sizeof(window->path), "%s/resource2", device_dir);
    snprintf(window->run_dir, sizeof(window->run_dir), "%s", options->run_dir);
    snprintf(window->name, sizeof(window->name), "%s", name);
    window->bar = mailbox->bar;
}

int vgpu_transport_mailbox_open(const char *device_dir, const struct vgpu_options *options,
                                const char *name, struct vgpu_transport **transport)
{
    const char *resource0 = options->resource0;
    char path[512];
    if (resource0)
        snprintf(path, sizeof(path), "%s", resource0);
    else
        snprintf(path, sizeof(path), "%s/resource0", device_dir);
    struct mailbox *mailbox = calloc(1, sizeof(*mailbox));
    if (!mailbox)
        return vgpu_fail(-ENOMEM, "out of memory");
    mailbox->base.ops = &mailbox_ops;
    mailbox->fd = -1;
    if (pthread_mutex_init(&mailbox->window.lock, NULL)) {
        free(mailbox);
        return vgpu_fail(-ENOMEM, "out of memory");
    }
    int err;
    mailbox->fd = open(path, O_RDWR | O_CLOEXEC | O_SYNC);
    if (mailbox->fd < 0) {
        err = -errno;
        if (err == -EACCES || err == -EPERM)
            vgpu_fail(err,
                      "no permission for %s: run as root, or install vgpu's udev rule and be "
                      "in the group 'vgpu'",
                      path);
        else
            vgpu_fail(err, "%s cannot be opened: %s", path, strerror(-err));
        goto fail;
    }
    struct stat info;
    if (fstat(mailbox->fd, &info) < 0 || info.st_size != VGPU_BAR0_SIZE) {
        err = vgpu_fail(-ENODEV, "%s has %jd bytes, a vgpu device has %u there", path,
                        (intmax_t)info.st_size, VGPU_BAR0_SIZE);
        goto fail;
    }
    if (!resource0 && (err = enable_memory(device_dir)) < 0)
        goto fail;
    void *bar = mmap(NULL, VGPU_BAR0_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, mailbox->fd, 0);
    if (bar == MAP_FAILED) {
        err = vgpu_fail(-errno, "%s cannot be mapped: %s", path, strerror(errno));
        goto fail;
    }
    /* A child that touched the registers by mistake would disturb its parent's request. */
    mailbox->kept_from_child = madvise(bar, VGPU_BAR0_SIZE, MADV_DONTFORK) == 0;
    mailbox->bar = bar;
    if ((err = check_device(mailbox, path)) < 0)
        goto fail;
    name_window(mailbox, device_dir, options, name);
    *transport = &mailbox->base;
    return 0;
fail:
    mailbox_close(&mailbox->base, false);
    return err;
}
