/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * docs/cuda-calls.md C1 to C6: cuInit, the device, contexts and handles of the guest's
 * libcuda.so.1, and what errors of the library below and malformed answers of the host become.
 */
#include "fake.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* C1: nothing before cuInit; the version may be asked for. */
static void test_before_init(void **state)
{
    (void)state;
    int count, version = 0;
    CUcontext context;
    const char *text;
    assert_result(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
    assert_result(cuCtxGetCurrent(&context), CUDA_ERROR_NOT_INITIALIZED);
    assert_result(cuMemFree_v2(1), CUDA_ERROR_NOT_INITIALIZED);
    assert_ok(cuGetErrorName(CUDA_ERROR_NOT_FOUND, &text));
    assert_string_equal(text, "CUDA_ERROR_NOT_FOUND");
    assert_result(cuGetErrorString((CUresult)12345, &text), CUDA_ERROR_INVALID_VALUE);
    assert_null(text);
    assert_ok(cuDriverGetVersion(&version));
    assert_int_equal(version, 12040);
    assert_result(cuInit(1), CUDA_ERROR_INVALID_VALUE);
}

/* C1: without a device, or anybody behind it, there is none; a later attempt is a new one. */
static void test_init_fails(void **state)
{
    (void)state;
    int version = 0;
    const struct {
        int err;
        CUresult result;
    } cases[] = {{-ENODEV, CUDA_ERROR_NO_DEVICE},       {-ENOLINK, CUDA_ERROR_NO_DEVICE},
                 {-ECONNREFUSED, CUDA_ERROR_NO_DEVICE}, {-EACCES, CUDA_ERROR_NOT_PERMITTED},
                 {-ENOMEM, CUDA_ERROR_OUT_OF_MEMORY},   {-EBADMSG, CUDA_ERROR_UNKNOWN}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_set_init_error(cases[i].err);
        assert_result(cuInit(0), cases[i].result);
        assert_ok(cuDriverGetVersion(&version));
        assert_int_equal(version, VGPU_CUDA_VERSION);
    }
    fake_set_init_error(0);
    fake_fail(VGPU_CALL_DRIVER_VERSION, -EOPNOTSUPP, NULL, 1);
    assert_result(cuInit(0), CUDA_ERROR_NOT_SUPPORTED);
    fake_answer(VGPU_CALL_DEVICE_ATTRIBUTES, "1234", 4); /* too few to be a device */
    assert_result(cuInit(0), CUDA_ERROR_UNKNOWN);
    assert_ok(cuInit(0));
    assert_ok(cuInit(0));
}

/* C2: the device is answered here; what the library does not do is not there. */
static void test_device(void **state)
{
    (void)state;
    int value, major, minor, count;
    size_t bytes;
    char name[32], bus[32];
    CUdevice device;
    CUuuid uuid;
    unsigned before = fake_count(0);
    assert_ok(cuDeviceGetCount(&count));
    assert_int_equal(count, 1);
    assert_ok(cuDeviceGet(&device, 0));
    assert_result(cuDeviceGet(&device, 1), CUDA_ERROR_INVALID_DEVICE);
    assert_result(cuDeviceGetName(name, 0, 0), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuDeviceGetName(name, 5, 0));
    assert_string_equal(name, "fake");
    assert_ok(cuDeviceGetUuid_v2(&uuid, 0));
    assert_int_equal(uuid.bytes[2], 3);
    assert_ok(cuDeviceTotalMem_v2(&bytes, 0));
    assert_int_equal(bytes, FAKE_BYTES);
    assert_ok(cuDeviceComputeCapability(&major, &minor, 0));
    assert_int_equal(major * 10 + minor, 75);
    assert_ok(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0));
    assert_int_equal(value, 32);
    assert_ok(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 0));
    assert_int_equal(value, 0);
    assert_ok(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 0));
    assert_int_equal(value, 0);
    assert_ok(cuDeviceGetAttribute(&value, (CUdevice_attribute)250, 0)); /* the host said 200 */
    assert_int_equal(value, 0);
    assert_result(cuDeviceGetAttribute(&value, (CUdevice_attribute)0, 0), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuDeviceGetAttribute(&value, (CUdevice_attribute)100000, 0),
                  CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuDeviceGetPCIBusId(bus, sizeof(bus), 0));
    assert_int_equal(strlen(bus), 12);
    assert_ok(cuDeviceGetByPCIBusId(&device, bus));
    assert_ok(cuDeviceGetByPCIBusId(&device, bus + 5));
    assert_result(cuDeviceGetByPCIBusId(&device, "1234:00:00.0"), CUDA_ERROR_INVALID_DEVICE);
    assert_int_equal(fake_count(0), before);
}

