# SPDX-License-Identifier: MIT
"""virtio-blk requests (virtio 1.4 §5.2.6), each against a real file."""

from __future__ import annotations

import itertools
import os
import struct
from typing import TYPE_CHECKING

import pytest
from blk_rig import (
    DISCARD,
    F_CONFIG_WCE,
    F_DISCARD,
    F_FLUSH,
    F_MQ,
    F_RO,
    F_WRITE_ZEROES,
    FLUSH,
    GET_ID,
    IN,
    IOERR,
    OK,
    OUT,
    SERIAL,
    UNSUPP,
    WRITE_ZEROES,
    Disk,
    StubStore,
    file_disk,
    stub_disk,
)
from split_driver import FREE

from vdesktop_core._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture(params=[0, 64 << 10], ids=["loop", "inline"])
def disk(image: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A disk that is served on its loop, and one that is served on the kicking thread."""
    with file_disk(image, inline_bytes=request.param) as disk:
        disk.start()
        yield disk


def ranges(*parts: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("<QII", *part) for part in parts)


@pytest.mark.parametrize("size", [512, 4096, 128 << 10, 512 << 10])
def test_read_of_any_size_gives_the_file(disk: Disk, image: Path, size: int) -> None:
    assert disk.read(7, size) == image.read_bytes()[7 * 512 :][:size]


@pytest.mark.parametrize("size", [512, 4096, 512 << 10])
def test_write_then_read_gives_it_back(disk: Disk, image: Path, size: int) -> None:
    data = os.urandom(size)
    assert disk.request(OUT, 9, data) == OK
    assert disk.read(9, size) == data
    assert image.read_bytes()[9 * 512 :][:size] == data


def test_request_without_data_succeeds(disk: Disk) -> None:
    assert disk.request(IN, 0) == OK
    assert disk.request(OUT, 0) == OK


def test_get_id_gives_the_serial(disk: Disk) -> None:
    assert disk.request(GET_ID, into=20) == OK
    assert disk.data(20) == SERIAL


def test_get_id_into_a_short_or_long_buffer_stays_inside(disk: Disk) -> None:
    assert disk.request(GET_ID, into=5) == OK
    assert disk.data(6) == SERIAL[:5] + b"\0"
    assert disk.request(GET_ID, into=64) == OK
    assert disk.data(64) == SERIAL.ljust(64, b"\0")


def test_flush_succeeds(disk: Disk) -> None:
    assert disk.request(FLUSH) == OK
    assert disk.counters.flushes == 1


def test_unknown_type_is_unsupported(disk: Disk) -> None:
    assert disk.request(0x7FFF_FFFF, data=b"x" * 16, into=32) == UNSUPP
    assert disk.data(32) == bytes(32), "what counts as written was written"
    assert disk.counters.unsupported == 1


def test_discard_punches_a_hole(disk: Disk, image: Path) -> None:
    before = image.stat().st_blocks
    assert disk.request(DISCARD, data=ranges((64, 512, 0), (1024, 256, 0))) == OK
    assert disk.read(64, 512 * 512) == bytes(512 * 512)
    assert disk.read(0, 64 * 512) == image.read_bytes()[: 64 * 512] != bytes(64 * 512)
    assert image.stat().st_blocks < before


@pytest.mark.parametrize("unmap", [0, 1])
def test_write_zeroes_reads_back_as_zeroes(disk: Disk, image: Path, unmap: int) -> None:
    around = image.read_bytes()
    assert disk.request(WRITE_ZEROES, data=ranges((3, 101, unmap))) == OK
    assert image.read_bytes() == around[: 3 * 512] + bytes(101 * 512) + around[104 * 512 :]


def test_write_zeroes_with_unmap_frees_space_and_without_keeps_it(disk: Disk, image: Path) -> None:
    full = image.stat().st_blocks
    assert disk.request(WRITE_ZEROES, data=ranges((0, 1024, 0))) == OK
    assert image.stat().st_blocks == full
    assert disk.request(WRITE_ZEROES, data=ranges((0, 1024, 1))) == OK
    assert image.stat().st_blocks < full


def test_discard_with_flags_is_unsupported(disk: Disk, image: Path) -> None:
    before = image.read_bytes()
    assert disk.request(DISCARD, data=ranges((0, 8, 0), (8, 8, 1))) == UNSUPP
    assert disk.request(WRITE_ZEROES, data=ranges((0, 8, 2))) == UNSUPP
    assert image.read_bytes() == before


def test_discard_not_negotiated_is_unsupported(image: Path) -> None:
    with file_disk(image) as disk:
        disk.start(F_FLUSH)
        assert disk.request(DISCARD, data=ranges((0, 8, 0))) == UNSUPP
        assert disk.request(WRITE_ZEROES, data=ranges((0, 8, 0))) == UNSUPP


def test_read_only_disk_refuses_every_change(image: Path) -> None:
    before = image.read_bytes()
    with file_disk(image, read_only=True) as disk:
        offered = disk.rig.offered()
        assert offered & F_RO
        assert not offered & (F_CONFIG_WCE | F_DISCARD | F_WRITE_ZEROES)
        disk.start()
        assert disk.request(OUT, 0, bytes(512)) == IOERR
        assert disk.request(DISCARD, data=ranges((0, 8, 0))) == IOERR
        assert disk.request(WRITE_ZEROES, data=ranges((0, 8, 0))) == IOERR
        assert disk.read(0, 512) == before[:512]
        assert disk.request(FLUSH) == OK
    assert image.read_bytes() == before


# Framing: none may be assumed (§2.7.4)


def split(at: int, size: int, *cuts: int) -> list[tuple[int, int]]:
    edges = [0, *cuts, size]
    return [(at + a, b - a) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    "cuts",
    [(), (1,), (15,), (16,), (17,), (3, 9), (16, 16 + 100, 16 + 612), (8, 700, 1039)],
    ids=str,
)
def test_write_in_any_framing_is_the_same(disk: Disk, cuts: tuple[int, ...]) -> None:
    data = os.urandom(1024)
    memory = disk.rig.memory
    memory.write(FREE, struct.pack("<IIQ", OUT, 0, 40) + data)
    memory.write(FREE + 0x800, b"\xee")
    disk.rig.add(split(FREE, 16 + 1024, *cuts), [(FREE + 0x800, 1)])
    disk.rig.kick()
    assert disk.rig.wait_used()[1] == 1
    assert disk.status() == OK
    assert disk.read(40, 1024) == data


@pytest.mark.parametrize("cuts", [(), (1,), (511, 512), (512,), (1024,), (3, 1023)], ids=str)
def test_read_in_any_framing_is_the_same(disk: Disk, image: Path, cuts: tuple[int, ...]) -> None:
    """Status and data share descriptors, or cut each other anywhere."""
    at = FREE + 0x1001
    disk.prepare(IN, 11)
    disk.rig.memory.write(at, b"\xee" * 1025)
    disk.rig.add(split(FREE, 16, 5), split(at, 1025, *cuts))
    disk.rig.kick()
    assert disk.rig.wait_used()[1] == 1025
    assert disk.rig.memory.read(at, 1025) == image.read_bytes()[11 * 512 :][:1024] + bytes([OK])


def test_direct_mode_with_unaligned_memory_still_works(image: Path) -> None:
    with file_disk(image, direct=True) as disk:
        disk.start()
        data = os.urandom(1024)
        at = FREE + 0x1003
        disk.prepare(OUT, 8)
        disk.rig.memory.write(at, data)
        disk.rig.add([(FREE, 16), (at, 1024)], [(FREE + 0x800, 1)])
        disk.rig.kick()
        disk.rig.wait_used()
        assert disk.status() == OK
        assert disk.read(8, 4096) == data + image.read_bytes()[10 * 512 : 16 * 512]
        aligned = os.urandom(8192)
        assert disk.request(OUT, 8, aligned) == OK
        assert disk.read(8, 8192) == aligned


# Configuration space and cache mode


def field(disk: Disk, name: str) -> int:
    n = ffi.new("uint32_t *")
    layout = lib.vd_blk_config_layout(n)
    for i in range(n[0]):
        if ffi.string(layout[i].name).decode() == name:
            return disk.rig.config(layout[i].offset, layout[i].width)
    raise KeyError(name)


def test_config_space_says_what_the_store_is(image: Path) -> None:
    with file_disk(image, queues=3, block_size=4096) as disk:
        assert disk.rig.offered() & F_MQ
        assert field(disk, "capacity") == SIZE // 512
        assert field(disk, "seg_max") == 126
        assert field(disk, "blk_size") == 4096
        assert field(disk, "num_queues") == 3
        assert field(disk, "writeback") == 1
        assert field(disk, "max_discard_sectors") > 0
        assert field(disk, "write_zeroes_may_unmap") == 1


def test_config_layout_is_that_of_the_kernel_header() -> None:
    """Offsets of Linux' struct virtio_blk_config, as its fields follow from each other."""
    n = ffi.new("uint32_t *")
    layout = lib.vd_blk_config_layout(n)
    found = {ffi.string(layout[i].name).decode(): (layout[i].offset, layout[i].width) for i in range(n[0])}
    assert found["capacity"] == (0, 8)
    assert found["blk_size"] == (20, 4)
    assert found["opt_io_size"] == (28, 4)
    assert found["writeback"] == (32, 1)
    assert found["num_queues"] == (34, 2)
    assert found["max_discard_sectors"] == (36, 4)
    assert found["write_zeroes_may_unmap"] == (56, 1)
    ends = [offset + width for offset, width in found.values()]
    assert all(begin >= end for (begin, _), end in zip(list(found.values())[1:], ends, strict=False))


def test_write_back_defers_and_write_through_flushes_each_write() -> None:
    store = StubStore()
    with stub_disk(store) as disk:
        disk.start()
        assert disk.request(OUT, 0, b"a" * 512) == OK
        assert ("flush",) not in store.calls
        disk.rig.write(0x100 + 32, 0, 1)
        assert store.stable[:1] == b"a", "the change itself makes earlier writes stable"
        assert disk.request(OUT, 1, b"b" * 512) == OK
        assert store.stable[512:513] == b"b"
        disk.rig.write(0x100 + 32, 1, 1)
        assert disk.request(OUT, 2, b"c" * 512) == OK
        assert store.stable[1024:1025] == b"\0"


def test_reset_returns_to_write_back() -> None:
    with stub_disk(StubStore()) as disk:
        disk.start()
        disk.rig.write(0x100 + 32, 0, 1)
        assert field(disk, "writeback") == 0
        disk.rig.write(0x70, 0)
        assert field(disk, "writeback") == 1


def test_driver_without_flush_gets_write_through() -> None:
    store = StubStore()
    with stub_disk(store) as disk:
        disk.start(0)
        assert disk.request(OUT, 0, b"a" * 512) == OK
        assert store.stable[:1] == b"a"


def test_write_through_disk_offers_no_choice() -> None:
    store = StubStore()
    with stub_disk(store, write_through=True) as disk:
        assert not disk.rig.offered() & F_CONFIG_WCE
        disk.start()
        assert disk.request(OUT, 0, b"a" * 512) == OK
        assert store.stable[:1] == b"a"


def test_disk_without_discard_does_not_offer_it(image: Path) -> None:
    with file_disk(image, no_discard=True) as disk:
        assert not disk.rig.offered() & F_DISCARD
        assert field(disk, "write_zeroes_may_unmap") == 0


def test_queues_are_served_independently(image: Path) -> None:
    with file_disk(image, queues=4) as disk:
        disk.start()
        for i in range(4):
            disk.submit(IN, i, into=512, i=i, index=i)
        for i in range(4):
            disk.rig.wait_used(i)
            assert disk.data(512, i) == image.read_bytes()[i * 512 :][:512]
        assert disk.counters.reads == 4
