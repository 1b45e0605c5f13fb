/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `top` on a terminal: keys and drawing, by ncurses. It asks nobody anything. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define NCURSES_WIDECHAR 1
#include <curses.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/admin/top.h"

enum { PAIR_GOOD = 1, PAIR_WARN, PAIR_BAD };

/* There is one terminal. */
static struct {
    SCREEN *screen;
    bool colours, help;
    size_t first; /* VM on the first line of the table */
    size_t lines; /* VMs that were drawn, for a page */
} screen;

bool top_screen_open(struct admin_error *e)
{
    const char *name = getenv("TERM");
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        admin_fail(e, ADMIN_USAGE, "usage",
                   "top: the live view needs a terminal, and %s is none: use --batch 1",
                   isatty(STDIN_FILENO) ? "standard output" : "standard input");
        return false;
    }
    if (top_terminal_known())
        screen.screen = newterm(NULL, stdout, stdin);
    if (!screen.screen) {
        admin_fail(e, ADMIN_FAILED, "failed",
                   "top: the terminal '%s' is not known here: set TERM, or use --batch 1",
                   name ? name : "");
        return false;
    }
    set_term(screen.screen);
    set_escdelay(25);
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    curs_set(0);
    screen.colours = has_colors() && start_color() == OK;
    if (screen.colours) {
        use_default_colors();
        init_pair(PAIR_GOOD, COLOR_GREEN, -1);
        init_pair(PAIR_WARN, COLOR_YELLOW, -1);
        init_pair(PAIR_BAD, COLOR_RED, -1);
    }
    return true;
}

void top_screen_close(void)
{
    if (!screen.screen)
        return;
    endwin();
    delscreen(screen.screen);
    screen.screen = NULL;
}

static attr_t paint(int pair, attr_t otherwise)
{
    return screen.colours ? (attr_t)COLOR_PAIR(pair) : otherwise;
}

/* A line of at most the screen's width. */
static void put_line(int y, const char *line, attr_t attributes)
{
    size_t length = strcspn(line, "\n");
    char text[1024];
    snprintf(text, sizeof(text), "%.*s", (int)(length < 1000 ? length : 1000), line);
    attrset(attributes);
    mvaddnstr(y, 0, text, (int)admin_fit(text, (size_t)COLS));
    if (attributes & A_REVERSE) { /* to the edge */
        for (int x = (int)admin_width(text); x < COLS; x++)
            mvaddch(y, x, ' ');
    }
    attrset(A_NORMAL);
}

/* What `write` would print, as one string; the caller's to free. */
struct drawing {
    char *text;
    size_t size;
    FILE *out;
};

static bool drawing_begin(struct drawing *d)
{
    d->text = NULL;
    d->out = open_memstream(&d->text, &d->size);
    return d->out != NULL;
}

static void draw_lines(struct drawing *d, int *y, int limit, attr_t first, attr_t rest)
{
    fclose(d->out);
    const char *line = d->text;
    for (bool head = true; line && *line && *y < limit; head = false) {
        put_line((*y)++, line, head ? first : rest);
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    free(d->text);
}

static void draw_gpus(const struct top_frame *frame, int *y, int limit)
{
    for (size_t i = 0; i < frame->gpu_count && *y < limit; i++) {
        const struct top_gpu *gpu = &frame->gpus[i];
        struct drawing d;
        if (!drawing_begin(&d))
            return;
        top_write_gpu(gpu, d.out, (unsigned)COLS);
        bool bad = !gpu->usable || !strcmp(gpu->state, "unhealthy");
        attr_t look = bad                             ? paint(PAIR_BAD, A_BOLD)
                      : strcmp(gpu->state, "ok") != 0 ? paint(PAIR_WARN, A_NORMAL)
                                                      : A_NORMAL;
        draw_lines(&d, y, limit, look, A_NORMAL);
        /* The bar in a colour of its own. */
        if (screen.colours && gpu->load > 0 && !bad) {
            for (int x = 0; x < COLS; x++) {
                chtype c = mvinch(*y - 1, x) & A_CHARTEXT;
                if (c == '|')
                    mvchgat(*y - 1, x, 1, A_NORMAL, gpu->load > 0.9 ? PAIR_WARN : PAIR_GOOD, NULL);
            }
        }
    }
}

static void draw_vms(const struct top_frame *frame, const struct top_view *view, int y, int limit)
{
    size_t count;
    const struct top_vm **vms = top_order(frame, view, &count);
    if (!vms)
        return;
    size_t room = limit - y > 1 ? (size_t)(limit - y - 1) : 0;
    if (screen.first + room > count)
        screen.first = count > room ? count - room : 0;
    screen.lines = room;
    size_t shown = count - screen.first < room ? count - screen.first : room;
    struct drawing d;
    if (drawing_begin(&d)) {
        top_write_vms(vms + screen.first, shown, d.out, (unsigned)COLS);
        draw_lines(&d, &y, limit, A_REVERSE, A_NORMAL);
        for (size_t i = 0; i < shown; i++) {
            const struct top_vm *v = vms[screen.first + i];
            int line = y - (int)shown + (int)i, pair = 0;
            attr_t look = A_NORMAL;
            if (!strcmp(v->state, "quarantined"))
                pair = PAIR_BAD;
            else if (!strcmp(v->state, "draining"))
                pair = PAIR_WARN;
            else if (v->share > 0)
                look = A_BOLD;
            else if (!v->attached)
                look = A_DIM;
            mvchgat(line, 0, -1, look, (short)(screen.colours ? pair : 0), NULL);
        }
    }
    if (!count && *view->filter)
        put_line(y, "no VM has this in its number, name, pool, priority or state", A_NORMAL);
    free(vms);
}

static void draw_help(int y, int limit)
{
    static const char *const lines[] = {
        "s, >   sort by the next column     <   by the one before",
        "r      the other way round         /   filter; Enter keeps it, Esc drops it",
        "space  pause                       + - look less or more often",
        "arrows, Page Up, Page Down, Home   move in the table",
        "q      quit                        h   this, and away again",
        "",
        "SHARE  of the time since the last look in which the VM had its GPU's lease",
        "WAIT   of that time in which it waited for one (or 'yes': it waits now)",
        "*      it has the lease now",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]) && y < limit; i++)
        put_line(y++, lines[i], A_NORMAL);
}

