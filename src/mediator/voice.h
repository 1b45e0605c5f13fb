/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a process of ours says on stderr, in the mediator's log: line by line, as a quoted string
 * behind who said it, at a bounded rate. So nothing that it says can pass for the mediator's own
 * word, and however much it says costs little. It knows nothing of what the process is for.
 */
#ifndef VGPU_MEDIATOR_VOICE_H
#define VGPU_MEDIATOR_VOICE_H

#include "mediator/lines.h"
#include "mediator/mediator.h"

struct vgpu_voice {
    struct vgpu_mediator *mediator;
    struct vgpu_source source; /* a pipe's end for reading; fd -1: closed */
    struct vgpu_timer rest;    /* it said too much: nothing is read until then */
    uint64_t window_ns;        /* start of the time that is being counted */
    uint32_t window_bytes;     /* read in it */
    uint64_t account;          /* whose bucket of lines it is, in the ledger */
    char who[64];              /* "vm=7 session=0x0 pid=12" */
    uint64_t suppressed;       /* lines left out since the last that was logged */
    struct vgpu_lines line;    /* being put together */
    struct vgpu_lines last;    /* the last that was left out; length 0: none */
};

/* Makes the pipe; *write_fd is for the process, close-on-exec, the caller's to close. 0 or a
 * negative errno. */
int vgpu_voice_open(struct vgpu_voice *voice, struct vgpu_mediator *m, uint64_t account,
                    int *write_fd);

/* The process is gone, or never came to be: logs what it said last, and closes. */
void vgpu_voice_close(struct vgpu_voice *voice);

#endif
