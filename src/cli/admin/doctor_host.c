/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel of this host gives: features, limits, virtualization. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/admin/doctor.h"
#include "common/sys.h"
#include "config.h"

/* Of kernels and C libraries that are older than these. */
#ifndef F_ADD_SEALS
#define F_ADD_SEALS   1033
#define F_SEAL_SEAL   1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW   4
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#define LANDLOCK_VERSION 1u /* the flag that asks for it */

#define DEFAULT_UID_BASE 1900000000u /* docs/mediator.md, worker_uid_base */

static void check_seals(struct doctor *d)
{
    int fd = vgpu_memfd_create("vgpu-doctor", VGPU_MFD_CLOEXEC | VGPU_MFD_ALLOW_SEALING);
    bool good = fd >= 0 && ftruncate(fd, 4096) == 0 &&
                fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW) == 0;
    if (good)
        doctor_say(d, DOCTOR_OK, "memfd", NULL, "memory files can be sealed against resizing");
    else
        doctor_say(d, DOCTOR_BAD, "memfd",
                   "use a kernel from 3.17 on; without it no VM has a window, and every call goes "
                   "through the mailbox",
                   "memory files cannot be sealed: %s", strerror(fd < 0 ? -fd : errno));
    if (fd >= 0)
        close(fd);
}

static void check_landlock(struct doctor *d)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_VERSION);
    if (abi > 0)
        doctor_say(d, DOCTOR_OK, "landlock", NULL, "workers are kept to a few files (ABI %ld)",
                   abi);
    else
        doctor_say(d, DOCTOR_WARN, "landlock",
                   "use a kernel from 5.13 on with Landlock among its security modules (kernel "
                   "parameter lsm=landlock,...); until then uids alone keep workers from files",
                   "this kernel has no Landlock: %s", strerror(errno));
}

static void check_seccomp(struct doctor *d)
{
#ifdef VGPU_HAVE_SECCOMP
    char line[256];
    /* In this process: the file is the one below --root. */
    bool kernel = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
    if (kernel && doctor_line(d, line, sizeof(line), "/proc/sys/kernel/seccomp/actions_avail"))
        doctor_say(d, DOCTOR_OK, "seccomp", NULL, "system calls of workers are filtered");
    else
        doctor_say(d, DOCTOR_WARN, "seccomp", "use a kernel with CONFIG_SECCOMP_FILTER",
                   "this kernel cannot filter system calls: workers run unfiltered");
#else
    doctor_say(d, DOCTOR_WARN, "seccomp", "install libseccomp-dev and build again",
               "this build has no libseccomp: workers run unfiltered");
#endif
}

static void check_cgroup(struct doctor *d)
{
    char line[256];
    if (doctor_line(d, line, sizeof(line), "/sys/fs/cgroup/cgroup.controllers"))
        doctor_say(d, DOCTOR_OK, "cgroup", NULL, "version 2, controllers: %s",
                   *line ? line : "none");
    else
        doctor_say(d, DOCTOR_WARN, "cgroup",
                   "mount it (systemd does): without it nothing bounds the host memory and "
                   "processors that the mediator's workers take together",
                   "there is no cgroup file system of version 2 at /sys/fs/cgroup");
}

/* As root the mediator gives each VM a uid of its own. */
static void check_uids(struct doctor *d)
{
    const struct vgpu_settings *s = d->settings;
    uint32_t base = s->has_worker_uid_base ? s->worker_uid_base : DEFAULT_UID_BASE;
    uint64_t last = (uint64_t)base + 2ull * s->max_vms - 1;
    char line[128], place[4096];
    bool found = false;
    FILE *file = fopen(doctor_path(d, place, "/proc/self/uid_map"), "re");
    while (file && !found && fgets(line, sizeof(line), file)) {
        uint64_t inside, outside, count;
        if (sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64, &inside, &outside, &count) == 3)
            found = base >= inside && last < inside + count;
    }
    if (file)
        fclose(file);
    if (!file || found)
        doctor_say(d, DOCTOR_OK, "uids", NULL, "workers can have uids %" PRIu32 " to %" PRIu64,
                   base, last);
    else
        doctor_say(d, DOCTOR_WARN, "uids",
                   "set worker_uid_base under [mediator] to a range that this user namespace has, "
                   "or run the mediator outside of it; until then workers of different VMs share "
                   "one uid",
                   "this user namespace lacks the uids %" PRIu32 " to %" PRIu64, base, last);
}

