/* SPDX-License-Identifier: MIT */
/*
 * What the files of the guest's libcuda.so.1 share: the process's one driver, its handles, how a
 * call crosses to the host, and in which order. Nothing of it is seen by programs, which see the
 * CUDA driver API (api/cuda.calls). docs/cuda-calls.md says what is promised.
 *
 * Locks: vgpu_cuda.lock guards every table here and is never held across a request.
 */
#ifndef VGPU_GUEST_CUDA_INTERNAL_H
#define VGPU_GUEST_CUDA_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vgpu/cuda.h"
#include "vgpu/protocol.h"
#include "vgpu_cuda_calls.h"
#include "vgpu_cuda_guest.h"
#include "vgpu_cuda_prototypes.h"

#define VGPU_CUDA_VERSION 13000 /* of the description: more than this we do not say we are */

/* Handles that exist in the guest only. */
enum vgpu_guest_kind {
    VGPU_KIND_LIBRARY = VGPU_KIND_COUNT,
    VGPU_KIND_KERNEL,
    VGPU_KIND_GRAPH,
    VGPU_KIND_GRAPH_NODE,
    VGPU_KIND_GRAPH_EXEC,
};

/* ---- Objects: what a handle points to (object.c) ---- */

struct vgpu_context;

struct vgpu_object {
    _Atomic uint32_t magic; /* says whether this is one now */
    uint32_t kind;
    uint64_t name; /* on the wire; never used twice */
    struct vgpu_context *context;
    struct vgpu_object *next, *previous;        /* of the same context; the free ones: next only */
    void (*finish)(struct vgpu_object *object); /* frees what it has outside the pool; NULL: none */
};

#define VGPU_OBJECT_BYTES 320u

/* A new, zeroed object of a context (NULL: of none). NULL: no room for another. */
void *vgpu_object_new(unsigned kind, struct vgpu_context *context);
/* The object a handle of the program points to; NULL when it is none of that kind, whatever it
 * is. */
void *vgpu_object_find(const void *handle, unsigned kind);
void vgpu_object_free(struct vgpu_object *object);
/* The two halves of it: no handle leads there any more; the place is free. */
bool vgpu_object_retire(struct vgpu_object *object);
void vgpu_object_bury(struct vgpu_object *object);
/* A name that nothing had yet. */
uint64_t vgpu_object_next_name(void);
/* Frees all objects of a context, but not the context. */
void vgpu_object_free_all(struct vgpu_context *context);

struct vgpu_stream {
    struct vgpu_object base;
    unsigned flags;
    int priority;
    bool legacy;
    /* Guarded by the lock of order.c: */
    bool held;    /* it is in the list of those with something held back */
    bool retired; /* destroyed, to be buried when nothing is held back any more */
    struct vgpu_stream *next_held;
    struct vgpu_deferred *first; /* what is held back, oldest first */
    struct vgpu_deferred *last;
    struct vgpu_capture *capture;    /* what it is captured into; NULL: not captured */
    struct vgpu_node **capture_tail; /* nodes that the next one comes after */
    unsigned capture_tail_count;
};

struct vgpu_context {
    struct vgpu_object base;
    _Atomic bool alive;
    bool primary;
    unsigned flags;
    unsigned references; /* of a primary context */
    unsigned version;
    CUfunc_cache cache_config;
    _Atomic unsigned printing;  /* modules loaded that may print */
    struct vgpu_stream *legacy; /* the stream NULL, name 0 */
    struct vgpu_object *objects;
};

struct vgpu_event {
    struct vgpu_object base;
    unsigned flags;
    bool recorded;
    struct vgpu_stream *record_stream; /* where the last record was held back, */
    uint64_t record_sequence;          /* under which number; 0: it was not */
    uint64_t capture_id; /* of the capture it was last recorded in, which may be over; 0: in none */
    struct vgpu_node **capture_nodes;
    unsigned capture_count;
};

struct vgpu_module {
    struct vgpu_object base;
    bool may_print;
    struct vgpu_library *library; /* it was loaded for; NULL: for none */
    struct vgpu_function_object *functions;
    struct vgpu_module *next_of_library;
};

struct vgpu_function_object {
    struct vgpu_object base;
    struct vgpu_module *module;
    struct vgpu_function_object *next_of_module;
    char *symbol;
    struct vgpu_param_layout *layout; /* param_count of them */
    uint32_t param_count;
    uint32_t param_bytes;
    uint32_t max_threads;
    uint32_t static_shared_bytes, const_bytes, local_bytes, registers;
    int32_t ptx_version, binary_version;
    _Atomic uint32_t max_dynamic_shared_bytes;
    /* The last answer about how many blocks fit a multiprocessor. Guarded by the driver's lock. */
    int fit_block_size, fit_blocks;
    size_t fit_shared_bytes;
};

