/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a worker that a guest has taken over would try, and what a worker needs (W8). Each entry is
 * made in a process of its own; none knows how that is confined.
 */
#ifndef VGPU_TEST_ATTEMPTS_H
#define VGPU_TEST_ATTEMPTS_H

#include <errno.h>
#include <stdbool.h>

#include "worker/confine.h"

enum outcome {
    WORKS,
    REFUSED, /* EPERM, EACCES or ENOSYS */
    KILLED,  /* SIGSYS */
    ABORTED, /* SIGABRT */
};

struct attempt {
    const char *name;
    int (*make)(void); /* 0 or an errno */
    enum outcome software, cuda;
    /* With the cuda profile Landlock alone refuses it: it works where the kernel has none. */
    bool by_landlock;
    /* Not for anybody but root in the first place, or not on every machine: that it works without
     * confinement is not checked. */
    bool not_for_all;
};

/* Each ends with an entry without a name. */
extern const struct attempt file_attempts[];    /* files, memory that could hold code */
extern const struct attempt process_attempts[]; /* sockets, signals, programs */
extern const struct attempt kernel_attempts[];  /* privileges, namespaces, odd corners */
extern const struct attempt needs[];            /* what a worker cannot do without */

/* Set before the attempts: a directory of the test's own with a file called "file" in it, and the
 * process that runs the test. */
extern const char *attempt_folder;
extern int attempt_parent;

/* The end of most attempts: what a system call returned. */
static inline int attempt_answer(long rc)
{
    return rc < 0 ? errno : 0;
}

#endif
