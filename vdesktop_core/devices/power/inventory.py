# SPDX-License-Identifier: MIT
"""What the machine is made of, as virtio-power tells its guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.arch.memory_map import SLOT_SIZE, memory_map
from vdesktop_core.devices.power.wire import CpuState, InterruptController, Machine, RegionKind, Timer
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vdesktop_core.arch.boot import SlotLayout
    from vdesktop_core.arch.memory_map import Window
    from vdesktop_core.hypervisor import Platform

_MACHINES = {
    Arch.X86_64: (Machine.X86_64, Timer.APIC),
    Arch.AARCH64: (Machine.AARCH64, Timer.GENERIC),
    Arch.RISCV64: (Machine.RISCV64, Timer.SBI),
}


class Region(msgspec.Struct, frozen=True):
    """An address range; ``base`` and ``size`` in bytes."""

    kind: RegionKind
    name: str
    base: int
    size: int


class Cpu(msgspec.Struct, frozen=True):
    """A CPU that is or can be plugged in."""

    index: int
    hardware_id: int
    state: CpuState


class Slot(msgspec.Struct, frozen=True):
    """A slot; ``device_id`` 0 and no name: empty."""

    index: int
    base: int
    line: int
    device_id: int = 0
    name: str = ""


class Inventory(msgspec.Struct, frozen=True):
    """The whole machine at one moment. CPUs and slots are in the order of their numbers, without a gap."""

    name: str
    machine: Machine
    interrupt_controller: InterruptController
    timer: Timer
    timer_hz: int
    regions: tuple[Region, ...]
    cpus: tuple[Cpu, ...]
    slots: tuple[Slot, ...]


def take_inventory(
    *,
    name: str,
    arch: Arch,
    platform: Platform,
    ram: Sequence[Window],
    slots: Sequence[SlotLayout],
    devices: Mapping[int, tuple[int, str]],
    cpus: Mapping[int, CpuState],
) -> Inventory:
    """Describe a machine.

    Args:
        name: the machine's.
        arch: its architecture.
        platform: what the backend supplies.
        ram: the RAM banks.
        slots: all slots, in order.
        devices: virtio ID and name by slot, of those that are filled.
        cpus: state by index; CPUs of ``platform.cpu_ids`` that are not named are absent.
    """
    machine, timer = _MACHINES[arch]
    controller = platform.interrupt_controller
    regions = [Region(RegionKind.RAM, f"ram{i}", bank.base, bank.size) for i, bank in enumerate(ram)]
    regions += [
        Region(RegionKind.INTERRUPT_CONTROLLER, part, base, size)
        for part, (base, size) in sorted(controller.regions.items())
    ]
    aperture = memory_map(arch).aperture
    regions.append(Region(RegionKind.SLOTS, "slots", slots[0].base, len(slots) * SLOT_SIZE))
    regions.append(Region(RegionKind.APERTURE, "aperture", aperture.base, aperture.size))
    return Inventory(
        name=name,
        machine=machine,
        interrupt_controller=InterruptController[controller.kind.upper()],
        timer=timer,
        timer_hz=platform.timer_hz,
        regions=tuple(regions),
        cpus=tuple(
            Cpu(index, number, cpus.get(index, CpuState.ABSENT))
            for index, number in enumerate(platform.cpu_ids)
        ),
        slots=tuple(
            Slot(slot.index, slot.base, slot.line, *devices.get(slot.index, (0, ""))) for slot in slots
        ),
    )
