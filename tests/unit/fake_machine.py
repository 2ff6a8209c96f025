# SPDX-License-Identifier: MIT
"""A machine on a backend that runs no code: the test is its guest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from arch_support import KERNELS, make_platform

from vdesktop_core._native import ffi
from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.config import BootConfig, MachineConfig
from vdesktop_core.hypervisor import CONTRACT_VERSION, Arch, Capability, Probe
from vdesktop_core.machine import Machine, installed
from vdesktop_core.memory import MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vdesktop_core.hypervisor import EntryState, Order, Platform, VmEvent, VmSpec


class FakeVm:
    """A virtual machine whose guest is the test."""

    def __init__(self, spec: VmSpec) -> None:
        self._platform = make_platform(spec.arch, spec.vcpus)
        self.ranges: dict[int, tuple[int, Any]] = {}
        self.levels: dict[int, bool] = {}
        self.rises: dict[int, int] = {}
        self._lines: dict[int, Any] = {}
        self.log: list[str] = []
        self.on_event: Callable[[VmEvent], None] | None = None
        self.take_order: Callable[[Order, bool], bool] = lambda _order, _last: False

    def platform(self) -> Platform:
        return self._platform

    def allocate_memory(self, _gpa: int, name: str, size: int, *, readonly: bool = False) -> MemoryRegion:
        return MemoryRegion(name, size)

    def written_hook(self) -> int:
        return 0

    def irq_line(self, line: int) -> int:
        if line not in self._lines:

            def set_level(_opaque: Any, level: bool) -> None:
                self.rises[line] = self.rises.get(line, 0) + (bool(level) and not self.levels.get(line))
                self.levels[line] = bool(level)

            callback = ffi.callback("void(void *, bool)", set_level)
            self._lines[line] = (callback, ffi.new("struct vd_irq *", {"set": callback}))
        return int(ffi.cast("uintptr_t", self._lines[line][1]))

    def add_mmio(self, base: int, size: int, io: int) -> None:
        self.ranges[base] = (size, ffi.cast("struct vd_io *", io))

    def add_doorbell(self, *_bell: object) -> bool:
        return False

    def set_entry(self, entry: EntryState) -> None:
        self.log.append("entry")

    def start(self, on_event: Callable[[VmEvent], None]) -> None:
        self.on_event = on_event
        self.log.append("start")

    def on_order(self, take: Callable[[Order, bool], bool]) -> None:
        self.take_order = take

    def pause(self) -> None:
        self.log.append("pause")

    def resume(self) -> None:
        self.log.append("resume")

    def stop(self) -> None:
        self.log.append("stop")

    def reset(self) -> None:
        self.log.append("reset")

    def counters(self) -> Mapping[str, int]:
        return {"exits": 1}

    def close(self) -> None:
        self.log.append("close")

    # The guest's accesses.

    def read(self, address: int, width: int = 4) -> int:
        base, io = self._at(address)
        return int(io.read(io.opaque, address - base, width))

    def write(self, address: int, width: int, value: int) -> None:
        base, io = self._at(address)
        io.write(io.opaque, address - base, width, value)

    def _at(self, address: int) -> tuple[int, Any]:
        return next((base, io) for base, (size, io) in self.ranges.items() if base <= address < base + size)


class Slot:
    """The registers of one slot, as the mock driver wants them."""

    def __init__(self, vm: FakeVm, base: int) -> None:
        self._vm = vm
        self._base = base

    def read(self, offset: int, width: int) -> int:
        return self._vm.read(self._base + offset, width)

    def write(self, offset: int, width: int, value: int) -> None:
        self._vm.write(self._base + offset, width, value)


class FakeHypervisor:
    """Makes fake virtual machines and remembers the last."""

    name = "fake"
    contract_version = CONTRACT_VERSION

    def __init__(self) -> None:
        self.vm: FakeVm | None = None

    def probe(self) -> Probe:
        return Probe(
            available=True,
            reason="always",
            architectures=tuple(Arch),
            max_vcpus=16,
            capabilities=frozenset({Capability.SMP, Capability.PORT_IO}),
            preference=1000,
        )

    def create(self, spec: VmSpec) -> FakeVm:
        self.vm = FakeVm(spec)
        return self.vm


class FakeMachine(Machine):
    """A machine whose guest is the test. Use it in an ``async with`` after :meth:`Machine.start`."""

    def __init__(self, folder: Path, arch: Arch = Arch.AARCH64, **values: Any) -> None:
        kernel = folder / "kernel"
        kernel.write_bytes(KERNELS[arch]())
        self.hypervisor = FakeHypervisor()
        plugins = installed()
        replaced = SimpleNamespace(
            hypervisors={"fake": self.hypervisor}, device_types=plugins.device_types, behind=plugins.behind
        )
        values.setdefault("memory", 64 << 20)
        config = MachineConfig(arch=arch, boot=BootConfig(kernel=str(kernel)), backend="fake", **values)
        super().__init__(config, plugins=replaced)  # type: ignore[arg-type]

    @property
    def vm(self) -> FakeVm:
        assert self.hypervisor.vm is not None
        return self.hypervisor.vm

    def slot(self, index: int) -> Slot:
        """The registers of a slot."""
        return Slot(self.vm, memory_map(self.config.arch).slot(index).base)
