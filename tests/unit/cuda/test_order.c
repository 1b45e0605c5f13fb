/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docs/cuda-calls.md C12 and C13: host callbacks, and what is held back behind them. */
#include "fake.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PTX ".version 7.0"

static sem_t entered, let_go;
static _Atomic int called;
static _Atomic int permitted;

static void wait_for_release(void *data)
{
    (void)data;
    sem_post(&entered);
    while (sem_wait(&let_go) != 0)
        ;
    called++;
}

static void ask_cuda(void *data)
{
    CUcontext context;
    (void)data;
    permitted = cuCtxGetCurrent(&context);
    called++;
}

static void note_status(CUstream stream, CUresult status, void *data)
{
    (void)stream;
    *(_Atomic int *)data = (int)status;
    called++;
}

static int setup(void **state)
{
    sem_init(&entered, 0, 0);
    sem_init(&let_go, 0, 0);
    called = 0;
    permitted = -1;
    return fake_setup_current(state);
}

static CUdeviceptr memory;
static CUstream one, two;
static unsigned from; /* requests before the test proper */

/* Two streams, memory, and a callback on the first that has begun. */
static void begin(unsigned flags)
{
    assert_ok(cuMemAlloc_v2(&memory, 4096));
    assert_ok(cuStreamCreate(&one, flags));
    assert_ok(cuStreamCreate(&two, flags));
    from = fake_count(0);
    assert_ok(cuLaunchHostFunc(one, wait_for_release, NULL));
    while (sem_wait(&entered) != 0)
        ;
}

static void end(void)
{
    assert_ok(cuStreamDestroy_v2(one));
    assert_ok(cuStreamDestroy_v2(two));
    assert_ok(cuMemFree_v2(memory));
}

/* C12: what comes after the callback waits for it, in order; other streams do not. */
static void test_holds_its_stream(void **state)
{
    (void)state;
    begin(CU_STREAM_NON_BLOCKING);
    assert_ok(cuMemsetD8Async(memory, 1, 16, one));
    assert_ok(cuMemcpyDtoDAsync_v2(memory + 64, memory, 16, one));
    assert_result(cuStreamQuery(one), CUDA_ERROR_NOT_READY);
    assert_string_equal(fake_story(from), "");
    assert_ok(cuMemsetD8Async(memory + 128, 2, 16, two));
    assert_ok(cuStreamSynchronize(two));
    assert_string_equal(fake_story(from), "memory_set stream_synchronize");
    sem_post(&let_go);
    assert_ok(cuStreamSynchronize(one));
    assert_int_equal(called, 1);
    assert_string_equal(
        fake_story(from),
        "memory_set stream_synchronize memory_set copy_on_device stream_synchronize");
    assert_int_equal(*fake_memory(memory + 64), 1);
    end();
}

/* C12: the callback comes after all work before it. */
static void test_waits_for_work(void **state)
{
    (void)state;
    CUstream stream;
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    fake_set_busy(1);
    assert_ok(cuLaunchHostFunc(stream, ask_cuda, NULL));
    while (fake_count(VGPU_CALL_STREAM_QUERY) < 3)
        ;
    assert_int_equal(called, 0);
    fake_set_busy(0);
    assert_ok(cuStreamSynchronize(stream));
    assert_int_equal(called, 1);
    assert_int_equal(permitted, CUDA_ERROR_NOT_PERMITTED); /* no CUDA calls from a callback */
    assert_ok(cuStreamDestroy_v2(stream));
}

/* C12: the legacy stream and blocking streams wait for each other. */
static void test_legacy(void **state)
{
    (void)state;
    begin(CU_STREAM_DEFAULT);
    assert_ok(cuMemsetD8_v2(memory, 1, 16));             /* legacy: after what is on `one` */
    assert_ok(cuMemsetD8Async(memory + 64, 2, 16, two)); /* blocking: after legacy */
    assert_string_equal(fake_story(from), "");
    sem_post(&let_go);
    assert_ok(cuStreamSynchronize(two));
    assert_string_equal(fake_story(from), "memory_set memory_set stream_synchronize");
    assert_int_equal(fake_last(VGPU_CALL_MEMORY_SET).in[2], 2);
    end();
}

/* C12: a wait for an event whose record is held back. */
static void test_event_between_streams(void **state)
{
    (void)state;
    CUevent event;
    assert_ok(cuEventCreate(&event, 0));
    begin(CU_STREAM_NON_BLOCKING);
    assert_ok(cuEventRecord(event, one));
    assert_result(cuEventQuery(event), CUDA_ERROR_NOT_READY);
    assert_ok(cuStreamWaitEvent(two, event, 0));
    assert_ok(cuMemsetD8Async(memory, 3, 16, two));
    assert_ok(cuEventDestroy_v2(event)); /* after what is held back about it */
    assert_string_equal(fake_story(from), "");
    sem_post(&let_go);
    assert_ok(cuCtxSynchronize());
    assert_string_equal(
        fake_story(from),
        "event_record stream_wait_event memory_set event_destroy context_synchronize");
    end();
}

/* C12: copies behind a callback: pageable memory is read before the call returns, memory of CUDA's
 * when its turn comes. */
