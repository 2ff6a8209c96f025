# SPDX-License-Identifier: MIT
"""The assembled hardware of one machine: memory, slots, devices, on a backend's virtual machine.

A board is built whole or not at all, and taken apart in reverse order. It has
no life cycle of its own: :mod:`vdesktop_core.machine` runs it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vdesktop_core.arch.boot import Boot, BootSource, EventsLayout, MachineLayout, RtcLayout, UartLayout
from vdesktop_core.arch.command_line import screen_words
from vdesktop_core.arch.memory_map import memory_map, ram_banks
from vdesktop_core.config import device_config
from vdesktop_core.devices.base import DeviceContext
from vdesktop_core.devices.console.port import open_console
from vdesktop_core.errors import ConfigError
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import VmSpec
from vdesktop_core.interrupt import IrqLine
from vdesktop_core.iothread import IoThread
from vdesktop_core.memory import GuestMemory
from vdesktop_core.slots import Slots, check_slot, device_names, place_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vdesktop_core.acpi_events import AcpiEvents
    from vdesktop_core.config import MachineConfig
    from vdesktop_core.devices.base import DeviceConfig, DeviceType
    from vdesktop_core.devices.rtc import Rtc
    from vdesktop_core.display.bootfb import BootFramebuffer
    from vdesktop_core.display.frontend import Desktop
    from vdesktop_core.hypervisor import Hypervisor, VirtualMachine
    from vdesktop_core.slots import Occupant


class Plugins(msgspec.Struct, frozen=True):
    """What is installed, by hook and name."""

    hypervisors: Mapping[str, Hypervisor]
    device_types: Mapping[str, DeviceType]
    behind: Mapping[str, Mapping[str, Any]]  #: ``net``, ``console``, ``disk``, ``display``


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
        self._plugins = plugins
        self._call_soon = call_soon
        with contextlib.ExitStack() as stack:
            self.host = stack.enter_context(contextlib.closing(Host()))
            self.memory = stack.enter_context(GuestMemory(self.host.native))
            self.vm: VirtualMachine = stack.enter_context(
                contextlib.closing(
                    hypervisor.create(
                        VmSpec(
                            config.arch,
                            config.vcpus,
                            config.name,
                            config.backends.get(hypervisor.name, {}),
                            share_memory=config.has_screen,  # one that is plugged in later is copied
                        )
                    )
                )
            )
            self._map_ram()
            self.io_thread = stack.enter_context(contextlib.closing(IoThread(self.host.native, "vd-io")))
            self._make_framebuffer(stack)
            self.slots = stack.enter_context(
                contextlib.closing(Slots(self.vm, memory_map(config.arch), self.host.native))
            )
            self._make_devices()
            self._make_uart(stack, plugins)
            self.rtc = self._make_rtc(stack)
            self.acpi_events = self._make_events(stack)
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

    def _make_framebuffer(self, stack: contextlib.ExitStack) -> None:
        self.framebuffer: BootFramebuffer | None = None
        if (size := self.config.framebuffer_size) is None:
            return
        from vdesktop_core.display.bootfb import BootFramebuffer, place_framebuffer

        layout = place_framebuffer(self.config.arch, size)
        self.framebuffer = BootFramebuffer(self.host.native, layout, self.memory, self.vm)
        stack.callback(self.framebuffer.close)

    def _make_devices(self) -> None:
        checked = [device_config(device, self._plugins.device_types) for device in self.config.devices]
        names = device_names(checked)
        for name, (index, kind, config) in zip(names, place_devices(checked, len(self.slots)), strict=True):
            self.put(index, name, kind, config)

    def put(self, slot: int, name: str, kind: DeviceType, config: DeviceConfig) -> Occupant:
        """Make a device and put it into an empty slot.

        Raises:
            VdesktopError: see :meth:`plug`.
        """
        context = DeviceContext(
            name=name,
            machine=self.config.name,
            arch=self.config.arch,
            memory=self.memory,
            host=self.host.native,
            loop=self.io_thread.native,
            call_soon=self._call_soon,
            plugins=self._plugins.behind,
            framebuffer=self.framebuffer,
        )
        return self.slots.put(slot, name, kind, lambda: kind.create(config, context))

    def plug(self, device: DeviceConfig | Mapping[str, Any]) -> Occupant:
        """Make a device and put it into its slot, or the first free one. The guest may be running.

        Raises:
            VdesktopError: it does not make sense, its slot is occupied, or it cannot be made;
                nothing is left behind.
        """
        kind, config = device_config(device, self._plugins.device_types)
        taken = frozenset(occupant.name for occupant in self.slots.occupants)
        (name,) = device_names([(kind, config)], taken)
        if config.slot is not None:
            check_slot(config.slot, name)
        return self.put(self.slots.free() if config.slot is None else config.slot, name, kind, config)

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

    def _make_rtc(self, stack: contextlib.ExitStack) -> Rtc | None:
        """Make the clock, where the backend has its line."""
        self.rtc_layout: RtcLayout | None = None
        where = memory_map(self.config.arch).rtc
        if where is None or where.line not in self.vm.platform().interrupt_controller.lines:
            return None
        from vdesktop_core.devices.rtc import Rtc

        irq = IrqLine(where.line, self.vm.irq_line(where.line))
        rtc = Rtc(self.host.native, self.io_thread.native, irq, where.model)
        stack.callback(rtc.close)
        self.vm.add_mmio(where.window.base, where.window.size, rtc.io)
        self.rtc_layout = RtcLayout(where.window.base, where.line, where.model)
        return rtc

    def _make_events(self, stack: contextlib.ExitStack) -> AcpiEvents | None:
        """Make what an ACPI guest hears of changes by, where the backend has the line."""
        where = memory_map(self.config.arch).events
        if where is None or where.line not in self.vm.platform().interrupt_controller.lines:
            return None
        from vdesktop_core.acpi_events import AcpiEvents

        events = AcpiEvents(self.host.native, IrqLine(where.line, self.vm.irq_line(where.line)))
        stack.callback(events.close)
        self.vm.add_mmio(where.window.base, where.window.size, events.io)
        events.show_slots(self.slots.filled, tell=False)
        return events

    def _boot_source(self) -> BootSource:
        boot = self.config.boot
        if not boot.kernel:
            raise ConfigError("no kernel: give --kernel FILE, or kernel = … under [boot] in the machine file")
        return BootSource(Path(boot.kernel), Path(boot.initrd) if boot.initrd else None, boot.append)

    def load_guest(self) -> None:
        """Put kernel, initrd and tables into memory and set the boot CPU's entry state."""
        layout = MachineLayout(
            arch=self.config.arch,
            vcpus=self.config.vcpus,
            events=self._events_layout(),
            ram=self.ram,
            slots=tuple(self.slots.layout),
            uart=self.uart_layout,
            rtc=self.rtc_layout,
            framebuffer=None if self.framebuffer is None else self.framebuffer.layout,
            append=(*self._cpu_words(), *self._screen_words()),
        )
        self.vm.set_entry(self.boot.load(layout, self.vm.platform(), self.memory))

    def _cpu_words(self) -> tuple[str, ...]:
        """Have the kernel start so many CPUs by itself; it can bring the others up later."""
        return () if self.config.cpus == self.config.vcpus else (f"maxcpus={self.config.cpus}",)

    def _screen_words(self) -> tuple[str, ...]:
        return () if self.framebuffer is None else screen_words(self.config.boot.append)

    def _events_layout(self) -> EventsLayout | None:
        where = memory_map(self.config.arch).events
        return (
            None if where is None or self.acpi_events is None else EventsLayout(where.window.base, where.line)
        )

    def desktop(self) -> Desktop:
        """Return what the devices have for people, in the order of their slots."""
        from vdesktop_core.display.frontend import Desktop

        devices = [occupant.device for occupant in self.slots.occupants]
        screens = [screen for device in devices if (screen := device.screen) is not None]
        if self.framebuffer is not None and self.framebuffer.screen is not None:
            screens.insert(0, self.framebuffer.screen)
        return Desktop(
            machine=self.config.name,
            screens=tuple(screens),
            inputs=tuple(sink for device in devices if (sink := device.input_sink) is not None),
            clipboards=tuple(board for device in devices if (board := device.clipboard) is not None),
            file_drops=tuple(drop for device in devices if (drop := device.file_drop) is not None),
        )

    def reset(self) -> None:
        """Bring everything to its state at power-on. The vCPUs must have stopped."""
        self.slots.reset()
        if self.acpi_events is not None:
            self.acpi_events.reset()
        if self.rtc is not None:
            self.rtc.reset()
        with self.framebuffer.held() if self.framebuffer is not None else contextlib.nullcontext():
            self.vm.reset()

    def counters(self) -> dict[str, dict[str, int]]:
        """Return monotonic counters by device name, and the backend's under ``vm``."""
        counters = {"vm": dict(self.vm.counters())}
        if self.framebuffer is not None:
            counters[self.framebuffer.name] = dict(self.framebuffer.counters())
        return counters | self.slots.counters()

    def close(self) -> None:
        """Take everything apart: vCPUs first, then devices, then memory. Idempotent."""
        if hasattr(self, "_stack"):
            self.vm.stop()
            self._stack.close()
