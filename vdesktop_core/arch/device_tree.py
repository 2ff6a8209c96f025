# SPDX-License-Identifier: MIT
"""What the device trees of aarch64 and riscv64 have in common, over pylibfdt.

Bindings: the Devicetree Specification 0.4, and Linux ``Documentation/devicetree/bindings``.
"""

from __future__ import annotations

import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import libfdt

from vdesktop_core.arch.memory_map import SLOT_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vdesktop_core.arch.boot import MachineLayout
    from vdesktop_core.arch.efi import EfiTables
    from vdesktop_core.arch.memory_map import Window

    #: From a line number to the cells of ``interrupts``.
    IrqCells = Callable[[int], tuple[int, ...]]

#: Room that is set aside for a tree; Linux maps no more (arm64 ``MAX_FDT_SIZE``).
TREE_LIMIT = 2 << 20
#: Baud-rate generator input of the 16550, in Hz: the PC's.
_UART_CLOCK = 1_843_200
_UART_REGISTERS = 8
_RTC_SIZE = 0x1000
#: By the model: ``compatible``.
_RTC = {"pl031": ("arm,pl031", "arm,primecell"), "goldfish": ("google,goldfish-rtc",)}
#: Of an aarch64 machine only, beside the interrupt controller's and the caches'.
_APB_CLOCK_PHANDLE = 16
_APB_HZ = 24_000_000
#: Linux, ``enum efi_secureboot_mode``.
_SECURE_BOOT_DISABLED = 2


class TreeBuilder:
    """A device tree under construction: nodes in order, properties before subnodes.

    Every address and size is two cells wide.
    """

    def __init__(self) -> None:
        self._sw = libfdt.FdtSw(16384)
        self._sw.finish_reservemap()

    @contextmanager
    def node(self, name: str) -> Iterator[None]:
        """Open a node for the duration of a ``with`` block."""
        self._sw.begin_node(name)
        yield
        self._sw.end_node()

    def flag(self, name: str) -> None:
        """Add a property without a value."""
        self._sw.property(name, b"")

    def cells(self, name: str, *values: int) -> None:
        """Add 32-bit cells."""
        self._sw.property(name, struct.pack(f">{len(values)}I", *values))

    def quads(self, name: str, *values: int) -> None:
        """Add 64-bit values, two cells each."""
        self._sw.property(name, struct.pack(f">{len(values)}Q", *values))

    def strings(self, name: str, *values: str) -> None:
        """Add a string list."""
        self._sw.property(name, b"".join(value.encode() + b"\0" for value in values))

    def raw(self, name: str, value: bytes) -> None:
        """Add bytes as they are."""
        self._sw.property(name, value)

    def reg(self, *windows: Window) -> None:
        """Add ``reg``."""
        self.quads("reg", *(value for window in windows for value in (window.base, window.size)))

    def finish(self) -> bytes:
        """Return the packed tree."""
        tree = self._sw.as_fdt()
        tree.pack()
        return bytes(tree.as_bytearray()[: tree.totalsize()])


def add_chosen(
    tree: TreeBuilder,
    layout: MachineLayout,
    arguments: bytes,
    initrd: Window | None,
    efi: EfiTables | None = None,
) -> None:
    """Add ``/chosen``, with fresh entropy, and the boot framebuffer inside it, or in ``efi``."""
    with tree.node("chosen"):
        for cells in ("#address-cells", "#size-cells"):
            tree.cells(cells, 2)
        tree.flag("ranges")
        tree.raw("bootargs", arguments + b"\0")
        tree.raw("rng-seed", os.urandom(64))
        tree.raw("kaslr-seed", os.urandom(8))
        if initrd is not None:
            tree.quads("linux,initrd-start", initrd.base)
            tree.quads("linux,initrd-end", initrd.end)
        if efi is not None:
            tree.quads("linux,uefi-system-table", efi.base)
            tree.quads("linux,uefi-mmap-start", efi.base + efi.map_offset)
            tree.cells("linux,uefi-mmap-size", efi.map_size)
            tree.cells("linux,uefi-mmap-desc-size", efi.descriptor_size)
            tree.cells("linux,uefi-mmap-desc-ver", efi.descriptor_version)
            # Debian's kernels want this one too (their lockdown patches).
            tree.cells("linux,uefi-secure-boot", _SECURE_BOOT_DISABLED)
        if layout.uart is not None:
            tree.strings("stdout-path", f"/serial@{layout.uart.base:x}")
        # Beside this node, Linux would not take the one of EFI's tables, driver or not (of_platform.c).
        if (screen := layout.framebuffer) is not None and efi is None:
            with tree.node(f"framebuffer@{screen.base:x}"):
                tree.strings("compatible", "simple-framebuffer")
                tree.quads("reg", screen.base, screen.size)
                tree.cells("width", screen.width)
                tree.cells("height", screen.height)
                tree.cells("stride", screen.stride)
                tree.strings("format", screen.format)


def add_memory(tree: TreeBuilder, banks: Sequence[Window]) -> None:
    """Add a ``/memory`` node a bank."""
    for bank in banks:
        with tree.node(f"memory@{bank.base:x}"):
            tree.strings("device_type", "memory")
            tree.reg(bank)


def add_devices(
    tree: TreeBuilder, layout: MachineLayout, parent: int, interrupt: IrqCells, slot_interrupt: IrqCells
) -> None:
    """Add the UART, the clock and the virtio-mmio slots; ``parent`` is the interrupt controller's phandle.

    Slots may have another trigger than the other two, whose registers were made for levels.
    """
    if (uart := layout.uart) is not None:
        with tree.node(f"serial@{uart.base:x}"):
            tree.strings("compatible", "ns16550a")
            tree.quads("reg", uart.base, _UART_REGISTERS)
            tree.cells("clock-frequency", _UART_CLOCK)
            tree.cells("interrupt-parent", parent)
            tree.cells("interrupts", *interrupt(uart.line))
    if (rtc := layout.rtc) is not None:
        with tree.node(f"rtc@{rtc.base:x}"):
            tree.strings("compatible", *_RTC[rtc.model])
            tree.quads("reg", rtc.base, _RTC_SIZE)
            tree.cells("interrupt-parent", parent)
            tree.cells("interrupts", *interrupt(rtc.line))
            if rtc.model == "pl031":
                # A PrimeCell has a bus clock, or Linux's amba bus waits for it (amba_get_enable_pclk).
                tree.cells("clocks", _APB_CLOCK_PHANDLE)
                tree.strings("clock-names", "apb_pclk")
        if rtc.model == "pl031":
            with tree.node("apb-pclk"):
                tree.strings("compatible", "fixed-clock")
                tree.cells("#clock-cells", 0)
                tree.cells("clock-frequency", _APB_HZ)
                tree.cells("phandle", _APB_CLOCK_PHANDLE)
    for slot in layout.slots:
        with tree.node(f"virtio_mmio@{slot.base:x}"):
            tree.strings("compatible", "virtio,mmio")
            tree.quads("reg", slot.base, SLOT_SIZE)
            tree.cells("interrupt-parent", parent)
            tree.cells("interrupts", *slot_interrupt(slot.line))
            tree.flag("dma-coherent")
