/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See fake.h. */
#include "fake.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/carry.h"
#include "guest/guest.h"

#define REQUESTS_MAX 200000u

static struct {
    struct vgpu gpu;
    pthread_mutex_t lock;
    struct fake_request *requests;
    unsigned count;
    struct vgpu_session session;
    struct {
        uint32_t opcode;
        int err;
        unsigned times;
        char text[200];
    } fail;
    struct {
        uint32_t opcode, length;
        uint8_t bytes[1024];
    } answer;
    unsigned busy;
    int init_error, lost;
    uint8_t *memory;
    uint64_t next;
    uint32_t last_stage, stage_bytes, dropped;
    uint32_t param_count, param_bytes, max_threads, max_dynamic;
    struct vgpu_param_layout layout[200];
    char printed[3000];
    uint8_t *(*window)(uint64_t offset, uint64_t bytes, bool write);
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- What libvgpu would have ---- */

int vgpu_init(const struct vgpu_options *options, struct vgpu **handle)
{
    (void)options;
    *handle = &fake.gpu;
    return fake.init_error;
}

void vgpu_cleanup(struct vgpu *gpu)
{
    (void)gpu;
}

int vgpu_session_open(struct vgpu *gpu, struct vgpu_session **session)
{
    (void)gpu;
    *session = &fake.session;
    return 0;
}

void vgpu_session_farewell(struct vgpu_session *session, uint32_t timeout_ms)
{
    (void)session;
    (void)timeout_ms;
}

int vgpu_generation(struct vgpu *gpu, uint32_t *generation)
{
    (void)gpu;
    *generation = 1;
    return 0;
}

int vgpu_mailbox_call(struct vgpu *gpu, uint64_t session, const struct vgpu_call *call,
                      uint64_t deadline_ns, struct vgpu_response *response,
                      struct vgpu_answer *answer)
{
    (void)gpu, (void)session, (void)call, (void)deadline_ns, (void)response, (void)answer;
    return -ENOSYS;
}

int vgpu_fail_error_code(const char *what, uint32_t error_code, const struct vgpu_answer *answer)
{
    (void)answer;
    return vgpu_fail(error_code == VGPU_ERR_UNSUPPORTED ? -EOPNOTSUPP : -EPROTO, "%s: error %u",
                     what, error_code);
}

const char *vgpu_session_transport(const struct vgpu_session *session)
{
    return session->channel ? "channel" : "mailbox";
}

int vgpu_carry_lost(struct vgpu_session *session, const char *what)
{
    (void)session;
    return fake.lost ? fake.lost : vgpu_fail(-ESTALE, "%s: lost", what);
}

int vgpu_fail_status(const char *what, const struct vgpu_answer *answer)
{
    return vgpu_fail((int)answer->status, "%s: status %u", what, answer->status);
}

int vgpu_device_info(struct vgpu_session *session, struct vgpu_device_info_wire *info)
{
    (void)session;
    *info = (struct vgpu_device_info_wire){
        .name = "fake GPU", .uuid = {1, 2, 3}, .total_memory_bytes = FAKE_BYTES};
    return 0;
}

int vgpu_stage_fill(struct vgpu_session *session, const char *what, const void *bytes,
                    uint32_t length, uint32_t *stage)
{
    (void)session;
    (void)what;
    (void)bytes;
    fake.stage_bytes = length;
    *stage = ++fake.last_stage;
    return 0;
}

int vgpu_stage_drop_after(struct vgpu_session *session, uint32_t stage, int err)
{
    (void)session;
    (void)stage;
    fake.dropped++;
    return err;
}

/* ---- A driver ---- */

static bool inside(uint64_t address, uint64_t size)
{
    return address >= FAKE_BASE && address - FAKE_BASE <= FAKE_BYTES &&
           size <= FAKE_BYTES - (address - FAKE_BASE);
}

uint8_t *fake_memory(uint64_t address)
{
    return fake.memory + (address - FAKE_BASE);
}

uint64_t fake_array_at(uint64_t x, uint64_t y, uint64_t z)
{
    return FAKE_BASE + FAKE_BYTES / 2 + (z * FAKE_ARRAY_ROWS + y) * FAKE_ARRAY_PITCH + x;
}

/* A box between the device and the window. */
static int box(uint64_t device, uint64_t device_pitch, uint64_t device_slice, uint64_t offset,
               uint64_t window_bytes, uint64_t pitch, uint64_t slice, uint64_t width, uint64_t rows,
               uint64_t slices, bool to_device)
{
    uint8_t *window = fake.window ? fake.window(offset, window_bytes, !to_device) : NULL;
    if (!window || width + (rows - 1) * pitch + (slices - 1) * slice > window_bytes ||
        !inside(device, width + (rows - 1) * device_pitch + (slices - 1) * device_slice))
        return CUDA_ERROR_INVALID_VALUE;
    for (uint64_t z = 0; z < slices; z++) {
        for (uint64_t y = 0; y < rows; y++) {
            uint8_t *there = fake_memory(device + z * device_slice + y * device_pitch);
            uint8_t *here = window + z * slice + y * pitch;
            memcpy(to_device ? there : here, to_device ? here : there, width);
        }
    }
    return CUDA_SUCCESS;
}

/* Answers in out and fill; returns a CUresult. The caller holds the lock. */
static int execute(const struct fake_request *r, const uint8_t *data, uint64_t *out, uint8_t *fill,
                   uint32_t *fill_length)
{
    const uint64_t *in = r->in;
    switch (r->opcode) {
    case VGPU_CALL_DRIVER_VERSION:
        out[0] = 12040;
        break;
    case VGPU_CALL_DEVICE_ATTRIBUTES: {
        int32_t values[240];
        for (int i = 0; i < 240; i++)
            values[i] = 1024; /* also the limits of a launch */
        values[10] = 32;
        values[75] = 7;
        values[76] = 5;
        *fill_length = in[0] ? 0 : 200 * sizeof(values[0]);
        memcpy(fill, values, *fill_length);
        break;
    }
    case VGPU_CALL_MEMORY_ALLOC:
    case VGPU_CALL_MEMORY_ALLOC_ASYNC:
        if (in[0] > FAKE_BYTES - fake.next)
            return CUDA_ERROR_OUT_OF_MEMORY;
        out[0] = FAKE_BASE + fake.next;
        fake.next += (in[0] + 511) & ~(uint64_t)511;
        break;
    case VGPU_CALL_COPY_TO_DEVICE:
        if (inside(in[0], r->length))
            memcpy(fake_memory(in[0]), data, r->length);
        break;
    case VGPU_CALL_COPY_FROM_DEVICE:
        if (!inside(in[0], in[1]))
            return CUDA_ERROR_INVALID_VALUE;
        memcpy(fill, fake_memory(in[0]), in[1]);
        *fill_length = (uint32_t)in[1];
        break;
    case VGPU_CALL_COPY_ON_DEVICE:
        if (inside(in[0], in[2]) && inside(in[1], in[2]))
            memmove(fake_memory(in[0]), fake_memory(in[1]), in[2]);
        break;
    case VGPU_CALL_ARRAY_READ:
        memset(fill, 0x5a, in[6]);
        *fill_length = (uint32_t)in[6];
        break;
    case VGPU_CALL_COPY_WINDOW_TO_DEVICE: /* destination, size, source */
        return box(in[0], 0, 0, in[2], in[1], 0, 0, in[1], 1, 1, true);
    case VGPU_CALL_COPY_DEVICE_TO_WINDOW: /* destination, source, size */
        return box(in[1], 0, 0, in[0], in[2], 0, 0, in[2], 1, 1, false);
    case VGPU_CALL_COPY_RECT_WINDOW_TO_DEVICE: /* device and its steps, window, bytes and steps */
        return box(in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7], in[8], in[9], true);
    case VGPU_CALL_COPY_RECT_DEVICE_TO_WINDOW:
        return box(in[4], in[5], in[6], in[0], in[1], in[2], in[3], in[7], in[8], in[9], false);
    case VGPU_CALL_ARRAY_WRITE_WINDOW: /* array, x, y, z, width, rows, window, bytes, pitch */
    case VGPU_CALL_ARRAY_READ_WINDOW:
        /* Its memory is the device's last megabytes. */
        return box(fake_array_at(in[1], in[2], in[3]), FAKE_ARRAY_PITCH, 0, in[6], in[7], in[8], 0,
                   in[4], in[5], 1, r->opcode == VGPU_CALL_ARRAY_WRITE_WINDOW);
    case VGPU_CALL_MEMORY_SET:
        for (uint64_t i = 0; i < in[4] && in[3] == 1 && in[5] == 1 && inside(in[0], in[4]); i++)
            *fake_memory(in[0] + i) = (uint8_t)in[2];
        break;
    case VGPU_CALL_STREAM_QUERY:
        out[0] = fake.busy ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
        break;
    case VGPU_CALL_FUNCTION_GET: {
        out[0] = fake.param_count;
        out[1] = fake.param_bytes;
        out[2] = fake.max_threads;
        out[9] = fake.max_dynamic;
        uint32_t n = fake.param_count < 96 ? fake.param_count : 96;
        *fill_length = n * 8;
        memcpy(fill, fake.layout, n * 8u);
        break;
    }
    case VGPU_CALL_FUNCTION_PARAMS: {
        uint32_t first = (uint32_t)in[1];
        uint32_t n = first < fake.param_count ? fake.param_count - first : 0;
        n = n < 120 ? n : 120;
        *fill_length = n * 8;
        if (n)
            memcpy(fill, fake.layout + first, n * 8u);
        break;
    }
    case VGPU_CALL_MODULE_GLOBAL:
        out[0] = FAKE_BASE + FAKE_BYTES - 4096;
        out[1] = 64;
        break;
    case VGPU_CALL_CUOCCUPANCYMAXACTIVEBLOCKSPERMULTIPROCESSORWITHFLAGS:
        out[0] = 2;
        break;
    case VGPU_CALL_PRINTF_READ:
        *fill_length = (uint32_t)strnlen(fake.printed, in[0]);
        memcpy(fill, fake.printed, *fill_length);
        memmove(fake.printed, fake.printed + *fill_length, sizeof(fake.printed) - *fill_length);
        break;
    case VGPU_CALL_TEXTURE_CREATE:
    case VGPU_CALL_SURFACE_CREATE:
        out[0] = 77;
        break;
    default:
        break;
    }
    return CUDA_SUCCESS;
}

