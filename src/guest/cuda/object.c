/* SPDX-License-Identifier: MIT */
/*
 * What handles point to: objects of one size in one piece of address space that is never given
 * back. So any pointer a program hands us can be looked at safely: one that is not the start of a
 * living object of the right kind is refused. An object's place is used again late, so that a stale
 * handle is found to be stale. Knows nothing of what the objects mean.
 */
#include <stdlib.h>

#include "guest/cuda/internal.h"

#define OBJECTS_MAX 196608u /* half as many again as a session of the host has names */
#define REUSE_AFTER 4096u   /* places that wait before one is used again */
#define MAGIC_ALIVE 0x76677075u
#define MAGIC_FREE  0u

static struct {
    pthread_mutex_t lock;
    uint8_t *base;         /* OBJECTS_MAX places; NULL: none yet */
    _Atomic uint32_t used; /* places that were ever used */
    struct vgpu_object *free_first, *free_last;
    uint32_t free_count;
    uint64_t last_name;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The caller holds the pool's lock. */
static struct vgpu_object *take_place(void)
{
    if (!pool.base) {
        /* From the heap, though the kernel only gives the pages that are used: so leak checkers
         * find what objects of programs that exit without giving back still point to. */
        void *base = calloc(OBJECTS_MAX, VGPU_OBJECT_BYTES);
        if (!base)
            return NULL;
        pool.base = base;
    }
    uint32_t used = atomic_load(&pool.used);
    struct vgpu_object *object = pool.free_first;
    if (object && (pool.free_count > REUSE_AFTER || used == OBJECTS_MAX)) {
        pool.free_first = object->next;
        if (!pool.free_first)
            pool.free_last = NULL;
        pool.free_count--;
        return object;
    }
    if (used == OBJECTS_MAX)
        return NULL;
    object = (struct vgpu_object *)(pool.base + (size_t)used * VGPU_OBJECT_BYTES);
    atomic_store(&pool.used, used + 1);
    return object;
}

void *vgpu_object_new(unsigned kind, struct vgpu_context *context)
{
    pthread_mutex_lock(&pool.lock);
    struct vgpu_object *object = take_place();
    if (object) {
        memset((uint8_t *)object + sizeof(object->magic), 0,
               VGPU_OBJECT_BYTES - sizeof(object->magic));
        object->kind = kind;
        object->name = ++pool.last_name;
        object->context = context;
        if (context) {
            object->next = context->objects;
            if (object->next)
                object->next->previous = object;
            context->objects = object;
        }
        atomic_store_explicit(&object->magic, MAGIC_ALIVE, memory_order_release);
    }
    pthread_mutex_unlock(&pool.lock);
    return object;
}

uint64_t vgpu_object_next_name(void)
{
    pthread_mutex_lock(&pool.lock);
    uint64_t name = ++pool.last_name;
    pthread_mutex_unlock(&pool.lock);
    return name;
}

void *vgpu_object_find(const void *handle, unsigned kind)
{
    uint32_t used = atomic_load(&pool.used);
    if (used == 0)
        return NULL;
    uint64_t offset = (uint64_t)(uintptr_t)handle - (uint64_t)(uintptr_t)pool.base;
    if (offset >= (uint64_t)used * VGPU_OBJECT_BYTES || offset % VGPU_OBJECT_BYTES != 0)
        return NULL;
    struct vgpu_object *object = (struct vgpu_object *)(pool.base + offset);
    if (atomic_load_explicit(&object->magic, memory_order_acquire) != MAGIC_ALIVE ||
        object->kind != kind)
        return NULL;
    return object;
}

/* The caller holds the pool's lock. */
static void free_place(struct vgpu_object *object)
{
    struct vgpu_context *context = object->context;
    if (context) {
        if (object->previous)
            object->previous->next = object->next;
        else
            context->objects = object->next;
        if (object->next)
            object->next->previous = object->previous;
    }
    object->next = NULL;
    object->previous = NULL;
    if (pool.free_last)
        pool.free_last->next = object;
    else
        pool.free_first = object;
    pool.free_last = object;
    pool.free_count++;
}

/* True for the one caller that ends it. */
static bool end_life(struct vgpu_object *object)
{
    uint32_t alive = MAGIC_ALIVE;
    return atomic_compare_exchange_strong(&object->magic, &alive, MAGIC_FREE);
}

bool vgpu_object_retire(struct vgpu_object *object)
{
    if (!end_life(object))
        return false;
    if (object->finish)
        object->finish(object);
    return true;
}

void vgpu_object_bury(struct vgpu_object *object)
{
    pthread_mutex_lock(&pool.lock);
    free_place(object);
    pthread_mutex_unlock(&pool.lock);
}

void vgpu_object_free(struct vgpu_object *object)
{
    if (vgpu_object_retire(object))
        vgpu_object_bury(object);
}

void vgpu_object_free_all(struct vgpu_context *context)
{
    for (;;) {
        pthread_mutex_lock(&pool.lock);
        struct vgpu_object *object = context->objects;
        bool ours = object && end_life(object);
        pthread_mutex_unlock(&pool.lock);
        if (!object)
            return;
        if (!ours)
            continue; /* another thread is just freeing it */
        if (object->finish)
            object->finish(object);
        pthread_mutex_lock(&pool.lock);
        free_place(object);
        pthread_mutex_unlock(&pool.lock);
    }
}

_Static_assert(sizeof(struct vgpu_stream) <= VGPU_OBJECT_BYTES, "place");
_Static_assert(sizeof(struct vgpu_context) <= VGPU_OBJECT_BYTES, "place");
_Static_assert(sizeof(struct vgpu_event) <= VGPU_OBJECT_BYTES, "place");
_Static_assert(sizeof(struct vgpu_module) <= VGPU_OBJECT_BYTES, "place");
_Static_assert(sizeof(struct vgpu_function_object) <= VGPU_OBJECT_BYTES, "place");
_Static_assert(sizeof(struct vgpu_array) <= VGPU_OBJECT_BYTES, "place");
