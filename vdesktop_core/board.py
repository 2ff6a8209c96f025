# SPDX-License-Identifier: MIT
"""The assembled hardware of one machine: memory, slots, devices, on a backend's virtual machine.

A board is built whole or not at all, and taken apart in reverse order. It has
no life cycle of its own: :mod:`vdesktop_core.machine` runs it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vdesktop_core.arch.boot import Boot, BootSource, MachineLayout, SlotLayout, UartLayout
from vdesktop_core.arch.memory_map import SLOT_COUNT, memory_map, ram_banks
from vdesktop_core.config import device_config
from vdesktop_core.devices.base import Device, DeviceContext
from vdesktop_core.devices.console.port import open_console
from vdesktop_core.doorbells import Doorbells
from vdesktop_core.errors import ConfigError
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import VmSpec
from vdesktop_core.interrupt import IrqLine, SharedLine
from vdesktop_core.iothread import IoThread
from vdesktop_core.memory import GuestMemory
from vdesktop_core.transport.mmio import MmioSlot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vdesktop_core.arch.memory_map import MemoryMap
    from vdesktop_core.config import MachineConfig
    from vdesktop_core.devices.base import DeviceConfig, DeviceType
    from vdesktop_core.display.frontend import Desktop
    from vdesktop_core.hypervisor import Hypervisor, VirtualMachine

log = logging.getLogger(__name__)
#: Slot 0 is the place of virtio-power, on every architecture.
FIRST_FREE_SLOT = 1


class Plugins(msgspec.Struct, frozen=True):
    """What is installed, by hook and name."""

    hypervisors: Mapping[str, Hypervisor]
    device_types: Mapping[str, DeviceType]
    behind: Mapping[str, Mapping[str, Any]]  #: ``net``, ``console``, ``disk``, ``display``


def place_devices(
    devices: list[tuple[DeviceType, DeviceConfig]], slots: int
) -> list[tuple[int, DeviceType, DeviceConfig]]:
    """Give every device a slot: fixed ones first, the others the first free.

    Raises:
        ConfigError: a slot is asked for twice or does not exist, or there are more devices than slots.
    """
    taken: dict[int, str] = {}
    for kind, config in devices:
        if config.slot is None:
            continue
        label = config.name or kind.name
        if not FIRST_FREE_SLOT <= config.slot < slots:
            raise ConfigError(
                f"device {label!r}: slot {config.slot} is not in {FIRST_FREE_SLOT}..{slots - 1}"
            )
        if config.slot in taken:
            raise ConfigError(f"slot {config.slot} is asked for by both {taken[config.slot]!r} and {label!r}")
        taken[config.slot] = label
    free = iter([slot for slot in range(FIRST_FREE_SLOT, slots) if slot not in taken])
    placed = []
    for kind, config in devices:
        slot = config.slot if config.slot is not None else next(free, None)
        if slot is None:
            raise ConfigError(
                f"{len(devices)} devices: a machine has {slots - FIRST_FREE_SLOT} slots for them"
            )
        placed.append((slot, kind, config))
    return placed


def device_names(devices: list[tuple[DeviceType, DeviceConfig]]) -> list[str]:
    """Return a unique name for each device: its own, or its type and a number.

    Raises:
        ConfigError: two devices were given one name.
    """
    names: list[str] = []
    given = [config.name for _, config in devices if config.name]
    for name in given:
        if given.count(name) > 1:
            raise ConfigError(f"two devices are named {name!r}: names are unique in a machine")
    for kind, config in devices:
        number = 0
        while not config.name and (f"{kind.name}{number}" in names or f"{kind.name}{number}" in given):
            number += 1
        names.append(config.name or f"{kind.name}{number}")
    return names


class Board:
    """Build everything the configuration names.

    Args:
        config: the machine.
        plugins: what is installed.
        hypervisor: the chosen backend, already probed.
        call_soon: runs a function on the control loop, from any thread.

    Raises:
        VdesktopError: one line; nothing is left behind.
    """

    def __init__(
        self,
        config: MachineConfig,
        plugins: Plugins,
        hypervisor: Hypervisor,
        call_soon: Callable[[Callable[[], Any]], object],
    ) -> None:
        self.config = config
        self.slots: list[MmioSlot] = []
        self.devices: dict[int, Device] = {}
        with contextlib.ExitStack() as stack:
            self.host = stack.enter_context(contextlib.closing(Host()))
            self.event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, self.event_fd)
            self.memory = stack.enter_context(GuestMemory(self.host.native))
            self.vm: VirtualMachine = stack.enter_context(
                contextlib.closing(
                    hypervisor.create(
                        VmSpec(
                            config.arch, config.cpus, config.name, config.backends.get(hypervisor.name, {})
                        )
                    )
                )
            )
            self._map_ram()
            self.io_thread = stack.enter_context(contextlib.closing(IoThread(self.host.native, "vd-io")))
            self._make_slots(stack)
            self._make_devices(stack, plugins, call_soon)
            self._make_uart(stack, plugins)
            self.boot = stack.enter_context(contextlib.closing(Boot(self._boot_source(), config.arch)))
            self._stack = stack.pop_all()

    def _map_ram(self) -> None:
        self.ram = ram_banks(self.config.arch, self.config.memory)
        for number, bank in enumerate(self.ram):
            region = self.vm.allocate_memory(bank.base, f"ram{number}", bank.size)
            try:
                self.memory.add(bank.base, region)
            except BaseException:
                region.close()
                raise
        self.memory.on_written(self.vm.written_hook())

    def _make_slots(self, stack: contextlib.ExitStack) -> None:
        recommended = memory_map(self.config.arch)
        available = self.vm.platform().interrupt_controller.lines
        self.layout_slots: list[SlotLayout] = []
        self.doorbells = Doorbells(self.vm)
        for index, irq in enumerate(self._slot_lines(stack, recommended, available)):
            window = recommended.slot(index)
            slot = MmioSlot(self.host.native, index, irq.native, self.event_fd)
            stack.callback(slot.close)
            self.vm.add_mmio(window.base, window.size, slot.io)
            self.slots.append(slot)
            self.layout_slots.append(SlotLayout(index, window.base, irq.line))

    def _slot_lines(
        self, stack: contextlib.ExitStack, recommended: MemoryMap, available: range
    ) -> list[IrqLine]:
        """Return each slot's interrupt line: its own, or an input of a shared one where lines are few."""
        numbers = [recommended.line(index, available) for index in range(SLOT_COUNT)]
        lines = {number: IrqLine(number, self.vm.irq_line(number)) for number in set(numbers)}
        shares: dict[int, SharedLine] = {}
        for number, line in lines.items():
            if (sharers := numbers.count(number)) > 1:
                shares[number] = SharedLine(self.host.native, line, sharers)
                stack.callback(shares[number].close)
        return [
            shares[number].input(numbers[:index].count(number)) if number in shares else lines[number]
            for index, number in enumerate(numbers)
        ]

    def _make_devices(
        self, stack: contextlib.ExitStack, plugins: Plugins, call_soon: Callable[[Callable[[], Any]], object]
    ) -> None:
        checked = [device_config(device, plugins.device_types) for device in self.config.devices]
        names = device_names(checked)
        for name, (index, kind, config) in zip(names, place_devices(checked, len(self.slots)), strict=True):
            context = DeviceContext(
                name=name,
                machine=self.config.name,
                arch=self.config.arch,
                memory=self.memory,
                host=self.host.native,
                loop=self.io_thread.native,
                call_soon=call_soon,
                plugins=plugins.behind,
            )
            device = kind.create(config, context)
            stack.callback(device.close)
            self.slots[index].attach(device.native)
            stack.callback(self.slots[index].detach)
            self.doorbells.add(self.slots[index], self.layout_slots[index].base)
            stack.callback(self.doorbells.remove, self.slots[index])
            self.devices[index] = device
            log.debug("slot %d: %s (%s)", index, name, kind.name)

    def _make_uart(self, stack: contextlib.ExitStack, plugins: Plugins) -> None:
        self.uart_layout: UartLayout | None = None
        if self.config.debug_uart == "none":
            return
        from vdesktop_core.devices.uart import Uart

        where = memory_map(self.config.arch).uart
        port = open_console(self.config.debug_uart, plugins.behind["console"])
        stack.callback(port.close)
        irq = IrqLine(where.line, self.vm.irq_line(where.line))
        uart = Uart(
            self.host.native, self.io_thread.native, irq.native, port.read_fd, port.write_fd, port.escape_fd
        )
        stack.callback(uart.close)
        add = self.vm.add_pio if where.is_port else self.vm.add_mmio
        add(where.window.base, where.window.size, uart.io)
        self.uart_layout = UartLayout(where.window.base, where.line)

    def _boot_source(self) -> BootSource:
        boot = self.config.boot
        if not boot.kernel:
            raise ConfigError("no kernel: give --kernel FILE, or kernel = … under [boot] in the machine file")
        return BootSource(Path(boot.kernel), Path(boot.initrd) if boot.initrd else None, boot.append)

    def load_guest(self) -> None:
        """Put kernel, initrd and tables into memory and set the boot CPU's entry state."""
        layout = MachineLayout(
            arch=self.config.arch,
            vcpus=self.config.cpus,
            ram=self.ram,
            slots=tuple(self.layout_slots),
            uart=self.uart_layout,
        )
        self.vm.set_entry(self.boot.load(layout, self.vm.platform(), self.memory))

    def desktop(self) -> Desktop:
        """Return what the devices have for people, in the order of their slots."""
        from vdesktop_core.display.frontend import Desktop

        devices = [self.devices[index] for index in sorted(self.devices)]
        return Desktop(
            machine=self.config.name,
            screens=tuple(screen for device in devices if (screen := device.screen) is not None),
            inputs=tuple(sink for device in devices if (sink := device.input_sink) is not None),
            clipboards=tuple(board for device in devices if (board := device.clipboard) is not None),
            file_drops=tuple(drop for device in devices if (drop := device.file_drop) is not None),
        )

    def reset(self) -> None:
        """Bring everything to its state at power-on. The vCPUs must have stopped."""
        for slot in self.slots:
            slot.reset()
        self.vm.reset()

    def dispatch_events(self) -> None:
        """Hand driver decisions to their devices; called when ``event_fd`` is readable."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.event_fd)
        for index, device in self.devices.items():
            for event in self.slots[index].events():
                device.on_event(event.kind, event.a, event.b)

    def counters(self) -> dict[str, dict[str, int]]:
        """Return monotonic counters by device name, and the backend's under ``vm``."""
        counters = {"vm": dict(self.vm.counters())}
        for index, device in self.devices.items():
            counters[device.name] = self.slots[index].counters() | dict(device.counters())
        return counters

    def close(self) -> None:
        """Take everything apart: vCPUs first, then devices, then memory. Idempotent."""
        if hasattr(self, "_stack"):
            self.vm.stop()
            self._stack.close()
