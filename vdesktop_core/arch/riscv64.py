# SPDX-License-Identifier: MIT
"""riscv64: ``Documentation/arch/riscv/boot.rst`` of Linux, and the machine's device tree.

The backend is the supervisor execution environment (SBI); the kernel enters in
S-mode, and no M-mode interrupt is described.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from vdesktop_core.arch.device_tree import TreeBuilder, add_chosen, add_devices, add_memory
from vdesktop_core.arch.flat_loader import FlatLoader
from vdesktop_core.arch.memory_map import Window
from vdesktop_core.errors import BootError
from vdesktop_core.hypervisor import Arch, EntryState

if TYPE_CHECKING:
    from vdesktop_core.arch.boot import MachineLayout
    from vdesktop_core.arch.efi import EfiTables
    from vdesktop_core.hypervisor import Platform

_PLIC_PHANDLE = 1
_FIRST_CPU_PHANDLE = 2
#: Cause number of the supervisor external interrupt (Privileged Architecture, table of scause).
_SUPERVISOR_EXTERNAL = 9
_DEFAULT_ISA = "rv64imafdc_zicntr_zicsr_zifencei"


class Riscv64Loader(FlatLoader):
    """Loads riscv ``Image`` kernels, EFI-stub ones included."""

    arch = Arch.RISCV64
    command_line_limit: ClassVar[int] = 1023
    efi_screen = True

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

    def entry(self, kernel: int, tree: int, boot_cpu: int, /) -> EntryState:
        """Enter at the image's first byte: a0 is the hart id, a1 the device tree."""
        return EntryState({"pc": kernel, "a0": boot_cpu, "a1": tree})


def device_tree(
    layout: MachineLayout,
    platform: Platform,
    arguments: bytes,
    initrd: Window | None,
    efi: EfiTables | None = None,
) -> bytes:
    """Describe a riscv64 machine.

    Raises:
        BootError: the backend's interrupt controller is none a device tree of this machine can name.
    """
    tree = TreeBuilder()
    with tree.node(""):
        tree.cells("#address-cells", 2)
        tree.cells("#size-cells", 2)
        tree.strings("compatible", "vdesktop,riscv64")
        tree.strings("model", "virtio-desktop (riscv64)")
        add_chosen(tree, layout, arguments, initrd, efi)
        add_memory(tree, layout.ram)
        _add_cpus(tree, layout, platform)
        _add_plic(tree, layout, platform)
        # Not at the root node: the harts' interrupt controllers are no children of the PLIC.
        add_devices(tree, layout, _PLIC_PHANDLE, lambda line: (line,), lambda line: (line,))
    return tree.finish()


def isa_extensions(isa: str) -> tuple[str, ...]:
    """Split a ``riscv,isa`` string into ``riscv,isa-extensions``: single letters, then the named ones.

    Raises:
        BootError: it does not start with rv64.
    """
    match = re.fullmatch(r"rv64([a-z]+)((?:_[a-z0-9]+)*)", isa.lower())
    if match is None:
        raise BootError(f"the backend's riscv,isa {isa!r} is not of the form rv64imafdc_zicsr")
    letters, named = match.groups()
    return (*letters.replace("g", "imafd"), *filter(None, named.split("_")))


def _add_cpus(tree: TreeBuilder, layout: MachineLayout, platform: Platform) -> None:
    isa = platform.cpu_model.get("riscv,isa", _DEFAULT_ISA)
    with tree.node("cpus"):
        tree.cells("#address-cells", 1)
        tree.cells("#size-cells", 0)
        tree.cells("timebase-frequency", platform.timer_hz)
        for index, hart in enumerate(platform.cpu_ids[: layout.vcpus]):
            with tree.node(f"cpu@{hart:x}"):
                tree.strings("device_type", "cpu")
                tree.strings("compatible", platform.cpu_model.get("compatible", "riscv"))
                tree.cells("reg", hart)
                tree.strings("status", "okay")
                tree.strings("riscv,isa", isa)
                tree.strings("riscv,isa-base", "rv64i")
                tree.strings("riscv,isa-extensions", *isa_extensions(isa))
                tree.strings("mmu-type", platform.cpu_model.get("mmu-type", "riscv,sv39"))
                with tree.node("interrupt-controller"):
                    tree.strings("compatible", "riscv,cpu-intc")
                    tree.cells("#interrupt-cells", 1)
                    tree.cells("#address-cells", 0)
                    tree.flag("interrupt-controller")
                    tree.cells("phandle", _FIRST_CPU_PHANDLE + index)


def _add_plic(tree: TreeBuilder, layout: MachineLayout, platform: Platform) -> None:
    controller = platform.interrupt_controller
    if controller.kind != "plic":
        raise BootError(f"interrupt controller {controller.kind!r} is not a plic")
    window = Window(*controller.regions["plic"])
    with tree.node(f"interrupt-controller@{window.base:x}"):
        tree.strings("compatible", "sifive,plic-1.0.0", "riscv,plic0")
        tree.cells("#interrupt-cells", 1)
        tree.cells("#address-cells", 0)
        tree.flag("interrupt-controller")
        tree.reg(window)
        tree.cells("riscv,ndev", controller.lines.stop - 1)
        # Context i of the PLIC is the S-mode of vCPU i.
        contexts = ((_FIRST_CPU_PHANDLE + index, _SUPERVISOR_EXTERNAL) for index in range(layout.vcpus))
        tree.cells("interrupts-extended", *(cell for context in contexts for cell in context))
        tree.cells("phandle", _PLIC_PHANDLE)
