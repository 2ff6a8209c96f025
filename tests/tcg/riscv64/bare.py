# SPDX-License-Identifier: GPL-2.0-only
"""A bare-metal riscv64 guest on the tcg backend: one region of RAM and no devices."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING, Any

from vdesktop_tcg.hypervisor import TcgHypervisor

from vdesktop_core._native import ffi
from vdesktop_core.hypervisor import Arch, EntryState, VmEvent, VmSpec
from vdesktop_core.memory import MemoryRegion

if TYPE_CHECKING:
    from assembler import Assembler

RAM = 0x8000_0000
RAM_SIZE = 32 << 20
TIMEOUT = 120


class BareGuest:
    """Programs start at the first byte of RAM, on hart 0, in S-mode."""

    def __init__(self, vcpus: int = 1, **options: int) -> None:
        self.harts = vcpus
        self.region = MemoryRegion("bare", RAM_SIZE)
        self.view = self.region.view
        self.vm = TcgHypervisor().create(VmSpec(Arch.RISCV64, vcpus, options=options))
        self.vm.map_memory(RAM, self.region)
        self.events: list[VmEvent] = []
        self._ended = threading.Event()
        self._written: Any = ffi.cast("struct vd_written *", self.vm.written_hook())

    def load(self, program: Assembler) -> None:
        code = program.assemble()
        self.view[program.base - RAM : program.base - RAM + len(code)] = code

    def start(self) -> None:
        self._ended.clear()
        self.vm.set_entry(EntryState({"pc": RAM, "a0": 0, "a1": 0}))
        self.vm.start(self._on_event)

    def _on_event(self, event: VmEvent) -> None:
        self.events.append(event)
        self._ended.set()

    def wait(self) -> VmEvent:
        """Wait for the guest's end. No test is about time: the limit is for a guest that hangs."""
        assert self._ended.wait(TIMEOUT), f"the guest hangs: {self.vm.counters()}"
        self.vm.stop()
        return self.events[-1]

    def run(self) -> VmEvent:
        self.start()
        return self.wait()

    def read(self, address: int) -> int:
        value: int = struct.unpack_from("<Q", self.view, address - RAM)[0]
        return value

    def write(self, address: int, value: int) -> None:
        struct.pack_into("<Q", self.view, address - RAM, value)

    def device_write(self, address: int, data: bytes, *, tell: bool = True) -> None:
        """Write RAM as a device does, and tell the backend."""
        self.view[address - RAM : address - RAM + len(data)] = data
        if tell:
            self._written.fn(self._written.opaque, address, len(data))

    def set_line(self, line: int, level: bool) -> None:
        irq = ffi.cast("struct vd_irq *", self.vm.irq_line(line))
        irq.set(irq.opaque, level)

    def close(self) -> None:
        self.vm.close()
        self.region.close()
