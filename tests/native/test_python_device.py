# SPDX-License-Identifier: MIT
"""Devices in Python, through a slot's registers and rings, with a driver on the other side."""

from __future__ import annotations

import logging
import queue as queues
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from guestdriver import PackedDriver, Slot, SplitDriver
from places import DATA, RING, TABLE

from vdesktop_core._native import ffi
from vdesktop_core.devices.base import DeviceContext
from vdesktop_core.devices.python import Field, PythonDevice, QueueSpec
from vdesktop_core.errors import DeviceError
from vdesktop_core.transport.mmio import MmioSlot, Status
from vdesktop_core.virtqueue import Chain, Queue, StaleChainError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.host import Host
    from vdesktop_core.memory import GuestMemory

VERSION_1, RING_PACKED, RING_RESET, INDIRECT_DESC = 1 << 32, 1 << 34, 1 << 40, 1 << 28
REPLY = DATA + 0x1000


class Upper(PythonDevice):
    """Answers every request in capitals."""

    virtio_id = 65000
    features = 1 << 3
    queues = (QueueSpec("requests", 16), QueueSpec("held", 16))
    fields = (Field("limit", "I", default=7), Field("mode", "B", writable=True))

    def __init__(self, config: Any, context: DeviceContext) -> None:
        self.news: queues.Queue[Any] = queues.Queue()
        self.chains: list[Chain] = []
        super().__init__(config, context)

    def serve(self, queue: Queue) -> None:
        for chain in queue.drain():
            if queue.name == "held":
                self.chains.append(chain)
                continue
            request = chain.read()
            if request == b"crash":
                raise KeyError("boom")
            queue.complete(chain, chain.write(request.upper()))
        self.news.put(queue.name)

    def driver_ok(self) -> None:
        self.news.put(("driver_ok", self.driver_features))

    def reset(self) -> None:
        self.news.put("reset")

    def config_written(self) -> None:
        self.news.put(("mode", self.space["mode"]))


def context(host: Host, memory: GuestMemory, name: str = "upper0") -> DeviceContext:
    known = {"name": name, "memory": memory, "host": host.native, "loop": 0}
    return DeviceContext(**{name: known.get(name) for name in DeviceContext.__struct_fields__})


class Rig:
    """A device in a slot, and its driver."""

    def __init__(self, host: Host, memory: GuestMemory, kind: type[PythonDevice] = Upper) -> None:
        self.host, self.memory = host, memory
        self.device: Any = kind(None, context(host, memory))
        self.raised = threading.Event()
        self.callback = ffi.callback("void(void *, bool)", lambda _, up: self.raised.set() if up else None)
        self.irq = ffi.new("struct vd_irq *", {"set": self.callback})
        self.slot = MmioSlot(host.native, 1, int(ffi.cast("uintptr_t", self.irq)))
        self.slot.attach(self.device.native)
        self.guest = Slot(self.slot.io)

    def start(self, features: int = VERSION_1, index: int = 0) -> SplitDriver | PackedDriver:
        assert self.guest.negotiate(features)
        ring = (PackedDriver if features & RING_PACKED else SplitDriver)(self.memory, RING, 16)
        self.guest.enable(index, ring)
        self.guest.driver_ok()
        self.expect("reset")
        self.expect(("driver_ok", features))
        return ring

    def expect(self, news: Any) -> None:
        assert self.device.news.get(timeout=60) == news

    def sync(self) -> None:
        """Return when the device's thread has done everything up to now."""
        for _ in range(2):  # the first may run before news that came with it are taken
            done = threading.Event()
            self.device.run_soon(done.set)
            assert done.wait(60)

    def close(self) -> None:
        self.slot.detach()
        self.device.close()
        self.slot.close()


@pytest.fixture
def rig(host: Host, memory: GuestMemory) -> Iterator[Rig]:
    rig = Rig(host, memory)
    yield rig
    rig.close()


@pytest.mark.parametrize("features", [VERSION_1, VERSION_1 | RING_PACKED])
def test_serve_answers_requests_and_interrupts_once_a_batch(rig: Rig, features: int) -> None:
    ring = rig.start(features)
    heads = []
    for i in range(5):
        rig.memory.write(DATA + 16 * i, b"hello %d" % i)
        heads.append(ring.add((DATA + 16 * i, 7, False), (REPLY + 16 * i, 16, True)))
    rig.guest.write("QueueNotify", 0)
    assert rig.raised.wait(60)
    assert rig.guest.read("InterruptStatus") == 1
    assert ring.used() == [(head, 7) for head in heads]
    assert [rig.memory.read(REPLY + 16 * i, 8) for i in range(5)] == [b"HELLO %d\0" % i for i in range(5)]
    assert rig.device.counters()["interrupts"] == 1
    assert rig.device.counters()["kicks"] == 1


