/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals of a program that has things to clean up. */
#include <signal.h>

#include "cli/bench.h"

static volatile sig_atomic_t caught;

static void catch_signal(int number)
{
    caught = number;
}

void bench_catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    /* No SA_RESTART: what is waited for just then is not waited for any longer. */
    struct sigaction action = {.sa_handler = catch_signal, .sa_flags = (int)SA_RESETHAND};
    struct sigaction now;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
}

bool bench_stopped(void)
{
    return caught != 0;
}

void bench_reraise(void)
{
    if (caught) {
        signal(caught, SIG_DFL);
        raise(caught);
    }
}
