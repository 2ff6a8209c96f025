# SPDX-License-Identifier: MIT
"""What requests do to a machine: one function a request. It returns what the answer carries."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from vdesktop_core.control import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vdesktop_core.machine import Machine
    from vdesktop_core.status import MachineStatus


async def handle(machine: Machine, request: protocol.AnyRequest) -> Any:
    """Do a request, and return what its answer carries.

    Raises:
        VdesktopError: it was refused or failed; one line.
    """
    result = HANDLERS[type(request)](machine, request)
    return await result if inspect.isawaitable(result) else result


def _status(machine: Machine, _request: protocol.Status) -> MachineStatus:
    return machine.status()


def _stats(machine: Machine, _request: protocol.Stats) -> dict[str, dict[str, int]]:
    return machine.counters()


async def _shutdown(machine: Machine, request: protocol.Shutdown) -> dict[str, Any]:
    timeout = request.timeout
    if timeout is None and request.force:
        machine.stop()
    result = await machine.shutdown(timeout=timeout or protocol.SHUTDOWN_SECONDS, force=request.force)
    return {"outcome": str(result.outcome), "detail": result.detail}


def _reset(machine: Machine, request: protocol.Reset) -> dict[str, Any]:
    if request.slot is None:
        machine.reset()
    else:
        machine.reset_device(request.slot)
    return {}


def _pause(machine: Machine, _request: protocol.Pause) -> dict[str, Any]:
    machine.pause()
    return {}


def _resume(machine: Machine, _request: protocol.Resume) -> dict[str, Any]:
    machine.resume()
    return {}


async def _plug(machine: Machine, request: protocol.Plug) -> dict[str, Any]:
    slot = await machine.plug(request.device)
    return {"slot": slot, "name": machine.board.slots.find(slot).name}


async def _unplug(machine: Machine, request: protocol.Unplug) -> dict[str, Any]:
    timeout = request.timeout or (0.0 if request.force else protocol.CHANGE_SECONDS)
    return {"empty": await machine.unplug(request.slot, timeout=timeout, force=request.force)}


async def _cpus(machine: Machine, request: protocol.Cpus) -> dict[str, Any]:
    await machine.set_cpus(request.count, timeout=request.timeout or protocol.CHANGE_SECONDS)
    return {}


async def _screenshot(machine: Machine, request: protocol.Screenshot) -> dict[str, Any]:
    from vdesktop_core.control.screenshot import take

    return await take(machine.desktop, request.screen, request.path)


HANDLERS: Mapping[type, Callable[[Machine, Any], Any]] = {
    protocol.Status: _status,
    protocol.Stats: _stats,
    protocol.Shutdown: _shutdown,
    protocol.Reset: _reset,
    protocol.Pause: _pause,
    protocol.Resume: _resume,
    protocol.Plug: _plug,
    protocol.Unplug: _unplug,
    protocol.Cpus: _cpus,
    protocol.Screenshot: _screenshot,
}