def test_serve_while_functions_are_posted_all_the_time_is_not_starved(rig: Rig) -> None:
    ring = rig.start()
    answered, again = threading.Event(), threading.Event()

    def post_myself() -> None:
        if not answered.is_set():
            again.set()
            rig.device.run_soon(post_myself)

    rig.device.run_soon(post_myself)
    assert again.wait(60)
    try:
        ring.add((DATA, 4, False), (REPLY, 4, True))
        rig.guest.write("QueueNotify", 0)
        rig.expect("requests")
    finally:
        answered.set()
    assert len(ring.used()) == 1


def test_serve_of_more_chains_than_a_call_fetches_serves_all(rig: Rig) -> None:
    ring = rig.start()
    total = 0
    for _ in range(20):
        for _ in range(8):
            ring.add((DATA, 4, False), (REPLY, 4, True))
        rig.guest.write("QueueNotify", 0)
        rig.expect("requests")
        total += len(ring.used())
    assert total == 160


def test_chain_reads_and_writes_parts(rig: Rig) -> None:
    ring = rig.start(VERSION_1 | INDIRECT_DESC, index=1)
    rig.memory.write(DATA, b"abcdefgh")
    segments = [(DATA, 3, False), (DATA + 4, 4, False), (REPLY, 2, True), (REPLY + 8, 40, True)]
    ring.add_indirect(TABLE, *segments, *[(REPLY + 0x100 + i, 1, True) for i in range(10)])
    rig.guest.write("QueueNotify", 1)
    rig.expect("held")
    (chain,) = rig.device.chains
    assert (chain.readable, chain.writable) == (7, 52)
    assert chain.read() == b"abcefgh"
    assert chain.read(3, 2) == b"cef"
    assert chain.read(100, 6) == b"h"
    assert chain.read(1, 7) == chain.read(0) == b""
    assert chain.write(b"0123", 1) == 5
    assert rig.memory.read(REPLY, 3) == b"\x000\0"
    assert rig.memory.read(REPLY + 8, 4) == b"123\0"
    assert chain.write(bytes(100)) == 52
    assert chain.write(b"x", 52) == 52
    with pytest.raises(ValueError, match="must not be negative"):
        chain.read(1, -1)
    with pytest.raises(ValueError, match="must not be negative"):
        chain.write(b"", -1)


def test_complete_from_another_thread_is_published_at_once(rig: Rig) -> None:
    ring = rig.start(index=1)
    head = ring.add((REPLY, 4, True))
    rig.guest.write("QueueNotify", 1)
    rig.expect("held")
    (chain,) = rig.device.chains
    chain.write(b"late")
    rig.device.queue("held").complete(chain, 4)
    assert ring.used() == [(head, 4)]
    assert rig.raised.is_set()
    rig.device.queue("held").complete(chain, 4)  # twice: no effect
    assert ring.used() == []


@pytest.mark.parametrize("how", ["reset", "queue reset", "detach"])
def test_chain_held_over_a_reset_is_stale(rig: Rig, how: str) -> None:
    ring = rig.start(VERSION_1 | RING_RESET, index=1)
    ring.add((DATA, 4, False), (REPLY, 4, True))
    rig.guest.write("QueueNotify", 1)
    rig.expect("held")
    (old,) = rig.device.chains
    if how == "reset":
        rig.guest.write("Status", 0)
    elif how == "queue reset":
        rig.guest.write("QueueReset", 1)
    else:
        rig.slot.detach()
    with pytest.raises(StaleChainError):
        old.read()
    with pytest.raises(StaleChainError):
        old.write(b"data")
    rig.device.queue("held").complete(old, 4)
    assert ring.used() == []
    assert rig.memory.read(REPLY, 4) == bytes(4)


def test_chain_of_before_a_reset_does_not_complete_its_successor(rig: Rig) -> None:
    ring = rig.start(index=1)
    ring.add((REPLY, 4, True))
    rig.guest.write("QueueNotify", 1)
    rig.expect("held")
    ring = rig.start(index=1)
    head = ring.add((REPLY, 4, True))
    rig.guest.write("QueueNotify", 1)
    rig.expect("held")
    old, new = rig.device.chains
    rig.device.queue("held").complete(old, 4)
    assert ring.used() == []
    rig.device.queue("held").complete(new, 2)
    assert ring.used() == [(head, 2)]