void top_screen_draw(const struct top_frame *frame, const struct top_view *view,
                     const char *trouble, bool typing)
{
    int y = 0, limit = LINES - 1; /* the last line is for keys and trouble */
    erase();
    struct drawing d;
    if (drawing_begin(&d)) {
        top_write_head(frame, view, d.out);
        draw_lines(&d, &y, limit, A_BOLD, A_NORMAL);
    }
    int gpus = limit / 3 > 1 ? limit / 3 : 1; /* they leave room for VMs */
    draw_gpus(frame, &y, y + gpus < limit ? y + gpus : limit);
    if (screen.help)
        draw_help(y + 1, limit);
    else
        draw_vms(frame, view, y + (y + 2 < limit), limit);
    char text[1024];
    if (typing)
        snprintf(text, sizeof(text), "Filter: %s", view->filter);
    else if (trouble)
        snprintf(text, sizeof(text), "%s", trouble);
    else
        snprintf(text, sizeof(text), "q quit  s sort  r reverse  / filter  space pause  h help");
    put_line(LINES - 1, text, trouble && !typing ? paint(PAIR_BAD, A_BOLD) : A_DIM);
    curs_set(typing ? 1 : 0);
    if (typing)
        move(LINES - 1, (int)admin_width(text));
    refresh();
}

/* Keys while the filter is typed. */
static enum top_key type_key(struct top_view *view, bool *typing, int key)
{
    size_t length = strlen(view->filter);
    if (key == '\r' || key == '\n' || key == KEY_ENTER) {
        *typing = false;
    } else if (key == 27) {
        view->filter[0] = 0;
        *typing = false;
    } else if (key == KEY_BACKSPACE || key == 127 || key == 8) {
        if (length)
            view->filter[length - 1] = 0;
    } else if (key >= ' ' && key < 127 && length + 1 < sizeof(view->filter)) {
        view->filter[length] = (char)key;
        view->filter[length + 1] = 0;
    }
    return TOP_KEY_REDRAW;
}

static void scroll_by(long lines)
{
    if (lines < 0 && screen.first < (size_t)-lines)
        screen.first = 0;
    else
        screen.first += (size_t)lines; /* drawing knows the end */
}

static enum top_key change_interval(struct top_view *view, bool longer)
{
    static const uint64_t steps[] = {100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000};
    const unsigned count = sizeof(steps) / sizeof(steps[0]);
    unsigned i = 0;
    while (i + 1 < count && steps[i] < view->interval_ms)
        i++;
    if (longer)
        i += i + 1 < count;
    else
        i -= i > 0;
    view->interval_ms = steps[i];
    return TOP_KEY_AGAIN;
}

enum top_key top_screen_key(struct top_view *view, bool *typing)
{
    int key = getch();
    if (key == ERR)
        return TOP_KEY_NONE;
    if (key == KEY_RESIZE)
        return TOP_KEY_REDRAW;
    if (*typing && key != 3)
        return type_key(view, typing, key);
    switch (key) {
    case 'q':
    case 'Q':
    case 3: /* where the terminal makes no signal of it */
        return TOP_KEY_QUIT;
    case 's':
    case '>':
        view->sort = (enum top_sort)((view->sort + 1) % TOP_SORT_COUNT);
        break;
    case '<':
        view->sort = (enum top_sort)((view->sort + TOP_SORT_COUNT - 1) % TOP_SORT_COUNT);
        break;
    case 'r':
        view->reverse = !view->reverse;
        break;
    case '/':
        *typing = true;
        break;
    case 27:
        view->filter[0] = 0;
        break;
    case 'p':
    case ' ':
        view->paused = !view->paused;
        return TOP_KEY_AGAIN;
    case '+':
        return change_interval(view, true);
    case '-':
        return change_interval(view, false);
    case 'h':
    case '?':
        screen.help = !screen.help;
        break;
    case KEY_UP:
        scroll_by(-1);
        break;
    case KEY_DOWN:
        scroll_by(1);
        break;
    case KEY_PPAGE:
        scroll_by(-(long)screen.lines);
        break;
    case KEY_NPAGE:
        scroll_by((long)screen.lines);
        break;
    case KEY_HOME:
        screen.first = 0;
        break;
    default:
        break;
    }
    return TOP_KEY_REDRAW;
}
