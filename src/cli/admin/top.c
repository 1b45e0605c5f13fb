/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `top`: asks the mediator again and again and shows what changed, on a terminal until somebody
 * quits, or a number of times as text. A mediator that goes away is waited for on a terminal; as
 * text it is the end.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/admin/top.h"
#include "common/clock.h"

#define RETRY_MS 1000 /* a mediator that is not there */
#define FIRST_MS 500  /* at most until there is something to compare with */

/* What one look asks, in this order. Statistics come in pages, and are not there in every mediator.
 */
static const char *const questions[] = {"status", "list-vms", "list-gpus", "stats"};
#define STATS     3u
#define PAGES_MAX 256u
#define QUESTIONS (sizeof(questions) / sizeof(questions[0]))

struct top {
    const struct admin_options *options;
    struct top_view view;
    struct top_frame frame;
    struct admin_link *link;
    struct json_object *answers[QUESTIONS]; /* instead of the statistics their array `vms` */
    unsigned answered, pages;               /* of the look that is under way */
    bool asking, live;
    uint64_t asked_ns, next_ns; /* when the look was asked for; when the next one is */
    struct admin_error trouble; /* with the mediator, ADMIN_OK: none */
};

static volatile sig_atomic_t ended; /* by a signal, its number */

static void on_end(int signal)
{
    ended = signal;
}

static void drop_answers(struct top *t)
{
    for (unsigned i = 0; i < QUESTIONS; i++) {
        json_object_put(t->answers[i]);
        t->answers[i] = NULL;
    }
    t->answered = t->pages = 0;
    t->asking = false;
}

static void lose_link(struct top *t)
{
    admin_link_close(t->link);
    t->link = NULL;
    drop_answers(t);
    t->next_ns = vgpu_clock_ns() + RETRY_MS * VGPU_NS_PER_MS;
}

/* Asks everything at once; false with `trouble` when there is no mediator. */
static bool ask(struct top *t)
{
    if (!t->link)
        t->link = admin_link_open(t->options->control, &t->trouble);
    t->asked_ns = vgpu_clock_ns();
    bool good = t->link != NULL;
    for (unsigned i = 0; good && i < QUESTIONS; i++)
        good = admin_link_send(t->link, questions[i], NULL, &t->trouble);
    t->asking = good;
    if (!good)
        lose_link(t);
    return good;
}

/* All answers are there: a new frame. */
static void look(struct top *t)
{
    struct top_answers answers = {t->answers[0], t->answers[1], t->answers[2], t->answers[3]};
    struct top_frame frame;
    if (top_frame_make(&frame, &answers, t->asked_ns, &t->frame)) {
        top_frame_free(&t->frame);
        t->frame = frame;
    }
    drop_answers(t);
    t->trouble.status = ADMIN_OK;
    uint64_t interval_ms = t->view.interval_ms;
    if (t->live && t->frame.interval_s == 0 && interval_ms > FIRST_MS)
        interval_ms = FIRST_MS;
    t->next_ns = t->asked_ns + interval_ms * VGPU_NS_PER_MS;
}

/* Puts a page of the statistics to those before, and asks for the next one. Whether that is all. */
static bool take_page(struct top *t, struct json_object *page)
{
    struct json_object *records = admin_array(page, "vms");
    struct json_object *all = t->answers[STATS];
    if (!all)
        t->answers[STATS] = json_object_get(records);
    else
        for (size_t i = 0; records && i < json_object_array_length(records); i++)
            json_object_array_add(all, json_object_get(json_object_array_get_idx(records, i)));
    if (!admin_has(page, "next") || ++t->pages >= PAGES_MAX)
        return true;
    struct json_object *arguments = json_object_new_object();
    if (arguments)
        json_object_object_add(arguments, "after",
                               json_object_new_int64(admin_number(page, "next", 0)));
    bool sent = arguments && admin_link_send(t->link, questions[STATS], arguments, &t->trouble);
    json_object_put(arguments);
    return !sent;
}

/* Takes what has come; true when a look is complete. */
static bool take_answers(struct top *t)
{
    while (t->asking) {
        struct admin_error e;
        struct json_object *line = admin_link_line(t->link, 0, &e);
        if (!line) {
            if (e.status == ADMIN_OK) { /* not yet */
                if (vgpu_clock_ns() - t->asked_ns < ADMIN_PATIENCE_MS * VGPU_NS_PER_MS)
                    return false;
                admin_fail(&e, ADMIN_FAILED, "failed", "the mediator has not answered for %d s",
                           ADMIN_PATIENCE_MS / 1000);
            }
            t->trouble = e;
            lose_link(t);
            return false;
        }
        struct json_object *result = admin_link_result(line, &e);
        json_object_put(line);
        /* A mediator that keeps no statistics says less. */
        if (!result && t->answered != STATS) {
            t->trouble = e;
            lose_link(t);
            return false;
        }
        if (t->answered == STATS) {
            bool all = take_page(t, result);
            json_object_put(result);
            t->answered += all;
        } else {
            t->answers[t->answered++] = result;
        }
        if (t->answered == QUESTIONS) {
            look(t);
            return true;
        }
    }
    return false;
}

