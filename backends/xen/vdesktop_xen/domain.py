# SPDX-License-Identifier: MIT
"""What domains of ours and of others have in common: they are served. The hot paths are in ``native/``."""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.bindings import read_counters, set_bits
from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import EntryState, ExitReason, InterruptController, Platform, VmEvent
from vdesktop_core.memory import PAGE_SIZE, MemoryRegion
from vdesktop_xen._xen import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vdesktop_core.hypervisor import Arch

#: In the order of ``enum vx_exit``, after its NONE.
_REASONS = (ExitReason.SHUTDOWN, ExitReason.RESET, ExitReason.CRASH, ExitReason.ERROR)
ERROR_SIZE = 512
#: On AMD processors Linux looks for an AGP bridge on 256 PCI buses, twice, before it knows that there is no
#: PCI: 33 000 exits (``early_gart_iommu_check``).
_APPEND = ("pci=noearly",)


class Domain:
    """A part of :class:`vdesktop_core.hypervisor.VirtualMachine`.

    Args:
        arch: the guest's architecture.
        vm: the extension's ``struct vx_vm``, or NULL.
        error: what the extension said, where it is NULL.

    Raises:
        BackendError: it is NULL.
    """

    def __init__(self, arch: Arch, vm: Any, error: Any) -> None:
        self._arch, self._vm, self._error = arch, vm, error
        self._on_event: Callable[[VmEvent], None] | None = None
        if vm == ffi.NULL:
            raise BackendError(self.said())
        # Whatever way this process ends but one, a domain of ours ends before it.
        self._free = weakref.finalize(self, lib.vx_vm_free, vm)
        self._handle = ffi.new_handle(self)
        #: The domain's number.
        self.domain = int(lib.vx_vm_domain(vm))

    def platform(self) -> Platform:
        """Implement the contract: Xen's local APICs and I/O APIC; APIC ids are even numbers."""
        layout = memory_map(self._arch)
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
            cpu_ids=tuple(2 * index for index in range(lib.vx_vm_vcpus(self._vm))),
            cpu_enable="apic",
            ports=layout.ports,
            append=_APPEND,
        )

    def map_memory(self, gpa: int, region: MemoryRegion, *, readonly: bool = False) -> None:
        """Implement the contract: refuse. A domain has memory of Xen's only."""
        raise BackendError(f"xen cannot map {region.name} into a domain: its memory comes from Xen")

    def unmap_memory(self, gpa: int) -> None:
        """Implement the contract."""
        check(lib.vx_vm_unmap(self._vm, gpa), f"unmap {gpa:#x}")

    def written_hook(self) -> int:
        """Implement the contract: it feeds the dirty log."""
        return address_of(lib.vx_vm_written(self._vm))

    def irq_line(self, line: int) -> int:
        """Implement the contract."""
        irq = lib.vx_vm_irq(self._vm, line) if line >= 0 else ffi.NULL
        if irq == ffi.NULL:
            raise BackendError(f"xen has no interrupt line {line} for devices: its I/O APIC has 3 to 47")
        return address_of(irq)

    def add_mmio(self, base: int, size: int, io: int) -> None:
        """Implement the contract."""
        result = lib.vx_vm_add_io(self._vm, False, base, size, ffi.cast("struct vd_io *", io))
        check(result, f"add the MMIO range at {base:#x}")

    def remove_mmio(self, base: int) -> None:
        """Implement the contract."""
        check(lib.vx_vm_remove_io(self._vm, False, base), f"remove the MMIO range at {base:#x}")

    def add_pio(self, base: int, size: int, io: int) -> None:
        """Implement the contract."""
        result = lib.vx_vm_add_io(self._vm, True, base, size, ffi.cast("struct vd_io *", io))
        check(result, f"add the port range at {base:#x}")

    def add_doorbell(self, address: int, width: int, value: int | None, fd: int) -> bool:
        """Implement the contract: the thread that serves the domain writes the eventfd."""
        return bool(lib.vx_vm_add_doorbell(self._vm, address, width, value is not None, value or 0, fd) == 0)

    def remove_doorbell(self, address: int, width: int, value: int | None, fd: int) -> None:
        """Implement the contract."""
        result = lib.vx_vm_remove_doorbell(self._vm, address, width, value is not None, value or 0, fd)
        check(result, f"remove the doorbell at {address:#x}")

    def set_entry(self, entry: EntryState) -> None:
        """Implement the contract. Raises BackendError for a register the architecture does not have."""
        lib.vx_vm_clear_entry(self._vm)
        for name, value in entry.registers.items():
            check(
                lib.vx_vm_set_entry(self._vm, name.encode(), value),
                f"set register {name} of {self._arch}",
            )

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

    def dirty_log(self, gpa: int, size: int) -> Sequence[int]:
        """Implement the contract for one range at a time; a range's first call returns all of its pages."""
        words = (size // PAGE_SIZE + 63) // 64
        bitmap = ffi.new("uint64_t[]", max(words, 1))
        check(lib.vx_vm_dirty(self._vm, gpa, size, bitmap), f"log {size} bytes at {gpa:#x}")
        return set_bits(bitmap)

    def dirty_hook(self) -> int:
        """Implement the contract."""
        return address_of(lib.vx_vm_dirty_log(self._vm))

    def counters(self) -> Mapping[str, int]:
        """Implement the contract."""
        return read_counters(ffi, partial(lib.vx_vm_counter_at, self._vm))

    def start(self, on_event: Callable[[VmEvent], None]) -> None:
        """Implement the contract."""
        self._on_event = on_event
        if lib.vx_vm_start(self._vm, lib.vx_py_event, self._handle, self._error, ERROR_SIZE) < 0:
            raise BackendError(self.said())

    def close(self) -> None:
        """Implement the contract."""
        if self._vm != ffi.NULL:
            self._free()
            self._vm = ffi.NULL

    def event(self, reason: int, detail: str) -> None:
        """Report what ended the vCPUs; called by the extension, on the thread that served them."""
        if self._on_event is not None:
            self._on_event(VmEvent(_REASONS[reason - 1], detail))

    def said(self) -> str:
        """Return the extension's last complaint."""
        return str(ffi.string(self._error).decode(errors="replace"))


def region_at(name: str, size: int, host: Any) -> MemoryRegion:
    """Return memory that the extension mapped."""
    from vdesktop_core.memory import HypervisorRegion

    return HypervisorRegion(name, size, address_of(host), lambda: lib.vx_release(host, size))


def address_of(pointer: Any) -> int:
    """Return a pointer as the number that other extensions take."""
    return int(ffi.cast("uintptr_t", pointer))


def check(result: int, what: str) -> None:
    """Raise BackendError for a negative errno."""
    if result < 0:
        raise BackendError(f"xen cannot {what}: {os.strerror(-result)}")


@ffi.def_extern(name="vx_py_event")  # type: ignore[untyped-decorator]
def _on_event(opaque: Any, reason: int, detail: Any) -> None:
    ffi.from_handle(opaque).event(reason, ffi.string(detail).decode(errors="replace"))