static void record(const struct vgpu_call *call, const struct vgpu_call_info *info,
                   struct fake_request *r)
{
    memset(r, 0, sizeof(*r));
    r->opcode = call->opcode;
    r->flags = call->flags;
    assert_int_equal(call->prefix_length, 8u * (1u + info->in_count));
    assert_int_equal(call->flags, info->posted ? VGPU_FLAG_ASYNC : 0);
    memcpy(&r->context, call->prefix, 8);
    memcpy(r->in, (const uint8_t *)call->prefix + 8, 8u * info->in_count);
    r->length = call->data_length;
    if (call->data_length)
        memcpy(r->data, call->data, call->data_length);
    /* P28: what was said fits one request. */
    assert_true(32 + 8 + call->prefix_length + call->data_length <= VGPU_MAILBOX_BYTES);
    if (info->stage_slot >= 0 && r->in[info->stage_slot])
        r->staged = fake.stage_bytes;
}

int vgpu_session_call(struct vgpu_session *session, const struct vgpu_call *call,
                      uint32_t timeout_ms, struct vgpu_response *response,
                      struct vgpu_answer *answer, uint32_t *asked_id)
{
    (void)session;
    (void)timeout_ms;
    const struct vgpu_call_info *info = vgpu_call_info(call->opcode);
    if (asked_id)
        *asked_id = 1;
    *answer = (struct vgpu_answer){0};
    pthread_mutex_lock(&fake.lock);
    assert_true(fake.count < REQUESTS_MAX);
    struct fake_request *r = &fake.requests[fake.count++];
    record(call, info, r);
    uint64_t out[VGPU_CALL_SLOTS_MAX] = {0};
    uint8_t fill[1024];
    uint32_t fill_length = 0;
    int err = 0;
    bool failed = fake.fail.times && fake.fail.opcode == call->opcode;
    if (failed) {
        fake.fail.times--;
        err = fake.fail.err;
        answer->status = err > 0 ? (uint32_t)err : 0;
        answer->data_length = (uint32_t)strlen(fake.fail.text);
        memcpy(response->bytes, fake.fail.text, answer->data_length);
    } else if (fake.answer.opcode == call->opcode) {
        fake.answer.opcode = 0;
        answer->data_length = fake.answer.length;
        memcpy(response->bytes, fake.answer.bytes, fake.answer.length);
    } else {
        err = execute(r, r->data, out, fill, &fill_length);
        answer->status = (uint32_t)err;
        if (err == 0 && !info->posted) {
            answer->data_length = 8u * info->out_count + fill_length;
            memcpy(response->bytes, out, 8u * info->out_count);
            memcpy(response->bytes + 8u * info->out_count, fill, fill_length);
        }
    }
    answer->data = answer->data_length ? response->bytes : NULL;
    pthread_mutex_unlock(&fake.lock);
    return err;
}

