/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * docs/cuda-calls.md C7, C8, C14 to C16: images, modules, functions, libraries, launches, printf,
 * graphs and capture of the guest's libcuda.so.1.
 */
#include "fake.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char ptx[] = ".version 7.0\n.target sm_70\n";

/* ---- Images ---- */

/* C7: the four forms say how long they are. */
static void test_image_lengths(void **state)
{
    (void)state;
    const void *start;
    size_t length = 0;
    struct {
        uint32_t magic;
        uint16_t version, header;
        uint64_t bytes;
        uint8_t rest[100];
    } fatbin = {0xba55ed50u, 1, 16, 100, {0}};
    const struct {
        uint32_t magic, version;
        const void *fatbin, *more;
    } wrapper = {0x466243b1u, 1, &fatbin, NULL}, empty = {0x466243b1u, 1, NULL, NULL};
    struct {
        Elf64_Ehdr header;
        uint8_t text[10];
        uint8_t gap[6];
        Elf64_Shdr sections[3];
    } elf = {.header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB},
                        .e_shoff = sizeof(Elf64_Ehdr) + 16,
                        .e_shnum = 3,
                        .e_shentsize = sizeof(Elf64_Shdr)},
             .sections = {{0},
                          {.sh_type = SHT_PROGBITS, .sh_offset = sizeof(Elf64_Ehdr), .sh_size = 10},
                          {.sh_type = SHT_NOBITS, .sh_offset = 1u << 30, .sh_size = 1u << 30}}};
    assert_true(vgpu_image_measure(ptx, SIZE_MAX, &start, &length));
    assert_int_equal(length, sizeof(ptx) - 1);
    assert_true(vgpu_image_measure(ptx, 5, &start, &length));
    assert_int_equal(length, 5);
    assert_false(vgpu_image_measure("", SIZE_MAX, &start, &length));
    assert_true(vgpu_image_measure(&fatbin, SIZE_MAX, &start, &length));
    assert_int_equal(length, 116);
    assert_false(vgpu_image_measure(&fatbin, 115, &start, &length));
    assert_true(vgpu_image_measure(&wrapper, SIZE_MAX, &start, &length));
    assert_ptr_equal(start, &fatbin);
    assert_int_equal(length, 116);
    assert_false(vgpu_image_measure(&empty, SIZE_MAX, &start, &length));
    assert_false(vgpu_image_measure(&wrapper, sizeof(wrapper), &start, &length)); /* from a file */
    fatbin.bytes = UINT64_MAX - 4;
    assert_false(vgpu_image_measure(&fatbin, SIZE_MAX, &start, &length));
    assert_true(vgpu_image_measure(&elf, SIZE_MAX, &start, &length));
    assert_int_equal(length, sizeof(elf));
    assert_false(vgpu_image_measure(&elf, sizeof(elf) - 1, &start, &length));
    elf.sections[1].sh_size = UINT64_MAX;
    assert_false(vgpu_image_measure(&elf, SIZE_MAX, &start, &length));
    elf.sections[1].sh_size = 10;
    elf.header.e_shoff = UINT64_MAX - 8;
    assert_false(vgpu_image_measure(&elf, sizeof(elf), &start, &length));
}

