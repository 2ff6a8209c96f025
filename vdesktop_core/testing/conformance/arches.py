# SPDX-License-Identifier: MIT
"""What differs between architectures: where the guest's things lie, and records for the platform."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from vdesktop_core.arch.memory_map import RESET_VALUE, S5_SLEEP_TYPE, memory_map
from vdesktop_core.arch.x86_64 import CODE_SELECTOR, DATA_SELECTOR, identity_page_tables
from vdesktop_core.hypervisor import Arch
from vdesktop_core.testing.conformance.blobs import BLOBS
from vdesktop_core.testing.conformance.program import Kind, Record, port_out, write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vdesktop_core.hypervisor import Platform

    Put = Callable[[int, bytes], None]

#: Offset of the guest's code from the first byte of RAM.
CODE = 0x8000


class GuestArch(Protocol):
    """One architecture. Addresses are guest-physical."""

    arch: Arch
    #: The guest may have its controller hear a line's rises instead of its level.
    edges: bool

    def prepare(self, put: Put) -> None:
        """Write code and tables, by ``put(address, bytes)``."""
        ...

    def entry(self, records: int) -> Mapping[str, int]:
        """Return the registers that start the boot CPU on the list at ``records``."""
        ...

    def power_off(self, platform: Platform) -> list[Record]: ...

    def reset(self, platform: Platform) -> list[Record]: ...

    def start_cpu(self, platform: Platform, index: int, records: int) -> list[Record]:
        """Start a CPU on a list; one CPU is started at a time."""
        ...

    def was_started(self, result: int) -> bool:
        """Tell by the result of :meth:`start_cpu`'s last record; False: it still ran."""
        ...

    def stop_cpu(self, platform: Platform) -> list[Record]:
        """Stop the CPU that executes it; then it can be started again."""
        ...

    def interrupts_on(self, platform: Platform) -> list[Record]:
        """Let the boot CPU take interrupts: all lines are still masked."""
        ...

    def line_on(self, platform: Platform, line: int, *, edge: bool = False) -> list[Record]:
        """Unmask a line to the boot CPU: level-triggered, or edge-triggered where there is that."""
        ...

    def take(self, platform: Platform, *, wait: bool) -> Record:
        """Take an interrupt: one that is pending, or the next."""
        ...

    def taken(self, line: int) -> int:
        """Return the result of :meth:`take` for a line; it is 0 if none was pending."""
        ...

    def end(self, platform: Platform, line: int) -> list[Record]:
        """Tell the controller that the interrupt was handled."""
        ...


def _region(platform: Platform, name: str) -> int:
    return platform.interrupt_controller.regions[name][0]