def test_exception_in_a_handler_needs_reset_and_logs_one_line(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    ring = rig.start()
    rig.memory.write(DATA, b"crash")
    ring.add((DATA, 5, False))
    rig.guest.write("QueueNotify", 0)
    assert rig.raised.wait(60)
    assert rig.guest.read("Status") & Status.NEEDS_RESET
    rig.guest.write("QueueNotify", 0)
    rig.sync()
    with caplog.at_level(logging.INFO):
        rig.host.drain_log()
    assert caplog.record_tuples == [
        (
            "vdesktop.upper0",
            logging.ERROR,
            "serve of queue requests failed: KeyError: 'boom'; stopped until the driver resets it",
        )
    ]
    ring = rig.start()
    ring.add((DATA, 4, False), (REPLY, 4, True))
    rig.guest.write("QueueNotify", 0)
    rig.expect("requests")
    assert rig.memory.read(REPLY, 4) == b"CRAS"


def test_malformed_chain_needs_reset(rig: Rig) -> None:
    ring = rig.start()
    good = ring.add((DATA, 1, False), (REPLY, 4, True))
    ring.add((1, 1, False))
    rig.guest.write("QueueNotify", 0)
    rig.expect("requests")
    assert rig.guest.read("Status") & Status.NEEDS_RESET
    assert ring.used() == [(good, 1)]
    assert rig.device.counters()["protocol_errors"] == 1


def test_config_space_is_read_and_written_from_both_sides(rig: Rig) -> None:
    assert rig.guest.read(0x100) == 7
    rig.start()
    rig.device.space["limit"] = 0x01020304
    assert rig.guest.read(0x100) == 0x01020304
    assert rig.guest.read("InterruptStatus") == 2
    rig.guest.write(0x104, 9, 1)
    rig.expect(("mode", 9))
    rig.guest.write(0x100, 9)
    assert rig.device.space["limit"] == 0x01020304


def test_features_offered_are_its_own_and_the_rings(rig: Rig) -> None:
    assert rig.guest.device_features() == 1 << 3 | 1 << 28 | 1 << 29 | VERSION_1 | RING_PACKED | RING_RESET


@pytest.mark.parametrize(
    "bad",
    [
        {"queues": (QueueSpec("odd", 48),)},
        {"queues": (QueueSpec("huge", 2048),)},
        {"queues": tuple(QueueSpec(f"q{i}") for i in range(33))},
        {"fields": (Field("big", "4096s"), Field("more", "B"))},
        {"fields": (Field("twice", "B"), Field("twice", "B"))},
    ],
)
def test_class_that_declares_the_impossible_is_refused(
    host: Host, memory: GuestMemory, bad: dict[str, Any]
) -> None:
    kind = type("Bad", (PythonDevice,), {"virtio_id": 1, **bad})
    with pytest.raises(DeviceError):
        kind(None, context(host, memory))


def test_close_waits_for_a_running_handler(host: Host, memory: GuestMemory) -> None:
    inside, go, left = threading.Event(), threading.Event(), threading.Event()

    class Slow(PythonDevice):
        virtio_id = 1
        queues = (QueueSpec("q"),)

        def driver_ok(self) -> None:
            inside.set()
            go.wait(60)
            left.set()

    rig = Rig(host, memory, Slow)
    rig.guest.negotiate(VERSION_1)
    rig.guest.driver_ok()
    assert inside.wait(60)
    rig.guest.write("Status", 0)  # does not wait for the handler
    rig.slot.detach()
    threading.Timer(0.05, go.set).start()
    rig.device.close()
    assert left.is_set()
    rig.device.close()
    rig.slot.close()


@pytest.mark.parametrize("features", [VERSION_1, VERSION_1 | RING_PACKED])
def test_reset_at_any_moment_breaks_nothing(rig: Rig, features: int) -> None:
    """Resets meet kicks of a second vCPU and completions of the device's thread in every order."""
    stop = threading.Event()

    def kick() -> None:
        while not stop.is_set():
            rig.guest.write("QueueNotify", 0)
            rig.guest.read("InterruptStatus")
            rig.guest.write("InterruptACK", 3)

    vcpu = threading.Thread(target=kick)
    vcpu.start()
    kind = PackedDriver if features & RING_PACKED else SplitDriver
    for _ in range(300):
        assert rig.guest.negotiate(features)
        ring = kind(rig.memory, RING, 16)
        rig.guest.enable(0, ring)
        rig.guest.driver_ok()
        for _ in range(6):
            ring.add((DATA, 4, False), (REPLY, 4, True))
        rig.guest.write("QueueNotify", 0)
        assert rig.guest.read("Status") == 15
    rig.sync()
    stop.set()
    vcpu.join()
    assert len(ring.used()) == 6
    assert rig.device.counters()["protocol_errors"] == 0


def test_signal_that_comes_to_the_devices_thread_does_not_end_it(rig: Rig) -> None:
    before = signal.signal(signal.SIGWINCH, lambda *_: None)
    rig.sync()
    (thread,) = (each for each in threading.enumerate() if each.name == "upper0")
    assert thread.ident
    for _ in range(20):
        signal.pthread_kill(thread.ident, signal.SIGWINCH)
        rig.sync()
    signal.signal(signal.SIGWINCH, before)
