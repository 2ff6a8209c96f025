# SPDX-License-Identifier: MIT
"""Fuzz target: virtio-power's two queues, and what the host asks of the guest meanwhile.

The device is written in Python, so this is libFuzzer by way of atheris, with its options.
The rings below it are C, and have targets of their own: here a chain is its bytes.
The form of an input is that of ``power_seeds.py``.

What must hold: each chain is completed once, with a whole reply of a known status, or the device stops until
its reset; the machine is told nothing that makes no sense; what waits is bounded; each of the host's requests
ends; after a reset everything works.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "native"))

with atheris.instrument_imports(include=["vdesktop_core.devices.power"]):
    from power_rig import CPUS, SLOTS, FakeMachine
    from power_seeds import Op

    from vdesktop_core.devices.base import DeviceContext
    from vdesktop_core.devices.power import wire
    from vdesktop_core.devices.power.device import PowerDevice
    from vdesktop_core.devices.power.wire import RequestType
    from vdesktop_core.errors import DeviceError
    from vdesktop_core.host import Host
    from vdesktop_core.hypervisor import Arch
    from vdesktop_core.memory import GuestMemory

#: Requests of the host's in one input.
TASKS_MAX = 32


class Chain:
    """A chain of the guest's: bytes to read, and room."""

    def __init__(self, data: bytes, writable: int) -> None:
        self.data = data
        self.readable = len(data)
        self.writable = writable
        self.reply = b""
        self.completed = False

    def read(self, size: int | None = None, offset: int = 0) -> bytes:
        return self.data[offset:][:size]

    def write(self, data: bytes, offset: int = 0) -> int:
        assert not self.completed
        assert offset == 0
        self.reply = bytes(data[: self.writable])
        return len(self.reply)


class Queue:
    """One of the device's queues."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: list[Chain] = []
        self.done: list[Chain] = []

    def drain(self) -> object:
        while self.waiting:
            yield self.waiting.pop(0)

    def complete(self, chain: Chain, written: int) -> None:
        assert not chain.completed, "completed twice"
        assert written == len(chain.reply)
        chain.completed = True
        self.done.append(chain)


class Machine(FakeMachine):
    """The machine, which believes nothing that it cannot check."""

    def guest_crash(self, text: str) -> None:
        assert text == "".join(c if c.isprintable() else "?" for c in text)
        assert len(text.encode()) <= wire.CRASH_TEXT_MAX * 4

    def cpu_state(self, cpu: int, *, online: bool) -> None:
        assert cpu in self.cpus
        super().cpu_state(cpu, online=online)

    def reset_slot(self, slot: int) -> None:
        assert slot != 0
        assert slot in self.devices

    def guest_shutdown(self) -> None:
        pass

    def guest_reset(self) -> None:
        pass


class Device(PowerDevice):
    """The device, without its thread: the target is that."""

    def __init__(self, machine: Machine) -> None:
        self.news: list[object] = []
        known = {
            "name": "power",
            "machine": "fuzzed",
            "arch": Arch.AARCH64,
            "memory": MEMORY,
            "host": HOST.native,
            "call_soon": self.news.append,
        }
        super().__init__(
            DeviceContext(**{field: known.get(field) for field in DeviceContext.__struct_fields__}), machine
        )
        self._queues = [Queue("requests"), Queue("events")]
        self.taken = 0
        self.broken = False

    def _run(self) -> None:
        """Leave the device to its caller."""

    @property
    def driver_features(self) -> int:
        return self.taken

    def protocol_error(self, what: str) -> None:
        assert what.isprintable()
        self.broken = True

    def turn(self) -> None:
        """Do what was posted to either thread."""
        for _ in range(64):
            if not self.news and not self._posted:
                return
            while self._posted:
                self._posted.popleft()()
            while self.news:
                self.news.pop(0)()
        raise AssertionError("news without end")


def split(data: bytes, count: int) -> tuple[list[int], bytes]:
    """The next bytes of an input, 0 where there is none, and the rest."""
    return [*data[:count], *bytes(count)][:count], data[count:]


class Play:
    """One input's machine, device, guest and host."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.device = Device(self.machine)
        self.requests, self.events = self.device._queues
        self.sequence = 0
        self.tasks: list[asyncio.Task[object]] = []

    def start(self, features: int) -> None:
        device = self.device
        device.reset()
        for queue in (self.requests, self.events):
            queue.waiting.clear()
            queue.done.clear()
        device.broken = False
        device.taken = features & device.features
        device.driver_ok()

    def kick(self) -> None:
        for queue in (self.requests, self.events):
            if not self.device.broken and self.device.driver_ready:
                self.device.serve(queue)
        self.device.turn()
        if not self.device.broken and self.device.driver_ready:
            assert not self.requests.waiting
        for chain in self.requests.done:
            reply = wire.REPLY_HEADER.unpack(chain.reply)
            assert reply["size"] == len(chain.reply)
            assert reply["status"] in wire.Status.__members__.values()
        self.requests.done.clear()
        for chain in self.events.done:
            event = wire.EVENT.unpack(chain.reply)
            assert event["kind"] in wire.EventKind.__members__.values()
            assert event["index"] < max(SLOTS, CPUS)
            self.sequence = event["sequence"] or self.sequence
        self.events.done.clear()
        assert len(self.device._pending) <= 1 + SLOTS + CPUS
        assert len(self.device._asked) <= 1 + SLOTS + CPUS

    def ask(self, work: object) -> None:
        if len(self.tasks) < TASKS_MAX:
            self.tasks.append(asyncio.get_running_loop().create_task(work))
        else:
            work.close()

    def change(self, slot: int, *, filled: bool) -> None:
        if filled:
            self.machine.devices[slot] = (2, f"disk{slot}")
        else:
            self.machine.devices.pop(slot, None)
        self.device.slot_changed(slot)

    def request(self, kind: int, payload: bytes, room: int) -> None:
        header = wire.REQUEST_HEADER.pack(type=kind, size=wire.REQUEST_HEADER.size + len(payload))
        self.requests.waiting.append(Chain(header + payload, room))

    async def close(self) -> None:
        """End everything: the host's requests end with the driver, and the next driver is served."""
        self.start(0xFF)
        self.device.turn()
        for _ in range(3):
            await asyncio.sleep(0)
        for task in self.tasks:
            assert task.done(), "a request of the host's outlives the driver"
            if (error := task.exception()) is not None and not isinstance(error, DeviceError):
                raise error
        self.request(RequestType.MACHINE, b"", 256)
        last = self.requests.waiting[-1]
        self.kick()
        assert wire.REPLY_HEADER.unpack(last.reply)["status"] == wire.Status.OK
        self.device.close()