void doctor_check_kernel(struct doctor *d)
{
    struct utsname name;
    if (uname(&name) == 0)
        doctor_say(d, DOCTOR_OK, "kernel", NULL, "%s %s on %s", name.sysname, name.release,
                   name.machine);
    check_seals(d);
    check_landlock(d);
    check_seccomp(d);
    check_cgroup(d);
    check_uids(d);
}

/* A line of /proc/PID/limits: soft and hard; UINT64_MAX: unlimited. */
static bool read_limit(const struct doctor *d, const char *pid, const char *name, uint64_t *soft,
                       uint64_t *hard)
{
    char line[256], place[4096], file_name[64], words[2][32];
    bool found = false;
    snprintf(file_name, sizeof(file_name), "/proc/%s/limits", pid);
    FILE *file = fopen(doctor_path(d, place, file_name), "re");
    while (file && !found && fgets(line, sizeof(line), file)) {
        size_t length = strlen(name);
        found = !strncmp(line, name, length) &&
                sscanf(line + length, "%31s %31s", words[0], words[1]) == 2;
    }
    if (file)
        fclose(file);
    if (!found)
        return false;
    if (sscanf(words[0], "%" SCNu64, soft) != 1)
        *soft = UINT64_MAX;
    if (sscanf(words[1], "%" SCNu64, hard) != 1)
        *hard = UINT64_MAX;
    return true;
}

void doctor_check_limits(struct doctor *d)
{
    char pid[24] = "self";
    uint64_t soft = 0, hard = 0;
    bool running = d->status != NULL;
    if (running)
        snprintf(pid, sizeof(pid), "%" PRId64, admin_number(d->status, "pid", 0));
    const char *whose = running ? "the mediator" : "a program started from here";
    /* docs/mediator.md, Windows: 33 descriptors for a device with 16 channels, and windows get half
     * of the limit. */
    uint64_t want = 2ull * 33 * d->settings->max_vms + 256;
    if (!read_limit(d, pid, "Max open files", &soft, &hard)) {
        doctor_say(d, DOCTOR_WARN, "nofile", "become root and ask again",
                   "the limit on open files of %s cannot be read", whose);
    } else if (hard >= want) {
        doctor_say(d, DOCTOR_OK, "nofile", NULL, "%s may have %" PRIu64 " open files", whose, hard);
    } else {
        char remedy[256];
        snprintf(remedy, sizeof(remedy),
                 "LimitNOFILE=%" PRIu64 " in its service, or ulimit -Hn: max_vms = %" PRIu32
                 " with 16 channels each need that many; with fewer some VMs get no window",
                 want, d->settings->max_vms);
        doctor_say(d, DOCTOR_WARN, "nofile", remedy, "%s may have only %" PRIu64 " open files",
                   whose, hard);
    }
    if (!read_limit(d, pid, "Max locked memory", &soft, &hard))
        return;
    char size[16];
    if (soft == UINT64_MAX)
        snprintf(size, sizeof(size), "no limit");
    else
        admin_size(size, soft);
    if (soft == 0)
        doctor_say(d, DOCTOR_WARN, "memlock", "LimitMEMLOCK=64M in its service, or ulimit -l",
                   "%s may lock no memory at all: programs in its VMs may fail to pin memory",
                   whose);
    else
        doctor_say(d, DOCTOR_OK, "memlock", NULL, "%s may lock memory: %s", whose, size);
}

void doctor_check_kvm(struct doctor *d)
{
    char place[4096];
    int fd = open(doctor_path(d, place, "/dev/kvm"), O_RDWR | O_CLOEXEC);
    int err = errno;
    int version = fd >= 0 ? ioctl(fd, KVM_GET_API_VERSION, 0) : -1;
    if (fd >= 0)
        close(fd);
    if (version == KVM_API_VERSION)
        doctor_say(d, DOCTOR_OK, "kvm", NULL, "/dev/kvm works");
    else if (fd >= 0)
        doctor_say(d, DOCTOR_WARN, "kvm", "load the module kvm_intel or kvm_amd",
                   "/dev/kvm is there and is not KVM: VMs are emulated, which is slow");
    else if (err == ENOENT)
        doctor_say(d, DOCTOR_WARN, "kvm",
                   "switch virtualization on in the firmware and load kvm_intel or kvm_amd; in a "
                   "VM, have its host allow nested virtualization",
                   "there is no /dev/kvm: VMs are emulated (TCG), which is slow but the same");
    else
        doctor_say(d, DOCTOR_WARN, "kvm",
                   "put the users who start VMs into the group of /dev/kvm (kvm)",
                   "/dev/kvm cannot be opened by this user: %s", strerror(err));
}
