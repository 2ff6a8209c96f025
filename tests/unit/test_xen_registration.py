# SPDX-License-Identifier: MIT
"""What a tool writes to a domain's ``control/shutdown``, and who takes it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("vdesktop_xen._xen", reason="the extension is built for x86_64 hosts")

from vdesktop_xen import registration
from vdesktop_xen.registration import Registration

from vdesktop_core.hypervisor import Order

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 60
CONTROL = "/local/domain/7/control/shutdown"


class Store:
    """XenStore in a dictionary; :meth:`tool` is another process."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.cleared = threading.Event()
        self.on_change: Callable[[str], None] = lambda _path: None

    def write(self, values: dict[str, str]) -> None:
        self.values |= {path: value or self.values.get(path, "") for path, value in values.items()}

    def clear(self, path: str) -> None:
        self.values[path] = ""
        self.cleared.set()

    def read(self, path: str) -> str | None:
        return self.values.get(path)

    def delete(self, path: str) -> None:
        self.values = {each: value for each, value in self.values.items() if not each.startswith(path)}

    def allow(self, *_arguments: str) -> None: ...

    def watch(self, _paths: Any, on_change: Callable[[str], None], _on_lost: Any) -> None:
        self.on_change = on_change

    def close(self) -> None: ...

    def tool(self, request: str) -> None:
        self.values[CONTROL] = request
        self.on_change(CONTROL)


class Machine:
    """Takes orders where it has a driver, or must."""

    def __init__(self, *, driver: bool) -> None:
        self.driver = driver
        self.orders: list[tuple[Order, bool]] = []
        self.last = threading.Event()

    def take(self, order: Order, last: bool) -> bool:
        self.orders.append((order, last))
        if last:
            self.last.set()
        return self.driver or last


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setattr(registration, "Store", lambda: store)
    return store


def registered(machine: Machine) -> Registration:
    return Registration(7, "name", bytes(16), lambda: None, machine.take)


@pytest.mark.parametrize(
    ("request_", "order"),
    [("poweroff", Order.SHUTDOWN), ("halt", Order.SHUTDOWN), ("reboot", Order.RESET)],
)
def test_request_is_taken_and_acknowledged(store: Store, request_: str, order: Order) -> None:
    machine = Machine(driver=True)
    registered(machine)
    store.on_change(CONTROL)  # a watch says itself once
    store.tool(request_)
    assert machine.orders == [(order, False)]
    assert store.values[CONTROL] == ""


@pytest.mark.parametrize("request_", ["suspend", "nonsense"])
def test_request_that_cannot_be_done_is_cleared_and_told(
    store: Store, request_: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(driver=True)
    registered(machine)
    store.tool(request_)
    assert (machine.orders, store.values[CONTROL]) == ([], "")
    assert f"domain 7 cannot do what is asked of it: {request_}" in caplog.text


def test_request_without_a_driver_of_ours_is_the_guests_own_drivers_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "GRACE", 0.02)
    machine = Machine(driver=False)
    registered(machine)
    store.tool("poweroff")
    assert store.values[CONTROL] == "poweroff" or machine.last.is_set()
    assert machine.last.wait(PATIENCE)
    assert store.cleared.wait(PATIENCE)
    assert machine.orders == [(Order.SHUTDOWN, False), (Order.SHUTDOWN, True)]


def test_request_that_the_guests_own_driver_took_is_not_done_twice(store: Store) -> None:
    machine = Machine(driver=False)
    registration = registered(machine)
    store.tool("reboot")
    patience = registration._patience
    assert patience is not None
    store.values[CONTROL] = ""  # the guest
    patience.function(*patience.args)
    assert machine.orders == [(Order.RESET, False)]
    registration.close()
    patience.join(PATIENCE)
    assert not patience.is_alive()
