/* SPDX-License-Identifier: MIT */
/* Graphs: kept here, as nodes and what each comes after. graph_exec.c runs them. */
#include <stdlib.h>

#include "guest/cuda/graph.h"

#define NODES_MAX 65536u /* of a graph */

pthread_mutex_t vgpu_graph_lock = PTHREAD_MUTEX_INITIALIZER;

_Static_assert(sizeof(struct vgpu_graph) <= VGPU_OBJECT_BYTES, "place");
_Static_assert(sizeof(struct vgpu_node) <= VGPU_OBJECT_BYTES, "place");

/* ---- Work ---- */

void vgpu_work_free(struct vgpu_work *work)
{
    if (work->type != CU_GRAPH_NODE_TYPE_KERNEL)
        return;
    free(work->launch.arguments);
    free(work->params);
    work->launch.arguments = NULL;
    work->params = NULL;
}

CUresult vgpu_work_of_launch(const struct vgpu_kernel_launch *launch, struct vgpu_work *work)
{
    const struct vgpu_function_object *function = launch->function;
    *work = (struct vgpu_work){.type = CU_GRAPH_NODE_TYPE_KERNEL, .launch = *launch};
    work->function_name = function->base.name;
    work->launch.own = NULL;
    work->launch.arguments = malloc(launch->argument_bytes + 1u);
    work->params = calloc(function->param_count + 1u, sizeof(work->params[0]));
    if (!work->launch.arguments || !work->params) {
        vgpu_work_free(work);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (launch->argument_bytes)
        memcpy(work->launch.arguments, launch->arguments, launch->argument_bytes);
    for (uint32_t i = 0; i < function->param_count; i++)
        work->params[i] = work->launch.arguments + function->layout[i].offset;
    return CUDA_SUCCESS;
}

CUresult vgpu_work_copy(const struct vgpu_work *from, struct vgpu_work *to)
{
    if (from->type == CU_GRAPH_NODE_TYPE_KERNEL) {
        const struct vgpu_function_object *function =
            vgpu_object_find(from->launch.function, VGPU_KIND_FUNCTION);
        to->type = CU_GRAPH_NODE_TYPE_EMPTY;
        if (!function || function->base.name != from->function_name)
            return CUDA_ERROR_INVALID_HANDLE;
        return vgpu_work_of_launch(&from->launch, to);
    }
    *to = *from;
    return CUDA_SUCCESS;
}

/* ---- Graphs and nodes ---- */

static void free_node(struct vgpu_object *object)
{
    struct vgpu_node *node = (struct vgpu_node *)object;
    vgpu_work_free(&node->work);
    free(node->after);
}

struct vgpu_graph *vgpu_graph_new(void)
{
    return vgpu_object_new(VGPU_KIND_GRAPH, NULL);
}

void vgpu_graph_free(struct vgpu_graph *graph)
{
    while (graph->first) {
        struct vgpu_node *node = graph->first;
        graph->first = node->next;
        vgpu_object_free(&node->base);
    }
    vgpu_object_free(&graph->base);
}

static struct vgpu_node *node_of(CUgraphNode handle)
{
    return vgpu_object_find(handle, VGPU_KIND_GRAPH_NODE);
}

CUresult vgpu_graph_add(struct vgpu_graph *graph, struct vgpu_node *const *after, unsigned count,
                        struct vgpu_work *work, struct vgpu_node **result)
{
    struct vgpu_node *node =
        graph->count < NODES_MAX ? vgpu_object_new(VGPU_KIND_GRAPH_NODE, NULL) : NULL;
    struct vgpu_node **own = node ? calloc(count + 1u, sizeof(own[0])) : NULL;
    if (!own) {
        if (node)
            vgpu_object_free(&node->base);
        vgpu_work_free(work);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (count)
        memcpy(own, after, count * sizeof(own[0]));
    node->base.finish = free_node;
    node->graph = graph;
    node->after = own;
    node->after_count = count;
    node->work = *work;
    if (graph->last)
        graph->last->next = node;
    else
        graph->first = node;
    graph->last = node;
    graph->count++;
    *result = node;
    return CUDA_SUCCESS;
}

CUresult vgpu_graph_find(CUgraph handle, struct vgpu_graph **graph)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    *graph = vgpu_object_find(handle, VGPU_KIND_GRAPH);
    return *graph ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Adds a node the program describes; takes over `work`. */
static CUresult add_node(CUgraphNode *result, CUgraph handle, const CUgraphNode *dependencies,
                         size_t count, struct vgpu_work *work)
{
    struct vgpu_graph *graph;
    struct vgpu_node *node, **after = NULL;
    CUresult err = vgpu_graph_find(handle, &graph);
    if (err == CUDA_SUCCESS && (!result || count > NODES_MAX || (count && !dependencies)))
        err = CUDA_ERROR_INVALID_VALUE;
    if (err == CUDA_SUCCESS) {
        after = calloc(count + 1, sizeof(after[0]));
        err = after ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (err != CUDA_SUCCESS) {
        vgpu_work_free(work);
        free(after);
        return err;
    }
    pthread_mutex_lock(&vgpu_graph_lock);
    for (size_t i = 0; i < count && err == CUDA_SUCCESS; i++) {
        after[i] = node_of(dependencies[i]);
        if (!after[i] || after[i]->graph != graph)
            err = CUDA_ERROR_INVALID_VALUE;
    }
    if (err == CUDA_SUCCESS)
        err = vgpu_graph_add(graph, after, (unsigned)count, work, &node);
    else
        vgpu_work_free(work);
    if (err == CUDA_SUCCESS)
        *result = (CUgraphNode)(node);
    pthread_mutex_unlock(&vgpu_graph_lock);
    free(after);
    return err;
}

CUresult cuGraphCreate(CUgraph *phGraph, unsigned int flags)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    if (!phGraph || flags)
        return CUDA_ERROR_INVALID_VALUE;
    struct vgpu_graph *graph = vgpu_graph_new();
    if (!graph)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *phGraph = (CUgraph)graph;
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph hGraph)
{
    struct vgpu_graph *graph;
    CUresult result = vgpu_graph_find(hGraph, &graph);
    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&vgpu_graph_lock);
    if (graph->captured)
        result = CUDA_ERROR_ILLEGAL_STATE;
    else
        vgpu_graph_free(graph);
    pthread_mutex_unlock(&vgpu_graph_lock);
    return result;
}

CUresult cuGraphAddEmptyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                             const CUgraphNode *dependencies, size_t numDependencies)
{
    struct vgpu_work work = {.type = CU_GRAPH_NODE_TYPE_EMPTY};
    return add_node(phGraphNode, hGraph, dependencies, numDependencies, &work);
}

