/* SPDX-License-Identifier: MIT */
/*
 * See pci_window.h. A channel belongs to who holds the lock of its file, run_dir/name/channel-NN,
 * which dies with its holder; the register CHANNEL_OWNER says only that there is one. So an owner
 * whose lock can be had is dead, and its channel is reset before it is taken (G1, G3). The files
 * stay: one that was unlinked under another program's feet would be two.
 */
#include "guest/pci_window.h"

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
#include "ring/ring.h"
#include "vgpu/ring.h"

#define ALL_ONES         0xFFFFFFFFu
#define RESET_TIMEOUT_MS 2000u /* a worker lets go of a channel within that */

struct claim {
    int fd; /* of the lock file */
    uint32_t token;
};

static int fail_gone(void)
{
    return vgpu_fail(-ENODEV, "the device no longer answers (it reads all ones): it was unplugged, "
                              "or its memory was switched off");
}

/* ---- The mapping ---- */

static int map_file(struct vgpu_pci_window *window, uint64_t bytes)
{
    int fd = open(window->path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        int err = -errno;
        return err == -EACCES || err == -EPERM
                   ? vgpu_fail(err,
                               "no permission for the window's file %s: run as root, or install "
                               "vgpu's udev rule and be in the group 'vgpu'",
                               window->path)
                   : vgpu_fail(err, "the window's file %s cannot be opened: %s", window->path,
                               strerror(-err));
    }
    struct stat info;
    void *memory = MAP_FAILED;
    int err = 0;
    if (fstat(fd, &info) < 0 || (uint64_t)info.st_size != bytes)
        err = vgpu_fail(-ENODEV, "%s has %jd bytes, the device says %" PRIu64, window->path,
                        (intmax_t)info.st_size, bytes);
    else if ((memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
        err = vgpu_fail(-errno, "the window (%s) cannot be mapped: %s", window->path,
                        strerror(errno));
    close(fd);
    if (err < 0)
        return err;
    /* A child that wrote there by mistake would disturb its parent's calls. */
    window->kept_from_child = madvise(memory, bytes, MADV_DONTFORK) == 0;
    window->memory = memory;
    window->bytes = bytes;
    return 0;
}

/* What the registers say of it, without mapping it. */
static int read_size(struct vgpu_pci_window *window, uint64_t *bytes, uint32_t *channels)
{
    uint32_t capabilities = vgpu_mmio_read32(window->bar, VGPU_REG_CAPABILITIES);
    if (capabilities == ALL_ONES)
        return fail_gone();
    if (!(capabilities & VGPU_CAP_WINDOW))
        return vgpu_fail(-EOPNOTSUPP, "the device has no window: it is of an older version, or was "
                                      "made without one (property 'window')");
    *bytes = (uint64_t)vgpu_mmio_read32(window->bar, VGPU_REG_WINDOW_SIZE_HI) << 32 |
             vgpu_mmio_read32(window->bar, VGPU_REG_WINDOW_SIZE_LO);
    *channels = vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_COUNT);
    uint32_t channel_bytes = vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_SIZE);
    if (*channels == 0 || *channels > VGPU_CHANNELS_MAX || channel_bytes != VGPU_CHANNEL_BYTES ||
        *bytes > VGPU_WINDOW_BYTES_MAX || *bytes < (uint64_t)*channels * VGPU_CHANNEL_BYTES)
        return vgpu_fail(-EOPNOTSUPP,
                         "the device has a window that this version does not know (%" PRIu64
                         " bytes, %" PRIu32 " channels of %" PRIu32 " bytes)",
                         *bytes, *channels, channel_bytes);
    return 0;
}

static int map_window(struct vgpu_pci_window *window)
{
    uint64_t bytes;
    pthread_mutex_lock(&window->lock);
    int err = 0;
    if (!window->memory) {
        err = read_size(window, &bytes, &window->channel_count);
        if (err == 0)
            err = map_file(window, bytes);
    }
    pthread_mutex_unlock(&window->lock);
    return err;
}

void vgpu_pci_unmap(struct vgpu_pci_window *window, bool forked)
{
    /* In a child what stands at that address may be something else by now. */
    if (window->memory && !(forked && window->kept_from_child))
        munmap(window->memory, window->bytes);
    window->memory = NULL;
}

