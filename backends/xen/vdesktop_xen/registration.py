# SPDX-License-Identifier: MIT
"""A domain's place in XenStore: what tools see of it, and what it hears from them.

A tool asks a guest by writing a word to ``control/shutdown``, and whoever takes the request makes the node
empty (xenstore-paths(7)). The guest's virtio-power driver goes first. A kernel with Xen's drivers watches the
node itself: it has a while to. If nobody has taken it then, the machine's other ways are tried.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Order
from vdesktop_xen.marks import vm_path
from vdesktop_xen.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)
RELEASED = "@releaseDomain"
#: What ``control/shutdown`` may say, as far as it can be done here.
ORDERS = {"poweroff": Order.SHUTDOWN, "halt": Order.SHUTDOWN, "reboot": Order.RESET}
#: Seconds that a guest's own Xen driver has to take a request.
GRACE = 5.0


class Registration:
    """Registers a domain under a name.

    Args:
        domain: its number.
        name: what ``xl list`` is to show.
        mark: its handle, 16 bytes.
        look: called, on a thread, when a domain went away: perhaps this one.
        order: called, on a thread, with what a tool asks for; see
            :meth:`vdesktop_core.hypervisor.OrderedMachine.on_order`.

    Raises:
        BackendError: xenstored is not there.
    """

    def __init__(
        self,
        domain: int,
        name: str,
        mark: bytes,
        look: Callable[[], None],
        order: Callable[[Order, bool], bool],
    ) -> None:
        self._domain, self._look, self._order = domain, look, order
        self._patience: threading.Timer | None = None
        self._path, self._vm = f"/local/domain/{domain}", vm_path(mark)
        self._control = f"{self._path}/control/shutdown"
        self._store = Store()
        try:
            self._write(name)
            self._store.watch((RELEASED, self._control), self._changed, self._lost)
        except BaseException:
            self.close()
            raise

    def introduce(self, frame: int, port: int) -> None:
        """Have xenstored serve the guest's ring: frame and event channel."""
        self._store.introduce(self._domain, frame, port)

    def close(self) -> None:
        """Take the domain out of XenStore. Idempotent; without a daemon there is nothing to take out."""
        if self._patience is not None:
            self._patience.cancel()
        for path in (self._path, self._vm):
            with contextlib.suppress(BackendError):
                self._store.delete(path)
        self._store.close()

    def _write(self, name: str) -> None:
        """Write what libxl's tools read, readable for the guest, and where they ask it for things."""
        store, guest = self._store, self._domain
        store.write({f"{self._vm}/name": name, f"{self._vm}/start_time": f"{time.time():.2f}"})
        store.write({self._path: ""})
        store.allow(self._path, "n0", f"r{guest}")
        store.write({f"{self._path}/{key}": value for key, value in self._entries(name)})
        store.write({self._control: "", f"{self._path}/data": ""})
        for path in (self._control, f"{self._path}/data"):
            store.allow(path, f"n{guest}")

    def _entries(self, name: str) -> list[tuple[str, str]]:
        return [
            ("name", name),
            ("domid", str(self._domain)),
            ("vm", self._vm),
            ("control/platform-feature-multiprocessor-suspend", "0"),
        ]

    def _changed(self, path: str) -> None:
        if path == RELEASED:
            self._look()
        elif path == self._control:
            with contextlib.suppress(BackendError):
                if request := self._store.read(path):
                    self._asked(request)

    def _asked(self, request: str) -> None:
        """Take a request, refuse it, or leave it to the guest's own driver for a while."""
        order = ORDERS.get(request)
        if order is None:
            log.warning("domain %d cannot do what is asked of it: %s", self._domain, request)
            self._store.clear(self._control)
        elif self._order(order, False):
            self._store.clear(self._control)
        else:
            self._patience = threading.Timer(GRACE, self._untaken, (request, order))
            self._patience.daemon = True
            self._patience.start()

    def _untaken(self, request: str, order: Order) -> None:
        with contextlib.suppress(BackendError):
            if self._store.read(self._control) == request:
                self._store.clear(self._control)
                self._order(order, True)

    def _lost(self) -> None:
        log.warning("xenstored is gone: domain %d runs on, tools do not see it any more", self._domain)
