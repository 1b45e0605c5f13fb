/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mediator, its configuration, and the files by which others reach it and it reaches others. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/admin/direct.h"
#include "cli/admin/doctor.h"
#include "config.h"
#include "mediator/watch.h"

#define SOCKETS_SHOWN 8u /* lines about sockets of one kind in one directory */
#define ROOM_BYTES    ((uint64_t)64 << 20)

void doctor_check_config(struct doctor *d)
{
    char place[4096], error[VGPU_SETTINGS_ERROR];
    const char *path = d->asked->config;
    if (!path)
        path = doctor_path(d, place, VGPU_SYSCONFDIR "/mediator.conf");
    if (access(path, F_OK) && errno == ENOENT) {
        d->settings = vgpu_settings_default();
        doctor_say(d, DOCTOR_WARN, "config",
                   "copy mediator.conf.example beside it, or say which file: --config FILE",
                   "there is no %s: without one, one software GPU serves every VM", path);
    } else if (!(d->settings = vgpu_settings_load(path, error))) {
        d->settings = vgpu_settings_default();
        doctor_say(d, DOCTOR_BAD, "config",
                   "mend it as the line says; until then the mediator does not start, and a "
                   "running one keeps what it has",
                   "%s", error);
    } else {
        char pools[64];
        doctor_say(d, DOCTOR_OK, "config", NULL, "%s: pools %s", path,
                   vgpu_settings_need_gpus(d->settings) ? "with GPUs of this host"
                                                        : vgpu_settings_pools(d->settings, pools));
    }
    if (!d->settings) {
        fputs("vgpu-admin: out of memory\n", stderr);
        exit(ADMIN_FAILED);
    }
}

/* Whether everybody can get as far as the socket. */
static void check_way(struct doctor *d, const char *path)
{
    char folder[PATH_MAX];
    struct stat st;
    snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (stat(path, &st) == 0 && (st.st_mode & 0666) != 0666)
        doctor_say(d, DOCTOR_WARN, "control", "chmod 666 it: the mediator looks at who connects",
                   "%s has mode %04o: some users cannot ask", path, (unsigned)st.st_mode & 07777);
    if (!slash || slash == folder)
        return;
    *slash = 0;
    if (stat(folder, &st) == 0 && (st.st_mode & 02) && !(st.st_mode & S_ISVTX))
        doctor_say(d, DOCTOR_BAD, "control",
                   "chmod o-w it: anybody could put a socket of their own there",
                   "%s can be written by everybody", folder);
}

void doctor_check_control(struct doctor *d)
{
    struct admin_error e = {0};
    const char *path = d->options->control;
    if (!d->options->control_said && d->settings->control)
        path = d->settings->control;
    struct admin_link *link = admin_link_open(path, &e);
    d->status = link ? admin_link_call(link, "status", NULL, &e) : NULL;
    admin_link_close(link);
    if (!d->status) {
        doctor_say(d, DOCTOR_BAD, "mediator",
                   e.status == ADMIN_DENIED
                       ? "become root, or have readers = yes set under [mediator]"
                       : "systemctl start vgpu-mediator; journalctl -u vgpu-mediator says why it "
                         "ended; control = PATH under [mediator] makes the socket",
                   "%s", e.text);
        return;
    }
    char span[32];
    doctor_say(d, DOCTOR_OK, "mediator", NULL, "vgpu-mediator %s, process %" PRId64 ", up %s",
               admin_text(d->status, "version", "?"), admin_number(d->status, "pid", 0),
               admin_span(span, admin_real(d->status, "uptime_s", 0)));
    if (strcmp(admin_text(d->status, "version", ""), VGPU_VERSION) != 0)
        doctor_say(d, DOCTOR_WARN, "mediator", "restart the mediator after an upgrade",
                   "it is version %s, and this program %s", admin_text(d->status, "version", "?"),
                   VGPU_VERSION);
    if (admin_flag(d->status, "may_change"))
        doctor_say(d, DOCTOR_OK, "control", NULL, "%s: you may change things", path);
    else
        doctor_say(d, DOCTOR_WARN, "control",
                   "become root, or have root put you into the group admin_group of [mediator]",
                   "%s: you may read, and change nothing", path);
    check_way(d, path);
}