int fake_execute(uint32_t opcode, uint64_t context, const uint64_t *in, const uint8_t *data,
                 uint32_t length, uint8_t *answer, uint32_t *answer_length)
{
    const struct vgpu_call_info *info = vgpu_call_info(opcode);
    uint64_t out[VGPU_CALL_SLOTS_MAX] = {0};
    uint8_t fill[1024];
    uint32_t fill_length = 0;
    pthread_mutex_lock(&fake.lock);
    struct fake_request *r = &fake.requests[fake.count < REQUESTS_MAX - 1 ? fake.count++ : 0];
    memset(r, 0, offsetof(struct fake_request, data));
    r->opcode = opcode;
    r->context = context;
    memcpy(r->in, in, 8u * info->in_count);
    r->length = length;
    if (length)
        memcpy(r->data, data, length < sizeof(r->data) ? length : sizeof(r->data));
    int status;
    if (fake.fail.times && fake.fail.opcode == opcode) {
        fake.fail.times--;
        status = fake.fail.err;
        *answer_length = (uint32_t)strlen(fake.fail.text);
        memcpy(answer, fake.fail.text, *answer_length);
    } else if (fake.answer.opcode == opcode) {
        fake.answer.opcode = 0;
        status = 0;
        *answer_length = fake.answer.length;
        memcpy(answer, fake.answer.bytes, fake.answer.length);
    } else {
        status = execute(r, data, out, fill, &fill_length);
        *answer_length = status == 0 ? 8u * info->out_count + fill_length : 0;
        memcpy(answer, out, 8u * info->out_count);
        memcpy(answer + 8u * info->out_count, fill, fill_length);
    }
    pthread_mutex_unlock(&fake.lock);
    return status;
}

