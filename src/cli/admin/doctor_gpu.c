/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NVIDIA's driver and devices as files, and what the worker's program says of GPUs. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/admin/doctor.h"
#include "common/clock.h"
#include "config.h"

#define PROBE_MS    60000
#define PROBE_BYTES 65536u

/* Whether the host has an NVIDIA GPU on its PCI bus: display or 3D controller. */
static unsigned count_cards(const struct doctor *d)
{
    char place[4096], path[PATH_MAX], line[64], class[64];
    unsigned count = 0;
    DIR *bus = opendir(doctor_path(d, place, "/sys/bus/pci/devices"));
    for (struct dirent *entry; bus && (entry = readdir(bus));) {
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.64s/vendor", entry->d_name);
        if (!doctor_line(d, line, sizeof(line), path) || strcmp(line, "0x10de") != 0)
            continue;
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.64s/class", entry->d_name);
        count += doctor_line(d, class, sizeof(class), path) && !strncmp(class, "0x03", 4);
    }
    if (bus)
        closedir(bus);
    return count;
}

/* Where the loader looks by itself; LD_LIBRARY_PATH does not reach a service. */
static const char *find_libcuda(const struct doctor *d, char place[4096])
{
    static const char *const folders[] = {"/usr/lib/x86_64-linux-gnu",
                                          "/usr/lib/x86_64-linux-gnu/nvidia/current",
                                          "/usr/lib64",
                                          "/usr/lib",
                                          "/lib/x86_64-linux-gnu",
                                          "/lib64",
                                          "/usr/local/lib",
                                          "/usr/lib/wsl/lib"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/libcuda.so.1", folders[i]);
        if (access(doctor_path(d, place, path), R_OK) == 0)
            return place;
    }
    return NULL;
}

/* Workers open them with the mediator's rights first, and use them as a uid of their own. */
static void check_node(struct doctor *d, const char *path)
{
    char place[4096];
    struct stat st;
    if (stat(doctor_path(d, place, path), &st))
        doctor_say(d, DOCTOR_BAD, "nvidia",
                   "run nvidia-modprobe -c 0 -u, or nvidia-smi once as root; nvidia-persistenced "
                   "keeps the driver loaded",
                   "%s is missing: %s", path, strerror(errno));
    else if ((st.st_mode & 06) != 06)
        doctor_say(d, DOCTOR_BAD, "nvidia",
                   "chmod 666 it, or NVreg_DeviceFileMode=0666 for the module nvidia: workers run "
                   "as uids of their own",
                   "%s has mode %04o: workers cannot open it", path, (unsigned)st.st_mode & 07777);
    else
        doctor_say(d, DOCTOR_OK, "nvidia", NULL, "%s can be used by workers", path);
}

static void check_pageable(struct doctor *d)
{
    char line[64];
    if (!doctor_line(d, line, sizeof(line), "/sys/module/nvidia_uvm/parameters/uvm_disable_hmm"))
        return; /* a driver without heterogeneous memory management */
    if (line[0] == 'Y' || line[0] == '1')
        doctor_say(d, DOCTOR_OK, "pageable", NULL, "GPUs cannot reach pageable host memory");
    else if (d->settings->allow_pageable_access)
        doctor_say(d, DOCTOR_WARN, "pageable",
                   "only where every guest is trusted; else options nvidia-uvm uvm_disable_hmm=1 "
                   "in /etc/modprobe.d and allow_pageable_access = no",
                   "GPUs can reach pageable host memory, and allow_pageable_access = yes lets "
                   "them: a guest's kernel can write its worker's memory");
    else
        doctor_say(d, DOCTOR_WARN, "pageable",
                   "write 'options nvidia-uvm uvm_disable_hmm=1' into /etc/modprobe.d/vgpu.conf "
                   "and load the module anew; the mediator does not use such GPUs",
                   "GPUs may reach pageable host memory (HMM is not disabled)");
}

void doctor_check_nvidia(struct doctor *d)
{
    char line[512], place[4096];
    unsigned cards = count_cards(d);
    bool driver = doctor_line(d, line, sizeof(line), "/proc/driver/nvidia/version") != NULL;
    bool asked = vgpu_settings_need_gpus(d->settings);
    d->nvidia = cards || driver;
    if (!d->nvidia) {
        if (asked)
            doctor_say(d, DOCTOR_BAD, "nvidia",
                       "gpus = software in the pools that shall do without, or put a GPU in",
                       "the configuration names GPUs, and this host has no NVIDIA GPU");
        else
            doctor_say(d, DOCTOR_OK, "nvidia", NULL,
                       "no NVIDIA GPU here: kernels run on the processors (backend software)");
        return;
    }
    if (!driver) {
        doctor_say(d, asked ? DOCTOR_BAD : DOCTOR_WARN, "nvidia",
                   "install NVIDIA's driver, 12.2 (535) or later, and load the module nvidia",
                   "%u NVIDIA GPUs, and no driver is loaded", cards);
        return;
    }
    doctor_say(d, DOCTOR_OK, "nvidia", NULL, "%.200s", line);
    if (find_libcuda(d, place))
        doctor_say(d, DOCTOR_OK, "libcuda", NULL, "%.500s", place);
    else
        doctor_say(d, DOCTOR_BAD, "libcuda",
                   "install the driver's user-space libraries (libcuda1 on Debian)",
                   "libcuda.so.1 is in none of the loader's folders");
    check_node(d, "/dev/nvidiactl");
    check_node(d, "/dev/nvidia-uvm");
    for (unsigned i = 0; i < cards && i < 64; i++) {
        snprintf(line, sizeof(line), "/dev/nvidia%u", i);
        check_node(d, line);
    }
    check_pageable(d);
}

