/* SPDX-License-Identifier: MIT */
/*
 * Executable graphs. Instantiating a graph puts its nodes in an order that fits; launching sends
 * them in that order on one stream, which keeps every promise of the graph but that branches may
 * overlap.
 */
#include <stdlib.h>

#include "guest/cuda/graph.h"

struct step {
    struct vgpu_work work;
    uint64_t node;   /* name of the node it was made of */
    unsigned *after; /* steps it comes after, ascending */
    unsigned after_count;
};

struct vgpu_exec {
    struct vgpu_object base;
    struct step *steps;
    unsigned count;
};
_Static_assert(sizeof(struct vgpu_exec) <= VGPU_OBJECT_BYTES, "place");

static void free_steps(struct step *steps, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        vgpu_work_free(&steps[i].work);
        free(steps[i].after);
    }
    free(steps);
}

static void free_exec(struct vgpu_object *object)
{
    struct vgpu_exec *exec = (struct vgpu_exec *)object;
    free_steps(exec->steps, exec->count);
}

static int by_number(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return x < y ? -1 : x > y;
}

#define NOT_PLACED UINT32_MAX

/* Whether all that a node comes after has its place. */
static bool is_next(const struct vgpu_node *node)
{
    for (unsigned i = 0; i < node->after_count; i++)
        if (node->after[i]->index == NOT_PLACED)
            return false;
    return true;
}

static CUresult make_step(const struct vgpu_node *node, struct step *step)
{
    step->node = node->base.name;
    step->work.type = CU_GRAPH_NODE_TYPE_EMPTY;
    step->after = calloc(node->after_count + 1u, sizeof(step->after[0]));
    if (!step->after)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (unsigned i = 0; i < node->after_count; i++)
        step->after[i] = node->after[i]->index;
    step->after_count = node->after_count;
    qsort(step->after, step->after_count, sizeof(step->after[0]), by_number);
    return vgpu_work_copy(&node->work, &step->work);
}

/*
 * Rounds over what is left, in the order of adding: a graph built in order, as nearly all are,
 * takes one. A round that places nothing has met a circle.
 */
static CUresult make_steps(struct vgpu_graph *graph, struct step **result)
{
    struct step *steps = calloc(graph->count + 1u, sizeof(steps[0]));
    if (!steps)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (struct vgpu_node *node = graph->first; node; node = node->next)
        node->index = NOT_PLACED;
    CUresult err = CUDA_SUCCESS;
    unsigned n = 0;
    while (n < graph->count && err == CUDA_SUCCESS) {
        unsigned before = n;
        for (struct vgpu_node *node = graph->first; node && err == CUDA_SUCCESS;
             node = node->next) {
            if (node->index != NOT_PLACED || !is_next(node))
                continue;
            err = make_step(node, &steps[n]);
            node->index = n++; /* also of a step that failed: it is freed with the others */
        }
        if (n == before && err == CUDA_SUCCESS)
            err = CUDA_ERROR_INVALID_VALUE;
    }
    if (err != CUDA_SUCCESS) {
        free_steps(steps, n);
        return err;
    }
    *result = steps;
    return CUDA_SUCCESS;
}

#define INSTANTIATE_DEVICE_LAUNCH 4u
#define INSTANTIATE_FLAGS         15u

CUresult cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph,
                                     unsigned long long flags)
{
    struct vgpu_graph *graph;
    struct step *steps = NULL;
    CUresult result = vgpu_graph_find(hGraph, &graph);
    if (result != CUDA_SUCCESS)
        return result;
    if (!phGraphExec || (flags & ~(unsigned long long)INSTANTIATE_FLAGS))
        return CUDA_ERROR_INVALID_VALUE;
    if (flags & INSTANTIATE_DEVICE_LAUNCH)
        return vgpu_cuda_not_supported("a graph that the device launches");
    struct vgpu_exec *exec = vgpu_object_new(VGPU_KIND_GRAPH_EXEC, NULL);
    if (!exec)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&vgpu_graph_lock);
    result = make_steps(graph, &steps);
    exec->steps = steps;
    exec->count = steps ? graph->count : 0;
    exec->base.finish = free_exec;
    pthread_mutex_unlock(&vgpu_graph_lock);
    if (result != CUDA_SUCCESS) {
        vgpu_object_free(&exec->base);
        return result;
    }
    *phGraphExec = (CUgraphExec)exec;
    return CUDA_SUCCESS;
}

