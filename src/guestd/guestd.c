/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See guestd.h. A program's record is a file that it keeps open for writing. When the last
 * descriptor of it is closed, because the program died or ended its session, inotify says so:
 * nothing here looks at anything by the clock, but for a second look after something happened.
 */
#include "guestd/guestd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "guest/deadline.h"
#include "guest/guest.h"

#define DEVICES_MAX 64u /* folders that are watched; a VM has a few */
#define NAME_BYTES  64u
/* The notice comes just before the kernel drops the lock, and a program's files are closed one
 * after the other: after a notice it is looked at once, and again after so many ms. */
static const uint32_t look_again_ms[] = {2, 50, 400};
#define LOOKS          (sizeof(look_again_ms) / sizeof(look_again_ms[0]))
#define RETRY_FIRST_MS 1000u /* when the host did not answer; doubled */
#define RETRY_LAST_MS  60000u

struct device {
    char name[NAME_BYTES];
    int watch;
    uint64_t due_ns;   /* of the next look, 0: none */
    unsigned looks;    /* since the last notice */
    uint32_t retry_ms; /* until the next one after a failure, 0: there was none */
    bool found;        /* something since the last notice */
};

struct guestd {
    const struct vgpu_guestd_options *options;
    int dir, lock, notices;
    int root_watch;
    struct device devices[DEVICES_MAX];
    unsigned count;
};

static const char *quoted(char *buffer, size_t size, const char *text)
{
    return vgpu_log_quote(buffer, size, text, strlen(text));
}

/* ---- Sweeping ---- */

static int open_device(const struct guestd *g, const char *name, struct vgpu **gpu)
{
    struct vgpu_options options = VGPU_OPTIONS_INIT;
    char address[NAME_BYTES + 8];
    snprintf(address, sizeof(address), "pci:%s", name);
    if (g->options->resource0 && strcmp(name, "test") == 0) {
        options.resource0 = g->options->resource0;
        options.resource2 = g->options->resource2;
    } else {
        options.device = address;
    }
    options.run_dir = g->options->run_dir;
    options.sysfs_root = g->options->sysfs_root;
    options.timeout_ms = g->options->timeout_ms;
    options.transport = "mailbox";
    return vgpu_init(&options, gpu);
}

/* Whether somebody died: a look at the locks, so that programs which end as they should cost the
 * device nothing. */
static bool anybody_dead(const struct guestd *g, const char *name)
{
    int dir = openat(g->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0)
        return false;
    bool dead = vgpu_record_any_dead(dir);
    close(dir);
    return dead;
}

static void sweep(struct guestd *g, struct device *device)
{
    struct vgpu *gpu;
    unsigned sessions = 0, channels = 0;
    char name[NAME_BYTES * 2], why[600];
    uint64_t start_ns = vgpu_now_ns();
    int err = open_device(g, device->name, &gpu);
    if (err == 0) {
        err = vgpu_sweep(gpu, &sessions, &channels);
        if (err < 0)
            quoted(why, sizeof(why), vgpu_last_error_text());
        vgpu_cleanup(gpu);
    } else {
        quoted(why, sizeof(why), vgpu_last_error_text());
    }
    quoted(name, sizeof(name), device->name);
    if (sessions || channels)
        vgpu_log(VGPU_LOG_INFO, "swept", "device=%s sessions=%u channels=%u ms=%llu", name,
                 sessions, channels, (unsigned long long)((vgpu_now_ns() - start_ns) / 1000000u));
    if (err == 0) {
        device->retry_ms = 0;
        return;
    }
    /* A device that is gone took its sessions with it; the folder is looked at when it changes. */
    bool again = err != -ENODEV && err != -ENOENT;
    device->retry_ms = !again ? 0 : device->retry_ms ? device->retry_ms * 2 : RETRY_FIRST_MS;
    if (device->retry_ms > RETRY_LAST_MS)
        device->retry_ms = RETRY_LAST_MS;
    vgpu_log(again ? VGPU_LOG_WARN : VGPU_LOG_INFO, "not-swept", "device=%s retry_ms=%u reason=%s",
             name, device->retry_ms, why);
}

/* One look, and when the next one is due. */
static void look(struct guestd *g, struct device *device, bool always)
{
    device->due_ns = 0;
    bool dead = anybody_dead(g, device->name);
    if (dead || always || device->found || device->retry_ms) {
        device->found |= dead;
        sweep(g, device);
    }
    if (device->retry_ms)
        device->due_ns = vgpu_deadline_ns(device->retry_ms);
    else if (device->looks < LOOKS)
        device->due_ns = vgpu_deadline_ns(look_again_ms[device->looks++]);
    else
        device->found = false;
}

/* ---- Watching ---- */

static struct device *find(struct guestd *g, int watch)
{
    for (unsigned i = 0; i < g->count; i++)
        if (g->devices[i].watch == watch)
            return &g->devices[i];
    return NULL;
}

static void something_happened(struct device *device)
{
    device->looks = 0;
    device->due_ns = 1;
}