struct vgpu_memory_pool {
    struct vgpu_object base;
    bool is_default;
};

struct vgpu_array {
    struct vgpu_object base;
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    unsigned element_bytes;
};

/* ---- The driver, one for a process (driver.c) ---- */

struct vgpu_cuda {
    pthread_mutex_t lock;
    _Atomic bool ready;      /* cuInit succeeded */
    _Atomic bool forked;     /* a child of a process that called cuInit */
    _Atomic bool ended;      /* the process exits */
    _Atomic uint32_t sticky; /* CUresult of everything from now on */
    _Atomic uint32_t late;   /* CUresult to be told once, by the next call that reports */
    bool debug;              /* say on stderr what went wrong */
    struct vgpu *gpu;
    struct vgpu_session *session;
    struct vgpu_channel *channel; /* the session's; NULL: there is none */
    int version;
    struct vgpu_device_info_wire info;
    int32_t attributes[VGPU_CUDA_DEVICE_ATTRIBUTE_END]; /* as the guest shows them */
    struct vgpu_context *primary; /* stays the same object; alive says whether it is one now */
    unsigned primary_flags;
    struct vgpu_memory_pool *default_pool;
    CUmemoryPool current_pool;
};
extern struct vgpu_cuda vgpu_cuda;

static inline void vgpu_cuda_lock(void)
{
    pthread_mutex_lock(&vgpu_cuda.lock);
}

static inline void vgpu_cuda_unlock(void)
{
    pthread_mutex_unlock(&vgpu_cuda.lock);
}

struct vgpu_thread_stream {
    struct vgpu_thread_stream *next;
    struct vgpu_context *context;
    uint64_t context_name;
    struct vgpu_stream *stream;
    uint64_t stream_name;
};

/* What a thread has of its own. */
struct vgpu_thread {
    struct vgpu_context **stack; /* the last is current; an entry may be NULL */
    unsigned depth, capacity;
    struct vgpu_stream *defer; /* posted calls are appended to what it holds back */
    bool in_callback;          /* no CUDA calls from here */
    bool own_default;          /* stream NULL is the thread's own */
    struct vgpu_thread_stream *streams;
    CUstreamCaptureMode capture_mode;
    uint32_t text_length;
    char text[VGPU_MAILBOX_BYTES + 1]; /* what the host said about the last failure */
};
/* In the thread's own block from the start: to look it up costs one load, in each call several
 * times. */
extern _Thread_local struct vgpu_thread *vgpu_this_thread
    __attribute__((tls_model("initial-exec"), visibility("hidden")));
struct vgpu_thread *vgpu_cuda_new_thread(void);
/* NULL: out of memory. */
static inline struct vgpu_thread *vgpu_cuda_thread(void)
{
    return vgpu_this_thread ? vgpu_this_thread : vgpu_cuda_new_thread();
}

/* Attribute as the guest shows it; 0 when there is none of that number. */
static inline int vgpu_cuda_attribute(int attribute)
{
    return (unsigned)attribute < VGPU_CUDA_DEVICE_ATTRIBUTE_END ? vgpu_cuda.attributes[attribute]
                                                                : 0;
}
/* Replaces what the host said of the card where this library decides. */
void vgpu_cuda_settle_attributes(void);
/* CUDA_SUCCESS when cuInit was called and device is the one there is. */
CUresult vgpu_cuda_check_device(CUdevice device);
/* On stderr, when VGPU_CUDA_DEBUG is set. Keeps errno. */
void vgpu_cuda_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Initialised, not a forked child, no callback's thread. */
CUresult vgpu_cuda_enter_process(struct vgpu_thread **thread);
/* Also no sticky error, and the thread has a current context. */
CUresult vgpu_cuda_enter_context(struct vgpu_context **context);

/* ---- For generated code ---- */

/* The same with the context's name. */
CUresult vgpu_cuda_enter(uint64_t *context_name);
CUresult vgpu_cuda_name_of(enum vgpu_kind kind, const void *handle, bool allow_null,
                           uint64_t *name);
CUstream vgpu_cuda_thread_stream(CUstream stream);
/* While it is set, stream NULL is this thread's own. */
void vgpu_cuda_use_thread_stream(bool own);
CUresult vgpu_cuda_on_thread_stream_cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f,
                                                     void **kernelParams, void **extra);
CUresult vgpu_cuda_not_supported(const char *name);

