# SPDX-License-Identifier: MIT
"""Hardware that changes while the guest uses it: CPUs that stop and start, slots that come and go."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from vdesktop_core._native import ffi, lib
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import Capability, ExitReason
from vdesktop_core.iothread import IoThread
from vdesktop_core.memory import GuestMemory
from vdesktop_core.testing.conformance.base import PATTERN, Base
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import count, read, until, write
from vdesktop_core.transport.mmio import MmioSlot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.hypervisor import Hypervisor

_DEVICE_ID, _NOTIFY = 0x008, 0x050
_RNG_ID = 4
_FOR_EVER = 1 << 40
_ROUNDS = 30


class _Entropy:
    """A slot, and an entropy device that comes into it and goes."""

    def __init__(self, guest: Guest, address: int) -> None:
        with contextlib.ExitStack() as stack:
            self._host = stack.enter_context(contextlib.closing(Host()))
            memory = stack.enter_context(GuestMemory(self._host.native))
            thread = stack.enter_context(contextlib.closing(IoThread(self._host.native, "conformance")))
            host, mem = (ffi.cast("void *", place.native) for place in (self._host, memory))
            loop = ffi.cast("struct vd_loop *", thread.native)
            options = ffi.new("struct vd_rng_options *")
            self._rng = lib.vd_rng_new(host, mem, b"rng", options, loop, ffi.new("int *"))
            stack.callback(lib.vd_rng_free, self._rng)
            self.slot = stack.enter_context(
                contextlib.closing(MmioSlot(self._host.native, 1, guest.vm.irq_line(guest.line)))
            )
            guest.vm.add_mmio(address, 0x1000, self.slot.io)
            stack.callback(guest.vm.remove_mmio, address)
            stack.callback(guest.vm.stop)
            self._stack = stack.pop_all()

    def plug(self) -> None:
        self.slot.attach(int(ffi.cast("uintptr_t", lib.vd_rng_device(self._rng))))

    def unplug(self) -> None:
        assert self.slot.detach()

    def close(self) -> None:
        self._stack.close()


class ChangeConformance(Base):
    """What hot-plug needs of a backend."""

    @pytest.fixture
    def entropy(self, guest: Guest, slot: int) -> Iterator[_Entropy]:
        """A slot of the guest, which is empty."""
        made = _Entropy(guest, slot)
        yield made
        made.close()

    @pytest.fixture
    def pair(self, backend: Hypervisor) -> Iterator[Guest]:
        """A machine with two CPUs."""
        if Capability.SMP not in backend.probe().capabilities:
            pytest.skip("the backend runs one CPU only")
        with Guest(backend, self.arch, 2) as guest:
            yield guest

    def test_slot_is_filled_and_emptied_while_the_guest_reads_it(
        self, guest: Guest, slot: int, entropy: _Entropy
    ) -> None:
        part = guest.part
        gates = [guest.data + 8 * turn for turn in range(2 * _ROUNDS)]
        looks = [record for gate in gates for record in (until(gate, 1), read(slot + _DEVICE_ID, 4))]
        guest.start([*looks, *part.power_off(guest.platform)])
        for turn, gate in enumerate(gates):
            change = entropy.unplug if turn % 2 else entropy.plug
            change()
            guest.poke(gate, 1)
            guest.reached(2 * turn + 1)
        assert guest.ended().reason is ExitReason.SHUTDOWN
        seen = [guest.result(2 * turn + 1) for turn in range(2 * _ROUNDS)]
        assert seen == [_RNG_ID, 0] * _ROUNDS

    @pytest.mark.parametrize("offset", [_DEVICE_ID, _NOTIFY], ids=["reads", "kicks"])
    def test_slot_changes_under_accesses_without_end(
        self, guest: Guest, slot: int, entropy: _Entropy, offset: int
    ) -> None:
        if offset == _NOTIFY:
            hammer = write(slot + offset, 0, 4, times=_FOR_EVER)
        else:
            hammer = read(slot + offset, 4, times=_FOR_EVER)
        guest.start([write(guest.data, PATTERN), hammer])
        guest.reached(0)
        for turn in range(_ROUNDS):
            entropy.plug()
            if turn % 3 == 1:
                guest.vm.pause()
            entropy.unplug()
            if turn % 3 == 1:
                guest.vm.resume()
        guest.vm.stop()
        assert not guest.events

    def test_slot_keeps_its_device_over_a_machine_reset(
        self, guest: Guest, slot: int, entropy: _Entropy
    ) -> None:
        guest.start([count(guest.data)])
        entropy.plug()
        guest.vm.stop()
        entropy.slot.reset()
        guest.vm.reset()
        assert guest.run([read(slot + _DEVICE_ID, 4)]).reason is ExitReason.SHUTDOWN
        assert guest.result(0) == _RNG_ID

    def test_cpu_stops_itself_and_is_started_again(self, pair: Guest) -> None:
        part, platform = pair.part, pair.platform
        start = part.start_cpu(platform, 1, pair.records(1))
        attempts, rounds = 100, 5
        gate = pair.data
        # A start that comes before the CPU has stopped is refused: try again.
        tries = [record for number in range(attempts) for record in (until(gate, number + 1), *start)]
        pair.start([*tries, *part.power_off(platform)])
        attempt = 0
        for number in range(rounds):
            mark = pair.data + 64 + 8 * number
            pair.load([write(mark, PATTERN), *part.stop_cpu(platform)], cpu=1)
            started = False
            while not started:
                assert attempt < attempts, f"CPU 1 was not started in round {number}"
                attempt += 1
                pair.poke(gate, attempt)
                last = attempt * (1 + len(start)) - 1
                pair.reached(last)
                started = part.was_started(pair.result(last))
            pair.until(lambda mark=mark: pair.peek(mark) == PATTERN, "CPU 1 did not run")  # type: ignore[misc]
        pair.vm.stop()