/* A kernel node's parameters as a work. */
CUresult vgpu_work_of_params(const CUDA_KERNEL_NODE_PARAMS *p, struct vgpu_work *work)
{
    if (!p)
        return CUDA_ERROR_INVALID_VALUE;
    struct vgpu_kernel_launch launch = {.grid = {p->gridDimX, p->gridDimY, p->gridDimZ},
                                        .block = {p->blockDimX, p->blockDimY, p->blockDimZ},
                                        .shared_bytes = p->sharedMemBytes};
    uint8_t scratch[VGPU_LAUNCH_SCRATCH_BYTES];
    void *handle = p->func ? (void *)p->func : (void *)p->kern;
    CUresult result = vgpu_function_find((CUfunction)handle, &launch.function);
    if (result == CUDA_SUCCESS)
        result = vgpu_launch_prepare(&launch, p->kernelParams, p->extra, scratch);
    if (result == CUDA_SUCCESS)
        result = vgpu_work_of_launch(&launch, work);
    free(launch.own);
    return result;
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph,
                                 const CUgraphNode *dependencies, size_t numDependencies,
                                 const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
    struct vgpu_work work;
    CUresult result = vgpu_work_of_params(nodeParams, &work);
    return result == CUDA_SUCCESS
               ? add_node(phGraphNode, hGraph, dependencies, numDependencies, &work)
               : result;
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                              const CUgraphNode *dependencies, size_t numDependencies,
                              const CUDA_MEMCPY3D *copyParams, CUcontext ctx)
{
    struct vgpu_context *context;
    struct vgpu_work work;
    CUresult result = vgpu_context_find(ctx, &context);
    if (result == CUDA_SUCCESS)
        result = vgpu_work_of_copy(copyParams, &work);
    return result == CUDA_SUCCESS
               ? add_node(phGraphNode, hGraph, dependencies, numDependencies, &work)
               : result;
}

