/* SPDX-License-Identifier: MIT */
/* Questions about a graph's nodes, and changes to them; executables change in graph_exec.c. */
#include <stdlib.h>

#include "guest/cuda/graph.h"

/* ---- Edges ---- */

/* Fills a program's list with the nodes that `wanted` says yes to; the protocol of all such calls:
 * without a list the number, with one as many as fit and NULL for the rest. */
static CUresult list_nodes(const struct vgpu_graph *graph, const struct vgpu_node *node,
                           bool (*wanted)(const struct vgpu_node *candidate,
                                          const struct vgpu_node *node),
                           CUgraphNode *nodes, size_t *count)
{
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&vgpu_graph_lock);
    size_t room = nodes ? *count : 0, n = 0;
    for (const struct vgpu_node *at = graph->first; at; at = at->next) {
        if (!wanted(at, node))
            continue;
        if (n < room)
            nodes[n] = (CUgraphNode)(uintptr_t)at;
        n++;
    }
    *count = nodes && room < n ? room : n;
    for (; n < room; n++)
        nodes[n] = NULL;
    pthread_mutex_unlock(&vgpu_graph_lock);
    return CUDA_SUCCESS;
}

static bool is_after(const struct vgpu_node *later, const struct vgpu_node *earlier)
{
    for (unsigned i = 0; i < later->after_count; i++)
        if (later->after[i] == earlier)
            return true;
    return false;
}

static bool is_before(const struct vgpu_node *earlier, const struct vgpu_node *later)
{
    return is_after(later, earlier);
}

static bool is_root(const struct vgpu_node *candidate, const struct vgpu_node *unused)
{
    (void)unused;
    return candidate->after_count == 0;
}

CUresult cuGraphGetRootNodes(CUgraph hGraph, CUgraphNode *rootNodes, size_t *numRootNodes)
{
    struct vgpu_graph *graph;
    CUresult result = vgpu_graph_find(hGraph, &graph);
    return result == CUDA_SUCCESS ? list_nodes(graph, NULL, is_root, rootNodes, numRootNodes)
                                  : result;
}

CUresult cuGraphNodeGetDependencies(CUgraphNode hNode, CUgraphNode *dependencies,
                                    size_t *numDependencies)
{
    struct vgpu_node *node;
    CUresult result = vgpu_node_find(hNode, &node);
    return result == CUDA_SUCCESS
               ? list_nodes(node->graph, node, is_before, dependencies, numDependencies)
               : result;
}

CUresult cuGraphNodeGetDependentNodes(CUgraphNode hNode, CUgraphNode *dependentNodes,
                                      size_t *numDependentNodes)
{
    struct vgpu_node *node;
    CUresult result = vgpu_node_find(hNode, &node);
    return result == CUDA_SUCCESS
               ? list_nodes(node->graph, node, is_after, dependentNodes, numDependentNodes)
               : result;
}

/* Edges carry no data here. */
static CUresult clear_edges(CUresult result, CUgraphEdgeData *edges, const void *list,
                            const size_t *count)
{
    if (result == CUDA_SUCCESS && edges && list)
        memset(edges, 0, *count * sizeof(edges[0]));
    return result;
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode hNode, CUgraphNode *dependencies,
                                       CUgraphEdgeData *edgeData, size_t *numDependencies)
{
    return clear_edges(cuGraphNodeGetDependencies(hNode, dependencies, numDependencies), edgeData,
                       dependencies, numDependencies);
}

CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode hNode, CUgraphNode *dependentNodes,
                                         CUgraphEdgeData *edgeData, size_t *numDependentNodes)
{
    return clear_edges(cuGraphNodeGetDependentNodes(hNode, dependentNodes, numDependentNodes),
                       edgeData, dependentNodes, numDependentNodes);
}

/* Takes one edge out; false: there is none. */
static bool remove_edge(struct vgpu_node *then, const struct vgpu_node *first)
{
    for (unsigned i = 0; i < then->after_count; i++) {
        if (then->after[i] == first) {
            then->after[i] = then->after[--then->after_count];
            return true;
        }
    }
    return false;
}

