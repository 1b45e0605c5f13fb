/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a backend does with an image that a guest sent: picks an entry of a fatbin, decompresses it,
 * and proves an image sound before a driver that trusts it gets to see it. What the bytes mean is
 * src/image's knowledge; what a kernel does is the backend's.
 *
 * Everything here takes hostile bytes. The memory is bounded by `most_bytes`, by
 * VGPU_UNPACK_MAX_BYTES and by the ratio below; results are CUresult, and `log` (log_size bytes,
 * NUL-terminated when log_size is not 0) gets a sentence for a person when the result is not
 * CUDA_SUCCESS. Callable from any thread.
 */
#ifndef VGPU_BACKEND_UNPACK_H
#define VGPU_BACKEND_UNPACK_H

#include "image/image.h"
#include "vgpu/curesult.h"

/* Of one entry, unpacked. */
#define VGPU_UNPACK_MAX_BYTES   ((size_t)64 << 20)
/* Of one image, all entries together, for vgpu_image_check: bounds its time. */
#define VGPU_UNPACK_TOTAL_BYTES ((uint64_t)512 << 20)
/* An entry that grows by more than this is a bomb, once it is larger than a mebibyte: text and
 * machine code shrink to a twentieth at best. */
#define VGPU_UNPACK_RATIO       1024u

struct vgpu_unpacked {
    const uint8_t *bytes; /* in the image when it was plain, else in `owned` */
    size_t size;
    void *owned;
};

/*
 * INVALID_IMAGE: damaged, or not of the size it declares, or beyond a limit; NOT_SUPPORTED: this
 * build lacks the library, or nobody knows how it is packed; OUT_OF_MEMORY: more than most_bytes,
 * or than the host has. On failure *out is empty.
 */
CUresult vgpu_fatbin_unpack(const struct vgpu_fatbin_entry *e, size_t most_bytes,
                            struct vgpu_unpacked *out, char *log, size_t log_size);
void vgpu_unpacked_free(struct vgpu_unpacked *u);

/*
 * The PTX text in an image, whichever form it has, for a device of compute capability `sm` (75:
 * 7.5) that runs PTX only. Text is handed out as it is, not parsed; that of a fatbin ends before
 * its NULs.
 *
 * INVALID_IMAGE, NO_BINARY_FOR_GPU (machine code alone, or PTX for later devices alone), and those
 * of vgpu_fatbin_unpack.
 */
CUresult vgpu_image_find_ptx(const void *image, size_t bytes, uint32_t sm, size_t most_bytes,
                             struct vgpu_unpacked *out, char *log, size_t log_size);

/*
 * vgpu_image_kernel_params for an image of any form: of a fatbin, from the entry that the driver
 * takes on a device of capability `sm`. NOT_FOUND: no such kernel.
 */
CUresult vgpu_image_find_params(const void *image, size_t bytes, uint32_t sm, const char *kernel,
                                struct vgpu_param_layout *layout, uint32_t capacity,
                                uint32_t *count, uint32_t *total_bytes, char *log, size_t log_size);

/*
 * Whether an image may be handed to NVIDIA's driver, which believes every length in a fatbin and is
 * killed by a wrong one: bounds of everything, each PTX and ELF entry unpacks to exactly what it
 * declares, each ELF is sound. INVALID_IMAGE for a wrapper; NOT_SUPPORTED for what cannot be
 * checked. PTX text must have a NUL of the caller's behind it when a driver gets it.
 */
CUresult vgpu_image_check(const void *image, size_t bytes, char *log, size_t log_size);

#endif
