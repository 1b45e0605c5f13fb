/* SPDX-License-Identifier: MIT */
/*
 * Capture: what is done to a stream becomes the nodes of a graph. A stream that waits for an event
 * recorded in the capture joins it, and has to be waited for again before the capture ends.
 */
#include <stdlib.h>

#include "guest/cuda/graph.h"

struct vgpu_capture {
    struct vgpu_capture *next;
    uint64_t id;
    struct vgpu_graph *graph;
    struct vgpu_stream *origin;
    CUstreamCaptureMode mode;
    const struct vgpu_thread *thread; /* that began it */
    bool invalid;
    struct vgpu_stream **streams; /* that take part */
    unsigned stream_count;
};

/* Captures there are: without any, nothing here costs more than reading it. */
static _Atomic unsigned active;
static struct vgpu_capture *captures;

/* The caller holds vgpu_graph_lock, for all that is static here. */

/* The capture of that number, if it is not over. */
static struct vgpu_capture *find_capture(uint64_t id)
{
    struct vgpu_capture *capture = captures;
    while (capture && capture->id != id)
        capture = capture->next;
    return capture;
}

static bool set_tail(struct vgpu_node ***tail, unsigned *count, struct vgpu_node *const *nodes,
                     unsigned n)
{
    struct vgpu_node **copy = calloc(n + 1u, sizeof(copy[0]));
    if (!copy)
        return false;
    if (n)
        memcpy(copy, nodes, n * sizeof(copy[0]));
    free(*tail);
    *tail = copy;
    *count = n;
    return true;
}

static void leave(struct vgpu_stream *stream)
{
    struct vgpu_capture *capture = stream->capture;
    if (!capture)
        return;
    for (unsigned i = 0; i < capture->stream_count; i++) {
        if (capture->streams[i] == stream) {
            capture->streams[i] = capture->streams[--capture->stream_count];
            break;
        }
    }
    free(stream->capture_tail);
    stream->capture_tail = NULL;
    stream->capture_tail_count = 0;
    stream->capture = NULL;
}

static bool join_capture(struct vgpu_stream *stream, struct vgpu_capture *capture)
{
    struct vgpu_stream **streams =
        realloc(capture->streams, (capture->stream_count + 1u) * sizeof(streams[0]));
    if (!streams)
        return false;
    streams[capture->stream_count++] = stream;
    capture->streams = streams;
    stream->capture = capture;
    return true;
}

/* Adds a node after the stream's last ones. Takes over `work`. */
static CUresult add(struct vgpu_stream *stream, struct vgpu_work *work)
{
    struct vgpu_capture *capture = stream->capture;
    struct vgpu_node *node;
    if (capture->invalid) {
        vgpu_work_free(work);
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    CUresult result = vgpu_graph_add(capture->graph, stream->capture_tail,
                                     stream->capture_tail_count, work, &node);
    if (result == CUDA_SUCCESS &&
        !set_tail(&stream->capture_tail, &stream->capture_tail_count, &node, 1))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result != CUDA_SUCCESS)
        capture->invalid = true;
    return result;
}

static bool is_captured(const struct vgpu_stream *stream)
{
    if (atomic_load(&active) == 0)
        return false;
    pthread_mutex_lock(&vgpu_graph_lock);
    bool captured = stream->capture != NULL;
    pthread_mutex_unlock(&vgpu_graph_lock);
    return captured;
}

static bool capture_work(struct vgpu_stream *stream, struct vgpu_work *work, CUresult *result)
{
    pthread_mutex_lock(&vgpu_graph_lock);
    bool captured = stream->capture != NULL;
    if (captured)
        *result = add(stream, work);
    else
        vgpu_work_free(work);
    pthread_mutex_unlock(&vgpu_graph_lock);
    return captured;
}

bool vgpu_capture_launch(struct vgpu_stream *stream, const struct vgpu_kernel_launch *launch,
                         CUresult *result)
{
    struct vgpu_work work;
    if (!is_captured(stream))
        return false;
    *result = vgpu_work_of_launch(launch, &work);
    return *result != CUDA_SUCCESS || capture_work(stream, &work, result);
}

bool vgpu_capture_copy(struct vgpu_stream *stream, const struct vgpu_copy *copy, CUresult *result)
{
    struct vgpu_work work = {.type = CU_GRAPH_NODE_TYPE_MEMCPY, .copy = *copy};
    return is_captured(stream) && capture_work(stream, &work, result);
}

bool vgpu_capture_set(struct vgpu_stream *stream, const struct vgpu_set *set, CUresult *result)
{
    struct vgpu_work work = {.type = CU_GRAPH_NODE_TYPE_MEMSET, .set = *set};
    return is_captured(stream) && capture_work(stream, &work, result);
}