static void *other_thread(void *context)
{
    CUcontext current = context;
    assert_ok(cuCtxGetCurrent(&current));
    assert_null(current); /* each thread has a stack of its own */
    assert_result(cuCtxSynchronize(), CUDA_ERROR_INVALID_CONTEXT);
    assert_ok(cuCtxSetCurrent(context));
    assert_ok(cuCtxSynchronize());
    return NULL;
}

/* C3: the stack of contexts. */
static void test_context_stack(void **state)
{
    (void)state;
    CUcontext primary, own, current;
    CUdevice device;
    assert_result(cuCtxGetDevice(&device), CUDA_ERROR_INVALID_CONTEXT);
    assert_result(cuCtxPopCurrent_v2(&current), CUDA_ERROR_INVALID_CONTEXT);
    assert_ok(cuDevicePrimaryCtxRetain(&primary, 0));
    assert_ok(cuCtxGetCurrent(&current));
    assert_null(current);
    assert_ok(cuCtxPushCurrent_v2(primary));
    assert_ok(cuCtxCreate_v2(&own, CU_CTX_SCHED_BLOCKING_SYNC, 0));
    assert_ok(cuCtxGetCurrent(&current));
    assert_ptr_equal(current, own);
    unsigned flags;
    assert_ok(cuCtxGetFlags(&flags));
    assert_int_equal(flags, CU_CTX_SCHED_BLOCKING_SYNC);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, other_thread, primary), 0);
    pthread_join(thread, NULL);
    assert_ok(cuCtxSetCurrent(primary)); /* takes the top's place */
    assert_ok(cuCtxPopCurrent_v2(&current));
    assert_ptr_equal(current, primary);
    assert_ok(cuCtxGetCurrent(&current));
    assert_ptr_equal(current, primary);
    assert_ok(cuCtxSetCurrent(NULL));
    assert_ok(cuCtxPushCurrent_v2(own));
    assert_ok(cuCtxDestroy_v2(own)); /* and is current no more */
    assert_ok(cuCtxGetCurrent(&current));
    assert_null(current);
    assert_result(cuCtxSetCurrent(own), CUDA_ERROR_INVALID_CONTEXT);
    assert_result(cuCtxDestroy_v2(primary), CUDA_ERROR_INVALID_CONTEXT);
    assert_result(cuCtxPushCurrent_v2((CUcontext)&current), CUDA_ERROR_INVALID_CONTEXT);
    assert_result(cuCtxCreate_v2(&own, 3, 0), CUDA_ERROR_INVALID_VALUE);
    fake_fail(VGPU_CALL_CONTEXT_CREATE, CUDA_ERROR_OUT_OF_MEMORY, "full", 1);
    assert_result(cuCtxCreate_v2(&own, 0, 0), CUDA_ERROR_OUT_OF_MEMORY);
    assert_ok(cuCtxGetCurrent(&current));
    assert_null(current);
}

