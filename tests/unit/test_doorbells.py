# SPDX-License-Identifier: MIT
"""Doorbells follow the devices that are attached."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from vdesktop_core._native import ffi, lib
from vdesktop_core.doorbells import Doorbells
from vdesktop_core.host import Host
from vdesktop_core.iothread import IoThread
from vdesktop_core.memory import GuestMemory
from vdesktop_core.transport.mmio import QUEUE_NOTIFY, MmioSlot

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = 0xD000_1000


class Vm:
    """What doorbells use of a virtual machine: takes ``room`` of them."""

    def __init__(self, room: int = 64) -> None:
        self.room = room
        self.asked = 0
        self.bells: list[tuple[int, int, int | None, int]] = []

    def add_doorbell(self, address: int, width: int, value: int | None, fd: int) -> bool:
        self.asked += 1
        if len(self.bells) == self.room:
            return False
        self.bells.append((address, width, value, fd))
        return True

    def remove_doorbell(self, address: int, width: int, value: int | None, fd: int) -> None:
        self.bells.remove((address, width, value, fd))


class Slot:
    """A slot with an entropy device, which has one queue, in it."""

    def __init__(self) -> None:
        self.host = Host()
        self.memory = GuestMemory(self.host.native)
        self.thread = IoThread(self.host.native, "test")
        self.slot = MmioSlot(self.host.native, 1)
        options = ffi.new("struct vd_rng_options *")
        host, memory = (ffi.cast("void *", place.native) for place in (self.host, self.memory))
        loop = ffi.cast("struct vd_loop *", self.thread.native)
        self.rng: Any = lib.vd_rng_new(host, memory, b"rng", options, loop, ffi.new("int *"))
        self.slot.attach(int(ffi.cast("uintptr_t", lib.vd_rng_device(self.rng))))

    def close(self) -> None:
        self.slot.close()
        lib.vd_rng_free(self.rng)
        self.thread.close()
        self.memory.close()
        self.host.close()


@pytest.fixture
def slot() -> Iterator[MmioSlot]:
    with closing(Slot()) as whole:
        yield whole.slot


def test_doorbells_of_an_attached_device_are_added_and_removed(slot: MmioSlot) -> None:
    vm = Vm()
    bells = Doorbells(vm)  # type: ignore[arg-type]
    bells.add(slot, BASE)
    [(address, width, value, fd)] = vm.bells
    assert (address, width, value) == (BASE + QUEUE_NOTIFY, 4, 0)
    os.eventfd_write(fd, 1)  # before DRIVER_OK: borne
    bells.remove(slot)
    bells.remove(slot)
    assert vm.bells == []


def test_doorbells_follow_a_device_that_is_plugged_again(slot: MmioSlot) -> None:
    vm = Vm()
    bells = Doorbells(vm)  # type: ignore[arg-type]
    for _ in range(3):
        bells.add(slot, BASE)
        assert len(vm.bells) == 1
        bells.remove(slot)
    assert vm.asked == 3


def test_doorbells_of_an_empty_slot_are_none(slot: MmioSlot) -> None:
    slot.detach()
    vm = Vm()
    Doorbells(vm).add(slot, BASE)  # type: ignore[arg-type]
    assert vm.asked == 0


def test_backend_without_doorbells_is_asked_once(slot: MmioSlot) -> None:
    vm = Vm(room=0)
    bells = Doorbells(vm)  # type: ignore[arg-type]
    for _ in range(3):
        bells.add(slot, BASE)
        bells.remove(slot)
    assert vm.asked == 1
