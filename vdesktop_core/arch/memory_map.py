# SPDX-License-Identifier: MIT
"""The recommended memory map of each architecture, as data.

``docs/spec/memory-map.md`` is printed from this module. Addresses are
guest-physical; sizes are bytes.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.errors import ConfigError
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

#: One page a slot: any hypervisor can trap, protect or pass through one device.
SLOT_SIZE = 4 * KIB
SLOT_COUNT = 32

#: RAM comes in multiples of this.
RAM_GRANULE = MIB
#: No supported kernel starts in less.
RAM_MINIMUM = 16 * MIB


class Window(msgspec.Struct, frozen=True, order=True):
    """A range of guest-physical addresses, or of x86 ports."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """The first address after the window."""
        return self.base + self.size

    def overlaps(self, other: Window) -> bool:
        """Tell whether the two have an address in common."""
        return self.base < other.end and other.base < self.end

    def contains(self, other: Window) -> bool:
        """Tell whether ``other`` lies wholly inside."""
        return self.base <= other.base and other.end <= self.end


class Uart(msgspec.Struct, frozen=True):
    """Where the optional 16550 lies: 8 byte-wide registers."""

    window: Window
    line: int
    #: Address the x86 port space instead of memory.
    is_port: bool = False


class Events(msgspec.Struct, frozen=True):
    """Where an ACPI machine has the registers of its event device (GED), and their interrupt line."""

    window: Window
    line: int


class Rtc(msgspec.Struct, frozen=True):
    """Where the clock is that tells the time of day, and which one a stock kernel has a driver for.

    Args:
        window: its registers.
        line: its interrupt line.
        model: ``pl031`` or ``goldfish``.
    """

    window: Window
    line: int
    model: str


class MemoryMap(msgspec.Struct, frozen=True):
    """What a guest of one architecture finds where."""

    arch: Arch
    #: RAM fills these in order.
    ram: tuple[Window, ...]
    #: By the architecture's own names: ``gicd``, ``plic``, ``ioapic`` …
    interrupt_controller: Mapping[str, Window]
    slots: Window
    #: Shared memory of devices, and the boot framebuffer.
    aperture: Window
    uart: Uart
    #: Recommended lines of the slots, numbered as the interrupt controller numbers them
    #: (GSI, SPI, PLIC source).
    slot_lines: range
    #: x86 ports by name: the FADT's sleep control, sleep status and reset registers.
    ports: Mapping[str, int] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    #: Of an architecture with ACPI.
    events: Events | None = None
    #: Of an architecture with a device tree. x86_64's is at two ports: ``vdesktop/platform/x86_ports.h``.
    rtc: Rtc | None = None
    #: Parts of RAM that the boot data occupy at fixed places; free once the kernel runs.
    boot_data: Mapping[str, Window] = msgspec.field(default_factory=lambda: MappingProxyType({}))

    @property
    def ram_maximum(self) -> int:
        """The largest RAM size, in bytes."""
        return sum(window.size for window in self.ram)

    def slot(self, index: int) -> Window:
        """Return the register window of a slot.

        Raises:
            ConfigError: there is no such slot.
        """
        if not 0 <= index < SLOT_COUNT:
            raise ConfigError(f"slot {index} does not exist: slots are 0 to {SLOT_COUNT - 1}")
        return Window(self.slots.base + index * SLOT_SIZE, SLOT_SIZE)

    def line(self, index: int, available: range | None = None) -> int:
        """Return the interrupt line of a slot.

        Args:
            index: the slot.
            available: lines the backend accepts; the recommended ones that it lacks are left out,
                and slots share what remains.

        Raises:
            ConfigError: there is no such slot, or no usable line.
        """
        self.slot(index)
        lines = [line for line in self.slot_lines if available is None or line in available]
        if not lines:
            raise ConfigError(
                f"the backend accepts interrupt lines {available}, but this map uses {self.slot_lines}"
            )
        return lines[index % len(lines)]


_GIC_LINES = range(16, 16 + SLOT_COUNT)

_MAPS: Mapping[Arch, MemoryMap] = MappingProxyType(
    {
        Arch.X86_64: MemoryMap(
            arch=Arch.X86_64,
            ram=(Window(0, 3 * GIB), Window(4 * GIB, 1024 * GIB - 4 * GIB)),
            interrupt_controller=MappingProxyType(
                {"ioapic": Window(0xFEC0_0000, 4 * KIB), "lapic": Window(0xFEE0_0000, 4 * KIB)}
            ),
            slots=Window(0xD000_0000, SLOT_COUNT * SLOT_SIZE),
            aperture=Window(0xC000_0000, 256 * MIB),
            uart=Uart(Window(0x3F8, 8), line=4, is_port=True),
            # GSIs above the 16 that ACPI's default maps to ISA interrupts.
            slot_lines=range(16, 16 + SLOT_COUNT),
            ports=MappingProxyType({"sleep_control": 0x600, "sleep_status": 0x601, "reset": 0x602}),
            # The line that PCs use for ACPI; the page after the slots.
            events=Events(Window(0xD000_0000 + SLOT_COUNT * SLOT_SIZE, 4 * KIB), line=9),
            boot_data=MappingProxyType(
                {
                    "page_tables": Window(0x1000, 6 * 4 * KIB),
                    "gdt": Window(0x7000, 4 * KIB),
                    "boot_params": Window(0x1_0000, 4 * KIB),
                    "command_line": Window(0x2_0000, 4 * KIB),
                    "acpi": Window(0xE_0000, 128 * KIB),
                }
            ),
        ),
        Arch.AARCH64: MemoryMap(
            arch=Arch.AARCH64,
            # Up to 2^40, the physical address size of the smallest ARMv8-A server cores.
            ram=(Window(0x4000_0000, 1024 * GIB - 0x4000_0000),),
            interrupt_controller=MappingProxyType(
                {
                    "gicd": Window(0x0800_0000, 64 * KIB),
                    "gicc": Window(0x0801_0000, 64 * KIB),
                    # 128 KiB a vCPU, up to the UART: 123 vCPUs.
                    "gicr": Window(0x080A_0000, 0xF6_0000),
                }
            ),
            slots=Window(0x0A00_0000, SLOT_COUNT * SLOT_SIZE),
            aperture=Window(0x1000_0000, 768 * MIB),
            uart=Uart(Window(0x0900_0000, 8), line=1),
            slot_lines=_GIC_LINES,
            rtc=Rtc(Window(0x0901_0000, 4 * KIB), line=2, model="pl031"),
        ),
        Arch.RISCV64: MemoryMap(
            arch=Arch.RISCV64,
            # Linux maps at most 124 GiB under Sv39.
            ram=(Window(0x8000_0000, 124 * GIB),),
            interrupt_controller=MappingProxyType({"plic": Window(0x0C00_0000, 64 * MIB)}),
            slots=Window(0x0A00_0000, SLOT_COUNT * SLOT_SIZE),
            aperture=Window(0x1000_0000, 768 * MIB),
            uart=Uart(Window(0x0900_0000, 8), line=10),
            slot_lines=range(32, 32 + SLOT_COUNT),
            rtc=Rtc(Window(0x0901_0000, 4 * KIB), line=11, model="goldfish"),
        ),
    }
)

#: What a guest writes to the x86 ``reset`` port (FADT RESET_VALUE).
RESET_VALUE = 1
#: SLP_TYP of ACPI S5, as ``\_S5`` gives it: to power off, a guest writes
#: ``SLP_TYP << 2 | SLP_EN`` (0x34) to the ``sleep_control`` port.
S5_SLEEP_TYPE = 5


def memory_map(arch: Arch) -> MemoryMap:
    """Return the recommended map of an architecture."""
    return _MAPS[arch]


def ram_banks(arch: Arch, size: int) -> tuple[Window, ...]:
    """Place ``size`` bytes of RAM in the windows of the map.

    Raises:
        ConfigError: the size is too small, too large, or not a multiple of 1 MiB.
    """
    windows = memory_map(arch).ram
    maximum = sum(window.size for window in windows)
    if size < RAM_MINIMUM:
        raise ConfigError(
            f"memory of {size} bytes is too small: give the machine at least {RAM_MINIMUM // MIB}M"
        )
    if size > maximum:
        raise ConfigError(
            f"memory of {size // MIB}M is too large: an {arch} machine has room for {maximum // MIB}M"
        )
    if size % RAM_GRANULE:
        raise ConfigError(f"memory of {size} bytes is not a multiple of {RAM_GRANULE // MIB}M: round it")
    banks = []
    for window in windows:
        if size <= 0:
            break
        banks.append(Window(window.base, min(size, window.size)))
        size -= window.size
    return tuple(banks)
