/* SPDX-License-Identifier: MIT */
/*
 * Module images on their way to the host: where one begins, how long it is, whether its kernels may
 * print; and a file's. What the bytes mean is src/image's knowledge.
 */
#define _GNU_SOURCE /* memmem */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/cuda/internal.h"
#include "image/image.h"

bool vgpu_image_measure(const void *image, size_t limit, const void **start, size_t *length)
{
    bool in_memory = limit == SIZE_MAX; /* else it was read from a file, and has a NUL behind it */
    size_t most = in_memory ? VGPU_STAGE_MAX_BYTES : limit;
    struct vgpu_image_span span;
    *start = image;
    if (most > VGPU_STAGE_MAX_BYTES)
        return false;
    enum vgpu_image_form form = vgpu_image_form_of(image, most);
    if (form == VGPU_IMAGE_PTX || form == VGPU_IMAGE_NONE) {
        /* Text that is no PTX is the host's to refuse, as its GPU's driver would. What does not
         * even begin like text may have no end. */
        unsigned char first = most ? *(const unsigned char *)image : 0;
        if (first < ' ' && !(first >= '\t' && first <= '\r'))
            return false;
        *length = strnlen(image, most);
        return !in_memory || *length < most;
    }
    if (form == VGPU_IMAGE_WRAPPER && !in_memory)
        return false; /* a pointer in a file leads nowhere */
    if (vgpu_image_extent(image, most, &span) < 0)
        return false;
    *start = span.bytes;
    *length = span.size_bytes;
    return true;
}

bool vgpu_image_may_print(const void *image, size_t length)
{
    struct vgpu_fatbin_walk walk;
    struct vgpu_fatbin_entry entry;
    if (memmem(image, length, "vprintf", 7))
        return true;
    if (vgpu_image_form_of(image, length) != VGPU_IMAGE_FATBIN)
        return false;
    vgpu_fatbin_walk_start(&walk, image, length);
    while (vgpu_fatbin_walk_next(&walk, &entry) > 0)
        if (entry.packing != VGPU_FATBIN_PLAIN)
            return true; /* nobody knows without unpacking it */
    return false;
}

CUresult vgpu_image_read(const char *path, void **image, size_t *length)
{
    struct stat status;
    if (!path)
        return CUDA_ERROR_INVALID_VALUE;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return CUDA_ERROR_FILE_NOT_FOUND;
    CUresult result = CUDA_SUCCESS;
    uint8_t *bytes = NULL;
    size_t have = 0;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        result = CUDA_ERROR_FILE_NOT_FOUND;
    else if (status.st_size <= 0 || (uint64_t)status.st_size > VGPU_STAGE_MAX_BYTES)
        result = CUDA_ERROR_INVALID_IMAGE;
    else if (!(bytes = malloc((size_t)status.st_size + 1)))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    while (result == CUDA_SUCCESS && have < (size_t)status.st_size) {
        ssize_t n = read(fd, bytes + have, (size_t)status.st_size - have);
        if (n <= 0)
            break; /* shorter than it said: what is there counts */
        have += (size_t)n;
    }
    close(fd);
    if (result != CUDA_SUCCESS)
        return result;
    bytes[have] = 0;
    *image = bytes;
    *length = have;
    return CUDA_SUCCESS;
}
