/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest makes of a response: the host may answer anything (docs/protocol.md, the response
 * header). */
#include <stdlib.h>

#include "guest/vgpu_mmio_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vgpu_answer answer;
    if (size > VGPU_MAILBOX_BYTES || vgpu_response_parse(data, (uint32_t)size, &answer) != 0)
        return 0;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < answer.result_count + 2; i++)
        sum += vgpu_answer_u64(&answer, i);
    for (uint32_t i = 0; i < answer.data_length; i++)
        sum += answer.data[i];
    /* The sum keeps the reads; what they read is nobody's business. */
    return sum == UINT64_MAX ? -1 : 0;
}
