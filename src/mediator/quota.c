/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Accounts in memory files; see quota.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "mediator/quota.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/net.h"
#include "common/sys.h"

#ifndef F_ADD_SEALS /* Linux 3.17; old headers lack it */
#define F_ADD_SEALS   1033
#define F_SEAL_SEAL   0x1
#define F_SEAL_SHRINK 0x2
#define F_SEAL_GROW   0x4
#endif

/* Sealed, so that no worker can take the pages from under the others. */
static int make_page(struct vgpu_quota *q)
{
    q->fd = vgpu_memfd_create("vgpu-account", VGPU_MFD_CLOEXEC | VGPU_MFD_ALLOW_SEALING);
    if (q->fd < 0)
        return q->fd;
    void *page = MAP_FAILED;
    if (!ftruncate(q->fd, VGPU_ACCOUNT_FILE_BYTES) &&
        !fcntl(q->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        page = mmap(NULL, VGPU_ACCOUNT_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, q->fd, 0);
    if (page == MAP_FAILED) {
        int rc = -errno;
        vgpu_fd_close(&q->fd);
        return rc;
    }
    q->page = page;
    q->page->magic = VGPU_ACCOUNT_MAGIC;
    return 0;
}

int vgpu_quota_join(struct vgpu_list *list, uint64_t key, uint32_t gpu, uint64_t quota_bytes,
                    struct vgpu_quota **out)
{
    vgpu_list_each(node, list)
    {
        struct vgpu_quota *q = vgpu_list_entry(node, struct vgpu_quota, node);
        if (q->key == key && q->gpu == gpu) {
            q->quota_bytes = quota_bytes;
            q->users++;
            *out = q;
            return 0;
        }
    }
    struct vgpu_quota *q = calloc(1, sizeof(*q));
    if (!q)
        return -ENOMEM;
    q->key = key;
    q->gpu = gpu;
    q->quota_bytes = quota_bytes;
    q->users = 1;
    int rc = make_page(q);
    if (rc) {
        free(q);
        return rc;
    }
    vgpu_list_append(list, &q->node);
    *out = q;
    return 0;
}

void vgpu_quota_leave(struct vgpu_quota *q)
{
    if (--q->users)
        return;
    vgpu_list_remove(&q->node);
    munmap(q->page, VGPU_ACCOUNT_FILE_BYTES);
    vgpu_fd_close(&q->fd);
    free(q);
}

const struct vgpu_usage *vgpu_quota_usage(const struct vgpu_quota *q, uint32_t slot)
{
    return (const struct vgpu_usage *)(const void *)((const uint8_t *)q->page +
                                                     VGPU_ACCOUNT_BYTES) +
           slot;
}

static void clear(struct vgpu_quota *q, uint32_t slot)
{
    __atomic_store_n(&q->page->slots[slot].contexts, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&q->page->slots[slot].held_bytes, 0, __ATOMIC_SEQ_CST);
}

static bool is_taken(const struct vgpu_quota *q, uint32_t slot)
{
    return q->taken[slot / 64] >> slot % 64 & 1;
}

/* The lowest that is free, so that workers have few to sum. */
int vgpu_quota_take(struct vgpu_quota *q, uint32_t *slot)
{
    uint32_t s = 0;
    while (s < VGPU_ACCOUNT_SLOTS && is_taken(q, s))
        s++;
    if (s == VGPU_ACCOUNT_SLOTS)
        return -ENOSPC;
    q->taken[s / 64] |= 1ull << s % 64;
    clear(q, s); /* a neighbour may have written here meanwhile */
    memset((void *)(uintptr_t)vgpu_quota_usage(q, s), 0, VGPU_USAGE_BYTES);
    if (s >= q->slot_count)
        q->slot_count = s + 1;
    __atomic_store_n(&q->page->slot_count, q->slot_count, __ATOMIC_SEQ_CST);
    *slot = s;
    return 0;
}

void vgpu_quota_give_back(struct vgpu_quota *q, uint32_t slot)
{
    q->taken[slot / 64] &= ~(1ull << slot % 64);
    clear(q, slot);
}

uint64_t vgpu_quota_held(const struct vgpu_quota *q)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < q->slot_count; i++) {
        if (!is_taken(q, i))
            continue;
        uint64_t held = __atomic_load_n(&q->page->slots[i].held_bytes, __ATOMIC_SEQ_CST);
        if (held > q->quota_bytes - sum)
            return q->quota_bytes;
        sum += held;
    }
    return sum;
}

uint64_t vgpu_quota_contexts(const struct vgpu_quota *q)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < q->slot_count; i++) {
        if (!is_taken(q, i))
            continue;
        uint32_t n = __atomic_load_n(&q->page->slots[i].contexts, __ATOMIC_SEQ_CST);
        sum += n < 1 ? 1 : n > VGPU_QUOTA_CONTEXTS_MAX ? VGPU_QUOTA_CONTEXTS_MAX : n;
    }
    return sum;
}
