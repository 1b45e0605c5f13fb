/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A circular list whose nodes live in what is listed. No allocation, no locking. */
#ifndef VGPU_MEDIATOR_LIST_H
#define VGPU_MEDIATOR_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct vgpu_list {
    struct vgpu_list *previous, *next;
};

#define vgpu_list_entry(node, type, member)                                                        \
    ((type *)(void *)((char *)(node)-offsetof(type, member)))

/* The body may remove the node it stands on, and no other. */
#define vgpu_list_each(node, list)                                                                 \
    for (struct vgpu_list *node = (list)->next, *node##_next = node->next; node != (list);         \
         node = node##_next, node##_next = node->next)

static inline void vgpu_list_init(struct vgpu_list *list)
{
    list->previous = list->next = list;
}

static inline bool vgpu_list_empty(const struct vgpu_list *list)
{
    return list->next == list;
}

static inline void vgpu_list_append(struct vgpu_list *list, struct vgpu_list *node)
{
    node->previous = list->previous;
    node->next = list;
    list->previous->next = node;
    list->previous = node;
}

/* Leaves the node a list of its own: removing it again does nothing. */
static inline void vgpu_list_remove(struct vgpu_list *node)
{
    node->previous->next = node->next;
    node->next->previous = node->previous;
    vgpu_list_init(node);
}

#endif
