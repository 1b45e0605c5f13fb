/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device behind an IOMMU, handed to this program by vfio-pci: registers and window mapped,
 * MSI-X vectors as eventfds. What a driver in user space would do, and no more; the test outside
 * plays the mediator, and follows by the lines printed here.
 *
 * t-vfio MODULE...    kernel modules to load first, in this order
 */
#define _GNU_SOURCE
#include "guest_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vgpu/registers.h"
#include "vgpu/ring.h"

#define CHANNEL    3u
#define VECTOR     (VGPU_MSIX_CHANNEL + CHANNEL)
#define PATIENCE_S 120

struct vfio {
    char address[64];
    int container, group, device;
    volatile uint8_t *registers, *window;
    uint64_t window_bytes;
    int vectors[VGPU_MSIX_CHANNEL + VGPU_CHANNELS_MAX];
    uint32_t vector_count;
};

static int give_up(const char *what)
{
    fprintf(stderr, "t-vfio: %s: %s\n", what, strerror(errno));
    return 1;
}

static bool load_module(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool loaded = fd >= 0 && (syscall(SYS_finit_module, fd, "", 0) == 0 || errno == EEXIST);
    if (!loaded)
        fprintf(stderr, "t-vfio: cannot load %s: %s\n", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return loaded;
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return written;
}

static unsigned read_id(const char *address, const char *name)
{
    char path[320];
    unsigned id = 0;
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, name);
    FILE *file = fopen(path, "re");
    if (file) {
        if (fscanf(file, "%x", &id) != 1)
            id = 0;
        fclose(file);
    }
    return id;
}

static bool find_device(struct vfio *v)
{
    DIR *dir = opendir("/sys/bus/pci/devices");
    const struct dirent *entry;
    bool found = false;
    while (dir && !found && (entry = readdir(dir))) {
        found = entry->d_name[0] != '.' && strlen(entry->d_name) < sizeof(v->address) &&
                read_id(entry->d_name, "vendor") == VGPU_PCI_VENDOR_ID &&
                read_id(entry->d_name, "device") == VGPU_PCI_DEVICE_ID;
        if (found)
            strcpy(v->address, entry->d_name);
    }
    if (dir)
        closedir(dir);
    return found;
}

/* Has vfio-pci take the device; the name of its group's node. */
static bool bind_device(struct vfio *v, char *node, size_t size)
{
    char path[320], target[320];
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", v->address);
    if (!write_file(path, "vfio-pci") || !write_file("/sys/bus/pci/drivers_probe", v->address))
        return false;
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", v->address);
    ssize_t length = readlink(path, target, sizeof(target) - 1);
    if (length < 0)
        return false;
    target[length] = 0;
    const char *number = strrchr(target, '/');
    snprintf(node, size, "/dev/vfio/%s", number ? number + 1 : target);
    return true;
}

static bool open_device(struct vfio *v, const char *node)
{
    struct vfio_group_status status = {.argsz = sizeof(status)};
    v->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
    v->group = open(node, O_RDWR | O_CLOEXEC);
    if (v->container < 0 || v->group < 0 || ioctl(v->group, VFIO_GROUP_GET_STATUS, &status) < 0)
        return false;
    if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
        errno = EBUSY; /* another driver has a device of the group */
        return false;
    }
    if (ioctl(v->group, VFIO_GROUP_SET_CONTAINER, &v->container) < 0 ||
        ioctl(v->container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) < 0)
        return false;
    v->device = ioctl(v->group, VFIO_GROUP_GET_DEVICE_FD, v->address);
    return v->device >= 0;
}

/* Maps a BAR; its size into *bytes. */
static volatile uint8_t *map_region(struct vfio *v, unsigned bar, uint64_t *bytes)
{
    struct vfio_region_info info = {.argsz = sizeof(info), .index = bar};
    if (ioctl(v->device, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
        return NULL;
    *bytes = info.size;
    if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP)) {
        errno = EOPNOTSUPP;
        return NULL;
    }
    void *at =
        mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, v->device, (off_t)info.offset);
    return at == MAP_FAILED ? NULL : at;
}