void fake_set_window(uint8_t *(*find)(uint64_t offset, uint64_t bytes, bool write))
{
    fake.window = find;
}

void fake_set_lost(int status)
{
    fake.lost = status;
}

void fake_set_channel(struct vgpu_channel *channel)
{
    fake.session.channel = channel;
}

struct vgpu *fake_gpu(void)
{
    return &fake.gpu;
}

/* ---- For the tests ---- */

int fake_setup(void **state)
{
    (void)state;
    const struct vgpu_param_layout usual[] = {{0, 8}, {8, 4}};
    if (!fake.requests)
        fake.requests = malloc(REQUESTS_MAX * sizeof(fake.requests[0]));
    if (!fake.memory)
        fake.memory = malloc(FAKE_BYTES);
    assert_non_null(fake.requests);
    assert_non_null(fake.memory);
    if (vgpu_cuda.primary && atomic_load(&vgpu_cuda.primary->alive)) {
        atomic_store(&vgpu_cuda.sticky, 0);
        (void)cuDevicePrimaryCtxReset_v2(0);
    }
    CUcontext old;
    while (cuCtxPopCurrent_v2(&old) == CUDA_SUCCESS)
        ;
    vgpu_memory_forget(NULL, NULL);
    fake.count = 0;
    fake.fail.times = 0;
    fake.answer.opcode = 0;
    fake.busy = 0;
    fake.init_error = 0;
    fake.lost = 0;
    fake.next = 512;
    fake.dropped = 0;
    fake.printed[0] = 0;
    pthread_mutex_init(&fake.session.stage_lock, NULL);
    fake_set_function(2, usual, 12, 1024, 49152);
    atomic_store(&vgpu_cuda.ready, false);
    atomic_store(&vgpu_cuda.sticky, 0);
    atomic_store(&vgpu_cuda.late, 0);
    vgpu_cuda.session = NULL;
    return 0;
}

