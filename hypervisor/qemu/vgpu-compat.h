/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What differs between QEMU 4.2 and 11, and nothing else. The device is written to the newest API;
 * this header gives an older QEMU the same names. It includes every QEMU header the device needs,
 * since those move, too. Where a header moved we ask the compiler, where a meaning changed we ask
 * the version. Private to vgpu-*.c.
 */
#ifndef VGPU_COMPAT_H
#define VGPU_COMPAT_H

#include "qemu/osdep.h"

#define VGPU_QEMU_SINCE(major, minor)                                                              \
    (QEMU_VERSION_MAJOR > (major) ||                                                               \
     (QEMU_VERSION_MAJOR == (major) && QEMU_VERSION_MINOR >= (minor)))

#include "chardev/char-fe.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/event_notifier.h"
#include "qemu/host-utils.h"
#include "qemu/log.h"
#include "qemu/main-loop.h"
#include "qemu/memfd.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qom/object.h"

#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci.h"
#include "hw/pci/pcie.h"

#if __has_include("hw/pci/pci_device.h")
#include "hw/pci/pci_device.h" /* since 8.0 */
#endif
#if __has_include("hw/pci/pci_bus.h")
#include "hw/pci/pci_bus.h"
#endif

#if __has_include("hw/core/qdev-properties.h") /* since 11.0 */
#include "hw/core/qdev-properties.h"
#else
#include "hw/qdev-properties.h"
#endif
#if __has_include("hw/core/qdev-properties-system.h")
#include "hw/core/qdev-properties-system.h"
#elif __has_include("hw/qdev-properties-system.h") /* since 6.0 */
#include "hw/qdev-properties-system.h"
#endif
#if __has_include("system/hostmem.h") /* since 10.0 */
#include "system/hostmem.h"
#include "system/kvm.h"
#else
#include "sysemu/hostmem.h"
#include "sysemu/kvm.h"
#endif
#if !VGPU_QEMU_SINCE(8, 0)
#include "hw/boards.h"
#include "sysemu/tcg.h"
#endif
#if __has_include("hw/core/resettable.h")
#include "hw/core/resettable.h"
#elif __has_include("hw/resettable.h")
#include "hw/resettable.h"
#endif

/* 10.2 calls the guest's end of a character device what it is. */
#if !VGPU_QEMU_SINCE(10, 2)
typedef CharBackend CharFrontend;
#endif

/* 10.1 made class data and lists of interfaces const. */
#if VGPU_QEMU_SINCE(10, 1)
typedef const void VgpuClassData;
typedef const InterfaceInfo VgpuInterfaceInfo;
#else
typedef void VgpuClassData;
typedef InterfaceInfo VgpuInterfaceInfo;
#endif

/* 10.0 knows the length of a list of properties, and has no mark for its end. */
#if VGPU_QEMU_SINCE(10, 0)
typedef const Property VgpuProperty;
#define VGPU_PROPERTIES_END
#else
typedef Property VgpuProperty;
#define VGPU_PROPERTIES_END DEFINE_PROP_END_OF_LIST(),
#endif

/* 9.1 gave reset its three phases with a type; the one method before that is called wherever a PCI
 * device is reset, which the early phases (5.0) were not. */
#if VGPU_QEMU_SINCE(9, 1)
#define VGPU_DEFINE_RESET(name, body)                                                              \
    static void name(Object *obj, ResetType type)                                                  \
    {                                                                                              \
        body(obj);                                                                                 \
    }
#define VGPU_SET_RESET(klass, name) (RESETTABLE_CLASS(klass)->phases.hold = (name))
#else
#define VGPU_DEFINE_RESET(name, body)                                                              \
    static void name(DeviceState *dev)                                                             \
    {                                                                                              \
        body(OBJECT(dev));                                                                         \
    }
#define VGPU_SET_RESET(klass, name) (DEVICE_CLASS(klass)->reset = (name))
#endif

/* 7.1 stopped saying that the first argument of a watch is a GIOChannel: it never was for us. */
#if VGPU_QEMU_SINCE(7, 1)
typedef void VgpuWatchChannel;
#else
typedef GIOChannel VgpuWatchChannel;
#endif

#if VGPU_QEMU_SINCE(5, 0)
typedef QEMUChrEvent VgpuChrEvent;
#else
typedef int VgpuChrEvent;
#define device_class_set_props(dc, list) ((dc)->props = (list))
#endif

/* 5.1 dropped the errors of adding a property to an object, 5.0 gave pointers flags. */
#if VGPU_QEMU_SINCE(5, 1)
#define VGPU_ADD_STRING(obj, name, get) object_property_add_str(obj, name, get, NULL)
#define VGPU_ADD_COUNTER(obj, name, at)                                                            \
    object_property_add_uint64_ptr(obj, name, at, OBJ_PROP_FLAG_READ)
#elif VGPU_QEMU_SINCE(5, 0)
#define VGPU_ADD_STRING(obj, name, get) object_property_add_str(obj, name, get, NULL, &error_abort)
#define VGPU_ADD_COUNTER(obj, name, at)                                                            \
    object_property_add_uint64_ptr(obj, name, at, OBJ_PROP_FLAG_READ, &error_abort)
#else
#define VGPU_ADD_STRING(obj, name, get) object_property_add_str(obj, name, get, NULL, &error_abort)
#define VGPU_ADD_COUNTER(obj, name, at) object_property_add_uint64_ptr(obj, name, at, &error_abort)
#endif

/* 6.0 can begin inside the file, 6.1 made a flag of `shared`. */
#if VGPU_QEMU_SINCE(6, 1)
#define VGPU_INIT_RAM_FROM_FD(mr, owner, name, size, fd, errp)                                     \
    memory_region_init_ram_from_fd(mr, owner, name, size, RAM_SHARED, fd, 0, errp)
#elif VGPU_QEMU_SINCE(6, 0)
#define VGPU_INIT_RAM_FROM_FD(mr, owner, name, size, fd, errp)                                     \
    memory_region_init_ram_from_fd(mr, owner, name, size, true, fd, 0, errp)
#else
#define VGPU_INIT_RAM_FROM_FD(mr, owner, name, size, fd, errp)                                     \
    memory_region_init_ram_from_fd(mr, owner, name, size, true, fd, errp)
#endif

/* Until 8.0 TCG left out the guest's memory barriers when the machine can have one processor only.
 */
static inline bool vgpu_barriers_are_left_out(void)
{
#if VGPU_QEMU_SINCE(8, 0)
    return false;
#else
    return tcg_enabled() && current_machine->smp.max_cpus == 1;
#endif
}

/* 7.0 lets several routes be made known to KVM at once. The route's number, or a negative errno. */
static inline int vgpu_add_msi_route(PCIDevice *pci, int vector)
{
#if VGPU_QEMU_SINCE(7, 0)
    KVMRouteChange change = kvm_irqchip_begin_route_changes(kvm_state);
    int virq = kvm_irqchip_add_msi_route(&change, vector, pci);

    kvm_irqchip_commit_route_changes(&change);
    return virq;
#else
    return kvm_irqchip_add_msi_route(kvm_state, vector, pci);
#endif
}

#endif