/* ---- Directories of devices' sockets (docs/link.md L14) ---- */

/* Paths of sockets on which somebody listens, one a line; NULL: not known. */
static char *listening(const struct doctor *d)
{
    char place[4096], line[512], path[256], flags[16];
    char *all = NULL;
    size_t size;
    FILE *file = fopen(doctor_path(d, place, "/proc/net/unix"), "re");
    FILE *out = file ? open_memstream(&all, &size) : NULL;
    while (out && fgets(line, sizeof(line), file))
        /* Num RefCount Protocol Flags Type St Inode Path; flag 0x10000: it listens */
        if (sscanf(line, "%*s %*s %*s %15s %*s %*s %*s %255s", flags, path) == 2 &&
            strtoul(flags, NULL, 16) & 0x10000)
            fprintf(out, "\n%s", path);
    if (out) {
        fputc('\n', out);
        fclose(out);
    }
    if (file)
        fclose(file);
    return all;
}

static bool listens(const char *all, const char *path)
{
    char line[PATH_MAX + 3];
    snprintf(line, sizeof(line), "\n%s\n", path);
    return strstr(all, line) != NULL;
}

/* What is odd about an entry that looks as if it was meant for us. */
static const char *entry_fault(const char *path, const char *name, const struct stat *folder,
                               const char *all, bool same_host)
{
    struct stat st;
    uint32_t id;
    if (!vgpu_watch_parse_name(name, &id))
        return "it is passed over: the name is not vm-NUMBER.sock (decimal, no leading zeros)";
    if (lstat(path, &st))
        return NULL; /* it went away */
    if (!S_ISSOCK(st.st_mode))
        return "it is passed over: it is no socket";
    if (folder->st_uid != 0 && folder->st_uid != st.st_uid)
        return "it is not trusted: the folder belongs neither to root nor to whom the socket does";
    if (all && same_host && !listens(all, path))
        return "nobody listens there: its hypervisor has ended; remove the file";
    return NULL;
}

static void check_sockets(struct doctor *d, const char *place, const struct stat *folder)
{
    char *all = listening(d);
    unsigned sockets = 0, faults = 0;
    DIR *dir = opendir(place);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        size_t length = strlen(entry->d_name);
        char path[PATH_MAX];
        if (strncmp(entry->d_name, "vm-", 3) != 0 || length < 8 ||
            strcmp(entry->d_name + length - 5, ".sock") != 0)
            continue;
        sockets++;
        snprintf(path, sizeof(path), "%.3800s/%s", place, entry->d_name);
        const char *fault = entry_fault(path, entry->d_name, folder, all, !*d->asked->root);
        if (fault && ++faults <= SOCKETS_SHOWN)
            doctor_say(d, DOCTOR_WARN, "watch", "docs/mediator.md: which socket is which VM",
                       "%s: %s", path, fault);
    }
    if (dir)
        closedir(dir);
    if (faults > SOCKETS_SHOWN)
        doctor_say(d, DOCTOR_WARN, "watch", "the same", "%u more of them in %s",
                   faults - SOCKETS_SHOWN, place);
    doctor_say(d, DOCTOR_OK, "watch", NULL, "%s: %u sockets of devices", place, sockets - faults);
    free(all);
}

