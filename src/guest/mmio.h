/* SPDX-License-Identifier: MIT */
/*
 * Every access to BAR0 is one of these, of exactly the width it names. Knows nothing of what the
 * registers mean.
 *
 * Why volatile is enough here, and no fence stands anywhere:
 * - The compiler may neither split, merge, drop nor reorder volatile accesses among themselves, and
 *   everything the device reads or writes is reached through them: there is no shared memory beside
 *   the registers, so no ordinary store has to become visible before a doorbell.
 * - The processor keeps them in order, since sysfs maps resource0 uncached (UC on x86, Device-nGnRE
 *   on arm64), never write-combining. The library does not map resource0_wc: there a doorbell could
 *   overtake the request.
 * - A write may still be on its way when the next instruction runs, but a read of the same device
 *   does not pass it: STATUS read after DOORBELL shows what the doorbell did.
 *
 * With VGPU_MMIO_HOOKED, which the unit tests set, the four accesses are functions of the test, so
 * that a device model sees each one with its width.
 */
#ifndef VGPU_GUEST_MMIO_H
#define VGPU_GUEST_MMIO_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error                                                                                             \
    "the registers and the structures of include/vgpu are little-endian, and so must the guest be"
#endif

#ifdef VGPU_MMIO_HOOKED
uint32_t vgpu_mmio_read32(const volatile uint8_t *bar, uint32_t offset);
uint64_t vgpu_mmio_read64(const volatile uint8_t *bar, uint32_t offset);
void vgpu_mmio_write32(volatile uint8_t *bar, uint32_t offset, uint32_t value);
void vgpu_mmio_write64(volatile uint8_t *bar, uint32_t offset, uint64_t value);
#else
/* `offset` is a multiple of the width. */
static inline uint32_t vgpu_mmio_read32(const volatile uint8_t *bar, uint32_t offset)
{
    return *(const volatile uint32_t *)(const volatile void *)(bar + offset);
}

static inline uint64_t vgpu_mmio_read64(const volatile uint8_t *bar, uint32_t offset)
{
    return *(const volatile uint64_t *)(const volatile void *)(bar + offset);
}

static inline void vgpu_mmio_write32(volatile uint8_t *bar, uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(volatile void *)(bar + offset) = value;
}

static inline void vgpu_mmio_write64(volatile uint8_t *bar, uint32_t offset, uint64_t value)
{
    *(volatile uint64_t *)(volatile void *)(bar + offset) = value;
}
#endif

/*
 * Copies bytes between memory and a buffer of the device, eight at a time: each access traps, so
 * their number is what a copy costs. The last one is rounded up to eight bytes; callers make sure
 * that the buffer has them.
 */
static inline void vgpu_mmio_write_bytes(volatile uint8_t *bar, uint32_t offset, const void *source,
                                         uint32_t length)
{
    const uint8_t *from = source;
    for (uint32_t at = 0; at < length; at += 8) {
        uint64_t word = 0;
        memcpy(&word, from + at, length - at < 8 ? length - at : 8);
        vgpu_mmio_write64(bar, offset + at, word);
    }
}

static inline void vgpu_mmio_read_bytes(const volatile uint8_t *bar, uint32_t offset,
                                        void *destination, uint32_t length)
{
    uint8_t *to = destination;
    for (uint32_t at = 0; at < length; at += 8) {
        uint64_t word = vgpu_mmio_read64(bar, offset + at);
        memcpy(to + at, &word, length - at < 8 ? length - at : 8);
    }
}

#endif
