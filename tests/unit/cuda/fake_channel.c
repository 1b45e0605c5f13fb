/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fake_channel.h. */
#include "fake_channel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "guest/channel_parts.h"
#include "guest/guest.h"
#include "ring/ring.h"

#define WAITING_MAX   64u
#define EXTENTS_MAX   1024u
#define IDLE_TURNS    20u /* without a record, after which what waits runs all the same */
#define TURN_NS       20000
#define RECORD_BYTES  (VGPU_RING_RECORD_UNITS_MAX * VGPU_RING_UNIT)
#define ANSWER_LENGTH 2048u

struct waiting {
    struct vgpu_ring_record header;
    uint8_t body[RECORD_BYTES];
};

static struct {
    uint8_t *window;
    struct vgpu_channel *channel;
    struct vgpu_transport transport;
    struct vgpu_ring_server server;
    pthread_t thread;
    _Atomic bool over, stopped, killed;
    _Atomic unsigned lag, strays;
    struct waiting *waiting; /* a ring of WAITING_MAX */
    unsigned first, count;
    uint32_t deferred;
    pthread_mutex_t lock; /* guards the extents */
    struct {
        uint64_t offset, bytes;
    } extent[EXTENTS_MAX];
    unsigned extent_count;
} host = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- The transport ---- */

static void ring_doorbell(struct vgpu_channel_port *port)
{
    (void)port; /* the thread looks for itself */
}

static int read_state(struct vgpu_channel_port *port, uint32_t *state, uint32_t *error,
                      uint32_t *generation)
{
    (void)port;
    *state = atomic_load(&host.killed) ? VGPU_CHANNEL_FATAL : VGPU_CHANNEL_ACTIVE;
    *error = atomic_load(&host.killed) ? VGPU_CHANNEL_SESSION_LOST : VGPU_CHANNEL_OK;
    *generation = 1;
    return 0;
}

static void release(struct vgpu_channel_port *port, bool forked)
{
    (void)port;
    (void)forked;
}

static const struct vgpu_transport_ops transport_ops = {
    .ring = ring_doorbell, .state = read_state, .release = release};

/* ---- The window ---- */

static uint8_t *find_window(uint64_t offset, uint64_t bytes, bool write)
{
    uint64_t start = write ? VGPU_CHANNEL_DOWNLOAD : VGPU_CHANNEL_UPLOAD;
    bool inside =
        offset >= start && offset - start <= 0x20000 && bytes <= 0x20000 - (offset - start);
    pthread_mutex_lock(&host.lock);
    for (unsigned i = 0; i < host.extent_count && !inside; i++)
        inside = offset >= host.extent[i].offset &&
                 offset - host.extent[i].offset <= host.extent[i].bytes &&
                 bytes <= host.extent[i].bytes - (offset - host.extent[i].offset);
    pthread_mutex_unlock(&host.lock);
    if (!inside)
        atomic_fetch_add(&host.strays, 1);
    return inside ? host.window + offset : NULL;
}

