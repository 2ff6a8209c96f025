# SPDX-License-Identifier: MIT
"""A domain of Xen. All of its hot paths are in ``native/``."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from typing import TYPE_CHECKING, Any

from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import EntryState, ExitReason, InterruptController, Platform, VmEvent, VmSpec
from vdesktop_core.memory import PAGE_SIZE, HypervisorRegion, MemoryRegion
from vdesktop_xen import marks
from vdesktop_xen._xen import ffi, lib
from vdesktop_xen.registration import Registration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

#: In the order of ``enum vx_exit``, after its NONE.
_REASONS = (ExitReason.SHUTDOWN, ExitReason.RESET, ExitReason.CRASH, ExitReason.ERROR)
_ERROR_SIZE = 512
#: On AMD processors Linux looks for an AGP bridge on 256 PCI buses, twice, before it knows that there is no
#: PCI: 33 000 exits (``early_gart_iommu_check``).
_APPEND = ("pci=noearly",)


class XenMachine:
    """Implements :class:`vdesktop_core.hypervisor.VirtualMachine`."""

    def __init__(self, spec: VmSpec) -> None:
        self._spec = spec
        self._on_event: Callable[[VmEvent], None] | None = None
        self._ran = False
        self._error = ffi.new("char[]", _ERROR_SIZE)
        marks.sweep()
        mark = marks.mine()
        self._vm: Any = lib.vx_vm_new(spec.vcpus, mark, self._error, _ERROR_SIZE)
        if self._vm == ffi.NULL:
            raise BackendError(self._said())
        # Whatever way this process ends but one, the domain ends before it.
        self._free = weakref.finalize(self, lib.vx_vm_free, self._vm)
        self._handle = ffi.new_handle(self)
        #: The domain's number.
        self.domain = int(lib.vx_vm_domain(self._vm))
        try:
            self._registration = Registration(self.domain, spec.name, mark, self._look)
            self._connect()
        except BaseException:
            self.close()
            raise

    def platform(self) -> Platform:
        """Implement the contract: Xen's local APICs and I/O APIC; APIC ids are even numbers."""
        layout = memory_map(self._spec.arch)
        first = ffi.new("uint32_t *")
        end = lib.vx_vm_lines(self._vm, first)
        return Platform(
            interrupt_controller=InterruptController(
                kind="ioapic",
                regions={
                    name: (window.base, window.size) for name, window in layout.interrupt_controller.items()
                },
                lines=range(first[0], end),
            ),
            timer_hz=int(lib.vx_vm_timer_hz(self._vm)),
            cpu_ids=tuple(2 * index for index in range(self._spec.vcpus)),
            cpu_enable="apic",
            ports=layout.ports,
            append=_APPEND,
        )

    def allocate_memory(self, gpa: int, name: str, size: int, *, readonly: bool = False) -> MemoryRegion:
        """Implement the contract: the domain's own memory, mapped into this process."""
        host = ffi.new("void **")
        if lib.vx_vm_allocate(self._vm, gpa, size, readonly, host, self._error, _ERROR_SIZE) < 0:
            raise BackendError(self._said())
        address = int(ffi.cast("uintptr_t", host[0]))
        return HypervisorRegion(
            name, size, address, lambda: lib.vx_release(ffi.cast("void *", address), size)
        )

    def map_memory(self, gpa: int, region: MemoryRegion, *, readonly: bool = False) -> None:
        """Implement the contract: refuse. A domain has memory of Xen's only."""
        raise BackendError(f"xen cannot map {region.name} into a domain: its memory comes from Xen")

    def unmap_memory(self, gpa: int) -> None:
        """Implement the contract."""
        _check(lib.vx_vm_unmap(self._vm, gpa), f"unmap {gpa:#x}")

    def written_hook(self) -> int:
        """Implement the contract: it feeds the dirty log."""
        return _address(lib.vx_vm_written(self._vm))

    def irq_line(self, line: int) -> int:
        """Implement the contract."""
        irq = lib.vx_vm_irq(self._vm, line) if line >= 0 else ffi.NULL
        if irq == ffi.NULL:
            raise BackendError(f"xen has no interrupt line {line} for devices: its I/O APIC has 3 to 47")
        return _address(irq)

    def add_mmio(self, base: int, size: int, io: int) -> None:
        """Implement the contract."""
        result = lib.vx_vm_add_io(self._vm, False, base, size, ffi.cast("struct vd_io *", io))
        _check(result, f"add the MMIO range at {base:#x}")

    def remove_mmio(self, base: int) -> None:
        """Implement the contract."""
        _check(lib.vx_vm_remove_io(self._vm, False, base), f"remove the MMIO range at {base:#x}")

    def add_pio(self, base: int, size: int, io: int) -> None:
        """Implement the contract."""
        result = lib.vx_vm_add_io(self._vm, True, base, size, ffi.cast("struct vd_io *", io))
        _check(result, f"add the port range at {base:#x}")

    def add_doorbell(self, address: int, width: int, value: int | None, fd: int) -> bool:
        """Implement the contract: the thread that serves the domain writes the eventfd."""
        return bool(lib.vx_vm_add_doorbell(self._vm, address, width, value is not None, value or 0, fd) == 0)

    def remove_doorbell(self, address: int, width: int, value: int | None, fd: int) -> None:
        """Implement the contract."""
        result = lib.vx_vm_remove_doorbell(self._vm, address, width, value is not None, value or 0, fd)
        _check(result, f"remove the doorbell at {address:#x}")

    def set_entry(self, entry: EntryState) -> None:
        """Implement the contract. Raises BackendError for a register the architecture does not have."""
        lib.vx_vm_clear_entry(self._vm)
        for name, value in entry.registers.items():
            _check(
                lib.vx_vm_set_entry(self._vm, name.encode(), value),
                f"set register {name} of {self._spec.arch}",
            )

    def start(self, on_event: Callable[[VmEvent], None]) -> None:
        """Implement the contract."""
        if self._ran:
            self.reset()
        self._on_event = on_event
        if lib.vx_vm_start(self._vm, lib.vx_py_event, self._handle, self._error, _ERROR_SIZE) < 0:
            raise BackendError(self._said())
        self._ran = True

    def pause(self) -> None:
        """Implement the contract."""
        lib.vx_vm_pause(self._vm)

    def resume(self) -> None:
        """Implement the contract."""
        lib.vx_vm_resume(self._vm)

    def stop(self) -> None:
        """Implement the contract: the domain shuts down, and keeps its memory."""
        if self._vm != ffi.NULL:
            lib.vx_vm_stop(self._vm)

    def reset(self) -> None:
        """Implement the contract: the same domain, as new; its memory is mapped again."""
        if not self._ran:
            return
        if lib.vx_vm_reset(self._vm, self._error, _ERROR_SIZE) < 0:
            raise BackendError(self._said())
        self._ran = False
        self._connect()

    def dirty_log(self, gpa: int, size: int) -> Sequence[int]:
        """Implement the contract for one range at a time; a range's first call returns all of its pages."""
        words = (size // PAGE_SIZE + 63) // 64
        bitmap = ffi.new("uint64_t[]", max(words, 1))
        _check(lib.vx_vm_dirty(self._vm, gpa, size, bitmap), f"log {size} bytes at {gpa:#x}")
        return [
            64 * index + bit
            for index in range(words)
            if bitmap[index]
            for bit in range(64)
            if bitmap[index] >> bit & 1
        ]

    def counters(self) -> Mapping[str, int]:
        """Implement the contract."""
        name, value = ffi.new("char[]", 64), ffi.new("uint64_t *")
        found: dict[str, int] = {}
        while lib.vx_vm_counter_at(self._vm, len(found), name, len(name), value) == 0:
            found[ffi.string(name).decode()] = int(value[0])
        return found

    def close(self) -> None:
        """Implement the contract: the domain is destroyed."""
        if self._vm == ffi.NULL:
            return
        with contextlib.suppress(AttributeError):  # where it could not be registered
            self._registration.close()
        self._free()
        self._vm = ffi.NULL

    def event(self, reason: int, detail: str) -> None:
        """Report what ended the vCPUs; called by the extension, on the thread that served them."""
        if self._on_event is not None:
            self._on_event(VmEvent(_REASONS[reason - 1], detail))

    def _connect(self) -> None:
        """Give the guest its end of XenStore."""
        frame, port = ffi.new("uint64_t *"), ffi.new("uint32_t *")
        _check(lib.vx_vm_store(self._vm, frame, port), "give the domain its end of XenStore")
        self._registration.introduce(int(frame[0]), int(port[0]))

    def _look(self) -> None:
        if self._vm != ffi.NULL:
            lib.vx_vm_look(self._vm)

    def _said(self) -> str:
        return str(ffi.string(self._error).decode(errors="replace"))


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _check(result: int, what: str) -> None:
    if result < 0:
        raise BackendError(f"xen cannot {what}: {os.strerror(-result)}")


@ffi.def_extern(name="vx_py_event")  # type: ignore[untyped-decorator]
def _on_event(opaque: Any, reason: int, detail: Any) -> None:
    ffi.from_handle(opaque).event(reason, ffi.string(detail).decode(errors="replace"))
