# SPDX-License-Identifier: MIT
"""A domain that is ours, from its creation to its end."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from vdesktop_core.errors import BackendError
from vdesktop_xen import marks, servers
from vdesktop_xen._xen import ffi, lib
from vdesktop_xen.domain import ERROR_SIZE, Domain, check, region_at
from vdesktop_xen.registration import Registration

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdesktop_core.hypervisor import Order, VmEvent, VmSpec
    from vdesktop_core.memory import MemoryRegion

log = logging.getLogger(__name__)


class XenMachine(Domain):
    """Implements :class:`vdesktop_core.hypervisor.VirtualMachine`."""

    def __init__(self, spec: VmSpec) -> None:
        error, mark = ffi.new("char[]", ERROR_SIZE), marks.mine()
        marks.sweep()
        servers.sweep()
        super().__init__(spec.arch, lib.vx_vm_new(spec.vcpus, mark, error, ERROR_SIZE), error)
        self._ran = False
        self._take: Callable[[Order, bool], bool] | None = None
        # The thread that hears of other domains' ends may outlive the extension's structure.
        self._wake = os.dup(lib.vx_vm_wake(self._vm))
        try:
            self._registration = Registration(self.domain, spec.name, mark, self._look, self._order)
            self._connect()
        except BaseException:
            self.close()
            raise

    def allocate_memory(self, gpa: int, name: str, size: int, *, readonly: bool = False) -> MemoryRegion:
        """Implement the contract: the domain's own memory, mapped into this process."""
        host = ffi.new("void **")
        if lib.vx_vm_allocate(self._vm, gpa, size, readonly, host, self._error, ERROR_SIZE) < 0:
            raise BackendError(self.said())
        return region_at(name, size, host[0])

    def start(self, on_event: Callable[[VmEvent], None]) -> None:
        """Implement the contract."""
        if self._ran:
            self.reset()
        super().start(on_event)
        self._ran = True

    def reset(self) -> None:
        """Implement the contract: the same domain, as new; its memory is mapped again."""
        if not self._ran:
            return
        if lib.vx_vm_reset(self._vm, self._error, ERROR_SIZE) < 0:
            raise BackendError(self.said())
        self._ran = False
        try:
            self._connect()
        except BackendError as error:
            # The daemon ended meanwhile. It is no reason to end the run.
            log.warning("domain %d has no XenStore from now on: %s", self.domain, error)
            check(lib.vx_vm_no_store(self._vm), "take the domain's end of XenStore")

    def on_order(self, take: Callable[[Order, bool], bool]) -> None:
        """Implement :class:`vdesktop_core.hypervisor.OrderedMachine`, by ``control/shutdown``."""
        self._take = take

    def close(self) -> None:
        """Implement the contract: the domain is destroyed."""
        with contextlib.suppress(AttributeError):  # where it could not be registered
            self._registration.close()
        super().close()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def _connect(self) -> None:
        """Give the guest its end of XenStore."""
        frame, port = ffi.new("uint64_t *"), ffi.new("uint32_t *")
        check(lib.vx_vm_store(self._vm, frame, port), "give the domain its end of XenStore")
        self._registration.introduce(int(frame[0]), int(port[0]))

    def _order(self, order: Order, last: bool) -> bool:
        return self._take is not None and self._take(order, last)

    def _look(self) -> None:
        os.eventfd_write(self._wake, 1)