/* C7: an image of any length; the log goes into the program's buffer. */
static void test_module_load(void **state)
{
    (void)state;
    CUmodule module;
    char log[16];
    assert_ok(cuModuleLoadData(&module, ptx));
    struct fake_request r = fake_last(VGPU_CALL_MODULE_LOAD);
    assert_int_equal(r.length, sizeof(ptx) - 1);
    assert_memory_equal(r.data, ptx, r.length);
    assert_ok(cuModuleUnload(module));
    assert_result(cuModuleUnload(module), CUDA_ERROR_INVALID_HANDLE);
    char *large = calloc(1, 100001);
    assert_non_null(large);
    memset(large, ' ', 100000);
    assert_ok(cuModuleLoadData(&module, large));
    assert_int_equal(fake_last(VGPU_CALL_MODULE_LOAD).staged, 100000);
    /* An answer that never came says nothing of the stage. */
    fake_fail(VGPU_CALL_MODULE_LOAD, -71 /* EPROTO */, NULL, 1);
    assert_result(cuModuleLoadData(&module, large), CUDA_ERROR_UNKNOWN);
    assert_int_equal(fake_dropped(), 1);
    free(large);
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
                              CU_JIT_OPTIMIZATION_LEVEL};
    void *values[] = {log, (void *)(uintptr_t)sizeof(log), (void *)(uintptr_t)4};
    memset(log, 'x', sizeof(log));
    fake_fail(VGPU_CALL_MODULE_LOAD, CUDA_ERROR_INVALID_PTX, "line 1: what is this supposed to be?",
              1);
    assert_result(cuModuleLoadDataEx(&module, ptx, 3, options, values), CUDA_ERROR_INVALID_PTX);
    assert_string_equal(log, "line 1: what is");
    assert_int_equal((uintptr_t)values[1], 15);
    options[2] = CU_JIT_GLOBAL_SYMBOL_NAMES;
    assert_result(cuModuleLoadDataEx(&module, ptx, 3, options, values), CUDA_ERROR_NOT_SUPPORTED);
    assert_result(cuModuleLoadDataEx(&module, ptx, 3, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuModuleLoadData(&module, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuModuleLoad(&module, "/nonexistent"), CUDA_ERROR_FILE_NOT_FOUND);
    assert_result(cuModuleLoad(&module, "/"), CUDA_ERROR_FILE_NOT_FOUND);
    char path[] = "module-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, ptx, sizeof(ptx) - 1), sizeof(ptx) - 1);
    assert_ok(cuModuleLoad(&module, path));
    unlink(path);
    close(fd);
}

/* C7: a function's handle, and what a hostile host says of it. */
static void test_functions(void **state)
{
    (void)state;
    CUmodule module, back;
    CUfunction f, again;
    const char *name;
    size_t offset, size;
    int value;
    assert_ok(cuModuleLoadData(&module, ptx));
    assert_ok(cuModuleGetFunction(&f, module, "f"));
    assert_ok(cuModuleGetFunction(&again, module, "f"));
    assert_ptr_equal(f, again);
    assert_int_equal(fake_count(VGPU_CALL_FUNCTION_GET), 1);
    assert_ok(cuFuncGetName(&name, f));
    assert_string_equal(name, "f");
    assert_ok(cuFuncGetModule(&back, f));
    assert_ptr_equal(back, module);
    assert_ok(cuFuncGetParamInfo(f, 1, &offset, &size));
    assert_int_equal(offset, 8);
    assert_int_equal(size, 4);
    assert_result(cuFuncGetParamInfo(f, 2, &offset, &size), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f));
    assert_int_equal(value, 1024);
    assert_result(cuModuleGetFunction(&f, module, ""), CUDA_ERROR_NOT_FOUND);
    fake_fail(VGPU_CALL_FUNCTION_GET, CUDA_ERROR_NOT_FOUND, "none", 1);
    assert_result(cuModuleGetFunction(&f, module, "none"), CUDA_ERROR_NOT_FOUND);
    char longest[600];
    memset(longest, 'a', sizeof(longest));
    longest[512] = 0;
    assert_ok(cuModuleGetFunction(&f, module, longest));
    longest[512] = 'a';
    longest[513] = 0;
    assert_result(cuModuleGetFunction(&f, module, longest), CUDA_ERROR_NOT_FOUND);
    /* More parameters than one answer holds. */
    struct vgpu_param_layout many[150];
    for (uint32_t i = 0; i < 150; i++)
        many[i] = (struct vgpu_param_layout){i * 8, 8};
    fake_set_function(150, many, 1200, 1024, 0);
    assert_ok(cuModuleGetFunction(&f, module, "many"));
    assert_ok(cuFuncGetParamInfo(f, 149, &offset, &size));
    assert_int_equal(offset, 149 * 8);
    /* Parameters outside their buffer, and absurd numbers of them. */
    const struct vgpu_param_layout outside[] = {{8, 8}, {UINT32_MAX, 4}};
    fake_set_function(1, outside, 12, 1024, 0);
    assert_result(cuModuleGetFunction(&f, module, "bad1"), CUDA_ERROR_UNKNOWN);
    fake_set_function(1, outside + 1, 12, 1024, 0);
    assert_result(cuModuleGetFunction(&f, module, "bad2"), CUDA_ERROR_UNKNOWN);
    uint64_t out[10] = {UINT32_MAX, 12};
    fake_answer(VGPU_CALL_FUNCTION_GET, out, sizeof(out));
    assert_result(cuModuleGetFunction(&f, module, "bad3"), CUDA_ERROR_UNKNOWN);
    CUdeviceptr global;
    assert_ok(cuModuleGetGlobal_v2(&global, &size, module, "g"));
    assert_ok(cuModuleGetGlobal_v2(&global, NULL, module, "g"));
    assert_int_equal(size, 64);
    assert_result(cuMemFree_v2(global), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemsetD8_v2(global, 0, 64));
    assert_ok(cuModuleUnload(module));
    assert_result(cuFuncLoad(again), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuMemGetAddressRange_v2(NULL, NULL, global), CUDA_ERROR_NOT_FOUND);
}

