/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libFuzzer target: the bytes choose a straight-line PTX program and its inputs; the software
 * backend and the evaluator of tests/fuzz/diff have to agree on every register.
 */
#include <stdint.h>
#include <stdlib.h>

#include "diff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct diff *d; /* one pair of sessions for all inputs */
    if (!d)
        d = diff_open(&vgpu_backend_software);
    if (!d || !diff_run(d, data, size, 1, stderr))
        abort();
    return 0;
}