/* C3: references of the primary context; what was in it is gone with it. */
static void test_primary(void **state)
{
    (void)state;
    CUcontext one, two;
    CUstream stream;
    CUdeviceptr memory;
    unsigned flags;
    int active = 1;
    assert_ok(cuDevicePrimaryCtxGetState(0, &flags, &active));
    assert_int_equal(active, 0);
    assert_result(cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
    assert_ok(cuDevicePrimaryCtxSetFlags_v2(0, CU_CTX_SCHED_YIELD));
    assert_ok(cuDevicePrimaryCtxRetain(&one, 0));
    assert_ok(cuDevicePrimaryCtxRetain(&two, 0));
    assert_ptr_equal(one, two);
    assert_int_equal(fake_count(VGPU_CALL_PRIMARY_RETAIN), 1);
    assert_int_equal(fake_last(VGPU_CALL_PRIMARY_RETAIN).in[1], CU_CTX_SCHED_YIELD);
    assert_result(cuDevicePrimaryCtxSetFlags_v2(0, 0), CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE);
    assert_ok(cuCtxSetCurrent(one));
    assert_ok(cuStreamCreate(&stream, 0));
    assert_ok(cuMemAlloc_v2(&memory, 100));
    uint64_t name = fake_last(VGPU_CALL_PRIMARY_RETAIN).in[0];
    assert_ok(cuDevicePrimaryCtxRelease_v2(0));
    assert_ok(cuStreamQuery(stream));
    assert_ok(cuDevicePrimaryCtxRelease_v2(0));
    assert_int_equal(fake_last(VGPU_CALL_CONTEXT_DESTROY).in[0], name);
    assert_result(cuStreamQuery(stream), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    assert_ok(cuDevicePrimaryCtxRetain(&one, 0));
    assert_ptr_equal(one, two); /* one handle, but another context on the host */
    assert_int_not_equal(fake_last(VGPU_CALL_PRIMARY_RETAIN).in[0], name);
    assert_result(cuStreamQuery(stream), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuMemFree_v2(memory), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuDevicePrimaryCtxSetFlags_v2(0, CU_CTX_SCHED_YIELD));
    assert_ok(cuDevicePrimaryCtxReset_v2(0));
    assert_result(cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
    assert_ok(cuDevicePrimaryCtxSetFlags_v2(0, 0));
}

/* C4: handles that are none, stale, or of another kind are refused, not followed. */
static void test_handles(void **state)
{
    (void)state;
    CUevent event, other;
    CUstream stream;
    char array[700];
    assert_ok(cuEventCreate(&event, 0));
    assert_ok(cuStreamCreate(&stream, 0));
    assert_result(cuEventQuery((CUevent)stream), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuStreamQuery((CUstream)event), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuEventQuery(NULL), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuEventQuery((CUevent)(uintptr_t)0x10), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuEventQuery((CUevent)UINTPTR_MAX), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuEventQuery((CUevent)((char *)event + 1)), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuEventQuery((CUevent)(void *)array), CUDA_ERROR_INVALID_HANDLE);
    assert_ok(cuEventDestroy_v2(event));
    assert_result(cuEventDestroy_v2(event), CUDA_ERROR_INVALID_HANDLE);
    for (int i = 0; i < 3000; i++) { /* its place is not used again soon */
        assert_ok(cuEventCreate(&other, 0));
        assert_ptr_not_equal(other, event);
        assert_ok(cuEventDestroy_v2(other));
    }
    assert_ok(cuStreamDestroy_v2(stream));
    assert_result(cuStreamDestroy_v2(stream), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuStreamDestroy_v2(NULL), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuModuleUnload((CUmodule)stream), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuFuncLoad((CUfunction)stream), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuGraphDestroy((CUgraph)stream), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuArrayDestroy((CUarray)stream), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuMemPoolDestroy((CUmemoryPool)stream), CUDA_ERROR_INVALID_HANDLE);
}

/* C4: 10^5 handles, and no name twice. */
static void test_many_handles(void **state)
{
    (void)state;
    enum { MANY = 60000 };
    CUevent *events = malloc(MANY * sizeof(events[0]));
    assert_non_null(events);
    uint64_t last = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            assert_ok(cuEventCreate(&events[i], CU_EVENT_DISABLE_TIMING));
            uint64_t name = ((struct vgpu_object *)(void *)events[i])->name;
            assert_true(name > last);
            last = name;
        }
        for (int i = 0; round == 0 && i < MANY; i++)
            vgpu_object_free((struct vgpu_object *)(void *)events[i]);
    }
    free(events);
}

/* C5: errors of the library below. Those after which nothing is known of the session last. */
static void test_errors_below(void **state)
{
    (void)state;
    const struct {
        int err;
        CUresult result;
        bool lasts;
    } cases[] = {{-EPROTO, CUDA_ERROR_UNKNOWN, false},
                 {-EBADMSG, CUDA_ERROR_UNKNOWN, false},
                 {-ENOMEM, CUDA_ERROR_OUT_OF_MEMORY, false},
                 {-EOPNOTSUPP, CUDA_ERROR_NOT_SUPPORTED, false},
                 {-ESTALE, CUDA_ERROR_DEVICE_UNAVAILABLE, true},
                 {-ENOLINK, CUDA_ERROR_DEVICE_UNAVAILABLE, true},
                 {-ENODEV, CUDA_ERROR_NO_DEVICE, true},
                 {-EACCES, CUDA_ERROR_NOT_PERMITTED, true}};
    CUcontext current;
    size_t free_bytes, total;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_setup_current(NULL);
        fake_fail(VGPU_CALL_CUMEMGETINFO_V2, cases[i].err, NULL, 1);
        assert_result(cuMemGetInfo_v2(&free_bytes, &total), cases[i].result);
        assert_result(cuMemGetInfo_v2(&free_bytes, &total),
                      cases[i].lasts ? cases[i].result : CUDA_SUCCESS);
        assert_ok(cuCtxGetCurrent(&current));
    }
}