static CUresult find_exec(CUgraphExec handle, struct vgpu_exec **exec)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    *exec = vgpu_object_find(handle, VGPU_KIND_GRAPH_EXEC);
    return *exec ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphExecDestroy(CUgraphExec hGraphExec)
{
    struct vgpu_exec *exec;
    CUresult result = find_exec(hGraphExec, &exec);
    if (result == CUDA_SUCCESS)
        vgpu_object_free(&exec->base);
    return result;
}

/* What a step needs may have gone since the graph was made. */
static bool is_alive(const struct vgpu_work *work)
{
    const struct vgpu_place *places[] = {&work->copy.to, &work->copy.from};
    if (work->type == CU_GRAPH_NODE_TYPE_KERNEL) {
        const struct vgpu_function_object *function =
            vgpu_object_find(work->launch.function, VGPU_KIND_FUNCTION);
        return function && function->base.name == work->function_name;
    }
    for (int i = 0; work->type == CU_GRAPH_NODE_TYPE_MEMCPY && i < 2; i++)
        if (places[i]->type == VGPU_PLACE_ARRAY &&
            !vgpu_object_find(places[i]->array, VGPU_KIND_ARRAY))
            return false;
    return true;
}

static CUresult run_step(struct vgpu_stream *stream, const struct vgpu_work *work)
{
    CUresult result;
    if (!is_alive(work))
        return CUDA_ERROR_INVALID_HANDLE;
    switch ((int)work->type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
        if (work->launch.function->base.context != stream->base.context)
            return CUDA_ERROR_INVALID_HANDLE;
        if (vgpu_capture_launch(stream, &work->launch, &result))
            return result;
        return vgpu_launch_send(stream, &work->launch);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
        return vgpu_copy_run(stream, &work->copy, true);
    case CU_GRAPH_NODE_TYPE_MEMSET:
        return vgpu_set_run(stream, &work->set);
    case CU_GRAPH_NODE_TYPE_HOST:
        if (vgpu_capture_host(stream, work->host.fn, work->host.userData, &result))
            return result;
        return vgpu_order_callback(stream, work->host.fn, NULL, NULL, work->host.userData);
    default:
        return CUDA_SUCCESS;
    }
}

CUresult cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream)
{
    struct vgpu_exec *exec;
    struct vgpu_stream *stream;
    CUresult result = find_exec(hGraphExec, &exec);
    if (result == CUDA_SUCCESS)
        result = vgpu_stream_find(hStream, &stream);
    for (unsigned i = 0; result == CUDA_SUCCESS && i < exec->count; i++)
        result = run_step(stream, &exec->steps[i].work);
    return result;
}

/* There is nothing to upload; the handles have to be good all the same. */
CUresult cuGraphUpload(CUgraphExec hGraphExec, CUstream hStream)
{
    struct vgpu_exec *exec;
    struct vgpu_stream *stream;
    CUresult result = find_exec(hGraphExec, &exec);
    return result == CUDA_SUCCESS ? vgpu_stream_find(hStream, &stream) : result;
}

