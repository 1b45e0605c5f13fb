/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files, and memory that could hold code; see attempts.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "attempts.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than some headers; the same on every architecture. */
#define CALL_OPENAT2 437

#define PAGE 4096

const char *attempt_folder;
int attempt_parent;

static const char *in_folder(const char *name)
{
    static __thread char path[4096];
    snprintf(path, sizeof(path), "%s/%s", attempt_folder, name);
    return path;
}

static int open_passwd(void)
{
    return attempt_answer(open("/etc/passwd", O_RDONLY));
}

static int open_passwd_by_openat2(void)
{
    const uint64_t how[3] = {O_RDONLY, 0, 0};
    return attempt_answer(syscall(CALL_OPENAT2, AT_FDCWD, "/etc/passwd", how, sizeof(how)));
}

static int open_own_file(void)
{
    return attempt_answer(open(in_folder("file"), O_RDONLY));
}

static int open_own_file_to_write(void)
{
    return attempt_answer(open(in_folder("file"), O_WRONLY));
}

static int truncate_by_open(void)
{
    return attempt_answer(open(in_folder("file"), O_WRONLY | O_TRUNC));
}

static int create_in_folder(void)
{
    return attempt_answer(open(in_folder("new"), O_WRONLY | O_CREAT | O_EXCL, 0600));
}

static int create_in_tmp(void)
{
    return attempt_answer(open("/tmp", O_TMPFILE | O_RDWR, 0600));
}

static int create_here(void)
{
    if (chdir(attempt_folder))
        return errno;
    return attempt_answer(open("here", O_WRONLY | O_CREAT, 0600));
}

static int call_creat(void)
{
    return attempt_answer(creat(in_folder("new"), 0600));
}

static int make_directory(void)
{
    return attempt_answer(mkdir(in_folder("directory"), 0700));
}

static int make_link(void)
{
    return attempt_answer(symlink("/etc/passwd", in_folder("link")));
}

static int remove_file(void)
{
    return attempt_answer(unlink(in_folder("file")));
}

static int change_mode(void)
{
    return attempt_answer(chmod(in_folder("file"), 0777));
}

static int truncate_by_path(void)
{
    return attempt_answer(truncate(in_folder("file"), 0));
}

static int look_at_root(void)
{
    struct stat st;
    return attempt_answer(stat("/etc/shadow", &st));
}

static int list_root(void)
{
    DIR *d = opendir("/");
    return d ? 0 : errno;
}

static int read_own_status(void)
{
    return attempt_answer(open("/proc/self/status", O_RDONLY));
}

static int read_other_process(void)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/cmdline", attempt_parent);
    return attempt_answer(open(path, O_RDONLY));
}

static int open_null_to_write(void)
{
    return attempt_answer(open("/dev/null", O_RDWR));
}

static int list_libraries(void)
{
    DIR *d = opendir("/usr/lib");
    return d ? 0 : errno;
}

static int make_memory_file(void)
{
    return attempt_answer(syscall(SYS_memfd_create, "file", 0));
}

static int watch_files(void)
{
    return attempt_answer(syscall(SYS_inotify_init1, 0));
}

static int unlock_standard_input(void)
{
    return attempt_answer(flock(0, LOCK_UN));
}

static int relock_standard_input(void)
{
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    return attempt_answer(fcntl(0, 37 /* F_OFD_SETLK */, &whole));
}

static void *map(int protection, int flags)
{
    return mmap(NULL, PAGE, protection, flags | MAP_ANONYMOUS, -1, 0);
}

static int map_code(void)
{
    return map(PROT_READ | PROT_EXEC, MAP_PRIVATE) == MAP_FAILED ? errno : 0;
}

static int make_code(void)
{
    void *p = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
    if (p == MAP_FAILED)
        return EIO;
    return attempt_answer(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
}

static int map_shared(void)
{
    return map(PROT_READ | PROT_WRITE, MAP_SHARED) == MAP_FAILED ? errno : 0;
}

const struct attempt file_attempts[] = {
    {"open /etc/passwd", open_passwd, REFUSED, REFUSED, true, false},
    {"openat2", open_passwd_by_openat2, REFUSED, REFUSED, false, true},
    {"open a file of one's own", open_own_file, REFUSED, REFUSED, true, false},
    {"the same to write", open_own_file_to_write, REFUSED, REFUSED, true, false},
    {"the same, emptying it", truncate_by_open, REFUSED, REFUSED, false, false},
    {"make a file", create_in_folder, REFUSED, REFUSED, false, false},
    {"make a file in /tmp", create_in_tmp, REFUSED, REFUSED, false, true},
    {"make a file here", create_here, REFUSED, REFUSED, false, false},
    {"creat", call_creat, REFUSED, REFUSED, false, false},
    {"mkdir", make_directory, REFUSED, REFUSED, false, false},
    {"symlink", make_link, REFUSED, REFUSED, false, false},
    {"unlink", remove_file, REFUSED, REFUSED, false, false},
    {"chmod", change_mode, REFUSED, REFUSED, false, false},
    {"truncate", truncate_by_path, REFUSED, REFUSED, false, false},
    {"stat", look_at_root, REFUSED, WORKS, false, false},
    {"list /", list_root, REFUSED, REFUSED, true, false},
    {"/proc/self/status", read_own_status, REFUSED, WORKS, false, false},
    {"/proc of another process", read_other_process, REFUSED, REFUSED, true, false},
    {"/dev/null to write", open_null_to_write, REFUSED, WORKS, false, false},
    {"list /usr/lib", list_libraries, REFUSED, WORKS, false, false},
    {"memfd_create", make_memory_file, REFUSED, REFUSED, false, false},
    {"inotify", watch_files, REFUSED, REFUSED, false, false},
    {"flock descriptor 0", unlock_standard_input, REFUSED, REFUSED, false, false},
    {"lock descriptor 0", relock_standard_input, REFUSED, REFUSED, false, true},
    {"mmap code", map_code, REFUSED, WORKS, false, false},
    {"mprotect code", make_code, REFUSED, WORKS, false, false},
    {"mmap shared memory", map_shared, REFUSED, WORKS, false, false},
    {NULL, NULL, WORKS, WORKS, false, false},
};