static void test_copies(void **state)
{
    (void)state;
    uint8_t pageable[2000], back[16];
    uint8_t *pinned;
    assert_ok(cuMemAllocHost_v2((void **)&pinned, 4096));
    memset(pageable, 1, sizeof(pageable));
    memset(pinned, 1, 4096);
    memset(back, 9, sizeof(back));
    begin(CU_STREAM_NON_BLOCKING);
    assert_ok(cuMemcpyHtoDAsync_v2(memory, pageable, 2000, one));
    assert_ok(cuMemcpyHtoDAsync_v2(memory + 2048, pinned, 16, one));
    assert_ok(cuMemcpyDtoHAsync_v2(back, memory + 2048, 16, one));
    memset(pageable, 2, sizeof(pageable));
    memset(pinned, 2, 4096);
    assert_int_equal(back[0], 9);
    sem_post(&let_go);
    assert_ok(cuStreamSynchronize(one));
    assert_int_equal(*fake_memory(memory + 1999), 1);
    assert_int_equal(*fake_memory(memory + 2048), 2);
    assert_int_equal(back[15], 2);
    assert_ok(cuMemFreeHost(pinned));
    end();
}

/* C12: a stream may be destroyed with work held back on it. */
static void test_destroy(void **state)
{
    (void)state;
    begin(CU_STREAM_NON_BLOCKING);
    assert_ok(cuMemsetD8Async(memory, 1, 16, one));
    assert_ok(cuStreamDestroy_v2(one));
    assert_result(cuStreamQuery(one), CUDA_ERROR_INVALID_HANDLE);
    assert_string_equal(fake_story(from), "");
    sem_post(&let_go);
    assert_ok(cuCtxSynchronize());
    assert_string_equal(fake_story(from), "memory_set stream_destroy context_synchronize");
    one = two;
    assert_ok(cuStreamDestroy_v2(two));
    assert_ok(cuMemFree_v2(memory));
}

/* C12: after an error a host function is not called, a callback is told. */
static void test_error(void **state)
{
    (void)state;
    static _Atomic int status;
    CUstream stream;
    status = -1;
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    fake_fail(VGPU_CALL_STREAM_QUERY, CUDA_ERROR_ILLEGAL_ADDRESS, "broken", 1);
    assert_ok(cuLaunchHostFunc(stream, ask_cuda, NULL));
    /* The error may be known by now, and is what everything says then. */
    CUresult added = cuStreamAddCallback(stream, note_status, (void *)&status, 0);
    assert_true(added == CUDA_SUCCESS || added == CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_result(cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
    if (added == CUDA_SUCCESS) {
        while (called == 0)
            ;
        assert_int_equal(status, CUDA_ERROR_ILLEGAL_ADDRESS);
        assert_int_equal(called, 1);
    }
    assert_int_equal(permitted, -1);
}

/* P30: a posted call that was held back and failed is told once, by the next that reports. */
static void test_late_error(void **state)
{
    (void)state;
    begin(CU_STREAM_NON_BLOCKING);
    fake_fail(VGPU_CALL_MEMORY_SET, CUDA_ERROR_OUT_OF_MEMORY, "no", 1);
    assert_ok(cuMemsetD8Async(memory, 1, 16, one));
    sem_post(&let_go);
    assert_result(cuStreamSynchronize(one), CUDA_ERROR_OUT_OF_MEMORY);
    assert_ok(cuStreamSynchronize(one));
    end();
}

static CUcontext shared;

static void count_up(void *data)
{
    ++*(_Atomic int *)data;
}

static void *many(void *unused)
{
    (void)unused;
    _Atomic int count = 0;
    CUstream stream;
    CUdeviceptr own;
    assert_ok(cuCtxSetCurrent(shared));
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    assert_ok(cuMemAlloc_v2(&own, 256));
    for (int i = 1; i <= 200; i++) {
        uint8_t value = 0;
        assert_ok(cuMemsetD8Async(own, (unsigned char)i, 16, stream));
        assert_ok(cuLaunchHostFunc(stream, count_up, &count));
        assert_ok(cuMemcpyDtoHAsync_v2(&value, own, 1, stream));
        assert_ok(cuStreamSynchronize(stream));
        assert_int_equal(count, i);
        assert_int_equal(value, (uint8_t)i);
    }
    assert_ok(cuMemFree_v2(own));
    assert_ok(cuStreamDestroy_v2(stream));
    assert_ok(cuMemsetD8Async_ptsz(memory, 1, 1, NULL)); /* a stream that ends with its thread */
    return NULL;
}

/* C13: threads, each with a stream and callbacks. */
static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    assert_ok(cuCtxGetCurrent(&shared));
    assert_ok(cuMemAlloc_v2(&memory, 4096));
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(fake_count(VGPU_CALL_STREAM_CREATE), 8);
    assert_int_equal(fake_count(VGPU_CALL_STREAM_DESTROY), 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_holds_its_stream, setup),
        cmocka_unit_test_setup(test_waits_for_work, setup),
        cmocka_unit_test_setup(test_legacy, setup),
        cmocka_unit_test_setup(test_event_between_streams, setup),
        cmocka_unit_test_setup(test_copies, setup),
        cmocka_unit_test_setup(test_destroy, setup),
        cmocka_unit_test_setup(test_error, setup),
        cmocka_unit_test_setup(test_late_error, setup),
        cmocka_unit_test_setup(test_threads, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
