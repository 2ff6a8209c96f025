# SPDX-License-Identifier: MIT
"""A domain that somebody else made, such as xl: we are one more device model of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch
from vdesktop_xen import marks, servers
from vdesktop_xen._xen import ffi, lib
from vdesktop_xen.domain import ERROR_SIZE, Domain, region_at
from vdesktop_xen.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vdesktop_core.hypervisor import VmEvent
    from vdesktop_core.memory import MemoryRegion


def number_of(target: str) -> int:
    """Return a domain's number: it is given, or found by its name.

    Raises:
        BackendError: no domain has that name, or several have.
    """
    if target.isdecimal():
        return int(target)
    with Store() as store:
        found = [
            number
            for number in store.list("/local/domain")
            if number.isdecimal() and store.read(f"/local/domain/{number}/name") == target
        ]
    if len(found) != 1:
        many = "no domain is" if not found else f"{len(found)} domains are"
        raise BackendError(f"{many} named {target!r}: see 'xl list', and give the number")
    return int(found[0])


class AttachedDomain(Domain):
    """Implements :class:`vdesktop_core.hypervisor.AttachedMachine`."""

    def __init__(self, target: str) -> None:
        error = ffi.new("char[]", ERROR_SIZE)
        marks.sweep()
        servers.sweep()
        self._record = ""
        super().__init__(Arch.X86_64, lib.vx_vm_attach(number_of(target), error, ERROR_SIZE), error)

    def regions(self) -> Mapping[int, MemoryRegion]:
        """Implement the contract: runs of pages; holes, and what cannot be mapped, are left out."""
        gpa, size, host = ffi.new("uint64_t *"), ffi.new("uint64_t *"), ffi.new("void **")
        found: dict[int, MemoryRegion] = {}
        while lib.vx_vm_region(self._vm, len(found), gpa, size, host):
            found[int(gpa[0])] = region_at(f"domain{self.domain}-{gpa[0]:x}", int(size[0]), host[0])
        return found

    def allocate_memory(self, gpa: int, name: str, size: int, *, readonly: bool = False) -> MemoryRegion:
        """Implement the contract: refuse."""
        raise BackendError(f"domain {self.domain} is not ours: {name} cannot be added to its memory")

    def start(self, on_event: Callable[[VmEvent], None]) -> None:
        """Implement the contract: no request comes before it is written down whom it goes to."""
        server = ffi.new("uint32_t *")
        if lib.vx_vm_claim(self._vm, server, self._error, ERROR_SIZE) < 0:
            raise BackendError(self.said())
        self._record = servers.record(self.domain, int(server[0]))
        super().start(on_event)

    def stop(self) -> None:
        """Implement the contract: the domain goes on without us."""
        self._forget()
        super().stop()

    def close(self) -> None:
        """Implement the contract."""
        self._forget()
        super().close()

    def _forget(self) -> None:
        if self._record:
            servers.forget(self._record)
            self._record = ""

    def reset(self) -> None:
        """Implement the contract: a domain that restarts is another one."""
