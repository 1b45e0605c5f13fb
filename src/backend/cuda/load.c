/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding the driver library; see api.h. */
#include "api.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A data pointer as a function pointer, the way POSIX says dlsym's result may be used. */
static void set_function(void *member, void *symbol)
{
    memcpy(member, &symbol, sizeof(symbol));
}

int cuda_api_load(struct cuda_api *api, char *why, size_t why_size)
{
    const char *name = getenv("VGPU_LIBCUDA");
    if (!name)
        name = "libcuda.so.1";
    memset(api, 0, sizeof(*api));
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(why, why_size,
                 "no NVIDIA driver: %s; install one (12.2 or later), or use the backend 'software'",
                 dlerror());
        return -ENOENT;
    }
#define LOAD(name, parameters) set_function(&api->name, dlsym(library, #name));
#define NEED(name, parameters)                                                                     \
    LOAD(name, parameters)                                                                         \
    if (!api->name) {                                                                              \
        snprintf(why, why_size,                                                                    \
                 "the NVIDIA driver has no %s: it is too old, install 12.2 or later", #name);      \
        dlclose(library);                                                                          \
        return -ENOENT;                                                                            \
    }
    CUDA_API_REQUIRED(NEED)
    CUDA_API_OPTIONAL(LOAD)
#undef NEED
#undef LOAD
    return 0;
}
