/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BAR2 and the channels' eventfds; see vgpu-window.h.
 *
 * The memory is a file that cannot grow, shrink or be sealed further: the mediator and its workers
 * map it, and a file that shrinks would kill them. Seals come with a memfd of our own, and are
 * asked for in one that we are given.
 *
 * Eventfds live as long as the connection: whoever a mediator leaves behind has only the old ones.
 * A doorbell is an ioeventfd, so with KVM it costs no exit to us; an interrupt is an irqfd where
 * the kernel does MSI and the guest has unmasked the vector, else a handler in the main loop.
 */
#include "vgpu-window.h"

#define SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)
#define KIB   1024u

/* Memory */

static bool size_is_good(uint64_t bytes, uint32_t channels)
{
    return bytes >= VGPU_WINDOW_BYTES_MIN && bytes <= VGPU_WINDOW_BYTES_MAX &&
           is_power_of_2(bytes) && bytes > (uint64_t)channels * VGPU_CHANNEL_BYTES;
}

/* The memory of the property `memdev`; NULL with an error. */
static MemoryRegion *given_memory(VgpuWindow *w, Error **errp)
{
    g_autofree char *name = host_memory_backend_get_name(w->memdev);
    MemoryRegion *memory = host_memory_backend_get_memory(w->memdev);
    uint64_t bytes;
    int seals;

    if (host_memory_backend_is_mapped(w->memdev)) {
        error_setg(errp, "memdev '%s' has another user: give one that is this device's alone",
                   name);
        return NULL;
    }
    if (!object_property_get_bool(OBJECT(w->memdev), "share", NULL)) {
        error_setg(errp, "memdev '%s' is not shared: add share=on to it", name);
        return NULL;
    }
    w->fd = memory_region_get_fd(memory);
    seals = w->fd < 0 ? -1 : fcntl(w->fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS) {
        error_setg(errp,
                   "memdev '%s' is no memory file that keeps its size: make it a "
                   "memory-backend-memfd with seal=on (which is the default)",
                   name);
        return NULL;
    }
    bytes = memory_region_size(memory);
    if (!size_is_good(bytes, w->channels)) {
        error_setg(errp,
                   "memdev '%s' has %" PRIu64 " bytes: give it a power of two of at least 1 MiB "
                   "that is more than the channels take (%" PRIu32 " of %u KiB)",
                   name, bytes, w->channels, VGPU_CHANNEL_BYTES / KIB);
        return NULL;
    }
    if (w->bytes != bytes && w->bytes != VGPU_WINDOW_BYTES_DEFAULT) {
        error_setg(errp,
                   "window is %" PRIu64 " and memdev '%s' has %" PRIu64 " bytes: leave one of the "
                   "two properties out",
                   w->bytes, name, bytes);
        return NULL;
    }
    w->bytes = bytes;
    host_memory_backend_set_mapped(w->memdev, true);
    return memory;
}

/* Memory of our own; NULL with an error. */
static MemoryRegion *own_memory(VgpuWindow *w, PCIDevice *pci, Error **errp)
{
    Error *error = NULL;

    if (!size_is_good(w->bytes, w->channels)) {
        error_setg(errp,
                   "window is %" PRIu64 ": give 0 for none, or a power of two from 1 MiB to 1 TiB "
                   "that is more than the channels take (%" PRIu32 " of %u KiB)",
                   w->bytes, w->channels, VGPU_CHANNEL_BYTES / KIB);
        return NULL;
    }
    w->fd = qemu_memfd_create("vgpu-window", w->bytes, false, 0, SEALS, errp);
    if (w->fd < 0) {
        return NULL;
    }
    VGPU_INIT_RAM_FROM_FD(&w->own, OBJECT(pci), "vgpu-stub-window", w->bytes, w->fd, &error);
    if (error) {
        close(w->fd);
        error_propagate(errp, error);
        return NULL;
    }
    return &w->own; /* which closes the file in the end */
}

bool vgpu_window_create(VgpuWindow *w, PCIDevice *pci, Error **errp)
{
    MemoryRegion *memory;

    if (w->bytes == 0 && !w->memdev) {
        return true;
    }
    if (w->bytes == 0) {
        error_setg(errp, "window is 0 and there is a memdev: leave one of the two properties out");
        return false;
    }
    if (w->channels < 1 || w->channels > VGPU_CHANNELS_MAX) {
        error_setg(errp, "channels is %" PRIu32 ": give 1 to %u", w->channels, VGPU_CHANNELS_MAX);
        return false;
    }
    if (vgpu_barriers_are_left_out()) {
        warn_report(
            "vgpu-stub: this QEMU leaves memory barriers out of what a machine with one "
            "processor runs without KVM, so that a guest that waits in a channel may not be "
            "woken: add maxcpus=2 to -smp, or give the device window=0");
    }
    memory = w->memdev ? given_memory(w, errp) : own_memory(w, pci, errp);
    if (!memory) {
        return false;
    }
    pci_register_bar(pci, VGPU_BAR_WINDOW,
                     PCI_BASE_ADDRESS_SPACE_MEMORY | PCI_BASE_ADDRESS_MEM_TYPE_64 |
                         PCI_BASE_ADDRESS_MEM_PREFETCH,
                     memory);
    return true;
}

void vgpu_window_destroy(VgpuWindow *w)
{
    if (w->memdev && w->bytes) {
        host_memory_backend_set_mapped(w->memdev, false);
    }
}

/* Interrupts */

static void interrupt_signalled(void *opaque)
{
    VgpuChannel *ch = opaque;
    Object *device = OBJECT(ch->pci);

    /* The message goes where the guest has aimed it, which may be what ejects the device. */
    object_ref(device);
    if (event_notifier_test_and_clear(&ch->interrupt)) {
        msix_notify(ch->pci, ch->vector); /* a masked vector becomes pending */
    }
    object_unref(device);
}