class X86:
    """Long mode, identity-mapped; the I/O APIC with one vector for all lines."""

    arch, edges = Arch.X86_64, True
    _PAGE_TABLES, _IDT, _GDT, _LIST, _GDTR, _IDTR = 0x1000, 0x9000, 0x7000, 0x7F08, 0x7FD0, 0x7FE0
    _BOOT, _HANDLER, _VECTOR = CODE + 0x80, CODE + 0x100, 0x40
    _LEVEL, _DESCRIPTORS = 1 << 15, (0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)
    _IDT_LIMIT = 16 * (_VECTOR + 1) - 1

    def prepare(self, put: Put) -> None:
        gdt = struct.pack("<4Q", *self._DESCRIPTORS)
        gate = struct.pack("<HHHHQ", self._HANDLER, CODE_SELECTOR, 0x8E00, 0, 0)
        put(self._PAGE_TABLES, identity_page_tables(self._PAGE_TABLES))
        put(self._GDT, gdt)
        put(self._GDTR, struct.pack("<HI", len(gdt) - 1, self._GDT))
        put(self._IDT, bytes(16 * self._VECTOR) + gate)
        put(self._IDTR, struct.pack("<HQ", self._IDT_LIMIT, self._IDT))
        put(CODE, BLOBS[self.arch])

    def entry(self, records: int) -> Mapping[str, int]:
        return {
            "rip": self._BOOT,
            "rdi": records,
            "rsp": records + 0x1_0000,
            "rflags": 2,
            "cr0": 0x8005_0033,
            "cr3": self._PAGE_TABLES,
            "cr4": 0x20,
            "efer": 0x500,
            "gdt_base": self._GDT,
            "gdt_limit": 31,
            "cs": CODE_SELECTOR,
            "ds": DATA_SELECTOR,
            "es": DATA_SELECTOR,
            "ss": DATA_SELECTOR,
        }

    def power_off(self, platform: Platform) -> list[Record]:
        return [port_out(platform.ports["sleep_control"], S5_SLEEP_TYPE << 2 | 0x20)]

    def reset(self, platform: Platform) -> list[Record]:
        return [port_out(platform.ports["reset"], RESET_VALUE)]

    def start_cpu(self, platform: Platform, index: int, records: int) -> list[Record]:
        lapic, target = _region(platform, "lapic"), platform.cpu_ids[index] << 24
        high, low = lapic + 0x310, lapic + 0x300
        init, startup = 0x4500, 0x4600 | CODE >> 12
        return [
            write(lapic + 0xF0, 0x1FF, 4),
            write(self._LIST, records),
            write(high, target, 4),
            write(low, init, 4),
            write(high, target, 4),
            write(low, startup, 4),
        ]

    def was_started(self, result: int) -> bool:
        return True  # INIT stops whatever it does

    def stop_cpu(self, platform: Platform) -> list[Record]:
        return []  # the list's end sleeps

    def interrupts_on(self, platform: Platform) -> list[Record]:
        return [write(_region(platform, "lapic") + 0xF0, 0x1FF, 4)]

    def line_on(self, platform: Platform, line: int, *, edge: bool = False) -> list[Record]:
        ioapic = _region(platform, "ioapic")
        select, window = ioapic, ioapic + 0x10
        return [
            write(select, 0x11 + 2 * line, 4),
            write(window, platform.cpu_ids[0] << 24, 4),
            write(select, 0x10 + 2 * line, 4),
            write(window, (0 if edge else self._LEVEL) | self._VECTOR, 4),
        ]

    def take(self, platform: Platform, *, wait: bool) -> Record:
        return Record(Kind.WAIT if wait else Kind.ACKNOWLEDGE)

    def taken(self, line: int) -> int:
        return 1

    def end(self, platform: Platform, line: int) -> list[Record]:
        return [write(_region(platform, "lapic") + 0xB0, 0, 4)]


