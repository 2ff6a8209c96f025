# SPDX-License-Identifier: MIT
"""A virtio-power device in slot 0, a machine that remembers what it was told, and the mock driver."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from vdesktop_core._native import ffi
from vdesktop_core.arch.boot import SlotLayout
from vdesktop_core.arch.memory_map import Window, memory_map
from vdesktop_core.devices.base import DeviceContext
from vdesktop_core.devices.power import wire
from vdesktop_core.devices.power.device import PowerDevice
from vdesktop_core.devices.power.inventory import Inventory, take_inventory
from vdesktop_core.devices.power.wire import CpuState, RequestType, Status
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import Arch, InterruptController, Platform
from vdesktop_core.memory import GuestMemory, MemoryRegion
from vdesktop_core.testing import Arena, Buffer, MockDriver
from vdesktop_core.transport.mmio import MmioSlot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

RAM = 0x4000_0000
RAM_SIZE = 16 << 20
ALL_FEATURES = frozenset(wire.Feature)
REQUESTS, EVENTS = wire.REQUEST_QUEUE, wire.EVENT_QUEUE
SLOTS = 32
CPUS = 4


class FakeMachine:
    """Slots 0 to 2 are filled, CPUs 0 and 1 run, 2 is off, 3 is absent."""

    def __init__(self) -> None:
        self.devices = {0: (wire.VIRTIO_ID, "power"), 1: (2, "disk0"), 2: (1, "net0")}
        self.cpus = {0: CpuState.ONLINE, 1: CpuState.ONLINE, 2: CpuState.OFFLINE}
        self.told: list[Any] = []

    def inventory(self) -> Inventory:
        controller = InterruptController("gicv2", {"gicd": (0x800_0000, 0x10000)}, range(64))
        layout = memory_map(Arch.AARCH64)
        return take_inventory(
            name="fake",
            arch=Arch.AARCH64,
            platform=Platform(controller, 62_500_000, tuple(range(CPUS)), "psci-hvc"),
            ram=(Window(RAM, RAM_SIZE),),
            slots=[SlotLayout(i, layout.slot(i).base, layout.line(i)) for i in range(SLOTS)],
            devices=self.devices,
            cpus=self.cpus,
        )

    def guest_shutdown(self) -> None:
        self.told.append("shutdown")

    def guest_reset(self) -> None:
        self.told.append("reset")

    def guest_crash(self, text: str) -> None:
        self.told.append(("crash", text))

    def cpu_state(self, cpu: int, *, online: bool) -> None:
        self.cpus[cpu] = CpuState.ONLINE if online else CpuState.OFFLINE
        self.told.append(("cpu", cpu, online))

    def reset_slot(self, slot: int) -> None:
        self.told.append(("reset slot", slot))


class SlotRegisters:
    """A slot's registers, as the mock driver wants them."""

    def __init__(self, slot: MmioSlot) -> None:
        self._io = ffi.cast("struct vd_io *", slot.io)

    def read(self, offset: int, width: int) -> int:
        return int(self._io.read(self._io.opaque, offset, width))

    def write(self, offset: int, width: int, value: int) -> None:
        self._io.write(self._io.opaque, offset, width, value)


class Event(msgspec.Struct, frozen=True):
    """An event that the driver got."""

    kind: int
    index: int
    state: int
    generation: int
    sequence: int
    timeout_ms: int