async def play(data: bytes) -> None:
    """Carry an input out."""
    now = Play()
    device = now.device
    while data:
        op, data = Op(data[0] % len(Op)), data[1:]
        match op:
            case Op.REQUEST:
                (room, length), data = split(data, 2)
                now.requests.waiting.append(Chain(data[:length], 16 * room))
                data = data[length:]
            case Op.FRAMED:
                (kind, room, length), data = split(data, 3)
                now.request(kind, data[:length], 16 * room)
                data = data[length:]
            case Op.BUFFER:
                (readable, writable), data = split(data, 2)
                now.events.waiting.append(Chain(bytes(readable), writable))
            case Op.KICK:
                now.kick()
            case Op.START:
                (features,), data = split(data, 1)
                now.start(features)
            case Op.EMERGENCY:
                code, data = split(data, 4)
                device.space["emergency"] = int.from_bytes(bytes(code), "little")
                device.config_written()
                assert device.space["emergency"] == 0
            case Op.PLUG | Op.UNPLUG:
                (slot,), data = split(data, 1)
                now.change(1 + slot % (SLOTS - 1), filled=op is Op.PLUG)
            case Op.LOSE:
                (slot,), data = split(data, 1)
                device.slot_lost(1 + slot % (SLOTS - 1))
            case Op.EJECT:
                (slot,), data = split(data, 1)
                now.ask(device.eject(slot % (SLOTS + 1), 60))
            case Op.CPU:
                (cpu, online), data = split(data, 2)
                now.ask(device.set_cpu(cpu % CPUS, 60, online=bool(online & 1)))
            case Op.MACHINE:
                (action,), data = split(data, 1)
                ask = (device.shutdown, device.reboot, device.suspend)[action % 3]
                now.ask(ask(60))
            case Op.ANSWER:
                (verdict, reason), data = split(data, 2)
                payload = wire.ACKNOWLEDGE.pack(sequence=now.sequence, verdict=verdict, reason=reason)
                now.request(RequestType.ACKNOWLEDGE, payload, 256)
            case Op.TURN:
                device.turn()
        await asyncio.sleep(0)
    await now.close()


def one_input(data: bytes) -> None:
    """What libFuzzer calls."""
    LOOP.run_until_complete(play(data))


if __name__ == "__main__":
    LOOP = asyncio.new_event_loop()
    HOST = Host()
    MEMORY = GuestMemory(HOST.native)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
