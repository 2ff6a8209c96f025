# SPDX-License-Identifier: MIT
"""A guest that the test is: drivers of slots, of virtio-power, and of ACPI's events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from vdesktop_core.acpi_events import PENDING
from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.devices.power import wire
from vdesktop_core.hypervisor import Arch
from vdesktop_core.testing.arena import Arena
from vdesktop_core.testing.driver import MockDriver
from vdesktop_core.testing.driver_queue import Buffer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fake_machine import FakeMachine


PATIENCE = 60
RNG = {"type": "rng"}


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


class Driver:
    """A guest's driver of one slot."""

    def __init__(self, machine: FakeMachine, slot: int, place: int = 0) -> None:
        self.machine = machine
        ram = machine.board.ram[0]
        arena = Arena(machine.board.memory, ram.base + (16 + place) * (1 << 20), 1 << 20)
        self.mock = MockDriver(machine.slot(slot), arena)

    def start(self, features: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.mock.start(features)

    def reset(self) -> None:
        self.mock.reset()


class PowerGuest(Driver):
    """A guest's driver of virtio-power: takes events, and answers as the test says."""

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(machine, 0, place=1)
        self.start(set(wire.Feature))
        self.buffers: dict[int, Buffer] = {}
        self.taken: list[Any] = []
        for _ in range(8):
            self._offer()
        self.mock.kick(1)

    @classmethod
    async def of(cls, machine: FakeMachine) -> PowerGuest:
        """One whose DRIVER_OK has reached the device's thread."""
        guest = cls(machine)
        await until(lambda: machine.power is not None and machine.power.device.driver_ready)
        return guest

    def _offer(self) -> None:
        buffer = Buffer(self.mock.arena.allocate(wire.EVENT.size), wire.EVENT.size, write=True)
        self.buffers[self.mock.queues[1].add([buffer])] = buffer

    async def event(self) -> dict[str, int]:
        """The next event."""
        taken = self.taken

        def came() -> bool:
            taken.extend(self.mock.queues[1].take_used())
            return bool(taken)

        await until(came)
        used = taken.pop(0)
        data = self.mock.arena.memory.read(self.buffers.pop(used.id).gpa, wire.EVENT.size)
        self._offer()
        self.mock.kick(1)
        return wire.EVENT.unpack(data)

    async def ask(self, kind: wire.RequestType, layout: Any = None, **fields: int) -> None:
        payload = b"" if layout is None else layout.pack(**fields)
        size = wire.REQUEST_HEADER.size + len(payload)
        request = wire.REQUEST_HEADER.pack(type=kind, size=size) + payload
        reply = await asyncio.to_thread(self.mock.request, 0, [request], [256])
        assert wire.REPLY_HEADER.unpack(reply)["status"] == wire.Status.OK

    def tell(self, kind: wire.RequestType) -> None:
        """Make a request whose answer may not come: the machine ends."""
        data = wire.REQUEST_HEADER.pack(type=kind, size=wire.REQUEST_HEADER.size)
        request, reply = (Buffer(self.mock.arena.allocate(64), size) for size in (len(data), 64))
        self.mock.arena.memory.write(request.gpa, data)
        self.mock.queues[0].add([request, Buffer(reply.gpa, reply.length, write=True)])
        self.mock.kick(0)

    async def answer(
        self, event: dict[str, int], verdict: wire.Verdict, reason: wire.Reason = wire.Reason.UNSPECIFIED
    ) -> None:
        await self.ask(
            wire.RequestType.ACKNOWLEDGE,
            wire.ACKNOWLEDGE,
            sequence=event["sequence"],
            verdict=verdict,
            reason=reason,
        )


def rest(machine: FakeMachine) -> list[str]:
    return [occupant.name for occupant in machine.board.slots.occupants]


async def started(machine: FakeMachine) -> None:
    await machine.start()
    if machine.config.power:
        await until(lambda: machine.power is not None)


def acpi(machine: FakeMachine, register: int) -> int:
    events = memory_map(Arch.X86_64).events
    assert events is not None
    return machine.vm.read(events.window.base + register)


def acpi_take(machine: FakeMachine) -> int:
    """What a guest's event handler does."""
    events = memory_map(Arch.X86_64).events
    assert events is not None
    pending = machine.vm.read(events.window.base + PENDING)
    machine.vm.write(events.window.base + PENDING, 4, pending)
    return pending


async def answered(
    machine: FakeMachine, doing: Coroutine[Any, Any, Any], verdict: wire.Verdict, **more: Any
) -> dict[str, int]:
    """Do something that asks the guest, and have the guest answer the first event."""
    task = asyncio.ensure_future(doing)
    guest: PowerGuest = machine.guest  # type: ignore[attr-defined]
    event = await guest.event()
    await guest.answer(event, verdict, **more)
    await task
    return event
