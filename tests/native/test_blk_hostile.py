# SPDX-License-Identifier: MIT
"""What a hostile driver sends to a disk: no byte outside the disk or the chain is touched, nothing hangs."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from blk_rig import (
    DISCARD,
    IN,
    IOERR,
    OK,
    OUT,
    UNTOUCHED,
    WRITE_ZEROES,
    Disk,
    StubStore,
    file_disk,
    stub_disk,
)
from split_driver import FREE, NEEDS_RESET, RAM, RAM_SIZE, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECTORS = 2048


@pytest.fixture(params=[0, 64 << 10], ids=["loop", "inline"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    image = tmp_path / "disk.img"
    image.write_bytes(content := os.urandom(SECTORS * 512))
    with file_disk(image, inline_bytes=request.param) as disk:
        disk.start()
        yield disk
    assert image.read_bytes() == content, "a refused request changed the disk"


def needs_reset(disk: Disk) -> None:
    wait_for(lambda: disk.rig.status & NEEDS_RESET, "NEEDS_RESET")
    assert disk.rig.device.n_protocol_errors == 1


def works_after_reset(disk: Disk) -> None:
    disk.start()
    assert disk.request(IN, 0, into=512) == OK


@pytest.mark.parametrize(
    "sector", [SECTORS, SECTORS + 1, 1 << 32, 1 << 55, (1 << 55) - 1, (1 << 64) - 1, (1 << 64) - 8]
)
@pytest.mark.parametrize("kind", [IN, OUT])
def test_transfer_past_the_end_is_an_io_error(disk: Disk, kind: int, sector: int) -> None:
    if kind == OUT:
        assert disk.request(OUT, sector, b"x" * 4096) == IOERR
    else:
        assert disk.request(IN, sector, into=4096) == IOERR
        assert disk.data(4096) == bytes(4096)
    assert disk.counters.errors == 1


@pytest.mark.parametrize("kind", [IN, OUT])
def test_transfer_across_the_end_is_an_io_error(disk: Disk, kind: int) -> None:
    if kind == OUT:
        assert disk.request(OUT, SECTORS - 1, b"x" * 1024) == IOERR
    else:
        assert disk.request(IN, SECTORS - 1, into=1024) == IOERR
    assert disk.request(IN, SECTORS - 1, into=512) == OK


@pytest.mark.parametrize("size", [1, 511, 513])
def test_transfer_of_part_of_a_sector_is_an_io_error(disk: Disk, size: int) -> None:
    assert disk.request(IN, 0, into=size) == IOERR
    assert disk.request(OUT, 0, b"x" * size) == IOERR


@pytest.mark.parametrize("kind", [DISCARD, WRITE_ZEROES])
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(15),
        bytes(17),
        struct.pack("<QII", SECTORS, 1, 0),
        struct.pack("<QII", SECTORS - 1, 2, 0),
        struct.pack("<QII", (1 << 64) - 1, 2, 0),
        struct.pack("<QII", 1 << 55, 1, 0),
        struct.pack("<QII", 0, 0xFFFF_FFFF, 0),
        struct.pack("<QII", 0, 1, 0) * 65,
        struct.pack("<QII", 0, 1, 0) + struct.pack("<QII", SECTORS, 1, 0),
    ],
    ids=["none", "short", "odd", "behind", "across", "wrap", "bytes-wrap", "huge", "many", "second-bad"],
)
def test_bad_ranges_are_io_errors_and_change_nothing(disk: Disk, kind: int, payload: bytes) -> None:
    assert disk.request(kind, data=payload) == IOERR


def test_ranges_without_sectors_do_nothing(disk: Disk) -> None:
    assert disk.request(DISCARD, data=struct.pack("<QII", SECTORS, 0, 0)) == OK


@pytest.mark.parametrize("length", [1, 8, 15])
def test_short_header_breaks_the_protocol(disk: Disk, length: int) -> None:
    disk.prepare(OUT, 0)
    disk.rig.add([(FREE, length)], [(FREE + 0x800, 1)])
    disk.rig.kick()
    needs_reset(disk)
    assert disk.status() == UNTOUCHED
    works_after_reset(disk)


def test_no_header_breaks_the_protocol(disk: Disk) -> None:
    disk.rig.add([], [(FREE, 513)])
    disk.rig.kick()
    needs_reset(disk)
    works_after_reset(disk)


def test_no_status_byte_breaks_the_protocol(disk: Disk) -> None:
    disk.prepare(OUT, 0, b"x" * 512)
    disk.rig.add([(FREE, 16), (FREE + 0x1000, 512)], [])
    disk.rig.kick()
    needs_reset(disk)
    works_after_reset(disk)


def test_broken_queue_stays_broken_until_reset(disk: Disk) -> None:
    disk.rig.add([(FREE, 3)], [(FREE + 0x800, 1)])
    disk.rig.kick()
    needs_reset(disk)
    while disk.rig.poll_used():
        pass
    disk.submit(IN, 0, into=512)
    assert disk.counters.reads == 0
    assert disk.rig.poll_used() is None
    works_after_reset(disk)


def test_memory_outside_ram_breaks_the_ring(disk: Disk) -> None:
    disk.prepare(IN, 0)
    disk.rig.add([(FREE, 16)], [(RAM + RAM_SIZE - 256, 512), (FREE + 0x800, 1)])
    disk.rig.kick()
    needs_reset(disk)
    works_after_reset(disk)


def test_huge_read_goes_through_in_one_chain(tmp_path: Path) -> None:
    """32 MiB in one descriptor: a worker's, while the ring goes on."""
    image = tmp_path / "big.img"
    image.write_bytes(bytes(32 << 20))
    with file_disk(image, inline_bytes=64 << 10) as disk:
        disk.start()
        assert disk.request(IN, 0, into=32 << 20) == OK
        assert disk.counters.deferred == 1


def test_header_that_changes_after_the_kick_is_read_once() -> None:
    """The store waits; the guest turns its read into a write and moves the sector meanwhile."""
    store = StubStore()

    def rewrite(_op: str, _offset: int) -> int:
        disk.rig.memory.write(FREE, struct.pack("<IIQ", OUT, 0, 1 << 60))
        return 0

    store.volatile[:512] = b"A" * 512
    with stub_disk(store) as disk:
        store.before = rewrite
        disk.start()
        assert disk.request(IN, 0, into=512) == OK
        assert disk.data(512) == b"A" * 512
        store.before = lambda _op, _offset: 0
    assert ("read", 0) in store.calls
    assert not any(call[0] == "write" for call in store.calls)


def test_full_ring_of_hostile_chains_is_answered_whole(disk: Disk) -> None:
    """64 refused requests in one kick: every head comes back."""
    heads = set()
    for i in range(60):
        at = FREE + 0x2000 * i
        disk.rig.memory.write(at, struct.pack("<IIQ", IN, 0, (1 << 64) - 1 - i))
        heads.add(disk.rig.add([(at, 16)], [(at + 0x1000, 513)]))
    disk.rig.kick()
    assert {disk.rig.wait_used()[0] for _ in range(60)} == heads
    assert disk.counters.errors == 60