/* Puts another work in the place of a node's; takes `work` over, also on failure. */
static CUresult replace_step(CUgraphExec exec_handle, CUgraphNode node_handle,
                             struct vgpu_work *work)
{
    struct vgpu_exec *exec;
    struct vgpu_node *node;
    CUresult result = find_exec(exec_handle, &exec);
    if (result == CUDA_SUCCESS)
        result = vgpu_node_find(node_handle, &node);
    for (unsigned i = 0; result == CUDA_SUCCESS && i < exec->count; i++) {
        struct step *step = &exec->steps[i];
        if (step->node != node->base.name || step->work.type != work->type)
            continue;
        vgpu_work_free(&step->work);
        step->work = *work;
        return CUDA_SUCCESS;
    }
    vgpu_work_free(work);
    return result == CUDA_SUCCESS ? CUDA_ERROR_INVALID_VALUE : result;
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
    struct vgpu_work work;
    CUresult result = vgpu_work_of_params(nodeParams, &work);
    return result == CUDA_SUCCESS ? replace_step(hGraphExec, hNode, &work) : result;
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                        const CUDA_MEMCPY3D *copyParams, CUcontext ctx)
{
    struct vgpu_context *context;
    struct vgpu_work work;
    CUresult result = vgpu_context_find(ctx, &context);
    if (result == CUDA_SUCCESS)
        result = vgpu_work_of_copy(copyParams, &work);
    return result == CUDA_SUCCESS ? replace_step(hGraphExec, hNode, &work) : result;
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                        const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx)
{
    struct vgpu_context *context;
    struct vgpu_work work;
    CUresult result = vgpu_context_find(ctx, &context);
    if (result == CUDA_SUCCESS)
        result = vgpu_work_of_set(memsetParams, &work);
    return result == CUDA_SUCCESS ? replace_step(hGraphExec, hNode, &work) : result;
}

CUresult cuGraphExecHostNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                      const CUDA_HOST_NODE_PARAMS *nodeParams)
{
    struct vgpu_work work;
    CUresult result = vgpu_work_of_host(nodeParams, &work);
    return result == CUDA_SUCCESS ? replace_step(hGraphExec, hNode, &work) : result;
}

static CUgraphExecUpdateResult compare(const struct vgpu_exec *exec, const struct step *steps,
                                       unsigned count, unsigned *where)
{
    if (exec->count != count)
        return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    for (unsigned i = 0; i < count; i++) {
        const struct step *old = &exec->steps[i], *new = &steps[i];
        *where = i;
        if (old->work.type != new->work.type)
            return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
        if (old->after_count != new->after_count ||
            memcmp(old->after, new->after, old->after_count * sizeof(old->after[0])) != 0)
            return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    }
    return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph,
                              CUgraphExecUpdateResultInfo *resultInfo)
{
    struct vgpu_exec *exec;
    struct vgpu_graph *graph;
    struct step *steps;
    unsigned where = 0;
    CUresult result = find_exec(hGraphExec, &exec);
    if (result == CUDA_SUCCESS)
        result = vgpu_graph_find(hGraph, &graph);
    if (result != CUDA_SUCCESS)
        return result;
    if (!resultInfo)
        return CUDA_ERROR_INVALID_VALUE;
    *resultInfo = (CUgraphExecUpdateResultInfo){.result = CU_GRAPH_EXEC_UPDATE_SUCCESS};
    pthread_mutex_lock(&vgpu_graph_lock);
    result = make_steps(graph, &steps);
    if (result == CUDA_SUCCESS) {
        resultInfo->result = compare(exec, steps, graph->count, &where);
        if (resultInfo->result == CU_GRAPH_EXEC_UPDATE_SUCCESS) {
            /* The steps keep the names of the nodes that the executable was made of. */
            for (unsigned i = 0; i < exec->count; i++)
                steps[i].node = exec->steps[i].node;
            struct step *old = exec->steps;
            exec->steps = steps;
            free_steps(old, exec->count);
        } else {
            for (const struct vgpu_node *node = graph->first; node; node = node->next)
                if (node->index == where && exec->count == graph->count)
                    resultInfo->errorNode = (CUgraphNode)(node);
            free_steps(steps, graph->count);
            result = CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
        }
    }
    pthread_mutex_unlock(&vgpu_graph_lock);
    return result;
}