class Rig:
    """The device and its driver. ``call_soon`` is the control loop's; by default things are done at once."""

    def __init__(self, call_soon: Callable[[Callable[[], Any]], object] | None = None) -> None:
        self.host = Host()
        self.memory = GuestMemory(self.host.native)
        self.memory.add(RAM, MemoryRegion("ram", RAM_SIZE))
        self.machine = FakeMachine()
        known = {
            "name": "power",
            "machine": "fake",
            "arch": Arch.AARCH64,
            "memory": self.memory,
            "host": self.host.native,
            "loop": 0,
            "call_soon": call_soon or (lambda function: function()),
            "plugins": {},
        }
        fields = DeviceContext.__struct_fields__
        context = DeviceContext(**{name: known.get(name) for name in fields})
        self.device = PowerDevice(context, self.machine)
        self.slot = MmioSlot(self.host.native, 0)
        self.slot.attach(self.device.native)
        self.arena = Arena(self.memory, RAM, RAM_SIZE)
        self.registers = SlotRegisters(self.slot)
        self.driver = MockDriver(self.registers, self.arena, timeout=60)
        self._buffers: dict[int, Buffer] = {}

    def start(self, features: Collection[int] = ALL_FEATURES, events: int = 8) -> None:
        """Bring the driver up, with event buffers."""
        self.arena.reset()
        self._buffers.clear()
        self.driver.start(features)
        self.give_events(events)
        self.ask(RequestType.MACHINE)  # what came before it has been heard

    def give_events(self, count: int) -> None:
        for _ in range(count):
            buffer = Buffer(self.arena.allocate(wire.EVENT.size), wire.EVENT.size, write=True)
            self._buffers[self.driver.queues[EVENTS].add([buffer])] = buffer
        self.driver.kick(EVENTS)

    def events(self, count: int) -> list[Event]:
        """Wait for events; their buffers are not given again."""
        found = []
        for head, length in self.driver.wait_used(EVENTS, count):
            assert length == wire.EVENT.size
            fields = wire.EVENT.unpack(self.memory.read(self._buffers.pop(head).gpa, length))
            assert fields["size"] == wire.EVENT.size
            found.append(Event(**{name: fields[name] for name in Event.__struct_fields__}))
        return found

    def no_event(self) -> None:
        """See that no event has come, up to now."""
        self.ask(RequestType.MACHINE)
        self.sync()
        assert self.driver.queues[EVENTS].take_used() == []

    def sync(self) -> None:
        """Return when the device's thread has done everything up to now."""
        for _ in range(2):
            done = threading.Event()
            self.device.run_soon(done.set)
            assert done.wait(60)

    def ask(self, kind: int, payload: bytes = b"", *, size: int | None = None, room: int = 4096) -> bytes:
        """Send a request and return the whole reply."""
        size = wire.REQUEST_HEADER.size + len(payload) if size is None else size
        request = wire.REQUEST_HEADER.pack(type=kind, size=size) + payload
        return self.driver.request(REQUESTS, [request], [room])

    def status(self, kind: int, payload: bytes = b"", **options: Any) -> Status:
        """Send a request and return its status; the reply says its own size."""
        reply = self.ask(kind, payload, **options)
        fields = wire.REPLY_HEADER.unpack(reply)
        assert fields["size"] == len(reply)
        return Status(fields["status"])

    def payload(self, kind: int, payload: bytes = b"", **options: Any) -> bytes:
        """Send a request that must succeed and return its reply's payload."""
        reply = self.ask(kind, payload, **options)
        assert wire.REPLY_HEADER.unpack(reply)["status"] == Status.OK
        return reply[wire.REPLY_HEADER.size :]

    def entries(self, kind: int, first: int = 0, count: int = 1000, **options: Any) -> list[dict[str, Any]]:
        """Ask for a list."""
        layout = {RequestType.REGIONS: wire.REGION, RequestType.CPUS: wire.CPU, RequestType.SLOTS: wire.SLOT}
        data = self.payload(kind, wire.RANGE.pack(first=first, count=count), **options)
        head = wire.LIST.unpack(data)
        size = head["entry_size"]
        assert head["first"] == first
        assert len(data) == wire.LIST.size + head["count"] * size
        at = range(wire.LIST.size, len(data), size)
        return [layout[RequestType(kind)].unpack(data[i : i + size]) for i in at]

    def acknowledge(self, event: Event, verdict: int, reason: int = 0) -> Status:
        payload = wire.ACKNOWLEDGE.pack(sequence=event.sequence, verdict=verdict, reason=reason)
        return self.status(RequestType.ACKNOWLEDGE, payload)

    def close(self) -> None:
        self.slot.detach()
        self.device.close()
        self.slot.close()
        self.memory.close()
        self.host.close()
