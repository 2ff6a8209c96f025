# SPDX-License-Identifier: MIT
"""Devices for a machine that somebody else made: slots and their devices, without RAM, CPUs or a boot.

The guest finds them by what its maker tells it: :func:`describe` makes an ACPI table for that.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from vdesktop_core.arch.boot import SlotLayout
from vdesktop_core.arch.memory_map import SLOT_COUNT, memory_map
from vdesktop_core.config import device_config
from vdesktop_core.devices.base import DeviceContext
from vdesktop_core.errors import BackendError
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import AttachingHypervisor
from vdesktop_core.iothread import IoThread
from vdesktop_core.memory import GuestMemory
from vdesktop_core.slots import Slots, device_names, place_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vdesktop_core.board import Plugins
    from vdesktop_core.hypervisor import Arch, AttachedMachine, Hypervisor, VmEvent


def describe(arch: Arch, devices: Sequence[Any], plugins: Plugins) -> bytes:
    """Return an ACPI SSDT that says where these devices are going to be, each on a line of its own."""
    from vdesktop_core.arch.acpi.tables import ssdt

    checked = [device_config(device, plugins.device_types) for device in devices]
    layout = memory_map(arch)
    slots = [slot for slot, _, _ in place_devices(checked, SLOT_COUNT)]
    return ssdt([SlotLayout(slot, layout.slot(slot).base, layout.line(slot)) for slot in sorted(slots)])


class Attachment:
    """Map the slots into a machine and put devices into them.

    Args:
        hypervisor: the backend, already probed.
        target: the machine's name or number.
        devices: as in a machine file's ``[[device]]``.
        plugins: what is installed.
        call_soon: runs a function on the control loop, from any thread.

    Raises:
        VdesktopError: one line; nothing is left behind.
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        target: str,
        devices: Sequence[Any],
        plugins: Plugins,
        call_soon: Callable[[Callable[[], Any]], object],
    ) -> None:
        if not isinstance(hypervisor, AttachingHypervisor):
            raise BackendError(f"{hypervisor.name} cannot attach devices to others' machines: use xen")
        (arch,) = hypervisor.probe().architectures
        with contextlib.ExitStack() as stack:
            self.host = stack.enter_context(contextlib.closing(Host()))
            memory = stack.enter_context(GuestMemory(self.host.native))
            self.vm: AttachedMachine = stack.enter_context(contextlib.closing(hypervisor.attach(target)))
            for gpa, region in self.vm.regions().items():
                memory.add(gpa, region)
            memory.on_written(self.vm.written_hook())
            io_thread = stack.enter_context(contextlib.closing(IoThread(self.host.native, "vd-io")))
            self.slots = stack.enter_context(
                contextlib.closing(Slots(self.vm, memory_map(arch), self.host.native))
            )
            checked = [device_config(device, plugins.device_types) for device in devices]
            placed = place_devices(checked, len(self.slots))
            for name, (slot, kind, config) in zip(device_names(checked), placed, strict=True):
                context = DeviceContext(
                    name=name,
                    machine=target,
                    arch=arch,
                    memory=memory,
                    host=self.host.native,
                    loop=io_thread.native,
                    call_soon=call_soon,
                    plugins=plugins.behind,
                )
                self.slots.put(slot, name, kind, lambda k=kind, c=config, x=context: k.create(c, x))  # type: ignore[misc]
            stack.callback(self.vm.stop)
            self._stack = stack.pop_all()

    def start(self, on_event: Callable[[VmEvent], None]) -> None:
        """Begin to serve the machine. ``on_event`` is called once it ended, on another thread."""
        self.vm.start(on_event)

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """Return monotonic counters by device name, and the backend's under ``vm``."""
        return {"vm": dict(self.vm.counters())} | self.slots.counters()

    def close(self) -> None:
        """Stop serving, and take the devices out. The machine is left where it is. Idempotent."""
        self._stack.close()
