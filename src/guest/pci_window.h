/* SPDX-License-Identifier: MIT */
/*
 * The window of a PCI device (BAR2) and its channels, for transport_mailbox.c. Owns the mapping,
 * and the locks by which the programs of a VM share the channels; knows nothing of requests.
 */
#ifndef VGPU_GUEST_PCI_WINDOW_H
#define VGPU_GUEST_PCI_WINDOW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/transport.h"

struct vgpu_pci_window {
    volatile uint8_t *bar; /* BAR0 */
    char path[512];        /* of resource2 */
    char run_dir[256];     /* where the lock files are: run_dir/name */
    char name[64];
    pthread_mutex_t lock; /* guards the mapping's making */
    uint8_t *memory;      /* NULL: not mapped yet */
    uint64_t bytes;
    uint32_t channel_count;
    bool kept_from_child; /* the kernel leaves the mapping out of forked children */
};

/* As the operations of transport.h. */
int vgpu_pci_claim(struct vgpu_pci_window *window, struct vgpu_transport *transport,
                   struct vgpu_channel_port *port);
int vgpu_pci_enable(struct vgpu_pci_window *window, struct vgpu_channel_port *port,
                    uint64_t deadline_ns);
void vgpu_pci_ring(struct vgpu_pci_window *window, struct vgpu_channel_port *port);
int vgpu_pci_state(struct vgpu_pci_window *window, struct vgpu_channel_port *port, uint32_t *state,
                   uint32_t *error, uint32_t *generation);
void vgpu_pci_release(struct vgpu_pci_window *window, struct vgpu_channel_port *port, bool forked);
void vgpu_pci_farewell(struct vgpu_pci_window *window, struct vgpu_channel_port *port);
void vgpu_pci_unmap(struct vgpu_pci_window *window, bool forked);

/*
 * Frees the channels whose owners died: those whose lock can be had, and whose CHANNEL_OWNER is not
 * 0. What a claim does for the one it takes, for all of them; vgpu-guestd does it at once. Returns
 * how many there were, or a negative errno with a text.
 */
int vgpu_pci_sweep(struct vgpu_pci_window *window);

#endif