/* ---- The worker ---- */

/* As the mediator looks for it. */
static const char *find_worker(const struct doctor *d, char out[PATH_MAX])
{
    char own[PATH_MAX];
    const char *said = d->asked->worker ? d->asked->worker : d->settings->worker;
    if (said) {
        snprintf(out, PATH_MAX, "%s", said);
        return out;
    }
    ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 64);
    if (n > 0) {
        own[n] = 0;
        char *slash = strrchr(own, '/');
        if (slash)
            *slash = 0;
        strcat(own, "/../worker/vgpu-worker");
        if (!access(own, X_OK) && realpath(own, out))
            return out;
    }
    snprintf(out, PATH_MAX, "%s", VGPU_LIBEXECDIR "/vgpu-worker");
    return out;
}

/* Reads until the end, the limit or the buffer is full; returns whether the end came. */
static bool read_all(int fd, char *out, size_t size, uint64_t until_ns)
{
    size_t at = 0;
    for (;;) {
        uint64_t now = vgpu_clock_ns();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= until_ns || poll(&p, 1, (int)((until_ns - now) / 1000000 + 1)) == 0)
            break;
        char dump[4096];
        bool full = at + 1 >= size;
        ssize_t n = read(fd, full ? dump : out + at, full ? sizeof(dump) : size - 1 - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            out[at] = 0;
            return true;
        }
        at += full ? 0 : (size_t)n;
    }
    out[at] = 0;
    return false;
}

/* Runs WORKER --probe; its output (both streams) into `out`. The exit status, or -1 and a text. */
static int run_probe(const char *worker, char *out, size_t size)
{
    int ends[2], status;
    pid_t child;
    char *const words[] = {(char *)worker, (char *)"--probe", NULL};
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC))
        return snprintf(out, size, "no pipe: %s", strerror(errno)), -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    int rc = posix_spawn(&child, worker, &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (rc) {
        close(ends[0]);
        return snprintf(out, size, "it cannot be run: %s", strerror(rc)), -1;
    }
    bool ended = read_all(ends[0], out, size, vgpu_clock_ns() + PROBE_MS * VGPU_NS_PER_MS);
    close(ends[0]);
    if (!ended)
        kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (!ended)
        return snprintf(out, size, "it has not ended after %d s", PROBE_MS / 1000), -1;
    if (!WIFEXITED(status))
        return snprintf(out, size, "signal %d ended it", WTERMSIG(status)), -1;
    return WEXITSTATUS(status);
}

/* One line of the probe's. */
static void say_gpu(struct doctor *d, struct json_object *gpu)
{
    const char *backend = admin_text(gpu, "backend", "?");
    const char *unusable = admin_text(gpu, "unusable", NULL);
    char size[16];
    if (unusable)
        doctor_say(d, DOCTOR_BAD, "gpu", "mend what is said there; man vgpu-worker, --probe",
                   "%s GPU %" PRId64 " cannot be used: %s", backend, admin_number(gpu, "gpu", 0),
                   unusable);
    else
        doctor_say(d, DOCTOR_OK, "gpu", NULL, "%s GPU %" PRId64 ": %s, %s", backend,
                   admin_number(gpu, "gpu", 0), admin_text(gpu, "name", "?"),
                   admin_size(size, (uint64_t)admin_number(gpu, "total_memory_bytes", 0)));
}

void doctor_check_worker(struct doctor *d)
{
    char worker[PATH_MAX], said[PROBE_BYTES], *rest = said;
    bool cuda = false;
    find_worker(d, worker);
    int status = run_probe(worker, said, sizeof(said));
    if (status != 0) {
        doctor_say(d, DOCTOR_BAD, "worker",
                   "install vgpu-worker, or say where it is: worker = PATH under [mediator]",
                   "%s --probe: %.300s%s", worker, said, status > 0 && !*said ? "it failed" : "");
        return;
    }
    doctor_say(d, DOCTOR_OK, "worker", NULL, "%s runs", worker);
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (*line == '{') {
            struct json_object *gpu = json_tokener_parse(line);
            cuda = cuda || !strcmp(admin_text(gpu, "backend", ""), "cuda");
            say_gpu(d, gpu);
            json_object_put(gpu);
        } else if (*line && d->nvidia) { /* why a backend has no GPU; of no interest without one */
            doctor_say(d, DOCTOR_BAD, "gpu", "mend the driver until vgpu-worker --probe shows it",
                       "%.300s", line);
        }
    }
}
