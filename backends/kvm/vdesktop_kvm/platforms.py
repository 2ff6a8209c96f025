# SPDX-License-Identifier: MIT
"""What KVM supplies of each architecture, for device tree and ACPI."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.hypervisor import Arch, InterruptController, IrqTrigger, Platform

if TYPE_CHECKING:
    from collections.abc import Mapping


class Supply(msgspec.Struct, frozen=True):
    """The constant part of a platform."""

    cpu_enable: str
    #: The first interrupt line; PLIC source 0 does not exist.
    first_line: int = 0
    append: tuple[str, ...] = ()
    trigger: IrqTrigger = IrqTrigger.LEVEL


_SUPPLIES: Mapping[Arch, Supply] = MappingProxyType(
    {
        # On AMD processors Linux looks for an AGP bridge on 256 PCI buses, twice, before it knows that there
        # is no PCI: 33 000 exits (``early_gart_iommu_check``).
        Arch.X86_64: Supply("apic", append=("pci=noearly",)),
        # At the end of each level-triggered interrupt, KVM has the GIC bring the guest to it (ICH_LR_EOI).
        Arch.AARCH64: Supply("psci-hvc", trigger=IrqTrigger.EDGE),
        Arch.RISCV64: Supply("sbi", first_line=1),
    }
)
#: The parts of an interrupt controller, by its kind.
_REGIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ioapic": ("ioapic", "lapic"),
        "gicv2": ("gicd", "gicc"),
        "gicv3": ("gicd", "gicr"),
        "plic": ("plic",),
    }
)


def platform(
    arch: Arch,
    *,
    controller: str,
    lines: int,
    timer_hz: int,
    cpu_ids: tuple[int, ...],
    cpu_model: Mapping[str, str],
) -> Platform:
    """Describe a machine of KVM's, whose parts lie at the recommended addresses.

    Args:
        arch: its architecture.
        controller: kind of its interrupt controller.
        lines: the number after its last interrupt line.
        timer_hz: ticks a second of its clock.
        cpu_ids: hardware ids of its vCPUs.
        cpu_model: what the guest is told of them.
    """
    supply, layout = _SUPPLIES[arch], memory_map(arch)
    windows = {name: layout.interrupt_controller[name] for name in _REGIONS[controller]}
    return Platform(
        interrupt_controller=InterruptController(
            kind=controller,
            regions={name: (window.base, window.size) for name, window in windows.items()},
            lines=range(supply.first_line, lines),
            trigger=supply.trigger,
        ),
        timer_hz=timer_hz,
        cpu_ids=cpu_ids,
        cpu_enable=supply.cpu_enable,
        cpu_model=cpu_model,
        ports=layout.ports,
        append=supply.append,
    )
