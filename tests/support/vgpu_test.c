/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The leak check around every C test: open descriptors and children, before and after. */
#include "vgpu_test.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_FDS 4096

static unsigned char fds_before[MAX_FDS];
static struct vgpu_test_fixture *fixture;

/* Marks each open descriptor; the directory's own one is left out. */
static void list_fds(unsigned char *open_fds)
{
    memset(open_fds, 0, MAX_FDS);
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        int fd = atoi(e->d_name);
        if (e->d_name[0] != '.' && fd != dirfd(d) && fd < MAX_FDS)
            open_fds[fd] = 1;
    }
    closedir(d);
}

int vgpu_test_setup(void **state)
{
    /* cmocka hands initial_state over in *state; the fixture's setup then owns *state. */
    fixture = *state;
    *state = NULL;
    list_fds(fds_before);
    return fixture && fixture->setup ? fixture->setup(state) : 0;
}

int vgpu_test_teardown(void **state)
{
    int rc = fixture && fixture->teardown ? fixture->teardown(state) : 0;
    unsigned char after[MAX_FDS];
    list_fds(after);
    for (int fd = 0; fd < MAX_FDS; fd++) {
        if (!after[fd] || fds_before[fd])
            continue;
        char link[64], target[256] = "?";
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof(target) - 1);
        if (n > 0)
            target[n] = 0;
        print_error("leaked descriptor %d: %s\n", fd, target);
        rc = -1;
    }
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid >= 0 || errno != ECHILD) {
        print_error("leaked child process %d\n", (int)pid);
        rc = -1;
    }
    return rc;
}
