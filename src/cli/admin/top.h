/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the parts of `top`: what two looks at the mediator say (top_model.c, pure), how it reads
 * (top_text.c, pure), and who asks and draws (top.c, top_screen.c). One thread.
 */
#ifndef VGPU_CLI_ADMIN_TOP_H
#define VGPU_CLI_ADMIN_TOP_H

#include "cli/admin/admin.h"

#define TOP_UNKNOWN (-1.0) /* a rate of which there is only one end */

struct top_vm {
    int64_t vm, gpu; /* gpu -1: none */
    char name[68], pool[4], priority[8], rate[8], state[16];
    int64_t weight, memory_used, memory, queue, queue_limit, programs; /* queue -1: not known */
    bool attached, waiting, holding;
    /* Counters as they came; a VM that attached anew begins at 0. */
    double lease_ms, wait_ms, launches, errors;
    bool from_stats, has_wait, has_launches; /* what the mediator counts */
    /* Since the look before: of 1, or a second. TOP_UNKNOWN where there was none. */
    double share, wait_share, launch_rate, error_rate;
};

struct top_gpu {
    int64_t gpu, vms, workers, memory, memory_used;
    char name[48], pool[4], model[64], state[16], holders[48];
    bool usable;
    double load; /* of 1: the shares of its VMs */
};

/* One look. Zeroed: none. */
struct top_frame {
    uint64_t at_ns;    /* when it was asked for, CLOCK_MONOTONIC */
    double interval_s; /* to the look before, 0: there is none */
    char version[32];
    int64_t pid, workers, attached, registered, quarantined, draining;
    double uptime_s;
    struct top_vm *vms; /* by number */
    size_t vm_count;
    struct top_gpu *gpus;
    size_t gpu_count;
};

enum top_sort {
    TOP_SORT_VM,
    TOP_SORT_NAME,
    TOP_SORT_SHARE,
    TOP_SORT_WAIT,
    TOP_SORT_QUEUE,
    TOP_SORT_MEMORY,
    TOP_SORT_LAUNCHES,
    TOP_SORT_ERRORS,
    TOP_SORT_COUNT,
};

struct top_view {
    enum top_sort sort;
    bool reverse;
    char filter[64];
    bool paused;
    uint64_t interval_ms;
};

/* ---- top_model.c ---- */

/* The answers of one look. `records`: the array `vms` of the statistics, whole; may be NULL. */
struct top_answers {
    struct json_object *status, *vms, *gpus, *records;
};

/* Makes *frame of answers; `before` may be a zeroed frame. False: out of memory. */
bool top_frame_make(struct top_frame *frame, const struct top_answers *answers, uint64_t at_ns,
                    const struct top_frame *before);
void top_frame_free(struct top_frame *frame);

/* "share": TOP_SORT_COUNT when it is none of them. */
enum top_sort top_sort_find(const char *word);
const char *top_sort_word(enum top_sort sort);

/* Pointers to the VMs that pass the filter, sorted; *count of them. NULL: none, or no memory. */
const struct top_vm **top_order(const struct top_frame *frame, const struct top_view *view,
                                size_t *count);

/* ---- top_text.c ---- */

/* The head's two lines. */
void top_write_head(const struct top_frame *frame, const struct top_view *view, FILE *out);
/* A line for a GPU; the bar takes what is left of `width` (0: 20 columns). */
void top_write_gpu(const struct top_gpu *gpu, FILE *out, unsigned width);
/* The table, a line for each VM below its titles. */
void top_write_vms(const struct top_vm *const *vms, size_t count, FILE *out, unsigned width);
void top_write_json(const struct top_frame *frame, const struct top_vm *const *vms, size_t count,
                    FILE *out);

/* ---- top_terminal.c ---- */

/* Whether TERM names a terminal that can be drawn on. */
bool top_terminal_known(void);

/* ---- top_screen.c ---- */

/* Takes the terminal. False and *e when there is none that can be used. */
bool top_screen_open(struct admin_error *e);
/* Gives it back as it was; also when it was never taken. */
void top_screen_close(void);
/* `trouble`: what is wrong with the mediator, or NULL. `typing`: the filter is being typed. */
void top_screen_draw(const struct top_frame *frame, const struct top_view *view,
                     const char *trouble, bool typing);

enum top_key {
    TOP_KEY_NONE, /* no more of them */
    TOP_KEY_REDRAW,
    TOP_KEY_AGAIN, /* the view changed how often it looks, or goes on after a pause */
    TOP_KEY_QUIT,
};
/* Takes one key that was pressed, and changes the view by it. */
enum top_key top_screen_key(struct top_view *view, bool *typing);

#endif
