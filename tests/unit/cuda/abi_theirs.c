/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <cuda.h>

#include "abi.h"

const struct abi_entry abi_theirs[] = {
#include "abi.inc"
};
const unsigned abi_theirs_count = sizeof(abi_theirs) / sizeof(abi_theirs[0]);