static CUfunction get_function(const char *name)
{
    CUmodule module;
    CUfunction f;
    assert_ok(cuModuleLoadData(&module, ptx));
    assert_ok(cuModuleGetFunction(&f, module, name));
    return f;
}

/* C8: a bad launch fails at once, with CUDA's own error, and nothing is sent. */
static void test_launch_checks(void **state)
{
    (void)state;
    const struct vgpu_param_layout usual[] = {{0, 8}, {8, 4}};
    fake_set_function(2, usual, 12, 512, 4096);
    CUfunction f = get_function("f");
    uint64_t a = 0x1122334455667788u;
    uint32_t b = 0x99aabbccu;
    void *params[] = {&a, &b}, *missing[] = {&a, NULL};
    unsigned before = fake_count(0);
#define LAUNCH(gx, gy, gz, bx, by, bz, shared, p, e)                                               \
    cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, NULL, p, e)
    assert_result(LAUNCH(0, 1, 1, 1, 1, 1, 0, params, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(LAUNCH(1, 1025, 1, 1, 1, 1, 0, params, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(LAUNCH(1, 1, 1, 0, 1, 1, 0, params, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(LAUNCH(1, 1, 1, 1, 1025, 1, 0, params, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(LAUNCH(1, 1, 1, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0, params, NULL),
                  CUDA_ERROR_INVALID_VALUE);
    assert_result(LAUNCH(1, 1, 1, 1024, 2, 1, 0, params, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(LAUNCH(1, 1, 1, 513, 1, 1, 0, params, NULL), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    assert_result(LAUNCH(1, 1, 1, 1, 1, 1, 4097, params, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(LAUNCH(1, 1, 1, 1, 1, 1, 0, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_result(LAUNCH(1, 1, 1, 1, 1, 1, 0, missing, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(fake_count(0), before);
    assert_ok(LAUNCH(2, 3, 4, 8, 4, 2, 4096, params, NULL));
    struct fake_request r = fake_last(VGPU_CALL_LAUNCH);
    const uint64_t want[] = {2, 3, 4, 8, 4, 2, 4096, 0, 0};
    assert_memory_equal(r.in + 2, want, sizeof(want));
    assert_int_equal(r.length, 12);
    assert_memory_equal(r.data, &a, 8);
    assert_memory_equal(r.data + 8, &b, 4);
    /* The buffer as a whole; a struct's padding at its end is no harm. */
    uint8_t buffer[16] = {1, 2, 3};
    size_t size = 16;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, buffer, CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                     CU_LAUNCH_PARAM_END};
    assert_ok(LAUNCH(1, 1, 1, 1, 1, 1, 0, NULL, extra));
    r = fake_last(VGPU_CALL_LAUNCH);
    assert_int_equal(r.length, 12);
    assert_memory_equal(r.data, buffer, 12);
    size = 11;
    assert_result(LAUNCH(1, 1, 1, 1, 1, 1, 0, NULL, extra), CUDA_ERROR_INVALID_VALUE);
    assert_result(LAUNCH(1, 1, 1, 1, 1, 1, 0, params, extra), CUDA_ERROR_INVALID_VALUE);
    extra[0] = (void *)(uintptr_t)7;
    assert_result(LAUNCH(1, 1, 1, 1, 1, 1, 0, NULL, extra), CUDA_ERROR_INVALID_VALUE);
    /* More shared memory once the function may have it. */
    assert_ok(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 8192));
    assert_ok(LAUNCH(1, 1, 1, 1, 1, 1, 8192, params, NULL));
}

/* C8: arguments that one request cannot hold go through a stage. */
static void test_large_arguments(void **state)
{
    (void)state;
    const struct vgpu_param_layout one[] = {{0, 4000}};
    static uint8_t value[4000];
    void *params[] = {value};
    fake_set_function(1, one, 4000, 1024, 0);
    CUfunction f = get_function("large");
    assert_ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
    struct fake_request r = fake_last(VGPU_CALL_LAUNCH);
    assert_int_equal(r.length, 0);
    assert_int_equal(r.staged, 4000);
}

/* C8: cooperative launches and the attributes of cuLaunchKernelEx. */
static void test_launch_attributes(void **state)
{
    (void)state;
    CUfunction f = get_function("f");
    uint64_t a = 0;
    void *params[] = {&a, &a};
    CUlaunchAttribute attribute = {.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE, .value.cooperative = 1};
    CUlaunchConfig config = {1, 1, 1, 32, 1, 1, 0, NULL, &attribute, 1};
    assert_ok(cuLaunchKernelEx(&config, f, params, NULL));
    assert_int_equal(fake_last(VGPU_CALL_LAUNCH).in[9], 1);
    /* Two blocks fit each of 1024 multiprocessors. */
    assert_ok(cuLaunchCooperativeKernel(f, 1024, 2, 1, 32, 1, 1, 0, NULL, params));
    assert_result(cuLaunchCooperativeKernel(f, 1024, 3, 1, 32, 1, 1, 0, NULL, params),
                  CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_int_equal(fake_count(VGPU_CALL_CUOCCUPANCYMAXACTIVEBLOCKSPERMULTIPROCESSORWITHFLAGS), 1);
    attribute.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attribute.value.clusterDim.x = attribute.value.clusterDim.y = attribute.value.clusterDim.z = 1;
    assert_ok(cuLaunchKernelEx(&config, f, params, NULL));
    attribute.value.clusterDim.x = 2;
    assert_result(cuLaunchKernelEx(&config, f, params, NULL), CUDA_ERROR_NOT_SUPPORTED);
    attribute.id = (CUlaunchAttributeID)13;
    assert_result(cuLaunchKernelEx(&config, f, params, NULL), CUDA_ERROR_NOT_SUPPORTED);
    /* The thread's own stream, where the configuration says NULL. */
    attribute.id = CU_LAUNCH_ATTRIBUTE_IGNORE;
    assert_ok(cuLaunchKernelEx_ptsz(&config, f, params, NULL));
    assert_int_equal(fake_last(VGPU_CALL_LAUNCH).in[1], fake_last(VGPU_CALL_STREAM_CREATE).in[0]);
    assert_ok(cuLaunchKernel_ptsz(f, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
    assert_int_equal(fake_count(VGPU_CALL_STREAM_CREATE), 1);
    /* Calls without a stream of their own, too; and no longer than the call lasts. */
    CUdeviceptr memory;
    uint64_t own = fake_last(VGPU_CALL_STREAM_CREATE).in[0];
    assert_ok(cuMemAlloc_v2(&memory, 64));
    assert_ok(cuMemsetD8_v2_ptds(memory, 1, 64));
    assert_int_equal(fake_last(VGPU_CALL_MEMORY_SET).in[6], own);
    assert_ok(cuMemsetD8_v2(memory, 1, 64));
    assert_int_equal(fake_last(VGPU_CALL_MEMORY_SET).in[6], 0);
    assert_ok(cuMemFree_v2(memory));
}

/* C7: a library is loaded where it is used, and a kernel does where a function does. */
static void test_library(void **state)
{
    (void)state;
    CUlibrary library;
    CUkernel kernel;
    CUfunction f;
    CUcontext first, second;
    uint64_t a = 0;
    void *params[] = {&a, &a};
    char image[sizeof(ptx)];
    memcpy(image, ptx, sizeof(ptx));
    assert_ok(cuCtxGetCurrent(&first));
    assert_ok(cuLibraryLoadData(&library, image, NULL, NULL, 0, NULL, NULL, 0));
    memset(image, 'x', sizeof(image)); /* the library has a copy */
    assert_ok(cuLibraryGetKernel(&kernel, library, "k"));
    assert_int_equal(fake_count(VGPU_CALL_MODULE_LOAD), 1);
    assert_ok(cuLaunchKernel((CUfunction)(void *)kernel, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
    assert_ok(cuCtxCreate_v2(&second, 0, 0));
    assert_ok(cuLaunchKernel((CUfunction)(void *)kernel, 1, 1, 1, 1, 1, 1, 0, NULL, params, NULL));
    assert_int_equal(fake_count(VGPU_CALL_MODULE_LOAD), 2);
    struct fake_request r = fake_last(VGPU_CALL_MODULE_LOAD);
    assert_memory_equal(r.data, ptx, sizeof(ptx) - 1);
    assert_ok(cuKernelGetFunction(&f, kernel));
    assert_ok(cuCtxDestroy_v2(second));
    assert_ok(cuCtxSetCurrent(first));
    assert_result(cuFuncLoad(f), CUDA_ERROR_INVALID_HANDLE);
    assert_ok(cuKernelGetFunction(&f, kernel));
    assert_ok(cuLibraryUnload(library));
    assert_int_equal(fake_count(VGPU_CALL_MODULE_UNLOAD), 1);
    assert_result(cuFuncLoad(f), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuKernelGetFunction(&f, kernel), CUDA_ERROR_INVALID_HANDLE);
    assert_result(cuLibraryUnload(library), CUDA_ERROR_INVALID_HANDLE);
}

/* C14: what kernels print comes out with the next synchronization, if a module can print. */
static void test_printf(void **state)
{
    (void)state;
    CUmodule module;
    char text[2001], back[2001];
    assert_ok(cuCtxSynchronize());
    assert_int_equal(fake_count(VGPU_CALL_PRINTF_READ), 0);
    assert_ok(cuModuleLoadData(&module, ".extern .func vprintf"));
    for (int i = 0; i < 2000; i++)
        text[i] = (char)('a' + i % 26);
    text[2000] = 0;
    fake_set_printed(text);
    char path[] = "printed-XXXXXX";
    int fd = mkstemp(path), out = dup(1);
    assert_true(fd >= 0 && out >= 0);
    fflush(stdout);
    dup2(fd, 1);
    CUresult result = cuCtxSynchronize();
    fflush(stdout);
    dup2(out, 1);
    assert_ok(result);
    assert_int_equal(pread(fd, back, sizeof(back), 0), 2000);
    assert_memory_equal(back, text, 2000);
    unlink(path);
    close(fd);
    close(out);
    assert_ok(cuModuleUnload(module));
    unsigned before = fake_count(VGPU_CALL_PRINTF_READ);
    assert_ok(cuCtxSynchronize());
    assert_int_equal(fake_count(VGPU_CALL_PRINTF_READ), before);
}

/* ---- Graphs ---- */

static int host_calls;

static void count_host_call(void *data)
{
    (void)data;
    host_calls++;
}

/* C15: built by hand, in an order that is not the order of adding; launched again and again. */
static void test_graph(void **state)
{
    (void)state;
    CUgraph graph, clone;
    CUgraphExec exec;
    CUgraphNode set, copy, kernel, host, found[8];
    CUgraphNodeType type;
    CUcontext context;
    CUdeviceptr memory;
    CUstream stream;
    size_t n = 0;
    uint64_t a = 5;
    void *params[] = {&a, &a};
    CUfunction f = get_function("f");
    assert_ok(cuCtxGetCurrent(&context));
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    assert_ok(cuMemAlloc_v2(&memory, 4096));
    assert_ok(cuGraphCreate(&graph, 0));
    CUDA_KERNEL_NODE_PARAMS k = {f, 1, 1, 1, 32, 1, 1, 0, params, NULL, NULL, NULL};
    assert_ok(cuGraphAddKernelNode_v2(&kernel, graph, NULL, 0, &k));
    CUDA_MEMSET_NODE_PARAMS s = {memory, 0, 7, 1, 64, 1};
    assert_ok(cuGraphAddMemsetNode(&set, graph, NULL, 0, &s, context));
    CUDA_MEMCPY3D c = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                       .srcDevice = memory,
                       .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                       .dstDevice = memory + 1024,
                       .WidthInBytes = 64,
                       .Height = 1,
                       .Depth = 1};
    assert_ok(cuGraphAddMemcpyNode(&copy, graph, &set, 1, &c, context));
    CUDA_HOST_NODE_PARAMS h = {count_host_call, NULL};
    assert_ok(cuGraphAddHostNode(&host, graph, &kernel, 1, &h));
    assert_ok(
        cuGraphAddDependencies(graph, &copy, &kernel, 1)); /* the kernel, added first, is third */
    assert_ok(cuGraphGetNodes(graph, NULL, &n));
    assert_int_equal(n, 4);
    n = 8;
    assert_ok(cuGraphGetEdges(graph, found, found + 4, &n));
    assert_int_equal(n, 3);
    assert_ok(cuGraphNodeGetType(copy, &type));
    assert_int_equal(type, CU_GRAPH_NODE_TYPE_MEMCPY);
    assert_ok(cuGraphClone(&clone, graph));
    assert_ok(cuGraphInstantiateWithFlags(&exec, clone, 0));
    assert_ok(cuGraphDestroy(clone)); /* the executable does not need it */
    a = 99;                           /* nor the arguments as they are now */
    for (int i = 1; i <= 2; i++) {
        unsigned from = fake_count(0);
        assert_ok(cuGraphLaunch(exec, stream));
        assert_ok(cuStreamSynchronize(stream));
        assert_string_equal(fake_story(from),
                            "memory_set copy_on_device launch stream_synchronize");
        assert_int_equal(host_calls, i);
        assert_int_equal(fake_last(VGPU_CALL_LAUNCH).data[0], 5);
    }
    /* A circle. */
    CUgraphExec none;
    assert_ok(cuGraphAddDependencies(graph, &host, &set, 1));
    assert_result(cuGraphInstantiateWithFlags(&none, graph, 0), CUDA_ERROR_INVALID_VALUE);
    assert_result(cuGraphAddEmptyNode(&set, clone, NULL, 0), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuGraphDestroy(graph));
    assert_result(cuGraphNodeGetType(copy, &type), CUDA_ERROR_INVALID_VALUE);
    /* A kernel that is gone. */
    CUmodule module;
    assert_ok(cuFuncGetModule(&module, f));
    assert_ok(cuModuleUnload(module));
    assert_result(cuGraphLaunch(exec, stream), CUDA_ERROR_INVALID_HANDLE);
    assert_ok(cuGraphExecDestroy(exec));
    assert_result(cuGraphLaunch(exec, stream), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(memory));
}

/* C15: nodes asked about and changed, in the graph and in what was made of it. */
static void test_graph_nodes(void **state)
{
    (void)state;
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode set, copy, host, got[4];
    CUcontext context;
    CUdeviceptr memory;
    CUstream stream;
    size_t n = 4;
    assert_ok(cuCtxGetCurrent(&context));
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    assert_ok(cuMemAlloc_v2(&memory, 4096));
    assert_ok(cuGraphCreate(&graph, 0));
    CUDA_MEMSET_NODE_PARAMS s = {memory, 0, 7, 1, 64, 1}, s_back;
    CUDA_MEMCPY3D c = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                       .srcDevice = memory,
                       .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                       .dstDevice = memory + 1024,
                       .WidthInBytes = 64,
                       .Height = 1,
                       .Depth = 1},
                  c_back;
    CUDA_HOST_NODE_PARAMS h = {count_host_call, NULL}, h_back;
    assert_ok(cuGraphAddMemsetNode(&set, graph, NULL, 0, &s, context));
    assert_ok(cuGraphAddMemcpyNode(&copy, graph, &set, 1, &c, context));
    assert_ok(cuGraphAddHostNode(&host, graph, &copy, 1, &h));
    assert_ok(cuGraphGetRootNodes(graph, got, &n));
    assert_int_equal(n, 1);
    assert_ptr_equal(got[0], set);
    assert_null(got[1]);
    n = 4;
    assert_ok(cuGraphNodeGetDependencies(copy, got, &n));
    assert_true(n == 1 && got[0] == set);
    CUgraphEdgeData edges[4];
    memset(edges, 1, sizeof(edges));
    n = 4;
    assert_ok(cuGraphNodeGetDependentNodes_v2(copy, got, edges, &n));
    assert_true(n == 1 && got[0] == host && edges[0].type == 0);
    assert_ok(cuGraphMemsetNodeGetParams(set, &s_back));
    assert_true(s_back.dst == memory && s_back.value == 7 && s_back.width == 64);
    assert_ok(cuGraphMemcpyNodeGetParams(copy, &c_back));
    assert_true(c_back.dstDevice == memory + 1024 && c_back.srcMemoryType == CU_MEMORYTYPE_DEVICE);
    assert_ok(cuGraphMemcpyNodeSetParams(copy, &c_back)); /* what one says the other takes */
    assert_ok(cuGraphHostNodeGetParams(host, &h_back));
    assert_true(h_back.fn == count_host_call);
    assert_result(cuGraphHostNodeGetParams(copy, &h_back), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuGraphInstantiateWithFlags(&exec, graph, 0));
    s.value = 9;
    assert_ok(cuGraphMemsetNodeSetParams(set, &s));
    assert_ok(cuGraphLaunch(exec, stream));
    assert_int_equal(fake_last(VGPU_CALL_MEMORY_SET).in[2], 7); /* the executable has its own */
    s.value = 11;
    assert_ok(cuGraphExecMemsetNodeSetParams(exec, set, &s, context));
    c.WidthInBytes = 32;
    assert_ok(cuGraphExecMemcpyNodeSetParams(exec, copy, &c, context));
    assert_ok(cuGraphExecHostNodeSetParams(exec, host, &h));
    assert_result(cuGraphExecHostNodeSetParams(exec, copy, &h), CUDA_ERROR_INVALID_VALUE);
    s.width = 8192;
    assert_result(cuGraphExecMemsetNodeSetParams(exec, set, &s, context), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuGraphLaunch(exec, stream));
    assert_ok(cuStreamSynchronize(stream));
    assert_int_equal(fake_last(VGPU_CALL_MEMORY_SET).in[2], 11);
    assert_int_equal(fake_last(VGPU_CALL_COPY_ON_DEVICE).in[2], 32);
    assert_result(cuGraphRemoveDependencies(graph, &set, &host, 1), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuGraphRemoveDependencies(graph, &copy, &host, 1));
    assert_ok(cuGraphDestroyNode(copy));
    assert_result(cuGraphDestroyNode(copy), CUDA_ERROR_INVALID_VALUE);
    n = 4;
    assert_ok(cuGraphGetNodes(graph, got, &n));
    assert_true(n == 2 && got[0] == set && got[1] == host);
    assert_ok(cuGraphDestroyNode(set));
    assert_ok(cuGraphDestroyNode(host));
    assert_ok(cuGraphAddEmptyNode(&set, graph, NULL, 0));
    assert_ok(cuGraphDestroy(graph));
    assert_ok(cuGraphExecDestroy(exec));
    assert_ok(cuMemFree_v2(memory));
}

/* C16: capture over two streams; update of an executable. */
static void test_capture(void **state)
{
    (void)state;
    CUgraph graph, other;
    CUgraphExec exec;
    CUstream one, two;
    CUevent fork_, join_;
    CUdeviceptr memory;
    CUstreamCaptureStatus status;
    CUgraphExecUpdateResultInfo info;
    uint64_t a = 1;
    void *params[] = {&a, &a};
    size_t n;
    CUfunction f = get_function("f");
    assert_ok(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
    assert_ok(cuStreamCreate(&two, CU_STREAM_NON_BLOCKING));
    assert_ok(cuEventCreate(&fork_, 0));
    assert_ok(cuEventCreate(&join_, 0));
    assert_ok(cuMemAlloc_v2(&memory, 4096));
    unsigned from = fake_count(0);
    assert_result(cuStreamEndCapture(one, &graph), CUDA_ERROR_ILLEGAL_STATE);
    assert_result(cuStreamBeginCapture_v2(NULL, CU_STREAM_CAPTURE_MODE_GLOBAL),
                  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    for (int round = 0; round < 2; round++) {
        a = (uint64_t)round + 1;
        assert_ok(cuStreamBeginCapture_v2(one, CU_STREAM_CAPTURE_MODE_GLOBAL));
        assert_result(cuStreamBeginCapture_v2(one, CU_STREAM_CAPTURE_MODE_GLOBAL),
                      CUDA_ERROR_ILLEGAL_STATE);
        assert_ok(cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, one, params, NULL));
        assert_ok(cuEventRecord(fork_, one));
        assert_ok(cuStreamWaitEvent(two, fork_, 0));
        assert_ok(cuStreamIsCapturing(two, &status));
        assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
        assert_ok(cuMemsetD8Async(memory, 1, 16, two));
        assert_ok(cuMemsetD8Async(memory + 64, 2, 16, one));
        assert_ok(cuEventRecord(join_, two));
        assert_ok(cuStreamWaitEvent(one, join_, 0));
        assert_ok(cuMemcpyDtoDAsync_v2(memory + 128, memory, 16, one));
        assert_result(cuEventQuery(join_), CUDA_ERROR_CAPTURED_EVENT);
        assert_ok(cuStreamEndCapture(one, round ? &other : &graph));
        assert_ok(cuStreamIsCapturing(two, &status));
        assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_NONE);
    }
    assert_int_equal(fake_count(0), from); /* nothing was done yet */
    assert_ok(cuGraphGetEdges(graph, NULL, NULL, &n));
    assert_int_equal(n, 4);
    assert_ok(cuGraphInstantiateWithFlags(&exec, graph, 0));
    assert_ok(cuGraphLaunch(exec, two));
    assert_string_equal(fake_story(from), "launch memory_set memory_set copy_on_device");
    assert_int_equal(fake_last(VGPU_CALL_LAUNCH).data[0], 1);
    assert_ok(cuGraphExecUpdate_v2(exec, other, &info));
    assert_int_equal(info.result, CU_GRAPH_EXEC_UPDATE_SUCCESS);
    assert_ok(cuGraphLaunch(exec, one));
    assert_int_equal(fake_last(VGPU_CALL_LAUNCH).data[0], 2);
    CUgraphNode empty;
    assert_ok(cuGraphAddEmptyNode(&empty, other, NULL, 0));
    assert_result(cuGraphExecUpdate_v2(exec, other, &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
    assert_int_equal(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
    assert_ok(cuGraphLaunch(exec, one)); /* as it was */
    assert_ok(cuGraphExecDestroy(exec));
    assert_ok(cuGraphDestroy(graph));
    assert_ok(cuGraphDestroy(other));
}

/* C16: what makes a capture invalid. */
static void test_capture_errors(void **state)
{
    (void)state;
    CUgraph graph = NULL;
    CUstream one, two;
    CUevent event, before;
    CUdeviceptr memory;
    assert_ok(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
    assert_ok(cuStreamCreate(&two, CU_STREAM_NON_BLOCKING));
    assert_ok(cuEventCreate(&event, 0));
    assert_ok(cuEventCreate(&before, 0));
    assert_ok(cuMemAlloc_v2(&memory, 64));
    assert_ok(cuEventRecord(before, two));
    assert_ok(cuStreamBeginCapture_v2(one, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_result(cuStreamSynchronize(one), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_result(cuMemsetD8Async(memory, 1, 1, one), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_result(cuStreamEndCapture(one, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_null(graph);
    assert_ok(cuMemsetD8Async(memory, 1, 1, one));
    assert_ok(cuStreamBeginCapture_v2(one, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_result(cuStreamWaitEvent(one, before, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    assert_result(cuStreamEndCapture(one, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_ok(cuStreamBeginCapture_v2(CU_STREAM_PER_THREAD, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_result(cuMemcpyDtoD_v2_ptds(memory, memory + 32, 8),
                  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_result(cuStreamEndCapture(CU_STREAM_PER_THREAD, &graph),
                  CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    /* A stream that joined and was not waited for. */
    assert_ok(cuStreamBeginCapture_v2(one, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_ok(cuEventRecord(event, one));
    assert_ok(cuStreamWaitEvent(two, event, 0));
    assert_ok(cuMemsetD8Async(memory, 1, 1, two));
    assert_result(cuStreamEndCapture(two, &graph), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    assert_result(cuStreamEndCapture(one, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_ok(cuStreamBeginCapture_v2(one, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_ok(cuEventRecord(event, one));
    assert_ok(cuStreamWaitEvent(two, event, 0));
    assert_ok(cuMemsetD8Async(memory, 1, 1, two));
    assert_result(cuStreamEndCapture(one, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    /* Streams and contexts that end in the midst of one. */
    assert_ok(cuStreamBeginCapture_v2(one, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_ok(cuMemsetD8Async(memory, 1, 1, one));
    assert_ok(cuEventRecord(event, one));
    assert_ok(cuStreamWaitEvent(two, event, 0));
    assert_ok(cuStreamDestroy_v2(one));
    assert_ok(cuMemsetD8Async(memory, 1, 1, two));
    assert_ok(cuStreamBeginCapture_v2(two, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_ok(cuMemsetD8Async(memory, 1, 1, two));
    assert_ok(cuDevicePrimaryCtxReset_v2(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image_lengths),
        cmocka_unit_test_setup(test_module_load, fake_setup_current),
        cmocka_unit_test_setup(test_functions, fake_setup_current),
        cmocka_unit_test_setup(test_launch_checks, fake_setup_current),
        cmocka_unit_test_setup(test_large_arguments, fake_setup_current),
        cmocka_unit_test_setup(test_launch_attributes, fake_setup_current),
        cmocka_unit_test_setup(test_library, fake_setup_current),
        cmocka_unit_test_setup(test_printf, fake_setup_current),
        cmocka_unit_test_setup(test_graph, fake_setup_current),
        cmocka_unit_test_setup(test_graph_nodes, fake_setup_current),
        cmocka_unit_test_setup(test_capture, fake_setup_current),
        cmocka_unit_test_setup(test_capture_errors, fake_setup_current),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
