# SPDX-License-Identifier: GPL-2.0-only
"""What the software CPU supplies of each architecture, for device tree and ACPI.

The addresses are the recommended memory map's; the C models are built for them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.hypervisor import Arch, InterruptController, Platform

if TYPE_CHECKING:
    from collections.abc import Mapping


class Supply(msgspec.Struct, frozen=True):
    """The constant part of a platform."""

    kind: str
    regions: tuple[str, ...]
    first_line: int
    cpu_enable: str
    cpu_model: Mapping[str, str] = msgspec.field(default_factory=lambda: MappingProxyType({}))


SUPPLIES: Mapping[Arch, Supply] = MappingProxyType(
    {
        Arch.AARCH64: Supply(
            kind="gicv2",
            regions=("gicd", "gicc"),
            first_line=0,
            cpu_enable="psci-hvc",
            cpu_model=MappingProxyType({"compatible": "arm,cortex-a72"}),
        ),
        Arch.RISCV64: Supply(
            kind="plic",
            regions=("plic",),
            first_line=1,
            cpu_enable="sbi",
            cpu_model=MappingProxyType(
                {"riscv,isa": "rv64imafdc_zicntr_zicsr_zifencei", "mmu-type": "riscv,sv39"}
            ),
        ),
        Arch.X86_64: Supply(
            kind="ioapic",
            regions=("ioapic", "lapic"),
            first_line=0,
            cpu_enable="apic",
        ),
    }
)


def platform(arch: Arch, *, lines: int, timer_hz: int, cpu_ids: tuple[int, ...]) -> Platform:
    """Describe a machine of the software CPU.

    Args:
        arch: its architecture.
        lines: the number after its last interrupt line.
        timer_hz: ticks a second of its clock.
        cpu_ids: hardware ids of its vCPUs.
    """
    supply, layout = SUPPLIES[arch], memory_map(arch)
    windows = {name: layout.interrupt_controller[name] for name in supply.regions}
    return Platform(
        interrupt_controller=InterruptController(
            kind=supply.kind,
            regions={name: (window.base, window.size) for name, window in windows.items()},
            lines=range(supply.first_line, lines),
        ),
        timer_hz=timer_hz,
        cpu_ids=cpu_ids,
        cpu_enable=supply.cpu_enable,
        cpu_model=supply.cpu_model,
        ports=layout.ports,
    )