CUresult cuGraphAddMemsetNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                              const CUgraphNode *dependencies, size_t numDependencies,
                              const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx)
{
    struct vgpu_context *context;
    struct vgpu_work work;
    CUresult result = vgpu_context_find(ctx, &context);
    if (result == CUDA_SUCCESS)
        result = vgpu_work_of_set(memsetParams, &work);
    return result == CUDA_SUCCESS
               ? add_node(phGraphNode, hGraph, dependencies, numDependencies, &work)
               : result;
}

CUresult cuGraphAddHostNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                            const CUgraphNode *dependencies, size_t numDependencies,
                            const CUDA_HOST_NODE_PARAMS *nodeParams)
{
    struct vgpu_work work;
    CUresult result = vgpu_work_of_host(nodeParams, &work);
    return result == CUDA_SUCCESS
               ? add_node(phGraphNode, hGraph, dependencies, numDependencies, &work)
               : result;
}

CUresult cuGraphAddDependencies(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                size_t numDependencies)
{
    struct vgpu_graph *graph;
    CUresult result = vgpu_graph_find(hGraph, &graph);
    if (result != CUDA_SUCCESS)
        return result;
    if (numDependencies && (!from || !to))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&vgpu_graph_lock);
    for (size_t i = 0; i < numDependencies && result == CUDA_SUCCESS; i++) {
        struct vgpu_node *first = node_of(from[i]), *then = node_of(to[i]);
        if (!first || !then || first->graph != graph || then->graph != graph || first == then) {
            result = CUDA_ERROR_INVALID_VALUE;
            break;
        }
        struct vgpu_node **after =
            realloc(then->after, (then->after_count + 2u) * sizeof(after[0]));
        if (!after) {
            result = CUDA_ERROR_OUT_OF_MEMORY;
            break;
        }
        after[then->after_count++] = first;
        then->after = after;
    }
    pthread_mutex_unlock(&vgpu_graph_lock);
    return result;
}

/* Edges that carry data order nothing else, and what they say more is refused. */
CUresult cuGraphAddDependencies_v2(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                   const CUgraphEdgeData *edgeData, size_t numDependencies)
{
    for (size_t i = 0; edgeData && i < numDependencies; i++)
        if (edgeData[i].from_port || edgeData[i].to_port || edgeData[i].type)
            return vgpu_cuda_not_supported("an edge with ports");
    return cuGraphAddDependencies(hGraph, from, to, numDependencies);
}

CUresult cuGraphGetNodes(CUgraph hGraph, CUgraphNode *nodes, size_t *numNodes)
{
    struct vgpu_graph *graph;
    CUresult result = vgpu_graph_find(hGraph, &graph);
    if (result != CUDA_SUCCESS)
        return result;
    if (!numNodes)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&vgpu_graph_lock);
    size_t room = nodes ? *numNodes : 0, n = 0;
    for (const struct vgpu_node *node = graph->first; node && n < room; node = node->next)
        nodes[n++] = (CUgraphNode)(node);
    *numNodes = nodes ? n : graph->count;
    for (; n < room; n++)
        nodes[n] = NULL;
    pthread_mutex_unlock(&vgpu_graph_lock);
    return CUDA_SUCCESS;
}

CUresult cuGraphGetEdges(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to, size_t *numEdges)
{
    struct vgpu_graph *graph;
    CUresult result = vgpu_graph_find(hGraph, &graph);
    if (result != CUDA_SUCCESS)
        return result;
    if (!numEdges || (!from) != (!to))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&vgpu_graph_lock);
    size_t room = from ? *numEdges : 0, n = 0;
    for (const struct vgpu_node *node = graph->first; node; node = node->next) {
        for (unsigned i = 0; i < node->after_count; i++, n++) {
            if (n < room) {
                from[n] = (CUgraphNode)(node->after[i]);
                to[n] = (CUgraphNode)(node);
            }
        }
    }
    *numEdges = from && room < n ? room : n;
    pthread_mutex_unlock(&vgpu_graph_lock);
    return CUDA_SUCCESS;
}

