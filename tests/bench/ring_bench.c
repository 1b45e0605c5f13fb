/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the ring's code costs, beside what the machine does without it: the floors of src/cli, each
 * with its spread. Prints figures, asserts nothing.
 *
 *   ring_bench [MIB]    MIB: of the staged copy (256)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/floors.h"

static int failed;

static void print(const char *what, const char *unit, int rc, const struct vgpu_floor_spread *s,
                  double scale)
{
    if (rc) {
        printf("%-44s not measured: %s\n", what, strerror(-rc));
        failed = 1;
    } else {
        printf("%-44s %10.2f %10.2f %10.2f %s\n", what, s->min / scale, s->median / scale,
               s->p99 / scale, unit);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 256;
    struct vgpu_floor_spread s = {0};
    uint32_t piece = 0;
    int rc;
    if (argc > 2 || mib == 0 || mib > 1u << 16) {
        fprintf(stderr, "usage: %s [MIB], from 1 to 65536\n", argv[0]);
        return 2;
    }
    printf("%-44s %10s %10s %10s\n", "", "min", "median", "p99");
    rc = vgpu_floor_post(&s);
    print("post a 64-byte record, consumer polling", "ns", rc, &s, 1);
    rc = vgpu_floor_take(&s);
    print("take a 64-byte record, in this cache", "ns", rc, &s, 1);
    rc = vgpu_floor_records(&s);
    print("64-byte records, thread to thread", "M/s", rc, &s, 1e6);
    rc = vgpu_floor_pingpong(&s);
    print("cache line there and back", "ns", rc, &s, 1);
    rc = vgpu_floor_eventfd(&s);
    print("eventfd round trip between processes", "us", rc, &s, 1e3);
    rc = vgpu_floor_staged_copy(mib << 20, &s, &piece);
    print("staged copy by two threads", "GB/s", rc, &s, 1e9);
    if (!rc)
        printf("  of %llu MiB in pieces of %u KiB\n", (unsigned long long)mib, piece >> 10);
    return failed;
}