CUresult cuGraphRemoveDependencies(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                   size_t numDependencies)
{
    struct vgpu_graph *graph;
    CUresult result = vgpu_graph_find(hGraph, &graph);
    if (result == CUDA_SUCCESS && numDependencies && (!from || !to))
        result = CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < numDependencies && result == CUDA_SUCCESS; i++) {
        struct vgpu_node *first, *then;
        result = vgpu_node_find(from[i], &first);
        if (result == CUDA_SUCCESS)
            result = vgpu_node_find(to[i], &then);
        if (result != CUDA_SUCCESS)
            break;
        pthread_mutex_lock(&vgpu_graph_lock);
        if (then->graph != graph || !remove_edge(then, first))
            result = CUDA_ERROR_INVALID_VALUE;
        pthread_mutex_unlock(&vgpu_graph_lock);
    }
    return result;
}

CUresult cuGraphRemoveDependencies_v2(CUgraph hGraph, const CUgraphNode *from,
                                      const CUgraphNode *to, const CUgraphEdgeData *edgeData,
                                      size_t numDependencies)
{
    for (size_t i = 0; edgeData && i < numDependencies; i++)
        if (edgeData[i].from_port || edgeData[i].to_port || edgeData[i].type)
            return CUDA_ERROR_INVALID_VALUE; /* there is no such edge */
    return cuGraphRemoveDependencies(hGraph, from, to, numDependencies);
}

CUresult cuGraphDestroyNode(CUgraphNode hNode)
{
    struct vgpu_node *node;
    CUresult result = vgpu_node_find(hNode, &node);
    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&vgpu_graph_lock);
    struct vgpu_graph *graph = node->graph;
    if (graph->captured) { /* what the capture goes on with may be this one */
        pthread_mutex_unlock(&vgpu_graph_lock);
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    struct vgpu_node *previous = NULL;
    for (struct vgpu_node *at = graph->first; at; at = at->next) {
        while (remove_edge(at, node))
            ;
        if (at->next == node)
            previous = at;
    }
    if (previous)
        previous->next = node->next;
    else
        graph->first = node->next;
    if (graph->last == node)
        graph->last = previous;
    graph->count--;
    vgpu_object_free(&node->base);
    pthread_mutex_unlock(&vgpu_graph_lock);
    return CUDA_SUCCESS;
}

/* ---- Parameters ---- */

CUresult vgpu_work_of_copy(const CUDA_MEMCPY3D *params, struct vgpu_work *work)
{
    struct vgpu_context *context;
    *work = (struct vgpu_work){.type = CU_GRAPH_NODE_TYPE_MEMCPY};
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result == CUDA_SUCCESS)
        result = vgpu_copy_of_3d(params, &work->copy);
    return result == CUDA_SUCCESS ? vgpu_copy_check(context, &work->copy) : result;
}

CUresult vgpu_work_of_set(const CUDA_MEMSET_NODE_PARAMS *p, struct vgpu_work *work)
{
    struct vgpu_context *context;
    CUresult result = vgpu_cuda_enter_context(&context);
    if (result == CUDA_SUCCESS && !p)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    *work = (struct vgpu_work){.type = CU_GRAPH_NODE_TYPE_MEMSET,
                               .set = {p->dst, p->height > 1 ? p->pitch : p->width * p->elementSize,
                                       p->width, p->height, p->value, p->elementSize}};
    return vgpu_set_check(context, &work->set);
}

CUresult vgpu_work_of_host(const CUDA_HOST_NODE_PARAMS *params, struct vgpu_work *work)
{
    if (!params || !params->fn)
        return CUDA_ERROR_INVALID_VALUE;
    *work = (struct vgpu_work){.type = CU_GRAPH_NODE_TYPE_HOST, .host = *params};
    return CUDA_SUCCESS;
}

/* The node, when it is of a type. */
static CUresult find_of_type(CUgraphNode handle, CUgraphNodeType type, const void *params,
                             struct vgpu_node **node)
{
    CUresult result = vgpu_node_find(handle, node);
    if (result == CUDA_SUCCESS && (!params || (*node)->work.type != type))
        result = CUDA_ERROR_INVALID_VALUE;
    return result;
}

static void replace_work(struct vgpu_node *node, const struct vgpu_work *work)
{
    pthread_mutex_lock(&vgpu_graph_lock);
    node->work = *work; /* neither has anything of its own: not a kernel's */
    pthread_mutex_unlock(&vgpu_graph_lock);
}

