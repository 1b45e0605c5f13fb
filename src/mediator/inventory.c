/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The probe's lines, and the pools; see inventory.h. */
#include "mediator/inventory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/parse.h"

/* --- lines --- */

struct scanner {
    const char *at, *end;
};

static void skip_blanks(struct scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t'))
        s->at++;
}

static bool skip(struct scanner *s, char c)
{
    skip_blanks(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

/* The four digits behind \u. */
static bool read_code(struct scanner *s, uint32_t *code)
{
    char text[7] = "0x";
    if (s->end - s->at < 4)
        return false;
    memcpy(text + 2, s->at, 4);
    s->at += 4;
    return !vgpu_parse_u32(text, 0, 0xffff, code);
}

/* A string, cut to fit and made printable. */
static bool read_string(struct scanner *s, char *out, size_t size)
{
    size_t used = 0;
    if (!skip(s, '"'))
        return false;
    while (s->at < s->end && *s->at != '"') {
        uint32_t c = (unsigned char)*s->at++;
        if (c == '\\') {
            if (s->at == s->end)
                return false;
            c = (unsigned char)*s->at++;
            if (c == 'u' && !read_code(s, &c))
                return false;
        }
        if (used + 1 < size)
            out[used++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    out[used] = 0;
    return skip(s, '"');
}

/* A number or a word, as it stands. */
static bool read_word(struct scanner *s, char *out, size_t size)
{
    size_t used = 0;
    while (s->at < s->end && !strchr(" \t,}\"{[", *s->at) && used + 1 < size)
        out[used++] = *s->at++;
    out[used] = 0;
    return used > 0;
}

static bool take(struct vgpu_found_gpu *g, const char *key, const char *value)
{
    if (!strcmp(key, "backend"))
        return snprintf(g->backend, sizeof(g->backend), "%s", value) < (int)sizeof(g->backend);
    if (!strcmp(key, "name"))
        snprintf(g->name, sizeof(g->name), "%.63s", value);
    else if (!strcmp(key, "unusable"))
        snprintf(g->unusable, sizeof(g->unusable), "%.159s", value);
    else if (!strcmp(key, "gpu"))
        return !vgpu_parse_u32(value, 0, UINT32_MAX, &g->ordinal);
    else if (!strcmp(key, "total_memory_bytes"))
        return !vgpu_parse_u64(value, 0, UINT64_MAX, &g->memory_bytes);
    else if (!strcmp(key, "uuid"))
        return g->has_uuid = !vgpu_parse_uuid(value, g->uuid);
    return true;
}

int vgpu_inventory_add(struct vgpu_inventory *inventory, const char *line, size_t length)
{
    struct scanner s = {line, line + length};
    struct vgpu_found_gpu gpu = {.ordinal = UINT32_MAX};
    bool more = true;
    if (!skip(&s, '{'))
        return -EINVAL;
    while (more) {
        char key[32], value[256];
        if (!read_string(&s, key, sizeof(key)) || !skip(&s, ':'))
            return -EINVAL;
        skip_blanks(&s);
        bool read = s.at < s.end && *s.at == '"' ? read_string(&s, value, sizeof(value))
                                                 : read_word(&s, value, sizeof(value));
        if (!read || !take(&gpu, key, value))
            return -EINVAL;
        more = skip(&s, ',');
    }
    if (!skip(&s, '}'))
        return -EINVAL;
    skip_blanks(&s);
    if (s.at != s.end || !gpu.backend[0] || gpu.ordinal == UINT32_MAX)
        return -EINVAL;
    if (inventory->count == VGPU_INVENTORY_MAX)
        return -ENOSPC;
    inventory->gpus[inventory->count++] = gpu;
    return 0;
}

/* --- pools --- */

struct resolver {
    const struct vgpu_inventory *inventory;
    char pool[VGPU_INVENTORY_MAX]; /* that has it, 0: none */
    void (*say)(void *context, const char *text);
    void *context;
};

static bool is_cuda(const struct vgpu_found_gpu *g)
{
    return !strcmp(g->backend, "cuda");
}

static void describe(const struct vgpu_gpu_setting *gpu, char text[64])
{
    if (gpu->by_uuid)
        vgpu_uuid_write(text, gpu->uuid);
    else
        snprintf(text, 64, "GPU %u", gpu->ordinal);
}

/* What there is, for who asked for something else. */
static void list(const struct vgpu_inventory *v, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < v->count && used + 1 < size; i++) {
        const struct vgpu_found_gpu *g = &v->gpus[i];
        char uuid[VGPU_UUID_TEXT] = "no UUID";
        if (!is_cuda(g))
            continue;
        if (g->has_uuid)
            vgpu_uuid_write(uuid, g->uuid);
        int n = snprintf(text + used, size - used, "%s%u (%s)", used ? ", " : "", g->ordinal, uuid);
        used += n > 0 ? (size_t)n : 0;
    }
    if (!used)
        snprintf(text, size, "no GPU that a driver shows");
}

static uint32_t find(const struct vgpu_inventory *v, const struct vgpu_gpu_setting *gpu)
{
    for (uint32_t i = 0; i < v->count; i++) {
        const struct vgpu_found_gpu *g = &v->gpus[i];
        if (!is_cuda(g))
            continue;
        if (gpu->by_uuid ? g->has_uuid && !memcmp(g->uuid, gpu->uuid, sizeof(g->uuid))
                         : g->ordinal == gpu->ordinal)
            return i;
    }
    return UINT32_MAX;
}

static void give(struct resolver *r, struct vgpu_pool_setting *pool, char letter, uint32_t index,
                 const struct vgpu_gpu_setting *asked)
{
    const struct vgpu_found_gpu *g = &r->inventory->gpus[index];
    struct vgpu_gpu_setting gpu = {.backend = VGPU_GPU_CUDA, .ordinal = g->ordinal};
    gpu.by_uuid = asked ? asked->by_uuid : g->has_uuid;
    memcpy(gpu.uuid, g->uuid, sizeof(gpu.uuid));
    gpu.memory_bytes = pool->card_memory ? pool->card_memory : g->memory_bytes;
    pool->gpus[pool->gpu_count++] = gpu;
    r->pool[index] = letter;
}

static void give_asked(struct resolver *r, struct vgpu_pool_setting *pool, char letter,
                       const struct vgpu_gpu_setting *asked)
{
    char name[64], what[700], text[900];
    uint32_t i = find(r->inventory, asked);
    describe(asked, name);
    if (i == UINT32_MAX) {
        list(r->inventory, what, sizeof(what));
        snprintf(text, sizeof(text),
                 "pool %c asks for %s, and this host has %s: mend gpus = in [pool %c], or the "
                 "driver",
                 letter, name, what, letter);
        r->say(r->context, text);
    } else if (r->inventory->gpus[i].unusable[0]) {
        snprintf(text, sizeof(text), "pool %c asks for %s (%s), which cannot be used: %s", letter,
                 name, r->inventory->gpus[i].name, r->inventory->gpus[i].unusable);
        r->say(r->context, text);
    } else if (r->pool[i]) {
        snprintf(text, sizeof(text),
                 "pool %c asks for %s, which pool %c has as well: a GPU is in one pool", letter,
                 name, r->pool[i]);
        r->say(r->context, text);
    } else {
        give(r, pool, letter, i, asked);
    }
}

static void give_rest(struct resolver *r, struct vgpu_pool_setting *pool, char letter)
{
    for (uint32_t i = 0; i < r->inventory->count; i++) {
        const struct vgpu_found_gpu *g = &r->inventory->gpus[i];
        if (is_cuda(g) && !g->unusable[0] && !r->pool[i] && pool->gpu_count < VGPU_POOL_MAX_GPUS)
            give(r, pool, letter, i, NULL);
    }
}

static void settle(struct resolver *r, struct vgpu_pool_setting *pool, char letter)
{
    char text[160];
    if (pool->gpu_count || (!pool->all && !pool->or_software))
        return;
    snprintf(text, sizeof(text),
             "pool %c found no GPU of this host that can be used and that no pool names%s", letter,
             pool->or_software ? ": it has a software GPU" : "; vgpu-worker --probe says more");
    r->say(r->context, text);
    if (pool->or_software)
        pool->gpus[pool->gpu_count++] = (struct vgpu_gpu_setting){.backend = VGPU_GPU_SOFTWARE};
}

void vgpu_inventory_resolve(const struct vgpu_inventory *inventory, struct vgpu_settings *settings,
                            void (*say)(void *context, const char *text), void *context)
{
    struct resolver r = {.inventory = inventory, .say = say, .context = context};
    /* Named ones first: what is left of them is for those who take what there is. */
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++) {
        struct vgpu_pool_setting *pool = &settings->pools[p];
        pool->gpu_count = 0;
        for (uint32_t i = 0; i < pool->asked_count; i++) {
            if (pool->asked[i].backend == VGPU_GPU_CUDA)
                give_asked(&r, pool, (char)('A' + p), &pool->asked[i]);
            else
                pool->gpus[pool->gpu_count++] = pool->asked[i];
        }
    }
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++)
        if (settings->pools[p].all)
            give_rest(&r, &settings->pools[p], (char)('A' + p));
    for (uint32_t p = 0; p < VGPU_POOL_COUNT; p++)
        settle(&r, &settings->pools[p], (char)('A' + p));
}