/* The lowest place where so many bytes are free; the extents are in order. */
static uint32_t alloc_extent(uint64_t bytes, uint64_t *offset)
{
    bytes = (bytes + VGPU_ARENA_GRANULE - 1) / VGPU_ARENA_GRANULE * VGPU_ARENA_GRANULE;
    uint64_t at = VGPU_CHANNEL_BYTES;
    unsigned i = 0;
    if (bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    for (; i < host.extent_count && host.extent[i].offset - at < bytes; i++)
        at = host.extent[i].offset + host.extent[i].bytes;
    if (host.extent_count == EXTENTS_MAX || bytes > FAKE_WINDOW_BYTES - at)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memmove(&host.extent[i + 1], &host.extent[i], (host.extent_count - i) * sizeof(host.extent[0]));
    host.extent[i].offset = *offset = at;
    host.extent[i].bytes = bytes;
    host.extent_count++;
    return CUDA_SUCCESS;
}

static uint32_t free_extent(uint64_t offset)
{
    for (unsigned i = 0; i < host.extent_count; i++) {
        if (host.extent[i].offset != offset)
            continue;
        /* Whoever still uses it is found out. */
        memset(host.window + offset, 0xdd, host.extent[i].bytes);
        host.extent_count--;
        memmove(&host.extent[i], &host.extent[i + 1],
                (host.extent_count - i) * sizeof(host.extent[0]));
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}

/* ---- Records ---- */

static void answer(const struct vgpu_ring_record *header, uint32_t status, const void *bytes,
                   uint32_t length)
{
    const struct vgpu_ring_answer a = {
        .token = header->token, .status = status, .length = length, .bytes = bytes};
    (void)vgpu_ring_server_complete(&host.server, &a, header->answer_unit, header->answer_units);
}

static void run_call(const struct waiting *w)
{
    const struct vgpu_call_info *info = vgpu_call_info(w->header.opcode);
    uint8_t bytes[ANSWER_LENGTH];
    uint32_t length = 0, status;
    uint64_t context, in[VGPU_CALL_SLOTS_MAX];
    uint32_t head = 8u * (1u + info->in_count);
    if (w->header.length < head)
        abort(); /* the library made it */
    memcpy(&context, w->body, 8);
    memcpy(in, w->body + 8, 8u * info->in_count);
    if (info->reports && host.deferred) {
        status = host.deferred;
        host.deferred = 0;
    } else {
        status = (uint32_t)fake_execute(w->header.opcode, context, in, w->body + head,
                                        w->header.length - head, bytes, &length);
        if (info->posted && status && !host.deferred)
            host.deferred = status;
    }
    if (w->header.token)
        answer(&w->header, status, bytes, length);
}

/* The arena's calls wait for nothing but what is in front of them. */
static void run_arena(const struct waiting *w)
{
    uint64_t value, offset = 0;
    memcpy(&value, w->body, sizeof(value));
    pthread_mutex_lock(&host.lock);
    uint32_t status = w->header.opcode == VGPU_RING_ARENA_ALLOC ? alloc_extent(value, &offset)
                                                                : free_extent(value);
    pthread_mutex_unlock(&host.lock);
    bool has_answer = w->header.opcode == VGPU_RING_ARENA_ALLOC && status == 0;
    answer(&w->header, status, &offset, has_answer ? sizeof(offset) : 0);
}

static void run_first(void)
{
    const struct waiting *w = &host.waiting[host.first];
    if (w->header.opcode >= VGPU_RING_CALL_FIRST && w->header.opcode < 0x2000)
        run_call(w);
    else
        run_arena(w);
    host.first = (host.first + 1) % WAITING_MAX;
    host.count--;
}

static bool take_record(void)
{
    static _Alignas(8) uint8_t record[RECORD_BYTES];
    if (host.count == WAITING_MAX || !vgpu_ring_server_has_room(&host.server, WAITING_MAX))
        return false;
    const struct vgpu_ring_record *header = vgpu_ring_server_take(&host.server, record);
    if (!header)
        return false;
    struct waiting *w = &host.waiting[(host.first + host.count) % WAITING_MAX];
    w->header = *header;
    memcpy(w->body, record + sizeof(*header), header->length);
    host.count++;
    vgpu_ring_server_show(&host.server);
    return true;
}

static void *serve(void *unused)
{
    (void)unused;
    unsigned idle = 0;
    while (!atomic_load(&host.over)) {
        if (atomic_load(&host.killed) || atomic_load(&host.stopped)) {
            nanosleep(&(struct timespec){.tv_nsec = TURN_NS}, NULL);
            continue;
        }
        bool took = take_record();
        idle = took ? 0 : idle + 1;
        if (host.count && (host.count > atomic_load(&host.lag) || idle > IDLE_TURNS))
            run_first();
        else if (!took && idle > IDLE_TURNS)
            nanosleep(&(struct timespec){.tv_nsec = TURN_NS}, NULL);
    }
    return NULL;
}

/* ---- For the tests ---- */

int fake_channel_setup(void **state)
{
    fake_setup(state);
    if (!host.window)
        host.window = mmap(NULL, FAKE_WINDOW_BYTES, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(host.window != MAP_FAILED);
    if (!host.waiting)
        host.waiting = calloc(WAITING_MAX, sizeof(host.waiting[0]));
    assert_non_null(host.waiting);
    host.transport.ops = &transport_ops;
    host.first = host.count = 0;
    host.deferred = 0;
    atomic_store(&host.over, false);
    atomic_store(&host.stopped, false);
    atomic_store(&host.killed, false);
    atomic_store(&host.lag, 0);
    atomic_store(&host.strays, 0);
    /* Extents end with their session; but the library's pages are the process's, which here lives
     * longer. */
    for (unsigned i = 0; i < host.extent_count; i++)
        if (host.extent[i].bytes == 2ull * VGPU_STAGING_PIECES * VGPU_STAGING_LARGE_BYTES)
            free_extent(host.extent[i--].offset);
    vgpu_ring_server_init(&host.server, host.window);
    const struct vgpu_channel_port port = {.transport = &host.transport,
                                           .window = host.window,
                                           .window_bytes = FAKE_WINDOW_BYTES,
                                           .channel_count = 1,
                                           .interrupt_fd = -1};
    assert_int_equal(vgpu_channel_attach(fake_gpu(), &port, 1, &host.channel), 0);
    fake_set_window(find_window);
    fake_set_channel(host.channel);
    assert_int_equal(pthread_create(&host.thread, NULL, serve, NULL), 0);
    CUcontext context;
    assert_ok(cuInit(0));
    assert_ok(cuDevicePrimaryCtxRetain(&context, 0));
    assert_ok(cuCtxSetCurrent(context));
    return 0;
}

int fake_channel_teardown(void **state)
{
    (void)state;
    if (!atomic_load(&host.killed) && !atomic_load(&vgpu_cuda.sticky))
        (void)cuDevicePrimaryCtxReset_v2(0);
    atomic_store(&host.over, true);
    pthread_join(host.thread, NULL);
    vgpu_channel_close(host.channel, false);
    fake_set_channel(NULL);
    fake_set_window(NULL);
    vgpu_cuda.channel = NULL;
    vgpu_cuda.session = NULL;
    return 0;
}

void fake_channel_stop(bool stopped)
{
    atomic_store(&host.stopped, stopped);
}

void fake_channel_set_lag(unsigned calls)
{
    atomic_store(&host.lag, calls);
}

void fake_channel_kill(void)
{
    atomic_store(&host.killed, true);
}

uint64_t fake_channel_arena_used(void)
{
    uint64_t used = 0;
    pthread_mutex_lock(&host.lock);
    for (unsigned i = 0; i < host.extent_count; i++)
        used += host.extent[i].bytes;
    pthread_mutex_unlock(&host.lock);
    return used;
}

unsigned fake_channel_arena_extents(void)
{
    pthread_mutex_lock(&host.lock);
    unsigned count = host.extent_count;
    pthread_mutex_unlock(&host.lock);
    return count;
}

uint64_t fake_channel_offset(const void *address)
{
    uint64_t offset = (uint64_t)((uintptr_t)address - (uintptr_t)host.window);
    return offset < FAKE_WINDOW_BYTES ? offset : UINT64_MAX;
}

unsigned fake_channel_strays(void)
{
    return atomic_load(&host.strays);
}
