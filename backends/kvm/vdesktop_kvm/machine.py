# SPDX-License-Identifier: MIT
"""A virtual machine of KVM. All of its hot paths are in ``native/``."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from vdesktop_core.bindings import read_counters, set_bits
from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import EntryState, ExitReason, VmEvent, VmSpec
from vdesktop_core.memory import PAGE_SIZE, allocate_host_memory
from vdesktop_kvm._kvm import ffi, lib
from vdesktop_kvm.platforms import platform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vdesktop_core.hypervisor import Platform
    from vdesktop_core.memory import MemoryRegion

#: In the order of ``enum vk_exit``, after its NONE.
_REASONS = (ExitReason.SHUTDOWN, ExitReason.RESET, ExitReason.CRASH, ExitReason.ERROR)
_ERROR_SIZE = 512


class KvmMachine:
    """Implements :class:`vdesktop_core.hypervisor.VirtualMachine`."""

    def __init__(self, spec: VmSpec, device: str) -> None:
        self._spec = spec
        self._on_event: Callable[[VmEvent], None] | None = None
        self._handle = ffi.new_handle(self)
        self._regions: dict[int, MemoryRegion] = {}
        self._error = ffi.new("char[]", _ERROR_SIZE)
        self._vm: Any = lib.vk_vm_new(device.encode(), spec.vcpus, self._error, _ERROR_SIZE)
        if self._vm == ffi.NULL:
            raise BackendError(self._said())
        # Now: whoever asks for a vCPU's registers later waits until it leaves its guest, if it ever does.
        self._platform = platform(
            self._spec.arch,
            controller=ffi.string(lib.vk_vm_controller(self._vm)).decode(),
            lines=int(lib.vk_vm_lines(self._vm)),
            timer_hz=int(lib.vk_vm_timer_hz(self._vm)),
            cpu_ids=tuple(int(lib.vk_vm_cpu_id(self._vm, index)) for index in range(self._spec.vcpus)),
            cpu_model=self._cpu_model(),
        )

    def platform(self) -> Platform:
        """Implement the contract: KVM's own interrupt controllers, at the recommended addresses."""
        return self._platform

    def allocate_memory(self, gpa: int, name: str, size: int, *, readonly: bool = False) -> MemoryRegion:
        """Implement the contract by the host's memory, in huge pages where nobody has to share it."""
        shared = self._spec.share_memory
        return allocate_host_memory(self, gpa, name, size, readonly=readonly, shared=shared)

    def _cpu_model(self) -> Mapping[str, str]:
        text = ffi.new("char[]", _ERROR_SIZE)
        lib.vk_vm_cpu_model(self._vm, text, _ERROR_SIZE)
        words = (word.partition("=") for word in ffi.string(text).decode().split())
        return {name: value for name, _, value in words}

    def map_memory(self, gpa: int, region: MemoryRegion, *, readonly: bool = False) -> None:
        """Implement the contract."""
        host = ffi.cast("void *", region.address)
        result = lib.vk_vm_map(self._vm, gpa, region.size, host, readonly)
        _check(result, f"map {region.name} at {gpa:#x}")
        self._regions[gpa] = region

    def unmap_memory(self, gpa: int) -> None:
        """Implement the contract."""
        _check(lib.vk_vm_unmap(self._vm, gpa), f"unmap {gpa:#x}")
        self._regions.pop(gpa, None)

    def written_hook(self) -> int:
        """Implement the contract: it feeds the dirty log."""
        return _address(lib.vk_vm_written(self._vm))

    def irq_line(self, line: int) -> int:
        """Implement the contract."""
        irq = lib.vk_vm_irq(self._vm, line) if line >= 0 else ffi.NULL
        if irq == ffi.NULL:
            last = lib.vk_vm_lines(self._vm) - 1
            raise BackendError(f"kvm has no interrupt line {line}: the last one is {last}")
        return _address(irq)

    def add_mmio(self, base: int, size: int, io: int) -> None:
        """Implement the contract."""
        result = lib.vk_vm_add_io(self._vm, False, base, size, ffi.cast("struct vd_io *", io))
        _check(result, f"add the MMIO range at {base:#x}")

    def remove_mmio(self, base: int) -> None:
        """Implement the contract."""
        _check(lib.vk_vm_remove_io(self._vm, False, base), f"remove the MMIO range at {base:#x}")

    def add_pio(self, base: int, size: int, io: int) -> None:
        """Implement the contract."""
        result = lib.vk_vm_add_io(self._vm, True, base, size, ffi.cast("struct vd_io *", io))
        _check(result, f"add the port range at {base:#x}")

    def add_doorbell(self, address: int, width: int, value: int | None, fd: int) -> bool:
        """Implement the contract by ioeventfd; False where the kernel has no more of them."""
        return bool(lib.vk_vm_add_doorbell(self._vm, address, width, value is not None, value or 0, fd) == 0)

    def remove_doorbell(self, address: int, width: int, value: int | None, fd: int) -> None:
        """Implement the contract."""
        result = lib.vk_vm_remove_doorbell(self._vm, address, width, value is not None, value or 0, fd)
        _check(result, f"remove the doorbell at {address:#x}")

    def set_entry(self, entry: EntryState) -> None:
        """Implement the contract. Raises BackendError for a register the architecture does not have."""
        lib.vk_vm_clear_entry(self._vm)
        for name, value in entry.registers.items():
            _check(
                lib.vk_vm_set_entry(self._vm, name.encode(), value),
                f"set register {name} of {self._spec.arch}",
            )

    def start(self, on_event: Callable[[VmEvent], None]) -> None:
        """Implement the contract."""
        self._on_event = on_event
        if lib.vk_vm_start(self._vm, lib.vk_py_event, self._handle, self._error, _ERROR_SIZE) < 0:
            raise BackendError(self._said())

    def pause(self) -> None:
        """Implement the contract."""
        lib.vk_vm_pause(self._vm)

    def resume(self) -> None:
        """Implement the contract."""
        lib.vk_vm_resume(self._vm)

    def stop(self) -> None:
        """Implement the contract."""
        if self._vm != ffi.NULL:
            lib.vk_vm_stop(self._vm)

    def reset(self) -> None:
        """Implement the contract: a start takes a fresh VM."""

    def dirty_log(self, gpa: int, size: int) -> Sequence[int]:
        """Implement the contract; the first call for a region begins its log and returns all pages."""
        words = (size // PAGE_SIZE + 63) // 64
        bitmap = ffi.new("uint64_t[]", max(words, 1))
        _check(lib.vk_vm_dirty(self._vm, gpa, size, bitmap), f"log {size} bytes at {gpa:#x}")
        return set_bits(bitmap)

    def dirty_hook(self) -> int:
        """Implement the contract."""
        return _address(lib.vk_vm_dirty_log(self._vm))

    def counters(self) -> Mapping[str, int]:
        """Implement the contract."""
        return read_counters(ffi, partial(lib.vk_vm_counter_at, self._vm))

    def close(self) -> None:
        """Implement the contract."""
        lib.vk_vm_free(self._vm)
        self._vm = ffi.NULL
        self._regions.clear()

    def event(self, reason: int, detail: str) -> None:
        """Report what ended the vCPUs; called by the extension, on the last one's thread."""
        if self._on_event is not None:
            self._on_event(VmEvent(_REASONS[reason - 1], detail))

    def _said(self) -> str:
        return str(ffi.string(self._error).decode(errors="replace"))


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _check(result: int, what: str) -> None:
    if result < 0:
        raise BackendError(f"kvm cannot {what}: {os.strerror(-result)}")


@ffi.def_extern(name="vk_py_event")  # type: ignore[untyped-decorator]
def _on_event(opaque: Any, reason: int, detail: Any) -> None:
    ffi.from_handle(opaque).event(reason, ffi.string(detail).decode(errors="replace"))