/* One side of a copy as CUDA describes it: the address holds what was skipped. */
#define DESCRIBE(p, side, place)                                                                   \
    do {                                                                                           \
        (p)->side##MemoryType = (place)->type == VGPU_PLACE_ARRAY  ? CU_MEMORYTYPE_ARRAY           \
                                : (place)->type == VGPU_PLACE_HOST ? CU_MEMORYTYPE_HOST            \
                                                                   : CU_MEMORYTYPE_DEVICE;         \
        (p)->side##XInBytes = (place)->x;                                                          \
        (p)->side##Y = (place)->y;                                                                 \
        (p)->side##Z = (place)->z;                                                                 \
        (p)->side##Host = (place)->host;                                                           \
        (p)->side##Device = (place)->device;                                                       \
        (p)->side##Array = (CUarray)(place)->array;                                                \
        (p)->side##Pitch = (place)->pitch;                                                         \
        (p)->side##Height = (place)->pitch ? (place)->slice / (place)->pitch : 0;                  \
    } while (0)

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode hNode, CUDA_MEMCPY3D *nodeParams)
{
    struct vgpu_node *node;
    CUresult result = find_of_type(hNode, CU_GRAPH_NODE_TYPE_MEMCPY, nodeParams, &node);
    if (result != CUDA_SUCCESS)
        return result;
    const struct vgpu_copy *copy = &node->work.copy;
    memset(nodeParams, 0, sizeof(*nodeParams));
    DESCRIBE(nodeParams, src, &copy->from);
    DESCRIBE(nodeParams, dst, &copy->to);
    nodeParams->WidthInBytes = copy->width;
    nodeParams->Height = copy->height;
    nodeParams->Depth = copy->depth;
    return CUDA_SUCCESS;
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode hNode, const CUDA_MEMCPY3D *nodeParams)
{
    struct vgpu_node *node;
    struct vgpu_work work;
    CUresult result = find_of_type(hNode, CU_GRAPH_NODE_TYPE_MEMCPY, nodeParams, &node);
    if (result == CUDA_SUCCESS)
        result = vgpu_work_of_copy(nodeParams, &work);
    if (result == CUDA_SUCCESS)
        replace_work(node, &work);
    return result;
}

CUresult cuGraphMemsetNodeGetParams(CUgraphNode hNode, CUDA_MEMSET_NODE_PARAMS *nodeParams)
{
    struct vgpu_node *node;
    CUresult result = find_of_type(hNode, CU_GRAPH_NODE_TYPE_MEMSET, nodeParams, &node);
    if (result != CUDA_SUCCESS)
        return result;
    const struct vgpu_set *set = &node->work.set;
    *nodeParams = (CUDA_MEMSET_NODE_PARAMS){set->destination,   set->pitch, set->value,
                                            set->element_bytes, set->width, set->height};
    return CUDA_SUCCESS;
}

CUresult cuGraphMemsetNodeSetParams(CUgraphNode hNode, const CUDA_MEMSET_NODE_PARAMS *nodeParams)
{
    struct vgpu_node *node;
    struct vgpu_work work;
    CUresult result = find_of_type(hNode, CU_GRAPH_NODE_TYPE_MEMSET, nodeParams, &node);
    if (result == CUDA_SUCCESS)
        result = vgpu_work_of_set(nodeParams, &work);
    if (result == CUDA_SUCCESS)
        replace_work(node, &work);
    return result;
}

CUresult cuGraphHostNodeGetParams(CUgraphNode hNode, CUDA_HOST_NODE_PARAMS *nodeParams)
{
    struct vgpu_node *node;
    CUresult result = find_of_type(hNode, CU_GRAPH_NODE_TYPE_HOST, nodeParams, &node);
    if (result == CUDA_SUCCESS)
        *nodeParams = node->work.host;
    return result;
}

CUresult cuGraphHostNodeSetParams(CUgraphNode hNode, const CUDA_HOST_NODE_PARAMS *nodeParams)
{
    struct vgpu_node *node;
    struct vgpu_work work;
    CUresult result = find_of_type(hNode, CU_GRAPH_NODE_TYPE_HOST, nodeParams, &node);
    if (result == CUDA_SUCCESS)
        result = vgpu_work_of_host(nodeParams, &work);
    if (result == CUDA_SUCCESS)
        replace_work(node, &work);
    return result;
}