/* Waits for the mediator, a key (if `keys`), a signal or the time to look again. Returns whether
 * the keyboard is gone. */
static bool wait_for_news(struct top *t, bool keys, const sigset_t *waiting)
{
    uint64_t now = vgpu_clock_ns(), until = t->next_ns;
    if (t->asking)
        until = t->asked_ns + (ADMIN_PATIENCE_MS + 100) * VGPU_NS_PER_MS;
    uint64_t left = until > now ? until - now : 0;
    struct timespec limit = {(time_t)(left / VGPU_NS_PER_S), (long)(left % VGPU_NS_PER_S)};
    struct pollfd p[2] = {
        {.fd = t->link ? admin_link_fd(t->link) : -1, .events = POLLIN},
        {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN},
    };
    bool forever = t->view.paused && !t->asking;
    if (forever)
        p[0].fd = -1;
    int rc = ppoll(p, 2, forever ? NULL : &limit, waiting);
    return rc > 0 && (p[1].revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void print_frame(const struct top *t)
{
    unsigned width = admin_terminal_columns();
    size_t count;
    const struct top_vm **vms = top_order(&t->frame, &t->view, &count);
    if (t->options->json) {
        top_write_json(&t->frame, vms, count, stdout);
    } else {
        top_write_head(&t->frame, &t->view, stdout);
        for (size_t i = 0; i < t->frame.gpu_count; i++)
            top_write_gpu(&t->frame.gpus[i], stdout, width);
        fputc('\n', stdout);
        top_write_vms(vms, count, stdout, width);
        fputc('\n', stdout);
    }
    fflush(stdout);
    free(vms);
}

/* Frames as text. The first look is only what the next one is compared with. */
static void run_batch(struct top *t, uint64_t frames, const sigset_t *waiting)
{
    while (frames && !ended && !ferror(stdout)) {
        if (!t->asking && vgpu_clock_ns() >= t->next_ns && !ask(t))
            return;
        wait_for_news(t, false, waiting);
        if (take_answers(t) && t->frame.interval_s > 0) {
            print_frame(t);
            frames--;
        }
        if (t->trouble.status != ADMIN_OK)
            return;
    }
}

static void run_screen(struct top *t, const sigset_t *waiting)
{
    bool typing = false, gone = false;
    while (!ended && !gone) {
        bool draw = false;
        if (!t->asking && !t->view.paused && vgpu_clock_ns() >= t->next_ns)
            draw = !ask(t);
        if (draw)
            top_screen_draw(&t->frame, &t->view, t->trouble.text, typing);
        gone = wait_for_news(t, true, waiting);
        bool had_link = t->link != NULL;
        draw = take_answers(t) || (had_link && !t->link);
        for (enum top_key key;
             !gone && (key = top_screen_key(&t->view, &typing)) != TOP_KEY_NONE;) {
            gone = key == TOP_KEY_QUIT;
            if (key == TOP_KEY_AGAIN)
                t->next_ns = vgpu_clock_ns();
            draw = true;
        }
        if (draw && !gone)
            top_screen_draw(&t->frame, &t->view, t->trouble.status ? t->trouble.text : NULL,
                            typing);
    }
}

/* The signals that end the program or change the screen come only while it waits. */
static void catch_signals(sigset_t *waiting)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction action = {.sa_handler = on_end};
    sigset_t held;
    sigemptyset(&action.sa_mask);
    sigemptyset(&held);
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        sigaction(ends[i], &action, NULL);
        sigaddset(&held, ends[i]);
    }
    sigaddset(&held, SIGWINCH);
    sigprocmask(SIG_BLOCK, &held, waiting);
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        sigdelset(waiting, ends[i]);
    sigdelset(waiting, SIGWINCH);
}

enum admin_status admin_top(const struct admin_options *options,
                            const struct admin_top_options *top, struct admin_error *e)
{
    struct top t = {
        .options = options, .view = {.interval_ms = top->interval_ms}, .live = !top->batch};
    sigset_t waiting;
    t.view.sort = top->sort ? top_sort_find(top->sort) : TOP_SORT_SHARE;
    if (t.view.sort == TOP_SORT_COUNT)
        return admin_fail(e, ADMIN_USAGE, "usage",
                          "top: --sort '%s' is not vm, name, share, wait, queue, memory, launches "
                          "or errors",
                          top->sort);
    if (top->filter)
        admin_clean(t.view.filter, sizeof(t.view.filter), top->filter);
    t.trouble.status = ADMIN_OK;
    /* Who mistyped the socket's path should not have to leave a screen to read so. */
    if (!ask(&t)) {
        *e = t.trouble;
        return e->status;
    }
    catch_signals(&waiting);
    if (top->batch) {
        run_batch(&t, top->batch, &waiting);
        *e = t.trouble;
    } else if (top_screen_open(e)) {
        run_screen(&t, &waiting);
        top_screen_close();
    }
    admin_link_close(t.link);
    drop_answers(&t);
    top_frame_free(&t.frame);
    return e->status;
}
