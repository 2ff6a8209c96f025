# SPDX-License-Identifier: MIT
"""What there is to know about a running machine, as data. ``vdesktop ctl NAME status`` shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from vdesktop_core.machine import Machine


class SlotStatus(msgspec.Struct, frozen=True):
    """An occupied slot. ``status`` is the register of virtio 1.4 §2.1; 0 or 1: no driver has the device.

    ``lost``: unplugged by force, and fails all requests until its driver lets go of it.
    """

    slot: int
    address: int
    line: int
    name: str
    type: str
    virtio_id: int
    status: int
    lost: bool


class CpuStatus(msgspec.Struct, frozen=True):
    """vCPUs: at the start, at most, and what the guest uses now, where its virtio-power driver tells."""

    start: int
    maximum: int
    online: int | None
    ids: tuple[int, ...]  #: hardware ids: MPIDR affinity, hart id, APIC id


class MachineStatus(msgspec.Struct, frozen=True):
    """A machine. Sizes in bytes."""

    name: str
    state: str
    pid: int
    arch: str
    backend: str
    memory: int
    cpus: CpuStatus
    slots: tuple[SlotStatus, ...]
    free_slots: int
    ways: dict[str, str]  #: how this guest is asked to do what: ``shutdown``, ``plug``, ``cpus``


def machine_status(machine: Machine) -> MachineStatus:
    """Describe a machine that was started.

    Raises:
        VdesktopError: it was not, or was closed.
    """
    board, config = machine.board, machine.config
    online = machine.power.online if machine.power is not None else None
    occupants = board.slots.occupants
    return MachineStatus(
        name=config.name,
        state=str(machine.state),
        pid=os.getpid(),
        arch=str(config.arch),
        backend=machine.backend,
        memory=config.memory,
        cpus=CpuStatus(config.cpus, config.vcpus, online, board.vm.platform().cpu_ids),
        slots=tuple(
            SlotStatus(
                slot=occupant.slot,
                address=board.slots.layout[occupant.slot].base,
                line=board.slots.layout[occupant.slot].line,
                name=occupant.name,
                type=occupant.type.name,
                virtio_id=occupant.type.virtio_id,
                status=int(board.slots.status(occupant.slot)),
                lost=occupant.slot in board.slots.lost,
            )
            for occupant in occupants
        ),
        free_slots=board.slots.free_count,
        ways=machine.hotplug.ways(),
    )
