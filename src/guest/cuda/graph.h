/* SPDX-License-Identifier: MIT */
/* What graph.c and capture.c share: nodes, and what a node does. */
#ifndef VGPU_GUEST_CUDA_GRAPH_H
#define VGPU_GUEST_CUDA_GRAPH_H

#include "guest/cuda/internal.h"

/* What a node does. */
struct vgpu_work {
    CUgraphNodeType type;
    union {
        struct {
            struct vgpu_kernel_launch launch; /* its arguments are the work's own */
            uint64_t function_name;           /* so that one that is gone is noticed */
            void **params; /* pointers into the arguments, one for each parameter */
        };
        struct vgpu_copy copy;
        struct vgpu_set set;
        CUDA_HOST_NODE_PARAMS host;
    };
};

struct vgpu_node {
    struct vgpu_object base;
    struct vgpu_graph *graph;
    struct vgpu_node *next;   /* in the order they were added */
    struct vgpu_node **after; /* what it comes after */
    unsigned after_count;
    unsigned index; /* scratch of those who walk the graph */
    struct vgpu_work work;
};

struct vgpu_graph {
    struct vgpu_object base;
    struct vgpu_node *first, *last;
    unsigned count;
    bool captured; /* it is still being made by a capture, which would miss it */
};

/* Guards every graph and capture. */
extern pthread_mutex_t vgpu_graph_lock;

/* The caller holds vgpu_graph_lock, for all of these. */
struct vgpu_graph *vgpu_graph_new(void);
void vgpu_graph_free(struct vgpu_graph *graph);
/* A new node after those; takes over `work`, also on failure. */
CUresult vgpu_graph_add(struct vgpu_graph *graph, struct vgpu_node *const *after, unsigned count,
                        struct vgpu_work *work, struct vgpu_node **node);

/* A work of a kernel, with the launch's arguments copied. */
CUresult vgpu_work_of_launch(const struct vgpu_kernel_launch *launch, struct vgpu_work *work);
/* The same from a kernel node's parameters, checked as a launch would be. Without the lock. */
CUresult vgpu_work_of_params(const CUDA_KERNEL_NODE_PARAMS *params, struct vgpu_work *work);
/* Those of the other kinds, checked in the current context. */
CUresult vgpu_work_of_copy(const CUDA_MEMCPY3D *params, struct vgpu_work *work);
CUresult vgpu_work_of_set(const CUDA_MEMSET_NODE_PARAMS *params, struct vgpu_work *work);
CUresult vgpu_work_of_host(const CUDA_HOST_NODE_PARAMS *params, struct vgpu_work *work);
/* A copy with arguments of its own; fails when its function is gone. */
CUresult vgpu_work_copy(const struct vgpu_work *from, struct vgpu_work *to);
void vgpu_work_free(struct vgpu_work *work);

/* What a handle of the program leads to. Without the lock. */
CUresult vgpu_graph_find(CUgraph handle, struct vgpu_graph **graph);
CUresult vgpu_node_find(CUgraphNode handle, struct vgpu_node **node);

#endif
