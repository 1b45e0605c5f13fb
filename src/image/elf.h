/* SPDX-License-Identifier: MIT */
/* The parts of a cubin's ELF that images are measured and read by (ELF-64, little-endian). */
#ifndef VGPU_IMAGE_ELF_H
#define VGPU_IMAGE_ELF_H

#include "image/bytes.h"
#include "image/image.h"

#define ELF_HEADER_BYTES  64u
#define ELF_SECTION_BYTES 64u
#define ELF_SEGMENT_BYTES 56u
#define ELF_MACHINE_CUDA  190u
#define ELF_NOBITS        8u
#define ELF_NO_INDEX      0xffffu /* the number is in section 0 */

/* Where the tables are, as the header says. */
struct vgpu_elf_tables {
    uint64_t sections_at, segments_at;
    uint64_t sections;      /* how many; 0 with sections_at != 0: it is in section 0 */
    uint32_t segments;      /* how many */
    uint32_t names_section; /* ELF_NO_INDEX: it is in section 0 */
};

struct vgpu_elf_section {
    uint32_t name; /* offset into the section of names */
    uint32_t type;
    uint64_t offset, size;
    uint32_t link;
};

/* Of ELF_HEADER_BYTES bytes: -EINVAL when it is no 64-bit little-endian one. Says nothing about
 * which machine it is for or where things lie. */
int vgpu_elf_tables(const uint8_t *header, struct vgpu_elf_tables *t);

/* Of ELF_SECTION_BYTES bytes. */
struct vgpu_elf_section vgpu_elf_section(const uint8_t *p);

#endif
