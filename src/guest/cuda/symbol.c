/* SPDX-License-Identifier: MIT */
/*
 * cuGetProcAddress: the newest version of a call that the asker's CUDA knows, for the default
 * stream it wants. The list of symbols is generated.
 */
#include "guest/cuda/internal.h"

/* Whether `a` is to be preferred: the newer version; of one version the per-thread form; of two
 * names for the same the one with the version in it, which leads there without a detour. */
static bool is_better(const struct vgpu_cuda_symbol *a, const struct vgpu_cuda_symbol *b)
{
    if (a->call_since != b->call_since)
        return a->call_since > b->call_since;
    if (a->thread_stream != b->thread_stream)
        return a->thread_stream;
    return strlen(a->name) > strlen(b->name);
}

/* The best symbol for a name; *known: the name is one, of whatever version. */
static const struct vgpu_cuda_symbol *find_symbol(const char *name, int version, bool thread_stream,
                                                  bool *known)
{
    const struct vgpu_cuda_symbol *best = NULL;
    *known = false;
    for (unsigned i = 0; i < vgpu_cuda_symbol_count; i++) {
        const struct vgpu_cuda_symbol *symbol = &vgpu_cuda_symbols[i];
        if (strcmp(symbol->base, name) != 0)
            continue;
        *known = true;
        if (symbol->since <= version && (!symbol->thread_stream || thread_stream) &&
            (!best || is_better(symbol, best)))
            best = symbol;
    }
    return best;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *symbolStatus)
{
    const cuuint64_t both =
        CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    if (!symbol || !pfn || (flags & ~both) || (flags & both) == both ||
        cudaVersion > VGPU_CUDA_VERSION + 999 || cudaVersion < 2000)
        return CUDA_ERROR_INVALID_VALUE;
    bool known;
    const struct vgpu_cuda_symbol *found = find_symbol(
        symbol, cudaVersion, flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &known);
    *pfn = NULL;
    if (found) /* a function as an object pointer, as POSIX has it */
        memcpy(pfn, &found->function, sizeof(*pfn));
    if (symbolStatus)
        *symbolStatus = found   ? CU_GET_PROC_ADDRESS_SUCCESS
                        : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                                : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return CUDA_SUCCESS;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags)
{
    CUresult result = cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, NULL);
    return result == CUDA_SUCCESS && !*pfn ? CUDA_ERROR_NOT_FOUND : result;
}
