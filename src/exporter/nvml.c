/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NVML by dlopen; see nvml.h. Types and numbers are the library's public ABI. */
#include "exporter/nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"

#define PATIENCE_NS (300 * VGPU_NS_PER_MS) /* of a scrape, for a fresh sample */
#define STALE_NS    (60 * VGPU_NS_PER_S)
#define CLOSE_NS    VGPU_NS_PER_S

enum { TEMPERATURE_GPU = 0, CLOCK_SM = 1, CLOCK_MEM = 2 };

struct utilization {
    unsigned gpu, memory; /* percent */
};

struct memory {
    unsigned long long total, free, used; /* bytes */
};

struct library {
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *count);
    int (*handle)(unsigned index, void **device);
    int (*uuid)(void *device, char *text, unsigned size);
    int (*name)(void *device, char *text, unsigned size);
    int (*temperature)(void *device, int sensor, unsigned *celsius);
    int (*power)(void *device, unsigned *milliwatts);
    int (*clock)(void *device, int which, unsigned *mhz);
    int (*utilization)(void *device, struct utilization *utilization);
    int (*memory)(void *device, struct memory *memory);
};

struct vgpu_nvml {
    struct library lib;
    void *handle;
    pthread_t thread;
    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t asked, answered;
    uint64_t wanted, done; /* samples: asked for, and finished */
    uint64_t done_ns;
    bool ending, ended;
    struct vgpu_nvml_sample sample;
};

static void put(struct vgpu_nvml_gpu *g, enum vgpu_nvml_value value, double number)
{
    g->has |= 1u << value;
    g->value[value] = number;
}

/* What a card does not have it says so, and then there is no such value. */
static void ask_card(const struct library *l, void *device, struct vgpu_nvml_gpu *g)
{
    unsigned n;
    struct utilization u;
    struct memory m;
    if (l->uuid(device, g->uuid, sizeof(g->uuid)))
        snprintf(g->uuid, sizeof(g->uuid), "unknown");
    if (l->name(device, g->name, sizeof(g->name)))
        g->name[0] = 0;
    g->uuid[sizeof(g->uuid) - 1] = g->name[sizeof(g->name) - 1] = 0;
    if (!l->temperature(device, TEMPERATURE_GPU, &n))
        put(g, VGPU_NVML_TEMPERATURE, n);
    if (!l->power(device, &n))
        put(g, VGPU_NVML_POWER, n / 1e3);
    if (!l->clock(device, CLOCK_SM, &n))
        put(g, VGPU_NVML_CLOCK_SM, n * 1e6);
    if (!l->clock(device, CLOCK_MEM, &n))
        put(g, VGPU_NVML_CLOCK_MEMORY, n * 1e6);
    if (!l->utilization(device, &u))
        put(g, VGPU_NVML_UTILIZATION, u.gpu / 1e2);
    if (!l->memory(device, &m)) {
        put(g, VGPU_NVML_MEMORY, (double)m.total);
        put(g, VGPU_NVML_MEMORY_USED, (double)m.used);
    }
}

static void ask_all(const struct library *l, struct vgpu_nvml_sample *s)
{
    unsigned count = 0;
    memset(s, 0, sizeof(*s));
    if (l->count(&count))
        return;
    for (unsigned i = 0; i < count && s->count < VGPU_NVML_GPUS; i++) {
        void *device;
        if (!l->handle(i, &device))
            ask_card(l, device, &s->gpus[s->count++]);
    }
}

