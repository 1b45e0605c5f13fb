/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The window and the channels' eventfds, as QEMU has them: memory behind BAR2, a doorbell that
 * wakes a worker, an interrupt that a worker raises. It refuses to know what a channel's state is
 * and who has one. Private to the device; everything here runs under the big lock.
 */
#ifndef VGPU_WINDOW_H
#define VGPU_WINDOW_H

#include "vgpu-compat.h"

#include "device/device.h"

typedef struct VgpuChannel {
    PCIDevice *pci;
    unsigned vector;
    EventNotifier doorbell;
    EventNotifier interrupt;
    int virq; /* KVM's route of the vector while the kernel raises it; -1: we do */
} VgpuChannel;

typedef struct VgpuWindow {
    /* Properties. After vgpu_window_create `bytes` is what there is, and 0 when there is none. */
    uint64_t bytes;
    uint32_t channels;
    HostMemoryBackend *memdev;

    /* Private. */
    MemoryRegion own; /* without a memdev */
    int fd;           /* of the memory; the region's or the memdev's */
    bool msix;
    bool irqfd; /* the kernel may raise the vectors */
    VgpuChannel channel[VGPU_CHANNELS_MAX];
} VgpuWindow;

/* Checks the properties, and makes BAR2 if there is to be a window. False with an error that says
 * what to do; nothing is left then. */
bool vgpu_window_create(VgpuWindow *w, PCIDevice *pci, Error **errp);

/* Undoes it; it must not be open. The memory itself goes with the device. */
void vgpu_window_destroy(VgpuWindow *w);

/*
 * A mediator attached: makes the eventfds, lets CHANNEL_DOORBELL in `registers` signal them, and
 * raises MSI-X vectors (if msix) when they are signalled. 0 or a negative errno, with nothing left.
 */
int vgpu_window_open(VgpuWindow *w, PCIDevice *pci, MemoryRegion *registers, bool msix,
                     struct vgpu_device_window *fds);
void vgpu_window_close(VgpuWindow *w, PCIDevice *pci, MemoryRegion *registers);

/* The window of a vgpu-stub. */
VgpuWindow *vgpu_stub_window(PCIDevice *pci);

/* Between open and close: a doorbell that did not come by the eventfd's own way. */
void vgpu_window_ring(VgpuWindow *w, uint32_t channel);

#endif