/* P16: a sticky error ends everything but what is answered here. */
static void test_sticky(void **state)
{
    (void)state;
    CUdeviceptr memory;
    const CUresult sticky[] = {CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_LAUNCH_TIMEOUT,
                               CUDA_ERROR_LAUNCH_FAILED, CUDA_ERROR_MISALIGNED_ADDRESS,
                               CUDA_ERROR_ILLEGAL_INSTRUCTION};
    for (size_t i = 0; i < sizeof(sticky) / sizeof(sticky[0]); i++) {
        fake_setup_current(NULL);
        fake_fail(VGPU_CALL_CONTEXT_SYNCHRONIZE, sticky[i], "it broke", 1);
        assert_result(cuCtxSynchronize(), sticky[i]);
        unsigned before = fake_count(0);
        assert_result(cuMemAlloc_v2(&memory, 1), sticky[i]);
        assert_result(cuCtxSynchronize(), sticky[i]);
        assert_int_equal(fake_count(0), before);
    }
    fake_setup_current(NULL);
    fake_fail(VGPU_CALL_CONTEXT_SYNCHRONIZE, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "told once", 1);
    assert_result(cuCtxSynchronize(), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    assert_ok(cuCtxSynchronize());
}

/* C5: a time-out of ours is no answer: asked again, as long as the device has not given it up. */
static void test_waits_for_ever(void **state)
{
    (void)state;
    fake_fail(VGPU_CALL_CONTEXT_SYNCHRONIZE, -ETIMEDOUT, NULL, 5);
    assert_ok(cuCtxSynchronize());
    assert_int_equal(fake_count(VGPU_CALL_CONTEXT_SYNCHRONIZE), 6);
    fake_fail(VGPU_CALL_CONTEXT_SYNCHRONIZE, -EAGAIN, NULL, 3);
    assert_ok(cuCtxSynchronize());
}

/* C5: answers that are too short or too long, for every call that has one. */
static void test_malformed_answers(void **state)
{
    (void)state;
    static const uint8_t bytes[1024] = {1};
    unsigned tried = 0;
    for (uint32_t opcode = VGPU_OP_CALL_FIRST; opcode <= VGPU_OP_CALL_LAST; opcode++) {
        const struct vgpu_call_info *info = vgpu_call_info(opcode);
        if (!info)
            continue;
        uint64_t in[VGPU_CALL_SLOTS_MAX] = {0}, out[VGPU_CALL_SLOTS_MAX];
        uint8_t fill[64];
        uint32_t length = 0, slots = 8u * info->out_count;
        bool fills = info->fill_bytes != 0;
        const uint32_t wrong[] = {0, slots ? slots - 1 : 0, slots / 2, slots + (fills ? 65 : 1),
                                  900};
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
            bool fits = wrong[i] >= slots && wrong[i] <= slots + (fills ? sizeof(fill) : 0);
            fake_answer(opcode, bytes, wrong[i]);
            CUresult result = vgpu_cuda_exchange(opcode, 1, in, NULL, 0, out, fills ? fill : NULL,
                                                 fills ? sizeof(fill) : 0, &length);
            assert_result(result, fits ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN);
            tried += !fits;
        }
    }
    assert_true(tried > 100);
}