/* ---- Owning a channel ---- */

/* The lock of channel n. -EBUSY: its owner lives. Only who is going to keep it opens the file for
 * writing, so that its end is seen by who watches the directory. */
static int take_lock(int dir, uint32_t n, bool keep)
{
    char name[24];
    snprintf(name, sizeof(name), "channel-%02" PRIu32, n);
    int flags = keep ? O_RDWR | O_CREAT : O_RDONLY;
    int fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0660);
    struct stat info;
    if (fd < 0)
        return -errno;
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode) || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int err = errno == EWOULDBLOCK ? -EBUSY : -EACCES;
        close(fd);
        return err;
    }
    if (keep && (info.st_mode & 0777) != 0660)
        (void)fchmod(fd, 0660); /* whatever the umask; fails when it is another's, who did it */
    return fd;
}

/* With the lock held, a channel whose owner died becomes free. */
static int reset_channel(struct vgpu_pci_window *window, uint32_t n, uint64_t deadline_ns)
{
    struct vgpu_backoff backoff = {0};
    vgpu_mmio_write32(window->bar, VGPU_REG_CHANNEL_CTRL(n), 0);
    for (;;) {
        uint32_t state = vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_CTRL(n));
        if (state == VGPU_CHANNEL_FREE)
            break;
        if (state == ALL_ONES)
            return fail_gone();
        if (!vgpu_backoff_wait(&backoff, deadline_ns))
            return vgpu_fail(-ETIMEDOUT,
                             "channel %" PRIu32 " is not let go by the host (CHANNEL_CTRL reads "
                             "%" PRIu32 ")",
                             n, state);
    }
    vgpu_mmio_write32(window->bar, VGPU_REG_CHANNEL_OWNER(n), 0);
    return 0;
}

/* With the lock held: 0 and the token, or why not. */
static int own_channel(struct vgpu_pci_window *window, uint32_t n, uint32_t *token)
{
    uint32_t owner = vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_OWNER(n));
    if (owner == ALL_ONES && vgpu_mmio_read32(window->bar, VGPU_REG_PROTOCOL_VER) == ALL_ONES)
        return fail_gone();
    if (owner != 0) {
        int err = reset_channel(window, n, vgpu_deadline_ns(RESET_TIMEOUT_MS));
        if (err < 0)
            return err;
    }
    int err = vgpu_random(token, sizeof(*token));
    if (err < 0)
        return err;
    if (*token == 0 || *token == ALL_ONES)
        *token = 1;
    vgpu_mmio_write32(window->bar, VGPU_REG_CHANNEL_OWNER(n), *token);
    if (vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_OWNER(n)) != *token)
        return vgpu_fail(-EBUSY,
                         "channel %" PRIu32 " is owned by a program that does not take its "
                         "lock in %s/%s",
                         n, window->run_dir, window->name);
    return 0;
}

int vgpu_pci_claim(struct vgpu_pci_window *window, struct vgpu_transport *transport,
                   struct vgpu_channel_port *port)
{
    int err = map_window(window);
    if (err < 0)
        return err;
    struct claim *claim = calloc(1, sizeof(*claim));
    if (!claim)
        return vgpu_fail(-ENOMEM, "out of memory");
    int dir = vgpu_record_open_dir(window->run_dir, window->name);
    if (dir < 0) {
        free(claim);
        return dir;
    }
    err = -EBUSY;
    vgpu_set_error_text("all %" PRIu32 " channels are taken by other programs (the device's "
                        "property 'channels' gives more)",
                        window->channel_count);
    for (uint32_t n = 0; n < window->channel_count; n++) {
        int fd = take_lock(dir, n, true);
        if (fd == -EBUSY)
            continue;
        if (fd < 0) {
            err = vgpu_fail(fd, "the lock of channel %" PRIu32 " in %s/%s cannot be taken: %s", n,
                            window->run_dir, window->name, strerror(-fd));
            continue;
        }
        int why = own_channel(window, n, &claim->token);
        if (why == 0) {
            claim->fd = fd;
            *port = (struct vgpu_channel_port){
                .transport = transport,
                .window = window->memory,
                .window_bytes = window->bytes,
                .number = n,
                .channel_count = window->channel_count,
                .interrupt_fd = -1,
                .own = claim,
            };
            close(dir);
            return 0;
        }
        err = why;
        close(fd);
        if (why == -ENODEV)
            break;
    }
    close(dir);
    free(claim);
    return err;
}

