/* SPDX-License-Identifier: MIT */
/*
 * How long a module image is. cuModuleLoadData is given no length: the image has to say it. Four
 * forms: PTX text that ends in NUL, an ELF file, a fat binary, and the wrapper that compilers put
 * around one. The program's own memory is believed as far as CUDA would believe it; what was read
 * from a file is not believed past its end.
 */
#define _GNU_SOURCE /* memmem */
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/cuda/internal.h"

#define WRAPPER_MAGIC 0x466243b1u
#define FATBIN_MAGIC  0xba55ed50u

/* A pointer to a fat binary, with what a linker needs around it. */
struct wrapper {
    uint32_t magic;
    uint32_t version;
    const void *fatbin;
    const void *more;
};

struct fatbin {
    uint32_t magic;
    uint16_t version;
    uint16_t header_bytes;
    uint64_t bytes; /* after the header */
};

/* One image in a fat binary, as far as it matters here. */
struct fatbin_entry {
    uint16_t kind;
    uint16_t version;
    uint32_t header_bytes;
    uint64_t bytes; /* after the header */
    uint8_t unused[24];
    uint64_t flags;
};
#define ENTRY_COMPRESSED 0xa000u /* by either method */

static bool add(size_t a, uint64_t b, size_t limit, size_t *sum)
{
    if (a > limit || b > limit - a)
        return false;
    *sum = a + (size_t)b;
    return true;
}

static void keep_larger(size_t *most, size_t value)
{
    if (value > *most)
        *most = value;
}

static bool measure_elf(const uint8_t *image, size_t limit, size_t *length)
{
    Elf64_Ehdr header;
    size_t end, most = sizeof(header);
    if (limit < sizeof(header))
        return false;
    memcpy(&header, image, sizeof(header));
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
        return false;
    if (header.e_phnum) {
        if (header.e_phoff > limit ||
            !add((size_t)header.e_phoff, (uint64_t)header.e_phnum * header.e_phentsize, limit,
                 &end))
            return false;
        keep_larger(&most, end);
    }
    if (header.e_shnum) {
        if (header.e_shentsize < sizeof(Elf64_Shdr) || header.e_shoff > limit ||
            !add((size_t)header.e_shoff, (uint64_t)header.e_shnum * header.e_shentsize, limit,
                 &end))
            return false;
        keep_larger(&most, end);
    }
    for (unsigned i = 0; i < header.e_shnum; i++) {
        Elf64_Shdr section;
        memcpy(&section, image + header.e_shoff + (size_t)i * header.e_shentsize, sizeof(section));
        if (section.sh_type == SHT_NOBITS || section.sh_type == SHT_NULL)
            continue;
        if (section.sh_offset > limit ||
            !add((size_t)section.sh_offset, section.sh_size, limit, &end))
            return false;
        keep_larger(&most, end);
    }
    *length = most;
    return true;
}

bool vgpu_image_measure(const void *image, size_t limit, const void **start, size_t *length)
{
    uint32_t magic = 0;
    *start = image;
    if (limit > VGPU_STAGE_MAX_BYTES && limit != SIZE_MAX)
        return false;
    /* An empty text has one byte; more than that is there only if the first is not its end. */
    size_t first = strnlen(image, limit < 4 ? limit : 4);
    if (first == 0)
        return false;
    if (first == 4 || limit >= 4)
        memcpy(&magic, image, first == 4 ? 4 : first);
    if (magic == WRAPPER_MAGIC) {
        struct wrapper wrapper;
        if (limit != SIZE_MAX)
            return false; /* a pointer in a file leads nowhere */
        memcpy(&wrapper, image, sizeof(wrapper));
        if (!wrapper.fatbin)
            return false;
        image = *start = wrapper.fatbin;
        memcpy(&magic, image, sizeof(magic));
        if (magic != FATBIN_MAGIC)
            return false;
    }
    if (limit > VGPU_STAGE_MAX_BYTES)
        limit = VGPU_STAGE_MAX_BYTES;
    if (magic == FATBIN_MAGIC) {
        struct fatbin fatbin;
        if (limit < sizeof(fatbin))
            return false;
        memcpy(&fatbin, image, sizeof(fatbin));
        return fatbin.header_bytes >= sizeof(fatbin) &&
               add(fatbin.header_bytes, fatbin.bytes, limit, length);
    }
    if (first == 4 && memcmp(image, ELFMAG, SELFMAG) == 0)
        return measure_elf(image, limit, length);
    *length = strnlen(image, limit);
    return true;
}

bool vgpu_image_may_print(const void *image, size_t length)
{
    struct fatbin fatbin;
    if (memmem(image, length, "vprintf", 7))
        return true;
    if (length < sizeof(fatbin))
        return false;
    memcpy(&fatbin, image, sizeof(fatbin));
    if (fatbin.magic != FATBIN_MAGIC)
        return false;
    for (size_t at = fatbin.header_bytes;
         at < length && length - at >= sizeof(struct fatbin_entry);) {
        struct fatbin_entry entry;
        memcpy(&entry, (const uint8_t *)image + at, sizeof(entry));
        if (entry.flags & ENTRY_COMPRESSED)
            return true; /* nobody knows without unpacking it */
        size_t next;
        if (entry.header_bytes < sizeof(entry) || !add(at, entry.header_bytes, length, &next) ||
            !add(next, entry.bytes, length, &next))
            return false;
        at = next;
    }
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
