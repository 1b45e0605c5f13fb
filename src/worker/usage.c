/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rarer half of counting; see usage.h. */
#include "worker/usage.h"

#include "common/histogram.h"

/* Between two measured calls there are 1 to 64, at random: a program that does the same 32 calls
 * again and again would else have one and the same measured for ever. */
#define SAMPLE_MASK 63u

void vgpu_tally_init(struct vgpu_tally *t, struct vgpu_usage *at)
{
    *t = (struct vgpu_tally){.random = 1};
    t->at = at ? at : &t->own;
    vgpu_tally_draw(t);
}

void vgpu_tally_draw(struct vgpu_tally *t)
{
    t->random = t->random * 1664525u + 1013904223u;
    t->until_sample = 1 + (t->random >> 16 & SAMPLE_MASK);
}

void vgpu_tally_took(struct vgpu_tally *t, uint64_t begin_ns)
{
    uint64_t took = vgpu_clock_ns() - begin_ns;
    vgpu_tally_add(&t->at->sampled_ns, took);
    vgpu_tally_add(&t->at->call_time[vgpu_histogram_bucket(took)], 1);
}

void vgpu_tally_error(struct vgpu_tally *t, uint32_t status)
{
    for (unsigned i = 0; i < VGPU_USAGE_ERRORS; i++) {
        struct vgpu_usage_error *e = &t->at->errors[i];
        uint64_t count = __atomic_load_n(&e->count, __ATOMIC_RELAXED);
        if (count && e->status != status)
            continue;
        /* What the number means is there before the first one is counted. */
        if (!count)
            __atomic_store_n(&e->status, status, __ATOMIC_RELAXED);
        __atomic_store_n(&e->count, count + 1, __ATOMIC_RELEASE);
        return;
    }
    vgpu_tally_add(&t->at->errors_other, 1);
}

/* A box; the call succeeded, so the product is the size of something that exists. */
static uint64_t box(const uint64_t *slots)
{
    return slots[0] * slots[1] * slots[2];
}

/* Places of slots are those of api/cuda.calls. */
void vgpu_tally_bytes(struct vgpu_tally *t, const struct vgpu_call_frame *frame)
{
    const uint64_t *in = frame->in;
    uint64_t to = 0, from = 0;
    switch (frame->info->opcode) {
    case VGPU_CALL_COPY_TO_DEVICE:
    case VGPU_CALL_ARRAY_WRITE:
        to = frame->payload_length;
        break;
    case VGPU_CALL_COPY_FROM_DEVICE:
    case VGPU_CALL_ARRAY_READ:
        from = frame->fill_length;
        break;
    case VGPU_CALL_COPY_WINDOW_TO_DEVICE:
        to = in[1];
        break;
    case VGPU_CALL_COPY_DEVICE_TO_WINDOW:
        from = in[2];
        break;
    case VGPU_CALL_COPY_RECT_WINDOW_TO_DEVICE:
        to = box(in + 7);
        break;
    case VGPU_CALL_COPY_RECT_DEVICE_TO_WINDOW:
        from = box(in + 7);
        break;
    case VGPU_CALL_ARRAY_WRITE_WINDOW:
        to = in[4] * in[5];
        break;
    case VGPU_CALL_ARRAY_READ_WINDOW:
        from = in[4] * in[5];
        break;
    default:
        return;
    }
    vgpu_tally_add(&t->at->bytes_to_device, to);
    vgpu_tally_add(&t->at->bytes_from_device, from);
}
