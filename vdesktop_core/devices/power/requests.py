# SPDX-License-Identifier: MIT
"""The virtio-power device: what the guest asks of the machine.

Everything here runs on the device's thread, but for what is told to the machine: that goes to the control
loop, one piece of news of a kind at a time, however many requests there were.
"""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING, Any

from vdesktop_core.devices.power import wire
from vdesktop_core.devices.power.wire import CpuState, RefusedError, RequestType, SlotState, Status
from vdesktop_core.virtqueue import StaleChainError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vdesktop_core.devices.power.device import PowerDevice
    from vdesktop_core.devices.power.port import MachineControl
    from vdesktop_core.virtqueue import Chain, Queue

log = logging.getLogger(__name__)


class Requests:
    """Serves the request queue.

    Args:
        device: whose queue it is.
        control: the machine.
    """

    def __init__(self, device: PowerDevice, control: MachineControl) -> None:
        self._device = device
        self._control = control
        self._counts = dict.fromkeys(Status, 0)
        self._n_emergencies = 0
        self._news_lock = threading.Lock()
        self._news: dict[object, Callable[[], None]] = {}

    def counters(self) -> Mapping[str, int]:
        """Return requests by status, and emergency writes."""
        counts = {f"requests_{status.name.lower()}": count for status, count in self._counts.items()}
        return counts | {"emergencies": self._n_emergencies}

    def serve(self, queue: Queue, chain: Chain) -> None:
        """Answer one chain, of a request header and a reply header at least."""
        try:
            # Copied once: what is checked is what is used.
            request = wire.parse_request(chain.read(wire.REQUEST_MAX), self._device.driver_features)
            if request.type is RequestType.RESET_SLOT:
                self._reset_slot(queue, chain, request.fields)
                return
            payload = self._handle(request, chain.writable - wire.REPLY_HEADER.size)
        except RefusedError as refused:
            self._reply(queue, chain, refused.status)
        else:
            self._reply(queue, chain, Status.OK, payload)

    def emergency(self, code: int) -> None:
        """Do what was written to the configuration's field."""
        self._n_emergencies += 1
        match code:
            case wire.Emergency.SHUTDOWN:
                self._tell("end", self._control.guest_shutdown)
            case wire.Emergency.RESET:
                self._tell("end", self._control.guest_reset)
            case wire.Emergency.CRASH:
                self._tell("crash", functools.partial(self._control.guest_crash, ""))
            case _:
                self._counts[Status.INVALID] += 1

    def _reply(self, queue: Queue, chain: Chain, status: Status, payload: bytes = b"") -> None:
        self._counts[status] += 1
        _, generation, _ = self._device.snapshot()
        queue.complete(chain, chain.write(wire.reply(status, generation, payload)))

    def _handle(self, request: wire.Request, room: int) -> bytes:
        fields = request.fields
        match request.type:
            case RequestType.MACHINE:
                return self._machine(room)
            case RequestType.REGIONS | RequestType.CPUS | RequestType.SLOTS:
                return self._list(request.type, fields, room)
            case RequestType.SHUTDOWN:
                self._tell("end", self._control.guest_shutdown)
            case RequestType.RESET:
                self._tell("end", self._control.guest_reset)
            case RequestType.CRASH:
                self._crash(fields, request.text)
            case RequestType.ACKNOWLEDGE:
                self._acknowledge(fields)
            case RequestType.CPU_STATE:
                self._cpu_state(fields)
        return b""

    def _machine(self, room: int) -> bytes:
        if room < wire.MACHINE.size:
            raise RefusedError(Status.NO_SPACE)
        inventory, _, _ = self._device.snapshot()
        return wire.MACHINE.pack(
            arch=inventory.machine,
            interrupt_controller=inventory.interrupt_controller,
            timer=inventory.timer,
            n_regions=len(inventory.regions),
            timer_hz=inventory.timer_hz,
            name=inventory.name.encode()[:63],
        )

    def _list(self, kind: RequestType, fields: Mapping[str, Any], room: int) -> bytes:
        layout, entries = self._entries(kind)
        fitting = (room - wire.LIST.size) // layout.size
        if fitting < 1:
            raise RefusedError(Status.NO_SPACE)
        first = fields["first"]
        chosen = entries[first : first + min(fields["count"], fitting)]
        head = wire.LIST.pack(total=len(entries), first=first, count=len(chosen), entry_size=layout.size)
        return head + b"".join(layout.pack(**entry) for entry in chosen)

    def _entries(self, kind: RequestType) -> tuple[wire.Layout, Sequence[dict[str, int | bytes]]]:
        inventory, _, states = self._device.snapshot()
        match kind:
            case RequestType.REGIONS:
                return wire.REGION, [
                    {"kind": r.kind, "base": r.base, "size": r.size, "name": r.name.encode()[:15]}
                    for r in inventory.regions
                ]
            case RequestType.CPUS:
                return wire.CPU, [
                    {"index": c.index, "state": c.state, "hardware_id": c.hardware_id} for c in inventory.cpus
                ]
            case _:
                return wire.SLOT, [
                    {
                        "index": slot.index,
                        "device_id": slot.device_id,
                        "state": state,
                        "generation": generation,
                        "base": slot.base,
                        "line": slot.line,
                        "version": 2,
                        "name": slot.name.encode()[:31],
                    }
                    for slot, (state, generation) in zip(inventory.slots, states, strict=True)
                ]

    def _crash(self, fields: Mapping[str, Any], rest: bytes) -> None:
        if fields["text_size"] > len(rest):
            raise RefusedError(Status.INVALID)
        raw = rest[: min(fields["text_size"], wire.CRASH_TEXT_MAX)].decode("utf-8", "replace")
        # The guest's words end up in logs and terminals: one line, nothing that steers them.
        text = "".join(c if c.isprintable() else " " for c in raw).strip()
        self._tell("crash", functools.partial(self._control.guest_crash, text))

    def _acknowledge(self, fields: Mapping[str, Any]) -> None:
        try:
            answer = self._device.answer_of(fields)
        except ValueError as error:
            raise RefusedError(Status.INVALID) from error
        if not self._device.answered(fields["sequence"], answer):
            raise RefusedError(Status.ABSENT)

    def _cpu_state(self, fields: Mapping[str, Any]) -> None:
        inventory, _, _ = self._device.snapshot()
        cpu, state = fields["cpu"], fields["state"]
        if state not in (CpuState.OFFLINE, CpuState.ONLINE):
            raise RefusedError(Status.INVALID)
        if cpu >= len(inventory.cpus) or inventory.cpus[cpu].state is CpuState.ABSENT:
            raise RefusedError(Status.ABSENT)

        def tell() -> None:
            self._control.cpu_state(cpu, online=state == CpuState.ONLINE)
            self._device.inventory_changed()

        self._tell(("cpu", cpu), tell)

    def _reset_slot(self, queue: Queue, chain: Chain, fields: Mapping[str, Any]) -> None:
        """Have the machine reset a slot; the chain is completed when it has."""
        _, _, states = self._device.snapshot()
        slot = fields["slot"]
        # Not its own: the reply would have no queue to go to.
        if not 0 < slot < len(states):
            raise RefusedError(Status.INVALID if slot == 0 else Status.ABSENT)
        state, generation = states[slot]
        if state is SlotState.EMPTY or generation != fields["generation"]:
            raise RefusedError(Status.ABSENT)

        def done() -> None:
            try:
                self._reply(queue, chain, Status.OK)
            except StaleChainError:
                log.debug("slot %d was reset for a driver that is gone", slot)

        def tell() -> None:
            # Asked on the thread that fills and empties slots: it may be another device by now.
            _, _, now = self._device.snapshot()
            if now[slot] == (state, generation):
                self._control.reset_slot(slot)
            self._device.run_soon(done)

        self._device.context.call_soon(tell)

    def _tell(self, key: object, tell: Callable[[], None]) -> None:
        """Have the machine told on its loop; what was not yet told under the same key is replaced."""
        with self._news_lock:
            waiting = bool(self._news)
            self._news[key] = tell
        if not waiting:
            self._device.context.call_soon(self._tell_all)

    def _tell_all(self) -> None:
        with self._news_lock:
            news, self._news = self._news, {}
        for tell in news.values():
            tell()