/* An MSI-X message is a write by the device: without this it goes nowhere. */
static bool become_master(struct vfio *v)
{
    struct vfio_region_info info = {.argsz = sizeof(info), .index = VFIO_PCI_CONFIG_REGION_INDEX};
    uint16_t command;
    if (ioctl(v->device, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
        return false;
    off_t at = (off_t)info.offset + PCI_COMMAND;
    if (pread(v->device, &command, sizeof(command), at) != sizeof(command))
        return false;
    command |= PCI_COMMAND_MASTER;
    return pwrite(v->device, &command, sizeof(command), at) == sizeof(command);
}

/* MSI-X on, every vector an eventfd; or off. */
static bool set_vectors(struct vfio *v, bool on)
{
    uint32_t count = on ? v->vector_count : 0;
    size_t size = sizeof(struct vfio_irq_set) + count * sizeof(int32_t);
    struct vfio_irq_set *set = calloc(1, size);
    if (!set)
        return false;
    set->argsz = (uint32_t)size;
    set->flags =
        VFIO_IRQ_SET_ACTION_TRIGGER | (on ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE);
    set->index = VFIO_PCI_MSIX_IRQ_INDEX;
    set->count = count;
    memcpy(set->data, v->vectors, count * sizeof(int32_t));
    bool done = ioctl(v->device, VFIO_DEVICE_SET_IRQS, set) == 0;
    int error = errno;
    free(set);
    errno = error;
    return done;
}

/* Which vector is signalled next; -1 when none is in this time. */
static int wait_vector(struct vfio *v, int timeout_ms)
{
    struct pollfd polls[VGPU_MSIX_CHANNEL + VGPU_CHANNELS_MAX];
    for (uint32_t i = 0; i < v->vector_count; i++)
        polls[i] = (struct pollfd){.fd = v->vectors[i], .events = POLLIN};
    if (poll(polls, v->vector_count, timeout_ms) <= 0)
        return -1;
    for (uint32_t i = 0; i < v->vector_count; i++) {
        uint64_t value;
        if (polls[i].revents & POLLIN && read(v->vectors[i], &value, sizeof(value)) > 0)
            return (int)i;
    }
    return -1;
}

static uint32_t reg(struct vfio *v, uint32_t offset)
{
    return *(volatile uint32_t *)(v->registers + offset);
}

static void set_reg(struct vfio *v, uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(v->registers + offset) = value;
}

static bool wait_reg(struct vfio *v, uint32_t offset, uint32_t value)
{
    for (unsigned i = 0; i < PATIENCE_S * 100; i++) {
        if (reg(v, offset) == value)
            return true;
        usleep(10000);
    }
    return false;
}

static void check_channel(struct vfio *v)
{
    volatile uint32_t *shared =
        (volatile uint32_t *)(v->window + CHANNEL * VGPU_CHANNEL_BYTES + VGPU_CHANNEL_UPLOAD);
    guest_check(wait_reg(v, VGPU_REG_LINK_STATE, VGPU_LINK_ATTACHED), "R16", "attached");
    set_reg(v, VGPU_REG_CHANNEL_OWNER(CHANNEL), (uint32_t)getpid());
    guest_check(reg(v, VGPU_REG_CHANNEL_OWNER(CHANNEL)) == (uint32_t)getpid(), "R21", "claimed");
    set_reg(v, VGPU_REG_CHANNEL_CTRL(CHANNEL), 1);
    guest_check(wait_reg(v, VGPU_REG_CHANNEL_CTRL(CHANNEL), VGPU_CHANNEL_ACTIVE), "R24", "active");

    shared[0] = 0xC0FFEE01u;
    guest_say("written");
    int vector = wait_vector(v, PATIENCE_S * 1000);
    guest_check(vector == (int)VECTOR, "R27", "vector %u was signalled: %d", VECTOR, vector);
    guest_check(shared[1] == 0xC0FFEE02u, "L16", "what the mediator wrote before: 0x%x", shared[1]);

    set_reg(v, VGPU_REG_CHANNEL_DOORBELL(CHANNEL), 1);
    guest_say("rung");
    vector = wait_vector(v, PATIENCE_S * 1000);
    guest_check(vector == (int)VECTOR, "R25", "the doorbell was heard: vector %d", vector);
}

/* The channel's own was signalled while the vectors were off, and is late or not to come at all. */
static int wait_other(struct vfio *v)
{
    int vector = wait_vector(v, PATIENCE_S * 1000);
    return vector == (int)VECTOR ? wait_vector(v, PATIENCE_S * 1000) : vector;
}

static void check_others(struct vfio *v)
{
    guest_check(set_vectors(v, false), "R27", "vectors off");
    guest_say("off");
    guest_check(guest_wait_line(), "R27", "signalled meanwhile");
    guest_check(wait_vector(v, 300) == -1, "R27", "nothing arrives while they are off");
    guest_check(set_vectors(v, true), "R27", "vectors on again");
    guest_say("on");
    int vector = wait_other(v);
    guest_check(vector == (int)VGPU_MSIX_CHANNEL, "R27", "channel 0's vector: %d", vector);

    /* The mailbox's vector, too. */
    set_reg(v, VGPU_REG_INTERRUPT_CTRL, 1);
    set_reg(v, VGPU_REG_REQUEST_LEN, 4);
    set_reg(v, VGPU_REG_DOORBELL, 1);
    vector = wait_other(v);
    guest_check(vector == VGPU_MSIX_MAILBOX, "R8", "the mailbox's vector: %d", vector);
    guest_check(reg(v, VGPU_REG_STATUS) == VGPU_STATUS_DONE, "R8", "answered");

    set_reg(v, VGPU_REG_CHANNEL_OWNER(CHANNEL), 0);
    guest_check(wait_reg(v, VGPU_REG_CHANNEL_CTRL(CHANNEL), VGPU_CHANNEL_FREE), "R23", "free");
}

int main(int argc, char **argv)
{
    struct vfio v = {.device = -1};
    struct vfio_irq_info irqs = {.argsz = sizeof(irqs), .index = VFIO_PCI_MSIX_IRQ_INDEX};
    char node[340];
    uint64_t bytes;

    for (int i = 1; i < argc; i++)
        if (!load_module(argv[i]))
            return 1;
    if (!find_device(&v)) {
        fprintf(stderr, "t-vfio: there is no device\n");
        return GUEST_SKIP;
    }
    if (!bind_device(&v, node, sizeof(node)))
        return give_up("vfio-pci does not take the device (is there an IOMMU?)");
    if (!open_device(&v, node))
        return give_up(node);
    v.registers = map_region(&v, VGPU_BAR_REGISTERS, &bytes);
    v.window = map_region(&v, VGPU_BAR_WINDOW, &v.window_bytes);
    if (!v.registers || !v.window)
        return give_up("a BAR cannot be mapped");
    guest_check(bytes == VGPU_BAR0_SIZE, "R1", "BAR0 has %llu bytes", (unsigned long long)bytes);
    guest_check(v.window_bytes == reg(&v, VGPU_REG_WINDOW_SIZE_LO), "R20", "BAR2 has %llu bytes",
                (unsigned long long)v.window_bytes);
    uint32_t channels = reg(&v, VGPU_REG_CHANNEL_COUNT);
    if (ioctl(v.device, VFIO_DEVICE_GET_IRQ_INFO, &irqs) < 0)
        return give_up("MSI-X");
    guest_check(irqs.count == VGPU_MSIX_CHANNEL + channels, "R1", "%u vectors", irqs.count);
    if (irqs.count > sizeof(v.vectors) / sizeof(v.vectors[0]) || channels <= CHANNEL) {
        fprintf(stderr, "t-vfio: this device has %u vectors and %u channels\n", irqs.count,
                channels);
        return 1;
    }
    for (v.vector_count = 0; v.vector_count < irqs.count; v.vector_count++) {
        v.vectors[v.vector_count] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (v.vectors[v.vector_count] < 0)
            return give_up("eventfd");
    }
    if (!become_master(&v) || !set_vectors(&v, true))
        return give_up("MSI-X cannot be enabled");
    guest_say("ready");
    check_channel(&v);
    check_others(&v);
    return guest_finish("t-vfio", NULL);
}