static void check_folder(struct doctor *d, const char *path)
{
    char place[4096];
    struct stat st;
    doctor_path(d, place, path);
    if (stat(place, &st))
        doctor_say(d, DOCTOR_BAD, "watch",
                   "make it (systemd-tmpfiles --create), root's, mode 0770 and of the group of "
                   "those who start VMs",
                   "%s: %s", place, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        doctor_say(d, DOCTOR_BAD, "watch", "name a directory in watch =", "%s is no directory",
                   place);
    else if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
        doctor_say(d, DOCTOR_BAD, "watch",
                   "chmod o-w it, or chmod +t: the mediator connects to nothing there",
                   "%s can be written by everybody, so that anybody could be any VM", place);
    else if (access(place, R_OK | X_OK))
        doctor_say(d, DOCTOR_WARN, "watch", "become root and ask again",
                   "%s cannot be looked into by this user", place);
    else
        check_sockets(d, place, &st);
}

void doctor_check_watch(struct doctor *d)
{
    for (uint32_t i = 0; i < d->settings->watch_count; i++)
        check_folder(d, d->settings->watch[i]);
    if (d->settings->watch_count)
        return;
    for (uint32_t i = 0; i < d->settings->vm_count; i++)
        if (d->settings->vms[i].socket)
            return;
    doctor_say(d, DOCTOR_WARN, "watch", "watch = /run/vgpu-mediator/vms under [mediator]",
               "the configuration names no directory and no socket: no VM is found by it");
}

/* ---- The registry ---- */

static void check_registry_file(struct doctor *d, const char *place, const struct stat *st)
{
    char folder[PATH_MAX];
    struct statvfs room;
    if (st->st_mode & (S_IWGRP | S_IWOTH))
        doctor_say(d, DOCTOR_BAD, "registry", "chmod 600 it",
                   "%s can be written by others (mode %04o): they could give any VM anything",
                   place, (unsigned)st->st_mode & 07777);
    snprintf(folder, sizeof(folder), "%s", place);
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    if (statvfs(slash && *folder ? folder : "/", &room) == 0) {
        uint64_t bytes = (uint64_t)room.f_bavail * room.f_frsize;
        char size[16];
        if (bytes < ROOM_BYTES)
            doctor_say(d, DOCTOR_WARN, "registry",
                       "make room: a full disk refuses every change, and VMs go on as they are",
                       "only %s bytes are free beside %s", admin_size(size, bytes), place);
    }
    char why[512];
    if (access(place, R_OK))
        doctor_say(d, DOCTOR_WARN, "registry", "become root and ask again",
                   "%s cannot be read by this user", place);
    else if (admin_registry_check(place, why, sizeof(why)))
        doctor_say(d, DOCTOR_OK, "registry", NULL, "%s: %s", place, why);
    else
        doctor_say(d, DOCTOR_BAD, "registry",
                   "put a backup in its place while no mediator runs (docs/admin.md), or move the "
                   "file away: a new one is made, and VMs are strangers",
                   "%s: %s", place, why);
}

void doctor_check_registry(struct doctor *d)
{
    char place[4096];
    struct stat st;
    const char *path = admin_registry_setting(d->settings);
    if (d->status) {
        struct json_object *registry = admin_object(d->status, "registry");
        const char *state = admin_text(registry, "state", "none");
        if (strcmp(state, "ok") != 0 && strcmp(state, "none") != 0)
            doctor_say(d, DOCTOR_BAD, "registry",
                       "mend what it says; VMs go on, and changes are refused meanwhile",
                       "the mediator says of %s: %s", admin_text(registry, "path", "?"), state);
        if (!path)
            path = admin_text(registry, "path", NULL);
    }
    if (!path) {
        doctor_say(d, DOCTOR_WARN, "registry", "registry = FILE under [mediator]",
                   "the mediator keeps no registry: VMs cannot be registered");
        return;
    }
    if (stat(doctor_path(d, place, path), &st) == 0)
        check_registry_file(d, place, &st);
    else if (errno == ENOENT)
        doctor_say(d, DOCTOR_OK, "registry", NULL, "%s: it is made when the mediator starts",
                   place);
    else
        doctor_say(d, DOCTOR_WARN, "registry", "become root and ask again", "%s: %s", place,
                   strerror(errno));
}
