# SPDX-License-Identifier: MIT
"""What a request costs the guest, by KVM's own counters: its doorbell, or nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from kernel_stats import KernelStats
from vdesktop_kvm.hypervisor import KvmHypervisor, host_arch

from vdesktop_core._native import ffi, lib
from vdesktop_core.doorbells import Doorbells
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import Arch
from vdesktop_core.iothread import IoThread
from vdesktop_core.memory import GuestMemory
from vdesktop_core.testing import Arena, Buffer, MockDriver, Reg
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import count, until, write
from vdesktop_core.transport.mmio import MmioSlot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.testing import DriverQueue
    from vdesktop_core.testing.conformance.program import Record

ARCH = host_arch() or Arch.X86_64
REQUESTS = 64
#: KVM's counters of exits by what guest code does, not by the host's own interrupts.
OF_ACCESSES = {
    Arch.X86_64: ("insn_emulation", "io_exits", "mmio_exits", "hypercalls"),
    Arch.AARCH64: ("mmio_exit_kernel", "mmio_exit_user", "hvc_exit_stat"),
    Arch.RISCV64: ("mmio_exit_kernel", "mmio_exit_user"),
}
#: Those of them that enter the process.
TO_PROCESS = {Arch.X86_64: ("mmio_exits", "io_exits")}.get(ARCH, ("mmio_exit_user",))


class Slot:
    """A slot's registers, for the part of a driver that runs here."""

    def __init__(self, io: int) -> None:
        self._io = ffi.cast("struct vd_io *", io)

    def read(self, offset: int, width: int) -> int:
        return int(self._io.read(self._io.opaque, offset, width))

    def write(self, offset: int, width: int, value: int) -> None:
        self._io.write(self._io.opaque, offset, width, value)


class Entropy:
    """A guest with an entropy device. Its driver polls; its requests are there, but not yet available."""

    def __init__(self, guest: Guest, stack: contextlib.ExitStack) -> None:
        self.guest = guest
        self.slot = guest.map.slot(1).base
        host = stack.enter_context(contextlib.closing(Host()))
        memory = stack.enter_context(GuestMemory(host.native))
        memory.add(guest.base, guest.ram)
        thread = stack.enter_context(contextlib.closing(IoThread(host.native, "data path")))
        places = [ffi.cast("void *", place.native) for place in (host, memory)]
        loop = ffi.cast("struct vd_loop *", thread.native)
        device = lib.vd_rng_new(*places, b"rng", ffi.new("struct vd_rng_options *"), loop, ffi.new("int *"))
        stack.callback(lib.vd_rng_free, device)
        slot = stack.enter_context(
            contextlib.closing(MmioSlot(host.native, 1, guest.vm.irq_line(guest.line)))
        )
        guest.vm.add_mmio(self.slot, 0x1000, slot.io)
        slot.attach(int(ffi.cast("uintptr_t", device)))
        stack.callback(slot.detach)
        doorbells = Doorbells(guest.vm)
        doorbells.add(slot, self.slot)
        stack.callback(doorbells.remove, slot)
        stack.callback(guest.vm.stop)
        self.driver = MockDriver(Slot(slot.io), Arena(memory, guest.data, 0x10_0000))
        self.driver.start(sizes={0: REQUESTS})
        self.queue: DriverQueue = self.driver.queues[0]
        self.queue.want_interrupt(wanted=False)
        for _ in range(REQUESTS):
            self.queue.add([Buffer(self.driver.arena.allocate(64), 64, write=True)])
        memory.write(self.queue.driver + 2, bytes(2))  # none is available until the guest says so

    def available(self, count: int) -> Record:
        """The guest lets the device see so many requests."""
        return write(self.queue.driver + 2, count, 2)

    def kick(self) -> Record:
        """The guest writes QueueNotify."""
        return write(self.slot + Reg.QUEUE_NOTIFY, 0, 4)

    def served(self, count: int) -> Record:
        """The guest polls the used ring: flags 0, its index, and the first element's id, 0."""
        return until(self.queue.device, count << 16)

    def cost(self, records: list[Record]) -> dict[str, int]:
        """Run a list, and return how often its accesses left the guest."""
        guest = self.guest
        gate = guest.data - 8
        # The first access to a page of no memory is told apart from a page to come: an exit more.
        # At its end the list counts, as a halt may be emulated, too.
        guest.start([self.kick(), until(gate, 1), *records, count(gate - 8)])
        guest.reached(0)
        guest.vm.pause()  # a vCPU in its guest answers no ioctl
        with KernelStats() as kernel:
            guest.vm.resume()
            before = kernel.read()
            guest.poke(gate, 1)
            guest.reached(len(records) + 1)
            after = kernel.read()
        return {name: after[name] - before[name] for name in OF_ACCESSES[ARCH]}


@pytest.fixture
def entropy() -> Iterator[Entropy]:
    with Guest(KvmHypervisor(), ARCH) as guest, contextlib.ExitStack() as stack:
        yield Entropy(guest, stack)


def test_request_costs_its_doorbell_and_does_not_reach_the_process(entropy: Entropy) -> None:
    records = [
        record
        for done in range(1, REQUESTS + 1)
        for record in (entropy.available(done), entropy.kick(), entropy.served(done))
    ]
    cost = entropy.cost(records)
    assert len(entropy.queue.take_used()) == REQUESTS
    assert sum(cost.values()) <= REQUESTS, cost
    assert [cost[name] for name in TO_PROCESS] == [0] * len(TO_PROCESS)


def test_requests_without_notification_cost_nothing(entropy: Entropy) -> None:
    records = [entropy.available(done) for done in range(1, REQUESTS + 1)]
    cost = entropy.cost([*records, entropy.kick(), entropy.served(REQUESTS)])
    assert len(entropy.queue.take_used()) == REQUESTS
    assert sum(cost.values()) <= 1, cost
    assert entropy.guest.vm.counters()["exits_mmio"] == 0
