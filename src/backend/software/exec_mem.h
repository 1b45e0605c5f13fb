/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a lane's address to a host pointer, or a fault. The one place where guest addresses meet
 * host memory: whatever it returns may be accessed for in->size * in->vec bytes, and nothing else
 * may be.
 */
#ifndef VGPU_PTX_EXEC_MEM_H
#define VGPU_PTX_EXEC_MEM_H

#include "exec.h"

/* Which space a generic address belongs to. */
static inline unsigned ptx_window(uint64_t addr)
{
    if (addr - PTX_SHARED_WINDOW < PTX_WINDOW_BYTES)
        return PTX_SPACE_SHARED;
    if (addr - PTX_LOCAL_WINDOW < PTX_WINDOW_BYTES)
        return PTX_SPACE_LOCAL;
    if (addr - PTX_PARAM_WINDOW < PTX_WINDOW_BYTES)
        return PTX_SPACE_PARAM;
    return PTX_SPACE_GLOBAL;
}

/* Makes the allocation that holds `addr` the warp's current one. */
static inline bool ptx_hit(struct ptx_warp *w, uint64_t addr)
{
    const struct ptx_region *r = vgpu_ptx_memory_find(w->memory, addr);
    if (!r)
        return false;
    w->hit_base = r->base;
    w->hit_bytes = r->size_bytes;
    w->hit_host = r->host;
    w->hit_read_only = r->read_only;
    return true;
}

/* One lane, any space. NULL: the fault has been recorded. */
static inline uint8_t *ptx_resolve_lane(struct ptx_warp *w, const struct ptx_insn *in,
                                        unsigned lane, unsigned space, uint64_t addr,
                                        uint64_t bytes, bool write)
{
    uint64_t shown = addr;
    if (addr & (bytes - 1)) {
        ptx_warp_fault(w, in, CUDA_ERROR_MISALIGNED_ADDRESS, addr, true);
        return NULL;
    }
    if (space == PTX_SPACE_GENERIC) {
        space = ptx_window(addr);
        if (space == PTX_SPACE_SHARED)
            addr -= PTX_SHARED_WINDOW;
        else if (space == PTX_SPACE_LOCAL)
            addr -= PTX_LOCAL_WINDOW;
        else if (space == PTX_SPACE_PARAM)
            addr -= PTX_PARAM_WINDOW;
    }
    switch (space) {
    case PTX_SPACE_SHARED:
        if (addr <= w->shared_bytes && bytes <= w->shared_bytes - addr)
            return w->shared + addr;
        break;
    case PTX_SPACE_LOCAL:
        if (addr <= w->local_bytes && bytes <= w->local_bytes - addr)
            return w->local + (size_t)lane * w->local_bytes + addr;
        break;
    case PTX_SPACE_PARAM:
        /* Parameters are read-only; the cast serves loads only. */
        if (!write && addr <= w->param_bytes && bytes <= w->param_bytes - addr)
            return (uint8_t *)(uintptr_t)(w->params + addr);
        break;
    default:
        if ((addr - w->hit_base < w->hit_bytes || ptx_hit(w, addr)) &&
            bytes <= w->hit_bytes - (addr - w->hit_base) && !(write && w->hit_read_only))
            return w->hit_host + (addr - w->hit_base);
    }
    ptx_warp_fault(w, in, CUDA_ERROR_ILLEGAL_ADDRESS, shown, true);
    return NULL;
}

/*
 * Host pointers for all lanes of `mask`; false when one faults. The common case, every lane in the
 * allocation that was hit last (or all in shared memory), is one branch-free loop.
 */
static inline bool ptx_resolve(struct ptx_warp *w, const struct ptx_insn *in, uint32_t mask,
                               bool write, uint8_t *at[PTX_LANES])
{
    uint64_t addr[PTX_LANES];
    const uint64_t bytes = (uint64_t)in->size * in->vec;
    const uint64_t imm = (uint64_t)in->imm;
    if (in->flags & PTX_F_ADDR32) {
        const row_u32 *a = ptx_src(w, in->a);
        for (unsigned i = 0; i < PTX_LANES; i++)
            addr[i] = (uint32_t)(a[i] + (uint32_t)imm);
    } else {
        const row_u64 *a = ptx_src(w, in->a);
        for (unsigned i = 0; i < PTX_LANES; i++)
            addr[i] = a[i] + imm;
    }
    if (mask == UINT32_MAX) {
        uint64_t base = 0, room = 0, bad = 0;
        uint8_t *host = NULL;
        bool may = true;
        if (in->space == PTX_SPACE_SHARED) {
            room = w->shared_bytes;
            host = w->shared;
        } else if (in->space == PTX_SPACE_GLOBAL || in->space == PTX_SPACE_GENERIC) {
            base = w->hit_base;
            room = w->hit_bytes;
            host = w->hit_host;
            may = !(write && w->hit_read_only);
        }
        if (may && room >= bytes) {
            uint64_t last = room - bytes;
            for (unsigned i = 0; i < PTX_LANES; i++) {
                uint64_t off = addr[i] - base;
                bad |= (uint64_t)(off > last) | (addr[i] & (bytes - 1));
                at[i] = (uint8_t *)((uintptr_t)host + (uintptr_t)off);
            }
            if (!bad)
                return true;
        }
    }
    for (unsigned i = 0; i < PTX_LANES; i++) {
        if (!(mask >> i & 1))
            continue;
        at[i] = ptx_resolve_lane(w, in, i, in->space, addr[i], bytes, write);
        if (!at[i])
            return false;
    }
    return true;
}

#endif
