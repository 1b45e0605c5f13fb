/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One question to terminfo, in a file of its own: term.h makes macros of words like `columns`. */
#include <stdbool.h>
#include <unistd.h>

#include <curses.h>
#include <term.h>

bool top_terminal_known(void);

bool top_terminal_known(void)
{
    /* Before newterm, which leaves memory behind where it fails. */
    int found;
    if (setupterm(NULL, STDOUT_FILENO, &found) != OK)
        return false;
    del_curterm(cur_term);
    return true;
}