static void handle_interrupt(VgpuChannel *ch, bool on)
{
    qemu_set_fd_handler(event_notifier_get_fd(&ch->interrupt), on ? interrupt_signalled : NULL,
                        NULL, ch);
}

/*
 * The kernel's way, for a vector that the guest has unmasked. A signal is not lost between the two
 * ways: the eventfd keeps it, and each looks at it when it begins. What cannot be had is no error
 * here (QEMU would not survive one in a notifier): the handler stays.
 */
static void route_in_kernel(VgpuChannel *ch)
{
    int virq = vgpu_add_msi_route(ch->pci, ch->vector);

    if (virq < 0) {
        return;
    }
    handle_interrupt(ch, false);
    if (kvm_irqchip_add_irqfd_notifier_gsi(kvm_state, &ch->interrupt, NULL, virq) < 0) {
        kvm_irqchip_release_virq(kvm_state, virq);
        handle_interrupt(ch, true);
        return;
    }
    ch->virq = virq;
}

static void route_here(VgpuChannel *ch)
{
    if (ch->virq < 0) {
        return;
    }
    kvm_irqchip_remove_irqfd_notifier_gsi(kvm_state, &ch->interrupt, ch->virq);
    kvm_irqchip_release_virq(kvm_state, ch->virq);
    ch->virq = -1;
    handle_interrupt(ch, true);
}

static VgpuChannel *channel_of_vector(PCIDevice *pci, unsigned vector)
{
    VgpuWindow *w = vgpu_stub_window(pci);

    if (vector < VGPU_MSIX_CHANNEL || vector - VGPU_MSIX_CHANNEL >= w->channels) {
        return NULL;
    }
    return &w->channel[vector - VGPU_MSIX_CHANNEL];
}

static int vector_unmasked(PCIDevice *pci, unsigned vector, MSIMessage message)
{
    VgpuChannel *ch = channel_of_vector(pci, vector);

    if (ch && ch->virq < 0) {
        route_in_kernel(ch);
    }
    return 0;
}

static void vector_masked(PCIDevice *pci, unsigned vector)
{
    VgpuChannel *ch = channel_of_vector(pci, vector);

    if (ch) {
        route_here(ch);
    }
}

/* Opening and closing */

static void forget_eventfds(VgpuWindow *w, unsigned count)
{
    unsigned n;

    for (n = 0; n < count; n++) {
        event_notifier_cleanup(&w->channel[n].doorbell);
        event_notifier_cleanup(&w->channel[n].interrupt);
    }
}

static int make_eventfds(VgpuWindow *w, PCIDevice *pci)
{
    unsigned n;
    int ret = 0;

    for (n = 0; n < w->channels; n++) {
        VgpuChannel *ch = &w->channel[n];

        ch->pci = pci;
        ch->vector = VGPU_MSIX_CHANNEL + n;
        ch->virq = -1;
        ret = event_notifier_init(&ch->doorbell, 0);
        if (ret < 0) {
            break;
        }
        ret = event_notifier_init(&ch->interrupt, 0);
        if (ret < 0) {
            event_notifier_cleanup(&ch->doorbell);
            break;
        }
    }
    if (n == w->channels) {
        return 0;
    }
    forget_eventfds(w, n);
    return ret;
}

/* All at once: each change of its own would make the kernel look at every memory region. */
static void doorbells(VgpuWindow *w, MemoryRegion *registers, bool on)
{
    unsigned n;

    memory_region_transaction_begin();
    for (n = 0; n < w->channels; n++) {
        EventNotifier *doorbell = &w->channel[n].doorbell;

        if (on) {
            memory_region_add_eventfd(registers, VGPU_REG_CHANNEL_DOORBELL(n), 4, false, 0,
                                      doorbell);
        } else {
            memory_region_del_eventfd(registers, VGPU_REG_CHANNEL_DOORBELL(n), 4, false, 0,
                                      doorbell);
        }
    }
    memory_region_transaction_commit();
}

int vgpu_window_open(VgpuWindow *w, PCIDevice *pci, MemoryRegion *registers, bool msix,
                     struct vgpu_device_window *fds)
{
    unsigned n;
    int ret = make_eventfds(w, pci);

    if (ret < 0) {
        return ret;
    }
    doorbells(w, registers, true);
    w->msix = msix;
    w->irqfd = false;
    fds->memory = w->fd;
    for (n = 0; n < w->channels; n++) {
        fds->doorbell[n] = event_notifier_get_fd(&w->channel[n].doorbell);
        fds->interrupt[n] = event_notifier_get_fd(&w->channel[n].interrupt);
        if (msix) {
            handle_interrupt(&w->channel[n], true);
        }
    }
    if (msix && kvm_msi_via_irqfd_enabled()) {
        w->irqfd = msix_set_vector_notifiers(pci, vector_unmasked, vector_masked, NULL) >= 0;
    }
    return 0;
}

void vgpu_window_close(VgpuWindow *w, PCIDevice *pci, MemoryRegion *registers)
{
    unsigned n;

    if (w->irqfd) {
        msix_unset_vector_notifiers(pci); /* masks them all, as we see it */
        w->irqfd = false;
    }
    for (n = 0; w->msix && n < w->channels; n++) {
        handle_interrupt(&w->channel[n], false);
    }
    doorbells(w, registers, false);
    forget_eventfds(w, w->channels);
}

void vgpu_window_ring(VgpuWindow *w, uint32_t channel)
{
    event_notifier_set(&w->channel[channel].doorbell);
}
