# SPDX-License-Identifier: GPL-2.0-only
"""A virtual machine of the software CPU. All of its hot paths are in ``native/``."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from vdesktop_core.bindings import read_counters
from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import EntryState, ExitReason, Platform, VmEvent, VmSpec
from vdesktop_core.memory import allocate_host_memory
from vdesktop_tcg import library
from vdesktop_tcg.platforms import platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vdesktop_core.memory import MemoryRegion


class TcgMachine:
    """Implements :class:`vdesktop_core.hypervisor.VirtualMachine`."""

    def __init__(self, spec: VmSpec) -> None:
        self._ffi, self._lib = library.load()
        self._spec = spec
        self._on_event: Callable[[VmEvent], None] | None = None
        self._handle = self._ffi.new_handle(self)
        self._running = False
        self._regions: dict[int, MemoryRegion] = {}
        options = "".join(f"{name}={_integer(name, value)}\n" for name, value in spec.options.items())
        error = self._ffi.new("char[]", 512)
        self._vm: Any = self._lib.tcg_vm_new(
            spec.arch.value.encode(), spec.vcpus, options.encode(), error, len(error)
        )
        if self._vm == self._ffi.NULL:
            raise BackendError(self._ffi.string(error).decode(errors="replace"))

    def platform(self) -> Platform:
        """Implement the contract."""
        return platform(
            self._spec.arch,
            lines=self._lib.tcg_vm_lines(self._vm),
            timer_hz=self._lib.tcg_vm_timer_hz(self._vm),
            cpu_ids=tuple(range(self._spec.vcpus)),
        )

    def allocate_memory(self, gpa: int, name: str, size: int, *, readonly: bool = False) -> MemoryRegion:
        """Implement the contract by memory that is shared with the host."""
        return allocate_host_memory(self, gpa, name, size, readonly=readonly)

    def map_memory(self, gpa: int, region: MemoryRegion, *, readonly: bool = False) -> None:
        """Implement the contract. Raises BackendError for an overlap and for ``readonly``."""
        host = self._ffi.cast("void *", region.address)
        with self._quiet():
            result = self._lib.tcg_vm_map(self._vm, gpa, region.size, host, readonly)
        _check(result, f"map {region.name} at {gpa:#x}")
        self._regions[gpa] = region

    def unmap_memory(self, gpa: int) -> None:
        """Implement the contract."""
        with self._quiet():
            result = self._lib.tcg_vm_unmap(self._vm, gpa)
        _check(result, f"unmap {gpa:#x}")
        self._regions.pop(gpa, None)

    def written_hook(self) -> int:
        """Implement the contract."""
        return self._address(self._lib.tcg_vm_written(self._vm))

    def irq_line(self, line: int) -> int:
        """Implement the contract."""
        irq = self._lib.tcg_vm_irq(self._vm, line) if line >= 0 else self._ffi.NULL
        if irq == self._ffi.NULL:
            raise BackendError(f"tcg has no interrupt line {line} on {self._spec.arch}")
        return self._address(irq)

    def add_mmio(self, base: int, size: int, io: int) -> None:
        """Implement the contract."""
        self._add_io(False, base, size, io)

    def remove_mmio(self, base: int) -> None:
        """Implement the contract."""
        with self._quiet():
            result = self._lib.tcg_vm_remove_io(self._vm, False, base)
        _check(result, f"remove the MMIO range at {base:#x}")

    def add_pio(self, base: int, size: int, io: int) -> None:
        """Implement the contract."""
        self._add_io(True, base, size, io)

    def add_doorbell(self, address: int, width: int, value: int | None, fd: int) -> bool:
        """Implement the contract: the MMIO handler is as fast as a doorbell would be."""
        del address, width, value, fd
        return False

    def remove_doorbell(self, address: int, width: int, value: int | None, fd: int) -> None:
        """Implement the contract: none was ever taken."""
        del width, value, fd
        raise BackendError(f"tcg has no doorbell at {address:#x}")

    def set_entry(self, entry: EntryState) -> None:
        """Implement the contract. Raises BackendError for a register the architecture does not have."""
        self._lib.tcg_vm_clear_entry(self._vm)
        for name, value in entry.registers.items():
            result = self._lib.tcg_vm_set_entry(self._vm, name.encode(), value)
            _check(result, f"set register {name} of {self._spec.arch}")

    def start(self, on_event: Callable[[VmEvent], None]) -> None:
        """Implement the contract."""
        self._on_event = on_event
        _check(self._lib.tcg_vm_start(self._vm, self._lib.tcg_py_event, self._handle), "start the vCPUs")
        self._running = True

    def pause(self) -> None:
        """Implement the contract."""
        _check(self._lib.tcg_vm_pause(self._vm), "pause")
        self._running = False

    def resume(self) -> None:
        """Implement the contract."""
        _check(self._lib.tcg_vm_resume(self._vm), "resume")
        self._running = True

    def stop(self) -> None:
        """Implement the contract."""
        if self._vm != self._ffi.NULL:
            self._lib.tcg_vm_stop(self._vm)
        self._running = False

    def reset(self) -> None:
        """Implement the contract: a start brings everything to its reset state."""

    def dirty_log(self, gpa: int, size: int) -> Sequence[int]:
        """Refuse: there is no ``DIRTY_LOG`` yet."""
        raise BackendError(f"tcg keeps no dirty log of {size} bytes at {gpa:#x}")

    def dirty_hook(self) -> int:
        """Implement the contract: there is none."""
        return 0

    def counters(self) -> Mapping[str, int]:
        """Implement the contract."""
        return read_counters(self._ffi, partial(self._lib.tcg_vm_counter_at, self._vm))

    def close(self) -> None:
        """Implement the contract."""
        self._lib.tcg_vm_free(self._vm)
        self._vm = self._ffi.NULL
        self._running = False
        self._regions.clear()

    def event(self, reason: int, detail: str) -> None:
        """Report what ended the vCPUs; called by the extension, on their thread."""
        if self._on_event is not None:
            self._on_event(VmEvent(_REASONS[reason - 1], detail))

    def _address(self, pointer: Any) -> int:
        return int(self._ffi.cast("uintptr_t", pointer))

    def _add_io(self, port: bool, base: int, size: int, io: int) -> None:
        pointer = self._ffi.cast("struct vd_io *", io)
        with self._quiet():
            result = self._lib.tcg_vm_add_io(self._vm, port, base, size, pointer)
        _check(result, f"add the {'port' if port else 'MMIO'} range at {base:#x}")

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keep the vCPUs out of the guest while its map changes."""
        running = self._running
        if running:
            self.pause()
        try:
            yield
        finally:
            if running:
                self.resume()


#: In the order of ``enum tcg_exit``, after its NONE.
_REASONS = (ExitReason.SHUTDOWN, ExitReason.RESET, ExitReason.CRASH, ExitReason.ERROR)


def _integer(name: str, value: object) -> int:
    if isinstance(value, int):
        return int(value)
    raise BackendError(f"[backend.tcg] {name} = {value!r}: the options of tcg are integers")


def _check(result: int, what: str) -> None:
    if result < 0:
        raise BackendError(f"tcg cannot {what}: {os.strerror(-result)}")


def _install_event_callback() -> None:
    from vdesktop_tcg._tcg import ffi

    @ffi.def_extern(name="tcg_py_event")  # type: ignore[untyped-decorator]
    def on_event(opaque: Any, reason: int, detail: Any) -> None:
        ffi.from_handle(opaque).event(reason, ffi.string(detail).decode(errors="replace"))


_install_event_callback()