class Aarch64:
    """EL1 without MMU; GICv2 or GICv3, PSCI."""

    arch, edges = Arch.AARCH64, True
    _RAM = memory_map(Arch.AARCH64).ram[0].base
    _OFF, _RESET, _CPU_OFF, _CPU_ON = 0x8400_0008, 0x8400_0009, 0x8400_0002, 0xC400_0003
    _SPI = 32

    def prepare(self, put: Put) -> None:
        put(self._RAM + CODE, BLOBS[self.arch])

    def entry(self, records: int) -> Mapping[str, int]:
        return {"pc": self._RAM + CODE, "x0": records}

    def _call(self, platform: Platform, *arguments: int) -> list[Record]:
        return [Record(Kind.CALL, 2 if platform.cpu_enable == "psci-smc" else 1, *arguments)]

    def power_off(self, platform: Platform) -> list[Record]:
        return self._call(platform, self._OFF)

    def reset(self, platform: Platform) -> list[Record]:
        return self._call(platform, self._RESET)

    def start_cpu(self, platform: Platform, index: int, records: int) -> list[Record]:
        return self._call(platform, self._CPU_ON, platform.cpu_ids[index], self._RAM + CODE, records)

    def was_started(self, result: int) -> bool:
        return result == 0

    def stop_cpu(self, platform: Platform) -> list[Record]:
        return self._call(platform, self._CPU_OFF)

    def _is_v3(self, platform: Platform) -> bool:
        return platform.interrupt_controller.kind == "gicv3"

    def interrupts_on(self, platform: Platform) -> list[Record]:
        gicd = _region(platform, "gicd")
        if self._is_v3(platform):
            waker = _region(platform, "gicr") + 0x14
            return [write(gicd, 0x12, 4), write(waker, 0, 4), Record(Kind.GICV3_ON)]
        gicc = _region(platform, "gicc")
        return [write(gicd, 1, 4), write(gicc + 4, 0xF0, 4), write(gicc, 1, 4)]

    def line_on(self, platform: Platform, line: int, *, edge: bool = False) -> list[Record]:
        gicd, intid = _region(platform, "gicd"), self._SPI + line
        bit, word = 1 << intid % 32, intid // 32 * 4
        if self._is_v3(platform):
            affinity = platform.cpu_ids[0]
            target = [write(gicd + 0x80 + word, bit, 4), write(gicd + 0x6000 + 8 * intid, affinity)]
        else:
            target = [write(gicd + 0x800 + intid, 1, 1)]
        return [
            *target,
            write(gicd + 0x400 + intid, 0x80, 1),
            # GICD_ICFGR after a reset is IMPLEMENTATION DEFINED (IHI 0069): edge-triggered on KVM.
            write(gicd + 0xC00 + intid // 16 * 4, edge << intid % 16 * 2 + 1, 4),
            write(gicd + 0x100 + word, bit, 4),
        ]

    def take(self, platform: Platform, *, wait: bool) -> Record:
        register = 0 if self._is_v3(platform) else _region(platform, "gicc") + 0xC
        return Record(Kind.WAIT if wait else Kind.ACKNOWLEDGE, a=register)

    def taken(self, line: int) -> int:
        return self._SPI + line

    def end(self, platform: Platform, line: int) -> list[Record]:
        if self._is_v3(platform):
            return [Record(Kind.GICV3_END, b=self._SPI + line)]
        return [write(_region(platform, "gicc") + 0x10, self._SPI + line, 4)]


class Riscv64:
    """S-mode without paging; PLIC, SBI."""

    arch, edges = Arch.RISCV64, False  # of a PLIC, a line's gateway is as it was built
    _RAM = memory_map(Arch.RISCV64).ram[0].base
    _SRST, _HSM = 0x5352_5354, 0x48_534D
    _CLAIM = 0x20_0004

    def prepare(self, put: Put) -> None:
        put(self._RAM + CODE, BLOBS[self.arch])

    def entry(self, records: int) -> Mapping[str, int]:
        return {"pc": self._RAM + CODE, "a0": 0, "a1": records}

    def power_off(self, platform: Platform) -> list[Record]:
        return [Record(Kind.CALL, a=self._SRST, c=0)]

    def reset(self, platform: Platform) -> list[Record]:
        return [Record(Kind.CALL, a=self._SRST, c=1)]

    def start_cpu(self, platform: Platform, index: int, records: int) -> list[Record]:
        return [Record(Kind.CALL, a=self._HSM, c=platform.cpu_ids[index], d=self._RAM + CODE, e=records)]

    def was_started(self, result: int) -> bool:
        return result == 0

    def stop_cpu(self, platform: Platform) -> list[Record]:
        return [Record(Kind.CALL, a=self._HSM, b=1)]

    def interrupts_on(self, platform: Platform) -> list[Record]:
        return [write(_region(platform, "plic") + 0x20_0000, 0, 4)]

    def line_on(self, platform: Platform, line: int, *, edge: bool = False) -> list[Record]:
        plic = _region(platform, "plic")
        return [write(plic + 4 * line, 1, 4), write(plic + 0x2000 + line // 32 * 4, 1 << line % 32, 4)]

    def take(self, platform: Platform, *, wait: bool) -> Record:
        return Record(Kind.WAIT if wait else Kind.ACKNOWLEDGE, a=_region(platform, "plic") + self._CLAIM)

    def taken(self, line: int) -> int:
        return line

    def end(self, platform: Platform, line: int) -> list[Record]:
        return [write(_region(platform, "plic") + self._CLAIM, line, 4)]


def guest_arch(arch: Arch) -> GuestArch:
    """Return the part for an architecture."""
    parts: tuple[GuestArch, ...] = (X86(), Aarch64(), Riscv64())
    return next(part for part in parts if part.arch is arch)