int vgpu_pci_enable(struct vgpu_pci_window *window, struct vgpu_channel_port *port,
                    uint64_t deadline_ns)
{
    struct vgpu_backoff backoff = {0};
    uint32_t n = port->number;
    vgpu_mmio_write32(window->bar, VGPU_REG_CHANNEL_CTRL(n), 1);
    for (;;) {
        uint32_t state = vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_CTRL(n));
        if (state == VGPU_CHANNEL_ACTIVE)
            return 0;
        if (state == ALL_ONES)
            return fail_gone();
        if (state == VGPU_CHANNEL_FATAL) {
            uint32_t error = vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_ERROR(n));
            return vgpu_fail(-EIO, "the host cannot enable channel %" PRIu32 ": %s", n,
                             vgpu_channel_error_text(error));
        }
        if (!vgpu_backoff_wait(&backoff, deadline_ns))
            return vgpu_fail(-ETIMEDOUT, "the host did not enable channel %" PRIu32 " in time", n);
    }
}

void vgpu_pci_ring(struct vgpu_pci_window *window, struct vgpu_channel_port *port)
{
    vgpu_mmio_write32(window->bar, VGPU_REG_CHANNEL_DOORBELL(port->number), 1);
}

int vgpu_pci_state(struct vgpu_pci_window *window, struct vgpu_channel_port *port, uint32_t *state,
                   uint32_t *error, uint32_t *generation)
{
    const struct claim *claim = port->own;
    uint32_t n = port->number;
    *generation = vgpu_mmio_read32(window->bar, VGPU_REG_GENERATION);
    *state = vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_CTRL(n));
    if (*state == ALL_ONES)
        return fail_gone();
    *error = 0;
    if (*state == VGPU_CHANNEL_FATAL)
        *error = vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_ERROR(n));
    /* Active, but another's: somebody thought us dead. */
    if (*state == VGPU_CHANNEL_ACTIVE &&
        vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_OWNER(n)) != claim->token)
        *state = VGPU_CHANNEL_FREE;
    return 0;
}

void vgpu_pci_farewell(struct vgpu_pci_window *window, struct vgpu_channel_port *port)
{
    const struct claim *claim = port->own;
    uint32_t n = port->number;
    /* Another's by now, after a reset of the device: not ours to give back. When the host does not
     * let go in time the next who takes it waits for that (G1). */
    if (vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_OWNER(n)) == claim->token)
        (void)reset_channel(window, n, vgpu_deadline_ns(RESET_TIMEOUT_MS));
}

void vgpu_pci_release(struct vgpu_pci_window *window, struct vgpu_channel_port *port, bool forked)
{
    struct claim *claim = port->own;
    if (!forked) {
        vgpu_pci_farewell(window, port);
        flock(claim->fd, LOCK_UN); /* said aloud: a forked child may hold the same open file */
    }
    close(claim->fd);
    free(claim);
}

int vgpu_pci_sweep(struct vgpu_pci_window *window)
{
    uint64_t bytes;
    uint32_t channels;
    int err = read_size(window, &bytes, &channels);
    if (err < 0)
        return err;
    int dir = vgpu_record_open_dir(window->run_dir, window->name);
    if (dir < 0)
        return dir;
    int freed = 0;
    for (uint32_t n = 0; n < channels && err == 0; n++) {
        uint32_t owner = vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_OWNER(n));
        if (owner == 0)
            continue;
        int fd = take_lock(dir, n, false);
        if (fd < 0)
            continue; /* its owner lives, or takes no locks */
        /* It may have changed hands before we had the lock. */
        if (vgpu_mmio_read32(window->bar, VGPU_REG_CHANNEL_OWNER(n)) != 0) {
            err = reset_channel(window, n, vgpu_deadline_ns(RESET_TIMEOUT_MS));
            freed += err == 0;
        }
        close(fd);
    }
    close(dir);
    return err < 0 ? err : freed;
}
