/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reservations; see account.h, and vgpu/account.h for why this is right. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "worker/account.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "vgpu/account.h"

/* How often a refusal is looked into again that may be due to others who are refused in the same
 * moment. */
#ifndef VGPU_ACCOUNT_ATTEMPTS
#define VGPU_ACCOUNT_ATTEMPTS 8
#endif

/* A test stops here to let other processes run, or never goes on. */
#ifndef VGPU_ACCOUNT_STEP
#define VGPU_ACCOUNT_STEP() ((void)0)
#endif

struct vgpu_account {
    struct vgpu_account_page *page;
    uint32_t slot;
    uint64_t quota_bytes;
    pthread_mutex_t lock; /* between threads of this process only */
    uint64_t held_bytes;  /* ours, whatever somebody writes into the slot; under the lock */
};

int vgpu_account_open(int fd, uint32_t slot, uint64_t quota_bytes, struct vgpu_account **out)
{
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    if (st.st_size != (off_t)VGPU_ACCOUNT_FILE_BYTES || slot >= VGPU_ACCOUNT_SLOTS)
        return -EBADMSG;
    struct vgpu_account *a = calloc(1, sizeof(*a));
    if (!a)
        return -ENOMEM;
    void *page = mmap(NULL, VGPU_ACCOUNT_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        int rc = -errno;
        free(a);
        return rc;
    }
    a->page = page;
    if (a->page->magic != VGPU_ACCOUNT_MAGIC) {
        munmap(page, VGPU_ACCOUNT_FILE_BYTES);
        free(a);
        return -EBADMSG;
    }
    a->slot = slot;
    a->quota_bytes = quota_bytes;
    pthread_mutex_init(&a->lock, NULL);
    *out = a;
    return 0;
}

void vgpu_account_close(struct vgpu_account *a)
{
    if (!a)
        return;
    munmap(a->page, VGPU_ACCOUNT_FILE_BYTES);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* Under the lock. */
static void publish(struct vgpu_account *a, uint64_t held_bytes)
{
    VGPU_ACCOUNT_STEP();
    __atomic_store_n(&a->page->slots[a->slot].held_bytes, held_bytes, __ATOMIC_SEQ_CST);
}

/* What the tenant's other sessions hold; at most UINT64_MAX, whatever the slots say. */
static uint64_t others(const struct vgpu_account *a)
{
    uint32_t count = __atomic_load_n(&a->page->slot_count, __ATOMIC_SEQ_CST);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count && i < VGPU_ACCOUNT_SLOTS; i++) {
        if (i == a->slot)
            continue;
        VGPU_ACCOUNT_STEP();
        uint64_t held = __atomic_load_n(&a->page->slots[i].held_bytes, __ATOMIC_SEQ_CST);
        sum = held > UINT64_MAX - sum ? UINT64_MAX : sum + held;
    }
    return sum;
}

static bool fits(const struct vgpu_account *a, uint64_t held_bytes)
{
    uint64_t sum = others(a);
    return sum <= a->quota_bytes && held_bytes <= a->quota_bytes - sum;
}

static int reserve(struct vgpu_account *a, uint64_t bytes)
{
    if (bytes > a->quota_bytes || a->held_bytes > a->quota_bytes - bytes)
        return -ENOMEM;
    uint64_t wanted = a->held_bytes + bytes;
    for (unsigned attempt = 0; attempt < VGPU_ACCOUNT_ATTEMPTS; attempt++) {
        publish(a, wanted);
        if (fits(a, wanted)) {
            a->held_bytes = wanted;
            return 0;
        }
        publish(a, a->held_bytes);
        if (!fits(a, wanted))
            break;
    }
    return -ENOMEM;
}

int vgpu_account_reserve(struct vgpu_account *a, uint64_t bytes)
{
    if (!a)
        return 0;
    pthread_mutex_lock(&a->lock);
    int rc = reserve(a, bytes);
    pthread_mutex_unlock(&a->lock);
    return rc;
}

void vgpu_account_release(struct vgpu_account *a, uint64_t bytes)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->held_bytes -= bytes < a->held_bytes ? bytes : a->held_bytes;
    publish(a, a->held_bytes);
    pthread_mutex_unlock(&a->lock);
}

uint64_t vgpu_account_held_bytes(const struct vgpu_account *account)
{
    if (!account)
        return 0;
    struct vgpu_account *a = (struct vgpu_account *)(uintptr_t)account; /* for its lock */
    pthread_mutex_lock(&a->lock);
    uint64_t held = a->held_bytes;
    pthread_mutex_unlock(&a->lock);
    return held;
}

uint64_t vgpu_account_free_bytes(const struct vgpu_account *a)
{
    if (!a)
        return UINT64_MAX;
    uint64_t held = vgpu_account_held_bytes(a), sum = others(a);
    if (held >= a->quota_bytes || sum >= a->quota_bytes - held)
        return 0;
    return a->quota_bytes - held - sum;
}

uint64_t vgpu_account_quota_bytes(const struct vgpu_account *a)
{
    return a ? a->quota_bytes : UINT64_MAX;
}

void vgpu_account_set_contexts(struct vgpu_account *a, uint32_t contexts)
{
    if (a)
        __atomic_store_n(&a->page->slots[a->slot].contexts, contexts, __ATOMIC_SEQ_CST);
}

struct vgpu_usage *vgpu_account_usage(struct vgpu_account *a)
{
    return a ? (struct vgpu_usage *)(void *)((uint8_t *)a->page + VGPU_ACCOUNT_BYTES) + a->slot
             : NULL;
}
