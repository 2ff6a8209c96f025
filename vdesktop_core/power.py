# SPDX-License-Identifier: MIT
"""The machine as its virtio-power device in slot 0 sees it, and the device as the machine does.

The device is made right after the vCPUs were started: it and what it needs are
loaded while the guest's kernel begins to run: far earlier than it looks for devices.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vdesktop_core.devices.base import DeviceConfig, DeviceType
from vdesktop_core.devices.power import wire
from vdesktop_core.devices.power.device import PowerDevice
from vdesktop_core.devices.power.inventory import take_inventory
from vdesktop_core.devices.power.wire import CpuState
from vdesktop_core.hypervisor import ExitReason, VmEvent
from vdesktop_core.life import State

if TYPE_CHECKING:
    from vdesktop_core.devices.base import Device, DeviceContext
    from vdesktop_core.devices.power.inventory import Inventory
    from vdesktop_core.machine import Machine

log = logging.getLogger(__name__)

SLOT = 0
NAME = "power0"


class MachinePower:
    """Implements :class:`~vdesktop_core.devices.power.port.MachineControl`.

    Args:
        machine: it must have its board.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._board = machine.board
        self._cpus = self._at_start()

        def create(_config: DeviceConfig, context: DeviceContext) -> Device:
            return PowerDevice(context, self)

        kind = DeviceType(
            name="power",
            summary="the machine's own device",
            virtio_id=wire.VIRTIO_ID,
            config=DeviceConfig,
            create=create,
        )
        occupant = self._board.put(SLOT, NAME, kind, DeviceConfig(type="power"))
        assert isinstance(occupant.device, PowerDevice)  # noqa: S101  (made above)
        #: The device, for what is asked of the guest.
        self.device: PowerDevice = occupant.device
        self.device.inventory_changed()  # it itself is a part of it

    def _at_start(self) -> dict[int, CpuState]:
        started = self._machine.config.cpus
        return {
            cpu: CpuState.ONLINE if cpu < started else CpuState.OFFLINE
            for cpu in range(self._machine.config.vcpus)
        }

    @property
    def online(self) -> int | None:
        """How many CPUs the guest uses; None: it has no driver that tells."""
        if not self.device.driver_ready:
            return None
        return sum(state is CpuState.ONLINE for state in self._cpus.values())

    def is_online(self, cpu: int) -> bool:
        """Tell whether the guest uses a CPU, as far as it told."""
        return self._cpus[cpu] is CpuState.ONLINE

    @property
    def cpus(self) -> dict[int, CpuState]:
        """State of each CPU, as the guest told it."""
        return self._cpus

    def reset(self) -> None:
        """Forget what the guest told: the machine is reset."""
        self._cpus = self._at_start()
        self.device.inventory_changed()

    def inventory(self) -> Inventory:
        """Implement the protocol."""
        board, config = self._board, self._machine.config
        return take_inventory(
            name=config.name,
            arch=config.arch,
            platform=board.vm.platform(),
            ram=board.ram,
            slots=board.slots.layout,
            devices={each.slot: (each.type.virtio_id, each.name) for each in board.slots.occupants},
            cpus=self._cpus,
        )

    def guest_shutdown(self) -> None:
        """Implement the protocol."""
        self._machine.guest_event(VmEvent(ExitReason.SHUTDOWN))

    def guest_reset(self) -> None:
        """Implement the protocol."""
        self._machine.guest_event(VmEvent(ExitReason.RESET))

    def guest_crash(self, text: str) -> None:
        """Implement the protocol."""
        shown = "".join(c if c.isprintable() else "?" for c in text)
        log.warning("the guest says that it crashed: %s", shown or "no reason given")
        self._machine.publish("crash", text=shown)

    def cpu_state(self, cpu: int, *, online: bool) -> None:
        """Implement the protocol."""
        if cpu in self._cpus:
            self._cpus[cpu] = CpuState.ONLINE if online else CpuState.OFFLINE
            self.device.inventory_changed()
            self._machine.publish("cpu", cpu=cpu, online=online)

    def reset_slot(self, slot: int) -> None:
        """Implement the protocol."""
        if self._machine.state in (State.RUNNING, State.PAUSED) and slot != SLOT:
            self._board.slots.reset(slot)
