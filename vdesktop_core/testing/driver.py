# SPDX-License-Identifier: MIT
"""A mock driver: brings a device up over its registers and exchanges buffers with it, as a guest would.

It is the main tool of a device's author::

    driver = MockDriver(slot, arena)
    driver.start({Feature.EVENT_IDX})
    reply = driver.request(0, [b"question"], [64])
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vdesktop_core.testing.driver_queue import Buffer, DriverQueue, PackedDriverQueue, SplitDriverQueue
from vdesktop_core.testing.registers import CONFIG, MAGIC, VERSION, Feature, Reg, Registers, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from vdesktop_core.testing.arena import Arena

_WORD = 0xFFFF_FFFF


class DriverError(AssertionError):
    """The device did not do what the specification says."""


class MockDriver:
    """A driver for one slot.

    Args:
        registers: the slot.
        arena: guest memory for queues and buffers.
        timeout: seconds that :meth:`request` and :meth:`wait_used` wait at most.
    """

    def __init__(self, registers: Registers, arena: Arena, *, timeout: float = 10) -> None:
        self.registers = registers
        self.arena = arena
        self.timeout = timeout
        self.queues: dict[int, DriverQueue] = {}
        self.features: set[int] = set()

    def get_register(self, reg: Reg) -> int:
        """Read a control register."""
        return self.registers.read(reg, 4)

    def set_register(self, reg: Reg, value: int) -> None:
        """Write a control register."""
        self.registers.write(reg, 4, value)

    def offered(self) -> set[int]:
        """Return the numbers of the feature bits the device offers."""
        bits = 0
        for word in (0, 1):
            self.set_register(Reg.DEVICE_FEATURES_SEL, word)
            bits |= self.get_register(Reg.DEVICE_FEATURES) << 32 * word
        return {bit for bit in range(64) if bits >> bit & 1}

    def start(self, features: Collection[int] = (), *, sizes: dict[int, int] | None = None) -> None:
        """Bring the device up (§3.1.1): features, every queue, DRIVER_OK.

        Args:
            features: bits to take; VERSION_1 is added.
            sizes: queue sizes by index; default: each queue's maximum, 256 at most.

        Raises:
            DriverError: the device refused.
        """
        self.negotiate(features)
        self.setup_queues(sizes)
        self.set_register(Reg.STATUS, self.get_register(Reg.STATUS) | Status.DRIVER_OK)
        if not self.get_register(Reg.STATUS) & Status.DRIVER_OK:
            raise DriverError("the device did not take DRIVER_OK")

    def negotiate(self, features: Collection[int]) -> None:
        """Reset, acknowledge and agree on features."""
        if self.get_register(Reg.MAGIC_VALUE) != MAGIC or self.get_register(Reg.VERSION) != VERSION:
            raise DriverError("no virtio-mmio device of version 2 here")
        if self.get_register(Reg.DEVICE_ID) == 0:
            raise DriverError("the slot is empty")
        self.reset()
        self.set_register(Reg.STATUS, Status.ACKNOWLEDGE)
        self.set_register(Reg.STATUS, Status.ACKNOWLEDGE | Status.DRIVER)
        self.features = set(features) | {Feature.VERSION_1}
        bits = sum(1 << bit for bit in self.features)
        for word in (0, 1):
            self.set_register(Reg.DRIVER_FEATURES_SEL, word)
            self.set_register(Reg.DRIVER_FEATURES, bits >> 32 * word & _WORD)
        self.set_register(Reg.STATUS, self.get_register(Reg.STATUS) | Status.FEATURES_OK)
        if not self.get_register(Reg.STATUS) & Status.FEATURES_OK:
            raise DriverError(f"the device refused the features {sorted(self.features)}")

    def setup_queues(self, sizes: dict[int, int] | None = None) -> None:
        """Set up every queue the device has, or those that ``sizes`` names."""
        index = 0
        while True:
            self.set_register(Reg.QUEUE_SEL, index)
            maximum = self.get_register(Reg.QUEUE_SIZE_MAX)
            if not maximum:
                break
            if sizes is None or index in sizes:
                self.setup_queue(index, min(maximum, 256) if sizes is None else sizes[index])
            index += 1

    def setup_queue(self, index: int, size: int) -> DriverQueue:
        """Allocate a queue and make it ready."""
        kind = PackedDriverQueue if Feature.RING_PACKED in self.features else SplitDriverQueue
        queue = kind(self.arena, size, event_idx=Feature.EVENT_IDX in self.features)
        self.set_register(Reg.QUEUE_SEL, index)
        self.set_register(Reg.QUEUE_SIZE, size)
        for low, address in (
            (Reg.QUEUE_DESC_LOW, queue.desc),
            (Reg.QUEUE_DRIVER_LOW, queue.driver),
            (Reg.QUEUE_DEVICE_LOW, queue.device),
        ):
            self.set_register(low, address & _WORD)
            self.set_register(Reg(low + 4), address >> 32)
        self.set_register(Reg.QUEUE_READY, 1)
        if self.get_register(Reg.QUEUE_READY) != 1:
            raise DriverError(f"queue {index} of size {size} did not become ready")
        self.queues[index] = queue
        return queue

    def reset(self) -> None:
        """Write 0 to Status and see that it stays."""
        self.set_register(Reg.STATUS, 0)
        if self.get_register(Reg.STATUS) != 0:
            raise DriverError("the device did not reset")
        self.queues.clear()

    def config(self, offset: int, size: int) -> bytes:
        """Read config space, bytewise, until its generation stands still (§2.5)."""
        while True:
            before = self.get_register(Reg.CONFIG_GENERATION)
            data = bytes(self.registers.read(CONFIG + offset + i, 1) for i in range(size))
            if self.get_register(Reg.CONFIG_GENERATION) == before:
                return data

    def take_interrupt(self) -> int:
        """Return and acknowledge InterruptStatus."""
        status = self.get_register(Reg.INTERRUPT_STATUS)
        self.set_register(Reg.INTERRUPT_ACK, status)
        return status

    def kick(self, index: int) -> None:
        """Notify a queue if the device wants it."""
        if self.queues[index].kick_wanted():
            self.set_register(Reg.QUEUE_NOTIFY, index)

    def wait_used(self, index: int, count: int = 1) -> list[tuple[int, int]]:
        """Wait for ``count`` completions and return (id, length) of each.

        Raises:
            DriverError: they did not come in time.
        """
        done: list[tuple[int, int]] = []

        def enough() -> bool:
            done.extend((c.id, c.length) for c in self.queues[index].take_used())
            return len(done) >= count

        if not wait_until(enough, self.timeout):
            raise DriverError(f"queue {index}: {len(done)} of {count} chains came back in {self.timeout:g} s")
        return done

    def request(
        self, index: int, readable: Sequence[bytes], writable: Sequence[int] = (), *, indirect: bool = False
    ) -> bytes:
        """Send one chain and return what the device wrote into it.

        Args:
            index: the queue.
            readable: buffers for the device to read.
            writable: sizes of buffers for the device to write.
            indirect: use an indirect table.

        Raises:
            DriverError: it did not come back in time.
        """
        buffers = [Buffer(self.arena.allocate(len(data)), len(data)) for data in readable]
        for buffer, data in zip(buffers, readable, strict=True):
            self.arena.memory.write(buffer.gpa, data)
        replies = [Buffer(self.arena.allocate(size), size, write=True) for size in writable]
        self.queues[index].add([*buffers, *replies], indirect=indirect)
        self.kick(index)
        ((_, length),) = self.wait_used(index)
        whole = b"".join(self.arena.memory.read(reply.gpa, reply.length) for reply in replies)
        return whole[:length]


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Poll a condition, at first often; False where it stays false for ``timeout`` seconds."""
    end = time.monotonic() + timeout
    pause = 0.0
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(0.005, pause + 0.0001)
    return True