static inline uint64_t vgpu_slot_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float vgpu_float_of_slot(uint64_t slot)
{
    uint32_t bits = (uint32_t)slot;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* ---- Crossing (exchange.c) ---- */

/*
 * Makes a call: `in` and `out` have as many slots as the call's description says, payload its bytes
 * or text. Waits as long as it takes. A posted call of a thread whose stream is held back is kept
 * instead (order.c). Any thread.
 */
CUresult vgpu_cuda_exchange(uint32_t opcode, uint64_t context, const uint64_t *in,
                            const void *payload, uint32_t length, uint64_t *out, void *fill,
                            uint32_t capacity, uint32_t *fill_length);
/* The same, but never kept. */
CUresult vgpu_cuda_send(const struct vgpu_call_info *info, uint64_t context, const uint64_t *in,
                        const void *payload, uint32_t length, uint64_t *out, void *fill,
                        uint32_t capacity, uint32_t *fill_length);
/* A result of the library below, a negative errno or a CUresult, as CUDA has it; remembers those
 * that end the session. */
CUresult vgpu_cuda_result_of(int err);
/* Begins a sync call on the channel, for one that has outputs only in the ticket. 0 or a negative
 * errno. */
struct vgpu_ticket;
int vgpu_cuda_start(uint32_t opcode, uint64_t context, const uint64_t *in,
                    struct vgpu_ticket *ticket);
/* A failure of what nobody waits for: the next call that reports says it. */
void vgpu_cuda_tell_late(CUresult result);
/* What there is of that kind to be said now; once. */
CUresult vgpu_cuda_take_late(void);
/* Waits until everything that was ever sent for a context is done, whatever failed meanwhile:
 * afterwards nothing reads or writes memory of the window for it. The first failure that was told
 * instead of waiting. `context` is its name, and may be gone. */
CUresult vgpu_cuda_drain(uint64_t context);
/* Bytes of payload that one request of a call holds. */
uint32_t vgpu_cuda_room(uint32_t opcode);

/* ---- Contexts and streams (context.c, stream.c) ---- */

/* Ends it on the host and here. */
CUresult vgpu_context_end(struct vgpu_context *context);
/* A context that can be used, or an error. NULL is none. */
CUresult vgpu_context_find(CUcontext handle, struct vgpu_context **context);
/* The stream a handle names for this thread in the current context. */
CUresult vgpu_stream_find(CUstream handle, struct vgpu_stream **stream);
void vgpu_thread_streams_free(struct vgpu_thread *thread);
/* Writes what kernels printed since the last time to the program's standard output. */
void vgpu_print_read(struct vgpu_context *context);

/* ---- Order (order.c): host callbacks, and what is held back behind them ---- */

/* Brackets posted calls on a stream: those are kept when something before them is. */
CUresult vgpu_order_begin(struct vgpu_stream *stream);
void vgpu_order_end(void);
/* Keeps a posted call behind what is held back on the stream. */
CUresult vgpu_order_keep(struct vgpu_stream *stream, const struct vgpu_call_info *info,
                         uint64_t context, const uint64_t *in, const void *payload,
                         uint32_t length);
/* Whether what comes next on the stream has to be held back. */
bool vgpu_order_holds(struct vgpu_stream *stream);
/* Ends a stream's object, at once or when nothing is held back on it any more. */
void vgpu_order_retire(struct vgpu_stream *stream);
/* Waits until nothing is held back that a synchronization with the stream waits for. */
CUresult vgpu_order_wait(struct vgpu_stream *stream);
/* The same for all streams of a context, or of all (NULL). */
CUresult vgpu_order_wait_context(struct vgpu_context *context);
/* An event's record, and whether one is still held back. */
CUresult vgpu_order_record(struct vgpu_stream *stream, struct vgpu_event *event, unsigned flags);
bool vgpu_order_record_held(struct vgpu_event *event);
CUresult vgpu_order_wait_record(struct vgpu_event *event);
CUresult vgpu_order_wait_event(struct vgpu_stream *stream, struct vgpu_event *event,
                               unsigned flags);
/* Ends an event after what is held back about it. */
CUresult vgpu_order_event_destroy(struct vgpu_context *context, uint64_t name);
CUresult vgpu_order_callback(struct vgpu_stream *stream, CUhostFn host, CUstreamCallback callback,
                             CUstream handle, void *data);
/* Runs a function when its turn on the stream has come; `data` is freed with free afterwards, also
 * on failure. Only when vgpu_order_holds. */
CUresult vgpu_order_later(struct vgpu_stream *stream,
                          CUresult (*run)(struct vgpu_stream *stream, void *data), void *data);

/* ---- Functions (image.c, module.c, function.c, library.c, launch.c) ---- */

/* The function a CUfunction, or a CUkernel in its place, means in the current context. */
CUresult vgpu_function_find(CUfunction handle, struct vgpu_function_object **function);
CUresult vgpu_kernel_function(void *kernel, struct vgpu_context *context,
                              struct vgpu_function_object **function);
/* `limit`: bytes there are; SIZE_MAX: the image itself says. */
CUresult vgpu_module_load_image(struct vgpu_context *context, const void *image, size_t limit,
                                unsigned option_count, CUjit_option *options, void **option_values,
                                struct vgpu_module **module);
CUresult vgpu_module_find(CUmodule handle, struct vgpu_module **module);
CUresult vgpu_module_unload_object(struct vgpu_module *module);
CUresult vgpu_module_function_of(struct vgpu_module *module, const char *name,
                                 struct vgpu_function_object **function);
CUresult vgpu_module_global_of(struct vgpu_module *module, const char *name, CUdeviceptr *address,
                               size_t *bytes);
/* Drops the module from its library's list. */
void vgpu_library_forget(struct vgpu_library *library, struct vgpu_module *module);
/* The file's bytes and a NUL, to be freed. */
CUresult vgpu_image_read(const char *path, void **image, size_t *length);
/* Length of an image of any form (image.c); false: it is none, or longer than `limit`. *start is
 * where it begins, which a wrapper tells. */
bool vgpu_image_measure(const void *image, size_t limit, const void **start, size_t *length);
/* Whether its kernels may call vprintf, as far as that can be seen. */
bool vgpu_image_may_print(const void *image, size_t length);
/* A function's attribute, from what is known or from the host. */
CUresult vgpu_function_attribute(struct vgpu_function_object *function, int attribute, int *value);
CUresult vgpu_function_set_attribute(struct vgpu_function_object *function, int attribute,
                                     int value);
CUresult vgpu_function_param(struct vgpu_function_object *function, size_t index, size_t *offset,
                             size_t *size);

struct vgpu_kernel_launch {
    struct vgpu_function_object *function;
    unsigned grid[3], block[3];
    unsigned shared_bytes;
    unsigned flags; /* bit 0: cooperative */
    uint32_t argument_bytes;
    uint8_t *arguments; /* argument_bytes of them */
    uint8_t *own;       /* the same when they had to be allocated; NULL: nothing to free */
};
/* Arguments of more bytes than this are laid out in memory that is allocated. */
#define VGPU_LAUNCH_SCRATCH_BYTES 4096u
/* Looks at the dimensions, then lays the arguments out: into `scratch`, of
 * VGPU_LAUNCH_SCRATCH_BYTES, or into launch->own, which the caller frees also after a failure. */
CUresult vgpu_launch_prepare(struct vgpu_kernel_launch *launch, void **params, void **extra,
                             uint8_t *scratch);
CUresult vgpu_launch_send(struct vgpu_stream *stream, const struct vgpu_kernel_launch *launch);
/* Blocks of a function that run on a multiprocessor at a time. */
CUresult vgpu_occupancy(struct vgpu_function_object *function, int block_size, size_t shared_bytes,
                        int *blocks);

/* ---- Memory (range.c, memory.c, copy.c) ---- */

/* A range of addresses somebody owns, in a tree ordered by address. */
struct vgpu_range {
    uint64_t start, size;
    struct vgpu_range *left, *right;
    uint32_t weight;
    enum { VGPU_RANGE_ALLOC, VGPU_RANGE_GLOBAL, VGPU_RANGE_HOST, VGPU_RANGE_REGISTERED } kind;
    unsigned flags;
    uint64_t id;
    struct vgpu_context *context;
    const void *owner;      /* module of a global, pool of an allocation */
    bool in_window;         /* host memory that is the arena's, */
    uint64_t window_offset; /* from here on, */
    uint64_t used_by[2];    /* which copies of these contexts may still use; 0: none */
    uint64_t reserved_start, reserved_size; /* of our own address space */
};
struct vgpu_ranges {
    struct vgpu_range *root;
    uint32_t seed;
};
/* The one that has the address; NULL. The caller holds the driver's lock, for these three. */
struct vgpu_range *vgpu_ranges_find(const struct vgpu_ranges *ranges, uint64_t address);
/* False: it overlaps another, is empty or wraps. */
bool vgpu_ranges_insert(struct vgpu_ranges *ranges, struct vgpu_range *range);
void vgpu_ranges_remove(struct vgpu_ranges *ranges, struct vgpu_range *range);
/* Removes one that `match` says yes to, and returns it; NULL when there is none (left). */
struct vgpu_range *vgpu_ranges_take(struct vgpu_ranges *ranges,
                                    bool (*match)(const struct vgpu_range *range, const void *with),
                                    const void *with);

extern struct vgpu_ranges vgpu_device_ranges, vgpu_host_ranges;

/* CUDA_SUCCESS when the bytes lie in one range of device memory. Asks the host about addresses that
 * are not known here. */
CUresult vgpu_memory_check(struct vgpu_context *context, uint64_t address, uint64_t size);
/* Enters a range of device memory; false: the host said something impossible. */
bool vgpu_memory_enter(struct vgpu_context *context, uint64_t address, uint64_t size, int kind,
                       const void *owner);
/* Forgets the device memory of a context, or of a module or pool (owner). */
void vgpu_memory_forget(const struct vgpu_context *context, const void *owner);
bool vgpu_host_is_pinned(const void *address);
/*
 * Whether the bytes are one piece of the window that CUDA allocated, and where it begins there; it
 * is remembered that copies of the context use it.
 */
bool vgpu_host_in_window(const void *address, uint64_t bytes, const struct vgpu_context *context,
                         uint64_t *offset);

/* ---- Pinned memory (arena.c) ---- */

/* Window memory for the process, at least 4096-aligned. False: there is no room, or no window. */
bool vgpu_arena_alloc(uint64_t bytes, uint64_t *offset);
/* Gives it back: exactly what was allocated. Shared memory may be somebody else's at once, so
 * nothing on the GPU may use it any more; the host waits for what uses an extent. */
void vgpu_arena_free(uint64_t offset, uint64_t bytes);
/* Whether memory of that size lies in an extent with other memory. */
bool vgpu_arena_is_shared(uint64_t bytes);
uint8_t *vgpu_arena_at(uint64_t offset);

struct vgpu_place {
    enum { VGPU_PLACE_HOST, VGPU_PLACE_DEVICE, VGPU_PLACE_ARRAY } type;
    uint8_t *host;
    uint64_t device;
    struct vgpu_array *array;
    size_t x, y, z;      /* bytes, rows, slices: of an array; elsewhere in the address already */
    size_t pitch, slice; /* bytes from row to row, and from slice to slice */
};
struct vgpu_copy {
    struct vgpu_place to, from;
    size_t width, height, depth; /* bytes, rows, slices */
};
/* Checks both sides. */
CUresult vgpu_copy_check(struct vgpu_context *context, const struct vgpu_copy *copy);
/* A copy on a stream; without `async` it is done with host memory when it returns. */
CUresult vgpu_copy_run(struct vgpu_stream *stream, const struct vgpu_copy *copy, bool async);
/* The same, without asking whether anything is held back or captured. */
CUresult vgpu_copy_send(struct vgpu_stream *stream, const struct vgpu_copy *copy, bool async);
CUresult vgpu_copy_of_3d(const CUDA_MEMCPY3D *from, struct vgpu_copy *copy);

struct vgpu_set {
    uint64_t destination;
    size_t pitch, width, height; /* bytes, elements, rows */
    uint32_t value, element_bytes;
};
CUresult vgpu_set_check(struct vgpu_context *context, const struct vgpu_set *set);
CUresult vgpu_set_run(struct vgpu_stream *stream, const struct vgpu_set *set);

/* ---- Graphs (graph.c) and capture (capture.c) ---- */

/*
 * What is done to a stream that is captured becomes a node instead: each returns true when it was
 * captured (or failed to be), *result then says so.
 */
bool vgpu_capture_launch(struct vgpu_stream *stream, const struct vgpu_kernel_launch *launch,
                         CUresult *result);
bool vgpu_capture_copy(struct vgpu_stream *stream, const struct vgpu_copy *copy, CUresult *result);
bool vgpu_capture_set(struct vgpu_stream *stream, const struct vgpu_set *set, CUresult *result);
bool vgpu_capture_host(struct vgpu_stream *stream, CUhostFn host, void *data, CUresult *result);
bool vgpu_capture_record(struct vgpu_stream *stream, struct vgpu_event *event, CUresult *result);
bool vgpu_capture_wait(struct vgpu_stream *stream, struct vgpu_event *event, CUresult *result);
/* What a captured stream may not be asked: CUDA_SUCCESS when it is not captured. */
CUresult vgpu_capture_refuse(struct vgpu_stream *stream);
void vgpu_capture_forget_stream(struct vgpu_stream *stream);
void vgpu_capture_forget_event(struct vgpu_event *event);

#endif