CUresult cuGraphGetEdges_v2(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to,
                            CUgraphEdgeData *edgeData, size_t *numEdges)
{
    CUresult result = cuGraphGetEdges(hGraph, from, to, numEdges);
    if (result == CUDA_SUCCESS && edgeData && from)
        memset(edgeData, 0, *numEdges * sizeof(edgeData[0]));
    return result;
}

CUresult vgpu_node_find(CUgraphNode handle, struct vgpu_node **node)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    *node = node_of(handle);
    return *node ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphNodeGetType(CUgraphNode hNode, CUgraphNodeType *type)
{
    struct vgpu_node *node;
    CUresult result = vgpu_node_find(hNode, &node);
    if (result == CUDA_SUCCESS && !type)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *type = node->work.type;
    return result;
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
    struct vgpu_node *node;
    CUresult result = vgpu_node_find(hNode, &node);
    if (result != CUDA_SUCCESS)
        return result;
    if (!nodeParams || node->work.type != CU_GRAPH_NODE_TYPE_KERNEL)
        return CUDA_ERROR_INVALID_VALUE;
    const struct vgpu_kernel_launch *l = &node->work.launch;
    *nodeParams = (CUDA_KERNEL_NODE_PARAMS){.func = (CUfunction)l->function,
                                            .gridDimX = l->grid[0],
                                            .gridDimY = l->grid[1],
                                            .gridDimZ = l->grid[2],
                                            .blockDimX = l->block[0],
                                            .blockDimY = l->block[1],
                                            .blockDimZ = l->block[2],
                                            .sharedMemBytes = l->shared_bytes,
                                            .kernelParams = node->work.params};
    return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS *nodeParams)
{
    struct vgpu_node *node;
    struct vgpu_work work;
    CUresult result = vgpu_node_find(hNode, &node);
    if (result != CUDA_SUCCESS)
        return result;
    if (node->work.type != CU_GRAPH_NODE_TYPE_KERNEL)
        return CUDA_ERROR_INVALID_VALUE;
    result = vgpu_work_of_params(nodeParams, &work);
    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&vgpu_graph_lock);
    vgpu_work_free(&node->work);
    node->work = work;
    pthread_mutex_unlock(&vgpu_graph_lock);
    return CUDA_SUCCESS;
}

CUresult cuGraphClone(CUgraph *phGraphClone, CUgraph originalGraph)
{
    struct vgpu_graph *graph, *clone;
    CUresult result = vgpu_graph_find(originalGraph, &graph);
    if (result != CUDA_SUCCESS)
        return result;
    if (!phGraphClone)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&vgpu_graph_lock);
    struct vgpu_node **made = calloc(graph->count + 1u, sizeof(made[0]));
    clone = made ? vgpu_graph_new() : NULL;
    if (!clone)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    unsigned n = 0;
    for (struct vgpu_node *node = graph->first; node && result == CUDA_SUCCESS; node = node->next) {
        struct vgpu_work work;
        node->index = n;
        result = vgpu_work_copy(&node->work, &work);
        if (result == CUDA_SUCCESS)
            result = vgpu_graph_add(clone, NULL, 0, &work, &made[n++]);
    }
    /* Second, since a node may come after one that was added later. */
    n = 0;
    for (struct vgpu_node *node = graph->first; node && result == CUDA_SUCCESS;
         node = node->next, n++) {
        free(made[n]->after);
        made[n]->after = calloc(node->after_count + 1u, sizeof(made[0]));
        if (!made[n]->after) {
            result = CUDA_ERROR_OUT_OF_MEMORY;
            break;
        }
        for (unsigned i = 0; i < node->after_count; i++)
            made[n]->after[i] = made[node->after[i]->index];
        made[n]->after_count = node->after_count;
    }
    if (result != CUDA_SUCCESS && clone)
        vgpu_graph_free(clone);
    pthread_mutex_unlock(&vgpu_graph_lock);
    free(made);
    if (result == CUDA_SUCCESS)
        *phGraphClone = (CUgraph)clone;
    return result;
}