/* C6: cuGetProcAddress. */
static void test_proc_address(void **state)
{
    (void)state;
    void *found = NULL;
    CUdriverProcAddressQueryResult status;
    assert_ok(cuGetProcAddress_v2("cuMemAlloc", &found, 12000, 0, &status));
    assert_int_equal(status, CU_GET_PROC_ADDRESS_SUCCESS);
    assert_ptr_equal(found, (void *)(uintptr_t)cuMemAlloc_v2);
    assert_ok(cuGetProcAddress_v2("cuCtxCreate", &found, 11030, 0, &status));
    assert_ptr_equal(found, (void *)(uintptr_t)cuCtxCreate_v2);
    assert_ok(cuGetProcAddress_v2("cuCtxCreate", &found, 12000, 0, &status));
    assert_ptr_equal(found, (void *)(uintptr_t)cuCtxCreate_v3);
    assert_ok(cuGetProcAddress_v2("cuCtxCreate", &found, 13000, 0, &status));
    assert_ptr_equal(found, (void *)(uintptr_t)cuCtxCreate_v4);
    assert_ok(cuGetProcAddress_v2("cuLaunchKernel", &found, 12000,
                                  CU_GET_PROC_ADDRESS_LEGACY_STREAM, NULL));
    assert_ptr_equal(found, (void *)(uintptr_t)cuLaunchKernel);
    assert_ok(cuGetProcAddress_v2("cuLaunchKernel", &found, 12000,
                                  CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, NULL));
    assert_ptr_equal(found, (void *)(uintptr_t)cuLaunchKernel_ptsz);
    assert_ok(cuGetProcAddress_v2("cuMemcpyHtoD", &found, 12000,
                                  CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, NULL));
    assert_ptr_equal(found, (void *)(uintptr_t)cuMemcpyHtoD_v2_ptds);
    assert_ok(cuGetProcAddress_v2("cuLibraryLoadData", &found, 11080, 0, &status));
    assert_null(found);
    assert_int_equal(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    assert_ok(cuGetProcAddress_v2("cuNoSuchThing", &found, 12000, 0, &status));
    assert_null(found);
    assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    assert_result(cuGetProcAddress("cuNoSuchThing", &found, 12000, 0), CUDA_ERROR_NOT_FOUND);
    assert_result(cuGetProcAddress_v2("cuInit", &found, 12000, 3, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuGetProcAddress_v2("cuInit", &found, 99000, 0, NULL), CUDA_ERROR_INVALID_VALUE);
    /* What is not supported is there, and says so. */
    assert_ok(cuGetProcAddress_v2("cuMemAllocManaged", &found, 12000, 0, &status));
    CUresult (*managed)(void);
    memcpy(&managed, &found, sizeof(managed));
    assert_result(managed(), CUDA_ERROR_NOT_SUPPORTED);
}

/* C1: a child of fork has nothing of its parent's. Last: it makes this process look forked to
 * nobody. */
static void test_fork(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        CUcontext context;
        _exit(cuCtxGetCurrent(&context) == CUDA_ERROR_NOT_INITIALIZED &&
                      cuInit(0) == CUDA_ERROR_NOT_INITIALIZED &&
                      cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED
                  ? 0
                  : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_ok(cuCtxSynchronize());
}

static int setup_init(void **state)
{
    fake_setup(state);
    return cuInit(0) == CUDA_SUCCESS ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_before_init, fake_setup),
        cmocka_unit_test_setup(test_init_fails, fake_setup),
        cmocka_unit_test_setup(test_device, setup_init),
        cmocka_unit_test_setup(test_context_stack, setup_init),
        cmocka_unit_test_setup(test_primary, setup_init),
        cmocka_unit_test_setup(test_handles, fake_setup_current),
        cmocka_unit_test_setup(test_many_handles, fake_setup_current),
        cmocka_unit_test(test_errors_below),
        cmocka_unit_test(test_sticky),
        cmocka_unit_test_setup(test_waits_for_ever, fake_setup_current),
        cmocka_unit_test_setup(test_malformed_answers, fake_setup_current),
        cmocka_unit_test_setup(test_proc_address, fake_setup),
        cmocka_unit_test_setup(test_fork, fake_setup_current),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
