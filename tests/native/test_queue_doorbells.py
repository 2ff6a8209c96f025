# SPDX-License-Identifier: MIT
"""Kicks by eventfd (``vd_device_ops.doorbell``), as a backend's ioeventfd gives them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from blk_rig import IN, file_disk
from split_driver import FREE, Rig, wait_for

from vdesktop_core._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def doorbell(rig: Rig, queue: int = 0) -> int:
    return int(lib.vd_mmio_doorbell(rig.mmio, queue))


@pytest.fixture
def rng() -> Iterator[Rig]:
    """An entropy device, which is a plane, in a slot."""
    rig = Rig()
    loop = ffi.cast("struct vd_loop *", rig.thread.native)
    host, memory = (ffi.cast("void *", place.native) for place in (rig.host, rig.memory))
    options = ffi.new("struct vd_rng_options *")
    device: Any = lib.vd_rng_new(host, memory, b"rng", options, loop, ffi.new("int *"))
    rig.attach(int(ffi.cast("uintptr_t", lib.vd_rng_device(device))))
    yield rig
    rig.close()
    lib.vd_rng_free(device)
    rig.free()


def test_doorbell_of_a_plane_serves_its_queue(rng: Rig) -> None:
    bell = doorbell(rng)
    assert bell >= 0
    assert doorbell(rng) == bell, "one descriptor a queue"
    rng.negotiate(size=64)
    for _ in range(3):
        rng.add([], [(FREE, 64)])
        os.eventfd_write(bell, 1)
        assert rng.wait_used()[1] == 64
    assert rng.device.n_kicks == 0


def test_doorbell_and_register_kick_the_same_queue(rng: Rig) -> None:
    bell = doorbell(rng)
    rng.negotiate(size=64)
    for turn in range(60):
        rng.add([], [(FREE, 8)])
        if turn % 2:
            rng.kick()
        else:
            os.eventfd_write(bell, 1)
    wait_for(lambda: rng.used_index() == 60, "60 used buffers")


def test_doorbell_at_any_time_of_a_device_is_borne(rng: Rig) -> None:
    bell = doorbell(rng)
    os.eventfd_write(bell, 1)
    for _ in range(20):
        rng.negotiate(size=64)
        rng.add([], [(FREE, 16)])
        os.eventfd_write(bell, 7)
        rng.write(0x70, 0)
        os.eventfd_write(bell, 1)
    rng.negotiate(size=64)
    rng.add([], [(FREE, 16)])
    os.eventfd_write(bell, 1)
    assert rng.wait_used()[1] == 16
    assert rng.device.n_protocol_errors == 0


def test_doorbell_before_driver_ok_is_not_lost(rng: Rig) -> None:
    bell = doorbell(rng)
    rng.negotiate(size=64)
    rng.write(0x70, 0)
    for value in (1, 3, 11):
        if value == 11:
            rng.write(0x24, 1)
            rng.write(0x20, 1)  # VERSION_1
        rng.write(0x70, value)
    rng.queues = [rng.queue(0, 64)]
    rng.add([], [(FREE, 16)])
    os.eventfd_write(bell, 1)
    rng.write(0x70, 15)
    assert rng.wait_used()[1] == 16


def test_doorbell_of_each_disk_queue_serves_it(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(range(256)) * 16)
    with file_disk(image, queues=2) as disk:
        bells = [doorbell(disk.rig, queue) for queue in range(2)]
        assert len(set(bells)) == 2
        disk.start()
        for queue, bell in enumerate(bells):
            at = disk.prepare(IN, 1)
            disk.rig.add([(at, 16)], [(at + 0x1000, 512), (at + 0x800, 1)], index=queue)
            os.eventfd_write(bell, 1)
            assert disk.rig.wait_used(queue)[1] == 513
            assert disk.data(512) == bytes(range(256)) * 2


def test_doorbell_of_no_queue_and_of_an_empty_slot_is_none(rng: Rig) -> None:
    assert lib.vd_mmio_queues(rng.mmio) == 1
    assert doorbell(rng, 1) == doorbell(rng, 0xFFFF) == -1
    rng.close()
    assert lib.vd_mmio_queues(rng.mmio) == 0
    assert doorbell(rng) == -1
