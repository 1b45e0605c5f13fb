# SPDX-License-Identifier: GPL-2.0-or-later
# What our QEMU is built with, and nothing more: the boards, our device, and what tests and users put beside it.
# hypervisor/qemu/build leaves out the symbols that an older or newer QEMU does not have.

# Boards
CONFIG_Q35=y
CONFIG_I440FX=y
CONFIG_ISAPC=y
CONFIG_MICROVM=y
CONFIG_HPET=y

# Our device, and the root port it is unplugged from
CONFIG_VGPU_STUB=y
CONFIG_PCIE_PORT=y
CONFIG_IOH3420=y

# IOMMU and pass-through, to see our device behind one
CONFIG_VTD=y
CONFIG_VFIO=y
CONFIG_VFIO_PCI=y

# Devices that tests compare with or end a guest by
CONFIG_EDU=y
CONFIG_PCI_TESTDEV=y
CONFIG_TEST_DEVICES=y
CONFIG_ISA_DEBUG=y
CONFIG_PVPANIC_ISA=y
CONFIG_PVPANIC_PCI=y

# What a VM of one's own needs
CONFIG_SERIAL_PCI=y
CONFIG_VGA_PCI=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_MMIO=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SERIAL=y
