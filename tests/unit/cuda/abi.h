/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes, offsets and values of the CUDA ABI (abi.inc): compiled once against our header and once
 * against NVIDIA's, which cannot stand in the same file.
 */
#ifndef VGPU_TEST_CUDA_ABI_H
#define VGPU_TEST_CUDA_ABI_H

#include <stddef.h>

struct abi_entry {
    const char *what;
    unsigned long long value;
};
extern const struct abi_entry abi_ours[], abi_theirs[];
extern const unsigned abi_ours_count, abi_theirs_count;

#define SIZE(type)       {"sizeof " #type, sizeof(type)},
#define AT(type, member) {#type "." #member, offsetof(type, member)},
#define IS(name)         {#name, (unsigned long long)(long long)(name)},

#endif
