/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vgpu-stub: the device of docs/register-map.md as a PCI device of QEMU. It owns what QEMU gives
 * the device (BAR0, MSI-X, a character device, a timer, properties; BAR2 and eventfds are
 * vgpu-window.c's) and refuses to know what a register or a message means: that is the device model
 * (device/device.h), which this file tells what happened.
 *
 * Everything here runs under the big lock and nothing waits. Three things are done with care:
 *   - QEMU reports a closed connection while it holds the character device's write lock, and what
 *     the model does then may lead to a write, or to the device's own removal. So a close is taken
 *     note of and told to the model in a bottom half, or before the next event. The same goes for
 *     closing the connection ourselves, which we may want to do from inside a read.
 *   - An MSI-X message goes where the guest has aimed it. At the device's own doorbell: the model
 *     ignores that. At the register that ejects the device: it is gone when msix_notify returns, so
 *     every way in holds a reference, and after unrealize the callbacks do nothing.
 *   - Time is the host's: a stopped virtual machine's request still times out, since the GPU that
 *     works on it is not stopped either.
 */
#include "vgpu-compat.h"

#include "device/device.h"
#include "trace.h"
#include "vgpu-window.h"

#define TYPE_VGPU_STUB "vgpu-stub"

typedef struct VgpuStub {
    PCIDevice parent_obj;

    MemoryRegion registers;
    CharFrontend chr;
    QEMUTimer *timer; /* NULL: not realized */
    QEMUBH *link_bh;
    guint watch;       /* waiting for room to write; 0: not */
    bool closed_waits; /* the connection has ended, the model does not know yet */
    bool disconnect_waits;

    char *pool_id;
    char *priority;
    uint32_t vm_id;
    uint32_t timeout_ms;
    uint16_t vendor_id;
    uint16_t device_id;
    VgpuWindow window;
    bool msix;

    struct vgpu_device device;
} VgpuStub;

typedef struct VgpuStubClass {
    PCIDeviceClass parent_class;
    DeviceRealize parent_realize;
} VgpuStubClass;

#define VGPU_STUB(obj)           OBJECT_CHECK(VgpuStub, (obj), TYPE_VGPU_STUB)
#define VGPU_STUB_CLASS(klass)   OBJECT_CLASS_CHECK(VgpuStubClass, (klass), TYPE_VGPU_STUB)
#define VGPU_STUB_GET_CLASS(obj) OBJECT_GET_CLASS(VgpuStubClass, (obj), TYPE_VGPU_STUB)

VgpuWindow *vgpu_stub_window(PCIDevice *pci)
{
    return &VGPU_STUB(pci)->window;
}

/* CLOCK_MONOTONIC, whatever the virtual machine does. */
static uint64_t now_ns(void)
{
    return (uint64_t)qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

static bool realized(const VgpuStub *s)
{
    return s->timer != NULL;
}

/* The connection's end, if there was one that the model has not been told of. */
static void deliver_close(VgpuStub *s)
{
    if (!s->closed_waits) {
        return;
    }
    s->closed_waits = false;
    s->disconnect_waits = false;
    if (s->watch) {
        g_source_remove(s->watch);
        s->watch = 0;
    }
    vgpu_device_link_closed(&s->device, now_ns());
}

/* What the model asks for */

static gboolean link_writable(VgpuWatchChannel *channel, GIOCondition condition, void *opaque)
{
    VgpuStub *s = opaque;

    object_ref(OBJECT(s));
    s->watch = 0;
    deliver_close(s);
    if (realized(s)) {
        vgpu_device_link_writable(&s->device, now_ns());
    }
    object_unref(OBJECT(s));
    return FALSE; /* if it did not all go, a new watch has been set */
}

static ssize_t link_send(void *opaque, const void *bytes, size_t length)
{
    VgpuStub *s = opaque;
    int taken;

    if (!realized(s) || s->closed_waits) {
        return -EPIPE;
    }
    errno = 0;
    taken = qemu_chr_fe_write(&s->chr, bytes, (int)length);
    if (taken < 0 && errno != EAGAIN) {
        return errno ? -errno : -EIO;
    }
    if (taken < 0) {
        taken = 0;
    }
    if ((size_t)taken < length && !s->watch) {
        s->watch = qemu_chr_fe_add_watch(&s->chr, G_IO_OUT | G_IO_HUP, link_writable, s);
        if (!s->watch) {
            return -ENOTSUP;
        }
    }
    return taken;
}

static ssize_t link_send_fds(void *opaque, const void *bytes, size_t length, const int *fds,
                             unsigned fd_count)
{
    VgpuStub *s = opaque;
    int copy[VGPU_LINK_MAX_FDS];

    if (!realized(s) || s->closed_waits) {
        return -EPIPE;
    }
    memcpy(copy, fds, fd_count * sizeof(copy[0]));
    if (qemu_chr_fe_set_msgfds(&s->chr, copy, (int)fd_count) < 0) {
        warn_report("vgpu-stub (vm %" PRIu32 "): the character device of the link cannot carry "
                    "descriptors, so the mediator cannot have the window: make it a socket with a "
                    "path, or give the device window=0",
                    s->vm_id);
        return -ENOTSUP;
    }
    /* So short a message goes as a whole or not at all, and its descriptors go with it. If it does
     * not, they are set anew before it is tried again, and nothing is sent in between. */
    return link_send(s, bytes, length);
}

static int window_open(void *opaque, struct vgpu_device_window *fds)
{
    VgpuStub *s = opaque;
    int ret = vgpu_window_open(&s->window, PCI_DEVICE(s), &s->registers, s->msix, fds);

    if (ret < 0) {
        warn_report("vgpu-stub (vm %" PRIu32 "): no eventfds for %" PRIu32 " channels (%s): raise "
                    "the limit on open files, or give the device fewer channels; closing the link",
                    s->vm_id, s->window.channels, strerror(-ret));
        return ret;
    }
    trace_vgpu_stub_window_open(s->vm_id, s->window.bytes, s->window.channels, s->window.irqfd);
    return 0;
}

static void window_close(void *opaque)
{
    VgpuStub *s = opaque;

    /* Also on the way out, when the other callbacks do nothing. */
    trace_vgpu_stub_window_close(s->vm_id);
    vgpu_window_close(&s->window, PCI_DEVICE(s), &s->registers);
}

static void ring_doorbell(void *opaque, uint32_t channel)
{
    VgpuStub *s = opaque;

    vgpu_window_ring(&s->window, channel);
}

static void link_close(void *opaque)
{
    VgpuStub *s = opaque;

    if (realized(s)) {
        s->disconnect_waits = true;
        qemu_bh_schedule(s->link_bh);
    }
}

static void raise_interrupt(void *opaque)
{
    VgpuStub *s = opaque;

    if (realized(s)) {
        msix_notify(PCI_DEVICE(s), VGPU_MSIX_MAILBOX);
    }
}

static void set_timer(void *opaque, uint64_t deadline_ns)
{
    VgpuStub *s = opaque;

    if (!realized(s)) {
        return;
    }
    if (deadline_ns) {
        timer_mod_ns(s->timer, (int64_t)deadline_ns);
    } else {
        timer_del(s->timer);
    }
}

static void report(void *opaque, const struct vgpu_device_event *e)
{
    VgpuStub *s = opaque;

    switch (e->kind) {
    case VGPU_DEVICE_GUEST_ERROR:
        trace_vgpu_stub_guest_error(s->vm_id, e->text, e->code, e->value, e->unlogged);
        qemu_log_mask(LOG_GUEST_ERROR,
                      "vgpu-stub (vm %" PRIu32 "): %s: offset 0x%" PRIx32 " value 0x%" PRIx64
                      " (%" PRIu64 " more not logged before)\n",
                      s->vm_id, e->text, e->code, e->value, e->unlogged);
        break;
    case VGPU_DEVICE_SUBMITTED:
        trace_vgpu_stub_doorbell(s->vm_id, e->seq, e->code, e->value);
        break;
    case VGPU_DEVICE_COMPLETED:
        trace_vgpu_stub_completion(s->vm_id, e->seq, e->code, e->value);
        break;
    case VGPU_DEVICE_TIMED_OUT:
        trace_vgpu_stub_timeout(s->vm_id, e->seq);
        warn_report("vgpu-stub (vm %" PRIu32 "): the mediator did not answer request %" PRIu64
                    " within %" PRIu32 " ms: the guest sees a timeout",
                    s->vm_id, e->seq, s->timeout_ms);
        break;
    case VGPU_DEVICE_RESPONSE_DROPPED:
        trace_vgpu_stub_response_dropped(s->vm_id, e->seq);
        break;
    case VGPU_DEVICE_RESET:
        trace_vgpu_stub_reset(s->vm_id, e->code);
        break;
    case VGPU_DEVICE_CHANNEL_ACTIVE:
        trace_vgpu_stub_channel_active(s->vm_id, e->code);
        break;
    case VGPU_DEVICE_CHANNEL_FATAL:
        trace_vgpu_stub_channel_fatal(s->vm_id, e->code, e->value);
        break;
    case VGPU_DEVICE_CHANNEL_FREE:
        trace_vgpu_stub_channel_free(s->vm_id, e->code);
        break;
    case VGPU_DEVICE_LINK_OPENED:
        trace_vgpu_stub_link_open(s->vm_id);
        break;
    case VGPU_DEVICE_LINK_ATTACHED:
        trace_vgpu_stub_link_attached(s->vm_id);
        break;
    case VGPU_DEVICE_LINK_UPDATED:
        trace_vgpu_stub_link_updated(s->vm_id);
        break;
    case VGPU_DEVICE_LINK_REFUSED:
        trace_vgpu_stub_link_refused(s->vm_id, e->code, e->text);
        warn_report("vgpu-stub (vm %" PRIu32 "): the mediator refused this device (reason %" PRIu32
                    "): %s: it tries again by itself once its configuration allows it",
                    s->vm_id, e->code, e->text);
        break;
    case VGPU_DEVICE_LINK_VIOLATION:
        trace_vgpu_stub_link_violation(s->vm_id, e->text, e->value);
        warn_report("vgpu-stub (vm %" PRIu32 "): what is connected to the link is no mediator of "
                    "this version: %s (0x%" PRIx64 "): closing the link",
                    s->vm_id, e->text, e->value);
        break;
    case VGPU_DEVICE_LINK_FAILED:
        trace_vgpu_stub_link_failed(s->vm_id, e->code);
        break;
    case VGPU_DEVICE_LINK_CLOSED:
        trace_vgpu_stub_link_close(s->vm_id, e->code);
        break;
    }
}

static const struct vgpu_device_ops device_ops = {
    .link_send = link_send,
    .link_send_fds = link_send_fds,
    .window_open = window_open,
    .window_close = window_close,
    .ring_doorbell = ring_doorbell,
    .link_close = link_close,
    .raise_interrupt = raise_interrupt,
    .set_timer = set_timer,
    .event = report,
};

/* What happens to the link */

static void link_bh(void *opaque)
{
    VgpuStub *s = opaque;

    object_ref(OBJECT(s));
    deliver_close(s);
    if (realized(s) && s->disconnect_waits) {
        s->disconnect_waits = false;
        qemu_chr_fe_disconnect(&s->chr); /* notes the close and schedules us again */
    }
    object_unref(OBJECT(s));
}

static int link_can_read(void *opaque)
{
    return 4096; /* the model takes everything and keeps one message */
}

static void link_read(void *opaque, const uint8_t *bytes, int length)
{
    VgpuStub *s = opaque;
    int fds[VGPU_LINK_MAX_FDS];
    int count = qemu_chr_fe_get_msgfds(&s->chr, fds, VGPU_LINK_MAX_FDS);
    int i;

    for (i = 0; i < count; i++) {
        close(fds[i]);
    }
    object_ref(OBJECT(s));
    deliver_close(s);
    if (realized(s) && length > 0) {
        vgpu_device_link_received(&s->device, bytes, (size_t)length,
                                  count > 0 ? (unsigned)count : 0, now_ns());
    }
    object_unref(OBJECT(s));
}

static void link_event(void *opaque, VgpuChrEvent event)
{
    VgpuStub *s = opaque;

    if (!realized(s)) {
        return;
    }
    if (event == CHR_EVENT_CLOSED) {
        s->closed_waits = true;
        qemu_bh_schedule(s->link_bh);
    } else if (event == CHR_EVENT_OPENED) {
        object_ref(OBJECT(s));
        deliver_close(s);
        if (realized(s)) {
            s->disconnect_waits = false;
            vgpu_device_link_opened(&s->device, now_ns());
        }
        object_unref(OBJECT(s));
    }
}

static void timer_fired(void *opaque)
{
    VgpuStub *s = opaque;

    object_ref(OBJECT(s));
    vgpu_device_timer(&s->device, now_ns());
    object_unref(OBJECT(s));
}

/* What the guest does */

static uint64_t registers_read(void *opaque, hwaddr offset, unsigned size)
{
    VgpuStub *s = opaque;

    return vgpu_device_read(&s->device, offset, size, now_ns());
}

static void registers_write(void *opaque, hwaddr offset, uint64_t value, unsigned size)
{
    VgpuStub *s = opaque;

    object_ref(OBJECT(s));
    vgpu_device_write(&s->device, offset, value, size, now_ns());
    object_unref(OBJECT(s));
}

static const MemoryRegionOps registers_ops = {
    .read = registers_read,
    .write = registers_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {.min_access_size = 1, .max_access_size = 8, .unaligned = true},
    .impl = {.min_access_size = 1, .max_access_size = 8, .unaligned = true},
};

static void reset_device(Object *obj)
{
    VgpuStub *s = VGPU_STUB(obj);

    object_ref(OBJECT(s));
    vgpu_device_reset(&s->device, now_ns());
    object_unref(OBJECT(s));
}

VGPU_DEFINE_RESET(vgpu_stub_reset, reset_device)

static void vgpu_stub_config_write(PCIDevice *pci, uint32_t address, uint32_t value, int length)
{
    pci_default_write_config(pci, address, value, length);
    if (pci_is_express(pci)) {
        pcie_cap_flr_write_config(pci, address, value, length);
    }
}

/* Coming and going */

/* Properties to the model's configuration; false with an error that says what is allowed. */
static bool read_properties(VgpuStub *s, struct vgpu_device_config *config, Error **errp)
{
    static const char *const names[VGPU_PRIORITY_COUNT] = {"low", "medium", "high"};
    const char *pool = s->pool_id ? s->pool_id : "A";
    const char *priority = s->priority ? s->priority : "medium";
    unsigned i;

    if (pool[0] < 'A' || pool[0] > 'Z' || pool[1]) {
        error_setg(errp, "pool_id is '%s': give one letter from A to Z", pool);
        return false;
    }
    for (i = 0; i < VGPU_PRIORITY_COUNT; i++) {
        if (!strcmp(priority, names[i]) || (priority[0] == (char)('0' + i) && !priority[1])) {
            break;
        }
    }
    if (i == VGPU_PRIORITY_COUNT) {
        error_setg(errp, "priority is '%s': give low, medium, high, 0, 1 or 2", priority);
        return false;
    }
    if (s->timeout_ms < VGPU_DEVICE_TIMEOUT_MS_MIN || s->timeout_ms > VGPU_DEVICE_TIMEOUT_MS_MAX) {
        error_setg(errp, "timeout_ms is %" PRIu32 ": give %u to %u", s->timeout_ms,
                   VGPU_DEVICE_TIMEOUT_MS_MIN, VGPU_DEVICE_TIMEOUT_MS_MAX);
        return false;
    }
    if (s->vendor_id == 0 || s->vendor_id == 0xFFFF) {
        error_setg(errp, "vendor_id is 0x%04x, which no PCI device has: give 0x0001 to 0xfffe",
                   s->vendor_id);
        return false;
    }
    config->pool_id = (uint32_t)pool[0];
    config->priority = i;
    config->vm_id = s->vm_id;
    config->timeout_ms = s->timeout_ms;
    return true;
}

/* The express capability needs the large configuration space, and that is decided before
 * vgpu_stub_realize. */
static void vgpu_stub_device_realize(DeviceState *dev, Error **errp)
{
    PCIDevice *pci = PCI_DEVICE(dev);

    if (pci_bus_is_express(pci_get_bus(pci))) {
        pci->cap_present |= QEMU_PCI_CAP_EXPRESS;
    }
    VGPU_STUB_GET_CLASS(dev)->parent_realize(dev, errp);
}

static void vgpu_stub_realize(PCIDevice *pci, Error **errp)
{
    VgpuStub *s = VGPU_STUB(pci);
    struct vgpu_device_config config = {.msix = true};
    Error *error = NULL;
    unsigned vector, vectors = VGPU_MSIX_CHANNEL + s->window.channels;
    int ret;

    if (!read_properties(s, &config, errp)) {
        return;
    }
    pci_config_set_vendor_id(pci->config, s->vendor_id);
    pci_config_set_device_id(pci->config, s->device_id);

    if (pci_is_express(pci)) {
        ret = pcie_endpoint_cap_init(pci, 0);
        if (ret < 0) {
            error_setg(errp, "no room for the PCI Express capability (%s)", strerror(-ret));
            return;
        }
        pcie_cap_flr_init(pci);
    }

    if (!vgpu_window_create(&s->window, pci, errp)) {
        goto no_window;
    }
    config.window_bytes = s->window.bytes;
    config.channel_count = s->window.channels;
    if (!config.window_bytes) {
        vectors = 1;
    }
    ret = msix_init_exclusive_bar(pci, vectors, VGPU_BAR_MSIX, &error);
    if (ret == -ENOTSUP) {
        /* The machine has no interrupt controller for it; the guest sees the capability missing
         * and polls. */
        error_free(error);
        config.msix = false;
    } else if (ret < 0) {
        error_propagate(errp, error);
        goto no_msix;
    }
    for (vector = 0; config.msix && vector < vectors; vector++) {
        msix_vector_use(pci, vector);
    }
    s->msix = config.msix;

    if (vgpu_device_init(&s->device, &config, &device_ops, s) < 0) {
        error_setg(errp,
                   "the device model refuses the properties"); /* a check of ours has a hole */
        goto no_device;
    }
    memory_region_init_io(&s->registers, OBJECT(s), &registers_ops, s, "vgpu-stub-registers",
                          VGPU_BAR0_SIZE);
    pci_register_bar(pci, VGPU_BAR_REGISTERS, PCI_BASE_ADDRESS_SPACE_MEMORY, &s->registers);

    s->link_bh = qemu_bh_new(link_bh, s);
    s->timer = timer_new_ns(QEMU_CLOCK_REALTIME, timer_fired, s);
    /* From here on a mediator may come; one that has connected already is reported at once. */
    qemu_chr_fe_set_handlers(&s->chr, link_can_read, link_read, link_event, NULL, s, NULL, true);
    return;

no_device:
    if (config.msix) {
        msix_uninit_exclusive_bar(pci);
    }
no_msix:
    vgpu_window_destroy(&s->window);
no_window:
    if (pci_is_express(pci)) {
        pcie_cap_exit(pci);
    }
}

static void vgpu_stub_exit(PCIDevice *pci)
{
    VgpuStub *s = VGPU_STUB(pci);
    QEMUTimer *timer = s->timer;
    bool connected =
        !s->closed_waits && vgpu_device_link_state(&s->device) != VGPU_DEVICE_LINK_DOWN;

    s->timer = NULL; /* not realized any more: from here on the model's callbacks do nothing */
    timer_del(timer);
    timer_free(timer);
    if (s->watch) {
        g_source_remove(s->watch);
        s->watch = 0;
    }
    vgpu_device_link_closed(&s->device, now_ns());
    qemu_chr_fe_set_handlers(&s->chr, NULL, NULL, NULL, NULL, NULL, NULL, false);
    if (connected) {
        qemu_chr_fe_disconnect(&s->chr);
    }
    qemu_chr_fe_deinit(&s->chr, false);
    qemu_bh_delete(s->link_bh);
    s->link_bh = NULL;
    if (msix_present(pci)) {
        msix_uninit_exclusive_bar(pci);
    }
    vgpu_window_destroy(&s->window);
    if (pci_is_express(pci)) {
        pcie_cap_exit(pci);
    }
}

static char *get_link_state(Object *obj, Error **errp)
{
    static const char *const names[] = {
        [VGPU_DEVICE_LINK_DOWN] = "down",       [VGPU_DEVICE_LINK_HELLO] = "connected",
        [VGPU_DEVICE_LINK_UP] = "attached",     [VGPU_DEVICE_LINK_REFUSAL] = "refused",
        [VGPU_DEVICE_LINK_CLOSING] = "closing",
    };

    return g_strdup(names[vgpu_device_link_state(&VGPU_STUB(obj)->device)]);
}

static void vgpu_stub_instance_init(Object *obj)
{
    struct vgpu_device_stats *stats = &VGPU_STUB(obj)->device.stats;

    VGPU_ADD_STRING(obj, "link_state", get_link_state);
    VGPU_ADD_COUNTER(obj, "requests", &stats->requests);
    VGPU_ADD_COUNTER(obj, "completions", &stats->completions);
    VGPU_ADD_COUNTER(obj, "errors", &stats->errors);
    VGPU_ADD_COUNTER(obj, "timeouts", &stats->timeouts);
    VGPU_ADD_COUNTER(obj, "doorbells_ignored", &stats->doorbells_ignored);
    VGPU_ADD_COUNTER(obj, "guest_errors", &stats->guest_errors);
    VGPU_ADD_COUNTER(obj, "responses_dropped", &stats->responses_dropped);
    VGPU_ADD_COUNTER(obj, "resets", &stats->resets);
    VGPU_ADD_COUNTER(obj, "times_attached", &stats->attached);
    VGPU_ADD_COUNTER(obj, "times_refused", &stats->refused);
    VGPU_ADD_COUNTER(obj, "violations", &stats->violations);
    VGPU_ADD_COUNTER(obj, "channel_claims", &stats->claims);
    VGPU_ADD_COUNTER(obj, "channel_claims_refused", &stats->claims_refused);
    VGPU_ADD_COUNTER(obj, "channel_enables", &stats->channel_enables);
    VGPU_ADD_COUNTER(obj, "channel_resets", &stats->channel_resets);
    VGPU_ADD_COUNTER(obj, "channels_lost", &stats->channels_lost);
    VGPU_ADD_COUNTER(obj, "channel_states_dropped", &stats->states_dropped);
}

static VgpuProperty vgpu_stub_properties[] = {
    DEFINE_PROP_STRING("pool_id", VgpuStub, pool_id),
    DEFINE_PROP_STRING("priority", VgpuStub, priority),
    DEFINE_PROP_UINT32("vm_id", VgpuStub, vm_id, 0),
    DEFINE_PROP_CHR("chardev", VgpuStub, chr),
    DEFINE_PROP_UINT32("timeout_ms", VgpuStub, timeout_ms, VGPU_DEVICE_TIMEOUT_MS_DEFAULT),
    DEFINE_PROP_UINT16("vendor_id", VgpuStub, vendor_id, VGPU_PCI_VENDOR_ID),
    DEFINE_PROP_UINT16("device_id", VgpuStub, device_id, VGPU_PCI_DEVICE_ID),
    DEFINE_PROP_SIZE("window", VgpuStub, window.bytes, VGPU_WINDOW_BYTES_DEFAULT),
    DEFINE_PROP_UINT32("channels", VgpuStub, window.channels, VGPU_CHANNELS_DEFAULT),
    DEFINE_PROP_LINK("memdev", VgpuStub, window.memdev, TYPE_MEMORY_BACKEND, HostMemoryBackend *),
    VGPU_PROPERTIES_END};

/* What the device stands for is on the host's GPU (R19). */
static const VMStateDescription vgpu_stub_vmstate = {
    .name = TYPE_VGPU_STUB,
    .unmigratable = 1,
};

static void vgpu_stub_class_init(ObjectClass *klass, VgpuClassData *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);

    pc->realize = vgpu_stub_realize;
    pc->exit = vgpu_stub_exit;
    pc->config_write = vgpu_stub_config_write;
    pc->vendor_id = VGPU_PCI_VENDOR_ID;
    pc->device_id = VGPU_PCI_DEVICE_ID;
    pc->revision = VGPU_PCI_REVISION;
    pc->class_id = VGPU_PCI_CLASS;

    dc->desc = "one virtual machine's share of the host's GPUs";
    dc->vmsd = &vgpu_stub_vmstate;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    device_class_set_props(dc, vgpu_stub_properties);
    device_class_set_parent_realize(dc, vgpu_stub_device_realize,
                                    &VGPU_STUB_CLASS(klass)->parent_realize);
    VGPU_SET_RESET(klass, vgpu_stub_reset);
}

static VgpuInterfaceInfo vgpu_stub_interfaces[] = {
    {INTERFACE_PCIE_DEVICE},
    {INTERFACE_CONVENTIONAL_PCI_DEVICE},
    {},
};

static const TypeInfo vgpu_stub_types[] = {
    {
        .name = TYPE_VGPU_STUB,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(VgpuStub),
        .instance_init = vgpu_stub_instance_init,
        .class_size = sizeof(VgpuStubClass),
        .class_init = vgpu_stub_class_init,
        .interfaces = vgpu_stub_interfaces,
    },
};

DEFINE_TYPES(vgpu_stub_types)