static void *main_loop(void *arg)
{
    struct vgpu_nvml *n = arg;
    struct vgpu_nvml_sample sample;
    pthread_mutex_lock(&n->lock);
    for (;;) {
        while (n->done == n->wanted && !n->ending)
            pthread_cond_wait(&n->asked, &n->lock);
        if (n->ending)
            break;
        uint64_t wanted = n->wanted;
        pthread_mutex_unlock(&n->lock);
        ask_all(&n->lib, &sample);
        pthread_mutex_lock(&n->lock);
        n->sample = sample;
        n->done = wanted;
        n->done_ns = vgpu_clock_ns();
        pthread_cond_broadcast(&n->answered);
    }
    n->ended = true;
    pthread_cond_broadcast(&n->answered);
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

static bool find_all(void *handle, struct library *l, const char **missing)
{
    const struct {
        const char *name;
        void *where;
    } symbols[] = {
        {"nvmlInit_v2", &l->init},
        {"nvmlShutdown", &l->shutdown},
        {"nvmlDeviceGetCount_v2", &l->count},
        {"nvmlDeviceGetHandleByIndex_v2", &l->handle},
        {"nvmlDeviceGetUUID", &l->uuid},
        {"nvmlDeviceGetName", &l->name},
        {"nvmlDeviceGetTemperature", &l->temperature},
        {"nvmlDeviceGetPowerUsage", &l->power},
        {"nvmlDeviceGetClockInfo", &l->clock},
        {"nvmlDeviceGetUtilizationRates", &l->utilization},
        {"nvmlDeviceGetMemoryInfo", &l->memory},
    };
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(handle, symbols[i].name);
        *missing = symbols[i].name;
        if (!symbol)
            return false;
        memcpy(symbols[i].where, &symbol, sizeof(symbol));
    }
    return true;
}

struct vgpu_nvml *vgpu_nvml_open(const char *library, char *why)
{
    struct library lib;
    const char *missing;
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        snprintf(why, 256, "%.250s", dlerror());
        return NULL;
    }
    int rc = -1;
    if (!find_all(handle, &lib, &missing))
        snprintf(why, 256, "%.100s has no %s", library, missing);
    else if ((rc = lib.init()) != 0)
        snprintf(why, 256, "nvmlInit_v2 answers %d", rc);
    struct vgpu_nvml *n = rc ? NULL : calloc(1, sizeof(*n));
    if (n) {
        n->lib = lib;
        n->handle = handle;
        pthread_mutex_init(&n->lock, NULL);
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&n->asked, &attributes);
        pthread_cond_init(&n->answered, &attributes);
        pthread_condattr_destroy(&attributes);
        if (!pthread_create(&n->thread, NULL, main_loop, n))
            return n;
        snprintf(why, 256, "no thread for it");
        free(n);
    }
    if (!rc)
        lib.shutdown();
    dlclose(handle);
    return NULL;
}

/* Under the lock; false at the deadline. */
static bool wait_until(struct vgpu_nvml *n, uint64_t deadline_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(deadline_ns / VGPU_NS_PER_S),
                          .tv_nsec = (long)(deadline_ns % VGPU_NS_PER_S)};
    return pthread_cond_timedwait(&n->answered, &n->lock, &ts) != ETIMEDOUT;
}

void vgpu_nvml_look(struct vgpu_nvml *n, struct vgpu_nvml_sample *out)
{
    uint64_t deadline = vgpu_clock_ns() + PATIENCE_NS;
    pthread_mutex_lock(&n->lock);
    uint64_t mine = n->wanted == n->done ? ++n->wanted : n->wanted;
    pthread_cond_signal(&n->asked);
    while (n->done < mine && wait_until(n, deadline))
        ;
    *out = n->sample;
    if (!n->done || vgpu_clock_ns() - n->done_ns > STALE_NS)
        out->count = 0;
    pthread_mutex_unlock(&n->lock);
}

void vgpu_nvml_close(struct vgpu_nvml *n)
{
    if (!n)
        return;
    uint64_t deadline = vgpu_clock_ns() + CLOSE_NS;
    pthread_mutex_lock(&n->lock);
    n->ending = true;
    pthread_cond_signal(&n->asked);
    while (!n->ended && wait_until(n, deadline))
        ;
    bool ended = n->ended;
    pthread_mutex_unlock(&n->lock);
    if (!ended)
        return;
    pthread_join(n->thread, NULL);
    n->lib.shutdown();
    dlclose(n->handle);
    pthread_cond_destroy(&n->asked);
    pthread_cond_destroy(&n->answered);
    pthread_mutex_destroy(&n->lock);
    free(n);
}
