# SPDX-License-Identifier: MIT
"""aarch64: ``Documentation/arch/arm64/booting.rst`` of Linux, and the machine's device tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from vdesktop_core.arch.device_tree import TreeBuilder, add_chosen, add_devices, add_memory
from vdesktop_core.arch.flat_loader import FlatLoader
from vdesktop_core.arch.memory_map import Window
from vdesktop_core.errors import BootError
from vdesktop_core.hypervisor import Arch, EntryState, IrqTrigger

if TYPE_CHECKING:
    from vdesktop_core.arch.boot import MachineLayout
    from vdesktop_core.arch.efi import EfiTables
    from vdesktop_core.hypervisor import InterruptController, Platform

_GIC_PHANDLE = 1
_CACHE_PHANDLE = 2
_SPI, _PPI = 0, 1
_EDGE, _LEVEL_HIGH = 1, 4  # IRQ_TYPE_EDGE_RISING, IRQ_TYPE_LEVEL_HIGH
#: PPIs of the generic timer: secure physical, non-secure physical, virtual, hypervisor physical.
TIMER_PPIS = (13, 14, 11, 10)
#: GICv2 has at most this many vCPUs, a bit each in a PPI's third cell.
_GICV2_CPUS = 8

_GIC_REGIONS = {"gicv2": ("gicd", "gicc"), "gicv3": ("gicd", "gicr")}
_GIC_COMPATIBLE = {"gicv2": ("arm,cortex-a15-gic",), "gicv3": ("arm,gic-v3",)}


class Aarch64Loader(FlatLoader):
    """Loads arm64 ``Image`` kernels."""

    arch = Arch.AARCH64
    command_line_limit: ClassVar[int] = 2047

    def device_tree(
        self,
        layout: MachineLayout,
        platform: Platform,
        arguments: bytes,
        initrd: Window | None,
        efi: EfiTables | None,
    ) -> bytes:
        """Implement :meth:`FlatLoader.device_tree`."""
        return device_tree(layout, platform, arguments, initrd, efi)

    def entry(self, kernel: int, tree: int, _boot_cpu: int, /) -> EntryState:
        """Enter at the image's first byte: x0 is the device tree, x1 to x3 are zero."""
        return EntryState({"pc": kernel, "x0": tree, "x1": 0, "x2": 0, "x3": 0})


def device_tree(
    layout: MachineLayout,
    platform: Platform,
    arguments: bytes,
    initrd: Window | None,
    efi: EfiTables | None = None,
) -> bytes:
    """Describe an aarch64 machine.

    Raises:
        BootError: the backend's interrupt controller is none a device tree of this machine can name.
    """
    controller = platform.interrupt_controller
    slot_trigger = _LEVEL_HIGH if controller.trigger is IrqTrigger.LEVEL else _EDGE
    tree = TreeBuilder()
    with tree.node(""):
        tree.cells("#address-cells", 2)
        tree.cells("#size-cells", 2)
        tree.cells("interrupt-parent", _GIC_PHANDLE)
        tree.strings("compatible", "vdesktop,aarch64", "linux,dummy-virt")
        tree.strings("model", "virtio-desktop (aarch64)")
        tree.flag("dma-coherent")
        add_chosen(tree, layout, arguments, initrd, efi)
        add_memory(tree, layout.ram)
        _add_cpus(tree, layout, platform)
        with tree.node("psci"):
            tree.strings("compatible", "arm,psci-1.0", "arm,psci-0.2")
            tree.strings("method", platform.cpu_enable.removeprefix("psci-"))
        _add_gic(tree, controller)
        with tree.node("timer"):
            tree.strings("compatible", "arm,armv8-timer")
            tree.flag("always-on")
            flags = _timer_flags(controller, layout.vcpus)
            tree.cells("interrupts", *(cell for ppi in TIMER_PPIS for cell in (_PPI, ppi, flags)))
        add_devices(
            tree,
            layout,
            _GIC_PHANDLE,
            lambda line: (_SPI, line, _LEVEL_HIGH),
            lambda line: (_SPI, line, slot_trigger),
        )
    return tree.finish()


def _add_cpus(tree: TreeBuilder, layout: MachineLayout, platform: Platform) -> None:
    compatible = platform.cpu_model.get("compatible", "arm,armv8")
    with tree.node("cpus"):
        tree.cells("#address-cells", 2)
        tree.cells("#size-cells", 0)
        for mpidr in platform.cpu_ids[: layout.vcpus]:
            with tree.node(f"cpu@{mpidr:x}"):
                tree.strings("device_type", "cpu")
                tree.strings("compatible", compatible)
                tree.quads("reg", mpidr)
                tree.strings("enable-method", "psci")
                tree.cells("next-level-cache", _CACHE_PHANDLE)
        # Sizes are the CPU's to tell; without this node, Linux takes no cache for real.
        with tree.node("l2-cache"):
            tree.strings("compatible", "cache")
            tree.cells("cache-level", 2)
            tree.flag("cache-unified")
            tree.cells("phandle", _CACHE_PHANDLE)


def _add_gic(tree: TreeBuilder, controller: InterruptController) -> None:
    if controller.kind not in _GIC_REGIONS:
        raise BootError(f"interrupt controller {controller.kind!r} is not one of {', '.join(_GIC_REGIONS)}")
    windows = [Window(*controller.regions[name]) for name in _GIC_REGIONS[controller.kind]]
    with tree.node(f"interrupt-controller@{windows[0].base:x}"):
        tree.strings("compatible", *_GIC_COMPATIBLE[controller.kind])
        tree.cells("#interrupt-cells", 3)
        tree.cells("#address-cells", 0)
        tree.flag("interrupt-controller")
        tree.reg(*windows)
        tree.cells("phandle", _GIC_PHANDLE)


def _timer_flags(controller: InterruptController, vcpus: int) -> int:
    if controller.kind == "gicv2":
        return ((1 << min(vcpus, _GICV2_CPUS)) - 1) << 8 | _LEVEL_HIGH
    return _LEVEL_HIGH