int fake_setup_current(void **state)
{
    CUcontext context;
    fake_setup(state);
    assert_ok(cuInit(0));
    assert_ok(cuDevicePrimaryCtxRetain(&context, 0));
    assert_ok(cuCtxSetCurrent(context));
    return 0;
}

unsigned fake_count(uint32_t opcode)
{
    unsigned n = 0;
    pthread_mutex_lock(&fake.lock);
    for (unsigned i = 0; i < fake.count; i++)
        n += opcode == 0 || fake.requests[i].opcode == opcode;
    pthread_mutex_unlock(&fake.lock);
    return n;
}

struct fake_request fake_last(uint32_t opcode)
{
    struct fake_request r = {0};
    pthread_mutex_lock(&fake.lock);
    for (unsigned i = fake.count; i > 0 && r.opcode == 0; i--)
        if (fake.requests[i - 1].opcode == opcode)
            r = fake.requests[i - 1];
    pthread_mutex_unlock(&fake.lock);
    assert_int_equal(r.opcode, opcode);
    return r;
}

const char *fake_story(unsigned from)
{
    static char story[4096];
    story[0] = 0;
    pthread_mutex_lock(&fake.lock);
    for (unsigned i = from; i < fake.count; i++) {
        /* How often it is asked whether a stream is done is nobody's business. */
        if (fake.requests[i].opcode == VGPU_CALL_STREAM_QUERY)
            continue;
        snprintf(story + strlen(story), sizeof(story) - strlen(story), "%s%s", story[0] ? " " : "",
                 vgpu_call_info(fake.requests[i].opcode)->name);
    }
    pthread_mutex_unlock(&fake.lock);
    return story;
}

void fake_fail(uint32_t opcode, int err, const char *text, unsigned times)
{
    pthread_mutex_lock(&fake.lock);
    fake.fail.opcode = opcode;
    fake.fail.err = err;
    fake.fail.times = times;
    snprintf(fake.fail.text, sizeof(fake.fail.text), "%s", text ? text : "");
    pthread_mutex_unlock(&fake.lock);
}

void fake_answer(uint32_t opcode, const void *bytes, uint32_t length)
{
    pthread_mutex_lock(&fake.lock);
    fake.answer.opcode = opcode;
    fake.answer.length = length;
    if (length)
        memcpy(fake.answer.bytes, bytes, length);
    pthread_mutex_unlock(&fake.lock);
}

void fake_set_busy(unsigned busy)
{
    pthread_mutex_lock(&fake.lock);
    fake.busy = busy;
    pthread_mutex_unlock(&fake.lock);
}

void fake_set_function(uint32_t count, const struct vgpu_param_layout *layout, uint32_t bytes,
                       uint32_t max_threads, uint32_t max_dynamic)
{
    pthread_mutex_lock(&fake.lock);
    fake.param_count = count;
    fake.param_bytes = bytes;
    fake.max_threads = max_threads;
    fake.max_dynamic = max_dynamic;
    if (count <= 200)
        memcpy(fake.layout, layout, count * sizeof(layout[0]));
    pthread_mutex_unlock(&fake.lock);
}

void fake_set_printed(const char *text)
{
    pthread_mutex_lock(&fake.lock);
    snprintf(fake.printed, sizeof(fake.printed), "%s", text);
    pthread_mutex_unlock(&fake.lock);
}

void fake_set_init_error(int err)
{
    fake.init_error = err;
}

unsigned fake_dropped(void)
{
    return fake.dropped;
}
