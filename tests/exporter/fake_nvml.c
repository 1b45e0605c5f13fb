/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stands in for libnvidia-ml.so.1: two cards, or trouble, as FAKE_NVML says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

struct utilization {
    unsigned gpu, memory;
};
struct memory {
    unsigned long long total, free, used;
};

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetUUID(void *device, char *text, unsigned size);
int nvmlDeviceGetName(void *device, char *text, unsigned size);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz);
int nvmlDeviceGetUtilizationRates(void *device, struct utilization *u);
int nvmlDeviceGetMemoryInfo(void *device, struct memory *m);

static int is_mode(const char *name)
{
    const char *mode = getenv("FAKE_NVML");
    return mode && !strcmp(mode, name);
}

static char cards[2];

static unsigned card(const void *device)
{
    return (unsigned)((const char *)device - cards);
}

EXPORT int nvmlInit_v2(void)
{
    return is_mode("fail") ? 9 : 0;
}

EXPORT int nvmlShutdown(void)
{
    return 0;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *count)
{
    while (is_mode("hang"))
        pause();
    *count = 2;
    return 0;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    *device = &cards[index];
    return 0;
}

EXPORT int nvmlDeviceGetUUID(void *device, char *text, unsigned size)
{
    snprintf(text, size, "GPU-fake-%u", card(device));
    return 0;
}

EXPORT int nvmlDeviceGetName(void *device, char *text, unsigned size)
{
    (void)device;
    snprintf(text, size, "Fake \"GPU\"");
    return 0;
}

EXPORT int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius)
{
    *celsius = 40 + card(device);
    return sensor != 0;
}

EXPORT int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
    *milliwatts = 70500;
    return card(device) ? 3 : 0; /* NVML_ERROR_NOT_SUPPORTED */
}

EXPORT int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz)
{
    (void)device;
    *mhz = which == 1 ? 1980 : 2619;
    return 0;
}

EXPORT int nvmlDeviceGetUtilizationRates(void *device, struct utilization *u)
{
    (void)device;
    *u = (struct utilization){.gpu = 25, .memory = 10};
    return 0;
}

EXPORT int nvmlDeviceGetMemoryInfo(void *device, struct memory *m)
{
    (void)device;
    *m = (struct memory){.total = 80ull << 30, .free = 70ull << 30, .used = 10ull << 30};
    return 0;
}