static void watch_device(struct guestd *g, const char *name)
{
    char path[PATH_MAX], text[NAME_BYTES * 2];
    struct stat info;
    for (unsigned i = 0; i < g->count; i++)
        if (strcmp(g->devices[i].name, name) == 0)
            return;
    if (name[0] == '.' || strlen(name) >= NAME_BYTES ||
        fstatat(g->dir, name, &info, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(info.st_mode))
        return;
    quoted(text, sizeof(text), name);
    snprintf(path, sizeof(path), "%s/%s", g->options->run_dir, name);
    /* Moved away and deleted: by name it could be another's by then. */
    int watch = g->count < DEVICES_MAX
                    ? inotify_add_watch(g->notices, path,
                                        IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF |
                                            IN_ONLYDIR | IN_DONT_FOLLOW)
                    : -1;
    if (watch < 0) {
        vgpu_log(VGPU_LOG_WARN, "not-watched", "device=%s reason=\"%s\"", text,
                 g->count < DEVICES_MAX ? strerror(errno) : "too many devices");
        return;
    }
    struct device *device = &g->devices[g->count++];
    *device = (struct device){.watch = watch};
    snprintf(device->name, sizeof(device->name), "%s", name);
    vgpu_log(VGPU_LOG_INFO, "watches", "device=%s", text);
    something_happened(device);
    look(g, device, true); /* what was left before we came */
}

static void watch_all(struct guestd *g)
{
    int copy = openat(g->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;
    if (!list) {
        if (copy >= 0)
            close(copy);
        return;
    }
    while ((entry = readdir(list)))
        watch_device(g, entry->d_name);
    closedir(list);
}

static void forget(struct guestd *g, struct device *device)
{
    (void)inotify_rm_watch(g->notices, device->watch); /* it may be gone already */
    *device = g->devices[--g->count];
}

static void take_notice(struct guestd *g, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW) { /* some were lost: look at everything */
        watch_all(g);
        for (unsigned i = 0; i < g->count; i++)
            something_happened(&g->devices[i]);
        return;
    }
    if (event->wd == g->root_watch) {
        if (event->len)
            watch_device(g, event->name);
        return;
    }
    struct device *device = find(g, event->wd);
    if (!device)
        return;
    if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))
        forget(g, device);
    else
        something_happened(device);
}

static void take_notices(struct guestd *g)
{
    union {
        struct inotify_event align;
        char bytes[4096];
    } buffer;
    ssize_t length;
    while ((length = read(g->notices, buffer.bytes, sizeof(buffer.bytes))) > 0) {
        for (ssize_t at = 0; at < length;) {
            const struct inotify_event *event = (const void *)(buffer.bytes + at);
            take_notice(g, event);
            at += (ssize_t)(sizeof(*event) + event->len);
        }
    }
}

/* ---- The loop ---- */

/* ms until the next look, -1: nothing is to be done before something happens. */
static int next_due(const struct guestd *g)
{
    uint64_t due_ns = UINT64_MAX;
    for (unsigned i = 0; i < g->count; i++)
        if (g->devices[i].due_ns && g->devices[i].due_ns < due_ns)
            due_ns = g->devices[i].due_ns;
    return due_ns == UINT64_MAX ? -1 : (int)vgpu_remaining_ms(due_ns);
}

static void loop(struct guestd *g, int stop_fd)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = g->notices, .events = POLLIN},
                                {.fd = stop_fd, .events = POLLIN}};
        if (poll(fds, 2, next_due(g)) < 0 && errno != EINTR)
            return;
        if (fds[1].revents)
            return;
        take_notices(g);
        uint64_t now = vgpu_now_ns();
        for (unsigned i = 0; i < g->count; i++)
            if (g->devices[i].due_ns && g->devices[i].due_ns <= now)
                look(g, &g->devices[i], false);
    }
}

static int fail(const char *what, const char *path)
{
    int err = -errno;
    char text[512];
    vgpu_log(VGPU_LOG_ERROR, "failed", "what=\"%s\" path=%s reason=\"%s\"", what,
             quoted(text, sizeof(text), path), strerror(-err));
    return err;
}

/* One instance for a directory: two would do no harm, but do everything twice. */
static int take_lock(struct guestd *g)
{
    g->lock = openat(g->dir, "guestd.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
    if (g->lock < 0)
        return fail("the lock cannot be made", g->options->run_dir);
    if (flock(g->lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return fail("the lock cannot be taken", g->options->run_dir);
    vgpu_log(VGPU_LOG_ERROR, "failed", "what=\"another vgpu-guestd runs for this directory\"");
    return -EBUSY;
}

int vgpu_guestd_run(const struct vgpu_guestd_options *options, int stop_fd)
{
    struct guestd *g = calloc(1, sizeof(*g));
    char text[512];
    int err = 0;
    if (!g)
        return -ENOMEM;
    g->options = options;
    g->lock = g->notices = -1;
    g->dir = open(options->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g->dir < 0) {
        err = fail("the run directory cannot be opened: is it made at boot (tmpfiles), and may "
                   "this user use it?",
                   options->run_dir);
        goto out;
    }
    if ((err = take_lock(g)) < 0)
        goto out;
    g->notices = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    g->root_watch = g->notices < 0 ? -1
                                   : inotify_add_watch(g->notices, options->run_dir,
                                                       IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
    if (g->root_watch < 0) {
        err = fail("the run directory cannot be watched", options->run_dir);
        goto out;
    }
    watch_all(g);
    vgpu_log(VGPU_LOG_INFO, "ready", "run_dir=%s devices=%u pid=%ld",
             quoted(text, sizeof(text), options->run_dir), g->count, (long)getpid());
    loop(g, stop_fd);
    vgpu_log(VGPU_LOG_INFO, "stopped", "pid=%ld", (long)getpid());
out:
    if (g->notices >= 0)
        close(g->notices);
    if (g->lock >= 0)
        close(g->lock);
    if (g->dir >= 0)
        close(g->dir);
    free(g);
    return err;
}
