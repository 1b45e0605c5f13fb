/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Landlock by its system calls; see landlock.h. The numbers are here because neither the C library
 * nor the headers of an older kernel have them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH */
#endif
#include "worker/landlock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same on every architecture. */
#define CREATE_RULESET 444
#define ADD_RULE       445
#define RESTRICT_SELF  446

#define ASK_VERSION       1u /* flag of CREATE_RULESET */
#define RULE_PATH_BENEATH 1

/* Rights to files. */
#define WRITE_FILE ((uint64_t)1 << 1)
#define READ_FILE  ((uint64_t)1 << 2)
#define READ_DIR   ((uint64_t)1 << 3)
#define TRUNCATE   ((uint64_t)1 << 14)
#define IOCTL_DEV  ((uint64_t)1 << 15)
#define OF_A_DIR   (((uint64_t)1 << 14) - ((uint64_t)1 << 3)) /* rights that only a directory has */

/* Struct landlock_ruleset_attr. A kernel that knows less of it accepts the rest as long as it is 0.
 */
struct ruleset {
    uint64_t files;
    uint64_t net;
    uint64_t scoped;
};
_Static_assert(sizeof(struct ruleset) == 24, "what the kernel expects");

struct beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));
_Static_assert(sizeof(struct beneath) == 12, "what the kernel expects");

/* Everything that this ABI can forbid. */
static struct ruleset everything(int abi)
{
    static const unsigned rights[] = {13, 14, 15, 15, 16}; /* from ABI 1 on; 16 from 5 on */
    unsigned count = rights[abi < 5 ? abi - 1 : 4];
    struct ruleset all = {.files = ((uint64_t)1 << count) - 1};
    if (abi >= 4)
        all.net = 3; /* to bind, to connect */
    if (abi >= 6)
        all.scoped = 3; /* abstract sockets, signals */
    return all;
}

/* A path that is not there needs no rule. */
static int allow(int ruleset, uint64_t handled, const char *path, uint64_t rights)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return 0;
    struct stat st;
    int rc = fstat(fd, &st) ? -errno : 0;
    if (!rc) {
        struct beneath rule = {.allowed = rights & handled, .parent = fd};
        if (!S_ISDIR(st.st_mode))
            rule.allowed &= ~OF_A_DIR;
        if (syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0))
            rc = -errno;
    }
    close(fd);
    return rc;
}

/* The driver's devices: as many as there are GPUs, and a directory of capabilities. */
static int allow_devices(int ruleset, uint64_t handled)
{
    DIR *dev = opendir("/dev");
    if (!dev)
        return -errno;
    int rc = 0;
    struct dirent *entry;
    while (!rc && (entry = readdir(dev))) {
        char path[sizeof("/dev/") + sizeof(entry->d_name)];
        if (strncmp(entry->d_name, "nvidia", 6))
            continue;
        snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
        rc = allow(ruleset, handled, path, READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV);
    }
    closedir(dev);
    return rc;
}

/* What NVIDIA's driver opens: its libraries, of which it loads some when a kernel is first compiled
 * from PTX, its devices, and what tells it about this machine and this process. */
static int allow_cuda(int ruleset, uint64_t handled)
{
    static const char *const read_only[] = {
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/nvidia",
        "/etc/ld.so.cache",
        "/etc/nvidia",
        "/usr/share/nvidia",
        "/proc/self",
        "/proc/cpuinfo",
        "/proc/devices",
        "/proc/driver/nvidia",
        "/proc/driver/nvidia-uvm",
        "/proc/meminfo",
        "/proc/modules",
        "/proc/stat",
        "/proc/sys/vm",
        "/proc/version",
        "/sys/bus/pci",
        "/sys/devices",
        "/sys/module",
        "/dev/urandom",
    };
    int rc = allow(ruleset, handled, "/dev/null", READ_FILE | WRITE_FILE);
    for (size_t i = 0; !rc && i < sizeof(read_only) / sizeof(read_only[0]); i++)
        rc = allow(ruleset, handled, read_only[i], READ_FILE | READ_DIR);
    /* The driver gives up when it cannot name its threads, which it does through a file. */
    if (!rc)
        rc = allow(ruleset, handled, "/proc/self/task",
                   READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE);
    return rc ? rc : allow_devices(ruleset, handled);
}

int vgpu_landlock_restrict(enum vgpu_profile profile)
{
    long abi = syscall(CREATE_RULESET, NULL, 0, ASK_VERSION);
    if (abi < 1)
        return 0; /* whatever the reason: there is none for us */
    struct ruleset all = everything((int)abi);
    int ruleset = (int)syscall(CREATE_RULESET, &all, sizeof(all), 0);
    if (ruleset < 0)
        return -errno;
    int rc = profile == VGPU_PROFILE_CUDA ? allow_cuda(ruleset, all.files) : 0;
    if (!rc && syscall(RESTRICT_SELF, ruleset, 0))
        rc = -errno;
    close(ruleset);
    return rc ? rc : (int)abi;
}
