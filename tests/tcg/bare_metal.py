# SPDX-License-Identifier: GPL-2.0-only
"""A machine of the software CPU for programs of a few instructions: no kernel, no virtio."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

import cffi
from vdesktop_tcg.hypervisor import TcgHypervisor

from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.hypervisor import Arch, EntryState, VmEvent, VmSpec
from vdesktop_core.memory import MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

#: A test that has not ended by then hangs.
PATIENCE = 120

ffi = cffi.FFI()
ffi.cdef(
    """
    struct vd_irq { void (*set)(void *opaque, _Bool level); void *opaque; };
    struct vd_io {
        uint64_t (*read)(void *opaque, uint64_t offset, unsigned width);
        void (*write)(void *opaque, uint64_t offset, unsigned width, uint64_t value);
        void *opaque;
    };
    struct vd_written { void (*fn)(void *opaque, uint64_t gpa, uint64_t len); void *opaque; };
    """
)


class BareMetal:
    """One VM, its RAM, and what the test wants of it. Use it in a ``with`` statement."""

    def __init__(self, arch: Arch, *, vcpus: int = 1, ram: int = 4 << 20) -> None:
        self.base = memory_map(arch).ram[0].base
        self.vm = TcgHypervisor().create(VmSpec(arch=arch, vcpus=vcpus))
        self.ram = MemoryRegion("bare-metal", ram)
        self.vm.map_memory(self.base, self.ram)
        self._ended = threading.Event()
        self._event: VmEvent | None = None
        self._kept: list[Any] = []
        self._written = ffi.cast("struct vd_written *", self.vm.written_hook())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.vm.close()
        self.ram.close()

    def write(self, gpa: int, data: bytes) -> None:
        offset = gpa - self.base
        self.ram.view[offset : offset + len(data)] = data

    def poke(self, gpa: int, value: int, width: int = 8) -> None:
        self.write(gpa, (value & ((1 << 8 * width) - 1)).to_bytes(width, "little"))

    def peek(self, gpa: int, width: int = 8) -> int:
        offset = gpa - self.base
        return int.from_bytes(self.ram.view[offset : offset + width], "little")

    def device(
        self,
        base: int,
        *,
        read: Callable[[int, int], int] = lambda offset, width: 0,
        write: Callable[[int, int, int], None] = lambda offset, width, value: None,
        size: int = 0x1000,
        port: bool = False,
    ) -> None:
        """Call ``read(offset, width)`` and ``write(offset, width, value)`` for a range."""
        on_read = ffi.callback(
            "uint64_t(void *, uint64_t, unsigned)", lambda opaque, offset, width: read(offset, width)
        )
        on_write = ffi.callback(
            "void(void *, uint64_t, unsigned, uint64_t)",
            lambda opaque, offset, width, value: write(offset, width, value),
        )
        io = ffi.new("struct vd_io *", {"read": on_read, "write": on_write})
        self._kept += [on_read, on_write, io]
        (self.vm.add_pio if port else self.vm.add_mmio)(base, size, int(ffi.cast("uintptr_t", io)))

    def set_line(self, line: int, level: bool) -> None:
        irq = ffi.cast("struct vd_irq *", self.vm.irq_line(line))
        irq.set(irq.opaque, level)

    def device_wrote(self, gpa: int, data: bytes) -> None:
        """Write guest memory as a device does: the bytes, then the hook."""
        self.write(gpa, data)
        self._written.fn(self._written.opaque, gpa, len(data))

    def start(self, **registers: int) -> None:
        self._ended.clear()
        self._event = None
        self.vm.set_entry(EntryState(registers))
        self.vm.start(self._on_event)

    def wait(self) -> VmEvent:
        """Wait until the guest ends itself, and stop."""
        ended = self._ended.wait(PATIENCE)
        self.vm.stop()
        assert ended, f"the guest did not end: {self.vm.counters()}"
        assert self._event is not None
        return self._event

    def run(self, **registers: int) -> VmEvent:
        self.start(**registers)
        return self.wait()

    def _on_event(self, event: VmEvent) -> None:
        self._event = event
        self._ended.set()