bool vgpu_capture_host(struct vgpu_stream *stream, CUhostFn host, void *data, CUresult *result)
{
    struct vgpu_work work = {.type = CU_GRAPH_NODE_TYPE_HOST, .host = {host, data}};
    return is_captured(stream) && capture_work(stream, &work, result);
}

bool vgpu_capture_record(struct vgpu_stream *stream, struct vgpu_event *event, CUresult *result)
{
    if (!is_captured(stream))
        return false;
    pthread_mutex_lock(&vgpu_graph_lock);
    *result = set_tail(&event->capture_nodes, &event->capture_count, stream->capture_tail,
                       stream->capture_tail_count)
                  ? CUDA_SUCCESS
                  : CUDA_ERROR_OUT_OF_MEMORY;
    if (*result == CUDA_SUCCESS) {
        event->capture_id = stream->capture->id;
        event->recorded = true;
    }
    pthread_mutex_unlock(&vgpu_graph_lock);
    return true;
}

/* The event's nodes become ones the stream's next node comes after. */
static CUresult merge(struct vgpu_stream *stream, const struct vgpu_event *event)
{
    unsigned have = stream->capture_tail_count, n = have + event->capture_count;
    struct vgpu_node **nodes = calloc(n + 1u, sizeof(nodes[0]));
    if (!nodes)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (have)
        memcpy(nodes, stream->capture_tail, have * sizeof(nodes[0]));
    for (unsigned i = 0; i < event->capture_count; i++) {
        bool known = false;
        for (unsigned k = 0; k < have && !known; k++)
            known = nodes[k] == event->capture_nodes[i];
        if (!known)
            nodes[have++] = event->capture_nodes[i];
    }
    free(stream->capture_tail);
    stream->capture_tail = nodes;
    stream->capture_tail_count = have;
    return CUDA_SUCCESS;
}

bool vgpu_capture_wait(struct vgpu_stream *stream, struct vgpu_event *event, CUresult *result)
{
    if (atomic_load(&active) == 0)
        return false;
    pthread_mutex_lock(&vgpu_graph_lock);
    struct vgpu_capture *own = stream->capture, *other = find_capture(event->capture_id);
    bool captured = own || other;
    *result = CUDA_SUCCESS;
    if (!captured || (own && !other && !event->recorded)) {
        /* nothing to wait for, or nothing captured */
    } else if (!other) {
        own->invalid = true; /* what was done before cannot come before a node */
        *result = CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    } else if (own && own != other) {
        own->invalid = other->invalid = true;
        *result = CUDA_ERROR_STREAM_CAPTURE_MERGE;
    } else if (stream->legacy) {
        other->invalid = true;
        *result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    } else if (!own && !join_capture(stream, other)) {
        *result = CUDA_ERROR_OUT_OF_MEMORY;
    } else {
        *result = merge(stream, event);
    }
    pthread_mutex_unlock(&vgpu_graph_lock);
    return captured;
}

CUresult vgpu_capture_refuse(struct vgpu_stream *stream)
{
    if (atomic_load(&active) == 0)
        return CUDA_SUCCESS;
    pthread_mutex_lock(&vgpu_graph_lock);
    bool captured = stream->capture != NULL;
    if (captured)
        stream->capture->invalid = true;
    pthread_mutex_unlock(&vgpu_graph_lock);
    return captured ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

/* Lets go of everything but the graph. */
static void end_capture(struct vgpu_capture *capture)
{
    while (capture->stream_count)
        leave(capture->streams[0]);
    for (struct vgpu_capture **at = &captures; *at; at = &(*at)->next) {
        if (*at == capture) {
            *at = capture->next;
            break;
        }
    }
    capture->graph->captured = false;
    free(capture->streams);
    free(capture);
    atomic_fetch_sub(&active, 1);
}

void vgpu_capture_forget_event(struct vgpu_event *event)
{
    if (!event->capture_id)
        return;
    pthread_mutex_lock(&vgpu_graph_lock);
    free(event->capture_nodes);
    event->capture_nodes = NULL;
    event->capture_count = 0;
    event->capture_id = 0;
    pthread_mutex_unlock(&vgpu_graph_lock);
}

void vgpu_capture_forget_stream(struct vgpu_stream *stream)
{
    if (atomic_load(&active) == 0)
        return;
    pthread_mutex_lock(&vgpu_graph_lock);
    struct vgpu_capture *capture = stream->capture;
    if (capture && capture->origin == stream) {
        struct vgpu_graph *graph = capture->graph;
        end_capture(capture);
        vgpu_graph_free(graph);
    } else if (capture) {
        capture->invalid = true;
        leave(stream);
    }
    pthread_mutex_unlock(&vgpu_graph_lock);
}

/* ---- The calls ---- */

CUresult cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode)
{
    static uint64_t last_id;
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if ((unsigned)mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    if (stream->legacy)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    struct vgpu_capture *capture = calloc(1, sizeof(*capture));
    if (!capture)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&vgpu_graph_lock);
    capture->origin = stream;
    capture->mode = mode;
    capture->thread = vgpu_cuda_thread();
    if (stream->capture) {
        result = CUDA_ERROR_ILLEGAL_STATE;
    } else if (!(capture->graph = vgpu_graph_new())) {
        result = CUDA_ERROR_OUT_OF_MEMORY;
    } else if (!join_capture(stream, capture)) {
        vgpu_graph_free(capture->graph);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    } else {
        capture->id = ++last_id;
        capture->graph->captured = true;
        capture->next = captures;
        captures = capture;
        atomic_fetch_add(&active, 1);
    }
    pthread_mutex_unlock(&vgpu_graph_lock);
    if (result != CUDA_SUCCESS)
        free(capture);
    return result;
}

