# SPDX-License-Identifier: MIT
"""The gpu and drivers that lie about sizes, ids and addresses. Afterwards it serves an honest one."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
from gpu_rig import (
    ATTACH,
    BAD_PARAMETER,
    BAD_RESOURCE,
    BAD_SCANOUT,
    CONTROL,
    CREATE_2D,
    CREATE_BLOB,
    CURSOR,
    FREE,
    GET_DISPLAY_INFO,
    GET_EDID,
    MOVE_CURSOR,
    NO_MEMORY,
    OK,
    RAM,
    RAM_SIZE,
    SET_SCANOUT_BLOB,
    UNSPEC,
    UPDATE_CURSOR,
    Gpu,
    picture,
)

from vdesktop_core._native import lib
from vdesktop_core.testing import Buffer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    gpu = Gpu(memory=4)
    gpu.start()
    yield gpu
    assert not gpu.needs_reset_now(), "the device gave up"
    honest(gpu)
    gpu.free()


@pytest.fixture
def broken() -> Iterator[Gpu]:
    """For what ends in NEEDS_RESET; the reset heals."""
    gpu = Gpu(memory=4)
    gpu.start()
    yield gpu
    assert gpu.needs_reset()
    assert gpu.device.counters() is not None
    gpu.start()
    honest(gpu)
    gpu.free()


def honest(gpu: Gpu) -> None:
    """An honest driver still gets its picture."""
    data = picture(16, 16)
    gpu.memory.write(FREE, data)
    gpu.unref(900)
    assert gpu.create(900, 16, 16) == OK
    assert gpu.attach_backing(900, [(FREE, 1024)]) == OK
    assert gpu.transfer(900, (0, 0, 16, 16)) == OK
    assert gpu.set_scanout(900, (0, 0, 16, 16)) == OK
    viewing = gpu.gpu.screen.scanouts[0].view()
    shown = viewing.take().surface
    assert shown is not None
    assert bytes(shown.view) == data
    shown.close()
    viewing.close()


@pytest.mark.parametrize("scanout", [1, 15, 16, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_scanout_id_out_of_range_is_refused(gpu: Gpu, scanout: int) -> None:
    assert gpu.create(1, 64, 64) == OK
    assert gpu.create_blob(2, 16384, [(FREE, 16384)]) == OK
    assert gpu.set_scanout(1, (0, 0, 64, 64), scanout=scanout) == BAD_SCANOUT
    assert gpu.set_scanout(0, (0, 0, 0, 0), scanout=scanout) == BAD_SCANOUT
    assert gpu.set_scanout_blob(2, (0, 0, 64, 64), (64, 64), scanout=scanout) == BAD_SCANOUT
    assert gpu.ask(GET_EDID, struct.pack("<II", scanout, 0)) == BAD_SCANOUT
    for kind in (UPDATE_CURSOR, MOVE_CURSOR):
        gpu.cursor(kind, 1, scanout=scanout)


@pytest.mark.parametrize(
    ("width", "height"),
    [(0, 1), (1, 0), (16385, 1), (0x4000_0001, 4), (0x8000_0000, 2), (0xFFFF_FFFF, 0xFFFF_FFFF), (1, 16385)],
)
def test_size_that_overflows_is_refused(gpu: Gpu, width: int, height: int) -> None:
    assert gpu.create(1, width, height) == BAD_PARAMETER
    assert gpu.transfer(1, (0, 0, 1, 1)) == BAD_RESOURCE


def test_memory_asked_for_without_bound_is_refused(gpu: Gpu) -> None:
    assert gpu.create(1, 16384, 16384) == NO_MEMORY
    made = [gpu.create(resource, 256, 256) for resource in range(1, 40)]
    assert made[:16] == [OK] * 16
    assert set(made[16:]) == {NO_MEMORY}
    assert gpu.counter("memory_bytes") <= 4 << 20
    for resource in range(1, 17):
        assert gpu.unref(resource) == OK
    assert gpu.counter("memory_bytes") == 0


def test_resources_without_bound_are_refused() -> None:
    gpu = Gpu(memory=64)
    gpu.start()
    made = [gpu.create(resource + 1, 1, 1) for resource in range(lib.VD_GPU_HOST_RESOURCES_MAX + 1)]
    assert made == [OK] * lib.VD_GPU_HOST_RESOURCES_MAX + [NO_MEMORY]
    rest = lib.VD_GPU_RESOURCES_MAX - lib.VD_GPU_HOST_RESOURCES_MAX
    blobs = [gpu.create_blob(10_000 + resource, 64, [(FREE, 64)]) for resource in range(rest + 1)]
    assert blobs == [OK] * rest + [NO_MEMORY]
    gpu.driver.reset()
    gpu.start()
    honest(gpu)
    gpu.free()


def test_memory_of_backing_lists_is_counted(gpu: Gpu) -> None:
    """Otherwise small resources with long lists would take what they like."""
    entries = [(FREE + 16 * i, 16) for i in range(4000)]
    made = [gpu.create_blob(resource, 16 * 4000, entries) for resource in range(1, 60)]
    assert OK in made
    assert NO_MEMORY in made
    assert gpu.counter("memory_bytes") <= 4 << 20
    gpu.driver.reset()
    gpu.start()
    assert gpu.counter("memory_bytes") == 0


def test_backing_smaller_than_the_resource_is_refused_at_the_transfer(gpu: Gpu) -> None:
    assert gpu.create(1, 64, 64) == OK
    assert gpu.transfer(1, (0, 0, 64, 64)) == UNSPEC
    assert gpu.attach_backing(1, [(FREE, 64 * 64 * 4 - 1)]) == OK
    assert gpu.transfer(1, (0, 0, 64, 64)) == BAD_PARAMETER
    assert gpu.transfer(1, (0, 0, 64, 63)) == OK
    for offset in (64 * 4, 1 << 32, (1 << 64) - 1, (1 << 64) - 64 * 63 * 4):
        assert gpu.transfer(1, (0, 0, 64, 63), offset) == BAD_PARAMETER, offset


@pytest.mark.parametrize(
    "entry",
    [
        (0, 4096),
        (0xFEB0_0000, 4096),
        (RAM + RAM_SIZE - 4095, 4096),
        (RAM + RAM_SIZE, 1),
        (FREE, 0),
        (FREE, 0xFFFF_FFFF),
        ((1 << 64) - 1, 4096),
        ((1 << 64) - 4096, 4096),
    ],
)
def test_backing_outside_of_memory_is_refused(gpu: Gpu, entry: tuple[int, int]) -> None:
    assert gpu.create(1, 8, 8) == OK
    before = gpu.counter("memory_bytes")
    assert gpu.attach_backing(1, [(FREE, 64), entry]) == BAD_PARAMETER
    assert gpu.create_blob(2, 4096, [entry]) == BAD_PARAMETER
    assert gpu.counter("memory_bytes") == before
    assert gpu.transfer(1, (0, 0, 8, 8)) == UNSPEC


@pytest.mark.parametrize("count", [0, 3, 16385, 0x1000_0000, 0x1000_0001, 0xFFFF_FFFF])
def test_backing_count_that_the_command_has_not_is_refused(gpu: Gpu, count: int) -> None:
    """16 x 0x10000000 is 0 in 32 bits."""
    assert gpu.create(1, 8, 8) == OK
    assert gpu.attach_backing(1, [(FREE, 64), (FREE, 64)], count) == BAD_PARAMETER
    body = struct.pack("<IIIIQQ", 2, 1, 0, count, 0, 128) + struct.pack("<QII", FREE, 64, 0)
    if count:
        assert gpu.ask(CREATE_BLOB, body) == BAD_PARAMETER


def test_blob_larger_than_its_memory_is_refused(gpu: Gpu) -> None:
    assert gpu.create_blob(1, 4097, [(FREE, 4096)]) == BAD_PARAMETER
    assert gpu.create_blob(1, (1 << 64) - 1, [(FREE, 4096)]) == BAD_PARAMETER
    assert gpu.create_blob(1, 0, [(FREE, 4096)]) == BAD_PARAMETER
    for memory in (0, 2, 3, 0xFFFF_FFFF):
        assert gpu.create_blob(1, 4096, [(FREE, 4096)], memory) == BAD_PARAMETER


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((64, 64), 255, 0),
        ((64, 64), 256, 1),
        ((64, 65), 256, 0),
        ((64, 64), 0xFFFF_FFFF, 0),
        ((64, 2), 256, 0xFFFF_FFFF),
        ((0, 64), 256, 0),
        ((64, 0), 256, 0),
        ((0x4000_0001, 1), 4, 0),
        ((0xFFFF_FFFF, 0xFFFF_FFFF), 0, 0),
    ],
)
def test_blob_framebuffer_outside_of_the_blob_is_refused(
    gpu: Gpu, size: tuple[int, int], stride: int, offset: int
) -> None:
    assert gpu.create_blob(1, 64 * 64 * 4, [(FREE, 64 * 64 * 4)]) == OK
    assert gpu.set_scanout_blob(1, (0, 0, 1, 1), size, stride=stride, offset=offset) == BAD_PARAMETER


@pytest.mark.parametrize("rect", [(0, 0, 65, 1), (64, 0, 1, 1), (1, 1, 0xFFFF_FFFF, 1), (0, 0, 0, 0)])
def test_blob_rectangle_outside_of_the_framebuffer_is_refused(
    gpu: Gpu, rect: tuple[int, int, int, int]
) -> None:
    assert gpu.create_blob(1, 64 * 64 * 4, [(FREE, 64 * 64 * 4)]) == OK
    assert gpu.set_scanout_blob(1, rect, (64, 64)) == BAD_PARAMETER


def test_blob_flush_of_any_rectangle_stays_inside(gpu: Gpu) -> None:
    data = picture(32, 32)
    gpu.memory.write(FREE, data)
    assert gpu.create_blob(1, len(data), [(FREE, len(data))]) == OK
    assert gpu.set_scanout_blob(1, (4, 4, 20, 20), (32, 32)) == OK
    source = random.Random(7)
    for _ in range(200):
        rect = tuple(source.choice([0, 1, 5, 31, 33, 0x7FFF_FFFF, 0xFFFF_FFFF]) for _ in range(4))
        assert gpu.flush(1, rect) == OK  # type: ignore[arg-type]


def test_shown_blob_without_backing_keeps_its_picture(gpu: Gpu) -> None:
    data = picture(16, 16)
    gpu.memory.write(FREE, data)
    assert gpu.create_blob(1, 1024, [(FREE, 1024)]) == OK
    assert gpu.set_scanout_blob(1, (0, 0, 16, 16), (16, 16)) == OK
    assert gpu.detach(1) == OK
    assert gpu.flush(1, (0, 0, 16, 16)) == OK
    assert gpu.attach_backing(1, [(FREE, 8)]) == OK
    assert gpu.flush(1, (0, 0, 16, 16)) == OK


def test_resource_ids_unknown_or_taken_are_refused(gpu: Gpu) -> None:
    assert gpu.create(0, 8, 8) == BAD_RESOURCE
    assert gpu.create(5, 8, 8) == OK
    assert gpu.create(5, 8, 8) == BAD_RESOURCE
    assert gpu.create_blob(5, 64, [(FREE, 64)]) == BAD_RESOURCE
    for unknown in (0, 6, 5 + 256, 0xFFFF_FFFF):
        assert gpu.unref(unknown) == BAD_RESOURCE
        assert gpu.attach_backing(unknown, [(FREE, 64)]) == BAD_RESOURCE
        assert gpu.detach(unknown) == BAD_RESOURCE
        assert gpu.transfer(unknown, (0, 0, 1, 1)) == BAD_RESOURCE
        assert gpu.flush(unknown, (0, 0, 1, 1)) == BAD_RESOURCE
    assert gpu.set_scanout(6, (0, 0, 1, 1)) == BAD_RESOURCE


def test_backing_attached_twice_or_detached_twice_is_refused(gpu: Gpu) -> None:
    assert gpu.create(1, 8, 8) == OK
    assert gpu.detach(1) == UNSPEC
    assert gpu.attach_backing(1, [(FREE, 256)]) == OK
    assert gpu.attach_backing(1, [(FREE, 256)]) == UNSPEC
    assert gpu.detach(1) == OK
    assert gpu.transfer(1, (0, 0, 8, 8)) == UNSPEC


def test_unref_of_what_is_shown_and_pointed_with_leaves_nothing_behind(gpu: Gpu) -> None:
    gpu.shown(1, 64, 64)
    gpu.cursor(UPDATE_CURSOR, 1)
    assert gpu.unref(1) == OK
    assert gpu.flush(1, (0, 0, 64, 64)) == BAD_RESOURCE
    gpu.cursor(MOVE_CURSOR, 1, (3, 3))
    gpu.cursor(UPDATE_CURSOR, 1)
    assert gpu.create(1, 8, 8) == OK
    assert gpu.flush(1, (0, 0, 8, 8)) == OK


def test_cursor_of_another_size_or_with_a_far_hot_spot_is_not_shown(gpu: Gpu) -> None:
    viewing = gpu.gpu.screen.scanouts[0].view()
    for resource, (width, height) in enumerate([(63, 64), (64, 65), (1, 1), (128, 128)], start=1):
        assert gpu.create(resource, width, height, 1) == OK
        gpu.cursor(UPDATE_CURSOR, resource)
    assert gpu.create(5, 64, 64, 1) == OK
    for hot in ((64, 0), (0, 64), (0xFFFF_FFFF, 0)):
        gpu.cursor(UPDATE_CURSOR, 5, hot=hot)
    assert gpu.create_blob(6, 64, [(FREE, 64)]) == OK
    gpu.cursor(UPDATE_CURSOR, 6)
    assert viewing.cursor().pixels == b""
    viewing.close()


def test_commands_unknown_or_on_the_wrong_queue_are_refused(gpu: Gpu) -> None:
    for kind in (0, 0xFF, 0x10E, 0x200, 0x207, 0x300, 0x301, OK, UNSPEC, 0xFFFF_FFFF):
        assert gpu.ask(kind, bytes(64)) == UNSPEC
    wrong = struct.pack("<IIQIB3x", GET_DISPLAY_INFO, 0, 0, 0, 0)
    assert struct.unpack_from("<I", gpu.raw(wrong, queue=CURSOR))[0] == UNSPEC


@pytest.mark.parametrize("kind", [*range(CREATE_2D, ATTACH + 2), *range(GET_EDID, SET_SCANOUT_BLOB + 1)])
def test_command_truncated_is_refused(gpu: Gpu, kind: int) -> None:
    for size in range(8):
        assert gpu.ask(kind, bytes(size)) == BAD_PARAMETER


def test_reply_that_does_not_fit_is_an_error_in_the_room_there_is(gpu: Gpu) -> None:
    assert gpu.command(GET_DISPLAY_INFO, room=24 + 383) == (UNSPEC, b"")
    kind, body = gpu.command(GET_DISPLAY_INFO, room=24 + 384)
    assert (kind, len(body)) == (0x1101, 384)


@pytest.mark.parametrize("size", [1, 23])
def test_command_without_a_whole_header_needs_reset(broken: Gpu, size: int) -> None:
    at = broken.arena.allocate(4096)
    broken.driver.queues[CONTROL].add([Buffer(at, size), Buffer(at + 64, 64, write=True)])
    broken.driver.kick(CONTROL)


@pytest.mark.parametrize("room", [0, 1, 23])
def test_command_without_room_for_a_reply_needs_reset(broken: Gpu, room: int) -> None:
    at = broken.arena.allocate(4096)
    reply = [Buffer(at + 64, room, write=True)] if room else []
    broken.driver.queues[CONTROL].add([Buffer(at, 24), *reply])
    broken.driver.kick(CONTROL)


def test_random_commands_leave_the_device_usable(gpu: Gpu) -> None:
    source = random.Random(1234)
    numbers = [0, 1, 2, 3, 8, 64, 4096, FREE & 0xFFFF_FFFF, 0x7FFF_FFFF, 0xFFFF_FFFF]
    for _ in range(1500):
        kind = source.choice([*range(0x100, 0x10E), 0x300, 0x301])
        body = struct.pack("<24I", *(source.choice(numbers) for _ in range(24)))
        gpu.raw(
            struct.pack("<IIQIB3x", kind, source.randrange(4), 1, 0, 0) + body, 1100, source.choice([0, 1])
        )
        gpu.arena.rewind()
    for resource in numbers:
        gpu.unref(resource)
    assert gpu.set_scanout(0, (0, 0, 0, 0)) == OK
    assert gpu.counter("memory_bytes") <= 4 << 20
