/* SPDX-License-Identifier: MIT */
/*
 * Who has which session open: one file for each in a directory, locked as long as its program
 * lives. Knows nothing of the device.
 */
#ifndef VGPU_GUEST_RECORD_H
#define VGPU_GUEST_RECORD_H

#include <stdbool.h>
#include <stdint.h>

struct vgpu_record {
    int dir; /* descriptor of the directory, -1: nothing recorded */
    int fd;  /* of the file, locked */
};
#define VGPU_RECORD_NONE                                                                           \
    {                                                                                              \
        .dir = -1, .fd = -1                                                                        \
    }

/*
 * Opens the directory run_dir/name, making both when they are missing. Returns a descriptor or a
 * negative errno with a text.
 */
int vgpu_record_open_dir(const char *run_dir, const char *name);

/*
 * Makes and locks the file for `number` in `dir`, which it does not take over: *record has a copy.
 * -EEXIST: the number is taken, try another.
 */
int vgpu_record_create(int dir, uint64_t number, uint32_t generation, struct vgpu_record *record);

/* The session has ended: removes the file and lets go. */
void vgpu_record_remove(struct vgpu_record *record, uint64_t number);
/* Lets go and leaves the file, for a session that may still be open on the host, or that is a
 * parent's. */
void vgpu_record_release(struct vgpu_record *record);

/*
 * Ends a session whose program died. 0: it has ended, its file may go. > 0: the host said no, the
 * file stays. < 0: no answer is to be had now, so that the sweep shall stop.
 */
typedef int (*vgpu_record_end)(void *context, uint64_t number);

/*
 * Calls `end` for every recorded session whose program died, until one call fails without an
 * answer. Files of another generation or another boot are removed without: those sessions are gone.
 * Returns how many files were removed, or a negative errno when the directory cannot be read.
 */
int vgpu_record_sweep(int dir, uint32_t generation, vgpu_record_end end, void *context);

/* Whether there is a record whose program died, as far as a look at the locks says. */
bool vgpu_record_any_dead(int dir);

#endif
