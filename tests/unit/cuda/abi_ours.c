/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vgpu/cuda.h"

#include "abi.h"

const struct abi_entry abi_ours[] = {
#include "abi.inc"
};
const unsigned abi_ours_count = sizeof(abi_ours) / sizeof(abi_ours[0]);
