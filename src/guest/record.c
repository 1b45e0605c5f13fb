/* SPDX-License-Identifier: MIT */
/*
 * The run directory. A file's lock says whether its program lives; its content, in which generation
 * of the device and which boot of the VM the session was opened. Whoever holds a file's lock, and
 * finds that the file is still the one in the directory, may decide about that session. Knows
 * nothing of the device.
 *
 * All programs that may use the device trust each other (one group): a file that one of them
 * forges costs the others nothing but the session that it names.
 */
#include "guest/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/guest.h"

#define NAME_LENGTH  16   /* hexadecimal digits of a session's number */
#define SWEEP_FILES  4096 /* looked at in one sweep: a bound, far above what a VM may open */
#define CONTENT_SIZE 96

/* What a record says: the generation, and the boot, since a VM that is switched off and on again
 * may come back with the same generation. */
static void format_content(char content[CONTENT_SIZE], uint32_t generation)
{
    char boot[40] = "unknown";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, boot, 36);
        if (n == 36)
            boot[36] = 0;
        else
            snprintf(boot, sizeof(boot), "unknown");
        close(fd);
    }
    snprintf(content, CONTENT_SIZE, "generation=%" PRIu32 " boot=%s\n", generation, boot);
}

static void format_name(char name[NAME_LENGTH + 1], uint64_t number)
{
    snprintf(name, NAME_LENGTH + 1, "%016" PRIx64, number);
}

static bool parse_name(const char *name, uint64_t *number)
{
    if (strlen(name) != NAME_LENGTH || strspn(name, "0123456789abcdef") != NAME_LENGTH)
        return false;
    *number = strtoull(name, NULL, 16);
    return *number != 0;
}

/*
 * Opens a directory that the group of its parent may work in, making it when it is missing. The
 * mode is set by descriptor: by name it could be another's file by then.
 */
static int open_shared_dir(int at, const char *path, int flags)
{
    bool made = mkdirat(at, path, 0770) == 0;
    if (!made && errno != EEXIST)
        return -errno;
    int dir =
        openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (made ? O_NOFOLLOW : 0) | flags);
    if (dir < 0)
        return -errno;
    /* The umask must not shut the group out. The set-group-ID bit hands the group down; a file
     * system that refuses it is one where only our own programs can clean up. */
    if (made && fchmod(dir, 02770) < 0 && fchmod(dir, 0770) < 0) {
        int err = -errno;
        close(dir);
        return err;
    }
    return dir;
}

int vgpu_record_open_dir(const char *run_dir, const char *name)
{
    int parent = open_shared_dir(AT_FDCWD, run_dir, 0); /* an administrator may have linked it */
    if (parent < 0)
        return vgpu_fail(parent, "the run directory %s cannot be made or opened: %s", run_dir,
                         strerror(-parent));
    int dir = open_shared_dir(parent, name, O_NOFOLLOW);
    close(parent);
    if (dir < 0)
        return vgpu_fail(dir, "the run directory %s/%s cannot be used: %s", run_dir, name,
                         strerror(-dir));
    return dir;
}

/* Whether the locked file is the one that its name leads to. It is not when somebody removed it
 * between our open and our lock. */
static bool is_current(int dir, const char *name, int fd)
{
    struct stat ours, named;
    return fstat(fd, &ours) == 0 && fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

int vgpu_record_create(int dir, uint64_t number, uint32_t generation, struct vgpu_record *record)
{
    char name[NAME_LENGTH + 1];
    char content[CONTENT_SIZE];
    format_name(name, number);
    format_content(content, generation);
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0660);
    if (fd < 0)
        return -errno;
    /* A sweep may have come between the file's birth and our lock, and taken it for a dead one's.
     */
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_current(dir, name, fd)) {
        close(fd);
        return -EEXIST;
    }
    int err = 0;
    ssize_t length = (ssize_t)strlen(content);
    (void)fchmod(fd, 0660); /* whatever the umask */
    int copy = -1;
    if (write(fd, content, (size_t)length) != length)
        err = errno ? -errno : -EIO;
    else if ((copy = fcntl(dir, F_DUPFD_CLOEXEC, 3)) < 0)
        err = -errno;
    if (err < 0) {
        unlinkat(dir, name, 0);
        close(fd);
        return err;
    }
    *record = (struct vgpu_record){.dir = copy, .fd = fd};
    return 0;
}

