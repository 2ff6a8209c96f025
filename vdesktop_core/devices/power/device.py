# SPDX-License-Identifier: MIT
"""The virtio-power device: what the host asks of the guest.

Events say what is true now, not every step that led there: one a slot, one a CPU and one for the machine is
kept, so that a guest that reads none costs a bounded amount of memory and loses nothing that matters.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from vdesktop_core.devices.power import wire
from vdesktop_core.devices.power.port import Answer, Outcome
from vdesktop_core.devices.power.requests import Requests
from vdesktop_core.devices.power.wire import Action, CpuState, EventKind, Feature, SlotState, Verdict
from vdesktop_core.devices.python import Field, PythonDevice, QueueSpec
from vdesktop_core.errors import DeviceError
from vdesktop_core.virtqueue import StaleChainError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vdesktop_core.devices.base import DeviceContext
    from vdesktop_core.devices.power.inventory import Inventory
    from vdesktop_core.devices.power.port import MachineControl
    from vdesktop_core.virtqueue import Chain, Queue

_REQUESTS, _EVENTS = "requests", "events"
_OUTCOMES = {
    Verdict.ACCEPTED: Outcome.ACCEPTED,
    Verdict.DONE: Outcome.DONE,
    Verdict.REFUSED: Outcome.REFUSED,
}
_SEQUENCES = 1 << 32


class _Subject(NamedTuple):
    """What an event is about."""

    kind: EventKind
    number: int


class _Asked(NamedTuple):
    """A request to the guest that it has not answered."""

    sequence: int
    answer: asyncio.Future[Answer]


class PowerDevice(PythonDevice):
    """virtio-power. The machine calls the public methods, on the control loop's thread.

    Args:
        context: as for any device.
        control: the machine. Its inventory is asked for at once, and whenever it has changed.
    """

    virtio_id = wire.VIRTIO_ID
    features = sum(1 << feature for feature in Feature)
    queues = (QueueSpec(_REQUESTS, 16), QueueSpec(_EVENTS, 64))
    fields = tuple(
        Field(field.name, wire.field_format(field), writable=field.name == "emergency")
        for field in wire.CONFIG.fields
    )

    def __init__(self, context: DeviceContext, control: MachineControl) -> None:
        self._control = control
        # Of this device's thread and the control loop's, under the lock:
        self._lock = threading.Lock()
        self._inventory: Inventory = control.inventory()
        self._generation = 0
        self._slot_generations = [0] * len(self._inventory.slots)
        self._lost: set[int] = set()
        self._pending: dict[_Subject, bytes] = {}
        self._asked: dict[_Subject, _Asked] = {}
        self._sequence = 0
        self._ready = False
        self._due = False  # a delivery of events has been posted
        # Of this device's thread alone:
        self._buffers: deque[Chain] = deque()
        self._requests = Requests(self, control)
        self._n_events = 0
        super().__init__(None, context)
        self.space["revision"] = wire.REVISION
        self.space["n_slots"] = len(self._inventory.slots)
        self.space["n_cpus"] = len(self._inventory.cpus)

    # The machine's side: news.

    @property
    def driver_ready(self) -> bool:
        """Whether the guest has a driver that is running."""
        return self._ready

    def has_driver(self, feature: Feature | None = None) -> bool:
        """Tell whether the guest has a driver that is running, and took a feature."""
        return self._ready and (feature is None or bool(self.driver_features >> feature & 1))

    def inventory_changed(self) -> None:
        """Take the machine's new inventory over: another CPU state, another name."""
        inventory = self._control.inventory()
        with self._lock:
            self._inventory = inventory
            self._generation = (self._generation + 1) % _SEQUENCES
            generation = self._generation
        self.space["generation"] = generation

    def slot_changed(self, slot: int) -> None:
        """Tell the guest that a slot was filled or emptied; call it after every one of these.

        A driver that bound to the device that was there lets go of it.
        """
        with self._lock:
            self._slot_generations[slot] = (self._slot_generations[slot] + 1) % _SEQUENCES
            self._lost.discard(slot)
            asked = self._asked.pop(_Subject(EventKind.SLOT, slot), None)
        if asked is not None:
            self._settle(asked, Answer(Outcome.GONE))
        self.inventory_changed()
        self._announce_slot(slot)

    def slot_lost(self, slot: int) -> None:
        """Tell the guest that what stood behind a slot's device is gone; :meth:`slot_changed` follows."""
        with self._lock:
            self._lost.add(slot)
        self.inventory_changed()
        self._announce_slot(slot)

    # The machine's side: requests to the guest. A subject has one at a time.

    async def shutdown(self, timeout: float) -> Answer:
        """Ask the guest to power itself off. ``timeout`` in seconds is for its answer, not for its end.

        Raises:
            DeviceError: it is being asked for something of the kind.
        """
        return await self._ask(_Subject(EventKind.MACHINE, 0), Action.SHUTDOWN, timeout)

    async def reboot(self, timeout: float) -> Answer:
        """Ask the guest to reset itself in an orderly way; as :meth:`shutdown`."""
        return await self._ask(_Subject(EventKind.MACHINE, 0), Action.RESET, timeout)

    async def suspend(self, timeout: float) -> Answer:
        """Hint that the guest should suspend; as :meth:`shutdown`."""
        return await self._ask(_Subject(EventKind.MACHINE, 0), Action.SUSPEND, timeout, Feature.SUSPEND)

    async def eject(self, slot: int, timeout: float) -> Answer:
        """Ask the guest to let go of a slot's device.

        With DONE it has. With anything else the request is withdrawn and the guest goes on using the
        device: empty the slot all the same (and call :meth:`slot_changed`), or leave it.

        Raises:
            DeviceError: slot 0, an empty slot, or it is being asked for this one already.
        """
        slots = self._inventory.slots
        if not 0 < slot < len(slots) or not slots[slot].device_id:
            raise DeviceError(f"slot {slot} cannot be unplugged: it is empty, or virtio-power's, or none")
        subject = _Subject(EventKind.SLOT, slot)
        released = False
        try:
            answer = await self._ask(subject, SlotState.EJECTING, timeout, Feature.SLOTS)
            released = answer.outcome in (Outcome.DONE, Outcome.GONE)
            return answer
        finally:
            if not released:
                self._announce_slot(slot)

    async def set_cpu(self, cpu: int, timeout: float, *, online: bool) -> Answer:
        """Ask the guest to use a CPU, or to cease to.

        Raises:
            DeviceError: there is no such CPU, or it is being asked for this one already.
        """
        if not 0 <= cpu < len(self._inventory.cpus):
            raise DeviceError(f"CPU {cpu} does not exist: the machine has {len(self._inventory.cpus)}")
        state = CpuState.ONLINE if online else CpuState.OFFLINE
        return await self._ask(_Subject(EventKind.CPU, cpu), state, timeout, Feature.CPUS)

    async def _ask(
        self,
        subject: _Subject,
        state: int,
        timeout: float,
        feature: Feature | None = None,
    ) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        with self._lock:
            if not self.has_driver(feature):
                return Answer(Outcome.NO_DRIVER)
            if subject in self._asked:
                what = "it" if subject.kind is EventKind.MACHINE else f"{subject.kind.name} {subject.number}"
                raise DeviceError(f"the guest is being asked about {what} already: wait for its answer")
            self._sequence = self._sequence % (_SEQUENCES - 1) + 1
            asked = self._asked[subject] = _Asked(self._sequence, answer)
            self._post(
                subject, state, sequence=asked.sequence, timeout_ms=min(int(timeout * 1000), 2**32 - 1)
            )
        self._deliver_soon()
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            return Answer(Outcome.TIMEOUT)
        finally:
            with self._lock:
                if self._asked.get(subject) is asked:
                    del self._asked[subject]
                    self._pending.pop(subject, None)

    def _announce_slot(self, slot: int) -> None:
        with self._lock:
            subject = _Subject(EventKind.SLOT, slot)
            if not self.has_driver(Feature.SLOTS) or subject in self._asked:
                return  # a driver that comes later reads the list; and a request says it all
            self._post(subject, self._slot_state(slot))
        self._deliver_soon()

    def _post(self, subject: _Subject, state: int, *, sequence: int = 0, timeout_ms: int = 0) -> None:
        generation = self._slot_generations[subject.number] if subject.kind is EventKind.SLOT else 0
        self._pending[subject] = wire.EVENT.pack(
            kind=subject.kind,
            size=wire.EVENT.size,
            sequence=sequence,
            index=subject.number,
            state=state,
            generation=generation,
            timeout_ms=timeout_ms,
        )

    def _slot_state(self, slot: int) -> SlotState:
        if _Subject(EventKind.SLOT, slot) in self._asked:
            return SlotState.EJECTING
        if slot in self._lost:
            return SlotState.LOST
        return SlotState.FILLED if self._inventory.slots[slot].device_id else SlotState.EMPTY

    # What the requests of the guest need; on this device's thread.

    def snapshot(self) -> tuple[Inventory, int, list[tuple[SlotState, int]]]:
        """Return the inventory, its generation, and each slot's state and generation."""
        with self._lock:
            states = [
                (self._slot_state(slot), generation) for slot, generation in enumerate(self._slot_generations)
            ]
            return self._inventory, self._generation, states

    def answered(self, sequence: int, answer: Answer) -> bool:
        """Take the guest's answer; False: nobody waits for it (any more)."""
        with self._lock:
            found = next((s for s, asked in self._asked.items() if asked.sequence == sequence), None)
            if found is None:
                return False
            if found.kind is not EventKind.MACHINE and answer.outcome is Outcome.ACCEPTED:
                return True  # it is at it: the answer that counts is yet to come
            asked = self._asked.pop(found)
            self._pending.pop(found, None)
        self._settle(asked, answer)
        return True

    def _settle(self, asked: _Asked, answer: Answer) -> None:
        def settle() -> None:
            if not asked.answer.done():
                asked.answer.set_result(answer)

        self.context.call_soon(settle)

    # The driver's side; on this device's thread.

    def driver_ok(self) -> None:
        with self._lock:
            self._ready = True

    def reset(self) -> None:
        with self._lock:
            self._ready = False
            self._pending.clear()
            asked, self._asked = list(self._asked.values()), {}
        self._buffers.clear()
        for one in asked:
            self._settle(one, Answer(Outcome.GONE))

    def serve(self, queue: Queue) -> None:
        if queue.name == _REQUESTS:
            for chain in queue.drain():
                if chain.readable < wire.REQUEST_HEADER.size or chain.writable < wire.REPLY_HEADER.size:
                    self.protocol_error("a request without room for its header or its reply's (VD-P-010)")
                    return
                self._requests.serve(queue, chain)
            return
        for chain in queue.drain():
            if chain.readable or chain.writable < wire.EVENT.size:
                self.protocol_error("an event buffer that is readable or too small (VD-P-011)")
                return
            self._buffers.append(chain)
        self._deliver()

    def config_written(self) -> None:
        code = self.space["emergency"]
        if code:
            self.space["emergency"] = 0
            self._requests.emergency(code)

    def _deliver_soon(self) -> None:
        with self._lock:
            due, self._due = self._due, True
        if not due:
            self.run_soon(self._deliver)

    def _deliver(self) -> None:
        """Give pending events to the driver, as far as it gave buffers."""
        with self._lock:
            self._due = False
        queue = self.queue(_EVENTS)
        while self._buffers:
            with self._lock:
                subject = next(iter(self._pending), None)
                event = self._pending.pop(subject) if subject is not None else None
            if subject is None or event is None:
                return
            chain = self._buffers.popleft()
            try:
                written = chain.write(event)
            except StaleChainError:
                with self._lock:
                    self._pending.setdefault(subject, event)
                continue
            queue.complete(chain, written)
            self._n_events += 1

    def counters(self) -> Mapping[str, int]:
        """As every Python device's; and requests by how they ended, and events."""
        return {**super().counters(), **self._requests.counters(), "events": self._n_events}

    def answer_of(self, fields: Mapping[str, Any]) -> Answer:
        """Make an answer of an acknowledgement's fields.

        Raises:
            ValueError: there is no such verdict.
        """
        reasons = wire.Reason.__members__.values()
        reason = next((r for r in reasons if r == fields["reason"]), wire.Reason.UNSPECIFIED)
        return Answer(_OUTCOMES[Verdict(fields["verdict"])], reason)
