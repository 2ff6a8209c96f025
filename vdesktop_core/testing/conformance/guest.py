# SPDX-License-Identifier: MIT
"""A virtual machine of a backend with the conformance guest in it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from vdesktop_core._native import ffi
from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.hypervisor import EntryState, Platform, VmEvent, VmSpec
from vdesktop_core.testing.conformance.arches import guest_arch
from vdesktop_core.testing.conformance.program import DONE_OFFSET, RECORD, RESULT_OFFSET, STOP, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from vdesktop_core.hypervisor import Arch, Hypervisor, VirtualMachine

#: Seconds. Nothing here takes long: whoever has not answered by then hangs.
PATIENCE = 60.0
RAM_SIZE = 4 << 20
_LISTS, _LIST_SIZE, _DATA = 0x4_0000, 0x1_0000, 0x10_0000


@dataclass(frozen=True, slots=True)
class Access:
    """One access that reached a device."""

    offset: int
    width: int
    value: int | None  #: of a write; None: a read


class Device:
    """A range of addresses that answers with ``value``, every 8 bytes anew, and remembers who asked."""

    def __init__(self, value: int = 0, on_write: Callable[[int, int], None] | None = None) -> None:
        self.value = value
        self.accesses: list[Access] = []
        self._on_write = on_write
        read = ffi.callback("uint64_t(void *, uint64_t, unsigned)", self._read)
        write = ffi.callback("void(void *, uint64_t, unsigned, uint64_t)", self._write)
        self._keep = (read, write)
        self._io = ffi.new("struct vd_io *", {"read": read, "write": write})

    @property
    def native(self) -> int:
        """Address of the ``struct vd_io``."""
        return int(ffi.cast("uintptr_t", self._io))

    def joined(self) -> list[Access]:
        """Return the accesses; those of 8 bytes that came as two halves (``vd_io``) are joined."""
        found: list[Access] = []
        for now in self.accesses:
            before = found[-1] if found else None
            if (
                before is not None
                and (before.width, now.width, now.offset) == (4, 4, before.offset + 4)
                and before.offset % 8 == 0
                and (before.value is None) == (now.value is None)
            ):
                value = None if now.value is None else (before.value or 0) | now.value << 32
                found[-1] = Access(before.offset, 8, value)
            else:
                found.append(now)
        return found

    def _read(self, _opaque: Any, offset: int, width: int) -> int:
        self.accesses.append(Access(offset, width, None))
        return self.value >> 8 * (offset % 8) & (1 << 8 * width) - 1

    def _write(self, _opaque: Any, offset: int, width: int, value: int) -> None:
        self.accesses.append(Access(offset, width, value))
        if self._on_write is not None:
            self._on_write(offset, value)


class Guest:
    """One VM with 4 MiB of RAM, and what a test wants of it. Use it in a ``with`` statement.

    Args:
        hypervisor: the backend.
        arch: the guest's architecture.
        vcpus: how many CPUs it has; all but the boot one wait to be started.
    """

    def __init__(self, hypervisor: Hypervisor, arch: Arch, vcpus: int = 1) -> None:
        self.part = guest_arch(arch)
        self.map = memory_map(arch)
        self.base = self.map.ram[0].base
        self.data = self.base + _DATA
        self.devices: list[Device] = []
        self.events: list[VmEvent] = []
        self._ended = threading.Event()
        self.vm: VirtualMachine = hypervisor.create(VmSpec(arch, vcpus, "conformance"))
        try:
            self.ram = self.vm.allocate_memory(self.base, "conformance", RAM_SIZE)
        except BaseException:
            self.vm.close()
            raise
        try:
            self.platform: Platform = self.vm.platform()
            self.line = self.map.line(1, self.platform.interrupt_controller.lines)
            self.part.prepare(self.write)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the VM, then its memory."""
        self.vm.close()
        self.ram.close()

    def write(self, gpa: int, data: bytes) -> None:
        """Write RAM as the host does."""
        self.ram.view[gpa - self.base : gpa - self.base + len(data)] = data

    def poke(self, gpa: int, value: int) -> None:
        """Write 8 bytes of RAM."""
        self.write(gpa, value.to_bytes(8, "little"))

    def peek(self, gpa: int) -> int:
        """Read 8 bytes of RAM."""
        return int.from_bytes(self.ram.view[gpa - self.base : gpa - self.base + 8], "little")

    def device(
        self,
        gpa: int,
        size: int = 0x1000,
        *,
        value: int = 0,
        on_write: Callable[[int, int], None] | None = None,
    ) -> Device:
        """Put a device at a guest-physical address."""
        device = Device(value, on_write)
        self.devices.append(device)
        self.vm.add_mmio(gpa, size, device.native)
        return device

    def set_line(self, line: int, *, level: bool) -> None:
        """Drive an interrupt line."""
        irq = ffi.cast("struct vd_irq *", self.vm.irq_line(line))
        irq.set(irq.opaque, level)

    def records(self, cpu: int = 0) -> int:
        """Return where a CPU's list lies."""
        return self.base + _LISTS + cpu * _LIST_SIZE

    def load(self, records: Sequence[Record], cpu: int = 0) -> None:
        """Give a CPU its list. The CPU stops after it."""
        self.write(self.records(cpu), b"".join(record.pack() for record in (*records, STOP)))

    def start(self, records: Sequence[Record], **registers: int) -> None:
        """Start the boot CPU on a list; ``registers`` are what it begins with instead."""
        self.load(records)
        self._ended.clear()
        self.vm.set_entry(EntryState({**self.part.entry(self.records()), **registers}))
        self.vm.start(self._on_event)

    def run(self, records: Sequence[Record]) -> VmEvent:
        """Run a list, with a power-off at its end, until the guest ends itself; then stop."""
        self.start([*records, *self.part.power_off(self.platform)])
        return self.ended()

    def ended(self) -> VmEvent:
        """Wait until the guest ends itself, and stop."""
        in_time = self._ended.wait(PATIENCE)
        self.vm.stop()
        assert in_time, f"the guest did not end itself: {dict(self.vm.counters())}"
        return self.events[-1]

    def result(self, index: int, cpu: int = 0) -> int:
        """Return the result of a list's record."""
        return self.peek(self.records(cpu) + index * RECORD.size + RESULT_OFFSET)

    def reached(self, index: int, cpu: int = 0) -> None:
        """Wait until a record has been executed."""
        self.until(lambda: self.executed(index, cpu), f"record {index} of CPU {cpu} was not executed")

    def executed(self, index: int, cpu: int = 0) -> bool:
        """Tell whether a record has been executed."""
        return self.peek(self.records(cpu) + index * RECORD.size + DONE_OFFSET) == 1

    def until(self, condition: Callable[[], bool], complaint: str) -> None:
        """Wait for something that the guest does."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{complaint}: {dict(self.vm.counters())}"
            time.sleep(0.001)

    def _on_event(self, event: VmEvent) -> None:
        self.events.append(event)
        self._ended.set()