void vgpu_record_remove(struct vgpu_record *record, uint64_t number)
{
    if (record->fd >= 0) {
        char name[NAME_LENGTH + 1];
        format_name(name, number);
        /* Unlinked while locked, so that no sweep sees it unlocked. */
        if (is_current(record->dir, name, record->fd))
            unlinkat(record->dir, name, 0);
    }
    vgpu_record_release(record);
}

void vgpu_record_release(struct vgpu_record *record)
{
    if (record->fd >= 0)
        close(record->fd);
    if (record->dir >= 0)
        close(record->dir);
    *record = (struct vgpu_record)VGPU_RECORD_NONE;
}

/* Decides about one file. 1: removed; 0: left; < 0: left, and no other is worth a try now. */
static int sweep_file(int dir, const char *name, uint64_t number, const char *current,
                      vgpu_record_end end, void *context)
{
    /* Never follows a link, never waits on a pipe that somebody put there. Not for writing: who
     * watches the directory for programs that die sees only files that are written to closed. */
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return 0;
    int removed = 0;
    struct stat info;
    char content[CONTENT_SIZE] = "";
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode) || flock(fd, LOCK_EX | LOCK_NB) < 0 ||
        !is_current(dir, name, fd))
        goto out; /* its program lives, or another sweep was faster */
    ssize_t length = read(fd, content, sizeof(content) - 1);
    if (length < 0)
        goto out;
    content[length] = 0;
    /* Without content its program died before it opened anything, or is just about to lock the
     * file: then its own check finds the file gone, and it takes another number. */
    if (strcmp(content, current) == 0) {
        int err = end(context, number);
        if (err != 0) {
            removed = err < 0 ? err : 0;
            goto out;
        }
    }
    removed = unlinkat(dir, name, 0) == 0;
out:
    close(fd);
    return removed;
}

/* A list of our own: a directory's position belongs to the open file. NULL with errno. */
static DIR *list_dir(int dir)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (copy < 0)
        return NULL;
    DIR *list = fdopendir(copy);
    if (!list) {
        int err = errno;
        close(copy);
        errno = err;
    }
    return list;
}

bool vgpu_record_any_dead(int dir)
{
    DIR *list = list_dir(dir);
    bool dead = false;
    struct dirent *entry;
    if (!list)
        return false;
    for (int seen = 0; !dead && seen < SWEEP_FILES && (entry = readdir(list)); seen++) {
        uint64_t number;
        struct stat info;
        if (!parse_name(entry->d_name, &number))
            continue;
        int fd = openat(dir, entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
            continue;
        dead = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && flock(fd, LOCK_SH | LOCK_NB) == 0;
        close(fd);
    }
    closedir(list);
    return dead;
}

int vgpu_record_sweep(int dir, uint32_t generation, vgpu_record_end end, void *context)
{
    char current[CONTENT_SIZE];
    format_content(current, generation);
    DIR *list = list_dir(dir);
    if (!list)
        return -errno;
    int removed = 0;
    for (int seen = 0; seen < SWEEP_FILES; seen++) {
        struct dirent *entry = readdir(list);
        if (!entry)
            break;
        uint64_t number;
        if (!parse_name(entry->d_name, &number))
            continue;
        int swept = sweep_file(dir, entry->d_name, number, current, end, context);
        if (swept < 0)
            break;
        removed += swept;
    }
    closedir(list);
    return removed;
}
