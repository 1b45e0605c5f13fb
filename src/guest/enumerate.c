/* SPDX-License-Identifier: MIT */
/* Finding devices in sysfs. Opens none of them, and knows nothing of registers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/guest.h"

#define DEFAULT_SYSFS_ROOT "/sys/bus/pci/devices"

static const char *sysfs_root_of(const struct vgpu_options *options)
{
    return options && options->sysfs_root ? options->sysfs_root : DEFAULT_SYSFS_ROOT;
}

static bool read_text(const char *dir, const char *name, char *text, size_t capacity)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, capacity - 1);
    close(fd);
    if (n < 0)
        return false;
    text[n] = 0;
    return true;
}

static bool read_hex(const char *dir, const char *name, uint32_t *value)
{
    char text[32];
    char *end;
    if (!read_text(dir, name, text, sizeof(text)))
        return false;
    *value = (uint32_t)strtoul(text, &end, 16);
    return end != text;
}

/* "DDDD:BB:DD.F"; the domain may be longer. Also keeps "../" out of paths. */
static bool is_pci_address(const char *text)
{
    size_t length = strlen(text);
    return length >= 12 && length < sizeof(((struct vgpu_device_entry *)0)->address) &&
           strspn(text, "0123456789abcdefABCDEF:.") == length && !strstr(text, "..");
}

static bool read_entry(const char *root, const char *address, struct vgpu_device_entry *entry)
{
    char dir[384], path[512], text[128];
    uint32_t vendor, device, class_code;
    snprintf(dir, sizeof(dir), "%s/%s", root, address);
    if (!read_hex(dir, "vendor", &vendor) || !read_hex(dir, "device", &device) ||
        !read_hex(dir, "class", &class_code))
        return false;
    *entry = (struct vgpu_device_entry){
        .vendor_id = (uint16_t)vendor, .device_id = (uint16_t)device, .class_code = class_code};
    snprintf(entry->address, sizeof(entry->address), "%s", address);
    uint64_t start, end;
    if (read_text(dir, "resource", text, sizeof(text)) &&
        sscanf(text, "0x%" SCNx64 " 0x%" SCNx64, &start, &end) == 2 && end > start)
        entry->bar0_bytes = end - start + 1;
    snprintf(path, sizeof(path), "%s/resource0", dir);
    entry->accessible = access(path, R_OK | W_OK) == 0;
    return true;
}

static bool is_ours(const struct vgpu_device_entry *entry)
{
    return entry->vendor_id == VGPU_PCI_VENDOR_ID && entry->device_id == VGPU_PCI_DEVICE_ID &&
           entry->class_code >> 8 == VGPU_PCI_CLASS;
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int vgpu_list_devices(const struct vgpu_options *options, struct vgpu_device_entry *entries,
                      size_t capacity, size_t *count)
{
    if (!count || (capacity && !entries))
        return vgpu_fail(-EINVAL, "vgpu_list_devices: a pointer is NULL");
    *count = 0;
    const char *root = sysfs_root_of(options);
    struct dirent **names;
    int n = scandir(root, &names, NULL, compare_names);
    if (n < 0)
        return vgpu_fail(errno == ENOMEM ? -ENOMEM : -ENOENT,
                         "the list of PCI devices, %s, cannot be read: %s", root, strerror(errno));
    for (int i = 0; i < n; i++) {
        struct vgpu_device_entry entry;
        if (is_pci_address(names[i]->d_name) && read_entry(root, names[i]->d_name, &entry) &&
            is_ours(&entry)) {
            if (*count < capacity)
                entries[*count] = entry;
            (*count)++;
        }
        free(names[i]);
    }
    free(names);
    return 0;
}

/* The device that was named: any vendor, since the host may have given it another number, but the
 * class and the size of BAR0 must be ours. */
static int find_named(const char *root, const char *named, struct vgpu_device_entry *entry)
{
    if (!is_pci_address(named))
        return vgpu_fail(-EINVAL, "'pci:%s' is no PCI address; one looks like pci:0000:00:04.0",
                         named);
    if (!read_entry(root, named, entry))
        return vgpu_fail(-ENODEV, "there is no PCI device %s (looked in %s)", named, root);
    if (entry->class_code >> 8 != VGPU_PCI_CLASS)
        return vgpu_fail(-ENODEV,
                         "PCI device %s has class %06" PRIx32
                         ", a vgpu device has %04x: it is something else",
                         named, entry->class_code, VGPU_PCI_CLASS);
    return 0;
}

int vgpu_find_device(const struct vgpu_options *options, char *device_dir, size_t capacity,
                     char *address, size_t address_capacity)
{
    const char *root = sysfs_root_of(options);
    const char *wanted = options ? options->device : NULL;
    struct vgpu_device_entry entry;
    if (wanted && strncmp(wanted, "pci:", 4) == 0) {
        int err = find_named(root, wanted + 4, &entry);
        if (err < 0)
            return err;
    } else {
        size_t count;
        int err = vgpu_list_devices(options, &entry, 1, &count);
        if (err < 0)
            return err;
        if (count == 0)
            return vgpu_fail(-ENODEV,
                             "no vgpu device found: no PCI device %04x:%04x of class %04x in %s. "
                             "Was the VM started with '-device vgpu-stub,...'? A device with other "
                             "numbers is named by VGPU_DEVICE=pci:ADDRESS",
                             VGPU_PCI_VENDOR_ID, VGPU_PCI_DEVICE_ID, VGPU_PCI_CLASS, root);
    }
    if (entry.bar0_bytes != VGPU_BAR0_SIZE)
        return vgpu_fail(-ENODEV,
                         "PCI device %s has %" PRIu64
                         " bytes at BAR0, a vgpu device has %u: it is something else",
                         entry.address, entry.bar0_bytes, VGPU_BAR0_SIZE);
    snprintf(device_dir, capacity, "%s/%s", root, entry.address);
    snprintf(address, address_capacity, "pci:%s", entry.address);
    return 0;
}