/* Whether every node that a joined stream ended with has one after it: else the origin does not
 * come after all of them. */
static bool all_joined(const struct vgpu_capture *capture)
{
    const struct vgpu_graph *graph = capture->graph;
    for (struct vgpu_node *node = graph->first; node; node = node->next)
        node->index = 0;
    for (struct vgpu_node *node = graph->first; node; node = node->next)
        for (unsigned i = 0; i < node->after_count; i++)
            node->after[i]->index = 1;
    for (unsigned i = 0; i < capture->origin->capture_tail_count; i++)
        capture->origin->capture_tail[i]->index = 1;
    for (const struct vgpu_node *node = graph->first; node; node = node->next)
        if (node->index == 0)
            return false;
    return true;
}

CUresult cuStreamEndCapture(CUstream hStream, CUgraph *phGraph)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (!phGraph)
        return CUDA_ERROR_INVALID_VALUE;
    *phGraph = NULL;
    pthread_mutex_lock(&vgpu_graph_lock);
    struct vgpu_capture *capture = stream->capture;
    if (!capture) {
        result = CUDA_ERROR_ILLEGAL_STATE;
    } else if (capture->origin != stream) {
        capture->invalid = true;
        result = CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    } else if (capture->thread != vgpu_cuda_thread() &&
               capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED) {
        result = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    } else {
        struct vgpu_graph *graph = capture->graph;
        if (capture->invalid)
            result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        else if (!all_joined(capture))
            result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
        end_capture(capture);
        if (result == CUDA_SUCCESS)
            *phGraph = (CUgraph)graph;
        else
            vgpu_graph_free(graph);
    }
    pthread_mutex_unlock(&vgpu_graph_lock);
    return result;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
                                   cuuint64_t *id_out, CUgraph *graph_out,
                                   const CUgraphNode **dependencies_out,
                                   size_t *numDependencies_out)
{
    struct vgpu_stream *stream;
    CUresult result = vgpu_stream_find(hStream, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (!captureStatus_out)
        return CUDA_ERROR_INVALID_VALUE;
    if (dependencies_out || numDependencies_out)
        return vgpu_cuda_not_supported("the dependencies of a capture");
    pthread_mutex_lock(&vgpu_graph_lock);
    const struct vgpu_capture *capture = stream->capture;
    *captureStatus_out = !capture           ? CU_STREAM_CAPTURE_STATUS_NONE
                         : capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                            : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    if (capture && id_out)
        *id_out = capture->id;
    if (capture && graph_out)
        *graph_out = (CUgraph)capture->graph;
    pthread_mutex_unlock(&vgpu_graph_lock);
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus *captureStatus_out,
                                   cuuint64_t *id_out, CUgraph *graph_out,
                                   const CUgraphNode **dependencies_out,
                                   const CUgraphEdgeData **edgeData_out,
                                   size_t *numDependencies_out)
{
    if (edgeData_out)
        return vgpu_cuda_not_supported("the dependencies of a capture");
    return cuStreamGetCaptureInfo_v2(hStream, captureStatus_out, id_out, graph_out,
                                     dependencies_out, numDependencies_out);
}

CUresult cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
    return cuStreamGetCaptureInfo_v2(hStream, captureStatus, NULL, NULL, NULL, NULL);
}

/* Nothing here is unsafe during a capture, so the mode forbids nothing; it is kept. */
CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
    struct vgpu_thread *thread;
    CUresult result = vgpu_cuda_enter_process(&thread);
    if (result != CUDA_SUCCESS)
        return result;
    if (!mode || (unsigned)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    CUstreamCaptureMode old = thread->capture_mode;
    thread->capture_mode = *mode;
    *mode = old;
    return CUDA_SUCCESS;
}
